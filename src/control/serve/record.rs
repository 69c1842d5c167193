//! What of the producer is kept in the directory, so that a server that is started again goes on from there.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::process::Process;

/// The record of the producer, in the directory of the regions.
pub const RECORD_FILE: &str = "producer.json";
/// More than it ever has, bytes.
const MOST: u64 = 4096;

/// The last snapshot that a producer published over the socket. What an operator publishes does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its protocol version.
    pub version: u32,
    /// The producer's generation of it.
    pub generation: u64,
    /// The producer's generation of its forwarding table.
    pub fib_generation: u32,
    /// SHA-256 of the document, as the published image has it.
    pub document: [u8; 32],
    /// The producer; `None` where it cannot be seen from here.
    pub process: Option<Process>,
}

impl Record {
    /// The record in a directory, if there is one that can be read.
    pub(super) fn read(dir: &Path) -> Option<Record> {
        let path = dir.join(RECORD_FILE);
        let read = || -> io::Result<Record> {
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
            let meta = file.metadata()?;
            let (own, owner) = (rustix::process::geteuid().as_raw(), meta.uid());
            if !meta.is_file() || (owner != own && owner != 0) || meta.mode() & 0o022 != 0 {
                return Err(io::Error::other("it is no file that only its owner, who is oneself or root, may write"));
            }
            let mut text = String::new();
            file.take(MOST).read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        match read() {
            Ok(record) => Some(record),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("{}: it tells nothing of the producer: {error}", path.display());
                }
                None
            }
        }
    }

    /// Puts it in the place of the one before.
    ///
    /// # Errors
    /// The file, and what the system says.
    pub(super) fn write(&self, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
        let path = dir.join(RECORD_FILE);
        let temporary = dir.join(format!("{RECORD_FILE}.{}.new", std::process::id()));
        let write = || -> io::Result<()> {
            // One left behind by a process of the same id that died is in nobody's way.
            let flags = OFlags::NOFOLLOW.bits() as i32;
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o640).custom_flags(flags).open(&temporary)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            (path.clone(), error)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_record_is_read_back_if_it_can_be_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECORD_FILE);
        assert_eq!(Record::read(dir.path()), None);
        let record = Record {
            version: 43,
            generation: u64::MAX,
            fib_generation: u32::MAX,
            document: [0xfe; 32],
            process: Process::of(std::process::id() as i32),
        };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record.clone()));
        assert!(fs::metadata(&path).unwrap().len() < MOST / 4);
        let record = Record { process: None, ..record };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record.clone()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Record::read(dir.path()), None, "anybody may have written it");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "{\"version\":43}").unwrap();
        assert_eq!(Record::read(dir.path()), None);
        fs::remove_file(&path).unwrap();
        let other = dir.path().join("other");
        fs::write(&other, serde_json::to_vec(&record).unwrap()).unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(Record::read(dir.path()), None, "a link");
        assert!(record.write(&dir.path().join("missing")).is_err());
    }
}
