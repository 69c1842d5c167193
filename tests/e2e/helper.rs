//! `spanwire-helper` as a producer starts it in place of its own helper: the same command line, the same exchange.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spanwire_lab::topology::{Lab, LabSpec};

use super::exchange;
use super::node::{A, B, MON, Node, lab, mirror_of, program, signal, wait};
use super::script::Producer;
use super::signals::{check_left, ports};

/// Within this a producer wants its first ping answered.
const PING: Duration = Duration::from_secs(5);
/// Within this it wants the end: then it kills.
const END: Duration = Duration::from_secs(4);

/// A time that a producer gives, and more where this machine is busy: starting a program that does nothing tells.
fn patience(lab: &Lab, time: Duration) -> Duration {
    let start = Instant::now();
    assert!(lab.dut().command("true").status().unwrap().success());
    time + 20 * start.elapsed()
}

/// The helper, and the producer that has started it. Killed when dropped.
struct Started {
    /// Its directories, and spanctl.
    node: Node,
    producer: Producer,
    child: Option<Child>,
}

impl Started {
    /// As a producer of this version starts it.
    fn by(lab: &Lab, version: u32, more: &[&str]) -> Started {
        let node = Node::idle();
        let patience = patience(lab, PING);
        let producer = Producer::new(&run_dir(&node).join("userspace-dp.sock"), version);
        let (child, start) = (Some(start(lab, &node, more)), Instant::now());
        producer.wait(patience);
        eprintln!("the first ping is answered after {:?}", start.elapsed());
        Started { node, producer, child }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for its end, which must be clean and leave no socket; the log.
    fn ended(&mut self) -> String {
        let mut child = self.child.take().unwrap();
        let status = wait(&mut child, "spanwire-helper", Duration::from_secs(60));
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(status.success(), "spanwire-helper ended with {status}:\n{log}");
        for socket in [self.producer.socket(), &self.producer.socket().with_file_name("userspace-dp-sessions.sock")] {
            assert!(!socket.exists(), "{}", socket.display());
        }
        log
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The producer's directory, which nobody has made yet.
fn run_dir(node: &Node) -> PathBuf {
    node.dir.path().join("run")
}

/// The producer's command line and environment.
fn start(lab: &Lab, node: &Node, more: &[&str]) -> Child {
    let dir = run_dir(node);
    let path = |name: &str| dir.join(name).into_os_string();
    let mut command = lab.dut().command(program("spanwire-helper").to_str().unwrap());
    command.arg("--control-socket").arg(path("userspace-dp.sock")).arg("--state-file").arg(path("userspace-dp.json"));
    command.args(["--workers", "1", "--ring-entries", "1024", "--poll-mode", "interrupt"]).args(more);
    // By the names of the devices, which are not those of the producer's interfaces.
    let wire = lab.wire(0).unwrap();
    command.env("SPANWIRE_WIRES", format!("{}:{}", wire.a.name, wire.b.name)).env("SPANWIRE_DIR", node.dir.path());
    command.env("SPANWIRE_PINS", node.pins.path());
    command.envs(UNFILLED.map(|name| (name, "")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Variables that the file of a unit has, with nothing in them.
const UNFILLED: [&str; 13] = [
    "SPANWIRE_PROTOCOL",
    "SPANWIRE_ON_AMBIGUOUS",
    "SPANWIRE_LOG",
    "SPANWIRE_CPUS",
    "SPANWIRE_FRAMES",
    "SPANWIRE_MIRROR_FRAMES",
    "SPANWIRE_FRAME_SIZE",
    "SPANWIRE_PATH",
    "SPANWIRE_ON_EXIT",
    "SPANWIRE_CLONE_RING",
    "SPANWIRE_XDP_MODE",
    "SPANWIRE_BIND",
    "SPANWIRE_BUSY",
];

#[test]
fn variables_with_nothing_in_them_are_absent() {
    let ended = |program: PathBuf, words: &[&str]| {
        let output =
            Command::new(program).args(words).envs(UNFILLED.map(|name| (name, ""))).env("SPANWIRE_DIR", "").output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // What is wrong is found after all variables are read.
    let dataplane = ended(program("spanwired"), &["--cpus", "4095"]);
    assert!(dataplane.0 == Some(2) && dataplane.1.contains("--cpus: processor 4095"), "{dataplane:?}");
    let helper = ended(program("spanwire-helper"), &["--cpus", "4095", "--control-socket", "/nonexistent/socket"]);
    assert!(helper.0 == Some(2) && helper.1.contains("--cpus: processor 4095"), "{helper:?}");
    let spanctl = ended(program("spanctl"), &["completions", "bash"]);
    assert_eq!(spanctl.0, Some(0), "{spanctl:?}");
}

fn state_of(node: &Node) -> Value {
    serde_json::from_slice(&std::fs::read(run_dir(node).join("userspace-dp.json")).unwrap()).unwrap()
}

/// Without mirror frames there is nothing to mirror with, and that is no reason for a wire to stay dark.
#[test]
fn frames_cross_where_only_the_mirrors_of_a_snapshot_fail() {
    for policy in ["omit", "skip"] {
        let lab = lab(LabSpec::default());
        let mut helper = Started::by(&lab, 43, &["--mirror-frames", "0", "--on-ambiguous", policy]);
        helper.node.wait_for_running();
        let status = helper.producer.publish(&[(A, MON, 4), (B, MON, 0)]);
        assert_eq!(status["capabilities"]["forwarding_supported"], false, "{status:#}");
        helper.node.wait_for_ports(&[A, B]);
        exchange(&lab, 7, 2000, None, None);
        let shown = helper.node.json(&["show"]);
        assert_eq!(shown["mirrors"], json!([]));
        let told = shown["diagnostics"].to_string();
        assert!(told.contains("the mirror table is left out: ") && told.contains("has no mirror frames"), "{told}");
        helper.producer.done(&json!({"type": "shutdown"}));
        helper.ended();
    }
}

/// From the start to clones on the monitor, and to ports as they were.
#[test]
fn a_producer_starts_it_publishes_and_shuts_it_down() {
    for version in [3, 43] {
        let lab = lab(LabSpec::default());
        let before = ports(&lab);
        // What a newer producer may say.
        let mut helper =
            Started::by(&lab, version, &["--event-socket", "/nowhere", "--numa=0", "--quick", "--busy=perhaps"]);
        let status = helper.producer.status();
        assert_eq!(status["pid"], helper.pid());
        let run = run_dir(&helper.node);
        let named = |key: &str, name: &str| assert_eq!(status[key], run.join(name).to_str().unwrap(), "{key}");
        named("control_socket", "userspace-dp.sock");
        named("state_file", "userspace-dp.json");
        assert_eq!((&status["workers"], &status["poll_mode"]), (&json!(1), &json!("interrupt")));
        assert_eq!((&status["enabled"], &status["capabilities"]["forwarding_supported"]), (&json!(true), &json!(true)));
        assert_eq!(state_of(&helper.node)["pid"], helper.pid());

        helper.producer.begin(PING, &[(A, MON, 4), (B, MON, 0)]);
        helper.node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, version.into(), 2000, Some(4), Some(0));
        helper.node.settled_stats();
        let status = helper.producer.status();
        let sum = |counter: &str| -> u64 {
            status["bindings"].as_array().unwrap().iter().map(|row| row[counter].as_u64().unwrap()).sum()
        };
        assert_eq!(sum("mirrored_packets"), 500 + 2000, "{status:#}");
        assert_eq!(status["enabled"], true);

        // Disarmed and armed, standby and active, over the one process.
        helper.producer.arm(false);
        exchange(&lab, 90, 500, None, None);
        helper.producer.arm(true);
        helper.producer.ha(false);
        exchange(&lab, 91, 500, None, None);
        helper.producer.ha(true);
        exchange(&lab, 92, 500, Some(4), Some(0));
        // The wire is there for whoever speaks no word of this.
        let show = helper.node.json(&["show"]);
        assert_eq!(mirror_of(&show, A)["state"], "active");

        let asked = Instant::now();
        helper.producer.done(&json!({"type": "shutdown"}));
        let log = helper.ended();
        let took = asked.elapsed();
        assert!(took < patience(&lab, END), "a producer would have killed it");
        eprintln!("version {version}: the end took {took:?}");
        check_left(&lab, &helper.node, &before);
        for words in ["--event-socket /nowhere", "--numa=0", "--quick", "--busy=perhaps"] {
            assert!(log.contains(&format!("{words} on the command line is unknown here and ignored")), "{log}");
        }
        let state = state_of(&helper.node);
        assert_eq!((&state["last_snapshot_generation"], &state["enabled"]), (&json!(1), &json!(false)));
    }
}

/// Signals end it as they end spanwired; what was published is in use again at the next start, before any producer says
/// a word.
#[test]
fn a_signal_ends_it_and_the_next_one_goes_on() {
    let lab = lab(LabSpec::default());
    let before = ports(&lab);
    let mut helper = Started::by(&lab, 3, &[]);
    helper.producer.publish(&[(A, MON, 1)]);
    for name in ["TERM", "INT", "QUIT"] {
        helper.node.wait_for_ports(&[A, B, MON]);
        for ignored in ["HUP", "USR1", "ALRM"] {
            signal(helper.pid(), ignored);
        }
        exchange(&lab, 1, 300, Some(1), None);
        let asked = Instant::now();
        signal(helper.pid(), name);
        let log = helper.ended();
        assert!(asked.elapsed() < patience(&lab, END), "{name}");
        assert!(log.contains("SIGHUP is ignored") && log.contains(&format!("SIG{name} asks for the end")), "{log}");
        check_left(&lab, &helper.node, &before);
        helper.child = Some(start(&lab, &helper.node, &[]));
        helper.producer.wait(patience(&lab, PING));
    }
    helper.producer.done(&json!({"type": "shutdown"}));
    helper.ended();
    // It may have had no time to take the wire into use.
    helper.node.detach(&lab, &[]);
    assert_eq!(ports(&lab), before);
}

/// Where a process's thread of this name may run.
fn processors_of(pid: u32, thread: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        (name.trim_end() == thread).then(|| std::fs::read_to_string(task.join("status")).ok())?
    };
    let status = tasks.into_iter().find_map(of)?;
    status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()))
}

/// The thread of its socket is one of control, and goes where those go.
#[test]
fn the_server_runs_where_the_dataplane_s_control_threads_do() {
    for more in [&[][..], &["--poll-mode", "busy-poll"], &["--path", "shard"]] {
        let lab = lab(LabSpec::default());
        let mut helper = Started::by(&lab, 43, more);
        helper.producer.publish(&[(A, MON, 1)]);
        helper.node.wait_for_ports(&[A, B, MON]);
        let together = || {
            let [server, stats, shard] =
                ["server", "stats", "shard-0"].map(|thread| processors_of(helper.pid(), thread).unwrap());
            (server == stats && (more.is_empty() == (server == shard) || one_processor())).then_some(())
        };
        let start = Instant::now();
        while together().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "{more:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        helper.producer.done(&json!({"type": "shutdown"}));
        helper.ended();
    }
}

/// Whether there is only one to run on.
fn one_processor() -> bool {
    std::thread::available_parallelism().unwrap().get() == 1
}

/// The directory has one dataplane, the socket one server: whoever comes second says so, and disturbs nobody.
#[test]
fn who_comes_second_says_so_and_ends() {
    let lab = lab(LabSpec::default());
    let mut helper = Started::by(&lab, 3, &[]);
    helper.producer.publish(&[(A, MON, 1)]);
    helper.node.wait_for_ports(&[A, B, MON]);
    let fails = |node: &Node, more: &[&str]| {
        let mut child = start(&lab, node, more);
        let status = wait(&mut child, "the second", Duration::from_secs(60));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(2), "{said}");
        said
    };
    let said = fails(&helper.node, &["--control-socket", run_dir(&helper.node).join("other.sock").to_str().unwrap()]);
    assert!(said.contains("another spanwired uses this directory"), "{said}");
    assert!(!run_dir(&helper.node).join("other.sock").exists());
    let other = Node::idle();
    let said = fails(&other, &["--control-socket", helper.producer.socket().to_str().unwrap()]);
    assert!(said.contains("somebody listens there already"), "{said}");
    for (bad, told) in
        [(&["--workers", "many"][..], "many"), (&["--frame-size", "1"], "2048"), (&["--cpus", "4000"], "4000")]
    {
        assert!(fails(&other, bad).contains(told), "{bad:?}");
    }
    assert_eq!(helper.producer.status()["pid"], helper.pid());
    exchange(&lab, 1, 300, Some(1), None);
    signal(helper.pid(), "TERM");
    helper.ended();
}

/// A wire does not go dark with the producer that has started its helper.
#[test]
fn it_outlives_its_producer() {
    let lab = lab(LabSpec::default());
    let before = ports(&lab);
    let node = Node::idle();
    let socket = run_dir(&node).join("userspace-dp.sock");
    let mut producer = Producer::new(&socket, 3);
    let mut shell = lab
        .dut()
        .command("sh")
        .args(["-c", r#""$0" --control-socket "$1" --state-file "$2" --wire "$3" & read -r end"#])
        .arg(program("spanwire-helper"))
        .arg(&socket)
        .arg(Path::new("/proc/no/such/state"))
        .arg(format!("{A}:{B}"))
        .env("SPANWIRE_DIR", node.dir.path())
        .env("SPANWIRE_PINS", node.pins.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    producer.wait(patience(&lab, PING));
    let pid = producer.publish(&[(A, MON, 2)])["pid"].as_u64().unwrap() as u32;
    node.wait_for_ports(&[A, B, MON]);
    shell.kill().unwrap();
    shell.wait().unwrap();
    exchange(&lab, 1, 500, Some(2), None);
    assert_eq!(producer.status()["pid"], pid);
    producer.done(&json!({"type": "shutdown"}));
    node.wait_for("its end", |show| show["dataplane"]["running"] == false && !socket.exists());
    check_left(&lab, &node, &before);
}
