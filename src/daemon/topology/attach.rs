//! Takes a port into use and lets go of it.
//!
//! A port goes through these steps, each undone in reverse order if a later one fails:
//!
//! ```text
//! device there, MTU fits ── XDP program, which lets everything pass ── promiscuous ── for each queue:
//!     socket opened ── shard fills it ── bound
//! ── on record ── VLAN offloads off ── sockets entered into the program's map
//! ```

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_layout::counters::Binding;
use shm_layout::record::PortRole;

use super::identity::Sighting;
use super::roster::Served;
use super::{FIRST_REST, Failed, LONGEST_REST, Lanes, Topology, Want};
use crate::counters::BindingBlock;
use crate::kernel::link::XdpMode;
use crate::kernel::steer::PortProgram;
use crate::rings::RING_ENTRIES;
use crate::shard::mailbox::{Command, Event};
use crate::shard::port::{Identity, Port, Seat};
use crate::xsk::abi::{ETH_HLEN, VLAN_HLEN, max_rx_len};
use crate::xsk::custody::SocketId;
use crate::xsk::frame::Primary;
use crate::xsk::netdev::{LinkState, Netdev};
use crate::xsk::offload::VlanOffload;
use crate::xsk::packet_socket::Promiscuous;
use crate::xsk::socket::{self, BindMode, RingSizes, Socket};
use crate::xsk::store::Store;

/// How long a closed zero-copy socket's frames are left alone: the driver lets go of them only after the close.
const ZERO_COPY_REST: Duration = Duration::from_millis(200);

/// Drivers to which the kernel gives the pages of the frames themselves in copy mode too (`IFF_TX_SKB_NO_LINEAR`): what is
/// with the device when a socket closes is still read from them.
const BY_PAGE: [&str; 1] = ["virtio_net"];

/// Rings of a wire port: the fill ring has room for the device's ring and the rx ring.
const WIRE_RINGS: RingSizes =
    RingSizes { fill: 2 * RING_ENTRIES, rx: RING_ENTRIES, tx: RING_ENTRIES, completion: 2 * RING_ENTRIES };
/// Rings of a monitor port; the kernel wants a fill ring even where nothing is received.
const MONITOR_RINGS: RingSizes = RingSizes { fill: 64, rx: 0, ..WIRE_RINGS };

/// A socket that a shard serves.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) hand: usize,
    /// The place of a wire port's frames there.
    pub(super) place: Option<usize>,
    pub(super) id: SocketId,
    /// Its port, by the ifindex in the snapshot.
    pub(super) ifindex: u32,
    pub(super) queue: u32,
    pub(super) socket: Socket,
    pub(super) block: Arc<BindingBlock>,
}

/// A port in use.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) want: Want,
    /// Its device, whose ifindex may be another than the port's.
    pub(super) device: Netdev,
    /// Whether the device is gone: what has its ifindex by now is another one.
    pub(super) is_lost: bool,
    pub(super) link: LinkState,
    pub(super) lanes: Lanes,
    pub(super) zero_copy: bool,
    pub(super) bound: Vec<Bound>,
    pub(super) program: Option<PortProgram>,
    /// Held for what they undo when dropped.
    pub(super) promiscuous: Option<Promiscuous>,
    pub(super) offload: Option<VlanOffload>,
}

/// Socket ids of one shard.
#[derive(Debug, Default)]
pub(super) struct IdPool {
    free: Vec<SocketId>,
    next: SocketId,
}

impl IdPool {
    fn take(&mut self) -> Option<SocketId> {
        self.free.pop().or_else(|| {
            self.next = self.next.checked_add(1)?;
            Some(self.next)
        })
    }
}

impl Attached {
    /// Where its frames on shard `hand` are.
    fn place(&self, hand: usize) -> Option<usize> {
        self.bound.iter().find(|bound| bound.hand == hand)?.place
    }

    /// Frames it was given to send and has not sent.
    fn outstanding(&self) -> u64 {
        self.bound.iter().map(|bound| bound.block.read()[Binding::Outstanding as usize]).sum()
    }

