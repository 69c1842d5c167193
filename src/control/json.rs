//! Snapshot documents (JSON) to [`Snapshot`] and back.
//!
//! ```text
//! bytes ── syntax ──> Document ──┬── fields ──> Snapshot     or every Reason against it
//!                                └── config ──> why an instance of the producer's has no entry
//! ```
//!
//! The documents are what Go's `encoding/json` emits for the producer's snapshot, or what an operator wrote
//! in that shape. Both leave their marks on the rules:
//!
//! - Unknown keys are ignored everywhere; producers send much that mirroring does not need.
//! - A list that is absent or null is empty (Go writes a nil slice as null), and an optional field that is
//!   absent or null has its zero value. A mirror entry's three keys and a wire's ends are never optional.
//! - Numbers are JSON integers in range. `"11"`, `11.5` and `1e2` are errors: a rate that does not parse must
//!   not become 0, which would mirror every frame.
//! - A key given twice in one object is an error, because the reader cannot know which one was meant.
//! - The version may be absent, but then another known key must be there: importing `{}` or some stray JSON
//!   file must not wipe a configuration.
//!
//! The rules between entries are [`admission`](super::admission)'s.

mod config;
mod export;
mod syntax;

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use export::export;

use super::draft::Draft;
use super::model::{
    Interface, Link, MAX_IFINDEX, MAX_MTU, MAX_VLAN_ID, MIN_VERSION, Mirror, Reason, Snapshot, VERSION, Wire, clipped,
    quoted,
};
use crate::counters::MAX_ENTRIES;

/// Reasons told of one document.
pub(crate) const MAX_REASONS: usize = 1000;
/// Told after so many where there are more.
pub(crate) const AND_MORE: &str = "… and more (only the first 1000 reasons are told)";
/// Entries of a list that the mirror table does not bound: more than a system has devices.
const MAX_LISTED: usize = 1_000_000;

/// Any one of these tells a snapshot from a stray JSON file when the version is absent.
const TELLING_KEYS: [&str; 4] = ["mirror_configs", "wires", "interfaces", "generation"];

/// Reads a snapshot document.
///
/// A snapshot without a version is taken as one of the newest version, and a wire without a name gets
/// `"{a_ifindex}-{b_ifindex}"`.
///
/// # Errors
/// Every problem of the document, up to 1000 of them, in the order of [`Snapshot`]'s fields: where it is
/// (`mirror_configs[3].rate`), what was found, what is allowed. A document that is not JSON has one reason, with
/// line and column.
pub fn parse(bytes: &[u8]) -> Result<Snapshot, Vec<Reason>> {
    parse_draft(bytes, None).map(|draft| draft.snapshot)
}

/// Reads a snapshot document as [`parse`] does, with `interfaces` in place of its own where they are given, and
/// with what its `config` tells: the instance of each mirror entry, and a warning for each ingress of an instance
/// that did not become an entry.
///
/// # Errors
/// As [`parse`]. A `config` of another shape than the Go control plane's tells nothing and is no error.
pub fn parse_draft(bytes: &[u8], interfaces: Option<Vec<Interface>>) -> Result<Draft, Vec<Reason>> {
    let document = syntax::read(bytes).map_err(|reason| vec![reason])?;
    let Value::Object(top) = &document else {
        return Err(vec![wrong(&Path::Top, &document, "a snapshot object")]);
    };
    let mut fields = Fields::default();
    let version = fields.version(top);
    let mut snapshot = Snapshot {
        version,
        generation: fields.optional(&Path::Top, top, "generation", 0..=u64::MAX),
        fib_generation: fields.optional(&Path::Top, top, "fib_generation", 0..=u64::MAX),
        generated_at: fields.timestamp(top, "generated_at"),
        interfaces: fields.list(top, "interfaces", MAX_LISTED, Fields::interface),
        mirrors: fields.list(top, "mirror_configs", MAX_ENTRIES, Fields::mirror),
        wires: fields.list(top, "wires", MAX_LISTED, Fields::wire),
    };
    if let Some(interfaces) = interfaces {
        snapshot.interfaces = interfaces;
    }
    let snapshot = fields.finish(snapshot)?;
    let config::Explained { origins, diagnostics } = config::explain(top, &snapshot);
    Ok(Draft { snapshot, origins, diagnostics, ..Draft::default() })
}

