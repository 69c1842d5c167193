//! A selector on a port: attached, pinned so that it outlives the process, or found and taken over by exchanging the program
//! in the link or the filter that holds it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::MapHandle;

use super::abi::{Crossing, LAYOUT};
use super::clsact::Filter;
use super::link::{Link, Point, pin};
use super::program::{Hook, Instance, ProgramError, Selector};
use super::rows::Rows;
use super::xdp::{self, LinkError, XdpMode};
use crate::xsk::netdev;

/// Last word of the name of a filter's pin.
const FILTER: &str = "filter";

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
    /// What the programs that count in these rows have sent on.
    pub fn of(rows: &Rows<Crossing>) -> Crossed {
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

/// Where selectors are held, and how.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where they are pinned; `None` where nothing outlives the process.
    pub folder: Option<&'a Path>,
    /// Whose they are: one word, of this dataplane in this network namespace and of no other.
    pub owner: &'a str,
    /// Whether links hold them at tc.
    pub tcx: bool,
}

/// The names of a port's pins.
#[derive(Clone, Debug)]
struct Pinned {
    link: PathBuf,
    /// The program of a filter, in the place of a link. It says that there is one: a filter itself cannot be pinned.
    filter: PathBuf,
    crossings: PathBuf,
}

impl Pinned {
    fn of(folder: &Path, port: u32, hook: Hook) -> Pinned {
        let file = |name: String| folder.join(name);
        Pinned {
            link: file(format!("{port}-{hook}")),
            filter: file(format!("{port}-{hook}-{FILTER}")),
            crossings: file(format!("{port}-{hook}-crossings-{LAYOUT}")),
        }
    }

    fn remove(&self) {
        for path in [&self.link, &self.filter, &self.crossings] {
            remove(path);
        }
    }
}

/// What holds a selector.
#[derive(Debug)]
enum Holder {
    Link(Link),
    Filter(Filter),
}

impl Holder {
    /// What holds the selector of a device already.
    fn find(device: u32, hook: Hook, at: &Place<'_>, pinned: Option<&Pinned>) -> Option<Holder> {
        if hook == Hook::Tc && !at.tcx {
            return Filter::find(device, at.owner).ok()?.map(Holder::Filter);
        }
        let link = Link::open(&pinned?.link).ok()?;
        (link.device().ok()? == Some(device)).then_some(Holder::Link(link))
    }

    fn attach(program: BorrowedFd<'_>, device: u32, port: u32, hook: Hook, at: &Place<'_>) -> io::Result<Holder> {
        let point = match hook {
            Hook::Xdp => Point::Xdp(XdpMode::Native),
            Hook::Tc if at.tcx => Point::TcxIngress,
            Hook::Tc => return Filter::attach(program, device, at.owner, port).map(Holder::Filter),
        };
        Link::create(program, device, point).map(Holder::Link)
    }

