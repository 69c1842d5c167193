//! `serve`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use spanwire::control::serve::{Options, Server};
use spanwire::control::source::Format;
use spanwire::logging;

use crate::args::{OnAmbiguous, ServeArgs};
use crate::document::live;
use crate::output::Failure;

/// Serves until it is asked to stop, and removes the socket.
pub(crate) fn serve(dir: &Path, args: ServeArgs) -> Result<(), Failure> {
    logging::init();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::Error(format!("cannot handle signals: {error}")))?;
    }
    let server = Server::bind(Options {
        wires: args.wires.wires,
        links: |dir| live(dir, Format::Snapshot).ok().flatten(),
        omit_ambiguous: args.on_ambiguous == OnAmbiguous::Omit,
        ..Options::new(dir.to_owned(), args.socket)
    })?;
    Ok(server.run(&stop)?)
}
