//! The adopter: reads each published snapshot, builds its table off the hot path, swaps it in, and frees the
//! older ones once every shard, and what selects frames for them in the kernel, has moved on.
//!
//! # Orderings
//! The swap publishes the table (arc-swap's own orderings). A shard stores its acknowledgement Release after it
//! has let go of the older table; [`ShardBlock::adopted_serial`] loads it Acquire before the adopter drops that
//! table and gives its slots to others.

use std::sync::Arc;
use std::time::Duration;

use shm_layout::protocol::ReadError;
use shm_layout::snapshot::SnapshotView;

use super::slots::Slots;
use super::table::{Current, EntryKey, Table};
use super::upstream::Upstream;
use crate::counters::{self, Counted, ENTRY_SLOTS, MAX_ENTRIES, ShardBlock};
use crate::region::{Polled, RegionError, Subscriber};

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
    /// The region can be read again, and still holds what was adopted last.
    Recovered,
}

/// Follows the config region for all shards of a dataplane.
#[derive(Debug)]
pub struct Adopter {
    subscriber: Subscriber,
    current: Arc<Current>,
    shards: Vec<Arc<ShardBlock>>,
    /// What selects frames for the shards, if anything does.
    upstream: Option<Arc<dyn Upstream>>,
    slots: Slots,
    serial: u64,
    /// Older tables, until every shard uses a newer one.
    retired: Vec<Arc<Table>>,
    /// Why the region cannot be read, or what is short; empty while all is well.
    trouble: String,
}

impl Adopter {
    /// An adopter that swaps tables into `current`, used by `shards`.
    pub fn new(subscriber: Subscriber, current: Arc<Current>, shards: Vec<Arc<ShardBlock>>) -> Adopter {
        let slots = Slots::new(ENTRY_SLOTS as u32);
        let (retired, trouble) = (Vec::new(), String::new());
        Adopter { subscriber, current, shards, upstream: None, slots, serial: 0, retired, trouble }
    }

    /// The same where frames are selected for the shards.
    pub fn with_upstream(self, upstream: Arc<dyn Upstream>) -> Adopter {
        Adopter { upstream: Some(upstream), ..self }
    }

    /// Adopts the newest snapshot if there is a new one, and frees what can be freed.
    pub fn poll(&mut self) -> Adoption {
        self.reclaim();
        let built = match self.subscriber.poll() {
            Ok(Polled::Unchanged) if self.trouble.is_empty() => return Adoption::None,
            Ok(Polled::Unchanged) => {
                self.trouble.clear();
                return Adoption::Recovered;
            }
            Ok(Polled::New { instance, words, .. }) => {
                let before = self.current.load();
                let upstream = self.upstream.as_deref();
                build(words, instance, self.serial + 1, &before, &mut self.slots, &self.shards, upstream)
            }
            Err(error) => return self.unreadable(&error),
        };
        if let Err(Unbuilt::Short(what)) = built {
            self.subscriber.forget();
            return self.told_once(what);
        }
        self.trouble.clear();
        match built {
            Ok(table) => {
                let generation = table.generation;
                self.serial = table.serial;
                self.retired.push(self.current.swap(table));
                Adoption::Adopted { generation }
            }
            Err(Unbuilt::NotYet) => {
                // Slots come free as clones complete and shards move on: look at the same image again.
                self.subscriber.forget();
                Adoption::None
            }
            Err(Unbuilt::Never(reason) | Unbuilt::Short(reason)) => Adoption::Refused { reason },
        }
    }

    /// A region that cannot be read is told once, however long it lasts.
    fn unreadable(&mut self, error: &RegionError) -> Adoption {
        let passing = match error {
            // Before the first publish there is nothing to miss.
            RegionError::Missing { .. } => self.serial == 0,
            // Replaced or overwritten while it was read: it will not be the next time.
            RegionError::Read { source, .. } => matches!(source, ReadError::Superseded | ReadError::Lapped),
            _ => false,
        };
        if passing { Adoption::None } else { self.told_once(error.to_string()) }
    }

    fn told_once(&mut self, reason: String) -> Adoption {
        if reason == self.trouble {
            return Adoption::None;
        }
        self.trouble.clone_from(&reason);
        Adoption::Refused { reason }
    }

    /// The table in force.
    pub fn current(&self) -> Arc<Table> {
        self.current.load()
    }

    /// Sleeps until the next publish, at most `timeout`. Whether there was one.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.subscriber.wait(timeout)
    }

    /// Whether every shard uses the newest table.
    pub fn is_settled(&self) -> bool {
        let newest = self.current.serial();
        self.shards.iter().all(|shard| shard.adopted_serial() >= newest)
    }

    /// Drops the tables that no shard can reach any more, and frees the slots that the kernel cannot reach either.
    pub fn reclaim(&mut self) {
        let oldest = self.shards.iter().map(|shard| shard.adopted_serial()).min().unwrap_or(u64::MAX);
        self.retired.retain(|table| table.serial >= oldest);
        let oldest = self.upstream.as_ref().map_or(oldest, |upstream| oldest.min(upstream.serial()));
        let (shards, upstream) = (&self.shards, self.upstream.as_deref());
        self.slots.release(oldest, |slot| {
            let counted = || {
                let mut all = Counted::default();
                upstream.iter().for_each(|of| shards.iter().for_each(|shard| all += of.counted(slot, shard.id)));
                all
            };
            counters::is_drained(shards.iter().map(|shard| shard.entry(slot)), counted)
        });
    }
}

/// Why an image gave no table.
enum Unbuilt {
    /// It does not hold, or never fits.
    Never(String),
    /// It fits once older entries have drained.
    NotYet,
    /// Something was short meanwhile.
    Short(String),
}

/// The table of an image, to follow the one `before`.
fn build(
    words: &[u64],
    instance: u64,
    serial: u64,
    before: &Table,
    slots: &mut Slots,
    shards: &[Arc<ShardBlock>],
    upstream: Option<&dyn Upstream>,
) -> Result<Table, Unbuilt> {
    let view = SnapshotView::try_from(words).map_err(|e| Unbuilt::Never(e.to_string()))?;
    if view.mirrors.len() > MAX_ENTRIES {
        let entries = view.mirrors.len();
        return Err(Unbuilt::Never(format!("{entries} mirror entries; a shard keeps ledgers for {MAX_ENTRIES}")));
    }
    let keys = view.mirrors.iter().map(|m| EntryKey {
        ingress_ifindex: m.ingress_ifindex,
        output_ifindex: m.output_ifindex,
        rate: m.rate,
    });
    let plan = slots.plan(keys, before.takes_over_as(view.meta.role)).ok_or(Unbuilt::NotYet)?;
    plan.fresh().iter().for_each(|&slot| shards.iter().for_each(|shard| shard.entry(slot).reset()));
    if let Some(Err(what)) = upstream.map(|upstream| upstream.reset(plan.fresh())) {
        slots.abandon(plan);
        return Err(Unbuilt::Short(what));
    }
    let table = Table::build(&view, instance, serial, |key| plan.slot(key));
    slots.commit(plan, serial);
    Ok(table)
}
