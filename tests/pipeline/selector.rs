//! The kernel's selector without a kernel: it classifies, samples, counts, and puts records into a clone ring.

use std::collections::HashMap;

use spanwire::classify::classify;
use spanwire::counters::Counted;
use spanwire::kernel::abi::{RECORD_SUPER, RECORD_TAGGED, RecordHead};
use spanwire::kernel::rings::{Ring, plain_ring};
use spanwire::kernel::writer::Writer;
use spanwire::segment::Segments;
use spanwire::shard::mirror::Sampler;
use spanwire::snapshot::table::Table;

/// A frame as a port receives it.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Without the tag that the kernel took off it.
    pub bytes: Vec<u8>,
    /// That tag, TPID and VLAN.
    pub tag: Option<[u16; 2]>,
    pub queue: u32,
    /// Payload bytes of a super-frame's segments.
    pub gso_size: Option<u16>,
}

impl Offer {
    pub fn of(bytes: Vec<u8>) -> Offer {
        Offer { bytes, ..Offer::default() }
    }

    /// As it was on the wire.
    fn on_the_wire(&self, bytes: &[u8]) -> Vec<u8> {
        let tag = self.tag.map(|tag| tag.map(u16::to_be_bytes).concat()).unwrap_or_default();
        [&bytes[..12], &tag, &bytes[12..]].concat()
    }

    /// What leaves for it.
    pub fn clones(&self) -> Vec<Vec<u8>> {
        let Some(size) = self.gso_size else { return vec![self.on_the_wire(&self.bytes)] };
        let segments = Segments::of(&self.bytes, size).expect("a super-frame");
        let segment = |at| {
            let mut bytes = vec![0; segments.len(at)];
            segments.write(at, &mut bytes).expect("room");
            self.on_the_wire(&bytes)
        };
        (0..segments.count()).map(segment).collect()
    }
}

/// The selector on one processor.
pub struct Selector {
    writer: Writer,
    /// By slot.
    ledgers: HashMap<u32, (Counted, Sampler)>,
}

impl Selector {
    /// With a ring of so many bytes, its positions starting at `start`; the other end is a shard's.
    pub fn new(bytes: u32, start: u64) -> (Selector, Ring) {
        let (writer, ring) = plain_ring(bytes, start).expect("a ring");
        (Selector { writer, ledgers: HashMap::new() }, ring)
    }

    /// Takes a frame that the port `ingress` received. Whether it was handed up.
    pub fn offer(&mut self, table: &Table, ingress: u32, offer: &Offer) -> bool {
        let Some(policy) = table.policy(ingress) else { return false };
        let Some(tap) = classify(policy, &offer.on_the_wire(&offer.bytes)) else { return false };
        let (counted, sampler) = self.ledgers.entry(tap.slot).or_insert((Counted::default(), Sampler { until: 0 }));
        counted.observed += 1;
        if !sampler.select(tap.rate) {
            return false;
        }
        counted.selected += 1;
        let [vlan_proto, vlan_tci] = offer.tag.unwrap_or_default();
        let is_tagged = if offer.tag.is_some() { RECORD_TAGGED } else { 0 };
        let is_super = if offer.gso_size.is_some() { RECORD_SUPER } else { 0 };
        let head = RecordHead {
            serial: table.serial,
            slot: tap.slot,
            output: policy.outputs[tap.output as usize],
            queue: offer.queue,
            flags: is_tagged | is_super,
            vlan_proto,
            vlan_tci,
            gso_size: offer.gso_size.unwrap_or(0).into(),
            gso_segs: offer.gso_size.map_or(0, |_| offer.clones().len() as u32),
            ..RecordHead::default()
        };
        let put = self.writer.put(head, &offer.bytes);
        counted.ring_full += u64::from(!put);
        put
    }

    /// A record without a selector's sense.
    pub fn forge(&mut self, head: RecordHead, bytes: &[u8]) {
        assert!(self.writer.put(head, bytes), "no room");
    }

    /// The ring itself.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    pub fn counted(&self, slot: u32) -> Counted {
        self.ledgers.get(&slot).map_or_else(Counted::default, |ledger| ledger.0)
    }

    pub fn reset(&mut self, slot: u32) {
        self.ledgers.remove(&slot);
    }
}

/// A super-frame of TCP over IPv4, its checksum left to a device. The source address and the payload tell its number.
pub fn tcp(number: u32, payload: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    bytes.extend([0x45, 0]);
    bytes.extend(((40 + payload) as u16).to_be_bytes());
    bytes.extend([0, 7, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend((0x0a00_0000 | number).to_be_bytes());
    bytes.extend([10, 77, 9, 2]);
    let transport = bytes.len();
    bytes.extend([0x13, 0x88, 0x12, 0x34, 0, 0, 0, 1, 9, 8, 7, 6, 0x50, 0x18, 0x40, 0, 0, 0, 0, 0]);
    let pseudo = [&bytes[transport - 8..transport], &[0, 6], &((20 + payload) as u16).to_be_bytes()].concat();
    let sum: u32 = pseudo.as_chunks::<2>().0.iter().map(|&two| u32::from(u16::from_be_bytes(two))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[transport + 16..transport + 18].copy_from_slice(&(folded as u16).to_be_bytes());
    bytes.extend((0..payload).map(|at| (at as u32).wrapping_mul(7).wrapping_add(number) as u8));
    bytes
}
