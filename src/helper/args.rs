//! The command line of spanwire-helper.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::words::Words;
use crate::control::OnAmbiguous;
use crate::control::link::Links;
use crate::control::serve::{Asked, Options, RECORD_FILE, SESSIONS_SOCKET};
use crate::daemon::config::Config;
use crate::links;
use crate::region::{CONFIG_FILE, STATS_FILE};
use crate::rings::RING_ENTRIES;
use crate::usage;

/// Dataplane and control socket in one process, for a producer to start in place of its own helper.
///
/// Answers at the socket at once, whatever ports there are. Ends on a `shutdown` request, SIGTERM, SIGINT or SIGQUIT; other
/// signals are ignored, and so are options that it does not know. Wires that the kernel carries go on crossing then
/// (--on-exit); nothing else stays attached. It goes on where the producer that started it has ended.
#[derive(Clone, Debug, Parser)]
#[command(name = "spanwire-helper", version, args_override_self = true)]
pub struct Args {
    /// Where the producer looks for the control socket
    #[arg(long, value_name = "PATH")]
    control_socket: PathBuf,
    /// File that the status is written to at the start and at the end; the socket tells it at any time
    #[arg(long, value_name = "FILE")]
    state_file: Option<PathBuf>,
    /// Shards, on the last of the processors this may use; 0 means 1, and --cpus comes first
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Told back until the dataplane runs; the rings have sizes of their own
    #[arg(long, value_name = "N")]
    ring_entries: Option<u32>,
    /// How a shard waits for frames: interrupt sleeps, busy-poll is --busy; others sleep
    #[arg(long, value_name = "MODE")]
    poll_mode: Option<String>,
    /// Wire between two ports, names or ifindexes, for snapshots that name no wires; repeat for more
    #[arg(long = "wire", value_name = "A:B")]
    wires: Vec<String>,
    /// The same as a list with commas or spaces; where there is a --wire this does not count
    #[arg(long = "wires", env = "SPANWIRE_WIRES", value_name = "LIST", default_value = "", hide_default_value = true)]
    wire_list: String,
    /// Snapshot protocol version to tell the producer; that of the last snapshot one published here by default, or 43
    #[arg(long, env = "SPANWIRE_PROTOCOL", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    protocol: Option<u32>,
    /// What to do where only the mirror table is refused
    #[arg(long, env = "SPANWIRE_ON_AMBIGUOUS", value_enum, default_value_t, value_name = "POLICY")]
    on_ambiguous: OnAmbiguous,
    #[command(flatten)]
    dataplane: Config,
}

/// What follows for the parts of the helper.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the dataplane.
    pub config: Config,
    /// Of the control socket.
    pub serve: Options,
    /// Where the status is written to.
    pub state_file: Option<PathBuf>,
}

impl Args {
    /// Reads a command line, the program's name first. With it, what of that line is ignored.
    ///
    /// # Errors
    /// A known option lacks its value or has a bad one, or help is asked for.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<(Args, Vec<String>), clap::Error> {
        let Words { known, ignored } = Words::sort(words, Args::command());
        Ok((usage::read(known)?, ignored))
    }

    /// What follows on a machine where this process may use the processors `available`. Tells in the log of what the
    /// producer asks for and does not get.
    ///
    /// # Errors
    /// A message for the user.
    pub fn resolve(self, available: &[u32]) -> Result<Settings, String> {
        let workers = self.workers.unwrap_or(1).max(1);
        if workers > available.len() {
            tracing::warn!("--workers {workers}: there are {} processors, so that many shards", available.len());
        }
        if let Some(entries) = self.ring_entries.filter(|entries| *entries != RING_ENTRIES) {
            tracing::info!("--ring-entries {entries}: every ring has {RING_ENTRIES} here");
        }
        let mut config = self.dataplane.with_shards(workers, available);
        config.busy |= is_busy(self.poll_mode.as_deref());
        let config = config.resolve(available)?;
        let sessions = self.control_socket.with_file_name(SESSIONS_SOCKET);
        let files = [CONFIG_FILE, STATS_FILE, RECORD_FILE].map(|name| config.dir.join(name));
        let is_other = |file: &&PathBuf| **file == self.control_socket || **file == sessions || files.contains(file);
        if let Some(file) = self.state_file.as_ref().filter(is_other) {
            return Err(format!("--state-file: {} is there for something else (give it another name)", file.display()));
        }
        let wires = if self.wires.is_empty() { split(&self.wire_list) } else { self.wires };
        let asked = Asked {
            state_file: self.state_file.clone(),
            workers: self.workers,
            ring_entries: self.ring_entries,
            poll_mode: self.poll_mode,
        };
        let serve = Options {
            wires,
            links: devices,
            on_ambiguous: self.on_ambiguous,
            protocol: self.protocol,
            asked,
            ..Options::new(config.dir.clone(), self.control_socket)
        };
        Ok(Settings { config, serve, state_file: self.state_file })
    }
}

/// The devices around this process, which are the dataplane's.
fn devices(_: &Path) -> Option<Links> {
    links::own().inspect_err(|error| tracing::warn!("whether the ports are there is not checked: {error}")).ok()
}

fn is_busy(poll_mode: Option<&str>) -> bool {
    match poll_mode {
        Some("busy-poll" | "busy") => true,
        None | Some("interrupt") => false,
        Some(other) => {
            tracing::warn!("--poll-mode {other} is unknown here: shards sleep when idle (known: interrupt, busy-poll)");
            false
        }
    }
}

