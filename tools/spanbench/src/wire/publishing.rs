//! What publishes cost the frames that cross meanwhile: trials with and without a publish every few milliseconds.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use shm_layout::header::RegionKind;
use spanwire::control::state::published;
use spanwire::kernel::path;
use spanwire::region::{CONFIG_FILE, Publisher};

use super::args::WireArgs;
use super::error::{Result, WireError};
use super::far_ends;
use super::measure::wait_ready;
use super::system::spanwire::Spanwire;
use super::system::{Mode, System};
use super::tester::{Load, Outcome, Tester};
use crate::interrupt;
use crate::machine::Machine;
use crate::summary::Spread;
use crate::table::align;

/// Options of `spanbench publishing`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PublishingArgs {
    #[command(flatten)]
    pub wire: WireArgs,
    /// Milliseconds between two publishes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub pause_ms: u64,
}

/// Both kinds of trials.
#[derive(Debug, Serialize)]
pub(crate) struct PublishingReport {
    machine: Machine,
    bytes: u32,
    trial_seconds: f64,
    pause_ms: u64,
    /// Publishes in all runs.
    publishes: u64,
    loads: Vec<Loaded>,
}

/// One load on one path. Pairs are without and with publishes.
#[derive(Debug, Serialize)]
struct Loaded {
    /// How frames cross.
    path: &'static str,
    load: &'static str,
    /// Frames a second at the sink.
    pps: [Option<Spread>; 2],
    /// That with publishes over that without, of the same run.
    ratio: Option<Spread>,
    /// One-way latency, ns, of the frames that were looked at.
    p50_ns: [Option<Spread>; 2],
    p99_ns: [Option<Spread>; 2],
    /// As `ratio`, of the latency at p99.
    p99_ratio: Option<Spread>,
    /// Frames sent, and lost on the way, in all runs.
    sent: [u64; 2],
    lost: [u64; 2],
}

/// What came of the trials of one load, by whether there were publishes.
#[derive(Default)]
struct Trials {
    pps: [Vec<Option<f64>>; 2],
    p50: [Vec<Option<f64>>; 2],
    p99: [Vec<Option<f64>>; 2],
    sent: [u64; 2],
    lost: [u64; 2],
}

/// Measures at the highest load and at half of the rate it gets across, with the first of the sizes.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &PublishingArgs) -> Result<PublishingReport> {
    let (pause, args) = (Duration::from_millis(args.pause_ms), &args.wire);
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let bytes = args.sizes.first().copied().unwrap_or(64);
    let lab = far_ends::lay()?;
    let mut tester = Tester::new(&lab, bytes as usize, setup.xdp_mode, setup.tester_cpu)?;
    let (mut publishes, mut loads) = (0, Vec::new());
    for path in args.paths() {
        let mut daemon = Spanwire::start_mirroring(&lab, path, None, &setup)?;
        wait_ready(&mut tester, System::Spanwire(path), &mut daemon, Mode::Forward)?;
        loads.extend(measure(args, pause, &mut tester, (path, daemon.dir()), &mut publishes)?);
    }
    let (trial_seconds, pause_ms) = (args.trial().as_secs_f64(), pause.as_millis() as u64);
    Ok(PublishingReport { machine: Machine::here(), bytes, trial_seconds, pause_ms, publishes, loads })
}

/// The loads on one path, of a dataplane that runs with this directory.
fn measure(
    args: &WireArgs,
    pause: Duration,
    tester: &mut Tester,
    (path, dir): (path::Path, &Path),
    publishes: &mut u64,
) -> Result<Vec<Loaded>> {
    let mut trial = |rate: Option<f64>, publishing: bool| -> Result<Outcome> {
        let over = AtomicBool::new(!publishing);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| publish_until(&over, dir, pause));
            let outcome = tester.run(Load { rate, duration: args.trial(), every: args.sample });
            over.store(true, Ordering::Relaxed);
            *publishes += publisher.join().map_err(|_| WireError::Thread("publisher"))??;
            outcome
        })
    };
    let half = trial(None, false)?.sink_pps / 2.0;
    let mut loads = Vec::new();
    for (load, rate) in [("highest", None), ("half", Some(half))] {
        eprint!("{path}, {load}:");
        let mut trials = Trials::default();
        for run in 0..args.runs {
            for publishing in if run % 2 == 0 { [false, true] } else { [true, false] } {
                let outcome = trial(rate, publishing)?;
                eprint!(" {:.0}", outcome.sink_pps / 1e3);
                trials.add(usize::from(publishing), &outcome);
            }
        }
        eprintln!();
        loads.push(trials.summed_up(path.as_str(), load));
    }
    Ok(loads)
}

