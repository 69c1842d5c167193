//! Whether every shard uses a generation.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::dataplane::Dataplane;
use super::live::{NAP, Region};
use super::shard::ShardState;
use super::stats::Stats;
use super::{StateError, published};
use crate::clock;
use crate::control::diagnostic::Reason;
use crate::region::RegionError;
use crate::text::printable;

/// What [`wait_adopted`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uptake {
    /// The generation waited for.
    pub generation: u64,
    /// Whether every shard uses it, or a newer one.
    pub adopted: bool,
    /// The shards; none without a dataplane.
    pub shards: Vec<ShardState>,
    /// The dataplane.
    pub dataplane: Dataplane,
}

impl Uptake {
    /// Why the generation is not in use after a wait of `waited`: the shards that are behind.
    #[must_use]
    pub fn behind(&self, waited: Duration) -> Reason {
        let late = self.shards.iter().filter(|shard| shard.adopted_generation < self.generation);
        let late: Vec<String> = late.map(|s| format!("shard {} at {}", s.id, s.adopted_generation)).collect();
        let late = match late.as_slice() {
            [] if !self.shards.is_empty() && !self.dataplane.fresh => "the dataplane does not answer".to_owned(),
            [] => "no shard has started".to_owned(),
            late => late.join(", "),
        };
        let seconds = waited.as_secs_f64();
        let mut text = format!("generation {} is not in use everywhere after {seconds} s: {late}", self.generation);
        if !self.dataplane.last_reject.is_empty() {
            text += &format!("; the dataplane refused a snapshot: {}", printable(&self.dataplane.last_reject));
        }
        Reason::new(text)
    }
}

/// Waits at most `timeout` until every shard of a running dataplane says, from now on, that it uses `generation` or a
/// newer one: what was said before may be the word of a dataplane that has been replaced since. The dataplane may
/// still have to start.
///
/// # Errors
/// [`StateError`], once the time is up and `stats.shm` is there but cannot be read.
pub fn wait_adopted(dir: &Path, generation: u64, timeout: Duration) -> Result<Uptake, StateError> {
    let start = Instant::now();
    // A time out of range is as good as one that never comes.
    let deadline = start.checked_add(timeout).unwrap_or(start + Duration::from_secs(u32::MAX.into()));
    // Even where there is no time, what is told is not older than the question, if the dataplane answers.
    let (asked, grace) = (clock::monotonic_ns(), start + NAP);
    let mut region = Region::new(dir);
    loop {
        let failed = region.poll().err();
        let running = region.latest.as_ref().filter(|stats| stats.running);
        let is_late = Instant::now() >= deadline
            && (running.is_none_or(|stats| stats.meta.gathered_at >= asked) || Instant::now() >= grace);
        let adopted = running.is_some_and(|stats| {
            // An image from before the shards started has no rows, and all of none is not enough.
            stats.meta.gathered_at >= asked
                && stats.shards.len() == stats.meta.shard_count as usize
                && !stats.shards.is_empty()
                && stats.shards.iter().all(|shard| shard.adopted_generation >= generation)
                && is_of_region(dir, stats.meta.config_instance)
        });
        let fresh = running.is_some_and(|stats| stats.meta.gathered_at >= asked);
        if adopted || is_late {
            return match failed {
                Some(error) if !matches!(error, StateError::Region(RegionError::Missing { .. })) => Err(error),
                _ => Ok(Uptake {
                    generation,
                    adopted,
                    shards: running.map(Stats::shard_states).unwrap_or_default(),
                    dataplane: Dataplane { fresh, ..Dataplane::of(region.latest.as_ref()) },
                }),
            };
        }
        region.wait(deadline.max(grace));
    }
}

/// Whether generations of this instance are those `config.shm` counts, as far as it can be read: after both
/// regions were lost a new one may count from below what the shards have.
fn is_of_region(dir: &Path, instance: u64) -> bool {
    published(dir).ok().flatten().is_none_or(|published| published.instance_id == instance)
}
