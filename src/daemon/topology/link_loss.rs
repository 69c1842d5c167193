//! Link-loss forwarding: where one port of a wire has no link, the far end of the other one is to see none either.
//!
//! ```text
//! far end P ──x── p ╌╌ wire ╌╌ q ──── far end Q        p has no carrier: q is taken down, Q sees that
//! far end P ───── p ╌╌ wire ╌╌ q ──── far end Q        p has one again: q is taken up, as nothing else is wrong
//! ```
//!
//! What is decided, and why no pair of ports comes to a standstill:
//!
//! - A port *has a link* where it is administratively up and has a carrier. It has *lost* it where it is not there, is
//!   down by somebody else's hand, or has no carrier: no frame crosses then.
//! - A port that has a link is taken down where the other one has lost its own. So of two that lose it at once none is,
//!   and of a pair at most one: the other one stays up and is watched, which alone says when to take the first one up.
//! - What was taken down counts neither as lost nor as anything else: that it has no carrier is our doing.
//! - A port that is up only now, by whosever hand, is given [`TRAINING`] to find a carrier before it counts as lost.
//! - One that somebody else takes up again stays up, until the other port has had a link once more.
//!
//! What is taken down is on record first, and is not where that cannot be written. It is taken up again when the other port
//! has a link, when the wire or its option is taken away, and at the end.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::news::News;
use super::sighting::Sighting;
use super::taken::TakenRecord;
use crate::devices::{self, Device, Gone};

/// How long a link may take to come up: what autonegotiation and training take on slow hardware.
const TRAINING: Duration = Duration::from_secs(10);
/// How long a port stays down at least: a far end has to notice, and one that flaps is followed at this pace.
const HOLD: Duration = Duration::from_millis(200);
/// How long a device that could not be changed is left alone.
const REST: Duration = Duration::from_secs(1);

/// A port of a wire that forwards the loss of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Its ifindex in the snapshot.
    pub(super) port: u32,
    /// Its device; `None` while that is not there.
    pub(super) device: Option<Sighting>,
}

/// The ports of such a wire.
pub(super) type Pair = [End; 2];

/// One look at the devices.
#[derive(Debug)]
pub(super) struct Look<'a> {
    /// By ifindex.
    seen: HashMap<u32, &'a Device>,
    /// Those that have gone since the look before.
    gone: &'a [Gone],
    at: Instant,
}

impl<'a> Look<'a> {
    /// These are the devices just now, and these have gone.
    pub(super) fn of(devices: &'a [Device], gone: &'a [Gone]) -> Look<'a> {
        let seen = devices.iter().map(|device| (device.ifindex, device)).collect();
        Look { seen, gone, at: Instant::now() }
    }

    fn has_gone(&self, ifindex: u32) -> bool {
        self.gone.iter().any(|gone| gone.ifindex == ifindex)
    }

    /// The device of a port, as it is now.
    fn find(&self, end: &End) -> Option<&'a Device> {
        let known = end.device.as_ref()?;
        self.seen.get(&known.ifindex).copied().filter(|device| known.seems(device))
    }
}

/// Takes a device, by its ifindex, up or down.
type Enable<'a> = &'a mut dyn FnMut(u32, bool) -> io::Result<()>;

/// One port of a pair as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// It has a link.
    Up,
    /// It is up, and may have one soon.
    Training,
    /// It has none, and why.
    Lost(&'static str),
    /// It is taken down.
    Taken,
}

/// A device at the last look.
#[derive(Clone, Copy, Debug)]
struct Before {
    enabled: bool,
    /// Since when its first carrier is waited for.
    training: Option<Instant>,
}

/// Who forwards.
#[derive(Debug)]
pub(super) struct LinkLoss {
    record: TakenRecord,
    /// The devices of the pairs and of the record.
    before: HashMap<u32, Before>,
    /// Those that somebody else took up again.
    left: HashSet<u32>,
    /// Those that could not be changed, until when they rest.
    rests: HashMap<u32, Instant>,
    news: News,
}

impl LinkLoss {
    /// Forwards from now on, with what an earlier run left in `dir`.
    pub(super) fn open(dir: &Path) -> LinkLoss {
        LinkLoss {
            record: TakenRecord::open(dir),
            before: HashMap::new(),
            left: HashSet::new(),
            rests: HashMap::new(),
            news: News::default(),
        }
    }

