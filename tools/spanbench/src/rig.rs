//! A shard between two wire ports and a monitor port, or between a clone ring and a monitor port, on rings without a kernel.

use std::io;
use std::sync::Arc;

use shm_layout::record::PortRole;
use shm_layout::snapshot::SnapshotView;
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::{Mirror, Snapshot, Wire, admit};
use spanwire::counters::{BindingBlock, ShardBlock};
use spanwire::kernel::abi::RecordHead;
use spanwire::kernel::rings::plain_ring;
use spanwire::kernel::writer::Writer;
use spanwire::rings::RING_ENTRIES;
use spanwire::shard::Shard;
use spanwire::shard::mailbox::{Command, Mailbox};
use spanwire::shard::port::{Identity, Port, Seat};
use spanwire::snapshot::table::{Current, Table};
use spanwire::xsk::abi::PACKET_HEADROOM;
use spanwire::xsk::area::Area;
use spanwire::xsk::fake::{FakeDoorbell, FakeNic};
use spanwire::xsk::socket::RingSizes;
use spanwire::xsk::store::Store;
use thiserror::Error;

const A: u32 = 11;
const B: u32 = 12;
const MONITOR: u32 = 22;

/// Why a rig could not be made.
#[derive(Debug, Error)]
pub(crate) enum RigError {
    /// Memory is short or a size is wrong.
    #[error("cannot make the shard: {0}")]
    Io(#[from] io::Error),
    /// The configuration does not hold.
    #[error("cannot make the table: {0}")]
    Layout(#[from] shm_layout::error::LayoutError),
}

/// How the monitor port fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// It sends everything at once.
    Healthy,
    /// Its link is down.
    Down,
    /// It takes nothing off its tx ring.
    Stalled,
}

impl Monitor {
    /// Gives a shard its monitor port.
    fn add(self, shard: &mut Shard<FakeDoorbell>, mailbox: &Mailbox<FakeDoorbell>) -> Result<FakeNic, RigError> {
        let identity =
            Identity { socket: 3, ifindex: MONITOR, queue: 0, queues: 1, role: PortRole::Monitor, seat: None };
        let area = Arc::clone(shard.mirror_area());
        add(shard, mailbox, &area, identity, self != Monitor::Down)
    }

    /// Takes and completes what the port is to send. Returns how many frames.
    fn transmit(self, nic: &mut FakeNic) -> usize {
        if self == Monitor::Stalled { 0 } else { nic.transmit_untouched() }
    }
}

/// Gives a shard a port whose frames are in `area`.
fn add(
    shard: &mut Shard<FakeDoorbell>,
    mailbox: &Mailbox<FakeDoorbell>,
    area: &Arc<Area>,
    identity: Identity,
    up: bool,
) -> Result<FakeNic, RigError> {
    let (socket, rx) = (identity.socket, if identity.role == PortRole::Wire { RING_ENTRIES } else { 0 });
    let sizes = RingSizes { fill: 2 * RING_ENTRIES, rx, tx: RING_ENTRIES, completion: 2 * RING_ENTRIES };
    let (nic, rings) = FakeNic::new(area, sizes, 0)?;
    let port = Port::new(identity, rings, FakeDoorbell::default(), Arc::new(BindingBlock::default()));
    for command in
        [Command::Add(Box::new(port)), Command::Link { socket, up, mtu: 1500, zero_copy: false, multi_buffer: false }]
    {
        // The mailbox is emptied at once, so there is always room.
        let _ = mailbox.commands.push(command);
        shard.breathe();
    }
    Ok(nic)
}

/// The shard and the kernel's side of its rings.
pub(crate) struct Rig {
    pub shard: Shard<FakeDoorbell>,
    nics: [FakeNic; 3],
    monitor: Monitor,
}

impl Rig {
    /// Bytes of a frame.
    pub(crate) const FRAME: usize = 2048;
    /// Where in it a packet begins that was received.
    pub(crate) const HEADROOM: usize = PACKET_HEADROOM as usize;

