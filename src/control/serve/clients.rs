//! Who is being served: a bounded number, in which a slow client makes room for a new one.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for a client that has to go before the next one has to go too.
const PATIENCE: Duration = Duration::from_millis(20);

/// What was done under a lock is whole: a thread that panicked has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clients being served, in the order in which they came.
#[derive(Debug)]
pub(super) struct Clients {
    most: usize,
    seats: Mutex<Seats>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    /// With its connection while the client may have to go.
    taken: BTreeMap<u64, Option<Arc<UnixStream>>>,
}

impl Clients {
    /// At most `most` at once.
    pub(super) fn new(most: usize) -> Clients {
        Clients { most, seats: Mutex::default(), left: Condvar::new() }
    }

    /// A seat for a new client. Where all are taken, the one who has been sending longest has to go: an honest
    /// client is done in milliseconds. Where nobody is sending, this waits for the first to be done.
    pub(super) fn seat(&self, stream: UnixStream) -> Seat<'_> {
        let stream = Arc::new(stream);
        let mut seats = lock(&self.seats);
        while seats.taken.len() >= self.most {
            if let Some(slowest) = seats.taken.values_mut().find_map(Option::take) {
                tracing::warn!("{} clients at once: the slowest has to go", self.most);
                end(&slowest);
            }
            seats = self.left.wait_timeout(seats, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, Some(Arc::clone(&stream)));
        Seat { clients: self, number, stream }
    }

    /// Ends the connections of all who are still sending.
    pub(super) fn dismiss(&self) {
        lock(&self.seats).taken.values_mut().filter_map(Option::take).for_each(|stream| end(&stream));
    }
}

/// The client's thread, which waits for more, finds that there is no more.
fn end(stream: &UnixStream) {
    // One that is not connected any more has ended by itself.
    let _ = stream.shutdown(Shutdown::Both);
}

/// The place of one client; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    clients: &'a Clients,
    number: u64,
    stream: Arc<UnixStream>,
}

impl Seat<'_> {
    /// Its connection.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Its request is whole: from here on it is not sent away.
    pub(super) fn keep(&self) {
        lock(&self.clients.seats).taken.insert(self.number, None);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(&self.clients.seats).taken.remove(&self.number);
        self.clients.left.notify_one();
    }
}

/// A number of things that may be done at once.
#[derive(Debug)]
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    /// This many at once.
    pub(super) fn new(free: usize) -> Permits {
        Permits { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// Leave to do one of them, until dropped; `None` where there is none before `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Option<Permit<'_>> {
        let free = lock(&self.free);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.returned.wait_timeout_while(free, left, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }
}

/// Leave to do something; see [`Permits`].
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_new_client_takes_the_place_of_the_slowest() {
        let clients = Clients::new(2);
        let pair = || UnixStream::pair().unwrap();
        let ((slow, mut theirs), (busy, _busy), (new, _new)) = (pair(), pair(), pair());
        std::thread::scope(|scope| {
            let busy = clients.seat(busy);
            busy.keep();
            let slow = clients.seat(slow);
            let thread = scope.spawn(move || {
                let ended = slow.stream().read(&mut [0]);
                drop(slow);
                ended
            });
            let new = clients.seat(new);
            assert_eq!(thread.join().unwrap().unwrap(), 0, "its reading has ended");
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "and it learns that");
            assert_eq!(new.stream().peer_addr().is_ok(), busy.stream().peer_addr().is_ok(), "the others stay");
        });
        assert!(lock(&clients.seats).taken.is_empty());
    }

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Permits::new(1);
        let soon = || Instant::now() + Duration::from_millis(5);
        let one = permits.take(soon());
        assert!(one.is_some() && permits.take(soon()).is_none());
        drop(one);
        assert!(permits.take(Instant::now()).is_some(), "also where there is no time to wait");
    }
}
