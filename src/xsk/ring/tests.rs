#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Push(u64),
    Submit,
    Pop,
    Release,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => any::<u64>().prop_map(Op::Push),
        2 => Just(Op::Submit),
        4 => Just(Op::Pop),
        2 => Just(Op::Release),
    ];
    prop::collection::vec(op, 1..400)
}

proptest! {
    /// The ring against a queue: what is pushed and submitted comes out once, in order; a place is free
    /// again only once released; whatever the indices start at.
    #[test]
    fn behaves_as_a_bounded_queue(ops in ops(), order in 0u32..5, back in 0u32..64) {
        let size = 1 << order;
        let (mut producer, mut consumer) = plain_ring::<u64>(size, u32::MAX - back).unwrap();
        let (mut pushed, mut visible) = (VecDeque::new(), VecDeque::new());
        let mut popped = 0;
        for op in ops {
            match op {
                Op::Push(v) => {
                    let used = pushed.len() + visible.len() + popped;
                    let fits = used < size as usize;
                    prop_assert_eq!(producer.push(v).is_ok(), fits);
                    if fits {
                        pushed.push_back(v);
                    }
                }
                Op::Submit => {
                    producer.submit();
                    visible.append(&mut pushed);
                }
                Op::Pop => {
                    let want = visible.pop_front();
                    prop_assert_eq!(consumer.pop(), want);
                    popped += usize::from(want.is_some());
                }
                Op::Release => {
                    consumer.release();
                    popped = 0;
                }
            }
            prop_assert_eq!(producer.pending() as usize, pushed.len() + visible.len() + popped);
        }
    }
}

#[test]
fn two_threads_pass_every_value_over_the_wrap() {
    let (mut producer, mut consumer) = plain_ring::<u64>(64, u32::MAX - 1000).unwrap();
    let count = 200_000u64;
    let sender = std::thread::spawn(move || {
        let mut value = 0;
        while value < count {
            while value < count && producer.push(value).is_ok() {
                value += 1;
            }
            producer.submit();
            std::thread::yield_now();
        }
    });
    let mut expected = 0;
    while expected < count {
        while let Some(value) = consumer.pop() {
            assert_eq!(value, expected);
            expected += 1;
        }
        consumer.release();
        std::thread::yield_now();
    }
    sender.join().unwrap();
    assert_eq!(consumer.pop(), None);
}

#[test]
fn impossible_indices_count_as_nothing() {
    let (producer, mut consumer) = plain_ring::<u64>(8, 5).unwrap();
    producer.raw.producer().store(5 + 9, Release);
    assert_eq!(consumer.acquire(8), 0);
    assert_eq!(consumer.pop(), None);
    let (mut producer, consumer) = plain_ring::<u64>(8, 5).unwrap();
    consumer.raw.consumer().store(6, Release);
    // More than the ring has: the producer must look at the other side.
    assert_eq!(producer.acquire(9), 0);
    assert_eq!(producer.push(1), Err(1));
}

#[test]
fn a_size_that_is_no_power_of_two_is_refused() {
    assert!(plain_ring::<u64>(12, 0).is_err());
    assert!(plain_ring::<Desc>(0, 0).is_err());
}
