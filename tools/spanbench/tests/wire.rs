//! `spanbench wire`, `states`, `neighbour`, `publishing` and `tcp` as a whole, with trials of milliseconds: what they write adds up,
//! and nothing stays behind. Needs root. Figures are not looked at: the machine may be busy.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spanwire_lab::netns;
use tempfile::TempDir;

/// A run, and the directory that all it makes is below.
struct Bench {
    child: Child,
    dir: TempDir,
}

fn spanbench(args: &str) -> Bench {
    assert!(rustix::process::geteuid().is_root(), "these tests lay network namespaces: run them as root");
    let program = Path::new(env!("CARGO_BIN_EXE_spanbench"));
    let daemon = program.with_file_name("spanwired");
    assert!(daemon.is_file(), "{} is not built: run `cargo test --workspace`", daemon.display());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg("--json").args(args.split_whitespace()).env("TMPDIR", dir.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Bench { child, dir }
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

/// Checks that nothing of a run that has ended is there any more: no namespace, file, mount or process.
fn assert_gone(pid: u32, dir: &TempDir) {
    assert_eq!(namespaces_of(pid), Vec::<String>::new());
    let name = dir.path().display().to_string();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{name}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&name), "{name} is mounted on");
    let tmpdir = format!("TMPDIR={name}");
    let is_its = |entry: &fs::DirEntry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == tmpdir.as_bytes())
    };
    let left: Vec<_> = fs::read_dir("/proc").unwrap().flatten().filter(is_its).map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "processes left: {left:?}");
}

/// What a measurement writes, which must come to its end and leave nothing behind.
fn report(args: &str) -> Value {
    let Bench { child, dir } = spanbench(args);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_gone(pid, &dir);
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
        assert_eq!(names, ["spanwire (xdp)", "spanwire (tc)", "spanwire (shard)", "devmap", "tc", "bridge"]);
        assert_eq!(list(&case["tester_alone_pps"]).len(), 2);
        let pair = |ratios: &Value| Some((ratios["system"].as_str()?.to_owned(), ratios["peer"].as_str()?.to_owned()));
        let pairs: Vec<_> = list(&case["ratios"]).iter().filter_map(pair).collect();
        let all = names[..3].iter().flat_map(|ours| names[3..].iter().map(|peer| ((*ours).into(), (*peer).into())));
        assert_eq!(pairs, all.collect::<Vec<_>>());
        for system in systems {
            let runs = list(&system["runs"]);
            assert_eq!(runs.len(), 2);
            assert_eq!(system["figures"]["max_sink_pps"]["runs"], 2);
            assert!(!list(&system["placement"]["napi"]).is_empty());
            for run in runs {
                check_run(run, case["mode"] == "mirror");
            }
        }
        for ours in &systems[..3] {
            let threads = list(&ours["placement"]["threads"]);
            assert!(threads.iter().any(|thread| thread["name"] == "shard-0"), "{threads:?}");
        }
        let note = |at: usize| systems[at]["note"].as_str().unwrap();
        assert!(note(0).contains("w0a selector at xdp, w0b selector at xdp"), "{}", note(0));
        assert!(note(1).contains("w0a selector at tc, w0b selector at tc"), "{}", note(1));
        assert!(note(2).contains("w0a generic XDP copy"), "{}", note(2));
    }
    assert_goals(&report, 2, "spanwire (xdp) / devmap");
}

/// Checks that there are goals of figures of so many runs, among them one that says `some`.
fn assert_goals(report: &Value, runs: u64, some: &str) {
    let goals = list(&report["goals"]);
    assert!(goals.iter().any(|goal| goal["what"].as_str().unwrap().contains(some)), "{goals:?}");
    for goal in goals.iter().filter(|goal| !goal["figure"].is_null()) {
        assert!(number(&goal["figure"]["runs"]) <= runs, "{goal}");
        let wanted = &goal["wanted"];
        let median = goal["figure"]["median"].as_f64().unwrap();
        let least = wanted["at_least"].as_f64().map(|least| median >= least);
        let most = wanted["at_most"].as_f64().map(|most| median <= most);
        assert_eq!(goal["met"].as_bool(), least.or(most), "{goal}");
    }
}

#[test]
fn a_path_can_be_measured_by_itself() {
    let report = report(&placed("wire", "--path tc --mode forward --runs 1 --sizes 60 --trial-ms 20 --peer none"));
    let case = &report["cases"][0];
    let systems = list(&case["systems"]);
    assert_eq!((systems.len(), systems[0]["system"].as_str()), (1, Some("spanwire (tc)")));
    assert!(list(&case["ratios"]).is_empty() && list(&report["goals"]).is_empty(), "{report}");
}

