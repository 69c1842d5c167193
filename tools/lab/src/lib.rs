//! A wire on one machine: network namespaces, veth pairs, deterministic traffic and byte-for-byte verification.
//!
//! ```text
//!    gen                     dut                      sink
//!   ┌──────┐   veth   ┌─────────────────┐   veth   ┌──────┐
//!   │  g0  ├──────────┤ w0a  (DUT)  w0b ├──────────┤  s0  │
//!   └──────┘          │       mon0      │          └──────┘
//!                     └────────┬────────┘
//!                              │ veth
//!                          ┌───┴──┐
//!                          │  m0  │  mon
//!                          └──────┘
//! ```
//!
//! The modules, in the order an experiment uses them:
//!
//! - [`netns`]: create, enter and delete network namespaces;
//! - [`topology`]: lay the lab above, with the ifindexes the fixtures name;
//! - [`wire_io`]: raw frames in and out of one interface;
//! - [`frame`]: frames from a seed, each recognisable wherever it turns up by its [`tag`];
//! - [`traffic`]: a paced sender, a capture that knows its own losses;
//! - [`verify`]: what was sent against what arrived, byte for byte and in order;
//! - [`clones`]: of a direction, which are right;
//! - [`steady`]: numbered frames for as long as they are wanted, checked as they arrive;
//! - [`exchange`]: both directions at once, and the clones on the monitor;
//! - [`ledger`]: whether the dataplane's own counters add up.
//!
//! Everything that touches the network needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN; the frame factory and
//! the verifiers need nothing.

#![forbid(unsafe_code)]

pub mod clones;
pub mod error;
pub mod exchange;
pub mod frame;
mod layout;
pub mod ledger;
mod links;
pub mod netns;
mod processor;
pub mod steady;
pub mod tag;
pub mod topology;
pub mod traffic;
pub mod verify;
pub mod wire_io;

pub use error::{LabError, Result};
