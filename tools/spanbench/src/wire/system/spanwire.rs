//! spanwired, with a snapshot of one wire and, to mirror, one entry for every frame.

use std::path::Path;
use std::time::Duration;

use shm_layout::counters::Entry;
use spanwire::control::state::{show, stats, wait_adopted};
use spanwire::control::writer::publish;
use spanwire::control::{Mirror, Snapshot, Wire, admit};
use spanwire::kernel::path;
use spanwire_lab::topology::Lab;
use tempfile::TempDir;

use super::clones::{Clones, Reasons};
use super::process::Process;
use super::{Mode, Running, Setup, System};
use crate::wire::error::{Result, WireError};

/// From the start to the first snapshot in use.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon. Dropping it stops it.
pub(crate) struct Spanwire {
    path: path::Path,
    process: Process,
    /// Removed after the process has ended.
    dir: TempDir,
}

impl Spanwire {
    /// Starts the daemon, on this path alone, and publishes the snapshot.
    ///
    /// # Errors
    /// [`WireError`], with the end of its log.
    pub(crate) fn start(lab: &Lab, path: path::Path, mode: Mode, setup: &Setup) -> Result<Spanwire> {
        let rate = (mode == Mode::Mirror).then_some(1);
        Spanwire::start_mirroring(lab, path, rate, setup)
    }

    /// As [`Spanwire::start`], mirroring 1 in `rate` or nothing.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn start_mirroring(lab: &Lab, path: path::Path, rate: Option<u32>, setup: &Setup) -> Result<Spanwire> {
        let dir = tempfile::tempdir().map_err(WireError::io("making a directory"))?;
        let generation = publish_rate(dir.path(), lab, rate)?;
        let (at, cpu) = (dir.path().display().to_string(), setup.dut_cpu.to_string());
        // Nothing is to stay on the ports, which the next system gets.
        let args = ["--dir", &at, "--cpus", &cpu, "--path", path.as_str(), "--on-exit", "cut"];
        let args: Vec<String> =
            args.map(str::to_owned).into_iter().chain(setup.spanwired_args.iter().cloned()).collect();
        let process = Process::start(lab.dut(), &setup.spanwired.display().to_string(), &args)?;
        let mut daemon = Spanwire { path, process, dir };
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
        Err(self.failed(reason))
    }

    fn failed(&self, reason: String) -> WireError {
        WireError::System { system: System::Spanwire(self.path).as_str(), reason }
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
        let ports = ports.iter().map(|port| match (port.role, self.path) {
            ("wire", path::Path::Xdp | path::Path::Tc) => format!("{} selector at {}", port.name, self.path),
            _ => {
                let xdp = if port.xdp_mode.is_empty() { "no" } else { &port.xdp_mode };
                format!("{} {xdp} XDP {}", port.name, if port.zero_copy { "zero-copy" } else { "copy" })
            }
        });
        [env!("CARGO_PKG_VERSION").to_owned()].into_iter().chain(ports).collect::<Vec<_>>().join(", ")
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(&mut self.process)
    }

    fn clones(&self) -> Result<Option<Clones>> {
        let mut clones = Clones::default();
        for entry in stats(self.dir.path()).map_err(|error| self.failed(error.to_string()))?.mirrors {
            if !entry.closes() {
                return Err(self.failed(format!("its ledger does not close: {:?}", entry.values)));
            }
            let dropped_by = Reasons::of(|reason| entry.values.get(reason.name()));
            clones +=
                Clones { selected: entry.values.get(Entry::Selected.name()), dropped: dropped_by.sum(), dropped_by };
        }
        Ok(Some(clones))
    }
}
