//! What a region, its directory and its file system must not be: each with an error that names the path and the
//! problem, and the last good snapshot still readable.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use shm_layout::header::RegionKind;
use spanwire::region::{CONFIG_FILE, Polled, Publisher, RegionError, Subscriber, is_held};

use crate::payload::{LARGE, Stamper, stamp};
use crate::process::{Place, Process, on_a_tmpfs};
use crate::until;

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

fn open(dir: &Path, patience: Duration) -> Result<Publisher, RegionError> {
    Publisher::open(dir, CONFIG_FILE, RegionKind::Config, patience)
}

/// Why there is no writer.
fn refused(dir: &Path) -> String {
    open(dir, Duration::from_millis(30)).map(|_| ()).expect_err("it must be refused").to_string()
}

/// Why there is nothing to read for who has not read before.
fn unreadable(dir: &Path) -> String {
    let mut subscriber = Subscriber::new(dir, CONFIG_FILE, RegionKind::Config);
    subscriber.poll().map(|_| ()).expect_err("it must be refused").to_string()
}

fn assert_says(text: &str, path: &Path, problem: &str) {
    assert!(text.contains(&path.display().to_string()) && text.contains(problem), "{text}");
}

/// The stamp of what is published.
fn newest(subscriber: &mut Subscriber) -> u64 {
    subscriber.forget();
    match subscriber.poll().expect("readable") {
        Polled::New { generation, words, .. } => stamp(words, generation).expect("whole"),
        Polled::Unchanged => panic!("nothing is published"),
    }
}

/// A region with one publish, and a reader that has read it.
fn published() -> (Place, Subscriber) {
    let place = Place::new(CONFIG_FILE);
    place.publisher().publish(Stamper::default().image(1)).expect("published");
    let mut subscriber = place.subscriber();
    assert_eq!(newest(&mut subscriber), 1);
    (place, subscriber)
}

/// A reader that has the region open keeps its last snapshot, and after the repair gets the next one.
fn repaired(place: &Place, mut subscriber: Subscriber) {
    assert_eq!(newest(&mut subscriber), 1, "last-good stays");
    place.publisher().publish(Stamper::default().image(2)).expect("published");
    assert_eq!(newest(&mut subscriber), 2);
}

#[test]
fn another_owner() {
    let (place, subscriber) = published();
    chown(place.path(), Some(NOBODY), None).expect("this test needs root");
    for text in [refused(place.dir.path()), unreadable(place.dir.path())] {
        assert_says(&text, &place.path(), "owned by uid 65534, want 0 or root");
    }
    chown(place.path(), Some(0), None).expect("this test needs root");
    repaired(&place, subscriber);
}

#[test]
fn another_mode() {
    let (place, subscriber) = published();
    for mode in [0o660, 0o606, 0o777] {
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).expect("the owner may");
        for text in [refused(place.dir.path()), unreadable(place.dir.path())] {
            assert_says(&text, &place.path(), &format!("mode {mode:04o} lets others than the owner write it"));
        }
    }
    fs::set_permissions(place.path(), Permissions::from_mode(0o600)).expect("the owner may");
    repaired(&place, subscriber);
}

#[test]
fn a_symbolic_link() {
    let (place, subscriber) = published();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::rename(place.path(), &elsewhere).expect("renamed");
    symlink(&elsewhere, place.path()).expect("linked");
    for text in [refused(place.dir.path()), unreadable(place.dir.path())] {
        assert_says(&text, &place.path(), "a symbolic link, want a regular file");
    }
    fs::rename(&elsewhere, place.path()).expect("renamed");
    repaired(&place, subscriber);
}

#[test]
fn something_that_is_no_file() {
    let (place, _) = published();
    fs::remove_file(place.path()).expect("removed");
    fs::create_dir(place.path()).expect("made");
    assert_says(&refused(place.dir.path()), &place.path(), "directory");
    assert_says(&unreadable(place.dir.path()), &place.path(), "not a regular file");
    fs::remove_dir(place.path()).expect("removed");
    let fifo = Command::new("mkfifo").args(["-m", "0640"]).arg(place.path()).status().expect("mkfifo");
    assert!(fifo.success());
    for text in [refused(place.dir.path()), unreadable(place.dir.path())] {
        assert_says(&text, &place.path(), "not a regular file");
    }
}

