//! spanwired: the dataplane process.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use spanwire::daemon::{self, config::Config};
use spanwire::logging;

fn main() -> ExitCode {
    let config = Config::parse();
    logging::init();
    let available: Vec<u32> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id as u32).collect();
    let outcome = config.resolve(&available).and_then(|config| daemon::run(&config).map_err(|e| e.to_string()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("spanwired: {message}");
            ExitCode::from(2)
        }
    }
}
