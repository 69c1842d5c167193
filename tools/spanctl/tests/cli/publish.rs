//! What is accepted is published, and comes back.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use shm_layout::record::{META_DISARMED, Role};
use spanwire::control::writer::{ConfigWriter, Standing};

use crate::support::{Fake, Place, SNAPSHOT, command, ended, fixtures, has_keys, run};

#[test]
fn every_fixture_comes_back() {
    let place = Place::new();
    for (i, path) in fixtures().iter().enumerate() {
        let file = path.to_str().unwrap();
        let want: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let want = want.get("mirror_configs").cloned().unwrap_or_else(|| json!([]));
        let said = place.run(&["import", file, "--wire", "ge-0/0/0.0:12"]).code(0).stdout;
        let n = want.as_array().unwrap().len();
        assert_eq!(said, format!("published generation {}: {n} mirror entries, 1 wire\n", i + 1));
        let export = place.run(&["export"]).code(0);
        assert_eq!(export.json()["mirror_configs"], want, "{file}");
        assert_eq!(export.json()["wires"], json!([{"name": "ge-0/0/0.0:12", "a_ifindex": 11, "b_ifindex": 12}]));
        // An export imported is the same configuration again.
        let again = Place::new();
        again.feed(export.stdout.as_bytes(), &["import", "-"]).code(0);
        assert_eq!(again.run(&["export"]).stdout, export.stdout, "{file}");
    }
}

#[test]
fn what_a_newer_producer_left_out_is_shown() {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/producer-43");
    for (i, (name, version, entries, left_out)) in [
        (
            "01-v43-full-shape",
            43,
            "2 mirror entries",
            &[
                "ingress \"ge-0/0/7.0\" is left out by the producer: input interface ge-0/0/7.0 has no ifindex",
                "output interface ge-0/0/99.0 has no ifindex",
            ][..],
        ),
        ("02-v12-small", 12, "1 mirror entry", &[]),
        (
            "05-v43-all-excluded",
            43,
            "0 mirror entries",
            &["is left out by the producer: output interface mon0 has no ifindex"],
        ),
        ("08-v44-newer-than-known", 44, "1 mirror entry", &["44 is newer than 43"]),
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.join(format!("{name}.snapshot.json"));
        let ran = place.run(&["import", file.to_str().unwrap(), "--wire", "41:42"]).code(0);
        assert_eq!(ran.stdout, format!("published generation {}: {entries}, 1 wire\n", i + 1));
        let shown = place.run(&["show"]).code(0).stdout;
        for why in left_out {
            assert!(ran.stderr.contains(why) && shown.contains(why), "{why}: {ran:?}\n{shown}");
        }
        assert_eq!(
            ran.stderr.matches("left out").count(),
            left_out.iter().filter(|why| !why.contains("newer")).count()
        );
        assert_eq!(place.run(&["export"]).code(0).json()["version"], version, "{name}");
    }
}

#[test]
fn import_documents() {
    let place = Place::new();
    let ran = place.feed(SNAPSHOT.as_bytes(), &["import", "-", "--json"]).code(0);
    assert_eq!(ran.stderr, "", "a document has the warnings in it");
    let report = ran.json();
    has_keys(&report, &["accepted", "generation", "mirrors", "wires", "diagnostics", "reasons"], &[]);
    assert_eq!((&report["accepted"], &report["generation"], &report["reasons"]), (&json!(true), &json!(1), &json!([])));
    assert_eq!(report["wires"], json!([{"name": "w1", "a_ifindex": 11, "b_ifindex": 12}]));
    has_keys(&report["diagnostics"][0], &["severity", "subject", "message"], &[]);

    let ran = place.feed(b"{}", &["--json", "import", "-"]).code(1);
    let report = ran.json();
    has_keys(&report, &["accepted", "generation", "mirrors", "wires", "diagnostics", "reasons"], &[]);
    assert_eq!((&report["accepted"], &report["generation"]), (&json!(false), &Value::Null));
    assert_eq!(ran.stderr, format!("spanctl: {}\n", report["reasons"][0].as_str().unwrap()));
}

#[test]
fn warnings_go_to_standard_error() {
    let ran = Place::new().feed(SNAPSHOT.as_bytes(), &["import", "-"]).code(0);
    assert_eq!(ran.stdout, "published generation 1: 2 mirror entries, 1 wire\n");
    assert!(ran.stderr.contains("spanctl: warning: mirror_configs[1]: ingress on no wire"), "{ran:?}");
}

