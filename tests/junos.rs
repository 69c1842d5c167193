//! Junos configurations against the mirror tables the Go control plane builds of them, and against anything else.
//!
//! Golden: each `tests/fixtures/NAME.conf` is a configuration, `NAME.mirrors.json` the mirror table or the refusal it
//! must give. Properties: both syntaxes give the same table, in the order an oracle says; printing and parsing are
//! inverse; no input panics.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

#[path = "junos/groups.rs"]
mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use spanwire::control::builder::{build, live_interfaces};
use spanwire::control::json::{parse_draft, parse_interfaces};
use spanwire::control::junos::{Node, parse};
use spanwire::control::source::{Format, Ports, read};
use spanwire::control::{Draft, Interface, Link, Links, Mirror, Wire};

fn fixtures_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures_dir().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The `NAME` of every `NAME.conf`.
fn fixtures() -> Vec<String> {
    let entries = fs::read_dir(fixtures_dir()).expect("the fixtures are part of the sources");
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    let names: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".conf").map(str::to_owned)).collect();
    assert!(names.len() >= 3, "{names:?}");
    names.into_iter().collect()
}

/// Every configuration there is, those the fuzz target starts from among them.
fn configurations() -> Vec<Vec<u8>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/seeds/junos");
    let seeds = fs::read_dir(seeds).expect("the seeds are part of the sources");
    let seeds = seeds.map(|entry| fs::read(entry.expect("readable").path()).expect("readable"));
    fixtures().iter().map(|name| fixture(&format!("{name}.conf"))).chain(seeds).collect()
}

fn ports() -> Vec<Interface> {
    parse_interfaces(&fixture("two-instances.interfaces.json")).expect("accepted")
}

