//! Frames of any length that a link carries, and their clones, which lie in as many mirror frames as they need.

use spanwire_lab::exchange::{ExchangeSpec, Mirror, run};
use spanwire_lab::frame::MIN_FRAME;
use spanwire_lab::topology::LabSpec;
use spanwire_lab::traffic::Pace;

use crate::node::{A, B, MON, Node, check_ledgers, document, lab, mirror_of, port_of};

const FRAMES: u32 = 3000;

/// Both ways and at the monitor byte for byte, with one shard, and with two of which one lends the other its frames.
#[test]
fn jumbo_frames_are_mirrored_whole() {
    for cpus in ["1", "0,1"] {
        let lab = lab(LabSpec { mtu: 9000, ..LabSpec::default() });
        let node = Node::start(&lab, &["--cpus", cpus, "--mirror-frames", "4096"]);
        node.import(&document(&[(A, MON, 1), (B, MON, 1)]));
        node.wait_for_ports(&[A, B, MON]);
        let pace = Pace::per_second(5000);
        let both = ExchangeSpec::new(&lab, 4, FRAMES);
        let [mirror_a, mirror_b] = [1, 1].map(Mirror::new).map(Some);
        let spec = ExchangeSpec { lengths: MIN_FRAME..=9014, pace, mirror_a, mirror_b, ..both };
        let report = run(&lab, &spec, |_| ()).unwrap();
        assert!(report.holds, "{report}");
        let stats = node.settled_stats();
        check_ledgers(&stats);
        for ingress in [A, B] {
            let entry = mirror_of(&stats, ingress);
            assert_eq!(entry["mirrored_packets"], FRAMES, "{entry}");
            assert_eq!(entry["mirrored_segments"], 0, "{entry}");
        }
        assert_eq!(port_of(&stats, MON).unwrap()["tx_packets"], 2 * FRAMES);
        let said = node.json(&["show"])["diagnostics"].to_string();
        assert!(!said.contains("mirror_drops_oversize"), "{said}");
    }
}
