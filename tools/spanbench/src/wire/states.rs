//! What a monitor port costs the primary, however it fares: each state beside no mirroring at all.

use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use serde::Serialize;
use spanwire::kernel::path::Path;
use spanwire_lab::topology::Lab;
use spanwire_lab::traffic::Sender;

use super::args::WireArgs;
use super::error::{Result, WireError};
use super::far_ends;
use super::measure::wait_ready;
use super::system::spanwire::Spanwire;
use super::system::{Mode, Setup, System};
use super::tester::{Load, Outcome, Tester};
use crate::goal::{Bound, Goal, write_report};
use crate::interrupt;
use crate::machine::Machine;
use crate::summary::Spread;
use crate::table::align;

/// Part of the highest rate, without mirroring, at which losses are counted: low enough for the rings to bridge the
/// milliseconds in which the system runs something else on the shard's processor.
const LOAD: f64 = 0.25;

/// How the monitor fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Everything it is sent arrives.
    Healthy,
    /// Its link is down.
    Down,
    /// Nobody reads what arrives there.
    Stalled,
    /// It has a queueing discipline of two frames: the kernel then stops its queue when the far end is slower, and does
    /// not drop.
    FullQdisc,
    /// It is deleted while frames cross, and made again.
    Recreated,
    /// The Mirror partition has one frame.
    OneFrame,
}

/// After another snapshot is in use.
const SETTLE: Duration = Duration::from_millis(150);

/// Wherever few clones leave, or none, the wire is to keep this much of its rate.
const KEEPS: Bound = Bound::AtLeast(0.98);

/// A state: what it is called, 1 in how many frames is mirrored, and how the monitor fares.
type Plight = (&'static str, u32, Fate);

const STATES: [Plight; 9] = [
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
    pub wire: WireArgs,
    /// Only the states whose name contains it [default: all]
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub state: String,
}

/// All states.
#[derive(Debug, Serialize)]
pub(crate) struct StatesReport {
    machine: Machine,
    bytes: u32,
    trial_seconds: f64,
    states: Vec<State>,
    /// What the wire is to keep of its rate.
    pub goals: Vec<Goal>,
}

/// One state on one path, over all runs.
#[derive(Debug, Serialize)]
struct State {
    /// How frames cross.
    path: &'static str,
    monitor: &'static str,
    /// 1 in so many frames is mirrored.
    rate: u32,
    /// Frames a second across the wire when as many as possible are sent, nothing mirrored.
    off_pps: Option<Spread>,
    /// The same with mirroring.
    on_pps: Option<Spread>,
    /// That, over the trial without mirroring beside it.
    ratio: Option<Spread>,
    /// At a quarter of the rate, with mirroring: frames sent, and lost on the wire, in all runs.
    sent: u64,
    lost: u64,
    /// Clones at the monitor meanwhile.
    clones: u64,
    /// Lost at the same rate without mirroring.
    lost_off: u64,
}

/// Measures every state for the first of the sizes.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &StatesArgs) -> Result<StatesReport> {
    let (text, args) = (&args.state, &args.wire);
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let bytes = args.sizes.first().copied().unwrap_or(64);
    let (mut states, mut goals) = (Vec::new(), Vec::new());
    for path in args.paths() {
        for plight in STATES.into_iter().filter(|(monitor, ..)| monitor.contains(text)) {
            let (monitor, rate, fate) = plight;
            eprint!("{path}, {monitor}, 1 in {rate}:");
            let state = measure(args, &setup, bytes as usize, path, plight)?;
            eprintln!(" {} of {} lost", state.lost, state.sent);
            if rate > 1 || fate == Fate::Down {
                let what = format!("{}, monitor {monitor}, 1 in {rate}: on / off", System::Spanwire(path).as_str());
                goals.push(Goal::new(what, KEEPS, state.ratio));
            }
            states.push(state);
        }
    }
    Ok(StatesReport { machine: Machine::here(), bytes, trial_seconds: args.trial().as_secs_f64(), states, goals })
}

