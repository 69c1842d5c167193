//! The images published last, kept beside the region so that one can be published again.
//!
//! `history/GENERATION.img`, each written whole under another name and then renamed: a reader sees a complete
//! image or none. The newest [`KEPT`] stay, and fewer where those are large. Only what is named and is as this module
//! makes it counts; anything else that lies there is left alone and in nobody's way.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use shm_layout::error::LayoutError;
use shm_layout::header::MAX_SLOT;
use shm_layout::image::Image;
use shm_layout::record::{IMAGE_MAGIC, SlotHeader};
use shm_layout::snapshot::SnapshotView;

use crate::region::{RegionError, check_dir, open_beside, read_beside, write_beside};

/// Images kept.
pub const KEPT: usize = 16;
/// Bytes kept, but for the newest image, which always is.
pub const KEPT_BYTES: u64 = 64 << 20;
/// How the name of an image that is being written ends.
const UNNAMED: &[u8] = b".new";

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

/// An image as the directory lists it.
#[derive(Clone, Copy, Debug)]
struct Listed {
    generation: u64,
    bytes: u64,
}

impl History {
    /// The history beside the region in `dir`. Nothing is made before the first [`History::keep`].
    #[must_use]
    pub fn of(dir: &Path) -> History {
        History { dir: dir.join("history") }
    }

    /// Keeps an image that has been published, in the place of generation `instead` where one is given, and forgets
    /// the oldest. Only for who holds the lock of `config.shm`.
    ///
    /// # Errors
    /// The directory or the file cannot be written, or is not to be trusted.
    pub fn keep(&self, generation: u64, image: &Image, instead: Option<u64>) -> Result<(), RegionError> {
        self.check(true)?;
        write_beside(&self.path(generation), image.bytes())?;
        // What cannot be removed is one image too many, not one too few.
        let remove = |path: PathBuf| drop(fs::remove_file(path));
        instead.into_iter().for_each(|old| remove(self.path(old)));
        let (listed, unnamed) = self.list()?;
        unnamed.into_iter().for_each(remove);
        let (mut count, mut bytes) = (0, 0);
        for old in listed.into_iter().rev().filter(|old| old.generation <= generation) {
            (count, bytes) = (count + 1, bytes + old.bytes);
            if old.generation < generation && (count > KEPT || bytes > KEPT_BYTES) {
                remove(self.path(old.generation));
            }
        }
        Ok(())
    }

    /// The generations kept, oldest first; none where nothing was ever kept.
    ///
    /// # Errors
    /// The directory is there and cannot be read, or is not to be trusted.
    pub fn generations(&self) -> Result<Vec<u64>, RegionError> {
        Ok(self.list()?.0.into_iter().map(|listed| listed.generation).collect())
    }

    /// The newest generation that an image here says it was published as; 0 for none. A file that only has the name of
    /// one does not count.
    #[must_use]
    pub fn newest(&self) -> u64 {
        let all = self.generations().unwrap_or_default();
        all.into_iter().rev().find(|&generation| self.is_of(generation)).unwrap_or(0)
    }

    /// Whether the header of the image of this name says so.
    fn is_of(&self, generation: u64) -> bool {
        let mut header = SlotHeader::zeroed();
        let read = open_beside(&self.path(generation)).ok().flatten();
        let whole = read.is_some_and(|file| file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0).is_ok());
        whole && header.magic == IMAGE_MAGIC && header.generation == generation
    }

    /// The images, oldest first, and the paths of what writers left when they died in the middle of one.
    fn list(&self) -> Result<(Vec<Listed>, Vec<PathBuf>), RegionError> {
        let (mut images, mut unnamed) = (Vec::new(), Vec::new());
        match self.check(false) {
            Err(RegionError::Missing { .. }) => return Ok((images, unnamed)),
            checked => checked?,
        }
        let failed = |source| RegionError::Io { action: "read", path: self.dir.clone(), source };
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Of the entry itself: a link is no image. One that goes meanwhile is gone.
            let Some(bytes) = entry.metadata().ok().filter(fs::Metadata::is_file).map(|meta| meta.len()) else {
                continue;
            };
            let name = entry.file_name();
            if name.as_bytes().ends_with(UNNAMED) {
                unnamed.push(entry.path());
            } else if let Some(generation) = name.to_str().and_then(generation_of) {
                images.push(Listed { generation, bytes });
            }
        }
        images.sort_unstable_by_key(|listed| listed.generation);
        Ok((images, unnamed))
    }

    /// Reads one image back, checked.
    ///
    /// # Errors
    /// It is not there, cannot be read, is not to be trusted, or is damaged.
    pub fn read(&self, generation: u64) -> Result<Kept, RegionError> {
        let path = self.path(generation);
        self.check(false)?;
        let bytes = read_beside(&path, MAX_SLOT as u64)?.ok_or_else(|| RegionError::Missing { path: path.clone() })?;
        Image::from_bytes(&bytes)
            .map(|image| Kept { generation, image })
            .and_then(|kept| kept.view().map(|_| ()).map(|()| kept))
            .map_err(|source| RegionError::Layout { path, source })
    }

    /// That this directory and the one it is in are to be trusted.
    fn check(&self, create: bool) -> Result<(), RegionError> {
        self.dir.parent().map_or(Ok(()), |dir| check_dir(dir, create))?;
        check_dir(&self.dir, create)
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.dir.join(name_of(generation))
    }
}

