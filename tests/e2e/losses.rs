//! What crosses in the kernel is counted, and so is what it loses on the way, for whatever reason.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use libbpf_rs::query::ProgInfoIter;
use serde_json::Value;
use spanwire::kernel::link::Link;
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::Pace;

use crate::down::set;
use crate::node::{A, B, Node, document, document_with, port_of};
use crate::survival::kernel_lab;
use crate::udp;

/// Frames of a burst.
const FRAMES: u32 = 1000;
/// Bytes of a frame.
const LEN: usize = 200;

fn way_of(stats: &Value, ifindex: u32) -> &Value {
    let paths = stats["paths"].as_array().expect("paths");
    paths.iter().find(|path| path["ifindex"] == ifindex).unwrap_or_else(|| panic!("no path of {ifindex}: {stats:#}"))
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"))
}

/// What was received at A has been sent at B or was lost there, at any time.
fn check_wire(stats: &Value) {
    let (a, b, way) = (port_of(stats, A).unwrap(), port_of(stats, B).unwrap(), way_of(stats, A));
    let received = number(a, "rx_packets") - number(a, "rx_drops_no_peer");
    assert_eq!(received, number(b, "tx_packets") + number(b, "tx_lost"), "{stats:#}");
    assert_eq!((received, number(b, "tx_lost")), (number(way, "crossed_packets"), number(way, "lost")), "{stats:#}");
    let by = ["lost_refused", "lost_unsent", "lost_aborted", "lost_device", "lost_queue"];
    assert_eq!(by.iter().map(|key| number(way, key)).sum::<u64>(), number(way, "lost"), "{way}");
}

/// Sends a burst from A's far end, and waits until so many have crossed and so many of them were lost, in all.
fn burst(lab: &Lab, node: &Node, crossed: u64, lost: u64) -> Value {
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|frame| udp(0, frame, LEN)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                check_wire(&node.json(&["stats"]));
            }
        });
        lab.sender(&lab.wire(0).unwrap().a).unwrap().send(&frames, Pace::per_second(5000)).unwrap();
        is_over.store(true, Relaxed);
    });
    let start = Instant::now();
    loop {
        let stats = node.json(&["stats"]);
        check_wire(&stats);
        let way = way_of(&stats, A);
        let told = (number(way, "crossed_packets"), number(way, "lost"));
        if told == (crossed, lost) {
            return stats;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "crossed, lost: {told:?}, not {:?}: {way}", (crossed, lost));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where the link of port A's selector is pinned.
fn pinned(node: &Node, hook: &str) -> PathBuf {
    let folders = node.pinned();
    let mut places = folders.iter().map(|folder| folder.join(format!("{A}-{hook}")));
    places.find(|place| place.exists()).unwrap_or_else(|| panic!("no selector of {A} in {folders:?}"))
}

/// A way to have frames lost on the way out of port B.
struct Trouble {
    /// The counter that tells of it.
    counter: &'static str,
    begin: fn(&Lab),
    end: fn(&Lab),
}

fn gro_of_host(lab: &Lab, gro: &str) {
    let b = &lab.wire(0).unwrap().b;
    lab.ns(b.host).exec("ethtool", &["-K", &b.host_name, "gro", gro]).unwrap();
}

fn link_of_host(lab: &Lab, to: &str) {
    let b = &lab.wire(0).unwrap().b;
    lab.ns(b.host).ip(&["link", "set", &b.host_name, to]).unwrap();
}

fn qdisc_of_b(lab: &Lab, what: &[&str]) {
    let b = &lab.wire(0).unwrap().b.name;
    lab.dut().exec("tc", &[&["qdisc", what[0], "dev", b, "root"], &what[1..]].concat()).unwrap();
}

fn link_of_b(lab: &Lab, to: &str) {
    set(lab, &lab.wire(0).unwrap().b, &[to]);
}

/// Its far end has no NAPI, and so takes nothing that native XDP sends there.
const DEAF: Trouble =
    Trouble { counter: "lost_refused", begin: |lab| gro_of_host(lab, "off"), end: |lab| gro_of_host(lab, "on") };
/// Its queue is always full.
const FULL: Trouble = Trouble {
    counter: "lost_queue",
    begin: |lab| qdisc_of_b(lab, &["add", "pfifo", "limit", "0"]),
    end: |lab| qdisc_of_b(lab, &["del"]),
};

const fn down(counter: &'static str) -> Trouble {
    Trouble { counter, begin: |lab| link_of_b(lab, "down"), end: |lab| link_of_b(lab, "up") }
}

const fn far_end_down(counter: &'static str) -> Trouble {
    Trouble { counter, begin: |lab| link_of_host(lab, "down"), end: |lab| link_of_host(lab, "up") }
}

fn everything_is_counted(hook: &str, troubles: &[Trouble]) {
    // Ports of the same numbers in another namespace, from which nothing crosses.
    let others = kernel_lab(LabSpec::default());
    let lab = kernel_lab(LabSpec::default());
    let [other, mut node] = [&others, &lab].map(|lab| {
        let node = Node::start(lab, &["--path", hook]);
        node.import(&document(&[]));
        node.wait_for_ports(&[A, B]);
        node
    });
    let shown = node.json(&["show"]);
    let wire = &shown["wires"][0];
    assert_eq!(
        (&wire["path"], &wire["path_reason"], &wire["loss"]),
        (&hook.into(), way_of(&node.json(&["stats"]), A).get("reason").unwrap(), &0.into()),
        "{wire}"
    );

    let each = u64::from(FRAMES);
    let (mut crossed, mut lost) = (each, 0);
    let stats = burst(&lab, &node, crossed, lost);
    assert_eq!(number(port_of(&stats, A).unwrap(), "rx_bytes"), each * LEN as u64);
    assert_eq!(number(port_of(&stats, B).unwrap(), "tx_bytes"), each * LEN as u64);
    for trouble in troubles {
        let before = number(way_of(&node.json(&["stats"]), A), trouble.counter);
        (trouble.begin)(&lab);
        (crossed, lost) = (crossed + each, lost + each);
        let stats = burst(&lab, &node, crossed, lost);
        assert_eq!(number(way_of(&stats, A), trouble.counter), before + each, "{stats:#}");
        (trouble.end)(&lab);
        node.wait_for_ports(&[A, B]);
        crossed += each;
        burst(&lab, &node, crossed, lost);
    }
    let shown = node.json(&["show"]);
    assert_eq!(shown["wires"][0]["loss"], lost, "{shown:#}");
    assert_eq!(number(way_of(&node.json(&["stats"]), B), "crossed_packets"), 0, "nothing was sent the other way");
    let way = way_of(&other.json(&["stats"]), A).clone();
    assert_eq!((number(&way, "crossed_packets"), number(&way, "lost")), (0, 0), "{way}");

    // Its selector is detached behind its back, and put back: the counts stand.
    let place = pinned(&node, hook);
    Link::open(&place).unwrap().detach().unwrap();
    let start = Instant::now();
    let is_back = || Link::open(&place).is_ok_and(|link| link.held().is_ok_and(|held| held.device.is_some()));
    while !is_back() {
        assert!(start.elapsed() < Duration::from_secs(60), "{hook}: the selector is not put back");
        std::thread::sleep(Duration::from_millis(20));
    }
    node.wait_for_ports(&[A, B]);
    crossed += each;
    burst(&lab, &node, crossed, lost);

    // While nobody looks: told apart, and counts begin anew. What has crossed before is on record after some turns.
    std::thread::sleep(Duration::from_millis(500));
    node.kill();
    let wire = lab.wire(0).unwrap();
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|frame| udp(0, frame, LEN)).collect();
    let sink = lab.capture(&wire.b).unwrap();
    lab.sender(&wire.a).unwrap().send_ahead_of(&frames, Pace::per_second(5000), &[&sink]).unwrap();
    assert_eq!(sink.finish(frames.len(), Duration::from_secs(5)).unwrap().frames.len(), frames.len());
    node.launch(&lab, &["--path", hook]);
    node.wait_for_ports(&[A, B]);
    let stats = burst(&lab, &node, each, 0);
    let unseen = number(way_of(&stats, A), "crossed_unseen");
    assert!((each..=crossed + each).contains(&unseen), "{stats:#}");
}

