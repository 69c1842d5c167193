//! What crosses in the kernel, by the same document.
//!
//! ```text
//! each way from a port of a wire    lost = every lost_*, where it is known what was lost
//!                                   crossed_packets = sent by the other port + lost
//! each port                         rx_packets = of its bindings + crossed_packets + crossed_no_peer from it
//!                                   tx_packets = of its bindings + crossed_packets - lost to it
//!                                   tx_lost    = of its bindings + lost to it
//! ```

use serde_json::Value;

use super::{Row, rows};
use crate::error::{LabError, Result};

/// The counter of one way to lose a frame.
const LOST: &str = "lost_";
/// Why it is not known what was lost, among those.
const UNKNOWN: &str = "lost_unknown";

/// The way from a port of a wire to the other one.
struct Way<'a> {
    row: Row<'a>,
    from: u128,
    to: u128,
    crossed: u128,
    no_peer: u128,
    /// `None` where nobody knows.
    lost: Option<u128>,
}

impl<'a> Way<'a> {
    fn new(index: usize, row: &'a Value) -> Result<Self> {
        let row = Row::new(format!("paths[{index}]"), row)?;
        let lost = if row.values.get("lost").is_some_and(Value::is_null) { None } else { Some(row.get("lost")?) };
        let [from, to] = [row.get("ifindex")?, row.get("peer_ifindex")?];
        let [crossed, no_peer] = [row.get("crossed_packets")?, row.get("crossed_no_peer")?];
        Ok(Self { from, to, crossed, no_peer, lost, row })
    }

    /// Checks the equations of one way and tells them as one line.
    fn closes(&self, problems: &mut Vec<String>) -> Result<String> {
        let Self { row, from, to, crossed, .. } = self;
        let why = row.values.get(UNKNOWN).and_then(Value::as_str);
        let why = why.ok_or_else(|| LabError::Stats(format!("{}.{UNKNOWN} is no text", row.place)))?;
        let kinds = row.values.keys().filter(|name| name.starts_with(LOST) && *name != UNKNOWN);
        let kinds = kinds.map(|name| row.get(name)).collect::<Result<Vec<_>>>()?;
        let Some(lost) = self.lost else {
            if why.is_empty() || !kinds.is_empty() {
                problems.push(format!(
                    "{}: what was lost is not known, but {} counts and {why:?}",
                    row.place,
                    kinds.len()
                ));
            }
            return Ok(format!("way {from} -> {to}: crossed {crossed}, lost unknown"));
        };
        let sum: u128 = kinds.iter().sum();
        if kinds.is_empty() || lost != sum || !why.is_empty() {
            problems.push(format!(
                "{}: {lost} lost, but {} counts of it come to {sum}; {why:?}",
                row.place,
                kinds.len()
            ));
        }
        if lost > *crossed {
            problems.push(format!("{}: {lost} lost of {crossed} crossed_packets", row.place));
        }
        Ok(format!("way {from} -> {to}: crossed {crossed} = sent {} + lost {lost}", crossed.saturating_sub(lost)))
    }
}

