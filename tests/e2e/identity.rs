//! Devices that go, are made again, are renamed, and pass their ifindexes on.

use std::time::Duration;

use spanwire_lab::topology::{Lab, LabSpec, Port, Role};

use super::exchange;
use super::foreign::wait_until_crossing;
use super::node::{A, B, MON, Node, document_with, lab, port_of, wait_for_link};
use super::offloads::{are_on, vlan_offloads, wait_for_start};
use super::paths::{Path, on_each_path};

on_each_path!(
    a_stranger_that_has_the_ifindex_at_once_is_left_alone,
    a_port_that_is_back_with_its_ifindex_is_sent_to_again,
);
on_each_path!(
    long xdp: a_port_that_was_named_is_never_another_device_and_comes_alive_where_it_is_made_again,
    a_port_without_a_name_is_the_device_found_first,
    a_renamed_device_stays_the_port_under_its_new_name,
    names_that_change_places_take_the_wire_with_them,
    a_wire_of_device_names_follows_them,
    a_port_whose_name_was_there_at_the_publish_is_no_other_device,
);

/// What the lab calls the devices, as a snapshot does.
const NAMED: &str = r#"{"name":"a","linux_name":"w0a","ifindex":11},{"name":"b","linux_name":"w0b","ifindex":12},
                       {"name":"m","linux_name":"mon0","ifindex":22}"#;

fn ip(lab: &Lab, arguments: &str) {
    lab.dut().ip(&arguments.split_whitespace().collect::<Vec<_>>()).unwrap();
}

/// Makes the device of a port again, under another ifindex, with the same host at the other end.
fn make(lab: &Lab, path: Path, port: &Port, ifindex: u32) {
    let host = lab.ns(port.host);
    let far = format!("peer name {} index {} netns {}", port.host_name, port.host_ifindex, host.name());
    ip(lab, &format!("link add name {} index {ifindex} type veth {far}", port.name));
    host.ip(&["link", "set", &port.host_name, "arp", "off", "up"]).unwrap();
    path.ready(host, &port.host_name);
    ip(lab, &format!("link set {} arp off up", port.name));
    wait_for_link(host, &port.host_name);
}

/// A device that is nobody's port, with an ifindex that was one's.
fn make_stranger(lab: &Lab, ifindex: u32) {
    ip(lab, &format!("link add name stranger index {ifindex} type veth peer name beyond"));
    ip(lab, "link set stranger up");
    ip(lab, "link set beyond up");
}

/// That nothing was done with the stranger.
fn check_stranger(lab: &Lab) {
    let link = lab.dut().ip(&["-d", "-s", "link", "show", "stranger"]).unwrap();
    let link = String::from_utf8_lossy(&link.stdout);
    assert!(link.contains("promiscuity 0") && !link.contains("xdp"), "{link}");
    assert_eq!(vlan_offloads(lab, "stranger"), vlan_offloads(lab, "beyond"));
    let sent = lab.dut().exec("cat", &["/sys/class/net/stranger/statistics/tx_packets"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&sent.stdout).trim(), "0");
}

