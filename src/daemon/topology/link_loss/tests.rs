//! Ports on cables that behave as those of veth do: each has a carrier where both its ends are up. On slow hardware, some
//! time later.

use super::super::sighting::Mac;
use super::*;

const P: u32 = 11;
const Q: u32 = 12;

/// One port, and the far end of its cable.
#[derive(Clone, Debug)]
struct Cable {
    ifindex: u32,
    enabled: bool,
    far_enabled: bool,
    is_there: bool,
    /// Since when both are up.
    since: Option<Instant>,
}

/// Two ports, who forwards between them, and the time.
struct World {
    dir: tempfile::TempDir,
    forwarding: LinkLoss,
    cables: [Cable; 2],
    /// Whether they are a wire that forwards; `None` before the first snapshot.
    wired: Option<bool>,
    gone: Vec<Gone>,
    now: Instant,
    /// How long a link takes to come up.
    training: Duration,
    /// What the kernel answers to changes; 0 does them.
    errno: i32,
    changes: Vec<(u32, bool)>,
    taken_down: Vec<(u32, u32)>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let cable = |ifindex| Cable {
            ifindex,
            enabled: true,
            far_enabled: true,
            is_there: true,
            since: Some(now - 2 * TRAINING),
        };
        World {
            forwarding: LinkLoss::open(dir.path()),
            dir,
            cables: [cable(P), cable(Q)],
            wired: Some(true),
            gone: Vec::new(),
            now,
            training: Duration::ZERO,
            errno: 0,
            changes: Vec::new(),
            taken_down: Vec::new(),
        }
    }

    /// Another run after this one was killed, which knows its pairs at once.
    fn restart(&mut self) {
        self.forwarding = LinkLoss::open(self.dir.path());
    }

    fn at(&mut self, ifindex: u32) -> &mut Cable {
        self.cables.iter_mut().find(|cable| cable.ifindex == ifindex).unwrap()
    }

    fn far(&mut self, ifindex: u32, up: bool) {
        self.at(ifindex).far_enabled = up;
        self.turn();
    }

    fn own(&mut self, ifindex: u32, up: bool) {
        self.at(ifindex).enabled = up;
        self.turn();
    }

    /// Takes note of which links come up from now on.
    fn turn(&mut self) {
        for cable in &mut self.cables {
            let both = cable.enabled && cable.far_enabled && cable.is_there;
            cable.since = if both { cable.since.or(Some(self.now)) } else { None };
        }
    }

    fn has_carrier(&self, cable: &Cable) -> bool {
        cable.since.is_some_and(|since| self.now - since >= self.training)
    }

    fn devices(&self) -> Vec<Device> {
        let there = self.cables.iter().filter(|cable| cable.is_there);
        let device = |cable: &Cable| {
            let (ifindex, carrier) = (cable.ifindex, self.has_carrier(cable));
            Device { ifindex, name: name(ifindex), enabled: cable.enabled, carrier, ..Device::default() }
        };
        there.map(device).collect()
    }

    fn look(&mut self) {
        let end = |cable: &Cable| End {
            port: cable.ifindex,
            device: cable.is_there.then(|| Sighting {
                ifindex: cable.ifindex,
                name: name(cable.ifindex),
                mac: Mac::new([2; 6]),
                driver: "veth".to_owned(),
            }),
        };
        let pairs = self.wired.map(|wired| if wired { vec![self.cables.each_ref().map(end)] } else { Vec::new() });
        let (devices, gone, errno) = (self.devices(), std::mem::take(&mut self.gone), self.errno);
        let (cables, changes) = (&mut self.cables, &mut self.changes);
        let mut enable = |ifindex: u32, up: bool| {
            changes.push((ifindex, up));
            if errno != 0 {
                return Err(io::Error::from_raw_os_error(errno));
            }
            cables.iter_mut().find(|cable| cable.ifindex == ifindex).unwrap().enabled = up;
            Ok(())
        };
        let look = Look { at: self.now, ..Look::of(&devices, &gone) };
        self.taken_down = self.forwarding.step(pairs.as_deref(), &look, &mut enable);
        self.turn();
    }

    /// Looks for some time, four times a second as the follower does at least. How often something was changed.
    fn run(&mut self, time: Duration) -> usize {
        let (end, before) = (self.now + time, self.changes.len());
        while self.now < end {
            self.look();
            self.now += Duration::from_millis(250);
        }
        self.look();
        self.changes.len() - before
    }

    fn settle(&mut self) -> usize {
        self.run(Duration::from_secs(2))
    }

    fn enabled(&self) -> [bool; 2] {
        self.cables.each_ref().map(|cable| cable.enabled)
    }

    /// Whether each far end has a link.
    fn far_ends(&self) -> [bool; 2] {
        self.cables.each_ref().map(|cable| self.has_carrier(cable))
    }

    fn on_record(&self) -> Vec<u32> {
        TakenRecord::open(self.dir.path()).all().iter().map(|taken| taken.device.ifindex).collect()
    }
}

