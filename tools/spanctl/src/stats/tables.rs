//! A reading of the counters as tables for people.

use std::fmt::{Display, Write};

use shm_layout::counters::{Binding, Crossed, Entry, Kernel};
use spanwire::control::state::{EntryRow, PathRow, StatsReport, Values, attained_rate};

use super::rates::{MIRROR, PORT, Rates, dropped};
use crate::show::dataplane;
use crate::table::{Rows, port, printable, rate};

/// A reading as text: with `all`, every counter and the part of each shard in each entry; with `rates`, how fast
/// the counters grow.
pub(super) fn text(report: &StatsReport, all: bool, rates: Option<&Rates<'_>>) -> String {
    let mut text = format!("{}\n", dataplane(&report.dataplane));
    mirrors(report, all, rates, &mut text);
    ports(report, all, rates, &mut text);
    paths(report, all, &mut text);
    umem(report, &mut text);
    shards(report, &mut text);
    text
}

/// A port, by the kernel's name or else by the snapshot's.
fn name(report: &StatsReport, ifindex: u32) -> String {
    let kernels = report.ports.iter().find(|p| p.ifindex == ifindex).map(|p| &p.name).filter(|name| !name.is_empty());
    port(ifindex, kernels.or_else(|| report.names.get(&ifindex)).map(String::as_str))
}

/// One entry, or its part on one shard.
struct Line<'a> {
    entry: &'a EntryRow,
    shard: Option<u32>,
    values: &'a Values,
}

fn mirrors(report: &StatsReport, all: bool, rates: Option<&Rates<'_>>, text: &mut String) {
    const FIRST: [(&str, &str); 4] = [
        (Entry::Observed.name(), "observed"),
        (Entry::Selected.name(), "selected"),
        (Entry::MirroredPackets.name(), "mirrored"),
        (Entry::InFlight.name(), "in flight"),
    ];
    const ROUTINE: [&str; 3] = [Entry::NotSampled.name(), Entry::MirroredBytes.name(), Entry::MirroredSegments.name()];
    let mut lines = Vec::new();
    for entry in &report.mirrors {
        lines.push(Line { entry, shard: None, values: &entry.values });
        let parts = entry.shards.iter().filter(|_| all);
        lines.extend(parts.map(|part| Line { entry, shard: Some(part.shard), values: &part.values }));
    }
    let name = |ifindex: u32| name(report, ifindex);
    let mut table = Columns::default();
    table.text("ingress", lines.iter().map(|line| name(line.entry.ingress_ifindex)));
    table.text("output", lines.iter().map(|line| name(line.entry.output_ifindex)));
    if all {
        let shard = |line: &Line<'_>| line.shard.map_or_else(|| "all".to_owned(), |shard| shard.to_string());
        table.text("shard", lines.iter().map(shard));
    }
    table.text("asked", lines.iter().map(|line| rate(line.entry.rate)));
    table.text("attained", lines.iter().map(|line| attained(attained_rate(line.values))));
    if let Some(rates) = rates {
        let of = |line: &Line<'_>| line.shard.map_or_else(|| rates.mirror(line.entry), |_| [None; 4]);
        table.rates(MIRROR, lines.iter().map(of).collect());
    }
    let rows: Vec<_> = lines.iter().map(|line| vec![line.values]).collect();
    table.first(&rows, &FIRST);
    table.number("dropped", lines.iter().map(|line| dropped(line.values)));
    table.rest(&rows, &FIRST, |name, values| all || (any(values) && !ROUTINE.contains(&name)));
    table.under("mirrors (frames)", text);
    for entry in report.mirrors.iter().filter(|entry| !entry.closes()) {
        let (ingress, output) = (name(entry.ingress_ifindex), name(entry.output_ifindex));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  wrong: the ledger of {ingress} -> {output} does not close");
    }
}

