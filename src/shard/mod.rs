//! A shard: one pinned thread's whole share of the dataplane, nothing in it shared on the hot path.
//!
//! ```text
//!     clone rings ──> records ─────────────────┐
//!            rx ring ──> batch ──> sampler ──> clone ──> tx ring of the monitor
//!               ^          └─────> forward ─────────────> tx ring of the wire's other port
//!               │ fill ring <── free list <── completion rings <──────┘
//! ```
//!
//! In the order a frame passes:
//! - [`port`]: one socket and what the shard knows of it
//! - [`rx`]: a batch from a port, and frames back to its fill ring
//! - `look`: looks at one of them now and then
//! - [`mirror`]: samples the batch
//! - [`forward`]: moves it to the wire's other port
//! - [`records`]: what the kernel has selected, from the clone rings; `patience`: how long it waits there for room
//! - [`targets`]: where its clones go; `bind`: what the table and the ports come to
//! - [`clone`](mod@clone): copies what was selected, an `original`, and sends it; `spread`: how it lies in
//!   frames
//! - [`lanes`]: clones for monitor queues of other shards, over queues of [`spsc`], a `parcel` each; `lend`: the owner's end;
//!   [`origin`]: whose they are
//! - [`drop`](mod@drop): why one was not sent
//! - [`tx`]: the kicks
//! - [`stores`]: the frames, by wire
//! - [`complete`]: frames back from transmission; `refused`: those that the device did not take
//! - `settle`: what became of clones, into the ledgers; `supers`: those that lie in several frames
//!
//! [`mailbox`] is how the control thread asks something of a shard, and `obey` does it; [`limits`] is what a shard has room
//! for. No two modules here import each other, by whatever way round.
//!
//! [`Shard::breathe`] has no lock, no allocation, no system call beyond the kicks, no logging, and writes to no
//! memory that another shard writes.

mod bind;
pub mod clone;
pub mod complete;
pub mod drop;
pub mod forward;
pub mod lanes;
mod lend;
pub mod limits;
mod look;
pub mod mailbox;
pub mod mirror;
mod obey;
pub mod origin;
mod original;
mod parcel;
mod patience;
pub mod port;
pub mod records;
mod refused;
pub mod rx;
mod settle;
mod spread;
pub mod spsc;
pub mod stores;
mod supers;
pub mod targets;
pub mod tx;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use shm_layout::counters::{SHARD_VALUES, Shard as Value};
use shm_layout::record::PortRole;

use crate::counters::{ShardBlock, partition_row};
use crate::kernel::rings::Ring;
use crate::snapshot::table::{Current, Table};
use crate::xsk::Doorbell;
use crate::xsk::area::Area;
use crate::xsk::frame::{Mirror, Partition, Primary};
use crate::xsk::store::Store;
use crate::xsk::umem::Census;
use clone::Clones;
use lanes::Wake;
use limits::{MAX_PORTS, MAX_RINGS};
use mailbox::Mailbox;
use port::Port;
use rx::Batch;
use settle::Settling;
use stores::Stores;
use targets::Targets;

/// One shard of the dataplane.
#[derive(Debug)]
pub struct Shard<D> {
    stores: Stores,
    clones: Clones,
    /// Wire ports first: in every breath the primary is sent before the clones are.
    ports: Vec<Port<D>>,
    /// The clone rings of some processors.
    rings: Vec<Ring>,
    targets: Targets,
    table: Arc<Current>,
    /// The table that ports, policies and targets refer to.
    bound: Arc<Table>,
    /// Its serial.
    serial: u64,
    batch: Batch,
    mailbox: Arc<Mailbox<D>>,
    block: Arc<ShardBlock>,
    values: [u64; SHARD_VALUES],
    /// Breaths with something to tell since the gauges of the partitions were stored.
    untold: usize,
    /// Audits that are due, and the place of the store that the first goes on with.
    audits: (u32, usize),
}

