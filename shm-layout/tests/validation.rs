//! What a damaged image or header is refused for: every field by its own check, every bit and every length.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::mem::offset_of;

use bytemuck::NoUninit;
use common::{
    entry_at, full, full_builder, full_mirrors, header, header_of_minor, large, native, placed, placed_builder,
    placed_places, put, record_at, reseal, sections, small,
};
use proptest::prelude::*;
use shm_layout::error::LayoutError;
use shm_layout::header::{Header, MAX_SLOT, RegionKind};
use shm_layout::image::{ImageBuilder, Need};
use shm_layout::record::{
    DiagnosticRecord, LinkLossRecord, MetaRecord, MirrorRecord, NativeVlanRecord, PLACE_UNTAGGED, PlaceRecord,
    PortRecord, Record, STRINGS_HASH, STRINGS_KIND, SectionEntry, SeenRecord, SlotHeader, StatsMetaRecord, StrRef,
    UmemRecord, WireRecord,
};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::ImageView;
use shm_layout::{ENDIAN_TAG, LAYOUT_MAJOR, LAYOUT_MINOR, PAGE, SLOTS};

fn words() -> Vec<u64> {
    full().words().to_vec()
}

/// Why the words are refused with a checksum that is right.
fn refused(words: Vec<u64>) -> LayoutError {
    SnapshotView::try_from(&*reseal(words)).map(|_| ()).expect_err("a damaged field was accepted")
}

/// Why [`full`] is refused with `value` in one field of its header.
fn with_header<T: NoUninit>(at: usize, value: T) -> LayoutError {
    let mut words = words();
    put(&mut words, at, value);
    refused(words)
}

/// Why [`full`] is refused with `value` in one field of a section's entry.
fn with_entry<T: NoUninit>(kind: u32, field: usize, value: T) -> LayoutError {
    let mut words = words();
    let at = entry_at(&words, kind) + field;
    put(&mut words, at, value);
    refused(words)
}

/// Why [`full`] is refused with `value` in one field of a record.
fn with_record<R: Record>(index: usize, field: usize, value: impl NoUninit) -> LayoutError {
    let mut words = words();
    let at = record_at::<R>(&words, index) + field;
    put(&mut words, at, value);
    refused(words)
}

/// Why [`placed`] is refused with `value` in one field of a record.
fn with_placed<R: Record>(index: usize, field: usize, value: impl NoUninit) -> LayoutError {
    let mut words = placed().words().to_vec();
    let at = record_at::<R>(&words, index) + field;
    put(&mut words, at, value);
    refused(words)
}

/// Why [`placed`] is refused with these in the place of its own.
fn with_places(natives: &[NativeVlanRecord], places: &[PlaceRecord]) -> LayoutError {
    let mut image = placed_builder();
    image.section(Need::Optional, natives).section(Need::Required, places);
    refused(image.finish().words().to_vec())
}

/// Why [`placed`] is refused with these ports as seen.
fn with_seen(ports: &[u32]) -> LayoutError {
    let mut image = placed_builder();
    let seen: Vec<SeenRecord> = ports.iter().map(|&port| SeenRecord { port }).collect();
    image.section(Need::Optional, &[native(0, 4094)]).section(Need::Required, &placed_places());
    image.section(Need::Optional, &seen);
    refused(image.finish().words().to_vec())
}

/// Why [`full`] is refused with these of its two wires as those that forward the loss of a link.
fn with_link_loss(wires: &[u32]) -> LayoutError {
    let mut image = full_builder();
    let wires: Vec<LinkLossRecord> = wires.iter().map(|&wire| LinkLossRecord { wire }).collect();
    image.section(Need::Required, &full_mirrors()).section(Need::Optional, &wires);
    refused(image.finish().words().to_vec())
}

fn in_record<R: Record>(index: usize, what: &'static str) -> LayoutError {
    LayoutError::Record { kind: R::KIND, index, what }
}

/// One test for each line: the fixture with `value` in a field is refused for `error`.
macro_rules! refuses {
    ($($name:ident: $found:expr => $error:expr;)*) => { $(
        #[test]
        fn $name() {
            assert_eq!($found, $error);
        }
    )* };
}

const MIRRORS: u32 = MirrorRecord::KIND;
const OUTSIDE: StrRef = StrRef { offset: 1 << 20, len: 1 };
const OVERFLOWING: StrRef = StrRef { offset: u32::MAX, len: u32::MAX };

