//! What crosses in the kernel goes on crossing, whatever becomes of the process.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use spanwire_lab::exchange::{ExchangeSpec, Mirror, Progress, run};
use spanwire_lab::topology::{Lab, LabSpec, Role, Wire};
use spanwire_lab::traffic::Pace;

use crate::node::{A, B, MON, Node, check_ledgers, document, document_with, lab, mirror_of, port_of, program, signal};
use crate::paths::Path;

/// The hooks, as `--path` has them.
pub const HOOKS: [&str; 2] = ["tc", "xdp"];

/// A lab whose far ends take what a driver redirects to them: a veth does so where its peer's receive path is NAPI's.
pub fn kernel_lab(spec: LabSpec) -> Lab {
    let lab = lab(spec);
    for port in lab.info().wires.iter().flat_map(|wire| [&wire.a, &wire.b]) {
        lab.ns(port.host).exec("ethtool", &["-K", &port.host_name, "gro", "on"]).expect("ethtool");
    }
    lab
}

/// Frames both ways while the dataplane is killed, stopped, ended, started again and told of snapshots: each arrives, once
/// and in order.
#[test]
fn every_frame_crosses_whatever_becomes_of_the_process() {
    let long = std::env::var_os("SPANWIRE_LONG").is_some();
    let (pace, frames, publishes) = if long { (50_000, 3_000_000, 50) } else { (5_000, 30_000, 10) };
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let start = |node: &mut Node| {
            node.launch(&lab, &["--path", hook]);
            node.wait_for_ports(&[A, B, MON]);
        };
        let mut node = Node::idle();
        node.publish(&document(&[(A, MON, 10)]));
        start(&mut node);
        let pace = Pace::per_second(pace);
        let spec = ExchangeSpec { monitor: None, pace, ..ExchangeSpec::new(&lab, 60, frames) };
        let (crossed, mut rounds) = (AtomicUsize::new(0), 0);
        let report = std::thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                let note = |progress: Progress| crossed.store(progress.a_to_b, Relaxed);
                run(&lab, &spec, note).expect("an exchange")
            });
            while crossed.load(Relaxed) == 0 && !traffic.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            while !traffic.is_finished() {
                node.kill();
                start(&mut node);
                node.stop();
                start(&mut node);
                if rounds == 0 {
                    signal(node.pid(), "STOP");
                    std::thread::sleep(Duration::from_secs(if long { 5 } else { 1 }));
                    signal(node.pid(), "CONT");
                }
                for publish in 0..publishes {
                    node.publish(&document(&[(A, MON, 2 + publish % 5)]));
                }
                rounds += 1;
            }
            traffic.join().unwrap()
        });
        assert!(report.holds, "{hook}: {report}");
        assert!(rounds > 0, "{hook}: the exchange was over at once");
        eprintln!("{hook}: {frames} frames each way over {rounds} times killed, ended and started");
        check_ledgers(&node.settled_stats());
    }
}

/// Who must fail closed says so.
#[test]
fn nothing_crosses_any_more_where_it_is_to_be_cut() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let before = crate::signals::ports(&lab);
        let mut node = Node::start(&lab, &["--path", hook, "--on-exit", "cut"]);
        node.import(&document(&[]));
        node.wait_for_ports(&[A, B]);
        let quick =
            ExchangeSpec { idle: Duration::from_millis(300), monitor: None, ..ExchangeSpec::new(&lab, 61, 100) };
        assert!(run(&lab, &quick, |_| ()).expect("an exchange").holds, "{hook}");
        node.stop();
        assert!(!run(&lab, &quick, |_| ()).expect("an exchange").holds, "{hook}: it is cut");
        assert_eq!(crate::signals::ports(&lab), before, "{hook}");
    }
}

/// What was changed on devices is known where they are: elsewhere nothing of it can be undone, nor is it forgotten.
#[test]
fn what_is_left_is_not_taken_off_from_elsewhere() {
    let lab = kernel_lab(LabSpec::default());
    let before = crate::signals::ports(&lab);
    // On the shard path nothing is pinned that would say where.
    let mut node = Node::start(&lab, &["--path", "shard"]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A, B]);
    node.kill();
    let record = || std::fs::read_to_string(node.dir.path().join("ports.json")).unwrap();
    let left = record();
    let detach = |role: Role| {
        let mut command = lab.ns(role).command(program("spanctl").to_str().unwrap());
        command.arg("--dir").arg(node.dir.path()).arg("detach").env("SPANWIRE_PINS", node.pins.path());
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let (code, said) = detach(Role::Mon);
    assert!(code == Some(1) && said.contains("is in another network namespace"), "{said}");
    assert!(left.contains("rxvlan") && record() == left, "{left}\n{}", record());
    let (code, said) = detach(Role::Dut);
    assert!(code == Some(0) && said.contains("changed back"), "{said}");
    assert_eq!(crate::signals::ports(&lab), before);
}

