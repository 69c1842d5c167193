//! A UMEM: an area of frames, each frame in exactly one hand. A shard has one for clones and one for each wire.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use super::area::Area;
use super::custody::{Counts, Custody, Holder, Note, SocketId};
use super::frame::{Frame, Partition};

/// Frames of one partition by holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames in the partition.
    pub size: u32,
    /// Tokens: on the free list or in a shard's hands.
    pub in_hand: u32,
    /// Given to fill rings and not received back.
    pub fill_rx: u32,
    /// Given to tx rings and not completed.
    pub tx: u32,
    /// Of those, not completed for so long that the completion may never come.
    pub quarantined: u32,
    /// Lent to other shards.
    pub lent: u32,
}

impl std::iter::Sum for Census {
    fn sum<I: Iterator<Item = Census>>(all: I) -> Census {
        all.fold(Census::default(), |a, b| Census {
            size: a.size + b.size,
            in_hand: a.in_hand + b.in_hand,
            fill_rx: a.fill_rx + b.fill_rx,
            tx: a.tx + b.tx,
            quarantined: a.quarantined + b.quarantined,
            lent: a.lent + b.lent,
        })
    }
}

/// A UMEM and the record of whose hands each frame is in.
#[derive(Debug)]
pub struct Umem<P> {
    area: Arc<Area>,
    notes: Box<[Note]>,
    counts: Counts,
    /// Of audits, and the next part of the frames to look at.
    round: u8,
    part: u32,
    partition: PhantomData<P>,
}

/// Frames of a UMEM at most: their numbers go through lanes in 24 bits.
const MAX_FRAMES: u32 = 1 << 24;

/// Every token of a UMEM, handed out once.
pub type Tokens<P> = Vec<Frame<P>>;

