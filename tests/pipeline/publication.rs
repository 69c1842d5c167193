//! The way of a configuration as a whole: from its text through the builder, admission, the compiler, the writer and
//! a real region to the table a shard uses, and to the frames that it mirrors by it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use shm_layout::counters::Entry;
use shm_layout::header::RegionKind;
use shm_layout::record::PortRole;
use spanwire::control::compile::{Provenance, diagnostics};
use spanwire::control::json::{export, parse_links};
use spanwire::control::source::{Ports, read};
use spanwire::control::writer::publish;
use spanwire::control::{Admission, Links, Wire, state};
use spanwire::counters::Counted;
use spanwire::region::{CONFIG_FILE, Subscriber};
use spanwire::snapshot::adopter::{Adopter, Adoption};
use spanwire::snapshot::upstream::Upstream;
use tempfile::TempDir;

use super::rig::{A, B, MON, Rig, Spec, frame};

fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A shard, and the directory whose configuration it uses.
struct Node {
    dir: TempDir,
    rig: Rig,
    adopter: Adopter,
    links: Links,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::empty(Spec::default());
        for (ifindex, role) in [(A, PortRole::Wire), (B, PortRole::Wire), (MON, PortRole::Monitor)] {
            rig.add(ifindex, role);
        }
        let subscriber = Subscriber::new(dir.path(), CONFIG_FILE, RegionKind::Config);
        let adopter = Adopter::new(subscriber, rig.table(), vec![Arc::clone(&rig.block)]);
        let all = parse_links(&fixture("two-instances.interfaces.json")).unwrap();
        Node { dir, rig, adopter, links: Links { all, place: String::new() } }
    }

    /// What `commit` does, with the wire A-B where the document has none; the shard takes what comes of it.
    fn commit(&mut self, document: &[u8], omit: bool) -> Admission {
        let mut draft = read(document, Ports::Listed(&self.links), &[]).unwrap();
        if draft.snapshot.wires.is_empty() {
            draft.snapshot.wires.push(Wire { name: "w".into(), a_ifindex: A, b_ifindex: B, ..Wire::default() });
        }
        let links = Some(&self.links);
        let admission = if omit { draft.admit_or_omit(links) } else { draft.admit(links) };
        if admission.accepted() {
            let digest = Provenance::of(document).digest;
            let receipt = publish(self.dir.path(), &draft.snapshot, &admission, digest).unwrap();
            assert_eq!(self.adopter.poll(), Adoption::Adopted { generation: receipt.generation });
        } else {
            assert_eq!(self.adopter.poll(), Adoption::None);
        }
        self.rig.breathe();
        admission
    }

    /// The entries of the table the shard uses.
    fn table(&self) -> Vec<(u32, u32, u32)> {
        let table = self.rig.table().load();
        assert_eq!(self.rig.block.adopted_generation(), table.generation, "the shard uses it");
        table.entries.iter().map(|e| (e.key.ingress_ifindex, e.key.output_ifindex, e.key.rate)).collect()
    }

    /// Sends `n` frames into each port of the wire; how many left by the peers and by the monitor port.
    fn traffic(&mut self, n: u32) -> [usize; 3] {
        let mut left = [0; 3];
        for number in 0..n {
            assert!(self.rig.port(A).nic.receive(&frame(number, 100)));
            assert!(self.rig.port(B).nic.receive(&frame(number, 100)));
            self.rig.breathe();
            for (left, port) in left.iter_mut().zip([B, A, MON]) {
                *left += self.rig.sent(port).len();
            }
        }
        self.rig.breathe();
        left
    }

    fn generation(&self) -> u64 {
        state::published(self.dir.path()).unwrap().map_or(0, |published| published.generation)
    }
}

