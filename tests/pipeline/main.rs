//! The whole shard loop on kernel-free rings: no privilege, every step checked.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod clones;
mod handoff;
mod histories;
mod lanes;
mod long_clones;
mod mirroring;
mod publication;
mod rig;
mod selector;
mod shares;
mod soak;
mod waiting;

use std::sync::Arc;

use rig::{A, B, MON, Plan, Rig, Spec, frame};
use shm_layout::counters::{Binding, Entry};
use shm_layout::record::PortRole;
use spanwire::xsk::Kick;
use spanwire::xsk::abi::Desc;

const MIRROR: (u32, u32, u32) = (A, MON, 7);

#[test]
fn frames_cross_both_ways_and_one_in_seven_is_cloned() {
    let mut rig = Rig::new(Spec { start: u32::MAX - 20, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    let (mut sent, mut got) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut clones = Vec::new();
    for number in 0..1000u32 {
        for (way, ifindex) in [A, B].into_iter().enumerate() {
            let packet = frame(number * 2 + way as u32, 60 + (number as usize * 13) % 1455);
            assert!(rig.port(ifindex).nic.receive(&packet));
            sent[way].push(packet);
        }
        if number % 5 == 0 {
            rig.breathe();
            got[0].extend(rig.sent(B));
            got[1].extend(rig.sent(A));
            clones.extend(rig.sent(MON));
        }
    }
    while rig.breathe() > 0 {
        got[0].extend(rig.sent(B));
        got[1].extend(rig.sent(A));
        clones.extend(rig.sent(MON));
    }
    assert_eq!(got, sent);
    let selected: Vec<_> = sent[0].iter().step_by(7).cloned().collect();
    assert_eq!(clones, selected);
    let row = rig.ledger(MIRROR);
    let at = |e: Entry| row[e as usize];
    assert_eq!((at(Entry::Observed), at(Entry::Selected), at(Entry::InFlight)), (1000, 143, 0));
    assert_eq!(at(Entry::MirroredPackets), 143);
    assert_eq!(at(Entry::MirroredBytes), selected.iter().map(|p| p.len() as u64).sum::<u64>());
    assert_eq!(rig.count(A, Binding::RxPackets), 1000);
    assert_eq!(rig.count(B, Binding::TxPackets), 1000);
    assert_eq!(rig.count(MON, Binding::TxPackets), 143);
}

#[test]
fn the_wire_is_sent_before_any_monitor_whatever_order_ports_came_in() {
    const LATE: u32 = 10;
    let plan = Plan { wires: vec![(A, B), (14, 15)], mirrors: vec![(A, MON, 1), (14, LATE, 1)], ..Plan::default() };
    let spec = Spec { primary: 512, ..Spec::default() };
    for order in [[MON, LATE, A, B, 14, 15], [A, MON, 14, LATE, 15, B], [15, 14, B, A, LATE, MON]] {
        let mut rig = Rig::empty(spec);
        for ifindex in order {
            rig.add(ifindex, if [MON, LATE].contains(&ifindex) { PortRole::Monitor } else { PortRole::Wire });
        }
        rig.swap(&plan);
        let check = |rig: &mut Rig, number: u32| {
            for ifindex in [A, B, 14, 15] {
                assert!(rig.port(ifindex).nic.receive(&frame(number + ifindex, 60)));
            }
            rig.kicked.lock().unwrap().clear();
            rig.breathe();
            let kicked = std::mem::take(&mut *rig.kicked.lock().unwrap());
            let (wires, monitors) = kicked.split_at(4);
            assert!(wires.iter().all(|port| [A, B, 14, 15].contains(port)), "{order:?}: {kicked:?}");
            assert_eq!(monitors.len(), 2, "{order:?}: {kicked:?}");
            for ifindex in order {
                rig.sent(ifindex);
            }
            rig.breathe();
        };
        check(&mut rig, 0);
        // One that comes back is the last to have come.
        for (ifindex, role) in [(A, PortRole::Wire), (MON, PortRole::Monitor), (14, PortRole::Wire)] {
            rig.remove(ifindex);
            rig.add(ifindex, role);
            rig.breathe();
            check(&mut rig, 100 * ifindex);
        }
    }
}

#[test]
fn a_stalled_monitor_costs_the_primary_nothing() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    let mut crossed = 0;
    for number in 0..2000u32 {
        assert!(rig.port(A).nic.receive(&frame(number, 100)));
        rig.breathe();
        crossed += rig.sent(B).len();
        // The monitor transmits nothing.
    }
    rig.breathe();
    assert_eq!(crossed, 2000);
    let row = rig.ledger((A, MON, 1));
    assert_eq!(row[Entry::Observed as usize], 2000);
    assert_eq!(row[Entry::InFlight as usize], 64, "all that the Mirror partition has");
    assert_eq!(row[Entry::DropQueueFull as usize], 2000 - 64);
    // When it comes back, mirroring resumes by itself.
    assert_eq!(rig.sent(MON).len(), 64);
    rig.breathe();
    assert!(rig.port(A).nic.receive(&frame(1, 100)));
    rig.breathe();
    assert_eq!(rig.sent(MON), [frame(1, 100)]);
}

#[test]
fn a_wire_port_that_is_down_drops_and_counts() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    rig.link(B, false, 1500);
    assert!(rig.port(A).nic.receive(&frame(1, 60)));
    assert!(rig.port(B).nic.receive(&frame(2, 60)));
    rig.breathe();
    assert_eq!(rig.count(A, Binding::RxNoPeer), 1);
    assert_eq!(rig.sent(A), [frame(2, 60)], "the other direction goes on");
    rig.link(B, true, 1500);
    assert!(rig.port(A).nic.receive(&frame(3, 60)));
    rig.breathe();
    assert_eq!(rig.sent(B), [frame(3, 60)]);
}

