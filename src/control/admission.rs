//! The rules between entries: whether a snapshot may be published at all, and which entries will lie idle.
//!
//! Refused, because it has no sensible meaning or would feed clones back into what is mirrored:
//!
//! ```text
//! same ingress twice       A ─> X, A ─> Y       also two VLAN interfaces with the same parent and tag
//! output is the ingress    A ─> A               also the parent of a VLAN ingress
//! chain, loop              A ─> B, B ─> X       also where B is the parent of a VLAN ingress
//! output on a wire         A ─> B, wire B─C     a wire carries primary traffic only
//! bad wire                 A─A; A─B, A─C; one name for two wires
//! number out of range      what the JSON reader refuses, for snapshots from elsewhere
//! ```
//!
//! An output that is a VLAN interface is judged as each port below it too: what it sends leaves there.
//!
//! Published, but `inactive` with a warning: an entry whose ingress is on no wire. Whether ports exist and are
//! up is the dataplane's to say, since that changes while a snapshot does not; [`remarks`](super::remarks) warns of
//! it. All checks are linear in the size of the snapshot.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::iter::repeat;
use std::ops::RangeInclusive;

use serde::{Serialize, Serializer};

use super::model::{
    Diagnostic, Interface, Links, MAX_IFINDEX, MAX_MTU, MAX_VLAN_ID, MIN_VERSION, Mirror, Origin, Reason, Severity,
    Snapshot, VERSION, quoted,
};
use super::remarks::remarks;
use crate::counters::MAX_ENTRIES;

/// What [`admit`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Everything the snapshot is refused for: wires first, then mirrors; empty if it is accepted.
    pub reasons: Vec<Reason>,
    /// Remarks to publish with the snapshot.
    pub diagnostics: Vec<Diagnostic>,
    /// The state of each mirror entry as far as the snapshot alone tells, in the order of its mirrors.
    pub states: Vec<StaticState>,
}

impl Admission {
    /// Whether the snapshot may be published.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// The state of a mirror entry that follows from the snapshot alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StaticState {
    /// Mirrors, once its ports are there.
    Active,
    /// Mirrors nothing.
    Inactive(InactiveReason),
}

impl StaticState {
    /// `"active"` or `"inactive"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive(_) => "inactive",
        }
    }

    /// Why it is inactive.
    #[must_use]
    pub fn reason(self) -> Option<InactiveReason> {
        match self {
            Self::Active => None,
            Self::Inactive(reason) => Some(reason),
        }
    }
}

/// Why a mirror entry mirrors nothing. Serialises as its [`as_str`](Self::as_str) text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InactiveReason {
    /// No wire has the ingress port, so no frame is received there.
    OnNoWire,
    /// The ingress or the output does not exist, as the dataplane sees it.
    PortMissing,
    /// The output exists and has no link.
    OutputDown,
    /// The dataplane's role is standby.
    Standby,
}

impl InactiveReason {
    /// The text shown to operators.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnNoWire => "ingress on no wire",
            Self::PortMissing => "port missing",
            Self::OutputDown => "output down",
            Self::Standby => "standby",
        }
    }
}

impl Display for InactiveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for InactiveReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Judges a snapshot by itself; never stops at the first problem.
#[must_use]
pub fn admit(snapshot: &Snapshot) -> Admission {
    judge(snapshot, &[], None)
}

/// Judges a snapshot whose entries come from `origins`, for these devices where they are known.
pub(super) fn judge(snapshot: &Snapshot, origins: &[Option<Origin>], links: Option<&Links>) -> Admission {
    let names = Names::of(snapshot);
    let places = Places(origins);
    let mut reasons = Vec::new();
    numbers(snapshot, places, &mut reasons);
    let wire_of_port = wires(snapshot, &names, &mut reasons);
    mirrors(snapshot, &names, places, &wire_of_port, &mut reasons);
    let (states, mut diagnostics) = states(snapshot, &names, places, &wire_of_port);
    if snapshot.wires.is_empty() {
        // The Go control plane never names wires, so this is how one is forgotten.
        diagnostics.insert(
            0,
            Diagnostic {
                severity: Severity::Warning,
                subject: "wires".to_owned(),
                message: "there are none, so nothing is forwarded (name them in \"wires\", as a secure-wire, or with \
                          --wire A:B)"
                    .to_owned(),
            },
        );
    }
    diagnostics.extend(remarks(snapshot, &names, places, links));
    Admission { reasons, diagnostics, states }
}

