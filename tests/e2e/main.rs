//! The main job on real AF_XDP sockets: spanwired between veth pairs in network namespaces, spanctl beside it,
//! frames compared byte for byte. Needs root.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod bad_days;
mod chaos;
mod container;
mod devices;
mod down;
mod failover;
mod far_end;
mod flapping;
mod foreign;
mod fought_over;
mod helper;
mod identity;
mod idle;
mod jumbo;
mod lifecycle;
mod link_loss;
mod losses;
mod no_ethernet;
mod node;
mod offloads;
mod paths;
mod producer;
mod promiscuity;
mod refused;
mod script;
mod signals;
mod steady;
mod straits;
mod super_frames;
mod survival;
mod takeover;
mod units;
mod unprivileged;
mod wires;

use std::time::Duration;

use node::{A, B, MON, Node, check_ledgers, document, document_with, lab, mirror_of};
use paths::{Path, is_long, on_each_path};
use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use spanwire::control::admit;
use spanwire::control::compile::{Provenance, compile};
use spanwire::region::{CONFIG_FILE, Publisher};
use spanwire_lab::exchange::{ExchangeSpec, Mirror, Report, run};
use spanwire_lab::topology::{Lab, LabSpec, Role};
use spanwire_lab::traffic::{ON_THE_WAY, Pace};

/// Frames in each direction of a full exchange.
const FRAMES: u32 = 6000;

fn exchange(lab: &Lab, seed: u64, frames: u32, a: Option<u32>, b: Option<u32>) -> Report {
    let spec = ExchangeSpec {
        mirror_a: a.map(Mirror::new),
        mirror_b: b.map(Mirror::new),
        ..ExchangeSpec::new(lab, seed, frames)
    };
    let report = run(lab, &spec, |_| ()).expect("an exchange");
    assert!(report.holds, "{report}");
    report
}

on_each_path!(
    every_rate_mirrors_exactly_what_it_selects,
    an_import_under_traffic_loses_and_repeats_nothing,
    a_vlan_entry_mirrors_its_tag_with_the_tag,
    two_shards_serve_two_queues,
    publishes_at_full_speed_under_traffic_lose_nothing,
    a_monitor_with_one_queue_serves_two_shards,
);
on_each_path!(long xdp: a_go_snapshot_is_mirrored_as_written);

/// Every frame crosses, byte for byte and in order; the clones are exactly the selected frames.
fn every_rate_mirrors_exactly_what_it_selects(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    for (seed, rate, mode) in [(1, 0, "one way"), (2, 1, "one way"), (3, 7, "one way"), (4, 7, "both"), (5, 0, "none")]
    {
        let mirrors: &[_] = match mode {
            "one way" => &[(A, MON, rate)],
            "both" => &[(A, MON, rate), (B, MON, 3)],
            _ => &[],
        };
        // Through a table without them, so that every round's samplers start afresh.
        node.import(&document(&[]));
        node.import(&document(mirrors));
        let ports: &[u32] = if mirrors.is_empty() { &[A, B] } else { &[A, B, MON] };
        node.wait_for_ports(ports);
        exchange(&lab, seed, FRAMES, (mode != "none").then_some(rate), (mode == "both").then_some(3));

        for _ in 0..5 {
            check_ledgers(&node.json(&["stats"]));
        }
        let stats = node.settled_stats();
        if mode != "none" {
            let entry = mirror_of(&stats, A);
            let selected = u64::from(FRAMES.div_ceil(rate.max(1)));
            assert_eq!(entry["observed"], FRAMES, "{entry}");
            assert_eq!(entry["selected"], selected, "{entry}");
            assert_eq!(entry["mirrored_packets"], selected, "{entry}");
        }
    }
}

