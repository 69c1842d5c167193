//! When threads are to end: a word for those that run, and news for those that wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::alarm::{Alarm, sleep};

/// Set once, and for good. Who waits for something else polls this beside it: it is readable from then on.
#[derive(Debug)]
pub struct Stop {
    is_set: AtomicBool,
    alarm: Alarm,
}

impl Stop {
    /// One that is not set.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn new() -> io::Result<Stop> {
        Ok(Stop { is_set: AtomicBool::new(false), alarm: Alarm::new()? })
    }

    /// Sets it, and wakes those that wait.
    pub fn set(&self) {
        self.is_set.store(true, Relaxed);
        self.alarm.ring();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Relaxed)
    }

    /// Sleeps until it is set, at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        sleep(&[self.as_fd()], Some(timeout));
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}

/// Sets it when it goes, by a panic too.
#[derive(Debug)]
pub struct StopAtEnd<'a>(pub &'a Stop);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread;

    use super::*;

    /// A wait that nothing ended would take longer than any test.
    const FOREVER: Duration = Duration::from_secs(1 << 40);

    #[test]
    fn it_ends_every_wait_from_then_on() {
        let stop = Stop::new().unwrap();
        stop.wait(Duration::ZERO);
        assert!(!stop.is_set());
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| stop.wait(FOREVER))).collect();
            drop(StopAtEnd(&stop));
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!(stop.is_set());
        stop.wait(FOREVER);
    }
}
