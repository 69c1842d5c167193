//! A UMEM: an area of frames, each frame in exactly one hand. A shard has one for clones and one for each wire.
//!
//! A [`Frame`] is a token. The UMEM makes one for every frame, once; giving a frame to the kernel consumes
//! the token, and only an address that names a frame the kernel holds brings it back. So a token in hand means
//! that nobody else touches the frame's bytes, and a frame can be lost but never be in two hands. Tokens of two
//! UMEMs must not be mixed: only this crate can make or spend one, those of the two partitions have different types,
//! and only ports of one wire, which share a UMEM, pass frames on to each other.
//!
//! ```text
//!   0          size         2 * size                  frames * size
//!   | frame 0  | frame 1    | ...                     |              index = address >> log2(size)
//! ```
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapRaw};

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

impl<P> Frame<P> {
    /// The token of a frame that no other token exists for.
    pub(super) fn from_index(index: u32) -> Frame<P> {
        Frame { index, partition: PhantomData }
    }

    /// The frame, without a token from now on.
    pub(super) fn into_index(self) -> u32 {
        self.index
    }
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
pub struct Completed<P> {
    /// The frame.
    pub frame: Frame<P>,
    /// Bytes of the packet that was sent.
    pub len: u32,
    /// What the sender noted with it.
    pub tag: u32,
}

/// In whose hands a frame is, and which socket's or shard's; in one word, for one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder(u32);

impl Holder {
    /// A token exists.
    const HAND: Holder = Holder(0);

    /// Given to a fill ring: in it, in the kernel, or in the rx ring.
    const fn fill_rx(socket: SocketId) -> Holder {
        Holder(1 << 16 | socket as u32)
    }

    /// Given to a tx ring: in it, in the kernel, or in the completion ring.
    const fn tx(socket: SocketId) -> Holder {
        Holder(2 << 16 | socket as u32)
    }

    /// The same, for so long that the completion may never come: in quarantine.
    const fn overdue(socket: SocketId) -> Holder {
        Holder(3 << 16 | socket as u32)
    }

    /// Lent to another shard.
    const fn lent(borrower: u16) -> Holder {
        Holder(4 << 16 | borrower as u32)
    }

    /// The socket or the shard.
    const fn id(self) -> u16 {
        self.0 as u16
    }
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

/// What is noted of a frame. The rest than the holder is of its last transmission.
#[derive(Clone, Copy, Debug)]
struct Note {
    holder: Holder,
    tag: u32,
    len: u16,
    /// The round of audits it was given in.
    round: u8,
}

/// Frames of a partition that no token exists for.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    fill_rx: u32,
    tx: u32,
    quarantined: u32,
    lent: u32,
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
        // SAFETY: in bounds by `kernel_range`; a frame named by a tx descriptor has no token (Holder::tx), so
        // nobody writes it.
        unsafe { std::ptr::copy_nonoverlapping(self.memory.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) };
        Some(bytes)
    }

    /// Copies a packet in; `None` where it does not fit. What the kernel does on receive, for the kernel-free
    /// rings.
    pub(super) fn kernel_write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        let at = self.kernel_range(addr, bytes.len())?;
        // SAFETY: in bounds by `kernel_range`; a frame named by a fill entry has no token (Holder::fill_rx), so
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

    /// The bytes of a packet in hand. Empty where the extent lies outside the frame.
    pub(crate) fn packet<'a, P: Partition>(&'a self, frame: &'a Frame<P>, at: Extent) -> &'a [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed, so the frame is in nobody else's
            // hands and nobody writes it while the bytes are.
            Some(start) => unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), at.len as usize) },
            None => &[],
        }
    }

    /// The bytes of a frame in hand, to write. Empty where the extent lies outside the frame.
    pub(crate) fn packet_mut<'a, P: Partition>(&'a self, frame: &'a mut Frame<P>, at: Extent) -> &'a mut [u8] {
        match self.position(frame, at) {
            // SAFETY: inside the frame by `position`; the token is borrowed exclusively, so the frame is in nobody
            // else's hands and nobody else touches the bytes while the slice lives.
            Some(start) => unsafe {
                std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(start), at.len as usize)
            },
            None => &mut [],
        }
    }

    /// Copies a packet to the start of a frame. `None` where it does not fit.
    #[inline]
    pub(crate) fn place<P: Partition>(&self, packet: &[u8], to: &mut Frame<P>) -> Option<Extent> {
        let at = Extent { offset: 0, len: u32::try_from(packet.len()).ok()? };
        let bytes = self.packet_mut(to, at);
        if bytes.len() != packet.len() {
            return None;
        }
        bytes.copy_from_slice(packet);
        Some(at)
    }

    #[inline]
    fn position<P: Partition>(&self, frame: &Frame<P>, at: Extent) -> Option<usize> {
        let end = u64::from(at.offset) + u64::from(at.len);
        let start = frame.index as usize * self.frame_size as usize;
        // The memory's end is checked too: a token of another UMEM must not reach outside this one.
        (end <= u64::from(self.frame_size) && start < self.memory.len()).then(|| start + at.offset as usize)
    }

    fn kernel_range(&self, addr: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(addr).ok()?;
        at.checked_add(len).filter(|&end| end <= self.memory.len()).map(|_| at)
    }
}

