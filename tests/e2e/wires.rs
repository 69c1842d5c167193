//! Any number of wires and queues: each has frames from its first to its last, and what cannot be served says so.

use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::Pace;

use super::node::{Node, document_with, port_of};
use super::paths::{Path, is_long, on_each_path};

on_each_path!(
    long xdp: a_few_wires_forward_from_the_first_frame,
    sixteen_wires_forward_from_the_first_frame,
    sixty_four_wires_forward_from_the_first_frame,
    a_wire_that_comes_or_goes_costs_the_others_nothing,
);

/// Frames each way on each wire, in one burst.
const BURST: usize = 300;

/// A lab of so many wires, whose ports have so many queues.
fn wires(path: Path, count: usize, queues: u32) -> Lab {
    path.lab(LabSpec { wires: count, queues, monitors: 0, first_wire_ifindex: 1001, ..LabSpec::default() })
}

/// The ports of the first `count` wires.
fn ends(lab: &Lab, count: usize) -> Vec<(u32, u32)> {
    lab.info().wires[..count].iter().map(|wire| (wire.a.ifindex, wire.b.ifindex)).collect()
}

fn ports(ends: &[(u32, u32)]) -> Vec<u32> {
    ends.iter().flat_map(|&(a, b)| [a, b]).collect()
}

/// Publishes the first `count` wires and waits until their ports are in use.
fn serve(node: &Node, lab: &Lab, count: usize) {
    let ends = ends(lab, count);
    node.import(&document_with(&ends, &[], ""));
    node.wait_for_ports(&ports(&ends));
}

/// A burst both ways at once, of which nothing is lost.
fn burst(node: &Node, lab: &Lab, wire: usize, seed: u64) {
    burst_of(node, lab, wire, seed, BURST);
}

fn burst_of(node: &Node, lab: &Lab, wire: usize, seed: u64, frames: usize) {
    let pace = Pace::Windowed { burst: frames, per_second: 20_000 };
    let spec = ExchangeSpec { wire, monitor: None, pace, ..ExchangeSpec::new(lab, seed, frames as u32) };
    let report = run(lab, &spec, |_| ()).expect("an exchange");
    assert!(report.holds, "wire {wire}: {report}\n{:#}", node.json(&["stats"]));
}

/// Frames of the Primary partition of all shards.
fn frames(stats: &Value) -> u64 {
    let rows = stats["umem"].as_array().expect("rows").iter().filter(|row| row["partition"] == "primary");
    rows.map(|row| row["size"].as_u64().expect("a number")).sum()
}

fn a_few_wires_forward_from_the_first_frame(path: Path) {
    every_wire_forwards(path, &[1, 2, 5], &[(1, 1, 1), (5, 1, 1), (1, 4, 1), (2, 4, 2)]);
}

fn sixteen_wires_forward_from_the_first_frame(path: Path) {
    every_wire_forwards(path, &[16], &[(16, 1, 2), (16, 4, 2)]);
}

fn sixty_four_wires_forward_from_the_first_frame(path: Path) {
    every_wire_forwards(path, &[64], &[(64, 1, 1)]);
}

/// Wires, their queues and the shards, as told; where the long campaigns run so many wires each way there is.
fn every_wire_forwards(path: Path, long: &[usize], short: &[(usize, u32, usize)]) {
    let all = long.iter().flat_map(|&wires| [(wires, 1), (wires, 4)]);
    let all = all.flat_map(|(wires, queues)| [(wires, queues, 1), (wires, queues, 2)]);
    let cases: Vec<(usize, u32, usize)> = if is_long() { all.collect() } else { short.to_vec() };
    for (count, queues, shards) in cases {
        let lab = wires(path, count, queues);
        let node = path.start(&lab, &["--cpus", if shards == 1 { "1" } else { "0,1" }]);
        serve(&node, &lab, count);
        let start = Instant::now();
        // The one that came last first: it is what others leave it.
        for wire in (0..count).rev() {
            burst(&node, &lab, wire, wire as u64);
        }
        let stats = node.settled_stats();
        let sockets = if path.is_carried() { 0 } else { 2 * count * queues as usize };
        assert_eq!(stats["bindings"].as_array().expect("rows").len(), sockets);
        eprintln!(
            "{count} wires of {queues} queues on {shards} shards: {} frames, exchanged in {:?}",
            frames(&stats),
            start.elapsed()
        );
    }
}