fn split(list: &str) -> Vec<String> {
    list.split([',', ' ', '\t', '\n']).filter(|wire| !wire.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LEAST: &str = "helper --dir /run/y --control-socket /run/x/dp.sock";

    fn settings(line: &str, available: &[u32]) -> Result<Settings, String> {
        let read = Args::read(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string());
        read.and_then(|(args, _)| args.resolve(available))
    }

    #[test]
    fn the_line_of_a_producer() {
        let line =
            format!("{LEAST} --state-file /run/x/state.json --workers 2 --ring-entries 1024 --poll-mode busy-poll");
        let Settings { config, serve, state_file } = settings(&line, &[0, 1, 5]).unwrap();
        assert_eq!((config.cpus.as_slice(), config.busy, config.frames), (&[1, 5][..], true, None));
        assert_eq!((config.dir.as_path(), serve.dir.as_path()), (Path::new("/run/y"), Path::new("/run/y")));
        assert_eq!(serve.socket, Path::new("/run/x/dp.sock"));
        assert_eq!(state_file.as_deref(), Some(Path::new("/run/x/state.json")));
        let Asked { state_file, workers, ring_entries, poll_mode } = serve.asked;
        assert_eq!((state_file.is_some(), workers, ring_entries), (true, Some(2), Some(1024)));
        assert_eq!(poll_mode.as_deref(), Some("busy-poll"));
    }

    #[test]
    fn workers_are_shards_on_the_last_processors() {
        for (options, cpus) in [
            ("", &[7][..]),
            ("--workers 0", &[7]),
            ("--workers 3", &[2, 5, 7]),
            ("--workers 99", &[0, 2, 5, 7]),
            ("--workers 3 --cpus 0", &[0]),
            ("--workers 1 --workers=2", &[5, 7]),
        ] {
            assert_eq!(settings(&format!("{LEAST} {options}"), &[0, 2, 5, 7]).unwrap().config.cpus, cpus, "{options}");
        }
        assert!(settings(LEAST, &[]).unwrap_err().contains("no processor"));
    }

    #[test]
    fn only_busy_polling_is_busy() {
        for (mode, busy) in [
            ("", false),
            ("--poll-mode interrupt", false),
            ("--poll-mode adaptive", false),
            ("--poll-mode busy-poll", true),
            ("--busy --poll-mode interrupt", true),
            ("--busy=true", true),
            ("--busy=yes --busy=false", false),
            ("--busy=perhaps", false),
        ] {
            assert_eq!(settings(&format!("{LEAST} {mode}"), &[0]).unwrap().config.busy, busy, "{mode}");
        }
    }

    #[test]
    fn wires_of_the_line_come_before_those_of_a_list() {
        for (options, wires) in [
            ("", &[][..]),
            ("--wire 11:12 --wire a:b", &["11:12", "a:b"]),
            ("--wires 11:12,a:b,", &["11:12", "a:b"]),
            ("--wires 11:12 --wire a:b", &["a:b"]),
        ] {
            assert_eq!(settings(&format!("{LEAST} {options}"), &[0]).unwrap().serve.wires, wires, "{options}");
        }
        assert_eq!(split(" 11:12\n a:b , c:d"), ["11:12", "a:b", "c:d"]);
    }

    #[test]
    fn an_ambiguous_table_is_refused_unless_the_line_says_otherwise() {
        for (options, policy) in [
            ("", OnAmbiguous::Reject),
            ("--on-ambiguous omit", OnAmbiguous::Omit),
            ("--on-ambiguous skip", OnAmbiguous::Skip),
        ] {
            assert_eq!(settings(&format!("{LEAST} {options}"), &[0]).unwrap().serve.on_ambiguous, policy, "{options}");
        }
    }

    #[test]
    fn what_is_known_and_bad_is_an_error() {
        for (line, told) in [
            ("helper", "--control-socket"),
            ("helper --control-socket", "--control-socket"),
            ("helper --control-socket /s --workers many", "many"),
            ("helper --control-socket /s --ring-entries -1", "-1"),
            ("helper --control-socket /s --frame-size 1", "2048"),
            ("helper --control-socket /s --cpus 9", "--cpus"),
            ("helper --control-socket /s --state-file /s", "/s is there for something else"),
            (
                "helper --control-socket /s --dir /d --state-file /d/config.shm",
                "config.shm is there for something else",
            ),
            (
                "helper --control-socket /r/s --state-file /r/userspace-dp-sessions.sock",
                "sessions.sock is there for something else",
            ),
            (
                "helper --control-socket /s --dir /d --state-file /d/producer.json",
                "/d/producer.json is there for something else",
            ),
            ("helper --control-socket /s --on-ambiguous perhaps", "omit"),
        ] {
            let error = settings(line, &[0]).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        assert!(settings(&format!("{LEAST} --unheard-of 3 of"), &[0]).is_ok());
    }

    /// A producer fixes the command line: whoever runs it has only the environment.
    #[test]
    fn every_option_of_the_dataplane_can_come_from_the_environment() {
        let command = Config::command();
        for option in command.get_arguments() {
            let want = format!("SPANWIRE_{}", option.get_long().unwrap().replace('-', "_").to_uppercase());
            assert_eq!(option.get_env().unwrap().to_str(), Some(want.as_str()));
        }
    }
}
