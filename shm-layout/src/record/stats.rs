//! The records of an image in `stats.shm`: what a dataplane counts and reports.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{LiveState, PartitionKind, PortRole, Record, StrRef};
use crate::counters::{
    BINDING_VALUES, CROSSED_VALUES, ENTRY_VALUES, KERNEL_VALUES, LOST_VALUES, PARTITION_VALUES, REFUSAL_VALUES,
    RING_VALUES, SHARD_VALUES, SIGHT_VALUES,
};

record! {
    /// STATS: the dataplane itself. One record.
    StatsMetaRecord kind 100 size 88 {
        /// Process id.
        pid: u32,
        /// Shards it runs.
        shard_count: u32,
        /// Start of this dataplane, nanoseconds since the Unix epoch: the epoch of its counters.
        started_at: u64,
        /// When these values were gathered, nanoseconds of `CLOCK_MONOTONIC`.
        gathered_at: u64,
        /// Instance of the config region that the table in use came from.
        config_instance: u64,
        /// Generation of the table handed to the shards.
        table_generation: u64,
        /// The oldest generation any shard still uses.
        adopted_generation: u64,
        /// Snapshots refused since the start.
        rejects: u64,
        /// Why the last one was refused; empty when none was, or a good one came since.
        last_reject: StrRef,
        /// [`CAP_MIRROR`] and others.
        capabilities: u64,
        /// Bytes of a UMEM frame.
        frame_size: u32,
        /// Mirror frames per shard.
        mirror_frames: u32,
        /// Release of the dataplane.
        release: StrRef,
    }
}

/// [`BindingRecord::shard`]: no socket is open.
pub const NO_SHARD: u32 = u32::MAX;

/// [`StatsMetaRecord::capabilities`]: the dataplane has Mirror partitions.
pub const CAP_MIRROR: u64 = 1;
/// [`StatsMetaRecord::capabilities`]: the dataplane reads [`PlaceRecord`](crate::record::PlaceRecord)s.
pub const CAP_PLACES: u64 = 2;
/// [`StatsMetaRecord::capabilities`]: the dataplane reads [`LinkLossRecord`](crate::record::LinkLossRecord)s.
pub const CAP_LINK_LOSS: u64 = 4;

record! {
    /// DESCRIPTORS: the meaning of one value of the rows of a section.
    DescriptorRecord kind 101 size 40 {
        /// Kind of the section the value is in.
        section: u32,
        /// Index of the value in its row.
        index: u32,
        /// 0 counter, 1 gauge.
        kind: u32,
        /// Byte offset of the value in the row.
        offset: u32,
        /// Its name.
        name: StrRef,
        /// Its unit.
        unit: StrRef,
        /// Its meaning.
        help: StrRef,
    }
}

record! {
    /// SHARDS: one row a shard.
    ShardRecord kind 102 size 64 {
        /// Index of the shard.
        id: u32,
        /// Processor it is pinned to.
        cpu: u32,
        /// 1 when pinned.
        pinned: u32,
        /// Zero.
        pad: u32,
        /// Generation of the table it uses.
        adopted_generation: u64,
        /// Values of [`crate::counters::Shard`].
        values: [u64; SHARD_VALUES],
    }
}

record! {
    /// PORTS: one row for each port the snapshot uses.
    PortStateRecord kind 103 size 56 {
        /// The port.
        ifindex: u32,
        /// What it is used for.
        role: PortRole,
        /// Whether it is in use.
        state: LiveState,
        /// Bytes.
        mtu: u32,
        /// Queues served.
        queues: u32,
        /// 1 when the sockets are zero-copy.
        zero_copy: u32,
        /// The kernel's name.
        name: StrRef,
        /// `native`, `generic` or empty for a monitor.
        xdp_mode: StrRef,
        /// Its driver.
        driver: StrRef,
        /// Why it is not in use, or what is to be known about it; empty for nothing.
        reason: StrRef,
    }
}

record! {
    /// PORT_DEVICES: one row for each of PORT_STATES whose device is there.
    PortDeviceRecord kind 112 size 8 {
        /// The port, by its ifindex in the snapshot.
        ifindex: u32,
        /// ifindex of its device by now.
        device_ifindex: u32,
    }
}

record! {
    /// TAKEN_DOWN: one row for each port that was taken down since the link of its wire's other port is lost.
    TakenDownRecord kind 113 size 8 {
        /// The port, by its ifindex in the snapshot.
        ifindex: u32,
        /// The other one.
        lost_ifindex: u32,
    }
}

