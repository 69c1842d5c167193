//! Why a region cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use shm_layout::error::LayoutError;
use shm_layout::protocol::{PublishError, ReadError};
use thiserror::Error;

/// Why a region cannot be used.
#[derive(Debug, Error)]
pub enum RegionError {
    /// Nothing has that name.
    #[error("{}: not there", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The name is a symbolic link, a directory, a device.
    #[error("{}: {found}, want {want}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it must be.
        want: &'static str,
    },
    /// It belongs to somebody else.
    #[error("{}: owned by uid {found}, want {want} or root; refusing to trust it{}", path.display(), remedy(*want, *found))]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// The user this process runs as.
        want: u32,
    },
    /// Others than the owner may write it.
    #[error("{}: mode {found:04o} lets others than the owner write it; want {want:04o}", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        found: u32,
        /// The mode it is created with.
        want: u32,
    },
    /// What it holds is no region of this kind.
    #[error("{}: {source}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        source: LayoutError,
    },
    /// The read did not succeed.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// The publish did not succeed.
    #[error("{}: {source}", path.display())]
    Publish {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PublishError,
    },
    /// Another writer holds the lock.
    #[error("{}: another writer holds the lock{holder}; one writer at a time", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who it is, where that is known.
        holder: String,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl RegionError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegionError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => RegionError::Missing { path },
            _ if source.raw_os_error() == Some(libc::ELOOP) => {
                RegionError::Type { path, found: "a symbolic link", want: "a regular file" }
            }
            _ => RegionError::Io { action, path, source },
        }
    }

    pub(super) fn layout(path: &Path) -> impl FnOnce(LayoutError) -> RegionError {
        let path = path.to_owned();
        move |source| RegionError::Layout { path, source }
    }
}

/// Root is told what to do: who owns a directory can lead root to any file by links and renames, and could not
/// read what root makes in it.
fn remedy(me: u32, owner: u32) -> String {
    if me != 0 {
        return String::new();
    }
    format!(
        ": its owner can lead root elsewhere, and cannot use what root makes in it; run this as that user \
         (setpriv --reuid {owner} --clear-groups …)"
    )
}
