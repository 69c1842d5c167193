//! What the kernel selects becomes clones.

use proptest::prelude::*;
use shm_layout::counters::{Binding, Entry};
use shm_layout::record::{PortRole, Role};
use spanwire::checksum::{complete_checksum, is_unfinished};
use spanwire::counters::ENTRY_SLOTS;
use spanwire::kernel::abi::{RECORD_SUPER, RecordHead};
use spanwire::shard::mailbox::{Command, Output};
use spanwire::shard::rx::BATCH;
use spanwire::xsk::Kick;
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, Fleet, MON, Plan, Rig, Spec, frame, tagged};
use super::selector::{Offer, tcp};

pub const MIRROR: (u32, u32, u32) = (A, MON, 1);

/// A shard of which no wire needs frames: a monitor, and a clone ring.
pub fn reader(spec: Spec, plan: &Plan) -> Rig {
    let mut rig = Rig::empty(Spec { primary: 0, ..spec });
    rig.add(MON, PortRole::Monitor);
    rig.select(1 << 20, 0);
    rig.swap(plan);
    rig
}

/// Breathes until nothing moves; the clones that left.
pub fn settled(rig: &mut Rig) -> Vec<Vec<u8>> {
    let mut clones = Vec::new();
    while rig.breathe() > 0 {
        clones.extend(rig.sent(MON));
    }
    clones
}

pub fn value(rig: &Rig, value: Entry) -> u64 {
    rig.ledger(MIRROR)[value as usize]
}

