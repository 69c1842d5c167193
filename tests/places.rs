//! Which frames an entry gets and where its clones leave, for snapshots in which that is anything but plain: several
//! interfaces with one ifindex, VLAN units with ifindexes of no device, native VLANs, units on units, wires on them.
//!
//! The oracle here is written from the rules alone, frame by frame. Admission, the image, the table that a shard uses,
//! its classifier, the statistics, `show` and the status of a producer have to agree with it and so with each other.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Runs, TestCaseError, TestRunner};
use serde_json::Value;
use shm_layout::counters::{Entry, KERNEL_VALUES};
use shm_layout::header::RegionKind;
use shm_layout::record::PortRole;
use spanwire::classify::classify;
use spanwire::clock::monotonic_ns;
use spanwire::control::serve::{Options, Server};
use spanwire::control::state::{Place, Show, StatsReport, fresh_stats, show};
use spanwire::control::writer::publish;
use spanwire::control::{Interface, Mirror, Snapshot, StaticState, Wire, admit};
use spanwire::counters::{BindingBlock, ShardBlock};
use spanwire::daemon::config::Config;
use spanwire::daemon::report::{BindingStatus, PortStatus, Report};
use spanwire::daemon::stats::Teller;
use spanwire::region::{Publisher, STATS_FILE, rouse};
use spanwire::snapshot::table::{Current, Table};
use spanwire::stop::Stop;

/// Ports that wires may have.
const PORTS: [u32; 4] = [11, 12, 13, 14];
const MONITORS: [u32; 2] = [22, 23];
/// VLAN units, with devices and without.
const UNITS: [u32; 5] = [31, 32, 1 << 30, (1 << 30) + 1, i32::MAX as u32];
/// The ids that anything here has.
const VLANS: std::ops::RangeInclusive<u16> = 1..=3;

fn interface() -> impl Strategy<Value = Interface> {
    let any_of = |all: [&[u32]; 3]| select(all.concat());
    let port = (any_of([&PORTS, &MONITORS, &[]]), prop_oneof![Just(0), VLANS])
        .prop_map(|(ifindex, native_vlan_id)| Interface { ifindex, native_vlan_id, ..Interface::default() });
    let unit = |ifindexes: Vec<u32>, parents: Vec<u32>| {
        (select(ifindexes), select(parents), VLANS).prop_map(|(ifindex, parent_ifindex, vlan_id)| Interface {
            ifindex,
            parent_ifindex,
            vlan_id,
            ..Interface::default()
        })
    };
    prop_oneof![
        2 => port,
        5 => unit(UNITS.to_vec(), [&PORTS[..], &MONITORS].concat()),
        // On one another, on themselves, the ports of wires and monitors too; and without a device or a parent.
        2 => unit([&PORTS[..], &MONITORS, &UNITS, &[0]].concat(), [&PORTS[..], &MONITORS, &UNITS, &[0]].concat()),
        // A unit that is listed among the devices as well.
        1 => select(UNITS.to_vec()).prop_map(|ifindex| Interface { ifindex, ..Interface::default() }),
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let ends = prop_oneof![
        4 => Just(vec![(11, 12)]),
        4 => Just(vec![(11, 12), (13, 14)]),
        1 => Just(vec![(11, 31), (13, 12)]),
        1 => Just(vec![]),
    ];
    let ingress = select([&PORTS[..], &UNITS].concat());
    let output = prop_oneof![2 => select(MONITORS.to_vec()), 1 => select(UNITS.to_vec())];
    let mirror = (ingress, output).prop_map(|(ingress_ifindex, output_ifindex)| Mirror {
        ingress_ifindex,
        output_ifindex,
        rate: 1,
    });
    (vec(interface(), 0..10), ends, vec(mirror, 1..5)).prop_map(|(interfaces, ends, mirrors)| Snapshot {
        interfaces,
        mirrors,
        wires: ends
            .into_iter()
            .map(|(a_ifindex, b_ifindex)| Wire {
                name: format!("{a_ifindex}"),
                a_ifindex,
                b_ifindex,
                ..Wire::default()
            })
            .collect(),
        ..Snapshot::default()
    })
}

/// The rules, read off their text.
struct Oracle<'a>(&'a Snapshot);

