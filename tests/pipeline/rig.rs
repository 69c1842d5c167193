//! A shard on kernel-free rings, and an oracle that knows what should come out.

use std::sync::Arc;

use shm_layout::counters::{Binding, Entry, LEDGER_VALUES};
use shm_layout::image::{ImageBuilder, Need};
use shm_layout::record::{
    DiagnosticRecord, MetaRecord, MirrorRecord, Placement, PortRecord, PortRole, Role, StrRef, WireRecord,
};
use shm_layout::snapshot::SnapshotView;
use spanwire::counters::{BindingBlock, Counted, EntryCell, ShardBlock, is_drained, whole};
use spanwire::shard::complete::AUDITS;
use spanwire::shard::lanes::Wake;
use spanwire::shard::mailbox::{Command, Event, Mailbox};
use spanwire::shard::port::{Identity, Port, Seat};
use spanwire::shard::{self, Shard};
use spanwire::snapshot::slots::Slots;
use spanwire::snapshot::table::{Current, EntryKey, Table};
use spanwire::xsk::area::Area;
use spanwire::xsk::custody::SocketId;
use spanwire::xsk::fake::{FakeDoorbell, FakeNic, Order};
use spanwire::xsk::socket::RingSizes;
use spanwire::xsk::store::Store;

use super::selector::{Offer, Selector};

pub const A: u32 = 11;
pub const B: u32 = 12;
pub const MON: u32 = 22;

/// What a rig is made of.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Frames at the first place, of which each of so many ports has an equal share.
    pub primary: u32,
    pub seats: u32,
    pub mirror: u32,
    pub rings: RingSizes,
    pub start: u32,
}

impl Default for Spec {
    fn default() -> Self {
        let rings = RingSizes { fill: 64, rx: 64, tx: 64, completion: 128 };
        Spec { primary: 256, seats: 2, mirror: 64, rings, start: 0 }
    }
}

/// A VLAN interface: ifindex, parent, id.
pub type Vlan = (u32, u32, u16);

/// One configuration.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub wires: Vec<(u32, u32)>,
    /// Ingress, output, rate.
    pub mirrors: Vec<(u32, u32, u32)>,
    pub vlans: Vec<Vlan>,
    pub role: Role,
}

impl Plan {
    pub fn wire(mirrors: &[(u32, u32, u32)]) -> Plan {
        Plan { wires: vec![(A, B)], mirrors: mirrors.to_vec(), ..Plan::default() }
    }
}

/// One fake port.
pub struct Wire {
    pub ifindex: u32,
    pub socket: SocketId,
    /// The place of a wire port's frames.
    pub store: Option<usize>,
    pub nic: FakeNic,
    pub doorbell: FakeDoorbell,
    pub block: Arc<BindingBlock>,
}

pub struct Rig {
    pub shard: Shard<FakeDoorbell>,
    pub block: Arc<ShardBlock>,
    pub ports: Vec<Wire>,
    /// Those whose rings the shard reads.
    pub selectors: Vec<Selector>,
    /// The ports as they were kicked, by ifindex.
    pub kicked: Order,
    table: Arc<Current>,
    mailbox: Arc<Mailbox<FakeDoorbell>>,
    slots: Slots,
    spec: Spec,
    /// Of the frames at each place, and how many there are.
    stores: Vec<Option<(Arc<Area>, u32)>>,
    generation: u64,
    next_socket: SocketId,
}

/// Several shards of one dataplane, connected, each on a rig of its own.
pub struct Fleet {
    pub rigs: Vec<Rig>,
    slots: Slots,
    generation: u64,
}

/// Nobody sleeps here.
#[derive(Debug)]
struct NoBell;

impl Wake for NoBell {
    fn wake(&self) {}
}

impl Fleet {
    /// Shards without ports.
    pub fn new(spec: Spec, count: usize) -> Fleet {
        let table = Arc::new(Current::default());
        let mut rigs: Vec<_> = (0..count).map(|id| Rig::with_table(spec, id as u32, &table)).collect();
        let mut shards: Vec<_> =
            rigs.iter_mut().map(|rig| std::mem::replace(&mut rig.shard, Rig::stand_in())).collect();
        shard::connect(&mut shards, &vec![Arc::new(NoBell) as Arc<dyn Wake>; count]);
        for (rig, shard) in rigs.iter_mut().zip(shards) {
            rig.shard = shard;
        }
        Fleet { rigs, slots: Slots::new(1 << 17), generation: 0 }
    }

