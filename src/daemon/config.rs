//! The command line of spanwired.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, ValueEnum};

use crate::kernel::path::PathChoice;
use crate::kernel::steer::XdpModeChoice;
use crate::shard::origin::MAX_SHARDS;
use crate::text::excerpt;
use crate::xsk::socket::BindMode;

/// Forwards frames between the ports of wires and mirrors sampled copies to monitor ports.
///
/// What to forward and what to mirror comes from the snapshot that `spanctl import` publishes; it may be
/// published before or after this starts. Ends on SIGTERM, SIGINT or SIGQUIT, and ignores other signals. Wires that the
/// kernel carries go on crossing then (--on-exit); nothing else stays attached.
#[derive(Clone, Debug, Parser)]
#[command(name = "spanwired", version)]
pub struct Config {
    /// Directory of config.shm and stats.shm
    #[arg(long, env = "SPANWIRE_DIR", default_value = "/run/spanwire", value_name = "D")]
    pub dir: PathBuf,
    /// Processors to pin shards to, one shard each: "0,1" or "2-5"; the last one by default
    #[arg(long = "cpus", env = "SPANWIRE_CPUS", value_name = "LIST", default_value_t, hide_default_value = true)]
    cpus_wanted: CpuList,
    /// Primary frames of each shard, for receiving and forwarding, at most; as many as its ports need by default
    #[arg(long, env = "SPANWIRE_FRAMES", value_name = "N", value_parser = clap::value_parser!(u32).range(64..=1 << 22))]
    pub frames: Option<u32>,
    /// Mirror frames of each shard: all that clones can ever hold; at least as many as shards, or 0 for no mirroring
    #[arg(long, env = "SPANWIRE_MIRROR_FRAMES", default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 22))]
    pub mirror_frames: u32,
    /// Bytes of a frame: 2048 takes an MTU up to 1770, 4096 up to 3818; in zero-copy it depends on the driver
    #[arg(long, env = "SPANWIRE_FRAME_SIZE", default_value = "2048", value_name = "BYTES", value_parser = frame_size)]
    pub frame_size: u32,
    /// How frames cross: xdp and tc in the kernel, shard through AF_XDP sockets; auto: in the kernel where it can
    #[arg(long, env = "SPANWIRE_PATH", default_value = "auto", value_name = "auto|xdp|tc|shard")]
    pub path: PathChoice,
    /// Whether wires on the kernel path go on crossing when this stops: keep, or cut for those who must fail closed
    #[arg(long, env = "SPANWIRE_ON_EXIT", value_enum, default_value_t = OnExit::Keep)]
    pub on_exit: OnExit,
    /// A folder in a bpffs for what outlives this; /sys/fs/bpf/spanwire by default, or a bpffs mounted in the directory
    #[arg(long, env = "SPANWIRE_PINS", value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// Bytes of the clone ring of each processor: what clones wait in for their shard; a power of two
    #[arg(long, env = "SPANWIRE_CLONE_RING", default_value_t = 4 << 20, value_name = "BYTES", value_parser = clone_ring)]
    pub clone_ring: u32,
    /// XDP mode of the shard path; auto chooses by driver and falls back to generic
    #[arg(long, env = "SPANWIRE_XDP_MODE", default_value = "auto", value_name = "auto|native|generic")]
    pub xdp_mode: XdpModeChoice,
    /// How sockets are bound; auto means copy. Zero-copy is for trials, and takes smaller MTUs with some drivers
    #[arg(long, env = "SPANWIRE_BIND", value_enum, default_value_t = Bind::Auto)]
    pub bind: Bind,
    /// Never sleep when idle: lowest latency, a whole processor for each shard
    #[arg(long, env = "SPANWIRE_BUSY", value_name = "BOOL", value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true)]
    pub busy: bool,
    /// The processors, checked.
    #[arg(skip)]
    pub cpus: Vec<u32>,
}

