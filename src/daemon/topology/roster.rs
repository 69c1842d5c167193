//! The ports that are served and the links of their devices: where the follower, who learns of links, and the binder, who
//! opens and closes sockets, meet.
//!
//! Both tell the shards of links only from here, under its lock, so that no shard hears of an older one last. The binder
//! enters a port when it is to be served, and strikes it before it is let go of: nobody asks the kernel for anything, and
//! nobody waits for a shard, with the lock held.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shm_layout::record::PortRole;

use super::link_loss::Pair;
use crate::alarm::Alarm;
use crate::daemon::report::Report;
use crate::daemon::worker::Hand;
use crate::devices::{self, Device, Gone};
use crate::shard::mailbox::{Command, Output};
use crate::told::Told;
use crate::xsk::custody::SocketId;
use crate::xsk::netdev::LinkState;
use crate::xsk::socket::Socket;

/// A port that shards serve.
#[derive(Debug)]
pub(super) struct Served {
    /// ifindex of its device.
    pub(super) device: u32,
    pub(super) role: PortRole,
    /// Queues frames are sent on.
    pub(super) width: u32,
    pub(super) zero_copy: bool,
    /// Whether what it sends may lie in several frames.
    pub(super) multi_buffer: bool,
    /// Its sockets, each by the hand of its shard.
    pub(super) sockets: Vec<(usize, SocketId)>,
    /// As the shards have been told.
    pub(super) link: LinkState,
    /// Whether the device is gone: what has its ifindex by now is another one.
    pub(super) is_gone: bool,
}

/// What both know.
#[derive(Debug)]
pub(super) struct Roster {
    hands: Vec<Hand>,
    report: Arc<Report>,
    state: Mutex<State>,
    /// Rung after each look.
    news: Arc<Alarm>,
}

#[derive(Debug, Default)]
struct State {
    /// As last seen.
    devices: Arc<Vec<Device>>,
    /// Those that have gone and that the binder has not heard of.
    gone: Vec<Gone>,
    /// Looks at the devices so far.
    looks: u64,
    /// Of failures to look.
    failure: Told,
    ports: BTreeMap<u32, Served>,
    /// Outputs the shards have been told are up.
    outputs: Vec<Output>,
    /// The wires that forward the loss of a link; `None` before the first snapshot.
    pairs: Option<Arc<Vec<Pair>>>,
}

/// What the follower forwards the loss of links by.
#[derive(Debug)]
pub(super) struct Pairs {
    /// The wires that do; `None` before the first snapshot.
    pub(super) pairs: Option<Arc<Vec<Pair>>>,
    /// As last seen.
    pub(super) devices: Arc<Vec<Device>>,
}

/// What the binder sees with one look.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) devices: Arc<Vec<Device>>,
    /// Devices that have gone since its last look.
    pub(super) gone: Vec<Gone>,
    /// Looks at the devices so far.
    pub(super) looks: u64,
}

