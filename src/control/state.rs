//! What is published, and what the dataplane says of it, as the documents operators read.
//!
//! ```text
//! config.shm ── published ──> Published ──┬──> Show         what is configured, and whether it works
//! stats.shm ── fresh_stats ──> Stats ─────┴──> StatsReport  every counter
//!                 └── wait_adopted ──> Uptake               whether every shard uses a generation
//! ```
//!
//! - `stats`: one image of `stats.shm`, with a `port`, a `path`, a `shard` and a `feature` in it; `newer`: what a newer dataplane adds to its rows
//! - `live`: reads it anew, and tells whether the dataplane runs; `uptake`: waits for a generation to be used
//! - `sizing`: the mirror frames and sockets that a snapshot can need, and whether the dataplane has them
//! - `show`; `ledger`, of `values` and `latency`; `dataplane` and `traffic`, which are in both
//!
//! A document is never older than the question while a dataplane runs: [`fresh_stats`] waits for values gathered
//! after it was asked. A dataplane that has died leaves its last values behind; they are given with `running`
//! false. It runs while it holds its lock ([`runs`]), in whatever PID namespace.

mod dataplane;
mod feature;
mod latency;
mod ledger;
mod live;
mod newer;
mod path;
mod port;
mod shard;
mod show;
mod sizing;
mod stats;
mod traffic;
mod uptake;
mod values;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use shm_layout::error::LayoutError;
use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use shm_layout::record::{LiveState, Role};
use shm_layout::snapshot::SnapshotView;
use thiserror::Error;

pub use dataplane::Dataplane;
pub use feature::FeatureRow;
pub use latency::SwapLatency;
pub use ledger::{EntryRow, EntryShard, ShardRow, StatsReport, UmemRow, attained_rate, stats};
pub use live::{FRESH_PATIENCE, fresh_devices, fresh_stats, last_stats, process, runs};
pub use path::PathRow;
pub use port::PortState;
pub use shard::ShardState;
pub use show::{MirrorState, Place, Show, WireState, show};
pub(super) use sizing::{overload, too_little};
pub use stats::Stats;
pub(super) use traffic::crossed;
pub use traffic::{BindingRow, Counts, PortRow};
pub use uptake::{Uptake, wait_adopted};
pub use values::{Meaning, Values};

use super::model::Snapshot;
use crate::region::{CONFIG_FILE, Polled, RegionError, Subscriber};

/// How often a region that is being replaced or written is read again before that is an error.
const TRIES: usize = 8;

/// Why there is nothing to tell.
#[derive(Debug, Error)]
pub enum StateError {
    /// The region cannot be read.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// What is in the region is not what it should be.
    #[error("{}: {source}", path.display())]
    Layout {
        /// The region.
        path: PathBuf,
        /// What does not hold.
        source: LayoutError,
    },
    /// There is no such region yet.
    #[error("{}: {what}", dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
        /// What is missing in it, and what would put it there.
        what: &'static str,
    },
}

/// The image in `config.shm`.
#[derive(Clone, Debug)]
pub struct Published {
    /// Identity of the region.
    pub instance_id: u64,
    /// Generation of the image.
    pub generation: u64,
    path: PathBuf,
    image: Image,
}

impl Published {
    /// Its content, checked.
    ///
    /// # Errors
    /// [`StateError::Layout`].
    pub fn view(&self) -> Result<SnapshotView<'_>, StateError> {
        SnapshotView::try_from(self.image.words())
            .map_err(|source| StateError::Layout { path: self.path.clone(), source })
    }

    /// The image itself, to publish it again.
    #[must_use]
    pub fn into_image(self) -> Image {
        self.image
    }
}

/// Reads `config.shm` once; `None` where nothing has been published.
///
/// # Errors
/// [`StateError::Region`].
pub fn published(dir: &Path) -> Result<Option<Published>, StateError> {
    let mut region = Subscriber::new(dir, CONFIG_FILE, RegionKind::Config);
    for left in (0..TRIES).rev() {
        match region.poll() {
            Ok(Polled::New { instance, generation, words }) => {
                return Ok(Some(Published {
                    instance_id: instance,
                    generation,
                    path: dir.join(CONFIG_FILE),
                    image: Image::from_words(words.to_vec()),
                }));
            }
            Ok(Polled::Unchanged) | Err(RegionError::Missing { .. }) => return Ok(None),
            // Replaced or overwritten while it was read: it will not be the next time.
            Err(RegionError::Read { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The role's name in documents.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Standby => "standby",
    }
}

/// A snapshot's names of ifindexes; of several with one ifindex the first, as everywhere.
fn names_of(snapshot: &Snapshot) -> HashMap<u32, String> {
    let mut names = HashMap::with_capacity(snapshot.interfaces.len());
    for interface in &snapshot.interfaces {
        names.entry(interface.ifindex).or_insert_with(|| interface.label().to_owned());
    }
    names
}

fn live_name(state: LiveState) -> &'static str {
    match state {
        LiveState::Active => "active",
        LiveState::Inactive => "inactive",
    }
}
