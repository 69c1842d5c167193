//! What a frame costs a shard's processor, and how long a shard has it.
//!
//! The kernel's side of the rings is played by the same thread, outside the measured time: only
//! [`Shard::breathe`](spanwire::shard::Shard::breathe) is timed, a batch of frames at a time. The clock itself
//! costs some 20 ns a batch, which is in the figures.
//!
//! - [`case`]: what is measured
//! - [`subject`]: one case on one shard, a slice of batches at a time
//! - [`turns`]: who measures when, so that figures can be compared
//! - [`rows`]: the figures
//! - [`text`], [`plot`]: the figures as tables and as a picture; [`goals`]: what they are to be

mod case;
mod goals;
mod plot;
mod rows;
mod subject;
mod text;
mod turns;

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use crate::interrupt;
use crate::rig::RigError;
use case::{Case, Packets};
pub(crate) use rows::Row;

/// Options of `spanbench core`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CoreArgs {
    /// Frame lengths, bytes
    #[arg(long, value_delimiter = ',', default_value = "64,512,1514", value_parser = clap::value_parser!(u32).range(60..=1792))]
    sizes: Vec<u32>,
    /// Frames measured for each row and processor in each run, in slices of 16,384
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: u64,
    /// Runs through all cases, each with new shards
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Only the case of this name, or else those whose name contains it, and "forward only" [default: all]
    #[arg(long, default_value = "", value_name = "TEXT")]
    case: String,
    /// Shards that do it at the same time, each on a processor of its own [default: 1, and 2 where there are so many
    /// processors and --case is not given]
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: Vec<u32>,
    /// Processors of the shards, in this order [default: all, the last one first]
    #[arg(long, visible_alias = "cpu", value_delimiter = ',', value_name = "CPU,…")]
    pub cpus: Vec<usize>,
    /// Primary frames of a shard; each case has shards of its own
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(256..=1 << 22))]
    primary: u32,
    /// Mirror frames of a shard
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    mirror: u32,
    /// Where the packets are that a shard gets
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    packets: Packets,
    /// Also draw the figures
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub(crate) enum CoreError {
    /// The rig could not be made.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The processor may not be used.
    #[error("--cpus {cpu}: this process may not run there (allowed: {allowed:?})")]
    Cpu {
        /// The processor.
        cpu: usize,
        /// What is allowed.
        allowed: Vec<usize>,
    },
    /// The thread could not be moved there.
    #[error("CPU {0}: a shard could not be pinned to it")]
    Pin(usize),
    /// More shards than processors.
    #[error("--shards {shards}: each needs a processor of its own (allowed: up to {cpus})")]
    Shards {
        /// Shards asked for.
        shards: usize,
        /// Processors for them.
        cpus: usize,
    },
    /// Fewer frames came out than went in.
    #[error("{lost} of {sent} frames were lost on the rings: the figures would not count whole frames")]
    Lost {
        /// Frames missing.
        lost: u64,
        /// Frames given.
        sent: u64,
    },
    /// A shard's thread died.
    #[error("a thread of the measurement ended unexpectedly")]
    Thread,
    /// The histogram refused its bounds.
    #[error("histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The picture could not be written.
    #[error("--svg {}: {source}", path.display())]
    Picture {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SIGINT or SIGTERM, where they are noted.
    #[error("interrupted")]
    Interrupted,
}

/// All rows.
#[derive(Debug, Serialize)]
pub(crate) struct CoreReport {
    primary_frames: u32,
    mirror_frames: u32,
    packets: Packets,
    /// Frames of a breath.
    batch: usize,
    runs: u32,
    pub rows: Vec<Row>,
}

/// What is measured, by whom.
#[derive(Debug)]
struct Plan {
    cases: Vec<Case>,
    /// Counts of shards, the smallest first.
    counts: Vec<usize>,
    /// A processor for each shard of the highest count.
    cpus: Vec<usize>,
    /// Frames of a row, shard and run.
    frames: u64,
    primary: u32,
    mirror: u32,
    packets: Packets,
}

impl CoreArgs {
    /// `allowed` are the processors that this process may use.
    fn plan(&self, allowed: &[usize]) -> Result<Plan, CoreError> {
        if let Some(&cpu) = self.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(CoreError::Cpu { cpu, allowed: allowed.to_vec() });
        }
        let mut cpus = self.cpus.clone();
        if cpus.is_empty() {
            cpus = allowed.iter().rev().copied().collect();
        }
        let mut seen = Vec::new();
        cpus.retain(|cpu| {
            !seen.contains(cpu) && {
                seen.push(*cpu);
                true
            }
        });
        let mut counts: Vec<usize> = self.shards.iter().map(|&shards| shards as usize).collect();
        if counts.is_empty() {
            counts = if self.case.is_empty() && cpus.len() > 1 { vec![1, 2] } else { vec![1] };
        }
        counts.sort_unstable();
        counts.dedup();
        let shards = counts.last().copied().unwrap_or(1);
        if shards > cpus.len() {
            return Err(CoreError::Shards { shards, cpus: cpus.len() });
        }
        cpus.truncate(shards);
        let (frames, primary, mirror, packets) = (self.frames, self.primary, self.mirror, self.packets);
        Ok(Plan { cases: case::meant(&self.case), counts, cpus, frames, primary, mirror, packets })
    }
}

