//! The reader of clone rings against its writer in plain memory: what is submitted is read, once, in order and whole,
//! wherever positions wrap; what makes no sense is passed over and counted.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod nonsense;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::thread;

use bytemuck::bytes_of;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use spanwire::kernel::abi::RecordHead;
use spanwire::kernel::rings::{Record, Ring, plain_ring};
use spanwire::kernel::writer::{Reserved, Writer};

/// Bytes before each record.
const HEADER: u64 = 8;
const HEAD: usize = size_of::<RecordHead>();
const BUSY: u32 = 1 << 31;

fn head(number: u64, len: usize) -> RecordHead {
    RecordHead { serial: number, slot: number as u32, len: len as u32, queue: 7, ..RecordHead::default() }
}

fn byte(number: u64, at: usize) -> u8 {
    (number as usize ^ at) as u8
}

/// The record of this number, with a frame of `len` bytes.
fn record(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = bytes_of(&head(number, len)).to_vec();
    bytes.extend((0..len).map(|at| byte(number, at)));
    bytes
}

fn is_whole(read: &Record<'_>) -> bool {
    let number = read.head.serial;
    read.head == head(number, read.frame.len())
        && read.frame.iter().enumerate().all(|(at, &found)| found == byte(number, at))
}

/// Positions where something wraps before long.
fn start() -> impl Strategy<Value = u64> {
    let near = prop_oneof![Just(0u64), Just(1 << 32), Just(1 << 33), Just(1 << 63)];
    (near, 0u64..500).prop_map(|(near, back)| near.wrapping_sub(8 * back))
}

// ---- what is submitted is read ----

#[derive(Clone, Debug)]
enum Op {
    Reserve { len: usize },
    Submit(Index),
    Discard(Index),
    Read { most: usize },
    Release,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..300).prop_map(|len| Op::Reserve { len }),
        3 => any::<Index>().prop_map(Op::Submit),
        1 => any::<Index>().prop_map(Op::Discard),
        3 => (1usize..6).prop_map(|most| Op::Read { most }),
        2 => Just(Op::Release),
    ]
}

#[derive(Debug)]
enum State {
    Reserved(Reserved),
    Submitted,
    Discarded,
}

/// Both ends of a ring, and what is to come out.
struct Rig {
    writer: Writer,
    ring: Ring,
    bytes: u64,
    cursor: u64,
    /// Not read yet: number, length of the frame, state.
    waiting: VecDeque<(u64, usize, State)>,
    count: u64,
}

impl Rig {
    fn new(bytes: u32, start: u64) -> Rig {
        let (writer, ring) = plain_ring(bytes, start).unwrap();
        Rig { writer, cursor: start, ring, bytes: bytes.into(), waiting: VecDeque::new(), count: 0 }
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Reserve { len } => self.reserve(*len)?,
            Op::Submit(which) => self.end(|open| which.index(open), true),
            Op::Discard(which) => self.end(|open| which.index(open), false),
            Op::Read { most } => {
                for _ in 0..*most {
                    self.read()?;
                }
            }
            Op::Release => {
                self.ring.release(self.cursor);
                prop_assert_eq!(self.ring.has_news(), self.cursor != self.writer.position());
            }
        }
        Ok(())
    }

    fn reserve(&mut self, len: usize) -> Result<(), TestCaseError> {
        let at = self.writer.position();
        let whole = ((HEAD + len) as u64 + HEADER).next_multiple_of(8);
        let to_end = self.bytes - at % self.bytes;
        let skipped = if whole > to_end { to_end } else { 0 };
        let fits = at.wrapping_sub(self.ring.position()) + skipped + whole <= self.bytes;
        let room = self.writer.reserve(HEAD + len);
        prop_assert_eq!(room.is_some(), fits);
        if let Some(room) = room {
            self.count += 1;
            self.waiting.push_back((self.count, len, State::Reserved(room)));
        }
        Ok(())
    }

    /// Ends one of the reservations.
    fn end(&mut self, which: impl Fn(usize) -> usize, submit: bool) {
        let open = self.waiting.iter_mut().filter(|(.., state)| matches!(state, State::Reserved(_)));
        let mut open: Vec<_> = open.collect();
        if open.is_empty() {
            return;
        }
        let at = which(open.len());
        let (number, len, state) = &mut *open[at];
        let ended = if submit { State::Submitted } else { State::Discarded };
        let State::Reserved(room) = std::mem::replace(state, ended) else { return };
        if submit {
            self.writer.submit(room, &record(*number, *len));
        } else {
            self.writer.discard(room);
        }
    }

    /// Reads the next one, if it is submitted.
    fn read(&mut self) -> Result<(), TestCaseError> {
        while matches!(self.waiting.front(), Some((.., State::Discarded))) {
            self.waiting.pop_front();
        }
        let read = self.ring.next(&mut self.cursor);
        let Some(&(number, len, State::Submitted)) = self.waiting.front() else {
            prop_assert_eq!(read, None, "the next one is not submitted");
            return Ok(());
        };
        let Some(read) = read else {
            return Err(TestCaseError::fail(format!("record {number} is submitted, and not read")));
        };
        prop_assert_eq!((read.head.serial, read.frame.len()), (number, len), "another one");
        prop_assert!(is_whole(&read), "record {} is damaged", number);
        self.waiting.pop_front();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_submitted_is_read_once_in_order_and_whole(
        size in 9u32..13,
        start in start(),
        ops in vec(op(), 0..150),
    ) {
        let mut rig = Rig::new(1 << size, start);
        for op in &ops {
            rig.step(op)?;
        }
        // With nothing busy any more all comes out.
        while rig.waiting.iter().any(|(.., state)| matches!(state, State::Reserved(_))) {
            rig.end(|_| 0, true);
        }
        while rig.waiting.iter().any(|(.., state)| matches!(state, State::Submitted)) {
            rig.read()?;
        }
        prop_assert_eq!(rig.ring.next(&mut rig.cursor), None);
        prop_assert_eq!(rig.cursor, rig.writer.position());
        prop_assert_eq!(rig.ring.nonsense(), 0);
    }
}

