//! What is refused leaves everything as it was, and says why.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use shm_layout::header::RegionKind;
use spanwire::region::{CONFIG_FILE, Publisher};

use crate::support::{Place, Ran, SNAPSHOT, ended};

/// Holds that `run` fails with this code, naming `want`, and changes nothing.
#[track_caller]
fn unchanged(place: &Place, run: impl FnOnce() -> Ran, code: i32, want: &str) {
    let before = place.published();
    assert_ne!(before.0, 0, "something to keep");
    let ran = run().code(code);
    assert!(ran.stderr.contains(want), "want {want:?}: {ran:?}");
    assert_eq!(place.published(), before, "{ran:?}");
}

#[test]
fn bad_documents() {
    let place = Place::new().with_snapshot();
    let mirror = |text: &str| format!(r#"{{"mirror_configs":[{text}]}}"#);
    let good = r#"{"ingress_ifindex":11,"output_ifindex":22,"rate":1}"#;
    let cases = [
        ("empty", String::new(), "the input is empty"),
        ("truncated", SNAPSHOT[..SNAPSHOT.len() / 2].to_owned(), "truncated: it ends at line 3"),
        ("not JSON", "{security: 1}".to_owned(), "JSON syntax"),
        ("stray", "{}".to_owned(), "not a spanwire snapshot"),
        ("a list", "[]".to_owned(), "top level: [] is a list"),
        ("version", r#"{"version":0}"#.to_owned(), "unsupported snapshot protocol version 0"),
        ("string", mirror(&good.replace(":1}", r#":"11"}"#)), "mirror_configs[0].rate: \"11\" is a string"),
        ("fraction", mirror(&good.replace(":1}", ":11.5}")), "mirror_configs[0].rate: 11.5"),
        ("boolean", mirror(&good.replace(":22", ":true")), "mirror_configs[0].output_ifindex: true is a boolean"),
        ("negative", mirror(&good.replace(":1}", ":-1}")), "mirror_configs[0].rate: -1 is out of range"),
        ("too large", mirror(&good.replace(":1}", ":4294967296}")), "4294967296 is out of range"),
        ("zero", mirror(&good.replace(":11,", ":0,")), "mirror_configs[0].ingress_ifindex: 0 is out of range"),
        ("missing key", mirror(r#"{"ingress_ifindex":11,"rate":1}"#), "output_ifindex: the key is missing"),
        ("key twice", r#"{"generation":1,"generation":2}"#.to_owned(), "generation"),
        ("duplicate", mirror(&format!("{good},{good}")), "duplicate ingress ifindex 11"),
        ("self", mirror(&good.replace(":22", ":11")), "mirror_configs[0].output_ifindex"),
        ("chain", mirror(&format!("{good},{}", good.replace(":11,", ":22,").replace(":22,\"r", ":33,\"r"))), "chain"),
        (
            "onto a wire",
            format!(r#"{{"wires":[{{"a_ifindex":22,"b_ifindex":23}}],"mirror_configs":[{good}]}}"#),
            "is a port of wires[0]",
        ),
    ];
    for (name, document, want) in cases {
        let file = place.file("bad", document.as_bytes());
        unchanged(&place, || place.run(&["import", &file]), 1, want);
        unchanged(&place, || place.run(&["check", &file]), 1, want);
        unchanged(&place, || place.feed(document.as_bytes(), &["import", "-", "--json"]), 1, want);
        let ran = place.run(&["import", &file, "--json"]).code(1);
        let reasons = ran.json()["reasons"].as_array().unwrap().len();
        assert_eq!(ran.stderr.lines().count(), reasons, "{name}: one reason a line");
    }
}

#[test]
fn bad_wires() {
    let place = Place::new().with_snapshot();
    let without = place.file("without", br#"{"interfaces":[{"name":"in","ifindex":11}],"mirror_configs":[]}"#);
    let with = place.file("with", SNAPSHOT.as_bytes());
    for (file, wire, want) in [
        (&without, "in:nowhere", "no interface is called \"nowhere\""),
        (&without, "in", "0 colons"),
        (&without, "in:in", "both ends"),
        (&without, "in:0", "\"0\" is out of range"),
        (&with, "11:12", "the snapshot names its own wires"),
    ] {
        unchanged(&place, || place.run(&["import", file, "--wire", wire]), 1, want);
    }
}

#[test]
fn unreadable_files() {
    let place = Place::new().with_snapshot();
    unchanged(&place, || place.run(&["import", "/nowhere/file"]), 2, "/nowhere/file");
    let dir = place.dir();
    unchanged(&place, || place.run(&["import", dir.to_str().unwrap()]), 2, dir.to_str().unwrap());
    unchanged(&place, || place.run(&["check", "/nowhere/file"]), 2, "/nowhere/file");
}

#[test]
fn nothing_there_yet() {
    let place = Place::new();
    assert!(place.run(&["export"]).code(2).stderr.contains("nothing has been published"));
    assert!(place.run(&["show"]).code(2).stderr.contains("nothing has been published"));
    assert!(place.run(&["stats"]).code(2).stderr.contains("no dataplane has run"));
    assert!(!place.dir().exists(), "looking makes nothing");
}

#[test]
fn a_file_in_place_of_the_directory() {
    let place = Place::new();
    let document = place.file("snapshot", SNAPSHOT.as_bytes());
    let file = place.file("run", b"mine");
    let ran = place.run(&["import", &document]).code(2);
    assert!(ran.stderr.contains(&file) && ran.stderr.contains("not a directory"), "{ran:?}");
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

/// Changes the published region, holds that an import is refused for it, and puts the region back.
#[track_caller]
fn untrusted(place: &Place, change: impl FnOnce(), restore: impl FnOnce(), want: &str) {
    let before = place.published();
    change();
    let ran = place.feed(SNAPSHOT.as_bytes(), &["import", "-"]).code(2);
    assert!(ran.stderr.contains("config.shm") && ran.stderr.contains(want), "{ran:?}");
    let ran = place.run(&["export"]).code(2);
    assert!(ran.stderr.contains("config.shm") && ran.stderr.contains(want), "{ran:?}");
    restore();
    assert_eq!(place.published(), before);
}

#[test]
fn a_region_not_to_be_trusted() {
    let place = Place::new().with_snapshot();
    let config = place.dir().join("config.shm");
    let aside = place.dir().join("aside");
    untrusted(
        &place,
        || {
            fs::rename(&config, &aside).unwrap();
            symlink(&aside, &config).unwrap();
        },
        || fs::rename(&aside, &config).unwrap(),
        "symbolic link",
    );
    untrusted(
        &place,
        || {
            fs::rename(&config, &aside).unwrap();
            fs::create_dir(&config).unwrap();
        },
        || {
            fs::remove_dir(&config).unwrap();
            fs::rename(&aside, &config).unwrap();
        },
        "config.shm",
    );
    let mode = |mode| fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
    untrusted(&place, || mode(0o666), || mode(0o640), "mode 0666");
    if rustix::process::geteuid().is_root() {
        untrusted(
            &place,
            || chown(&config, Some(12345), None).unwrap(),
            || chown(&config, Some(0), None).unwrap(),
            "owned by uid 12345",
        );
    }
    let open = |mode| fs::set_permissions(place.dir(), Permissions::from_mode(mode)).unwrap();
    let before = place.published();
    open(0o777);
    let ran = place.feed(SNAPSHOT.as_bytes(), &["import", "-"]).code(2);
    assert!(ran.stderr.contains("mode 0777"), "{ran:?}");
    open(0o750);
    assert_eq!(place.published(), before);
}

/// Root is told whose directory it is and what to do; the owner may do all.
#[test]
fn a_directory_of_another_user() {
    const OTHER: u32 = 12345;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let document = place.file("snapshot", SNAPSHOT.as_bytes());
    fs::create_dir(place.dir()).unwrap();
    chown(place.dir(), Some(OTHER), Some(OTHER)).unwrap();
    let ran = place.run(&["import", &document]).code(2);
    assert!(ran.stderr.contains("owned by uid 12345") && ran.stderr.contains("setpriv --reuid 12345"), "{ran:?}");
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0, "nothing is left in it");

    // A copy, as the build directory may be closed to others.
    let copy = place.dir().join("spanctl");
    // By another process: what this one has open for writing, one that another test starts just now has too for a
    // moment, and a file that is open for writing is not run.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_spanctl")).arg(&copy).status().unwrap().success());
    fs::set_permissions(place.dir().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let mut owner = Command::new("setpriv");
    owner.args(["--reuid", "12345", "--clear-groups"]).arg(&copy).arg("--dir").arg(place.dir());
    let published = ended(owner.args(["import", &document]).stdin(Stdio::null()).output().unwrap());
    assert_eq!(published.code, 0, "{published:?}");
    assert_eq!(fs::metadata(place.dir().join("config.shm")).unwrap().uid(), OTHER);
    let ran = place.run(&["show"]).code(2);
    assert!(ran.stderr.contains("/run: owned by uid 12345"), "reading is no different: {ran:?}");
}

#[test]
fn a_damaged_region_is_replaced() {
    let place = Place::new().with_snapshot();
    let config = place.dir().join("config.shm");
    fs::write(&config, b"scribble").unwrap();
    assert!(place.run(&["export"]).code(2).stderr.contains("config.shm"));
    let place = place.with_snapshot();
    assert!(place.run(&["export"]).code(0).stdout.contains("mirror_configs"));
}

#[test]
fn one_writer_at_a_time() {
    let place = Place::new().with_snapshot();
    let other = Publisher::open(&place.dir(), CONFIG_FILE, RegionKind::Config, Duration::ZERO).unwrap();
    unchanged(&place, || place.feed(SNAPSHOT.as_bytes(), &["import", "-"]), 2, "another writer holds the lock");
    drop(other);
    place.with_snapshot();
}
