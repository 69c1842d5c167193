//! Everything at once: links that change, queues that others hold, publishes from two sides. How soon a restored wire
//! carries, and what must hold all the while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire::devices;
use spanwire::xsk::endpoint::Sender as Holder;
use spanwire_lab::topology::{Lab, LabSpec, Port};
use spanwire_lab::traffic::{Capture, Pace};

use super::down::set;
use super::node::{A, B, MON, Node, check_ledgers, document_with, port_of};
use super::paths::{Path, is_long, on_each_path};
use super::producer::Serve;
use super::udp;

/// Monitors whose queues another program holds.
const BUSY: usize = 8;

/// The wire, mirrored to the first of these monitors, and wires whose ports are not there for the others.
fn snapshot(monitors: &[&Port], rate: u32) -> String {
    let absent = |at: usize| (1000 + 2 * at as u32, 1001 + 2 * at as u32);
    let wires: Vec<_> = std::iter::once((A, B)).chain((1..monitors.len()).map(absent)).collect();
    let mirrors: Vec<_> = wires.iter().zip(monitors).map(|(wire, port)| (wire.0, port.ifindex, rate)).collect();
    document_with(&wires, &mirrors, "")
}

/// Takes the queue of a device, as another program that uses AF_XDP.
fn hold(lab: &Lab, port: &Port) -> Holder {
    lab.dut().enter(|| Holder::open(port.ifindex, 0, &[0; 60])).unwrap().expect("the queue")
}