/// What messages call the mirror entries: by their instances where those are known.
#[derive(Clone, Copy)]
pub(super) struct Places<'a>(&'a [Option<Origin>]);

impl Places<'_> {
    fn origin(&self, i: usize) -> Option<&Origin> {
        self.0.get(i)?.as_ref()
    }

    /// The entry.
    pub(super) fn entry(&self, i: usize) -> String {
        self.place(i, "", |origin| format!("ingress {}", origin.ingress))
    }

    fn ingress(&self, i: usize) -> String {
        self.place(i, ".ingress_ifindex", |origin| format!("ingress {}", origin.ingress))
    }

    fn output(&self, i: usize) -> String {
        self.place(i, ".output_ifindex", |origin| format!("ingress {} output {}", origin.ingress, origin.output))
    }

    fn place(&self, i: usize, key: &str, written: impl Fn(&Origin) -> String) -> String {
        match self.origin(i) {
            None => format!("mirror_configs[{i}]{key}"),
            Some(origin) if origin.ingress.at.is_none() => {
                format!("mirror_configs[{i}]{key} (instance {})", quoted(&origin.instance))
            }
            Some(origin) => format!("instance {} {}", quoted(&origin.instance), written(origin)),
        }
    }
}

/// The most VLANs on one another that Linux has (its `MAX_NEST_DEV`).
const MAX_STACKED: usize = 8;

/// The interfaces by ifindex; of several with the same one the first, as [`Snapshot::interface_by_index`].
pub(super) struct Names<'a>(HashMap<u32, &'a Interface>);

impl<'a> Names<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut by_index = HashMap::with_capacity(snapshot.interfaces.len());
        for interface in snapshot.interfaces.iter().filter(|i| i.ifindex > 0) {
            by_index.entry(interface.ifindex).or_insert(interface);
        }
        Self(by_index)
    }

    /// `11 ("ge-0/0/0.0")`, or only the number if the snapshot has no name for it.
    pub(super) fn show(&self, ifindex: u32) -> String {
        match self.0.get(&ifindex).map(|i| i.label()) {
            Some(name) if !name.is_empty() => format!("{ifindex} ({})", quoted(name)),
            _ => ifindex.to_string(),
        }
    }

    /// `(parent, tag)` if the ifindex is a VLAN interface's.
    pub(super) fn vlan(&self, ifindex: u32) -> Option<(u32, u16)> {
        self.0.get(&ifindex).and_then(|i| i.vlan())
    }

    /// MTU in bytes, if the snapshot says.
    pub(super) fn mtu(&self, ifindex: u32) -> Option<u32> {
        self.0.get(&ifindex).map(|i| i.mtu).filter(|mtu| *mtu > 0)
    }

    /// The port below a VLAN interface.
    pub(super) fn parent(&self, ifindex: u32) -> Option<u32> {
        self.vlan(ifindex).map(|(parent, _)| parent)
    }

    /// An interface and all that is below it, each once: a VLAN may stand on a VLAN, and what a snapshot says of
    /// that may go in a circle.
    fn stack(&self, ifindex: u32) -> Vec<u32> {
        let mut stack = vec![ifindex];
        let mut at = ifindex;
        while let Some(below) = self.parent(at).filter(|below| stack.len() <= MAX_STACKED && !stack.contains(below)) {
            stack.push(below);
            at = below;
        }
        stack
    }
}

