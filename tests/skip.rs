//! `--on-ambiguous skip`: only the entries at fault are left out, each with its reason.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use spanwire::control::json::{export, parse, parse_draft, parse_interfaces};
use spanwire::control::model::{Origin, Written};
use spanwire::control::source::{Ports, read};
use spanwire::control::{Draft, Interface, Link, Links, Mirror, OnAmbiguous, Snapshot, Wire, admit};

const WIRES: [(u32, u32); 1] = [(11, 12)];

/// Interfaces in (11), peer (12), mon (22), and on them the VLAN interfaces in.10 (110), again (112) and mon.7 (220).
fn snapshot(mirrors: &[(u32, u32)]) -> Snapshot {
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
            interface("again", 112, 11, 10),
            interface("mon.7", 220, 22, 7),
        ],
        mirrors: mirrors.iter().map(|&(ingress, output)| mirror(ingress, output)).collect(),
        wires: WIRES.map(|(a, b)| Wire { name: format!("{a}"), a_ifindex: a, b_ifindex: b, ..Wire::default() }).into(),
        ..Snapshot::default()
    }
}

fn mirror(ingress_ifindex: u32, output_ifindex: u32) -> Mirror {
    Mirror { ingress_ifindex, output_ifindex, rate: 1 }
}

/// What is said of each entry that is left out: its place, and why.
fn left_out(draft: &Draft) -> Vec<(String, String)> {
    let told = draft.diagnostics.iter();
    told.filter_map(|d| Some((d.subject.clone(), d.message.strip_prefix("left out: ")?.to_owned()))).collect()
}

/// The entries at `stay` stay of `mirrors`, and of the others is said what `why` begins with.
#[track_caller]
fn skips(mirrors: &[(u32, u32)], stay: &[usize], why: &[&str]) {
    let mut draft = Draft::from(snapshot(mirrors));
    let admission = draft.admit_or_skip(None);
    assert!(admission.accepted(), "{:?}", admission.reasons);
    let want: Vec<Mirror> = stay.iter().map(|&i| mirror(mirrors[i].0, mirrors[i].1)).collect();
    let out = left_out(&draft);
    assert_eq!(draft.snapshot.mirrors, want, "{out:#?}");
    let gone = (0..mirrors.len()).filter(|i| !stay.contains(i)).map(|i| format!("mirror_configs[{i}]"));
    assert_eq!(out.iter().map(|(subject, _)| subject.clone()).collect::<Vec<_>>(), gone.collect::<Vec<_>>());
    assert_eq!(out.len(), why.len(), "{out:#?}");
    for ((_, found), want) in out.iter().zip(why) {
        assert!(found.starts_with(want), "{found}\nwant: {want}");
    }
    assert_eq!(admission.diagnostics[..draft.diagnostics.len()], draft.diagnostics);
}

#[test]
fn a_sound_table_is_left_alone() {
    skips(&[(11, 22), (12, 22), (110, 22)], &[0, 1, 2], &[]);
    skips(&[], &[], &[]);
}

#[test]
fn of_one_ingress_the_first_stays() {
    skips(
        &[(12, 22), (11, 22), (11, 23), (12, 22)],
        &[0, 1],
        &[
            "duplicate ingress ifindex 11 (\"in\"), first in mirror_configs[1]",
            "duplicate ingress ifindex 12 (\"peer\"), first in mirror_configs[0]",
        ],
    );
    skips(
        &[(110, 22), (112, 23)],
        &[0],
        &["duplicate ingress: ifindex 112 (\"again\") is VLAN 10 on ifindex 11 (\"in\"), as that of mirror_configs[0]"],
    );
    // One that is wrong by itself has no ingress to keep.
    skips(&[(11, 11), (11, 22)], &[1], &["output ifindex 11 (\"in\") is the entry's own ingress"]);
}

