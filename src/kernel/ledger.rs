//! The ledgers that the selector keeps, by entry and processor: mapped, and read without a system call.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, OnceLock};

use super::abi::{CHUNK_SLOTS, Cell};
use super::maps::{MapError, Maps};
use super::rows::Rows;
use crate::counters::Counted;

/// Chunks that are added at once, at most: the kernel waits for its readers once a call, and descriptors are short where they
/// are many.
const ADDED_AT_ONCE: usize = 128;

/// The ledgers of all entries. There is memory for those that were made room for.
#[derive(Debug)]
pub struct Ledger {
    maps: Arc<Maps>,
    chunks: Box<[OnceLock<Rows<Cell>>]>,
}

impl Ledger {
    /// Room for none yet, and for at most `slots`.
    pub fn new(maps: Arc<Maps>, slots: u32) -> Ledger {
        Ledger { maps, chunks: (0..slots.div_ceil(CHUNK_SLOTS)).map(|_| OnceLock::new()).collect() }
    }

    /// Makes the ledgers in some slots zero, and room for them where there is none. Only while no bank in force has the slots.
    ///
    /// # Errors
    /// Memory is short.
    pub fn reset(&self, slots: &[u32]) -> Result<(), MapError> {
        let is_missing = |chunk: &u32| self.chunks.get(*chunk as usize).is_some_and(|place| place.get().is_none());
        let missing: BTreeSet<u32> = slots.iter().map(|slot| slot / CHUNK_SLOTS).filter(is_missing).collect();
        // Those there are: new ones are zero.
        for &slot in slots.iter().filter(|&slot| !missing.contains(&(slot / CHUNK_SLOTS))) {
            (0..self.maps.processors()).filter_map(|processor| self.cell(slot, processor)).for_each(clear);
        }
        let missing: Vec<u32> = missing.into_iter().collect();
        missing.chunks(ADDED_AT_ONCE).try_for_each(|some| {
            for (chunk, rows) in some.iter().zip(self.maps.add_chunks(some)?) {
                // Of two at once, which nobody does, the first stays.
                let _ = self.chunks[*chunk as usize].set(rows);
            }
            Ok(())
        })
    }

    /// What was counted of an entry on a processor: zero where there is no ledger.
    ///
    /// Whoever reads what became of clones first finds at least those handed up here, as parts are read before the whole.
    pub fn read(&self, slot: u32, processor: u32) -> Counted {
        let Some(cell) = self.cell(slot, processor) else { return Counted::default() };
        // Acquire: keeps the order in which they are read, the reverse of that in which they are written.
        let (ring_full, oversize) = (cell.ring_full.load(Acquire), cell.oversize.load(Acquire));
        let unreadable = cell.unreadable.load(Acquire);
        let selected = cell.selected.load(Acquire);
        // On machines that show stores in another order the whole may be behind.
        let observed = cell.observed.load(Acquire).max(selected);
        Counted { observed, selected, ring_full, oversize, unreadable }
    }

    /// What was counted of an entry on all processors.
    pub fn total(&self, slot: u32) -> Counted {
        let mut total = Counted::default();
        (0..self.maps.processors()).for_each(|processor| total += self.read(slot, processor));
        total
    }

    fn cell(&self, slot: u32, processor: u32) -> Option<&Cell> {
        let chunk = self.chunks.get((slot / CHUNK_SLOTS) as usize)?.get()?;
        chunk.get((slot % CHUNK_SLOTS * self.maps.processors() + processor) as usize)
    }
}

fn clear(cell: &Cell) {
    cell.until.store(0, Relaxed);
    for value in [&cell.observed, &cell.selected, &cell.ring_full, &cell.oversize, &cell.unreadable] {
        value.store(0, Relaxed);
    }
}
