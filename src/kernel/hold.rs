//! A selector on a port: attached, pinned so that it outlives the process, or found and taken over by exchanging the program
//! in the link or the filter that holds it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::{MapHandle, ProgramHandle};

use super::abi::{Crossing, LAYOUT};
use super::clsact::Filter;
pub use super::holder::Place;
use super::holder::{FILTER, Found, Holder, PinError, Pinned, look, remove};
use super::program::{Hook, Instance, Peer, ProgramError, Selector};
use super::rows::Rows;
use super::tcx::Known;
use super::xdp::{self, LinkError, XdpMode};
use crate::devices;
use crate::xsk::netdev;
use crate::xsk::shortage::shortage;

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

/// A selector that was loaded, and what it counts.
#[derive(Debug)]
struct Loaded {
    of: Instance,
    program: ProgramHandle,
    peer: Peer,
    map: MapHandle,
    crossings: Arc<Rows<Crossing>>,
}

impl Loaded {
    fn of(selector: &Selector, device: u32) -> Result<Loaded, HoldError> {
        let (program, peer, map) = (selector.program()?, selector.peer()?, selector.crossings()?);
        let crossings = Rows::of(&map).map(Arc::new);
        let crossings = crossings.map_err(|source| HoldError::Counters { port: netdev::label(device), source })?;
        Ok(Loaded { of: selector.instance(), program, peer, map, crossings })
    }
}

/// What has become of a selector that is not where it was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is not there any more: detached, or gone with the device.
    Detached,
    /// Another program is in its place.
    Replaced,
}

/// What a look at a selector has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It was pinned again: somebody had removed its pins.
    pub is_pinned_again: bool,
    /// What the operator has to know of it for as long as it is so; empty for nothing.
    pub remark: String,
}

/// A selector on a port. Dropping it leaves it there where it is pinned, and takes it off where a link holds it that is not.
/// A filter stays in either case, and is found by the next run.
#[derive(Debug)]
pub struct Hold {
    holder: Holder,
    loaded: Loaded,
    device: u32,
    pinned: Option<Pinned>,
    /// Why it is not, though there is a place for that.
    unpinned: Option<PinError>,
    found: Option<Crossed>,
}

impl Hold {
    /// Whether others leave room for a selector on the device of port `port`: asked before anything is changed there.
    ///
    /// # Errors
    /// [`HoldError`]: somebody else has the place.
    pub fn check(port: u32, device: u32, hook: Hook, at: &Place<'_>) -> Result<(), HoldError> {
        let pinned = at.folder.map(|folder| Pinned::of(folder, port, hook));
        let free = Holder::find(device, hook, at, pinned.as_ref()).and_then(|found| match found {
            Some(_) => Ok(()),
            None => Holder::check(device, hook, at),
        });
        free.map_err(|source| refused(source, device, hook))
    }

    /// Whether XDP on the device of port `port` is somebody else's, who may let frames go on to tc. Another dataplane's selector
    /// lets none.
    ///
    /// # Errors
    /// The kernel's answer is none.
    pub fn is_taken(port: u32, device: u32, at: &Place<'_>) -> io::Result<bool> {
        let Some(program) = devices::xdp_program(device)? else { return Ok(false) };
        let pinned = at.folder.map(|folder| Pinned::of(folder, port, Hook::Xdp));
        // Of one whose name is not told (without CAP_SYS_ADMIN) nobody knows.
        let may_be_selector = Known::of(program).name.is_none_or(|name| name == Hook::Xdp.program());
        Ok(!may_be_selector && Holder::find(device, Hook::Xdp, at, pinned.as_ref())?.is_none())
    }

    /// Puts a selector on the device of port `port`, ifindex in the snapshot. One of an earlier run that holds there has its
    /// program exchanged; any other pin of ours in the way is removed. Where it cannot be pinned it crosses all the same:
    /// [`Hold::look`] says why.
    ///
    /// # Errors
    /// [`HoldError`]: nothing has changed.
    pub fn take(selector: &Selector, port: u32, device: u32, at: &Place<'_>) -> Result<Hold, HoldError> {
        let loaded = Loaded::of(selector, device)?;
        let (program, hook) = (loaded.program.as_fd(), loaded.of.hook);
        let pinned = at.folder.map(|folder| Pinned::of(folder, port, hook));
        let refused = |source| refused(source, device, hook);
        let (holder, found) = match Holder::find(device, hook, at, pinned.as_ref()).map_err(refused)? {
            Some(holder) => {
                holder.swap(program).map_err(refused)?;
                (holder, pinned.as_ref().and_then(crossed_before))
            }
            None => {
                // Of another device, or of none any more.
                pinned.iter().for_each(Pinned::remove);
                (Holder::attach(program, device, port, hook, at).map_err(refused)?, None)
            }
        };
        let mut hold = Hold { holder, loaded, device, pinned, unpinned: None, found };
        hold.pin();
        Ok(hold)
    }