/// A change of rate while frames cross: none is lost, none repeated, and the new rate counts.
fn an_import_under_traffic_loses_and_repeats_nothing(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let report = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let spec =
                ExchangeSpec { monitor: None, pace: Pace::per_second(7_500), ..ExchangeSpec::new(&lab, 9, 15_000) };
            run(&lab, &spec, |_| ()).expect("an exchange")
        });
        let mut imports = 0;
        while !traffic.is_finished() {
            imports += 1;
            node.import(&document(&[(A, MON, 2 + imports % 5)]));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(imports >= 5, "only {imports} imports while frames crossed");
        traffic.join().unwrap()
    });
    assert!(report.holds, "{report}");
    check_ledgers(&node.settled_stats());
    node.import(&document(&[(A, MON, 100)]));
    exchange(&lab, 10, 1000, Some(100), None);
}

/// The snapshot the Go control plane really wrote.
fn a_go_snapshot_is_mirrored_as_written(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/two-instances.snapshot.json");
    let published = node.json(&["import", fixture, "--wire", "ge-0/0/0.0:ge-0/0/1.0"]);
    let generation = published["generation"].to_string();
    assert!(node.spanctl(&["wait", "--generation", &generation]).status.success());
    node.wait_for_ports(&[A, B, MON]);
    let show = node.json(&["show"]);
    for ingress in [A, B] {
        assert_eq!(mirror_of(&show, ingress)["state"], "active", "{show:#}");
    }
    exchange(&lab, 20, FRAMES, Some(100), Some(0));
    let source: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let exported = node.json(&["export"]);
    assert_eq!(exported["mirror_configs"].to_string(), source["mirror_configs"].to_string());
}

/// A Junos configuration that names the ports as the dataplane's namespace does, which spanctl runs outside of.
#[test]
fn a_junos_configuration_is_mirrored_as_written() {
    let lab = lab(LabSpec::default());
    let node = Node::start(&lab, &[]);
    node.import(&document(&[]));
    let (wire, mon) = (lab.wire(0).unwrap(), &lab.monitor(0).unwrap().name);
    let (a, b) = (&wire.a.name, &wire.b.name);
    let file = node.file(&format!(
        "security {{ forwarding-options {{ secure-wire w {{ interface [ {a}.0 {b} ]; }} }} }}
        interfaces {{ {a} {{ unit 7 {{ vlan-id 7; }} }} }}
        forwarding-options {{ port-mirroring {{
            instance span {{ input {{ rate 10; ingress {{ interface {a}.0; }} }} output {{ interface {mon}; }} }}
            instance tagged {{ input {{ ingress {{ interface {a}.7; }} }} output {{ interface {mon}.0; }} }}
        }} }}"
    ));
    let published = node.json(&["commit", file.to_str().unwrap()]);
    assert_eq!(published["diagnostics"], serde_json::json!([]), "the ports are there, up, and as fast as each other");
    let vlan = (1 << 30) | (A << 12) | 7;
    let entry =
        |ingress: u32, rate: u32| serde_json::json!({"ingress_ifindex": ingress, "output_ifindex": MON, "rate": rate});
    assert_eq!(published["mirrors"], serde_json::json!([entry(A, 10), entry(vlan, 0)]));
    let generation = published["generation"].to_string();
    assert!(node.spanctl(&["wait", "--generation", &generation]).status.success());
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 50, 1000, Some(10), None);
    let before = node.settled_stats()["mirrors"].clone();

    // What is refused changes neither the table nor its counters.
    let bad = std::fs::read_to_string(&file).unwrap().replace(&format!("interface {mon};"), &format!("interface {b};"));
    let refused = node.spanctl(&["commit", node.file(&bad).to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("is a port of wires[0]"), "{said}");
    assert_eq!(node.settled_stats()["mirrors"], before);
    assert_eq!(node.json(&["show"])["generation"].to_string(), generation);
}

