//! The systems under test: each starts in the lab's middle namespace and stops when dropped, leaving the ports as
//! they were.
//!
//! - [`spanwire`]: the daemon that is measured
//! - [`testpmd`]: DPDK's forwarder on AF_XDP
//! - [`kernel`]: XDP redirect, tc redirect and a bridge
//! - [`process`]: what the first two have in common
//! - `clones`: what the first tells of its clones

mod clones;
mod kernel;
pub(crate) mod process;
pub(crate) mod spanwire;
mod testpmd;

use std::path::PathBuf;

pub(crate) use clones::Clones;

use ::spanwire::kernel::path::Path;
use ::spanwire::kernel::xdp::XdpMode;
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use spanwire_lab::topology::Lab;

use super::error::Result;
use process::Process;

/// Something that forwards frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum System {
    /// spanwired, the dataplane of this project, with frames crossing by this path.
    Spanwire(Path),
    /// DPDK testpmd on net_af_xdp.
    Testpmd,
    /// XDP devmap redirect and broadcast, in the kernel.
    Devmap,
    /// tc redirect and clone_redirect, in the kernel.
    Tc,
    /// Linux bridge.
    Bridge,
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Forward frames across the wire
    Forward,
    /// Forward, and send a copy of every frame to the monitor
    Mirror,
}

impl Mode {
    /// As on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mode::Forward => "forward",
            Mode::Mirror => "mirror",
        }
    }
}

/// Why a system is not measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason {
    /// In words.
    pub text: &'static str,
    /// Nothing that is installed could change it.
    pub by_nature: bool,
}

/// How systems are started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where the tester, and so the kernel's forwarding, runs.
    pub tester_cpu: usize,
    /// Where a forwarder of its own runs.
    pub dut_cpu: usize,
    /// Of the programs that a peer attaches.
    pub xdp_mode: XdpMode,
    /// The daemon.
    pub spanwired: PathBuf,
    /// More options for it.
    pub spanwired_args: Vec<String>,
}

/// A started system. Dropping it stops it.
pub(crate) trait Running {
    /// Version and ways, for the report.
    fn note(&self) -> String;
    /// Its process; `None` for what runs in the kernel alone.
    fn process(&mut self) -> Option<&mut Process>;
    /// What became of the clones so far; `None` of what keeps no account.
    ///
    /// # Errors
    /// The account cannot be read.
    fn clones(&self) -> Result<Option<Clones>> {
        Ok(None)
    }
}

impl System {
    /// Peers as on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            System::Spanwire(Path::Xdp) => "spanwire (xdp)",
            System::Spanwire(Path::Tc) => "spanwire (tc)",
            System::Spanwire(Path::Shard) => "spanwire (shard)",
            System::Testpmd => "testpmd",
            System::Devmap => "devmap",
            System::Tc => "tc",
            System::Bridge => "bridge",
        }
    }

    /// Everything that spanwire is compared with.
    pub(crate) const PEERS: [System; 4] = [System::Testpmd, System::Devmap, System::Tc, System::Bridge];

    /// Every path.
    pub(crate) const PATHS: [Path; 3] = [Path::Xdp, Path::Tc, Path::Shard];

    /// Whether it is the one that the others are compared with.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, System::Spanwire(_))
    }

    /// Why it cannot be measured here, or not in this mode.
    pub(crate) fn unavailable(self, mode: Mode) -> Option<Reason> {
        match (self, mode) {
            (System::Testpmd, Mode::Mirror) => Some(Reason { text: "testpmd does not mirror", by_nature: true }),
            (System::Testpmd, Mode::Forward) if !testpmd::is_installed() => {
                Some(Reason { text: "dpdk-testpmd is not installed (Debian: apt install dpdk-dev)", by_nature: false })
            }
            _ => None,
        }
    }

    /// Starts it. Frames may take a moment longer to cross.
    ///
    /// # Errors
    /// [`WireError`](super::error::WireError).
    pub(crate) fn start(self, lab: &Lab, mode: Mode, setup: &Setup) -> Result<Box<dyn Running>> {
        match self {
            System::Spanwire(path) => Ok(Box::new(spanwire::Spanwire::start(lab, path, mode, setup)?)),
            System::Testpmd => testpmd::start(lab, setup),
            System::Devmap => kernel::devmap(lab, mode, setup.xdp_mode),
            System::Tc => kernel::tc(lab, mode),
            System::Bridge => kernel::bridge(lab, mode),
        }
    }
}