fn ports(report: &StatsReport, all: bool, rates: Option<&Rates<'_>>, text: &mut String) {
    const FIRST: [(&str, &str); 4] = [
        (Binding::RxPackets.name(), "rx"),
        (Binding::RxBytes.name(), "rx bytes"),
        (Binding::TxPackets.name(), "tx"),
        (Binding::TxBytes.name(), "tx bytes"),
    ];
    const ROUTINE: [&str; 4] =
        [Binding::Kicks.name(), Binding::KicksAgain.name(), Binding::Outstanding.name(), Kernel::TxRingEmpty.name()];
    let mut table = Columns::default();
    table.text("port", report.ports.iter().map(|p| port(p.ifindex, Some(&p.name))));
    if let Some(rates) = rates {
        table.rates(PORT, report.ports.iter().map(|port| rates.port(port)).collect());
    }
    let rows: Vec<_> =
        report.ports.iter().map(|p| vec![&p.counts.values, &p.counts.kernel, &p.counts.sights]).collect();
    table.first(&rows, &FIRST);
    table.number("loss", report.ports.iter().map(|port| known(port.loss)));
    table.rest(&rows, &FIRST, |name, values| all || (any(values) && !ROUTINE.contains(&name)));
    table.under("ports (frames)", text);
}

/// Of the wires on the kernel path, and of those that were there.
fn paths(report: &StatsReport, all: bool, text: &mut String) {
    const FIRST: [(&str, &str); 2] = [(Crossed::Packets.name(), "crossed"), (Crossed::Bytes.name(), "bytes")];
    let has_crossed = |path: &PathRow| path.crossed.iter().any(|(_, value)| value > 0);
    let ways: Vec<_> = report.paths.iter().filter(|path| all || path.is_in_kernel() || has_crossed(path)).collect();
    let mut table = Columns::default();
    table.text("from", ways.iter().map(|path| name(report, path.ifindex)));
    table.text("to", ways.iter().map(|path| name(report, path.peer_ifindex)));
    table.text("path", ways.iter().map(|path| printable(path.path.as_deref().unwrap_or("-"))));
    let rows: Vec<Vec<&Values>> =
        ways.iter().map(|path| [&path.crossed].into_iter().chain(&path.lost_by).collect()).collect();
    table.first(&rows, &FIRST);
    table.number("lost", ways.iter().map(|path| known(path.lost)));
    table.rest(&rows, &FIRST, |_, values| all || any(values));
    table.under("paths (frames)", text);
}

/// A count; it may not be known.
fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

fn umem(report: &StatsReport, text: &mut String) {
    let mut table = Columns::default();
    table.number("shard", report.umem.iter().map(|row| row.shard));
    table.text("partition", report.umem.iter().map(|row| row.partition));
    let rows: Vec<_> = report.umem.iter().map(|row| vec![&row.values]).collect();
    table.rest(&rows, &[], |_, _| true);
    table.under("umem (frames)", text);
}

fn shards(report: &StatsReport, text: &mut String) {
    let shards = &report.shards;
    let mut table = Columns::default();
    table.number("shard", shards.iter().map(|row| row.shard.id));
    table.number("cpu", shards.iter().map(|row| row.shard.cpu));
    table.number("generation", shards.iter().map(|row| row.shard.adopted_generation));
    let rows: Vec<_> = shards.iter().map(|row| vec![&row.values]).collect();
    table.rest(&rows, &[], |_, _| true);
    table.number("swap p50", shards.iter().map(|row| duration(row.swap_latency.p50_ns)));
    table.number("p99", shards.iter().map(|row| duration(row.swap_latency.p99_ns)));
    table.number("max", shards.iter().map(|row| duration(row.swap_latency.max_ns)));
    table.under("shards", text);
}

/// A table by its columns.
#[derive(Default)]
struct Columns(Vec<(String, Vec<String>)>);

