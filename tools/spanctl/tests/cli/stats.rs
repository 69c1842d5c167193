//! The counters, as documents and as tables, once and again and again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use shm_layout::counters::{Binding, Crossed, Description, Entry, Kernel, Lost, Partition, Shard, Sight};
use spanwire::clock::monotonic_ns;

use crate::live::DATAPLANE;
use crate::support::{Fake, Place, answering, command, has_keys, keys};

/// What is counted of a socket.
const COUNTED: [&[Description]; 3] = [Binding::DESCRIPTIONS, Kernel::DESCRIPTIONS, Sight::DESCRIPTIONS];

#[test]
fn stats_documents() {
    let place = Place::new().with_snapshot();
    let report = Fake::of(&place).answering(&place, || {
        let ran = place.run(&["stats", "--json"]).code(0);
        assert_eq!(ran.stderr, "");
        ran.json()
    });
    has_keys(&report, &["dataplane", "shards", "ports", "bindings", "paths", "mirrors", "umem"], &[]);
    has_keys(&report["dataplane"], &DATAPLANE, &[]);
    has_keys(&report["shards"][0], &["id", "cpu", "adopted_generation", "swap_latency"], &[Shard::DESCRIPTIONS]);
    has_keys(&report["shards"][0]["swap_latency"], &["count", "p50_ns", "p99_ns", "p999_ns", "max_ns"], &[]);
    has_keys(&report["ports"][0], &["ifindex", "device_ifindex", "name", "loss"], &COUNTED);
    let binding = ["ifindex", "queue", "shard"];
    has_keys(&report["bindings"][0], &binding, &COUNTED);
    let mirror = ["ingress_ifindex", "output_ifindex", "rate", "attained_rate", "shards"];
    has_keys(&report["mirrors"][0], &mirror, &[Entry::DESCRIPTIONS]);
    has_keys(&report["mirrors"][0]["shards"][1], &["shard"], &[Entry::DESCRIPTIONS]);
    has_keys(&report["umem"][0], &["shard", "partition"], &[Partition::DESCRIPTIONS]);
    assert!(keys(&report["umem"][0]).is_superset(&["size", "free", "in_flight", "fill_rx"].into()));

    // Ports are the sums of their bindings: 100 + 200, each one up from the value before.
    let ports = report["ports"].as_array().unwrap();
    let seen: Vec<_> = ports.iter().map(|p| (p["ifindex"].as_u64().unwrap(), p["name"].as_str().unwrap())).collect();
    assert_eq!(seen, [(11, "veth11"), (22, "veth22"), (33, "")], "one that has left comes last");
    for (i, d) in Binding::DESCRIPTIONS.iter().enumerate() {
        let i = i as u64;
        assert_eq!(
            (&ports[0][d.name], &ports[1][d.name], &ports[2][d.name]),
            (&json!(300 + 2 * i), &json!(0), &json!(7 + i))
        );
    }
    assert_eq!(ports[0]["kernel_rx_dropped"], 300);
    let sights = |list: &str| report[list].as_array().unwrap().iter().map(|row| &row["rx_unfinished_checksums"]);
    assert_eq!(sights("bindings").collect::<Vec<_>>(), [3, 4, 0], "none of a dataplane that does not tell");
    assert_eq!(sights("ports").collect::<Vec<_>>(), [7, 0, 0]);

    // Entries are the sums of their shards, in the order of the table.
    let mirrors = report["mirrors"].as_array().unwrap();
    let observed = |v: &Value| (v["observed"].as_u64(), v["selected"].as_u64());
    assert_eq!(mirrors.len(), 2);
    assert_eq!(observed(&mirrors[0]), (Some(60), Some(30)));
    assert_eq!(observed(&mirrors[0]["shards"][1]), (Some(40), Some(20)));
    assert_eq!((&mirrors[1]["ingress_ifindex"], &mirrors[1]["shards"]), (&json!(13), &json!([])));
    assert_eq!((&report["umem"][1]["partition"], &report["umem"][1]["size"]), (&json!("mirror"), &json!(50)));
    // Half of what was observed was mirrored; of what was never observed nothing can be said.
    assert_eq!((&mirrors[0]["attained_rate"], &mirrors[1]["attained_rate"]), (&json!(2.0), &Value::Null));
}