refuses! {
    header_seq: with_header(offset_of!(SlotHeader, seq), 2u64) => LayoutError::Field { field: "image.seq", found: 2 };
    header_magic: with_header(offset_of!(SlotHeader, magic), 7u64) => LayoutError::Magic { found: 7 };
    header_endian: with_header(offset_of!(SlotHeader, endian), ENDIAN_TAG + 1)
        => LayoutError::Endian { found: ENDIAN_TAG + 1 };
    header_layout_major: with_header(offset_of!(SlotHeader, layout_major), 2u16)
        => LayoutError::LayoutMajor { found: 2, supported: LAYOUT_MAJOR };
    header_len_short: with_header(offset_of!(SlotHeader, len), 64u64)
        => LayoutError::Truncated { len: full().len_bytes() as u64, need: 64 };
    header_len_long: with_header(offset_of!(SlotHeader, len), u64::MAX)
        => LayoutError::Truncated { len: full().len_bytes() as u64, need: u64::MAX };
    header_section_count_beyond_the_image: with_header(offset_of!(SlotHeader, section_count), u32::MAX)
        => LayoutError::Field { field: "image.section_count", found: u64::from(u32::MAX) };
    header_section_count_too_small: with_header(offset_of!(SlotHeader, section_count), 5u32)
        => LayoutError::Section { kind: MetaRecord::KIND, what: "has bytes before it that are not zero" };
    header_reserved: with_header(offset_of!(SlotHeader, reserved), 1u64)
        => LayoutError::Field { field: "image.reserved", found: 1 };

    entry_kind_unknown_and_required: with_entry(MIRRORS, offset_of!(SectionEntry, kind), 99u32)
        => LayoutError::UnknownRequired { kind: 99 };
    entry_kind_reserved_and_required: with_entry(MIRRORS, offset_of!(SectionEntry, kind), 121u32)
        => LayoutError::UnknownRequired { kind: 121 };
    entry_kind_twice: with_entry(MIRRORS, offset_of!(SectionEntry, kind), WireRecord::KIND)
        => LayoutError::Section { kind: WireRecord::KIND, what: "is there twice" };
    entry_flags: with_entry(MIRRORS, offset_of!(SectionEntry, flags), 3u32)
        => LayoutError::Section { kind: MIRRORS, what: "has unknown flags" };
    entry_offset_in_the_table: with_entry(MIRRORS, offset_of!(SectionEntry, offset), 64u64)
        => LayoutError::Section { kind: MIRRORS, what: "lies outside the image" };
    entry_offset_beyond_the_end: with_entry(MIRRORS, offset_of!(SectionEntry, offset), 1u64 << 40)
        => LayoutError::Section { kind: MIRRORS, what: "lies outside the image" };
    entry_offset_overflowing: with_entry(MIRRORS, offset_of!(SectionEntry, offset), !7u64)
        => LayoutError::Section { kind: MIRRORS, what: "lies outside the image" };
    entry_offset_unaligned: with_entry(MIRRORS, offset_of!(SectionEntry, offset), 321u64)
        => LayoutError::Section { kind: MIRRORS, what: "is not aligned" };
    entry_offset_of_another: with_entry(MIRRORS, offset_of!(SectionEntry, offset), sections(&words())[0].offset)
        => LayoutError::Section { kind: MetaRecord::KIND, what: "overlaps another" };
    entry_len: with_entry(MIRRORS, offset_of!(SectionEntry, len), 40u64)
        => LayoutError::Section { kind: MIRRORS, what: "its length is not elem_size * elem_count" };
    entry_elem_size: with_entry(MIRRORS, offset_of!(SectionEntry, elem_size), 24u32)
        => LayoutError::Section { kind: MIRRORS, what: "its length is not elem_size * elem_count" };
    entry_elem_size_zero: with_entry(MIRRORS, offset_of!(SectionEntry, elem_size), 0u32)
        => LayoutError::Section { kind: MIRRORS, what: "its length is not elem_size * elem_count" };
    entry_elem_count: with_entry(MIRRORS, offset_of!(SectionEntry, elem_count), 2u32)
        => LayoutError::Section { kind: MIRRORS, what: "its length is not elem_size * elem_count" };
    entry_schema_hash: with_entry(MIRRORS, offset_of!(SectionEntry, schema_hash), MirrorRecord::SCHEMA_HASH ^ 1)
        => LayoutError::Section { kind: MIRRORS, what: "its records have other fields" };
    strings_schema_hash: with_entry(STRINGS_KIND, offset_of!(SectionEntry, schema_hash), STRINGS_HASH ^ 1)
        => LayoutError::Section { kind: STRINGS_KIND, what: "is not a list of bytes" };

    meta_role: with_record::<MetaRecord>(0, offset_of!(MetaRecord, role), 2u32)
        => in_record::<MetaRecord>(0, "a field is none of its values");
    meta_generated_at: with_record::<MetaRecord>(0, offset_of!(MetaRecord, generated_at), OUTSIDE)
        => in_record::<MetaRecord>(0, "generated_at is not a string");
    meta_flags: with_record::<MetaRecord>(0, offset_of!(MetaRecord, flags), 2u64)
        => in_record::<MetaRecord>(0, "flags has unknown bits");
    meta_reserved: with_record::<MetaRecord>(0, offset_of!(MetaRecord, reserved), 1u64)
        => in_record::<MetaRecord>(0, "reserved is not zero");

    port_ifindex: with_record::<PortRecord>(1, offset_of!(PortRecord, ifindex), 1u32 << 31)
        => in_record::<PortRecord>(1, "ifindex is out of range");
    port_parent_ifindex: with_record::<PortRecord>(1, offset_of!(PortRecord, parent_ifindex), 1u32 << 31)
        => in_record::<PortRecord>(1, "parent_ifindex is out of range");
    port_vlan_id: with_record::<PortRecord>(1, offset_of!(PortRecord, vlan_id), 4095u16)
        => in_record::<PortRecord>(1, "vlan_id is out of range");
    port_has_mac: with_record::<PortRecord>(0, offset_of!(PortRecord, has_mac), 2u16)
        => in_record::<PortRecord>(0, "has_mac is neither 0 nor 1");
    port_mac: with_record::<PortRecord>(1, offset_of!(PortRecord, mac), [0u8, 0, 0, 0, 0, 1])
        => in_record::<PortRecord>(1, "mac is set and has_mac is not");
    port_pad: with_record::<PortRecord>(0, offset_of!(PortRecord, pad), [0u8, 1])
        => in_record::<PortRecord>(0, "padding is not zero");
    port_name: with_record::<PortRecord>(0, offset_of!(PortRecord, name), OVERFLOWING)
        => in_record::<PortRecord>(0, "name is not a string");
    port_linux_name: with_record::<PortRecord>(0, offset_of!(PortRecord, linux_name), OUTSIDE)
        => in_record::<PortRecord>(0, "linux_name is not a string");

    wire_a_ifindex: with_record::<WireRecord>(1, offset_of!(WireRecord, a_ifindex), 0u32)
        => in_record::<WireRecord>(1, "a_ifindex is out of range");
    wire_b_ifindex: with_record::<WireRecord>(0, offset_of!(WireRecord, b_ifindex), u32::MAX)
        => in_record::<WireRecord>(0, "b_ifindex is out of range");
    wire_name: with_record::<WireRecord>(0, offset_of!(WireRecord, name), OUTSIDE)
        => in_record::<WireRecord>(0, "name is not a string");
    wire_port_on_another_wire: with_record::<WireRecord>(1, offset_of!(WireRecord, a_ifindex), 12u32)
        => LayoutError::Section { kind: WireRecord::KIND, what: "a port is on two wires" };
    wire_to_itself: with_record::<WireRecord>(1, offset_of!(WireRecord, a_ifindex), 14u32)
        => LayoutError::Section { kind: WireRecord::KIND, what: "a port is on two wires" };

    mirror_ingress_zero: with_record::<MirrorRecord>(2, offset_of!(MirrorRecord, ingress_ifindex), 0u32)
        => in_record::<MirrorRecord>(2, "ingress_ifindex is out of range");
    mirror_ingress_twice: with_record::<MirrorRecord>(2, offset_of!(MirrorRecord, ingress_ifindex), 11u32)
        => LayoutError::Section { kind: MIRRORS, what: "an ingress is there twice" };
    mirror_output: with_record::<MirrorRecord>(0, offset_of!(MirrorRecord, output_ifindex), 1u32 << 31)
        => in_record::<MirrorRecord>(0, "output_ifindex is out of range");
    mirror_output_is_ingress: with_record::<MirrorRecord>(0, offset_of!(MirrorRecord, output_ifindex), 11u32)
        => in_record::<MirrorRecord>(0, "the output is the ingress");
    mirror_output_on_a_wire: with_record::<MirrorRecord>(1, offset_of!(MirrorRecord, output_ifindex), 12u32)
        => in_record::<MirrorRecord>(1, "the output is a port of a wire");
    mirror_placement: with_record::<MirrorRecord>(1, offset_of!(MirrorRecord, placement), 2u32)
        => in_record::<MirrorRecord>(1, "a field is none of its values");

    place_port: with_placed::<PlaceRecord>(0, offset_of!(PlaceRecord, port_ifindex), 12u32)
        => in_record::<PlaceRecord>(0, "the port and the VLAN are not those of the ingress");
    place_port_zero: with_placed::<PlaceRecord>(1, offset_of!(PlaceRecord, port_ifindex), 0u32)
        => in_record::<PlaceRecord>(1, "the port and the VLAN are not those of the ingress");
    place_port_out_of_range: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, port_ifindex), u32::MAX)
        => in_record::<PlaceRecord>(2, "the port and the VLAN are not those of the ingress");
    place_vlan_of_a_port: with_placed::<PlaceRecord>(0, offset_of!(PlaceRecord, vlan_id), 5u16)
        => in_record::<PlaceRecord>(0, "the port and the VLAN are not those of the ingress");
    place_vlan_of_another: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, vlan_id), 4094u16)
        => in_record::<PlaceRecord>(2, "the port and the VLAN are not those of the ingress");
    place_vlan_out_of_range: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, vlan_id), 4096u16)
        => in_record::<PlaceRecord>(2, "the port and the VLAN are not those of the ingress");
    place_vlan_zero: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, vlan_id), 0u16)
        => in_record::<PlaceRecord>(2, "the port and the VLAN are not those of the ingress");
    place_flags: with_placed::<PlaceRecord>(1, offset_of!(PlaceRecord, flags), 3u16)
        => in_record::<PlaceRecord>(1, "flags has unknown bits");
    place_untagged_of_a_port: with_placed::<PlaceRecord>(0, offset_of!(PlaceRecord, flags), PLACE_UNTAGGED)
        => in_record::<PlaceRecord>(0, "the VLAN is not that of the port's untagged frames");
    place_untagged_of_another: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, flags), PLACE_UNTAGGED)
        => in_record::<PlaceRecord>(2, "the VLAN is not that of the port's untagged frames");
    place_output: with_placed::<PlaceRecord>(0, offset_of!(PlaceRecord, output_ifindex), 23u32)
        => in_record::<PlaceRecord>(0, "the output port is not one of the output");
    place_output_zero: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, output_ifindex), 0u32)
        => in_record::<PlaceRecord>(2, "the output port is not one of the output");
    place_output_is_its_port: with_placed::<PlaceRecord>(2, offset_of!(PlaceRecord, output_ifindex), 11u32)
        => in_record::<PlaceRecord>(2, "the output port is the port");
    place_output_on_a_wire: with_placed::<WireRecord>(0, offset_of!(WireRecord, b_ifindex), 24u32)
        => in_record::<PlaceRecord>(2, "the output port is a port of a wire");
    places_too_few: with_places(&[native(0, 4094)], &placed_places()[..2])
        => LayoutError::Section { kind: PlaceRecord::KIND, what: "does not have one record for each mirror entry" };
    places_too_many: with_places(&[native(0, 4094)], &[&placed_places()[..], &placed_places()[..1]].concat())
        => LayoutError::Section { kind: PlaceRecord::KIND, what: "does not have one record for each mirror entry" };
    places_without_the_native_vlan: with_places(&[], &placed_places())
        => in_record::<PlaceRecord>(1, "the VLAN is not that of the port's untagged frames");

    native_port: with_placed::<NativeVlanRecord>(0, offset_of!(NativeVlanRecord, port), 5u32)
        => in_record::<NativeVlanRecord>(0, "there is no such port");
    native_port_twice: with_places(&[native(0, 4094), native(0, 5)], &placed_places())
        => in_record::<NativeVlanRecord>(1, "its port does not come after that of the record before");
    native_port_out_of_order: with_places(&[native(1, 4094), native(0, 4094)], &placed_places())
        => in_record::<NativeVlanRecord>(1, "its port does not come after that of the record before");
    native_vlan_zero: with_placed::<NativeVlanRecord>(0, offset_of!(NativeVlanRecord, vlan_id), 0u16)
        => in_record::<NativeVlanRecord>(0, "vlan_id is out of range");
    native_vlan_reserved: with_placed::<NativeVlanRecord>(0, offset_of!(NativeVlanRecord, vlan_id), 4095u16)
        => in_record::<NativeVlanRecord>(0, "vlan_id is out of range");
    native_vlan_of_another: with_placed::<NativeVlanRecord>(0, offset_of!(NativeVlanRecord, vlan_id), 6u16)
        => in_record::<PlaceRecord>(1, "the VLAN is not that of the port's untagged frames");
    native_pad: with_placed::<NativeVlanRecord>(0, offset_of!(NativeVlanRecord, pad), 1u16)
        => in_record::<NativeVlanRecord>(0, "padding is not zero");

    link_loss_wire: with_link_loss(&[2]) => in_record::<LinkLossRecord>(0, "there is no such wire");
    link_loss_wire_twice: with_link_loss(&[1, 1])
        => in_record::<LinkLossRecord>(1, "its wire does not come after that of the record before");
    link_loss_wire_out_of_order: with_link_loss(&[1, 0])
        => in_record::<LinkLossRecord>(1, "its wire does not come after that of the record before");

    seen_port: with_seen(&[5]) => in_record::<SeenRecord>(0, "there is no such port");
    seen_port_twice: with_seen(&[0, 0])
        => in_record::<SeenRecord>(1, "its port does not come after that of the record before");
    seen_port_out_of_order: with_seen(&[4, 0])
        => in_record::<SeenRecord>(1, "its port does not come after that of the record before");

    diagnostic_severity: with_record::<DiagnosticRecord>(1, offset_of!(DiagnosticRecord, severity), u32::MAX)
        => in_record::<DiagnosticRecord>(1, "a field is none of its values");
    diagnostic_pad: with_record::<DiagnosticRecord>(0, offset_of!(DiagnosticRecord, pad), 1u32)
        => in_record::<DiagnosticRecord>(0, "padding is not zero");
    diagnostic_subject: with_record::<DiagnosticRecord>(0, offset_of!(DiagnosticRecord, subject), OUTSIDE)
        => in_record::<DiagnosticRecord>(0, "subject is not a string");
    diagnostic_message: with_record::<DiagnosticRecord>(1, offset_of!(DiagnosticRecord, message), OVERFLOWING)
        => in_record::<DiagnosticRecord>(1, "message is not a string");
}

