//! A configuration as the device that has it acts on it: groups applied, ranges of interfaces spelt out.

use super::tree::Node;
use super::{groups, ranges};
use crate::control::diagnostic::{Diagnostic, Reason};

/// A configuration without groups and ranges.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// The configuration.
    pub config: Node,
    /// Why it is not what was meant, and must not be used: groups that are not there, and the like.
    pub faults: Vec<Reason>,
    /// What of it has no effect.
    pub diagnostics: Vec<Diagnostic>,
}

/// Expands a configuration.
#[must_use]
pub fn expand(config: &Node) -> Expanded {
    let (mut faults, mut diagnostics) = (Vec::new(), Vec::new());
    let mut config = groups::applied(config, &mut faults);
    ranges::expand(&mut config, &mut diagnostics);
    Expanded { config, faults, diagnostics }
}
