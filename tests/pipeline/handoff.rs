//! Publishes at full speed through a real region while frames cross: none lost, none repeated, no ledger open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shm_layout::counters::{Binding, Entry};
use shm_layout::header::RegionKind;
use shm_layout::image::Image;
use shm_layout::record::PortRole;
use spanwire::region::{CONFIG_FILE, Publisher, Subscriber};
use spanwire::snapshot::adopter::{Adopter, Adoption};

use super::rig::{A, B, MON, Plan, Rig, Spec, frame, image_of};

/// Publishes and frames: a short form, and the campaign of `tools/test.sh --long`.
fn amount() -> (u64, u32) {
    if std::env::var_os("SPANWIRE_LONG").is_some() { (10_000, 10_000_000) } else { (300, 300_000) }
}

#[test]
fn publishes_at_full_speed_lose_and_repeat_nothing() {
    let (publishes, frames) = amount();
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::empty(Spec::default());
    for (ifindex, role) in [(A, PortRole::Wire), (B, PortRole::Wire), (MON, PortRole::Monitor)] {
        rig.add(ifindex, role);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));

    let subscriber = Subscriber::new(dir.path(), CONFIG_FILE, RegionKind::Config);
    let mut adopter = Adopter::new(subscriber, rig.table(), vec![Arc::clone(&rig.block)]);
    let adopter = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut adopted = 0u64;
            while !stop.load(Relaxed) {
                match adopter.poll() {
                    Adoption::Adopted { .. } => adopted += 1,
                    Adoption::None => drop(adopter.wait(Duration::from_millis(1))),
                    other => panic!("{other:?}"),
                }
            }
            adopted
        })
    };
    let publisher = {
        let (stop, published, dir) = (Arc::clone(&stop), Arc::clone(&published), dir.path().to_owned());
        std::thread::spawn(move || {
            let mut publisher = Publisher::open(&dir, CONFIG_FILE, RegionKind::Config, Duration::ZERO).unwrap();
            let mut rate = 0;
            while !stop.load(Relaxed) {
                rate = (rate + 1) % 9;
                // One entry that stays, one that changes each time.
                let mut image = Image::from_words(image_of(&Plan::wire(&[(A, MON, 5), (B, MON, rate)]), 1));
                publisher.publish(&mut image).unwrap();
                published.fetch_add(1, Relaxed);
            }
        })
    };

    while rig.block.adopted_generation() == 0 {
        rig.breathe();
    }
    let (mut given, mut seen) = ([0u32; 2], [0u32; 2]);
    let mut breaths = 0u64;
    while seen != [frames / 2; 2] || published.load(Relaxed) < publishes {
        for (way, ifindex) in [A, B].into_iter().enumerate() {
            for _ in 0..32 {
                if given[way] < frames / 2 && rig.port(ifindex).nic.receive(&frame(given[way], 60)) {
                    given[way] += 1;
                }
            }
        }
        rig.shard.breathe();
        breaths += 1;
        for (way, ifindex) in [B, A].into_iter().enumerate() {
            for packet in rig.sent(ifindex) {
                assert_eq!(packet[14..18], seen[way].to_be_bytes(), "frame {} of way {way}", seen[way]);
                seen[way] += 1;
            }
        }
        rig.sent(MON);
        if breaths.is_multiple_of(1000) {
            rig.check();
        }
    }
    stop.store(true, Relaxed);
    publisher.join().unwrap();
    let adopted = adopter.join().unwrap();
    rig.breathe();
    assert!(adopted > 10, "only {adopted} tables were adopted");
    assert_eq!(rig.count(A, Binding::RxPackets) + rig.count(B, Binding::RxPackets), u64::from(frames));
    assert_eq!(rig.count(A, Binding::TxQueueFull) + rig.count(B, Binding::TxQueueFull), 0);
    // The entry that stayed has seen every frame since the first table that had it.
    let row = rig.ledger((A, MON, 5));
    let (observed, selected) = (row[Entry::Observed as usize], row[Entry::Selected as usize]);
    assert_eq!(selected, observed.div_ceil(5), "its sampler kept its phase over {adopted} swaps");
    eprintln!("{} publishes, {adopted} adopted, {frames} frames crossed", published.load(Relaxed));
}
