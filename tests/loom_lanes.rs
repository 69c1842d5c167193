//! The lanes between shards under a model checker, and mutants that the models must find.
//!
//! ```text
//! borrower  take a loan, write its bytes, send it ............... take it back with a receipt, write again
//! owner     lend ..... take it, look at its bytes, transmit, look again at completion, give it back ......
//! ```
//!
//! The queue under test is [`spanwire::shard::spsc`] itself, over words made of loom's atomics. What `Lanes` does
//! with two of them is modelled: `send`, `collect`, `accept`, `settle` and `submit`, in the order of a breath. So is
//! the sleep of a shard and its `Waker`.
//!
//! A checker of this kind never shows a thread a value that is stored only later, so it cannot show a slot that was
//! overwritten too early. What it knows is which access is ordered before which. Beside each slot and each frame's
//! bytes lies an [`UnsafeCell`] that is accessed with them: two accesses that nothing orders are an error, whatever
//! was read.
//!
//! A mutant is the same code over words that leave one thing out, or the model with one step at another place.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod checker;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};

use checker::{check, fails};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use spanwire::shard::spsc::{self, Place, Receiver, Sender, Word};

/// What is left out or done in another order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mutant {
    /// Nothing: the protocol as it is.
    #[default]
    None,
    /// The Release of `tail`.
    TailRelease,
    /// The Acquire of `tail`.
    TailAcquire,
    /// The Release of `head`.
    HeadRelease,
    /// The Acquire of `head`.
    HeadAcquire,
    /// A message is submitted before it is in its slot.
    SubmitsFirst,
    /// The sender takes all that it sent as received.
    Capacity,
    /// The borrower writes a frame after it has sent it.
    WritesLate,
    /// The owner gives a frame back before the kernel is done with it.
    GivesBackEarly,
    /// The owner transmits what it has refused and given back.
    TransmitsRefused,
    /// The owner shows the loans before the room of the clones.
    ReleasesLate,
    /// The fence between `asleep` and the look for news.
    SleeperFence,
    /// The fence between the news and the look at `asleep`.
    WakerFence,
    /// The sleeper looks for news, then lies down.
    LooksFirst,
}

impl Mutant {
    /// `order`, or Relaxed in the mutant that leaves it out.
    fn order(self, left_out_by: Mutant, order: Ordering) -> Ordering {
        if self == left_out_by { Relaxed } else { order }
    }
}

// ---- the queue ----

thread_local! {
    /// What the words of the queue that is being made leave out.
    static MAKING: RefCell<Rc<Tampered>> = RefCell::default();
}

/// What the words of one queue leave out, and what that takes. The checker runs a model's threads on one: what is
/// no part of the model can be plain.
#[derive(Default)]
struct Tampered {
    mutant: Mutant,
    /// What the sender has submitted.
    sent: Cell<u64>,
    /// Slots that the sender has yet to write.
    held_back: RefCell<Vec<(Rc<Guarded>, u64)>>,
}

/// A value that is not to be accessed by two threads unless something orders the accesses.
struct Guarded {
    value: AtomicU64,
    access: UnsafeCell<()>,
}

impl Guarded {
    fn new() -> Guarded {
        Guarded { value: AtomicU64::new(0), access: UnsafeCell::new(()) }
    }

    fn read(&self) -> u64 {
        self.access.with(|_| ());
        self.value.load(Relaxed)
    }

    fn write(&self, value: u64) {
        self.access.with_mut(|_| ());
        self.value.store(value, Relaxed);
    }
}

/// A word of a queue.
enum Modelled {
    Cursor(Place, AtomicU64, Rc<Tampered>),
    Slot(Rc<Guarded>, Rc<Tampered>),
}

impl Word for Modelled {
    fn new(place: Place) -> Modelled {
        let queue = MAKING.with_borrow(Rc::clone);
        match place {
            Place::Slot => Modelled::Slot(Rc::new(Guarded::new()), queue),
            Place::Head | Place::Tail => Modelled::Cursor(place, AtomicU64::new(0), queue),
        }
    }

