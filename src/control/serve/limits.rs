//! What an exchange may take, bytes and time, and why a request is not taken.

use std::time::Duration;

use thiserror::Error;

/// How long a request may take, from the accept on, and [`MIB_TIME`] more for each MiB of it that has come: as long as
/// the producer itself waits for an exchange.
pub const READ_TIME: Duration = Duration::from_secs(3);
/// What each MiB may take, of a request or an answer.
pub const MIB_TIME: Duration = Duration::from_secs(1);
/// The largest request, bytes: the largest that the producer sends.
pub const MAX_REQUEST: usize = 64 << 20;
/// The largest status, bytes: about the largest answer that the producer reads.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// Up to here every client may hold its request in memory at once.
pub(super) const SMALL: usize = 64 << 10;
/// Of larger ones there are so many at once: at most 160 MiB of them all.
pub(super) const LARGER: [Class; 2] = [Class { size: 1 << 20, most: 32 }, Class { size: MAX_REQUEST, most: 2 }];

/// How many requests up to a size there may be in memory at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// Bytes of each.
    pub size: usize,
    /// At once.
    pub most: usize,
}

/// What so many bytes may take.
pub(super) fn per_mib(bytes: usize) -> Duration {
    Duration::from_nanos(((bytes as u128 * MIB_TIME.as_nanos()) >> 20).try_into().unwrap_or(u64::MAX))
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unread {
    /// It takes too long.
    #[error(
        "the request was not whole after {} s, and {} s more for each MiB that had come (allowed: one JSON object and \
         a newline in that time)",
        READ_TIME.as_secs(),
        MIB_TIME.as_secs()
    )]
    Late,
    /// It has too many bytes.
    #[error("the request has more than the {MAX_REQUEST} bytes allowed")]
    TooLarge,
    /// Other large ones are being read, all the time there was.
    #[error("too many large requests at once (try again)")]
    Busy,
    /// The client has gone, or had to.
    #[error("the client has gone")]
    Gone,
}
