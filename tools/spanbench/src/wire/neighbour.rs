//! What a busy process on every processor costs the wire while it mirrors every frame, beside the kernel's own redirect,
//! which mirrors nothing.

use std::fmt;
use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;
use spanwire::kernel::path::Path;

use super::args::{Measure, WireArgs};
use super::busy::Neighbours;
use super::error::{Result, WireError};
use super::far_ends;
use super::figures::{Latency, Run};
use super::measure::{measure, wait_ready};
use super::system::{Clones, Mode, Running, System};
use super::tester::Tester;
use crate::goal::{Bound, Goal, write_report};
use crate::interrupt;
use crate::machine::Machine;
use crate::summary::Spread;
use crate::table::{align, show};

/// What the others are compared with.
const BASE: System = System::Devmap;
/// Of the wire's p99 over the base's, on the paths that do not need a processor of their own.
const WANTED: Bound = Bound::AtMost(1.5);
/// Where latency is compared, % of a system's own rate without loss.
const LOAD: u32 = 50;

/// Clones that are on their way are waited for this long, at most.
const SETTLE: Duration = Duration::from_secs(10);

/// Options of `spanbench neighbour`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NeighbourArgs {
    #[command(flatten)]
    pub wire: WireArgs,
}

/// All systems.
#[derive(Debug, Serialize)]
pub(crate) struct NeighbourReport {
    machine: Machine,
    bytes: u32,
    trial_seconds: f64,
    /// Busy processes, one a processor.
    neighbours: usize,
    systems: Vec<Beside>,
    /// What the wire's latency is to be.
    pub goals: Vec<Goal>,
}

/// One system beside busy neighbours.
#[derive(Debug, Serialize)]
struct Beside {
    system: System,
    mode: Mode,
    /// The highest rate without loss.
    zero_loss_pps: Option<Spread>,
    /// One-way latency at half of it, ns.
    p50_ns: Option<Spread>,
    p99_ns: Option<Spread>,
    /// Over those of the base in the same run.
    zero_loss_ratio: Option<Spread>,
    p50_ratio: Option<Spread>,
    p99_ratio: Option<Spread>,
    /// Frames sent at half of the rate in all runs, and lost of them.
    sent: u64,
    lost: u64,
    /// Of all that was sent; `None` where nothing is mirrored.
    clones: Option<Told>,
    #[serde(skip)]
    runs: Vec<Run>,
}

/// What became of clones, in all runs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Told {
    /// What the ledger says.
    #[serde(flatten)]
    counted: Clones,
    /// Clones that arrived at the monitor.
    arrived: u64,
}

impl Told {
    /// Selected frames whose clones neither arrived nor were counted as dropped.
    fn missing(&self) -> i64 {
        self.counted.selected as i64 - self.counted.dropped as i64 - self.arrived as i64
    }
}

/// Measures every path, the base, and tc redirect, with the first of the sizes.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &NeighbourArgs) -> Result<NeighbourReport> {
    let mut args = args.wire.clone();
    args.measure = vec![Measure::Latency];
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let bytes = args.sizes.first().copied().unwrap_or(64);
    let lab = far_ends::lay()?;
    let mut tester = Tester::new(&lab, bytes as usize, setup.xdp_mode, setup.tester_cpu)?;
    // Traffic comes from outside, and does not wait for a processor here.
    tester.goes_first();
    let ours = args.paths().into_iter().map(|path| Beside::new(System::Spanwire(path), Mode::Mirror));
    let peers = [BASE, System::Tc].map(|peer| Beside::new(peer, Mode::Forward));
    let mut systems: Vec<Beside> = ours.chain(peers).collect();
    let (count, mut neighbours) = (systems.len(), 0);
    for run in 0..args.runs as usize {
        for turn in 0..count {
            let beside = &mut systems[(run + turn) % count];
            eprint!("run {}/{}, busy neighbours, {}:", run + 1, args.runs, beside.system.as_str());
            let mut running = beside.system.start(&lab, beside.mode, &setup)?;
            let before = tester.monitored()?;
            wait_ready(&mut tester, beside.system, running.as_mut(), beside.mode)?;
            let mut busy = Neighbours::start()?;
            let measured = measure(&args, &mut tester);
            eprintln!();
            let (result, _) = measured?;
            if !busy.all_run() {
                return Err(WireError::Thread("busy neighbour's"));
            }
            neighbours = busy.count();
            drop(busy);
            let (clones, arrived) = settled(running.as_ref(), || Ok(tester.monitored()? - before))?;
            beside.add(result, clones, arrived);
        }
    }
    sum_up(&mut systems);
    let goals = goals(&systems);
    let trial_seconds = args.trial().as_secs_f64();
    Ok(NeighbourReport { machine: Machine::here(), bytes, trial_seconds, neighbours, systems, goals })
}

