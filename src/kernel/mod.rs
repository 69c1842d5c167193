//! What runs in the kernel for a port, what holds it there, and what user space shares with it.
//!
//! ```text
//!   table ── policy ──> a bank ──┐ put in force at once
//!                                v
//!   a port's frames ──> selector (`bpf/selector.h`) ══ redirect ══> the wire's other port
//!                                ├── ledger: counted, by entry and processor
//!                                └── rings: a copy of what is selected ──> shard
//! ```
//!
//! - [`abi`]: the structures both sides know
//! - [`program`]: an instance of the selector for one port
//! - [`maps`]: what all instances share
//! - [`policy`]: a table as the selector reads it
//! - [`ledger`]: what it counts
//! - [`rings`]: the clones it hands up; [`reader`] is what who reads them does, [`writer`] the other end without a kernel
//! - [`loss`]: what the kernel loses of frames on their way, by its tracepoints
//! - `kept`: the maps that are pinned for the next run; [`past`]: what became of clones while none ran
//! - [`rows`]: array maps as memory
//! - [`hold`]: a selector on a port, over runs of the process; `holder` is what holds it, [`pins`] where it is kept meanwhile
//! - [`others`]: the selectors of other dataplanes
//! - [`link`]: what holds a program on a device; [`xdp`] of them those of XDP, for as long as a value lives
//! - [`clsact`]: what holds a selector at tc where the kernel has no links there; [`tcx`]: what is there where it has
//! - [`features`]: what the kernel and the drivers can; [`path`]: the way of a wire's frames that follows from it
//! - [`steer`]: the program of one port of the shard path, and the map from its receive queues to AF_XDP sockets

pub mod abi;
pub mod clsact;
pub mod features;
pub mod hold;
mod holder;
mod kept;
pub mod ledger;
pub mod link;
pub mod loss;
pub mod maps;
pub mod others;
pub mod past;
pub mod path;
pub mod pins;
pub mod policy;
pub mod program;
pub mod reader;
pub mod rings;
pub mod rows;
pub mod steer;
pub mod tcx;
pub mod writer;
pub mod xdp;
