//! Two processes at full speed, and either of them stopped for a while.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use spanwire::region::{CONFIG_FILE, Polled};

use crate::payload::{Stamper, stamp};
use crate::process::{Place, Process};
use crate::{Random, count, until};

#[test]
fn no_read_is_torn_at_full_speed() {
    let reads = count(200_000, 10_000_000);
    let place = Place::new(CONFIG_FILE);
    let mut publisher = Process::start("publish", &place, "strict apart");
    let mut reader = Process::start("read", &place, "strict again apart");
    let start = Instant::now();
    let status = until("reads", Duration::from_secs(reads / 2_000), || {
        std::thread::sleep(Duration::from_millis(20));
        Some(reader.status()).filter(|status| status.count >= reads)
    });
    let seconds = start.elapsed().as_secs_f64();
    let published = publisher.status();
    println!(
        "{} reads ({:.0}/s) of {} generations, {} publishes ({:.0}/s), overtaken {} times; none torn",
        status.count,
        status.count as f64 / seconds,
        status.distinct,
        published.count,
        published.count as f64 / seconds,
        status.overtaken
    );
}

#[test]
fn a_reader_that_never_writes_asks_for_a_publish() {
    let place = Place::new(CONFIG_FILE);
    let mut publisher = place.publisher();
    publisher.publish(Stamper::default().image(1)).expect("published");
    let mut reader = place.subscriber();
    assert!(matches!(reader.poll(), Ok(Polled::New { .. })));
    assert!(!publisher.wait_asked(Duration::from_millis(20)), "nobody has asked");
    let writer = std::thread::spawn(move || {
        // A signal may end the wait early.
        let asked = (0..10).any(|_| publisher.wait_asked(Duration::from_secs(60)));
        (asked, publisher.publish(Stamper::default().image(2)).expect("published"))
    });
    // It hears nothing before it waits.
    until("the publish asked for", Duration::from_secs(20), || {
        reader.ask();
        matches!(reader.poll(), Ok(Polled::New { generation: 2, .. })).then_some(())
    });
    assert_eq!(writer.join().expect("no panic"), (true, 2));
}

#[test]
fn a_reader_that_is_stopped_over_many_publishes_reads_nothing_torn() {
    let place = Place::new(CONFIG_FILE);
    let mut publisher = Process::start("publish", &place, "strict apart");
    let mut reader = Process::start("read", &place, "strict again apart");
    let mut random = Random::new();
    until("the first read", Duration::from_secs(60), || (reader.status().count > 0).then_some(()));
    let stops = count(40, 1000);
    for _ in 0..stops {
        random.sleep(Duration::from_millis(3));
        reader.signal(Signal::STOP);
        // Every slot is written several times while the reader is in one.
        let stopped_at = publisher.status().newest;
        until("publishes", Duration::from_secs(60), || (publisher.status().newest > stopped_at + 50).then_some(()));
        reader.signal(Signal::CONT);
        until("a read", Duration::from_secs(60), || (reader.status().newest > stopped_at + 50).then_some(()));
    }
    let status = reader.status();
    println!("{stops} stops, {} reads, overtaken {} times; none torn", status.count, status.overtaken);
}

#[test]
fn a_writer_that_is_stopped_anywhere_leaves_the_last_generation_readable() {
    let place = Place::new(CONFIG_FILE);
    let mut publisher = Process::start("publish", &place, "strict apart");
    until("a publish", Duration::from_secs(60), || (publisher.status().count > 0).then_some(()));
    let (mut random, mut subscriber) = (Random::new(), place.subscriber());
    let mut last = 0;
    for _ in 0..count(100, 2000) {
        random.sleep(Duration::from_millis(2));
        publisher.signal(Signal::STOP);
        subscriber.forget();
        match subscriber.poll().expect("whole") {
            Polled::New { generation, words, .. } => {
                assert_eq!(stamp(words, generation), Ok(generation));
                assert!(generation >= last);
                last = generation;
            }
            Polled::Unchanged => panic!("a generation was published"),
        }
        publisher.signal(Signal::CONT);
    }
    assert!(publisher.is_alive());
}