    fn load(&self, order: Ordering) -> u64 {
        match self {
            Modelled::Slot(slot, _) => slot.read(),
            Modelled::Cursor(Place::Tail, tail, queue) => tail.load(queue.mutant.order(Mutant::TailAcquire, order)),
            Modelled::Cursor(_, _, queue) if queue.mutant == Mutant::Capacity => queue.sent.get(),
            Modelled::Cursor(_, head, queue) => head.load(queue.mutant.order(Mutant::HeadAcquire, order)),
        }
    }

    fn store(&self, value: u64, order: Ordering) {
        match self {
            Modelled::Slot(slot, queue) if queue.mutant == Mutant::SubmitsFirst => {
                queue.held_back.borrow_mut().push((Rc::clone(slot), value));
            }
            Modelled::Slot(slot, _) => slot.write(value),
            Modelled::Cursor(Place::Tail, tail, queue) => {
                tail.store(value, queue.mutant.order(Mutant::TailRelease, order));
                queue.sent.set(value);
                queue.held_back.take().into_iter().for_each(|(slot, value)| slot.write(value));
            }
            Modelled::Cursor(_, head, queue) => head.store(value, queue.mutant.order(Mutant::HeadRelease, order)),
        }
    }
}

fn queue(mutant: Mutant, capacity: usize) -> (Sender<Modelled>, Receiver<Modelled>) {
    MAKING.set(Rc::new(Tampered { mutant, ..Tampered::default() }));
    spsc::queue(capacity)
}

/// The end that receives, and what it must find next.
struct Checked {
    receiver: Receiver<Modelled>,
    received: u64,
    /// Messages taken, for the sender to compare with.
    taken: Rc<Cell<u64>>,
}

impl Checked {
    fn breathe(&mut self) {
        while let Some([number, check]) = self.receiver.pop() {
            self.received += 1;
            self.taken.set(self.received);
            assert_eq!(check, !number, "a torn message");
            assert_eq!(number, self.received, "a message lost or turned around");
        }
        self.receiver.release();
    }
}

/// Two messages a breath into a queue that has no room for all of them.
fn passing(mutant: Mutant, capacity: usize, seen: impl FnOnce(bool)) {
    let (mut sender, receiver) = queue(mutant, capacity);
    let taken = Rc::new(Cell::new(0));
    let mut receiver = Checked { receiver, received: 0, taken: Rc::clone(&taken) };
    let source = loom::thread::spawn(move || {
        let (mut sent, mut was_full) = (0, false);
        for _breath in 0..3 {
            for _ in 0..2 {
                if sender.push([sent + 1, !(sent + 1)]).is_ok() {
                    sent += 1;
                    let waiting = sent - taken.get();
                    assert!(waiting <= capacity as u64, "a full queue took a message");
                } else {
                    assert!(sent >= capacity as u64, "a queue with room refused a message");
                    was_full = true;
                }
            }
            sender.submit();
        }
        (sender, sent, was_full)
    });
    for _breath in 0..3 {
        receiver.breathe();
    }
    let (mut sender, sent, was_full) = source.join().expect("the sender does not panic");
    receiver.breathe();
    assert_eq!(receiver.received, sent, "a message lost");
    assert!(sender.push([0; 2]).is_ok(), "a queue with room refused a message");
    seen(was_full);
}

// ---- the lanes ----

/// Frames that the owner lends: all it has, and as many as each queue has room for.
const SHARE: usize = 2;
/// Breaths of each side while both run.
const BORROWERS_BREATHS: usize = 4;
const OWNERS_BREATHS: usize = 3;
/// Stands for a frame that comes without a receipt.
const EMPTY: u64 = 0;

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hand {
    Owner,
    ToBorrower,
    Borrower,
    ToOwner,
}

struct Frame {
    bytes: Guarded,
    hand: Cell<Hand>,
}

