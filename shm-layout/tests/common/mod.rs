//! Images and headers with fixed content, and the means to damage them.
#![allow(dead_code, reason = "each test binary uses its part")]

use bytemuck::NoUninit;
use shm_layout::header::{Header, RegionKind};
use shm_layout::image::{Image, ImageBuilder, Need};
use shm_layout::record::{
    DiagnosticRecord, LinkLossRecord, META_DISARMED, MetaRecord, MirrorRecord, NativeVlanRecord, PLACE_UNTAGGED,
    PlaceRecord, Placement, PortRecord, Record, Role, SectionEntry, SeenRecord, Severity, SlotHeader, StrRef,
    WireRecord,
};

/// META with every field set.
pub fn meta(generated_at: StrRef) -> MetaRecord {
    MetaRecord {
        source_version: 3,
        role: Role::Standby,
        source_generation: u64::MAX - 1,
        fib_generation: 1 << 53,
        generated_at,
        compiled_at: 1_700_000_000_123_456_789,
        flags: META_DISARMED,
        digest: std::array::from_fn(|i| i as u8),
        reserved: 0,
    }
}

/// One wire, one mirror entry, no port, no remark, no name.
pub fn small() -> Image {
    let mut image = ImageBuilder::new();
    let meta = meta(image.string("2024-05-01T10:00:00Z"));
    image
        .section(Need::Required, &[meta])
        .section::<PortRecord>(Need::Required, &[])
        .section(Need::Required, &[WireRecord { a_ifindex: 11, b_ifindex: 12, name: StrRef::default() }])
        .section(Need::Required, &[mirror(11, 22, 100, Placement::OnWire)])
        .section::<DiagnosticRecord>(Need::Optional, &[]);
    image.finish()
}

/// Every section with records in it, names in several scripts, as published.
pub fn full() -> Image {
    let mut builder = full_builder();
    builder.section(Need::Required, &full_mirrors());
    let mut image = builder.finish();
    image.seal(7, 123_456_789);
    image
}

/// The entries of [`full`].
pub fn full_mirrors() -> [MirrorRecord; 3] {
    [
        mirror(11, 22, 0, Placement::OnWire),
        mirror(1 << 30, 23, u32::MAX, Placement::OnWire),
        mirror(i32::MAX as u32, 22, 1, Placement::OnNoWire),
    ]
}

/// [`full`] without MIRRORS, which are added by the caller.
pub fn full_builder() -> ImageBuilder {
    let mut image = ImageBuilder::new();
    let meta = meta(image.string("2024-05-01T10:00:00.000000001+09:00"));
    let ports = [
        PortRecord {
            ifindex: 11,
            parent_ifindex: 0,
            mtu: 1500,
            vlan_id: 0,
            has_mac: 1,
            mac: [0x02, 0, 0, 0, 0, 0x0b],
            pad: [0; 2],
            name: image.string("ge-0/0/1"),
            linux_name: image.string("ge-0-0-1"),
        },
        PortRecord {
            ifindex: 1 << 30,
            parent_ifindex: 11,
            mtu: 9216,
            vlan_id: 4094,
            has_mac: 0,
            mac: [0; 6],
            pad: [0; 2],
            name: image.string("Ḡ-порт-港口"),
            linux_name: image.string("🦀"),
        },
    ];
    let wires = [
        WireRecord { a_ifindex: 11, b_ifindex: 12, name: image.string("провод") },
        WireRecord { a_ifindex: 13, b_ifindex: 14, name: image.string("w2") },
    ];
    let diagnostics = [
        DiagnosticRecord {
            severity: Severity::Warning,
            pad: 0,
            subject: image.string("instance «a»"),
            message: image.string("output not found: skipped"),
        },
        DiagnosticRecord { severity: Severity::Note, pad: 0, subject: StrRef::default(), message: image.string("w2") },
    ];
    image
        .section(Need::Required, &[meta])
        .section(Need::Required, &ports)
        .section(Need::Required, &wires)
        .section(Need::Optional, &diagnostics);
    image
}

/// [`full`] with the sections of minor 1, and entries that only those explain: port 11, its native VLAN 4094, and
/// its VLAN 5 to a VLAN unit of port 24.
pub fn placed() -> Image {
    let mut builder = placed_builder();
    builder.section(Need::Optional, &[native(0, 4094)]).section(Need::Required, &placed_places());
    let mut image = builder.finish();
    image.seal(8, 123_456_789);
    image
}

/// The places of [`placed`].
pub fn placed_places() -> [PlaceRecord; 3] {
    let vlan = |vlan_id, output| PlaceRecord { vlan_id, ..PlaceRecord::of_ports(11, output) };
    [PlaceRecord::of_ports(11, 22), PlaceRecord { flags: PLACE_UNTAGGED, ..vlan(4094, 23) }, vlan(5, 24)]
}