impl Oracle<'_> {
    fn on_wire(&self, ifindex: u32) -> bool {
        self.0.wires.iter().any(|wire| wire.a_ifindex == ifindex || wire.b_ifindex == ifindex)
    }

    /// Of the interfaces with this ifindex the first that is a VLAN on another one counts.
    fn unit(&self, ifindex: u32) -> Option<(u32, u16)> {
        for i in &self.0.interfaces {
            if i.ifindex == ifindex && i.vlan_id != 0 && i.parent_ifindex != 0 && i.parent_ifindex != ifindex {
                return Some((i.parent_ifindex, i.vlan_id));
            }
        }
        None
    }

    fn native(&self, port: u32) -> Option<u16> {
        self.0.interfaces.iter().filter(|i| i.ifindex == port).map(|i| i.native_vlan_id).find(|&id| id != 0)
    }

    /// The entry of a frame that arrives on a port of a wire: (parent, VLAN), then the parent's own. `tag` is its VLAN
    /// id, `None` where it has no tag.
    fn entry(&self, port: u32, tag: Option<u16>) -> Option<usize> {
        let vlan = match tag {
            None | Some(0) => self.native(port),
            Some(id) => Some(id),
        };
        let mut ingresses = self.0.mirrors.iter().map(|mirror| mirror.ingress_ifindex);
        let of_vlan = |ingress: u32| {
            !self.on_wire(ingress) && self.unit(ingress).is_some_and(|(on, id)| on == port && Some(id) == vlan)
        };
        ingresses.clone().position(of_vlan).or_else(|| ingresses.position(|ingress| ingress == port))
    }

    /// An interface and what is below it, down to the port.
    fn stack(&self, ifindex: u32) -> Vec<u32> {
        let (mut port, mut stack) = (ifindex, vec![ifindex]);
        while let Some((parent, _)) = self.unit(port).filter(|(parent, _)| !stack.contains(parent)) {
            port = parent;
            stack.push(port);
        }
        stack
    }

    /// Whether a port of a wire stands on this one.
    fn is_below_wire(&self, port: u32) -> bool {
        let mut ends = self.0.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]);
        ends.any(|end| self.stack(end)[1..].contains(&port))
    }

    /// The port that clones leave by.
    fn output(&self, entry: usize) -> u32 {
        let output = self.0.mirrors[entry].output_ifindex;
        self.stack(output).last().copied().unwrap_or(output)
    }

    /// What is told of an entry.
    fn place(&self, entry: usize) -> Place {
        let ingress = self.0.mirrors[entry].ingress_ifindex;
        let (ingress_port, vlan_id) = match self.unit(ingress) {
            Some(unit) if !self.on_wire(ingress) => unit,
            _ => (ingress, 0),
        };
        let untagged = vlan_id != 0 && self.native(ingress_port) == Some(vlan_id);
        Place { ingress_port, vlan_id, untagged, output_port: self.output(entry) }
    }
}

fn frame(tpid: u16, tag: Option<u16>) -> Vec<u8> {
    let mut frame = vec![2; 12];
    if let Some(id) = tag {
        frame.extend(tpid.to_be_bytes());
        // Priority and drop eligibility are no part of the id.
        frame.extend((0xb000 | id).to_be_bytes());
    }
    frame.extend([0x08, 0x00]);
    frame.resize(60, 0);
    frame
}

/// Its shards.
const SHARDS: u32 = 2;

