//! A UMEM and the free list of its frames: what the ports of one wire receive into and send from, or what clones are
//! made in. Stores share nothing, so whatever happens in one, every other has the frames it was made with.

use std::io;
use std::sync::Arc;

use super::area::Area;
use super::frame::Partition;
use super::pool::Pool;
use super::umem::{Census, Umem};

/// Frames of one partition.
#[derive(Debug)]
pub struct Store<P> {
    pub(crate) umem: Umem<P>,
    pub(crate) pool: Pool<P>,
}

impl<P: Partition> Store<P> {
    /// A store of `frames` frames of `frame_size` bytes, all free.
    ///
    /// # Errors
    /// The frame size is neither 2048 nor 4096, there are too many frames, or memory is short.
    pub fn new(frames: u32, frame_size: u32) -> io::Result<Store<P>> {
        let (umem, tokens) = Umem::new(frames, frame_size)?;
        Ok(Store { umem, pool: Pool::new(tokens) })
    }

    /// Its memory, for registration with the kernel.
    pub fn area(&self) -> &Arc<Area> {
        self.umem.area()
    }

    /// Its frames by holder.
    pub fn census(&self) -> Census {
        self.umem.census()
    }

    /// Whether every frame is accounted for: free, with the kernel, or lent.
    pub fn conserves_frames(&self) -> bool {
        self.census().in_hand == self.pool.len()
    }
}
