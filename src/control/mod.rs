//! The control plane: from what an operator or a producer wrote to a snapshot that may be published.
//!
//! In the order the data flows:
//!
//! - [`model`]: what a snapshot is, plain data; [`link`]: the devices there are.
//! - [`diagnostic`]: [`Reason`] and [`Diagnostic`], the two ways to say that something is wrong; [`quote`]: foreign text
//!   in them.
//! - [`source`]: which format a document has, and from it to a [`Draft`].
//! - `text`: a document behind its byte-order mark.
//! - [`json`]: snapshot documents to [`Snapshot`] and back; every problem of a document is reported.
//! - [`junos`]: Junos configuration text to a tree and back; [`builder`]: the tree and the interfaces there are to a
//!   [`Draft`].
//! - `unsupported`: what of a Junos configuration asks for mirroring and has no effect.
//! - [`instances`]: port-mirroring instances to mirror entries, for both.
//! - `naming`: what a name means, among the interfaces of a document and the devices there are.
//! - `labels`: what messages call the entries and the interfaces of a snapshot.
//! - `located`: which of the devices there are is which port of a snapshot; `devices`: what is known of these.
//! - [`wires`]: the `--wire A:B` arguments, for snapshots that name no wires themselves.
//! - [`units`]: which port and which of its frames an ifindex of a snapshot means.
//! - [`draft`]: a snapshot that is not admitted yet, and what is known of it beside.
//! - [`admission`]: the rules between entries; decides whether a snapshot may be published at all.
//! - [`remarks`]: what of a snapshot lies idle or may not keep up on the devices there are.
//! - `condense`: remarks of one kind, told once.
//! - [`compile`]: an admitted snapshot to the image the dataplane reads, and back.
//! - [`writer`]: the image into `config.shm`, if the running dataplane can do what it asks.
//! - [`history`]: the images published last, to go back to.
//! - [`state`]: what is published and what the dataplane says of it, for operators.
//! - [`role`]: whether this node mirrors, changed and seen through to the shards.
//! - [`serve`]: all of this for a producer, over a socket.
//!
//! Only [`writer`] and what comes after it do I/O, and nothing under `shard/` imports any of it.

pub mod admission;
pub mod builder;
pub mod compile;
mod condense;
mod devices;
pub mod diagnostic;
pub mod draft;
pub mod history;
pub mod instances;
pub mod json;
pub mod junos;
mod labels;
pub mod link;
mod located;
pub mod model;
mod naming;
pub mod quote;
pub mod remarks;
pub mod role;
pub mod serve;
pub mod source;
pub mod state;
mod text;
pub mod units;
mod unsupported;
pub mod wires;
pub mod writer;

pub use admission::{Admission, InactiveReason, StaticState, admit};
pub use diagnostic::{Diagnostic, Reason, Severity};
pub use draft::{Draft, OnAmbiguous};
pub use link::{Link, Links};
pub use model::{Interface, Mirror, Snapshot, Wire};
pub use units::Units;
