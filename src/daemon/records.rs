//! What is counted and reported, as the records of `stats.shm`.

use std::sync::atomic::Ordering::Relaxed;

use shm_layout::counters::{
    Binding, Crossed, Description, ENTRY_VALUES, Entry, Kernel, Lost, PARTITION_VALUES, Partition, REFUSAL_VALUES,
    Shard as ShardValue, Sight,
};
use shm_layout::image::ImageBuilder;
use shm_layout::record::{
    BindingRecord, DescriptorRecord, EntryRecord, FeatureRecord, LiveState, NO_SHARD, PartitionKind, PathRecord,
    PortStateRecord, Record, RefusalRecord, RingRecord, ShardRecord, SightRecord, SwapRecord, UmemRecord,
};

use super::crossing::Reading;
use super::features::Feature;
use super::report::{BindingStatus, PathStatus, PortStatus, State};
use crate::counters::ShardBlock;

pub(super) fn descriptors(image: &mut ImageBuilder) -> Vec<DescriptorRecord> {
    let (entry, more) = Entry::DESCRIPTIONS.split_at(ENTRY_VALUES);
    let tables: [(u32, usize, &[Description]); 10] = [
        (ShardRecord::KIND, std::mem::offset_of!(ShardRecord, values), ShardValue::DESCRIPTIONS),
        (BindingRecord::KIND, std::mem::offset_of!(BindingRecord, values), Binding::DESCRIPTIONS),
        (BindingRecord::KIND, std::mem::offset_of!(BindingRecord, kernel), Kernel::DESCRIPTIONS),
        (PathRecord::KIND, std::mem::offset_of!(PathRecord, crossed), Crossed::DESCRIPTIONS),
        (PathRecord::KIND, std::mem::offset_of!(PathRecord, lost), Lost::DESCRIPTIONS),
        (SightRecord::KIND, std::mem::offset_of!(SightRecord, values), Sight::DESCRIPTIONS),
        (EntryRecord::KIND, std::mem::offset_of!(EntryRecord, values), entry),
        (RefusalRecord::KIND, std::mem::offset_of!(RefusalRecord, values), &more[..REFUSAL_VALUES]),
        (RingRecord::KIND, std::mem::offset_of!(RingRecord, values), &more[REFUSAL_VALUES..]),
        (UmemRecord::KIND, std::mem::offset_of!(UmemRecord, values), Partition::DESCRIPTIONS),
    ];
    let mut all = Vec::new();
    for (section, from, descriptions) in tables {
        for (index, d) in descriptions.iter().enumerate() {
            all.push(DescriptorRecord {
                section,
                index: index as u32,
                kind: d.kind as u32,
                offset: (from + index * 8) as u32,
                name: image.string(d.name),
                unit: image.string(d.unit),
                help: image.string(d.help),
            });
        }
    }
    all
}

pub(super) fn shard_row(block: &ShardBlock) -> ShardRecord {
    ShardRecord {
        id: block.id,
        cpu: block.cpu,
        pinned: block.pinned.load(Relaxed),
        pad: 0,
        adopted_generation: block.adopted_generation(),
        values: block.values(),
    }
}

pub(super) fn swap_row(block: &ShardBlock) -> SwapRecord {
    let (buckets, max_ns, sum_ns) = block.swaps.read();
    SwapRecord { shard: block.id, pad: 0, buckets, max_ns, sum_ns }
}

pub(super) fn umem_rows(block: &ShardBlock) -> [UmemRecord; 2] {
    let row = |partition, values: [u64; PARTITION_VALUES]| UmemRecord { shard: block.id, partition, values };
    [row(PartitionKind::Primary, block.partition(0)), row(PartitionKind::Mirror, block.partition(1))]
}

pub(super) fn port_rows(image: &mut ImageBuilder, state: &State) -> Vec<PortStateRecord> {
    let mut row = |port: &PortStatus| PortStateRecord {
        ifindex: port.ifindex,
        role: port.role,
        state: if port.up { LiveState::Active } else { LiveState::Inactive },
        mtu: port.mtu,
        queues: port.queues,
        zero_copy: u32::from(port.zero_copy),
        name: image.string(&port.name),
        xdp_mode: image.string(port.xdp_mode),
        driver: image.string(&port.driver),
        reason: image.string(&port.reason),
    };
    state.ports.iter().map(&mut row).collect()
}

pub(super) fn binding_rows(state: &State) -> Vec<BindingRecord> {
    let row = |binding: &BindingStatus| BindingRecord {
        ifindex: binding.ifindex,
        queue: binding.queue,
        shard: binding.shard.unwrap_or(NO_SHARD),
        pad: 0,
        values: binding.block.read(),
        kernel: binding.kernel,
    };
    state.bindings.iter().map(row).collect()
}

pub(super) fn sight_rows(state: &State) -> Vec<SightRecord> {
    let row = |binding: &BindingStatus| SightRecord {
        ifindex: binding.ifindex,
        queue: binding.queue,
        shard: binding.shard.unwrap_or(NO_SHARD),
        pad: 0,
        values: binding.block.sights(),
    };
    state.bindings.iter().map(row).collect()
}

pub(super) fn path_rows(image: &mut ImageBuilder, state: &State) -> Vec<PathRecord> {
    let row = |status: &PathStatus| {
        let Reading { crossed, lost, unknown } =
            status.crossing.as_ref().map(|crossing| crossing.read()).unwrap_or_default();
        PathRecord {
            ifindex: status.ifindex,
            peer_ifindex: status.peer,
            path: image.string(status.path),
            reason: image.string(&status.reason),
            unknown: image.string(&unknown),
            crossed,
            lost,
        }
    };
    state.paths.iter().map(row).collect()
}

pub(super) fn feature_rows(image: &mut ImageBuilder, features: &[Feature]) -> Vec<FeatureRecord> {
    let mut row = |Feature { name, lacks, without }: &Feature| FeatureRecord {
        name: image.string(name),
        reason: image.string(lacks.as_deref().unwrap_or_default()),
        consequence: image.string(if lacks.is_some() { without } else { "" }),
        available: u32::from(lacks.is_none()),
        pad: 0,
    };
    features.iter().map(&mut row).collect()
}
