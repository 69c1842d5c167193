//! The mirror entries against each other: one ingress twice, and clones that come to where something is mirrored.

use std::collections::HashMap;
use std::iter::repeat;

use shm_layout::record::PlaceRecord;

use crate::control::labels::{Names, Places};
use crate::control::model::Mirror;
use crate::control::quote::quoted;

/// The mirror entries by what they receive on; of several with the same key the first.
pub(super) struct Table<'a> {
    names: &'a Names<'a>,
    places: Places<'a>,
    by_ifindex: HashMap<u32, usize>,
    /// By port and VLAN.
    by_place: HashMap<(u32, u16), usize>,
    by_parent: HashMap<u32, usize>,
    /// Whether an entry's clones come back to it.
    on_loop: Vec<bool>,
}

impl<'a> Table<'a> {
    pub(super) fn of(mirrors: &[Mirror], names: &'a Names<'a>, places: Places<'a>) -> Self {
        let mut table = Self::empty(names, places);
        table.by_ifindex.reserve(mirrors.len());
        table.by_place.reserve(mirrors.len());
        mirrors.iter().enumerate().for_each(|(i, &mirror)| table.add(i, mirror));
        table.on_loop = loops(mirrors.len(), |i| table.next(mirrors[i]));
        table
    }

    /// No entries yet.
    pub(super) fn empty(names: &'a Names<'a>, places: Places<'a>) -> Self {
        let (by_ifindex, by_place, by_parent) = Default::default();
        Self { names, places, by_ifindex, by_place, by_parent, on_loop: Vec::new() }
    }

    /// One more entry. Whether clones come back to it is not looked at.
    pub(super) fn add(&mut self, i: usize, mirror: Mirror) {
        self.by_ifindex.entry(mirror.ingress_ifindex).or_insert(i);
        let PlaceRecord { port_ifindex, vlan_id, .. } = self.names.units.place(mirror);
        self.by_place.entry((port_ifindex, vlan_id)).or_insert(i);
        for &below in &self.receives_on(mirror)[1..] {
            self.by_parent.entry(below).or_insert(i);
        }
    }

    /// The ports a mirror's clones leave by: a VLAN output sends through its parent, so what holds for one holds
    /// for the other, and so on down. With each, how it relates to the output.
    pub(super) fn sends_on(&self, mirror: Mirror) -> impl Iterator<Item = (u32, &'static str)> + use<> {
        let relations = ["", "the parent of "].into_iter().chain(repeat("a parent's parent of "));
        self.names.units.stack(mirror.output_ifindex).into_iter().zip(relations)
    }

    /// The ports whose frames a mirror's ingress receives: itself, and all that is below it.
    pub(super) fn receives_on(&self, mirror: Mirror) -> Vec<u32> {
        self.names.units.stack(mirror.ingress_ifindex)
    }

    /// An entry that receives a mirror's clones.
    fn next(&self, mirror: Mirror) -> Option<usize> {
        self.sends_on(mirror).find_map(|(port, _)| self.by_ifindex.get(&port).or(self.by_parent.get(&port)).copied())
    }

    /// What is wrong if an earlier entry has the ingress of entry `i`.
    pub(super) fn duplicate(&self, i: usize, mirror: Mirror) -> Option<String> {
        let (names, ingress) = (self.names, mirror.ingress_ifindex);
        let one = "(allowed: one entry per ingress)";
        let (first, same) = match self.by_ifindex.get(&ingress).filter(|&&first| first != i) {
            Some(&first) => (first, None),
            None => {
                let PlaceRecord { port_ifindex, vlan_id, .. } = names.units.place(mirror);
                let place = (port_ifindex, vlan_id);
                (*self.by_place.get(&place).filter(|&&first| first != i)?, Some(place))
            }
        };
        let shown = names.show(ingress);
        let place = self.places.entry(first);
        if let (Some(a), Some(b)) = (self.places.origin(first), self.places.origin(i)) {
            // In the Go control plane's words, which operators look for.
            let (a, b) = (quoted(&a.instance), quoted(&b.instance));
            let same = same.map(|(parent, tag)| format!(", VLAN {tag} on ifindex {}", names.show(parent)));
            let same = same.unwrap_or_default();
            return Some(format!(
                "duplicate port-mirroring ingress ifindex {ingress} in instances {a} and {b}{same}, first as {place} {one}"
            ));
        }
        Some(match same {
            None => format!("duplicate ingress ifindex {shown}, first in {place} {one}"),
            Some((parent, tag)) => format!(
                "duplicate ingress: ifindex {shown} is VLAN {tag} on ifindex {}, as that of {place} is {one}",
                names.show(parent)
            ),
        })
    }

    /// What is wrong if clones that entry `i` sends on `port` go where some entry receives.
    pub(super) fn feedback(&self, i: usize, mirror: Mirror, port: u32) -> Vec<String> {
        let mut wrong = Vec::new();
        let ingress = mirror.ingress_ifindex;
        if port == ingress {
            wrong.push("is the entry's own ingress (allowed: another port)".to_owned());
        }
        if self.names.units.stack(ingress)[1..].contains(&port) {
            let ingress = self.names.show(ingress);
            wrong.push(format!("is the parent port of the entry's ingress ifindex {ingress} (allowed: another port)"));
        }
        let mut fed = |of: &str, other: usize| {
            let on_loop = |i: usize| self.on_loop.get(i).copied().unwrap_or_default();
            let what = if on_loop(i) && on_loop(other) { "loop" } else { "chain" };
            let place = self.places.entry(other);
            wrong
                .push(format!("is {of} of {place}, a mirror {what} (allowed: an output on which nothing is mirrored)"));
        };
        let other = |found: Option<&usize>| found.copied().filter(|&other| other != i);
        if let Some(other) = other(self.by_ifindex.get(&port)).filter(|_| port != ingress) {
            fed("the ingress", other);
        }
        if let Some(other) = other(self.by_parent.get(&port)) {
            fed("the parent port of the ingress", other);
        }
        wrong
    }
}

/// Which of `n` entries lead back to themselves, each followed by `next`.
fn loops(n: usize, next: impl Fn(usize) -> Option<usize>) -> Vec<bool> {
    let mut on_loop = vec![false; n];
    // The walk that an entry was first met on, from 1.
    let mut walk_of = vec![0; n];
    for start in 0..n {
        let walk = start + 1;
        let mut at = Some(start);
        while let Some(i) = at.filter(|&i| walk_of[i] == 0) {
            walk_of[i] = walk;
            at = next(i);
        }
        // Only a walk that met itself has a loop of its own, which begins there.
        while let Some(i) = at.filter(|&i| walk_of[i] == walk && !on_loop[i]) {
            on_loop[i] = true;
            at = next(i);
        }
    }
    on_loop
}
