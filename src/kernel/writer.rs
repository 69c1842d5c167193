//! The selector's end of a clone ring in plain memory, for tests and benches without a kernel.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::abi::RecordHead;
use super::rings::{BUSY, DISCARD, HEADER, Parts};

/// Reserves, fills and submits records, as the kernel does.
#[derive(Debug)]
pub struct Writer {
    parts: Parts,
    position: u64,
}

/// Room that was reserved.
#[must_use = "a reader waits for it"]
#[derive(Debug)]
pub struct Reserved(u64);

impl Writer {
    pub(super) fn new(parts: Parts, position: u64) -> Writer {
        Writer { parts, position }
    }

    /// Reserves room for a record of `len` bytes; `None` where there is not enough.
    pub fn reserve(&mut self, len: usize) -> Option<Reserved> {
        let size = self.parts.size();
        let whole = (len + HEADER).next_multiple_of(8) as u64;
        // It is mapped once: what would run over the end goes to the beginning, behind something discarded.
        let to_end = size - (self.position & (size - 1));
        let skipped = if whole > to_end { to_end } else { 0 };
        // Acquire: pairs with the reader's Release.
        let used = self.position.wrapping_sub(self.parts.consumer().load(Acquire));
        if used.saturating_add(skipped + whole) > size {
            return None;
        }
        if skipped > 0 {
            self.parts.word(self.position).store((skipped as u32 - HEADER as u32) | DISCARD, Relaxed);
            self.position = self.position.wrapping_add(skipped);
        }
        let at = self.position;
        self.parts.word(at).store(len as u32 | BUSY, Relaxed);
        self.position = at.wrapping_add(whole);
        // Release: pairs with the reader's Acquire; the headers are written.
        self.parts.producer().store(self.position, Release);
        Some(Reserved(at))
    }

    /// Writes a record into room reserved for it and shows it to the reader.
    pub fn submit(&mut self, room: Reserved, record: &[u8]) {
        let len = self.parts.fill(room.0, record);
        // Release: pairs with the reader's Acquire.
        self.parts.word(room.0).store(len, Release);
    }

    /// Gives reserved room up.
    pub fn discard(&mut self, room: Reserved) {
        let word = self.parts.word(room.0);
        word.store(word.load(Relaxed) & !BUSY | DISCARD, Release);
    }

    /// Where the next record will be.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes what the kernel would not: the header at a position, which is wrapped into the ring.
    pub fn scrawl(&mut self, position: u64, header: u32) {
        self.parts.word(position).store(header, Release);
    }

    /// Writes what the kernel would not: says that the ring is filled up to anywhere, and goes on at the word there.
    pub fn jump(&mut self, position: u64) {
        self.position = position & !7;
        self.parts.producer().store(position, Release);
    }

    /// Puts a clone into the ring; whether there was room.
    pub fn put(&mut self, head: RecordHead, frame: &[u8]) -> bool {
        let head = RecordHead { len: frame.len() as u32, ..head };
        let record = [bytemuck::bytes_of(&head), frame].concat();
        self.reserve(record.len()).map(|room| self.submit(room, &record)).is_some()
    }
}
