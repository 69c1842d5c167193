//! A snapshot as it was read or built, with what is known of it that is not published.
//!
//! ```text
//! JSON ── json::parse_draft ──┐
//!                             ├──> Draft ── admit ──> Admission
//! Junos ── builder::build ────┘              Links ──┘
//! ```

use std::mem::take;

use super::admission::{Admission, judge};
use super::model::{Diagnostic, Links, Origin, Reason, Severity, Snapshot};

/// A snapshot to be admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where each mirror entry comes from, as far as that is known; may be shorter than the table.
    pub origins: Vec<Option<Origin>>,
    /// What of the source is not in the snapshot, and why.
    pub diagnostics: Vec<Diagnostic>,
    /// Why the mirror table must not be used.
    pub table_faults: Vec<Reason>,
    /// Why none of it must be used.
    pub faults: Vec<Reason>,
}

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
        let mut admission = judge(&self.snapshot, &self.origins, links);
        let faults = self.faults.iter().chain(&self.table_faults).cloned();
        admission.reasons.splice(0..0, faults);
        admission.diagnostics.splice(0..0, self.diagnostics.iter().cloned());
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
        let table = (take(&mut self.snapshot.mirrors), take(&mut self.origins), take(&mut self.table_faults));
        let mut without = self.admit(links);
        if !without.accepted() {
            (self.snapshot.mirrors, self.origins, self.table_faults) = table;
            return refused;
        }
        without.diagnostics.extend(refused.reasons.iter().map(omitted));
        without
    }
}

fn omitted(reason: &Reason) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        subject: "mirror_configs".to_owned(),
        message: format!("the mirror table is left out: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admit;
    use crate::control::model::{Mirror, Wire};

    fn wired(mirrors: &[(u32, u32)], wires: &[(u32, u32)]) -> Snapshot {
        let mirror = |&(ingress_ifindex, output_ifindex)| Mirror { ingress_ifindex, output_ifindex, rate: 7 };
        let wire = |&(a_ifindex, b_ifindex)| Wire { name: format!("{a_ifindex}"), a_ifindex, b_ifindex };
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
        for (diagnostic, reason) in admission.diagnostics.iter().zip(&reasons) {
            assert!(diagnostic.message.contains(reason.as_str()), "{diagnostic}");
        }

        let bad_wire = wired(&[(11, 22), (11, 23)], &[(11, 12), (12, 13)]);
        let mut draft = Draft::from(bad_wire.clone());
        assert_eq!(draft.admit_or_omit(None), admit(&bad_wire), "the wires are refused: so is all of it");
        assert_eq!(draft.snapshot, bad_wire);
    }
}