#[test]
fn what_the_kernel_carries_is_told_with_the_ports() {
    let place = Place::new().with_snapshot();
    let told = |back| {
        let fake = Fake { paths: vec![(11, 12, "tc", 500, Some(20)), (12, 11, "tc", 300, back)], ..Fake::of(&place) };
        fake.answering(&place, || {
            (place.run(&["stats", "--json"]).code(0).json(), place.run(&["stats"]).code(0).stdout)
        })
    };
    let (report, text) = told(Some(1));
    let way = ["ifindex", "peer_ifindex", "path", "reason", "lost", "lost_unknown"];
    has_keys(&report["paths"][0], &way, &[Crossed::DESCRIPTIONS, Lost::DESCRIPTIONS]);
    let row = &report["paths"][0];
    let told_of = ["path", "crossed_packets", "lost", "lost_unsent"].map(|key| row[key].clone());
    assert_eq!(told_of, [json!("tc"), json!(500), json!(20), json!(20)]);
    let port = |ifindex: u64| report["ports"].as_array().unwrap().iter().find(|row| row["ifindex"] == ifindex).unwrap();
    let counts = ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_lost", "rx_drops_no_peer", "loss"];
    assert_eq!(counts.map(|key| port(12)[key].as_u64().unwrap()), [303, 30_000, 480, 50_000, 20, 3, 23]);
    // Beside what sockets count from 100 and 200 on.
    assert_eq!(port(11)["rx_packets"], 300 + 503);
    assert_eq!(
        table(&text, "paths (frames)")[..2],
        [
            vec!["from", "to", "path", "crossed", "bytes", "lost", "crossed_no_peer", "lost_unsent"],
            vec!["11 veth11", "12 veth12", "tc", "500", "50000", "20", "3", "20"],
        ]
    );

    let (report, text) = told(None);
    has_keys(&report["paths"][1], &way, &[Crossed::DESCRIPTIONS]);
    assert_eq!(
        (&report["paths"][1]["lost"], &report["paths"][1]["lost_unknown"]),
        (&Value::Null, &json!("needs CAP_PERFMON"))
    );
    assert_eq!(
        report["ports"].as_array().unwrap().iter().filter(|row| row["loss"].is_null()).count(),
        1,
        "that of port 11"
    );
    assert_eq!(cell(&text, PORTS, "loss"), "unknown");
    // Of an older release.
    let text = Fake::of(&place).answering(&place, || place.run(&["stats"]).code(0).stdout);
    assert!(!text.contains("paths (frames)"), "{text}");
}

/// The cells of the table under `title`: the headings, then the rows.
#[track_caller]
fn table(text: &str, title: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| *line != title).skip(1).take_while(|line| line.starts_with("  "));
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    let rows: Vec<_> = lines.map(cells).collect();
    assert!(rows.len() > 1, "{title}: {text}");
    rows
}

/// A cell of the first row of a table.
#[track_caller]
fn cell(text: &str, title: &str, heading: &str) -> String {
    let rows = table(text, title);
    let at = rows[0].iter().position(|cell| cell == heading).unwrap_or_else(|| panic!("{heading}: {text}"));
    rows[1][at].clone()
}

const MIRRORS: &str = "mirrors (frames)";
const PORTS: &str = "ports (frames)";

