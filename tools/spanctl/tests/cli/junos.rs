//! Junos configurations: `check` and `commit`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Fake, Place, SNAPSHOT, has_keys, run};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The interfaces that the configurations of the fixtures name.
fn interfaces() -> String {
    fixture("two-instances.interfaces.json").to_str().unwrap().to_owned()
}

/// Two instances and the wire between their ingresses.
fn wired() -> String {
    let conf = fs::read_to_string(fixture("two-instances.conf")).unwrap();
    conf + "security forwarding-options secure-wire w1 interface [ ge-0/0/0.0 ge-0/0/1.0 ];\n"
}

#[test]
fn check_gives_the_table_or_the_refusal_beside_each_configuration() {
    let files = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let recorded = fs::read_to_string(file.with_extension("mirrors.json")).unwrap();
        let want: Value = serde_json::from_str(&recorded).unwrap();
        let check = ["check", file.to_str().unwrap(), "--interfaces", &interfaces(), "--json"];
        match want.get("error").and_then(Value::as_str) {
            Some(error) => {
                let ran = run(&check).code(1);
                let report = ran.json();
                assert_eq!((&report["accepted"], &report["mirrors"]), (&json!(false), &json!([])), "{file:?}");
                assert!(report["reasons"][0].as_str().unwrap().contains(error), "{report}");
                assert!(ran.stderr.contains(error), "{ran:?}");
            }
            None => {
                let ran = run(&check).code(0);
                assert_eq!((&ran.json()["mirrors"], ran.stderr.as_str()), (&want, ""), "{file:?}");
                // The order of the keys is part of the contract.
                let compact: String = ran.stdout.split_whitespace().collect();
                assert!(compact.contains(&format!("\"mirrors\":{}", recorded.trim_end())), "{compact}");
            }
        }
    }
}

#[test]
fn commit_publishes_what_check_accepts() {
    let place = Place::new();
    let conf = place.file("conf", wired().as_bytes());
    let report = place.run(&["commit", &conf, "--interfaces", &interfaces(), "--json"]).code(0).json();
    has_keys(&report, &["accepted", "generation", "mirrors", "wires", "diagnostics", "reasons"], &[]);
    assert_eq!((&report["accepted"], &report["generation"]), (&json!(true), &json!(1)));
    assert_eq!(report["wires"], json!([{"name": "w1", "a_ifindex": 11, "b_ifindex": 12}]));
    let export = place.run(&["export"]).code(0);
    assert_eq!(export.json()["mirror_configs"], report["mirrors"]);
    assert_eq!(export.json()["mirror_configs"].as_array().unwrap().len(), 2);
    // The export is the same configuration as a snapshot, which commit takes too.
    let said = place.feed(export.stdout.as_bytes(), &["commit", "-", "--interfaces", &interfaces()]).code(0);
    assert_eq!(said.stdout, "published generation 2: 2 mirror entries, 1 wire\n");
    // In set syntax, with the wire beside it.
    let set = fixture("set-syntax.conf");
    let set = ["commit", set.to_str().unwrap(), "--interfaces", &interfaces(), "--wire", "ge-0/0/0.0:ge-0-0-1"];
    assert_eq!(place.run(&set).code(0).stdout, "published generation 3: 2 mirror entries, 1 wire\n");
    let shown = place.run(&["show", "--json"]).code(0).json();
    let said = shown["diagnostics"].to_string();
    assert!(
        said.contains("no-output") && said.contains("has no output interface") && said.contains("ge-0/0/7.0"),
        "{said}"
    );
    let image = place.file("image", b"");
    place.run(&["compile", &conf, "--interfaces", &interfaces(), "-o", &image]).code(0);
    assert!(place.run(&["inspect", &image]).code(0).stdout.contains("1 in 100"));
}

