//! The immutable table a shard forwards and mirrors by. Built by the adopter, never changed after.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use shm_layout::record::{META_DISARMED, PlaceRecord, PortRecord, Role, StrRef};
use shm_layout::snapshot::SnapshotView;
use shm_layout::view::Strings;

use crate::packet::UNTAGGED;

/// Identity of a mirror entry over generations: while it stays, so do its sampler's phase and its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// Frames received here are sampled.
    pub ingress_ifindex: u32,
    /// Clones leave here.
    pub output_ifindex: u32,
    /// 0 and 1: every frame; N: one in N.
    pub rate: u32,
}

/// An entry as the shard uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Its ledger's slot.
    pub slot: u32,
    /// 1 in `rate`; at least 1.
    pub rate: u32,
    /// Index of its output in [`PortPolicy::outputs`].
    pub output: u32,
}

/// The entries of a port's VLANs.
#[derive(Debug)]
pub struct VlanTaps {
    /// What [`outer_vlan`](crate::packet::outer_vlan) gives to index in `taps` plus one; 0 for none.
    index: Box<[u16; 4096]>,
    taps: Vec<Tap>,
}

impl VlanTaps {
    pub(crate) fn new() -> VlanTaps {
        VlanTaps { index: Box::new([0; 4096]), taps: Vec::new() }
    }

    pub(crate) fn insert(&mut self, place: PlaceRecord, tap: Tap) {
        let at = self.taps.len() as u16 + 1;
        // One entry a VLAN: of two, which admission refuses, the first stays.
        let mut take = |id: u16| {
            let index = self.index.get_mut(usize::from(id)).filter(|index| **index == 0);
            index.map(|index| *index = at).is_some()
        };
        let native = place.is_native() && take(UNTAGGED);
        if take(place.vlan_id) || native {
            self.taps.push(tap);
        }
    }

    /// By VLAN id, places in [`VlanTaps::taps`] counted from 1; 0 is none.
    pub fn index(&self) -> &[u16; 4096] {
        &self.index
    }

    /// The entries.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The entry of VLAN `id`; of [`UNTAGGED`], that of the port's native VLAN.
    #[inline]
    pub fn get(&self, id: u16) -> Option<&Tap> {
        let index = usize::from(self.index[usize::from(id & 0x0fff)]);
        self.taps.get(index.wrapping_sub(1))
    }
}

/// What is mirrored of the frames a port receives.
#[derive(Debug, Default)]
pub struct PortPolicy {
    /// The port's own entry, also the fallback of frames in VLANs without one.
    pub plain: Option<Tap>,
    /// Entries of VLAN units on the port.
    pub vlans: Option<VlanTaps>,
    /// The ports that the clones of these entries leave by, ifindexes, each once.
    pub outputs: Vec<u32>,
}

/// A mirror entry, in the order of the source.
#[derive(Clone, Copy, Debug)]
pub struct TableEntry {
    /// What it says.
    pub key: EntryKey,
    /// Its ledger's slot.
    pub slot: u32,
    /// Where its frames arrive and its clones leave.
    pub place: PlaceRecord,
    /// Whether that port is on a wire.
    pub on_wire: bool,
}

/// The table in force.
///
/// Its serial lies beside it on a cache line of its own, which the shards only read: as long as nothing changes,
/// a shard's look costs one relaxed load of a line it has.
///
/// # Orderings
/// `serial` is stored Release after the swap and loaded Acquire before the table is. A shard that sees a serial
/// finds that table or a newer one; one that does not see it yet looks again in its next breath.
#[derive(Debug, Default)]
pub struct Current {
    serial: CachePadded<AtomicU64>,
    table: ArcSwap<Table>,
}

impl Current {
    /// With this table in force.
    pub fn new(table: Table) -> Current {
        Current { serial: AtomicU64::new(table.serial).into(), table: ArcSwap::from_pointee(table) }
    }

    /// Puts a table in force and returns the older one, which shards may still be using.
    pub fn swap(&self, table: Table) -> Arc<Table> {
        let serial = table.serial;
        let old = self.table.swap(Arc::new(table));
        // Release: pairs with the Acquire in `load`.
        self.serial.store(serial, Release);
        old
    }

