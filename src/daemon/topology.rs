//! Follows the ports: attaches those the snapshot uses when they are there, lets go of them when they are not.
//!
//! A port goes through these steps, each undone in reverse order if a later one fails:
//!
//! ```text
//! device there, MTU fits ── VLAN offloads off ── promiscuous ── XDP program ── for each queue:
//!     socket opened ── shard fills it ── bound ── entered into the program's map
//! ```
//!
//! A port that fails is tried again after `RETRY`. Nothing here touches another port.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shm_layout::counters::Binding;
use shm_layout::record::PortRole;

use super::TICK;
use super::config::Config;
use super::links::Links;
use super::report::{BindingStatus, PortStatus, Report};
use super::worker::Hand;
use crate::counters::BindingBlock;
use crate::rings::RING_ENTRIES;
use crate::shard::mailbox::{Command, Event, Output};
use crate::shard::port::{Identity, Port};
use crate::snapshot::table::{Current, Table};
use crate::steer::PortProgram;
use crate::xsk::abi::{ETH_HLEN, VLAN_HLEN, max_rx_len};
use crate::xsk::netdev::{self, LinkState, Netdev, VlanOffload};
use crate::xsk::packet_socket::Promiscuous;
use crate::xsk::socket::{self, RingSizes, Socket};
use crate::xsk::umem::SocketId;

/// How long a port that failed is left alone.
const RETRY: Duration = Duration::from_millis(500);
/// How often all ports are looked at even if the kernel tells of no change: of a change of queues it may not.
const LOOK: Duration = Duration::from_millis(250);
/// The shortest time between two looks, however much the kernel tells.
const PAUSE: Duration = Duration::from_millis(10);
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

/// What a port is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Wire { peer: u32 },
    Monitor,
}

impl Want {
    fn role(self) -> PortRole {
        match self {
            Want::Wire { .. } => PortRole::Wire,
            Want::Monitor => PortRole::Monitor,
        }
    }
}

/// A socket that a shard serves.
#[derive(Debug)]
struct Bound {
    hand: usize,
    id: SocketId,
    queue: u32,
    socket: Socket,
    block: Arc<BindingBlock>,
}

/// How the queues of a port are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lanes {
    /// Sockets: a wire port's rx queues, a monitor port's tx queues.
    sockets: u32,
    /// Queues frames are sent on: for a wire, those that both its ports have in both directions.
    width: u32,
}

impl Lanes {
    /// As the devices are now; `None` while one of them is not there.
    fn of(ifindex: u32, want: Want) -> Option<Lanes> {
        let own = Netdev::open(ifindex).ok()?.queues();
        match want {
            Want::Monitor => Some(Lanes { sockets: own.tx, width: own.tx }),
            Want::Wire { peer } => {
                let other = Netdev::open(peer).ok()?.queues();
                Some(Lanes { sockets: own.rx, width: own.rx.min(own.tx).min(other.rx).min(other.tx).max(1) })
            }
        }
    }
}

/// A port in use.
#[derive(Debug)]
struct Attached {
    want: Want,
    device: Netdev,
    link: LinkState,
    lanes: Lanes,
    zero_copy: bool,
    bound: Vec<Bound>,
    program: Option<PortProgram>,
    /// Held for what they undo when dropped, after the program.
    promiscuous: Option<Promiscuous>,
    offload: Option<VlanOffload>,
}

/// A port that could not be attached.
#[derive(Debug)]
struct Failed {
    since: Instant,
    reason: String,
}

/// What is wanted of which port.
#[derive(Debug)]
struct Plan {
    table: Arc<Table>,
    wanted: BTreeMap<u32, Want>,
    /// When everything was last looked at.
    since: Instant,
}

/// Owns every socket and every attached program.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    table: Arc<Current>,
    hands: Vec<Hand>,
    report: Arc<Report>,
    attached: BTreeMap<u32, Attached>,
    failed: HashMap<u32, Failed>,
    ids: Vec<IdPool>,
    /// Outputs the shards have been told are up.
    outputs_up: Vec<Output>,
}

/// Socket ids of one shard.
#[derive(Debug, Default)]
struct IdPool {
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
    /// A topology with nothing attached.
    pub fn new(config: Config, table: Arc<Current>, hands: Vec<Hand>, report: Arc<Report>) -> Topology {
        let ids = hands.iter().map(|_| IdPool::default()).collect();
        Topology {
            config,
            table,
            hands,
            report,
            attached: BTreeMap::new(),
            failed: HashMap::new(),
            ids,
            outputs_up: Vec::new(),
        }
    }

