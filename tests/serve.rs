//! The control socket as a producer meets it: a plain Unix stream socket, one JSON object and a newline each way.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shm_layout::record::Role;
use spanwire::control::OnAmbiguous;
use spanwire::control::compile::{Provenance, decompile, diagnostics};
use spanwire::control::link::{Link, Links};
use spanwire::control::model::{Interface, KNOWN_VERSION};
use spanwire::control::serve::{Asked, MAX_REQUEST, Options, READ_TIME, ServeError, Server};
use spanwire::control::state::{Published, published};
use spanwire::control::writer::{ConfigWriter, Standing, publish};
use spanwire::control::{Snapshot, admit};
use spanwire::stop::Stop;
use tempfile::TempDir;

/// A running server without a dataplane. Ended when dropped.
struct Serving {
    root: TempDir,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Serving {
    fn new(change: impl FnOnce(&mut Options)) -> Serving {
        Serving::start(tempfile::tempdir().unwrap(), change)
    }

    fn start(root: TempDir, change: impl FnOnce(&mut Options)) -> Serving {
        let mut options = Options::new(root.path().join("run"), root.path().join("socket"));
        change(&mut options);
        let stop = Arc::new(Stop::new().expect("a stop"));
        let server = Server::bind(options).unwrap();
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || server.run(&stop))
        };
        Serving { root, stop, thread: Some(thread) }
    }

    /// Another one after it, in the same directory.
    fn restarted(self, change: impl FnOnce(&mut Options)) -> Serving {
        self.stop.set();
        let (root, ended) = self.ended();
        ended.unwrap();
        Serving::start(root, change)
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("socket")
    }

    /// The second socket.
    fn sessions(&self) -> PathBuf {
        self.root.path().join("userspace-dp-sessions.sock")
    }

    fn published(&self) -> Option<Published> {
        published(&self.dir()).unwrap()
    }

    fn ask(&self, request: &Value) -> Value {
        exchange(&self.socket(), format!("{request}\n").as_bytes()).unwrap()
    }

    /// An exchange that must be refused; what the server says.
    #[track_caller]
    fn refused(&self, request: &Value) -> String {
        let answer = self.ask(request);
        assert_eq!(answer["ok"], false, "{request}: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn done(&self, request: &Value) -> Value {
        let answer = self.ask(request);
        assert_eq!((&answer["ok"], &answer["error"]), (&json!(true), &Value::Null), "{request}: {answer}");
        answer["status"].clone()
    }

    fn standing(&self) -> Standing {
        ConfigWriter::open(&self.dir()).unwrap().standing()
    }

    /// Waits for the end of a server that was asked to end.
    fn ended(mut self) -> (TempDir, Result<(), ServeError>) {
        let ended = self.thread.take().unwrap().join().unwrap();
        (std::mem::replace(&mut self.root, tempfile::tempdir().unwrap()), ended)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
        }
    }
}

/// As the producer does it: connect, write, read to the end.
fn exchange(socket: &Path, request: &[u8]) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request)?;
    answer(&mut stream)
}

/// Reads one object, and no further: a server that has cut a client off has closed before it read everything.
fn answer(stream: &mut UnixStream) -> io::Result<Value> {
    let mut text = String::new();
    if BufReader::new(stream).read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    assert!(text.ends_with('\n'), "one line: {text:?}");
    Ok(serde_json::from_str(&text)?)
}

fn snapshot(generation: u64) -> Value {
    json!({
        "version": 3, "generation": generation, "fib_generation": 7, "generated_at": "2026-11-22T08:30:15.123456789Z",
        "config": {"anything": [1, 2.5, "<"]},
        "interfaces": [{"name": "ge-0/0/0", "ifindex": 11}, {"name": "ge-0/0/1", "ifindex": 12}],
        "mirror_configs": [{"ingress_ifindex": 11, "output_ifindex": 22, "rate": 100}],
    })
}

fn apply(snapshot: &Value) -> Value {
    json!({"type": "apply_snapshot", "snapshot": snapshot})
}

/// What an operator may have published.
fn published_by_another(server: &Serving, generation: u64) {
    let snapshot = Snapshot { version: 1, generation, ..Snapshot::default() };
    publish(&server.dir(), &snapshot, &admit(&snapshot), Provenance::of(b"another document").digest).unwrap();
}

