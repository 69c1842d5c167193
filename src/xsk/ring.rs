//! The four AF_XDP rings: single-producer, single-consumer, shared with the kernel.
//!
//! An entry's life: the producer writes it into a free place and publishes the new producer index (Release);
//! the consumer sees the index (Acquire), reads the entry, and publishes the new consumer index (Release); the
//! producer sees that (Acquire) and may write the place again.
//!
//! Indices run over all of `u32` and wrap; a place is `index & (size - 1)`. The other side is not trusted: an
//! index further away than the ring's size counts as "nothing there".
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, fence};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapRaw};

use super::abi::Desc;

/// Addresses of frames for the kernel to receive into.
pub type FillRing = Producer<u64>;
/// Received packets.
pub type RxRing = Consumer<Desc>;
/// Packets to transmit.
pub type TxRing = Producer<Desc>;
/// Addresses of transmitted packets.
pub type CompletionRing = Consumer<u64>;

/// Byte offsets of a ring's parts in its memory (`struct xdp_ring_offset`).
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    /// The producer index.
    pub producer: usize,
    /// The consumer index.
    pub consumer: usize,
    /// The flags.
    pub flags: usize,
    /// The first entry.
    pub entries: usize,
}

impl Offsets {
    /// For rings in plain memory: the indices on cache lines of their own.
    pub const PLAIN: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };
}

/// One ring, seen from either side.
struct Raw<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// Keeps what the pointers lead into mapped.
    _memory: Arc<MmapRaw>,
}

// SAFETY: the pointers lead into `_memory`, which the ring keeps alive; indices and flags are only accessed as
// atomics, entries only by the side that owns the place (see the module's text).
unsafe impl<T: Pod + Send> Send for Raw<T> {}

impl<T: Pod> Raw<T> {
    fn new(memory: Arc<MmapRaw>, at: Offsets, size: u32) -> io::Result<Raw<T>> {
        let fits = |offset: usize, len: usize, align: usize| {
            offset.is_multiple_of(align) && offset.checked_add(len).is_some_and(|end| end <= memory.len())
        };
        let index = |offset| fits(offset, 4, 4);
        if !size.is_power_of_two()
            || !index(at.producer)
            || !index(at.consumer)
            || !index(at.flags)
            || !fits(at.entries, size as usize * size_of::<T>(), align_of::<T>())
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "ring offsets outside the ring's mapping"));
        }
        let base = memory.as_mut_ptr();
        let part = |offset: usize| NonNull::new(base.wrapping_add(offset)).ok_or(io::ErrorKind::InvalidData);
        Ok(Raw {
            producer: part(at.producer)?.cast(),
            consumer: part(at.consumer)?.cast(),
            flags: part(at.flags)?.cast(),
            entries: part(at.entries)?.cast(),
            size,
            _memory: memory,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: inside `_memory` and aligned, checked by Raw::new; only ever accessed as an atomic.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer index.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for the producer index.
        unsafe { self.flags.as_ref() }
    }

    /// Entries from `from` to `to`, or `None` where no correct pair of indices could give that many.
    fn distance(&self, from: u32, to: u32) -> Option<u32> {
        let n = to.wrapping_sub(from);
        (n <= self.size).then_some(n)
    }
}

impl<T> fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring of {} entries", self.size)
    }
}

/// The producing end of a ring.
#[derive(Debug)]
pub struct Producer<T> {
    raw: Raw<T>,
    /// The next place to write; ahead of the published index by what is not submitted.
    next: u32,
    /// The published index.
    submitted: u32,
    /// The consumer index as last seen.
    consumed: u32,
}

impl<T: Pod> Producer<T> {
    /// The producing end of the ring at `at` in `memory`, going on from the indices found there. The caller sees to
    /// it that there is no other.
    ///
    /// # Errors
    /// The offsets do not fit the memory, or the size is no power of two.
    pub(super) fn new(memory: Arc<MmapRaw>, at: Offsets, size: u32) -> io::Result<Producer<T>> {
        let raw = Raw::new(memory, at, size)?;
        let (next, consumed) = (raw.producer().load(Relaxed), raw.consumer().load(Acquire));
        Ok(Producer { raw, next, submitted: next, consumed })
    }

