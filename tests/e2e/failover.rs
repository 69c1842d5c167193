//! Two nodes, and keepalived's VRRP between them: the clones come from one at a time, the frames cross both.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use spanwire_lab::topology::{Lab, LabSpec};
use spanwire_lab::traffic::{Capture, Pace};
use tempfile::TempDir;

use super::node::{A, B, MON, Node, copy_program, document, mirror_of, signal, wait};
use super::paths::{Path, on_each_path};
use super::tagged;

on_each_path!(long xdp: the_clones_move_with_the_vrrp_master_and_the_frames_cross_both_nodes);

/// Of the example configuration, seconds: three times the interval of the advertisements, and the skew of priority
/// 100.
const MASTER_DOWN: f64 = 3.0 + (256.0 - 100.0) / 256.0;
/// How long anything may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the two nodes: a lab of its own, and keepalived beside its dataplane.
struct Peer {
    lab: Lab,
    node: Node,
    priority: u32,
    files: TempDir,
    keepalived: Option<Child>,
}

impl Peer {
    fn new(path: Path, priority: u32) -> Peer {
        let lab = path.lab(LabSpec::default());
        let node = path.start(&lab, &[]);
        // As at boot: who has never heard of a role is active.
        node.json(&["role", "standby"]);
        node.import(&document(&[(A, MON, 1)]));
        node.wait_for_ports(&[A, B, MON]);
        Peer { lab, node, priority, files: tempfile::tempdir().unwrap(), keepalived: None }
    }

    /// keepalived with the example's configuration and script.
    fn keepalived(&mut self) {
        let example = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/keepalived").join(name);
        let at = |name: &str| self.files.path().join(name);
        // Beside the configuration: a script below a directory that others own is not run.
        copy_program(&example("notify.sh"), &at("notify.sh"));
        let mut text = std::fs::read_to_string(example("keepalived.conf")).unwrap();
        for (from, to) in [
            ("/run/keepalived-spanwire.fifo", at("fifo").display().to_string()),
            ("/usr/local/libexec/spanwire/notify.sh", at("notify.sh").display().to_string()),
            ("/usr/bin/pgrep -x spanwired", format!("/usr/bin/test -d /proc/{}", self.node.pid())),
            ("priority 150", format!("priority {}", self.priority)),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, &to);
        }
        std::fs::write(at("keepalived.conf"), text).unwrap();
        let programs = super::node::program("spanctl").parent().unwrap().display().to_string();
        let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
        let started = self
            .lab
            .dut()
            .command("keepalived")
            .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
            .arg(at("keepalived.conf"))
            .arg("--pid")
            .arg(at("pid"))
            .arg("--vrrp_pid")
            .arg(at("vrrp.pid"))
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("SPANWIRE_DIR", self.node.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.keepalived = Some(started.unwrap());
    }

