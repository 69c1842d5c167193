//! The mirror frames a snapshot can need, held against those a dataplane has.
//!
//! ```text
//! a port with entries     one batch of clones being sent + one being filled, each of as many frames as its MTU takes
//! each shard              the sum over the ports, as any shard may serve a queue of each
//! ```
//!
//! With fewer a burst loses clones (`mirror_drops_no_frame`) even where the monitor port keeps up. Forwarding is
//! never touched, so a snapshot is published all the same, with a warning.
//!
//! And the sockets of its wires, held against those there is room for: with more a wire would forward nothing, so it is
//! refused. Each queue of a port is a socket, and shard 0 has the most of them. How many queues a port has only the
//! dataplane knows, while it serves it; of any other one is sure.

use std::collections::{BTreeMap, HashMap, HashSet};

use shm_layout::record::{CAP_LINK_LOSS, CAP_MIRROR, PlaceRecord};
use shm_layout::{CLONE_FRAMES, MULTI_BUFFER};

use super::stats::Stats;
use crate::control::diagnostic::{Diagnostic, Reason, Severity};
use crate::control::model::Wire;

/// Frames a shard takes from a port at once, each of which may be cloned.
const BATCH: u64 = 64;
/// Queues counted of a port, at most: more than a device has.
const MOST_QUEUES: u32 = 4096;
/// Bytes of an Ethernet header.
const ETH_HLEN: u32 = 14;
/// Bytes of a VLAN tag.
const VLAN_HLEN: u32 = 4;
/// Bytes of the largest frame that `--frame-size` takes.
const LARGEST_FRAME: u32 = 4096;
/// Batches of clones a port can have on the way: one is being sent while the next is filled.
const BATCHES: u64 = 2;

/// Mirror frames that entries of these places can need on each shard, of the running dataplane where one is.
#[must_use]
pub(in crate::control) fn frames_needed(places: &[PlaceRecord], wires: &[Wire], dataplane: Option<&Stats>) -> u64 {
    bursts(places, wires, dataplane).iter().map(|burst| BATCHES * BATCH * u64::from(burst.frames)).sum()
}

/// A port of a wire that has entries, those of its VLAN units included. What is on no wire receives nothing.
#[derive(Debug)]
struct Burst {
    ifindex: u32,
    mtu: u32,
    /// That its longest clones take each; 1 where nobody tells how long they are.
    frames: u32,
}

fn bursts(places: &[PlaceRecord], wires: &[Wire], dataplane: Option<&Stats>) -> Vec<Burst> {
    let on_wire: HashSet<u32> = wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect();
    let mtu_of = |ifindex: u32| dataplane?.ports().iter().find(|port| port.ifindex == ifindex).map(|port| port.mtu);
    // With the largest MTU of its outputs: what is longer has no clone.
    let mut ports: BTreeMap<u32, u32> = BTreeMap::new();
    let mut seen = HashMap::new();
    for place in places.iter().filter(|place| on_wire.contains(&place.port_ifindex)) {
        let output = place.output_ifindex;
        let mtu = *seen.entry(output).or_insert_with(|| mtu_of(output).unwrap_or(u32::MAX));
        let most = ports.entry(place.port_ifindex).or_default();
        *most = mtu.max(*most);
    }
    let burst = |(ifindex, output)| {
        let mtu = mtu_of(ifindex).unwrap_or_default();
        let frames = dataplane.map_or(1, |dataplane| frames_of(mtu.min(output), dataplane));
        Burst { ifindex, mtu, frames }
    };
    ports.into_iter().map(burst).collect()
}

/// Frames of this dataplane that a clone takes of a packet as long as this MTU lets it be.
fn frames_of(mtu: u32, dataplane: &Stats) -> u32 {
    let frames = mtu.saturating_add(ETH_HLEN + VLAN_HLEN).div_ceil(dataplane.frame_size().max(1));
    frames.clamp(1, most_frames(dataplane))
}

/// Frames of this dataplane that a clone may take.
fn most_frames(dataplane: &Stats) -> u32 {
    if dataplane.has_feature(MULTI_BUFFER) { CLONE_FRAMES } else { 1 }
}

