//! Samplers, VLAN entries, drop reasons.

use proptest::prelude::*;
use shm_layout::counters::{Binding, Entry, LEDGER_VALUES};
use shm_layout::record::{PortRole, Role};
use spanwire::shard::mailbox::{Command, Output};
use spanwire::shard::rx::BATCH;
use spanwire::xsk::Kick;
use spanwire::xsk::socket::RingSizes;

use super::rig::{A, B, Fleet, MON, Plan, Rig, Spec, frame, tagged};

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

/// Every frame, a few, and fewer than will ever come by.
const RATES: [u32; 9] = [0, 1, 2, 3, 7, 64, 1000, 1 << 31, u32::MAX];
const SHARDS: usize = 2;

/// Two shards with a queue each of every port, and what each entry's sampler is to select on each of them.
struct Sampled {
    fleet: Fleet,
    plan: Plan,
    /// By shard and entry: frames that came by, those passed over among them.
    position: [Vec<u64>; SHARDS],
    /// Frames that were fed, and those of them selected.
    fed: [Vec<u64>; SHARDS],
    selected: [Vec<u64>; SHARDS],
    number: u32,
}

impl Sampled {
    fn new(plan: Plan) -> Sampled {
        let mut fleet = Fleet::new(Spec::default(), SHARDS);
        for (queue, rig) in fleet.rigs.iter_mut().enumerate() {
            for (ifindex, role) in [(A, PortRole::Wire), (B, PortRole::Wire), (MON, PortRole::Monitor)] {
                rig.add_queue(ifindex, role, queue as u32, SHARDS as u32);
            }
        }
        let zeroes: [_; SHARDS] = std::array::from_fn(|_| vec![0; plan.mirrors.len()]);
        let (position, fed, selected) = (zeroes.clone(), zeroes.clone(), zeroes);
        fleet.swap(&plan);
        Sampled { fleet, plan, position, fed, selected, number: 0 }
    }

    /// Gives a shard a frame for each of these entries, and looks at the clones.
    fn feed(&mut self, shard: usize, entries: impl IntoIterator<Item = usize>) {
        let rig = &mut self.fleet.rigs[shard];
        let mut want = Vec::new();
        for entry in entries {
            let (ingress, _, rate) = self.plan.mirrors[entry];
            let vlan = self.plan.vlans.iter().find(|vlan| vlan.0 == ingress).map(|vlan| vlan.2);
            self.number += 1;
            // Every third of the port's own is in a VLAN that has no entry.
            let packet = match vlan.or((self.number.is_multiple_of(3)).then_some(4000)) {
                Some(vlan) => tagged(self.number, 80, 0x8100, vlan),
                None => frame(self.number, 80),
            };
            assert!(rig.port(A).nic.receive(&packet));
            if self.position[shard][entry].is_multiple_of(u64::from(rate.max(1))) {
                self.selected[shard][entry] += 1;
                want.push(packet);
            }
            self.position[shard][entry] += 1;
            self.fed[shard][entry] += 1;
        }
        assert_eq!(drained(rig), want, "shard {shard}");
    }

    /// So many frames of an entry pass unseen that the next to be selected is this many ahead, or as many as it is.
    fn pass_over(&mut self, shard: usize, entry: usize, ahead: u32) {
        let cell = self.fleet.rigs[shard].entry(self.plan.mirrors[entry]);
        let passed = cell.until().saturating_sub(ahead);
        cell.set_until(cell.until() - passed);
        self.position[shard][entry] += u64::from(passed);
    }

    /// Passes over what lies between, three times: the entry's frames among others are selected on either side.
    fn cross(&mut self, shard: usize, entry: usize) {
        for ahead in [0, 5 + shard as u32, 30 - entry as u32] {
            self.pass_over(shard, entry, ahead);
            let others = self.plan.mirrors.len();
            let selected = self.selected[shard][entry];
            self.feed(shard, (0..60).map(|n| if n % 3 == 0 { (entry + n) % others } else { entry }));
            assert!(self.selected[shard][entry] > selected, "it was crossed");
        }
    }

    fn close(&self) {
        for (shard, rig) in self.fleet.rigs.iter().enumerate() {
            for (entry, &mirror) in self.plan.mirrors.iter().enumerate() {
                let row = rig.ledger(mirror);
                let counted = [Entry::Observed, Entry::Selected, Entry::MirroredPackets].map(|e| row[e as usize]);
                let (fed, selected) = (self.fed[shard][entry], self.selected[shard][entry]);
                assert_eq!(counted, [fed, selected, selected], "{mirror:?} on shard {shard}");
            }
        }
    }
}

/// A VLAN entry with each rate, and the port's own.
fn an_entry_for_each_rate() -> Plan {
    let vlan = |index: usize| (1 << 30) + index as u32;
    let of = |(index, &rate): (usize, &u32)| (vlan(index), MON, rate);
    let mut mirrors: Vec<_> = RATES.iter().enumerate().map(of).collect();
    mirrors.push((A, MON, 5));
    let vlans = (0..RATES.len()).map(|index| (vlan(index), A, 10 + index as u16)).collect();
    Plan { vlans, ..Plan::wire(&mirrors) }
}

