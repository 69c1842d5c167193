//! FILE and the options beside it to a snapshot that may be published, or the reasons why not.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use shm_layout::header::MAX_SLOT;
use spanwire::control::compile::admit_or_omit;
use spanwire::control::json;
use spanwire::control::wires::add_wires;
use spanwire::control::{Admission, Diagnostic, Mirror, Reason, Snapshot, Wire, admit};

use crate::args::OnAmbiguous;
use crate::output::{Failure, Output};

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

/// A snapshot that may be published.
#[derive(Debug)]
pub(crate) struct Judged {
    pub snapshot: Snapshot,
    pub admission: Admission,
}

/// Reads a snapshot document, completes it with the options, and judges it.
pub(crate) fn judge(
    document: &[u8],
    interfaces: Option<&[u8]>,
    wires: &[String],
    on_ambiguous: OnAmbiguous,
) -> Result<Judged, Vec<Reason>> {
    let mut snapshot = json::parse(document)?;
    if let Some(list) = interfaces {
        let refuse = |reason: &Reason| Reason::new(format!("--interfaces: {reason}"));
        snapshot.interfaces =
            json::parse_interfaces(list).map_err(|reasons| reasons.iter().map(refuse).collect::<Vec<_>>())?;
    }
    add_wires(&mut snapshot, wires)?;
    let admission = match on_ambiguous {
        OnAmbiguous::Reject => admit(&snapshot),
        OnAmbiguous::Omit => admit_or_omit(&mut snapshot),
    };
    if admission.accepted() { Ok(Judged { snapshot, admission }) } else { Err(admission.reasons) }
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

/// Ends a command whose input is refused, with `report` on standard output where documents are wanted.
pub(crate) fn refuse(reasons: Vec<Reason>, out: &Output, report: impl FnOnce(&[Reason], &Output)) -> Failure {
    if out.json {
        report(&reasons, out);
    }
    Failure::Refused(reasons)
}
