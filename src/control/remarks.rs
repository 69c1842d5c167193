//! What of a snapshot lies idle, may not keep up or is not what it seems, on the devices there are at the time:
//! warnings, published with it. It is refused for none of them, since devices come and go while it stays; only a port
//! that is no Ethernet device never becomes one.

use std::collections::{BTreeMap, BTreeSet};

use shm_layout::record::PlaceRecord;

use super::devices::Devices;
use super::diagnostic::{Diagnostic, Severity};
use super::labels::Places;
use super::link::Link;
use super::model::{Mirror, Snapshot, Wire};
use super::naming::stranger;
use super::quote::quoted;
use crate::text::printable;

/// The warnings, in the order of the mirror entries, then of the wires, then by output and by port. Where the devices
/// are not known, only what the snapshot's own interfaces tell.
pub(super) fn remarks(snapshot: &Snapshot, places: Places<'_>, devices: &Devices<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, &mirror) in snapshot.mirrors.iter().enumerate() {
        let place = devices.names.units.place(mirror);
        let [ingress, output] = ends(mirror, place);
        let states = [("ingress", ingress), ("output", output)];
        let states = states.into_iter().filter_map(|(what, end)| idle(devices, what, end));
        found
            .extend(states.chain(small_mtu(devices, ingress, output)).map(|message| warning(places.entry(i), message)));
    }
    for (i, wire) in snapshot.wires.iter().enumerate() {
        let subject = || format!("wires[{i}] {}", quoted(&wire.name));
        let of_ports = [wire.a_ifindex, wire.b_ifindex].into_iter().flat_map(|port| of_wire_port(devices, port));
        found.extend(unlike(devices, wire).into_iter().chain(of_ports).map(|message| warning(subject(), message)));
    }
    found.extend(oversubscribed(devices, &snapshot.mirrors));
    let places = || snapshot.mirrors.iter().map(|&mirror| devices.names.units.place(mirror));
    let outputs: BTreeSet<u32> = places().map(|place| place.output_ifindex).collect();
    for &output in &outputs {
        let subject = || format!("output ifindex {}", devices.show(output));
        found.extend(own_ipv6(devices, output, "among the clones").map(|message| warning(subject(), message)));
    }
    let wired = snapshot.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]);
    let mirrored = places().map(|place| place.port_ifindex);
    let ports: BTreeSet<u32> = wired.chain(mirrored).chain(outputs).collect();
    found.extend(ports.into_iter().filter_map(|port| misnamed(devices, port)));
    found
}

fn warning(subject: String, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, subject, message }
}

/// One end of a mirror entry.
#[derive(Clone, Copy)]
struct End {
    /// As the entry has it.
    ifindex: u32,
    /// The port it is on: itself, or what is below a VLAN unit.
    port: u32,
}

/// The ingress and the output.
fn ends(mirror: Mirror, place: PlaceRecord) -> [End; 2] {
    let of = |ifindex, port| End { ifindex, port };
    [of(mirror.ingress_ifindex, place.port_ifindex), of(mirror.output_ifindex, place.output_ifindex)]
}

/// That a port is another device than the snapshot calls it.
fn misnamed(devices: &Devices<'_>, port: u32) -> Option<Diagnostic> {
    stranger(devices.names.row(port)?, devices.link(port)?, devices.place).filter(|_| !devices.is_named(port))
}

/// That a wire's ports do not take the same frames.
fn unlike(devices: &Devices<'_>, wire: &Wire) -> Option<String> {
    let (a, b) = (wire.a_ifindex, wire.b_ifindex);
    let (of_a, of_b) = (devices.mtu(a)?, devices.mtu(b)?);
    (of_a != of_b).then(|| {
        let (a, b) = (devices.show(a), devices.show(b));
        format!(
            "the MTUs of its ports differ, {of_a} of ifindex {a} and {of_b} of ifindex {b}: frames too large for the \
             smaller are dropped (rx_drops_oversize)"
        )
    })
}