impl Roster {
    pub(super) fn new(hands: Vec<Hand>, report: Arc<Report>, news: Arc<Alarm>) -> Roster {
        Roster { hands, report, state: Mutex::default(), news }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the devices, of which these have gone, and tells the shards what has become of the links. Whether they could
    /// be looked at.
    pub(super) fn look(&self, gone: Vec<Gone>) -> bool {
        let present = devices::present();
        let mut state = self.state();
        let has_gone = |ifindex: u32| gone.iter().any(|gone| gone.ifindex == ifindex);
        for port in state.ports.values_mut() {
            port.is_gone |= has_gone(port.device);
        }
        if let Some(pairs) = state.pairs.as_mut().filter(|_| !gone.is_empty()) {
            // Until the binder has found out what became of them.
            for end in Arc::make_mut(pairs).iter_mut().flatten() {
                end.device.take_if(|device| has_gone(device.ifindex));
            }
        }
        state.gone.extend(gone);
        let is_seen = present.is_ok();
        match present {
            Ok(devices) => {
                state.devices = Arc::new(devices);
                if let Some(news) = state.failure.ends() {
                    tracing::info!("network devices can be listed again{news}");
                }
            }
            // What is attached stays so meanwhile.
            Err(error) => {
                if let Some(news) = state.failure.is(&error.to_string()) {
                    tracing::warn!("cannot list the network devices: {news}");
                }
            }
        }
        state.follow(&self.hands);
        self.report.set_links(state.served());
        state.looks += 1;
        self.news.ring();
        is_seen
    }

    /// The wires that forward the loss of a link, from now on.
    pub(super) fn set_pairs(&self, pairs: Vec<Pair>) {
        self.state().pairs = Some(Arc::new(pairs));
    }

    /// Those wires, and the devices.
    pub(super) fn pairs(&self) -> Pairs {
        let state = self.state();
        Pairs { pairs: state.pairs.clone(), devices: Arc::clone(&state.devices) }
    }

    /// The ports that are taken down, each with its wire's other one.
    pub(super) fn set_taken_down(&self, taken_down: Vec<(u32, u32)>) {
        self.report.set_taken_down(taken_down);
    }

    /// Looks at the devices so far.
    pub(super) fn looks(&self) -> u64 {
        self.state().looks
    }

    /// The devices as last seen.
    pub(super) fn sight(&self) -> Sight {
        let mut state = self.state();
        let gone = std::mem::take(&mut state.gone);
        Sight { devices: Arc::clone(&state.devices), gone, looks: state.looks }
    }

    /// The links of the ports that are served.
    pub(super) fn links(&self) -> HashMap<u32, LinkState> {
        self.state().served()
    }

    /// A port is to be served from now on.
    pub(super) fn enter(&self, ifindex: u32, mut port: Served) {
        let mut state = self.state();
        port.link = state.links().get(&port.device).copied().unwrap_or(port.link);
        port.tell(&self.hands);
        state.ports.insert(ifindex, port);
        state.tell_outputs(&self.hands);
        self.report.set_links(state.served());
    }

    /// A port is to be let go of.
    pub(super) fn strike(&self, ifindex: u32) {
        let mut state = self.state();
        state.ports.remove(&ifindex);
        state.tell_outputs(&self.hands);
        self.report.set_links(state.served());
    }
}

impl Served {
    fn tell(&self, hands: &[Hand]) {
        let LinkState { up, mtu } = self.link;
        for &(hand, socket) in &self.sockets {
            let (zero_copy, multi_buffer) = (self.zero_copy, self.multi_buffer);
            hands[hand].send(Command::Link { socket, up, mtu, zero_copy, multi_buffer });
        }
    }
}

impl State {
    /// The links of the ports.
    fn served(&self) -> HashMap<u32, LinkState> {
        self.ports.iter().map(|(&ifindex, port)| (ifindex, port.link)).collect()
    }

    /// The links of all devices.
    fn links(&self) -> HashMap<u32, LinkState> {
        self.devices.iter().map(|device| (device.ifindex, LinkState { up: device.up, mtu: device.mtu })).collect()
    }

    fn follow(&mut self, hands: &[Hand]) {
        let links = self.links();
        for port in self.ports.values_mut() {
            let now = links.get(&port.device).filter(|_| !port.is_gone).copied();
            let now = now.unwrap_or(LinkState { up: false, ..port.link });
            if now != port.link {
                port.link = now;
                port.tell(hands);
            }
        }
        self.tell_outputs(hands);
    }

    /// Tells every shard which monitor ports are up, for those it serves no queue of.
    fn tell_outputs(&mut self, hands: &[Hand]) {
        let monitors = self.ports.iter().filter(|(_, port)| port.role == PortRole::Monitor && port.link.up);
        let output = |(&ifindex, port): (&u32, &Served)| Output {
            ifindex,
            queues: port.width,
            mtu: port.link.mtu,
            multi_buffer: port.multi_buffer,
        };
        let up: Vec<Output> = monitors.map(output).collect();
        let tell = |command: &dyn Fn() -> Command<Socket>| hands.iter().for_each(|hand| hand.send(command()));
        for &Output { ifindex, .. } in self.outputs.iter().filter(|was| up.iter().all(|o| o.ifindex != was.ifindex)) {
            tell(&|| Command::OutputDown { ifindex });
        }
        for &output in up.iter().filter(|output| !self.outputs.contains(output)) {
            tell(&|| Command::OutputUp(output));
        }
        self.outputs = up;
    }
}
