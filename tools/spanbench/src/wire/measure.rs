//! One run of one system.

use std::time::{Duration, Instant};

use spanwire_lab::topology::Lab;

use super::args::{Measure, WireArgs};
use super::error::{Result, WireError};
use super::figures::{Latency, Max, Run};
use super::search::{Trial, search};
use super::sink::Sink;
use super::system::process::Process;
use super::system::{Mode, Running, Setup, System};
use super::tester::{Load, Outcome, Tester};
use crate::machine::Contention;

/// Loads at which latency is measured, % of the rate without loss.
const LOADS: [u32; 3] = [10, 50, 90];
/// Up to this load every frame is looked at, %.
const LOOK_AT_ALL: u32 = 10;
/// Loss that the second search allows.
const HALF_PERCENT: f64 = 0.005;
/// A system must forward within this time of its start.
const READY: Duration = Duration::from_secs(20);
/// How it is asked whether it does.
const ASK: Load = Load { rate: Some(5000.0), duration: Duration::from_millis(20), every: 0 };

/// Frames a second that the tester can send where the first port drops them: no system can look faster.
pub(super) fn alone(args: &WireArgs, lab: &Lab, setup: &Setup, tester: &mut Tester) -> Result<f64> {
    let _drop = Sink::attach(lab.dut(), lab.wire(0)?.a.ifindex, setup.xdp_mode)?;
    Ok(tester.run(Load { rate: None, duration: args.trial(), every: 0 })?.offered_pps)
}

/// Waits until frames cross, and copies are made where they are to be.
pub(super) fn wait_ready(tester: &mut Tester, system: System, running: &mut dyn Running, mode: Mode) -> Result<()> {
    let start = Instant::now();
    loop {
        let sent = tester.run(ASK)?;
        let crossed = sent.offered > 0 && sent.received >= sent.offered;
        if crossed && (mode == Mode::Forward || sent.monitored >= sent.offered) {
            return Ok(());
        }
        let mut process = running.process();
        if start.elapsed() >= READY || process.as_mut().is_some_and(|process| process.has_ended()) {
            return Err(WireError::NotReady {
                system: system.as_str(),
                offered: sent.offered,
                received: sent.received,
                monitored: sent.monitored,
                after: start.elapsed(),
                log: process.map(Process::last_words).unwrap_or_default(),
            });
        }
    }
}

/// One run of a system that forwards. With it, the frames at the sink by processor at the highest load.
pub(super) fn measure(args: &WireArgs, tester: &mut Tester) -> Result<(Run, Vec<u64>)> {
    let wants = |measure| args.measure.contains(&measure);
    let duration = args.trial();
    let mut run = Run::default();
    let contention = Contention::watch();
    let full = tester.run(Load { rate: None, duration, every: 0 })?;
    let highest = full.offered_pps;
    eprint!(" max {:.0}", full.sink_pps / 1e3);
    if full.monitored > 0 {
        eprint!(" + {:.0}", full.monitor_pps / 1e3);
    }
    if wants(Measure::Max) {
        run.max = Some(max(&full));
    }
    let search_at = |tester: &mut Tester, allowed| {
        search(highest, args.resolution(), |rate| try_rate(tester, rate, duration, allowed, args.retries))
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
    run.contention = contention.part();
    if let Some(part) = run.contention {
        eprint!(", processors contended {:.0} %", part * 100.0);
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
