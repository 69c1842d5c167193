//! Files beside the regions that outlive this process. Their only writer is who holds the lock of `stats.shm`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::region::{RegionError, check_dir, read_beside, write_beside};
use crate::told::Told;
use crate::xsk::netdev;

/// Bytes of such a file; a port takes some 300.
pub(super) const LIMIT: u64 = 4 << 20;

/// Where ifindexes and what is changed on their devices hold: another boot and another network namespace have other devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Identity of the boot.
    pub(super) boot: String,
    /// Identity of the network namespace in it.
    pub(super) namespace: u64,
}

impl Origin {
    /// This boot, and the calling thread's network namespace.
    pub(super) fn here() -> Origin {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = netdev::namespace().unwrap_or_else(|error| {
            tracing::debug!("network namespaces are told apart by their inodes: {error}");
            let inode = |meta: std::fs::Metadata| std::os::unix::fs::MetadataExt::ino(&meta);
            std::fs::metadata("/proc/thread-self/ns/net").map(inode).unwrap_or_default()
        });
        Origin { boot: boot.trim().to_owned(), namespace }
    }
}

/// One such file, JSON.
#[derive(Debug)]
pub(super) struct Lasting {
    dir: PathBuf,
    name: &'static str,
    /// Of failures to write it.
    told: Told,
}

impl Lasting {
    /// The file of this name in `dir`.
    pub(super) fn of(dir: &Path, name: &'static str) -> Lasting {
        Lasting { dir: dir.to_owned(), name, told: Told::default() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    /// Whether the file is there.
    pub(super) fn exists(&self) -> bool {
        self.path().exists()
    }

    /// What it holds; `None` where there is none. One that cannot be used is set aside.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        let path = self.path();
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).map_err(|error| format!("{}: no record of ports: {error}", path.display()))
        };
        let bytes = read_beside(&path, LIMIT).map_err(|error: RegionError| error.to_string());
        match bytes.and_then(|bytes| bytes.map(parse).transpose()) {
            Ok(found) => found,
            Err(problem) => {
                let aside = format!("{}.damaged", self.name);
                tracing::warn!("{problem}; it is set aside as {aside}, and what an earlier run changed stays changed");
                if let Err(error) = std::fs::rename(&path, self.dir.join(aside)) {
                    tracing::warn!("{} cannot be set aside: {error}", path.display());
                }
                None
            }
        }
    }

    /// Gives it new content. Whether that could be done.
    pub(super) fn write<T: Serialize>(&mut self, content: &T) -> bool {
        match self.try_write(content) {
            Ok(()) => {
                if let Some(news) = self.told.ends() {
                    tracing::info!("what this run changes on ports is on record again, in {}{news}", self.name);
                }
                true
            }
            Err(problem) => {
                if let Some(news) = self.told.is(&problem) {
                    tracing::warn!("the next run will not know what this one changes on ports: {news}");
                }
                false
            }
        }
    }

    fn try_write<T: Serialize>(&self, content: &T) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(content).map_err(|error| error.to_string())?;
        check_dir(&self.dir, true).and_then(|()| write_beside(&self.path(), &text)).map_err(|error| error.to_string())
    }
}
