//! A shard: one pinned thread's whole share of the dataplane, nothing in it shared on the hot path.
//!
//! ```text
//!            rx ring ──> batch ──> sampler ──> clone ──> tx ring of the monitor
//!               ^          └─────> forward ─────────────> tx ring of the wire's other port
//!               │ fill ring <── free list <── completion rings <──────┘
//! ```
//!
//! In the order a frame passes:
//! - [`port`]: one socket and what the shard knows of it
//! - [`rx`]: a batch from a port, and frames back to its fill ring
//! - `look`: looks at one of them now and then
//! - [`mirror`]: samples the batch and copies the selected frames
//! - [`lanes`]: clones for monitor queues of other shards, over queues of [`spsc`]; [`origin`]: whose they are
//! - [`drop`](mod@drop): why one was not sent
//! - [`forward`]: moves the batch to the wire's other port
//! - [`tx`]: the kicks
//! - [`stores`]: the frames, by wire
//! - [`complete`]: frames back from transmission, clones into the ledger; `refused`: those that the device did not take
//!
//! [`mailbox`] is how the control thread asks something of a shard, [`limits`] what it has room for. No two modules here
//! import each other, by whatever way round.
//!
//! [`Shard::breathe`] has no lock, no allocation, no system call beyond the kicks, no logging, and writes to no
//! memory that another shard writes.

pub mod complete;
pub mod drop;
pub mod forward;
pub mod lanes;
pub mod limits;
mod look;
pub mod mailbox;
pub mod mirror;
pub mod origin;
pub mod port;
mod refused;
pub mod rx;
pub mod spsc;
pub mod stores;
pub mod tx;

use std::io;
use std::sync::Arc;

use arrayvec::ArrayVec;
use shm_layout::counters::{SHARD_VALUES, Shard as Value};
use shm_layout::record::PortRole;

use crate::counters::{ShardBlock, partition_row};
use crate::snapshot::table::{Current, Table};
use crate::xsk::Doorbell;
use crate::xsk::area::Area;
use crate::xsk::custody::SocketId;
use crate::xsk::frame::{Mirror, Partition, Primary};
use crate::xsk::store::Store;
use crate::xsk::umem::Census;
use lanes::{Lanes, Wake};
use limits::{MAX_OUTPUTS, MAX_PORTS};
use mailbox::{Command, Event, Mailbox, Output};
use port::{Order, Port, Target};
use rx::Batch;
use stores::Stores;

/// Closed sockets whose frames are to be taken back, each with the place of those; `None` for clones.
type Closed = ArrayVec<(Option<usize>, SocketId), 64>;

