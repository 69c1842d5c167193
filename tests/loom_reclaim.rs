//! Adoption, acknowledgement and reclamation under a model checker, and mutants that the model must find.
//!
//! ```text
//! adopter  build t, swap t in ........ every shard acknowledged a newer one? free t's predecessor, reuse its slots
//! shard    load the newest, bind to it, let go of the older one, acknowledge ........ use what it is bound to
//! ```
//!
//! It models `Adopter::poll` and `reclaim` (the swap of the `ArcSwap` is an atomic index), `Shard::adopt` and
//! `ShardBlock::adopt`. Memory is not really freed. Each shard marks what it is bound to, and the adopter looks at
//! the marks when it frees: if it can find a mark that the shard has taken back, then nothing orders its free
//! after the shard's last use, which on real memory is a use after free.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

mod checker;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use checker::{check, fails};
use loom::sync::atomic::AtomicUsize;

/// Bounds the executions tried; all the mutants are found with fewer.
const PREEMPTIONS: usize = 3;
const SHARDS: usize = 2;
/// Table 0 is there from the beginning, 1 and 2 are swapped in.
const TABLES: usize = 3;

/// What is left out or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// Nothing: the protocol as it is.
    None,
    /// A shard acknowledges before it lets go of the older table.
    AcknowledgesFirst,
    /// A shard acknowledges the table that is newest by then, not the one it is bound to.
    AcknowledgesTheNewest,
    /// The Release of the acknowledgement.
    AcknowledgementRelease,
    /// The adopter's Acquire of it.
    AcknowledgementAcquire,
    /// The adopter frees without waiting.
    Wait,
    /// The adopter frees after the first shard that has moved on.
    EveryShard,
    /// The Release of the swap.
    SwapRelease,
    /// The Acquire of a shard's load of the newest table.
    SwapAcquire,
    /// The adopter's wait for every shard before it looks for clones in flight.
    Settled,
    /// The adopter's look for clones in flight.
    InFlight,
    /// The Release of the count of clones in flight.
    InFlightRelease,
}

impl Mutant {
    /// `order`, or Relaxed in the mutant that leaves it out.
    fn order(self, left_out_by: Mutant, order: Ordering) -> Ordering {
        if self == left_out_by { Relaxed } else { order }
    }
}

struct Model {
    mutant: Mutant,
    /// The newest table.
    current: AtomicUsize,
    /// What building a table wrote; its own index once it is built.
    built: [AtomicUsize; TABLES],
    /// 1 once it is freed.
    freed: [AtomicUsize; TABLES],
    shards: [Shard; SHARDS],
}

/// One `ShardBlock`.
struct Shard {
    adopted: AtomicUsize,
    /// 1 while the shard is bound to that table.
    bound: [AtomicUsize; TABLES],
    /// The ledger of the one slot that tables 0 and 2 have an entry in, and its clones in flight.
    ledger: AtomicUsize,
    in_flight: AtomicUsize,
}

impl Model {
    fn new(mutant: Mutant) -> Arc<Model> {
        let zeroes = || std::array::from_fn(|_| AtomicUsize::new(0));
        let shard = |_| Shard {
            adopted: AtomicUsize::new(0),
            bound: std::array::from_fn(|table| AtomicUsize::new(usize::from(table == 0))),
            ledger: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
        };
        Arc::new(Model {
            mutant,
            current: AtomicUsize::new(0),
            built: zeroes(),
            freed: zeroes(),
            shards: std::array::from_fn(shard),
        })
    }

    // ---- the adopter ----

    fn swap(&self, table: usize) {
        self.built[table].store(table, Relaxed);
        // Release: pairs with the Acquire in Bound::adopt.
        self.current.store(table, self.mutant.order(Mutant::SwapRelease, Release));
    }

