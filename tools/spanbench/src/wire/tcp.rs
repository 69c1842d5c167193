//! What a stream of TCP reaches from host to host over a wire at tc that mirrors every frame of it, beside the kernel's own
//! redirect there. The hosts' devices are as a kernel makes veths: super-frames cross, checksums are left to be finished.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;
use spanwire::kernel::path::Path;
use spanwire_lab::topology::{Lab, LabSpec, Port};

use super::args::WireArgs;
use super::error::{Result, WireError};
use super::system::{Clones, Mode, System};
use crate::goal::{Bound, Goal, write_report};
use crate::interrupt;
use crate::machine::Machine;
use crate::summary::Spread;
use crate::table::align;

/// What the others are compared with, and what it does.
const BASE: (System, Mode) = (System::Tc, Mode::Forward);
/// What is measured, in the order of the first run.
const TURNS: [(System, Mode); 3] = [(System::Spanwire(Path::Tc), Mode::Mirror), BASE, (System::Tc, Mode::Mirror)];
/// Of spanwire's rate over the base's.
const WANTED: Bound = Bound::AtLeast(0.9);

const SENDER: &str = "198.18.0.1";
const RECEIVER: &str = "198.18.0.2";
/// From a system's start to the first connection across it, and of a connection without a sign.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of one attempt to connect: less than the kernel's own waits between them, which would be part of it.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Bytes handed over at once.
const WRITTEN: usize = 256 << 10;

/// Options of `spanbench tcp`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TcpArgs {
    #[command(flatten)]
    pub wire: WireArgs,
    /// Milliseconds of each stream
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub stream_ms: u64,
}

/// All systems.
#[derive(Debug, Serialize)]
pub(crate) struct TcpReport {
    machine: Machine,
    stream_seconds: f64,
    systems: Vec<Streamed>,
    /// What the stream is to reach.
    pub goals: Vec<Goal>,
}

/// One system.
#[derive(Debug, Serialize)]
struct Streamed {
    system: System,
    mode: Mode,
    /// Payload at the receiver.
    bits_per_second: Option<Spread>,
    /// Over that of the base in the same run.
    ratio: Option<Spread>,
    /// In all runs; `None` of what keeps no account.
    clones: Option<Clones>,
    #[serde(skip)]
    runs: Vec<Option<f64>>,
}

/// Measures every system.
///
/// # Errors
/// [`WireError`].
pub(crate) fn run(args: &TcpArgs) -> Result<TcpReport> {
    let (stream, args) = (Duration::from_millis(args.stream_ms), &args.wire);
    interrupt::install().map_err(WireError::io("noting signals"))?;
    let setup = args.setup()?;
    let lab = Lab::create(LabSpec::default())?;
    let wire = lab.wire(0)?;
    host(&lab, &wire.a, SENDER)?;
    host(&lab, &wire.b, RECEIVER)?;
    let mut systems = TURNS.map(|(system, mode)| Streamed::new(system, mode));
    for run in 0..args.runs as usize {
        for turn in 0..TURNS.len() {
            let streamed = &mut systems[(run + turn) % TURNS.len()];
            eprint!("run {}/{}, {}, {}:", run + 1, args.runs, streamed.system.as_str(), streamed.mode.as_str());
            let running = streamed.system.start(&lab, streamed.mode, &setup)?;
            let rate = send(&lab, stream)?;
            eprintln!(" {:.2} Gbit/s", rate / 1e9);
            streamed.add(rate, running.clones()?);
        }
    }
    sum_up(&mut systems);
    let goals = goals(&systems);
    let stream_seconds = stream.as_secs_f64();
    Ok(TcpReport { machine: Machine::here(), stream_seconds, systems: systems.into(), goals })
}

/// Makes a host of a wire's far end, its device as a kernel makes one.
fn host(lab: &Lab, port: &Port, address: &str) -> Result<()> {
    let ns = lab.ns(port.host);
    ns.exec("ethtool", &["-K", &port.host_name, "tx", "on", "rx", "on", "gso", "on", "tso", "on"])?;
    ns.ip(&["link", "set", &port.host_name, "arp", "on"])?;
    ns.ip(&["addr", "add", &format!("{address}/24"), "dev", &port.host_name])?;
    Ok(())
}

/// Streams for so long. Returns what arrived, bits of payload a second.
fn send(lab: &Lab, stream: Duration) -> Result<f64> {
    let (from, to) = (lab.ns(lab.wire(0)?.a.host), lab.ns(lab.wire(0)?.b.host));
    let listen = || TcpListener::bind((RECEIVER, 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (at, listener) = to.enter(listen)?.map_err(WireError::io("listening"))?;
    let mut socket = from.enter(|| connect(at))??;
    let (receiver, _) = listener.accept().map_err(WireError::io("accepting"))?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || receive(receiver));
        let sent = send_until(&mut socket, Instant::now() + stream);
        drop(socket);
        let received = receiver.join().map_err(|_| WireError::Thread("receiver's"))?;
        sent.map_err(WireError::io("sending"))?;
        received.map_err(WireError::io("receiving"))
    })
}

