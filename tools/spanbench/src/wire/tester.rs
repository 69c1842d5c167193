//! The tester: one pinned thread that sends at a rate and looks at what arrives.
//!
//! Sending and looking share the thread because a forwarder needs the other processor for itself. Nothing measured
//! depends on when the thread looks: counts and arrival times are taken by the sink's program.

use std::time::Duration;

use hdrhistogram::Histogram;
use spanwire::clock::monotonic_ns;
use spanwire::kernel::xdp::XdpMode;
use spanwire::xsk::Kick;
use spanwire::xsk::endpoint::Sender;
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, Role};

use super::error::{Result, WireError};
use super::probe;
use super::sequence::{Sequence, Verdict};
use super::sink::{Sink, Tally};
use crate::interrupt;

/// Frames given to the kernel at once.
const BATCH: u32 = 64;
/// A sender that is further behind than this does not catch up: a burst is not the rate that was asked for.
const SLIP: u64 = 4 * BATCH as u64;
/// The counts at full load are taken from this part of the time on.
const WARM_UP: u32 = 5;
/// Nothing arrived for this long: nothing more will.
const QUIET: Duration = Duration::from_millis(20);
/// Waiting for that ends in any case.
const SETTLE: Duration = Duration::from_secs(2);
/// The largest latency told apart, ns.
const LONGEST: u64 = 10_000_000_000;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Frames a second; `None`: as many as possible.
    pub rate: Option<f64>,
    /// For how long.
    pub duration: Duration,
    /// Look at 1 in so many frames; 0: only count.
    pub every: u32,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Frames sent towards the device under test.
    pub offered: u64,
    /// Of them, those its port refused at once (EBUSY). They count as lost.
    pub refused: u64,
    /// Frames at the sink.
    pub received: u64,
    /// Frames at the monitor.
    pub monitored: u64,
    /// Frames of anybody else, at either.
    pub foreign: u64,
    /// Frames a second that were offered.
    pub offered_pps: f64,
    /// Frames a second at the sink, while frames were being sent.
    pub sink_pps: f64,
    /// Frames a second at the monitor, likewise.
    pub monitor_pps: f64,
    /// Frames at the sink by processor.
    pub sink_cpus: Vec<u64>,
    /// Of the frames that were looked at.
    pub seen: Option<Seen>,
}

impl Outcome {
    /// Part of the offered frames that did not arrive; below 0 where more arrived.
    pub(crate) fn loss(&self) -> f64 {
        if self.offered == 0 { 0.0 } else { 1.0 - self.received as f64 / self.offered as f64 }
    }
}

/// Order and latency of the frames that were looked at.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which came, and how.
    pub verdict: Verdict,
    /// From writing the frame to its arrival, ns.
    pub latency: Histogram<u64>,
    /// Frames that arrived and that the sink's own socket had no room for. They look like losses.
    pub undelivered: u64,
}

/// Both ends of a lab's wire, and its monitor.
#[derive(Debug)]
pub(crate) struct Tester {
    cpu: usize,
    sender: Sender,
    sink: Sink,
    /// `None` once it is left to somebody else.
    monitor: Option<Sink>,
    /// Number of the next frame; never used twice.
    next: u64,
    /// Number of the run. Its frames bear it: what comes of an earlier one is not taken for this one's.
    trial: u32,
    /// Whether it has its processor before others.
    first: bool,
}

/// Of a tester that goes first: before everything but real-time threads.
const NICENESS: i32 = -20;

impl Tester {
    /// A tester of frames of `len` bytes, to run on `cpu`.
    ///
    /// # Errors
    /// [`WireError`].
    pub(crate) fn new(lab: &Lab, len: usize, mode: XdpMode, cpu: usize) -> Result<Tester> {
        let (wire, monitor) = (lab.wire(0)?, lab.monitor(0)?);
        let gen_ns: &Namespace = lab.ns(Role::Gen);
        Ok(Tester {
            cpu,
            sender: gen_ns.enter(|| Sender::open(wire.a.host_ifindex, 0, &probe::template(len)))??,
            sink: Sink::attach(lab.ns(Role::Sink), wire.b.host_ifindex, mode)?,
            monitor: Some(Sink::attach(lab.ns(Role::Mon), monitor.host_ifindex, mode)?),
            next: 0,
            trial: 0,
            first: false,
        })
    }

