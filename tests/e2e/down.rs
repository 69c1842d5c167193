//! Ports that go down, leave and come back: what they had not sent is lost and counted, and no count is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire_lab::topology::{Lab, LabSpec, Port};
use spanwire_lab::traffic::Pace;

use super::node::{A, B, MON, Node, document, lab, mirror_of, port_of};
use super::paths::{Path, on_each_path};
use super::{exchange, udp};

on_each_path!(long xdp: a_monitor_sends_nothing_old_when_its_link_comes_back, what_a_port_has_counted_stands_while_it_is_wanted);

/// What the thread of shard 0 has had of a processor.
fn shard_time(node: &Node) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let of_shard = |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap().trim() == "shard-0";
    let task = tasks.map(|task| task.unwrap().path()).find(of_shard).expect("a shard");
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Of one processor, over some time.
fn shard_load(node: &Node, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), shard_time(node));
    std::thread::sleep(time);
    (shard_time(node) - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

pub fn set(lab: &Lab, port: &Port, what: &[&str]) {
    let done = lab.dut().ip(&[&["link", "set", &port.name], what].concat()).unwrap();
    assert!(done.status.success(), "{what:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn count(stats: &Value, ifindex: u32, key: &str) -> u64 {
    port_of(stats, ifindex).unwrap_or_else(|| panic!("port {ifindex} in {stats:#}"))[key].as_u64().unwrap()
}

/// Has a port go down under traffic towards it, until it did so with frames that it had not sent. For two seconds its
/// shard has nothing to do; when it is up again, only what is new arrives. `lost` gives what is counted of the old.
fn goes_down_with_frames(lab: &Lab, node: &Node, port: &Port, lost: impl Fn(&Value) -> u64) {
    const FRAMES: u32 = 8000;
    let wire = lab.wire(0).unwrap();
    let idle = shard_load(node, Duration::from_millis(500));
    let before = lost(&node.settled_stats());
    for round in 0..10 {
        let old: Vec<Vec<u8>> = (0..FRAMES).map(|number| udp(0, number, 200)).collect();
        std::thread::scope(|scope| {
            let capture = lab.capture(port).unwrap();
            let sender = scope.spawn(|| lab.sender(&wire.a).unwrap().send(&old, Pace::per_second(20_000)).unwrap());
            while capture.count() < 1000 && !sender.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            set(lab, port, &["down"]);
            sender.join().unwrap();
        });
        node.wait_for("the link to be down", |show| port_of(show, port.ifindex).unwrap()["state"] == "inactive");
        let load = shard_load(node, Duration::from_secs(2));
        let held = count(&node.json(&["stats"]), port.ifindex, "outstanding_tx");

        let capture = lab.capture(port).unwrap();
        set(lab, port, &["up"]);
        node.wait_for_ports(&[A, B, MON]);
        let new: Vec<Vec<u8>> = (0..100).map(|number| udp(1, round * 100 + number, 200)).collect();
        lab.sender(&wire.a).unwrap().send(&new, Pace::per_second(2000)).unwrap();
        let got = capture.finish(new.len(), Duration::from_secs(5)).unwrap().frames;
        let old = got.iter().filter(|frame| !new.contains(frame)).count();
        eprintln!(
            "{}: {old} old frames, {held} held, {:.2} % of a processor (idle {:.2} %)",
            port.name,
            load * 100.0,
            idle * 100.0
        );
        assert_eq!(old, 0, "frames that are seconds old");
        assert_eq!(got, new);
        assert_eq!(held, 0);
        assert!(load < 0.04, "the shard took {:.1} % of a processor", load * 100.0);
        if lost(&node.settled_stats()) > before {
            return;
        }
    }
    panic!("the port never held a frame when it went down: {:#}", node.json(&["stats"]));
}

/// Frames that it has not sent a port has on the shard path alone.
#[test]
fn a_wire_port_sends_nothing_old_when_its_link_comes_back() {
    let lab = lab(LabSpec::default());
    let node = Path::Shard.start(&lab, &["--cpus", "0"]);
    node.import(&document(&[(A, MON, 100)]));
    node.wait_for_ports(&[A, B, MON]);
    goes_down_with_frames(&lab, &node, &lab.wire(0).unwrap().b, |stats| count(stats, B, "tx_lost"));
    // Every frame that came in went somewhere.
    let stats = node.settled_stats();
    let out: u64 = ["tx_packets", "tx_lost", "tx_drops_queue_full"].iter().map(|key| count(&stats, B, key)).sum();
    let dropped = count(&stats, A, "rx_drops_no_peer") + count(&stats, A, "rx_drops_oversize");
    assert_eq!(count(&stats, A, "rx_packets"), out + dropped, "{stats:#}");
    node.import(&document(&[]));
    exchange(&lab, 1, 500, None, None);
}

fn a_monitor_sends_nothing_old_when_its_link_comes_back(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &["--cpus", "0"]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let lost = |stats: &Value| mirror_of(stats, A)["mirror_drops_output_down"].as_u64().unwrap();
    goes_down_with_frames(&lab, &node, lab.monitor(0).unwrap(), lost);
    exchange(&lab, 1, 500, Some(1), None);
}

/// Every counter of every port.
fn totals(node: &Node) -> BTreeMap<(u64, String), u64> {
    let stats = node.settled_stats();
    let rows = stats["ports"].as_array().unwrap().iter().map(|row| row.as_object().unwrap());
    let counters = rows.flat_map(|row| {
        let is_counter = |key: &str| !["ifindex", "device_ifindex", "outstanding_tx"].contains(&key);
        let counters = row.iter().filter(move |(key, _)| is_counter(key));
        counters.filter_map(|(key, value)| Some(((row["ifindex"].as_u64()?, key.clone()), value.as_u64()?)))
    });
    counters.collect()
}

fn what_a_port_has_counted_stands_while_it_is_wanted(path: Path) {
    // What takes the port out of use: frames that are too long for a socket, or its link.
    let (out, back) = if path.is_carried() { ("down", "up") } else { ("mtu 2000", "mtu 1500") };
    let [out, back] = [out, back].map(|what| what.split(' ').collect::<Vec<_>>());
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    let wanted = document(&[(A, MON, 1)]);
    node.import(&wanted);
    node.wait_for_ports(&[A, B, MON]);
    let a = &lab.wire(0).unwrap().a;
    let mut last = totals(&node);
    let mut never_backward = || {
        let now = totals(&node);
        assert_eq!(last.len(), now.len());
        for (at, value) in &last {
            assert!(now[at] >= *value, "{at:?} was {value} and is {}", now[at]);
        }
        last = now;
    };
    for round in 1..=2 {
        exchange(&lab, round, 500, Some(1), None);
        never_backward();
        set(&lab, a, &out);
        let is_out = |show: &Value| {
            let port = port_of(show, A).unwrap();
            port["state"] == "inactive" && (path.is_carried() || port["reason"].as_str().unwrap().contains("MTU"))
        };
        node.wait_for("the port to leave", is_out);
        never_backward();
        set(&lab, a, &back);
        node.wait_for_ports(&[A, B, MON]);
        never_backward();
    }
    // What crosses in the kernel is told with the next look at it.
    let start = Instant::now();
    loop {
        let stats = node.settled_stats();
        let all = [(A, "rx_packets"), (A, "tx_packets"), (B, "rx_packets"), (B, "tx_packets"), (MON, "tx_packets")];
        let told = all.map(|(ifindex, key)| (ifindex, key, count(&stats, ifindex, key)));
        if told.iter().all(|&(.., frames)| frames == 1000) {
            break;
        }
        assert!(told.iter().all(|&(.., frames)| frames <= 1000), "{told:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "{told:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // One that is not wanted is forgotten.
    node.import(&super::document_with(&[], &[], ""));
    node.wait_for("no port", |show| show["ports"].as_array().is_some_and(Vec::is_empty));
    node.import(&wanted);
    node.wait_for_ports(&[A, B, MON]);
    assert_eq!(count(&node.settled_stats(), A, "rx_packets"), 0);
}
