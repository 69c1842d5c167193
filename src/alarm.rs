//! Wakes threads that sleep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Rung for whatever has come, until it is hushed: a descriptor that is readable meanwhile, which a thread polls beside what
/// else it waits for.
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    /// One that is not rung.
    ///
    /// # Errors
    /// Descriptors are short.
    pub fn new() -> io::Result<Alarm> {
        Ok(Alarm(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes who sleeps, or is about to.
    pub fn ring(&self) {
        // A full counter (EAGAIN) wakes just as well.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets what it was rung for: who looks after this finds all of that.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sleeps until one of these is readable, at most `timeout`; may return early.
pub fn sleep(until: &[BorrowedFd<'_>], timeout: Option<Duration>) {
    let mut until: Vec<_> = until.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    // A time out of range is as good as none. An error (EINTR) ends the sleep as well.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let _ = poll(&mut until, timeout.as_ref());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_however_often_it_was_rung_until_it_is_hushed() {
        let [one, other] = [(); 2].map(|()| Alarm::new().unwrap());
        let sleep = |timeout| sleep(&[one.as_fd(), other.as_fd()], timeout);
        sleep(Some(Duration::ZERO));
        other.ring();
        other.ring();
        // Without an end, if nothing woke it.
        sleep(None);
        other.hush();
        let mut fds = [PollFd::new(&other, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
        one.ring();
        sleep(None);
    }
}
