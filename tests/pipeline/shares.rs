//! Wires that come and go: each has its frames from its first breath to its last, whatever the others do.

use proptest::prelude::*;
use shm_layout::counters::{Binding, Partition};
use shm_layout::record::PortRole;
use spanwire::counters::partition_row;
use spanwire::shard::port::Seat;
use spanwire::xsk::socket::RingSizes;
use spanwire::xsk::umem::Census;

use super::rig::{Plan, Rig, Spec, frame};

/// Wires there can be at once.
const WIRES: u32 = 6;
/// Frames of each queue of a wire.
const SHARE: u32 = 64;

fn spec() -> Spec {
    let rings = RingSizes { fill: 128, rx: 64, tx: 64, completion: 128 };
    Spec { primary: 0, mirror: 0, rings, ..Spec::default() }
}

fn ends(wire: u32) -> [u32; 2] {
    [10 * (wire + 1) + 1, 10 * (wire + 1) + 2]
}

/// A wire with so many queues at its first port, and one at the other.
fn lay(rig: &mut Rig, wire: u32, queues: u32) {
    let at = wire as usize + 1;
    rig.lay(at, (queues + 1) * SHARE);
    let [a, b] = ends(wire);
    for queue in 0..queues {
        rig.add_with(a, PortRole::Wire, (queue, 1), Some(Seat { store: at, share: SHARE, shared: queues > 1 }));
    }
    rig.add_with(b, PortRole::Wire, (0, 1), Some(Seat { store: at, share: SHARE, shared: false }));
}

fn take_away(rig: &mut Rig, wire: u32) {
    for end in ends(wire) {
        while rig.ports.iter().any(|port| port.ifindex == end) {
            rig.remove(end);
        }
    }
    rig.lift(wire as usize + 1);
}

#[derive(Clone, Debug)]
enum Op {
    Come { wire: u32, queues: u32 },
    Go(u32),
    Receive { port: usize, count: u8 },
    Transmit { port: usize, count: u8 },
    Complete { port: usize, count: u8 },
    Withhold { port: usize, count: u8 },
    Link { port: usize, up: bool },
    Breathe,
}

