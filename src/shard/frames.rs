//! Free lists: last in, first out, so that the frames in use stay in cache.

use crate::xsk::umem::Frame;

/// The free frames of one partition.
#[derive(Debug)]
pub struct Pool<P> {
    free: Vec<Frame<P>>,
}

impl<P> Pool<P> {
    /// A pool of these frames. It never holds more than it was made with, so it never allocates.
    pub fn new(free: Vec<Frame<P>>) -> Pool<P> {
        Pool { free }
    }

    /// A free frame.
    #[inline]
    pub fn take(&mut self) -> Option<Frame<P>> {
        self.free.pop()
    }

    /// Gives a frame back.
    #[inline]
    pub fn put(&mut self, frame: Frame<P>) {
        self.free.push(frame);
    }

    /// Free frames.
    pub fn len(&self) -> u32 {
        self.free.len() as u32
    }

    /// Whether none is free.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}
