//! Where the frames of a mirror entry arrive and its clones leave.
//!
//! The control plane resolves each entry once and writes PLACES; [`SnapshotView::places`](crate::snapshot::SnapshotView::places) is
//! what everybody reads. A
//! release before minor 1 wrote none, and its dataplane made of the other sections what [`older`] makes: that is what
//! such an image means, and what a dataplane does that skips PLACES.

use crate::error::LayoutError;
use crate::record::{MirrorRecord, NativeVlanRecord, PLACE_UNTAGGED, PlaceRecord, PortRecord, Record, SeenRecord};
use crate::rules::{check as check_record, has_twice};
use crate::view::Records;

impl PlaceRecord {
    /// All that the port `ingress` receives and no other of its entries takes, to the port `output`.
    pub const fn of_ports(ingress: u32, output: u32) -> PlaceRecord {
        PlaceRecord { port_ifindex: ingress, output_ifindex: output, vlan_id: 0, flags: 0 }
    }

    /// Whether frames without a tag, and those with VLAN id 0, are of its VLAN.
    pub const fn is_native(&self) -> bool {
        self.flags & PLACE_UNTAGGED != 0
    }
}

/// ifindex, parent and id of a VLAN interface.
type Vlan = (u32, u32, u16);

fn vlans(interfaces: impl Iterator<Item = Vlan>) -> Vec<Vlan> {
    interfaces.filter(|&(ifindex, parent, vlan_id)| ifindex != 0 && parent != 0 && vlan_id != 0).collect()
}

fn vlan(port: PortRecord) -> Vlan {
    (port.ifindex, port.parent_ifindex, port.vlan_id)
}

/// The places of entries by the rule of minor 0: an ingress on a wire is that port, another one the first VLAN
/// interface of its ifindex, or else a port; an output is a port. `interfaces` are ifindex, parent and VLAN id of
/// each, `ends` the ports of wires, `mirrors` ingress and output.
pub fn older(
    interfaces: impl Iterator<Item = (u32, u32, u16)>,
    ends: impl Iterator<Item = u32>,
    mirrors: impl Iterator<Item = (u32, u32)>,
) -> Vec<PlaceRecord> {
    let mut vlans = vlans(interfaces);
    // Stable: of several with the same ifindex the first stays.
    vlans.sort_by_key(|&(ifindex, ..)| ifindex);
    vlans.dedup_by_key(|&mut (ifindex, ..)| ifindex);
    let mut ends: Vec<u32> = ends.collect();
    ends.sort_unstable();
    let place = |(ingress, output)| {
        let whole = PlaceRecord::of_ports(ingress, output);
        let vlan = vlans.binary_search_by_key(&ingress, |&(ifindex, ..)| ifindex);
        match vlan.ok().filter(|_| ends.binary_search(&ingress).is_err()).map(|at| vlans[at]) {
            Some((_, port_ifindex, vlan_id)) => PlaceRecord { port_ifindex, vlan_id, ..whole },
            None => whole,
        }
    };
    mirrors.map(place).collect()
}

/// Whether each native VLAN is of a port and is one.
pub(crate) fn check_native_vlans(
    native_vlans: Records<'_, NativeVlanRecord>,
    ports: Records<'_, PortRecord>,
) -> Result<(), LayoutError> {
    let mut before = None;
    for (i, native) in native_vlans.iter().enumerate() {
        let NativeVlanRecord { port, vlan_id, pad } = native;
        check_record(
            i,
            &native,
            &[
                ("there is no such port", (port as usize) < ports.len()),
                ("its port does not come after that of the record before", before < Some(port)),
                ("vlan_id is out of range", (1..=4094).contains(&vlan_id)),
                ("padding is not zero", pad == 0),
            ],
        )?;
        before = Some(port);
    }
    Ok(())
}