#[test]
fn forwarded_frames_in_the_ring_of_a_port_that_leaves_are_lost() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    let block = Arc::clone(&rig.port(B).block);
    let count = |value: Binding| block.read()[value as usize];
    for (sent, frames) in [(true, 5), (false, 7)] {
        (0..frames).for_each(|number| assert!(rig.port(A).nic.receive(&frame(number, 60))));
        rig.breathe();
        if sent {
            assert_eq!(rig.sent(B).len(), 5);
        }
    }
    assert_eq!(count(Binding::Outstanding), 7);
    // One of them the device has refused, which counted then.
    rig.port(B).doorbell.script([Kick::Lost]);
    rig.breathe();
    rig.remove(B);
    assert_eq!([Binding::TxPackets, Binding::TxLost, Binding::Outstanding].map(count), [5, 7, 0]);
    rig.check();
}

#[test]
fn a_port_that_is_down_has_nobody_wait_for_its_completions() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    assert!(rig.port(A).nic.receive(&frame(1, 60)));
    rig.breathe();
    assert!(rig.shard.is_transmitting());
    rig.link(B, false, 1500);
    assert!(!rig.shard.is_transmitting());
    rig.link(B, true, 1500);
    assert!(rig.shard.is_transmitting());
}

#[test]
fn a_frame_larger_than_the_peers_mtu_is_counted() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    rig.link(B, true, 1000);
    for len in [1022, 1023] {
        assert!(rig.port(A).nic.receive(&frame(len, len as usize)));
    }
    rig.breathe();
    assert_eq!(rig.sent(B), [frame(1022, 1022)]);
    assert_eq!(rig.count(A, Binding::RxOversize), 1);
    assert_eq!(rig.sent(MON).len(), 2, "the monitor takes what it can");
}

#[test]
fn a_full_tx_ring_drops_the_newest_and_counts() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    for number in 0..100u32 {
        rig.port(A).nic.receive(&frame(number, 60));
        rig.breathe();
    }
    assert_eq!(rig.count(B, Binding::TxQueueFull), 100 - 64);
    let numbers: Vec<_> = (0..64).map(|n| frame(n, 60)).collect();
    assert_eq!(rig.sent(B), numbers);
}

