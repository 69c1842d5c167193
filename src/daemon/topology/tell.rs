//! What the ports are like, for the stats thread.

use std::sync::Arc;
use std::time::Instant;

use shm_layout::counters::Binding;

use super::attached::Attached;
use super::identity::Place;
use super::sighting::Sighting;
use super::sights::Sights;
use super::{Plan, Topology, Want};
use crate::daemon::config::Bind;
use crate::daemon::report::{BindingStatus, LINK_DOWN, MISSING, PathStatus, PortStatus};
use crate::kernel::xdp::XdpMode;
use crate::shard::mailbox::Command;

impl Topology {
    /// Has the shards that wait for completions look for overdue ones.
    pub(super) fn audit(&self) {
        for (at, hand) in self.hands.iter().enumerate() {
            let bound = self.attached.values().flat_map(|port| &port.bound);
            if bound.filter(|b| b.hand == at).any(|b| b.block.read()[Binding::Outstanding as usize] > 0) {
                hand.send(Command::Audit);
            }
        }
    }

    pub(super) fn tell_report(&mut self, plan: &Plan) {
        let mut bindings = Vec::new();
        for &ifindex in plan.wanted.keys() {
            let first = bindings.len();
            let port = self.attached.get(&ifindex);
            let bound = port.map_or(&[][..], |port| &port.bound);
            bindings.extend(bound.iter().map(|bound| BindingStatus {
                ifindex,
                queue: bound.queue,
                shard: Some(self.hands[bound.hand].id),
                block: Arc::clone(&bound.block),
                kernel: self.totals.kernel(ifindex, bound.queue, &bound.socket),
            }));
            bindings.extend(self.totals.unserved(ifindex, |queue| bound.iter().any(|bound| bound.queue == queue)));
            if let Some(port) = port {
                self.sights.entry(ifindex).or_default().take(&port.device, &bindings[first..]);
            }
        }
        self.follow_crossings(plan);
        let ports: Vec<_> = plan.wanted.iter().map(|(&ifindex, &want)| self.status(ifindex, want, plan)).collect();
        let paths = ports.iter().zip(plan.wanted.values()).filter_map(|(port, &want)| self.path(port, want)).collect();
        self.report.set_all(ports, bindings, paths, plan.table.serial);
    }

    /// How a port's frames cross, if it is one of a wire.
    fn path(&self, port: &PortStatus, want: Want) -> Option<PathStatus> {
        let Want::Wire { peer } = want else { return None };
        let way = self.attached.get(&port.ifindex).and_then(|attached| attached.way.as_ref());
        Some(PathStatus {
            ifindex: port.ifindex,
            peer,
            path: way.map_or("", |way| way.path.as_str()),
            reason: way.map_or(&port.reason, |way| &way.reason).clone(),
            crossing: self.crossings.of(port.ifindex),
        })
    }

    /// What is to be known of how a port's sockets are bound, where zero-copy was asked for.
    fn bind_note(&self, port: &Attached) -> Option<&'static str> {
        let generic = port.program.as_ref().map(|program| program.mode() == XdpMode::Generic);
        (self.config.bind == Bind::Zerocopy).then_some(match (port.zero_copy, generic) {
            (true, _) => "zero-copy, which is for trials",
            (false, None) => "copy: monitors are not bound in zero-copy",
            (false, Some(true)) => "copy: generic XDP has no zero-copy",
            (false, Some(false)) => "copy, as the wire's other port",
        })
    }

    /// What is to be known of a port in use.
    fn note(&self, ifindex: u32, port: &Attached, news: &str) -> String {
        let program = port.program.as_ref().and_then(|p| p.note()).unwrap_or_default();
        let bind = self.bind_note(port).unwrap_or_default();
        let sights = self.sights.get(&ifindex).map_or("", Sights::note);
        let contest = self.upkeep.contests.remark(&Sighting::of(&port.device), Instant::now());
        let notes = [news, &port.remark, &contest, program, bind, sights].into_iter().filter(|note| !note.is_empty());
        notes.collect::<Vec<_>>().join("; ")
    }

    fn status(&self, ifindex: u32, want: Want, Plan { table, places, .. }: &Plan) -> PortStatus {
        let place = places.get(&ifindex);
        let (device, news) = (place.and_then(Place::device), place.map_or("", Place::news));
        let is_there = |port| places.get(&port).and_then(Place::device).is_some();
        let absent = PortStatus {
            ifindex,
            device: 0,
            role: want.role(),
            there: false,
            up: false,
            mtu: 0,
            queues: 0,
            zero_copy: false,
            name: table.name(ifindex).to_owned(),
            xdp_mode: "",
            driver: String::new(),
            reason: if news.is_empty() { MISSING.to_owned() } else { format!("{MISSING}: {news}") },
            note: news.to_owned(),
        };
        let there = |reason| PortStatus { there: true, device: device.unwrap_or(0), reason, ..absent.clone() };
        match (self.attached.get(&ifindex), self.failed.get(&ifindex)) {
            (Some(port), _) => {
                let note = self.note(ifindex, port, news);
                PortStatus {
                    there: true,
                    device: port.device.ifindex(),
                    up: port.link.up,
                    mtu: port.link.mtu,
                    queues: port.bound.len() as u32,
                    zero_copy: port.zero_copy,
                    name: port.device.name().to_owned(),
                    xdp_mode: port.program.as_ref().map_or("", |p| p.mode().as_str()),
                    driver: port.device.driver().to_owned(),
                    reason: if port.link.up { note.clone() } else { LINK_DOWN.to_owned() },
                    note,
                    ..absent
                }
            }
            _ if device.is_none() => absent,
            (None, Some(failed)) => there(failed.reason.clone()),
            (None, None) => match want {
                Want::Wire { peer } if !is_there(peer) => there(format!("the wire's other port is missing: {peer}")),
                _ => there("not attached yet".to_owned()),
            },
        }
    }
}