record! {
    /// PATHS: one row for each port of a wire.
    PathRecord kind 114 size 104 {
        /// The port, by its ifindex in the snapshot.
        ifindex: u32,
        /// The wire's other port.
        peer_ifindex: u32,
        /// How its frames cross: `xdp`, `tc` or `shard`; empty while they do not.
        path: StrRef,
        /// Why this way, or why none.
        reason: StrRef,
        /// Why it is not known what was lost; empty where it is.
        unknown: StrRef,
        /// Values of [`crate::counters::Crossed`], for as long as the wire is wanted.
        crossed: [u64; CROSSED_VALUES],
        /// Values of [`crate::counters::Lost`].
        lost: [u64; LOST_VALUES],
    }
}

record! {
    /// FEATURES: one row for each thing that the kernel and the rights of the process may lack.
    FeatureRecord kind 115 size 32 {
        /// Its name.
        name: StrRef,
        /// Why it is not there; empty where it is.
        reason: StrRef,
        /// What is so without it; empty where it is there.
        consequence: StrRef,
        /// 1 where it is there, else 0.
        available: u32,
        /// 0.
        pad: u32,
    }
}

record! {
    /// BINDINGS: one row for each socket.
    BindingRecord kind 104 size 176 {
        /// Its port.
        ifindex: u32,
        /// Its queue.
        queue: u32,
        /// Its shard; [`NO_SHARD`] for a queue without a socket, whose counts stand while its port is wanted.
        shard: u32,
        /// Zero.
        pad: u32,
        /// Values of [`crate::counters::Binding`].
        values: [u64; BINDING_VALUES],
        /// Values of [`crate::counters::Kernel`].
        kernel: [u64; KERNEL_VALUES],
    }
}

record! {
    /// ENTRIES: one row for each mirror entry and shard.
    EntryRecord kind 105 size 128 {
        /// Ingress of the entry.
        ingress_ifindex: u32,
        /// Output of the entry.
        output_ifindex: u32,
        /// Its rate.
        rate: u32,
        /// The shard.
        shard: u32,
        /// Values of [`crate::counters::Entry`]; the last ones are in REFUSALS and RINGS.
        values: [u64; ENTRY_VALUES],
    }
}

record! {
    /// REFUSALS: one row for each of ENTRIES, in their order.
    RefusalRecord kind 123 size 8 {
        /// The values of [`crate::counters::Entry`] after those of ENTRIES.
        values: [u64; REFUSAL_VALUES],
    }
}

record! {
    /// RINGS: one row for each of ENTRIES, in their order.
    RingRecord kind 124 size 16 {
        /// The values of [`crate::counters::Entry`] after those of REFUSALS.
        values: [u64; RING_VALUES],
    }
}

record! {
    /// ENTRY_STATES: one row for each mirror entry, in the order of the source.
    EntryStateRecord kind 106 size 24 {
        /// Ingress of the entry.
        ingress_ifindex: u32,
        /// Output of the entry.
        output_ifindex: u32,
        /// Its rate.
        rate: u32,
        /// Whether it can mirror now.
        state: LiveState,
        /// Why it cannot; empty when it can.
        reason: StrRef,
    }
}

record! {
    /// UMEM: one row for each shard and partition.
    UmemRecord kind 107 size 56 {
        /// The shard.
        shard: u32,
        /// The partition.
        partition: PartitionKind,
        /// Values of [`crate::counters::Partition`].
        values: [u64; PARTITION_VALUES],
    }
}

record! {
    /// CLONES: one row for each shard.
    CloneRecord kind 122 size 16 {
        /// The shard.
        shard: u32,
        /// Zero.
        pad: u32,
        /// Frames of clones that it made and of which it has not heard yet what became of them: in lanes to other shards,
        /// in tx rings here and there, with the kernel, or completed and not taken back. A clone ring of its own that has
        /// something counts as one.
        on_the_way: u64,
    }
}

record! {
    /// ROOM: how many sockets of wires the dataplane can serve. One record.
    RoomRecord kind 120 size 16 {
        /// Primary frames of each shard, at most; 0 for as many as are needed.
        frames: u32,
        /// Of them a socket of a wire gets at least so many.
        share: u32,
        /// Sockets of each shard, at most.
        sockets: u32,
        /// Zero.
        pad: u32,
    }
}