impl Frame {
    fn pass(&self, from: Hand, to: Hand) {
        let found = self.hand.replace(to);
        assert_eq!(found, from, "a frame in two hands, on its way from {from:?} to {to:?}");
    }
}

type Frames = Rc<[Frame; SHARE]>;

/// `Borrow`, and what its shard does with it in a breath.
struct Borrower {
    mutant: Mutant,
    frames: Frames,
    clones: Sender<Modelled>,
    loans: Receiver<Modelled>,
    free: Vec<u64>,
    /// Clones sent.
    sent: u64,
    /// Those of which it is known what became of them.
    settled: Vec<u64>,
}

impl Borrower {
    fn breathe(&mut self) {
        self.collect();
        let loan = self.free.pop();
        if let Some(loan) = loan {
            self.sent += 1;
            let frame = &self.frames[loan as usize];
            if self.mutant != Mutant::WritesLate {
                frame.bytes.write(self.sent);
            }
            frame.pass(Hand::Borrower, Hand::ToOwner);
            self.clones.push([loan, self.sent]).expect("a full queue: it has room for every loan");
        }
        self.clones.submit();
        if let Some(loan) = loan.filter(|_| self.mutant == Mutant::WritesLate) {
            self.frames[loan as usize].bytes.write(self.sent);
        }
    }

    fn collect(&mut self) {
        while let Some([loan, receipt]) = self.loans.pop() {
            self.frames[loan as usize].pass(Hand::ToBorrower, Hand::Borrower);
            self.free.push(loan);
            if receipt != EMPTY {
                assert!(!self.settled.contains(&receipt), "a receipt that was there before");
                self.settled.push(receipt);
            }
        }
        self.loans.release();
    }
}

/// `Lend`, and what its shard does with it in a breath.
struct Owner {
    mutant: Mutant,
    frames: Frames,
    loans: Sender<Modelled>,
    clones: Receiver<Modelled>,
    /// Clones with the kernel: frame and number.
    transmitting: Vec<[u64; 2]>,
    /// Clones taken.
    taken: u64,
}

impl Owner {
    fn lend_all(&mut self) {
        for loan in 0..SHARE as u64 {
            self.give(loan, EMPTY);
        }
        self.loans.submit();
    }

    fn give(&mut self, loan: u64, receipt: u64) {
        self.frames[loan as usize].pass(Hand::Owner, Hand::ToBorrower);
        self.loans.push([loan, receipt]).expect("a full queue: it has room for every loan");
    }

    /// What was transmitted in the last breath is completed in this one. Each second clone is refused at once, as
    /// one is that comes to a full tx ring.
    fn breathe(&mut self) {
        for [loan, number] in std::mem::take(&mut self.transmitting) {
            self.look(loan, number);
            if self.mutant != Mutant::GivesBackEarly {
                self.give(loan, number);
            }
        }
        while let Some([loan, number]) = self.clones.pop() {
            self.frames[loan as usize].pass(Hand::ToOwner, Hand::Owner);
            self.taken += 1;
            assert_eq!(number, self.taken, "a clone lost or turned around");
            self.look(loan, number);
            let is_refused = number.is_multiple_of(2);
            if is_refused || self.mutant == Mutant::GivesBackEarly {
                self.give(loan, number);
            }
            if !is_refused || self.mutant == Mutant::TransmitsRefused {
                self.transmitting.push([loan, number]);
            }
        }
        if self.mutant == Mutant::ReleasesLate {
            self.loans.submit();
        }
        self.clones.release();
        self.loans.submit();
    }

    /// As the kernel does when it transmits.
    fn look(&self, loan: u64, number: u64) {
        assert_eq!(self.frames[loan as usize].bytes.read(), number, "a stale clone");
    }
}

