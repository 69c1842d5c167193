//! What became of clones while no spanwired ran: read from the maps that the last one has pinned.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::{MapCore, MapHandle};

use super::abi::{Bell, Cell, LAYOUT};
use super::ledger::lost;
use super::maps::{BELLS, CHUNK, RING, pin_of};
use super::rings::Ring;
use super::rows::Rows;

/// Clones that were selected and that nobody has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// They lie in the rings.
    pub unread: u64,
    /// The rings were full, or took no frame of their kind.
    pub lost: u64,
}

impl Past {
    /// Reads what is pinned in `folder`; `None` where nothing is, or it is of another layout.
    pub fn read(folder: &Path) -> Option<Past> {
        let bells = MapHandle::from_pinned_path(pin_of(folder, BELLS, 0)).ok()?;
        let bells: Arc<Rows<Bell>> = Arc::new(Rows::of(&bells).ok()?);
        let seen = bells.get(0)?.seen.load(Relaxed);
        let chunks = pinned(folder, CHUNK)?;
        let lost: u64 = chunks.filter_map(|chunk| Rows::<Cell>::of(&chunk).ok()).map(|rows| lost(&rows)).sum();
        let unread = pinned(folder, RING)?.filter_map(|ring| unread(&ring, &bells)).sum();
        Some(Past { unread, lost: lost.saturating_sub(seen) })
    }
}

/// The maps of a kind that are pinned.
fn pinned(folder: &Path, kind: &'static str) -> Option<impl Iterator<Item = MapHandle>> {
    let is_one = move |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let layout = LAYOUT.to_string();
        matches!(name.split('-').collect::<Vec<_>>()[..], [of, _, its] if of == kind && its == layout)
    };
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(is_one);
    Some(paths.filter_map(|path| MapHandle::from_pinned_path(path).ok()))
}

/// Records of a ring that nobody has read.
fn unread(ring: &MapHandle, bells: &Arc<Rows<Bell>>) -> Option<u64> {
    let ring = Ring::of(ring.as_fd().try_clone_to_owned().ok()?, ring.max_entries(), Arc::clone(bells), 0).ok()?;
    let (mut cursor, mut count) = (ring.position(), 0);
    while ring.next(&mut cursor).is_some() {
        count += 1;
    }
    Some(count)
}
