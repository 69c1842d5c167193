//! More descriptors than a ring's index counts: every cursor goes round, and nothing is lost, repeated or miscounted.
//!
//! Frames cross both ways, and those of one way are all mirrored, to a monitor that stands still every now and then.
//! A frame's length tells its number among its neighbours; now and then one carries its number and is compared byte
//! for byte. Every breath ends with conservation and a closed ledger.
//!
//! The same for clone rings, whose positions count bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use shm_layout::counters::{Binding, Entry};
use shm_layout::record::PortRole;
use spanwire::shard::rx::BATCH;
use spanwire::xsk::fake::Sent;
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, MON, Plan, Rig, Spec, frame};
use super::selector::{Offer, tcp};

const MIRROR: (u32, u32, u32) = (A, MON, 1);
/// Descriptors until the indices go round for the first time.
const BEFORE_WRAP: u32 = 10_000;
/// Frames from one that carries its number to the next: the first of every so many batches.
const NUMBERED: u64 = 64 * BATCH as u64;
/// Its length; the others are shorter.
const NUMBERED_LEN: u32 = 300;

/// Descriptors each ring is to pass: a short form, and with `tools/test.sh --long` more than an index counts, in an
/// optimised build.
fn amount() -> u64 {
    let is_long = std::env::var_os("SPANWIRE_LONG").is_some() && !cfg!(debug_assertions);
    if is_long { (1 << 32) + 1 } else { 3 * u64::from(BEFORE_WRAP) }
}

fn len_of(number: u64) -> u32 {
    if number.is_multiple_of(NUMBERED) { NUMBERED_LEN } else { 64 + (number % 64) as u32 }
}

