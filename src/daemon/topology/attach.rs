//! Takes a port into use.
//!
//! A port goes through these steps, each undone in reverse order if a later one fails:
//!
//! ```text
//! device there, MTU fits as it will be bound ── for each queue: socket opened ── shard fills it ── bound
//! ── XDP program, which lets everything pass ── promiscuous
//! ── on record ── offloads off, promiscuous where the kernel carries ── sockets entered into the program's map
//! ```
//!
//! Sockets first: many drivers reset their device for a program, which costs it its link for seconds, and a queue that cannot
//! be bound would do that with every try.

use shm_layout::record::PortRole;

use super::attached::{Attached, is_still};
use super::carry::Way;
use super::changed::What;
use super::failed::Failed;
use super::identity::Place;
use super::lanes::Lanes;
use super::roster::Served;
use super::serve::lead_in;
use super::sighting::Sighting;
use super::{Plan, Topology, Want};
use crate::devices::{self, promiscuity};
use crate::kernel::hold::Hold;
use crate::kernel::path::is_of_a_stack;
use crate::kernel::program::Hook;
use crate::kernel::steer::{PortProgram, SteerError};
use crate::kernel::xdp::LinkError;
use crate::xsk::netdev::{self, LinkState, Netdev};
use crate::xsk::offload::{Offload, Reader, taking_tags_off};
use crate::xsk::promiscuous::Promiscuous;
use crate::xsk::room;
use crate::xsk::socket::BindMode;

impl Topology {
    /// Takes a port into use, or notes why that cannot be. Whether another one was let go of for it.
    pub(super) fn attach(&mut self, ifindex: u32, want: Want, lanes: Lanes, plan: &Plan) -> bool {
        let before = self.attached.len();
        let attached = self.try_attach(ifindex, want, lanes, plan);
        // What was laid for a port that failed is nobody's.
        self.lift_unused();
        let moved = self.attached.len() < before;
        match attached {
            Ok(port) => {
                let (name, driver, queues) = (port.device.name(), port.device.driver(), port.bound.len());
                let how = match (&port.hold, &port.way) {
                    (Some(_), Some(Way { path, reason })) => format!("frames cross by {}: {reason}", path.as_str()),
                    _ => {
                        let mode = port.program.as_ref().map_or("transmit only", |p| p.mode().as_str());
                        let copy = if port.zero_copy { "zero-copy" } else { "copy" };
                        format!("{mode}, {copy}, {queues} queue(s)")
                    }
                };
                let what = format!("ifindex {ifindex}, {driver}: attached, {how}");
                self.news.info(ifindex, name, what);
                self.failed.remove(&ifindex);
                self.attached.insert(ifindex, port);
            }
            Err(reason) => self.fail(ifindex, reason),
        }
        moved
    }

    pub(super) fn fail(&mut self, ifindex: u32, reason: String) {
        let label = self.label(ifindex);
        self.news.warn(ifindex, &label, reason.clone());
        let known = self.record.ports().get(&ifindex).and_then(|known| known.device.as_ref());
        let device = known.and_then(|known| self.lookout.device(known.ifindex));
        let failed = Failed::now(device, reason, self.failed.get(&ifindex));
        self.failed.insert(ifindex, failed);
    }

    fn try_attach(&mut self, ifindex: u32, want: Want, lanes: Lanes, plan: &Plan) -> Result<Attached, String> {
        let way = plan.ways.get(&ifindex).cloned().transpose()?;
        let known = self.record.ports().get(&ifindex).and_then(|known| known.device.as_ref());
        let known = known.ok_or("not there any more")?;
        let device = Netdev::open(known.ifindex).map_err(|e| e.to_string())?;
        is_still(known, &device)?;
        let link = LinkState { up: device.up(), mtu: device.mtu() };
        let mut port = Attached {
            want,
            link,
            lanes,
            zero_copy: false,
            bound: Vec::new(),
            way,
            hold: None,
            program: None,
            promiscuous: None,
            offload: None,
            keeps: None,
            is_lost: false,
            is_contested: false,
            remark: String::new(),
            device,
        };
        if let Some(problem) = port.device.no_ethernet() {
            return Err(problem);
        }
        if port.want.role() == PortRole::Wire {
            self.is_free(port.device.ifindex())?;
            match port.way.as_ref().and_then(Way::hook) {
                Some(hook) => self.prepare(&mut port, ifindex, hook)?,
                None => self.take_over(&mut port, ifindex)?,
            }
        }
        let peer = match want {
            Want::Wire { peer } => plan.places.get(&peer).and_then(Place::device),
            Want::Monitor => None,
        };
        self.begin(port, ifindex, peer)
    }

