//! Publishing an image into a region and reading it back whole.
//!
//! One writer, any number of readers, no reader ever writes. A slot is guarded by its sequence word: odd while
//! it is being written. The writer only ever writes the slot of the *next* generation, so the active one stays
//! readable through a publish, and through the death of the writer at any point of it.
//!
//! # Orderings
//! - `seq = odd` (Relaxed), then fence Release: pairs with the reader's fence Acquire. A reader that saw any
//!   word of the new payload sees `seq` odd, or later, when it looks again.
//! - `seq = even` (Release): pairs with the reader's first load of `seq` (Acquire). A reader that saw it sees
//!   the whole payload.
//! - `active` (Release): pairs with the reader's load of `active` (Acquire). A reader that saw a generation
//!   sees its slot complete.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use thiserror::Error;

use crate::header::{ACTIVE, Geometry, NOTIFY, STATE, STATE_LIVE, STATE_SUPERSEDED};
use crate::image::Image;
use crate::record::SlotHeader;
use crate::words::{Fault, Words};
use crate::{SLOTS, WORD};

/// How often a reader that was lapped by the writer tries again before it says so.
pub const READ_TRIES: usize = 64;

/// Where [`Writer::publish`] stands, for fault injection: a writer that dies at any of these leaves readers
/// with the last complete generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing written yet.
    Begin,
    /// The slot is marked as being written.
    SeqOdd,
    /// Half of the payload is written.
    HalfPayload,
    /// The whole payload is written, the slot still marked.
    Payload,
    /// The slot is complete but not announced.
    SeqEven,
    /// The generation is announced, waiters not yet woken.
    Active,
    /// The notify word has changed.
    Notify,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 7] =
        [Step::Begin, Step::SeqOdd, Step::HalfPayload, Step::Payload, Step::SeqEven, Step::Active, Step::Notify];
}

/// A publish that did not happen.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// the image is larger than a slot: the region must grow
    #[error("the image has {len} bytes, a slot of the region {slot_len}: the region must grow")]
    TooLarge {
        /// Bytes of the image.
        len: usize,
        /// Bytes of a slot.
        slot_len: usize,
    },
    /// another inode has taken the region's name
    #[error("the region has been superseded by a newer one")]
    Superseded,
    /// the generations are used up
    #[error("the generation counter is exhausted")]
    Exhausted,
    /// the region could not be written
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The only writer of a region. The caller holds the writer lock.
#[derive(Debug)]
pub struct Writer<'a, W: Words + ?Sized> {
    words: &'a W,
    geometry: Geometry,
}

impl<'a, W: Words + ?Sized> Writer<'a, W> {
    /// A writer for a region whose header has been checked.
    pub fn new(words: &'a W, geometry: Geometry) -> Self {
        Writer { words, geometry }
    }

    /// Publishes `image` as the next generation, which is at least `floor + 1`, and returns it.
    ///
    /// `published_at` is nanoseconds of `CLOCK_MONOTONIC`. Waking waiters on the notify word is the caller's, as it
    /// needs the system. `at`, where there is one, is called after each step; without it the payload is written in
    /// one go.
    ///
    /// # Errors
    /// [`PublishError`]; the active generation is then unchanged.
    pub fn publish(
        &self,
        image: &mut Image,
        floor: u64,
        published_at: u64,
        mut at: Option<&mut (dyn FnMut(Step) + '_)>,
    ) -> Result<u64, PublishError> {
        let w = self.words;
        let (state, active) = state_and_active(w, Relaxed)?;
        if state != STATE_LIVE {
            return Err(PublishError::Superseded);
        }
        if image.len_bytes() > self.geometry.slot_len {
            return Err(PublishError::TooLarge { len: image.len_bytes(), slot_len: self.geometry.slot_len });
        }
        let mut generation = active.max(floor).checked_add(1).ok_or(PublishError::Exhausted)?;
        // A floor may jump ahead by a multiple of the slots; the active slot is never written all the same.
        if active != 0 && generation % SLOTS as u64 == active % SLOTS as u64 {
            generation = generation.checked_add(1).ok_or(PublishError::Exhausted)?;
        }
        image.seal(generation, published_at);
        let slot = self.geometry.slot_word(generation);
        let payload = &image.words()[1..];
        let (first, second) = payload.split_at(if at.is_some() { payload.len() / 2 } else { payload.len() });
        let mut at = |step| {
            if let Some(at) = &mut at {
                at(step);
            }
        };

        at(Step::Begin);
        // Odd from whatever a writer that died here left behind, and never a value seen before.
        let odd = w.load(slot, Relaxed)?.wrapping_add(1) | 1;
        w.store(slot, odd, Relaxed)?;
        // Release: pairs with the fence Acquire in Reader::try_read.
        w.fence(Release);
        at(Step::SeqOdd);
        w.copy_in(slot + 1, first)?;
        at(Step::HalfPayload);
        if !second.is_empty() {
            w.copy_in(slot + 1 + first.len(), second)?;
        }
        at(Step::Payload);
        // Release: pairs with the Acquire load of seq in Reader::try_read.
        w.store(slot, odd.wrapping_add(1), Release)?;
        at(Step::SeqEven);
        // Release: pairs with the Acquire load of active in Reader::try_read.
        w.store(ACTIVE, generation, Release)?;
        at(Step::Active);
        // Generations differ in their low half for as long as anyone waits for the next one.
        w.store(NOTIFY, generation & u64::from(u32::MAX), Release)?;
        at(Step::Notify);
        Ok(generation)
    }

    /// Marks the region as replaced, so that readers look the name up again.
    ///
    /// # Errors
    /// [`Fault`] when the region cannot be reached.
    pub fn supersede(&self) -> Result<(), Fault> {
        self.words.store(STATE, STATE_SUPERSEDED, Release)?;
        // Neither what the word was nor what the newest generation made or would have made of it: a writer may have
        // died between the two, and readers wait on either.
        let (notify, active) = (self.words.load(NOTIFY, Relaxed)? as u32, self.words.load(ACTIVE, Relaxed)? as u32);
        let next = notify.wrapping_add(1);
        let next = if next == active { next.wrapping_add(1) } else { next };
        self.words.store(NOTIFY, u64::from(next), Release)
    }
}

/// What the header says of the region, and the newest announced generation.
fn state_and_active<W: Words + ?Sized>(words: &W, order: Ordering) -> Result<(u64, u64), Fault> {
    let mut header = [0; ACTIVE - STATE + 1];
    words.load_all(STATE, &mut header, order)?;
    Ok((header[0], header[ACTIVE - STATE]))
}

/// A read that brought no image. None of them is a reason to drop the last good one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// another inode has taken the region's name
    #[error("the region has been superseded by a newer one")]
    Superseded,
    /// the writer overtook every try
    #[error("the writer overtook every try to read the region")]
    Lapped,
    /// the active slot's header cannot be right
    #[error("the slot of generation {generation} is damaged: {field} is {found}")]
    Damaged {
        /// The generation the header announces.
        generation: u64,
        /// The field of the slot that does not hold.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// the region could not be read
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A reader of a region; it never writes to it.
#[derive(Debug)]
pub struct Reader<'a, W: Words + ?Sized> {
    words: &'a W,
    geometry: Geometry,
    tries: usize,
}

impl<'a, W: Words + ?Sized> Reader<'a, W> {
    /// A reader for a region whose header has been checked.
    pub fn new(words: &'a W, geometry: Geometry) -> Self {
        Reader { words, geometry, tries: READ_TRIES }
    }

