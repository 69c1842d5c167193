//! The names, units and meanings of every counter and gauge, once.
//!
//! `stats.shm` carries these descriptions beside the values, so a reader of another version can still list
//! what it does not know.

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueKind {
    /// Grows from zero while the dataplane lives.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
}

/// What one value of a row means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name used in JSON and tables.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Counter or gauge.
    pub kind: ValueKind,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! values {
    ($(#[$doc:meta])* $name:ident, $count:ident { $($id:ident $kind:ident $field:literal $unit:literal $help:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name { $(#[doc = $help] $id),* }

        impl $name {
            /// Every value in row order.
            pub const ALL: &'static [$name] = &[$($name::$id),*];
            /// Descriptions in row order.
            pub const DESCRIPTIONS: &'static [Description] = &[
                $(Description { name: $field, unit: $unit, kind: ValueKind::$kind, help: $help }),*
            ];

            /// The name used in JSON and tables.
            pub const fn name(self) -> &'static str {
                Self::DESCRIPTIONS[self as usize].name
            }
        }

        #[doc = concat!("Values in a row of [`", stringify!($name), "`].")]
        pub const $count: usize = $name::ALL.len();
    };
}

values! {
    /// The ledger of one mirror entry on one shard, what the kernel selects for it included. Closed at all times:
    /// `observed = not_sampled + selected` and
    /// `selected = mirrored_packets + in_flight +` the sum of the `mirror_drops_*` that are not `_worker` parts.
    Entry, LEDGER_VALUES {
        Observed Counter "observed" "frames" "Frames of the entry's ingress that came by."
        NotSampled Counter "not_sampled" "frames" "Frames the sampler left out."
        Selected Counter "selected" "frames" "Frames the sampler picked."
        MirroredPackets Counter "mirrored_packets" "frames" "Clones whose transmission the kernel completed."
        MirroredBytes Counter "mirrored_bytes" "bytes" "Bytes of those clones, from the MAC header on."
        InFlight Gauge "in_flight" "frames" "Clones in a clone ring, or handed to the monitor port and not completed yet."
        DropNoFrame Counter "mirror_drops_no_frame" "frames" "No free frame in the Mirror partition."
        DropNoBinding Counter "mirror_drops_no_binding" "frames" "No queue of the monitor port serves this shard."
        DropQueueFull Counter "mirror_drops_queue_full" "frames" "The way to the monitor port was full."
        DropQueueFullSameWorker Counter "mirror_drops_queue_full_same_worker" "frames" "Part of queue_full: this shard's own tx ring."
        DropQueueFullCrossWorker Counter "mirror_drops_queue_full_cross_worker" "frames" "Part of queue_full: the lane to the shard that owns the queue."
        DropOversize Counter "mirror_drops_oversize" "frames" "Larger than mirror frames can hold, or the monitor port's MTU, or a super-frame that cannot be segmented."
        DropOutputDown Counter "mirror_drops_output_down" "frames" "The monitor port is down or not there."
        DropTxInvalid Counter "mirror_drops_tx_invalid" "frames" "The clone's descriptor would have been refused."
        DropRefused Counter "mirror_drops_refused" "frames" "Handed to the monitor port, whose device refused them (the kernel said EBUSY)."
        DropRingFull Counter "mirror_drops_ring_full" "frames" "The processor's clone ring was full."
        MirroredSegments Counter "mirrored_segments" "frames" "Frames that were sent for mirrored super-frames, each of which is one of mirrored_packets."
    }
}

/// Values of [`Entry`] in a row of ENTRIES: the first ones.
pub const ENTRY_VALUES: usize = 14;
/// Values of [`Entry`] in a row of REFUSALS: those after them, which came with layout minor 1.
pub const REFUSAL_VALUES: usize = 1;
/// Values of [`Entry`] in a row of RINGS: the others, which came with layout minor 1 too.
pub const RING_VALUES: usize = LEDGER_VALUES - ENTRY_VALUES - REFUSAL_VALUES;

impl Entry {
    /// The drops that close the ledger (the `_worker` parts are inside `DropQueueFull`).
    pub const DROPS: [Entry; 8] = [
        Entry::DropNoFrame,
        Entry::DropNoBinding,
        Entry::DropQueueFull,
        Entry::DropOversize,
        Entry::DropOutputDown,
        Entry::DropTxInvalid,
        Entry::DropRefused,
        Entry::DropRingFull,
    ];

    /// The drops of a row.
    pub fn drops(row: &[u64; LEDGER_VALUES]) -> u64 {
        Entry::DROPS.iter().fold(0, |sum: u64, &drop| sum.wrapping_add(row[drop as usize]))
    }

    /// Whether a row of this kind closes.
    pub fn closes(row: &[u64; LEDGER_VALUES]) -> bool {
        let at = |e: Entry| row[e as usize];
        let drops = Entry::drops(row);
        at(Entry::Observed) == at(Entry::NotSampled).wrapping_add(at(Entry::Selected))
            && at(Entry::Selected) == at(Entry::MirroredPackets).wrapping_add(at(Entry::InFlight)).wrapping_add(drops)
            && at(Entry::DropQueueFull)
                == at(Entry::DropQueueFullSameWorker).wrapping_add(at(Entry::DropQueueFullCrossWorker))
    }
}

