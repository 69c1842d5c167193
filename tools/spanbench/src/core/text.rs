//! The figures as tables.

use std::fmt;

use comfy_table::{Table, presets};

use super::CoreReport;
use super::case::Packets;
use crate::goal::with_goals;
use crate::summary::Spread;
use crate::table::align;

impl CoreReport {
    /// What a frame costs, without a style.
    pub(crate) fn costs(&self) -> Table {
        let mut table = Table::new();
        table.set_header([
            "case",
            "bytes",
            "shards",
            "frames",
            "clones",
            "ns/frame",
            "adds, ns",
            "/ forward only",
            "rate / forward only",
            "adds / bare copy",
            "Mframes/s",
            "/ one shard",
        ]);
        for row in &self.rows {
            let or_nothing = |spread: &Option<Spread>, places| spread.map_or(String::new(), |s| s.text(1.0, places));
            table.add_row([
                row.case.to_owned(),
                row.bytes.to_string(),
                row.shards.to_string(),
                row.frames.to_string(),
                row.clones.to_string(),
                row.ns_per_frame.text(1.0, 1),
                or_nothing(&row.adds_ns, 2),
                or_nothing(&row.to_forward, 3),
                or_nothing(&row.rate_to_forward, 3),
                or_nothing(&row.adds_to_copy, 2),
                format!("{:.1}", row.frames_per_second.median / 1e6),
                or_nothing(&row.to_one_shard, 2),
            ]);
        }
        align(&mut table);
        table
    }

    /// How long a shard has a frame, without a style.
    pub(crate) fn latencies(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["case", "bytes", "shards", "CPU", "p50", "p90", "p99", "p99.9", "max"]);
        for row in &self.rows {
            for core in &row.cores {
                let figures = [core.p50_ns, core.p90_ns, core.p99_ns, core.p999_ns, core.max_ns];
                let place = [row.bytes.to_string(), row.shards.to_string(), core.cpu.to_string()];
                let words = std::iter::once(row.case.to_owned()).chain(place);
                table.add_row(words.chain(figures.map(|ns| ns.to_string())));
            }
        }
        align(&mut table);
        table
    }

    /// What the costs mean.
    pub(crate) fn about_costs(&self) -> String {
        format!(
            "Shards on rings without a kernel, each with {} primary and {} mirror frames; batches of {} frames, \
             which {}; only breaths are timed, and with the fake kernel's part only for the rates. \"forward only\" has the \
             same ports, the monitor port among them, and no mirror entry; \"clone from a ring\" has the monitor port \
             alone, and for each frame a record that was just written. Median (lowest-highest) of {} runs; what is added \
             and the ratios are of the same slice of 16,384 frames, the median of each run.",
            self.primary_frames,
            self.mirror_frames,
            self.batch,
            match self.packets {
                Packets::Untouched => "nothing has written before",
                Packets::Written => "the same processor has just written",
            },
            self.runs
        )
    }

    /// What the latencies mean.
    pub(crate) fn about_latencies(&self) -> String {
        format!(
            "Latency of a frame in a full batch of {}, ns: from the beginning of the breath that receives it to its end, \
             when it is on the tx ring of the other port.",
            self.batch
        )
    }
}

impl fmt::Display for CoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = [(self.about_costs(), self.costs()), (self.about_latencies(), self.latencies())];
        for (number, (about, mut table)) in tables.into_iter().enumerate() {
            table.load_style(presets::NOTHING);
            write!(f, "{}{about}\n{table}", if number > 0 { "\n\n" } else { "" })?;
        }
        with_goals(f, &self.goals())
    }
}
