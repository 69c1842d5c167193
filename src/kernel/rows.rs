//! The rows of an array map, read and written without a system call.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use bytemuck::Zeroable;
use libbpf_rs::{MapCore, MapHandle};
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::abi::{Bell, Cell, Crossing};

/// What a row may be: atomics all through, so that the kernel may write it at any time.
///
/// # Safety
/// Any bytes are one, and it has no padding and no member that is not atomic.
pub unsafe trait Shared: Zeroable {}

// SAFETY: integers as atomics, padding spelled out (see abi).
unsafe impl Shared for Cell {}
// SAFETY: likewise.
unsafe impl Shared for Crossing {}
// SAFETY: likewise.
unsafe impl Shared for Bell {}

/// The rows of a `BPF_F_MMAPABLE` array map.
pub struct Rows<T> {
    memory: MmapRaw,
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: the memory is only reached as `&T`, and a `Shared` is atomics.
unsafe impl<T: Shared + Sync> Sync for Rows<T> {}

impl<T: Shared> Rows<T> {
    /// Maps the rows of `map`.
    ///
    /// # Errors
    /// Its rows are of another size, or it cannot be mapped.
    pub fn of(map: &MapHandle) -> io::Result<Rows<T>> {
        // The kernel rounds rows up to words.
        if map.value_size() as usize != size_of::<T>() || !size_of::<T>().is_multiple_of(8) {
            let text = format!("rows of {} bytes where {} are expected", map.value_size(), size_of::<T>());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let len = map.max_entries() as usize;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::InvalidData)?;
        let memory = MmapOptions::new().len(bytes).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Rows { memory, len, of: PhantomData })
    }

    /// Rows of zeroes in plain memory.
    ///
    /// # Errors
    /// Memory is short.
    pub fn plain(len: usize) -> io::Result<Rows<T>> {
        let memory = MmapMut::map_anon(len * size_of::<T>())?;
        Ok(Rows { memory: memory.into(), len, of: PhantomData })
    }

    /// Row `at`; `None` behind the last.
    pub fn get(&self, at: usize) -> Option<&T> {
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; any bytes are a `Shared`.
        (at < self.len).then(|| unsafe { &*self.memory.as_ptr().cast::<T>().add(at) })
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|at| self.get(at))
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.len)
    }
}
