//! From the config region to the table a shard looks things up in.
//!
//! - [`adopter`]: follows the region, validates, builds, swaps, and frees what nobody uses any more
//! - [`slots`]: which ledger slot each mirror entry has, over all generations
//! - [`table`]: the immutable table
//! - [`upstream`]: what selects frames before a shard sees them

pub mod adopter;
pub mod slots;
pub mod table;
pub mod upstream;
