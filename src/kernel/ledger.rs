//! The ledgers that the selector keeps, by entry and processor: mapped, and read without a system call.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, OnceLock};

use super::abi::{CHUNK_SLOTS, Cell};
use super::maps::{MapError, Maps};
use super::rows::Rows;
use crate::counters::Counted;

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

    /// Makes a slot's ledger zero, and room for it where there is none. Only while no bank in force has the slot.
    ///
    /// # Errors
    /// Memory is short.
    pub fn reset(&self, slot: u32) -> Result<(), MapError> {
        let chunk = slot / CHUNK_SLOTS;
        let Some(place) = self.chunks.get(chunk as usize) else { return Ok(()) };
        if place.get().is_none() {
            // A new one is zero; of two at once, which nobody does, the first stays.
            let _ = place.set(self.maps.add_chunk(chunk)?);
            return Ok(());
        }
        for processor in 0..self.maps.processors() {
            if let Some(cell) = self.cell(slot, processor) {
                cell.until.store(0, Relaxed);
                for value in [&cell.observed, &cell.selected, &cell.ring_full, &cell.oversize, &cell.unreadable] {
                    value.store(0, Relaxed);
                }
            }
        }
        Ok(())
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
