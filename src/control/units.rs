//! Which port and which of its frames an ifindex of a snapshot means: the one place that says.
//!
//! ```text
//! ingress   a port of a wire                        that port
//!           a VLAN unit: parent and VLAN id         VLAN id on the parent; with the parent's untagged frames, and
//!                                                   those with VLAN id 0, where it is the parent's native VLAN
//!           anything else                           that port
//! output    a VLAN unit                             the port below it, and below that, to the last one: clones
//!                                                   leave there as they are, no tag is added
//!           anything else                           that port
//! ```
//!
//! Several interfaces may have one ifindex, as a port and its unit 0 do. It is a VLAN unit if one of them is one, the
//! first of those; a port's native VLAN is the first that one of them gives. An interface that is its own parent is
//! no VLAN unit: all its frames are the port's.
//!
//! A frame belongs to the entry of its VLAN on the port it arrives on, or else to the port's own; what does not become
//! [`PlaceRecord`]s here is not mirrored. The ifindex of a VLAN unit is often synthetic, and no device is looked up by it.

use std::collections::{HashMap, HashSet};

use shm_layout::record::{PLACE_UNTAGGED, PlaceRecord};

use super::model::{Mirror, Snapshot};

/// The most VLANs on one another that Linux has (its `MAX_NEST_DEV`).
const MAX_STACKED: usize = 8;

/// The VLAN units of a snapshot, and the ports that wires and native VLANs are on.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// Parent and VLAN id.
    vlans: HashMap<u32, (u32, u16)>,
    natives: HashMap<u32, u16>,
    wired: HashSet<u32>,
}