    /// Takes ports down and up as this look asks for. Before the first snapshot there are no pairs, and what is down stays
    /// so. Gives the ports that are taken down now, each with its wire's other one.
    pub(super) fn step(&mut self, pairs: Option<&[Pair]>, look: &Look<'_>, enable: Enable<'_>) -> Vec<(u32, u32)> {
        self.observe(pairs, look);
        if let Some(pairs) = pairs {
            self.take_down(pairs, look, enable);
            let due = self.due(pairs, look);
            self.take_up(due, look.at, enable);
        }
        self.record.keep();
        self.news.catch_up();
        self.taken_down(pairs.unwrap_or_default())
    }

    /// Takes up all that is down.
    pub(super) fn end(&mut self, look: &Look<'_>, enable: Enable<'_>) {
        self.observe(None, look);
        let all = self.record.all().iter().map(|taken| (taken.device.ifindex, "as spanwired ends")).collect();
        self.rests.clear();
        self.take_up(all, look.at, enable);
        for taken in self.record.all() {
            tracing::warn!("{} stays down for a later run (ip link set {} up)", taken.device, taken.device.name);
        }
        self.record.keep();
    }

    /// The ports that are taken down, each with its wire's other one.
    fn taken_down(&self, pairs: &[Pair]) -> Vec<(u32, u32)> {
        let is_taken = |end: &End| end.device.as_ref().is_some_and(|device| self.record.get(device.ifindex).is_some());
        let each = pairs.iter().flat_map(|[a, b]| [(a, b), (b, a)]);
        each.filter(|(own, _)| is_taken(own)).map(|(own, other)| (own.port, other.port)).collect()
    }

    /// Takes note of what has become of the devices.
    fn observe(&mut self, pairs: Option<&[Pair]>, look: &Look<'_>) {
        for taken in self.record.all().to_vec() {
            let device = taken.device;
            let is_there = |now: &&&Device| !look.has_gone(device.ifindex) && device.seems(now);
            match look.seen.get(&device.ifindex).filter(is_there) {
                // What has its names by now, or comes back from elsewhere, is as somebody else has set it up.
                None => self.record.strike(device.ifindex),
                Some(up) if up.enabled => {
                    let what = "somebody else took it up again, and it is left so".to_owned();
                    self.news.info(device.ifindex, &device.name, what);
                    self.record.strike(device.ifindex);
                    self.left.insert(device.ifindex);
                }
                Some(down) => self.record.follow(down),
            }
        }
        let of_pairs = pairs.into_iter().flatten().flatten().filter_map(|end| Some(end.device.as_ref()?.ifindex));
        let of_record = self.record.all().iter().map(|taken| taken.device.ifindex);
        let mut wanted: HashSet<u32> = of_pairs.chain(of_record).collect();
        // Before the first snapshot it may be of any pair.
        if pairs.is_none() {
            wanted.extend(&self.left);
        }
        let before = |(&ifindex, device): (&u32, &&Device)| {
            let training = match self.before.get(&ifindex) {
                _ if device.carrier || !device.enabled => None,
                Some(before) if before.enabled => before.training,
                Some(_) => Some(look.at),
                // Nobody knows for how long it has been without.
                None => None,
            };
            (ifindex, Before { enabled: device.enabled, training })
        };
        self.before = look.seen.iter().filter(|(ifindex, _)| wanted.contains(ifindex)).map(before).collect();
        self.left.retain(|ifindex| self.before.contains_key(ifindex));
        self.rests.retain(|ifindex, until| wanted.contains(ifindex) && *until > look.at);
        self.news.retain(|ifindex| wanted.contains(&ifindex));
    }

    fn side(&self, end: &End, look: &Look<'_>) -> Side {
        let Some(device) = look.find(end) else { return Side::Lost("is missing") };
        if self.record.get(device.ifindex).is_some() {
            return Side::Taken;
        }
        let training = self.before.get(&device.ifindex).and_then(|before| before.training);
        match (device.enabled, device.carrier) {
            (false, _) => Side::Lost("is down"),
            (true, true) => Side::Up,
            (true, false) if training.is_some_and(|since| look.at.duration_since(since) < TRAINING) => Side::Training,
            (true, false) => Side::Lost("has no carrier"),
        }
    }