    /// Publishes a configuration; each shard takes it with its next breath.
    pub fn swap(&mut self, plan: &Plan) {
        self.generation += 1;
        let table = Arc::clone(&self.rigs[0].table);
        publish(&table, &mut self.slots, plan, self.generation, self.rigs.iter_mut().map(Rig::ledgers));
    }

    /// Frees the slots that no shard can reach.
    pub fn reclaim(&mut self) {
        release(&mut self.slots, self.rigs.iter_mut().map(Rig::ledgers).collect());
    }

    /// Slots of entries that are gone and not free yet.
    pub fn leaving(&mut self) -> usize {
        self.reclaim();
        self.slots.leaving()
    }

    /// A command to every shard.
    pub fn command_all(&mut self, command: impl Fn() -> Command<FakeDoorbell>) {
        for rig in &mut self.rigs {
            rig.command(command());
        }
    }

    /// Frames lent by each shard must be lent to somebody: a loan is in a lane or with its borrower.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            for rig in &mut self.rigs {
                rig.breathe();
            }
        }
    }
}

/// What counts entries on one shard and for it.
type Ledgers<'a> = (&'a ShardBlock, &'a mut [Selector]);

fn publish<'a>(
    table: &Current,
    slots: &mut Slots,
    plan: &Plan,
    generation: u64,
    ledgers: impl Iterator<Item = Ledgers<'a>>,
) {
    let words = image_of(plan, generation);
    let view = SnapshotView::try_from(words.as_slice()).expect("a valid image");
    let keys: Vec<_> = plan.mirrors.iter().map(|m| key(*m)).collect();
    let afresh = table.load().takes_over_as(plan.role);
    let planned = slots.plan(keys.into_iter(), afresh).expect("slots");
    for (block, selectors) in ledgers {
        for &slot in planned.fresh() {
            block.entry(slot).reset();
            selectors.iter_mut().for_each(|selector| selector.reset(slot));
        }
    }
    let next = Table::build(&view, 1, generation, |key| planned.slot(key));
    slots.commit(planned, generation);
    table.swap(next);
}

fn release(slots: &mut Slots, ledgers: Vec<Ledgers<'_>>) {
    let oldest = ledgers.iter().map(|(block, _)| block.adopted_serial()).min().expect("a shard");
    slots.release(oldest, |slot| {
        let counted = || {
            let mut all = Counted::default();
            ledgers.iter().flat_map(|(_, selectors)| selectors.iter()).for_each(|of| all += of.counted(slot));
            all
        };
        is_drained(ledgers.iter().map(|(block, _)| block.entry(slot)), counted)
    });
}

impl Rig {
    /// A shard without ports.
    pub fn empty(spec: Spec) -> Rig {
        Rig::with_table(spec, 0, &Arc::default())
    }

    fn with_table(spec: Spec, id: u32, table: &Arc<Current>) -> Rig {
        let mailbox = Arc::new(Mailbox::default());
        let block = Arc::new(ShardBlock::new(id, 0));
        let shard = Shard::new(spec.mirror, 2048, Arc::clone(table), Arc::clone(&mailbox), Arc::clone(&block));
        let mut rig = Rig {
            shard: shard.expect("a shard"),
            block,
            ports: Vec::new(),
            selectors: Vec::new(),
            kicked: Order::default(),
            table: Arc::clone(table),
            mailbox,
            slots: Slots::new(1 << 17),
            spec,
            stores: Vec::new(),
            generation: 0,
            next_socket: 0,
        };
        rig.lay(0, spec.primary);
        rig
    }

    /// Gives the shard `frames` frames at a place that is free.
    pub fn lay(&mut self, at: usize, frames: u32) {
        let store = Box::new(Store::new(frames, 2048).expect("frames"));
        if self.stores.len() <= at {
            self.stores.resize_with(at + 1, || None);
        }
        self.stores[at] = Some((Arc::clone(store.area()), frames));
        self.command(Command::Lay { at, store });
    }

