//! The writer dies, at every step of a publish and at random moments: readers keep what they have, the next
//! writer goes on, and no generation comes twice.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use shm_layout::header::RegionKind;
use shm_layout::protocol::Step;
use spanwire::region::{CONFIG_FILE, Polled, Publisher, RegionError, Subscriber};

use crate::payload::{LARGE, Stamper, stamp};
use crate::process::{Place, Process, next_generation};
use crate::{Random, count, until};

/// Publishes that a dying writer completes.
const BEFORE: u64 = 3;

/// In a process of its own: publishes, and dies inside the last publish. `step size`, where `large` needs a larger region,
/// and `at once` has no publish before that.
pub fn die(dir: &Path, name: &str, kind: RegionKind, argument: &str) {
    let (step, large) = argument.split_once(' ').expect("a step and a size");
    let fatal = Step::ALL[step.parse::<usize>().expect("an index")];
    let mut publisher = Publisher::open(dir, name, kind, Duration::from_secs(60)).expect("the only writer");
    let mut stamper = Stamper::default();
    let mut next = next_generation(&dir.join(name), kind);
    // A publish before would be the one that is died in.
    if next > 1 && large != "at once" {
        for _ in 0..BEFORE {
            assert_eq!(publisher.publish(stamper.image(next)).expect("published"), next);
            next += 1;
        }
    }
    let stamp = if large == "large" { next | LARGE } else { next };
    let _ = publisher.publish_stepwise(stamper.image(stamp), |step| {
        if step == fatal {
            kill_process(getpid(), Signal::KILL).expect("myself");
        }
    });
    panic!("the publish went on after {fatal:?}");
}

/// The newest generation there is, checked word by word; `None` before the first.
fn newest(subscriber: &mut Subscriber) -> Option<u64> {
    subscriber.forget();
    match subscriber.poll() {
        Ok(Polled::New { generation, words, .. }) => {
            assert_eq!(stamp(words, generation).map(|stamp| stamp % LARGE), Ok(generation));
            Some(generation)
        }
        Ok(Polled::Unchanged) | Err(RegionError::Missing { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Regions that never got their name.
fn leftovers(place: &Place) -> usize {
    let files = fs::read_dir(place.dir.path()).expect("there");
    files.filter(|file| file.as_ref().expect("there").file_name().to_string_lossy().ends_with(".new")).count()
}

/// A writer dies at `step` of a publish that is `large` or not, into a region that is there or not.
fn dies_at(step: usize, existing: bool, large: bool) {
    let place = Place::new(CONFIG_FILE);
    let what = format!("{:?}, existing: {existing}, large: {large}", Step::ALL[step]);
    let mut stamper = Stamper::default();
    let mut reader = place.subscriber();
    if existing {
        let mut publisher = place.publisher();
        for generation in 1..=6 {
            assert_eq!(publisher.publish(stamper.image(generation)).expect("published"), generation);
        }
        assert_eq!(newest(&mut reader), Some(6));
    }
    let size = if large { "large" } else { "small" };
    let mut writer = Process::start("die", &place, &format!("{step} {size}"));
    assert_eq!(writer.wait().signal(), Some(Signal::KILL.as_raw()), "{what}");

    // A region that is made or grown gets its name at the very end.
    let announced = existing && !large && Step::ALL[step] as usize >= Step::Active as usize;
    let last_good = existing.then_some(6 + BEFORE + u64::from(announced));
    assert_eq!(newest(&mut reader), last_good, "{what}");
    assert_eq!(newest(&mut place.subscriber()), last_good, "{what}: a reader that comes later");

    let mut publisher = place.publisher();
    assert_eq!(leftovers(&place), 0, "{what}");
    for (next, size) in (last_good.unwrap_or(0) + 1..).zip([0, LARGE, 0]) {
        assert_eq!(publisher.publish(stamper.image(next | size)).expect("published"), next, "{what}");
        assert_eq!(newest(&mut reader), Some(next), "{what}");
    }
}

#[test]
fn a_writer_killed_at_any_step_of_a_publish() {
    (0..Step::ALL.len()).for_each(|step| dies_at(step, true, false));
}

#[test]
fn a_writer_killed_at_any_step_of_growing_the_region() {
    (0..Step::ALL.len()).for_each(|step| dies_at(step, true, true));
}

#[test]
fn a_writer_killed_at_any_step_of_the_first_publish() {
    (0..Step::ALL.len()).for_each(|step| dies_at(step, false, false));
}

/// Its region has the name, and the older one does not say so.
#[test]
fn a_writer_killed_before_it_has_marked_the_older_region() {
    let [place, other] = [(); 2].map(|()| Place::new(CONFIG_FILE));
    let (mut stamper, mut reader) = (Stamper::default(), place.subscriber());
    assert_eq!(place.publisher().publish(stamper.image(1)).expect("published"), 1);
    assert_eq!(newest(&mut reader), Some(1));
    for next in 1..=2 {
        assert_eq!(other.publisher().publish(stamper.image(next)).expect("published"), next);
    }
    fs::rename(other.path(), place.path()).expect("renamed");
    assert_eq!(newest(&mut reader), Some(2));
    // Where nothing has the name, what was read last is still there.
    fs::remove_file(place.path()).expect("removed");
    assert_eq!(newest(&mut reader), Some(2));
}

#[test]
fn writers_killed_at_random_moments() {
    let kills = count(50, 1000);
    let place = Place::new(CONFIG_FILE);
    let (mut random, mut subscriber, mut stamper) = (Random::new(), place.subscriber(), Stamper::default());
    let mut reader = Process::start("read", &place, "strict");
    let (mut last, mut in_publish) = (0, 0);
    for kill in 0..kills {
        // Some of them die while the region grows: from 64 KiB slots to 2 MiB in all.
        let grow = kill % (kills / 5) == 1;
        let writer = Process::start("publish", &place, if grow { "strict grow" } else { "strict" });
        random.sleep(Duration::from_millis(12));
        writer.kill();
        if let Some(generation) = newest(&mut subscriber) {
            assert!(generation >= last, "{generation} after {last}");
            in_publish += u64::from(generation > last);
            last = generation;
        }
        let next = place.next();
        assert!(next > last);
        assert_eq!(place.publisher().publish(stamper.image(next)).expect("published"), next, "the next writer");
        assert_eq!(newest(&mut subscriber), Some(next));
        assert_eq!(leftovers(&place), 0);
        last = next;
        assert!(reader.is_alive());
    }
    // The reader follows to the end, and would have failed on any generation that is not above the one before.
    let status = until("the last generation", Duration::from_secs(60), || {
        Some(reader.status()).filter(|status| status.newest % LARGE == last)
    });
    println!("{kills} kills, {in_publish} of them of a writer at work, {last} generations, {} reads", status.count);
    assert!(in_publish > kills / 10, "hardly any writer lived long enough to be killed at work");
}
