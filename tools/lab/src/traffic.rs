//! Traffic in and out of one interface: a sender that keeps to a pace, a capture that knows its own losses.
//!
//! The frames come from [`crate::frame`], re-exported here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use crate::frame::{FrameSpec, MAX_FRAME, MIN_FRAME, frames};
pub use crate::tag::{Direction, Tag};

use crate::error::{LabError, Result};
use crate::processor::Kept;
use crate::wire_io::{Sent, WireIo};

/// How long a full transmit path is retried before the sender gives up.
const STUCK: Duration = Duration::from_secs(60);
/// Pause before a refused frame is offered again, and between looks whether there is room.
const RETRY: Duration = Duration::from_micros(50);
/// Frames that a sender who looks at the receivers has on the way, at most: what any ring between them holds.
pub const ON_THE_WAY: usize = 256;
/// How long such a sender waits for frames that do not arrive: they are lost, and the receivers will say so.
const LOST: Duration = Duration::from_secs(5);
/// How often the capture thread looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);
/// Silence after the last expected frame, in which a duplicate or a stray frame still gets caught.
const SETTLE: Duration = Duration::from_millis(100);

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Windows of `burst` frames at an average of `per_second`. A sender that falls behind does not catch up: the
    /// pace is a ceiling at every moment, so a lab of few cores is not outrun after a hiccup.
    Windowed {
        /// Frames sent back to back.
        burst: usize,
        /// Average frames per second.
        per_second: u32,
    },
    /// As fast as the kernel accepts; a frame refused with ENOBUFS is offered again.
    Unpaced,
}

impl Default for Pace {
    /// 20,000 frames a second in windows of 64.
    fn default() -> Self {
        Self::per_second(20_000)
    }
}

impl Pace {
    /// Windows of 64 frames at this average; 0 means one window a second.
    pub fn per_second(per_second: u32) -> Self {
        Self::Windowed { burst: 64, per_second }
    }
}

/// What a sender did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Frames the kernel accepted.
    pub sent: usize,
    /// Times a frame was refused and offered again.
    pub retries: usize,
}

/// Sends raw frames out of one interface, from one processor: a veth receives on the processor that sends, so what looks
/// at the frames in the kernel does so on one, and in their order.
#[derive(Debug)]
pub struct Sender {
    io: WireIo,
    /// Which of the processors there are; `None`: any.
    processor: Option<usize>,
}

impl Sender {
    /// A sender over an open interface, on the first processor.
    pub fn new(io: WireIo) -> Self {
        Self { io, processor: Some(0) }
    }

    /// Sends on this one of the processors that the thread may use, counted over those there are, or on any.
    #[must_use]
    pub fn on(self, processor: Option<usize>) -> Self {
        Self { processor, ..self }
    }

    /// Sends every frame, in order, at `pace`.
    pub fn send(&mut self, frames: &[Vec<u8>], pace: Pace) -> Result<SendReport> {
        self.send_while(frames, pace, |_| true)
    }

    /// As [`Sender::send`], but no more than [`ON_THE_WAY`] ahead of what these captures have got of them: however
    /// little of a processor whoever forwards the frames has, its rings hold them. Each capture is to get every frame,
    /// and nothing else.
    pub fn send_ahead_of(&mut self, frames: &[Vec<u8>], pace: Pace, captures: &[&Capture]) -> Result<SendReport> {
        self.send_while(frames, pace, |sent| captures.iter().all(|capture| sent < capture.count() + ON_THE_WAY))
    }