#[track_caller]
fn tree(text: &str) -> Node {
    parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn draft(text: &str) -> Draft {
    build(&tree(text), ports())
}

/// Everything against a draft, one a line.
fn against(draft: &Draft) -> String {
    draft.admit(None).reasons.iter().map(|reason| format!("{reason}\n")).collect()
}

fn warnings(draft: &Draft) -> String {
    draft.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

#[test]
fn every_configuration_gives_the_table_or_the_refusal_beside_it() {
    for name in fixtures() {
        let draft = build(&parse(&fixture(&format!("{name}.conf"))).expect("a configuration"), ports());
        let recorded = fixture(&format!("{name}.mirrors.json"));
        let want: Value = serde_json::from_slice(&recorded).expect("JSON");
        match want.get("error").and_then(Value::as_str) {
            Some(error) => {
                let found = against(&draft);
                assert!(found.lines().any(|line| line.contains(error)), "{name}: {error}\n{found}");
            }
            None => {
                assert_eq!(against(&draft), "", "{name}");
                // As text, since the order of the keys is part of the contract.
                let found = serde_json::to_string(&draft.snapshot.mirrors).expect("plain data");
                assert_eq!(found, String::from_utf8_lossy(&recorded).trim_end(), "{name}");
            }
        }
        // The snapshot the Go control plane made of it has the same instances, so the same remarks.
        let snapshot = parse_draft(&fixture(&format!("{name}.snapshot.json")), None).expect("a snapshot");
        if want.get("error").is_none() {
            assert_eq!(snapshot.snapshot.mirrors, draft.snapshot.mirrors, "{name}");
            let instances = |draft: &Draft| -> Vec<String> {
                draft.origins.iter().map(|o| o.as_ref().expect("known").instance.clone()).collect()
            };
            assert_eq!(instances(&snapshot), instances(&draft), "{name}");
            assert_eq!(snapshot.diagnostics.len(), draft.diagnostics.len(), "{name}: {:?}", snapshot.diagnostics);
        }
    }
}

#[test]
fn a_snapshot_explains_each_instance_without_an_entry() {
    let explained = |name: &str| warnings(&parse_draft(&fixture(name), None).expect("a snapshot"));
    let both = "is left out: duplicate port-mirroring ingress ifindex 11 in instances \"a\" and \"b\"";
    assert_eq!(
        explained("duplicate.snapshot.json"),
        format!(
            "warning: instance \"a\": ingress \"ge-0/0/0.0\" {both}\nwarning: instance \"b\": ingress \"ge-0-0-0\" {both}\n"
        )
    );
    let skipped = explained("set-syntax.snapshot.json");
    assert!(skipped.contains("instance \"no-output\": has no output interface"), "{skipped}");
    assert!(skipped.contains("instance \"orphan\": no interface is called \"ge-0/0/7.0\""), "{skipped}");

    let document = |mirrors: &str, rate: &str| {
        let instances = format!(
            r#"{{"x":{{"Name":"x","InputRate":{rate},"Input":["ge-0/0/0.0"],"Output":"ge-0/0/2.0"}},"y":7,"z":{{"Input":3}}}}"#
        );
        let interfaces = String::from_utf8(fixture("two-instances.interfaces.json")).expect("UTF-8");
        let config = format!(r#"{{"ForwardingOptions":{{"PortMirroring":{{"Instances":{instances}}}}}}}"#);
        format!(r#"{{"version":3,"interfaces":{interfaces},"mirror_configs":{mirrors},"config":{config}}}"#)
    };
    let draft = |mirrors, rate| parse_draft(document(mirrors, rate).as_bytes(), None).expect("a snapshot");
    let entry = r#"[{"ingress_ifindex":11,"output_ifindex":22,"rate":5}]"#;
    let fine = draft(entry, "5");
    assert_eq!(fine.origins[0].as_ref().map(|o| o.instance.as_str()), Some("x"));
    assert!(!warnings(&fine).contains("\"x\""), "{}", warnings(&fine));
    let other = warnings(&draft(entry, "6"));
    assert!(other.contains("the entry of ifindex 11 has output 22 and rate 5, not 22 and 6"), "{other}");
    let none = warnings(&draft("null", "6"));
    assert!(none.contains("the producer left it out"), "{none}");
    let negative = warnings(&draft("null", "-6"));
    assert!(
        negative.contains("instance \"x\": ingress \"ge-0/0/0.0\" is left out: its rate -6 is negative"),
        "{negative}"
    );
}

/// Where, what is found there, what is allowed.
#[test]
fn syntax_errors_name_line_column_and_text() {
    for (text, want) in [
        (
            "a {",
            "line 1 column 4: the text ends inside the block that \"{\" opened at line 1 column 3 (allowed: \"}\")",
        ),
        ("a;\n}", "line 2 column 1: \"}\" closes no block"),
        ("a { b }", "line 1 column 7: unexpected \"}\" (allowed: \";\", \"{\", or another word)"),
        ("a", "line 1 column 2: the text ends inside a statement (allowed: \";\" or \"{\")"),
        ("a [ b", "line 1 column 6: the text ends inside a statement (allowed: \"]\")"),
        ("a [ ];", "line 1 column 5: unexpected \"]\" (allowed: a list with something in it)"),
        ("a [ b ] c;", "line 1 column 9: unexpected \"c\" (allowed: \";\" after a list)"),
        ("a [ b ; ];", "line 1 column 7: unexpected \";\" (allowed: a word, or \"]\")"),
        ("a ];", "line 1 column 3: unexpected \"]\""),
        ("a [ [ b ] ];", "line 1 column 5: unexpected \"[\""),
        ("a;;", "line 1 column 3: unexpected \";\" (allowed: a statement)"),
        ("{ a; }", "line 1 column 1: unexpected \"{\""),
        ("äö \"b;", "line 1 column 4: the string that begins here is never ended"),
        ("a;\n /* b", "line 2 column 2: the comment that \"/*\" begins here is never ended"),
        ("a\u{a0}b;", "line 1 column 2: unexpected character U+00A0"),
        ("a \u{7};", "line 1 column 3: unexpected character U+0007"),
        ("a 1\nb { c; }", "line 2 column 1: unexpected \"b\" (allowed: \";\" or \"{\" at the end of line 1)"),
        ("inactive: ;", "line 1 column 11: unexpected \";\" (allowed: a statement)"),
        ("inactive:", "line 1 column 10: the text ends inside a statement"),
        ("replace: a;", "line 1 column 1: unexpected \"replace:\""),
        (
            "delete a",
            "line 1 column 1: unexpected \"delete\" (allowed: a line that begins with set, deactivate, activate)",
        ),
        ("set a b\nb c", "line 2 column 1: unexpected \"b\" (allowed: a line that begins with"),
        ("set", "line 1 column 4: the line ends after the command (allowed: a path)"),
        ("set a;", "line 1 column 6: unexpected \";\" (allowed: a word, or the end of the line)"),
        ("set [ a ]", "line 1 column 5: unexpected \"[\""),
        ("set a [ b ] c", "line 1 column 13: unexpected \"c\" (allowed: the end of the line after a list)"),
        ("set a\ndeactivate b", "line 2 column 12: unexpected \"b\" (allowed: a statement set before, to deactivate)"),
        ("set a\nactivate", "line 2 column 1: unexpected \"activate\" (allowed: the command with a path)"),
    ] {
        let error = parse(text.as_bytes()).expect_err(text).to_string();
        assert!(error.starts_with(&format!("Junos syntax: {want}")), "{text}\n{error}\n{want}");
    }
    let error = parse(b"a;\n\xc3\xa4 \xff;").expect_err("not UTF-8").to_string();
    assert_eq!(error, "Junos syntax: line 2 column 3: the byte 0xff is not UTF-8 (allowed: UTF-8 text)");
    for deep in ["{".repeat(100_000).replace('{', "a {"), "a ".repeat(100_000), format!("set {}", "a ".repeat(100_000))]
    {
        let error = parse(deep.as_bytes()).expect_err("deep").to_string();
        assert!(error.contains("\"a\" is word 129 of its path (allowed: 128)"), "{error}");
    }
}

#[test]
fn both_syntaxes_are_one_tree() {
    let braces = tree(
        "## Last commit\nversion 21.4R1.12; /* of\n many lines */\n\
         interfaces { inactive: ge-0/0/7 { unit 0; } \"x y\" { description \"a \\\"b\\\" \\\\ # no comment\\n\"; } }\n\
         security { forwarding-options { secure-wire w { interface [ ge-0/0/0.0\n ge-0/0/1.0 ]; } } }\n\
         security { forwarding-options { secure-wire w2 { interface [ a b ]; } } }\n\
         protect: a { inactive: b [ c d ]; member ge-0/0/[0-3]; } # end",
    );
    let set = tree(
        "# one\nset version 21.4R1.12\r\n\n  set interfaces ge-0/0/7 unit 0\n\
         set interfaces \"x y\" description \"a \\\"b\\\" \\\\ # no comment\\n\"\n\
         set security forwarding-options secure-wire w interface ge-0/0/0.0\n\
         set security forwarding-options secure-wire w interface ge-0/0/1.0 # two\n\
         set security forwarding-options secure-wire w2 interface [ a b ]\n\
         deactivate interfaces ge-0/0/7\nset a b c\nset a b d\nset a member ge-0/0/[0-3]\n\
         deactivate a b c\ndeactivate a b d\ndeactivate version\nactivate version",
    );
    assert_eq!(braces, set);
    let ends: Vec<&str> = set
        .at_path(&["security", "forwarding-options", "secure-wire", "w", "interface"])
        .expect("there")
        .children()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(ends, ["ge-0/0/0.0", "ge-0/0/1.0"]);
    assert!(set.at_path(&["interfaces", "ge-0/0/7"]).is_none() && set.at_path(&["a", "b", "c"]).is_none());
    let text = set.at_path(&["interfaces", "x y", "description"]).and_then(|node| node.children().next());
    assert_eq!(text.map(|(text, _)| text), Some("a \"b\" \\ # no comment\n"));
    assert_ne!(braces, tree(&set.to_set().replace("deactivate a b c", "")), "deactivation is part of the tree");
    assert_eq!(Node::default(), tree(" # nothing\n"));
    assert_eq!(
        (Format::of(b" set a"), Format::of(b"\n{}"), Format::of(b"")),
        (Format::Junos, Format::Snapshot, Format::Snapshot)
    );
}

/// An instance x on ge-0/0/0.0, with this between its braces.
fn instance(inside: &str) -> String {
    format!("forwarding-options {{ port-mirroring {{ instance x {{ {inside} }} }} }}")
}

#[test]
fn what_is_deactivated_is_not_there() {
    let ingress = "ingress { interface [ ge-0/0/0.0 ge-0/0/1.0 ]; }";
    let output = "output { interface ge-0/0/2.0; }";
    let mirrors = |text: &str| draft(text).snapshot.mirrors;
    let entry = |ingress_ifindex, rate| Mirror { ingress_ifindex, output_ifindex: 22, rate };
    assert_eq!(mirrors(&instance(&format!("input {{ rate 7; {ingress} }} {output}"))), [entry(11, 7), entry(12, 7)]);
    assert_eq!(
        mirrors(&instance(&format!("input {{ inactive: rate 7; {ingress} }} {output}"))),
        [entry(11, 0), entry(12, 0)]
    );
    assert_eq!(mirrors(&instance(&format!("inactive: input {{ {ingress} }} {output}"))), []);
    assert_eq!(mirrors(&instance(&format!("input {{ {ingress} }} inactive: {output}"))), []);
    let one = "input { ingress { inactive: interface ge-0/0/0.0; interface ge-0/0/1.0; } }";
    assert_eq!(mirrors(&instance(&format!("{one} {output}"))), [entry(12, 0)]);
    let set = "set forwarding-options port-mirroring instance x input ingress interface ge-0/0/0.0\n\
               set forwarding-options port-mirroring instance x output interface ge-0/0/2.0\n";
    assert_eq!(mirrors(set), [entry(11, 0)]);
    assert_eq!(mirrors(&format!("{set}deactivate forwarding-options port-mirroring instance x")), []);
    assert_eq!(mirrors(&format!("{set}deactivate forwarding-options")), []);
}

#[test]
fn a_rate_that_does_not_parse_refuses_the_table() {
    let rest = "ingress { interface ge-0/0/0.0; } } output { interface ge-0/0/2.0; }";
    let with = |rate: &str| draft(&instance(&format!("input {{ {rate} {rest}")));
    for (rate, want) in [
        ("rate -5;", "rate \"-5\" (line 1 column 65) is negative"),
        ("rate;", "rate (line 1 column 60) has no value"),
        ("rate ten;", "rate \"ten\" (line 1 column 65) is not an integer"),
        ("rate 1.5;", "rate \"1.5\" (line 1 column 65) is not an integer"),
        ("rate +5;", "rate \"+5\" (line 1 column 65) is not an integer"),
        ("rate -0;", "rate \"-0\" (line 1 column 65) is not an integer"),
        ("rate \"\";", "rate \"\" (line 1 column 65) is not an integer"),
        ("rate 4294967296;", "rate \"4294967296\" (line 1 column 65) is out of range"),
        ("rate 5 6;", "rate \"5\" (line 1 column 65) is followed by \"6\" (line 1 column 67)"),
        ("rate 5; rate 6;", "two rates, \"5\" (line 1 column 65) and \"6\" (line 1 column 73)"),
    ] {
        let mut draft = with(rate);
        let found = against(&draft);
        let line = format!("instance \"x\" (line 1 column 48): {want} (allowed: an integer in 0..=4294967295)\n");
        assert_eq!(found, line, "{rate}");
        // Fail-closed: without the table it may be published, and the reason with it.
        let admission = draft.admit_or_omit(None);
        assert!(admission.accepted() && draft.snapshot.mirrors.is_empty(), "{rate}");
        assert!(admission.diagnostics.iter().any(|d| d.message.contains(want)), "{rate}");
    }
    assert_eq!(with("rate 4294967295;").snapshot.mirrors[0].rate, u32::MAX);
    // As in the Go control plane: without an entry there is nothing to refuse.
    let unresolved =
        draft(&instance("input { rate -5; ingress { interface nowhere; } } output { interface ge-0/0/2.0; }"));
    assert_eq!(against(&unresolved), "");
    assert!(warnings(&unresolved).contains("no interface is called \"nowhere\""), "{}", warnings(&unresolved));
}

#[test]
fn every_reason_at_once() {
    let text = "forwarding-options { port-mirroring {
        instance a { input { rate x; ingress { interface ge-0/0/0.0; } } output { interface ge-0/0/2.0 extra; } }
        instance b { input { ingress { interface [ ge-0-0-0 ge-0/0/2.0 ]; } } output { interface [ ge-0/0/2.0 ge-0/0/1.0 ]; } }
    } }
    apply-groups [ node0 node1 ];
    security { forwarding-options { secure-wire w { interface [ ge-0/0/0.0 ge-0/0/1.0 ge-0/0/2.0 ]; } secure-wire v { interface [ nope ge-0/0/0.0 ]; } } }";
    let found = against(&draft(text));
    for want in [
        "line 5 column 20: apply-groups \"node0\": there is no such group",
        "instance \"a\" (line 2 column 18): interface \"ge-0/0/2.0\" (line 2 column 93) is followed by \"extra\" (line 2 column 104)",
        "secure-wire \"w\" (line 6 column 49): number of interfaces: 3 (allowed: two",
        "secure-wire \"v\" (line 6 column 115): no interface is called \"nope\" (line 6 column 131)",
        "instance \"a\" (line 2 column 18): rate \"x\" (line 2 column 35) is not an integer",
        "instance \"b\" (line 3 column 18): two output interfaces, \"ge-0/0/2.0\" (line 3 column 100) and \"ge-0/0/1.0\"",
        "instance \"b\" ingress \"ge-0-0-0\" (line 3 column 52): duplicate port-mirroring ingress ifindex 11 in instances \"a\" and \"b\"",
        "ifindex 22 (\"ge-0/0/2.0\") is the entry's own ingress",
        "a mirror chain",
    ] {
        assert!(found.contains(want), "{want}\n{found}");
    }
    assert!(found.lines().all(|line| line.contains("(allowed: ")), "{found}");
}

#[test]
fn groups_that_are_not_there_are_refused_wherever_they_are_applied() {
    for text in [
        "apply-groups g;",
        "set apply-groups g",
        "system { apply-groups [ g h ]; }",
        "set interfaces apply-groups \"<*>\"",
    ] {
        let found = against(&draft(text));
        assert!(found.contains("apply-groups") && found.contains("display inheritance"), "{text}: {found}");
        assert!(!draft(text).clone().admit_or_omit(None).accepted(), "{text}: not for want of a table alone");
    }
    for text in ["inactive: apply-groups g;", "groups { g { system { host-name x; } } }", "description apply-groups;"] {
        assert_eq!(against(&draft(text)), "", "{text}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let found = warnings(&draft(&instance(
        "input { run-length 3; ingress { interface ge-0/0/0.0; } egress { interface x; } } output { interface ge-0/0/2.0; ip 1; } family inet;",
    )));
    for word in ["run-length", "egress", "ip", "family"] {
        assert!(found.contains(&format!("\"{word}\" (line 1 column ")), "{word}: {found}");
    }
    assert_eq!(found.lines().count(), 4, "{found}");
    let wire = "security forwarding-options secure-wire w interface [ ge-0/0/0.0 ge-0/0/1.0 ];";
    let elsewhere = format!("forwarding-options {{ port-mirroring {{ traceoptions {{ file x; }} }} }} {wire}");
    assert_eq!(
        warnings(&draft(&elsewhere)),
        "warning: port-mirroring: \"traceoptions\" (line 1 column 39) is not supported here and has no effect\n"
    );
}

/// A wire, so that there is something to read.
const WIRE: &str = "security forwarding-options secure-wire w interface [ ge-0/0/0.0 ge-0/0/1.0 ];\n";

/// `text` and a wire, in the syntax of `text`.
fn beside_a_wire(text: &str) -> String {
    let set = "set security forwarding-options secure-wire w interface [ ge-0/0/0.0 ge-0/0/1.0 ]\n";
    format!("{}{text}", if text.starts_with("set ") { set } else { WIRE })
}

/// The ways other devices mirror, and what is only like the way this one does: each by its line.
#[test]
fn what_asks_for_mirroring_and_has_no_effect_is_said() {
    let unsupported = "asks for mirroring in a way that is not supported, and has no effect";
    let unknown = "is no statement that is known here, and has no effect";
    for (text, want) in [
        (
            "forwarding-options { analyzer mon { input { ingress { interface a; } } output { interface b; } } }",
            format!("forwarding-options: \"analyzer\" (line 2 column 22) {unsupported}"),
        ),
        (
            "set forwarding-options analyzer mon input ingress interface a",
            format!("forwarding-options: \"analyzer\" (line 2 column 24) {unsupported}"),
        ),
        (
            "forwarding-options { port-mirror { input { rate 1; } } }",
            format!("forwarding-options: \"port-mirror\" (line 2 column 22) {unsupported}"),
        ),
        (
            "forwarding-options {\n port-miroring { instance a { output { interface b; } } } }",
            format!("forwarding-options: \"port-miroring\" (line 3 column 2) {unknown}"),
        ),
        (
            "ethernet-switching-options { storm-control { interface all; } analyzer mon { output { interface b; } } }",
            format!("ethernet-switching-options: \"analyzer\" (line 2 column 63) {unsupported}"),
        ),
        (
            "security { forwarding-options { mirror-filter f { output { interface b; } } } }",
            format!("security forwarding-options: \"mirror-filter\" (line 2 column 33) {unsupported}"),
        ),
        (
            "security { forwarding-options { secure-wires v { interface [ a b ]; } } }",
            format!("security forwarding-options: \"secure-wires\" (line 2 column 33) {unknown}"),
        ),
        (
            "firewall { family any { filter mirror-all { term t { from { port 80; } then { port-mirror-instance PM; accept; } } } } }",
            format!("firewall filter mirror-all: \"port-mirror-instance\" (line 2 column 79) {unsupported}"),
        ),
        (
            "set firewall family ethernet-switching filter F term t then analyzer mon",
            format!("firewall filter F: \"analyzer\" (line 2 column 61) {unsupported}"),
        ),
        (
            "firewall { filter F { then port-mirror; } }",
            format!("firewall filter F: \"port-mirror\" (line 2 column 28) {unsupported}"),
        ),
    ] {
        let text = beside_a_wire(text);
        let found = warnings(&draft(&text));
        assert!(found.starts_with(&format!("warning: {want}")) && found.lines().count() == 1, "{text}\n{found}");
        assert_eq!(against(&draft(&text)), "", "{text}: it is no reason to refuse");
    }
}

#[test]
fn what_has_nothing_to_do_with_mirroring_is_not_worth_a_word() {
    for text in [
        "forwarding-options { sampling { input { rate 1; } } hash-key { family inet { layer-3; } } helpers { bootp; } }",
        "forwarding-options { storm-control-profiles p { all; } dhcp-relay { group g; } apply-macro m; packet-capture; }",
        "inactive: forwarding-options { analyzer mon { output { interface b; } } }",
        "forwarding-options { inactive: analyzer mon { output { interface b; } } }",
        "set forwarding-options analyzer mon output interface b\ndeactivate forwarding-options analyzer mon",
        "set firewall filter F then port-mirror-instance P\ndeactivate firewall filter F then port-mirror-instance P",
        "ethernet-switching-options { voip { interface all; } secure-access-port; }",
        "security { forwarding-options { family { inet6 { mode flow-based; } } } }",
        "firewall { family inet { filter port-mirror { term analyzer { then { count mirrored; sample; accept; } } } } }",
        "firewall { policer mirror { then discard; } family any { filter F { interface-specific; } } }",
    ] {
        assert_eq!(warnings(&draft(&beside_a_wire(text))), "", "{text}");
    }
}

#[test]
fn a_text_without_anything_to_do_says_so() {
    let nothing = "warning: configuration: nothing to mirror and no wire was read from it";
    for text in [
        "",
        "system { host-name x; }",
        "inactive: security { forwarding-options { secure-wire w { interface [ a b ]; } } }",
    ] {
        assert!(warnings(&draft(text)).starts_with(nothing), "{text}");
    }
    assert!(warnings(&draft(&instance("output { interface ge-0/0/2.0; }"))).contains(nothing));
    let mirrors = instance("input { ingress { interface ge-0/0/0.0; } } output { interface ge-0/0/2.0; }");
    for text in [WIRE, &mirrors] {
        assert!(!warnings(&draft(text)).contains(nothing), "{text}");
    }
}

/// What a device writes for what it does not show: the block is no error, and worth a word where it hides what is read.
#[test]
fn what_was_withheld_is_a_statement() {
    let text = format!(
        "system {{\n    login {{ /* OMITTED */ }};\n    services {{ /* ACCESS-DENIED */ }};\n}}\nsnmp {{\n}};\n{WIRE}"
    );
    let found = draft(&text);
    assert_eq!((against(&found), warnings(&found)), (String::new(), String::new()));
    assert!(tree(&text).at_path(&["system", "login"]).is_some_and(Node::is_withheld));
    let set = tree("set system login { /* OMITTED */ };\nset system services { /* ACCESS-DENIED */ }\nset snmp");
    assert_eq!(set, tree("system { login { /* OMITTED */ }; services; } snmp;"));
    for (text, want) in [
        ("interfaces { /* ACCESS-DENIED */ };", "interfaces: \"interfaces\" (line 2 column 1)"),
        ("security { /* ACCESS-DENIED */ };", "security: \"security\" (line 1 column 1)"),
        (
            "forwarding-options { port-mirroring { /* OMITTED */ }; }",
            "forwarding-options port-mirroring: \"port-mirroring\" (line 2 column 22)",
        ),
    ] {
        let found = warnings(&draft(&format!("{WIRE}{text}")));
        let want =
            format!("warning: {want} is left out of this text (OMITTED or ACCESS-DENIED), and so has no effect\n");
        assert_eq!(found, want, "{text}");
    }
    for (text, want) in [
        ("a { b; };", "line 1 column 9: unexpected \";\""),
        ("a { };;", "line 1 column 7: unexpected \";\""),
        ("set a { b }", "line 1 column 9: unexpected \"b\" (allowed: \"}\" at once"),
        ("set a { } b", "line 1 column 11: unexpected \"b\" (allowed: the end of the line after \"}\")"),
        ("set a {", "the text ends inside a statement (allowed: \"}\")"),
        ("set { }", "line 1 column 5: unexpected \"{\""),
    ] {
        let error = parse(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let marked = [b"\xef\xbb\xbf", WIRE.as_bytes()].concat();
    assert_eq!((Format::of(&marked), parse(&marked)), (Format::Junos, parse(WIRE.as_bytes())));
    for json in [&b"\xef\xbb\xbf{}"[..], b"\xef\xbb\xbf\n [", b"\xff\xfe{\0", b"\xfe\xff\0{", b"\xef\xbb\xbf"] {
        assert_eq!(Format::of(json), Format::Snapshot, "{json:?}");
    }
    for (text, name) in
        [(&b"\xff\xfes\0e\0t\0"[..], "UTF-16"), (b"\xfe\xff\0s", "UTF-16"), (b"\0\0\xfe\xff\0\0\0s", "UTF-32")]
    {
        assert_eq!(Format::of(text), Format::Junos);
        let error = parse(text).expect_err("not UTF-8").to_string();
        let want = format!(
            "Junos syntax: line 1 column 1: the text is {name}, as its byte-order mark says (allowed: UTF-8 text)"
        );
        assert_eq!(error, want);
    }
}

#[test]
fn what_was_copied_off_a_terminal_is_named() {
    for (text, line, want) in [
        ("admin@mx1> show configuration | no-more\nsystem { }", 1, "\"admin@mx1>\" is a prompt"),
        ("admin@mx1>show configuration", 1, "\"admin@mx1>show\" is a prompt"),
        ("admin@mx1# set a b", 1, "\"admin@mx1#\" is a prompt"),
        ("mx1> show configuration", 1, "\"mx1>\" is a prompt"),
        ("root@mx1:~ # cli", 1, "\"root@mx1:~\" is a prompt"),
        ("root@mx1% cli", 1, "\"root@mx1%\" is a prompt"),
        ("system { host-name x; }\n\nadmin@mx1> ", 3, "\"admin@mx1>\" is a prompt"),
        ("set a b\nadmin@mx1# set a c", 2, "\"admin@mx1#\" is a prompt"),
        ("set a b\n\n[edit]\nadmin@mx1#", 3, "\"[\" is part of a prompt"),
        ("[edit interfaces]\nset a b", 1, "\"[\" is part of a prompt"),
        ("{master:0}[edit]\n", 1, "\"{\" is part of a prompt"),
        ("a { b; }\n{primary:node0}\n", 2, "\"{\" is part of a prompt"),
        ("---(more 12%)---\nb;", 1, "\"---(more\" is where a pager stopped"),
        ("a {\n---(more)---\nb; }", 2, "\"---(more)---\" is where a pager stopped"),
        ("show configuration | display set\nset a b", 1, "\"show\" is a command"),
    ] {
        assert_eq!(Format::of(text.as_bytes()), Format::Junos, "{text}");
        let error = parse(text.as_bytes()).expect_err(text).to_string();
        let want = format!(
            "Junos syntax: line {line} column 1: {want}, copied off a terminal (allowed: the configuration alone)"
        );
        assert_eq!(error, want, "{text}");
    }
    for fine in
        ["a \"admin@mx1>\";", "user admin@mx1;", "groups { g { interfaces { <ge-*> { mtu 9000; } } } }", "show x;"]
    {
        tree(fine);
    }
    assert_eq!(Format::of(b"{version: 3}"), Format::Snapshot, "what is nearly JSON is told what it lacks");
}

#[test]
fn secure_wires_are_wires() {
    let text = "set security forwarding-options secure-wire up interface [ ge-0/0/1.0 ge-0-0-0 ]";
    let found = draft(text);
    assert_eq!(against(&found), "");
    assert_eq!(found.snapshot.wires, [Wire { name: "up".into(), a_ifindex: 12, b_ifindex: 11, ..Wire::default() }]);
    let one = against(&draft("set security forwarding-options secure-wire w interface ge-0/0/1.0"));
    assert!(one.contains("number of interfaces: 1 (allowed: two, as in interface [ A B ])"), "{one}");
    let shared = against(&draft(&format!(
        "{text}\nset security forwarding-options secure-wire v interface [ ge-0/0/2.0 ge-0-0-0 ]"
    )));
    assert!(shared.contains("ifindex 11 (\"ge-0/0/0.0\") of \"v\" is a port of wires[0] \"up\" already"), "{shared}");
}

/// Not Junos' own: `link-loss-forwarding` in a secure wire.
#[test]
fn a_secure_wire_may_forward_the_loss_of_a_link() {
    let wire = "security { forwarding-options { secure-wire w { interface [ ge-0/0/0.0 ge-0/0/1.0 ];";
    let set = "set security forwarding-options secure-wire w interface [ ge-0/0/0.0 ge-0/0/1.0 ]\n\
               set security forwarding-options secure-wire w link-loss-forwarding\n";
    for (text, forwards) in [
        (format!("{wire} }} }} }}"), false),
        (format!("{wire} link-loss-forwarding; }} }} }}"), true),
        (format!("{wire} inactive: link-loss-forwarding; }} }} }}"), false),
        (set.to_owned(), true),
        (format!("{set}deactivate security forwarding-options secure-wire w link-loss-forwarding"), false),
    ] {
        let found = draft(&text);
        assert_eq!((against(&found).as_str(), warnings(&found).as_str()), ("", ""), "{text}");
        assert_eq!(found.snapshot.wires[0].link_loss_forwarding, forwards, "{text}");
        // Both ways of writing keep it.
        let node = tree(&text);
        for written in [node.to_braces(), node.to_set()] {
            assert_eq!(draft(&written).snapshot.wires, found.snapshot.wires, "{written}");
        }
    }
    let found = against(&draft(&format!("{wire} link-loss-forwarding enable; }} }} }}")));
    assert!(
        found.starts_with(
            "secure-wire \"w\" (line 1 column 45): link-loss-forwarding is followed by \"enable\" (line 1 column 107) \
             (allowed: \";\")"
        ),
        "{found}"
    );
}

fn device(name: &str, ifindex: u32, vlan: Option<(u32, u16)>) -> Link {
    let (parent_ifindex, vlan_id) = vlan.unwrap_or_default();
    let (name, linux_name) = (name.to_owned(), name.to_owned());
    Link {
        interface: Interface { name, linux_name, ifindex, parent_ifindex, vlan_id, ..Interface::default() },
        ..Link::default()
    }
}

#[test]
fn live_devices_answer_to_their_junos_names() {
    let links = Links {
        all: vec![
            device("ge-0-0-0", 3, None),
            device("eth1", 4, None),
            device("eth1.7", 5, Some((4, 7))),
            device("mon", 9, None),
        ],
        place: String::new(),
    };
    let text = "interfaces { ge-0/0/0 { unit 42 { vlan-id 42; } unit 0; } eth1 { unit 1 { vlan-id 7; } unit 2; } }
        forwarding-options { port-mirroring { instance x { output { interface mon.0; } input { ingress {
            interface [ ge-0/0/0.0 ge-0/0/0.42 eth1 eth1.7 eth1.1 eth1.2 eth1.3 eth7.0 ];
        } } } } }";
    let config = tree(text);
    let draft = build(&config, live_interfaces(&config, &links, []));
    let vlan = (1 << 30) | (3 << 12) | 42;
    let found: Vec<u32> = draft.snapshot.mirrors.iter().map(|m| m.ingress_ifindex).collect();
    // eth1.7 and eth1.1 are one device, which admission refuses.
    assert_eq!(found, [3, vlan, 4, 5, 5], "{}", warnings(&draft));
    assert!(draft.snapshot.mirrors.iter().all(|m| m.output_ifindex == 9));
    let of_vlan = draft.snapshot.interface_by_index(vlan).expect("made");
    assert_eq!((of_vlan.name.as_str(), of_vlan.vlan()), ("ge-0-0-0.42", Some((3, 42))));
    assert!(against(&draft).contains("duplicate port-mirroring ingress ifindex 5 in instances \"x\" and \"x\""));
    // A list stands for the live system.
    let listed = read(text.as_bytes(), Ports::Listed(&links), &[]).expect("a configuration");
    assert_eq!(listed, draft);
    let live = read(text.as_bytes(), Ports::Live(&links), &[]).expect("a configuration");
    let mut noted = draft.clone();
    links.note(&mut noted.snapshot);
    assert_eq!(live, noted);
}

/// What a unit means is its tag on its device; what happens to be called like it is something else.
#[test]
fn a_tag_decides_and_not_the_name_of_a_device() {
    let seven = (1 << 30) | (3 << 12) | 7;
    let names = ["ge-0/0/0.42", "ge-0-0-0.42"];
    let altname = Link { altnames: vec!["ge-0-0-0.42".into()], ..device("eth5", 5, None) };
    let by_junos_name = {
        let mut link = device("eth5", 5, None);
        link.interface.name = "ge-0/0/0.42".into();
        link
    };
    for (impostors, want) in [
        (vec![device("ge-0-0-0.42", 5, None)], seven),
        (vec![device("ge-0-0-0.42", 5, Some((3, 42)))], seven),
        (vec![device("ge-0-0-0.42", 5, Some((4, 7)))], seven),
        (vec![altname], seven),
        (vec![by_junos_name], seven),
        // The tag has a device of its own, by another name.
        (vec![device("vlan7", 6, Some((3, 7))), device("ge-0-0-0.42", 5, None)], 6),
        (vec![device("ge-0-0-0.42", 5, None), device("vlan7", 6, Some((3, 7)))], 6),
        // And by this one.
        (vec![device("ge-0-0-0.42", 6, Some((3, 7)))], 6),
    ] {
        let own = [device("ge-0-0-0", 3, None), device("eth1", 4, None), device("mon", 9, None)];
        let links = Links { all: [&own[..], &impostors].concat(), place: String::new() };
        for name in names {
            let text = format!(
                "interfaces {{ ge-0/0/0 {{ unit 42 {{ vlan-id 7; }} }} }}
                forwarding-options {{ port-mirroring {{ instance x {{ output {{ interface mon; }}
                    input {{ ingress {{ interface {name}; }} }} }} }} }}"
            );
            for ports in [Ports::Live(&links), Ports::Listed(&links)] {
                let draft = read(text.as_bytes(), ports, &[]).expect("a configuration");
                let found: Vec<u32> = draft.snapshot.mirrors.iter().map(|m| m.ingress_ifindex).collect();
                assert_eq!(found, [want], "{name} {impostors:?}: {}", warnings(&draft));
                let unit = draft.snapshot.interface_by_index(want).expect("a row");
                assert_eq!(unit.vlan(), Some((3, 7)), "{name} {impostors:?}");
            }
            let wire = format!(
                "{text} security {{ forwarding-options {{ secure-wire w {{ interface [ {name} eth1 ]; }} }} }}"
            );
            let found = against(&read(wire.as_bytes(), Ports::Live(&links), &[]).expect("a configuration"));
            assert_eq!(found.contains("is a VLAN without a device"), want == seven, "{name} {impostors:?}: {found}");
        }
    }
    // Without a tag it is the device of that name.
    let own = [device("ge-0-0-0", 3, None), device("ge-0-0-0.42", 5, None), device("mon", 9, None)];
    let links = Links { all: own.to_vec(), place: String::new() };
    let text = "forwarding-options { port-mirroring { instance x { output { interface mon; }
        input { ingress { interface ge-0/0/0.42; } } } } }";
    let draft = read(text.as_bytes(), Ports::Live(&links), &[]).expect("a configuration");
    assert_eq!(draft.snapshot.mirrors[0].ingress_ifindex, 5);
}

