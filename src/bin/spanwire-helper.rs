//! spanwire-helper: dataplane and control socket in one process, for a producer to start.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use spanwire::daemon::config::processors;
use spanwire::helper::{self, args::Args};
use spanwire::logging;
use spanwire::signals::{HangUp, Signals};
use spanwire::usage;

fn main() -> ExitCode {
    // Before anything else: from here on none ends this process before it has put back what it changed.
    let signals = Signals::hold(HangUp::Ignored);
    let (args, ignored) = match Args::read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => return usage::shown(error),
    };
    logging::init();
    for words in ignored {
        tracing::warn!("{words} on the command line is unknown here and ignored");
    }
    let done =
        signals.map_err(|error| format!("cannot hold signals back: {error}")).and_then(|signals| run(args, signals));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "spanwire-helper: {}", usage::line(&message));
            ExitCode::from(2)
        }
    }
}

fn run(args: Args, signals: Signals) -> Result<(), String> {
    helper::run(args.resolve(&processors())?, signals).map_err(|error| error.to_string())
}