impl Columns {
    fn text(&mut self, heading: &str, cells: impl Iterator<Item = impl Display>) {
        self.0.push((heading.to_owned(), cells.map(|cell| cell.to_string()).collect()));
    }

    fn number(&mut self, heading: &str, cells: impl Iterator<Item = impl Display>) {
        self.text(&format!(">{heading}"), cells);
    }

    /// A column for each rate; `None` where there is none.
    fn rates<const N: usize>(&mut self, headings: [&str; N], rows: Vec<[Option<f64>; N]>) {
        for (i, heading) in headings.into_iter().enumerate() {
            let cell = |row: &[Option<f64>; N]| row[i].map_or_else(|| "-".to_owned(), per_second);
            self.number(heading, rows.iter().map(cell));
        }
    }

    /// A column for each of these counters, by name and heading.
    fn first(&mut self, rows: &[Vec<&Values>], counters: &[(&str, &str)]) {
        for (name, heading) in counters {
            self.number(heading, column(rows, name).into_iter());
        }
    }

    /// A column for each other counter that is worth one.
    fn rest(&mut self, rows: &[Vec<&Values>], first: &[(&str, &str)], is_worth: impl Fn(&str, &[u64]) -> bool) {
        // Rows that nothing was added up for lack what only a newer dataplane counts.
        let names = |row: &Vec<&Values>| -> Vec<String> {
            row.iter().flat_map(|values| values.iter().map(|(meaning, _)| meaning.name.to_owned())).collect()
        };
        for name in rows.iter().map(names).max_by_key(Vec::len).unwrap_or_default() {
            let values = column(rows, &name);
            if first.iter().all(|(other, _)| *other != name) && is_worth(&name, &values) {
                self.number(&printable(name.strip_prefix("mirror_").unwrap_or(&name)), values.into_iter());
            }
        }
    }

    fn under(self, title: &str, text: &mut String) {
        let (headings, columns): (Vec<String>, Vec<Vec<String>>) = self.0.into_iter().unzip();
        let mut rows = Rows::new(headings);
        for i in 0..columns.first().map_or(0, Vec::len) {
            rows.row(columns.iter().map(|column| column.get(i).cloned().unwrap_or_default()));
        }
        rows.under(title, text);
    }
}

/// A counter in each row.
fn column(rows: &[Vec<&Values>], name: &str) -> Vec<u64> {
    // One part of a row has it, and counts 0 in the others.
    rows.iter().map(|row| row.iter().map(|values| values.get(name)).sum()).collect()
}

fn any(values: &[u64]) -> bool {
    values.iter().any(|&value| value != 0)
}

/// An attained rate as rates are asked for.
fn attained(rate: Option<f64>) -> String {
    let Some(rate) = rate else { return "-".to_owned() };
    let text = format!("{rate:.1}");
    match text.strip_suffix(".0").unwrap_or(&text) {
        "1" => "every frame".to_owned(),
        n => format!("1 in {n}"),
    }
}

/// With a decimal where that says something.
fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 99.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn duration(ns: u64) -> String {
    let x = ns as f64;
    match ns {
        0 => "-".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", x / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", x / 1e6),
        _ => format!("{:.1} s", x / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_say_them() {
        for (rate, want) in [
            (None, "-"),
            (Some(1.0), "every frame"),
            (Some(1.04), "every frame"),
            (Some(7.0), "1 in 7"),
            (Some(100.25), "1 in 100.2"),
        ] {
            assert_eq!(attained(rate), want);
        }
        for (rate, want) in [(0.0, "0"), (0.25, "0.2"), (99.0, "99.0"), (99.95, "100"), (1_488_095.2, "1488095")] {
            assert_eq!(per_second(rate), want);
        }
        for (ns, want) in
            [(0, "-"), (999, "999 ns"), (12_345, "12.3 µs"), (2_000_000, "2.0 ms"), (u64::MAX, "18446744073.7 s")]
        {
            assert_eq!(duration(ns), want);
        }
    }
}
