//! A shard, and the table it uses.

use serde::Serialize;
use shm_layout::record::ShardRecord;

/// One shard and the table it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShardState {
    /// Index of the shard.
    pub id: u32,
    /// Processor it is pinned to.
    pub cpu: u32,
    /// Generation of the table it uses.
    pub adopted_generation: u64,
}

impl From<&ShardRecord> for ShardState {
    fn from(shard: &ShardRecord) -> ShardState {
        ShardState { id: shard.id, cpu: shard.cpu, adopted_generation: shard.adopted_generation }
    }
}
