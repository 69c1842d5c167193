//! The figures as a picture: for each length and count of shards what a frame costs, and beside it how long it takes.

use super::rows::Row;
use super::{CoreReport, case};
use crate::chart::{Bar, Panel, picture};
use crate::summary::Spread;

impl CoreReport {
    /// The SVG.
    pub(crate) fn svg(&self) -> String {
        // The rows of one length and count stand together.
        let groups = self.rows.chunk_by(|a, b| (a.bytes, a.shards) == (b.bytes, b.shards));
        picture(&groups.map(|rows| vec![costs(rows), latencies(rows)]).collect::<Vec<_>>())
    }
}

/// `64 bytes, 2 shards at once`
fn place(rows: &[Row]) -> String {
    rows.first().map_or_else(String::new, |row| match row.shards {
        1 => format!("{} bytes, 1 shard", row.bytes),
        shards => format!("{} bytes, {shards} shards at once", row.bytes),
    })
}

fn costs(rows: &[Row]) -> Panel {
    let bar = |row: &Row| bar(row, String::new(), row.ns_per_frame);
    Panel { title: format!("{}: ns a frame, lowest to highest run", place(rows)), bars: rows.iter().map(bar).collect() }
}

fn latencies(rows: &[Row]) -> Panel {
    let bars = rows.iter().flat_map(|row| {
        row.cores.iter().map(move |core| {
            let [median, max] = [core.p50_ns, core.p99_ns].map(|ns| ns as f64);
            bar(row, format!(", CPU {}", core.cpu), Spread { runs: row.ns_per_frame.runs, median, min: median, max })
        })
    });
    Panel { title: format!("{}: latency in the shard, ns, p50 to p99", place(rows)), bars: bars.collect() }
}

fn bar(row: &Row, place: String, spread: Spread) -> Bar {
    Bar { label: format!("{}{place}", row.case), strong: row.case == case::FORWARD, spread }
}
