//! Snapshots of every protocol version: what is read of them, and what is said of what their producer left out.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use spanwire::control::json::{export, parse, parse_draft};
use spanwire::control::source::{Ports, read};
use spanwire::control::{Admission, Draft, Mirror};

/// A document of a producer with the wire 41-42, as `spanctl import` takes it.
#[track_caller]
fn import(document: &[u8]) -> (Draft, Admission) {
    let draft = read(document, Ports::Own, &["41:42".to_owned()]).expect("a snapshot");
    let admission = draft.admit(None);
    assert!(admission.accepted(), "{:?}", admission.reasons);
    (draft, admission)
}

/// Every remark, one a line.
fn said(admission: &Admission) -> String {
    admission.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// What reading a document says of it.
#[track_caller]
fn told(document: &Value) -> String {
    let draft = parse_draft(document.to_string().as_bytes(), None).unwrap_or_else(|e| panic!("{document}: {e:?}"));
    draft.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// Why a document is refused, one a line.
#[track_caller]
fn against(document: &Value) -> String {
    let reasons = parse(document.to_string().as_bytes()).expect_err("refused");
    reasons.iter().map(|reason| format!("{reason}\n")).collect()
}

fn mirror(ingress_ifindex: u32, output_ifindex: u32, rate: u32) -> Mirror {
    Mirror { ingress_ifindex, output_ifindex, rate }
}

/// A file of a newer producer, with what is right for it.
#[track_caller]
fn right(name: &str, version: u32, generations: (u64, u64), mirrors: &[Mirror], remarks: &str) {
    let file = format!("tests/fixtures/producer-43/{name}.snapshot.json");
    let document = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(name);
    let (draft, admission) = import(&document);
    let snapshot = &draft.snapshot;
    assert_eq!(snapshot.version, version);
    assert_eq!((snapshot.generation, snapshot.fib_generation), generations);
    assert_eq!(snapshot.mirrors, mirrors);
    assert_eq!(said(&admission), remarks);
    // What is published is given back in the document's own version.
    assert_eq!(parse(export(snapshot).as_bytes()).as_ref(), Ok(snapshot));
    let exported: Value = serde_json::from_str(&export(snapshot)).expect("JSON");
    let given: Value = serde_json::from_slice(&document).expect("JSON");
    assert_eq!(exported["version"], given["version"]);
    assert_eq!(&exported["mirror_configs"], given.get("mirror_configs").unwrap_or(&json!([])));
}

#[test]
fn files_of_newer_producers() {
    right(
        "01-v43-full-shape",
        43,
        (5, 9),
        &[mirror(41, 48, 64), mirror(42, 48, 0)],
        "warning: instance \"tap2\": ingress \"ge-0/0/7.0\" is left out by the producer: input interface ge-0/0/7.0 has no ifindex\n\
         warning: instance \"tap3\": is left out by the producer: output interface ge-0/0/99.0 has no ifindex\n\
         warning: wires[0] \"41:42\": the MTUs of its ports differ, 1500 of ifindex 41 (\"ge-0/0/4\") and 9000 of ifindex 42 \
         (\"ge-0/0/5\"): frames too large for the smaller are dropped (rx_drops_oversize)\n",
    );
    right("02-v12-small", 12, (6, 0), &[mirror(41, 48, u32::MAX)], "");
    right(
        "05-v43-all-excluded",
        43,
        (8, 0),
        &[],
        "warning: instance \"only\": is left out by the producer: output interface mon0 has no ifindex\n",
    );
    right(
        "08-v44-newer-than-known",
        44,
        (11, 0),
        &[mirror(41, 48, 5)],
        "warning: version: 44 is newer than 43, the newest that is known; nothing that spanwire reads has changed so far\n",
    );
}

#[test]
fn origins_of_a_newer_table_are_known() {
    let name = "tests/fixtures/producer-43/01-v43-full-shape.snapshot.json";
    let document = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name);
    let (draft, _) = import(&document);
    let origins: Vec<(&str, &str)> =
        draft.origins.iter().flatten().map(|o| (o.instance.as_str(), o.ingress.name.as_str())).collect();
    assert_eq!(origins, [("tap1", "ge-0/0/4.0"), ("tap2", "ge-0/0/5.0")]);
}

#[test]
fn every_version_from_1_up_is_read_and_one_above_43_is_remarked() {
    for version in [1, 2, 3, 4, 12, 42, 43, 44, 1000, u32::MAX] {
        let document =
            json!({"version": version, "mirror_configs": [{"ingress_ifindex": 41, "output_ifindex": 48, "rate": 5}]});
        let (draft, admission) = import(document.to_string().as_bytes());
        assert_eq!((draft.snapshot.version, draft.snapshot.mirrors.as_slice()), (version, &[mirror(41, 48, 5)][..]));
        let found = said(&admission);
        match version {
            ..=43 => assert_eq!(found, "", "{version}"),
            _ => assert!(found.starts_with(&format!("warning: version: {version} is newer than 43")), "{found}"),
        }
        // A newer version does not make other mistakes right.
        let bad =
            json!({"version": version, "mirror_configs": [{"ingress_ifindex": "41", "output_ifindex": 48, "rate": 5}]});
        assert_eq!(
            against(&bad),
            "mirror_configs[0].ingress_ifindex: \"41\" is a string (allowed: an integer in 1..=2147483647)\n"
        );
    }
    for version in [json!(0), json!(-1), json!(1_u64 << 32), json!(43.5), json!(u64::MAX)] {
        let want = format!("unsupported snapshot protocol version {version} (want 1 to 4294967295)\n");
        assert_eq!(against(&json!({"version": version})), want);
    }
    assert_eq!(
        against(&json!({"version": "43"})),
        "version: \"43\" is a string (allowed: an integer in 1..=4294967295)\n"
    );
}

/// Puts keys that nobody knows, of every JSON type, into an object.
fn crowd(object: &mut Value) {
    for (i, value) in [
        Value::Null,
        json!(true),
        json!(-7),
        json!(1.5e300),
        json!("\u{1b}[31m\n"),
        json!([]),
        json!([null, false, 1, "x", [{}], {"rate": "none"}]),
        json!({}),
        json!({"version": [], "mirror_configs": {"ingress_ifindex": null}, "ifindex": {"rate": [[[[[1]]]]]}}),
    ]
    .into_iter()
    .enumerate()
    {
        object[format!("unknown_{i}")] = value;
    }
}

#[test]
fn unknown_keys_of_every_type_change_nothing_in_any_version() {
    for version in [3, 12, 43] {
        let mut document = json!({
            "version": version, "generation": 7, "fib_generation": 3, "generated_at": "2026-11-25T21:04:05.9Z",
            "interfaces": [
                {"name": "ge-0/0/4", "linux_name": "ge-0-0-4", "ifindex": 41, "mtu": 1500, "hardware_addr": "02:ad:10:00:00:04"},
                {"name": "ge-0/0/4.0", "linux_name": "ge-0-0-4", "ifindex": 41, "mtu": 1500},
                {"name": "ge-0/0/4.9", "linux_name": "", "ifindex": 1_073_741_900, "parent_ifindex": 41, "vlan_id": 9, "mtu": 1500},
                {"name": "ge-0/0/8", "linux_name": "ge-0-0-8", "ifindex": 48, "mtu": 1500},
            ],
            "mirror_configs": [
                {"ingress_ifindex": 41, "output_ifindex": 48, "rate": 0},
                {"ingress_ifindex": 1_073_741_900, "output_ifindex": 48, "rate": 7},
            ],
            "mirror_exclusions": [{"instance": "late", "input": "ge-0/0/6.0", "reason": "input interface ge-0/0/6.0 has no ifindex"}],
            "config": {"ForwardingOptions": {"PortMirroring": {"Instances": {
                "early": {"Name": "early", "InputRate": 0, "Input": ["ge-0/0/4.0"], "Output": "ge-0/0/8"},
                "late": {"Name": "late", "InputRate": 7, "Input": ["ge-0/0/4.9", "ge-0/0/6.0"], "Output": "ge-0/0/8"},
            }}}},
        });
        let plain = import(document.to_string().as_bytes());
        assert_eq!(plain.0.snapshot.mirrors, [mirror(41, 48, 0), mirror(1_073_741_900, 48, 7)], "{version}");
        assert_eq!(
            said(&plain.1),
            "warning: instance \"late\": ingress \"ge-0/0/6.0\" is left out by the producer: input interface ge-0/0/6.0 has no ifindex\n",
            "{version}"
        );
        crowd(&mut document);
        for list in ["interfaces", "mirror_configs", "mirror_exclusions"] {
            document[list].as_array_mut().expect("a list").iter_mut().for_each(crowd);
        }
        for at in [
            "",
            "/ForwardingOptions",
            "/ForwardingOptions/PortMirroring",
            "/ForwardingOptions/PortMirroring/Instances/late",
        ] {
            crowd(document["config"].pointer_mut(at).expect("an object"));
        }
        let crowded = import(document.to_string().as_bytes());
        assert_eq!(crowded.0.snapshot, plain.0.snapshot, "{version}");
        assert_eq!(crowded.0.origins, plain.0.origins, "{version}");
        assert_eq!(said(&crowded.1), said(&plain.1), "{version}");
    }
}

/// A document with these instances, mirror entries and exclusions, on the interfaces a (11), b (12) and mon (22).
fn document(instances: &Value, mirrors: &Value, exclusions: &Value) -> Value {
    json!({
        "version": 43,
        "interfaces": [{"name": "a", "ifindex": 11}, {"name": "a/0", "ifindex": 11}, {"name": "b", "ifindex": 12}, {"name": "mon", "ifindex": 22}],
        "mirror_configs": mirrors,
        "mirror_exclusions": exclusions,
        "config": {"ForwardingOptions": {"PortMirroring": {"Instances": instances}}},
    })
}

fn instance(rate: impl Into<Value>, input: &[&str], output: &str) -> Value {
    json!({"InputRate": rate.into(), "Input": input, "Output": output})
}

#[test]
fn what_was_left_out_is_told_apart() {
    let instances = json!({
        "first": instance(5, &["a"], "mon"),
        "second": instance(6, &["a/0", "b"], "mon"),
        "negative": instance(-5, &["b"], "mon"),
        "large": instance(4_294_967_296_u64, &["b"], "mon"),
        "huge": instance(1e30, &["b"], "mon"),
        "text": instance("5", &["b"], "mon"),
        "fraction": instance(1.5, &["b"], "mon"),
        "nowhere": instance(0, &["b"], ""),
        "astray": instance(0, &["b"], "mon9"),
        "lost": instance(0, &["c"], "mon"),
    });
    let mirrors = json!([{"ingress_ifindex": 11, "output_ifindex": 22, "rate": 5}, {"ingress_ifindex": 12, "output_ifindex": 22, "rate": 6}]);
    let want = "\
        warning: instance \"astray\": no interface is called \"mon9\", its output, so it is left out\n\
        warning: instance \"lost\": no interface is called \"c\", an ingress of it, which is left out\n\
        warning: instance \"nowhere\": has no output interface, so it is left out\n\
        warning: instance \"fraction\": ingress \"b\" is left out: its rate 1.5 is no integer\n\
        warning: instance \"huge\": ingress \"b\" is left out: its rate 1e+30 is above 32 bits\n\
        warning: instance \"large\": ingress \"b\" is left out: its rate 4294967296 is above 32 bits\n\
        warning: instance \"negative\": ingress \"b\" is left out: its rate -5 is negative\n\
        warning: instance \"second\": ingress \"a/0\" is left out: duplicate port-mirroring ingress ifindex 11 in instances \"first\" and \"second\"\n\
        warning: instance \"text\": ingress \"b\" is left out: its rate \"5\" is no integer\n";
    let document = document(&instances, &mirrors, &Value::Null);
    assert_eq!(told(&document), want);
    assert!(!want.contains("refused"));
    let origins = parse_draft(document.to_string().as_bytes(), None).expect("a snapshot").origins;
    let origins: Vec<&str> = origins.iter().flatten().map(|origin| origin.instance.as_str()).collect();
    assert_eq!(origins, ["first", "second"]);
}

#[test]
fn a_rate_that_the_producer_took_for_another_is_told() {
    for (written, fault, taken) in [(1_i64 << 32, "above 32 bits", 0), (-1, "negative", 2)] {
        let instances = json!({"x": instance(written, &["a"], "mon")});
        let mirrors = json!([{"ingress_ifindex": 11, "output_ifindex": 22, "rate": taken}]);
        assert_eq!(
            told(&document(&instances, &mirrors, &Value::Null)),
            format!(
                "warning: instance \"x\": ingress \"a\" is left out: the entry of ifindex 11 has output 22 and rate {taken}, \
                 not 22 and {written}, which is {fault}\n"
            )
        );
    }
}

#[test]
fn what_an_exclusion_explains_is_not_explained_again() {
    let instances = json!({
        "first": instance(5, &["a"], "mon"),
        "second": instance(-6, &["a/0", "b", "c"], "mon"),
        "third": instance(0, &["b"], "gone"),
        "fourth": instance(0, &["b"], ""),
    });
    let mirrors = json!([{"ingress_ifindex": 11, "output_ifindex": 22, "rate": 5}]);
    let exclusions = json!([
        {"instance": "second", "input": "a/0", "reason": "ingress interface a/0 already mirrored by instance first"},
        {"instance": "second", "input": "c", "reason": "input interface c has no ifindex"},
        {"instance": "third", "reason": "output interface gone has no ifindex"},
        {"instance": "unheard of", "input": null, "reason": "output interface x has no ifindex"},
    ]);
    assert_eq!(
        told(&document(&instances, &mirrors, &exclusions)),
        "warning: instance \"second\": ingress \"a/0\" is left out by the producer: ingress interface a/0 already mirrored by instance first\n\
         warning: instance \"second\": ingress \"c\" is left out by the producer: input interface c has no ifindex\n\
         warning: instance \"third\": is left out by the producer: output interface gone has no ifindex\n\
         warning: instance \"unheard of\": is left out by the producer: output interface x has no ifindex\n\
         warning: instance \"fourth\": has no output interface, so it is left out\n\
         warning: instance \"second\": ingress \"b\" is left out: its rate -6 is negative\n"
    );
    // However many there are of one reason, each is named.
    let many: Vec<Value> = (0..40)
        .map(|i| json!({"instance": format!("i{i}"), "reason": format!("output interface x{i} has no ifindex")}))
        .collect();
    let all = told(&json!({"version": 43, "mirror_exclusions": many}));
    assert!((0..40).all(|i| all.contains(&format!("\"i{i}\": is left out"))), "{all}");
    // Without a configuration the producer's word alone explains an empty table.
    let bare = json!({"version": 43, "mirror_exclusions": exclusions});
    assert_eq!(told(&bare).lines().count(), 4);
}

#[test]
fn exclusions_of_another_type_are_errors_with_their_place() {
    let excluded = |exclusions: Value| json!({"version": 43, "mirror_exclusions": exclusions});
    assert_eq!(told(&excluded(Value::Null)), "");
    assert_eq!(told(&excluded(json!([]))), "");
    for (exclusions, want) in [
        (json!({}), "mirror_exclusions: {} is an object (allowed: a list or null)\n"),
        (json!("none"), "mirror_exclusions: \"none\" is a string (allowed: a list or null)\n"),
        (
            json!([{}, null, 7, []]),
            "mirror_exclusions[1]: null is no value (allowed: an object)\n\
             mirror_exclusions[2]: 7 is a number (allowed: an object)\n\
             mirror_exclusions[3]: [] is a list (allowed: an object)\n",
        ),
        (
            json!([{"instance": 7, "input": ["a"], "reason": true}]),
            "mirror_exclusions[0].instance: 7 is a number (allowed: a string)\n\
             mirror_exclusions[0].input: [\"a\"] is a list (allowed: a string)\n\
             mirror_exclusions[0].reason: true is a boolean (allowed: a string)\n",
        ),
    ] {
        assert_eq!(against(&excluded(exclusions)), want);
    }
    // A hostile one is told on one line that ends.
    let hostile = json!([{"instance": "x".repeat(5000), "input": "\u{1b}[2J\n".repeat(5000), "reason": "\u{1b}[2J\n\u{202e}".repeat(5000)}, {}]);
    let found = told(&excluded(hostile));
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.len() < 6000 && !found.chars().any(|c| c.is_control() && c != '\n'), "{found}");
    assert!(
        found.ends_with("warning: mirror_exclusions[1]: is left out by the producer: no reason is given\n"),
        "{found}"
    );
    let many = vec![json!({"instance": "x", "reason": "y"}); 1002];
    let found = told(&excluded(many.into()));
    assert_eq!(found.lines().count(), 1001);
    assert!(found.ends_with("\nwarning: mirror_exclusions: 2 more (only the first 1000 are told)\n"), "{found}");
}
