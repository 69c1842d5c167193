//! A reader's side of a region: it finds the file, follows it through replacements, and reads it whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shm_layout::header::RegionKind;
use shm_layout::protocol::{ReadError, Reader};

use super::error::RegionError;
use super::file::{Access, RegionFile};

/// How often a region may be replaced again while it is looked up.
const REPLACED: usize = 16;
/// How long a wait takes for a region that is not there, at most.
const ABSENT: Duration = Duration::from_millis(100);

/// Wakes the threads that wait for a publish of the region `name` in `dir`, or to be asked for one, as if that had come: for who
/// wants one of them to look at something else. One that does not wait just now hears nothing.
pub fn rouse(dir: &Path, name: &str, kind: RegionKind) {
    if let Ok(file) = RegionFile::open(&dir.join(name), kind, Access::Read) {
        file.wake();
        file.ask();
    }
}

/// What [`Subscriber::poll`] found.
#[derive(Debug)]
pub enum Polled<'a> {
    /// Nothing newer than the last time.
    Unchanged,
    /// A newer image, whole but not yet trusted.
    New {
        /// Identity of the region it came from.
        instance: u64,
        /// Its generation in that region.
        generation: u64,
        /// Its words.
        words: &'a [u64],
    },
}

/// Follows one region by its name.
#[derive(Debug)]
pub struct Subscriber {
    path: PathBuf,
    kind: RegionKind,
    file: Option<RegionFile>,
    seen: Option<(u64, u64)>,
    notify: u32,
    buffer: Vec<u64>,
}

impl Subscriber {
    /// A reader of the region `name` in `dir`. Neither has to be there yet.
    pub fn new(dir: &Path, name: &str, kind: RegionKind) -> Subscriber {
        Subscriber { path: dir.join(name), kind, file: None, seen: None, notify: 0, buffer: Vec::new() }
    }

    /// Looks for an image newer than the last one returned.
    ///
    /// An image is returned once, whether or not its content is accepted.
    ///
    /// # Errors
    /// [`RegionError`]; the last image read is not affected. The next call looks the name up again.
    pub fn poll(&mut self) -> Result<Polled<'_>, RegionError> {
        Ok(match self.look()? {
            Some((instance, generation)) => Polled::New { instance, generation, words: &self.buffer },
            None => Polled::Unchanged,
        })
    }

    /// Instance and generation of a newer image, which is then in the buffer. The name is looked up again where
    /// the open file has nothing new: it may have been replaced, which is no trouble of the caller's.
    fn look(&mut self) -> Result<Option<(u64, u64)>, RegionError> {
        let found = self.look_in_file();
        if matches!(found, Ok(Some(_))) || self.file.as_ref().is_some_and(RegionFile::is_current) {
            return found;
        }
        for _ in 0..REPLACED {
            self.file = None;
            match self.look_in_file() {
                Err(RegionError::Read { source: ReadError::Superseded, .. }) => {}
                found => return found,
            }
        }
        self.file = None;
        self.look_in_file()
    }

    fn look_in_file(&mut self) -> Result<Option<(u64, u64)>, RegionError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(RegionFile::open(&self.path, self.kind, Access::Read)?),
        };
        let instance = file.geometry().instance_id;
        let known = self.seen.filter(|seen| seen.0 == instance).map(|(_, generation)| generation);
        let reader = Reader::new(&*file, file.geometry());
        let read = reader.read(known, &mut self.buffer).and_then(|found| match found {
            Some(generation) => {
                // What the word was or will be after this publish: a later one ends the next wait at once.
                self.notify = generation as u32;
                Ok(Some(generation))
            }
            None => {
                self.notify = file.notify_word()?;
                // After the word was looked at: a publish from here on changes it, and ends the wait.
                reader.read(known, &mut self.buffer)
            }
        });
        match read {
            Ok(Some(generation)) => {
                self.seen = Some((instance, generation));
                Ok(self.seen)
            }
            Ok(None) => Ok(None),
            Err(source) => {
                self.file = None;
                Err(RegionError::Read { path: self.path.clone(), source })
            }
        }
    }

    /// Sleeps until a publish after the last [`Subscriber::poll`], at most `timeout`. Whether there was one; may
    /// return early. Where there is no region yet, nothing tells of the first publish: that is found late.
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.file {
            Some(file) => file.wait(self.notify, timeout),
            None => {
                std::thread::sleep(timeout.min(ABSENT));
                false
            }
        }
    }

    /// Asks the writer for a publish, where it waits to be asked. One that does not wait just now hears nothing.
    pub fn ask(&self) {
        if let Some(file) = &self.file {
            file.ask();
        }
    }

    /// Makes the next [`Subscriber::poll`] return the newest image even if it was returned before.
    pub fn forget(&mut self) {
        self.seen = None;
        // A writer that died between giving its region the name and marking the older one has left no word in that, which
        // would be read again.
        let replaced = self.file.as_ref().is_some_and(|file| !file.is_current());
        if replaced && let Ok(file) = RegionFile::open(&self.path, self.kind, Access::Read) {
            self.file = Some(file);
        }
    }
}
