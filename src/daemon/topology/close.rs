//! Lets go of ports: of their sockets, and of what was changed on their devices.

use std::time::Duration;

use shm_layout::record::PortRole;

use super::attached::{Attached, Bound};
use super::identity::Place;
use super::lanes::Lanes;
use super::sighting::Sighting;
use super::{Plan, Topology, Want};
use crate::kernel::steer::PortProgram;
use crate::shard::mailbox::{Command, Event};
use crate::xsk::custody::SocketId;
use crate::xsk::offload::Offload;
use crate::xsk::room;

/// How long a closed zero-copy socket's frames are left alone: the driver lets go of them only after the close.
const ZERO_COPY_REST: Duration = Duration::from_millis(200);

/// Threads that close sockets.
const CLOSERS: usize = 32;

impl Topology {
    /// Whether an attached port cannot be kept.
    pub(super) fn must_go(&mut self, ifindex: u32, Plan { wanted, places, ways, .. }: &Plan) -> bool {
        let Some(port) = self.attached.get_mut(&ifindex) else { return false };
        if wanted.get(&ifindex).map(|want| want.role()) != Some(port.want.role()) {
            return true;
        }
        if let Some(&want) = wanted.get(&ifindex) {
            port.want = want;
        }
        if port.is_lost {
            return true;
        }
        // At tc by now, where it can be.
        if port.is_contested && port.is_read_in_driver() {
            return true;
        }
        // Its name is another device's by now.
        let device = port.device.ifindex();
        if places.get(&ifindex).and_then(Place::device) != Some(device) {
            return true;
        }
        if let (Some(Ok(now)), Some(was)) = (ways.get(&ifindex), &port.way)
            && now.path != was.path
            && (now.hook().is_none() || was.hook().is_none())
        {
            self.news.info(ifindex, port.device.name(), format!("goes over to {}: {}", now.path.as_str(), now.reason));
            return true;
        }
        // Queues changed, or another port at the wire's other end: frames would go to queues nobody serves. While
        // the other end is not there, everything stays as it is.
        let now = Lanes::of(ifindex, port.want, places, ways).ok().flatten();
        if now.is_some_and(|now| (now.sockets, now.width) != (port.lanes.sockets, port.lanes.width)) {
            self.news.info(ifindex, port.device.name(), "the wire's queues have changed".to_owned());
            return true;
        }
        // Ports that have become a wire while both were in use: each has frames the other cannot send.
        if let Want::Wire { peer } = port.want
            && self.attached.get(&peer).is_some_and(|peer| self.attached[&ifindex].is_apart_from(peer))
        {
            tracing::info!("ports {ifindex} and {peer} are a wire now: both are taken into use anew");
            return true;
        }
        let Some(port) = self.attached.get(&ifindex) else { return false };
        port.want.role() == PortRole::Wire
            && port.hold.is_none()
            && room::problem(port.link.mtu, self.config.frame_size, port.device.driver(), port.bind_mode()).is_some()
    }

    /// Lets go of ports.
    pub(super) fn detach(&mut self, ifindexes: &[u32]) {
        let ports = ifindexes.iter().filter_map(|ifindex| Some((*ifindex, self.attached.remove(ifindex)?)));
        let ports: Vec<(u32, Attached)> = ports.collect();
        for (ifindex, port) in &ports {
            self.roster.strike(*ifindex);
            self.news.info(*ifindex, port.device.name(), "detached".to_owned());
        }
        self.close(ports.into_iter().map(|(_, port)| port).collect());
        ifindexes.iter().for_each(|&ifindex| self.crossings.rest(ifindex));
    }

    /// Takes ports down: no more frames in, then their sockets, then what was changed on the devices. The programs stay to
    /// the end, so that nobody else takes a device meanwhile. Each step for all ports at once, as the kernel takes a
    /// while for each.
    pub(super) fn close(&mut self, mut ports: Vec<Attached>) {
        let stuck = |port: &mut Attached| port.program.take_if(|program| !lead_out(program, &port.bound));
        ports.iter_mut().filter_map(stuck).for_each(drop);
        let lent = ports.iter().any(Attached::lends_frames);
        self.close_sockets(ports.iter_mut().flat_map(|port| port.bound.drain(..)).collect(), lent);
        for port in &mut ports {
            if let Some(hold) = port.hold.take()
                && let Err(error) = hold.detach()
            {
                tracing::warn!("the selector of {} cannot be taken off: {error}", port.device.name());
            }
            drop(port.promiscuous.take());
            // A device that nothing was changed on yet stays as it is, however often its port is tried.
            if let Some(keeps) = port.keeps.take() {
                port.offload.take().into_iter().for_each(Offload::leave);
                self.restore(&Sighting::of(&port.device), keeps);
            }
        }
        // One after the other: each takes the kernel's one lock of network devices.
        ports.iter_mut().filter_map(|port| port.program.take()).for_each(drop);
    }

