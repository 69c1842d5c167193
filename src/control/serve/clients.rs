//! Who is being served: a bounded number, in which a slow client makes room for a new one.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};

use super::limits::{Class, Unread, per_mib};
use super::lock::lock;
use crate::told::Shared;

/// How long to wait for a client that has to go before the next one has to go too.
const PATIENCE: Duration = Duration::from_millis(20);
/// What a client with a large request may be behind the pace of its reading while another one waits for its room.
const SLACK: Duration = Duration::from_millis(50);
/// How often one who waits for room, or has some that others may want, looks again.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// The clients being served, in the order in which they came.
#[derive(Debug)]
pub(super) struct Clients {
    most: usize,
    classes: &'static [Class],
    seats: Mutex<Seats>,
    left: Condvar,
    /// Of seats that are all taken.
    full: Shared,
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
    /// Its room for a large request.
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    class: usize,
    /// Since when, and the bytes that have come since then.
    since: Instant,
    bytes: usize,
    /// It waits for more room, which is no slowness of its own.
    waits: bool,
    /// It has to give its room back.
    lost: bool,
}

impl Large {
    /// How far it is behind the pace at which a request has to be read.
    fn behind(&self) -> Duration {
        self.since.elapsed().saturating_sub(per_mib(self.bytes))
    }
}

impl Seats {
    fn sending(&mut self) -> impl Iterator<Item = Arc<UnixStream>> {
        self.taken.values_mut().filter_map(|place| place.sending.take())
    }

    fn of_class(&mut self, class: usize) -> impl Iterator<Item = &mut Place> {
        self.taken.values_mut().filter(move |place| place.large.as_ref().is_some_and(|large| large.class == class))
    }

    /// Takes the room of the client that is furthest behind with a request of this class, if one is too far.
    fn end_slowest(&mut self, class: usize) {
        let larges = self.of_class(class).filter(|place| place.sending.is_some()).filter_map(|p| p.large.as_mut());
        let slowest = larges.filter(|large| !large.waits).max_by_key(|large| (large.lost, large.behind()));
        if let Some(slowest) = slowest
            && !slowest.lost
            && slowest.behind() >= SLACK
        {
            tracing::warn!("too many large requests at once: the slowest client has to go");
            slowest.lost = true;
        }
    }
}

impl Clients {
    /// At most `most` at once; of those with requests too large for everybody, what `classes` say, smallest first.
    pub(super) fn new(most: usize, classes: &'static [Class]) -> Clients {
        Clients { most, classes, seats: Mutex::default(), left: Condvar::new(), full: Shared::default() }
    }

