//! How many instructions a shard spends on a frame, counted by callgrind: figures that no clock and no neighbour
//! disturbs, beside those of the committed table.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::interrupt;
use crate::machine::Machine;
use crate::table::align;

/// As it was when this was built.
const COMMITTED: &str = include_str!("../../../benches/instructions.tsv");
/// Differences up to this are no news, %.
const ALLOWED: f64 = 3.0;
/// The cases beside forwarding, which each run of `core` has too.
const FORWARD: &str = "forward only";
const CASES: [&str; 3] = ["mirror 1 in 1000", "mirror all", "clone from a ring"];
const SIZES: [u32; 3] = [64, 512, 1514];
/// Two lengths of a run, frames: what one has more than the other is frames and nothing else.
const SHORT: u64 = 16_384;
const LONG: u64 = 3 * SHORT;

/// Options of `spanbench instructions`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct InstructionsArgs {
    /// Also write the new table [default: benches/instructions.tsv]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "benches/instructions.tsv")]
    write: Option<PathBuf>,
}

/// Why nothing was counted.
#[derive(Debug, Error)]
pub(crate) enum InstructionsError {
    /// A file or a program could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The measured program failed.
    #[error("{case}, {bytes} bytes: {reason}")]
    Run {
        /// What was measured.
        case: &'static str,
        /// The frame length.
        bytes: u32,
        /// What it or callgrind said.
        reason: String,
    },
    /// SIGINT or SIGTERM, where they are noted.
    #[error("interrupted")]
    Interrupted,
}

/// Every figure, then and now.
#[derive(Debug, Serialize)]
pub(crate) struct InstructionsReport {
    /// Why nothing was counted, if so.
    skipped: Option<String>,
    /// Compiler, valgrind and processor of the committed table: the compiler writes the instructions, and the C library
    /// chooses its memcpy by processor.
    then_with: String,
    /// Those of now.
    now_with: String,
    rows: Vec<Row>,
}

/// Instructions a frame.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    bytes: u32,
    then: Option<f64>,
    now: Option<f64>,
    change_percent: Option<f64>,
    /// More than is allowed, or on one side only.
    differs: bool,
}

/// One line of a table.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    case: String,
    bytes: u32,
    instructions: f64,
}

/// Counts, and compares with the committed table.
///
/// # Errors
/// [`InstructionsError`]; that there is no valgrind is none.
pub(crate) fn run(args: &InstructionsArgs) -> Result<InstructionsReport, InstructionsError> {
    let Some(valgrind) = valgrind_version() else {
        return Ok(InstructionsReport::skipped("valgrind is not there (Debian: apt-get install valgrind)"));
    };
    if cfg!(debug_assertions) {
        return Ok(InstructionsReport::skipped("this is a debug build, and the table is of a release build"));
    }
    let Machine { rustc, cpu, .. } = Machine::here();
    let now_with = format!("{rustc}, {valgrind}, {cpu}");
    let now = measure()?;
    if let Some(path) = &args.write {
        let write = |source| InstructionsError::Io { what: path.display().to_string(), source };
        fs::write(path, print(&now_with, &now)).map_err(write)?;
    }
    let (then_with, then) = parse(COMMITTED);
    Ok(InstructionsReport { skipped: None, then_with, now_with, rows: compare(&then, &now) })
}

fn valgrind_version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn measure() -> Result<Vec<Figure>, InstructionsError> {
    let mut figures = Vec::new();
    for bytes in SIZES {
        let (forward, frames) = growth(FORWARD, bytes)?;
        let mut add = |case: &str, instructions: u64| {
            let instructions = instructions as f64 / frames as f64;
            figures.push(Figure { case: case.to_owned(), bytes, instructions });
        };
        add(FORWARD, forward);
        for case in CASES {
            // The same run has forwarding before the case, as many frames of it.
            add(case, growth(case, bytes)?.0.saturating_sub(forward));
        }
    }
    Ok(figures)
}

/// Instructions and frames that the longer run has more.
fn growth(case: &'static str, bytes: u32) -> Result<(u64, u64), InstructionsError> {
    let (short, long) = (collect(case, bytes, SHORT)?, collect(case, bytes, LONG)?);
    let failed = || InstructionsError::Run { case, bytes, reason: "the longer run did not do more".to_owned() };
    let more = |long: u64, short: u64| long.checked_sub(short).filter(|more| *more > 0).ok_or_else(failed);
    Ok((more(long.0, short.0)?, more(long.1, short.1)?))
}

/// Instructions of `Shard::breathe` and what it calls, and the frames given to each case, in a whole run.
fn collect(case: &'static str, bytes: u32, frames: u64) -> Result<(u64, u64), InstructionsError> {
    if interrupt::requested() {
        return Err(InstructionsError::Interrupted);
    }
    let io = |what: &str| {
        let what = what.to_owned();
        |source| InstructionsError::Io { what, source }
    };
    let scratch = tempfile::tempdir().map_err(io("making a directory"))?;
    let counts = scratch.path().join("out");
    let program = std::env::current_exe().map_err(io("finding spanbench"))?;
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--toggle-collect=*Shard*breathe*"])
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        .args(["--json", "core", "--runs", "1", "--case", case])
        .args(["--sizes", &bytes.to_string(), "--frames", &frames.to_string()])
        .output()
        .map_err(io("starting valgrind"))?;
    let failed = |reason: &str| InstructionsError::Run { case, bytes, reason: reason.to_owned() };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let instructions = total(&counts).ok_or_else(|| failed("callgrind saw nothing of Shard::breathe"))?;
    let given = given(&output.stdout, case).ok_or_else(|| failed("no row in what it wrote"))?;
    Ok((instructions, given))
}

