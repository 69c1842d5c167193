//! What became of clones while no spanwired ran: read from the maps that the last one has pinned.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::abi::{Bell, Cell};
use super::ledger::lost;
use super::maps::pin_of;
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
        let open = |name| MapHandle::from_pinned_path(pin_of(folder, name)).ok();
        let (cells, rings, bells) = (open("cells")?, open("rings")?, open("bells")?);
        let bells: Arc<Rows<Bell>> = Arc::new(Rows::of(&bells).ok()?);
        let seen = bells.get(0)?.seen.load(Relaxed);
        let lost: u64 = inner(&cells).filter_map(|chunk| Rows::<Cell>::of(&chunk).ok()).map(|rows| lost(&rows)).sum();
        let unread = inner(&rings).filter_map(|ring| unread(&ring, &bells)).sum();
        Some(Past { unread, lost: lost.saturating_sub(seen) })
    }
}

/// The maps in a map.
fn inner(of: &MapHandle) -> impl Iterator<Item = MapHandle> {
    let id = |at: u32| of.lookup(&at.to_ne_bytes(), MapFlags::ANY).ok().flatten()?.first_chunk().copied();
    (0..of.max_entries()).filter_map(id).filter_map(|id| MapHandle::from_map_id(u32::from_ne_bytes(id)).ok())
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