    /// As [`Sender::send`], but waits before each window for as long as `has_room` says no of the number of frames sent
    /// by then. Frames that do not arrive are waited for once, and from then on no more.
    pub fn send_while(
        &mut self,
        frames: &[Vec<u8>],
        pace: Pace,
        has_room: impl Fn(usize) -> bool,
    ) -> Result<SendReport> {
        let kept = self.processor.map(Kept::on).transpose();
        let _kept = kept.map_err(|source| self.io.error("keep to one processor", source))?;
        let mut report = SendReport::default();
        let mut waits = true;
        match pace {
            Pace::Unpaced => self.send_window(frames, &mut report)?,
            Pace::Windowed { burst, per_second } => {
                let burst = burst.max(1);
                let window = f64::from(u32::try_from(burst).unwrap_or(u32::MAX)) / f64::from(per_second.max(1));
                let window = Duration::from_secs_f64(window.min(1.0));
                let mut next = Instant::now();
                for chunk in frames.chunks(burst) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    let since = Instant::now();
                    while waits && !has_room(report.sent) {
                        waits = since.elapsed() < LOST;
                        thread::sleep(RETRY);
                    }
                    self.send_window(chunk, &mut report)?;
                    next = (next + window).max(Instant::now());
                }
            }
        }
        Ok(report)
    }

    fn send_window(&mut self, frames: &[Vec<u8>], report: &mut SendReport) -> Result<()> {
        for frame in frames {
            let mut stuck_since = None;
            while self.io.send(frame)? == Sent::TryAgain {
                report.retries += 1;
                if stuck_since.get_or_insert_with(Instant::now).elapsed() > STUCK {
                    let source = io::Error::new(io::ErrorKind::TimedOut, "the transmit path stayed full");
                    return Err(LabError::Wire { action: "send", ifindex: self.io.ifindex(), source });
                }
                thread::sleep(RETRY);
            }
            report.sent += 1;
        }
        Ok(())
    }
}

/// What a capture saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The frames, in the order of their arrival, VLAN tags in place.
    pub frames: Vec<Vec<u8>>,
    /// Frames the capture itself lost (its socket buffer was full): a loss of the lab, not of the device under test.
    pub drops: u64,
}

/// A thread that captures what arrives at one interface, from [`Capture::start`] on. Dropping it ends the thread.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    /// Taken only by [`Capture::stop`].
    thread: Option<JoinHandle<Result<Captured>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Frames captured so far. Relaxed: a progress figure; the frames themselves come through the join.
    count: AtomicUsize,
    /// Relaxed: the capture thread may see it a tick late.
    stop: AtomicBool,
}

impl Capture {
    /// Starts capturing. Frames that arrived since `io` was opened are included.
    pub fn start(mut io: WireIo) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || capture(&mut io, &theirs))
            .map_err(|source| LabError::Spawn { command: "capture thread".to_owned(), source })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Frames captured so far.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Waits for `expected` frames and a moment of silence after them, or until nothing has arrived for `idle`, then
    /// stops. Call it when the sender is done: `idle` counts from here.
    pub fn finish(self, expected: usize, idle: Duration) -> Result<Captured> {
        settle(&[(&self, expected)], idle);
        self.stop()
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes what has arrived by now and stops.
    pub fn stop(mut self) -> Result<Captured> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).ok_or(LabError::Thread("capture"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until each of these captures has the frames expected of it and a moment of silence after them, or has got nothing
/// for `idle`, and asks all of them to stop. At once and not one after the other: each waits for itself alone.
pub fn settle(captures: &[(&Capture, usize)], idle: Duration) {
    let mut seen: Vec<_> = captures.iter().map(|(capture, _)| (capture.count(), Instant::now())).collect();
    loop {
        let mut is_quiet = true;
        for ((capture, expected), (count, quiet_since)) in captures.iter().zip(&mut seen) {
            let now = capture.count();
            if now != *count {
                (*count, *quiet_since) = (now, Instant::now());
            }
            let patience = if now >= *expected { SETTLE.min(idle) } else { idle };
            is_quiet &= quiet_since.elapsed() >= patience || capture.is_over();
        }
        if is_quiet {
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    captures.iter().for_each(|(capture, _)| capture.shared.stop.store(true, Ordering::Relaxed));
}

fn capture(io: &mut WireIo, shared: &Shared) -> Result<Captured> {
    let mut captured = Captured::default();
    loop {
        // Asked before the wait: once told to stop, one more look that finds nothing means the queue is empty.
        let last = shared.stop.load(Ordering::Relaxed);
        match io.recv(if last { Duration::ZERO } else { TICK })? {
            Some(frame) => {
                captured.frames.push(frame);
                shared.count.store(captured.frames.len(), Ordering::Relaxed);
            }
            None if last => break,
            None => {}
        }
    }
    captured.drops = io.drops()?;
    Ok(captured)
}