impl<D: Doorbell> Shard<D> {
    /// A shard with `mirror` frames for clones, `frame_size` bytes each, and none for forwarding yet.
    ///
    /// # Errors
    /// The frame size is neither 2048 nor 4096, or memory is short.
    pub fn new(
        mirror: u32,
        frame_size: u32,
        table: Arc<Current>,
        mailbox: Arc<Mailbox<D>>,
        block: Arc<ShardBlock>,
    ) -> io::Result<Shard<D>> {
        Ok(Shard {
            stores: Stores::default(),
            clones: Clones::new(Store::new(mirror, frame_size)?),
            ports: Vec::with_capacity(MAX_PORTS),
            rings: Vec::with_capacity(MAX_RINGS),
            targets: Targets::default(),
            // The empty one, until the first breath looks.
            bound: Arc::default(),
            serial: 0,
            table,
            batch: Batch::new(),
            mailbox,
            block,
            values: [0; SHARD_VALUES],
            untold: 0,
            audits: (0, 0),
        })
    }

    /// One turn of the loop. Returns the frames it moved; 0 means there was nothing to do.
    // A function of its own for profilers; a call a batch costs nothing.
    #[inline(never)]
    pub fn breathe(&mut self) -> usize {
        self.adopt();
        if !self.mailbox.commands.is_empty() {
            self.obey();
        }
        if self.audits.0 > 0 {
            self.audit();
        }
        let clones = &mut self.clones;
        let mut moved = clones.lanes.collect(&mut Settling::new(&self.block, &mut clones.supers));
        for port in &mut self.ports {
            moved += complete::drain(port, &mut self.stores, clones, &self.block);
        }
        moved += clones.lanes.lend(&mut clones.store);
        for at in 0..self.ports.len() {
            // Monitors have none, and receive nothing.
            let Some(store) = self.stores.of(self.ports[at].store) else { break };
            rx::pull(&mut self.ports[at], &mut store.umem, &mut self.batch);
            if self.batch.is_empty() {
                continue;
            }
            moved += self.batch.len();
            let port = &mut self.ports[at];
            port.looks.look(self.batch.packets(), store.area(), &port.block);
            mirror::sample(at, (&self.batch, store.area()), &mut self.ports, clones, &self.block);
            forward::push(at, &mut self.batch, &mut self.ports, store);
        }
        for ring in &mut self.rings {
            moved += records::take(ring, &mut self.targets, &mut self.ports, clones, &self.block);
        }
        moved += clones.lanes.accept(&mut self.ports, &mut clones.store);
        for at in 0..self.ports.len() {
            tx::kick(&mut self.ports[at]);
            self.refill(at);
        }
        self.clones.lanes.submit();
        self.commit(moved);
        moved
    }

    /// Tops the fill ring of port `at` up, and sees to it that its driver knows.
    #[inline]
    fn refill(&mut self, at: usize) {
        let port = &self.ports[at];
        let level = port.fill_level(port.peer.map_or(0, |peer| self.ports[peer].in_tx));
        if port.in_fill < level
            && port.up
            && let Some(store) = self.stores.of(port.store)
        {
            let given = rx::refill(&mut self.ports[at], level, store);
            // Also where the breath moves nothing, as when a port has come up.
            self.untold = self.untold.max(given.min(1) as usize);
        }
        rx::wake(&mut self.ports[at]);
    }

    /// Takes the newest table. What refers to the older one is let go of before this shard says so.
    fn adopt(&mut self) {
        // Serials only grow; between a swap and its serial the table may be ahead of what is announced.
        if self.table.serial() > self.serial {
            self.swap();
        }
    }

    #[cold]
    fn swap(&mut self) {
        // Looked at once: what is bound and what is acknowledged must be the same table, whatever comes meanwhile.
        self.bound = self.table.load();
        self.serial = self.bound.serial;
        self.rebind();
        self.values[Value::Swaps as usize] += 1;
        let Table { serial, generation, published_at, .. } = *self.bound;
        self.block.adopt(serial, generation, published_at);
    }

    /// Resolves the table for the ports there are: after a swap and after a change of ports.
    fn rebind(&mut self) {
        let reads = !self.rings.is_empty();
        bind::bind(&self.bound, &mut self.ports, &mut self.targets, &mut self.clones, reads);
    }

    /// Goes on with the audits that are due: some of the frames in each breath, those for clones last.
    #[cold]
    fn audit(&mut self) {
        let (mut due, mut at) = self.audits;
        let mut looked = 0;
        while due > 0 && looked < complete::AUDITED_AT_ONCE {
            if at < self.stores.places() {
                looked += self.stores.of(at).map_or(0, |store| complete::audit(&self.ports, &mut store.umem));
                at += 1;
            } else {
                looked += complete::audit(&self.ports, &mut self.clones.store.umem);
                (due, at) = (due - 1, 0);
            }
        }
        self.audits = (due, at);
        self.commit_partitions();
    }