#[test]
fn what_is_wrong_by_itself_goes_alone() {
    skips(
        &[(11, 22), (12, 11), (22, 220), (0, 22), (13, 1 << 31), (14, 23)],
        &[0, 5],
        &[
            "output ifindex 11 (\"in\") is a port of wires[0] \"11\"",
            "output ifindex 22 (\"mon\"), the parent of ifindex 220 (\"mon.7\") is the entry's own ingress",
            "ingress_ifindex: 0 is out of range (allowed: an integer in 1..=2147483647)",
            "output_ifindex: 2147483648 is out of range (allowed: an integer in 1..=2147483647)",
        ],
    );
}

#[test]
fn of_a_chain_goes_as_little_as_can() {
    // What mirrors a monitor port, and not all that the port is for.
    skips(
        &[(22, 33), (11, 22), (12, 22), (110, 22)],
        &[1, 2, 3],
        &["ingress ifindex 22 (\"mon\") receives the clones of mirror_configs[1], a mirror chain"],
    );
    // What sends to a port on which more is mirrored.
    skips(
        &[(1, 50), (50, 22), (2, 22)],
        &[0, 2],
        &["ingress ifindex 50 receives the clones of mirror_configs[0], a mirror chain"],
    );
    let mut vlans = snapshot(&[(1, 11), (110, 22), (111, 22)]);
    vlans.wires.clear();
    vlans.interfaces.push(Interface { ifindex: 111, parent_ifindex: 11, vlan_id: 11, ..Interface::default() });
    let mut draft = Draft::from(vlans);
    assert!(draft.admit_or_skip(None).accepted());
    assert_eq!(draft.snapshot.mirrors, [mirror(110, 22), mirror(111, 22)]);
    assert!(left_out(&draft)[0].1.starts_with(
        "output ifindex 11 (\"in\") is the parent port of the ingress of mirror_configs[1], a mirror chain"
    ));
    // Of two alike, the first stays.
    skips(&[(1, 2), (2, 1)], &[0], &["output ifindex 1 is the ingress of mirror_configs[0], a mirror chain"]);
    // One that nothing is left against comes back.
    skips(
        &[(1, 2), (2, 3), (3, 4), (4, 5)],
        &[0, 2],
        &[
            "ingress ifindex 2 receives the clones of mirror_configs[0]",
            "ingress ifindex 4 receives the clones of mirror_configs[2]",
        ],
    );
    skips(
        &[(1, 2), (2, 3), (3, 1)],
        &[0],
        &[
            "ingress ifindex 2 receives the clones of mirror_configs[0]",
            "output ifindex 1 is the ingress of mirror_configs[0]",
        ],
    );
}

#[test]
fn a_duplicate_comes_back_where_the_first_is_left_out() {
    // The first of ingress 33 mirrors a monitor port of two, the second does not.
    skips(
        &[(33, 12), (33, 22), (1, 33)],
        &[1],
        &[
            "output ifindex 12 (\"peer\") is a port of wires[0]",
            "output ifindex 33 is the ingress of mirror_configs[1], a mirror chain",
        ],
    );
    skips(
        &[(33, 40), (33, 22), (40, 50), (40, 51), (41, 33), (42, 33)],
        &[2, 4, 5],
        &[
            "ingress ifindex 33 receives the clones of mirror_configs[4]",
            "ingress ifindex 33 receives the clones of mirror_configs[4]",
            "duplicate ingress ifindex 40, first in mirror_configs[2]",
        ],
    );
}

#[test]
fn what_is_not_of_the_table_refuses_it_all() {
    let bad = [
        Snapshot {
            wires: vec![Wire { name: "w".into(), a_ifindex: 1, b_ifindex: 1, ..Wire::default() }],
            ..snapshot(&[(1, 1)])
        },
        Snapshot { interfaces: vec![Interface { vlan_id: 4095, ..Interface::default() }], ..snapshot(&[(1, 1)]) },
        Snapshot { version: 0, ..snapshot(&[(1, 1)]) },
    ];
    for snapshot in bad {
        let mut draft = Draft::from(snapshot.clone());
        assert_eq!(draft.admit_or_skip(None), admit(&snapshot));
        assert_eq!(draft, Draft::from(snapshot));
    }
}

