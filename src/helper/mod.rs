//! The program that a producer starts in place of a helper of its own: dataplane and control socket as one process.
//!
//! ```text
//!   command line ── words ──> args ──┬──> control::serve   socket ══ producer
//!                                    │        └──> config.shm ──┐
//!                                    └──> daemon <──────────────┘   ports
//! ```
//!
//! - [`words`]: what of a command line is known here; a newer producer may say more
//! - [`args`]: what it says, and what follows for the two parts
//!
//! The parts meet in the regions alone, as they do in processes of their own. The socket is there at once, and answers
//! when the dataplane has begun, whatever ports there are.

pub mod args;
pub mod words;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::control::serve::{ServeError, Server};
use crate::control::state::{Stats, last_stats};
use crate::daemon::berths::Berths;
use crate::daemon::{DaemonError, Dataplane};
use crate::region::write_beside;
use crate::signals::Signals;
use crate::stop::{Stop, StopAtEnd};
use args::Settings;

/// How long a producer that comes at once waits for the dataplane to begin: less than it wants to wait in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// Why the helper could not start or go on.
#[derive(Debug, Error)]
pub enum HelperError {
    /// The dataplane.
    #[error(transparent)]
    Dataplane(#[from] DaemonError),
    /// The control socket.
    #[error(transparent)]
    Server(#[from] ServeError),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The thread of the socket panicked.
    #[error("the server thread ended unexpectedly")]
    ServerDied,
}

/// Runs both parts until a signal or a request asks for the end of either, and takes both down again.
///
/// # Errors
/// [`HelperError`]; nothing is left attached, and no socket.
pub fn run(settings: Settings, mut signals: Signals) -> Result<(), HelperError> {
    let Settings { config, serve, state_file } = settings;
    make_parent(&serve.socket)
        .map_err(|source| HelperError::System { action: "make the directory of --control-socket", source })?;
    // First: whoever has no right to the ports of this directory answers no producer.
    let dataplane = Dataplane::open(&config)?;
    let server = Server::bind(serve)?;
    let stop = Stop::new().map_err(|source| HelperError::System { action: "make an event", source })?;
    let stop = Arc::new(stop);
    let berths = dataplane.berths();
    let done = thread::scope(|scope| {
        // However this or the other thread ends, the other one ends too.
        let _stop = StopAtEnd(&stop);
        let served = thread::Builder::new().name("server".to_owned()).spawn_scoped(scope, || {
            let _stop = StopAtEnd(&stop);
            // Of control too. Those of clients, which do not last, begin where it is.
            berths.iter().for_each(Berths::come);
            wait_for_dataplane(&config.dir, &stop);
            tell_state(&server, state_file.as_deref());
            server.run(&stop)
        });
        let served = served.map_err(|source| HelperError::System { action: "start a thread", source })?;
        let ran = dataplane.run(&mut signals, &stop);
        stop.set();
        let served = served.join().map_err(|_| HelperError::ServerDied);
        ran?;
        Ok(served??)
    });
    tell_state(&server, state_file.as_deref());
    done
}

/// Waits until the dataplane of this process tells of itself: a producer that hears of none does without it for a while.
/// One that hears nothing for longer gives up, so this does too.
fn wait_for_dataplane(dir: &Path, stop: &Stop) {
    let own = |stats: &Stats| stats.running() && stats.pid() == std::process::id();
    let start = Instant::now();
    while start.elapsed() < PATIENCE
        && !stop.is_set()
        && !last_stats(dir).ok().flatten().is_some_and(|stats| own(&stats))
    {
        thread::sleep(LOOK);
    }
}

/// Writes the status, as the socket tells it, to the producer's state file. A wire does not wait for that.
fn tell_state(server: &Server, file: Option<&Path>) {
    let (Some(file), Some(status)) = (file, server.status()) else { return };
    let text = format!("{}\n", status.get());
    let told = make_parent(file).map_err(|error| error.to_string());
    if let Err(error) = told.and_then(|()| write_beside(file, text.as_bytes()).map_err(|error| error.to_string())) {
        tracing::warn!("--state-file: {error}");
    }
}

/// Makes the directory of a file, with the mode that the producer would give it.
fn make_parent(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| DirBuilder::new().recursive(true).mode(0o755).create(parent))
}
