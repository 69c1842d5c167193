//! How fast counters grow between two readings of one dataplane.
//!
//! A dataplane that has restarted counts from zero again, and so does an entry or a port that came back: where a
//! counter did not go on there is no rate, rather than one that is wrong.

use std::collections::HashMap;

use shm_layout::counters::{Binding, Entry};
use spanwire::control::state::{EntryRow, PortRow, StatsReport, Values};

/// Clones dropped for whatever reason, by a ledger: what was selected, is not mirrored and not on its way.
pub(super) fn dropped(ledger: &Values) -> u64 {
    let value = |of: Entry| ledger.get(of.name());
    let kept = value(Entry::MirroredPackets).saturating_add(value(Entry::InFlight));
    value(Entry::Selected).saturating_sub(kept)
}

/// The headings of [`Rates::mirror`].
pub(super) const MIRROR: [&str; 4] = ["observed/s", "mirrored/s", "Mbit/s", "drops/s"];
/// The headings of [`Rates::port`].
pub(super) const PORT: [&str; 5] = ["rx/s", "rx Mbit/s", "tx/s", "tx Mbit/s", "loss/s"];

/// An entry, as it is told from others.
type Key = (u32, u32, u32);

/// A reading to compare with.
#[derive(Default)]
pub(super) struct Rates<'a> {
    seconds: f64,
    mirrors: HashMap<Key, &'a EntryRow>,
    ports: HashMap<u32, &'a PortRow>,
}

fn key(entry: &EntryRow) -> Key {
    (entry.ingress_ifindex, entry.output_ifindex, entry.rate)
}

impl<'a> Rates<'a> {
    /// To compare `now` with the reading before it; nothing has a rate where that was of another dataplane, or no
    /// older.
    pub(super) fn between(before: Option<&'a StatsReport>, now: &StatsReport) -> Rates<'a> {
        let goes_on = |before: &&StatsReport| {
            let (was, is) = (&before.dataplane, &now.dataplane);
            (was.pid, &was.started_at) == (is.pid, &is.started_at) && was.gathered_at < is.gathered_at
        };
        let Some(before) = before.filter(goes_on) else { return Rates::default() };
        Rates {
            seconds: (now.dataplane.gathered_at - before.dataplane.gathered_at) as f64 / 1e9,
            mirrors: before.mirrors.iter().map(|row| (key(row), row)).collect(),
            ports: before.ports.iter().map(|row| (row.ifindex, row)).collect(),
        }
    }

    /// Of an entry, as [`MIRROR`] has it.
    pub(super) fn mirror(&self, now: &EntryRow) -> [Option<f64>; 4] {
        let Some(before) = self.mirrors.get(&key(now)) else { return [None; 4] };
        let grown = |of: Entry| self.grown(before.values.get(of.name()), now.values.get(of.name()));
        [
            grown(Entry::Observed),
            grown(Entry::MirroredPackets),
            grown(Entry::MirroredBytes).map(megabits),
            self.grown(dropped(&before.values), dropped(&now.values)),
        ]
    }

    /// Of a port, as [`PORT`] has it.
    pub(super) fn port(&self, now: &PortRow) -> [Option<f64>; 5] {
        let Some(before) = self.ports.get(&now.ifindex) else { return [None; 5] };
        let grown = |of: Binding| self.grown(before.counts.values.get(of.name()), now.counts.values.get(of.name()));
        [
            grown(Binding::RxPackets),
            grown(Binding::RxBytes).map(megabits),
            grown(Binding::TxPackets),
            grown(Binding::TxBytes).map(megabits),
            before.loss.zip(now.loss).and_then(|(before, now)| self.grown(before, now)),
        ]
    }

    /// A second; `None` for a counter that did not go on.
    fn grown(&self, before: u64, now: u64) -> Option<f64> {
        now.checked_sub(before).map(|by| by as f64 / self.seconds)
    }
}

fn megabits(bytes: f64) -> f64 {
    bytes * 8.0 / 1e6
}
