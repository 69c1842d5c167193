//! Publishing into `config.shm`.
//!
//! What the control plane decides outside of a snapshot, the role and whether mirroring is armed, stands over a
//! new snapshot: it is read back and written again under one hold of the writer lock, so that no change by
//! another process in between is lost. And the snapshot stands over a change of those: it is published again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use shm_layout::record::{CAP_MIRROR, CAP_PLACES, META_DISARMED, MetaRecord, Role};
use shm_layout::snapshot::SnapshotView;
use thiserror::Error;

use super::admission::{Admission, admit};
use super::compile::{Provenance, compile, needs_places};
use super::diagnostic::{Diagnostic, Reason};
use super::history::{History, Kept};
use super::model::Snapshot;
use super::state::{Stats, fresh_stats, last_stats, overload, published, too_little};
use super::units::Units;
use crate::clock;
use crate::region::{CONFIG_FILE, Publisher, RegionError};

/// How long a writer waits for another one to finish.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a publish waits for the running dataplane's word of what it has; one that hangs must not stop it.
const ANSWER_PATIENCE: Duration = Duration::from_millis(100);

/// A snapshot that was not published. What was published before is still active.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The dataplane cannot do what the snapshot asks.
    #[error(transparent)]
    Refused(Reason),
    /// The region cannot be written.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// What holds for a node whatever snapshot is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether this node mirrors.
    pub role: Role,
    /// [`META_DISARMED`] or 0.
    pub flags: u64,
}

impl Standing {
    /// What an image says.
    pub(super) fn of(meta: &MetaRecord) -> Standing {
        Standing { role: meta.role, flags: meta.flags }
    }

    /// Whether mirroring is armed; frames cross either way.
    #[must_use]
    pub fn armed(self) -> bool {
        self.flags & META_DISARMED == 0
    }

    /// The same, armed or not.
    #[must_use]
    pub fn with_armed(self, armed: bool) -> Standing {
        let flags = if armed { self.flags & !META_DISARMED } else { self.flags | META_DISARMED };
        Standing { flags, ..self }
    }
}

/// The only writer of a directory's `config.shm`, for as long as it lives.
#[derive(Debug)]
pub struct ConfigWriter {
    dir: PathBuf,
    publisher: Publisher,
    history: History,
}

/// What came of a publish.
#[derive(Debug)]
pub struct Receipt {
    /// The generation it got.
    pub generation: u64,
    /// Why the image could not be kept for a rollback; the publish stands all the same.
    pub unkept: Option<RegionError>,
}

impl ConfigWriter {
    /// Becomes the writer, after at most [`LOCK_PATIENCE`]; the directory is made where it is missing.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(dir: &Path) -> Result<ConfigWriter, RegionError> {
        let publisher = Publisher::open(dir, CONFIG_FILE, RegionKind::Config, LOCK_PATIENCE)?;
        Ok(ConfigWriter { dir: dir.to_owned(), publisher, history: History::of(dir) })
    }

    /// What holds beside the snapshot published now; where that is lost or cannot be read, beside the newest in
    /// the history; the default where nothing was ever published. So a damaged region does not make a standby
    /// mirror.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.current().map_or_else(Standing::default, |(standing, _)| standing)
    }

    /// What is published now, or else the newest in the history, with what holds beside it.
    fn current(&self) -> Option<(Standing, Kept)> {
        let checked = |kept: Kept| Some((Standing::of(&kept.view().ok()?.meta), kept));
        let now = published(&self.dir).ok().flatten();
        let now = now.map(|now| Kept { generation: now.generation, image: now.into_image() });
        now.and_then(checked).or_else(|| {
            let newest_first = self.history.generations().ok()?.into_iter().rev();
            newest_first.filter_map(|generation| self.history.read(generation).ok()).find_map(checked)
        })
    }

    /// Publishes the current snapshot again where `change` makes another standing of the one that holds; where there
    /// was never any, an empty one. In the history it takes the place of its former self. Nothing holds this up but the
    /// region itself: the snapshot asks for nothing that was not asked before, and a failover must not wait.
    ///
    /// # Errors
    /// [`RegionError`], also where the snapshot that the dataplane uses is lost; what was published before is then
    /// still active.
    pub fn restand(&mut self, change: impl FnOnce(Standing) -> Standing) -> Result<Restood, RegionError> {
        let current = self.current();
        let before = current.as_ref().map_or_else(Standing::default, |(standing, _)| *standing);
        let generation = current.as_ref().map_or(0, |(_, kept)| kept.generation);
        let standing = change(before);
        if standing == before {
            return Ok(Restood { standing, generation, receipt: None });
        }
        let Standing { role, flags } = standing;
        let (mut image, instead) = match current {
            Some((_, mut kept)) => {
                let layout = |source| RegionError::Layout { path: self.dir.join(CONFIG_FILE), source };
                let meta = kept.view().map_err(layout)?.meta;
                kept.image.replace(&MetaRecord { role, flags, ..meta }).map_err(layout)?;
                (kept.image, Some(kept.generation))
            }
            // An empty snapshot in the place of one that is lost would take a running dataplane's wires away.
            None if self.in_use() > 0 => return Err(RegionError::Missing { path: self.dir.join(CONFIG_FILE) }),
            None => {
                let empty = Snapshot::default();
                (compile(&empty, &admit(&empty), &Provenance { role, flags, ..Provenance::of(b"") }), None)
            }
        };
        let receipt = self.install(&mut image, instead)?;
        Ok(Restood { standing, generation: receipt.generation, receipt: Some(receipt) })
    }

    /// The generation that the dataplane uses, or used last.
    fn in_use(&self) -> u64 {
        // What is damaged or gone tells nothing, and must not stop the configuration.
        last_stats(&self.dir).ok().flatten().map_or(0, |stats| stats.table_generation())
    }

    /// Publishes `image` as a generation above every one that was published or that a dataplane has seen here,
    /// even where `config.shm` was lost since, and keeps it in the history, in the place of `instead`.
    ///
    /// # Errors
    /// The image does not hold as a [`SnapshotView`] (a reader would refuse it), or [`RegionError`].
    fn install(&mut self, image: &mut Image, instead: Option<u64>) -> Result<Receipt, RegionError> {
        SnapshotView::try_from(image.words())
            .map_err(|source| RegionError::Layout { path: self.dir.join(CONFIG_FILE), source })?;
        let seen = self.in_use();
        let kept = self.history.newest();
        self.publisher.continue_after(seen.max(kept));
        let generation = self.publisher.publish(image)?;
        Ok(Receipt { generation, unkept: self.history.keep(generation, image, instead).err() })
    }
}

