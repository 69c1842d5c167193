//! Ports whose frames the kernel carries are promiscuous by their own flag, which stays for as long as frames cross and is
//! cleared with the last of them, by this run or by the next.

use std::time::{Duration, Instant};

use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::{Lab, LabSpec, Role};

use crate::node::{A, B, MON, Node, document, document_with, lab};
use crate::offloads::{are_on, vlan_offloads, wait_for_start};

/// Whether the flag of each port of the wire is set. Memberships of packet sockets do not set it.
pub fn flags(lab: &Lab) -> [bool; 2] {
    let wire = lab.wire(0).unwrap();
    [&wire.a.name, &wire.b.name].map(|device| flag(lab, device))
}

fn flag(lab: &Lab, device: &str) -> bool {
    let shown = lab.dut().ip(&["link", "show", device]).unwrap().stdout;
    String::from_utf8_lossy(&shown).contains("PROMISC")
}

/// A dataplane that carries frames on this path; the operator has set the flag of the wire's second port before.
fn carrying(lab: &Lab, path: &str) -> Node {
    lab.dut().ip(&["link", "set", &lab.wire(0).unwrap().b.name, "promisc", "on"]).unwrap();
    let mut node = Node::idle();
    node.publish(&document(&[(A, MON, 1)]));
    again(&mut node, lab, path);
    node
}

fn again(node: &mut Node, lab: &Lab, path: &str) {
    node.launch(lab, &["--path", path]);
    wait_for_start(node);
    node.wait_for_ports(&[A, B, MON]);
    assert_eq!(flags(lab), [path != "shard" || flags(lab)[0], true], "{path}");
}

fn record(node: &Node) -> String {
    std::fs::read_to_string(node.dir.path().join("ports.json")).unwrap()
}

#[test]
fn a_port_is_promiscuous_for_as_long_as_frames_cross() {
    for path in ["tc", "xdp"] {
        let lab = lab(LabSpec::default());
        let mut node = carrying(&lab, path);
        // Neither a death nor an end makes it the operator's wish.
        for ends in ["killed", "ended", "killed"] {
            match ends {
                "killed" => node.kill(),
                _ => drop(node.stop()),
            }
            assert_eq!(flags(&lab), [true; 2], "{path}: frames cross on");
            again(&mut node, &lab, path);
        }
        node.import(&document_with(&[], &[], ""));
        node.wait_for("the flags", |_| flags(&lab) == [false, true]);
        node.stop();
        assert!(record(&node).contains("\"changed\": []"), "{path}: {}", record(&node));
    }
}

/// Of a wire that was taken away while none ran, and where the next run cuts.
#[test]
fn what_a_run_that_is_gone_has_set_is_cleared_by_the_next() {
    for ends in ["killed", "ended"] {
        let lab = lab(LabSpec::default());
        let mut node = carrying(&lab, "tc");
        match ends {
            "killed" => node.kill(),
            _ => drop(node.stop()),
        }
        node.publish(&document_with(&[], &[], ""));
        node.launch(&lab, &["--path", "tc"]);
        node.wait_for("the flags", |_| flags(&lab) == [false, true]);
        node.stop();

        node.publish(&document(&[(A, MON, 1)]));
        again(&mut node, &lab, "tc");
        node.kill();
        node.launch(&lab, &["--path", "tc", "--on-exit", "cut"]);
        wait_for_start(&node);
        node.wait_for_ports(&[A, B]);
        node.stop();
        assert_eq!(flags(&lab), [false, true], "{ends}");
    }
}

/// One that ends before it has taken over what crosses leaves that as it is, and cuts it where it is to.
#[test]
fn a_run_that_ends_at_once_leaves_what_crosses_as_it_is() {
    let lab = lab(LabSpec::default());
    let mut node = carrying(&lab, "tc");
    let quick = ExchangeSpec { idle: Duration::from_millis(300), monitor: None, ..ExchangeSpec::new(&lab, 63, 100) };
    for (exit, crosses) in [("keep", true), ("keep", true), ("cut", false)] {
        node.kill();
        node.launch(&lab, &["--path", "tc", "--on-exit", exit]);
        // From here on the signal is held for it.
        let status = format!("/proc/{}/status", node.pid());
        let is_held = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let blocked = text.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            u64::from_str_radix(blocked, 16).unwrap() & 1 << (15 - 1) != 0
        };
        let start = Instant::now();
        while !is_held() {
            assert!(start.elapsed() < Duration::from_secs(60), "SIGTERM is not held back");
            std::thread::yield_now();
        }
        let log = node.stop();
        assert_eq!(flags(&lab), [crosses, true], "{exit}: {log}");
        assert_eq!(run(&lab, &quick, |_| ()).unwrap().holds, crosses, "{exit}");
        // Something to kill.
        node.launch(&lab, &["--path", "tc"]);
        wait_for_start(&node);
        node.wait_for_ports(&[A, B, MON]);
    }
}

