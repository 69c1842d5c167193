//! Which processor a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the thread that made it on one processor until it is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    before: CpuSet,
}

impl Kept {
    /// On this one of those it may use, counted over them again and again.
    pub(crate) fn on(at: usize) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| before.is_set(cpu)).collect();
        let mut one = CpuSet::new();
        allowed.get(at % allowed.len().max(1)).iter().for_each(|&&cpu| one.set(cpu));
        sched_setaffinity(None, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Where that fails the thread stays where it is, and is none the worse for it.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_on_one_processor_and_let_go() {
        let before = sched_getaffinity(None).unwrap();
        for at in 0..3 {
            let kept = Kept::on(at).unwrap();
            let now = sched_getaffinity(None).unwrap();
            assert_eq!(now.count(), 1);
            assert!((0..CpuSet::MAX_CPU).all(|cpu| !now.is_set(cpu) || before.is_set(cpu)));
            drop(kept);
            assert_eq!(sched_getaffinity(None).unwrap(), before);
        }
    }
}
