//! The selectors of a wire's ports on both hooks, and an oracle that knows what they do with each frame: the classifier and
//! the sampler of the shard path.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytemuck::Zeroable;
use proptest::prelude::*;
use shm_layout::snapshot::SnapshotView;
use spanwire::classify::classify;
use spanwire::clock::monotonic_ns;
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::{Interface, Mirror, Snapshot, Wire, admit};
use spanwire::counters::Counted;
use spanwire::kernel::abi::{RECORD_LONGEST, RECORD_SUPER, RECORD_TAGGED, RecordHead};
use spanwire::kernel::ledger::Ledger;
use spanwire::kernel::maps::Maps;
use spanwire::kernel::policy::Policy;
use spanwire::kernel::program::Hook;
use spanwire::kernel::rings::Ring;
use spanwire::shard::mirror::Sampler;
use spanwire::snapshot::slots::Slots;
use spanwire::snapshot::table::{EntryKey, Table};

use super::hooks::{Frame, PEER, Program, TC_REDIRECT, XDP_REDIRECT};

/// The ports of the wire, numbered in this order.
pub const PORTS: [u32; 2] = [11, 12];
pub const MONITORS: [u32; 2] = [22, 23];
/// Where entries may take their frames: the ports, and VLAN units on them (parent, VLAN id).
pub const SOURCES: [(u32, Option<(u32, u16)>); 7] = [
    (11, None),
    (12, None),
    (31, Some((11, 1))),
    (32, Some((11, 2))),
    (33, Some((11, 100))),
    (34, Some((11, 4094))),
    (35, Some((12, 100))),
];
/// The slots that are given out begin here, so that they are of two chunks.
const FIRST_SLOT: u32 = 60;
/// At most, of plans.
const ENTRIES: u32 = 100;
/// Bytes that any frame may have and a record not, and those that XDP's helper does not reach.
const XDP_READABLE: usize = 0xffff;

/// What is configured.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By source: rate and output.
    pub entries: [Option<(u32, u32)>; SOURCES.len()],
    /// The native VLAN of port 11.
    pub native: u16,
}

impl Plan {
    /// Frames of the first port, 1 in `rate`.
    pub fn first_port(rate: u32) -> Plan {
        let mut plan = Plan::default();
        plan.entries[0] = Some((rate, MONITORS[0]));
        plan
    }

    fn snapshot(&self) -> Snapshot {
        let unit = |(ifindex, unit): (u32, Option<(u32, u16)>)| {
            let (parent_ifindex, vlan_id) = unit?;
            Some(Interface { ifindex, parent_ifindex, vlan_id, ..Interface::default() })
        };
        let port = Interface { ifindex: PORTS[0], native_vlan_id: self.native, ..Interface::default() };
        let mirror = |(&(ingress_ifindex, _), entry): (&(u32, _), &Option<(u32, u32)>)| {
            entry.map(|(rate, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate })
        };
        Snapshot {
            interfaces: SOURCES.into_iter().filter_map(unit).chain([port]).collect(),
            mirrors: SOURCES.iter().zip(&self.entries).filter_map(mirror).collect(),
            wires: vec![Wire { name: "w".to_owned(), a_ifindex: PORTS[0], b_ifindex: PORTS[1], ..Wire::default() }],
            ..Snapshot::default()
        }
    }
}

pub struct Rig {
    pub maps: Arc<Maps>,
    pub ledger: Ledger,
    pub policy: Policy,
    pub rings: Vec<Ring>,
    /// By their number.
    ports: Vec<u32>,
    programs: Vec<((Hook, usize), Program)>,
    processors: Vec<usize>,
    processor: usize,
    slots: Slots,
    serial: u64,
    /// In force, if any is.
    table: Option<Table>,
    oracle: Oracle,
    /// Frames that were run.
    pub count: u64,
    /// What this process's clock is ahead of the kernel's own by, which times the records: a time namespace's offset.
    ahead_ns: i64,
}

/// What is to be found.
#[derive(Default)]
struct Oracle {
    /// By slot and processor.
    samplers: HashMap<(u32, usize), Sampler>,
    counted: HashMap<u32, Counted>,
    /// By hook, port and processor: frames and bytes.
    crossed: HashMap<(Hook, usize, usize), (u64, u64)>,
}

impl Rig {
    /// With a ring of so many bytes for each processor. In a network namespace that has the device [`PEER`].
    pub fn new(ring_bytes: u32) -> Rig {
        Rig::over(&PORTS, ENTRIES, ring_bytes)
    }

    /// The same for these ports, and at most so many entries.
    pub fn over(ports: &[u32], entries: u32, ring_bytes: u32) -> Rig {
        let mut rig = Rig::over_without_rings(ports, entries, ring_bytes);
        rig.rings = rig.maps.add_rings(0..rig.maps.processors()).unwrap();
        rig
    }

