use super::fields::TELLING_KEYS;
use super::*;
use crate::control::model::{Mirror, Wire};

/// All reasons against `document`, one a line; empty if it is accepted.
fn against(document: &str) -> String {
    let reasons = parse(document.as_bytes()).err().unwrap_or_default();
    reasons.iter().map(|reason| format!("{reason}\n")).collect()
}

#[track_caller]
fn refused(document: &str, want: &str) {
    assert_eq!(against(document).trim_end(), want, "{document}");
}

#[test]
fn syntax_errors_say_where() {
    refused("", "JSON syntax: the input is empty (allowed: one JSON document)");
    refused(" \n\t", "JSON syntax: the input is empty (allowed: one JSON document)");
    refused("\u{feff}", "JSON syntax: the input is empty (allowed: one JSON document)");
    for (mark, name) in
        [(&b"\xff\xfe{\0}\0"[..], "UTF-16"), (b"\xfe\xff\0{\0}", "UTF-16"), (b"\xff\xfe\0\0{", "UTF-32")]
    {
        let reasons = parse(mark).expect_err("not UTF-8");
        let want = format!("JSON syntax: the text is {name}, as its byte-order mark says (allowed: UTF-8 text)");
        assert_eq!(reasons, [Reason::new(want)]);
    }
    assert_eq!(
        parse(b"\xef\xbb\xbf{\"version\":3}"),
        parse(b"{\"version\":3}"),
        "a mark of UTF-8 is no part of the text"
    );
    refused(
        "{\"version\":3,\n\"wires\":[",
        "JSON syntax: the input is truncated: it ends at line 2 column 9, inside the document",
    );
    refused("{\"version\":3,}", "JSON syntax: trailing comma at line 1 column 14");
    refused("{\"version\":3}\n{}", "JSON syntax: trailing characters at line 2 column 1");
    refused("{'a':1}", "JSON syntax: key must be a string at line 1 column 2");
    let reasons = parse(b"{\"a\":\"\xff\"}").expect_err("not UTF-8");
    assert!(reasons[0].as_str().contains("line 1 column"), "{reasons:?}");
    let deep = "[".repeat(100_000);
    assert!(against(&deep).contains("recursion limit"), "no stack overflow");
}

#[test]
fn a_key_twice_is_ambiguous() {
    let text = against("{\"version\":3,\n \"wires\":[],\"wires\":[]}");
    assert!(text.contains("the key \"wires\" is given twice at line 2 column"), "{text}");
}

#[test]
fn top_level_and_version() {
    refused("[]", "top level: [] is a list (allowed: a snapshot object)");
    refused("12", "top level: 12 is a number (allowed: a snapshot object)");
    let stray = "top level: not a spanwire snapshot: none of the keys version, mirror_configs, wires, interfaces, generation is present";
    refused("{}", stray);
    refused("{\"name\":\"left-pad\",\"license\":\"MIT\"}", stray);
    for version in ["0", "-1", "4294967299", "3.5"] {
        let want = format!("unsupported snapshot protocol version {version} (want 1 to 4294967295)");
        refused(&format!("{{\"version\":{version}}}"), &want);
    }
    refused("{\"version\":\"3\"}", "version: \"3\" is a string (allowed: an integer in 1..=4294967295)");
    for version in [1, 2, 3, 4, 43, 44, u32::MAX] {
        let snapshot = parse(format!("{{\"version\":{version}}}").as_bytes()).expect("accepted");
        assert_eq!(snapshot, Snapshot { version, ..Snapshot::default() });
    }
    for key in TELLING_KEYS {
        assert_eq!(parse(format!("{{\"{key}\":null}}").as_bytes()), Ok(Snapshot::default()), "{key}");
    }
}