    /// Whether its driver may read frames after their socket is closed.
    fn lends_frames(&self) -> bool {
        lends_frames(self.zero_copy, self.device.driver())
    }

    /// Whether the two have frames at different places, so that one cannot send what the other receives.
    pub(super) fn is_apart_from(&self, other: &Attached) -> bool {
        self.bound.iter().any(|bound| bound.place != other.place(bound.hand))
    }
}

impl Topology {
    /// Takes a port into use, or notes why that cannot be. Whether another one was let go of for it.
    pub(super) fn attach(&mut self, ifindex: u32, want: Want, lanes: Lanes) -> bool {
        let before = self.attached.len();
        let attached = self.try_attach(ifindex, want, lanes);
        // What was laid for a port that failed is nobody's.
        self.lift_unused();
        let moved = self.attached.len() < before;
        match attached {
            Ok(port) => {
                let mode = port.program.as_ref().map_or("transmit only", |p| p.mode().as_str());
                let copy = if port.zero_copy { "zero-copy" } else { "copy" };
                let (name, driver, queues) = (port.device.name(), port.device.driver(), port.bound.len());
                let what = format!("ifindex {ifindex}, {driver}: attached, {mode}, {copy}, {queues} queue(s)");
                self.news.info(ifindex, name, what);
                self.failed.remove(&ifindex);
                self.attached.insert(ifindex, port);
            }
            Err(reason) => self.fail(ifindex, reason),
        }
        moved
    }

    pub(super) fn fail(&mut self, ifindex: u32, reason: String) {
        let label = self.label(ifindex);
        self.news.warn(ifindex, &label, reason.clone());
        let known = self.record.ports().get(&ifindex).and_then(|known| known.device.as_ref());
        let device = known.and_then(|known| self.lookout.device(known.ifindex));
        let before = self.failed.get(&ifindex).filter(|before| before.device == device);
        let rest = before.map_or(FIRST_REST, |before| (2 * before.rest).min(LONGEST_REST));
        self.failed.insert(ifindex, Failed { since: Instant::now(), rest, device, reason });
    }

    fn try_attach(&mut self, ifindex: u32, want: Want, lanes: Lanes) -> Result<Attached, String> {
        let text = |e: &dyn std::error::Error| e.to_string();
        let known = self.record.ports().get(&ifindex).and_then(|known| known.device.as_ref());
        let known = known.ok_or("not there any more")?;
        let device = Netdev::open(known.ifindex).map_err(|e| text(&e))?;
        is_still(known, &device)?;
        let link = LinkState { up: device.up(), mtu: device.mtu() };
        let mut port = Attached {
            want,
            link,
            lanes,
            zero_copy: false,
            bound: Vec::new(),
            program: None,
            promiscuous: None,
            offload: None,
            is_lost: false,
            device,
        };
        if let Some(problem) = port.device.no_ethernet() {
            return Err(problem);
        }
        if port.want.role() == PortRole::Wire {
            if let Some(problem) = mtu_problem(link.mtu, self.config.frame_size) {
                return Err(problem);
            }
            // Before anything is changed: a device whose port finds no frames stays as it is, however often it is tried.
            self.fits(want, lanes)?;
            let found = self.record.found_on(&Sighting::of(&port.device));
            port.offload = Some(VlanOffload::look(&port.device, found).map_err(|e| text(&e))?);
            // First of what is changed: a device that another program holds is left as it is.
            let device = port.device.ifindex();
            let program = PortProgram::attach(device, self.config.xdp_mode, lanes.sockets, port.device.driver());
            port.program = Some(program.map_err(|e| text(&e))?);
            let joined = match self.attached.values().find_map(|port| port.promiscuous.as_ref()) {
                Some(other) => other.join_also(device),
                None => Promiscuous::join(device),
            };
            port.promiscuous = Some(joined.map_err(|e| text(&e))?);
        }
        self.serve(port, ifindex)
    }

