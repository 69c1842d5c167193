//! A lock that a thread which panicked does not keep from others.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was done under a lock is whole: a thread that panicked has left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
