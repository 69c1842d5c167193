//! The memory of a UMEM: frames, one behind another.
//!
//! ```text
//!   0          size         2 * size                  frames * size
//!   | frame 0  | frame 1    | ...                     |              index = address >> log2(size)
//! ```
//!
//! Who asks for a frame's bytes shows what says that nobody else touches them: the token, the loan, or, in place of the
//! kernel, an address from a ring.
#![allow(unsafe_code)]

use std::io;

use memmap2::{Advice, MmapMut, MmapRaw};

use super::abi::Desc;
use super::frame::{Extent, Frame, Loan, Partition};

/// The memory of a UMEM. Shared between the shard that uses it and the thread that registers it.
#[derive(Debug)]
pub struct Area {
    memory: MmapRaw,
    frame_size: u32,
}

impl Area {
    /// Memory for `frames` frames of `frame_size` bytes, for one at least.
    ///
    /// # Errors
    /// Memory is short.
    pub(super) fn new(frames: u32, frame_size: u32) -> io::Result<Area> {
        let memory = MmapRaw::from(memory(frames.max(1) as usize * frame_size as usize)?);
        Ok(Area { memory, frame_size })
    }

    /// Address of the first frame, for registration with the kernel.
    pub fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.memory.len() == 0
    }

    /// Bytes of a frame.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// Copies the packet of a descriptor out; `None` where it lies outside the area. What the kernel does on
    /// transmission, for the kernel-free rings.
    pub(super) fn kernel_read(&self, desc: Desc) -> Option<Vec<u8>> {
        let at = self.kernel_range(desc.addr, desc.len as usize)?;
        let mut bytes = vec![0; desc.len as usize];
        // SAFETY: in bounds by `kernel_range`; a frame named by a tx descriptor has no token (Holder::tx), so
        // nobody writes it.
        unsafe { std::ptr::copy_nonoverlapping(self.memory.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) };
        Some(bytes)
    }

    /// Copies a packet in; `None` where it does not fit. What the kernel does on receive, for the kernel-free
    /// rings.
    pub(super) fn kernel_write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        let at = self.kernel_range(addr, bytes.len())?;
        // SAFETY: in bounds by `kernel_range`; a frame named by a fill entry has no token (Holder::fill_rx), so
        // nobody else touches it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().add(at), bytes.len()) };
        Some(())
    }

    /// The first `len` bytes of a frame lent from this area, to write. Empty where a frame has fewer.
    #[inline]
    pub(crate) fn loan_mut<'a>(&'a self, loan: &'a mut Loan, len: u32) -> &'a mut [u8] {
        let at = u64::from(loan.index()) * u64::from(self.frame_size);
        match self.kernel_range(at, len as usize).filter(|_| len <= self.frame_size) {
            // SAFETY: in bounds by `kernel_range`. The loan is borrowed exclusively for as long as the slice lives: its
            // owner has noted the frame as lent and does not touch it before it is given back, so nobody else does.
            Some(at) => unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(at), len as usize) },
            None => &mut [],
        }
    }

    /// The bytes of a packet in hand. Empty where the extent lies outside the frame.
    pub(crate) fn packet<'a, P: Partition>(&'a self, frame: &'a Frame<P>, at: Extent) -> &'a [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed, so the frame is in nobody else's
            // hands and nobody writes it while the bytes are.
            Some(start) => unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), at.len as usize) },
            None => &[],
        }
    }

    /// The bytes of a frame in hand, to write. Empty where the extent lies outside the frame.
    pub(crate) fn packet_mut<'a, P: Partition>(&'a self, frame: &'a mut Frame<P>, at: Extent) -> &'a mut [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed exclusively, so the frame is in nobody
            // else's hands and nobody else touches the bytes while the slice lives.
            Some(start) => unsafe {
                std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(start), at.len as usize)
            },
            None => &mut [],
        }
    }

    #[inline]
    fn position<P: Partition>(&self, frame: &Frame<P>, at: Extent) -> Option<usize> {
        let end = u64::from(at.offset) + u64::from(at.len);
        let start = frame.index() as usize * self.frame_size as usize;
        // The memory's end is checked too: a token of another UMEM must not reach outside this one.
        (end <= u64::from(self.frame_size) && start < self.memory.len()).then(|| start + at.offset as usize)
    }

    fn kernel_range(&self, addr: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(addr).ok()?;
        at.checked_add(len).filter(|&end| end <= self.memory.len()).map(|_| at)
    }
}

/// Zeroed memory for frames: in huge pages where the kernel has some to give, so that a frame the processor has not
/// touched lately does not cost it a walk of the page tables as well, and with every page there from the beginning.
///
/// # Errors
/// Memory is short.
pub fn memory(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes)?;
    for advice in [Advice::HugePage, Advice::PopulateWrite] {
        match memory.advise(advice) {
            // A kernel without the one or the other: small pages serve as well, and pages come when they are touched.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::debug!(?advice, "frames: this kernel does not know the advice");
            }
            other => other?,
        }
    }
    Ok(memory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::frame::{Primary, RX_OFFSET};
    use super::*;

    #[test]
    fn bytes_are_copied_whole_and_in_bounds() {
        let area = Area::new(2, 2048).unwrap();
        let (mut from, to) = (Frame::<Primary>::from_index(1), Frame::<Primary>::from_index(0));
        let text: Vec<u8> = (0..=255).cycle().take(1792).collect();
        area.kernel_write(u64::from(RX_OFFSET), &text).unwrap();
        let at = Extent { offset: RX_OFFSET, len: 1792 };
        assert_eq!(area.packet(&to, at), text);
        let at = Extent { offset: 0, len: 1792 };
        area.packet_mut(&mut from, at).copy_from_slice(&text);
        assert_eq!(area.packet(&from, at), text);
        assert!(area.packet_mut(&mut from, Extent { offset: 0, len: 2049 }).is_empty());
        let mut loan = Loan::arrived(0);
        area.loan_mut(&mut loan, 2048).fill(7);
        assert_eq!(area.packet(&to, Extent { offset: 0, len: 2048 }), [7; 2048]);
        assert_eq!(area.packet(&from, at), text, "the one behind it");
        assert!(area.loan_mut(&mut loan, 2049).is_empty());
        assert!(area.loan_mut(&mut Loan::arrived(2), 1).is_empty(), "outside the area");
        assert!(area.packet(&to, Extent { offset: 300, len: 1792 }).is_empty());
        assert!(area.packet(&to, Extent { offset: u32::MAX, len: 2 }).is_empty());
    }
}
