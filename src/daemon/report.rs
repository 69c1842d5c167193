//! What the control threads tell the stats thread. Off the hot path, so a lock is fine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shm_layout::record::PortRole;

use super::crossing::Crossing;
use crate::counters::BindingBlock;
use crate::kernel::path::Path;
use crate::xsk::KernelStats;
use crate::xsk::netdev::LinkState;

/// The reason of a port whose link is down.
pub const LINK_DOWN: &str = "link down";
/// How the reason of a port begins whose device is not there.
pub const MISSING: &str = "port missing";

/// A port the snapshot uses.
#[derive(Clone, Debug)]
pub struct PortStatus {
    /// Its ifindex in the snapshot.
    pub ifindex: u32,
    /// ifindex of its device; 0 when it is not there.
    pub device: u32,
    /// What it is used for.
    pub role: PortRole,
    /// Whether the device is there.
    pub there: bool,
    /// Whether it is served and its link is up.
    pub up: bool,
    /// Bytes; 0 when it is not there.
    pub mtu: u32,
    /// Queues served.
    pub queues: u32,
    /// Whether its sockets are zero-copy.
    pub zero_copy: bool,
    /// The kernel's name, or what the snapshot calls it.
    pub name: String,
    /// `native`, `generic`, or empty for a monitor.
    pub xdp_mode: &'static str,
    /// Its driver.
    pub driver: String,
    /// Why it is not in use, or what is to be known about it.
    pub reason: String,
    /// What is to be known about it while its link is up.
    pub note: String,
}

/// How the frames of a wire's port cross.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// The port's ifindex in the snapshot.
    pub ifindex: u32,
    /// That of the wire's other port.
    pub peer: u32,
    /// `xdp`, `tc`, `shard`, or empty while they do not.
    pub path: &'static str,
    /// Why this way, or why none.
    pub reason: String,
    /// What crosses in the kernel; `None` where nothing ever did.
    pub crossing: Option<Arc<Crossing>>,
}

/// A queue of a port: its socket, or what those counted that were open there.
#[derive(Clone, Debug)]
pub struct BindingStatus {
    /// Its port.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// Its shard; `None` where no socket is open now.
    pub shard: Option<u32>,
    /// What it counts.
    pub block: Arc<BindingBlock>,
    /// What the kernel counts.
    pub kernel: KernelStats,
}

impl BindingStatus {
    /// Whether there is anything to tell of it.
    pub fn has_counted(&self) -> bool {
        let counts = self.block.read().into_iter().chain(self.block.sights()).chain(self.kernel);
        counts.into_iter().any(|count| count > 0)
    }
}

/// The newest state of everything that is not a shard.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Every port the snapshot uses.
    pub ports: Vec<PortStatus>,
    /// Every socket, and the queues without one on which something was counted.
    pub bindings: Vec<BindingStatus>,
    /// The ways of the wires, one for each of their ports.
    pub paths: Vec<PathStatus>,
    /// Of the table that those are served by.
    pub serial: u64,
    /// Snapshots refused since the start.
    pub rejects: u64,
    /// Why the last one was, if no good one came since.
    pub last_reject: String,
    /// Each port that is taken down, with its wire's other one, whose link is lost.
    pub taken_down: Vec<(u32, u32)>,
    /// The links of the ports that are served: newer than what is said of them in `ports`.
    links: HashMap<u32, LinkState>,
}

/// Where that state is kept.
#[derive(Debug, Default)]
pub struct Report(Mutex<State>);

impl Report {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: a poisoned state is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether frames of a wire pass through shards.
    pub fn has_wires_of_shards(&self) -> bool {
        self.state().paths.iter().any(|path| path.path == Path::Shard.as_str())
    }

    /// A copy of the state.
    pub fn read(&self) -> State {
        let mut state = self.state().clone();
        let State { ports, links, taken_down, .. } = &mut state;
        for port in ports {
            let Some(&LinkState { up, mtu }) = links.get(&port.ifindex) else { continue };
            if up != port.up {
                port.reason = if up { port.note.clone() } else { LINK_DOWN.to_owned() };
            }
            (port.up, port.mtu) = (up, mtu);
            let lost = taken_down.iter().find(|(down, _)| *down == port.ifindex);
            if let Some((_, lost)) = lost.filter(|_| !port.up && port.reason == LINK_DOWN) {
                port.reason = format!("{LINK_DOWN}: taken down, as the link of ifindex {lost} is lost");
            }
        }
        state
    }

    /// The ports and sockets as they are now.
    pub fn set_ports(&self, ports: Vec<PortStatus>, bindings: Vec<BindingStatus>) {
        let mut state = self.state();
        state.ports = ports;
        state.bindings = bindings;
    }

    /// The same, and the ways of the wires, as they are by the table of this serial.
    pub fn set_all(&self, ports: Vec<PortStatus>, bindings: Vec<BindingStatus>, paths: Vec<PathStatus>, serial: u64) {
        let mut state = self.state();
        (state.ports, state.bindings, state.paths, state.serial) = (ports, bindings, paths, serial);
    }

    /// The links of the ports that are served, as they are now.
    pub fn set_links(&self, links: HashMap<u32, LinkState>) {
        self.state().links = links;
    }

    /// The ports that are taken down now, each with its wire's other one, whose link is lost.
    pub fn set_taken_down(&self, taken_down: Vec<(u32, u32)>) {
        self.state().taken_down = taken_down;
    }

    /// A snapshot was refused.
    pub fn refused(&self, reason: String) {
        let mut state = self.state();
        state.rejects += 1;
        state.last_reject = reason;
    }

    /// A snapshot was adopted, or is readable again.
    pub fn accepted(&self) {
        self.state().last_reject.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the news of a link and the next word of who knows the port.
    #[test]
    fn what_is_to_be_known_of_a_port_is_told_from_the_moment_its_link_is_up() {
        let status = |up: bool, reason: &str| PortStatus {
            ifindex: 11,
            device: 31,
            role: PortRole::Wire,
            there: true,
            up,
            mtu: 1500,
            queues: 0,
            zero_copy: false,
            name: "w0a".to_owned(),
            xdp_mode: "",
            driver: "veth".to_owned(),
            reason: reason.to_owned(),
            note: "the device of its name".to_owned(),
        };
        let report = Report::default();
        for (told, reason) in [(false, LINK_DOWN), (true, "the device of its name"), (false, "not attached yet")] {
            report.set_ports(vec![status(told, reason)], Vec::new());
            for (up, reason) in [(true, "the device of its name"), (false, if told { LINK_DOWN } else { reason })] {
                report.set_links(HashMap::from([(11, LinkState { up, mtu: 1500 })]));
                let ports = report.read().ports;
                assert_eq!((ports[0].up, ports[0].reason.as_str()), (up, reason), "told {told}, {up} by now");
            }
        }
    }
}