#[test]
fn one_in_n_is_exact_on_each_shard() {
    for rate in RATES {
        let mut sampled = Sampled::new(Plan::wire(&[(A, MON, rate)]));
        for step in 0..300 {
            // The shards go on at different speeds.
            sampled.feed(0, vec![0; step % 11]);
            sampled.feed(1, vec![0; step % 7]);
        }
        for shard in 0..SHARDS {
            sampled.cross(shard, 0);
        }
        sampled.close();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever comes in between on the other entries, VLANs and shards.
    #[test]
    fn one_in_n_is_exact_for_each_of_many_entries(
        batches in prop::collection::vec(
            (0..SHARDS, prop::collection::vec((0..=RATES.len(), 1usize..20), 0..6), (0..=RATES.len(), 0u32..50)), 1..60),
    ) {
        let mut sampled = Sampled::new(an_entry_for_each_rate());
        for (shard, runs, (entry, ahead)) in batches {
            let entries = runs.into_iter().flat_map(|(entry, len)| std::iter::repeat_n(entry, len));
            sampled.feed(shard, entries.take(BATCH));
            sampled.pass_over(shard, entry, ahead);
        }
        for shard in 0..SHARDS {
            for entry in 0..=RATES.len() {
                sampled.cross(shard, entry);
            }
        }
        sampled.close();
    }
}

#[test]
fn phases_survive_swaps_that_leave_their_entries_alone() {
    let plan = an_entry_for_each_rate();
    let mut sampled = Sampled::new(plan.clone());
    let entries = plan.mirrors.len();
    for swap in 0..1000u32 {
        let step = swap as usize;
        for shard in 0..SHARDS {
            sampled.feed(shard, (0..5 + shard).map(|n| (step + n * n) % entries));
            sampled.pass_over(shard, step % entries, 20);
        }
        // A VLAN of the same port and another port get entries, which change and go.
        let mut next = plan.clone();
        if swap % 3 > 0 {
            next.vlans.push((1 << 20, A, 3000));
            next.mirrors.insert(step % entries, (1 << 20, MON, swap));
            next.mirrors.push((B, MON, swap));
        }
        sampled.fleet.swap(&next);
        for rig in &mut sampled.fleet.rigs {
            rig.breathe();
        }
        sampled.fleet.reclaim();
    }
    sampled.close();
    assert!(sampled.fed.iter().flatten().all(|&fed| fed > 400) && sampled.selected.iter().flatten().all(|&n| n > 4));
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
    assert_eq!(rig.ledger((A, MON, 2)), [0; LEDGER_VALUES]);
    assert_eq!(rig.sent(MON).len(), 10);
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 2)), [0; LEDGER_VALUES], "they belong to the entry that is gone");
    rig.swap(&Plan::wire(&[(A, MON, 1)]));
    assert_eq!(rig.ledger((A, MON, 1)), [0; LEDGER_VALUES], "a new entry, whatever it once was");
}

#[test]
fn a_standby_forwards_and_observes_nothing() {
    let mut plan = Plan::wire(&[(A, MON, 1)]);
    plan.role = Role::Standby;
    let mut rig = Rig::new(Spec::default(), &plan);
    assert_eq!(cloned(&mut rig, 0, 100), [0u32; 0]);
    assert_eq!(rig.ledger((A, MON, 1)), [0; LEDGER_VALUES]);
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
    assert_eq!(rig.ledger((A, MON, 3)), [0; LEDGER_VALUES]);
    assert_eq!(rig.sent(MON).len(), 2, "what was queued before, and nothing since");
    rig.breathe();
    assert_eq!(rig.ledger((A, MON, 3)), [0; LEDGER_VALUES], "they belong to the ledger they were counted in");
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
    rig.command(Command::OutputUp(Output { ifindex: MON, queues: 1, mtu: 1500, multi_buffer: false }));
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

#[test]
fn what_a_device_refused_was_not_sent() {
    let mut rig = Rig::new(Spec::default(), &Plan::wire(&[(A, MON, 1)]));
    for ifindex in [B, MON] {
        rig.port(ifindex).doorbell.script([Kick::Lost]);
    }
    for number in 0..3 {
        rig.port(A).nic.receive(&frame(number, 60 + 10 * number as usize));
    }
    rig.breathe();
    assert_eq!((rig.sent(B).len(), rig.sent(MON).len()), (3, 3), "each completes");
    rig.breathe();
    let row = rig.ledger((A, MON, 1));
    let counted = [Entry::MirroredPackets, Entry::MirroredBytes, Entry::DropRefused].map(|value| row[value as usize]);
    assert_eq!(counted, [2, 150, 1], "the first that completes is the one");
    for ifindex in [B, MON] {
        let port = [Binding::TxPackets, Binding::TxBytes, Binding::TxLost].map(|value| rig.count(ifindex, value));
        assert_eq!(port, [2, 150, 1], "bytes follow packets");
    }
}
