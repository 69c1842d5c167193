//! The lock that makes a writer the only one.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shm_layout::header::RegionKind;

use super::error::RegionError;
use super::file::{Access, RegionFile};
use super::trust::check_owner;

/// The mode of a lock file.
const LOCK_MODE: u32 = 0o600;

/// The lock that makes a writer the only one: an open-file-description lock on a file of its own, released by
/// the kernel when the holder dies. The file is for its owner alone: who may read a file may lock it against writers.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
    path: PathBuf,
}

/// Whether some process holds the writer lock of the region `name` in `dir`, wherever it runs: a lock is seen from
/// other PID namespaces too, and ends with its holder. `None` where the lock file cannot be looked at.
#[must_use]
pub fn is_held(dir: &Path, name: &str) -> Option<bool> {
    let path = lock_path(&dir.join(name));
    let mut options = OpenOptions::new();
    let file =
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK).open(&path).ok()?;
    check_owner(&path, &file.metadata().ok()?, 0o640).ok()?;
    let mut lock = whole_file_lock();
    // SAFETY: the descriptor is open for as long as `file` lives and `lock` outlives the call, which writes to it alone.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } {
        0 => Some(libc::c_int::from(lock.l_type) != libc::F_UNLCK),
        _ => None,
    }
}

fn lock_path(region: &Path) -> PathBuf {
    let mut name = region.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    region.with_file_name(name)
}

impl WriterLock {
    /// Takes the lock of the region at `region`, waiting at most `patience`.
    ///
    /// # Errors
    /// [`RegionError::Locked`] after that, or the lock file cannot be opened.
    pub fn acquire(region: &Path, patience: Duration) -> Result<WriterLock, RegionError> {
        let path = lock_path(region);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(LOCK_MODE)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
            .map_err(RegionError::io("open lock file", &path))?;
        let meta = file.metadata().map_err(RegionError::io("look at", &path))?;
        check_owner(&path, &meta, LOCK_MODE)?;
        if meta.mode() & 0o077 != 0 {
            // Made by an earlier release.
            file.set_permissions(Permissions::from_mode(LOCK_MODE))
                .map_err(RegionError::io("take others' rights from", &path))?;
        }
        let start = Instant::now();
        loop {
            match lock_ofd(&file) {
                Ok(()) => return Ok(WriterLock { file, path }),
                Err(e) if !matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR)) => {
                    return Err(RegionError::Io { action: "lock", path, source: e });
                }
                Err(_) if start.elapsed() >= patience => {
                    let holder = RegionFile::open(region, RegionKind::Config, Access::Read)
                        .or_else(|_| RegionFile::open(region, RegionKind::Stats, Access::Read))
                        .and_then(|r| r.writer_pid().map_err(|_| RegionError::Missing { path: region.to_owned() }))
                        .map(|pid| format!(" (the region was last written by process {pid})"))
                        .unwrap_or_default();
                    return Err(RegionError::Locked { path, holder });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl WriterLock {
    /// Whether the lock file still has its name. Once it has not, another writer may hold a lock of that name.
    pub fn is_current(&self) -> bool {
        let named = std::fs::symlink_metadata(&self.path);
        let held = self.file.metadata();
        named.is_ok_and(|named| held.is_ok_and(|held| (named.dev(), named.ino()) == (held.dev(), held.ino())))
    }
}

fn whole_file_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn lock_ofd(file: &File) -> io::Result<()> {
    let lock = whole_file_lock();
    // SAFETY: the descriptor is open for as long as `file` is borrowed and `lock` outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
