//! How a clone lies in frames: each of its packets in one, or in several one behind another where it is longer than that.

use super::drop::DropReason;
use super::origin::Account;
use super::original::Original;
use super::supers::Supers;

/// Where the frames of clones are filled and handed over.
pub(super) trait Tray {
    /// Has the next frame filled with `len` bytes, and hands it over if `write` could. There is one. Whether its packet
    /// `goes_on` in the frame behind it.
    fn put(&mut self, len: u32, goes_on: bool, write: impl FnOnce(&mut [u8]) -> bool) -> bool;
}

/// Frames of `size` bytes that a clone takes.
#[inline]
pub(super) fn frames_of<O: Original>(original: &O, size: u32) -> u32 {
    if original.len() <= size {
        return original.frames();
    }
    (0..original.frames()).fold(0, |sum: u32, packet| sum.saturating_add(original.len_of(packet).div_ceil(size)))
}

/// How an original is to lie in frames.
pub(super) struct Spread<'a> {
    /// Bytes of a frame.
    pub(super) size: u32,
    pub(super) account: Account,
    pub(super) supers: &'a mut Supers,
    /// Where a packet is made that is longer than a frame.
    pub(super) whole: &'a mut [u8],
}

impl Spread<'_> {
    /// Copies an original into as many frames as [`frames_of`] says.
    ///
    /// # Errors
    /// It cannot be written, and nothing of it is on its way.
    #[inline]
    pub(super) fn over<O: Original>(mut self, original: &O, tray: &mut impl Tray) -> Result<(), DropReason> {
        (0..original.frames()).try_for_each(|packet| {
            let len = original.len_of(packet);
            if len > self.size {
                self.long(original, packet, len, tray)
            } else if tray.put(len, false, |to| original.write(packet, to)) {
                Ok(())
            } else {
                self.supers.lose(self.account)
            }
        })
    }

    #[cold]
    fn long<O: Original>(
        &mut self,
        original: &O,
        packet: u32,
        len: u32,
        tray: &mut impl Tray,
    ) -> Result<(), DropReason> {
        let Spread { size, account, supers, whole } = self;
        let mut left = len.div_ceil(*size);
        let written = whole.get_mut(..len as usize).and_then(|whole| original.write(packet, whole).then_some(whole));
        let Some(whole) = written else { return (0..left).try_for_each(|_| supers.lose(*account)) };
        whole.chunks(*size as usize).try_for_each(|part| {
            left -= 1;
            let copy = |to: &mut [u8]| {
                to.copy_from_slice(part);
                true
            };
            if tray.put(part.len() as u32, left > 0, copy) { Ok(()) } else { supers.lose(*account) }
        })
    }
}