/// The ranges that hold for each number by itself.
fn numbers(snapshot: &Snapshot, places: Places<'_>, reasons: &mut Vec<Reason>) {
    if !(MIN_VERSION..=VERSION).contains(&snapshot.version) {
        reasons.push(Reason::new(format!(
            "unsupported snapshot protocol version {} (want {MIN_VERSION} to {VERSION})",
            snapshot.version
        )));
    }
    if snapshot.mirrors.len() > MAX_ENTRIES {
        let n = snapshot.mirrors.len();
        reasons.push(Reason::new(format!("mirror_configs: {n} entries (allowed: at most {MAX_ENTRIES})")));
    }
    let mut check = |place: &dyn Fn() -> String, value: u32, range: RangeInclusive<u32>| {
        if !range.contains(&value) {
            let (place, (min, max)) = (place(), range.into_inner());
            reasons
                .push(Reason::new(format!("{place}: {value} is out of range (allowed: an integer in {min}..={max})")));
        }
    };
    for (i, interface) in snapshot.interfaces.iter().enumerate() {
        let mut check = |key, value, range| check(&|| format!("interfaces[{i}].{key}"), value, range);
        check("ifindex", interface.ifindex, 0..=MAX_IFINDEX);
        check("parent_ifindex", interface.parent_ifindex, 0..=MAX_IFINDEX);
        check("vlan_id", interface.vlan_id.into(), 0..=MAX_VLAN_ID.into());
        check("mtu", interface.mtu, 0..=MAX_MTU);
    }
    for (i, wire) in snapshot.wires.iter().enumerate() {
        check(&|| format!("wires[{i}].a_ifindex"), wire.a_ifindex, 1..=MAX_IFINDEX);
        check(&|| format!("wires[{i}].b_ifindex"), wire.b_ifindex, 1..=MAX_IFINDEX);
    }
    for (i, mirror) in snapshot.mirrors.iter().enumerate() {
        check(&|| places.ingress(i), mirror.ingress_ifindex, 1..=MAX_IFINDEX);
        check(&|| places.output(i), mirror.output_ifindex, 1..=MAX_IFINDEX);
    }
}

/// Checks the wires between each other; gives the first wire of each port.
fn wires(snapshot: &Snapshot, names: &Names<'_>, reasons: &mut Vec<Reason>) -> HashMap<u32, usize> {
    let mut by_name: HashMap<&str, usize> = HashMap::with_capacity(snapshot.wires.len());
    let mut by_port: HashMap<u32, usize> = HashMap::with_capacity(2 * snapshot.wires.len());
    for (i, wire) in snapshot.wires.iter().enumerate() {
        let shown = quoted(&wire.name);
        let first = *by_name.entry(&wire.name).or_insert(i);
        if first != i {
            reasons.push(Reason::new(format!(
                "wires[{i}].name: {shown} is the name of wires[{first}] too (allowed: a name for one wire)"
            )));
        }
        if wire.a_ifindex == wire.b_ifindex {
            reasons.push(Reason::new(format!(
                "wires[{i}]: both ends of {shown} are ifindex {} (allowed: two different ports)",
                names.show(wire.a_ifindex)
            )));
        }
        for (key, port) in [("a_ifindex", wire.a_ifindex), ("b_ifindex", wire.b_ifindex)] {
            let first = *by_port.entry(port).or_insert(i);
            if first != i {
                reasons.push(Reason::new(format!(
                    "wires[{i}].{key}: ifindex {} of {shown} is a port of wires[{first}] {} already (allowed: a port on one wire)",
                    names.show(port),
                    quoted(&snapshot.wires[first].name)
                )));
            }
        }
    }
    by_port
}

