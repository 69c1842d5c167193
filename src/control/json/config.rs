//! What a producer's `config` tells of its mirror table: which instance each entry comes from, and why an instance
//! has none.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::syntax::Keep;
use crate::control::instances::{Instance, Rate, Resolved, resolve, subject};
use crate::control::model::{Diagnostic, Mirror, Origin, Severity, Snapshot, Written, quoted};
use crate::counters::MAX_ENTRIES;

/// What is read of a configuration.
pub(super) const KEPT: Keep = Keep::Keys(&[("ForwardingOptions", OPTIONS)]);
const OPTIONS: Keep = Keep::Keys(&[("PortMirroring", MIRRORING)]);
const MIRRORING: Keep = Keep::Keys(&[("Instances", Keep::Every(&INSTANCE))]);
const INSTANCE: Keep =
    Keep::Keys(&[("InputRate", Keep::Scalar), ("Input", Keep::List(&Keep::Scalar)), ("Output", Keep::Scalar)]);

/// Instances and ingresses, taken together, that are explained: an instance for each entry of a full mirror table.
const MAX_NAMED: usize = 2 * MAX_ENTRIES;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Explained {
    /// The origin of each mirror entry, where the configuration has it.
    pub origins: Vec<Option<Origin>>,
    /// A warning for each ingress of an instance that has no entry.
    pub diagnostics: Vec<Diagnostic>,
}

/// Holds a snapshot's mirror table against the configuration beside it; nothing where there is none.
pub(super) fn explain(top: &Map<String, Value>, snapshot: &Snapshot) -> Explained {
    let instances = instances(top);
    if instances.is_empty() {
        return Explained::default();
    }
    let named: usize = instances.iter().map(|instance| 1 + instance.ingresses.len()).sum();
    if named > MAX_NAMED {
        let message = format!("{named} instances and ingresses (explained: at most {MAX_NAMED})");
        return Explained { origins: Vec::new(), diagnostics: vec![warning("config".to_owned(), message)] };
    }
    let Resolved { entries, skipped, faults } = resolve(instances, &snapshot.interfaces);
    let mut diagnostics = skipped;
    diagnostics.extend(faults.into_iter().map(|fault| warning("mirror_configs".to_owned(), fault.to_string())));

    let mut places: HashMap<Mirror, usize> = HashMap::with_capacity(snapshot.mirrors.len());
    let mut by_ingress: HashMap<u32, Mirror> = HashMap::with_capacity(snapshot.mirrors.len());
    for (i, &mirror) in snapshot.mirrors.iter().enumerate() {
        places.entry(mirror).or_insert(i);
        by_ingress.entry(mirror.ingress_ifindex).or_insert(mirror);
    }
    // The first two instances of each ingress.
    let mut instances_of: HashMap<u32, (String, Option<String>)> = HashMap::with_capacity(entries.len());
    for (mirror, origin) in &entries {
        let instance = || origin.instance.clone();
        let first = instances_of.entry(mirror.ingress_ifindex);
        first
            .and_modify(|(_, second)| *second = second.take().or_else(|| Some(instance())))
            .or_insert_with(|| (instance(), None));
    }
    let mut origins = vec![None; snapshot.mirrors.len()];
    for (mirror, origin) in entries {
        if let Some(origin_of) = places.remove(&mirror).and_then(|i| origins.get_mut(i)) {
            *origin_of = Some(origin);
            continue;
        }
        let ingress = mirror.ingress_ifindex;
        let why = match (instances_of.get(&ingress), by_ingress.get(&ingress)) {
            (Some((first, Some(second))), _) => {
                let (first, second) = (quoted(first), quoted(second));
                format!("duplicate port-mirroring ingress ifindex {ingress} in instances {first} and {second}")
            }
            (_, Some(other)) => format!(
                "the entry of ifindex {ingress} has output {} and rate {}, not {} and {}",
                other.output_ifindex, other.rate, mirror.output_ifindex, mirror.rate
            ),
            _ => "the producer left it out of mirror_configs".to_owned(),
        };
        let message = format!("ingress {} did not become a mirror entry: {why}", origin.ingress);
        diagnostics.push(warning(subject(&origin.instance, None), message));
    }
    Explained { origins, diagnostics }
}

fn warning(subject: String, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, subject, message }
}

/// The instances of a configuration in the Go control plane's shape; what has another shape is not among them.
fn instances(top: &Map<String, Value>) -> Vec<Instance> {
    let path = ["ForwardingOptions", "PortMirroring", "Instances"];
    let found = top.get("config").and_then(|config| path.iter().try_fold(config, |at, key| at.get(key)));
    let Some(Value::Object(found)) = found else { return Vec::new() };
    found.iter().filter_map(|(name, instance)| Some(read(name, instance.as_object()?))).collect()
}

fn read(name: &str, instance: &Map<String, Value>) -> Instance {
    let written = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(unplaced);
    let rate = instance.get("InputRate");
    Instance {
        name: name.to_owned(),
        at: None,
        rate: match rate.and_then(Value::as_i64).unwrap_or_default() {
            n @ ..0 => Rate::Negative(unplaced(&n.to_string())),
            n => u32::try_from(n).map_or(Rate::Invalid, Rate::Of),
        },
        ingresses: instance.get("Input").and_then(Value::as_array).into_iter().flatten().filter_map(written).collect(),
        output: instance.get("Output").and_then(written),
    }
}

fn unplaced(name: &str) -> Written {
    Written { name: name.to_owned(), at: None }
}