    /// The oldest table that a shard may be bound to.
    fn oldest(&self) -> usize {
        let order = self.mutant.order(Mutant::AcknowledgementAcquire, Acquire);
        let adopted = self.shards.iter().map(|shard| shard.adopted.load(order));
        let oldest = if self.mutant == Mutant::EveryShard { adopted.max() } else { adopted.min() };
        if self.mutant == Mutant::Wait { TABLES } else { oldest.expect("there are shards") }
    }

    /// Frees the retired tables that no shard can reach.
    fn reclaim(&self, retired: &mut Vec<usize>) {
        let oldest = self.oldest();
        for table in retired.extract_if(.., |table| *table < oldest) {
            for shard in &self.shards {
                assert_eq!(shard.bound[table].load(Relaxed), 0, "table {table} freed while a shard is bound to it");
            }
            self.freed[table].store(1, Relaxed);
        }
    }

    /// Makes the slot one that a new entry may have, if nobody uses it any more.
    fn release_slot(&self, retired: &[usize], newest: usize) -> bool {
        let settled = self.mutant == Mutant::Settled || (retired.is_empty() && self.oldest() >= newest);
        let idle = settled
            && self.shards.iter().all(|shard| self.mutant == Mutant::InFlight || shard.in_flight.load(Acquire) == 0);
        if idle {
            for shard in &self.shards {
                // What the shard counted for the entry that is gone is there to be reported, and then zeroed.
                let counted = shard.ledger.load(Relaxed);
                assert!(counted != STARTED, "slot given away before its last clone was counted");
                shard.ledger.store(0, Relaxed);
            }
        }
        idle
    }
}

/// A ledger with a clone in flight, and with that clone completed.
const STARTED: usize = 1;
const COMPLETED: usize = 2;

/// A shard as its own thread sees it.
struct Bound<'a> {
    model: &'a Model,
    shard: &'a Shard,
    table: usize,
}

impl<'a> Bound<'a> {
    fn new(model: &'a Model, id: usize) -> Self {
        Bound { model, shard: &model.shards[id], table: 0 }
    }

    /// Takes the newest table if there is a newer one.
    fn adopt(&mut self) {
        let Model { mutant, current, .. } = self.model;
        // Acquire: pairs with the Release in Model::swap.
        let newest = current.load(mutant.order(Mutant::SwapAcquire, Acquire));
        if newest == self.table {
            return;
        }
        let older = std::mem::replace(&mut self.table, newest);
        self.shard.bound[newest].store(1, Relaxed);
        if *mutant == Mutant::AcknowledgesFirst {
            self.shard.adopted.store(newest, Release);
        }
        self.shard.bound[older].store(0, Relaxed);
        let told = if *mutant == Mutant::AcknowledgesTheNewest { current.load(Acquire) } else { newest };
        // Release: pairs with the Acquire in Model::oldest.
        self.shard.adopted.store(told, mutant.order(Mutant::AcknowledgementRelease, Release));
    }

    /// Uses the table it is bound to, as every batch of frames does.
    fn look_up(&self) {
        assert_eq!(self.model.built[self.table].load(Relaxed), self.table, "table used before it was built");
        assert_eq!(self.model.freed[self.table].load(Relaxed), 0, "table used after it was freed");
    }
}

/// Two swaps with the older tables freed as soon as they may be, beside shards that take what they find.
fn tables(mutant: Mutant, freed: impl FnOnce(usize)) {
    let model = Model::new(mutant);
    let shards: Vec<_> = (0..SHARDS)
        .map(|id| {
            let model = Arc::clone(&model);
            loom::thread::spawn(move || {
                let mut shard = Bound::new(&model, id);
                for _breath in 0..2 {
                    shard.adopt();
                    shard.look_up();
                }
            })
        })
        .collect();
    let mut retired = Vec::new();
    for table in 1..TABLES {
        model.swap(table);
        retired.push(table - 1);
        model.reclaim(&mut retired);
    }
    freed(TABLES - 1 - retired.len());
    for shard in shards {
        shard.join().expect("a shard does not panic");
    }
}

