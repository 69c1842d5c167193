//! The report as Markdown.

use std::fmt::Write;

use comfy_table::{Table, presets};

use super::pictures::Chart;
use super::{CORE_PICTURE, Report};
use crate::goal;
use crate::summary::Spread;
use crate::table::{align, show};
use crate::wire::report::Case;

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
    writeln!(text, "- spanwire {} ({} build, {})", machine.spanwire, machine.build, machine.rustc)?;
    if !settings.spanwired_args.is_empty() {
        writeln!(text, "- Options of spanwired: `{}`", settings.spanwired_args.join(" "))?;
    }
    writeln!(
        text,
        "- Figures with real frames: median (lowest-highest) of {} runs; the systems take turns in each run, and ratios \
         are of the same run",
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

    section(text, "Goals", goal::ABOUT, goal::table(&report.goals))?;

    let core = &report.core;
    section(text, "Cost of a frame", &core.about_costs(), core.costs())?;
    writeln!(text, "\n![cost and latency]({CORE_PICTURE})")?;
    let written = &report.core_written;
    section(text, "Cost of a frame that has just been written", &written.about_costs(), written.costs())?;
    section(text, "Latency in a shard", &core.about_latencies(), core.latencies())?;

    let instructions = &report.instructions;
    section(text, "Instructions a frame", &instructions.about(), instructions.table())?;

    let handoff = &report.handoff;
    let us = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), |spread| show(spread, 1e3));
    let mut times = Table::new();
    times.set_header(["p50", "p99"]);
    times.add_row([us(&handoff.p50), us(&handoff.p99)]);
    align(&mut times);
    let about = format!(
        "From publishing {} bytes to their first use by the last shard, {} publishes a run, µs.",
        handoff.image_bytes, handoff.publishes
    );
    section(text, "Handoff", &about, times)?;

    section(text, "A monitor port in trouble", &report.states.about(), report.states.table())?;
    section(text, "Busy neighbours", &report.neighbour.about(), report.neighbour.table())?;
    section(text, "Publishes under load", &report.publishing.about(), report.publishing.table())?;
    section(text, "TCP between two hosts", &report.tcp.about(), report.tcp.table())?;

    writeln!(text, "\n## Wire\n")?;
    writeln!(
        text,
        "veth pairs between network namespaces, one direction, all far ends in NAPI; the sinks and the devmap peer run {} XDP. \
         `x / y` is a ratio of paired runs: of a latency, smaller is better.",
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
    case.notes().iter().try_for_each(|note| writeln!(text, "- {note}"))
}

/// A heading, what the figures mean, and the figures, if there are any.
fn section(text: &mut String, heading: &str, about: &str, mut table: Table) -> std::fmt::Result {
    writeln!(text, "\n## {heading}\n\n{about}")?;
    if table.row_iter().next().is_some() {
        table.load_style(presets::ASCII_MARKDOWN);
        writeln!(text, "\n{table}")?;
    }
    Ok(())
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
