//! Settling: what became of clones goes into their ledgers.

use shm_layout::counters::Entry;

use super::drop::DropReason;
use super::origin::Account;
use super::supers::{Ended, Supers};
use crate::counters::ShardBlock;

/// The ledgers of one shard, open. Clones of one entry that were delivered in a row are entered at once.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    block: &'a ShardBlock,
    supers: &'a mut Supers,
    slot: u32,
    packets: u64,
    bytes: u64,
}

impl<'a> Settling<'a> {
    pub(super) fn new(block: &'a ShardBlock, supers: &'a mut Supers) -> Settling<'a> {
        Settling { block, supers, slot: 0, packets: 0, bytes: 0 }
    }

    /// A clone's frame of `len` bytes was sent, or was not.
    #[inline]
    pub(super) fn settle(&mut self, account: Account, len: u32, outcome: Result<(), DropReason>) {
        match (account.super_at(), outcome) {
            (None, Ok(())) => self.delivered(account.slot(), len),
            (None, Err(reason)) => self.block.entry(account.slot()).commit(|row| reason.enter_in_flight(row)),
            (Some(at), _) => self.settle_segment(at, len, outcome),
        }
    }

    #[inline]
    fn delivered(&mut self, slot: u32, len: u32) {
        if slot != self.slot {
            self.enter();
            self.slot = slot;
        }
        self.packets += 1;
        self.bytes += u64::from(len);
    }

    fn settle_segment(&mut self, at: u32, len: u32, outcome: Result<(), DropReason>) {
        let Some(Ended { slot, outcome }) = self.supers.end(at, len, outcome) else { return };
        self.block.entry(slot).commit(|row| match outcome {
            Ok((segments, bytes)) => {
                row.add(Entry::MirroredPackets, 1);
                row.add(Entry::MirroredBytes, bytes.into());
                row.add(Entry::MirroredSegments, segments.into());
                row.subtract(Entry::InFlight, 1);
            }
            Err(reason) => reason.enter_in_flight(row),
        });
    }

    fn enter(&mut self) {
        if self.packets > 0 {
            self.block.entry(self.slot).commit(|row| {
                row.add(Entry::MirroredPackets, self.packets);
                row.add(Entry::MirroredBytes, self.bytes);
                row.subtract(Entry::InFlight, self.packets);
            });
            (self.packets, self.bytes) = (0, 0);
        }
    }
}

impl Drop for Settling<'_> {
    #[inline]
    fn drop(&mut self) {
        self.enter();
    }
}
