//! Takes off what a dataplane that does not run has left on ports: selectors that carry frames still, and what was changed on
//! devices.

use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};
use thiserror::Error;

use super::topology::Topology;
use crate::kernel::hold;
use crate::kernel::pins;
use crate::region::{STATS_FILE, is_held};

/// Why nothing was taken off.
#[derive(Debug, Error)]
pub enum DetachError {
    /// It would be put back at once.
    #[error(
        "spanwired runs in {}: it puts back what is taken off; stop it first, or publish a snapshot without the wire",
        .0.display()
    )]
    Running(PathBuf),
    /// The dataplane ran somewhere else.
    #[error(
        "what was left for {} is in another network namespace: run this in the dataplane's own (ip netns exec, nsenter --net=)",
        .0.display()
    )]
    ElsewhereThan(PathBuf),
    /// Selectors would go, and what was changed on devices stay.
    #[error("taking off what was left on ports is not permitted: needs CAP_NET_ADMIN, as spanwired has")]
    NotPermitted,
    /// The pins cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel does not say what filters there are.
    #[error("cannot look for selectors at tc: {0}")]
    Filters(io::Error),
}

/// What was taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Selectors.
    pub selectors: usize,
    /// Devices on which something was changed back, by name.
    pub devices: Vec<String>,
    /// What could not be changed back, and why; it is on record still.
    pub left: Vec<String>,
}

/// Takes off what the dataplane of `dir` has left, whose pins are in `pins` or where they are by default: of these ports,
/// ifindexes in the snapshot, or of all. The calling thread is to be in the dataplane's network namespace.
///
/// # Errors
/// [`DetachError`]; what could be taken off before is.
pub fn detach(dir: &Path, pins: Option<&Path>, ports: Option<&[u32]>) -> Result<Detached, DetachError> {
    if is_held(dir, STATS_FILE) == Some(true) {
        return Err(DetachError::Running(dir.to_owned()));
    }
    let folders = pins::known(dir, pins);
    if folders.is_empty() && (pins::is_elsewhere(dir, pins) || Topology::is_elsewhere(dir)) {
        return Err(DetachError::ElsewhereThan(dir.to_owned()));
    }
    // Unknown is taken for held.
    if !capabilities(None).map_or(true, |sets| sets.effective.contains(CapabilitySet::NET_ADMIN)) {
        return Err(DetachError::NotPermitted);
    }
    let stays = |port: u32| ports.is_some_and(|ports| !ports.contains(&port));
    let mut detached = Detached::default();
    for folder in &folders {
        let swept = hold::sweep(folder, |port, _| stays(port));
        detached.selectors += swept.map_err(|source| DetachError::Read { path: folder.clone(), source })?;
        if ports.is_none() {
            pins::remove(dir, folder);
        }
    }
    // Filters stay where nothing can be pinned, too.
    if folders.is_empty() {
        detached.selectors += hold::sweep_filters(&pins::name(dir), stays).map_err(DetachError::Filters)?;
    }
    (detached.devices, detached.left) = Topology::undo(dir, stays);
    Ok(detached)
}
