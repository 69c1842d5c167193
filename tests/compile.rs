//! The compiler against the reader of images: what may be published is read, and nothing is lost on the way.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::Value;
use shm_layout::record::{META_DISARMED, PlaceRecord, REQUIRED, Record, Role};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::ImageView;
use spanwire::control::compile::{Provenance, compile, decompile, diagnostics};
use spanwire::control::json::{export, parse};
use spanwire::control::wires::add_wires;
use spanwire::control::writer::{ConfigWriter, Standing, publish};
use spanwire::control::{Interface, Mirror, Snapshot, Wire, admit, state};

/// Every `NAME.snapshot.json` of the fixtures.
fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = fs::read_dir(dir).expect("the fixtures are part of the sources");
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".snapshot.json"));
    paths.sort();
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

/// Through an image and back.
fn through(snapshot: &Snapshot) -> Snapshot {
    let image = compile(snapshot, &admit(snapshot), &Provenance::of(b""));
    decompile(&SnapshotView::try_from(image.words()).expect("a reader accepts it"))
}

#[test]
fn golden_mirror_tables_survive() {
    for path in fixtures() {
        let document = fs::read(&path).expect("readable");
        let mut snapshot = parse(&document).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
        add_wires(&mut snapshot, &["11:12".to_owned()], None).expect("known ports");
        assert_eq!(through(&snapshot), snapshot, "{}", path.display());
        let want: Value = serde_json::from_slice(&document).expect("JSON");
        let want = want.get("mirror_configs").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        let found: Value = serde_json::from_str(&export(&through(&snapshot))).expect("JSON");
        assert_eq!(found["mirror_configs"], want, "{}", path.display());
    }
}

/// The kinds of an image's sections, and whether a reader must know each.
fn sections(snapshot: &Snapshot) -> Vec<(u32, bool)> {
    let image = compile(snapshot, &admit(snapshot), &Provenance::of(b""));
    let view = ImageView::parse(image.words()).expect("an image");
    view.sections().map(|s| (s.kind, s.flags & REQUIRED != 0)).collect()
}

#[test]
fn all_that_an_older_dataplane_knows_but_the_diagnostics_is_required() {
    let sections = sections(&Snapshot::default());
    assert_eq!(
        sections,
        [
            (1, true),
            (2, true),
            (3, true),
            (4, true),
            (5, false),
            (8, false),
            (7, false),
            (9, false),
            (10, false),
            (6, true)
        ]
    );
}

/// A dataplane that does not know PLACES takes every snapshot that it mirrors rightly, and no other.
#[test]
fn places_are_required_where_an_older_dataplane_would_mirror_otherwise() {
    let port = |ifindex| Interface { ifindex, ..Interface::default() };
    let vlan = |ifindex, parent_ifindex| Interface { parent_ifindex, vlan_id: 7, ..port(ifindex) };
    let native = |ifindex, native_vlan_id| Interface { native_vlan_id, ..port(ifindex) };
    let (wire, to) = (Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }, 22);
    for (interfaces, ingress, output, required) in [
        (vec![], 11, to, false),
        (vec![port(11), port(11)], 11, to, false),
        (vec![port(11), vlan(110, 11)], 110, to, false),
        (vec![port(110), vlan(110, 11)], 110, to, false),
        (vec![vlan(11, 99)], 11, to, false),
        (vec![native(11, 8), vlan(110, 11)], 110, to, false),
        (vec![native(11, 7), vlan(110, 11)], 11, to, false),
        (vec![native(11, 7), vlan(110, 11)], 110, to, true),
        (vec![vlan(220, 22)], 11, 220, true),
        (vec![port(220), vlan(220, 22)], 11, 220, true),
        (vec![vlan(13, 13)], 13, to, true),
    ] {
        let mirrors = vec![Mirror { ingress_ifindex: ingress, output_ifindex: output, rate: 1 }];
        let snapshot = Snapshot { interfaces, mirrors, wires: vec![wire.clone()], ..Snapshot::default() };
        assert!(admit(&snapshot).accepted());
        assert!(sections(&snapshot).contains(&(PlaceRecord::KIND, required)), "{snapshot:?}");
        assert_eq!(through(&snapshot), snapshot);
    }
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let snapshot = parse(&fs::read(&fixtures()[0]).expect("readable")).expect("accepted");
    let source = Provenance { compiled_at: 1, ..Provenance::of(b"x") };
    let image = || compile(&snapshot, &admit(&snapshot), &source);
    assert_eq!(image(), image());
}

#[test]
fn role_and_flags_stand_over_a_publish() {
    let dir = tempfile::tempdir().expect("a directory");
    let snapshot = Snapshot::default();
    let admission = admit(&snapshot);
    let mut writer = ConfigWriter::open(dir.path()).expect("no other writer");
    let done = writer.restand(|_| Standing { role: Role::Standby, flags: META_DISARMED }).expect("published");
    assert_eq!(done.generation, 1);
    assert!(done.receipt.is_some_and(|receipt| receipt.unkept.is_none()));
    drop(writer);
    assert_eq!(publish(dir.path(), &snapshot, &admission, [7; 32]).expect("published").generation, 2);
    let published = state::published(dir.path()).expect("readable").expect("there");
    let view = published.view().expect("trusted");
    assert_eq!((published.generation, view.meta.digest), (2, [7; 32]));
    assert_eq!((view.meta.role, view.meta.flags), (Role::Standby, META_DISARMED));
    let standing = ConfigWriter::open(dir.path()).expect("no other writer").standing();
    assert_eq!(standing, Standing { role: Role::Standby, flags: META_DISARMED });
}

