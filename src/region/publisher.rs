//! The writer's side of a region.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shm_layout::PAGE;
use shm_layout::header::{MAX_SLOT, RegionKind, WRITER_PID, WRITER_START};
use shm_layout::image::Image;
use shm_layout::protocol::{PublishError, Step, Writer};
use shm_layout::words::Words;

use super::{Access, RegionError, RegionFile, WriterLock, check_dir};
use crate::clock;

/// The smallest slot a region is created with, bytes.
const MIN_SLOT: usize = 64 << 10;

/// The only writer of a region, for as long as it lives.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    kind: RegionKind,
    lock: WriterLock,
    /// Start time of this process, for readers to tell it from a later one of the same id.
    start_time: u64,
    file: Option<RegionFile>,
    /// No generation up to this one is given out again.
    floor: u64,
}

impl Publisher {
    /// Becomes the writer of the region `name` in `dir`, which is created where it is missing.
    ///
    /// A region that is missing, truncated or damaged is replaced at the first publish; one that belongs to
    /// somebody else, that others may write, or that is a link is an error.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(dir: &Path, name: &str, kind: RegionKind, patience: Duration) -> Result<Publisher, RegionError> {
        check_dir(dir, true)?;
        let path = dir.join(name);
        let lock = WriterLock::acquire(&path, patience)?;
        remove_unfinished(&path);
        let file = match RegionFile::open(&path, kind, Access::Write) {
            Ok(file) => Some(file),
            Err(RegionError::Missing { .. } | RegionError::Layout { .. }) => None,
            Err(other) => return Err(other),
        };
        Ok(Publisher { path, kind, lock, start_time: process_start(), file, floor: 0 })
    }

    /// Never gives out a generation up to `generation`: for a writer that knows what readers of a lost region
    /// have already seen.
    pub fn continue_after(&mut self, generation: u64) {
        self.floor = self.floor.max(generation);
    }

    /// Publishes `image`, in a larger or a new region where it has to be, and wakes the readers.
    ///
    /// # Errors
    /// [`RegionError`]; the active generation is then unchanged.
    pub fn publish(&mut self, image: &mut Image) -> Result<u64, RegionError> {
        self.publish_stepwise(image, |_| ())
    }

    /// As [`Publisher::publish`], telling `at` where it stands: for fault injection.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish_stepwise(&mut self, image: &mut Image, mut at: impl FnMut(Step)) -> Result<u64, RegionError> {
        if let Some(file) = self.file.take_if(|file| !file.is_current()) {
            // Truncated or replaced under us: readers of the old inode must look the name up again.
            self.floor = self.floor.max(file.active().unwrap_or(0));
            let _ = Writer::new(&file, file.geometry()).supersede();
            file.wake();
            self.file = None;
            // If the directory went with it, so did the lock, and another writer may be there by now.
            if let Some(dir) = self.path.parent() {
                check_dir(dir, true)?;
            }
            if !self.lock.is_current() {
                self.lock = WriterLock::acquire(&self.path, Duration::ZERO)?;
            }
            self.file = RegionFile::open(&self.path, self.kind, Access::Write).ok();
        }
        let Some(file) = &self.file else {
            return self.replace(image, random_id(), &mut at);
        };
        // What a reader may have seen must never be given out again, even if the region is lost later.
        self.floor = self.floor.max(file.active().unwrap_or(0));
        match self.publish_into(file, image, &mut at) {
            Ok(generation) => {
                self.floor = generation;
                Ok(generation)
            }
            Err(PublishError::TooLarge { .. }) => {
                let instance = file.geometry().instance_id;
                self.replace(image, instance, &mut at)
            }
            Err(PublishError::Superseded | PublishError::Fault(_)) => self.replace(image, random_id(), &mut at),
            Err(source) => Err(RegionError::Publish { path: self.path.clone(), source }),
        }
    }

    fn publish_into(
        &self,
        file: &RegionFile,
        image: &mut Image,
        at: &mut impl FnMut(Step),
    ) -> Result<u64, PublishError> {
        file.store(WRITER_PID, u64::from(std::process::id()), Relaxed)?;
        file.store(WRITER_START, self.start_time, Relaxed)?;
        let writer = Writer::new(file, file.geometry());
        let generation = writer.publish(image, self.floor, clock::monotonic_ns(), clock::boottime_ns(), at)?;
        file.wake();
        Ok(generation)
    }

    /// A new inode that holds `image` before it gets the name; then readers of the old one are sent to it.
    fn replace(&mut self, image: &mut Image, instance: u64, at: &mut impl FnMut(Step)) -> Result<u64, RegionError> {
        // A slot beyond MAX_SLOT is one no reader accepts; an image that does not fit is refused by the publish.
        let slot_len = (image.len_bytes() * 2).next_multiple_of(PAGE).clamp(MIN_SLOT, MAX_SLOT);
        let file = RegionFile::create(&self.path, self.kind, slot_len, instance)?;
        let published = self.publish_into(&file, image, at).map_err(|source| {
            let _ = std::fs::remove_file(&file.path);
            RegionError::Publish { path: self.path.clone(), source }
        });
        let generation = published?;
        let file = file.install(&self.path)?;
        self.floor = generation;
        if let Some(old) = self.file.replace(file) {
            // A reader that misses this mark finds the new inode by its recheck of the name.
            let _ = Writer::new(&old, old.geometry()).supersede();
            old.wake();
        }
        Ok(generation)
    }
}

/// Removes regions that a writer made and died before it gave them the name. Only the holder of the lock.
fn remove_unfinished(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let unfinished =
            |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".new"));
        if entry.file_name().to_str().is_some_and(unfinished) {
            // One that cannot be removed wastes space and harms nobody.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn random_id() -> u64 {
    // Without randomness the clock still tells two creations apart.
    getrandom::u64().unwrap_or_else(|_| clock::unix_ns()).max(1)
}

/// Start time of this process, clock ticks since boot; 0 where /proc is not there.
fn process_start() -> u64 {
    // Field 22, counted after the command name, which may hold spaces and brackets.
    std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok())
        .unwrap_or(0)
}