#[test]
fn more_entries_than_there_is_room_for() {
    let n = spanwire::counters::MAX_ENTRIES as u32;
    let many: Vec<(u32, u32)> = (0..n + 2).map(|i| (1000 + i, 22)).collect();
    let mut draft = Draft::from(snapshot(&many));
    assert!(draft.admit_or_skip(None).accepted());
    assert!(draft.snapshot.mirrors == snapshot(&many[..n as usize]).mirrors);
    assert_eq!(left_out(&draft).len(), 2);
    assert_eq!(left_out(&draft)[0].1, "the table is full (allowed: at most 65536 entries)");
}

/// Duplicates, a chain, loops, outputs that are the ingress, and a port of many that is mirrored: 65,536 entries, at
/// which quadratic work would take minutes.
#[test]
fn linear_in_the_table() {
    let n = 65_536 / 4;
    let parts: [(usize, Vec<(u32, u32)>); 4] = [
        (1, (0..n).map(|i| (50, 100 + i % 7)).collect()),
        (n as usize / 2, (0..n).map(|i| (100_000 + i, 100_001 + i)).collect()),
        (n as usize / 2, (0..n).map(|i| (200_000 + i, 200_000 + (i + n / 2) % n)).collect()),
        (n as usize - 1, (0..n).map(|i| if i == n / 2 { (51, 52) } else { (300_000 + i, 51) }).collect()),
    ];
    let table: Vec<(u32, u32)> = parts.iter().flat_map(|(_, part)| part.clone()).collect();
    let stay = parts.iter().map(|(stay, _)| stay).sum();
    let start = Instant::now();
    let mut draft = Draft::from(snapshot(&table));
    assert!(draft.admit_or_skip(None).accepted());
    assert_eq!((draft.snapshot.mirrors.len(), left_out(&draft).len()), (stay, table.len() - stay));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn a_document_keeps_its_places_and_its_other_entries() {
    let document = r#"{"version":43,"wires":[{"name":"w","a_ifindex":11,"b_ifindex":12}],"mirror_configs":[
        {"ingress_ifindex":11,"output_ifindex":22,"rate":4294967296},
        {"ingress_ifindex":0,"output_ifindex":22,"rate":-1},
        {"ingress_ifindex":11,"output_ifindex":22,"rate":5},
        {"ingress_ifindex":13,"output_ifindex":12,"rate":5},
        {"ingress_ifindex":14,"output_ifindex":22,"rate":7}]}"#;
    let range = "out of range (allowed: an integer in";
    let unfit = [
        format!("mirror_configs[0].rate: 4294967296 is {range} 0..=4294967295)"),
        format!("mirror_configs[1].ingress_ifindex: 0 is {range} 1..=2147483647)"),
        format!("mirror_configs[1].rate: -1 is {range} 0..=4294967295)"),
    ];
    let strings = |reasons: &[spanwire::control::Reason]| reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(strings(&parse(document.as_bytes()).expect_err("out of range")), unfit);
    let draft = parse_draft(document.as_bytes(), None).expect("but for three numbers");
    for on_ambiguous in [OnAmbiguous::Reject, OnAmbiguous::Omit] {
        let reasons = draft.clone().admit_or(on_ambiguous, None, |_| Ok(())).reasons;
        assert_eq!(strings(&reasons)[..3], unfit, "a broken document is refused: {on_ambiguous:?}");
        assert!(reasons[3].as_str().starts_with("mirror_configs[3].output_ifindex: ifindex 12 is a port of wires[0]"));
    }
    let mut skipped = draft;
    let admission = skipped.admit_or(OnAmbiguous::Skip, None, |_| Ok(()));
    assert!(admission.accepted());
    let said: Vec<String> = admission.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            format!("warning: mirror_configs[0]: left out: {}", unfit[0]),
            format!("warning: mirror_configs[1]: left out: {}", unfit[1]),
            format!("warning: mirror_configs[1]: left out: {}", unfit[2]),
            "warning: mirror_configs[3]: left out: output ifindex 12 is a port of wires[0] \"w\" (allowed: a port on no wire)".to_owned(),
            "warning: mirror_configs[4]: ingress on no wire: ifindex 14 receives nothing until a wire has that port".to_owned(),
        ]
    );
    let rates: Vec<u32> = skipped.snapshot.mirrors.iter().map(|m| m.rate).collect();
    assert_eq!((rates, skipped.rows.as_slice()), (vec![5, 7], &[2, 4][..]));
    assert_eq!(parse(export(&skipped.snapshot).as_bytes()).expect("an export").mirrors, skipped.snapshot.mirrors);
    // Another type is no entry at all, and refuses the document.
    for bad in ["\"rate\":5.5", "\"rate\":\"5\"", "\"rate\":null", "\"late\":5"] {
        let reasons = parse_draft(document.replacen("\"rate\":5", bad, 1).as_bytes(), None).expect_err(bad);
        assert_eq!(reasons.len(), 4, "{reasons:?}");
    }
    let wire = document.replace("\"a_ifindex\":11", "\"a_ifindex\":0");
    assert_eq!(parse_draft(wire.as_bytes(), None).expect_err("no wire").len(), 4);
    let many = vec![r#"{"ingress_ifindex":0,"output_ifindex":1,"rate":1}"#; 1001].join(",");
    let many = parse_draft(format!("{{\"mirror_configs\":[{many}]}}").as_bytes(), None).expect_err("too many");
    assert_eq!(many.len(), 1001, "with one that says that there are more");
}

