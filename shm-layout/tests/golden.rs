//! Layout v1 as files. They are never to change: an image of the first release stays readable for as long as
//! the layout's major is 1, and what a builder writes today is what that release wrote.
//!
//! `SPANWIRE_BLESS=1` writes files that are missing; it never replaces one.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use bytemuck::Zeroable;
use common::{
    full, full_builder, full_mirrors, header, header_of_minor, link_loss, native, of_minor, placed, placed_builder,
    placed_places, put, reseal, seen, small,
};
use shm_layout::error::LayoutError;
use shm_layout::header::{Geometry, Header, RegionKind};
use shm_layout::image::Need;
use shm_layout::record::{
    FeatureRecord, LinkLossRecord, META_DISARMED, MirrorRecord, NativeVlanRecord, PathRecord, PlaceRecord, Placement,
    Record, Role, SeenRecord, Severity, SlotHeader, StatsMetaRecord, TakenDownRecord, fnv1a,
};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::ImageView;
use shm_layout::{LAYOUT_MAJOR, LAYOUT_MINOR};

const ENDIAN_AT: usize = std::mem::offset_of!(SlotHeader, endian);
const MAJOR_AT: usize = std::mem::offset_of!(SlotHeader, layout_major);
const MINOR_AT: usize = std::mem::offset_of!(SlotHeader, layout_minor);

/// The bytes of a golden file, as words.
fn golden(name: &str, today: &[u8]) -> Vec<u64> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("SPANWIRE_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, today).expect("writable");
    }
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let differs = bytes.iter().zip(today).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{name}: the first byte that differs");
    assert_eq!(bytes.len(), today.len(), "{name}: length");
    bytemuck::pod_collect_to_vec(&bytes)
}

#[test]
fn the_small_image_is_what_it_was() {
    let words = golden("small.img", of_minor(0, &small()).bytes());
    let view = SnapshotView::try_from(&*words).expect("readable for good");
    assert_eq!((view.image.generation, view.image.published_at), (0, 0));
    assert_eq!((view.meta.source_version, view.meta.role, view.meta.flags), (3, Role::Standby, META_DISARMED));
    assert_eq!((view.meta.source_generation, view.meta.fib_generation), (u64::MAX - 1, 1 << 53));
    assert_eq!(view.strings.get(view.meta.generated_at), Some("2024-05-01T10:00:00Z"));
    assert_eq!(view.meta.digest, std::array::from_fn(|i| i as u8));
    assert!(view.ports.is_empty() && view.diagnostics.is_empty());
    assert_eq!(view.wires.iter().map(|w| (w.a_ifindex, w.b_ifindex)).collect::<Vec<_>>(), [(11, 12)]);
    let mirrors: Vec<_> = view.mirrors.iter().map(|m| (m.ingress_ifindex, m.output_ifindex, m.rate)).collect();
    assert_eq!(mirrors, [(11, 22, 100)]);
}

#[test]
fn the_full_image_is_what_it_was() {
    let words = golden("full.img", of_minor(0, &full()).bytes());
    let view = SnapshotView::try_from(&*words).expect("readable for good");
    let text = |at| view.strings.get(at).expect("a string");
    assert_eq!((view.image.generation, view.image.published_at), (7, 123_456_789));
    assert_eq!(text(view.meta.generated_at), "2024-05-01T10:00:00.000000001+09:00");
    let ports: Vec<_> = view.ports.iter().collect();
    assert_eq!(ports.iter().map(|p| text(p.name)).collect::<Vec<_>>(), ["ge-0/0/1", "Ḡ-порт-港口"]);
    assert_eq!(ports.iter().map(|p| text(p.linux_name)).collect::<Vec<_>>(), ["ge-0-0-1", "🦀"]);
    assert_eq!((ports[0].has_mac, ports[0].mac, ports[0].mtu), (1, [2, 0, 0, 0, 0, 11], 1500));
    assert_eq!((ports[1].ifindex, ports[1].parent_ifindex, ports[1].vlan_id), (1 << 30, 11, 4094));
    assert_eq!(view.wires.iter().map(|w| text(w.name)).collect::<Vec<_>>(), ["провод", "w2"]);
    assert_eq!(view.mirrors.iter().collect::<Vec<_>>(), full_mirrors());
    assert_eq!(view.mirrors.iter().last().map(|m| m.placement), Some(Placement::OnNoWire));
    let diagnostics: Vec<_> = view.diagnostics.iter().map(|d| (d.severity, text(d.subject), text(d.message))).collect();
    assert_eq!(
        diagnostics,
        [(Severity::Warning, "instance «a»", "output not found: skipped"), (Severity::Note, "", "w2")]
    );
    // What its release made of the entries.
    let vlan = PlaceRecord { vlan_id: 4094, ..PlaceRecord::of_ports(11, 23) };
    let places = [PlaceRecord::of_ports(11, 22), vlan, PlaceRecord::of_ports(i32::MAX as u32, 22)];
    assert_eq!((view.places(), view.native_vlans.len()), (places.to_vec(), 0));
}