/// The checksum itself, and the fields whose every value is allowed: without a new checksum, no other is.
#[test]
fn fields_of_any_value_are_held_by_the_checksum() {
    let meta = record_at::<MetaRecord>(&words(), 0);
    let mirror = record_at::<MirrorRecord>(&words(), 0);
    for at in [
        offset_of!(SlotHeader, crc32),
        offset_of!(SlotHeader, layout_minor),
        offset_of!(SlotHeader, generation),
        offset_of!(SlotHeader, published_at),
        meta + offset_of!(MetaRecord, source_version),
        meta + offset_of!(MetaRecord, source_generation),
        meta + offset_of!(MetaRecord, fib_generation),
        meta + offset_of!(MetaRecord, compiled_at),
        meta + offset_of!(MetaRecord, digest),
        mirror + offset_of!(MirrorRecord, rate),
    ] {
        let mut words = words();
        put(&mut words, at, 0x5a5a_u16);
        let error = SnapshotView::try_from(&*words).map(|_| ()).expect_err("the checksum is over all of it");
        assert!(matches!(error, LayoutError::Crc { .. }), "byte {at}: {error}");
    }
}

#[test]
fn a_string_that_cuts_a_character_is_refused() {
    // The port's kernel name is one character of four bytes.
    let mut words = words();
    let at = record_at::<PortRecord>(&words, 1) + offset_of!(PortRecord, linux_name);
    let whole: StrRef = bytemuck::pod_read_unaligned(&bytemuck::cast_slice::<u64, u8>(&words)[at..at + 8]);
    put(&mut words, at, StrRef { len: whole.len - 1, ..whole });
    assert_eq!(refused(words), in_record::<PortRecord>(1, "linux_name is not a string"));
}

