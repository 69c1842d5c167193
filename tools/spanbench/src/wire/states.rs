//! What a monitor port costs the primary, however it fares: each state beside no mirroring at all, in turns.

use std::fmt;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::Sender;

use super::args::WireArgs;
use super::error::{Result, WireError};
use super::measure::wait_ready;
use super::system::spanwire::Spanwire;
use super::system::{Mode, Setup, System};
use super::tester::{Load, Outcome, Tester};
use crate::interrupt;
use crate::machine::Machine;
use crate::summary::Spread;

/// Part of the highest rate, without mirroring, at which losses are counted.
const LOAD: f64 = 0.5;

/// How the monitor fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// There is none: nothing is mirrored.
    None,
    /// Everything it is sent arrives.
    Healthy,
    /// Its link is down.
    Down,
    /// Nobody reads what arrives there.
    Stalled,
    /// Its queueing discipline lets 8 Mbit/s through and holds four frames.
    FullQdisc,
    /// It is deleted while frames cross, and made again.
    Recreated,
    /// The Mirror partition has one frame.
    OneFrame,
}

/// A state: what it is called, 1 in how many frames is mirrored, and how the monitor fares. The first is what the
/// others are compared with.
const STATES: [(&str, u32, Fate); 10] = [
    ("no mirroring", 0, Fate::None),
    ("healthy", 1000, Fate::Healthy),
    ("down", 1, Fate::Down),
    ("stalled", 1000, Fate::Stalled),
    ("full qdisc", 1000, Fate::FullQdisc),
    ("deleted and made again", 1000, Fate::Recreated),
    ("1 mirror frame", 1000, Fate::OneFrame),
    ("healthy", 1, Fate::Healthy),
    ("full qdisc", 1, Fate::FullQdisc),
    ("1 mirror frame", 1, Fate::OneFrame),
];

/// Options of `spanbench states`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatesArgs {
    #[command(flatten)]
    wire: WireArgs,
}

/// All states.
#[derive(Debug, Serialize)]
pub(crate) struct StatesReport {
    machine: Machine,
    bytes: u32,
    trial_seconds: f64,
    states: Vec<State>,
}

/// One state, over all runs.
#[derive(Debug, Serialize)]
struct State {
    monitor: &'static str,
    /// 1 in so many frames is mirrored; 0: none.
    rate: u32,
    /// Frames a second across the wire when as many as possible are sent.
    primary_pps: Option<Spread>,
    /// That, over the same without mirroring in the same run.
    ratio: Option<Spread>,
    /// At half of that rate: frames sent, and lost on the wire, in all runs.
    sent: u64,
    lost: u64,
    /// Clones at the monitor meanwhile.
    clones: u64,
}

/// Measures every state for the first of the sizes.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &StatesArgs) -> Result<StatesReport> {
    let args = &args.wire;
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let bytes = args.sizes.first().copied().unwrap_or(64);
    let mut rates: Vec<Vec<Option<f64>>> = vec![Vec::new(); STATES.len()];
    let mut totals = [[0u64; 3]; STATES.len()];
    for run in 0..args.runs {
        let mut half = None;
        for (index, &(name, rate, fate)) in STATES.iter().enumerate() {
            let (full, loaded) = measure(args, &setup, bytes as usize, rate, fate, half)?;
            half.get_or_insert(full.sink_pps * LOAD);
            rates[index].push(Some(full.sink_pps));
            let lost = loaded.offered.saturating_sub(loaded.received);
            for (total, part) in totals[index].iter_mut().zip([loaded.offered, lost, loaded.monitored]) {
                *total += part;
            }
            eprintln!(
                "run {}/{}, {name}, 1 in {rate}: {:.0} kpps, {lost} of {} lost at half the rate",
                run + 1,
                args.runs,
                full.sink_pps / 1e3,
                loaded.offered
            );
        }
    }
    let states =
        STATES.iter().zip(&rates).zip(totals).map(|((&(monitor, rate, _), pps), [sent, lost, clones])| State {
            monitor,
            rate,
            primary_pps: Spread::of(&pps.iter().copied().flatten().collect::<Vec<_>>()),
            ratio: Spread::of_ratios(pps, &rates[0]),
            sent,
            lost,
            clones,
        });
    let trial_seconds = args.trial().as_secs_f64();
    Ok(StatesReport { machine: Machine::here(), bytes, trial_seconds, states: states.collect() })
}

