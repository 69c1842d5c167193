//! Layout v1, field by field. Every offset here is in files and in the memory of running processes: what does
//! not compile after a change of a record is a new layout, and needs a new minor (fields added at the end) or a
//! new major (anything else).

use crate::header::{Geometry, Header};
use crate::record::{
    BindingRecord, CloneRecord, DescriptorRecord, DiagnosticRecord, EntryRecord, EntryStateRecord, FeatureRecord,
    LinkListRecord, LinkLossRecord, LinkRecord, MetaRecord, MirrorRecord, NativeVlanRecord, PathRecord, PlaceRecord,
    PortDeviceRecord, PortRecord, PortStateRecord, RefusalRecord, RingRecord, RoomRecord, SectionEntry, SeenRecord,
    ShardRecord, SightRecord, SlotHeader, StatsMetaRecord, StrRef, SwapRecord, TakenDownRecord, UmemRecord, WireRecord,
};

/// Asserts a type's size and the offset of every field. The pattern makes a field that is not listed an error.
macro_rules! pin {
    ($type:ident of $size:literal { $($field:ident: $at:literal),* $(,)? }) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(std::mem::offset_of!($type, $field) == $at);)*
        const _: fn($type) = |$type { $($field: _),* }| ();
    };
}

pin!(StrRef of 8 { offset: 0, len: 4 });
pin!(SlotHeader of 64 {
    seq: 0, magic: 8, endian: 16, layout_major: 20, layout_minor: 22, generation: 24, len: 32, crc32: 40,
    section_count: 44, published_at: 48, reserved: 56,
});
pin!(SectionEntry of 40 { kind: 0, flags: 4, offset: 8, len: 16, elem_size: 24, elem_count: 28, schema_hash: 32 });
pin!(MetaRecord of 88 {
    source_version: 0, role: 4, source_generation: 8, fib_generation: 16, generated_at: 24, compiled_at: 32,
    flags: 40, digest: 48, reserved: 80,
});
pin!(PortRecord of 40 {
    ifindex: 0, parent_ifindex: 4, mtu: 8, vlan_id: 12, has_mac: 14, mac: 16, pad: 22, name: 24, linux_name: 32,
});
pin!(WireRecord of 16 { a_ifindex: 0, b_ifindex: 4, name: 8 });
pin!(MirrorRecord of 16 { ingress_ifindex: 0, output_ifindex: 4, rate: 8, placement: 12 });
pin!(DiagnosticRecord of 24 { severity: 0, pad: 4, subject: 8, message: 16 });
pin!(PlaceRecord of 12 { port_ifindex: 0, output_ifindex: 4, vlan_id: 8, flags: 10 });
pin!(NativeVlanRecord of 8 { port: 0, vlan_id: 4, pad: 6 });
pin!(SeenRecord of 4 { port: 0 });
pin!(LinkLossRecord of 4 { wire: 0 });
pin!(StatsMetaRecord of 88 {
    pid: 0, shard_count: 4, started_at: 8, gathered_at: 16, config_instance: 24, table_generation: 32,
    adopted_generation: 40, rejects: 48, last_reject: 56, capabilities: 64, frame_size: 72, mirror_frames: 76,
    release: 80,
});
pin!(DescriptorRecord of 40 { section: 0, index: 4, kind: 8, offset: 12, name: 16, unit: 24, help: 32 });
pin!(ShardRecord of 64 { id: 0, cpu: 4, pinned: 8, pad: 12, adopted_generation: 16, values: 24 });
pin!(PortStateRecord of 56 {
    ifindex: 0, role: 4, state: 8, mtu: 12, queues: 16, zero_copy: 20, name: 24, xdp_mode: 32, driver: 40,
    reason: 48,
});
pin!(PortDeviceRecord of 8 { ifindex: 0, device_ifindex: 4 });
pin!(TakenDownRecord of 8 { ifindex: 0, lost_ifindex: 4 });
pin!(PathRecord of 104 { ifindex: 0, peer_ifindex: 4, path: 8, reason: 16, unknown: 24, crossed: 32, lost: 64 });
pin!(FeatureRecord of 32 { name: 0, reason: 8, consequence: 16, available: 24, pad: 28 });
pin!(BindingRecord of 176 { ifindex: 0, queue: 4, shard: 8, pad: 12, values: 16, kernel: 128 });
pin!(EntryRecord of 128 { ingress_ifindex: 0, output_ifindex: 4, rate: 8, shard: 12, values: 16 });
pin!(RefusalRecord of 8 { values: 0 });
pin!(RingRecord of 16 { values: 0 });
pin!(EntryStateRecord of 24 { ingress_ifindex: 0, output_ifindex: 4, rate: 8, state: 12, reason: 16 });
pin!(UmemRecord of 56 { shard: 0, partition: 4, values: 8 });
pin!(CloneRecord of 16 { shard: 0, pad: 4, on_the_way: 8 });
pin!(RoomRecord of 16 { frames: 0, share: 4, sockets: 8, pad: 12 });
pin!(SwapRecord of 1304 { shard: 0, pad: 4, buckets: 8, max_ns: 1288, sum_ns: 1296 });
pin!(SightRecord of 24 { ifindex: 0, queue: 4, shard: 8, pad: 12, values: 16 });
pin!(LinkListRecord of 16 { as_of: 0, total: 8, pad: 12 });
pin!(LinkRecord of 88 {
    ifindex: 0, mtu: 4, below: 8, master: 12, speed: 16, vlan_id: 20, hardware: 22, flags: 24, mac: 28, pad: 34,
    address: 36, name: 52, altnames: 60, kind: 68, stuck_offload: 76, reserved: 84,
});
pin!(Header of 4096 {
    magic: 0, endian: 8, layout_major: 12, layout_minor: 14, region_len: 16, slot_len: 24, slot_count: 32, kind: 36,
    instance_id: 40, created_at: 48, static_crc: 56, reserved0: 60, state: 64, writer_pid: 72, writer_start: 80,
    active: 88, notify: 96, heartbeat: 104, asked: 112, reserved1: 120,
});

// Where a reader looks for the slots follows from these two alone.
const _: () = assert!(Geometry { slot_len: 8192, instance_id: 0 }.region_len() == 4096 + 4 * 8192);
const _: () = assert!(Geometry { slot_len: 8192, instance_id: 0 }.slot_word(7) == (4096 + 3 * 8192) / 8);
