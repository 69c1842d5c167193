//! What holds a selector on a device, a link or a filter, and the pins by which the next run finds it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::MapHandle;

use super::abi::LAYOUT;
use super::clsact::Filter;
use super::link::{Held, Link, Point, pin};
use super::pins;
use super::program::Hook;
use super::tcx::{Known, Programs};
use super::xdp::XdpMode;
use crate::devices;
use crate::xsk::shortage::is_shortage;

/// Last word of the name of a filter's pin.
pub(super) const FILTER: &str = "filter";
/// How often the programs at tcx may change while one is attached there.
const TRIES: usize = 16;

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

/// Why something is not pinned.
#[derive(Debug, thiserror::Error)]
#[error("cannot pin {}: {why}", path.display())]
pub struct PinError {
    path: PathBuf,
    why: String,
}

impl PinError {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> PinError {
        move |error| PinError { path: path.to_owned(), why: error.to_string() }
    }
}

/// The names of a port's pins.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    link: PathBuf,
    /// The program of a filter, in the place of a link. It says that there is one: a filter itself cannot be pinned.
    filter: PathBuf,
    pub(super) crossings: PathBuf,
    hook: Hook,
}

impl Pinned {
    pub(super) fn of(folder: &Path, port: u32, hook: Hook) -> Pinned {
        let file = |name: String| folder.join(name);
        Pinned {
            link: file(format!("{port}-{hook}")),
            filter: file(format!("{port}-{hook}-{FILTER}")),
            crossings: file(format!("{port}-{hook}-crossings-{LAYOUT}")),
            hook,
        }
    }

    /// Removes what is ours of them.
    pub(super) fn remove(&self) {
        if let Found::Link(..) = look(&self.link, self.hook) {
            remove(&self.link);
        }
        remove(&self.filter);
        remove(&self.crossings);
    }

    /// Whether what holds the selector and what it counts are where they were pinned.
    pub(super) fn have(&self, holder: &Holder) -> bool {
        let is_held = match holder {
            Holder::Link(link) => link.held().is_ok_and(|held| is_pinned(held.id, &self.link, self.hook)),
            Holder::Filter(_) => self.filter.exists(),
        };
        is_held && self.crossings.exists()
    }

    /// Pins them, in the place of those of an older program.
    pub(super) fn put(&self, holder: &Holder, program: BorrowedFd<'_>, crossings: &MapHandle) -> Result<(), PinError> {
        let folder = self.link.parent().unwrap_or(&self.link);
        pins::make(folder).map_err(|error| PinError { path: self.link.clone(), why: error.to_string() })?;
        replace(&self.crossings, crossings.as_fd())?;
        match holder {
            Holder::Link(link) => self.put_link(link),
            Holder::Filter(_) => replace(&self.filter, program),
        }
    }

    fn put_link(&self, link: &Link) -> Result<(), PinError> {
        let id = link.held().map_err(PinError::of(&self.link))?.id;
        match look(&self.link, self.hook) {
            // It was taken over.
            Found::Link(_, held) if held.id == id => return Ok(()),
            // Of another device, or of none any more.
            Found::Link(..) => remove(&self.link),
            Found::Other(what) => return Err(in_the_way(&self.link, &what)),
            Found::Unknown(error) => return Err(PinError::of(&self.link)(error)),
            Found::Nothing => {}
        }
        link.pin(&self.link).map_err(PinError::of(&self.link))
    }
}

fn in_the_way(path: &Path, what: &str) -> PinError {
    PinError { path: path.to_owned(), why: format!("{what} has this name, and is none of ours: remove it") }
}

/// Pins an object in the place of another one.
fn replace(path: &Path, object: BorrowedFd<'_>) -> Result<(), PinError> {
    if let Some(what) = no_pin(path) {
        return Err(in_the_way(path, &what));
    }
    remove(path);
    pin(object, path).map_err(PinError::of(path))
}

/// What has the name of a pin and is no BPF object.
fn no_pin(path: &Path) -> Option<String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Some("a directory".to_owned()),
        Ok(meta) if meta.is_symlink() => Some("a symbolic link".to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(format!("what cannot be looked at ({error})")),
        _ => None,
    }
}

/// What has the name of a link's pin.
pub(super) enum Found {
    Nothing,
    /// A selector's, of whatever device.
    Link(Link, Held),
    /// What it is.
    Other(String),
    /// It cannot be opened now, whatever it is.
    Unknown(io::Error),
}

/// Looks what is pinned where a link of this hook would be.
pub(super) fn look(path: &Path, hook: Hook) -> Found {
    if let Some(what) = no_pin(path) {
        return Found::Other(what);
    }
    let link = match Link::open(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) if is_shortage(&error) => return Found::Unknown(error),
        Err(error) => return Found::Other(format!("something else ({error})")),
    };
    let held = match link.held() {
        Ok(held) if held.at_xdp == (hook == Hook::Xdp) => held,
        Ok(_) => return Found::Other("a link of another hook".to_owned()),
        Err(error) => return Found::Other(format!("something else ({error})")),
    };
    // Where it cannot be asked, nobody but this user can have pinned it here.
    match Known::of(held.program) {
        Known { name: Some(name), .. } if name != hook.program() => {
            Found::Other(format!("the link of a program called {name:?}"))
        }
        _ => Found::Link(link, held),
    }
}

