//! What a table comes to for the ports that a shard has.

use shm_layout::record::PortRole;

use super::clone::Clones;
use super::limits::MAX_OUTPUTS;
use super::port::{Port, Target, share_out};
use super::targets::Targets;
use crate::snapshot::table::Table;

/// Resolves `table`: each port's peer and policy, where clones go, what each port may hold, and which shards are to lend
/// frames. `reads` tells whether the shard reads clone rings.
pub(super) fn bind<D>(table: &Table, ports: &mut [Port<D>], targets: &mut Targets, clones: &mut Clones, reads: bool) {
    targets.renew(ports);
    for at in 0..ports.len() {
        let (ifindex, queue, store) = (ports[at].ifindex, ports[at].queue, ports[at].store);
        let serving = |peer| targets.serving(ports, PortRole::Wire, peer, queue);
        // Frames stay in their store: one that the ports do not share has not been left yet.
        let peer = table.peer(ifindex).and_then(serving).filter(|&peer| ports[peer].store == store);
        let policy = table.policy(ifindex).cloned();
        let mut of_port = std::mem::take(&mut ports[at].targets);
        of_port.clear();
        // No more than there is room for: a shard cannot serve that many monitor ports either.
        for &output in policy.iter().flat_map(|policy| &policy.outputs).take(MAX_OUTPUTS) {
            of_port.push(targets.of(output, queue, ports, &clones.lanes));
        }
        let port = &mut ports[at];
        (port.peer, port.policy, port.targets) = (peer, policy, of_port);
    }
    share_out(ports, clones.store.census().size, clones.lanes.shards());
    // What comes from a ring may be of any queue, and for any of the monitor ports in use.
    let from_rings = |owner| table.mirroring && reads && targets.outputs().iter().any(|up| owner < up.queues);
    clones.lanes.want(|peer, owner| {
        let leads = |target: &Target| matches!(target, Target::Remote(remote) if remote.peer == peer);
        ports.iter().any(|port| port.targets.iter().any(leads)) || from_rings(owner)
    });
}
