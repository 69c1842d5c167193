//! `history` and `rollback`.

use std::path::Path;

use serde::Serialize;
use shm_layout::record::MetaRecord;
use spanwire::control::compile::decompile;
use spanwire::control::history::{History, KEPT};
use spanwire::control::source::Format;
use spanwire::control::state::published;
use spanwire::control::writer::{WriteError, publish, shortcomings};
use spanwire::control::{Diagnostic, Draft, Reason};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::RollbackArgs;
use crate::document::live;
use crate::import::{warn, warn_unkept};
use crate::output::{Failure, Output};
use crate::table::{Rows, printable};

/// The document of `history`, the newest first.
#[derive(Debug, Serialize)]
struct Document {
    images: Vec<Row>,
}

/// One image. The facts are null where it cannot be read.
#[derive(Debug, Serialize)]
struct Row {
    /// What `rollback` takes.
    back: usize,
    generation: u64,
    /// Whether it is what `config.shm` holds.
    active: bool,
    source_generation: Option<u64>,
    compiled_at: Option<String>,
    digest: Option<String>,
    mirrors: Option<usize>,
    wires: Option<usize>,
    problem: Option<String>,
}

/// The document of `rollback`.
#[derive(Debug, Serialize)]
struct RolledBack {
    accepted: bool,
    generation: Option<u64>,
    from_generation: u64,
    diagnostics: Vec<Diagnostic>,
    reasons: Vec<Reason>,
}

/// Lists what was published, the newest first.
pub(crate) fn history(dir: &Path, out: &Output) -> Result<(), Failure> {
    let history = History::of(dir);
    // A config region that cannot be read has no active image; the history is what helps then.
    let active = published(dir).ok().flatten().map(|published| published.generation);
    let images = history.generations()?.into_iter().rev().enumerate();
    let images: Vec<Row> = images.map(|(back, generation)| row(&history, back, generation, active)).collect();
    if out.json {
        return out.document(&Document { images });
    }
    if images.is_empty() {
        return out.text("nothing has been published yet\n");
    }
    let mut rows = Rows::new([">back", ">generation", "", ">source", "compiled", ">mirrors", ">wires", "digest"]);
    for image in &images {
        let number = |n: Option<usize>| n.map(|n| n.to_string()).unwrap_or_default();
        let digest = image.digest.as_deref().map(|digest| digest.get(..12).unwrap_or(digest));
        rows.row([
            image.back.to_string(),
            image.generation.to_string(),
            if image.active { "active".to_owned() } else { String::new() },
            image.source_generation.map(|n| n.to_string()).unwrap_or_default(),
            image.compiled_at.clone().unwrap_or_default(),
            number(image.mirrors),
            number(image.wires),
            image.problem.as_deref().or(digest).map(printable).unwrap_or_default(),
        ]);
    }
    let mut text = String::new();
    rows.under(&format!("published last, {KEPT} are kept"), &mut text);
    out.text(text.trim_start_matches('\n'))
}

fn row(history: &History, back: usize, generation: u64, active: Option<u64>) -> Row {
    let mut row = Row {
        back,
        generation,
        active: active == Some(generation),
        source_generation: None,
        compiled_at: None,
        digest: None,
        mirrors: None,
        wires: None,
        problem: None,
    };
    let kept = history.read(generation).map_err(|e| e.to_string());
    match kept.as_ref().map_err(Clone::clone).and_then(|kept| kept.view().map_err(|e| e.to_string())) {
        Err(problem) => row.problem = Some(problem),
        Ok(view) => {
            let MetaRecord { compiled_at, digest, source_generation, .. } = view.meta;
            let at = OffsetDateTime::from_unix_timestamp_nanos(compiled_at.into()).ok();
            row.compiled_at = at.and_then(|at| at.format(&Rfc3339).ok());
            row.digest = Some(digest.iter().map(|byte| format!("{byte:02x}")).collect());
            row.source_generation = Some(source_generation);
            (row.mirrors, row.wires) = (Some(view.mirrors.len()), Some(view.wires.len()));
        }
    }
    row
}

/// Publishes an earlier snapshot again. It is admitted anew: what the dataplane can do may have changed.
pub(crate) fn rollback(dir: &Path, args: &RollbackArgs, out: &Output) -> Result<(), Failure> {
    let history = History::of(dir);
    let generations = history.generations()?;
    let Some(&from) = generations.iter().rev().nth(args.back) else {
        return Err(Failure::Error(format!(
            "{}: the history has {} images, there is no {} (spanctl history lists them)",
            dir.display(),
            generations.len(),
            args.back
        )));
    };
    let kept = history.read(from)?;
    let view = kept.view().map_err(|e| Failure::Error(e.to_string()))?;
    let links = live(dir, Format::Snapshot)?;
    let mut draft = Draft::from(decompile(&view));
    if let Some(links) = &links {
        links.note(&mut draft.snapshot);
    }
    let admission = draft.admit(links.as_ref());
    let snapshot = draft.snapshot;
    let published = if admission.accepted() {
        publish(dir, &snapshot, &admission, view.meta.digest)
    } else {
        return refuse(from, admission.reasons, out);
    };
    let receipt = match published {
        Ok(receipt) => receipt,
        Err(WriteError::Refused(reason)) => return refuse(from, vec![reason], out),
        Err(WriteError::Region(error)) => return Err(error.into()),
    };
    warn_unkept(receipt.generation, receipt.unkept.as_ref());
    let generation = receipt.generation;
    let mut diagnostics = admission.diagnostics;
    diagnostics.extend(shortcomings(dir, &snapshot));
    if out.json {
        return out.document(&RolledBack {
            accepted: true,
            generation: Some(generation),
            from_generation: from,
            diagnostics,
            reasons: Vec::new(),
        });
    }
    warn(&diagnostics);
    out.text(&format!("published generation {generation}: the snapshot of generation {from} again\n"))
}

fn refuse(from: u64, reasons: Vec<Reason>, out: &Output) -> Result<(), Failure> {
    if out.json {
        let (diagnostics, reasons) = (Vec::new(), reasons.clone());
        // The exit code says that it is refused, whether or not anybody reads the document.
        let _ = out.document(&RolledBack {
            accepted: false,
            generation: None,
            from_generation: from,
            diagnostics,
            reasons,
        });
    }
    Err(Failure::Refused(reasons))
}
