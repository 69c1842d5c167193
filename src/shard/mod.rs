//! A shard: one pinned thread's whole share of the dataplane, nothing in it shared on the hot path.
//!
//! ```text
//!            rx ring ──> batch ──> sampler ──> clone ──> tx ring of the monitor
//!               ^          └─────> forward ─────────────> tx ring of the wire's other port
//!               │ fill ring <── free list <── completion rings <──────┘
//! ```
//!
//! In the order a frame passes:
//! - [`frames`]: the free lists of the two partitions
//! - [`port`]: one socket and what the shard knows of it
//! - [`rx`]: a batch from a port, and frames back to its fill ring
//! - [`mirror`]: samples the batch and copies the selected frames
//! - [`forward`]: moves the batch to the wire's other port
//! - [`tx`]: the kicks
//! - [`complete`]: frames back from transmission, clones into the ledger
//!
//! [`Shard::breathe`] has no lock, no allocation, no system call beyond the kicks, no logging, and writes to no
//! memory that another shard writes.

pub mod complete;
pub mod forward;
pub mod frames;
pub mod mailbox;
pub mod mirror;
pub mod port;
pub mod rx;
pub mod tx;

use std::io;
use std::sync::Arc;

use shm_layout::counters::{SHARD_VALUES, Shard as Value};

use crate::counters::{ShardBlock, partition_row};
use crate::snapshot::table::{Current, Table};
use crate::xsk::Doorbell;
use crate::xsk::umem::{Area, Census, Mirror, Partition, Primary, Umem};
use frames::Pool;
use mailbox::{Command, Event, Mailbox};
use port::{Port, Target};
use rx::Batch;

/// Sockets a shard can serve: what it reserves room for, so that a new one never allocates on the hot path.
pub const MAX_PORTS: usize = 256;

/// One shard of the dataplane.
#[derive(Debug)]
pub struct Shard<D> {
    umem: Umem,
    primary: Pool<Primary>,
    mirror: Pool<Mirror>,
    ports: Vec<Port<D>>,
    /// Monitor ports that are up, whether or not a queue of theirs is served here.
    outputs: Vec<u32>,
    table: Arc<Current>,
    /// The table that ports, policies and targets refer to.
    bound: Arc<Table>,
    /// Its serial.
    serial: u64,
    batch: Batch,
    mailbox: Arc<Mailbox<D>>,
    block: Arc<ShardBlock>,
    values: [u64; SHARD_VALUES],
}

impl<D: Doorbell> Shard<D> {
    /// A shard with `primary` frames for forwarding and `mirror` frames for clones, `frame_size` bytes each.
    ///
    /// # Errors
    /// The frame size is neither 2048 nor 4096, or memory is short.
    pub fn new(
        primary: u32,
        mirror: u32,
        frame_size: u32,
        table: Arc<Current>,
        mailbox: Arc<Mailbox<D>>,
        block: Arc<ShardBlock>,
    ) -> io::Result<Shard<D>> {
        let (umem, primaries, mirrors) = Umem::new(primary, mirror, frame_size)?;
        Ok(Shard {
            umem,
            primary: Pool::new(primaries),
            mirror: Pool::new(mirrors),
            ports: Vec::with_capacity(MAX_PORTS),
            outputs: Vec::with_capacity(MAX_PORTS),
            // The empty one, until the first breath looks.
            bound: Arc::default(),
            serial: 0,
            table,
            batch: Batch::new(),
            mailbox,
            block,
            values: [0; SHARD_VALUES],
        })
    }

    /// One turn of the loop. Returns the frames it moved; 0 means there was nothing to do.
    pub fn breathe(&mut self) -> usize {
        self.adopt();
        if !self.mailbox.commands.is_empty() {
            self.obey();
        }
        let mut moved = 0;
        for port in &mut self.ports {
            moved += complete::drain(port, &mut self.umem, &mut self.primary, &mut self.mirror, &self.block);
        }
        for at in 0..self.ports.len() {
            rx::pull(&mut self.ports[at], &mut self.umem, &mut self.batch);
            if self.batch.is_empty() {
                continue;
            }
            moved += self.batch.len();
            mirror::sample(at, &self.batch, &mut self.ports, &mut self.umem, &mut self.mirror, &self.block);
            forward::push(at, &mut self.batch, &mut self.ports, &mut self.umem, &mut self.primary);
        }
        for port in &mut self.ports {
            tx::kick(port);
            rx::refill(port, &mut self.umem, &mut self.primary);
        }
        self.commit(moved);
        moved
    }