/// One state: trials with and without mirroring in turns, in one lab and by one daemon, so that nothing else differs; the
/// monitor fares the same in both.
fn measure(args: &WireArgs, setup: &Setup, bytes: usize, path: Path, (name, rate, fate): Plight) -> Result<State> {
    // A lab of its own: some states leave nothing of the monitor.
    let lab = far_ends::lay()?;
    let mut tester = Tester::new(&lab, bytes, setup.xdp_mode, setup.tester_cpu)?;
    let mut setup = setup.clone();
    if fate == Fate::OneFrame {
        setup.spanwired_args.extend(["--mirror-frames".to_owned(), "1".to_owned()]);
    }
    let mut daemon = Spanwire::start_mirroring(&lab, path, Some(rate), &setup)?;
    wait_ready(&mut tester, System::Spanwire(path), &mut daemon, Mode::Forward)?;
    // Held open and never read.
    let _unread = befall(&lab, &mut tester, fate)?;
    let duration = args.trial();
    let mut trial = |load: Option<f64>| -> Result<Outcome> {
        std::thread::scope(|scope| {
            let disturber = scope.spawn(|| disturb(&lab, fate, duration / 4));
            let outcome = tester.run(Load { rate: load, duration, every: 0 })?;
            disturber.join().map_err(|_| WireError::Thread("disturber"))??;
            Ok(outcome)
        })
    };
    let (mut pps, mut lost, mut sent, mut clones) = ([Vec::new(), Vec::new()], [0, 0], 0, 0);
    let mut load = None;
    for run in 0..args.runs {
        for mirrored in if run % 2 == 0 { [false, true] } else { [true, false] } {
            daemon.publish(&lab, mirrored.then_some(rate))?;
            // The monitor port is let go of or taken up.
            std::thread::sleep(SETTLE);
            let full = trial(None)?;
            pps[usize::from(mirrored)].push(Some(full.sink_pps));
            let loaded = trial(Some(*load.get_or_insert(full.sink_pps * LOAD)))?;
            lost[usize::from(mirrored)] += loaded.offered.saturating_sub(loaded.received);
            if mirrored {
                sent += loaded.offered;
                clones += loaded.monitored;
            }
            eprint!(" {:.0}", full.sink_pps / 1e3);
        }
    }
    let all = |pps: &[Option<f64>]| Spread::of(&pps.iter().copied().flatten().collect::<Vec<_>>());
    let [off, on] = &pps;
    Ok(State {
        path: path.as_str(),
        monitor: name,
        rate,
        off_pps: all(off),
        on_pps: all(on),
        ratio: Spread::of_ratios(on, off),
        sent,
        lost: lost[1],
        clones,
        lost_off: lost[0],
    })
}

/// Brings the monitor into its state. What is returned must be kept.
fn befall(lab: &Lab, tester: &mut Tester, fate: Fate) -> Result<Option<Sender>> {
    let (ns, monitor) = (lab.dut(), lab.monitor(0)?);
    match fate {
        Fate::Down => drop(ns.ip(&["link", "set", &monitor.name, "down"])?),
        Fate::FullQdisc => {
            drop(ns.exec("tc", &["qdisc", "replace", "dev", &monitor.name, "root", "pfifo", "limit", "2"])?);
        }
        Fate::Stalled => {
            tester.leave_monitor();
            return Ok(Some(lab.sender(monitor)?));
        }
        Fate::Healthy | Fate::Recreated | Fate::OneFrame => {}
    }
    Ok(None)
}

/// Deletes the monitor after `pause` and makes it again after another, if that is its fate.
fn disturb(lab: &Lab, fate: Fate, pause: Duration) -> Result<()> {
    if fate != Fate::Recreated {
        return Ok(());
    }
    let (ns, monitor) = (lab.dut(), lab.monitor(0)?);
    let host = lab.ns(monitor.host);
    std::thread::sleep(pause);
    ns.ip(&["link", "del", &monitor.name])?;
    std::thread::sleep(pause);
    let index = monitor.ifindex.to_string();
    let near = ["link", "add", "name", &monitor.name, "index", &index, "type", "veth"];
    ns.ip(&[&near[..], &["peer", "name", &monitor.host_name, "netns", host.name()]].concat())?;
    ns.ip(&["link", "set", &monitor.name, "up"])?;
    host.ip(&["link", "set", &monitor.host_name, "up"])?;
    far_ends::receive_in_napi(lab, monitor)
}

impl StatesReport {
    /// The states, without a style.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header([
            "path",
            "monitor",
            "mirrored",
            "off, kpps",
            "on, kpps",
            "on / off",
            "sent at 1/4",
            "lost",
            "clones",
            "lost off",
        ]);
        let show = Spread::text_or_dash;
        for state in &self.states {
            table.add_row([
                state.path.to_owned(),
                state.monitor.to_owned(),
                format!("1 in {}", state.rate),
                show(&state.off_pps, 1e3, 0),
                show(&state.on_pps, 1e3, 0),
                show(&state.ratio, 1.0, 3),
                state.sent.to_string(),
                state.lost.to_string(),
                state.clones.to_string(),
                state.lost_off.to_string(),
            ]);
        }
        align(&mut table);
        table
    }

    /// What the figures mean.
    pub(crate) fn about(&self) -> String {
        format!(
            "Frames of {} bytes over veth, trials of {} s, with mirroring and without in turns in one dataplane; median \
             (lowest-highest). Losses are of all trials at a quarter of the rate.",
            self.bytes, self.trial_seconds
        )
    }
}

impl fmt::Display for StatesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_report(f, &self.about(), self.table(), &self.goals)
    }
}