/// Each number field: path, the document around its value, the allowed range.
const NUMBERS: [(&str, &str, &str); 13] = [
    ("generation", "{\"version\":3,\"generation\":@}", "0..=18446744073709551615"),
    ("fib_generation", "{\"version\":3,\"fib_generation\":@}", "0..=18446744073709551615"),
    (
        "mirror_configs[1].ingress_ifindex",
        "{\"mirror_configs\":[{\"ingress_ifindex\":1,\"output_ifindex\":2,\"rate\":3},{\"ingress_ifindex\":@,\"output_ifindex\":2,\"rate\":3}]}",
        "1..=2147483647",
    ),
    (
        "mirror_configs[0].output_ifindex",
        "{\"mirror_configs\":[{\"ingress_ifindex\":1,\"output_ifindex\":@,\"rate\":3}]}",
        "1..=2147483647",
    ),
    (
        "mirror_configs[0].rate",
        "{\"mirror_configs\":[{\"ingress_ifindex\":1,\"output_ifindex\":2,\"rate\":@}]}",
        "0..=4294967295",
    ),
    ("wires[0].a_ifindex", "{\"wires\":[{\"a_ifindex\":@,\"b_ifindex\":2}]}", "1..=2147483647"),
    ("wires[0].b_ifindex", "{\"wires\":[{\"a_ifindex\":1,\"b_ifindex\":@}]}", "1..=2147483647"),
    ("interfaces[0].ifindex", "{\"interfaces\":[{\"ifindex\":@}]}", "0..=2147483647"),
    ("interfaces[0].parent_ifindex", "{\"interfaces\":[{\"parent_ifindex\":@}]}", "0..=2147483647"),
    ("interfaces[0].vlan_id", "{\"interfaces\":[{\"vlan_id\":@}]}", "0..=4094"),
    ("interfaces[0].native_vlan_id", "{\"interfaces\":[{\"native_vlan_id\":@}]}", "0..=4094"),
    ("interfaces[0].mtu", "{\"interfaces\":[{\"mtu\":@}]}", "0..=2147483647"),
    ("interfaces[1].mtu", "{\"interfaces\":[{},{\"mtu\":@}]}", "0..=2147483647"),
];

#[test]
fn numbers_are_integers_in_range() {
    for (path, document, range) in NUMBERS {
        let allowed = format!("(allowed: an integer in {range})");
        for (value, found) in [
            ("\"11\"", "\"11\" is a string"),
            ("11.5", "11.5 is not written as an integer"),
            ("1e2", "100.0 is not written as an integer"),
            ("-1", "-1 is out of range"),
            ("-0", "-0.0 is not written as an integer"),
            ("18446744073709551616", "1.8446744073709552e+19 is out of range"),
            ("true", "true is a boolean"),
            ("[1]", "[1] is a list"),
            ("{\"n\":1}", "{\"n\":1} is an object"),
        ] {
            refused(&document.replace('@', value), &format!("{path}: {found} {allowed}"));
        }
        let (min, max) = range.split_once("..=").expect("a range");
        for fine in [min, max] {
            refused(&document.replace('@', fine), "");
        }
        if let Some(beyond) = max.parse::<u64>().ok().and_then(|max| max.checked_add(1)) {
            refused(
                &document.replace('@', &beyond.to_string()),
                &format!("{path}: {beyond} is out of range {allowed}"),
            );
        }
        if min == "1" {
            refused(&document.replace('@', "0"), &format!("{path}: 0 is out of range {allowed}"));
        }
    }
}

#[test]
fn required_and_optional_keys() {
    refused(
        "{\"mirror_configs\":[{}],\"wires\":[{}]}",
        "mirror_configs[0].ingress_ifindex: the key is missing (allowed: an integer in 1..=2147483647)\n\
         mirror_configs[0].output_ifindex: the key is missing (allowed: an integer in 1..=2147483647)\n\
         mirror_configs[0].rate: the key is missing (allowed: an integer in 0..=4294967295)\n\
         wires[0].a_ifindex: the key is missing (allowed: an integer in 1..=2147483647)\n\
         wires[0].b_ifindex: the key is missing (allowed: an integer in 1..=2147483647)",
    );
    refused(
        "{\"mirror_configs\":[{\"ingress_ifindex\":1,\"output_ifindex\":2,\"rate\":null}]}",
        "mirror_configs[0].rate: null is no value (allowed: an integer in 0..=4294967295)",
    );
    let nulls = "{\"version\":3,\"generation\":null,\"fib_generation\":null,\"generated_at\":null,\"interfaces\":null,\
                 \"mirror_configs\":null,\"wires\":null}";
    assert_eq!(parse(nulls.as_bytes()), Ok(Snapshot::default()));
    let interface = "{\"interfaces\":[{\"name\":null,\"ifindex\":null,\"hardware_addr\":null}]}";
    assert_eq!(parse(interface.as_bytes()).expect("fine").interfaces, [Interface::default()]);
}