/// The open sockets of a port: queues, and the shards that have them, in no order. Some ports have none on a shard on
/// which they had one before.
fn sockets(port: u32) -> &'static [(u32, u32)] {
    match port % 3 {
        0 => &[(2, 0), (1, 1), (0, 0)],
        1 => &[(1, 0), (0, 1)],
        _ => &[(1, 1), (0, 1)],
    }
}

/// A directory with a dataplane in it that has every port it could want, all of them up, and a server of a producer.
struct Node {
    dir: tempfile::TempDir,
    blocks: Vec<Arc<ShardBlock>>,
    server: Server,
}

/// What is said of a table that is in use.
struct Told {
    show: Show,
    stats: StatsReport,
    status: Value,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::bind(Options::new(dir.path().to_owned(), dir.path().join("socket"))).expect("a server");
        Node { dir, blocks: (0..SHARDS).map(|id| Arc::new(ShardBlock::new(id, id))).collect(), server }
    }

    /// The ledgers of a slot begin anew.
    fn forget(&self, slot: u32) {
        self.blocks.iter().for_each(|block| block.entry(slot).reset());
    }

    /// A shard mirrors frames of an entry.
    fn mirror(&self, shard: u32, slot: u32, frames: u64) {
        self.blocks[shard as usize].entry(slot).commit(|row| {
            for value in [Entry::Observed, Entry::Selected, Entry::MirroredPackets] {
                row.add(value, frames);
            }
        });
    }

    /// What `show`, the statistics and the producer's status say once this table is in use.
    fn tell(&self, table: Table) -> Told {
        let config = Config::parse_from(["spanwired"]);
        let port = |ifindex, role| PortStatus {
            ifindex,
            device: ifindex,
            role,
            there: true,
            up: true,
            mtu: 1500,
            queues: sockets(ifindex).len() as u32,
            zero_copy: false,
            name: format!("p{ifindex}"),
            xdp_mode: "",
            driver: String::new(),
            reason: String::new(),
            note: String::new(),
        };
        let wires = table.wires.iter().flat_map(|&(a, b)| [a, b]).map(|ifindex| port(ifindex, PortRole::Wire));
        let monitors = table.monitors().into_iter().map(|ifindex| port(ifindex, PortRole::Monitor));
        let ports: Vec<PortStatus> = wires.chain(monitors).collect();
        let binding = |ifindex, queue, shard| BindingStatus {
            ifindex,
            queue,
            shard,
            block: Arc::new(BindingBlock::default()),
            kernel: [0; KERNEL_VALUES],
        };
        let bindings = ports.iter().flat_map(|port| {
            let open = sockets(port.ifindex).iter().map(|&(queue, shard)| (queue, Some(shard)));
            open.chain([(9, None)]).map(|(queue, shard)| binding(port.ifindex, queue, shard))
        });
        let (report, bindings) = (Report::default(), bindings.collect());
        // As whoever serves them has followed this table.
        report.set_all(ports, bindings, Vec::new(), table.serial);
        let patience = Duration::from_secs(10);
        let publisher = Publisher::open(self.dir.path(), STATS_FILE, RegionKind::Stats, patience).expect("one writer");
        let table = Arc::new(Current::new(table));
        let teller = Teller::new(&config, publisher, table, self.blocks.clone(), Arc::new(report)).expect("a thread");
        let stop = Stop::new().expect("a stop");
        thread::scope(|scope| {
            scope.spawn(|| teller.run(&stop));
            let (start, asked, mut stats) = (Instant::now(), monotonic_ns(), Ok(None));
            while matches!(stats, Ok(None)) && start.elapsed() < patience {
                stats = fresh_stats(self.dir.path(), asked, patience);
            }
            let show = scope.spawn(|| show(self.dir.path()));
            let (status, show) = (self.server.status(), show.join());
            stop.set();
            rouse(self.dir.path(), STATS_FILE, RegionKind::Stats);
            Told {
                show: show.expect("an answer").expect("readable"),
                stats: StatsReport::of(&stats.expect("readable").expect("published")),
                status: serde_json::from_str(status.expect("a status").get()).expect("JSON"),
            }
        })
    }
}

