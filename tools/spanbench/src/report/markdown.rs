//! The report as Markdown.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Report;
use super::chart::Chart;
use crate::summary::Spread;
use crate::wire::report::{Case, show};

/// The whole text; `charts` are linked by their file names.
pub(super) fn text(report: &Report, charts: &[Chart]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, report, charts);
    text
}

fn write(text: &mut String, report: &Report, charts: &[Chart]) -> std::fmt::Result {
    let (machine, settings) = (&report.wire.machine, &report.wire.settings);
    writeln!(text, "# spanwire, measured\n")?;
    let guest = if machine.virtualised { ", virtual machine" } else { "" };
    writeln!(text, "- Machine: {}, {} CPUs{guest}", machine.cpu, machine.cpus)?;
    writeln!(text, "- Kernel: Linux {}", machine.kernel)?;
    writeln!(text, "- spanwire {} ({} build)", machine.spanwire, machine.build)?;
    if !settings.spanwired_args.is_empty() {
        writeln!(text, "- Options of spanwired: `{}`", settings.spanwired_args.join(" "))?;
    }
    writeln!(
        text,
        "- Figures: median (lowest-highest) of {} runs; the systems take turns in each run, and ratios are of the \
         same run",
        settings.runs
    )?;
    writeln!(
        text,
        "- Trials of {} s; searches to {} % of the highest rate, a failed trial tried {} more time(s)",
        settings.trial_seconds,
        settings.resolution * 100.0,
        settings.retries
    )?;
    for left in &report.wire.left_out {
        writeln!(text, "- Left out in mode {}: {}: {}", left.mode.as_str(), left.system.as_str(), left.reason)?;
    }

    writeln!(text, "\n## Cost of a frame\n\nOne shard on rings without a kernel, ns a frame.\n")?;
    let or_none = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), |spread| show(spread, 1.0));
    let rows = report.core.rows.iter().map(|row| {
        let (case, bytes, p99) = (row.case.to_owned(), row.bytes.to_string(), format!("{:.1}", row.p99));
        [case, bytes, show(&row.ns_per_frame, 1.0), or_none(&row.adds_ns), or_none(&row.adds_to_copy), p99]
    });
    table(text, ["case", "bytes", "mean", "added to forwarding", "added / bare copy", "p99"], rows)?;
    if let Some(scaling) = &report.core.scaling {
        writeln!(text, "\nTwo shards on two processors do {} times what one does.", show(&scaling.ratio, 1.0))?;
    }

    let handoff = &report.handoff;
    writeln!(text, "\n## Handoff\n")?;
    writeln!(
        text,
        "From publishing {} bytes to their first use by the last shard, {} publishes a run, µs.\n",
        handoff.image_bytes, handoff.publishes
    )?;
    let us = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), |spread| show(spread, 1e3));
    table(text, ["p50", "p99"], [[us(&handoff.p50), us(&handoff.p99)]])?;

    writeln!(text, "\n## Wire\n")?;
    writeln!(
        text,
        "veth pairs between network namespaces, one direction; the sinks and the devmap peer run {} XDP. \
         `spanwire / x` is the ratio to x: of a latency, smaller is better.",
        settings.xdp_mode
    )?;
    report.wire.cases.iter().try_for_each(|case| write_case(text, case, charts))
}

fn write_case(text: &mut String, case: &Case, charts: &[Chart]) -> std::fmt::Result {
    let mut table = case.table();
    table.load_style(presets::ASCII_MARKDOWN);
    writeln!(text, "\n### {}\n\n{table}\n", upper(&case.title()))?;
    for chart in charts.iter().filter(|chart| chart.case == case.title()) {
        writeln!(text, "![{}]({})\n", chart.title, chart.file)?;
    }
    if let Some(alone) = Spread::of(&case.tester_alone_pps) {
        writeln!(text, "- The tester alone, into a drop at the first port: {} kpps", show(&alone, 1e3))?;
    }
    for system in &case.systems {
        write!(text, "- {}: {}", system.system.as_str(), system.note)?;
        if let Some(placement) = &system.placement {
            write!(text, "; {placement}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn table<const N: usize>(
    text: &mut String,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> std::fmt::Result {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(text, "{table}")
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
