//! The frames of one shard's wires: how many each queue gets, and at which place.
//!
//! A wire has frames of its own on each shard that serves queues of it: from before its first socket is opened, which
//! registers them with the kernel, until its last is closed. So no wire can take what another needs, in whatever order
//! they come. How many they are is decided once:
//!
//! ```text
//! no --frames   what SHARE_MOST for each queue of a single wire comes to, divided by the queues that are wanted, but
//!               SHARE_ENOUGH for each: the memory grows with the wires
//! --frames N    half of what is left divided by the queues that have none yet; where that is less than SHARE_ENOUGH, up
//!               to all of it, and SHARE_LEAST at least, or the port that comes last is refused
//! ```
//!
//! Where a given number is mostly taken, one that comes late would get next to nothing or be refused, though there is enough
//! for all. Then wires that have more than their part are let go of and laid anew, see [`Frames::crowding`].

use std::cmp::Reverse;
use std::sync::Arc;

use crate::rings::{SHARE_ENOUGH, SHARE_LEAST, SHARE_MOST};
use crate::shard::limits::{MAX_PORTS, MAX_STORES};
use crate::xsk::area::Area;

/// The frames of one wire.
#[derive(Debug)]
struct Held {
    area: Arc<Area>,
    /// Frames of each socket.
    share: u32,
    /// Sockets there are frames for.
    seats: u32,
    /// Of them in use.
    taken: u32,
}

/// What one shard has.
#[derive(Debug)]
pub(super) struct Frames {
    /// `--frames`.
    limit: Option<u32>,
    places: Vec<Option<Held>>,
    /// Sockets of wires that are wanted, those that are open included.
    wanted: u32,
}

impl Frames {
    pub(super) fn new(limit: Option<u32>) -> Frames {
        Frames { limit, places: Vec::new(), wanted: 0 }
    }

    /// Says how many sockets of wires are wanted.
    pub(super) fn want(&mut self, sockets: u32) {
        self.wanted = sockets;
    }

    /// Where the frames of another wire with `seats` sockets may be kept, and each socket's share of them.
    ///
    /// # Errors
    /// What is short, and what to do about it.
    pub(super) fn plan(&self, seats: u32) -> Result<(usize, u32), String> {
        let (seated, frames) = self.taken();
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if seated + seats > MAX_PORTS as u32 || place >= MAX_STORES {
            return Err(format!(
                "a shard serves at most {MAX_PORTS} sockets and {MAX_STORES} wires: give spanwired more processors (--cpus)"
            ));
        }
        let wanted = self.wanted.max(seated + seats);
        let share = match self.limit {
            None => (2 * SHARE_MOST / wanted).max(SHARE_ENOUGH),
            Some(limit) => {
                let left = limit.saturating_sub(frames);
                let equal = left / (wanted - seated);
                let share = (equal / 2).max(SHARE_ENOUGH.min(equal)).max(SHARE_LEAST.min(left / seats.max(1)));
                if share < SHARE_LEAST {
                    return Err(format!(
                        "--frames {limit} leaves {left} frames for {} more sockets, and each needs {SHARE_LEAST}: restart \
                         spanwired with --frames {} or more, or without it",
                        wanted - seated,
                        wanted * SHARE_LEAST
                    ));
                }
                share
            }
        };
        Ok((place, share.min(SHARE_MOST)))
    }

    /// The places of wires to let go of before another one with `seats` sockets is laid, so that it gets half of an equal
    /// part of a given `--frames`, or SHARE_ENOUGH: those that have the most above that part, and no more of them than it
    /// takes. None where it does anyway, nor where there is not SHARE_LEAST for all that are wanted: what is served is not
    /// let go of for what may be refused as well.
    ///
    /// While the same sockets are wanted, those that are laid anew get no more than what leaves enough for the others: no
    /// wire is let go of twice.
    pub(super) fn crowding(&self, seats: u32) -> Vec<usize> {
        let Some(limit) = self.limit else { return Vec::new() };
        let (mut seated, mut frames) = self.taken();
        let wanted = self.wanted.max(seated + seats);
        let part = limit / wanted.max(1);
        if part < SHARE_LEAST || wanted > MAX_PORTS as u32 {
            return Vec::new();
        }
        let enough = (part / 2).clamp(SHARE_LEAST, SHARE_ENOUGH);
        let held = self.places.iter().enumerate().filter_map(|(place, held)| Some((place, held.as_ref()?)));
        let mut large: Vec<(usize, &Held)> = held.filter(|(_, held)| held.share > part).collect();
        large.sort_by_key(|(_, held)| Reverse(held.seats * (held.share - part)));
        let crowds = |(place, held): (usize, &Held)| {
            let crowded = limit.saturating_sub(frames) / (wanted - seated).max(1) < enough;
            (seated, frames) = (seated - held.seats, frames - held.seats * held.share);
            crowded.then_some(place)
        };
        large.into_iter().map_while(crowds).collect()
    }

