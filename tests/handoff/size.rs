//! A region that grew gives way to a smaller one when images are small again, and readers follow it as they do when it
//! grows.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use shm_layout::header::RegionKind;
use shm_layout::protocol::Step;
use spanwire::region::{CONFIG_FILE, Polled, Publisher, STATS_FILE, Subscriber};

use crate::payload::{LARGE, Stamper, stamp};
use crate::process::{Place, Process, on_a_tmpfs};
use crate::{count, until};

/// An image of 1 MiB, and so slots of more than 2 MiB.
const HUGE: u64 = 16 * LARGE;
/// An image that fits the slots of a new region, and is no reason to make one of such slots.
const SMALL: u64 = 0;

/// Bytes of the region, and which file it is.
fn file(place: &Place) -> (u64, u64) {
    let meta = fs::metadata(place.path()).expect("there");
    (meta.len(), meta.ino())
}

/// What is published: instance, generation and stamp.
fn newest(subscriber: &mut Subscriber) -> (u64, u64, u64) {
    match subscriber.poll().expect("readable") {
        Polled::New { instance, generation, words } => {
            (instance, generation, stamp(words, generation).expect("whole") % LARGE)
        }
        Polled::Unchanged => panic!("nothing new"),
    }
}

#[test]
fn a_region_that_grew_shrinks_again() {
    for name in [CONFIG_FILE, STATS_FILE] {
        let place = Place::new(name);
        let (mut stamper, mut subscriber) = (Stamper::default(), place.subscriber());
        let mut publish = |stamp: u64| place.publisher().publish(stamper.image(stamp)).expect("published");
        publish(1 | SMALL);
        let (instance, ..) = newest(&mut subscriber);
        let (small, _) = file(&place);
        publish(2 | HUGE);
        assert_eq!(newest(&mut subscriber), (instance, 2, 2));
        let (large, grown) = file(&place);
        assert!(large > 16 * small, "{large} and {small}");

        // What needs half of the room, or a quarter, may need more again.
        for (stamp, share) in [(3, HUGE / 2), (4, HUGE / 4)] {
            assert_eq!(publish(stamp | share), stamp);
            assert_eq!(newest(&mut subscriber), (instance, stamp, stamp));
            assert_eq!(file(&place), (large, grown), "it stays");
        }
        assert_eq!(publish(5 | SMALL), 5);
        assert_eq!(newest(&mut subscriber), (instance, 5, 5), "the same region in other readers' eyes");
        assert_eq!(file(&place).0, small);
        assert_ne!(file(&place).1, grown);
        assert_eq!(newest(&mut place.subscriber()), (instance, 5, 5), "a reader that comes later");
        for stamp in 6..10 {
            assert_eq!(publish(stamp | SMALL), stamp);
        }
        assert_eq!((newest(&mut subscriber), file(&place).0), ((instance, 9, 9), small));
    }
}

#[test]
fn who_waits_for_a_publish_is_woken_by_one_that_shrinks() {
    let place = Place::new(CONFIG_FILE);
    let mut stamper = Stamper::default();
    place.publisher().publish(stamper.image(1 | HUGE)).expect("published");
    let mut subscriber = place.subscriber();
    newest(&mut subscriber);
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| {
            until("a publish", Duration::from_secs(60), || subscriber.wait(Duration::from_secs(60)).then_some(()));
            newest(&mut subscriber)
        });
        place.publisher().publish(stamper.image(2)).expect("published");
        assert_eq!(woken.join().expect("woken").1, 2);
    });
}

/// Large and small in turns, at full speed, under readers that bear no fault.
#[test]
fn readers_follow_a_region_that_grows_and_shrinks() {
    let place = Place::new(CONFIG_FILE);
    let mut stamper = Stamper::default();
    let mut publisher = place.publisher();
    publisher.publish(stamper.image(1)).expect("published");
    let mut readers = ["strict", "strict wait"].map(|argument| Process::start("read", &place, argument));
    for reader in &mut readers {
        until("a read", Duration::from_secs(60), || (reader.status().count > 0).then_some(()));
    }
    let rounds = count(100, 2000);
    let mut files = std::collections::BTreeSet::new();
    for next in 2..=2 * rounds + 1 {
        let size = if next % 2 == 0 { HUGE } else { SMALL };
        assert_eq!(publisher.publish(stamper.image(next | size)).expect("published"), next);
        files.insert(file(&place).0);
    }
    assert_eq!(files.len(), 2, "{files:?}");
    for reader in &mut readers {
        until("the last generation", Duration::from_secs(60), || {
            (reader.status().newest % LARGE == 2 * rounds + 1).then_some(())
        });
    }
}

#[test]
fn a_writer_killed_at_any_step_of_shrinking_the_region() {
    for step in 0..Step::ALL.len() {
        let place = Place::new(CONFIG_FILE);
        let (mut stamper, mut reader) = (Stamper::default(), place.subscriber());
        place.publisher().publish(stamper.image(1 | HUGE)).expect("published");
        let (instance, ..) = newest(&mut reader);
        let mut writer = Process::start("die", &place, &format!("{step} at once"));
        assert_eq!(writer.wait().signal(), Some(Signal::KILL.as_raw()), "{step}");
        assert!(matches!(reader.poll(), Ok(Polled::Unchanged)), "{step}: the smaller one has no name yet");
        assert_eq!(place.publisher().publish(stamper.image(2)).expect("published"), 2, "{step}");
        assert_eq!(newest(&mut reader), (instance, 2, 2), "{step}");
        let left: Vec<_> =
            fs::read_dir(place.dir.path()).expect("there").map(|file| file.expect("there").path()).collect();
        assert_eq!(left.len(), 2, "{step}: {left:?}");
    }
}

#[test]
fn without_room_for_a_smaller_one_the_large_one_goes_on() {
    on_a_tmpfs("shrink-full", "size=12m");
}

/// In a process on a tmpfs that has no room left beside the region.
pub fn on_a_full_file_system(dir: &Path) {
    let mut stamper = Stamper::default();
    let mut publisher = Publisher::open(dir, CONFIG_FILE, RegionKind::Config, Duration::ZERO).expect("the only writer");
    let mut subscriber = Subscriber::new(dir, CONFIG_FILE, RegionKind::Config);
    assert_eq!(publisher.publish(stamper.image(1 | HUGE)).expect("there is room"), 1);
    let len = || fs::metadata(dir.join(CONFIG_FILE)).expect("there").len();
    let large = len();
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 12 << 20]).expect_err("full");
    for stamp in 2..=4 {
        assert_eq!(publisher.publish(stamper.image(stamp)).expect("the large one has room"), stamp);
        assert_eq!(newest(&mut subscriber).1, stamp);
    }
    assert_eq!((len(), fs::read_dir(dir).expect("there").count()), (large, 3), "nothing is left behind");
    fs::remove_file(&filler).expect("removed");
    assert_eq!(publisher.publish(stamper.image(5)).expect("there is room again"), 5);
    assert_eq!(newest(&mut subscriber).1, 5);
    assert!(len() < large / 16);
}
