//! The UMEM: one area of frames per shard, in two partitions, each frame in exactly one hand.
//!
//! A [`Frame`] is a token. The UMEM makes one for every frame, once; giving a frame to the kernel consumes
//! the token, and only an address that names a frame the kernel holds brings it back. So a token in hand means
//! that nobody else touches the frame's bytes, and a frame can be lost but never be in two hands. Tokens of two
//! UMEMs must not be mixed: only this crate can make or spend one, and a shard has one UMEM.
//!
//! ```text
//!   0                        primary * size                  (primary + mirror) * size
//!   | frame 0 | frame 1 | ... | frame primary | ...          |
//!   '------- Primary --------''---------- Mirror ------------'     index = address >> log2(size)
//! ```
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

use super::abi::{Desc, PACKET_HEADROOM};

/// Identifies a socket within its shard.
pub type SocketId = u16;

/// Marker of the partition that receiving and forwarding live on.
#[derive(Debug)]
pub enum Primary {}
/// Marker of the partition that clones live on.
#[derive(Debug)]
pub enum Mirror {}

/// A partition of the UMEM.
pub trait Partition: sealed::Sealed {
    /// Its place in per-partition arrays.
    const INDEX: usize;
}

impl Partition for Primary {
    const INDEX: usize = 0;
}

impl Partition for Mirror {
    const INDEX: usize = 1;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Primary {}
    impl Sealed for super::Mirror {}
}

/// A frame in hand. Not `Clone`: there is one token per frame.
#[derive(Debug)]
#[must_use = "a dropped token is a lost frame"]
pub struct Frame<P> {
    index: u32,
    partition: PhantomData<P>,
}

impl<P: Partition> Frame<P> {
    fn new(index: u32) -> Frame<P> {
        Frame { index, partition: PhantomData }
    }
}

/// A frame of either partition.
#[derive(Debug)]
pub enum AnyFrame {
    /// Of the Primary partition.
    Primary(Frame<Primary>),
    /// Of the Mirror partition.
    Mirror(Frame<Mirror>),
}

/// Where a packet lies in its frame, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// From the frame's start.
    pub offset: u32,
    /// Its length.
    pub len: u32,
}

/// A frame back from transmission.
#[derive(Debug)]
pub struct Completed {
    /// The frame.
    pub frame: AnyFrame,
    /// Bytes of the packet that was sent.
    pub len: u32,
    /// What the sender noted with it.
    pub tag: u32,
}

/// In whose hands a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// A token exists.
    Hand,
    /// Given to a fill ring: in it, in the kernel, or in the rx ring.
    FillRx,
    /// Given to a tx ring: in it, in the kernel, or in the completion ring.
    Tx,
    /// Lent to another shard.
    Lent,
}

/// A frame of another shard's UMEM, lent to this one: its bytes are the borrower's until it is given back. Not
/// `Clone`, as little as a [`Frame`].
#[derive(Debug)]
#[must_use = "a dropped loan is a lost frame"]
pub struct Loan {
    index: u32,
}

impl Loan {
    /// A loan whose number came from its owner.
    pub(crate) fn arrived(index: u32) -> Loan {
        Loan { index }
    }

    /// Its number, for the owner: the loan is no longer the borrower's.
    pub(crate) fn give_back(self) -> u32 {
        self.index
    }
}

#[derive(Clone, Copy, Debug)]
struct Note {
    holder: Holder,
    /// Whether it is in quarantine.
    overdue: bool,
    /// The round of audits it was given in.
    round: u8,
    socket: SocketId,
    len: u32,
    tag: u32,
}

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

/// The memory of a UMEM. Shared between the shard that uses it and the thread that registers it.
#[derive(Debug)]
pub struct Area {
    memory: MmapRaw,
    frame_size: u32,
}