#[test]
fn check_publishes_nothing_and_needs_nothing() {
    let place = Place::new();
    let file = place.file("snapshot", SNAPSHOT.as_bytes());
    let ran = place.run(&["check", &file]).code(0);
    assert_eq!(ran.stdout, "accepted: 2 mirror entries, 1 wire\n");
    let ran = place.run(&["check", &file, "--json"]).code(0);
    has_keys(&ran.json(), &["accepted", "mirrors", "wires", "diagnostics", "reasons"], &[]);
    // The order of the keys is part of the contract.
    let compact: String = ran.stdout.split_whitespace().collect();
    assert!(compact.contains(r#""mirrors":[{"ingress_ifindex":11,"output_ifindex":22,"rate":100},{"#), "{compact}");
    assert!(!place.dir().exists());
}

#[test]
fn check_takes_interfaces_in_place_of_the_documents_own() {
    let place = Place::new();
    let document = place.file("snapshot", br#"{"interfaces":[{"name":"old","ifindex":11}],"mirror_configs":[]}"#);
    let list = place.file("interfaces", br#"[{"name":"new","ifindex":12}]"#);
    let check = |wire| place.run(&["check", &document, "--interfaces", &list, "--wire", wire, "--json"]);
    assert_eq!(check("new:99").code(0).json()["wires"][0]["a_ifindex"], 12);
    let refused = check("old:99").code(1);
    assert!(refused.stderr.contains("no interface is called \"old\""), "{refused:?}");
    place.file("interfaces", br#"{"name":"new"}"#);
    let refused = check("new:99").code(1);
    assert!(refused.stderr.starts_with("spanctl: --interfaces: top level"), "{refused:?}");
    let both = place.run(&["check", "-", "--interfaces", "-"]).code(2);
    assert!(both.stderr.contains("cannot both be standard input"), "{both:?}");
}

#[test]
fn an_ambiguous_table_may_be_left_out() {
    let twice = r#"{"generation":7,"wires":[{"a_ifindex":11,"b_ifindex":12}],"mirror_configs":[
        {"ingress_ifindex":11,"output_ifindex":22,"rate":1},{"ingress_ifindex":11,"output_ifindex":23,"rate":1}]}"#;
    let place = Place::new().with_snapshot();
    let refused = place.feed(twice.as_bytes(), &["import", "-", "--on-ambiguous", "reject"]).code(1);
    assert!(refused.stderr.contains("duplicate ingress ifindex 11"), "{refused:?}");
    let report = place.feed(twice.as_bytes(), &["import", "-", "--on-ambiguous", "omit", "--json"]).code(0).json();
    assert_eq!((&report["generation"], &report["mirrors"], &report["reasons"]), (&json!(2), &json!([]), &json!([])));
    let export = place.run(&["export"]).code(0).json();
    assert_eq!((&export["mirror_configs"], &export["generation"]), (&json!([]), &json!(7)));
    assert_eq!(export["wires"].as_array().unwrap().len(), 1, "frames still cross");
    let shown = place.run(&["show", "--json"]).code(0).json();
    assert_eq!(shown["diagnostics"], report["diagnostics"], "the reason stays visible");
    assert_eq!(shown["diagnostics"][0]["severity"], "warning");
    assert!(shown["diagnostics"].to_string().contains("duplicate ingress ifindex 11"), "{shown}");

    // Not for a document that does not parse, nor for wires.
    let before = place.published();
    for bad in [
        r#"{"mirror_configs":[{"ingress_ifindex":11,"output_ifindex":22,"rate":-1}]}"#,
        r#"{"wires":[{"a_ifindex":11,"b_ifindex":11}],"mirror_configs":[{"ingress_ifindex":5,"output_ifindex":5,"rate":1}]}"#,
    ] {
        place.feed(bad.as_bytes(), &["import", "-", "--on-ambiguous", "omit"]).code(1);
        assert_eq!(place.published(), before);
    }
}

#[test]
fn the_entries_at_fault_alone_may_be_left_out() {
    let entry =
        |ingress, output, rate: u64| json!({"ingress_ifindex": ingress, "output_ifindex": output, "rate": rate});
    let document = json!({"version": 43, "generation": 7, "wires": [{"name": "w", "a_ifindex": 11, "b_ifindex": 12}], "mirror_configs": [
        entry(11, 22, 5), entry(11, 23, 1), entry(12, 22, 1 << 32), entry(14, 14, 1), entry(22, 33, 1), entry(12, 22, 7)]});
    let document = document.to_string();
    let place = Place::new();
    for policy in ["reject", "omit"] {
        place.feed(document.as_bytes(), &["import", "-", "--on-ambiguous", policy]).code(1);
        assert!(!place.dir().exists(), "{policy}: a number out of range breaks the document");
    }
    for command in ["import", "commit"] {
        let skip = [command, "-", "--on-ambiguous", "skip"];
        let report = place.feed(document.as_bytes(), &[&skip[..], &["--json"]].concat()).code(0).json();
        let stay = json!([entry(11, 22, 5), entry(12, 22, 7)]);
        assert_eq!((&report["mirrors"], &report["reasons"]), (&stay, &json!([])));
        let left_out: Vec<&str> = report["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["message"].as_str().unwrap().starts_with("left out: "))
            .map(|d| d["subject"].as_str().unwrap())
            .collect();
        assert_eq!(left_out, ["mirror_configs[1]", "mirror_configs[2]", "mirror_configs[3]", "mirror_configs[4]"]);
        let export = place.run(&["export"]).code(0).json();
        assert_eq!(
            (&export["mirror_configs"], &export["version"], &export["generation"]),
            (&stay, &json!(43), &json!(7))
        );
        let shown = place.run(&["show", "--json"]).code(0).json();
        assert_eq!(shown["diagnostics"], report["diagnostics"]);
        let shown = place.run(&["show"]).code(0).stdout;
        for why in [
            "4294967296 is out of range",
            "duplicate ingress ifindex 11, first in mirror_configs[0]",
            "is the entry's own ingress",
            "receives the clones of mirror_configs[0], a mirror chain",
        ] {
            assert!(shown.contains(why), "{why}: {shown}");
        }
        let said = place.feed(document.as_bytes(), &skip).code(0);
        assert!(said.stdout.ends_with(": 2 mirror entries, 1 wire\n"), "{said:?}");
        assert_eq!(said.stderr.matches("left out: ").count(), 4, "{said:?}");
    }
    // What is not of the table refuses it all.
    let before = place.published();
    let bad = document.replace("\"b_ifindex\":12", "\"b_ifindex\":11");
    assert_ne!(bad, document);
    place.feed(bad.as_bytes(), &["import", "-", "--on-ambiguous", "skip"]).code(1);
    assert_eq!(place.published(), before);
}

#[test]
fn role_and_flags_stand_over_an_import() {
    let place = Place::new();
    let mut writer = ConfigWriter::open(&place.dir()).unwrap();
    writer.restand(|_| Standing { role: Role::Standby, flags: META_DISARMED }).unwrap();
    drop(writer);
    let place = place.with_snapshot();
    let shown = place.run(&["show", "--json"]).code(0).json();
    assert_eq!((&shown["generation"], &shown["role"], &shown["armed"]), (&json!(2), &json!("standby"), &json!(false)));
    for mirror in shown["mirrors"].as_array().unwrap() {
        assert_eq!((&mirror["state"], &mirror["reason"]), (&json!("inactive"), &json!("standby")));
    }
}

#[test]
fn generations_never_repeat() {
    let place = Place::new().with_snapshot();
    Fake { generation: 41, ..Fake::of(&place) }.leave(&place);
    fs::remove_file(place.dir().join("config.shm")).unwrap();
    let report = place.feed(SNAPSHOT.as_bytes(), &["import", "-", "--json"]).code(0).json();
    assert_eq!(report["generation"], 42);
}

#[test]
fn images_in_files() {
    let place = Place::new();
    let (document, image) = (place.file("snapshot", SNAPSHOT.as_bytes()), place.file("image", b""));
    let said = place.run(&["compile", &document, "-o", &image]).code(0).stdout;
    assert!(said.contains("2 mirror entries, 1 wire"), "{said}");
    assert!(!place.dir().exists());

    let found = place.run(&["inspect", &image, "--json"]).code(0).json();
    has_keys(&found, &["accepted", "image", "sections", "snapshot", "reasons"], &[]);
    has_keys(&found["image"], &["len", "layout_major", "layout_minor", "generation", "published_at", "crc32"], &[]);
    let section = ["kind", "name", "required", "offset", "len", "elem_size", "elem_count", "schema_hash"];
    has_keys(&found["sections"][0], &section, &[]);
    let snapshot = [
        "source_version",
        "source_generation",
        "fib_generation",
        "generated_at",
        "compiled_at",
        "digest",
        "role",
        "armed",
        "mirrors",
        "wires",
        "diagnostics",
    ];
    has_keys(&found["snapshot"], &snapshot, &[]);
    let names: Vec<&Value> = found["sections"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    let published =
        ["META", "PORTS", "WIRES", "MIRRORS", "DIAGNOSTICS", "NATIVE_VLANS", "PLACES", "SEEN", "LINK_LOSS", "STRINGS"];
    assert_eq!(names, published);
    let export: Value = serde_json::from_str(SNAPSHOT).unwrap();
    assert_eq!(found["snapshot"]["mirrors"], export["mirror_configs"]);
    let said = place.run(&["inspect", &image]).code(0).stdout;
    assert!(said.contains("MIRRORS") && said.contains("1 in 100") && said.contains("every frame"), "{said}");

    // Any damage is found.
    let good = fs::read(&image).unwrap();
    for (damage, want) in [
        (good[..good.len() - 8].to_vec(), "announced"),
        (good[..good.len() - 3].to_vec(), "announced"),
        (good.iter().enumerate().map(|(i, b)| if i == 200 { b ^ 1 } else { *b }).collect(), "checksum"),
        (b"not an image at all, but longer than the header of one has to be....".to_vec(), "announced"),
        (vec![b'x'; 128], "magic"),
        (Vec::new(), "announced"),
    ] {
        fs::write(&image, damage).unwrap();
        let ran = place.run(&["inspect", &image, "--json"]).code(1);
        assert!(ran.stderr.contains(want) && ran.stderr.contains("image"), "{ran:?}");
        let found = ran.json();
        assert_eq!((&found["accepted"], &found["image"]), (&json!(false), &Value::Null));
        has_keys(&found, &["accepted", "image", "sections", "snapshot", "reasons"], &[]);
    }
    place.run(&["inspect", "/nowhere/image"]).code(2);

    // A refused document leaves no file behind.
    let bad = place.file("bad", b"{}");
    let none = format!("{image}.none");
    place.run(&["compile", &bad, "-o", &none]).code(1);
    assert!(!fs::exists(&none).unwrap());
    assert!(place.run(&["compile", &document, "-o", "/nowhere/image"]).code(2).stderr.contains("/nowhere/image"));
}

#[test]
fn usage() {
    assert!(run(&["--help"]).code(0).stdout.contains("SPANWIRE_DIR"));
    assert!(run(&["--version"]).code(0).stdout.starts_with("spanctl "));
    for args in [
        &[][..],
        &["nonsense"],
        &["import"],
        &["wait"],
        &["wait", "--generation", "-1"],
        &["wait", "--generation", "1", "--timeout", "-1"],
        &["stats", "--watch", "0"],
        &["stats", "--watch", "soon"],
        &["import", "-", "--on-ambiguous", "guess"],
    ] {
        assert_eq!(run(args).code, 2, "{args:?}");
    }
    // Global options anywhere, and the environment.
    let place = Place::new().with_snapshot();
    let dir = place.dir();
    let dir = dir.to_str().unwrap();
    let want = place.run(&["export"]).stdout;
    assert_eq!(run(&["export", "--dir", dir]).code(0).stdout, want);
    let from = ended(command().env("SPANWIRE_DIR", dir).arg("export").output().unwrap());
    assert_eq!(from.code(0).stdout, want);
    let over = ended(command().env("SPANWIRE_DIR", "/nowhere").args(["export", "--dir", dir]).output().unwrap());
    assert_eq!(over.code(0).stdout, want);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new().with_snapshot();
    for args in [&["export"][..], &["show"], &["show", "--json"], &["--help"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let child = command().arg("--dir").arg(place.dir()).args(args).stdout(write).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = ended(command().arg("--dir").arg(place.dir()).arg("export").stdout(full).output().unwrap()).code(2);
    assert!(ran.stderr.contains("standard output"), "{ran:?}");
}
