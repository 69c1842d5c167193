//! Undoes what was changed on devices, by this run or by one that was killed.

use std::collections::HashSet;
use std::time::Duration;

use super::identity::Sighting;
use super::lookout::Lookout;
use super::record::Changed;
use super::{Plan, Topology, Want};
use crate::xsk::netdev::{Netdev, NetdevError};
use crate::xsk::offload::VlanOffload;

/// How long after a device has gone the kernel may tell where to.
const NEWS: Duration = Duration::from_secs(1);

impl Topology {
    /// Undoes what an earlier run left on devices that are no ports any more. Before the first snapshot nobody knows
    /// which those are.
    pub(super) fn clean_up(&mut self, plan: &Plan) {
        if plan.table.generation == 0 {
            return;
        }
        let wired = plan.wanted.iter().filter(|(_, want)| matches!(want, Want::Wire { .. }));
        let ports: HashSet<u32> = wired.filter_map(|(port, _)| plan.places.get(port)?.device()).collect();
        self.undo_where(|changed, lookout| match changed.gone_since {
            None => !ports.contains(&changed.device.ifindex),
            Some(since) => lookout.has_moved(changed.device.ifindex).is_some() || since.elapsed() >= NEWS,
        });
    }

    /// Undoes everything that is on record: the ports have been let go of.
    pub(super) fn undo_all(&mut self) {
        self.undo_where(|_, _| true);
        for Changed { device, .. } in self.record.changed() {
            tracing::warn!("{device} is in use by another program: its VLAN offloads stay off for a later run");
        }
        self.record.keep();
    }

    fn undo_where(&mut self, undo: impl Fn(&Changed, &Lookout) -> bool) {
        let held = |device: &Sighting| self.attached.values().any(|port| device.is(&Sighting::of(&port.device)));
        // Another program that holds a device counts on what it found.
        let busy = |device: &Sighting| held(device) || self.lookout.has_program(device.ifindex);
        let left = |changed: &&Changed| {
            undo(changed, &self.lookout) && (changed.gone_since.is_some() || !busy(&changed.device))
        };
        let left: Vec<Changed> = self.record.changed().iter().filter(left).cloned().collect();
        for changed in left {
            let device = &changed.device;
            let done = match Netdev::open(device.ifindex) {
                Ok(now) if changed.gone_since.is_none() && device.is(&Sighting::of(&now)) => {
                    VlanOffload::restore_found(&now, &changed.offloads)
                }
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            };
            match done {
                Ok(true) => tracing::info!("{device}: its VLAN offloads are as an earlier run found them"),
                Ok(false) | Err(NetdevError::NoIndex { .. }) => match self.lookout.has_moved(device.ifindex) {
                    Some(true) => changed.tell_lost("was moved to another network namespace"),
                    // What was changed is no more.
                    Some(false) => {}
                    None => changed.tell_lost("is gone"),
                },
                Err(error) => changed.tell_lost(&format!("cannot be changed back: {error}")),
            }
            self.record.strike(&changed);
        }
    }

    /// Puts the offloads of a port back.
    pub(super) fn restore(&mut self, device: &Sighting, offload: VlanOffload) {
        match offload.restore() {
            Ok(true) => self.record.undone(device),
            Ok(false) => self.record.has_gone(device),
            Err(error) => {
                tracing::warn!("VLAN offloads of {device}: {error}");
                self.record.undone(device);
            }
        }
    }
}
