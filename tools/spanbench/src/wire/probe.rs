//! The tester's frame.
//!
//! ```text
//!   0            12      14    16      20    24         32        40        48
//!   | addresses  | 0x88b5 | -  | magic |trial| sequence | sent    | arrived | zeros …
//! ```
//! 0x88b5 is the EtherType for local experiments. The numbers are in this machine's byte order, the times in
//! nanoseconds of `CLOCK_MONOTONIC`; `bpf/sink.bpf.c` reads the same layout and writes `arrived`.

/// What every frame of the tester bears; `spwb` in memory.
const MAGIC: u32 = 0x6277_7073;
const MAGIC_AT: usize = 16;
const TRIAL_AT: usize = 20;
const SEQUENCE_AT: usize = 24;
const SENT_AT: usize = 32;
const ARRIVED_AT: usize = 40;

/// What a frame tells where it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Its number.
    pub sequence: u64,
    /// When it was written.
    pub sent: u64,
    /// When it arrived.
    pub arrived: u64,
}

/// A frame of `len` bytes, without trial, number and times.
pub(crate) fn template(len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    put(&mut frame, 0, &[0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    put(&mut frame, MAGIC_AT, &MAGIC.to_ne_bytes());
    frame
}

/// Writes its trial, number and time into a frame.
pub(crate) fn stamp(frame: &mut [u8], trial: u32, sequence: u64, sent: u64) {
    put(frame, TRIAL_AT, &trial.to_ne_bytes());
    put(frame, SEQUENCE_AT, &sequence.to_ne_bytes());
    put(frame, SENT_AT, &sent.to_ne_bytes());
}

/// Reads a frame; `None` for one that is not the tester's.
pub(crate) fn read(frame: &[u8]) -> Option<Probe> {
    let word = |at: usize| Some(u64::from_ne_bytes(*frame.get(at..)?.first_chunk()?));
    let magic = u32::from_ne_bytes(*frame.get(MAGIC_AT..)?.first_chunk()?);
    let probe = Probe { sequence: word(SEQUENCE_AT)?, sent: word(SENT_AT)?, arrived: word(ARRIVED_AT)? };
    (magic == MAGIC).then_some(probe)
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_what_was_written_into_it() {
        let mut frame = template(60);
        stamp(&mut frame, 6, 7, 8);
        put(&mut frame, ARRIVED_AT, &9u64.to_ne_bytes());
        assert_eq!(read(&frame), Some(Probe { sequence: 7, sent: 8, arrived: 9 }));
    }

    #[test]
    fn other_frames_are_not_taken_for_it() {
        let frame = template(60);
        assert_eq!(read(&frame[..47]), None);
        assert_eq!(read(&[0; 60]), None);
    }
}
