//! Entries of VLAN units on real sockets: which frames are theirs, and by which port their clones leave.

use std::time::Duration;

use serde_json::{Value, json};
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::Pace;

use super::node::{A, B, MON, document_with, mirror_of, port_of};
use super::paths::{Path, on_each_path};

on_each_path!(
    untagged_frames_are_mirrored_by_the_native_vlans_entry,
    clones_to_a_vlan_unit_leave_by_its_port_as_they_came
);

/// ifindexes of interfaces without a device.
const SYNTHETIC: u32 = 1 << 30;

/// A tag: its type and its VLAN id, with a priority that is no part of it.
type Tag = (u16, u16);

fn frame(number: u32, tags: &[Tag]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (tpid, id) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend((0x6000 | id).to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(90, number as u8);
    frame
}

/// `rounds` of frames with each of these tags in turn, with the index of what each has.
fn frames(rounds: usize, kinds: &[&[Tag]]) -> Vec<(usize, Vec<u8>)> {
    let kinds = kinds.iter().enumerate().cycle().take(rounds * kinds.len());
    kinds.zip(0..).map(|((kind, tags), number)| (kind, frame(number, tags))).collect()
}

/// Sends the frames into port A: all come out of B, and those of `wanted` kinds out of each monitor, byte for byte.
fn send(lab: &Lab, frames: &[(usize, Vec<u8>)], wanted: &[&[usize]]) {
    let of = |kinds: &[usize]| -> Vec<Vec<u8>> {
        frames.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, frame)| frame.clone()).collect()
    };
    let all: Vec<Vec<u8>> = frames.iter().map(|(_, frame)| frame.clone()).collect();
    let wire = lab.wire(0).unwrap();
    let sink = lab.capture(&wire.b).unwrap();
    let monitors: Vec<_> = (0..wanted.len()).map(|i| lab.capture(lab.monitor(i).unwrap()).unwrap()).collect();
    lab.sender(&wire.a).unwrap().send_ahead_of(&all, Pace::default(), &[&sink]).unwrap();
    let idle = Duration::from_secs(5);
    assert!(sink.finish(all.len(), idle).unwrap().frames == all, "not every frame crossed as it was");
    for ((monitor, kinds), i) in monitors.into_iter().zip(wanted).zip(0..) {
        let (clones, wanted) = (monitor.finish(of(kinds).len(), idle).unwrap().frames, of(kinds));
        assert_eq!(clones.len(), wanted.len(), "monitor {i}");
        assert!(clones == wanted, "monitor {i}: the clones are not the frames as they came");
    }
}

fn place(entry: &Value) -> Value {
    json!([entry["ingress_port"], entry["vlan_id"], entry["untagged"], entry["output_port"]])
}

/// Frames without a tag and those with VLAN id 0 are of the unit whose VLAN is the port's native one.
fn untagged_frames_are_mirrored_by_the_native_vlans_entry(path: Path) {
    let lab = path.lab(LabSpec { monitors: 3, ..LabSpec::default() });
    let node = path.start(&lab, &[]);
    let (native, other) = (SYNTHETIC + 10, SYNTHETIC + 20);
    let unit = |ifindex, vlan| json!({"ifindex": ifindex, "parent_ifindex": A, "vlan_id": vlan}).to_string();
    let port =
        format!(r#"{{"name":"ge-0/0/0","ifindex":{A},"native_vlan_id":10}},{{"name":"ge-0/0/0.0","ifindex":{A}}}"#);
    let interfaces = [port, unit(native, 10), unit(other, 20)].join(",");
    let mirrors = [(native, MON, 1), (other, MON + 1, 1), (A, MON + 2, 1)];
    node.import(&document_with(&[(A, B)], &mirrors, &interfaces));
    node.wait_for_ports(&[A, B, MON, MON + 1, MON + 2]);
    let kinds: [&[Tag]; 9] = [
        &[],
        &[(0x8100, 0)],
        &[(0x8100, 10)],
        &[(0x8100, 20)],
        &[(0x8100, 30)],
        &[(0x88a8, 0)],
        &[(0x88a8, 10), (0x8100, 20)],
        &[(0x88a8, 20), (0x8100, 10)],
        &[(0x8100, 0), (0x8100, 20)],
    ];
    send(&lab, &frames(20, &kinds), &[&[0, 1, 2, 5, 6, 8], &[3, 7], &[4]]);
    let stats = node.settled_stats();
    for (ingress, kinds) in [(native, 6), (other, 2), (A, 1)] {
        assert_eq!(mirror_of(&stats, ingress)["mirrored_packets"], 20 * kinds, "{stats:#}");
    }
    let show = node.json(&["show"]);
    for (ingress, wanted) in [
        (native, json!([A, 10, true, MON])),
        (other, json!([A, 20, false, MON + 1])),
        (A, json!([A, 0, false, MON + 2])),
    ] {
        let entry = mirror_of(&show, ingress);
        assert_eq!((&entry["state"], place(entry)), (&json!("active"), wanted), "{entry}");
    }

    // Without that entry they are the port's own again.
    node.import(&document_with(&[(A, B)], &mirrors[1..], &interfaces));
    node.wait_for_ports(&[A, B, MON + 1, MON + 2]);
    send(&lab, &frames(20, &kinds), &[&[], &[3, 7], &[0, 1, 2, 4, 5, 6, 8]]);
}

/// An output that is a VLAN unit sends by its port, with no tag added, and no device is looked for by its ifindex.
fn clones_to_a_vlan_unit_leave_by_its_port_as_they_came(path: Path) {
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    // Its devices are those a snapshot is judged by.
    node.wait_for_running();
    let (unit, stacked) = (SYNTHETIC + 7, SYNTHETIC + 8);
    let on = |ifindex, below| format!(r#"{{"ifindex":{ifindex},"parent_ifindex":{below},"vlan_id":7}}"#);
    let interfaces = [on(unit, MON), on(stacked, unit)].join(",");
    let kinds: [&[Tag]; 3] = [&[], &[(0x8100, 7)], &[(0x88a8, 9), (0x8100, 7)]];
    for output in [unit, stacked] {
        let document = document_with(&[(A, B)], &[(A, output, 1)], &interfaces);
        node.import(&document);
        node.wait_for_ports(&[A, B, MON]);
        let show = node.wait_for("the entry", |show| mirror_of(show, A)["state"] == "active");
        let entry = mirror_of(&show, A);
        assert_eq!((&entry["output_ifindex"], &entry["reason"]), (&json!(output), &json!("")), "{entry}");
        assert_eq!(place(entry), json!([A, 0, false, MON]), "{entry}");
        assert_eq!(show["ports"].as_array().unwrap().len(), 3, "{show:#}");
        assert!(port_of(&show, output).is_none(), "{show:#}");
        assert_eq!(show["diagnostics"], json!([]), "the port is there and up");

        send(&lab, &frames(50, &kinds), &[&[0, 1, 2]]);
        let stats = node.settled_stats();
        let entry = mirror_of(&stats, A);
        assert_eq!((&entry["output_ifindex"], &entry["mirrored_packets"]), (&json!(output), &json!(150)), "{entry}");
        let (exported, document) = (node.json(&["export"]), serde_json::from_str::<Value>(&document).unwrap());
        assert_eq!(exported["mirror_configs"], document["mirror_configs"]);
        assert_eq!(exported["interfaces"].as_array().map(Vec::len), document["interfaces"].as_array().map(Vec::len));
    }
}