#[test]
fn what_is_selected_leaves_byte_for_byte() {
    const MIRROR: (u32, u32, u32) = (A, MON, 7);
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let (mut want, mut clones, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in 0..2000 {
        let packet = frame(number, 60 + (number as usize * 13) % 1455);
        if rig.offer(A, &Offer::of(packet.clone())) {
            bytes += packet.len() as u64;
            want.push(packet);
        }
        let row = rig.ledger(MIRROR);
        assert_eq!(row[Entry::InFlight as usize], (want.len() - clones.len()) as u64, "in the ring, then on its way");
        if number % 150 == 0 {
            // Told of at the next breath.
            rig.breathe();
            clones.extend(rig.sent(MON));
            rig.breathe();
        }
    }
    clones.extend(settled(&mut rig));
    assert_eq!(want.len(), 2000usize.div_ceil(7), "the selector samples, and nobody else");
    assert_eq!(clones, want);
    let row = rig.ledger(MIRROR);
    let at = |value: Entry| row[value as usize];
    let selected = want.len() as u64;
    assert_eq!([Entry::Observed, Entry::Selected, Entry::MirroredPackets].map(at), [2000, selected, selected]);
    assert_eq!([Entry::MirroredBytes, Entry::MirroredSegments, Entry::InFlight].map(at), [bytes, 0, 0]);
    // The shard counts what became of clones alone.
    let own = rig.entry(MIRROR).read().unwrap();
    assert_eq!([Entry::Observed, Entry::Selected, Entry::NotSampled].map(|value| own[value as usize]), [0; 3]);
    assert_eq!(rig.count(MON, Binding::TxPackets), selected);
}

#[test]
fn a_breath_takes_a_batch_of_each_ring() {
    let mut rig = reader(Spec { mirror: 512, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    rig.select(1 << 20, 0);
    let table = rig.table().load();
    for number in 0..BATCH as u32 + 10 {
        for selector in &mut rig.selectors {
            assert!(selector.offer(&table, A, &Offer::of(frame(number, 60))));
        }
    }
    assert_eq!(rig.breathe(), 2 * BATCH);
    assert!(rig.shard.has_news());
    // The tx ring has room for half of them.
    assert_eq!(value(&rig, Entry::DropQueueFull), BATCH as u64);
    rig.sent(MON);
    assert_eq!(rig.breathe(), 64 + 2 * 10);
    assert!(!rig.shard.has_news());
}

#[test]
fn a_tag_that_the_kernel_took_off_is_put_back() {
    let plan = Plan { vlans: vec![(1 << 30, A, 10)], ..Plan::wire(&[(1 << 30, MON, 1), (A, MON, 2)]) };
    let mut rig = reader(Spec { mirror: 512, ..Spec::default() }, &plan);
    let mut want = Vec::new();
    for number in 0..60u32 {
        let tag = [[0x8100, 10 | 0xa000], [0x88a8, 20], [0x8100, 0x2000]][number as usize % 3];
        let bytes = match number % 4 {
            // One more, inline.
            0 => tagged(number, 70, 0x8100, 9),
            _ => frame(number, 60 + number as usize),
        };
        let offer = Offer { tag: Some(tag), ..Offer::of(bytes.clone()) };
        if rig.offer(A, &offer) {
            let clone = [&bytes[..12], &tag.map(u16::to_be_bytes).concat(), &bytes[12..]].concat();
            assert_eq!(offer.clones(), std::slice::from_ref(&clone));
            want.push(clone);
        }
    }
    assert_eq!(settled(&mut rig), want);
    let ledgers = [(1 << 30, MON, 1), (A, MON, 2)].map(|mirror| rig.ledger(mirror));
    assert_eq!(ledgers.map(|row| row[Entry::MirroredPackets as usize]), [20, 20], "each to the entry of its VLAN");
    // The longest that the monitor takes, with the tag.
    for len in [1514, 1515] {
        assert!(rig.offer(A, &Offer { tag: Some([0x8100, 10]), ..Offer::of(frame(1, len)) }));
    }
    assert_eq!(settled(&mut rig)[0].len(), 1518);
    assert_eq!(rig.ledger((1 << 30, MON, 1))[Entry::DropOversize as usize], 1);
}

#[test]
fn a_checksum_left_to_a_device_is_finished() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let left = tcp(1, 100);
    assert_eq!(is_unfinished(&left), Some(true));
    let mut finished = left.clone();
    assert!(complete_checksum(&mut finished));
    let tag = Some([0x8100, 5]);
    for (bytes, tag) in [(&left, None), (&left, tag), (&finished, None)] {
        assert!(rig.offer(A, &Offer { tag, ..Offer::of(bytes.clone()) }));
    }
    let behind_tag = [&finished[..12], &[0x81, 0, 0, 5], &finished[12..]].concat();
    assert_eq!(settled(&mut rig), [finished.clone(), behind_tag, finished]);
}

#[test]
fn every_reason_closes_the_ledger() {
    let mut rig = reader(Spec { mirror: 4, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    let offer = |rig: &mut Rig, count: u32, len: usize| {
        (0..count).for_each(|number| assert!(rig.offer(A, &Offer::of(frame(number, len)))));
        rig.breathe();
    };
    // A single monitor may hold all four frames.
    offer(&mut rig, 6, 60);
    assert_eq!(
        [Entry::InFlight, Entry::DropQueueFullSameWorker, Entry::DropQueueFull].map(|v| value(&rig, v)),
        [4, 2, 2]
    );
    rig.sent(MON);
    offer(&mut rig, 1, 1519);
    assert_eq!(value(&rig, Entry::DropOversize), 1);
    rig.link(MON, false, 1500);
    offer(&mut rig, 3, 60);
    assert_eq!(value(&rig, Entry::DropOutputDown), 3);
    rig.link(MON, true, 1500);
    // The last one goes with the port.
    offer(&mut rig, 1, 60);
    rig.remove(MON);
    offer(&mut rig, 1, 60);
    assert_eq!((value(&rig, Entry::DropOutputDown), value(&rig, Entry::InFlight)), (5, 0));
    rig.command(Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
    offer(&mut rig, 1, 60);
    assert_eq!(value(&rig, Entry::DropNoBinding), 1);
    rig.command(Command::OutputDown { ifindex: MON });
    rig.add(MON, PortRole::Monitor);
    offer(&mut rig, 1, 60);
    assert_eq!(rig.sent(MON), [frame(0, 60)], "what was remembered is forgotten");
    // A full ring is the kernel's to count.
    let many = (0..10_000).filter(|&number| !rig.offer(A, &Offer::of(frame(number, 200)))).count() as u64;
    assert!(many > 0);
    assert_eq!(value(&rig, Entry::DropRingFull), many);
    settled(&mut rig);
    let row = rig.ledger(MIRROR);
    assert_eq!((row[Entry::InFlight as usize], row[Entry::DropRingFull as usize]), (0, many));

    let mut rig = reader(Spec { mirror: 0, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    offer(&mut rig, 1, 60);
    assert_eq!(value(&rig, Entry::DropNoFrame), 1);
}

#[test]
fn a_monitor_that_stands_still_holds_nothing_up() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    for number in 0..2000 {
        assert!(rig.offer(A, &Offer::of(frame(number, 300))), "the ring's room comes back");
        rig.breathe();
    }
    let row = rig.ledger(MIRROR);
    assert_eq!([Entry::Selected, Entry::InFlight, Entry::DropQueueFull].map(|v| row[v as usize]), [2000, 64, 1936]);
    assert_eq!(rig.sent(MON).len(), 64);
    rig.breathe();
    assert!(rig.offer(A, &Offer::of(frame(7, 300))));
    assert_eq!(settled(&mut rig), [frame(7, 300)]);
}

#[test]
fn a_record_of_another_table_is_its_entrys() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let [gone] = rig.table().load().entries[..] else { panic!("one entry") };
    (0..3).for_each(|number| assert!(rig.offer(A, &Offer::of(frame(number, 60)))));
    // Taken by a shard that uses the next table, in which the entry is not.
    rig.publish(&Plan::wire(&[(A, MON, 2), (B, MON, 1)]));
    assert!(rig.offer(A, &Offer::of(frame(3, 60))), "selected by a table that the shard has not yet");
    rig.breathe();
    assert_eq!(rig.sent(MON).len(), 4);
    rig.breathe();
    let mirrored = |row: [u64; _]| [Entry::Selected, Entry::MirroredPackets, Entry::InFlight].map(|v| row[v as usize]);
    assert_eq!(mirrored(rig.ledger_in(gone.slot)), [3, 3, 0]);
    assert_eq!(mirrored(rig.ledger((A, MON, 2))), [1, 1, 0]);

    // Its slot is free for another only when nothing of it is in the ring.
    let slot = rig.table().load().entries[0].slot;
    assert!(!rig.offer(A, &Offer::of(frame(4, 60))) && rig.offer(A, &Offer::of(frame(5, 60))));
    rig.publish(&Plan::wire(&[(A, MON, 3)]));
    let in_the_ring = rig.ledger_in(slot);
    assert_eq!(mirrored(in_the_ring), [2, 1, 1]);
    let slots = |rig: &Rig| rig.table().load().entries.iter().map(|entry| entry.slot).collect::<Vec<_>>();
    assert!(!slots(&rig).contains(&slot));
    // A standby's shard still clones what was selected before.
    rig.swap(&Plan { role: Role::Standby, ..Plan::wire(&[(A, MON, 3)]) });
    assert_eq!(rig.block.clones(), 1);
    assert_eq!(rig.sent(MON), [frame(5, 60)]);
    rig.breathe();
    assert_eq!((mirrored(rig.ledger_in(slot)), rig.block.clones()), ([2, 2, 0], 0));
    assert!(!rig.offer(A, &Offer::of(frame(6, 60))), "a standby selects nothing");
}

#[test]
fn records_that_are_none_are_passed_over() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let [entry] = rig.table().load().entries[..] else { panic!("one entry") };
    let head = RecordHead { slot: entry.slot, output: MON, ..RecordHead::default() };
    let writer = rig.selectors[0].writer();
    let (discarded, short) = (writer.reserve(200).unwrap(), writer.reserve(10).unwrap());
    writer.discard(discarded);
    writer.submit(short, &[7; 10]);
    assert!(rig.shard.has_news());
    assert_eq!(rig.breathe(), 0);
    assert!(!rig.shard.has_news(), "their room is given back");
    rig.selectors[0].forge(RecordHead { slot: ENTRY_SLOTS as u32, ..head }, &frame(1, 60));
    rig.selectors[0].forge(RecordHead { slot: u32::MAX, ..head }, &frame(1, 60));
    rig.breathe();
    assert_eq!(rig.entry(MIRROR).read().unwrap(), [0; _]);
    assert!(!rig.shard.has_news(), "their room is given back");
    // Nothing at all, and a tag with no addresses to go behind.
    rig.selectors[0].forge(head, &[]);
    rig.selectors[0].forge(RecordHead { flags: 1, ..head }, &[0; 11]);
    rig.breathe();
    assert_eq!(rig.entry(MIRROR).read().unwrap()[Entry::DropTxInvalid as usize], 2);
    assert!(rig.offer(A, &Offer::of(frame(2, 60))));
    assert_eq!(settled(&mut rig), [frame(2, 60)]);
}

#[test]
fn a_record_that_is_being_written_is_waited_for() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let [entry] = rig.table().load().entries[..] else { panic!("one entry") };
    assert!(rig.offer(A, &Offer::of(frame(1, 60))));
    let head = RecordHead { slot: entry.slot, output: MON, len: 70, ..RecordHead::default() };
    let record = [bytemuck::bytes_of(&head), &frame(2, 70)].concat();
    let room = rig.selectors[0].writer().reserve(record.len()).unwrap();
    assert!(rig.offer(A, &Offer::of(frame(3, 60))));
    assert_eq!(settled(&mut rig), [frame(1, 60)], "nothing behind it");
    assert!(rig.shard.has_news(), "and no sleep");
    assert_eq!(rig.block.clones(), 1, "something is on its way");
    rig.selectors[0].writer().submit(room, &record);
    assert_eq!(settled(&mut rig), [frame(2, 70), frame(3, 60)]);
}

#[test]
fn both_ways_in_share_a_shard() {
    const OTHER: u32 = 40;
    let plan = Plan { wires: vec![(A, B), (OTHER, 41)], ..Plan::wire(&[MIRROR, (OTHER, MON, 2)]) };
    let mut rig = Rig::empty(Spec { mirror: 256, ..Spec::default() });
    rig.add(A, PortRole::Wire);
    rig.add(B, PortRole::Wire);
    rig.add(MON, PortRole::Monitor);
    rig.select(1 << 20, 0);
    rig.swap(&plan);
    let mut clones = 0;
    for number in 0..500 {
        assert!(rig.port(A).nic.receive(&frame(number, 60)));
        rig.offer(OTHER, &Offer::of(frame(1000 + number, 60)));
        if number % 20 == 19 {
            rig.breathe();
            rig.breathe();
            assert_eq!(rig.sent(B).len(), 20);
            clones += rig.sent(MON).len();
        }
    }
    clones += settled(&mut rig).len();
    assert_eq!(clones, 750);
    for (mirror, observed, selected) in [(MIRROR, 500, 500), ((OTHER, MON, 2), 500, 250)] {
        let row = rig.ledger(mirror);
        let counted = [Entry::Observed, Entry::Selected, Entry::MirroredPackets].map(|v| row[v as usize]);
        assert_eq!(counted, [observed, selected, selected], "{mirror:?}");
    }
}

/// Of 14,600 bytes in ten segments, or of as much as is left.
pub fn super_frame(number: u32, payload: usize) -> Offer {
    Offer { gso_size: Some(1460), ..Offer::of(tcp(number, payload)) }
}

#[test]
fn a_super_frame_leaves_as_its_segments_and_is_one_frame() {
    let mut rig = reader(Spec { mirror: 128, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    let tag = Some([0x8100, 0x6005]);
    let offers = [super_frame(1, 14_600), Offer { tag, ..super_frame(2, 20_001) }, Offer::of(frame(3, 60))];
    for offer in &offers {
        assert!(rig.offer(A, offer));
    }
    rig.breathe();
    assert_eq!(value(&rig, Entry::InFlight), 3);
    let want: Vec<_> = offers.iter().flat_map(Offer::clones).collect();
    assert_eq!(want.len(), 10 + 14 + 1);
    assert!(want.iter().all(|clone| is_unfinished(clone) != Some(true)));
    assert_eq!(rig.port(MON).nic.transmit(usize::MAX), want);
    // Back in whatever order: each is mirrored when the last of its frames is back.
    rig.port(MON).nic.shuffle_owed();
    rig.port(MON).nic.complete(1 + 13);
    rig.breathe();
    let counted = |rig: &Rig| {
        [Entry::MirroredPackets, Entry::MirroredSegments, Entry::InFlight].map(|v| rig.ledger(MIRROR)[v as usize])
    };
    assert_eq!(counted(&rig), [1, 0, 2]);
    rig.port(MON).nic.complete(1 + 9);
    rig.breathe();
    assert_eq!(counted(&rig), [2, 14, 1]);
    rig.port(MON).nic.complete(1);
    rig.breathe();
    assert_eq!(counted(&rig), [3, 24, 0]);
    let bytes: usize = want.iter().map(Vec::len).sum();
    assert_eq!(value(&rig, Entry::MirroredBytes), bytes as u64);
    assert_eq!([Binding::TxPackets, Binding::TxBytes].map(|v| rig.count(MON, v)), [25, bytes as u64]);
}

#[test]
fn of_a_super_frame_all_segments_leave_or_none() {
    let reasons = |rig: &Rig| [Entry::DropNoFrame, Entry::DropQueueFullSameWorker].map(|v| value(rig, v));
    // Nine frames for clones, with a ring and a second monitor that holds none of them.
    let mut rig = reader(Spec { mirror: 9, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    assert!(rig.offer(A, &super_frame(1, 14_600)) && rig.offer(A, &Offer::of(frame(2, 60))));
    assert_eq!(settled(&mut rig), [frame(2, 60)], "there is room for a small one");
    assert_eq!(reasons(&rig), [0, 1], "a port may not hold as many");
    assert!(rig.offer(A, &super_frame(3, 9 * 1460)));
    assert_eq!(settled(&mut rig), super_frame(3, 9 * 1460).clones());
    // A tx ring smaller than that.
    let rings = RingSizes { fill: 8, rx: 8, tx: 8, completion: 64 };
    let mut rig = reader(Spec { rings, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    assert!(rig.offer(A, &super_frame(1, 14_600)) && rig.offer(A, &super_frame(2, 8 * 1460)));
    assert_eq!(settled(&mut rig), super_frame(2, 8 * 1460).clones());
    assert_eq!(reasons(&rig), [0, 1]);
    // Frames with other monitors: each may hold half of them.
    let mut rig = reader(Spec { mirror: 12, ..Spec::default() }, &Plan::wire(&[MIRROR, (B, 23, 1)]));
    rig.add(23, PortRole::Monitor);
    (0..4).for_each(|number| assert!(rig.offer(B, &Offer::of(frame(number, 60)))));
    rig.breathe();
    assert!(rig.offer(A, &super_frame(1, 7 * 1460)) && rig.offer(A, &super_frame(2, 6 * 1460)));
    rig.breathe();
    assert_eq!(rig.sent(MON), super_frame(2, 6 * 1460).clones());
    assert_eq!(reasons(&rig), [0, 1]);
    let row = rig.ledger(MIRROR);
    assert_eq!([Entry::Selected, Entry::InFlight].map(|v| row[v as usize]), [2, 1]);
}

#[test]
fn super_frames_that_are_too_many_for_one_breath_wait_for_the_next() {
    let mut rig = reader(Spec { mirror: 64, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    let offers: Vec<_> = (0..20).map(|number| super_frame(number, 14_600)).collect();
    for offer in &offers {
        assert!(rig.offer(A, offer));
    }
    let mut clones = Vec::new();
    // As a device does that sends while it is told to: each breath finds all frames back.
    for left in [14, 8, 2, 0] {
        rig.breathe();
        clones.extend(rig.sent(MON));
        assert_eq!(clones.len(), 10 * (20 - left));
    }
    settled(&mut rig);
    assert_eq!(clones, offers.iter().flat_map(Offer::clones).collect::<Vec<_>>());
    let row = rig.ledger(MIRROR);
    assert_eq!([Entry::Selected, Entry::MirroredPackets].map(|v| row[v as usize]), [20, 20]);
    // For a monitor that sends none nobody waits for ever: others may be behind it.
    for offer in &offers {
        assert!(rig.offer(A, offer));
    }
    let breaths = (0..1 << 15).take_while(|_| rig.breathe() > 0 || rig.shard.has_news()).count();
    assert!(breaths < 1 << 15);
    let row = rig.ledger(MIRROR);
    let counted = [Entry::InFlight, Entry::DropNoFrame, Entry::DropQueueFullSameWorker].map(|v| row[v as usize]);
    assert_eq!((counted[0], counted[1] + counted[2]), (6, 14));
    assert!(!rig.shard.has_news());
}

#[test]
fn a_super_frame_that_nobody_can_segment_is_too_large() {
    let mut rig = reader(Spec { mirror: 128, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    let [entry] = rig.table().load().entries[..] else { panic!("one entry") };
    let head = RecordHead { slot: entry.slot, output: MON, flags: RECORD_SUPER, ..RecordHead::default() };
    // Not of TCP or UDP; no size; segments that the monitor does not take.
    for (bytes, gso_size) in [(frame(1, 900), 100), (tcp(1, 3000), 0), (tcp(1, 5000), 1465)] {
        rig.selectors[0].forge(RecordHead { gso_size, ..head }, &bytes);
    }
    rig.selectors[0].forge(RecordHead { gso_size: 1464, ..head }, &tcp(1, 5000));
    rig.breathe();
    assert_eq!(rig.entry(MIRROR).read().unwrap()[Entry::DropOversize as usize], 3);
    assert_eq!(rig.sent(MON).iter().map(Vec::len).collect::<Vec<_>>(), [1518, 1518, 1518, 662]);
}

#[test]
fn a_super_frame_of_which_the_device_refused_one_is_refused() {
    let mut rig = reader(Spec { mirror: 128, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    rig.port(MON).doorbell.script([Kick::Lost]);
    assert!(rig.offer(A, &super_frame(1, 4000)) && rig.offer(A, &Offer::of(frame(2, 60))));
    settled(&mut rig);
    let row = rig.ledger(MIRROR);
    let counted = [Entry::MirroredPackets, Entry::MirroredBytes, Entry::MirroredSegments, Entry::DropRefused];
    assert_eq!(counted.map(|v| row[v as usize]), [1, 60, 0, 1]);
    // One that leaves with its port.
    assert!(rig.offer(A, &super_frame(3, 4000)));
    rig.breathe();
    rig.port(MON).nic.transmit(2);
    rig.port(MON).nic.complete(2);
    rig.breathe();
    rig.remove(MON);
    let row = rig.ledger(MIRROR);
    assert_eq!([Entry::DropOutputDown, Entry::InFlight, Entry::MirroredSegments].map(|v| row[v as usize]), [1, 0, 0]);
}

/// Shards with a clone ring each; the monitor has one queue, which shard 0 owns.
pub fn readers(spec: Spec, count: usize, plan: &Plan) -> Fleet {
    let mut fleet = Fleet::new(Spec { primary: 0, ..spec }, count);
    fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
    fleet.rigs.iter_mut().for_each(|rig| rig.select(1 << 18, 0));
    fleet.swap(plan);
    fleet.settle();
    fleet
}

#[test]
fn clones_go_through_lanes_to_a_monitor_of_another_shard() {
    let mut fleet = readers(Spec { mirror: 200, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    let lent = |fleet: &Fleet| fleet.rigs[0].shard.census()[1].lent;
    assert_eq!(lent(&fleet), 100, "for the ring's sake");
    let mut want = Vec::new();
    for number in 0..30 {
        let offer = match number % 3 {
            0 => super_frame(number, 3000 + 100 * number as usize),
            1 => Offer { queue: 5, tag: Some([0x8100, 7]), ..Offer::of(tcp(number, 300)) },
            _ => Offer::of(frame(number, 60 + number as usize)),
        };
        assert!(fleet.rigs[1].offer(A, &offer));
        let mut clones = offer.clones();
        for clone in &mut clones {
            complete_checksum(clone);
        }
        want.push(clones);
    }
    let (mut clones, supers) = (Vec::new(), want.iter().filter(|clones| clones.len() > 1));
    let segments: usize = supers.map(Vec::len).sum();
    for _ in 0..4 {
        fleet.settle();
        clones.extend(fleet.rigs[0].sent(MON));
    }
    let row = fleet.rigs[1].ledger(MIRROR);
    let at = |value: Entry| row[value as usize];
    assert_eq!([Entry::Selected, Entry::MirroredPackets, Entry::InFlight].map(at), [30, 30, 0]);
    assert_eq!(clones, want.concat());
    assert_eq!(at(Entry::MirroredSegments), segments as u64);
    assert_eq!(at(Entry::MirroredBytes), clones.iter().map(Vec::len).sum::<usize>() as u64);
    fleet.swap(&Plan { role: Role::Standby, ..Plan::wire(&[MIRROR]) });
    fleet.settle();
    fleet.settle();
    assert_eq!(lent(&fleet), 0, "nothing comes any more");
}

#[test]
fn a_super_frame_goes_through_a_lane_whole_or_not_at_all() {
    let rings = RingSizes { fill: 8, rx: 8, tx: 16, completion: 64 };
    let mut fleet = readers(Spec { mirror: 40, rings, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    let value = |fleet: &Fleet, value: Entry| fleet.rigs[1].ledger(MIRROR)[value as usize];
    // What is lent the owner does not have.
    let mut short = readers(Spec { mirror: 40, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    assert!(short.rigs[0].offer(A, &super_frame(1, 21 * 1460)) && short.rigs[0].offer(A, &super_frame(2, 20 * 1460)));
    short.settle();
    assert_eq!(short.rigs[0].sent(MON), super_frame(2, 20 * 1460).clones());
    assert_eq!(short.rigs[0].ledger(MIRROR)[Entry::DropNoFrame as usize], 1);
    // Twenty loans; a tx ring of 16.
    let offers: Vec<_> = [(1, 21), (2, 12), (3, 6), (4, 4)].map(|(n, frames)| super_frame(n, frames * 1460)).into();
    offers.iter().for_each(|offer| assert!(fleet.rigs[1].offer(A, offer)));
    assert!(fleet.rigs[1].offer(A, &Offer::of(frame(5, 60))));
    fleet.rigs[1].breathe();
    assert_eq!(value(&fleet, Entry::DropNoFrame), 1, "more than there are loans");
    assert_eq!(value(&fleet, Entry::DropQueueFullCrossWorker), 0, "what is more than are left beside those waits");
    fleet.settle();
    // 12 and 6 went as far as the owner, which had room for 12, and then for 4.
    assert_eq!(fleet.rigs[0].sent(MON), [offers[1].clones(), offers[3].clones()].concat());
    fleet.settle();
    let row = fleet.rigs[1].ledger(MIRROR);
    let counted = [Entry::MirroredPackets, Entry::MirroredSegments, Entry::DropQueueFullCrossWorker, Entry::InFlight];
    assert_eq!(counted.map(|v| row[v as usize]), [2, 16, 2, 0]);
}

#[test]
fn queues_meet_by_their_numbers() {
    let mut fleet = Fleet::new(Spec { primary: 0, ..Spec::default() }, 2);
    for queue in 0..2 {
        fleet.rigs[queue as usize].add_queue(MON, PortRole::Monitor, queue, 2);
    }
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 2, mtu: 1500, multi_buffer: false }));
    fleet.rigs[1].select(1 << 16, 0);
    fleet.swap(&Plan::wire(&[MIRROR]));
    fleet.settle();
    for queue in [0, 1, 2, u32::MAX, 1] {
        assert!(fleet.rigs[1].offer(A, &Offer { queue, ..Offer::of(frame(queue, 60)) }));
    }
    fleet.settle();
    assert_eq!(fleet.rigs[0].sent(MON), [frame(0, 60)]);
    assert_eq!(fleet.rigs[1].sent(MON), [frame(1, 60), frame(1, 60)]);
    fleet.settle();
    let row = fleet.rigs[1].ledger(MIRROR);
    assert_eq!([Entry::MirroredPackets, Entry::DropNoBinding].map(|v| row[v as usize]), [3, 2]);
}

#[derive(Clone, Debug)]
enum Op {
    Offer { shard: usize, count: u8, kind: u8 },
    Breathe(usize),
    Transmit(u8),
    Complete { count: u8, reversed: bool },
    Withhold(u8),
    TurnUp,
    Answer(Kick),
    Link(bool),
    Replace,
    Swap(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let kick = prop_oneof![Just(Kick::Again), Just(Kick::Lost), Just(Kick::Failed)];
    prop_oneof![
        6 => (0usize..3, 0u8..20, any::<u8>()).prop_map(|(shard, count, kind)| Op::Offer { shard, count, kind }),
        9 => (0usize..3).prop_map(Op::Breathe),
        4 => (0u8..40).prop_map(Op::Transmit),
        4 => (0u8..40, any::<bool>()).prop_map(|(count, reversed)| Op::Complete { count, reversed }),
        1 => (1u8..10).prop_map(Op::Withhold),
        1 => Just(Op::TurnUp),
        1 => kick.prop_map(Op::Answer),
        1 => any::<bool>().prop_map(Op::Link),
        1 => Just(Op::Replace),
        1 => (0u32..4).prop_map(Op::Swap),
    ]
}

/// Frame `number` of a shard, whose clones tell both, whatever its kind.
fn numbered(shard: usize, number: u32, kind: u8) -> Offer {
    let mut offer = match kind % 4 {
        0 => super_frame(number, 1461 + number as usize * 37 % 9000),
        1 => Offer { tag: Some([0x8100, 7]), ..Offer::of(frame(number, 60 + number as usize % 900)) },
        2 => Offer { tag: Some([0x88a8, 7]), ..super_frame(number, 1461 + number as usize * 37 % 9000) },
        _ => Offer::of(frame(number, 60 + number as usize % 900)),
    };
    offer.bytes[5] = shard as u8;
    offer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Three shards with a ring each, one monitor queue: whatever happens, frames are conserved, ledgers close at every
    /// reading, and what the monitor sends is what was selected, each shard's in order, each super-frame whole, none twice.
    #[test]
    fn no_history_of_clones_loses_one_uncounted(
        mirror in 0u32..70, tx in 2u32..6, ring in 10u32..15, ops in prop::collection::vec(op(), 1..150),
    ) {
        let rings = RingSizes { fill: 64, rx: 64, tx: 1 << tx, completion: 64 };
        let spec = Spec { primary: 0, mirror, rings, start: u32::MAX - 30, ..Spec::default() };
        let mut fleet = Fleet::new(spec, 3);
        fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
        fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
        fleet.rigs.iter_mut().for_each(|rig| rig.select(1 << ring, (1 << 32) - 512));
        let of = |rate: u32| (A, MON, rate);
        let mut rate = 1;
        fleet.swap(&Plan::wire(&[of(rate)]));
        fleet.settle();
        let (mut number, mut clones, mut handed_up) = (0u32, Vec::new(), [vec![], vec![], vec![]]);
        for op in ops {
            match op {
                Op::Offer { shard, count, kind } => {
                    for _ in 0..count {
                        number += 1;
                        let offer = numbered(shard, number, kind);
                        if fleet.rigs[shard].offer(A, &offer) {
                            handed_up[shard].push(offer.clones());
                        }
                    }
                }
                Op::Breathe(shard) => {
                    fleet.rigs[shard].breathe();
                }
                Op::Transmit(count) => clones.extend(fleet.rigs[0].port(MON).nic.transmit(usize::from(count))),
                Op::Complete { count, reversed } => {
                    let nic = &mut fleet.rigs[0].port(MON).nic;
                    if reversed {
                        nic.shuffle_owed();
                    }
                    nic.complete(usize::from(count));
                }
                Op::Withhold(count) => fleet.rigs[0].port(MON).nic.withhold(usize::from(count)),
                Op::TurnUp => fleet.rigs[0].port(MON).nic.turn_up(),
                Op::Answer(kick) => fleet.rigs[0].port(MON).doorbell.script([kick]),
                Op::Link(up) => fleet.rigs[0].link(MON, up, 1500),
                Op::Replace => {
                    // What is in its tx ring goes with it, even parts of super-frames.
                    clones.extend(fleet.rigs[0].port(MON).nic.transmit(usize::MAX));
                    fleet.rigs[0].remove(MON);
                    fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
                }
                Op::Swap(next) => {
                    rate = next + 1;
                    fleet.swap(&Plan::wire(&[of(rate)]));
                    for rig in &mut fleet.rigs {
                        rig.breathe();
                    }
                    fleet.reclaim();
                }
            }
            for rig in &mut fleet.rigs {
                rig.check();
                rig.ledger(of(rate));
            }
        }
        fleet.rigs[0].link(MON, true, 1500);
        fleet.rigs[0].port(MON).nic.turn_up();
        for _ in 0..100 {
            fleet.settle();
            clones.extend(fleet.rigs[0].sent(MON));
        }
        for (shard, handed_up) in handed_up.into_iter().enumerate() {
            let row = fleet.rigs[shard].ledger(of(rate));
            prop_assert_eq!(row[Entry::InFlight as usize], 0);
            let own = fleet.rigs[shard].entry(of(rate)).read().unwrap();
            prop_assert_eq!(own[Entry::InFlight as usize], 0, "nor by the shard's own count");
            let mut left = clones.iter().filter(|clone| usize::from(clone[5]) == shard).peekable();
            for clone in handed_up {
                if left.peek().is_some_and(|next| **next == clone[0]) {
                    prop_assert!(clone.iter().eq(left.by_ref().take(clone.len())), "whole");
                }
            }
            prop_assert_eq!(left.next(), None, "in order, none twice, byte for byte");
        }
        // All that was lent comes back, and a ledger is left for nothing.
        fleet.swap(&Plan::wire(&[]));
        fleet.command_all(|| Command::OutputDown { ifindex: MON });
        fleet.settle();
        fleet.settle();
        for rig in &fleet.rigs {
            let mirror = rig.shard.census()[1];
            prop_assert_eq!((mirror.tx, mirror.lent, rig.block.clones()), (0, 0, 0));
        }
        prop_assert_eq!(fleet.leaving(), 0);
    }
}
