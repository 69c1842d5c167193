//! The handoff beside `mmap-sync`, in one run: the check that nothing changed, the read of what changed, and
//! the publish, for tables of 16, 1,024 and 65,536 entries.
//!
//! Both sides publish the same entries through a file of the same file system. `mmap-sync` hands out a view of
//! shared memory unvalidated (its faster mode); a read here copies the image, checks its CRC32 and every record, and
//! can neither fault nor see the writer.
#![allow(missing_docs, clippy::expect_used)]
// The peer's read is unsafe to call; nothing of spanwire is.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use mmap_sync::synchronizer::Synchronizer;
use rkyv::{Archive, Deserialize, Serialize};
use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use shm_layout::snapshot::SnapshotView;
use spanwire::control::compile::{Provenance, compile};
use spanwire::control::{Mirror, Snapshot, Wire, admit};
use spanwire::region::{CONFIG_FILE, Polled, Publisher, Subscriber};
use spanwire::snapshot::table::{Current, Table};

const SIZES: [u32; 3] = [16, 1024, 65_536];

#[derive(Archive, Serialize, Deserialize, Clone)]
#[archive(check_bytes)]
struct Peer {
    entries: Vec<PeerEntry>,
}

#[derive(Archive, Serialize, Deserialize, Clone)]
#[archive(check_bytes)]
struct PeerEntry {
    ingress: u32,
    output: u32,
    rate: u32,
    placement: u32,
}

fn peer(entries: u32) -> Peer {
    let entry = |n| PeerEntry { ingress: n + 100, output: 22, rate: n, placement: 0 };
    Peer { entries: (0..entries).map(entry).collect() }
}

fn image(entries: u32) -> Image {
    let snapshot = Snapshot {
        wires: vec![Wire { name: "w".to_owned(), a_ifindex: 11, b_ifindex: 12, ..Wire::default() }],
        mirrors: (0..entries).map(|n| Mirror { ingress_ifindex: n + 100, output_ifindex: 22, rate: n }).collect(),
        ..Snapshot::default()
    };
    // Without the diagnostics an admission would add: the peer publishes none either.
    let mut admission = admit(&snapshot);
    admission.diagnostics.clear();
    compile(&snapshot, &admission, &Provenance::of(b""))
}

/// Sixteen in a row: a loop around a single load costs as much as the load, and twice that where it comes to lie badly.
fn in_a_row(b: &mut Bencher<'_>, mut body: impl FnMut()) {
    const ROW: u64 = 16;
    b.iter_custom(|count| {
        let rows = count.div_ceil(ROW);
        let start = Instant::now();
        for _ in 0..rows {
            for _ in 0..ROW {
                body();
            }
        }
        start.elapsed().mul_f64(count as f64 / (rows * ROW) as f64)
    });
}

fn unchanged(c: &mut Criterion) {
    let mut group = c.benchmark_group("unchanged");
    let (table, seen) = (Arc::new(Current::new(Table::default())), black_box(0));
    group.bench_function("spanwire: a shard's check", |b| {
        // As in a shard: a load, a compare, a branch not taken.
        in_a_row(b, || {
            if table.serial() != seen {
                black_box(&table);
            }
        });
    });

    let dir = tempfile::tempdir().expect("a directory");
    let mut sync = Synchronizer::new(dir.path().join("peer").as_os_str());
    sync.write(&peer(16), Duration::ZERO).expect("a write");
    group.bench_function("mmap-sync: read", |b| {
        in_a_row(b, || {
            black_box(read_peer(&mut sync));
        });
    });
    group.finish();
}

fn changed(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish and read");
    group.sample_size(20);
    for entries in SIZES {
        let dir = tempfile::tempdir().expect("a directory");
        let mut publisher =
            Publisher::open(dir.path(), CONFIG_FILE, RegionKind::Config, Duration::ZERO).expect("the lock");
        let mut image = image(entries);
        publisher.publish(&mut image).expect("a publish");
        group.bench_function(BenchmarkId::new("spanwire: publish", entries), |b| {
            b.iter(|| publisher.publish(&mut image).expect("a publish"));
        });
        let mut subscriber = Subscriber::new(dir.path(), CONFIG_FILE, RegionKind::Config);
        group.bench_function(BenchmarkId::new("spanwire: read and validate", entries), |b| {
            b.iter(|| {
                subscriber.forget();
                match subscriber.poll().expect("a read") {
                    Polled::New { words, .. } => SnapshotView::try_from(words).expect("valid").mirrors.len(),
                    Polled::Unchanged => 0,
                }
            });
        });

        let mut sync = Synchronizer::new(dir.path().join("peer").as_os_str());
        let peer = peer(entries);
        sync.write(&peer, Duration::ZERO).expect("a write");
        group.bench_function(BenchmarkId::new("mmap-sync: publish", entries), |b| {
            b.iter(|| sync.write(&peer, Duration::ZERO).expect("a write"));
        });
        group.bench_function(BenchmarkId::new("mmap-sync: read", entries), |b| {
            b.iter(|| black_box(read_peer(&mut sync)));
        });
    }
    group.finish();
}

fn read_peer(sync: &mut Synchronizer) -> usize {
    // SAFETY: the bytes were written by `Synchronizer::write` of the same type in this process, and the result is
    // dropped before the next write.
    let read = unsafe { sync.read::<Peer>(false) }.expect("a read");
    read.entries.len()
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = unchanged, changed
}
criterion_main!(benches);
