//! The dataplane itself.

use serde::Serialize;
use shm_layout::record::CAP_MIRROR;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::stats::Stats;
use crate::clock;

/// The dataplane itself, as documents give it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dataplane {
    /// Whether it runs.
    pub running: bool,
    /// Whether what it says is newer than the question.
    pub fresh: bool,
    /// Process id in its own PID namespace; `None` where none has ever run here.
    pub pid: Option<u32>,
    /// Its release.
    pub release: Option<String>,
    /// When it started, RFC 3339: the epoch of its counters.
    pub started_at: Option<String>,
    /// Generation of the table handed to the shards; 0 for none.
    pub table_generation: u64,
    /// The oldest generation any shard still uses.
    pub adopted_generation: u64,
    /// Whether it has mirror frames.
    pub can_mirror: bool,
    /// Bytes of a UMEM frame.
    pub frame_size: u32,
    /// Mirror frames per shard.
    pub mirror_frames: u32,
    /// Mirror frames that the published snapshot can need per shard; `None` outside of `show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror_frames_needed: Option<u64>,
    /// Snapshots it refused since it started.
    pub rejects: u64,
    /// Why it refused the last one; empty when none was, or a good one came since.
    pub last_reject: String,
    /// When its values were gathered, nanoseconds of `CLOCK_MONOTONIC`.
    #[serde(skip)]
    pub gathered_at: u64,
    /// Nanoseconds since then.
    #[serde(skip)]
    pub age_ns: u64,
}

impl Dataplane {
    /// What `stats` says of its dataplane; without any, that none runs.
    #[must_use]
    pub fn of(stats: Option<&Stats>) -> Dataplane {
        let Some(stats) = stats else { return Dataplane::default() };
        let meta = &stats.meta;
        Dataplane {
            running: stats.running,
            fresh: stats.running && stats.fresh(),
            pid: Some(meta.pid),
            release: Some(stats.release.clone()),
            started_at: OffsetDateTime::from_unix_timestamp_nanos(meta.started_at.into())
                .ok()
                .and_then(|at| at.format(&Rfc3339).ok()),
            table_generation: meta.table_generation,
            adopted_generation: meta.adopted_generation,
            can_mirror: meta.capabilities & CAP_MIRROR != 0,
            frame_size: meta.frame_size,
            mirror_frames: meta.mirror_frames,
            mirror_frames_needed: None,
            rejects: meta.rejects,
            last_reject: stats.last_reject.clone(),
            gathered_at: meta.gathered_at,
            age_ns: clock::monotonic_ns().saturating_sub(meta.gathered_at),
        }
    }
}