fn name(ifindex: u32) -> String {
    format!("eth{ifindex}")
}

/// Each port and the other one.
const EACH_WAY: [(u32, u32); 2] = [(P, Q), (Q, P)];

#[test]
fn a_loss_is_forwarded_and_so_is_the_return() {
    for (lost, other) in EACH_WAY {
        let mut world = World::new();
        assert_eq!(world.settle(), 0);
        for _ in 0..3 {
            world.far(lost, false);
            world.look();
            assert_eq!(world.changes.last(), Some(&(other, false)), "at the first look");
            assert_eq!(world.settle(), 0);
            assert_eq!((world.far_ends(), &world.taken_down[..]), ([false; 2], &[(other, lost)][..]));
            assert_eq!(world.on_record(), [other]);
            world.far(lost, true);
            assert_eq!(world.settle(), 1);
            assert_eq!((world.far_ends(), world.taken_down.len(), world.on_record().len()), ([true; 2], 0, 0));
        }
    }
}

/// What the operator takes down, and what is not there, loses the link too: no frame crosses.
#[test]
fn whatever_keeps_frames_from_crossing_is_forwarded() {
    for (lost, other) in EACH_WAY {
        let mut world = World::new();
        world.settle();
        world.own(lost, false);
        assert_eq!(world.settle(), 1);
        assert_eq!(world.taken_down, [(other, lost)]);
        world.own(lost, true);
        assert_eq!(world.settle(), 1);
        assert_eq!(world.far_ends(), [true; 2]);

        world.at(lost).is_there = false;
        world.gone = vec![Gone { ifindex: lost, moved: false }];
        world.turn();
        assert_eq!(world.settle(), 1);
        assert_eq!((world.taken_down.clone(), world.far_ends()), (vec![(other, lost)], [false; 2]));
        world.at(lost).is_there = true;
        world.turn();
        assert_eq!(world.settle(), 1);
        assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]));
    }
}

#[test]
fn of_two_that_lose_their_links_at_once_none_is_taken_down_and_both_come_back() {
    for (first, second) in EACH_WAY {
        let mut world = World::new();
        world.settle();
        world.at(P).far_enabled = false;
        world.far(Q, false);
        assert_eq!(world.settle(), 0, "both far ends know already");
        // One far end is told that the other one is away still.
        world.far(first, true);
        assert_eq!(world.settle(), 1);
        assert_eq!((world.taken_down.clone(), world.far_ends()), (vec![(first, second)], [false; 2]));
        world.far(second, true);
        world.settle();
        assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]));
    }
}