/// The table recorded beside a configuration.
fn recorded(name: &str) -> Vec<(u32, u32, u32)> {
    let list: serde_json::Value = serde_json::from_slice(&fixture(name)).unwrap();
    let at = |entry: &serde_json::Value, key: &str| entry[key].as_u64().unwrap() as u32;
    let entry = |e| (at(e, "ingress_ifindex"), at(e, "output_ifindex"), at(e, "rate"));
    list.as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn every_document_becomes_the_recorded_table_of_a_shard() {
    for name in ["two-instances", "set-syntax"] {
        for document in [format!("{name}.conf"), format!("{name}.snapshot.json")] {
            let mut node = Node::new();
            let admission = node.commit(&fixture(&document), false);
            assert!(admission.accepted(), "{document}: {:?}", admission.reasons);
            assert_eq!(node.table(), recorded(&format!("{name}.mirrors.json")), "{document}");
        }
    }
}

#[test]
fn frames_are_mirrored_as_the_text_says() {
    let mut node = Node::new();
    assert!(node.commit(&fixture("two-instances.conf"), false).accepted());
    // 1 in 100 of what A receives, all of what B receives.
    assert_eq!(node.traffic(200), [200, 200, 2 + 200]);
    assert_eq!(node.rig.ledger((A, MON, 100))[Entry::Selected as usize], 2);
    assert_eq!(node.rig.ledger((B, MON, 0))[Entry::MirroredPackets as usize], 200);
}

#[test]
fn a_refused_commit_leaves_the_table_and_its_counters() {
    let mut node = Node::new();
    let good = fixture("two-instances.conf");
    assert!(node.commit(&good, false).accepted());
    assert_eq!(node.traffic(150), [150, 150, 2 + 150]);
    let (generation, table) = (node.generation(), node.table());
    let ledgers = |node: &Node| [(A, MON, 100), (B, MON, 0)].map(|entry| node.rig.ledger(entry));
    let before = ledgers(&node);

    // One entry of the two is bad in two ways; and the one text that is ambiguous as a whole.
    let text = String::from_utf8(good).unwrap();
    let bad = text.replacen("interface ge-0/0/2.0;", "interface ge-0/0/0.0;", 1);
    let admission = node.commit(bad.as_bytes(), false);
    let reasons: Vec<&str> = admission.reasons.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:#?}");
    assert!(reasons[0].contains("own ingress") && reasons[1].contains("is a port of wires[0]"), "{reasons:#?}");
    assert!(!node.commit(&fixture("duplicate.conf"), false).accepted());
    assert_eq!((node.generation(), node.table()), (generation, table));
    assert_eq!(ledgers(&node), before);
    // The samplers go on where they were: the 50th frame from here is A's 200th.
    assert_eq!(node.traffic(51), [51, 51, 1 + 51]);
}

#[test]
fn an_ambiguous_table_is_an_empty_one_and_says_why() {
    let mut node = Node::new();
    assert!(node.commit(&fixture("two-instances.conf"), false).accepted());
    assert_eq!(node.traffic(10), [10, 10, 1 + 10]);
    let admission = node.commit(&fixture("duplicate.conf"), true);
    assert!(admission.accepted());
    assert_eq!(node.table(), []);
    assert_eq!(node.traffic(10), [10, 10, 0], "frames cross, none is mirrored");
    let published = state::published(node.dir.path()).unwrap().unwrap();
    let said = diagnostics(&published.view().unwrap());
    assert_eq!(said, admission.diagnostics);
    let want = "the mirror table is left out: instance \"b\" ingress \"ge-0-0-0\" (line 3 column 74): duplicate port-mirroring";
    assert!(said.iter().any(|d| d.message.starts_with(want)), "{said:#?}");
}

#[test]
fn an_export_is_the_same_configuration() {
    let mut node = Node::new();
    node.commit(&fixture("set-syntax.conf"), false);
    let table = node.table();
    let published = state::published(node.dir.path()).unwrap().unwrap();
    let document = export(&spanwire::control::compile::decompile(&published.view().unwrap()));
    assert!(node.commit(document.as_bytes(), false).accepted());
    assert_eq!((node.table(), node.generation()), (table, 2));
}

/// A selector of which a test says what it has counted.
#[derive(Debug, Default)]
struct Elsewhere {
    /// What the next ledger is short of.
    is_short: AtomicBool,
    reset: Mutex<Vec<u32>>,
    /// Clones handed up, the same in every slot.
    handed_up: AtomicU64,
    serial: AtomicU64,
}

impl Upstream for Elsewhere {
    fn reset(&self, slots: &[u32]) -> Result<(), String> {
        if self.is_short.load(Relaxed) {
            return Err("memory is short".to_owned());
        }
        self.reset.lock().unwrap().extend(slots);
        Ok(())
    }

    fn counted(&self, _slot: u32, shard: u32) -> Counted {
        assert_eq!(shard, 0);
        let selected = self.handed_up.load(Relaxed);
        Counted { observed: selected, selected, ..Counted::default() }
    }

    fn serial(&self) -> u64 {
        self.serial.load(Relaxed)
    }
}

impl Node {
    /// One for which frames are selected elsewhere.
    fn beside(elsewhere: &Arc<Elsewhere>) -> Node {
        let mut node = Node::new();
        node.adopter = node.adopter.with_upstream(Arc::clone(elsewhere) as Arc<dyn Upstream>);
        node
    }

    /// Slots of the entries in use.
    fn slots(&self) -> Vec<u32> {
        self.rig.table().load().entries.iter().map(|entry| entry.slot).collect()
    }
}

/// A configuration with another entry for each rate.
fn at_rate(rate: u32) -> Vec<u8> {
    String::from_utf8(fixture("two-instances.conf"))
        .unwrap()
        .replace("rate 100;", &format!("rate {rate};"))
        .into_bytes()
}

#[test]
fn a_slot_is_another_entrys_only_when_nothing_of_the_one_before_is_in_a_ring() {
    let elsewhere = Arc::new(Elsewhere::default());
    let mut node = Node::beside(&elsewhere);
    node.commit(&at_rate(2), false);
    let [left, _] = node.slots()[..] else { panic!("two entries") };
    assert_eq!(*elsewhere.reset.lock().unwrap(), node.slots(), "each ledger begins at zero there too");
    elsewhere.handed_up.store(3, Relaxed);
    let mut rate = 2;
    // Whether an entry that comes in its stead has its slot.
    let mut comes_free = |node: &mut Node| {
        let mut found = false;
        for _ in 0..2 {
            rate += 1;
            node.commit(&at_rate(rate), false);
            found |= node.slots().contains(&left);
        }
        found
    };
    assert!(!comes_free(&mut node), "three of its clones are in rings, and it is selected by");
    node.rig.block.entry(left).commit(|row| row.add(Entry::DropNoFrame, 3));
    assert!(!comes_free(&mut node), "it is still selected by");
    elsewhere.serial.store(u64::MAX, Relaxed);
    assert!(comes_free(&mut node));
}

#[test]
fn a_table_whose_ledgers_cannot_be_made_is_tried_again_and_told_once() {
    let elsewhere = Arc::new(Elsewhere { serial: AtomicU64::new(u64::MAX), ..Elsewhere::default() });
    let mut node = Node::beside(&elsewhere);
    node.commit(&at_rate(2), false);
    let before = node.table();
    elsewhere.is_short.store(true, Relaxed);
    let mut draft = read(&at_rate(3), Ports::Listed(&node.links), &[]).unwrap();
    draft.snapshot.wires.push(Wire { name: "w".into(), a_ifindex: A, b_ifindex: B, ..Wire::default() });
    let admission = draft.admit(Some(&node.links));
    publish(node.dir.path(), &draft.snapshot, &admission, Provenance::of(b"").digest).unwrap();
    assert_eq!(node.adopter.poll(), Adoption::Refused { reason: "memory is short".to_owned() });
    for _ in 0..3 {
        assert_eq!(node.adopter.poll(), Adoption::None);
    }
    node.rig.breathe();
    assert_eq!(node.table(), before);
    elsewhere.is_short.store(false, Relaxed);
    assert_eq!(node.adopter.poll(), Adoption::Adopted { generation: node.generation() });
    node.rig.breathe();
    assert_eq!(node.table()[0], (A, MON, 3));
}