/// The devices eth0 (3), eth1 (4), eth2 (5) and mon (9).
fn devices() -> Links {
    let device = |(name, ifindex): (&str, u32)| {
        let (name, linux_name) = (name.to_owned(), name.to_owned());
        Link { interface: Interface { name, linux_name, ifindex, ..Interface::default() }, ..Link::default() }
    };
    let all = [("eth0", 3), ("eth1", 4), ("eth2", 5), ("mon", 9)].map(device).into();
    Links { all, place: String::new() }
}

/// What stays of a Junos configuration with the wire eth0-eth1, and what is said of it.
#[track_caller]
fn junos(text: &str) -> (Vec<Mirror>, Vec<String>) {
    let wire = "security forwarding-options secure-wire w interface [ eth0 eth1 ];";
    let mut draft = read(format!("{text}\n{wire}").as_bytes(), Ports::Live(&devices()), &[]).expect("a configuration");
    assert!(!draft.clone().admit(None).accepted(), "something is wrong with it");
    let admission = draft.admit_or_skip(None);
    assert!(admission.accepted(), "{:?}", admission.reasons);
    (draft.snapshot.mirrors, admission.diagnostics.iter().map(ToString::to_string).collect())
}

#[test]
fn a_bad_instance_goes_and_the_others_stay() {
    let good = "instance b { input { rate 7; ingress { interface eth1; } } output { interface mon; } }";
    let entry = Mirror { ingress_ifindex: 4, output_ifindex: 9, rate: 7 };
    let allowed = "(allowed: an integer in 0..=4294967295)";
    for (rest, why) in [
        ("input { rate ten; @ } output { interface mon; }", "rate \"ten\" (line 1 column 65) is not an integer"),
        ("input { rate 5; rate 6; @ } output { interface mon; }", "two rates, \"5\" (line 1 column 65) and \"6\""),
        ("input { rate -5; @ } output { interface mon; }", "rate \"-5\" (line 1 column 65) is negative"),
        (
            "input { rate 4294967296; @ } output { interface mon; }",
            "rate \"4294967296\" (line 1 column 65) is out of range",
        ),
        ("input { @ } output { interface [ mon eth2 ]; }", "two output interfaces, \"mon\""),
        ("input { @ } output { interface mon extra; }", "interface \"mon\" (line 1"),
    ] {
        let a = format!("instance a {{ {} }}", rest.replace('@', "ingress { interface [ eth0 eth2 ]; }"));
        let (stay, said) = junos(&format!("forwarding-options {{ port-mirroring {{ {a} {good} }} }}"));
        assert_eq!(stay, [entry], "{said:#?}");
        assert_eq!(said.len(), 2, "{said:#?}");
        for (said, ingress) in said.iter().zip(["eth0", "eth2"]) {
            let begins = format!("warning: instance \"a\" ingress \"{ingress}\" (line 1 column ");
            assert!(said.starts_with(&begins), "{said}");
            assert!(said.contains(&format!("left out: instance \"a\" (line 1 column 48): {why}")), "{said}");
        }
        if rest.contains("rate") {
            assert!(said[0].ends_with(allowed), "{said:#?}");
        }
    }
    // Without an entry the fault is told by itself.
    let none = "instance a { input { rate ten; } output { interface mon; } }";
    let (stay, said) = junos(&format!("forwarding-options {{ port-mirroring {{ {none} {good} }} }}"));
    assert_eq!(stay, [entry]);
    assert!(
        said.iter()
            .any(|said| said.starts_with("warning: mirror_configs: instance \"a\" (line 1 column 48): rate \"ten\"")),
        "{said:#?}"
    );
}

