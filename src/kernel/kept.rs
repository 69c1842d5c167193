//! Maps that outlive the process: pinned for the next run, which reads there what became of clones meanwhile.
//!
//! Each by itself, because an inner map is found through the outer one only with CAP_SYS_ADMIN, and before Linux 6.8 each look
//! waits until no program runs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libbpf_rs::MapHandle;

use super::abi::LAYOUT;
use super::{link, pins};
use crate::told::Told;

/// Kinds of pinned maps: the first word of their names.
pub(super) const POLICY: &str = "policy";
pub(super) const BELLS: &str = "bells";
pub(super) const RING: &str = "ring";
/// With those of earlier releases.
const PINNED: [&str; 6] = [POLICY, BELLS, RING, "cells", "chunk", "rings"];

/// Where a map is pinned.
pub(super) fn pin_of(folder: &Path, kind: &str, at: u32) -> PathBuf {
    folder.join(format!("{kind}-{at}-{LAYOUT}"))
}

/// The maps that are to be pinned, where there is a place for that.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<Pins>>);

#[derive(Debug)]
struct Pins {
    folder: PathBuf,
    all: Vec<Pin>,
    told: Told,
}

#[derive(Debug)]
struct Pin {
    map: OwnedFd,
    path: PathBuf,
    is_put: bool,
}

impl Kept {
    /// Pins what is kept from now on in `folder`, in place of what an earlier run has pinned.
    pub(super) fn begin(&self, folder: &Path) {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let kind = |path: &PathBuf| path.file_name()?.to_str()?.split('-').next().map(str::to_owned);
        for path in names.filter(|path| kind(path).is_some_and(|kind| PINNED.contains(&kind.as_str()))) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("{} is in the way of a pin, and cannot be removed: {error}", path.display());
            }
        }
        let begun = Pins { folder: folder.to_owned(), all: Vec::new(), told: Told::default() };
        self.with(|pins| *pins = Some(pins.take().unwrap_or(begun)));
    }

    /// Keeps a map. What cannot be pinned is told, and costs no more than that.
    pub(super) fn keep(&self, map: &MapHandle, kind: &str, at: u32) {
        self.with(|pins| {
            let Some(pins) = pins else { return };
            match map.as_fd().try_clone_to_owned() {
                Ok(map) => pins.all.push(Pin { map, path: pin_of(&pins.folder, kind, at), is_put: false }),
                Err(error) => return pins.fails(format!("cannot keep a map: {error}")),
            }
            pins.put();
        });
    }

    /// Pins again what somebody has removed the pins of, and tells of that; tries again what could not be pinned.
    pub(super) fn look(&self) {
        self.with(|pins| pins.iter_mut().for_each(Pins::look));
    }

    fn with<T>(&self, with: impl FnOnce(&mut Option<Pins>) -> T) -> T {
        // A list that is only added to, and what was done of it.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pins {
    fn look(&mut self) {
        let mut removed = 0;
        for pin in self.all.iter_mut().filter(|pin| pin.is_put) {
            // Where that cannot be told it is there.
            pin.is_put = pin.path.try_exists().unwrap_or(true);
            removed += usize::from(!pin.is_put);
        }
        if self.put() && removed > 0 {
            tracing::warn!("somebody has removed {removed} pin(s) of the clones' maps: they are pinned again");
        }
    }

    /// Pins what is not. Whether all is by now.
    fn put(&mut self) -> bool {
        let mut failed = None;
        for pin in self.all.iter_mut().filter(|pin| !pin.is_put) {
            match put(&self.folder, pin) {
                Ok(()) => pin.is_put = true,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => self.fails(error),
            None => {
                if let Some(news) = self.told.ends() {
                    tracing::info!("the next run can tell what becomes of clones meanwhile again{news}");
                }
                return true;
            }
        }
        false
    }

    fn fails(&mut self, error: String) {
        if let Some(news) = self.told.is(&error) {
            tracing::warn!("the next run cannot tell all that becomes of clones meanwhile: {news}");
        }
    }
}

fn put(folder: &Path, pin: &Pin) -> Result<(), String> {
    pins::make(folder).map_err(|error| error.to_string())?;
    let pinned: io::Result<()> = link::pin(pin.map.as_fd(), &pin.path);
    pinned.map_err(|error| format!("cannot pin {}: {error}", pin.path.display()))
}