/// Checks the mirror entries between each other and against the wires.
fn mirrors(
    snapshot: &Snapshot,
    names: &Names<'_>,
    places: Places<'_>,
    wire_of_port: &HashMap<u32, usize>,
    reasons: &mut Vec<Reason>,
) {
    let table = Table::of(&snapshot.mirrors, names, places);
    for (i, &mirror) in snapshot.mirrors.iter().enumerate() {
        if let Some(text) = table.duplicate(i, mirror) {
            reasons.push(Reason::new(format!("{}: {text}", places.ingress(i))));
        }
        let output = mirror.output_ifindex;
        let shown = format!("ifindex {}", names.show(output));
        for (port, of) in table.sends_on(mirror) {
            let on_wire = wire_of_port.get(&port).map(|&w| {
                let name = quoted(&snapshot.wires[w].name);
                format!("is a port of wires[{w}] {name} (allowed: a port on no wire)")
            });
            for text in table.feedback(i, mirror, port).into_iter().chain(on_wire) {
                let port = if of.is_empty() { String::new() } else { format!("ifindex {}, {of}", names.show(port)) };
                reasons.push(Reason::new(format!("{}: {port}{shown} {text}", places.output(i))));
            }
        }
    }
}

/// The mirror entries by what they receive on; of several with the same key the first.
struct Table<'a> {
    names: &'a Names<'a>,
    places: Places<'a>,
    by_ifindex: HashMap<u32, usize>,
    by_vlan: HashMap<(u32, u16), usize>,
    by_parent: HashMap<u32, usize>,
    /// Whether an entry's clones come back to it.
    on_loop: Vec<bool>,
}

impl<'a> Table<'a> {
    fn of(mirrors: &[Mirror], names: &'a Names<'a>, places: Places<'a>) -> Self {
        let mut by_ifindex = HashMap::with_capacity(mirrors.len());
        let mut by_vlan = HashMap::new();
        let mut by_parent = HashMap::new();
        for (i, mirror) in mirrors.iter().enumerate() {
            by_ifindex.entry(mirror.ingress_ifindex).or_insert(i);
            if let Some((parent, tag)) = names.vlan(mirror.ingress_ifindex) {
                by_vlan.entry((parent, tag)).or_insert(i);
            }
            for &below in &names.stack(mirror.ingress_ifindex)[1..] {
                by_parent.entry(below).or_insert(i);
            }
        }
        let mut table = Self { names, places, by_ifindex, by_vlan, by_parent, on_loop: Vec::new() };
        table.on_loop = loops(mirrors.len(), |i| table.next(mirrors[i]));
        table
    }

    /// The ports a mirror's clones leave by: a VLAN output sends through its parent, so what holds for one holds
    /// for the other, and so on down. With each, how it relates to the output.
    fn sends_on(&self, mirror: Mirror) -> impl Iterator<Item = (u32, &'static str)> + use<> {
        let relations = ["", "the parent of "].into_iter().chain(repeat("a parent's parent of "));
        self.names.stack(mirror.output_ifindex).into_iter().zip(relations)
    }

    /// An entry that receives a mirror's clones.
    fn next(&self, mirror: Mirror) -> Option<usize> {
        self.sends_on(mirror).find_map(|(port, _)| self.by_ifindex.get(&port).or(self.by_parent.get(&port)).copied())
    }

    /// What is wrong if an earlier entry has the ingress of entry `i`.
    fn duplicate(&self, i: usize, mirror: Mirror) -> Option<String> {
        let (names, ingress) = (self.names, mirror.ingress_ifindex);
        let one = "(allowed: one entry per ingress)";
        let (first, same) = match self.by_ifindex.get(&ingress).filter(|&&first| first != i) {
            Some(&first) => (first, None),
            None => {
                let (parent, tag) = names.vlan(ingress)?;
                (*self.by_vlan.get(&(parent, tag)).filter(|&&first| first != i)?, Some((parent, tag)))
            }
        };
        let shown = names.show(ingress);
        let place = self.places.entry(first);
        if let (Some(a), Some(b)) = (self.places.origin(first), self.places.origin(i)) {
            // In the Go control plane's words, which operators look for.
            let (a, b) = (quoted(&a.instance), quoted(&b.instance));
            let same = same.map(|(parent, tag)| format!(", VLAN {tag} on ifindex {}", names.show(parent)));
            let same = same.unwrap_or_default();
            return Some(format!(
                "duplicate port-mirroring ingress ifindex {ingress} in instances {a} and {b}{same}, first as {place} {one}"
            ));
        }
        Some(match same {
            None => format!("duplicate ingress ifindex {shown}, first in {place} {one}"),
            Some((parent, tag)) => format!(
                "duplicate ingress: ifindex {shown} is VLAN {tag} on ifindex {}, as that of {place} is {one}",
                names.show(parent)
            ),
        })
    }

