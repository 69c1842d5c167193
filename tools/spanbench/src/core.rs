//! What a frame costs a shard's processor.
//!
//! The kernel's side of the rings is played by the same thread, outside the measured time: only
//! [`Shard::breathe`](spanwire::shard::Shard::breathe) is timed, a batch of frames at a time. The clock itself
//! costs some 20 ns a batch, which is in the figures. Every run goes through all cases in turn, so that what slows the
//! machine for a while slows them all.

use std::fmt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;
use spanwire::xsk::umem;
use thiserror::Error;

use crate::rig::{Monitor, Rig, RigError};
use crate::summary::Spread;

/// Frames given to the shard before each timed breath: a full batch.
const BATCH: usize = 64;

/// Options of `spanbench core`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CoreArgs {
    /// Frame lengths, bytes
    #[arg(long, value_delimiter = ',', default_value = "64,512,1514", value_parser = clap::value_parser!(u32).range(60..=1792))]
    sizes: Vec<u32>,
    /// Frames measured for each row in each run
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(6400..))]
    pub frames: u64,
    /// Runs through all cases
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Only the case of this name, or else those whose name contains it, and "forward only"; not what two shards do
    /// [default: all]
    #[arg(long, default_value = "", value_name = "TEXT")]
    case: String,
    /// Processor to run on
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Primary frames
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(256..=1 << 22))]
    primary: u32,
    /// Mirror frames
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    mirror: u32,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub(crate) enum CoreError {
    /// The rig could not be made.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The processor may not be used.
    #[error("--cpu {0}: this process may not run there")]
    Cpu(usize),
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
}

/// All rows.
#[derive(Debug, Serialize)]
pub(crate) struct CoreReport {
    primary_frames: u32,
    mirror_frames: u32,
    batch: usize,
    pinned_to: Option<usize>,
    runs: u32,
    pub rows: Vec<Row>,
    /// For 64-byte frames, forwarding only.
    pub scaling: Option<Scaling>,
}

/// One case at one size, over all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub case: &'static str,
    pub bytes: u32,
    frames: u64,
    clones: u64,
    /// Of the runs' means over all frames, ns; the medians are the figure to quote.
    pub ns_per_frame: Spread,
    /// What it adds to forwarding alone, of the same run, ns.
    pub adds_ns: Option<Spread>,
    /// That, divided by a bare copy of the same size between pools of the same sizes, of the same run.
    pub adds_to_copy: Option<Spread>,
    /// Of the breaths' means, ns a frame.
    p50: f64,
    p90: f64,
    pub p99: f64,
    p999: f64,
    max: f64,
}

/// What two shards do beside one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scaling {
    /// Frames a second of one shard, with the fake kernel's part in the time.
    one_shard: Spread,
    /// Of two, on two processors.
    two_shards: Spread,
    pub ratio: Spread,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    rate: Option<u32>,
    monitor: Monitor,
    /// Mirror frames, if not as many as asked for.
    mirror: Option<u32>,
}

const fn case(name: &'static str, rate: Option<u32>, monitor: Monitor) -> Case {
    Case { name, rate, monitor, mirror: None }
}

/// The first is what the others are compared with.
const CASES: [Case; 6] = [
    case("forward only", None, Monitor::Healthy),
    case("mirror 1 in 1000", Some(1000), Monitor::Healthy),
    case("mirror all", Some(1), Monitor::Healthy),
    case("mirror all, monitor down", Some(1), Monitor::Down),
    case("mirror all, monitor stalled", Some(1), Monitor::Stalled),
    Case { mirror: Some(1), ..case("mirror all, 1 mirror frame", Some(1), Monitor::Healthy) },
];

/// The name of the reference.
const COPY: &str = "bare copy";

/// Measures every case at every size.
pub(crate) fn run(args: &CoreArgs) -> Result<CoreReport, CoreError> {
    if let Some(cpu) = args.cpu {
        pin(cpu)?;
    }
    let mut rows = Vec::new();
    for &bytes in &args.sizes {
        rows.extend(rows_of(args, bytes)?);
    }
    Ok(CoreReport {
        primary_frames: args.primary,
        mirror_frames: args.mirror,
        batch: BATCH,
        pinned_to: args.cpu,
        runs: args.runs,
        rows,
        scaling: if args.case.is_empty() { scaling(args)? } else { None },
    })
}

