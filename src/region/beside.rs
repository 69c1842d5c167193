//! Files beside the regions: read with the care that regions are opened with, replaced whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::RegionError;
use super::trust::check_owner;

/// Opens a file to read it; `None` where there is none.
///
/// # Errors
/// It is a link or no file, belongs to somebody else, or others may write it.
pub fn open_beside(path: &Path) -> Result<Option<File>, RegionError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(RegionError::io("open", path));
    let file = match opened {
        Err(RegionError::Missing { .. }) => return Ok(None),
        opened => opened?,
    };
    let meta = file.metadata().map_err(RegionError::io("look at", path))?;
    if !meta.is_file() {
        return Err(RegionError::Type { path: path.to_owned(), found: "not a regular file", want: "one" });
    }
    check_owner(path, &meta, 0o640)?;
    Ok(Some(file))
}

/// Reads a file of at most `limit` bytes; `None` where there is none.
///
/// # Errors
/// As [`open_beside`], or it is longer.
pub fn read_beside(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RegionError> {
    let Some(file) = open_beside(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    // One more than allowed, since it may grow while it is read.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(RegionError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let source = io::Error::other(format!("longer than {limit} bytes"));
        return Err(RegionError::Io { action: "read", path: path.to_owned(), source });
    }
    Ok(Some(bytes))
}

/// Gives a file new content in one step: a reader sees the old one or the new one, whole, also when this process is
/// killed. It has one writer, and is not flushed to the disk.
///
/// # Errors
/// The directory is not there or not writable, or the file system is full.
pub fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), RegionError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        // One that an earlier writer left when it died is written over.
        options.write(true).create(true).truncate(true).mode(0o640);
        let mut file = options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK).open(&temporary)?;
        file.write_all(bytes)?;
        std::fs::rename(&temporary, path)
    };
    let written = write().map_err(RegionError::io("write", path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_was_written_is_read_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small");
        assert_eq!(read_beside(&path, 4).unwrap(), None);
        for content in [&b"abcd"[..], b"", b"ef"] {
            write_beside(&path, content).unwrap();
            assert_eq!(read_beside(&path, 4).unwrap().unwrap(), content);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_beside(&dir.path().join("none/small"), b"x").is_err());
    }

    #[test]
    fn what_is_not_to_be_trusted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small");
        let refused = || read_beside(&path, 4).unwrap_err().to_string();
        write_beside(&path, b"abcde").unwrap();
        assert!(refused().contains("longer than 4"), "{}", refused());
        write_beside(&path, b"abcd").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refused().contains("0666"), "{}", refused());
        std::fs::rename(&path, dir.path().join("real")).unwrap();
        symlink("real", &path).unwrap();
        assert!(refused().contains("symbolic link"), "{}", refused());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(refused().contains("regular file"), "{}", refused());
    }
}
