//! The lab proves itself: with a kernel bridge in the place of spanwired, every exchange is exact.
//!
//! Needs root (network namespaces); without it each test says so and passes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use spanwire_lab::exchange::{self, ExchangeSpec, Mirror};
use spanwire_lab::netns::{self, Namespace};
use spanwire_lab::topology::{Lab, LabSpec, Role};
use spanwire_lab::traffic::{Pace, frames};
use spanwire_lab::verify::compare_in_order;

/// A classic BPF program that accepts every frame: this kernel family may lack matchall.
const ACCEPT_ALL: &str = "1,6 0 0 4294967295,";

fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root to create network namespaces");
    }
    root
}

fn bridged(spec: LabSpec) -> Lab {
    let lab = Lab::create(spec).unwrap();
    lab.bridge(0).unwrap();
    lab
}

fn assert_holds(lab: &Lab, spec: &ExchangeSpec) {
    let report = exchange::run(lab, spec, |_| {}).unwrap();
    assert!(report.holds, "{}:\n{report}", lab.id());
}

/// What enters `from` also leaves by the first monitor port: mirroring at rate 1, by the kernel.
fn mirror_every_frame(lab: &Lab, from: &str) {
    let tc = |args: &[&str]| drop(lab.dut().exec("tc", args).unwrap());
    tc(&["qdisc", "add", "dev", from, "clsact"]);
    tc(&[
        "filter",
        "add",
        "dev",
        from,
        "ingress",
        "bpf",
        "bytecode",
        ACCEPT_ALL,
        "action",
        "mirred",
        "egress",
        "mirror",
        "dev",
        &lab.monitor(0).unwrap().name,
    ]);
}

#[test]
fn a_bridge_forwards_exactly_both_ways() {
    if privileged() {
        let lab = bridged(LabSpec::default());
        assert_holds(&lab, &ExchangeSpec::new(&lab, 1, 2000));
    }
}

#[test]
fn two_labs_at_once_do_not_meet() {
    if privileged() {
        let labs = [bridged(LabSpec::default()), bridged(LabSpec::default())];
        std::thread::scope(|scope| {
            for (lab, seed) in labs.iter().zip(10..) {
                scope.spawn(move || assert_holds(lab, &ExchangeSpec::new(lab, seed, 2000)));
            }
        });
    }
}

#[test]
fn several_queues_lose_nothing() {
    if privileged() {
        let lab = bridged(LabSpec { queues: 2, ..LabSpec::default() });
        assert_holds(&lab, &ExchangeSpec::new(&lab, 3, 2000));
    }
}

#[test]
fn an_unpaced_sender_still_gets_every_frame_into_the_lab() {
    if privileged() {
        let lab = bridged(LabSpec::default());
        assert_holds(&lab, &ExchangeSpec { pace: Pace::Unpaced, ..ExchangeSpec::new(&lab, 4, 5000) });
    }
}

#[test]
fn the_monitor_sees_the_clones_of_one_direction_and_misses_absent_ones() {
    if privileged() {
        let lab = bridged(LabSpec::default());
        mirror_every_frame(&lab, &lab.wire(0).unwrap().a.name);
        let spec = ExchangeSpec::new(&lab, 5, 1000);
        assert_holds(&lab, &ExchangeSpec { mirror_a: Some(Mirror::new(1)), ..spec.clone() });

        // The same clones are wrong when nobody asked for them, when fewer were asked for, and when the other
        // direction should have been mirrored too.
        let quick = ExchangeSpec { idle: Duration::from_millis(200), ..spec };
        let (every, some) = (Some(Mirror::new(1)), Some(Mirror::new(7)));
        for (mirror_a, mirror_b) in [(None, None), (some, None), (every, every)] {
            let report = exchange::run(&lab, &ExchangeSpec { mirror_a, mirror_b, ..quick.clone() }, |_| {}).unwrap();
            assert!(!report.holds && report.a_to_b.holds && report.b_to_a.holds, "{report}");
        }
    }
}

#[test]
fn a_lab_without_a_forwarder_reports_every_frame_missing() {
    if privileged() {
        let lab = Lab::create(LabSpec::default()).unwrap();
        let spec = ExchangeSpec { idle: Duration::from_millis(200), ..ExchangeSpec::new(&lab, 6, 100) };
        let report = exchange::run(&lab, &spec, |_| {}).unwrap();
        assert!(!report.holds);
        // Nothing at all arrives: the lab is silent but for its own traffic.
        assert_eq!((report.a_to_b.verdict.missing, report.a_to_b.verdict.arrived), (100, 0));
        assert_eq!((report.b_to_a.verdict.missing, report.b_to_a.verdict.arrived), (100, 0));
    }
}

#[test]
fn a_sender_and_a_capture_work_on_their_own() {
    if privileged() {
        let lab = bridged(LabSpec::default());
        let wire = lab.wire(0).unwrap();
        let sent = frames(7, 500);
        let capture = lab.capture(&wire.b).unwrap();
        let report = lab.sender(&wire.a).unwrap().send(&sent, Pace::per_second(50_000)).unwrap();
        let captured = capture.finish(sent.len(), Duration::from_secs(1)).unwrap();
        assert_eq!((report.sent, captured.drops), (500, 0));
        assert!(compare_in_order(&sent, &captured.frames).is_exact());
    }
}

