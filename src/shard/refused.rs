//! Completions of frames that the device refused, told apart from those of frames that were sent.

use std::ops::Range;

/// Which of the completions to come are of frames that the device refused. In copy mode the kernel completes such a frame
/// within the kick it answers with EBUSY: it is the newest of those that wait then.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u32,
    /// The last of them, counted from 1.
    last: u32,
}

impl Refused {
    /// One more, after whose kick `waiting` completions are there. Where there are none, it is the next that comes.
    pub(super) fn note(&mut self, waiting: u32) {
        self.count += 1;
        self.last = self.last.max(waiting).max(self.count);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// They, counted from 0.
    pub(super) fn places(&self) -> Range<u32> {
        self.last - self.count..self.last
    }

    /// So many completions have come.
    pub(super) fn pass(&mut self, completions: u32) {
        self.last = self.last.saturating_sub(completions);
        self.count = self.count.min(self.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_frame_is_the_newest_completion_after_its_kick() {
        let mut refused = Refused::default();
        assert!(refused.places().is_empty());
        refused.note(3);
        assert_eq!(refused.places(), 2..3);
        refused.pass(2);
        assert_eq!(refused.places(), 0..1);
        refused.pass(5);
        assert!(refused.places().is_empty());
        // Where none is to be seen it is the next that comes, and of several the last ones up to there.
        refused.note(0);
        assert_eq!(refused.places(), 0..1);
        refused.note(0);
        assert_eq!(refused.places(), 0..2);
        refused.note(5);
        assert_eq!(refused.places(), 2..5);
        refused.pass(4);
        assert_eq!(refused.places(), 0..1);
    }
}
