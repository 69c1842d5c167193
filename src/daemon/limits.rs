//! What the process may use, as far as it may say so itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one: a port takes some four of them, and what shells and units give
/// by default ends at about 250 ports. Where the hard limit is short too, the port that meets it says so.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!("the limit on open files stays {current:?}: {error}");
    }
}