#[test]
fn the_first_instance_by_name_keeps_the_ingress() {
    let instance = |name: &str, ingress: &str, output: &str| {
        format!("instance {name} {{ input {{ ingress {{ interface {ingress}; }} }} output {{ interface {output}; }} }}")
    };
    let [z, b, c] = [instance("z", "eth2", "mon"), instance("b", "eth2.0", "mon"), instance("c", "mon", "eth1")];
    let (stay, said) = junos(&format!("forwarding-options {{ port-mirroring {{ {z} {b} {c} }} }}"));
    assert_eq!(stay, [Mirror { ingress_ifindex: 5, output_ifindex: 9, rate: 0 }]);
    assert!(
        said[0].starts_with("warning: instance \"c\" ingress \"mon\"")
            && said[0].contains("left out: output ifindex 4 (\"eth1\") is a port of wires[0] \"w\""),
        "{said:#?}"
    );
    assert!(said[1].starts_with("warning: instance \"z\" ingress \"eth2\""), "{said:#?}");
    assert!(said[1].contains("left out: duplicate port-mirroring ingress ifindex 5 in instances \"b\" and \"z\", first as instance \"b\" ingress \"eth2.0\""), "{said:#?}");
}

#[test]
fn a_unit_of_an_unusable_vlan_takes_its_entries_along() {
    let text = "interfaces { eth2 { unit 7 { vlan-id 5000; } } }
        forwarding-options { port-mirroring { instance a { input { ingress { interface [ eth2.7 eth0 ]; } } output { interface mon; } } } }";
    let (stay, said) = junos(text);
    assert_eq!(stay, [Mirror { ingress_ifindex: 3, output_ifindex: 9, rate: 0 }]);
    assert!(said.iter().any(|said| said.contains("unit \"eth2.7\": vlan-id \"5000\"")), "{said:#?}");
    // In a list that stands for the devices it may be named all the same.
    let listed = br#"[{"name":"eth0","ifindex":3},{"name":"eth2.7","ifindex":70,"parent_ifindex":5,"vlan_id":6},{"name":"mon","ifindex":9}]"#;
    let interfaces = parse_interfaces(listed).expect("a list");
    let all = interfaces.into_iter().map(|interface| Link { interface, ..Link::default() }).collect();
    let mut draft =
        read(text.as_bytes(), Ports::Listed(&Links { all, place: String::new() }), &[]).expect("a configuration");
    assert_eq!(draft.snapshot.mirrors.len(), 2);
    assert!(draft.admit_or_skip(None).accepted());
    assert_eq!(draft.snapshot.mirrors, stay);
    assert!(left_out(&draft)[0].1.starts_with("unit \"eth2.7\": vlan-id \"5000\""), "{:?}", draft.diagnostics);
}

