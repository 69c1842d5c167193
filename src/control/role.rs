//! Whether this node mirrors: its role, and whether mirroring is armed.
//!
//! A change is a publish like any other, and what follows from it holds once every shard uses it. So a change is
//! seen through: [`change`] comes back when the shards have it, and, where mirroring has stopped, when the clones
//! that were queued before have left. From then on not one clone leaves this node.

use std::path::Path;
use std::time::{Duration, Instant};

use super::state::{StateError, Stats, Uptake, fresh_stats, published, runs, wait_adopted};
use super::writer::{ConfigWriter, Standing};
use crate::clock;
use crate::region::RegionError;
use shm_layout::record::Role;

/// What holds, and how far it has got.
#[derive(Debug)]
pub struct Outcome {
    /// What holds.
    pub standing: Standing,
    /// The generation of `config.shm` it holds since; 0 where nothing was ever published.
    pub generation: u64,
    /// Whether this call changed it.
    pub changed: bool,
    /// Where it holds.
    pub reach: Reach,
    /// Why the image could not be kept for a rollback; the change stands all the same.
    pub unkept: Option<RegionError>,
}

/// How far a standing has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No dataplane runs. The next one begins with it.
    NoDataplane,
    /// Every shard uses it.
    InUse {
        /// Clones from before that have still not left, where mirroring has stopped.
        clones_left: u64,
    },
    /// Some shard does not use it yet.
    Behind(Uptake),
}

/// Changes what holds for this node, and waits at most `patience` until the shards of a running dataplane have it
/// and the clones of before are gone. Where `change` changes nothing, nothing is published.
///
/// # Errors
/// It cannot be published, or the dataplane's state cannot be read.
pub fn change(
    dir: &Path,
    patience: Duration,
    change: impl FnOnce(Standing) -> Standing,
) -> Result<Outcome, StateError> {
    let done = ConfigWriter::open(dir)?.restand(change)?;
    let reach = reach(dir, done.standing, done.generation, patience)?;
    let (changed, unkept) = (done.receipt.is_some(), done.receipt.and_then(|receipt| receipt.unkept));
    Ok(Outcome { standing: done.standing, generation: done.generation, changed, reach, unkept })
}

/// What holds for this node now, and whether the shards have it.
///
/// # Errors
/// A region cannot be read.
pub fn now(dir: &Path) -> Result<Outcome, StateError> {
    let current = published(dir)?;
    let generation = current.as_ref().map_or(0, |current| current.generation);
    let standing = match &current {
        Some(current) => Standing::of(&current.view()?.meta),
        None => Standing::default(),
    };
    let reach = reach(dir, standing, generation, Duration::ZERO)?;
    Ok(Outcome { standing, generation, changed: false, reach, unkept: None })
}

fn reach(dir: &Path, standing: Standing, generation: u64, patience: Duration) -> Result<Reach, StateError> {
    let deadline = Instant::now() + patience;
    if !runs(dir) {
        return Ok(Reach::NoDataplane);
    }
    let adoption = wait_adopted(dir, generation, patience)?;
    if !adoption.adopted {
        // One that ended meanwhile is none; one that has only begun has said nothing yet.
        return Ok(if runs(dir) { Reach::Behind(adoption) } else { Reach::NoDataplane });
    }
    if standing.role == Role::Active && standing.armed() {
        return Ok(Reach::InUse { clones_left: 0 });
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let stats = fresh_stats(dir, clock::monotonic_ns(), left)?.filter(Stats::running);
        let clones_left = stats.map_or(0, |stats| stats.clones_in_flight());
        if clones_left == 0 || left.is_zero() {
            return Ok(Reach::InUse { clones_left });
        }
    }
}
