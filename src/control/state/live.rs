//! `stats.shm`, and whether the dataplane that writes it runs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::Serialize;
use shm_layout::counters::Partition;
use shm_layout::error::LayoutError;
use shm_layout::header::{RegionKind, WRITER_START};
use shm_layout::record::{
    BindingRecord, CAP_MIRROR, CloneRecord, EntryRecord, EntryStateRecord, PartitionKind, PlaceRecord,
    PortDeviceRecord, PortStateRecord, Record, RefusalRecord, RingRecord, RoomRecord, ShardRecord, SightRecord,
    StatsMetaRecord, SwapRecord, TakenDownRecord, UmemRecord,
};
use shm_layout::view::{ImageView, Strings};
use shm_layout::words::Words;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::newer::Newer;
use super::show::PortState;
use super::{StateError, published};
use crate::clock;
use crate::control::model::{Reason, printable};
use crate::devices::listing::Listed;
use crate::region::{Access, Polled, RegionError, RegionFile, STATS_FILE, Subscriber, is_held};

/// How long an answer newer than the question is waited for.
pub const FRESH_PATIENCE: Duration = Duration::from_secs(1);

/// How long ago a dataplane published at most that counts as running where its lock cannot be looked at.
const BEAT: Duration = Duration::from_secs(2);

/// The longest sleep before looking again whether the dataplane still runs; only its end is noticed that late,
/// since a publish ends the sleep.
const NAP: Duration = Duration::from_millis(100);
/// The first sleep before asking again for values: the writer hears nothing while it publishes or rests.
const FIRST_NAP: Duration = Duration::from_millis(2);

/// One image of `stats.shm`.
#[derive(Clone, Debug)]
pub struct Stats {
    pub(super) meta: StatsMetaRecord,
    pub(super) release: String,
    pub(super) last_reject: String,
    pub(super) shards: Vec<ShardRecord>,
    pub(super) ports: Vec<PortState>,
    pub(super) bindings: Vec<BindingRecord>,
    /// Each port that is taken down, with its wire's other one, whose link is lost.
    pub(super) taken_down: Vec<(u32, u32)>,
    /// None where the dataplane is of an older release.
    pub(super) sights: Vec<SightRecord>,
    pub(super) entries: Vec<EntryRecord>,
    /// One for each of those; none where the dataplane is of an older release.
    pub(super) refusals: Vec<RefusalRecord>,
    pub(super) rings: Vec<RingRecord>,
    /// Each with its reason.
    pub(super) entry_states: Vec<(EntryStateRecord, String)>,
    /// One for each of those; none from a dataplane of layout minor 0.
    pub(super) places: Vec<PlaceRecord>,
    pub(super) umem: Vec<UmemRecord>,
    pub(super) swaps: Vec<SwapRecord>,
    /// None where a release wrote it that did not say.
    clones: Vec<CloneRecord>,
    /// `None` where a release wrote it that did not say.
    room: Option<RoomRecord>,
    /// What the rows above have beyond this release.
    pub(super) newer: Newer,
    devices: Option<Listed>,
    running: bool,
    fresh: bool,
}

