//! Changes of the policy beside frames: each frame sees one generation, whole, and none an older one once the change is made;
//! and a reader that sleeps is woken.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spanwire::counters::Counted;
use spanwire::kernel::abi::RecordHead;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::kernel::rings::Ring;

use super::hooks::{Frame, PEER};
use super::rig::{MONITORS, PORTS, Plan, Rig, drain};
use super::{in_namespace, is_long};

/// Puts frames of the first port through both hooks for as long as `body` takes, on any processor; it is told how many.
fn beside_frames(rig: &mut Rig, body: impl FnOnce(&mut Rig, &AtomicU64)) {
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let selector = |hook| Selector::load(Instance { hook, port: 0, device: 0, peer: PEER }, &rig.maps).unwrap();
    let selectors = [Hook::Xdp, Hook::Tc].map(selector);
    rig.move_anywhere();
    thread::scope(|scope| {
        for selector in selectors {
            let (over, count) = (&over, &count);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    selector.time(&[0; 60], 100).unwrap();
                    count.fetch_add(100, Relaxed);
                }
            });
        }
        // Also where `body` panics: else nobody ever ends them.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _end = End(&over);
        body(rig, &count);
    });
}

/// Looks at all that is in the rings, and gives it back.
fn look(rings: &mut [Ring], mut at: impl FnMut(&RecordHead)) -> usize {
    let mut count = 0;
    for ring in rings {
        let mut cursor = ring.position();
        while let Some(read) = ring.next(&mut cursor) {
            at(&read.head);
            count += 1;
        }
        ring.release(cursor);
    }
    count
}

#[test]
fn a_frame_sees_one_generation_whole_and_no_older_one_once_it_is_in_force() {
    in_namespace(|| {
        let mut rig = Rig::new(1 << 18);
        beside_frames(&mut rig, |rig, _| {
            // By serial: what its records say.
            let mut wanted = Vec::from([(0, 0)]);
            for n in 0..if is_long() { 2000 } else { 60 } {
                let output = MONITORS[n % 2];
                let mut plan = Plan::default();
                plan.entries[0] = Some((1 + n as u32 % 3, output));
                // What lies before the entry in the bank differs too.
                plan.native = if n % 4 == 0 { 100 } else { 0 };
                plan.entries[4] = (n % 4 < 2).then_some((1, output));
                // Its frames are those without a tag.
                let takes = if plan.native == 100 { 1 } else { 0 };
                rig.put(&plan);
                wanted.push((rig.slots()[takes], output));
                let newest = rig.serial();
                let is_whole = |head: &RecordHead| wanted.get(head.serial as usize) == Some(&(head.slot, head.output));
                // What was in the rings when it was put in force.
                look(&mut rig.rings, |head| assert!(is_whole(head), "{head:?}: {wanted:?}"));
                let mut count = 0;
                while count < 50 {
                    count += look(&mut rig.rings, |head| {
                        assert!(is_whole(head), "{head:?}: {wanted:?}");
                        assert_eq!(head.serial, newest, "an older generation");
                    });
                }
            }
        });
    });
}

#[test]
fn without_a_policy_nothing_is_mirrored() {
    in_namespace(|| {
        let mut rig = Rig::new(1 << 18);
        beside_frames(&mut rig, |rig, count| {
            for _ in 0..10 {
                rig.put(&Plan::first_port(1));
                let slot = rig.slots()[0];
                while look(&mut rig.rings, |_| ()) == 0 {}
                rig.clear();
                let counted = rig.ledger.total(slot);
                rig.rings.iter_mut().for_each(drain);
                let before = count.load(Relaxed);
                while count.load(Relaxed) < before + 1000 {
                    thread::yield_now();
                }
                assert_eq!(rig.ledger.total(slot), counted);
                assert!(rig.rings.iter().all(|ring| !ring.has_news()));
            }
        });
    });
}

#[test]
fn who_lies_down_is_woken() {
    in_namespace(|| {
        let mut rig = Rig::new(1 << 16);
        rig.put(&Plan::first_port(1));
        let at = rig.processor();
        for round in 0..50u64 {
            let mut ring = rig.rings.remove(at);
            let reader = thread::spawn(move || {
                ring.lie_down();
                if !ring.has_news() {
                    // At its end it looks once more, and finds what it slept through.
                    let (begin, patience) = (Instant::now(), Duration::from_secs(30));
                    let waker = ring.waker().unwrap();
                    let mut bell = [PollFd::new(&waker, PollFlags::IN)];
                    let ready = poll(&mut bell, Some(&Timespec::try_from(patience).unwrap())).unwrap();
                    assert!(ready == 1 && begin.elapsed() < patience, "slept through it");
                }
                ring.rise();
                while ring.next(&mut ring.position()).is_none() {}
                drain(&mut ring);
                ring
            });
            // In some rounds it sleeps by then, in others it is about to.
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(round / 5));
            }
            rig.pass(if round % 4 < 2 { Hook::Xdp } else { Hook::Tc }, 0, &Frame { len: 60, ..Frame::default() });
            rig.rings.insert(at, reader.join().unwrap());
        }
    });
}

/// A selector may be on its port before the table that has it is in force, or while there is no memory for that.
#[test]
fn a_bank_from_before_a_port_was_says_nothing_of_it() {
    in_namespace(|| {
        let mut rig = Rig::new(1 << 18);
        // Where the second port's row would be there is a tap, which would send it on to a row of an index of VLANs.
        let mut plan = Plan::first_port(u32::MAX);
        plan.entries[4] = Some((1, MONITORS[1]));
        rig.put_for(&plan, &PORTS[..1]);
        for hook in [Hook::Xdp, Hook::Tc] {
            rig.run(hook, 1, &Frame { len: 60, ..Frame::default() }).unwrap();
        }
        assert_eq!(rig.ledger.total(0), Counted::default(), "of nobody");
        rig.audit().unwrap();
    });
}