#[test]
fn every_request_of_the_protocol() {
    let server = Serving::new(|options| options.wires = vec!["ge-0/0/0:ge-0/0/1".to_owned()]);
    for kind in ["ping", "status"] {
        let status = server.done(&json!({"type": kind}));
        assert_eq!(status["config_snapshot_protocol_version"], 43);
        assert_eq!(status["last_snapshot_generation"], 0, "nothing yet");
        assert_eq!(status["control_socket"], server.socket().to_str().unwrap());
        assert_eq!(status["pid"], std::process::id());
        assert!(status["started_at"].as_str().unwrap().ends_with('Z'), "{status}");
        assert_eq!(status["capabilities"]["forwarding_supported"], false, "no dataplane runs");
        assert_eq!((&status["workers"], &status["ring_entries"]), (&json!(0), &json!(0)));
        assert_eq!(status["capabilities"]["unsupported_reasons"].as_array().unwrap().len(), 1);
        assert!(status.get("last_snapshot_at").is_none(), "an empty time is none that Go can read");
        assert!(status.get("poll_mode").is_none(), "nobody asked for one");
        for list in ["worker_heartbeats", "bindings", "per_binding"] {
            assert_eq!(status[list], json!([]));
        }
    }
    let silent = server.ask(&json!({"type": "ping", "suppress_status": true}));
    assert_eq!(silent, json!({"ok": true}));

    let status = server.done(&apply(&snapshot(1 << 60)));
    assert_eq!(status["last_snapshot_generation"], json!(1u64 << 60), "beyond 2^53");
    assert_eq!(status["last_fib_generation"], 7);
    assert!(status["last_snapshot_at"].as_str().unwrap().ends_with('Z'));
    let current = server.published().unwrap();
    let view = current.view().unwrap();
    assert_eq!((view.mirrors.len(), view.wires.len(), view.meta.fib_generation), (1, 1, 7));

    for kind in [
        "scheduler_heartbeat",
        "stop_workers",
        "update_neighbors",
        "update_fabrics",
        "rebind",
        "clear_policy_counters",
        "clear_nat_counters",
        "clear_zone_counters",
        "clear_flood_counters",
        "sync_session",
        "drain_session_deltas",
        "export_idle_leases",
        "import_idle_leases",
        "export_persistent_lease_display",
        "clear_persistent_nat_leases",
        "export_owner_rg_sessions",
        "export_all_sessions",
        "fib_dump",
        "set_queue_state",
        "set_binding_state",
        "inject_packet",
    ] {
        // Whatever else it has, also under names that mean something elsewhere.
        server.done(&json!({"type": kind, "snapshot": 1, "forwarding": [], "neighbors": [{}], "fib_generation": 9}));
    }
    let sessions = json!({"type": "list_sessions_by_policy", "suppress_status": true, "policy_ids": [1]});
    assert_eq!(server.ask(&sessions), json!({"ok": true, "session_policy_complete": true}));
    for kind in ["format_disk", "session_counters", "Ping", "ping "] {
        assert_eq!(server.refused(&json!({"type": kind})), format!("unknown request type {kind}"));
    }
    assert!(server.refused(&json!({"kind": "ping"})).contains("type"));
    assert_eq!(server.published().unwrap().generation, current.generation, "none of these publishes");
}

/// What a producer asks of the helper it starts is told back to it where nothing better is known.
#[test]
fn the_status_tells_what_was_asked_for() {
    let server = Serving::new(|options| {
        options.asked = Asked {
            state_file: Some("/run/p/state.json".into()),
            workers: Some(2),
            ring_entries: Some(1024),
            poll_mode: Some("interrupt".to_owned()),
        };
    });
    let status = server.done(&json!({"type": "ping"}));
    let told = ["state_file", "workers", "ring_entries", "poll_mode"].map(|key| status[key].clone());
    assert_eq!(told, [json!("/run/p/state.json"), json!(2), json!(1024), json!("interrupt")]);
}

/// The version that a producer is told: the one it is to be told, else the one that was accepted last, else the newest.
#[test]
fn the_version_told_is_the_one_that_was_accepted_last() {
    let told = |server: &Serving| server.done(&json!({"type": "ping"}))["config_snapshot_protocol_version"].clone();
    let of_version = |generation: u64, version: u32| {
        let mut snapshot = snapshot(generation);
        snapshot["version"] = json!(version);
        apply(&snapshot)
    };
    let server = Serving::new(|_| ());
    assert_eq!(told(&server), KNOWN_VERSION);
    server.done(&of_version(1, 12));
    assert_eq!(told(&server), 12);
    // One that is refused has not been accepted.
    server.refused(&of_version(0, 3));
    assert_eq!(told(&server), 12);
    let server = server.restarted(|_| ());
    assert_eq!(told(&server), 12, "over a restart");
    server.done(&of_version(2, 3));
    assert_eq!(told(&server), 3);
    // An operator's import of another version is not the producer's, nor is a change of the role, and a region that is
    // lost does not take the version with it.
    published_by_another(&server, 1);
    server.done(&json!({"type": "update_ha_state", "ha_state": {"groups": [{"active": false}]}}));
    assert_eq!(told(&server), 3);
    std::fs::remove_file(server.dir().join("config.shm")).unwrap();
    let server = server.restarted(|_| ());
    assert_eq!(told(&server), 3);
    let server = server.restarted(|options| options.protocol = Some(7));
    assert_eq!(told(&server), 7);
    let wrong = server.refused(&apply(&json!({"version": 0})));
    assert_eq!(wrong, "unsupported snapshot protocol version 0 (want 7)");
    server.done(&of_version(4, u32::MAX));
    assert_eq!(told(&server), 7);
    let server = server.restarted(|_| ());
    assert_eq!(told(&server), u32::MAX);
    server.done(&of_version(4, 3));
    assert_eq!(told(&server), 3);
    // A client at the second socket is a new producer in the place of an old one.
    assert_eq!(exchange(&server.sessions(), b"{\"type\":\"ping\"}\n").unwrap()["ok"], true);
    assert_eq!(told(&server), KNOWN_VERSION);
    server.done(&of_version(5, 43));
    exchange(&server.sessions(), b"{\"type\":\"ping\"}\n").unwrap();
    assert_eq!(told(&server), 43);
    server.done(&of_version(6, 3));
    assert_eq!(told(&server), 3, "and an old one in the place of a new one");
}

