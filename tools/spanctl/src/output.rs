//! Standard output and exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use spanwire::control::Reason;
use spanwire::control::serve::ServeError;
use spanwire::control::state::StateError;
use spanwire::region::RegionError;
use spanwire::usage;

/// What helps where a region is damaged.
const REPAIR: &str = "spanctl import replaces config.shm and spanwired its stats.shm";

/// How a command ends when it is not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked is refused, for these reasons.
    Refused(Vec<Reason>),
    /// It could not be tried.
    Error(String),
    /// Whoever read standard output has seen enough.
    Closed,
}

impl Failure {
    /// Says so on standard error, one reason a line, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Refused(reasons) => {
                reasons.iter().for_each(complain);
                ExitCode::from(1)
            }
            Failure::Error(text) => {
                complain(text);
                ExitCode::from(2)
            }
            Failure::Closed => ExitCode::SUCCESS,
        }
    }
}

/// An error while writing standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Error(format!("cannot write to standard output: {error}")),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        match error {
            StateError::Region(error) => error.into(),
            StateError::Layout { .. } => Failure::Error(format!("{error} ({REPAIR})")),
            // It says so itself.
            StateError::Nothing { .. } => Failure::Error(error.to_string()),
        }
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        let next = match &error {
            RegionError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as the user that spanwired runs as, or as root"
            }
            RegionError::Layout { .. } | RegionError::Read { .. } => REPAIR,
            RegionError::Missing { .. } => {
                "spanctl import publishes a snapshot, spanctl history lists the earlier ones"
            }
            RegionError::Type { .. } | RegionError::Owner { .. } | RegionError::Mode { .. } => {
                "put it right, or choose another directory with --dir"
            }
            RegionError::Locked { .. } => "try again when it has ended",
            RegionError::Io { .. } | RegionError::Publish { .. } => return Failure::Error(error.to_string()),
        };
        Failure::Error(format!("{error} ({next})"))
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        Failure::Error(error.to_string())
    }
}

/// One line on standard error. Where that is closed too, nobody is left to tell.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "spanctl: {}", usage::line(&text.to_string()));
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether documents are wanted instead of text.
    pub json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    /// Writes text as it is.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        Ok(io::stdout().write_all(text.as_bytes())?)
    }

    /// Writes text for people. Its colours get through only on a terminal, and not where `NO_COLOR` is set.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        Ok(anstream::stdout().write_all(text.as_bytes())?)
    }

    /// Writes a document for a program that may be read by people too.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        self.finish(serde_json::to_string_pretty(document))
    }

    /// Writes a document on one line.
    pub(crate) fn line(&self, document: &impl Serialize) -> Result<(), Failure> {
        self.finish(serde_json::to_string(document))
    }

    fn finish(&self, text: serde_json::Result<String>) -> Result<(), Failure> {
        let mut text = text.map_err(|e| Failure::Error(format!("cannot write the document: {e}")))?;
        text.push('\n');
        self.raw(&text)
    }

    /// Writes out what is buffered: an error that appears only then must not be lost.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        Ok(io::stdout().flush()?)
    }

    /// Whether people look at it directly.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}