/// The first connection: frames may take a moment to cross.
fn connect(at: SocketAddr) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        if interrupt::requested() {
            return Err(WireError::Interrupted);
        }
        match TcpStream::connect_timeout(&at, ATTEMPT) {
            Ok(socket) => return Ok(socket),
            Err(error) if start.elapsed() > PATIENCE => return Err(WireError::io("connecting")(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn send_until(socket: &mut TcpStream, end: Instant) -> std::io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    let bytes = vec![0x5a; WRITTEN];
    while Instant::now() < end && !interrupt::requested() {
        socket.write_all(&bytes)?;
    }
    Ok(())
}

/// Takes all there is, and returns its rate from the first read to the last.
fn receive(mut socket: TcpStream) -> std::io::Result<f64> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; WRITTEN];
    socket.read_exact(&mut bytes[..1])?;
    let (start, mut last, mut count) = (Instant::now(), Instant::now(), 0u64);
    loop {
        match socket.read(&mut bytes)? {
            0 => break,
            read => (last, count) = (Instant::now(), count + read as u64),
        }
    }
    Ok(8.0 * count as f64 / (last - start).as_secs_f64().max(1e-9))
}

impl Streamed {
    fn new(system: System, mode: Mode) -> Streamed {
        Streamed { system, mode, bits_per_second: None, ratio: None, clones: None, runs: Vec::new() }
    }

    fn add(&mut self, rate: f64, clones: Option<Clones>) {
        self.runs.push(Some(rate));
        if let Some(clones) = clones {
            *self.clones.get_or_insert_default() += clones;
        }
    }

    fn is_base(&self) -> bool {
        (self.system, self.mode) == BASE
    }
}

/// Figures and ratios; the runs of all must be in the same order.
fn sum_up(systems: &mut [Streamed]) {
    let theirs = systems.iter().find(|streamed| streamed.is_base()).map(|base| base.runs.clone()).unwrap_or_default();
    for streamed in systems {
        streamed.bits_per_second = Spread::of(&streamed.runs.iter().copied().flatten().collect::<Vec<_>>());
        if !streamed.is_base() {
            streamed.ratio = Spread::of_ratios(&streamed.runs, &theirs);
        }
    }
}

fn goals(systems: &[Streamed]) -> Vec<Goal> {
    let ours = systems.iter().filter(|streamed| streamed.system.is_ours());
    let goal = |streamed: &Streamed| {
        let what = format!("TCP: {} mirroring every frame / {} redirect", streamed.system.as_str(), BASE.0.as_str());
        Goal::new(what, WANTED, streamed.ratio)
    };
    ours.map(goal).collect()
}

impl TcpReport {
    /// The systems, without a style.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["system", "", "Gbit/s", "/ tc redirect", "selected", "dropped, counted", "by reason"]);
        for streamed in &self.systems {
            let count = |of: fn(&Clones) -> String| streamed.clones.as_ref().map_or_else(|| "-".to_owned(), of);
            table.add_row([
                streamed.system.as_str().to_owned(),
                streamed.mode.as_str().to_owned(),
                Spread::text_or_dash(&streamed.bits_per_second, 1e9, 2),
                Spread::text_or_dash(&streamed.ratio, 1.0, 3),
                count(|clones| clones.selected.to_string()),
                count(|clones| clones.dropped.to_string()),
                count(|clones| clones.dropped_by.to_string()),
            ]);
        }
        align(&mut table);
        table
    }

    /// What the figures mean.
    pub(crate) fn about(&self) -> String {
        format!(
            "One stream of TCP over veth with the offloads a kernel turns on by itself, {} s each; payload at the receiver, \
             median (lowest-highest). What mirrors has a copy of every frame for the monitor; a super-frame is one frame.",
            self.stream_seconds
        )
    }
}

impl fmt::Display for TcpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_report(f, &self.about(), self.table(), &self.goals)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_with_those_of_the_same_run() {
        let mut systems = TURNS.map(|(system, mode)| Streamed::new(system, mode));
        for (ours, base, theirs) in [(9.0, 10.0, 5.0), (4.0, 5.0, 5.0), (8.0, 8.0, 2.0)] {
            systems[0].add(ours, Some(Clones { selected: 10, dropped: 1, ..Clones::default() }));
            systems[1].add(base, None);
            systems[2].add(theirs, None);
        }
        sum_up(&mut systems);
        let ratios = systems.each_ref().map(|streamed| streamed.ratio.map(|ratio| (ratio.median, ratio.min)));
        assert_eq!(ratios, [Some((0.9, 0.8)), None, Some((0.5, 0.25))]);
        assert_eq!(systems[0].clones, Some(Clones { selected: 30, dropped: 3, ..Clones::default() }));
        let goals = goals(&systems);
        assert_eq!(goals.len(), 1, "peers have none");
        assert_eq!(goals[0].met, Some(true));
    }
}
