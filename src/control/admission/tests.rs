use super::*;
use crate::control::model::{Interface, Wire};

/// Interfaces 11, 12 and 22, and the VLAN interfaces 110 and 111 (tags 10 and 11) on 11.
fn snapshot(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)]) -> Snapshot {
    let interface = |name: &str, ifindex, parent_ifindex, vlan_id| Interface {
        name: name.into(),
        ifindex,
        parent_ifindex,
        vlan_id,
        ..Interface::default()
    };
    Snapshot {
        interfaces: vec![
            interface("in", 11, 0, 0),
            interface("peer", 12, 0, 0),
            interface("mon", 22, 0, 0),
            interface("in.10", 110, 11, 10),
            interface("in.11", 111, 11, 11),
            interface("in.10-again", 112, 11, 10),
            interface("mon.7", 220, 22, 7),
        ],
        mirrors: mirrors
            .iter()
            .map(|&(ingress_ifindex, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate: 1 })
            .collect(),
        wires: wires
            .iter()
            .map(|&(name, a_ifindex, b_ifindex)| Wire { name: name.into(), a_ifindex, b_ifindex, ..Wire::default() })
            .collect(),
        ..Snapshot::default()
    }
}

const WIRE: &[(&str, u32, u32)] = &[("w", 11, 12)];

fn reasons(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)]) -> Vec<String> {
    admit(&snapshot(mirrors, wires)).reasons.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)], wants: &[&str]) {
    let found = reasons(mirrors, wires);
    assert_eq!(found.len(), wants.len(), "{found:#?}");
    for (found, want) in found.iter().zip(wants) {
        assert!(found.starts_with(want), "{found}\nwant: {want}");
    }
}

#[test]
fn a_sound_table_is_accepted() {
    let admission = admit(&snapshot(&[(11, 22), (12, 22), (110, 22), (111, 22)], WIRE));
    assert!(admission.accepted(), "{:?}", admission.reasons);
    assert_eq!(admission.diagnostics, []);
    assert_eq!(admission.states, [StaticState::Active; 4], "a VLAN interface is active through its parent");
    let empty = admit(&Snapshot::default());
    assert!(empty.accepted() && empty.states.is_empty(), "{empty:?}");
    assert_eq!(empty.diagnostics.len(), 1, "a forgotten wire is worth a warning");
    assert!(empty.diagnostics[0].message.contains("--wire"), "{empty:?}");
    assert!(reasons(&[(500, 600)], &[("far", 500, 501)]).is_empty(), "unknown ifindexes are fine");
    assert!(reasons(&[(11, 220)], WIRE).is_empty(), "a VLAN interface may be a monitor port");
}

#[test]
fn duplicate_ingress() {
    refused(
        &[(11, 22), (12, 22), (11, 23)],
        WIRE,
        &[
            "mirror_configs[2].ingress_ifindex: duplicate ingress ifindex 11 (\"in\"), first in mirror_configs[0] (allowed",
        ],
    );
    refused(
        &[(110, 22), (112, 22)],
        WIRE,
        &[
            "mirror_configs[1].ingress_ifindex: duplicate ingress: ifindex 112 (\"in.10-again\") is VLAN 10 on ifindex 11 (\"in\"), as that of mirror_configs[0]",
        ],
    );
}

#[test]
fn output_is_the_ingress() {
    refused(&[(22, 22)], WIRE, &["mirror_configs[0].output_ifindex: ifindex 22 (\"mon\") is the entry's own ingress"]);
    refused(
        &[(110, 11)],
        &[],
        &[
            "mirror_configs[0].output_ifindex: ifindex 11 (\"in\") is the parent port of the entry's ingress ifindex 110 (\"in.10\")",
        ],
    );
    refused(
        &[(22, 220)],
        WIRE,
        &[
            "mirror_configs[0].output_ifindex: ifindex 22 (\"mon\"), the parent of ifindex 220 (\"mon.7\") is the entry's own",
        ],
    );
}

