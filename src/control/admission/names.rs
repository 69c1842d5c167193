//! What messages call the entries and the interfaces of a snapshot, and what is known of these.

use std::collections::HashMap;

use crate::control::model::{Interface, Origin, Snapshot, quoted};

/// What messages call the mirror entries: by their instances where those are known.
#[derive(Clone, Copy, Default)]
pub(in crate::control) struct Places<'a> {
    /// Where each entry comes from, as far as that is known; may be shorter than the table.
    pub origins: &'a [Option<Origin>],
    /// The place of each entry in the table of the source; empty where that is its place in the snapshot.
    pub rows: &'a [usize],
}

impl Places<'_> {
    pub(super) fn origin(&self, i: usize) -> Option<&Origin> {
        self.origins.get(i)?.as_ref()
    }

    /// The place of the entry in the table of the source.
    pub(in crate::control) fn row(&self, i: usize) -> usize {
        self.rows.get(i).copied().unwrap_or(i)
    }

    /// The entry.
    pub(in crate::control) fn entry(&self, i: usize) -> String {
        self.place(i, "", |origin| format!("ingress {}", origin.ingress))
    }

    pub(super) fn ingress(&self, i: usize) -> String {
        self.place(i, ".ingress_ifindex", |origin| format!("ingress {}", origin.ingress))
    }

    pub(super) fn output(&self, i: usize) -> String {
        self.place(i, ".output_ifindex", |origin| format!("ingress {} output {}", origin.ingress, origin.output))
    }

    fn place(&self, i: usize, key: &str, written: impl Fn(&Origin) -> String) -> String {
        match self.origin(i) {
            None => format!("mirror_configs[{}]{key}", self.row(i)),
            Some(origin) if origin.ingress.at.is_none() => {
                format!("mirror_configs[{}]{key} (instance {})", self.row(i), quoted(&origin.instance))
            }
            Some(origin) => format!("instance {} {}", quoted(&origin.instance), written(origin)),
        }
    }
}

/// The most VLANs on one another that Linux has (its `MAX_NEST_DEV`).
const MAX_STACKED: usize = 8;

/// The interfaces by ifindex; of several with the same one the first, as [`Snapshot::interface_by_index`].
pub(in crate::control) struct Names<'a>(HashMap<u32, &'a Interface>);

impl<'a> Names<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut by_index = HashMap::with_capacity(snapshot.interfaces.len());
        for interface in snapshot.interfaces.iter().filter(|i| i.ifindex > 0) {
            by_index.entry(interface.ifindex).or_insert(interface);
        }
        Self(by_index)
    }

    /// `11 ("ge-0/0/0.0")`, or only the number if the snapshot has no name for it.
    pub(in crate::control) fn show(&self, ifindex: u32) -> String {
        match self.0.get(&ifindex).map(|i| i.label()) {
            Some(name) if !name.is_empty() => format!("{ifindex} ({})", quoted(name)),
            _ => ifindex.to_string(),
        }
    }

    /// `(parent, tag)` if the ifindex is a VLAN interface's.
    pub(in crate::control) fn vlan(&self, ifindex: u32) -> Option<(u32, u16)> {
        self.0.get(&ifindex).and_then(|i| i.vlan())
    }

    /// MTU in bytes, if the snapshot says.
    pub(in crate::control) fn mtu(&self, ifindex: u32) -> Option<u32> {
        self.0.get(&ifindex).map(|i| i.mtu).filter(|mtu| *mtu > 0)
    }

    /// The port below a VLAN interface.
    pub(in crate::control) fn parent(&self, ifindex: u32) -> Option<u32> {
        self.vlan(ifindex).map(|(parent, _)| parent)
    }

    /// An interface and all that is below it, each once: a VLAN may stand on a VLAN, and what a snapshot says of
    /// that may go in a circle.
    pub(super) fn stack(&self, ifindex: u32) -> Vec<u32> {
        let mut stack = vec![ifindex];
        let mut at = ifindex;
        while let Some(below) = self.parent(at).filter(|below| stack.len() <= MAX_STACKED && !stack.contains(below)) {
            stack.push(below);
            at = below;
        }
        stack
    }
}
