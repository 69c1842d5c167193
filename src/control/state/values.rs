//! Rows of counters, by the names of [`shm_layout::counters`].

use std::sync::Arc;

use serde::{Serialize, Serializer};
use shm_layout::counters::{Description, Entry};

use super::newer::{Extra, Tail};

/// A row of values with the names they go by: those of this release, then those that a newer dataplane adds.
/// Serialises as an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    known: &'static [Description],
    extras: Arc<[Extra]>,
    values: Vec<u64>,
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning<'a> {
    /// The name used in JSON and tables.
    pub name: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

impl Values {
    pub(in crate::control) fn new(known: &'static [Description], values: &[u64]) -> Values {
        Values { known, extras: Arc::default(), values: values.to_vec() }
    }

    /// The row with what a newer dataplane appends.
    pub(super) fn with(mut self, tail: Tail<'_>) -> Values {
        if let Some((extras, values)) = tail {
            self.extras = Arc::clone(extras);
            self.values.extend(values);
        }
        self
    }

    /// A row of zeroes.
    pub(super) fn zero(known: &'static [Description]) -> Values {
        Values::new(known, &vec![0; known.len()])
    }

    /// Adds another row of the same kind.
    pub(in crate::control) fn add(&mut self, row: &Values) {
        if self.values.len() < row.values.len() {
            self.extras = Arc::clone(&row.extras);
            self.values.resize(row.values.len(), 0);
        }
        for (sum, value) in self.values.iter_mut().zip(&row.values) {
            *sum = sum.wrapping_add(*value);
        }
    }

    /// The value of this name; 0 where the row has none.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.iter().find(|(description, _)| description.name == name).map_or(0, |(_, value)| value)
    }

    /// A row of zeroes for the ledger of a mirror entry.
    pub(in crate::control) fn no_entry() -> Values {
        Values::zero(Entry::DESCRIPTIONS)
    }

    /// The first values, in the order of the row.
    pub(super) fn first<const N: usize>(&self) -> Option<&[u64; N]> {
        self.values.first_chunk()
    }

    /// What each value means, and the value, in the order of the row.
    pub fn iter(&self) -> impl Iterator<Item = (Meaning<'_>, u64)> {
        let known = self.known.iter().map(|d| Meaning { name: d.name, unit: d.unit });
        let extras = self.extras.iter().map(|e| Meaning { name: &e.name, unit: &e.unit });
        known.chain(extras).zip(self.values.iter().copied())
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(description, value)| (description.name, value)))
    }
}
