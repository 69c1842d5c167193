//! The records of an image in `config.shm`: a snapshot.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{Placement, Record, Role, Severity, StrRef, fnv1a};

record! {
    /// META: where the snapshot came from. One record.
    MetaRecord kind 1 size 88 {
        /// `version` of the source document.
        source_version: u32,
        /// Whether this node mirrors.
        role: Role,
        /// `generation` of the source document.
        source_generation: u64,
        /// `fib_generation` of the source document.
        fib_generation: u64,
        /// `generated_at` of the source document, as written.
        generated_at: StrRef,
        /// When it was compiled, nanoseconds since the Unix epoch.
        compiled_at: u64,
        /// [`META_DISARMED`] or 0.
        flags: u64,
        /// SHA-256 of the source document.
        digest: [u8; 32],
        /// Zero.
        reserved: u64,
    }
}

/// [`MetaRecord::flags`]: mirroring is disarmed; frames still cross.
pub const META_DISARMED: u64 = 1;

record! {
    /// PORTS: an interface the source document names.
    PortRecord kind 2 size 40 {
        /// 0 where no device was resolved.
        ifindex: u32,
        /// The device a VLAN interface sits on; 0 for others.
        parent_ifindex: u32,
        /// Bytes; 0 where the source gives none.
        mtu: u32,
        /// VLAN id on the parent; 0 for none.
        vlan_id: u16,
        /// 1 where `mac` is set.
        has_mac: u16,
        /// Hardware address.
        mac: [u8; 6],
        /// Zero.
        pad: [u8; 2],
        /// The control plane's name.
        name: StrRef,
        /// The kernel's name.
        linux_name: StrRef,
    }
}

record! {
    /// WIRES: two ports that frames cross between.
    WireRecord kind 3 size 16 {
        /// One port.
        a_ifindex: u32,
        /// The other.
        b_ifindex: u32,
        /// Its name.
        name: StrRef,
    }
}

record! {
    /// MIRRORS: an entry of `mirror_configs`, in the order of the source.
    MirrorRecord kind 4 size 16 {
        /// Frames received here are sampled.
        ingress_ifindex: u32,
        /// Clones leave here.
        output_ifindex: u32,
        /// 0 and 1: every frame; N: one in N.
        rate: u32,
        /// What the snapshot alone tells of the entry.
        placement: Placement,
    }
}

record! {
    /// DIAGNOSTICS: what an operator should know about the snapshot.
    DiagnosticRecord kind 5 size 24 {
        /// How serious.
        severity: Severity,
        /// Zero.
        pad: u32,
        /// What it is about.
        subject: StrRef,
        /// One sentence.
        message: StrRef,
    }
}

record! {
    /// PLACES: where the frames of a mirror entry arrive and its clones leave. One record for each of MIRRORS, in the
    /// same order; in statistics, for each of ENTRY_STATES.
    PlaceRecord kind 7 size 12 {
        /// The port that receives the frames.
        port_ifindex: u32,
        /// The port the clones leave by, as the frames came.
        output_ifindex: u32,
        /// Outer VLAN id of the frames, 1..=4094; 0 for all the port receives that is not of another entry.
        vlan_id: u16,
        /// [`PLACE_UNTAGGED`] or 0.
        flags: u16,
    }
}

/// [`PlaceRecord::flags`]: the frames without a tag, and those with VLAN id 0, are of this VLAN too.
pub const PLACE_UNTAGGED: u16 = 1;

record! {
    /// NATIVE_VLANS: the VLAN that the untagged frames of a port belong to, in the order of PORTS.
    NativeVlanRecord kind 8 size 8 {
        /// Index of the port in PORTS.
        port: u32,
        /// VLAN id, 1..=4094.
        vlan_id: u16,
        /// Zero.
        pad: u16,
    }
}

record! {
    /// SEEN: the ports whose `linux_name` was that of a device when the snapshot was published, in the order of PORTS.
    /// No other device is taken for one of them.
    SeenRecord kind 9 size 4 {
        /// Index of the port in PORTS.
        port: u32,
    }
}

record! {
    /// LINK_LOSS: the wires that forward the loss of a link, in the order of WIRES: where the link of one port is lost,
    /// the other port is taken down. A dataplane that does not know it takes none down.
    LinkLossRecord kind 10 size 4 {
        /// Index of the wire in WIRES.
        wire: u32,
    }
}

/// Kind of the STRINGS section: bytes, UTF-8.
pub const STRINGS_KIND: u32 = 6;
/// Schema hash of the STRINGS section.
pub const STRINGS_HASH: u64 = fnv1a("utf8");
