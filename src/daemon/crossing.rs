//! What crosses in the kernel from each port of a wire, and what of it is lost on the way.
//!
//! ```text
//! rows of the selectors, mapped ─────┐
//! xdp: tracepoints, by port ─────────┤── looked at by the topology ──> Crossing ──> statistics
//! tc: what the other device dropped ─┘
//! ```
//!
//! What is told of is what has become known at a look (`outcome`): what one port has received the other has sent or lost, and
//! neither is ever taken back.
//!
//! Counts stand while the wire is wanted, whatever becomes of its devices and its selectors, and begin anew with the process:
//! only what crossed while none ran is known of the time before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shm_layout::counters::{CROSSED_VALUES, LOST_VALUES, Lost};

use meter::{Down, Meter};
use outcome::{Outcome, Sent};

use crate::devices::drops::{self, Drops};
use crate::kernel::abi;
use crate::kernel::loss::Losses;
use crate::kernel::program::Hook;
use crate::kernel::rows::Rows;
use crate::told::Told;

mod meter;
mod outcome;

/// How often devices are asked what they dropped, at most. Where that waits for others, less often: it may take one part in
/// so many of the time.
const READ: Duration = Duration::from_millis(200);
const SHARE: u32 = 50;
/// How long a frame may be on its way from the selector to who loses it; more than it takes, but for what waits in a queue.
const GRACE: Duration = Duration::from_millis(10);

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