/// Whether each that was seen is a port.
pub(crate) fn check_seen(seen: Records<'_, SeenRecord>, ports: Records<'_, PortRecord>) -> Result<(), LayoutError> {
    let mut before = None;
    for (i, seen) in seen.iter().enumerate() {
        let SeenRecord { port } = seen;
        check_record(
            i,
            &seen,
            &[
                ("there is no such port", (port as usize) < ports.len()),
                ("its port does not come after that of the record before", before < Some(port)),
            ],
        )?;
        before = Some(port);
    }
    Ok(())
}

/// Whether the places are of the entries, of ports and VLANs that are known, each once. `ends` are the ports of the
/// wires, sorted.
pub(crate) fn check(
    places: Records<'_, PlaceRecord>,
    mirrors: Records<'_, MirrorRecord>,
    known: &Known,
    ends: &[u32],
) -> Result<(), LayoutError> {
    let fail = |what| Err(LayoutError::Section { kind: PlaceRecord::KIND, what });
    if places.len() != mirrors.len() {
        return fail("does not have one record for each mirror entry");
    }
    let (mut taken, mut native) = (Vec::with_capacity(places.len()), Vec::new());
    for (i, (place, mirror)) in places.iter().zip(mirrors.iter()).enumerate() {
        let PlaceRecord { port_ifindex: port, output_ifindex: output, vlan_id, flags } = place;
        let ingress = mirror.ingress_ifindex;
        // These bound every number: those of MIRRORS and PORTS are in range.
        let of_ingress = if vlan_id == 0 { port == ingress } else { known.is_vlan((ingress, port, vlan_id)) };
        let of_output = output == mirror.output_ifindex || known.is_parent(output);
        check_record(
            i,
            &place,
            &[
                ("flags has unknown bits", flags & !PLACE_UNTAGGED == 0),
                ("the port and the VLAN are not those of the ingress", of_ingress),
                ("the VLAN is not that of the port's untagged frames", flags == 0 || known.is_native(port, vlan_id)),
                ("the output port is not one of the output", of_output),
                ("the output port is the port", output != port),
                ("the output port is a port of a wire", ends.binary_search(&output).is_err()),
            ],
        )?;
        taken.push((port, vlan_id));
        native.extend((flags != 0).then_some(port));
    }
    if has_twice(&mut taken) {
        return fail("a port and VLAN are there twice");
    }
    if has_twice(&mut native) {
        return fail("the untagged frames of a port are there twice");
    }
    Ok(())
}

/// What PORTS and NATIVE_VLANS tell of VLANs, each sorted.
pub(crate) struct Known {
    vlans: Vec<Vlan>,
    parents: Vec<u32>,
    /// Port and VLAN id.
    natives: Vec<(u32, u16)>,
}

impl Known {
    pub(crate) fn of(ports: Records<'_, PortRecord>, native_vlans: Records<'_, NativeVlanRecord>) -> Known {
        let mut vlans = vlans(ports.iter().map(vlan));
        let mut parents: Vec<_> = vlans.iter().map(|&(_, parent, _)| parent).collect();
        // Both sections are in the order of PORTS.
        let mut records = native_vlans.iter().peekable();
        let mut native = |(i, port): (usize, PortRecord)| {
            let record = records.next_if(|record| record.port as usize == i)?;
            Some((port.ifindex, record.vlan_id))
        };
        let mut natives: Vec<_> = ports.iter().enumerate().filter_map(&mut native).collect();
        vlans.sort_unstable();
        parents.sort_unstable();
        natives.sort_unstable();
        Known { vlans, parents, natives }
    }

    fn is_vlan(&self, vlan: Vlan) -> bool {
        self.vlans.binary_search(&vlan).is_ok()
    }

    fn is_parent(&self, ifindex: u32) -> bool {
        self.parents.binary_search(&ifindex).is_ok()
    }

    fn is_native(&self, port: u32, vlan_id: u16) -> bool {
        vlan_id != 0 && self.natives.binary_search(&(port, vlan_id)).is_ok()
    }
}