/// A port that another program holds keeps the wire from being whole.
#[test]
fn half_a_wire_does_not_outlive_the_process() {
    let lab = lab(LabSpec { wires: 2, ..LabSpec::default() });
    let other = Path::Shard.start(&lab, &[]);
    let others = (B, lab.wire(1).unwrap().a.ifindex);
    other.import(&document_with(&[others], &[], ""));
    other.wait_for_ports(&[others.0, others.1]);
    let before = crate::signals::ports(&lab);
    let mut node = Path::Xdp.start(&lab, &[]);
    node.import(&document(&[]));
    node.wait_for_ports(&[A]);
    node.wait_for("the refusal", |show| port_of(show, B).is_some_and(|port| port["reason"] != ""));
    assert_ne!(crate::signals::ports(&lab), before, "one of them has its selector");
    node.stop();
    assert_eq!(crate::signals::ports(&lab), before);
}

/// What a run that was killed has left is taken off, and its devices are as they were.
#[test]
fn what_is_left_is_taken_off_when_it_is_asked_for() {
    let lab = kernel_lab(LabSpec { wires: 2, ..LabSpec::default() });
    let before = crate::signals::ports(&lab);
    let (first, second) = (lab.wire(0).unwrap().clone(), lab.wire(1).unwrap().clone());
    let ends = |wire: &Wire| (wire.a.ifindex, wire.b.ifindex);
    let mut node = Node::start(&lab, &["--path", "xdp"]);
    node.import(&document_with(&[ends(&first), ends(&second)], &[], ""));
    node.wait_for_ports(&[first.a.ifindex, first.b.ifindex, second.a.ifindex, second.b.ifindex]);
    let (code, said) = node.detach(&lab, &[]);
    assert!(code == Some(1) && said.contains("spanwired runs"), "{said}");
    node.kill();

    let (code, said) = node.detach(&lab, &["--wire", "none"]);
    assert!(code == Some(1) && said.contains("no wire is called \"none\""), "{said}");
    let name = format!("w{}", second.a.ifindex);
    let (code, said) = node.detach(&lab, &["--wire", &name]);
    assert!(code == Some(0) && said.contains("2 selector(s)"), "{said}");
    let crosses = |wire: usize| {
        let idle = Duration::from_millis(300);
        let spec = ExchangeSpec { idle, monitor: None, wire, ..ExchangeSpec::new(&lab, 62, 100) };
        run(&lab, &spec, |_| ()).expect("an exchange").holds
    };
    assert!(crosses(0) && !crosses(1), "only one wire was asked for");
    let (code, said) = node.detach(&lab, &[]);
    assert!(code == Some(0) && said.contains("2 selector(s)"), "{said}");
    assert!(!crosses(0));
    assert_eq!(crate::signals::ports(&lab), before);
    assert_eq!(node.pinned(), Vec::<std::path::PathBuf>::new());
}

/// What the kernel selects is mirrored, byte for byte: each frame, or 1 in N of those that a processor receives.
#[test]
fn clones_are_what_was_selected() {
    for hook in HOOKS {
        let lab = kernel_lab(LabSpec::default());
        let node = Node::start(&lab, &["--path", hook]);
        let processors = std::thread::available_parallelism().expect("processors").get() as u32;
        for (seed, rate) in [(63, 1), (64, 7)] {
            node.import(&document(&[]));
            node.import(&document(&[(A, MON, rate), (B, MON, rate)]));
            node.wait_for_ports(&[A, B, MON]);
            let (mirror, samplers) = (Some(Mirror::new(rate)), processors);
            // Two processors put what they select into two rings, and the order between those is not kept.
            let in_order = false;
            let spec = ExchangeSpec { samplers, in_order, ..ExchangeSpec::new(&lab, seed, 6000) };
            let report = run(&lab, &ExchangeSpec { mirror_a: mirror, mirror_b: mirror, ..spec }, |_| ());
            let report = report.expect("an exchange");
            assert!(report.holds, "{hook}: {report}");
            let stats = node.settled_stats();
            for ingress in [A, B] {
                let entry = mirror_of(&stats, ingress);
                assert_eq!(
                    (&entry["observed"], &entry["mirror_drops_ring_full"]),
                    (&6000.into(), &0.into()),
                    "{entry}"
                );
                assert_eq!(entry["mirrored_packets"], entry["selected"], "{entry}");
            }
        }
    }
}
