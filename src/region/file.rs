//! One open inode of a region: its words, its futex words, and how it comes to its name.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};
use shm_layout::error::LayoutError;
use shm_layout::header::{ACTIVE, ASKED, Geometry, HEARTBEAT, Header, NOTIFY, RegionKind, WRITER_PID};
use shm_layout::protocol::Reader;
use shm_layout::view::ImageView;
use shm_layout::words::{Fault, Words};
use shm_layout::{PAGE, WORD};

use super::error::RegionError;
use super::trust::{check_dir, check_owner};

/// How the name of a region that has not got its own yet ends.
const UNNAMED: &str = ".new";

/// Removes what writers of the region at `path` left when they died before giving it that name: each is as large
/// as a region, and in the way of a later writer with the same process id. Only for who holds the writer lock.
pub(super) fn remove_unnamed(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(UNNAMED) {
            // Where it stays it is in nobody's way but by its size; creating one in its place says so.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// How a region is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For a reader: the file is never written.
    Read,
    /// For the writer.
    Write,
}

/// One open inode of a region.
#[derive(Debug)]
pub struct RegionFile {
    file: File,
    path: PathBuf,
    geometry: Geometry,
    inode: (u64, u64),
    /// Mapped for the addresses of the futex words alone.
    page: MmapRaw,
}

impl RegionFile {
    /// Opens and checks the region at `path`, and the directory that it is in.
    ///
    /// # Errors
    /// [`RegionError`], naming the path and what does not hold.
    pub fn open(path: &Path, kind: RegionKind, access: Access) -> Result<RegionFile, RegionError> {
        match path.parent().map(|dir| check_dir(dir, false)) {
            Some(Err(RegionError::Missing { .. })) => return Err(RegionError::Missing { path: path.to_owned() }),
            checked => checked.transpose()?,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(RegionError::io("open", path))?;
        let meta = file.metadata().map_err(RegionError::io("look at", path))?;
        if !meta.is_file() {
            return Err(RegionError::Type { path: path.to_owned(), found: "not a regular file", want: "one" });
        }
        check_owner(path, &meta, 0o640)?;
        let mut header = Header::zeroed();
        file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => RegionError::Layout {
                path: path.to_owned(),
                source: LayoutError::Truncated { len: meta.len(), need: PAGE as u64 },
            },
            _ => RegionError::Io { action: "read", path: path.to_owned(), source },
        })?;
        let geometry = header.geometry(kind, meta.len()).map_err(RegionError::layout(path))?;
        Self::from_parts(file, path, geometry, (meta.dev(), meta.ino()))
    }

    fn from_parts(file: File, path: &Path, geometry: Geometry, inode: (u64, u64)) -> Result<RegionFile, RegionError> {
        let page = MmapOptions::new()
            .len(PAGE)
            .map_raw_read_only(&file)
            .map_err(RegionError::io("map the header of", path))?;
        Ok(RegionFile { file, path: path.to_owned(), geometry, inode, page })
    }

    /// Makes an empty region beside `path`, not yet under that name.
    ///
    /// The file's blocks are reserved, so that a full file system is an error here and not in the middle of a
    /// publish.
    ///
    /// # Errors
    /// The directory is not writable, or the file system is full.
    pub(super) fn create(
        path: &Path,
        kind: RegionKind,
        slot_len: usize,
        instance_id: u64,
    ) -> Result<RegionFile, RegionError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{instance_id:x}-{slot_len:x}{UNNAMED}", std::process::id()));
        let temporary = path.with_file_name(name);
        let make = || -> io::Result<(File, (u64, u64))> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o640)
                .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(&temporary)?;
            let header = Header::new(kind, slot_len, instance_id, crate::clock::unix_ns());
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, header.region_len)?;
            file.write_all_at(bytemuck::bytes_of(&header), 0)?;
            let meta = file.metadata()?;
            Ok((file, (meta.dev(), meta.ino())))
        };
        let geometry = Geometry { slot_len, instance_id };
        let made = make()
            .map_err(RegionError::io("create", &temporary))
            .and_then(|(file, inode)| Self::from_parts(file, &temporary, geometry, inode));
        if made.is_err() {
            // The error is the first one; a file that cannot be removed either is left to the operator.
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    /// Gives a region made by [`RegionFile::create`] its name, replacing what had it.
    pub(super) fn install(mut self, path: &Path) -> Result<RegionFile, RegionError> {
        if let Err(source) = std::fs::rename(&self.path, path) {
            let _ = std::fs::remove_file(&self.path);
            return Err(RegionError::Io { action: "install", path: path.to_owned(), source });
        }
        self.path = path.to_owned();
        Ok(self)
    }

    /// Its name, as it was opened or last given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The region's unchanging facts.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether the name still leads to this inode, and the file is as long as it was.
    pub fn is_current(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode && meta.len() >= self.geometry.region_len() as u64)
    }

    /// Whether the header still says what it said when the region was opened: a file that was copied over in
    /// place is the same inode, and may be as long as it was.
    pub(super) fn is_intact(&self, kind: RegionKind) -> bool {
        let mut header = Header::zeroed();
        self.file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0).is_ok()
            && header.geometry(kind, self.geometry.region_len() as u64) == Ok(self.geometry)
    }

    /// The newest announced generation, if its slot holds an image of it: `active` itself is under no checksum.
    pub(super) fn confirmed_active(&self) -> Option<u64> {
        let mut image = Vec::new();
        match Reader::new(self, self.geometry).read(None, &mut image).ok()? {
            None => Some(0),
            Some(active) => ImageView::parse(&image).is_ok().then_some(active),
        }
    }

    /// The newest announced generation.
    ///
    /// # Errors
    /// [`Fault`] when the file has been truncated.
    pub fn active(&self) -> Result<u64, Fault> {
        self.load(ACTIVE, Ordering::Acquire)
    }

    /// Process id of the last writer.
    ///
    /// # Errors
    /// [`Fault`] when the file has been truncated.
    pub fn writer_pid(&self) -> Result<u64, Fault> {
        self.load(WRITER_PID, Relaxed)
    }

    /// When it was last published, nanoseconds of `CLOCK_BOOTTIME`; 0 where it never was.
    ///
    /// # Errors
    /// [`Fault`] when the file has been truncated.
    pub fn heartbeat(&self) -> Result<u64, Fault> {
        self.load(HEARTBEAT, Relaxed)
    }

    /// The futex word as it is now, to hand to [`RegionFile::wait`].
    ///
    /// # Errors
    /// [`Fault`] when the file has been truncated.
    pub fn notify_word(&self) -> Result<u32, Fault> {
        Ok(self.load(NOTIFY, Ordering::Acquire)? as u32)
    }

    /// Sleeps until the futex word is no longer `seen`, at most `timeout`. Whether somebody published; a signal
    /// ends it early.
    pub fn wait(&self, seen: u32, timeout: Duration) -> bool {
        self.wait_on(NOTIFY, seen, timeout)
    }

    /// Wakes every reader that waits for a publish, in any process.
    pub fn wake(&self) {
        self.wake_on(NOTIFY);
    }

    /// Sleeps until a reader asks for a publish, at most `timeout`. Whether one did; a signal ends it early.
    pub(super) fn wait_asked(&self, timeout: Duration) -> bool {
        self.wait_on(ASKED, 0, timeout)
    }

    /// Asks the writer for a publish. One that does not wait just now hears nothing: ask again.
    pub(super) fn ask(&self) {
        self.wake_on(ASKED);
    }

    fn wait_on(&self, word: usize, seen: u32, timeout: Duration) -> bool {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
        };
        // SAFETY: the address lies in `page`, mapped for as long as `self` lives, and is 8-aligned; the kernel
        // reads the word itself and answers EFAULT where the file has been truncated. FUTEX_WAIT without the
        // PRIVATE flag works on a read-only mapping. `timeout` outlives the call.
        let done = unsafe {
            libc::syscall(libc::SYS_futex, self.futex_address(word), libc::FUTEX_WAIT, seen, &timeout, 0usize, 0u32)
        };
        let errno = if done == 0 { None } else { io::Error::last_os_error().raw_os_error() };
        // EAGAIN: it changed already. ETIMEDOUT, EINTR: time to look. EFAULT: truncated; look, but not in a spin.
        if errno == Some(libc::EFAULT) {
            std::thread::sleep(Duration::from_millis(1));
        }
        matches!(errno, None | Some(libc::EAGAIN))
    }

    fn wake_on(&self, word: usize) {
        // SAFETY: as in `wait_on`. Waking reads nothing but the address; an error means that nobody can wait there.
        unsafe {
            libc::syscall(libc::SYS_futex, self.futex_address(word), libc::FUTEX_WAKE, i32::MAX, 0usize, 0usize, 0u32);
        }
    }

    fn futex_address(&self, word: usize) -> *const u8 {
        // Low half of a word of the header: regions are little-endian.
        self.page.as_ptr().wrapping_add(word * WORD)
    }
}