/// Checks what crosses, against what the ports say they have received, sent and lost.
pub(super) fn audit(document: &Value, lines: &mut Vec<String>, problems: &mut Vec<String>) -> Result<()> {
    let ways = rows(document, "paths")?.iter().enumerate();
    let ways = ways.map(|(index, row)| Way::new(index, row)).collect::<Result<Vec<_>>>()?;
    for way in &ways {
        lines.push(way.closes(problems)?);
    }
    let bindings = rows(document, "bindings")?.iter().enumerate();
    let bindings = bindings.map(|(index, row)| Row::new(format!("bindings[{index}]"), row));
    let bindings =
        bindings.map(|row| row.and_then(|row| Ok((row.get("ifindex")?, row)))).collect::<Result<Vec<_>>>()?;
    for (index, port) in rows(document, "ports")?.iter().enumerate() {
        let port = Row::new(format!("ports[{index}]"), port)?;
        let ifindex = port.get("ifindex")?;
        let (mut received, mut sent, mut lost) = (0, 0, 0);
        for way in &ways {
            if way.from == ifindex {
                received += way.crossed + way.no_peer;
            }
            if way.to == ifindex {
                sent += way.crossed.saturating_sub(way.lost.unwrap_or_default());
                lost += way.lost.unwrap_or_default();
            }
        }
        for (name, carried) in [("rx_packets", received), ("tx_packets", sent), ("tx_lost", lost)] {
            let own = bindings.iter().filter(|(of, _)| *of == ifindex).map(|(_, row)| row.get(name));
            let own = own.sum::<Result<u128>>()?;
            let total = port.get(name)?;
            if total != own + carried {
                let sum = format!("{own} of its bindings + {carried} that the kernel carried");
                problems.push(format!("{}: {total} {name}, but {sum}", port.place));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of port 11 six frames crossed and two had nowhere to go; of the six port 12 sent five. Each has a binding of before.
    fn stats() -> Value {
        let way = |from: u32, to: u32, crossed: u64, lost: u64| {
            json!({
                "ifindex": from, "peer_ifindex": to, "path": "tc", "reason": "", "crossed_packets": crossed,
                "crossed_bytes": 60 * crossed, "crossed_no_peer": 2 * lost, "crossed_unseen": 9, "lost": lost,
                "lost_unknown": "", "lost_device": lost, "lost_queue": 0,
            })
        };
        let port = |ifindex: u32, received: u64, sent: u64, lost: u64| json!({"ifindex": ifindex, "rx_packets": received, "tx_packets": sent, "tx_lost": lost});
        json!({
            "paths": [way(11, 12, 6, 1), way(12, 11, 0, 0)],
            "ports": [port(11, 6 + 2 + 10, 20, 0), port(12, 30, 5 + 40, 1 + 1), port(22, 0, 8, 0)],
            "bindings": [port(11, 10, 20, 0), port(12, 30, 30, 1), port(12, 0, 10, 0), port(22, 0, 8, 0)],
        })
    }

    fn problems(document: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        audit(document, &mut Vec::new(), &mut problems).unwrap();
        problems
    }

    #[test]
    fn what_crossed_was_sent_or_lost_and_is_told() {
        let (mut lines, mut problems) = (Vec::new(), Vec::new());
        audit(&stats(), &mut lines, &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(lines, ["way 11 -> 12: crossed 6 = sent 5 + lost 1", "way 12 -> 11: crossed 0 = sent 0 + lost 0"]);
    }

    #[test]
    fn every_count_matters() {
        let ways = ["crossed_packets", "crossed_no_peer", "lost", "lost_device", "lost_queue"];
        let ways = ways.map(|name| format!("/paths/0/{name}"));
        let ports = ["/ports/0/rx_packets", "/ports/1/tx_packets", "/ports/1/tx_lost", "/bindings/2/tx_packets"];
        for pointer in ways.iter().map(String::as_str).chain(ports) {
            let mut document = stats();
            let value = document.pointer_mut(pointer).unwrap();
            *value = json!(value.as_u64().unwrap() + 1);
            assert!(!problems(&document).is_empty(), "{pointer} one too many");
            *document.pointer_mut(pointer).unwrap() = json!("1");
            let without = audit(&document, &mut Vec::new(), &mut Vec::new());
            assert!(matches!(without, Err(LabError::Stats(_))), "{pointer} is no count");
        }
    }

    #[test]
    fn more_cannot_be_lost_than_crossed() {
        let mut document = stats();
        document["paths"][0]["crossed_packets"] = json!(0);
        assert!(problems(&document).contains(&"paths[0]: 1 lost of 0 crossed_packets".to_owned()));
    }

    #[test]
    fn what_is_not_known_says_why() {
        let mut document = stats();
        let way = document["paths"][1].as_object_mut().unwrap();
        way["lost"] = Value::Null;
        way.retain(|name, _| !["lost_device", "lost_queue"].contains(&name.as_str()));
        assert_eq!(problems(&document), ["paths[1]: what was lost is not known, but 0 counts and \"\""]);
        document["paths"][1]["lost_unknown"] = json!("no tracepoints");
        assert!(problems(&document).is_empty());
        document["paths"][1]["lost_device"] = json!(0);
        assert_eq!(problems(&document).len(), 1);
    }
}
