//! Frames, and the programs of both hooks that are run on them.

use std::sync::OnceLock;

use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use spanwire::kernel::abi::Crossing;
use spanwire::kernel::maps::Maps;
use spanwire::kernel::program::{Hook, Instance, Selector};
use spanwire::kernel::rows::Rows;
use spanwire::kernel::steer::Aligned;

/// Of the device that frames are redirected to, with so many receive queues.
pub const PEER: u32 = 77;
pub const QUEUES: u32 = 4;

/// The least that a trial run takes, and the most in one piece on tc.
pub const SHORTEST: usize = 14;
const TC_LINEAR: usize = 3500;
/// The most there can be on each hook.
pub const XDP_LONGEST: usize = 73_000;
pub const TC_LONGEST: usize = 16_000;

/// `XDP_REDIRECT`, `XDP_DROP`.
pub const XDP_REDIRECT: u32 = 4;
pub const XDP_DROP: u32 = 1;
/// `TC_ACT_REDIRECT`, `TC_ACT_SHOT`.
pub const TC_REDIRECT: u32 = 7;
pub const TC_SHOT: u32 = 2;

/// Ethertype and control information.
pub type Tag = (u16, u16);

#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// At most [`Frame::longest`] of its hook; at least [`SHORTEST`].
    pub len: usize,
    /// Tags in its bytes, the outer one first.
    pub tags: Vec<Tag>,
    /// tc: a tag outside those that the kernel took off.
    pub taken: Option<Tag>,
    /// xdp: the receive queue; tc: it counted from 1, or 0.
    pub queue: u32,
    /// tc, of a frame in one piece: payload bytes of its segments and their number.
    pub segments: Option<(u32, u32)>,
    /// xdp: bytes in its first buffer, where it is to be shorter than usual. Kernels before 6.18 make none such.
    pub first: Option<usize>,
}

impl Frame {
    /// Without a tag, `first` of its bytes in its first buffer.
    pub fn split(len: usize, first: usize) -> Frame {
        Frame { len, first: Some(first), ..Frame::default() }
    }

    /// The longest on a hook.
    pub fn longest(hook: Hook) -> usize {
        match hook {
            Hook::Xdp => XDP_LONGEST,
            Hook::Tc => TC_LONGEST,
        }
    }

    /// Its bytes, without a tag that was taken off.
    pub fn bytes(&self, hook: Hook) -> Vec<u8> {
        let in_one_piece = if hook == Hook::Tc { self.len.min(TC_LINEAR) } else { self.len };
        let mut bytes = noise()[self.len % 1000..][..in_one_piece].to_vec();
        // Of IP a trial run would want a whole header.
        let tags = self.tags.iter().flat_map(|&(proto, tci)| [proto, tci]).chain([0x88b5]).flat_map(u16::to_be_bytes);
        bytes.iter_mut().skip(12).zip(tags).for_each(|(byte, tag)| *byte = tag);
        // What lies behind is made by `ahead`.
        bytes.resize(self.len, 0);
        bytes
    }

    /// As it was on the wire.
    pub fn on_the_wire(&self, hook: Hook) -> Vec<u8> {
        let mut bytes = self.bytes(hook);
        if let Some((proto, tci)) = self.taken.filter(|_| hook == Hook::Tc) {
            bytes.splice(12..12, [proto, tci].into_iter().flat_map(u16::to_be_bytes));
        }
        bytes
    }
}

/// Bytes of no pattern, as many as any frame begins from.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 1u32;
        let next = |_| {
            state = state.wrapping_mul(0x9e37_79b1).rotate_left(7) ^ 0x55;
            state as u8
        };
        (0..XDP_LONGEST + 1000).map(next).collect()
    })
}

/// The selector of a port on one hook.
pub struct Program {
    hook: Hook,
    pub selector: Selector,
    pub crossings: Rows<Crossing>,
    /// On tc.
    ahead: Option<Object>,
    /// Whether the kernel takes a first buffer that is shorter than it would make it.
    splits: bool,
}

impl Program {
    /// With the device [`PEER`] as the other port, or none.
    pub fn load(hook: Hook, port: u32, peer: u32, maps: &Maps) -> Program {
        let selector = Selector::load(Instance { hook, port, device: 0, peer }, maps).unwrap_or_else(|e| panic!("{e}"));
        let crossings = Rows::of(&selector.crossings().unwrap()).unwrap();
        let ahead = (hook == Hook::Tc).then(|| ahead_of(&selector));
        let mut program = Program { hook, selector, crossings, ahead, splits: true };
        // With an instance of its own: what crosses this one is counted.
        let trial = || Selector::load(Instance { hook, port: u32::MAX - 1, device: 0, peer }, maps).unwrap();
        program.splits = hook == Hook::Xdp && program.try_xdp(&trial(), &Frame::split(60, 14)).is_ok();
        program
    }

    /// Runs it on a frame: the verdict.
    pub fn run(&self, frame: &Frame) -> u32 {
        let bytes = frame.bytes(self.hook);
        match &self.ahead {
            None => self.try_xdp(&self.selector, frame).unwrap(),
            Some(ahead) => {
                let sent = &bytes[..bytes.len().min(TC_LINEAR)];
                let (size, count) = frame.segments.unwrap_or_default();
                let tag = frame.taken.map_or(0, |(proto, tci)| u32::from(proto) << 16 | u32::from(tci));
                let grown = if sent.len() < bytes.len() { bytes.len() as u32 } else { 0 };
                // struct __sk_buff: cb, gso_segs, gso_size.
                let mut context = [0u8; 192];
                for (at, value) in [(48, frame.queue), (52, tag), (56, grown), (164, count), (176, size)] {
                    context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
                }
                let input = ProgramInput { data_in: Some(sent), context_in: Some(&mut context), ..Default::default() };
                ahead
                    .progs_mut()
                    .next()
                    .unwrap()
                    .test_run(input)
                    .unwrap_or_else(|e| panic!("{frame:?}: {e}"))
                    .return_value
            }
        }
    }

    fn try_xdp(&self, selector: &Selector, frame: &Frame) -> libbpf_rs::Result<u32> {
        let bytes = frame.bytes(Hook::Xdp);
        let first = frame.first.filter(|_| self.splits).unwrap_or(bytes.len());
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, first.min(bytes.len()) as u32, 0, PEER, frame.queue, 0];
        selector.run(&bytes, Some(&mut context.map(u32::to_ne_bytes).concat()))
    }
}

fn ahead_of(selector: &Selector) -> Object {
    use std::os::fd::{AsFd, AsRawFd};
    static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/ahead.bpf.o")));
    let object = ObjectBuilder::default().open_memory(&OBJECT.0).unwrap().load().unwrap();
    let program = selector.program().unwrap();
    let next = object.maps().find(|map| map.name() == "next").unwrap();
    next.update(&[0; 4], &program.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY).unwrap();
    object
}