#[test]
fn a_commit_with_one_bad_entry_changes_nothing_and_lists_every_reason() {
    let place = Place::new();
    let conf = place.file("conf", wired().as_bytes());
    place.run(&["commit", &conf, "--interfaces", &interfaces()]).code(0);
    let published = place.published();
    Fake::of(&place).answering(&place, || {
        let counters = || place.run(&["stats", "--json"]).code(0).json()["mirrors"].clone();
        let before = counters();
        assert_ne!(before, json!([]));
        // One good entry, and one that is onto itself, onto a wire, fed by the other and without a rate.
        let bad = wired()
            .replace("interface ge-0/0/1.0;\n                }", "interface ge-0/0/0;\n                }\n rate x;")
            .replacen("interface ge-0/0/2.0;", "interface ge-0/0/1.0;", 2);
        let bad = place.file("bad", bad.as_bytes());
        for command in ["check", "commit"] {
            let ran = place.run(&[command, &bad, "--interfaces", &interfaces(), "--json"]).code(1);
            let report = ran.json();
            let reasons: Vec<&str> =
                report["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
            for want in
                ["rate \"x\" (line ", "duplicate port-mirroring ingress ifindex 11", "is a port of wires[0] \"w1\""]
            {
                assert!(reasons.iter().any(|reason| reason.contains(want)), "{want}: {reasons:#?}");
            }
            assert_eq!(ran.stderr.lines().count(), reasons.len(), "one a line");
            assert_eq!(report["accepted"], false);
            assert_eq!(place.published(), published);
            assert_eq!(counters(), before);
        }
    });
}

#[test]
fn an_ambiguous_configuration_is_refused_or_published_without_a_table() {
    let place = Place::new();
    let conf = fixture("duplicate.conf");
    let commit = ["commit", conf.to_str().unwrap(), "--interfaces", &interfaces(), "--wire", "11:12"];
    assert!(place.run(&commit).code(1).stderr.contains("in instances \"a\" and \"b\""));
    assert!(!place.dir().exists());
    let omit = [&commit[..], &["--on-ambiguous", "omit", "--json"]].concat();
    let report = place.run(&omit).code(0).json();
    assert_eq!((&report["accepted"], &report["mirrors"]), (&json!(true), &json!([])));
    assert_eq!(report["wires"].as_array().unwrap().len(), 1);
    let shown = place.run(&["show", "--json"]).code(0).json();
    assert_eq!(shown["diagnostics"], report["diagnostics"]);
    assert!(shown["diagnostics"].to_string().contains("the mirror table is left out: instance \\\"b\\\""), "{shown}");
}

#[test]
fn an_ambiguous_configuration_may_be_published_without_the_entries_at_fault() {
    let place = Place::new();
    let conf = fs::read_to_string(fixture("duplicate.conf")).unwrap();
    let conf = conf
        + "set forwarding-options port-mirroring instance c input rate ten\n\
                       set forwarding-options port-mirroring instance c input ingress interface ge-0/0/1.0\n\
                       set forwarding-options port-mirroring instance c output interface ge-0/0/2.0\n";
    let skip = ["commit", "-", "--interfaces", &interfaces(), "--wire", "11:12", "--on-ambiguous", "skip", "--json"];
    let report = place.feed(conf.as_bytes(), &skip).code(0).json();
    assert_eq!(
        report["mirrors"],
        json!([{"ingress_ifindex": 11, "output_ifindex": 22, "rate": 0}]),
        "that of instance a"
    );
    let shown = place.run(&["show", "--json"]).code(0).json();
    assert_eq!(shown["diagnostics"], report["diagnostics"]);
    for (i, [subject, why]) in [
        [
            "instance \"b\" ingress \"ge-0-0-0\" (line 3 column 74)",
            "left out: duplicate port-mirroring ingress ifindex 11 in instances \"a\" and \"b\"",
        ],
        [
            "instance \"c\" ingress \"ge-0/0/1.0\" (line 6 column 74)",
            "left out: instance \"c\" (line 5 column 48): rate \"ten\" (line 5 column 61) is not an integer",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let said = &shown["diagnostics"][i];
        assert_eq!(said["subject"], subject, "{shown}");
        assert!(said["message"].as_str().unwrap().starts_with(why), "{shown}");
    }
    assert_eq!(shown["diagnostics"].as_array().unwrap().len(), 2);
    assert_eq!(place.run(&["export"]).code(0).json()["mirror_configs"], report["mirrors"]);
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let place = Place::new().with_snapshot();
    let before = place.published();
    let fine = wired();
    for (bad, want) in [
        ("security { forwarding-options }".to_owned(), "Junos syntax: line 1 column 31: unexpected \"}\""),
        (
            fine.replacen("rate 100;", "rate 100", 1),
            "Junos syntax: line 25 column 17: unexpected \"ingress\" (allowed: \";\" or \"{\" at the end of line 24)",
        ),
        (fine.clone() + "}", "\"}\" closes no block"),
        (fine.clone() + "apply-groups node0;", "apply-groups \"node0\": there is no such group"),
        (fine.replacen("rate 100", "rate -100", 1), "rate \"-100\" (line 24 column 22) is negative"),
        (fine.replacen("[ ge-0/0/0.0 ge", "[ ge-0/0/9.0 ge", 1), "no interface is called \"ge-0/0/9.0\""),
    ] {
        let file = place.file("bad", bad.as_bytes());
        for command in ["check", "commit"] {
            let ran = place.run(&[command, &file, "--interfaces", &interfaces()]).code(1);
            assert!(ran.stderr.contains(want), "{want}: {ran:?}");
        }
        assert_eq!(place.published(), before);
    }
    // `import` is for snapshots.
    let file = place.file("conf", fine.as_bytes());
    let ran = place.run(&["import", &file, "--json"]).code(1);
    assert!(ran.stderr.contains("spanctl commit publishes a Junos configuration"), "{ran:?}");
    assert_eq!((&ran.json()["accepted"], &ran.json()["generation"]), (&json!(false), &Value::Null));
    assert_eq!(place.published(), before);
    let both = place.run(&["commit", "-", "--interfaces", "-"]).code(2);
    assert!(both.stderr.contains("cannot both be standard input"), "{both:?}");
    let list = place.file("list", SNAPSHOT.as_bytes());
    let ran = place.run(&["commit", &file, "--interfaces", &list]).code(1);
    assert!(ran.stderr.starts_with("spanctl: --interfaces: top level"), "{ran:?}");
}

#[test]
fn without_a_list_the_devices_of_the_system_are_used() {
    // Every network namespace has lo, whatever its state.
    let text = "set forwarding-options port-mirroring instance x input ingress interface lo\n\
                set forwarding-options port-mirroring instance x output interface lo.0\n";
    let place = Place::new();
    let ran = place.feed(text.as_bytes(), &["commit", "-"]).code(1);
    let want = "instance \"x\" ingress \"lo\" (line 1 column 74) output \"lo.0\" (line 2 column 67): ifindex 1 (\"lo.0\") is the entry's own ingress";
    assert!(ran.stderr.contains(want), "{ran:?}");
    assert!(!place.dir().exists());
}

#[test]
fn warnings_of_the_devices_are_published_and_shown() {
    let place = Place::new();
    let conf = place.file("conf", wired().as_bytes());
    let list = json!([
        {"name": "ge-0/0/0.0", "ifindex": 11, "mtu": 9000, "up": true, "speed": 10_000, "stuck_offload": "rxvlan"},
        {"name": "ge-0/0/1.0", "ifindex": 12, "mtu": 1500, "up": false, "speed": 10_000},
        {"name": "ge-0/0/2.0", "ifindex": 22, "mtu": 1500, "up": true, "speed": 1000},
    ]);
    let list = place.file("list", list.to_string().as_bytes());
    let ran = place.run(&["commit", &conf, "--interfaces", &list]).code(0);
    let shown = place.run(&["show"]).code(0).stdout;
    let document = place.run(&["show", "--json"]).code(0).json()["diagnostics"].to_string();
    for want in [
        "the MTU 1500 of its output",
        "ingress down: ifindex 12",
        "the MTUs of its ports",
        "the VLAN offload",
        "oversubscribed",
    ] {
        assert!(
            ran.stderr.contains(want) && shown.contains(want) && document.contains(want),
            "{want}: {ran:?} {shown}"
        );
    }
    assert_eq!(ran.stderr.lines().count(), 5, "{ran:?}");
    // A snapshot may name what no list has.
    let ran = place.feed(SNAPSHOT.as_bytes(), &["commit", "-", "--interfaces", &list]).code(0);
    let want = "warning: mirror_configs[1]: port missing: its ingress, ifindex 13, is not in the list of --interfaces";
    assert!(ran.stderr.contains(want), "{ran:?}");
}
