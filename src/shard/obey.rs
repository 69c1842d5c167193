//! What the control thread asks of a shard, between its breaths.

use shm_layout::record::PortRole;

use super::complete::{self, Closed};
use super::limits::{MAX_PORTS, MAX_RINGS};
use super::mailbox::{Command, Event};
use super::port::Port;
use super::{Shard, rx};
use crate::xsk::Doorbell;

impl<D: Doorbell> Shard<D> {
    /// Does what the control thread asks. Rare.
    #[cold]
    pub(super) fn obey(&mut self) {
        let (mut rebind, mut closed) = (false, Closed::new());
        while let Some(command) = self.mailbox.commands.pop() {
            // Answers come in the order of the questions.
            if closed.is_full() || !matches!(command, Command::Reclaim { .. }) {
                self.reclaim(&mut closed);
            }
            rebind |= !matches!(command, Command::Audit);
            let event = match command {
                Command::Lay { at, store } => {
                    self.stores.lay(at, store);
                    None
                }
                Command::Lift(at) => Some(Event::Lifted(self.stores.lift(at))),
                Command::Add(port) if self.has_room_for(&port) => {
                    let socket = port.socket;
                    let at = match port.role {
                        PortRole::Wire => self.wires(),
                        PortRole::Monitor => self.ports.len(),
                    };
                    self.ports.insert(at, *port);
                    let port = &mut self.ports[at];
                    if let Some(store) = self.stores.of(port.store) {
                        rx::refill(port, port.fill_target, store);
                    }
                    Some(Event::Filled(socket))
                }
                Command::Add(port) => Some(Event::Removed(port)),
                Command::Link { socket, up, mtu, zero_copy, multi_buffer } => {
                    if let Some(port) = self.ports.iter_mut().find(|p| p.socket == socket) {
                        (port.up, port.mtu, port.zero_copy, port.multi_buffer) = (up, mtu, zero_copy, multi_buffer);
                    }
                    None
                }
                Command::OutputUp(output) => {
                    self.targets.output_up(output);
                    None
                }
                Command::OutputDown { ifindex } => {
                    self.targets.output_down(ifindex);
                    None
                }
                Command::Read(ring) => {
                    if self.rings.len() < MAX_RINGS {
                        self.rings.push(*ring);
                    }
                    None
                }
                Command::Audit => {
                    self.audits.0 += 1;
                    None
                }
                Command::Remove(socket) => {
                    let at = self.ports.iter().position(|p| p.socket == socket);
                    at.map(|at| {
                        // What is completed already has been sent, and is not to count as lost with the port.
                        complete::drain(&mut self.ports[at], &mut self.stores, &mut self.clones, &self.block);
                        let mut port = self.ports.remove(at);
                        port.count_out();
                        Event::Removed(Box::new(port))
                    })
                }
                Command::Reclaim { socket, store } => {
                    closed.push((store, socket));
                    None
                }
            };
            // What became of other shards' clones is told before the control thread goes on, maybe to stop them.
            self.clones.lanes.submit();
            // The control thread has at most a question a port open at a time: there is room for every answer.
            if let Some(event) = event {
                let _ = self.mailbox.events.push(event);
            }
        }
        self.reclaim(&mut closed);
        if rebind {
            self.rebind();
        }
        self.commit_partitions();
    }

    /// Takes the frames of closed sockets back, and says so.
    fn reclaim(&mut self, closed: &mut Closed) {
        if closed.is_empty() {
            return;
        }
        complete::reclaim(closed, &mut self.stores, &mut self.clones, &self.block);
        self.clones.lanes.submit();
        for (_, socket) in closed.drain(..) {
            let _ = self.mailbox.events.push(Event::Reclaimed(socket));
        }
    }

    /// Whether a port can be served: there is a place for it, and a wire port's frames are here.
    fn has_room_for(&mut self, port: &Port<D>) -> bool {
        self.ports.len() < MAX_PORTS && (port.role == PortRole::Monitor || self.stores.of(port.store).is_some())
    }

    /// Wire ports, which are the first ones.
    fn wires(&self) -> usize {
        self.ports.partition_point(|port| port.role == PortRole::Wire)
    }
}