    /// The same reader with another patience than [`READ_TRIES`].
    #[must_use]
    pub fn with_tries(self, tries: usize) -> Self {
        Reader { tries, ..self }
    }

    /// The newest announced generation; 0 before the first.
    ///
    /// # Errors
    /// [`ReadError::Superseded`] or a fault.
    pub fn active(&self) -> Result<u64, ReadError> {
        match state_and_active(self.words, Acquire)? {
            (STATE_LIVE, active) => Ok(active),
            _ => Err(ReadError::Superseded),
        }
    }

    /// Copies the newest image into `out` and returns its generation; `None` before the first publish, and where
    /// the newest is `known`.
    ///
    /// What `out` holds is whole, as the writer wrote it, but not yet trusted: [`crate::view`] checks it. As much
    /// as it held before is copied in one go with the slot's header: images of one region differ little in length.
    ///
    /// # Errors
    /// [`ReadError`]; `out` then holds nothing of use.
    pub fn read(&self, known: Option<u64>, out: &mut Vec<u64>) -> Result<Option<u64>, ReadError> {
        for _ in 0..self.tries {
            let active = self.active()?;
            if active == 0 || Some(active) == known {
                return Ok(None);
            }
            if self.try_read(active, out)? {
                return Ok(Some(active));
            }
            std::hint::spin_loop();
        }
        Err(ReadError::Lapped)
    }

    /// One try. `false` when the writer was in the slot.
    fn try_read(&self, generation: u64, out: &mut Vec<u64>) -> Result<bool, ReadError> {
        let w = self.words;
        let slot = self.geometry.slot_word(generation);
        // Acquire: pairs with the Release store of the even seq in Writer::publish.
        let seq = w.load(slot, Acquire)?;
        if seq % 2 != 0 {
            return Ok(false);
        }
        let guess = out.len().clamp(SlotHeader::WORDS, self.geometry.slot_len / WORD);
        out.resize(guess, 0);
        out[0] = 0;
        w.copy_out(slot + 1, &mut out[1..])?;
        let announced = SlotHeader::from_words(out);
        let len = usize::try_from(announced.len).unwrap_or(usize::MAX);
        let fits = len >= SlotHeader::WORDS * WORD && len <= self.geometry.slot_len && len.is_multiple_of(WORD);
        if fits {
            out.resize(len / WORD, 0);
            if out.len() > guess {
                w.copy_out(slot + guess, &mut out[guess..])?;
            }
        }
        // Acquire: pairs with the fence Release in Writer::publish.
        w.fence(Acquire);
        if w.load(slot, Relaxed)? != seq {
            return Ok(false);
        }
        if !fits {
            return Err(ReadError::Damaged { generation, field: "len", found: announced.len });
        }
        if announced.generation != generation {
            // The slot was reused between the look at `active` and the look at `seq`, unless it stays so.
            let now = w.load(ACTIVE, Acquire)?;
            return if now == generation {
                Err(ReadError::Damaged { generation, field: "generation", found: announced.generation })
            } else {
                Ok(false)
            };
        }
        Ok(true)
    }
}
