//! The protocol under a model checker, and mutants of it that the model must find.
//!
//! The code under test is [`Writer`] and [`Reader`] themselves, run over [`Words`] made of loom's atomics. Only
//! words that differ between publishes are given to loom: sequence, generation and payload of each slot, and
//! `active`. No reader can tell an old value of any other word from a new one, so ordering them proves nothing and
//! would make the model too large to run.
//!
//! A writer's look at its own words takes no part in the model either. Nobody else stores to them, so it always
//! finds what was stored last; and loom, which goes back only to the last access of an object before a store,
//! would take that look for it and never try the store before a reader's look.
//!
//! A mutant is the same code over a [`Side`] that leaves one thing out.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use loom::sync::atomic::{AtomicU64, fence};
use shm_layout::header::{ACTIVE, Geometry, STATE, STATE_LIVE};
use shm_layout::image::Image;
use shm_layout::protocol::{ReadError, Reader, Step, Writer};
use shm_layout::record::SlotHeader;
use shm_layout::words::{Fault, Words};
use shm_layout::{SLOTS, WORD};

/// Bounds the executions tried; all the mutants are found with fewer.
const PREEMPTIONS: usize = 3;
/// Words of payload: two that must agree with each other, and with the generation.
const PAYLOAD: usize = 2;
/// Word of a slot that holds its generation.
const GENERATION: usize = std::mem::offset_of!(SlotHeader, generation) / WORD;

const GEOMETRY: Geometry = Geometry { slot_len: (SlotHeader::WORDS + PAYLOAD) * WORD, instance_id: 1 };

/// One word of the region.
enum Word {
    /// Modelled; beside it what was stored last, for the writer.
    Ordered(AtomicU64, std::sync::atomic::AtomicU64),
    /// The same in every publish, or of no interest.
    Plain(std::sync::atomic::AtomicU64),
}

/// A region in memory.
struct Memory(Vec<Word>);

impl Memory {
    fn new() -> Arc<Memory> {
        let len = GEOMETRY.region_len() / WORD;
        let memory: Vec<Word> = (0..len)
            .map(
                |word| {
                    if is_ordered(word) { Word::Ordered(AtomicU64::new(0), 0.into()) } else { Word::Plain(0.into()) }
                },
            )
            .collect();
        if let Word::Plain(state) = &memory[STATE] {
            state.store(STATE_LIVE, SeqCst);
        }
        Arc::new(Memory(memory))
    }

    fn load(&self, word: usize, order: Ordering) -> u64 {
        match &self.0[word] {
            Word::Ordered(w, _) => w.load(order),
            Word::Plain(w) => w.load(SeqCst),
        }
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        match &self.0[word] {
            Word::Ordered(w, last) => {
                last.store(value, SeqCst);
                w.store(value, order);
            }
            Word::Plain(w) => w.store(value, SeqCst),
        }
    }

    /// What was stored last.
    fn last(&self, word: usize) -> u64 {
        match &self.0[word] {
            Word::Ordered(_, last) | Word::Plain(last) => last.load(SeqCst),
        }
    }
}

/// Position of a word in its slot; `None` in the header.
fn in_slot(word: usize) -> Option<usize> {
    let first = GEOMETRY.slot_word(0);
    (word >= first).then(|| (word - first) % (GEOMETRY.slot_len / WORD))
}

fn is_seq(word: usize) -> bool {
    in_slot(word) == Some(0)
}

fn is_ordered(word: usize) -> bool {
    word == ACTIVE || in_slot(word).is_some_and(|at| at == 0 || at == GENERATION || at >= SlotHeader::WORDS)
}

/// What a writer or a reader leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// Nothing: the protocol as it is.
    None,
    /// The writer's fence between the odd sequence and the payload.
    ReleaseFence,
    /// The reader's fence between the payload and the second look at the sequence.
    AcquireFence,
    /// The reader's second look at the sequence.
    Recheck,
    /// The Release of the even sequence.
    EvenRelease,
    /// The Acquire of the reader's first look at the sequence.
    SeqAcquire,
    /// The Release of `active`.
    ActiveRelease,
    /// The Acquire of `active`.
    ActiveAcquire,
    /// The mark that the slot is being written.
    Odd,
    /// The writer's look at the sequence it left: each publish marks its slot 1, then 2.
    SeqGrows,
    /// The writer's look at `active`: it does not know which slot it must spare.
    SparesActive,
    /// All slots but one.
    Slots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// The region as one side of the protocol reaches it.