#[test]
fn the_image_with_places_is_what_it_was() {
    let words = golden("placed.img", of_minor(1, &placed()).bytes());
    let view = SnapshotView::try_from(&*words).expect("readable for good");
    assert_eq!(view.image.layout_minor, 1);
    assert_eq!(view.places(), placed_places());
    assert_eq!(view.native_vlans.iter().collect::<Vec<_>>(), [native(0, 4094)]);
    let ports: Vec<_> = view.ports.iter().map(|p| (p.ifindex, p.parent_ifindex, p.vlan_id)).collect();
    let units = [(1 << 30, 11, 4094), ((1 << 30) + 1, 11, 5), ((1 << 30) + 2, 24, 7)];
    assert_eq!(ports, [&[(11, 0, 0); 2][..], &units].concat());
}

#[test]
fn the_image_with_ports_seen_is_what_it_was() {
    let words = golden("seen.img", of_minor(1, &seen()).bytes());
    let view = SnapshotView::try_from(&*words).expect("readable for good");
    assert_eq!((view.image.layout_minor, view.places()), (1, placed_places().to_vec()));
    assert_eq!(view.seen.iter().collect::<Vec<_>>(), [0, 4].map(|port| SeenRecord { port }));
}

#[test]
fn the_image_with_link_loss_forwarding_is_what_it_was() {
    let words = golden("link-loss.img", of_minor(1, &link_loss()).bytes());
    let view = SnapshotView::try_from(&*words).expect("readable for good");
    assert_eq!((view.image.layout_minor, view.wires.len()), (1, 2));
    assert_eq!(view.link_loss.iter().collect::<Vec<_>>(), [LinkLossRecord { wire: 1 }]);
    assert!(
        ImageView::parse(&words).expect("sound").sections().all(|s| s.kind != LinkLossRecord::KIND || s.flags == 0)
    );
}

/// What a dataplane of minor 0 makes of the same entries, and what it says where that is not what they mean.
#[test]
fn without_places_an_entry_is_what_it_was_for_minor_0() {
    let image = placed_builder().finish();
    let view = SnapshotView::try_from(image.words()).expect("readable");
    let vlan = |vlan_id, output| PlaceRecord { vlan_id, ..PlaceRecord::of_ports(11, output) };
    assert_eq!(view.places(), [PlaceRecord::of_ports(11, 22), vlan(4094, 23), vlan(5, (1 << 30) + 2)]);
}

#[test]
fn the_region_header_is_what_it_was() {
    let words = golden("region-header.img", bytemuck::bytes_of(&header_of_minor(0)));
    let mut header = Header::zeroed();
    bytemuck::bytes_of_mut(&mut header).copy_from_slice(bytemuck::cast_slice(&words));
    let geometry = Geometry { slot_len: 64 << 10, instance_id: 0x0123_4567_89ab_cdef };
    assert_eq!(header.geometry(RegionKind::Config, geometry.region_len() as u64), Ok(geometry));
    assert_eq!((geometry.region_len(), geometry.slot_word(5)), (4096 + (256 << 10), (4096 + (64 << 10)) / 8));
}

