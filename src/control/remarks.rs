//! What of a snapshot lies idle or may not keep up, on the devices there are at the time: warnings, published with
//! it. It is refused for none of them, since devices come and go while it stays.

use std::collections::{BTreeMap, HashMap};

use super::admission::{Names, Places};
use super::model::{Diagnostic, Link, Links, Mirror, Severity, Snapshot, quoted};

/// The warnings, in the order of the mirror entries, then of the wires, then by output. Without `links` only what
/// the snapshot's own interfaces tell.
pub(super) fn remarks(
    snapshot: &Snapshot,
    names: &Names<'_>,
    places: Places<'_>,
    links: Option<&Links>,
) -> Vec<Diagnostic> {
    let by_index = links.map(|links| links.all.iter().map(|link| (link.interface.ifindex, link)).collect());
    let devices = Devices { names, by_index, place: links.map_or("", |links| links.place.as_str()) };
    let mut found = Vec::new();
    for (i, &mirror) in snapshot.mirrors.iter().enumerate() {
        let states = [("ingress", mirror.ingress_ifindex), ("output", mirror.output_ifindex)];
        let states = states.into_iter().filter_map(|(what, ifindex)| devices.idle(what, ifindex));
        found.extend(states.chain(devices.small_mtu(mirror)).map(|message| warning(places.entry(i), message)));
    }
    for (i, wire) in snapshot.wires.iter().enumerate() {
        let stuck = [wire.a_ifindex, wire.b_ifindex].into_iter().filter_map(|port| devices.stuck_offload(port));
        let subject = || format!("wires[{i}] {}", quoted(&wire.name));
        found.extend(stuck.map(|message| warning(subject(), message)));
    }
    found.extend(devices.oversubscribed(&snapshot.mirrors));
    found
}

fn warning(subject: String, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, subject, message }
}

struct Devices<'a> {
    names: &'a Names<'a>,
    by_index: Option<HashMap<u32, &'a Link>>,
    place: &'a str,
}

impl Devices<'_> {
    /// The device behind an ifindex: for a VLAN interface without one of its own, its parent's.
    fn link(&self, ifindex: u32) -> Option<&Link> {
        let by_index = self.by_index.as_ref()?;
        let own = by_index.get(&ifindex);
        own.or_else(|| by_index.get(&self.names.parent(ifindex)?)).copied()
    }

    /// That a port is not there, or down.
    fn idle(&self, what: &str, ifindex: u32) -> Option<String> {
        self.by_index.as_ref()?;
        let shown = self.names.show(ifindex);
        match self.link(ifindex) {
            None => Some(format!(
                "port missing: its {what}, ifindex {shown}, is not {}; it mirrors nothing until that is there",
                self.place
            )),
            Some(Link { up: Some(false), .. }) => {
                Some(format!("{what} down: ifindex {shown} has no link; it mirrors nothing until that is up"))
            }
            Some(_) => None,
        }
    }

    fn mtu(&self, ifindex: u32) -> Option<u32> {
        let live = self.link(ifindex).map(|link| link.interface.mtu).filter(|mtu| *mtu > 0);
        live.or_else(|| self.names.mtu(ifindex))
    }

    /// That the output takes less than the ingress may receive.
    fn small_mtu(&self, mirror: Mirror) -> Option<String> {
        let (ingress, output) = (mirror.ingress_ifindex, mirror.output_ifindex);
        let (received, sent) = (self.mtu(ingress)?, self.mtu(output)?);
        (sent < received).then(|| {
            format!(
                "the MTU {sent} of its output, ifindex {}, is smaller than {received}, that of its ingress, ifindex {}: \
                 larger frames are not mirrored (mirror_drops_oversize)",
                self.names.show(output),
                self.names.show(ingress)
            )
        })
    }

    /// That tags of the frames of a wire's port would be lost.
    fn stuck_offload(&self, port: u32) -> Option<String> {
        let feature = self.link(port)?.stuck_offload.as_ref()?;
        Some(format!(
            "the VLAN offload {} of ifindex {} cannot be turned off: the dataplane does not use such a port, as frames \
             would lose their VLAN tags",
            quoted(feature),
            self.names.show(port)
        ))
    }

    fn speed(&self, ifindex: u32) -> Option<u32> {
        self.link(ifindex)?.speed
    }

    /// A warning for each output whose entries may select more than it can send.
    fn oversubscribed(&self, mirrors: &[Mirror]) -> Vec<Diagnostic> {
        let mut outputs: BTreeMap<u32, (u64, usize)> = BTreeMap::new();
        for mirror in mirrors {
            // kbit/s, as a sampled share is a fraction of a megabit at high rates.
            let speed = self.speed(mirror.ingress_ifindex).map_or(0, |speed| u64::from(speed) * 1000);
            let (sum, entries) = outputs.entry(mirror.output_ifindex).or_default();
            *sum = sum.saturating_add(speed / u64::from(mirror.rate.max(1)));
            *entries += 1;
        }
        let more = |(output, (sum, entries)): (u32, (u64, usize))| {
            let speed = self.speed(output)?;
            (sum > u64::from(speed) * 1000).then(|| {
                let sum = sum.div_ceil(1000);
                let of = if entries == 1 { "the entry" } else { "the entries" };
                warning(
                    format!("output ifindex {}", self.names.show(output)),
                    format!(
                        "oversubscribed: {of} that it is the output of may select up to {sum} Mbit/s, and it sends \
                         {speed} Mbit/s: clones beyond that are dropped"
                    ),
                )
            })
        };
        outputs.into_iter().filter_map(more).collect()
    }
}