impl Stats {
    pub(super) fn parse(words: &[u64]) -> Result<Stats, LayoutError> {
        let image = ImageView::parse(words)?;
        let text = image.strings()?;
        let missing = LayoutError::Section { kind: StatsMetaRecord::KIND, what: "is missing" };
        let devices: HashMap<u32, u32> =
            image.records::<PortDeviceRecord>()?.iter().map(|row| (row.ifindex, row.device_ifindex)).collect();
        let meta = image.records::<StatsMetaRecord>()?.iter().next().ok_or(missing)?;
        Ok(Stats {
            release: text.text(meta.release).to_owned(),
            last_reject: text.text(meta.last_reject).to_owned(),
            shards: image.records()?.iter().collect(),
            ports: image
                .records::<PortStateRecord>()?
                .iter()
                .map(|port| PortState {
                    device_ifindex: devices.get(&port.ifindex).copied(),
                    ..port_state(&port, text)
                })
                .collect(),
            bindings: image.records()?.iter().collect(),
            taken_down: image.records::<TakenDownRecord>()?.iter().map(|row| (row.ifindex, row.lost_ifindex)).collect(),
            sights: image.records()?.iter().collect(),
            entries: image.records()?.iter().collect(),
            refusals: image.records()?.iter().collect(),
            rings: image.records()?.iter().collect(),
            entry_states: image
                .records::<EntryStateRecord>()?
                .iter()
                .map(|entry| (entry, text.text(entry.reason).to_owned()))
                .collect(),
            places: image.records()?.iter().collect(),
            umem: image.records()?.iter().collect(),
            swaps: image.records()?.iter().collect(),
            clones: image.records()?.iter().collect(),
            room: image.records::<RoomRecord>()?.iter().next(),
            newer: Newer::read(&image, text)?,
            devices: Listed::read(&image, text)?,
            meta,
            running: false,
            fresh: false,
        })
    }

    /// Whether the process that wrote it still runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.running
    }

    /// Whether what it says is newer than the question it was read for.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.fresh
    }

    /// Its release.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Process id of the dataplane, in the PID namespace it runs in: for messages. [`process`] is for all else.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.meta.pid
    }

    /// [`CAP_MIRROR`] and others.
    #[must_use]
    pub fn capabilities(&self) -> u64 {
        self.meta.capabilities
    }

    /// Mirror frames of each shard.
    #[must_use]
    pub fn mirror_frames(&self) -> u32 {
        self.meta.mirror_frames
    }

    /// Shards it runs.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.meta.shard_count
    }

    /// How many sockets it can serve; `None` where it does not say.
    #[must_use]
    pub fn room(&self) -> Option<RoomRecord> {
        self.room
    }

    /// Generation of the table handed to the shards.
    #[must_use]
    pub fn table_generation(&self) -> u64 {
        self.meta.table_generation
    }

    /// The latencies of table swaps, a row a shard.
    #[must_use]
    pub fn swaps(&self) -> &[SwapRecord] {
        &self.swaps
    }

    /// The devices of its network namespace; `None` of a dataplane of an older release.
    #[must_use]
    pub fn devices(&self) -> Option<&Listed> {
        self.devices.as_ref()
    }

    /// The ports in use.
    #[must_use]
    pub fn ports(&self) -> &[PortState] {
        &self.ports
    }

    /// Frames of clones on the way out: in lanes between shards, in tx rings, with the kernel, or completed and not taken
    /// back yet. What a clone ring holds counts as one.
    /// A dataplane of an older release does not tell of those in lanes.
    #[must_use]
    pub fn clones_in_flight(&self) -> u64 {
        if !self.clones.is_empty() {
            return self.clones.iter().map(|row| row.on_the_way).sum();
        }
        let mirror = self.umem.iter().filter(|row| row.partition == PartitionKind::Mirror);
        mirror.map(|row| row.values[Partition::Tx as usize]).sum()
    }

    /// The shards and what each has adopted.
    #[must_use]
    pub fn shard_states(&self) -> Vec<ShardState> {
        self.shards
            .iter()
            .map(|s| ShardState { id: s.id, cpu: s.cpu, adopted_generation: s.adopted_generation })
            .collect()
    }
}

fn port_state(port: &PortStateRecord, text: Strings<'_>) -> PortState {
    let own = |at| text.text(at).to_owned();
    PortState {
        ifindex: port.ifindex,
        device_ifindex: None,
        name: own(port.name),
        role: match port.role {
            shm_layout::record::PortRole::Wire => "wire",
            shm_layout::record::PortRole::Monitor => "monitor",
        },
        state: super::live_name(port.state),
        reason: own(port.reason),
        mtu: port.mtu,
        queues: port.queues,
        xdp_mode: own(port.xdp_mode),
        zero_copy: port.zero_copy != 0,
        driver: own(port.driver),
    }
}

