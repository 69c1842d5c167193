//! The bindings of a status.
//!
//! A binding is one socket: a queue of a port; or a port whose frames the kernel carries, which has none, as queue 0 of
//! the first shard. A worker is a shard. What a mirror entry counts on a shard is put down to the ingress port's first queue
//! there, or to its first of all where the shard has none of its queues any more: a sum over the bindings of a port counts
//! every frame once, and goes on when the port has other queues. Frames belong to a shard, so all bindings of a shard show
//! the same `umem_*` values.

use std::collections::HashMap;

use serde::Serialize;
use shm_layout::counters::Partition;

use crate::control::state::{PortState, StatsReport, Values, crossed};
use crate::rings::RING_ENTRIES;

/// One socket, or a port without.
#[derive(Debug, Serialize)]
pub(super) struct Binding {
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
pub(super) struct Counters {
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

/// A row for each socket, and for each port that the kernel serves in their place.
pub(super) fn counters(report: &StatsReport) -> Vec<Counters> {
    // What has no socket now is none of its bindings.
    let sockets = report
        .bindings
        .iter()
        .filter_map(|row| Some((row.ifindex, row.queue, row.shard?, row.counts.values.clone(), None)));
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

/// The binding of a row.
pub(super) fn binding(row: &Counters, ports: &[PortState], armed: bool) -> Binding {
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

#[cfg(test)]
mod tests {
    use shm_layout::counters::{Binding as Socket, CROSSED_VALUES, Crossed, Entry, LEDGER_VALUES};

    use super::*;
    use crate::control::state::{BindingRow, Counts, Dataplane, EntryRow, EntryShard, PathRow};

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
            known_lost: 0,
            lost_unknown: String::new(),
            lost_by: None,
        }
    }

    fn socket(ifindex: u32, queue: u32) -> BindingRow {
        let [values, kernel, sights] = [0; 3].map(|_| Values::no_entry());
        BindingRow { ifindex, queue, shard: Some(0), counts: Counts { values, kernel, sights } }
    }

    /// An entry of frames that arrive on `port`, of which `mirrored` are mirrored.
    fn entry(ingress_ifindex: u32, port: u32, mirrored: u64) -> EntryRow {
        let mut values = [0; LEDGER_VALUES];
        values[Entry::MirroredPackets as usize] = mirrored;
        let values = Values::new(Entry::DESCRIPTIONS, &values);
        let shards = vec![EntryShard { shard: 0, values: values.clone() }];
        EntryRow { ingress_ifindex, output_ifindex: 22, rate: 1, port, attained_rate: None, values, shards }
    }
}