    /// A seat for a new client. Where all are taken, the one who has been sending longest has to go: an honest
    /// client is done in milliseconds. Where nobody is sending, this waits for the first to be done.
    pub(super) fn seat(&self, stream: UnixStream) -> Seat<'_> {
        let stream = Arc::new(stream);
        let mut seats = lock(&self.seats);
        if seats.taken.len() < self.most {
            self.full.ends();
        }
        while seats.taken.len() >= self.most {
            let slowest = seats.sending().next();
            if let Some(slowest) = slowest {
                if let Some(news) = self.full.is("the slowest has to go") {
                    tracing::warn!("{} clients at once: {news}", self.most);
                }
                end(&slowest, "too many clients at once (try again)");
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
        lock(&self.seats).sending().for_each(|stream| end(&stream, "the server ends"));
    }
}

/// The client learns why, if it can take that at once; its thread, which waits for more, finds that there is no more.
fn end(stream: &UnixStream, why: &str) {
    let answer = format!("{{\"ok\":false,\"error\":\"{why}\"}}\n");
    // One that is not connected any more has ended by itself.
    let _ = send(stream, answer.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
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

    /// It has its answer: it may be sent away again.
    pub(super) fn release(&self) {
        if let Some(place) = lock(&self.clients.seats).taken.get_mut(&self.number) {
            place.sending = Some(Arc::clone(&self.stream));
        }
    }

    /// Room for a request of the smallest class; see [`Room::grow`].
    pub(super) fn room(&self, deadline: Instant) -> Result<Room<'_>, Unread> {
        self.enter(0, deadline)?;
        Ok(Room { seat: self, class: 0 })
    }

    /// Waits for room of a class, and leaves the one it has for it. Where all is taken for a while, a client that is
    /// slow with such a request has to go.
    fn enter(&self, class: usize, deadline: Instant) -> Result<(), Unread> {
        let Clients { classes, left, .. } = self.clients;
        let mut seats = lock(&self.clients.seats);
        let mut since = Instant::now();
        loop {
            let taken = seats.of_class(class).count();
            let place = seats.taken.get_mut(&self.number).filter(|place| place.sending.is_some());
            let place = place.ok_or(Unread::Gone)?;
            if place.large.as_ref().is_some_and(|large| large.lost) {
                return Err(Unread::Busy);
            }
            let now = Instant::now();
            if taken < classes[class].most {
                place.large = Some(Large { class, since: now, bytes: 0, waits: false, lost: false });
                // There is room in the class it leaves.
                left.notify_all();
                return Ok(());
            }
            if now >= deadline {
                return Err(Unread::Busy);
            }
            place.large.iter_mut().for_each(|large| large.waits = true);
            if now - since >= SLACK {
                seats.end_slowest(class);
                since = now;
            }
            // In slices: nobody tells a client that it has to go, but by its connection, on which it does not wait.
            seats = left.wait_timeout(seats, LOOK.min(deadline - now)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Room for one large request; free again when dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    seat: &'a Seat<'a>,
    class: usize,
}

impl Room<'_> {
    /// The bytes it is for.
    pub(super) fn size(&self) -> usize {
        self.seat.clients.classes[self.class].size
    }

    /// Makes it one for requests of the next class.
    ///
    /// # Errors
    /// There is none before `deadline`, or this client has to go itself.
    pub(super) fn grow(&mut self, deadline: Instant) -> Result<(), Unread> {
        if self.class + 1 == self.seat.clients.classes.len() {
            return Err(Unread::TooLarge);
        }
        self.seat.enter(self.class + 1, deadline)?;
        self.class += 1;
        Ok(())
    }

    /// Takes note of bytes that have come.
    ///
    /// # Errors
    /// Others want the room, and this client is too slow to keep it.
    pub(super) fn note(&self, bytes: usize) -> Result<(), Unread> {
        let mut seats = lock(&self.seat.clients.seats);
        let large = seats.taken.get_mut(&self.seat.number).and_then(|place| place.large.as_mut());
        let large = large.ok_or(Unread::Gone)?;
        large.bytes += bytes;
        if large.lost { Err(Unread::Busy) } else { Ok(()) }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let clients = self.seat.clients;
        if let Some(place) = lock(&clients.seats).taken.get_mut(&self.seat.number) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    fn long() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Whether what is written at one end comes out at the other: one that was sent away has neither.
    fn carries(mut from: &UnixStream, mut to: &UnixStream) -> bool {
        let mut byte = [0];
        from.write_all(&[7]).is_ok() && to.read_exact(&mut byte).is_ok() && byte == [7]
    }

    fn all(mut from: &UnixStream) -> String {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_new_client_takes_the_place_of_the_slowest() {
        let clients = Clients::new(2, &[Class { size: 1, most: 1 }]);
        let ((slow, slow_end), (busy, busy_end), (new, new_end)) = (pair(), pair(), pair());
        thread::scope(|scope| {
            let busy = clients.seat(busy);
            assert!(busy.keep());
            let slow = clients.seat(slow);
            let thread = scope.spawn(move || {
                let ended = slow.stream().read(&mut [0]);
                assert_eq!(slow.room(long()).err(), Some(Unread::Gone), "it waits for nothing");
                assert!(!slow.keep());
                drop(slow);
                ended
            });
            let new = clients.seat(new);
            assert_eq!(thread.join().unwrap().unwrap(), 0, "its reading has ended");
            assert!(all(&slow_end).contains("too many clients"), "and it learns that");
            for (seat, end) in [(&new, &new_end), (&busy, &busy_end)] {
                assert!(carries(end, seat.stream()) && carries(seat.stream(), end), "the others stay");
            }
            // An answered client is as good as one that sends.
            busy.release();
            drop(new);
            let (next, (last, _last)) = (clients.seat(pair().0), pair());
            assert!(next.keep());
            scope.spawn(move || {
                let ended = busy.stream().read(&mut [0]);
                assert_eq!(ended.unwrap(), 0);
            });
            drop(clients.seat(last));
        });
        assert!(lock(&clients.seats).taken.is_empty());
    }

    #[test]
    fn a_large_request_takes_the_room_of_the_slowest() {
        let clients = Clients::new(4, &[Class { size: 1, most: 1 }]);
        let seat = || clients.seat(pair().0);
        let (slow, busy, new) = (seat(), seat(), seat());
        thread::scope(|scope| {
            let room = slow.room(long()).unwrap();
            scope.spawn(move || {
                while room.note(0).is_ok() {
                    thread::yield_now();
                }
                assert_eq!(room.note(0), Err(Unread::Busy), "the slow one has to give it back");
            });
            let room = busy.room(long()).unwrap();
            // At a good pace, it keeps its room.
            room.note(usize::MAX >> 20).unwrap();
            let soon = || Instant::now() + 3 * SLACK;
            assert_eq!(new.room(soon()).err(), Some(Unread::Busy));
            room.note(0).unwrap();
            assert!(busy.keep());
            assert_eq!(new.room(soon()).err(), Some(Unread::Busy), "so does a whole request");
            drop(room);
            assert!(new.room(Instant::now()).is_ok(), "also where there is no time to wait");
        });
    }

    #[test]
    fn a_room_grows_class_by_class() {
        let clients = Clients::new(4, &[Class { size: 1, most: 2 }, Class { size: 10, most: 1 }]);
        let seat = || clients.seat(pair().0);
        let (first, second, third) = (seat(), seat(), seat());
        let mut large = first.room(Instant::now()).unwrap();
        assert_eq!(large.size(), 1);
        large.grow(Instant::now()).unwrap();
        assert_eq!((large.size(), large.grow(Instant::now())), (10, Err(Unread::TooLarge)));
        let (mut second, third) = (second.room(Instant::now()).unwrap(), third.room(Instant::now()));
        assert!(third.is_ok(), "what has grown takes no room of the smaller class");
        assert!(first.keep());
        assert_eq!(second.grow(Instant::now() + 2 * LOOK), Err(Unread::Busy));
        drop(large);
        second.grow(Instant::now()).unwrap();
    }
}