/// Zeroed memory for frames: in huge pages where the kernel has some to give, so that a frame the processor has not
/// touched lately does not cost it a walk of the page tables as well, and with every page there from the beginning.
///
/// # Errors
/// Memory is short.
pub fn memory(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes)?;
    for advice in [Advice::HugePage, Advice::PopulateWrite] {
        match memory.advise(advice) {
            // A kernel without the one or the other: small pages serve as well, and pages come when they are touched.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::debug!(?advice, "frames: this kernel does not know the advice");
            }
            other => other?,
        }
    }
    Ok(memory)
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
        let memory = MmapRaw::from(memory(frames.max(1) as usize * frame_size as usize)?);
        let note = Note { holder: Holder::HAND, tag: 0, len: 0, round: 0 };
        let umem = Umem {
            area: Arc::new(Area { memory, frame_size }),
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
        Custody {
            area: &self.area,
            notes: &mut self.notes,
            shift: self.area.frame_size.trailing_zeros(),
            round: self.round,
            fill_rx: 0,
            tx: 0,
            counts: &mut self.counts,
            partition: PhantomData,
        }
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

/// The frames of a UMEM, while they pass between a shard's hands and the rings.
#[derive(Debug)]
pub(crate) struct Custody<'a, P> {
    area: &'a Area,
    notes: &'a mut [Note],
    /// log2 of a frame's size.
    shift: u32,
    round: u8,
    /// What to add to the counts at the end, modulo 2^32.
    fill_rx: u32,
    tx: u32,
    counts: &'a mut Counts,
    partition: PhantomData<P>,
}

impl<P> Drop for Custody<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.counts.fill_rx = self.counts.fill_rx.wrapping_add(self.fill_rx);
        self.counts.tx = self.counts.tx.wrapping_add(self.tx);
    }
}

impl<P: Partition> Custody<'_, P> {
    /// The memory.
    #[inline]
    pub(crate) fn area(&self) -> &Area {
        self.area
    }

    /// Frames given for transmission so far, less those completed; modulo 2^32.
    #[inline]
    pub(crate) fn sent(&self) -> u32 {
        self.tx
    }

    /// Takes a received packet's frame back; `None` where the descriptor names no frame given to `socket`, or
    /// reaches beyond it.
    #[inline]
    pub(crate) fn take_rx(&mut self, desc: Desc, socket: SocketId) -> Option<(Frame<P>, Extent)> {
        let (index, offset) = self.locate(desc.addr);
        let size = 1 << self.shift;
        let note = self.at(index).filter(|note| note.holder == Holder::fill_rx(socket))?;
        if u64::from(offset) + u64::from(desc.len) > size {
            return None;
        }
        note.holder = Holder::HAND;
        self.fill_rx = self.fill_rx.wrapping_sub(1);
        Some((Frame::from_index(index as u32), Extent { offset, len: desc.len }))
    }

    /// Gives a frame to the tx ring of `socket`: the entry to push. `tag` comes back at completion.
    #[inline]
    pub(crate) fn give_tx(&mut self, frame: Frame<P>, at: Extent, socket: SocketId, tag: u32) -> Desc {
        // A packet lies in a frame, and no frame has 2^16 bytes.
        let note = Note { holder: Holder::tx(socket), tag, len: at.len as u16, round: self.round };
        let index = u64::from(frame.index);
        if let Some(place) = self.at(index) {
            *place = note;
        }
        self.tx = self.tx.wrapping_add(1);
        Desc { addr: (index << self.shift) + u64::from(at.offset), len: at.len, options: 0 }
    }

    /// Takes a transmitted frame back; `None` where the address names no frame sent by `socket`.
    #[inline]
    pub(crate) fn take_completion(&mut self, addr: u64, socket: SocketId) -> Option<Completed<P>> {
        let (index, _) = self.locate(addr);
        let Custody { counts, .. } = self;
        let note = note_of(self.notes, index)?;
        let Note { holder, tag, len, .. } = *note;
        if holder != Holder::tx(socket) {
            end_quarantine(holder, socket, counts)?;
        }
        note.holder = Holder::HAND;
        self.tx = self.tx.wrapping_sub(1);
        Some(Completed { frame: Frame::from_index(index as u32), len: u32::from(len), tag })
    }

    /// Index and offset of an address. The index may lie anywhere.
    #[inline]
    fn locate(&self, addr: u64) -> (u64, u32) {
        (addr >> self.shift, addr as u32 & ((1 << self.shift) - 1))
    }

    #[inline]
    fn at(&mut self, index: u64) -> Option<&mut Note> {
        note_of(self.notes, index)
    }

    /// Takes every frame back that sockets held which `is_closed`, each with a call of `taken`. Their drivers must be done
    /// with what was lent to them.
    pub(crate) fn reclaim(
        &mut self,
        is_closed: impl Fn(SocketId) -> bool,
        mut taken: impl FnMut(&mut Self, Completed<P>),
    ) {
        for index in 0..self.notes.len() as u64 {
            let held = self.at(index).filter(|note| note.holder != Holder::HAND).map(|note| note.holder.id());
            let Some(socket) = held.filter(|&socket| is_closed(socket)) else { continue };
            let done = if self.at(index).is_some_and(|note| note.holder == Holder::fill_rx(socket)) {
                self.take_rx(Desc { addr: index << self.shift, len: 0, options: 0 }, socket)
                    .map(|(frame, _)| Completed { frame, len: 0, tag: 0 })
            } else {
                self.take_completion(index << self.shift, socket)
            };
            if let Some(done) = done {
                taken(self, done);
            }
        }
    }
}