/// Documents in the shape of a new producer's, as they come over the socket.
#[test]
fn the_snapshots_of_a_new_producer_are_applied() {
    for (file, version, generation, fib, mirrors) in [
        ("01-v43-full-shape", 43, 5, 9, 2),
        ("02-v12-small", 12, 6, 0, 1),
        ("05-v43-all-excluded", 43, 8, 0, 0),
        ("08-v44-newer-than-known", 44, 11, 0, 1),
    ] {
        let server = Serving::new(|options| options.wires = vec!["41:42".to_owned()]);
        let path = format!("{}/tests/fixtures/producer-43/{file}.snapshot.json", env!("CARGO_MANIFEST_DIR"));
        let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let status = server.done(&apply(&document));
        assert_eq!(status["config_snapshot_protocol_version"], version, "{file}");
        assert_eq!(
            (&status["last_snapshot_generation"], &status["last_fib_generation"]),
            (&json!(generation), &json!(fib))
        );
        assert_eq!(server.published().unwrap().view().unwrap().mirrors.len(), mirrors, "{file}");
    }
}

/// Against what this server has accepted: nothing older, and nothing else under the same generation.
#[test]
fn a_generation_is_not_gone_back_to_and_not_used_for_something_else() {
    let server = Serving::new(|_| ());
    let made = AtomicUsize::new(0);
    let at = |generation: u64, fib: u64, rate: u32, digest: Value| {
        let mut snapshot = snapshot(generation);
        snapshot["fib_generation"] = json!(fib);
        snapshot["mirror_configs"][0]["rate"] = json!(rate);
        snapshot["content_digest"] = digest;
        // As a producer makes it anew.
        snapshot["generated_at"] = json!(format!("2026-11-22T08:30:15.{:09}Z", made.fetch_add(1, Relaxed)));
        apply(&snapshot)
    };
    let none = Value::Null;
    server.done(&at(5, 7, 100, none.clone()));
    for (request, want) in [
        (at(4, 9, 100, none.clone()), "snapshot generation rollback rejected: (4, 9) < current (5, 7)"),
        (at(5, 6, 100, none.clone()), "snapshot generation rollback rejected: (5, 6) < current (5, 7)"),
        (
            at(5, 7, 101, none.clone()),
            "snapshot content conflict at reused generation: generation 5 is in force with content digest none; this one carries none",
        ),
        (at(5, 8, 101, json!("ab")), "snapshot content conflict at reused generation: generation 5"),
        (at(5, 7, 100, json!(5)), "content_digest: "),
        (
            at(6, 1 << 32, 100, none.clone()),
            "fib_generation: 4294967296 is out of range (allowed: an integer in 0..=4294967295)",
        ),
    ] {
        let why = server.refused(&request);
        assert!(why.starts_with(want), "{why}");
    }
    let before = server.published().unwrap().generation;
    // The same once more, made anew, and with a digest that the first one lacks.
    server.done(&at(5, 7, 100, none.clone()));
    let status = server.done(&at(5, u32::MAX.into(), 100, json!("ab")));
    assert_eq!((&status["last_snapshot_generation"], &status["last_fib_generation"]), (&json!(5), &json!(u32::MAX)));
    assert_eq!(server.published().unwrap().generation, before + 2, "each is published: that repairs what is lost");
    // The producer's own digest decides, where both have one.
    let why = server.refused(&at(5, u32::MAX.into(), 100, json!("cd")));
    assert!(why.ends_with(r#"generation 5 is in force with content digest "ab"; this one carries "cd""#), "{why}");
    server.done(&at(5, u32::MAX.into(), 200, json!("ab")));
    server.done(&at(6, 3, 200, json!("cd")));
    server.done(&at(u64::MAX, 0, 200, none.clone()));
    server.refused(&at(u64::MAX - 1, 0, 200, none.clone()));

    // What is refused for its table is not accepted, and its generation still free.
    let server = server.restarted(|_| ());
    let mut loops = snapshot(3);
    loops["mirror_configs"][0]["output_ifindex"] = json!(11);
    server.refused(&apply(&loops));
    server.done(&at(2, 1, 300, none));
}

#[test]
fn the_forwarding_generation_moves_and_never_back() {
    let server = Serving::new(|_| ());
    let bump = |snapshot: Value| json!({"type": "bump_fib_generation", "snapshot": snapshot});
    let to = |fib: u64| bump(json!({"version": 43, "generation": 1, "fib_generation": fib}));
    assert_eq!(server.done(&to(3))["last_fib_generation"], 3, "before any snapshot");
    server.done(&apply(&snapshot(1)));
    let published = server.published().unwrap().generation;
    let status = server.done(&to(9));
    assert_eq!((&status["last_fib_generation"], &status["last_snapshot_generation"]), (&json!(9), &json!(1)));
    assert_eq!(server.refused(&to(8)), "fib generation rollback rejected: 8 < current 9");
    assert_eq!(server.done(&to(9))["last_fib_generation"], 9);
    assert_eq!(server.refused(&json!({"type": "bump_fib_generation"})), "missing snapshot");
    assert_eq!(server.refused(&bump(Value::Null)), "missing snapshot");
    for version in [json!(0), json!(-1), json!(43.5), Value::Null] {
        let why = server.refused(&bump(json!({"version": version, "fib_generation": 10})));
        let shown = if version.is_null() { json!(0) } else { version };
        assert_eq!(why, format!("unsupported snapshot protocol version {shown} (want 3)"));
    }
    for wrong in [json!(1), json!({"version": "43"}), json!({"version": 43, "fib_generation": "9"})] {
        assert!(server.refused(&bump(wrong)).starts_with("snapshot: "));
    }
    assert!(server.refused(&to(1 << 32)).starts_with("fib_generation: 4294967296 is out of range"));
    assert_eq!(server.done(&json!({"type": "status"}))["last_fib_generation"], 9);
    assert_eq!(server.published().unwrap().generation, published, "nothing is published for it");
    // An older snapshot than what it has moved to.
    let why = server.refused(&apply(&snapshot(1)));
    assert_eq!(why, "snapshot generation rollback rejected: (1, 7) < current (1, 9)");
    let status = server.done(&apply(&snapshot(2)));
    assert_eq!(status["last_fib_generation"], 7);
}

#[test]
fn the_second_socket_is_for_sessions() {
    let server = Serving::new(|_| ());
    server.done(&apply(&snapshot(1)));
    let ask = |request: Value| exchange(&server.sessions(), format!("{request}\n").as_bytes()).unwrap();
    assert_eq!(std::fs::metadata(server.sessions()).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(ask(json!({"type": "ping"}))["status"]["last_snapshot_generation"], 1);
    assert_eq!(ask(json!({"type": "sync_session", "suppress_status": true})), json!({"ok": true}));
    assert_eq!(ask(json!({"type": "list_sessions_by_policy"}))["session_policy_complete"], true);
    let ha = json!({"type": "update_ha_state", "ha_state": {"groups": [{"rg_id": 1, "active": false}]}});
    assert_eq!(ask(ha)["status"]["role"], "standby");
    for request in
        [json!({"type": "status"}), apply(&snapshot(2)), json!({"type": "shutdown"}), json!({"type": "x"}), json!({})]
    {
        let answer = ask(request);
        assert_eq!(answer["ok"], false, "{answer}");
        let why = answer["error"].as_str().unwrap();
        assert!(
            why.contains("is no request for the socket of sessions (allowed: ping, sync_session, ")
                && why.contains(server.socket().to_str().unwrap()),
            "{why}"
        );
    }
    assert_eq!(server.published().unwrap().view().unwrap().meta.source_generation, 1);

    // Two servers in one directory have one too few.
    let other = Options::new(server.root.path().join("other"), server.root.path().join("other.sock"));
    assert!(matches!(Server::bind(other), Err(ServeError::InUse { path }) if path == server.sessions()));
    assert!(!server.root.path().join("other.sock").exists(), "what was made before it is removed");
    let own = Options::new(server.root.path().join("other"), server.root.path().join("sub/userspace-dp-sessions.sock"));
    assert!(matches!(Server::bind(own), Err(ServeError::Reserved { .. })));
}

/// What this process is when it is started as a producer: it sends what it reads, what is of sessions to the second
/// socket, and writes the answers.
#[test]
fn a_producer_of_its_own_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let sessions = Path::new(&socket).with_file_name("userspace-dp-sessions.sock");
    for request in io::stdin().lines() {
        let request = request.unwrap();
        let socket = if request.contains("list_sessions_by_policy") { &sessions } else { Path::new(&socket) };
        let answer = exchange(socket, format!("{request}\n").as_bytes()).unwrap();
        eprintln!("{answer}");
    }
}

const SOCKET: &str = "SPANWIRE_TEST_PRODUCER";

/// A process that speaks to a server. Killed when dropped.
struct Other(Child, BufReader<ChildStderr>);

impl Other {
    fn start(server: &Serving) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_producer_of_its_own_process", "--nocapture", "-q"])
            .env(SOCKET, server.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stderr.take().unwrap());
        Other(child, answers)
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.0.stdin.as_ref().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that is started again goes on where the producer lives, and begins anew where that has gone.
#[test]
fn the_generation_in_force_is_the_living_producers() {
    let generation = |server: &Serving| server.done(&json!({"type": "status"}))["last_snapshot_generation"].clone();
    let server = Serving::new(|_| ());
    let mut producer = Other::start(&server);
    assert_eq!(producer.ask(&apply(&snapshot(500)))["ok"], true);
    assert_eq!(generation(&server), 500);
    let server = server.restarted(|_| ());
    assert_eq!(generation(&server), 500, "the server alone was started again");
    // Somebody else publishes, or the region is lost: nothing of the producer's is in force, and it publishes again.
    published_by_another(&server, 3);
    assert_eq!(generation(&server), 0);
    assert_eq!(producer.ask(&apply(&snapshot(500)))["status"]["last_snapshot_generation"], 500);
    std::fs::remove_file(server.dir().join("config.shm")).unwrap();
    assert_eq!(generation(&server), 0);
    assert_eq!(producer.ask(&apply(&snapshot(500)))["ok"], true);
    // The role is no snapshot.
    server.done(&json!({"type": "update_ha_state", "ha_state": {"groups": [{"active": false}]}}));
    assert_eq!(generation(&server), 500);
    let server = server.restarted(|_| ());
    assert_eq!(generation(&server), 500);
    drop(producer);
    assert_eq!(generation(&server), 0, "its generations begin anew");
    assert_eq!(server.done(&apply(&snapshot(1)))["last_snapshot_generation"], 1);
}

/// A producer that is started again beside a server that goes on: it looks at the status, and publishes.
#[test]
fn a_producer_that_begins_anew_is_heard() {
    let server = Serving::new(|_| ());
    let mut producer = Other::start(&server);
    assert_eq!(producer.ask(&apply(&snapshot(500)))["ok"], true);
    let rejected = "snapshot generation rollback rejected: (1, 7) < current (500, 7)";
    for _ in 0..3 {
        assert_eq!(server.refused(&apply(&snapshot(1))), rejected, "as long as the producer lives");
    }
    drop(producer);
    // Somebody who does not look before it publishes is no producer, however often.
    let mut stranger = Other::start(&server);
    for _ in 0..3 {
        assert_eq!(stranger.ask(&apply(&snapshot(1)))["error"], rejected);
        assert_eq!(stranger.ask(&json!({"type": "update_neighbors"}))["ok"], true);
    }
    let mut producer = Other::start(&server);
    assert_eq!(producer.ask(&json!({"type": "status"}))["status"]["last_snapshot_generation"], 500);
    assert_eq!(producer.ask(&json!({"type": "status"}))["status"]["last_snapshot_generation"], 0);
    assert_eq!(producer.ask(&apply(&snapshot(1)))["status"]["last_snapshot_generation"], 1);
    assert_eq!(producer.ask(&apply(&snapshot(0)))["ok"], false);
    drop(producer);
    // A ping is a look, and so is the second socket.
    for look in ["ping", "list_sessions_by_policy"] {
        let mut producer = Other::start(&server);
        assert_eq!(producer.ask(&apply(&snapshot(0)))["ok"], false);
        assert_eq!(producer.ask(&json!({"type": look}))["ok"], true);
        assert_eq!(producer.ask(&apply(&snapshot(0)))["status"]["last_snapshot_generation"], 0, "{look}");
        assert_eq!(producer.ask(&apply(&snapshot(1)))["ok"], true);
    }
}

#[test]
fn the_role_and_the_arming_stand_over_snapshots() {
    let server = Serving::new(|_| ());
    server.done(&apply(&snapshot(1)));
    let ha = |groups: Value| json!({"type": "update_ha_state", "ha_state": {"groups": groups}});
    let group = |id: u32, active: bool| json!({"rg_id": id, "active": active, "watchdog_timestamp": 5});
    let status = server.done(&ha(json!([group(1, false), group(2, false)])));
    assert_eq!((&status["role"], &status["last_snapshot_generation"]), (&json!("standby"), &json!(1)));
    let at = server.published().unwrap().generation;
    server.done(&ha(json!([group(1, false)])));
    server.done(&ha(json!(null)));
    // What is missing is not false, and not true.
    server.done(&ha(json!([group(1, false), {"rg_id": 2}])));
    server.done(&ha(json!([{"rg_id": 1, "active": null}])));
    assert_eq!(server.published().unwrap().generation, at, "what changes nothing is not published");
    server.done(&apply(&snapshot(2)));
    assert_eq!(server.standing().role, Role::Standby);
    server.done(&ha(json!([group(1, false), group(2, true)])));
    assert_eq!(server.standing().role, Role::Active);
    server.done(&ha(json!([{"rg_id": 1}])));
    assert_eq!(server.standing().role, Role::Active);

    let arm = |forwarding: Value| json!({"type": "set_forwarding_state", "forwarding": forwarding});
    let status = server.done(&arm(json!({"armed": false})));
    assert_eq!(status["forwarding_armed"], false);
    server.done(&arm(json!({})));
    server.done(&arm(json!({"armed": null, "more": 1})));
    assert!(!server.standing().armed());
    server.done(&apply(&snapshot(3)));
    assert!(!server.standing().armed());
    assert_eq!(server.refused(&arm(json!({"armed": true}))), "no dataplane is running (start spanwired)");
    assert!(!server.standing().armed());
    for wrong in [
        json!({"type": "update_ha_state"}),
        json!({"type": "update_ha_state", "ha_state": {"groups": 5}}),
        json!({"type": "update_ha_state", "ha_state": {"groups": [{"active": "yes"}]}}),
        json!({"type": "set_forwarding_state", "forwarding": null}),
        arm(json!({"armed": "yes"})),
    ] {
        let why = server.refused(&wrong);
        assert!(why.contains("ha_state") || why.contains("forwarding"), "{why}");
    }
}

#[test]
fn what_is_refused_leaves_what_is_published() {
    let server = Serving::new(|_| ());
    server.done(&apply(&snapshot(5)));
    let generation = server.published().unwrap().generation;
    let with = |key: &str, value: Value| {
        let mut changed = snapshot(6);
        changed[key] = value;
        apply(&changed)
    };
    for version in [json!(0), json!(null), json!(-1), json!(3.5), json!(1u64 << 32)] {
        let shown = if version.is_null() { json!(0) } else { version.clone() };
        let want = format!("unsupported snapshot protocol version {shown} (want 3)");
        assert_eq!(server.refused(&with("version", version)), want);
    }
    let twice = json!([
        {"ingress_ifindex": 11, "output_ifindex": 22, "rate": 1}, {"ingress_ifindex": 11, "output_ifindex": 23, "rate": 1},
        {"ingress_ifindex": 12, "output_ifindex": 12, "rate": 1},
    ]);
    let why = server.refused(&with("mirror_configs", twice));
    assert!(why.contains("duplicate ingress ifindex 11") && why.contains("mirror_configs[2]"), "all of it: {why}");
    for (request, want) in [
        (with("version", json!("3")), "version: \"3\" is a string"),
        (with("generation", json!("6")), "generation"),
        (json!({"type": "apply_snapshot"}), "snapshot: the key is missing"),
        (json!({"type": "apply_snapshot", "snapshot": null}), "snapshot: the key is missing"),
        (json!({"type": "apply_snapshot", "snapshot": [3]}), "is a list"),
        (json!({"type": "apply_snapshot", "snapshot": true}), "top level: true is a boolean"),
        (with("mirror_configs", json!(vec![0; 2000])), "; … and more (only the first 1000 reasons are told)"),
    ] {
        let why = server.refused(&request);
        assert!(why.contains(want), "{request}: {why}");
    }
    for (bytes, want) in [
        (&b"\n"[..], "is empty"),
        (b"not json\n", "no JSON object"),
        (b"[\"ping\"]\n", "no JSON object"),
        (b"{\"type\":\"ping\"", "EOF"),
        (b"{\"type\":\"ping\"}{}\n", "trailing"),
        (b"{\"type\":\"ping\",\"type\":\"shutdown\"}\n", "duplicate field"),
        (b"{\"type\":\"\xff\"}\n", "does not hold"),
        (b"{\"type\":\n\"ping\"}\n", "one line"),
    ] {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = answer(&mut stream).unwrap();
        let why = answer["error"].as_str().unwrap();
        assert!(why.contains(want), "{:?}: {why}", String::from_utf8_lossy(bytes));
    }
    let now = server.published().unwrap();
    assert_eq!((now.generation, now.view().unwrap().meta.source_generation), (generation, 5));
}

#[test]
fn an_ambiguous_table_is_omitted_where_that_is_asked_for() {
    let server = Serving::new(|options| options.on_ambiguous = OnAmbiguous::Omit);
    let mut ambiguous = snapshot(8);
    ambiguous["mirror_configs"] = json!([{"ingress_ifindex": 11, "output_ifindex": 22, "rate": 1}, {"ingress_ifindex": 11, "output_ifindex": 23, "rate": 1}]);
    assert_eq!(server.done(&apply(&ambiguous))["last_snapshot_generation"], 8);
    assert_eq!(server.published().unwrap().view().unwrap().mirrors.len(), 0);
}

#[test]
fn the_entries_at_fault_are_skipped_where_that_is_asked_for() {
    let server = Serving::new(|options| options.on_ambiguous = OnAmbiguous::Skip);
    let mut faulty = snapshot(8);
    let entry = |ingress, output| json!({"ingress_ifindex": ingress, "output_ifindex": output, "rate": 1});
    faulty["mirror_configs"] = json!([entry(11, 22), entry(11, 23), entry(14, 14), entry(15, 22)]);
    assert_eq!(server.done(&apply(&faulty))["last_snapshot_generation"], 8);
    let published = server.published().unwrap();
    let view = published.view().unwrap();
    let stay: Vec<(u32, u32)> = view.mirrors.iter().map(|m| (m.ingress_ifindex, m.output_ifindex)).collect();
    assert_eq!(stay, [(11, 22), (15, 22)]);
    let said = diagnostics(&view);
    for (row, why) in
        [(1, "left out: duplicate ingress ifindex 11"), (2, "left out: output ifindex 14 is the entry's own ingress")]
    {
        let subject = format!("mirror_configs[{row}]");
        assert!(said.iter().any(|d| d.subject == subject && d.message.starts_with(why)), "{why}: {said:?}");
    }
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_server() {
    let server = Serving::new(|_| ());
    assert_eq!(std::fs::metadata(server.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    server.done(&json!({"type": "shutdown"}));
    let (root, ended) = server.ended();
    ended.unwrap();
    for name in ["socket", "userspace-dp-sessions.sock"] {
        assert!(!root.path().join(name).exists());
    }
}

/// A client that keeps its connection after it was refused, or sends nothing at all, does not hold up the end.
#[test]
fn the_end_waits_for_nobody_who_only_sits_there() {
    let server = Serving::new(|_| ());
    let mut refused = UnixStream::connect(server.socket()).unwrap();
    refused.write_all(b"nothing\n").unwrap();
    assert_eq!(answer(&mut refused).unwrap()["ok"], false);
    let mut idle = UnixStream::connect(server.sessions()).unwrap();
    let asked = Instant::now();
    server.done(&json!({"type": "shutdown"}));
    let (_root, ended) = server.ended();
    ended.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    // It was not accepted yet, or learns why.
    let told = answer(&mut idle);
    assert!(told.as_ref().map_or(true, |told| told["error"] == "the server ends"), "{told:?}");
}

/// Sixty-four at once; three of them mean harm. The others are served all the while.
#[test]
fn a_slow_a_huge_and_a_senseless_client_hold_nobody_up() {
    const OTHERS: usize = 61;
    const ROUNDS: usize = 5;
    let server = Serving::new(|_| ());
    server.done(&apply(&snapshot(1)));
    let socket = server.socket();
    let slow_ended = AtomicBool::new(false);
    let while_slow = AtomicUsize::new(0);
    let start = Instant::now();
    let times: Vec<Duration> = thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            // A request that is never whole.
            while start.elapsed() < READ_TIME + Duration::from_secs(2) {
                stream.write_all(b" ").unwrap();
                thread::sleep(Duration::from_millis(500));
            }
            slow_ended.store(true, Relaxed);
            answer(&mut stream).unwrap()
        });
        let huge = scope.spawn(|| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let chunk = vec![b'['; 1 << 20];
            for _ in 0..70 {
                stream.write_all(&chunk).unwrap();
            }
            answer(&mut stream).unwrap()
        });
        let senseless = scope.spawn(|| {
            let garbage: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let mut answers = 0;
            while !slow_ended.load(Relaxed) {
                let mut stream = UnixStream::connect(&socket).unwrap();
                stream.write_all(&garbage).unwrap();
                answers += usize::from(answer(&mut stream).unwrap()["ok"] == false);
            }
            answers
        });
        let others: Vec<_> = (0..OTHERS)
            .map(|i| {
                let (server, slow_ended, while_slow) = (&server, &slow_ended, &while_slow);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for round in 0..ROUNDS {
                        let at = Instant::now();
                        let status = if i == 0 {
                            server.done(&apply(&snapshot(2 + round as u64)))
                        } else {
                            server.done(&json!({"type": "status"}))
                        };
                        assert!(status["last_snapshot_generation"].as_u64() >= Some(1));
                        times.push(at.elapsed());
                        while_slow.fetch_add(usize::from(!slow_ended.load(Relaxed)), Relaxed);
                    }
                    times
                })
            })
            .collect();
        let times = others.into_iter().flat_map(|other| other.join().unwrap()).collect();
        let slow = slow.join().unwrap();
        assert!(slow["error"].as_str().unwrap().contains("not whole after 3 s"), "{slow}");
        let huge = huge.join().unwrap();
        assert!(huge["error"].as_str().unwrap().contains(&MAX_REQUEST.to_string()), "{huge}");
        assert!(senseless.join().unwrap() > 0);
        times
    });
    assert!(start.elapsed() >= READ_TIME, "the slow one had its time");
    assert_eq!(times.len(), OTHERS * ROUNDS);
    let while_slow = while_slow.into_inner();
    assert!(while_slow > 0, "nobody was served beside the slow client");
    let mut sorted = times;
    sorted.sort_unstable();
    eprintln!(
        "{OTHERS} clients, {} exchanges, {while_slow} of them beside the slow client: median {:?}, worst {:?}",
        sorted.len(),
        sorted[sorted.len() / 2],
        sorted[sorted.len() - 1]
    );
}

