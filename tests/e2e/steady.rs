//! Frames cross both ways for as long as it takes, while the dataplane is ended and started again in every way there is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire::kernel::abi::LAYOUT;
use spanwire::kernel::pins;
use spanwire_lab::steady::{Steady, flow};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::node::{A, B, MON, Node, check_ledgers, document, signal};
use crate::survival::{HOOKS, kernel_lab};

/// Ends the traffic, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Frames both ways over the first wire while `meanwhile` goes on, which is given the numbers sent.
fn both_ways(lab: &Lab, per_second: u32, meanwhile: impl FnOnce(&[AtomicU64; 2])) -> [Steady; 2] {
    let wire = lab.wire(0).unwrap();
    let (stop, sent) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    std::thread::scope(|scope| {
        let flows = [(&wire.a, &wire.b, &sent[0]), (&wire.b, &wire.a, &sent[1])].map(|(from, to, sent)| {
            let [mut from, mut to] = [from, to].map(|port| lab.open_host(port).unwrap());
            let stop = &stop;
            scope.spawn(move || flow(&mut from, &mut to, per_second, sent, stop).unwrap())
        });
        let end = End(&stop);
        meanwhile(&sent);
        drop(end);
        flows.map(|flow| flow.join().unwrap())
    })
}

fn start(node: &mut Node, lab: &Lab, hook: &str) {
    node.launch(lab, &["--path", hook]);
    node.wait_for_ports(&[A, B, MON]);
}

/// Gives what is pinned the names that it would have from a build with other structures.
fn pinned_by_another_build(folder: &Path) -> usize {
    let end = format!("-{LAYOUT}");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = names.filter(|path| path.to_str().is_some_and(|name| name.ends_with(&end))).collect::<Vec<_>>();
    for path in &names {
        let name = path.to_str().unwrap().strip_suffix(&end).unwrap().to_owned();
        std::fs::rename(path, format!("{name}-{}", LAYOUT + 1)).unwrap();
    }
    names.len()
}

/// Killed, stopped and gone on, ended and started, replaced by a build with another layout, told of snapshots: for a minute
/// at 50,000 frames a second each way with SPANWIRE_LONG, else in short.
#[test]
fn every_frame_crosses_for_as_long_as_it_takes() {
    let is_long = std::env::var_os("SPANWIRE_LONG").is_some();
    let (pace, rounds, publishes) = if is_long { (50_000, 20, 50) } else { (5_000, 2, 5) };
    let (least, pause) = if is_long { (Duration::from_secs(60), 5) } else { (Duration::ZERO, 1) };
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 10)]));
        start(&mut node, &lab, hook);
        let folder = node.pins.path().join(lab.dut().enter(|| pins::name(node.dir.path())).unwrap());
        let (begin, mut round) = (Instant::now(), 0);
        let flows = both_ways(&lab, pace, |_| {
            while round < rounds || begin.elapsed() < least {
                node.kill();
                if round % 2 == 1 {
                    assert!(pinned_by_another_build(&folder) > 3, "ledgers, rings, bells, what crossed");
                }
                start(&mut node, &lab, hook);
                node.stop();
                start(&mut node, &lab, hook);
                if round == 0 {
                    signal(node.pid(), "STOP");
                    std::thread::sleep(Duration::from_secs(pause));
                    signal(node.pid(), "CONT");
                }
                for publish in 0..publishes {
                    node.publish(&document(&[(A, MON, 2 + publish % 5)]));
                }
                round += 1;
            }
        });
        for Steady { sent, time, .. } in &flows {
            let rate = *sent as f64 / time.as_secs_f64();
            eprintln!("{hook}: {sent} frames at {rate:.0}/s over {round} times killed, ended and started");
        }
        assert!(flows.iter().all(Steady::holds), "{hook}: {flows:?}");
        let left = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = left.filter(|name| name.ends_with(&format!("-{}", LAYOUT + 1))).collect();
        assert!(left.is_empty(), "{hook}: what nobody reads is still pinned: {left:?}");
        check_ledgers(&node.settled_stats());
    }
}

/// What is selected ends first, then what lies in the rings is sent or counted: the last reading has nothing in flight, and
/// the next run finds nothing.
#[test]
fn a_planned_stop_leaves_no_clone_behind() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 1), (B, MON, 1)]));
        start(&mut node, &lab, hook);
        let flows = both_ways(&lab, 20_000, |sent| {
            for _ in 0..3 {
                let before = sent[0].load(Relaxed);
                while sent[0].load(Relaxed) < before + 3000 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let log = node.stop();
                assert!(!log.contains("were not taken from the rings"), "{hook}: {log}");
                let stats = node.json(&["stats"]);
                check_ledgers(&stats);
                for entry in stats["mirrors"].as_array().unwrap() {
                    assert!(entry["mirrored_packets"].as_u64() > Some(0), "{hook}: {entry}");
                    assert_eq!(entry["in_flight"], 0, "{hook}: {entry}");
                }
                start(&mut node, &lab, hook);
            }
        });
        assert!(flows.iter().all(Steady::holds), "{hook}: {flows:?}");
        let log = node.stop();
        assert!(!log.contains("were not taken from the rings"), "{hook}: {log}");
    }
}

/// The statistics once frames of each entry have been selected.
fn selecting(node: &Node) -> Value {
    let start = Instant::now();
    loop {
        let stats = node.json(&["stats"]);
        if stats["mirrors"].as_array().unwrap().iter().all(|entry| entry["selected"].as_u64() > Some(0)) {
            return stats;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is selected: {stats:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A wire that crosses anyway can wait until there is somebody to send its clones to, and is mirrored from then on.
#[test]
fn a_start_on_a_wire_that_crosses_costs_no_clone_for_want_of_its_monitor() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 1), (B, MON, 1)]));
        start(&mut node, &lab, hook);
        let flows = both_ways(&lab, 20_000, |_| {
            for _ in 0..3 {
                node.kill();
                start(&mut node, &lab, hook);
                for entry in selecting(&node)["mirrors"].as_array().unwrap() {
                    for reason in ["mirror_drops_output_down", "mirror_drops_no_binding"] {
                        assert_eq!(entry[reason], 0, "{hook}: {entry}");
                    }
                }
            }
        });
        assert!(flows.iter().all(Steady::holds), "{hook}: {flows:?}");
    }
}