/// Words by `pread` and `pwrite`. The fences are real ones and the calls are opaque to the compiler, so the
/// orderings the protocol asks for hold around the copies the kernel makes on this processor.
impl Words for RegionFile {
    fn load(&self, word: usize, order: Ordering) -> Result<u64, Fault> {
        let mut value = 0u64;
        self.load_all(word, std::slice::from_mut(&mut value), order)?;
        Ok(value)
    }

    fn load_all(&self, word: usize, out: &mut [u64], _: Ordering) -> Result<(), Fault> {
        self.copy_out(word, out)?;
        // SeqCst: stands in for the Acquire a load by this process would carry.
        fence(SeqCst);
        Ok(())
    }

    fn store(&self, word: usize, value: u64, _: Ordering) -> Result<(), Fault> {
        // SeqCst: stands in for the Release a store by this process would carry.
        fence(SeqCst);
        self.copy_in(word, &[value])
    }

    fn copy_out(&self, word: usize, out: &mut [u64]) -> Result<(), Fault> {
        match self.file.read_exact_at(bytemuck::cast_slice_mut(out), (word * WORD) as u64) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::Truncated { word }),
            Err(e) => Err(Fault::Io { errno: e.raw_os_error().unwrap_or(libc::EIO) }),
        }
    }

    fn copy_in(&self, word: usize, data: &[u64]) -> Result<(), Fault> {
        self.file
            .write_all_at(bytemuck::cast_slice(data), (word * WORD) as u64)
            .map_err(|e| Fault::Io { errno: e.raw_os_error().unwrap_or(libc::EIO) })
    }

    fn fence(&self, _: Ordering) {
        fence(SeqCst);
    }
}