fn is_pinned(id: u32, path: &Path, hook: Hook) -> bool {
    matches!(look(path, hook), Found::Link(_, held) if held.id == id)
}

/// A pin that is not there is none to be removed; one that stays is tried again by whoever comes next.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
        _ => {}
    }
}

/// What holds a selector.
#[derive(Debug)]
pub(super) enum Holder {
    Link(Link),
    Filter(Filter),
}

/// A selector as it is held.
pub(super) struct Standing {
    /// The program's id.
    pub(super) program: u32,
    /// What meets frames before it does, in words.
    pub(super) before: Vec<String>,
}

impl Holder {
    /// What holds the selector of a device already. Only where the answer is none may another one be attached.
    pub(super) fn find(device: u32, hook: Hook, at: &Place<'_>, pinned: Option<&Pinned>) -> io::Result<Option<Holder>> {
        if hook == Hook::Tc && !at.tcx {
            return Ok(Filter::find(device, at.owner)?.map(Holder::Filter));
        }
        match pinned.map_or(Found::Nothing, |pinned| look(&pinned.link, hook)) {
            Found::Link(link, held) if held.device == Some(device) => Ok(Some(Holder::Link(link))),
            Found::Unknown(error) => Err(error),
            _ => Ok(None),
        }
    }

    /// Whether others leave room for one, as far as that can be told beforehand.
    pub(super) fn check(device: u32, hook: Hook, at: &Place<'_>) -> io::Result<()> {
        match hook {
            Hook::Xdp if devices::has_xdp(device)? => Err(io::Error::from_raw_os_error(libc::EBUSY)),
            Hook::Tc if at.tcx => room_at_tcx(device).map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn attach(
        program: BorrowedFd<'_>,
        device: u32,
        port: u32,
        hook: Hook,
        at: &Place<'_>,
    ) -> io::Result<Holder> {
        match hook {
            Hook::Xdp => Link::create(program, device, Point::Xdp(XdpMode::Native)).map(Holder::Link),
            Hook::Tc if at.tcx => at_tcx(program, device).map(Holder::Link),
            Hook::Tc => Filter::attach(program, device, at.owner, port).map(Holder::Filter),
        }
    }

    pub(super) fn swap(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Holder::Link(link) => link.swap(program),
            Holder::Filter(filter) => filter.swap(program),
        }
    }

    /// The device that it is on; `None` once that has gone, or nothing is held any more.
    pub(super) fn device(&self) -> io::Result<Option<u32>> {
        match self {
            Holder::Link(link) => Ok(link.held()?.device),
            Holder::Filter(filter) => filter.device(),
        }
    }

    /// What is held on `device`; `None` once nothing is.
    pub(super) fn standing(&self, device: u32) -> io::Result<Option<Standing>> {
        let link = match self {
            Holder::Filter(filter) => {
                return Ok(filter.held()?.map(|(program, before)| Standing { program, before }));
            }
            Holder::Link(link) => link.held()?,
        };
        if link.device != Some(device) {
            return Ok(None);
        }
        let others = if link.at_xdp { Ok(Programs::default()) } else { Programs::at(device) };
        let others = match others {
            // Gone since.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            others => others?,
        };
        let before = others.before(link.program).map(|other| format!("program {other} at tc")).collect();
        Ok(Some(Standing { program: link.program, before }))
    }

    pub(super) fn detach(&self) -> io::Result<()> {
        match self {
            Holder::Link(link) => link.detach(),
            Holder::Filter(filter) => filter.detach(),
        }
    }
}

/// Makes sure that no other dataplane has the frames of a device at tcx: two links can be there. Gives the revision of what is.
fn room_at_tcx(device: u32) -> io::Result<u64> {
    let Programs { ids, revision } = Programs::at(device)?;
    let other = ids.into_iter().map(Known::of).find(|known| known.name.as_deref() == Some(Hook::Tc.program()));
    other.map_or(Ok(revision), |other| {
        let why = format!(
            "the selector of another dataplane is there (program {other}): give the wire to one of the two, or take the other's \
             off (spanctl --dir DIR detach)"
        );
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
    })
}

/// Attaches a program as the first at tcx: a wire's frames are for nobody else here.
fn at_tcx(program: BorrowedFd<'_>, device: u32) -> io::Result<Link> {
    for _ in 0..TRIES {
        let revision = room_at_tcx(device)?;
        match Link::create(program, device, Point::TcxIngress { revision }) {
            // Somebody was faster, with a selector maybe.
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {}
            done => return done,
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the programs there change all the time"))
}
