//! What holds whatever a ring or a record has in it, also for the fuzz targets.

use bytemuck::{bytes_of, pod_read_unaligned};
use spanwire::kernel::abi::{RECORD_SUPER, RECORD_TAGGED, RecordHead};
use spanwire::kernel::rings::{Record, plain_ring};

const HEAD: usize = size_of::<RecordHead>();

/// What is to be a record: it is its head, and as many bytes as that says.
pub fn record(input: &[u8]) {
    let read = Record::parse(input);
    let announced = input.get(..HEAD).map(|head| pod_read_unaligned::<RecordHead>(head).len as usize);
    assert_eq!(read.is_some(), announced.is_some_and(|len| len <= input.len() - HEAD));
    let Some(read) = read else { return };
    assert_eq!(bytes_of(&read.head), &input[..HEAD]);
    assert_eq!(Some(read.frame), input[HEAD..].get(..read.head.len as usize));
    assert_eq!(read.tag().is_some(), read.head.flags & RECORD_TAGGED != 0);
    assert_eq!(read.segment_size().is_some(), read.head.flags & RECORD_SUPER != 0);
}

/// Numbers off the front of an input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// Of `n` bytes, little-endian; `None` where there are not as many.
    fn take(&mut self, n: usize) -> Option<u64> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn take_or_zero(&mut self, n: usize) -> u64 {
        self.take(n).unwrap_or(0)
    }
}

/// A ring of 4 KiB: 8 bytes of the position it starts at, then steps, each a byte that says what is done and what that
/// needs: records reserved, submitted and given up in any order, headers and positions that the kernel never writes, and
/// a reader beside them, which neither panics nor goes on for ever, and reads what is right again afterwards.
pub fn rings(input: &[u8]) {
    const BYTES: u64 = 1 << 12;
    let mut input = Input(input);
    let start = input.take_or_zero(8) & !7;
    let (mut writer, mut ring) = plain_ring(BYTES as u32, start).expect("memory");
    let (mut cursor, mut reserved) = (start, Vec::new());
    while let Some(step) = input.take(1) {
        match step % 8 {
            0 => reserved.extend(writer.reserve(input.take_or_zero(2) as usize % 6000)),
            1 if !reserved.is_empty() => {
                let room = reserved.swap_remove(step as usize / 8 % reserved.len());
                let len = input.take_or_zero(1) as usize;
                let head = RecordHead { len: len as u32, ..RecordHead::default() };
                writer.submit(room, &[bytes_of(&head), &vec![0; len]].concat());
            }
            2 if !reserved.is_empty() => writer.discard(reserved.swap_remove(step as usize / 8 % reserved.len())),
            3 => {
                let at = ring.position().wrapping_add(input.take_or_zero(2));
                writer.scrawl(at, input.take_or_zero(4) as u32);
            }
            4 => writer.jump(writer.position().wrapping_add(input.take_or_zero(8))),
            5 => writer.jump(writer.position().wrapping_add(input.take_or_zero(1))),
            6 => ring.release(cursor),
            _ => {
                // Each takes a header's room at least.
                let mut left = BYTES / 8 + 2;
                loop {
                    let before = cursor;
                    match ring.next(&mut cursor) {
                        Some(read) => assert!(read.frame.len() + HEAD <= BYTES as usize, "more than there is room for"),
                        None if cursor == before => break,
                        None => {}
                    }
                    left = left.checked_sub(1).expect("it never comes to an end");
                }
            }
        }
    }
    // With nothing busy any more the next look after something impossible ends it.
    writer.jump(cursor.wrapping_add(BYTES * 4) & !7);
    (0..BYTES).step_by(8).for_each(|at| writer.scrawl(at, 0));
    for _ in 0..BYTES / 8 + 2 {
        ring.next(&mut cursor);
    }
    ring.release(cursor);
    assert_eq!(cursor, writer.position(), "read on from where the producer is");
    let nonsense = ring.nonsense();
    assert!(nonsense > 0, "counted");
    for serial in 1..20 {
        assert!(writer.put(RecordHead { serial, ..RecordHead::default() }, &[serial as u8; 300]));
        let read = ring.next(&mut cursor).expect("a record");
        assert_eq!((read.head.serial, read.frame), (serial, &[serial as u8; 300][..]));
        ring.release(cursor);
    }
    assert_eq!(ring.nonsense(), nonsense);
}
