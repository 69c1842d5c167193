//! Which entries of a table are left out, so that the rest of it may be published.
//!
//! 1. What is wrong by itself goes: a number out of range, an output that is the ingress, on a wire or no Ethernet device.
//! 2. Of the entries of one ingress the first stays.
//! 3. Of the entries that send clones to a port and those that mirror what it receives, only the ones or the others can
//!    stay: the more, or where they are as many, those that begin earlier in the table.
//! 4. What went by 2 and 3 comes back, in the order of the table, where no entry that stays stands against it.
//!
//! So each entry that is left out is wrong by itself or against one that stays, and none could be put back. One walk
//! over the table for each step: linear in its size.

use std::collections::HashMap;
use std::ops::Not;

use super::table::Table;
use super::wired::Wired;
use super::{MAX_IFINDEX, out_of_range, outputs};
use crate::control::devices::Devices;
use crate::control::labels::{Names, Places};
use crate::control::link::Links;
use crate::control::model::{Mirror, Snapshot};
use crate::counters::MAX_ENTRIES;

/// Why each entry is left out; `None` for those that stay. Those that are `barred` go for that reason.
pub(in crate::control) fn left_out(
    snapshot: &Snapshot,
    places: Places<'_>,
    barred: Vec<Option<String>>,
    links: Option<&Links>,
) -> Vec<Option<String>> {
    let names = Names::of(snapshot);
    let devices = Devices::of(snapshot, &names, links);
    let wired = Wired::of(snapshot, &devices, &mut Vec::new());
    let kept = || Kept {
        devices: &devices,
        places,
        wired: &wired,
        table: Table::empty(&names, places),
        senders: HashMap::new(),
        count: 0,
    };
    let alone = kept();
    let mut out = barred;
    out.resize(snapshot.mirrors.len(), None);
    for (why, (i, &mirror)) in out.iter_mut().zip(snapshot.mirrors.iter().enumerate()) {
        if why.is_none() {
            *why = alone.against(i, mirror);
        }
    }
    let sound = || snapshot.mirrors.iter().enumerate().filter(|(i, _)| out[*i].is_none());
    let last = later(snapshot.mirrors.len(), sound(), Table::empty(&names, places));
    let mut order: Vec<usize> = sound().map(|(i, _)| i).collect();
    order.sort_by_key(|&i| last[i]);
    let mut kept = kept();
    for i in order {
        let mirror = snapshot.mirrors[i];
        out[i] = kept.against(i, mirror);
        if out[i].is_none() {
            kept.add(i, mirror);
        }
    }
    out
}

/// Which of `n` entries wait until the others of them have their place.
fn later<'a>(n: usize, entries: impl Iterator<Item = (usize, &'a Mirror)> + Clone, mut firsts: Table<'_>) -> Vec<bool> {
    let mut later = vec![false; n];
    for (i, &mirror) in entries.clone() {
        later[i] = firsts.duplicate(i, mirror).is_some();
        if !later[i] {
            firsts.add(i, mirror);
        }
    }
    let mut ports: HashMap<u32, Port> = HashMap::new();
    for (i, &mirror) in entries.clone().filter(|(i, _)| !later[*i]) {
        firsts.sends_on(mirror).for_each(|(port, _)| ports.entry(port).or_default().senders.count(i));
        firsts.receives_on(mirror).into_iter().for_each(|port| ports.entry(port).or_default().receivers.count(i));
    }
    ports.retain(|_, port| port.senders.entries > 0 && port.receivers.entries > 0);
    for (i, &mirror) in entries {
        let mut sends_on = firsts.sends_on(mirror).filter_map(|(port, _)| ports.get(&port));
        let mut receives_on = firsts.receives_on(mirror).into_iter().filter_map(|port| ports.get(&port));
        later[i] |= sends_on.any(|port| !port.senders_stay()) || receives_on.any(Port::senders_stay);
    }
    later
}

/// Who sends clones on a port, and who mirrors what it receives.
#[derive(Default)]
struct Port {
    senders: Side,
    receivers: Side,
}

#[derive(Default)]
struct Side {
    entries: usize,
    first: usize,
}

impl Side {
    fn count(&mut self, i: usize) {
        if self.entries == 0 {
            self.first = i;
        }
        self.entries += 1;
    }
}

impl Port {
    /// Whether they do, where both sides cannot.
    fn senders_stay(&self) -> bool {
        let (senders, receivers) = (&self.senders, &self.receivers);
        (senders.entries, receivers.first) > (receivers.entries, senders.first)
    }
}

/// The entries that stay.
struct Kept<'a> {
    devices: &'a Devices<'a>,
    places: Places<'a>,
    wired: &'a Wired<'a>,
    table: Table<'a>,
    /// The first that sends on each port.
    senders: HashMap<u32, usize>,
    count: usize,
}

impl Kept<'_> {
    fn add(&mut self, i: usize, mirror: Mirror) {
        self.table.add(i, mirror);
        for (port, _) in self.table.sends_on(mirror) {
            self.senders.entry(port).or_insert(i);
        }
        self.count += 1;
    }

    /// What stands against an entry, if anything does.
    fn against(&self, i: usize, mirror: Mirror) -> Option<String> {
        let numbers = [("ingress_ifindex", mirror.ingress_ifindex), ("output_ifindex", mirror.output_ifindex)];
        let numbers = numbers.into_iter().filter_map(|(key, n)| Some((key, out_of_range(n, &(1..=MAX_IFINDEX))?)));
        let mut wrong: Vec<String> = numbers.map(|(key, text)| format!("{key}: {text}")).collect();
        wrong.extend(self.table.duplicate(i, mirror));
        let outputs = outputs(self.devices, &self.table, self.wired, (i, mirror));
        wrong.extend(outputs.into_iter().map(|text| format!("output {text}")));
        let fed_by = self.table.receives_on(mirror).into_iter().find_map(|port| self.senders.get(&port));
        wrong.extend(fed_by.map(|&other| {
            let (ingress, other) = (self.devices.names.show(mirror.ingress_ifindex), self.places.entry(other));
            format!(
                "ingress ifindex {ingress} receives the clones of {other}, a mirror chain (allowed: an ingress to which \
                 no clones are sent)"
            )
        }));
        if self.count == MAX_ENTRIES {
            wrong.push(format!("the table is full (allowed: at most {MAX_ENTRIES} entries)"));
        }
        wrong.is_empty().not().then(|| wrong.join("; "))
    }
}
