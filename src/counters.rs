//! The counters a shard writes: plain memory of this process, one writer each, read by the stats publisher.
//!
//! A shard never touches `stats.shm`: a truncated file must not fault on the hot path, and a reader must not
//! be able to slow a shard. It commits into these blocks; the stats thread copies them out.
//!
//! # Orderings
//! All values are Relaxed: each is written by one shard only. An entry's row is guarded by its sequence word,
//! as slots of a region are: odd (Relaxed), fence Release, values, even (Release); the reader loads Acquire,
//! copies, fences Acquire and looks again. `adopted_serial` is stored Release after the shard's last use of the
//! older table and loaded Acquire before the adopter frees it.

mod ledger;

use std::array;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crossbeam_utils::CachePadded;
use shm_layout::counters::{BINDING_VALUES, PARTITION_VALUES, Partition, SHARD_VALUES, SIGHT_VALUES, Sight};
use shm_layout::record::{LATENCY_BUCKETS, latency_bucket};

use crate::clock;
pub use ledger::{Counted, EntryCell, Row, is_drained, whole};

/// Mirror entries a table may have.
pub const MAX_ENTRIES: usize = 65_536;
/// Ledgers a shard has: for a full table, the one replacing it, and entries that are gone but have clones in
/// flight.
pub const ENTRY_SLOTS: usize = 2 * MAX_ENTRIES + 4096;