    /// Takes down each port that has a link while the other one has lost its own.
    fn take_down(&mut self, pairs: &[Pair], look: &Look<'_>, enable: Enable<'_>) {
        let mut due = Vec::new();
        let mut ended = Vec::new();
        let spared = |ifindex| self.left.contains(&ifindex) || self.rests.contains_key(&ifindex);
        for (own, other) in pairs.iter().flat_map(|[a, b]| [(a, b), (b, a)]) {
            let Some(device) = look.find(own) else { continue };
            match (self.side(own, look), self.side(other, look)) {
                (Side::Up, Side::Lost(why)) if !spared(device.ifindex) => {
                    due.extend(own.device.clone().map(|device| (device, other, why)));
                }
                // From here on the next loss counts.
                (_, Side::Up) => ended.push(device.ifindex),
                _ => {}
            }
        }
        self.left.retain(|ifindex| !ended.contains(ifindex));
        due.iter().for_each(|(device, ..)| self.record.add(device.clone(), look.at));
        if !self.record.keep() {
            due.drain(..).for_each(|(device, ..)| self.record.strike(device.ifindex));
        }
        for (device, other, why) in due {
            let Sighting { ifindex, name, .. } = &device;
            let other = other.device.as_ref().map_or_else(|| format!("ifindex {}", other.port), |of| of.name.clone());
            match enable(*ifindex, false) {
                Ok(()) => {
                    self.before.insert(*ifindex, Before { enabled: false, training: None });
                    self.news.info(*ifindex, name, format!("taken down, as {other} {why}, the other port of its wire"));
                }
                Err(error) => {
                    self.record.strike(*ifindex);
                    self.rests.insert(*ifindex, look.at + REST);
                    let what =
                        format!("cannot be taken down, though {other} {why}, the other port of its wire: {error}");
                    self.news.warn(*ifindex, name, what);
                }
            }
        }
    }

    /// What is to be taken up by now, and why.
    fn due(&self, pairs: &[Pair], look: &Look<'_>) -> Vec<(u32, &'static str)> {
        let why = |ifindex: u32, since: Option<Instant>| {
            let is_it = |end: &&End| look.find(end).is_some_and(|device| device.ifindex == ifindex);
            let Some(pair) = pairs.iter().find(|pair| pair.iter().any(|end| is_it(&end))) else {
                return Some("as its wire forwards no loss of a link any more");
            };
            let held = since.is_some_and(|since| look.at.duration_since(since) < HOLD);
            let other = pair.iter().find(|end| !is_it(end)).map(|end| self.side(end, look));
            // Both are where each was in a wire of its own before: one of them has to be up to be watched.
            let is_due = matches!(other, Some(Side::Up | Side::Taken)) && !held;
            is_due.then_some("as the other port of its wire has a link again")
        };
        let all = self.record.all().iter().map(|taken| (taken.device.ifindex, taken.since));
        all.filter_map(|(ifindex, since)| Some((ifindex, why(ifindex, since)?))).collect()
    }

    fn take_up(&mut self, due: Vec<(u32, &'static str)>, now: Instant, enable: Enable<'_>) {
        for (ifindex, why) in due {
            let Some(taken) = self.record.get(ifindex).filter(|_| !self.rests.contains_key(&ifindex)) else { continue };
            let name = taken.device.name.clone();
            match enable(ifindex, true) {
                Ok(()) => {
                    self.record.strike(ifindex);
                    self.before.insert(ifindex, Before { enabled: true, training: Some(now) });
                    self.news.info(ifindex, &name, format!("up again, {why}"));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => self.record.strike(ifindex),
                Err(error) => {
                    self.rests.insert(ifindex, now + REST);
                    self.news.warn(ifindex, &name, format!("cannot be taken up again, {why}: {error}"));
                }
            }
        }
    }
}

/// Takes up what a run that is gone has left down, as `dir` has it, but for the devices that are to stay as they are.
/// Returns the names of those that it took up.
pub(super) fn undo(dir: &Path, stays: impl Fn(&Sighting) -> bool) -> Vec<String> {
    let mut record = TakenRecord::open(dir);
    let left: Vec<Sighting> = record.all().iter().map(|taken| taken.device.clone()).filter(|it| !stays(it)).collect();
    let mut done = Vec::new();
    // Where it is of another network namespace, the file stays for a run there.
    if left.is_empty() {
        return done;
    }
    let present = devices::present().inspect_err(|error| tracing::warn!("cannot list the network devices: {error}"));
    let Ok(present) = present else { return done };
    for device in left {
        let is_down = present.iter().any(|now| device.seems(now) && !now.enabled);
        match if is_down { devices::enable(device.ifindex, true) } else { Ok(()) } {
            Ok(()) if is_down => done.push(device.name),
            Ok(()) => {}
            Err(error) => {
                tracing::warn!("{device} cannot be taken up again: {error}");
                continue;
            }
        }
        record.strike(device.ifindex);
    }
    record.keep();
    done
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
