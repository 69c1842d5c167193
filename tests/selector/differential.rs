//! Frames of any tags and lengths, entries of any rates, over changes of the policy: the same frames are selected, and what
//! is told of them is right.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestCaseError, TestRunner};
use spanwire::kernel::abi::RECORD_LONGEST;
use spanwire::kernel::program::Hook;

use super::hooks::{Frame, QUEUES, SHORTEST, TC_LONGEST, Tag, XDP_LONGEST};
use super::rig::{MONITORS, Plan, Rig, SOURCES};
use super::{in_namespace, is_long};

/// Frames of up to so many bytes share a size of records.
const ROOMS: [usize; 10] = [64, 192, 448, 960, 1536, 4096, 9216, 16384, 32768, RECORD_LONGEST];

fn tag() -> impl Strategy<Value = Tag> {
    let id = prop_oneof![6 => select(vec![0, 1, 2, 3, 100, 4094, 4095]), 1 => 0u16..4096];
    (select(vec![0x8100, 0x88a8]), id, 0u16..16).prop_map(|(proto, id, priority)| (proto, priority << 12 | id))
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        40 => SHORTEST..200,
        20 => (select(&ROOMS[..7]), 0usize..5).prop_map(|(room, more)| room + more - 2),
        20 => 200usize..1600,
        10 => 1600usize..9300,
        1 => (select(ROOMS.to_vec()), 0usize..5).prop_map(|(room, more)| room + more - 2),
        1 => SHORTEST..XDP_LONGEST,
    ]
}

#[derive(Clone, Debug)]
struct Batch {
    hook: Hook,
    port: usize,
    processor: usize,
    frames: Vec<Frame>,
}

fn batch() -> impl Strategy<Value = Batch> {
    let hook = select(vec![Hook::Xdp, Hook::Tc]);
    (hook, 0usize..5, 0usize..8).prop_flat_map(|(hook, port, processor)| {
        // Most on the port with most entries.
        let port = port / 4;
        vec(frame(hook), 0..128).prop_map(move |frames| Batch { hook, port, processor, frames })
    })
}

fn frame(hook: Hook) -> impl Strategy<Value = Frame> {
    let queue = if hook == Hook::Xdp { 0..QUEUES } else { 0..0xffff };
    let tags = prop_oneof![2 => Just(vec![]), 4 => vec(tag(), 1), 1 => vec(tag(), 2)];
    let segments = option::weighted(0.1, (1u32..9000, 1u32..50));
    let first = option::weighted(0.2, 14usize..64);
    (len(), tags, option::weighted(0.3, tag()), queue, segments, first).prop_map(
        move |(len, tags, taken, queue, segments, first)| {
            let len = len.min(Frame::longest(hook));
            // One that is made longer loses them, and a longer one has no room for another buffer.
            let (segments, first) = (segments.filter(|_| len < 3000), first.filter(|_| len < 60_000));
            Frame { len, tags, taken, queue, segments, first }
        },
    )
}

/// What is changed of a plan, and the frames after it.
#[derive(Clone, Debug)]
struct Segment {
    entries: Vec<(usize, Option<(u32, u32)>)>,
    native: Option<u16>,
    /// Whether nothing is mirrored during the first batch.
    pause: bool,
    batches: Vec<Batch>,
}

fn segment() -> impl Strategy<Value = Segment> {
    let rate = select(vec![0, 1, 1, 2, 3, 7, 100, u32::MAX]);
    let entry = (0..SOURCES.len(), option::weighted(0.8, (rate, select(MONITORS.to_vec()))));
    let native = option::weighted(0.3, select(vec![0, 2, 100]));
    (vec(entry, 0..5), native, prop::bool::weighted(0.1), vec(batch(), 1..20))
        .prop_map(|(entries, native, pause, batches)| Segment { entries, native, pause, batches })
}

fn history(rig: &mut Rig, segments: &[Segment]) -> Result<(), TestCaseError> {
    rig.forget();
    let mut plan = Plan::default();
    for segment in segments {
        segment.entries.iter().for_each(|&(at, entry)| plan.entries[at] = entry);
        plan.native = segment.native.unwrap_or(plan.native);
        if segment.pause {
            rig.clear();
        } else {
            rig.put(&plan);
        }
        for batch in &segment.batches {
            rig.move_to(batch.processor);
            batch.frames.iter().try_for_each(|frame| rig.run(batch.hook, batch.port, frame))?;
            rig.audit()?;
            if segment.pause {
                rig.put(&plan);
            }
        }
    }
    Ok(())
}

#[test]
fn selects_what_the_classifier_and_the_sampler_select() {
    let least = if is_long() { 5_000_000 } else { 100_000 };
    // The quick generator: most of the time would go into the other.
    let runs = Runs { cases: 5, rng_algorithm: RngAlgorithm::XorShift, ..Runs::with_source_file(file!()) };
    in_namespace(|| {
        let rig = RefCell::new(Rig::new(1 << 18));
        while rig.borrow().count < least {
            // One that has run its cases runs no more.
            TestRunner::new(runs.clone())
                .run(&vec(segment(), 2..6), |segments| history(&mut rig.borrow_mut(), &segments))
                .unwrap_or_else(|e| panic!("{e}"));
        }
        println!("{} frames", rig.borrow().count);
    });
}

#[test]
fn every_length_is_mirrored_whole() {
    let step = if is_long() { 1 } else { 61 };
    in_namespace(|| {
        let mut rig = Rig::new(1 << 18);
        rig.put(&Plan::first_port(1));
        for (hook, longest) in [(Hook::Xdp, XDP_LONGEST), (Hook::Tc, TC_LONGEST)] {
            let all = (SHORTEST..3600).chain((3600..longest).step_by(step));
            let at_rooms = ROOMS.into_iter().flat_map(|room| room - 1..room + 2).filter(|&len| len <= longest);
            for len in all.chain(at_rooms).chain([65535, 65536, longest].into_iter().filter(|&len| len <= longest)) {
                rig.run(hook, 0, &Frame { len, ..Frame::default() }).unwrap_or_else(|e| panic!("{hook}: {len}: {e}"));
            }
        }
        rig.audit().unwrap();
    });
}