/// A system's clones and those that have arrived, once none is on its way any more or that has been waited for long enough.
fn settled(running: &dyn Running, arrived: impl Fn() -> Result<u64>) -> Result<(Option<Clones>, u64)> {
    let start = Instant::now();
    loop {
        // In this order: what has arrived was selected before.
        let (here, clones) = (arrived()?, running.clones()?);
        if clones.is_none_or(|told| told.selected == told.dropped + here) || start.elapsed() >= SETTLE {
            return Ok((clones, here));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Beside {
    fn new(system: System, mode: Mode) -> Beside {
        Beside {
            system,
            mode,
            zero_loss_pps: None,
            p50_ns: None,
            p99_ns: None,
            zero_loss_ratio: None,
            p50_ratio: None,
            p99_ratio: None,
            sent: 0,
            lost: 0,
            clones: None,
            runs: Vec::new(),
        }
    }

    fn add(&mut self, run: Run, clones: Option<Clones>, arrived: u64) {
        if let Some(latency) = at_half(&run) {
            self.sent += latency.offered;
            self.lost += latency.offered.saturating_sub(latency.received);
        }
        if let Some(counted) = clones {
            let told = self.clones.get_or_insert_default();
            told.counted += counted;
            told.arrived += arrived;
        }
        self.runs.push(run);
    }

    fn column(&self, figure: impl Fn(&Run) -> Option<f64>) -> Vec<Option<f64>> {
        self.runs.iter().map(figure).collect()
    }
}

fn at_half(run: &Run) -> Option<&Latency> {
    run.latency.iter().find(|latency| latency.load_percent == LOAD)
}

/// Figures and ratios; the runs of all must be in the same order.
fn sum_up(systems: &mut [Beside]) {
    let figures: [fn(&Run) -> Option<f64>; 3] = [
        |run| run.zero_loss_pps,
        |run| at_half(run).map(|latency| latency.p50_ns as f64),
        |run| at_half(run).map(|latency| latency.p99_ns as f64),
    ];
    let base = systems.iter().find(|beside| beside.system == BASE);
    let theirs = figures.map(|figure| base.map(|base| base.column(figure)).unwrap_or_default());
    for beside in systems {
        let ours = figures.map(|figure| beside.column(figure));
        let spread = |column: &[Option<f64>]| Spread::of(&column.iter().copied().flatten().collect::<Vec<_>>());
        [beside.zero_loss_pps, beside.p50_ns, beside.p99_ns] = ours.each_ref().map(|column| spread(column));
        if beside.system != BASE {
            let ratio = |at: usize| Spread::of_ratios(&ours[at], &theirs[at]);
            [beside.zero_loss_ratio, beside.p50_ratio, beside.p99_ratio] = [0, 1, 2].map(ratio);
        }
    }
}

fn goals(systems: &[Beside]) -> Vec<Goal> {
    let wanted = |beside: &&Beside| matches!(beside.system, System::Spanwire(Path::Xdp | Path::Tc));
    let goal = |beside: &Beside| {
        let names = (beside.system.as_str(), BASE.as_str());
        let what = format!("busy neighbours, mirroring every frame: p99 at {LOAD} %, {} / {}", names.0, names.1);
        Goal::new(what, WANTED, beside.p99_ratio)
    };
    systems.iter().filter(wanted).map(goal).collect()
}

impl NeighbourReport {
    /// The systems, without a style.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header([
            "system",
            "no loss, kpps",
            "/ devmap",
            "p50 at 50 %, µs",
            "/ devmap",
            "p99 at 50 %, µs",
            "/ devmap",
            "sent",
            "lost",
            "selected",
            "at monitor",
            "dropped, counted",
            "missing",
        ]);
        for beside in &self.systems {
            let figure = |spread: &Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| show(&spread, 1e3));
            let ratio = |spread: &Option<Spread>| Spread::text_or_dash(spread, 1.0, 2);
            let count =
                |of: fn(&Told) -> i64| beside.clones.map_or_else(|| "-".to_owned(), |told| of(&told).to_string());
            table.add_row([
                beside.system.as_str().to_owned(),
                figure(&beside.zero_loss_pps),
                ratio(&beside.zero_loss_ratio),
                figure(&beside.p50_ns),
                ratio(&beside.p50_ratio),
                figure(&beside.p99_ns),
                ratio(&beside.p99_ratio),
                beside.sent.to_string(),
                beside.lost.to_string(),
                count(|told| told.counted.selected as i64),
                count(|told| told.arrived as i64),
                count(|told| told.counted.dropped as i64),
                count(Told::missing),
            ]);
        }
        align(&mut table);
        table
    }

    /// What the figures mean.
    pub(crate) fn about(&self) -> String {
        format!(
            "Frames of {} bytes over veth beside {} busy processes, one on each processor; trials of {} s; median \
             (lowest-highest). spanwire mirrors every frame, the others only forward. Clones may be dropped; those that \
             neither arrived nor were counted are missing.",
            self.bytes, self.neighbours, self.trial_seconds
        )
    }
}

