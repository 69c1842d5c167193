//! spanwired with its four capabilities and spanctl without any, both as a user of their own. Its user may not look
//! into a process with capabilities, so the dataplane tells what is in its network namespace.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{Uid, chown};
use serde_json::Value;
use spanwire_lab::topology::{Lab, LabSpec};

use crate::exchange;
use crate::node::{A, B, MON, Node, copy_program, lab, program, signal};

const USER: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(60);
const NAP: Duration = Duration::from_millis(20);

/// A user's own directory, with programs in it: the build directory may be closed to others.
struct Home {
    node: Node,
    daemon: u32,
}

impl Home {
    /// Its user's dataplane in the lab's middle namespace.
    fn start(lab: &Lab) -> Home {
        let mut node = Node::idle();
        for name in ["spanwired", "spanctl"] {
            copy_program(&program(name), &node.dir.path().join(name));
        }
        chown(node.dir.path(), Some(Uid::from_raw(USER)), None).unwrap();
        let caps = "-all,+net_admin,+net_raw,+bpf,+ipc_lock";
        let mut setpriv = lab.dut().command("setpriv");
        setpriv.args(["--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps]);
        node.adopt(as_user(&mut setpriv, node.dir.path(), "spanwired"));
        let home = Home { daemon: node.pid(), node };
        let start = Instant::now();
        while home.spanctl(&["stats"]).status.code() != Some(0) {
            assert!(start.elapsed() < PATIENCE, "the dataplane does not tell of itself");
            std::thread::sleep(NAP);
        }
        home
    }

    /// Runs spanctl as the same user, without capabilities and outside of the dataplane's namespace.
    fn spanctl(&self, args: &[&str]) -> Output {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--inh-caps=-all", "--bounding-set=-all"]);
        as_user(&mut setpriv, self.node.dir.path(), "spanctl").args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.spanctl(&[&["--json"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }
}

fn as_user<'a>(setpriv: &'a mut Command, home: &Path, name: &str) -> &'a mut Command {
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    setpriv.arg(home.join(name)).arg("--dir").arg(home)
}

#[test]
fn the_same_user_commits_without_capabilities() {
    let lab = lab(LabSpec::default());
    let home = Home::start(&lab);
    let (wire, mon) = (lab.wire(0).unwrap(), &lab.monitor(0).unwrap().name);
    let conf = |monitor: &str| {
        home.node.file(&format!(
            "security {{ forwarding-options {{ secure-wire w {{ interface [ {} {} ]; }} }} }}
            forwarding-options {{ port-mirroring {{ instance i {{
                input {{ ingress {{ interface {}.0; }} }} output {{ interface {monitor}; }} }} }} }}",
            wire.a.name, wire.b.name, wire.a.name
        ))
    };
    let file = conf(mon);
    let published = home.json(&["commit", file.to_str().unwrap()]);
    assert_eq!(published["mirrors"][0]["output_ifindex"], MON, "{published}");
    let generation = published["generation"].to_string();
    home.json(&["wait", "--generation", &generation, "--timeout", "60"]);
    let start = Instant::now();
    let is_active = |show: &Value, port: u32| {
        let ports = show["ports"].as_array().unwrap();
        ports.iter().any(|p| p["ifindex"] == port && p["state"] == "active")
    };
    while [A, B, MON].iter().any(|&port| !is_active(&home.json(&["show"]), port)) {
        assert!(start.elapsed() < PATIENCE, "{:#}", home.json(&["show"]));
        std::thread::sleep(NAP);
    }
    exchange(&lab, 1, 300, Some(1), None);

    // What changes is told before the next answer.
    let dut = lab.dut();
    dut.ip(&["link", "add", "late0", "type", "veth", "peer", "name", "late1"]).unwrap();
    dut.ip(&["link", "set", "late0", "up"]).unwrap();
    dut.ip(&["link", "property", "add", "dev", "late0", "altname", "sensor-of-the-second-floor"]).unwrap();
    for name in ["late0", "sensor-of-the-second-floor"] {
        let published = home.json(&["commit", conf(name).to_str().unwrap()]);
        assert!(published["mirrors"][0]["output_ifindex"].as_u64().unwrap() != u64::from(MON), "{published}");
    }
    dut.ip(&["link", "del", "late0"]).unwrap();
    let gone = home.json(&["check", conf("late0").to_str().unwrap()]);
    assert_eq!(gone["mirrors"], serde_json::json!([]), "{gone}");

    // One that hangs stops nothing: its last word is good for the names.
    signal(home.daemon, "STOP");
    let committed = home.spanctl(&["--json", "commit", conf(mon).to_str().unwrap()]);
    signal(home.daemon, "CONT");
    assert!(committed.status.success(), "{committed:?}");
}
