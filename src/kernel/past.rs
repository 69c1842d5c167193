//! What became of clones while no spanwired ran: read from the maps that the last one has pinned.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::{MapCore, MapHandle};

use super::abi::{Bell, LAYOUT};
use super::kept::{BELLS, POLICY, RING, pin_of};
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
    /// Has the selectors that are there select no more, and then reads what is pinned in `folder`, which grows no more;
    /// `None` where nothing is, or it is of another layout.
    pub fn end(folder: &Path) -> Option<Past> {
        for policy in pinned(folder, POLICY, None) {
            // There is none in force, or these are no selectors of ours: either way there is nothing to be ended.
            let _ = policy.delete(&0u32.to_ne_bytes());
        }
        let bells = MapHandle::from_pinned_path(pin_of(folder, BELLS, 0)).ok()?;
        let bells: Arc<Rows<Bell>> = Arc::new(Rows::of(&bells).ok()?);
        let (seen, lost) = (bells.get(0)?.seen.load(Relaxed), Bell::all_lost(bells.iter()));
        let unread = pinned(folder, RING, Some(LAYOUT)).filter_map(|ring| unread(&ring, &bells)).sum();
        Some(Past { unread, lost: lost.saturating_sub(seen) })
    }
}

/// The maps of a kind that are pinned, of one layout or of any.
fn pinned(folder: &Path, kind: &'static str, layout: Option<u32>) -> impl Iterator<Item = MapHandle> {
    let is_one = move |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = |its: &str| layout.is_none_or(|layout| its == layout.to_string());
        matches!(name.split('-').collect::<Vec<_>>()[..], [is, _, its] if is == kind && of(its))
    };
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_one);
    paths.filter_map(|path| MapHandle::from_pinned_path(path).ok())
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
