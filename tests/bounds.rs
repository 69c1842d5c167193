//! What is said of a document, a request or a name is bounded, whatever they hold: no line has more than a few excerpts,
//! and no more than some lines say the same.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Map, Value, json};
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::json::parse_links;
use spanwire::control::serve::{Options, Server};
use spanwire::control::source::{Ports, read};
use spanwire::control::{Draft, Interface, Links, Mirror, OnAmbiguous, Snapshot, Wire, admit};
use spanwire::stop::Stop;

/// A wrong value, and more than any message has room for.
const LONG: usize = 30_000;
/// The most bytes of a line: the excerpts of the names that an entry is called by, as wide as characters are.
const LINE: usize = 1500;
/// The most remarks on one document, about any number of entries.
const REMARKS: usize = 100;

/// Holds every line that a document comes to, by every policy; how many there were.
#[track_caller]
fn bounded(document: &[u8], what: &str) -> usize {
    let interfaces = br#"[{"name":"a","ifindex":11},{"name":"b","ifindex":12},{"name":"mon","ifindex":22,"up":false}]"#;
    let links = Links { all: parse_links(interfaces).unwrap(), place: "in this list".to_owned() };
    let mut lines = Vec::new();
    for on_ambiguous in [OnAmbiguous::Reject, OnAmbiguous::Omit, OnAmbiguous::Skip] {
        match read(document, Ports::Live(&links), &[]) {
            Err(reasons) => lines.extend(reasons.iter().map(ToString::to_string)),
            Ok(mut draft) => {
                let admission = draft.admit_or(on_ambiguous, Some(&links), |_| Ok(()));
                lines.extend(admission.reasons.iter().map(ToString::to_string));
                assert!(admission.diagnostics.len() <= REMARKS, "{what}: {} remarks", admission.diagnostics.len());
                lines.extend(admission.diagnostics.iter().map(ToString::to_string));
            }
        }
    }
    for line in &lines {
        let shown: String = line.chars().take(3000).collect();
        assert!(line.len() <= LINE, "{what}: {} bytes: {shown}", line.len());
        assert!(!line.chars().any(char::is_control), "{what}: {shown}");
    }
    lines.len()
}

/// Values that are long in every way there is, and their names.
fn long_values() -> Vec<(&'static str, Value)> {
    let text = |piece: &str| Value::from(piece.repeat(LONG / piece.len()));
    let wide = |i: usize| (format!("{i}{}", "k".repeat(1000)), Value::from(i));
    vec![
        ("letters", text("x")),
        ("escapes", text("\u{1b}[2J\"\\\n")),
        ("wide", text("\u{10ffff}")),
        ("a list", json!(vec!["y".repeat(100); LONG / 100])),
        ("an object", Value::Object((0..LONG / 1000).map(wide).collect())),
        ("a long key", Value::Object(Map::from_iter([("k".repeat(LONG), Value::Null)]))),
    ]
}

/// Every place of a document, as a pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, below)| places(below, &format!("{at}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, below)| places(below, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

fn document() -> Value {
    json!({
        "version": 43, "generation": 1, "fib_generation": 1, "generated_at": "2026-11-22T08:30:15Z",
        "interfaces": [
            {"name": "a", "linux_name": "a", "ifindex": 11, "parent_ifindex": 0, "vlan_id": 0, "mtu": 1500, "hardware_addr": ""},
            {"name": "v", "linux_name": "", "ifindex": 1_073_741_900, "parent_ifindex": 11, "vlan_id": 7, "mtu": 9000},
        ],
        "mirror_configs": [
            {"ingress_ifindex": 11, "output_ifindex": 22, "rate": 0},
            {"ingress_ifindex": 1_073_741_900, "output_ifindex": 22, "rate": 7},
            {"ingress_ifindex": 11, "output_ifindex": 12, "rate": 7},
        ],
        "mirror_exclusions": [{"instance": "late", "input": "c", "reason": "none"}],
        "wires": [{"name": "w", "a_ifindex": 11, "b_ifindex": 12}, {"name": "w", "a_ifindex": 13, "b_ifindex": 13}],
        "config": {"ForwardingOptions": {"PortMirroring": {"Instances": {
            "one": {"InputRate": 0, "Input": ["a"], "Output": "mon"},
            "two": {"InputRate": 7, "Input": ["v", "a", "gone"], "Output": "mon"},
            "three": {"InputRate": -7, "Input": ["b"], "Output": "mon"},
        }}}},
    })
}

