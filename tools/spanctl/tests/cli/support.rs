//! Running the command, reading what it wrote, and playing the dataplane.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use shm_layout::MULTI_BUFFER;
use shm_layout::counters::{
    BINDING_VALUES, Binding, CROSSED_VALUES, Crossed, Description, Entry, KERNEL_VALUES, LEDGER_VALUES, LOST_VALUES,
    Lost, PARTITION_VALUES, REFUSAL_VALUES, SHARD_VALUES, SIGHT_VALUES,
};
use shm_layout::header::RegionKind;
use shm_layout::image::{Image, ImageBuilder, Need};
use shm_layout::record::{
    BindingRecord, CAP_MIRROR, CloneRecord, EntryRecord, EntryStateRecord, FeatureRecord, LiveState, PartitionKind,
    PathRecord, PortRole, PortStateRecord, RefusalRecord, RoomRecord, ShardRecord, SightRecord, StatsMetaRecord,
    StrRef, TakenDownRecord, UmemRecord,
};
use spanwire::clock::monotonic_ns;
use spanwire::region::{Publisher, STATS_FILE};
use tempfile::TempDir;

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its standard output as a document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Holds its exit code.
    #[track_caller]
    pub fn code(self, want: i32) -> Ran {
        assert_eq!(self.code, want, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for line in self.stderr.lines().filter(|_| want != 2 || !self.stderr.contains("--help")) {
            assert!(line.starts_with("spanctl: "), "{line}");
        }
        self
    }
}

/// The command without the environment's directory.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanctl"));
    command.env_remove("SPANWIRE_DIR").stdin(Stdio::null());
    command
}

/// Runs the command.
pub fn run(args: &[&str]) -> Ran {
    ended(command().args(args).output().unwrap())
}

pub fn ended(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A directory for regions, and one for files beside it.
pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { root: TempDir::new().unwrap() }
    }

    /// Where the regions are; not there before the first publish.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// Runs the command there.
    pub fn run(&self, args: &[&str]) -> Ran {
        let dir = self.dir();
        run(&[&["--dir", dir.to_str().unwrap()], args].concat())
    }

    /// Runs the command there on `document`, given as standard input.
    pub fn feed(&self, document: &[u8], args: &[&str]) -> Ran {
        let mut child = command()
            .arg("--dir")
            .arg(self.dir())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without reading all of it.
        let _ = child.stdin.take().unwrap().write_all(document);
        ended(child.wait_with_output().unwrap())
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.root.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What is published: the generation, and the document.
    pub fn published(&self) -> (u64, String) {
        let generation = spanwire::control::state::published(&self.dir()).unwrap().map_or(0, |p| p.generation);
        (generation, self.run(&["export"]).stdout)
    }

    /// Publishes a small snapshot: wire 11-12, mirrors 11 to 22 and 13 (on no wire) to 22.
    pub fn with_snapshot(self) -> Place {
        self.feed(SNAPSHOT.as_bytes(), &["import", "-"]).code(0);
        self
    }
}

pub const SNAPSHOT: &str = r#"{"version":3,"generation":42,
    "interfaces":[{"name":"ge-0/0/0","linux_name":"ge-0-0-0","ifindex":11},{"name":"mon","ifindex":22}],
    "mirror_configs":[{"ingress_ifindex":11,"output_ifindex":22,"rate":100},{"ingress_ifindex":13,"output_ifindex":22,"rate":0}],
    "wires":[{"name":"w1","a_ifindex":11,"b_ifindex":12}]}"#;

/// Every `NAME.snapshot.json` of the fixtures.
pub fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".snapshot.json"));
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

/// The keys of an object.
#[track_caller]
pub fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap_or_else(|| panic!("an object: {object}")).keys().map(String::as_str).collect()
}

/// Holds that `object` has exactly these keys and those of the counters.
#[track_caller]
pub fn has_keys(object: &Value, want: &[&str], counters: &[&[Description]]) {
    let counters = counters.iter().flat_map(|table| table.iter().map(|d| d.name));
    assert_eq!(keys(object), want.iter().copied().chain(counters).collect());
}