    /// Takes them back, all of them, when no port uses them any more.
    pub fn lift(&mut self, at: usize) {
        self.stores[at] = None;
        self.command(Command::Lift(at));
        let Some(Event::Lifted(Some(store))) = self.mailbox.events.pop() else { panic!("no store at {at}") };
        assert!(store.conserves_frames());
    }

    /// A shard to have in the place of one that is elsewhere for a moment.
    fn stand_in() -> Shard<FakeDoorbell> {
        let block = Arc::new(ShardBlock::new(0, 0));
        Shard::new(0, 2048, Arc::default(), Arc::default(), block).expect("a shard")
    }

    /// Ports A, B and the monitor, up, and a configuration.
    pub fn new(spec: Spec, plan: &Plan) -> Rig {
        let mut rig = Rig::empty(spec);
        rig.add(A, PortRole::Wire);
        rig.add(B, PortRole::Wire);
        rig.add(MON, PortRole::Monitor);
        rig.swap(plan);
        rig
    }

    pub fn add(&mut self, ifindex: u32, role: PortRole) {
        self.add_queue(ifindex, role, 0, 1);
    }

    pub fn add_queue(&mut self, ifindex: u32, role: PortRole, queue: u32, queues: u32) {
        let share = self.spec.primary / self.spec.seats;
        let seat = (role == PortRole::Wire).then_some(Seat { store: 0, share, shared: false });
        self.add_with(ifindex, role, (queue, queues), seat);
    }

    /// A port with a share of the frames at a place.
    pub fn add_with(&mut self, ifindex: u32, role: PortRole, (queue, queues): (u32, u32), seat: Option<Seat>) {
        let sizes = match role {
            PortRole::Wire => self.spec.rings,
            PortRole::Monitor => RingSizes { rx: 0, ..self.spec.rings },
        };
        let area = match seat {
            Some(Seat { store, .. }) => &self.stores[store].as_ref().expect("frames").0,
            None => self.shard.mirror_area(),
        };
        let (nic, rings) = FakeNic::new(area, sizes, self.spec.start).expect("rings");
        self.next_socket += 1;
        let socket = self.next_socket;
        let doorbell = FakeDoorbell::named(&self.kicked, ifindex);
        let block = Arc::new(BindingBlock::default());
        let identity = Identity { socket, ifindex, queue, queues, role, seat };
        let port = Port::new(identity, rings, doorbell.clone(), Arc::clone(&block));
        self.command(Command::Add(Box::new(port)));
        assert!(matches!(self.mailbox.events.pop(), Some(Event::Filled(s)) if s == socket));
        self.ports.push(Wire { ifindex, socket, store: seat.map(|seat| seat.store), nic, doorbell, block });
        self.link(ifindex, true, 1500);
    }

    /// As the control thread does when a port goes: the socket, then its frames.
    pub fn remove(&mut self, ifindex: u32) {
        let at = self.ports.iter().position(|p| p.ifindex == ifindex).expect("a port");
        let Wire { socket, store, .. } = self.ports.remove(at);
        self.command(Command::Remove(socket));
        assert!(matches!(self.mailbox.events.pop(), Some(Event::Removed(p)) if p.socket == socket));
        self.command(Command::Reclaim { socket, store });
        assert!(matches!(self.mailbox.events.pop(), Some(Event::Reclaimed(s)) if s == socket));
    }

    /// The same for all ports at once, as when a dataplane lets go of everything: their frames in one breath.
    pub fn remove_all(&mut self) {
        let ports = std::mem::take(&mut self.ports);
        for port in &ports {
            self.command(Command::Remove(port.socket));
            assert!(matches!(self.mailbox.events.pop(), Some(Event::Removed(p)) if p.socket == port.socket));
        }
        for &Wire { socket, store, .. } in &ports {
            self.mailbox.commands.push(Command::Reclaim { socket, store }).expect("room in the mailbox");
        }
        self.breathe();
        let mut told: Vec<_> = std::iter::from_fn(|| self.mailbox.events.pop())
            .map(|event| if let Event::Reclaimed(socket) = event { socket } else { panic!("{event:?}") })
            .collect();
        told.sort_unstable();
        assert_eq!(told, ports.iter().map(|port| port.socket).collect::<Vec<_>>());
    }