/// [`placed`] without the sections of minor 1.
pub fn placed_builder() -> ImageBuilder {
    let mut image = ImageBuilder::new();
    let meta = meta(image.string("2024-05-01T10:00:00Z"));
    let mut port = |name: &str, ifindex, parent_ifindex, vlan_id| PortRecord {
        ifindex,
        parent_ifindex,
        mtu: 1500,
        vlan_id,
        has_mac: 0,
        mac: [0; 6],
        pad: [0; 2],
        name: image.string(name),
        linux_name: StrRef::default(),
    };
    let ports = [
        port("ge-0/0/1", 11, 0, 0),
        port("ge-0/0/1.0", 11, 0, 0),
        port("ge-0/0/1.4094", 1 << 30, 11, 4094),
        port("ge-0/0/1.5", (1 << 30) + 1, 11, 5),
        port("ge-0/0/9.7", (1 << 30) + 2, 24, 7),
    ];
    image
        .section(Need::Required, &[meta])
        .section(Need::Required, &ports)
        .section(Need::Required, &[WireRecord { a_ifindex: 11, b_ifindex: 12, name: StrRef::default() }])
        .section(
            Need::Required,
            &[
                mirror(11, 22, 0, Placement::OnWire),
                mirror(1 << 30, 23, 7, Placement::OnWire),
                mirror((1 << 30) + 1, (1 << 30) + 2, 1, Placement::OnWire),
            ],
        )
        .section::<DiagnosticRecord>(Need::Optional, &[]);
    image
}

/// [`placed`] with ports that were seen.
pub fn seen() -> Image {
    let mut builder = placed_builder();
    builder.section(Need::Optional, &[native(0, 4094)]).section(Need::Required, &placed_places());
    builder.section(Need::Optional, &[SeenRecord { port: 0 }, SeenRecord { port: 4 }]);
    let mut image = builder.finish();
    image.seal(9, 123_456_789);
    image
}

/// Two wires, of which the second forwards the loss of a link.
pub fn link_loss() -> Image {
    let mut builder = full_builder();
    builder.section(Need::Required, &full_mirrors()).section(Need::Optional, &[LinkLossRecord { wire: 1 }]);
    let mut image = builder.finish();
    image.seal(10, 123_456_789);
    image
}

pub fn native(port: u32, vlan_id: u16) -> NativeVlanRecord {
    NativeVlanRecord { port, vlan_id, pad: 0 }
}

/// A table of 65,536 entries.
pub fn large() -> Image {
    let mut image = ImageBuilder::new();
    let meta = meta(image.string("2024-05-01T10:00:00Z"));
    let mirrors: Vec<_> = (1..=65_536).map(|i| mirror(i, 1 << 30, i, Placement::OnNoWire)).collect();
    image
        .section(Need::Required, &[meta])
        .section::<PortRecord>(Need::Required, &[])
        .section::<WireRecord>(Need::Required, &[])
        .section(Need::Required, &mirrors);
    image.finish()
}

pub fn mirror(ingress_ifindex: u32, output_ifindex: u32, rate: u32, placement: Placement) -> MirrorRecord {
    MirrorRecord { ingress_ifindex, output_ifindex, rate, placement }
}

/// The header of a region with 64 KiB slots.
pub fn header() -> Header {
    Header::new(RegionKind::Config, 64 << 10, 0x0123_4567_89ab_cdef, 1_700_000_000_000_000_000)
}

/// An image as the release whose newest minor this was wrote it.
pub fn of_minor(minor: u16, image: &Image) -> Image {
    let mut words = image.words().to_vec();
    put(&mut words, std::mem::offset_of!(SlotHeader, layout_minor), minor);
    Image::from_words(reseal(words))
}

/// The same of a region's header.
pub fn header_of_minor(layout_minor: u16) -> Header {
    let header = Header { layout_minor, ..header() };
    let static_crc = crc32fast::hash(&bytemuck::bytes_of(&header)[..std::mem::offset_of!(Header, static_crc)]);
    Header { static_crc, ..header }
}

/// Writes a field's bytes at a byte offset of an image.
pub fn put<T: NoUninit>(words: &mut [u64], at: usize, value: T) {
    let value = bytemuck::bytes_of(&value);
    bytemuck::cast_slice_mut::<u64, u8>(words)[at..at + value.len()].copy_from_slice(value);
}

/// Makes the checksum right again, so that what refuses an image is the check of the field that was changed.
pub fn reseal(words: Vec<u64>) -> Vec<u64> {
    let header = SlotHeader::from_words(&words);
    let mut image = Image::from_words(words);
    image.seal(header.generation, header.published_at);
    image.words().to_vec()
}

/// The section table's entries, unchecked.
pub fn sections(words: &[u64]) -> Vec<SectionEntry> {
    let table = &bytemuck::cast_slice::<u64, u8>(words)[size_of::<SlotHeader>()..];
    let count = SlotHeader::from_words(words).section_count as usize;
    table.chunks_exact(size_of::<SectionEntry>()).take(count).map(bytemuck::pod_read_unaligned).collect()
}

/// Byte offset of a section's entry in the section table.
pub fn entry_at(words: &[u64], kind: u32) -> usize {
    let index = sections(words).iter().position(|s| s.kind == kind).expect("a section of the fixture");
    size_of::<SlotHeader>() + index * size_of::<SectionEntry>()
}

/// Byte offset of a record.
pub fn record_at<R: Record>(words: &[u64], index: usize) -> usize {
    let section = *sections(words).iter().find(|s| s.kind == R::KIND).expect("a section of the fixture");
    assert!(index < section.elem_count as usize);
    section.offset as usize + index * size_of::<R>()
}
