//! How long clones of several frames may wait in their ring for room on one way.
//!
//! What lies behind one that waits waits too, whichever monitor it is for. So the wait ends by itself, and after one that was
//! in vain nobody waits for that way until such a clone has found room on it.

/// Breaths that may be waited in a row: some milliseconds, of a shard that has nothing else to do. Frames that another shard
/// sends are back in some hundred microseconds.
const MOST: u32 = 1 << 13;

/// See the module's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(u32);

impl Default for Patience {
    /// All of it.
    fn default() -> Self {
        Patience(MOST)
    }
}

impl Patience {
    /// Whether to wait for another breath.
    pub(super) fn lasts(&mut self) -> bool {
        let lasts = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        lasts
    }

    /// A clone of several frames has found room.
    #[inline]
    pub(super) fn renew(&mut self) {
        self.0 = MOST;
    }
}

/// Room for clones' frames, on one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// For so many now.
    pub(super) now: u32,
    /// For so many when those that are on their way are back.
    pub(super) later: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_and_is_renewed() {
        let mut patience = Patience::default();
        for _ in 0..2 {
            assert_eq!((0..2 * MOST).filter(|_| patience.lasts()).count(), MOST as usize);
            patience.renew();
        }
        assert!(patience.lasts());
    }
}
