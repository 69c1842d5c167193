//! The control plane: from what an operator or a producer wrote to a snapshot that may be published.
//!
//! In the order the data flows:
//!
//! - [`model`]: what a snapshot is, plain data; also [`Reason`] and [`Diagnostic`], the two ways to say
//!   that something is wrong.
//! - [`json`]: snapshot documents to [`Snapshot`] and back; every problem of a document is reported.
//! - [`wires`]: the `--wire A:B` arguments, for snapshots that name no wires themselves.
//! - [`admission`]: the rules between entries; decides whether a snapshot may be published at all.
//!
//! Nothing here does I/O, and nothing under `shard/` imports it.

pub mod admission;
pub mod json;
pub mod model;
pub mod wires;

pub use admission::{Admission, InactiveReason, StaticState, admit};
pub use model::{Diagnostic, Interface, Mirror, Reason, Severity, Snapshot, Wire};
