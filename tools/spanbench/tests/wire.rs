//! `spanbench wire` and `publishing` as a whole, with trials of milliseconds: what it writes adds up, and nothing stays behind.
//! Needs root. Figures are not looked at: the machine may be busy.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spanwire_lab::netns;

fn spanbench(args: &str) -> Child {
    assert!(rustix::process::geteuid().is_root(), "these tests lay network namespaces: run them as root");
    let program = Path::new(env!("CARGO_BIN_EXE_spanbench"));
    let daemon = program.with_file_name("spanwired");
    assert!(daemon.is_file(), "{} is not built: run `cargo test --workspace`", daemon.display());
    let mut command = Command::new(program);
    command.arg("--json").args(args.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The first and the last processor this process may use: the same where there is but one.
fn placed(command: &str, args: &str) -> String {
    let cores = core_affinity::get_core_ids().unwrap();
    format!("{command} --tester-cpu {} --dut-cpu {} {args}", cores[0].id, cores[cores.len() - 1].id)
}

/// The namespaces of a process's labs.
fn namespaces_of(pid: u32) -> Vec<String> {
    let prefix = format!("swlab-{pid}-");
    netns::names().into_iter().filter(|name| name.starts_with(&prefix)).collect()
}

/// What a measurement writes, which must come to its end and leave no lab behind.
fn report(args: &str) -> Value {
    let child = spanbench(args);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(namespaces_of(pid), Vec::<String>::new());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

#[test]
fn the_books_balance() {
    let report = report(&placed("wire", "--runs 2 --sizes 60 --trial-ms 20 --resolution 25 --peer devmap,tc,bridge"));
    let cases = list(&report["cases"]);
    assert_eq!(cases.len(), 2, "forward and mirror");
    for case in cases {
        let systems = list(&case["systems"]);
        let names: Vec<_> = systems.iter().filter_map(|system| system["system"].as_str()).collect();
        assert_eq!(names, ["spanwire", "devmap", "tc", "bridge"]);
        assert_eq!(list(&case["tester_alone_pps"]).len(), 2);
        let peers: Vec<_> = list(&case["ratios"]).iter().filter_map(|ratios| ratios["peer"].as_str()).collect();
        assert_eq!(peers, names[1..]);
        for system in systems {
            let runs = list(&system["runs"]);
            assert_eq!(runs.len(), 2);
            assert_eq!(system["figures"]["max_sink_pps"]["runs"], 2);
            assert!(!list(&system["placement"]["napi"]).is_empty());
            for run in runs {
                check_run(run, case["mode"] == "mirror");
            }
        }
        let threads = list(&systems[0]["placement"]["threads"]);
        assert!(threads.iter().any(|thread| thread["name"] == "shard-0"), "{threads:?}");
    }
}

fn check_run(run: &Value, mirrors: bool) {
    let max = &run["max"];
    let at = |key: &str| number(&max[key]);
    assert!(at("offered") > 0 && at("received") > 0, "{max}");
    assert!(at("received") + at("refused") <= at("offered"), "{max}");
    assert_eq!(at("foreign"), 0, "{max}");
    assert_eq!(at("monitored") > 0, mirrors, "{max}");
    assert!(at("monitored") <= at("offered"), "{max}");
    for latency in list(&run["latency"]) {
        let (offered, received) = (number(&latency["offered"]), number(&latency["received"]));
        let order = |key: &str| number(&latency["order"][key]);
        assert!(received <= offered, "{latency}");
        assert_eq!((order("duplicated"), order("reordered"), order("stray")), (0, 0, 0), "{latency}");
        if number(&latency["load_percent"]) == 10 {
            // Every frame is looked at, so both books are of the same frames.
            assert_eq!(order("expected"), offered, "{latency}");
            assert_eq!(order("lost"), offered - received + number(&latency["undelivered"]), "{latency}");
        }
        let percentiles = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"].map(|key| number(&latency[key]));
        assert!(percentiles.is_sorted(), "{latency}");
    }
}

#[test]
fn publishes_go_on_while_frames_cross() {
    let report = report(&placed("publishing", "--runs 2 --sizes 60 --trial-ms 40 --pause-ms 1"));
    assert!(number(&report["publishes"]) >= 4, "one in each trial that has any");
    let loads = list(&report["loads"]);
    assert_eq!(loads.len(), 2);
    for load in loads {
        assert_eq!(list(&load["pps"]).len(), 2);
        let (sent, lost) = (list(&load["sent"]), list(&load["lost"]));
        assert_eq!((sent.len(), lost.len()), (2, 2), "{load}");
        for (sent, lost) in sent.iter().zip(lost) {
            assert!(number(sent) > number(lost), "{load}");
        }
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = spanbench(&placed("wire", "--runs 100 --sizes 60 --mode mirror --peer none --trial-ms 1000"));
        let pid = child.id();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        // Said once the daemon runs.
        let mut said = Vec::new();
        log.read_until(b':', &mut said).unwrap();
        assert!(!namespaces_of(pid).is_empty());
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
        let status = child.wait().unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(status.code(), Some(2), "{rest}");
        assert!(rest.ends_with("spanbench: interrupted\n"), "{rest}");
        assert_eq!(namespaces_of(pid), Vec::<String>::new());
    }
}

#[test]
fn a_processor_that_is_not_there_is_refused_at_once() {
    let child = spanbench("wire --dut-cpu 100000");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("--dut-cpu 100000: this process may not run there"), "{log}");
}