/// The dataplane itself, as documents give it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dataplane {
    /// Whether it runs.
    pub running: bool,
    /// Whether what it says is newer than the question.
    pub fresh: bool,
    /// Process id in its own PID namespace; `None` where none has ever run here.
    pub pid: Option<u32>,
    /// Its release.
    pub release: Option<String>,
    /// When it started, RFC 3339: the epoch of its counters.
    pub started_at: Option<String>,
    /// Generation of the table handed to the shards; 0 for none.
    pub table_generation: u64,
    /// The oldest generation any shard still uses.
    pub adopted_generation: u64,
    /// Whether it has mirror frames.
    pub can_mirror: bool,
    /// Bytes of a UMEM frame.
    pub frame_size: u32,
    /// Mirror frames per shard.
    pub mirror_frames: u32,
    /// Mirror frames that the published snapshot can need per shard; `None` outside of `show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror_frames_needed: Option<u64>,
    /// Snapshots it refused since it started.
    pub rejects: u64,
    /// Why it refused the last one; empty when none was, or a good one came since.
    pub last_reject: String,
    /// When its values were gathered, nanoseconds of `CLOCK_MONOTONIC`.
    #[serde(skip)]
    pub gathered_at: u64,
    /// Nanoseconds since then.
    #[serde(skip)]
    pub age_ns: u64,
}

impl Dataplane {
    /// What `stats` says of its dataplane; without any, that none runs.
    #[must_use]
    pub fn of(stats: Option<&Stats>) -> Dataplane {
        let Some(stats) = stats else { return Dataplane::default() };
        let meta = &stats.meta;
        Dataplane {
            running: stats.running,
            fresh: stats.running && stats.fresh,
            pid: Some(meta.pid),
            release: Some(stats.release.clone()),
            started_at: OffsetDateTime::from_unix_timestamp_nanos(meta.started_at.into())
                .ok()
                .and_then(|at| at.format(&Rfc3339).ok()),
            table_generation: meta.table_generation,
            adopted_generation: meta.adopted_generation,
            can_mirror: meta.capabilities & CAP_MIRROR != 0,
            frame_size: meta.frame_size,
            mirror_frames: meta.mirror_frames,
            mirror_frames_needed: None,
            rejects: meta.rejects,
            last_reject: stats.last_reject.clone(),
            gathered_at: meta.gathered_at,
            age_ns: clock::monotonic_ns().saturating_sub(meta.gathered_at),
        }
    }
}

/// One shard and the table it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShardState {
    /// Index of the shard.
    pub id: u32,
    /// Processor it is pinned to.
    pub cpu: u32,
    /// Generation of the table it uses.
    pub adopted_generation: u64,
}

/// Reads `stats.shm` as it is, however old; `None` where no dataplane ever ran.
///
/// # Errors
/// [`StateError`].
pub fn last_stats(dir: &Path) -> Result<Option<Stats>, StateError> {
    // Any image will do; the patience is for a region that is being replaced just now.
    fresh_stats(dir, 0, NAP)
}

/// Reads `stats.shm`, waiting at most `patience` for values gathered at or after `asked` (nanoseconds of
/// `CLOCK_MONOTONIC`) while the dataplane runs. What there is after that is returned all the same; `None` where
/// no dataplane ever ran.
///
/// # Errors
/// [`StateError`].
pub fn fresh_stats(dir: &Path, asked: u64, patience: Duration) -> Result<Option<Stats>, StateError> {
    let stats = stats_with(dir, patience, |stats| stats.meta.gathered_at >= asked)?;
    Ok(stats.map(|stats| Stats { fresh: stats.meta.gathered_at >= asked, ..stats }))
}

