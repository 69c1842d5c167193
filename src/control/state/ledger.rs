//! Every counter, by the names of [`shm_layout::counters`].

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use shm_layout::counters::{Entry, LEDGER_VALUES, Partition, REFUSAL_VALUES, RING_VALUES, Shard};
use shm_layout::record::{EntryRecord, PartitionKind, ShardRecord, UmemRecord};

use super::dataplane::Dataplane;
use super::latency::SwapLatency;
use super::live::{FRESH_PATIENCE, fresh_stats};
use super::path::PathRow;
use super::shard::ShardState;
use super::stats::Stats;
use super::traffic::{BindingRow, PortRow, bindings, index, ports};
use super::values::Values;
use super::{StateError, names_of, published};
use crate::clock;
use crate::control::compile::decompile;

/// One shard.
#[derive(Clone, Debug, Serialize)]
pub struct ShardRow {
    /// Which, where, and the table it uses.
    #[serde(flatten)]
    pub shard: ShardState,
    /// Values of [`Shard`].
    #[serde(flatten)]
    pub values: Values,
    /// How soon it used what was published.
    pub swap_latency: SwapLatency,
}

/// One mirror entry: the sum of its shards.
#[derive(Clone, Debug, Serialize)]
pub struct EntryRow {
    /// Ingress of the entry.
    pub ingress_ifindex: u32,
    /// Output of the entry.
    pub output_ifindex: u32,
    /// Its rate: the one asked for.
    pub rate: u32,
    /// The port its frames arrive on, as far as the dataplane says: the ingress, or the port of a VLAN unit.
    #[serde(skip)]
    pub port: u32,
    /// The one attained; see [`attained_rate`].
    pub attained_rate: Option<f64>,
    /// Values of [`Entry`].
    #[serde(flatten)]
    pub values: Values,
    /// Its parts.
    pub shards: Vec<EntryShard>,
}

impl EntryRow {
    /// Whether every frame is accounted for: see [`Entry::closes`].
    #[must_use]
    pub fn closes(&self) -> bool {
        self.values.first::<LEDGER_VALUES>().is_some_and(Entry::closes)
    }
}

/// The rate a ledger comes to: frames observed for each one mirrored or on its way, 1.0 or more. Above the rate
/// asked for where selected frames were dropped. `None` where nothing was mirrored.
#[must_use]
pub fn attained_rate(ledger: &Values) -> Option<f64> {
    let value = |entry: Entry| ledger.get(entry.name());
    match value(Entry::MirroredPackets).saturating_add(value(Entry::InFlight)) {
        0 => None,
        mirrored => Some(value(Entry::Observed) as f64 / mirrored as f64),
    }
}

/// One mirror entry on one shard.
#[derive(Clone, Debug, Serialize)]
pub struct EntryShard {
    /// The shard.
    pub shard: u32,
    /// Values of [`Entry`].
    #[serde(flatten)]
    pub values: Values,
}

/// One UMEM partition of one shard.
#[derive(Clone, Debug, Serialize)]
pub struct UmemRow {
    /// The shard.
    pub shard: u32,
    /// `primary` or `mirror`.
    pub partition: &'static str,
    /// Values of [`Partition`].
    #[serde(flatten)]
    pub values: Values,
}

/// The document of `spanctl stats`.
#[derive(Clone, Debug, Serialize)]
pub struct StatsReport {
    /// The dataplane; the values below are its last ones where it does not run.
    pub dataplane: Dataplane,
    /// One row a shard.
    pub shards: Vec<ShardRow>,
    /// One row a port.
    pub ports: Vec<PortRow>,
    /// One row a socket.
    pub bindings: Vec<BindingRow>,
    /// One row a port of a wire; none of a dataplane that does not say.
    pub paths: Vec<PathRow>,
    /// One row a mirror entry, in the order of the table in use.
    pub mirrors: Vec<EntryRow>,
    /// One row a shard and partition.
    pub umem: Vec<UmemRow>,
    /// The published snapshot's names of ifindexes, as far as there are any.
    #[serde(skip)]
    pub names: HashMap<u32, String>,
}

