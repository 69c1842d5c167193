//! Snapshot documents (JSON) to [`Snapshot`] and back.
//!
//! ```text
//! bytes ── syntax ──> what is read of it ──┬── fields ──────> Snapshot     or every Reason against it
//!                                          ├── exclusions ──> what the producer says that it left out
//!                                          └── config ──────> why another instance of its has no entry
//! ```
//!
//! The documents are what Go's `encoding/json` emits for the producer's snapshot, or what an operator wrote
//! in that shape. Both leave their marks on the rules:
//!
//! - Unknown keys are ignored everywhere; producers send much that mirroring does not need. One that is known but for
//!   its case is told of: an operator meant it.
//! - A list that is absent or null is empty (Go writes a nil slice as null), and an optional field that is
//!   absent or null has its zero value. A mirror entry's three keys and a wire's ends are never optional.
//! - Numbers are JSON integers in range. `"11"`, `11.5` and `1e2` are errors: a rate that does not parse must
//!   not become 0, which would mirror every frame.
//! - A key given twice in one object is an error, because the reader cannot know which one was meant.
//! - Every version from 1 up is read. Nothing that is read here has changed in those that are known, so one that is
//!   newer is worth a warning and no more. The version may be absent, but then another known key must be there: importing `{}` or some stray JSON
//!   file must not wipe a configuration.
//!
//! The rules between entries are [`admission`](super::admission)'s.

mod config;
mod exclusions;
mod export;
mod fields;
mod miscased;
mod reasons;
mod syntax;
#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

pub use export::export;
pub(crate) use reasons::{AND_MORE, MAX_REASONS};

use super::diagnostic::{Diagnostic, Reason, Severity};
use super::draft::Draft;
use super::link::Link;
use super::model::{Interface, KNOWN_VERSION, Snapshot};
use crate::counters::MAX_ENTRIES;
use fields::{Entries, Fields, Path, wrong};
use syntax::Keep;

/// Entries of a list that the mirror table does not bound: more than a system has devices.
const MAX_LISTED: usize = 1_000_000;

/// What is read of a document; a key that is not here is not seen by [`Fields`].
const SNAPSHOT: Keep = Keep::Own(&[
    ("version", Keep::Scalar),
    ("generation", Keep::Scalar),
    ("fib_generation", Keep::Scalar),
    ("generated_at", Keep::Scalar),
    ("interfaces", INTERFACES),
    ("mirror_configs", Keep::Stream("mirror_configs", &MIRROR)),
    ("wires", Keep::Stream("wires", &WIRE)),
    ("mirror_exclusions", Keep::Stream("mirror_exclusions", &exclusions::KEPT)),
    ("config", config::KEPT),
]);
const INTERFACES: Keep = Keep::Stream("interfaces", &INTERFACE);
const INTERFACE: Keep = Keep::Own(&[
    ("name", Keep::Scalar),
    ("linux_name", Keep::Scalar),
    ("ifindex", Keep::Scalar),
    ("parent_ifindex", Keep::Scalar),
    ("vlan_id", Keep::Scalar),
    ("native_vlan_id", Keep::Scalar),
    ("mtu", Keep::Scalar),
    ("hardware_addr", Keep::Scalar),
    ("up", Keep::Scalar),
    ("speed", Keep::Scalar),
    ("stuck_offload", Keep::Scalar),
    ("altnames", Keep::List(&Keep::Scalar)),
]);
const MIRROR: Keep =
    Keep::Own(&[("ingress_ifindex", Keep::Scalar), ("output_ifindex", Keep::Scalar), ("rate", Keep::Scalar)]);
const WIRE: Keep = Keep::Own(&[
    ("name", Keep::Scalar),
    ("a_ifindex", Keep::Scalar),
    ("b_ifindex", Keep::Scalar),
    ("link_loss_forwarding", Keep::Scalar),
]);

/// Reads a snapshot document.
///
/// A snapshot without a version is taken as one of version 3, and a wire without a name gets
/// `"{a_ifindex}-{b_ifindex}"`.
///
/// # Errors
/// Every problem of the document, up to 1000 of them, in the order of [`Snapshot`]'s fields: where it is
/// (`mirror_configs[3].rate`), what was found, what is allowed. A document that is not JSON has one reason, with
/// line and column.
pub fn parse(bytes: &[u8]) -> Result<Snapshot, Vec<Reason>> {
    let draft = parse_draft(bytes, None)?;
    if draft.unfit.is_empty() { Ok(draft.snapshot) } else { Err(draft.unfit.into_iter().map(|(_, why)| why).collect()) }
}