#[test]
fn a_long_value_anywhere_in_a_snapshot() {
    let mut all = Vec::new();
    places(&document(), "", &mut all);
    assert!(all.len() > 50, "{all:?}");
    let mut lines = 0;
    for at in &all {
        for (name, value) in long_values() {
            let mut document = document();
            *document.pointer_mut(at).unwrap() = value;
            lines += bounded(document.to_string().as_bytes(), &format!("{at}: {name}"));
        }
    }
    assert!(lines > 3 * all.len(), "hardly anything was said");
}

/// Long names where each is right, so that they come into what is said of entries.
#[test]
fn long_names_that_are_no_fault() {
    for piece in ["x", "\"\\\u{1b}", "\u{10ffff}"] {
        let long = |name: &str| format!("{name}{}", piece.repeat(LONG / piece.len()));
        let text = document().to_string();
        let names = ["a", "v", "w", "late", "one", "two", "three", "gone"];
        let text = names.into_iter().fold(text, |text, name| {
            let json = Value::from(long(name)).to_string();
            text.replace(&format!("\"{name}\""), &json)
        });
        assert!(bounded(text.as_bytes(), piece) > 10);
        let bad = text.replace(r#""a_ifindex":13,"b_ifindex":13"#, r#""a_ifindex":14,"b_ifindex":13"#);
        assert_ne!(bad, text);
        assert!(bounded(bad.as_bytes(), piece) > 10);
    }
}

#[test]
fn json_that_is_none() {
    let long = "x".repeat(LONG);
    for (document, least) in [
        (format!(r#"{{"version":3,"{long}":1,"{long}":2}}"#), 3),
        (format!(r#"{{"version":3,"generation":{}}}"#, "9".repeat(LONG)), 3),
        (format!(r#"{{"version":3,"generation":-0.{}}}"#, "9".repeat(LONG)), 3),
        (format!(r#"{{"version":3,{long}"#), 3),
        (format!(r#""{long}""#), 3),
        (format!("[{}", "[".repeat(LONG)), 3),
        (format!(r#"{{"version":3,"generated_at":"{long}""#), 3),
    ] {
        let begins: String = document.chars().take(40).collect();
        assert!(bounded(document.as_bytes(), &begins) >= least, "{begins}");
    }
}

#[test]
fn a_long_word_anywhere_in_a_junos_configuration() {
    let text = "security { forwarding-options { secure-wire w1 { interface [ a b ]; } } } \
        interfaces { a { unit 7 { vlan-id 7; } } } \
        forwarding-options { port-mirroring { instance one { input { rate 7; ingress { interface a; } } output { interface mon; } } \
        instance two { input { rate 7; ingress { interface a.7; interface gone; } } output { interface mon; } } \
        instance three { input { rate 0; ingress { interface a; } } output { interface b; } } } }";
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let longs = [
        "x".repeat(LONG),
        format!("\"{}\"", "\\\" ä".repeat(LONG / 5)),
        "9".repeat(LONG),
        format!("\"{}", "x".repeat(LONG)),
        "/*".repeat(LONG / 2),
        "[".repeat(LONG),
    ];
    let mut lines = 0;
    for at in 0..words.len() {
        for long in &longs {
            let mut words = words.clone();
            let end = if words[at].ends_with(';') { ";" } else { "" };
            let long = format!("{long}{end}");
            words[at] = &long;
            lines += bounded(words.join(" ").as_bytes(), &format!("word {at}"));
        }
    }
    assert!(lines > 3 * words.len(), "hardly anything was said");
    for long in &longs {
        let set = format!("set forwarding-options port-mirroring instance {long} input rate {long}\ndelete {long}\n");
        assert!(bounded(set.as_bytes(), "set") > 0);
    }
}

#[test]
fn a_long_value_anywhere_in_a_request() {
    let root = tempfile::tempdir().unwrap();
    let options = Options::new(root.path().join("run"), root.path().join("socket"));
    let (server, socket) = (Server::bind(options).unwrap(), root.path().join("socket"));
    let stop = Stop::new().expect("a stop");
    let requests = [
        json!({"type": "status", "suppress_status": true}),
        json!({"type": "apply_snapshot", "suppress_status": true, "snapshot": {"version": 3, "generation": 1, "content_digest": "x"}}),
        json!({"type": "set_forwarding_state", "suppress_status": true, "forwarding": {"armed": false}}),
        json!({"type": "update_ha_state", "suppress_status": true, "ha_state": {"groups": [{"active": true}]}}),
        json!({"type": "bump_fib_generation", "suppress_status": true, "snapshot": {"fib_generation": 2}}),
    ];
    thread::scope(|scope| {
        scope.spawn(|| server.run(&stop));
        let ended = std::panic::catch_unwind(|| {
            let mut refused = 0;
            for request in &requests {
                let mut all = Vec::new();
                places(request, "", &mut all);
                for at in &all {
                    for (name, value) in long_values() {
                        let mut request = request.clone();
                        *request.pointer_mut(at).unwrap() = value;
                        let mut stream = UnixStream::connect(&socket).unwrap();
                        writeln!(stream, "{request}").unwrap();
                        let mut answer = String::new();
                        BufReader::new(stream).read_line(&mut answer).unwrap();
                        let answer: Value = serde_json::from_str(&answer).unwrap();
                        let error = answer["error"].as_str().unwrap_or_default();
                        assert!(error.len() <= LINE, "{at}: {name}: {} bytes", error.len());
                        refused += usize::from(answer["ok"] == false);
                    }
                }
            }
            assert!(refused > 60, "{refused}");
        });
        stop.set();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A full table of which every entry is worth a warning or three: what is published of those does not grow with it.
#[test]
fn warnings_of_a_full_table() {
    let n = 65_536;
    let entry = |i: u32| Mirror { ingress_ifindex: 100_000 + i, output_ifindex: 22, rate: 1 };
    let name = |i: u32| Interface { name: format!("ge-0/0/{i}.0"), ifindex: 100_000 + i, ..Interface::default() };
    let snapshot = Snapshot {
        interfaces: (0..n).map(name).collect(),
        mirrors: (0..n).map(entry).collect(),
        wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        ..Snapshot::default()
    };
    let links = Links { all: Vec::new(), place: "in this list".to_owned() };
    let admission = Draft::from(snapshot.clone()).admit(Some(&links));
    assert!(admission.accepted());
    let said: Vec<String> = admission.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3 * 9, "{said:#?}");
    let numbers = said.iter().filter(|line| line.ends_with("mirror_configs: and 65528 more like these"));
    assert_eq!(numbers.count(), 3, "{said:#?}");
    let bytes = |admission| compile(&snapshot, admission, &Provenance::of(b"")).len_bytes();
    let told =
        bytes(&admission) - bytes(&spanwire::control::Admission { diagnostics: Vec::new(), ..admission.clone() });
    assert!(told < 16 << 10, "{told} bytes of warnings");

    // Of what is left out each is named, up to a bound.
    let twice = Snapshot { mirrors: (0..n).map(|i| entry(i / 4)).collect(), ..snapshot };
    assert_eq!(admit(&twice).reasons.len(), 3 * n as usize / 4);
    for on_ambiguous in [OnAmbiguous::Omit, OnAmbiguous::Skip] {
        let mut draft = Draft::from(twice.clone());
        let admission = draft.admit_or(on_ambiguous, None, |_| Ok(()));
        assert!(admission.accepted() && admission.diagnostics.len() <= 2000 + 4 * 9, "{:#?}", admission.diagnostics);
        let told: Vec<String> = admission.diagnostics.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.ends_with(": and more, 49152 in all")), "{told:#?}");
    }
}