    /// Whether another wire with `seats` sockets can be laid, once what crowds it is let go of.
    ///
    /// # Errors
    /// What is short, and what to do about it.
    pub(super) fn fits(&self, seats: u32) -> Result<(), String> {
        if self.crowding(seats).is_empty() { self.plan(seats).map(drop) } else { Ok(()) }
    }

    /// Notes that a wire's frames are kept at a place.
    pub(super) fn lay(&mut self, place: usize, area: Arc<Area>, seats: u32, share: u32) {
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(Held { area, share, seats, taken: 0 });
    }

    /// Whether another `sockets` find room at a place.
    pub(super) fn has_room(&self, place: usize, sockets: u32) -> bool {
        self.held(place).is_some_and(|held| held.taken + sockets <= held.seats)
    }

    /// The memory at a place, and each socket's share of the frames in it.
    pub(super) fn at(&self, place: usize) -> Option<(Arc<Area>, u32)> {
        self.held(place).map(|held| (Arc::clone(&held.area), held.share))
    }

    pub(super) fn take_seat(&mut self, place: usize) {
        if let Some(Some(held)) = self.places.get_mut(place) {
            held.taken += 1;
        }
    }

    pub(super) fn leave_seat(&mut self, place: usize) {
        if let Some(Some(held)) = self.places.get_mut(place) {
            held.taken -= 1;
        }
    }

    /// Whether sockets use the frames at a place.
    pub(super) fn is_used(&self, place: usize) -> bool {
        self.held(place).is_some_and(|held| held.taken > 0)
    }

    /// Takes out the places that nobody uses.
    pub(super) fn lift_unused(&mut self) -> Vec<usize> {
        let unused = |place: &Option<Held>| place.as_ref().is_some_and(|held| held.taken == 0);
        let places: Vec<usize> = (0..self.places.len()).filter(|&at| unused(&self.places[at])).collect();
        places.iter().for_each(|&at| self.places[at] = None);
        places
    }

    /// Sockets there are frames for, and all those frames.
    fn taken(&self) -> (u32, u32) {
        let held = self.places.iter().flatten();
        held.fold((0, 0), |(seats, frames), held| (seats + held.seats, frames + held.seats * held.share))
    }