    /// Follows the ports until `stop`, then detaches them all.
    pub fn run(mut self, stop: &AtomicBool) {
        let links = Links::watch();
        let mut plan = self.plan();
        self.reconcile(&plan);
        let mut audited = Instant::now();
        while !stop.load(Relaxed) {
            if links.wait(TICK) || self.is_due(&plan) {
                std::thread::sleep(PAUSE.saturating_sub(plan.since.elapsed()));
                plan = self.plan();
                self.reconcile(&plan);
            }
            // Overdue completions are counted in audits.
            if audited.elapsed() >= TICK {
                audited = Instant::now();
                self.audit();
            }
            self.tell_report(&plan);
        }
        self.tell_report(&self.plan());
        let all: Vec<u32> = self.attached.keys().copied().collect();
        for ifindex in all {
            self.detach(ifindex);
        }
        // The last counts stay to be read; nothing is served any more.
        let mut last = self.report.read();
        for port in last.ports.iter_mut().filter(|port| port.up) {
            port.up = false;
            port.reason = "spanwired has stopped".to_owned();
        }
        self.report.set_ports(last.ports, last.bindings);
    }

    /// What is wanted from now on.
    fn plan(&self) -> Plan {
        let table = self.table.load();
        Plan { wanted: self.wanted(&table), table, since: Instant::now() }
    }

    /// Whether to look at everything again even if no device has changed.
    fn is_due(&self, plan: &Plan) -> bool {
        self.table.serial() != plan.table.serial
            || plan.since.elapsed() >= LOOK
            || self.failed.values().any(|failed| failed.since.elapsed() >= RETRY)
    }

    /// Brings what is attached in line with what is wanted and what is there.
    fn reconcile(&mut self, Plan { wanted, .. }: &Plan) {
        let held: Vec<u32> = self.attached.keys().copied().collect();
        for ifindex in held {
            if self.must_go(ifindex, wanted) {
                self.detach(ifindex);
            }
        }
        self.failed.retain(|ifindex, _| wanted.contains_key(ifindex));
        for (&ifindex, &want) in wanted {
            let rested = self.failed.get(&ifindex).is_none_or(|failed| failed.since.elapsed() >= RETRY);
            if !rested || self.attached.contains_key(&ifindex) {
                continue;
            }
            match Lanes::of(ifindex, want) {
                Some(lanes) => self.attach(ifindex, want, lanes),
                // Not there: why it failed when it was is no news any more.
                None => {
                    self.failed.remove(&ifindex);
                }
            }
        }
        self.tell_outputs(wanted);
    }

    fn wanted(&self, table: &Table) -> BTreeMap<u32, Want> {
        let mut wanted = BTreeMap::new();
        // Without mirror frames no clone can ever be made: leave the monitor ports alone.
        if self.config.mirror_frames > 0 {
            wanted.extend(table.monitors().into_iter().map(|ifindex| (ifindex, Want::Monitor)));
        }
        for &(a, b) in &table.wires {
            wanted.insert(a, Want::Wire { peer: b });
            wanted.insert(b, Want::Wire { peer: a });
        }
        wanted
    }

    /// Follows the link of an attached port; `true` when the port cannot be kept.
    fn must_go(&mut self, ifindex: u32, wanted: &BTreeMap<u32, Want>) -> bool {
        let Some(port) = self.attached.get_mut(&ifindex) else { return false };
        if wanted.get(&ifindex).map(|want| want.role()) != Some(port.want.role()) {
            return true;
        }
        if let Some(&want) = wanted.get(&ifindex) {
            port.want = want;
        }
        // Deleted and made again under the same ifindex between two looks: the sockets know.
        if let Some(error) = port.bound.iter().find_map(|bound| bound.socket.take_error()) {
            tracing::warn!("port {} is gone: {error}", port.device.name());
            return true;
        }
        // Queues changed, or another port at the wire's other end: frames would go to queues nobody serves. While
        // the other end is not there, everything stays as it is.
        if Lanes::of(ifindex, port.want).is_some_and(|lanes| lanes != port.lanes) {
            tracing::info!("port {}: the wire's queues have changed", port.device.name());
            return true;
        }
        let link = match netdev::link_state(ifindex) {
            Ok(Some(link)) => link,
            Ok(None) => {
                tracing::warn!("port {} is gone", port.device.name());
                return true;
            }
            Err(error) => {
                tracing::warn!("cannot ask for the link of {}: {error}", port.device.name());
                return false;
            }
        };
        if link != port.link {
            tracing::info!("port {}: {}, MTU {}", port.device.name(), up_down(link.up), link.mtu);
            port.link = link;
            if port.want.role() == PortRole::Wire && mtu_problem(link.mtu, self.config.frame_size).is_some() {
                return true;
            }
            for bound in &port.bound {
                self.hands[bound.hand].send(bound.link(link, port.zero_copy));
            }
        }
        false
    }

