//! What a dataplane says, and what is said without one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shm_layout::record::{CAP_LINK_LOSS, CAP_MIRROR, CAP_PLACES};
use spanwire::control::model::KNOWN_VERSION;

use crate::support::{Fake, Place, SNAPSHOT, Way, answering, command, has_keys, publisher};

/// The keys of a dataplane.
pub const DATAPLANE: [&str; 12] = [
    "running",
    "fresh",
    "pid",
    "release",
    "started_at",
    "table_generation",
    "adopted_generation",
    "can_mirror",
    "frame_size",
    "mirror_frames",
    "rejects",
    "last_reject",
];

/// The same in `show`.
#[track_caller]
fn has_dataplane(shown: &Value) {
    has_keys(&shown["dataplane"], &[&DATAPLANE[..], &["mirror_frames_needed"]].concat(), &[]);
}

/// The number of a process that has ended.
fn dead() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn states(shown: &Value) -> Vec<(&str, &str)> {
    let mirrors = shown["mirrors"].as_array().unwrap();
    mirrors.iter().map(|m| (m["state"].as_str().unwrap(), m["reason"].as_str().unwrap())).collect()
}

#[test]
fn show_without_a_dataplane() {
    let place = Place::new().with_snapshot();
    let shown = place.run(&["show", "--json"]).code(0).json();
    let top = [
        "generation",
        "source_generation",
        "instance_id",
        "role",
        "armed",
        "mirrors",
        "wires",
        "ports",
        "diagnostics",
        "shards",
        "features",
        "dataplane",
    ];
    has_keys(&shown, &top, &[]);
    has_dataplane(&shown);
    assert_eq!(
        (&shown["dataplane"]["running"], &shown["dataplane"]["pid"], &shown["dataplane"]["release"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert_eq!((&shown["generation"], &shown["source_generation"]), (&json!(1), &json!(42)));
    assert_eq!(shown["role"], "active");
    let id = shown["instance_id"].as_str().unwrap();
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let resolved = ["ingress_port", "vlan_id", "untagged", "output_port"];
    let entry = ["ingress_ifindex", "output_ifindex", "rate", "state", "reason"];
    has_keys(&shown["mirrors"][0], &[&entry[..], &resolved].concat(), &[]);
    let wire = json!({"name": "w1", "a_ifindex": 11, "b_ifindex": 12, "link_loss_forwarding": false,
                      "taken_down_ifindex": null, "path": null, "path_reason": "", "loss": null, "loss_unknown": ""});
    assert_eq!(shown["wires"], json!([wire]));
    assert_eq!([&shown["ports"], &shown["shards"], &shown["features"]], [&json!([]); 3]);
    assert_eq!(states(&shown), [("unknown", "no dataplane is running"), ("inactive", "ingress on no wire")]);
    let text = place.run(&["show"]).code(0).stdout;
    for want in ["generation 1", "11 ge-0/0/0", "1 in 100", "every frame", "dataplane: not running", "w1"] {
        assert!(text.contains(want), "{want}: {text}");
    }
}

/// A native VLAN, and a VLAN unit as an output.
const UNITS: &str = r#"{"version":39,
    "interfaces":[{"name":"ge-0/0/0","ifindex":11,"native_vlan_id":10},
        {"name":"ge-0/0/0.10","ifindex":1073741825,"parent_ifindex":11,"vlan_id":10},
        {"name":"ge-0/0/0.20","ifindex":1073741826,"parent_ifindex":11,"vlan_id":20},
        {"name":"mon.7","ifindex":1073741827,"parent_ifindex":22,"vlan_id":7}],
    "mirror_configs":[{"ingress_ifindex":1073741825,"output_ifindex":1073741827,"rate":1},
        {"ingress_ifindex":1073741826,"output_ifindex":22,"rate":1}],
    "wires":[{"name":"w1","a_ifindex":11,"b_ifindex":12}]}"#;

#[test]
fn show_tells_what_vlan_units_come_to() {
    let place = Place::new();
    place.feed(UNITS.as_bytes(), &["import", "-"]).code(0);
    let shown = place.run(&["show", "--json"]).code(0).json();
    let told =
        |i: usize| ["ingress_port", "vlan_id", "untagged", "output_port"].map(|key| shown["mirrors"][i][key].clone());
    assert_eq!(told(0), [json!(11), json!(10), json!(true), json!(22)]);
    assert_eq!(told(1), [json!(11), json!(20), json!(false), json!(22)]);
    let text = place.run(&["show"]).code(0).stdout;
    for want in [
        "1073741825 ge-0/0/0.10: VLAN 10 and untagged on 11 ge-0/0/0 ",
        "1073741827 mon.7: by 22 ",
        "1073741826 ge-0/0/0.20: VLAN 20 on 11 ge-0/0/0 ",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
}

#[test]
fn show_with_a_dataplane() {
    let place = Place::new().with_snapshot();
    let fake = Fake::of(&place);
    fake.answering(&place, || {
        let ran = place.run(&["show", "--json"]).code(0);
        assert_eq!(ran.stderr, "");
        let shown = ran.json();
        assert_eq!(states(&shown), [("active", ""), ("inactive", "port missing")]);
        assert_eq!(
            shown["shards"],
            json!([{"id": 0, "cpu": 4, "adopted_generation": 1}, {"id": 1, "cpu": 5, "adopted_generation": 1}])
        );
        let port = [
            "ifindex",
            "device_ifindex",
            "name",
            "role",
            "state",
            "reason",
            "mtu",
            "queues",
            "xdp_mode",
            "zero_copy",
            "driver",
        ];
        has_keys(&shown["ports"][1], &port, &[]);
        assert_eq!(shown["ports"][1]["device_ifindex"], json!(null), "it does not say");
        assert_eq!(
            (&shown["ports"][1]["role"], &shown["ports"][1]["reason"], &shown["ports"][1]["zero_copy"]),
            (&json!("monitor"), &json!("no link"), &json!(false))
        );
        let dataplane = &shown["dataplane"];
        has_dataplane(&shown);
        assert_eq!((&dataplane["running"], &dataplane["fresh"]), (&json!(true), &json!(true)));
        assert_eq!((&dataplane["pid"], &dataplane["release"]), (&json!(fake.pid), &json!("9.9.9")));
        assert_eq!(dataplane["started_at"], "2023-11-14T22:13:20Z");
        let text = place.run(&["show"]).code(0).stdout;
        assert!(text.contains("running, process") && text.contains("veth22"), "{text}");
    });
    // It still uses an older snapshot, or that of another region.
    let place = place.with_snapshot();
    Fake { last_reject: "no room", ..fake.clone() }.answering(&place, || {
        let shown = place.run(&["show", "--json"]).code(0).json();
        let want = ("unknown", "the dataplane still uses generation 1: no room");
        assert_eq!(states(&shown), [want, ("inactive", "ingress on no wire")]);
        assert_eq!(
            (&shown["dataplane"]["rejects"], &shown["dataplane"]["last_reject"]),
            (&json!(1), &json!("no room"))
        );
    });
    Fake { instance: fake.instance ^ 1, generation: 2, ..fake }.answering(&place, || {
        assert_eq!(states(&place.run(&["show", "--json"]).code(0).json())[0].0, "unknown");
    });
}

#[test]
fn show_tells_how_a_wire_crosses_and_what_it_loses() {
    let place = Place::new().with_snapshot();
    let wire = |paths: &[Way]| {
        let fake = Fake { paths: paths.to_vec(), ..Fake::of(&place) };
        let (shown, text) = fake
            .answering(&place, || (place.run(&["show", "--json"]).code(0).json(), place.run(&["show"]).code(0).stdout));
        (["path", "path_reason", "loss", "loss_unknown"].map(|key| shown["wires"][0][key].clone()), text)
    };
    // What the sockets of port 11 lost, by the counts of a fake one, and what both ports had no peer for.
    let sockets = 6 * 300 + 2 * (4 + 5 + 6 + 7 + 3);
    let (told, text) = wire(&[(11, 12, "xdp", 500, Some(20)), (12, 11, "xdp", 300, Some(1))]);
    assert_eq!(told, [json!("xdp"), json!("both can"), json!(sockets + 2 * 3 + 20 + 1), json!("")]);
    assert!(text.contains("both can"), "{text}");
    let (told, text) = wire(&[(11, 12, "xdp", 500, None), (12, 11, "xdp", 300, Some(1))]);
    assert_eq!(told, [json!("xdp"), json!("both can"), Value::Null, json!("needs CAP_PERFMON")]);
    assert!(
        text.contains("unknown") && text.contains("both can; what is lost is not known: needs CAP_PERFMON"),
        "{text}"
    );
    // One port is not ready, or on another way still.
    let (told, _) = wire(&[(11, 12, "tc", 500, Some(0)), (12, 11, "", 0, Some(0))]);
    assert_eq!(told[..2], [Value::Null, json!("no link")]);
    let (told, _) = wire(&[(11, 12, "tc", 500, Some(0)), (12, 11, "shard", 0, Some(0))]);
    assert_eq!(told[..2], [Value::Null, json!("both can")]);
}

#[test]
fn a_dataplane_without_a_snapshot() {
    let place = Place::new();
    Fake::of(&place).answering(&place, || {
        let shown = place.run(&["show", "--json"]).code(0).json();
        assert_eq!((&shown["generation"], &shown["instance_id"]), (&json!(0), &json!("0000000000000000")));
        assert_eq!(shown["shards"].as_array().unwrap().len(), 2);
        assert!(place.run(&["show"]).code(0).stdout.contains("published: nothing yet"));
    });
}

#[test]
fn an_answer_is_not_older_than_the_question() {
    let place = Place::new().with_snapshot();
    let old = Fake { gathered_at: Some(1), ..Fake::of(&place) };
    let mut running = old.publish(&place);
    let start = Instant::now();
    let ran = place.run(&["stats", "--json"]).code(0);
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(ran.stderr.contains("does not answer"), "{ran:?}");
    let dataplane = &ran.json()["dataplane"];
    assert_eq!((&dataplane["running"], &dataplane["fresh"]), (&json!(true), &json!(false)));

    // One that answers late, but in time, is waited for.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            running.publish(&mut Fake::of(&place).image()).unwrap();
        });
        let ran = place.run(&["stats", "--json"]).code(0);
        assert_eq!((ran.stderr.as_str(), &ran.json()["dataplane"]["fresh"]), ("", &json!(true)));
    });
}

