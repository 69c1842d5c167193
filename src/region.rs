//! Region files: opened with care, reached without ever faulting, waited on, replaced whole.
//!
//! Another process may truncate or replace a region file at any time. A load or store through a mapping would
//! then raise SIGBUS, and no check beforehand closes the window. So words are read and written with `pread` and
//! `pwrite` ([`Words`](shm_layout::words::Words) for [`RegionFile`]): the kernel makes the same copy and answers
//! with a short count instead. Only the futex words are mapped, and only the kernel looks at them (`FUTEX_WAIT` answers
//! EFAULT).
//!
//! - [`RegionFile`]: one open inode
//! - [`WriterLock`]: there is one writer
//! - [`Publisher`]: the writer's side: create, publish, grow and shrink, replace what is damaged
//! - [`Subscriber`]: a reader's side: find, follow, read, wait
//! - [`rouse`]: wakes who waits, with nothing new
//! - [`read_beside`], [`write_beside`]: small files beside the regions

mod beside;
mod error;
mod file;
mod lock;
mod publisher;
mod subscriber;
mod trust;

pub use beside::{open_beside, read_beside, write_beside};
pub use error::RegionError;
pub use file::{Access, RegionFile};
pub use lock::{WriterLock, is_held};
pub use publisher::Publisher;
pub use subscriber::{Polled, Subscriber, rouse};
pub use trust::check_dir;

/// Name of the region the control plane writes.
pub const CONFIG_FILE: &str = "config.shm";
/// Name of the region the dataplane writes.
pub const STATS_FILE: &str = "stats.shm";