/// Entries of VLAN interfaces sample their own tag on the parent, the parent's own entry the rest.
fn a_vlan_entry_mirrors_its_tag_with_the_tag(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    let vlan = 1 << 30;
    let interfaces = format!(r#"{{"name":"ge-0/0/0.42","ifindex":{vlan},"parent_ifindex":{A},"vlan_id":42}}"#);
    node.import(&document_with(&[(A, B)], &[(vlan, MON, 2)], &interfaces));
    node.wait_for_ports(&[A, B, MON]);
    let wire = lab.wire(0).unwrap();
    let frames: Vec<Vec<u8>> = (0..200u32).map(|n| tagged(n, [None, Some(42), Some(43)][n as usize % 3])).collect();
    let sink = lab.capture(&wire.b).unwrap();
    let monitor = lab.capture(lab.monitor(0).unwrap()).unwrap();
    lab.sender(&wire.a).unwrap().send_ahead_of(&frames, Pace::default(), &[&sink]).unwrap();
    let idle = Duration::from_secs(5);
    assert_eq!(sink.finish(200, idle).unwrap().frames, frames);
    let of_vlan: Vec<_> = frames.iter().filter(|f| f[12..16] == [0x81, 0, 0, 42]).collect();
    let selected: Vec<_> = of_vlan.iter().step_by(2).map(|f| f.to_vec()).collect();
    assert_eq!(monitor.finish(selected.len(), idle).unwrap().frames, selected);
    let stats = node.settled_stats();
    assert_eq!(mirror_of(&stats, vlan)["observed"], of_vlan.len());
}

fn tagged(number: u32, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(90, number as u8);
    frame
}

/// Two shards, two queues on each wire port: everything crosses, per queue in order. Sockets they have on the shard path.
fn two_shards_serve_two_queues(path: Path) {
    let lab = path.lab(LabSpec { queues: 2, ..LabSpec::default() });
    let node = path.start(&lab, &["--cpus", "0,1"]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    let spec = ExchangeSpec { in_order: false, monitor: None, ..ExchangeSpec::new(&lab, 30, FRAMES) };
    let report = run(&lab, &spec, |_| ()).expect("an exchange");
    assert!(report.holds, "{report}");
    let stats = node.settled_stats();
    assert_eq!(stats["bindings"].as_array().unwrap().len(), if path.is_carried() { 0 } else { 4 });
    assert_eq!(stats["shards"].as_array().unwrap().len(), 2);
}

/// Publishes at full speed while frames cross real sockets: none lost, none repeated, no ledger open.
fn publishes_at_full_speed_under_traffic_lose_nothing(path: Path) {
    let (frames, publishes) = if is_long() { (500_000, 10_000) } else { (10_000, 300) };
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 100)]));
    node.wait_for_ports(&[A, B, MON]);
    let images: Vec<Image> = [100, 50].map(|rate| compiled(&document(&[(A, MON, 100), (B, MON, rate)]))).into();
    let mut publisher =
        Publisher::open(node.dir.path(), CONFIG_FILE, RegionKind::Config, Duration::from_secs(1)).unwrap();
    let (report, published) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let spec = ExchangeSpec { monitor: None, ..ExchangeSpec::new(&lab, 40, frames) };
            run(&lab, &spec, |_| ()).expect("an exchange")
        });
        let mut published = 0;
        while !traffic.is_finished() || published < publishes {
            // Leaves the two processors to the traffic now and then; the bursts are at full speed.
            for _ in 0..50 {
                publisher.publish(&mut images[published % 2].clone()).unwrap();
                published += 1;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        (traffic.join().unwrap(), published)
    });
    assert!(report.holds, "{report}");
    let stats = node.settled_stats();
    let entry = mirror_of(&stats, A);
    assert_eq!(entry["observed"], frames, "the entry that stayed kept its counts over {published} publishes");
    assert_eq!(entry["selected"], frames.div_ceil(100), "and its phase");
    let swaps: u64 = stats["shards"].as_array().unwrap().iter().map(|s| s["swaps"].as_u64().unwrap()).sum();
    assert!(swaps > 10, "{swaps} swaps of {published} publishes");
    eprintln!("{published} publishes, {swaps} swaps, {} frames crossed", 2 * frames);
}