/// `--on-exit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExit {
    /// Frames go on crossing
    Keep,
    /// Everything is taken off the ports
    Cut,
}

/// `--bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bind {
    /// Copy
    Auto,
    /// Copy
    Copy,
    /// Zero-copy or an error on wire ports with native XDP, copy elsewhere; for trials only
    Zerocopy,
}

impl From<Bind> for BindMode {
    fn from(bind: Bind) -> BindMode {
        match bind {
            Bind::Auto | Bind::Copy => BindMode::Copy,
            Bind::Zerocopy => BindMode::ZeroCopy,
        }
    }
}

/// The processors this process may use.
pub fn processors() -> Vec<u32> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id as u32).collect()
}

/// The processors that are running, which alone receive; `None` where the kernel does not say.
pub fn online() -> Option<Vec<u32>> {
    let list: CpuList = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?.trim().parse().ok()?;
    Some(list.0)
}

impl Config {
    /// With a shard on each of the last `shards` of the processors `available`, or on all where that is fewer; what
    /// `--cpus` says stays.
    #[must_use]
    pub fn with_shards(mut self, shards: usize, available: &[u32]) -> Config {
        if self.cpus_wanted.0.is_empty() {
            self.cpus_wanted.0 = available[available.len().saturating_sub(shards)..].to_vec();
        }
        self
    }

    /// Checks what depends on the machine, against the processors this process may use.
    ///
    /// # Errors
    /// A message for the user.
    pub fn resolve(mut self, available: &[u32]) -> Result<Config, String> {
        self.cpus = match self.cpus_wanted.0.as_slice() {
            [] => vec![*available.last().ok_or("no processor may be used")?],
            wanted => wanted.to_vec(),
        };
        if let Some(cpu) = self.cpus.iter().find(|cpu| !available.contains(cpu)) {
            return Err(format!("--cpus: processor {cpu} is not one of those this process may use {available:?}"));
        }
        let (frames, shards) = (self.mirror_frames, self.cpus.len());
        if shards > MAX_SHARDS {
            return Err(format!(
                "--cpus: {shards} processors, a shard each, are too many (allowed: at most {MAX_SHARDS})"
            ));
        }
        if frames > 0 && (frames as usize) < shards {
            return Err(format!(
                "--mirror-frames: {frames} is less than the {shards} shards of --cpus: each lends every other an equal \
                 share of its mirror frames, and a share of 0 mirrors nothing (allowed: at least {shards}, or 0 to turn \
                 mirroring off)"
            ));
        }
        Ok(self)
    }

    /// What is to be known of these settings at the start.
    pub fn warning(&self) -> Option<&'static str> {
        (self.bind == Bind::Zerocopy).then_some(
            "--bind zerocopy is for trials: what drivers fill of a frame is known of some alone, and a change of the link takes \
             the wire down for seconds; --bind auto and copy have neither",
        )
    }
}

fn frame_size(text: &str) -> Result<u32, String> {
    match text {
        "2048" => Ok(2048),
        "4096" => Ok(4096),
        _ => Err("allowed: 2048, 4096".to_owned()),
    }
}

fn clone_ring(text: &str) -> Result<u32, String> {
    // The kernel takes powers of two of pages; one that holds no frame of the longest kind is no ring.
    const LEAST: u32 = 1 << 17;
    const MOST: u32 = 1 << 30;
    let allowed = || format!("allowed: a power of two from {LEAST} to {MOST}");
    let bytes: u32 = text.parse().map_err(|_| allowed())?;
    if bytes.is_power_of_two() && (LEAST..=MOST).contains(&bytes) { Ok(bytes) } else { Err(allowed()) }
}

/// The most characters of a bad list that are repeated.
const MAX_SHOWN: usize = 80;

/// A list of processors, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CpuList(Vec<u32>);

impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<CpuList, String> {
        let mut cpus = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let number = |text: &str| {
                let cpu: u32 = text
                    .trim()
                    .parse()
                    .map_err(|_| format!("\"{}\" is no processor number", excerpt(text, MAX_SHOWN)))?;
                if cpu < 4096 { Ok(cpu) } else { Err(format!("processor {cpu} is out of range (allowed: 0..=4095)")) }
            };
            let (from, to) = match part.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                None => (number(part)?, number(part)?),
            };
            if from > to {
                return Err(format!("\"{}\" runs backwards", excerpt(part, MAX_SHOWN)));
            }
            for cpu in from..=to {
                if cpus.contains(&cpu) {
                    return Err(format!("processor {cpu} is there twice; a shard has one of its own"));
                }
                cpus.push(cpu);
            }
        }
        Ok(CpuList(cpus))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let list = |text: &str| text.parse::<CpuList>().map(|l| l.0);
        assert_eq!(list("0,1"), Ok(vec![0, 1]));
        assert_eq!(list("2-4,0"), Ok(vec![2, 3, 4, 0]));
        for bad in ["0,0", "1-0", "a", "0,", "-1", "99999", "0-99999"] {
            assert!(list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_shard_has_a_mirror_frame_for_every_shard() {
        let with = |cpus, frames| {
            let line = ["spanwired", "--cpus", cpus, "--mirror-frames", frames];
            Config::try_parse_from(line).unwrap().resolve(&[0, 1, 2])
        };
        for (cpus, frames) in [("0", "1"), ("0,1", "2"), ("0-2", "3"), ("0-2", "0")] {
            assert_eq!(with(cpus, frames).map(|config| config.mirror_frames.to_string()).as_deref(), Ok(frames));
        }
        for (cpus, frames, want) in [("0,1", "1", "1 is less than the 2 shards"), ("0-2", "2", "at least 3, or 0")] {
            let refused = with(cpus, frames).unwrap_err();
            assert!(refused.starts_with("--mirror-frames: ") && refused.contains(want), "{refused}");
        }
    }

    #[test]
    fn there_are_no_more_shards_than_a_clone_can_name() {
        let all: Vec<u32> = (0..4096).collect();
        let with = |cpus: &str| {
            let line = ["spanwired", "--cpus", cpus, "--mirror-frames", "4096"];
            Config::try_parse_from(line).unwrap().resolve(&all)
        };
        assert_eq!(with("0-2046").unwrap().cpus.len(), MAX_SHARDS);
        let refused = with("0-2047").unwrap_err();
        assert_eq!(refused, "--cpus: 2048 processors, a shard each, are too many (allowed: at most 2047)");
    }

    #[test]
    fn the_command_line_of_the_design() {
        let line = "spanwired --dir D --cpus 0,1 --frames 4096 --mirror-frames 0 --frame-size 4096 \
                    --xdp-mode generic --bind zerocopy";
        let config = Config::try_parse_from(line.split_whitespace()).unwrap().resolve(&[0, 1]).unwrap();
        assert_eq!((config.cpus.as_slice(), config.frames, config.frame_size), (&[0, 1][..], Some(4096), 4096));
        let config = Config::try_parse_from(["spanwired"]).unwrap();
        assert_eq!(config.path, PathChoice::Auto);
        assert_eq!(config.clone().resolve(&[0, 3]).unwrap().cpus, [3]);
        assert!(config.resolve(&[]).is_err());
        for bad in [["--frame-size", "1024"], ["--frames", "1"], ["--xdp-mode", "fast"], ["--cpus", "x"]] {
            assert!(Config::try_parse_from([&["spanwired"], &bad[..]].concat()).is_err(), "{bad:?}");
        }
        for (word, busy) in [("--busy", true), ("--busy=true", true), ("--busy=no", false)] {
            assert_eq!(Config::try_parse_from(["spanwired", word]).unwrap().busy, busy, "{word}");
        }
        let absent = Config::try_parse_from(["spanwired", "--cpus", "9"]).unwrap().resolve(&[0, 1]);
        assert!(absent.unwrap_err().contains('9'));
    }
}
