//! Why the bench stopped.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What went wrong, and with what.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    /// The lab could not be laid, or a command in it failed.
    #[error(transparent)]
    Lab(#[from] spanwire_lab::LabError),
    /// An AF_XDP socket could not be made.
    #[error(transparent)]
    Socket(#[from] spanwire::xsk::socket::SocketError),
    /// An XDP program could not be attached.
    #[error(transparent)]
    Link(#[from] spanwire::kernel::xdp::LinkError),
    /// A BPF object did what it should not.
    #[error("BPF, {what}: {source:#}{log}")]
    Bpf {
        /// What was done.
        what: String,
        /// What libbpf said.
        source: libbpf_rs::Error,
        /// What it printed, from a new line on.
        log: String,
    },
    /// The snapshot could not be published.
    #[error("cannot configure spanwired: {0}")]
    Configure(String),
    /// A system under test could not be started.
    #[error("{system}: {reason}")]
    System {
        /// Its name.
        system: &'static str,
        /// Why, with the end of its log.
        reason: String,
    },
    /// No frame crosses, or none is copied.
    #[error(
        "{system}: of {offered} frames {received} crossed and {monitored} came to the monitor, after {after:?}{log}"
    )]
    NotReady {
        /// Its name.
        system: &'static str,
        /// Frames of the last attempt.
        offered: u64,
        /// Of them, those that arrived.
        received: u64,
        /// Copies at the monitor.
        monitored: u64,
        /// Time waited.
        after: Duration,
        /// The end of its log.
        log: String,
    },
    /// Files.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A wrong processor.
    #[error("{option} {cpu}: this process may not run there (allowed: {allowed:?})")]
    Cpu {
        /// The option.
        option: &'static str,
        /// Its value.
        cpu: usize,
        /// What is allowed.
        allowed: Vec<usize>,
    },
    /// The histogram refused its bounds.
    #[error("histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// A thread died.
    #[error("the {0} thread died")]
    Thread(&'static str),
}

impl WireError {
    /// A BPF error without libbpf's own words.
    pub(crate) fn bpf(what: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> WireError {
        let what = what.into();
        |source| WireError::Bpf { what, source, log: String::new() }
    }

    /// An I/O error.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> WireError {
        let what = what.into();
        |source| WireError::Io { what, source }
    }
}

/// The bench's result type.
pub(crate) type Result<T, E = WireError> = std::result::Result<T, E>;
