//! `compile` and `inspect`: images in files.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use shm_layout::error::LayoutError;
use shm_layout::image::Image;
use shm_layout::record::{
    BindingRecord, DescriptorRecord, DiagnosticRecord, EntryRecord, EntryStateRecord, FeatureRecord, LinkLossRecord,
    META_DISARMED, MetaRecord, MirrorRecord, NativeVlanRecord, PathRecord, PlaceRecord, PortRecord, PortStateRecord,
    REQUIRED, Record, RoomRecord, STRINGS_KIND, SeenRecord, ShardRecord, StatsMetaRecord, SwapRecord, TakenDownRecord,
    UmemRecord, WireRecord,
};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::ImageView;
use spanwire::control::compile::{Provenance, compile, decompile, diagnostics};
use spanwire::control::state::role_name;
use spanwire::control::{Diagnostic, Mirror, OnAmbiguous, Reason, Wire};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::{CompileArgs, InspectArgs};
use crate::document::{Input, Report, ended, judge, read, read_source, shown};
use crate::import::{counts, warn};
use crate::output::{Failure, Output};
use crate::table::{Rows, printable, rate};

/// Compiles a document to a file, for an active node with mirroring armed.
pub(crate) fn compile_file(dir: &Path, args: &CompileArgs, out: &Output) -> Result<(), Failure> {
    let document = read_source(&args.source)?;
    let refused = |failure| ended(failure, out, |reasons| out.document(&Report::refused(reasons)));
    let judged = judge(dir, Input::of(&args.source, &document, OnAmbiguous::Reject)).map_err(refused)?;
    let image = compile(&judged.snapshot, &judged.admission, &Provenance::of(&document));
    std::fs::write(&args.output, image.bytes())
        .map_err(|e| Failure::Error(format!("cannot write {}: {e}", args.output.display())))?;
    if out.json {
        return out.document(&Report::accepted(&judged));
    }
    warn(&judged.admission.diagnostics);
    out.text(&format!("compiled {}: {} bytes, {}\n", args.output.display(), image.len_bytes(), counts(&judged)))
}

/// The document of `inspect`. The facts are null, the lists empty, where the image is refused.
#[derive(Debug, Default, Serialize)]
struct Inspection {
    accepted: bool,
    image: Option<Header>,
    sections: Vec<Section>,
    snapshot: Option<Content>,
    reasons: Vec<Reason>,
}

#[derive(Debug, Serialize)]
struct Header {
    len: u64,
    layout_major: u16,
    layout_minor: u16,
    generation: u64,
    published_at: u64,
    crc32: String,
}

#[derive(Debug, Serialize)]
struct Section {
    kind: u32,
    name: &'static str,
    required: bool,
    offset: u64,
    len: u64,
    elem_size: u32,
    elem_count: u32,
    schema_hash: String,
}

#[derive(Debug, Serialize)]
struct Content {
    source_version: u32,
    source_generation: u64,
    fib_generation: u64,
    generated_at: String,
    compiled_at: Option<String>,
    digest: String,
    role: &'static str,
    armed: bool,
    mirrors: Vec<Mirror>,
    wires: Vec<Wire>,
    diagnostics: Vec<Diagnostic>,
}

/// Checks an image file as a reader would, and shows what it holds.
pub(crate) fn inspect(args: &InspectArgs, out: &Output) -> Result<(), Failure> {
    let bytes = read(&args.image)?;
    let found = Image::from_bytes(&bytes).and_then(|image| inspection(image.words())).map_err(|error| {
        let reasons = vec![Reason::new(format!("{}: {error}", shown(&args.image)))];
        ended(Failure::Refused(reasons), out, |reasons| {
            out.document(&Inspection { reasons: reasons.to_vec(), ..Inspection::default() })
        })
    })?;
    if out.json { out.document(&found) } else { out.text(&text(&found, &args.image)) }
}

fn inspection(words: &[u64]) -> Result<Inspection, LayoutError> {
    let image = ImageView::parse(words)?;
    let header = image.header();
    let mut found = Inspection {
        accepted: true,
        image: Some(Header {
            len: header.len,
            layout_major: header.layout_major,
            layout_minor: header.layout_minor,
            generation: header.generation,
            published_at: header.published_at,
            crc32: format!("{:08x}", header.crc32),
        }),
        ..Inspection::default()
    };
    found.sections.extend(image.sections().map(|entry| Section {
        kind: entry.kind,
        name: section_name(entry.kind),
        required: entry.flags & REQUIRED != 0,
        offset: entry.offset,
        len: entry.len,
        elem_size: entry.elem_size,
        elem_count: entry.elem_count,
        // As text: beyond what a JSON number carries everywhere.
        schema_hash: format!("{:016x}", entry.schema_hash),
    }));
    // Statistics hold no snapshot; anything else must.
    if found.sections.iter().all(|section| section.kind != StatsMetaRecord::KIND) {
        found.snapshot = Some(content(&SnapshotView::try_from(words)?));
    }
    Ok(found)
}