/// Reads a bare JSON list shaped as a snapshot's `interfaces`.
///
/// # Errors
/// As [`parse`], with paths from `interfaces[0]` on.
pub fn parse_interfaces(bytes: &[u8]) -> Result<Vec<Interface>, Vec<Reason>> {
    parse_links(bytes).map(|links| links.into_iter().map(|link| link.interface).collect())
}

/// Reads the same list with what it may tell beside: `up` (a boolean), `speed` (Mbit/s) and `stuck_offload` (a
/// string).
///
/// # Errors
/// As [`parse_interfaces`].
pub fn parse_links(bytes: &[u8]) -> Result<Vec<Link>, Vec<Reason>> {
    let document = syntax::read(bytes).map_err(|reason| vec![reason])?;
    let Value::Array(entries) = &document else {
        return Err(vec![wrong(&Path::Top, &document, "a list of interfaces")]);
    };
    let mut fields = Fields::default();
    let links = fields.entries("interfaces", entries, MAX_LISTED, Fields::link);
    fields.finish(links)
}

/// Where in the document a value is; made into text only for a [`Reason`].
enum Path<'a> {
    Top,
    Key(&'a Path<'a>, &'a str),
    Entry(&'a str, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => f.write_str("top level"),
            Self::Key(Self::Top, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Entry(list, index) => write!(f, "{list}[{index}]"),
        }
    }
}

/// `path: value is a string (allowed: …)`.
fn wrong(path: &Path<'_>, found: &Value, allowed: &str) -> Reason {
    let what = match found {
        Value::Null => "is no value",
        Value::Bool(_) => "is a boolean",
        Value::String(_) => "is a string",
        Value::Array(_) => "is a list",
        Value::Object(_) => "is an object",
        // Integers beyond 64 bits come as floats too, and calling those fractions would mislead.
        Value::Number(n) if n.as_f64().is_some_and(|n| n.abs() >= MAX_EXACT) => "is out of range",
        Value::Number(n) if n.is_f64() => "is not written as an integer",
        Value::Number(_) => "is a number",
    };
    let found = match found {
        Value::String(text) => quoted(text),
        other => clipped(&other.to_string()),
    };
    Reason::new(format!("{path}: {found} {what} (allowed: {allowed})"))
}

/// From here on every float is an integer (2^63).
const MAX_EXACT: f64 = 9_223_372_036_854_775_808.0;

/// Reads fields and collects what is wrong with them. A field that is wrong reads as its zero value, which
/// nobody sees: [`Fields::finish`] gives out a result only if there are no reasons.
#[derive(Default)]
struct Fields {
    reasons: Vec<Reason>,
}

type Object = Map<String, Value>;

impl Fields {
    fn finish<T>(mut self, result: T) -> Result<T, Vec<Reason>> {
        if self.full() {
            self.reasons.truncate(MAX_REASONS);
            self.reasons.push(Reason::new(AND_MORE));
        }
        if self.reasons.is_empty() { Ok(result) } else { Err(self.reasons) }
    }

    fn refuse(&mut self, why: Reason) {
        if !self.full() {
            self.reasons.push(why);
        }
    }

    /// Whether there are more reasons than are told.
    fn full(&self) -> bool {
        self.reasons.len() > MAX_REASONS
    }