/// Frames go to and fro. The mutants of a queue are those of the clones, or of the loans.
fn lending(mutant: Mutant, of_clones: Mutant, of_loans: Mutant, seen: impl FnOnce(u64)) {
    let frame = |_| Frame { bytes: Guarded::new(), hand: Cell::new(Hand::Owner) };
    let frames: Frames = Rc::new(std::array::from_fn(frame));
    let (clones_in, clones_out) = queue(of_clones, SHARE);
    let (loans_in, loans_out) = queue(of_loans, SHARE);
    let mut borrower = Borrower {
        mutant,
        frames: Rc::clone(&frames),
        clones: clones_in,
        loans: loans_out,
        free: Vec::new(),
        sent: 0,
        settled: Vec::new(),
    };
    let mut owner = Owner { mutant, frames, loans: loans_in, clones: clones_out, transmitting: Vec::new(), taken: 0 };
    owner.lend_all();
    let source = loom::thread::spawn(move || {
        for _breath in 0..BORROWERS_BREATHS {
            borrower.breathe();
        }
        borrower
    });
    for _breath in 0..OWNERS_BREATHS {
        owner.breathe();
    }
    let mut borrower = source.join().expect("the borrower does not panic");
    for _ in 0..2 {
        owner.breathe();
    }
    borrower.collect();
    assert_eq!(owner.taken, borrower.sent, "a clone lost");
    assert_eq!(borrower.settled.len() as u64, borrower.sent, "a receipt lost");
    assert_eq!(borrower.free.len(), SHARE, "a frame lost");
    seen(borrower.sent);
}

// ---- sleep ----

/// `Waker`, with a Relaxed word of news: the weakest there is of those that a sleeper looks for.
struct Waker {
    mutant: Mutant,
    news: AtomicU64,
    asleep: AtomicBool,
    /// The event that ends the sleep.
    rung: Cell<bool>,
}

impl Waker {
    fn fence(&self, left_out_by: Mutant) {
        if self.mutant != left_out_by {
            fence(SeqCst);
        }
    }

    /// A shard that has found nothing: whether it goes to sleep.
    fn sleeps(&self, seen: u64) -> bool {
        let early = (self.mutant == Mutant::LooksFirst).then(|| self.news.load(Relaxed));
        self.asleep.store(true, Relaxed);
        self.fence(Mutant::SleeperFence);
        early.unwrap_or_else(|| self.news.load(Relaxed)) == seen
    }

    fn wake(&self) {
        self.fence(Mutant::WakerFence);
        if self.asleep.load(Relaxed) {
            self.rung.set(true);
        }
    }
}

/// A shard that would sleep again after each piece of news, beside one that brings it two.
fn sleeping(mutant: Mutant, seen: impl FnOnce(u64)) {
    let waker =
        Rc::new(Waker { mutant, news: AtomicU64::new(0), asleep: AtomicBool::new(false), rung: Cell::new(false) });
    let source = {
        let waker = Rc::clone(&waker);
        loom::thread::spawn(move || {
            for news in 1..=2 {
                waker.news.store(news, Relaxed);
                waker.wake();
            }
        })
    };
    let mut heard = 0;
    while !waker.sleeps(heard) {
        waker.asleep.store(false, Relaxed);
        heard = waker.news.load(Relaxed);
    }
    source.join().expect("the source does not panic");
    assert!(heard == 2 || waker.rung.get(), "lost: asleep after {heard} of two, and nobody rings");
    seen(heard);
}

// ---- the checks ----

#[test]
fn a_queue_loses_and_overwrites_nothing_and_notices_when_it_is_full() {
    static FULL: [Count; 2] = [const { Count::new(0) }; 2];
    for capacity in [1, 2] {
        let executions = check(None, move || {
            passing(Mutant::None, capacity, |was_full| {
                FULL[usize::from(was_full)].fetch_add(1, SeqCst);
            });
        });
        println!("{executions} executions with a capacity of {capacity}; never, sometimes full so far: {FULL:?}");
    }
    assert!(FULL.iter().all(|n| n.load(SeqCst) > 0), "the models come by both");
}