impl Area {
    /// Address of the first frame, for registration with the kernel.
    pub fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.memory.len() == 0
    }

    /// Bytes of a frame.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// Copies the packet of a descriptor out; `None` where it lies outside the area. What the kernel does on
    /// transmission, for the kernel-free rings.
    pub(super) fn kernel_read(&self, desc: Desc) -> Option<Vec<u8>> {
        let at = self.kernel_range(desc.addr, desc.len as usize)?;
        let mut bytes = vec![0; desc.len as usize];
        // SAFETY: in bounds by `kernel_range`; a frame named by a tx descriptor has no token (Holder::Tx), so
        // nobody writes it.
        unsafe { std::ptr::copy_nonoverlapping(self.memory.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) };
        Some(bytes)
    }

    /// Copies a packet in; `None` where it does not fit. What the kernel does on receive, for the kernel-free
    /// rings.
    pub(super) fn kernel_write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        let at = self.kernel_range(addr, bytes.len())?;
        // SAFETY: in bounds by `kernel_range`; a frame named by a fill entry has no token (Holder::FillRx), so
        // nobody else touches it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().add(at), bytes.len()) };
        Some(())
    }

    /// Copies a packet to the start of a frame lent from this area. `None` where it does not fit.
    pub(crate) fn fill_loan(&self, loan: &mut Loan, packet: &[u8]) -> Option<Extent> {
        let len = u32::try_from(packet.len()).ok().filter(|&len| len <= self.frame_size)?;
        let at = self.kernel_range(u64::from(loan.index) * u64::from(self.frame_size), packet.len())?;
        // SAFETY: in bounds by `kernel_range`. The loan is borrowed exclusively: its owner has noted the frame as
        // lent and does not touch it before it is given back, so nobody else does. `packet` cannot lie in it: there is
        // no token for a frame that is lent.
        unsafe { std::ptr::copy_nonoverlapping(packet.as_ptr(), self.memory.as_mut_ptr().add(at), packet.len()) };
        Some(Extent { offset: 0, len })
    }

    fn kernel_range(&self, addr: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(addr).ok()?;
        at.checked_add(len).filter(|&end| end <= self.memory.len()).map(|_| at)
    }
}

/// A shard's UMEM and the record of whose hands each frame is in.
#[derive(Debug)]
pub struct Umem {
    area: Arc<Area>,
    shift: u32,
    primary: u32,
    notes: Box<[Note]>,
    fill_rx: [u32; 2],
    tx: [u32; 2],
    lent: u32,
    quarantined: [u32; 2],
    round: u8,
}

/// Every token of a partition, handed out once.
pub type Tokens<P> = Vec<Frame<P>>;

