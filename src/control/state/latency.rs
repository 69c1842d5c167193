//! How soon shards used what was published.

use serde::Serialize;
use shm_layout::record::{SwapRecord, latency_bucket_top};

/// Latencies of a shard's table swaps, from publish to first use, nanoseconds. A quantile is the upper end of
/// its histogram bucket, at most a quarter above the true value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwapLatency {
    /// Swaps.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99 of 100 were no longer.
    pub p99_ns: u64,
    /// 999 of 1000 were no longer.
    pub p999_ns: u64,
    /// The longest, exactly.
    pub max_ns: u64,
}

impl SwapLatency {
    /// Reads a histogram.
    #[must_use]
    pub fn of(record: &SwapRecord) -> SwapLatency {
        let count: u64 = record.buckets.iter().sum();
        let quantile = |per_mille: u64| {
            let mut left = (count * per_mille).div_ceil(1000);
            let bucket = record.buckets.iter().position(|&n| {
                left = left.saturating_sub(n);
                left == 0
            });
            bucket.filter(|_| count > 0).map_or(0, |bucket| latency_bucket_top(bucket).min(record.max_ns))
        };
        SwapLatency {
            count,
            p50_ns: quantile(500),
            p99_ns: quantile(990),
            p999_ns: quantile(999),
            max_ns: record.max_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use shm_layout::record::{LATENCY_BUCKETS, latency_bucket};

    use super::*;

    #[test]
    fn quantiles_are_the_upper_ends_of_their_buckets() {
        let mut record = SwapRecord { shard: 0, pad: 0, buckets: [0; LATENCY_BUCKETS], max_ns: 0, sum_ns: 0 };
        assert_eq!(SwapLatency::of(&record), SwapLatency::default());
        for ns in 1..=1000u64 {
            record.buckets[latency_bucket(ns)] += 1;
            record.max_ns = ns;
        }
        let found = SwapLatency::of(&record);
        assert_eq!((found.count, found.max_ns), (1000, 1000));
        for (quantile, exact) in [(found.p50_ns, 500), (found.p99_ns, 990), (found.p999_ns, 999)] {
            assert!(quantile >= exact && quantile <= exact * 5 / 4, "{quantile} for {exact}");
        }
    }
}