    fn held(&self, place: usize) -> Option<&Held> {
        self.places.get(place)?.as_ref()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::xsk::frame::Primary;
    use crate::xsk::store::Store;

    /// Lays wires of so many sockets each, one after the other; each socket's share of each.
    fn shares(limit: Option<u32>, wires: &[u32], known: bool) -> Result<Vec<u32>, String> {
        let area = Arc::clone(Store::<Primary>::new(1, 2048).unwrap().area());
        let mut frames = Frames::new(limit);
        let mut wanted = 0;
        wires
            .iter()
            .map(|&seats| {
                wanted += seats;
                frames.want(if known { wires.iter().sum() } else { wanted });
                let (place, share) = frames.plan(seats)?;
                frames.lay(place, Arc::clone(&area), seats, share);
                (0..seats).for_each(|_| frames.take_seat(place));
                Ok(share)
            })
            .collect()
    }

    #[test]
    fn without_a_limit_each_has_enough_in_whatever_order_they_come() {
        assert_eq!(shares(None, &[2], true), Ok(vec![4096]));
        assert_eq!(shares(None, &[2; 2], true), Ok(vec![2048; 2]));
        assert_eq!(shares(None, &[2; 2], false), Ok(vec![4096, 2048]));
        assert_eq!(shares(None, &[8; 64], true), Ok(vec![SHARE_ENOUGH; 64]));
        let one_by_one = shares(None, &[2; 64], false).unwrap();
        assert!(one_by_one.iter().all(|&share| share >= SHARE_ENOUGH));
        // 128 MiB, and not 64 times what a wire alone gets.
        assert!(2 * one_by_one.iter().sum::<u32>() < 1 << 16);
        let refused = shares(None, &[8; 129], true).unwrap_err();
        assert!(refused.contains("1024 sockets") && refused.contains("--cpus"), "{refused}");
    }

    #[test]
    fn a_limit_is_kept_and_what_does_not_fit_is_refused_with_the_figure_that_does() {
        assert_eq!(shares(Some(8192), &[2], true), Ok(vec![2048]));
        assert_eq!(shares(Some(64), &[2], true), Ok(vec![32]));
        for (limit, wires) in [(8192, &[2; 128][..]), (128, &[2, 2]), (96, &[2]), (512, &[2, 8, 6])] {
            let shares = shares(Some(limit), wires, true).unwrap();
            let frames: u32 = shares.iter().zip(wires).map(|(share, seats)| share * seats).sum();
            assert!(frames <= limit && shares.iter().all(|&share| share >= SHARE_LEAST), "{limit}: {shares:?}");
        }
        let late = shares(Some(8192), &[2; 4], false).unwrap();
        assert_eq!(late, [2048, 1024, 512, 320], "there is something left for who comes late");
        let refused = shares(Some(127), &[2, 2], true).unwrap_err();
        assert_eq!(shares(Some(127), &[2], true), Ok(vec![63]));
        assert!(refused.contains("--frames 127") && refused.contains("--frames 128 or more"), "{refused}");
    }

    /// Wires that come one after the other, of which those that crowd another are laid anew: each has half its part at
    /// least, and few are let go of.
    #[test]
    fn who_comes_late_is_made_room_for_until_nothing_more_fits() {
        let area = Arc::clone(Store::<Primary>::new(1, 2048).unwrap().area());
        for (limit, seats) in
            [(8192, &[2; 128][..]), (8192, &[8; 32]), (4096, &[2, 16, 2, 8, 64, 2, 32, 2]), (256, &[2; 4])]
        {
            let mut frames = Frames::new(Some(limit));
            let (mut wanted, mut moved) = (0, 0);
            for (count, &seats) in seats.iter().enumerate() {
                wanted += seats;
                frames.want(wanted);
                let mut due = vec![seats];
                let before = moved;
                while let Some(seats) = due.pop() {
                    assert_eq!(frames.fits(seats), Ok(()), "{limit}: wire {count} of {seats}");
                    let crowding = frames.crowding(seats);
                    moved += crowding.len();
                    for place in crowding {
                        due.push(frames.places[place].take().unwrap().seats);
                    }
                    let (place, share) = frames.plan(seats).unwrap();
                    frames.lay(place, Arc::clone(&area), seats, share);
                }
                assert!(moved - before <= count, "{limit}: no wire is moved twice");
                let least = frames.places.iter().flatten().map(|held| held.share).min().unwrap();
                assert!(least >= (limit / wanted / 2).clamp(SHARE_LEAST, SHARE_ENOUGH), "{limit}: {least} of {wanted}");
                assert!(frames.taken().0 == wanted && frames.taken().1 <= limit, "{limit}: {:?}", frames.taken());
            }
            assert!(moved <= 2 * seats.len(), "{limit}: {moved}");
        }
        // What does not fit with all that are wanted costs nobody anything.
        let mut frames = Frames::new(Some(512));
        frames.want(2);
        frames.lay(0, area, 2, 256);
        frames.want(18);
        assert!(frames.crowding(16).is_empty());
        let refused = frames.fits(16).unwrap_err();
        assert!(refused.contains("leaves 0 frames"), "{refused}");
        assert!(refused.contains("--frames 576 or more"), "{refused}");
    }

    #[test]
    fn a_place_is_given_back_when_its_last_socket_leaves() {
        let area = Arc::clone(Store::<Primary>::new(1, 2048).unwrap().area());
        let mut frames = Frames::new(None);
        frames.want(4);
        for place in [0, 1] {
            frames.lay(place, Arc::clone(&area), 2, 320);
            frames.take_seat(place);
        }
        assert!(frames.has_room(0, 1) && !frames.has_room(0, 2) && !frames.has_room(7, 0));
        assert!(frames.lift_unused().is_empty());
        frames.leave_seat(0);
        assert!(!frames.is_used(0) && frames.is_used(1) && !frames.is_used(7));
        assert_eq!((frames.lift_unused(), frames.at(0).is_none()), (vec![0], true));
        assert_eq!(frames.plan(2).unwrap().0, 0);
    }
}
