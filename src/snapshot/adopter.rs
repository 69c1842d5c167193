//! The adopter: reads each published snapshot, builds its table off the hot path, swaps it in, and frees the
//! older ones once every shard has moved on.
//!
//! # Orderings
//! The swap publishes the table (arc-swap's own orderings). A shard stores its acknowledgement Release after it
//! has let go of the older table; [`ShardBlock::adopted_serial`] loads it Acquire before the adopter drops that
//! table and gives its slots to others.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use shm_layout::view::SnapshotView;

use super::slots::Slots;
use super::table::{EntryKey, Table};
use crate::counters::{ENTRY_SLOTS, ShardBlock};
use crate::region::{Polled, Subscriber};

/// What [`Adopter::poll`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Adoption {
    /// There was nothing new.
    None,
    /// A new table is in force.
    Adopted {
        /// Its generation.
        generation: u64,
    },
    /// There was something, and it was refused: the last good table stays.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Follows the config region for all shards of a dataplane.
#[derive(Debug)]
pub struct Adopter {
    subscriber: Subscriber,
    current: Arc<ArcSwap<Table>>,
    shards: Vec<Arc<ShardBlock>>,
    slots: Slots,
    serial: u64,
    /// Older tables, until every shard uses a newer one.
    retired: Vec<Arc<Table>>,
    /// The last reason told, so that a lasting one is told once.
    told: String,
}

impl Adopter {
    /// An adopter that swaps tables into `current`, used by `shards`.
    pub fn new(subscriber: Subscriber, current: Arc<ArcSwap<Table>>, shards: Vec<Arc<ShardBlock>>) -> Adopter {
        let slots = Slots::new(ENTRY_SLOTS as u32);
        Adopter { subscriber, current, shards, slots, serial: 0, retired: Vec::new(), told: String::new() }
    }

    /// Adopts the newest snapshot if there is a new one, and frees what can be freed.
    pub fn poll(&mut self) -> Adoption {
        self.reclaim();
        let outcome = match self.subscriber.poll() {
            Ok(Polled::Unchanged) => return Adoption::None,
            Ok(Polled::New { instance, words, .. }) => {
                self.serial += 1;
                match build(words, instance, self.serial, &mut self.slots, &self.shards) {
                    Ok(table) => Ok(table),
                    Err(reason) => Err(reason),
                }
            }
            // Before the first publish there is nothing to refuse.
            Err(crate::region::RegionError::Missing { .. }) if self.serial == 0 => return Adoption::None,
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(table) => {
                let generation = table.generation;
                self.told.clear();
                self.retired.push(self.current.swap(Arc::new(table)));
                Adoption::Adopted { generation }
            }
            Err(reason) if reason == self.told => Adoption::None,
            Err(reason) => {
                self.told.clone_from(&reason);
                Adoption::Refused { reason }
            }
        }
    }

    /// Sleeps until the next publish, at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        self.subscriber.wait(timeout);
    }

    /// Whether every shard uses the newest table.
    pub fn is_settled(&self) -> bool {
        let newest = self.current.load().serial;
        self.shards.iter().all(|shard| shard.adopted_serial() >= newest)
    }

    /// Drops the tables and frees the slots that no shard can reach any more.
    pub fn reclaim(&mut self) {
        let oldest = self.shards.iter().map(|shard| shard.adopted_serial()).min().unwrap_or(u64::MAX);
        self.retired.retain(|table| table.serial >= oldest);
        if self.retired.is_empty() && self.is_settled() {
            let shards = &self.shards;
            self.slots.release(|slot| shards.iter().all(|shard| shard.entry(slot).in_flight() == 0));
        }
    }
}

fn build(
    words: &[u64],
    instance: u64,
    serial: u64,
    slots: &mut Slots,
    shards: &[Arc<ShardBlock>],
) -> Result<Table, String> {
    let view = SnapshotView::try_from(words).map_err(|e| e.to_string())?;
    let keys = view.mirrors.iter().map(|m| EntryKey {
        ingress_ifindex: m.ingress_ifindex,
        output_ifindex: m.output_ifindex,
        rate: m.rate,
    });
    let plan = slots.plan(keys).ok_or_else(|| {
        format!(
            "{} mirror entries do not fit the {ENTRY_SLOTS} ledgers of a shard beside those still draining",
            view.mirrors.len()
        )
    })?;
    for &slot in plan.fresh() {
        shards.iter().for_each(|shard| shard.entry(slot).reset());
    }
    let table = Table::build(&view, instance, serial, |key| plan.slot(key));
    slots.commit(plan);
    Ok(table)
}
