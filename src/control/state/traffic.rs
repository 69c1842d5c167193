//! What ports receive, send and lose: their sockets, and the kernel where that carries their frames.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;
use shm_layout::counters::{BINDING_VALUES, Binding, Crossed, Kernel, Sight};
use shm_layout::record::{BindingRecord, NO_SHARD};

use super::path::PathRow;
use super::stats::Stats;
use super::values::Values;

/// What was counted of the frames of a port, or of one of its queues.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// Values of [`Binding`].
    #[serde(flatten)]
    pub values: Values,
    /// Values of [`Kernel`].
    #[serde(flatten)]
    pub kernel: Values,
    /// Values of [`Sight`].
    #[serde(flatten)]
    pub sights: Values,
}

impl Counts {
    fn zero() -> Counts {
        Counts {
            values: Values::zero(Binding::DESCRIPTIONS),
            kernel: Values::zero(Kernel::DESCRIPTIONS),
            sights: Values::zero(Sight::DESCRIPTIONS),
        }
    }

    fn add(&mut self, more: &Counts) {
        self.values.add(&more.values);
        self.kernel.add(&more.kernel);
        self.sights.add(&more.sights);
    }
}

/// One port: the sum of its bindings, and what the kernel carries from it and to it.
#[derive(Clone, Debug, Serialize)]
pub struct PortRow {
    /// The port, by its ifindex in the snapshot.
    pub ifindex: u32,
    /// ifindex of its device by now; `None` where that is not there, or the dataplane does not say.
    pub device_ifindex: Option<u32>,
    /// The kernel's name; empty for a port that has left.
    pub name: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Frames lost on the way in or out; `None` where that is not known.
    pub loss: Option<u64>,
}

/// One queue of a port, and the sockets that were open there.
#[derive(Clone, Debug, Serialize)]
pub struct BindingRow {
    /// Its port.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// Its shard; `None` while no socket is open there.
    pub shard: Option<u32>,
    /// What was counted there.
    #[serde(flatten)]
    pub counts: Counts,
}

pub(super) fn bindings(stats: &Stats) -> Vec<BindingRow> {
    let sights: HashMap<_, _> = stats.sights.iter().map(|row| ((row.ifindex, row.queue, row.shard), row)).collect();
    let row = |(i, row): (usize, &BindingRecord)| BindingRow {
        ifindex: row.ifindex,
        queue: row.queue,
        shard: (row.shard != NO_SHARD).then_some(row.shard),
        counts: Counts {
            values: Values::new(Binding::DESCRIPTIONS, &row.values),
            kernel: Values::new(Kernel::DESCRIPTIONS, &row.kernel).with(stats.newer.tail::<BindingRecord>(i)),
            sights: sights
                .get(&(row.ifindex, row.queue, row.shard))
                .map_or_else(|| Values::zero(Sight::DESCRIPTIONS), |row| Values::new(Sight::DESCRIPTIONS, &row.values)),
        },
    };
    stats.bindings.iter().enumerate().map(row).collect()
}

/// The ports in use, then those that only have sockets left.
pub(super) fn ports(stats: &Stats, bindings: &[BindingRow]) -> Vec<PortRow> {
    let mut rows: Vec<PortRow> = Vec::new();
    let blank = |ifindex, device_ifindex, name: &str| PortRow {
        ifindex,
        device_ifindex,
        name: name.to_owned(),
        counts: Counts::zero(),
        loss: None,
    };
    rows.extend(stats.ports.iter().map(|port| blank(port.ifindex, port.device_ifindex, &port.name)));
    let mut at = index(rows.iter().map(|row| row.ifindex));
    for binding in bindings {
        let row = *at.entry(binding.ifindex).or_insert(rows.len());
        if row == rows.len() {
            rows.push(blank(binding.ifindex, None, ""));
        }
        rows[row].counts.add(&binding.counts);
    }
    for row in &mut rows {
        row.counts.values.add(&crossed(row.ifindex, &stats.paths));
        // Frames are lost by the port that was to send them.
        let is_known = stats.paths.iter().all(|path| path.peer_ifindex != row.ifindex || path.lost.is_some());
        row.loss = is_known.then(|| lost(row));
    }
    rows
}

