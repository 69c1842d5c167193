//! `wait`.

use std::path::Path;

use spanwire::control::state::wait_adopted;

use crate::args::WaitArgs;
use crate::output::{Failure, Output};

/// Waits until every shard uses a generation.
pub(crate) fn wait(dir: &Path, args: &WaitArgs, out: &Output) -> Result<(), Failure> {
    let found = wait_adopted(dir, args.generation, args.timeout)?;
    let wrote = if out.json { out.document(&found) } else { Ok(()) };
    if found.adopted {
        return wrote;
    }
    if !found.dataplane.running {
        return Err(Failure::Error(format!(
            "{}: no dataplane is running, and none appeared in {} s (start spanwired with the same --dir)",
            dir.display(),
            args.timeout.as_secs_f64()
        )));
    }
    Err(Failure::Refused(vec![found.behind(args.timeout)]))
}
