//! What the selector costs a frame on each hook, as the kernel times its own trial runs (`BPF_PROG_TEST_RUN`): the least and
//! the median of some runs of many frames each, in nanoseconds, the redirect's own part included. Needs root.
//!
//! Frames that are mirrored go into a ring that is emptied between runs, each run no more than it has room for.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use shm_layout::snapshot::SnapshotView;
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::{Interface, Mirror, Snapshot, Wire, admit};
use spanwire::kernel::ledger::Ledger;
use spanwire::kernel::maps::Maps;
use spanwire::kernel::policy::Policy;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::snapshot::table::Table;

const PORTS: [u32; 2] = [11, 12];
/// Of VLAN 100 on the first port.
const UNIT: u32 = 31;
const VLAN: u8 = 100;
const MONITOR: u32 = 22;
const RING: u32 = 1 << 20;
/// More than any record here has around its frame.
const AROUND: u32 = 600;

const RUNS: usize = 101;
const FRAMES: u32 = 100_000;

/// What is mirrored, and of which frames on which port.
struct Case {
    name: &'static str,
    /// Source and rate; none for no policy at all.
    entry: Option<(u32, u32)>,
    port: u32,
    /// Of the frames' tag.
    vlan: Option<u8>,
    len: usize,
    is_mirrored: bool,
}

const PLAIN: Case = Case { name: "no policy", entry: None, port: 0, vlan: None, len: 64, is_mirrored: false };
/// Longer than any run: after its first frame such an entry selects none.
const HARDLY_EVER: u32 = u32::MAX;

const CASES: [Case; 9] = [
    PLAIN,
    Case { name: "port without entry", entry: Some((PORTS[0], 1)), port: 1, ..PLAIN },
    Case { name: "entry, not sampled", entry: Some((PORTS[0], HARDLY_EVER)), ..PLAIN },
    Case { name: "entry of a VLAN, not sampled", entry: Some((UNIT, HARDLY_EVER)), vlan: Some(VLAN), ..PLAIN },
    Case { name: "entry of another VLAN", entry: Some((UNIT, 1)), vlan: Some(99), ..PLAIN },
    Case { name: "1 in 1000", entry: Some((PORTS[0], 1000)), ..PLAIN },
    Case { name: "every frame", entry: Some((PORTS[0], 1)), is_mirrored: true, ..PLAIN },
    Case { name: "every frame", entry: Some((PORTS[0], 1)), is_mirrored: true, len: 512, ..PLAIN },
    Case { name: "every frame", entry: Some((PORTS[0], 1)), is_mirrored: true, len: 1400, ..PLAIN },
];

fn table(source: u32, rate: u32) -> Table {
    let unit = Interface { ifindex: UNIT, parent_ifindex: PORTS[0], vlan_id: VLAN.into(), ..Interface::default() };
    let wire = Wire { name: "w".to_owned(), a_ifindex: PORTS[0], b_ifindex: PORTS[1], ..Wire::default() };
    let snapshot = Snapshot {
        interfaces: vec![unit],
        mirrors: vec![Mirror { ingress_ifindex: source, output_ifindex: MONITOR, rate }],
        wires: vec![wire],
        ..Snapshot::default()
    };
    let image = compile(&snapshot, &admit(&snapshot), &Provenance::of(b""));
    let view = SnapshotView::try_from(image.words()).expect("an image");
    Table::build(&view, 1, 1, |_| 0)
}

fn main() {
    let maps = Arc::new(Maps::create(1, RING).expect("maps: root is needed"));
    let ledger = Ledger::new(Arc::clone(&maps), 1);
    let mut rings = maps.add_rings(0..maps.processors()).expect("rings");
    let policy = Policy::new(Arc::clone(&maps));
    // Words that a case's line has to have in it.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("{:4} {:30} {:>5} {:>6} {:>6}", "hook", "", "bytes", "least", "median");
    for hook in [Hook::Xdp, Hook::Tc] {
        for case in &CASES {
            let line = format!("{hook:4} {:30} {:5}", case.name, case.len);
            if !wanted.iter().all(|word| line.contains(word.as_str())) {
                continue;
            }
            // The loopback device is as good as any: nothing is sent.
            let instance = Instance { hook, port: case.port, device: 0, peer: 1 };
            let selector = Selector::load(instance, &maps).expect("a selector");
            policy.clear().expect("cleared");
            ledger.reset(&[0]).expect("a ledger");
            if let Some((source, rate)) = case.entry {
                policy.put(&table(source, rate), &PORTS).expect("a policy");
            }
            let mut frame = vec![0; case.len];
            if let Some(vlan) = case.vlan {
                frame[12..16].copy_from_slice(&[0x81, 0x00, 0x00, vlan]);
            }
            let room = RING / (case.len as u32 + AROUND) - 1;
            let frames = if case.is_mirrored { room } else { FRAMES };
            let mut spent: Vec<Duration> = Vec::new();
            // The first one warms up.
            for _ in 0..=RUNS {
                spent.push(selector.time(&frame, frames).expect("a run"));
                for ring in &mut rings {
                    let mut cursor = ring.position();
                    while ring.next(&mut cursor).is_some() {}
                    ring.release(cursor);
                }
            }
            assert_eq!(ledger.total(0).ring_full, 0, "a run longer than the ring");
            spent.remove(0);
            spent.sort_unstable();
            let [least, median] = [spent[0], spent[RUNS / 2]].map(|spent| spent.as_nanos());
            println!("{line} {least:6} {median:6}");
        }
    }
}