    /// Looks whether the frames of a wire port's device can be led to sockets. Nothing is changed there.
    fn take_over(&self, port: &mut Attached, ifindex: u32) -> Result<(), String> {
        self.takes_mtu(port, self.bind_mode_ahead(port)?)?;
        // A device whose port finds no frames stays as it is, however often it is tried.
        self.fits(port.want, port.lanes)?;
        self.keeps_tags(&port.device)?;
        self.look_at_offloads(port, Reader::Driver)?;
        // A device that another program holds is left as it is. A selector of an earlier run stays until a socket is there.
        let device = port.device.ifindex();
        let is_taken =
            devices::has_xdp(device).map_err(|error| format!("cannot look at {}: {error}", port.device.name()))?;
        if is_taken && !self.crossing().contains(&ifindex) {
            return Err(LinkError::Busy { port: netdev::label(device) }.to_string());
        }
        Ok(())
    }

    /// Puts the program that leads frames to sockets on the device of a wire port, whose sockets are bound.
    fn steer(&mut self, port: &mut Attached, ifindex: u32) -> Result<(), String> {
        let is_carried = port.way.as_ref().and_then(Way::hook).is_some();
        if port.want.role() != PortRole::Wire || is_carried || port.program.is_some() {
            return Ok(());
        }
        let text = |e: &dyn std::error::Error| e.to_string();
        let device = port.device.ifindex();
        let (mode, queues, driver) = (self.config.xdp_mode, port.lanes.sockets, port.device.driver());
        let attach = || PortProgram::attach(device, mode, queues, driver);
        let program = match attach() {
            // A selector that an earlier run has left carries the frames until it is certain that a socket can. One at tc stays
            // until none come there any more.
            Err(SteerError::Attach(LinkError::Busy { .. })) if self.take_off(ifindex)? > 0 => attach(),
            attached => attached,
        };
        port.program = Some(program.map_err(|e| text(&e))?);
        let joined = match self.attached.values().find_map(|port| port.promiscuous.as_ref()) {
            Some(other) => other.join_also(device),
            None => Promiscuous::join(device),
        };
        port.promiscuous = Some(joined.map_err(|e| text(&e))?);
        // What the driver runs it in is certain only now, and with that how sockets have to be bound.
        if self.bind_mode(port)? != port.bind_mode() {
            self.close_sockets(port.bound.drain(..).collect(), port.lends_frames());
            self.open_sockets(port, ifindex)?;
        }
        Ok(())
    }

    /// Whether what a port's device receives fits its frames, bound like this.
    fn takes_mtu(&self, port: &Attached, mode: BindMode) -> Result<(), String> {
        room::problem(port.link.mtu, self.config.frame_size, port.device.driver(), mode).map_or(Ok(()), Err)
    }

    /// Prepares the device of a wire port whose frames the kernel is to carry.
    pub(super) fn prepare(&self, port: &mut Attached, ifindex: u32, hook: Hook) -> Result<(), String> {
        // A device that another program holds is left as it is, however often it is tried.
        let place = self.carrier.as_ref().ok_or("there is no kernel path here")?.place();
        Hold::check(ifindex, port.device.ifindex(), hook, &place).map_err(|error| error.to_string())?;
        let reader = match hook {
            Hook::Xdp => Reader::Driver,
            Hook::Tc if is_of_a_stack(port.device.driver()) => Reader::Stack,
            // Somebody wants the tags beside the frames.
            Hook::Tc if self.upkeep.contests.lost(&Sighting::of(&port.device)).is_some() => Reader::Stack,
            Hook::Tc => Reader::StackOfNic,
        };
        if reader == Reader::Driver {
            self.keeps_tags(&port.device)?;
        }
        self.look_at_offloads(port, reader)
    }

    /// Refuses a device while somebody has its driver take tags off who would do so again.
    fn keeps_tags(&self, device: &Netdev) -> Result<(), String> {
        if self.upkeep.contests.lost(&Sighting::of(device)).is_none() {
            return Ok(());
        }
        let on = taking_tags_off(device.ifindex()).map_err(|error| error.to_string())?;
        if on.is_empty() {
            return Ok(());
        }
        let off: String = on.iter().map(|offload| format!(" {offload} off")).collect();
        Err(format!(
            "somebody turns {} on again and again, and frames would cross without their VLAN tags: --path auto and tc carry \
             them, or ethtool -K {}{off}",
            on.join(", "),
            device.name()
        ))
    }

