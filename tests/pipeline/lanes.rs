//! Clones for monitor queues of another shard.

use proptest::prelude::*;
use shm_layout::counters::{Binding, Entry};
use shm_layout::record::{PortRole, Role};
use spanwire::shard::mailbox::{Command, Output};
use spanwire::xsk::Kick;
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, Fleet, MON, Plan, Spec, frame};

const MIRROR: (u32, u32, u32) = (A, MON, 1);

/// Two shards with a queue each of a wire; the monitor has one queue, which shard 0 owns.
fn two_shards(spec: Spec, plan: &Plan) -> Fleet {
    let mut fleet = Fleet::new(spec, 2);
    for (queue, rig) in fleet.rigs.iter_mut().enumerate() {
        rig.add_queue(A, PortRole::Wire, queue as u32, 2);
        rig.add_queue(B, PortRole::Wire, queue as u32, 2);
    }
    fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
    fleet.swap(plan);
    fleet.settle();
    fleet
}

fn lent(fleet: &Fleet, shard: usize) -> u32 {
    fleet.rigs[shard].shard.census()[1].lent
}

fn ledger(fleet: &Fleet, shard: usize, value: Entry) -> u64 {
    fleet.rigs[shard].ledger(MIRROR)[value as usize]
}

#[test]
fn a_monitor_with_one_queue_gets_the_clones_of_every_shard() {
    let mut fleet = two_shards(Spec::default(), &Plan::wire(&[MIRROR]));
    assert_eq!(lent(&fleet, 0), 32, "half of the Mirror partition");
    assert_eq!(lent(&fleet, 1), 0, "nobody wants frames of a shard without a monitor");
    let mut clones = Vec::new();
    for number in 0..500 {
        for shard in [0, 1] {
            assert!(
                fleet.rigs[shard].port(A).nic.receive(&frame(2 * number + shard as u32, 60 + number as usize % 1400))
            );
        }
        if number % 9 == 0 {
            fleet.settle();
            clones.extend(fleet.rigs[0].sent(MON));
            fleet.rigs.iter_mut().for_each(|rig| drop(rig.sent(B)));
        }
    }
    fleet.settle();
    clones.extend(fleet.rigs[0].sent(MON));
    fleet.settle();
    let number = |clone: &Vec<u8>| u32::from_be_bytes(clone[14..18].try_into().unwrap());
    for shard in [0, 1] {
        let of_shard: Vec<_> = clones.iter().filter(|clone| number(clone) % 2 == shard).cloned().collect();
        let want: Vec<_> = (0..500).map(|n| frame(2 * n + shard, 60 + n as usize % 1400)).collect();
        assert_eq!(of_shard, want, "each flow in order, every byte as it was, none twice");
        assert_eq!(ledger(&fleet, shard as usize, Entry::MirroredPackets), 500);
        assert_eq!(ledger(&fleet, shard as usize, Entry::InFlight), 0);
        let bytes: usize = want.iter().map(Vec::len).sum();
        assert_eq!(ledger(&fleet, shard as usize, Entry::MirroredBytes), bytes as u64);
    }
    assert_eq!(fleet.rigs[0].count(MON, Binding::TxPackets), 1000);
}

#[test]
fn a_clone_is_on_the_way_wherever_it_is() {
    let mut fleet = two_shards(Spec::default(), &Plan::wire(&[MIRROR]));
    let clones = |fleet: &Fleet| -> Vec<u64> { fleet.rigs.iter().map(|rig| rig.block.clones()).collect() };
    for (shard, count) in [(0, 2), (1, 1)] {
        for number in 0..count {
            assert!(fleet.rigs[shard].port(A).nic.receive(&frame(number, 60)));
        }
    }
    fleet.rigs[1].breathe();
    assert_eq!(clones(&fleet), [0, 1]);
    assert_eq!(fleet.rigs[0].shard.census()[1].tx, 0, "it is in the lane, and on no tx ring");
    fleet.rigs[0].breathe();
    assert_eq!(clones(&fleet), [2, 1], "each counts where it was made");
    fleet.swap(&Plan { role: Role::Standby, ..Plan::wire(&[MIRROR]) });
    fleet.settle();
    assert_eq!(clones(&fleet), [2, 1], "a standby's from before");
    assert_eq!(fleet.rigs[0].sent(MON).len(), 3);
    fleet.rigs[0].breathe();
    assert_eq!(clones(&fleet), [0, 1], "its shard has not heard of it");
    fleet.rigs[1].breathe();
    assert_eq!(clones(&fleet), [0, 0]);
}

#[test]
fn loans_go_back_when_nobody_wants_them_any_more() {
    let mut fleet = two_shards(Spec::default(), &Plan::wire(&[MIRROR]));
    assert_eq!(lent(&fleet, 0), 32);
    fleet.swap(&Plan::wire(&[]));
    fleet.settle();
    fleet.settle();
    assert_eq!(lent(&fleet, 0), 0);
    fleet.swap(&Plan::wire(&[MIRROR]));
    fleet.settle();
    fleet.settle();
    assert_eq!(lent(&fleet, 0), 32);
}

