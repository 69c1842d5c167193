//! What a producer's `config` tells of its mirror table: which instance each entry comes from, and why an instance
//! has none.
//!
//! A producer leaves out what it cannot mirror and publishes the rest; an older one publishes no table at all where an
//! ingress is in two instances or a rate is negative. Either way the entry is not there, and that is what is explained.
//! None of it is an error of the document: it is the producer's configuration, and only its table is mirrored by.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::exclusions::{Excluded, Exclusion};
use super::syntax::Keep;
use crate::control::diagnostic::{Diagnostic, Severity};
use crate::control::instances::{Instance, Rate, Resolved, Skipped, resolve, subject};
use crate::control::model::{Mirror, Origin, Snapshot, Written};
use crate::control::quote::{clipped, quoted};
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
    /// A warning for each instance, or ingress of one, that has no entry.
    pub diagnostics: Vec<Diagnostic>,
}

/// Holds a snapshot's mirror table against the configuration beside it; nothing where there is none. What one of the
/// `exclusions` explains is not explained again.
pub(super) fn explain(top: &Map<String, Value>, snapshot: &Snapshot, exclusions: &[Exclusion]) -> Explained {
    let Configured { instances, bad_rates } = Configured::read(top);
    if instances.is_empty() {
        return Explained::default();
    }
    let named: usize = instances.iter().map(|instance| 1 + instance.ingresses.len()).sum();
    if named > MAX_NAMED {
        let message = format!("{named} instances and ingresses (explained: at most {MAX_NAMED})");
        return Explained { origins: Vec::new(), diagnostics: vec![warning("config".to_owned(), message)] };
    }
    let excluded = Excluded::of(exclusions);
    let Resolved { entries, skipped, .. } = resolve(instances, &snapshot.interfaces);
    let explained = |skipped: &Skipped| match &skipped.ingress {
        None => excluded.instance(&skipped.instance),
        Some(ingress) => excluded.ingress(&skipped.instance, &ingress.name),
    };
    let mut diagnostics: Vec<Diagnostic> =
        skipped.into_iter().filter(|skipped| !explained(skipped)).map(Into::into).collect();

    let mut table = Found::of(&snapshot.mirrors, &entries, &bad_rates);
    let mut origins = vec![None; snapshot.mirrors.len()];
    for (mirror, origin) in entries {
        let bad_rate = bad_rates.get(&origin.instance);
        if bad_rate.is_none()
            && let Some(origin_of) = table.places.remove(&mirror).and_then(|i| origins.get_mut(i))
        {
            *origin_of = Some(origin);
        } else if !excluded.ingress(&origin.instance, &origin.ingress.name) {
            let message = format!("ingress {} is left out: {}", origin.ingress, table.why(mirror, bad_rate));
            diagnostics.push(warning(subject(&origin.instance, None), message));
        }
    }
    Explained { origins, diagnostics }
}

/// The mirror table, and who would have an entry in it.
struct Found {
    /// The place of each entry that no instance has been found for yet.
    places: HashMap<Mirror, usize>,
    by_ingress: HashMap<u32, Mirror>,
    /// The first two instances of each ingress, among those whose rate may be in a table.
    instances_of: HashMap<u32, (String, Option<String>)>,
}

impl Found {
    fn of(mirrors: &[Mirror], entries: &[(Mirror, Origin)], bad_rates: &HashMap<String, BadRate>) -> Self {
        let mut places = HashMap::with_capacity(mirrors.len());
        let mut by_ingress = HashMap::with_capacity(mirrors.len());
        for (i, &mirror) in mirrors.iter().enumerate() {
            places.entry(mirror).or_insert(i);
            by_ingress.entry(mirror.ingress_ifindex).or_insert(mirror);
        }
        let mut instances_of: HashMap<u32, (String, Option<String>)> = HashMap::with_capacity(entries.len());
        for (mirror, origin) in entries.iter().filter(|(_, origin)| !bad_rates.contains_key(&origin.instance)) {
            let instance = || origin.instance.clone();
            let first = instances_of.entry(mirror.ingress_ifindex);
            first
                .and_modify(|(_, second)| *second = second.take().or_else(|| Some(instance())))
                .or_insert_with(|| (instance(), None));
        }
        Self { places, by_ingress, instances_of }
    }

    /// Why an entry that the configuration would have is not in the table.
    fn why(&self, mirror: Mirror, bad_rate: Option<&BadRate>) -> String {
        let ingress = mirror.ingress_ifindex;
        let instances = self.instances_of.get(&ingress);
        match (instances, bad_rate, self.by_ingress.get(&ingress)) {
            (Some((first, Some(second))), None, _) => {
                let (first, second) = (quoted(first), quoted(second));
                format!("duplicate port-mirroring ingress ifindex {ingress} in instances {first} and {second}")
            }
            // Of a rate that is none, the producer may have made one.
            (Some(_), None, Some(other)) | (None, Some(_), Some(other)) => {
                let rate = match bad_rate {
                    Some(bad) => format!("{}, which {}", bad.written, bad.fault),
                    None => mirror.rate.to_string(),
                };
                format!(
                    "the entry of ifindex {ingress} has output {} and rate {}, not {} and {rate}",
                    other.output_ifindex, other.rate, mirror.output_ifindex
                )
            }
            (_, Some(bad), _) => format!("its rate {} {}", bad.written, bad.fault),
            (_, None, _) => "the producer left it out of mirror_configs".to_owned(),
        }
    }
}

fn warning(subject: String, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, subject, message }
}

/// The instances of a configuration in the Go control plane's shape; what has another shape is not among them.
#[derive(Default)]
struct Configured {
    instances: Vec<Instance>,
    /// By instance.
    bad_rates: HashMap<String, BadRate>,
}

/// A rate that a mirror entry cannot have.
struct BadRate {
    written: String,
    fault: &'static str,
}

impl Configured {
    fn read(top: &Map<String, Value>) -> Self {
        let path = ["ForwardingOptions", "PortMirroring", "Instances"];
        let found = top.get("config").and_then(|config| path.iter().try_fold(config, |at, key| at.get(key)));
        let mut read = Self::default();
        for (name, instance) in found.and_then(Value::as_object).into_iter().flatten() {
            if let Some(instance) = instance.as_object() {
                read.instance(name, instance);
            }
        }
        read
    }

    fn instance(&mut self, name: &str, instance: &Map<String, Value>) {
        let written = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(unplaced);
        let input = instance.get("Input").and_then(Value::as_array);
        let rate = match rate(instance.get("InputRate")) {
            Ok(rate) => Rate::Of(rate),
            Err(bad) => {
                self.bad_rates.insert(name.to_owned(), bad);
                Rate::Invalid
            }
        };
        self.instances.push(Instance {
            name: name.to_owned(),
            at: None,
            rate,
            ingresses: input.into_iter().flatten().filter_map(written).collect(),
            output: instance.get("Output").and_then(written),
        });
    }
}

fn rate(value: Option<&Value>) -> Result<u32, BadRate> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(0) };
    if let Some(rate) = value.as_u64().and_then(|n| u32::try_from(n).ok()) {
        return Ok(rate);
    }
    // Integers beyond 64 bits are floats here.
    let fault = match value.as_f64() {
        Some(n) if n < 0.0 => "is negative",
        Some(n) if n > u32::MAX.into() => "is above 32 bits",
        _ => "is no integer",
    };
    Err(BadRate { written: clipped(&value.to_string()), fault })
}

fn unplaced(name: &str) -> Written {
    Written { name: name.to_owned(), at: None }
}
