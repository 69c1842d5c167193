//! `detach`.

use std::path::Path;

use serde::Serialize;
use spanwire::control::Reason;
use spanwire::control::compile::decompile;
use spanwire::control::state::published;
use spanwire::daemon::detach::{DetachError, Detached, detach as take_off};

use crate::args::DetachArgs;
use crate::output::{Failure, Output};

/// The document of `detach`.
#[derive(Debug, Serialize)]
struct Document {
    selectors: usize,
    devices: Vec<String>,
    left: Vec<String>,
}

/// Takes off what a dataplane that does not run has left on the ports of its wires.
pub(crate) fn detach(dir: &Path, args: &DetachArgs, out: &Output) -> Result<(), Failure> {
    let ports = if args.wires.is_empty() { None } else { Some(ports(dir, &args.wires)?) };
    let done = take_off(dir, args.pins.as_deref(), ports.as_deref());
    let Detached { selectors, devices, left } = done.map_err(|error| match error {
        DetachError::Running(_) | DetachError::ElsewhereThan(_) | DetachError::NotPermitted => {
            Failure::Refused(vec![Reason::new(error.to_string())])
        }
        DetachError::Read { .. } | DetachError::Filters(_) => Failure::Error(error.to_string()),
    })?;
    let said = if left.is_empty() { Ok(()) } else { Err(Failure::Error(left.join("; "))) };
    if out.json {
        out.document(&Document { selectors, devices, left })?;
        return said;
    }
    let changed = if devices.is_empty() { String::new() } else { format!("; changed back: {}", devices.join(", ")) };
    out.text(&format!("{selectors} selector(s) taken off{changed}\n"))?;
    said
}

/// The ports of wires of the published snapshot, which `show` names.
fn ports(dir: &Path, names: &[String]) -> Result<Vec<u32>, Failure> {
    let published = published(dir)?;
    let wires = match &published {
        Some(published) => decompile(&published.view()?).wires,
        None => Vec::new(),
    };
    let mut ports = Vec::new();
    for name in names {
        let wire = wires.iter().find(|wire| wire.name == *name);
        let known = || wires.iter().map(|wire| wire.name.as_str()).collect::<Vec<_>>().join(", ");
        let wire = wire.ok_or_else(|| {
            Failure::Refused(vec![Reason::new(format!(
                "--wire: no wire is called \"{name}\" (there are: {})",
                known()
            ))])
        })?;
        ports.extend([wire.a_ifindex, wire.b_ifindex]);
    }
    Ok(ports)
}
