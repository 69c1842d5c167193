//! A snapshot to the image the dataplane reads, and back.
//!
//! ```text
//! Snapshot + Admission + Provenance ── compile ──> Image ── publish ──> SnapshotView ── decompile ──> Snapshot
//! ```
//!
//! The image carries all that [`export`](super::json::export) writes, so what is published is the whole truth and
//! no second copy of the configuration has to be kept beside it.

use sha2::{Digest, Sha256};
use shm_layout::image::{Image, ImageBuilder, Need};
use shm_layout::record::{
    DiagnosticRecord, LinkLossRecord, MetaRecord, MirrorRecord, NativeVlanRecord, PlaceRecord, Placement, PortRecord,
    Role, SeenRecord, WireRecord,
};
use shm_layout::{places, record, snapshot::SnapshotView};

use super::admission::{Admission, StaticState};
use super::diagnostic::{Diagnostic, Severity};
use super::model::{Interface, Mirror, Snapshot, Wire};
use super::units::Units;
use crate::clock;

/// What an image says about where it came from, and what holds for it beside the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// SHA-256 of the source document.
    pub digest: [u8; 32],
    /// Whether this node mirrors.
    pub role: Role,
    /// [`META_DISARMED`](record::META_DISARMED) or 0.
    pub flags: u64,
    /// When it was compiled, nanoseconds since the Unix epoch.
    pub compiled_at: u64,
}

impl Provenance {
    /// A document as read just now, for an active node with mirroring armed.
    #[must_use]
    pub fn of(document: &[u8]) -> Provenance {
        Provenance {
            digest: Sha256::digest(document).into(),
            role: Role::Active,
            flags: 0,
            compiled_at: clock::unix_ns(),
        }
    }
}

/// Compiles an admitted snapshot; `admission` is the answer to it of [`admit`](super::admission::admit) or
/// [`Draft::admit`](super::Draft::admit).
///
/// Every section but DIAGNOSTICS, NATIVE_VLANS, SEEN and LINK_LOSS is required: a dataplane that cannot read one of them
/// must not guess. PLACES is so only where it says other than a dataplane of layout minor 0 would guess, which takes any other
/// snapshot.
#[must_use]
pub fn compile(snapshot: &Snapshot, admission: &Admission, source: &Provenance) -> Image {
    let mut image = ImageBuilder::new();
    let meta = MetaRecord {
        source_version: snapshot.version,
        role: source.role,
        source_generation: snapshot.generation,
        fib_generation: snapshot.fib_generation,
        generated_at: image.string(&snapshot.generated_at),
        compiled_at: source.compiled_at,
        flags: source.flags,
        digest: source.digest,
        reserved: 0,
    };
    let ports: Vec<PortRecord> = snapshot.interfaces.iter().map(|interface| port(&mut image, interface)).collect();
    let wires: Vec<WireRecord> = snapshot
        .wires
        .iter()
        .map(|w| WireRecord { a_ifindex: w.a_ifindex, b_ifindex: w.b_ifindex, name: image.string(&w.name) })
        .collect();
    let mirrors: Vec<MirrorRecord> = snapshot
        .mirrors
        .iter()
        .enumerate()
        .map(|(i, mirror)| MirrorRecord {
            ingress_ifindex: mirror.ingress_ifindex,
            output_ifindex: mirror.output_ifindex,
            rate: mirror.rate,
            placement: match admission.states.get(i) {
                None | Some(StaticState::Active) => Placement::OnWire,
                Some(StaticState::Inactive(_)) => Placement::OnNoWire,
            },
        })
        .collect();
    let places = Units::of(snapshot).places(&snapshot.mirrors);
    let places_need = if places == older_places(snapshot) { Need::Optional } else { Need::Required };
    let diagnostics: Vec<DiagnosticRecord> = admission
        .diagnostics
        .iter()
        .map(|d| DiagnosticRecord {
            severity: match d.severity {
                Severity::Note => record::Severity::Note,
                Severity::Warning => record::Severity::Warning,
            },
            pad: 0,
            subject: image.string(&d.subject),
            message: image.string(&d.message),
        })
        .collect();
    image
        .section(Need::Required, &[meta])
        .section(Need::Required, &ports)
        .section(Need::Required, &wires)
        .section(Need::Required, &mirrors)
        .section(Need::Optional, &diagnostics)
        .section(Need::Optional, &native_vlans(&snapshot.interfaces))
        .section(places_need, &places)
        .section(Need::Optional, &seen(&snapshot.interfaces))
        .section(Need::Optional, &link_loss(&snapshot.wires));
    image.finish()
}

/// Whether a dataplane that does not know PLACES would mirror a snapshot otherwise than it means.
#[must_use]
pub fn needs_places(snapshot: &Snapshot) -> bool {
    Units::of(snapshot).places(&snapshot.mirrors) != older_places(snapshot)
}

/// What such a dataplane makes of it.
fn older_places(snapshot: &Snapshot) -> Vec<PlaceRecord> {
    places::older(
        snapshot.interfaces.iter().map(|i| (i.ifindex, i.parent_ifindex, i.vlan_id)),
        snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]),
        snapshot.mirrors.iter().map(|mirror| (mirror.ingress_ifindex, mirror.output_ifindex)),
    )
}

