//! Signs of life of the shards.

use std::collections::HashMap;

use shm_layout::counters::Shard;

use crate::clock;
use crate::control::state::{ShardRow, StatsReport};

/// When each shard was last seen to go on.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(HashMap<u32, Heartbeat>);

#[derive(Debug)]
struct Heartbeat {
    breaths: u64,
    /// Nanoseconds since the Unix epoch.
    at: u64,
}

impl Heartbeats {
    /// The heartbeat of each shard, nanoseconds since the Unix epoch.
    pub(super) fn of(&mut self, report: &StatsReport) -> Vec<u64> {
        let gathered = clock::unix_ns().saturating_sub(report.dataplane.age_ns);
        let seen = |row: &ShardRow| self.note(row.shard.id, row.values.get(Shard::Breaths.name()), gathered);
        report.shards.iter().map(seen).collect()
    }

    /// Takes note of what a shard has done by a time, and returns when it was last seen to do something.
    fn note(&mut self, shard: u32, breaths: u64, now: u64) -> u64 {
        let known = self.0.entry(shard).or_insert(Heartbeat { breaths, at: now });
        if known.breaths != breaths {
            *known = Heartbeat { breaths, at: now };
        }
        known.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_the_last_time_something_was_done() {
        let mut heartbeats = Heartbeats::default();
        assert_eq!(heartbeats.note(0, 5, 100), 100);
        assert_eq!(heartbeats.note(0, 5, 200), 100, "it hangs");
        assert_eq!(heartbeats.note(1, 9, 200), 200);
        assert_eq!(heartbeats.note(0, 6, 300), 300);
        assert_eq!(heartbeats.note(0, 1, 400), 400, "another dataplane");
    }
}
