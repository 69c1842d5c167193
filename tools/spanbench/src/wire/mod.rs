//! Real frames over real AF_XDP sockets, beside other forwarders in the same lab.
//!
//! Each run starts one system between the two ports of a wire, measures it and stops it; the systems take turns, so
//! that what disturbs the machine meets them all.
//!
//! - [`probe`]: the frame that is sent
//! - [`tester`]: sends at a rate, counts and looks at what arrives
//! - [`sink`], [`bpf`]: where frames arrive
//! - [`sequence`]: losses, duplicates and reordering
//! - [`search`]: the highest rate that passes
//! - [`system`]: what is measured
//! - [`placement`]: where it ran
//! - [`report`]: what came out

mod bpf;
mod error;
mod placement;
mod probe;
pub(crate) mod report;
mod search;
mod sequence;
mod sink;
mod system;
mod tester;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use spanwire::xsk::link::XdpMode;
use spanwire_lab::topology::{Lab, LabSpec};

use crate::interrupt;
use crate::machine::Machine;
use error::{Result, WireError};
use placement::Placement;
use report::{Case, Latency, LeftOut, Max, Run, Settings, SystemRuns, WireReport};
use search::{Trial, search};
use sink::Sink;
use system::{Mode, Running, Setup, System};
use tester::{Load, Outcome, Tester};

/// Loads at which latency is measured, % of the rate without loss.
const LOADS: [u32; 3] = [10, 50, 90];
/// Up to this load every frame is looked at, %.
const LOOK_AT_ALL: u32 = 10;
/// Loss that the second search allows.
const HALF_PERCENT: f64 = 0.005;
/// A system must forward within this time of its start.
const READY: Duration = Duration::from_secs(20);

/// Options of `spanbench wire`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WireArgs {
    /// Peers to measure beside spanwire; without this all that are installed, "none" for none
    #[arg(long, value_delimiter = ',', value_name = "testpmd,devmap,tc,bridge|none", value_parser = peer)]
    peer: Option<Vec<Peer>>,
    /// What the systems do
    #[arg(long, value_enum, value_delimiter = ',', default_value = "forward,mirror")]
    mode: Vec<Mode>,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "max,zero-loss,half-percent,latency")]
    measure: Vec<Measure>,
    /// Frame lengths without checksum, bytes
    #[arg(long, value_delimiter = ',', default_value = "64,1400", value_parser = clap::value_parser!(u32).range(60..=1514))]
    sizes: Vec<u32>,
    /// Runs of each system
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Milliseconds of each trial
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    trial_ms: u64,
    /// The searches end at an interval of this part of the highest rate, %
    #[arg(long, default_value_t = 1.0, value_parser = percent)]
    resolution: f64,
    /// Times a failed trial of a search is tried again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=10))]
    retries: u32,
    /// Above 10 % load, look at 1 in so many frames for latency and order
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Mode of the XDP programs of the sinks and of the devmap peer
    #[arg(long, value_enum, default_value_t = Xdp::Native)]
    sink_xdp: Xdp,
    /// Processor of the tester, and so of the in-kernel peers
    #[arg(long, default_value_t = 0)]
    tester_cpu: usize,
    /// Processor of spanwired and testpmd
    #[arg(long, default_value_t = 1)]
    dut_cpu: usize,
    /// The daemon; without this the one beside spanbench
    #[arg(long, value_name = "FILE")]
    spanwired: Option<PathBuf>,
    /// One more option for the daemon; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    spanwired_arg: Vec<String>,
}

/// One word of `--peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    None,
    Of(System),
}

fn peer(text: &str) -> std::result::Result<Peer, String> {
    let allowed = || format!("allowed: {}, none", System::PEERS.map(System::as_str).join(", "));
    match text {
        "none" => Ok(Peer::None),
        _ => match System::from_str(text, false) {
            Ok(system) if System::PEERS.contains(&system) => Ok(Peer::Of(system)),
            _ => Err(allowed()),
        },
    }
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=50.0).contains(&value) => Ok(value),
        _ => Err("allowed: 0.01 to 50".to_owned()),
    }
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Frames that arrive when as many as possible are sent
    Max,
    /// The highest rate without a lost frame
    ZeroLoss,
    /// The highest rate with at most 0.5 % lost
    HalfPercent,
    /// Latency and order at 10, 50 and 90 % of the rate without loss (which is then searched too)
    Latency,
}

/// `--sink-xdp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Xdp {
    /// In the driver
    Native,
    /// In the core stack
    Generic,
}

