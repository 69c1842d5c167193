//! What a frame costs a shard's processor.
//!
//! The kernel's side of the rings is played by the same thread, outside the measured time: only
//! [`Shard::breathe`](spanwire::shard::Shard::breathe) is timed, a batch of frames at a time. The clock itself
//! costs some 20 ns a batch, which is in the figures.

use std::fmt;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;
use thiserror::Error;

use crate::rig::{Rig, RigError};

/// Frames given to the shard before each timed breath: a full batch.
const BATCH: usize = 64;

/// Options of `spanbench core`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CoreArgs {
    /// Frame lengths, bytes
    #[arg(long, value_delimiter = ',', default_value = "64,512,1514", value_parser = clap::value_parser!(u32).range(60..=1792))]
    sizes: Vec<u32>,
    /// Frames measured for each row
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(6400..))]
    pub frames: u64,
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
    pub rows: Vec<Row>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub case: &'static str,
    pub bytes: u32,
    frames: u64,
    clones: u64,
    /// Mean over all frames, ns.
    pub ns_per_frame: f64,
    /// Of the breaths' means, ns a frame.
    p50: f64,
    p90: f64,
    pub p99: f64,
    p999: f64,
    max: f64,
}

const CASES: [(&str, Option<u32>); 3] =
    [("forward only", None), ("forward + mirror 1 in 1000", Some(1000)), ("forward + mirror all", Some(1))];

/// Measures every case at every size.
pub(crate) fn run(args: &CoreArgs) -> Result<CoreReport, CoreError> {
    if let Some(cpu) = args.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        return Err(CoreError::Cpu(cpu));
    }
    let mut rows = Vec::new();
    for &bytes in &args.sizes {
        for (case, rate) in CASES {
            rows.push(measure(args, case, rate, bytes)?);
        }
    }
    Ok(CoreReport { primary_frames: args.primary, mirror_frames: args.mirror, batch: BATCH, pinned_to: args.cpu, rows })
}

fn measure(args: &CoreArgs, case: &'static str, rate: Option<u32>, bytes: u32) -> Result<Row, CoreError> {
    let mut rig = Rig::new(args.primary, args.mirror, rate)?;
    // Hundredths of a nanosecond a frame, up to 10 ms a batch.
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
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
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 100.0;
    let frames = given - warm_up;
    Ok(Row {
        case,
        bytes,
        frames,
        clones,
        ns_per_frame: spent.as_nanos() as f64 / frames as f64,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 100.0,
    })
}

impl fmt::Display for CoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["case", "bytes", "frames", "clones", "ns/frame", "p50", "p90", "p99", "p99.9", "max"]);
        for row in &self.rows {
            let ns = |value: f64| format!("{value:.1}");
            table.add_row([
                row.case.to_owned(),
                row.bytes.to_string(),
                row.frames.to_string(),
                row.clones.to_string(),
                ns(row.ns_per_frame),
                ns(row.p50),
                ns(row.p90),
                ns(row.p99),
                ns(row.p999),
                ns(row.max),
            ]);
        }
        writeln!(
            f,
            "one shard on rings without a kernel, {} primary and {} mirror frames, batches of {}, ns a frame",
            self.primary_frames, self.mirror_frames, self.batch
        )?;
        write!(f, "{table}")
    }
}