#[test]
fn kicks_follow_the_kernels_answers() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    rig.port(B).doorbell.script([Kick::Again, Kick::Lost, Kick::Failed]);
    rig.port(A).nic.receive(&frame(1, 60));
    for _ in 0..4 {
        rig.breathe();
    }
    // Pending until the kernel takes the frame, whatever it answered.
    assert_eq!(rig.port(B).doorbell.kicks(), 4);
    assert_eq!(rig.sent(B).len(), 1);
    rig.breathe();
    rig.breathe();
    assert_eq!(rig.port(B).doorbell.kicks(), 4, "nothing left to kick for");
    assert_eq!(rig.count(B, Binding::KicksAgain), 1);
    assert_eq!(rig.count(B, Binding::KicksFailed), 1);
    assert_eq!((rig.count(B, Binding::TxLost), rig.count(B, Binding::TxPackets)), (1, 0), "the loss completes");
}

#[test]
fn the_frames_of_many_sockets_come_back_in_one_breath() {
    let mut rig = Rig::empty(Spec { primary: 256, mirror: 64, seats: 100, ..Spec::default() });
    for queue in 0..40 {
        rig.add_queue(A, PortRole::Wire, queue, 40);
        rig.add_queue(B, PortRole::Wire, queue, 40);
    }
    rig.add(MON, PortRole::Monitor);
    rig.swap(&Plan::wire(&[(A, MON, 1)]));
    assert!(rig.port(A).nic.receive(&frame(1, 60)));
    rig.breathe();
    let [primary, mirror] = rig.shard.census();
    assert!(primary.fill_rx > 0 && primary.tx == 1 && mirror.tx == 1, "{primary:?} {mirror:?}");
    rig.remove_all();
    let [primary, mirror] = rig.shard.census();
    assert_eq!((primary.in_hand, mirror.in_hand), (256, 64), "{primary:?} {mirror:?}");
    let row = rig.ledger((A, MON, 1));
    assert_eq!((row[Entry::InFlight as usize], row[Entry::DropOutputDown as usize]), (0, 1));
}

#[test]
fn a_driver_that_finds_its_fill_ring_dry_is_told_of_frames_whenever_it_asks() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[]));
    rig.bound(A, true, 1500, true);
    let wakes = |rig: &mut Rig| rig.port(A).doorbell.wakes();
    rig.breathe();
    assert_eq!(wakes(&mut rig), 0, "it has not asked");
    // It looked before the ring was filled, and asks after: nothing is filled any more.
    rig.port(A).nic.ask_for_fill(true);
    rig.breathe();
    assert_eq!(wakes(&mut rig), 1);
    rig.port(A).nic.ask_for_fill(false);
    rig.breathe();
    assert_eq!(wakes(&mut rig), 1);
    // There is nothing to tell of in a ring without frames, nor to a port that is down or copies.
    rig.port(A).nic.ask_for_fill(true);
    rig.bound(A, false, 1500, true);
    rig.breathe();
    rig.bound(A, true, 1500, false);
    rig.breathe();
    assert_eq!(wakes(&mut rig), 1);
    rig.bound(A, true, 1500, true);
    assert!(wakes(&mut rig) > 1);
    rig.port(A).nic.starve(usize::MAX);
    let before = wakes(&mut rig);
    rig.breathe();
    assert_eq!(wakes(&mut rig), before);
}

#[test]
fn a_monitor_by_which_nothing_moves_is_kicked_ever_less_often() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    // Breaths with a frame on the wire, after which the monitor has been kicked.
    let kicked = |rig: &mut Rig, breaths: u32| -> Vec<u32> {
        let busy = |rig: &mut Rig, breath| {
            let before = rig.port(MON).doorbell.kicks();
            rig.port(A).nic.receive(&frame(breath, 60));
            rig.breathe();
            rig.sent(B);
            rig.port(MON).doorbell.kicks() > before
        };
        (1..=breaths).filter(|&breath| busy(rig, breath)).collect()
    };
    assert_eq!(kicked(&mut rig, 130), [1, 2, 4, 8, 16, 32, 64, 96, 128]);
    // One that the kernel takes frames of, or completes some of, is kicked in each breath.
    for breath in 0..10 {
        rig.port(MON).nic.transmit(1);
        assert_eq!(kicked(&mut rig, 1), [1], "breath {breath}");
    }
    for breath in 0..10 {
        assert_eq!(rig.port(MON).nic.complete(1), 1);
        assert_eq!(kicked(&mut rig, 1), [1], "breath {breath}");
    }
    // A wire port is never given a rest.
    let before = rig.port(B).doorbell.kicks();
    for number in 0..40 {
        rig.port(A).nic.receive(&frame(number, 60));
        rig.breathe();
    }
    assert_eq!(rig.port(B).doorbell.kicks(), before + 40);
}