#[test]
fn a_dead_dataplane_leaves_its_last_values() {
    let place = Place::new().with_snapshot();
    // Somebody else may have its number by now.
    for pid in [dead(), std::process::id(), 1] {
        Fake { pid, gathered_at: Some(1), ..Fake::of(&place) }.leave(&place);
        // There is nobody to wait for. A slow machine may take as long as a wait now and then, but not every time.
        let began = Instant::now();
        let ran = loop {
            let start = Instant::now();
            let ran = place.run(&["stats", "--json"]).code(0);
            if start.elapsed() < Duration::from_millis(900) {
                break ran;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "it waits for nobody");
        };
        assert!(ran.stderr.contains("is not running; these are its last values"), "{ran:?}");
        let report = ran.json();
        assert_eq!((&report["dataplane"]["running"], &report["dataplane"]["fresh"]), (&json!(false), &json!(false)));
        assert_eq!(report["mirrors"][0]["observed"], 60);
        let shown = place.run(&["show", "--json"]).code(0).json();
        assert_eq!(states(&shown)[0], ("unknown", "no dataplane is running"));
        assert_eq!((&shown["shards"], &shown["dataplane"]["pid"]), (&json!([]), &json!(pid)));
    }
}

/// In a PID namespace of its own it has a number that is nobody's here, or somebody else's.
#[test]
fn a_dataplane_lives_while_it_holds_its_lock_whatever_its_number() {
    let place = Place::new().with_snapshot();
    for pid in [1, dead(), u32::MAX] {
        Fake { pid, ..Fake::of(&place) }.answering(&place, || {
            let dataplane = place.run(&["show", "--json"]).code(0).json()["dataplane"].clone();
            assert_eq!((&dataplane["running"], &dataplane["fresh"]), (&json!(true), &json!(true)), "{pid}");
        });
    }
    // Without the lock file, what was published a moment ago counts.
    let _running = Fake::of(&place).publish(&place);
    fs::remove_file(place.dir().join("stats.shm.lock")).unwrap();
    assert_eq!(place.run(&["show", "--json"]).code(0).json()["dataplane"]["running"], true);
}

