//! The status a producer reads, under the names it knows.
//!
//! A binding is one socket: a queue of a port; or a port whose frames the kernel carries, which has none, as queue 0 of
//! the first shard. A worker is a shard. What a mirror entry counts on a shard is put
//! down to the ingress port's first queue there, or to its first of all where the shard has none of its queues any more:
//! a sum over the bindings of a port counts every frame once, and goes on when the port has other queues.
//! Frames belong to a shard, so all bindings of a shard show the same `umem_*` values.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shm_layout::counters::{Partition, Shard};
use shm_layout::record::CAP_MIRROR;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::lock::lock;
use super::options::Options;
use super::producer::Producer;
use crate::clock;
use crate::control::state::{
    Dataplane, PortState, ShardRow, Stats, StatsReport, Values, crossed, fresh_stats, published, role_name,
};
use crate::control::writer::Standing;
use crate::region::CONFIG_FILE;
use crate::rings::RING_ENTRIES;

/// How long statistics newer than the question are waited for, by all clients that ask meanwhile.
const PATIENCE: Duration = Duration::from_millis(20);

/// What is told of this server, the published snapshot and the dataplane.
#[derive(Debug, Serialize)]
struct Status {
    pid: u32,
    config_snapshot_protocol_version: u32,
    started_at: String,
    control_socket: String,
    state_file: String,
    workers: usize,
    ring_entries: u32,
    helper_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    poll_mode: Option<String>,
    /// Whether a dataplane runs.
    enabled: bool,
    forwarding_armed: bool,
    capabilities: Capabilities,
    /// The producer's generation of what is published, where that is the producer's.
    last_snapshot_generation: u64,
    last_fib_generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_snapshot_at: Option<String>,
    worker_heartbeats: Vec<String>,
    bindings: Vec<Binding>,
    per_binding: Vec<Counters>,
    // Beyond what the producer knows.
    role: &'static str,
    generation: u64,
    dataplane: Dataplane,
}

#[derive(Debug, Serialize)]
struct Capabilities {
    forwarding_supported: bool,
    unsupported_reasons: Vec<String>,
}

/// One socket, or a port without.
#[derive(Debug, Serialize)]
struct Binding {
    registered: bool,
    armed: bool,
    ready: bool,
    bound: bool,
    xsk_registered: bool,
    xsk_bind_mode: String,
    zero_copy: bool,
    #[serde(flatten)]
    counters: Counters,
}

/// What is counted of a socket, or of a port without.
#[derive(Clone, Debug, Serialize)]
struct Counters {
    /// How the kernel carries the port's frames, if it does.
    #[serde(skip)]
    carried: Option<String>,
    slot: usize,
    queue_id: u32,
    worker_id: u32,
    interface: String,
    ifindex: u32,
    #[serde(flatten)]
    values: Values,
    #[serde(flatten)]
    mirror: Values,
    /// Clones never take what forwarding needs, so there is no reserve to run into.
    mirror_drops_tx_frame_reserve: u64,
    umem_total_frames: u64,
    umem_inflight_frames: u64,
    tx_ring_capacity: u32,
}

/// Tells the status. It is gathered once for all who ask at the same time.
#[derive(Debug)]
pub(super) struct Reporter {
    options: Options,
    started_at: u64,
    heartbeats: Mutex<Heartbeats>,
    latest: Mutex<Latest>,
    gathered: Condvar,
}

/// What was gathered last.
#[derive(Debug, Default)]
struct Latest {
    /// When that began, and what it came to.
    status: Option<(Instant, Arc<RawValue>)>,
    /// Whether somebody gathers anew.
    gathering: bool,
}

/// The gathering; its end, by a panic too, wakes those who wait for it.
struct Gathering<'a>(&'a Reporter);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        lock(&self.0.latest).gathering = false;
        self.0.gathered.notify_all();
    }
}

/// When each shard was last seen to go on.
#[derive(Debug, Default)]
struct Heartbeats(HashMap<u32, Heartbeat>);

#[derive(Debug)]
struct Heartbeat {
    breaths: u64,
    /// Nanoseconds since the Unix epoch.
    at: u64,
}

impl Heartbeats {
    /// The heartbeat of each shard.
    fn of(&mut self, report: &StatsReport) -> Vec<String> {
        let gathered = clock::unix_ns().saturating_sub(report.dataplane.age_ns);
        let mut seen = |row: &ShardRow| self.note(row.shard.id, row.values.get(Shard::Breaths.name()), gathered);
        report.shards.iter().map(|row| rfc3339(seen(row))).collect()
    }

