//! Who is being served: a bounded number, in which a slow client makes room for a new one.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for a client that has to go before the next one has to go too.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a client may send a large request while another one waits for its room.
const LARGE_TIME: Duration = Duration::from_millis(50);
/// How often one who waits for room looks again.
const LOOK: Duration = Duration::from_millis(10);

/// What was done under a lock is whole: a thread that panicked has left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clients being served, in the order in which they came.
#[derive(Debug)]
pub(super) struct Clients {
    most: usize,
    most_large: usize,
    seats: Mutex<Seats>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    /// Its connection, while the client may have to go.
    sending: Option<Arc<UnixStream>>,
    /// Since when it has had room for a large request, where it has.
    large: Option<Instant>,
}

impl Seats {
    fn sending(&mut self) -> impl Iterator<Item = Arc<UnixStream>> {
        self.taken.values_mut().filter_map(|place| place.sending.take())
    }

    /// Sends the one away who has been sending a large request longest, if that is too long.
    fn end_slowest_large(&mut self) {
        let large = self.taken.values_mut().filter(|place| place.sending.is_some());
        let slowest = large.filter_map(|place| Some((place.large?, place))).min_by_key(|(since, _)| *since);
        if let Some((since, place)) = slowest
            && since.elapsed() >= LARGE_TIME
            && let Some(stream) = place.sending.take()
        {
            tracing::warn!("too many large requests at once: the slowest client has to go");
            end(&stream);
        }
    }
}

impl Clients {
    /// At most `most` at once, `most_large` of them with large requests.
    pub(super) fn new(most: usize, most_large: usize) -> Clients {
        Clients { most, most_large, seats: Mutex::default(), left: Condvar::new() }
    }

    /// A seat for a new client. Where all are taken, the one who has been sending longest has to go: an honest
    /// client is done in milliseconds. Where nobody is sending, this waits for the first to be done.
    pub(super) fn seat(&self, stream: UnixStream) -> Seat<'_> {
        let stream = Arc::new(stream);
        let mut seats = lock(&self.seats);
        while seats.taken.len() >= self.most {
            let slowest = seats.sending().next();
            if let Some(slowest) = slowest {
                tracing::warn!("{} clients at once: the slowest has to go", self.most);
                end(&slowest);
            }
            seats = self.left.wait_timeout(seats, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, Place { sending: Some(Arc::clone(&stream)), large: None });
        Seat { clients: self, number, stream }
    }

    /// Ends the connections of all who are still sending.
    pub(super) fn dismiss(&self) {
        lock(&self.seats).sending().for_each(|stream| end(&stream));
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

    /// Its request is whole: from here on it is not sent away. False where that has happened before.
    pub(super) fn keep(&self) -> bool {
        let mut seats = lock(&self.clients.seats);
        seats.taken.get_mut(&self.number).is_some_and(|place| place.sending.take().is_some())
    }

    /// Room for a large request. Where all is taken for a while, the one who has been sending such a request
    /// longest has to go. `None` where there is no room before `deadline`, or this client has to go itself.
    pub(super) fn room(&self, deadline: Instant) -> Option<Room<'_>> {
        let Clients { most_large, left, .. } = self.clients;
        let mut seats = lock(&self.clients.seats);
        let mut since = Instant::now();
        loop {
            let large = seats.taken.values().filter(|place| place.large.is_some()).count();
            let place = seats.taken.get_mut(&self.number).filter(|place| place.sending.is_some())?;
            if large < *most_large {
                place.large = Some(Instant::now());
                return Some(Room(self));
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            if now - since >= LARGE_TIME {
                seats.end_slowest_large();
                since = now;
            }
            // In slices: nobody tells a client that it has to go, but by its connection, on which it does not wait.
            seats = left.wait_timeout(seats, LOOK.min(deadline - now)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Room for one large request; free again when dropped.
#[derive(Debug)]
pub(super) struct Room<'a>(&'a Seat<'a>);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let clients = self.0.clients;
        if let Some(place) = lock(&clients.seats).taken.get_mut(&self.0.number) {
            place.large = None;
        }
        clients.left.notify_all();
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(&self.clients.seats).taken.remove(&self.number);
        self.clients.left.notify_all();
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
        let clients = Clients::new(2, 1);
        let pair = || UnixStream::pair().unwrap();
        let ((slow, mut theirs), (busy, _busy), (new, _new)) = (pair(), pair(), pair());
        std::thread::scope(|scope| {
            let busy = clients.seat(busy);
            assert!(busy.keep());
            let slow = clients.seat(slow);
            let thread = scope.spawn(move || {
                let ended = slow.stream().read(&mut [0]);
                assert!(slow.room(Instant::now() + Duration::from_secs(60)).is_none(), "it waits for nothing");
                assert!(!slow.keep());
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
    fn a_large_request_takes_the_room_of_the_slowest() {
        let clients = Clients::new(4, 1);
        let pair = || UnixStream::pair().unwrap();
        let ((slow, mut theirs), (busy, _busy), (new, _new)) = (pair(), pair(), pair());
        let long = || Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let slow = clients.seat(slow);
            scope.spawn(move || {
                let room = slow.room(long());
                let ended = slow.stream().read(&mut [0]);
                drop(room);
                assert_eq!(ended.unwrap(), 0);
            });
            while lock(&clients.seats).taken.values().all(|place| place.large.is_none()) {
                std::thread::yield_now();
            }
            let (busy, new) = (clients.seat(busy), clients.seat(new));
            let room = busy.room(long()).unwrap();
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the slow one had to go");
            assert!(busy.keep());
            assert!(new.room(Instant::now() + 3 * LARGE_TIME).is_none(), "a whole request keeps its room");
            drop(room);
            assert!(new.room(Instant::now()).is_some());
        });
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
