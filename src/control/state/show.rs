//! What is configured, and whether it works.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use shm_layout::record::{META_DISARMED, MirrorRecord, PlaceRecord, Role};
use shm_layout::snapshot::SnapshotView;

use super::dataplane::Dataplane;
use super::feature::FeatureRow;
use super::live::{FRESH_PATIENCE, fresh_stats};
use super::path::PathRow;
use super::port::PortState;
use super::shard::ShardState;
use super::sizing::{frames_needed, too_little};
use super::stats::Stats;
use super::traffic::{PortRow, bindings, ports};
use super::{StateError, live_name, names_of, published, role_name};
use crate::clock;
use crate::control::admission::InactiveReason;
use crate::control::compile::{decompile, diagnostics};
use crate::control::diagnostic::Diagnostic;
use crate::control::model::Wire;

/// One mirror entry and whether it mirrors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MirrorState {
    /// Frames received here are sampled.
    pub ingress_ifindex: u32,
    /// Clones leave here.
    pub output_ifindex: u32,
    /// 0 and 1: every frame; N: one in N.
    pub rate: u32,
    /// `active`, `inactive`, or `unknown` where only a dataplane could say.
    pub state: &'static str,
    /// Why it is not active; empty where it is.
    pub reason: String,
    /// Where its frames arrive and its clones leave.
    #[serde(flatten)]
    pub place: Place,
}

/// What the ifindexes of a mirror entry mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The port that receives the frames: the ingress, or the port of a VLAN unit.
    pub ingress_port: u32,
    /// Outer VLAN id of the frames; 0 for all of the port that is not of another entry.
    pub vlan_id: u16,
    /// Whether the port's frames without a tag, and those with VLAN id 0, are of that VLAN.
    pub untagged: bool,
    /// The port the clones leave by.
    pub output_port: u32,
}

impl From<PlaceRecord> for Place {
    fn from(place: PlaceRecord) -> Place {
        Place {
            ingress_port: place.port_ifindex,
            vlan_id: place.vlan_id,
            untagged: place.is_native(),
            output_port: place.output_ifindex,
        }
    }
}

/// One wire, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireState {
    /// Its name.
    pub name: String,
    /// One port.
    pub a_ifindex: u32,
    /// The other.
    pub b_ifindex: u32,
    /// Whether the loss of one port's link takes the other port down.
    pub link_loss_forwarding: bool,
    /// The port that is taken down since the other one's link is lost; `None` where none is, or no dataplane runs.
    pub taken_down_ifindex: Option<u32>,
    /// How its frames cross: `xdp`, `tc` or `shard`; `None` while they do not, or no dataplane runs that says.
    pub path: Option<String>,
    /// Why this way, or why none; empty where no dataplane runs that says.
    pub path_reason: String,
    /// Frames lost on the way, in both directions; `None` where that is not known, or no dataplane runs.
    pub loss: Option<u64>,
    /// Why it is not known though a dataplane runs; empty otherwise.
    pub loss_unknown: String,
}

