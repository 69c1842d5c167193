//! The rules between entries: whether a snapshot may be published at all, and which entries will lie idle.
//!
//! Refused, because it has no sensible meaning or would feed clones back into what is mirrored:
//!
//! ```text
//! same ingress twice       A ─> X, A ─> Y       also two VLAN units with the same parent and tag
//! output is the ingress    A ─> A               also the parent of a VLAN ingress
//! chain, loop              A ─> B, B ─> X       also where B is the parent of a VLAN ingress
//! output on a wire         A ─> B, wire B─C     also where B is the parent of a wire's VLAN interface
//! bad wire                 A─A; A─B, A─C; one name for two wires; a port and a VLAN interface on it
//! no Ethernet device       a wire's port or an output that is one now: a tunnel, the loopback
//! number out of range      what the JSON reader refuses, for snapshots from elsewhere
//! ```
//!
//! An output that is a VLAN interface is judged as each port below it too: what it sends leaves there.
//!
//! Published, but `inactive` with a warning: an entry whose ingress is on no wire. Whether ports exist and are
//! up is the dataplane's to say, since that changes while a snapshot does not; [`remarks`](super::remarks) warns of
//! it. All checks are linear in the size of the snapshot.

mod left_out;
mod table;
#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests;
mod wired;

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use serde::{Serialize, Serializer};
use shm_layout::record::PlaceRecord;

use super::condense::condense;
use super::devices::Devices;
use super::diagnostic::{Diagnostic, Reason, Severity};
use super::labels::{Names, Places};
use super::link::Links;
use super::model::{MAX_IFINDEX, MAX_MTU, MAX_VLAN_ID, MIN_VERSION, Mirror, Snapshot};
use super::remarks::remarks;
use crate::counters::MAX_ENTRIES;
use table::Table;
use wired::Wired;

pub(super) use left_out::left_out;

/// What [`admit`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Everything the snapshot is refused for: wires first, then mirrors; empty if it is accepted.
    pub reasons: Vec<Reason>,
    /// Remarks to publish with the snapshot, those of one kind by examples and their number.
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

    /// The same, with remarks of one kind told once.
    pub(super) fn condensed(self) -> Self {
        Self { diagnostics: condense(self.diagnostics), ..self }
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
    judge(snapshot, Places::default(), None).condensed()
}

/// Judges a snapshot whose entries are called by `places`, for these devices where they are known.
pub(super) fn judge(snapshot: &Snapshot, places: Places<'_>, links: Option<&Links>) -> Admission {
    let names = Names::of(snapshot);
    let devices = Devices::of(snapshot, &names, links);
    let mut reasons = Vec::new();
    numbers(snapshot, places, &mut reasons);
    let wired = Wired::of(snapshot, &devices, &mut reasons);
    mirrors(snapshot, &devices, places, &wired, &mut reasons);
    let (states, mut diagnostics) = states(snapshot, &names, places);
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
    diagnostics.extend(remarks(snapshot, places, &devices));
    Admission { reasons, diagnostics, states }
}

/// The ranges that hold for each number by itself.
fn numbers(snapshot: &Snapshot, places: Places<'_>, reasons: &mut Vec<Reason>) {
    if snapshot.version < MIN_VERSION {
        reasons.push(Reason::new(format!(
            "unsupported snapshot protocol version {} (want {MIN_VERSION} to {})",
            snapshot.version,
            u32::MAX
        )));
    }
    if snapshot.mirrors.len() > MAX_ENTRIES {
        let n = snapshot.mirrors.len();
        reasons.push(Reason::new(format!("mirror_configs: {n} entries (allowed: at most {MAX_ENTRIES})")));
    }
    let mut check = |place: &dyn Fn() -> String, value: u32, range: RangeInclusive<u32>| {
        if let Some(text) = out_of_range(value, &range) {
            reasons.push(Reason::new(format!("{}: {text}", place())));
        }
    };
    for (i, interface) in snapshot.interfaces.iter().enumerate() {
        let mut check = |key, value, range| check(&|| format!("interfaces[{i}].{key}"), value, range);
        check("ifindex", interface.ifindex, 0..=MAX_IFINDEX);
        check("parent_ifindex", interface.parent_ifindex, 0..=MAX_IFINDEX);
        check("vlan_id", interface.vlan_id.into(), 0..=MAX_VLAN_ID.into());
        check("native_vlan_id", interface.native_vlan_id.into(), 0..=MAX_VLAN_ID.into());
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

fn out_of_range(value: u32, range: &RangeInclusive<u32>) -> Option<String> {
    let (min, max) = (range.start(), range.end());
    (!range.contains(&value)).then(|| format!("{value} is out of range (allowed: an integer in {min}..={max})"))
}

/// Checks the mirror entries between each other and against the wires.
fn mirrors(
    snapshot: &Snapshot,
    devices: &Devices<'_>,
    places: Places<'_>,
    wired: &Wired<'_>,
    reasons: &mut Vec<Reason>,
) {
    let table = Table::of(&snapshot.mirrors, devices.names, places);
    for (i, &mirror) in snapshot.mirrors.iter().enumerate() {
        if let Some(text) = table.duplicate(i, mirror) {
            reasons.push(Reason::new(format!("{}: {text}", places.ingress(i))));
        }
        let wrong = outputs(devices, &table, wired, (i, mirror));
        reasons.extend(wrong.into_iter().map(|text| Reason::new(format!("{}: {text}", places.output(i)))));
    }
}

/// What is wrong with the output of an entry, beside those of `table`.
fn outputs(devices: &Devices<'_>, table: &Table<'_>, wired: &Wired<'_>, (i, mirror): (usize, Mirror)) -> Vec<String> {
    let (names, mut wrong) = (devices.names, Vec::new());
    wrong.extend(table.sends_on(mirror).last().and_then(|(port, _)| devices.foreign(port)));
    // Once: what is below a port of a wire is below that wire too.
    let on_wire = table.sends_on(mirror).find_map(|(port, _)| Some((port, wired.against(port, names)?)));
    for (port, of) in table.sends_on(mirror) {
        let on_wire = on_wire.iter().filter(|(at, _)| *at == port).map(|(_, text)| text.clone());
        for text in table.feedback(i, mirror, port).into_iter().chain(on_wire) {
            let port = if of.is_empty() { String::new() } else { format!("ifindex {}, {of}", names.show(port)) };
            wrong.push(format!("{port}ifindex {} {text}", names.show(mirror.output_ifindex)));
        }
    }
    wrong
}

/// The entries' states, with a warning for each that lies idle.
fn states(snapshot: &Snapshot, names: &Names<'_>, places: Places<'_>) -> (Vec<StaticState>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut state = |(i, mirror): (usize, &Mirror)| {
        let ingress = mirror.ingress_ifindex;
        let PlaceRecord { port_ifindex: port, vlan_id, .. } = names.units.place(*mirror);
        if names.units.is_wired(port) {
            return StaticState::Active;
        }
        let reason = InactiveReason::OnNoWire;
        let place = match vlan_id {
            0 => String::new(),
            _ => format!(" (VLAN {vlan_id} on ifindex {})", names.show(port)),
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