#[test]
fn chains_and_loops() {
    refused(
        &[(12, 22), (22, 23)],
        &[],
        &["mirror_configs[0].output_ifindex: ifindex 22 (\"mon\") is the ingress of mirror_configs[1], a mirror chain"],
    );
    refused(
        &[(1, 2), (2, 3), (3, 1)],
        &[],
        &[
            "mirror_configs[0].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror loop",
            "mirror_configs[1].output_ifindex: ifindex 3 is the ingress of mirror_configs[2], a mirror loop",
            "mirror_configs[2].output_ifindex: ifindex 1 is the ingress of mirror_configs[0], a mirror loop",
        ],
    );
    refused(
        &[(22, 11), (110, 23)],
        &[],
        &[
            "mirror_configs[0].output_ifindex: ifindex 11 (\"in\") is the parent port of the ingress of mirror_configs[1]",
        ],
    );
}

#[test]
fn a_chain_into_a_loop_is_no_loop() {
    refused(
        &[(1, 2), (2, 3), (3, 2)],
        &[],
        &[
            "mirror_configs[0].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror chain",
            "mirror_configs[1].output_ifindex: ifindex 3 is the ingress of mirror_configs[2], a mirror loop",
            "mirror_configs[2].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror loop",
        ],
    );
}

#[test]
fn an_entry_gets_all_its_reasons() {
    refused(
        &[(110, 22), (111, 22), (110, 11)],
        WIRE,
        &[
            "mirror_configs[2].ingress_ifindex: duplicate ingress ifindex 110",
            "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is the parent port of the entry's ingress",
            "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is the parent port of the ingress of mirror_configs[0], a mirror chain",
            "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is a port of wires[0] \"w\"",
        ],
    );
}

#[test]
fn output_on_a_wire() {
    refused(
        &[(11, 12)],
        WIRE,
        &[
            "mirror_configs[0].output_ifindex: ifindex 12 (\"peer\") is a port of wires[0] \"w\" (allowed: a port on no wire)",
        ],
    );
    refused(
        &[(12, 110)],
        WIRE,
        &[
            "mirror_configs[0].output_ifindex: ifindex 11 (\"in\"), the parent of ifindex 110 (\"in.10\") is a port of wires[0]",
        ],
    );
}

#[test]
fn output_on_vlans_on_one_another() {
    let mut stacked = snapshot(&[(12, 303)], &[("w", 11, 13)]);
    let vlan = |ifindex, parent_ifindex| Interface { ifindex, parent_ifindex, vlan_id: 5, ..Interface::default() };
    // 303 on 302 on 301 on 110, which is on 11.
    stacked.interfaces.extend([vlan(301, 110), vlan(302, 301), vlan(303, 302)]);
    let texts = |snapshot: &Snapshot| admit(snapshot).reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = texts(&stacked);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with(
            "mirror_configs[0].output_ifindex: ifindex 11 (\"in\"), a parent's parent of ifindex 303 is a port of wires[0]"
        ),
        "{found:#?}"
    );
    stacked.mirrors[0] = Mirror { ingress_ifindex: 303, output_ifindex: 11, rate: 1 };
    stacked.wires.clear();
    let found = texts(&stacked);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("is the parent port of the entry's ingress ifindex 303"), "{found:#?}");
    // A circle, which no kernel has, ends.
    stacked.interfaces.extend([vlan(401, 402), vlan(402, 401)]);
    stacked.mirrors[0] = Mirror { ingress_ifindex: 12, output_ifindex: 401, rate: 1 };
    assert_eq!(texts(&stacked), [""; 0]);
}

