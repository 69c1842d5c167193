//! One experiment: frames both ways at once, captured at both hosts and the monitor, compared byte for byte.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde::Serialize;

pub use crate::clones::{Cloned, Mirror};
use crate::clones::{Expected, mark, to_usize};
use crate::error::{LabError, Result};
use crate::topology::Lab;
use crate::traffic::{
    Capture, Captured, Direction, FrameSpec, MAX_FRAME, MIN_FRAME, ON_THE_WAY, Pace, SendReport, Tag, settle,
};
use crate::verify::{Verdict, compare_in_order};

/// How often the observer of a running exchange is told.
const PROGRESS: Duration = Duration::from_millis(200);

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
    /// Samplers per mirror entry: one a shard, or a processor. With one, each side sends from one processor, and exactly the
    /// selected frames are asked for; with more, any frames in the number that many samplers can pick.
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
    let sender = |port| lab.sender(port).map(|sender| sender.on((spec.samplers <= 1).then_some(0)));
    let (mut a_sender, mut b_sender) = (sender(&wire.a)?, sender(&wire.b)?);
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
    let ends = [(&at_sink, a_frames.len()), (&at_gen, b_frames.len())];
    let clones = monitor.as_ref().map(|monitor| (monitor, a_clones.at_least + b_clones.at_least));
    settle(&ends.into_iter().chain(clones).collect::<Vec<_>>(), spec.idle);
    let (at_sink, at_gen) = (at_sink.stop()?, at_gen.stop()?);
    let monitor = monitor
        .map(Capture::stop)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::frames;
    use crate::verify::selected;

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