    fn attach(&mut self, ifindex: u32, want: Want, lanes: Lanes) {
        match self.try_attach(ifindex, want, lanes) {
            Ok(port) => {
                let mode = port.program.as_ref().map_or("transmit only", |p| p.mode().as_str());
                let copy = if port.zero_copy { "zero-copy" } else { "copy" };
                tracing::info!(
                    "port {} (ifindex {ifindex}, {}): attached, {mode}, {copy}, {} queue(s)",
                    port.device.name(),
                    port.device.driver(),
                    port.bound.len()
                );
                self.failed.remove(&ifindex);
                self.attached.insert(ifindex, port);
            }
            Err(reason) => {
                if self.failed.get(&ifindex).is_none_or(|failed| failed.reason != reason) {
                    tracing::warn!("port {}: {reason}", netdev::label(ifindex));
                }
                self.failed.insert(ifindex, Failed { since: Instant::now(), reason });
            }
        }
    }

    fn try_attach(&mut self, ifindex: u32, want: Want, lanes: Lanes) -> Result<Attached, String> {
        let text = |e: &dyn std::error::Error| e.to_string();
        let device = Netdev::open(ifindex).map_err(|e| text(&e))?;
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
            device,
        };
        if port.want.role() == PortRole::Wire {
            if let Some(problem) = mtu_problem(link.mtu, self.config.frame_size) {
                return Err(problem);
            }
            port.offload = Some(VlanOffload::disable(ifindex).map_err(|e| text(&e))?);
            port.promiscuous = Some(Promiscuous::join(ifindex).map_err(|e| text(&e))?);
            let program = PortProgram::attach(ifindex, self.config.xdp_mode, lanes.sockets, port.device.driver());
            port.program = Some(program.map_err(|e| text(&e))?);
        }
        for queue in 0..lanes.sockets {
            if let Err(reason) = self.bind(&mut port, ifindex, queue) {
                self.close(port);
                return Err(reason);
            }
        }
        // Every queue can receive before any frame is led away from the kernel.
        if let Some(program) = &port.program
            && let Err(error) =
                port.bound.iter().try_for_each(|b| program.set(b.queue, std::os::fd::AsFd::as_fd(&b.socket)))
        {
            let reason = error.to_string();
            self.close(port);
            return Err(reason);
        }
        for bound in &port.bound {
            self.hands[bound.hand].send(bound.link(port.link, port.zero_copy));
        }
        Ok(port)
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
        let (socket, rings) =
            socket::open(&self.hands[at].area, donor.as_ref(), ifindex, queue, sizes).map_err(|e| e.to_string())?;
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

    fn detach(&mut self, ifindex: u32) {
        if let Some(port) = self.attached.remove(&ifindex) {
            tracing::info!("port {} (ifindex {ifindex}): detached", port.device.name());
            self.close(port);
        }
    }

    /// Takes a port down: no more frames in, then its sockets, then what was changed on the device.
    fn close(&mut self, mut port: Attached) {
        drop(port.program.take());
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
        if let Some(offload) = port.offload.take()
            && let Err(error) = offload.restore()
        {
            tracing::warn!("VLAN offloads of {}: {error}", port.device.name());
        }
    }

