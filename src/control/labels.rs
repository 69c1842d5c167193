//! What messages call the entries and the interfaces of a snapshot, and what is known of these.

use std::collections::HashMap;

use super::model::{Interface, Origin, Snapshot};
use super::quote::quoted;
use super::units::Units;

/// What messages call the mirror entries: by their instances where those are known.
#[derive(Clone, Copy, Default)]
pub(super) struct Places<'a> {
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
    pub(super) fn row(&self, i: usize) -> usize {
        self.rows.get(i).copied().unwrap_or(i)
    }

    /// The entry.
    pub(super) fn entry(&self, i: usize) -> String {
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

/// The interfaces by ifindex; of several with the same one the first names it.
pub(super) struct Names<'a> {
    by_index: HashMap<u32, &'a Interface>,
    /// What each ifindex means.
    pub(super) units: Units,
}

impl<'a> Names<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut by_index = HashMap::with_capacity(snapshot.interfaces.len());
        for interface in snapshot.interfaces.iter().filter(|i| i.ifindex > 0) {
            by_index.entry(interface.ifindex).or_insert(interface);
        }
        Self { by_index, units: Units::of(snapshot) }
    }

    /// `11 ("ge-0/0/0.0")`, or only the number if the snapshot has no name for it.
    pub(super) fn show(&self, ifindex: u32) -> String {
        match self.by_index.get(&ifindex).map(|i| i.label()) {
            Some(name) if !name.is_empty() => format!("{ifindex} ({})", quoted(name)),
            _ => ifindex.to_string(),
        }
    }

    /// The same of an interface on `port`: `1073741830 ("mon.7") on ifindex 22 ("mon")`, or as above if it is the port.
    pub(super) fn show_on(&self, ifindex: u32, port: u32) -> String {
        if ifindex == port {
            return self.show(ifindex);
        }
        format!("{} on ifindex {}", self.show(ifindex), self.show(port))
    }

    /// The interface with this ifindex.
    pub(super) fn row(&self, ifindex: u32) -> Option<&Interface> {
        self.by_index.get(&ifindex).copied()
    }

    /// MTU in bytes, if the snapshot says.
    pub(super) fn mtu(&self, ifindex: u32) -> Option<u32> {
        self.by_index.get(&ifindex).map(|i| i.mtu).filter(|mtu| *mtu > 0)
    }
}
