//! The importer against documents of a Go producer, and against anything else.
//!
//! Golden: each `tests/fixtures/NAME.snapshot.json` is a producer's document, `NAME.mirrors.json` the mirror table
//! it must give. Properties: export and parse are inverse, and no input makes the importer panic.
#![allow(clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestCaseError, TestRunner};
use serde_json::{Value, json};
use spanwire::control::json::{export, parse, parse_interfaces};
use spanwire::control::wires::add_wires;
use spanwire::control::{Interface, Mirror, Snapshot, Wire, admit};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The `NAME` of every `NAME.snapshot.json`.
fn fixtures() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("the fixtures are part of the sources")
        .filter_map(|entry| {
            let path: PathBuf = entry.expect("readable").path();
            path.file_name()?.to_str()?.strip_suffix(".snapshot.json").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

fn import(name: &str) -> Snapshot {
    parse(&fixture(&format!("{name}.snapshot.json"))).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

#[test]
fn golden_mirror_tables() {
    for name in fixtures() {
        let snapshot = import(&name);
        let want: Value = serde_json::from_slice(&fixture(&format!("{name}.mirrors.json"))).expect("JSON");
        if want.get("error").is_some() {
            // The producer refused the table and published the snapshot without one.
            assert_eq!(snapshot.mirrors, [], "{name}");
        } else {
            // As text, since the order of the keys is part of the contract.
            let found = serde_json::to_string(&snapshot.mirrors).expect("plain data");
            let want = fixture(&format!("{name}.mirrors.json"));
            assert_eq!(found, String::from_utf8_lossy(&want).trim_end(), "{name}");
        }
    }
}

#[test]
fn golden_heads_and_interfaces() {
    for name in fixtures() {
        let snapshot = import(&name);
        assert_eq!((snapshot.version, snapshot.generation, snapshot.fib_generation), (3, 42, 7), "{name}");
        assert_eq!(snapshot.generated_at, "2026-11-22T08:30:15.123456789Z", "{name}");
        assert_eq!(snapshot.wires, [], "{name}");
        let second = Interface {
            name: "ge-0/0/1.0".into(),
            linux_name: "ge-0-0-1".into(),
            ifindex: 12,
            mtu: 1500,
            mac: Some([0x02, 0xbf, 0x72, 0x01, 0x00, 0x01]),
            ..Interface::default()
        };
        assert_eq!(snapshot.interfaces.len(), 3, "{name}");
        assert_eq!(snapshot.interfaces[1], second, "{name}");
        assert_eq!(snapshot.find_interface("ge-0/0/1"), Some(&second), "{name}");
    }
}

#[test]
fn golden_interface_list() {
    let interfaces = parse_interfaces(&fixture("two-instances.interfaces.json")).expect("accepted");
    assert_eq!(interfaces, import("two-instances").interfaces);
}

#[test]
fn export_gives_back_the_same_list() {
    for name in fixtures() {
        let snapshot = import(&name);
        let text = export(&snapshot);
        assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&snapshot), "{name}");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let want: Value = serde_json::from_slice(&fixture(&format!("{name}.snapshot.json"))).expect("JSON");
        let want = want.get("mirror_configs").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(document["mirror_configs"], want, "{name}");
    }
}

#[test]
fn a_fixture_with_a_wire_is_admitted() {
    let mut snapshot = import("two-instances");
    assert_eq!(admit(&snapshot).diagnostics.len(), 3, "no wire at all, and both entries on none");
    add_wires(&mut snapshot, &["ge-0/0/0.0:12".to_owned()], None).expect("known ports");
    let admission = admit(&snapshot);
    assert!(admission.accepted(), "{:?}", admission.reasons);
    assert_eq!(admission.diagnostics, []);
}

#[test]
fn a_truncated_document_is_never_accepted() {
    let bytes = fixture("set-syntax.snapshot.json");
    let end = bytes.trim_ascii_end().len();
    for len in 1..end {
        let reasons = parse(&bytes[..len]).expect_err("truncated");
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].as_str().contains("truncated"), "{len}: {reasons:?}");
    }
}

/// Numbers as JSON may have them, strings with everything in them, and the keys the importer knows.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => prop::sample::select(vec![
            "version", "generation", "fib_generation", "generated_at", "interfaces", "mirror_configs", "wires",
            "name", "linux_name", "ifindex", "parent_ifindex", "vlan_id", "native_vlan_id", "mtu", "hardware_addr",
            "ingress_ifindex", "output_ifindex", "rate", "a_ifindex", "b_ifindex", "mirror_exclusions", "instance", "input",
            "reason",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..40_u32).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key.clone(), inner), 0..8).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{2}-[0-9]/[0-9]/[0-9](\\.[0-9])?", any::<String>()]
}