/// Sends to port A until `stop`, some two thousand frames a second. What it cannot send is nobody's loss.
fn send_until(lab: &Lab, stop: &AtomicBool) {
    let mut sender = lab.sender(&lab.wire(0).unwrap().a).unwrap();
    let frames: Vec<Vec<u8>> = (0..50).map(|number| udp(0, number, 100)).collect();
    while !stop.load(Relaxed) {
        if sender.send(&frames, Pace::Windowed { burst: 1, per_second: 2000 }).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Polls until something holds. When that was.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Instant {
    let start = Instant::now();
    loop {
        let now = Instant::now();
        if holds() {
            return now;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Has port B go down and, `later`, come up again. How long after the kernel says that it is up the wire carries again.
fn reaction(lab: &Lab, node: &Node, arrivals: &Capture, later: Duration) -> Duration {
    let b = &lab.wire(0).unwrap().b;
    let before = arrivals.count();
    until("frames", || arrivals.count() > before + 10);
    set(lab, b, &["down"]);
    node.wait_for("the link to be down", |show| port_of(show, B).unwrap()["state"] == "inactive");
    // At no certain time for whoever is busy with other ports.
    std::thread::sleep(later);
    let before = arrivals.count();
    let (up, first) = lab
        .dut()
        .enter(|| {
            set(lab, b, &["up"]);
            let is_up = || devices::present().unwrap().iter().any(|device| device.ifindex == B && device.up);
            (until("the link", is_up), until("a frame", || arrivals.count() > before))
        })
        .unwrap();
    first.saturating_duration_since(up)
}

/// The median and the 99th percentile.
fn tell(what: &str, mut all: Vec<Duration>) -> Duration {
    all.sort();
    let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
    eprintln!("{what}: reaction p50 {:?}, p99 {:?}, the longest {:?}, of {}", at(50), at(99), at(100), all.len());
    at(50)
}

on_each_path!(long xdp: a_restored_wire_carries_soon_however_many_ports_cannot_be_bound, everything_at_once_breaks_nothing);

fn a_restored_wire_carries_soon_however_many_ports_cannot_be_bound(path: Path) {
    let lab = path.lab(LabSpec { monitors: 1 + BUSY, ..LabSpec::default() });
    let monitors: Vec<&Port> = (0..=BUSY).map(|at| lab.monitor(at).unwrap()).collect();
    let held: Vec<Holder> = monitors[1..].iter().map(|port| hold(&lab, port)).collect();
    let node = path.start(&lab, &[]);
    node.import(&snapshot(&monitors, 100));
    node.wait_for_ports(&[A, B, MON]);
    let busy = |show: &Value| {
        let reason = |port: &&Port| port_of(show, port.ifindex).unwrap()["reason"].as_str().unwrap().to_owned();
        monitors[1..].iter().all(|port| reason(port).contains("another socket holds this queue"))
    };
    node.wait_for("the monitors to be refused", busy);
    let (stop, mut dice) = (AtomicBool::new(false), Dice::new());
    std::thread::scope(|scope| {
        scope.spawn(|| send_until(&lab, &stop));
        let end = End(&stop);
        let arrivals = lab.capture(&lab.wire(0).unwrap().b).unwrap();
        let rounds = if is_long() { 200 } else { 10 };
        let all =
            (0..rounds).map(|_| reaction(&lab, &node, &arrivals, Duration::from_millis(dice.below(2000)))).collect();
        let median = tell(&format!("{BUSY} busy monitors"), all);
        assert!(median < Duration::from_millis(300), "{median:?}");
        drop(end);
    });
    // Those are taken into use when they can be.
    drop(held);
    node.wait_for_ports(&monitors.iter().map(|port| port.ifindex).collect::<Vec<_>>());
}

/// Ends the other threads of a test, however it ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What must never go backward: generations, and every counter of the ports that are wanted all the time.
#[derive(Default)]
struct Seen {
    generation: u64,
    counters: BTreeMap<(u64, String), u64>,
}

impl Seen {
    fn look(&mut self, node: &Node) {
        let generation = node.json(&["show"])["generation"].as_u64().unwrap();
        assert!(generation >= self.generation, "generation {generation} after {}", self.generation);
        self.generation = generation;
        let stats = node.json(&["stats"]);
        check_ledgers(&stats);
        for row in stats["ports"].as_array().unwrap() {
            let ifindex = row["ifindex"].as_u64().unwrap();
            if ![A, B, MON].map(u64::from).contains(&ifindex) {
                continue;
            }
            for (key, value) in row.as_object().unwrap() {
                let Some(value) = value.as_u64().filter(|_| !key.ends_with("ifindex") && key != "outstanding_tx")
                else {
                    continue;
                };
                let was = self.counters.insert((ifindex, key.clone()), value).unwrap_or(0);
                assert!(value >= was, "{key} of {ifindex} was {was} and is {value}");
            }
        }
    }
}

/// Pseudo-random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = since.as_nanos() as u64 | 1;
        eprintln!("seed {seed}");
        Dice(seed)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn everything_at_once_breaks_nothing(path: Path) {
    const OTHERS: usize = 3;
    let mut dice = Dice::new();
    let time = Duration::from_secs(if is_long() { 600 } else { 8 });
    let lab = path.lab(LabSpec { monitors: 1 + OTHERS, ..LabSpec::default() });
    let monitors: Vec<&Port> = (0..=OTHERS).map(|at| lab.monitor(at).unwrap()).collect();
    let mut held: Vec<Option<Holder>> = monitors[1..].iter().map(|port| Some(hold(&lab, port))).collect();
    let node = path.start(&lab, &[]);
    let mut serve = Serve::start(&node);
    // MON is wanted whoever publishes; of the others only those that somebody wants now.
    let chosen = |wanted: &[bool], rate: u32| {
        let others = monitors[1..].iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(port, _)| *port);
        snapshot(&std::iter::once(monitors[0]).chain(others).collect::<Vec<_>>(), rate)
    };
    let mut wanted = vec![true; OTHERS];
    node.import(&chosen(&wanted, 100));
    node.wait_for_ports(&[A, B, MON]);
    let (stop, mut seen, mut reactions, mut published) = (AtomicBool::new(false), Seen::default(), Vec::new(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| send_until(&lab, &stop));
        let end = End(&stop);
        let wire = lab.wire(0).unwrap();
        let arrivals = lab.capture(&wire.b).unwrap();
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed() < time || done < 30 {
            done += 1;
            let rate = 1 + dice.below(1000) as u32;
            let which = dice.below(OTHERS as u64) as usize;
            match dice.below(8) {
                0 | 1 => {
                    node.wait_for_ports(&[A, B]);
                    reactions.push(reaction(&lab, &node, &arrivals, Duration::from_millis(dice.below(100))));
                }
                2 => {
                    let port = monitors[dice.below(1 + OTHERS as u64) as usize];
                    set(&lab, port, &["down"]);
                    std::thread::sleep(Duration::from_millis(dice.below(100)));
                    set(&lab, port, &["up"]);
                }
                3 => {
                    let port = if dice.below(2) == 0 { &wire.a } else { &wire.b };
                    set(&lab, port, &["mtu", ["1400", "1500", "2000"][dice.below(3) as usize]]);
                    std::thread::sleep(Duration::from_millis(dice.below(200)));
                    set(&lab, port, &["mtu", "1500"]);
                }
                4 => {
                    // Another program lets go of a queue, or takes one that is not wanted.
                    if held[which].take().is_none() {
                        wanted[which] = false;
                        node.import(&chosen(&wanted, rate));
                        held[which] = Some(hold(&lab, monitors[1 + which]));
                    }
                }
                5 => {
                    wanted[which] = !wanted[which];
                    node.import(&chosen(&wanted, rate));
                }
                6 => {
                    node.import(&chosen(&wanted, rate));
                }
                _ => {
                    published += 1;
                    wanted = vec![false; OTHERS];
                    serve.producer.republish(1000 + published, &[(A, MON, rate)]);
                }
            }
            seen.look(&node);
        }
        eprintln!("{done} changes in {:?}", start.elapsed());
        drop(end);
    });
    if !reactions.is_empty() {
        tell("chaos", reactions);
    }
    // What can be served is, in the end.
    drop(held);
    node.import(&chosen(&[true; OTHERS], 1));
    node.wait_for_ports(&[A, B]);
    node.wait_for_ports(&monitors.iter().map(|port| port.ifindex).collect::<Vec<_>>());
    seen.look(&node);
    check_ledgers(&node.settled_stats());
}