/// That what comes from the wire's other end does not go to the stranger, who has the ifindex of its port.
fn check_stranger_gets_nothing(lab: &Lab) {
    let frames = spanwire_lab::traffic::frames(2, 50);
    lab.sender(&lab.wire(0).unwrap().b).unwrap().send(&frames, spanwire_lab::traffic::Pace::default()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    check_stranger(lab);
}

/// Waits until the port waits for its device, and says that another one has its ifindex.
fn wait_for_refusal(node: &Node, port: u32, device: &str) {
    node.wait_for("the stranger to be told of", |show| {
        port_of(show, port).is_some_and(|port| {
            assert!(port["device_ifindex"].is_null() || port["state"] == "active", "{port}");
            let reason = port["reason"].as_str().unwrap();
            port["state"] == "inactive" && reason.contains(device) && reason.contains("stranger")
        })
    });
}

/// Starts a dataplane again where it is to have been down meanwhile.
fn again(node: &mut Node, lab: &Lab, restarted: bool) {
    if restarted {
        node.launch(lab, &[]);
        wait_for_start(node);
    }
}

fn a_port_that_was_named_is_never_another_device_and_comes_alive_where_it_is_made_again(path: Path) {
    for restarted in [false, true] {
        let lab = path.lab(LabSpec::default());
        let (a, mon) = (&lab.wire(0).unwrap().a, lab.monitor(0).unwrap());
        let mut node = path.start(&lab, &[]);
        node.import(&document_with(&[(A, B)], &[(A, MON, 1)], NAMED));
        node.wait_for_ports(&[A, B, MON]);
        if restarted {
            node.kill();
        }
        ip(&lab, "link del w0a");
        make_stranger(&lab, A);
        // Whether anybody has seen it, or runs at all.
        check_stranger_gets_nothing(&lab);
        again(&mut node, &lab, restarted);
        wait_for_refusal(&node, A, "w0a");
        check_stranger_gets_nothing(&lab);

        make(&lab, path, a, 31);
        node.wait_for_ports(&[A, B, MON]);
        let show = node.json(&["show"]);
        let port = port_of(&show, A).unwrap();
        assert_eq!((&port["name"], &port["device_ifindex"]), (&"w0a".into(), &31.into()), "{port}");
        assert!(port["reason"].as_str().unwrap().contains("ifindex 31"), "{port}");
        exchange(&lab, 1, 300, Some(1), None);
        check_stranger(&lab);
        ip(&lab, "link del stranger");

        // The same of the monitor.
        ip(&lab, "link del mon0");
        make_stranger(&lab, MON);
        wait_for_refusal(&node, MON, "mon0");
        let frames = spanwire_lab::traffic::frames(2, 50);
        lab.sender(a).unwrap().send(&frames, spanwire_lab::traffic::Pace::default()).unwrap();
        check_stranger(&lab);
        make(&lab, path, mon, 32);
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, 3, 300, Some(1), None);
        check_stranger(&lab);
    }
}

fn a_port_without_a_name_is_the_device_found_first(path: Path) {
    for restarted in [false, true] {
        let lab = path.lab(LabSpec::default());
        let a = &lab.wire(0).unwrap().a;
        let mut node = path.start(&lab, &[]);
        node.import(&document_with(&[(A, B)], &[(A, MON, 1)], ""));
        node.wait_for_ports(&[A, B, MON]);
        if restarted {
            node.kill();
        }
        ip(&lab, "link del w0a");
        make_stranger(&lab, A);
        again(&mut node, &lab, restarted);
        wait_for_refusal(&node, A, "w0a");
        check_stranger_gets_nothing(&lab);
        // Where only an ifindex is known, the name alone is not enough.
        make(&lab, path, a, 31);
        wait_for_refusal(&node, A, "w0a");
        ip(&lab, "link del stranger");
        ip(&lab, "link del w0a");
        make(&lab, path, a, A);
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, 1, 300, Some(1), None);
    }
}

fn a_renamed_device_stays_the_port_under_its_new_name(path: Path) {
    for interfaces in ["", NAMED] {
        let lab = path.lab(LabSpec::default());
        let mut node = path.start(&lab, &[]);
        node.import(&document_with(&[(A, B)], &[(A, MON, 1)], interfaces));
        node.wait_for_ports(&[A, B, MON]);
        let rename = |from: &str, to: &str, more: &str| {
            let batch = format!("link set {from} down\nlink set {from} name {to}\n{more}\nlink set {to} up\n");
            lab.dut().ip(&["-b", node.file(&batch).to_str().unwrap()]).unwrap();
        };
        let wait_for_name = |node: &Node, name: &str| {
            node.wait_for("the new name", |show| {
                port_of(show, A).is_some_and(|port| port["name"] == name && port["state"] == "active")
            });
        };
        // In use, its name and its address may both change at once.
        rename("w0a", "wan0", "link set wan0 address 02:00:00:00:77:01");
        wait_for_name(&node, "wan0");
        exchange(&lab, 1, 300, Some(1), None);
        assert!(path == Path::Tc || are_on(&vlan_offloads(&lab, "wan0")) == 0);
        rename("wan0", "wan1", "");
        wait_for_name(&node, "wan1");
        // While nobody looks.
        node.kill();
        let batch = "link set wan1 down\nlink set wan1 name wan2\nlink set wan2 up\n";
        lab.dut().ip(&["-b", node.file(batch).to_str().unwrap()]).unwrap();
        again(&mut node, &lab, true);
        wait_for_name(&node, "wan2");
        exchange(&lab, 2, 300, Some(1), None);
        node.stop();
        node.detach(&lab, &[]);
        assert_eq!(vlan_offloads(&lab, "wan2").iter().filter(|line| line.ends_with(": off")).count(), 0);
    }
}