    /// Takes note of what a shard has done by a time, and returns when it was last seen to do something.
    fn note(&mut self, shard: u32, breaths: u64, now: u64) -> u64 {
        let known = self.0.entry(shard).or_insert(Heartbeat { breaths, at: now });
        if known.breaths != breaths {
            *known = Heartbeat { breaths, at: now };
        }
        known.at
    }
}

impl Reporter {
    /// One that begins now.
    pub(super) fn new(options: &Options) -> Reporter {
        Reporter {
            options: options.clone(),
            started_at: clock::unix_ns(),
            heartbeats: Mutex::default(),
            latest: Mutex::default(),
            gathered: Condvar::new(),
        }
    }

    /// Whether the dataplane can mirror, or why not.
    pub(super) fn can_mirror(&self) -> Result<(), Vec<String>> {
        can_mirror(running(&self.options.dir).as_ref())
    }

    /// The status as JSON, gathered after this call.
    ///
    /// Who comes while it is gathered for others waits for their end, and shares what the next one comes to with all
    /// who wait: any number of clients costs one gathering at a time.
    pub(super) fn status(&self, producer: &Producer) -> Option<Arc<RawValue>> {
        let asked = Instant::now();
        let mut latest = lock(&self.latest);
        loop {
            match &latest.status {
                Some((began, status)) if *began >= asked => return Some(Arc::clone(status)),
                _ if latest.gathering => {
                    latest = self.gathered.wait(latest).unwrap_or_else(PoisonError::into_inner);
                }
                _ => break,
            }
        }
        latest.gathering = true;
        drop(latest);
        let _gathering = Gathering(self);
        let began = Instant::now();
        // Plain data, which can be written; should that fail, there is none.
        let status: Arc<RawValue> = to_raw_value(&self.gather(producer)).ok()?.into();
        lock(&self.latest).status = Some((began, Arc::clone(&status)));
        Some(status)
    }

    fn gather(&self, producer: &Producer) -> Status {
        let Options { dir, asked, .. } = &self.options;
        let stats = running(dir);
        let report = stats.as_ref().map(StatsReport::of);
        // A region that cannot be read is as good as one that is not there: the producer publishes again, which repairs it.
        let (in_force, (meta, generation)) = producer.in_force(|| {
            let config = published(dir).ok().flatten();
            let meta = config.as_ref().and_then(|config| Some(config.view().ok()?.meta));
            (meta, (meta, config.map_or(0, |config| config.generation)))
        });
        let standing = meta.as_ref().map_or_else(Standing::default, Standing::of);
        let unsupported = can_mirror(stats.as_ref()).err().unwrap_or_default();
        let ports = stats.as_ref().map(Stats::ports).unwrap_or_default();
        let counters = report.as_ref().map(counters).unwrap_or_default();
        let bindings = counters.iter().map(|row| binding(row, ports, standing.armed()));
        Status {
            pid: std::process::id(),
            config_snapshot_protocol_version: producer.version(),
            started_at: rfc3339(self.started_at),
            control_socket: self.options.socket.display().to_string(),
            state_file: asked.state_file.clone().unwrap_or_else(|| dir.join(CONFIG_FILE)).display().to_string(),
            workers: report.as_ref().map_or(asked.workers.unwrap_or(0), |report| report.shards.len()),
            ring_entries: if stats.is_some() { RING_ENTRIES } else { asked.ring_entries.unwrap_or(0) },
            helper_mode: "spanwire",
            poll_mode: asked.poll_mode.clone(),
            enabled: stats.is_some(),
            forwarding_armed: standing.armed(),
            capabilities: Capabilities {
                forwarding_supported: unsupported.is_empty(),
                unsupported_reasons: unsupported,
            },
            last_snapshot_generation: in_force.generation,
            last_fib_generation: in_force.fib_generation,
            last_snapshot_at: meta.map(|meta| rfc3339(meta.compiled_at)),
            worker_heartbeats: report.as_ref().map(|report| lock(&self.heartbeats).of(report)).unwrap_or_default(),
            bindings: bindings.collect(),
            per_binding: counters,
            role: role_name(standing.role),
            generation,
            dataplane: Dataplane::of(stats.as_ref()),
        }
    }
}