    /// Serial of the table in force, maybe of one just replaced.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.serial.load(Relaxed)
    }

    /// The table in force.
    pub fn load(&self) -> Arc<Table> {
        // Acquire: pairs with the Release in `swap`.
        let _ = self.serial.load(Acquire);
        self.table.load_full()
    }
}

/// One generation of the configuration.
#[derive(Debug, Default)]
pub struct Table {
    /// Counts adoptions of this process; never repeats, whatever the region's generations do.
    pub serial: u64,
    /// Identity of the region it came from.
    pub instance: u64,
    /// Its generation there; 0 for the empty table before the first.
    pub generation: u64,
    /// When it was published, nanoseconds of `CLOCK_MONOTONIC`.
    pub published_at: u64,
    /// Whether the node is the one of its group that mirrors.
    pub role: Role,
    /// Whether this node mirrors at all.
    pub mirroring: bool,
    /// Why it does not; empty when it does.
    pub idle_reason: &'static str,
    /// The wires, pairs of ifindexes.
    pub wires: Vec<(u32, u32)>,
    /// Those of them that forward the loss of a link.
    pub link_loss: Vec<(u32, u32)>,
    /// The entries, in the order of the source.
    pub entries: Vec<TableEntry>,
    /// The ports of the wires.
    ports: ByIfindex<WirePort>,
    /// Names of ports as the source gives them, places in `text`.
    names: ByIfindex<StrRef>,
    /// Names of devices as the source gives them, likewise, and whether each was seen.
    devices: ByIfindex<(StrRef, bool)>,
    text: String,
}

/// What the source calls the device of a port.
#[derive(Clone, Copy, Debug)]
pub struct DeviceName<'a> {
    /// The port, by its ifindex in the source.
    pub port: u32,
    /// The name.
    pub name: &'a str,
    /// Whether it was that of a device when the source was published.
    pub seen: bool,
}

/// A port of a wire.
#[derive(Debug)]
struct WirePort {
    peer: u32,
    policy: Option<Arc<PortPolicy>>,
}

/// What there is of each port, in the order of the ifindexes.
///
/// One allocation, few cache lines: a table is built by a thread that was asleep, with cold caches, and waited for.
#[derive(Debug)]
struct ByIfindex<T>(Vec<(u32, T)>);

impl<T> Default for ByIfindex<T> {
    fn default() -> Self {
        ByIfindex(Vec::new())
    }
}

impl<T> ByIfindex<T> {
    /// Of pairs with the same ifindex the first counts.
    fn new(mut pairs: Vec<(u32, T)>) -> Self {
        pairs.sort_by_key(|&(ifindex, _)| ifindex);
        pairs.dedup_by_key(|&mut (ifindex, _)| ifindex);
        ByIfindex(pairs)
    }

    fn position(&self, ifindex: u32) -> Option<usize> {
        self.0.binary_search_by_key(&ifindex, |&(of, _)| of).ok()
    }

    fn get(&self, ifindex: u32) -> Option<&T> {
        self.position(ifindex).map(|at| &self.0[at].1)
    }
}

