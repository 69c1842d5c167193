//! What a lab consists of: what is asked for, and the names and numbers that follow from that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{LabError, Result};
use crate::links::Link;

/// ifindexes in the hosts' namespaces count up from here; 1 is the loopback.
const HOST_IFINDEX: u32 = 2;

/// What to lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    /// RX and TX queues of the wires' devices, at least 1.
    pub queues: u32,
    /// RX and TX queues of the monitors' devices, at least 1.
    pub monitor_queues: u32,
    /// Wires through the device under test, at least 1.
    pub wires: usize,
    /// Monitor ports.
    pub monitors: usize,
    /// MTU of every device, in bytes of L3 payload.
    pub mtu: u32,
    /// ifindex of the first wire's port a in `dut`; port b follows, then the next wire's a.
    pub first_wire_ifindex: u32,
    /// ifindex of the first monitor port in `dut`.
    pub first_monitor_ifindex: u32,
    /// The process whose death makes the lab stale; see [`crate::netns::sweep`].
    pub owner: u32,
}

impl Default for LabSpec {
    /// One queue, one wire (11 and 12), one monitor (22): the interfaces of the committed snapshot fixtures.
    fn default() -> Self {
        Self {
            queues: 1,
            monitor_queues: 1,
            wires: 1,
            monitors: 1,
            mtu: 1500,
            first_wire_ifindex: 11,
            first_monitor_ifindex: 22,
            owner: std::process::id(),
        }
    }
}

impl LabSpec {
    pub(crate) fn check(&self) -> Result<()> {
        if self.queues == 0 || self.monitor_queues == 0 || self.wires == 0 {
            return Err(LabError::Spec("a lab needs at least one queue and one wire".to_owned()));
        }
        let mut taken = BTreeSet::from([1]);
        let wires = (0..self.wires).flat_map(|wire| self.wire_ifindexes(wire));
        let monitors = (0..self.monitors).map(|monitor| offset(self.first_monitor_ifindex, monitor));
        for ifindex in wires.chain(monitors) {
            if i32::try_from(ifindex).is_err() || ifindex == 0 || !taken.insert(ifindex) {
                return Err(LabError::Spec(format!("ifindex {ifindex} is taken or out of range")));
            }
        }
        Ok(())
    }

    fn wire_ifindexes(&self, wire: usize) -> [u32; 2] {
        [0, 1].map(|side| offset(self.first_wire_ifindex, wire.saturating_mul(2).saturating_add(side)))
    }
}

fn offset(first: u32, index: usize) -> u32 {
    first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The four namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Left host: the peer of every wire's port a.
    Gen,
    /// The device under test: `spanwired` runs here.
    Dut,
    /// Right host: the peer of every wire's port b.
    Sink,
    /// Monitor host: the peer of every monitor port.
    Mon,
}

impl Role {
    pub(crate) const ALL: [Role; 4] = [Role::Gen, Role::Dut, Role::Sink, Role::Mon];

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Role::Gen => "gen",
            Role::Dut => "dut",
            Role::Sink => "sink",
            Role::Mon => "mon",
        }
    }
}

/// A port of the device under test and the host interface at the other end of its cable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name in `dut`.
    pub name: String,
    /// ifindex in `dut`.
    pub ifindex: u32,
    /// The namespace of the other end.
    pub host: Role,
    /// Name of the other end.
    pub host_name: String,
    /// ifindex of the other end, in its namespace.
    pub host_ifindex: u32,
}

/// Two ports between which frames cross.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// The port towards `gen`.
    pub a: Port,
    /// The port towards `sink`.
    pub b: Port,
}

/// The namespaces' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceNames {
    /// Left host.
    pub r#gen: String,
    /// Device under test.
    pub dut: String,
    /// Right host.
    pub sink: String,
    /// Monitor host.
    pub mon: String,
}

