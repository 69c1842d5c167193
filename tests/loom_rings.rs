//! A clone ring and the sleep of its reader under a model checker, and mutants that the model must find.
//!
//! ```text
//! selector  reserve: header busy, producer's position ... looks at the bell ... bytes, submit ... wakes who sleeps
//! reader    read and release what there is ... lies down: bell ... looks at the producer's position: nothing? sleep
//! ```
//!
//! The ends under test are [`spanwire::kernel::reader`] and [`spanwire::kernel::writer`] themselves, over words made of loom's
//! atomics. Modelled is what else the selector does: its look at the bell, behind an atomic exchange-add that in the kernel's model
//! orders what is before it against what is after it, as a fence does, and its wake. So is the reader's loop. Records are
//! headers alone, a place each; beside a record's bytes is an [`UnsafeCell`], as in the model of lanes: two accesses that nothing
//! orders are an error.
//!
//! A mutant is the same code over words that leave one thing out, or the model with one step at another place.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod checker;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

use checker::{check, fails};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, fence};
use spanwire::kernel::reader::{BUSY, HEADER, Reader, Word, Words};
use spanwire::kernel::writer::Writer;

/// What is left out or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// Nothing: the protocol as it is.
    None,
    /// The Release of the producer's position.
    ProducerRelease,
    /// The Acquire of it.
    ProducerAcquire,
    /// The Release of a submission.
    SubmitRelease,
    /// The Acquire of it.
    SubmitAcquire,
    /// The Release of the consumer's position.
    ConsumerRelease,
    /// A record is reserved without a word that it is busy.
    Busy,
    /// The fence between lying down and the look at the ring.
    SleeperFence,
    /// The order of the reservation before the look at the bell.
    SelectorFence,
    /// The reader looks at the ring, then lies down.
    LooksFirst,
    /// The selector looks at the bell, then reserves.
    AsksFirst,
}

impl Mutant {
    /// `order`, or Relaxed in the mutant that leaves it out.
    fn order(self, left_out_by: Mutant, order: Ordering) -> Ordering {
        if self == left_out_by { Relaxed } else { order }
    }

    fn fence(self, left_out_by: Mutant) {
        if self != left_out_by {
            fence(SeqCst);
        }
    }
}

/// Records that there is room for.
const PLACES: u64 = 2;

struct Place {
    header: AtomicU64,
    bytes: UnsafeCell<()>,
    /// The record there. The checker runs a model's threads on one: what is no part of the model can be plain.
    number: Cell<u64>,
}

struct Model {
    mutant: Mutant,
    producer: AtomicU64,
    consumer: AtomicU64,
    places: [Place; PLACES as usize],
    asleep: AtomicU64,
    /// The wake-up that the kernel has sent.
    rung: Cell<bool>,
}

/// The words of the ring that both ends have.
#[derive(Clone)]
struct Modelled(Rc<Model>);

impl Words for Modelled {
    fn size(&self) -> u64 {
        PLACES * HEADER as u64
    }

    fn load(&self, word: Word, order: Ordering) -> u64 {
        let Model { mutant, ref producer, ref consumer, ref asleep, .. } = *self.0;
        match word {
            // No mutant leaves the writer's Acquire out: the fence further down orders the same.
            Word::Consumer => consumer.load(order),
            Word::Producer => producer.load(mutant.order(Mutant::ProducerAcquire, order)),
            Word::Header(at) => self.0.place(at).header.load(mutant.order(Mutant::SubmitAcquire, order)),
            Word::Bell => asleep.load(order),
        }
    }

    fn store(&self, word: Word, value: u64, order: Ordering) {
        let Model { mutant, ref producer, ref consumer, ref asleep, .. } = *self.0;
        match word {
            Word::Consumer => consumer.store(value, mutant.order(Mutant::ConsumerRelease, order)),
            Word::Producer => producer.store(value, mutant.order(Mutant::ProducerRelease, order)),
            Word::Header(_) if mutant == Mutant::Busy && value & u64::from(BUSY) != 0 => {}
            Word::Header(at) => self.0.place(at).header.store(value, mutant.order(Mutant::SubmitRelease, order)),
            Word::Bell => asleep.store(value, order),
        }
    }

    fn fence(&self) {
        self.0.mutant.fence(Mutant::SleeperFence);
    }
}

impl Model {
    fn new(mutant: Mutant) -> Rc<Model> {
        let place = |_| Place { header: AtomicU64::new(0), bytes: UnsafeCell::new(()), number: Cell::new(0) };
        Rc::new(Model {
            mutant,
            producer: AtomicU64::new(0),
            consumer: AtomicU64::new(0),
            places: std::array::from_fn(place),
            asleep: AtomicU64::new(0),
            rung: Cell::new(false),
        })
    }

    fn place(&self, position: u64) -> &Place {
        &self.places[(position / HEADER as u64 % PLACES) as usize]
    }

