//! The command as its users meet it: exit codes, messages, documents.
//!
//! A dataplane is played by the test process, which publishes the statistics one would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod history;
mod junos;
mod live;
mod manual;
mod publish;
mod refuse;
mod role;
mod stats;
mod support;