#[test]
fn a_directory_that_others_may_write_or_own_or_that_is_none() {
    let (place, subscriber) = published();
    let dir = place.dir.path();
    fs::set_permissions(dir, Permissions::from_mode(0o777)).expect("the owner may");
    for text in [refused(dir), unreadable(dir)] {
        assert_says(&text, dir, "mode 0777 lets others than the owner write it; want 0750");
    }
    fs::set_permissions(dir, Permissions::from_mode(0o750)).expect("the owner may");
    chown(dir, Some(NOBODY), None).expect("this test needs root");
    for text in [refused(dir), unreadable(dir)] {
        assert_says(&text, dir, "owned by uid 65534");
    }
    chown(dir, Some(0), None).expect("this test needs root");
    for text in [refused(&place.path()), unreadable(&place.path())] {
        assert_says(&text, &place.path(), "not a directory");
    }
    repaired(&place, subscriber);
}

/// Whoever may change a link says which directory it is. What leads to the directory may be links, as /var/run is.
#[test]
fn a_directory_that_is_a_link() {
    let (place, subscriber) = published();
    let outside = tempfile::tempdir().expect("a directory");
    let link = outside.path().join("link");
    symlink(place.dir.path(), &link).expect("linked");
    for name in ["link", "link/", "link/."] {
        let dir = outside.path().join(name);
        for text in [refused(&dir), unreadable(&dir)] {
            assert_says(&text, &link, "a symbolic link, want a directory");
        }
    }
    fs::remove_file(&link).expect("removed");
    symlink("nowhere", &link).expect("linked");
    assert_says(&refused(&link), &link, "a symbolic link, want a directory");
    fs::remove_file(&link).expect("removed");
    symlink(place.dir.path().parent().expect("of /dev/shm"), &link).expect("linked");
    let through = link.join(place.dir.path().file_name().expect("named"));
    assert_eq!(newest(&mut Subscriber::new(&through, CONFIG_FILE, RegionKind::Config)), 1);
    drop(open(&through, Duration::from_secs(60)).expect("the same directory"));
    repaired(&place, subscriber);
}

/// Who may read a lock file may lock it against its writer, by a descriptor that cannot write.
#[test]
fn nobody_else_can_hold_the_lock() {
    let (place, _subscriber) = published();
    let lock = place.dir.path().join("config.shm.lock");
    let mode = || fs::metadata(&lock).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    // As an earlier release made it.
    fs::set_permissions(&lock, Permissions::from_mode(0o640)).expect("the owner may");
    drop(place.publisher());
    assert_eq!(mode(), 0o600);
    // A member of the group, which may read the regions.
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o750)).expect("the owner may");
    let as_member = |file: &Path| {
        let mut command = Command::new("flock");
        command.args(["--shared", "--nonblock"]).arg(file).arg("true").uid(NOBODY).gid(0).stderr(Stdio::null());
        command.status().expect("flock").success()
    };
    assert!(as_member(&place.path()), "the test is of a member that reaches the directory");
    assert!(!as_member(&lock));
}

#[test]
fn a_lock_file_that_is_a_link_or_belongs_to_another() {
    let (place, subscriber) = published();
    let lock = place.dir.path().join("config.shm.lock");
    chown(&lock, Some(NOBODY), None).expect("this test needs root");
    assert_says(&refused(place.dir.path()), &lock, "owned by uid 65534");
    fs::remove_file(&lock).expect("removed");
    symlink("nowhere", &lock).expect("linked");
    assert_says(&refused(place.dir.path()), &lock, "a symbolic link");
    fs::remove_file(&lock).expect("removed");
    repaired(&place, subscriber);
}

#[test]
fn a_region_of_the_other_kind() {
    let (place, _) = published();
    let mut reader = Subscriber::new(place.dir.path(), CONFIG_FILE, RegionKind::Stats);
    let text = reader.poll().map(|_| ()).expect_err("it is a config region").to_string();
    assert_says(&text, &place.path(), "header.kind is 1");
}

#[test]
fn two_writers_at_once() {
    let (place, subscriber) = published();
    let lock = place.dir.path().join("config.shm.lock");
    {
        let _first = place.publisher();
        assert_says(&refused(place.dir.path()), &lock, "another writer holds the lock");
        assert_says(&refused(place.dir.path()), &lock, &format!("last written by process {}", std::process::id()));
    }
    let mut other = Process::start("publish", &place, "strict");
    until("a publish", Duration::from_secs(60), || (other.status().count > 0).then_some(()));
    assert_says(&refused(place.dir.path()), &lock, "another writer holds the lock");
    assert!(other.is_alive());
    other.kill();
    // The kernel gives the lock of a dead writer back at once.
    let next = place.next();
    assert_eq!(place.publisher().publish(Stamper::default().image(next)).expect("published"), next);
    drop(subscriber);
}

