//! SIGINT and SIGTERM: noted, and looked at between and within steps, so that everything gets cleaned up on the way
//! out.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use signal_hook::consts::{SIGINT, SIGTERM};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on the signals are noted and end nothing by themselves.
///
/// # Errors
/// The handlers could not be set.
pub(crate) fn install() -> io::Result<()> {
    let stop = STOP.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// Whether one of the signals has come.
pub(crate) fn requested() -> bool {
    // Relaxed: a moment later is soon enough.
    STOP.get().is_some_and(|stop| stop.load(Relaxed))
}
