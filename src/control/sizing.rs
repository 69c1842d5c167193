//! The mirror frames a snapshot can need, held against those a dataplane has.
//!
//! ```text
//! a port with entries     one batch of clones being sent + one being filled
//! each shard              the sum over the ports, as any shard may serve a queue of each
//! ```
//!
//! With fewer a burst loses clones (`mirror_drops_no_frame`) even where the monitor port keeps up. Forwarding is
//! never touched, so a snapshot is published all the same, with a warning.

use std::collections::{HashMap, HashSet};

use super::model::{Diagnostic, Severity, Snapshot};
use super::state::Stats;

/// Frames a shard takes from a port at once, each of which may be cloned.
const BATCH: u64 = 64;
/// Batches of clones a port can have on the way: one is being sent while the next is filled.
const BATCHES: u64 = 2;

/// Mirror frames that the entries of a snapshot can need on each shard.
#[must_use]
pub fn frames_needed(snapshot: &Snapshot) -> u64 {
    BATCHES * BATCH * mirrored_ports(snapshot) as u64
}

/// Ports of wires that have entries, those of their VLAN interfaces included. What is on no wire receives nothing.
fn mirrored_ports(snapshot: &Snapshot) -> usize {
    let on_wire: HashSet<u32> = snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect();
    let mut parents = HashMap::with_capacity(snapshot.interfaces.len());
    for interface in &snapshot.interfaces {
        parents.entry(interface.ifindex).or_insert(interface.vlan().map(|(parent, _)| parent));
    }
    let port = |ingress: u32| {
        // A VLAN interface that is itself a port of a wire is mirrored as that port.
        let parent = parents.get(&ingress).copied().flatten().filter(|_| !on_wire.contains(&ingress));
        parent.unwrap_or(ingress)
    };
    let ports: HashSet<u32> = snapshot.mirrors.iter().map(|mirror| port(mirror.ingress_ifindex)).collect();
    ports.intersection(&on_wire).count()
}

/// The warning for a snapshot that can need more mirror frames than this dataplane has.
#[must_use]
pub fn shortage(snapshot: &Snapshot, dataplane: &Stats) -> Option<Diagnostic> {
    let (needed, has) = (frames_needed(snapshot), dataplane.mirror_frames());
    (needed > u64::from(has)).then(|| Diagnostic {
        severity: Severity::Warning,
        subject: "mirror_configs".to_owned(),
        message: format!(
            "the entries can need {needed} mirror frames on each shard ({BATCHES} batches of {BATCH} a port; ports with \
             entries: {}), but the running dataplane (process {}) has {has}: bursts lose clones, mirror_drops_no_frame \
             (restart spanwired with --mirror-frames {needed} or more)",
            mirrored_ports(snapshot),
            dataplane.pid()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::{Interface, Mirror, Wire};
    use crate::shard::rx;

    /// Wires 11-12 and 13-14; the VLAN interfaces 110 and 111 on 11, 130 on 13, and 14 on 99.
    fn snapshot(ingresses: &[u32]) -> Snapshot {
        let vlan =
            |ifindex, parent_ifindex, vlan_id| Interface { ifindex, parent_ifindex, vlan_id, ..Interface::default() };
        let wire = |a_ifindex, b_ifindex| Wire { name: format!("{a_ifindex}"), a_ifindex, b_ifindex };
        let mirror = |ingress_ifindex: &u32| Mirror { ingress_ifindex: *ingress_ifindex, output_ifindex: 22, rate: 1 };
        Snapshot {
            interfaces: vec![vlan(110, 11, 10), vlan(111, 11, 11), vlan(130, 13, 10), vlan(14, 99, 5)],
            wires: vec![wire(11, 12), wire(13, 14)],
            mirrors: ingresses.iter().map(mirror).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn two_batches_for_each_port_with_entries() {
        assert_eq!(BATCH, rx::BATCH as u64, "what a shard takes at once");
        for (ingresses, ports) in [
            (&[][..], 0),
            (&[11], 1),
            (&[11, 12, 13], 3),
            (&[110], 1),
            (&[11, 110, 111], 1),
            (&[110, 130, 12], 3),
            (&[14], 1),
            (&[77], 0),
            (&[77, 11], 1),
        ] {
            assert_eq!(frames_needed(&snapshot(ingresses)), 128 * ports, "{ingresses:?}");
        }
        let unwired = Snapshot { wires: Vec::new(), ..snapshot(&[11]) };
        assert_eq!(frames_needed(&unwired), 0, "nothing is received");
    }
}
