//! The mirror frames a snapshot can need, held against those a dataplane has.
//!
//! ```text
//! a port with entries     one batch of clones being sent + one being filled
//! each shard              the sum over the ports, as any shard may serve a queue of each
//! ```
//!
//! With fewer a burst loses clones (`mirror_drops_no_frame`) even where the monitor port keeps up. Forwarding is
//! never touched, so a snapshot is published all the same, with a warning.

use std::collections::HashSet;

use shm_layout::record::PlaceRecord;

use super::model::{Diagnostic, Severity, Wire};
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
