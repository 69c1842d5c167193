//! Where a dataplane pins what is to outlive it: a folder of its own in a bpffs.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sha2::{Digest, Sha256};

use crate::xsk::netdev;

/// Where systemd and iproute2 mount one.
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Below the region directory, where there is none at [`BPFFS`].
const OWN: &str = "bpf";

/// Why there is no place for pins.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The place given is none.
    #[error("--pins: {} is in no bpffs (mount one: mount -t bpf bpf {BPFFS})", .0.display())]
    NoBpffs(PathBuf),
    /// It cannot be made.
    #[error("cannot make the folder for pins {}: {source}; --pins DIR takes another one", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What has its name is none.
    #[error("{} is no folder for pins: {found}; remove it, or give another one with --pins", path.display())]
    Type {
        /// What was to be the folder.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Others may put something there, which would be taken for ours.
    #[error(
        "the folder for pins {} belongs to user {owner} and has mode {mode:04o}; allowed: a folder of this user or of root that \
         nobody else may write (0700): chown and chmod it, or remove it", path.display()
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// There is no bpffs, and none can be mounted.
    #[error(
        "no bpffs at {BPFFS}, and none can be mounted at {}: {source}; mount one (mount -t bpf bpf {BPFFS}), or give a folder \
         in one with --pins", path.display()
    )]
    Mount {
        /// Where it was tried.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder for the pins of the dataplane of `dir`, made where it is not there: in `given`, or in the system's bpffs, or in
/// one that is mounted in the directory.
///
/// # Errors
/// [`PinsError`].
pub fn folder(dir: &Path, given: Option<&Path>) -> Result<PathBuf, PinsError> {
    let root = match given {
        Some(given) => given.to_owned(),
        None if is_bpffs(Path::new(BPFFS)) => Path::new(BPFFS).join("spanwire"),
        None => own(dir)?,
    };
    let folder = root.join(name(dir));
    match make(&folder) {
        Err(PinsError::NoBpffs(_)) => Err(PinsError::NoBpffs(root)),
        made => made.map(|()| folder),
    }
}

/// Makes a folder for pins where it is not there.
///
/// # Errors
/// It is in no bpffs, cannot be made, or is one that others may write.
pub(super) fn make(folder: &Path) -> Result<(), PinsError> {
    let above = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    if !is_bpffs(above) {
        return Err(PinsError::NoBpffs(folder.to_owned()));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| PinsError::Make { path: folder.to_owned(), source })?;
    check(folder)
}

/// Whether what is found in a folder can be taken for ours.
fn check(folder: &Path) -> Result<(), PinsError> {
    let path = || folder.to_owned();
    let meta = fs::symlink_metadata(folder).map_err(|source| PinsError::Make { path: path(), source })?;
    if !meta.is_dir() {
        let found = if meta.is_symlink() { "a symbolic link" } else { "not a directory" };
        return Err(PinsError::Type { path: path(), found });
    }
    let (me, owner, mode) = (rustix::process::geteuid().as_raw(), meta.uid(), meta.mode() & 0o7777);
    if (owner != me && owner != 0) || mode & 0o022 != 0 {
        return Err(PinsError::Shared { path: path(), owner, mode });
    }
    Ok(())
}

/// Every folder there may be for the pins of `dir`, without making one: for who takes everything off.
pub fn known(dir: &Path, given: Option<&Path>) -> Vec<PathBuf> {
    let folders = roots(dir, given).into_iter().map(|root| root.join(name(dir))).filter(|folder| folder.is_dir());
    let is_ours = |folder: &PathBuf| check(folder).inspect_err(|error| tracing::warn!("{error}")).is_ok();
    folders.filter(is_ours).collect()
}

/// Whether there are pins of `dir` made in another network namespace.
pub fn is_elsewhere(dir: &Path, given: Option<&Path>) -> bool {
    let (whose, own) = (whose(dir), name(dir));
    let of_it =
        |entry: fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&whose) && name != own);
    roots(dir, given).into_iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten().any(of_it)
}

/// Removes a folder of pins with all that is in it, and what was mounted for it.
pub fn remove(dir: &Path, folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!("{} cannot be removed: {error}", folder.display());
    }
    let own = dir.join(OWN);
    if folder.parent() == Some(&own) && unmount(&own, UnmountFlags::empty()).is_ok() {
        // What is in the way there is not ours.
        let _ = fs::remove_dir(&own);
    }
}

fn roots(dir: &Path, given: Option<&Path>) -> Vec<PathBuf> {
    let system = Path::new(BPFFS).join("spanwire");
    given.map_or_else(|| vec![system, dir.join(OWN)], |given| vec![given.to_owned()])
}

/// A bpffs in the directory itself, mounted where it is not.
fn own(dir: &Path) -> Result<PathBuf, PinsError> {
    let path = dir.join(OWN);
    if is_bpffs(&path) {
        return Ok(path);
    }
    let made = match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => mount("bpf", &path, "bpf", MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV, None)
            .map_err(io::Error::from),
    };
    made.map(|()| path.clone()).map_err(|source| PinsError::Mount { path, source })
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.f_type as u64 == BPF_FS_MAGIC)
}

/// The folder's name: of this directory in this network namespace, and of no other.
pub fn name(dir: &Path) -> String {
    format!("{}{:x}", whose(dir), netdev::namespace().unwrap_or_default())
}

/// The beginning of the folder's name, whatever the namespace. Its own beginning is for people, the hash decides.
fn whose(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let hash = Sha256::digest(dir.as_os_str().as_bytes());
    let readable: String = dir.file_name().unwrap_or_default().to_string_lossy().chars().take(32).collect();
    // A bpffs takes no dots.
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}-", readable.chars().map(plain).collect::<String>())
}