#[test]
fn strings_are_utf8() {
    let mut words = words();
    let at = sections(&words).iter().find(|s| s.kind == STRINGS_KIND).expect("there").offset as usize;
    put(&mut words, at, 0xff_u8);
    assert_eq!(refused(words), LayoutError::Section { kind: STRINGS_KIND, what: "is not UTF-8" });
}

#[test]
fn bytes_between_and_after_sections_are_zero() {
    // An ImageBuilder pads each section to a word; STRINGS is the last one.
    let words = words();
    let strings = *sections(&words).iter().find(|s| s.kind == STRINGS_KIND).expect("there");
    let end = (strings.offset + strings.len) as usize;
    assert_ne!(end % 8, 0, "the fixture has padding at its end");
    let mut after = words.clone();
    put(&mut after, end, 1u8);
    assert_eq!(refused(after), LayoutError::Field { field: "image padding", found: 1 });

    let mut builder = common::full_builder();
    builder.raw_section(77, Need::Optional, 1, 0, vec![1; 3]).section(Need::Required, &common::full_mirrors());
    let mut between = builder.finish().words().to_vec();
    let at = sections(&between).iter().find(|s| s.kind == 77).expect("there").offset as usize + 3;
    put(&mut between, at, 1u8);
    assert_eq!(refused(between), LayoutError::Section { kind: MIRRORS, what: "has bytes before it that are not zero" });
}

