//! Gathers every counter and state and publishes them in `stats.shm`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use shm_layout::counters::REFUSAL_VALUES;
use shm_layout::image::{Image, ImageBuilder, Need};
use shm_layout::record::{
    CAP_LINK_LOSS, CAP_MIRROR, CAP_PLACES, CloneRecord, EntryRecord, EntryStateRecord, LiveState, PlaceRecord,
    PortDeviceRecord, RefusalRecord, RingRecord, RoomRecord, StatsMetaRecord, TakenDownRecord,
};

use super::config::Config;
use super::devices::Devices;
use super::features::Feature;
use super::outdated::outdate;
use super::records::{
    binding_rows, descriptors, feature_rows, path_rows, port_rows, shard_row, sight_rows, swap_row, umem_rows,
};
use super::report::{LINK_DOWN, MISSING, Report, State};
use crate::clock;
use crate::counters::{ShardBlock, whole};
use crate::region::Publisher;
use crate::rings::SHARE_LEAST;
use crate::shard::limits::MAX_PORTS;
use crate::snapshot::table::{Current, Table, TableEntry};
use crate::snapshot::upstream::Upstream;
use crate::stop::Stop;
use crate::told::Told;

/// Time between publishes that nobody asks for.
const PERIOD: Duration = Duration::from_millis(200);
/// However often somebody asks, publishes may take one part in this many of a processor.
const SHARE: u32 = 20;

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The writer of the stats region.
#[derive(Debug)]
pub struct Teller {
    publisher: Publisher,
    table: Arc<Current>,
    blocks: Vec<Arc<ShardBlock>>,
    /// What selects frames for the shards, if anything does.
    upstream: Option<Arc<dyn Upstream>>,
    report: Arc<Report>,
    started_at: u64,
    capabilities: u64,
    frame_size: u32,
    mirror_frames: u32,
    /// `--frames`; 0 without.
    frames: u32,
    devices: Devices,
    features: Vec<Feature>,
    told: Told,
}

impl Teller {
    /// A writer over what these threads count and report.
    ///
    /// # Errors
    /// The thread that reads devices cannot be started.
    pub fn new(
        config: &Config,
        publisher: Publisher,
        table: Arc<Current>,
        blocks: Vec<Arc<ShardBlock>>,
        report: Arc<Report>,
    ) -> io::Result<Teller> {
        Ok(Teller {
            publisher,
            table,
            blocks,
            upstream: None,
            report,
            started_at: clock::unix_ns(),
            capabilities: CAP_PLACES | CAP_LINK_LOSS | if config.mirror_frames > 0 { CAP_MIRROR } else { 0 },
            frame_size: config.frame_size,
            mirror_frames: config.mirror_frames,
            frames: config.frames.unwrap_or(0),
            devices: Devices::watch()?,
            features: Vec::new(),
            told: Told::default(),
        })
    }

    /// The same where frames are selected for the shards.
    pub fn with_upstream(self, upstream: Arc<dyn Upstream>) -> Teller {
        Teller { upstream: Some(upstream), ..self }
    }

    /// The same, with what the kernel lacks and has.
    pub fn with_features(self, features: Vec<Feature>) -> Teller {
        Teller { features, ..self }
    }

    /// Publishes when a reader asks and now and then until `stop`, and once more after it. What sleeps is woken by a reader that
    /// asks: with a stop too, somebody is to do so, or it takes until the next publish.
    pub fn run(mut self, stop: &Stop) {
        let mut is_asked = false;
        loop {
            let last = stop.is_set();
            let (start, before) = (Instant::now(), processor_time());
            self.devices.refresh(is_asked);
            self.publish();
            if last {
                return;
            }
            let rested = Instant::now() + processor_time().saturating_sub(before) * SHARE;
            let until = |time: Instant| time.saturating_duration_since(Instant::now());
            let left = until(rested.max(start + PERIOD));
            is_asked = !stop.is_set() && self.publisher.wait_asked(left);
            if is_asked {
                stop.wait(until(rested));
            }
        }
    }

