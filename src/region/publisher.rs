//! The writer's side of a region.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shm_layout::PAGE;
use shm_layout::header::{HEARTBEAT, MAX_SLOT, RegionKind, WRITER_PID, WRITER_START};
use shm_layout::image::Image;
use shm_layout::protocol::{PublishError, Step, Writer};
use shm_layout::words::Words;

use super::error::RegionError;
use super::file::{Access, RegionFile, remove_unnamed};
use super::lock::WriterLock;
use super::trust::check_dir;
use crate::clock;

/// The smallest slot a region is created with, bytes.
const MIN_SLOT: usize = 64 << 10;
/// A region whose slots are so many times as large as those of a new one gives way to that: far enough from where one
/// grows for sizes that come and go to change nothing.
const ROOMY: usize = 8;

/// Who is told where a publish stands.
type At<'a> = Option<&'a mut dyn FnMut(Step)>;

/// The only writer of a region, for as long as it lives.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    kind: RegionKind,
    lock: WriterLock,
    file: Option<RegionFile>,
    /// No generation up to this one is given out again.
    floor: u64,
    /// Start time of this process.
    started: u64,
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
        remove_unnamed(&path);
        let file = match RegionFile::open(&path, kind, Access::Write) {
            Ok(file) => Some(file),
            Err(RegionError::Missing { .. } | RegionError::Layout { .. }) => None,
            Err(other) => return Err(other),
        };
        let mut publisher = Publisher { path, kind, lock, file: None, floor: 0, started: process_start() };
        if let Some(file) = file {
            publisher.take_up(file);
        }
        Ok(publisher)
    }

    /// Never gives out a generation up to `generation`: for a writer that knows what readers of a lost region
    /// have already seen.
    pub fn continue_after(&mut self, generation: u64) {
        self.floor = self.floor.max(generation);
    }

    /// Goes on in a region there is, unless what it announces is damaged: then it is replaced like a missing one.
    fn take_up(&mut self, file: RegionFile) {
        if let Some(active) = file.confirmed_active() {
            // What a reader may have seen is never given out again, even if the region is lost before a publish.
            self.floor = self.floor.max(active);
            self.file = Some(file);
        }
    }

    /// Publishes `image`, in a larger, a smaller or a new region where it has to be, and wakes the readers.
    ///
    /// # Errors
    /// [`RegionError`]; the active generation is then unchanged.
    pub fn publish(&mut self, image: &mut Image) -> Result<u64, RegionError> {
        self.publish_with(image, None)
    }

    /// As [`Publisher::publish`], telling `at` where it stands: for fault injection.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish_stepwise(&mut self, image: &mut Image, mut at: impl FnMut(Step)) -> Result<u64, RegionError> {
        self.publish_with(image, Some(&mut at))
    }

    /// Sleeps until a reader asks for a publish, at most `timeout`. Whether one did, or the region is no longer there
    /// to be asked through; may return early.
    pub fn wait_asked(&self, timeout: Duration) -> bool {
        match &self.file {
            Some(file) => file.wait_asked(timeout) || !file.is_current(),
            None => {
                std::thread::sleep(timeout);
                false
            }
        }
    }

    fn publish_with(&mut self, image: &mut Image, mut at: At<'_>) -> Result<u64, RegionError> {
        let kind = self.kind;
        if !self.lock.is_current() {
            // Its name is gone, maybe with the directory. Without the lock another writer may be there by now, and
            // readers take this one for dead.
            if let Some(dir) = self.path.parent() {
                check_dir(dir, true)?;
            }
            self.lock = WriterLock::acquire(&self.path, Duration::ZERO)?;
        }
        if let Some(file) = self.file.take_if(|file| !file.is_current() || !file.is_intact(kind)) {
            // Truncated, replaced or overwritten under us: readers of the old inode must look the name up again.
            let _ = Writer::new(&file, file.geometry()).supersede();
            file.wake();
            if let Ok(found) = RegionFile::open(&self.path, kind, Access::Write) {
                self.take_up(found);
            }
        }
        let roomy = |file: &&RegionFile| file.geometry().slot_len / ROOMY >= slot_for(image);
        if let Some(file) = self.file.as_ref().filter(roomy) {
            let instance = file.geometry().instance_id;
            // Where there is no room for a smaller one beside it, it goes on in the large one.
            if let Ok(generation) = self.replace(image, instance, &mut at) {
                return Ok(generation);
            }
        }
        let Some(file) = &self.file else {
            return self.replace(image, random_id(), &mut at);
        };
        match self.publish_into(file, image, &mut at) {
            Ok(generation) => {
                self.floor = generation;
                Ok(generation)
            }
            Err(PublishError::TooLarge { .. }) => {
                let instance = file.geometry().instance_id;
                self.replace(image, instance, &mut at)
            }
            // An `active` at the end of all generations was never given out by a writer: it is damage too.
            Err(PublishError::Superseded | PublishError::Exhausted) => self.replace(image, random_id(), &mut at),
            Err(PublishError::Fault(_)) => {
                // It may have announced the next generation, or the one after that, before the fault.
                self.floor = self.floor.saturating_add(2);
                self.replace(image, random_id(), &mut at)
            }
        }
    }

    fn publish_into(&self, file: &RegionFile, image: &mut Image, at: &mut At<'_>) -> Result<u64, PublishError> {
        file.store(WRITER_PID, u64::from(std::process::id()), Relaxed)?;
        file.store(WRITER_START, self.started, Relaxed)?;
        let writer = Writer::new(file, file.geometry());
        let generation = writer.publish(image, self.floor, clock::monotonic_ns(), at.as_deref_mut())?;
        file.wake();
        // Published all the same, if it fails: the next look at the file finds why.
        let _ = file.store(HEARTBEAT, clock::boottime_ns(), Relaxed);
        Ok(generation)
    }

    /// A new inode that holds `image` before it gets the name; then readers of the old one are sent to it.
    fn replace(&mut self, image: &mut Image, instance: u64, at: &mut At<'_>) -> Result<u64, RegionError> {
        let file = RegionFile::create(&self.path, self.kind, slot_for(image), instance)?;
        let published = self.publish_into(&file, image, at).map_err(|source| {
            let _ = std::fs::remove_file(file.path());
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

/// Bytes of a slot in a region made for such images: there is room for one twice as large.
fn slot_for(image: &Image) -> usize {
    // A slot beyond MAX_SLOT is one no reader accepts; an image that does not fit is refused by the publish.
    (image.len_bytes() * 2).next_multiple_of(PAGE).clamp(MIN_SLOT, MAX_SLOT)
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
