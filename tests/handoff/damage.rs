//! Region files truncated and replaced under a running publisher and a running reader. Either would be dead of
//! SIGBUS if it reached the file through a mapping.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use shm_layout::PAGE;
use spanwire::region::{CONFIG_FILE, STATS_FILE};

use crate::payload::Stamper;
use crate::process::{Place, Process};
use crate::{Random, count, until};

/// What befalls the file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Made this long, bytes.
    Resize(u64),
    /// Made this long and at once as long as it was: the content is gone.
    Hollow(u64),
    /// Its name is gone.
    Unlink,
    /// Another inode has its name.
    Replace(Other),
    /// Another content in the same inode, as `cp` makes it.
    Overwrite(Other),
    /// A symbolic link has its name.
    Link,
}

/// Something else than the region.
#[derive(Clone, Copy, Debug)]
enum Other {
    Nothing,
    Zeroes,
    Ones,
    /// A region that was in use before, with larger slots.
    Region,
}

impl Damage {
    const ALL: [Damage; 15] = [
        Damage::Resize(0),
        Damage::Resize(PAGE as u64),
        Damage::Resize((PAGE + 30_001) as u64),
        Damage::Resize((PAGE + 3 * 65_536 + 77) as u64),
        Damage::Resize(8 << 20),
        Damage::Hollow(0),
        Damage::Hollow(PAGE as u64),
        Damage::Unlink,
        Damage::Replace(Other::Nothing),
        Damage::Replace(Other::Ones),
        Damage::Replace(Other::Region),
        Damage::Overwrite(Other::Zeroes),
        Damage::Overwrite(Other::Ones),
        Damage::Overwrite(Other::Region),
        Damage::Link,
    ];

    /// The file may be gone or be a link from the time before: that is an error like any other.
    fn befall(self, path: &Path, region: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("other");
        let content = |other| match other {
            Other::Nothing => Vec::new(),
            Other::Zeroes => vec![0; region.len()],
            Other::Ones => vec![0xff; region.len()],
            Other::Region => region.to_vec(),
        };
        match self {
            Damage::Resize(len) => OpenOptions::new().write(true).open(path)?.set_len(len),
            Damage::Hollow(len) => {
                let file = OpenOptions::new().write(true).open(path)?;
                let was = file.metadata()?.len();
                file.set_len(len)?;
                file.set_len(was)
            }
            Damage::Unlink => fs::remove_file(path),
            Damage::Replace(other) => {
                fs::write(&beside, content(other))?;
                fs::rename(&beside, path)
            }
            Damage::Overwrite(other) => fs::write(path, content(other)),
            Damage::Link => {
                symlink("nowhere", &beside)?;
                fs::rename(&beside, path)
            }
        }
    }
}

fn neither_side_dies(name: &'static str) {
    let place = Place::new(name);
    let path = place.path();
    let mut stamper = Stamper::default();
    // A region as another time left it: larger slots, generations far ahead, and the same words.
    let old = Place::new(name);
    old.publisher().publish(stamper.image(5 | crate::payload::LARGE)).expect("published");
    let region = fs::read(old.path()).expect("readable");

    let mut publisher = Process::start("publish", &place, "");
    let mut readers = [Process::start("read", &place, ""), Process::start("read", &place, "wait")];
    until("the first publish", Duration::from_secs(60), || (publisher.status().count > 0).then_some(()));

    let mut random = Random::new();
    let (mut befell, rounds) = (0, count(400, 5000));
    for round in 0..rounds {
        random.sleep(Duration::from_millis(2));
        let damage = Damage::ALL[round as usize % Damage::ALL.len()];
        befell += u64::from(damage.befall(&path, &region).is_ok());
        assert!(publisher.is_alive(), "the publisher died of {damage:?}");
        assert!(readers.iter_mut().all(Process::is_alive), "a reader died of {damage:?}");
        // Each kind of damage is also healed on its own, not only by the next one.
        if round % 7 == 0 {
            let now = publisher.status().newest;
            until(&format!("a publish after {damage:?}"), Duration::from_secs(60), || {
                (publisher.status().newest > now + 1).then_some(())
            });
            for reader in &mut readers {
                until(&format!("a read after {damage:?}"), Duration::from_secs(60), || {
                    (reader.status().newest > now + 1).then_some(())
                });
            }
        }
    }
    let published = publisher.status();
    let read = readers.each_mut().map(|reader| reader.status());
    println!("{name}: {befell} of {rounds} damages, publisher {published:?}, readers {read:?}");
    assert!(befell > rounds / 2 && read[0].errors > 0, "the damage was hardly noticed");
}

#[test]
fn config_truncated_and_replaced_under_both_sides() {
    neither_side_dies(CONFIG_FILE);
}

#[test]
fn stats_truncated_and_replaced_under_both_sides() {
    neither_side_dies(STATS_FILE);
}

#[test]
fn a_damage_between_two_publishes_takes_no_generation_back() {
    let place = Place::new(CONFIG_FILE);
    let old = Place::new(CONFIG_FILE);
    let mut stamper = Stamper::default();
    old.publisher().publish(stamper.image(5 | crate::payload::LARGE)).expect("published");
    let region = fs::read(old.path()).expect("readable");
    let mut publisher = place.publisher();
    let mut last = publisher.publish(stamper.image(1)).expect("published");
    for (round, damage) in Damage::ALL.into_iter().chain(Damage::ALL).enumerate() {
        damage.befall(&place.path(), &region).expect("the file is there");
        let generation = publisher.publish(stamper.image(round as u64)).unwrap_or_else(|e| panic!("{damage:?}: {e}"));
        assert!(generation > last && generation < last + 8, "{generation} after {last}, {damage:?}");
        last = generation;
    }
}

/// `active` alone is under no checksum.
#[test]
fn a_damaged_active_word_is_survived_by_the_writer_and_by_the_next_one() {
    use std::os::unix::fs::FileExt;
    let place = Place::new(CONFIG_FILE);
    let mut stamper = Stamper::default();
    let damage = |value: u64| {
        let at = shm_layout::header::ACTIVE * shm_layout::WORD;
        let file = OpenOptions::new().write(true).open(place.path()).expect("there");
        file.write_all_at(&value.to_ne_bytes(), at as u64).expect("writable");
    };
    for value in [u64::MAX, u64::MAX - 1, 1 << 60] {
        let mut publisher = place.publisher();
        let before = publisher.publish(stamper.image(1)).expect("published");
        damage(value);
        assert!(publisher.publish(stamper.image(2)).expect("published") > before);
        damage(value);
        drop(publisher);
        place.publisher().publish(stamper.image(3)).expect("published by the next writer");
    }
}