/// Publishes again what is published, until it is `over`. Returns how often.
fn publish_until(over: &AtomicBool, dir: &Path, pause: Duration) -> Result<u64> {
    let configure = |error: &dyn fmt::Display| WireError::Configure(error.to_string());
    let image = published(dir).map_err(|error| configure(&error))?;
    let mut image = image.ok_or_else(|| configure(&"nothing has been published"))?.into_image();
    let mut publisher = Publisher::open(dir, CONFIG_FILE, RegionKind::Config, Duration::from_secs(5))
        .map_err(|error| configure(&error))?;
    let mut publishes = 0;
    while !over.load(Ordering::Relaxed) {
        publisher.publish(&mut image).map_err(|error| configure(&error))?;
        publishes += 1;
        std::thread::sleep(pause);
    }
    Ok(publishes)
}

impl Trials {
    fn add(&mut self, which: usize, outcome: &Outcome) {
        let at = |quantile| outcome.seen.as_ref().map(|seen| seen.latency.value_at_quantile(quantile) as f64);
        self.pps[which].push(Some(outcome.sink_pps));
        self.p50[which].push(at(0.5));
        self.p99[which].push(at(0.99));
        self.sent[which] += outcome.offered;
        self.lost[which] += outcome.offered.saturating_sub(outcome.received);
    }

    fn summed_up(self, path: &'static str, load: &'static str) -> Loaded {
        let of = |figures: &Vec<Option<f64>>| Spread::of(&figures.iter().copied().flatten().collect::<Vec<_>>());
        Loaded {
            path,
            load,
            pps: self.pps.each_ref().map(of),
            ratio: Spread::of_ratios(&self.pps[1], &self.pps[0]),
            p50_ns: self.p50.each_ref().map(of),
            p99_ns: self.p99.each_ref().map(of),
            p99_ratio: Spread::of_ratios(&self.p99[1], &self.p99[0]),
            sent: self.sent,
            lost: self.lost,
        }
    }
}

impl PublishingReport {
    /// The loads, without a style.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header([
            "path",
            "load",
            "publishes",
            "kpps",
            "p50, µs",
            "p99, µs",
            "sent",
            "lost",
            "kpps ratio",
            "p99 ratio",
        ]);
        let show = Spread::text_or_dash;
        for load in &self.loads {
            for (which, publishes) in ["none", "yes"].into_iter().enumerate() {
                let ratio = |spread| if which == 1 { show(spread, 1.0, 3) } else { String::new() };
                table.add_row([
                    load.path.to_owned(),
                    load.load.to_owned(),
                    publishes.to_owned(),
                    show(&load.pps[which], 1e3, 0),
                    show(&load.p50_ns[which], 1e3, 0),
                    show(&load.p99_ns[which], 1e3, 0),
                    load.sent[which].to_string(),
                    load.lost[which].to_string(),
                    ratio(&load.ratio),
                    ratio(&load.p99_ratio),
                ]);
            }
        }
        align(&mut table);
        table
    }

    /// What the figures mean.
    pub(crate) fn about(&self) -> String {
        format!(
            "Frames of {} bytes forwarded over veth, trials of {} s without publishes and with one every {} ms ({} in all) \
             in turns in one dataplane for each path; median (lowest-highest). At the highest load more is sent than gets across; the \
             other is half of what does.",
            self.bytes, self.trial_seconds, self.pause_ms, self.publishes
        )
    }
}

impl fmt::Display for PublishingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = self.table();
        table.load_style(presets::NOTHING);
        write!(f, "{}\n{table}", self.about())
    }
}
