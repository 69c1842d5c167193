//! Whose a clone is: the ledger that has it, the monitor queue of another shard that it goes to, and the clones of one
//! ledger that have arrived.

use shm_layout::counters::Entry;

use crate::counters::{ENTRY_SLOTS, ShardBlock};

/// A monitor queue of another shard, as a source sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Index of its owner in [`Lanes`](super::lanes::Lanes).
    pub peer: u32,
    /// The monitor port.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// Bytes of the largest clone it takes.
    pub longest: u32,
}

/// Whose clone a frame carries, as noted with it for its completion: the shard and the slot of its ledger there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u32);

impl Origin {
    const SLOT_BITS: u32 = 20;

    /// This shard's own clone.
    pub fn own(slot: u32) -> Origin {
        Origin(slot)
    }

    /// A clone of the shard with this index in [`Lanes`](super::lanes::Lanes).
    pub(super) fn of(peer: usize, slot: u32) -> Origin {
        Origin((peer as u32 + 1) << Origin::SLOT_BITS | slot)
    }

    /// From what [`Origin::tag`] gave.
    pub fn from_tag(tag: u32) -> Origin {
        Origin(tag)
    }

    /// As it is noted with a frame.
    pub fn tag(self) -> u32 {
        self.0
    }

    /// Index of the other shard in [`Lanes`](super::lanes::Lanes); `None` for this shard.
    #[inline]
    pub fn peer(self) -> Option<usize> {
        ((self.0 >> Origin::SLOT_BITS) as usize).checked_sub(1)
    }

    /// Slot of the ledger.
    #[inline]
    pub fn slot(self) -> u32 {
        self.0 & ((1 << Origin::SLOT_BITS) - 1)
    }
}

const _: () = assert!(ENTRY_SLOTS < 1 << Origin::SLOT_BITS);

/// Shards at most: a peer's index is noted beside a slot.
pub const MAX_SHARDS: usize = 1 << (31 - Origin::SLOT_BITS);

/// Completed clones of one entry in a row, before they go into its ledger.
#[derive(Default)]
pub(super) struct Delivered {
    slot: u32,
    packets: u64,
    bytes: u64,
}

impl Delivered {
    pub(super) fn add(&mut self, block: &ShardBlock, slot: u32, len: u32) {
        if slot != self.slot {
            self.enter(block);
            self.slot = slot;
        }
        self.packets += 1;
        self.bytes += u64::from(len);
    }

    pub(super) fn enter(&mut self, block: &ShardBlock) {
        if self.packets > 0 {
            block.entry(self.slot).commit(|row| {
                row.add(Entry::MirroredPackets, self.packets);
                row.add(Entry::MirroredBytes, self.bytes);
                row.subtract(Entry::InFlight, self.packets);
            });
            (self.packets, self.bytes) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_origin_keeps_shard_and_slot(peer in 0..MAX_SHARDS, slot in 0..ENTRY_SLOTS as u32) {
            let origin = Origin::from_tag(Origin::of(peer, slot).tag());
            prop_assert_eq!((origin.peer(), origin.slot()), (Some(peer), slot));
            prop_assert_eq!(Origin::own(slot).peer(), None);
        }
    }
}
