//! What clients want done, in the order in which they asked for it.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::lock::lock;

/// A line of those who want something done, one at a time and in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    numbers: BTreeSet<u64>,
}

impl Line {
    /// A place at its end.
    pub(super) fn join(&self) -> Turn<'_> {
        let mut waiting = lock(&self.waiting);
        let number = waiting.next;
        waiting.next += 1;
        waiting.numbers.insert(number);
        Turn { line: self, number }
    }
}

/// A place in a [`Line`]; given up when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    line: &'a Line,
    number: u64,
}

impl Turn<'_> {
    /// Waits for it; false where it does not come before `deadline`.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let Line { waiting, moved } = self.line;
        let left = deadline.saturating_duration_since(Instant::now());
        let later = |waiting: &mut Waiting| waiting.numbers.first() != Some(&self.number);
        let waited = moved.wait_timeout_while(lock(waiting), left, later).unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.line.waiting).numbers.remove(&self.number);
        self.line.moved.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_come_in_order_and_can_be_given_up() {
        let line = Line::default();
        let (first, second, third, fourth) = (line.join(), line.join(), line.join(), line.join());
        let soon = || Instant::now() + Duration::from_millis(5);
        assert!(first.wait(Instant::now()) && first.wait(Instant::now()), "also where there is no time to wait");
        assert!(!second.wait(soon()) && !fourth.wait(soon()));
        drop(third);
        drop(first);
        assert!(!fourth.wait(soon()));
        thread::scope(|scope| {
            let waits = scope.spawn(|| fourth.wait(Instant::now() + Duration::from_secs(60)));
            assert!(second.wait(Instant::now()));
            drop(second);
            assert!(waits.join().unwrap());
        });
    }
}
