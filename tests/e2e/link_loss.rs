//! Wires that forward the loss of a link: what the far ends see, over links that come and go, deaths and restarts.

use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, LabSpec, Port, Role};

use super::down::set;
use super::exchange;
use super::node::{A, B, Node, document_with, lab, port_of};
use super::offloads::wait_for_start;
use super::survival::kernel_lab;

/// The lab's wire, forwarding.
fn forwarding() -> String {
    let wires = document_with(&[(A, B)], &[], "");
    wires.replace(r#""b_ifindex":12}"#, r#""b_ifindex":12,"link_loss_forwarding":true}"#)
}

/// A dataplane with that wire in use.
fn start(lab: &Lab, args: &[&str]) -> Node {
    let node = Node::start(lab, args);
    node.import(&forwarding());
    node.wait_for_ports(&[A, B]);
    node
}

/// Whether a device has this flag.
fn has(ns: &Namespace, device: &str, flag: &str) -> bool {
    let told = ns.ip(&["-j", "link", "show", "dev", device]).unwrap();
    assert!(told.status.success(), "{device}: {}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    told[0]["flags"].as_array().unwrap().iter().any(|found| found == flag)
}

/// Whether a port is administratively up.
fn is_up(lab: &Lab, port: &Port) -> bool {
    has(lab.dut(), &port.name, "UP")
}

/// Whether the host at the other end of a port's cable sees a link.
fn sees_a_link(lab: &Lab, port: &Port) -> bool {
    has(lab.ns(port.host), &port.host_name, "LOWER_UP")
}

/// The host at the other end of a port's cable takes its end down or up.
fn far(lab: &Lab, port: &Port, to: &str) {
    let done = lab.ns(port.host).ip(&["link", "set", &port.host_name, to]).unwrap();
    assert!(done.status.success(), "{to}: {}", String::from_utf8_lossy(&done.stderr));
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The wire's ports: of each the one that loses its link and the other one, each way.
fn each_way(lab: &Lab) -> [(Port, Port); 2] {
    let wire = lab.wire(0).unwrap();
    [(wire.a.clone(), wire.b.clone()), (wire.b.clone(), wire.a.clone())]
}

/// Until `show` says that this port, or none, is taken down.
fn wait_for_taken(node: &Node, port: Option<&Port>) -> Value {
    let ifindex = port.map(|port| port.ifindex);
    node.wait_for("the port to be taken down or up", |show| {
        let port_tells =
            port.is_none_or(|port| port_of(show, port.ifindex).is_some_and(|row| row["state"] == "inactive"));
        show["wires"][0]["taken_down_ifindex"] == serde_json::json!(ifindex) && port_tells
    })
}

/// Has one port lose its link, and waits until the other one is taken down.
fn lose(lab: &Lab, node: &Node, lost: &Port, other: &Port) {
    far(lab, lost, "down");
    until("the loss is forwarded", || !sees_a_link(lab, other));
    wait_for_taken(node, Some(other));
    assert!(is_up(lab, lost) && !is_up(lab, other));
}

/// Waits until both ports are in use, and frames cross.
fn crosses(lab: &Lab, node: &Node, seed: u64) {
    node.wait_for_ports(&[A, B]);
    wait_for_taken(node, None);
    for (port, _) in each_way(lab) {
        assert!(is_up(lab, &port) && sees_a_link(lab, &port), "{}", port.name);
    }
    exchange(lab, seed, 300, None, None);
}

/// What is on record for a later run.
fn record(node: &Node) -> String {
    std::fs::read_to_string(node.dir.path().join("links.json")).unwrap()
}

#[test]
fn a_loss_is_forwarded_each_way_and_so_is_the_return() {
    let lab = kernel_lab(LabSpec::default());
    for args in [&[][..], &["--path", "xdp"], &["--path", "shard"], &["--path", "tc", "--on-exit", "cut"]] {
        let mut node = start(&lab, args);
        for (lost, other) in each_way(&lab) {
            for seed in 0..2 {
                lose(&lab, &node, &lost, &other);
                let show = node.json(&["show"]);
                let reason = port_of(&show, other.ifindex).unwrap()["reason"].as_str().unwrap();
                assert_eq!(reason, format!("link down: taken down, as the link of ifindex {} is lost", lost.ifindex));
                assert_eq!(show["wires"][0]["link_loss_forwarding"], true);
                let text = String::from_utf8(node.spanctl(&["show"]).stdout).unwrap();
                assert!(text.contains(&format!("forwarded: {} is taken down", other.ifindex)), "{text}");
                assert!(record(&node).contains(&format!("\"ifindex\": {}", other.ifindex)), "{}", record(&node));
                far(&lab, &lost, "up");
                crosses(&lab, &node, seed);
            }
        }
        let log = node.stop();
        let b = &lab.wire(0).unwrap().b.name;
        for want in ["taken down, as", "has no carrier", "up again, as the other port of its wire has a link again"] {
            assert!(
                log.lines().any(|line| line.contains(&format!("port {b}: ")) && line.contains(want)),
                "{want}: {log}"
            );
        }
        assert!(record(&node).contains("\"taken_down\": []"), "{}", record(&node));
    }
}

/// Both wires lose a link; what becomes of the second one says that the first one's was seen.
#[test]
fn it_is_off_by_default() {
    let lab = lab(LabSpec { wires: 2, ..LabSpec::default() });
    let [first, second] = [0, 1].map(|at| lab.wire(at).unwrap());
    let node = Node::start(&lab, &[]);
    let wires = [first, second].map(|wire| (wire.a.ifindex, wire.b.ifindex));
    let forwards = format!(r#""b_ifindex":{}}}"#, second.b.ifindex);
    let document = document_with(&wires, &[], "");
    assert!(document.contains(&forwards), "{document}");
    node.import(&document.replace(&forwards, &forwards.replace('}', r#","link_loss_forwarding":true}"#)));
    node.wait_for_ports(&[first.a.ifindex, first.b.ifindex, second.a.ifindex, second.b.ifindex]);
    far(&lab, &first.a, "down");
    node.wait_for("the loss", |show| port_of(show, first.a.ifindex).is_some_and(|port| port["state"] == "inactive"));
    far(&lab, &second.a, "down");
    until("the loss is forwarded", || !sees_a_link(&lab, &second.b));
    assert!(is_up(&lab, &first.b) && sees_a_link(&lab, &first.b));
    let show = node.json(&["show"]);
    let told = |at: usize| ["link_loss_forwarding", "taken_down_ifindex"].map(|key| show["wires"][at][key].clone());
    assert_eq!(told(0), [serde_json::json!(false), Value::Null]);
    assert_eq!(told(1)[0], true);
}

/// What the operator takes down himself is lost too, and what is not there.
#[test]
fn whatever_keeps_frames_from_crossing_is_forwarded() {
    let lab = lab(LabSpec::default());
    let named = format!(r#"{{"name":"a","linux_name":"{}","ifindex":{A}}}"#, lab.wire(0).unwrap().a.name);
    let node = Node::start(&lab, &[]);
    node.import(&forwarding().replace(r#""interfaces":[]"#, &format!(r#""interfaces":[{named}]"#)));
    node.wait_for_ports(&[A, B]);
    for (lost, other) in each_way(&lab) {
        set(&lab, &lost, &["down"]);
        until("the loss is forwarded", || !sees_a_link(&lab, &other));
        set(&lab, &lost, &["up"]);
        crosses(&lab, &node, 1);
    }
    let (away, other) = &each_way(&lab)[0];
    let elsewhere = lab.ns(Role::Mon);
    set(&lab, away, &["netns", elsewhere.name()]);
    until("the loss is forwarded", || !sees_a_link(&lab, other));
    let back = elsewhere.ip(&["link", "set", &away.name, "netns", lab.dut().name()]).unwrap();
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    set(&lab, away, &["arp", "off", "up"]);
    crosses(&lab, &node, 2);
}

#[test]
fn of_two_links_that_are_lost_at_once_both_come_back() {
    let lab = lab(LabSpec::default());
    let node = start(&lab, &[]);
    for order in [[0, 1], [1, 0]] {
        let ports = each_way(&lab).map(|(port, _)| port);
        ports.iter().for_each(|port| far(&lab, port, "down"));
        node.wait_for("both losses", |show| {
            ports.iter().all(|port| port_of(show, port.ifindex).is_some_and(|row| row["state"] == "inactive"))
        });
        order.into_iter().for_each(|at: usize| far(&lab, &ports[at], "up"));
        crosses(&lab, &node, order[0] as u64);
    }
}

#[test]
fn a_port_that_the_operator_takes_up_again_is_left_so_until_the_next_loss() {
    let lab = lab(LabSpec::default());
    let mut node = start(&lab, &[]);
    let (lost, other) = &each_way(&lab)[0];
    lose(&lab, &node, lost, other);
    set(&lab, other, &["up"]);
    wait_for_taken_record(&node);
    until("the far end has its link", || sees_a_link(&lab, other));
    // The dataplane has looked again since.
    far(&lab, other, "down");
    node.wait_for("a look", |show| port_of(show, other.ifindex).is_some_and(|row| row["state"] == "inactive"));
    far(&lab, other, "up");
    node.wait_for("a look", |show| port_of(show, other.ifindex).is_some_and(|row| row["state"] == "active"));
    assert!(is_up(&lab, other) && sees_a_link(&lab, other));
    far(&lab, lost, "up");
    crosses(&lab, &node, 1);
    lose(&lab, &node, lost, other);
    let log = node.stop();
    assert!(log.contains("somebody else took it up again, and it is left so"), "{log}");
}

/// Until nothing is on record as taken down.
fn wait_for_taken_record(node: &Node) {
    until("the record to be empty", || record(node).contains("\"taken_down\": []"));
}

#[test]
fn a_run_after_one_that_was_killed_goes_on_where_that_was() {
    let lab = lab(LabSpec::default());
    let (lost, other) = &each_way(&lab)[0];
    for case in ["still lost", "back", "taken up by hand", "not wanted", "no snapshot"] {
        let mut node = start(&lab, &[]);
        lose(&lab, &node, lost, other);
        node.kill();
        assert!(!is_up(&lab, other) && record(&node).contains(&other.name), "{case}");
        match case {
            "back" => far(&lab, lost, "up"),
            "taken up by hand" => set(&lab, other, &["up"]),
            "not wanted" => drop(node.publish(&document_with(&[(A, B)], &[], ""))),
            "no snapshot" => std::fs::remove_file(node.dir.path().join("config.shm")).unwrap(),
            _ => {}
        }
        node.launch(&lab, &[]);
        wait_for_start(&node);
        match case {
            "still lost" => drop(wait_for_taken(&node, Some(other))),
            "no snapshot" => drop(node.stop()),
            _ => {}
        }
        if case != "still lost" {
            until("the port is up again", || is_up(&lab, other));
            wait_for_taken_record(&node);
        }
        assert_eq!(sees_a_link(&lab, other), case != "still lost", "{case}");
        far(&lab, lost, "up");
        if case != "no snapshot" {
            crosses(&lab, &node, 1);
            node.stop();
        }
    }
}

/// A port that a run which was killed has left down is taken up with what else that left.
#[test]
fn what_was_left_down_is_taken_up_when_it_is_asked_for() {
    let lab = lab(LabSpec::default());
    let other_wire = r#"{"name":"absent","a_ifindex":1001,"b_ifindex":1002}"#;
    let mut node = Node::start(&lab, &[]);
    node.import(&forwarding().replace(r#""wires":["#, &format!(r#""wires":[{other_wire},"#)));
    node.wait_for_ports(&[A, B]);
    let (lost, other) = &each_way(&lab)[0];
    far(&lab, lost, "down");
    until("the loss is forwarded", || !sees_a_link(&lab, other));
    node.kill();
    let detach = |args: &[&str]| {
        let (code, said) = node.detach(&lab, args);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    detach(&["--wire", "absent"]);
    assert!(!is_up(&lab, other) && record(&node).contains(&other.name), "of another wire");
    let said = detach(&[]);
    assert!(said.contains("changed back: ") && said.contains(&other.name), "{said}");
    assert!(is_up(&lab, other) && sees_a_link(&lab, other));
    wait_for_taken_record(&node);
}

#[test]
fn a_stop_leaves_no_port_down_and_a_start_forwards_the_loss_again() {
    let lab = lab(LabSpec::default());
    let mut node = start(&lab, &[]);
    for (lost, other) in each_way(&lab) {
        lose(&lab, &node, &lost, &other);
        let log = node.stop();
        assert!(log.contains("up again, as spanwired ends"), "{log}");
        assert!(is_up(&lab, &other) && sees_a_link(&lab, &other));
        assert!(record(&node).contains("\"taken_down\": []"), "{}", record(&node));
        node.launch(&lab, &[]);
        wait_for_start(&node);
        until("the loss is forwarded", || !sees_a_link(&lab, &other));
        far(&lab, &lost, "up");
        crosses(&lab, &node, 1);
    }
}

#[test]
fn without_the_option_or_the_wire_no_port_stays_down() {
    let lab = lab(LabSpec::default());
    let node = start(&lab, &[]);
    for without in [document_with(&[(A, B)], &[], ""), document_with(&[], &[], "")] {
        for (lost, other) in each_way(&lab) {
            lose(&lab, &node, &lost, &other);
            node.import(&without);
            until("the port is up again", || is_up(&lab, &other) && sees_a_link(&lab, &other));
            wait_for_taken_record(&node);
            node.import(&forwarding());
            until("the loss is forwarded", || !sees_a_link(&lab, &other));
            far(&lab, &lost, "up");
            crosses(&lab, &node, 1);
        }
    }
}

#[test]
fn a_link_that_flaps_is_back_in_the_end() {
    const FLAPS: usize = 40;
    let lab = lab(LabSpec::default());
    let mut node = start(&lab, &[]);
    let (lost, other) = &each_way(&lab)[0];
    for _ in 0..FLAPS {
        ["down", "up"].into_iter().for_each(|to| far(&lab, lost, to));
    }
    crosses(&lab, &node, 1);
    let log = node.stop();
    let of_port = log.lines().filter(|line| line.contains(&format!("port {}: ", other.name))).count();
    assert!(of_port < 2 * FLAPS, "{of_port} lines: {log}");
}