/// What of a wire's port is not as it should be.
fn of_wire_port(devices: &Devices<'_>, port: u32) -> Vec<String> {
    let Some(link) = devices.link(port) else { return Vec::new() };
    let shown = devices.show(port);
    let address = link.address.map(|address| {
        format!(
            "ifindex {shown} has the address {address}, which nothing reaches: all that it receives crosses the wire"
        )
    });
    let uppers = link.uppers.iter().map(|upper| {
        let upper = printable(upper);
        format!("{upper} is on top of ifindex {shown} and gets none of its frames: they cross the wire")
    });
    let stuck = stuck_offload(devices, port).into_iter();
    stuck.chain(address).chain(uppers).chain(own_ipv6(devices, port, "on the wire")).collect()
}

/// That a port sends frames of its own.
fn own_ipv6(devices: &Devices<'_>, port: u32, place: &str) -> Option<String> {
    let link = devices.link(port).filter(|link| link.ipv6 == Some(true))?;
    let name = if link.interface.linux_name.is_empty() { "NAME" } else { &link.interface.linux_name };
    Some(format!(
        "ifindex {} has IPv6 on: this host's own neighbour discovery leaves {place} (sysctl -w \
         net/ipv6/conf/{}/disable_ipv6=1 turns it off)",
        devices.show(port),
        printable(name)
    ))
}

/// That a port is not there, or down.
fn idle(devices: &Devices<'_>, what: &str, End { ifindex, port }: End) -> Option<String> {
    if !devices.are_known() {
        return None;
    }
    let shown = devices.names.show_on(ifindex, port);
    match devices.link(port) {
        None => Some(format!(
            "port missing: its {what}, ifindex {shown}, is not {}; it mirrors nothing until that is there",
            devices.place
        )),
        Some(Link { up: Some(false), .. }) => {
            Some(format!("{what} down: ifindex {shown} has no link; it mirrors nothing until that is up"))
        }
        Some(_) => None,
    }
}

/// That the output takes less than the ingress may receive.
fn small_mtu(devices: &Devices<'_>, ingress: End, output: End) -> Option<String> {
    let (received, sent) = (devices.mtu(ingress.port)?, devices.mtu(output.port)?);
    (sent < received).then(|| {
        format!(
            "the MTU {sent} of its output, ifindex {}, is smaller than {received}, that of its ingress, ifindex {}: \
             larger frames are not mirrored (mirror_drops_oversize)",
            devices.names.show_on(output.ifindex, output.port),
            devices.names.show_on(ingress.ifindex, ingress.port)
        )
    })
}

/// That tags of the frames of a wire's port would be lost.
fn stuck_offload(devices: &Devices<'_>, port: u32) -> Option<String> {
    let feature = devices.link(port)?.stuck_offload.as_ref()?;
    Some(format!(
        "the VLAN offload {} of ifindex {} cannot be turned off: its wire crosses at tc alone, as elsewhere frames would \
         lose their VLAN tags",
        quoted(feature),
        devices.names.show(port)
    ))
}

/// A warning for each output whose entries may select more than it can send.
fn oversubscribed(devices: &Devices<'_>, mirrors: &[Mirror]) -> Vec<Diagnostic> {
    // By output and port, as a frame is sampled by one of a port's entries: its own or a VLAN's.
    let mut shares: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for mirror in mirrors {
        let place = devices.names.units.place(*mirror);
        // kbit/s, as a sampled share is a fraction of a megabit at high rates.
        let speed = devices.speed(place.port_ifindex).map_or(0, |speed| u64::from(speed) * 1000);
        let share = shares.entry((place.output_ifindex, place.port_ifindex)).or_default();
        *share = (*share).max(speed / u64::from(mirror.rate.max(1)));
    }
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for ((output, _), share) in shares {
        let sum = sums.entry(output).or_default();
        *sum = sum.saturating_add(share);
    }
    let more = |(output, sum): (u32, u64)| {
        let speed = devices.speed(output)?;
        (sum > u64::from(speed) * 1000).then(|| {
            let sum = sum.div_ceil(1000);
            warning(
                format!("output ifindex {}", devices.names.show(output)),
                format!(
                    "oversubscribed: its mirror entries may select up to {sum} Mbit/s, and it sends {speed} Mbit/s: \
                     clones beyond that are dropped"
                ),
            )
        })
    };
    sums.into_iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests;