#[test]
fn every_reason_on_the_way_to_another_shard() {
    let spec = Spec { mirror: 8, ..Spec::default() };
    let mut fleet = two_shards(spec, &Plan::wire(&[MIRROR]));
    let receive = |fleet: &mut Fleet, count: u32, len: usize| {
        for number in 0..count {
            assert!(fleet.rigs[1].port(A).nic.receive(&frame(number, len)));
        }
        fleet.rigs[1].breathe();
        fleet.rigs[1].sent(B);
    };
    // Four loans, six frames.
    receive(&mut fleet, 6, 60);
    assert_eq!(ledger(&fleet, 1, Entry::DropQueueFullCrossWorker), 2);
    assert_eq!(ledger(&fleet, 1, Entry::DropQueueFull), 2);
    fleet.settle();
    assert_eq!(fleet.rigs[0].sent(MON).len(), 4);
    fleet.settle();
    assert_eq!(ledger(&fleet, 1, Entry::MirroredPackets), 4);

    receive(&mut fleet, 1, 1515);
    receive(&mut fleet, 1, 1519);
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 100, multi_buffer: false }));
    receive(&mut fleet, 1, 119);
    assert_eq!(ledger(&fleet, 1, Entry::DropOversize), 2);
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
    // The owner knows better, and says so with the frame.
    fleet.rigs[0].link(MON, true, 100);
    receive(&mut fleet, 1, 119);
    fleet.settle();
    fleet.settle();
    assert_eq!(ledger(&fleet, 1, Entry::DropOversize), 3);
    fleet.rigs[0].link(MON, false, 1500);
    receive(&mut fleet, 1, 60);
    fleet.settle();
    fleet.settle();
    assert_eq!(ledger(&fleet, 1, Entry::DropOutputDown), 1);

    // In the tx ring of a port that is taken away, and in the lane to it.
    fleet.rigs[0].link(MON, true, 1500);
    fleet.rigs[0].sent(MON);
    fleet.settle();
    receive(&mut fleet, 1, 60);
    fleet.rigs[0].breathe();
    receive(&mut fleet, 1, 60);
    fleet.rigs[0].remove(MON);
    fleet.settle();
    fleet.settle();
    assert_eq!(ledger(&fleet, 1, Entry::DropOutputDown), 3);
    assert_eq!(ledger(&fleet, 1, Entry::InFlight), 0);
    fleet.command_all(|| Command::OutputDown { ifindex: MON });
    receive(&mut fleet, 1, 60);
    assert_eq!(ledger(&fleet, 1, Entry::DropOutputDown), 4);
    // A queue that no shard has, and one that this shard would have but has not.
    fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 2, mtu: 1500, multi_buffer: false }));
    receive(&mut fleet, 1, 60);
    assert_eq!(ledger(&fleet, 1, Entry::DropNoBinding), 1);
}

#[test]
fn a_clone_that_the_device_refused_is_told_to_the_shard_it_is_of() {
    let mut fleet = two_shards(Spec::default(), &Plan::wire(&[MIRROR]));
    for number in 0..3 {
        assert!(fleet.rigs[1].port(A).nic.receive(&frame(number, 60 + 10 * number as usize)));
    }
    fleet.rigs[1].breathe();
    fleet.rigs[0].port(MON).doorbell.script([Kick::Lost]);
    fleet.settle();
    assert_eq!(fleet.rigs[0].sent(MON).len(), 3);
    fleet.settle();
    let of = |value| ledger(&fleet, 1, value);
    assert_eq!([of(Entry::MirroredPackets), of(Entry::MirroredBytes), of(Entry::DropRefused)], [2, 150, 1]);
    assert_eq!(of(Entry::InFlight), 0);
    assert_eq!(
        [Binding::TxPackets, Binding::TxBytes, Binding::TxLost].map(|b| fleet.rigs[0].count(MON, b)),
        [2, 150, 1]
    );
}