    /// Opens the sockets of a port and begins to serve it; where that fails, it is taken down.
    fn serve(&mut self, mut port: Attached, ifindex: u32) -> Result<Attached, String> {
        let sockets = port.lanes.sockets;
        let bound = self
            .seat(&port)
            .and_then(|places| (0..sockets).try_for_each(|queue| self.bind(&mut port, ifindex, queue, &places)));
        // So far no frame goes another way, and none leaves.
        let there = bound.and_then(|()| port.is_there());
        if let Err(reason) = there.and_then(|()| self.turn_offloads_off(&mut port)).and_then(|()| lead_in(&port)) {
            self.close(vec![port]);
            return Err(reason);
        }
        let served = Served {
            device: port.device.ifindex(),
            role: port.want.role(),
            width: port.lanes.width,
            zero_copy: port.zero_copy,
            sockets: port.bound.iter().map(|bound| (bound.hand, bound.id)).collect(),
            link: port.link,
            is_gone: false,
        };
        self.roster.enter(ifindex, served);
        Ok(port)
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
            match self.serve(port, ifindex) {
                Ok(port) => {
                    self.attached.insert(ifindex, port);
                }
                Err(reason) => self.fail(ifindex, reason),
            }
            self.lift_unused();
        }
    }

    /// From here on tags are in the frames; what that changes is on record first.
    fn turn_offloads_off(&mut self, port: &mut Attached) -> Result<(), String> {
        let Some(offload) = &mut port.offload else { return Ok(()) };
        self.record.will_change(Sighting::of(&port.device), offload.changed());
        self.record.keep();
        offload.turn_off().map_err(|error| error.to_string())
    }

    /// Whether there are frames for a port of a wire that has none yet.
    fn fits(&self, want: Want, lanes: Lanes) -> Result<(), String> {
        let Want::Wire { peer } = want else { return Ok(()) };
        if self.attached.contains_key(&peer) {
            return Ok(());
        }
        let mut frames =
            self.frames.iter().enumerate().map(|(hand, frames)| (frames, lanes.both(hand, self.hands.len())));
        frames.try_for_each(|(frames, seats)| if seats > 0 { frames.fits(seats) } else { Ok(()) })
    }

    /// Lets go of the wires that have so much of a given `--frames` that another one would get too little. They are taken
    /// into use anew, with less.
    fn make_room(&mut self, lanes: Lanes) {
        for hand in 0..self.hands.len() {
            let seats = lanes.both(hand, self.hands.len());
            let crowding = if seats > 0 { self.frames[hand].crowding(seats) } else { Vec::new() };
            let crowds = |port: &Attached| port.place(hand).is_some_and(|place| crowding.contains(&place));
            let ports = self.attached.iter().filter(|(_, port)| crowds(port));
            let ports: Vec<u32> = ports.map(|(&ifindex, _)| ifindex).collect();
            for ifindex in &ports {
                let name = self.attached[ifindex].device.name();
                self.news.info(*ifindex, name, "gives frames back, for wires that came later".to_owned());
            }
            self.detach(&ports);
        }
    }

    /// Finds the frames of a wire port, by shard: those of its wire, where the other port is in use, or new ones.
    fn seat(&mut self, port: &Attached) -> Result<Vec<Option<usize>>, String> {
        let shards = self.hands.len();
        let mut places = vec![None; shards];
        let Want::Wire { peer } = port.want else { return Ok(places) };
        let lanes = port.lanes;
        let own = |hand| lanes.own(hand, shards);
        let hands = || (0..shards).filter(|&hand| own(hand) > 0);
        if let Some(other) = self.attached.get(&peer) {
            let room = |hand| other.place(hand).filter(|&place| self.frames[hand].has_room(place, own(hand)));
            let shared: Vec<_> = (0..shards).map(room).collect();
            // A port in zero-copy cannot share its frames with one that copies.
            let alike = !other.zero_copy || self.bind_mode(port) == BindMode::ZeroCopy;
            if alike && hands().all(|hand| shared[hand].is_some()) {
                return Ok(shared);
            }
            self.detach(&[peer]);
        }
        // All of it before the first is laid: what nobody uses yet would be lifted.
        self.make_room(lanes);
        for hand in hands() {
            let seats = lanes.both(hand, shards);
            let (place, share) = self.frames[hand].plan(seats)?;
            let short =
                |error| format!("cannot have {} frames of {} bytes: {error}", seats * share, self.config.frame_size);
            let store = Store::<Primary>::new(seats * share, self.config.frame_size).map_err(short)?;
            self.frames[hand].lay(place, Arc::clone(store.area()), seats, share);
            self.hands[hand].send(Command::Lay { at: place, store: Box::new(store) });
            places[hand] = Some(place);
        }
        Ok(places)
    }

    /// How a port's sockets are to be bound. A monitor's do not send in zero-copy on many drivers, and generic XDP has
    /// none: there the port would receive and never send.
    fn bind_mode(&self, port: &Attached) -> BindMode {
        match &port.program {
            Some(program) if program.mode() == XdpMode::Native => self.config.bind.into(),
            _ => BindMode::Copy,
        }
    }

    /// Opens a socket, has its shard fill it, and binds it.
    fn bind(&mut self, port: &mut Attached, ifindex: u32, queue: u32, places: &[Option<usize>]) -> Result<(), String> {
        let lane = if port.want.role() == PortRole::Wire { queue % port.lanes.width } else { queue };
        let at = lane as usize % self.hands.len();
        let sizes = if port.want.role() == PortRole::Wire { WIRE_RINGS } else { MONITOR_RINGS };
        let place = places[at];
        let held = place.and_then(|place| self.frames[at].at(place));
        let area = held.as_ref().map_or(&self.hands[at].mirror_area, |(area, _)| area);
        let donor = self
            .attached
            .values()
            .flat_map(|port| &port.bound)
            .chain(&port.bound)
            .find(|bound| (bound.hand, bound.place) == (at, place))
            .map(|bound| bound.socket.clone());
        let (socket, rings) =
            socket::open(area, donor.as_ref(), port.device.ifindex(), queue, sizes).map_err(|e| e.to_string())?;
        let id = self.ids[at].take().ok_or("the shard's socket ids are used up")?;
        let shared = port.lanes.sockets > port.lanes.width;
        let seat = place.zip(held).map(|(store, (_, share))| Seat { store, share, shared });
        let (queues, role) = (port.lanes.width, port.want.role());
        let identity = Identity { socket: id, ifindex, queue, queues, role, seat };
        let block = self.totals.block(ifindex, queue);
        self.hands[at].send(Command::Add(Box::new(Port::new(identity, rings, socket.clone(), Arc::clone(&block)))));
        match self.hands[at].answer() {
            Some(Event::Filled(_)) => {}
            Some(Event::Removed(_)) => {
                self.ids[at].free.push(id);
                return Err(format!("a shard serves at most {} sockets", crate::shard::limits::MAX_PORTS));
            }
            _ => return Err("the shard does not answer".to_owned()),
        }
        // From here on the shard has it, bound or not.
        place.into_iter().for_each(|place| self.frames[at].take_seat(place));
        port.bound.push(Bound { hand: at, place, id, ifindex, queue, socket: socket.clone(), block });
        let patience = self.totals.patience(ifindex, queue);
        socket.bind(donor.as_ref(), self.bind_mode(port), patience).map_err(|e| e.to_string())?;
        self.totals.bound(ifindex, queue);
        port.zero_copy = socket.is_zero_copy();
        Ok(())
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
    }

    /// Takes ports down: no more frames in, then their sockets, then what was changed on the devices. The programs stay to
    /// the end, so that nobody else takes a device meanwhile. Each step for all ports at once, as the kernel takes a
    /// while for each.
    fn close(&mut self, mut ports: Vec<Attached>) {
        let stuck = |port: &mut Attached| port.program.take_if(|program| !lead_out(program, &port.bound));
        ports.iter_mut().filter_map(stuck).for_each(drop);
        let lent = ports.iter().any(Attached::lends_frames);
        self.close_sockets(ports.iter_mut().flat_map(|port| port.bound.drain(..)).collect(), lent);
        for port in &mut ports {
            drop(port.promiscuous.take());
            if let Some(offload) = port.offload.take() {
                self.restore(&Sighting::of(&port.device), offload);
            }
        }
        // One after the other: each takes the kernel's one lock of network devices.
        ports.iter_mut().filter_map(|port| port.program.take()).for_each(drop);
    }

    /// Closes sockets and has their frames taken back, after a rest where they are `lent`.
    fn close_sockets(&mut self, bound: Vec<Bound>, lent: bool) {
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
        freed.iter().for_each(|&(hand, id, _)| self.ids[hand].free.push(id));
    }

    /// Gives back the memory of wires that have no socket.
    fn lift_unused(&mut self) {
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
}