impl<P: Partition> Umem<P> {
    /// An area of `frames` frames of `frame_size` bytes, and a token for each frame.
    ///
    /// # Errors
    /// The frame size is neither 2048 nor 4096, there are too many frames, or memory is short.
    pub(crate) fn new(frames: u32, frame_size: u32) -> io::Result<(Umem<P>, Tokens<P>)> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if frame_size != 2048 && frame_size != 4096 {
            return Err(invalid("a UMEM frame has 2048 or 4096 bytes"));
        }
        if frames > MAX_FRAMES {
            return Err(invalid("a UMEM has at most 2^24 frames"));
        }
        let note = Note { holder: Holder::HAND, tag: 0, len: 0, round: 0 };
        let umem = Umem {
            area: Arc::new(Area::new(frames, frame_size)?),
            notes: vec![note; frames as usize].into_boxed_slice(),
            counts: Counts::default(),
            round: 0,
            part: 0,
            partition: PhantomData,
        };
        // Reversed: a LIFO list made of them gives out low addresses first.
        Ok((umem, (0..frames).rev().map(Frame::from_index).collect()))
    }

    /// The memory, for registration with the kernel.
    pub fn area(&self) -> &Arc<Area> {
        &self.area
    }

    /// Its frames, to pass between hands.
    #[inline]
    pub(crate) fn custody(&mut self) -> Custody<'_, P> {
        Custody::new(&self.area, &mut self.notes, &mut self.counts, self.round)
    }

    /// Looks at the next of `parts` parts of the frames, at most `most` of them, as [`Umem::audit`] does. Returns how many it
    /// looked at.
    pub(crate) fn audit_part(&mut self, parts: u32, most: u32, rounds: u8, is_taken: impl Fn(SocketId) -> bool) -> u32 {
        let frames = self.notes.len() as u32;
        let len = frames.div_ceil(parts).clamp(1, most);
        // None is overdue where none is on its way.
        let looks = self.counts.tx > 0;
        if looks {
            for index in self.part * len..(self.part + 1) * len {
                self.audit(index, rounds, &is_taken);
            }
        }
        self.part = (self.part + 1) % frames.div_ceil(len).max(1);
        if self.part == 0 {
            self.round = self.round.wrapping_add(1);
        }
        if looks { len } else { 0 }
    }

    /// Puts frame `index` into quarantine if the kernel has had it for more than `rounds` rounds. `is_taken` tells of a
    /// socket whether the kernel has taken all it was given.
    fn audit(&mut self, index: u32, rounds: u8, is_taken: impl Fn(SocketId) -> bool) {
        let Some(note) = self.notes.get_mut(index as usize) else { return };
        let socket = note.holder.id();
        if note.holder != Holder::tx(socket) {
            return;
        }
        if !is_taken(socket) {
            // It still has all its time.
            note.round = self.round;
        } else if self.round.wrapping_sub(note.round) > rounds {
            note.holder = Holder::overdue(socket);
            self.counts.quarantined += 1;
        }
    }

    /// Its frames by holder.
    pub fn census(&self) -> Census {
        let size = self.notes.len() as u32;
        let Counts { fill_rx, tx, quarantined, lent } = self.counts;
        Census { size, in_hand: size - fill_rx - tx - lent, fill_rx, tx, quarantined, lent }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::abi::Desc;
    use super::super::custody::Completed;
    use super::super::frame::{Extent, Mirror, Primary};
    use super::*;

    #[test]
    fn a_frame_comes_back_only_from_the_hands_it_was_given_to() {
        let (mut umem, mut primary) = Umem::<Primary>::new(2, 2048).unwrap();
        let (mut clones, mut mirror) = Umem::<Mirror>::new(1, 2048).unwrap();
        let mut custody = umem.custody();
        let addr = custody.give_fill(primary.pop().unwrap(), 7);
        let desc = |addr, len| Desc { addr, len, options: 0 };
        assert!(custody.take_rx(desc(addr + 256, 60), 8).is_none(), "another socket's frame");
        assert!(custody.take_rx(desc(addr + 256, 1793), 7).is_none(), "beyond the frame");
        assert!(custody.take_rx(desc(addr + 2048, 60), 7).is_none(), "a frame in hand");
        assert!(custody.take_rx(desc(3 * 2048, 60), 7).is_none(), "outside the area");
        assert!(custody.take_rx(desc(u64::MAX, u32::MAX), 7).is_none());
        assert!(custody.take_completion(addr, 7).is_none(), "not sent");
        let (frame, at) = custody.take_rx(desc(addr + 256, 60), 7).unwrap();
        assert_eq!(at, Extent { offset: 256, len: 60 });
        assert!(custody.take_rx(desc(addr + 256, 60), 7).is_none(), "already back");

        let sent = custody.give_tx(frame, at, 7, 42);
        drop(custody);
        let clone = clones.custody().give_tx(mirror.pop().unwrap(), Extent { offset: 0, len: 9 }, 7, 43);
        assert_eq!(umem.census(), Census { size: 2, in_hand: 1, tx: 1, ..Census::default() });
        assert_eq!(clones.census(), Census { size: 1, tx: 1, ..Census::default() });
        let done = umem.custody().take_completion(sent.addr, 7).unwrap();
        assert!(matches!(done, Completed { len: 60, tag: 42, .. }));
        assert!(umem.custody().take_completion(sent.addr, 7).is_none(), "completed twice");
        let done = clones.custody().take_completion(clone.addr, 7).unwrap();
        assert!(matches!(done, Completed { len: 9, tag: 43, .. }));
    }

    #[test]
    fn a_closed_socket_gives_everything_back() {
        let (mut umem, mut primary) = Umem::<Primary>::new(4, 4096).unwrap();
        let (mut clones, mut mirror) = Umem::<Mirror>::new(2, 4096).unwrap();
        let at = Extent { offset: 0, len: 60 };
        let mut custody = umem.custody();
        custody.give_fill(primary.pop().unwrap(), 1);
        custody.give_fill(primary.pop().unwrap(), 2);
        custody.give_tx(primary.pop().unwrap(), at, 1, 0);
        let mut taken = Vec::new();
        custody.reclaim(|socket| socket == 1, |_, done| taken.push((done.len, done.tag)));
        drop(custody);
        let mut custody = clones.custody();
        custody.give_tx(mirror.pop().unwrap(), at, 1, 5);
        let lent = custody.lend(mirror.pop().unwrap(), 1);
        custody.reclaim(|socket| socket == 1, |_, done| taken.push((done.len, done.tag)));
        drop(custody);
        assert_eq!(taken, [(0, 0), (60, 0), (60, 5)], "the one to receive into, two to send, none that is lent");
        assert_eq!(umem.census(), Census { size: 4, in_hand: 3, fill_rx: 1, ..Census::default() });
        assert_eq!(clones.census(), Census { size: 2, in_hand: 1, lent: 1, ..Census::default() });
        let mut custody = clones.custody();
        assert!(custody.take_loan(lent, 2).is_none() && custody.take_loan(99, 1).is_none());
        assert!(custody.take_loan(lent, 1).is_some() && custody.take_loan(lent, 1).is_none());
    }

    #[test]
    fn a_completion_that_is_overdue_is_known_until_it_comes() {
        let (mut umem, mut primary) = Umem::<Primary>::new(2, 2048).unwrap();
        let sent = umem.custody().give_tx(primary.pop().unwrap(), Extent { offset: 0, len: 60 }, 7, 0);
        umem.custody().give_fill(primary.pop().unwrap(), 7);
        let quarantined = |umem: &Umem<Primary>| umem.census().quarantined;
        // A round.
        let audit = |umem: &mut Umem<Primary>, taken| umem.audit_part(1, 2, 1, |_| taken);
        for round in 0..300 {
            audit(&mut umem, false);
            assert_eq!(quarantined(&umem), 0, "the kernel has not taken it in round {round}");
        }
        audit(&mut umem, true);
        assert_eq!(quarantined(&umem), 0, "its time is not over");
        audit(&mut umem, true);
        audit(&mut umem, true);
        assert_eq!(umem.census(), Census { size: 2, fill_rx: 1, tx: 1, quarantined: 1, ..Census::default() });
        assert!(umem.custody().take_completion(sent.addr, 7).is_some());
        assert_eq!(umem.census(), Census { size: 2, in_hand: 1, fill_rx: 1, ..Census::default() });
    }
}
