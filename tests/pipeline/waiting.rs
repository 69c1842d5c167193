//! Clones of several frames wait in their ring for room, where that helps, and hold nobody up for long.

use shm_layout::counters::Entry;
use shm_layout::record::PortRole;
use spanwire::shard::mailbox::{Command, Output};
use spanwire::xsk::socket::RingSizes;

use super::clones::{MIRROR, reader, readers, super_frame};
use super::rig::{A, B, Fleet, MON, Plan, Rig, Spec, frame};
use super::selector::Offer;

/// More breaths than anybody waits.
const LONG: usize = 1 << 15;
/// A second monitor.
const OTHER: u32 = 23;

/// Of six segments each.
fn super_frames(count: u32) -> Vec<Offer> {
    (0..count).map(|number| super_frame(number, 6 * 1460)).collect()
}

fn offer_all(rig: &mut Rig, offers: &[Offer]) {
    offers.iter().for_each(|offer| assert!(rig.offer(A, offer)));
}

fn clones_of(offers: &[Offer]) -> Vec<Vec<u8>> {
    offers.iter().flat_map(Offer::clones).collect()
}

fn mirrored_and_dropped(rig: &Rig) -> [u64; 2] {
    let row = rig.ledger(MIRROR);
    [row[Entry::MirroredPackets as usize], Entry::DROPS.iter().map(|&reason| row[reason as usize]).sum()]
}

#[test]
fn for_what_another_shard_lends() {
    let mut fleet = readers(Spec { mirror: 40, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    // Twenty loans, in which there is room for three.
    let offers = super_frames(10);
    offer_all(&mut fleet.rigs[1], &offers);
    let mut clones = Vec::new();
    for _ in 0..20 {
        fleet.settle();
        clones.extend(fleet.rigs[0].sent(MON));
    }
    assert_eq!(clones, clones_of(&offers));
    assert_eq!(mirrored_and_dropped(&fleet.rigs[1]), [10, 0]);
}

#[test]
fn for_the_port_that_they_go_to_and_no_other_of_its_device() {
    let rings = RingSizes { fill: 8, rx: 8, tx: 16, completion: 64 };
    let mut rig = Rig::empty(Spec { primary: 0, rings, ..Spec::default() });
    (0..2).for_each(|queue| rig.add_queue(MON, PortRole::Monitor, queue, 2));
    rig.select(1 << 20, 0);
    rig.swap(&Plan::wire(&[MIRROR]));
    let on = |queue: u32, offer: &Offer| Offer { queue, ..offer.clone() };
    // The first is full, and goes on being that.
    (0..16).for_each(|number| assert!(rig.offer(A, &Offer::of(frame(number, 60)))));
    rig.breathe();
    let offers: Vec<_> = super_frames(3).iter().map(|offer| on(1, offer)).collect();
    offer_all(&mut rig, &offers);
    rig.breathe();
    let mut clones = rig.ports[1].nic.transmit(usize::MAX);
    assert_eq!(clones.len(), 2 * 6, "there is room for two");
    rig.ports[1].nic.complete(usize::MAX);
    rig.breathe();
    clones.extend(rig.ports[1].nic.transmit(usize::MAX));
    assert_eq!(clones, clones_of(&offers));
}

#[test]
fn for_a_monitor_that_sends_little_at_once() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    let offers = super_frames(30);
    offer_all(&mut rig, &offers);
    let mut clones = Vec::new();
    for _ in 0..200 {
        rig.breathe();
        clones.extend(rig.port(MON).nic.transmit(2));
        rig.port(MON).nic.complete(2);
    }
    assert_eq!(clones, clones_of(&offers));
    assert_eq!(mirrored_and_dropped(&rig), [30, 0]);
}

/// What another monitor has sent by now, and how many rounds of breaths that took.
fn behind(fleet: &mut Fleet, number: u32) -> usize {
    assert!(fleet.rigs[1].offer(B, &Offer::of(frame(number, 60))));
    for round in 0..LONG {
        fleet.settle();
        if fleet.rigs[1].sent(OTHER) == [frame(number, 60)] {
            return round;
        }
    }
    panic!("it is held up");
}

#[test]
fn not_for_ever() {
    let mut fleet = readers(Spec { mirror: 40, ..Spec::default() }, 2, &Plan::wire(&[MIRROR, (B, OTHER, 1)]));
    fleet.rigs[1].add(OTHER, PortRole::Monitor);
    fleet.command_all(|| Command::OutputUp(Output { ifindex: OTHER, queues: 1, mtu: 1500, multi_buffer: false }));
    // Its monitor sends nothing, and of twenty loans eighteen are there.
    offer_all(&mut fleet.rigs[1], &super_frames(4));
    assert!(behind(&mut fleet, 1) > 1, "it has waited");
    assert_eq!(mirrored_and_dropped(&fleet.rigs[1]), [0, 1]);
    // Nor again while nothing has changed.
    for number in 2..5 {
        offer_all(&mut fleet.rigs[1], &super_frames(1));
        assert!(behind(&mut fleet, number) < 2);
    }
    assert_eq!(mirrored_and_dropped(&fleet.rigs[1]), [0, 4]);
    // It sends again, and is waited for again.
    fleet.rigs[0].sent(MON);
    (0..3).for_each(|_| fleet.settle());
    let offers = super_frames(8);
    offer_all(&mut fleet.rigs[1], &offers);
    let mut clones = Vec::new();
    for _ in 0..20 {
        fleet.settle();
        clones.extend(fleet.rigs[0].sent(MON));
    }
    assert_eq!(clones, clones_of(&offers));
    assert_eq!(mirrored_and_dropped(&fleet.rigs[1]), [3 + 8, 4]);
}

#[test]
fn not_in_a_ring_in_which_others_would_find_no_room() {
    let mut rig = reader(Spec::default(), &Plan::wire(&[MIRROR]));
    offer_all(&mut rig, &super_frames(20));
    assert_eq!(rig.breathe(), 10, "there is room for ten");
    assert_eq!(rig.breathe(), 0);
    (0..400).for_each(|number| assert!(rig.offer(A, &Offer::of(frame(number, 1400)))));
    assert!(rig.breathe() > 0);
}

/// What never fits is not waited for.
#[test]
fn not_for_what_there_never_is() {
    let mut fleet = readers(Spec { mirror: 40, ..Spec::default() }, 2, &Plan::wire(&[MIRROR]));
    offer_all(&mut fleet.rigs[1], &[super_frame(1, 21 * 1460), super_frame(2, 20 * 1460)]);
    assert_eq!(fleet.rigs[1].breathe(), 2);
    assert_eq!(mirrored_and_dropped(&fleet.rigs[1]), [0, 1]);
}