#[test]
fn ifindexes_are_those_of_the_fixtures_and_survive_attaching() {
    if privileged() {
        let spec = LabSpec { queues: 2, wires: 2, monitors: 2, mtu: 1400, ..LabSpec::default() };
        let lab = Lab::create(spec).unwrap();
        assert_eq!(Lab::attach(lab.id()).unwrap().info(), lab.info());
        let index = |name: &str| {
            let shown = lab.dut().exec("cat", &[&format!("/sys/class/net/{name}/ifindex")]).unwrap();
            String::from_utf8(shown.stdout).unwrap().trim().to_owned()
        };
        let names = ["w0a", "w0b", "w1a", "w1b", "mon0", "mon1"];
        assert_eq!(names.map(index), ["11", "12", "13", "14", "22", "23"]);
    }
}

#[test]
fn a_lab_of_devices_that_were_there_has_their_ifindexes() {
    if privileged() {
        let lab = Lab::create(LabSpec::default()).unwrap();
        lab.dut().ip(&["link", "del", "w0b"]).unwrap();
        assert!(Lab::attach(lab.id()).unwrap_err().to_string().ends_with("its device w0b is gone"));
        let near = ["link", "add", "name", "w0b", "index", "7", "type", "veth"];
        let far = ["peer", "name", "s0", "index", "5", "netns", lab.ns(Role::Sink).name()];
        lab.dut().ip(&[&near[..], &far[..]].concat()).unwrap();
        let attached = Lab::attach(lab.id()).unwrap();
        let port = &attached.wire(0).unwrap().b;
        assert_eq!((port.ifindex, port.host_ifindex), (7, 5));
        assert_eq!(attached.monitor(0).unwrap(), lab.monitor(0).unwrap());
    }
}

#[test]
fn a_namespace_goes_with_its_handle_also_on_a_panic() {
    if privileged() {
        let mut name = String::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let ns = Namespace::create("swlabtest").unwrap();
            name = ns.name().to_owned();
            assert!(netns::names().contains(&name));
            // A panic inside the namespace reaches the caller.
            ns.enter(|| panic!("inside")).unwrap();
        }));
        assert!(outcome.is_err() && !netns::names().contains(&name));
    }
}

#[test]
fn entering_changes_the_namespace_of_that_thread_only() {
    if privileged() {
        let this = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let ns = Namespace::create("swlabtest").unwrap();
        let before = this();
        let inside = ns.enter(this).unwrap();
        assert_ne!(inside, before);
        assert_eq!(this(), before);
        assert!(Namespace::attach("swlabtest-none").is_err());
        assert!(ns.exec("false", &[]).is_err());
    }
}

#[test]
fn the_sweep_deletes_the_labs_of_the_dead_only() {
    if privileged() {
        let spanlab = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_spanlab")).args(args).output().unwrap();
        let alive = Lab::create(LabSpec::default()).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();

        let up = spanlab(&["up", "--owner", &pid.to_string()]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let info: serde_json::Value = serde_json::from_slice(&up.stdout).unwrap();
        let dut = info["namespaces"]["dut"].as_str().unwrap().to_owned();
        assert!(netns::names().contains(&dut));

        assert!(spanlab(&["sweep"]).status.success());
        assert!(!netns::names().contains(&dut));
        assert!(netns::names().contains(&alive.ns(Role::Dut).name().to_owned()));
    }
}

#[test]
fn the_command_line_lays_exchanges_and_takes_down() {
    if privileged() {
        let spanlab = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_spanlab")).args(args).output().unwrap();
        let up = spanlab(&["up", "--owner", &std::process::id().to_string()]);
        let info: serde_json::Value = serde_json::from_slice(&up.stdout).unwrap();
        let id = info["lab"].as_str().unwrap().to_owned();
        let exchange = ["exchange", "--lab", &id, "--frames", "500", "--idle-ms", "200"];

        let without = spanlab(&exchange);
        let bridged = spanlab(&["bridge", &id]);
        let with = spanlab(&exchange);
        let json = spanlab(&[&exchange[..], &["--json", "--mirror-b", "7"]].concat());
        let down = spanlab(&["down", &id]);
        let again = spanlab(&["down", &id]);

        assert_eq!(without.status.code(), Some(1));
        assert!(bridged.status.success());
        assert_eq!(with.status.code(), Some(0), "{}", String::from_utf8_lossy(&with.stdout));
        // Forwarded, but nothing mirrors here.
        assert_eq!(json.status.code(), Some(1));
        let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(report["a_to_b"]["holds"], true);
        assert_eq!(report["monitor"]["mirror_b"]["verdict"]["missing"], 72);
        assert!(down.status.success());
        assert_eq!(again.status.code(), Some(2));
    }
}
