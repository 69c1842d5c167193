//! `check`, `import` and `commit`.

use std::path::Path;

use serde::Serialize;
use spanwire::control::compile::Provenance;
use spanwire::control::json;
use spanwire::control::source::Format;
use spanwire::control::writer::{WriteError, publish, shortcomings};
use spanwire::control::{Diagnostic, OnAmbiguous, Reason};
use spanwire::region::RegionError;

use crate::args::{CheckArgs, CommitArgs, ImportArgs};
use crate::document::{Input, Judged, Report, ended, judge, read, read_source, shown};
use crate::output::{Failure, Output, complain};

/// [`Report`] with the generation, null where nothing was published.
#[derive(Serialize)]
struct PublishReport<'a> {
    generation: Option<u64>,
    #[serde(flatten)]
    report: Report<'a>,
}

/// Judges a configuration and publishes nothing.
pub(crate) fn check(dir: &Path, args: &CheckArgs, out: &Output) -> Result<(), Failure> {
    let document = read_source(&args.source)?;
    let source = Input::of(&args.source, &document, OnAmbiguous::Reject);
    let refused = |failure| ended(failure, out, |reasons| out.document(&Report::refused(reasons)));
    let mut judged = judge(dir, source).map_err(refused)?;
    judged.admission.diagnostics.extend(shortcomings(dir, &judged.snapshot));
    if out.json {
        return out.document(&Report::accepted(&judged));
    }
    warn(&judged.admission.diagnostics);
    out.text(&format!("accepted: {}\n", counts(&judged)))
}

/// Judges a snapshot and publishes it.
pub(crate) fn import(dir: &Path, args: &ImportArgs, out: &Output) -> Result<(), Failure> {
    let document = read(&args.file)?;
    if Format::of(&document) == Format::Junos {
        let mut reasons = json::parse(&document).err().unwrap_or_default();
        reasons.push(Reason::new(format!(
            "{} does not begin as a snapshot does (spanctl commit publishes a Junos configuration)",
            shown(&args.file)
        )));
        return Err(refused(Failure::Refused(reasons), out));
    }
    let (wires, on_ambiguous) = (args.wires.wires.as_slice(), args.policy.on_ambiguous);
    publish_source(dir, Input { document: &document, interfaces: None, wires, on_ambiguous }, out)
}

/// Judges a configuration of either format and publishes it.
pub(crate) fn commit(dir: &Path, args: &CommitArgs, out: &Output) -> Result<(), Failure> {
    let document = read_source(&args.source)?;
    publish_source(dir, Input::of(&args.source, &document, args.policy.on_ambiguous), out)
}

fn publish_source(dir: &Path, source: Input<'_>, out: &Output) -> Result<(), Failure> {
    let mut judged = judge(dir, source).map_err(|failure| refused(failure, out))?;
    let digest = Provenance::of(source.document).digest;
    let receipt = publish(dir, &judged.snapshot, &judged.admission, digest).map_err(|error| match error {
        WriteError::Refused(reason) => refused(Failure::Refused(vec![reason]), out),
        WriteError::Region(error) => error.into(),
    })?;
    warn_unkept(receipt.generation, receipt.unkept.as_ref());
    // Said, not published: `show` holds the snapshot against the dataplane of its own time.
    judged.admission.diagnostics.extend(shortcomings(dir, &judged.snapshot));
    let generation = receipt.generation;
    if out.json {
        let report = Report::accepted(&judged);
        return out.document(&PublishReport { generation: Some(generation), report });
    }
    warn(&judged.admission.diagnostics);
    out.text(&format!("published generation {generation}: {}\n", counts(&judged)))
}

/// Ends a command that publishes.
fn refused(failure: Failure, out: &Output) -> Failure {
    ended(failure, out, |reasons| out.document(&PublishReport { generation: None, report: Report::refused(reasons) }))
}

/// Says that what was published cannot be rolled back to.
pub(crate) fn warn_unkept(generation: u64, unkept: Option<&RegionError>) {
    if let Some(error) = unkept {
        complain(format!("warning: generation {generation} is published but not in the history: {error}"));
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