    fn publish(&mut self) {
        let Some(mut image) = self.gather() else {
            tracing::debug!("a shard kept writing into one row; this turn is left out");
            return;
        };
        match self.publisher.publish(&mut image) {
            Ok(_) => {
                if let Some(news) = self.told.ends() {
                    tracing::info!("statistics are published again{news}");
                }
            }
            Err(error) => {
                if let Some(news) = self.told.is(&error.to_string()) {
                    tracing::warn!("statistics cannot be published: {news}");
                }
            }
        }
    }

    /// An image of everything as it is now; `None` when a shard kept writing into one row all the time.
    fn gather(&self) -> Option<Image> {
        let table = self.table.load();
        let mut state = self.report.read();
        outdate(&mut state, &table);
        let mut image = ImageBuilder::new();
        let adopted = self.blocks.iter().map(|b| b.adopted_generation()).min().unwrap_or(0);
        let meta = StatsMetaRecord {
            pid: std::process::id(),
            shard_count: self.blocks.len() as u32,
            started_at: self.started_at,
            gathered_at: clock::monotonic_ns(),
            config_instance: table.instance,
            table_generation: table.generation,
            adopted_generation: adopted,
            rejects: state.rejects,
            last_reject: image.string(&state.last_reject),
            capabilities: self.capabilities,
            frame_size: self.frame_size,
            mirror_frames: self.mirror_frames,
            release: image.string(env!("CARGO_PKG_VERSION")),
        };
        let descriptors = descriptors(&mut image);
        let shards: Vec<_> = self.blocks.iter().map(|b| shard_row(b)).collect();
        let swaps: Vec<_> = self.blocks.iter().map(|b| swap_row(b)).collect();
        let umem: Vec<_> = self.blocks.iter().flat_map(|b| umem_rows(b)).collect();
        let clone_row = |block: &Arc<ShardBlock>| CloneRecord { shard: block.id, pad: 0, on_the_way: block.clones() };
        let clones: Vec<_> = self.blocks.iter().map(clone_row).collect();
        let mut entries = Vec::with_capacity(table.entries.len() * self.blocks.len());
        let mut refusals = Vec::with_capacity(entries.capacity());
        let mut rings = Vec::with_capacity(entries.capacity());
        for entry in &table.entries {
            for block in &self.blocks {
                let row = block.entry(entry.slot).read()?;
                // Read after the shard's.
                let counted = self.upstream.as_ref().map(|upstream| upstream.counted(entry.slot, block.id));
                let ledger = whole(&row, counted.unwrap_or_default());
                // Of fixed lengths, which add up.
                let (&values, more) = ledger.split_first_chunk()?;
                let (&refused, more) = more.split_first_chunk::<REFUSAL_VALUES>()?;
                refusals.push(RefusalRecord { values: refused });
                rings.push(RingRecord { values: *more.first_chunk()? });
                entries.push(EntryRecord {
                    ingress_ifindex: entry.key.ingress_ifindex,
                    output_ifindex: entry.key.output_ifindex,
                    rate: entry.key.rate,
                    shard: block.id,
                    values,
                });
            }
        }
        let states = self.entry_states(&mut image, &table, &state);
        let places: Vec<PlaceRecord> = table.entries.iter().map(|entry| entry.place).collect();
        let ports = port_rows(&mut image, &state);
        let here = state.ports.iter().filter(|port| port.device != 0);
        let devices: Vec<PortDeviceRecord> =
            here.map(|port| PortDeviceRecord { ifindex: port.ifindex, device_ifindex: port.device }).collect();
        let taken_down = state.taken_down.iter();
        let taken_down: Vec<TakenDownRecord> =
            taken_down.map(|&(ifindex, lost_ifindex)| TakenDownRecord { ifindex, lost_ifindex }).collect();
        let paths = path_rows(&mut image, &state);
        let features = feature_rows(&mut image, &self.features);
        let bindings = binding_rows(&state);
        let sights = sight_rows(&state);
        let room = RoomRecord { frames: self.frames, share: SHARE_LEAST, sockets: MAX_PORTS as u32, pad: 0 };
        image
            .section(Need::Required, &[meta])
            .section(Need::Optional, &descriptors)
            .section(Need::Optional, &shards)
            .section(Need::Optional, &swaps)
            .section(Need::Optional, &umem)
            .section(Need::Optional, &clones)
            .section(Need::Optional, &entries)
            .section(Need::Optional, &refusals)
            .section(Need::Optional, &rings)
            .section(Need::Optional, &states)
            .section(Need::Optional, &places)
            .section(Need::Optional, &ports)
            .section(Need::Optional, &devices)
            .section(Need::Optional, &taken_down)
            .section(Need::Optional, &paths)
            .section(Need::Optional, &features)
            .section(Need::Optional, &bindings)
            .section(Need::Optional, &sights)
            .section(Need::Optional, &[room]);
        self.devices.put(&mut image);
        Some(image.finish())
    }

