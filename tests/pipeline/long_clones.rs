//! Clones that are longer than a mirror frame.

use shm_layout::counters::{Binding, Entry};
use spanwire::checksum::complete_checksum;
use spanwire::shard::mailbox::{Command, Output};
use spanwire::xsk::Kick;

use super::clones::{MIRROR, reader, readers, settled, value};
use super::rig::{A, Fleet, MON, Plan, Spec, frame};
use super::selector::{Offer, tcp};

/// Of an MTU of 9000: as long as frames for clones, longer by one, by several; tagged; super-frames of such segments.
fn large_offers() -> Vec<Offer> {
    let tag = Some([0x8100, 7]);
    let of = |len: u32| Offer::of(frame(len, len as usize));
    let mut offers: Vec<Offer> = [60, 2047, 2048, 2049, 4096, 4097, 9014].map(of).into();
    offers.extend([2044, 2045, 9000].map(|len| Offer { tag, ..of(len) }));
    let supers = [(8948, 30_000), (3000, 8000)];
    offers.extend(supers.map(|(size, payload)| Offer { gso_size: Some(size), tag, ..Offer::of(tcp(3, payload)) }));
    offers.push(Offer::of(tcp(4, 5000)));
    offers
}

/// What leaves for it. A checksum that was left to a device is finished.
fn finished(offer: &Offer) -> Vec<Vec<u8>> {
    let mut clones = offer.clones();
    for clone in clones.iter_mut().filter(|_| offer.gso_size.is_none()) {
        complete_checksum(clone);
    }
    clones
}

