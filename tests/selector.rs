//! The selector on both hooks, run by `BPF_PROG_TEST_RUN`. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use spanwire::kernel::ledger::Ledger;
use spanwire::kernel::maps::Maps;
use spanwire::kernel::program::{Hook, Instance, Selector};

#[test]
fn both_hooks_load() {
    let maps = Arc::new(Maps::create(1000, 1 << 16).unwrap());
    let ledger = Ledger::new(Arc::clone(&maps), 1000);
    ledger.reset(70).unwrap();
    let rings = maps.add_rings(0..maps.processors()).unwrap();
    for hook in [Hook::Xdp, Hook::Tc] {
        let selector = Selector::load(Instance { hook, port: 0, peer: 1 }, &maps).unwrap_or_else(|e| panic!("{e}"));
        println!("{hook}: {:?}", selector.run(&[0; 64], None));
    }
    assert!(rings.iter().all(|ring| !ring.has_news()));
}
