//! `spanctl serve` beside a dataplane, and a producer that speaks to it.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};
use spanwire::rings::RING_ENTRIES;
use spanwire_lab::exchange::{ExchangeSpec, Mirror, run};
use spanwire_lab::topology::LabSpec;
use spanwire_lab::traffic::Pace;

use super::exchange;
use super::node::{A, B, MON, Node, lab, mirror_of, program, signal, wait};
use super::paths::{Path, on_each_path};
use super::script::{Producer, send};

on_each_path!(
    long xdp: a_producer_arms_disarms_and_sets_the_role,
    a_producer_configures_and_reads_the_counters_while_frames_cross,
    the_counters_of_all_bindings_add_up,
);

/// A server, and a producer that speaks to it. Killed when dropped.
pub struct Serve {
    pub producer: Producer,
    child: Option<Child>,
}

impl Serve {
    pub fn start(node: &Node) -> Serve {
        Serve::start_for(node, 3)
    }

    /// With a producer of this version.
    fn start_for(node: &Node, version: u32) -> Serve {
        let producer = Producer::new(&node.dir.path().join("control.sock"), version);
        let serve = Serve { child: Some(spawn(node, producer.socket())), producer };
        serve.producer.wait(Duration::from_secs(60));
        serve
    }

    /// Ends it, and starts another one for the same producer.
    fn restart(&mut self, node: &Node) {
        signal(self.child.as_ref().unwrap().id(), "TERM");
        self.ended();
        self.child = Some(spawn(node, self.socket()));
        self.producer.wait(Duration::from_secs(60));
    }

    fn socket(&self) -> &path::Path {
        self.producer.socket()
    }

    /// Waits for the end of a server that was asked to end; the end must be clean, and the socket gone.
    fn ended(&mut self) {
        let status = wait(self.child.as_mut().unwrap(), "spanctl serve", Duration::from_secs(60));
        self.child = None;
        assert!(status.success(), "spanctl serve ended with {status}");
        assert!(!self.socket().exists());
        assert!(!self.socket().with_file_name("userspace-dp-sessions.sock").exists());
    }
}

