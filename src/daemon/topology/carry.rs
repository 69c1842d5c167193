//! Wires on the kernel path: which they are, and the selectors on their ports.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::attached::Attached;
use super::identity::Place;
use super::sighting::Sighting;
use super::{Places, Plan, Topology, Want};
use crate::daemon::config::OnExit;
use crate::daemon::crossing::Course;
use crate::kernel::clsact::Filter;
use crate::kernel::features::PortFacts;
use crate::kernel::hold::{self, Hold, HoldError};
use crate::kernel::others;
use crate::kernel::path::{Path, PathChoice, choose};
use crate::kernel::pins;
use crate::kernel::program::Hook;
use crate::kernel::xdp::LinkError;
use crate::snapshot::table::Table;
use crate::xsk::netdev::Netdev;

/// How a wire's frames cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) path: Path,
    /// Why this one, for people.
    pub(super) reason: String,
}

impl Way {
    /// The hook of a selector; `None` on the shard path.
    pub(super) fn hook(&self) -> Option<Hook> {
        match self.path {
            Path::Xdp => Some(Hook::Xdp),
            Path::Tc => Some(Hook::Tc),
            Path::Shard => None,
        }
    }
}

/// The ways of wires by their ports, or why there is none.
pub(super) type Ways = BTreeMap<u32, Result<Way, String>>;

/// What came of wires that were tried on xdp. Some drivers say only with a program attached what they can, and a wire that
/// has left xdp for that has no program any more: without this it would be back, again and again.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// What each was left with.
    left: BTreeMap<(u32, u32), (Tried, Way)>,
    /// What each was judged for last.
    last: BTreeMap<(u32, u32), Tried>,
}

/// What a trial holds for: the devices and their MTUs.
type Tried = [(u32, u32); 2];

impl Trials {
    /// The way of a wire on which the choice has fallen: the one that an earlier trial left, if it was xdp. It `is_tried`
    /// while both drivers have a program.
    fn judge(&mut self, wire: (u32, u32), of: Tried, is_tried: bool, way: Way) -> Way {
        self.last.insert(wire, of);
        match self.left.get(&wire) {
            Some((tried, left)) if *tried == of && way.path == Path::Xdp && !is_tried => return left.clone(),
            Some(_) if is_tried => drop(self.left.remove(&wire)),
            _ => {}
        }
        if is_tried && way.path != Path::Xdp {
            self.left.insert(wire, (of, way.clone()));
        }
        way
    }

    /// The driver of a port has refused the program: its wire is left to tc.
    fn refused(&mut self, port: u32, reason: String) {
        if let Some((&wire, &of)) = self.last.iter().find(|((a, b), _)| [a, b].contains(&&port)) {
            self.left.insert(wire, (of, Way { path: Path::Tc, reason }));
        }
    }
}

impl Topology {
    /// Chooses the ways of the wires whose ports are there.
    pub(super) fn ways(&mut self, table: &Table, places: &Places) -> Ways {
        let device_of = |port| places.get(port).and_then(Place::device).unwrap_or_default();
        self.trials.left.retain(|wire, _| table.wires.contains(wire));
        self.trials.last.retain(|wire, _| table.wires.contains(wire));
        let mut ways = Ways::new();
        for (a_port, b_port) in &table.wires {
            let (Some(of_a), Some(of_b)) = (self.facts(*a_port, places), self.facts(*b_port, places)) else { continue };
            let read = of_a.and_then(|a| Ok((a, of_b?)));
            let now = |port| self.attached.get(port).and_then(|port| port.way.clone());
            // A device that is being renamed cannot be read just then: in use it stays as it is.
            let kept = now(a_port).zip(now(b_port)).filter(|_| read.is_err()).map(|(way, _)| way);
            let way = match kept {
                Some(way) => Ok(way),
                None => read.and_then(|(a, b)| {
                    let (path, reason) = choose(self.config.path, &a, &b, &self.facts)?;
                    let tried = [(device_of(a_port), a.mtu), (device_of(b_port), b.mtu)];
                    // Of what somebody else's program can, nothing follows for ours.
                    let is_tried = [&a, &b].iter().all(|port| port.has_program && !port.is_taken);
                    Ok(self.trials.judge((*a_port, *b_port), tried, is_tried, Way { path, reason }))
                }),
            };
            ways.insert(*a_port, way.clone());
            ways.insert(*b_port, way);
        }
        ways
    }