    /// Looks which offloads are to be off.
    pub(super) fn look_at_offloads(&self, port: &mut Attached, reader: Reader) -> Result<(), String> {
        let found = &self.record.changed_on(&Sighting::of(&port.device)).offloads;
        let offload = Offload::look(&port.device, reader, found).map_err(|error| error.to_string())?;
        // What that one holds off is on record, and goes on being held off.
        port.offload.replace(offload).into_iter().for_each(Offload::leave);
        Ok(())
    }

    /// Begins to serve a port whose device is prepared; where that fails, it is taken down.
    pub(super) fn begin(&mut self, mut port: Attached, ifindex: u32, peer: Option<u32>) -> Result<Attached, String> {
        // So far no frame goes another way, and none leaves.
        let ready = self
            .open_sockets(&mut port, ifindex)
            .and_then(|()| self.steer(&mut port, ifindex))
            .and_then(|()| port.is_there());
        let ready = ready.and_then(|()| match port.program {
            // How they are bound is certain only now.
            Some(_) => self.takes_mtu(&port, port.bind_mode()),
            None => Ok(()),
        });
        let ready = ready.and_then(|()| match (port.way.as_ref().and_then(Way::hook), peer) {
            (Some(hook), Some(peer)) => self.carry(&mut port, ifindex, hook, peer),
            (Some(_), None) => Err("the wire's other port has gone".to_owned()),
            (None, _) => self.change(&mut port).and_then(|()| lead_in(&port)),
        });
        if let Err(reason) = ready {
            self.close(vec![port]);
            return Err(reason);
        }
        // Its own by now.
        port.keeps = port.keeps.map(|_| What::default());
        let served = Served {
            device: port.device.ifindex(),
            role: port.want.role(),
            width: port.lanes.width,
            zero_copy: port.zero_copy,
            multi_buffer: port.want.role() == PortRole::Monitor && !port.zero_copy && self.facts.multi_buffer,
            sockets: port.bound.iter().map(|bound| (bound.hand, bound.id)).collect(),
            link: port.link,
            is_gone: false,
        };
        self.roster.enter(ifindex, served);
        Ok(port)
    }

    /// Has the kernel carry the frames of a port. One that has failed has its selector first, by which nothing crosses until the
    /// rest is done: what fails again changes nothing.
    fn carry(&mut self, port: &mut Attached, ifindex: u32, hook: Hook, peer: u32) -> Result<(), String> {
        if !self.failed.contains_key(&ifindex) || self.crossing().contains(&ifindex) {
            return self.change(port).and_then(|()| self.hold(port, ifindex, hook, peer));
        }
        self.hold(port, ifindex, hook, 0).and_then(|()| self.change(port))?;
        let pointed = port.hold.as_mut().map_or(Ok(()), |hold| hold.point(peer));
        pointed.map_err(|error| format!("its frames do not go to ifindex {peer}: {error}"))
    }

    /// Changes what has to be otherwise on the device; it is on record first. From here on a port whose frames need that has
    /// their tags in them, and one whose frames the kernel carries takes those for every address.
    pub(super) fn change(&mut self, port: &mut Attached) -> Result<(), String> {
        let device = Sighting::of(&port.device);
        port.keeps.get_or_insert_with(|| self.record.changed_on(&device).clone());
        let is_carried = port.way.as_ref().and_then(Way::hook).is_some();
        let of_flag = |error| format!("promiscuity of {device}: {error}");
        // Set by the operator, it is nothing of ours.
        let makes_promiscuous = is_carried && !promiscuity::is_on(device.ifindex).map_err(of_flag)?;
        let offloads = port.offload.iter().flat_map(Offload::changed).map(str::to_owned).collect();
        self.record.will_change(device.clone(), What { offloads, promiscuous: makes_promiscuous });
        self.record.keep();
        // Its record has been written meanwhile.
        port.is_there()?;
        if let Some(offload) = &mut port.offload {
            offload.turn_off().map_err(|error| error.to_string())?;
        }
        if makes_promiscuous {
            promiscuity::set(device.ifindex, true).map_err(of_flag)?;
        }
        Ok(())
    }
}
