//! What selects frames before a shard sees them, as far as the ledgers of entries are concerned.

use std::fmt;

use crate::counters::Counted;

/// The kernel's selector, for those who must not know it.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Makes the ledgers in some slots zero, before a table that has those is put in force.
    ///
    /// # Errors
    /// What was short. It is tried again with the same table.
    fn reset(&self, slots: &[u32]) -> Result<(), String>;

    /// What was counted in a slot of frames whose clones go through the rings that this shard reads.
    fn counted(&self, slot: u32, shard: u32) -> Counted;

    /// Serial of the oldest table by which a frame may still be selected; `u64::MAX` while none is.
    fn serial(&self) -> u64;
}
