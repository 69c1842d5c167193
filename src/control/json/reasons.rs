//! How many reasons are told of one document.

/// Reasons told of one document.
pub(crate) const MAX_REASONS: usize = 1000;
/// Told after so many where there are more.
pub(crate) const AND_MORE: &str = "… and more (only the first 1000 reasons are told)";
