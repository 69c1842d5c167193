//! Undoes what was changed on devices, by this run or by one that was killed.

use super::identity::Sighting;
use super::record::Changed;
use super::{Plan, Topology, Want};
use crate::xsk::netdev::{Netdev, NetdevError};
use crate::xsk::offload::VlanOffload;

impl Topology {
    /// Undoes what an earlier run left on devices that are no ports any more. Before the first snapshot nobody knows
    /// which those are.
    pub(super) fn clean_up(&mut self, plan: &Plan) {
        if plan.table.generation == 0 {
            return;
        }
        let is_port = |device: &Sighting| matches!(plan.wanted.get(&device.ifindex), Some(Want::Wire { .. }));
        self.restore_where(|device| !is_port(device));
    }

    /// Undoes everything that is on record: the ports have been let go of.
    pub(super) fn restore_all(&mut self) {
        self.restore_where(|_| true);
        self.record.keep();
    }

    fn restore_where(&mut self, undo: impl Fn(&Sighting) -> bool) {
        if self.record.changed().is_empty() {
            return;
        }
        let held = |device: &Sighting| self.attached.values().any(|port| device.is(&Sighting::of(&port.device)));
        let left = |changed: &&Changed| !held(&changed.device) && undo(&changed.device);
        let left: Vec<Changed> = self.record.changed().iter().filter(left).cloned().collect();
        for Changed { device, offloads } in left {
            let done = Netdev::open(device.ifindex).and_then(|now| match device.is(&Sighting::of(&now)) {
                true => VlanOffload::restore_found(&now, &offloads),
                false => Ok(false),
            });
            self.restored(&device, done);
        }
    }

    /// Tells what became of the offloads of a device, and strikes them out.
    pub(super) fn restored(&mut self, device: &Sighting, done: Result<bool, NetdevError>) {
        let lost = match &done {
            Ok(true) => None,
            Ok(false) | Err(NetdevError::NoIndex { .. }) => Some("is not here any more".to_owned()),
            Err(error) => Some(format!("cannot be changed back: {error}")),
        };
        if let Some(why) = lost
            && let Some(changed) = self.record.changed().iter().find(|changed| changed.device.is(device))
        {
            changed.tell_lost(&why);
        }
        self.record.undone(device);
    }
}
