//! What a system's ledger says of its clones.

use std::fmt;
use std::ops::AddAssign;

use serde::{Serialize, Serializer};
use shm_layout::counters::Entry;

/// A ledger of clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Clones {
    /// Frames selected.
    pub selected: u64,
    /// Of their clones, those that were dropped, for any reason.
    pub dropped: u64,
    /// Those by reason.
    pub dropped_by: Reasons,
}

impl AddAssign for Clones {
    fn add_assign(&mut self, more: Clones) {
        self.selected += more.selected;
        self.dropped += more.dropped;
        self.dropped_by.0.iter_mut().zip(more.dropped_by.0).for_each(|(sum, more)| *sum += more);
    }
}

/// Drops in the order of [`Entry::DROPS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasons([u64; Entry::DROPS.len()]);

impl Reasons {
    /// What each counter says.
    pub(crate) fn of(count: impl Fn(Entry) -> u64) -> Reasons {
        Reasons(Entry::DROPS.map(count))
    }

    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that there were, by the names of their counters.
    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Entry::DROPS.iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), count))
    }
}

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.named())
    }
}

/// `ring_full 12, no_frame 3`, the most frequent first; `-` for none.
impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named: Vec<_> = self.named().collect();
        named.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let words: Vec<_> = named
            .iter()
            .map(|(name, count)| format!("{} {count}", name.strip_prefix("mirror_drops_").unwrap_or(name)))
            .collect();
        f.write_str(if words.is_empty() { "-".to_owned() } else { words.join(", ") }.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_as_far_as_there_were_any() {
        let of = |no_frame, ring_full| {
            let dropped_by = Reasons::of(|reason| match reason {
                Entry::DropNoFrame => no_frame,
                Entry::DropRingFull => ring_full,
                _ => 0,
            });
            Clones { selected: 100, dropped: dropped_by.sum(), dropped_by }
        };
        let mut clones = of(3, 1);
        assert_eq!((clones.dropped, clones.dropped_by.to_string()), (4, "no_frame 3, ring_full 1".to_owned()));
        clones += of(0, 6);
        assert_eq!(clones.dropped_by.to_string(), "ring_full 7, no_frame 3");
        let told = serde_json::to_value(clones).unwrap();
        assert_eq!(told["dropped_by"], serde_json::json!({"mirror_drops_no_frame": 3, "mirror_drops_ring_full": 7}));
        assert_eq!(of(0, 0).dropped_by.to_string(), "-");
    }
}
