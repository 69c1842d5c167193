//! A clone ring and the sleep of its reader under a model checker, and mutants that the model must find.
//!
//! ```text
//! selector  reserve: header busy, producer's position ... looks at the bell ... bytes, submit ... wakes who sleeps
//! reader    read and release what there is ... lies down: bell ... looks at the producer's position: nothing? sleep
//! ```
//!
//! It models `Ring::next`, `release`, `lie_down` and `has_news` against what the kernel does in `bpf_ringbuf_reserve` and
//! `bpf_ringbuf_submit`, with the selector's look at the bell between them: an atomic exchange-add there, which in the
//! kernel's model orders what is before it against what is after it, as a fence does. Records lie a place each; beside a
//! record's bytes is an [`UnsafeCell`], as in the model of lanes: two accesses that nothing orders are an error.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod checker;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use checker::{check, fails};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};

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
/// Of a header. Others are the number of the record.
const BUSY: u64 = u64::MAX;

struct Place {
    header: AtomicU64,
    bytes: UnsafeCell<()>,
}

struct Model {
    mutant: Mutant,
    producer: AtomicU64,
    consumer: AtomicU64,
    places: [Place; PLACES as usize],
    asleep: AtomicBool,
    /// The wake-up that the kernel has sent.
    rung: Cell<bool>,
}

impl Model {
    fn new(mutant: Mutant) -> Rc<Model> {
        let place = |_| Place { header: AtomicU64::new(0), bytes: UnsafeCell::new(()) };
        Rc::new(Model {
            mutant,
            producer: AtomicU64::new(0),
            consumer: AtomicU64::new(0),
            places: std::array::from_fn(place),
            asleep: AtomicBool::new(false),
            rung: Cell::new(false),
        })
    }

    fn place(&self, position: u64) -> &Place {
        &self.places[(position % PLACES) as usize]
    }

    // ---- the selector ----

    /// Whether there was room.
    fn put(&self, position: u64) -> bool {
        let Model { mutant, .. } = *self;
        // Acquire: pairs with the Release in drain. No mutant leaves it out: the fence further down orders the same.
        let consumer = self.consumer.load(Acquire);
        if position - consumer == PLACES {
            return false;
        }
        let early = (mutant == Mutant::AsksFirst).then(|| self.asleep.load(Relaxed));
        let place = self.place(position);
        if mutant != Mutant::Busy {
            place.header.store(BUSY, Relaxed);
        }
        // Release: pairs with the Acquire in next.
        self.producer.store(position + 1, mutant.order(Mutant::ProducerRelease, Release));
        mutant.fence(Mutant::SelectorFence);
        let asleep = early.unwrap_or_else(|| self.asleep.load(Relaxed));
        place.bytes.with_mut(|_| ());
        // Release: pairs with the Acquire in next.
        place.header.store(position + 1, mutant.order(Mutant::SubmitRelease, Release));
        if asleep {
            self.rung.set(true);
        }
        true
    }

    // ---- the reader ----

    /// Reads the record at `cursor`, if one is submitted.
    fn next(&self, cursor: &mut u64) -> bool {
        let Model { mutant, .. } = *self;
        if *cursor == self.producer.load(mutant.order(Mutant::ProducerAcquire, Acquire)) {
            return false;
        }
        let place = self.place(*cursor);
        let header = place.header.load(mutant.order(Mutant::SubmitAcquire, Acquire));
        if header == BUSY {
            return false;
        }
        place.bytes.with(|_| ());
        *cursor += 1;
        assert_eq!(header, *cursor, "another record");
        true
    }

    fn drain(&self, cursor: &mut u64) {
        while self.next(cursor) {}
        // Release: pairs with the Acquire in put.
        self.consumer.store(*cursor, self.mutant.order(Mutant::ConsumerRelease, Release));
    }

    fn has_news(&self, position: u64) -> bool {
        self.producer.load(Acquire) != position
    }

    /// A reader that has read all it could: whether it goes to sleep.
    fn sleeps(&self, position: u64) -> bool {
        let early = (self.mutant == Mutant::LooksFirst).then(|| self.has_news(position));
        self.asleep.store(true, Relaxed);
        self.mutant.fence(Mutant::SleeperFence);
        let has_news = early.unwrap_or_else(|| self.has_news(position));
        if has_news {
            self.asleep.store(false, Relaxed);
        }
        !has_news
    }
}

/// A reader that would sleep after each record, beside a selector with `count` of them.
fn reading(mutant: Mutant, count: u64, seen: impl FnOnce(u64, bool)) {
    let model = Model::new(mutant);
    let source = {
        let model = Rc::clone(&model);
        loom::thread::spawn(move || {
            // The ring is full where one finds no room.
            (0..count).fold(0, |position, _| position + u64::from(model.put(position)))
        })
    };
    let mut cursor = 0;
    loop {
        model.drain(&mut cursor);
        if model.sleeps(cursor) {
            break;
        }
        // What it has seen may be busy still.
        loom::thread::yield_now();
    }
    let asleep_after = cursor;
    let put = source.join().expect("the selector does not panic");
    assert!(asleep_after == put || model.rung.get(), "lost: asleep after {asleep_after} of {put}, and nobody rings");
    model.drain(&mut cursor);
    assert_eq!(cursor, put, "a record lost");
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