fn compiled(document: &str) -> Image {
    let snapshot = spanwire::control::json::parse(document.as_bytes()).unwrap();
    compile(&snapshot, &admit(&snapshot), &Provenance::of(document.as_bytes()))
}

/// Two shards, frames for both, one monitor queue: every frame crosses and every frame is cloned, byte for byte, each flow
/// in order, none twice. Whose a frame is its queue says on the shard path, and else the processor that receives it.
fn a_monitor_with_one_queue_serves_two_shards(path: Path) {
    const FLOWS: u32 = 16;
    let lab = path.lab(LabSpec { queues: 2, ..LabSpec::default() });
    // Each processor sends by a queue of its own, as a device's queues are received by one processor each.
    let (host, device) = (lab.ns(Role::Gen), &lab.wire(0).unwrap().a.host_name);
    for (queue, mask) in [(0, "1"), (1, "2")] {
        let file = format!("/sys/class/net/{device}/queues/tx-{queue}/xps_cpus");
        host.exec("sh", &["-c", &format!("echo {mask} > {file}")]).unwrap();
    }
    // Native: generic XDP on veth takes the sender's queue 1 for rx queue 0.
    let node = path.start(&lab, &["--cpus", "0,1", "--xdp-mode", "native"]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let wire = lab.wire(0).unwrap();
    let frames: Vec<Vec<u8>> = (0..2 * FRAMES).map(|n| udp(n % FLOWS, n, 60 + n as usize % 1400)).collect();
    let sink = lab.capture(&wire.b).unwrap();
    let monitor = lab.capture(lab.monitor(0).unwrap()).unwrap();
    // A shard is lent frames once it has said that it wants some, within its first breaths.
    node.wait_for("loans", |_| node.json(&["stats"])["umem"].to_string().contains("\"lent\":512"));
    std::thread::scope(|scope| {
        for processor in 0..2 {
            let (lab, sink, monitor) = (&lab, &sink, &monitor);
            let of_it: Vec<_> = frames.iter().skip(processor).step_by(2).cloned().collect();
            let room = move |sent: usize| [sink, monitor].iter().all(|capture| 2 * sent < capture.count() + ON_THE_WAY);
            scope.spawn(move || {
                let mut sender = lab.sender(&wire.a).unwrap().on(Some(processor));
                sender.send_while(&of_it, Pace::per_second(10_000), room).unwrap();
            });
        }
    });
    let idle = Duration::from_secs(5);
    let of_flow = |frames: &[Vec<u8>], flow: u32| -> Vec<Vec<u8>> {
        frames.iter().filter(|f| f[34..36] == (5000 + flow as u16).to_be_bytes()).cloned().collect()
    };
    for (what, got) in [("sink", sink), ("monitor", monitor)] {
        let got = got.finish(frames.len(), idle).unwrap().frames;
        assert_eq!(got.len(), frames.len(), "{what}: {:#}", node.json(&["stats"]));
        for flow in 0..FLOWS {
            assert!(of_flow(&got, flow) == of_flow(&frames, flow), "{what}: flow {flow} is not as it was sent");
        }
    }
    let stats = node.settled_stats();
    let entry = mirror_of(&stats, A);
    assert_eq!(entry["mirrored_packets"], frames.len(), "{entry}");
    for shard in entry["shards"].as_array().unwrap() {
        assert!(shard["mirrored_packets"].as_u64().unwrap() > 0, "the frames were all one shard's: {entry}");
    }
}

/// A UDP frame: the flow is its source port, the number its payload's beginning.
fn udp(flow: u32, number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    let ip_len = (len - 14) as u16;
    frame.extend([0x45, 0]);
    frame.extend(ip_len.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend((5000 + flow as u16).to_be_bytes());
    frame.extend([0x12, 0x34]);
    frame.extend((ip_len - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(len, number as u8);
    frame
}