    /// With rings for nobody yet.
    pub fn without_rings(ring_bytes: u32) -> Rig {
        Rig::over_without_rings(&PORTS, ENTRIES, ring_bytes)
    }

    fn over_without_rings(ports: &[u32], entries: u32, ring_bytes: u32) -> Rig {
        let room = FIRST_SLOT + entries;
        let maps = Arc::new(Maps::create(room, ring_bytes).unwrap());
        let ends = [Hook::Xdp, Hook::Tc].into_iter().flat_map(|hook| (0..ports.len()).map(move |port| (hook, port)));
        let load = |(hook, port)| ((hook, port), Program::load(hook, port as u32, PEER, &maps));
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let processors: Vec<usize> = (0..maps.processors() as usize).filter(|&at| allowed.is_set(at)).collect();
        let mut rig = Rig {
            ledger: Ledger::new(Arc::clone(&maps), room),
            policy: Policy::new(Arc::clone(&maps)),
            rings: Vec::new(),
            ports: ports.to_vec(),
            programs: ends.map(load).collect(),
            maps,
            processor: processors[0],
            processors,
            slots: Slots::new(entries),
            serial: 0,
            table: None,
            oracle: Oracle::default(),
            count: 0,
            ahead_ns: monotonic_offset_ns(),
        };
        rig.move_to(0);
        rig
    }

    /// As a new one, but for what crossed and the serial.
    pub fn forget(&mut self) {
        self.policy.clear().unwrap();
        self.rings.iter_mut().for_each(drain);
        self.table = None;
        self.slots = Slots::new(ENTRIES);
        (self.oracle.samplers, self.oracle.counted) = Default::default();
    }

    /// Runs on the `nth` of the processors there are from here on.
    pub fn move_to(&mut self, nth: usize) {
        self.processor = self.processors[nth % self.processors.len()];
        let mut only = rustix::thread::CpuSet::new();
        only.set(self.processor);
        rustix::thread::sched_setaffinity(None, &only).unwrap();
    }

    /// Runs, and lets threads that are started run, on any of them.
    pub fn move_anywhere(&self) {
        let mut all = rustix::thread::CpuSet::new();
        self.processors.iter().for_each(|&at| all.set(at));
        rustix::thread::sched_setaffinity(None, &all).unwrap();
    }

    /// The processor it runs on.
    pub fn processor(&self) -> usize {
        self.processor
    }

    /// The slots of the entries in force, in their order.
    pub fn slots(&self) -> Vec<u32> {
        self.table.iter().flat_map(|table| &table.entries).map(|entry| entry.slot).collect()
    }