impl Table {
    /// Builds the table of a snapshot. `slot_of` gives each entry its ledger.
    pub fn build(
        view: &SnapshotView<'_>,
        instance: u64,
        serial: u64,
        mut slot_of: impl FnMut(EntryKey) -> u32,
    ) -> Table {
        let idle_reason = match view.meta.role {
            Role::Standby => "standby",
            Role::Active if view.meta.flags & META_DISARMED != 0 => "disarmed",
            Role::Active => "",
        };
        let mirroring = idle_reason.is_empty();
        // The first interface with an ifindex names it, as everywhere else.
        let named = view.ports.iter().filter(|port| port.ifindex != 0);
        let names = ByIfindex::new(named.map(|port| (port.ifindex, port.name)).collect());
        let mut wires = Vec::with_capacity(view.wires.len());
        let mut peers = Vec::with_capacity(2 * view.wires.len());
        for wire in view.wires.iter() {
            wires.push((wire.a_ifindex, wire.b_ifindex));
            peers.extend([(wire.a_ifindex, wire.b_ifindex), (wire.b_ifindex, wire.a_ifindex)]);
        }
        let link_loss = view.link_loss.iter().filter_map(|wire| wires.get(wire.wire as usize).copied()).collect();
        let peers = ByIfindex::new(peers);
        // One for each of the peers.
        let mut policies: Vec<Option<PortPolicy>> = peers.0.iter().map(|_| None).collect();
        let mut entries = Vec::with_capacity(view.mirrors.len());
        for (mirror, place) in view.mirrors.iter().zip(view.places()) {
            let key = EntryKey {
                ingress_ifindex: mirror.ingress_ifindex,
                output_ifindex: mirror.output_ifindex,
                rate: mirror.rate,
            };
            let slot = slot_of(key);
            let port = peers.position(place.port_ifindex);
            entries.push(TableEntry { key, slot, place, on_wire: port.is_some() });
            let Some(port) = port.filter(|_| mirroring) else { continue };
            let policy = policies[port].get_or_insert_default();
            let output = policy.outputs.iter().position(|&o| o == place.output_ifindex).unwrap_or_else(|| {
                policy.outputs.push(place.output_ifindex);
                policy.outputs.len() - 1
            });
            let tap = Tap { slot, rate: key.rate.max(1), output: output as u32 };
            match place.vlan_id {
                0 => policy.plain = Some(tap),
                _ => policy.vlans.get_or_insert_with(VlanTaps::new).insert(place, tap),
            }
        }
        // A VLAN unit may bear its port's name.
        let is_unit = |p: &PortRecord| ![0, p.ifindex].contains(&p.parent_ifindex) && p.vlan_id != 0;
        let is_device = |port: &PortRecord| port.ifindex != 0 && !is_unit(port);
        // In the order of the ports.
        let mut seen = view.seen.iter().peekable();
        let rows = view.ports.iter().zip(0..).map(|(port, at)| (port, seen.next_if(|seen| seen.port == at).is_some()));
        let named = rows.filter(|(port, _)| is_device(port) && port.linux_name.len > 0);
        let devices = ByIfindex::new(named.map(|(port, seen)| (port.ifindex, (port.linux_name, seen))).collect());
        let port = |((ifindex, peer), policy): (_, Option<PortPolicy>)| {
            (ifindex, WirePort { peer, policy: policy.map(Arc::new) })
        };
        Table {
            serial,
            instance,
            generation: view.image.generation,
            published_at: view.image.published_at,
            role: view.meta.role,
            mirroring,
            idle_reason,
            wires,
            link_loss,
            entries,
            ports: ByIfindex(peers.0.into_iter().zip(policies).map(port).collect()),
            names,
            devices,
            text: view.strings.all().to_owned(),
        }
    }

    /// Whether a node that goes on from this table to one of `role` begins to mirror in the place of another node:
    /// with fresh samplers, and with ledgers that no older clone is in.
    pub fn takes_over_as(&self, role: Role) -> bool {
        self.role == Role::Standby && role == Role::Active
    }

    /// The other port of the wire that `ifindex` is on.
    pub fn peer(&self, ifindex: u32) -> Option<u32> {
        self.ports.get(ifindex).map(|port| port.peer)
    }

    /// What is mirrored of the frames `ifindex` receives.
    pub fn policy(&self, ifindex: u32) -> Option<&Arc<PortPolicy>> {
        self.ports.get(ifindex)?.policy.as_ref()
    }

    /// The name of a port as the source gives it; empty where it has none.
    pub fn name(&self, ifindex: u32) -> &str {
        self.names.get(ifindex).map_or("", |&at| Strings::from(self.text.as_str()).text(at))
    }

    /// The names that the source gives devices, in the order of their ifindexes there.
    pub fn device_names(&self) -> impl Iterator<Item = DeviceName<'_>> {
        let text = Strings::from(self.text.as_str());
        self.devices.0.iter().map(move |&(port, (at, seen))| DeviceName { port, name: text.text(at), seen })
    }

    /// Monitor ports of the entries whose ingress is on a wire, ifindexes, each once, in no order that matters. A
    /// node that does not mirror has them too: they are ready when it begins to.
    pub fn monitors(&self) -> Vec<u32> {
        let on_wire = self.entries.iter().filter(|entry| entry.on_wire);
        let mut all: Vec<u32> = on_wire.map(|entry| entry.place.output_ifindex).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
