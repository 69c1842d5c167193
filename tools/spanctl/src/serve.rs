//! `serve`.

use std::path::Path;
use std::thread;

use spanwire::control::serve::{Options, Server};
use spanwire::control::source::Format;
use spanwire::logging;
use spanwire::signals::{HangUp, Signals};
use spanwire::stop::{Stop, StopAtEnd};

use crate::args::ServeArgs;
use crate::document::live;
use crate::output::Failure;

/// Serves until it is asked to stop, and removes the socket.
pub(crate) fn serve(dir: &Path, args: ServeArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Error(format!("cannot hold signals back: {error}"));
    let signals = Signals::hold(HangUp::Ends).map_err(failed)?;
    logging::init();
    let server = Server::bind(Options {
        protocol: args.protocol,
        wires: args.wires.wires,
        links: |dir| live(dir, Format::Snapshot).ok().flatten(),
        on_ambiguous: args.on_ambiguous,
        ..Options::new(dir.to_owned(), args.socket)
    })?;
    let stop = Stop::new().map_err(failed)?;
    thread::scope(|scope| {
        let watch = thread::Builder::new().name("signals".to_owned());
        watch.spawn_scoped(scope, || signals.watch(&stop)).map_err(failed)?;
        let _stop = StopAtEnd(&stop);
        Ok(server.run(&stop)?)
    })
}