/// The second is lost while it is taken down for the first.
#[test]
fn one_after_the_other_they_come_back_too() {
    for (first, second) in EACH_WAY {
        for wait in [0, 2, 30].map(Duration::from_secs) {
            let mut world = World::new();
            world.settle();
            world.far(first, false);
            world.settle();
            world.far(second, false);
            assert_eq!(world.settle(), 0);
            // The one comes back long before the other, or soon, or with it.
            world.far(first, true);
            world.run(wait);
            assert_eq!(world.far_ends()[usize::from(first == Q)], wait < TRAINING, "told after a while: {wait:?}");
            world.far(second, true);
            world.settle();
            assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]), "{wait:?}");
        }
    }
}

/// What was taken up has no carrier for a while: that is no loss.
#[test]
fn links_that_come_up_slowly_do_not_take_each_other_down() {
    for (lost, other) in EACH_WAY {
        let mut world = World::new();
        world.training = Duration::from_secs(3);
        assert_eq!(world.settle(), 0);
        world.far(lost, false);
        assert_eq!(world.run(Duration::from_secs(60)), 1);
        world.far(lost, true);
        assert_eq!(world.run(Duration::from_secs(60)), 1);
        assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]));
        // One that never finds a carrier has lost it, in the end.
        world.far(lost, false);
        world.settle();
        world.far(other, false);
        world.far(lost, true);
        world.run(2 * TRAINING);
        assert_eq!(world.taken_down, [(lost, other)]);
        world.far(other, true);
        world.run(2 * TRAINING);
        assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]));
    }
}

#[test]
fn what_somebody_else_takes_up_again_is_left_so_until_the_next_loss() {
    for (lost, other) in EACH_WAY {
        for killed in [false, true] {
            let mut world = World::new();
            world.settle();
            world.far(lost, false);
            world.settle();
            world.own(other, true);
            if killed {
                world.restart();
                world.wired = None;
                world.look();
                world.wired = Some(true);
            }
            assert_eq!(world.settle(), 0);
            assert_eq!((world.enabled(), world.on_record()), ([true; 2], vec![]));
            world.far(lost, true);
            world.settle();
            world.far(lost, false);
            assert_eq!(world.settle(), 1);
            assert_eq!(world.taken_down, [(other, lost)]);
        }
    }
}

/// That it was left so is of that wire.
#[test]
fn a_wire_that_forwards_anew_takes_down_what_was_left() {
    let mut world = World::new();
    world.settle();
    world.far(P, false);
    world.settle();
    world.own(Q, true);
    assert_eq!(world.settle(), 0);
    world.wired = Some(false);
    assert_eq!(world.settle(), 0);
    world.wired = Some(true);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.taken_down, [(Q, P)]);
}

#[test]
fn a_run_after_one_that_was_killed_goes_on_where_that_was() {
    for (lost, other) in EACH_WAY {
        for case in ["still lost", "back", "no wire", "no snapshot"] {
            let mut world = World::new();
            world.settle();
            world.far(lost, false);
            world.settle();
            world.far(lost, case != "still lost");
            world.restart();
            // Before the first snapshot nobody knows which ports are of a wire.
            world.wired = None;
            assert_eq!(world.settle(), 0, "{case}");
            if case == "no snapshot" {
                let mut up = Vec::new();
                let devices = world.devices();
                world.forwarding.end(&Look::of(&devices, &[]), &mut |ifindex, is| {
                    up.push((ifindex, is));
                    Ok(())
                });
                assert_eq!((up, world.on_record()), (vec![(other, true)], vec![]));
                continue;
            }
            world.wired = Some(case != "no wire");
            assert_eq!(world.settle(), usize::from(case != "still lost"), "{case}");
            assert_eq!(world.taken_down.len(), usize::from(case == "still lost"), "{case}");
            world.far(lost, true);
            world.settle();
            assert_eq!((world.far_ends(), world.on_record()), ([true; 2], vec![]), "{case}");
        }
    }
}

#[test]
fn a_wire_that_forwards_no_longer_leaves_nothing_down() {
    let mut world = World::new();
    world.settle();
    world.far(P, false);
    world.settle();
    world.wired = Some(false);
    assert_eq!(world.settle(), 1);
    assert_eq!((world.enabled(), world.far_ends(), world.on_record()), ([true; 2], [false, true], vec![]));
    // And one that does again begins anew.
    world.wired = Some(true);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.taken_down, [(Q, P)]);
}