    fn version(&mut self, top: &Object) -> u32 {
        match present(top, "version") {
            Some(Value::Number(n)) => {
                let version = n.as_u64().and_then(|v| u32::try_from(v).ok());
                match version.filter(|v| (MIN_VERSION..=VERSION).contains(v)) {
                    Some(version) => return version,
                    None => self.refuse(Reason::new(format!(
                        "unsupported snapshot protocol version {n} (want {MIN_VERSION} to {VERSION})"
                    ))),
                }
            }
            Some(other) => {
                let allowed = integers(MIN_VERSION, VERSION);
                self.refuse(wrong(&Path::Key(&Path::Top, "version"), other, &allowed));
            }
            None if TELLING_KEYS.iter().any(|key| top.contains_key(*key)) => {}
            None => self.refuse(Reason::new(format!(
                "top level: not a spanwire snapshot: none of the keys version, {} is present",
                TELLING_KEYS.join(", ")
            ))),
        }
        VERSION
    }

    fn interface(&mut self, at: &Path<'_>, entry: &Object) -> Interface {
        Interface {
            name: self.text(at, entry, "name"),
            linux_name: self.text(at, entry, "linux_name"),
            ifindex: self.optional(at, entry, "ifindex", 0..=MAX_IFINDEX),
            parent_ifindex: self.optional(at, entry, "parent_ifindex", 0..=MAX_IFINDEX),
            vlan_id: self.optional(at, entry, "vlan_id", 0..=MAX_VLAN_ID),
            mtu: self.optional(at, entry, "mtu", 0..=MAX_MTU),
            mac: self.hardware_addr(at, entry, "hardware_addr"),
        }
    }

    fn link(&mut self, at: &Path<'_>, entry: &Object) -> Link {
        let stuck_offload = self.text(at, entry, "stuck_offload");
        Link {
            interface: self.interface(at, entry),
            up: self.boolean(at, entry, "up"),
            speed: Some(self.optional(at, entry, "speed", 0..=u32::MAX)).filter(|speed| *speed > 0),
            stuck_offload: Some(stuck_offload).filter(|feature| !feature.is_empty()),
        }
    }

    fn mirror(&mut self, at: &Path<'_>, entry: &Object) -> Mirror {
        Mirror {
            ingress_ifindex: self.required(at, entry, "ingress_ifindex", 1..=MAX_IFINDEX),
            output_ifindex: self.required(at, entry, "output_ifindex", 1..=MAX_IFINDEX),
            rate: self.required(at, entry, "rate", 0..=u32::MAX),
        }
    }

    fn wire(&mut self, at: &Path<'_>, entry: &Object) -> Wire {
        let name = self.text(at, entry, "name");
        let a_ifindex = self.required(at, entry, "a_ifindex", 1..=MAX_IFINDEX);
        let b_ifindex = self.required(at, entry, "b_ifindex", 1..=MAX_IFINDEX);
        let name = if name.is_empty() { format!("{a_ifindex}-{b_ifindex}") } else { name };
        Wire { name, a_ifindex, b_ifindex }
    }

