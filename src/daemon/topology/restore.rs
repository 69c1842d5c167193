//! Undoes what was changed on devices, by this run or by one that was killed.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::changed::{Changed, What};
use super::link_loss;
use super::lookout::Lookout;
use super::record::Record;
use super::sighting::Sighting;
use super::{Plan, Topology, Want};
use crate::devices::{self, promiscuity};
use crate::xsk::ioctl::NetdevError;
use crate::xsk::netdev::Netdev;
use crate::xsk::offload::Offload;

/// How long after a device has gone the kernel may tell where to.
const NEWS: Duration = Duration::from_secs(1);

impl Topology {
    /// Undoes what an earlier run left on devices that are no ports any more. Before the first snapshot and the first look at
    /// the devices, which one that ends at once does not wait for, nobody knows which those are.
    pub(super) fn clean_up(&mut self, plan: &Plan) {
        if plan.table.generation == 0 || plan.looks == 0 {
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

    /// Undoes everything that is on record, but for the ports whose frames go on crossing: the others have been let go of.
    pub(super) fn undo_all(&mut self) {
        let crossing = self.left_crossing().into_iter();
        let crossing: Vec<Sighting> =
            crossing.filter_map(|port| self.record.ports().get(&port)?.device.clone()).collect();
        let is_left = |changed: &Changed| crossing.iter().any(|device| changed.is_of(device));
        self.undo_where(|changed, _, _| !is_left(changed));
        let held = |changed: &Changed| self.attached.values().any(|port| changed.is_of(&Sighting::of(&port.device)));
        let stays = |changed: &Changed| is_left(changed) || held(changed);
        let busy = |changed: &&Changed| !changed.moved && !stays(changed);
        for Changed { device, what, .. } in self.record.changed().iter().filter(busy) {
            tracing::warn!("{device} is in use by another program: {what} left as set, for a later run");
        }
        self.record.keep();
    }

    /// Whether what runs that are gone have left on record is to be undone in another network namespace than the calling
    /// thread's.
    pub(in crate::daemon) fn is_elsewhere(dir: &Path) -> bool {
        Record::is_elsewhere(dir)
    }

    /// Undoes what runs that are gone have left on record, in the calling thread's network namespace, but on the devices of
    /// ports that stay as they are. Returns the devices that were changed back, and what could not be, which stays on record. A
    /// record of another namespace stays as it is.
    pub(in crate::daemon) fn undo(dir: &Path, stays: impl Fn(u32) -> bool) -> (Vec<String>, Vec<String>) {
        if Record::is_elsewhere(dir) {
            return Default::default();
        }
        let mut record = Record::open(dir);
        let kept =
            record.ports().values().filter(|known| stays(known.ifindex)).filter_map(|known| known.device.clone());
        let kept: Vec<Sighting> = kept.collect();
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for changed in record.changed().to_vec() {
            if kept.iter().any(|kept| changed.is_of(kept)) {
                continue;
            }
            match put_back(changed.device.ifindex, &changed.what, |now| changed.is_of(now)) {
                Ok(true) => done.push(changed.device.name.clone()),
                // Of another namespace by now, or of none.
                Ok(false) => continue,
                Err(error) => {
                    left.push(changed.lost(&format!("cannot be changed back: {error}")));
                    continue;
                }
            }
            record.strike(&changed);
        }
        record.keep();
        done.extend(link_loss::undo(dir, |device| kept.iter().any(|kept| kept.is(device))));
        done.sort_unstable();
        done.dedup();
        (done, left)
    }

    fn undo_where(&mut self, undo: impl Fn(&Changed, u32, &Lookout) -> bool) {
        let held = |changed: &Changed| self.attached.values().any(|port| changed.is_of(&Sighting::of(&port.device)));
        // Another program that holds a device counts on what it found.
        let busy = |changed: &Changed, at| held(changed) || devices::has_xdp(at).unwrap_or(false);
        let left = |changed: &Changed| {
            let at = self.ifindex_of(changed)?;
            let due = undo(changed, at, &self.lookout) && (changed.gone_since.is_some() || !busy(changed, at));
            due.then(|| (changed.clone(), at))
        };
        let left: Vec<(Changed, u32)> = self.record.changed().iter().filter_map(left).collect();
        for (changed, at) in left {
            let Changed { device, what, .. } = &changed;
            match put_back(at, what, |now| changed.is_of(now)) {
                Ok(true) => tracing::info!("{device}: {what} put back as an earlier run found it"),
                // Away again.
                Ok(false) if changed.moved => continue,
                Ok(false) => match self.lookout.has_moved(device.ifindex) {
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

    /// Undoes what is changed on the device of a port that is let go of, also what another path had changed before, but for
    /// what it `keeps`.
    pub(super) fn restore(&mut self, device: &Sighting, keeps: What) {
        let what = self.record.changed_on(device).clone().without(&keeps);
        let done = if what.is_nothing() { Ok(true) } else { put_back(device.ifindex, &what, |now| device.is(now)) };
        if let Err(error) = &done {
            tracing::warn!("what was changed on {device} stays: {error}");
        }
        if done != Ok(false) {
            self.record.undone(device);
            self.record.will_change(device.clone(), keeps);
            return;
        }
        self.record.has_gone(device);
        // It may be back already, and be taken into use again.
        if self.lookout.has_moved(device.ifindex) == Some(true)
            && let Some(gone) = self.record.changed().iter().find(|changed| changed.is_gone(device)).cloned()
        {
            self.record.moved_away(&gone);
        }
    }
}

/// Undoes what was changed on the device with this ifindex. Whether it is there: `is_it` tells it from others.
fn put_back(ifindex: u32, what: &What, is_it: impl Fn(&Sighting) -> bool) -> Result<bool, String> {
    let now = match Netdev::open(ifindex) {
        Ok(now) if is_it(&Sighting::of(&now)) => now,
        Ok(_) => return Ok(false),
        Err(error) => return is_there(Err(error)),
    };
    let offloads = if what.offloads.is_empty() { Ok(true) } else { Offload::restore_found(&now, &what.offloads) };
    let flag = if what.promiscuous { promiscuity::set(ifindex, false) } else { Ok(true) };
    let flag = match flag {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(format!("promiscuity: {error}")),
        Ok(_) => Ok(true),
    };
    Ok(is_there(offloads)? && flag?)
}

fn is_there(done: Result<bool, NetdevError>) -> Result<bool, String> {
    match done {
        Err(NetdevError::NoIndex { .. }) => Ok(false),
        done => done.map_err(|error| error.to_string()),
    }
}