    pub fn link(&mut self, ifindex: u32, up: bool, mtu: u32) {
        self.bound(ifindex, up, mtu, false);
    }

    /// As the control thread tells of a port whose sockets are bound, in zero-copy or not.
    pub fn bound(&mut self, ifindex: u32, up: bool, mtu: u32, zero_copy: bool) {
        self.tell(ifindex, |socket| Command::Link { socket, up, mtu, zero_copy, multi_buffer: false });
    }

    /// Of one that is up and whose packets may lie in several frames.
    pub fn bound_large(&mut self, ifindex: u32, mtu: u32) {
        self.tell(ifindex, |socket| Command::Link { socket, up: true, mtu, zero_copy: false, multi_buffer: true });
    }

    fn tell(&mut self, ifindex: u32, command: impl Fn(SocketId) -> Command<FakeDoorbell>) {
        let sockets: Vec<_> = self.ports.iter().filter(|p| p.ifindex == ifindex).map(|p| p.socket).collect();
        for socket in sockets {
            self.command(command(socket));
        }
    }

    pub fn command(&mut self, command: Command<FakeDoorbell>) {
        self.mailbox.commands.push(command).expect("room in the mailbox");
        // Unchecked: between two commands a socket's frames may be nobody's that the rig can see.
        self.shard.breathe();
    }

    /// So many whole rounds of audits, in one breath.
    pub fn audit(&mut self, rounds: u32) {
        for _ in 0..rounds * AUDITS {
            self.mailbox.commands.push(Command::Audit).expect("room in the mailbox");
        }
        self.breathe();
    }

    /// Publishes a configuration; the shard takes it with its next breath.
    pub fn swap(&mut self, plan: &Plan) {
        self.publish(plan);
        self.breathe();
        release(&mut self.slots, vec![(&self.block, &mut self.selectors)]);
    }

    /// The same, but the shard takes it later.
    pub fn publish(&mut self, plan: &Plan) {
        self.generation += 1;
        let ledgers: [Ledgers<'_>; 1] = [(&self.block, &mut self.selectors)];
        publish(&self.table, &mut self.slots, plan, self.generation, ledgers.into_iter());
    }

    fn ledgers(&mut self) -> Ledgers<'_> {
        (&self.block, &mut self.selectors)
    }

    /// Gives the shard the clone ring of a selector, `bytes` long, its positions starting at `start`.
    pub fn select(&mut self, bytes: u32, start: u64) {
        let (selector, ring) = Selector::new(bytes, start);
        self.selectors.push(selector);
        self.command(Command::Read(Box::new(ring)));
    }

    /// The first selector takes a frame. Whether it was handed up.
    pub fn offer(&mut self, ingress: u32, offer: &Offer) -> bool {
        let table = self.table.load();
        self.selectors[0].offer(&table, ingress, offer)
    }

    /// Where tables are swapped in.
    pub fn table(&self) -> Arc<Current> {
        Arc::clone(&self.table)
    }

    /// A breath, after which every frame must be somewhere.
    pub fn breathe(&mut self) -> usize {
        let moved = self.shard.breathe();
        self.check();
        moved
    }

    /// Conservation per partition, by the shard's own record and by what the rings hold.
    pub fn check(&mut self) {
        assert!(self.shard.conserves_frames(), "{:?}", self.shard.census());
        let [primary, mirror] = self.shard.census();
        let (mut fill_rx, mut tx) = (0, 0);
        for port in &mut self.ports {
            fill_rx += port.nic.fill_waiting() + port.nic.rx_waiting();
            tx += port.nic.tx_waiting() + port.nic.owed() as u32 + port.nic.completion_waiting();
        }
        assert_eq!(primary.fill_rx, fill_rx, "frames in fill and rx rings");
        assert_eq!(primary.tx + mirror.tx, tx, "frames in tx and completion rings");
        assert!(primary.quarantined <= primary.tx && mirror.quarantined <= mirror.tx);
        assert_eq!(mirror.fill_rx, 0);
        let frames: u32 = self.stores.iter().flatten().map(|store| store.1).sum();
        assert_eq!((primary.size, mirror.size), (frames, self.spec.mirror));
    }