    fn swap(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Holder::Link(link) => link.swap(program),
            Holder::Filter(filter) => filter.swap(program),
        }
    }

    fn device(&self) -> io::Result<Option<u32>> {
        match self {
            Holder::Link(link) => link.device(),
            Holder::Filter(filter) => filter.device(),
        }
    }

    fn pin(&self, program: BorrowedFd<'_>, pinned: &Pinned) -> Result<(), HoldError> {
        let (path, done) = match self {
            Holder::Link(link) => (&pinned.link, link.pin(&pinned.link)),
            Holder::Filter(_) => {
                // The older program.
                remove(&pinned.filter);
                (&pinned.filter, pin(program, &pinned.filter))
            }
        };
        match done {
            // It is pinned there: it was taken over.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map_err(|source| HoldError::Pin { path: path.clone(), source }),
        }
    }

    fn detach(&self) -> io::Result<()> {
        match self {
            Holder::Link(link) => link.detach(),
            Holder::Filter(filter) => filter.detach(),
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

/// A selector on a port. Dropping it leaves it there where it is pinned, and takes it off where a link holds it that is not.
/// A filter stays in either case, and is found by the next run.
#[derive(Debug)]
pub struct Hold {
    holder: Holder,
    of: Instance,
    device: u32,
    crossings: Arc<Rows<Crossing>>,
    pinned: Option<Pinned>,
    found: Option<Crossed>,
}

impl Hold {
    /// Puts a selector on the device of port `port`, ifindex in the snapshot. One of an earlier run that holds there has its
    /// program exchanged; any other pin in the way is removed.
    ///
    /// # Errors
    /// [`HoldError`]: nothing has changed.
    pub fn take(selector: &Selector, port: u32, device: u32, at: &Place<'_>) -> Result<Hold, HoldError> {
        let of = selector.instance();
        let program = selector.program()?;
        let crossings_map = selector.crossings()?;
        let crossings = map_crossings(&crossings_map, device)?;
        let pinned = at.folder.map(|folder| Pinned::of(folder, port, of.hook));
        let found = Holder::find(device, of.hook, at, pinned.as_ref());
        let (holder, before) = match found {
            Some(holder) if holder.swap(program.as_fd()).is_ok() => (holder, pinned.as_ref().and_then(crossed_before)),
            _ => {
                // Of another device, or of none any more.
                pinned.iter().for_each(Pinned::remove);
                let attached = Holder::attach(program.as_fd(), device, port, of.hook, at);
                (attached.map_err(|source| refused(source, device, of.hook))?, None)
            }
        };
        let hold = Hold { holder, of, device, crossings, pinned, found: before };
        hold.pin(program.as_fd(), &crossings_map)?;
        Ok(hold)
    }

    fn pin(&self, program: BorrowedFd<'_>, crossings: &MapHandle) -> Result<(), HoldError> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        // The older program's, if any.
        remove(&pinned.crossings);
        let done = pin(crossings.as_fd(), &pinned.crossings);
        done.map_err(|source| HoldError::Pin { path: pinned.crossings.clone(), source })?;
        self.holder.pin(program, pinned)
    }

    /// Exchanges the selector, for another peer say.
    ///
    /// # Errors
    /// [`HoldError`]: the older one stays.
    pub fn swap(&mut self, selector: &Selector) -> Result<(), HoldError> {
        let (program, map) = (selector.program()?, selector.crossings()?);
        let crossings = map_crossings(&map, self.device)?;
        self.holder.swap(program.as_fd()).map_err(|source| refused(source, self.device, self.of.hook))?;
        let before = self.crossed();
        (self.of, self.crossings) = (selector.instance(), crossings);
        self.found = Some(add(self.found.unwrap_or_default(), before));
        self.pin(program.as_fd(), &map)
    }

    /// What it is for.
    pub fn instance(&self) -> Instance {
        self.of
    }

    /// Where the program counts: also the frame that it may be meeting on another processor when it is taken off.
    pub fn rows(&self) -> Arc<Rows<Crossing>> {
        Arc::clone(&self.crossings)
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
        self.holder.device().is_ok_and(|device| device == Some(self.device))
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
        self.holder.detach()
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

fn map_crossings(map: &MapHandle, device: u32) -> Result<Arc<Rows<Crossing>>, HoldError> {
    Rows::of(map).map(Arc::new).map_err(|source| HoldError::Counters { port: netdev::label(device), source })
}

/// What crossed by the program that is pinned, where that can be told: another layout's may count otherwise.
fn crossed_before(pinned: &Pinned) -> Option<Crossed> {
    let map = MapHandle::from_pinned_path(&pinned.crossings).ok()?;
    Rows::of(&map).ok().map(|rows| Crossed::of(&rows))
}

fn refused(source: io::Error, device: u32, hook: Hook) -> HoldError {
    match hook {
        Hook::Xdp => xdp::explain(source, device, XdpMode::Native).into(),
        Hook::Tc => HoldError::Tc { port: netdev::label(device), source },
    }
}

/// Takes off what is pinned in `folder` for ports that are not `wanted`, with the hook that is. Returns how many.
///
/// # Errors
/// The folder cannot be read.
pub fn sweep(folder: &Path, wanted: impl Fn(u32, Hook) -> bool) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((port, hook, is_filter)) = held(name) else {
            // Of a release that counts otherwise.
            if let [_, _, "crossings", layout] = name.split('-').collect::<Vec<_>>()[..]
                && layout != LAYOUT.to_string()
            {
                remove(&path);
            }
            continue;
        };
        if wanted(port, hook) {
            continue;
        }
        if is_filter {
            // The folder's name is the owner's.
            let owner = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            sweep_filters(owner, |other| other != port)?;
        } else if let Ok(link) = Link::open(&path) {
            // Gone with its device, it needs no detaching.
            let _ = link.detach();
        }
        Pinned::of(folder, port, hook).remove();
        swept += 1;
    }
    Ok(swept)
}

/// The port, the hook, and whether a filter holds its selector, by the name of a pin.
fn held(name: &str) -> Option<(u32, Hook, bool)> {
    let (port, hook, is_filter) = match name.split('-').collect::<Vec<_>>()[..] {
        [port, hook] => (port, hook, false),
        [port, hook, FILTER] => (port, hook, true),
        _ => return None,
    };
    let hook = [Hook::Xdp, Hook::Tc].into_iter().find(|known| known.as_str() == hook)?;
    Some((port.parse().ok()?, hook, is_filter))
}

/// The ports whose selectors are pinned in `folder`.
///
/// # Errors
/// The folder cannot be read.
pub fn ports(folder: &Path) -> io::Result<Vec<u32>> {
    let mut ports = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        ports.extend(name.to_str().and_then(held).map(|(port, ..)| port));
    }
    Ok(ports)
}

/// Takes off the filters of `owner` for ports that are not `wanted`, also where nothing could be pinned. Returns how many.
///
/// # Errors
/// The kernel's answer is none.
pub fn sweep_filters(owner: &str, wanted: impl Fn(u32) -> bool) -> io::Result<usize> {
    let mut swept = 0;
    for filter in Filter::all(owner)?.iter().filter(|filter| !wanted(filter.port())) {
        filter.detach()?;
        swept += 1;
    }
    Ok(swept)
}
