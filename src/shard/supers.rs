//! Clones on their way that lie in several frames: each is one in its ledger when all of them are back.

use super::drop::DropReason;
use super::origin::{Account, MAX_ACCOUNTS};

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
struct Super {
    /// Of its ledger.
    slot: u32,
    /// Frames that are not back yet.
    left: u32,
    /// Packets that it leaves as, where it is a super-frame.
    segments: u32,
    /// Of the frames that were sent.
    bytes: u32,
    /// Why one of them was not.
    dropped: Option<DropReason>,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Of its ledger.
    pub(super) slot: u32,
    /// The segments of a super-frame, and the bytes. It is not mirrored unless all of it was sent.
    pub(super) outcome: Result<(u32, u32), DropReason>,
}

/// The super-frames of one shard. There is room for all that there can be, and nothing allocates.
#[derive(Debug)]
pub(super) struct Supers {
    all: Box<[Super]>,
    free: Vec<u32>,
}

impl Supers {
    /// Room for as many at once.
    pub(super) fn new(most: u32) -> Supers {
        let most = most.min(MAX_ACCOUNTS);
        Supers { all: vec![Super::default(); most as usize].into(), free: (0..most).rev().collect() }
    }

    /// What the frames of a clone for the ledger in `slot` are accounted to, which leaves as so many packets.
    #[inline]
    pub(super) fn account(&mut self, slot: u32, frames: u32, packets: u32) -> Result<Account, DropReason> {
        if frames == 1 { Ok(Account::ledger(slot)) } else { self.begin(slot, frames, packets) }
    }

    fn begin(&mut self, slot: u32, frames: u32, packets: u32) -> Result<Account, DropReason> {
        let at = self.free.pop().ok_or(DropReason::NoFrame)?;
        if let Some(place) = self.all.get_mut(at as usize) {
            let segments = if packets > 1 { packets } else { 0 };
            *place = Super { slot, left: frames, segments, ..Super::default() };
        }
        Ok(Account::super_frame(at))
    }

    /// One of a clone's frames could not be written.
    ///
    /// # Errors
    /// None of them could.
    #[cold]
    pub(super) fn lose(&mut self, account: Account) -> Result<(), DropReason> {
        match account.super_at() {
            None => Err(DropReason::Oversize),
            Some(at) => self.end(at, 0, Err(DropReason::Oversize)).map_or(Ok(()), |_| Err(DropReason::Oversize)),
        }
    }

    /// One of a super-frame's frames is back, `len` bytes long. What became of the whole, once they all are.
    pub(super) fn end(&mut self, at: u32, len: u32, outcome: Result<(), DropReason>) -> Option<Ended> {
        // A super-frame that there is not has no frames to come back.
        let of = self.all.get_mut(at as usize).filter(|of| of.left > 0)?;
        of.left -= 1;
        match outcome {
            Ok(()) => of.bytes += len,
            Err(reason) => of.dropped = of.dropped.or(Some(reason)),
        }
        (of.left == 0).then(|| {
            self.free.push(at);
            Ended { slot: of.slot, outcome: of.dropped.map_or(Ok((of.segments, of.bytes)), Err) }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_super_frame_ends_with_the_last_of_its_frames_in_whatever_order() {
        let mut supers = Supers::new(2);
        assert_eq!(supers.account(7, 1, 1), Ok(Account::ledger(7)));
        let [one, two] =
            [(7, 3), (8, 2)].map(|(slot, frames)| supers.account(slot, frames, frames).unwrap().super_at().unwrap());
        assert_eq!(supers.account(9, 2, 2), Err(DropReason::NoFrame), "there is room for two");
        assert_eq!(supers.end(one, 100, Ok(())), None);
        assert_eq!(supers.end(two, 60, Ok(())), None);
        assert_eq!(supers.end(one, 100, Ok(())), None);
        assert_eq!(supers.end(one, 50, Ok(())), Some(Ended { slot: 7, outcome: Ok((3, 250)) }));
        assert_eq!(supers.end(one, 50, Ok(())), None, "there is none any more");
        let again = supers.account(9, 2, 2).unwrap().super_at().unwrap();
        assert_eq!(supers.end(again, 60, Ok(())), None, "it begins anew");
        assert_eq!(supers.end(two, 60, Ok(())), Some(Ended { slot: 8, outcome: Ok((2, 120)) }));
    }

    #[test]
    fn one_frame_that_is_not_sent_is_the_whole_that_is_not() {
        let mut supers = Supers::new(1);
        let at = supers.account(7, 3, 3).unwrap().super_at().unwrap();
        assert_eq!(supers.end(at, 100, Err(DropReason::Refused)), None);
        assert_eq!(supers.end(at, 100, Err(DropReason::OutputDown)), None);
        assert_eq!(supers.end(at, 100, Ok(())), Some(Ended { slot: 7, outcome: Err(DropReason::Refused) }));
        // One that cannot be written is as good as dropped; where none can, there is nothing on its way.
        assert_eq!(supers.lose(Account::ledger(7)), Err(DropReason::Oversize));
        let account = supers.account(7, 2, 2).unwrap();
        assert_eq!(supers.lose(account), Ok(()));
        assert_eq!(supers.lose(account), Err(DropReason::Oversize));
        assert!(supers.account(7, 2, 2).is_ok());
    }
}