/// Reads a snapshot document as [`parse`] does, with `interfaces` in place of its own where they are given, and
/// with a warning for each of its `mirror_exclusions` and what its `config` tells beside: the instance of each mirror
/// entry, and a warning for each instance or ingress of one that did not become an entry.
///
/// Where nothing is wrong but that numbers of mirror entries are out of range, those entries are not in the snapshot
/// but among what is unfit for it.
///
/// # Errors
/// As [`parse`] otherwise. A `config` of another shape than the Go control plane's tells nothing and is no error.
pub fn parse_draft(bytes: &[u8], interfaces: Option<Vec<Interface>>) -> Result<Draft, Vec<Reason>> {
    let mut listed = Entries::new("interfaces", MAX_LISTED, Fields::interface);
    let mut mirrors = Entries::new("mirror_configs", MAX_ENTRIES, Fields::mirror);
    let mut wires = Entries::new("wires", MAX_LISTED, Fields::wire);
    let mut excluded = Entries::new("mirror_exclusions", MAX_LISTED, Fields::exclusion);
    let mut sink = |list, entry| match list {
        "interfaces" => listed.take(entry),
        "mirror_configs" => mirrors.take(entry),
        "mirror_exclusions" => excluded.take(entry),
        _ => wires.take(entry),
    };
    let (document, miscased) = syntax::read(bytes, &SNAPSHOT, &mut sink).map_err(|reason| vec![reason])?;
    let Value::Object(top) = &document else {
        return Err(vec![wrong(&Path::Top, &document, "a snapshot object")]);
    };
    let misfits = mirrors.misfits();
    let mut fields = Fields::default();
    let version = fields.version(top);
    let mut snapshot = Snapshot {
        version,
        generation: fields.optional(&Path::Top, top, "generation", 0..=u64::MAX),
        fib_generation: fields.optional(&Path::Top, top, "fib_generation", 0..=u64::MAX),
        generated_at: fields.timestamp(top, "generated_at"),
        interfaces: fields.list(top, listed),
        mirrors: fields.list(top, mirrors),
        wires: fields.list(top, wires),
    };
    let excluded = fields.list(top, excluded);
    if let Some(interfaces) = interfaces {
        snapshot.interfaces = interfaces;
    }
    let unfit = fields.take_misfits(misfits);
    let miscased = miscased.told();
    // A key that is missing may be there in another case.
    let read = fields.finish(snapshot).map_err(|mut reasons| {
        reasons.extend(miscased.iter().map(|told| Reason::new(format!("{}: {}", told.subject, told.message))));
        reasons
    })?;
    let mut draft = Draft { unfit, ..read.into() };
    let unfit: HashSet<usize> = draft.unfit.iter().map(|(row, _)| *row).collect();
    draft.retain(|row| !unfit.contains(&row));
    let mut diagnostics: Vec<Diagnostic> = newer(draft.snapshot.version).into_iter().collect();
    diagnostics.extend(miscased);
    diagnostics.extend(exclusions::told(&excluded));
    let explained = config::explain(top, &draft.snapshot, &excluded);
    diagnostics.extend(explained.diagnostics);
    Ok(Draft { origins: explained.origins, diagnostics, ..draft })
}

/// Warns of a version that came after what is known.
fn newer(version: u32) -> Option<Diagnostic> {
    (version > KNOWN_VERSION).then(|| Diagnostic {
        severity: Severity::Warning,
        subject: "version".to_owned(),
        message: format!(
            "{version} is newer than {KNOWN_VERSION}, the newest that is known; nothing that spanwire reads has changed so far"
        ),
    })
}

/// Reads a bare JSON list shaped as a snapshot's `interfaces`.
///
/// # Errors
/// As [`parse`], with paths from `interfaces[0]` on.
pub fn parse_interfaces(bytes: &[u8]) -> Result<Vec<Interface>, Vec<Reason>> {
    parse_links(bytes).map(|links| links.into_iter().map(|link| link.interface).collect())
}

/// Reads the same list with what it may tell beside: `up` (a boolean), `speed` (Mbit/s), `stuck_offload` (a string)
/// and `altnames` (a list of strings).
///
/// # Errors
/// As [`parse_interfaces`].
pub fn parse_links(bytes: &[u8]) -> Result<Vec<Link>, Vec<Reason>> {
    let mut listed = Entries::new("interfaces", MAX_LISTED, Fields::link);
    let mut sink = |_, entry| listed.take(entry);
    let (document, _) = syntax::read(bytes, &INTERFACES, &mut sink).map_err(|reason| vec![reason])?;
    if !document.is_array() {
        return Err(vec![wrong(&Path::Top, &document, "a list of interfaces")]);
    }
    let mut fields = Fields::default();
    let links = fields.entries(listed);
    fields.finish(links)
}
