//! `role`: kept beside whatever is published.

use serde_json::json;
use spanwire::control::history::History;
use spanwire::control::writer::ConfigWriter;

use crate::support::{Fake, Place, SNAPSHOT, has_keys, publisher};

const KEYS: [&str; 7] = ["role", "armed", "generation", "changed", "adopted", "clones_left", "reasons"];

#[test]
fn before_the_first_snapshot_and_over_all_that_follow() {
    let place = Place::new();
    assert_eq!(place.run(&["role"]).code(0).stdout, "active\n");
    let ran = place.run(&["role", "active", "--json"]).code(0).json();
    has_keys(&ran, &KEYS, &[]);
    assert_eq!((&ran["changed"], &ran["generation"]), (&json!(false), &json!(0)), "it is so already");
    assert_eq!(place.published().0, 0, "and nothing is published for it");

    let ran = place.run(&["role", "standby"]).code(0);
    assert_eq!(ran.stdout, "role standby since generation 1; no dataplane is running, the next one begins with it\n");
    let place = place.with_snapshot();
    assert_eq!(place.run(&["role"]).code(0).stdout, "standby\n");
    let shown = place.run(&["show", "--json"]).code(0).json();
    assert_eq!((&shown["role"], &shown["source_generation"]), (&json!("standby"), &json!(42)));
    assert_eq!(shown["mirrors"][0]["reason"], "standby");
    assert!(place.run(&["show"]).code(0).stdout.contains("role standby"));

    // The snapshot is the same, in its old place of the history.
    let before = place.published();
    let ran = place.run(&["role", "active", "--json"]).code(0).json();
    assert_eq!((&ran["changed"], &ran["adopted"]), (&json!(true), &json!(null)));
    assert_eq!(place.published(), (before.0 + 1, before.1));
    assert_eq!(History::of(&place.dir()).generations().unwrap(), [1, before.0 + 1]);
    let again = place.run(&["role", "active", "--json"]).code(0).json();
    assert_eq!((&again["changed"], &again["generation"]), (&json!(false), &json!(before.0 + 1)));

    for wrong in [&["role", "master"][..], &["role", "--timeout", "1"]] {
        assert!(place.run(wrong).code(2).stderr.contains("--help"));
    }
}

#[test]
fn a_damaged_region_is_replaced_and_the_snapshot_kept() {
    let place = Place::new().with_snapshot();
    std::fs::write(place.dir().join("config.shm"), [7; 9000]).unwrap();
    let why = place.run(&["role"]).code(2).stderr;
    assert!(why.contains("spanctl import replaces config.shm"), "{why}");
    place.run(&["role", "standby"]).code(0);
    let (generation, document) = place.published();
    assert!(generation > 1 && document.contains("ge-0/0/0"), "{document}");
    assert_eq!(place.run(&["role"]).code(0).stdout, "standby\n");
}

/// Forwarding comes first: an empty snapshot would take the wires away.
#[test]
fn a_lost_snapshot_that_is_in_use_is_not_replaced_by_an_empty_one() {
    let place = Place::new().with_snapshot();
    Fake::of(&place).leave(&place);
    std::fs::remove_file(place.dir().join("config.shm")).unwrap();
    std::fs::remove_dir_all(place.dir().join("history")).unwrap();
    let why = place.run(&["role", "standby"]).code(2).stderr;
    assert!(why.contains("not there") && why.contains("spanctl import"), "{why}");
    assert_eq!(place.published().0, 0);
}

#[test]
fn it_is_done_when_every_shard_has_it() {
    let place = Place::new().with_snapshot();
    let mut fake = Fake::of(&place);
    // Its shards take nothing up.
    let late = fake.answering(&place, || place.run(&["role", "standby", "--json", "--timeout", "0.2"])).code(1);
    let document = late.json();
    assert_eq!((&document["role"], &document["adopted"]), (&json!("standby"), &json!(false)));
    assert!(late.stderr.contains("role standby is published, but generation 2 is not in use everywhere after 0.2 s"));
    assert!(late.stderr.contains("shard 0 at 1, shard 1 at 1"), "{late:?}");

    fake.adopted = vec![2; 2];
    // As it plays it, clones never leave: it waits as long as it may, and says so.
    let ran = fake.answering(&place, || place.run(&["role", "standby", "--json", "--timeout", "2"])).code(0);
    assert_eq!((&ran.json()["adopted"], &ran.json()["clones_left"]), (&json!(true), &json!(53)));
    assert!(ran.stderr.contains("warning: 53 clones from before"), "{ran:?}");
    // Those between its shards count as well, where it tells of them.
    for (on_the_way, left) in [(vec![0, 7], 7), (vec![0, 0], 0)] {
        fake.on_the_way = on_the_way;
        let ran = fake.answering(&place, || place.run(&["role", "standby", "--json", "--timeout", "2"])).code(0);
        assert_eq!(ran.json()["clones_left"], json!(left));
    }
    fake.adopted = vec![3; 2];
    let ran = fake.answering(&place, || place.run(&["role", "active"])).code(0);
    assert_eq!(ran.stdout, "role active since generation 3, in use on every shard\n");
}

/// Whoever holds the lock runs, though it may have said nothing yet, or nothing since it was asked: what its
/// predecessor said promises nothing.
#[test]
fn a_standby_that_nobody_confirms_is_no_success() {
    let place = Place::new().with_snapshot();
    let begun = publisher(&place);
    let late = place.run(&["role", "standby", "--json", "--timeout", "0.2"]).code(1);
    assert_eq!(late.json()["adopted"], false);
    assert!(late.stderr.contains("no shard has started"), "{late:?}");
    drop(begun);
    let hung = Fake { adopted: vec![9; 2], ..Fake::of(&place) }.publish(&place);
    let late = place.run(&["role", "standby", "--json", "--timeout", "0.2"]).code(1);
    assert_eq!((&late.json()["adopted"], &late.json()["changed"]), (&json!(false), &json!(false)));
    assert!(late.stderr.contains("does not answer"), "{late:?}");
    drop(hung);
    let ran = place.run(&["role", "standby", "--json"]).code(0);
    assert_eq!(ran.json()["adopted"], json!(null), "it has ended");
}

#[test]
fn a_disarmed_node_says_that_it_does_not_mirror() {
    let place = Place::new();
    place.feed(SNAPSHOT.as_bytes(), &["import", "-"]).code(0);
    ConfigWriter::open(&place.dir()).unwrap().restand(|standing| standing.with_armed(false)).unwrap();
    let ran = place.run(&["role"]).code(0);
    assert_eq!(ran.stdout, "active\n");
    assert!(ran.stderr.contains("disarmed"), "{ran:?}");
    // A change of role leaves that alone.
    let ran = place.run(&["role", "standby"]).code(0);
    assert!(ran.stderr.contains("disarmed"), "to be known before it becomes active: {ran:?}");
    assert_eq!(place.run(&["role", "--json"]).code(0).json()["armed"], false);
}
