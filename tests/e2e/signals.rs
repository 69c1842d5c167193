//! Signals: which end a program, cleanly, and which do nothing; none leaves a port changed.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spanwire_lab::exchange::{ExchangeSpec, Mirror, run};
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::Pace;

use super::exchange;
use super::node::{A, B, MON, Node, document, lab, program, signal, wait};
use super::paths::{Path, on_each_path};

on_each_path!(
    long xdp: no_signal_that_is_not_an_end_does_anything,
    every_signal_that_is_an_end_is_a_clean_one,
    a_storm_of_signals_costs_nothing_and_delays_no_end,
);

/// What ends no process but by its default action, or by stopping it. 34 and 64 are the first and the last real-time
/// signal of the C library.
const IGNORED: [&str; 19] = [
    "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "XCPU", "XFSZ", "TSTP", "TTIN", "TTOU",
    "PIPE", "34", "40", "64", "WINCH",
];
/// What asks for the end.
const ENDING: [&str; 3] = ["TERM", "INT", "QUIT"];

/// What the dataplane changes on the ports of the lab's middle namespace: offloads, promiscuity, programs.
pub fn ports(lab: &Lab) -> Vec<String> {
    let wire = lab.wire(0).unwrap();
    let mut found = Vec::new();
    for device in [&wire.a.name, &wire.b.name, &lab.monitor(0).unwrap().name] {
        let features = lab.dut().exec("ethtool", &["-k", device]).unwrap();
        let details = lab.dut().ip(&["-d", "link", "show", device]).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (features, details) = (text(&features.stdout), text(&details.stdout));
        found.extend(features.lines().filter(|line| line.contains("vlan")).map(|line| format!("{device} {line}")));
        let promiscuity = details.split("promiscuity ").nth(1).unwrap().split(' ').next().unwrap();
        let has_program = details.contains("prog/xdp");
        found.push(format!("{device} promiscuity {promiscuity}, program {has_program}"));
    }
    found
}

/// Holds that a clean end has left these ports as they were `before`: at once, or where the kernel carries frames, which go
/// on crossing, when that is asked for.
pub fn check_left(lab: &Lab, node: &Node, before: &[String]) {
    if node.path != Some(Path::Shard) {
        exchange(lab, 99, 100, None, None);
        let (code, said) = node.detach(lab, &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(ports(lab), before);
}

/// The wire goes on crossing, and mirroring, while they come; afterwards the port is left as it was found.
fn no_signal_that_is_not_an_end_does_anything(path: Path) {
    let lab = path.lab(LabSpec::default());
    let before = ports(&lab);
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 2)]));
    node.wait_for_ports(&[A, B, MON]);
    assert_ne!(ports(&lab), before, "the comparison sees what is changed");
    let report = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let spec = ExchangeSpec {
                mirror_a: Some(Mirror::new(2)),
                pace: Pace::per_second(5000),
                ..ExchangeSpec::new(&lab, 1, 5000)
            };
            run(&lab, &spec, |_| ()).unwrap()
        });
        let mut rounds = 0;
        while !traffic.is_finished() || rounds == 0 {
            IGNORED.iter().for_each(|name| signal(node.pid(), name));
            rounds += 1;
        }
        traffic.join().unwrap()
    });
    assert!(report.holds, "{report}");
    assert!(node.is_running());
    let log = node.stop();
    check_left(&lab, &node, &before);
    for told in ["SIGHUP is ignored: settings come with the snapshot", "SIGUSR1 is ignored", "signal 64 is ignored"] {
        assert_eq!(log.matches(told).count(), 1, "{told} in:\n{log}");
    }
}

fn every_signal_that_is_an_end_is_a_clean_one(path: Path) {
    let lab = path.lab(LabSpec::default());
    let before = ports(&lab);
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    for (seed, name) in ENDING.into_iter().enumerate() {
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, seed as u64, 200, Some(1), None);
        let log = node.stop_by(name);
        assert!(log.contains(&format!("SIG{name} asks for the end")), "{log}");
        check_left(&lab, &node, &before);
        assert_eq!(node.json(&["show"])["dataplane"]["running"], false);
        node.launch(&lab, &[]);
    }
    // One that comes before anything is set up ends it too, and as cleanly: from the beginning they are held back.
    let held = || status_of(node.pid(), "SigBlk").is_some_and(|blocked| blocked & 1 << (15 - 1) != 0);
    let start = Instant::now();
    while !held() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is held back");
    }
    signal(node.pid(), "TERM");
    node.stop();
    node.detach(&lab, &[]);
    assert_eq!(ports(&lab), before);
}

