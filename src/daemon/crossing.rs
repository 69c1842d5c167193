//! What crosses in the kernel from each port of a wire, and what of it is lost on the way.
//!
//! ```text
//! rows of the selectors, mapped ───────────────────┐
//! xdp: tracepoints, by port ───────────────────────┤── looked at by the topology ──> Crossing ──> statistics
//! tc, veth: what the other port's device dropped ──┘
//! ```
//!
//! What is told of is what has become known at a look (`outcome`): what one port has received the other has sent or lost, and
//! neither is ever taken back.
//!
//! Counts stand while the wire is wanted, whatever becomes of its devices and its selectors, and begin anew with the process:
//! only what crossed while none ran is known of the time before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use counts::{Course, Crossing, Reading};

use counts::{Counts, GRACE, sent};
use meter::Meter;

use crate::devices::drops;
use crate::kernel::abi;
use crate::kernel::loss::{Losses, Unsent};
use crate::kernel::program::Hook;
use crate::kernel::rows::Rows;
use crate::told::Told;

mod counts;
mod meter;
mod outcome;

/// How often is looked at what was lost, at most: once in each turn of the topology. Where devices are asked that waits for others,
/// and it may take one part in so many of the time.
const READ: Duration = Duration::from_millis(150);
const SHARE: u32 = 50;
/// However long they took: nothing is told of what crosses meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What crosses from all ports, for who puts selectors on them.
#[derive(Debug, Default)]
pub struct Crossings {
    ports: BTreeMap<u32, Arc<Crossing>>,
    losses: Option<Arc<Losses>>,
    /// While there is a port that needs it.
    unsent: Option<Unsent>,
    /// The devices that those watch.
    watched: BTreeSet<u32>,
    /// When all was looked at, and how long that took.
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
        let dropped = || drops::of([across]).map_err(|error| format!("the devices do not say: {error}"));
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
                let tells = across != 0 && drops::has_redirected(across);
                let unsent = if tells { dropped()?.into_values().next() } else { None };
                if unsent.is_none() && across != 0 && self.unsent.is_none() {
                    self.unsent = Some(losses.watch_unsent().map_err(|error| error.to_string())?);
                }
                Ok(Meter::Xdp { losses, last, unsent })
            }
            Hook::Tc => {
                // One that is not there has nothing to say until it is.
                Ok(dropped()?.into_values().next().map_or(Meter::None, |last| Meter::Tc { last, down: None }))
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

    /// Looks at what was lost, where it is time to.
    pub fn refresh(&mut self) {
        self.spare();
        let now = Instant::now();
        let ripe = |crossing| (crossing, Crossing::counts(crossing).ripe(now));
        let all: Vec<_> = self.ports.values().map(|crossing| ripe(crossing)).collect();
        if all.is_empty() || self.read.is_some_and(|(at, cost)| at.elapsed() < READ.max(cost * SHARE).min(LONGEST_REST))
        {
            return;
        }
        let asked: BTreeSet<u32> = all.iter().filter_map(|(crossing, _)| crossing.counts().asks()).collect();
        let dropped = if asked.is_empty() { Ok(BTreeMap::new()) } else { drops::of(asked) };
        // The next answer has it all.
        let dropped = dropped.inspect_err(|error| tracing::debug!("the devices do not say what they dropped: {error}"));
        for (crossing, crossed) in all {
            let mut counts = crossing.counts();
            match &dropped {
                Ok(dropped) => counts.take(crossed[0], dropped),
                Err(_) if counts.asks().is_some() => continue,
                Err(_) => {}
            }
            counts.look();
            counts.tell(crossed);
        }
        self.read = Some((Instant::now(), now.elapsed()));
    }

    /// Does not look at batches any more where no port needs it.
    fn spare(&mut self) {
        let needs = |crossing: &Arc<Crossing>| {
            let counts = crossing.counts();
            counts.meter.needs_batches() && counts.course.is_some_and(|course| course.across != 0)
        };
        if self.unsent.is_some() && !self.ports.values().any(needs) {
            self.unsent = None;
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