/// Adds to a value that only this thread writes.
fn add(value: &AtomicU64, n: u64) {
    value.store(value.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Latencies of table swaps, from publish to first use.
#[derive(Debug)]
pub struct SwapHistogram {
    buckets: [AtomicU64; LATENCY_BUCKETS],
    max_ns: AtomicU64,
    sum_ns: AtomicU64,
}

impl SwapHistogram {
    fn record(&self, ns: u64) {
        add(&self.buckets[latency_bucket(ns)], 1);
        add(&self.sum_ns, ns);
        if ns > self.max_ns.load(Relaxed) {
            self.max_ns.store(ns, Relaxed);
        }
    }

    /// Buckets, the longest and the sum of all, nanoseconds.
    pub fn read(&self) -> ([u64; LATENCY_BUCKETS], u64, u64) {
        let buckets = array::from_fn(|i| self.buckets[i].load(Relaxed));
        (buckets, self.max_ns.load(Relaxed), self.sum_ns.load(Relaxed))
    }
}

/// Everything one shard counts, on memory of its own.
#[derive(Debug)]
pub struct ShardBlock {
    /// Index of the shard.
    pub id: u32,
    /// Processor it is to run on.
    pub cpu: u32,
    /// 1 once it is pinned there.
    pub pinned: AtomicU32,
    /// Serial of the table it uses: the adopter frees older ones.
    adopted_serial: CachePadded<AtomicU64>,
    adopted_generation: CachePadded<AtomicU64>,
    values: CachePadded<[AtomicU64; SHARD_VALUES]>,
    partitions: CachePadded<[[AtomicU64; PARTITION_VALUES]; 2]>,
    /// See [`shm_layout::record::CloneRecord::on_the_way`].
    clones: AtomicU64,
    /// Swap latencies.
    pub swaps: CachePadded<SwapHistogram>,
    entries: Box<[EntryCell]>,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    started_at: u64,
}

impl ShardBlock {
    /// A block of zeroes.
    pub fn new(id: u32, cpu: u32) -> ShardBlock {
        let zero = || AtomicU64::new(0);
        ShardBlock {
            id,
            cpu,
            pinned: AtomicU32::new(0),
            adopted_serial: zero().into(),
            adopted_generation: zero().into(),
            values: array::from_fn(|_| zero()).into(),
            partitions: array::from_fn(|_| array::from_fn(|_| zero())).into(),
            clones: zero(),
            swaps: SwapHistogram { buckets: array::from_fn(|_| zero()), max_ns: zero(), sum_ns: zero() }.into(),
            entries: bytemuck::allocation::zeroed_slice_box(ENTRY_SLOTS),
            started_at: clock::monotonic_ns(),
        }
    }

    /// The ledger in `slot`. Slots beyond the last share it, which the adopter never lets happen.
    pub fn entry(&self, slot: u32) -> &EntryCell {
        &self.entries[(slot as usize).min(ENTRY_SLOTS - 1)]
    }

    /// Tells that the shard has begun to use a table and has let go of every older one.
    pub fn adopt(&self, serial: u64, generation: u64, published_at: u64) {
        // What was published before the start waited for the start, not for the handoff.
        if published_at >= self.started_at {
            self.swaps.record(clock::monotonic_ns().saturating_sub(published_at));
        }
        self.adopted_generation.store(generation, Relaxed);
        // Release: pairs with the Acquire in `adopted_serial`.
        self.adopted_serial.store(serial, Release);
    }

    /// Serial of the table the shard uses.
    pub fn adopted_serial(&self) -> u64 {
        self.adopted_serial.load(Acquire)
    }

    /// Generation of the table the shard uses; 0 before the first.
    pub fn adopted_generation(&self) -> u64 {
        self.adopted_generation.load(Relaxed)
    }

    /// Stores the shard's own values, once a breath.
    pub fn commit(&self, values: &[u64; SHARD_VALUES]) {
        for (to, from) in self.values.iter().zip(values) {
            to.store(*from, Relaxed);
        }
    }

    /// Stores the gauges of a partition.
    pub fn commit_partition(&self, partition: usize, values: &[u64; PARTITION_VALUES]) {
        for (to, from) in self.partitions[partition & 1].iter().zip(values) {
            to.store(*from, Relaxed);
        }
    }

    /// Stores how many of the shard's clones are on the way.
    pub fn commit_clones(&self, on_the_way: u64) {
        self.clones.store(on_the_way, Relaxed);
    }

    /// How many of the shard's clones are on the way.
    pub fn clones(&self) -> u64 {
        self.clones.load(Relaxed)
    }

    /// The shard's own values.
    pub fn values(&self) -> [u64; SHARD_VALUES] {
        array::from_fn(|i| self.values[i].load(Relaxed))
    }

    /// The gauges of a partition.
    pub fn partition(&self, partition: usize) -> [u64; PARTITION_VALUES] {
        array::from_fn(|i| self.partitions[partition & 1][i].load(Relaxed))
    }
}

/// A row of partition gauges.
pub fn partition_row([size, free, fill_rx, tx, quarantined, lent]: [u32; PARTITION_VALUES]) -> [u64; PARTITION_VALUES] {
    let mut row = [0; PARTITION_VALUES];
    row[Partition::Size as usize] = size.into();
    row[Partition::Free as usize] = free.into();
    row[Partition::FillRx as usize] = fill_rx.into();
    row[Partition::Tx as usize] = tx.into();
    row[Partition::Quarantined as usize] = quarantined.into();
    row[Partition::Lent as usize] = lent.into();
    row
}

/// What one binding counts.
#[derive(Debug)]
pub struct BindingBlock {
    values: CachePadded<[AtomicU64; BINDING_VALUES]>,
    /// Seldom written.
    sights: [AtomicU64; SIGHT_VALUES],
}

impl Default for BindingBlock {
    fn default() -> Self {
        let zero = |_| AtomicU64::new(0);
        BindingBlock { values: array::from_fn(zero).into(), sights: array::from_fn(zero) }
    }
}

impl BindingBlock {
    /// Stores every value. Only the owning shard.
    pub fn commit(&self, values: &[u64; BINDING_VALUES]) {
        for (to, from) in self.values.iter().zip(values) {
            to.store(*from, Relaxed);
        }
    }

    /// Every value.
    pub fn read(&self) -> [u64; BINDING_VALUES] {
        array::from_fn(|i| self.values[i].load(Relaxed))
    }

    /// Adds to what was seen. Only the owning shard.
    pub fn add(&self, sight: Sight, n: u64) {
        add(&self.sights[sight as usize], n);
    }

    /// What was seen.
    pub fn sights(&self) -> [u64; SIGHT_VALUES] {
        array::from_fn(|i| self.sights[i].load(Relaxed))
    }
}