fn names_that_change_places_take_the_wire_with_them(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    node.import(&document_with(&[(A, B)], &[(A, MON, 1)], NAMED));
    node.wait_for_ports(&[A, B, MON]);
    let batch = "link set w0a down\nlink set w0b down\nlink set w0a name x\nlink set w0b name w0a\nlink set x name w0b\n\
                 link set w0a up\nlink set w0b up\n";
    lab.dut().ip(&["-b", node.file(batch).to_str().unwrap()]).unwrap();
    // What port A receives is mirrored, and that comes from the other host now.
    node.wait_for("the names to be followed", |show| {
        [(A, "w0a", "ifindex 12"), (B, "w0b", "ifindex 11")].iter().all(|&(port, name, note)| {
            let port = port_of(show, port).unwrap();
            port["name"] == name && port["state"] == "active" && port["reason"].as_str().unwrap().contains(note)
        })
    });
    exchange(&lab, 1, 300, None, Some(1));
}

#[test]
fn an_alternative_name_is_a_name() {
    let lab = lab(LabSpec::default());
    ip(&lab, "link property add dev w0a altname uplink-of-the-first-customer");
    let node = Node::start(&lab, &[]);
    let uplink = r#"{"name":"up","linux_name":"uplink-of-the-first-customer","ifindex":99}"#;
    node.wait_for_running();
    let document = node.file(&document_with(&[(99, B)], &[(99, MON, 1)], uplink));
    let report = node.json(&["import", document.to_str().unwrap()]);
    assert_eq!(report["diagnostics"], serde_json::json!([]), "judged by the device that the dataplane takes");
    node.wait_for_ports(&[99, B, MON]);
    exchange(&lab, 1, 300, Some(1), None);
    let show = node.json(&["show"]);
    assert_eq!(port_of(&show, 99).unwrap()["name"], "w0a");
    let stats = node.settled_stats();
    assert_eq!(super::node::mirror_of(&stats, 99)["observed"], 300);
    assert_eq!(port_of(&stats, 99).unwrap()["device_ifindex"], A);
}

/// A snapshot with names of its own, as a lab's: what is found first under the ifindex is the port, and another device
/// that comes in its place is not.
#[test]
fn a_device_that_is_called_otherwise_is_taken_as_found_and_told_of() {
    let lab = lab(LabSpec::default());
    let node = Node::start(&lab, &[]);
    let interfaces = r#"{"name":"ge-0/0/0","linux_name":"ge-0-0-0","ifindex":11}"#;
    node.import(&document_with(&[(A, B)], &[(A, MON, 1)], interfaces));
    node.wait_for_ports(&[A, B, MON]);
    let reason = port_of(&node.json(&["show"]), A).unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("w0a") && reason.contains("ge-0-0-0"), "{reason}");
    ip(&lab, "link del w0a");
    make_stranger(&lab, A);
    wait_for_refusal(&node, A, "w0a");
    check_stranger(&lab);
    ip(&lab, "link set stranger down");
    ip(&lab, "link set stranger name ge-0-0-0");
    ip(&lab, "link set ge-0-0-0 up");
    node.wait_for_ports(&[A]);
    assert!(lab.ns(Role::Dut).ip(&["link", "show", "ge-0-0-0"]).is_ok());
}

