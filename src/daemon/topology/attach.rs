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

use shm_layout::record::PortRole;

use super::identity::Sighting;
use super::sights::Sights;
use super::{Failed, Lanes, Topology, Want};
use crate::counters::BindingBlock;
use crate::rings::RING_ENTRIES;
use crate::shard::mailbox::{Command, Event};
use crate::shard::port::{Identity, Port};
use crate::steer::PortProgram;
use crate::xsk::abi::{ETH_HLEN, VLAN_HLEN, max_rx_len};
use crate::xsk::netdev::{LinkState, Netdev};
use crate::xsk::offload::VlanOffload;
use crate::xsk::packet_socket::Promiscuous;
use crate::xsk::socket::{self, RingSizes, Socket};
use crate::xsk::umem::SocketId;

/// How long a bind waits for a queue that another socket still holds. The kernel lets go of a closed socket's
/// queue a little later; a longer wait is left to the next try, since the other ports wait with it.
const BIND_PATIENCE: Duration = Duration::from_millis(200);
/// How long a closed zero-copy socket's frames are left alone: the driver lets go of them only after the close.
const ZERO_COPY_REST: Duration = Duration::from_millis(200);

/// Rings of a wire port: the fill ring has room for the device's ring and the rx ring.
const WIRE_RINGS: RingSizes =
    RingSizes { fill: 2 * RING_ENTRIES, rx: RING_ENTRIES, tx: RING_ENTRIES, completion: 2 * RING_ENTRIES };
/// Rings of a monitor port; the kernel wants a fill ring even where nothing is received.
const MONITOR_RINGS: RingSizes = RingSizes { fill: 64, rx: 0, ..WIRE_RINGS };

/// A socket that a shard serves.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) hand: usize,
    pub(super) id: SocketId,
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
    pub(super) sights: Sights,
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

impl Topology {
    pub(super) fn attach(&mut self, ifindex: u32, want: Want, lanes: Lanes) {
        match self.try_attach(ifindex, want, lanes) {
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
    }

    pub(super) fn fail(&mut self, ifindex: u32, reason: String) {
        let label = self.label(ifindex);
        self.news.warn(ifindex, &label, reason.clone());
        self.failed.insert(ifindex, Failed { since: Instant::now(), reason });
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
            sights: Sights::default(),
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
        for queue in 0..lanes.sockets {
            if let Err(reason) = self.bind(&mut port, ifindex, queue) {
                self.close(port);
                return Err(reason);
            }
        }
        // So far no frame goes another way, and none leaves.
        let there = port.is_there();
        if let Err(reason) = there.and_then(|()| self.turn_offloads_off(&mut port)).and_then(|()| lead_in(&port)) {
            self.close(port);
            return Err(reason);
        }
        for bound in &port.bound {
            self.hands[bound.hand].send(bound.link(port.link, port.zero_copy));
        }
        Ok(port)
    }

    /// From here on tags are in the frames; what that changes is on record first.
    fn turn_offloads_off(&mut self, port: &mut Attached) -> Result<(), String> {
        let Some(offload) = &mut port.offload else { return Ok(()) };
        self.record.will_change(Sighting::of(&port.device), offload.changed());
        self.record.keep();
        offload.turn_off().map_err(|error| error.to_string())
    }

    /// Opens a socket, has its shard fill it, and binds it.
    fn bind(&mut self, port: &mut Attached, ifindex: u32, queue: u32) -> Result<(), String> {
        // Queue q of a wire goes with queue q mod m of its other port, so both are in one shard's hands.
        let lane = if port.want.role() == PortRole::Wire { queue % port.lanes.width } else { queue };
        let at = lane as usize % self.hands.len();
        let sizes = if port.want.role() == PortRole::Wire { WIRE_RINGS } else { MONITOR_RINGS };
        let donor = self
            .attached
            .values()
            .flat_map(|port| &port.bound)
            .chain(&port.bound)
            .find(|bound| bound.hand == at)
            .map(|bound| bound.socket.clone());
        let (socket, rings) = socket::open(&self.hands[at].area, donor.as_ref(), port.device.ifindex(), queue, sizes)
            .map_err(|e| e.to_string())?;
        let id = self.ids[at].take().ok_or("the shard's socket ids are used up")?;
        let identity = Identity { socket: id, ifindex, queue, queues: port.lanes.width, role: port.want.role() };
        let block = Arc::new(BindingBlock::default());
        self.hands[at].send(Command::Add(Box::new(Port::new(identity, rings, socket.clone(), Arc::clone(&block)))));
        match self.hands[at].answer() {
            Some(Event::Filled(_)) => {}
            Some(Event::Removed(_)) => {
                self.ids[at].free.push(id);
                return Err(format!("a shard serves at most {} sockets", crate::shard::MAX_PORTS));
            }
            _ => return Err("the shard does not answer".to_owned()),
        }
        // From here on the shard has it, bound or not.
        port.bound.push(Bound { hand: at, id, queue, socket: socket.clone(), block });
        socket.bind(donor.as_ref(), self.config.bind.into(), BIND_PATIENCE).map_err(|e| e.to_string())?;
        port.zero_copy = socket.is_zero_copy();
        Ok(())
    }

    pub(super) fn detach(&mut self, ifindex: u32) {
        if let Some(port) = self.attached.remove(&ifindex) {
            self.news.info(ifindex, port.device.name(), "detached".to_owned());
            self.close(port);
        }
    }

    /// Takes a port down: no more frames in, then its sockets, then what was changed on the device. The program stays
    /// to the end, so that nobody else takes the device meanwhile.
    fn close(&mut self, mut port: Attached) {
        drop(port.program.take_if(|program| !lead_out(program, &port.bound)));
        for bound in port.bound.drain(..) {
            let hand = &self.hands[bound.hand];
            hand.send(Command::Remove(bound.id));
            // The rings are unmapped and the descriptor closed when the last of these is dropped.
            match hand.answer() {
                Some(Event::Removed(rings)) => drop(rings),
                _ => {
                    tracing::error!("shard {} does not let go of a socket", hand.id);
                    continue;
                }
            }
            let (at, id) = (bound.hand, bound.id);
            drop(bound);
            if port.zero_copy {
                std::thread::sleep(ZERO_COPY_REST);
            }
            hand.send(Command::Reclaim(id));
            match hand.answer() {
                Some(Event::Reclaimed(_)) => self.ids[at].free.push(id),
                _ => tracing::error!("shard {} does not take its frames back", hand.id),
            }
        }
        drop(port.promiscuous.take());
        if let Some(offload) = port.offload.take() {
            self.restore(&Sighting::of(&port.device), offload);
        }
        drop(port.program.take());
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

impl Bound {
    pub(super) fn link(&self, link: LinkState, zero_copy: bool) -> Command<Socket> {
        Command::Link { socket: self.id, up: link.up, mtu: link.mtu, zero_copy }
    }
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
