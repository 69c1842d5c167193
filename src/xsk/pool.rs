//! Free lists: last in, first out, so that the frames in use stay in cache.

use std::marker::PhantomData;

use super::frame::Frame;

/// The free frames of one UMEM. It has room for all it was made with and never allocates.
#[derive(Debug)]
pub struct Pool<P> {
    /// Indices of frames that no other token exists for; those beyond `len` mean nothing.
    free: Box<[u32]>,
    len: usize,
    partition: PhantomData<P>,
}

impl<P> Pool<P> {
    /// A pool of all frames of a UMEM.
    pub(crate) fn new(frames: Vec<Frame<P>>) -> Pool<P> {
        let free: Box<[u32]> = frames.into_iter().map(Frame::into_index).collect();
        Pool { len: free.len(), free, partition: PhantomData }
    }

    /// Gives a frame back.
    #[inline]
    pub(crate) fn put(&mut self, frame: Frame<P>) {
        self.open().put(frame);
    }

    /// A free frame.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Frame<P>> {
        self.open().take()
    }

    /// For several frames in a row: the pool's state stays in registers meanwhile.
    #[inline]
    pub(crate) fn open(&mut self) -> OpenPool<'_, P> {
        OpenPool { free: &mut self.free, at: self.len, len: &mut self.len, partition: PhantomData }
    }

    /// Free frames.
    pub fn len(&self) -> u32 {
        self.len as u32
    }

    /// Whether none is free.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A pool that frames are being taken from and given back to.
#[derive(Debug)]
pub(crate) struct OpenPool<'a, P> {
    free: &'a mut [u32],
    at: usize,
    /// Of the pool.
    len: &'a mut usize,
    partition: PhantomData<P>,
}

impl<P> OpenPool<'_, P> {
    /// Free frames.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.at as u32
    }

    /// Gives a frame back.
    #[inline]
    pub(crate) fn put(&mut self, frame: Frame<P>) {
        // There is room: no frame has two tokens, and a pool begins with all.
        if let Some(place) = self.free.get_mut(self.at) {
            *place = frame.into_index();
            self.at += 1;
        }
    }

    /// A free frame.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Frame<P>> {
        let at = self.at.checked_sub(1)?;
        let index = *self.free.get(at)?;
        self.at = at;
        Some(Frame::from_index(index))
    }
}

impl<P> Drop for OpenPool<'_, P> {
    #[inline]
    fn drop(&mut self) {
        *self.len = self.at;
    }
}