fn interface() -> impl Strategy<Value = Interface> {
    let number = || 0..=i32::MAX as u32;
    let vlans = (0..=4094_u16, 0..=4094_u16);
    (name(), name(), number(), number(), vlans, number(), any::<Option<[u8; 6]>>()).prop_map(
        |(name, linux_name, ifindex, parent_ifindex, (vlan_id, native_vlan_id), mtu, mac)| Interface {
            name,
            linux_name,
            ifindex,
            parent_ifindex,
            vlan_id,
            native_vlan_id,
            mtu,
            mac,
            ..Interface::default()
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let ifindex = || 1..=i32::MAX as u32;
    let mirror = (ifindex(), ifindex(), any::<u32>()).prop_map(|(ingress_ifindex, output_ifindex, rate)| Mirror {
        ingress_ifindex,
        output_ifindex,
        rate,
    });
    // A wire without a name is given one, so only named wires come back equal.
    let wire =
        (name(), ifindex(), ifindex(), any::<bool>()).prop_map(|(name, a_ifindex, b_ifindex, link_loss_forwarding)| {
            Wire { name: format!("w{name}"), a_ifindex, b_ifindex, link_loss_forwarding }
        });
    let generated_at = prop_oneof![
        Just(String::new()),
        "20[0-9]{2}-0[1-9]-[01][1-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])",
    ];
    let head = (1..=u32::MAX, any::<u64>(), any::<u64>(), generated_at);
    (head, vec(interface(), 0..6), vec(mirror, 0..12), vec(wire, 0..4)).prop_map(
        |((version, generation, fib_generation, generated_at), interfaces, mirrors, wires)| Snapshot {
            version,
            generation,
            fib_generation,
            generated_at,
            interfaces,
            mirrors,
            wires,
        },
    )
}

/// A table of small ifindexes, so that entries collide in every way.
fn crowded_snapshot() -> impl Strategy<Value = Snapshot> {
    let mirror = (0..8_u32, 0..8_u32).prop_map(|(ingress_ifindex, output_ifindex)| Mirror {
        ingress_ifindex,
        output_ifindex,
        rate: 1,
    });
    let wire = ("[ab]", 0..8_u32, 0..8_u32).prop_map(|(name, a_ifindex, b_ifindex)| Wire {
        name,
        a_ifindex,
        b_ifindex,
        ..Wire::default()
    });
    let interface = (name(), 0..8_u32, 0..8_u32, 0..3_u16).prop_map(|(name, ifindex, parent_ifindex, vlan_id)| {
        Interface { name, ifindex, parent_ifindex, vlan_id, ..Interface::default() }
    });
    (vec(interface, 0..6), vec(mirror, 0..6), vec(wire, 0..3)).prop_map(|(interfaces, mirrors, wires)| Snapshot {
        interfaces,
        mirrors,
        wires,
        ..Snapshot::default()
    })
}

/// Nothing of an admitted table comes back to it; whether there was such a table.
fn feeds_nothing_back(snapshot: &Snapshot) -> Result<bool, TestCaseError> {
    let admission = admit(snapshot);
    prop_assert_eq!(admission.states.len(), snapshot.mirrors.len());
    if !admission.accepted() {
        return Ok(false);
    }
    let parent = |n: u32| snapshot.interface_by_index(n).and_then(Interface::vlan).map(|(port, _)| port);
    for (i, mirror) in snapshot.mirrors.iter().enumerate() {
        let output = mirror.output_ifindex;
        for (j, other) in snapshot.mirrors.iter().enumerate() {
            prop_assert!(i == j || mirror.ingress_ifindex != other.ingress_ifindex);
            prop_assert!(output != other.ingress_ifindex && Some(output) != parent(other.ingress_ifindex));
        }
        for wire in &snapshot.wires {
            prop_assert!(output != wire.a_ifindex && output != wire.b_ifindex);
        }
    }
    Ok(!snapshot.mirrors.is_empty())
}

#[test]
fn an_admitted_table_feeds_nothing_back() {
    let (admitted, cases) = (Cell::new(0), 4096);
    let mut runner = TestRunner::new(Runs { cases, ..Runs::with_source_file(file!()) });
    let ended = runner.run(&crowded_snapshot(), |snapshot| {
        admitted.set(admitted.get() + u32::from(feeds_nothing_back(&snapshot)?));
        Ok(())
    });
    assert_eq!(ended, Ok(()), "{ended:#?}");
    assert!(admitted.get() > cases / 50, "{} of {cases} were admitted", admitted.get());
}

/// Everything a caller may do with bytes, whatever they are.
fn drive(bytes: &[u8]) {
    let _ = parse_interfaces(bytes);
    match parse(bytes) {
        Ok(snapshot) => {
            let admission = admit(&snapshot);
            assert_eq!(admission.states.len(), snapshot.mirrors.len());
        }
        Err(reasons) => {
            assert!(!reasons.is_empty(), "an error has a reason");
            for reason in &reasons {
                let text = reason.as_str();
                assert!(!text.is_empty() && !text.chars().any(char::is_control), "one line each: {text:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn parse_reads_back_what_export_wrote(snapshot in snapshot()) {
        prop_assert_eq!(parse(export(&snapshot).as_bytes()), Ok(snapshot));
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..512)) {
        drive(&bytes);
    }

    #[test]
    fn any_json_is_survived(value in any_json()) {
        drive(value.to_string().as_bytes());
    }

    #[test]
    fn any_entries_are_survived(interfaces in vec(any_json(), 0..3), mirrors in vec(any_json(), 0..3), wires in any_json()) {
        let document = json!({"version": 3, "interfaces": interfaces, "mirror_configs": mirrors, "wires": wires});
        drive(document.to_string().as_bytes());
    }

    #[test]
    fn mutated_fixtures_are_survived(
        name in prop::sample::select(fixtures()),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8),
    ) {
        let mut bytes = fixture(&format!("{name}.snapshot.json"));
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                // Digits and punctuation keep the document JSON more often, and reach the field rules.
                _ => bytes[at] = b"0123456789,:{}[]\"-.e"[usize::from(byte) % 20],
            }
        }
        drive(&bytes);
    }

    #[test]
    fn any_wire_argument_is_survived(argument in prop_oneof![any::<String>(), "[0-9a/:.-]{0,8}"]) {
        let mut snapshot = import("two-instances");
        let before = snapshot.clone();
        match add_wires(&mut snapshot, std::slice::from_ref(&argument), None) {
            Ok(_) => prop_assert_eq!(&snapshot.wires[0].name, &argument),
            Err(reasons) => prop_assert!(!reasons.is_empty() && snapshot == before),
        }
    }
}