#[test]
fn a_shard_that_is_lent_nothing_says_so() {
    let mut fleet = two_shards(Spec { mirror: 1, ..Spec::default() }, &Plan::wire(&[MIRROR]));
    fleet.rigs[1].port(A).nic.receive(&frame(1, 60));
    fleet.settle();
    assert_eq!(ledger(&fleet, 1, Entry::DropNoFrame), 1);
    assert_eq!(fleet.rigs[1].sent(B).len(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Receive { shard: usize, count: u8 },
    Breathe(usize),
    Transmit(u8),
    Complete { count: u8, reversed: bool },
    Withhold(u8),
    TurnUp,
    Forward(usize),
    Answer(Kick),
    Link(bool),
    Replace,
    Swap(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let kick = prop_oneof![Just(Kick::Again), Just(Kick::Lost), Just(Kick::Failed)];
    prop_oneof![
        6 => (0usize..3, 0u8..30).prop_map(|(shard, count)| Op::Receive { shard, count }),
        9 => (0usize..3).prop_map(Op::Breathe),
        4 => (0u8..40).prop_map(Op::Transmit),
        4 => (0u8..40, any::<bool>()).prop_map(|(count, reversed)| Op::Complete { count, reversed }),
        1 => (1u8..10).prop_map(Op::Withhold),
        1 => Just(Op::TurnUp),
        3 => (0usize..3).prop_map(Op::Forward),
        1 => kick.prop_map(Op::Answer),
        1 => any::<bool>().prop_map(Op::Link),
        1 => Just(Op::Replace),
        1 => (0u32..4).prop_map(Op::Swap),
    ]
}

fn drops(fleet: &Fleet, shard: usize, mirror: (u32, u32, u32)) -> u64 {
    let row = fleet.rigs[shard].ledger(mirror);
    Entry::DROPS.iter().map(|&reason| row[reason as usize]).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Three shards, one monitor queue: whatever happens, frames are conserved in every partition, ledgers close, and
    /// what the monitor sends is what was selected, each shard's in order and none twice.
    #[test]
    fn no_history_of_lanes_loses_a_frame(
        mirror in 0u32..70, tx in 2u32..6, ops in prop::collection::vec(op(), 1..200),
    ) {
        let rings = RingSizes { fill: 64, rx: 64, tx: 1 << tx, completion: 64 };
        let spec = Spec { mirror, rings, start: u32::MAX - 30, ..Spec::default() };
        let mut fleet = Fleet::new(spec, 3);
        for (queue, rig) in fleet.rigs.iter_mut().enumerate() {
            rig.add_queue(A, PortRole::Wire, queue as u32, 3);
            rig.add_queue(B, PortRole::Wire, queue as u32, 3);
        }
        fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
        fleet.command_all(|| Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
        let mut rate = 1;
        let of = |rate: u32| (A, MON, rate);
        fleet.swap(&Plan::wire(&[of(rate)]));
        fleet.settle();
        let (mut number, mut sent, mut clones) = (0u32, [0u64; 3], Vec::new());
        for op in ops {
            match op {
                Op::Receive { shard, count } => {
                    for _ in 0..count {
                        number += 3;
                        let packet = frame(number + shard as u32, 60 + number as usize % 900);
                        sent[shard] += u64::from(fleet.rigs[shard].port(A).nic.receive(&packet));
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
                Op::Forward(shard) => drop(fleet.rigs[shard].sent(B)),
                Op::Answer(kick) => fleet.rigs[0].port(MON).doorbell.script([kick]),
                Op::Link(up) => fleet.rigs[0].link(MON, up, 1500),
                Op::Replace => {
                    fleet.rigs[0].remove(MON);
                    fleet.rigs[0].add_queue(MON, PortRole::Monitor, 0, 1);
                }
                // Back to the first rate in the end: a new entry each time, as the one before has gone.
                Op::Swap(next) => {
                    rate = next + 1;
                    fleet.swap(&Plan::wire(&[of(rate)]));
                    for rig in &mut fleet.rigs {
                        rig.breathe();
                    }
                    fleet.reclaim();
                }
            }
            for shard in 0..3 {
                fleet.rigs[shard].check();
                fleet.rigs[shard].ledger(of(rate));
            }
        }
        fleet.rigs[0].link(MON, true, 1500);
        fleet.rigs[0].port(MON).nic.turn_up();
        for _ in 0..100 {
            fleet.settle();
            clones.extend(fleet.rigs[0].sent(MON));
            (0..3).for_each(|shard| drop(fleet.rigs[shard].sent(B)));
        }
        for (shard, sent) in sent.into_iter().enumerate() {
            let row = fleet.rigs[shard].ledger(of(rate));
            prop_assert_eq!(row[Entry::InFlight as usize], 0);
            prop_assert_eq!(
                row[Entry::Selected as usize], row[Entry::MirroredPackets as usize] + drops(&fleet, shard, of(rate)));
            prop_assert_eq!(fleet.rigs[shard].count(A, Binding::RxPackets), sent);
            let numbers: Vec<u32> = clones
                .iter()
                .map(|clone: &Vec<u8>| u32::from_be_bytes(clone[14..18].try_into().unwrap()))
                .filter(|number| *number as usize % 3 == shard)
                .collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice: {numbers:?}");
        }
        for clone in &clones {
            let number = u32::from_be_bytes(clone[14..18].try_into().unwrap());
            prop_assert_eq!(clone, &frame(number, 60 + (number - number % 3) as usize % 900), "byte for byte");
        }
        // All that was lent comes back when it is no longer wanted.
        fleet.swap(&Plan::wire(&[]));
        fleet.settle();
        fleet.settle();
        for rig in &fleet.rigs {
            let [primary, mirror] = rig.shard.census();
            prop_assert_eq!((primary.tx, mirror.tx, mirror.lent), (0, 0, 0));
        }
    }
}
