//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use spanwire::control::OnAmbiguous;

/// Check, publish and show what spanwire mirrors.
///
/// Exit status: 0 done, 1 refused, 2 usage or I/O.
#[derive(Debug, Parser)]
#[command(name = "spanctl", version, about, long_about)]
pub(crate) struct Args {
    /// Directory of the regions shared with spanwired
    #[arg(long, global = true, env = "SPANWIRE_DIR", default_value = "/run/spanwire", value_name = "DIR")]
    pub dir: PathBuf,
    /// Write JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a configuration would be accepted; publishes nothing and needs no dataplane
    Check(CheckArgs),
    /// Publish a snapshot
    Import(ImportArgs),
    /// Publish a Junos configuration or a snapshot
    Commit(CommitArgs),
    /// Write the published snapshot as a JSON document
    Export,
    /// Show what is published, and whether it works
    Show,
    /// Show every counter
    Stats(StatsArgs),
    /// Wait until every shard uses a generation
    Wait(WaitArgs),
    /// List the snapshots published last
    History,
    /// Publish an earlier snapshot again, as a new generation
    Rollback(RollbackArgs),
    /// Show whether this node mirrors, or set it
    Role(RoleArgs),
    /// Serve a producer's control socket until SIGTERM or a request to shut down
    Serve(ServeArgs),
    /// Take off what a spanwired that has ended left on the ports of its wires, where frames cross still
    Detach(DetachArgs),
    /// Compile a configuration to an image file
    Compile(CompileArgs),
    /// Check an image file and show what it holds
    Inspect(InspectArgs),
    /// Write a shell's completions of a command on standard output
    Completions(CompletionsArgs),
    /// Write the manual pages of spanctl, spanwired and spanwire-helper
    Man(ManArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub source: SourceArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// A configuration and what it is read with.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// Junos configuration or JSON snapshot; - for standard input
    pub file: PathBuf,
    /// JSON list of interfaces to use in place of the live system's and of a snapshot's own
    #[arg(long, value_name = "FILE")]
    pub interfaces: Option<PathBuf>,
    #[command(flatten)]
    pub wires: WireArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// Snapshot document; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub wires: WireArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PolicyArgs {
    /// What to do where only the mirror table is refused
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub on_ambiguous: OnAmbiguous,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// How many publishes to go back, as `history` numbers them; 0 is the newest
    #[arg(default_value_t = 1, value_name = "N")]
    pub back: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DetachArgs {
    /// Only this wire, by its name in the published snapshot; repeat for more
    #[arg(long = "wire", value_name = "NAME")]
    pub wires: Vec<String>,
    /// What spanwired was given as --pins
    #[arg(long, env = "SPANWIRE_PINS", value_name = "DIR")]
    pub pins: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Image file to write
    #[arg(short, long, value_name = "IMG")]
    pub output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Image file; - for standard input
    pub image: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WireArgs {
    /// Wire between two ports, names (of interfaces or devices) or ifindexes, for a document that names no wires; repeat for more
    #[arg(long = "wire", value_name = "A:B")]
    pub wires: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RoleArgs {
    /// active mirrors, standby only forwards; without it the role is shown
    pub role: Option<RoleChoice>,
    /// Seconds to wait at most until every shard has it and earlier clones have left
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, requires = "role")]
    pub timeout: Duration,
}

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleChoice {
    /// Forward and mirror
    Active,
    /// Forward only
    Standby,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where the socket is to be
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Snapshot protocol version to tell producers; that of the last snapshot one published here by default, or 43
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub protocol: Option<u32>,
    #[command(flatten)]
    pub wires: WireArgs,
    /// What to do where only the mirror table is refused
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub on_ambiguous: OnAmbiguous,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
    /// The command
    #[arg(long, value_enum, default_value_t, value_name = "COMMAND")]
    pub of: Program,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Directory to write them to; made where it is missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// A command with completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The control command
    #[default]
    Spanctl,
    /// The dataplane
    Spanwired,
    /// Dataplane and control socket as one, for a producer to start
    SpanwireHelper,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// Repeat until interrupted, every second or as often as given, with rates; with --json one document a line
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = interval)]
    pub watch: Option<Duration>,
    /// Every counter, also where it is zero everywhere, and the part of each shard in every mirror entry
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// The generation, or any newer one
    #[arg(long, value_name = "N")]
    pub generation: u64,
    /// Seconds to wait at most
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| format!("not in 0 to {} seconds", LONGEST.as_secs()))
}

/// The longest time that can be asked for: a year, as good as for ever, and no clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// At least a tenth of a second: watching must not become load.
fn interval(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|s| match s.as_millis() {
        100.. => Ok(s),
        _ => Err("less than 0.1 seconds".to_owned()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_clock_reaches_is_refused() {
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        for text in ["1e19", "-1", "NaN", "inf", "31536001"] {
            assert_eq!(seconds(text).unwrap_err(), "not in 0 to 31536000 seconds", "{text}");
        }
        assert_eq!(seconds("soon").unwrap_err(), "not a number of seconds");
    }
}