/// What the kernel carries from a port and to it, in the terms of sockets: what was received; what was sent, and what of it
/// was lost on the way. Of that the bytes are not known.
pub(in crate::control) fn crossed(port: u32, paths: &[PathRow]) -> Values {
    let mut row = [0; BINDING_VALUES];
    for path in paths {
        let crossed = |of: Crossed| path.crossed.get(of.name());
        if path.ifindex == port {
            row[Binding::RxPackets as usize] += crossed(Crossed::Packets).saturating_add(crossed(Crossed::NoPeer));
            row[Binding::RxBytes as usize] += crossed(Crossed::Bytes);
            row[Binding::RxNoPeer as usize] += crossed(Crossed::NoPeer);
        }
        if path.peer_ifindex == port {
            // Also where that is not all: what was told once stands.
            let lost = path.known_lost;
            row[Binding::TxPackets as usize] += crossed(Crossed::Packets).saturating_sub(lost);
            row[Binding::TxBytes as usize] += crossed(Crossed::Bytes);
            row[Binding::TxLost as usize] += lost;
        }
    }
    Values::new(Binding::DESCRIPTIONS, &row)
}

/// The lost frames among a binding's counters.
const LOST: [Binding; 4] = [Binding::TxLost, Binding::TxQueueFull, Binding::RxNoPeer, Binding::RxOversize];
/// Those among the kernel's. A frame that finds the fill ring empty counts as dropped there, and so only once here.
const LOST_IN_KERNEL: [Kernel; 2] = [Kernel::RxDropped, Kernel::RxRingFull];

fn lost(port: &PortRow) -> u64 {
    let own = LOST.iter().map(|loss| port.counts.values.get(loss.name()));
    own.chain(LOST_IN_KERNEL.iter().map(|loss| port.counts.kernel.get(loss.name()))).fold(0, u64::saturating_add)
}

/// Where each key is first.
pub(super) fn index<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut at = HashMap::new();
    for (i, key) in keys.enumerate() {
        at.entry(key).or_insert(i);
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use shm_layout::counters::{CROSSED_VALUES, LOST_VALUES, Lost};
    use shm_layout::image::{ImageBuilder, Need};
    use shm_layout::record::PathRecord;
    use shm_layout::view::ImageView;

    use super::super::newer::Newer;
    use super::super::path::paths;
    use super::*;

    /// What port 12 has sent and lost of `frames` that the kernel sent on from port 11, as the dataplane tells it.
    fn told(frames: u64, lost: u64, is_known: bool) -> [u64; 2] {
        let mut image = ImageBuilder::new();
        let (mut crossed_by, mut lost_by) = ([0; CROSSED_VALUES], [0; LOST_VALUES]);
        crossed_by[Crossed::Packets as usize] = frames;
        lost_by[Lost::Device as usize] = lost;
        let row = PathRecord {
            ifindex: 11,
            peer_ifindex: 12,
            path: image.string("tc"),
            reason: image.string("both can"),
            unknown: image.string(if is_known { "" } else { "the devices do not say" }),
            crossed: crossed_by,
            lost: lost_by,
        };
        image.section(Need::Optional, &[row]);
        let mut image = image.finish();
        image.seal(1, 0);
        let view = ImageView::parse(image.words()).unwrap();
        let text = view.strings().unwrap();
        let rows = paths(&view, text, &Newer::read(&view, text).unwrap()).unwrap();
        assert_eq!(rows[0].lost, is_known.then_some(lost));
        [Binding::TxPackets, Binding::TxLost].map(|value| crossed(12, &rows).get(value.name()))
    }

    proptest! {
        /// Of what was told to be sent and lost nothing is taken back, whenever it is known what is lost, and when it is not.
        #[test]
        fn totals_never_go_back(steps in prop::collection::vec((0u64..50, 0u64..50, any::<bool>()), 1..30)) {
            let ([mut frames, mut lost], mut before) = ([0; 2], [0; 2]);
            for (more, of_them, is_known) in steps {
                (frames, lost) = (frames + more, lost + of_them.min(more));
                let now = told(frames, lost, is_known);
                prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "{before:?}, then {now:?}");
                before = now;
            }
        }
    }
}
