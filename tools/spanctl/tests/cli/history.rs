//! What was published is kept, and can be published again.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, has_keys};

fn document(generation: u64, rate: u32) -> String {
    let mirror = json!({"ingress_ifindex": 11, "output_ifindex": 22, "rate": rate});
    let wire = json!({"name": "w", "a_ifindex": 11, "b_ifindex": 12});
    json!({"version": 3, "generation": generation, "mirror_configs": [mirror], "wires": [wire]}).to_string()
}

fn rate(place: &Place) -> Value {
    place.run(&["export"]).code(0).json()["mirror_configs"][0]["rate"].clone()
}

#[test]
fn a_rollback_brings_link_loss_forwarding_back() {
    let place = Place::new();
    let forwarding = document(1, 1).replace(r#""b_ifindex":12"#, r#""b_ifindex":12,"link_loss_forwarding":true"#);
    let told = || place.run(&["export"]).code(0).json()["wires"][0]["link_loss_forwarding"].clone();
    for (text, want) in [(forwarding, json!(true)), (document(2, 1), Value::Null)] {
        place.feed(text.as_bytes(), &["import", "-"]).code(0);
        assert_eq!(told(), want);
    }
    place.run(&["rollback"]).code(0);
    assert_eq!(told(), json!(true));
}

#[test]
fn the_last_sixteen_are_kept_and_one_comes_back_as_a_new_generation() {
    let place = Place::new();
    assert_eq!(place.run(&["history"]).code(0).stdout, "nothing has been published yet\n");
    for n in 1..=20u32 {
        place.feed(document(1000 + u64::from(n), n).as_bytes(), &["import", "-"]).code(0);
    }
    let listed = place.run(&["history", "--json"]).code(0).json();
    let images = listed["images"].as_array().unwrap();
    assert_eq!(images.len(), 16);
    for (back, image) in images.iter().enumerate() {
        let keys = [
            "back",
            "generation",
            "active",
            "source_generation",
            "compiled_at",
            "digest",
            "mirrors",
            "wires",
            "problem",
        ];
        has_keys(image, &keys, &[]);
        assert_eq!(image["back"], back);
        assert_eq!(image["generation"], 20 - back);
        assert_eq!(image["source_generation"], 1020 - back);
        assert_eq!(image["active"], back == 0);
        assert_eq!((&image["mirrors"], &image["wires"], &image["problem"]), (&json!(1), &json!(1), &Value::Null));
        assert_eq!(image["digest"].as_str().unwrap().len(), 64);
    }

    let said = place.run(&["rollback"]).code(0).stdout;
    assert_eq!(said, "published generation 21: the snapshot of generation 19 again\n");
    assert_eq!(rate(&place), 19);
    let done = place.run(&["rollback", "10", "--json"]).code(0).json();
    has_keys(&done, &["accepted", "generation", "from_generation", "diagnostics", "reasons"], &[]);
    assert_eq!((&done["generation"], &done["from_generation"]), (&json!(22), &json!(11)));
    assert_eq!(rate(&place), 11);
    // The digest is that of the document it came from.
    let images = place.run(&["history", "--json"]).code(0).json();
    assert_eq!(images["images"][0]["digest"], images["images"][11]["digest"]);
}

#[test]
fn a_rollback_that_cannot_be_done_changes_nothing() {
    let place = Place::new();
    place.run(&["rollback"]).code(2);
    place.feed(document(1, 5).as_bytes(), &["import", "-"]).code(0);
    let refused = place.run(&["rollback", "7"]).code(2);
    assert!(refused.stderr.contains("1 images") && refused.stderr.contains('7'), "{refused:?}");
    place.feed(document(2, 6).as_bytes(), &["import", "-"]).code(0);
    // A damaged image is named, listed with its problem, and not published.
    let image = place.dir().join("history").join(format!("{:020}.img", 1));
    let mut bytes = fs::read(&image).unwrap();
    bytes[100] ^= 1;
    fs::write(&image, bytes).unwrap();
    let refused = place.run(&["rollback"]).code(2);
    assert!(refused.stderr.contains("00001.img") && refused.stderr.contains("checksum"), "{refused:?}");
    let listed = place.run(&["history", "--json"]).code(0).json();
    assert!(listed["images"][1]["problem"].as_str().unwrap().contains("checksum"));
    assert_eq!(rate(&place), 6);
}

#[test]
fn generations_go_on_after_the_region_is_lost() {
    let place = Place::new();
    for n in 1..=3 {
        place.feed(document(n, 1).as_bytes(), &["import", "-"]).code(0);
    }
    fs::remove_file(place.dir().join("config.shm")).unwrap();
    let said = place.feed(document(4, 1).as_bytes(), &["import", "-"]).code(0).stdout;
    assert!(said.starts_with("published generation 4:"), "{said}");
}

#[test]
fn a_history_that_cannot_be_written_is_a_warning() {
    let place = Place::new();
    fs::create_dir_all(place.dir()).unwrap();
    fs::write(place.dir().join("history"), "in the way").unwrap();
    let ran = place.feed(document(1, 1).as_bytes(), &["import", "-"]).code(0);
    assert!(ran.stdout.starts_with("published generation 1:"), "{ran:?}");
    assert!(ran.stderr.contains("not in the history") && ran.stderr.contains("not a directory"), "{ran:?}");
}

/// A file that has the name of the last generation there can be, and a pipe that nobody writes into: neither holds up
/// a publish, or ends them.
#[test]
fn strange_files_in_the_history_stop_nothing() {
    let place = Place::new();
    place.feed(document(1, 1).as_bytes(), &["import", "-"]).code(0);
    let history = place.dir().join("history");
    fs::write(history.join(format!("{:020}.img", u64::MAX)), "").unwrap();
    let pipe = history.join(format!("{:020}.img", u64::MAX - 1));
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for n in 2..=3 {
        place.feed(document(n, 1).as_bytes(), &["import", "-"]).code(0);
    }
    let listed = place.run(&["history", "--json"]).code(0).json();
    let generations: Vec<_> = listed["images"].as_array().unwrap().iter().map(|image| &image["generation"]).collect();
    assert_eq!(generations, [&json!(u64::MAX), &json!(3), &json!(2), &json!(1)]);
    assert!(listed["images"][0]["problem"].is_string());
}