values! {
    /// One binding: one queue of one port, served by one socket of one shard.
    Binding, BINDING_VALUES {
        RxPackets Counter "rx_packets" "frames" "Frames received."
        RxBytes Counter "rx_bytes" "bytes" "Bytes of those frames, from the MAC header on."
        TxPackets Counter "tx_packets" "frames" "Frames whose transmission the kernel completed and did not report lost."
        TxBytes Counter "tx_bytes" "bytes" "Bytes of those frames, from the MAC header on."
        TxLost Counter "tx_lost" "frames" "Frames the device refused (the kernel said EBUSY), and forwarded ones that were not sent when its link went down or it left."
        TxQueueFull Counter "tx_drops_queue_full" "frames" "Forwarded frames dropped because the tx ring was full."
        RxNoPeer Counter "rx_drops_no_peer" "frames" "Frames dropped because the wire's other port cannot take them."
        RxOversize Counter "rx_drops_oversize" "frames" "Frames dropped because they are larger than the peer's MTU."
        RxInvalid Counter "rx_invalid" "descriptors" "Receive descriptors that name no frame given to this socket."
        CompletionInvalid Counter "completion_invalid" "descriptors" "Completions that name no frame sent by this socket."
        Kicks Counter "kicks" "calls" "Transmit system calls."
        KicksAgain Counter "kicks_again" "calls" "Transmit system calls that asked to be repeated (EAGAIN)."
        KicksFailed Counter "kicks_failed" "calls" "Transmit system calls that failed for another reason (link down)."
        Outstanding Gauge "outstanding_tx" "frames" "Frames given to the kernel for transmission and not completed."
    }
}

values! {
    /// What a look at some of a binding's frames found.
    Sight, SIGHT_VALUES {
        UnfinishedChecksums Counter "rx_unfinished_checksums" "frames" "Received frames, of those looked at, whose TCP or UDP checksum their sender left to hardware that never finished it."
    }
}

values! {
    /// What the kernel counts for a binding's socket (`XDP_STATISTICS`).
    Kernel, KERNEL_VALUES {
        RxDropped Counter "kernel_rx_dropped" "frames" "Dropped by the kernel for other reasons (too large for a frame)."
        RxInvalidDescs Counter "kernel_rx_invalid_descs" "descriptors" "Fill descriptors the kernel refused."
        TxInvalidDescs Counter "kernel_tx_invalid_descs" "descriptors" "Tx descriptors the kernel refused: always a bug here."
        RxRingFull Counter "kernel_rx_ring_full" "frames" "Dropped because the rx ring was full."
        RxFillEmpty Counter "kernel_rx_fill_ring_empty" "events" "Receives that found the fill ring empty."
        TxRingEmpty Counter "kernel_tx_ring_empty" "events" "Transmit polls that found the tx ring empty."
    }
}

values! {
    /// What the kernel sent on from a port of a wire.
    Crossed, CROSSED_VALUES {
        Packets Counter "crossed_packets" "frames" "Frames that the kernel sent on to the wire's other port, those that were lost on the way included."
        Bytes Counter "crossed_bytes" "bytes" "Bytes of those frames, from the MAC header on, VLAN tags that the kernel took off included."
        NoPeer Counter "crossed_no_peer" "frames" "Frames that the kernel dropped because there was no other port."
        Unseen Counter "crossed_unseen" "frames" "Frames that crossed while no spanwired ran, until this one took the port over: none of crossed_packets."
    }
}

values! {
    /// What of the frames of [`Crossed::Packets`] was lost on the way, as far as the kernel says.
    Lost, LOST_VALUES {
        Refused Counter "lost_refused" "frames" "Not sent on by XDP: the other port is down or takes none, or they are too large for it (xdp_redirect_err)."
        Unsent Counter "lost_unsent" "frames" "Sent on by XDP, and not taken by the other port's driver (xdp_devmap_xmit; on veth its tx_dropped, with whatever others sent by it)."
        Aborted Counter "lost_aborted" "frames" "Dropped by the driver that received them, for a failure of its own (xdp_exception)."
        Device Counter "lost_device" "frames" "Sent on by tc, and dropped by the other port's device (tx_dropped), with whatever others sent by it."
        Queue Counter "lost_queue" "frames" "Sent on by tc, and dropped by the other port's queueing discipline, with whatever others sent by it."
    }
}

values! {
    /// One shard.
    Shard, SHARD_VALUES {
        Breaths Counter "breaths" "breaths" "Turns of the shard's loop."
        BusyBreaths Counter "busy_breaths" "breaths" "Turns that moved at least one frame."
        Naps Counter "naps" "sleeps" "Times the shard slept because nothing moved."
        Swaps Counter "swaps" "tables" "Snapshot tables adopted."
        Bindings Gauge "bindings" "sockets" "Sockets the shard serves."
    }
}

values! {
    /// One UMEM partition of one shard. `free + fill_rx + in_flight + lent = size` between breaths.
    Partition, PARTITION_VALUES {
        Size Gauge "size" "frames" "Frames the partition was created with."
        Free Gauge "free" "frames" "Frames on the free list."
        FillRx Gauge "fill_rx" "frames" "Frames in fill rings, in the kernel's hands or in rx rings."
        Tx Gauge "in_flight" "frames" "Frames in tx rings, in the kernel's hands or in completion rings."
        Quarantined Gauge "quarantined" "frames" "Part of in_flight: not completed some 5 s after the kernel took them."
        Lent Gauge "lent" "frames" "Mirror frames with other shards, for their clones to monitor queues of this one."
    }
}