fn pin(cpu: usize) -> Result<(), CoreError> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) { Ok(()) } else { Err(CoreError::Cpu(cpu)) }
}

/// One run of one case.
struct Measured {
    frames: u64,
    clones: u64,
    ns_per_frame: f64,
}

/// The cases meant by `text`, after the one they are compared with.
fn cases(text: &str) -> Vec<Case> {
    let is_name = CASES.iter().any(|case| case.name == text);
    let is_meant = |name: &str| if is_name { name == text } else { name.contains(text) };
    let others = CASES[1..].iter().filter(|case| is_meant(case.name));
    CASES[..1].iter().chain(others).copied().collect()
}

fn rows_of(args: &CoreArgs, bytes: u32) -> Result<Vec<Row>, CoreError> {
    // Hundredths of a nanosecond a frame, up to 10 ms a batch.
    let empty = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
    let cases = cases(&args.case);
    let mut histograms = vec![empty; cases.len() + 1];
    let mut runs: Vec<Vec<Measured>> = Vec::new();
    for _ in 0..args.runs {
        let mut run = Vec::new();
        for (case, histogram) in cases.iter().zip(&mut histograms) {
            run.push(measure(args, *case, bytes, histogram)?);
        }
        if let Some(histogram) = histograms.last_mut() {
            run.push(copy(args, bytes, histogram)?);
        }
        runs.push(run);
    }
    let names = cases.iter().map(|case| case.name).chain([COPY]);
    let rows = names.zip(&histograms).enumerate().filter_map(|(index, (case, histogram))| {
        let of =
            |figure: &dyn Fn(&[Measured]) -> f64| Spread::of(&runs.iter().map(|run| figure(run)).collect::<Vec<_>>());
        let adds = |run: &[Measured]| run[index].ns_per_frame - run[0].ns_per_frame;
        let is_mirroring = index > 0 && case != COPY;
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 100.0;
        Some(Row {
            case,
            bytes,
            frames: runs.iter().map(|run| run[index].frames).sum(),
            clones: runs.iter().map(|run| run[index].clones).sum(),
            ns_per_frame: of(&|run| run[index].ns_per_frame)?,
            adds_ns: if is_mirroring { of(&adds) } else { None },
            adds_to_copy: if is_mirroring { of(&|run| adds(run) / run[cases.len()].ns_per_frame) } else { None },
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 100.0,
        })
    });
    Ok(rows.collect())
}

fn measure(args: &CoreArgs, case: Case, bytes: u32, histogram: &mut Histogram<u64>) -> Result<Measured, CoreError> {
    let mut rig = Rig::new(args.primary, case.mirror.unwrap_or(args.mirror), case.rate, case.monitor)?;
    let (mut given, mut crossed, mut clones) = (0u64, 0u64, 0u64);
    let mut spent = Duration::ZERO;
    let warm_up = args.frames / 10;
    while given < args.frames + warm_up {
        let batch = rig.receive(bytes, BATCH) as u64;
        let start = Instant::now();
        rig.shard.breathe();
        let took = start.elapsed();
        let (out, cloned) = rig.transmit();
        given += batch;
        crossed += out as u64;
        if given > warm_up {
            spent += took;
            clones += cloned as u64;
            histogram.saturating_record(took.as_nanos() as u64 * 100 / batch.max(1));
        }
    }
    if crossed != given {
        return Err(CoreError::Lost { lost: given - crossed, sent: given });
    }
    let frames = given - warm_up;
    Ok(Measured { frames, clones, ns_per_frame: spent.as_nanos() as f64 / frames as f64 })
}

/// A copy of every frame and nothing else, from where a device would put it to where a clone would lie: what no
/// mirroring that copies can undercut. The frames are taken in the order of a rig's rings and its free list.
fn copy(args: &CoreArgs, bytes: u32, histogram: &mut Histogram<u64>) -> Result<Measured, CoreError> {
    let len = bytes as usize;
    // Of the same kind of memory, too.
    let pool = |frames: u32| umem::memory(frames as usize * Rig::FRAME).map_err(RigError::Io);
    let (from, mut to) = (pool(args.primary)?, pool(args.mirror)?);
    let batches = args.frames.div_ceil(BATCH as u64);
    let mut spent = Duration::ZERO;
    let mut next = 0;
    for _ in 0..batches {
        let start = Instant::now();
        for clone in 0..BATCH {
            let source = next % args.primary as usize * Rig::FRAME + Rig::HEADROOM;
            let target = clone % args.mirror as usize * Rig::FRAME;
            to[target..target + len].copy_from_slice(&from[source..source + len]);
            next += 1;
        }
        std::hint::black_box(&mut to);
        let took = start.elapsed();
        spent += took;
        histogram.saturating_record(took.as_nanos() as u64 * 100 / BATCH as u64);
    }
    let frames = batches * BATCH as u64;
    Ok(Measured { frames, clones: frames, ns_per_frame: spent.as_nanos() as f64 / frames as f64 })
}

