//! A selector on a port: attached, pinned so that it outlives the process, or found pinned and taken over by exchanging the
//! program in its link.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::MapHandle;

use super::abi::{Crossing, LAYOUT};
use super::link::{Link, Point, pin};
use super::program::{Hook, Instance, ProgramError, Selector};
use super::rows::Rows;
use super::xdp::{self, LinkError, XdpMode};
use crate::xsk::netdev;

/// Why a selector could not be put on a port.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The kernel did not take the program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// XDP did not take it.
    #[error(transparent)]
    Xdp(#[from] LinkError),
    /// tc did not take it.
    #[error("cannot attach the selector to tc of {port}: {source}")]
    Tc {
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What it counts cannot be read.
    #[error("cannot map what crosses {port}: {source}")]
    Counters {
        /// Device.
        port: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It could not be pinned.
    #[error("cannot pin {}: {source}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What crossed from a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Frames sent on.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames for which there was no other port.
    pub no_peer: u64,
    /// Of the frames those that no spanwired has seen yet.
    pub unseen: u64,
}

impl Crossed {
    fn of(rows: &Rows<Crossing>) -> Crossed {
        let mut sum = Crossed::default();
        for row in rows.iter() {
            sum.frames += row.frames.load(Relaxed);
            sum.bytes += row.bytes.load(Relaxed);
            sum.no_peer += row.no_peer.load(Relaxed);
        }
        sum.unseen = sum.frames.saturating_sub(rows.get(0).map_or(0, |row| row.seen.load(Relaxed)));
        sum
    }
}

/// The names of a port's pins.
#[derive(Clone, Debug)]
struct Pinned {
    link: PathBuf,
    crossings: PathBuf,
}

impl Pinned {
    fn of(folder: &Path, port: u32, hook: Hook) -> Pinned {
        let file = |name: String| folder.join(name);
        Pinned { link: file(format!("{port}-{hook}")), crossings: file(format!("{port}-{hook}-crossings-{LAYOUT}")) }
    }

    fn remove(&self) {
        for path in [&self.link, &self.crossings] {
            remove(path);
        }
    }
}

/// A pin that is not there is none to be removed; one that stays is tried again by whoever comes next.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
        _ => {}
    }
}

/// A selector on a port. Dropping it leaves it there where it is pinned, and takes it off where it is not.
#[derive(Debug)]
pub struct Hold {
    link: Link,
    of: Instance,
    device: u32,
    crossings: Rows<Crossing>,
    pinned: Option<Pinned>,
    found: Option<Crossed>,
}

impl Hold {
    /// Puts a selector on the device of port `port`, ifindex in the snapshot, whose pins are in `folder`. One of an earlier
    /// run that is pinned there for this device has its program exchanged; any other pin in the way is removed.
    ///
    /// # Errors
    /// [`HoldError`]: nothing has changed.
    pub fn take(selector: &Selector, port: u32, device: u32, folder: Option<&Path>) -> Result<Hold, HoldError> {
        let of = selector.instance();
        let program = selector.program()?;
        let crossings_map = selector.crossings()?;
        let crossings = map_crossings(&crossings_map, device)?;
        let pinned = folder.map(|folder| Pinned::of(folder, port, of.hook));
        let found = pinned.as_ref().and_then(|pinned| find(pinned, device));
        let (link, before) = match found {
            Some((link, crossed)) if link.swap(program.as_fd()).is_ok() => (link, crossed),
            _ => {
                // Of another device, or of none any more.
                pinned.iter().for_each(Pinned::remove);
                (attach(program.as_fd(), device, of.hook)?, None)
            }
        };
        let hold = Hold { link, of, device, crossings, pinned, found: before };
        hold.pin(&crossings_map)?;
        Ok(hold)
    }

    fn pin(&self, crossings: &MapHandle) -> Result<(), HoldError> {
        let Some(Pinned { link, crossings: path }) = &self.pinned else { return Ok(()) };
        let fail = |path: &Path, source| HoldError::Pin { path: path.to_owned(), source };
        // The older program's, if any.
        remove(path);
        pin(crossings.as_fd(), path).map_err(|error| fail(path, error))?;
        match self.link.pin(link) {
            // It is pinned there: it was taken over.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map_err(|error| fail(link, error)),
        }
    }

