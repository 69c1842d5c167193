//! The tester on real veth pairs. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use spanwire::kernel::xdp::XdpMode;
use spanwire::xsk::endpoint::Sender;
use spanwire_lab::topology::{Lab, LabSpec, Role};

use super::far_ends;
use super::probe;
use super::sequence::Verdict;
use super::sink::Sink;
use super::system::{Mode, Setup, System};
use super::tester::{Load, Tester};

/// A tester over a bridge, which loses, repeats and swaps nothing at this rate.
fn bridged(mode: XdpMode) -> (Lab, Tester) {
    assert!(rustix::process::geteuid().is_root(), "these tests lay network namespaces: run them as root");
    let lab = Lab::create(LabSpec::default()).unwrap();
    lab.bridge(0).unwrap();
    let cpu = core_affinity::get_core_ids().unwrap()[0].id;
    let tester = Tester::new(&lab, 64, mode, cpu).unwrap();
    (lab, tester)
}

fn slowly(every: u32) -> Load {
    Load { rate: Some(5000.0), duration: Duration::from_millis(100), every }
}

#[test]
fn every_frame_is_counted_and_looked_at() {
    for mode in [XdpMode::Native, XdpMode::Generic] {
        let (_lab, mut tester) = bridged(mode);
        for every in [1, 7] {
            let outcome = tester.run(slowly(every)).unwrap();
            assert!(outcome.offered > 0);
            assert_eq!((outcome.received, outcome.refused, outcome.foreign), (outcome.offered, 0, 0));
            let seen = outcome.seen.unwrap();
            assert!(seen.verdict.is_clean(), "{:?}", seen.verdict);
            assert!(seen.verdict.expected >= outcome.offered / u64::from(every));
            assert_eq!(seen.latency.len(), seen.verdict.expected);
            assert!(seen.latency.min() > 0, "a frame arrives after it is sent");
        }
        let outcome = tester.run(slowly(0)).unwrap();
        assert_eq!(outcome.received, outcome.offered);
        assert!(outcome.seen.is_none());
    }
}

#[test]
fn a_loss_a_swap_and_a_duplicate_on_the_wire_are_found() {
    let (_lab, mut tester) = bridged(XdpMode::Native);
    let outcome = tester.run_numbered(slowly(1), |number| match number {
        3 => 4,
        4 => 3,
        10 => 9,
        other => other,
    });
    let outcome = outcome.unwrap();
    assert!(outcome.offered > 11, "{}", outcome.offered);
    let found = outcome.seen.unwrap().verdict;
    assert_eq!(found, Verdict { expected: outcome.offered, lost: 1, duplicated: 1, reordered: 1, stray: 0 });
}

#[test]
fn what_comes_of_an_earlier_trial_is_not_counted_in_a_later_one() {
    let lab = Lab::create(LabSpec::default()).unwrap();
    let a = lab.wire(0).unwrap().a.clone();
    let sink = Sink::attach(lab.dut(), a.ifindex, XdpMode::Native).unwrap();
    sink.want(2, 0).unwrap();
    let mut sender =
        lab.ns(Role::Gen).enter(|| Sender::open(a.host_ifindex, 0, &probe::template(64))).unwrap().unwrap();
    for trial in [1, 2, 2, 1, 2, 3] {
        sender.push(1, |frame| probe::stamp(frame, trial, 0, 0));
    }
    let start = Instant::now();
    let tally = loop {
        sender.kick();
        let tally = sink.tally().unwrap();
        if tally.frames + tally.late == 6 || start.elapsed() > Duration::from_secs(60) {
            break tally;
        }
    };
    assert_eq!((tally.frames, tally.late, tally.foreign), (3, 3, 0));
}

#[test]
fn what_xdp_redirects_arrives_where_no_program_receives() {
    assert!(rustix::process::geteuid().is_root(), "these tests lay network namespaces: run them as root");
    let lab = far_ends::lay().unwrap();
    let cpu = core_affinity::get_core_ids().unwrap()[0].id;
    let setup = Setup {
        tester_cpu: cpu,
        dut_cpu: cpu,
        xdp_mode: XdpMode::Native,
        spanwired: PathBuf::new(),
        spanwired_args: Vec::new(),
    };
    // Generic, it runs behind the far end's receive path and takes no part in it.
    let mut tester = Tester::new(&lab, 64, XdpMode::Generic, cpu).unwrap();
    let _redirect = System::Devmap.start(&lab, Mode::Mirror, &setup).unwrap();
    let outcome = tester.run(slowly(0)).unwrap();
    assert!(outcome.offered > 0);
    assert_eq!((outcome.received, outcome.monitored), (outcome.offered, outcome.offered));
}
