//! A value tree to fields: each checked, and what is wrong with it said with its place.

use std::fmt;
use std::mem::take;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::exclusions::Exclusion;
use super::reasons::{AND_MORE, MAX_REASONS};
use crate::control::diagnostic::Reason;
use crate::control::link::Link;
use crate::control::model::{Interface, MAX_IFINDEX, MAX_MTU, MAX_VLAN_ID, MIN_VERSION, Mirror, VERSION, Wire};
use crate::control::quote::{clipped, quoted};

/// Any one of these tells a snapshot from a stray JSON file when the version is absent.
pub(super) const TELLING_KEYS: [&str; 4] = ["mirror_configs", "wires", "interfaces", "generation"];

/// Where in the document a value is; made into text only for a [`Reason`].
pub(super) enum Path<'a> {
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
pub(super) fn wrong(path: &Path<'_>, found: &Value, allowed: &str) -> Reason {
    let what = match found {
        Value::Null => "is no value",
        Value::Bool(_) => "is a boolean",
        Value::String(_) => "is a string",
        Value::Array(_) => "is a list",
        Value::Object(_) => "is an object",
        // Integers beyond 64 bits come as floats too, and calling those fractions would mislead.
        Value::Number(_) if is_large(found) => "is out of range",
        Value::Number(n) if n.is_f64() => "is not written as an integer",
        Value::Number(_) => "is a number",
    };
    let found = match found {
        Value::String(text) => quoted(text),
        other => clipped(&other.to_string()),
    };
    Reason::new(format!("{path}: {found} {what} (allowed: {allowed})"))
}

/// Whether it is an integer beyond 64 bits.
fn is_large(value: &Value) -> bool {
    value.is_f64() && value.as_f64().is_some_and(|n| n.abs() >= MAX_EXACT)
}

/// From here on every float is an integer (2^63).
const MAX_EXACT: f64 = 9_223_372_036_854_775_808.0;

/// Reads fields and collects what is wrong with them. A field that is wrong reads as its zero value, which
/// nobody sees: [`Fields::finish`] gives out a result only if there are no reasons.
#[derive(Default)]
pub(super) struct Fields {
    reasons: Vec<Reason>,
    /// How many of them are that an integer is out of its range.
    misfits: usize,
}

type Object = Map<String, Value>;

impl Fields {
    pub(super) fn finish<T>(mut self, result: T) -> Result<T, Vec<Reason>> {
        if self.full() {
            self.reasons.truncate(MAX_REASONS);
            self.reasons.push(Reason::new(AND_MORE));
        }
        if self.reasons.is_empty() { Ok(result) } else { Err(self.reasons) }
    }

