//! Whether the counters of `spanctl --json stats` add up.
//!
//! An oracle must not share code with what it checks: this reads the document alone, by the names in it, and does
//! the sums again. A value that is missing is an error and never 0.
//!
//! ```text
//! each entry, each of its shards    observed = not_sampled + selected
//!                                   selected = mirrored_packets + in_flight + every mirror_drops_*
//!                                   mirror_drops_queue_full = _same_worker + _cross_worker, not added again
//! each entry                        each value = the sum of it over the shards
//! each shard and partition          size = free + fill_rx + in_flight + lent
//! ```
//!
//! And what crosses in the kernel: `ways`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::error::{LabError, Result};

mod ways;

/// The counter of one drop reason.
const DROP: &str = "mirror_drops_";
/// The drop reason that comes in parts, and the parts.
const QUEUE_FULL: &str = "mirror_drops_queue_full";
const QUEUE_FULL_PARTS: [&str; 2] = ["mirror_drops_queue_full_same_worker", "mirror_drops_queue_full_cross_worker"];
/// What of a row is no count: who an entry is, and a quotient of its counts.
const NO_COUNTS: [&str; 5] = ["ingress_ifindex", "output_ifindex", "rate", "shard", "attained_rate"];

/// What is asked of the ledgers beyond that they close.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Frames that the entries of an ingress must have observed.
    pub observed: BTreeMap<u128, u128>,
    /// Every selected frame must have been mirrored: none dropped, none in flight.
    pub delivered: bool,
}

/// What was read, and everything that does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// One line for each sum.
    pub lines: Vec<String>,
    /// One line for each contradiction.
    pub problems: Vec<String>,
}

impl Audit {
    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "wrong: {problem}"))?;
        writeln!(f, "{}", if self.holds() { "every ledger closes" } else { "the ledgers do not hold" })
    }
}

/// Checks one document.
///
/// # Errors
/// [`LabError::Stats`]: it is no document of `spanctl --json stats`.
pub fn audit(document: &[u8], expected: &Expected) -> Result<Audit> {
    let document: Value = serde_json::from_slice(document).map_err(|e| LabError::Stats(e.to_string()))?;
    let mut audit = Audit::default();
    let dataplane = member(&document, "", "dataplane")?;
    if member(dataplane, "dataplane", "fresh")?.as_bool() != Some(true) {
        audit.problems.push("these are not the counters of now: no dataplane runs, or it does not answer".to_owned());
    }
    let mirrors = rows(&document, "mirrors")?;
    if mirrors.is_empty() {
        audit.problems.push("there is no mirror entry".to_owned());
    }
    let mut observed = BTreeMap::<u128, u128>::new();
    for (index, entry) in mirrors.iter().enumerate() {
        let total = Row::new(format!("mirrors[{index}]"), entry)?;
        *observed.entry(total.get("ingress_ifindex")?).or_default() += total.get("observed")?;
        audit.lines.push(total.closes(&mut audit.problems)?);
        let parts = rows(entry, "shards")?.iter().enumerate();
        let parts = parts.map(|(part, row)| Row::new(format!("mirrors[{index}].shards[{part}]"), row));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        for part in &parts {
            part.closes(&mut audit.problems)?;
        }
        total.is_sum_of(&parts, &mut audit.problems)?;
        if expected.delivered && total.get("selected")? != total.get("mirrored_packets")? {
            let (selected, mirrored) = (total.get("selected")?, total.get("mirrored_packets")?);
            audit.problems.push(format!("{}: {selected} selected, but {mirrored} mirrored", total.place));
        }
    }
    for (ingress, want) in &expected.observed {
        let found = observed.get(ingress).copied();
        if found != Some(*want) {
            let found = found.map_or("there is no such entry".to_owned(), |found| format!("{found} observed"));
            audit.problems.push(format!("ingress {ingress}: {found}, but {want} expected"));
        }
    }
    for (index, partition) in rows(&document, "umem")?.iter().enumerate() {
        let row = Row::new(format!("umem[{index}]"), partition)?;
        let name = member(partition, &row.place, "partition")?.as_str().unwrap_or_default();
        audit.lines.push(row.is_whole(name, &mut audit.problems)?);
    }
    ways::audit(&document, &mut audit.lines, &mut audit.problems)?;
    Ok(audit)
}

