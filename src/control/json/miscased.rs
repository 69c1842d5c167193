//! Keys that are known in another case only: as unknown as any other, but hardly meant so.

use crate::control::diagnostic::{Diagnostic, Severity};
use crate::control::quote::quoted;

/// Told of one document, those of one list and spelling as one.
const MOST: usize = 32;

/// The keys of this kind in a document.
#[derive(Debug, Default)]
pub(super) struct Miscased {
    /// The list that is being read, and the place in it.
    at: Option<(&'static str, usize)>,
    found: Vec<Found>,
    /// How many there are beyond those.
    more: usize,
}

#[derive(Debug)]
struct Found {
    at: Option<(&'static str, usize)>,
    key: String,
    meant: &'static str,
    /// How many more there are in the same list.
    more: usize,
}

impl Miscased {
    /// What follows is in this entry of a list, or in none.
    pub(super) fn enter(&mut self, at: Option<(&'static str, usize)>) {
        self.at = at;
    }

    /// Takes note of an unknown key, if it is one of `known` but for the case.
    pub(super) fn note(&mut self, key: &str, mut known: impl Iterator<Item = &'static str>) {
        let Some(meant) = known.find(|known| known.eq_ignore_ascii_case(key)) else { return };
        let list = |at: Option<(&'static str, usize)>| at.map(|(list, _)| list);
        let full = self.found.len() == MOST;
        match self.found.iter_mut().find(|found| found.key == key && list(found.at) == list(self.at)) {
            Some(found) => found.more += 1,
            None if full => self.more += 1,
            None => self.found.push(Found { at: self.at, key: key.to_owned(), meant, more: 0 }),
        }
    }

    /// A warning for each.
    pub(super) fn told(&self) -> Vec<Diagnostic> {
        let warning = |subject, message| Diagnostic { severity: Severity::Warning, subject, message };
        let one = |Found { at, key, meant, more }: &Found| {
            let subject = at.map_or("top level".to_owned(), |(list, i)| format!("{list}[{i}]"));
            let more = if *more > 0 { format!(", and {more} more in this list") } else { String::new() };
            let (key, meant) = (quoted(key), quoted(meant));
            warning(subject, format!("the key {key} is not known and has no effect (meant is {meant}?){more}"))
        };
        let rest =
            (self.more > 0).then(|| warning("keys".to_owned(), format!("and {} more in the wrong case", self.more)));
        self.found.iter().map(one).chain(rest).collect()
    }
}