#[test]
fn a_clone_that_is_longer_than_a_frame_leaves_in_several() {
    let mut rig = reader(Spec { mirror: 64, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    rig.bound_large(MON, 9000);
    let (mut packets, mut bytes, mut segments) = (0, 0, 0);
    for offer in large_offers() {
        assert!(rig.offer(A, &offer));
        let want = finished(&offer);
        assert_eq!(settled(&mut rig), want, "{} bytes", offer.bytes.len());
        packets += want.len() as u64;
        bytes += want.iter().map(|clone| clone.len() as u64).sum::<u64>();
        segments += offer.gso_size.map_or(0, |_| want.len() as u64);
    }
    let offers = large_offers().len() as u64;
    let row = rig.ledger(MIRROR);
    let counted = [Entry::MirroredPackets, Entry::MirroredBytes, Entry::MirroredSegments, Entry::InFlight];
    assert_eq!(counted.map(|v| row[v as usize]), [offers, bytes, segments, 0]);
    assert_eq!([Binding::TxPackets, Binding::TxBytes].map(|v| rig.count(MON, v)), [packets, bytes]);
    // Refused by the device, all of it is.
    rig.port(MON).doorbell.script([Kick::Lost]);
    assert!(rig.offer(A, &Offer::of(frame(1, 9000))));
    settled(&mut rig);
    assert_eq!([Entry::DropRefused, Entry::InFlight].map(|v| rig.ledger(MIRROR)[v as usize]), [1, 0]);
    assert_eq!([Binding::TxPackets, Binding::TxBytes].map(|v| rig.count(MON, v)), [packets, bytes]);
    // What finds no room for all of it waits for the next breath, and so does what is behind it.
    (0..14).for_each(|number| assert!(rig.offer(A, &Offer::of(frame(number, 9000)))));
    assert!(rig.offer(A, &Offer::of(frame(99, 60))));
    rig.breathe();
    assert_eq!(rig.sent(MON).len(), 12, "of 5 frames each");
    assert_eq!(settled(&mut rig).iter().map(Vec::len).collect::<Vec<_>>(), [9000, 9000, 60]);
    let row = rig.ledger(MIRROR);
    let dropped = [Entry::DropNoFrame, Entry::DropQueueFullSameWorker].map(|v| row[v as usize]).iter().sum::<u64>();
    assert_eq!((dropped, row[Entry::InFlight as usize]), (0, 0));
    // Where that cannot be, as before.
    rig.link(MON, true, 9000);
    for len in [2048, 2049] {
        assert!(rig.offer(A, &Offer::of(frame(len, len as usize))));
    }
    assert_eq!(settled(&mut rig).iter().map(Vec::len).collect::<Vec<_>>(), [2048]);
    assert_eq!(value(&rig, Entry::DropOversize), 1);
    // Nor is more of a packet than the kernel takes.
    rig.bound_large(MON, 60_000);
    for len in [32_768, 32_769] {
        assert!(rig.offer(A, &Offer::of(frame(1, len))));
    }
    assert_eq!(settled(&mut rig).iter().map(Vec::len).collect::<Vec<_>>(), [32_768]);
    assert_eq!(value(&rig, Entry::DropOversize), 2);
}

#[test]
fn a_long_clone_goes_through_a_lane_whole_or_not_at_all() {
    let mut fleet = readers(Spec { mirror: 128, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    fleet.rigs[0].bound_large(MON, 9000);
    let output = Output { ifindex: MON, queues: 1, mtu: 9000, multi_buffer: true };
    fleet.command_all(|| Command::OutputUp(output));
    fleet.settle();
    let (mut sent, mut want) = (Vec::new(), Vec::new());
    for offer in large_offers() {
        assert!(fleet.rigs[1].offer(A, &offer));
        want.extend(finished(&offer));
        for _ in 0..3 {
            fleet.rigs.iter_mut().for_each(|rig| assert!(rig.breathe() < 1000));
            sent.extend(fleet.rigs[0].sent(MON));
        }
    }
    fleet.settle();
    assert!(sent == want, "{:?}", sent.iter().map(Vec::len).collect::<Vec<_>>());
    let row = fleet.rigs[1].ledger(MIRROR);
    let bytes: usize = want.iter().map(Vec::len).sum();
    let counted = [Entry::MirroredPackets, Entry::MirroredBytes, Entry::InFlight].map(|v| row[v as usize]);
    assert_eq!(counted, [large_offers().len() as u64, bytes as u64, 0]);
    assert_eq!(fleet.rigs[0].count(MON, Binding::TxPackets), want.len() as u64);
    // The monitor has become one that takes less: none of it.
    fleet.rigs[0].link(MON, true, 1500);
    assert!(fleet.rigs[1].offer(A, &Offer::of(frame(1, 9000))));
    (0..3).for_each(|_| fleet.rigs.iter_mut().for_each(|rig| assert!(rig.breathe() < 1000)));
    assert_eq!(fleet.rigs[0].sent(MON), Vec::<Vec<u8>>::new());
    fleet.settle();
    assert_eq!(fleet.rigs[1].ledger(MIRROR)[Entry::DropOversize as usize], 1);
    // By its whole length, not by what of it lies in the first frame; nor can one that sends each frame for itself take it.
    let lengths = |fleet: &mut Fleet, lens: &[usize]| {
        lens.iter().for_each(|&len| assert!(fleet.rigs[1].offer(A, &Offer::of(frame(1, len)))));
        (0..3).for_each(|_| fleet.rigs.iter_mut().for_each(|rig| assert!(rig.breathe() < 1000)));
        let sent: Vec<_> = fleet.rigs[0].sent(MON).iter().map(Vec::len).collect();
        fleet.settle();
        (sent, fleet.rigs[1].ledger(MIRROR)[Entry::DropOversize as usize])
    };
    fleet.rigs[0].bound_large(MON, 4500);
    assert_eq!(lengths(&mut fleet, &[9000, 4519, 4518, 60]), (vec![4518, 60], 3));
    fleet.rigs[0].link(MON, true, 9000);
    assert_eq!(lengths(&mut fleet, &[9000, 2049, 2048]), (vec![2048], 5));
}
