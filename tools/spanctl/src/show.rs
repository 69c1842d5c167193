//! `show`.

use std::fmt::Write;
use std::path::Path;

use spanwire::control::state::{self, Dataplane, Show};

use crate::output::{Failure, Output, complain};
use crate::table::{Rows, port, printable, rate};

/// Shows what is published, and whether it works.
pub(crate) fn show(dir: &Path, out: &Output) -> Result<(), Failure> {
    let show = state::show(dir)?;
    if show.dataplane.running {
        warn_if_old(&show.dataplane);
    }
    if out.json { out.document(&show) } else { out.text(&text(&show)) }
}

/// Says on standard error that values are older than the question.
pub(crate) fn warn_if_old(dataplane: &Dataplane) {
    old(dataplane).iter().for_each(complain);
}

/// That values are older than the question.
pub(crate) fn old(dataplane: &Dataplane) -> Option<String> {
    let pid = dataplane.pid.filter(|_| !dataplane.fresh)?;
    Some(if dataplane.running {
        let seconds = dataplane.age_ns as f64 / 1e9;
        format!("warning: the dataplane (process {pid}) does not answer; its values are {seconds:.1} s old")
    } else {
        format!("note: the dataplane (process {pid}) is not running; these are its last values")
    })
}

/// The dataplane on one line.
pub(crate) fn dataplane(dataplane: &Dataplane) -> String {
    let (Some(pid), Some(release), Some(started_at)) = (dataplane.pid, &dataplane.release, &dataplane.started_at)
    else {
        return "dataplane: not running".to_owned();
    };
    let state = if dataplane.running { "running" } else { "not running any more" };
    let mut line = format!(
        "dataplane: {state}, process {pid}, release {}, started {started_at}, uses generation {}",
        printable(release),
        dataplane.adopted_generation
    );
    if dataplane.rejects > 0 {
        line += &format!(", refused {}", dataplane.rejects);
    }
    if !dataplane.last_reject.is_empty() {
        line += &format!("\nlast refused: {}", printable(&dataplane.last_reject));
    }
    line
}

fn text(show: &Show) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match show.generation {
        0 => writeln!(text, "published: nothing yet"),
        generation => writeln!(
            text,
            "published: generation {generation} of region {} (generation {} of its source), role {}{}",
            show.instance_id,
            show.source_generation,
            show.role,
            if show.armed { "" } else { ", disarmed" }
        ),
    };
    let _ = writeln!(text, "{}", dataplane(&show.dataplane));
    if let Some(needed) = show.dataplane.mirror_frames_needed.filter(|_| show.dataplane.running) {
        let has = show.dataplane.mirror_frames;
        let _ = writeln!(text, "mirror frames: {has} on each shard; the snapshot can need {needed}");
    }
    let name = |ifindex: u32| port(ifindex, show.names.get(&ifindex).map(String::as_str));

    let mut mirrors = Rows::new(["ingress", "output", "rate", "state", "reason"]);
    for m in &show.mirrors {
        let (mut ingress, mut output) = (name(m.ingress_ifindex), name(m.output_ifindex));
        let place = m.place;
        if place.vlan_id > 0 {
            let untagged = if place.untagged { " and untagged" } else { "" };
            ingress += &format!(": VLAN {}{untagged} on {}", place.vlan_id, name(place.ingress_port));
        }
        if place.output_port != m.output_ifindex {
            output += &format!(": by {}", name(place.output_port));
        }
        mirrors.row([ingress, output, rate(m.rate), m.state.to_owned(), printable(&m.reason)]);
    }
    mirrors.under("mirrors", &mut text);

    let mut wires = Rows::new(["name", "a", "b", "link loss", "path", ">loss", "why"]);
    for wire in &show.wires {
        let link_loss = match wire.taken_down_ifindex {
            Some(down) => format!("forwarded: {} is taken down", name(down)),
            None if wire.link_loss_forwarding => "forwarded".to_owned(),
            None => String::new(),
        };
        let loss = match wire.loss {
            Some(loss) => loss.to_string(),
            None if show.dataplane.running => "unknown".to_owned(),
            None => String::new(),
        };
        let mut why = printable(&wire.path_reason);
        if !wire.loss_unknown.is_empty() {
            why += &format!("; what is lost is not known: {}", printable(&wire.loss_unknown));
        }
        let path = printable(wire.path.as_deref().unwrap_or_default());
        wires.row([printable(&wire.name), name(wire.a_ifindex), name(wire.b_ifindex), link_loss, path, loss, why]);
    }
    wires.under("wires", &mut text);

    let mut ports =
        Rows::new([">ifindex", "name", "role", "state", ">mtu", ">queues", "xdp", "zero-copy", "driver", "reason"]);
    for p in &show.ports {
        // The snapshot's, and the device's where that is another by now.
        let followed = p.device_ifindex.filter(|device| *device != p.ifindex);
        ports.row([
            followed.map_or_else(|| p.ifindex.to_string(), |device| format!("{} ({device})", p.ifindex)),
            printable(&p.name),
            p.role.to_owned(),
            p.state.to_owned(),
            p.mtu.to_string(),
            p.queues.to_string(),
            printable(&p.xdp_mode),
            if p.zero_copy { "yes" } else { "no" }.to_owned(),
            printable(&p.driver),
            printable(&p.reason),
        ]);
    }
    ports.under("ports", &mut text);

    let mut shards = Rows::new([">shard", ">cpu", ">generation"]);
    for shard in &show.shards {
        shards.row([shard.id.to_string(), shard.cpu.to_string(), shard.adopted_generation.to_string()]);
    }
    shards.under("shards", &mut text);

    let mut missing = Rows::new(["feature", "without it", "why"]);
    for feature in show.features.iter().filter(|feature| !feature.available) {
        missing.row([&feature.name, &feature.consequence, &feature.reason].map(|text| printable(text)));
    }
    missing.under("missing here", &mut text);

    let mut diagnostics = Rows::new(["severity", "subject", "message"]);
    for d in &show.diagnostics {
        diagnostics.row([d.severity.as_str().to_owned(), printable(&d.subject), printable(&d.message)]);
    }
    diagnostics.under("diagnostics", &mut text);
    text
}
