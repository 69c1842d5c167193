//! What a shard may spend on a frame.

use super::CoreReport;
use super::rows::Row;
use crate::goal::{Bound, Goal};
use crate::summary::Spread;

/// A case, the frame length (0: any), what is bounded, and by how much.
type Wanted = (&'static str, u32, &'static str, fn(&Row) -> Option<Spread>, Bound);

const WANTED: [Wanted; 3] = [
    ("forward only", 64, "ns a frame", |row| Some(row.ns_per_frame), Bound::AtMost(25.0)),
    ("mirror 1 in 1000", 64, "adds, ns", |row| row.adds_ns, Bound::AtMost(1.0)),
    ("mirror all", 0, "adds / bare copy", |row| row.adds_to_copy, Bound::AtMost(1.3)),
];

impl CoreReport {
    /// The goals of one shard by itself.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let of = |row: &Row| {
            let meant = |&&(case, bytes, ..): &&Wanted| row.case == case && [0, row.bytes].contains(&bytes);
            let (_, _, what, figure, bound) = WANTED.iter().find(meant)?;
            Some(Goal::new(format!("a shard, {}, {} bytes: {what}", row.case, row.bytes), *bound, figure(row)))
        };
        self.rows.iter().filter(|row| row.shards == 1).filter_map(of).collect()
    }
}
