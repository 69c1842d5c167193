//! How long a publish takes to reach the last shard of a running dataplane.
//!
//! What is published already is published again, so nothing changes but the generation. Each shard adds the
//! time from the publish, taken before the image is written, to its first breath with the new table; the
//! slowest shard's part of each publish is what counts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use spanwire::clock;
use spanwire::control::state::{StateError, Stats, fresh_stats, published, wait_adopted};
use spanwire::region::{CONFIG_FILE, Publisher, RegionError};
use thiserror::Error;

/// Options of `spanbench handoff`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HandoffArgs {
    /// Directory of the running dataplane
    #[arg(long, env = "SPANWIRE_DIR", default_value = "/run/spanwire", value_name = "DIR")]
    pub dir: PathBuf,
    /// Publishes to measure
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub publishes: u64,
    /// Milliseconds to sleep after each publish
    #[arg(long, default_value_t = 5)]
    pub pause_ms: u64,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub(crate) enum HandoffError {
    /// A region cannot be used.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A region cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is nothing to publish again.
    #[error("{}: nothing has been published yet (spanctl import)", .0.display())]
    Nothing(PathBuf),
    /// Nobody adopts.
    #[error("{}: the dataplane did not adopt generation {generation}", dir.display())]
    NotAdopted {
        /// The directory.
        dir: PathBuf,
        /// What it should have adopted.
        generation: u64,
    },
    /// The histogram refused its bounds.
    #[error("histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// Nanoseconds from a publish to its first use by the last shard.
#[derive(Debug, Serialize)]
pub(crate) struct HandoffReport {
    publishes: u64,
    shards: usize,
    pub image_bytes: usize,
    pub p50_ns: u64,
    pub p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

/// Publishes again and again, and measures.
pub(crate) fn run(args: &HandoffArgs) -> Result<HandoffReport, HandoffError> {
    let dir = &args.dir;
    let mut image: Image = published(dir)?.ok_or_else(|| HandoffError::Nothing(dir.clone()))?.into_image();
    let mut publisher = Publisher::open(dir, CONFIG_FILE, RegionKind::Config, Duration::from_secs(5))?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut before = sums(&look(dir)?);
    for _ in 0..args.publishes {
        let generation = publisher.publish(&mut image)?;
        // Asleep, not asking: the adopter may have been woken on this very processor.
        std::thread::sleep(Duration::from_millis(args.pause_ms));
        if !wait_adopted(dir, generation, Duration::from_secs(10))?.adopted {
            return Err(HandoffError::NotAdopted { dir: dir.clone(), generation });
        }
        let after = sums(&look(dir)?);
        let slowest = after.iter().zip(&before).map(|(after, before)| after - before).max();
        histogram.saturating_record(slowest.unwrap_or(0));
        before = after;
    }
    Ok(HandoffReport {
        publishes: args.publishes,
        shards: before.len(),
        image_bytes: image.len_bytes(),
        p50_ns: histogram.value_at_quantile(0.5),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        max_ns: histogram.max(),
    })
}

/// Statistics that are newer than the question.
fn look(dir: &Path) -> Result<Stats, HandoffError> {
    let stats = fresh_stats(dir, clock::monotonic_ns(), Duration::from_secs(5))?;
    stats.ok_or_else(|| HandoffError::NotAdopted { dir: dir.to_owned(), generation: 0 })
}

/// What each shard's swaps have taken together.
fn sums(stats: &Stats) -> Vec<u64> {
    stats.swaps().iter().map(|swaps| swaps.sum_ns).collect()
}

impl fmt::Display for HandoffReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| format!("{:.1} µs", ns as f64 / 1000.0);
        writeln!(
            f,
            "{} publishes of {} bytes to {} shard(s), from publish to first use by the last shard",
            self.publishes, self.image_bytes, self.shards
        )?;
        write!(
            f,
            "p50 {}  p99 {}  p99.9 {}  max {}",
            us(self.p50_ns),
            us(self.p99_ns),
            us(self.p999_ns),
            us(self.max_ns)
        )
    }
}
