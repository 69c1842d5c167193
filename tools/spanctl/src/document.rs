//! FILE and the options beside it to a snapshot that may be published, or the reasons why not.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use shm_layout::header::MAX_SLOT;
use spanwire::control::json;
use spanwire::control::source::{self, Format, Ports};
use spanwire::control::writer::gate;
use spanwire::control::{Admission, Diagnostic, Links, Mirror, OnAmbiguous, Reason, Snapshot, Wire};
use spanwire::links;

use crate::args::SourceArgs;
use crate::output::{Failure, Output, complain};

/// The largest input read, bytes: what cannot be published anyway must not fill the memory first.
const MAX_INPUT: u64 = MAX_SLOT as u64;

/// Reads a file, or standard input for `-`.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(MAX_INPUT + 1).read_to_end(&mut bytes))
    };
    match read {
        Err(e) => Err(Failure::Error(format!("cannot read {}: {e}", shown(file)))),
        Ok(n) if n as u64 > MAX_INPUT => {
            Err(Failure::Error(format!("{} has more than the {MAX_INPUT} bytes allowed", shown(file))))
        }
        Ok(_) => Ok(bytes),
    }
}

/// A file as messages call it.
pub(crate) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// A configuration and what it is read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub document: &'a [u8],
    /// The `--interfaces` list.
    pub interfaces: Option<&'a Path>,
    /// The `--wire` arguments.
    pub wires: &'a [String],
    pub on_ambiguous: OnAmbiguous,
}

impl<'a> Input<'a> {
    /// FILE of a command that takes `--interfaces` too, as it was read.
    pub(crate) fn of(args: &'a SourceArgs, document: &'a [u8], on_ambiguous: OnAmbiguous) -> Self {
        Input { document, interfaces: args.interfaces.as_deref(), wires: &args.wires.wires, on_ambiguous }
    }
}

/// Reads FILE of a command that takes `--interfaces` too.
pub(crate) fn read_source(args: &SourceArgs) -> Result<Vec<u8>, Failure> {
    let stdin = Path::new("-");
    if args.file == stdin && args.interfaces.as_deref() == Some(stdin) {
        return Err(Failure::Error("FILE and --interfaces cannot both be standard input".to_owned()));
    }
    read(&args.file)
}

/// A snapshot that may be published.
#[derive(Debug)]
pub(crate) struct Judged {
    pub snapshot: Snapshot,
    pub admission: Admission,
}

/// Reads a configuration of either format, completes it with the options, and judges it.
pub(crate) fn judge(dir: &Path, source: Input<'_>) -> Result<Judged, Failure> {
    let listed = source.interfaces.map(listed).transpose()?;
    let live = if listed.is_none() { live(dir, Format::of(source.document))? } else { None };
    let ports = match (&listed, &live) {
        (Some(links), _) => Ports::Listed(links),
        (None, Some(links)) => Ports::Live(links),
        (None, None) => Ports::Own,
    };
    let mut draft = source::read(source.document, ports, source.wires).map_err(Failure::Refused)?;
    let admission = draft.admit_or(source.on_ambiguous, ports.links(), |snapshot| gate(dir, snapshot));
    match admission.accepted() {
        true => Ok(Judged { snapshot: draft.snapshot, admission }),
        false => Err(Failure::Refused(admission.reasons)),
    }
}

/// The `--interfaces` list.
fn listed(file: &Path) -> Result<Links, Failure> {
    let refuse = |reason: &Reason| Reason::new(format!("--interfaces: {reason}"));
    let all = json::parse_links(&read(file)?);
    let all = all.map_err(|reasons| Failure::Refused(reasons.iter().map(refuse).collect()))?;
    Ok(Links { all, place: "in the list of --interfaces".to_owned() })
}

/// The devices of the live system. A snapshot can do without them.
pub(crate) fn live(dir: &Path, format: Format) -> Result<Option<Links>, Failure> {
    match (links::read(dir), format) {
        (Ok(links), _) => Ok(Some(links)),
        (Err(error), Format::Junos) => {
            Err(Failure::Error(format!("{error} (--interfaces FILE gives the interfaces instead)")))
        }
        (Err(error), Format::Snapshot) => {
            complain(format!("note: {error}; whether the ports are there is not checked"));
            Ok(None)
        }
    }
}

/// What was judged, as a document. The lists are what is, or would be, published: all empty where it is refused.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report<'a> {
    pub accepted: bool,
    pub mirrors: &'a [Mirror],
    pub wires: &'a [Wire],
    pub diagnostics: &'a [Diagnostic],
    pub reasons: &'a [Reason],
}

impl<'a> Report<'a> {
    pub(crate) fn accepted(judged: &'a Judged) -> Self {
        Report {
            accepted: true,
            mirrors: &judged.snapshot.mirrors,
            wires: &judged.snapshot.wires,
            diagnostics: &judged.admission.diagnostics,
            reasons: &[],
        }
    }

    pub(crate) fn refused(reasons: &'a [Reason]) -> Self {
        Report { reasons, ..Report::default() }
    }
}

/// Ends a command; one whose input is refused with `report` on standard output where documents are wanted.
pub(crate) fn ended(failure: Failure, out: &Output, report: impl FnOnce(&[Reason]) -> Result<(), Failure>) -> Failure {
    if let Failure::Refused(reasons) = &failure
        && out.json
    {
        // The exit code says that it is refused, whether or not anybody reads the document.
        let _ = report(reasons);
    }
    failure
}
