//! spanwired with its five capabilities and spanctl without any, both as a user of their own. Its user may not look
//! into a process with capabilities, so the dataplane tells what is in its network namespace.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{Uid, chown};
use serde_json::Value;
use spanwire_lab::exchange::{ExchangeSpec, run};
use spanwire_lab::topology::{Lab, LabSpec};

use crate::exchange;
use crate::node::{A, B, MON, Node, copy_program, document, lab, program, signal};
use crate::promiscuity::flags;
use crate::survival::kernel_lab;

const USER: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(60);
const NAP: Duration = Duration::from_millis(20);

/// What spanwired needs.
const CAPS: [&str; 5] = ["net_admin", "net_raw", "ipc_lock", "bpf", "perfmon"];

/// A user's own directory, with programs in it: the build directory may be closed to others.
struct Home {
    node: Node,
    daemon: u32,
    caps: &'static [&'static str],
    has_pins: bool,
}

impl Home {
    /// Its user's dataplane in the lab's middle namespace.
    fn start(lab: &Lab, args: &[&str]) -> Home {
        Home::with(lab, &CAPS, true, args)
    }

    /// With these capabilities alone, and a bpffs of its own or none.
    fn with(lab: &Lab, caps: &'static [&'static str], has_pins: bool, args: &[&str]) -> Home {
        let node = Node::idle();
        for name in ["spanwired", "spanctl"] {
            copy_program(&program(name), &node.dir.path().join(name));
        }
        for place in [&node.dir, &node.pins] {
            chown(place.path(), Some(Uid::from_raw(USER)), None).unwrap();
        }
        let mut home = Home { daemon: 0, node, caps, has_pins };
        home.launch(lab, args);
        home
    }

    fn launch(&mut self, lab: &Lab, args: &[&str]) {
        let mut spanwired = self.command(lab, args);
        self.node.adopt(&mut spanwired);
        self.daemon = self.node.pid();
        let start = Instant::now();
        let runs = |show: &Value| show["dataplane"]["pid"] == self.daemon && show["dataplane"]["running"] == true;
        while self.spanctl(&["stats"]).status.code() != Some(0) || !runs(&self.json(&["show"])) {
            assert!(start.elapsed() < PATIENCE, "the dataplane does not tell of itself");
            std::thread::sleep(NAP);
        }
    }

    fn command(&self, lab: &Lab, args: &[&str]) -> Command {
        let caps = format!("-all,+{}", self.caps.join(",+"));
        let mut setpriv = lab.dut().command("setpriv");
        setpriv.args(["--inh-caps", &caps, "--ambient-caps", &caps, "--bounding-set", &caps]);
        as_user(&mut setpriv, self.node.dir.path(), "spanwired").args(args);
        setpriv.envs(self.has_pins.then(|| ("SPANWIRE_PINS", self.node.pins.path())));
        setpriv
    }

    /// Publishes a wire whose frames from port A are mirrored, which must come into use.
    fn mirror(&self) {
        let file = self.node.file(&document(&[(A, MON, 1)]));
        self.json(&["import", file.to_str().unwrap()]);
        self.wait_for_ports(&[A, B, MON]);
    }

    fn wait_for_ports(&self, ports: &[u32]) {
        let start = Instant::now();
        let is_active = |show: &Value, port: u32| {
            let all = show["ports"].as_array().unwrap();
            all.iter().any(|p| p["ifindex"] == port && p["state"] == "active")
        };
        while ports.iter().any(|&port| !is_active(&self.json(&["show"]), port)) {
            assert!(start.elapsed() < PATIENCE, "{:#}", self.json(&["show"]));
            std::thread::sleep(NAP);
        }
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
    let home = Home::start(&lab, &[]);
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
    home.wait_for_ports(&[A, B, MON]);
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

/// What crosses goes on without root too, and the next run says what became of clones meanwhile.
#[test]
fn what_became_of_clones_meanwhile_is_told() {
    const FRAMES: u32 = 300;
    for path in ["tc", "xdp"] {
        let lab = kernel_lab(LabSpec::default());
        let mut home = Home::start(&lab, &["--path", path]);
        home.mirror();
        home.node.kill();
        let spec = ExchangeSpec { monitor: None, ..ExchangeSpec::new(&lab, 64, FRAMES) };
        let report = run(&lab, &spec, |_| ()).unwrap();
        assert!(report.holds, "{path}: {report}");
        home.launch(&lab, &["--path", path]);
        home.wait_for_ports(&[A, B, MON]);
        let log = home.node.stop();
        let told = format!("{FRAMES} clone(s) were not taken from the rings, and 0 found them full");
        assert!(log.contains(&told) && log.contains(&format!("{FRAMES} frames have crossed unseen")), "{path}: {log}");
    }
}

/// Who may not change back what was changed on the ports takes nothing off them.
#[test]
fn what_was_left_is_taken_off_with_the_right_to_change_devices() {
    let lab = kernel_lab(LabSpec::default());
    let mut home = Home::start(&lab, &[]);
    home.mirror();
    home.node.stop();
    let detach = |caps: &str| {
        let mut setpriv = lab.dut().command("setpriv");
        setpriv.args(["--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps]);
        as_user(&mut setpriv, home.node.dir.path(), "spanctl").args(["--json", "detach"]);
        let output = setpriv.env("SPANWIRE_PINS", home.node.pins.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = detach("-all");
    assert!(code == Some(1) && said.contains("needs CAP_NET_ADMIN"), "{code:?}: {said}");
    assert!(crosses(&lab));
    assert_eq!(flags(&lab), [true; 2]);
    let (code, said) = detach("-all,+net_admin");
    let done: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{code:?}, {error}: {said}"));
    assert_eq!((code, &done["selectors"], &done["left"]), (Some(0), &2.into(), &serde_json::json!([])), "{said}");
    assert!(!crosses(&lab));
    assert_eq!(flags(&lab), [false; 2]);
}

/// Whether frames cross.
fn crosses(lab: &Lab) -> bool {
    let idle = Duration::from_millis(300);
    run(lab, &ExchangeSpec { idle, monitor: None, ..ExchangeSpec::new(lab, 65, 100) }, |_| ()).unwrap().holds
}

/// Nothing else is lost by it, and who wants no other path than one that there is not is told why.
#[test]
fn without_the_rights_for_the_kernel_path_frames_cross_through_shards_with_a_warning() {
    let lab = lab(LabSpec::default());
    let mut home = Home::with(&lab, &CAPS[..4], true, &[]);
    home.mirror();
    exchange(&lab, 1, 300, Some(1), None);
    let log = home.node.stop();
    let told = log.lines().find(|line| line.contains("frames cross through shards: "));
    assert!(told.is_some_and(|line| line.contains("WARN") && line.contains("CAP_PERFMON")), "{log}");
    assert!(!crosses(&lab), "they stop with it");
    for path in ["tc", "xdp"] {
        let refused = home.command(&lab, &["--path", path]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("--path {path}: ")) && said.contains("CAP_PERFMON"), "{said}");
    }
}

/// The kernel carries them, for as long as the process runs.
#[test]
fn without_a_place_for_pins_wires_end_with_the_process_and_a_warning_says_so() {
    let lab = lab(LabSpec::default());
    let mut home = Home::with(&lab, &CAPS, false, &[]);
    home.mirror();
    exchange(&lab, 1, 300, Some(1), None);
    let log = home.node.stop();
    let told = log.lines().find(|line| line.contains("wires will not outlive this process: "));
    assert!(told.is_some_and(|line| line.contains("WARN") && line.contains("no bpffs")), "{log}");
    assert!(log.contains("frames cross by tc"), "{log}");
    assert!(!crosses(&lab));
}
