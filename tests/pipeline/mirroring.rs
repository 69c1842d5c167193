//! Samplers, VLAN entries, drop reasons.

use shm_layout::counters::Entry;
use shm_layout::record::{PortRole, Role};
use spanwire::shard::mailbox::{Command, Output};
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, MON, Plan, Rig, Spec, frame, tagged};

/// Lets everything through that has been received; the clones.
fn drained(rig: &mut Rig) -> Vec<Vec<u8>> {
    let mut clones = Vec::new();
    while rig.breathe() > 0 {
        rig.sent(B);
        clones.extend(rig.sent(MON));
    }
    clones
}

/// Sends `count` frames through A in uneven steps; returns the numbers of those cloned.
fn cloned(rig: &mut Rig, from: u32, count: u32) -> Vec<u32> {
    let mut clones = Vec::new();
    for number in from..from + count {
        assert!(rig.port(A).nic.receive(&frame(number, 60)));
        if number % 11 == 3 || number % 7 == 0 {
            rig.breathe();
            rig.sent(B);
            clones.extend(rig.sent(MON));
        }
    }
    clones.extend(drained(rig));
    clones.iter().map(|c| u32::from_be_bytes(c[14..18].try_into().unwrap())).collect()
}

#[test]
fn one_in_n_is_exact() {
    for rate in [0, 1, 2, 3, 7, 64, 1000, 1 << 31, u32::MAX] {
        let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, rate)]));
        let want: Vec<u32> = (0..3000).filter(|n| n % rate.max(1) == 0).collect();
        assert_eq!(cloned(&mut rig, 0, 3000), want, "rate {rate}");
        let row = rig.ledger((A, MON, rate));
        assert_eq!(row[Entry::MirroredPackets as usize], want.len() as u64);
    }
}

#[test]
fn the_phase_survives_swaps_that_leave_the_entry_alone() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 7)]));
    let mut clones = Vec::new();
    for swap in 0..1000u32 {
        clones.extend(cloned(&mut rig, swap * 5, 5));
        // Another entry comes, changes and goes.
        let other: &[_] = if swap % 3 == 0 { &[] } else { &[(B, MON, swap)] };
        rig.swap(&Plan::wire(&[&[(A, MON, 7)], other].concat()));
    }
    assert_eq!(clones, (0..5000).filter(|n| n % 7 == 0).collect::<Vec<_>>());
    assert_eq!(rig.ledger((A, MON, 7))[Entry::Observed as usize], 5000);
}

#[test]
fn a_changed_entry_starts_afresh_and_its_clones_in_flight_are_not_counted_twice() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    for number in 0..10 {
        rig.port(A).nic.receive(&frame(number, 60));
    }
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 1))[Entry::InFlight as usize], 10);
    rig.swap(&Plan::wire(&[(A, MON, 2)]));
    assert_eq!(rig.ledger((A, MON, 2)), [0; 14]);
    assert_eq!(rig.sent(MON).len(), 10);
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 2)), [0; 14], "they belong to the entry that is gone");
    rig.swap(&Plan::wire(&[(A, MON, 1)]));
    assert_eq!(rig.ledger((A, MON, 1)), [0; 14], "a new entry, whatever it once was");
}

#[test]
fn a_standby_forwards_and_observes_nothing() {
    let mut plan = Plan::wire(&[(A, MON, 1)]);
    plan.role = Role::Standby;
    let mut rig = Rig::new(Spec::default(), &plan);
    assert_eq!(cloned(&mut rig, 0, 100), [0u32; 0]);
    assert_eq!(rig.ledger((A, MON, 1)), [0; 14]);
    plan.role = Role::Active;
    rig.swap(&plan);
    assert_eq!(cloned(&mut rig, 0, 3), [0, 1, 2]);
}