/// One shard of the dataplane.
#[derive(Debug)]
pub struct Shard<D> {
    stores: Stores,
    mirror: Store<Mirror>,
    /// Wire ports first: in every breath the primary is sent before the clones are.
    ports: Vec<Port<D>>,
    order: Order,
    /// Monitor ports that are up, whether or not a queue of theirs is served here.
    outputs: Vec<Output>,
    lanes: Lanes,
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
            mirror: Store::new(mirror, frame_size)?,
            ports: Vec::with_capacity(MAX_PORTS),
            order: Vec::with_capacity(MAX_PORTS),
            outputs: Vec::with_capacity(MAX_OUTPUTS),
            lanes: Lanes::default(),
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
        let mut moved = self.lanes.collect(&self.block);
        for port in &mut self.ports {
            moved += complete::drain(port, &mut self.stores, &mut self.mirror, &mut self.lanes, &self.block);
        }
        moved += self.lanes.lend(&mut self.mirror);
        for at in 0..self.ports.len() {
            // Monitors have none, and receive nothing.
            let Some(store) = self.stores.of(self.ports[at].store) else { break };
            rx::pull(&mut self.ports[at], &mut store.umem, &mut self.batch);
            if self.batch.is_empty() {
                continue;
            }
            moved += self.batch.len();
            let (ports, clones, lanes) = (&mut self.ports, &mut self.mirror, &mut self.lanes);
            let port = &mut ports[at];
            port.looks.look(self.batch.packets(), store.area(), &port.block);
            mirror::sample(at, (&self.batch, store.area()), ports, clones, lanes, &self.block);
            forward::push(at, &mut self.batch, ports, store);
        }
        moved += self.lanes.accept(&mut self.ports, &mut self.mirror);
        for at in 0..self.ports.len() {
            tx::kick(&mut self.ports[at]);
            self.refill(at);
        }
        self.lanes.submit();
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
        let table = Arc::clone(&self.bound);
        self.order.clear();
        self.order.extend(self.ports.iter().enumerate().map(|(at, port)| (port.ifindex, port.queue, at)));
        self.order.sort_unstable();
        for at in 0..self.ports.len() {
            let (ifindex, queue, store) = (self.ports[at].ifindex, self.ports[at].queue, self.ports[at].store);
            let serving = |peer| port::serving(&self.ports, &self.order, PortRole::Wire, peer, queue);
            // Frames stay in their store: one that the ports do not share has not been left yet.
            let peer = table.peer(ifindex).and_then(serving).filter(|&peer| self.ports[peer].store == store);
            let policy = table.policy(ifindex).cloned();
            let mut targets = std::mem::take(&mut self.ports[at].targets);
            targets.clear();
            // No more than there is room for: a shard cannot serve that many monitor ports either.
            for &output in policy.iter().flat_map(|policy| &policy.outputs).take(MAX_OUTPUTS) {
                targets.push(self.target(output, queue));
            }
            let port = &mut self.ports[at];
            (port.peer, port.policy, port.targets) = (peer, policy, targets);
        }
        port::share_out(&mut self.ports, self.mirror.census().size, self.lanes.shards());
        let ports = &self.ports;
        self.lanes.want(|peer| {
            let leads = |target: &Target| matches!(target, Target::Remote(remote) if remote.peer == peer);
            ports.iter().any(|port| port.targets.iter().any(leads))
        });
    }

    /// Where clones for `output` go, of frames that arrive on queue `queue`: to the same queue of it, or the only one.
    fn target(&self, output: u32, queue: u32) -> Target {
        if let Some(index) = port::serving(&self.ports, &self.order, PortRole::Monitor, output, queue) {
            return Target::Local(index);
        }
        let Some(output) = self.outputs.iter().find(|up| up.ifindex == output) else { return Target::Down };
        let queue = if output.queues == 1 { 0 } else { queue };
        let remote = (queue < output.queues).then(|| self.lanes.to(output.ifindex, queue, output.mtu)).flatten();
        remote.map_or(Target::NoBinding, Target::Remote)
    }

    /// Does what the control thread asks. Rare.
    #[cold]
    fn obey(&mut self) {
        let (mut rebind, mut closed) = (false, Closed::new());
        while let Some(command) = self.mailbox.commands.pop() {
            // Answers come in the order of the questions.
            if closed.is_full() || !matches!(command, Command::Reclaim { .. }) {
                self.reclaim(&mut closed);
            }
            rebind |= !matches!(command, Command::Audit);
            let event = match command {
                Command::Lay { at, store } => {
                    self.stores.lay(at, store);
                    None
                }
                Command::Lift(at) => Some(Event::Lifted(self.stores.lift(at))),
                Command::Add(port) if self.has_room_for(&port) => {
                    let socket = port.socket;
                    let at = match port.role {
                        PortRole::Wire => self.wires(),
                        PortRole::Monitor => self.ports.len(),
                    };
                    self.ports.insert(at, *port);
                    let port = &mut self.ports[at];
                    if let Some(store) = self.stores.of(port.store) {
                        rx::refill(port, port.fill_target, store);
                    }
                    Some(Event::Filled(socket))
                }
                Command::Add(port) => Some(Event::Removed(port)),
                Command::Link { socket, up, mtu, zero_copy } => {
                    if let Some(port) = self.ports.iter_mut().find(|p| p.socket == socket) {
                        (port.up, port.mtu, port.zero_copy) = (up, mtu, zero_copy);
                    }
                    None
                }
                Command::OutputUp(output) => {
                    self.outputs.retain(|up| up.ifindex != output.ifindex);
                    if self.outputs.len() < MAX_OUTPUTS {
                        self.outputs.push(output);
                    }
                    None
                }
                Command::OutputDown { ifindex } => {
                    self.outputs.retain(|up| up.ifindex != ifindex);
                    None
                }
                Command::Audit => {
                    self.audits.0 += 1;
                    None
                }
                Command::Remove(socket) => {
                    let at = self.ports.iter().position(|p| p.socket == socket);
                    at.map(|at| {
                        // What is completed already has been sent, and is not to count as lost with the port.
                        let (stores, mirror, lanes) = (&mut self.stores, &mut self.mirror, &mut self.lanes);
                        complete::drain(&mut self.ports[at], stores, mirror, lanes, &self.block);
                        let mut port = self.ports.remove(at);
                        port.count_out();
                        Event::Removed(Box::new(port))
                    })
                }
                Command::Reclaim { socket, store } => {
                    closed.push((store, socket));
                    None
                }
            };
            // What became of other shards' clones is told before the control thread goes on, maybe to stop them.
            self.lanes.submit();
            // The control thread has at most a question a port open at a time: there is room for every answer.
            if let Some(event) = event {
                let _ = self.mailbox.events.push(event);
            }
        }
        self.reclaim(&mut closed);
        if rebind {
            self.rebind();
        }
        self.commit_partitions();
    }

    /// Takes the frames of closed sockets back: one look at the note of each frame for all that were in one place.
    fn reclaim(&mut self, closed: &mut Closed) {
        if closed.is_empty() {
            return;
        }
        closed.sort_unstable();
        for together in closed.chunk_by(|one, other| one.0 == other.0) {
            let is_closed = |socket| together.iter().any(|&(_, closed)| closed == socket);
            let place = together.first().and_then(|&(place, _)| place);
            match place.map(|at| self.stores.of(at)) {
                Some(Some(store)) => complete::reclaim(is_closed, store),
                Some(None) => {}
                None => complete::reclaim_clones(is_closed, &mut self.mirror, &mut self.lanes, &self.block),
            }
        }
        self.lanes.submit();
        for (_, socket) in closed.drain(..) {
            let _ = self.mailbox.events.push(Event::Reclaimed(socket));
        }
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
                looked += complete::audit(&self.ports, &mut self.mirror.umem);
                (due, at) = (due - 1, 0);
            }
        }
        self.audits = (due, at);
        self.commit_partitions();
    }

    /// Whether a port can be served: there is a place for it, and a wire port's frames are here.
    fn has_room_for(&mut self, port: &Port<D>) -> bool {
        self.ports.len() < MAX_PORTS && (port.role == PortRole::Monitor || self.stores.of(port.store).is_some())
    }

    /// Wire ports, which are the first ones.
    fn wires(&self) -> usize {
        self.ports.partition_point(|port| port.role == PortRole::Wire)
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
        self.block.commit_partition(Mirror::INDEX, &row(self.mirror.census(), self.mirror.pool.len()));
        self.block.commit_clones(self.lanes.on_the_way(self.mirror.census().tx).into());
    }

    /// Whether every frame of both partitions is accounted for: free, with the kernel, or lent. True between breaths.
    pub fn conserves_frames(&self) -> bool {
        self.stores.conserve_frames() && self.mirror.conserves_frames()
    }

    /// Frames of each partition by holder, Primary first.
    pub fn census(&self) -> [Census; 2] {
        [self.stores.census(), self.mirror.census()]
    }

    /// Whether completions are to come soon: frames are given out for transmission on a port that is up, or on one of
    /// another shard.
    pub fn is_transmitting(&self) -> bool {
        self.ports.iter().any(|port| port.up && port.in_tx > 0) || self.lanes.is_waiting()
    }

    /// Counts a sleep of the thread that runs this shard.
    pub fn note_nap(&mut self) {
        self.values[Value::Naps as usize] += 1;
    }

    /// Whether the mailbox, the table or another shard has something for this one: asked before it sleeps.
    pub fn has_news(&mut self) -> bool {
        !self.mailbox.commands.is_empty()
            || self.table.serial() != self.serial
            || self.lanes.has_news(&self.mirror.pool)
    }

    /// The memory of its frames for clones, for registration with the kernel.
    pub fn mirror_area(&self) -> &Arc<Area> {
        self.mirror.area()
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
        shard.lanes = lanes;
    }
}