#[test]
fn lists_and_entries() {
    for key in ["interfaces", "mirror_configs", "wires"] {
        refused(&format!("{{\"{key}\":{{}}}}"), &format!("{key}: {{}} is an object (allowed: a list or null)"));
        refused(
            &format!("{{\"{key}\":[null,7]}}"),
            &format!("{key}[0]: null is no value (allowed: an object)\n{key}[1]: 7 is a number (allowed: an object)"),
        );
    }
}

#[test]
fn every_problem_is_reported() {
    let text = against(
        "{\"version\":0,\"generation\":-1,\"generated_at\":\"yesterday\",\"interfaces\":[{\"vlan_id\":4095}],\
         \"mirror_configs\":[{\"rate\":true}],\"wires\":[3]}",
    );
    assert_eq!(text.lines().count(), 8, "{text}");
}

#[test]
fn reasons_and_entries_are_bounded() {
    let entries = |n: usize, entry: &str| format!("{{\"mirror_configs\":[{}]}}", vec![entry; n].join(","));
    let told = |n: usize| {
        let reasons = parse(entries(n, "0").as_bytes()).expect_err("no objects");
        (reasons.len(), reasons.last().expect("one").as_str() == AND_MORE)
    };
    assert_eq!(told(MAX_REASONS), (MAX_REASONS, false));
    assert_eq!(told(MAX_REASONS + 1), (MAX_REASONS + 1, true));
    assert_eq!(told(MAX_ENTRIES), (MAX_REASONS + 1, true));
    assert!(AND_MORE.contains(&MAX_REASONS.to_string()));
    let n = MAX_ENTRIES + 1;
    refused(&entries(n, "0"), &format!("mirror_configs: {n} entries (allowed: at most {MAX_ENTRIES})"));
}