/// What came of [`ConfigWriter::restand`].
#[derive(Debug)]
pub struct Restood {
    /// What holds now.
    pub standing: Standing,
    /// The generation it holds since; 0 where nothing was ever published.
    pub generation: u64,
    /// What came of the publish; `None` where nothing had to change.
    pub receipt: Option<Receipt>,
}

/// Compiles and publishes an admitted snapshot for a document with this SHA-256, under the role and flags that
/// stand, unless [`gate`] refuses it. There is no other way for a snapshot to come into `config.shm`.
///
/// # Errors
/// [`WriteError`]; what was published before is then still active.
pub fn publish(
    dir: &Path,
    snapshot: &Snapshot,
    admission: &Admission,
    digest: [u8; 32],
) -> Result<Receipt, WriteError> {
    // Before the lock, which would make the directory.
    gate(dir, snapshot).map_err(WriteError::Refused)?;
    let mut writer = ConfigWriter::open(dir)?;
    let Standing { role, flags } = writer.standing();
    let source = Provenance { digest, role, flags, compiled_at: clock::unix_ns() };
    Ok(writer.install(&mut compile(snapshot, admission, &source), None)?)
}

/// Refuses a snapshot that needs what the running dataplane does not have. Without a running dataplane there
/// is nothing to hold it against, and it passes.
///
/// # Errors
/// What is missing, and what to do about it.
pub fn gate(dir: &Path, snapshot: &Snapshot) -> Result<(), Reason> {
    let Some(stats) = running(dir) else { return Ok(()) };
    let places = Units::of(snapshot).places(&snapshot.mirrors);
    if let Some(reason) = overload(&places, &snapshot.wires, &stats) {
        return Err(reason);
    }
    let entries = snapshot.mirrors.len();
    let can = |what: u64| stats.capabilities() & what != 0;
    if entries > 0 && !can(CAP_MIRROR) {
        return Err(Reason::new(format!(
            "mirror_configs: {entries} entries, but the running dataplane (process {}) has no mirror frames (restart \
             spanwired with --mirror-frames above 0, or publish a snapshot without mirror entries)",
            stats.pid()
        )));
    }
    if !can(CAP_PLACES) && needs_places(snapshot) {
        return Err(Reason::new(format!(
            "mirror_configs: the running dataplane (process {}) is of an older release, which knows no native VLAN, no \
             VLAN unit as an output, and no interface that is its own parent (restart spanwired with this release)",
            stats.pid()
        )));
    }
    Ok(())
}

/// Warns of what the running dataplane has too little of, or does not know, for a snapshot that it can use all the same.
#[must_use]
pub fn shortcomings(dir: &Path, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let Some(dataplane) = running(dir) else { return Vec::new() };
    too_little(&Units::of(snapshot).places(&snapshot.mirrors), &snapshot.wires, &dataplane)
}

/// What the running dataplane says, from now on where it answers at once: the last word may be that of one which has
/// been replaced. A region that cannot be read says nothing.
fn running(dir: &Path) -> Option<Stats> {
    fresh_stats(dir, clock::monotonic_ns(), ANSWER_PATIENCE).ok().flatten().filter(Stats::running)
}