/// What `text` gives on the devices eth0 (3), eth1 (4) and mon (9).
fn live(text: &str) -> Draft {
    let all = vec![device("eth0", 3, None), device("eth1", 4, None), device("mon", 9, None)];
    let links = Links { all, place: String::new() };
    read(text.as_bytes(), Ports::Live(&links), &[]).expect("a configuration")
}

/// An alternative name is a name, with units and in both spellings; the row has the kernel's own name beside it.
#[test]
fn a_device_answers_to_its_alternative_names() {
    let with = |name: &str, ifindex, altnames: &[&str]| Link {
        altnames: altnames.iter().map(ToString::to_string).collect(),
        ..device(name, ifindex, None)
    };
    let links = Links {
        all: vec![
            with("enp1s0", 3, &["ge-0-0-0", "uplink"]),
            with("enp2s0", 4, &["ge-0/0/1"]),
            with("enp3s0", 9, &["mon"]),
        ],
        place: String::new(),
    };
    let text = "interfaces { enp1s0 { unit 5 { vlan-id x; } unit 42 { vlan-id 42; } } }
        security { forwarding-options { secure-wire w { interface [ ge-0/0/0.0 ge-0/0/1.0 ]; } } }
        forwarding-options { port-mirroring { instance x { output { interface mon; }
            input { ingress { interface [ uplink ge-0/0/0.42 ge-0-0-1 uplink.5 uplink.6 ]; } } } } }";
    for ports in [Ports::Live(&links), Ports::Listed(&links)] {
        let draft = read(text.as_bytes(), ports, &["uplink:enp2s0".to_owned()]).expect("a configuration");
        assert!(against(&draft).contains("--wire: the snapshot names its own wires"), "{}", against(&draft));
        let draft = read(text.as_bytes(), ports, &[]).expect("a configuration");
        let wires: Vec<_> = draft.snapshot.wires.iter().map(|wire| (wire.a_ifindex, wire.b_ifindex)).collect();
        assert_eq!(wires, [(3, 4)], "{}", against(&draft));
        let vlan = (1 << 30) | (3 << 12) | 42;
        let found: Vec<_> = draft.snapshot.mirrors.iter().map(|m| (m.ingress_ifindex, m.output_ifindex)).collect();
        assert_eq!(found, [(3, 9), (vlan, 9), (4, 9)], "{}", warnings(&draft));
        let rows = draft.snapshot.interfaces.iter().filter(|row| row.ifindex == 3);
        let rows: Vec<_> = rows.map(|row| (row.name.as_str(), row.linux_name.as_str())).collect();
        assert_eq!(rows, [("ge-0-0-0.0", "enp1s0"), ("uplink", "enp1s0")]);
    }
    let missing = "security forwarding-options secure-wire w interface [ ge-0/0/0 ge-0/0/7 ];";
    let found = against(&read(missing.as_bytes(), Ports::Live(&links), &[]).expect("a configuration"));
    assert!(
        found.contains("no interface is called \"ge-0/0/7\"")
            && found.contains("(allowed: two interfaces that are there: \"ge-0-0-0\", \"enp2s0\", \"enp3s0\")"),
        "{found}"
    );
}

