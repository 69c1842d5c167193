//! What is changed on ports of the shard path is put back, by this run or by the next.

use spanwire::xsk::endpoint::Sender as Holder;
use spanwire::xsk::netdev::Netdev;
use spanwire_lab::topology::{Lab, LabSpec};

use super::node::{A, B, MON, Node, document, document_with, lab};
use super::paths::Path;

/// The VLAN offloads of a device of the middle namespace.
pub fn vlan_offloads(lab: &Lab, device: &str) -> Vec<String> {
    let features = lab.dut().exec("ethtool", &["-k", device]).unwrap();
    let text = String::from_utf8_lossy(&features.stdout);
    text.lines().filter(|line| line.contains("vlan-offload") || line.contains("vlan-stag")).map(str::to_owned).collect()
}

/// How many of them are on.
pub fn are_on(offloads: &[String]) -> usize {
    offloads.iter().filter(|line| line.ends_with(": on")).count()
}

/// A dataplane that was killed with its ports in use, and what the offloads of both were before: one is off because
/// the operator wants it so.
fn killed(lab: &Lab) -> (Node, [Vec<String>; 2]) {
    let wire = lab.wire(0).unwrap();
    lab.dut().exec("ethtool", &["-K", &wire.a.name, "rxvlan", "off"]).unwrap();
    let before = [&wire.a.name, &wire.b.name].map(|name| vlan_offloads(lab, name));
    assert!(are_on(&before[0]) > 0 && are_on(&before[0]) < are_on(&before[1]), "{before:?}");
    let mut node = Path::Shard.start(lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    node.kill();
    assert_eq!(on(lab), 0);
    (node, before)
}

/// Until what is told is of this process, and not of an earlier one.
pub fn wait_for_start(node: &Node) {
    let pid = node.pid();
    node.wait_for("the new process", |show| show["dataplane"]["pid"] == pid && show["dataplane"]["running"] == true);
}

/// Offloads of the wire's ports that are on.
fn on(lab: &Lab) -> usize {
    now(lab).iter().map(|offloads| are_on(offloads)).sum()
}

fn now(lab: &Lab) -> [Vec<String>; 2] {
    let wire = lab.wire(0).unwrap();
    [&wire.a.name, &wire.b.name].map(|name| vlan_offloads(lab, name))
}

#[test]
fn what_a_killed_run_turned_off_is_on_again_after_the_next() {
    let lab = lab(LabSpec::default());
    let (mut node, before) = killed(&lab);
    // Not even the second death in a row makes it the operator's wish.
    for ends in ["killed", "stopped"] {
        node.launch(&lab, &[]);
        wait_for_start(&node);
        node.wait_for_ports(&[A, B, MON]);
        assert_eq!(on(&lab), 0);
        match ends {
            "killed" => node.kill(),
            _ => drop(node.stop()),
        }
    }
    assert_eq!(now(&lab), before);
    let record = std::fs::read_to_string(node.dir.path().join("ports.json")).unwrap();
    assert!(record.contains("\"changed\": []"), "{record}");
}

#[test]
fn what_a_killed_run_turned_off_is_on_again_where_the_wire_is_gone() {
    let lab = lab(LabSpec::default());
    let (mut node, before) = killed(&lab);
    node.publish(&document_with(&[], &[], ""));
    node.launch(&lab, &[]);
    node.wait_for("the offloads", |_| now(&lab) == before);
    // And without any snapshot, at the end.
    node.kill();
    let (mut node, _) = killed(&lab);
    std::fs::remove_file(node.dir.path().join("config.shm")).unwrap();
    node.launch(&lab, &[]);
    wait_for_start(&node);
    node.stop();
    assert_eq!(now(&lab), before);
}

#[test]
fn a_port_that_is_let_go_has_its_offloads_back() {
    let lab = lab(LabSpec::default());
    let (mut node, before) = killed(&lab);
    node.launch(&lab, &[]);
    wait_for_start(&node);
    node.wait_for_ports(&[A, B]);
    node.import(&document_with(&[], &[], ""));
    node.wait_for("the offloads", |_| now(&lab) == before);
}

#[test]
fn a_damaged_record_is_told_of_and_set_aside() {
    let lab = lab(LabSpec::default());
    let (mut node, _) = killed(&lab);
    let record = node.dir.path().join("ports.json");
    std::fs::write(&record, "{\"boot\":").unwrap();
    node.launch(&lab, &[]);
    wait_for_start(&node);
    node.wait_for_ports(&[A, B, MON]);
    let log = node.stop();
    assert!(log.contains("ports.json") && log.contains("set aside as ports.json.damaged"), "{log}");
    assert_eq!(std::fs::read(node.dir.path().join("ports.json.damaged")).unwrap(), b"{\"boot\":");
}

/// What is on record of a port that fails is not forgotten over it.
#[test]
fn what_a_killed_run_turned_off_is_on_again_where_the_next_has_no_use_of_the_port() {
    let lab = lab(LabSpec::default());
    let (mut node, before) = killed(&lab);
    let device = lab.wire(0).unwrap().a.name.clone();
    let queue = lab.dut().enter(|| Holder::open(Netdev::lookup(&device).unwrap().ifindex(), 0, &[0; 64])).unwrap();
    node.launch(&lab, &[]);
    wait_for_start(&node);
    node.wait_for("the refusal", |show| show["ports"].to_string().contains("another socket holds this queue"));
    drop(queue);
    node.kill();
    node.publish(&document_with(&[], &[], ""));
    node.launch(&lab, &[]);
    node.wait_for("the offloads", |_| now(&lab) == before);
}

/// A device that another directory's dataplane uses is that one's: nobody changes it under its feet.
#[test]
fn a_device_in_use_elsewhere_is_put_back_later() {
    let lab = lab(LabSpec::default());
    let (mut first, before) = killed(&lab);
    let mut second = Path::Shard.start(&lab, &[]);
    second.import(&document(&[]));
    second.wait_for_ports(&[A, B]);
    first.launch(&lab, &[]);
    wait_for_start(&first);
    first.wait_for("the refusal", |show| show["ports"].to_string().contains("already has an XDP program"));
    // No wire of the first any more, and no first either.
    first.import(&document_with(&[], &[], ""));
    let log = first.stop();
    assert!(log.contains("in use by another program"), "{log}");
    assert_eq!(on(&lab), 0);
    second.stop();
    assert_eq!(on(&lab), 0, "the second found them off");
    first.launch(&lab, &[]);
    wait_for_start(&first);
    first.wait_for("the offloads", |_| now(&lab) == before);
}

/// It may have another ifindex then, be no port any more, and have been away while no dataplane ran.
#[test]
fn a_device_that_was_moved_away_and_back_has_its_offloads_back() {
    for case in ["running", "restarted", "unwanted"] {
        let lab = lab(LabSpec::default());
        let (mut node, before) = killed(&lab);
        let (device, far) = (&lab.wire(0).unwrap().a.name, lab.ns(spanwire_lab::topology::Role::Mon));
        let named = format!(r#"{{"name":"a","linux_name":"{device}","ifindex":{A}}}"#);
        node.publish(&document_with(&[(A, B)], &[], &named));
        node.launch(&lab, &[]);
        wait_for_start(&node);
        node.wait_for_ports(&[A, B]);
        lab.dut().ip(&["link", "set", device, "netns", far.name()]).unwrap();
        let record = node.dir.path().join("ports.json");
        node.wait_for("the record", |_| std::fs::read_to_string(&record).unwrap().contains("\"moved\": true"));
        if case == "restarted" {
            node.stop();
            node.launch(&lab, &[]);
            wait_for_start(&node);
        }
        if case == "unwanted" {
            node.import(&document_with(&[], &[], ""));
        }
        lab.dut().ip(&["link", "add", "name", "other", "index", &A.to_string(), "type", "veth"]).unwrap();
        far.ip(&["link", "set", device, "netns", lab.dut().name()]).unwrap();
        lab.dut().ip(&["link", "set", device, "arp", "off", "up"]).unwrap();
        if case != "unwanted" {
            node.wait_for_ports(&[A, B]);
            assert_eq!(on(&lab), 0, "{case}");
            node.stop();
        }
        node.wait_for("the offloads", |_| now(&lab) == before);
        node.wait_for("the record", |_| !std::fs::read_to_string(&record).unwrap().contains("\"moved\": true"));
    }
}

#[test]
fn a_device_that_was_moved_away_is_told_of() {
    let lab = lab(LabSpec::default());
    let mut node = Path::Shard.start(&lab, &[]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    let (device, far) = (&lab.wire(0).unwrap().a.name, lab.ns(spanwire_lab::topology::Role::Mon).name());
    lab.dut().ip(&["link", "set", device, "netns", far]).unwrap();
    node.wait_for("the port to be missed", |show| {
        show["ports"].as_array().unwrap().iter().any(|port| port["ifindex"] == A && port["state"] == "inactive")
    });
    // Where to comes after that, and is noted in the record then.
    let record = node.dir.path().join("ports.json");
    node.wait_for("the record", |_| {
        let text = std::fs::read_to_string(&record).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["changed"].to_string().contains("\"moved\":true")
    });
    let log = node.stop();
    let told = log.lines().find(|line| line.contains("was moved to another network namespace"));
    assert!(told.is_some_and(|line| line.contains("rxvlan on") && line.contains(device.as_str())), "{log}");
}