/// The statistics of a dataplane that runs, from now on where it answers at once.
fn running(dir: &Path) -> Option<Stats> {
    fresh_stats(dir, clock::monotonic_ns(), PATIENCE).ok().flatten().filter(Stats::running)
}

fn can_mirror(stats: Option<&Stats>) -> Result<(), Vec<String>> {
    let why = match stats {
        None => "no dataplane is running (start spanwired)",
        Some(stats) if stats.capabilities() & CAP_MIRROR == 0 => {
            "the dataplane has no mirror frames (restart spanwired with --mirror-frames above 0)"
        }
        Some(_) => return Ok(()),
    };
    Err(vec![why.to_owned()])
}

/// A row for each socket, and for each port that the kernel serves in their place.
fn counters(report: &StatsReport) -> Vec<Counters> {
    // What has no socket now is none of its bindings.
    let sockets =
        report.bindings.iter().filter_map(|row| Some((row.ifindex, row.queue, row.shard?, row.values.clone(), None)));
    let has_socket = |port| report.bindings.iter().any(|row| row.ifindex == port && row.shard.is_some());
    let carried = report.paths.iter().filter(|path| path.is_in_kernel() && !has_socket(path.ifindex));
    let first_shard = report.shards.first().map_or(0, |row| row.shard.id);
    let carried = carried.map(|path| {
        let values = crossed(path.ifindex, &report.paths);
        (path.ifindex, 0, first_shard, values, path.path.clone())
    });
    let mut rows: Vec<Counters> = Vec::with_capacity(report.bindings.len());
    // The row of a port's first queue on a shard, and of all.
    let mut first = HashMap::new();
    for (slot, (ifindex, queue_id, worker_id, values, carried)) in sockets.chain(carried).enumerate() {
        for which in [Some(worker_id), None] {
            let known = first.entry((ifindex, which)).or_insert(slot);
            if rows.get(*known).is_some_and(|known| known.queue_id > queue_id) {
                *known = slot;
            }
        }
        let frames = |which: Partition| {
            let of_shard = report.umem.iter().filter(|umem| umem.shard == worker_id);
            of_shard.map(|umem| umem.values.get(which.name())).sum()
        };
        rows.push(Counters {
            carried,
            slot,
            queue_id,
            worker_id,
            interface: report.ports.iter().find(|p| p.ifindex == ifindex).map_or_else(String::new, |p| p.name.clone()),
            ifindex,
            values,
            mirror: Values::no_entry(),
            mirror_drops_tx_frame_reserve: 0,
            umem_total_frames: frames(Partition::Size),
            umem_inflight_frames: frames(Partition::Tx),
            tx_ring_capacity: RING_ENTRIES,
        });
    }
    for entry in &report.mirrors {
        for part in &entry.shards {
            let row = [Some(part.shard), None].into_iter().find_map(|which| first.get(&(entry.port, which)));
            if let Some(&slot) = row {
                rows[slot].mirror.add(&part.values);
            }
        }
    }
    rows
}

fn binding(row: &Counters, ports: &[PortState], armed: bool) -> Binding {
    let port = ports.iter().find(|port| port.ifindex == row.ifindex);
    let zero_copy = port.is_some_and(|port| port.zero_copy);
    let mode = row.carried.as_deref().unwrap_or(if zero_copy { "zerocopy" } else { "copy" });
    Binding {
        // A socket is told of only while it is bound and a shard has it, and a port in its place while it has its selector.
        registered: true,
        bound: true,
        xsk_registered: row.carried.is_none(),
        armed,
        ready: port.is_some_and(|port| port.state == "active"),
        xsk_bind_mode: mode.to_owned(),
        zero_copy,
        counters: row.clone(),
    }
}