// Kind 121 stays reserved: SEATS, which nobody read, is in the statistics of releases before.

/// Buckets of a swap latency histogram: four to each power of two of nanoseconds.
pub const LATENCY_BUCKETS: usize = 160;

record! {
    /// SWAPS: the latency of each table swap on a shard, from publish to first use.
    SwapRecord kind 108 size 1304 {
        /// The shard.
        shard: u32,
        /// Zero.
        pad: u32,
        /// Swaps by latency; see [`latency_bucket`].
        buckets: [u64; LATENCY_BUCKETS],
        /// The longest, nanoseconds.
        max_ns: u64,
        /// The sum, nanoseconds.
        sum_ns: u64,
    }
}

record! {
    /// SIGHTS: one row for each socket that receives, in the order of BINDINGS.
    SightRecord kind 109 size 24 {
        /// Its port.
        ifindex: u32,
        /// Its queue.
        queue: u32,
        /// Its shard.
        shard: u32,
        /// Zero.
        pad: u32,
        /// Values of [`crate::counters::Sight`].
        values: [u64; SIGHT_VALUES],
    }
}

record! {
    /// LINK_LIST: what LINKS is. One record.
    LinkListRecord kind 110 size 16 {
        /// These were the devices at this time, nanoseconds of `CLOCK_MONOTONIC`.
        as_of: u64,
        /// Devices there were; LINKS has the first of them where that is less.
        total: u32,
        /// Zero.
        pad: u32,
    }
}

record! {
    /// LINKS: a network device of the dataplane's network namespace, in use or not.
    LinkRecord kind 111 size 88 {
        /// Its index.
        ifindex: u32,
        /// Bytes; 0 if it has none.
        mtu: u32,
        /// The device below it, or the other end of its cable; 0 for none.
        below: u32,
        /// The device whose port it is; 0 for none.
        master: u32,
        /// Megabits a second; 0 if it has none.
        speed: u32,
        /// VLAN id on the device below; 0 for none.
        vlan_id: u16,
        /// An `ARPHRD_*`.
        hardware: u16,
        /// [`LINK_UP`] and others.
        flags: u32,
        /// Where there is [`LINK_MAC`].
        mac: [u8; 6],
        /// Zero.
        pad: [u8; 2],
        /// An address, its first four bytes or all, where there is [`LINK_IPV4`] or [`LINK_IPV6`].
        address: [u8; 16],
        /// Its name; empty where that is not UTF-8.
        name: StrRef,
        /// Its other names, each behind a zero byte.
        altnames: StrRef,
        /// What the kernel calls its kind.
        kind: StrRef,
        /// The VLAN offload that cannot be turned off.
        stuck_offload: StrRef,
        /// Zero.
        reserved: u32,
    }
}

/// [`LinkRecord::flags`]: administratively up, with carrier.
pub const LINK_UP: u32 = 1;
/// [`LinkRecord::flags`]: its own IPv6 is on.
pub const LINK_HAS_IPV6: u32 = 2;
/// [`LinkRecord::flags`]: it has an Ethernet address.
pub const LINK_MAC: u32 = 4;
/// [`LinkRecord::flags`]: `address` is one of IPv4.
pub const LINK_IPV4: u32 = 8;
/// [`LinkRecord::flags`]: `address` is one of IPv6.
pub const LINK_IPV6: u32 = 16;
/// [`LinkRecord::flags`]: an XDP program is attached to it.
pub const LINK_XDP: u32 = 32;
/// [`LinkRecord::flags`]: administratively up.
pub const LINK_ENABLED: u32 = 64;
/// [`LinkRecord::flags`]: it has a carrier.
pub const LINK_CARRIER: u32 = 128;

/// The bucket of a latency of `ns` nanoseconds: exact below 4, then four buckets to a power of two.
pub const fn latency_bucket(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros() as usize;
    let bucket = 4 * (exponent - 1) + ((ns >> (exponent - 2)) & 3) as usize;
    if bucket < LATENCY_BUCKETS { bucket } else { LATENCY_BUCKETS - 1 }
}

/// The largest latency that falls in `bucket`, nanoseconds.
pub const fn latency_bucket_top(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let exponent = bucket / 4 + 1;
    let low = (1u64 << exponent) + (((bucket % 4) as u64) << (exponent - 2));
    low + (1u64 << (exponent - 2)) - 1
}
