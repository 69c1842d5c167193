//! `check` and `import`.

use std::path::Path;

use serde::Serialize;
use spanwire::control::compile::Source;
use spanwire::control::writer::{Receipt, WriteError, publish, remark};
use spanwire::control::{Diagnostic, Reason};

use crate::args::{CheckArgs, ImportArgs, OnAmbiguous};
use crate::document::{Judged, Report, judge, read, refuse};
use crate::output::{Failure, Output, complain};

/// [`Report`] with the generation, null where nothing was published.
#[derive(Serialize)]
struct ImportReport<'a> {
    generation: Option<u64>,
    #[serde(flatten)]
    report: Report<'a>,
}

/// Judges a document and publishes nothing.
pub(crate) fn check(dir: &Path, args: &CheckArgs, out: &Output) -> Result<(), Failure> {
    let stdin = Path::new("-");
    if args.file == stdin && args.interfaces.as_deref() == Some(stdin) {
        return Err(Failure::Error("FILE and --interfaces cannot both be standard input".to_owned()));
    }
    let document = read(&args.file)?;
    let interfaces = args.interfaces.as_deref().map(read).transpose()?;
    let judged = judge(&document, interfaces.as_deref(), &args.wires.wires, OnAmbiguous::Reject);
    let mut judged = judged.map_err(|reasons| {
        refuse(reasons, out, |reasons, out| {
            // The exit code says that it is refused, whether or not anybody reads the document.
            let _ = out.document(&Report::refused(reasons));
        })
    })?;
    judged.admission.diagnostics.extend(remark(dir, &judged.snapshot));
    if out.json {
        return out.document(&Report::accepted(&judged));
    }
    warn(&judged.admission.diagnostics);
    out.text(&format!("accepted: {}\n", counts(&judged)))
}

/// Judges a document and publishes it.
pub(crate) fn import(dir: &Path, args: &ImportArgs, out: &Output) -> Result<(), Failure> {
    let document = read(&args.file)?;
    let refuse = |reasons: Vec<Reason>| {
        refuse(reasons, out, |reasons, out| {
            // As in `check`.
            let _ = out.document(&ImportReport { generation: None, report: Report::refused(reasons) });
        })
    };
    let mut judged = judge(&document, None, &args.wires.wires, args.on_ambiguous).map_err(refuse)?;
    let digest = Source::of(&document).digest;
    let receipt = publish(dir, &judged.snapshot, &judged.admission, digest).map_err(|error| match error {
        WriteError::Refused(reason) => refuse(vec![reason]),
        WriteError::Region(error) => error.into(),
    })?;
    warn_unkept(&receipt);
    // Said, not published: `show` holds the snapshot against the dataplane of its own time.
    judged.admission.diagnostics.extend(remark(dir, &judged.snapshot));
    let generation = receipt.generation;
    if out.json {
        let report = Report::accepted(&judged);
        return out.document(&ImportReport { generation: Some(generation), report });
    }
    warn(&judged.admission.diagnostics);
    out.text(&format!("published generation {generation}: {}\n", counts(&judged)))
}

/// Says that what was published cannot be rolled back to.
pub(crate) fn warn_unkept(receipt: &Receipt) {
    if let Some(error) = &receipt.unkept {
        complain(format!("warning: generation {} is published but not in the history: {error}", receipt.generation));
    }
}

/// `M mirror entries, W wires`
pub(crate) fn counts(judged: &Judged) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    format!(
        "{}, {}",
        count(judged.snapshot.mirrors.len(), "mirror entry", "mirror entries"),
        count(judged.snapshot.wires.len(), "wire", "wires")
    )
}

/// The remarks, for people; a document has them in it.
pub(crate) fn warn(diagnostics: &[Diagnostic]) {
    diagnostics.iter().for_each(complain);
}
