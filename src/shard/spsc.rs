//! A bounded queue between two shards: one sends, one receives, neither waits, and neither writes a cache line
//! that the other writes.
//!
//! What is sent is seen with the next [`Sender::submit`], the room of what is received with the next
//! [`Receiver::release`]: both once a breath. Cursors count messages since the start and never wrap.
//!
//! # Orderings
//! - `tail` (Release, by the sender): pairs with the receiver's load of it (Acquire). A receiver that sees a message
//!   counted sees its words, and what the sender wrote anywhere before.
//! - `head` (Release, by the receiver): pairs with the sender's load of it (Acquire). A sender that sees room there
//!   writes only over what has been read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;

/// What is sent: the sender and the receiver know what the words mean.
pub type Message = [u64; 2];

/// Where a word of the queue lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Messages received.
    Head,
    /// Messages sent.
    Tail,
    /// Part of a message.
    Slot,
}

/// A word that two threads share: an `AtomicU64`, or a model checker's.
pub trait Word {
    /// A word of zero.
    fn new(place: Place) -> Self;
    /// As of an atomic.
    fn load(&self, order: Ordering) -> u64;
    /// As of an atomic.
    fn store(&self, value: u64, order: Ordering);
}

impl Word for AtomicU64 {
    fn new(_: Place) -> AtomicU64 {
        AtomicU64::default()
    }

    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

#[derive(Debug)]
struct Shared<W> {
    head: CachePadded<W>,
    tail: CachePadded<W>,
    slots: Box<[[W; 2]]>,
}

impl<W> Shared<W> {
    fn slot(&self, at: u64) -> &[W; 2] {
        // A power of two slots.
        &self.slots[at as usize & (self.slots.len() - 1)]
    }
}

/// The end that sends.
#[derive(Debug)]
pub struct Sender<W = AtomicU64> {
    shared: Arc<Shared<W>>,
    next: u64,
    submitted: u64,
    /// `head` as it was last seen.
    received: u64,
}

/// The end that receives.
#[derive(Debug)]
pub struct Receiver<W = AtomicU64> {
    shared: Arc<Shared<W>>,
    next: u64,
    released: u64,
    /// `tail` as it was last seen.
    sent: u64,
}

/// A queue with room for `capacity` messages or a few more.
pub fn queue<W: Word>(capacity: usize) -> (Sender<W>, Receiver<W>) {
    let slot = |_| [W::new(Place::Slot), W::new(Place::Slot)];
    let shared = Arc::new(Shared {
        head: W::new(Place::Head).into(),
        tail: W::new(Place::Tail).into(),
        slots: (0..capacity.next_power_of_two()).map(slot).collect(),
    });
    let sender = Sender { shared: Arc::clone(&shared), next: 0, submitted: 0, received: 0 };
    (sender, Receiver { shared, next: 0, released: 0, sent: 0 })
}

impl<W: Word> Sender<W> {
    /// Puts a message in.
    ///
    /// # Errors
    /// The message, when there is no room.
    #[inline]
    pub fn push(&mut self, message: Message) -> Result<(), Message> {
        let capacity = self.shared.slots.len() as u64;
        if self.next - self.received >= capacity {
            // Acquire: pairs with the Release in `Receiver::release`.
            self.received = self.shared.head.load(Acquire);
            if self.next - self.received >= capacity {
                return Err(message);
            }
        }
        for (word, value) in self.shared.slot(self.next).iter().zip(message) {
            word.store(value, Relaxed);
        }
        self.next += 1;
        Ok(())
    }

    /// Shows the receiver what was put in. Whether there was anything.
    #[inline]
    pub fn submit(&mut self) -> bool {
        let any = self.next != self.submitted;
        if any {
            // Release: pairs with the Acquire in `Receiver::pop` and `Receiver::is_empty`.
            self.shared.tail.store(self.next, Release);
            self.submitted = self.next;
        }
        any
    }
}

impl<W: Word> Receiver<W> {
    /// The oldest message that was not taken yet.
    #[inline]
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.peek(0)?;
        self.next += 1;
        Some(message)
    }

    /// The message so many behind that one, if it is known to be there: all that were shown together are.
    #[inline]
    pub fn peek(&mut self, behind: u64) -> Option<Message> {
        if self.is_empty() || behind >= self.sent - self.next {
            return None;
        }
        let [first, second] = self.shared.slot(self.next + behind);
        Some([first.load(Relaxed), second.load(Relaxed)])
    }

    /// Whether nothing is waiting.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        if self.sent == self.next {
            // Acquire: pairs with the Release in `Sender::submit`.
            self.sent = self.shared.tail.load(Acquire);
        }
        self.sent == self.next
    }

    /// Gives the sender the room of what was taken.
    #[inline]
    pub fn release(&mut self) {
        if self.next != self.released {
            // Release: pairs with the Acquire in `Sender::push`.
            self.shared.head.store(self.next, Release);
            self.released = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a `VecDeque` of the same capacity would, once everything is submitted and released.
        #[test]
        fn nothing_is_lost_or_turned_around(steps in prop::collection::vec((0usize..9, 0usize..9), 1..60)) {
            let (mut sender, mut receiver) = queue::<AtomicU64>(4);
            let (mut sent, mut seen, mut received) = (0u64, 0u64, 0u64);
            for (push, pop) in steps {
                for _ in 0..push {
                    let full = sent - received == 4;
                    prop_assert_eq!(sender.push([sent, !sent]).is_err(), full);
                    sent += u64::from(!full);
                }
                prop_assert_eq!(receiver.is_empty(), seen == received, "what is not submitted is not seen");
                sender.submit();
                seen = sent;
                for behind in 0..pop as u64 {
                    let message = receiver.peek(behind);
                    prop_assert!(message.is_none_or(|message| message == [received + behind, !(received + behind)]));
                }
                for _ in 0..pop {
                    let message = receiver.pop();
                    prop_assert_eq!(message, (received < sent).then_some([received, !received]));
                    received += u64::from(message.is_some());
                }
                receiver.release();
            }
        }
    }
}
