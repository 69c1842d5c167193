//! Whose hands each frame of a UMEM is in, and how it passes from one to another.

use std::marker::PhantomData;

use super::abi::Desc;
use super::area::Area;
use super::frame::{Extent, Frame, Mirror, Partition, Primary};

/// Identifies a socket within its shard.
pub type SocketId = u16;

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
pub(super) struct Holder(u32);

impl Holder {
    /// A token exists.
    pub(super) const HAND: Holder = Holder(0);

    /// Given to a fill ring: in it, in the kernel, or in the rx ring.
    pub(super) const fn fill_rx(socket: SocketId) -> Holder {
        Holder(1 << 16 | socket as u32)
    }

    /// Given to a tx ring: in it, in the kernel, or in the completion ring.
    pub(super) const fn tx(socket: SocketId) -> Holder {
        Holder(2 << 16 | socket as u32)
    }

    /// The same, for so long that the completion may never come: in quarantine.
    pub(super) const fn overdue(socket: SocketId) -> Holder {
        Holder(3 << 16 | socket as u32)
    }

    /// Lent to another shard.
    pub(super) const fn lent(borrower: u16) -> Holder {
        Holder(4 << 16 | borrower as u32)
    }

    /// The socket or the shard.
    pub(super) const fn id(self) -> u16 {
        self.0 as u16
    }
}

/// What is noted of a frame. The rest than the holder is of its last transmission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) holder: Holder,
    pub(super) tag: u32,
    pub(super) len: u16,
    /// The round of audits it was given in.
    pub(super) round: u8,
}

/// Frames of a partition that no token exists for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) fill_rx: u32,
    pub(super) tx: u32,
    pub(super) quarantined: u32,
    pub(super) lent: u32,
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

impl<'a, P: Partition> Custody<'a, P> {
    /// The frames of `area`, of which `notes` and `counts` tell, in this round of audits.
    #[inline]
    pub(super) fn new(area: &'a Area, notes: &'a mut [Note], counts: &'a mut Counts, round: u8) -> Custody<'a, P> {
        let shift = area.frame_size().trailing_zeros();
        Custody { area, notes, shift, round, fill_rx: 0, tx: 0, counts, partition: PhantomData }
    }

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
        let index = u64::from(frame.into_index());
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
        let index = u64::from(frame.into_index());
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
        let index = frame.into_index();
        if let Some(note) = self.at(u64::from(index)) {
            note.holder = Holder::lent(borrower);
        }
        self.counts.lent += 1;
        index
    }

    /// Takes a frame back from the shard `borrower`; `None` where it was not lent there.
    pub(crate) fn take_loan(&mut self, index: u32, borrower: u16) -> Option<Frame<Mirror>> {
        let note = self.at(u64::from(index)).filter(|note| note.holder == Holder::lent(borrower))?;
        note.holder = Holder::HAND;
        self.counts.lent -= 1;
        Some(Frame::from_index(index))
    }
}