/// More than may be served at once: who comes later is served, and those who only sit there have to go.
#[test]
fn idle_connections_make_room() {
    let server = Serving::new(|_| ());
    let idle: Vec<UnixStream> = (0..300).map(|_| UnixStream::connect(server.socket()).unwrap()).collect();
    server.done(&json!({"type": "ping"}));
    drop(idle);
}

/// As above, in the middle of large requests: these wait for no room, and nobody waits for them.
#[test]
fn large_requests_that_are_never_whole_make_room() {
    let server = Serving::new(|_| ());
    let part = vec![b' '; 70_000];
    let stuck: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(server.socket()).unwrap();
            // It may have to go before that is sent.
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = stream.write_all(&part);
            stream
        })
        .collect();
    let start = Instant::now();
    server.done(&json!({"type": "ping"}));
    let mut large = snapshot(9);
    large["routes"] = json!("x".repeat(100_000));
    let request = format!("{}\n", apply(&large));
    // On a machine so slow that it looks stuck itself it has to go too, and asks again.
    let answer = (0..50)
        .find_map(|_| exchange(&server.socket(), request.as_bytes()).ok().filter(|answer| answer["ok"] == true))
        .unwrap();
    assert_eq!(answer["status"]["last_snapshot_generation"], 9, "{answer}");
    eprintln!("a ping and a large snapshot beside 200 stuck ones: {:?}", start.elapsed());
    drop(stuck);
}

