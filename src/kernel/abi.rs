//! What the selector (`bpf/abi.h`) and spanwired tell each other. A test holds the two together by the objects' BTF.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bytemuck::{Pod, Zeroable};

/// `LAYOUT`: what a spanwired goes by that reads what another one has pinned.
pub const LAYOUT: u32 = 2;

/// `struct constants`: what the loader says of an instance of a program.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Constants {
    /// The port's number: its row in a bank, less one.
    pub port: u32,
    /// Processors there can be.
    pub processors: u32,
    /// The port's own device, ifindex, where `devices` has it too; else 0.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct bank_header`: the first row of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BankHeader {
    /// Of the table it was made from.
    pub serial: u64,
    /// Rows of the bank.
    pub rows: u32,
    /// Of them ports.
    pub ports: u32,
}

/// `struct port_row`. Members are numbers of rows; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRow {
    /// The tap of the frames that none of its VLANs has.
    pub plain: u32,
    /// First of [`VLAN_ROWS`] rows.
    pub vlans: u32,
    /// First of the taps that the index counts from 1.
    pub taps: u32,
    /// All bits of the port's number the other way: no row of another kind has that here.
    pub mark: u32,
}

/// `struct tap_row`: a mirror entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TapRow {
    /// Of its ledger.
    pub slot: u32,
    /// At least 1.
    pub rate: u32,
    /// The monitor port, ifindex in the snapshot.
    pub output: u32,
    /// Zero.
    pub reserved: u32,
}

/// Rows of a port's index of VLANs, eight to a row (`struct vlan_row`).
pub const VLAN_ROWS: u32 = 512;

/// `struct cell`: the ledger of an entry on a processor, which alone writes it. Later members count some of what earlier
/// ones count, and are written after them.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Cell {
    /// Frames to pass before the next one is selected.
    pub until: AtomicU32,
    reserved: AtomicU32,
    /// Frames that are the entry's.
    pub observed: AtomicU64,
    /// Of them selected.
    pub selected: AtomicU64,
    /// Of those not in the ring: it was full.
    pub ring_full: AtomicU64,
    /// Of those longer than any record.
    pub oversize: AtomicU64,
    /// Of those not to be read.
    pub unreadable: AtomicU64,
    pad: [AtomicU64; 2],
}

/// Slots of ledgers in one inner map of `cells`.
pub const CHUNK_SLOTS: u32 = 64;

/// `struct crossing`: what crossed from a port on a processor, which alone writes it.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Crossing {
    /// Frames sent on.
    pub frames: AtomicU64,
    /// Their bytes, tags that the kernel took off included.
    pub bytes: AtomicU64,
    /// Frames for which there was no other port.
    pub no_peer: AtomicU64,
    /// In the first row: the frames of all rows that spanwired has seen. It writes this.
    pub seen: AtomicU64,
    pad: [AtomicU64; 4],
}

/// `struct loss`: what was lost of the frames from a port on a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Loss {
    /// Not sent on.
    pub refused: u64,
    /// Not taken by the other port's driver.
    pub unsent: u64,
    /// Dropped by the driver that received them.
    pub aborted: u64,
    /// The program's own.
    pub told: u64,
}

/// `struct bell`: whether who reads a processor's ring is to be woken, and what did not get into it.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct Bell {
    /// 1 while it sleeps.
    pub asleep: AtomicU32,
    reserved: AtomicU32,
    /// In the first row: of `lost` of all rows what spanwired has seen. It writes this.
    pub seen: AtomicU64,
    /// Clones that this processor has selected and not put into its ring.
    pub lost: AtomicU64,
    pad: [AtomicU64; 5],
}

impl Bell {
    /// What all processors have lost, by their bells.
    pub fn all_lost<'a>(bells: impl Iterator<Item = &'a Bell>) -> u64 {
        bells.map(|bell| bell.lost.load(Relaxed)).sum()
    }
}

/// The kernel took a VLAN tag off the frame.
pub const RECORD_TAGGED: u32 = 1 << 0;
/// A super-frame.
pub const RECORD_SUPER: u32 = 1 << 1;

/// `struct record`: the head of a clone on its way to spanwired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RecordHead {
    /// Of the bank that selected it.
    pub serial: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Of the entry's ledger.
    pub slot: u32,
    /// The monitor port, ifindex in the snapshot.
    pub output: u32,
    /// Bytes of the frame, which follow.
    pub len: u32,
    /// The receive queue.
    pub queue: u32,
    /// [`RECORD_TAGGED`], [`RECORD_SUPER`].
    pub flags: u32,
    /// The tag's ethertype.
    pub vlan_proto: u16,
    /// Its control information.
    pub vlan_tci: u16,
    /// Payload bytes of a super-frame's segments.
    pub gso_size: u32,
    /// How many there are.
    pub gso_segs: u32,
    /// Nothing.
    pub pad: [u64; 2],
}

/// The longest frame that a record takes.
pub const RECORD_LONGEST: usize = 65600;