    /// Closes sockets and has their frames taken back, after a rest where they are `lent`.
    pub(super) fn close_sockets(&mut self, bound: Vec<Bound>, lent: bool) {
        bound.iter().for_each(|bound| self.hands[bound.hand].send(Command::Remove(bound.id)));
        let (mut freed, mut last) = (Vec::new(), Vec::new());
        for bound in bound {
            // The rings are unmapped and the descriptor closed when the last of these is dropped.
            match self.hands[bound.hand].answer() {
                Some(Event::Removed(rings)) => {
                    self.totals.close(bound.ifindex, bound.queue, &bound.socket);
                    freed.push((bound.hand, bound.id, bound.place));
                    last.push((rings, bound.socket));
                }
                _ => tracing::error!("shard {} does not let go of a socket", self.hands[bound.hand].id),
            }
        }
        drop_all(last);
        if lent {
            std::thread::sleep(ZERO_COPY_REST);
        }
        for &(hand, _, place) in &freed {
            place.into_iter().for_each(|place| self.frames[hand].leave_seat(place));
        }
        // Frames of a wire that has no socket left go with it, wherever they are.
        let stays = |&&(hand, _, place): &&(usize, SocketId, Option<usize>)| {
            place.is_none_or(|place| self.frames[hand].is_used(place))
        };
        let reclaimed: Vec<_> = freed.iter().filter(stays).copied().collect();
        for &(hand, socket, store) in &reclaimed {
            self.hands[hand].send(Command::Reclaim { socket, store });
        }
        for (hand, ..) in reclaimed {
            if !matches!(self.hands[hand].answer(), Some(Event::Reclaimed(_))) {
                tracing::error!("shard {} does not take its frames back", self.hands[hand].id);
            }
        }
        self.lift_unused();
        freed.iter().for_each(|&(hand, id, _)| self.ids[hand].give_back(id));
    }

    /// Gives back the memory of wires that have no socket.
    pub(super) fn lift_unused(&mut self) {
        for (hand, frames) in self.hands.iter().zip(&mut self.frames) {
            let places = frames.lift_unused();
            places.iter().for_each(|&place| hand.send(Command::Lift(place)));
            for _ in places {
                match hand.answer() {
                    Some(Event::Lifted(store)) => drop(store),
                    _ => tracing::error!("shard {} does not give frames back", hand.id),
                }
            }
        }
    }

    /// Takes back what ports that are down were given to send: sent when they are up again, it would be old. No frame
    /// can be taken out of a tx ring, so their sockets are closed, and opened anew for when the link comes back. The
    /// program and what was changed on the device stay.
    pub(super) fn take_back(&mut self) {
        let holds = |port: &Attached| !port.link.up && !port.is_lost && port.outstanding() > 0;
        let down: Vec<u32> =
            self.attached.iter().filter(|(_, port)| holds(port)).map(|(&ifindex, _)| ifindex).collect();
        for ifindex in down {
            let Some(mut port) = self.attached.remove(&ifindex) else { continue };
            self.roster.strike(ifindex);
            tracing::debug!("port {}: {} frames were not sent", port.device.name(), port.outstanding());
            if port.program.as_ref().is_some_and(|program| !lead_out(program, &port.bound)) {
                // Taken into use from the beginning, with the next look.
                self.close(vec![port]);
                continue;
            }
            self.close_sockets(port.bound.drain(..).collect(), port.lends_frames());
            match self.begin(port, ifindex, None) {
                Ok(port) => {
                    self.attached.insert(ifindex, port);
                }
                Err(reason) => self.fail(ifindex, reason),
            }
            self.lift_unused();
        }
    }
}

/// Leaves the frames to the kernel again. Whether that could be done.
fn lead_out(program: &PortProgram, bound: &[Bound]) -> bool {
    bound.iter().all(|b| program.clear(b.queue).is_ok())
}

/// Drops values of which each keeps its thread waiting until no processor uses it: several wait together.
fn drop_all<T: Send>(values: Vec<T>) {
    let each = values.len().div_ceil(CLOSERS);
    if each == 0 || values.len() == 1 {
        return;
    }
    let mut values = values.into_iter();
    std::thread::scope(|scope| {
        loop {
            let some: Vec<T> = values.by_ref().take(each).collect();
            if some.is_empty() {
                break;
            }
            // Where no thread can be had, they are dropped here with the closure.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(some));
        }
    });
}