#[test]
fn a_section_that_is_lost_is_not_an_empty_table() {
    for (kind, what) in [
        (MetaRecord::KIND, "does not have exactly one record"),
        (PortRecord::KIND, "is missing"),
        (WireRecord::KIND, "is missing"),
        (MIRRORS, "is missing"),
        (STRINGS_KIND, "is missing"),
    ] {
        // Optional and of an unknown kind, so that only its absence is left to find.
        let mut words = words();
        let at = entry_at(&words, kind);
        put(&mut words, at + offset_of!(SectionEntry, kind), 4242u32);
        put(&mut words, at + offset_of!(SectionEntry, flags), 0u32);
        assert_eq!(refused(words), LayoutError::Section { kind, what });
    }
}

/// Two entries that would sample the same frames.
#[test]
fn a_place_twice_is_refused() {
    let [whole, first, second] = placed_places();
    let twice = |what| LayoutError::Section { kind: PlaceRecord::KIND, what };
    let untagged = PlaceRecord { flags: PLACE_UNTAGGED, ..second };
    let found = with_places(&[native(0, 4094), native(1, 5)], &[whole, first, untagged]);
    assert_eq!(found, twice("the untagged frames of a port are there twice"));

    let mut words = placed().words().to_vec();
    let port = record_at::<PortRecord>(&words, 2);
    put(&mut words, port + offset_of!(PortRecord, vlan_id), 5u16);
    let place = record_at::<PlaceRecord>(&words, 1);
    put(&mut words, place, PlaceRecord { output_ifindex: 23, ..second });
    assert_eq!(refused(words), twice("a port and VLAN are there twice"));
}

