//! Standard output and exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use spanwire::control::Reason;
use spanwire::control::state::StateError;
use spanwire::region::RegionError;

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
        Failure::Error(error.to_string())
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Error(error.to_string())
    }
}

/// One line on standard error. Where that is closed too, nobody is left to tell.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "spanctl: {text}");
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

    /// Writes text for people.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        self.raw(text)
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
        self.text(&text)
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