fn numbered(way: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![way as u8; NUMBERED_LEN as usize];
    bytes[16..24].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Frame `number` of a way must be what is being sent.
fn check(sent: &Sent<'_>, way: usize, number: u64) {
    assert_eq!(sent.len, len_of(number), "frame {number} of way {way}");
    if sent.len == NUMBERED_LEN {
        assert_eq!(sent.bytes(), numbered(way, number), "frame {number} of way {way}");
    }
}

/// The way from one port of the wire to the other.
#[derive(Default)]
struct Way {
    given: u64,
    crossed: u64,
    /// Of those that crossed.
    bytes: u64,
}

/// A batch of frames for port `from`, from the next number on.
fn give(rig: &mut Rig, from: u32, way: usize, Way { given, .. }: &mut Way) {
    let nic = &mut rig.port(from).nic;
    let mut numbers = *given..*given + BATCH as u64;
    *given = numbers.end;
    if numbers.start.is_multiple_of(NUMBERED) {
        assert!(nic.receive(&numbered(way, numbers.start)), "no room");
        numbers.start += 1;
    }
    let count = numbers.clone().count();
    assert_eq!(nic.receive_lengths(numbers.map(len_of)), count, "no room");
}

/// Takes what goes out on port `to`.
fn take(rig: &mut Rig, to: u32, way: usize, Way { crossed, bytes, .. }: &mut Way) {
    rig.port(to).nic.transmit_at_once(|sent| {
        check(sent, way, *crossed);
        *crossed += 1;
        *bytes += u64::from(sent.len);
    });
}

/// The clones that are to come: of each batch the first, as far as the monitor had room.
#[derive(Default)]
struct Clones {
    expected: VecDeque<Range<u64>>,
    sent: u64,
    bytes: u64,
    dropped: u64,
}

impl Clones {
    /// What became of the batch that began with `first`.
    fn expect(&mut self, first: u64, dropped: u64) {
        self.expected.push_back(first..first + BATCH as u64 - (dropped - self.dropped));
        self.dropped = dropped;
    }

    fn take(&mut self, sent: &Sent<'_>) {
        let number = loop {
            let batch = self.expected.front_mut().expect("a clone of nothing that is left");
            match batch.next() {
                Some(number) => break number,
                None => drop(self.expected.pop_front()),
            }
        };
        check(sent, 0, number);
        self.sent += 1;
        self.bytes += u64::from(sent.len);
    }
}

#[test]
fn indices_that_go_round_lose_and_repeat_nothing() {
    let amount = amount();
    let rings = RingSizes { fill: 128, rx: 64, tx: 128, completion: 128 };
    let spec = Spec { primary: 512, seats: 2, mirror: 128, rings, start: u32::MAX - BEFORE_WRAP };
    let mut rig = Rig::new(spec, &Plan::wire(&[MIRROR]));
    let (mut ways, mut clones) = ([Way::default(), Way::default()], Clones::default());
    let started = Instant::now();
    let mut breaths = 0u64;
    while ways[1].crossed < amount || clones.sent < amount {
        for (way, from) in [A, B].into_iter().enumerate() {
            give(&mut rig, from, way, &mut ways[way]);
        }
        rig.breathe();
        breaths += 1;
        let row = rig.ledger(MIRROR);
        let at = |value: Entry| row[value as usize];
        let given = ways[0].given;
        assert_eq!((at(Entry::Observed), at(Entry::Selected)), (given, given));
        clones.expect(given - BATCH as u64, at(Entry::DropQueueFull));
        assert_eq!(at(Entry::MirroredPackets) + at(Entry::InFlight) + clones.dropped, given);
        for (way, to) in [B, A].into_iter().enumerate() {
            take(&mut rig, to, way, &mut ways[way]);
        }
        // Now the monitor takes nothing, now it takes and completes nothing: both fill it up.
        let nic = &mut rig.port(MON).nic;
        match breaths % 200 {
            0..3 => {}
            100..103 => nic.transmit_each(usize::MAX, |sent| clones.take(sent)),
            _ => {
                nic.complete(usize::MAX);
                nic.transmit_at_once(|sent| clones.take(sent));
            }
        }
    }
    // What is on the way arrives.
    rig.port(MON).nic.complete(usize::MAX);
    rig.port(MON).nic.transmit_at_once(|sent| clones.take(sent));
    rig.breathe();
    let seconds = started.elapsed().as_secs_f64();

    assert!(clones.expected.iter().all(Range::is_empty), "clones were lost");
    let row = rig.ledger(MIRROR);
    let at = |value: Entry| row[value as usize];
    assert_eq!((at(Entry::MirroredPackets), at(Entry::MirroredBytes)), (clones.sent, clones.bytes));
    assert!(clones.dropped > 0, "the monitor never lagged");
    assert_eq!((at(Entry::DropQueueFull), at(Entry::InFlight)), (clones.dropped, 0));
    assert_eq!(clones.sent + clones.dropped, ways[0].given);
    let mut passed = vec![clones.sent];
    for (way, (from, to)) in ways.iter().zip([(A, B), (B, A)]) {
        let received = [Binding::RxPackets, Binding::RxBytes].map(|value| rig.count(from, value));
        let sent = [Binding::TxPackets, Binding::TxBytes].map(|value| rig.count(to, value));
        assert_eq!((received, sent), ([way.given, way.bytes], [way.crossed, way.bytes]));
        assert_eq!(way.given, way.crossed);
        passed.push(way.crossed);
    }
    let sent = [Binding::TxPackets, Binding::TxBytes].map(|value| rig.count(MON, value));
    assert_eq!(sent, [clones.sent, clones.bytes]);
    for ifindex in [A, B, MON] {
        let failed = [Binding::RxInvalid, Binding::CompletionInvalid, Binding::TxQueueFull, Binding::TxLost];
        assert_eq!(failed.map(|value| rig.count(ifindex, value)), [0; 4], "port {ifindex}");
    }
    // A fill and an rx descriptor for each frame received, a tx and a completion descriptor for each one sent.
    assert!(passed.iter().all(|&descriptors| descriptors >= amount), "{passed:?}");
    let [primary, mirror] = rig.shard.census();
    assert_eq!((primary.tx, mirror.in_hand), (0, spec.mirror));
    eprintln!("clones and frames each way: {passed:?}; {} dropped; {breaths} breaths, {seconds:.1} s", clones.dropped);
}

/// What a port receives: small frames, and a super-frame now and then.
fn offered(number: u32) -> Offer {
    match number % 97 {
        0 => Offer { gso_size: Some(700), ..Offer::of(tcp(number % (1 << 24), 1500 + number as usize % 600)) },
        1 => Offer { tag: Some([0x8100, 7]), ..Offer::of(frame(number, 60)) },
        len => Offer::of(frame(number, 60 + len as usize)),
    }
}

#[test]
fn positions_that_go_past_32_bits_lose_and_repeat_nothing() {
    const RING: u32 = 1 << 15;
    const BEFORE: u64 = 1 << 20;
    // In the long form more than 32 bits count, in an optimised build.
    let amount = amount().max(3 * BEFORE);
    let mut rig = Rig::empty(Spec { primary: 0, mirror: 60, start: u32::MAX - BEFORE_WRAP, ..Spec::default() });
    rig.add(MON, PortRole::Monitor);
    rig.select(RING, (1 << 32) - BEFORE);
    rig.swap(&Plan::wire(&[MIRROR]));
    let table = rig.table().load();
    let (mut number, mut passed, mut left, mut rounds) = (0u32, 0u64, 0u64, 0u32);
    let mut expected = VecDeque::new();
    let mut parts = VecDeque::new();
    loop {
        rounds += 1;
        for _ in 0..if passed < amount { rounds % 67 } else { 0 } {
            number = number.wrapping_add(1);
            let offer = offered(number);
            if rig.selectors[0].offer(&table, A, &offer) {
                passed += offer.bytes.len() as u64 + 64;
                expected.push_back(number);
            }
        }
        // Now the shard has no time, now the monitor stands still.
        if rounds % 50 > 3 {
            rig.breathe();
        }
        let clones = if rounds % 70 > 5 { rig.sent(MON) } else { Vec::new() };
        for clone in clones {
            if parts.is_empty() {
                let next = || expected.pop_front().map(|number| VecDeque::from(offered(number).clones()));
                let mut rest = std::iter::from_fn(next);
                parts = rest.find(|parts| parts[0] == clone).expect("a clone of nothing that is left");
                left += 1;
            }
            assert_eq!(parts.pop_front(), Some(clone));
        }
        let row = rig.ledger(MIRROR);
        let at = |value: Entry| row[value as usize];
        assert_eq!(at(Entry::Selected), u64::from(number));
        // What is left of the expected ones then was dropped.
        if passed >= amount && !rig.shard.has_news() && at(Entry::InFlight) == 0 {
            break;
        }
    }
    let row = rig.ledger(MIRROR);
    let at = |value: Entry| row[value as usize];
    let [full, queue_full] = [Entry::DropRingFull, Entry::DropQueueFull].map(at);
    assert!(full > 0 && queue_full > 0, "both were met: {full}, {queue_full}");
    assert_eq!((at(Entry::MirroredPackets), at(Entry::InFlight), parts.len()), (left, 0, 0));
    assert_eq!(left + full + queue_full, u64::from(number), "no other reason");
    assert!(at(Entry::MirroredSegments) > 0);
}
