//! Traffic for as long as it is wanted: numbered frames, each checked as it arrives, so that nothing of it has to be kept.
//!
//! ```text
//!  0      12     14          22            len
//!  ├ MACs ┼ type ┼ number, BE ┼ bytes by it ┤
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};
use crate::traffic::{MIN_FRAME, ON_THE_WAY};
use crate::wire_io::{Sent, WireIo};

/// Frames sent back to back.
const BURST: u64 = 64;
/// Lengths there are: 60 to 571 bytes.
const LENGTHS: u64 = 512;
/// For local experiments (IEEE 802).
const TYPE: [u8; 2] = [0x88, 0xb5];
/// Where the number is.
const NUMBER: usize = 14;
/// Between looks, and before a refused frame is offered again.
const RETRY: Duration = Duration::from_micros(50);
/// How long frames on the way are waited for before more are sent: then they are lost.
const LOST: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(20);

/// What crossed one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steady {
    /// Frames sent.
    pub sent: u64,
    /// Of them those that arrived when it was their turn.
    pub in_turn: u64,
    /// Frames that arrived at another time: again, or before or after others.
    pub out_of_turn: u64,
    /// Frames that are not what was sent.
    pub damaged: u64,
    /// Frames that the receiver itself lost.
    pub drops: u64,
    /// How long it was being sent.
    pub time: Duration,
}

impl Steady {
    /// Whether every frame arrived, once and in order.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.sent > 0 && self.sent == self.in_turn && (self.out_of_turn, self.damaged) == (0, 0)
    }

    /// Frames a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Sends from one interface to the other at `per_second` frames, or as many as there can be, until told to stop, and waits for
/// what is on the way. `sent` tells how many so far.
pub fn flow(
    from: &mut WireIo,
    to: &mut WireIo,
    per_second: u32,
    sent: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Steady> {
    let (got, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(to, &got, &done));
        let start = Instant::now();
        let sending = send(from, per_second, sent, &got, stop);
        let time = start.elapsed();
        let since = Instant::now();
        while sending.is_ok() && got.load(Relaxed) < sent.load(Relaxed) && since.elapsed() < LOST {
            thread::sleep(TICK);
        }
        done.store(true, Relaxed);
        let received = receiver.join().map_err(|_| LabError::Thread("receiver"))??;
        sending.map(|()| Steady { sent: sent.load(Relaxed), time, ..received })
    })
}

fn send(from: &mut WireIo, per_second: u32, sent: &AtomicU64, got: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let window = Duration::from_secs_f64(BURST as f64 / f64::from(per_second.max(1)));
    let (mut frame, mut number, mut next) = (Vec::new(), 0, Instant::now());
    let mut lost = 0;
    while !stop.load(Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let since = Instant::now();
        while number - lost > got.load(Relaxed) + ON_THE_WAY as u64 {
            if since.elapsed() > LOST {
                lost = number.saturating_sub(got.load(Relaxed));
            }
            thread::sleep(RETRY);
        }
        for _ in 0..BURST {
            build(number, &mut frame);
            while from.send(&frame)? == Sent::TryAgain {
                thread::sleep(RETRY);
            }
            number += 1;
        }
        sent.store(number, Relaxed);
        // What was missed meanwhile is caught up with, but for a moment's worth: no hiccup is to outrun the receiver.
        next = (next + window).max(Instant::now() - 4 * window);
    }
    Ok(())
}

fn receive(to: &mut WireIo, got: &AtomicU64, done: &AtomicBool) -> Result<Steady> {
    let (mut seen, mut due, mut wanted) = (Steady::default(), 0, Vec::new());
    loop {
        let last = done.load(Relaxed);
        let Some(frame) = to.recv(if last { Duration::ZERO } else { TICK })? else {
            if last {
                return Ok(Steady { drops: to.drops()?, ..seen });
            }
            continue;
        };
        got.fetch_add(1, Relaxed);
        match number_of(&frame) {
            Some(number) => {
                build(number, &mut wanted);
                seen.damaged += u64::from(frame != wanted);
                seen.in_turn += u64::from(number == due);
                seen.out_of_turn += u64::from(number != due);
                due = due.max(number + 1);
            }
            None => seen.damaged += 1,
        }
    }
}

/// The frame of this number.
fn build(number: u64, frame: &mut Vec<u8>) {
    let len = MIN_FRAME + (number.wrapping_mul(0x9e37_79b9) % LENGTHS) as usize;
    frame.clear();
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 0xbb, 0x02, 0, 0, 0, 0, 0xaa]);
    frame.extend_from_slice(&TYPE);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.resize(len, number.to_le_bytes()[0]);
}

fn number_of(frame: &[u8]) -> Option<u64> {
    let number = frame.get(NUMBER..)?.first_chunk()?;
    (frame[NUMBER - 2..NUMBER] == TYPE).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_number() {
        let (mut frame, mut other) = (Vec::new(), Vec::new());
        for number in [0, 1, 255, 70_000, u64::from(u32::MAX) + 7] {
            build(number, &mut frame);
            assert_eq!(number_of(&frame), Some(number));
            build(number + 1, &mut other);
            assert!(frame != other && (MIN_FRAME..MIN_FRAME + LENGTHS as usize).contains(&frame.len()));
        }
        assert_eq!((number_of(&[]), number_of(&frame[..20]), number_of(&[0; 60])), (None, None, None));
    }
}