/// A client that reads its answer only when it has sent everything reads why it is refused.
#[test]
fn what_is_refused_is_read_to_its_end() {
    let server = Serving::new(|_| ());
    let long = vec![b'['; MAX_REQUEST + (6 << 20)];
    let mut pretty = b"{\n".to_vec();
    pretty.extend_from_slice(&vec![b' '; 8 << 20]);
    for (request, want) in
        [(&long, format!("more than the {MAX_REQUEST} bytes allowed")), (&pretty, "one line".to_owned())]
    {
        let answer = exchange(&server.socket(), request).unwrap();
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().contains(&want), "{answer}");
    }
    // One that comes too slowly, and then all at once.
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"{").unwrap();
    thread::sleep(READ_TIME + Duration::from_millis(500));
    stream.write_all(&pretty).unwrap();
    let late = answer(&mut stream).unwrap();
    assert!(late["error"].as_str().unwrap().contains("not whole after 3 s"), "{late}");
    // Who reads to the end has it, also without closing first.
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"nothing\n").unwrap();
    let (mut text, start) = (String::new(), Instant::now());
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("no JSON object") && start.elapsed() < Duration::from_secs(5), "{text}");
}

/// A snapshot as large as any, nearly all of it about what is not here.
#[test]
fn the_largest_snapshot_is_applied() {
    let server = Serving::new(|_| ());
    let mut large = snapshot(9);
    large["routes"] = json!("");
    let padding = MAX_REQUEST - apply(&large).to_string().len();
    large["routes"] = json!("x".repeat(padding));
    let mut request = apply(&large).to_string();
    assert_eq!(request.len(), MAX_REQUEST);
    request.push('\n');
    let start = Instant::now();
    let answer = exchange(&server.socket(), request.as_bytes()).unwrap();
    assert_eq!(answer["status"]["last_snapshot_generation"], 9, "{answer}");
    eprintln!("64 MiB in {:?}", start.elapsed());
    request.insert(1, ' ');
    let answer = exchange(&server.socket(), request.as_bytes()).unwrap();
    assert!(answer["error"].as_str().unwrap().contains("bytes allowed"), "{answer}");
}