struct Side {
    memory: Arc<Memory>,
    role: Role,
    mutant: Mutant,
    /// The reader's last first look at a sequence.
    looked: Cell<Option<u64>>,
    /// The writer is dead: nothing it does has an effect any more.
    dead: Cell<bool>,
}

impl Side {
    fn writer(memory: &Arc<Memory>, mutant: Mutant) -> Side {
        Side { memory: Arc::clone(memory), role: Role::Writer, mutant, looked: Cell::new(None), dead: Cell::new(false) }
    }

    fn reader(memory: &Arc<Memory>, mutant: Mutant) -> Side {
        Side { role: Role::Reader, ..Side::writer(memory, mutant) }
    }

    fn place(&self, word: usize) -> usize {
        match (self.mutant, in_slot(word)) {
            (Mutant::Slots, Some(at)) => GEOMETRY.slot_word(0) + at,
            _ => word,
        }
    }
}

impl Words for Side {
    fn load(&self, word: usize, order: Ordering) -> Result<u64, Fault> {
        let mutant = self.mutant;
        if self.role == Role::Writer {
            let forgotten = match mutant {
                Mutant::SeqGrows => is_seq(word),
                Mutant::SparesActive => word == ACTIVE,
                _ => false,
            };
            return Ok(if forgotten { 0 } else { self.memory.last(self.place(word)) });
        }
        let first_look = order == Acquire && is_seq(word);
        if let (Mutant::Recheck, true, Some(looked)) = (mutant, is_seq(word) && !first_look, self.looked.get()) {
            return Ok(looked);
        }
        let relaxed = match mutant {
            Mutant::SeqAcquire => is_seq(word),
            Mutant::ActiveAcquire => word == ACTIVE,
            _ => false,
        };
        let value = self.memory.load(self.place(word), if relaxed { Relaxed } else { order });
        if first_look {
            self.looked.set(Some(value));
        }
        Ok(value)
    }

    fn store(&self, word: usize, value: u64, order: Ordering) -> Result<(), Fault> {
        let order = match order {
            Release if self.mutant == Mutant::EvenRelease && is_seq(word) => Relaxed,
            Release if self.mutant == Mutant::ActiveRelease && word == ACTIVE => Relaxed,
            order => order,
        };
        let unmarked = self.mutant == Mutant::Odd && is_seq(word) && value % 2 == 1;
        if !self.dead.get() && !unmarked {
            self.memory.store(self.place(word), value, order);
        }
        Ok(())
    }

    fn copy_out(&self, word: usize, out: &mut [u64]) -> Result<(), Fault> {
        for (i, to) in out.iter_mut().enumerate() {
            *to = self.memory.load(self.place(word + i), Relaxed);
        }
        Ok(())
    }

    fn copy_in(&self, word: usize, data: &[u64]) -> Result<(), Fault> {
        for (i, from) in data.iter().enumerate().filter(|_| !self.dead.get()) {
            self.memory.store(self.place(word + i), *from, Relaxed);
        }
        Ok(())
    }

    fn fence(&self, order: Ordering) {
        match (self.mutant, order) {
            (Mutant::ReleaseFence, Release) | (Mutant::AcquireFence, Acquire) => (),
            _ => fence(order),
        }
    }
}

/// Publishes the first generation above `floor`, by a writer that dies at `death`.
fn publish(side: &Side, floor: u64, writer: u64, death: Option<Step>) -> u64 {
    let mut words = vec![0; SlotHeader::WORDS + PAYLOAD];
    // Known before the publish decides it: the tests' floors leave it no choice, or are checked below.
    let active = side.memory.last(ACTIVE);
    let mut generation = active.max(floor) + 1;
    if active != 0 && generation % SLOTS as u64 == active % SLOTS as u64 && side.mutant != Mutant::SparesActive {
        generation += 1;
    }
    words[SlotHeader::WORDS] = content(generation, writer);
    words[SlotHeader::WORDS + 1] = content(generation, writer) + 1;
    words[std::mem::offset_of!(SlotHeader, len) / WORD] = (words.len() * WORD) as u64;
    let mut at = |step| {
        if Some(step) == death {
            side.dead.set(true);
        }
    };
    let published = Writer::new(side, GEOMETRY).publish(&mut Image::from_words(words), floor, 0, Some(&mut at));
    assert_eq!(published, Ok(generation));
    generation
}