/// At the highest rate, and at `half` a second (a tenth of what was sent, where that is not known yet).
fn measure(
    args: &WireArgs,
    setup: &Setup,
    bytes: usize,
    rate: u32,
    fate: Fate,
    half: Option<f64>,
) -> Result<(Outcome, Outcome)> {
    // A lab of its own: some states leave nothing of the monitor.
    let lab = Lab::create(LabSpec::default())?;
    let mut tester = Tester::new(&lab, bytes, setup.xdp_mode, setup.tester_cpu)?;
    let mut setup = setup.clone();
    if fate == Fate::OneFrame {
        setup.spanwired_args.extend(["--mirror-frames".to_owned(), "1".to_owned()]);
    }
    let mut daemon = Spanwire::start_mirroring(&lab, (rate > 0).then_some(rate), &setup)?;
    wait_ready(&mut tester, System::Spanwire, &mut daemon, Mode::Forward)?;
    let (ns, monitor) = (lab.dut(), lab.monitor(0)?);
    // Held open and never read.
    let mut unread: Option<Sender> = None;
    match fate {
        Fate::Down => drop(ns.ip(&["link", "set", &monitor.name, "down"])?),
        Fate::FullQdisc => {
            let tbf = [
                "qdisc",
                "replace",
                "dev",
                &monitor.name,
                "root",
                "tbf",
                "rate",
                "8mbit",
                "burst",
                "2k",
                "limit",
                "6k",
            ];
            ns.exec("tc", &tbf)?;
        }
        Fate::Stalled => {
            tester.leave_monitor();
            unread = Some(lab.sender(monitor)?);
        }
        Fate::None | Fate::Healthy | Fate::Recreated | Fate::OneFrame => {}
    }
    let duration = args.trial();
    let disturb = || -> Result<()> {
        if fate == Fate::Recreated {
            std::thread::sleep(duration / 4);
            ns.ip(&["link", "del", &monitor.name])?;
            std::thread::sleep(duration / 4);
            let (index, host) = (monitor.ifindex.to_string(), lab.ns(monitor.host).name().to_owned());
            let near = ["link", "add", "name", &monitor.name, "index", &index, "type", "veth"];
            ns.ip(&[&near[..], &["peer", "name", &monitor.host_name, "netns", &host]].concat())?;
            ns.ip(&["link", "set", &monitor.name, "up"])?;
            lab.ns(monitor.host).ip(&["link", "set", &monitor.host_name, "up"])?;
        }
        Ok(())
    };
    let mut trial = |rate: Option<f64>| -> Result<Outcome> {
        std::thread::scope(|scope| {
            let disturber = scope.spawn(disturb);
            let outcome = tester.run(Load { rate, duration, every: 0 })?;
            disturber.join().map_err(|_| WireError::Thread("disturber"))??;
            Ok(outcome)
        })
    };
    let full = trial(None)?;
    // The ports and their queues come to rest.
    std::thread::sleep(Duration::from_millis(100));
    let loaded = trial(Some(half.unwrap_or(full.sink_pps * LOAD)))?;
    drop(unread);
    Ok((full, loaded))
}

impl fmt::Display for StatesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["monitor", "mirrored", "primary, kpps", "of no mirroring", "sent at half", "lost", "clones"]);
        let show = |spread: &Option<Spread>, unit: f64, places: usize| {
            spread.map_or("-".to_owned(), |s| {
                let [median, min, max] = [s.median / unit, s.min / unit, s.max / unit];
                format!("{median:.places$} ({min:.places$}-{max:.places$})")
            })
        };
        for state in &self.states {
            table.add_row([
                state.monitor.to_owned(),
                if state.rate == 0 { "none".to_owned() } else { format!("1 in {}", state.rate) },
                show(&state.primary_pps, 1e3, 0),
                show(&state.ratio, 1.0, 3),
                state.sent.to_string(),
                state.lost.to_string(),
                state.clones.to_string(),
            ]);
        }
        writeln!(
            f,
            "{} bytes over veth, trials of {} s, median (lowest-highest); losses at half the rate without mirroring",
            self.bytes, self.trial_seconds
        )?;
        write!(f, "{table}")
    }
}
