//! A snapshot in an image: every record of a config image checked, and what they say of each other.

use crate::error::LayoutError;
use crate::places::{self, Known};
use crate::record::{
    DiagnosticRecord, LinkLossRecord, META_DISARMED, MetaRecord, MirrorRecord, NativeVlanRecord, PlaceRecord,
    PortRecord, Record, SeenRecord, SlotHeader, StrRef, WireRecord,
};
use crate::rules::{check, has_twice};
use crate::view::{ImageView, Records, Strings};

/// A config image that holds in every respect the layout knows.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotView<'a> {
    /// The image's header: generation and time of publish.
    pub image: SlotHeader,
    /// META.
    pub meta: MetaRecord,
    /// PORTS.
    pub ports: Records<'a, PortRecord>,
    /// WIRES.
    pub wires: Records<'a, WireRecord>,
    /// MIRRORS, in the order of the source.
    pub mirrors: Records<'a, MirrorRecord>,
    /// DIAGNOSTICS.
    pub diagnostics: Records<'a, DiagnosticRecord>,
    /// NATIVE_VLANS.
    pub native_vlans: Records<'a, NativeVlanRecord>,
    /// SEEN.
    pub seen: Records<'a, SeenRecord>,
    /// LINK_LOSS.
    pub link_loss: Records<'a, LinkLossRecord>,
    /// PLACES; none in an image of minor 0.
    pub(crate) places: Option<Records<'a, PlaceRecord>>,
    /// STRINGS.
    pub strings: Strings<'a>,
}

impl<'a> TryFrom<&'a [u64]> for SnapshotView<'a> {
    type Error = LayoutError;

    fn try_from(words: &'a [u64]) -> Result<Self, LayoutError> {
        let image = ImageView::parse(words)?;
        let view = SnapshotView {
            image: *image.header(),
            meta: image.records()?.only()?,
            ports: image.required()?,
            wires: image.required()?,
            mirrors: image.required()?,
            diagnostics: image.records()?,
            native_vlans: image.records()?,
            seen: image.records()?,
            link_loss: image.records()?,
            places: if image.has(PlaceRecord::KIND) { Some(image.records()?) } else { None },
            strings: image.strings()?,
        };
        view.check_records()?;
        Ok(view)
    }
}

impl SnapshotView<'_> {
    /// Where each of the mirror entries finds its frames and sends its clones, in their order.
    pub fn places(&self) -> Vec<PlaceRecord> {
        match self.places {
            Some(places) => places.iter().collect(),
            None => places::older(
                self.ports.iter().map(|port| (port.ifindex, port.parent_ifindex, port.vlan_id)),
                self.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]),
                self.mirrors.iter().map(|mirror| (mirror.ingress_ifindex, mirror.output_ifindex)),
            ),
        }
    }

    fn check_records(&self) -> Result<(), LayoutError> {
        const MAX_IFINDEX: u32 = i32::MAX as u32;
        let is_ifindex = |i: u32| (1..=MAX_IFINDEX).contains(&i);
        let text = |at: StrRef| self.strings.get(at).is_some();
        check(
            0,
            &self.meta,
            &[
                ("generated_at is not a string", text(self.meta.generated_at)),
                ("flags has unknown bits", self.meta.flags & !META_DISARMED == 0),
                ("reserved is not zero", self.meta.reserved == 0),
            ],
        )?;
        for (i, port) in self.ports.iter().enumerate() {
            check(
                i,
                &port,
                &[
                    ("ifindex is out of range", port.ifindex <= MAX_IFINDEX),
                    ("parent_ifindex is out of range", port.parent_ifindex <= MAX_IFINDEX),
                    ("vlan_id is out of range", port.vlan_id <= 4094),
                    ("has_mac is neither 0 nor 1", port.has_mac <= 1),
                    ("mac is set and has_mac is not", port.has_mac == 1 || port.mac == [0; 6]),
                    ("padding is not zero", port.pad == [0; 2]),
                    ("name is not a string", text(port.name)),
                    ("linux_name is not a string", text(port.linux_name)),
                ],
            )?;
        }
        let mut ends = Vec::with_capacity(2 * self.wires.len());
        for (i, wire) in self.wires.iter().enumerate() {
            check(
                i,
                &wire,
                &[
                    ("a_ifindex is out of range", is_ifindex(wire.a_ifindex)),
                    ("b_ifindex is out of range", is_ifindex(wire.b_ifindex)),
                    ("name is not a string", text(wire.name)),
                ],
            )?;
            ends.extend([wire.a_ifindex, wire.b_ifindex]);
        }
        if has_twice(&mut ends) {
            return Err(LayoutError::Section { kind: WireRecord::KIND, what: "a port is on two wires" });
        }
        let mut ingresses = Vec::with_capacity(self.mirrors.len());
        for (i, mirror) in self.mirrors.iter().enumerate() {
            check(
                i,
                &mirror,
                &[
                    ("ingress_ifindex is out of range", is_ifindex(mirror.ingress_ifindex)),
                    ("output_ifindex is out of range", is_ifindex(mirror.output_ifindex)),
                    ("the output is the ingress", mirror.ingress_ifindex != mirror.output_ifindex),
                    ("the output is a port of a wire", ends.binary_search(&mirror.output_ifindex).is_err()),
                ],
            )?;
            ingresses.push(mirror.ingress_ifindex);
        }
        if has_twice(&mut ingresses) {
            return Err(LayoutError::Section { kind: MirrorRecord::KIND, what: "an ingress is there twice" });
        }
        places::check_native_vlans(self.native_vlans, self.ports)?;
        places::check_seen(self.seen, self.ports)?;
        if let Some(places) = self.places {
            places::check(places, self.mirrors, &Known::of(self.ports, self.native_vlans), &ends)?;
        }
        let mut before = None;
        for (i, forwarding) in self.link_loss.iter().enumerate() {
            let LinkLossRecord { wire } = forwarding;
            check(
                i,
                &forwarding,
                &[
                    ("there is no such wire", (wire as usize) < self.wires.len()),
                    ("its wire does not come after that of the record before", before < Some(wire)),
                ],
            )?;
            before = Some(wire);
        }
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            check(
                i,
                &diagnostic,
                &[
                    ("padding is not zero", diagnostic.pad == 0),
                    ("subject is not a string", text(diagnostic.subject)),
                    ("message is not a string", text(diagnostic.message)),
                ],
            )?;
        }
        Ok(())
    }
}