/// `--wire NAME:NAME` names the devices for the dataplane too, in a document that knows none.
fn a_wire_of_device_names_follows_them(path: Path) {
    let lab = path.lab(LabSpec::default());
    let a = &lab.wire(0).unwrap().a;
    let node = path.start(&lab, &[]);
    node.wait_for_running();
    let bare = node.file(r#"{"version":3}"#);
    node.json(&["import", bare.to_str().unwrap(), "--wire", "w0a:w0b"]);
    node.wait_for_ports(&[A, B]);
    ip(&lab, "link del w0a");
    make_stranger(&lab, A);
    wait_for_refusal(&node, A, "w0a");
    make(&lab, path, a, 31);
    node.wait_for_ports(&[A, B]);
    exchange(&lab, 1, 300, None, None);
    check_stranger(&lab);
}

/// It was there when the snapshot was published, and went before any dataplane had seen it.
fn a_port_whose_name_was_there_at_the_publish_is_no_other_device(path: Path) {
    for rolled_back in [false, true] {
        let lab = path.lab(LabSpec::default());
        let a = &lab.wire(0).unwrap().a;
        let mut node = path.node();
        let file = node.file(&document_with(&[(A, B)], &[(A, MON, 1)], NAMED));
        let (spanctl, dir) = (super::node::program("spanctl"), node.dir.path().to_str().unwrap());
        lab.dut().exec(spanctl.to_str().unwrap(), &["--dir", dir, "import", file.to_str().unwrap()]).unwrap();
        if rolled_back {
            // In a namespace without such devices.
            node.publish(&document_with(&[], &[], ""));
            node.json(&["rollback", "1"]);
        }
        ip(&lab, "link del w0a");
        make_stranger(&lab, A);
        node.launch(&lab, &[]);
        wait_for_refusal(&node, A, "w0a");
        check_stranger(&lab);
        make(&lab, path, a, 31);
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, 1, 300, Some(1), None);
        check_stranger(&lab);
    }
}

/// Made faster than anybody looks.
fn a_stranger_that_has_the_ifindex_at_once_is_left_alone(path: Path) {
    for names in ["", NAMED] {
        let lab = path.lab(LabSpec::default());
        let node = path.start(&lab, &[]);
        node.import(&document_with(&[(A, B)], &[], names));
        node.wait_for_ports(&[A, B]);
        let batch = node.file(&format!(
            "link del w0a\nlink add name stranger index {A} type veth peer name beyond\nlink set stranger up\nlink set beyond up\n"
        ));
        lab.dut().ip(&["-batch", batch.to_str().unwrap()]).unwrap();
        check_stranger_gets_nothing(&lab);
        wait_for_refusal(&node, A, "w0a");
        // Selectors are looked after meanwhile.
        std::thread::sleep(Duration::from_millis(1200));
        wait_for_refusal(&node, A, "w0a");
        check_stranger_gets_nothing(&lab);
    }
}

/// Made anew, moved away and back, and that before anybody looks.
fn a_port_that_is_back_with_its_ifindex_is_sent_to_again(path: Path) {
    let lab = path.lab(LabSpec::default());
    let b = lab.wire(0).unwrap().b.clone();
    let node = path.start(&lab, &[]);
    node.import(&document_with(&[(A, B)], &[], ""));
    for (seed, pause) in [(31, true), (33, false)] {
        let pause = || {
            if pause {
                std::thread::sleep(Duration::from_millis(300))
            }
        };
        node.wait_for_ports(&[A, B]);
        ip(&lab, "link del w0b");
        pause();
        make(&lab, path, &b, B);
        wait_until_crossing(&lab, seed);
        let far = lab.ns(Role::Mon);
        ip(&lab, &format!("link set w0b netns {}", far.name()));
        pause();
        far.ip(&["link", "set", "w0b", "netns", lab.dut().name()]).unwrap();
        ip(&lab, "link set w0b up");
        wait_until_crossing(&lab, seed + 1);
    }
}

/// Whether or not anybody runs: where the port is by now the other one's ifindex is a stranger's.
#[test]
fn a_port_that_was_moved_sends_nothing_to_strangers_there() {
    for path in [Path::Tc, Path::Xdp] {
        let lab = path.lab(LabSpec::default());
        let mut node = path.start(&lab, &[]);
        node.import(&document_with(&[(A, B)], &[], ""));
        node.wait_for_ports(&[A, B]);
        node.kill();
        let far = lab.ns(Role::Mon);
        far.ip(&["link", "add", "name", "stranger", "index", &B.to_string(), "type", "veth", "peer", "name", "beyond"])
            .unwrap();
        ip(&lab, &format!("link set w0a netns {}", far.name()));
        ["stranger", "beyond", "w0a"].iter().for_each(|device| drop(far.ip(&["link", "set", device, "up"]).unwrap()));
        let frames = spanwire_lab::traffic::frames(2, 50);
        lab.sender(&lab.wire(0).unwrap().a).unwrap().send(&frames, spanwire_lab::traffic::Pace::default()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let sent = far.exec("cat", &["/sys/class/net/stranger/statistics/tx_packets"]).unwrap();
        assert_eq!(String::from_utf8_lossy(&sent.stdout).trim(), "0", "{path:?}");
    }
}