#[test]
fn a_unit_of_an_unusable_vlan_is_refused_and_never_the_whole_port() {
    for (unit, want) in [
        ("vlan-id 5000;", "vlan-id \"5000\" (line 1 column 38) is out of range"),
        ("vlan-id 0;", "vlan-id \"0\" (line 1 column 38) is out of range"),
        ("vlan-id 99999999999;", "is out of range"),
        ("vlan-id abc;", "vlan-id \"abc\" (line 1 column 38) is not an integer"),
        ("vlan-id +7;", "is not an integer"),
        ("vlan-id;", "\"vlan-id\" (line 1 column 30) has no value"),
        ("vlan-id 7 8;", "vlan-id \"7\" (line 1 column 38) is followed by \"8\""),
        ("vlan-id [ 7 8 ];", "two values of vlan-id, \"7\" (line 1 column 40) and \"8\""),
        ("vlan-id-list 7;", "\"vlan-id-list\" (line 1 column 30) is not supported"),
        ("vlan-id 7; vlan-tags outer 7;", "\"vlan-tags\" (line 1 column 41) is not supported"),
    ] {
        let units = format!("interfaces {{ eth0 {{ unit 0 {{ {unit} }} }} }}");
        let of_table =
            "forwarding-options port-mirroring instance x { input ingress interface eth0.0; output interface mon; }";
        let mut draft = live(&format!("{units} {of_table}"));
        let found = against(&draft);
        assert!(found.starts_with("unit \"eth0.0\": ") && found.contains(want), "{unit}: {found}");
        assert!(found.contains("(allowed: one vlan-id, an integer in 1..=4094)"), "{unit}: {found}");
        assert_eq!(draft.snapshot.mirrors, [], "{unit}");
        assert!(draft.admit_or_omit(None).accepted(), "{unit}: only the table is refused");
        let of_wire = "security forwarding-options secure-wire w interface [ eth0.0 eth1.0 ];";
        let mut draft = live(&format!("{units} {of_wire}"));
        assert!(against(&draft).contains(want), "{unit}");
        assert!(!draft.admit_or_omit(None).accepted(), "{unit}: a wire is never left out");
        assert_eq!(against(&live(&units)), "", "{unit}: nothing mentions it");
    }
    let twice = "set interfaces ge-0/0/0 unit 0 vlan-id 7\nset interfaces ge-0-0-0 unit 0 vlan-id 8\n\
        set security forwarding-options secure-wire w interface [ ge-0/0/0.0 eth1.0 ]";
    assert!(against(&live(twice)).contains("unit \"ge-0-0-0.0\": two values of vlan-id, \"7\""));
}