impl fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_report(f, &self.about(), self.table(), &self.goals)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::sequence::Verdict;

    fn run(rate: f64, p99_ns: u64) -> Run {
        let latency = |load_percent, p99_ns| Latency {
            load_percent,
            offered_pps: rate / 2.0,
            offered: 100,
            received: 99,
            monitored: 90,
            order: Verdict::default(),
            undelivered: 0,
            p50_ns: 1,
            p90_ns: 2,
            p99_ns,
            p999_ns: p99_ns,
            max_ns: p99_ns,
        };
        Run { zero_loss_pps: Some(rate), latency: vec![latency(10, 7), latency(50, p99_ns)], ..Run::default() }
    }

    #[test]
    fn latencies_at_half_load_are_compared_with_those_of_the_same_run() {
        let mut systems = [System::Spanwire(Path::Tc), System::Spanwire(Path::Shard), BASE]
            .map(|system| Beside::new(system, Mode::Forward));
        for (ours, theirs) in [(20, 10), (30, 30), (10, 20)] {
            systems[0].add(run(5.0, ours), Some(Clones { selected: 100, dropped: 4, ..Clones::default() }), 95);
            systems[1].add(run(5.0, 4 * theirs), None, 0);
            systems[2].add(run(10.0, theirs), None, 0);
        }
        sum_up(&mut systems);
        let ratio = systems[0].p99_ratio.unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.0, 0.5, 2.0));
        assert_eq!(systems[0].zero_loss_ratio.unwrap().median, 0.5);
        assert!(systems[2].p99_ratio.is_none());
        assert_eq!((systems[0].sent, systems[0].lost), (300, 3));
        assert_eq!(systems[0].clones.map(|told| told.missing()), Some(3));
        let goals = goals(&systems);
        assert_eq!(goals.len(), 1, "none for the shard path, which has to share its processor");
        assert_eq!(goals[0].met, Some(true));
    }
}
