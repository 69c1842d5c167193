//! spanwired: the dataplane process.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use spanwire::daemon::{self, config::Config};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_env("SPANWIRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .init();
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