    /// Free places, looking at the other side only if fewer than `want` are known.
    pub fn acquire(&mut self, want: u32) -> u32 {
        let free = |p: &Self| p.raw.distance(p.consumed, p.next).map_or(0, |used| p.raw.size - used);
        if free(self) < want {
            // Acquire: pairs with the Release in Consumer::release; the place has been read before it is reused.
            self.consumed = self.raw.consumer().load(Acquire);
        }
        free(self)
    }

    /// The next free places, at most `want`.
    #[inline]
    pub(crate) fn places(&mut self, want: u32) -> Places<'_, T> {
        let end = self.next.wrapping_add(self.acquire(want).min(want));
        Places { entries: self.raw.entries, mask: self.raw.size - 1, at: self.next, end, next: &mut self.next }
    }

    /// Writes `entry` into the next free place; hands it back if there is none. Not seen before
    /// [`Producer::submit`].
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> Result<(), T> {
        self.places(1).push(entry)
    }

    /// Shows the other side everything pushed. Where nothing was, its cache line is left alone.
    pub fn submit(&mut self) {
        if self.submitted != self.next {
            self.submitted = self.next;
            // Release: pairs with the Acquire in Consumer::acquire.
            self.raw.producer().store(self.next, Release);
        }
    }

    /// Entries pushed and not yet taken by the other side.
    pub fn pending(&self) -> u32 {
        self.raw.distance(self.taken(), self.next).unwrap_or(0)
    }

    /// The index up to which the other side has taken entries, as far as it has said.
    pub fn taken(&self) -> u32 {
        self.raw.consumer().load(Relaxed)
    }

    /// Whether the kernel asks to be woken for this ring. It may begin to at any time, whatever it has been given before:
    /// who has something in the ring asks again and again.
    pub fn needs_wakeup(&self) -> bool {
        // What was submitted is seen before the flag is read: a kernel that is woken finds it, and one that finds nothing
        // and raises the flag is not missed.
        fence(SeqCst);
        self.raw.flags().load(Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Places in the ring.
    pub fn size(&self) -> u32 {
        self.raw.size
    }
}

/// Free places of a ring, written one after the other. The ring's state stays in registers meanwhile.
#[derive(Debug)]
pub(crate) struct Places<'a, T> {
    entries: NonNull<T>,
    mask: u32,
    at: u32,
    end: u32,
    /// Of the producer, whose places these are for as long as it is borrowed.
    next: &'a mut u32,
}

impl<T: Pod> Places<'_, T> {
    /// How many are still free.
    #[inline]
    pub(crate) fn left(&self) -> u32 {
        self.end.wrapping_sub(self.at)
    }

    /// Writes `entry` into the next one; hands it back if there is none. Not seen before [`Producer::submit`].
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> Result<(), T> {
        if self.at == self.end {
            return Err(entry);
        }
        // SAFETY: the mask keeps the place inside the ring; by `acquire` in Producer::places, the places from `at` to
        // `end` are not between the indices: they are the producer's, which is borrowed.
        unsafe { self.entries.add((self.at & self.mask) as usize).write(entry) };
        self.at = self.at.wrapping_add(1);
        Ok(())
    }
}

impl<T> Drop for Places<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.next = self.at;
    }
}

/// The consuming end of a ring.
#[derive(Debug)]
pub struct Consumer<T> {
    raw: Raw<T>,
    /// The next place to read; ahead of the published index by what is not released.
    next: u32,
    /// The producer index as last seen.
    produced: u32,
}

