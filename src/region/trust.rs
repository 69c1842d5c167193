//! Whom a file or a directory is trusted from: its owner is this process's user or root, and nobody else may write it.

use std::fs::Metadata;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::error::RegionError;

/// Checks the directory of the regions, and makes it (0750) if it is not there and `create` is set.
///
/// What has its name must be the directory itself: through a link, somebody else might say which directory it is. What
/// leads to that name is as trusted as the system has it; `/run` and the like may be links.
///
/// # Errors
/// It is a link or no directory, belongs to somebody else, or others may write it.
pub fn check_dir(dir: &Path, create: bool) -> Result<(), RegionError> {
    // With a slash at its end, the name of a link would be that of what it leads to.
    let name = dir.components().as_path();
    let look = || std::fs::symlink_metadata(name).map_err(RegionError::io("look at", dir));
    let meta = match look() {
        Err(RegionError::Missing { .. }) if create => {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o750).create(dir).map_err(RegionError::io("create directory", dir))?;
            look()?
        }
        looked => looked?,
    };
    if !meta.is_dir() {
        let found = if meta.is_symlink() { "a symbolic link" } else { "not a directory" };
        return Err(RegionError::Type { path: dir.to_owned(), found, want: "a directory" });
    }
    check_owner(dir, &meta, 0o750)
}

pub(super) fn check_owner(path: &Path, meta: &Metadata, want_mode: u32) -> Result<(), RegionError> {
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(RegionError::Owner { path: path.to_owned(), found: meta.uid(), want: me });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(RegionError::Mode { path: path.to_owned(), found: mode, want: want_mode });
    }
    Ok(())
}