    fn list<T>(
        &mut self,
        top: &Object,
        key: &str,
        most: usize,
        entry: fn(&mut Self, &Path<'_>, &Object) -> T,
    ) -> Vec<T> {
        match present(top, key) {
            None => Vec::new(),
            Some(Value::Array(entries)) => self.entries(key, entries, most, entry),
            Some(other) => {
                self.refuse(wrong(&Path::Key(&Path::Top, key), other, "a list or null"));
                Vec::new()
            }
        }
    }

    /// The entries of a list, up to where there are more reasons than are told; none where there are more than `most`.
    fn entries<T>(
        &mut self,
        list: &str,
        entries: &[Value],
        most: usize,
        entry: fn(&mut Self, &Path<'_>, &Object) -> T,
    ) -> Vec<T> {
        if entries.len() > most {
            self.refuse(Reason::new(format!("{list}: {} entries (allowed: at most {most})", entries.len())));
            return Vec::new();
        }
        let mut read = Vec::with_capacity(entries.len());
        for (index, value) in entries.iter().enumerate() {
            if self.full() {
                break;
            }
            let at = Path::Entry(list, index);
            match value {
                Value::Object(object) => read.push(entry(self, &at, object)),
                other => self.refuse(wrong(&at, other, "an object")),
            }
        }
        read
    }

    fn required<N: Integer>(&mut self, at: &Path<'_>, object: &Object, key: &str, range: RangeInclusive<N>) -> N {
        match object.get(key) {
            Some(value) => self.integer(&Path::Key(at, key), value, &range),
            None => {
                let at = Path::Key(at, key);
                let allowed = integers(range.start(), range.end());
                self.refuse(Reason::new(format!("{at}: the key is missing (allowed: {allowed})")));
                N::default()
            }
        }
    }

    fn optional<N: Integer>(&mut self, at: &Path<'_>, object: &Object, key: &str, range: RangeInclusive<N>) -> N {
        match present(object, key) {
            Some(value) => self.integer(&Path::Key(at, key), value, &range),
            None => N::default(),
        }
    }

    fn integer<N: Integer>(&mut self, at: &Path<'_>, value: &Value, range: &RangeInclusive<N>) -> N {
        if let Some(n) = value.as_u64().and_then(|n| N::try_from(n).ok()).filter(|n| range.contains(n)) {
            return n;
        }
        let allowed = integers(range.start(), range.end());
        self.refuse(if value.is_u64() || value.is_i64() {
            Reason::new(format!("{at}: {value} is out of range (allowed: {allowed})"))
        } else {
            wrong(at, value, &allowed)
        });
        N::default()
    }

    fn text(&mut self, at: &Path<'_>, object: &Object, key: &str) -> String {
        match present(object, key) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                self.refuse(wrong(&Path::Key(at, key), other, "a string"));
                String::new()
            }
        }
    }

    fn boolean(&mut self, at: &Path<'_>, object: &Object, key: &str) -> Option<bool> {
        match present(object, key)? {
            Value::Bool(value) => Some(*value),
            other => {
                self.refuse(wrong(&Path::Key(at, key), other, "true or false"));
                None
            }
        }
    }

    fn timestamp(&mut self, top: &Object, key: &str) -> String {
        let text = self.text(&Path::Top, top, key);
        if let Some(at) = (!text.is_empty()).then(|| OffsetDateTime::parse(&text, &Rfc3339)).and_then(Result::err) {
            self.refuse(Reason::new(format!(
                "{key}: {} is not an RFC 3339 time: {at} (allowed: e.g. 2026-01-02T03:04:05.678Z)",
                quoted(&text)
            )));
        }
        text
    }

    fn hardware_addr(&mut self, at: &Path<'_>, object: &Object, key: &str) -> Option<[u8; 6]> {
        let text = self.text(at, object, key);
        if text.is_empty() {
            return None;
        }
        let octets: Option<Vec<u8>> = text.split(':').map(hex_octet).collect();
        match octets.as_deref() {
            Some([a, b, c, d, e, f]) => Some([*a, *b, *c, *d, *e, *f]),
            // Links without Ethernet: tunnels (4, 16), EUI-64 (8), InfiniBand (20). They are no ports of ours,
            // but a producer lists them, and its whole snapshot must not be refused for it.
            Some(other) if matches!(other.len(), 4 | 8 | 16 | 20) => None,
            _ => {
                let at = Path::Key(at, key);
                let found = quoted(&text);
                self.refuse(Reason::new(format!(
                    "{at}: {found} is not a hardware address (allowed: 6 hexadecimal octets as in 02:00:5e:10:00:01, or \"\")"
                )));
                None
            }
        }
    }
}