#[test]
fn two_units_of_one_vlan_are_one_ingress() {
    let draft = live(
        "interfaces { eth0 { unit 1 { vlan-id 7; } unit 2 { vlan-id 7; } } }
        forwarding-options port-mirroring instance x { input ingress interface [ eth0.1 eth0.2 ]; output interface mon; }",
    );
    let vlan = (1 << 30) | (3 << 12) | 7;
    assert_eq!(warnings(&draft), "");
    let found = against(&draft);
    assert!(found.contains(&format!("duplicate port-mirroring ingress ifindex {vlan}")), "{found}");
}

#[test]
fn a_wire_needs_devices() {
    let found = against(&live(
        "interfaces { eth0 { unit 1 { vlan-id 7; } } }
        security forwarding-options secure-wire w interface [ eth0.1 eth1.0 ];",
    ));
    assert_eq!(
        found,
        "secure-wire \"w\" (line 2 column 49): interface \"eth0.1\" (line 2 column 63) is a VLAN without a device \
         (allowed: two interfaces that are there: \"eth0\", \"eth1.0\", \"mon\")\n"
    );
}

#[test]
fn a_wire_argument_means_what_the_configuration_would() {
    let text =
        "interfaces { eth0 { unit 0 { vlan-id 7; } unit 42 { vlan-id 42; } } ge-0/0/0 { unit 0 { vlan-id x; } } }";
    let all = [("eth0", 3), ("eth1", 4), ("ge-0-0-0", 5)].map(|(name, ifindex)| device(name, ifindex, None));
    let all = all.into_iter().chain([device("eth1.9", 6, Some((4, 9)))]).collect();
    let links = Links { all, place: String::new() };
    let wire = |text: &str, argument: &str| {
        let draft = read(text.as_bytes(), Ports::Live(&links), &[argument.to_owned()]).expect("a configuration");
        let wires: Vec<_> = draft.snapshot.wires.iter().map(|wire| (wire.a_ifindex, wire.b_ifindex)).collect();
        (wires, against(&draft))
    };
    for (argument, want) in [("eth0:eth1.0", (3, 4)), ("3:ge-0/0/0", (3, 5)), ("eth1.0:5", (4, 5))] {
        assert_eq!(wire(text, argument), (vec![want], String::new()), "{argument}");
    }
    assert_eq!(wire("interfaces;", "eth0.0:ge-0/0/0.0"), (vec![(3, 5)], String::new()), "units without VLANs");
    for (argument, want) in [
        ("eth0.0:eth1", "(\"eth0.0\") is VLAN 7 on ifindex 3 (allowed: a whole port, with all its VLANs)"),
        ("eth1:eth0.42", "(\"eth0.42\") is VLAN 42 on ifindex 3 (allowed"),
        ("eth1.9:eth0", "ifindex 6 (\"eth1.9\") is VLAN 9 on ifindex 4 (allowed"),
        ("6:eth0", "ifindex 6 (\"eth1.9\") is VLAN 9 on ifindex 4 (allowed"),
        ("ge-0/0/0.0:eth0", "no interface is called \"ge-0/0/0.0\""),
        ("eth1.1:eth0", "no interface is called \"eth1.1\""),
    ] {
        let (wires, found) = wire(text, argument);
        assert!(wires.is_empty() && found.contains(want) && found.lines().count() == 1, "{argument}: {found}");
    }
}