    /// Takes the reasons, with the row of each, if there are no others than these [`Entries::misfits`].
    pub(super) fn take_misfits(&mut self, rows: Vec<usize>) -> Vec<(usize, Reason)> {
        if self.full() || self.reasons.len() != rows.len() {
            return Vec::new();
        }
        rows.into_iter().zip(take(&mut self.reasons)).collect()
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

    pub(super) fn version(&mut self, top: &Object) -> u32 {
        match present(top, "version") {
            Some(Value::Number(n)) => {
                let version = n.as_u64().and_then(|v| u32::try_from(v).ok());
                match version.filter(|v| *v >= MIN_VERSION) {
                    Some(version) => return version,
                    None => self.refuse(Reason::new(format!(
                        "unsupported snapshot protocol version {n} (want {MIN_VERSION} to {})",
                        u32::MAX
                    ))),
                }
            }
            Some(other) => {
                let allowed = integers(MIN_VERSION, u32::MAX);
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

    pub(super) fn interface(&mut self, at: &Path<'_>, entry: &Object) -> Interface {
        Interface {
            name: self.text(at, entry, "name"),
            linux_name: self.text(at, entry, "linux_name"),
            ifindex: self.optional(at, entry, "ifindex", 0..=MAX_IFINDEX),
            parent_ifindex: self.optional(at, entry, "parent_ifindex", 0..=MAX_IFINDEX),
            vlan_id: self.optional(at, entry, "vlan_id", 0..=MAX_VLAN_ID),
            native_vlan_id: self.optional(at, entry, "native_vlan_id", 0..=MAX_VLAN_ID),
            mtu: self.optional(at, entry, "mtu", 0..=MAX_MTU),
            mac: self.hardware_addr(at, entry, "hardware_addr"),
            seen: false,
        }
    }

    pub(super) fn link(&mut self, at: &Path<'_>, entry: &Object) -> Link {
        let stuck_offload = self.text(at, entry, "stuck_offload");
        Link {
            interface: self.interface(at, entry),
            altnames: self.texts(at, entry, "altnames"),
            up: self.boolean(at, entry, "up"),
            speed: Some(self.optional(at, entry, "speed", 0..=u32::MAX)).filter(|speed| *speed > 0),
            stuck_offload: Some(stuck_offload).filter(|feature| !feature.is_empty()),
            ..Link::default()
        }
    }

    pub(super) fn mirror(&mut self, at: &Path<'_>, entry: &Object) -> Mirror {
        Mirror {
            ingress_ifindex: self.required(at, entry, "ingress_ifindex", 1..=MAX_IFINDEX),
            output_ifindex: self.required(at, entry, "output_ifindex", 1..=MAX_IFINDEX),
            rate: self.required(at, entry, "rate", 0..=u32::MAX),
        }
    }

    pub(super) fn wire(&mut self, at: &Path<'_>, entry: &Object) -> Wire {
        let name = self.text(at, entry, "name");
        let a_ifindex = self.required(at, entry, "a_ifindex", 1..=MAX_IFINDEX);
        let b_ifindex = self.required(at, entry, "b_ifindex", 1..=MAX_IFINDEX);
        let name = if name.is_empty() { format!("{a_ifindex}-{b_ifindex}") } else { name };
        let link_loss_forwarding = self.boolean(at, entry, "link_loss_forwarding").unwrap_or_default();
        Wire { name, a_ifindex, b_ifindex, link_loss_forwarding }
    }

    pub(super) fn exclusion(&mut self, at: &Path<'_>, entry: &Object) -> Exclusion {
        Exclusion {
            instance: self.text(at, entry, "instance"),
            input: self.text(at, entry, "input"),
            reason: self.text(at, entry, "reason"),
        }
    }

    /// The entries of a list of the document.
    pub(super) fn list<T>(&mut self, top: &Object, entries: Entries<T>) -> Vec<T> {
        match present(top, entries.list) {
            None => Vec::new(),
            Some(Value::Array(_)) => self.entries(entries),
            Some(other) => {
                self.refuse(wrong(&Path::Key(&Path::Top, entries.list), other, "a list or null"));
                Vec::new()
            }
        }
    }

    /// The entries of a list that was read, up to where there were more reasons than are told; none where there were
    /// too many.
    pub(super) fn entries<T>(&mut self, entries: Entries<T>) -> Vec<T> {
        let Entries { list, most, count, fields, read, .. } = entries;
        if count > most {
            self.refuse(Reason::new(format!("{list}: {count} entries (allowed: at most {most})")));
            return Vec::new();
        }
        fields.reasons.into_iter().for_each(|why| self.refuse(why));
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

    pub(super) fn optional<N: Integer>(
        &mut self,
        at: &Path<'_>,
        object: &Object,
        key: &str,
        range: RangeInclusive<N>,
    ) -> N {
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
        self.misfits += usize::from(is_large(value) || value.is_u64() || value.is_i64());
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

    /// A list of strings; empty where the key is absent.
    fn texts(&mut self, at: &Path<'_>, object: &Object, key: &str) -> Vec<String> {
        let texts = match present(object, key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        texts.unwrap_or_else(|| {
            let found = object.get(key).unwrap_or(&Value::Null);
            self.refuse(wrong(&Path::Key(at, key), found, "a list of strings"));
            Vec::new()
        })
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

    pub(super) fn timestamp(&mut self, top: &Object, key: &str) -> String {
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

/// A list whose entries are read one by one, so that only what they come to stays in memory.
pub(super) struct Entries<T> {
    list: &'static str,
    most: usize,
    entry: fn(&mut Fields, &Path<'_>, &Object) -> T,
    count: usize,
    fields: Fields,
    /// The place in the list of the entry that each of the reasons is about.
    rows: Vec<usize>,
    read: Vec<T>,
}

impl<T> Entries<T> {
    /// A list of this name with at most so many entries.
    pub(super) fn new(list: &'static str, most: usize, entry: fn(&mut Fields, &Path<'_>, &Object) -> T) -> Self {
        Entries { list, most, entry, count: 0, fields: Fields::default(), rows: Vec::new(), read: Vec::new() }
    }

    /// The place of the entry that each reason is about, if they all are that a number is out of range.
    pub(super) fn misfits(&self) -> Vec<usize> {
        let all = self.count <= self.most && self.fields.misfits == self.fields.reasons.len();
        if all { self.rows.clone() } else { Vec::new() }
    }

    /// Reads the next entry.
    pub(super) fn take(&mut self, value: Value) {
        let at = Path::Entry(self.list, self.count);
        self.count += 1;
        if self.count > self.most || self.fields.full() {
            return;
        }
        match value {
            Value::Object(object) => self.read.push((self.entry)(&mut self.fields, &at, &object)),
            other => self.fields.refuse(wrong(&at, &other, "an object")),
        }
        self.rows.resize(self.fields.reasons.len(), self.count - 1);
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
pub(super) trait Integer: Copy + Default + PartialOrd + fmt::Display + TryFrom<u64> {}

impl<N: Copy + Default + PartialOrd + fmt::Display + TryFrom<u64>> Integer for N {}