    /// Kills keepalived as a crash would: with no word to the other node.
    fn crash_keepalived(&mut self) {
        let mut parent = self.keepalived.take().expect("a running keepalived");
        // Stopped, so that it does not start another child.
        signal(parent.id(), "STOP");
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id())).unwrap();
        children.split_whitespace().for_each(|child| signal(child.parse().unwrap(), "KILL"));
        parent.kill().unwrap();
        parent.wait().unwrap();
        for pid in ["pid", "vrrp.pid"] {
            // What a boot clears.
            let _ = std::fs::remove_file(self.files.path().join(pid));
        }
    }

    /// Waits until every shard has this role, and returns when that was seen.
    fn wait_for_role(&self, role: &str) -> Instant {
        let start = Instant::now();
        loop {
            let now: Value = self.node.json(&["role"]);
            if now["role"] == role && now["adopted"] == true {
                return Instant::now();
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for role {role}: {now}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(mut keepalived) = self.keepalived.take() {
            signal(keepalived.id(), "TERM");
            if thread::panicking() {
                let _ = keepalived.wait();
                eprintln!("--- keepalived wrote:\n{}", self.log());
            } else {
                wait(&mut keepalived, "keepalived", PATIENCE);
            }
        }
    }
}

/// What was sent through one node, and what of it arrived where.
struct Sent {
    /// When each frame was about to be sent.
    at: Vec<Instant>,
    /// The numbers of those that were cloned, in the order in which the clones came.
    clones: Vec<usize>,
}

impl Sent {
    /// Sends frames one by one until `stop`; all of them must have crossed.
    fn through(lab: &Lab, stop: &AtomicBool) -> Sent {
        let wire = lab.wire(0).unwrap();
        let sink = lab.capture(&wire.b).unwrap();
        let monitor: Capture = lab.capture(lab.monitor(0).unwrap()).unwrap();
        let mut sender = lab.sender(&wire.a).unwrap();
        let mut at = Vec::new();
        while !stop.load(Relaxed) {
            at.push(Instant::now());
            sender.send(&[tagged(at.len() as u32 - 1, None)], Pace::Unpaced).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        let idle = Duration::from_millis(500);
        let crossed = sink.finish(at.len(), idle).unwrap();
        let frames: Vec<_> = (0..at.len()).map(|number| tagged(number as u32, None)).collect();
        assert!(
            crossed.frames == frames,
            "{} frames of {} crossed, or in another order",
            crossed.frames.len(),
            at.len()
        );
        let clones = monitor.finish(0, idle).unwrap().frames;
        let clones = clones.iter().map(|clone| {
            let number = u32::from_be_bytes(clone[14..18].try_into().unwrap());
            assert_eq!(clone, &tagged(number, None), "a clone is the frame");
            number as usize
        });
        Sent { at, clones: clones.collect() }
    }

    /// The clones of what was sent from `from` on and before `to`.
    fn clones_between(&self, from: Instant, to: Instant) -> impl Iterator<Item = usize> {
        self.clones.iter().copied().filter(move |&clone| (from..to).contains(&self.at[clone]))
    }
}

fn the_clones_move_with_the_vrrp_master_and_the_frames_cross_both_nodes(path: Path) {
    let (mut one, mut two) = (Peer::new(path, 150), Peer::new(path, 100));
    // The link that VRRP runs over.
    one.lab
        .dut()
        .ip(&["link", "add", "ha0", "type", "veth", "peer", "name", "ha0", "netns", two.lab.dut().name()])
        .unwrap();
    for (peer, address) in [(&one, "192.0.2.1/24"), (&two, "192.0.2.2/24")] {
        peer.lab.dut().ip(&["address", "add", address, "dev", "ha0"]).unwrap();
        peer.lab.dut().ip(&["link", "set", "ha0", "up"]).unwrap();
    }
    // Not an error of a test: tools/setup.sh installs it.
    let version = Command::new("keepalived").arg("--version").output().expect("keepalived is not installed");
    assert!(version.status.success());
    let (lab_one, lab_two) = (Lab::attach(&one.lab.info().lab).unwrap(), Lab::attach(&two.lab.info().lab).unwrap());

    let stop = AtomicBool::new(false);
    let pause = || thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    let (on_one, on_two, crash, one_out, back, two_out, observed) = thread::scope(|scope| {
        // Also when something in here panics: the scope would wait forever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let stopping = Stop(&stop);
        let on_one = scope.spawn(|| Sent::through(&lab_one, &stop));
        let on_two = scope.spawn(|| Sent::through(&lab_two, &stop));
        pause();
        one.keepalived();
        two.keepalived();
        one.wait_for_role("active");
        two.wait_for_role("standby");
        pause();

        // The master's keepalived crashes.
        let crash = Instant::now();
        one.crash_keepalived();
        let one_out = one.wait_for_role("standby");
        let observed = mirror_of(&one.node.settled_stats(), A)["observed"].clone();
        two.wait_for_role("active");
        pause();
        assert_eq!(mirror_of(&one.node.settled_stats(), A)["observed"], observed, "a standby observes nothing");

        // It comes back, and with its priority it is master again.
        let back = Instant::now();
        one.keepalived();
        one.wait_for_role("active");
        let two_out = two.wait_for_role("standby");
        pause();
        drop(stopping);
        let (on_one, on_two) = (on_one.join().unwrap(), on_two.join().unwrap());
        let observed = mirror_of(&one.node.settled_stats(), A)["observed"].as_u64().unwrap();
        (on_one, on_two, crash, one_out, back, two_out, observed)
    });
    let end = Instant::now();

    // What was sent while a node was standby was not cloned there.
    for (sent, from, to, which) in
        [(&on_two, start, crash, "two"), (&on_one, one_out, back, "one"), (&on_two, two_out, end, "two")]
    {
        let clones: Vec<_> = sent.clones_between(from, to).collect();
        assert_eq!(clones, [0usize; 0], "clones from node {which} while it was standby");
    }
    // And each cloned while it was active, every frame once.
    let first = |sent: &Sent, from, to| sent.clones_between(from, to).next().map(|clone| sent.at[clone]);
    let last = |sent: &Sent, from, to| sent.clones_between(from, to).last().map(|clone| sent.at[clone]);
    assert!(on_one.clones.is_sorted_by(|a, b| a < b) && on_two.clones.is_sorted_by(|a, b| a < b));
    let taken = first(&on_two, crash, end).expect("a clone from the node that took over");
    let given = first(&on_one, back, end).expect("a clone from the node that came back");
    let before = last(&on_one, start, one_out).expect("a clone from the first master");
    let until = last(&on_two, start, end).expect("a clone from the node that took over");
    let afresh = on_one.clones_between(back, end).count() as u64;
    assert_eq!(observed, afresh, "the ledger of the node that came back began at zero");

    let gap = taken.duration_since(crash).as_secs_f64();
    assert!(gap < MASTER_DOWN + 10.0, "the other node took over {gap} s after the crash");
    let overlap = until.saturating_duration_since(given);
    eprintln!(
        "{} and {} frames crossed. A crash: the last clone {:.3} s after it, the first from the other node {gap:.3} s \
         after it (VRRP: at most {MASTER_DOWN:.3} s). Given back: {:.3} s without a clone, {:.3} s with clones from both",
        on_one.at.len(),
        on_two.at.len(),
        before.saturating_duration_since(crash).as_secs_f64(),
        given.saturating_duration_since(until).as_secs_f64(),
        overlap.as_secs_f64(),
    );
}
