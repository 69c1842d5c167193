//! spanbench: measures spanwire.
//!
//! - [`core`]: what a frame costs a shard's processor, on kernel-free rings
//! - [`wire`]: real frames over real sockets, beside other forwarders
//! - [`handoff`]: how soon the shards of a running dataplane use what is published
//! - [`rig`]: the shard that `core` measures
//! - [`summary`], [`machine`], [`interrupt`]: medians, where they are from, and ending in good order
#![forbid(unsafe_code)]

mod core;
mod handoff;
mod interrupt;
mod machine;
mod rig;
mod summary;
mod wire;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

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
    /// Throughput, loss and latency of real frames, beside other forwarders: root, in namespaces of its own
    Wire(wire::WireArgs),
    /// How long a publish takes to reach the last shard of a running dataplane
    Handoff(handoff::HandoffArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let text = match &args.command {
        Command::Core(core) => core::run(core).map_err(|e| e.to_string()).and_then(|r| render(&r, args.json)),
        Command::Wire(wire) => wire::run(wire).map_err(|e| e.to_string()).and_then(|r| render(&r, args.json)),
        Command::Handoff(handoff) => {
            handoff::run(handoff).map_err(|e| e.to_string()).and_then(|r| render(&r, args.json))
        }
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

fn render(report: &(impl Serialize + Display), json: bool) -> Result<String, String> {
    if json { serde_json::to_string_pretty(report).map_err(|e| e.to_string()) } else { Ok(report.to_string()) }
}
