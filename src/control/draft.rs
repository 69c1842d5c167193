//! A snapshot as it was read or built, with what is known of it that is not published.
//!
//! ```text
//! JSON ── json::parse_draft ──┐
//!                             ├──> Draft ── admit ──> Admission
//! Junos ── builder::build ────┘              Links ──┘
//! ```

use std::collections::HashMap;
use std::mem::take;

use clap::ValueEnum;

use super::admission::{Admission, judge, left_out};
use super::condense::bounded;
use super::diagnostic::{Diagnostic, Reason, Severity};
use super::labels::Places;
use super::link::Links;
use super::model::{Mirror, Origin, Snapshot, linux_form};

/// What to do where only the mirror table is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnAmbiguous {
    /// Publish nothing
    #[default]
    Reject,
    /// Publish without any mirror entry, with the reasons as warnings
    Omit,
    /// Publish without the entries at fault, with the reasons as warnings
    Skip,
}

/// A snapshot to be admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where each mirror entry comes from, as far as that is known; may be shorter than the table.
    pub origins: Vec<Option<Origin>>,
    /// The place of each mirror entry in the table of the source; empty where that is its place in the snapshot.
    pub rows: Vec<usize>,
    /// What of the source is not in the snapshot, and why.
    pub diagnostics: Vec<Diagnostic>,
    /// Entries of the source's table that are not in the snapshot, as a number of theirs is out of range: the place of
    /// each there, and why. A document that has one is as broken as one with a fault, unless it is left out by itself.
    pub unfit: Vec<(usize, Reason)>,
    /// Why the mirror table must not be used as it is.
    pub table_faults: Vec<TableFault>,
    /// Why none of it must be used.
    pub faults: Vec<Reason>,
}

/// Why a mirror table must not be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    /// Which entries it is about.
    pub of: EntriesOf,
    /// What is wrong.
    pub reason: Reason,
}

/// Some entries of a mirror table, by where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntriesOf {
    /// Those of the instance of this name.
    Instance(String),
    /// Those whose ingress or output is written with this name, in its Linux form.
    Interface(String),
}

/// Mirror entries, with what is known of each, and what is wrong with them.
type Table = (Vec<Mirror>, Vec<Option<Origin>>, Vec<usize>, Vec<TableFault>);

impl From<Snapshot> for Draft {
    fn from(snapshot: Snapshot) -> Self {
        Self { snapshot, ..Self::default() }
    }
}

impl Draft {
    /// Judges the whole draft; never stops at the first problem. With `links`, also says what of it lies idle or
    /// may not keep up on the devices there are.
    #[must_use]
    pub fn admit(&self, links: Option<&Links>) -> Admission {
        let mut admission = judge(&self.snapshot, self.places(), links).condensed();
        let unfit = self.unfit.iter().map(|(_, reason)| reason);
        let of_table = self.table_faults.iter().map(|fault| &fault.reason);
        let faults = self.faults.iter().chain(unfit).chain(of_table).cloned();
        admission.reasons.splice(0..0, faults);
        admission.diagnostics.splice(0..0, bounded(self.diagnostics.clone()));
        admission
    }

    /// As [`admit`](Self::admit), for a dataplane that `gate` speaks for, and does what is to be done where it is refused
    /// for the mirror table alone, by the rules or by that dataplane: what `gate` lets pass without a table is carried
    /// past it so, unless nothing is to be left out.
    #[must_use]
    pub fn admit_or(
        &mut self,
        on_ambiguous: OnAmbiguous,
        links: Option<&Links>,
        gate: impl Fn(&Snapshot) -> Result<(), Reason>,
    ) -> Admission {
        let mut admission = match on_ambiguous {
            OnAmbiguous::Reject => self.admit(links),
            OnAmbiguous::Omit => self.admit_or_omit(links),
            OnAmbiguous::Skip => self.admit_or_skip(links),
        };
        if let Err(reason) = gate(&self.snapshot) {
            let table = self.take_table();
            if admission.accepted() && on_ambiguous != OnAmbiguous::Reject && gate(&self.snapshot).is_ok() {
                admission = self.admit(links);
                admission.diagnostics.push(omitted(&reason));
            } else {
                self.put_table(table);
                admission.reasons.push(reason);
            }
        }
        admission
    }

    /// As [`admit`](Self::admit), but where it is refused for the mirror table alone, the table is emptied and each
    /// reason against it becomes a warning to publish. Fail-closed: nothing is mirrored rather than half of what
    /// was meant.
    ///
    /// A draft that is refused without its table too is left as it was, and so are the reasons.
    #[must_use]
    pub fn admit_or_omit(&mut self, links: Option<&Links>) -> Admission {
        let refused = self.admit(links);
        if refused.accepted() {
            return refused;
        }
        let table = self.take_table();
        let mut without = self.admit(links);
        if !without.accepted() {
            self.put_table(table);
            return refused;
        }
        without.diagnostics.extend(bounded(refused.reasons.iter().map(omitted).collect()));
        without
    }