    /// Of the table that was put in force last.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    fn program(&self, hook: Hook, port: usize) -> &Program {
        &self.programs.iter().find(|(of, _)| *of == (hook, port)).unwrap().1
    }

    /// Puts a plan in force, as the adopter does: entries that stay keep their slots.
    pub fn put(&mut self, plan: &Plan) {
        self.put_for(plan, &PORTS);
    }

    /// The same by who knows only some of the ports.
    pub fn put_for(&mut self, plan: &Plan, ports: &[u32]) {
        self.put_snapshot(&plan.snapshot(), ports);
    }

    /// The same of any snapshot.
    pub fn put_snapshot(&mut self, snapshot: &Snapshot, ports: &[u32]) {
        let admission = admit(snapshot);
        assert!(admission.accepted(), "{:?}", admission.reasons);
        let image = compile(snapshot, &admission, &Provenance::of(b""));
        let view = SnapshotView::try_from(image.words()).unwrap();
        let key = |m: &Mirror| EntryKey {
            ingress_ifindex: m.ingress_ifindex,
            output_ifindex: m.output_ifindex,
            rate: m.rate,
        };
        let slots = self.slots.plan(snapshot.mirrors.iter().map(key), false).unwrap();
        let fresh: HashSet<u32> = slots.fresh().iter().map(|slot| FIRST_SLOT + slot).collect();
        self.oracle.samplers.retain(|(of, _), _| !fresh.contains(of));
        self.ledger.reset(&fresh.iter().copied().collect::<Vec<_>>()).unwrap();
        self.oracle.counted.extend(fresh.into_iter().map(|slot| (slot, Counted::default())));
        self.serial += 1;
        let table = Table::build(&view, 1, self.serial, |key| FIRST_SLOT + slots.slot(key));
        self.policy.put(&table, ports).unwrap();
        self.slots.commit(slots, self.serial);
        self.slots.release(self.serial, |_| true);
        self.table = Some(table);
    }

    /// Takes what is in force out of it.
    pub fn clear(&mut self) {
        self.policy.clear().unwrap();
        self.table = None;
    }

    /// Runs one frame, which goes on.
    pub fn pass(&self, hook: Hook, port: usize, frame: &Frame) {
        let redirect = if hook == Hook::Xdp { XDP_REDIRECT } else { TC_REDIRECT };
        assert_eq!(self.program(hook, port).run(frame), redirect);
    }

    /// Runs one frame, and looks at what came of it.
    pub fn run(&mut self, hook: Hook, port: usize, frame: &Frame) -> Result<(), TestCaseError> {
        self.count += 1;
        let before = monotonic_ns();
        self.pass(hook, port, frame);
        let after = monotonic_ns();
        let on_the_wire = frame.on_the_wire(hook);
        let crossed = self.oracle.crossed.entry((hook, port, self.processor)).or_default();
        *crossed = (crossed.0 + 1, crossed.1 + on_the_wire.len() as u64);

        let wanted = self.table.as_ref().and_then(|table| {
            let policy = table.policy(self.ports[port])?;
            let tap = classify(policy, &on_the_wire)?;
            let sampler = self.oracle.samplers.entry((tap.slot, self.processor)).or_insert(Sampler { until: 0 });
            let counted = self.oracle.counted.get_mut(&tap.slot).unwrap();
            counted.observed += 1;
            if !sampler.select(tap.rate) {
                return None;
            }
            counted.selected += 1;
            if frame.len > RECORD_LONGEST {
                counted.oversize += 1;
                return None;
            }
            if hook == Hook::Xdp && frame.len > XDP_READABLE {
                counted.unreadable += 1;
                return None;
            }
            let mut head = RecordHead {
                serial: table.serial,
                slot: tap.slot,
                output: policy.outputs[tap.output as usize],
                len: frame.len as u32,
                queue: frame.queue,
                ..RecordHead::zeroed()
            };
            if hook == Hook::Tc {
                head.queue = frame.queue.saturating_sub(1);
                if let Some((proto, tci)) = frame.taken {
                    (head.flags, head.vlan_proto, head.vlan_tci) = (RECORD_TAGGED, proto, tci);
                }
                if let Some((size, count)) = frame.segments {
                    head.flags |= RECORD_SUPER;
                    (head.gso_size, head.gso_segs) = (size, count);
                }
            }
            Some(head)
        });
        for (ring, at) in self.rings.iter_mut().zip(0..) {
            let mut cursor = ring.position();
            if let Some(wanted) = wanted.filter(|_| at == self.processor) {
                let read = ring.next(&mut cursor);
                let Some(read) = read else { return Err(TestCaseError::fail("not mirrored")) };
                let time = read.head.time.wrapping_add_signed(self.ahead_ns);
                prop_assert!((before..=after).contains(&time), "{before} {after} {:?}", read.head);
                // What is not written is not looked at.
                let head = RecordHead { time: 0, pad: wanted.pad, ..read.head };
                prop_assert_eq!(head, wanted);
                prop_assert!(read.frame == frame.bytes(hook), "other bytes");
                prop_assert_eq!(read.tag().is_some(), frame.taken.is_some() && hook == Hook::Tc);
            }
            prop_assert_eq!(ring.next(&mut cursor), None, "mirrored");
            ring.release(cursor);
            prop_assert_eq!(ring.nonsense(), 0);
        }
        Ok(())
    }

    /// Looks at the ledgers of all entries there were, and at what crossed.
    pub fn audit(&self) -> Result<(), TestCaseError> {
        for (&slot, wanted) in &self.oracle.counted {
            let total = self.ledger.total(slot);
            prop_assert_eq!(total, *wanted, "slot {}", slot);
            let lost = total.ring_full + total.oversize + total.unreadable;
            prop_assert_eq!(total.selected, total.handed_up() + lost);
        }
        for (&(hook, port, processor), wanted) in &self.oracle.crossed {
            let row = self.program(hook, port).crossings.get(processor).unwrap();
            prop_assert_eq!((row.frames.load(Relaxed), row.bytes.load(Relaxed)), *wanted, "what crossed");
            prop_assert_eq!(row.no_peer.load(Relaxed), 0);
        }
        Ok(())
    }
}

/// The offset of CLOCK_MONOTONIC in the time namespace of this process, in nanoseconds.
fn monotonic_offset_ns() -> i64 {
    // No such file: a kernel without time namespaces.
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let Some(offset) = offsets.lines().find_map(|line| line.strip_prefix("monotonic")) else { return 0 };
    let parts: Vec<i64> = offset.split_whitespace().map(|part| part.parse().unwrap()).collect();
    parts[0] * 1_000_000_000 + parts[1]
}

/// Reads all there is.
pub fn drain(ring: &mut Ring) {
    let mut cursor = ring.position();
    while ring.next(&mut cursor).is_some() {}
    ring.release(cursor);
}