    /// A rig that mirrors what port A receives at `rate`; `None` mirrors nothing.
    pub(crate) fn new(primary: u32, mirror: u32, rate: Option<u32>, monitor: Monitor) -> Result<Rig, RigError> {
        let mailbox = Arc::new(Mailbox::default());
        let table = Arc::new(Current::new(table(rate)?));
        let block = Arc::new(ShardBlock::new(0, 0));
        let mut shard = Shard::new(mirror, Self::FRAME as u32, table, Arc::clone(&mailbox), block)?;
        let store = Box::new(Store::new(primary, Self::FRAME as u32)?);
        let area = Arc::clone(store.area());
        // The mailbox is emptied at once, so there is always room.
        let _ = mailbox.commands.push(Command::Lay { at: 0, store });
        shard.breathe();
        let mut wire = |socket, ifindex| {
            let seat = Some(Seat { store: 0, share: primary / 2, shared: false });
            let identity = Identity { socket, ifindex, queue: 0, queues: 1, role: PortRole::Wire, seat };
            add(&mut shard, &mailbox, &area, identity, true)
        };
        let (a, b) = (wire(1, A)?, wire(2, B)?);
        let nics = [a, b, monitor.add(&mut shard, &mailbox)?];
        Ok(Rig { shard, nics, monitor })
    }

    /// Primary frames in use: those that port A has to receive into. Port B receives nothing, and the free list gives
    /// out first what came back last.
    pub(crate) fn in_use(&mut self) -> u32 {
        self.nics[0].fill_waiting()
    }

    /// Gives port A `count` packets of `len` bytes, their bytes untouched.
    pub(crate) fn receive(&mut self, len: u32, count: usize) -> usize {
        self.nics[0].receive_untouched(len, count)
    }

    /// Gives port A `count` packets that have just been written.
    pub(crate) fn receive_written(&mut self, packet: &[u8], count: usize) -> usize {
        self.nics[0].receive_written(packet, count)
    }

    /// Takes and completes everything on the tx rings: frames at port B, clones at the monitor.
    pub(crate) fn transmit(&mut self) -> (usize, usize) {
        let clones = self.monitor.transmit(&mut self.nics[2]);
        (self.nics[1].transmit_untouched(), clones)
    }
}

/// A shard that makes clones of what the kernel has selected, and the selector's end of its clone ring. It has no port but
/// the monitor, and no frames for forwarding.
pub(crate) struct RingRig {
    pub shard: Shard<FakeDoorbell>,
    selector: Writer,
    nic: FakeNic,
    monitor: Monitor,
}

impl RingRig {
    /// Bytes of a clone ring: what spanwired has without a word.
    const RING: u32 = 4 << 20;

    /// A rig with so many frames for clones.
    pub(crate) fn new(mirror: u32, monitor: Monitor) -> Result<RingRig, RigError> {
        let mailbox = Arc::new(Mailbox::default());
        let table = Arc::new(Current::new(table(Some(1))?));
        let block = Arc::new(ShardBlock::new(0, 0));
        let mut shard = Shard::new(mirror, Rig::FRAME as u32, table, Arc::clone(&mailbox), block)?;
        let nic = monitor.add(&mut shard, &mailbox)?;
        let (selector, ring) = plain_ring(Self::RING, 0)?;
        let _ = mailbox.commands.push(Command::Read(Box::new(ring)));
        shard.breathe();
        Ok(RingRig { shard, selector, nic, monitor })
    }

    /// Puts `count` records of a packet into the ring, as a selector does. Returns how many had room.
    pub(crate) fn select(&mut self, packet: &[u8], count: usize) -> usize {
        let head = RecordHead { serial: 1, output: MONITOR, ..RecordHead::default() };
        (0..count).take_while(|_| self.selector.put(head, packet)).count()
    }

    /// Takes and completes everything on the monitor's tx ring: so many clones.
    pub(crate) fn transmit(&mut self) -> usize {
        self.monitor.transmit(&mut self.nic)
    }
}

fn table(rate: Option<u32>) -> Result<Table, RigError> {
    let snapshot = Snapshot {
        wires: vec![Wire { name: "bench".to_owned(), a_ifindex: A, b_ifindex: B, ..Wire::default() }],
        mirrors: rate.map(|rate| Mirror { ingress_ifindex: A, output_ifindex: MONITOR, rate }).into_iter().collect(),
        ..Snapshot::default()
    };
    let image = compile(&snapshot, &admit(&snapshot), &Provenance::of(b""));
    let view = SnapshotView::try_from(image.words())?;
    Ok(Table::build(&view, 1, 1, |_| 0))
}
