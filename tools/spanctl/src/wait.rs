//! `wait`.

use std::path::Path;

use spanwire::control::Reason;
use spanwire::control::state::{Adoption, wait_adopted};

use crate::args::WaitArgs;
use crate::output::{Failure, Output};
use crate::table::printable;

/// Waits until every shard uses a generation.
pub(crate) fn wait(dir: &Path, args: &WaitArgs, out: &Output) -> Result<(), Failure> {
    let found = wait_adopted(dir, args.generation, args.timeout)?;
    let wrote = if out.json { out.document(&found) } else { Ok(()) };
    if found.adopted {
        return wrote;
    }
    let seconds = args.timeout.as_secs_f64();
    if !found.dataplane.running {
        return Err(Failure::Error(format!(
            "{}: no dataplane is running, and none appeared in {seconds} s",
            dir.display()
        )));
    }
    Err(Failure::Refused(vec![behind(&found, seconds)]))
}

fn behind(found: &Adoption, seconds: f64) -> Reason {
    let late: Vec<String> = found
        .shards
        .iter()
        .filter(|shard| shard.adopted_generation < found.generation)
        .map(|shard| format!("shard {} at {}", shard.id, shard.adopted_generation))
        .collect();
    let late = if late.is_empty() { "no shard has started".to_owned() } else { late.join(", ") };
    let mut text = format!("generation {} is not in use everywhere after {seconds} s: {late}", found.generation);
    if !found.dataplane.last_reject.is_empty() {
        text += &format!("; the dataplane refused a snapshot: {}", printable(&found.dataplane.last_reject));
    }
    Reason::new(text)
}