    fn asleep(&self) -> bool {
        self.asleep.load(Relaxed) != 0
    }

    /// The selector has a clone for the ring: whether there was room.
    fn put(&self, writer: &mut Writer<Modelled>) -> bool {
        let early = (self.mutant == Mutant::AsksFirst).then(|| self.asleep());
        let at = writer.position();
        let Some(room) = writer.reserve(0) else { return false };
        self.mutant.fence(Mutant::SelectorFence);
        let asleep = early.unwrap_or_else(|| self.asleep());
        let place = self.place(at);
        place.bytes.with_mut(|_| place.number.set(at));
        writer.show(room, 0);
        if asleep {
            self.rung.set(true);
        }
        true
    }

    /// Reads all that is submitted, and gives its room back.
    fn drain(&self, reader: &mut Reader<Modelled>) {
        let mut cursor = reader.position();
        while let Some((at, _)) = reader.next(&mut cursor) {
            let place = self.place(at);
            let found = place.bytes.with(|_| place.number.get());
            assert_eq!(found, at, "another record");
        }
        reader.release(cursor);
    }

    /// A reader that has read all it could: whether it goes to sleep.
    fn sleeps(&self, reader: &Reader<Modelled>) -> bool {
        let early = (self.mutant == Mutant::LooksFirst).then(|| reader.has_news());
        reader.lie_down();
        let has_news = early.unwrap_or_else(|| reader.has_news());
        if has_news {
            reader.rise();
        }
        !has_news
    }
}

/// A reader that would sleep after each record, beside a selector with `count` of them.
fn reading(mutant: Mutant, count: u64, seen: impl FnOnce(u64, bool)) {
    let model = Model::new(mutant);
    let (mut reader, mut writer) = {
        let words = || Modelled(Rc::clone(&model));
        (Reader::new(words(), 0), Writer::new(words(), 0))
    };
    let source = {
        let model = Rc::clone(&model);
        loom::thread::spawn(move || {
            // The ring is full where one finds no room.
            (0..count).filter(|_| model.put(&mut writer)).count() as u64
        })
    };
    loop {
        model.drain(&mut reader);
        if model.sleeps(&reader) {
            break;
        }
        // What it has seen may be busy still.
        loom::thread::yield_now();
    }
    let read = |reader: &Reader<Modelled>| reader.position() / HEADER as u64;
    let asleep_after = read(&reader);
    let put = source.join().expect("the selector does not panic");
    assert!(asleep_after == put || model.rung.get(), "lost: asleep after {asleep_after} of {put}, and nobody rings");
    model.drain(&mut reader);
    assert_eq!((read(&reader), reader.nonsense()), (put, 0), "a record lost");
    seen(asleep_after, put < count);
}

const RECORDS: u64 = PLACES + 1;

#[test]
fn no_record_is_lost_damaged_or_slept_through() {
    static ASLEEP: [Count; RECORDS as usize + 1] = [const { Count::new(0) }; RECORDS as usize + 1];
    static FULL: [Count; 2] = [const { Count::new(0) }; 2];
    let executions = check(Some(3), || {
        reading(Mutant::None, RECORDS, |asleep_after, was_full| {
            ASLEEP[asleep_after as usize].fetch_add(1, SeqCst);
            FULL[usize::from(was_full)].fetch_add(1, SeqCst);
        });
    });
    println!("{executions} executions; asleep after so many: {ASLEEP:?}; never, sometimes full: {FULL:?}");
    assert!(ASLEEP.iter().chain(&FULL).all(|n| n.load(SeqCst) > 0), "the model comes by all of these");
}

/// What is said of two accesses that nothing orders.
const UNORDERED: &str = "Causality violation: Concurrent";

macro_rules! mutants {
    ($($name:ident: $mutant:ident => $($why:expr),+;)*) => { $(
        #[test]
        fn $name() {
            fails(Some(3), || reading(Mutant::$mutant, RECORDS, |_, _| ()), &[$($why),+]);
        }
    )* };
}

mutants! {
    with_a_relaxed_store_of_the_producers_position: ProducerRelease => UNORDERED, "another record";
    with_a_relaxed_load_of_the_producers_position: ProducerAcquire => UNORDERED, "another record";
    with_a_relaxed_submission: SubmitRelease => UNORDERED;
    with_a_relaxed_look_at_submissions: SubmitAcquire => UNORDERED;
    with_a_relaxed_store_of_the_consumers_position: ConsumerRelease => UNORDERED;
    with_a_reservation_that_is_not_busy: Busy => UNORDERED, "another record";
    without_the_readers_fence: SleeperFence => "lost";
    without_the_selectors_fence: SelectorFence => "lost";
    with_a_look_at_the_ring_before_lying_down: LooksFirst => "lost";
    with_a_look_at_the_bell_before_reserving: AsksFirst => "lost";
}
