//! The selector on both hooks, tried by the kernel frame by frame (`BPF_PROG_TEST_RUN`), against the classifier and the
//! sampler of the shard path. Needs root.
//!
//! A trial run has its tags in the frame's bytes and no queue on tc, and takes one page there: `ahead.bpf.c` makes the rest.
//! The ordinary run takes the short form; `SPANWIRE_LONG=1` the long one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod differential;
mod hooks;
mod large;
mod ledgers;
mod rig;
mod swaps;

use spanwire_lab::netns::Namespace;

/// Runs `body` in a network namespace of its own that has the device that frames are redirected to.
fn in_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let namespace = Namespace::create("selector").unwrap();
    let (index, queues) = (hooks::PEER.to_string(), hooks::QUEUES.to_string());
    let device = ["link", "add", "peer", "index", &index, "numrxqueues", &queues, "numtxqueues", &queues];
    namespace.ip(&[&device[..], &["type", "veth", "peer", "name", "far"]].concat()).unwrap();
    namespace.enter(body).unwrap()
}

fn is_long() -> bool {
    std::env::var_os("SPANWIRE_LONG").is_some()
}
