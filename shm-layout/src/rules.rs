//! What the records of a section have to hold, each by itself and between each other.

use crate::error::LayoutError;
use crate::record::Record;

/// Whether a value is there more than once. Sorts them.
pub(crate) fn has_twice<T: Ord>(values: &mut [T]) -> bool {
    values.sort_unstable();
    values.windows(2).any(|pair| pair[0] == pair[1])
}

/// Whether a record of a section, by its index there, holds; of the rules it breaks the first is told.
pub(crate) fn check<R: Record>(index: usize, _: &R, rules: &[(&'static str, bool)]) -> Result<(), LayoutError> {
    match rules.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(LayoutError::Record { kind: R::KIND, index, what }),
    }
}