/// From the line `totals: 123` of callgrind's file.
fn total(counts: &Path) -> Option<u64> {
    let text = fs::read_to_string(counts).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()?;
    Some(total).filter(|total| *total > 0)
}

/// From the JSON of `core`: the frames given to a case.
fn given(json: &[u8], case: &str) -> Option<u64> {
    let report: Value = serde_json::from_slice(json).ok()?;
    report["rows"].as_array()?.iter().find(|row| row["case"] == case)?["given"].as_u64()
}

/// What it was made with, and the figures.
fn parse(table: &str) -> (String, Vec<Figure>) {
    let with = table.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default().to_owned();
    let figure = |line: &str| {
        let mut fields = line.split('\t');
        let (case, bytes, instructions) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Figure { case: case.to_owned(), bytes: bytes.parse().ok()?, instructions: instructions.parse().ok()? })
    };
    (with, table.lines().filter(|line| !line.starts_with('#')).filter_map(figure).collect())
}

fn print(with: &str, figures: &[Figure]) -> String {
    let line = |figure: &Figure| format!("{}\t{}\t{:.1}\n", figure.case, figure.bytes, figure.instructions);
    let lines: String = figures.iter().map(line).collect();
    format!("# {with}\n# case\tbytes\tinstructions a frame\n{lines}")
}

fn compare(then: &[Figure], now: &[Figure]) -> Vec<Row> {
    let of = |figures: &[Figure], key: &Figure| {
        let same = figures.iter().find(|figure| (&figure.case, figure.bytes) == (&key.case, key.bytes));
        same.map(|figure| figure.instructions)
    };
    let gone = then.iter().filter(|figure| of(now, figure).is_none());
    let row = |figure: &Figure| {
        let (then, now) = (of(then, figure), of(now, figure));
        let change_percent = then.zip(now).map(|(then, now)| 100.0 * (now / then - 1.0));
        let differs = change_percent.is_none_or(|change| change.abs() > ALLOWED);
        Row { case: figure.case.clone(), bytes: figure.bytes, then, now, change_percent, differs }
    };
    now.iter().chain(gone).map(row).collect()
}

impl InstructionsReport {
    fn skipped(reason: &str) -> InstructionsReport {
        let (then_with, _) = parse(COMMITTED);
        InstructionsReport { skipped: Some(reason.to_owned()), then_with, now_with: String::new(), rows: Vec::new() }
    }

    /// Whether a figure differs by more than is allowed.
    pub(crate) fn differs(&self) -> bool {
        self.rows.iter().any(|row| row.differs)
    }

    /// The rows, without a style.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["case", "bytes", "then", "now", "change", ""]);
        for row in &self.rows {
            let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
            table.add_row([
                row.case.clone(),
                row.bytes.to_string(),
                figure(row.then),
                figure(row.now),
                row.change_percent.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %")),
                if row.differs { "DIFFERS".to_owned() } else { String::new() },
            ]);
        }
        align(&mut table);
        table
    }

    /// What the figures are, or why there are none.
    pub(crate) fn about(&self) -> String {
        let Some(reason) = &self.skipped else {
            let mut about = format!(
                "Instructions of a shard for each frame, counted by callgrind, beside benches/instructions.tsv; more than \
                 {ALLOWED} % is a difference."
            );
            if self.then_with != self.now_with {
                about += &format!(
                    " The table is from other tools or another processor, and differences may be theirs: then {}; now {}.",
                    self.then_with, self.now_with
                );
            }
            return about;
        };
        format!("Instructions a frame: skipped, {reason}.")
    }
}

impl fmt::Display for InstructionsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.about())?;
        if self.skipped.is_none() {
            let mut table = self.table();
            table.load_style(presets::NOTHING);
            write!(f, "\n{table}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: &str, instructions: f64) -> Figure {
        Figure { case: case.to_owned(), bytes: 64, instructions }
    }

    #[test]
    fn a_table_is_read_as_it_is_written() {
        let figures = [figure("forward only", 236.7), figure("mirror all", 506.0)];
        assert_eq!(
            parse(&print("rustc 1, valgrind 2", &figures)),
            ("rustc 1, valgrind 2".to_owned(), figures.to_vec())
        );
    }

    #[test]
    fn the_committed_table_has_every_figure() {
        let (with, figures) = parse(COMMITTED);
        assert!(with.contains("rustc") && with.contains("valgrind"), "{with}");
        assert_eq!(figures.len(), SIZES.len() * (1 + CASES.len()));
    }

    #[test]
    fn what_differs_or_is_on_one_side_only_is_told() {
        let then = [figure("same", 100.0), figure("more", 100.0), figure("less", 100.0), figure("gone", 100.0)];
        let now = [figure("same", 102.9), figure("more", 103.1), figure("less", 96.9), figure("new", 100.0)];
        let rows = compare(&then, &now);
        let told: Vec<_> = rows.iter().map(|row| (row.case.as_str(), row.differs)).collect();
        assert_eq!(told, [("same", false), ("more", true), ("less", true), ("new", true), ("gone", true)]);
    }
}