/// How a port of a wire crosses: itself, the other one, its path, frames that crossed and of those the lost ones, where that is
/// known.
pub type Way = (u32, u32, &'static str, u64, Option<u64>);

/// A dataplane as its statistics show it.
#[derive(Clone)]
pub struct Fake {
    pub pid: u32,
    pub capabilities: u64,
    pub instance: u64,
    pub generation: u64,
    /// What each shard has adopted.
    pub adopted: Vec<u64>,
    /// `None`: when it is published.
    pub gathered_at: Option<u64>,
    pub last_reject: &'static str,
    pub mirror_frames: u32,
    /// Of its ports.
    pub mtu: u32,
    /// Of layout minor 1.
    pub multi_buffer: bool,
    /// Each port that is taken down, with the one whose link is lost.
    pub taken_down: Vec<(u32, u32)>,
    /// Of each port of the wire; none of an older release.
    pub paths: Vec<Way>,
    /// Primary frames and sockets of each shard, at most.
    pub room: [u32; 2],
    /// Nanoseconds since the Unix epoch.
    pub started_at: u64,
    /// Clones on the way of each shard; none of an older release, which does not say.
    pub on_the_way: Vec<u64>,
    /// Clones that were dropped for want of a frame.
    pub dropped: u64,
    /// Clones that the monitor port refused; 0 of an older release, which does not say.
    pub refused: u64,
    /// Since when, on `CLOCK_MONOTONIC`, each shard has observed and received [`Fake::PACE`] frames a second; before the
    /// boot where negative.
    pub busy_since: Option<i64>,
}

impl Fake {
    /// Every other of these frames is mirrored; each has 1250 bytes.
    pub const PACE: u64 = 2000;

    /// Two shards that use what is published at `place`, run by this process.
    pub fn of(place: &Place) -> Fake {
        let published = spanwire::control::state::published(&place.dir()).unwrap();
        let (instance, generation) = published.map_or((0, 0), |p| (p.instance_id, p.generation));
        Fake {
            pid: std::process::id(),
            capabilities: CAP_MIRROR,
            instance,
            generation,
            adopted: vec![generation; 2],
            gathered_at: None,
            last_reject: "",
            mirror_frames: 512,
            mtu: 1500,
            multi_buffer: false,
            taken_down: Vec::new(),
            paths: Vec::new(),
            room: [0, 1024],
            started_at: 1_700_000_000_000_000_000,
            on_the_way: Vec::new(),
            dropped: 0,
            refused: 0,
            busy_since: None,
        }
    }

    /// Publishes it once. It runs for as long as the writer lives.
    #[must_use]
    pub fn publish(&self, place: &Place) -> Publisher {
        let mut publisher = publisher(place);
        publisher.publish(&mut self.image()).unwrap();
        publisher
    }

    /// Publishes it once, and has ended.
    pub fn leave(&self, place: &Place) {
        drop(self.publish(place));
    }

    /// Publishes it again and again while `during` runs.
    pub fn answering<T>(&self, place: &Place, during: impl FnOnce() -> T) -> T {
        answering(place, || self.image(), during)
    }

    pub fn image(&self) -> Image {
        let mut image = ImageBuilder::new();
        let gathered_at = self.gathered_at.unwrap_or_else(monotonic_ns);
        // As exact as the time it is told with.
        let frames =
            |since| (i128::from(gathered_at) - i128::from(since)) as u128 * u128::from(Fake::PACE) / 1_000_000_000;
        let frames = self.busy_since.map_or(0, frames) as u64;
        let meta = StatsMetaRecord {
            pid: self.pid,
            shard_count: self.adopted.len() as u32,
            started_at: self.started_at,
            gathered_at,
            config_instance: self.instance,
            table_generation: self.generation,
            adopted_generation: self.adopted.iter().copied().min().unwrap_or(0),
            rejects: (!self.last_reject.is_empty()).into(),
            last_reject: image.string(self.last_reject),
            capabilities: self.capabilities,
            frame_size: 2048,
            mirror_frames: self.mirror_frames,
            release: image.string("9.9.9"),
        };
        let shards: Vec<ShardRecord> = self
            .adopted
            .iter()
            .enumerate()
            .map(|(i, &adopted_generation)| ShardRecord {
                id: i as u32,
                cpu: i as u32 + 4,
                pinned: 1,
                pad: 0,
                adopted_generation,
                values: count::<SHARD_VALUES>(1),
            })
            .collect();
        let port = |image: &mut ImageBuilder, ifindex, role, state, name: &str, reason: &str| PortStateRecord {
            ifindex,
            role,
            state,
            mtu: self.mtu,
            queues: 2,
            zero_copy: 0,
            name: image.string(name),
            xdp_mode: image.string("native"),
            driver: image.string("veth"),
            reason: image.string(reason),
        };
        let mut ports = vec![
            port(&mut image, 11, PortRole::Wire, LiveState::Active, "veth11", ""),
            port(&mut image, 22, PortRole::Monitor, LiveState::Inactive, "veth22", "no link"),
        ];
        if !self.paths.is_empty() {
            ports.push(port(&mut image, 12, PortRole::Wire, LiveState::Active, "veth12", ""));
        }
        let way = |&(ifindex, peer_ifindex, path, frames, lost): &Way| {
            let (mut crossed, mut lost_by) = ([0; CROSSED_VALUES], [0; LOST_VALUES]);
            crossed[Crossed::Packets as usize] = frames;
            crossed[Crossed::Bytes as usize] = 100 * frames;
            crossed[Crossed::NoPeer as usize] = 3;
            lost_by[Lost::Unsent as usize] = lost.unwrap_or(0);
            PathRecord {
                ifindex,
                peer_ifindex,
                path: image.string(path),
                reason: image.string(if path.is_empty() { "no link" } else { "both can" }),
                unknown: image.string(if lost.is_none() { "needs CAP_PERFMON" } else { "" }),
                crossed,
                lost: lost_by,
            }
        };
        let paths: Vec<PathRecord> = self.paths.iter().map(way).collect();
        let binding = |ifindex, queue, shard, from| {
            let mut values = count::<BINDING_VALUES>(from);
            values[Binding::RxPackets as usize] += frames;
            values[Binding::RxBytes as usize] += 1250 * frames;
            BindingRecord { ifindex, queue, shard, pad: 0, values, kernel: count::<KERNEL_VALUES>(from) }
        };
        // 33 is a port that has left.
        let bindings = [binding(11, 0, 0, 100), binding(11, 1, 1, 200), binding(33, 0, 0, 7)];
        let sight = |ifindex, queue, shard, n| SightRecord { ifindex, queue, shard, pad: 0, values: [n; SIGHT_VALUES] };
        let sights = [sight(11, 0, 0, 3), sight(11, 1, 1, 4)];
        let entry = |shard| EntryRecord {
            ingress_ifindex: 11,
            output_ifindex: 22,
            rate: 100,
            shard,
            values: *ledger(10 * (u64::from(shard) + 1), frames, self.dropped, self.refused).first_chunk().unwrap(),
        };
        let refusals: &[RefusalRecord] = match self.refused {
            0 => &[],
            n => &[RefusalRecord { values: [n; REFUSAL_VALUES] }; 2],
        };
        let state = |ingress_ifindex, rate, state, reason| EntryStateRecord {
            ingress_ifindex,
            output_ifindex: 22,
            rate,
            state,
            reason,
        };
        let reason = image.string("port missing");
        let states = [state(11, 100, LiveState::Active, StrRef::default()), state(13, 0, LiveState::Inactive, reason)];
        let taken_down = self.taken_down.iter();
        let taken_down: Vec<_> =
            taken_down.map(|&(ifindex, lost_ifindex)| TakenDownRecord { ifindex, lost_ifindex }).collect();
        let feature = FeatureRecord {
            name: image.string(MULTI_BUFFER),
            reason: StrRef::default(),
            consequence: StrRef::default(),
            available: u32::from(self.multi_buffer),
            pad: 0,
        };
        let features: &[FeatureRecord] = if self.multi_buffer { &[feature] } else { &[] };
        let [most, sockets] = self.room;
        let room = RoomRecord { frames: most, share: 32, sockets, pad: 0 };
        let on_the_way = self.on_the_way.iter().enumerate();
        let clones: Vec<_> =
            on_the_way.map(|(shard, &on_the_way)| CloneRecord { shard: shard as u32, pad: 0, on_the_way }).collect();
        let umem = |shard, partition| UmemRecord { shard, partition, values: count::<PARTITION_VALUES>(50) };
        image
            .section(Need::Required, &[meta])
            .section(Need::Required, &shards)
            .section(Need::Required, &ports)
            .section(Need::Optional, &taken_down)
            .section(Need::Optional, &paths)
            .section(Need::Required, &bindings)
            .section(Need::Optional, &sights)
            .section(Need::Required, &[entry(0), entry(1)])
            .section(Need::Optional, refusals)
            .section(Need::Required, &states)
            .section(Need::Required, &[umem(0, PartitionKind::Primary), umem(0, PartitionKind::Mirror)])
            .section(Need::Optional, features)
            .section(Need::Optional, &[room])
            .section(Need::Optional, &clones);
        image.finish()
    }
}

/// Publishes what `image` gives whenever a reader asks while `during` runs, as a dataplane does.
pub fn answering<T>(place: &Place, image: impl Fn() -> Image + Sync, during: impl FnOnce() -> T) -> T {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut publisher = publisher(place);
    publisher.publish(&mut image()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if publisher.wait_asked(Duration::from_millis(20)) {
                    publisher.publish(&mut image()).unwrap();
                }
            }
        });
        // Also when `during` panics: the scope would wait forever.
        struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        during()
    })
}

