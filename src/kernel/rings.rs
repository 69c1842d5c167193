//! Clone rings: BPF ring buffers, read in place and without a system call.
//!
//! A record's life: the selector reserves room (moves the producer's position, the record's header says that it is busy),
//! copies the frame, and submits it (the header's word, Release); the reader sees that (Acquire), reads the record, and
//! gives its room back (the consumer's position, Release). Positions run over all of `u64`; a place is `position & mask`.
//! A reader that sleeps says so in its bell, then looks at the ring; the selector reserves, then looks at the bell: with a
//! fence between the two on both sides at least one sees the other (`reader`).
//!
//! Only the kernel writes positions of the producer and headers. All the same none is believed that leads out of the ring:
//! what lies between is passed over then, counted, and read on from where the producer is.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::abi::{Bell, RECORD_SUPER, RECORD_TAGGED, RecordHead};
use super::reader::{BUSY, HEADER, Reader, Word, Words};
use super::rows::Rows;
use super::writer::Writer;

/// A clone as the selector left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What is told of it.
    pub head: RecordHead,
    /// The frame, without the tag that the kernel took off it.
    pub frame: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes a record apart; `None` where it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, rest) = bytes.split_at_checked(size_of::<RecordHead>())?;
        let head: RecordHead = bytemuck::pod_read_unaligned(head);
        Some(Record { head, frame: rest.get(..head.len as usize)? })
    }

    /// The tag that the kernel took off, as it stands in a frame.
    pub fn tag(&self) -> Option<[u8; 4]> {
        let [a, b] = self.head.vlan_proto.to_be_bytes();
        let [c, d] = self.head.vlan_tci.to_be_bytes();
        (self.head.flags & RECORD_TAGGED != 0).then_some([a, b, c, d])
    }

    /// Payload bytes of the segments of a super-frame.
    pub fn segment_size(&self) -> Option<u16> {
        (self.head.flags & RECORD_SUPER != 0).then(|| u16::try_from(self.head.gso_size).unwrap_or(u16::MAX))
    }
}

/// Where a ring's parts are, and what keeps them there.
pub struct Parts {
    consumer: NonNull<AtomicU64>,
    producer: NonNull<AtomicU64>,
    data: NonNull<u8>,
    /// Bytes that can be read from `data` on: twice the ring's where it is mapped twice.
    readable: usize,
    mask: u64,
    bells: Arc<Rows<Bell>>,
    processor: usize,
    _memory: Vec<Arc<MmapRaw>>,
}

// SAFETY: the pointers lead into `_memory`; positions are only accessed as atomics, records by the side that owns them.
unsafe impl Send for Parts {}

impl Parts {
    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: inside `_memory`, aligned, and only ever accessed as an atomic.
        unsafe { self.consumer.as_ref() }
    }

    fn producer(&self) -> &AtomicU64 {
        // SAFETY: as for the consumer's position.
        unsafe { self.producer.as_ref() }
    }

    /// The header's word of the record at `position`.
    fn word(&self, position: u64) -> &AtomicU32 {
        let at = (position & self.mask) as usize & !7;
        // SAFETY: a place of the ring is inside `_memory`, whose data begins page-aligned, and `at` is a multiple of 8;
        // headers are only accessed as atomics.
        unsafe { &*self.data.as_ptr().add(at).cast::<AtomicU32>() }
    }

    /// Writes the bytes of a reserved record, as far as it has room, and returns how many. Only the writer, which has `&mut`
    /// of its end, and only of a ring in plain memory.
    pub(super) fn fill(&mut self, position: u64, record: &[u8]) -> u32 {
        let at = (position & self.mask) as usize + HEADER;
        let room = (self.word(position).load(Relaxed) & !BUSY) as usize;
        let len = record.len().min(room).min(self.readable.saturating_sub(at));
        // SAFETY: inside `_memory`, which is writable; the room is the writer's until it is submitted.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), self.data.as_ptr().add(at), len) };
        len as u32
    }

    /// The bytes of the submitted record at `position`; `None` where that many cannot be there.
    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let at = (position & self.mask) as usize + HEADER;
        (at.checked_add(len)? <= self.readable)
            // SAFETY: inside `_memory`; the record is the reader's from its submission, which was seen with Acquire, until
            // its room is given back, for which `&mut` of the ring is needed.
            .then(|| unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(at), len) })
    }
}

impl Words for Parts {
    #[inline]
    fn size(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    fn load(&self, word: Word, order: Ordering) -> u64 {
        match word {
            Word::Consumer => self.consumer().load(order),
            Word::Producer => self.producer().load(order),
            Word::Header(position) => self.word(position).load(order).into(),
            Word::Bell => self.bells.get(self.processor).map_or(0, |bell| bell.asleep.load(order).into()),
        }
    }

    #[inline]
    fn store(&self, word: Word, value: u64, order: Ordering) {
        match word {
            Word::Consumer => self.consumer().store(value, order),
            Word::Producer => self.producer().store(value, order),
            Word::Header(position) => self.word(position).store(value as u32, order),
            Word::Bell => {
                self.bells.get(self.processor).into_iter().for_each(|bell| bell.asleep.store(value as u32, order))
            }
        }
    }

    #[inline]
    fn fence(&self) {
        fence(SeqCst);
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size())
    }
}

