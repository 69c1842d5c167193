//! spanbench: measures spanwire.
//!
//! - [`core`]: what a frame costs a shard's processor, on kernel-free rings
//! - [`rig`]: the shard it is measured on
#![forbid(unsafe_code)]

mod core;
mod rig;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure spanwire.
#[derive(Debug, Parser)]
#[command(name = "spanbench", version)]
struct Args {
    /// Write JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What a frame costs a shard's processor: no kernel, no privilege
    Core(core::CoreArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Command::Core(core) = &args.command;
    let text = match core::run(core) {
        Ok(report) if args.json => serde_json::to_string_pretty(&report).map_err(|e| e.to_string()),
        Ok(report) => Ok(report.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let written = text.and_then(|text| match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("spanbench: {message}");
            ExitCode::from(2)
        }
    }
}