    /// Has it go before whatever else wants its processor.
    pub(crate) fn goes_first(&mut self) {
        self.first = true;
    }

    /// Frames at the monitor since this was made; 0 once it was left to somebody else.
    ///
    /// # Errors
    /// [`WireError::Bpf`].
    pub(crate) fn monitored(&self) -> Result<u64> {
        let tally = self.counts()?.monitor;
        Ok(tally.frames + tally.late)
    }

    /// Leaves what arrives at the monitor to somebody else, and no longer counts it.
    pub(crate) fn leave_monitor(&mut self) {
        self.monitor = None;
    }

    /// Sends and looks.
    ///
    /// # Errors
    /// [`WireError::Interrupted`], or what the sinks report.
    pub(crate) fn run(&mut self, load: Load) -> Result<Outcome> {
        self.run_numbered(load, |number| number)
    }

    /// Like [`Tester::run`], with `number` changing the numbers that the frames bear.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn run_numbered(&mut self, load: Load, number: impl Fn(u64) -> u64 + Send) -> Result<Outcome> {
        let (cpu, first) = (self.cpu, self.first);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("tester".to_owned()).spawn_scoped(scope, || {
                if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
                    return Err(WireError::Thread("tester (cannot be pinned)"));
                }
                if first {
                    let given = rustix::process::setpriority_process(None, NICENESS);
                    given.map_err(|e| WireError::io("giving the tester priority (CAP_SYS_NICE)")(e.into()))?;
                }
                self.drive(load, number)
            });
            let thread = thread.map_err(WireError::io("starting the tester"))?;
            thread.join().map_err(|_| WireError::Thread("tester"))?
        })
    }

    fn drive(&mut self, load: Load, number: impl Fn(u64) -> u64) -> Result<Outcome> {
        let first = self.next;
        let mut eye = Eye::new(first, load.every)?;
        // What is left of an earlier run.
        while self.sink.receive(|_| {}) > 0 {}
        self.trial = self.trial.wrapping_add(1);
        self.sink.want(self.trial, load.every)?;
        if let Some(monitor) = &self.monitor {
            monitor.want(self.trial, 0)?;
        }
        let missed = self.sink.undelivered()?;
        let before = self.counts()?;
        let mut pace = Pace::new(load.rate);
        let mut refused = 0;
        let start = monotonic_ns();
        let end = start + load.duration.as_nanos() as u64;
        let steady = start + (load.duration / WARM_UP).as_nanos() as u64;
        let mut window = None;
        let mut now = start;
        while now < end {
            if window.is_none() && now >= steady {
                window = Some((monotonic_ns(), self.counts()?));
            }
            let due = pace.due(now);
            let (trial, next) = (self.trial, &mut self.next);
            let pushed = self.sender.push(due, |frame| {
                probe::stamp(frame, trial, number(*next), now);
                *next += 1;
            });
            pace.sent(pushed);
            if self.sender.unsent() > 0 || pushed > 0 {
                refused += u64::from(self.sender.kick() == Kick::Lost);
            }
            self.sender.complete();
            if eye.open && self.sink.receive(|frame| eye.look(frame)) == 0 && pushed == 0 {
                std::hint::spin_loop();
            }
            if interrupt::requested() {
                return Err(WireError::Interrupted);
            }
            now = monotonic_ns();
        }
        let after = self.counts()?;
        let stopped = monotonic_ns();
        refused += self.settle(&mut eye)?;
        let last = self.counts()?;
        let undelivered = self.sink.undelivered()? - missed;
        let seconds = |from: u64, to: u64| (to.saturating_sub(from)) as f64 / 1e9;
        let (from, earlier) = window.unwrap_or((start, before.clone()));
        let rate = |from_count: u64, to_count: u64| (to_count - from_count) as f64 / seconds(from, stopped);
        let offered = self.next - first;
        Ok(Outcome {
            offered,
            refused,
            received: last.sink.frames - before.sink.frames,
            monitored: last.monitor.frames - before.monitor.frames,
            foreign: (last.sink.foreign - before.sink.foreign) + (last.monitor.foreign - before.monitor.foreign),
            offered_pps: offered as f64 / seconds(start, now),
            sink_pps: rate(earlier.sink.frames, after.sink.frames),
            monitor_pps: rate(earlier.monitor.frames, after.monitor.frames),
            sink_cpus: last.sink.by_cpu.iter().zip(&before.sink.by_cpu).map(|(last, first)| last - first).collect(),
            seen: eye.close(self.next, undelivered),
        })
    }

    /// Waits until everything is sent and nothing more arrives. Returns how many frames were refused meanwhile.
    fn settle(&mut self, eye: &mut Eye) -> Result<u64> {
        let start = monotonic_ns();
        let mut refused = 0;
        let mut last = self.counts()?;
        let mut quiet_since = start;
        loop {
            if self.sender.unsent() > 0 {
                refused += u64::from(self.sender.kick() == Kick::Lost);
            }
            self.sender.complete();
            while self.sink.receive(|frame| eye.look(frame)) > 0 {}
            let (now, counts) = (monotonic_ns(), self.counts()?);
            if counts != last || self.sender.unsent() > 0 {
                (last, quiet_since) = (counts, now);
            }
            if now - quiet_since >= QUIET.as_nanos() as u64 || now - start >= SETTLE.as_nanos() as u64 {
                return Ok(refused);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn counts(&self) -> Result<Counts> {
        Ok(Counts {
            sink: self.sink.tally()?,
            monitor: self.monitor.as_ref().map_or(Ok(Tally::default()), Sink::tally)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Counts {
    sink: Tally,
    monitor: Tally,
}

/// Says how many frames are due.
#[derive(Debug)]
struct Pace {
    /// Frames a nanosecond; `None`: any number.
    rate: Option<f64>,
    base: Option<u64>,
    sent: u64,
}

impl Pace {
    fn new(per_second: Option<f64>) -> Pace {
        Pace { rate: per_second.map(|rate| rate / 1e9), base: None, sent: 0 }
    }

    /// Frames due at `now`, at most a batch.
    fn due(&mut self, now: u64) -> u32 {
        let Some(rate) = self.rate else { return BATCH };
        let base = *self.base.get_or_insert(now);
        let due = ((now - base) as f64 * rate) as u64;
        let behind = due.saturating_sub(self.sent);
        if behind > SLIP {
            (self.base, self.sent) = (Some(now), 0);
            return BATCH;
        }
        behind.min(u64::from(BATCH)) as u32
    }

    fn sent(&mut self, count: u32) {
        self.sent += u64::from(count);
    }
}

/// Looks at the frames that are delivered.
struct Eye {
    open: bool,
    sequence: Sequence,
    latency: Histogram<u64>,
}

impl Eye {
    fn new(first: u64, every: u32) -> Result<Eye> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Eye { open: every > 0, sequence: Sequence::new(first, every), latency })
    }

    fn look(&mut self, frame: &[u8]) {
        let Some(probe) = probe::read(frame) else { return };
        if self.sequence.arrive(probe.sequence) {
            self.latency.saturating_record(probe.arrived.saturating_sub(probe.sent));
        }
    }

    fn close(self, end: u64, undelivered: u64) -> Option<Seen> {
        self.open.then(|| Seen { verdict: self.sequence.finish(end), latency: self.latency, undelivered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_over_any_steps() {
        // 2 frames a microsecond, asked every 3.7 µs, for 3.7 ms.
        let mut pace = Pace::new(Some(2e6));
        let mut total = 0;
        for step in 0..=1000u64 {
            let due = pace.due(5 + step * 3700);
            pace.sent(due);
            total += due;
        }
        assert_eq!(total, 7400);
    }

    #[test]
    fn a_sender_that_was_held_up_does_not_catch_up() {
        let mut pace = Pace::new(Some(1e6));
        assert_eq!(pace.due(0), 0);
        // 10 ms late: one batch, and on from there.
        assert_eq!(pace.due(10_000_000), BATCH);
        pace.sent(BATCH);
        assert_eq!(pace.due(10_010_000), 0);
        assert_eq!(pace.due(10_080_000), 80 - BATCH);
    }

    #[test]
    fn without_a_rate_there_is_always_a_batch_due() {
        assert_eq!(Pace::new(None).due(0), BATCH);
    }
}
