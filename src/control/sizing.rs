//! The mirror frames a snapshot can need, held against those a dataplane has.
//!
//! ```text
//! a port with entries     one batch of clones being sent + one being filled
//! each shard              the sum over the ports, as any shard may serve a queue of each
//! ```
//!
//! With fewer a burst loses clones (`mirror_drops_no_frame`) even where the monitor port keeps up. Forwarding is
//! never touched, so a snapshot is published all the same, with a warning.
//!
//! And the sockets of its wires, held against those there is room for: with more a wire would forward nothing, so it is
//! refused. Each queue of a port is a socket. How many queues a port has only the dataplane knows, once it serves it;
//! until then one is sure.

use std::collections::{HashMap, HashSet};

use shm_layout::record::{CAP_MIRROR, PlaceRecord, SeatRecord};

use super::model::{Diagnostic, Reason, Severity, Wire};
use super::state::Stats;

/// Frames a shard takes from a port at once, each of which may be cloned.
const BATCH: u64 = 64;
/// Batches of clones a port can have on the way: one is being sent while the next is filled.
const BATCHES: u64 = 2;

/// Mirror frames that entries of these places can need on each shard.
#[must_use]
pub fn frames_needed(places: &[PlaceRecord], wires: &[Wire]) -> u64 {
    BATCHES * BATCH * mirrored_ports(places, wires) as u64
}

/// Ports of wires that have entries, those of their VLAN units included. What is on no wire receives nothing.
fn mirrored_ports(places: &[PlaceRecord], wires: &[Wire]) -> usize {
    let on_wire: HashSet<u32> = wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect();
    let ports: HashSet<u32> = places.iter().map(|place| place.port_ifindex).collect();
    ports.intersection(&on_wire).count()
}

/// The warning for entries that can need more mirror frames than this dataplane has.
#[must_use]
pub fn shortage(places: &[PlaceRecord], wires: &[Wire], dataplane: &Stats) -> Option<Diagnostic> {
    let (needed, has) = (frames_needed(places, wires), dataplane.mirror_frames());
    (needed > u64::from(has)).then(|| Diagnostic {
        severity: Severity::Warning,
        subject: "mirror_configs".to_owned(),
        message: format!(
            "the entries can need {needed} mirror frames on each shard ({BATCHES} batches of {BATCH} a port; ports with \
             entries: {}), but the running dataplane (process {}) has {has}: bursts lose clones, mirror_drops_no_frame \
             (restart spanwired with --mirror-frames {needed} or more)",
            mirrored_ports(places, wires),
            dataplane.pid()
        ),
    })
}

/// Why this dataplane cannot serve all of these wires, with entries of these places, where that is sure.
#[must_use]
pub fn overload(places: &[PlaceRecord], wires: &[Wire], dataplane: &Stats) -> Option<Reason> {
    let room = dataplane.room()?;
    let shards = dataplane.shards().max(1);
    let queues: HashMap<u32, u32> = dataplane.ports().iter().map(|port| (port.ifindex, port.queues)).collect();
    let queues = |port: u32| queues.get(&port).copied().unwrap_or(0).max(1);
    // Queue q belongs to shard (q mod m) mod n.
    let owned = |queues: u32, width: u32, shard| (0..queues).filter(|q| q % width % shards == shard).count() as u32;
    let ends: HashSet<u32> = wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect();
    let outputs: HashSet<u32> = places.iter().map(|place| place.output_ifindex).collect();
    let outputs = if dataplane.capabilities() & CAP_MIRROR == 0 { HashSet::new() } else { outputs };
    (0..shards).find_map(|shard| {
        let pairs = wires.iter().map(|wire| [queues(wire.a_ifindex), queues(wire.b_ifindex)]);
        let sockets: u32 = pairs.map(|[a, b]| owned(a, a.min(b), shard) + owned(b, a.min(b), shard)).sum();
        let monitors: u32 = outputs.iter().map(|&port| owned(queues(port), queues(port), shard)).sum();
        let pid = dataplane.pid();
        if sockets + monitors > room.sockets {
            return Some(Reason::new(format!(
                "wires: they need {} sockets of shard {shard}, but each shard of the running dataplane (process {pid}) \
                 serves at most {} (restart spanwired with more processors, --cpus)",
                sockets + monitors,
                room.sockets
            )));
        }
        let needed = sockets * room.share;
        if room.frames == 0 || sockets == 0 {
            return None;
        }
        let stays = |seat: &&SeatRecord| seat.shard == shard && ends.contains(&seat.ifindex);
        let kept = dataplane.seats().iter().filter(stays);
        let (seated, held) = kept.fold((0, 0), |(seats, frames), seat| (seats + 1, frames + seat.frames));
        let left = room.frames.saturating_sub(held);
        let more = sockets.saturating_sub(seated);
        (needed > room.frames || more * room.share > left).then(|| {
            Reason::new(format!(
                "wires: {more} more sockets on shard {shard} need at least {} frames each, but of its --frames {} the \
                 running dataplane (process {pid}) has {left} left (restart spanwired with --frames {} or more, or without \
                 --frames)",
                room.share,
                room.frames,
                needed.max(room.frames)
            ))
        })
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::shard::rx;

    #[test]
    fn two_batches_for_each_port_with_entries() {
        assert_eq!(BATCH, rx::BATCH as u64, "what a shard takes at once");
        let wires = [(11, 12), (13, 14)].map(|(a_ifindex, b_ifindex)| Wire { a_ifindex, b_ifindex, ..Wire::default() });
        let place = |&(port, vlan_id): &(u32, u16)| PlaceRecord { vlan_id, ..PlaceRecord::of_ports(port, 22) };
        for (places, ports) in [
            (&[][..], 0),
            (&[(11, 0)], 1),
            (&[(11, 0), (12, 0), (13, 0)], 3),
            (&[(11, 10)], 1),
            (&[(11, 0), (11, 10), (11, 11)], 1),
            (&[(11, 10), (13, 10), (12, 0)], 3),
            (&[(77, 0)], 0),
            (&[(77, 0), (11, 0)], 1),
        ] {
            let places: Vec<PlaceRecord> = places.iter().map(place).collect();
            assert_eq!(frames_needed(&places, &wires), 128 * ports, "{places:?}");
            assert_eq!(frames_needed(&places, &[]), 0, "nothing is received");
        }
    }
}