#[test]
fn tables_show_what_there_is_to_see() {
    let place = Place::new().with_snapshot();
    let fake = Fake::of(&place);
    let show =
        |fake: &Fake, args: &[&str]| fake.answering(&place, || place.run(&[&["stats"], args].concat()).code(0).stdout);
    let text = show(&fake, &[]);
    let headings =
        ["ingress", "output", "asked", "attained", "observed", "selected", "mirrored", "in flight", "dropped"];
    // The second entry's ingress has no name anywhere.
    let want = [
        &headings,
        &["11 veth11", "22 veth22", "1 in 100", "1 in 2", "60", "30", "30", "0", "0"],
        &["13", "22 veth22", "every frame", "-", "0", "0", "0", "0", "0"],
    ];
    assert_eq!(table(&text, MIRRORS), want);
    // The sum of two bindings, whose values count from 100 and from 200.
    let sum = |value: u64| (300 + 2 * value).to_string();
    let binding = |value: Binding| sum(value as u64);
    let kernel = |value: Kernel| sum(value as u64);
    for (heading, want) in [
        ("port", "11 veth11".to_owned()),
        ("rx", binding(Binding::RxPackets)),
        ("tx bytes", binding(Binding::TxBytes)),
        ("tx_lost", binding(Binding::TxLost)),
        ("tx_drops_queue_full", binding(Binding::TxQueueFull)),
        ("rx_drops_no_peer", binding(Binding::RxNoPeer)),
        ("rx_drops_oversize", binding(Binding::RxOversize)),
        ("kernel_rx_dropped", kernel(Kernel::RxDropped)),
        ("kernel_rx_ring_full", kernel(Kernel::RxRingFull)),
        // 4, 5, 6 and 7 of a binding, 0 and 3 of the kernel.
        ("loss", (6 * 300 + 2 * (4 + 5 + 6 + 7 + 3)).to_string()),
    ] {
        assert_eq!(cell(&text, PORTS, heading), want, "{heading}: {text}");
    }
    let routine = |heading: &String| ["kicks", "kicks_again", "outstanding_tx"].contains(&heading.as_str());
    assert!(!table(&text, PORTS)[0].iter().any(routine) && !text.contains("does not close"), "{text}");
    let partition = table(&text, "umem (frames)");
    assert_eq!(partition[0][..2], ["shard", "partition"]);
    assert_eq!(partition[0][2..], Partition::DESCRIPTIONS.iter().map(|d| d.name).collect::<Vec<_>>());
    assert_eq!(partition[2][..3], ["0", "mirror", "50"]);
    let shards = table(&text, "shards");
    assert_eq!(shards[0][..4], ["shard", "cpu", "generation", "breaths"]);
    assert_eq!(shards[0][shards[0].len() - 3..], ["swap p50", "p99", "max"]);
    assert_eq!(shards[2][..4], ["1", "5", "1", "1"]);

    // A reason to drop has a column once it has a number. Each shard dropped 7.
    let text = show(&Fake { dropped: 7, ..fake.clone() }, &[]);
    assert_eq!(cell(&text, MIRRORS, "drops_no_frame"), "14");
    assert_eq!(cell(&text, MIRRORS, "dropped"), "14");
    assert_eq!(cell(&text, MIRRORS, "attained"), "1 in 2.5", "(60 + 14) / 30");
    assert_eq!(table(&text, MIRRORS)[0].last().unwrap(), "drops_no_frame", "no other reason: {text}");

    // So has what the monitor port refused, of a dataplane that tells of it. Each shard lost 3.
    let text = show(&Fake { refused: 3, ..fake.clone() }, &[]);
    assert_eq!((cell(&text, MIRRORS, "drops_refused"), cell(&text, MIRRORS, "dropped")), ("6".into(), "6".into()));
    assert!(!text.contains("does not close"), "{text}");

    // Or with all: every counter, and every shard.
    let text = show(&fake, &["--all"]);
    let mirrors = table(&text, MIRRORS);
    for d in Entry::DESCRIPTIONS.iter().filter(|d| d.name.starts_with("mirror_drops_")) {
        assert!(mirrors[0].iter().any(|heading| d.name.strip_prefix("mirror_") == Some(heading)), "{}: {text}", d.name);
    }
    let parts: Vec<_> = mirrors[1..].iter().map(|row| (row[2].as_str(), row[5].as_str())).collect();
    assert_eq!(parts, [("all", "60"), ("0", "20"), ("1", "40"), ("all", "0")]);
    for d in Binding::DESCRIPTIONS.iter().skip(4).chain(Kernel::DESCRIPTIONS).chain(Sight::DESCRIPTIONS) {
        assert!(table(&text, PORTS)[0].iter().any(|heading| heading == d.name), "{}: {text}", d.name);
    }
}

#[test]
fn names_come_from_the_snapshot_where_the_dataplane_has_none() {
    let place = Place::new();
    let named =
        r#"{"interfaces":[{"name":"ge-0/0/0.7","ifindex":13},{"name":"ge-0/0/0","ifindex":11}],"mirror_configs":[]}"#;
    place.feed(named.as_bytes(), &["import", "-"]).code(0);
    let text = Fake::of(&place).answering(&place, || place.run(&["stats"]).code(0).stdout);
    let ingresses: Vec<_> = table(&text, MIRRORS)[1..].iter().map(|row| row[0].clone()).collect();
    assert_eq!(ingresses, ["11 veth11", "13 ge-0/0/0.7"]);
}

/// A watching command. Ended when dropped.
struct Watch(Child);

