use super::*;
use crate::control::Draft;
use crate::control::link::Links;
use crate::control::model::{Interface, Wire};

fn device(name: &str, ifindex: u32) -> Link {
    let interface = Interface { name: name.into(), ifindex, mtu: 1500, ..Interface::default() };
    Link { interface, up: Some(true), speed: Some(1000), ..Link::default() }
}

/// Everything said of the entries 11 -> 22 and VLAN 10 on 12 -> 22 with these devices.
fn said(rate: u32, links: Option<Vec<Link>>) -> Vec<String> {
    let vlan = Interface { ifindex: 1 << 30, parent_ifindex: 12, vlan_id: 10, ..device("b.10", 0).interface };
    let entry = |ingress_ifindex| Mirror { ingress_ifindex, output_ifindex: 22, rate };
    let snapshot = Snapshot {
        interfaces: vec![device("a", 11).interface, vlan, Interface { mtu: 0, ..device("mon", 22).interface }],
        mirrors: vec![entry(11), entry(1 << 30)],
        wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        ..Snapshot::default()
    };
    let links = links.map(|all| Links { all, place: "among them".into() });
    let admission = Draft::from(snapshot).admit(links.as_ref());
    assert!(admission.accepted(), "nothing is refused for its devices: {:?}", admission.reasons);
    admission.diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn sound_devices_are_worth_no_word() {
    assert_eq!(said(2, Some(vec![device("a", 11), device("b", 12), device("mon", 22)])), Vec::<String>::new());
    assert_eq!(said(1, None), Vec::<String>::new(), "nothing is known of any");
}

#[test]
fn what_is_missing_or_down() {
    assert_eq!(
        said(2, Some(vec![Link { up: Some(false), ..device("a", 11) }])),
        [
            "warning: mirror_configs[0]: ingress down: ifindex 11 (\"a\") has no link; it mirrors nothing until that is up",
            "warning: mirror_configs[0]: port missing: its output, ifindex 22 (\"mon\"), is not among them; it mirrors nothing until that is there",
            "warning: mirror_configs[1]: port missing: its ingress, ifindex 1073741824 (\"b.10\") on ifindex 12, is not among them; it mirrors nothing until that is there",
            "warning: mirror_configs[1]: port missing: its output, ifindex 22 (\"mon\"), is not among them; it mirrors nothing until that is there",
        ]
    );
}

/// The devices of VLAN units are of no account: their frames pass by the ports below.
#[test]
fn a_vlan_unit_is_as_good_as_its_port() {
    let unit = |ifindex, parent_ifindex, mtu| Interface {
        parent_ifindex,
        vlan_id: 10,
        ..Interface { mtu, ..device("", ifindex).interface }
    };
    let entry = |ingress_ifindex, output_ifindex| Mirror { ingress_ifindex, output_ifindex, rate: 1 };
    let snapshot = Snapshot {
        interfaces: vec![unit(110, 11, 1500), unit(220, 22, 1400), unit(1 << 30, 22, 1400)],
        mirrors: vec![entry(110, 220), entry(12, 1 << 30)],
        wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        ..Snapshot::default()
    };
    let said = |all: Vec<Link>| -> Vec<String> {
        let links = Links { all, place: "among them".into() };
        let admission = Draft::from(snapshot.clone()).admit(Some(&links));
        assert!(admission.accepted(), "{:?}", admission.reasons);
        admission.diagnostics.iter().map(ToString::to_string).collect()
    };
    let down = |ifindex| Link { up: Some(false), ..device("", ifindex) };
    let fast = Link { speed: Some(10_000), ..device("", 22) };
    assert_eq!(said(vec![device("", 11), device("", 12), fast.clone(), down(110), down(220)]), [""; 0]);
    let found = said(vec![device("", 11), device("", 12), device("", 22), device("", 1 << 30)]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("output ifindex 22: oversubscribed: its mirror entries may select up to 2000"),
        "{found:#?}"
    );
    let found = said(vec![device("", 11), device("", 12), device("", 220), device("", 1 << 30)]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("its output, ifindex 220 on ifindex 22, is not among them"), "{found:#?}");
    assert!(found[1].contains("its output, ifindex 1073741824 on ifindex 22, is not among them"), "{found:#?}");
}

#[test]
fn what_may_not_keep_up() {
    let small = Interface { mtu: 1400, ..device("mon", 22).interface };
    let slow = Link { interface: small, ..device("mon", 22) };
    let stuck = Link { stuck_offload: Some("rxvlan".into()), speed: Some(10_000), ..device("b", 12) };
    let found = said(10, Some(vec![device("a", 11), stuck, slow]));
    let mtu = |ingress| {
        format!(
            "the MTU 1400 of its output, ifindex 22 (\"mon\"), is smaller than 1500, that of its ingress, ifindex \
             {ingress}: larger frames are not mirrored (mirror_drops_oversize)"
        )
    };
    assert_eq!(
        found,
        [
            format!("warning: mirror_configs[0]: {}", mtu("11 (\"a\")")),
            format!("warning: mirror_configs[1]: {}", mtu("1073741824 (\"b.10\") on ifindex 12")),
            "warning: wires[0] \"w\": the VLAN offload \"rxvlan\" of ifindex 12 cannot be turned off: its wire crosses at tc alone, as elsewhere frames would lose their VLAN tags".to_owned(),
            "warning: output ifindex 22 (\"mon\"): oversubscribed: its mirror entries may select up to 1100 Mbit/s, and it sends 1000 Mbit/s: clones beyond that are dropped".to_owned(),
        ]
    );
    let unknown = Link { speed: None, ..device("mon", 22) };
    assert_eq!(said(0, Some(vec![device("a", 11), device("b", 12), unknown])), Vec::<String>::new());
    assert_eq!(said(0, Some(vec![device("a", 11), device("b", 12), device("mon", 22)])).len(), 1, "0 mirrors all");
}

/// Everything said of the wire 11 - 12 and its mirror to 22 with these devices.
fn of_wire(a: Link, b: Link, mon: Link) -> (Vec<String>, Vec<String>) {
    let snapshot = Snapshot {
        interfaces: vec![Interface { name: "wan".into(), linux_name: "p1".into(), ..device("", 11).interface }],
        mirrors: vec![Mirror { ingress_ifindex: 11, output_ifindex: 22, rate: 0 }],
        wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        ..Snapshot::default()
    };
    let links = Links { all: vec![a, b, mon], place: "over there".into() };
    let admission = Draft::from(snapshot).admit(Some(&links));
    let text = |each: &dyn ToString| each.to_string();
    (admission.reasons.iter().map(|r| text(r)).collect(), admission.diagnostics.iter().map(|d| text(d)).collect())
}

fn called(name: &str, ifindex: u32) -> Link {
    let link = device(name, ifindex);
    Link { interface: Interface { linux_name: name.into(), ..link.interface }, ..link }
}

#[test]
fn what_a_port_should_not_be_or_have() {
    let sound = || (called("p1", 11), called("p2", 12), called("mon", 22));
    let (a, b, mon) = sound();
    assert_eq!(of_wire(a, b, mon), (vec![], vec![]));
    let (a, mut b, mon) = sound();
    b.interface.mtu = 9000;
    b.address = "192.0.2.1".parse().ok();
    b.uppers = vec!["bridge br0".into(), "macvlan mv\u{1b}".into()];
    b.ipv6 = Some(true);
    let mon = Link { ipv6: Some(true), address: "192.0.2.2".parse().ok(), ..mon };
    let a = Link { ipv6: Some(false), ..a };
    assert_eq!(
        of_wire(a, b, mon).1,
        [
            "warning: wires[0] \"w\": the MTUs of its ports differ, 1500 of ifindex 11 (\"wan\") and 9000 of ifindex 12 (\"p2\"): frames too large for the smaller are dropped (rx_drops_oversize)",
            "warning: wires[0] \"w\": ifindex 12 (\"p2\") has the address 192.0.2.1, which nothing reaches: all that it receives crosses the wire",
            "warning: wires[0] \"w\": bridge br0 is on top of ifindex 12 (\"p2\") and gets none of its frames: they cross the wire",
            "warning: wires[0] \"w\": macvlan mv\\u{1b} is on top of ifindex 12 (\"p2\") and gets none of its frames: they cross the wire",
            "warning: wires[0] \"w\": ifindex 12 (\"p2\") has IPv6 on: this host's own neighbour discovery leaves on the wire (sysctl -w net/ipv6/conf/p2/disable_ipv6=1 turns it off)",
            "warning: output ifindex 22 (\"mon\"): ifindex 22 (\"mon\") has IPv6 on: this host's own neighbour discovery leaves among the clones (sysctl -w net/ipv6/conf/mon/disable_ipv6=1 turns it off)",
        ]
    );
}

#[test]
fn a_port_that_is_no_ethernet_device_is_refused() {
    let tun = |name: &str, ifindex| Link { foreign: Some("tun, hardware type 65534".into()), ..called(name, ifindex) };
    let (reasons, _) = of_wire(called("p1", 11), tun("tun0", 12), tun("tun1", 22));
    assert_eq!(
        reasons,
        [
            "wires[0].b_ifindex: ifindex 12 (\"tun0\") is no Ethernet device but tun, hardware type 65534 (allowed: an Ethernet device)",
            "mirror_configs[0].output_ifindex: ifindex 22 (\"tun1\") is no Ethernet device but tun, hardware type 65534 (allowed: an Ethernet device)",
        ]
    );
}

/// Where entries at fault are left out, this is one; a wire is never left out.
#[test]
fn an_entry_whose_output_is_no_ethernet_device_can_be_left_out() {
    let mirrors = vec![Mirror { ingress_ifindex: 11, output_ifindex: 22, rate: 0 }];
    let wires = vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }];
    let tun = |link: Link| Link { foreign: Some("tun, hardware type 65534".into()), ..link };
    let (b, mon) = (called("p2", 12), called("mon", 22));
    for (all, entries) in [(vec![b.clone(), tun(mon.clone())], 0), (vec![tun(b), mon], 1)] {
        let snapshot = Snapshot { mirrors: mirrors.clone(), wires: wires.clone(), ..Snapshot::default() };
        let mut draft = Draft::from(snapshot);
        let admission = draft.admit_or_skip(Some(&Links { all, place: String::new() }));
        assert_eq!((admission.accepted(), draft.snapshot.mirrors.len()), (entries == 0, entries), "{admission:?}");
        let left_out = "mirror_configs[0]: left out: output ifindex 22 (\"mon\") is no Ethernet device";
        assert_eq!(
            admission.diagnostics.iter().any(|d| d.to_string().contains(left_out)),
            entries == 0,
            "{admission:?}"
        );
    }
}

