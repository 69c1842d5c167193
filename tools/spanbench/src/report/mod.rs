//! Runs the set and writes what came out: `report.md`, its pictures, and `report.json` with every run.
//!
//! - [`markdown`]: the text
//! - [`pictures`]: the pictures of `wire`

mod markdown;
mod pictures;

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;
use thiserror::Error;

use crate::core::{self, CoreArgs, CoreError, CoreReport};
use crate::goal::{Bound, Goal};
use crate::handoff::{self, HandoffArgs, HandoffError};
use crate::instructions::{self, InstructionsArgs, InstructionsError, InstructionsReport};
use crate::summary::Spread;
use crate::wire::args::WireArgs;
use crate::wire::error::WireError;
use crate::wire::neighbour::{self, NeighbourArgs, NeighbourReport};
use crate::wire::publishing::{self, PublishingArgs, PublishingReport};
use crate::wire::report::WireReport;
use crate::wire::states::{self, StatesArgs, StatesReport};
use crate::wire::tcp::{self, TcpArgs, TcpReport};
use crate::{interrupt, wire};

/// Milliseconds between publishes.
const PAUSE_MS: u64 = 5;
/// Of each stream of TCP.
const STREAM_MS: u64 = 3000;

/// Options of `spanbench report`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Directory to write into, made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Frames of each row of `core`, in each of its own runs
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    core_frames: u64,
    /// Publishes of each run of `handoff`
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    publishes: u64,
    #[command(flatten)]
    wire: WireArgs,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub(crate) enum ReportError {
    /// `core` failed.
    #[error("core: {0}")]
    Core(#[from] CoreError),
    /// `wire` failed, or the lab could not be laid.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// `instructions` failed.
    #[error("instructions: {0}")]
    Instructions(InstructionsError),
    /// `handoff` failed.
    #[error("handoff: {0}")]
    Handoff(#[from] HandoffError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The document could not be made.
    #[error("report.json: {0}")]
    Json(#[from] serde_json::Error),
}

/// The picture of `core`.
const CORE_PICTURE: &str = "core.svg";

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Cost of a frame on rings without a kernel.
    core: CoreReport,
    /// The same, of frames that have just been written.
    core_written: CoreReport,
    /// Instructions of a frame, beside the committed table.
    instructions: InstructionsReport,
    /// From publish to the last shard.
    handoff: HandoffFigure,
    /// A monitor port in trouble.
    states: StatesReport,
    /// Busy neighbours.
    neighbour: NeighbourReport,
    /// Publishes under load.
    publishing: PublishingReport,
    /// A stream between two hosts.
    tcp: TcpReport,
    /// Real frames.
    wire: WireReport,
    /// All goals.
    goals: Vec<Goal>,
    /// The files that were written.
    files: Vec<PathBuf>,
}

/// `handoff`, over all runs, ns.
#[derive(Debug, Serialize)]
struct HandoffFigure {
    publishes: u64,
    image_bytes: usize,
    p50: Option<Spread>,
    p99: Option<Spread>,
}

impl HandoffFigure {
    fn goals(&self) -> Vec<Goal> {
        let p99 = self.p99.map(|p99| p99.per(1e3));
        vec![Goal::new("from publish to the last shard, p99, µs".to_owned(), Bound::AtMost(100.0), p99)]
    }
}

/// Measures everything and writes the files.
///
/// # Errors
/// [`ReportError`]; what was written before stays.
pub(crate) fn run(args: &ReportArgs) -> Result<Report, ReportError> {
    let out = &args.out;
    // First, so that a wrong directory is told of before minutes of measuring.
    fs::create_dir_all(out).map_err(|source| ReportError::Write { path: out.clone(), source })?;
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let (core, core_written) = (core(args, "untouched")?, core(args, "written")?);
    let (instructions, handoff) = (instructions()?, handoff(args)?);
    let states = states::run(&StatesArgs { wire: args.wire.clone(), state: String::new() })?;
    let neighbour = neighbour::run(&NeighbourArgs { wire: args.wire.clone() })?;
    let publishing = publishing::run(&PublishingArgs { wire: args.wire.clone(), pause_ms: PAUSE_MS })?;
    let tcp = tcp::run(&TcpArgs { wire: args.wire.clone(), stream_ms: STREAM_MS })?;
    let wire = wire::run(&args.wire)?;
    let of_wire = [&wire.goals, &states.goals, &neighbour.goals, &tcp.goals];
    let goals = of_wire.into_iter().flatten().cloned().chain(core.goals()).chain(handoff.goals()).collect();
    let files = Vec::new();
    let mut report =
        Report { core, core_written, instructions, handoff, states, neighbour, publishing, tcp, wire, goals, files };
    let charts = pictures::all(&report.wire);
    let mut files: Vec<(String, String)> = vec![("report.md".to_owned(), markdown::text(&report, &charts))];
    files.push((CORE_PICTURE.to_owned(), report.core.svg()));
    files.extend(charts.into_iter().map(|chart| (chart.file, chart.svg)));
    report.files = files.iter().map(|(name, _)| out.join(name)).collect();
    report.files.push(out.join("report.json"));
    files.push(("report.json".to_owned(), serde_json::to_string_pretty(&report)?));
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).map_err(|source| ReportError::Write { path, source })?;
    }
    Ok(report)
}

/// The defaults of `spanbench core`.
#[derive(Parser)]
struct CoreDefaults {
    #[command(flatten)]
    core: CoreArgs,
}

fn core(args: &ReportArgs, packets: &str) -> Result<CoreReport, ReportError> {
    let mut options = CoreDefaults::parse_from(["core", "--packets", packets]).core;
    // Where the dataplane would be, before where the tester is.
    options.cpus = vec![args.wire.dut_cpu, args.wire.tester_cpu];
    options.frames = args.core_frames;
    eprintln!("core, packets {packets}, {} runs", options.runs);
    match core::run(&options) {
        Err(CoreError::Interrupted) => Err(WireError::Interrupted.into()),
        other => Ok(other?),
    }
}

fn instructions() -> Result<InstructionsReport, ReportError> {
    eprintln!("instructions");
    match instructions::run(&InstructionsArgs::default()) {
        Err(InstructionsError::Interrupted) => Err(WireError::Interrupted.into()),
        other => other.map_err(ReportError::Instructions),
    }
}

fn handoff(args: &ReportArgs) -> Result<HandoffFigure, ReportError> {
    let (mut p50, mut p99, mut image_bytes) = (Vec::new(), Vec::new(), 0);
    wire::with_dataplane(&args.wire, |dir| -> Result<(), ReportError> {
        for run in 0..args.wire.runs {
            eprintln!("run {}/{}, handoff", run + 1, args.wire.runs);
            let options = HandoffArgs { dir: dir.to_owned(), publishes: args.publishes, pause_ms: PAUSE_MS };
            let report = handoff::run(&options)?;
            p50.push(report.p50_ns as f64);
            p99.push(report.p99_ns as f64);
            image_bytes = report.image_bytes;
            if interrupt::requested() {
                return Err(WireError::Interrupted.into());
            }
        }
        Ok(())
    })??;
    let publishes = args.publishes;
    Ok(HandoffFigure { publishes, image_bytes, p50: Spread::of(&p50), p99: Spread::of(&p99) })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.wire)?;
        self.files.iter().try_for_each(|file| write!(f, "\nwrote {}", file.display()))
    }
}