// ---- what makes no sense ----

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_is_passed_over(start in start(), steps in vec(any::<u8>(), 0..300)) {
        nonsense::rings(&[&start.to_le_bytes()[..], &steps].concat());
    }

    #[test]
    fn a_record_is_its_head_and_as_many_bytes_as_that_says(
        mut bytes in vec(any::<u8>(), 0..300),
        len in prop_oneof![0u32..300, any::<u32>()],
    ) {
        const LEN: usize = std::mem::offset_of!(RecordHead, len);
        if let Some(at) = bytes.get_mut(LEN..LEN + 4) {
            at.copy_from_slice(&len.to_ne_bytes());
        }
        nonsense::record(&bytes);
    }
}

/// The inputs that the fuzz targets start from.
#[test]
fn seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/seeds");
    for (target, body) in [("record", nonsense::record as fn(&[u8])), ("rings", nonsense::rings)] {
        let inputs: Vec<_> = fs::read_dir(seeds.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() > 2, "{target}");
        inputs.iter().for_each(|input| body(&fs::read(input).unwrap()));
    }
}

/// One of each kind of nonsense.
#[test]
fn each_nonsense_is_counted_once() {
    let fresh = || {
        let (mut writer, ring) = plain_ring(4096, 0).unwrap();
        assert!(writer.put(head(1, 4), b"abcd"));
        assert!(writer.put(head(2, 4), b"efgh"));
        (writer, ring, 0)
    };
    // A header longer than what was produced: nothing behind it can be found.
    let (mut writer, ring, mut cursor) = fresh();
    writer.scrawl(0, 1 << 20);
    assert_eq!((ring.next(&mut cursor), cursor, ring.nonsense()), (None, writer.position(), 1));
    // A record shorter than its head says: the next one is found.
    let (mut writer, ring, mut cursor) = fresh();
    writer.scrawl(0, 65);
    let read = ring.next(&mut cursor).unwrap();
    assert_eq!((read.frame, ring.nonsense()), (&b"efgh"[..], 1));
    // A producer further ahead than the ring is long, before the reader, or no whole words on.
    for position in [4096 + 8, 0u64.wrapping_sub(8), 84, 1 << 40] {
        let (mut writer, ring, mut cursor) = fresh();
        writer.jump(position);
        while ring.next(&mut cursor).is_some() {}
        assert_eq!((cursor, ring.nonsense()), (position, 1), "{position}");
    }
    // What is busy is waited for.
    let (mut writer, ring, mut cursor) = fresh();
    writer.scrawl(0, BUSY | 1 << 20);
    assert_eq!((ring.next(&mut cursor), cursor, ring.nonsense()), (None, 0, 0));
}

// ---- long ----

/// A thread that fills a ring as fast as another empties it, for so many bytes of positions.
fn soak(start: u64, bytes: u64) {
    let (mut writer, mut ring) = plain_ring(1 << 16, start).unwrap();
    let lens = [60usize, 1514, 64, 0, 9000, 128, 777];
    let count = thread::scope(|scope| {
        let source = scope.spawn(move || {
            let mut number = 0u64;
            while writer.position().wrapping_sub(start) < bytes {
                let len = lens[number as usize % lens.len()];
                let Some(room) = writer.reserve(HEAD + len) else {
                    thread::yield_now();
                    continue;
                };
                if number % 11 == 10 {
                    writer.discard(room);
                } else {
                    writer.submit(room, &[bytes_of(&head(number, len)), &vec![number as u8; len]].concat());
                }
                number += 1;
            }
            number
        });
        let (mut cursor, mut number) = (start, 0u64);
        loop {
            let is_over = source.is_finished();
            let before = number;
            while let Some(read) = ring.next(&mut cursor) {
                number += u64::from(number % 11 == 10);
                assert_eq!(read.head, head(number, lens[number as usize % lens.len()]));
                let ends = (read.frame.first(), read.frame.last());
                assert!(read.frame.is_empty() || ends == (Some(&(number as u8)), Some(&(number as u8))));
                number += 1;
            }
            ring.release(cursor);
            if is_over && number == before {
                break;
            }
            thread::yield_now();
        }
        let count = source.join().unwrap();
        assert_eq!(number + u64::from(number % 11 == 10), count + u64::from(count % 11 == 10), "all of them were read");
        count
    });
    assert_eq!((ring.nonsense(), ring.has_news()), (0, false));
    assert!(count > 0);
}

/// The long one really runs from 0 past 2^32.
#[test]
fn positions_pass_2_to_the_32nd_and_the_end_of_64_bits() {
    for end in [1u64 << 32, 0, 1 << 63] {
        soak(end.wrapping_sub(8 << 20), 16 << 20);
    }
    if std::env::var_os("SPANWIRE_LONG").is_some() {
        soak(0, (1 << 32) + (64 << 20));
    }
}
