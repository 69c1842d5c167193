//! The options of `spanbench wire`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use spanwire::kernel::path::Path;
use spanwire::kernel::xdp::XdpMode;

use super::error::{Result, WireError};
use super::report::{LeftOut, Settings};
use super::system::{Mode, Setup, System};

/// Options of `spanbench wire`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WireArgs {
    /// How frames cross spanwire; each path is measured as a system of its own
    #[arg(long, value_delimiter = ',', value_name = "xdp,tc,shard", default_value = "xdp,tc,shard", value_parser = path)]
    path: Vec<Path>,
    /// Peers to measure beside spanwire; without this all that are installed, "none" for none
    #[arg(long, value_delimiter = ',', value_name = "testpmd,devmap,tc,bridge|none", value_parser = peer)]
    peer: Option<Vec<Peer>>,
    /// What the systems do
    #[arg(long, value_enum, value_delimiter = ',', default_value = "forward,mirror")]
    pub mode: Vec<Mode>,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "max,zero-loss,half-percent,latency")]
    pub measure: Vec<Measure>,
    /// Frame lengths without checksum, bytes
    #[arg(long, value_delimiter = ',', default_value = "64,1400", value_parser = clap::value_parser!(u32).range(60..=1514))]
    pub sizes: Vec<u32>,
    /// Runs of each system
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Milliseconds of each trial
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    trial_ms: u64,
    /// The searches end at an interval of this part of the highest rate, %
    #[arg(long, default_value_t = 1.0, value_parser = percent)]
    resolution: f64,
    /// Times a failed trial of a search is tried again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=10))]
    pub retries: u32,
    /// Above 10 % load, look at 1 in so many frames for latency and order
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// Mode of the XDP programs of the sinks and of the devmap peer
    #[arg(long, value_enum, default_value_t = Xdp::Native)]
    sink_xdp: Xdp,
    /// Processor of the tester, and so of the in-kernel peers
    #[arg(long, default_value_t = 0)]
    pub tester_cpu: usize,
    /// Processor of spanwired and testpmd
    #[arg(long, default_value_t = 1)]
    pub dut_cpu: usize,
    /// The daemon; without this the one beside spanbench
    #[arg(long, value_name = "FILE")]
    spanwired: Option<PathBuf>,
    /// One more option for the daemon; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    spanwired_arg: Vec<String>,
}

impl WireArgs {
    /// The time of a trial.
    pub(super) fn trial(&self) -> Duration {
        Duration::from_millis(self.trial_ms)
    }

    /// The width of a search's last interval, part of the highest rate.
    pub(super) fn resolution(&self) -> f64 {
        self.resolution / 100.0
    }

    /// The paths of spanwire to measure, none twice.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        for &path in &self.path {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// The systems to measure in `mode`, spanwire first; those that cannot be go to `left_out`.
    ///
    /// # Errors
    /// A peer that was named is not there.
    pub(super) fn systems(&self, mode: Mode, left_out: &mut Vec<LeftOut>) -> Result<Vec<System>> {
        let named = self.peer.iter().flatten().filter_map(|peer| match peer {
            Peer::Of(system) => Some(*system),
            Peer::None => None,
        });
        let peers: Vec<System> = if self.peer.is_some() { named.collect() } else { System::PEERS.to_vec() };
        let mut systems: Vec<System> = self.paths().into_iter().map(System::Spanwire).collect();
        for system in peers {
            if systems.contains(&system) {
                continue;
            }
            match system.unavailable(mode) {
                None => systems.push(system),
                Some(reason) if self.peer.is_some() && !reason.by_nature => {
                    return Err(WireError::System { system: system.as_str(), reason: reason.text.to_owned() });
                }
                Some(reason) => left_out.push(LeftOut { system, mode, reason: reason.text.to_owned() }),
            }
        }
        Ok(systems)
    }