    /// As [`admit`](Self::admit), but where it is refused for entries of the mirror table alone, these are left out,
    /// each with the reason as a warning to publish; the others stay, in their order. Of the entries of one ingress the
    /// first stays; of a mirror chain as many as can.
    ///
    /// A draft that is refused without its table too is left as it was, and so are the reasons.
    #[must_use]
    pub fn admit_or_skip(&mut self, links: Option<&Links>) -> Admission {
        let refused = self.admit(links);
        if refused.accepted() || !self.admitted_without_table(links) {
            return refused;
        }
        let barred = self.barred();
        let out = left_out(&self.snapshot, self.places(), barred, links);
        let mut told: Vec<(usize, Diagnostic)> = Vec::new();
        for (row, why) in take(&mut self.unfit) {
            told.push((row, skipped(format!("mirror_configs[{row}]"), why.as_str())));
        }
        let places = self.places();
        for (i, why) in out.iter().enumerate() {
            told.extend(why.iter().map(|why| (places.row(i), skipped(places.entry(i), why))));
        }
        told.sort_by_key(|(row, _)| *row);
        self.diagnostics.extend(told.into_iter().map(|(_, told)| told));
        self.retain(|i| out.get(i).is_none_or(Option::is_none));
        self.admit(links)
    }

    fn take_table(&mut self) -> Table {
        (take(&mut self.snapshot.mirrors), take(&mut self.origins), take(&mut self.rows), take(&mut self.table_faults))
    }

    fn put_table(&mut self, table: Table) {
        (self.snapshot.mirrors, self.origins, self.rows, self.table_faults) = table;
    }

    fn places(&self) -> Places<'_> {
        Places { origins: &self.origins, rows: &self.rows }
    }

    fn admitted_without_table(&mut self, links: Option<&Links>) -> bool {
        let mirrors = take(&mut self.snapshot.mirrors);
        let admitted = self.faults.is_empty() && judge(&self.snapshot, Places::default(), links).accepted();
        self.snapshot.mirrors = mirrors;
        admitted
    }

    /// Takes the faults of the table: for each entry the first that is about it. Those that are first for none become
    /// warnings of their own.
    fn barred(&mut self) -> Vec<Option<String>> {
        let mut first: HashMap<&EntriesOf, usize> = HashMap::new();
        for (at, fault) in self.table_faults.iter().enumerate() {
            first.entry(&fault.of).or_insert(at);
        }
        let mut told = vec![false; self.table_faults.len()];
        let mut barred = Vec::with_capacity(self.origins.len());
        for origin in &self.origins {
            let at = origin.as_ref().filter(|_| !first.is_empty()).and_then(|origin| {
                let linux = |name: &str| linux_form(name).unwrap_or_else(|| name.to_owned());
                let interfaces = [&origin.ingress, &origin.output].map(|of| EntriesOf::Interface(linux(&of.name)));
                let instance = EntriesOf::Instance(origin.instance.clone());
                interfaces.iter().chain([&instance]).filter_map(|of| first.get(of)).min().copied()
            });
            barred.push(at.map(|at| {
                told[at] = true;
                self.table_faults[at].reason.to_string()
            }));
        }
        for (fault, told) in take(&mut self.table_faults).into_iter().zip(told) {
            if !told {
                self.diagnostics.push(warning("mirror_configs".to_owned(), fault.reason.to_string()));
            }
        }
        barred
    }

    /// Keeps the mirror entries at these places of the snapshot. They keep their places in the table of the source.
    pub(super) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let n = self.snapshot.mirrors.len();
        if (0..n).all(&keep) {
            return;
        }
        if self.rows.is_empty() {
            self.rows = (0..n).collect();
        }
        kept(&mut self.rows, &keep);
        kept(&mut self.origins, &keep);
        kept(&mut self.snapshot.mirrors, &keep);
    }
}

fn kept<T>(list: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut places = 0..;
    list.retain(|_| places.next().is_some_and(&keep));
}

fn warning(subject: String, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, subject, message }
}

fn skipped(subject: String, why: &str) -> Diagnostic {
    warning(subject, format!("left out: {why}"))
}

fn omitted(reason: &Reason) -> Diagnostic {
    warning("mirror_configs".to_owned(), format!("the mirror table is left out: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admit;
    use crate::control::model::Wire;

    fn wired(mirrors: &[(u32, u32)], wires: &[(u32, u32)]) -> Snapshot {
        let mirror = |&(ingress_ifindex, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate: 7 };
        let wire =
            |&(a_ifindex, b_ifindex)| Wire { name: format!("{a_ifindex}"), a_ifindex, b_ifindex, ..Wire::default() };
        Snapshot {
            mirrors: mirrors.iter().map(mirror).collect(),
            wires: wires.iter().map(wire).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn only_a_refused_table_is_omitted() {
        let good = wired(&[(11, 22)], &[(11, 12)]);
        let mut draft = Draft::from(good.clone());
        assert_eq!(draft.admit_or_omit(None), admit(&good));
        assert_eq!(draft.snapshot, good);

        let twice = wired(&[(11, 22), (11, 23), (14, 14)], &[(11, 12)]);
        let reasons = admit(&twice).reasons;
        let mut draft = Draft::from(twice);
        let admission = draft.admit_or_omit(None);
        assert!(admission.accepted() && draft.snapshot.mirrors.is_empty() && draft.snapshot.wires.len() == 1);
        assert_eq!(reasons.len(), 2);
        assert_eq!(admission.diagnostics.len(), reasons.len());
        for (diagnostic, reason) in admission.diagnostics.iter().zip(&reasons) {
            assert!(diagnostic.message.contains(reason.as_str()), "{diagnostic}");
        }

        let bad_wire = wired(&[(11, 22), (11, 23)], &[(11, 12), (12, 13)]);
        let mut draft = Draft::from(bad_wire.clone());
        assert_eq!(draft.admit_or_omit(None), admit(&bad_wire), "the wires are refused: so is all of it");
        assert_eq!(draft.snapshot, bad_wire);
    }
}
