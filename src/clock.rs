//! The clocks that cross a process boundary, in nanoseconds.

use rustix::time::{ClockId, clock_gettime};

fn nanoseconds(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
}

/// `CLOCK_MONOTONIC`: comparable between processes of one boot, stops in suspend.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// `CLOCK_BOOTTIME`: as above, goes on in suspend.
pub fn boottime_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds since the Unix epoch.
pub fn unix_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}