impl Watch {
    fn start(place: &Place, args: &[&str], stdout: Stdio) -> Watch {
        let mut command = command();
        command.arg("--dir").arg(place.dir()).args(["stats", "--watch", "0.1"]).args(args);
        Watch(command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// What it writes, one reading after the other.
    fn blocks(&mut self) -> impl Iterator<Item = String> {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut first = lines.next();
        std::iter::from_fn(move || {
            let mut block = first.take()? + "\n";
            for line in lines.by_ref() {
                if line.starts_with("dataplane: ") {
                    first = Some(line);
                    break;
                }
                block += &format!("{line}\n");
            }
            Some(block)
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watching_as_documents() {
    let place = Place::new().with_snapshot();
    Fake::of(&place).answering(&place, || {
        let mut child = command()
            .arg("--dir")
            .arg(place.dir())
            .args(["stats", "--watch", "0.1", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
        let gathered: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!(gathered.len(), 3, "one document a line");
        // Its reader has left: it ends at the next document.
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

/// Holds that the rates of a reading are those of a [`Fake`] with two busy shards, or none; says which.
#[track_caller]
fn has_rates(block: &str) -> bool {
    let shown = |title, heading| cell(block, title, heading);
    let all = [
        (MIRRORS, "observed/s", 2.0 * Fake::PACE as f64),
        (MIRRORS, "mirrored/s", Fake::PACE as f64),
        (MIRRORS, "Mbit/s", Fake::PACE as f64 * 1250.0 * 8.0 / 1e6),
        (MIRRORS, "drops/s", 0.0),
        (PORTS, "rx/s", 2.0 * Fake::PACE as f64),
        (PORTS, "rx Mbit/s", 2.0 * Fake::PACE as f64 * 1250.0 * 8.0 / 1e6),
        (PORTS, "tx/s", 0.0),
        (PORTS, "tx Mbit/s", 0.0),
        (PORTS, "loss/s", 0.0),
    ];
    if shown(MIRRORS, "observed/s") == "-" {
        assert!(all.iter().all(|(title, heading, _)| shown(title, heading) == "-"), "{block}");
        return false;
    }
    for (title, heading, want) in all {
        let got: f64 = shown(title, heading).parse().unwrap();
        // A few frames of rounding in a tenth of a second.
        assert!((got - want).abs() <= 0.03 * want, "{heading}: {got}, not {want}: {block}");
    }
    true
}

#[test]
fn watching_with_rates_and_over_a_restart() {
    let place = Place::new().with_snapshot();
    let fake = Fake { busy_since: Some(monotonic_ns() as i64 - 3_600_000_000_000), ..Fake::of(&place) };
    let restarted = AtomicBool::new(false);
    let born = std::sync::OnceLock::new();
    let image = || match restarted.load(Relaxed) {
        false => fake.image(),
        // Its counters begin again.
        true => {
            let busy_since = Some(*born.get_or_init(monotonic_ns) as i64);
            Fake { busy_since, started_at: fake.started_at + 1_000_000_000, ..fake.clone() }.image()
        }
    };
    answering(&place, image, || {
        let mut watch = Watch::start(&place, &[], Stdio::piped());
        let mut blocks = watch.blocks();
        assert!(!has_rates(&blocks.next().unwrap()), "nothing to compare the first reading with");
        assert!(blocks.by_ref().take(100).any(|block| has_rates(&block)));
        restarted.store(true, Relaxed);
        let is_new = |block: &String| block.contains("started 2023-11-14T22:13:21Z");
        let mut found = blocks.by_ref().take(100).map(|block| (has_rates(&block), is_new(&block)));
        let first = found.find(|&(_, is_new)| is_new);
        assert_eq!(first, Some((false, true)), "nothing to compare its first reading with");
        assert!(blocks.take(100).any(|block| has_rates(&block)));
    });
}

#[test]
fn on_a_terminal_a_reading_takes_the_place_of_the_one_before() {
    const ROWS: u16 = 12;
    let place = Place::new().with_snapshot();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let screen = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&screen, Winsize { ws_row: ROWS, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let written = Fake::of(&place).answering(&place, || {
        let _watch = Watch::start(&place, &[], screen.into());
        let mut terminal = File::from(terminal);
        let (mut written, mut chunk) = (Vec::new(), [0; 4096]);
        while String::from_utf8_lossy(&written).matches("\u{1b}[H\u{1b}[J").count() < 3 {
            let n = terminal.read(&mut chunk).unwrap();
            written.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8(written).unwrap()
    });
    let mut readings = written.split("\u{1b}[H\u{1b}[J").skip(1);
    for _ in 0..2 {
        let (shown, rest) = readings.next().unwrap().split_once("\u{1b}[?7h").unwrap();
        assert!(shown.starts_with("dataplane: running"), "{shown:?}");
        assert_eq!(shown.lines().count(), usize::from(ROWS), "{shown:?}");
        assert!(shown.ends_with("more lines"), "{shown:?}");
        assert!(rest.trim_start_matches("\u{1b}[?2026").len() <= "l\u{1b}[?2026h\u{1b}[?7l".len(), "{rest:?}");
    }
}