/// The first word of payload that `writer` gives `generation`.
fn content(generation: u64, writer: u64) -> u64 {
    generation * 1000 + writer * 10
}

/// One read, checked: `(generation, writer)`; `None` where the writer overtook it.
fn read(reader: &Reader<'_, Side>) -> Option<(u64, u64)> {
    read_into(reader, &mut Vec::new())
}

/// As [`read`], where an image read before may be in `out`: the next is then copied in one go.
fn read_into(reader: &Reader<'_, Side>, out: &mut Vec<u64>) -> Option<(u64, u64)> {
    match reader.read(None, out) {
        Ok(Some(generation)) => {
            let payload = &out[SlotHeader::WORDS..];
            let writer = (payload[0] % 1000) / 10;
            assert_eq!(payload, [content(generation, writer), content(generation, writer) + 1], "torn");
            assert_eq!(out[GENERATION], generation, "torn");
            Some((generation, writer))
        }
        Ok(None) => panic!("lost: a generation was announced before the reader began"),
        Err(ReadError::Lapped) => None,
        Err(error) => panic!("lost: {error}"),
    }
}

/// Two reads; generations never go back, and one generation has one content.
fn read_twice(reader: &Reader<'_, Side>, mut each: impl FnMut(Option<(u64, u64)>)) {
    let mut out = Vec::new();
    let first = read_into(reader, &mut out);
    each(first);
    let second = read_into(reader, &mut out);
    each(second);
    if let (Some(first), Some(second)) = (first, second) {
        assert!(first.0 <= second.0, "back: {first:?} before {second:?}");
        assert!(first == second || first.0 != second.0, "repeated: {first:?} and {second:?}");
    }
}