    /// Takes the newest table. What refers to the older one is let go of before this shard says so.
    fn adopt(&mut self) {
        if self.table.serial() != self.serial {
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
        let table = &self.bound;
        for at in 0..self.ports.len() {
            let (ifindex, queue) = (self.ports[at].ifindex, self.ports[at].queue);
            let peer = table.peer(ifindex).and_then(|peer| port::serving(&self.ports, peer, queue));
            let policy = table.policy(ifindex).cloned();
            let mut targets = std::mem::take(&mut self.ports[at].targets);
            targets.clear();
            // No more than there is room for: a shard cannot serve that many monitor ports either.
            for &output in policy.iter().flat_map(|policy| &policy.outputs).take(MAX_PORTS) {
                targets.push(match port::serving(&self.ports, output, queue) {
                    Some(index) => Target::Local(index),
                    None if self.outputs.contains(&output) => Target::NoBinding,
                    None => Target::Down,
                });
            }
            let port = &mut self.ports[at];
            (port.peer, port.policy, port.targets) = (peer, policy, targets);
        }
        port::share_out(&mut self.ports, &self.umem);
    }

    /// Does what the control thread asks. Rare; a reclaim looks at the note of every frame.
    #[cold]
    fn obey(&mut self) {
        while let Some(command) = self.mailbox.commands.pop() {
            let event = match command {
                Command::Add(port) if self.ports.len() < MAX_PORTS => {
                    let socket = port.socket;
                    self.ports.push(*port);
                    port::share_out(&mut self.ports, &self.umem);
                    if let Some(port) = self.ports.last_mut() {
                        rx::refill_all(port, &mut self.umem, &mut self.primary);
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
                Command::Output { ifindex, up } => {
                    self.outputs.retain(|&output| output != ifindex);
                    if up && self.outputs.len() < MAX_PORTS {
                        self.outputs.push(ifindex);
                    }
                    None
                }
                Command::Remove(socket) => {
                    let at = self.ports.iter().position(|p| p.socket == socket);
                    at.map(|at| {
                        // What is completed already has been sent, and is not to count as lost with the port.
                        let (primary, mirror) = (&mut self.primary, &mut self.mirror);
                        complete::drain(&mut self.ports[at], &mut self.umem, primary, mirror, &self.block);
                        Event::Removed(Box::new(self.ports.swap_remove(at)))
                    })
                }
                Command::Reclaim(socket) => {
                    complete::reclaim(socket, &mut self.umem, &mut self.primary, &mut self.mirror, &self.block);
                    Some(Event::Reclaimed(socket))
                }
            };
            // The control thread has at most one question open at a time: there is room for every answer.
            if let Some(event) = event {
                let _ = self.mailbox.events.push(event);
            }
        }
        self.rebind();
        self.commit_partitions();
    }

    fn commit(&mut self, moved: usize) {
        self.values[Value::Breaths as usize] += 1;
        self.values[Value::BusyBreaths as usize] += u64::from(moved > 0);
        self.values[Value::Bindings as usize] = self.ports.len() as u64;
        self.block.commit(&self.values);
        if moved > 0 {
            self.commit_partitions();
        }
    }

    fn commit_partitions(&self) {
        self.block.commit_partition(Primary::INDEX, &self.partition::<Primary>(self.primary.len()));
        self.block.commit_partition(Mirror::INDEX, &self.partition::<Mirror>(self.mirror.len()));
    }

    fn partition<P: Partition>(&self, free: u32) -> [u64; shm_layout::counters::PARTITION_VALUES] {
        let census = self.umem.census::<P>();
        partition_row(census.size.into(), free.into(), census.fill_rx.into(), census.tx.into())
    }

    /// Whether every frame of both partitions is accounted for: free, or with the kernel. True between breaths.
    pub fn conserves_frames(&self) -> bool {
        let whole = |census: Census, free: u32| census.in_hand == free;
        whole(self.umem.census::<Primary>(), self.primary.len())
            && whole(self.umem.census::<Mirror>(), self.mirror.len())
    }

    /// Frames of each partition by holder, Primary first.
    pub fn census(&self) -> [Census; 2] {
        [self.umem.census::<Primary>(), self.umem.census::<Mirror>()]
    }

    /// Whether frames given out for transmission on any port are not completed.
    pub fn is_transmitting(&self) -> bool {
        self.ports.iter().any(|port| port.in_tx > 0)
    }

    /// Counts a sleep of the thread that runs this shard.
    pub fn note_nap(&mut self) {
        self.values[Value::Naps as usize] += 1;
    }

    /// Whether the mailbox or the table has something for this shard: asked before it sleeps.
    pub fn has_news(&self) -> bool {
        !self.mailbox.commands.is_empty() || self.table.serial() != self.serial
    }

    /// The memory of its frames, for registration with the kernel.
    pub fn area(&self) -> &Arc<Area> {
        self.umem.area()
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