/// The note of frame `index`, if there is such a frame.
#[inline]
fn note_of(notes: &mut [Note], index: u64) -> Option<&mut Note> {
    notes.get_mut(usize::try_from(index).ok()?)
}

/// Counts a frame out of quarantine; `None` if it was not there for `socket`. Rare, and kept out of the loop over
/// completions.
#[cold]
#[inline(never)]
fn end_quarantine(holder: Holder, socket: SocketId, counts: &mut Counts) -> Option<()> {
    (holder == Holder::overdue(socket)).then(|| counts.quarantined -= 1)
}

impl Custody<'_, Primary> {
    /// Gives a frame to a fill ring of `socket`: the entry to push.
    #[inline]
    pub(crate) fn give_fill(&mut self, frame: Frame<Primary>, socket: SocketId) -> u64 {
        let index = u64::from(frame.index);
        if let Some(note) = self.at(index) {
            note.holder = Holder::fill_rx(socket);
        }
        self.fill_rx = self.fill_rx.wrapping_add(1);
        index << self.shift
    }
}

impl Custody<'_, Mirror> {
    /// Lends a frame to the shard `borrower`, an index of the owner's choice: the number to send there.
    pub(crate) fn lend(&mut self, frame: Frame<Mirror>, borrower: u16) -> u32 {
        if let Some(note) = self.at(u64::from(frame.index)) {
            note.holder = Holder::lent(borrower);
        }
        self.counts.lent += 1;
        frame.index
    }

    /// Takes a frame back from the shard `borrower`; `None` where it was not lent there.
    pub(crate) fn take_loan(&mut self, index: u32, borrower: u16) -> Option<Frame<Mirror>> {
        let note = self.at(u64::from(index)).filter(|note| note.holder == Holder::lent(borrower))?;
        note.holder = Holder::HAND;
        self.counts.lent -= 1;
        Some(Frame::from_index(index))
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

    #[test]
    fn bytes_are_copied_whole_and_in_bounds() {
        let (umem, mut frames) = Umem::<Primary>::new(2, 2048).unwrap();
        let (from, to) = frames.split_at_mut(1);
        let area = umem.area();
        let text: Vec<u8> = (0..=255).cycle().take(1792).collect();
        area.kernel_write(u64::from(RX_OFFSET), &text).unwrap();
        let at = Extent { offset: RX_OFFSET, len: 1792 };
        assert_eq!(area.packet(&to[0], at), text);
        let placed = area.place(&text, &mut from[0]).unwrap();
        assert_eq!(area.packet(&from[0], placed), text);
        assert!(area.place(&[0; 2049], &mut from[0]).is_none());
        assert!(area.packet(&to[0], Extent { offset: 300, len: 1792 }).is_empty());
        assert!(area.packet(&to[0], Extent { offset: u32::MAX, len: 2 }).is_empty());
    }
}
