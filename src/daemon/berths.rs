//! The processors that control threads run on.
//!
//! Where frames pass through shards: others than theirs, as neither is to wait for the other. Where the kernel carries them: the
//! shards' own. Frames may be received on any other, and there nobody of ours is to take turns with who receives them; shards
//! only make clones then. But not with shards that let nobody else run: real-time ones, and those that never sleep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Berths {
    /// Of the shards.
    shards: CpuSet,
    /// All others that the process may run on.
    others: CpuSet,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    threads: Vec<Pid>,
    with_shards: bool,
}

impl Berths {
    /// Of a process that may run where this thread may, with shards on these processors; this thread goes to the others. `None`
    /// where nobody can tell where that is.
    pub fn new(cpus: &[u32]) -> Option<Berths> {
        let mut others = sched_getaffinity(None).ok()?;
        let mut shards = CpuSet::new();
        for &cpu in cpus {
            shards.set(cpu as usize);
            others.unset(cpu as usize);
        }
        let berths = Berths { shards, others, taken: Arc::default() };
        berths.come();
        Some(berths)
    }

    /// The calling thread goes where the others are, and with them from then on. What it starts begins there too.
    pub fn come(&self) {
        let mut taken = self.taken();
        taken.threads.push(gettid());
        self.go(&[gettid()], taken.with_shards);
    }

    /// Has all that have come go to the shards' processors, or to the others.
    pub fn all_go(&self, to_shards: bool) {
        let mut taken = self.taken();
        if taken.with_shards != to_shards {
            taken.with_shards = to_shards;
            self.go(&taken.threads, to_shards);
        }
    }

    /// If there are any others.
    fn go(&self, threads: &[Pid], to_shards: bool) {
        let processors = if to_shards { &self.shards } else { &self.others };
        let moved = threads.iter().filter(|_| processors.count() > 0).map(|&thread| {
            match sched_setaffinity(Some(thread), processors) {
                // It has ended.
                Err(Errno::SRCH) => Ok(()),
                done => done,
            }
        });
        if let Some(error) = moved.filter_map(Result::err).next() {
            tracing::warn!("control threads stay on the processors where they are: {error}");
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change is one.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the scheduler has this thread take turns with others: `SCHED_OTHER` or `SCHED_BATCH`, by proc(5).
pub fn takes_turns() -> bool {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    policy_of(&stat).is_some_and(|policy| [0, 3].contains(&policy))
}

/// The scheduling policy, field 41 of a thread's `stat`; its name, in brackets, may have spaces.
fn policy_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(41 - 3)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_has_come_goes_with_the_others() {
        let at = || sched_getaffinity(None).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let all = at();
                let shard = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap();
                let mut shards = CpuSet::new();
                shards.set(shard);
                let mut others = all;
                others.unset(shard);
                // On a machine with one processor there are none, and everybody stays.
                let others = if others.count() > 0 { others } else { all };
                let berths = Berths::new(&[shard as u32]).unwrap();
                assert_eq!(at(), others);
                berths.all_go(true);
                assert_eq!(at(), shards);
                let late = berths.clone();
                let late = thread::spawn(move || {
                    late.come();
                    sched_getaffinity(None).unwrap()
                });
                assert_eq!(late.join().unwrap(), shards);
                berths.all_go(false);
                assert!(at() == others || others == all);
            });
        });
    }

    #[test]
    fn the_policy_is_field_41_whatever_the_name() {
        let stat = format!("7 (a) b) S {} 1 41", (4..41).map(|field| field.to_string()).collect::<Vec<_>>().join(" "));
        assert_eq!(policy_of(&stat), Some(1));
        assert_eq!(policy_of("7 (a) S 1"), None);
        assert!(takes_turns());
    }
}
