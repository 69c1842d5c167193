//! One experiment: frames both ways at once, captured at both hosts and the monitor, compared byte for byte.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::error::{LabError, Result};
use crate::topology::Lab;
use crate::traffic::{
    Capture, Captured, Direction, FrameSpec, MAX_FRAME, MIN_FRAME, ON_THE_WAY, Pace, SendReport, Tag,
};
use crate::verify::{Verdict, compare_in_order, selected_after};

/// How often the observer of a running exchange is told.
const PROGRESS: Duration = Duration::from_millis(200);

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

/// What to send and what to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Seed of the frames.
    pub seed: u64,
    /// Frames each way.
    pub frames: u32,
    /// Their lengths; see [`FrameSpec::lengths`].
    pub lengths: RangeInclusive<usize>,
    /// Index of the wire.
    pub wire: usize,
    /// Index of the monitor port; `None` leaves the monitors unwatched.
    pub monitor: Option<usize>,
    /// Mirroring of what enters port a; `None`: not one clone of it may appear.
    pub mirror_a: Option<Mirror>,
    /// Mirroring of what enters port b.
    pub mirror_b: Option<Mirror>,
    /// How fast each side sends.
    pub pace: Pace,
    /// Frames of each side that may be on the way when it sends a window more.
    pub on_the_way: usize,
    /// Silence after which a capture that still misses frames gives up.
    pub idle: Duration,
    /// Samplers per mirror entry: one a shard. With one, exactly the selected frames are asked for; with more, any
    /// frames in the number that many samplers can pick.
    pub samplers: u32,
    /// Ask for the order of sending, which flows spread over several queues do not keep.
    pub in_order: bool,
}

impl ExchangeSpec {
    /// An exchange of `frames` each way over the first wire, with the first monitor (if there is one) watched and
    /// nothing mirrored; order and sampling as the lab's number of queues allows.
    pub fn new(lab: &Lab, seed: u64, frames: u32) -> Self {
        let queues = lab.info().queues;
        Self {
            seed,
            frames,
            lengths: MIN_FRAME..=MAX_FRAME,
            wire: 0,
            monitor: (!lab.info().monitors.is_empty()).then_some(0),
            mirror_a: None,
            mirror_b: None,
            pace: Pace::default(),
            on_the_way: ON_THE_WAY,
            idle: Duration::from_secs(5),
            samplers: queues,
            in_order: queues == 1,
        }
    }
}

/// A running exchange, as counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Frames each way.
    pub frames: u32,
    /// Captured at `sink`.
    pub a_to_b: usize,
    /// Captured at `gen`.
    pub b_to_a: usize,
    /// Captured at the monitor.
    pub clones: usize,
}

/// One direction through the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forwarded {
    /// Whether it is as it must be.
    pub holds: bool,
    /// What the sender handed to the kernel.
    pub sent: usize,
    /// Times the sender met a full transmit path and offered a frame again.
    pub retries: usize,
    /// Frames lost by the capture itself.
    pub capture_drops: u64,
    /// What arrived.
    pub verdict: Verdict,
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

/// The monitor port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Monitored {
    /// Clones of what entered port a.
    pub mirror_a: Cloned,
    /// Clones of what entered port b.
    pub mirror_b: Cloned,
    /// Frames without a readable tag: of neither direction.
    pub strangers: usize,
    /// Frames lost by the capture itself.
    pub capture_drops: u64,
}

/// The outcome of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub holds: bool,
    /// Frames each way.
    pub frames: u32,
    /// Their seed.
    pub seed: u64,
    /// From `gen` to `sink`.
    pub a_to_b: Forwarded,
    /// From `sink` to `gen`.
    pub b_to_a: Forwarded,
    /// The monitor, when one is watched.
    pub monitor: Option<Monitored>,
}

/// Runs one exchange. `observe` is called a few times a second and once at the end of sending.
pub fn run(lab: &Lab, spec: &ExchangeSpec, mut observe: impl FnMut(Progress)) -> Result<Report> {
    let wire = lab.wire(spec.wire)?;
    let frames = FrameSpec { lengths: spec.lengths.clone(), ..FrameSpec::new(spec.seed, spec.frames) };
    let [a_frames, b_frames] = [Direction::AToB, Direction::BToA].map(|way| frames.clone().direction(way).build());

    // Senders first: a capture must not be left running when a sender cannot be opened.
    let (mut a_sender, mut b_sender) = (lab.sender(&wire.a)?, lab.sender(&wire.b)?);
    let monitor = spec.monitor.map(|index| lab.capture(lab.monitor(index)?)).transpose()?;
    let (at_sink, at_gen) = (lab.capture(&wire.b)?, lab.capture(&wire.a)?);

    let mut tell = || {
        observe(Progress {
            frames: spec.frames,
            a_to_b: at_sink.count(),
            b_to_a: at_gen.count(),
            clones: monitor.as_ref().map_or(0, Capture::count),
        });
    };
    // Both directions share the monitor; of its clones the fewest that are right are waited for.
    let (clones_of_a, clones_of_b) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let room = |sink: &Capture, clones: &AtomicUsize, mirror: Option<Mirror>, sent: usize| {
        let fewest = |mirror: Mirror| (sent / to_usize(mirror.rate.max(1))).saturating_sub(to_usize(spec.samplers));
        clones.store(mirror.map_or(0, fewest), Relaxed);
        let due = clones_of_a.load(Relaxed) + clones_of_b.load(Relaxed);
        sent <= sink.count().saturating_add(spec.on_the_way)
            && monitor.as_ref().is_none_or(|monitor| due < monitor.count() + ON_THE_WAY)
    };
    let (a_sent, b_sent) = thread::scope(|scope| {
        let a = scope.spawn(|| {
            a_sender.send_while(&a_frames, spec.pace, |sent| room(&at_sink, &clones_of_a, spec.mirror_a, sent))
        });
        let b = scope.spawn(|| {
            b_sender.send_while(&b_frames, spec.pace, |sent| room(&at_gen, &clones_of_b, spec.mirror_b, sent))
        });
        while !(a.is_finished() && b.is_finished()) {
            thread::park_timeout(PROGRESS.min(Duration::from_millis(20)));
            tell();
        }
        (a.join(), b.join())
    });
    let sent = |joined: thread::Result<Result<SendReport>>| joined.map_err(|_| LabError::Thread("sender"))?;
    let (a_sent, b_sent) = (sent(a_sent)?, sent(b_sent)?);

    let a_clones = Expected::new(&a_frames, spec.mirror_a, spec.samplers);
    let b_clones = Expected::new(&b_frames, spec.mirror_b, spec.samplers);
    let at_sink = at_sink.finish(a_frames.len(), spec.idle)?;
    let at_gen = at_gen.finish(b_frames.len(), spec.idle)?;
    let monitor = monitor
        .map(|capture| capture.finish(a_clones.at_least + b_clones.at_least, spec.idle))
        .transpose()?
        .map(|captured| monitored(captured, &a_clones, &b_clones, spec.in_order));

    let a_to_b = forwarded(&a_frames, a_sent, &at_sink, spec.in_order);
    let b_to_a = forwarded(&b_frames, b_sent, &at_gen, spec.in_order);
    let holds = a_to_b.holds && b_to_a.holds && monitor.as_ref().is_none_or(Monitored::holds);
    Ok(Report { holds, frames: spec.frames, seed: spec.seed, a_to_b, b_to_a, monitor })
}

