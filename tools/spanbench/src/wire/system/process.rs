//! A process under test: started in a namespace, its output in a file, stopped in the end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spanwire_lab::netns::Namespace;

use crate::wire::error::{Result, WireError};

/// How long it may take to stop by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a log that are shown.
const TAIL: u64 = 2000;

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: File,
}

impl Process {
    /// Starts `program` in `ns`. It dies with this thread, even if that is killed.
    ///
    /// # Errors
    /// [`WireError::Io`].
    pub(crate) fn start(ns: &Namespace, program: &str, args: &[String]) -> Result<Process> {
        let failed = || format!("starting {program}");
        let log = tempfile::tempfile().map_err(WireError::io("making a log file"))?;
        let output = || log.try_clone().map_err(WireError::io("using the log file"));
        let mut command: Command = ns.command("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(args);
        // Kept open and silent: testpmd ends when its standard input does.
        command.stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
        let child = command.spawn().map_err(WireError::io(failed()))?;
        Ok(Process { child, log })
    }

    /// Its pid: the commands in between replace themselves.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        // What cannot be asked for is gone.
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The whole log.
    pub(crate) fn log(&self) -> String {
        self.log_from(0)
    }

    /// How it ended, if it did, and the end of its log, from a new line on.
    pub(crate) fn last_words(&mut self) -> String {
        let length = self.log.metadata().map_or(0, |meta| meta.len());
        let tail = self.log_from(length.saturating_sub(TAIL));
        let ended = self.child.try_wait().ok().flatten().map(|status| format!("; it ended with {status}"));
        format!("{}\n{}", ended.unwrap_or_default(), tail.trim_end())
    }

    fn log_from(&self, at: u64) -> String {
        let length = self.log.metadata().map_or(0, |meta| meta.len());
        let mut bytes = vec![0; usize::try_from(length.saturating_sub(at)).unwrap_or(0)];
        // Not by seeking, which would move the writer's place too. What cannot be read of a log is not shown.
        let read = self.log.read_at(&mut bytes, at).unwrap_or(0);
        bytes.truncate(read);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && !self.has_ended()
        {
            // A failure means that it is gone.
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