fn native_vlans(interfaces: &[Interface]) -> Vec<NativeVlanRecord> {
    let with_one = interfaces.iter().zip(0..).filter(|(interface, _)| interface.native_vlan_id > 0);
    with_one.map(|(interface, port)| NativeVlanRecord { port, vlan_id: interface.native_vlan_id, pad: 0 }).collect()
}

fn seen(interfaces: &[Interface]) -> Vec<SeenRecord> {
    interfaces.iter().zip(0..).filter(|(row, _)| row.seen).map(|(_, port)| SeenRecord { port }).collect()
}

fn link_loss(wires: &[Wire]) -> Vec<LinkLossRecord> {
    let forwarding = wires.iter().zip(0..).filter(|(wire, _)| wire.link_loss_forwarding);
    forwarding.map(|(_, wire)| LinkLossRecord { wire }).collect()
}

fn port(image: &mut ImageBuilder, interface: &Interface) -> PortRecord {
    PortRecord {
        ifindex: interface.ifindex,
        parent_ifindex: interface.parent_ifindex,
        mtu: interface.mtu,
        vlan_id: interface.vlan_id,
        has_mac: interface.mac.is_some().into(),
        mac: interface.mac.unwrap_or_default(),
        pad: [0; 2],
        name: image.string(&interface.name),
        linux_name: image.string(&interface.linux_name),
    }
}

/// The snapshot an image was compiled from: the exact inverse of [`compile`].
#[must_use]
pub fn decompile(view: &SnapshotView<'_>) -> Snapshot {
    let text = |at| view.strings.text(at).to_owned();
    // In the order of the ports, and of the wires.
    let mut natives = view.native_vlans.iter().peekable();
    let mut seen = view.seen.iter().peekable();
    let mut link_loss = view.link_loss.iter().peekable();
    Snapshot {
        version: view.meta.source_version,
        generation: view.meta.source_generation,
        fib_generation: view.meta.fib_generation,
        generated_at: text(view.meta.generated_at),
        interfaces: view
            .ports
            .iter()
            .zip(0..)
            .map(|(port, at)| Interface {
                name: text(port.name),
                linux_name: text(port.linux_name),
                ifindex: port.ifindex,
                parent_ifindex: port.parent_ifindex,
                vlan_id: port.vlan_id,
                native_vlan_id: natives.next_if(|native| native.port == at).map_or(0, |native| native.vlan_id),
                mtu: port.mtu,
                mac: (port.has_mac == 1).then_some(port.mac),
                seen: seen.next_if(|seen| seen.port == at).is_some(),
            })
            .collect(),
        mirrors: view
            .mirrors
            .iter()
            .map(|m| Mirror { ingress_ifindex: m.ingress_ifindex, output_ifindex: m.output_ifindex, rate: m.rate })
            .collect(),
        wires: view
            .wires
            .iter()
            .zip(0..)
            .map(|(w, at)| Wire {
                name: text(w.name),
                a_ifindex: w.a_ifindex,
                b_ifindex: w.b_ifindex,
                link_loss_forwarding: link_loss.next_if(|forwarding| forwarding.wire == at).is_some(),
            })
            .collect(),
    }
}

/// The remarks an image was published with.
#[must_use]
pub fn diagnostics(view: &SnapshotView<'_>) -> Vec<Diagnostic> {
    view.diagnostics
        .iter()
        .map(|d| Diagnostic {
            severity: match d.severity {
                record::Severity::Note => Severity::Note,
                record::Severity::Warning => Severity::Warning,
            },
            subject: view.strings.text(d.subject).to_owned(),
            message: view.strings.text(d.message).to_owned(),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use crate::control::admit;

    fn wired(mirrors: &[(u32, u32)], wires: &[(u32, u32)]) -> Snapshot {
        Snapshot {
            mirrors: mirrors
                .iter()
                .map(|&(ingress_ifindex, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate: 7 })
                .collect(),
            wires: wires
                .iter()
                .map(|&(a_ifindex, b_ifindex)| Wire {
                    name: format!("{a_ifindex}"),
                    a_ifindex,
                    b_ifindex,
                    ..Wire::default()
                })
                .collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_image_says_what_the_admission_says() {
        let snapshot = wired(&[(11, 22), (13, 22)], &[(11, 12)]);
        let admission = admit(&snapshot);
        let source = Provenance { role: Role::Standby, flags: record::META_DISARMED, ..Provenance::of(b"abc") };
        let image = compile(&snapshot, &admission, &source);
        let view = SnapshotView::try_from(image.words()).expect("trusted");
        let placements: Vec<Placement> = view.mirrors.iter().map(|m| m.placement).collect();
        assert_eq!(placements, [Placement::OnWire, Placement::OnNoWire]);
        assert_eq!(diagnostics(&view), admission.diagnostics);
        assert_eq!((view.meta.role, view.meta.flags), (Role::Standby, record::META_DISARMED));
        assert_eq!(view.meta.digest[..4], [0xba, 0x78, 0x16, 0xbf], "SHA-256 of \"abc\" (FIPS 180-2)");
    }
}