impl Umem {
    /// An area of `primary` and `mirror` frames of `frame_size` bytes, and a token for each frame.
    ///
    /// # Errors
    /// The frame size is neither 2048 nor 4096, there are too many frames, or memory is short.
    pub(crate) fn new(
        primary: u32,
        mirror: u32,
        frame_size: u32,
    ) -> io::Result<(Umem, Tokens<Primary>, Tokens<Mirror>)> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if frame_size != 2048 && frame_size != 4096 {
            return Err(invalid("a UMEM frame has 2048 or 4096 bytes"));
        }
        let count = primary.checked_add(mirror).filter(|&n| n <= 1 << 24);
        let count = count.ok_or_else(|| invalid("a UMEM has at most 2^24 frames"))?;
        let memory = MmapRaw::from(MmapMut::map_anon(count.max(1) as usize * frame_size as usize)?);
        let note = Note { holder: Holder::Hand, overdue: false, round: 0, socket: 0, len: 0, tag: 0 };
        let umem = Umem {
            area: Arc::new(Area { memory, frame_size }),
            shift: frame_size.trailing_zeros(),
            primary,
            notes: vec![note; count as usize].into_boxed_slice(),
            fill_rx: [0; 2],
            tx: [0; 2],
            lent: 0,
            quarantined: [0; 2],
            round: 0,
        };
        // Reversed: a LIFO list made of them gives out low addresses first.
        let primaries = (0..primary).rev().map(Frame::new).collect();
        let mirrors = (primary..count).rev().map(Frame::new).collect();
        Ok((umem, primaries, mirrors))
    }

    /// The memory, for registration with the kernel.
    pub fn area(&self) -> &Arc<Area> {
        &self.area
    }

    /// Bytes of the largest packet a clone can hold.
    pub fn max_clone_len(&self) -> u32 {
        self.area.frame_size
    }

    /// The bytes of a packet in hand. Empty where the extent lies outside the frame.
    pub(crate) fn packet<'a, P: Partition>(&'a self, frame: &'a Frame<P>, at: Extent) -> &'a [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed, so the frame is in nobody else's
            // hands and nobody writes it while the bytes are.
            Some(start) => unsafe { std::slice::from_raw_parts(self.area.memory.as_ptr().add(start), at.len as usize) },
            None => &[],
        }
    }

    /// The bytes of a frame in hand, to write. Empty where the extent lies outside the frame.
    pub(crate) fn packet_mut<'a, P: Partition>(&'a self, frame: &'a mut Frame<P>, at: Extent) -> &'a mut [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed exclusively, so the frame is in nobody
            // else's hands and nobody else touches the bytes while the slice lives.
            Some(start) => unsafe {
                std::slice::from_raw_parts_mut(self.area.memory.as_mut_ptr().add(start), at.len as usize)
            },
            None => &mut [],
        }
    }

    /// Copies the packet at `from` in one frame to the start of another. `None` where it does not fit.
    pub(crate) fn copy_packet(&self, from: &Frame<Primary>, at: Extent, to: &mut Frame<Mirror>) -> Option<Extent> {
        let start = self.position(from, at)?;
        let placed = Extent { offset: 0, len: at.len };
        let target = self.position(to, placed)?;
        let base = self.area.memory.as_mut_ptr();
        // SAFETY: both ranges lie inside their frames by `position`. Both tokens are borrowed, `to` exclusively,
        // and of different partitions, so the frames differ and nobody else touches either.
        unsafe { std::ptr::copy_nonoverlapping(base.add(start), base.add(target), at.len as usize) };
        Some(placed)
    }

    fn position<P: Partition>(&self, frame: &Frame<P>, at: Extent) -> Option<usize> {
        let end = at.offset.checked_add(at.len)?;
        // The index is checked too: a token of another UMEM must not reach outside this one.
        (end <= self.area.frame_size && (frame.index as usize) < self.notes.len())
            .then(|| ((frame.index as usize) << self.shift) + at.offset as usize)
    }

    /// Gives a frame to a fill ring of `socket`: the entry to push.
    pub(crate) fn give_fill(&mut self, frame: Frame<Primary>, socket: SocketId) -> u64 {
        self.note(frame.index, Holder::FillRx, socket, 0, 0);
        self.fill_rx[Primary::INDEX] += 1;
        u64::from(frame.index) << self.shift
    }

    /// Takes a received packet's frame back; `None` where the descriptor names no frame given to `socket`, or
    /// reaches beyond it.
    pub(crate) fn take_rx(&mut self, desc: Desc, socket: SocketId) -> Option<(Frame<Primary>, Extent)> {
        let (index, offset) = self.locate(desc.addr)?;
        if index >= self.primary
            || !self.holds(index, Holder::FillRx, socket)
            || offset.checked_add(desc.len).is_none_or(|end| end > self.area.frame_size)
        {
            return None;
        }
        self.notes[index as usize].holder = Holder::Hand;
        self.fill_rx[Primary::INDEX] -= 1;
        Some((Frame::new(index), Extent { offset, len: desc.len }))
    }

    /// Gives a frame to the tx ring of `socket`: the entry to push. `tag` comes back at completion.
    pub(crate) fn give_tx<P: Partition>(&mut self, frame: Frame<P>, at: Extent, socket: SocketId, tag: u32) -> Desc {
        self.note(frame.index, Holder::Tx, socket, at.len, tag);
        self.tx[P::INDEX] += 1;
        Desc { addr: (u64::from(frame.index) << self.shift) + u64::from(at.offset), len: at.len, options: 0 }
    }

    /// Lends a frame to the shard `borrower`, an index of the owner's choice: the number to send there.
    pub(crate) fn lend(&mut self, frame: Frame<Mirror>, borrower: u16) -> u32 {
        self.note(frame.index, Holder::Lent, borrower, 0, 0);
        self.lent += 1;
        frame.index
    }

    /// Takes a frame back from the shard `borrower`; `None` where it was not lent there.
    pub(crate) fn take_loan(&mut self, index: u32, borrower: u16) -> Option<Frame<Mirror>> {
        if index as usize >= self.notes.len() || !self.holds(index, Holder::Lent, borrower) {
            return None;
        }
        self.notes[index as usize].holder = Holder::Hand;
        self.lent -= 1;
        Some(Frame::new(index))
    }

    /// Takes a transmitted frame back; `None` where the address names no frame sent by `socket`.
    pub(crate) fn take_completion(&mut self, addr: u64, socket: SocketId) -> Option<Completed> {
        let (index, _) = self.locate(addr)?;
        if !self.holds(index, Holder::Tx, socket) {
            return None;
        }
        Some(self.take_tx(index))
    }

    fn take_tx(&mut self, index: u32) -> Completed {
        let note = &mut self.notes[index as usize];
        note.holder = Holder::Hand;
        if std::mem::take(&mut note.overdue) {
            self.quarantined[usize::from(index >= self.primary)] -= 1;
        }
        let (len, tag) = (note.len, note.tag);
        Completed { frame: self.any_tx(index), len, tag }
    }

    fn any_tx(&mut self, index: u32) -> AnyFrame {
        if index < self.primary {
            self.tx[Primary::INDEX] -= 1;
            AnyFrame::Primary(Frame::new(index))
        } else {
            self.tx[Mirror::INDEX] -= 1;
            AnyFrame::Mirror(Frame::new(index))
        }
    }

    /// Takes frame `index` back if `socket` held it. The socket must be closed, and its driver done with a zero-copy
    /// pool.
    pub(crate) fn reclaim(&mut self, index: u32, socket: SocketId) -> Option<Completed> {
        let note = self.notes.get_mut(index as usize).filter(|note| note.socket == socket)?;
        match note.holder {
            Holder::Hand | Holder::Lent => None,
            Holder::FillRx => {
                note.holder = Holder::Hand;
                self.fill_rx[Primary::INDEX] -= 1;
                Some(Completed { frame: AnyFrame::Primary(Frame::new(index)), len: 0, tag: 0 })
            }
            Holder::Tx => Some(self.take_tx(index)),
        }
    }

    /// Frames of both partitions.
    pub fn frames(&self) -> u32 {
        self.notes.len() as u32
    }

    /// Begins another round of [`Umem::audit`].
    pub(crate) fn next_round(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Puts frame `index` into quarantine if the kernel has had it for more than `rounds` rounds. `is_taken` tells of a
    /// socket whether the kernel has taken all it was given.
    pub(crate) fn audit(&mut self, index: u32, rounds: u8, is_taken: impl Fn(SocketId) -> bool) {
        let Some(note) = self.notes.get_mut(index as usize) else { return };
        if note.holder != Holder::Tx || note.overdue {
            return;
        }
        if !is_taken(note.socket) {
            // It still has all its time.
            note.round = self.round;
        } else if self.round.wrapping_sub(note.round) > rounds {
            note.overdue = true;
            self.quarantined[usize::from(index >= self.primary)] += 1;
        }
    }

    /// Frames of a partition by holder.
    pub fn census<P: Partition>(&self) -> Census {
        let size = if P::INDEX == Primary::INDEX { self.primary } else { self.notes.len() as u32 - self.primary };
        let (fill_rx, tx) = (self.fill_rx[P::INDEX], self.tx[P::INDEX]);
        let lent = if P::INDEX == Mirror::INDEX { self.lent } else { 0 };
        Census { size, in_hand: size - fill_rx - tx - lent, fill_rx, tx, quarantined: self.quarantined[P::INDEX], lent }
    }

    /// Index and offset of an address inside the area.
    fn locate(&self, addr: u64) -> Option<(u32, u32)> {
        let index = u32::try_from(addr >> self.shift).ok().filter(|&i| (i as usize) < self.notes.len())?;
        Some((index, (addr & u64::from(self.area.frame_size - 1)) as u32))
    }

    fn holds(&self, index: u32, holder: Holder, socket: SocketId) -> bool {
        let note = &self.notes[index as usize];
        note.holder == holder && note.socket == socket
    }

    fn note(&mut self, index: u32, holder: Holder, socket: SocketId, len: u32, tag: u32) {
        self.notes[index as usize] = Note { holder, overdue: false, round: self.round, socket, len, tag };
    }
}