    /// What decides about a port; `None` where that is not there.
    fn facts(&self, port: u32, places: &Places) -> Option<Result<PortFacts, String>> {
        let device = places.get(&port).and_then(Place::device)?;
        let device = match Netdev::open(device) {
            Ok(device) => device,
            Err(error) => return Some(Err(error.to_string())),
        };
        let facts = PortFacts::of(&device).and_then(|facts| {
            let is_taken = self.is_taken(port, device.ifindex())?;
            // Another path is not asked for while it cannot be had.
            let lost =
                self.upkeep.contests.lost(&Sighting::of(&device)).filter(|_| self.config.path == PathChoice::Auto);
            let again = |what| format!("somebody turns {what} of {} on again and again", device.name());
            Ok(PortFacts { is_taken, no_tags: facts.no_tags.or(lost.map(again)), ..facts })
        });
        Some(facts.map_err(|error| format!("cannot read what {} can: {error}", device.name())))
    }

    /// Whether no other dataplane has the frames of a device, at whichever hook: before anything is changed on it.
    pub(super) fn is_free(&self, device: u32) -> Result<(), String> {
        let place = self.carrier.as_ref().map(|carrier| carrier.place());
        let folders = self.pins.iter().map(PathBuf::as_path).chain(place.and_then(|place| place.folder));
        let other = others::other(device, &pins::name(&self.config.dir), folders, self.facts.tcx);
        other.map_err(|error| format!("cannot tell whether others have its frames: {error}"))?.map_or(Ok(()), Err)
    }

    /// Whether XDP on the device of a port is somebody else's, who may let frames go on to tc.
    fn is_taken(&self, port: u32, device: u32) -> io::Result<bool> {
        let held = self.attached.get(&port).filter(|held| !held.is_lost && held.device.ifindex() == device);
        let hook = held.and_then(|held| Some(held.hold.as_ref()?.instance().hook));
        match &self.carrier {
            Some(carrier) if hook != Some(Hook::Xdp) => Hold::is_taken(port, device, &carrier.place()),
            _ => Ok(false),
        }
    }

    /// Puts the selector on a port that is ready for it: from here on its frames cross.
    pub(super) fn hold(&mut self, port: &mut Attached, ifindex: u32, hook: Hook, peer: u32) -> Result<(), String> {
        let carrier = self.carrier.as_ref().map(Arc::clone).ok_or("there is no kernel path here")?;
        let device = port.device.ifindex();
        let selector = carrier.selector(ifindex, hook, device, peer).map_err(|error| error.to_string())?;
        if let Want::Wire { peer: other } = port.want {
            let course = Course { hook, device, across: peer, is_up: self.is_up(other) };
            self.crossings.measure(ifindex, other, course);
        }
        let hold = Hold::take(&selector, ifindex, device, &carrier.place());
        let hold = hold.map_err(|error| {
            self.crossings.rest(ifindex);
            if let HoldError::Xdp(refused @ (LinkError::Refused { .. } | LinkError::Unsupported { .. })) = &error
                && self.config.path == PathChoice::Auto
            {
                self.trials.refused(ifindex, refused.why());
            }
            error.to_string()
        })?;
        self.crossings.carries(ifindex, hold.rows(), hold.found().map_or(0, |found| found.unseen));
        if let Some(found) = hold.found() {
            let what = format!("its selector was found on it; {} frames have crossed unseen meanwhile", found.unseen);
            self.news.info(ifindex, port.device.name(), what);
        }
        port.hold = Some(hold);
        Ok(())
    }

