//! Port-mirroring instances and the interfaces there are to mirror entries.
//!
//! The rules are the Go control plane's, so that both give the same table for the same configuration: instances
//! in byte order of their names, the ingresses of each as written, one entry each. Left out with a warning: an
//! instance without output, an output or ingress that no interface answers to. What refuses the table, or the entries at
//! fault where those are left out: a negative rate where an entry comes of it; and, which
//! [`admission`](super::admission) finds, one ingress in two entries.

use super::diagnostic::{Diagnostic, Reason, Severity};
use super::draft::{EntriesOf, TableFault};
use super::model::{Interface, Mirror, NameIndex, Origin, Position, Written};
use super::quote::quoted;

/// One port-mirroring instance as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where it is written, if that is known.
    pub at: Option<Position>,
    /// 1 in how many frames.
    pub rate: Rate,
    /// The interfaces whose received frames are mirrored, as written.
    pub ingresses: Vec<Written>,
    /// The monitor port.
    pub output: Option<Written>,
}

/// The rate of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rate {
    /// A rate; 0 where none is given.
    Of(u32),
    /// A negative number, which refuses the table if the instance has an entry in it.
    Negative(Written),
    /// No rate at all, which refused the table already.
    Invalid,
}

impl Default for Rate {
    fn default() -> Self {
        Self::Of(0)
    }
}

/// What comes of a configuration's instances.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The mirror table, with where each entry comes from.
    pub entries: Vec<(Mirror, Origin)>,
    /// What is left out of it.
    pub skipped: Vec<Skipped>,
    /// Why it must not be used as it is.
    pub faults: Vec<TableFault>,
}

/// What has no entry in the table, and why.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// The instance.
    pub instance: String,
    /// Where it is written, if that is known.
    pub at: Option<Position>,
    /// Which ingress of it, as written; `None` where all of the instance has none.
    pub ingress: Option<Written>,
    why: String,
}

impl From<Skipped> for Diagnostic {
    fn from(skipped: Skipped) -> Self {
        let subject = subject(&skipped.instance, skipped.at);
        Self { severity: Severity::Warning, subject, message: skipped.why }
    }
}

/// Builds the mirror table of `instances`. Entries of an instance without a valid rate are in it too, so that
/// everything against them is found; such a table has `faults`, and those entries are never used.
#[must_use]
pub fn resolve(mut instances: Vec<Instance>, interfaces: &[Interface]) -> Resolved {
    instances.sort_by(|a, b| a.name.cmp(&b.name));
    let names = NameIndex::of(interfaces);
    let mut resolved = Resolved::default();
    for instance in instances {
        resolved.instance(&instance, &names);
    }
    resolved
}

impl Resolved {
    fn instance(&mut self, instance: &Instance, names: &NameIndex<'_>) {
        let subject = subject(&instance.name, instance.at);
        let mut skip = |ingress: Option<Written>, why: String| {
            let Instance { name, at, .. } = instance;
            self.skipped.push(Skipped { instance: name.clone(), at: *at, ingress, why });
        };
        if instance.ingresses.is_empty() {
            skip(None, "has no ingress interface, so it mirrors nothing".to_owned());
        }
        let Some(output) = &instance.output else {
            return skip(None, "has no output interface, so it is left out".to_owned());
        };
        let Some(output_ifindex) = names.find(&output.name).map(|found| found.ifindex) else {
            return skip(None, format!("no interface is called {output}, its output, so it is left out"));
        };
        // Such an entry is never used; should that ever fail, this rate mirrors the least.
        let rate = if let Rate::Of(rate) = instance.rate { rate } else { u32::MAX };
        let before = self.entries.len();
        for ingress in &instance.ingresses {
            let Some(found) = names.find(&ingress.name) else {
                let why = format!("no interface is called {ingress}, an ingress of it, which is left out");
                skip(Some(ingress.clone()), why);
                continue;
            };
            let mirror = Mirror { ingress_ifindex: found.ifindex, output_ifindex, rate };
            let origin = Origin { instance: instance.name.clone(), ingress: ingress.clone(), output: output.clone() };
            self.entries.push((mirror, origin));
        }
        if let Rate::Negative(rate) = &instance.rate
            && self.entries.len() > before
        {
            let reason = Reason::new(format!("{subject}: rate {rate} is negative ({RATE_ALLOWED})"));
            self.faults.push(TableFault { of: EntriesOf::Instance(instance.name.clone()), reason });
        }
    }
}

/// What a rate may be.
pub(super) const RATE_ALLOWED: &str = "allowed: an integer in 0..=4294967295";

/// An instance as messages call it.
pub(super) fn subject(name: &str, at: Option<Position>) -> String {
    let at = at.map(|at| format!(" ({at})")).unwrap_or_default();
    format!("instance {}{at}", quoted(name))
}