/// A row of counters and where it is in the document.
struct Row<'a> {
    place: String,
    values: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(place: String, row: &'a Value) -> Result<Self> {
        match row.as_object() {
            Some(values) => Ok(Self { place, values }),
            None => Err(LabError::Stats(format!("{place} is no object"))),
        }
    }

    /// Wider than the count, so that no sum of wrapped counts comes out right.
    fn get(&self, name: &str) -> Result<u128> {
        let value = self.values.get(name).and_then(Value::as_u64);
        value.map(u128::from).ok_or_else(|| LabError::Stats(format!("{}.{name} is no count", self.place)))
    }

    /// The sum of every drop reason there is, whatever reasons a later release adds.
    fn dropped(&self) -> Result<u128> {
        let reasons = self.values.keys().filter(|name| name.starts_with(DROP));
        let reasons = reasons.filter(|name| !QUEUE_FULL_PARTS.contains(&name.as_str()));
        reasons.map(|name| self.get(name)).sum()
    }

    /// Checks the equations of one ledger and tells them as one line.
    fn closes(&self, problems: &mut Vec<String>) -> Result<String> {
        let [observed, not_sampled, selected] =
            [self.get("observed")?, self.get("not_sampled")?, self.get("selected")?];
        let [mirrored, in_flight, dropped] = [self.get("mirrored_packets")?, self.get("in_flight")?, self.dropped()?];
        if observed != not_sampled + selected {
            let sum = format!("{not_sampled} not_sampled + {selected} selected");
            problems.push(format!("{}: {observed} observed, but {sum}", self.place));
        }
        if selected != mirrored + in_flight + dropped {
            let sum = format!("{mirrored} mirrored_packets + {in_flight} in_flight + {dropped} dropped");
            problems.push(format!("{}: {selected} selected, but {sum}", self.place));
        }
        let [same, cross] = QUEUE_FULL_PARTS.map(|part| self.get(part));
        let (full, same, cross) = (self.get(QUEUE_FULL)?, same?, cross?);
        if full != same + cross {
            let sum = format!("{same} _same_worker + {cross} _cross_worker");
            problems.push(format!("{}: {full} {QUEUE_FULL}, but {sum}", self.place));
        }
        // A shard's part has none of these, and its line goes unused.
        let identity = |name| self.values.get(name).and_then(Value::as_u64).unwrap_or_default();
        let [ingress, output, rate] = ["ingress_ifindex", "output_ifindex", "rate"].map(identity);
        Ok(format!(
            "mirror {ingress} -> {output} at rate {rate}: observed {observed} = not_sampled {not_sampled} + selected \
             {selected}; selected {selected} = mirrored {mirrored} + in_flight {in_flight} + dropped {dropped}"
        ))
    }

    /// Checks each count against the shards' own. A count that only some of the rows have is an error.
    fn is_sum_of(&self, parts: &[Row<'_>], problems: &mut Vec<String>) -> Result<()> {
        let rows = std::iter::once(self).chain(parts);
        let counts = rows.flat_map(|row| row.values.iter()).filter(|(_, value)| !value.is_array());
        let names: BTreeSet<_> =
            counts.map(|(name, _)| name).filter(|name| !NO_COUNTS.contains(&name.as_str())).collect();
        for name in names {
            let (total, sum) = (self.get(name)?, parts.iter().map(|part| part.get(name)).sum::<Result<u128>>()?);
            if total != sum {
                problems.push(format!("{}: {total} {name}, but its shards have {sum}", self.place));
            }
        }
        Ok(())
    }

    /// Checks that every frame of a partition is somewhere.
    fn is_whole(&self, partition: &str, problems: &mut Vec<String>) -> Result<String> {
        let [shard, size, free] = [self.get("shard")?, self.get("size")?, self.get("free")?];
        let [fill_rx, in_flight] = [self.get("fill_rx")?, self.get("in_flight")?];
        // Frames lent to other shards; an older release has no such count.
        let lent = if self.values.contains_key("lent") { self.get("lent")? } else { 0 };
        let sum = format!("free {free} + fill_rx {fill_rx} + in_flight {in_flight} + lent {lent}");
        if size != free + fill_rx + in_flight + lent {
            problems.push(format!("{}: size {size}, but {sum}", self.place));
        }
        Ok(format!("umem of shard {shard}, {partition}: size {size} = {sum}"))
    }
}