/// The slot of an entry that goes with table 1 is given to another in table 2, once its clone is counted.
fn slots(mutant: Mutant, reused: impl FnOnce(bool)) {
    let model = Model::new(mutant);
    let shard = {
        let model = Arc::clone(&model);
        loom::thread::spawn(move || {
            let mut shard = Bound::new(&model, 0);
            let mut sent = false;
            for breath in 0..3 {
                shard.adopt();
                match shard.table {
                    0 if breath == 0 => {
                        shard.shard.ledger.store(STARTED, Relaxed);
                        shard.shard.in_flight.store(1, Relaxed);
                        sent = true;
                    }
                    2 => {
                        assert!(!sent, "slot given away with a clone in flight");
                        assert_eq!(
                            shard.shard.ledger.load(Relaxed),
                            0,
                            "a new entry begins with the counts of another"
                        );
                    }
                    _ if sent => {
                        shard.shard.ledger.store(COMPLETED, Relaxed);
                        // Release: pairs with the Acquire in Model::release_slot.
                        shard.shard.in_flight.store(0, mutant.order(Mutant::InFlightRelease, Release));
                        sent = false;
                    }
                    _ => (),
                }
            }
        })
    };
    // The second shard has nothing to do with the slot.
    model.shards[1].adopted.store(1, Relaxed);
    model.shards[1].bound[0].store(0, Relaxed);
    model.swap(1);
    let mut retired = vec![0];
    let mut free = false;
    for _ in 0..2 {
        model.reclaim(&mut retired);
        free = free || model.release_slot(&retired, 1);
    }
    if free {
        model.swap(2);
    }
    reused(free);
    shard.join().expect("the shard does not panic");
}

#[test]
fn no_table_is_freed_while_a_shard_uses_it() {
    static FREED: [Count; TABLES] = [const { Count::new(0) }; TABLES];
    let executions = check(Some(PREEMPTIONS), || {
        tables(Mutant::None, |n| {
            FREED[n].fetch_add(1, SeqCst);
        });
    });
    println!("{executions} executions; none, one, both older tables freed: {FREED:?}");
    assert!(FREED.iter().all(|n| n.load(SeqCst) > 0), "the model comes by all of these");
}

#[test]
fn no_slot_is_reused_while_a_shard_counts_in_it() {
    static REUSED: [Count; 2] = [const { Count::new(0) }; 2];
    let executions = check(Some(PREEMPTIONS), || {
        slots(Mutant::None, |reused| {
            REUSED[usize::from(reused)].fetch_add(1, SeqCst);
        });
    });
    println!("{executions} executions; slot kept, reused: {REUSED:?}");
    assert!(REUSED.iter().all(|n| n.load(SeqCst) > 0), "the model comes by both");
}

macro_rules! mutants {
    ($($name:ident: $model:expr;)*) => { $(
        #[test]
        fn $name() {
            fails(Some(PREEMPTIONS), || $model, &["table", "slot", "entry"]);
        }
    )* };
}

mutants! {
    with_the_acknowledgement_before_letting_go: tables(Mutant::AcknowledgesFirst, |_| ());
    with_an_acknowledgement_of_another_table: tables(Mutant::AcknowledgesTheNewest, |_| ());
    with_a_relaxed_acknowledgement: tables(Mutant::AcknowledgementRelease, |_| ());
    with_a_relaxed_look_at_acknowledgements: tables(Mutant::AcknowledgementAcquire, |_| ());
    with_a_free_that_does_not_wait: tables(Mutant::Wait, |_| ());
    with_a_free_after_the_first_shard: tables(Mutant::EveryShard, |_| ());
    with_a_relaxed_swap: tables(Mutant::SwapRelease, |_| ());
    with_a_relaxed_load_of_the_newest: tables(Mutant::SwapAcquire, |_| ());
    with_a_slot_reused_before_shards_moved_on: slots(Mutant::Settled, |_| ());
    with_a_slot_reused_with_a_clone_in_flight: slots(Mutant::InFlight, |_| ());
    with_a_relaxed_count_in_flight: slots(Mutant::InFlightRelease, |_| ());
}