/// Wide enough for any generation, so that names sort as numbers do.
fn name_of(generation: u64) -> String {
    format!("{generation:020}.img")
}

/// The generation of a name that [`name_of`] gives, and of no other.
fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_suffix(".img")?.parse().ok()?;
    (name == name_of(generation)).then_some(generation)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shm_layout::record::Role;

    use super::*;
    use crate::control::admission::admit;
    use crate::control::compile::{Provenance, compile};
    use crate::control::model::Snapshot;

    fn image(generation: u64, text: usize) -> Image {
        let snapshot = Snapshot { generated_at: "x".repeat(text), ..Snapshot::default() };
        let source = Provenance { role: Role::Active, ..Provenance::of(b"") };
        let mut image = compile(&snapshot, &admit(&snapshot), &source);
        image.seal(generation, 1);
        image
    }

    #[test]
    fn names_are_those_that_are_given() {
        for generation in [0, 7, u64::MAX] {
            assert_eq!(generation_of(&name_of(generation)), Some(generation));
        }
        let strange =
            ["7.img", "+0000000000000000007.img", "00000000000000000007", "99999999999999999999.img", ".img", "x"];
        for name in strange {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }

    /// Names that only look like an image's, pipes, links, folders, what dead writers left: nobody waits for them, and
    /// no generation follows from them.
    #[test]
    fn what_is_no_image_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::of(dir.path());
        history.keep(5, &image(5, 0), None).unwrap();
        let at = |name: &str| history.dir.join(name);
        fs::write(at(&name_of(u64::MAX)), "not an image").unwrap();
        fs::write(at("9.img"), "").unwrap();
        fs::write(at("00000000000000000004.4242.new"), "half").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at(&name_of(8))).unwrap();
        fs::create_dir(at(&name_of(9))).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at(&name_of(10)), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert_eq!(history.newest(), 5);
        assert_eq!(history.generations().unwrap(), [5, u64::MAX]);
        for generation in [8, 9, 10, u64::MAX] {
            assert!(history.read(generation).is_err());
        }
        for generation in 11..11 + KEPT as u64 + 3 {
            history.keep(generation, &image(generation, 0), None).unwrap();
        }
        assert_eq!(history.newest(), 10 + KEPT as u64 + 3);
        assert_eq!(history.generations().unwrap().len(), KEPT + 1);
        assert!(!at("00000000000000000004.4242.new").exists());
        assert!(at(&name_of(u64::MAX)).exists() && at(&name_of(8)).is_symlink());
    }

    /// Of a directory that somebody else could put another in the place of, nothing is read.
    #[test]
    fn through_a_link_nothing_is_read_or_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        History::of(&real).keep(5, &image(5, 0), None).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("history")).unwrap();
        for history in [History::of(&link), History::of(dir.path())] {
            let refused = |error: RegionError| assert!(error.to_string().contains("a symbolic link"), "{error}");
            refused(history.generations().unwrap_err());
            refused(history.read(5).unwrap_err());
            refused(history.keep(6, &image(6, 0), None).unwrap_err());
            assert_eq!(history.newest(), 0);
        }
        assert_eq!(History::of(&real).generations().unwrap(), [5]);
        assert_eq!(History::of(&real).read(5).unwrap().generation, 5);
    }

    #[test]
    fn large_images_are_kept_for_a_shorter_time() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::of(dir.path());
        for generation in 1..=4 {
            history.keep(generation, &image(generation, KEPT_BYTES as usize / 3), None).unwrap();
        }
        assert_eq!(history.generations().unwrap(), [3, 4]);
        history.keep(5, &image(5, KEPT_BYTES as usize + 1), None).unwrap();
        assert_eq!(history.generations().unwrap(), [5], "the newest, however large");
    }
}