impl WireState {
    fn of(wire: Wire, live: Option<&Stats>, ports: &[PortRow]) -> WireState {
        let Wire { name, a_ifindex, b_ifindex, link_loss_forwarding } = wire;
        let ends = [a_ifindex, b_ifindex];
        let is_its = |(down, lost)| (down, lost) == (a_ifindex, b_ifindex) || (down, lost) == (b_ifindex, a_ifindex);
        let taken_down = live.and_then(|live| live.taken_down.iter().copied().find(|&pair| is_its(pair)));
        let taken_down_ifindex = taken_down.map(|(down, _)| down);
        let path_of = |end| live.and_then(|live| live.paths.iter().find(|path| path.ifindex == end));
        let paths: Vec<&PathRow> = ends.into_iter().filter_map(path_of).collect();
        // While one port is on another way than the other, or on none, the wire is on none.
        let first = paths.iter().find(|path| path.path.is_none()).or(paths.first());
        let path = first.and_then(|first| first.path.clone());
        let loss_of = |end| ports.iter().find(|port| port.ifindex == end)?.loss;
        WireState {
            name,
            a_ifindex,
            b_ifindex,
            link_loss_forwarding,
            taken_down_ifindex,
            path: path.filter(|path| paths.iter().all(|other| other.path.as_ref() == Some(path))),
            path_reason: first.map(|first| first.reason.clone()).unwrap_or_default(),
            loss: ends.into_iter().map(loss_of).sum(),
            loss_unknown: paths
                .iter()
                .map(|path| &path.lost_unknown)
                .find(|why| !why.is_empty())
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// The document of `spanctl show`.
#[derive(Clone, Debug, Serialize)]
pub struct Show {
    /// Generation of the published snapshot; 0 where nothing is published.
    pub generation: u64,
    /// The producer's own generation.
    pub source_generation: u64,
    /// Identity of the config region, 16 hexadecimal digits: generations are compared only within one.
    pub instance_id: String,
    /// `active` or `standby`.
    pub role: &'static str,
    /// Whether mirroring is armed; frames cross either way.
    pub armed: bool,
    /// The mirror table, in the order of the source.
    pub mirrors: Vec<MirrorState>,
    /// The wires.
    pub wires: Vec<WireState>,
    /// The ports of a running dataplane.
    pub ports: Vec<PortState>,
    /// What was published along with the snapshot, and what the running dataplane has too little of for it.
    pub diagnostics: Vec<Diagnostic>,
    /// The shards of a running dataplane.
    pub shards: Vec<ShardState>,
    /// What the kernel and the rights of a running dataplane may lack.
    pub features: Vec<FeatureRow>,
    /// The dataplane.
    pub dataplane: Dataplane,
    /// The snapshot's names of ifindexes.
    #[serde(skip)]
    pub names: HashMap<u32, String>,
}

/// Reads both regions of `dir`, with the dataplane's word of now where one runs.
///
/// The state of an entry is the dataplane's where it uses this very snapshot. Otherwise it is what the snapshot
/// alone tells (`standby`, `disarmed`, `ingress on no wire`), or `unknown`.
///
/// # Errors
/// [`StateError::Nothing`] where nothing was published and no dataplane ever ran; or a region cannot be read.
pub fn show(dir: &Path) -> Result<Show, StateError> {
    let asked = clock::monotonic_ns();
    let config = published(dir)?;
    let stats = fresh_stats(dir, asked, FRESH_PATIENCE)?;
    let live = stats.as_ref().filter(|stats| stats.running());
    if config.is_none() && stats.is_none() {
        return Err(StateError::Nothing {
            dir: dir.to_owned(),
            what: "nothing has been published (spanctl import) and no dataplane has run (spanwired)",
        });
    }
    let mut show = Show {
        generation: 0,
        source_generation: 0,
        instance_id: format!("{:016x}", 0),
        role: role_name(Role::Active),
        armed: true,
        mirrors: Vec::new(),
        wires: Vec::new(),
        ports: live.map(|live| live.ports.clone()).unwrap_or_default(),
        diagnostics: Vec::new(),
        shards: live.map(Stats::shard_states).unwrap_or_default(),
        features: live.map(|live| live.features.clone()).unwrap_or_default(),
        dataplane: Dataplane { mirror_frames_needed: Some(0), ..Dataplane::of(stats.as_ref()) },
        names: HashMap::new(),
    };
    if let Some(config) = &config {
        let view = config.view()?;
        let snapshot = decompile(&view);
        let places = view.places();
        let says = Says::of(live, config.instance_id, config.generation, &view);
        show.generation = config.generation;
        show.source_generation = snapshot.generation;
        show.instance_id = format!("{:016x}", config.instance_id);
        show.role = role_name(view.meta.role);
        show.armed = view.meta.flags & META_DISARMED == 0;
        let entries = view.mirrors.iter().zip(&places).enumerate();
        show.mirrors = entries.map(|(i, (mirror, &place))| says.mirror(i, mirror, place)).collect();
        show.diagnostics = diagnostics(&view);
        // Not published with the snapshot: another dataplane may run now than did then.
        show.diagnostics.extend(live.iter().flat_map(|live| too_little(&places, &snapshot.wires, live)));
        show.dataplane.mirror_frames_needed = Some(frames_needed(&places, &snapshot.wires, live));
        show.names = names_of(&snapshot);
        let ports = live.map(|live| ports(live, &bindings(live))).unwrap_or_default();
        show.wires = snapshot.wires.into_iter().map(|wire| WireState::of(wire, live, &ports)).collect();
    }
    Ok(show)
}

/// Who can say what state an entry is in.
enum Says<'a> {
    /// The dataplane, which uses this snapshot.
    Dataplane(&'a Stats),
    /// The snapshot alone.
    Snapshot {
        /// What keeps every entry from mirroring, whatever dataplane comes.
        all: Option<&'static str>,
        /// Why the dataplane does not say.
        silence: String,
        /// The ports of the wires.
        wired: HashSet<u32>,
    },
}

impl<'a> Says<'a> {
    fn of(live: Option<&'a Stats>, instance_id: u64, generation: u64, view: &SnapshotView<'_>) -> Says<'a> {
        let silence = match live {
            None => "no dataplane is running".to_owned(),
            Some(live) if (live.meta.config_instance, live.meta.table_generation) == (instance_id, generation) => {
                return Says::Dataplane(live);
            }
            Some(live) if live.meta.table_generation == 0 => "the dataplane uses no snapshot yet".to_owned(),
            Some(live) => format!("the dataplane still uses generation {}", live.meta.table_generation),
        };
        let refused = live.map(|live| live.last_reject.as_str()).filter(|why| !why.is_empty());
        // In the words and the order of the dataplane, so that nothing changes when one appears.
        let all = match view.meta.role {
            Role::Standby => Some(InactiveReason::Standby.as_str()),
            Role::Active if view.meta.flags & META_DISARMED != 0 => Some("disarmed"),
            Role::Active => None,
        };
        Says::Snapshot {
            all,
            silence: refused.map_or(silence.clone(), |why| format!("{silence}: {why}")),
            wired: view.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]).collect(),
        }
    }

    fn mirror(&self, index: usize, mirror: MirrorRecord, place: PlaceRecord) -> MirrorState {
        let key = (mirror.ingress_ifindex, mirror.output_ifindex, mirror.rate);
        let (state, reason) = match self {
            Says::Dataplane(stats) => match stats.entry_states.get(index) {
                Some((row, reason)) if (row.ingress_ifindex, row.output_ifindex, row.rate) == key => {
                    (live_name(row.state), reason.clone())
                }
                _ => ("unknown", "the dataplane gives no state for it".to_owned()),
            },
            Says::Snapshot { all: Some(reason), .. } => ("inactive", (*reason).to_owned()),
            Says::Snapshot { wired, .. } if !wired.contains(&place.port_ifindex) => {
                ("inactive", InactiveReason::OnNoWire.to_string())
            }
            Says::Snapshot { all: None, silence, .. } => ("unknown", silence.clone()),
        };
        MirrorState {
            ingress_ifindex: mirror.ingress_ifindex,
            output_ifindex: mirror.output_ifindex,
            rate: mirror.rate,
            state,
            reason,
            place: place.into(),
        }
    }
}
