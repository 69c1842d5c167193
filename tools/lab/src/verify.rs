//! What was sent against what arrived: byte for byte, in order, nothing more and nothing less.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::tag::Tag;

/// How an arrival differs from what was sent. All counts are frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Frames that should have arrived.
    pub expected: usize,
    /// Frames that arrived, whatever they were.
    pub arrived: usize,
    /// Expected, and neither they nor a corrupted form of them arrived.
    pub missing: usize,
    /// Most of them in a row: at a steady pace, how long nothing got through.
    pub longest_gap: usize,
    /// Arrived, and were never expected.
    pub extra: usize,
    /// Arrived after a frame that was sent later (the definition of RFC 4737).
    pub reordered: usize,
    /// Arrived with the tag of an expected frame and other bytes.
    pub corrupted: usize,
    /// Arrived again.
    pub duplicated: usize,
    /// The first finding, in words; a place to start looking.
    pub first: Option<String>,
}

impl Verdict {
    /// Exactly the expected frames, in the expected order.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.reordered == 0
    }

    /// Exactly the expected frames, in any order: all that can be asked of flows spread over several queues.
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.is_subset()
    }

    /// Nothing but expected frames, each at most once, in any order.
    pub fn is_subset(&self) -> bool {
        self.extra == 0 && self.corrupted == 0 && self.duplicated == 0
    }

    fn note(&mut self, finding: impl FnOnce() -> String) {
        self.first.get_or_insert_with(finding);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() {
            return write!(f, "{} of {} frames, exact and in order", self.arrived, self.expected);
        }
        write!(f, "{} arrived of {} expected", self.arrived, self.expected)?;
        let findings = [
            ("missing", self.missing),
            ("extra", self.extra),
            ("reordered", self.reordered),
            ("corrupted", self.corrupted),
            ("duplicated", self.duplicated),
        ];
        for (name, count) in findings.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        if (2..self.missing).contains(&self.longest_gap) {
            write!(f, ", {} missing in a row", self.longest_gap)?;
        }
        match &self.first {
            Some(first) => write!(f, "; first: {first}"),
            None => Ok(()),
        }
    }
}

/// Compares what arrived with what was sent.
///
/// Frames are identified by all their bytes, and only when that fails by their [`Tag`], so a flipped bit reads as one
/// corrupted frame and not as one missing and one extra. Identical frames in `sent` are told apart by their order.
pub fn compare_in_order(sent: &[Vec<u8>], got: &[Vec<u8>]) -> Verdict {
    let mut verdict = Verdict { expected: sent.len(), arrived: got.len(), ..Verdict::default() };
    // Positions are stored last first, so that pop() gives the earliest one not yet seen.
    let mut by_bytes: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(sent.len());
    let mut by_tag: HashMap<Tag, usize> = HashMap::with_capacity(sent.len());
    for (position, frame) in sent.iter().enumerate().rev() {
        by_bytes.entry(frame).or_default().push(position);
        if let Some(tag) = Tag::read(frame) {
            by_tag.insert(tag, position);
        }
    }

    let mut intact = vec![false; sent.len()];
    let mut damaged = vec![false; sent.len()];
    let mut latest: Option<usize> = None;
    for (arrival, frame) in got.iter().enumerate() {
        match by_bytes.get_mut(frame.as_slice()).map(Vec::pop) {
            Some(Some(position)) => {
                set(&mut intact, position);
                if latest.is_some_and(|latest| position < latest) {
                    verdict.reordered += 1;
                    verdict.note(|| format!("frame {position} arrived late, as arrival {arrival}"));
                }
                latest = latest.max(Some(position));
            }
            Some(None) => {
                verdict.duplicated += 1;
                verdict.note(|| format!("arrival {arrival} ({} bytes) is a duplicate", frame.len()));
            }
            None => match Tag::read(frame).and_then(|tag| by_tag.get(&tag)) {
                Some(&position) => {
                    set(&mut damaged, position);
                    verdict.corrupted += 1;
                    let original = sent.get(position).map(Vec::as_slice).unwrap_or_default();
                    verdict.note(|| format!("frame {position} is corrupted: {}", difference(original, frame)));
                }
                None => {
                    verdict.extra += 1;
                    verdict.note(|| format!("arrival {arrival} ({}) was never sent", head(frame)));
                }
            },
        }
    }

    let mut gap = 0;
    for (position, frame) in sent.iter().enumerate() {
        if is_set(&intact, position) || is_set(&damaged, position) {
            gap = 0;
        } else {
            gap += 1;
            verdict.missing += 1;
            verdict.longest_gap = verdict.longest_gap.max(gap);
            verdict.note(|| format!("frame {position} ({}) never arrived", head(frame)));
        }
    }
    verdict
}

/// The frames a fresh 1-in-`rate` sampler picks: every one for rates 0 and 1, frames 0, N, 2N, … for N.
pub fn selected(sent: &[Vec<u8>], rate: u32) -> Vec<Vec<u8>> {
    selected_after(sent, rate, 0)
}

/// As [`selected`], for a sampler that has already seen `seen` frames.
pub fn selected_after(sent: &[Vec<u8>], rate: u32, seen: u64) -> Vec<Vec<u8>> {
    let rate = u64::from(rate.max(1));
    (seen..).zip(sent).filter(|(position, _)| position % rate == 0).map(|(_, frame)| frame.clone()).collect()
}

