//! One image of `stats.shm`.

use std::collections::HashMap;

use shm_layout::counters::Partition;
use shm_layout::error::LayoutError;
use shm_layout::record::{
    BindingRecord, CloneRecord, EntryRecord, EntryStateRecord, PartitionKind, PlaceRecord, PortDeviceRecord,
    PortStateRecord, Record, RefusalRecord, RingRecord, RoomRecord, ShardRecord, SightRecord, StatsMetaRecord,
    SwapRecord, TakenDownRecord, UmemRecord,
};
use shm_layout::view::ImageView;

use super::feature::{FeatureRow, features};
use super::newer::Newer;
use super::path::{PathRow, paths};
use super::port::{PortState, port_state};
use super::shard::ShardState;
use crate::devices::listing::Listed;

/// One image of `stats.shm`.
#[derive(Clone, Debug)]
pub struct Stats {
    pub(super) meta: StatsMetaRecord,
    pub(super) release: String,
    pub(super) last_reject: String,
    pub(super) shards: Vec<ShardRecord>,
    pub(super) ports: Vec<PortState>,
    pub(super) bindings: Vec<BindingRecord>,
    /// Each port that is taken down, with its wire's other one, whose link is lost.
    pub(super) taken_down: Vec<(u32, u32)>,
    /// None where the dataplane is of an older release.
    pub(super) paths: Vec<PathRow>,
    /// None where the dataplane is of an older release.
    pub(super) features: Vec<FeatureRow>,
    /// None where the dataplane is of an older release.
    pub(super) sights: Vec<SightRecord>,
    pub(super) entries: Vec<EntryRecord>,
    /// One for each of those; none where the dataplane is of an older release.
    pub(super) refusals: Vec<RefusalRecord>,
    pub(super) rings: Vec<RingRecord>,
    /// Each with its reason.
    pub(super) entry_states: Vec<(EntryStateRecord, String)>,
    /// One for each of those; none from a dataplane of layout minor 0.
    pub(super) places: Vec<PlaceRecord>,
    pub(super) umem: Vec<UmemRecord>,
    pub(super) swaps: Vec<SwapRecord>,
    /// None where a release wrote it that did not say.
    clones: Vec<CloneRecord>,
    /// `None` where a release wrote it that did not say.
    room: Option<RoomRecord>,
    /// What the rows above have beyond this release.
    pub(super) newer: Newer,
    pub(super) devices: Option<Listed>,
    pub(super) running: bool,
    fresh: bool,
}

impl Stats {
    pub(super) fn parse(words: &[u64]) -> Result<Stats, LayoutError> {
        let image = ImageView::parse(words)?;
        let text = image.strings()?;
        let missing = LayoutError::Section { kind: StatsMetaRecord::KIND, what: "is missing" };
        let devices: HashMap<u32, u32> =
            image.records::<PortDeviceRecord>()?.iter().map(|row| (row.ifindex, row.device_ifindex)).collect();
        let meta = image.records::<StatsMetaRecord>()?.iter().next().ok_or(missing)?;
        let newer = Newer::read(&image, text)?;
        Ok(Stats {
            release: text.text(meta.release).to_owned(),
            last_reject: text.text(meta.last_reject).to_owned(),
            shards: image.records()?.iter().collect(),
            ports: image
                .records::<PortStateRecord>()?
                .iter()
                .map(|port| PortState {
                    device_ifindex: devices.get(&port.ifindex).copied(),
                    ..port_state(&port, text)
                })
                .collect(),
            bindings: image.records()?.iter().collect(),
            taken_down: image.records::<TakenDownRecord>()?.iter().map(|row| (row.ifindex, row.lost_ifindex)).collect(),
            paths: paths(&image, text, &newer)?,
            features: features(&image, text)?,
            sights: image.records()?.iter().collect(),
            entries: image.records()?.iter().collect(),
            refusals: image.records()?.iter().collect(),
            rings: image.records()?.iter().collect(),
            entry_states: image
                .records::<EntryStateRecord>()?
                .iter()
                .map(|entry| (entry, text.text(entry.reason).to_owned()))
                .collect(),
            places: image.records()?.iter().collect(),
            umem: image.records()?.iter().collect(),
            swaps: image.records()?.iter().collect(),
            clones: image.records()?.iter().collect(),
            room: image.records::<RoomRecord>()?.iter().next(),
            newer,
            devices: Listed::read(&image, text)?,
            meta,
            running: false,
            fresh: false,
        })
    }

    /// The same, with whether it is newer than the question.
    pub(super) fn told_fresh(self, is_fresh: impl FnOnce(&Stats) -> bool) -> Stats {
        Stats { fresh: is_fresh(&self), ..self }
    }

    /// Whether the process that wrote it still runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.running
    }

    /// Whether what it says is newer than the question it was read for.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.fresh
    }

    /// Its release.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Process id of the dataplane, in the PID namespace it runs in: for messages. [`process`](super::process) is for all else.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.meta.pid
    }

    /// [`CAP_MIRROR`](shm_layout::record::CAP_MIRROR) and others.
    #[must_use]
    pub fn capabilities(&self) -> u64 {
        self.meta.capabilities
    }

    /// Mirror frames of each shard.
    #[must_use]
    pub fn mirror_frames(&self) -> u32 {
        self.meta.mirror_frames
    }

    /// Bytes of each of them.
    pub(super) fn frame_size(&self) -> u32 {
        self.meta.frame_size
    }

    /// Whether it says that it has a feature.
    pub(super) fn has_feature(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature.available && feature.name == name)
    }

    /// Shards it runs.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.meta.shard_count
    }

    /// How many sockets it can serve; `None` where it does not say.
    #[must_use]
    pub fn room(&self) -> Option<RoomRecord> {
        self.room
    }

    /// Generation of the table handed to the shards.
    #[must_use]
    pub fn table_generation(&self) -> u64 {
        self.meta.table_generation
    }

    /// The latencies of table swaps, a row a shard.
    #[must_use]
    pub fn swaps(&self) -> &[SwapRecord] {
        &self.swaps
    }

    /// The devices of its network namespace; `None` of a dataplane of an older release.
    #[must_use]
    pub fn devices(&self) -> Option<&Listed> {
        self.devices.as_ref()
    }

    /// The ports in use.
    #[must_use]
    pub fn ports(&self) -> &[PortState] {
        &self.ports
    }

    /// Frames of clones on the way out: in lanes between shards, in tx rings, with the kernel, or completed and not taken
    /// back yet. What a clone ring holds counts as one.
    /// A dataplane of an older release does not tell of those in lanes.
    #[must_use]
    pub fn clones_in_flight(&self) -> u64 {
        if !self.clones.is_empty() {
            return self.clones.iter().map(|row| row.on_the_way).sum();
        }
        let mirror = self.umem.iter().filter(|row| row.partition == PartitionKind::Mirror);
        mirror.map(|row| row.values[Partition::Tx as usize]).sum()
    }

    /// The shards and what each has adopted.
    #[must_use]
    pub fn shard_states(&self) -> Vec<ShardState> {
        self.shards.iter().map(ShardState::from).collect()
    }
}
