//! `stats.shm`, and whether the dataplane that writes it runs.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shm_layout::header::{RegionKind, WRITER_START};
use shm_layout::words::Words;

use super::StateError;
use super::stats::Stats;
use crate::clock;
use crate::region::{Access, Polled, RegionError, RegionFile, STATS_FILE, Subscriber, is_held};

/// How long an answer newer than the question is waited for.
pub const FRESH_PATIENCE: Duration = Duration::from_secs(1);

/// How long ago a dataplane published at most that counts as running where its lock cannot be looked at.
const BEAT: Duration = Duration::from_secs(2);

/// The longest sleep before looking again whether the dataplane still runs; only its end is noticed that late,
/// since a publish ends the sleep.
pub(super) const NAP: Duration = Duration::from_millis(100);
/// The first sleep before asking again for values: the writer hears nothing while it publishes or rests.
const FIRST_NAP: Duration = Duration::from_millis(2);

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
    Ok(stats.map(|stats| stats.told_fresh(|stats| stats.meta.gathered_at >= asked)))
}

/// As [`fresh_stats`], with the devices as they are at or after `asked`, which may take a moment longer.
///
/// # Errors
/// [`StateError`].
pub fn fresh_devices(dir: &Path, asked: u64, patience: Duration) -> Result<Option<Stats>, StateError> {
    let as_of = |stats: &Stats| stats.devices.as_ref().map_or(stats.meta.gathered_at, |devices| devices.as_of);
    let stats = stats_with(dir, patience, |stats| as_of(stats) >= asked)?;
    Ok(stats.map(|stats| stats.told_fresh(|stats| as_of(stats) >= asked)))
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

/// Follows `stats.shm`.
pub(super) struct Region<'a> {
    dir: &'a Path,
    subscriber: Subscriber,
    pub(super) latest: Option<Stats>,
    /// Of the next sleep.
    nap: Duration,
}

impl<'a> Region<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        let subscriber = Subscriber::new(dir, STATS_FILE, RegionKind::Stats);
        Region { dir, subscriber, latest: None, nap: FIRST_NAP }
    }

    /// Takes up what is newer, and looks again whether the dataplane runs.
    pub(super) fn poll(&mut self) -> Result<(), StateError> {
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
    pub(super) fn wait(&mut self, deadline: Instant) {
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