fn holds(snapshot: &Snapshot, node: &Node, accepted: &Cell<u32>) -> Result<(), TestCaseError> {
    let (oracle, admission) = (Oracle(snapshot), admit(snapshot));
    let entries = 0..snapshot.mirrors.len();
    let places: Vec<Place> = entries.clone().map(|i| oracle.place(i)).collect();
    let taken: BTreeSet<(u32, u16)> = places.iter().map(|place| (place.ingress_port, place.vlan_id)).collect();
    if !admission.accepted() {
        return Ok(());
    }
    accepted.set(accepted.get() + 1);
    for port in snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]) {
        prop_assert!(!oracle.is_below_wire(port), "{} is on a wire, and so is what stands on it", port);
    }
    prop_assert_eq!(taken.len(), places.len(), "two entries of the same frames were admitted");
    for (i, place) in places.iter().enumerate() {
        let is_active = admission.states[i] == StaticState::Active;
        prop_assert_eq!(is_active, oracle.on_wire(place.ingress_port), "entry {}", i);
        prop_assert!(!oracle.on_wire(place.output_port), "clones of entry {} go onto a wire", i);
        prop_assert!(!oracle.is_below_wire(place.output_port), "clones of entry {} go below a wire", i);
        prop_assert!(
            places.iter().all(|other| other.ingress_port != place.output_port),
            "entry {} is mirrored again",
            i
        );
    }

    publish(node.dir.path(), snapshot, &admission, [0; 32]).expect("a reader takes it");
    let published = spanwire::control::state::published(node.dir.path()).expect("readable").expect("published");
    let view = published.view().expect("a reader takes it");
    let recorded: Vec<Place> = view.places().into_iter().map(Place::from).collect();
    prop_assert_eq!(&recorded, &places, "the image");

    let mut slots = 0..;
    let table = Table::build(&view, published.instance_id, 1, |_| slots.next().expect("a slot"));
    let in_use: Vec<Place> = table.entries.iter().map(|entry| entry.place.into()).collect();
    prop_assert_eq!(&in_use, &places, "the table");
    table.entries.iter().for_each(|entry| node.forget(entry.slot));
    let mut mirrored = Mirrored::default();
    let tags = [0, 1, 2, 3, 4, 4094, 4095].map(Some).into_iter().chain([None]);
    let arriving = PORTS.into_iter().chain([31]).flat_map(|port| tags.clone().map(move |tag| (port, tag)));
    for (frames, (port, tag)) in (1..).zip(arriving) {
        let wanted = if oracle.on_wire(port) { oracle.entry(port, tag) } else { None };
        for tpid in [0x8100, 0x88a8] {
            let found = table.policy(port).and_then(|policy| {
                let tap = classify(policy, &frame(tpid, tag))?;
                Some((tap.slot as usize, policy.outputs[tap.output as usize]))
            });
            prop_assert_eq!(found, wanted.map(|i| (i, places[i].output_port)), "port {} tag {:?}", port, tag);
        }
        if let Some(entry) = wanted {
            let shard = frames as u32 % SHARDS;
            node.mirror(shard, table.entries[entry].slot, frames);
            mirrored.add(port, shard, entry, frames);
        }
    }
    let wired = places.iter().filter(|place| oracle.on_wire(place.ingress_port));
    let outputs: BTreeSet<u32> = wired.map(|place| place.output_port).collect();
    prop_assert_eq!(table.monitors().into_iter().collect::<BTreeSet<u32>>(), outputs, "ports looked for");

    let used: BTreeSet<u32> = snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect();
    let used = &used | &table.monitors().into_iter().collect();
    let Told { show, stats, status } = node.tell(table);
    for (i, place) in places.iter().enumerate() {
        let state = if oracle.on_wire(place.ingress_port) { "active" } else { "inactive" };
        prop_assert_eq!((show.mirrors[i].state, show.mirrors[i].place), (state, *place), "{:?}", &show.mirrors[i]);
        prop_assert_eq!(stats.mirrors[i].port, place.ingress_port);
        let Mirror { ingress_ifindex, output_ifindex, .. } = snapshot.mirrors[i];
        let told = (stats.mirrors[i].ingress_ifindex, stats.mirrors[i].output_ifindex);
        prop_assert_eq!(told, (ingress_ifindex, output_ifindex), "an entry keeps the ifindexes it came with");
        let frames = stats.mirrors[i].values.get(Entry::MirroredPackets.name());
        prop_assert_eq!(frames, mirrored.of_entry(i), "entry {}", i);
        prop_assert!(stats.mirrors[i].closes());
    }
    told_of_sockets(&status, &used, &mirrored)
}

