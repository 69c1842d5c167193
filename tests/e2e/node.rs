//! A running spanwired in a lab, and spanctl beside it.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{self, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use spanwire_lab::netns::Namespace;
use spanwire_lab::topology::{Lab, LabSpec};
use tempfile::TempDir;

use crate::paths::Path;

pub const SPANWIRED: &str = env!("CARGO_BIN_EXE_spanwired");

/// The first wire's ports and the first monitor of every lab.
pub const A: u32 = 11;
pub const B: u32 = 12;
pub const MON: u32 = 22;

pub fn lab(spec: LabSpec) -> Lab {
    assert!(
        rustix::process::geteuid().is_root(),
        "the end-to-end tests lay network namespaces: run them as root (tools/test.sh does)"
    );
    Lab::create(spec).expect("a lab")
}

pub fn program(name: &str) -> PathBuf {
    let path = path::Path::new(env!("CARGO_BIN_EXE_spanwired")).with_file_name(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace`", path.display());
    path
}

/// A dataplane with a directory of its own. Killed when dropped.
pub struct Node {
    pub dir: TempDir,
    /// A bpffs: what is pinned there goes with it, and what that holds on devices.
    pub pins: TempDir,
    /// How frames are to cross; `None`: as it does by default.
    pub path: Option<Path>,
    daemon: Option<Child>,
}

impl Node {
    /// A directory without a dataplane.
    pub fn idle() -> Node {
        let [dir, pins] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        mount("bpf", pins.path(), "bpf", MountFlags::empty(), None).expect("a bpffs");
        Node { dir, pins, path: None, daemon: None }
    }

    /// What is pinned for it.
    pub fn pinned(&self) -> Vec<PathBuf> {
        let pins = std::fs::read_dir(self.pins.path()).expect("a bpffs").map(|entry| entry.expect("an entry").path());
        // The kernel's own files of a bpffs stay.
        pins.filter(|path| path.extension().is_none_or(|kind| kind != "debug")).collect()
    }

    /// A dataplane in the lab's middle namespace.
    pub fn start(lab: &Lab, args: &[&str]) -> Node {
        let mut node = Node::idle();
        node.launch(lab, args);
        node
    }

    pub fn launch(&mut self, lab: &Lab, args: &[&str]) {
        self.adopt(&mut self.command(lab, args));
    }

    /// Starts what runs a dataplane with this directory.
    pub fn adopt(&mut self, command: &mut Command) {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.daemon = Some(command.spawn().expect("spanwired"));
    }

    pub fn command(&self, lab: &Lab, args: &[&str]) -> Command {
        self.with_directory(lab.dut().command(SPANWIRED), args)
    }

    /// The same, run by another program, with these arguments of that before its own.
    pub fn run_by(&self, lab: &Lab, program: &str, first: &[&str], args: &[&str]) -> Command {
        let mut command = lab.dut().command(program);
        command.args(first).arg(SPANWIRED);
        self.with_directory(command, args)
    }

    fn with_directory(&self, mut command: Command, args: &[&str]) -> Command {
        command.arg("--dir").arg(self.dir.path()).args(args).env("SPANWIRE_PINS", self.pins.path());
        command.envs(self.path.map(|path| ("SPANWIRE_PATH", path.as_str())));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a running dataplane").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().expect("a child").is_none())
    }

    /// SIGTERM, then the log; the exit must be clean.
    pub fn stop(&mut self) -> String {
        self.stop_by("TERM")
    }

    /// The same by another signal.
    pub fn stop_by(&mut self, name: &str) -> String {
        let mut daemon = self.daemon.take().expect("a running dataplane");
        signal(daemon.id(), name);
        let status = wait(&mut daemon, "spanwired", Duration::from_secs(60));
        let log = log_of(&mut daemon);
        assert!(status.success(), "spanwired ended with {status}:\n{log}");
        log
    }

    /// Nobody reads its log any more.
    pub fn close_log(&mut self) {
        drop(self.daemon.as_mut().expect("a running dataplane").stderr.take());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("a kill");
            let status = daemon.wait().expect("a child");
            assert_eq!(status.signal(), Some(9));
        }
    }

    pub fn spanctl(&self, args: &[&str]) -> Output {
        Command::new(program("spanctl"))
            .arg("--dir")
            .arg(self.dir.path())
            .args(args)
            .env("SPANWIRE_PINS", self.pins.path())
            .stdin(Stdio::null())
            .output()
            .expect("spanctl")
    }

    /// Takes off what a dataplane that has ended left, in its namespace. The exit code, and what is said.
    pub fn detach(&self, lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
        let spanctl = program("spanctl");
        let mut command = lab.dut().command(spanctl.to_str().expect("a path"));
        command.arg("--dir").arg(self.dir.path()).arg("detach").args(args).env("SPANWIRE_PINS", self.pins.path());
        let done = command.stdin(Stdio::null()).output().expect("spanctl");
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    }

    /// Runs spanctl, which must succeed, and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.spanctl(&[&["--json"], args].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "spanctl {args:?}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("spanctl {args:?} wrote {text:?}: {e}"))
    }

    /// Publishes a document and waits until the shards use it. Returns the generation.
    pub fn import(&self, document: &str) -> u64 {
        let generation = self.publish(document);
        let waited = self.spanctl(&["wait", "--generation", &generation.to_string(), "--timeout", "60"]);
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
        generation
    }

    /// Publishes a document, whether or not a dataplane runs.
    pub fn publish(&self, document: &str) -> u64 {
        let file = self.file(document);
        let published = self.json(&["import", file.to_str().expect("a path")]);
        assert_eq!(published["accepted"], true, "{published}");
        published["generation"].as_u64().expect("a generation")
    }

    pub fn file(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("document");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Waits until `show` says that these ports are in use.
    pub fn wait_for_ports(&self, ports: &[u32]) {
        self.wait_for("the ports", |show| {
            ports.iter().all(|&p| port_of(show, p).is_some_and(|port| port["state"] == "active"))
        });
    }

    /// Waits until the dataplane tells of itself.
    pub fn wait_for_running(&self) {
        let start = Instant::now();
        while self.spanctl(&["stats"]).status.code() != Some(0) {
            assert!(start.elapsed() < Duration::from_secs(60), "the dataplane does not tell of itself");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let show = self.json(&["show"]);
            if holds(&show) {
                return show;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}: {show:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The statistics once nothing moves any more; every ledger in them closes.
    pub fn settled_stats(&self) -> Value {
        let start = Instant::now();
        loop {
            let stats = self.json(&["stats"]);
            check_ledgers(&stats);
            let moving = |list: &str, key: &str| {
                stats[list].as_array().expect("a list").iter().any(|row| row[key].as_u64() != Some(0))
            };
            if !moving("mirrors", "in_flight") && !moving("umem", "in_flight") {
                return stats;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "frames stay in flight: {stats:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = unmount(self.pins.path(), UnmountFlags::DETACH);
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            if std::thread::panicking() {
                eprintln!("--- spanwired wrote:\n{}", log_of(&mut daemon));
            }
        }
    }
}

fn log_of(daemon: &mut Child) -> String {
    let mut log = String::new();
    if let Some(stderr) = &mut daemon.stderr {
        let _ = stderr.read_to_string(&mut log);
    }
    log
}

/// Copies a program that is to be run, by another process: what this one has open for writing, a process that another
/// test starts just now has too for a moment, and a file that is open for writing is not run (ETXTBSY).
pub fn copy_program(from: &path::Path, to: &path::Path) {
    let copied = Command::new("cp").args([from, to]).status().expect("cp");
    assert!(copied.success(), "cp {} {}: {copied}", from.display(), to.display());
}

/// Waits for the end of a process.
pub fn wait(daemon: &mut Child, name: &str, patience: Duration) -> std::process::ExitStatus {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = daemon.try_wait().expect("a child") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = daemon.kill();
    panic!("{name} did not end in {patience:?}: {}", log_of(daemon));
}

pub fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill");
    assert!(done.success());
}

/// Waits until a device that was set up sends: a busy kernel takes a while to give it a queue, and drops what is sent before.
pub fn wait_for_link(ns: &Namespace, device: &str) {
    let start = Instant::now();
    loop {
        let link = ns.ip(&["-o", "link", "show", device]).expect("ip");
        let link = String::from_utf8_lossy(&link.stdout).into_owned();
        if link.contains("state UP") && !link.contains("qdisc noop ") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no link: {link}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port in the output of `show`.
pub fn port_of(show: &Value, ifindex: u32) -> Option<&Value> {
    show["ports"].as_array()?.iter().find(|port| port["ifindex"] == ifindex)
}

/// An entry in the output of `show` or `stats`.
pub fn mirror_of(document: &Value, ingress: u32) -> &Value {
    let mirrors = document["mirrors"].as_array().expect("mirrors");
    mirrors.iter().find(|m| m["ingress_ifindex"] == ingress).unwrap_or_else(|| panic!("no entry of {ingress}"))
}

/// DESIGN §6: what a ledger promises, for each entry and for each shard's part of it.
pub fn check_ledgers(stats: &Value) {
    for mirror in stats["mirrors"].as_array().expect("mirrors") {
        for row in std::iter::once(mirror).chain(mirror["shards"].as_array().into_iter().flatten()) {
            let at = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"));
            let drops: u64 = row
                .as_object()
                .expect("an object")
                .keys()
                .filter(|key| key.starts_with("mirror_drops_") && !key.ends_with("_worker"))
                .map(|key| at(key))
                .sum();
            assert_eq!(at("observed"), at("not_sampled") + at("selected"), "{row}");
            assert_eq!(at("selected"), at("mirrored_packets") + at("in_flight") + drops, "{row}");
        }
    }
}

/// A snapshot document as the Go control plane writes it, with wires.
pub fn document(mirrors: &[(u32, u32, u32)]) -> String {
    document_with(&[(A, B)], mirrors, "")
}

/// The same with other wires and more interfaces.
pub fn document_with(wires: &[(u32, u32)], mirrors: &[(u32, u32, u32)], interfaces: &str) -> String {
    let list = |items: Vec<String>| items.join(",");
    let wires =
        list(wires.iter().map(|(a, b)| format!(r#"{{"name":"w{a}","a_ifindex":{a},"b_ifindex":{b}}}"#)).collect());
    let mirrors = list(
        mirrors
            .iter()
            .map(|(i, o, r)| format!(r#"{{"ingress_ifindex":{i},"output_ifindex":{o},"rate":{r}}}"#))
            .collect(),
    );
    let mut text = String::new();
    let _ = write!(
        text,
        r#"{{"version":3,"generation":42,"fib_generation":7,"generated_at":"2026-11-22T08:30:15.123456789Z","#
    );
    let _ = write!(text, r#""interfaces":[{interfaces}],"mirror_configs":[{mirrors}],"wires":[{wires}]}}"#);
    text
}