    /// How systems are started.
    ///
    /// # Errors
    /// A processor that may not be used; the daemon is not there.
    pub(super) fn setup(&self) -> Result<Setup> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let allowed: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
        for (option, cpu) in [("--tester-cpu", self.tester_cpu), ("--dut-cpu", self.dut_cpu)] {
            if !allowed.contains(&cpu) {
                return Err(WireError::Cpu { option, cpu, allowed });
            }
        }
        let spanwired = match &self.spanwired {
            Some(path) => path.clone(),
            None => std::env::current_exe().map_err(WireError::io("finding spanwired"))?.with_file_name("spanwired"),
        };
        if !spanwired.is_file() {
            let file = spanwired.display();
            let reason = format!("{file} is not there: build it (cargo build --release), or give --spanwired");
            return Err(WireError::System { system: "spanwire", reason });
        }
        Ok(Setup {
            tester_cpu: self.tester_cpu,
            dut_cpu: self.dut_cpu,
            xdp_mode: self.sink_xdp.into(),
            spanwired,
            spanwired_args: self.spanwired_arg.clone(),
        })
    }

    /// What a reader of the figures must know.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            runs: self.runs as usize,
            trial_seconds: self.trial().as_secs_f64(),
            resolution: self.resolution(),
            retries: self.retries,
            xdp_mode: XdpMode::from(self.sink_xdp).as_str(),
            sampled: self.sample,
            spanwired_args: self.spanwired_arg.clone(),
        }
    }
}

/// One word of `--peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    None,
    Of(System),
}

fn peer(text: &str) -> std::result::Result<Peer, String> {
    let allowed = || format!("allowed: {}, none", System::PEERS.map(System::as_str).join(", "));
    match text {
        "none" => Ok(Peer::None),
        _ => System::PEERS.into_iter().find(|peer| peer.as_str() == text).map(Peer::Of).ok_or_else(allowed),
    }
}

fn path(text: &str) -> std::result::Result<Path, String> {
    let allowed = || format!("allowed: {}", System::PATHS.map(Path::as_str).join(", "));
    System::PATHS.into_iter().find(|path| path.as_str() == text).ok_or_else(allowed)
}

fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=50.0).contains(&value) => Ok(value),
        _ => Err("allowed: 0.01 to 50".to_owned()),
    }
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Frames that arrive when as many as possible are sent
    Max,
    /// The highest rate without a lost frame
    ZeroLoss,
    /// The highest rate with at most 0.5 % lost
    HalfPercent,
    /// Latency and order at 10, 50 and 90 % of the rate without loss (which is then searched too)
    Latency,
}

/// `--sink-xdp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Xdp {
    /// In the driver
    Native,
    /// In the core stack
    Generic,
}

impl From<Xdp> for XdpMode {
    fn from(xdp: Xdp) -> XdpMode {
        match xdp {
            Xdp::Native => XdpMode::Native,
            Xdp::Generic => XdpMode::Generic,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wire: WireArgs,
    }

    fn parse(line: &str) -> std::result::Result<WireArgs, String> {
        let words = ["wire"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.wire).map_err(|e| e.to_string())
    }

    #[test]
    fn peers_are_named_or_none() {
        let mut left_out = Vec::new();
        let ours = System::Spanwire(Path::Tc);
        let args = parse("--path tc --peer tc,devmap,tc").unwrap();
        assert_eq!(args.systems(Mode::Mirror, &mut left_out).unwrap(), [ours, System::Tc, System::Devmap]);
        let args = parse("--path tc --peer none").unwrap();
        assert_eq!(args.systems(Mode::Forward, &mut left_out).unwrap(), [ours]);
        assert!(left_out.is_empty());
        assert!(parse("--peer spanwire").unwrap_err().contains("testpmd, devmap, tc, bridge, none"));
    }

    #[test]
    fn each_path_is_a_system_and_without_a_word_all_are() {
        let paths = |line: &str| parse(line).unwrap().paths();
        assert_eq!(paths(""), [Path::Xdp, Path::Tc, Path::Shard]);
        assert_eq!(paths("--path shard,xdp,shard"), [Path::Shard, Path::Xdp]);
        for word in ["auto", "XDP", ""] {
            assert!(parse(&format!("--path={word}")).unwrap_err().contains("allowed: xdp, tc, shard"), "{word}");
        }
    }

    #[test]
    fn what_does_not_mirror_is_left_out_of_that_mode() {
        let mut left_out = Vec::new();
        let args = parse("--path xdp --peer testpmd").unwrap();
        assert_eq!(args.systems(Mode::Mirror, &mut left_out).unwrap(), [System::Spanwire(Path::Xdp)]);
        assert_eq!(left_out.len(), 1);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for line in ["--resolution 0", "--resolution NaN", "--sizes 59", "--sizes 1515", "--runs 0", "--trial-ms 0"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_processor_that_is_not_there_is_named() {
        let error = parse("--dut-cpu 100000").unwrap().setup().unwrap_err().to_string();
        assert!(error.starts_with("--dut-cpu 100000: "), "{error}");
    }
}