#[test]
fn what_tc_sends_on_and_loses_is_counted() {
    everything_is_counted("tc", &[FULL, down("lost_device"), far_end_down("lost_device")]);
}

#[test]
fn what_xdp_sends_on_and_loses_is_counted() {
    everything_is_counted("xdp", &[DEAF, down("lost_refused"), far_end_down("lost_unsent")]);
}

/// The names of the programs that a process holds by links.
fn linked(pid: u32) -> Vec<String> {
    let held = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    // Descriptors come and go.
    let held = held.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let program = |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    let programs: BTreeSet<u32> = held.filter(|text| text.contains("link_id:")).filter_map(program).collect();
    let infos = ProgInfoIter::default().filter(|info| programs.contains(&info.id));
    infos.map(|info| info.name.to_string_lossy().into_owned()).collect()
}

/// All batches that XDP sends pay for who looks at them.
#[test]
fn batches_are_looked_at_only_for_who_does_not_tell() {
    let lab = kernel_lab(LabSpec::default());
    let node = Node::start(&lab, &["--path", "xdp"]);
    let wait_until = |is_looked_at: bool, what: &str| {
        let start = Instant::now();
        loop {
            let programs = linked(node.pid());
            let is_there = |name: &&str| programs.iter().any(|program| program == name);
            if ["span_refused", "span_aborted"].iter().all(is_there) && is_there(&"span_unsent") == is_looked_at {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {programs:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    wait_until(false, "veths tell themselves");
    lab.dut().ip(&["tuntap", "add", "dev", "tap", "mode", "tap"]).unwrap();
    let tap = lab.dut().exec("cat", &["/sys/class/net/tap/ifindex"]).unwrap().stdout;
    let tap = String::from_utf8(tap).unwrap().trim().parse().unwrap();
    node.import(&document_with(&[(A, tap)], &[], ""));
    wait_until(true, "nothing else tells of a tap");
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    wait_until(false, "veths alone again");
}

/// On the shard path the kernel carries nothing, and says so.
#[test]
fn a_wire_through_a_shard_says_so() {
    let lab = kernel_lab(LabSpec::default());
    let node = Node::start(&lab, &["--path", "shard"]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    let wire = node.json(&["show"])["wires"][0].clone();
    assert_eq!(
        (&wire["path"], &wire["path_reason"], &wire["loss"]),
        (&"shard".into(), &"as asked for".into(), &0.into())
    );
    let way = way_of(&node.json(&["stats"]), A).clone();
    assert_eq!((&way["path"], &way["crossed_packets"], &way["lost"]), (&"shard".into(), &0.into(), &0.into()), "{way}");
}