fn op() -> impl Strategy<Value = Op> {
    let port = 0usize..20;
    prop_oneof![
        3 => (0..WIRES, 1u32..4).prop_map(|(wire, queues)| Op::Come { wire, queues }),
        2 => (0..WIRES).prop_map(Op::Go),
        6 => (port.clone(), 0u8..100).prop_map(|(port, count)| Op::Receive { port, count }),
        3 => (port.clone(), 0u8..80).prop_map(|(port, count)| Op::Transmit { port, count }),
        3 => (port.clone(), 0u8..80).prop_map(|(port, count)| Op::Complete { port, count }),
        1 => (port.clone(), 1u8..40).prop_map(|(port, count)| Op::Withhold { port, count }),
        1 => (port, any::<bool>()).prop_map(|(port, up)| Op::Link { port, up }),
        6 => Just(Op::Breathe),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A port that is up has frames to receive into after every breath: a quarter of its share at least, and all of it
    /// where nothing is on its way out. What cannot be received is only ever for want of its own.
    #[test]
    fn no_wire_can_starve_another(ops in prop::collection::vec(op(), 1..120)) {
        let plan = Plan { wires: (0..WIRES).map(|wire| ends(wire).into()).collect(), ..Plan::default() };
        let mut rig = Rig::empty(spec());
        rig.swap(&plan);
        let mut there = [0; WIRES as usize];
        let mut number = 0;
        for op in ops {
            let count = rig.ports.len();
            let any = |port: usize| (count > 0).then(|| port % count);
            match op {
                Op::Come { wire, queues } if there[wire as usize] == 0 => {
                    lay(&mut rig, wire, queues);
                    there[wire as usize] = queues;
                }
                Op::Go(wire) if there[wire as usize] > 0 => {
                    take_away(&mut rig, wire);
                    there[wire as usize] = 0;
                }
                Op::Receive { port, count } => if let Some(at) = any(port) {
                    for _ in 0..count {
                        number += 1;
                        rig.ports[at].nic.receive(&frame(number, 60));
                    }
                },
                Op::Transmit { port, count } => if let Some(at) = any(port) {
                    rig.ports[at].nic.transmit(usize::from(count));
                },
                Op::Complete { port, count } => if let Some(at) = any(port) {
                    rig.ports[at].nic.complete(usize::from(count));
                },
                Op::Withhold { port, count } => if let Some(at) = any(port) {
                    rig.ports[at].nic.withhold(usize::from(count));
                },
                Op::Link { port, up } => if let Some(at) = any(port) {
                    let ifindex = rig.ports[at].ifindex;
                    rig.link(ifindex, up, 1500);
                },
                _ => {}
            }
            // Until everything received has been taken: a breath takes a batch of a port.
            while rig.breathe() > 0 {}
            check_gauges(&rig);
            for wire in 0..WIRES {
                for (end, far) in ends(wire).into_iter().zip(ends(wire).into_iter().rev()) {
                    let is_up = |rig: &Rig, ifindex| rig.shard.ports().iter().any(|p| p.ifindex == ifindex && p.up);
                    if !is_up(&rig, end) {
                        continue;
                    }
                    let on_the_way: u32 = rig.ports.iter_mut().filter(|port| port.ifindex == far)
                        .map(|port| port.nic.tx_waiting() + port.nic.owed() as u32).sum();
                    for port in rig.ports.iter_mut().filter(|port| port.ifindex == end) {
                        let has = port.nic.fill_waiting();
                        prop_assert!(has >= SHARE / 4, "port {end} of wire {wire} has {has}");
                        let alone = there[wire as usize] == 1 || end == ends(wire)[1];
                        if alone && on_the_way == 0 {
                            prop_assert_eq!(has, SHARE, "port {} of wire {}", end, wire);
                        }
                    }
                }
            }
        }
        for wire in (0..WIRES).filter(|&wire| there[wire as usize] > 0) {
            take_away(&mut rig, wire);
        }
        let [primary, _] = rig.shard.census();
        prop_assert_eq!(primary.size, 0);
    }
}

/// What statistics tell of the frames of all wires is so once the shard rests.
fn check_gauges(rig: &Rig) {
    let gauges = rig.block.partition(0);
    let Census { size, in_hand, fill_rx, tx, quarantined, lent } = rig.shard.census()[0];
    assert_eq!(gauges, partition_row([size, in_hand, fill_rx, tx, quarantined, lent]));
}

/// Of many wires with much on its way an audit takes several breaths, and finds all of it in the end.
#[test]
fn an_audit_of_many_wires_is_spread_over_breaths() {
    const MANY: u32 = 40;
    const LARGE: u32 = 4096;
    let mut rig = Rig::empty(spec());
    rig.swap(&Plan { wires: (0..MANY).map(|wire| ends(wire).into()).collect(), ..Plan::default() });
    for wire in 0..MANY {
        rig.lay(wire as usize + 1, LARGE);
        let [a, b] = ends(wire);
        for end in [a, b] {
            let seat = Seat { store: wire as usize + 1, share: SHARE, shared: false };
            rig.add_with(end, PortRole::Wire, (0, 1), Some(seat));
        }
        rig.port(a).nic.receive(&frame(wire, 60));
        rig.breathe();
        // The kernel has it, and never gives it back.
        assert_eq!(rig.port(b).nic.transmit(usize::MAX).len(), 1);
    }
    let overdue = |rig: &Rig| rig.block.partition(0)[Partition::Quarantined as usize];
    rig.audit(7);
    assert!(overdue(&rig) < u64::from(MANY), "all at once");
    let mut breaths = 1;
    while overdue(&rig) < u64::from(MANY) {
        rig.breathe();
        breaths += 1;
        assert!(breaths <= 7 * MANY * LARGE / 4096, "{} of {MANY} found", overdue(&rig));
    }
    check_gauges(&rig);
}

/// As many wires as a shard has places for, every one idle but the last.
#[test]
fn the_last_of_many_wires_takes_a_burst_at_once() {
    const MANY: u32 = 200;
    let mut rig = Rig::empty(spec());
    rig.swap(&Plan { wires: (0..MANY).map(|wire| ends(wire).into()).collect(), ..Plan::default() });
    for wire in 0..MANY {
        lay(&mut rig, wire, 1);
    }
    for wire in [0, MANY / 2, MANY - 1] {
        let [a, b] = ends(wire);
        let burst: Vec<_> = (0..SHARE).map(|number| frame(number, 60)).collect();
        for packet in &burst[..(SHARE * 3 / 4) as usize] {
            assert!(rig.port(a).nic.receive(packet), "wire {wire}");
        }
        rig.breathe();
        assert_eq!(rig.sent(b), burst[..(SHARE * 3 / 4) as usize]);
        rig.breathe();
        assert_eq!(rig.count(a, Binding::RxNoPeer), 0);
    }
}