#[test]
fn what_a_broken_kernel_says_is_counted_and_ignored() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    let forged = [(0, 60), (255 * 2048, 60), (u64::MAX, 60), (256 * 2048, 60), (64, 2000)];
    for (addr, len) in forged {
        assert!(rig.port(A).nic.forge_rx(Desc { addr, len, options: 0 }));
    }
    rig.shard.breathe();
    assert!(rig.shard.conserves_frames());
    let invalid = rig.count(A, Binding::RxInvalid);
    assert!(invalid >= 4, "{invalid}");
    for addr in [0, 64 * 2048, u64::MAX] {
        assert!(rig.port(B).nic.forge_completion(addr));
    }
    rig.shard.breathe();
    assert!(rig.shard.conserves_frames());
    rig.port(A).nic.receive(&frame(1, 60));
    rig.shard.breathe();
    rig.sent(B);
    rig.shard.breathe();
    assert!(rig.shard.conserves_frames());
}

#[test]
fn a_starved_fill_ring_recovers() {
    // 32 frames for each direction, of which at most 24 are on their way out.
    let mut rig = Rig::new(Spec { primary: 64, ..Spec::default() }, &Plan::wire(&[]));
    for round in 0..50u32 {
        let received = (0..40).filter(|n| rig.port(A).nic.receive(&frame(round * 100 + n, 60))).count();
        assert_eq!(received, 32);
        rig.breathe();
        // None of them is back yet, and what was dropped for the full tx ring is there to receive into.
        assert_eq!(rig.port(A).nic.fill_waiting(), 8);
        assert_eq!(rig.sent(B).len(), 24);
        rig.breathe();
    }
    assert_eq!(rig.count(B, Binding::TxPackets), 50 * 24);
}

#[test]
fn ports_come_and_go_without_a_frame_lost() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    for round in 0..20u32 {
        for number in 0..10 {
            rig.port(A).nic.receive(&frame(round * 100 + number, 200));
        }
        rig.breathe();
        // The monitor goes with ten clones in its hands, and its frames come back.
        rig.remove(MON);
        rig.check();
        let row = rig.ledger((A, MON, 1));
        assert_eq!(row[Entry::InFlight as usize], 0);
        rig.port(A).nic.receive(&frame(round, 60));
        rig.breathe();
        assert_eq!(rig.sent(B).len(), 11);
        rig.add(MON, PortRole::Monitor);
    }
    let row = rig.ledger((A, MON, 1));
    assert_eq!(row[Entry::Observed as usize], 220);
    assert_eq!(row[Entry::DropOutputDown as usize], 220);
    rig.remove(B);
    rig.remove(A);
    rig.check();
    let [primary, mirror] = rig.shard.census();
    assert_eq!((primary.in_hand, mirror.in_hand), (256, 64));
}

#[test]
fn two_wires_do_not_mix() {
    let (c, d) = (13, 14);
    let mut plan = Plan::wire(&[(A, MON, 1), (c, MON, 2)]);
    plan.wires.push((c, d));
    let mut rig = Rig::new(Spec { seats: 4, ..Spec::default() }, &plan);
    rig.add(c, PortRole::Wire);
    rig.add(d, PortRole::Wire);
    for number in 0..20u32 {
        rig.port(A).nic.receive(&frame(number, 60));
        rig.port(c).nic.receive(&frame(1000 + number, 60));
    }
    rig.breathe();
    assert_eq!(rig.sent(B), (0..20).map(|n| frame(n, 60)).collect::<Vec<_>>());
    assert_eq!(rig.sent(d), (1000..1020).map(|n| frame(n, 60)).collect::<Vec<_>>());
    assert_eq!(rig.sent(MON).len(), 30);
}