#[test]
fn each_state_is_measured_on_each_path() {
    let report = report(&placed("states", "--state healthy --runs 1 --sizes 60 --trial-ms 20"));
    let states = list(&report["states"]);
    let of = |state: &Value| (state["path"].as_str().unwrap().to_owned(), number(&state["rate"]));
    let wanted = ["xdp", "tc", "shard"].map(|path| [(path.to_owned(), 1000), (path.to_owned(), 1)]).concat();
    assert_eq!(states.iter().map(of).collect::<Vec<_>>(), wanted);
    for state in states {
        assert!(number(&state["sent"]) > 0 && number(&state["lost"]) <= number(&state["sent"]), "{state}");
    }
    assert_eq!(list(&report["goals"]).len(), 3, "one for each path: of the other state everything is mirrored");
    assert_goals(&report, 1, "spanwire (tc), monitor healthy, 1 in 1000: on / off");
}

#[test]
fn busy_neighbours_are_there_and_gone() {
    let report = report(&placed("neighbour", "--runs 1 --sizes 60 --trial-ms 20 --resolution 25"));
    assert_eq!(number(&report["neighbours"]), core_affinity::get_core_ids().unwrap().len() as u64);
    let systems = list(&report["systems"]);
    let of = |system: &Value| (system["system"].as_str().unwrap().to_owned(), system["mode"] == "mirror");
    let ours = ["spanwire (xdp)", "spanwire (tc)", "spanwire (shard)"].map(|ours| (ours.to_owned(), true));
    let peers = ["devmap", "tc"].map(|peer| (peer.to_owned(), false));
    assert_eq!(systems.iter().map(of).collect::<Vec<_>>(), [&ours[..], &peers[..]].concat());
    for system in systems {
        let clones = &system["clones"];
        assert_eq!(clones.is_null(), system["mode"] == "forward", "{system}");
        if !clones.is_null() {
            let at = |key: &str| number(&clones[key]);
            assert!(at("selected") > 0 && at("arrived") + at("dropped") <= at("selected"), "{system}");
        }
    }
    assert_goals(&report, 1, "spanwire (tc) / devmap");
}

#[test]
fn a_stream_of_tcp_crosses_each_system() {
    let report = report(&placed("tcp", "--runs 1 --stream-ms 50"));
    let systems = list(&report["systems"]);
    let of = |system: &Value| [&system["system"], &system["mode"]].map(|word| word.as_str().unwrap().to_owned());
    let wanted = [["spanwire (tc)", "mirror"], ["tc", "forward"], ["tc", "mirror"]].map(|pair| pair.map(str::to_owned));
    assert_eq!(systems.iter().map(of).collect::<Vec<_>>(), wanted);
    for system in systems {
        assert!(system["bits_per_second"]["median"].as_f64().unwrap() > 0.0, "{system}");
    }
    assert!(number(&systems[0]["clones"]["selected"]) > 0, "{}", systems[0]);
    assert_goals(&report, 1, "TCP: spanwire (tc)");
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
    let paths: Vec<_> = loads.iter().filter_map(|load| load["path"].as_str()).collect();
    assert_eq!(paths, ["xdp", "xdp", "tc", "tc", "shard", "shard"]);
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
    for (command, signal) in [("wire", Signal::INT), ("wire", Signal::TERM), ("neighbour", Signal::TERM)] {
        let args = "--path tc --runs 100 --sizes 60 --mode mirror --peer none --trial-ms 1000";
        let Bench { mut child, dir } = spanbench(&placed(command, args));
        let pid = child.id();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        // Said of the first trial, with a system running and, beside it, the neighbours.
        let mut said = Vec::new();
        while !said.ends_with(b" max") {
            assert_ne!(log.by_ref().take(1).read_to_end(&mut said).unwrap(), 0, "{}", String::from_utf8_lossy(&said));
        }
        assert!(!namespaces_of(pid).is_empty());
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
        let status = child.wait().unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(status.code(), Some(2), "{rest}");
        assert!(rest.ends_with("spanbench: interrupted\n"), "{rest}");
        assert_gone(pid, &dir);
    }
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    for (args, why) in [
        ("wire --dut-cpu 100000", "--dut-cpu 100000: this process may not run there"),
        ("states --path auto", "allowed: xdp, tc, shard"),
    ] {
        let output = spanbench(args).child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(why), "{log}");
    }
}