/// The value of an optional key; null is as good as absent.
fn present<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn hex_octet(text: &str) -> Option<u8> {
    // from_str_radix alone would take "+1" for an octet.
    let two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    two_digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

fn integers(min: impl fmt::Display, max: impl fmt::Display) -> String {
    format!("an integer in {min}..={max}")
}

/// The unsigned integers a field may have.
trait Integer: Copy + Default + PartialOrd + fmt::Display + TryFrom<u64> {}

impl<N: Copy + Default + PartialOrd + fmt::Display + TryFrom<u64>> Integer for N {}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

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
        refused(
            "\u{feff}{}",
            "JSON syntax: the input starts with a UTF-8 byte order mark (allowed: UTF-8 without one)",
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
        for (version, shown) in [("0", "0"), ("4", "4"), ("-1", "-1"), ("4294967299", "4294967299"), ("3.5", "3.5")] {
            let want = format!("unsupported snapshot protocol version {shown} (want 1 to 3)");
            refused(&format!("{{\"version\":{version}}}"), &want);
        }
        refused("{\"version\":\"3\"}", "version: \"3\" is a string (allowed: an integer in 1..=3)");
        for version in 1..=3 {
            let snapshot = parse(format!("{{\"version\":{version}}}").as_bytes()).expect("accepted");
            assert_eq!(snapshot, Snapshot { version, ..Snapshot::default() });
        }
        for key in TELLING_KEYS {
            assert_eq!(parse(format!("{{\"{key}\":null}}").as_bytes()), Ok(Snapshot::default()), "{key}");
        }
    }

    /// Each number field: path, the document around its value, the allowed range.
    const NUMBERS: [(&str, &str, &str); 12] = [
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
                &format!(
                    "{key}[0]: null is no value (allowed: an object)\n{key}[1]: 7 is a number (allowed: an object)"
                ),
            );
        }
    }

    #[test]
    fn every_problem_is_reported() {
        let text = against(
            "{\"version\":9,\"generation\":-1,\"generated_at\":\"yesterday\",\"interfaces\":[{\"vlan_id\":4095}],\
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
        for bad in [
            "x",
            "02:bf:72:01:00",
            "02:bf:72:01:00:0g",
            "02-bf-72-01-00-00",
            "2:bf:72:1:0:0",
            "+2:bf:72:01:00:00",
            ":::::",
        ] {
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
        let snapshot =
            parse(b"{\"generation\":9007199254740993,\"fib_generation\":18446744073709551615}").expect("fine");
        assert_eq!((snapshot.generation, snapshot.fib_generation), (9_007_199_254_740_993, u64::MAX));
    }

    #[test]
    fn a_wire_without_a_name_is_named_by_its_ports() {
        let snapshot = parse(
            b"{\"wires\":[{\"a_ifindex\":11,\"b_ifindex\":12},{\"name\":\"w\",\"a_ifindex\":1,\"b_ifindex\":2}]}",
        );
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
        let links = parse_links(br#"[{"ifindex":3,"up":false,"speed":1000,"stuck_offload":"rxvlan"},{"speed":0}]"#);
        let links = links.expect("accepted");
        assert_eq!((links[0].interface.ifindex, links[0].up, links[0].speed), (3, Some(false), Some(1000)));
        assert_eq!(links[0].stuck_offload.as_deref(), Some("rxvlan"));
        assert_eq!(links[1], Link::default());
        let reasons = parse_links(br#"[{"up":1,"speed":"10G","stuck_offload":[]}]"#).expect_err("refused");
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(
            reasons,
            [
                "interfaces[0].stuck_offload: [] is a list (allowed: a string)",
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
                    mtu: 1500,
                    mac: Some([2, 0, 0, 0, 0, 0xff]),
                },
            ],
            mirrors: vec![Mirror { ingress_ifindex: 11, output_ifindex: 22, rate: 0 }],
            wires: vec![Wire { name: "w".into(), a_ifindex: 11, b_ifindex: 12 }],
            ..Snapshot::default()
        };
        let want = r#"{"version":3,"generation":0,"fib_generation":0,"generated_at":"0001-01-01T00:00:00Z",
"interfaces":[
{"name":""},
{"name":"a\"/0","linux_name":"a-0","ifindex":3,"parent_ifindex":2,"vlan_id":10,"mtu":1500,"hardware_addr":"02:00:00:00:00:ff"}],
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
}