    /// Has carried wires cross by another hook where the choice has fallen on that. The selectors there are on before the
    /// older ones are off: no frame meets none. Where one cannot be had the wire stays as it is.
    pub(super) fn go_over(&mut self, plan: &Plan) {
        let mut older = Vec::new();
        let ports: Vec<u32> = self.attached.keys().copied().collect();
        let due: Vec<_> = ports.into_iter().filter_map(|port| self.goes_over(port, plan)).collect();
        for (ifindex, hook, way) in due {
            let Some(mut port) = self.attached.remove(&ifindex) else { continue };
            let (hold, was, reason) = (port.hold.take(), port.way.replace(way.clone()), way.reason);
            let peer = match port.want {
                Want::Wire { peer } => plan.places.get(&peer).and_then(Place::device).unwrap_or(0),
                Want::Monitor => 0,
            };
            let ready = self.prepare(&mut port, ifindex, hook).and_then(|()| self.change(&mut port));
            match ready.and_then(|()| self.hold(&mut port, ifindex, hook, peer)) {
                Ok(()) => {
                    self.news.info(ifindex, port.device.name(), format!("goes over to {hook}: {reason}"));
                    older.extend(hold);
                }
                Err(error) => {
                    let what = format!("cannot go over to {hook}, though {reason}: {error}");
                    self.news.warn(ifindex, port.device.name(), what);
                    (port.hold, port.way) = (hold, was);
                }
            }
            self.attached.insert(ifindex, port);
        }
        // Those of both ports of a wire last: drivers take what the other one redirects only while they have a program.
        for hold in older {
            if let Err(error) = hold.detach() {
                tracing::warn!("a selector cannot be taken off: {error}");
            }
        }
    }

    /// The hook, and why, that a port is to be carried by in place of the one it is carried by.
    fn goes_over(&self, ifindex: u32, Plan { places, ways, .. }: &Plan) -> Option<(u32, Hook, Way)> {
        let port = self.attached.get(&ifindex).filter(|port| !port.is_lost)?;
        let (by, way) = (port.hold.as_ref()?.instance().hook, ways.get(&ifindex)?.as_ref().ok()?);
        let is_there = places.get(&ifindex).and_then(Place::device) == Some(port.device.ifindex());
        let hook = way.hook().filter(|&hook| is_there && hook != by)?;
        Some((ifindex, hook, way.clone()))
    }

    /// Has the selectors send to the devices that are their peers by now, or to none.
    pub(super) fn repoint(&mut self, Plan { places, .. }: &Plan) {
        for (&ifindex, port) in &mut self.attached {
            let (Some(hold), Want::Wire { peer }) = (&mut port.hold, port.want) else { continue };
            let device = places.get(&peer).and_then(Place::device).unwrap_or(0);
            // One that has gone meanwhile there is news of.
            if let Err(error) = hold.point(device) {
                let what = format!("its frames do not go to ifindex {device}, the wire's other port: {error}");
                self.news.warn(ifindex, port.device.name(), what);
            }
        }
    }

    /// Whether a port has a link, as far as is known.
    fn is_up(&self, port: u32) -> bool {
        self.attached.get(&port).is_none_or(|port| port.link.up)
    }

    /// Has what crosses counted, of the selectors and to the devices that there are by now.
    pub(super) fn follow_crossings(&mut self, Plan { places, .. }: &Plan) {
        for (&ifindex, port) in &self.attached {
            let (Some(hold), Want::Wire { peer }) = (&port.hold, port.want) else { continue };
            let across = places.get(&peer).and_then(Place::device).unwrap_or(0);
            let (hook, device) = (hold.instance().hook, port.device.ifindex());
            let course = Course { hook, device, across, is_up: self.is_up(peer) };
            self.crossings.follow(ifindex, peer, course, &hold.rows());
        }
        self.crossings.refresh();
    }

    /// Takes note of what has crossed and was lost so far, for the run that finds it.
    pub(super) fn note_crossings(&self) {
        self.attached.values().filter_map(|port| port.hold.as_ref()).for_each(Hold::note);
        self.carrier.iter().for_each(|carrier| carrier.note());
    }

