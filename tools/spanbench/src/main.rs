//! spanbench: measures spanwire.
//!
//! - [`core`]: what a frame costs a shard's processor and how long a shard has it, on kernel-free rings
//! - [`wire`]: real frames over real sockets, beside other forwarders
//! - [`handoff`]: how soon the shards of a running dataplane use what is published
//! - [`instructions`]: how many instructions a shard spends on a frame, beside a committed table
//! - [`report`]: runs the set and writes it down
//! - [`rig`]: the shard that `core` measures
//! - [`summary`], [`table`], [`chart`]: medians and spreads, and tables and pictures of them; [`goal`]: what they are to be
//! - [`machine`], [`interrupt`]: where figures are from, and ending in good order
#![forbid(unsafe_code)]

mod chart;
mod core;
mod goal;
mod handoff;
mod instructions;
mod interrupt;
mod machine;
mod report;
mod rig;
mod summary;
mod table;
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
    Wire(wire::args::WireArgs),
    /// What a monitor port costs the primary while it is healthy, down, stalled, jammed or gone: root, as `wire`
    States(wire::states::StatesArgs),
    /// What a busy process on every processor costs the wire: root, as `wire`
    Neighbour(wire::neighbour::NeighbourArgs),
    /// What a stream of TCP reaches between two hosts over a wire that mirrors every frame: root, as `wire`
    Tcp(wire::tcp::TcpArgs),
    /// How long a publish takes to reach the last shard of a running dataplane
    Handoff(handoff::HandoffArgs),
    /// What publishes cost the frames that cross meanwhile: root, as `wire`
    Publishing(wire::publishing::PublishingArgs),
    /// How many instructions a shard spends on a frame, beside the committed table: needs valgrind. Exits 1 if a figure
    /// differs
    Instructions(instructions::InstructionsArgs),
    /// All of these, written down as Markdown with pictures, and as JSON
    Report(report::ReportArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json;
    let mut differs = false;
    let text = match &args.command {
        Command::Core(core) => show(core::run(core), json),
        Command::Wire(wire) => show(wire::run(wire), json),
        Command::States(states) => show(wire::states::run(states), json),
        Command::Neighbour(neighbour) => show(wire::neighbour::run(neighbour), json),
        Command::Tcp(tcp) => show(wire::tcp::run(tcp), json),
        Command::Handoff(handoff) => show(handoff::run(handoff), json),
        Command::Publishing(publishing) => show(wire::publishing::run(publishing), json),
        Command::Instructions(args) => {
            let outcome = instructions::run(args);
            differs = outcome.as_ref().is_ok_and(instructions::InstructionsReport::differs);
            show(outcome, json)
        }
        Command::Report(report) => show(report::run(report), json),
    };
    let written = text.and_then(|text| match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    });
    match written {
        Ok(()) => ExitCode::from(u8::from(differs)),
        Err(message) => {
            eprintln!("spanbench: {message}");
            ExitCode::from(2)
        }
    }
}

fn show<R: Serialize + Display, E: Display>(outcome: Result<R, E>, json: bool) -> Result<String, String> {
    let report = outcome.map_err(|error| error.to_string())?;
    if json { serde_json::to_string_pretty(&report).map_err(|e| e.to_string()) } else { Ok(report.to_string()) }
}
