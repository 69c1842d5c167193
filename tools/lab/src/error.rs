//! The one error type of the lab.

use std::io;
use std::time::Duration;

/// What went wrong, with what an operator needs to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A program could not be started at all.
    #[error("cannot run `{command}`: {source}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// A program ran and refused.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status, as text.
        status: String,
        /// What it printed on standard error, trimmed.
        stderr: String,
    },
    /// A namespace could not be opened or entered.
    #[error("network namespace {name}: {source}")]
    Namespace {
        /// The namespace's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The requested lab makes no sense.
    #[error("lab specification: {0}")]
    Spec(String),
    /// There is no lab of this name, or it is only partly there.
    #[error("lab {id}: {reason}")]
    NoLab {
        /// The lab's id.
        id: String,
        /// What is missing.
        reason: String,
    },
    /// A tool's output was not what its JSON mode promises.
    #[error("unreadable output of `{command}`: {source}")]
    Parse {
        /// The command line.
        command: String,
        /// Where the parse stopped.
        source: serde_json::Error,
    },
    /// A condition did not come true in time.
    #[error("gave up after {after:?} waiting for {what}")]
    Timeout {
        /// The condition, in words.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Sending or receiving raw frames failed.
    #[error("{action} on ifindex {ifindex} failed: {source}")]
    Wire {
        /// `open`, `send`, `receive`, or what these take.
        action: &'static str,
        /// The interface, as its namespace numbers it.
        ifindex: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Standard input could not be read.
    #[error("cannot read standard input: {0}")]
    Stdin(io::Error),
    /// What was to be checked is something else.
    #[error("not the document of `spanctl --json stats`: {0}")]
    Stats(String),
    /// A thread of the lab ended without handing back its result.
    #[error("the {0} thread died")]
    Thread(&'static str),
}

/// The lab's result type.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