    pub fn port(&mut self, ifindex: u32) -> &mut Wire {
        self.ports.iter_mut().find(|p| p.ifindex == ifindex).expect("a port")
    }

    /// Takes everything off a port's tx ring and completes it.
    pub fn sent(&mut self, ifindex: u32) -> Vec<Vec<u8>> {
        let port = self.port(ifindex);
        let packets = port.nic.transmit(usize::MAX);
        port.nic.complete(usize::MAX);
        packets
    }

    /// The ledger and the sampler of an entry on this shard.
    pub fn entry(&self, mirror: (u32, u32, u32)) -> &EntryCell {
        let table = self.table.load();
        let entry = table.entries.iter().find(|e| e.key == key(mirror)).expect("an entry");
        self.block.entry(entry.slot)
    }

    /// The ledger of an entry with what selectors count, which must close.
    pub fn ledger(&self, mirror: (u32, u32, u32)) -> [u64; LEDGER_VALUES] {
        let table = self.table.load();
        let entry = table.entries.iter().find(|e| e.key == key(mirror)).expect("an entry");
        self.ledger_in(entry.slot)
    }

    /// The same of an entry that may be gone.
    pub fn ledger_in(&self, slot: u32) -> [u64; LEDGER_VALUES] {
        let shards = self.block.entry(slot).read().expect("nobody writes");
        let mut counted = Counted::default();
        self.selectors.iter().for_each(|of| counted += of.counted(slot));
        let row = whole(&shards, counted);
        assert!(Entry::closes(&row), "the ledger does not close: {row:?}");
        row
    }

    pub fn count(&mut self, ifindex: u32, value: Binding) -> u64 {
        self.port(ifindex).block.read()[value as usize]
    }
}

pub fn key((ingress_ifindex, output_ifindex, rate): (u32, u32, u32)) -> EntryKey {
    EntryKey { ingress_ifindex, output_ifindex, rate }
}

/// The words of a published image.
pub fn image_of(plan: &Plan, generation: u64) -> Vec<u64> {
    let mut image = ImageBuilder::new();
    let meta = MetaRecord {
        source_version: 3,
        role: plan.role,
        source_generation: generation,
        fib_generation: 0,
        generated_at: StrRef::default(),
        compiled_at: 0,
        flags: 0,
        digest: [0; 32],
        reserved: 0,
    };
    let wires: Vec<_> = plan
        .wires
        .iter()
        .map(|&(a_ifindex, b_ifindex)| WireRecord { a_ifindex, b_ifindex, name: StrRef::default() })
        .collect();
    let ports: Vec<_> = plan
        .vlans
        .iter()
        .map(|&(ifindex, parent_ifindex, vlan_id)| PortRecord {
            ifindex,
            parent_ifindex,
            mtu: 1500,
            vlan_id,
            has_mac: 0,
            mac: [0; 6],
            pad: [0; 2],
            name: StrRef::default(),
            linux_name: StrRef::default(),
        })
        .collect();
    let mirrors: Vec<_> = plan
        .mirrors
        .iter()
        .map(|&(ingress_ifindex, output_ifindex, rate)| MirrorRecord {
            ingress_ifindex,
            output_ifindex,
            rate,
            placement: Placement::OnWire,
        })
        .collect();
    image
        .section(Need::Required, &[meta])
        .section(Need::Required, &ports)
        .section(Need::Required, &wires)
        .section(Need::Required, &mirrors)
        .section::<DiagnosticRecord>(Need::Optional, &[]);
    let mut image = image.finish();
    image.seal(generation, 0);
    image.words().to_vec()
}

/// A frame of `len` bytes that no other number gives.
pub fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(number) as u8).collect();
    let head: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    bytes[..14].copy_from_slice(&head);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The same with a VLAN tag.
pub fn tagged(number: u32, len: usize, tpid: u16, vlan: u16) -> Vec<u8> {
    let mut bytes = frame(number, len);
    bytes[12..14].copy_from_slice(&tpid.to_be_bytes());
    bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
    bytes[18..22].copy_from_slice(&number.to_be_bytes());
    bytes
}