impl<T: Pod> Consumer<T> {
    /// The consuming end of the ring at `at` in `memory`, going on from the indices found there. The caller sees to
    /// it that there is no other.
    ///
    /// # Errors
    /// The offsets do not fit the memory, or the size is no power of two.
    pub(super) fn new(memory: Arc<MmapRaw>, at: Offsets, size: u32) -> io::Result<Consumer<T>> {
        let raw = Raw::new(memory, at, size)?;
        let (next, produced) = (raw.consumer().load(Relaxed), raw.producer().load(Acquire));
        Ok(Consumer { raw, next, produced })
    }

    /// Entries to read, looking at the other side only if fewer than `want` are known.
    pub fn acquire(&mut self, want: u32) -> u32 {
        let there = |c: &Self| c.raw.distance(c.next, c.produced).unwrap_or(0);
        if there(self) < want {
            // Acquire: pairs with the Release in Producer::submit; the entry has been written before it is read.
            self.produced = self.raw.producer().load(Acquire);
        }
        there(self)
    }

    /// The next entries, at most `limit`. Their places stay taken until [`Consumer::release`].
    #[inline]
    pub fn take(&mut self, limit: u32) -> Taken<'_, T> {
        let end = self.next.wrapping_add(self.acquire(limit).min(limit));
        Taken { entries: self.raw.entries, mask: self.raw.size - 1, at: self.next, end, next: &mut self.next }
    }

    /// The next entry. Its place stays taken until [`Consumer::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.take(1).next()
    }

    /// Says whether the other side is to wake this one, as a kernel does. For tests.
    pub(crate) fn set_needs_wakeup(&self, needs: bool) {
        self.raw.flags().store(if needs { libc::XDP_RING_NEED_WAKEUP } else { 0 }, Relaxed);
    }

    /// Gives the places of everything popped back to the other side.
    pub fn release(&mut self) {
        // Release: pairs with the Acquire in Producer::acquire.
        self.raw.consumer().store(self.next, Release);
    }

    /// Places in the ring.
    pub fn size(&self) -> u32 {
        self.raw.size
    }
}

/// Entries of a ring, read one after the other; those not read stay. The ring's state stays in registers meanwhile.
#[derive(Debug)]
pub struct Taken<'a, T> {
    entries: NonNull<T>,
    mask: u32,
    at: u32,
    end: u32,
    /// Of the consumer, whose entries these are for as long as it is borrowed.
    next: &'a mut u32,
}

impl<T> Taken<'_, T> {
    /// How many there still are.
    #[inline]
    pub fn left(&self) -> u32 {
        self.end.wrapping_sub(self.at)
    }
}

impl<T: Pod> Iterator for Taken<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.at == self.end {
            return None;
        }
        // SAFETY: the mask keeps the place inside the ring; by `acquire` in Consumer::take, the places from `at` to
        // `end` are between the indices: they are the consumer's, which is borrowed.
        let entry = unsafe { self.entries.add((self.at & self.mask) as usize).read() };
        self.at = self.at.wrapping_add(1);
        Some(entry)
    }
}

impl<T> Drop for Taken<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.next = self.at;
    }
}

/// Both ends of a ring in plain memory, its indices starting at `start`: the kernel-free rings of tests and
/// benches.
///
/// # Errors
/// The size is no power of two, or memory is short.
pub fn plain_ring<T: Pod>(size: u32, start: u32) -> io::Result<(Producer<T>, Consumer<T>)> {
    let bytes = Offsets::PLAIN.entries + size as usize * size_of::<T>();
    let memory = Arc::new(MmapRaw::from(MmapMut::map_anon(bytes)?));
    let raw = Raw::<T>::new(Arc::clone(&memory), Offsets::PLAIN, size)?;
    raw.producer().store(start, Relaxed);
    raw.consumer().store(start, Relaxed);
    Ok((Producer::new(Arc::clone(&memory), Offsets::PLAIN, size)?, Consumer::new(memory, Offsets::PLAIN, size)?))
}

#[cfg(test)]
mod tests;
