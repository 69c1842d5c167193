//! Network namespaces: created under a unique name, deleted on drop (a panic included), swept when the owner died.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{LabError, Result};

/// Where iproute2 keeps the names (`ip netns`).
const NETNS_DIR: &str = "/run/netns";

/// `prefix-pid-counter`: unique on this machine while process `owner` lives, and [`sweep`] can tell when it does not.
pub fn unique_name(prefix: &str, owner: u32) -> String {
    // Relaxed: only the uniqueness of each returned value matters.
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    // Several processes may create for one owner (a script that runs `spanlab up` twice): each counts from its own
    // pid then, so that two at the same moment do not choose the same number.
    let me = std::process::id();
    let base = if owner == me { 0 } else { me };
    loop {
        let number = base.wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed));
        let name = format!("{prefix}-{owner}-{number}");
        let of_it = format!("{name}-");
        // Left by an earlier process that had the same pid.
        let taken = |other: &String| other == &name || other.starts_with(&of_it);
        if !names().iter().any(taken) {
            return name;
        }
    }
}

/// A named network namespace. The handle that created it deletes it when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    owned: bool,
}

impl Namespace {
    /// Creates a namespace named `prefix-pid-counter`.
    pub fn create(prefix: &str) -> Result<Self> {
        Self::create_named(&unique_name(prefix, std::process::id()))
    }

    /// Creates a namespace of exactly this name; fails if it exists.
    ///
    /// IPv6 is disabled in it before any link can come up, so that no router solicitation or MLD report is ever
    /// mistaken for traffic of the device under test.
    pub fn create_named(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        // From here on Drop cleans up, also when the next step fails.
        let ns = Self { name: name.to_owned(), owned: true };
        for conf in ["all", "default"] {
            ns.sysctl(&format!("net/ipv6/conf/{conf}/disable_ipv6"), "1")?;
        }
        Ok(ns)
    }

    /// A handle to a namespace someone else created; dropping it deletes nothing.
    pub fn attach(name: &str) -> Result<Self> {
        let ns = Self { name: name.to_owned(), owned: false };
        ns.open()?;
        Ok(ns)
    }

    /// The name `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path whose open file descriptor is the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// Gives up ownership: the namespace stays after this handle and this process are gone.
    pub fn detach(&mut self) {
        self.owned = false;
    }

    /// Runs `cmd args…` inside (through `ip netns exec`, so /sys shows this namespace) and returns its output;
    /// a non-zero exit status is an error that carries standard error.
    pub fn exec(&self, cmd: &str, args: &[&str]) -> Result<Output> {
        run(self.command(cmd).args(args))
    }

    /// A [`Command`] that will run `cmd` inside; for background processes such as `spanwired`. `ip netns exec`
    /// replaces itself by `cmd`, so the child's pid is `cmd`'s.
    pub fn command(&self, cmd: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, cmd]);
        command
    }

    /// Runs `ip -n NAME args…`.
    pub fn ip(&self, args: &[&str]) -> Result<Output> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Runs `body` on a fresh thread inside the namespace. Sockets opened there stay in it and may leave the thread.
    /// A panic in `body` continues in the caller.
    ///
    /// Only the network namespace changes: /sys still shows the caller's devices (use [`Namespace::exec`] for
    /// those), while /proc/sys/net follows the thread.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        let outcome = thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .map_err(|errno| self.error(errno.into()))?;
                    Ok(body())
                })
                .join()
        });
        outcome.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }

    /// Writes one network sysctl (`net/…`, with slashes). A key this kernel does not have is not an error: a kernel
    /// without IPv6 has no IPv6 to disable.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let written = self.enter(|| fs::write(Path::new("/proc/sys").join(key), value))?;
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    fn open(&self) -> Result<File> {
        File::open(self.path()).map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> LabError {
        LabError::Namespace { name: self.name.clone(), source }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.owned {
            // Nothing useful can be done about a failure here; `spanlab sweep` finds what stays.
            let _ = delete(&self.name);
        }
    }
}

/// Deletes a namespace's name. Its devices go with it once no process is left inside.
pub fn delete(name: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "delete", name])).map(drop)
}

/// The names of all named network namespaces, sorted; empty when there are none.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(NETNS_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Deletes every namespace `prefix-pid-counter[-role]` whose pid is dead, and returns their names.
pub fn sweep(prefix: &str) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for name in names() {
        if owner_of(&name, prefix).is_some_and(|pid| !is_alive(pid)) {
            delete(&name)?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// The pid in `prefix-pid-counter[-role]`; `None` for a name of any other shape, which is not ours to delete.
fn owner_of(name: &str, prefix: &str) -> Option<i32> {
    let mut parts = name.strip_prefix(prefix)?.strip_prefix('-')?.splitn(3, '-');
    let pid = parts.next()?.parse().ok().filter(|pid| *pid > 0)?;
    let _counter: u32 = parts.next()?.parse().ok()?;
    Some(pid)
}

/// Anything but "no such process" counts as alive: better a namespace too many than one pulled from under a run.
fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Runs a command to its end, turning a failed start and a non-zero status into errors.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let line = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let line = line();
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| LabError::Spawn { command: line.clone(), source })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(LabError::Command {
        command: line,
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_shape_have_an_owner() {
        assert_eq!(owner_of("swlab-17-0", "swlab"), Some(17));
        assert_eq!(owner_of("swlab-17-0-dut", "swlab"), Some(17));
        for foreign in
            ["swlab", "swlab-17", "swlab-x-0", "swlab-0-1", "swlab--5-1", "swlabs-17-0", "prod", "swlab-17-x"]
        {
            assert_eq!(owner_of(foreign, "swlab"), None, "{foreign}");
        }
    }

    #[test]
    fn this_process_is_alive_and_an_impossible_pid_is_not() {
        assert!(is_alive(i32::try_from(std::process::id()).unwrap()));
        // Above PID_MAX_LIMIT (2^22), so never a process.
        assert!(!is_alive((1 << 22) + 1));
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(unique_name("swt", 1), unique_name("swt", 1));
    }
}