fn rfc3339(unix_ns: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(unix_ns.into()).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use shm_layout::counters::{Binding as Socket, CROSSED_VALUES, Crossed, Entry, LEDGER_VALUES};

    use super::*;
    use crate::control::state::{BindingRow, EntryRow, EntryShard, PathRow};

    #[test]
    fn who_waits_for_a_status_shares_one_that_began_after_the_question() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path().to_owned(), dir.path().join("socket"));
        let (reporter, producer) = (Reporter::new(&options), Producer::new(&options));
        let foreign: Arc<RawValue> = to_raw_value(&"another's").unwrap().into();
        let first = reporter.status(&producer).unwrap();
        assert!(!Arc::ptr_eq(&first, &reporter.status(&producer).unwrap()), "nobody waits: each is gathered anew");

        for shared in [true, false] {
            let before = Instant::now();
            lock(&reporter.latest).gathering = true;
            let gathering = Gathering(&reporter);
            thread::scope(|scope| {
                let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| reporter.status(&producer).unwrap())).collect();
                // A thread that is late is answered in the same way.
                thread::sleep(Duration::from_millis(50));
                assert!(asked.iter().all(|asked| !asked.is_finished()), "they wait");
                let began = if shared { Instant::now() + Duration::from_secs(60) } else { before };
                lock(&reporter.latest).status = Some((began, Arc::clone(&foreign)));
                drop(gathering);
                for asked in asked {
                    assert_eq!(Arc::ptr_eq(&asked.join().unwrap(), &foreign), shared);
                }
            });
            lock(&reporter.latest).status = None;
        }
    }

    #[test]
    fn what_a_vlan_entry_counts_is_on_the_row_of_its_port() {
        let mut report = StatsReport {
            dataplane: Dataplane::default(),
            shards: Vec::new(),
            ports: Vec::new(),
            bindings: [(11, 1), (11, 0), (12, 0)].map(|(ifindex, queue)| socket(ifindex, queue)).into(),
            paths: [11, 99].map(carried).into(),
            mirrors: vec![entry(11, 11, 1), entry(1 << 30, 11, 2), entry(12, 99, 4), entry(13, 12, 8)],
            umem: Vec::new(),
            names: HashMap::new(),
        };
        let unserved = BindingRow { shard: None, ..socket(11, 2) };
        report.bindings.insert(0, unserved);
        let rows = counters(&report);
        let sums: Vec<u64> = rows.iter().map(|row| row.mirror.get(Entry::MirroredPackets.name())).collect();
        assert_eq!(sums, [0, 3, 8, 4], "the first queue of the port, or the port where the kernel carries its frames");
        let row = &rows[3];
        assert_eq!((row.ifindex, row.queue_id, row.values.get(Socket::RxPackets.name())), (99, 0, 5));
        let told =
            [binding(&rows[2], &[], true), binding(row, &[], true)].map(|row| (row.xsk_registered, row.xsk_bind_mode));
        assert_eq!(told, [(true, "copy".to_owned()), (false, "tc".to_owned())]);
    }

    /// A port from which the kernel has sent 5 frames on.
    fn carried(ifindex: u32) -> PathRow {
        let mut crossed = [0; CROSSED_VALUES];
        crossed[Crossed::Packets as usize] = 5;
        PathRow {
            ifindex,
            peer_ifindex: ifindex + 1,
            path: Some("tc".to_owned()),
            reason: String::new(),
            crossed: Values::new(Crossed::DESCRIPTIONS, &crossed),
            lost: Some(0),
            lost_unknown: String::new(),
            lost_by: None,
        }
    }

    fn socket(ifindex: u32, queue: u32) -> BindingRow {
        let [values, kernel, sights] = [0; 3].map(|_| Values::no_entry());
        BindingRow { ifindex, queue, shard: Some(0), values, kernel, sights }
    }

    /// An entry of frames that arrive on `port`, of which `mirrored` are mirrored.
    fn entry(ingress_ifindex: u32, port: u32, mirrored: u64) -> EntryRow {
        let mut values = [0; LEDGER_VALUES];
        values[Entry::MirroredPackets as usize] = mirrored;
        let values = Values::new(Entry::DESCRIPTIONS, &values);
        let shards = vec![EntryShard { shard: 0, values: values.clone() }];
        EntryRow { ingress_ifindex, output_ifindex: 22, rate: 1, port, attained_rate: None, values, shards }
    }

    #[test]
    fn a_heartbeat_is_the_last_time_something_was_done() {
        let mut heartbeats = Heartbeats::default();
        assert_eq!(heartbeats.note(0, 5, 100), 100);
        assert_eq!(heartbeats.note(0, 5, 200), 100, "it hangs");
        assert_eq!(heartbeats.note(1, 9, 200), 200);
        assert_eq!(heartbeats.note(0, 6, 300), 300);
        assert_eq!(heartbeats.note(0, 1, 400), 400, "another dataplane");
    }
}