impl Attached {
    /// Looks again whether what was attached and bound by its ifindex is the device that was meant: that can have been
    /// deleted meanwhile, and its ifindex given to another.
    fn is_there(&self) -> Result<(), String> {
        let now = Netdev::open(self.device.ifindex()).map_err(|error| error.to_string())?;
        is_still(&Sighting::of(&self.device), &now)
    }
}

/// Whether a device has neither gone nor changed since it was seen.
fn is_still(known: &Sighting, now: &Netdev) -> Result<(), String> {
    let now = Sighting::of(now);
    // An address of another kind is none to go by.
    let alike = known.mac.is_none() || known.mac == now.mac;
    if alike && (&known.name, &known.driver) == (&now.name, &now.driver) {
        return Ok(());
    }
    Err(format!("{known} is {now} by now"))
}

/// Every queue can receive before any frame is led away from the kernel.
fn lead_in(port: &Attached) -> Result<(), String> {
    let Some(program) = &port.program else { return Ok(()) };
    let mut queues = port.bound.iter();
    queues.try_for_each(|b| program.set(b.queue, b.socket.as_fd())).map_err(|error| error.to_string())
}

/// Leaves the frames to the kernel again. Whether that could be done.
fn lead_out(program: &PortProgram, bound: &[Bound]) -> bool {
    bound.iter().all(|b| program.clear(b.queue).is_ok())
}