const _: () = assert!(size_of::<BankHeader>() == 16 && size_of::<PortRow>() == 16 && size_of::<TapRow>() == 16);
const _: () = assert!(size_of::<Cell>() == 64 && size_of::<Crossing>() == 64 && size_of::<Bell>() == 64);
const _: () = assert!(size_of::<RecordHead>() == 64);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::mem::offset_of;

    use libbpf_rs::btf::types::{Array, Enum, MemberAttr, Struct};
    use libbpf_rs::btf::{Btf, BtfType, HasSize};

    use super::*;
    use crate::kernel::loss;
    use crate::kernel::program::Hook;

    /// A structure: its size, and of its members name, offset and size in bytes, in their order.
    #[derive(Clone, Debug, PartialEq)]
    struct Layout {
        size: usize,
        members: Vec<(String, usize, usize)>,
    }

    impl Layout {
        /// Whether its members fill it.
        fn is_without_gaps(&self) -> bool {
            let end = self.members.iter().try_fold(0, |end, &(_, at, size)| (at == end).then_some(at + size));
            end == Some(self.size)
        }
    }

    /// Of a structure as Rust has it. That a member is left out does not compile.
    macro_rules! layout {
        ($of:ident { $($member:ident),* }) => {{
            fn size<T>(_: impl Fn(&$of) -> &T) -> usize {
                size_of::<T>()
            }
            let _ = |$of { $($member: _),* }: $of| ();
            let members = vec![$((
                stringify!($member).to_owned(),
                offset_of!($of, $member),
                size(|of| &of.$member),
            )),*];
            Layout { size: size_of::<$of>(), members }
        }};
    }

    fn size_in(of: BtfType<'_>) -> usize {
        let of = of.skip_mods_and_typedefs();
        match Array::try_from(of) {
            Ok(array) => array.capacity() * size_in(array.contained_type()),
            Err(of) => libbpf_rs::btf_type_match!(match of {
                BtfKind::Int(int) => usize::from(int.bits) / 8,
                BtfKind::Struct(of) => of.size(),
                BtfKind::Enum(of) => of.size(),
                _ => panic!("a member is no integer, structure or array of them"),
            }),
        }
    }

    /// Of a structure as an object has it, without members that take no room.
    fn layout_in(btf: &Btf<'_>, name: &str) -> Layout {
        let of: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no structure {name}"));
        let members = of.iter().map(|member| {
            let MemberAttr::Normal { offset } = member.attr else { panic!("a bit field in {name}") };
            let name = member.name.unwrap_or_else(|| panic!("a member of {name} has no name"));
            let size = size_in(btf.type_by_id(member.ty).unwrap());
            (name.to_str().unwrap().to_owned(), offset as usize / 8, size)
        });
        Layout { size: of.size(), members: members.filter(|&(_, _, size)| size > 0).collect() }
    }

    #[test]
    fn the_objects_have_the_structures_that_rust_has() {
        /// `struct vlan_row`, which is an array here.
        #[repr(C)]
        struct VlanRow {
            at: [u16; 8],
        }
        let ours = [
            ("constants", layout!(Constants { port, processors, device, reserved })),
            ("bank_header", layout!(BankHeader { serial, rows, ports })),
            ("port_row", layout!(PortRow { plain, vlans, taps, mark })),
            ("vlan_row", layout!(VlanRow { at })),
            ("tap_row", layout!(TapRow { slot, rate, output, reserved })),
            ("cell", layout!(Cell { until, reserved, observed, selected, ring_full, oversize, unreadable, pad })),
            ("crossing", layout!(Crossing { frames, bytes, no_peer, seen, pad })),
            ("bell", layout!(Bell { asleep, reserved, seen, lost, pad })),
            (
                "record",
                layout!(RecordHead {
                    serial,
                    time,
                    slot,
                    output,
                    len,
                    queue,
                    flags,
                    vlan_proto,
                    vlan_tci,
                    gso_size,
                    gso_segs,
                    pad
                }),
            ),
        ];
        let numbers = [
            ("VLAN_ROWS", i64::from(VLAN_ROWS)),
            ("CHUNK_SLOTS", i64::from(CHUNK_SLOTS)),
            ("RECORD_TAGGED", i64::from(RECORD_TAGGED)),
            ("RECORD_SUPER", i64::from(RECORD_SUPER)),
            ("RECORD_LONGEST", RECORD_LONGEST as i64),
        ];
        for hook in [Hook::Xdp, Hook::Tc] {
            let btf = Btf::from_raw("object", hook.object().0).unwrap().unwrap();
            for (name, layout) in &ours {
                assert_eq!(layout_in(&btf, name), *layout, "{hook}: struct {name}");
                assert!(layout.is_without_gaps(), "{hook}: struct {name}: what the kernel writes is padding here");
            }
            let theirs: Enum<'_> = btf.type_by_name("numbers").unwrap();
            let theirs: Vec<_> = theirs.iter().map(|of| (of.name.unwrap().to_str().unwrap(), of.value)).collect();
            assert_eq!(theirs, numbers, "{hook}");
        }
        let btf = Btf::from_raw("object", &loss::OBJECT.0).unwrap().unwrap();
        assert_eq!(layout_in(&btf, "loss"), layout!(Loss { refused, unsent, aborted, told }));
    }

    #[test]
    fn what_differs_in_one_member_is_another_layout() {
        #[repr(C)]
        struct Gap {
            a: u8,
            b: u32,
        }
        let gap = layout!(Gap { a, b });
        let members = vec![("a".to_owned(), 0, 1), ("b".to_owned(), 4, 4)];
        assert_eq!(gap, Layout { size: 8, members });
        assert!(!gap.is_without_gaps());
        let btf = Btf::from_raw("object", Hook::Tc.object().0).unwrap().unwrap();
        assert_ne!(layout_in(&btf, "port_row"), layout_in(&btf, "tap_row"), "the same sizes by other names");
    }
}
