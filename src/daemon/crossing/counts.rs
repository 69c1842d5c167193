//! What crosses from one port, and what of it was lost.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shm_layout::counters::{CROSSED_VALUES, LOST_VALUES, Lost};

use super::meter::{Down, Meter};
use super::outcome::{Outcome, Sent};
use crate::devices::drops::{self, Drops};
use crate::kernel::abi;
use crate::kernel::program::Hook;
use crate::kernel::rows::Rows;

/// How long a frame may be on its way from the selector to who loses it; more than it takes, but for what waits in a queue.
pub(super) const GRACE: Duration = Duration::from_millis(10);

/// The way that frames take from a port: by the selector on `device` to `across`, ifindexes by now; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Where the selector is.
    pub hook: Hook,
    /// The port's device.
    pub device: u32,
    /// The device of the wire's other port.
    pub across: u32,
    /// Whether that has a link.
    pub is_up: bool,
}

pub(super) fn sent(rows: &Rows<abi::Crossing>) -> Sent {
    rows.iter().fold([0; 3], |[frames, bytes, no_peer], row| {
        [frames + row.frames.load(Relaxed), bytes + row.bytes.load(Relaxed), no_peer + row.no_peer.load(Relaxed)]
    })
}

/// Adds what was counted since.
fn add(sum: &mut Sent, now: Sent, since: Sent) {
    for ((sum, now), since) in sum.iter_mut().zip(now).zip(since) {
        *sum += now.saturating_sub(since);
    }
}

/// What crosses from a port.
#[derive(Debug, Default)]
pub struct Crossing(pub(super) Mutex<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// The wire's other port.
    pub(super) peer: u32,
    /// By selectors that are gone.
    pub(super) past: Sent,
    /// Where selectors count, and what they had counted before. The last is on the port; the one before it may have been
    /// meeting its last frame when it was taken off.
    pub(super) rows: Vec<(Arc<Rows<abi::Crossing>>, Sent)>,
    pub(super) unseen: u64,
    /// What was found to be lost.
    pub(super) found: [u64; LOST_VALUES],
    /// What had crossed when, and before that: of those all that is lost is found by now.
    pub(super) mark: Option<(Instant, Sent)>,
    pub(super) ripe: Sent,
    pub(super) outcome: Outcome,
    /// What the meter is for.
    pub(super) course: Option<Course>,
    pub(super) meter: Meter,
    /// Why there is none; empty where there is.
    pub(super) unknown: String,
}

/// What is told of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Values of [`shm_layout::counters::Crossed`].
    pub crossed: [u64; CROSSED_VALUES],
    /// Values of [`Lost`].
    pub lost: [u64; LOST_VALUES],
    /// Why it is not known what was lost; empty where it is.
    pub unknown: String,
}

impl Crossing {
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change leaves counts that are some.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settle(&self) {
        // First, so that none of them is on its way to the device still. And nobody waits here for the kernel, who may take
        // its time.
        let (asks, [crossed, ..]) = {
            let counts = self.counts();
            (counts.asks(), counts.sent())
        };
        let dropped = asks.map(|device| drops::of([device]).unwrap_or_default()).unwrap_or_default();
        self.counts().settle(crossed, &dropped);
    }

    /// What has crossed and was lost, by the last look at it. What nobody looks at has been sent.
    pub fn read(&self) -> Reading {
        let mut counts = self.counts();
        if matches!(counts.meter, Meter::None) {
            let crossed = counts.sent();
            counts.tell(crossed);
        }
        let Outcome { crossed: [frames, bytes, no_peer], lost } = counts.outcome;
        Reading { crossed: [frames, bytes, no_peer, counts.unseen], lost, unknown: counts.unknown.clone() }
    }
}

impl Counts {
    fn lose(&mut self, how: Lost, frames: u64) {
        self.found[how as usize] += frames;
    }

    /// Looks at the tracepoints.
    pub(super) fn look(&mut self) {
        let (Meter::Xdp { losses, last, unsent }, Some(course)) = (&mut self.meter, self.course) else { return };
        let Some(now) = losses.of(course.device) else { return };
        let (then, has_told) = (std::mem::replace(last, now), unsent.is_some());
        self.lose(Lost::Refused, now.refused.saturating_sub(then.refused));
        // For whichever port the tracepoint is watched.
        if !has_told {
            self.lose(Lost::Unsent, now.unsent.saturating_sub(then.unsent));
        }
        self.lose(Lost::Aborted, now.aborted.saturating_sub(then.aborted));
    }

    /// What has crossed by now.
    pub(super) fn sent(&self) -> Sent {
        let mut all = self.past;
        self.rows.iter().for_each(|(rows, since)| add(&mut all, sent(rows), *since));
        all
    }

    /// What had crossed a while ago: on its way to who loses it is none of that any more.
    pub(super) fn ripe(&mut self, now: Instant) -> Sent {
        if self.mark.is_none_or(|(at, _)| now.saturating_duration_since(at) >= GRACE) {
            let crossed = self.sent();
            self.ripe = self.mark.replace((now, crossed)).map_or(self.ripe, |(_, before)| before);
        }
        self.ripe
    }

    /// Tells of so much that had crossed a while before the last look.
    pub(super) fn tell(&mut self, crossed: Sent) {
        let mut found = self.found;
        found[Lost::Device as usize] += self.untold();
        self.outcome.take(crossed, &found);
    }

    /// What was lost and is in no count yet.
    pub(super) fn untold(&self) -> u64 {
        match &self.meter {
            Meter::Tc { down: Some(down), .. } => down.untold,
            _ => 0,
        }
    }

    /// Takes up what devices have dropped after so many frames had crossed.
    pub(super) fn take(&mut self, crossed: u64, all: &BTreeMap<u32, Drops>) {
        let Some(now) = self.course.and_then(|course| all.get(&course.across)) else { return };
        match &mut self.meter {
            Meter::Tc { last, down } => {
                let [device, queue] = now.since(last);
                *last = now.clone();
                down.iter_mut().for_each(|down| down.look(crossed, now));
                self.lose(Lost::Device, device);
                self.lose(Lost::Queue, queue);
            }
            Meter::Xdp { unsent: Some(last), .. } => {
                let [unsent, _] = now.since(last);
                *last = now.clone();
                self.lose(Lost::Unsent, unsent);
            }
            _ => {}
        }
    }

    /// Takes the last look before something changes: so many frames had crossed, and then devices had dropped this.
    pub(super) fn settle(&mut self, crossed: u64, all: &BTreeMap<u32, Drops>) {
        self.look();
        self.take(crossed, all);
        self.lose(Lost::Device, self.untold());
        if let Meter::Tc { down, .. } = &mut self.meter {
            *down = None;
        }
    }

    /// Goes on from the last look, with what has changed.
    pub(super) fn turn(&mut self, course: Course) {
        self.course = Some(course);
        let [crossed, ..] = self.sent();
        if let Meter::Tc { last, down } = &mut self.meter {
            *down = (!course.is_up).then(|| Down::new(last.clone(), crossed));
        }
    }

    /// The device that is to be asked what it dropped.
    pub(super) fn asks(&self) -> Option<u32> {
        Some(self.course?.across).filter(|_| self.meter.asks())
    }

    /// Counts by other rows from now on.
    pub(super) fn count_by(&mut self, rows: Arc<Rows<abi::Crossing>>, since: Sent) {
        self.rows.push((rows, since));
        if self.rows.len() > 2 {
            let (rows, since) = self.rows.remove(0);
            add(&mut self.past, sent(&rows), since);
        }
    }
}
