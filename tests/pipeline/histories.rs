//! Random histories with faults: after every step all frames are accounted for, the ledger closes, and what
//! came out is what an oracle says.

use std::collections::VecDeque;

use proptest::prelude::*;
use shm_layout::counters::{Binding, Entry, LEDGER_VALUES};
use spanwire::shard::complete::OVERDUE_ROUNDS;
use spanwire::shard::rx::BATCH;
use spanwire::xsk::Kick;
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, MON, Plan, Rig, Spec, frame};

/// Rounds of audits after which whatever is missing is in quarantine.
const OVERDUE: u32 = OVERDUE_ROUNDS as u32 + 2;

#[derive(Clone, Debug)]
enum Op {
    Receive { from: u32, count: u8 },
    Breathe,
    Transmit { on: u32, count: u8 },
    Complete { on: u32, count: u8, reversed: bool },
    Withhold { on: u32, count: u8 },
    TurnUp(u32),
    Starve { on: u32, count: u8 },
    Feed(u32),
    Audit(u32),
    Answer { on: u32, kick: Kick },
    MonitorLink(bool),
    Swap(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let wire = prop_oneof![Just(A), Just(B)];
    let any_port = prop_oneof![Just(A), Just(B), Just(MON)];
    let kick = prop_oneof![Just(Kick::Again), Just(Kick::Lost), Just(Kick::Failed), Just(Kick::Done)];
    prop_oneof![
        6 => (wire.clone(), 0u8..40).prop_map(|(from, count)| Op::Receive { from, count }),
        8 => Just(Op::Breathe),
        5 => (any_port.clone(), 0u8..60).prop_map(|(on, count)| Op::Transmit { on, count }),
        5 => (any_port.clone(), 0u8..60, any::<bool>())
            .prop_map(|(on, count, reversed)| Op::Complete { on, count, reversed }),
        1 => (any_port.clone(), 1u8..10).prop_map(|(on, count)| Op::Withhold { on, count }),
        1 => any_port.clone().prop_map(Op::TurnUp),
        1 => (wire.clone(), 1u8..70).prop_map(|(on, count)| Op::Starve { on, count }),
        1 => wire.clone().prop_map(Op::Feed),
        1 => (1..=OVERDUE).prop_map(Op::Audit),
        2 => (any_port, kick).prop_map(|(on, kick)| Op::Answer { on, kick }),
        1 => any::<bool>().prop_map(Op::MonitorLink),
        1 => (0u32..9).prop_map(Op::Swap),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    (4u32..8, 0u32..5, 0u32..7, 0u32..7, 0u32..7, 0u32..100).prop_map(
        |(primary, mirror, fill, tx, completion, back)| {
            let rings = RingSizes { fill: 1 << fill, rx: 1 << fill, tx: 1 << tx, completion: 1 << completion };
            Spec { primary: 1 << primary, seats: 2, mirror: (1 << mirror) - 1, rings, start: u32::MAX - back }
        },
    )
}

/// Each of `part`, in order, is somewhere in `whole`.
fn is_subsequence(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|packet| rest.any(|other| other == packet))
}

/// Which frames are selected: it sees what the shard pulls, breath by breath.
struct Oracle {
    rate: u32,
    observed: u32,
    pending: VecDeque<Vec<u8>>,
    selected: Vec<Vec<u8>>,
    /// Clones dropped by entries that are gone.
    dropped: u64,
}

impl Oracle {
    fn breathe(&mut self) {
        for packet in self.pending.drain(..self.pending.len().min(BATCH)) {
            if self.observed.is_multiple_of(self.rate.max(1)) {
                self.selected.push(packet);
            }
            self.observed += 1;
        }
    }

