//! What a producer says that it left out of its mirror table: told in its own words, which nothing here replaces.

use std::collections::HashSet;

use super::reasons::MAX_REASONS;
use super::syntax::Keep;
use crate::control::diagnostic::{Diagnostic, Severity};
use crate::control::instances::subject;
use crate::control::quote::quoted;
use crate::text::excerpt;

/// What is read of an exclusion.
pub(super) const KEPT: Keep =
    Keep::Keys(&[("instance", Keep::Scalar), ("input", Keep::Scalar), ("reason", Keep::Scalar)]);

/// The most characters of a reason that are repeated: a sentence with two names in it.
const MAX_WORDS: usize = 400;

/// One of `mirror_exclusions`.
#[derive(Debug)]
pub(super) struct Exclusion {
    /// The instance.
    pub instance: String,
    /// The ingress of it that is left out, as the instance writes it; `""` where all of the instance is.
    pub input: String,
    /// Why, in the producer's words.
    pub reason: String,
}

/// A warning for each, up to as many as there are reasons told of a document.
pub(super) fn told(exclusions: &[Exclusion]) -> Vec<Diagnostic> {
    let warning = |subject, message| Diagnostic { severity: Severity::Warning, subject, message };
    let mut told: Vec<Diagnostic> = exclusions
        .iter()
        .enumerate()
        .take(MAX_REASONS)
        .map(|(i, Exclusion { instance, input, reason })| {
            let subject = match instance.as_str() {
                "" => format!("mirror_exclusions[{i}]"),
                name => subject(name, None),
            };
            let what = if input.is_empty() { String::new() } else { format!("ingress {} ", quoted(input)) };
            let reason = if reason.is_empty() { "no reason is given" } else { reason };
            warning(subject, format!("{what}is left out by the producer: {}", excerpt(reason, MAX_WORDS)))
        })
        .collect();
    if exclusions.len() > MAX_REASONS {
        let more = exclusions.len() - MAX_REASONS;
        let message = format!("{more} more (only the first {MAX_REASONS} are told)");
        told.push(warning("mirror_exclusions".to_owned(), message));
    }
    told
}

/// What the exclusions explain.
pub(super) struct Excluded<'a>(HashSet<(&'a str, &'a str)>);

impl<'a> Excluded<'a> {
    pub(super) fn of(exclusions: &'a [Exclusion]) -> Self {
        Self(exclusions.iter().map(|one| (one.instance.as_str(), one.input.as_str())).collect())
    }

    /// Whether all of an instance is left out.
    pub(super) fn instance(&self, name: &str) -> bool {
        self.0.contains(&(name, ""))
    }

    /// Whether this ingress of an instance is left out.
    pub(super) fn ingress(&self, instance: &str, input: &str) -> bool {
        self.instance(instance) || self.0.contains(&(instance, input))
    }
}