/// What only the devices list as a port, a later interface of the same ifindex makes a VLAN unit.
#[test]
fn several_interfaces_with_one_ifindex() {
    let mut twice = snapshot(&[(110, 22), (113, 22)], WIRE);
    let vlan = |ifindex, parent_ifindex| Interface { ifindex, parent_ifindex, vlan_id: 10, ..Interface::default() };
    twice.interfaces.extend([Interface { ifindex: 113, ..Interface::default() }, vlan(113, 11)]);
    let found = admit(&twice);
    assert_eq!(found.reasons.len(), 1, "{found:?}");
    assert!(found.reasons[0].as_str().contains("ifindex 113 is VLAN 10 on ifindex 11 (\"in\")"), "{found:?}");
    twice.mirrors.remove(0);
    let found = admit(&twice);
    assert!(found.accepted() && found.diagnostics.is_empty(), "{found:?}");
    assert_eq!(found.states, [StaticState::Active], "its frames come in on the wire");
    // A port that is its own parent is that port.
    twice.interfaces.extend([vlan(13, 13)]);
    twice.mirrors[0].ingress_ifindex = 13;
    let found = admit(&twice);
    assert!(found.diagnostics[0].message.contains("ifindex 13 receives nothing"), "{found:?}");
}

#[test]
fn bad_wires() {
    refused(&[], &[("w", 11, 11)], &["wires[0]: both ends of \"w\" are ifindex 11 (\"in\")"]);
    refused(
        &[],
        &[("w", 11, 12), ("v", 13, 11)],
        &["wires[1].b_ifindex: ifindex 11 (\"in\") of \"v\" is a port of wires[0] \"w\" already"],
    );
    refused(&[], &[("w", 11, 12), ("w", 13, 14)], &["wires[1].name: \"w\" is the name of wires[0] too"]);
}

#[test]
fn a_port_and_a_vlan_interface_on_it_are_not_both_on_wires() {
    let want = "wires[0].b_ifindex: ifindex 110 (\"in.10\") of \"w\" is on ifindex 11 (\"in\"), a port of wires[1] \"v\" (allowed";
    refused(&[], &[("w", 12, 110), ("v", 11, 22)], &[want]);
    refused(
        &[],
        &[("v", 11, 22), ("w", 111, 12)],
        &["wires[1].a_ifindex: ifindex 111 (\"in.11\") of \"w\" is on ifindex 11 (\"in\"), a port of wires[0] \"v\""],
    );
    refused(&[], &[("w", 11, 110)], &["wires[0].b_ifindex: ifindex 110 (\"in.10\") of \"w\" is on ifindex 11"]);
    assert!(reasons(&[], &[("w", 110, 111), ("v", 220, 12)]).is_empty(), "two VLANs of one port");
    // 301 on 110, which is on 11.
    let mut stacked = snapshot(&[], &[("w", 301, 12), ("v", 11, 22)]);
    stacked.interfaces.push(Interface { ifindex: 301, parent_ifindex: 110, vlan_id: 5, ..Interface::default() });
    let found = admit(&stacked).reasons;
    assert!(matches!(&*found, [one] if one.as_str().contains("ifindex 301 of \"w\" is on ifindex 11")), "{found:#?}");
}

#[test]
fn output_below_a_wire() {
    let wires = &[("w", 12, 110)];
    let below = "is the parent port of ifindex 110 (\"in.10\") of wires[0] \"w\" (allowed: a port on no wire)";
    refused(&[(12, 11)], wires, &[&format!("mirror_configs[0].output_ifindex: ifindex 11 (\"in\") {below}")]);
    // Another VLAN interface leaves by the same port.
    refused(
        &[(12, 111)],
        wires,
        &[&format!(
            "mirror_configs[0].output_ifindex: ifindex 11 (\"in\"), the parent of ifindex 111 (\"in.11\") {below}"
        )],
    );
    refused(
        &[(12, 110)],
        wires,
        &["mirror_configs[0].output_ifindex: ifindex 110 (\"in.10\") is a port of wires[0] \"w\""],
    );
    assert!(reasons(&[(12, 22)], wires).is_empty());
}