#[test]
fn two_metas_are_refused() {
    let mut image = ImageBuilder::new();
    image.section(Need::Required, &[common::meta(StrRef::default()); 2]);
    let words = image.finish().words().to_vec();
    assert_eq!(
        refused(words),
        LayoutError::Section { kind: MetaRecord::KIND, what: "does not have exactly one record" }
    );
}

#[test]
fn enums_of_the_other_region_are_checked_too() {
    let mut image = ImageBuilder::new();
    let bytes = vec![0xff; size_of::<UmemRecord>()];
    image.raw_section(UmemRecord::KIND, Need::Optional, size_of::<UmemRecord>(), UmemRecord::SCHEMA_HASH, bytes);
    let image = image.finish();
    let view = ImageView::parse(image.words()).expect("its structure holds");
    assert_eq!(
        view.records::<UmemRecord>().map(|_| ()),
        Err(in_record::<UmemRecord>(0, "a field is none of its values"))
    );
    assert!(view.records::<StatsMetaRecord>().expect("not there").is_empty());
}

fn accepts(words: &[u64]) -> bool {
    SnapshotView::try_from(words).is_ok()
}

/// Flips each of `bits` in turn.
fn assert_no_flip_is_accepted(mut words: Vec<u64>, bits: impl Iterator<Item = usize>) {
    assert!(accepts(&words));
    for bit in bits {
        words[bit / 64] ^= 1 << (bit % 64);
        assert!(!accepts(&words), "bit {bit} of {} flipped and accepted", words.len() * 64);
        words[bit / 64] ^= 1 << (bit % 64);
    }
}

