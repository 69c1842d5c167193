//! The handoff between processes: nothing torn at full speed, nothing lost when a side dies or is stopped, and
//! nobody harmed when a region file is truncated or replaced.
//!
//! - [`payload`]: images in which every word follows from the first
//! - [`process`]: publishers and readers as processes of their own, which are this executable again
//! - [`speed`]: millions of reads against a publisher at full speed, with either side stopped
//! - [`death`]: the writer killed at every step and at random moments
//! - [`damage`]: truncation and replacement under both sides
//! - [`size`]: a region that grows and shrinks
//! - [`refusal`]: what a directory or a file must not be, and a full or read-only file system
//!
//! The ordinary run takes the short form of each; `SPANWIRE_LONG=1` the long one. Root is needed.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod damage;
mod death;
mod payload;
mod process;
mod refusal;
mod size;
mod speed;

use std::time::{Duration, Instant};

/// `short`, or `long` in the long form.
fn count(short: u64, long: u64) -> u64 {
    if std::env::var_os("SPANWIRE_LONG").is_some() { long } else { short }
}

/// Waits until `done` gives something.
fn until<T>(what: &str, patience: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(start.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Random moments. The seed is printed, and taken from `SPANWIRE_SEED` where that is set.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let given = std::env::var("SPANWIRE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(spanwire::clock::unix_ns);
        println!("SPANWIRE_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(n)) >> 64) as u64
    }

    /// Sleeps for less than `longest`.
    fn sleep(&mut self, longest: Duration) {
        std::thread::sleep(Duration::from_nanos(self.below(longest.as_nanos() as u64)));
    }
}