    fn commit(&mut self, moved: usize) {
        self.values[Value::Breaths as usize] += 1;
        self.values[Value::BusyBreaths as usize] += u64::from(moved > 0);
        self.values[Value::Bindings as usize] = self.ports.len() as u64;
        self.block.commit(&self.values);
        self.untold += usize::from(moved > 0);
        // A look at every store, idle ones too: with many not in every breath, but before the shard comes to rest.
        if self.untold > 0 && (moved == 0 || self.untold >= self.stores.places()) {
            self.commit_partitions();
        }
    }

    fn commit_partitions(&mut self) {
        self.untold = 0;
        let row = |Census { size, fill_rx, tx, quarantined, lent, .. }, free| {
            partition_row([size, free, fill_rx, tx, quarantined, lent])
        };
        self.block.commit_partition(Primary::INDEX, &row(self.stores.census(), self.stores.free()));
        let Clones { store, lanes, .. } = &self.clones;
        self.block.commit_partition(Mirror::INDEX, &row(store.census(), store.pool.len()));
        let unread = self.rings.iter().filter(|ring| ring.has_news()).count();
        self.block.commit_clones(u64::from(lanes.on_the_way(store.census().tx)) + unread as u64);
    }

    /// Whether every frame of both partitions is accounted for: free, with the kernel, or lent. True between breaths.
    pub fn conserves_frames(&self) -> bool {
        self.stores.conserve_frames() && self.clones.store.conserves_frames()
    }

    /// Frames of each partition by holder, Primary first.
    pub fn census(&self) -> [Census; 2] {
        [self.stores.census(), self.clones.store.census()]
    }

    /// Whether completions are to come soon: frames are given out for transmission on a port that is up, or on one of
    /// another shard.
    pub fn is_transmitting(&self) -> bool {
        self.ports.iter().any(|port| port.up && port.in_tx > 0) || self.clones.lanes.is_waiting()
    }

    /// Whether frames of wires pass through it.
    pub fn carries_wires(&self) -> bool {
        self.ports.first().is_some_and(|port| port.role == PortRole::Wire)
    }

    /// Counts a sleep of the thread that runs this shard.
    pub fn note_nap(&mut self) {
        self.values[Value::Naps as usize] += 1;
    }

    /// Whether the mailbox, the table, a clone ring or another shard has something for this one: asked before it sleeps,
    /// after [`Shard::lie_down`].
    pub fn has_news(&mut self) -> bool {
        !self.mailbox.commands.is_empty()
            || self.table.serial() != self.serial
            || self.rings.iter().any(Ring::has_news)
            || self.clones.lanes.has_news(&self.clones.store.pool)
    }

    /// From here on until [`Shard::rise`] whoever puts something into one of its clone rings wakes it.
    pub fn lie_down(&self) {
        self.rings.iter().for_each(Ring::lie_down);
    }

    /// It looks by itself again.
    pub fn rise(&self) {
        self.rings.iter().for_each(Ring::rise);
    }

    /// What becomes readable when a clone ring wakes the shard.
    pub fn wakers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().filter_map(Ring::waker)
    }

    /// The memory of its frames for clones, for registration with the kernel.
    pub fn mirror_area(&self) -> &Arc<Area> {
        self.clones.store.area()
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port<D>] {
        &self.ports
    }

    /// The doorbells of the ports whose tx ring the kernel has emptied. A `poll` of another one would make the
    /// kernel transmit, and its answer would be lost.
    pub fn quiet_doorbells(&self) -> impl Iterator<Item = &D> {
        self.ports.iter().filter(|port| port.tx.pending() == 0).map(|port| &port.doorbell)
    }
}

/// Lays the lanes between the shards of one dataplane. `bells` wake them, in the same order.
pub fn connect<D: Doorbell>(shards: &mut [Shard<D>], bells: &[Arc<dyn Wake>]) {
    let mirrors: Vec<_> =
        shards.iter().map(|shard| (Arc::clone(shard.mirror_area()), shard.census()[1].size)).collect();
    for (shard, lanes) in shards.iter_mut().zip(lanes::lay(&mirrors, bells)) {
        shard.clones.lanes = lanes;
    }
}
