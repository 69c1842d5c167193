//! The control socket as a producer meets it: a plain Unix stream socket, one JSON object and a newline each way.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shm_layout::record::Role;
use spanwire::control::OnAmbiguous;
use spanwire::control::compile::diagnostics;
use spanwire::control::serve::{MAX_REQUEST, Options, READ_TIME, ServeError, Server};
use spanwire::control::state::{Published, published};
use spanwire::control::writer::{ConfigWriter, Standing};
use tempfile::TempDir;

/// A running server without a dataplane. Ended when dropped.
struct Serving {
    root: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Serving {
    fn new(change: impl FnOnce(&mut Options)) -> Serving {
        let root = tempfile::tempdir().unwrap();
        let mut options = Options::new(root.path().join("run"), root.path().join("socket"));
        change(&mut options);
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server::bind(options).unwrap();
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || server.run(&stop))
        };
        Serving { root, stop, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("socket")
    }

    fn published(&self) -> Option<Published> {
        published(&self.root.path().join("run")).unwrap()
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
        ConfigWriter::open(&self.root.path().join("run")).unwrap().standing()
    }

    /// Waits for the end of a server that was asked to end.
    fn ended(mut self) -> (TempDir, Result<(), ServeError>) {
        let ended = self.thread.take().unwrap().join().unwrap();
        (std::mem::replace(&mut self.root, tempfile::tempdir().unwrap()), ended)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
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

#[test]
fn every_request_of_the_protocol() {
    let server = Serving::new(|options| options.wires = vec!["ge-0/0/0:ge-0/0/1".to_owned()]);
    for kind in ["ping", "status"] {
        let status = server.done(&json!({"type": kind}));
        assert_eq!(status["config_snapshot_protocol_version"], 3);
        assert_eq!(status["last_snapshot_generation"], 0, "nothing yet");
        assert_eq!(status["control_socket"], server.socket().to_str().unwrap());
        assert_eq!(status["pid"], std::process::id());
        assert!(status["started_at"].as_str().unwrap().ends_with('Z'), "{status}");
        assert_eq!(status["capabilities"]["forwarding_supported"], false, "no dataplane runs");
        assert_eq!((&status["workers"], &status["ring_entries"]), (&json!(0), &json!(0)));
        assert_eq!(status["capabilities"]["unsupported_reasons"].as_array().unwrap().len(), 1);
        assert!(status.get("last_snapshot_at").is_none(), "an empty time is none that Go can read");
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
        "bump_fib_generation",
        "update_neighbors",
        "update_fabrics",
        "clear_policy_counters",
        "sync_session",
        "drain_session_deltas",
        "rebind",
    ] {
        // Whatever else it has, also under names that mean something elsewhere.
        server.done(&json!({"type": kind, "snapshot": 1, "forwarding": [], "neighbors": [{}], "fib_generation": 9}));
    }
    assert_eq!(server.refused(&json!({"type": "format_disk"})), "unknown request type format_disk");
    assert!(server.refused(&json!({"kind": "ping"})).contains("type"));
    assert_eq!(server.published().unwrap().generation, current.generation, "none of these publishes");
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
    assert_eq!(server.published().unwrap().generation, at, "what changes nothing is not published");
    server.done(&apply(&snapshot(2)));
    assert_eq!(server.standing().role, Role::Standby);
    server.done(&ha(json!([group(1, false), group(2, true)])));
    assert_eq!(server.standing().role, Role::Active);

    let arm = |forwarding: Value| json!({"type": "set_forwarding_state", "forwarding": forwarding});
    let status = server.done(&arm(json!({"armed": false})));
    assert_eq!(status["forwarding_armed"], false);
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
    for version in [json!(0), json!(1), json!(2), json!(4), json!(null), json!(-1), json!(3.5)] {
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
    assert!(!root.path().join("socket").exists());
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
            // A request that is whole only after 80 s.
            for byte in format!("{:80}\n", r#"{"type":"ping"}"#).bytes() {
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_secs(1));
            }
            slow_ended.store(true, Relaxed);
            answer(&mut stream).unwrap()
        });
        let huge = scope.spawn(|| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let chunk = vec![b'['; 1 << 20];
            let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
            (sent, answer(&mut stream).unwrap())
        });
        let senseless = scope.spawn(|| {
            let garbage: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let mut answers = 0;
            while !slow_ended.load(Relaxed) {
                let mut stream = UnixStream::connect(&socket).unwrap();
                // It may be cut off in the middle of it.
                let _ = stream.write_all(&garbage);
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
        let (sent, huge) = huge.join().unwrap();
        assert!(
            sent < 1024 && huge["error"].as_str().unwrap().contains(&MAX_REQUEST.to_string()),
            "{sent} MiB: {huge}"
        );
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
    let answer = (0..50).find_map(|_| exchange(&server.socket(), request.as_bytes()).ok()).unwrap();
    assert_eq!(answer["status"]["last_snapshot_generation"], 9, "{answer}");
    eprintln!("a ping and a large snapshot beside 200 stuck ones: {:?}", start.elapsed());
    drop(stuck);
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
