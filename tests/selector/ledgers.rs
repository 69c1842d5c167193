//! What does not get into a ring is counted for what it is, and the ledger closes after every frame.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use spanwire::daemon::readers::Readers;
use spanwire::kernel::abi::RecordHead;
use spanwire::kernel::past::Past;
use spanwire::kernel::pins;
use spanwire::kernel::program::Hook;
use tempfile::TempDir;

use super::hooks::{Frame, Program, TC_SHOT, XDP_DROP};
use super::in_namespace;
use super::rig::{Plan, Rig, drain};

fn frame(len: usize) -> Frame {
    Frame { len, ..Frame::default() }
}

/// Longer than the smallest ring of any machine: pages have 64 KiB at most.
const LONG: usize = 60_000;

/// Bytes of the smallest ring there is.
fn smallest() -> u64 {
    rustix::param::page_size() as u64
}

#[test]
fn what_finds_no_room_is_counted_and_goes_on() {
    const HEADER: usize = 8;
    in_namespace(|| {
        let ring = smallest();
        // A ring is read when several times what it holds was passed.
        let filled = ring as usize / 200;
        let mut rig = Rig::new(ring as u32);
        rig.put(&Plan::first_port(1));
        let slot = rig.slots()[0];
        let at = rig.processor();
        let mut counted = rig.ledger.total(slot);
        let (mut used, mut handed_up) = (0u64, 0);
        for (n, len) in [60, 200, 60, 1000, 60, 448, 60].into_iter().cycle().take(25 * filled).enumerate() {
            let hook = if n % 2 == 0 { Hook::Xdp } else { Hook::Tc };
            rig.pass(hook, 0, &frame(len));
            let room = [64, 192, 448, 960, 1536].into_iter().find(|&room| len <= room).unwrap();
            let whole = (HEADER + size_of::<RecordHead>() + room) as u64;
            counted.observed += 1;
            counted.selected += 1;
            // The kernel never fills a ring to its last byte.
            if used + whole < ring {
                used += whole;
                handed_up += 1;
            } else {
                counted.ring_full += 1;
            }
            assert_eq!(rig.ledger.total(slot), counted);
            assert_eq!(counted.handed_up(), handed_up);
            // Room comes back only with what was read.
            if n % filled == filled - 1 {
                drain(&mut rig.rings[at]);
                used = 0;
            }
        }
        assert!(counted.ring_full > 0 && handed_up > 100, "{counted:?}");
        // One that is longer than the ring.
        rig.pass(Hook::Xdp, 0, &frame(LONG));
        counted.observed += 1;
        counted.selected += 1;
        counted.ring_full += 1;
        assert_eq!(rig.ledger.total(slot), counted);
    });
}

#[test]
fn what_is_longer_than_any_record_is_oversize_and_what_has_no_ring_finds_it_full() {
    in_namespace(|| {
        let mut rig = Rig::without_rings(1 << 18);
        rig.put(&Plan::first_port(2));
        let slot = rig.slots()[0];
        for (len, n) in [(60, 1u64), (60, 2), (70_000, 3), (70_000, 4), (60, 5)] {
            rig.pass(Hook::Xdp, 0, &frame(len));
            let total = rig.ledger.total(slot);
            assert_eq!((total.observed, total.selected), (n, n.div_ceil(2)));
            assert_eq!(total.ring_full + total.oversize, total.selected, "{total:?}");
            assert_eq!((total.oversize, total.handed_up()), (u64::from(n >= 3), 0));
        }
    });
}

/// As when it is plugged in: until somebody has looked, what is selected there finds no ring.
#[test]
fn a_processor_that_begins_to_run_gets_its_ring() {
    in_namespace(|| {
        let mut rig = Rig::without_rings(1 << 16);
        rig.put(&Plan::first_port(1));
        let slot = rig.slots()[0];
        let readers = Readers::new(rig.maps.processors(), &[0]);
        let mut running = Vec::new();
        assert!(readers.rings(&rig.maps, &running).is_empty());
        for nth in 0.. {
            rig.move_to(nth);
            let at = rig.processor() as u32;
            if running.contains(&at) {
                break;
            }
            rig.pass(Hook::Tc, 0, &frame(60));
            running.push(at);
            let mut rings = readers.rings(&rig.maps, &running);
            let [(0, ring)] = &mut rings[..] else { panic!("{rings:?}") };
            rig.pass(Hook::Tc, 0, &frame(60));
            let mut cursor = ring.position();
            assert!(ring.next(&mut cursor).is_some() && ring.next(&mut cursor).is_none());
            let counted = rig.ledger.read(slot, at);
            assert_eq!((counted.selected, counted.ring_full, counted.handed_up()), (2, 1, 1), "processor {at}");
            assert!(readers.rings(&rig.maps, &running).is_empty(), "it has one");
        }
    });
}

#[test]
fn a_frame_without_another_port_is_counted_too() {
    in_namespace(|| {
        let mut rig = Rig::new(1 << 16);
        rig.put(&Plan::first_port(1));
        let at = rig.processor();
        for (hook, drop) in [(Hook::Xdp, XDP_DROP), (Hook::Tc, TC_SHOT)] {
            let alone = Program::load(hook, 0, 0, &rig.maps);
            assert_eq!(alone.run(&frame(60)), drop);
            let row = alone.crossings.get(at).unwrap();
            let counted = [&row.frames, &row.bytes, &row.no_peer].map(|n| n.load(Relaxed));
            assert_eq!(counted, [0, 0, 1]);
        }
        assert_eq!(rig.ledger.total(rig.slots()[0]).handed_up(), 2, "it is mirrored all the same");
    });
}

/// Pins of a dataplane that are gone with this.
struct Pins(TempDir, PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        pins::remove(self.0.path(), &self.1);
    }
}

#[test]
fn a_later_run_ends_what_was_selected_by_nobody_and_tells_of_every_clone() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let folder = pins::folder(dir.path(), None).unwrap();
        let pins = Pins(dir, folder);
        let mut rig = Rig::without_rings(smallest() as u32);
        rig.maps.pin(&pins.1);
        rig.rings = rig.maps.add_rings(0..rig.maps.processors()).unwrap();
        rig.put(&Plan::first_port(1));
        let slot = rig.slots()[0];
        (0..smallest() / 80).for_each(|n| rig.pass(if n % 2 == 0 { Hook::Xdp } else { Hook::Tc }, 0, &frame(60)));
        rig.pass(Hook::Xdp, 0, &frame(LONG));

        let counted = rig.ledger.total(slot);
        let past = Past::end(&pins.1).unwrap();
        assert!(counted.ring_full > 1, "{counted:?}");
        assert_eq!(past, Past { unread: counted.handed_up(), lost: counted.ring_full });
        for hook in [Hook::Xdp, Hook::Tc] {
            rig.pass(hook, 0, &frame(60));
        }
        assert_eq!(rig.ledger.total(slot), counted, "nothing is selected any more");
    });
}
