//! Serves a port: its sockets, the frames they send and receive, and the shards they belong to.

use std::os::fd::AsFd;
use std::sync::Arc;

use shm_layout::record::PortRole;

use super::attached::{Attached, Bound};
use super::lanes::Lanes;
use super::mute::Mute;
use super::{Topology, Want};
use crate::kernel::features::{XdpFeatures, xdp_features};
use crate::kernel::xdp::XdpMode;
use crate::rings::RING_ENTRIES;
use crate::shard::limits::MAX_PORTS;
use crate::shard::mailbox::{Command, Event};
use crate::shard::port::{Identity, Port, Seat};
use crate::xsk::custody::SocketId;
use crate::xsk::frame::Primary;
use crate::xsk::room;
use crate::xsk::socket::{self, BindMode, RingSizes};
use crate::xsk::store::Store;

/// Rings of a wire port: the fill ring has room for the device's ring and the rx ring.
const WIRE_RINGS: RingSizes =
    RingSizes { fill: 2 * RING_ENTRIES, rx: RING_ENTRIES, tx: RING_ENTRIES, completion: 2 * RING_ENTRIES };
/// Rings of a monitor port; the kernel wants a fill ring even where nothing is received.
const MONITOR_RINGS: RingSizes = RingSizes { fill: 64, rx: 0, ..WIRE_RINGS };

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

    pub(super) fn give_back(&mut self, id: SocketId) {
        self.free.push(id);
    }
}

impl Topology {
    /// Opens, fills and binds the sockets of a port. Those that were are in the port also where a later one fails.
    pub(super) fn open_sockets(&mut self, port: &mut Attached, ifindex: u32) -> Result<(), String> {
        let places = self.seat(port)?;
        (0..port.lanes.sockets).try_for_each(|queue| self.bind(port, ifindex, queue, &places))
    }

    /// Whether there are frames for a port of a wire that has none yet.
    pub(super) fn fits(&self, want: Want, lanes: Lanes) -> Result<(), String> {
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
            let alike = !other.zero_copy || self.bind_mode(port)? == BindMode::ZeroCopy;
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
    ///
    /// # Errors
    /// As [`Topology::bind_mode_ahead`], which is asked while a wire port has no program yet.
    pub(super) fn bind_mode(&self, port: &Attached) -> Result<BindMode, String> {
        match &port.program {
            Some(program) if program.mode() == XdpMode::Native && !self.has_copying_peer(port) => {
                Ok(self.config.bind.into())
            }
            None if port.want.role() == PortRole::Wire => self.bind_mode_ahead(port),
            _ => Ok(BindMode::Copy),
        }
    }

    /// Whether the wire's other port is in use and copies: the two share their frames, and with them the mode.
    fn has_copying_peer(&self, port: &Attached) -> bool {
        let Want::Wire { peer } = port.want else { return false };
        self.attached.get(&peer).is_some_and(|peer| peer.program.is_some() && !peer.zero_copy)
    }

    /// The same before its program is attached, for a look that changes nothing. Where it cannot be told yet whether the driver
    /// has native XDP it is copy, and what the program is attached in decides.
    ///
    /// # Errors
    /// It is to be zero-copy, and the driver has none.
    pub(super) fn bind_mode_ahead(&self, port: &Attached) -> Result<BindMode, String> {
        let (mode, driver) = (self.config.bind.into(), port.device.driver());
        if mode == BindMode::Copy || !self.config.xdp_mode.prefers_native(driver) || self.has_copying_peer(port) {
            return Ok(BindMode::Copy);
        }
        let features = xdp_features(port.device.ifindex());
        let features = features.map_err(|error| format!("cannot read what {} can: {error}", port.device.name()))?;
        Ok(match features {
            // What is attached will run in generic mode, or nowhere.
            Some(features) if !features.has(XdpFeatures::BASIC) => BindMode::Copy,
            Some(features) if !features.has(XdpFeatures::XSK_ZEROCOPY) => {
                return Err(format!("the driver {driver} has no zero-copy in this kernel: use --bind copy"));
            }
            None if !room::is_known(driver) => BindMode::Copy,
            _ => mode,
        })
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
                self.ids[at].give_back(id);
                return Err(format!("a shard serves at most {} sockets", MAX_PORTS));
            }
            _ => return Err("the shard does not answer".to_owned()),
        }
        // From here on the shard has it, bound or not.
        place.into_iter().for_each(|place| self.frames[at].take_seat(place));
        let mute = Mute::from(&block);
        port.bound.push(Bound { hand: at, place, id, ifindex, queue, socket: socket.clone(), block, mute });
        let patience = self.totals.patience(ifindex, queue);
        let multi_buffer = port.want.role() == PortRole::Monitor && self.facts.multi_buffer;
        let mode = self.bind_mode(port)?;
        socket.bind(donor.as_ref(), mode, multi_buffer, patience).map_err(|e| e.to_string())?;
        self.totals.bound(ifindex, queue);
        port.zero_copy = socket.is_zero_copy();
        Ok(())
    }
}

/// Every queue can receive before any frame is led away from the kernel.
pub(super) fn lead_in(port: &Attached) -> Result<(), String> {
    let Some(program) = &port.program else { return Ok(()) };
    let mut queues = port.bound.iter();
    queues.try_for_each(|b| program.set(b.queue, b.socket.as_fd())).map_err(|error| error.to_string())
}