fn member<'a>(value: &'a Value, place: &str, name: &str) -> Result<&'a Value> {
    let dot = if place.is_empty() { "" } else { "." };
    value.get(name).ok_or_else(|| LabError::Stats(format!("{place}{dot}{name} is missing")))
}

fn rows<'a>(value: &'a Value, name: &str) -> Result<&'a [Value]> {
    let rows = member(value, "", name)?.as_array();
    rows.map(Vec::as_slice).ok_or_else(|| LabError::Stats(format!("{name} is no list")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger(observed: u64, not_sampled: u64, mirrored: u64) -> Value {
        json!({
            "observed": observed, "not_sampled": not_sampled, "selected": observed - not_sampled,
            "mirrored_packets": mirrored, "mirrored_bytes": mirrored * 60, "in_flight": 1,
            "mirror_drops_no_frame": 2, "mirror_drops_no_binding": 0, "mirror_drops_queue_full": 3,
            "mirror_drops_queue_full_same_worker": 2, "mirror_drops_queue_full_cross_worker": 1,
            "mirror_drops_oversize": 0, "mirror_drops_output_down": 0, "mirror_drops_tx_invalid": 0,
            "mirror_drops_refused": 0,
        })
    }

    /// One entry on two shards: each observed 50 frames, left out 30, mirrored 14, has 1 in flight and dropped 5.
    fn stats() -> Value {
        let part = |shard: u64| {
            let mut part = ledger(50, 30, 14);
            part["shard"] = json!(shard);
            part
        };
        let mut entry = json!({"ingress_ifindex": 11, "output_ifindex": 22, "rate": 7, "attained_rate": 3.33});
        let (total, parts) = (ledger(50, 30, 14), [part(0), part(1)]);
        for (name, value) in total.as_object().unwrap() {
            entry[name] = json!(2 * value.as_u64().unwrap());
        }
        entry["shards"] = json!(parts);
        json!({
            "dataplane": {"running": true, "fresh": true},
            "mirrors": [entry],
            "paths": [], "ports": [], "bindings": [],
            "umem": [{"shard": 0, "partition": "primary", "size": 64, "free": 32, "fill_rx": 30, "in_flight": 2, "lost": 0}],
        })
    }

    fn problems(document: &Value, expected: &Expected) -> Vec<String> {
        audit(document.to_string().as_bytes(), expected).unwrap().problems
    }

    #[test]
    fn a_closed_ledger_holds_and_is_told() {
        let found = audit(stats().to_string().as_bytes(), &Expected::default()).unwrap();
        assert!(found.holds(), "{found}");
        let text = found.to_string();
        assert!(text.contains("mirror 11 -> 22 at rate 7: observed 100 = not_sampled 60 + selected 40;"), "{text}");
        assert!(text.contains("selected 40 = mirrored 28 + in_flight 2 + dropped 10"), "{text}");
        assert!(text.ends_with("every ledger closes\n"), "{text}");
    }

    #[test]
    fn every_count_of_an_entry_matters() {
        let names: Vec<String> = ledger(50, 30, 14).as_object().unwrap().keys().cloned().collect();
        for name in names {
            for pointer in [format!("/mirrors/0/{name}"), format!("/mirrors/0/shards/1/{name}")] {
                let mut document = stats();
                let value = document.pointer_mut(&pointer).unwrap();
                *value = json!(value.as_u64().unwrap() + 1);
                assert!(!problems(&document, &Expected::default()).is_empty(), "{pointer} one too many");
            }
            let mut document = stats();
            document["mirrors"][0].as_object_mut().unwrap().remove(&name);
            let without = audit(document.to_string().as_bytes(), &Expected::default());
            assert!(matches!(without, Err(LabError::Stats(text)) if text.contains(&name)), "{name} missing");
        }
    }

    #[test]
    fn a_wrapped_count_does_not_close() {
        let mut document = stats();
        document["mirrors"][0]["shards"][0]["in_flight"] = json!(u64::MAX);
        document["mirrors"][0]["shards"][0]["mirrored_packets"] = json!(16);
        assert!(problems(&document, &Expected::default()).iter().any(|problem| problem.contains("shards[0]")));
    }

    #[test]
    fn a_new_drop_reason_counts() {
        let mut document = stats();
        document["mirrors"][0]["mirror_drops_moonlight"] = json!(0);
        document["mirrors"][0]["shards"][0]["mirror_drops_moonlight"] = json!(0);
        document["mirrors"][0]["shards"][1]["mirror_drops_moonlight"] = json!(0);
        assert!(problems(&document, &Expected::default()).is_empty());
        document["mirrors"][0]["mirror_drops_moonlight"] = json!(1);
        document["mirrors"][0]["shards"][1]["mirror_drops_moonlight"] = json!(1);
        assert_eq!(problems(&document, &Expected::default()).len(), 2);
    }

    #[test]
    fn a_lost_frame_of_a_partition_is_found() {
        let mut document = stats();
        document["umem"][0]["free"] = json!(31);
        let found = problems(&document, &Expected::default());
        assert_eq!(found, ["umem[0]: size 64, but free 31 + fill_rx 30 + in_flight 2 + lent 0"]);
        document["umem"][0]["lent"] = json!(1);
        assert!(problems(&document, &Expected::default()).is_empty());
    }

    #[test]
    fn what_is_expected_beyond_closing() {
        let observed = |frames| Expected { observed: [(11, frames)].into(), delivered: false };
        assert!(problems(&stats(), &observed(100)).is_empty());
        assert_eq!(problems(&stats(), &observed(99)), ["ingress 11: 100 observed, but 99 expected"]);
        let other = Expected { observed: [(12, 0)].into(), delivered: false };
        assert_eq!(problems(&stats(), &other), ["ingress 12: there is no such entry, but 0 expected"]);
        let delivered = Expected { delivered: true, ..Expected::default() };
        assert_eq!(problems(&stats(), &delivered), ["mirrors[0]: 40 selected, but 28 mirrored"]);
    }

    #[test]
    fn nothing_to_check_is_not_a_success() {
        let mut document = stats();
        document["mirrors"] = json!([]);
        assert_eq!(problems(&document, &Expected::default()), ["there is no mirror entry"]);
        let mut document = stats();
        document["dataplane"]["fresh"] = json!(false);
        assert_eq!(problems(&document, &Expected::default()).len(), 1);
        for broken in ["", "{}", "[]", "{\"dataplane\":{\"fresh\":true}}"] {
            assert!(matches!(audit(broken.as_bytes(), &Expected::default()), Err(LabError::Stats(_))), "{broken:?}");
        }
        let mut document = stats();
        document["mirrors"][0]["observed"] = json!("100");
        let error = audit(document.to_string().as_bytes(), &Expected::default()).unwrap_err();
        assert_eq!(error.to_string(), "not the document of `spanctl --json stats`: mirrors[0].observed is no count");
    }
}