/// A large older snapshot and a small newer one at the same time: whatever the order, the newer one stays.
#[test]
fn an_older_snapshot_never_replaces_a_newer_one() {
    let server = Serving::new(|_| ());
    for round in 1..=20 {
        let mut old = snapshot(2 * round);
        old["routes"] = json!("x".repeat(300_000));
        let (old, new) = (apply(&old), apply(&snapshot(2 * round + 1)));
        let (newer, older) = thread::scope(|scope| {
            let older = scope.spawn(|| server.ask(&old));
            (server.ask(&new), older.join().unwrap())
        });
        assert_eq!(newer["ok"], true, "{newer}");
        assert!(older["ok"] == true || older["error"].as_str().unwrap().contains("rollback"), "{older}");
        assert_eq!(server.published().unwrap().view().unwrap().meta.source_generation, 2 * round + 1);
    }
}

/// A full mirror table, megabytes long.
#[test]
fn a_large_snapshot_is_applied() {
    let server = Serving::new(|_| ());
    let mirrors: Vec<Value> =
        (0..20_000).map(|i| json!({"ingress_ifindex": 1000 + i, "output_ifindex": 22, "rate": i})).collect();
    let mut large = snapshot(9);
    large["mirror_configs"] = json!(mirrors);
    large["routes"] = json!(vec!["192.0.2.0/24 via 198.51.100.1"; 50_000]);
    let request = apply(&large);
    assert!(request.to_string().len() > 2 << 20);
    assert_eq!(server.done(&request)["last_snapshot_generation"], 9);
    assert_eq!(server.published().unwrap().view().unwrap().mirrors.len(), 20_000);
}

