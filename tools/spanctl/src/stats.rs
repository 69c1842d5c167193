//! `stats`.

use std::path::Path;

use spanwire::control::state::{self, EntryRow, StatsReport, Values};

use crate::args::StatsArgs;
use crate::output::{Failure, Output};
use crate::show::{dataplane, warn_if_old};
use crate::table::{Rows, port, printable, rate};

/// To the top left corner, and clear from there on.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows every counter, once or until interrupted.
pub(crate) fn stats(dir: &Path, args: &StatsArgs, out: &Output) -> Result<(), Failure> {
    loop {
        let report = state::stats(dir)?;
        warn_if_old(&report.dataplane);
        match (out.json, args.watch) {
            (true, true) => out.line(&report)?,
            (true, false) => out.document(&report)?,
            (false, true) if out.is_terminal() => {
                out.raw(CLEAR)?;
                out.text(&text(&report))?;
            }
            (false, true) => out.text(&format!("{}\n", text(&report)))?,
            (false, false) => out.text(&text(&report))?,
        }
        out.flush()?;
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(args.interval);
    }
}

fn text(report: &StatsReport) -> String {
    let mut text = format!("{}\n", dataplane(&report.dataplane));
    for entry in &report.mirrors {
        ledger(report, entry, &mut text);
    }
    ports(report, &mut text);
    rows(
        "umem (frames)",
        &["shard", "partition"],
        report.umem.iter().map(|row| ([row.shard.to_string(), row.partition.to_owned()], &row.values)),
        &mut text,
    );
    rows(
        "shards",
        &["shard", "cpu", "generation"],
        report.shards.iter().map(|row| {
            let s = row.shard;
            ([s.id.to_string(), s.cpu.to_string(), s.adopted_generation.to_string()], &row.values)
        }),
        &mut text,
    );
    text
}

/// One entry: a row for each count, a column for each shard.
fn ledger(report: &StatsReport, entry: &EntryRow, text: &mut String) {
    let name = |ifindex| port(ifindex, report.ports.iter().find(|p| p.ifindex == ifindex).map(|p| p.name.as_str()));
    let title = format!(
        "mirror {} -> {}, {}{}",
        name(entry.ingress_ifindex),
        name(entry.output_ifindex),
        rate(entry.rate),
        if entry.closes() { "" } else { " (the ledger does not close)" }
    );
    let shards = entry.shards.iter().map(|part| format!(">shard {}", part.shard));
    let mut table = Rows::new(["".to_owned(), "unit".to_owned(), ">total".to_owned()].into_iter().chain(shards));
    for (i, (description, total)) in entry.values.iter().enumerate() {
        let parts = entry.shards.iter().filter_map(|part| part.values.iter().nth(i));
        let parts = parts.map(|(_, value)| value.to_string());
        let head = [description.name.to_owned(), description.unit.to_owned(), total.to_string()];
        table.row(head.into_iter().chain(parts));
    }
    table.under(&title, text);
}

/// A row for each count, a column for each port. What is zero on all of them is left out, but for the traffic
/// itself.
fn ports(report: &StatsReport, text: &mut String) {
    const ALWAYS: usize = 4;
    let headings = report.ports.iter().map(|p| format!(">{}", port(p.ifindex, Some(&p.name))));
    let mut table = Rows::new(["".to_owned(), "unit".to_owned()].into_iter().chain(headings));
    let Some(first) = report.ports.first() else { return };
    for (i, (description, _)) in first.values.iter().chain(first.kernel.iter()).enumerate() {
        let values = report.ports.iter().filter_map(|p| p.values.iter().chain(p.kernel.iter()).nth(i));
        let values: Vec<u64> = values.map(|(_, value)| value).collect();
        if i < ALWAYS || values.iter().any(|&value| value != 0) {
            let head = [description.name.to_owned(), description.unit.to_owned()];
            table.row(head.into_iter().chain(values.iter().map(u64::to_string)));
        }
    }
    table.under("ports", text);
}

/// A row for each thing, a column for each count.
fn rows<'a, const N: usize>(
    title: &str,
    keys: &[&str; N],
    rows: impl Iterator<Item = ([String; N], &'a Values)>,
    text: &mut String,
) {
    let mut table: Option<Rows> = None;
    for (key, values) in rows {
        let headings = || {
            let names = values.iter().map(|(description, _)| format!(">{}", description.name));
            Rows::new(keys.iter().map(|key| format!(">{key}")).chain(names))
        };
        let cells = key.iter().map(|key| printable(key)).chain(values.iter().map(|(_, value)| value.to_string()));
        table.get_or_insert_with(headings).row(cells);
    }
    if let Some(table) = table {
        table.under(title, text);
    }
}