fn content(view: &SnapshotView<'_>) -> Content {
    let snapshot = decompile(view);
    let compiled_at = OffsetDateTime::from_unix_timestamp_nanos(view.meta.compiled_at.into()).ok();
    Content {
        source_version: snapshot.version,
        source_generation: snapshot.generation,
        fib_generation: snapshot.fib_generation,
        generated_at: snapshot.generated_at,
        compiled_at: compiled_at.and_then(|at| at.format(&Rfc3339).ok()),
        digest: view.meta.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        role: role_name(view.meta.role),
        armed: view.meta.flags & META_DISARMED == 0,
        mirrors: snapshot.mirrors,
        wires: snapshot.wires,
        diagnostics: diagnostics(view),
    }
}

fn section_name(kind: u32) -> &'static str {
    match kind {
        MetaRecord::KIND => "META",
        PortRecord::KIND => "PORTS",
        WireRecord::KIND => "WIRES",
        MirrorRecord::KIND => "MIRRORS",
        DiagnosticRecord::KIND => "DIAGNOSTICS",
        STRINGS_KIND => "STRINGS",
        PlaceRecord::KIND => "PLACES",
        NativeVlanRecord::KIND => "NATIVE_VLANS",
        SeenRecord::KIND => "SEEN",
        LinkLossRecord::KIND => "LINK_LOSS",
        StatsMetaRecord::KIND => "STATS",
        DescriptorRecord::KIND => "DESCRIPTORS",
        ShardRecord::KIND => "SHARDS",
        PortStateRecord::KIND => "PORT_STATES",
        TakenDownRecord::KIND => "TAKEN_DOWN",
        PathRecord::KIND => "PATHS",
        FeatureRecord::KIND => "FEATURES",
        BindingRecord::KIND => "BINDINGS",
        EntryRecord::KIND => "ENTRIES",
        EntryStateRecord::KIND => "ENTRY_STATES",
        UmemRecord::KIND => "UMEM",
        SwapRecord::KIND => "SWAPS",
        RoomRecord::KIND => "ROOM",
        _ => "unknown",
    }
}

fn text(found: &Inspection, file: &Path) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(header) = &found.image {
        let _ = writeln!(
            text,
            "{}: image of {} bytes, layout {}.{}, generation {}, checksum {}",
            shown(file),
            header.len,
            header.layout_major,
            header.layout_minor,
            header.generation,
            header.crc32
        );
    }
    if let Some(content) = &found.snapshot {
        let _ = writeln!(
            text,
            "snapshot: version {}, generation {} of its source, role {}{}, SHA-256 of the source {}",
            content.source_version,
            content.source_generation,
            content.role,
            if content.armed { "" } else { ", disarmed" },
            content.digest
        );
    }
    let mut sections = Rows::new([">kind", "name", "required", ">offset", ">bytes", ">records", ">record bytes"]);
    for s in &found.sections {
        sections.row([
            s.kind.to_string(),
            s.name.to_owned(),
            if s.required { "yes" } else { "no" }.to_owned(),
            s.offset.to_string(),
            s.len.to_string(),
            s.elem_count.to_string(),
            s.elem_size.to_string(),
        ]);
    }
    sections.under("sections", &mut text);
    let Some(content) = &found.snapshot else { return text };
    let mut mirrors = Rows::new([">ingress", ">output", "rate"]);
    for m in &content.mirrors {
        mirrors.row([m.ingress_ifindex.to_string(), m.output_ifindex.to_string(), rate(m.rate)]);
    }
    mirrors.under("mirrors", &mut text);
    let mut wires = Rows::new(["name", ">a", ">b", "link loss"]);
    for wire in &content.wires {
        let link_loss = if wire.link_loss_forwarding { "forwarded" } else { "" };
        wires.row([
            printable(&wire.name),
            wire.a_ifindex.to_string(),
            wire.b_ifindex.to_string(),
            link_loss.to_owned(),
        ]);
    }
    wires.under("wires", &mut text);
    let mut remarks = Rows::new(["severity", "subject", "message"]);
    for d in &content.diagnostics {
        remarks.row([d.severity.as_str().to_owned(), printable(&d.subject), printable(&d.message)]);
    }
    remarks.under("diagnostics", &mut text);
    text
}
