//! The clones of one direction: which are right, and what arrived.

use std::fmt;

use serde::Serialize;

use crate::verify::{Verdict, compare_in_order, selected_after};

/// What mirroring of one direction is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    /// 0 and 1: every frame; N: one in N, the first included.
    pub rate: u32,
    /// Frames the entry's sampler has seen before this exchange.
    pub seen: u64,
}

impl Mirror {
    /// A mirror entry whose sampler is fresh.
    pub fn new(rate: u32) -> Self {
        Self { rate, seen: 0 }
    }
}

/// The clones of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cloned {
    /// Whether they are as they must be.
    pub holds: bool,
    /// The rate expected; `None`: not mirrored.
    pub rate: Option<u32>,
    /// Fewest clones that are right.
    pub at_least: usize,
    /// Most clones that are right.
    pub at_most: usize,
    /// What arrived. With several samplers it is held against all frames sent, so `missing` counts the unsampled.
    pub verdict: Verdict,
}

/// The clones of one direction that are right.
pub(crate) struct Expected {
    rate: Option<u32>,
    /// The only clones that may appear, in this order.
    candidates: Vec<Vec<u8>>,
    pub(crate) at_least: usize,
    at_most: usize,
}

impl Expected {
    pub(crate) fn new(sent: &[Vec<u8>], mirror: Option<Mirror>, samplers: u32) -> Self {
        let Some(Mirror { rate, seen }) = mirror else {
            return Self { rate: None, candidates: Vec::new(), at_least: 0, at_most: 0 };
        };
        if samplers <= 1 || rate <= 1 {
            let candidates = selected_after(sent, rate, seen);
            let count = candidates.len();
            return Self { rate: Some(rate), candidates, at_least: count, at_most: count };
        }
        // How the frames divide over the samplers is not known here. One that sees n frames picks between ⌊n/rate⌋
        // and ⌈n/rate⌉ of them; a fresh one always ⌈n/rate⌉, and the sum of those is at least that of one sampler.
        let (samplers, step) = (to_usize(samplers), to_usize(rate));
        let slack = samplers.saturating_mul(step - 1);
        let at_least = match seen {
            0 => sent.len().div_ceil(step),
            _ => sent.len().saturating_sub(slack).div_ceil(step),
        };
        let at_most = (sent.len() + slack) / step;
        Self { rate: Some(rate), candidates: sent.to_vec(), at_least, at_most: at_most.min(sent.len()) }
    }

    pub(crate) fn check(&self, clones: &[Vec<u8>], in_order: bool) -> Cloned {
        let verdict = compare_in_order(&self.candidates, clones);
        let in_number = (self.at_least..=self.at_most).contains(&verdict.arrived);
        let in_order = !in_order || verdict.reordered == 0;
        let holds = in_number && in_order && verdict.is_subset();
        Cloned { holds, rate: self.rate, at_least: self.at_least, at_most: self.at_most, verdict }
    }
}

impl fmt::Display for Cloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", mark(self.holds))?;
        match self.rate {
            None if self.holds => return write!(f, "not mirrored, and none seen"),
            None => write!(f, "not mirrored: ")?,
            Some(0 | 1) => write!(f, "every frame: ")?,
            Some(rate) => write!(f, "1 in {rate}: ")?,
        }
        match self.at_least == self.at_most {
            true => write!(f, "{}", self.verdict),
            false if self.holds => {
                write!(f, "{} clones, {} to {} are right", self.verdict.arrived, self.at_least, self.at_most)
            }
            false => write!(f, "{} to {} are right; {}", self.at_least, self.at_most, self.verdict),
        }
    }
}

pub(crate) fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// How what holds and what does not begins.
pub(crate) fn mark(holds: bool) -> &'static str {
    if holds { "ok  " } else { "FAIL" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frames;
    use crate::verify::selected;

    #[test]
    fn one_sampler_must_pick_exactly_the_selected_frames() {
        let sent = frames(1, 100);
        let expected = Expected::new(&sent, Some(Mirror::new(7)), 1);
        assert_eq!((expected.at_least, expected.at_most), (15, 15));
        assert!(expected.check(&selected(&sent, 7), true).holds);
        assert!(!expected.check(&selected_after(&sent, 7, 1), true).holds);
        assert!(!expected.check(&[], true).holds);
    }

    #[test]
    fn without_a_mirror_a_single_clone_is_wrong() {
        let sent = frames(1, 10);
        let expected = Expected::new(&sent, None, 1);
        assert!(expected.check(&[], true).holds);
        assert!(!expected.check(&sent[..1], true).holds);
    }

    #[test]
    fn several_samplers_may_pick_what_any_division_of_the_frames_allows() {
        let sent = frames(1, 100);
        let expected = Expected::new(&sent, Some(Mirror::new(10)), 2);
        assert_eq!((expected.at_least, expected.at_most), (10, 11));
        // Every division of 100 frames over two fresh samplers lies in that range.
        for first in 0_usize..=100 {
            let picks = first.div_ceil(10) + (100 - first).div_ceil(10);
            assert!((10..=11).contains(&picks), "{first}: {picks}");
        }
        assert!(expected.check(&sent[..11], false).holds);
        assert!(!expected.check(&sent[..12], false).holds);
        let twice = [&sent[..5], &sent[..5]].concat();
        assert!(!expected.check(&twice, false).holds);
    }
}