/// Everything a script needs to use a lab; printed by `spanlab up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabInfo {
    /// The lab's id, for `spanlab exchange --lab` and `spanlab down`.
    pub lab: String,
    /// Namespace of each role.
    pub namespaces: NamespaceNames,
    /// RX and TX queues of the wires' devices.
    pub queues: u32,
    /// RX and TX queues of the monitors' devices.
    pub monitor_queues: u32,
    /// MTU of every device.
    pub mtu: u32,
    /// The wires, in order.
    pub wires: Vec<Wire>,
    /// The monitor ports, in order.
    pub monitors: Vec<Port>,
}

impl LabInfo {
    pub(crate) fn ports_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.wires.iter_mut().flat_map(|wire| [&mut wire.a, &mut wire.b]).chain(&mut self.monitors)
    }
}

/// Names follow from the specification alone, so that attaching to a lab needs no state file; so do the numbers of a lab
/// that is laid here.
pub(crate) fn plan(id: &str, spec: &LabSpec) -> LabInfo {
    let name = |role: Role| format!("{id}-{}", role.suffix());
    let port = |name: String, ifindex, host, letter: char, index| Port {
        name,
        ifindex,
        host,
        host_name: format!("{letter}{index}"),
        host_ifindex: offset(HOST_IFINDEX, index),
    };
    let wire = |index| {
        let [a, b] = spec.wire_ifindexes(index);
        Wire {
            a: port(format!("w{index}a"), a, Role::Gen, 'g', index),
            b: port(format!("w{index}b"), b, Role::Sink, 's', index),
        }
    };
    let monitor = |index| port(format!("mon{index}"), offset(spec.first_monitor_ifindex, index), Role::Mon, 'm', index);
    LabInfo {
        lab: id.to_owned(),
        namespaces: NamespaceNames {
            r#gen: name(Role::Gen),
            dut: name(Role::Dut),
            sink: name(Role::Sink),
            mon: name(Role::Mon),
        },
        queues: spec.queues,
        monitor_queues: spec.monitor_queues,
        mtu: spec.mtu,
        wires: (0..spec.wires).map(wire).collect(),
        monitors: (0..spec.monitors).map(monitor).collect(),
    }
}

/// Reads the specification back from the devices in `dut`.
pub(crate) fn observed_spec(links: &[Link]) -> Option<LabSpec> {
    let find = |name: &str| links.iter().find(|link| link.ifname == name);
    let count = |name: fn(usize) -> String| (0..).take_while(|index| find(&name(*index)).is_some()).count();
    let first = find("w0a")?;
    let defaults = LabSpec::default();
    Some(LabSpec {
        queues: first.num_rx_queues.max(1),
        monitor_queues: find("mon0").map_or(1, |link| link.num_rx_queues.max(1)),
        wires: count(|index| format!("w{index}a")),
        monitors: count(|index| format!("mon{index}")),
        mtu: first.mtu,
        first_wire_ifindex: first.ifindex,
        first_monitor_ifindex: find("mon0").map_or(defaults.first_monitor_ifindex, |link| link.ifindex),
        owner: defaults.owner,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_has_the_ifindexes_of_the_fixtures() {
        let info = plan("swlab-1-0", &LabSpec::default());
        let [wire] = info.wires.as_slice() else { panic!("one wire") };
        assert_eq!((wire.a.ifindex, wire.b.ifindex, info.monitors[0].ifindex), (11, 12, 22));
        assert_eq!((wire.a.host_name.as_str(), wire.b.host_name.as_str()), ("g0", "s0"));
        assert_eq!(info.namespaces.dut, "swlab-1-0-dut");
    }

    #[test]
    fn colliding_or_empty_specifications_are_refused() {
        let collide = LabSpec { wires: 6, ..LabSpec::default() };
        assert!(matches!(collide.check(), Err(LabError::Spec(text)) if text.contains("22")));
        assert!(LabSpec { queues: 0, ..LabSpec::default() }.check().is_err());
        assert!(LabSpec { wires: 0, ..LabSpec::default() }.check().is_err());
        assert!(LabSpec { first_wire_ifindex: 1, ..LabSpec::default() }.check().is_err());
        assert!(LabSpec { wires: 5, ..LabSpec::default() }.check().is_ok());
    }
}