#[test]
fn what_a_reader_would_refuse_is_not_published() {
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Mirror { ingress_ifindex: 5, output_ifindex: 5, rate: 1 };
    let snapshot = Snapshot { mirrors: vec![mirror], ..Snapshot::default() };
    let error = publish(dir.path(), &snapshot, &admit(&snapshot), [0; 32]).expect_err("not admitted");
    assert!(error.to_string().contains("the output is the ingress"), "{error}");
    assert!(state::published(dir.path()).expect("readable").is_none());
}

fn interface() -> impl Strategy<Value = Interface> {
    let number = || 0..=i32::MAX as u32;
    let vlans = (0..=4094_u16, prop_oneof![Just(0), 0..=4094_u16]);
    let names = (any::<String>(), any::<String>(), any::<bool>());
    (names, number(), number(), vlans, number(), any::<Option<[u8; 6]>>()).prop_map(
        |((name, linux_name, seen), ifindex, parent_ifindex, (vlan_id, native_vlan_id), mtu, mac)| Interface {
            name,
            linux_name,
            ifindex,
            parent_ifindex,
            vlan_id,
            native_vlan_id,
            mtu,
            mac,
            seen,
        },
    )
}

/// Snapshots of distinct ports: ingresses, outputs and the ends of wires never meet.
fn snapshot() -> impl Strategy<Value = Snapshot> {
    let head = (1..=3_u32, any::<u64>(), any::<u64>(), any::<String>());
    let ports = btree_set(1..=i32::MAX as u32, 0..40);
    (head, vec(interface(), 0..6), ports, vec((any::<String>(), any::<u32>()), 20)).prop_map(
        |((version, generation, fib_generation, generated_at), interfaces, ports, texts)| {
            let ports: Vec<u32> = spread(ports);
            let (on_wires, mirrored) = ports.split_at(ports.len() / 2);
            let mirrors = mirrored.chunks_exact(2).zip(&texts);
            let wires = on_wires.chunks_exact(2).zip(&texts).enumerate();
            Snapshot {
                version,
                generation,
                fib_generation,
                generated_at,
                interfaces,
                mirrors: mirrors
                    .map(|(p, &(_, rate))| Mirror { ingress_ifindex: p[0], output_ifindex: p[1], rate })
                    .collect(),
                wires: wires
                    .map(|(i, (p, (name, rate)))| Wire {
                        name: format!("{name}{i}"),
                        a_ifindex: p[0],
                        b_ifindex: p[1],
                        link_loss_forwarding: rate % 2 == 1,
                    })
                    .collect(),
            }
        },
    )
}

/// The set in an order other than that of the numbers: the order of a table must not come from sorting.
fn spread(ports: BTreeSet<u32>) -> Vec<u32> {
    let mut ports: Vec<u32> = ports.into_iter().collect();
    ports.sort_by_key(|port| port.wrapping_mul(0x9e37_79b9));
    ports
}

/// A table of small ifindexes, so that entries collide in every way.
fn crowded() -> impl Strategy<Value = Snapshot> {
    let mirror = (1..16_u32, 1..16_u32).prop_map(|(ingress_ifindex, output_ifindex)| Mirror {
        ingress_ifindex,
        output_ifindex,
        rate: 1,
    });
    let wire = ("[abc]", 1..16_u32, 1..16_u32).prop_map(|(name, a_ifindex, b_ifindex)| Wire {
        name,
        a_ifindex,
        b_ifindex,
        ..Wire::default()
    });
    let interface = (any::<String>(), 1..16_u32, 1..16_u32, 0..3_u16, 0..3_u16).prop_map(
        |(name, ifindex, parent_ifindex, vlan_id, native_vlan_id)| Interface {
            name,
            ifindex,
            parent_ifindex,
            vlan_id,
            native_vlan_id,
            ..Interface::default()
        },
    );
    (vec(interface, 0..4), vec(mirror, 0..4), vec(wire, 0..3)).prop_map(|(interfaces, mirrors, wires)| Snapshot {
        interfaces,
        mirrors,
        wires,
        ..Snapshot::default()
    })
}

proptest! {
    #[test]
    fn decompile_is_the_inverse_of_compile(snapshot in snapshot()) {
        prop_assert_eq!(through(&snapshot), snapshot);
    }

    #[test]
    fn what_is_admitted_a_reader_accepts(snapshot in crowded()) {
        let admission = admit(&snapshot);
        if !admission.accepted() {
            return Ok(());
        }
        let image = compile(&snapshot, &admission, &Provenance::of(b""));
        let view = SnapshotView::try_from(image.words());
        prop_assert!(view.is_ok(), "{:?}: {:?}", view.err(), snapshot);
        let view = view.expect("just seen");
        prop_assert_eq!(diagnostics(&view), admission.diagnostics);
        prop_assert_eq!(decompile(&view), snapshot);
    }
}