/// The sampler's phase and the counts end with the standby; the clones queued before it leave, and count where they
/// were made.
#[test]
fn a_node_that_takes_over_again_begins_afresh() {
    let mut plan = Plan::wire(&[(A, MON, 3)]);
    let mut rig = Rig::new(Spec::default(), &plan);
    for number in 0..4 {
        rig.port(A).nic.receive(&frame(number, 60));
    }
    rig.breathe();
    let row = rig.ledger((A, MON, 3));
    assert_eq!((row[Entry::Observed as usize], row[Entry::InFlight as usize]), (4, 2), "0 and 3 are on the way");

    plan.role = Role::Standby;
    rig.swap(&plan);
    for number in 4..9 {
        rig.port(A).nic.receive(&frame(number, 60));
    }
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 3))[Entry::Observed as usize], 4, "a standby observes nothing");
    // Taken over again while the first clones are still on the way.
    plan.role = Role::Active;
    rig.swap(&plan);
    assert_eq!(rig.ledger((A, MON, 3)), [0; 14]);
    assert_eq!(rig.sent(MON).len(), 2, "what was queued before, and nothing since");
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 3)), [0; 14], "they belong to the ledger they were counted in");
    assert_eq!(cloned(&mut rig, 0, 7), [0, 3, 6], "in phase with the first frame");

    // A new table under the same role goes on.
    rig.swap(&plan);
    assert_eq!(rig.ledger((A, MON, 3))[Entry::Observed as usize], 7);
    assert_eq!(cloned(&mut rig, 7, 5), [9]);
}

#[test]
fn vlan_entries_sample_apart_and_the_port_takes_the_rest() {
    let (v10, v20) = (1 << 30, (1 << 30) + 1);
    let plan =
        Plan { vlans: vec![(v10, A, 10), (v20, A, 20)], ..Plan::wire(&[(v10, MON, 2), (A, MON, 5), (v20, MON, 3)]) };
    let mut rig = Rig::new(Spec::default(), &plan);
    let kinds: [(u32, u16, u16); 4] = [(0, 0x8100, 10), (1, 0x88a8, 20), (2, 0x8100, 30), (3, 0, 0)];
    let (mut counts, mut want) = ([0u32; 3], Vec::new());
    let mut clones = Vec::new();
    for number in 0..600u32 {
        let (kind, tpid, vlan) = kinds[(number as usize * 7 / 3) % 4];
        let packet = if tpid == 0 { frame(number, 80) } else { tagged(number, 80, tpid, vlan | 0xe000) };
        // Two of the kinds fall back to the port's own entry.
        let entry = kind.min(2) as usize;
        let rate = [2, 3, 5][entry];
        if counts[entry].is_multiple_of(rate) {
            want.push(packet.clone());
        }
        counts[entry] += 1;
        assert!(rig.port(A).nic.receive(&packet));
        if number % 9 == 0 {
            rig.breathe();
            rig.sent(B);
            clones.extend(rig.sent(MON));
        }
    }
    clones.extend(drained(&mut rig));
    assert_eq!(clones, want);
    for (mirror, count) in [((v10, MON, 2), counts[0]), ((v20, MON, 3), counts[1]), ((A, MON, 5), counts[2])] {
        assert_eq!(rig.ledger(mirror)[Entry::Observed as usize], u64::from(count));
    }
}