/// Frames that were mirrored: the port and the shard that they arrived on, and their entry.
#[derive(Default)]
struct Mirrored(Vec<(u32, u32, usize, u64)>);

impl Mirrored {
    fn add(&mut self, port: u32, shard: u32, entry: usize, frames: u64) {
        self.0.push((port, shard, entry, frames));
    }

    fn of_entry(&self, entry: usize) -> u64 {
        self.0.iter().filter(|of| of.2 == entry).map(|of| of.3).sum()
    }

    /// By port and queue: what a shard mirrored is told with the port's first queue there, or where that has none any
    /// more with its first of all.
    fn of_sockets(&self) -> BTreeMap<(u32, u32), u64> {
        let mut frames_of = BTreeMap::new();
        for &(port, shard, _, frames) in &self.0 {
            let of_shard = sockets(port).iter().filter(|socket| socket.1 == shard).min();
            let (queue, _) = *of_shard.or(sockets(port).iter().min()).expect("a port has sockets");
            *frames_of.entry((port, queue)).or_default() += frames;
        }
        frames_of
    }
}

/// The status has a row for each socket of the ports in use, and each mirrored frame on one of the port it arrived on.
fn told_of_sockets(status: &Value, used: &BTreeSet<u32>, mirrored: &Mirrored) -> Result<(), TestCaseError> {
    let number = |row: &Value, key: &str| row[key].as_u64().expect("a number");
    let open = used.iter().flat_map(|&port| sockets(port).iter().map(move |&(queue, shard)| (port, queue, shard)));
    let open: BTreeSet<(u32, u32, u32)> = open.collect();
    let frames_of = mirrored.of_sockets();
    for list in ["bindings", "per_binding"] {
        let rows = status[list].as_array().expect("a list");
        let mut found = BTreeSet::new();
        for row in rows {
            let [port, queue, shard] = ["ifindex", "queue_id", "worker_id"].map(|key| number(row, key) as u32);
            prop_assert_eq!(&row["interface"], &Value::from(format!("p{port}")));
            let frames = frames_of.get(&(port, queue)).copied().unwrap_or(0);
            for value in [Entry::Observed, Entry::MirroredPackets] {
                prop_assert_eq!(number(row, value.name()), frames, "{}: queue {} of port {}", list, queue, port);
            }
            prop_assert!(list != "bindings" || row["ready"] == true, "{}", row);
            found.insert((port, queue, shard));
        }
        prop_assert_eq!((&found, rows.len()), (&open, open.len()), "{}", list);
    }
    Ok(())
}

#[test]
fn everybody_agrees_on_the_port_and_the_tag_of_an_entry() {
    let node = Node::new();
    let (accepted, cases) = (Cell::new(0), 512);
    let mut runner = TestRunner::new(Runs { cases, ..Runs::with_source_file(file!()) });
    let ended = runner.run(&snapshot(), |snapshot| holds(&snapshot, &node, &accepted));
    assert_eq!(ended, Ok(()), "{ended:#?}");
    assert!(accepted.get() > cases / 4, "{} of {cases} were admitted", accepted.get());
}
