//! What was measured, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::figures::{Max, Run};
use super::placement::Placement;
use super::sequence::Verdict;
use super::system::{Mode, System};
use crate::goal::{Goal, with_goals};
use crate::machine::Machine;
use crate::summary::Spread;
use crate::table::{align, show};

/// All cases.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WireReport {
    /// Where.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// Peers that are missing, with the reason.
    pub left_out: Vec<LeftOut>,
    /// One for each mode and frame length.
    pub cases: Vec<Case>,
    /// What spanwire is to reach beside its peers.
    pub goals: Vec<Goal>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// Runs of each system, alternating with the others.
    pub runs: usize,
    /// Seconds of each trial.
    pub trial_seconds: f64,
    /// Width of the search's last interval, part of the highest rate.
    pub resolution: f64,
    /// Times a failed trial is tried again.
    pub retries: u32,
    /// Mode of the sinks' and the peers' XDP programs.
    pub xdp_mode: &'static str,
    /// At rates above a tenth, 1 in so many frames was looked at.
    pub sampled: u32,
    /// Options of the daemon beyond the usual ones.
    pub spanwired_args: Vec<String>,
}

/// A peer that was not measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeftOut {
    /// Which.
    pub system: System,
    /// In which mode.
    pub mode: Mode,
    /// Why.
    pub reason: String,
}

/// One mode at one frame length.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    /// What the systems did.
    pub mode: Mode,
    /// Frame length without the checksum.
    pub bytes: usize,
    /// Frames a second that the tester sends where the first port drops them all, by run.
    pub tester_alone_pps: Vec<f64>,
    /// The systems, spanwire first.
    pub systems: Vec<SystemRuns>,
    /// The figures of spanwire on each path over those of each peer, run by run.
    pub ratios: Vec<Ratios>,
}

/// One system's runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SystemRuns {
    /// Which.
    pub system: System,
    /// Version and ways.
    pub note: String,
    /// Where it ran, in the last run.
    pub placement: Option<Placement>,
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// Median and spread by figure.
    pub figures: BTreeMap<String, Spread>,
    /// Whether it took all that the tester could send: its maximum is then a bound of the tester, on whose
    /// processor the receive path of the first port runs too.
    pub took_all: bool,
}

/// spanwire on one path over one peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratios {
    /// spanwire.
    pub system: System,
    /// The peer.
    pub peer: System,
    /// Median and spread of the ratios of paired runs, by figure. Of a latency, smaller is better.
    pub figures: BTreeMap<String, Spread>,
}

impl Case {
    /// A case without runs.
    pub(crate) fn new(mode: Mode, bytes: usize, systems: &[System]) -> Case {
        let runs = |&system| SystemRuns {
            system,
            note: String::new(),
            placement: None,
            runs: Vec::new(),
            figures: BTreeMap::new(),
            took_all: false,
        };
        let systems = systems.iter().map(runs).collect();
        Case { mode, bytes, tester_alone_pps: Vec::new(), systems, ratios: Vec::new() }
    }

    /// Sums up the runs, which must be in the same order for each system.
    pub(crate) fn sum_up(&mut self) {
        let mode = self.mode;
        let figures = |system: &SystemRuns| -> Vec<BTreeMap<String, f64>> {
            system.runs.iter().map(|run| run.figures(mode)).collect()
        };
        let all: Vec<_> = self.systems.iter().map(figures).collect();
        let names = |runs: &[BTreeMap<String, f64>]| -> Vec<String> {
            let mut names: Vec<String> = runs.iter().flat_map(|run| run.keys().cloned()).collect();
            names.sort();
            names.dedup();
            names
        };
        let column = |runs: &[BTreeMap<String, f64>], name: &str| -> Vec<Option<f64>> {
            runs.iter().map(|run| run.get(name).copied()).collect()
        };
        for (system, runs) in self.systems.iter_mut().zip(&all) {
            let spread = |name: String| {
                let values: Vec<f64> = column(runs, &name).into_iter().flatten().collect();
                Some((name, Spread::of(&values)?))
            };
            system.figures = names(runs).into_iter().filter_map(spread).collect();
            let took_all = |max: &Max| max.received as f64 >= TOOK_ALL * max.offered as f64;
            system.took_all = system.runs.iter().filter_map(|run| run.max.as_ref()).all(took_all);
        }
        let measured = || self.systems.iter().map(|runs| runs.system).zip(&all);
        let mut ratios = Vec::new();
        for (system, ours) in measured().filter(|(system, _)| system.is_ours()) {
            for (peer, theirs) in measured().filter(|(system, _)| !system.is_ours()) {
                let ratio = |name: String| {
                    let spread = Spread::of_ratios(&column(ours, &name), &column(theirs, &name))?;
                    Some((name, spread))
                };
                ratios.push(Ratios { system, peer, figures: names(ours).into_iter().filter_map(ratio).collect() });
            }
        }
        self.ratios = ratios;
    }

    /// Systems and ratios by figure, without a style.
    pub(crate) fn table(&self) -> Table {
        let there: Vec<_> = COLUMNS
            .iter()
            .filter(|(name, ..)| self.systems.iter().any(|system| system.figures.contains_key(*name)))
            .collect();
        let mut table = Table::new();
        let headings = there.iter().map(|(_, heading, _)| (*heading).to_owned());
        table.set_header(std::iter::once("system".to_owned()).chain(headings));
        let mut add = |label: String, figures: &BTreeMap<String, Spread>, is_ratio: bool| {
            let cells = there.iter().map(|(name, _, divisor)| {
                let divisor = if is_ratio { 1.0 } else { *divisor };
                figures.get(*name).map_or_else(|| "-".to_owned(), |spread| show(spread, divisor))
            });
            table.add_row(std::iter::once(label).chain(cells));
        };
        for system in &self.systems {
            add(system.system.as_str().to_owned(), &system.figures, false);
        }
        for ratios in &self.ratios {
            add(format!("{} / {}", ratios.system.as_str(), ratios.peer.as_str()), &ratios.figures, true);
        }
        align(&mut table);
        table
    }