fn forwarded(frames: &[Vec<u8>], sent: SendReport, captured: &Captured, in_order: bool) -> Forwarded {
    let verdict = compare_in_order(frames, &captured.frames);
    Forwarded {
        holds: if in_order { verdict.is_exact() } else { verdict.is_complete() },
        sent: sent.sent,
        retries: sent.retries,
        capture_drops: captured.drops,
        verdict,
    }
}

/// The clones of one direction that are right.
struct Expected {
    rate: Option<u32>,
    /// The only clones that may appear, in this order.
    candidates: Vec<Vec<u8>>,
    at_least: usize,
    at_most: usize,
}

impl Expected {
    fn new(sent: &[Vec<u8>], mirror: Option<Mirror>, samplers: u32) -> Self {
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

    fn check(&self, clones: &[Vec<u8>], in_order: bool) -> Cloned {
        let verdict = compare_in_order(&self.candidates, clones);
        let in_number = (self.at_least..=self.at_most).contains(&verdict.arrived);
        let in_order = !in_order || verdict.reordered == 0;
        let holds = in_number && in_order && verdict.is_subset();
        Cloned { holds, rate: self.rate, at_least: self.at_least, at_most: self.at_most, verdict }
    }
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn monitored(captured: Captured, a: &Expected, b: &Expected, in_order: bool) -> Monitored {
    // The two directions interleave at the monitor as they please; each must be right by itself.
    let (mut of_a, mut of_b, mut strangers) = (Vec::new(), Vec::new(), 0);
    for frame in captured.frames {
        match Tag::read(&frame).map(|tag| tag.direction) {
            Some(Direction::AToB) => of_a.push(frame),
            Some(Direction::BToA) => of_b.push(frame),
            None => strangers += 1,
        }
    }
    Monitored {
        mirror_a: a.check(&of_a, in_order),
        mirror_b: b.check(&of_b, in_order),
        strangers,
        capture_drops: captured.drops,
    }
}

impl Monitored {
    fn holds(&self) -> bool {
        self.mirror_a.holds && self.mirror_b.holds && self.strangers == 0
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", mark(self.holds), self.verdict)?;
        if self.capture_drops > 0 {
            write!(f, "; the capture itself lost {}", self.capture_drops)?;
        }
        Ok(())
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "forwarded a to b   {}", self.a_to_b)?;
        writeln!(f, "forwarded b to a   {}", self.b_to_a)?;
        if let Some(monitor) = &self.monitor {
            writeln!(f, "clones of a        {}", monitor.mirror_a)?;
            writeln!(f, "clones of b        {}", monitor.mirror_b)?;
            if monitor.strangers > 0 {
                writeln!(f, "on the monitor     {} {} frames of neither direction", mark(false), monitor.strangers)?;
            }
            if monitor.capture_drops > 0 {
                writeln!(f, "on the monitor     the capture itself lost {}", monitor.capture_drops)?;
            }
        }
        Ok(())
    }
}

fn mark(holds: bool) -> &'static str {
    if holds { "ok  " } else { "FAIL" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::frames;
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

    #[test]
    fn the_monitor_separates_the_directions_and_counts_strangers() {
        let a = frames(1, 20);
        let b = FrameSpec::new(1, 20).direction(Direction::BToA).build();
        let (of_a, of_b) = (Expected::new(&a, Some(Mirror::new(1)), 1), Expected::new(&b, Some(Mirror::new(5)), 1));
        let interleaved: Vec<Vec<u8>> = [a, selected(&b, 5)].concat();
        let captured = |frames| Captured { frames, drops: 0 };
        assert!(monitored(captured(interleaved.clone()), &of_a, &of_b, true).holds());
        let with_stranger = [interleaved, vec![vec![0; 60]]].concat();
        let monitored = monitored(captured(with_stranger), &of_a, &of_b, true);
        assert!(!monitored.holds() && monitored.strangers == 1);
    }
}