impl From<Xdp> for XdpMode {
    fn from(xdp: Xdp) -> XdpMode {
        match xdp {
            Xdp::Native => XdpMode::Native,
            Xdp::Generic => XdpMode::Generic,
        }
    }
}

/// Measures every case.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &WireArgs) -> Result<WireReport> {
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = setup(args)?;
    let (wanted, strict) = match &args.peer {
        Some(peers) => (
            peers.iter().filter_map(|peer| if let Peer::Of(system) = peer { Some(*system) } else { None }).collect(),
            true,
        ),
        None => (System::PEERS.to_vec(), false),
    };
    let mut left_out = Vec::new();
    let mut cases = Vec::new();
    for &mode in &args.mode {
        let mut systems = vec![System::Spanwire];
        for &system in &wanted {
            match system.unavailable(mode) {
                None if !systems.contains(&system) => systems.push(system),
                None => {}
                // What was named must be there, but nobody can ask testpmd to mirror.
                Some(reason) if strict && mode == Mode::Forward => {
                    return Err(WireError::System { system: system.as_str(), reason: reason.to_owned() });
                }
                Some(reason) => left_out.push(LeftOut { system, mode, reason: reason.to_owned() }),
            }
        }
        for &bytes in &args.sizes {
            let runs = |&system| SystemRuns {
                system,
                note: String::new(),
                placement: None,
                runs: Vec::new(),
                figures: BTreeMap::new(),
            };
            let systems = systems.iter().map(runs).collect();
            cases.push(Case { mode, bytes: bytes as usize, tester_alone_pps: Vec::new(), systems, ratios: Vec::new() });
        }
    }
    let lab = Lab::create(LabSpec::default())?;
    for run in 0..args.runs as usize {
        for case in &mut cases {
            measure_case(args, &lab, &setup, run, case)?;
        }
    }
    cases.iter_mut().for_each(Case::sum_up);
    let settings = Settings {
        runs: args.runs as usize,
        trial_seconds: args.trial_ms as f64 / 1e3,
        resolution: args.resolution / 100.0,
        retries: args.retries,
        xdp_mode: XdpMode::from(args.sink_xdp).as_str(),
        sampled: args.sample,
    };
    Ok(WireReport { machine: Machine::here(), settings, left_out, cases })
}

fn setup(args: &WireArgs) -> Result<Setup> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    for (option, cpu) in [("--tester-cpu", args.tester_cpu), ("--dut-cpu", args.dut_cpu)] {
        if !allowed.contains(&cpu) {
            return Err(WireError::Cpu { option, cpu, allowed });
        }
    }
    let spanwired = match &args.spanwired {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(WireError::io("finding spanwired"))?.with_file_name("spanwired"),
    };
    if !spanwired.is_file() {
        let reason =
            format!("{} is not there: build it (cargo build --release), or give --spanwired", spanwired.display());
        return Err(WireError::System { system: System::Spanwire.as_str(), reason });
    }
    Ok(Setup {
        tester_cpu: args.tester_cpu,
        dut_cpu: args.dut_cpu,
        xdp_mode: args.sink_xdp.into(),
        spanwired,
        spanwired_args: args.spanwired_arg.clone(),
    })
}

/// Measures each system once, in an order that changes from run to run.
fn measure_case(args: &WireArgs, lab: &Lab, setup: &Setup, run: usize, case: &mut Case) -> Result<()> {
    let mut tester = Tester::new(lab, case.bytes, setup.xdp_mode, setup.tester_cpu)?;
    case.tester_alone_pps.push(alone(args, lab, setup, &mut tester)?);
    let title = case.title();
    let count = case.systems.len();
    for turn in 0..count {
        let system = &mut case.systems[(run + turn) % count];
        let mut running = system.system.start(lab, case.mode, setup)?;
        eprint!("run {}/{}, {title}, {}:", run + 1, args.runs, system.system.as_str());
        let measured = wait_ready(&mut tester, system.system, running.as_mut(), case.mode)
            .and_then(|()| measure(args, &mut tester));
        eprintln!();
        let (result, sink_cpus) = measured?;
        system.note = running.note();
        system.placement = Some(Placement {
            tester_cpu: setup.tester_cpu,
            threads: running.pid().map(placement::threads).unwrap_or_default(),
            napi: placement::napi(lab),
            sink_frames_by_cpu: sink_cpus,
        });
        system.runs.push(result);
    }
    Ok(())
}