    /// What makes the figures doubtful: `None` where the machine had nothing else to do.
    fn doubt(&self) -> Option<String> {
        let runs = || self.systems.iter().flat_map(|system| &system.runs);
        let contended = runs().filter(|run| run.contention.is_some_and(|part| part > CONTENDED)).count();
        (contended > 0).then(|| {
            let (all, limit) = (runs().count(), CONTENDED * 100.0);
            format!(
                "DOUBTFUL: in {contended} of {all} runs, threads waited for a processor more than {limit} % of the time"
            )
        })
    }

    /// What is to be said of each system, one line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |system: &SystemRuns| {
            let mut note = format!("{}: {}", system.system.as_str(), system.note);
            if system.took_all && system.figures.contains_key("max_sink_pps") {
                note += "; took all that the tester could send";
            }
            if let Some(placement) = &system.placement {
                note += &format!("; {placement}");
            }
            note
        };
        let mut notes: Vec<String> = Spread::of(&self.tester_alone_pps)
            .map(|alone| format!("the tester alone, into a drop at the first port: {} kpps", show(&alone, 1e3)))
            .into_iter()
            .chain(self.doubt())
            .collect();
        notes.extend(self.systems.iter().map(note));
        notes
    }

    /// `forward, 64 bytes`
    pub(crate) fn title(&self) -> String {
        let what = match self.mode {
            Mode::Forward => "forward",
            Mode::Mirror => "forward and mirror every frame",
        };
        format!("{what}, {} bytes", self.bytes)
    }
}

/// Part of the offered frames from which on a system took all.
const TOOK_ALL: f64 = 0.99;

/// With more of the time contended than this, other processes were at work.
const CONTENDED: f64 = 0.1;

/// The columns of the tables: figure, heading, divisor for the unit shown.
pub(crate) const COLUMNS: [(&str, &str, f64); 8] = [
    ("max_sink_pps", "max at sink, kpps", 1e3),
    ("max_monitor_pps", "max at monitor, kpps", 1e3),
    ("zero_loss_pps", "no loss, kpps", 1e3),
    ("half_percent_pps", "0.5 % loss, kpps", 1e3),
    ("latency_10_p99_ns", "p99 at 10 %, µs", 1e3),
    ("latency_50_p50_ns", "p50 at 50 %, µs", 1e3),
    ("latency_50_p99_ns", "p99 at 50 %, µs", 1e3),
    ("latency_90_p99_ns", "p99 at 90 %, µs", 1e3),
];

impl fmt::Display for WireReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { runs, trial_seconds, .. } = self.settings;
        let Machine { cpu, cpus, kernel, spanwire, build, .. } = &self.machine;
        writeln!(f, "{cpu}, {cpus} CPUs, Linux {kernel}, spanwire {spanwire} ({build} build)")?;
        write!(f, "median (lowest-highest) of {runs} alternating runs, trials of {trial_seconds} s")?;
        for left in &self.left_out {
            write!(f, "\nleft out in mode {}: {}: {}", left.mode.as_str(), left.system.as_str(), left.reason)?;
        }
        for case in &self.cases {
            write!(f, "\n\n{}", case.title())?;
            let mut table = case.table();
            table.load_style(presets::NOTHING);
            write!(f, "\n{table}")?;
            case.notes().iter().try_for_each(|note| write!(f, "\n{note}"))?;
            for system in &case.systems {
                let odd: Vec<_> = system
                    .runs
                    .iter()
                    .flat_map(|run| &run.latency)
                    .filter(|latency| !latency.order.is_clean())
                    .collect();
                for latency in odd {
                    let Verdict { expected, lost, duplicated, reordered, stray } = latency.order;
                    write!(
                        f,
                        "\n{} at {} %: of {expected} frames looked at, {lost} lost ({} by the bench), {duplicated} \
                         duplicated, {reordered} reordered, {stray} stray",
                        system.system.as_str(),
                        latency.load_percent,
                        latency.undelivered,
                    )?;
                }
            }
        }
        with_goals(f, &self.goals)
    }
}

#[cfg(test)]
mod tests {
    use spanwire::kernel::path::Path;

    use super::*;

    fn run(pps: f64) -> Run {
        let max = Max {
            offered_pps: pps,
            sink_pps: pps,
            monitor_pps: 0.0,
            offered: 1,
            refused: 0,
            received: 1,
            monitored: 0,
            foreign: 0,
        };
        Run { max: Some(max), ..Run::default() }
    }

    #[test]
    fn ratios_are_of_paired_runs() {
        let mut case = Case::new(Mode::Forward, 64, &[System::Spanwire(Path::Xdp), System::Tc]);
        case.systems[0].runs = [2.0, 6.0, 4.0].map(run).to_vec();
        case.systems[1].runs = [1.0, 2.0, 4.0].map(run).to_vec();
        case.sum_up();
        assert_eq!(case.systems[0].figures["max_sink_pps"].median, 4.0);
        assert_eq!(case.ratios.len(), 1);
        let ratio = &case.ratios[0].figures["max_sink_pps"];
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 1.0, 3.0));
        assert!(!case.ratios[0].figures.contains_key("max_monitor_pps"), "nothing is mirrored in this mode");
    }
}
