//! A producer as the Go control plane is one, of an old protocol version or a new one: connect, write one JSON object
//! and a newline, read one JSON object, close. Whoever serves the socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::node::{A, B, MON};

/// Up to this version a producer wants the other end to know at least its own; later ones want the same.
const OLD: u32 = 3;

/// A producer and what it has sent.
pub struct Producer {
    socket: PathBuf,
    version: u32,
    generation: u64,
    fib_generation: u32,
}

impl Producer {
    /// One that has sent nothing yet.
    pub fn new(socket: &Path, version: u32) -> Producer {
        Producer { socket: socket.to_owned(), version, generation: 0, fib_generation: 1 }
    }

    /// The socket it speaks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One exchange.
    pub fn try_ask(&self, request: &Value) -> io::Result<Value> {
        exchange(&self.socket, request)
    }

    /// The status after a request that must be done.
    #[track_caller]
    pub fn done(&self, request: &Value) -> Value {
        let answer = self.try_ask(request).unwrap();
        assert_eq!(answer["ok"], true, "{request}: {answer}");
        answer["status"].clone()
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.done(&json!({"type": "status"}))
    }

    /// Pings until somebody answers, as a producer does that has started its helper.
    pub fn wait(&self, patience: Duration) {
        let start = Instant::now();
        while self.try_ask(&json!({"type": "ping"})).is_err() {
            assert!(start.elapsed() < patience, "nobody answers at {}", self.socket.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// All of it from the start: it waits for whoever serves, looks at the status, publishes the lab's mirror table, and
    /// makes known what else changes. The status at the end.
    #[track_caller]
    pub fn begin(&mut self, patience: Duration, mirrors: &[(u32, u32, u32)]) -> Value {
        self.wait(patience);
        if self.version > OLD {
            assert_eq!(self.ask_sessions(&json!({"type": "ping"}))["ok"], true);
        }
        let status = self.status();
        for key in ["pid", "started_at", "control_socket"] {
            assert!(!status[key].is_null(), "{key}: {status}");
        }
        assert_eq!(status["last_snapshot_generation"], 0, "nothing of this producer is in force: {status}");
        self.publish(mirrors);
        self.arm(true);
        if self.version > OLD {
            let groups = json!([{"rg_id": 1, "active": false, "lease": {}}, {"rg_id": 2, "active": true}]);
            let ha = json!({"type": "update_ha_state", "ha_state": {"groups": groups}});
            assert_eq!(self.ask_sessions(&ha)["ok"], true);
            let sessions = self.ask_sessions(&json!({"type": "list_sessions_by_policy", "suppress_status": true}));
            assert_eq!(sessions, json!({"ok": true, "session_policy_complete": true}));
            self.done(&json!({"type": "scheduler_heartbeat"}));
        } else {
            self.ha(true);
        }
        self.done(&json!({"type": "update_neighbors", "neighbors": [], "neighbor_generation": 1}));
        self.fib_generation += 1;
        let (version, generation) = (self.version, self.generation);
        let moved = json!({"version": version, "generation": generation, "fib_generation": self.fib_generation});
        self.done(&json!({"type": "bump_fib_generation", "snapshot": moved}));
        let status = self.status();
        assert_eq!(
            (&status["last_snapshot_generation"], &status["last_fib_generation"]),
            (&json!(generation), &json!(self.fib_generation))
        );
        assert_eq!(
            (&status["forwarding_armed"], &status["capabilities"]["forwarding_supported"]),
            (&json!(true), &json!(true))
        );
        status
    }

    /// One exchange at the second socket.
    pub fn ask_sessions(&self, request: &Value) -> Value {
        exchange(&self.socket.with_file_name("userspace-dp-sessions.sock"), request).unwrap()
    }

    /// Publishes the lab's mirror table under the next generation, if the status says that its version is understood;
    /// the status of then.
    #[track_caller]
    pub fn publish(&mut self, mirrors: &[(u32, u32, u32)]) -> Value {
        let told = self.status()["config_snapshot_protocol_version"].as_u64().unwrap();
        let own = u64::from(self.version);
        assert!(if self.version <= OLD { told >= own } else { told == own }, "it speaks {own}, and is told {told}");
        self.generation += 1;
        self.republish(self.generation, mirrors)
    }

    /// The same under this generation, without a look at the status.
    #[track_caller]
    pub fn republish(&mut self, generation: u64, mirrors: &[(u32, u32, u32)]) -> Value {
        self.generation = generation;
        let status = self.done(&json!({"type": "apply_snapshot", "snapshot": self.snapshot(mirrors)}));
        assert_eq!(status["last_snapshot_generation"], generation);
        assert_eq!(status["last_fib_generation"], self.fib_generation);
        status
    }

    /// The snapshot it would send.
    pub fn snapshot(&self, mirrors: &[(u32, u32, u32)]) -> Value {
        let entry = |(ingress, output, rate): &(u32, u32, u32)| json!({"ingress_ifindex": ingress, "output_ifindex": output, "rate": rate});
        let mirrors: Vec<Value> = mirrors.iter().map(entry).collect();
        let mut snapshot = json!({
            "version": self.version, "generation": self.generation, "fib_generation": self.fib_generation,
            "generated_at": "2026-11-22T08:30:15.123456789Z",
            "interfaces": [
                {"name": "ge-0/0/0", "ifindex": A}, {"name": "ge-0/0/1", "ifindex": B}, {"name": "ge-0/0/2", "ifindex": MON},
            ],
            "mirror_configs": mirrors,
        });
        if self.version > OLD {
            // What came with later versions, and several rows of one ifindex.
            snapshot["capabilities"] = json!({"forwarding_supported": true, "unheard_of": [1.5, null]});
            snapshot["content_digest"] = json!(format!("{:064x}", mirrors_digest(&snapshot["mirror_configs"])));
            snapshot["mirror_exclusions"] =
                json!([{"instance": "gone", "reason": "output interface ge-0/0/9.0 has no ifindex"}]);
            snapshot["interfaces"] = json!([
                {"name": "ge-0/0/0", "linux_name": "ge-0-0-0", "ifindex": A, "is_unit": false, "link_up": true},
                {"name": "ge-0/0/0.0", "linux_name": "ge-0-0-0", "ifindex": A, "is_unit": true, "link_up": true},
                {"name": "ge-0/0/1", "linux_name": "ge-0-0-1", "ifindex": B, "is_unit": false, "routing_domain": 204_817},
                {"name": "ge-0/0/1.0", "linux_name": "ge-0-0-1", "ifindex": B, "is_unit": true},
                {"name": "ge-0/0/2", "linux_name": "ge-0-0-2", "ifindex": MON, "admin_disabled": true},
            ]);
        }
        snapshot
    }

    /// Forwarding armed or not; the status must say so.
    #[track_caller]
    pub fn arm(&self, armed: bool) {
        let status = self.done(&json!({"type": "set_forwarding_state", "forwarding": {"armed": armed}}));
        assert_eq!(status["forwarding_armed"], armed);
    }

    /// One of two groups active, or none.
    #[track_caller]
    pub fn ha(&self, active: bool) {
        let groups = json!([{"rg_id": 1, "active": false}, {"rg_id": 2, "active": active, "watchdog_timestamp": 5}]);
        self.done(&json!({"type": "update_ha_state", "ha_state": {"groups": groups}}));
    }
}

/// Another number for another table: what a producer's digest is good for.
fn mirrors_digest(mirrors: &Value) -> u64 {
    mirrors.to_string().bytes().fold(7, |digest: u64, byte| digest.wrapping_mul(31).wrapping_add(byte.into()))
}

/// One exchange at a socket.
pub fn exchange(socket: &Path, request: &Value) -> io::Result<Value> {
    send(socket, &format!("{request}\n"))
}

/// The same with the text of a request.
pub fn send(socket: &Path, request: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}
