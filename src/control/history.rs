//! The images published last, kept beside the region so that one can be published again.
//!
//! `history/GENERATION.img`, each written whole under another name and then renamed: a reader sees a complete
//! image or none. The newest [`KEPT`] stay.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use shm_layout::image::Image;
use shm_layout::view::{LayoutError, SnapshotView};

use crate::region::{RegionError, check_dir};

/// Images kept.
pub const KEPT: usize = 16;

/// The history of one directory.
#[derive(Clone, Debug)]
pub struct History {
    dir: PathBuf,
}

/// One image of the history.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The generation it was published as.
    pub generation: u64,
    /// The image.
    pub image: Image,
}

impl Kept {
    /// Its content.
    ///
    /// # Errors
    /// None for an image that [`History::read`] gave.
    pub fn view(&self) -> Result<SnapshotView<'_>, LayoutError> {
        SnapshotView::try_from(self.image.words())
    }
}

impl History {
    /// The history beside the region in `dir`. Nothing is made before the first [`History::keep`].
    #[must_use]
    pub fn of(dir: &Path) -> History {
        History { dir: dir.join("history") }
    }

    /// Keeps an image that has been published, in the place of generation `instead` where one is given, and forgets
    /// the oldest.
    ///
    /// # Errors
    /// The directory or the file cannot be written, or is not to be trusted.
    pub fn keep(&self, generation: u64, image: &Image, instead: Option<u64>) -> Result<(), RegionError> {
        check_dir(&self.dir, true)?;
        let path = self.path(generation);
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let write = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            // One left behind by a process of the same id that died is in nobody's way.
            options.write(true).create(true).truncate(true).mode(0o640).custom_flags(OFlags::NOFOLLOW.bits() as i32);
            let mut file = options.open(&temporary)?;
            file.write_all(image.bytes())?;
            fs::rename(&temporary, &path)
        };
        if let Err(source) = write() {
            let _ = fs::remove_file(&temporary);
            return Err(RegionError::Io { action: "keep a published image as", path, source });
        }
        // An image that cannot be removed is one too many, not one too few.
        let forget = |old: u64| drop(fs::remove_file(self.path(old)));
        instead.into_iter().for_each(forget);
        self.generations()?.into_iter().rev().skip(KEPT).for_each(forget);
        Ok(())
    }

    /// The generations kept, oldest first; none where nothing was ever kept.
    ///
    /// # Errors
    /// The directory is there and cannot be read, or is not to be trusted.
    pub fn generations(&self) -> Result<Vec<u64>, RegionError> {
        match check_dir(&self.dir, false) {
            Err(RegionError::Missing { .. }) => return Ok(Vec::new()),
            checked => checked?,
        }
        let entries = fs::read_dir(&self.dir).map_err(|source| self.io("read", source))?;
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| self.io("read", source))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".img")).and_then(|n| n.parse::<u64>().ok());
            all.extend(number);
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Reads one image back, checked.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is damaged.
    pub fn read(&self, generation: u64) -> Result<Kept, RegionError> {
        let path = self.path(generation);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RegionError::Missing { path: path.clone() },
            _ => RegionError::Io { action: "read", path: path.clone(), source },
        })?;
        Image::from_bytes(&bytes)
            .map(|image| Kept { generation, image })
            .and_then(|kept| kept.view().map(|_| ()).map(|()| kept))
            .map_err(|source| RegionError::Layout { path, source })
    }

    fn path(&self, generation: u64) -> PathBuf {
        // Wide enough for any generation, so that names sort as numbers do.
        self.dir.join(format!("{generation:020}.img"))
    }

    fn io(&self, action: &'static str, source: io::Error) -> RegionError {
        RegionError::Io { action, path: self.dir.clone(), source }
    }
}