/// One shard, then two at once on two processors; nothing where there is only one.
fn scaling(args: &CoreArgs) -> Result<Option<Scaling>, CoreError> {
    let cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).take(2).collect();
    if cpus.len() < 2 {
        return Ok(None);
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        one.push(Some(together(args, &cpus[..1])?));
        two.push(Some(together(args, &cpus)?));
    }
    let all = |figures: &[Option<f64>]| Spread::of(&figures.iter().copied().flatten().collect::<Vec<_>>());
    Ok(all(&one).zip(all(&two)).zip(Spread::of_ratios(&two, &one)).map(|((one_shard, two_shards), ratio)| Scaling {
        one_shard,
        two_shards,
        ratio,
    }))
}

/// Frames a second of one shard on each of these processors, all at the same time.
fn together(args: &CoreArgs, cpus: &[usize]) -> Result<f64, CoreError> {
    let start = Barrier::new(cpus.len());
    let shard = |cpu| -> Result<f64, CoreError> {
        let ready = pin(cpu).and_then(|()| Ok(Rig::new(args.primary, args.mirror, None, Monitor::Healthy)?));
        // After what can fail: the others wait here.
        start.wait();
        let mut rig = ready?;
        let (mut frames, begin) = (0u64, Instant::now());
        while frames < args.frames {
            frames += rig.receive(64, BATCH) as u64;
            rig.shard.breathe();
            rig.transmit();
        }
        Ok(frames as f64 / begin.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let shards: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || shard(cpu))).collect();
        shards.into_iter().map(|thread| thread.join().unwrap_or(Err(CoreError::Thread))).sum()
    })
}

impl fmt::Display for CoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "case", "bytes", "frames", "clones", "ns/frame", "spread", "adds", "x copy", "p50", "p90", "p99", "p99.9",
            "max",
        ]);
        for row in &self.rows {
            let ns = |value: f64| format!("{value:.1}");
            let median = |spread: &Option<Spread>| spread.map_or(String::new(), |s| format!("{:.2}", s.median));
            table.add_row([
                row.case.to_owned(),
                row.bytes.to_string(),
                row.frames.to_string(),
                row.clones.to_string(),
                ns(row.ns_per_frame.median),
                format!("{:.1}-{:.1}", row.ns_per_frame.min, row.ns_per_frame.max),
                median(&row.adds_ns),
                median(&row.adds_to_copy),
                ns(row.p50),
                ns(row.p90),
                ns(row.p99),
                ns(row.p999),
                ns(row.max),
            ]);
        }
        writeln!(
            f,
            "one shard on rings without a kernel, {} primary and {} mirror frames, batches of {}, {} runs, ns a frame",
            self.primary_frames, self.mirror_frames, self.batch, self.runs
        )?;
        write!(f, "{table}")?;
        if let Some(Scaling { one_shard, two_shards, ratio }) = &self.scaling {
            let millions = |spread: &Spread| spread.median / 1e6;
            write!(
                f,
                "\n\nforward only, 64 bytes, with the fake kernel's part: {:.1} million frames a second by one shard, {:.1} by \
                 two on two processors, {:.2} times ({:.2}-{:.2})",
                millions(one_shard),
                millions(two_shards),
                ratio.median,
                ratio.min,
                ratio.max
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_means_one_case_and_a_part_of_one_several() {
        let names = |text| cases(text).iter().map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(names("forward only"), ["forward only"]);
        assert_eq!(names("mirror all"), ["forward only", "mirror all"]);
        assert_eq!(names("monitor"), ["forward only", "mirror all, monitor down", "mirror all, monitor stalled"]);
        assert_eq!(names("").len(), CASES.len());
        assert_eq!(names("no such case"), ["forward only"]);
    }
}