    /// Exchanges the selector, for another peer say.
    ///
    /// # Errors
    /// [`HoldError`]: the older one stays.
    pub fn swap(&mut self, selector: &Selector) -> Result<(), HoldError> {
        let (program, map) = (selector.program()?, selector.crossings()?);
        let crossings = map_crossings(&map, self.device)?;
        self.link.swap(program.as_fd()).map_err(|source| refused(source, self.device, self.of.hook))?;
        let before = self.crossed();
        (self.of, self.crossings) = (selector.instance(), crossings);
        self.found = Some(add(self.found.unwrap_or_default(), before));
        self.pin(&map)
    }

    /// What it is for.
    pub fn instance(&self) -> Instance {
        self.of
    }

    /// What crossed since the program was taken.
    pub fn crossed(&self) -> Crossed {
        Crossed::of(&self.crossings)
    }

    /// Takes note of what crossed so far: what a later run finds beyond it crossed when nobody looked.
    pub fn note(&self) {
        if let Some(row) = self.crossings.get(0) {
            row.seen.store(self.crossed().frames, Relaxed);
        }
    }

    /// What crossed before, by the program of the earlier run that was found; `None` where none was.
    pub fn found(&self) -> Option<Crossed> {
        self.found
    }

    /// Whether the program is still where it was put: the device is there, and nobody has detached it.
    pub fn is_on(&self) -> bool {
        self.link.device().is_ok_and(|device| device == Some(self.device))
    }

    /// Whether it outlives the process.
    pub fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// Takes it off.
    ///
    /// # Errors
    /// The kernel says why not.
    pub fn detach(self) -> io::Result<()> {
        self.pinned.iter().for_each(Pinned::remove);
        self.link.detach()
    }
}

fn add(one: Crossed, other: Crossed) -> Crossed {
    Crossed {
        frames: one.frames + other.frames,
        bytes: one.bytes + other.bytes,
        no_peer: one.no_peer + other.no_peer,
        unseen: one.unseen + other.unseen,
    }
}

fn map_crossings(map: &MapHandle, device: u32) -> Result<Rows<Crossing>, HoldError> {
    Rows::of(map).map_err(|source| HoldError::Counters { port: netdev::label(device), source })
}

/// The pinned link of a device, and what crossed by it where that can be told: another layout's may count otherwise.
fn find(pinned: &Pinned, device: u32) -> Option<(Link, Option<Crossed>)> {
    let link = Link::open(&pinned.link).ok()?;
    (link.device().ok()? == Some(device)).then(|| {
        let map = MapHandle::from_pinned_path(&pinned.crossings).ok();
        (link, map.and_then(|map| Rows::of(&map).ok()).map(|rows| Crossed::of(&rows)))
    })
}

fn attach(program: std::os::fd::BorrowedFd<'_>, device: u32, hook: Hook) -> Result<Link, HoldError> {
    let point = match hook {
        Hook::Xdp => Point::Xdp(XdpMode::Native),
        Hook::Tc => Point::TcxIngress,
    };
    Link::create(program, device, point).map_err(|source| refused(source, device, hook))
}

fn refused(source: io::Error, device: u32, hook: Hook) -> HoldError {
    match hook {
        Hook::Xdp => xdp::explain(source, device, XdpMode::Native).into(),
        Hook::Tc => HoldError::Tc { port: netdev::label(device), source },
    }
}

/// Takes off what is pinned in `folder` for ports that are not `wanted`, with the hook that is. Returns how many.
pub fn sweep(folder: &Path, wanted: impl Fn(u32, Hook) -> bool) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts: Vec<&str> = name.split('-').collect();
        let (port, hook) = match parts[..] {
            [port, hook] => (port, hook),
            // Of a release that counts otherwise.
            [_, _, "crossings", layout] if layout != LAYOUT.to_string() => {
                remove(&path);
                continue;
            }
            _ => continue,
        };
        let hook = [Hook::Xdp, Hook::Tc].into_iter().find(|known| known.as_str() == hook);
        let (Ok(port), Some(hook)) = (port.parse(), hook) else { continue };
        if wanted(port, hook) {
            continue;
        }
        if let Ok(link) = Link::open(&path) {
            // Gone with its device, it needs no detaching.
            let _ = link.detach();
        }
        Pinned::of(folder, port, hook).remove();
        swept += 1;
    }
    Ok(swept)
}