#[test]
fn a_lent_frame_is_in_one_hand_and_carries_what_was_written() {
    static SENT: [Count; BORROWERS_BREATHS + 1] = [const { Count::new(0) }; BORROWERS_BREATHS + 1];
    let executions = check(None, || {
        lending(Mutant::None, Mutant::None, Mutant::None, |sent| {
            SENT[sent as usize].fetch_add(1, SeqCst);
        });
    });
    println!("{executions} executions; by clones sent: {SENT:?}");
    // The first two go in frames that are new, each of the others in one that came back.
    assert!(SENT[SHARE..].iter().all(|n| n.load(SeqCst) > 0), "the model comes by all of these");
}

#[test]
fn no_shard_sleeps_through_news() {
    static HEARD: [Count; 3] = [const { Count::new(0) }; 3];
    let executions = check(None, || {
        sleeping(Mutant::None, |heard| {
            HEARD[heard as usize].fetch_add(1, SeqCst);
        });
    });
    println!("{executions} executions; asleep after none, one, two: {HEARD:?}");
    assert!(HEARD.iter().all(|n| n.load(SeqCst) > 0), "the model comes by all of these");
}

/// What is said of two accesses that nothing orders.
const UNORDERED: &str = "Causality violation: Concurrent";

macro_rules! mutants {
    ($($name:ident: $model:expr => $why:expr;)*) => { $(
        #[test]
        fn $name() {
            fails(None, || $model, &[$why]);
        }
    )* };
}

fn passing_with(mutant: Mutant) {
    passing(mutant, 1, |_| ());
}

fn lending_with(mutant: Mutant) {
    lending(mutant, Mutant::None, Mutant::None, |_| ());
}

fn lending_with_clones(mutant: Mutant) {
    lending(Mutant::None, mutant, Mutant::None, |_| ());
}

fn lending_with_loans(mutant: Mutant) {
    lending(Mutant::None, Mutant::None, mutant, |_| ());
}

mutants! {
    with_a_relaxed_store_of_tail: passing_with(Mutant::TailRelease) => UNORDERED;
    with_a_relaxed_load_of_tail: passing_with(Mutant::TailAcquire) => UNORDERED;
    with_a_relaxed_store_of_head: passing_with(Mutant::HeadRelease) => UNORDERED;
    with_a_relaxed_load_of_head: passing_with(Mutant::HeadAcquire) => UNORDERED;
    with_a_submit_before_the_message: passing_with(Mutant::SubmitsFirst) => UNORDERED;
    without_a_look_at_the_room: passing_with(Mutant::Capacity) => "a full queue took a message";
    with_a_relaxed_store_of_the_clones_tail: lending_with_clones(Mutant::TailRelease) => UNORDERED;
    with_a_relaxed_load_of_the_clones_tail: lending_with_clones(Mutant::TailAcquire) => UNORDERED;
    with_a_relaxed_store_of_the_loans_tail: lending_with_loans(Mutant::TailRelease) => UNORDERED;
    with_a_relaxed_load_of_the_loans_tail: lending_with_loans(Mutant::TailAcquire) => UNORDERED;
    with_bytes_written_after_the_frame_was_sent: lending_with(Mutant::WritesLate) => UNORDERED;
    with_a_frame_given_back_before_its_completion: lending_with(Mutant::GivesBackEarly) => "a stale clone";
    with_a_refused_clone_transmitted: lending_with(Mutant::TransmitsRefused) => "in two hands";
    with_loans_shown_before_the_room_of_clones: lending_with(Mutant::ReleasesLate) => "a full queue";
    without_the_sleepers_fence: sleeping(Mutant::SleeperFence, |_| ()) => "lost";
    without_the_wakers_fence: sleeping(Mutant::WakerFence, |_| ()) => "lost";
    with_a_look_for_news_before_lying_down: sleeping(Mutant::LooksFirst, |_| ()) => "lost";
}
