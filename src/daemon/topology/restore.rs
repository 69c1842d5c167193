//! Undoes what was changed on devices, by this run or by one that was killed.

use std::collections::HashSet;
use std::time::Duration;

use super::changed::Changed;
use super::lookout::Lookout;
use super::sighting::Sighting;
use super::{Plan, Topology, Want};
use crate::xsk::ioctl::NetdevError;
use crate::xsk::netdev::Netdev;
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
        self.sweep(plan);
        let wired = plan.wanted.iter().filter(|(_, want)| matches!(want, Want::Wire { .. }));
        let ports: HashSet<u32> = wired.filter_map(|(port, _)| plan.places.get(port)?.device()).collect();
        self.undo_where(|changed, at, lookout| match changed.gone_since {
            None => !ports.contains(&at),
            Some(since) => lookout.has_moved(changed.device.ifindex).is_some() || since.elapsed() >= NEWS,
        });
    }

    /// Undoes everything that is on record: the ports have been let go of.
    pub(super) fn undo_all(&mut self) {
        self.undo_where(|_, _, _| true);
        let stays = |changed: &Changed| self.attached.values().any(|port| changed.is_of(&Sighting::of(&port.device)));
        let busy = |changed: &&Changed| !changed.moved && !stays(changed);
        for Changed { device, .. } in self.record.changed().iter().filter(busy) {
            tracing::warn!("{device} is in use by another program: its VLAN offloads stay off for a later run");
        }
        self.record.keep();
    }

    fn undo_where(&mut self, undo: impl Fn(&Changed, u32, &Lookout) -> bool) {
        let held = |changed: &Changed| self.attached.values().any(|port| changed.is_of(&Sighting::of(&port.device)));
        // Another program that holds a device counts on what it found.
        let busy = |changed: &Changed, at| held(changed) || self.lookout.has_program(at);
        let left = |changed: &Changed| {
            let at = self.ifindex_of(changed)?;
            let due = undo(changed, at, &self.lookout) && (changed.gone_since.is_some() || !busy(changed, at));
            due.then(|| (changed.clone(), at))
        };
        let left: Vec<(Changed, u32)> = self.record.changed().iter().filter_map(left).collect();
        for (changed, at) in left {
            let device = &changed.device;
            let done = match Netdev::open(at) {
                Ok(now) if changed.is_of(&Sighting::of(&now)) => VlanOffload::restore_found(&now, &changed.offloads),
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            };
            match done {
                Ok(true) => tracing::info!("{device}: its VLAN offloads are as an earlier run found them"),
                // Away again.
                Ok(false) | Err(NetdevError::NoIndex { .. }) if changed.moved => continue,
                Ok(false) | Err(NetdevError::NoIndex { .. }) => match self.lookout.has_moved(device.ifindex) {
                    Some(true) => {
                        self.record.moved_away(&changed);
                        continue;
                    }
                    // What was changed is no more.
                    Some(false) => {}
                    None => changed.tell_lost("is gone"),
                },
                Err(error) => changed.tell_lost(&format!("cannot be changed back: {error}")),
            }
            self.record.strike(&changed);
        }
    }

    /// Where the device is to be found; `None` for one that is in another network namespace.
    fn ifindex_of(&self, changed: &Changed) -> Option<u32> {
        if !changed.moved {
            return Some(changed.device.ifindex);
        }
        let is_it = |ifindex: &u32| Netdev::open(*ifindex).is_ok_and(|now| changed.is_of(&Sighting::of(&now)));
        self.lookout.with_mac(changed.device.mac).find(is_it)
    }

    /// Puts the offloads of a port back.
    pub(super) fn restore(&mut self, device: &Sighting, offload: VlanOffload) {
        match offload.restore() {
            Ok(true) => self.record.undone(device),
            Ok(false) => {
                self.record.has_gone(device);
                // It may be back already, and be taken into use again.
                if self.lookout.has_moved(device.ifindex) == Some(true)
                    && let Some(gone) = self.record.changed().iter().find(|changed| changed.is_gone(device)).cloned()
                {
                    self.record.moved_away(&gone);
                }
            }
            Err(error) => {
                tracing::warn!("VLAN offloads of {device}: {error}");
                self.record.undone(device);
            }
        }
    }
}