#[test]
fn the_other_byte_order_is_refused() {
    let mut words = full().words().to_vec();
    put(&mut words, ENDIAN_AT, 0x0102_0304_u32.to_be());
    let refused = LayoutError::Endian { found: 0x0403_0201 };
    assert_eq!(SnapshotView::try_from(&*reseal(words)).err(), Some(refused.clone()));

    let mut header = header();
    header.endian = header.endian.to_be();
    assert_eq!(header.geometry(RegionKind::Config, u64::MAX), Err(refused));
}

#[test]
fn another_major_is_refused_whatever_else_it_holds() {
    for major in [0, LAYOUT_MAJOR + 1, u16::MAX] {
        let refused = LayoutError::LayoutMajor { found: major, supported: LAYOUT_MAJOR };
        let mut words = full().words().to_vec();
        put(&mut words, MAJOR_AT, major);
        // Its checksum may be computed another way, so the version is looked at before it.
        assert_eq!(SnapshotView::try_from(&*words).err(), Some(refused.clone()));
        assert_eq!(SnapshotView::try_from(&*reseal(words)).err(), Some(refused.clone()));

        let mut header = header();
        header.layout_major = major;
        assert_eq!(header.geometry(RegionKind::Config, u64::MAX), Err(refused));
    }
}

/// [`full`] as a release with a newer minor writes it: longer mirror records, and a section more.
fn newer(minor: u16, extra: Need) -> Vec<u64> {
    let mut builder = full_builder();
    let mut longer = Vec::new();
    for record in full_mirrors() {
        longer.extend_from_slice(bytemuck::bytes_of(&record));
        longer.extend_from_slice(&0xfeed_u64.to_le_bytes());
    }
    builder.raw_section(77, extra, 3, fnv1a("rgb:[u8; 3];"), vec![1; 9]).raw_section(
        MirrorRecord::KIND,
        Need::Required,
        24,
        fnv1a("…burst:u64;"),
        longer,
    );
    let mut words = builder.finish().words().to_vec();
    put(&mut words, MINOR_AT, minor);
    reseal(words)
}

#[test]
fn a_newer_minor_is_read() {
    let words = newer(LAYOUT_MINOR + 1, Need::Optional);
    let view = SnapshotView::try_from(&*words).expect("the fields known here are where they were");
    assert_eq!((view.mirrors.len(), view.mirrors.iter().count()), (3, 3));
    assert_eq!(view.mirrors.iter().collect::<Vec<_>>(), full_mirrors());
    assert_eq!(view.wires.len(), 2);
    let image = ImageView::parse(&words).expect("sound");
    assert!(image.sections().any(|s| s.kind == 77), "skipped, and still listed");
}

#[test]
fn a_newer_minor_may_insist() {
    let words = newer(LAYOUT_MINOR + 1, Need::Required);
    assert_eq!(SnapshotView::try_from(&*words).err(), Some(LayoutError::UnknownRequired { kind: 77 }));
}

#[test]
fn the_same_minor_has_the_same_records() {
    let words = newer(LAYOUT_MINOR, Need::Optional);
    let refused = LayoutError::Section { kind: MirrorRecord::KIND, what: "its records have another size" };
    assert_eq!(SnapshotView::try_from(&*words).err(), Some(refused));
}

/// Not in a golden file, as the values in its rows grow with the minor: only what tells the region's kind.
#[test]
fn the_kinds_are_what_they_were() {
    assert_eq!((RegionKind::Config as u32, RegionKind::Stats as u32), (1, 2));
    assert_eq!((MirrorRecord::KIND, StatsMetaRecord::KIND), (4, 100));
    assert_eq!((PlaceRecord::KIND, NativeVlanRecord::KIND, SeenRecord::KIND), (7, 8, 9));
    assert_eq!((LinkLossRecord::KIND, TakenDownRecord::KIND, PathRecord::KIND), (10, 113, 114));
    assert_eq!(FeatureRecord::KIND, 115);
}