/// Where the kernel puts a packet it receives into a frame.
pub const RX_OFFSET: u32 = PACKET_HEADROOM;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_only_from_the_hands_it_was_given_to() {
        let (mut umem, mut primary, mut mirror) = Umem::new(2, 1, 2048).unwrap();
        let addr = umem.give_fill(primary.pop().unwrap(), 7);
        let desc = |addr, len| Desc { addr, len, options: 0 };
        assert!(umem.take_rx(desc(addr + 256, 60), 8).is_none(), "another socket's frame");
        assert!(umem.take_rx(desc(addr + 256, 1793), 7).is_none(), "beyond the frame");
        assert!(umem.take_rx(desc(addr + 2048, 60), 7).is_none(), "a frame in hand");
        assert!(umem.take_rx(desc(3 * 2048, 60), 7).is_none(), "outside the area");
        assert!(umem.take_rx(desc(u64::MAX, u32::MAX), 7).is_none());
        assert!(umem.take_completion(addr, 7).is_none(), "not sent");
        let (frame, at) = umem.take_rx(desc(addr + 256, 60), 7).unwrap();
        assert_eq!(at, Extent { offset: 256, len: 60 });
        assert!(umem.take_rx(desc(addr + 256, 60), 7).is_none(), "already back");

        let sent = umem.give_tx(frame, at, 7, 42);
        let clone = umem.give_tx(mirror.pop().unwrap(), Extent { offset: 0, len: 9 }, 7, 43);
        assert_eq!(umem.census::<Primary>(), Census { size: 2, in_hand: 1, tx: 1, ..Census::default() });
        assert_eq!(umem.census::<Mirror>(), Census { size: 1, tx: 1, ..Census::default() });
        let done = umem.take_completion(sent.addr, 7).unwrap();
        assert!(matches!(done, Completed { frame: AnyFrame::Primary(_), len: 60, tag: 42 }));
        assert!(umem.take_completion(sent.addr, 7).is_none(), "completed twice");
        let done = umem.take_completion(clone.addr, 7).unwrap();
        assert!(matches!(done, Completed { frame: AnyFrame::Mirror(_), len: 9, tag: 43 }));
    }

    #[test]
    fn a_closed_socket_gives_everything_back() {
        let (mut umem, mut primary, mut mirror) = Umem::new(4, 2, 4096).unwrap();
        umem.give_fill(primary.pop().unwrap(), 1);
        umem.give_fill(primary.pop().unwrap(), 2);
        let at = Extent { offset: 0, len: 60 };
        umem.give_tx(primary.pop().unwrap(), at, 1, 0);
        umem.give_tx(mirror.pop().unwrap(), at, 1, 5);
        let lent = umem.lend(mirror.pop().unwrap(), 1);
        let taken: Vec<_> =
            (0..umem.frames()).filter_map(|index| umem.reclaim(index, 1)).map(|c| (c.len, c.tag)).collect();
        assert_eq!(taken, [(0, 0), (60, 0), (60, 5)], "the one to receive into, two to send, none that is lent");
        assert_eq!(umem.census::<Primary>(), Census { size: 4, in_hand: 3, fill_rx: 1, ..Census::default() });
        assert_eq!(umem.census::<Mirror>(), Census { size: 2, in_hand: 1, lent: 1, ..Census::default() });
        assert!(umem.take_loan(lent, 2).is_none() && umem.take_loan(99, 1).is_none());
        assert!(umem.take_loan(lent, 1).is_some() && umem.take_loan(lent, 1).is_none());
    }

    #[test]
    fn a_completion_that_is_overdue_is_known_until_it_comes() {
        let (mut umem, mut primary, _) = Umem::new(2, 0, 2048).unwrap();
        let sent = umem.give_tx(primary.pop().unwrap(), Extent { offset: 0, len: 60 }, 7, 0);
        umem.give_fill(primary.pop().unwrap(), 7);
        let quarantined = |umem: &Umem| umem.census::<Primary>().quarantined;
        let audit = |umem: &mut Umem, taken| (0..2).for_each(|index| umem.audit(index, 1, |_| taken));
        for round in 0..300 {
            audit(&mut umem, false);
            assert_eq!(quarantined(&umem), 0, "the kernel has not taken it in round {round}");
            umem.next_round();
        }
        audit(&mut umem, true);
        assert_eq!(quarantined(&umem), 0, "its time is not over");
        umem.next_round();
        audit(&mut umem, true);
        audit(&mut umem, true);
        assert_eq!(
            umem.census::<Primary>(),
            Census { size: 2, fill_rx: 1, tx: 1, quarantined: 1, ..Census::default() }
        );
        assert!(umem.take_completion(sent.addr, 7).is_some());
        assert_eq!(umem.census::<Primary>(), Census { size: 2, in_hand: 1, fill_rx: 1, ..Census::default() });
    }

    #[test]
    fn bytes_are_copied_whole_and_in_bounds() {
        let (umem, primary, mut mirror) = Umem::new(1, 1, 2048).unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(1792).collect();
        umem.area.kernel_write(u64::from(RX_OFFSET), &text).unwrap();
        let at = Extent { offset: RX_OFFSET, len: 1792 };
        assert_eq!(umem.packet(&primary[0], at), text);
        let placed = umem.copy_packet(&primary[0], at, &mut mirror[0]).unwrap();
        assert_eq!(umem.packet(&mirror[0], placed), text);
        assert!(umem.copy_packet(&primary[0], Extent { offset: 300, len: 1792 }, &mut mirror[0]).is_none());
        assert!(umem.packet(&mirror[0], Extent { offset: u32::MAX, len: 2 }).is_empty());
    }
}