/// The frames of another path are taken all the same, and what one has set goes with the other.
#[test]
fn a_wire_that_changes_its_path_leaves_no_flag_behind() {
    let lab = lab(LabSpec::default());
    let mut node = carrying(&lab, "tc");
    for path in ["shard", "xdp", "shard", "tc", "shard"] {
        node.kill();
        again(&mut node, &lab, path);
    }
    node.stop();
    assert_eq!(flags(&lab), [false, true]);
}

/// A tag that the driver took off would be lost: the offloads of a wire that crosses on stay off.
#[test]
fn offloads_stay_off_for_as_long_as_drivers_carry() {
    let lab = lab(LabSpec::default());
    let on = || {
        let wire = lab.wire(0).unwrap();
        [&wire.a.name, &wire.b.name].map(|device| are_on(&vlan_offloads(&lab, device)))
    };
    let before = on();
    assert!(before[0] > 0 && before[1] > 0);
    let mut node = carrying(&lab, "xdp");
    for ends in ["ended", "killed"] {
        match ends {
            "killed" => node.kill(),
            _ => drop(node.stop()),
        }
        assert_eq!(on(), [0; 2], "{ends}");
        again(&mut node, &lab, "xdp");
    }
    node.import(&document_with(&[], &[], ""));
    node.wait_for("the offloads", |_| on() == before);
}

#[test]
fn a_port_that_was_moved_away_and_back_is_as_it_was() {
    for case in ["running", "killed"] {
        let lab = lab(LabSpec::default());
        let mut node = carrying(&lab, "tc");
        let (device, far) = (lab.wire(0).unwrap().a.name.clone(), lab.ns(Role::Mon));
        lab.dut().ip(&["link", "set", &device, "netns", far.name()]).unwrap();
        node.wait_for("the record", |_| record(&node).contains("\"moved\": true"));
        if case == "killed" {
            node.kill();
            node.launch(&lab, &["--path", "tc"]);
            wait_for_start(&node);
        }
        node.import(&document_with(&[], &[], ""));
        far.ip(&["link", "set", &device, "netns", lab.dut().name()]).unwrap();
        node.wait_for("the flag", |_| !flag(&lab, &device));
        node.wait_for("the record", |_| record(&node).contains("\"changed\": []"));
    }
}

/// Nothing tells of it, and frames for other addresses would be lost.
#[test]
fn what_somebody_turns_back_on_a_port_is_put_back() {
    for path in ["tc", "xdp", "shard"] {
        let lab = lab(LabSpec::default());
        let mut node = carrying(&lab, path);
        let wire = lab.wire(0).unwrap().clone();
        let vlan_on = || are_on(&vlan_offloads(&lab, &wire.a.name));
        // On the shard path a membership takes the frames.
        if path != "shard" {
            for device in [&wire.a.name, &wire.b.name] {
                lab.dut().ip(&["link", "set", device, "promisc", "off"]).unwrap();
            }
            node.wait_for("the flags", |_| flags(&lab) == [true; 2]);
        }
        if path != "tc" {
            assert_eq!(vlan_on(), 0);
            lab.dut().exec("ethtool", &["-K", &wire.a.name, "rxvlan", "on", "txvlan", "on"]).unwrap();
            node.wait_for("the offloads", |_| vlan_on() == 0);
        }
        node.import(&document_with(&[], &[], ""));
        // What the operator had set he has cleared himself meanwhile; it was set for the wire.
        node.wait_for("the ports as they were", |_| flags(&lab) == [false, path == "shard"] && vlan_on() > 0);
        let said = node.stop();
        assert!(path == "shard" || said.contains("somebody has turned promiscuity off: that is put back"), "{said}");
        assert!(path == "tc" || said.contains("somebody has turned txvlan, rxvlan on: that is put back"), "{said}");
    }
}