fn set(flags: &mut [bool], position: usize) {
    if let Some(flag) = flags.get_mut(position) {
        *flag = true;
    }
}

fn is_set(flags: &[bool], position: usize) -> bool {
    flags.get(position).copied().unwrap_or_default()
}

fn difference(sent: &[u8], got: &[u8]) -> String {
    match sent.iter().zip(got).position(|(sent, got)| sent != got) {
        Some(at) if sent.len() == got.len() => format!("byte {at} of {}", sent.len()),
        Some(at) => format!("{} bytes sent, {} arrived, from byte {at} on", sent.len(), got.len()),
        None => format!("{} bytes sent, {} arrived", sent.len(), got.len()),
    }
}

/// Length and the first bytes, enough to recognise a stray protocol.
fn head(frame: &[u8]) -> String {
    let hex: String = frame.iter().take(18).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes, {hex}…", frame.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::frame::frames;

    /// Applies `change` to the arrival of 100 frames and returns what is found.
    fn after(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Verdict {
        let sent = frames(1, 100);
        let mut got = sent.clone();
        change(&mut got);
        compare_in_order(&sent, &got)
    }

    /// (missing, extra, reordered, corrupted, duplicated)
    fn counts(verdict: &Verdict) -> [usize; 5] {
        [verdict.missing, verdict.extra, verdict.reordered, verdict.corrupted, verdict.duplicated]
    }

    #[test]
    fn the_same_frames_are_exact() {
        let verdict = after(|_| {});
        assert!(verdict.is_exact());
        assert_eq!(verdict.to_string(), "100 of 100 frames, exact and in order");
        assert!(compare_in_order(&[], &[]).is_exact());
    }

    #[test]
    fn a_lost_frame_is_missing() {
        let verdict = after(|got| drop(got.remove(40)));
        assert_eq!(counts(&verdict), [1, 0, 0, 0, 0]);
        assert!(!verdict.is_complete() && verdict.is_subset());
        assert!(verdict.to_string().contains("1 missing; first: frame 40"), "{verdict}");
    }

    #[test]
    fn of_the_missing_those_in_a_row_are_counted() {
        let verdict = after(|got| {
            got.drain(60..65);
            got.drain(40..42);
        });
        assert_eq!((verdict.missing, verdict.longest_gap), (7, 5));
        assert!(verdict.to_string().contains("7 missing, 5 missing in a row; first: frame 40"), "{verdict}");
    }

    #[test]
    fn a_stranger_is_extra() {
        let verdict = after(|got| got.insert(3, vec![0xFF; 60]));
        assert_eq!(counts(&verdict), [0, 1, 0, 0, 0]);
        let other_run = frames(2, 1).remove(0);
        // Another seed's frame 0 has the tag of ours: that is a corruption, by all one can see.
        assert_eq!(counts(&after(|got| got.push(other_run))), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_late_frame_is_reordered_once() {
        let verdict = after(|got| {
            let early = got.remove(10);
            got.insert(20, early);
        });
        assert_eq!(counts(&verdict), [0, 0, 1, 0, 0]);
        assert!(verdict.is_complete() && !verdict.is_exact());
    }

    #[test]
    fn a_flipped_bit_is_a_corruption_and_nothing_else() {
        let verdict = after(|got| got[7][20] ^= 1);
        assert_eq!(counts(&verdict), [0, 0, 0, 1, 0]);
        assert!(verdict.to_string().contains("byte 20 of"), "{verdict}");
    }

    #[test]
    fn a_stripped_vlan_tag_is_a_corruption() {
        let verdict = after(|got| {
            let tagged = got.iter_mut().find(|frame| frame[12..14] == [0x81, 0x00]).unwrap();
            tagged.drain(12..16);
        });
        assert_eq!(counts(&verdict), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_truncated_frame_is_missing_and_extra() {
        assert_eq!(counts(&after(|got| got[9].truncate(40))), [1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_second_copy_is_duplicated() {
        let verdict = after(|got| got.insert(50, got[49].clone()));
        assert_eq!(counts(&verdict), [0, 0, 0, 0, 1]);
        // Late duplicates are no reordering.
        assert_eq!(counts(&after(|got| got.push(got[0].clone()))), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_damaged_copy_beside_the_intact_one_is_not_missing() {
        let verdict = after(|got| {
            let mut copy = got[5].clone();
            copy[15] ^= 1;
            got.insert(6, copy);
        });
        assert_eq!(counts(&verdict), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn identical_frames_are_told_apart_by_their_order() {
        let twice = vec![vec![1; 60], vec![2; 60], vec![1; 60]];
        assert!(compare_in_order(&twice, &twice).is_exact());
        let thrice = [twice.clone(), vec![vec![1; 60]]].concat();
        assert_eq!(counts(&compare_in_order(&twice, &thrice)), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_sampler_picks_every_nth_beginning_with_the_first() {
        let sent: Vec<Vec<u8>> = (0..10).map(|byte| vec![byte]).collect();
        let picks = |rate, seen| selected_after(&sent, rate, seen).concat();
        assert_eq!(selected(&sent, 0), sent);
        assert_eq!(selected(&sent, 1), sent);
        assert_eq!(selected(&sent, 4).concat(), [0, 4, 8]);
        assert_eq!(selected(&sent, 100).concat(), [0]);
        assert_eq!(picks(4, 10), [2, 6]);
        assert_eq!(picks(4, 8), [0, 4, 8]);
        assert!(selected(&[], 3).is_empty());
    }
}
