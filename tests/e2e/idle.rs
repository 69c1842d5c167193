//! What a dataplane costs that has nothing to do: each wake of a thread delays the frames that the kernel carries on that
//! processor.

use std::fs;
use std::time::{Duration, Instant};

use spanwire_lab::topology::LabSpec;

use super::node::{A, B, MON, Node, document};
use super::paths::{Path, on_each_path};

on_each_path!(long xdp: who_has_nothing_to_do_sleeps);

/// Twice as often as they do, with what they may wait for others, and half as often as threads that look each 50 ms.
const PER_SECOND: u64 = 50;
/// How long they are counted, at least.
const COUNTED: Duration = Duration::from_secs(5);

/// However busy the machine is: a thread that has to wait wakes less often.
fn who_has_nothing_to_do_sleeps(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let (start, before) = (Instant::now(), wakes(&node));
    std::thread::sleep(COUNTED);
    let (after, took) = (wakes(&node), start.elapsed());
    let more: Vec<_> = after.iter().zip(&before).map(|((name, now), (_, then))| (name, now - then)).collect();
    let all: u64 = more.iter().map(|(_, wakes)| wakes).sum();
    let most = PER_SECOND * took.as_millis() as u64 / 1000;
    assert!(all > 0 && all < most, "{all} wakes in {took:?}, at most {most}: {more:?}");
}

/// How often each thread but those of shards has gone to sleep so far.
fn wakes(node: &Node) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap().map(|task| task.unwrap().path());
    let task = |task: std::path::PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let value = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        (value("Name:").to_owned(), value("voluntary_ctxt_switches:").parse().unwrap())
    };
    let mut all: Vec<_> = tasks.map(task).filter(|(name, _)| !name.starts_with("shard-")).collect();
    all.sort();
    all
}