    /// What is wrong if clones that entry `i` sends on `port` go where some entry receives.
    fn feedback(&self, i: usize, mirror: Mirror, port: u32) -> Vec<String> {
        let mut wrong = Vec::new();
        let ingress = mirror.ingress_ifindex;
        if port == ingress {
            wrong.push("is the entry's own ingress (allowed: another port)".to_owned());
        }
        if self.names.stack(ingress)[1..].contains(&port) {
            let ingress = self.names.show(ingress);
            wrong.push(format!("is the parent port of the entry's ingress ifindex {ingress} (allowed: another port)"));
        }
        let mut fed = |of: &str, other: usize| {
            let what = if self.on_loop[i] && self.on_loop[other] { "loop" } else { "chain" };
            let place = self.places.entry(other);
            wrong
                .push(format!("is {of} of {place}, a mirror {what} (allowed: an output on which nothing is mirrored)"));
        };
        let other = |found: Option<&usize>| found.copied().filter(|&other| other != i);
        if let Some(other) = other(self.by_ifindex.get(&port)).filter(|_| port != ingress) {
            fed("the ingress", other);
        }
        if let Some(other) = other(self.by_parent.get(&port)) {
            fed("the parent port of the ingress", other);
        }
        wrong
    }
}

/// Which of `n` entries lead back to themselves, each followed by `next`.
fn loops(n: usize, next: impl Fn(usize) -> Option<usize>) -> Vec<bool> {
    let mut on_loop = vec![false; n];
    // The walk that an entry was first met on, from 1.
    let mut walk_of = vec![0; n];
    for start in 0..n {
        let walk = start + 1;
        let mut at = Some(start);
        while let Some(i) = at.filter(|&i| walk_of[i] == 0) {
            walk_of[i] = walk;
            at = next(i);
        }
        // Only a walk that met itself has a loop of its own, which begins there.
        while let Some(i) = at.filter(|&i| walk_of[i] == walk && !on_loop[i]) {
            on_loop[i] = true;
            at = next(i);
        }
    }
    on_loop
}