    /// Takes off what is pinned for ports that are not wanted, or that another program serves by now.
    pub(super) fn sweep(&mut self, plan: &Plan) {
        let wanted = |port: u32, hook: Hook| match self.attached.get(&port) {
            Some(attached) => attached.hold.as_ref().is_some_and(|hold| hold.instance().hook == hook),
            // What a port that waits to be taken into use has left goes on crossing.
            None => matches!(plan.wanted.get(&port), Some(Want::Wire { .. })),
        };
        match self.sweep_all(wanted) {
            Ok(0) => {}
            Ok(swept) => tracing::info!("{swept} selector(s) of an earlier run are taken off"),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Takes off what an earlier run has left on a port. Returns how many selectors.
    pub(super) fn take_off(&self, ifindex: u32) -> Result<usize, String> {
        self.sweep_all(|port, _| port != ifindex)
    }

    fn sweep_all(&self, wanted: impl Fn(u32, Hook) -> bool) -> Result<usize, String> {
        let mut swept = 0;
        for folder in &self.pins {
            let of_it = hold::sweep(folder, &wanted).map_err(|error| format!("{}: {error}", folder.display()));
            swept += of_it.map_err(|error| format!("what an earlier run has left may be there still: {error}"))?;
        }
        // Filters stay where nothing can be pinned, too.
        if self.pins.is_empty() && !self.facts.tcx {
            let filters = hold::sweep_filters(&pins::name(&self.config.dir), |port| wanted(port, Hook::Tc));
            swept += filters.map_err(|error| format!("filters of an earlier run may be there still: {error}"))?;
        }
        Ok(swept)
    }

    /// The ports that have selectors, of whichever run: also those that are not in use, whose wires go on crossing.
    pub(super) fn crossing(&self) -> Vec<u32> {
        let pinned = self.pins.iter().flat_map(|folder| hold::ports(folder).unwrap_or_default());
        let filters = || Filter::all(&pins::name(&self.config.dir)).unwrap_or_default();
        let filters = if self.pins.is_empty() && !self.facts.tcx { filters() } else { Vec::new() };
        pinned.chain(filters.iter().map(Filter::port)).collect()
    }

    /// The ports whose wires go on crossing when this process ends. None where everything is to be cut.
    pub(super) fn left_crossing(&self) -> Vec<u32> {
        if self.config.on_exit == OnExit::Keep {
            return self.crossing();
        }
        if let Err(error) = self.sweep_all(|_, _| false) {
            tracing::warn!("{error}");
        }
        Vec::new()
    }

    /// The ports whose wires go on crossing when this process ends. Of one that is not whole the frames of one port would
    /// cross, and those of the other be the kernel's own: nothing of it stays.
    pub(super) fn stays(&self, port: &Attached) -> bool {
        let Want::Wire { peer } = port.want else { return false };
        let is_pinned = port.hold.as_ref().is_some_and(Hold::is_pinned);
        self.config.on_exit == OnExit::Keep && is_pinned && self.left_crossing().contains(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_that_xdp_did_not_suit_is_not_tried_again_until_something_changes() {
        let way = |path| Way { path, reason: format!("{path:?}") };
        let (wire, of) = ((1, 2), [(11, 1500), (12, 1500)]);
        let mut trials = Trials::default();
        let mut judged = |of, is_tried, path| trials.judge(wire, of, is_tried, way(path)).path;
        assert_eq!(judged(of, false, Path::Xdp), Path::Xdp);
        assert_eq!(judged(of, true, Path::Tc), Path::Tc);
        assert_eq!(judged(of, false, Path::Xdp), Path::Tc, "without the programs the drivers say less");
        assert_eq!(judged(of, false, Path::Shard), Path::Shard);
        for other in [[(11, 9000), (12, 1500)], [(11, 1500), (13, 1500)]] {
            assert_eq!(judged(other, false, Path::Xdp), Path::Xdp, "{other:?}");
        }
        // Programs of a later trial say something else.
        assert_eq!(judged(of, true, Path::Xdp), Path::Xdp);
        assert_eq!(judged(of, false, Path::Xdp), Path::Xdp);
    }

    /// Until its devices or their MTUs are others, though the driver says that it can.
    #[test]
    fn a_wire_whose_driver_refuses_the_program_is_left_to_tc() {
        let xdp = || Way { path: Path::Xdp, reason: String::new() };
        for port in [1, 2] {
            let (wire, of) = ((1, 2), [(11, 1500), (12, 1500)]);
            let mut trials = Trials::default();
            assert_eq!(trials.judge(wire, of, false, xdp()).path, Path::Xdp);
            trials.refused(3, "of another wire".to_owned());
            assert_eq!(trials.judge(wire, of, false, xdp()).path, Path::Xdp);
            trials.refused(port, "LRO is on".to_owned());
            let left = trials.judge(wire, of, false, xdp());
            assert_eq!(left, Way { path: Path::Tc, reason: "LRO is on".to_owned() });
            assert_eq!(trials.judge(wire, [(11, 9000), (12, 1500)], false, xdp()).path, Path::Xdp);
        }
    }
}