/// What this dataplane has too little of for entries of these places and these wires, or cannot do for them.
#[must_use]
pub(in crate::control) fn too_little(places: &[PlaceRecord], wires: &[Wire], dataplane: &Stats) -> Vec<Diagnostic> {
    let all = [shortage(places, wires, dataplane), too_long(places, dataplane), unforwarded(wires, dataplane)];
    all.into_iter().flatten().collect()
}

/// The warning for entries mirror frames than this dataplane has.
#[must_use]
pub(in crate::control) fn shortage(places: &[PlaceRecord], wires: &[Wire], dataplane: &Stats) -> Option<Diagnostic> {
    let (needed, has) = (frames_needed(places, wires, Some(dataplane)), dataplane.mirror_frames());
    if needed <= u64::from(has) {
        return None;
    }
    let bursts = bursts(places, wires, Some(dataplane));
    let longest = bursts.iter().filter(|burst| burst.frames > 1).max_by_key(|burst| burst.frames);
    let longest = longest.map_or_else(String::new, |Burst { ifindex, mtu, frames }| {
        format!(", clones of up to {frames} frames: ifindex {ifindex} with its MTU of {mtu}")
    });
    Some(Diagnostic {
        severity: Severity::Warning,
        subject: "mirror_configs".to_owned(),
        message: format!(
            "the entries can need {needed} mirror frames on each shard ({BATCHES} batches of {BATCH} a port{longest}; ports with \
             entries: {}), but the running dataplane (process {}) has {has}: bursts lose clones, mirror_drops_no_frame \
             (restart spanwired with --mirror-frames {needed} or more)",
            bursts.len(),
            dataplane.pid()
        ),
    })
}

/// The warning for entries of ports that receive larger frames than a clone of this dataplane can be.
fn too_long(places: &[PlaceRecord], dataplane: &Stats) -> Option<Diagnostic> {
    let frame_size = dataplane.frame_size();
    let holds = frame_size.saturating_mul(most_frames(dataplane));
    let mirrored: HashSet<u32> = places.iter().map(|place| place.port_ifindex).collect();
    let is_over = |mtu: u32| mtu.saturating_add(ETH_HLEN) > holds;
    let over: Vec<_> =
        dataplane.ports().iter().filter(|port| mirrored.contains(&port.ifindex) && is_over(port.mtu)).collect();
    let largest = over.iter().max_by_key(|port| port.mtu)?;
    let advice = match frame_size < LARGEST_FRAME {
        true => format!(" (--frame-size {LARGEST_FRAME} holds more)"),
        false => String::new(),
    };
    Some(Diagnostic {
        severity: Severity::Warning,
        subject: "mirror_configs".to_owned(),
        message: format!(
            "frames above {holds} bytes are not mirrored, as mirror_drops_oversize: no more fits the mirror frames of the running \
             dataplane (process {}){advice}, and of the ports with entries {} may receive longer ones, ifindex {} with its MTU of \
             {}",
            dataplane.pid(),
            over.len(),
            largest.ifindex,
            largest.mtu
        ),
    })
}

/// The warning for wires that are to forward the loss of a link, where this dataplane does not know how.
fn unforwarded(wires: &[Wire], dataplane: &Stats) -> Option<Diagnostic> {
    let wanted = wires.iter().filter(|wire| wire.link_loss_forwarding).count();
    (wanted > 0 && dataplane.capabilities() & CAP_LINK_LOSS == 0).then(|| Diagnostic {
        severity: Severity::Warning,
        subject: "wires".to_owned(),
        message: format!(
            "link_loss_forwarding of {wanted} of them has no effect: the running dataplane (process {}) is of an older \
             release (restart spanwired with this one)",
            dataplane.pid()
        ),
    })
}

