//! How the words of a region are reached.
//!
//! The protocol is written against [`Words`] so that one text runs over a file, over plain memory and under a
//! model checker. An implementation gives the ordering it is asked for, or a stronger one.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use thiserror::Error;

/// A word could not be reached. The region is not usable any more; nothing was torn by it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// the region ends before word {word}
    #[error("the region ends before word {word} (truncated while in use)")]
    Truncated {
        /// Index of the first word that could not be reached.
        word: usize,
    },
    /// the system refused the access
    #[error("the region cannot be accessed: {}", std::io::Error::from_raw_os_error(*errno))]
    Io {
        /// The system's error number.
        errno: i32,
    },
}

/// Memory made of 64-bit words that another process may be writing.
pub trait Words {
    /// One word, with an ordering of `Relaxed` or `Acquire`.
    ///
    /// # Errors
    /// [`Fault`] when the word is beyond the region's end.
    fn load(&self, word: usize, order: Ordering) -> Result<u64, Fault>;

    /// Loads consecutive words, each as [`Words::load`] would, in any order among themselves.
    ///
    /// # Errors
    /// As [`Words::load`].
    fn load_all(&self, word: usize, out: &mut [u64], order: Ordering) -> Result<(), Fault> {
        for (i, to) in out.iter_mut().enumerate() {
            *to = self.load(word + i, order)?;
        }
        Ok(())
    }

    /// One word, with an ordering of `Relaxed` or `Release`.
    ///
    /// # Errors
    /// [`Fault`] when the word is beyond the region's end.
    fn store(&self, word: usize, value: u64, order: Ordering) -> Result<(), Fault>;

    /// Words from `word` on, each Relaxed.
    ///
    /// # Errors
    /// [`Fault`] when a word is beyond the region's end.
    fn copy_out(&self, word: usize, out: &mut [u64]) -> Result<(), Fault>;

    /// Words from `word` on, each Relaxed.
    ///
    /// # Errors
    /// [`Fault`] when a word is beyond the region's end.
    fn copy_in(&self, word: usize, data: &[u64]) -> Result<(), Fault>;

    /// A fence between the accesses before and after it.
    fn fence(&self, order: Ordering);
}

/// Plain memory within one process: tests and benches.
impl Words for [AtomicU64] {
    fn load(&self, word: usize, order: Ordering) -> Result<u64, Fault> {
        self.get(word).map(|w| w.load(order)).ok_or(Fault::Truncated { word })
    }

    fn store(&self, word: usize, value: u64, order: Ordering) -> Result<(), Fault> {
        self.get(word).map(|w| w.store(value, order)).ok_or(Fault::Truncated { word })
    }

    fn copy_out(&self, word: usize, out: &mut [u64]) -> Result<(), Fault> {
        let from = self.get(word..word + out.len()).ok_or(Fault::Truncated { word: self.len() })?;
        for (to, from) in out.iter_mut().zip(from) {
            *to = from.load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn copy_in(&self, word: usize, data: &[u64]) -> Result<(), Fault> {
        let to = self.get(word..word + data.len()).ok_or(Fault::Truncated { word: self.len() })?;
        for (to, from) in to.iter().zip(data) {
            to.store(*from, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}