#[test]
fn strings() {
    refused("{\"interfaces\":[{\"name\":7}]}", "interfaces[0].name: 7 is a number (allowed: a string)");
    refused("{\"interfaces\":[{\"linux_name\":[]}]}", "interfaces[0].linux_name: [] is a list (allowed: a string)");
    refused(
        "{\"wires\":[{\"name\":7,\"a_ifindex\":1,\"b_ifindex\":2}]}",
        "wires[0].name: 7 is a number (allowed: a string)",
    );
    let snapshot = parse(br#"{"interfaces":[{"name":"\u003ca\u0026b\u003e"}]}"#).expect("Go's escapes");
    assert_eq!(snapshot.interfaces[0].name, "<a&b>");
    let long = against(&format!("{{\"generation\":\"{}\"}}", "x".repeat(5000)));
    assert!(long.len() < 200 && long.contains("xxx…\" is a string"), "{long}");
    let long = against(&format!("{{\"generation\":[{}1]}}", "1,".repeat(5000)));
    assert!(long.len() < 200 && long.contains("1,1… is a list"), "{long}");
}

#[test]
fn generated_at_is_kept_as_written() {
    for text in [
        "",
        "0001-01-01T00:00:00Z",
        "2026-11-22T08:30:15Z",
        "2026-11-22T08:30:15.123456789Z",
        "2026-11-22T08:30:15.1+14:00",
        "2024-02-29T23:59:59.999999999-12:30",
    ] {
        let snapshot = parse(format!("{{\"version\":3,\"generated_at\":\"{text}\"}}").as_bytes()).expect(text);
        assert_eq!(snapshot.generated_at, text);
    }
    for text in ["yesterday", "2026-11-22", "2026-11-22 08:30:15", "2026-13-22T08:30:15Z", "2025-02-29T00:00:00Z"] {
        let found = against(&format!("{{\"version\":3,\"generated_at\":\"{text}\"}}"));
        assert!(found.starts_with(&format!("generated_at: \"{text}\" is not an RFC 3339 time")), "{found}");
        assert!(found.contains("(allowed: e.g. "), "{found}");
    }
    refused("{\"version\":3,\"generated_at\":1}", "generated_at: 1 is a number (allowed: a string)");
}

#[test]
fn hardware_addresses() {
    let read = |text: &str| parse(format!("{{\"interfaces\":[{{\"hardware_addr\":\"{text}\"}}]}}").as_bytes());
    let mac = |text| read(text).expect("accepted").interfaces[0].mac;
    assert_eq!(mac(""), None);
    assert_eq!(mac("02:bf:72:01:00:0A"), Some([0x02, 0xbf, 0x72, 0x01, 0x00, 0x0a]));
    assert_eq!(mac("c0:00:02:01"), None, "a tunnel's");
    for bad in
        ["x", "02:bf:72:01:00", "02:bf:72:01:00:0g", "02-bf-72-01-00-00", "2:bf:72:1:0:0", "+2:bf:72:01:00:00", ":::::"]
    {
        let text = read(bad).expect_err(bad)[0].to_string();
        assert!(
            text.starts_with(&format!("interfaces[0].hardware_addr: \"{bad}\" is not a hardware address")),
            "{text}"
        );
        assert!(text.contains("(allowed: 6 hexadecimal octets"), "{text}");
    }
}

#[test]
fn u64_beyond_2_53_is_exact() {
    let snapshot = parse(b"{\"generation\":9007199254740993,\"fib_generation\":18446744073709551615}").expect("fine");
    assert_eq!((snapshot.generation, snapshot.fib_generation), (9_007_199_254_740_993, u64::MAX));
}

#[test]
fn a_wire_without_a_name_is_named_by_its_ports() {
    let snapshot =
        parse(b"{\"wires\":[{\"a_ifindex\":11,\"b_ifindex\":12},{\"name\":\"w\",\"a_ifindex\":1,\"b_ifindex\":2}]}");
    let names: Vec<String> = snapshot.expect("fine").wires.into_iter().map(|w| w.name).collect();
    assert_eq!(names, ["11-12", "w"]);
}

#[test]
fn bare_interface_lists() {
    assert_eq!(parse_interfaces(b"[]"), Ok(vec![]));
    let text = |bytes: &[u8]| parse_interfaces(bytes).expect_err("refused")[0].to_string();
    assert_eq!(text(b"{}"), "top level: {} is an object (allowed: a list of interfaces)");
    assert_eq!(
        text(b"[{\"mtu\":-1}]"),
        "interfaces[0].mtu: -1 is out of range (allowed: an integer in 0..=2147483647)"
    );
    assert!(text(b"[").contains("truncated"));
}

#[test]
fn what_a_list_tells_of_the_devices() {
    let links = parse_links(
        br#"[{"ifindex":3,"up":false,"speed":1000,"stuck_offload":"rxvlan","altnames":["a","b"]},{"speed":0}]"#,
    );
    let links = links.expect("accepted");
    assert_eq!((links[0].interface.ifindex, links[0].up, links[0].speed), (3, Some(false), Some(1000)));
    assert_eq!(links[0].stuck_offload.as_deref(), Some("rxvlan"));
    assert_eq!(links[0].altnames, ["a", "b"]);
    assert_eq!(links[1], Link::default());
    let reasons =
        parse_links(br#"[{"up":1,"speed":"10G","stuck_offload":[],"altnames":["a",1]}]"#).expect_err("refused");
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            "interfaces[0].stuck_offload: [] is a list (allowed: a string)",
            "interfaces[0].altnames: [\"a\",1] is a list (allowed: a list of strings)",
            "interfaces[0].up: 1 is a number (allowed: true or false)",
            "interfaces[0].speed: \"10G\" is a string (allowed: an integer in 0..=4294967295)",
        ]
    );
}

#[test]
fn export_is_the_wire_contract() {
    let snapshot = Snapshot {
        generated_at: "0001-01-01T00:00:00Z".into(),
        interfaces: vec![
            Interface::default(),
            Interface {
                name: "a\"/0".into(),
                linux_name: "a-0".into(),
                ifindex: 3,
                parent_ifindex: 2,
                vlan_id: 10,
                native_vlan_id: 20,
                mtu: 1500,
                mac: Some([2, 0, 0, 0, 0, 0xff]),
                seen: false,
            },
        ],
        mirrors: vec![Mirror { ingress_ifindex: 11, output_ifindex: 22, rate: 0 }],
        wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        ..Snapshot::default()
    };
    let want = r#"{"version":3,"generation":0,"fib_generation":0,"generated_at":"0001-01-01T00:00:00Z",
"interfaces":[
{"name":""},
{"name":"a\"/0","linux_name":"a-0","ifindex":3,"parent_ifindex":2,"vlan_id":10,"native_vlan_id":20,"mtu":1500,"hardware_addr":"02:00:00:00:00:ff"}],
"mirror_configs":[
{"ingress_ifindex":11,"output_ifindex":22,"rate":0}],
"wires":[
{"name":"w","a_ifindex":11,"b_ifindex":12}]}
"#;
    assert_eq!(export(&snapshot), want);
    assert!(want.contains(&serde_json::to_string(&snapshot.mirrors[0]).expect("plain data")));
    assert!(want.contains(&serde_json::to_string(&snapshot.wires[0]).expect("plain data")));
    assert_eq!(
        export(&Snapshot::default()),
        "{\"version\":3,\"generation\":0,\"fib_generation\":0,\n\"interfaces\":[],\n\"mirror_configs\":[],\n\"wires\":[]}\n"
    );
}

