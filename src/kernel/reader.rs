//! What who reads a clone ring does with the words it shares with who writes: over mapped memory, or a model checker's
//! (`tests/loom_rings.rs`).
//!
//! # Orderings
//! - The producer's position (Release, by the writer): pairs with the reader's load of it (Acquire). Headers up to there are
//!   written, those of records still to be submitted with [`BUSY`] in them.
//! - A header without that (Release, by the writer): pairs with the reader's load of it (Acquire). The record is written.
//! - The consumer's position (Release, by the reader): pairs with the writer's load of it (Acquire). What was there was read.
//! - The bell, then the look at the producer's position, with a fence between; the writer reserves, then looks at the bell, with
//!   a fence between: one of the two sees the other.

use std::cell::Cell;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// `BPF_RINGBUF_BUSY_BIT`: the record is not submitted yet.
pub const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: the record is nothing.
pub const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`: before each record, its length in the first word.
pub const HEADER: usize = 8;

/// Which of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Up to where room was given back.
    Consumer,
    /// Up to where records are reserved.
    Producer,
    /// The header's of the record at a position, 32 bits.
    Header(u64),
    /// 1 while the reader is to be woken, 32 bits.
    Bell,
}

/// The words of a ring. Positions run over all of `u64`, and a place is `position % size`.
pub trait Words {
    /// Bytes of the ring, a power of two.
    fn size(&self) -> u64;
    /// As of an atomic.
    fn load(&self, word: Word, order: Ordering) -> u64;
    /// As of an atomic; of 32 bits the low ones.
    fn store(&self, word: Word, value: u64, order: Ordering);
    /// A fence that is SeqCst.
    fn fence(&self);
}

/// The end that reads.
#[derive(Debug)]
pub struct Reader<W> {
    words: W,
    /// What was given back so far.
    position: u64,
    /// Where the producer was when it was looked at last: its word is written by another processor with each record.
    end: Cell<u64>,
    nonsense: Cell<u64>,
}

impl<W: Words> Reader<W> {
    /// Reads on from `position`, which the consumer's word has.
    pub fn new(words: W, position: u64) -> Reader<W> {
        Reader { words, position, end: Cell::new(position), nonsense: Cell::new(0) }
    }

    /// The words.
    #[inline]
    pub(super) fn words(&self) -> &W {
        &self.words
    }

    /// Where the reader is.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Position and length of the next record from `cursor` on, which moves behind it; `None` where none is submitted. Its bytes
    /// are the reader's until it is released. A cursor begins at [`Reader::position`].
    #[inline]
    pub fn next(&self, cursor: &mut u64) -> Option<(u64, usize)> {
        loop {
            if *cursor == self.end.get() {
                // Acquire: pairs with the producer's Release; headers up to there are written.
                self.end.set(self.words.load(Word::Producer, Acquire));
                if *cursor == self.end.get() {
                    return None;
                }
            }
            // Acquire: pairs with the submission.
            let word = self.words.load(Word::Header(*cursor), Acquire) as u32;
            if word & BUSY != 0 {
                return None;
            }
            let len = (word & !DISCARD) as usize;
            let whole = (len + HEADER).next_multiple_of(8) as u64;
            let end = self.end.get();
            let (held, ahead) = (end.wrapping_sub(self.position), end.wrapping_sub(*cursor));
            if held > self.words.size() || ahead > held || whole > ahead {
                self.count_nonsense();
                *cursor = end;
                return None;
            }
            let at = *cursor;
            *cursor = at.wrapping_add(whole);
            if word & DISCARD == 0 {
                return Some((at, len));
            }
        }
    }

    /// What was to be read made no sense.
    #[cold]
    pub(super) fn count_nonsense(&self) {
        self.nonsense.set(self.nonsense.get() + 1);
    }

    /// How often it did not.
    pub fn nonsense(&self) -> u64 {
        self.nonsense.get()
    }

    /// Gives the room of every record before `cursor` back.
    #[inline]
    pub fn release(&mut self, cursor: u64) {
        if cursor != self.position {
            self.position = cursor;
            // Release: pairs with the producer's Acquire; the records were read before.
            self.words.store(Word::Consumer, cursor, Release);
        }
    }

    /// Whether there is something to read, or will be soon.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.words.load(Word::Producer, Acquire) != self.position
    }

    /// Whether half of the ring or more is taken.
    pub fn is_crowded(&self) -> bool {
        2 * self.words.load(Word::Producer, Acquire).wrapping_sub(self.position).min(self.words.size())
            >= self.words.size()
    }

    /// From here on until [`Reader::rise`] the reader is woken; its look for news comes after.
    pub fn lie_down(&self) {
        self.words.store(Word::Bell, 1, Relaxed);
        self.words.fence();
    }

    /// The reader is awake.
    pub fn rise(&self) {
        self.words.store(Word::Bell, 0, Relaxed);
    }
}