/// Runs a model through every execution with at most [`PREEMPTIONS`] (or `LOOM_MAX_PREEMPTIONS`); how many.
fn check(model: impl Fn() + Sync + Send + 'static) -> usize {
    let executions = Arc::new(Count::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(move || {
        count.fetch_add(1, SeqCst);
        model();
    });
    executions.load(SeqCst)
}

/// Two publishes, of which the second takes the slot that the first read may be in: generations 1, 2, and the
/// next one of slot 1. The floor makes the jump, as it does after a region was lost, so that the model needs no
/// more publishes than that.
fn reuse_of_a_slot(mutant: Mutant, mut seen: impl FnMut(Option<(u64, u64)>)) {
    let memory = Memory::new();
    publish(&Side::writer(&memory, mutant), 0, 1, None);
    let side = Side::writer(&memory, mutant);
    let writer = loom::thread::spawn(move || {
        publish(&side, 0, 1, None);
        publish(&side, SLOTS as u64, 1, None);
    });
    let side = Side::reader(&memory, mutant);
    read_twice(&Reader::new(&side, GEOMETRY).with_tries(2), &mut seen);
    writer.join().expect("the writer does not panic");
}

/// One publish, whatever its generation: a reader succeeds at the first try, as the slot it is in is not touched.
fn a_publish_beside_a_read(mutant: Mutant, floor: u64) {
    let memory = Memory::new();
    publish(&Side::writer(&memory, mutant), 0, 1, None);
    let side = Side::writer(&memory, mutant);
    let writer = loom::thread::spawn(move || {
        publish(&side, floor, 1, None);
    });
    let side = Side::reader(&memory, mutant);
    let found = read(&Reader::new(&side, GEOMETRY).with_tries(1));
    assert!(found.is_some(), "overtaken by a single publish");
    writer.join().expect("the writer does not panic");
}

/// A writer that dies at `death` and another that takes over: a reader always has a whole generation at once.
fn takeover(death: Step, mutant: Mutant) {
    let memory = Memory::new();
    publish(&Side::writer(&memory, mutant), 0, 1, None);
    let (first, second) = (Side::writer(&memory, mutant), Side::writer(&memory, mutant));
    let writers = loom::thread::spawn(move || {
        publish(&first, 0, 1, Some(death));
        publish(&second, 0, 2, None);
    });
    let side = Side::reader(&memory, mutant);
    read_twice(&Reader::new(&side, GEOMETRY).with_tries(1), |found| assert!(found.is_some(), "overtaken"));
    writers.join().expect("the writers do not panic");
    let (generation, writer) = read(&Reader::new(&side, GEOMETRY).with_tries(1)).expect("nobody writes any more");
    // Announced by the first writer, its generation is used up.
    let used = matches!(death, Step::Active | Step::Notify);
    assert_eq!((generation, writer), (if used { 3 } else { 2 }, 2), "after a death at {death:?}");
}

#[test]
fn no_read_is_torn_and_none_goes_back() {
    static SEEN: [Count; 6] = [const { Count::new(0) }; 6];
    static LAPPED: Count = Count::new(0);
    let executions = check(|| {
        reuse_of_a_slot(Mutant::None, |found| {
            let count = found.map_or(&LAPPED, |(generation, _)| &SEEN[generation as usize]);
            count.fetch_add(1, SeqCst);
        });
    });
    // The model is of use only if it comes by all of these.
    let seen = [1, 2, 5].map(|generation| SEEN[generation].load(SeqCst));
    println!("{executions} executions; generations 1, 2, 5: {seen:?} reads, overtaken: {LAPPED:?}");
    assert!(seen.iter().all(|&n| n > 0) && LAPPED.load(SeqCst) > 0);
}

#[test]
fn a_single_publish_never_disturbs_a_reader() {
    for floor in 0..=SLOTS as u64 {
        let executions = check(move || a_publish_beside_a_read(Mutant::None, floor));
        assert!(executions > 1, "the publish is never before the read");
    }
}

#[test]
fn readers_live_through_the_death_of_a_writer_at_every_step() {
    for death in Step::ALL {
        let executions = check(move || takeover(death, Mutant::None));
        println!("{executions} executions with a death at {death:?}");
    }
}

/// The model must fail, and for what it is about.
fn fails(model: impl Fn() + Sync + Send + 'static) {
    let panic = catch_unwind(AssertUnwindSafe(|| check(model))).expect_err("the mutant was not found");
    let said = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    let said = said.expect("a message");
    assert!(["torn", "lost", "back", "repeated", "overtaken"].iter().any(|word| said.contains(word)), "{said}");
}

macro_rules! mutants {
    ($($name:ident: $model:expr;)*) => { $(
        #[test]
        fn $name() {
            fails(|| $model);
        }
    )* };
}

mutants! {
    without_the_writers_release_fence: reuse_of_a_slot(Mutant::ReleaseFence, |_| ());
    without_the_readers_acquire_fence: reuse_of_a_slot(Mutant::AcquireFence, |_| ());
    without_the_second_look_at_seq: reuse_of_a_slot(Mutant::Recheck, |_| ());
    with_a_relaxed_even_store: reuse_of_a_slot(Mutant::EvenRelease, |_| ());
    with_a_relaxed_first_look_at_seq: reuse_of_a_slot(Mutant::SeqAcquire, |_| ());
    // The sequence alone keeps these from tearing; what they lose is that an announced slot is complete.
    with_a_relaxed_store_of_active: a_publish_beside_a_read(Mutant::ActiveRelease, 0);
    with_a_relaxed_load_of_active: a_publish_beside_a_read(Mutant::ActiveAcquire, 0);
    without_the_odd_mark: reuse_of_a_slot(Mutant::Odd, |_| ());
    with_a_seq_that_starts_over: reuse_of_a_slot(Mutant::SeqGrows, |_| ());
    with_the_active_slot_overwritten: a_publish_beside_a_read(Mutant::SparesActive, SLOTS as u64);
    with_one_slot_for_all: a_publish_beside_a_read(Mutant::Slots, 0);
    with_one_slot_for_all_and_a_death: takeover(Step::HalfPayload, Mutant::Slots);
}