#[test]
fn numbers_out_of_range() {
    let mut bad = snapshot(&[(0, 1 << 31)], &[("w", 0, 1 << 31)]);
    bad.version = 0;
    bad.interfaces[0].ifindex = 1 << 31;
    bad.interfaces[0].parent_ifindex = 1 << 31;
    bad.interfaces[0].vlan_id = 4095;
    bad.interfaces[0].native_vlan_id = 4095;
    bad.interfaces[0].mtu = 1 << 31;
    let found: Vec<String> = admit(&bad).reasons.iter().map(ToString::to_string).collect();
    for want in [
        "unsupported snapshot protocol version 0 (want 1 to 4294967295)",
        "interfaces[0].ifindex: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
        "interfaces[0].parent_ifindex: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
        "interfaces[0].vlan_id: 4095 is out of range (allowed: an integer in 0..=4094)",
        "interfaces[0].native_vlan_id: 4095 is out of range (allowed: an integer in 0..=4094)",
        "interfaces[0].mtu: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
        "wires[0].a_ifindex: 0 is out of range (allowed: an integer in 1..=2147483647)",
        "wires[0].b_ifindex: 2147483648 is out of range (allowed: an integer in 1..=2147483647)",
        "mirror_configs[0].ingress_ifindex: 0 is out of range (allowed: an integer in 1..=2147483647)",
        "mirror_configs[0].output_ifindex: 2147483648 is out of range (allowed: an integer in 1..=2147483647)",
    ] {
        assert!(found.iter().any(|f| f == want), "{want}\n{found:#?}");
    }
}

#[test]
fn every_problem_is_listed() {
    let found = reasons(&[(11, 11), (11, 12), (110, 11)], &[("w", 11, 12), ("w", 12, 12)]);
    // Three of the wires; two outputs on the ingress and a duplicate; all three outputs on a wire.
    for want in ["wires[1].name", "both ends", "duplicate ingress", "own ingress", "parent port of the entry's"] {
        assert!(found.iter().any(|f| f.contains(want)), "{want}\n{found:#?}");
    }
    assert_eq!(found.iter().filter(|f| f.contains("(allowed: a port on no wire)")).count(), 3, "{found:#?}");
}

#[test]
fn ingress_on_no_wire_is_only_inactive() {
    let admission = admit(&snapshot(&[(11, 22), (500, 22), (110, 22)], &[("w", 12, 13)]));
    assert!(admission.accepted());
    assert_eq!(admission.states, [StaticState::Inactive(InactiveReason::OnNoWire); 3]);
    assert_eq!(admission.states[0].reason().map(InactiveReason::as_str), Some("ingress on no wire"));
    let found: Vec<String> = admission.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "warning: mirror_configs[0]: ingress on no wire: ifindex 11 (\"in\") receives nothing until a wire has that port",
            "warning: mirror_configs[1]: ingress on no wire: ifindex 500 receives nothing until a wire has that port",
            "warning: mirror_configs[2]: ingress on no wire: ifindex 110 (\"in.10\") (VLAN 10 on ifindex 11 (\"in\")) receives nothing until a wire has that port",
        ]
    );
    assert_eq!(
        serde_json::to_string(&admission.diagnostics[1]).expect("plain data"),
        r#"{"severity":"warning","subject":"mirror_configs[1]","message":"ingress on no wire: ifindex 500 receives nothing until a wire has that port"}"#
    );
}

#[test]
fn linear_in_the_table() {
    // 65,536 entries of which every one is bad in several ways; quadratic work would take minutes.
    let n = 65_536;
    let mirrors: Vec<(u32, u32)> = (0..n).map(|i| (1 + i / 2, 1 + (i + 1) % n / 2)).collect();
    let start = std::time::Instant::now();
    let admission = admit(&snapshot(&mirrors, WIRE));
    assert_eq!(admission.states.len(), n as usize);
    assert!(admission.reasons.len() >= n as usize);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