/// A table of few ifindexes, so that entries collide in every way, some of them out of range.
fn crowded() -> impl Strategy<Value = Snapshot> {
    let ifindex = || prop_oneof![20 => 1..10_u32, 1 => Just(0), 1 => Just(1 << 31)];
    let mirror = (ifindex(), ifindex(), any::<u32>()).prop_map(|(ingress_ifindex, output_ifindex, rate)| Mirror {
        ingress_ifindex,
        output_ifindex,
        rate,
    });
    let wire = ("[abc]", 0..16_u32, 0..16_u32).prop_map(|(name, a_ifindex, b_ifindex)| Wire {
        name,
        a_ifindex,
        b_ifindex,
        ..Wire::default()
    });
    let interface = (1..10_u32, 0..10_u32, 0..3_u16).prop_map(|(ifindex, parent_ifindex, vlan_id)| Interface {
        ifindex,
        parent_ifindex,
        vlan_id,
        ..Interface::default()
    });
    (vec(interface, 0..6), vec(mirror, 0..14), vec(wire, 0..3)).prop_map(|(interfaces, mirrors, wires)| Snapshot {
        interfaces,
        mirrors,
        wires,
        ..Snapshot::default()
    })
}

/// Where the entries of a table come from: few instances, or nothing of some.
fn origins() -> impl Strategy<Value = Vec<Option<Origin>>> {
    let origin =
        "[ab]".prop_map(|instance| Origin { instance, ingress: Written::default(), output: Written::default() });
    vec(proptest::option::of(origin), 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_stays_is_admitted_and_no_more_could(snapshot in crowded(), origins in origins()) {
        let origins: Vec<_> = origins.into_iter().take(snapshot.mirrors.len()).collect();
        let draft = Draft { origins, ..Draft::from(snapshot.clone()) };
        let before = draft.admit(None);
        let mut skipped = draft.clone();
        let admission = skipped.admit_or_skip(None);
        let without = admit(&Snapshot { mirrors: Vec::new(), ..snapshot.clone() });
        if before.accepted() || !without.accepted() {
            prop_assert_eq!(&admission, &before);
            prop_assert_eq!(skipped, draft);
            return Ok(());
        }
        prop_assert!(admission.accepted(), "{:?}", admission.reasons);
        prop_assert_eq!(admission.states.len(), skipped.snapshot.mirrors.len());
        // A part of the table, in its order, and all else as it was.
        prop_assert!(skipped.rows.is_sorted_by(|a, b| a < b));
        let part: Vec<Mirror> = skipped.rows.iter().map(|&row| snapshot.mirrors[row]).collect();
        prop_assert_eq!(&skipped.snapshot, &Snapshot { mirrors: part, ..snapshot.clone() });
        prop_assert!(skipped.rows.len() < snapshot.mirrors.len());
        for (i, &row) in skipped.rows.iter().enumerate() {
            prop_assert_eq!(skipped.origins.get(i), draft.origins.get(row));
        }
        // Each entry that is missing has a reason, and could not stay beside the others.
        let told = left_out(&skipped);
        let missing: Vec<usize> = (0..snapshot.mirrors.len()).filter(|row| !skipped.rows.contains(row)).collect();
        prop_assert_eq!(told.len(), missing.len());
        for (row, (subject, why)) in missing.into_iter().zip(told) {
            prop_assert!(subject.starts_with(&format!("mirror_configs[{row}]")) && !why.is_empty(), "{}: {}", subject, why);
            let rows = skipped.rows.iter().copied().chain([row]);
            let more = Snapshot { mirrors: rows.map(|row| snapshot.mirrors[row]).collect(), ..snapshot.clone() };
            prop_assert!(!admit(&more).accepted(), "{} could have stayed: {}", subject, why);
        }
        // Once more changes nothing.
        let again = skipped.clone();
        prop_assert_eq!(skipped.admit_or_skip(None), admission);
        prop_assert_eq!(skipped, again);
    }
}

/// However many are left out for one reason, each is named.
#[test]
fn every_entry_that_is_left_out_is_named() {
    const LEFT_OUT: u32 = 300;
    let own: Vec<(u32, u32)> = (0..LEFT_OUT).map(|i| (1000 + i, 1000 + i)).collect();
    let mut draft = Draft::from(snapshot(&own));
    let admission = draft.admit_or_skip(None);
    assert!(admission.accepted());
    for i in 0..LEFT_OUT {
        let of_entry = format!("mirror_configs[{i}]");
        let told = admission.diagnostics.iter().filter(|told| told.subject == of_entry).count();
        assert_eq!(told, 1, "{of_entry}");
    }
}
