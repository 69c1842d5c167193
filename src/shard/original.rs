//! What is to be cloned, wherever it lies: a frame in hand, or a record of a clone ring.

use super::drop::DropReason;

/// An original that was selected.
pub(super) trait Original {
    /// Bytes of its clone, of the longest of its frames where it takes several.
    fn len(&self) -> u32;

    /// Frames that its clone takes: several of a super-frame.
    #[inline]
    fn frames(&self) -> u32 {
        1
    }

    /// Bytes of one of them.
    #[inline]
    fn len_of(&self, _frame: u32) -> u32 {
        self.len()
    }

    /// Writes one of them to `to`, which has as many bytes as it. Whether it could.
    fn write(&self, frame: u32, to: &mut [u8]) -> bool;

    /// Frames that the clones of `count` such originals take, at most.
    #[inline]
    fn room(count: u32) -> u32 {
        count
    }

    /// Whether its clone can be sent at all, where none of its frames may be longer.
    #[inline]
    fn admit(&self, longest: u32) -> Result<(), DropReason> {
        match self.len() {
            0 => Err(DropReason::TxInvalid),
            len if len > longest => Err(DropReason::Oversize),
            _ => Ok(()),
        }
    }
}
