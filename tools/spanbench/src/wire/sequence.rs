//! Which frames of a run arrived, how often, and in which order.

use serde::Serialize;

/// What became of the frames looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Frames looked for.
    pub expected: u64,
    /// Of them, those that never came.
    pub lost: u64,
    /// Arrivals of a frame that had come before.
    pub duplicated: u64,
    /// First arrivals of a frame after one with a higher number (RFC 4737).
    pub reordered: u64,
    /// Arrivals of frames that were not sent in this run.
    pub stray: u64,
}

impl Verdict {
    /// Whether every frame came once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Verdict { expected: self.expected, ..Verdict::default() }
    }
}

/// Follows the numbers that arrive.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// The first number looked for.
    first: u64,
    /// Only multiples of it are looked for.
    every: u64,
    /// One bit for each number looked for.
    seen: Vec<u64>,
    arrived: u64,
    /// Index after the highest that arrived.
    next: u64,
    duplicated: u64,
    reordered: u64,
    stray: u64,
}

impl Sequence {
    /// Looks for the multiples of `every` from `start` on.
    pub(crate) fn new(start: u64, every: u32) -> Sequence {
        let every = u64::from(every.max(1));
        Sequence {
            first: start.next_multiple_of(every),
            every,
            seen: Vec::new(),
            arrived: 0,
            next: 0,
            duplicated: 0,
            reordered: 0,
            stray: 0,
        }
    }

    /// A frame arrived. `false` where it was none that is looked for, or had come before.
    pub(crate) fn arrive(&mut self, number: u64) -> bool {
        let Some(offset) = number.checked_sub(self.first).filter(|offset| offset.is_multiple_of(self.every)) else {
            self.stray += 1;
            return false;
        };
        let index = offset / self.every;
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        // A number far beyond all others was never sent: no memory for it.
        if word >= self.seen.len() + (1 << 20) {
            self.stray += 1;
            return false;
        }
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.arrived += 1;
        self.reordered += u64::from(index < self.next);
        self.next = self.next.max(index + 1);
        true
    }

    /// What became of the frames, `end` being the number after the last that was sent.
    pub(crate) fn finish(mut self, end: u64) -> Verdict {
        let expected = end.saturating_sub(self.first).div_ceil(self.every);
        if self.next > expected {
            let beyond = (expected..self.next).filter(|index| self.has(*index)).count() as u64;
            self.arrived -= beyond;
            self.stray += beyond;
        }
        Verdict {
            expected,
            lost: expected.saturating_sub(self.arrived),
            duplicated: self.duplicated,
            reordered: self.reordered,
            stray: self.stray,
        }
    }

    fn has(&self, index: u64) -> bool {
        self.seen.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(start: u64, every: u32, arrivals: &[u64], end: u64) -> Verdict {
        let mut sequence = Sequence::new(start, every);
        for &number in arrivals {
            sequence.arrive(number);
        }
        sequence.finish(end)
    }

    #[test]
    fn every_frame_once_and_in_order_is_clean() {
        let all: Vec<u64> = (1000..3000).collect();
        let verdict = verdict(1000, 1, &all, 3000);
        assert!(verdict.is_clean());
        assert_eq!(verdict.expected, 2000);
    }

    #[test]
    fn a_loss_a_swap_and_a_duplicate_are_each_found() {
        let found = verdict(0, 1, &[0, 1, 3, 4], 5);
        assert_eq!(found, Verdict { expected: 5, lost: 1, ..Verdict::default() });
        let found = verdict(0, 1, &[0, 2, 1, 3], 4);
        assert_eq!(found, Verdict { expected: 4, reordered: 1, ..Verdict::default() });
        let found = verdict(0, 1, &[0, 1, 1, 2], 3);
        assert_eq!(found, Verdict { expected: 3, duplicated: 1, ..Verdict::default() });
    }

    #[test]
    fn a_loss_at_either_end_counts() {
        assert_eq!(verdict(10, 1, &[11, 12], 14).lost, 2);
        assert_eq!(verdict(10, 1, &[], 14).lost, 4);
        assert_eq!(verdict(10, 1, &[], 10), Verdict::default());
    }

    #[test]
    fn a_duplicate_does_not_make_up_for_a_loss() {
        let found = verdict(0, 1, &[0, 0, 2], 3);
        assert_eq!(found, Verdict { expected: 3, lost: 1, duplicated: 1, ..Verdict::default() });
    }

    #[test]
    fn a_late_duplicate_is_no_reordering() {
        let found = verdict(0, 1, &[0, 1, 2, 0], 3);
        assert_eq!(found, Verdict { expected: 3, duplicated: 1, ..Verdict::default() });
    }

    #[test]
    fn only_multiples_are_looked_for() {
        // 101..=131 sent: 104, 108, …, 128.
        let found = verdict(101, 4, &[104, 108, 112, 120, 116, 124, 125], 132);
        assert_eq!(found, Verdict { expected: 7, lost: 1, reordered: 1, stray: 1, ..Verdict::default() });
    }

    #[test]
    fn frames_of_other_runs_are_strays() {
        let found = verdict(100, 1, &[100, 99, 101, 102, 103, u64::MAX], 102);
        assert_eq!(found, Verdict { expected: 2, stray: 4, ..Verdict::default() });
    }
}