/// A device that was made again in the place of one that is taken down is not that one.
#[test]
fn what_is_taken_down_and_goes_is_forgotten() {
    let mut world = World::new();
    world.settle();
    world.far(P, false);
    world.settle();
    world.gone = vec![Gone { ifindex: Q, moved: false }];
    assert_eq!(world.settle(), 0);
    assert_eq!((world.enabled(), world.on_record()), ([true, false], vec![]), "it is as its maker left it");
}

#[test]
fn a_link_that_flaps_is_followed_at_a_pace() {
    let mut world = World::new();
    world.settle();
    let start = world.changes.len();
    for round in 0..1000 {
        world.far(P, round % 2 == 1);
        world.look();
        world.now += Duration::from_millis(10);
    }
    let changes = world.changes.len() - start;
    assert!((50..=110).contains(&changes), "{changes} in ten seconds");
    world.settle();
    assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]));
}

#[test]
fn what_cannot_be_put_on_record_is_not_taken_down() {
    let mut world = World::new();
    world.settle();
    // The file's place is taken by a directory.
    std::fs::create_dir(world.dir.path().join("links.json")).unwrap();
    world.far(P, false);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.enabled(), [true; 2]);
    std::fs::remove_dir(world.dir.path().join("links.json")).unwrap();
    assert_eq!(world.settle(), 1);
    assert_eq!(world.on_record(), [Q]);
}

#[test]
fn what_the_kernel_refuses_is_tried_again_after_a_rest() {
    let mut world = World::new();
    world.settle();
    world.errno = libc::EPERM;
    world.far(P, false);
    let tries = world.run(Duration::from_secs(10));
    assert!((5..=11).contains(&tries), "{tries}");
    assert_eq!((world.taken_down.len(), world.on_record()), (0, vec![]));
    world.errno = 0;
    world.settle();
    assert_eq!(world.on_record(), [Q]);
    world.errno = libc::EBUSY;
    world.far(P, true);
    let tries = world.run(Duration::from_secs(10));
    assert!((5..=11).contains(&tries), "{tries}");
    assert_eq!(world.on_record(), [Q], "a later run takes it up, if not this one");
    world.errno = 0;
    world.settle();
    assert_eq!((world.far_ends(), world.on_record()), ([true; 2], vec![]));
}

/// Whatever happens in whatever order, once both far ends and both operators have them up, both links are.
#[test]
fn no_history_leaves_a_pair_down() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..100 {
        let mut world = World::new();
        world.training = Duration::from_millis(1000 * random(4));
        let mut history = Vec::new();
        for _ in 0..random(30) {
            let port = if random(2) == 0 { P } else { Q };
            let event = random(8);
            history.push((port, event));
            match event {
                0..=2 => world.far(port, false),
                3 | 4 => world.far(port, true),
                5 => world.own(port, random(2) == 0),
                6 => world.restart(),
                _ => world.wired = Some(random(3) > 0),
            }
            world.now += Duration::from_millis(50 * random(100));
            world.look();
        }
        world.wired = Some(true);
        [P, Q].into_iter().for_each(|port| world.far(port, true));
        // Those that an operator left down.
        let down: Vec<u32> = [P, Q].into_iter().filter(|&port| !world.at(port).enabled).collect();
        let own: Vec<u32> = down.into_iter().filter(|port| world.forwarding.record.get(*port).is_none()).collect();
        own.into_iter().for_each(|port| world.own(port, true));
        world.run(Duration::from_secs(60));
        assert_eq!((world.far_ends(), world.enabled()), ([true; 2], [true; 2]), "round {round}: {history:?}");
        assert_eq!(world.on_record(), [] as [u32; 0], "round {round}: {history:?}");
        assert_eq!(world.run(Duration::from_secs(60)), 0, "round {round}: {history:?}");
    }
}
