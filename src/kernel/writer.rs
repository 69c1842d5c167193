//! The selector's end of a clone ring in plain memory, for tests and benches without a kernel: what it does with the words that
//! it shares with the [`super::reader`] is what the kernel does.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use super::abi::RecordHead;
use super::reader::{BUSY, DISCARD, HEADER, Word, Words};
use super::rings::Parts;

/// Reserves, fills and submits records, as the kernel does.
#[derive(Debug)]
pub struct Writer<W = Parts> {
    words: W,
    position: u64,
}

/// Room that was reserved.
#[must_use = "a reader waits for it"]
#[derive(Debug)]
pub struct Reserved(u64);

impl<W: Words> Writer<W> {
    /// Writes on from `position`, which both positions' words have.
    pub fn new(words: W, position: u64) -> Writer<W> {
        Writer { words, position }
    }

    /// Reserves room for a record of `len` bytes; `None` where there is not enough.
    pub fn reserve(&mut self, len: usize) -> Option<Reserved> {
        let size = self.words.size();
        let whole = (len + HEADER).next_multiple_of(8) as u64;
        // It is mapped once: what would run over the end goes to the beginning, behind something discarded.
        let to_end = size - (self.position & (size - 1));
        let skipped = if whole > to_end { to_end } else { 0 };
        // Acquire: pairs with the reader's Release.
        let used = self.position.wrapping_sub(self.words.load(Word::Consumer, Acquire));
        if used.saturating_add(skipped + whole) > size {
            return None;
        }
        if skipped > 0 {
            self.header(self.position, (skipped as u32 - HEADER as u32) | DISCARD, Relaxed);
            self.position = self.position.wrapping_add(skipped);
        }
        let at = self.position;
        self.header(at, len as u32 | BUSY, Relaxed);
        self.position = at.wrapping_add(whole);
        // Release: pairs with the reader's Acquire; the headers are written.
        self.words.store(Word::Producer, self.position, Release);
        Some(Reserved(at))
    }

    fn header(&self, position: u64, header: u32, order: Ordering) {
        self.words.store(Word::Header(position), header.into(), order);
    }

    /// Shows a record to the reader: so many bytes are written to the room reserved for it.
    pub fn show(&mut self, room: Reserved, len: u32) {
        // Release: pairs with the reader's Acquire.
        self.header(room.0, len, Release);
    }

    /// Gives reserved room up.
    pub fn discard(&mut self, room: Reserved) {
        let header = self.words.load(Word::Header(room.0), Relaxed) as u32;
        self.header(room.0, header & !BUSY | DISCARD, Release);
    }

    /// Where the next record will be.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes what the kernel would not: the header at a position, which is wrapped into the ring.
    pub fn scrawl(&mut self, position: u64, header: u32) {
        self.header(position, header, Release);
    }

    /// Writes what the kernel would not: says that the ring is filled up to anywhere, and goes on at the word there.
    pub fn jump(&mut self, position: u64) {
        self.position = position & !7;
        self.words.store(Word::Producer, position, Release);
    }
}

impl Writer {
    /// Writes a record into room reserved for it and shows it to the reader.
    pub fn submit(&mut self, room: Reserved, record: &[u8]) {
        let len = self.words.fill(room.0, record);
        self.show(room, len);
    }

    /// Puts a clone into the ring; whether there was room.
    pub fn put(&mut self, head: RecordHead, frame: &[u8]) -> bool {
        let head = RecordHead { len: frame.len() as u32, ..head };
        let record = [bytemuck::bytes_of(&head), frame].concat();
        self.reserve(record.len()).map(|room| self.submit(room, &record)).is_some()
    }
}
