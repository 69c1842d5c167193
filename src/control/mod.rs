//! The control plane: from what an operator or a producer wrote to a snapshot that may be published.
//!
//! In the order the data flows:
//!
//! - [`model`]: what a snapshot is, plain data; also [`Reason`] and [`Diagnostic`], the two ways to say
//!   that something is wrong.
//! - [`json`]: snapshot documents to [`Snapshot`] and back; every problem of a document is reported.
//! - [`wires`]: the `--wire A:B` arguments, for snapshots that name no wires themselves.
//! - [`admission`]: the rules between entries; decides whether a snapshot may be published at all.
//! - [`compile`]: an admitted snapshot to the image the dataplane reads, and back.
//! - [`sizing`]: the mirror frames it can need, and whether a dataplane has them.
//! - [`writer`]: the image into `config.shm`, if the running dataplane can do what it asks.
//! - [`history`]: the images published last, to go back to.
//! - [`state`]: what is published and what the dataplane says of it, for operators.
//!
//! Only [`writer`], [`history`] and [`state`] do I/O, and nothing under `shard/` imports any of it.

pub mod admission;
pub mod compile;
pub mod history;
pub mod json;
pub mod model;
pub mod sizing;
pub mod state;
pub mod wires;
pub mod writer;

pub use admission::{Admission, InactiveReason, StaticState, admit};
pub use model::{Diagnostic, Interface, Mirror, Reason, Severity, Snapshot, Wire};