/// The writer of the statistics at `place`. The lock of the one before is gone when every process that was just being
/// started has closed what it inherited.
pub fn publisher(place: &Place) -> Publisher {
    Publisher::open(&place.dir(), STATS_FILE, RegionKind::Stats, Duration::from_secs(60)).unwrap()
}

/// Values that differ: from, from + 1, …
fn count<const N: usize>(from: u64) -> [u64; N] {
    std::array::from_fn(|i| from + i as u64)
}

/// A ledger that closes: `n` left out, `n` mirrored, `dropped` dropped, `refused` refused; then half of `frames` each left out and
/// mirrored.
fn ledger(n: u64, frames: u64, dropped: u64, refused: u64) -> [u64; LEDGER_VALUES] {
    let mirrored = n + frames / 2;
    let left_out = n + frames.div_ceil(2);
    let mut row = [0; LEDGER_VALUES];
    row[Entry::Observed as usize] = left_out + mirrored + dropped + refused;
    row[Entry::NotSampled as usize] = left_out;
    row[Entry::Selected as usize] = mirrored + dropped + refused;
    row[Entry::MirroredPackets as usize] = mirrored;
    row[Entry::MirroredBytes as usize] = 1250 * mirrored;
    row[Entry::DropNoFrame as usize] = dropped;
    row[Entry::DropRefused as usize] = refused;
    assert!(Entry::closes(&row));
    row
}