/// As fast as other processes can send them: they cost this one next to nothing, and hide no end.
fn a_storm_of_signals_costs_nothing_and_delays_no_end(path: Path) {
    let lab = path.lab(LabSpec::default());
    let before = ports(&lab);
    let mut node = path.start(&lab, &[]);
    node.import(&document(&[(A, MON, 1)]));
    node.wait_for_ports(&[A, B, MON]);
    let pid = Pid::from_raw(node.pid() as i32).unwrap();
    // One that queues: until its queue is full, and then as fast as it is emptied. Ends with the process.
    let queueing = "while kill -0 $0 2> /dev/null; do kill -40 $0 2> /dev/null; done";
    let mut queueing = Command::new("bash").args(["-c", queueing, &node.pid().to_string()]).spawn().unwrap();
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _over = Set(&over);
        for name in [Signal::HUP, Signal::USR1] {
            let (over, sent) = (&over, &sent);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    kill_process(pid, name).unwrap();
                    sent.fetch_add(1, Relaxed);
                }
            });
        }
        let (used, start) = (processor_time(node.pid()), Instant::now());
        while sent.load(Relaxed) < 50_000 || start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (used, took) = (processor_time(node.pid()) - used, start.elapsed());
        // What it takes between changes without a storm is a hundredth of this.
        assert!(used < took / 4, "{used:?} of processor time in {took:?}");
        exchange(&lab, 1, 500, Some(1), None);
        assert!(node.is_running());
        eprintln!("{} signals, {used:?} of processor time in the first {took:?}", sent.load(Relaxed));
        over.store(true, Relaxed);
    });
    // The one that queues still comes.
    node.stop();
    assert!(queueing.wait().unwrap().code().is_some());
    check_left(&lab, &node, &before);
}

/// A terminal that was closed, a reader of the log that has gone: what is written is lost, and nothing else happens.
#[test]
fn a_log_that_nobody_takes_stops_nothing() {
    let lab = lab(LabSpec::default());
    let before = ports(&lab);
    let mut node = Node::start(&lab, &[]);
    node.wait_for_running();
    node.close_log();
    signal(node.pid(), "HUP");
    for rate in 1..4 {
        // Each adoption, each port and the signal are told of.
        node.import(&document(&[(A, MON, rate)]));
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, rate.into(), 300, Some(rate), None);
    }
    assert!(node.is_running());
    node.stop();
    check_left(&lab, &node, &before);
}

/// A pipe that is full because its reader stands still: the same, and the end comes as fast.
#[test]
fn a_log_whose_reader_stands_still_stops_nothing() {
    let lab = lab(LabSpec::default());
    let before = ports(&lab);
    let node = Node::idle();
    let (reader, mut full) = std::io::pipe().unwrap();
    // For a moment it takes what it can without a wait.
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'.'; 4096]).is_ok() {}
    while full.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut daemon = node.command(&lab, &[]).stderr(full).spawn().unwrap();
    for rate in 1..4 {
        node.import(&document(&[(A, MON, rate)]));
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, rate.into(), 300, Some(rate), None);
    }
    signal(daemon.id(), "TERM");
    assert!(wait(&mut daemon, "spanwired", Duration::from_secs(60)).success());
    check_left(&lab, &node, &before);
    drop(reader);
}

/// A closed terminal ends the server of a producer's socket, and takes the socket with it; nohup and other signals do not.
#[test]
fn a_server_hangs_up_cleanly() {
    let node = Node::idle();
    let socket = node.dir.path().join("control.sock");
    // Also where the tests themselves run under nohup.
    let plain = ["env", "--default-signal=HUP"];
    for (starter, name, ends) in [(&plain[..], "USR1", false), (&["nohup"], "HUP", false), (&plain, "HUP", true)] {
        let mut child = Command::new(starter[0])
            .args(&starter[1..])
            .arg(program("spanctl"))
            .arg("--dir")
            .arg(node.dir.path())
            .args(["serve", "--socket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        signal(child.id(), name);
        if !ends {
            std::thread::sleep(Duration::from_millis(200));
            assert!(child.try_wait().unwrap().is_none(), "{starter:?} {name}");
            signal(child.id(), "TERM");
        }
        let status = wait(&mut child, "spanctl serve", Duration::from_secs(60));
        assert!(status.success(), "{starter:?} {name}: {status}");
        assert!(!socket.exists(), "{starter:?} {name}");
    }
}

/// All that a process has had of the processors.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}

/// A mask in what the kernel tells of a process.
fn status_of(pid: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Sets a flag when it goes, by a panic too.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
