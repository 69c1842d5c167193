//! spanlab: lays a lab of network namespaces, runs verified traffic through it, takes it down.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rustix::process::{getppid, getsid, test_kill_process};
use serde::Serialize;
use spanwire_lab::exchange::{self, ExchangeSpec, Mirror, Progress};
use spanwire_lab::ledger::{self, Expected};
use spanwire_lab::topology::{LAB_PREFIX, Lab, LabSpec};
use spanwire_lab::traffic::{MAX_FRAME, MIN_FRAME, ON_THE_WAY, Pace};
use spanwire_lab::{LabError, Result, netns};

/// A wire in network namespaces: gen -- dut -- sink, with a monitor host, and traffic that is checked byte for byte.
///
/// Exit status: 0 done and all held, 1 an exchange or a ledger did not hold, 2 usage or I/O.
#[derive(Debug, Parser)]
#[command(name = "spanlab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lay a lab, print its names and ifindexes as JSON, and leave it standing
    Up(Up),
    /// Take a lab down
    Down {
        /// The lab's id, as `up` printed it
        lab: String,
    },
    /// Print a standing lab's names and ifindexes as JSON
    Info {
        /// The lab's id
        lab: String,
    },
    /// Join a wire by a kernel bridge inside the device under test, in the place of spanwired
    Bridge {
        /// The lab's id
        lab: String,
        /// Index of the wire
        #[arg(long, default_value_t = 0)]
        wire: usize,
    },
    /// Send both ways at once and compare what arrives at the hosts and the monitor
    Exchange(Exchange),
    /// Check that the counters of `spanctl --json stats`, read from standard input, add up
    Ledger(Ledger),
    /// Delete the namespaces of labs whose owner is dead
    Sweep {
        /// First part of the names; only PREFIX-PID-COUNTER[-ROLE] is ever deleted
        #[arg(long, default_value = LAB_PREFIX)]
        prefix: String,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// RX and TX queues of the wires' devices
    #[arg(long, default_value_t = 1)]
    queues: u32,
    /// RX and TX queues of the monitors' devices [default: those of the wires]
    #[arg(long)]
    monitor_queues: Option<u32>,
    /// Wires through the device under test; ifindexes 11 and 12, 13 and 14, …
    #[arg(long, default_value_t = 1)]
    wires: usize,
    /// Monitor ports; ifindexes 22, 23, …
    #[arg(long, default_value_t = 1)]
    monitors: usize,
    /// MTU of every device
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Pid whose death lets `sweep` delete the lab; a script passes $$ [default: the session's leader]
    #[arg(long)]
    owner: Option<u32>,
}

#[derive(Debug, Args)]
struct Exchange {
    /// The lab's id, as `up` printed it
    #[arg(long)]
    lab: String,
    /// Frames each way
    #[arg(long, default_value_t = 6000)]
    frames: u32,
    /// Seed of the frames
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the shortest frames, without FCS; at least 60
    #[arg(long, value_name = "BYTES", default_value_t = MIN_FRAME)]
    shortest: usize,
    /// Length of the longest frames, VLAN tags included
    #[arg(long, value_name = "BYTES", default_value_t = MAX_FRAME)]
    longest: usize,
    /// Expect 1 in RATE of what enters port a on the monitor (0 and 1: every frame); without it, none
    #[arg(long, value_name = "RATE", visible_alias = "rate")]
    mirror_a: Option<u32>,
    /// The same for what enters port b
    #[arg(long, value_name = "RATE")]
    mirror_b: Option<u32>,
    /// Frames that the sampler of port a's entry has seen before
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    seen_a: u64,
    /// The same for port b's
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    seen_b: u64,
    /// Samplers per mirror entry, one a shard [default: the lab's queues]
    #[arg(long)]
    samplers: Option<u32>,
    /// Frames a second each way, in windows of --burst; 0 sends unpaced
    #[arg(long, default_value_t = 20_000)]
    pps: u32,
    /// Frames sent back to back
    #[arg(long, value_name = "FRAMES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    burst: u16,
    /// Frames of each way that may be sent and not have arrived; 0: any number, where some are to get lost
    #[arg(long, value_name = "FRAMES", default_value_t = ON_THE_WAY)]
    on_the_way: usize,
    /// Index of the wire
    #[arg(long, default_value_t = 0)]
    wire: usize,
    /// Index of the monitor port
    #[arg(long, default_value_t = 0, conflicts_with = "no_monitor")]
    monitor: usize,
    /// Do not watch a monitor port
    #[arg(long)]
    no_monitor: bool,
    /// Give up after this many milliseconds of silence
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    idle_ms: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Ledger {
    /// Frames that the entries of an ingress must have observed; repeat for more
    #[arg(long, value_name = "INGRESS=FRAMES", value_parser = observed)]
    observed: Vec<(u128, u128)>,
    /// Every selected frame must have been mirrored: none dropped, none in flight
    #[arg(long)]
    delivered: bool,
}

fn observed(text: &str) -> std::result::Result<(u128, u128), String> {
    let numbers =
        text.split_once('=').and_then(|(ingress, frames)| Some((ingress.parse().ok()?, frames.parse().ok()?)));
    numbers.ok_or_else(|| "want an ifindex, '=' and a number of frames".to_owned())
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("spanlab: {error}");
            ExitCode::from(2)
        }
    }
}

