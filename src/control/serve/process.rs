//! Which process a client is.

use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A process, told from a later one of the same id by when it started, and in which boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Clock ticks since the boot.
    started: u64,
    boot: String,
}

impl Process {
    /// The process of this id, if it lives and can be seen from here.
    pub(super) fn of(pid: i32) -> Option<Process> {
        static BOOT: OnceLock<String> = OnceLock::new();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = BOOT.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default());
        Some(Process { pid, started: started(&stat)?, boot: boot.trim().to_owned() })
    }

    /// Whether it is still there.
    pub(super) fn lives(&self) -> bool {
        Process::of(self.pid).as_ref() == Some(self)
    }
}

/// Its start in a line of /proc/PID/stat; none of one that has ended and only waits to be reaped.
fn started(stat: &str) -> Option<u64> {
    // Its name, in parentheses, may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_is_there_until_it_ends() {
        let own = Process::of(std::process::id() as i32).unwrap();
        assert!(own.lives() && own.started > 0 && !own.boot.is_empty());
        assert!(!Process { started: own.started + 1, ..own.clone() }.lives(), "a later one of the same id");
        assert!(Process::of(0).is_none() && Process::of(i32::MAX).is_none());

        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let process = Process::of(child.id() as i32).unwrap();
        assert!(process.lives());
        child.kill().unwrap();
        let start = Instant::now();
        while process.lives() {
            assert!(start.elapsed() < Duration::from_secs(60), "one that is not reaped has ended too");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_name_with_parentheses_and_spaces() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(started(&format!("12 (a) b (c)) {rest}")), Some(4711));
        assert_eq!(started(&format!("12 (x) {}", rest.replace('S', "Z"))), None);
        assert_eq!(started("12 (x) S 1"), None);
        assert_eq!(started("12"), None);
    }
}