#[test]
fn a_snapshot_the_dataplane_cannot_carry_is_refused() {
    let place = Place::new().with_snapshot();
    let fake = Fake { capabilities: 0, ..Fake::of(&place) };
    let running = fake.publish(&place);
    let before = place.published();
    let ran = place.feed(SNAPSHOT.as_bytes(), &["import", "-", "--json"]).code(1);
    assert!(ran.stderr.contains("restart spanwired with --mirror-frames above 0"), "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["accepted"], &report["generation"]), (&json!(false), &Value::Null));
    assert_eq!(report["reasons"].as_array().unwrap().len(), 1);
    assert_eq!(place.published(), before);
    // `check` says the same as long as it runs, and without mirror entries there is nothing to refuse.
    place.feed(SNAPSHOT.as_bytes(), &["check", "-"]).code(1);
    place.feed(br#"{"mirror_configs":[]}"#, &["import", "-"]).code(0);
    // One that has died refuses nothing.
    drop(running);
    place.with_snapshot();
}

#[test]
fn a_snapshot_that_an_older_dataplane_would_mirror_otherwise_is_refused() {
    let place = Place::new().with_snapshot();
    let older = Fake { capabilities: CAP_MIRROR, ..Fake::of(&place) };
    let running = older.publish(&place);
    let before = place.published();
    let ran = place.feed(UNITS.as_bytes(), &["import", "-"]).code(1);
    assert!(ran.stderr.contains("is of an older release") && ran.stderr.contains("restart spanwired"), "{ran:?}");
    assert_eq!(place.published(), before);
    // What it knows itself it takes.
    let known = UNITS
        .replace(r#","native_vlan_id":10"#, "")
        .replace(r#""output_ifindex":1073741827"#, r#""output_ifindex":22"#);
    place.feed(known.as_bytes(), &["import", "-"]).code(0);
    drop(running);
    let _running = Fake { capabilities: CAP_MIRROR | CAP_PLACES, ..older }.publish(&place);
    place.feed(UNITS.as_bytes(), &["import", "-"]).code(0);
}

/// A wire that forwards the loss of a link, and one that does not.
#[test]
fn frames_that_no_mirror_frame_holds_are_warned_of() {
    let place = Place::new().with_snapshot();
    for (mtu, multi_buffer, is_warned) in
        [(1500, false, false), (2034, false, false), (2035, false, true), (9000, true, false), (32_755, true, true)]
    {
        let longest = if multi_buffer { 16 * 2048 } else { 2048 };
        let fake = Fake { mtu, multi_buffer, ..Fake::of(&place) };
        let shown = fake.answering(&place, || place.run(&["show", "--json"]).code(0).json());
        let text = shown["diagnostics"].to_string();
        assert_eq!(text.contains("mirror_drops_oversize"), is_warned, "MTU {mtu}, {longest}: {text}");
        if is_warned {
            for want in [format!("frames above {longest} bytes"), format!("ifindex 11 with its MTU of {mtu}")] {
                assert!(text.contains(&want), "{want}: {text}");
            }
            assert!(text.contains("--frame-size 4096 holds more"), "{text}");
        }
    }
}

const LINK_LOSS: &str = r#"{"version":3,"interfaces":[{"name":"ge-0/0/1","ifindex":12}],"mirror_configs":[],
    "wires":[{"name":"w1","a_ifindex":11,"b_ifindex":12,"link_loss_forwarding":true},
        {"name":"w2","a_ifindex":13,"b_ifindex":14,"link_loss_forwarding":false}]}"#;

#[test]
fn show_tells_which_port_is_taken_down_for_the_link_of_the_other() {
    let place = Place::new();
    place.feed(LINK_LOSS.as_bytes(), &["import", "-"]).code(0);
    let exported = place.run(&["export"]).code(0).json();
    let wires = json!([{"name": "w1", "a_ifindex": 11, "b_ifindex": 12, "link_loss_forwarding": true},
                       {"name": "w2", "a_ifindex": 13, "b_ifindex": 14}]);
    assert_eq!(exported["wires"], wires);
    let fake = Fake { capabilities: CAP_MIRROR | CAP_LINK_LOSS, ..Fake::of(&place) };
    // The last is of a wire that there is no more.
    for (taken_down, w1, text) in [
        (vec![], Value::Null, "12 ge-0/0/1  forwarded  "),
        (vec![(12, 11)], json!(12), "forwarded: 12 ge-0/0/1 is taken down"),
        (vec![(11, 12)], json!(11), "forwarded: 11 is taken down"),
        (vec![(12, 13)], Value::Null, "12 ge-0/0/1  forwarded  "),
    ] {
        Fake { taken_down: taken_down.clone(), ..fake.clone() }.answering(&place, || {
            let shown = place.run(&["show", "--json"]).code(0).json();
            let told =
                |i: usize| ["link_loss_forwarding", "taken_down_ifindex"].map(|key| shown["wires"][i][key].clone());
            assert_eq!((told(0), told(1)), ([json!(true), w1], [json!(false), Value::Null]), "{taken_down:?}");
            assert_eq!(shown["diagnostics"], json!([]));
            let shown = place.run(&["show"]).code(0).stdout;
            assert!(shown.contains(text), "{text}: {shown}");
        });
    }
}

#[test]
fn a_dataplane_that_forwards_no_loss_of_a_link_is_warned_of() {
    let place = Place::new();
    let older = Fake { capabilities: CAP_MIRROR | CAP_PLACES, ..Fake::of(&place) };
    let warned = older.answering(&place, || {
        let report = place.feed(LINK_LOSS.as_bytes(), &["import", "-", "--json"]).code(0).json();
        let shown = place.run(&["show", "--json"]).code(0).json();
        assert_eq!(shown["diagnostics"].as_array().unwrap().last(), report["diagnostics"].as_array().unwrap().last());
        report["diagnostics"].to_string()
    });
    assert!(
        warned.contains("link_loss_forwarding of 1 of them has no effect") && warned.contains("restart"),
        "{warned}"
    );
}

/// The fake's port 11 has two queues, of which one is shard 0's for sure; of the other ports nothing is known: four sockets
/// at least.
#[test]
fn wires_there_is_no_room_for_are_refused_with_the_figure_that_would_do() {
    let document = br#"{"mirror_configs":[],"wires":[{"name":"w1","a_ifindex":11,"b_ifindex":12},
                        {"name":"w2","a_ifindex":13,"b_ifindex":14}]}"#;
    let place = Place::new();
    let fake = Fake::of(&place);
    let check = |room, code| {
        let _running = Fake { room, ..fake.clone() }.publish(&place);
        place.feed(document, &["check", "-"]).code(code).stderr
    };
    check([0, 4], 0);
    check([128, 1024], 0);
    let said = check([127, 1024], 1);
    assert!(said.contains("4 sockets of shard 0") && said.contains("--frames 128 or more"), "{said}");
    assert!(
        said.contains("3 of their ports are not served yet") && said.contains("more where they have more"),
        "{said}"
    );
    let said = check([0, 3], 1);
    assert!(said.contains("4 sockets of shard 0") && said.contains("--cpus"), "{said}");
}

/// Frames go on crossing: only what such a dataplane cannot do is left out, with the reason.
#[test]
fn a_snapshot_is_carried_past_what_only_its_mirrors_fail() {
    let bad_wire = SNAPSHOT.replace("\"b_ifindex\":12", "\"b_ifindex\":11");
    for policy in ["omit", "skip"] {
        for command in ["import", "commit"] {
            let place = Place::new();
            let running = Fake { capabilities: 0, ..Fake::of(&place) }.publish(&place);
            place.feed(SNAPSHOT.as_bytes(), &[command, "-"]).code(1);
            place.feed(bad_wire.as_bytes(), &[command, "-", "--on-ambiguous", policy]).code(1);
            assert_eq!(place.published().0, 0);
            let report =
                place.feed(SNAPSHOT.as_bytes(), &[command, "-", "--on-ambiguous", policy, "--json"]).code(0).json();
            assert_eq!((&report["accepted"], &report["generation"]), (&json!(true), &json!(1)));
            assert_eq!((&report["mirrors"], report["wires"].as_array().unwrap().len()), (&json!([]), 1));
            let shown = place.run(&["show", "--json"]).code(0).json();
            assert_eq!((&shown["mirrors"], shown["wires"].as_array().unwrap().len()), (&json!([]), 1));
            for document in [&report, &shown] {
                let told = document["diagnostics"].as_array().unwrap().iter().map(|d| d["message"].as_str().unwrap());
                let told: Vec<_> =
                    told.filter(|message| message.starts_with("the mirror table is left out: ")).collect();
                assert_eq!(told.len(), 1, "{document:#}");
                assert!(
                    told[0].contains("2 entries, but the running dataplane")
                        && told[0].contains("has no mirror frames")
                );
            }
            // An earlier snapshot is published as it is, or not at all; the role changes under any dataplane.
            drop(running);
            place.feed(SNAPSHOT.as_bytes(), &[command, "-"]).code(0);
            let _running = Fake { capabilities: 0, ..Fake::of(&place) }.publish(&place);
            let refused = place.run(&["rollback", "0"]).code(1);
            assert!(refused.stderr.contains("has no mirror frames"), "{refused:?}");
            place.run(&["role", "standby", "--timeout", "0"]);
            assert_eq!(place.run(&["show", "--json"]).json()["role"], "standby");
            place.run(&["rollback", "1"]).code(0);
        }
    }
}

/// The warnings of a document about mirror frames.
fn shortages(document: &Value) -> Vec<&str> {
    let all = document["diagnostics"].as_array().unwrap();
    let messages = all.iter().map(|d| d["message"].as_str().unwrap());
    messages.filter(|message| message.contains("mirror frames")).collect()
}

/// What `serve` with these options says of a producer's requests; a ping is one at the second socket.
fn served(place: &Place, options: &[&str], requests: &[Value]) -> String {
    let socket = place.file("control.sock", b"");
    fs::remove_file(&socket).unwrap();
    let server = command()
        .arg("--dir")
        .arg(place.dir())
        .args(["serve", "--socket", &socket])
        .args(options)
        .env_remove("SPANWIRE_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Ended by the shutdown, or with the test.
    let server = Killed(server);
    let start = Instant::now();
    let connect = |socket: &Path| loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let ask = |request: &Value| {
        let (control, sessions) = (Path::new(&socket), place.dir().with_file_name("userspace-dp-sessions.sock"));
        let mut stream = connect(if request["type"] == "ping" { &sessions } else { control });
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    };
    requests.iter().for_each(ask);
    ask(&json!({"type": "shutdown"}));
    server.stderr()
}

/// A process, killed when dropped.
struct Killed(Child);

impl Killed {
    /// Waits for its end, and gives what it wrote.
    fn stderr(mut self) -> String {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn too_few_mirror_frames_are_told() {
    let place = Place::new();
    let small = Fake { mirror_frames: 127, ..Fake::of(&place) };
    let running = small.publish(&place);
    let want = "can need 128 mirror frames on each shard (2 batches of 64 a port; ports with entries: 1), but the \
                running dataplane (process";
    // It is published all the same.
    for args in [&["check", "-"][..], &["import", "-"]] {
        let ran = place.feed(SNAPSHOT.as_bytes(), args).code(0);
        assert!(
            ran.stderr.contains(want) && ran.stderr.contains("restart spanwired with --mirror-frames 128"),
            "{ran:?}"
        );
        let report = place.feed(SNAPSHOT.as_bytes(), &[args, &["--json"]].concat()).code(0).json();
        assert_eq!(shortages(&report).len(), 1, "{report}");
        assert_eq!(report["diagnostics"].as_array().unwrap().last().unwrap()["severity"], "warning");
    }
    let report = place.run(&["rollback", "--json"]).code(0).json();
    assert_eq!(shortages(&report).len(), 1, "{report}");
    let ran = place.run(&["rollback"]).code(0);
    assert!(ran.stderr.contains(want), "{ran:?}");
    let snapshot: Value = serde_json::from_str(SNAPSHOT).unwrap();
    let log = served(&place, &[], &[json!({"type": "apply_snapshot", "snapshot": snapshot})]);
    assert_eq!(log.matches(want).count(), 1, "{log}");
    drop(running);
    let show = |fake: &Fake| fake.answering(&place, || place.run(&["show", "--json"]).code(0).json());
    let shown = show(&small);
    assert_eq!(shortages(&shown).len(), 1, "{shown}");
    let frames = |shown: &Value| {
        let of = |name: &str| shown["dataplane"][name].as_u64();
        (of("mirror_frames"), of("mirror_frames_needed"))
    };
    assert_eq!(frames(&shown), (Some(127), Some(128)));
    let text = small.answering(&place, || place.run(&["show"]).code(0).stdout);
    assert!(text.contains("127 on each shard; the snapshot can need 128") && text.contains(want), "{text}");

    // It is held against the dataplane there is: no trace of it with enough, or where none runs.
    let enough = Fake { mirror_frames: 128, ..small.clone() };
    let shown = show(&enough);
    assert_eq!((shortages(&shown).len(), frames(&shown)), (0, (Some(128), Some(128))));
    let running = enough.publish(&place);
    for args in [["check", "-", "--json"], ["import", "-", "--json"]] {
        assert_eq!(shortages(&place.feed(SNAPSHOT.as_bytes(), &args).code(0).json()).len(), 0);
    }
    drop(running);
    small.leave(&place);
    assert_eq!(shortages(&place.run(&["show", "--json"]).code(0).json()).len(), 0);
}

/// A clone that is longer than a mirror frame takes several.
#[test]
fn long_clones_need_more_mirror_frames() {
    let place = Place::new().with_snapshot();
    let large = Fake { mirror_frames: 639, mtu: 9000, multi_buffer: true, ..Fake::of(&place) };
    for (fake, needed, is_short) in [
        (large.clone(), 640, true),
        (Fake { mirror_frames: 640, ..large.clone() }, 640, false),
        (Fake { mtu: 2030, ..large.clone() }, 128, false),
        (Fake { mtu: 2031, ..large.clone() }, 256, false),
        (Fake { mtu: 65_000, ..large.clone() }, 16 * 128, true),
        (Fake { multi_buffer: false, ..large.clone() }, 128, false),
    ] {
        let shown = fake.answering(&place, || place.run(&["show", "--json"]).code(0).json());
        assert_eq!(shown["dataplane"]["mirror_frames_needed"], needed, "MTU {}", fake.mtu);
        let short: Vec<_> = shortages(&shown).into_iter().filter(|told| told.contains("can need")).collect();
        assert_eq!(short.len(), usize::from(is_short), "MTU {}: {short:?}", fake.mtu);
    }
    let shown = large.answering(&place, || place.run(&["show"]).code(0).stdout);
    let want =
        "(2 batches of 64 a port, clones of up to 5 frames: ifindex 11 with its MTU of 9000; ports with entries: 1)";
    assert!(shown.contains(want), "{shown}");
}

#[test]
fn waiting() {
    let place = Place::new().with_snapshot();
    let none = place.run(&["wait", "--generation", "1", "--timeout", "0.2"]).code(2);
    assert!(none.stderr.contains("no dataplane is running"), "{none:?}");
    Fake::of(&place).leave(&place);
    place.run(&["wait", "--generation", "1", "--timeout", "0"]).code(2);

    let fake = Fake { adopted: vec![5, 4], last_reject: "bad", ..Fake::of(&place) };
    let start = Instant::now();
    let late = fake.answering(&place, || {
        place.run(&["wait", "--generation", "4", "--timeout", "60"]).code(0);
        place.run(&["wait", "--generation", "5", "--timeout", "0.4", "--json"]).code(1)
    });
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert!(late.stderr.contains("shard 1 at 4; the dataplane refused a snapshot: bad"), "{late:?}");
    assert!(!late.stderr.contains("shard 0"), "{late:?}");
    let found = late.json();
    has_keys(&found, &["generation", "adopted", "shards", "dataplane"], &[]);
    assert_eq!((&found["generation"], &found["adopted"]), (&json!(5), &json!(false)));
    has_keys(&found["shards"][0], &["id", "cpu", "adopted_generation"], &[]);

    let started = Fake { adopted: Vec::new(), ..fake.clone() };
    let late = started.answering(&place, || place.run(&["wait", "--generation", "0", "--timeout", "0"]).code(1));
    assert!(late.stderr.contains("no shard has started"), "{late:?}");

    // The last shard follows, and the wait ends with it.
    let start = Instant::now();
    let last = || if start.elapsed() < Duration::from_millis(200) { 4 } else { 5 };
    let image = || Fake { adopted: vec![5, last()], ..fake.clone() }.image();
    answering(&place, image, || place.run(&["wait", "--generation", "5", "--timeout", "120"]).code(0));
}

#[test]
fn waiting_for_a_dataplane_to_appear() {
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            Fake { adopted: vec![1], ..Fake::of(&place) }.answering(&place, || {
                while !done.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        let ran = place.run(&["wait", "--generation", "1"]);
        done.store(true, Relaxed);
        ran.code(0);
    });
}

#[test]
fn a_stats_region_not_to_be_trusted() {
    let place = Place::new().with_snapshot();
    Fake::of(&place).leave(&place);
    std::fs::write(place.dir().join("stats.shm"), b"scribble").unwrap();
    assert!(place.run(&["stats"]).code(2).stderr.contains("stats.shm"));
    // It must not stop the configuration.
    let place = place.with_snapshot();
    drop(publisher(&place));
}

#[test]
fn the_version_that_producers_are_told_is_in_the_log() {
    let place = Place::new();
    let apply = |version: u32, generation: u32| json!({"type": "apply_snapshot", "snapshot": {"version": version, "generation": generation}});
    let told = |options: &[&str], requests: &[Value]| -> Vec<String> {
        let log = served(&place, options, requests);
        let lines = log.lines().filter_map(|line| line.split_once("telling producers version "));
        lines.map(|(_, told)| told.to_owned()).collect()
    };
    let newest = format!("{KNOWN_VERSION}, the newest known here; --protocol N says another");
    let last = |version: u32| format!("{version}, that of the last snapshot accepted; --protocol N says another");
    assert_eq!(told(&[], &[apply(KNOWN_VERSION, 1), apply(12, 2), apply(12, 3)]), [newest.clone(), last(12)]);
    let ping = json!({"type": "ping"});
    assert_eq!(told(&[], &[ping.clone(), apply(3, 4), ping]), [last(12), last(3), newest]);
    assert_eq!(told(&["--protocol", "7"], &[apply(12, 5)]), ["7, which --protocol says"]);
    assert_eq!(told(&[], &[]), [last(12)]);
}