/// Threads that close sockets.
const CLOSERS: usize = 32;

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

/// Whether frames go to the driver of a socket themselves, and not copies of them.
fn lends_frames(zero_copy: bool, driver: &str) -> bool {
    zero_copy || BY_PAGE.contains(&driver)
}

/// Why a port with this MTU cannot receive into frames of this size: the largest frame carries two tags.
pub(super) fn mtu_problem(mtu: u32, frame_size: u32) -> Option<String> {
    let fits = max_rx_len(frame_size) - ETH_HLEN - 2 * VLAN_HLEN;
    (mtu > fits).then(|| {
        let larger = max_rx_len(4096) - ETH_HLEN - 2 * VLAN_HLEN;
        let advice = match frame_size < 4096 {
            true if mtu <= larger => "; --frame-size 4096 takes it".to_owned(),
            true => format!("; --frame-size 4096 takes at most {larger}"),
            false => String::new(),
        };
        format!("MTU {mtu} does not fit frames of {frame_size} bytes (at most {fits}){advice}")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_sends_from_the_frames_is_given_time_for_them() {
        for (zero_copy, driver, lent) in
            [(true, "igb", true), (false, "igb", false), (false, "veth", false), (false, "virtio_net", true)]
        {
            assert_eq!(lends_frames(zero_copy, driver), lent, "{driver}");
        }
    }

    #[test]
    fn an_mtu_fits_with_two_tags_and_headroom() {
        assert_eq!(mtu_problem(1500, 2048), None);
        assert_eq!(mtu_problem(1770, 2048), None);
        let problem = mtu_problem(1771, 2048).unwrap();
        assert!(problem.contains("1771") && problem.contains("1770") && problem.contains("4096 takes it"), "{problem}");
        assert_eq!(mtu_problem(3818, 4096), None);
        // No advice to do what is done, or what does not help.
        let problem = mtu_problem(9000, 4096).unwrap();
        assert!(problem.contains("3818") && !problem.contains("--frame-size"), "{problem}");
        assert!(mtu_problem(9000, 2048).unwrap().contains("--frame-size 4096 takes at most 3818"));
    }
}