    fn swap(&mut self, rate: u32, row: &[u64; LEDGER_VALUES]) {
        if rate != self.rate {
            self.dropped += drops(row);
            (self.rate, self.observed) = (rate, 0);
        }
        self.breathe();
    }
}

/// Frames that the kernel has taken and not completed, by partition. `settled` leaves out the ports that have more on
/// their tx rings: what those hold is not overdue.
fn owed(rig: &mut Rig, settled: bool) -> [u32; 2] {
    let mut of = |ifindex| {
        let nic = &mut rig.port(ifindex).nic;
        if settled && nic.tx_waiting() > 0 { 0 } else { nic.owed() as u32 }
    };
    [of(A) + of(B), of(MON)]
}

fn quarantined(rig: &Rig) -> [u32; 2] {
    rig.shard.census().map(|partition| partition.quarantined)
}

/// Clones that no device was given: what one has refused, the fake one sends all the same.
fn drops(row: &[u64; LEDGER_VALUES]) -> u64 {
    Entry::DROPS.iter().filter(|&&reason| reason != Entry::DropRefused).map(|&reason| row[reason as usize]).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_loses_a_frame(spec in spec(), ops in prop::collection::vec(op(), 1..150), rate in 0u32..9) {
        let mut rig = Rig::new(spec, &Plan::wire(&[(A, MON, rate)]));
        let mut oracle =
            Oracle { rate, observed: 0, pending: VecDeque::new(), selected: Vec::new(), dropped: 0 };
        let (mut into, mut out) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let (mut clones, mut number) = (Vec::new(), 0);
        for op in ops {
            match op {
                Op::Receive { from, count } => {
                    for _ in 0..count {
                        number += 1;
                        let packet = frame(number, 60 + number as usize % 900);
                        if rig.port(from).nic.receive(&packet) {
                            into[usize::from(from == B)].push(packet.clone());
                            if from == A {
                                oracle.pending.push_back(packet);
                            }
                        }
                    }
                }
                Op::Breathe => {
                    rig.breathe();
                    oracle.breathe();
                }
                Op::Transmit { on, count } => {
                    let packets = rig.port(on).nic.transmit(usize::from(count));
                    match on {
                        A => out[1].extend(packets),
                        B => out[0].extend(packets),
                        _ => clones.extend(packets),
                    }
                }
                Op::Complete { on, count, reversed } => {
                    let nic = &mut rig.port(on).nic;
                    if reversed {
                        nic.shuffle_owed();
                    }
                    nic.complete(usize::from(count));
                }
                Op::Withhold { on, count } => rig.port(on).nic.withhold(usize::from(count)),
                Op::TurnUp(on) => rig.port(on).nic.turn_up(),
                Op::Starve { on, count } => rig.port(on).nic.starve(usize::from(count)),
                Op::Feed(on) => rig.port(on).nic.feed(),
                Op::Audit(rounds) => {
                    let overdue = if rounds == OVERDUE { owed(&mut rig, true) } else { [0; 2] };
                    rig.audit(rounds);
                    oracle.breathe();
                    let (found, owed) = (quarantined(&rig), owed(&mut rig, false));
                    for partition in [0, 1] {
                        prop_assert!((overdue[partition]..=owed[partition]).contains(&found[partition]));
                    }
                }
                Op::Answer { on, kick } => rig.port(on).doorbell.script([kick]),
                Op::MonitorLink(up) => {
                    rig.link(MON, up, 1500);
                    oracle.breathe();
                }
                Op::Swap(rate) => {
                    let row = rig.ledger((A, MON, oracle.rate));
                    rig.swap(&Plan::wire(&[(A, MON, rate)]));
                    oracle.swap(rate, &row);
                }
            }
            rig.check();
            let row = rig.ledger((A, MON, oracle.rate));
            prop_assert_eq!(row[Entry::Observed as usize], u64::from(oracle.observed));
            prop_assert!(is_subsequence(&out[0], &into[0]), "A to B");
            prop_assert!(is_subsequence(&out[1], &into[1]), "B to A");
            prop_assert!(is_subsequence(&clones, &oracle.selected), "clones");
        }
        // Let everything through but what is withheld: that is in quarantine then, and nothing else is.
        rig.link(MON, true, 1500);
        oracle.breathe();
        for _ in 0..200 {
            out[0].extend(rig.sent(B));
            out[1].extend(rig.sent(A));
            clones.extend(rig.sent(MON));
            rig.breathe();
            oracle.breathe();
        }
        rig.audit(OVERDUE);
        let missing = owed(&mut rig, false);
        prop_assert_eq!(quarantined(&rig), missing);
        let [primary, mirror] = rig.shard.census();
        prop_assert_eq!([primary.tx, mirror.tx], missing);
        prop_assert!(rig.ledger((A, MON, oracle.rate))[Entry::InFlight as usize] <= u64::from(missing[1]));
        // It turns up: what is missing now is exactly what was counted.
        for ifindex in [A, B, MON] {
            rig.port(ifindex).nic.turn_up();
        }
        for _ in 0..100 {
            for ifindex in [A, B, MON] {
                rig.port(ifindex).nic.complete(usize::MAX);
            }
            rig.breathe();
        }
        prop_assert_eq!(quarantined(&rig), [0, 0]);
        for (way, from, to) in [(0, A, B), (1, B, A)] {
            prop_assert_eq!(rig.count(from, Binding::RxPackets), into[way].len() as u64);
            prop_assert_eq!(out[way].len() as u64 + rig.count(to, Binding::TxQueueFull), into[way].len() as u64);
        }
        let row = rig.ledger((A, MON, oracle.rate));
        prop_assert_eq!(row[Entry::InFlight as usize], 0);
        prop_assert_eq!(clones.len() as u64 + oracle.dropped + drops(&row), oracle.selected.len() as u64);
        let [primary, mirror] = rig.shard.census();
        prop_assert_eq!((primary.tx, mirror.tx), (0, 0));
    }
}