    fn pin(&mut self) {
        let put = |pinned: &Pinned| pinned.put(&self.holder, self.loaded.program.as_fd(), &self.loaded.map).err();
        self.unpinned = self.pinned.as_ref().and_then(put);
    }

    /// Has its frames go to this device, ifindex in this network namespace, 0 for none.
    ///
    /// # Errors
    /// There is no such device.
    pub fn point(&mut self, device: u32) -> libbpf_rs::Result<()> {
        self.loaded.peer.set(device)?;
        self.loaded.of.peer = device;
        Ok(())
    }

    /// Exchanges the selector for what somebody has put in its place.
    ///
    /// # Errors
    /// [`HoldError`]: the older one stays.
    pub fn swap(&mut self, selector: &Selector) -> Result<(), HoldError> {
        let loaded = Loaded::of(selector, self.device)?;
        let swapped = self.holder.swap(loaded.program.as_fd());
        swapped.map_err(|source| refused(source, self.device, loaded.of.hook))?;
        let before = self.crossed();
        self.loaded = loaded;
        self.found = Some(add(self.found.unwrap_or_default(), before));
        self.pin();
        Ok(())
    }

    /// What it is for.
    pub fn instance(&self) -> Instance {
        self.loaded.of
    }

    /// Where the program counts: also the frame that it may be meeting on another processor when it is taken off.
    pub fn rows(&self) -> Arc<Rows<Crossing>> {
        Arc::clone(&self.loaded.crossings)
    }

    /// What crossed since the program was taken.
    pub fn crossed(&self) -> Crossed {
        Crossed::of(&self.loaded.crossings)
    }

    /// Takes note of what crossed so far: what a later run finds beyond it crossed when nobody looked.
    pub fn note(&self) {
        if let Some(row) = self.loaded.crossings.get(0) {
            row.seen.store(self.crossed().frames, Relaxed);
        }
    }

    /// What crossed before, by the program of the earlier run that was found; `None` where none was.
    pub fn found(&self) -> Option<Crossed> {
        self.found
    }

    /// Looks whether the program is still where it was put, and pins it again where somebody has removed the pins.
    ///
    /// # Errors
    /// [`Lost`]: it is not there. Where the kernel does not answer it is taken to be, and that is the remark.
    pub fn look(&mut self) -> Result<Seen, Lost> {
        let standing = match self.holder.standing(self.device) {
            Ok(standing) => standing.ok_or(Lost::Detached)?,
            Err(error) => {
                let remark = format!("cannot look after its selector: {error}{}", shortage(&error));
                return Ok(Seen { is_pinned_again: false, remark });
            }
        };
        if standing.program != self.loaded.program.id() {
            return Err(Lost::Replaced);
        }
        let was_removed = self.is_pinned() && self.pinned.as_ref().is_some_and(|pinned| !pinned.have(&self.holder));
        if was_removed || self.unpinned.is_some() {
            self.pin();
        }
        let is_pinned_again = was_removed && self.is_pinned();
        let mut before = standing.before;
        if self.loaded.of.hook == Hook::Tc && devices::has_xdp(self.device).unwrap_or(false) {
            before.insert(0, "the XDP program of another".to_owned());
        }
        before.dedup();
        let first = (!before.is_empty())
            .then(|| format!("frames meet {} before its selector: what that takes does not cross", before.join(", ")));
        let stays = self.unpinned.as_ref().map(|error| format!("does not outlive this process: {error}"));
        let remark = first.into_iter().chain(stays).collect::<Vec<_>>().join("; ");
        Ok(Seen { is_pinned_again, remark })
    }

    /// Whether nothing is held on its device any more, as after that has gone: another one with its ifindex is not taken for it.
    /// Where the kernel does not answer something is.
    pub fn is_off(&self) -> bool {
        self.holder.device().is_ok_and(|device| device != Some(self.device))
    }

    /// Whether it outlives the process.
    pub fn is_pinned(&self) -> bool {
        self.pinned.is_some() && self.unpinned.is_none()
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
        } else {
            match look(&path, hook) {
                // Gone with its device, it needs no detaching.
                Found::Link(link, _) => drop(link.detach()),
                Found::Nothing => {}
                Found::Unknown(error) => return Err(error),
                Found::Other(what) => {
                    tracing::debug!("{}: {what} is none of ours, and is left as it is", path.display());
                    continue;
                }
            }
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

/// The programs of the selectors whose links are pinned in `folder`.
pub fn programs(folder: &Path) -> Vec<u32> {
    let of = |entry: fs::DirEntry| {
        let (_, hook, is_filter) = held(entry.file_name().to_str()?)?;
        match look(&entry.path(), hook) {
            Found::Link(_, held) if !is_filter => Some(held.program),
            _ => None,
        }
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(of).collect()
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