/// Readers tell by the lock whether its writer lives, so it has to be there under its name. A process that another test
/// starts just now has a copy of the lock's descriptor for a moment, so what follows from its end is waited for.
#[test]
fn a_lock_that_lost_its_name_is_taken_again() {
    let (place, _subscriber) = published();
    let (dir, lock) = (place.dir.path(), place.dir.path().join("config.shm.lock"));
    let patience = Duration::from_secs(60);
    let let_go = || (is_held(dir, CONFIG_FILE) == Some(false)).then_some(());
    until("the end of its writer", patience, let_go);
    let mut publisher = place.publisher();
    assert_eq!(is_held(dir, CONFIG_FILE), Some(true));
    fs::remove_file(&lock).expect("removed");
    assert_eq!(is_held(dir, CONFIG_FILE), None, "nothing to be told by");
    publisher.publish(Stamper::default().image(place.next())).expect("published");
    assert_eq!(is_held(dir, CONFIG_FILE), Some(true));
    assert_says(&refused(dir), &lock, "another writer holds the lock");
    // Somebody else took the name: there are not two writers.
    fs::remove_file(&lock).expect("removed");
    let other = place.publisher();
    let error = publisher.publish(Stamper::default().image(place.next())).expect_err("the other has the lock");
    assert_says(&error.to_string(), &lock, "another writer holds the lock");
    drop(other);
    until("the only one again", patience, || publisher.publish(Stamper::default().image(place.next())).ok());
    drop(publisher);
    until("the end of the last writer", patience, let_go);
}

#[test]
fn a_full_file_system() {
    on_a_tmpfs("full", "size=400k");
}

/// In a process on a tmpfs that one region fits, and no larger one.
pub fn on_a_full_file_system(dir: &Path) {
    const FULL: &str = "No space left on device";
    let mut stamper = Stamper::default();
    let mut publisher = open(dir, Duration::ZERO).expect("the only writer");
    let mut subscriber = Subscriber::new(dir, CONFIG_FILE, RegionKind::Config);
    for stamp in 1..=3 {
        publisher.publish(stamper.image(stamp)).expect("published");
    }
    let files = || fs::read_dir(dir).expect("there").count();
    let before = files();

    // No room to grow.
    let error = publisher.publish(stamper.image(4 | LARGE)).expect_err("no room for a larger one").to_string();
    assert_says(&error, dir, FULL);
    assert_eq!(newest(&mut subscriber), 3, "last-good stays");
    assert_eq!(files(), before, "nothing is left behind");
    assert_eq!(publisher.publish(stamper.image(4)).expect("there is room for this one"), 4);

    // No room for any byte more: a region that is there needs none.
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 400 << 10]).expect_err("full");
    assert_eq!(publisher.publish(stamper.image(5)).expect("its blocks are its own"), 5);
    assert_eq!(newest(&mut subscriber), 5);

    // The region is lost, and there is no room for another.
    fs::copy(dir.join(CONFIG_FILE), "/dev/null").expect("readable");
    fs::remove_file(dir.join(CONFIG_FILE)).expect("removed");
    let error = publisher.publish(stamper.image(6)).expect_err("no room").to_string();
    assert_says(&error, dir, FULL);
    assert!(subscriber.poll().is_err(), "lost");
    fs::remove_file(&filler).expect("removed");
    assert_eq!(publisher.publish(stamper.image(7)).expect("there is room again"), 6);
    assert_eq!(newest(&mut subscriber), 7);
}

#[test]
fn a_read_only_file_system() {
    on_a_tmpfs("read-only", "size=4m");
}

/// In a process on a tmpfs of its own, which it makes read-only.
pub fn on_a_read_only_file_system(dir: &Path) {
    const READ_ONLY: &str = "Read-only file system";
    let remount = |options| {
        let done = Command::new("mount").args(["-o", options]).arg(dir).status().expect("mount");
        assert!(done.success());
    };
    let mut stamper = Stamper::default();
    let mut subscriber = Subscriber::new(dir, CONFIG_FILE, RegionKind::Config);
    open(dir, Duration::ZERO).expect("the only writer").publish(stamper.image(1)).expect("published");
    assert_eq!(newest(&mut subscriber), 1);
    remount("remount,ro");
    assert_says(&refused(dir), dir, READ_ONLY);
    assert_eq!(newest(&mut subscriber), 1, "last-good stays");
    assert_eq!(newest(&mut Subscriber::new(dir, CONFIG_FILE, RegionKind::Config)), 1, "and is there for others");
    remount("remount,rw");
    assert_eq!(open(dir, Duration::ZERO).expect("writable").publish(stamper.image(2)).expect("published"), 2);
    assert_eq!(newest(&mut subscriber), 2);

    // A directory that cannot be made.
    fs::remove_dir_all(dir.join("sub")).ok();
    remount("remount,ro");
    assert_says(&refused(&dir.join("sub")), &dir.join("sub"), READ_ONLY);
}
