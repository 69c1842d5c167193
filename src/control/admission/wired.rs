//! The wires against each other, and which ports are taken by them.

use std::collections::HashMap;

use crate::control::devices::Devices;
use crate::control::diagnostic::Reason;
use crate::control::labels::Names;
use crate::control::model::Snapshot;
use crate::control::quote::quoted;

/// The ports that wires have, and what those stand on.
pub(super) struct Wired<'a> {
    snapshot: &'a Snapshot,
    /// The first wire of each port.
    by_port: HashMap<u32, usize>,
    /// Of what a VLAN interface on a wire stands on: that wire, and the interface.
    below: HashMap<u32, (usize, u32)>,
}

impl<'a> Wired<'a> {
    /// Those of this snapshot, with what is wrong between its wires.
    pub(super) fn of(snapshot: &'a Snapshot, devices: &Devices<'_>, reasons: &mut Vec<Reason>) -> Self {
        let names = devices.names;
        let mut by_name: HashMap<&str, usize> = HashMap::with_capacity(snapshot.wires.len());
        let by_port = HashMap::with_capacity(2 * snapshot.wires.len());
        let mut wired = Self { snapshot, by_port, below: HashMap::new() };
        for (i, wire) in snapshot.wires.iter().enumerate() {
            let shown = quoted(&wire.name);
            let first = *by_name.entry(&wire.name).or_insert(i);
            if first != i {
                reasons.push(Reason::new(format!(
                    "wires[{i}].name: {shown} is the name of wires[{first}] too (allowed: a name for one wire)"
                )));
            }
            if wire.a_ifindex == wire.b_ifindex {
                reasons.push(Reason::new(format!(
                    "wires[{i}]: both ends of {shown} are ifindex {} (allowed: two different ports)",
                    names.show(wire.a_ifindex)
                )));
            }
            for (key, port) in [("a_ifindex", wire.a_ifindex), ("b_ifindex", wire.b_ifindex)] {
                reasons.extend(devices.foreign(port).map(|what| Reason::new(format!("wires[{i}].{key}: {what}"))));
                let first = *wired.by_port.entry(port).or_insert(i);
                if first != i {
                    reasons.push(Reason::new(format!(
                        "wires[{i}].{key}: ifindex {} of {shown} is a port of wires[{first}] {} already (allowed: a port on one wire)",
                        names.show(port),
                        wired.name(first)
                    )));
                }
                for &below in names.units.stack(port).iter().skip(1) {
                    wired.below.entry(below).or_insert((i, port));
                }
            }
        }
        wired.stacked(names, reasons);
        wired
    }

    /// Refuses a port beside a VLAN interface on it: the port receives the frames of both.
    fn stacked(&self, names: &Names<'_>, reasons: &mut Vec<Reason>) {
        for (i, wire) in self.snapshot.wires.iter().enumerate() {
            for (key, port) in [("a_ifindex", wire.a_ifindex), ("b_ifindex", wire.b_ifindex)] {
                let stack = names.units.stack(port);
                let wired = stack.iter().skip(1).find_map(|&below| Some((below, *self.by_port.get(&below)?)));
                reasons.extend(wired.map(|(below, other)| {
                    Reason::new(format!(
                        "wires[{i}].{key}: ifindex {} of {} is on ifindex {}, a port of wires[{other}] {} (allowed: a \
                         port or VLAN interfaces on it, not both)",
                        names.show(port),
                        quoted(&wire.name),
                        names.show(below),
                        self.name(other)
                    ))
                }));
            }
        }
    }

    /// What is wrong if clones leave by this port.
    pub(super) fn against(&self, port: u32, names: &Names<'_>) -> Option<String> {
        if let Some(&w) = self.by_port.get(&port) {
            return Some(format!("is a port of wires[{w}] {} (allowed: a port on no wire)", self.name(w)));
        }
        self.below.get(&port).map(|&(w, above)| {
            let (above, name) = (names.show(above), self.name(w));
            format!("is the parent port of ifindex {above} of wires[{w}] {name} (allowed: a port on no wire)")
        })
    }

    fn name(&self, wire: usize) -> String {
        quoted(&self.snapshot.wires[wire].name)
    }
}