/// As [`fresh_stats`], with the devices as they are at or after `asked`, which may take a moment longer.
///
/// # Errors
/// [`StateError`].
pub fn fresh_devices(dir: &Path, asked: u64, patience: Duration) -> Result<Option<Stats>, StateError> {
    let as_of = |stats: &Stats| stats.devices.as_ref().map_or(stats.meta.gathered_at, |devices| devices.as_of);
    let stats = stats_with(dir, patience, |stats| as_of(stats) >= asked)?;
    Ok(stats.map(|stats| Stats { fresh: as_of(&stats) >= asked, ..stats }))
}

fn stats_with(dir: &Path, patience: Duration, enough: impl Fn(&Stats) -> bool) -> Result<Option<Stats>, StateError> {
    let deadline = Instant::now() + patience;
    let mut region = Region::new(dir);
    loop {
        let failed = region.poll().err();
        if let Some(stats) = region.latest.take_if(|stats| !stats.running || enough(stats)) {
            return Ok(Some(stats));
        }
        let late = Instant::now() >= deadline;
        match failed {
            Some(StateError::Region(RegionError::Missing { .. }))
                if region.latest.is_none() && (late || !runs(dir)) =>
            {
                return Ok(None);
            }
            // The first comes soon, of one that has only begun. Replaced or overwritten while it was read, it will not
            // be the next time.
            Some(StateError::Region(RegionError::Missing { .. } | RegionError::Read { .. }))
                if !late || region.latest.is_some() => {}
            Some(error) if region.latest.is_none() => return Err(error),
            _ => {}
        }
        if late {
            return Ok(region.latest);
        }
        region.wait(deadline);
    }
}

/// What [`wait_adopted`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uptake {
    /// The generation waited for.
    pub generation: u64,
    /// Whether every shard uses it, or a newer one.
    pub adopted: bool,
    /// The shards; none without a dataplane.
    pub shards: Vec<ShardState>,
    /// The dataplane.
    pub dataplane: Dataplane,
}

impl Uptake {
    /// Why the generation is not in use after a wait of `waited`: the shards that are behind.
    #[must_use]
    pub fn behind(&self, waited: Duration) -> Reason {
        let late = self.shards.iter().filter(|shard| shard.adopted_generation < self.generation);
        let late: Vec<String> = late.map(|s| format!("shard {} at {}", s.id, s.adopted_generation)).collect();
        let late = match late.as_slice() {
            [] if !self.shards.is_empty() && !self.dataplane.fresh => "the dataplane does not answer".to_owned(),
            [] => "no shard has started".to_owned(),
            late => late.join(", "),
        };
        let seconds = waited.as_secs_f64();
        let mut text = format!("generation {} is not in use everywhere after {seconds} s: {late}", self.generation);
        if !self.dataplane.last_reject.is_empty() {
            text += &format!("; the dataplane refused a snapshot: {}", printable(&self.dataplane.last_reject));
        }
        Reason::new(text)
    }
}

/// Waits at most `timeout` until every shard of a running dataplane says, from now on, that it uses `generation` or a
/// newer one: what was said before may be the word of a dataplane that has been replaced since. The dataplane may
/// still have to start.
///
/// # Errors
/// [`StateError`], once the time is up and `stats.shm` is there but cannot be read.
pub fn wait_adopted(dir: &Path, generation: u64, timeout: Duration) -> Result<Uptake, StateError> {
    let start = Instant::now();
    // A time out of range is as good as one that never comes.
    let deadline = start.checked_add(timeout).unwrap_or(start + Duration::from_secs(u32::MAX.into()));
    // Even where there is no time, what is told is not older than the question, if the dataplane answers.
    let (asked, grace) = (clock::monotonic_ns(), start + NAP);
    let mut region = Region::new(dir);
    loop {
        let failed = region.poll().err();
        let running = region.latest.as_ref().filter(|stats| stats.running);
        let is_late = Instant::now() >= deadline
            && (running.is_none_or(|stats| stats.meta.gathered_at >= asked) || Instant::now() >= grace);
        let adopted = running.is_some_and(|stats| {
            // An image from before the shards started has no rows, and all of none is not enough.
            stats.meta.gathered_at >= asked
                && stats.shards.len() == stats.meta.shard_count as usize
                && !stats.shards.is_empty()
                && stats.shards.iter().all(|shard| shard.adopted_generation >= generation)
                && is_of_region(dir, stats.meta.config_instance)
        });
        let fresh = running.is_some_and(|stats| stats.meta.gathered_at >= asked);
        if adopted || is_late {
            return match failed {
                Some(error) if !matches!(error, StateError::Region(RegionError::Missing { .. })) => Err(error),
                _ => Ok(Uptake {
                    generation,
                    adopted,
                    shards: running.map(Stats::shard_states).unwrap_or_default(),
                    dataplane: Dataplane { fresh, ..Dataplane::of(region.latest.as_ref()) },
                }),
            };
        }
        region.wait(deadline.max(grace));
    }
}