    /// Tells every shard which monitor ports are up, for those it serves no queue of.
    fn tell_outputs(&mut self, wanted: &BTreeMap<u32, Want>) {
        let output = |ifindex: u32| {
            let port = self.attached.get(&ifindex).filter(|port| port.link.up)?;
            Some(Output { ifindex, queues: port.lanes.width, mtu: port.link.mtu })
        };
        let monitors = wanted.iter().filter(|(_, want)| **want == Want::Monitor);
        let up: Vec<Output> = monitors.filter_map(|(&ifindex, _)| output(ifindex)).collect();
        let tell = |command: &dyn Fn() -> Command<Socket>| self.hands.iter().for_each(|hand| hand.send(command()));
        for &Output { ifindex, .. } in self.outputs_up.iter().filter(|was| up.iter().all(|o| o.ifindex != was.ifindex))
        {
            tell(&|| Command::OutputDown { ifindex });
        }
        for &output in up.iter().filter(|output| !self.outputs_up.contains(output)) {
            tell(&|| Command::OutputUp(output));
        }
        self.outputs_up = up;
    }

    /// Has the shards that wait for completions look for overdue ones.
    fn audit(&self) {
        for (at, hand) in self.hands.iter().enumerate() {
            let bound = self.attached.values().flat_map(|port| &port.bound);
            if bound.filter(|b| b.hand == at).any(|b| b.block.read()[Binding::Outstanding as usize] > 0) {
                hand.send(Command::Audit);
            }
        }
    }

    fn tell_report(&self, Plan { table, wanted, .. }: &Plan) {
        let ports = wanted.iter().map(|(&ifindex, &want)| self.status(ifindex, want, table)).collect();
        let bindings = self.attached.iter().flat_map(|(&ifindex, port)| {
            port.bound.iter().map(move |bound| BindingStatus {
                ifindex,
                queue: bound.queue,
                shard: self.hands[bound.hand].id,
                block: Arc::clone(&bound.block),
                // A socket that is going away has no more to tell.
                kernel: bound.socket.kernel_stats().unwrap_or_default(),
            })
        });
        self.report.set_ports(ports, bindings.collect());
    }

    fn status(&self, ifindex: u32, want: Want, table: &Table) -> PortStatus {
        let absent = PortStatus {
            ifindex,
            role: want.role(),
            there: false,
            up: false,
            mtu: 0,
            queues: 0,
            zero_copy: false,
            name: table.name(ifindex).to_owned(),
            xdp_mode: "",
            driver: String::new(),
            reason: "port missing".to_owned(),
        };
        let there = |reason| PortStatus { there: true, reason, ..absent.clone() };
        match (self.attached.get(&ifindex), self.failed.get(&ifindex)) {
            (Some(port), _) => PortStatus {
                there: true,
                up: port.link.up,
                mtu: port.link.mtu,
                queues: port.bound.len() as u32,
                zero_copy: port.zero_copy,
                name: port.device.name().to_owned(),
                xdp_mode: port.program.as_ref().map_or("", |p| p.mode().as_str()),
                driver: port.device.driver().to_owned(),
                reason: if port.link.up {
                    port.program.as_ref().and_then(|p| p.note()).unwrap_or_default().to_owned()
                } else {
                    "link down".to_owned()
                },
                ..absent.clone()
            },
            _ if !is_there(ifindex) => absent,
            (None, Some(failed)) => there(failed.reason.clone()),
            (None, None) => match want {
                Want::Wire { peer } if !is_there(peer) => there(format!("the wire's other port is missing: {peer}")),
                _ => there("not attached yet".to_owned()),
            },
        }
    }
}

impl Bound {
    fn link(&self, link: LinkState, zero_copy: bool) -> Command<Socket> {
        Command::Link { socket: self.id, up: link.up, mtu: link.mtu, zero_copy }
    }
}

fn is_there(ifindex: u32) -> bool {
    // A failure to ask is told when the port is attached.
    netdev::link_state(ifindex).map_or(true, |link| link.is_some())
}

fn up_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// Why a port with this MTU cannot receive into frames of this size: the largest frame carries two tags.
fn mtu_problem(mtu: u32, frame_size: u32) -> Option<String> {
    let fits = max_rx_len(frame_size) - ETH_HLEN - 2 * VLAN_HLEN;
    (mtu > fits).then(|| {
        let advice = if frame_size < 4096 { "; --frame-size 4096 takes more" } else { "" };
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
        assert!(problem.contains("1771") && problem.contains("1770") && problem.contains("4096"), "{problem}");
        assert_eq!(mtu_problem(3818, 4096), None);
        assert!(mtu_problem(9000, 4096).unwrap().contains("3818"));
    }
}