/// One instance of a random configuration.
#[derive(Clone, Debug)]
struct Plan {
    rate: Option<u32>,
    /// Of `PORTS`.
    ingresses: Vec<usize>,
    output: Option<usize>,
    inactive: bool,
}

/// Names for ports, with the ifindex each means; several names may mean one.
const PORTS: [(&str, Option<u32>); 8] = [
    ("ge-0/0/0.0", Some(11)),
    ("ge-0/0/1.0", Some(12)),
    ("ge-0/0/2.0", Some(22)),
    ("ge-0-0-0", Some(11)),
    ("ge-0/0/1", Some(12)),
    ("ge-0-0-2", Some(22)),
    ("ge-0/0/7.0", None),
    ("no such port", None),
];

fn plans() -> impl Strategy<Value = Vec<(String, Plan)>> {
    let plan = (any::<Option<u32>>(), vec(0..PORTS.len(), 0..5), proptest::option::of(0..PORTS.len()), any::<bool>());
    let plan = plan.prop_map(|(rate, ingresses, output, inactive)| Plan { rate, ingresses, output, inactive });
    let name = prop_oneof!["[a-z0-9-]{1,4}", any::<String>()];
    // In an order of writing other than that of the names.
    btree_map(name, plan, 0..6).prop_map(|plans| plans.into_iter().collect()).prop_shuffle()
}