/// Whether generations of this instance are those `config.shm` counts, as far as it can be read: after both
/// regions were lost a new one may count from below what the shards have.
fn is_of_region(dir: &Path, instance: u64) -> bool {
    published(dir).ok().flatten().is_none_or(|published| published.instance_id == instance)
}

/// Follows `stats.shm`.
struct Region<'a> {
    dir: &'a Path,
    subscriber: Subscriber,
    latest: Option<Stats>,
    /// Of the next sleep.
    nap: Duration,
}

impl<'a> Region<'a> {
    fn new(dir: &'a Path) -> Self {
        let subscriber = Subscriber::new(dir, STATS_FILE, RegionKind::Stats);
        Region { dir, subscriber, latest: None, nap: FIRST_NAP }
    }

    /// Takes up what is newer, and looks again whether the dataplane runs.
    fn poll(&mut self) -> Result<(), StateError> {
        let polled = match self.subscriber.poll() {
            Ok(Polled::New { words, .. }) => Stats::parse(words)
                .map(|stats| self.latest = Some(stats))
                .map_err(|source| StateError::Layout { path: self.dir.join(STATS_FILE), source }),
            Ok(Polled::Unchanged) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Some(stats) = &mut self.latest {
            stats.running = runs(self.dir);
        }
        polled
    }

    /// Asks for newer values and sleeps until there are some, or it is time to ask again.
    fn wait(&mut self, deadline: Instant) {
        self.subscriber.ask();
        self.subscriber.wait(deadline.saturating_duration_since(Instant::now()).min(self.nap));
        self.nap = (2 * self.nap).min(NAP);
    }
}

/// Whether a dataplane runs with this directory: it holds the lock of `stats.shm` from its start to its end, and that
/// shows from every PID namespace. Where the lock cannot be looked at, that it published a moment ago has to do.
#[must_use]
pub fn runs(dir: &Path) -> bool {
    let beats = || {
        let beat = open(dir)?.heartbeat().ok()?;
        Some(clock::boottime_ns().saturating_sub(beat) < BEAT.as_nanos() as u64)
    };
    is_held(dir, STATS_FILE).or_else(beats).unwrap_or(false)
}

/// The dataplane that wrote `stats`, as a process of this PID namespace; `None` where it runs in another one or has
/// ended, whatever process has its number here.
#[must_use]
pub fn process(dir: &Path, stats: &Stats) -> Option<u32> {
    let file = open(dir)?;
    let (writer, wrote_at) = (file.writer_pid().ok()?, file.load(WRITER_START, Relaxed).ok()?);
    let pid = stats.meta.pid;
    (writer == u64::from(pid) && wrote_at != 0 && process_start(pid) == Some(wrote_at)).then_some(pid)
}

fn open(dir: &Path) -> Option<RegionFile> {
    RegionFile::open(&dir.join(STATS_FILE), RegionKind::Stats, Access::Read).ok()
}

/// Start time of a process, clock ticks since boot; `None` where it is gone, or dead and not yet reaped.
fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // State and start time are fields 3 and 22, counted after the command name, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        assert!(process_start(std::process::id()).is_some_and(|start| start > 0));
        assert_eq!(process_start(u32::MAX), None);
    }
}