/// `--wire` names devices where the snapshot has no interface of that name; the published one then has them.
#[test]
fn a_wire_argument_names_devices() {
    fn links(_: &Path) -> Option<Links> {
        let device = |name: &str, ifindex, altname: &str| Link {
            interface: Interface { name: name.into(), linux_name: name.into(), ifindex, ..Interface::default() },
            altnames: vec![altname.into()],
            ..Link::default()
        };
        Some(Links { all: vec![device("p1", 31, "wan"), device("p2", 32, "lan")], place: "over there".into() })
    }
    let serving = Serving::new(|options| {
        options.links = links;
        options.wires = vec!["wan:p2".to_owned()];
    });
    // One row has the ifindex of a device, and the name of another.
    let mut document = snapshot(1);
    let rows = document["interfaces"].as_array_mut().unwrap();
    rows.push(json!({"name": "ge-0/0/4", "linux_name": "ge-0-0-4", "ifindex": 32}));
    serving.done(&apply(&document));
    let published = serving.published().unwrap();
    let said: Vec<_> = diagnostics(&published.view().unwrap()).iter().map(ToString::to_string).collect();
    let stranger = "warning: ifindex 32: it is called \"p2\" over there, the document calls it \"ge-0-0-4\": it may be another device";
    assert_eq!(said.iter().filter(|said| *said == stranger).count(), 1, "{said:#?}");
    let snapshot = decompile(&published.view().unwrap());
    assert_eq!((snapshot.wires[0].a_ifindex, snapshot.wires[0].b_ifindex), (31, 32));
    let names = |ifindex| snapshot.interface_by_index(ifindex).map(|i| (i.name.as_str(), i.linux_name.as_str()));
    assert_eq!((names(31), names(32)), (Some(("wan", "p1")), Some(("ge-0/0/4", "p2"))));
}
