//! The status a producer reads, under the names it knows.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shm_layout::record::CAP_MIRROR;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::bindings::{Binding, Counters, binding, counters};
use super::heartbeats::Heartbeats;
use super::lock::lock;
use super::options::Options;
use super::producer::Producer;
use crate::clock;
use crate::control::state::{Dataplane, Stats, StatsReport, fresh_stats, published, role_name};
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
        let heartbeats = report.as_ref().map(|report| lock(&self.heartbeats).of(report)).unwrap_or_default();
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
            worker_heartbeats: heartbeats.into_iter().map(rfc3339).collect(),
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

fn rfc3339(unix_ns: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(unix_ns.into()).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

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
}
