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
//! - [`frame`]: frames from a seed, each recognisable wherever it turns up;
//! - [`verify`]: what was sent against what arrived, byte for byte and in order;
//!
//! Everything that touches the network needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN; the frame factory and
//! the verifier need nothing.

#![forbid(unsafe_code)]

pub mod error;
pub mod frame;
pub mod verify;

pub use error::{LabError, Result};
