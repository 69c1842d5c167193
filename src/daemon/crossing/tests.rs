use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use shm_layout::counters::{CROSSED_VALUES, Lost};

use super::meter::Down;
use super::*;
use crate::devices::drops::Drops;

const TC: Course = Course { hook: Hook::Tc, device: 1, across: 1, is_up: true };

fn rows() -> Arc<Rows<abi::Crossing>> {
    Arc::new(Rows::plain(2).unwrap())
}

fn cross(rows: &Rows<abi::Crossing>, frames: u64) {
    for at in 0..2 {
        let row = rows.get(at).unwrap();
        row.frames.fetch_add(frames, Relaxed);
        row.bytes.fetch_add(100 * frames, Relaxed);
    }
}

fn crossed(crossings: &Crossings) -> [u64; CROSSED_VALUES] {
    crossings.of(11).unwrap().read().crossed
}

#[test]
fn counts_stand_while_the_wire_is_wanted() {
    let mut crossings = Crossings::default();
    assert!(crossings.of(11).is_none());
    let all: Vec<_> = (0..4).map(|_| rows()).collect();
    for (n, rows) in all.iter().enumerate() {
        crossings.measure(11, 12, TC);
        crossings.carries(11, Arc::clone(rows), u64::from(n == 0) * 7);
        crossings.follow(11, 12, TC, rows);
        cross(rows, 10);
        crossings.rest(11);
    }
    // The last but one meets a frame more.
    cross(&all[2], 1);
    assert_eq!(crossed(&crossings), [82, 8200, 0, 7]);
    crossings.retain(|port| port == 11);
    assert_eq!(crossed(&crossings)[0], 82);
    crossings.retain(|_| false);
    assert!(crossings.of(11).is_none());
}

#[test]
fn they_begin_anew_with_another_wire_and_go_on_with_another_selector() {
    let mut crossings = Crossings::default();
    let (first, second) = (rows(), rows());
    crossings.measure(11, 12, TC);
    crossings.carries(11, Arc::clone(&first), 0);
    cross(&first, 5);
    // Exchanged behind its back; to another device.
    cross(&second, 1);
    crossings.follow(11, 12, Course { across: 0, ..TC }, &second);
    assert_eq!(crossed(&crossings)[0], 12);
    // To another port, by the same selector.
    crossings.follow(11, 13, TC, &second);
    assert_eq!(crossed(&crossings), [0; CROSSED_VALUES]);
    cross(&second, 3);
    assert_eq!(crossed(&crossings), [0; CROSSED_VALUES], "before a look at what is lost of them");
    crossings.rest(11);
    assert_eq!(crossed(&crossings), [6, 600, 0, 0]);
}

/// Counts by the devices' word, which is `then` to begin with.
fn metered(then: Drops, down: Option<Down>) -> Counts {
    Counts { course: Some(TC), meter: Meter::Tc { last: then, down }, ..Counts::default() }
}

fn dropped(sent: u64, device: u64) -> BTreeMap<u32, Drops> {
    BTreeMap::from([(1, Drops::of_device(sent, device)), (2, Drops::of_device(900, 900))])
}

#[test]
fn what_devices_drop_is_lost_while_they_are_looked_at() {
    let mut counts = metered(Drops::default(), None);
    assert_eq!(counts.asks(), Some(1));
    counts.take(50, &dropped(0, 5));
    counts.take(50, &dropped(0, 8));
    // The device has gone.
    counts.take(50, &BTreeMap::new());
    assert_eq!((counts.found[Lost::Device as usize], counts.untold()), (8, 0));
    counts.meter = Meter::None;
    counts.take(50, &dropped(0, 80));
    assert_eq!((counts.asks(), counts.found[Lost::Device as usize]), (None, 8));
}

#[test]
fn what_goes_to_a_port_that_is_down_is_lost_whether_or_not_the_kernel_tells() {
    let then = Drops::of_device(100, 7);
    let mut counts = metered(then.clone(), Some(Down::new(then, 40)));
    let mut look = |crossed, sent, device| {
        counts.take(crossed, &dropped(sent, device));
        (counts.found[Lost::Device as usize], counts.untold())
    };
    // The kernel tells of two: of the others nobody does.
    assert_eq!(look(40, 100, 7), (0, 0));
    assert_eq!(look(47, 100, 9), (2, 5));
    // It is up by now, and sends what had crossed by this look and more: what is known to be lost stays lost.
    assert_eq!(look(60, 112, 9), (2, 6));
    assert_eq!(look(70, 150, 9), (2, 6));
    counts.settle(70, &dropped(150, 9));
    assert_eq!((counts.found[Lost::Device as usize], counts.untold()), (8, 0));
}