/// False when an exchange or a ledger did not hold.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Up(up) => print_json(&Lab::create(up.spec())?.detach()),
        Command::Down { lab } => Lab::remove(&lab)?,
        Command::Info { lab } => print_json(Lab::attach(&lab)?.info()),
        Command::Bridge { lab, wire } => Lab::attach(&lab)?.bridge(wire)?,
        Command::Exchange(exchange) => return exchange.run(),
        Command::Ledger(ledger) => return ledger.run(),
        Command::Sweep { prefix } => {
            for name in netns::sweep(&prefix)? {
                print(&format!("deleted {name}\n"));
            }
        }
    }
    Ok(true)
}

impl Up {
    fn spec(&self) -> LabSpec {
        let defaults = LabSpec::default();
        LabSpec {
            queues: self.queues,
            monitor_queues: self.monitor_queues.unwrap_or(self.queues),
            wires: self.wires,
            monitors: self.monitors,
            mtu: self.mtu,
            owner: self.owner.or_else(caller).unwrap_or(defaults.owner),
            ..defaults
        }
    }
}

/// Who a lab belongs to once this process has exited: the leader of the session, the login shell or job that all
/// this runs under. The parent is only the second choice, because in `$(spanlab up | jq …)` it is a subshell that is
/// gone a moment later, and a sweep would take the lab from under the script.
fn caller() -> Option<u32> {
    let leader = getsid(None).ok().filter(|pid| test_kill_process(*pid).is_ok());
    let pid = leader.or_else(getppid)?;
    u32::try_from(pid.as_raw_nonzero().get()).ok()
}

impl Exchange {
    fn run(&self) -> Result<bool> {
        let lab = Lab::attach(&self.lab)?;
        let defaults = ExchangeSpec::new(&lab, self.seed, self.frames);
        if !(MIN_FRAME..=self.longest).contains(&self.shortest) || self.longest > LONGEST {
            let (shortest, longest) = (self.shortest, self.longest);
            let allowed = format!("{MIN_FRAME} <= shortest <= longest <= {LONGEST}");
            return Err(LabError::Spec(format!("--shortest {shortest} --longest {longest} (allowed: {allowed})")));
        }
        let spec = ExchangeSpec {
            lengths: self.shortest..=self.longest,
            wire: self.wire,
            monitor: defaults.monitor.filter(|_| !self.no_monitor).map(|_| self.monitor),
            mirror_a: self.mirror_a.map(|rate| Mirror { rate, seen: self.seen_a }),
            mirror_b: self.mirror_b.map(|rate| Mirror { rate, seen: self.seen_b }),
            pace: match self.pps {
                0 => Pace::Unpaced,
                per_second => Pace::Windowed { burst: usize::from(self.burst), per_second },
            },
            on_the_way: if self.on_the_way == 0 { usize::MAX } else { self.on_the_way },
            idle: Duration::from_millis(self.idle_ms),
            samplers: self.samplers.unwrap_or(defaults.samplers),
            ..defaults
        };
        let mut bar = Bar::new(!self.json);
        let report = exchange::run(&lab, &spec, |progress| bar.show(progress))?;
        bar.clear();
        if self.json {
            print_json(&report);
        } else {
            print(&format!("{} frames each way, seed {}\n{report}", report.frames, report.seed));
        }
        Ok(report.holds)
    }
}

impl Ledger {
    fn run(&self) -> Result<bool> {
        let mut document = Vec::new();
        io::stdin().lock().read_to_end(&mut document).map_err(LabError::Stdin)?;
        let expected = Expected { observed: self.observed.iter().copied().collect(), delivered: self.delivered };
        let audit = ledger::audit(&document, &expected)?;
        print(&audit.to_string());
        Ok(audit.holds())
    }
}

/// Frames of an MTU of 9216, with two VLAN tags.
const LONGEST: usize = 9216 + 14 + 8;

/// Progress on standard error, on one line, only where someone watches.
struct Bar {
    shown: bool,
}

impl Bar {
    fn new(wanted: bool) -> Self {
        Self { shown: wanted && io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: Progress) {
        if self.shown {
            let Progress { frames, a_to_b, b_to_a, clones } = progress;
            eprint!("\ra to b {a_to_b}/{frames}   b to a {b_to_a}/{frames}   clones {clones} ");
        }
    }

    fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

fn print_json(value: &impl Serialize) {
    // Names and numbers only: nothing here can fail to serialise.
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print(&format!("{text}\n"));
    }
}

/// A reader that closed the pipe (`| head`) has seen enough: no error and no panic.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
