//! spanwired, with a snapshot of one wire and, to mirror, one entry for every frame.

use std::path::Path;
use std::time::Duration;

use spanwire::control::state::{show, wait_adopted};
use spanwire::control::writer::publish;
use spanwire::control::{Mirror, Snapshot, Wire, admit};
use spanwire_lab::topology::Lab;
use tempfile::TempDir;

use super::process::Process;
use super::{Mode, Running, Setup, System};
use crate::wire::error::{Result, WireError};

/// From the start to the first snapshot in use.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon. Dropping it stops it.
pub(crate) struct Spanwire {
    process: Process,
    /// Removed after the process has ended.
    dir: TempDir,
}

impl Spanwire {
    /// Starts the daemon and publishes the snapshot.
    ///
    /// # Errors
    /// [`WireError`], with the end of its log.
    pub(crate) fn start(lab: &Lab, mode: Mode, setup: &Setup) -> Result<Spanwire> {
        let rate = (mode == Mode::Mirror).then_some(1);
        Spanwire::start_mirroring(lab, rate, setup)
    }

    /// As [`Spanwire::start`], mirroring 1 in `rate` or nothing.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn start_mirroring(lab: &Lab, rate: Option<u32>, setup: &Setup) -> Result<Spanwire> {
        let dir = tempfile::tempdir().map_err(WireError::io("making a directory"))?;
        let generation = publish_rate(dir.path(), lab, rate)?;
        let (path, cpu) = (dir.path().display().to_string(), setup.dut_cpu.to_string());
        let mut args = vec!["--dir".to_owned(), path, "--cpus".to_owned(), cpu];
        args.extend(setup.spanwired_args.iter().cloned());
        let process = Process::start(lab.dut(), &setup.spanwired.display().to_string(), &args)?;
        let mut daemon = Spanwire { process, dir };
        daemon.wait_adopted(generation)?;
        Ok(daemon)
    }

    /// Puts another snapshot in use, which mirrors 1 in `rate` or nothing.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn publish(&mut self, lab: &Lab, rate: Option<u32>) -> Result<()> {
        let generation = publish_rate(self.dir.path(), lab, rate)?;
        self.wait_adopted(generation)
    }

    fn wait_adopted(&mut self, generation: u64) -> Result<()> {
        let adopted = wait_adopted(self.dir.path(), generation, PATIENCE);
        if adopted.is_ok_and(|adoption| adoption.adopted) {
            return Ok(());
        }
        let reason = format!("did not adopt the snapshot{}", self.process.last_words());
        Err(WireError::System { system: System::Spanwire.as_str(), reason })
    }

    /// Where its regions are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn publish_rate(dir: &Path, lab: &Lab, rate: Option<u32>) -> Result<u64> {
    let snapshot = snapshot(lab, rate)?;
    let receipt = publish(dir, &snapshot, &admit(&snapshot), [0; 32]);
    Ok(receipt.map_err(|error| WireError::Configure(error.to_string()))?.generation)
}

fn snapshot(lab: &Lab, rate: Option<u32>) -> Result<Snapshot> {
    let (wire, monitor) = (lab.wire(0)?, lab.monitor(0)?);
    let mirror = |rate| Mirror { ingress_ifindex: wire.a.ifindex, output_ifindex: monitor.ifindex, rate };
    Ok(Snapshot {
        wires: vec![Wire {
            name: "bench".to_owned(),
            a_ifindex: wire.a.ifindex,
            b_ifindex: wire.b.ifindex,
            ..Wire::default()
        }],
        mirrors: rate.map(mirror).into_iter().collect(),
        ..Snapshot::default()
    })
}

impl Running for Spanwire {
    fn note(&self) -> String {
        // What cannot be read is not in the report.
        let ports = show(self.dir.path()).map(|shown| shown.ports).unwrap_or_default();
        let ports = ports.iter().map(|port| {
            let xdp = if port.xdp_mode.is_empty() { "no" } else { &port.xdp_mode };
            format!("{} {xdp} XDP {}", port.name, if port.zero_copy { "zero-copy" } else { "copy" })
        });
        [env!("CARGO_PKG_VERSION").to_owned()].into_iter().chain(ports).collect::<Vec<_>>().join(", ")
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(&mut self.process)
    }
}