/// A ring in plain memory, its positions starting at `start`, a multiple of 8, and both its ends: for tests and benches.
///
/// # Errors
/// The size is no power of two from 8 on, or memory is short.
pub fn plain_ring(bytes: u32, start: u64) -> io::Result<(Writer, Ring)> {
    const HEAD: usize = 128;
    if !bytes.is_power_of_two() || bytes < 8 || !start.is_multiple_of(8) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let memory = Arc::new(MmapRaw::from(MmapMut::map_anon(HEAD + bytes as usize)?));
    let bells = Arc::new(Rows::plain(1)?);
    let parts = || -> io::Result<Parts> {
        let part = |at: usize| NonNull::new(memory.as_mut_ptr().wrapping_add(at)).ok_or(io::ErrorKind::InvalidData);
        Ok(Parts {
            consumer: part(0)?.cast(),
            producer: part(64)?.cast(),
            data: part(HEAD)?,
            readable: bytes as usize,
            mask: u64::from(bytes) - 1,
            bells: Arc::clone(&bells),
            processor: 0,
            _memory: vec![Arc::clone(&memory)],
        })
    };
    let (writer, reader) = (parts()?, parts()?);
    writer.consumer().store(start, Relaxed);
    writer.producer().store(start, Relaxed);
    Ok((Writer::new(writer, start), Ring { reader: Reader::new(reader, start), map: None }))
}

/// The reading end of a clone ring.
pub struct Ring {
    reader: Reader<Parts>,
    map: Option<OwnedFd>,
}

impl Ring {
    /// Maps the ring of a processor, `bytes` long.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn of(map: OwnedFd, bytes: u32, bells: Arc<Rows<Bell>>, processor: usize) -> io::Result<Ring> {
        let (page, bytes) = (rustix::param::page_size(), bytes as usize);
        if !bytes.is_power_of_two() || !bytes.is_multiple_of(page) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a ring's size is a power of two of pages"));
        }
        let fd = map.as_raw_fd();
        let consumer = Arc::new(MmapOptions::new().len(page).map_raw(fd)?);
        let rest = MmapOptions::new().offset(page as u64).len(page + 2 * bytes).map_raw_read_only(fd)?;
        let rest = Arc::new(rest);
        let part = |at: *mut u8| NonNull::new(at).ok_or(io::ErrorKind::InvalidData);
        let parts = Parts {
            consumer: part(consumer.as_mut_ptr())?.cast(),
            producer: part(rest.as_mut_ptr())?.cast(),
            data: part(rest.as_mut_ptr().wrapping_add(page))?,
            readable: 2 * bytes,
            mask: bytes as u64 - 1,
            bells,
            processor,
            _memory: vec![consumer, rest],
        };
        let position = parts.consumer().load(Relaxed);
        Ok(Ring { reader: Reader::new(parts, position), map: Some(map) })
    }

    /// Where the reader is.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The next record from `cursor` on, which moves behind it; `None` where none is submitted. Records that are none are
    /// passed over. A cursor begins at [`Ring::position`].
    #[inline]
    pub fn next(&self, cursor: &mut u64) -> Option<Record<'_>> {
        loop {
            let (at, len) = self.reader.next(cursor)?;
            match self.reader.words().bytes(at, len).and_then(Record::parse) {
                None => self.reader.count_nonsense(),
                record => return record,
            }
        }
    }

    /// How often what was to be read made no sense: at each time records that cannot be told apart any more, or one that is
    /// none, were passed over. The kernel never writes such.
    pub fn nonsense(&self) -> u64 {
        self.reader.nonsense()
    }

    /// Gives the room of every record before `cursor` back.
    #[inline]
    pub fn release(&mut self, cursor: u64) {
        self.reader.release(cursor);
    }

    /// Whether there is something to read, or will be soon.
    pub fn has_news(&self) -> bool {
        self.reader.has_news()
    }

    /// Whether half of it or more is taken: by then those who put something in are not to wait for who reads.
    pub fn is_crowded(&self) -> bool {
        self.reader.is_crowded()
    }

    /// From here on until [`Ring::rise`] the reader is woken; its look for news comes after.
    pub fn lie_down(&self) {
        self.reader.lie_down();
    }

    /// The reader is awake.
    pub fn rise(&self) {
        self.reader.rise();
    }

    /// What becomes readable when the selector wakes the reader; none for a ring in plain memory.
    pub fn waker(&self) -> Option<BorrowedFd<'_>> {
        self.map.as_ref().map(AsFd::as_fd)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clone ring of processor {}", self.reader.words().processor)
    }
}