#[test]
fn no_single_bit_flip_and_no_truncation_of_a_small_image_is_accepted() {
    for image in [small(), full(), placed()] {
        let words = image.words();
        assert_no_flip_is_accepted(words.to_vec(), 0..words.len() * 64);
        for len in 0..words.len() {
            assert!(!accepts(&words[..len]), "{len} words of {} accepted", words.len());
        }
        assert!(!accepts(&[words, &[0]].concat()), "a word more accepted");
    }
}

/// A multiplicative generator is enough to spread samples, and gives the same ones each time.
fn samples(count: usize, below: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * below as u128) >> 64) as usize
    })
    .take(count)
}

#[test]
fn no_sampled_flip_or_truncation_of_a_large_image_is_accepted() {
    let image = large();
    let words = image.words();
    let bits = words.len() * 64;
    let structure = (0..(size_of::<SlotHeader>() + 5 * size_of::<SectionEntry>()) * 8).step_by(7);
    assert_no_flip_is_accepted(words.to_vec(), structure.chain(samples(600, bits)).chain([bits - 1]));
    for len in samples(300, words.len()).chain([0, 1, 7, 8, words.len() - 1]) {
        assert!(!accepts(&words[..len]), "{len} words of {} accepted", words.len());
    }
}

// ---- the region header ----

fn header_refused(header: &Header) -> LayoutError {
    header.geometry(RegionKind::Config, u64::MAX).expect_err("a damaged field was accepted")
}

/// Why a header is refused after `change`, its checksum made right.
fn with_region(change: impl FnOnce(&mut Header)) -> LayoutError {
    let mut header = header();
    change(&mut header);
    header.static_crc = crc32fast::hash(&bytemuck::bytes_of(&header)[..offset_of!(Header, static_crc)]);
    header_refused(&header)
}

fn in_header(field: &'static str, found: u64) -> LayoutError {
    LayoutError::Field { field, found }
}

refuses! {
    region_magic: with_region(|h| h.magic = 1) => LayoutError::Magic { found: 1 };
    region_endian: with_region(|h| h.endian = 1) => LayoutError::Endian { found: 1 };
    region_layout_major: with_region(|h| h.layout_major = 9)
        => LayoutError::LayoutMajor { found: 9, supported: LAYOUT_MAJOR };
    region_len: with_region(|h| h.region_len += 1) => in_header("header.region_len", header().region_len + 1);
    region_slot_len_zero: with_region(|h| h.slot_len = 0) => in_header("header.slot_len", 0);
    region_slot_len_unaligned: with_region(|h| h.slot_len += 8) => in_header("header.slot_len", header().slot_len + 8);
    region_slot_len_huge: with_region(|h| h.slot_len = (MAX_SLOT + PAGE) as u64)
        => in_header("header.slot_len", (MAX_SLOT + PAGE) as u64);
    region_slot_len_overflowing: with_region(|h| h.slot_len = u64::MAX << 12) => in_header("header.slot_len", u64::MAX << 12);
    region_slot_len_other: with_region(|h| h.slot_len += PAGE as u64) => in_header("header.region_len", header().region_len);
    region_slot_count: with_region(|h| h.slot_count = 8) => in_header("header.slot_count", 8);
    region_kind: with_region(|h| h.kind = RegionKind::Stats as u32) => in_header("header.kind", 2);
    region_reserved0: with_region(|h| h.reserved0 = 1) => in_header("header.reserved", 1);
    region_asked: with_region(|h| h.asked = 1) => in_header("header.reserved", 1);
    region_reserved1: with_region(|h| h.reserved1[496] = 1) => in_header("header.reserved", 1);
}