fn sent(rows: &Rows<abi::Crossing>) -> Sent {
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
pub struct Crossing(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The wire's other port.
    peer: u32,
    /// By selectors that are gone.
    past: Sent,
    /// Where selectors count, and what they had counted before. The last is on the port; the one before it may have been
    /// meeting its last frame when it was taken off.
    rows: Vec<(Arc<Rows<abi::Crossing>>, Sent)>,
    unseen: u64,
    /// What was found to be lost.
    found: [u64; LOST_VALUES],
    /// What had crossed when, and before that: of those all that is lost is found by now.
    mark: Option<(Instant, Sent)>,
    ripe: Sent,
    outcome: Outcome,
    /// What the meter is for.
    course: Option<Course>,
    meter: Meter,
    /// Why there is none; empty where there is.
    unknown: String,
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
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change leaves counts that are some.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self) {
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
    fn look(&mut self) {
        let (Meter::Xdp { losses, last }, Some(Course { device, .. })) = (&mut self.meter, self.course) else { return };
        let Some(now) = losses.of(device) else { return };
        let then = std::mem::replace(last, now);
        self.lose(Lost::Refused, now.refused.saturating_sub(then.refused));
        self.lose(Lost::Unsent, now.unsent.saturating_sub(then.unsent));
        self.lose(Lost::Aborted, now.aborted.saturating_sub(then.aborted));
    }

    /// What has crossed by now.
    fn sent(&self) -> Sent {
        let mut all = self.past;
        self.rows.iter().for_each(|(rows, since)| add(&mut all, sent(rows), *since));
        all
    }

    /// What had crossed a while ago: on its way to who loses it is none of that any more.
    fn ripe(&mut self, now: Instant) -> Sent {
        if self.mark.is_none_or(|(at, _)| now.saturating_duration_since(at) >= GRACE) {
            let crossed = self.sent();
            self.ripe = self.mark.replace((now, crossed)).map_or(self.ripe, |(_, before)| before);
        }
        self.ripe
    }

    /// Tells of so much that had crossed a while before the last look.
    fn tell(&mut self, crossed: Sent) {
        let mut found = self.found;
        found[Lost::Device as usize] += self.untold();
        self.outcome.take(crossed, &found);
    }

    /// What was lost and is in no count yet.
    fn untold(&self) -> u64 {
        match &self.meter {
            Meter::Tc { down: Some(down), .. } => down.untold,
            _ => 0,
        }
    }

    /// Takes up what devices have dropped after so many frames had crossed.
    fn take(&mut self, crossed: u64, all: &BTreeMap<u32, Drops>) {
        let (Meter::Tc { last, down }, Some(Course { across, .. })) = (&mut self.meter, self.course) else { return };
        let Some(now) = all.get(&across) else { return };
        let [device, queue] = now.since(last);
        *last = now.clone();
        down.iter_mut().for_each(|down| down.look(crossed, now));
        self.lose(Lost::Device, device);
        self.lose(Lost::Queue, queue);
    }

    /// Takes the last look before something changes: so many frames had crossed, and then devices had dropped this.
    fn settle(&mut self, crossed: u64, all: &BTreeMap<u32, Drops>) {
        self.look();
        self.take(crossed, all);
        self.lose(Lost::Device, self.untold());
        if let Meter::Tc { down, .. } = &mut self.meter {
            *down = None;
        }
    }

    /// Goes on from the last look, with what has changed.
    fn turn(&mut self, course: Course) {
        self.course = Some(course);
        let [crossed, ..] = self.sent();
        if let Meter::Tc { last, down } = &mut self.meter {
            *down = (!course.is_up).then(|| Down::new(last.clone(), crossed));
        }
    }

    /// The device that is to be asked what it dropped.
    fn asks(&self) -> Option<u32> {
        matches!(self.meter, Meter::Tc { .. }).then_some(self.course?.across)
    }

    /// Counts by other rows from now on.
    fn count_by(&mut self, rows: Arc<Rows<abi::Crossing>>, since: Sent) {
        self.rows.push((rows, since));
        if self.rows.len() > 2 {
            let (rows, since) = self.rows.remove(0);
            add(&mut self.past, sent(&rows), since);
        }
    }
}

/// What crosses from all ports, for who puts selectors on them.
#[derive(Debug, Default)]
pub struct Crossings {
    ports: BTreeMap<u32, Arc<Crossing>>,
    losses: Option<Arc<Losses>>,
    /// The devices that those watch.
    watched: BTreeSet<u32>,
    /// When devices were asked, and how long that took.
    read: Option<(Instant, Duration)>,
    told: Told,
}

impl Crossings {
    /// What crosses from a port; `None` where nothing ever did.
    pub fn of(&self, port: u32) -> Option<Arc<Crossing>> {
        self.ports.get(&port).cloned()
    }

    /// From now on counts what is lost of the frames from `port` to `peer`: before a selector is put there, so that it meets no
    /// frame that is not counted.
    pub fn measure(&mut self, port: u32, peer: u32, course: Course) {
        self.rest(port);
        let meter = self.meter(course);
        match &meter {
            Ok(_) => {
                if let Some(news) = self.told.ends() {
                    tracing::info!("what is lost of the frames that the kernel sends on is known again{news}");
                }
            }
            Err(unknown) => {
                if let Some(news) = self.told.is(unknown) {
                    tracing::warn!("what is lost of the frames that the kernel sends on is not known: {news}");
                }
            }
        }
        let mut counts = self.ports.entry(port).or_default().counts();
        if counts.peer != peer {
            // Of another wire.
            *counts = Counts { peer, ..Counts::default() };
        }
        (counts.meter, counts.unknown) = match meter {
            Ok(meter) => (meter, String::new()),
            Err(unknown) => (Meter::None, unknown),
        };
        counts.turn(course);
    }

    fn meter(&mut self, Course { hook, device, across, .. }: Course) -> Result<Meter, String> {
        match hook {
            Hook::Xdp => {
                let losses = match &self.losses {
                    Some(losses) => Arc::clone(losses),
                    None => Arc::new(Losses::open().map_err(|error| error.to_string())?),
                };
                losses.watch(device).map_err(|error| error.to_string())?;
                self.watched.insert(device);
                let last = losses.of(device).unwrap_or_default();
                self.losses = Some(Arc::clone(&losses));
                Ok(Meter::Xdp { losses, last })
            }
            Hook::Tc => {
                let dropped = drops::of([across]).map_err(|error| format!("the devices do not say: {error}"))?;
                // One that is not there has nothing to say until it is.
                Ok(dropped.into_values().next().map_or(Meter::None, |last| Meter::Tc { last, down: None }))
            }
        }
    }

    /// A selector was put on the port: what it counts in these rows, and what has crossed unseen before.
    pub fn carries(&mut self, port: u32, rows: Arc<Rows<abi::Crossing>>, unseen: u64) {
        let mut counts = self.ports.entry(port).or_default().counts();
        counts.count_by(rows, [0; 3]);
        counts.unseen += unseen;
    }

    /// The same selector goes on, or another in its place; perhaps to another port, or to another device.
    pub fn follow(&mut self, port: u32, peer: u32, course: Course, rows: &Arc<Rows<abi::Crossing>>) {
        let Some(crossing) = self.of(port) else { return };
        let (before, is_same_wire) = {
            let counts = crossing.counts();
            (counts.course, counts.peer == peer)
        };
        match before {
            Some(before) if is_same_wire && Course { is_up: course.is_up, ..before } == course => {
                // Without a gap in what is looked at.
                if before != course {
                    crossing.settle();
                    crossing.counts().turn(course);
                }
            }
            _ => self.measure(port, peer, course),
        }
        let mut counts = crossing.counts();
        if !counts.rows.last().is_some_and(|(known, _)| Arc::ptr_eq(known, rows)) {
            let before = if is_same_wire { [0; 3] } else { sent(rows) };
            counts.count_by(Arc::clone(rows), before);
        }
    }

    /// The selector was taken off the port: nothing is lost any more.
    pub fn rest(&mut self, port: u32) {
        let Some(crossing) = self.ports.get(&port) else { return };
        crossing.settle();
        let mut counts = crossing.counts();
        (counts.meter, counts.course) = (Meter::None, None);
    }

    /// Looks at what was lost; devices are asked what they dropped where it is time to.
    pub fn refresh(&mut self) {
        let is_due = self.read.is_none_or(|(at, cost)| at.elapsed() >= READ.max(cost * SHARE));
        let now = Instant::now();
        let mut asking = Vec::new();
        for crossing in self.ports.values() {
            let mut counts = crossing.counts();
            let crossed = counts.ripe(now);
            counts.look();
            match counts.asks() {
                Some(device) if is_due => asking.push((device, crossing, crossed)),
                Some(_) => {}
                None => counts.tell(crossed),
            }
        }
        if asking.is_empty() {
            return;
        }
        let start = Instant::now();
        let dropped = drops::of(asking.iter().map(|(device, ..)| *device).collect::<BTreeSet<_>>());
        self.read = Some((Instant::now(), start.elapsed()));
        match dropped {
            Ok(dropped) => asking.into_iter().for_each(|(_, crossing, crossed)| {
                let mut counts = crossing.counts();
                counts.take(crossed[0], &dropped);
                counts.tell(crossed);
            }),
            // The next answer has it all.
            Err(error) => tracing::debug!("the devices do not say what they dropped: {error}"),
        }
    }

    /// Looks for the last time: what has crossed by now is told of, whatever becomes of the selectors.
    pub fn finish(&self) {
        let all: Vec<_> = self.ports.values().map(|crossing| (crossing, crossing.counts().sent())).collect();
        std::thread::sleep(GRACE);
        for (crossing, crossed) in all {
            crossing.settle();
            crossing.counts().tell(crossed);
        }
    }

    /// Forgets the ports that are not wanted any more.
    pub fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.ports.retain(|&port, _| is_wanted(port));
        let used = |crossing: &Arc<Crossing>| crossing.counts().course.map(|course| course.device);
        let used: BTreeSet<u32> = self.ports.values().filter_map(used).collect();
        if let Some(losses) = &self.losses {
            self.watched.difference(&used).for_each(|&device| losses.leave(device));
        }
        self.watched.retain(|device| used.contains(device));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
