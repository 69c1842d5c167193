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

/// Copies an original into as many frames of `size` bytes as [`frames_of`] says. A packet that is longer is made in `whole`.
///
/// # Errors
/// It cannot be written, and nothing of it is on its way.
#[inline]
pub(super) fn spread<O: Original>(
    original: &O,
    size: u32,
    account: Account,
    supers: &mut Supers,
    whole: &mut [u8],
    tray: &mut impl Tray,
) -> Result<(), DropReason> {
    (0..original.frames()).try_for_each(|packet| {
        let len = original.len_of(packet);
        if len > size {
            long(original, (packet, len), size, account, supers, whole, tray)
        } else if tray.put(len, false, |to| original.write(packet, to)) {
            Ok(())
        } else {
            supers.lose(account)
        }
    })
}

#[cold]
fn long<O: Original>(
    original: &O,
    (packet, len): (u32, u32),
    size: u32,
    account: Account,
    supers: &mut Supers,
    whole: &mut [u8],
    tray: &mut impl Tray,
) -> Result<(), DropReason> {
    let mut left = len.div_ceil(size);
    let written = whole.get_mut(..len as usize).and_then(|whole| original.write(packet, whole).then_some(whole));
    let Some(whole) = written else { return (0..left).try_for_each(|_| supers.lose(account)) };
    whole.chunks(size as usize).try_for_each(|part| {
        left -= 1;
        let copy = |to: &mut [u8]| {
            to.copy_from_slice(part);
            true
        };
        if tray.put(part.len() as u32, left > 0, copy) { Ok(()) } else { supers.lose(account) }
    })
}
