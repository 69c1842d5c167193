//! spanwired: the dataplane process.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use spanwire::daemon::{self, config};
use spanwire::logging;
use spanwire::signals::{HangUp, Signals};
use spanwire::usage;

fn main() -> ExitCode {
    // Before anything else: from here on none ends this process before it has put back what it changed.
    let signals = Signals::hold(HangUp::Ignored);
    let config = match usage::read::<config::Config>(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => return usage::shown(error),
    };
    logging::init();
    let done =
        signals.map_err(|error| format!("cannot hold signals back: {error}")).and_then(|signals| run(config, signals));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // There may be nobody left to tell.
            let _ = writeln!(std::io::stderr(), "spanwired: {}", usage::line(&message));
            ExitCode::from(2)
        }
    }
}

fn run(config: config::Config, mut signals: Signals) -> Result<(), String> {
    let config = config.resolve(&config::processors())?;
    daemon::run(&config, &mut signals).map_err(|error| error.to_string())
}