/// A word in quotes that mean nothing.
fn quote(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn in_braces(plans: &[(String, Plan)]) -> String {
    let mut text =
        String::from("system { host-name x; } # a comment { \nforwarding-options { /* one; */ port-mirroring {\n");
    for (name, plan) in plans {
        let tag = if plan.inactive { "inactive: " } else { "" };
        let _ = writeln!(text, "{tag}instance {} {{ input {{", quote(name));
        plan.rate.iter().for_each(|rate| writeln!(text, "rate {rate};").expect("a string"));
        let ports: Vec<String> = plan.ingresses.iter().map(|&at| quote(PORTS[at].0)).collect();
        match ports.as_slice() {
            [] => {}
            [one] => writeln!(text, "ingress interface {one};").expect("a string"),
            more => writeln!(text, "ingress {{ interface [ {} ]; }}", more.join(" ")).expect("a string"),
        }
        text += "}\n";
        plan.output
            .iter()
            .for_each(|&at| writeln!(text, "output {{ interface {}; }}", quote(PORTS[at].0)).expect("a string"));
        text += "}\n";
    }
    text + "} }"
}

fn in_set_lines(plans: &[(String, Plan)]) -> String {
    let mut text = String::from("set system host-name x\n# a comment\nset forwarding-options port-mirroring\n");
    for (name, plan) in plans {
        let at = format!("forwarding-options port-mirroring instance {}", quote(name));
        let mut line = |rest: String| writeln!(text, "set {at} {rest}").expect("a string");
        line("input".to_owned());
        plan.rate.iter().for_each(|rate| line(format!("input rate {rate}")));
        plan.ingresses.iter().for_each(|&port| line(format!("input ingress interface {}", quote(PORTS[port].0))));
        plan.output.iter().for_each(|&port| line(format!("output interface {}", quote(PORTS[port].0))));
        if plan.inactive {
            let _ = writeln!(text, "deactivate {at}");
        }
    }
    text
}

/// The table by the rules, written down a second time.
fn oracle(plans: &[(String, Plan)]) -> Vec<Mirror> {
    let by_name: BTreeMap<&[u8], &Plan> = plans.iter().map(|(name, plan)| (name.as_bytes(), plan)).collect();
    let mut table = Vec::new();
    for plan in by_name.into_values().filter(|plan| !plan.inactive) {
        let Some(output_ifindex) = plan.output.and_then(|at| PORTS[at].1) else { continue };
        let mut said = BTreeSet::new();
        for at in plan.ingresses.iter().filter(|&&at| said.insert(at)) {
            let Some(ingress_ifindex) = PORTS[*at].1 else { continue };
            table.push(Mirror { ingress_ifindex, output_ifindex, rate: plan.rate.unwrap_or(0) });
        }
    }
    table
}

/// Any tree: paths of words, some of them deactivated.
fn any_tree() -> impl Strategy<Value = Node> {
    let word = prop_oneof![
        3 => select(vec!["a", "b", "set", "inactive:", "#", "/*", "*/", "[", "]", "{", "x[1]", "", "\\", "\"", "\n", "delete"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let path = vec(word, 1..5);
    vec((path, any::<bool>()), 0..12).prop_map(|paths| {
        let quote = |word: &String| quote(word);
        let mut text = String::from("set a\n");
        for (path, inactive) in &paths {
            let path: Vec<String> = path.iter().map(quote).collect();
            let _ = writeln!(text, "set {}", path.join(" "));
            if *inactive {
                let _ = writeln!(text, "deactivate {}", path[..path.len().div_ceil(2)].join(" "));
            }
        }
        tree(&text)
    })
}

/// Everything that is done with a text, whatever it is.
fn drive(bytes: &[u8]) {
    match parse(bytes) {
        Ok(tree) => {
            assert_eq!(parse(tree.to_braces().as_bytes()).as_ref(), Ok(&tree));
            assert_eq!(parse(tree.to_set().as_bytes()).as_ref(), Ok(&tree));
            let draft = build(&tree, ports());
            assert_eq!(draft.origins.len(), draft.snapshot.mirrors.len());
            assert_eq!(draft.admit(None).states.len(), draft.snapshot.mirrors.len());
        }
        Err(reason) => {
            let text = reason.as_str();
            assert!(text.starts_with("Junos syntax: line ") && text.contains(" column "), "{text}");
            assert!(!text.chars().any(char::is_control), "one line: {text:?}");
        }
    }
}

proptest! {
    #[test]
    fn both_syntaxes_give_the_table_of_the_rules(plans in plans()) {
        let (braces, set) = (tree(&in_braces(&plans)), tree(&in_set_lines(&plans)));
        prop_assert_eq!(build(&braces, ports()).snapshot.mirrors, oracle(&plans));
        prop_assert_eq!(build(&set, ports()).snapshot.mirrors, oracle(&plans));
    }

    #[test]
    fn the_order_of_writing_instances_does_not_matter(plans in plans(), seed in any::<Index>()) {
        let mut turned = plans.clone();
        turned.rotate_left(seed.index(plans.len().max(1)));
        let table = |plans: &[(String, Plan)]| draft(&in_set_lines(plans)).snapshot.mirrors;
        prop_assert_eq!(table(&plans), table(&turned));
    }

    #[test]
    fn printing_and_parsing_are_inverse(tree in any_tree()) {
        prop_assert_eq!(parse(tree.to_braces().as_bytes()), Ok(tree.clone()));
        prop_assert_eq!(parse(tree.to_set().as_bytes()), Ok(tree));
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..256)) {
        drive(&bytes);
    }

    #[test]
    fn any_tokens_are_survived(tokens in vec(select(vec![
        "set ", "deactivate ", "a ", "b ", "{ ", "} ", "[ ", "] ", "; ", "\n", "\"", "\\", "#", "/*", "*/", "inactive: ",
        "forwarding-options port-mirroring instance x ", "input rate ", "-5 ", "input ingress interface ge-0/0/0.0 ",
        "output interface ge-0/0/2.0 ", "security forwarding-options secure-wire w interface ", "apply-groups g ", "groups g ",
        "apply-groups-except g ", "<*> ", "interfaces interface-range r member ge-0/0/1 ",
    ]), 0..40)) {
        drive(tokens.concat().as_bytes());
    }

    #[test]
    fn mutated_configurations_are_survived(
        mut bytes in select(configurations()),
        edits in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..8),
    ) {
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                // Punctuation keeps the text a configuration more often.
                _ => bytes[at] = b"{};[]\"\\#/* \n-"[usize::from(byte) % 13],
            }
        }
        drive(&bytes);
    }
}