/// Wires that come while others are idle or busy, and go again: those that stay lose nothing.
fn a_wire_that_comes_or_goes_costs_the_others_nothing(path: Path) {
    let lab = wires(path, 6, 1);
    let node = path.start(&lab, &[]);
    serve(&node, &lab, 2);
    let alone = frames(&node.json(&["stats"]));
    let report = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let pace = Pace::per_second(5_000);
            let spec = ExchangeSpec { monitor: None, pace, ..ExchangeSpec::new(&lab, 1, 20_000) };
            run(&lab, &spec, |_| ()).expect("an exchange")
        });
        let mut seed = 10;
        while !traffic.is_finished() {
            for count in [3, 6] {
                serve(&node, &lab, count);
                (1..count).for_each(|wire| burst(&node, &lab, wire, seed + wire as u64));
                seed += 10;
            }
            serve(&node, &lab, 2);
            // What the others had is given back, and they are told of no more: what is told of them then is of the next time.
            node.wait_for("the others to go", |show| {
                let left = show["ports"].as_array().expect("rows").len();
                left == 4 && frames(&node.json(&["stats"])) == alone
            });
        }
        traffic.join().expect("an exchange")
    });
    assert!(report.holds, "{report}\n{:#}", node.json(&["stats"]));
}

/// A given `--frames` is kept: a snapshot or a port that needs more is refused with the figure, and the rest goes on.
#[test]
fn what_a_given_number_of_frames_cannot_serve_is_refused_with_the_figure() {
    let lab = wires(Path::Shard, 3, 4);
    let node = Path::Shard.start(&lab, &["--frames", "256"]);
    serve(&node, &lab, 1);
    assert_eq!(frames(&node.json(&["stats"])), 256, "8 sockets of 32 frames");
    bursts_of(&node, &lab, 0, 24);
    let refused = node.spanctl(&["import", node.file(&document_with(&ends(&lab, 3), &[], "")).to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--frames 384 or more"), "8 sockets and 4 that are sure to come: {said}");
    assert!(said.contains("4 of their ports are not served yet"), "they have 16: {said}");
    assert_eq!(node.json(&["show"])["wires"].as_array().map(Vec::len), Some(1));

    // What no dataplane has said is found out by the one that has to do it.
    let mut idle = Path::Shard.node();
    idle.publish(&document_with(&ends(&lab, 2), &[], ""));
    drop(node);
    idle.launch(&lab, &["--frames", "256"]);
    let show = idle.wait_for("a reason", |show| {
        port_of(show, 1003)
            .is_some_and(|port| port["reason"].as_str().is_some_and(|why| why.contains("--frames 512 or more")))
    });
    let states = [1001, 1002, 1003, 1004].map(|port| port_of(&show, port).expect("a port")["state"] == "active");
    assert_eq!(states, [true, true, false, false], "{show:#}");
    // It is tried again and again, which its device knows nothing of: the kernel tells of each change of promiscuity.
    let watch = lab.dut().command("timeout").args(["2", "ip", "-o", "monitor", "link"]).output().expect("ip");
    let told = String::from_utf8_lossy(&watch.stdout).into_owned();
    assert!(!told.contains(&format!("{}@", lab.info().wires[1].a.name)), "{told}");
}

/// Wires that come one after the other: those that came first give back what the later ones need.
#[test]
fn a_given_number_of_frames_goes_to_every_wire_it_is_enough_for() {
    let lab = wires(Path::Shard, 20, 1);
    let node = Path::Shard.start(&lab, &["--frames", "8192"]);
    for count in 1..=20 {
        serve(&node, &lab, count);
    }
    for wire in (0..20).rev() {
        // Half of an equal part is 102 frames, which wait for the shard however late it comes.
        burst_of(&node, &lab, wire, wire as u64, 100);
    }
    assert!(frames(&node.settled_stats()) <= 8192);
}

/// What runs is never refused, whatever of it is not there.
#[test]
fn the_running_document_is_taken_again_while_far_ends_are_gone() {
    let lab = wires(Path::Shard, 2, 4);
    let node = Path::Shard.start(&lab, &["--cpus", "0,1", "--frames", "256"]);
    serve(&node, &lab, 2);
    for wire in &lab.info().wires {
        let done = lab.dut().command("ip").args(["link", "del", &wire.b.name]).status().expect("ip");
        assert!(done.success());
    }
    node.wait_for("the ends to go", |show| {
        [1002, 1004].iter().all(|&port| port_of(show, port).is_some_and(|port| port["queues"] == 0))
    });
    node.import(&document_with(&ends(&lab, 2), &[], ""));
}

/// Bursts of so many frames, each when the one before has arrived: a socket holds one, however late its shard comes.
fn bursts_of(node: &Node, lab: &Lab, wire: usize, frames: u32) {
    let pace = Pace::Windowed { burst: frames as usize, per_second: 1000 };
    let spec = ExchangeSpec { wire, monitor: None, pace, on_the_way: 0, ..ExchangeSpec::new(lab, 7, 10 * frames) };
    let report = run(lab, &spec, |_| ()).expect("an exchange");
    assert!(report.holds, "{report}\n{:#}", node.json(&["stats"]));
}

/// The soft limit on open files is no limit; a hard one is told of, and costs only the ports it leaves without.
#[test]
fn open_files_are_used_up_to_the_hard_limit_which_is_named_where_it_is_short() {
    let count = if is_long() { 120 } else { 24 };
    let lab = wires(Path::Shard, count, 1);
    let all = ports(&ends(&lab, count));
    let mut node = Path::Shard.node();
    node.publish(&document_with(&ends(&lab, count), &[], ""));
    let mut stop = || {
        launch_with_files(&mut node, &lab, "64:4096");
        node.wait_for_ports(&all);
        let start = Instant::now();
        node.stop();
        start.elapsed()
    };
    if is_long() {
        // The best of some: what others do to network devices meanwhile takes the kernel's lock of them too.
        let took = (0..3).map(|_| stop()).min().expect("a time");
        eprintln!("{} ports stopped in {took:?}", all.len());
        assert!(took <= Duration::from_secs(2), "{} ports stopped in {took:?}", all.len());
    } else {
        stop();
    }

    launch_with_files(&mut node, &lab, "64:80");
    let of = |show: &Value, state: &str| -> Vec<Value> {
        all.iter().filter_map(|&port| port_of(show, port)).filter(|port| port["state"] == state).cloned().collect()
    };
    let names_it = |port: &Value| port["reason"].as_str().is_some_and(|why| why.contains("LimitNOFILE"));
    let show = node.wait_for("the reasons", |show| {
        let idle = of(show, "inactive");
        !idle.is_empty() && idle.iter().all(names_it) && idle.len() + of(show, "active").len() == all.len()
    });
    assert!(of(&show, "active").len() >= 4, "{show:#}");
    let log = node.stop();
    assert!(!log.contains("MTU"), "{log}");
}

/// Starts the dataplane with a soft and a hard limit on open files.
fn launch_with_files(node: &mut Node, lab: &Lab, limits: &str) {
    let limits = format!("--nofile={limits}");
    let mut command = node.run_by(lab, "prlimit", &[&limits], &["--path", Path::Shard.as_str()]);
    // What it tells of each port would fill the pipe.
    node.adopt(command.env("SPANWIRE_LOG", "warn"));
}