#[test]
fn region_static_crc() {
    let mut header = header();
    let computed = header.static_crc;
    header.static_crc ^= 1;
    assert_eq!(header_refused(&header), LayoutError::Crc { found: computed ^ 1, computed });
    // What every value is allowed of is held by it.
    let changes: [fn(&mut Header); 3] = [|h| h.instance_id ^= 1, |h| h.created_at ^= 1, |h| h.layout_minor ^= 1];
    for change in changes {
        let mut header = common::header();
        change(&mut header);
        assert!(matches!(header_refused(&header), LayoutError::Crc { .. }));
    }
}

#[test]
fn a_header_of_a_newer_minor_is_read() {
    let header = header_of_minor(LAYOUT_MINOR + 1);
    assert!(header.geometry(RegionKind::Config, header.region_len).is_ok());
}

#[test]
fn no_single_bit_flip_of_a_header_is_accepted_but_in_its_live_words() {
    // state to heartbeat change while the region is in use; the protocol judges them at each use.
    let live = offset_of!(Header, state) * 8..offset_of!(Header, asked) * 8;
    let len = header().region_len;
    let mut header = header();
    for bit in 0..PAGE * 8 {
        bytemuck::bytes_of_mut(&mut header)[bit / 8] ^= 1 << (bit % 8);
        let accepted = header.geometry(RegionKind::Config, len).is_ok();
        assert_eq!(accepted, live.contains(&bit), "bit {bit}");
        bytemuck::bytes_of_mut(&mut header)[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_region_that_is_shorter_than_its_header_says_is_refused() {
    let header = header();
    let need = header.region_len;
    assert_eq!(need, (PAGE + SLOTS * (64 << 10)) as u64);
    for len in 0..need {
        assert_eq!(header.geometry(RegionKind::Config, len), Err(LayoutError::Truncated { len, need }));
    }
    assert!(header.geometry(RegionKind::Config, need).is_ok());
}

// ---- anything at all ----

/// Looks at all of a view, as its users do.
fn walk(words: &[u64]) -> usize {
    let mut seen = 0;
    if let Ok(image) = ImageView::parse(words) {
        seen += image.sections().count();
        seen += image.records::<StatsMetaRecord>().map_or(0, |r| r.iter().count());
        seen += image.records::<UmemRecord>().map_or(0, |r| r.iter().count());
        seen += usize::from(image.strings().is_ok());
    }
    if let Ok(view) = SnapshotView::try_from(words) {
        seen += view.ports.iter().map(|p| view.strings.text(p.name).len()).sum::<usize>();
        seen += view.mirrors.iter().count() + view.wires.iter().count() + view.diagnostics.iter().count();
        seen += view.native_vlans.iter().count() + view.seen.iter().count() + view.link_loss.iter().count();
        assert_eq!(view.places().len(), view.mirrors.len());
    }
    seen
}

proptest! {
    #[test]
    fn arbitrary_words_never_panic(words in proptest::collection::vec(any::<u64>(), 0..80)) {
        walk(&words);
    }

    /// Behind a header that holds, so that what is read is the rest.
    #[test]
    fn arbitrary_content_never_panics(mut words in proptest::collection::vec(any::<u64>(), 8..80), sections in 0..9u32) {
        let good = SlotHeader::from_words(small().words());
        let header = SlotHeader { len: words.len() as u64 * 8, section_count: sections, ..good };
        put(&mut words, 0, header);
        walk(&reseal(words));
    }

    /// Several fields of a good image changed at once.
    #[test]
    fn patched_images_never_panic(
        patches in proptest::collection::vec((8..91usize, prop_oneof![any::<u64>(), 0..1000u64, Just(u64::MAX)]), 1..6),
        with_places: bool,
    ) {
        let image = if with_places { placed() } else { full() };
        let mut words = image.words().to_vec();
        for (word, value) in patches {
            words[word] = value;
        }
        walk(&reseal(words));
    }

    #[test]
    fn arbitrary_headers_never_panic(words in proptest::collection::vec(any::<u64>(), 14), seal: bool, file_len: u64) {
        let mut header = header();
        bytemuck::bytes_of_mut(&mut header)[..112].copy_from_slice(bytemuck::cast_slice(&words));
        if seal {
            header = Header { magic: common::header().magic, endian: ENDIAN_TAG, layout_major: LAYOUT_MAJOR, ..header };
            header.static_crc = crc32fast::hash(&bytemuck::bytes_of(&header)[..offset_of!(Header, static_crc)]);
        }
        let _ = header.geometry(RegionKind::Stats, file_len);
    }
}