/// Frames a second that the tester can send where the first port drops them: no system can look faster.
fn alone(args: &WireArgs, lab: &Lab, setup: &Setup, tester: &mut Tester) -> Result<f64> {
    let _drop = Sink::attach(lab.dut(), lab.wire(0)?.a.ifindex, setup.xdp_mode)?;
    Ok(tester.run(Load { rate: None, duration: Duration::from_millis(args.trial_ms), every: 0 })?.offered_pps)
}

/// Waits until frames cross, and copies are made where they are to be.
fn wait_ready(tester: &mut Tester, system: System, running: &mut dyn Running, mode: Mode) -> Result<()> {
    let start = Instant::now();
    loop {
        let sent = tester.run(Load { rate: Some(5000.0), duration: Duration::from_millis(20), every: 0 })?;
        let crossed = sent.offered > 0 && sent.received >= sent.offered;
        if crossed && (mode == Mode::Forward || sent.monitored >= sent.offered) {
            return Ok(());
        }
        if start.elapsed() >= READY || running.ended() {
            return Err(WireError::NotReady {
                system: system.as_str(),
                offered: sent.offered,
                received: sent.received,
                after: start.elapsed(),
                log: running.log(),
            });
        }
    }
}

/// One run of a system that forwards. With it, the frames at the sink by processor at the highest load.
fn measure(args: &WireArgs, tester: &mut Tester) -> Result<(Run, Vec<u64>)> {
    let wants = |measure| args.measure.contains(&measure);
    let duration = Duration::from_millis(args.trial_ms);
    let mut run = Run::default();
    let full = tester.run(Load { rate: None, duration, every: 0 })?;
    let highest = full.offered_pps;
    eprint!(" max {:.0}", full.sink_pps / 1e3);
    if full.monitored > 0 {
        eprint!(" + {:.0}", full.monitor_pps / 1e3);
    }
    if wants(Measure::Max) {
        run.max = Some(max(&full));
    }
    let resolution = args.resolution / 100.0;
    let search_at = |tester: &mut Tester, allowed| {
        search(highest, resolution, |rate| try_rate(tester, rate, duration, allowed, args.retries))
    };
    if wants(Measure::ZeroLoss) || wants(Measure::Latency) {
        let rate = search_at(tester, 0.0)?;
        eprint!(", no loss {:.0}", rate / 1e3);
        run.zero_loss_pps = Some(rate);
    }
    if wants(Measure::HalfPercent) {
        let rate = search_at(tester, HALF_PERCENT)?;
        eprint!(", 0.5 % loss {:.0}", rate / 1e3);
        run.half_percent_pps = Some(rate);
    }
    if let Some(rate) = run.zero_loss_pps.filter(|rate| wants(Measure::Latency) && *rate > 0.0) {
        for load in LOADS {
            let every = if load <= LOOK_AT_ALL { 1 } else { args.sample };
            let outcome = tester.run(Load { rate: Some(rate * f64::from(load) / 100.0), duration, every })?;
            let Some(latency) = latency(load, &outcome) else { continue };
            eprint!(", p99 at {load} % {:.1} µs", latency.p99_ns as f64 / 1e3);
            run.latency.push(latency);
        }
    }
    Ok((run, full.sink_cpus))
}

/// A trial of the search, with its repetitions: noise of the machine fails a trial, but never passes one.
fn try_rate(tester: &mut Tester, rate: f64, duration: Duration, allowed: f64, retries: u32) -> Result<Trial> {
    let mut tried = Trial { offered: 0.0, passed: false };
    for _ in 0..=retries {
        let outcome = tester.run(Load { rate: Some(rate), duration, every: 0 })?;
        tried = Trial { offered: outcome.offered_pps, passed: outcome.loss() <= allowed };
        if tried.passed {
            break;
        }
    }
    Ok(tried)
}

fn max(outcome: &Outcome) -> Max {
    Max {
        offered_pps: outcome.offered_pps,
        sink_pps: outcome.sink_pps,
        monitor_pps: outcome.monitor_pps,
        offered: outcome.offered,
        refused: outcome.refused,
        received: outcome.received,
        monitored: outcome.monitored,
        foreign: outcome.foreign,
    }
}

fn latency(load_percent: u32, outcome: &Outcome) -> Option<Latency> {
    let seen = outcome.seen.as_ref()?;
    let at = |quantile| seen.latency.value_at_quantile(quantile);
    Some(Latency {
        load_percent,
        offered_pps: outcome.offered_pps,
        offered: outcome.offered,
        received: outcome.received,
        monitored: outcome.monitored,
        order: seen.verdict,
        undelivered: seen.undelivered,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns: seen.latency.max(),
    })
}