/// The ifindexes of the document are of another boot: the devices are those of the names.
#[test]
fn a_port_is_judged_by_the_device_of_its_name() {
    let row = |name: &str, ifindex| called(name, ifindex).interface;
    let lo = Link { foreign: Some("loopback, hardware type 772".into()), ..called("lo", 1) };
    let said = |links: Vec<Link>| {
        let snapshot = Snapshot {
            interfaces: vec![row("p1", 1), row("p2", 102), Interface { mtu: 0, ..row("m0", 201) }],
            mirrors: vec![Mirror { ingress_ifindex: 1, output_ifindex: 201, rate: 0 }],
            wires: vec![Wire { name: "w".into(), a_ifindex: 1, b_ifindex: 102, ..Wire::default() }],
            ..Snapshot::default()
        };
        let links = Links { all: links, place: "over there".into() };
        let admission = Draft::from(snapshot).admit(Some(&links));
        assert!(admission.accepted(), "{admission:?}");
        admission.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let also = Link { altnames: vec!["p2".into()], ..called("eth2", 202) };
    assert_eq!(said(vec![lo.clone(), called("p1", 201), also.clone(), called("m0", 203)]), [""; 0]);
    let mut a = called("p1", 201);
    a.interface.mtu = 9000;
    a.address = "192.0.2.1".parse().ok();
    // A device that has the ifindex of p2, and one that had it.
    let found = said(vec![lo.clone(), a, also, called("stranger", 102)]);
    assert_eq!(
        found,
        [
            "warning: mirror_configs[0]: port missing: its output, ifindex 201 (\"m0\"), is not over there; it mirrors nothing until that is there",
            "warning: wires[0] \"w\": the MTUs of its ports differ, 9000 of ifindex 1 (\"p1\") and 1500 of ifindex 102 (\"p2\"): frames too large for the smaller are dropped (rx_drops_oversize)",
            "warning: wires[0] \"w\": ifindex 1 (\"p1\") has the address 192.0.2.1, which nothing reaches: all that it receives crosses the wire",
        ]
    );
}

#[test]
fn a_port_with_another_name_than_the_document_has_is_told_of() {
    let (b, mon) = (called("p2", 12), called("mon", 22));
    let other = of_wire(called("p9", 11), b.clone(), mon.clone()).1;
    assert_eq!(
        other,
        ["warning: ifindex 11: it is called \"p9\" over there, the document calls it \"p1\": it may be another device"]
    );
    let also = Link { altnames: vec!["p1".into()], ..called("p9", 11) };
    assert_eq!(of_wire(also, b, mon).1, Vec::<String>::new());
}