#[test]
fn every_drop_reason_is_reached_and_closes_the_ledger() {
    let drops = |rig: &Rig, reason: Entry| rig.ledger((A, MON, 1))[reason as usize];
    let plan = Plan::wire(&[(A, MON, 1)]);

    // The Mirror partition is smaller than the ring.
    let mut rig = Rig::new(Spec { mirror: 4, ..Spec::default() }, &Plan::wire(&[(A, MON, 1), (B, 23, 1)]));
    rig.add(23, PortRole::Monitor);
    for number in 0..3 {
        rig.port(A).nic.receive(&frame(number, 60));
        rig.port(B).nic.receive(&frame(number, 60));
    }
    rig.breathe();
    // Two monitors: none may hold more than half.
    assert_eq!(drops(&rig, Entry::DropQueueFullSameWorker), 1);
    assert_eq!(drops(&rig, Entry::DropQueueFull), 1);
    let mut rig = Rig::new(Spec { mirror: 3, ..Spec::default() }, &Plan::wire(&[(A, MON, 1), (B, 23, 1)]));
    rig.add(23, PortRole::Monitor);
    rig.add(24, PortRole::Monitor);
    rig.swap(&Plan { wires: vec![(A, B), (13, 14)], ..Plan::wire(&[(A, MON, 1), (B, 23, 1), (13, 24, 1)]) });
    rig.add(13, PortRole::Wire);
    for ifindex in [13, B, A] {
        rig.port(ifindex).nic.receive(&frame(1, 60));
        rig.breathe();
    }
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropQueueFull), 1);
    let mut rig = Rig::new(Spec { mirror: 0, ..Spec::default() }, &plan);
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropNoFrame), 1);

    // A tx ring smaller than the partition.
    let rings = RingSizes { fill: 64, rx: 64, tx: 8, completion: 64 };
    let mut rig = Rig::new(Spec { rings, ..Spec::default() }, &plan);
    for number in 0..10 {
        rig.port(A).nic.receive(&frame(number, 60));
    }
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropQueueFullSameWorker), 2);
    assert_eq!(drops(&rig, Entry::DropQueueFull), 2);

    let mut rig = Rig::new(Spec::default(), &plan);
    rig.link(MON, true, 100);
    for len in [118, 119] {
        rig.port(A).nic.receive(&frame(len, len as usize));
    }
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropOversize), 1);
    rig.link(MON, false, 1500);
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropOutputDown), 1);
    rig.link(MON, true, 1500);
    rig.port(A).nic.receive(&[]);
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropTxInvalid), 1);

    // The monitor is up, but none of its queues is served here.
    rig.remove(MON);
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    // One clone was in flight to the port that went.
    assert_eq!(drops(&rig, Entry::DropOutputDown), 3);
    rig.command(Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500 }));
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropNoBinding), 1);
    // Queue 1 of two does not serve queue 0; the only queue serves all.
    rig.add_queue(MON, PortRole::Monitor, 1, 2);
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropNoBinding), 2);
    rig.add_queue(MON, PortRole::Monitor, 0, 2);
    rig.port(A).nic.receive(&frame(1, 60));
    rig.breathe();
    assert_eq!(drops(&rig, Entry::DropNoBinding), 2);
    assert_eq!(rig.ledger((A, MON, 1))[Entry::InFlight as usize], 1);
}

#[test]
fn a_table_of_65536_entries_is_adopted_and_works() {
    // Sixteen wires with 4094 VLANs each is what one table may look like.
    let mut plan = Plan { wires: vec![(A, B)], ..Plan::default() };
    for wire in 0..16u32 {
        let port = if wire == 0 { A } else { 100 + 2 * wire };
        if wire > 0 {
            plan.wires.push((port, port + 1));
        }
        for vlan in 1..=4094u16 {
            let ifindex = (1 << 30) + wire * 4096 + u32::from(vlan);
            plan.vlans.push((ifindex, port, vlan));
            plan.mirrors.push((ifindex, MON, 1 + u32::from(vlan) % 5));
        }
        plan.mirrors.push((port, MON, 0));
    }
    for spare in 0..16 {
        plan.mirrors.push((50_000 + spare, MON, 0));
    }
    assert!(plan.mirrors.len() > 65_500, "{}", plan.mirrors.len());
    let mut rig = Rig::new(Spec::default(), &plan);
    for vlan in [1u16, 2000, 4094] {
        rig.port(A).nic.receive(&tagged(1, 100, 0x8100, vlan));
        rig.breathe();
        assert_eq!(rig.sent(MON), [tagged(1, 100, 0x8100, vlan)]);
    }
    // A second full table fits beside the first.
    for mirror in &mut plan.mirrors {
        mirror.2 += 10;
    }
    rig.swap(&plan);
    rig.port(A).nic.receive(&tagged(1, 100, 0x8100, 7));
    rig.breathe();
    assert_eq!(rig.sent(MON).len(), 1);
}