#[test]
fn link_loss_forwarding_is_a_boolean_and_off_by_default() {
    let document = |value: &str| {
        format!(r#"{{"version":3,"wires":[{{"a_ifindex":1,"b_ifindex":2}},{{"a_ifindex":3,"b_ifindex":4{value}}}]}}"#)
    };
    for (value, want) in [("", false), ("null", false), ("false", false), ("true", true)] {
        let value = if value.is_empty() { String::new() } else { format!(r#","link_loss_forwarding":{value}"#) };
        let snapshot = parse(document(&value).as_bytes()).expect("a document");
        assert_eq!(snapshot.wires.iter().map(|w| w.link_loss_forwarding).collect::<Vec<_>>(), [false, want], "{value}");
        let exported = export(&snapshot);
        assert_eq!(exported.contains(r#""b_ifindex":4,"link_loss_forwarding":true}"#), want, "{exported}");
        assert_eq!(parse(exported.as_bytes()), Ok(snapshot));
    }
    for (value, is) in [("\"yes\"", "a string"), ("1", "a number"), ("[true]", "a list")] {
        let why = format!("wires[1].link_loss_forwarding: {value} is {is} (allowed: true or false)");
        refused(&document(&format!(r#","link_loss_forwarding":{value}"#)), &why);
    }
}

#[test]
fn what_is_unknown_is_looked_through() {
    for (document, want) in [
        ("{\"version\":3,\"routes\":[{\"a\":{\"b\":1,\"b\":2}}]}", "the key \"b\" is given twice at line 1 column 38"),
        ("{\"version\":3,\"interfaces\":[{\"zone\":{\"\\u0061\":1,\"a\":2}}]}", "the key \"a\" is given twice"),
        ("{\"version\":3,\"routes\":[1e999]}", "number out of range"),
        ("{\"version\":3,\"routes\":[\"\\ud800\"]}", "unexpected end of hex escape"),
        ("{\"version\":3,\"routes\":[01]}", "invalid number"),
        ("{\"version\":3,\"routes\":nul}", "expected ident"),
    ] {
        let found = against(document);
        assert!(found.starts_with("JSON syntax: ") && found.contains(want), "{document}: {found}");
    }
    let deep = format!("{{\"version\":3,\"routes\":{}", "[".repeat(100_000));
    assert!(against(&deep).contains("recursion limit"));
    let text = parse(b"{\"version\":3,\"routes\":[\"\xff\"]}").expect_err("not UTF-8")[0].to_string();
    assert!(text.contains("invalid unicode"), "{text}");
}

/// As much of a value of another kind than expected as a message has room for, and no more.
#[test]
fn a_wrong_value_is_shown_from_its_beginning() {
    let list = vec!["{\"a\":[1,{}]}"; 1000].join(",");
    let shown =
        "[{\"a\":[1,{}]},{\"a\":[1,{}]},{\"a\":[1,{}]},{\"a\":[1,{}]},{\"a\":[1,{}]},{\"a\":[1,{}]},{… is a list";
    refused(
        &format!("{{\"generation\":[{list}]}}"),
        &format!("generation: {shown} (allowed: an integer in 0..=18446744073709551615)"),
    );
    refused(
        &format!("{{\"wires\":[[{list}],[{list}]]}}"),
        &format!("wires[0]: {shown} (allowed: an object)\nwires[1]: {shown} (allowed: an object)"),
    );
    refused(&format!("[{list}]"), &format!("top level: {shown} (allowed: a snapshot object)"));
    refused(
        "{\"interfaces\":{\"b\":[],\"a\":null}}",
        "interfaces: {\"a\":null,\"b\":[]} is an object (allowed: a list or null)",
    );
    let texts = parse_interfaces(b"{\"interfaces\":[{\"mtu\":1}]}").expect_err("no list");
    assert_eq!(
        texts[0].as_str(),
        "top level: {\"interfaces\":[{\"mtu\":1}]} is an object (allowed: a list of interfaces)"
    );
}

#[test]
fn a_configuration_too_large_to_explain_explains_nothing() {
    let document = |n: usize| {
        let input = vec!["\"in\""; n - 1].join(",");
        format!(
            "{{\"version\":3,\"config\":{{\"ForwardingOptions\":{{\"PortMirroring\":{{\"Instances\":{{\"x\":{{\"Input\":[{input}]}}}}}}}}}}}}"
        )
    };
    let told = |n: usize| parse_draft(document(n).as_bytes(), None).expect("accepted").diagnostics;
    let most = 2 * MAX_ENTRIES;
    assert_eq!(told(most)[0].subject, "instance \"x\"");
    let told = told(most + 1);
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].to_string(),
        format!("warning: config: {} instances and ingresses (explained: at most {most})", most + 1)
    );
}

#[test]
fn a_key_in_the_wrong_case_is_told() {
    let told = |document: &str| -> Vec<String> {
        let draft = parse_draft(document.as_bytes(), None).expect("a document");
        draft.diagnostics.iter().map(ToString::to_string).collect()
    };
    let found = told(
        r#"{"version":3,"Mirror_Configs":[{"rate":"x"}],"WIRES":[],
        "interfaces":[{"name":"a","ifindex":1},{"Vlan_ID":7,"linkup":true},{"Vlan_ID":8,"MTU":1}],
        "wires":[{"a_ifindex":1,"b_ifindex":2,"Name":"w"}],
        "mirror_configs":[{"ingress_ifindex":1,"output_ifindex":3,"rate":0,"Rate":9}],
        "config":{"version":1,"Interfaces":{"Wires":1},"forwardingoptions":{"Rate":1}},"mirror_exclusions":[{"INPUT":""}]}"#,
    );
    let has_no_effect = |at: &str, key: &str, meant: &str| {
        format!("warning: {at}: the key \"{key}\" is not known and has no effect (meant is \"{meant}\"?)")
    };
    assert_eq!(
        found[..7],
        [
            has_no_effect("top level", "Mirror_Configs", "mirror_configs"),
            has_no_effect("top level", "WIRES", "wires"),
            has_no_effect("interfaces[1]", "Vlan_ID", "vlan_id") + ", and 1 more in this list",
            has_no_effect("interfaces[2]", "MTU", "mtu"),
            has_no_effect("wires[0]", "Name", "name"),
            has_no_effect("mirror_configs[0]", "Rate", "rate"),
            "warning: mirror_exclusions[0]: is left out by the producer: no reason is given".to_owned(),
        ],
        "{found:#?}"
    );
    assert_eq!(found.len(), 7, "{found:#?}");

    // Where the key has to be there, the reason is followed by it.
    let why = parse(br#"{"mirror_configs":[{"Ingress_ifindex":1,"output_ifindex":3,"rate":0}]}"#).expect_err("missing");
    assert_eq!(why.len(), 2, "{why:?}");
    assert!(why[0].as_str().starts_with("mirror_configs[0].ingress_ifindex: the key is missing"), "{why:?}");
    assert!(why[1].as_str().contains("\"Ingress_ifindex\" is not known and has no effect"), "{why:?}");
    let stray = against(r#"{"Wires":[]}"#);
    assert!(stray.contains("not a spanwire snapshot") && stray.contains("meant is \"wires\"?"), "{stray}");
}

#[test]
fn keys_in_the_wrong_case_are_bounded() {
    // Each its own spelling of "hardware_addr".
    let cased = |n: usize| -> String {
        let upper = |(i, c): (usize, char)| if n >> i & 1 == 1 { c.to_ascii_uppercase() } else { c };
        "hardware_addr".chars().enumerate().map(upper).collect()
    };
    let entries: Vec<String> = (1..200).map(|n| format!(r#"{{"{}":""}}"#, cased(n))).collect();
    let document = format!(r#"{{"version":3,"interfaces":[{}]}}"#, entries.join(","));
    let told = parse_draft(document.as_bytes(), None).expect("a document").diagnostics;
    assert_eq!(told.len(), 33);
    assert_eq!(told[32].to_string(), "warning: keys: and 167 more in the wrong case");
}