impl Units {
    /// Those of this snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Units {
        let mut units = Units {
            wired: snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect(),
            ..Units::default()
        };
        for interface in snapshot.interfaces.iter().filter(|i| i.ifindex > 0) {
            if let Some(vlan) = interface.vlan() {
                units.vlans.entry(interface.ifindex).or_insert(vlan);
            }
            if interface.native_vlan_id > 0 {
                units.natives.entry(interface.ifindex).or_insert(interface.native_vlan_id);
            }
        }
        units
    }

    /// Where an entry's frames arrive and its clones leave.
    #[must_use]
    pub fn place(&self, mirror: Mirror) -> PlaceRecord {
        let ingress = mirror.ingress_ifindex;
        let output_ifindex = self.stack(mirror.output_ifindex).last().copied().unwrap_or(mirror.output_ifindex);
        let whole = PlaceRecord::of_ports(ingress, output_ifindex);
        let Some((port_ifindex, vlan_id)) = self.vlan(ingress).filter(|_| !self.is_wired(ingress)) else {
            return whole;
        };
        let is_native = self.natives.get(&port_ifindex) == Some(&vlan_id);
        PlaceRecord { port_ifindex, vlan_id, flags: if is_native { PLACE_UNTAGGED } else { 0 }, ..whole }
    }

    /// The same of all entries of a table, in their order.
    #[must_use]
    pub fn places(&self, mirrors: &[Mirror]) -> Vec<PlaceRecord> {
        mirrors.iter().map(|&mirror| self.place(mirror)).collect()
    }

    /// Whether a wire has this port.
    #[must_use]
    pub fn is_wired(&self, port: u32) -> bool {
        self.wired.contains(&port)
    }

    /// `(parent, VLAN id)` of a VLAN unit.
    #[must_use]
    pub fn vlan(&self, ifindex: u32) -> Option<(u32, u16)> {
        self.vlans.get(&ifindex).copied()
    }

    /// An interface and all that is below it, each once: a VLAN may stand on a VLAN, and what a snapshot says of
    /// that may go in a circle. The last is the port.
    #[must_use]
    pub fn stack(&self, ifindex: u32) -> Vec<u32> {
        let mut stack = vec![ifindex];
        let mut at = ifindex;
        while let Some((below, _)) =
            self.vlan(at).filter(|(below, _)| stack.len() <= MAX_STACKED && !stack.contains(below))
        {
            stack.push(below);
            at = below;
        }
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::{Interface, Wire};

    const SYNTHETIC: u32 = 1 << 30;

    fn port(ifindex: u32) -> Interface {
        Interface { ifindex, ..Interface::default() }
    }

    fn unit(ifindex: u32, parent_ifindex: u32, vlan_id: u16) -> Interface {
        Interface { parent_ifindex, vlan_id, ..port(ifindex) }
    }

    fn native(ifindex: u32, native_vlan_id: u16) -> Interface {
        Interface { native_vlan_id, ..port(ifindex) }
    }

    /// The place of an entry on these interfaces and the wire 11-12.
    fn place(interfaces: Vec<Interface>, ingress_ifindex: u32, output_ifindex: u32) -> PlaceRecord {
        let wires = vec![Wire { a_ifindex: 11, b_ifindex: 12, ..Wire::default() }];
        let snapshot = Snapshot { interfaces, wires, ..Snapshot::default() };
        Units::of(&snapshot).place(Mirror { ingress_ifindex, output_ifindex, rate: 1 })
    }

    fn vlan(port: u32, vlan_id: u16, flags: u16) -> PlaceRecord {
        PlaceRecord { vlan_id, flags, ..PlaceRecord::of_ports(port, 22) }
    }

    #[test]
    fn an_ingress_is_a_port_or_a_vlan_on_it() {
        for (interfaces, ingress, want) in [
            (vec![], 11, PlaceRecord::of_ports(11, 22)),
            (vec![], 77, PlaceRecord::of_ports(77, 22)),
            // A port and its unit 0.
            (vec![port(11), port(11)], 11, PlaceRecord::of_ports(11, 22)),
            (vec![unit(SYNTHETIC, 11, 5)], SYNTHETIC, vlan(11, 5, 0)),
            // Listed among the devices too, before or after.
            (vec![port(110), unit(110, 11, 5)], 110, vlan(11, 5, 0)),
            (vec![unit(110, 11, 5), port(110)], 110, vlan(11, 5, 0)),
            (vec![unit(110, 11, 5), unit(110, 12, 6)], 110, vlan(11, 5, 0)),
            // Half of it, or on itself: a port.
            (vec![unit(110, 11, 0)], 110, PlaceRecord::of_ports(110, 22)),
            (vec![unit(110, 0, 5)], 110, PlaceRecord::of_ports(110, 22)),
            (vec![unit(110, 110, 5), unit(110, 11, 6)], 110, vlan(11, 6, 0)),
            (vec![unit(110, 110, 5)], 110, PlaceRecord::of_ports(110, 22)),
            // A port of a wire, whatever else it is.
            (vec![unit(12, 99, 5)], 12, PlaceRecord::of_ports(12, 22)),
            // Only the outermost tag is looked at.
            (vec![unit(110, 11, 5), unit(111, 110, 6)], 111, vlan(110, 6, 0)),
        ] {
            assert_eq!(place(interfaces.clone(), ingress, 22), want, "{interfaces:?}");
        }
    }

    #[test]
    fn untagged_frames_are_of_the_native_vlan() {
        let of = |interfaces: &[Interface], ingress| place([interfaces, &[unit(110, 11, 5)]].concat(), ingress, 22);
        assert_eq!(of(&[native(11, 5)], 110), vlan(11, 5, PLACE_UNTAGGED));
        assert_eq!(of(&[port(11), native(11, 5)], 110), vlan(11, 5, PLACE_UNTAGGED), "on any interface of the port");
        assert_eq!(of(&[native(11, 6), native(11, 5)], 110), vlan(11, 5, 0), "the first counts");
        assert_eq!(of(&[native(12, 5)], 110), vlan(11, 5, 0), "another port's");
        assert_eq!(of(&[native(110, 5)], 110), vlan(11, 5, 0), "the unit's own");
        assert_eq!(of(&[native(11, 5)], 11), PlaceRecord::of_ports(11, 22), "the port's entry is all of it");
    }

    #[test]
    fn clones_leave_by_the_port_below_a_vlan_unit() {
        let stacked = [unit(SYNTHETIC, 22, 5), unit(SYNTHETIC + 1, SYNTHETIC, 6), unit(220, 22, 5), port(220)];
        for output in [22, SYNTHETIC, SYNTHETIC + 1, 220] {
            assert_eq!(place(stacked.to_vec(), 11, output), PlaceRecord::of_ports(11, 22), "{output}");
        }
        // A circle, which no kernel has, ends.
        let circle = vec![unit(1, 2, 5), unit(2, 1, 5)];
        assert_eq!(place(circle, 11, 1), PlaceRecord::of_ports(11, 2));
    }
}