#[test]
fn a_kernel_that_tells_of_every_frame_leaves_none_untold() {
    let then = Drops::of_device(100, 7);
    let mut counts = metered(then.clone(), Some(Down::new(then, 40)));
    for (crossed, device) in [(45, 12), (50, 30), (80, 47)] {
        counts.take(crossed, &dropped(100, device));
        assert_eq!((counts.found[Lost::Device as usize], counts.untold()), (device - 7, 0));
    }
}

/// Losses are found after the frames have crossed, and some after those were told of.
#[test]
fn what_was_sent_is_never_taken_back() {
    let rows = rows();
    let mut counts = metered(Drops::default(), None);
    counts.count_by(Arc::clone(&rows), [0; 3]);
    let crossing = Crossing(Mutex::new(counts));
    let mut before = 0;
    let mut told = || {
        let Reading { crossed: [crossed, ..], lost, .. } = crossing.read();
        let lost = lost.iter().sum();
        assert!(crossed - lost >= before, "sent {before}, and then {crossed} less {lost}");
        before = crossed - lost;
        (crossed, lost)
    };
    let look = |device| {
        let mut counts = crossing.counts();
        let crossed = counts.sent();
        counts.take(crossed[0], &dropped(0, device));
        counts.tell(crossed);
    };
    cross(&rows, 50);
    assert_eq!(told(), (0, 0));
    look(40);
    cross(&rows, 50);
    assert_eq!(told(), (100, 40));
    look(140);
    assert_eq!(told(), (200, 140));
    // It waited in a queue; then one of two others is lost, and the other one after the look.
    look(141);
    assert_eq!(told(), (200, 140));
    cross(&rows, 1);
    look(142);
    assert_eq!(told(), (202, 142));
    look(143);
    cross(&rows, 5);
    // Nobody looks any more, and in the end it is all told.
    let mut counts = crossing.counts();
    counts.settle(212, &dropped(0, 144));
    counts.meter = Meter::None;
    drop(counts);
    assert_eq!(told(), (212, 144));
}

#[test]
fn what_may_be_on_its_way_still_is_not_told_of() {
    let (rows, mut counts, start) = (rows(), Counts::default(), Instant::now());
    counts.count_by(Arc::clone(&rows), [0; 3]);
    let mut ripe = |after| {
        let [frames, ..] = counts.ripe(start + after);
        cross(&rows, 5);
        frames
    };
    assert_eq!([0, 1, 3, 9].map(|part| ripe(GRACE / 10 * part)), [0; 4]);
    // What there was at the start, and what there was then.
    assert_eq!([11, 12, 20, 21, 30].map(|part| ripe(GRACE / 10 * part)), [0, 0, 0, 40, 40]);
    assert_eq!(ripe(GRACE * 4), 70);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Cross(u64),
    Drop(u64),
    Look,
    /// Nobody can tell any more.
    Forget,
    /// Somebody can again.
    Measure,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..20).prop_map(Step::Cross),
        3 => (0u64..40).prop_map(Step::Drop),
        3 => Just(Step::Look),
        1 => Just(Step::Forget),
        1 => Just(Step::Measure),
    ]
}

proptest! {
    /// Neither while it is known what is lost, nor when that ends and begins again.
    #[test]
    fn no_total_goes_back(steps in prop::collection::vec(step(), 1..60)) {
        let (rows, mut device) = (rows(), 0);
        let mut counts = metered(Drops::default(), None);
        counts.count_by(Arc::clone(&rows), [0; 3]);
        let crossing = Crossing(Mutex::new(counts));
        let mut before = [0; 2];
        for step in steps {
            let mut counts = crossing.counts();
            let sent = counts.sent();
            match step {
                Step::Cross(frames) => cross(&rows, frames),
                Step::Drop(frames) => device += frames,
                Step::Look => {
                    counts.take(sent[0], &dropped(0, device));
                    let ripe = counts.ripe(Instant::now());
                    counts.tell(ripe);
                }
                Step::Forget => {
                    counts.settle(sent[0], &dropped(0, device));
                    (counts.meter, counts.unknown) = (Meter::None, "the devices do not say".to_owned());
                }
                Step::Measure => {
                    let last = Drops::of_device(0, device);
                    (counts.meter, counts.unknown) = (Meter::Tc { last, down: None }, String::new());
                }
            }
            drop(counts);
            let Reading { crossed: [frames, ..], lost, .. } = crossing.read();
            let lost = lost.iter().sum::<u64>();
            let now = [frames - lost, lost];
            prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "{before:?}, then {now:?}");
            before = now;
        }
    }
}