fn spawn(node: &Node, socket: &path::Path) -> Child {
    Command::new(program("spanctl"))
        .arg("--dir")
        .arg(node.dir.path())
        .args(["serve", "--wire", &format!("{A}:{B}"), "--socket"])
        .arg(socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The sum of a counter over the bindings, which must be the same in both places.
fn total(status: &Value, counter: &str) -> u64 {
    let sum = |list: &str| -> u64 {
        let rows = status[list].as_array().unwrap().iter();
        rows.map(|row| row[counter].as_u64().unwrap_or_else(|| panic!("{counter} in {row}"))).sum()
    };
    let total = sum("bindings");
    assert_eq!(total, sum("per_binding"), "{counter}");
    total
}

fn a_producer_configures_and_reads_the_counters_while_frames_cross(path: Path) {
    const FRAMES: u32 = 20_000;
    let lab = path.lab(LabSpec::default());
    let node = path.start(&lab, &[]);
    let mut serve = Serve::start(&node);
    node.wait_for_running();
    let status = serve.producer.republish(1001, &[(A, MON, 4)]);
    assert_eq!((&status["last_snapshot_generation"], &status["last_fib_generation"]), (&json!(1001), &json!(1)));
    assert_eq!(status["capabilities"]["forwarding_supported"], true, "{status:#}");
    node.wait_for_ports(&[A, B, MON]);

    let (report, seen) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let spec = ExchangeSpec {
                mirror_a: Some(Mirror::new(4)),
                pace: Pace::per_second(10_000),
                ..ExchangeSpec::new(&lab, 1, FRAMES)
            };
            run(&lab, &spec, |_| ()).unwrap()
        });
        let mut seen = Vec::new();
        while !traffic.is_finished() {
            seen.push(total(&serve.producer.status(), "mirrored_packets"));
            std::thread::sleep(Duration::from_millis(20));
        }
        (traffic.join().unwrap(), seen)
    });
    assert!(report.holds, "{report}");
    let clones = u64::from(FRAMES.div_ceil(4));
    assert!(seen.is_sorted() && seen.iter().any(|n| (1..clones).contains(n)), "the counters grow: {seen:?}");

    node.settled_stats();
    // What crosses in the kernel is told with the next look at it.
    let (start, all) = (Instant::now(), u64::from(2 * FRAMES));
    let status = loop {
        let status = serve.producer.status();
        match total(&status, "rx_packets") {
            told if told == all => break status,
            told => {
                assert!(told < all && start.elapsed() < Duration::from_secs(60), "{told} of {all} frames: {status:#}")
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(total(&status, "mirrored_packets"), clones, "{status:#}");
    for reason in ["no_frame", "tx_frame_reserve", "no_binding", "queue_full", "queue_full_same_worker"] {
        assert_eq!(total(&status, &format!("mirror_drops_{reason}")), 0);
    }
    assert_eq!((&status["workers"], &status["ring_entries"]), (&json!(1), &json!(RING_ENTRIES)));
    let age = time_of(&status["worker_heartbeats"][0]);
    assert!(age < Duration::from_secs(60), "a heartbeat {age:?} ago");
    let binding = status["bindings"].as_array().unwrap().iter().find(|b| b["ifindex"] == A).unwrap();
    let stats = node.json(&["stats"]);
    assert_eq!(binding["mirrored_bytes"], mirror_of(&stats, A)["mirrored_bytes"]);
    assert_eq!((&binding["queue_id"], &binding["worker_id"], &binding["ready"]), (&json!(0), &json!(0), &json!(true)));
    assert_eq!(binding["interface"], lab.wire(0).unwrap().a.name.as_str());
    assert!(binding["umem_total_frames"].as_u64() > Some(0));
    for list in ["bindings", "per_binding"] {
        for row in status[list].as_array().unwrap() {
            assert_eq!(row["tx_ring_capacity"], RING_ENTRIES, "{row}");
            assert!(row["outstanding_tx"].as_u64() <= row["tx_ring_capacity"].as_u64(), "{row}");
        }
    }
    eprintln!("{} statuses while {} frames crossed", seen.len(), 2 * FRAMES);
}

/// Whatever the mode of the socket's file: only the owner, root and the socket's group are heard.
#[test]
fn a_stranger_is_refused() {
    const NOBODY: u32 = 65534;
    const GROUP: u32 = 54_321;
    let node = Node::idle();
    let serve = Serve::start(&node);
    let chmod =
        |path: &path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chmod(node.dir.path(), 0o755);
    rustix::fs::chown(serve.socket(), None, Some(Gid::from_raw(GROUP))).unwrap();
    // The credentials are the thread's that connects, and are gone with it.
    let ask_as_with = |group: u32, request: &Value| {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(group));
        let asking = || {
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            serve.producer.try_ask(request)
        };
        std::thread::scope(|scope| scope.spawn(asking).join().unwrap())
    };
    let ask_as = |group: u32| ask_as_with(group, &json!({"type": "ping"}));
    assert_eq!(ask_as(NOBODY).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "by its mode");
    assert_eq!(ask_as(GROUP).unwrap()["ok"], true);
    chmod(serve.socket(), 0o666);
    let refused = ask_as(NOBODY).unwrap();
    assert_eq!(refused["ok"], false);
    assert!(refused["error"].as_str().unwrap().contains("uid 65534, gid 65534"), "{refused}");
    assert!(refused.get("status").is_none(), "a stranger learns nothing");
    // It may be a megabyte before it looks for its answer.
    let long = json!({"type": "ping", "padding": "x".repeat(1 << 20)});
    assert_eq!(ask_as_with(NOBODY, &long).unwrap()["error"], refused["error"]);
    assert_eq!(ask_as(GROUP).unwrap()["ok"], true);
}

/// How long ago an RFC 3339 time is.
fn time_of(text: &Value) -> Duration {
    let date = Command::new("date").args(["-d", text.as_str().unwrap(), "+%s"]).output().unwrap();
    assert!(date.status.success(), "{text} is no time");
    let at: u64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.saturating_sub(Duration::from_secs(at))
}

/// Two queues on one shard or on two: what an entry counts is on one binding of each shard, and counted once.
fn the_counters_of_all_bindings_add_up(path: Path) {
    for cpus in ["0", "0,1"] {
        let lab = path.lab(LabSpec { queues: 2, monitor_queues: 2, ..LabSpec::default() });
        let node = path.start(&lab, &["--cpus", cpus]);
        let mut serve = Serve::start(&node);
        serve.producer.republish(1, &[(A, MON, 1)]);
        node.wait_for_ports(&[A, B, MON]);
        let spec = ExchangeSpec { in_order: false, monitor: None, ..ExchangeSpec::new(&lab, 6, 2000) };
        let report = run(&lab, &spec, |_| ()).unwrap();
        assert!(report.holds, "{report}");
        let stats = node.settled_stats();
        let status = serve.producer.status();
        // A port whose frames the kernel carries is one row, whatever its queues.
        let rows = if path.is_carried() { 4 } else { 6 };
        assert_eq!(status["bindings"].as_array().unwrap().len(), rows, "{status:#}");
        assert_eq!(total(&status, "observed"), 2000, "{status:#}");
        let entry = mirror_of(&stats, A);
        for counter in ["mirrored_packets", "mirrored_bytes", "mirror_drops_queue_full", "mirror_drops_no_frame"] {
            assert_eq!(total(&status, counter), entry[counter].as_u64().unwrap(), "{counter}");
        }
        assert_eq!(status["worker_heartbeats"].as_array().unwrap().len(), cpus.split(',').count());
    }
}

fn a_producer_arms_disarms_and_sets_the_role(path: Path) {
    let lab = path.lab(LabSpec::default());
    let mut node = path.start(&lab, &[]);
    let mut serve = Serve::start(&node);
    node.wait_for_running();
    serve.producer.republish(1, &[(A, MON, 7)]);
    node.wait_for_ports(&[A, B, MON]);
    exchange(&lab, 1, 500, Some(7), None);

    serve.producer.arm(false);
    exchange(&lab, 2, 500, None, None);
    let show = node.json(&["show"]);
    assert_eq!((&mirror_of(&show, A)["reason"], &show["armed"]), (&json!("disarmed"), &json!(false)));
    serve.producer.arm(true);
    serve.producer.ha(false);
    let show = node.json(&["show"]);
    let entry = mirror_of(&show, A);
    assert_eq!((&entry["state"], &entry["reason"]), (&json!("inactive"), &json!("standby")));
    exchange(&lab, 3, 500, None, None);
    serve.producer.republish(2, &[(A, MON, 7)]);
    exchange(&lab, 4, 500, None, None);
    assert_eq!(mirror_of(&node.settled_stats(), A)["observed"], 500, "a standby observes nothing");
    serve.producer.ha(true);
    // Afresh: the first frame is cloned whatever the sampler had seen, and the ledger begins at zero.
    exchange(&lab, 5, 500, Some(7), None);
    assert_eq!(mirror_of(&node.settled_stats(), A)["observed"], 500);

    // The server ends, the dataplane goes on.
    serve.producer.done(&json!({"type": "shutdown"}));
    serve.ended();
    assert!(node.is_running());

    // What a killed server left is replaced; SIGTERM ends one cleanly.
    let mut serve = Serve::start(&node);
    signal(serve.child.as_ref().unwrap().id(), "KILL");
    serve.child.take().unwrap().wait().unwrap();
    assert!(serve.socket().exists());
    let mut serve = Serve::start(&node);
    assert_eq!(serve.producer.status()["last_snapshot_generation"], 2);
    let second = node.spanctl(&["serve", "--socket", serve.socket().to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("somebody listens"), "{second:?}");
    signal(serve.child.as_ref().unwrap().id(), "TERM");
    serve.ended();

    // A file that is no socket is left alone.
    std::fs::write(serve.socket(), "").unwrap();
    let refused = node.spanctl(&["serve", "--socket", serve.socket().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(serve.socket().exists());
}

/// From its first exchange on, whatever it speaks: it looks at the version it is told, publishes, and its table mirrors.
#[test]
fn producers_of_every_version_publish_from_their_first_exchange_on() {
    for (version, rate) in [(43, 5), (3, 3)] {
        let lab = lab(LabSpec::default());
        let node = Node::start(&lab, &[]);
        let mut serve = Serve::start_for(&node, version);
        node.wait_for_running();
        serve.producer.begin(Duration::from_secs(60), &[(A, MON, rate)]);
        node.wait_for_ports(&[A, B, MON]);
        exchange(&lab, 1, 500, Some(rate), None);
        let exported = node.json(&["export"]);
        let want = json!([{"ingress_ifindex": A, "output_ifindex": MON, "rate": rate}]);
        assert_eq!((&exported["version"], &exported["mirror_configs"]), (&json!(version), &want));
        let excluded =
            node.json(&["show"])["diagnostics"].to_string().contains("output interface ge-0/0/9.0 has no ifindex");
        assert_eq!(excluded, version > 3, "what the producer left out, in its words");
        // A second table, and what it is told over a restart of the server.
        serve.producer.publish(&[(A, MON, rate), (B, MON, 2)]);
        serve.restart(&node);
        assert_eq!(serve.producer.status()["last_snapshot_generation"], 2);
        assert_eq!(serve.producer.status()["config_snapshot_protocol_version"], version);
        serve.producer.publish(&[(A, MON, rate)]);
    }
}

/// Two of the largest requests, and many clients that never come to an end: what the server holds of them is bounded.
#[test]
fn the_largest_requests_are_served_in_bounded_memory() {
    let node = Node::idle();
    let serve = Serve::start(&node);
    let mut large = serve.producer.snapshot(&[(A, MON, 1)]);
    large["generation"] = json!(1);
    large["routes"] = json!("x".repeat((64 << 20) - 2000));
    let request = format!("{}\n", json!({"type": "apply_snapshot", "snapshot": large}));
    assert!((63 << 20..64 << 20).contains(&request.len()));
    let stuck: Vec<UnixStream> = (0..60)
        .map(|_| {
            let mut stream = UnixStream::connect(serve.socket()).unwrap();
            // Those that have too little room for it have to go, and are told so.
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = stream.write_all(&request.as_bytes()[..900_000]);
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| send(serve.socket(), &request).unwrap()));
        for answer in both {
            let answer = answer.join().unwrap();
            assert_eq!(
                (&answer["ok"], &answer["status"]["last_snapshot_generation"]),
                (&json!(true), &json!(1)),
                "{answer}"
            );
        }
    });
    drop(stuck);
    let pid = serve.child.as_ref().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    let peak: u64 = peak.parse().unwrap();
    eprintln!("two requests of 64 MiB beside 60 of 0.9 MB that are never whole: at most {} MiB", peak >> 10);
    assert!(peak >> 10 < 256, "{peak} kB");
}
