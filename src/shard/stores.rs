//! The frames of the wires: a store for each wire that this shard serves queues of, at a place of its own.
//!
//! A frame in a fill ring cannot be taken back from the kernel. So frames are not divided anew with every port that
//! comes and goes: a wire gets its own before its ports are opened, keeps them for as long as they are, and no other
//! can have them.

use super::limits::MAX_STORES;
use crate::xsk::frame::Primary;
use crate::xsk::store::Store;
use crate::xsk::umem::Census;

/// Stores by place.
#[derive(Debug)]
pub struct Stores(Vec<Option<Box<Store<Primary>>>>);

impl Default for Stores {
    /// None yet, with room for all there can be.
    fn default() -> Self {
        Stores(Vec::with_capacity(MAX_STORES))
    }
}

impl Stores {
    /// The store at a place.
    #[inline]
    pub(super) fn of(&mut self, at: usize) -> Option<&mut Store<Primary>> {
        self.0.get_mut(at)?.as_deref_mut()
    }

    /// Keeps a store at a place. One beyond [`MAX_STORES`] is not kept.
    pub(super) fn lay(&mut self, at: usize, store: Box<Store<Primary>>) {
        if at >= self.0.len() && at < MAX_STORES {
            self.0.resize_with(at + 1, || None);
        }
        if let Some(place) = self.0.get_mut(at) {
            *place = Some(store);
        }
    }

    /// Gives a store away.
    pub(super) fn lift(&mut self, at: usize) -> Option<Box<Store<Primary>>> {
        let store = self.0.get_mut(at)?.take();
        // What is looked through is no longer than it must be.
        while self.0.last().is_some_and(Option::is_none) {
            self.0.pop();
        }
        store
    }

    /// Places up to the last one that has a store.
    pub(super) fn places(&self) -> usize {
        self.0.len()
    }

    /// All frames by holder.
    pub(super) fn census(&self) -> Census {
        self.0.iter().flatten().map(|store| store.census()).sum()
    }

    /// Free frames.
    pub(super) fn free(&self) -> u32 {
        self.0.iter().flatten().map(|store| store.pool.len()).sum()
    }

    /// Whether every frame of each is accounted for.
    pub(super) fn conserve_frames(&self) -> bool {
        self.0.iter().flatten().all(|store| store.conserves_frames())
    }
}
