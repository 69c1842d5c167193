//! Busy neighbours: a process on every processor that never sleeps.

use std::process::{Child, Command, Stdio};

use super::error::{Result, WireError};

/// The processes. Dropping this ends them; they also die with the thread that started them.
#[derive(Debug)]
pub(super) struct Neighbours(Vec<Child>);

impl Neighbours {
    /// One on each processor that this process may use.
    ///
    /// # Errors
    /// [`WireError::Io`]; those that were started are ended.
    pub(super) fn start() -> Result<Neighbours> {
        let mut neighbours = Neighbours(Vec::new());
        for core in core_affinity::get_core_ids().unwrap_or_default() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &core.id.to_string()]);
            command.args(["sh", "-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            neighbours.0.push(command.spawn().map_err(WireError::io("starting a busy neighbour (setpriv, taskset)"))?);
        }
        Ok(neighbours)
    }

    /// Whether all of them still run.
    pub(super) fn all_run(&mut self) -> bool {
        self.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // A failure means that it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