/// Reads the counters of `dir`, gathered after this call where a dataplane runs and answers.
///
/// # Errors
/// [`StateError::Nothing`] where no dataplane ever ran; or the region cannot be read.
pub fn stats(dir: &Path) -> Result<StatsReport, StateError> {
    let asked = clock::monotonic_ns();
    match fresh_stats(dir, asked, FRESH_PATIENCE)? {
        // Names are a convenience: counters are shown whether or not a snapshot can be read.
        Some(stats) => Ok(StatsReport { names: names(dir).unwrap_or_default(), ..StatsReport::of(&stats) }),
        None => Err(StateError::Nothing {
            dir: dir.to_owned(),
            what: "there are no statistics: no dataplane has run here (spanwired)",
        }),
    }
}

fn names(dir: &Path) -> Option<HashMap<u32, String>> {
    let published = published(dir).ok()??;
    Some(names_of(&decompile(&published.view().ok()?)))
}

impl StatsReport {
    /// The document of one image of `stats.shm`.
    #[must_use]
    pub fn of(stats: &Stats) -> StatsReport {
        let bindings = bindings(stats);
        StatsReport {
            dataplane: Dataplane::of(Some(stats)),
            shards: stats
                .shard_states()
                .into_iter()
                .zip(stats.shards.iter().enumerate())
                .map(|(shard, (i, row))| ShardRow {
                    swap_latency: stats
                        .swaps
                        .iter()
                        .find(|s| s.shard == shard.id)
                        .map(SwapLatency::of)
                        .unwrap_or_default(),
                    values: Values::new(Shard::DESCRIPTIONS, &row.values).with(stats.newer.tail::<ShardRecord>(i)),
                    shard,
                })
                .collect(),
            ports: ports(stats, &bindings),
            bindings,
            paths: stats.paths.clone(),
            mirrors: mirrors(stats),
            umem: stats
                .umem
                .iter()
                .enumerate()
                .map(|(i, row)| UmemRow {
                    shard: row.shard,
                    partition: match row.partition {
                        PartitionKind::Primary => "primary",
                        PartitionKind::Mirror => "mirror",
                    },
                    values: Values::new(Partition::DESCRIPTIONS, &row.values).with(stats.newer.tail::<UmemRecord>(i)),
                })
                .collect(),
            names: HashMap::new(),
        }
    }
}

/// The entries of the table in use, then those that only have counts left.
fn mirrors(stats: &Stats) -> Vec<EntryRow> {
    let mut rows: Vec<EntryRow> = Vec::new();
    let blank = |(ingress_ifindex, output_ifindex, rate)| EntryRow {
        ingress_ifindex,
        output_ifindex,
        rate,
        port: ingress_ifindex,
        attained_rate: None,
        values: Values::zero(Entry::DESCRIPTIONS),
        shards: Vec::new(),
    };
    let states = stats.entry_states.iter().map(|(row, _)| (row.ingress_ifindex, row.output_ifindex, row.rate));
    rows.extend(states.map(blank));
    for (row, place) in rows.iter_mut().zip(&stats.places) {
        row.port = place.port_ifindex;
    }
    let mut at = index(rows.iter().map(|row| (row.ingress_ifindex, row.output_ifindex, row.rate)));
    for (i, part) in stats.entries.iter().enumerate() {
        let key = (part.ingress_ifindex, part.output_ifindex, part.rate);
        let row = *at.entry(key).or_insert(rows.len());
        if row == rows.len() {
            rows.push(blank(key));
        }
        // A dataplane of an older release has fewer.
        let refusals = stats.refusals.get(i).map_or([0; REFUSAL_VALUES], |row| row.values);
        let rings = stats.rings.get(i).map_or([0; RING_VALUES], |row| row.values);
        let ledger = [&part.values[..], &refusals, &rings].concat();
        let values = Values::new(Entry::DESCRIPTIONS, &ledger).with(stats.newer.tail::<EntryRecord>(i));
        rows[row].values.add(&values);
        rows[row].shards.push(EntryShard { shard: part.shard, values });
    }
    for row in &mut rows {
        row.attained_rate = attained_rate(&row.values);
    }
    rows
}