/// The entries' states, with a warning for each that lies idle.
fn states(
    snapshot: &Snapshot,
    names: &Names<'_>,
    places: Places<'_>,
    wire_of_port: &HashMap<u32, usize>,
) -> (Vec<StaticState>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut state = |(i, mirror): (usize, &Mirror)| {
        let ingress = mirror.ingress_ifindex;
        let vlan = names.vlan(ingress);
        let on_wire = |port: u32| wire_of_port.contains_key(&port);
        if on_wire(ingress) || vlan.is_some_and(|(parent, _)| on_wire(parent)) {
            return StaticState::Active;
        }
        let reason = InactiveReason::OnNoWire;
        let place = match vlan {
            Some((parent, tag)) => format!(" (VLAN {tag} on ifindex {})", names.show(parent)),
            None => String::new(),
        };
        diagnostics.push(Diagnostic {
            severity: Severity::Warning,
            subject: places.entry(i),
            message: format!(
                "{reason}: ifindex {}{place} receives nothing until a wire has that port",
                names.show(ingress)
            ),
        });
        StaticState::Inactive(reason)
    };
    let states = snapshot.mirrors.iter().enumerate().map(&mut state).collect();
    (states, diagnostics)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;
    use crate::control::model::Wire;

    /// Interfaces 11, 12 and 22, and the VLAN interfaces 110 and 111 (tags 10 and 11) on 11.
    fn snapshot(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)]) -> Snapshot {
        let interface = |name: &str, ifindex, parent_ifindex, vlan_id| Interface {
            name: name.into(),
            ifindex,
            parent_ifindex,
            vlan_id,
            ..Interface::default()
        };
        Snapshot {
            interfaces: vec![
                interface("in", 11, 0, 0),
                interface("peer", 12, 0, 0),
                interface("mon", 22, 0, 0),
                interface("in.10", 110, 11, 10),
                interface("in.11", 111, 11, 11),
                interface("in.10-again", 112, 11, 10),
                interface("mon.7", 220, 22, 7),
            ],
            mirrors: mirrors
                .iter()
                .map(|&(ingress_ifindex, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate: 1 })
                .collect(),
            wires: wires
                .iter()
                .map(|&(name, a_ifindex, b_ifindex)| Wire { name: name.into(), a_ifindex, b_ifindex })
                .collect(),
            ..Snapshot::default()
        }
    }

    const WIRE: &[(&str, u32, u32)] = &[("w", 11, 12)];

    fn reasons(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)]) -> Vec<String> {
        admit(&snapshot(mirrors, wires)).reasons.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn refused(mirrors: &[(u32, u32)], wires: &[(&str, u32, u32)], wants: &[&str]) {
        let found = reasons(mirrors, wires);
        assert_eq!(found.len(), wants.len(), "{found:#?}");
        for (found, want) in found.iter().zip(wants) {
            assert!(found.starts_with(want), "{found}\nwant: {want}");
        }
    }

    #[test]
    fn a_sound_table_is_accepted() {
        let admission = admit(&snapshot(&[(11, 22), (12, 22), (110, 22), (111, 22)], WIRE));
        assert!(admission.accepted(), "{:?}", admission.reasons);
        assert_eq!(admission.diagnostics, []);
        assert_eq!(admission.states, [StaticState::Active; 4], "a VLAN interface is active through its parent");
        let empty = admit(&Snapshot::default());
        assert!(empty.accepted() && empty.states.is_empty(), "{empty:?}");
        assert_eq!(empty.diagnostics.len(), 1, "a forgotten wire is worth a warning");
        assert!(empty.diagnostics[0].message.contains("--wire"), "{empty:?}");
        assert!(reasons(&[(500, 600)], &[("far", 500, 501)]).is_empty(), "unknown ifindexes are fine");
        assert!(reasons(&[(11, 220)], WIRE).is_empty(), "a VLAN interface may be a monitor port");
    }

    #[test]
    fn duplicate_ingress() {
        refused(
            &[(11, 22), (12, 22), (11, 23)],
            WIRE,
            &[
                "mirror_configs[2].ingress_ifindex: duplicate ingress ifindex 11 (\"in\"), first in mirror_configs[0] (allowed",
            ],
        );
        refused(
            &[(110, 22), (112, 22)],
            WIRE,
            &[
                "mirror_configs[1].ingress_ifindex: duplicate ingress: ifindex 112 (\"in.10-again\") is VLAN 10 on ifindex 11 (\"in\"), as that of mirror_configs[0]",
            ],
        );
    }

    #[test]
    fn output_is_the_ingress() {
        refused(
            &[(22, 22)],
            WIRE,
            &["mirror_configs[0].output_ifindex: ifindex 22 (\"mon\") is the entry's own ingress"],
        );
        refused(
            &[(110, 11)],
            &[],
            &[
                "mirror_configs[0].output_ifindex: ifindex 11 (\"in\") is the parent port of the entry's ingress ifindex 110 (\"in.10\")",
            ],
        );
        refused(
            &[(22, 220)],
            WIRE,
            &[
                "mirror_configs[0].output_ifindex: ifindex 22 (\"mon\"), the parent of ifindex 220 (\"mon.7\") is the entry's own",
            ],
        );
    }

    #[test]
    fn chains_and_loops() {
        refused(
            &[(12, 22), (22, 23)],
            &[],
            &[
                "mirror_configs[0].output_ifindex: ifindex 22 (\"mon\") is the ingress of mirror_configs[1], a mirror chain",
            ],
        );
        refused(
            &[(1, 2), (2, 3), (3, 1)],
            &[],
            &[
                "mirror_configs[0].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror loop",
                "mirror_configs[1].output_ifindex: ifindex 3 is the ingress of mirror_configs[2], a mirror loop",
                "mirror_configs[2].output_ifindex: ifindex 1 is the ingress of mirror_configs[0], a mirror loop",
            ],
        );
        refused(
            &[(22, 11), (110, 23)],
            &[],
            &[
                "mirror_configs[0].output_ifindex: ifindex 11 (\"in\") is the parent port of the ingress of mirror_configs[1]",
            ],
        );
    }

    #[test]
    fn a_chain_into_a_loop_is_no_loop() {
        refused(
            &[(1, 2), (2, 3), (3, 2)],
            &[],
            &[
                "mirror_configs[0].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror chain",
                "mirror_configs[1].output_ifindex: ifindex 3 is the ingress of mirror_configs[2], a mirror loop",
                "mirror_configs[2].output_ifindex: ifindex 2 is the ingress of mirror_configs[1], a mirror loop",
            ],
        );
    }

    #[test]
    fn an_entry_gets_all_its_reasons() {
        refused(
            &[(110, 22), (111, 22), (110, 11)],
            WIRE,
            &[
                "mirror_configs[2].ingress_ifindex: duplicate ingress ifindex 110",
                "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is the parent port of the entry's ingress",
                "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is the parent port of the ingress of mirror_configs[0], a mirror chain",
                "mirror_configs[2].output_ifindex: ifindex 11 (\"in\") is a port of wires[0] \"w\"",
            ],
        );
    }

    #[test]
    fn output_on_a_wire() {
        refused(
            &[(11, 12)],
            WIRE,
            &[
                "mirror_configs[0].output_ifindex: ifindex 12 (\"peer\") is a port of wires[0] \"w\" (allowed: a port on no wire)",
            ],
        );
        refused(
            &[(12, 110)],
            WIRE,
            &[
                "mirror_configs[0].output_ifindex: ifindex 11 (\"in\"), the parent of ifindex 110 (\"in.10\") is a port of wires[0]",
            ],
        );
    }

    #[test]
    fn output_on_vlans_on_one_another() {
        let mut stacked = snapshot(&[(12, 303)], &[("w", 11, 13)]);
        let vlan = |ifindex, parent_ifindex| Interface { ifindex, parent_ifindex, vlan_id: 5, ..Interface::default() };
        // 303 on 302 on 301 on 110, which is on 11.
        stacked.interfaces.extend([vlan(301, 110), vlan(302, 301), vlan(303, 302)]);
        let texts = |snapshot: &Snapshot| admit(snapshot).reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = texts(&stacked);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with(
                "mirror_configs[0].output_ifindex: ifindex 11 (\"in\"), a parent's parent of ifindex 303 is a port of wires[0]"
            ),
            "{found:#?}"
        );
        stacked.mirrors[0] = Mirror { ingress_ifindex: 303, output_ifindex: 11, rate: 1 };
        stacked.wires.clear();
        let found = texts(&stacked);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("is the parent port of the entry's ingress ifindex 303"), "{found:#?}");
        // A circle, which no kernel has, ends.
        stacked.interfaces.extend([vlan(401, 402), vlan(402, 401)]);
        stacked.mirrors[0] = Mirror { ingress_ifindex: 12, output_ifindex: 401, rate: 1 };
        assert_eq!(texts(&stacked), [""; 0]);
    }

    #[test]
    fn bad_wires() {
        refused(&[], &[("w", 11, 11)], &["wires[0]: both ends of \"w\" are ifindex 11 (\"in\")"]);
        refused(
            &[],
            &[("w", 11, 12), ("v", 13, 11)],
            &["wires[1].b_ifindex: ifindex 11 (\"in\") of \"v\" is a port of wires[0] \"w\" already"],
        );
        refused(&[], &[("w", 11, 12), ("w", 13, 14)], &["wires[1].name: \"w\" is the name of wires[0] too"]);
    }

    #[test]
    fn numbers_out_of_range() {
        let mut bad = snapshot(&[(0, 1 << 31)], &[("w", 0, 1 << 31)]);
        bad.version = 4;
        bad.interfaces[0].ifindex = 1 << 31;
        bad.interfaces[0].parent_ifindex = 1 << 31;
        bad.interfaces[0].vlan_id = 4095;
        bad.interfaces[0].mtu = 1 << 31;
        let found: Vec<String> = admit(&bad).reasons.iter().map(ToString::to_string).collect();
        for want in [
            "unsupported snapshot protocol version 4 (want 1 to 3)",
            "interfaces[0].ifindex: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
            "interfaces[0].parent_ifindex: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
            "interfaces[0].vlan_id: 4095 is out of range (allowed: an integer in 0..=4094)",
            "interfaces[0].mtu: 2147483648 is out of range (allowed: an integer in 0..=2147483647)",
            "wires[0].a_ifindex: 0 is out of range (allowed: an integer in 1..=2147483647)",
            "wires[0].b_ifindex: 2147483648 is out of range (allowed: an integer in 1..=2147483647)",
            "mirror_configs[0].ingress_ifindex: 0 is out of range (allowed: an integer in 1..=2147483647)",
            "mirror_configs[0].output_ifindex: 2147483648 is out of range (allowed: an integer in 1..=2147483647)",
        ] {
            assert!(found.iter().any(|f| f == want), "{want}\n{found:#?}");
        }
    }

    #[test]
    fn every_problem_is_listed() {
        let found = reasons(&[(11, 11), (11, 12), (110, 11)], &[("w", 11, 12), ("w", 12, 12)]);
        // Three of the wires; two outputs on the ingress and a duplicate; all three outputs on a wire.
        for want in ["wires[1].name", "both ends", "duplicate ingress", "own ingress", "parent port of the entry's"] {
            assert!(found.iter().any(|f| f.contains(want)), "{want}\n{found:#?}");
        }
        assert_eq!(found.iter().filter(|f| f.contains("(allowed: a port on no wire)")).count(), 3, "{found:#?}");
    }

    #[test]
    fn ingress_on_no_wire_is_only_inactive() {
        let admission = admit(&snapshot(&[(11, 22), (500, 22), (110, 22)], &[("w", 12, 13)]));
        assert!(admission.accepted());
        assert_eq!(admission.states, [StaticState::Inactive(InactiveReason::OnNoWire); 3]);
        assert_eq!(admission.states[0].reason().map(InactiveReason::as_str), Some("ingress on no wire"));
        let found: Vec<String> = admission.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "warning: mirror_configs[0]: ingress on no wire: ifindex 11 (\"in\") receives nothing until a wire has that port",
                "warning: mirror_configs[1]: ingress on no wire: ifindex 500 receives nothing until a wire has that port",
                "warning: mirror_configs[2]: ingress on no wire: ifindex 110 (\"in.10\") (VLAN 10 on ifindex 11 (\"in\")) receives nothing until a wire has that port",
            ]
        );
        assert_eq!(
            serde_json::to_string(&admission.diagnostics[1]).expect("plain data"),
            r#"{"severity":"warning","subject":"mirror_configs[1]","message":"ingress on no wire: ifindex 500 receives nothing until a wire has that port"}"#
        );
    }

    #[test]
    fn linear_in_the_table() {
        // 65,536 entries of which every one is bad in several ways; quadratic work would take minutes.
        let n = 65_536;
        let mirrors: Vec<(u32, u32)> = (0..n).map(|i| (1 + i / 2, 1 + (i + 1) % n / 2)).collect();
        let start = std::time::Instant::now();
        let admission = admit(&snapshot(&mirrors, WIRE));
        assert_eq!(admission.states.len(), n as usize);
        assert!(admission.reasons.len() >= n as usize);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