    fn entry_states(&self, image: &mut ImageBuilder, table: &Table, state: &State) -> Vec<EntryStateRecord> {
        let ports = PortsNow::new(state);
        let mut row = |entry: &TableEntry| {
            let reason = ports.why_inactive(entry, table, self.capabilities);
            EntryStateRecord {
                ingress_ifindex: entry.key.ingress_ifindex,
                output_ifindex: entry.key.output_ifindex,
                rate: entry.key.rate,
                state: if reason.is_empty() { LiveState::Active } else { LiveState::Inactive },
                reason: image.string(&reason),
            }
        };
        table.entries.iter().map(&mut row).collect()
    }
}

/// The ports by ifindex, as far as an entry's state depends on them.
struct PortsNow<'a> {
    there: HashSet<u32>,
    up: HashSet<u32>,
    reasons: HashMap<u32, &'a str>,
}

impl<'a> PortsNow<'a> {
    fn new(state: &'a State) -> PortsNow<'a> {
        PortsNow {
            there: state.ports.iter().filter(|p| p.there).map(|p| p.ifindex).collect(),
            up: state.ports.iter().filter(|p| p.up).map(|p| p.ifindex).collect(),
            reasons: state.ports.iter().map(|p| (p.ifindex, p.reason.as_str())).collect(),
        }
    }

    /// Empty when the entry can mirror.
    fn why_inactive(&self, entry: &TableEntry, table: &Table, capabilities: u64) -> String {
        let PlaceRecord { port_ifindex: ingress, output_ifindex: output, .. } = entry.place;
        if !table.mirroring {
            return table.idle_reason.to_owned();
        }
        if !entry.on_wire {
            return "ingress on no wire".to_owned();
        }
        if capabilities & CAP_MIRROR == 0 {
            return "no mirror partition (spanwired runs with --mirror-frames 0)".to_owned();
        }
        for (what, ifindex) in [("ingress", ingress), ("output", output)] {
            if !self.reasons.contains_key(&ifindex) {
                return format!("{what} ifindex {ifindex} is not attached yet");
            }
            if !self.there.contains(&ifindex) {
                let more = self.reasons.get(&ifindex).and_then(|reason| reason.strip_prefix(MISSING));
                return format!("{MISSING}: {what} ifindex {ifindex}{}", more.unwrap_or_default());
            }
        }
        if !self.up.contains(&output) {
            return match self.reasons.get(&output) {
                Some(reason) if *reason != LINK_DOWN => format!("output down: {reason}"),
                _ => "output down".to_owned(),
            };
        }
        if !self.up.contains(&ingress) {
            let reason = self.reasons.get(&ingress).copied().unwrap_or("not attached");
            return format!("ingress down: {reason}");
        }
        String::new()
    }
}