/// Measures every case at every size.
///
/// # Errors
/// [`CoreError`].
pub(crate) fn run(args: &CoreArgs) -> Result<CoreReport, CoreError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let plan = args.plan(&cores.iter().map(|core| core.id).collect::<Vec<_>>())?;
    let mut rows = Vec::new();
    for &bytes in &args.sizes {
        let mut benches = turns::benches(&plan)?;
        let mut runs = Vec::new();
        for number in 0..args.runs as usize {
            if interrupt::requested() {
                return Err(CoreError::Interrupted);
            }
            runs.push(turns::run(&plan, bytes, number, &mut benches)?);
        }
        rows.extend(rows::rows(&plan, bytes, &benches, &runs));
    }
    let (primary_frames, mirror_frames, packets) = (args.primary, args.mirror, args.packets);
    let report = CoreReport { primary_frames, mirror_frames, packets, batch: subject::BATCH, runs: args.runs, rows };
    if let Some(path) = &args.svg {
        fs::write(path, report.svg()).map_err(|source| CoreError::Picture { path: path.clone(), source })?;
    }
    Ok(report)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        core: CoreArgs,
    }

    fn parse(line: &str) -> CoreArgs {
        Line::parse_from(["core"].into_iter().chain(line.split_whitespace())).core
    }

    fn plan(line: &str) -> (Vec<usize>, Vec<usize>) {
        let plan = parse(line).plan(&[0, 1, 2, 3]).unwrap();
        (plan.counts, plan.cpus)
    }

    #[test]
    fn one_shard_and_two_where_there_are_processors_for_them() {
        assert_eq!(plan(""), (vec![1, 2], vec![3, 2]));
        assert_eq!(plan("--cpus 3,1,3,2"), (vec![1, 2], vec![3, 1]));
        assert_eq!(plan("--cpus 3"), (vec![1], vec![3]));
        assert_eq!(plan("--cpus 3,1 --case all"), (vec![1], vec![3]));
        assert_eq!(plan("--cpus 3,1,2 --case all --shards 3,1,3"), (vec![1, 3], vec![3, 1, 2]));
        let error = parse("--cpus 3 --shards 2").plan(&[3]).unwrap_err().to_string();
        assert!(error.starts_with("--shards 2: ") && error.ends_with("(allowed: up to 1)"), "{error}");
    }

    #[test]
    fn a_processor_that_is_not_there_is_named() {
        let error = run(&parse("--cpus 100000 --runs 1 --frames 1")).unwrap_err().to_string();
        assert!(error.starts_with("--cpus 100000: this process may not run there (allowed: ["), "{error}");
    }

    #[test]
    fn every_row_counts_whole_slices_and_every_clone() {
        let processors = core_affinity::get_core_ids().unwrap().len();
        let report = run(&parse("--sizes 64,1514 --runs 2 --frames 1")).unwrap();
        let counts: &[usize] = if processors > 1 { &[1, 2] } else { &[1] };
        assert_eq!(report.rows.len(), 2 * counts.len() * (case::meant("").len() + case::COPIES.len()));
        for row in &report.rows {
            assert!(counts.contains(&row.shards), "{row:?}");
            assert_eq!(row.cores.len(), counts.len(), "every processor has a turn: {row:?}");
            // A slice of each run and processor.
            assert_eq!(row.frames, 2 * counts.len() as u64 * subject::SLICE, "{row:?}");
            let clones = match row.case {
                "mirror all" | "clone from a ring" | "bare copy" | "bare copy, in use" => row.frames..=row.frames,
                "mirror 1 in 1000" | "mirror 1 in 1000, 1 mirror frame" => {
                    row.frames / 1000 - 8..=row.frames / 1000 + 8
                }
                "mirror all, 1 mirror frame" | "clone from a ring, 1 mirror frame" => row.frames / 64..=row.frames / 64,
                _ => 0..=0,
            };
            assert!(clones.contains(&row.clones), "{row:?}");
            let compared = row.case.starts_with("mirror");
            assert!(row.adds_ns.is_some() == compared && row.to_forward.is_some() == compared, "{row:?}");
            assert_eq!(row.adds_to_copy.is_some(), compared || row.case.starts_with("clone"), "{row:?}");
            assert_eq!(row.to_one_shard.is_some(), row.shards == 2, "{row:?}");
            for core in &row.cores {
                assert!([core.p50_ns, core.p90_ns, core.p99_ns, core.p999_ns, core.max_ns].is_sorted(), "{core:?}");
            }
        }
    }
}