/// Why this dataplane cannot serve all of these wires, with entries of these places, where that is sure: what it serves now
/// is never refused. How the frames are divided among the wires by now does not matter, as they are divided anew.
#[must_use]
pub(in crate::control) fn overload(places: &[PlaceRecord], wires: &[Wire], dataplane: &Stats) -> Option<Reason> {
    let room = dataplane.room()?;
    let shards = dataplane.shards().max(1);
    let served = dataplane.ports().iter().filter(|port| port.queues > 0);
    let queues: HashMap<u32, u32> = served.map(|port| (port.ifindex, port.queues.min(MOST_QUEUES))).collect();
    let outputs: HashSet<u32> = places.iter().map(|place| place.output_ifindex).collect();
    let outputs = if dataplane.capabilities() & CAP_MIRROR == 0 { HashSet::new() } else { outputs };
    let ends = wires.iter().map(|wire| [wire.a_ifindex, wire.b_ifindex]);
    let unknown = ends.clone().flatten().filter(|port| !queues.contains_key(port)).count();
    let of_wires: u64 = ends.map(|ends| on_first_shard(ends.map(|port| queues.get(&port).copied()), shards)).sum();
    let monitors =
        outputs.iter().map(|port| first_shards(queues.get(port).map_or(1, |&queues| queues), MOST_QUEUES, shards));
    let sockets = of_wires + monitors.sum::<u64>();
    let pid = dataplane.pid();
    if sockets > u64::from(room.sockets) {
        return Some(Reason::new(format!(
            "wires: they need {sockets} sockets of shard 0, but each shard of the running dataplane (process {pid}) serves at \
             most {} (restart spanwired with more processors, --cpus)",
            room.sockets
        )));
    }
    let needed = of_wires * u64::from(room.share);
    let at_least = match unknown {
        0 => String::new(),
        _ => format!(
            "; {unknown} of their ports are not served yet and counted with one queue: more where they have more"
        ),
    };
    (room.frames != 0 && needed > u64::from(room.frames)).then(|| {
        Reason::new(format!(
            "wires: they need {of_wires} sockets of shard 0 and {} frames for each, but the running dataplane (process {pid}) \
             has --frames {} (restart spanwired with --frames {needed} or more, or without --frames{at_least})",
            room.share, room.frames
        ))
    })
}

/// Sockets of shard 0 that a wire needs at least, whose ports have so many rx queues, where that is known. Its lanes are as
/// many as the queues both ports have each way, and of tx queues nothing is known.
fn on_first_shard(queues: [Option<u32>; 2], shards: u32) -> u64 {
    let most = queues.into_iter().flatten().min().unwrap_or(1);
    let with = |lanes| queues.iter().map(|queues| first_shards(queues.unwrap_or(1), lanes, shards)).sum();
    (1..=most).map(with).min().unwrap_or(2)
}

/// Of so many queues those that are shard 0's, where queue q goes with lane q mod `lanes`, and lane l belongs to shard
/// l mod `shards`.
fn first_shards(queues: u32, lanes: u32, shards: u32) -> u64 {
    let (rounds, rest) = (queues / lanes, queues % lanes);
    u64::from(rounds) * u64::from(lanes.div_ceil(shards)) + u64::from(rest.div_ceil(shards))
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
            assert_eq!(frames_needed(&places, &wires, None), 128 * ports, "{places:?}");
            assert_eq!(frames_needed(&places, &[], None), 0, "nothing is received");
        }
    }

    #[test]
    fn of_a_wire_s_queues_those_count_that_are_shard_0_s_whatever_the_tx_queues() {
        for (queues, shards, sockets) in [
            ([Some(4), Some(4)], 1, 8),
            ([Some(4), Some(4)], 2, 4),
            ([Some(4), None], 2, 3),
            ([None, None], 2, 2),
            ([Some(8), Some(1)], 2, 9),
            ([Some(6), Some(3)], 2, 5),
            ([Some(1), Some(1)], 4, 2),
            ([Some(5), Some(5)], 3, 4),
        ] {
            assert_eq!(on_first_shard(queues, shards), sockets, "{queues:?} on {shards}");
        }
        // As a shard counts them.
        for (queues, lanes, shards) in [(5, 3, 2), (6, 3, 2), (7, 7, 3), (1, 4, 2), (9, 2, 4)] {
            let counted = (0..queues).filter(|queue| queue % lanes % shards == 0).count();
            assert_eq!(first_shards(queues, lanes, shards), counted as u64, "{queues} {lanes} {shards}");
        }
    }
}
