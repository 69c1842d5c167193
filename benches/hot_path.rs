//! The parts of a shard's breath, one group each: `ring`, `classify`, `mirror`, `counters` and the whole `breathe`.
//!
//! Everything is per batch of 64 frames, as a shard works; the throughput that is shown counts frames. The kernel's
//! side of the rings is played by [`rig`], as in `spanbench core`.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::expect_used)]

// The rig of `spanbench core`. The benches leave the monitor port alone and copy nothing themselves.
#[allow(dead_code)]
#[path = "../tools/spanbench/src/rig.rs"]
mod rig;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rig::{Monitor, Rig};
use shm_layout::counters::{BINDING_VALUES, Entry, SHARD_VALUES};
use shm_layout::snapshot::SnapshotView;
use spanwire::classify::classify;
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::{Interface, Mirror, Snapshot, Wire, admit};
use spanwire::counters::{BindingBlock, ShardBlock};
use spanwire::shard::mirror::Sampler;
use spanwire::shard::rx::BATCH;
use spanwire::snapshot::table::Table;

/// Frame lengths, bytes.
const SIZES: [u32; 3] = [64, 512, 1514];
const FRAMES: Throughput = Throughput::Elements(BATCH as u64);

/// What of a batch's way is timed.
#[derive(Clone, Copy)]
enum Part {
    /// The device's side: frames off a fill ring, descriptors into an rx ring.
    Receive,
    /// The shard's turn.
    Breathe,
    /// The device's side: descriptors off a tx ring, frames into a completion ring.
    Transmit,
}

fn rig(rate: Option<u32>) -> Rig {
    Rig::new(8192, 1024, rate, Monitor::Healthy).expect("a rig")
}

/// Sends batches the whole way and times one part of it.
fn batches(b: &mut Bencher<'_>, rig: &mut Rig, bytes: u32, part: Part) {
    b.iter_custom(|batches| {
        let mut spent = [Duration::ZERO; 3];
        for _ in 0..batches {
            let begin = Instant::now();
            let received = rig.receive(bytes, BATCH);
            let there = Instant::now();
            rig.shard.breathe();
            let moved = Instant::now();
            let (crossed, _) = rig.transmit();
            let gone = Instant::now();
            assert_eq!((received, crossed), (BATCH, BATCH), "only whole batches are counted");
            spent[Part::Receive as usize] += there - begin;
            spent[Part::Breathe as usize] += moved - there;
            spent[Part::Transmit as usize] += gone - moved;
        }
        spent[part as usize]
    });
}

/// A pop, a push, and one publication of the indices a batch; both ends are those the shard uses.
fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(FRAMES);
    let mut rig = rig(None);
    group.bench_function("fill to rx", |b| batches(b, &mut rig, 64, Part::Receive));
    group.bench_function("tx to completion", |b| batches(b, &mut rig, 64, Part::Transmit));
    group.finish();
}

fn frame(vlan: Option<u16>) -> Vec<u8> {
    let mut frame = vec![0; 64];
    let ethertype = if vlan.is_some() { 0x8100u16 } else { 0x0800 };
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame[14..16].copy_from_slice(&vlan.unwrap_or(0x4500).to_be_bytes());
    frame
}

/// Port 11 with an entry of its own, and one for VLAN 7 on it where `vlan` says so.
fn table(vlan: bool) -> Table {
    let mut snapshot = Snapshot {
        wires: vec![Wire { name: "w".to_owned(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        mirrors: vec![Mirror { ingress_ifindex: 11, output_ifindex: 22, rate: 1 }],
        ..Snapshot::default()
    };
    if vlan {
        let name = "w.7".to_owned();
        snapshot.interfaces.push(Interface {
            name,
            ifindex: 13,
            parent_ifindex: 11,
            vlan_id: 7,
            ..Interface::default()
        });
        snapshot.mirrors.push(Mirror { ingress_ifindex: 13, output_ifindex: 22, rate: 1 });
    }
    let image = compile(&snapshot, &admit(&snapshot), &Provenance::of(b""));
    let mut slots = 0..;
    let view = SnapshotView::try_from(image.words()).expect("a valid image");
    Table::build(&view, 1, 1, |_| slots.next().expect("a slot"))
}

fn classification(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    group.throughput(FRAMES);
    // The slot that each frame must come to: 0 is the port's own entry, 1 that of VLAN 7.
    for (name, vlans, tag, slot) in [
        ("a port without VLAN entries", false, Some(7), 0),
        ("an untagged frame", true, None, 0),
        ("a VLAN with an entry", true, Some(7), 1),
        ("a VLAN without one", true, Some(8), 0),
    ] {
        let table = table(vlans);
        let policy = table.policy(11).expect("a policy");
        let frames = vec![frame(tag); BATCH];
        assert_eq!(classify(policy, &frames[0]).map(|tap| tap.slot), Some(slot), "{name}");
        group.bench_function(name, |b| {
            b.iter(|| {
                for frame in &frames {
                    black_box(classify(black_box(policy), black_box(frame)));
                }
            });
        });
    }
    group.finish();
}

/// What sampling costs a batch in which nothing is selected, and breaths with clones: what they take beyond those of
/// `breathe` is mirroring.
fn mirror(c: &mut Criterion) {
    let mut group = c.benchmark_group("mirror");
    group.throughput(FRAMES);
    group.bench_function("a sampler that selects nothing", |b| {
        let mut sampler = Sampler { until: 0 };
        b.iter(|| {
            sampler.until = black_box(1000);
            black_box(sampler.skip(BATCH as u32))
        });
    });
    for (name, rate) in [("1 in 1000", 1000), ("every frame", 1)] {
        for bytes in SIZES {
            let mut rig = rig(Some(rate));
            group.bench_function(BenchmarkId::new(name, bytes), |b| batches(b, &mut rig, bytes, Part::Breathe));
        }
    }
    group.finish();
}

/// What a breath stores for others to read: once a batch, not once a frame.
fn counters(c: &mut Criterion) {
    let mut group = c.benchmark_group("counters");
    let (shard, binding) = (ShardBlock::new(0, 0), BindingBlock::default());
    let cell = shard.entry(0);
    group.bench_function("an entry's row: nothing selected", |b| {
        b.iter(|| {
            cell.commit(|row| {
                row.add(Entry::Observed, black_box(64));
            });
        });
    });
    group.bench_function("an entry's row: every frame", |b| {
        b.iter(|| {
            cell.commit(|row| {
                row.add(Entry::Observed, black_box(64));
                row.add(Entry::Selected, black_box(64));
                row.add(Entry::InFlight, black_box(64));
            });
        });
    });
    group.bench_function("an entry's row: read", |b| b.iter(|| black_box(cell.read())));
    group.bench_function("a binding's values", |b| b.iter(|| binding.commit(black_box(&[1; BINDING_VALUES]))));
    group.bench_function("a shard's values", |b| b.iter(|| shard.commit(black_box(&[1; SHARD_VALUES]))));
    group.finish();
}

fn breathe(c: &mut Criterion) {
    let mut group = c.benchmark_group("breathe");
    let mut rig = rig(None);
    group.bench_function("nothing to do", |b| b.iter(|| rig.shard.breathe()));
    group.throughput(FRAMES);
    for bytes in SIZES {
        group.bench_function(BenchmarkId::new("forward only", bytes), |b| {
            batches(b, &mut rig, bytes, Part::Breathe);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = ring, classification, mirror, counters, breathe
}
criterion_main!(benches);
