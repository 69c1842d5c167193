//! Where clones go: by monitor port and queue, as the ports and outputs are now.

use shm_layout::record::PortRole;

use super::lanes::Lanes;
use super::limits::{MAX_OUTPUTS, MAX_PORTS};
use super::mailbox::Output;
use super::port::{Order, Port, Target, serving};

/// Targets that are remembered. A power of two.
const KNOWN: usize = 64;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Known {
    output: u32,
    queue: u32,
    target: Target,
}

/// What decides where clones go.
#[derive(Debug)]
pub struct Targets {
    /// The ports of this shard.
    order: Order,
    /// Monitor ports that are up, whether or not a queue of theirs is served here.
    outputs: Vec<Output>,
    /// By [`place`]. Forgotten whenever what decides changes.
    known: [Option<Known>; KNOWN],
}

impl Default for Targets {
    /// None yet, with room for all there can be.
    fn default() -> Self {
        Targets { order: Vec::with_capacity(MAX_PORTS), outputs: Vec::with_capacity(MAX_OUTPUTS), known: [None; KNOWN] }
    }
}

/// Where a target is remembered. Neighbours in number have places of their own.
fn place(output: u32, queue: u32) -> usize {
    output.wrapping_add(queue.wrapping_mul(29)) as usize % KNOWN
}

impl Targets {
    /// A monitor port is up, or has changed. One beyond [`MAX_OUTPUTS`] is not kept.
    pub(super) fn output_up(&mut self, output: Output) {
        self.output_down(output.ifindex);
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push(output);
        }
    }

    /// A monitor port is down or gone.
    pub(super) fn output_down(&mut self, ifindex: u32) {
        self.outputs.retain(|up| up.ifindex != ifindex);
    }

    /// The monitor ports that are up.
    pub(super) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Begins anew with these ports. After every change of ports, outputs and lanes.
    pub(super) fn renew<D>(&mut self, ports: &[Port<D>]) {
        self.order.clear();
        self.order.extend(ports.iter().enumerate().map(|(at, port)| (port.ifindex, port.queue, at)));
        self.order.sort_unstable();
        self.known = [None; KNOWN];
    }

    /// The port of device `ifindex` that serves, in this role, what arrives on queue `queue` elsewhere.
    pub(super) fn serving<D>(&self, ports: &[Port<D>], role: PortRole, ifindex: u32, queue: u32) -> Option<usize> {
        serving(ports, &self.order, role, ifindex, queue)
    }

    /// Where clones for `output` go, of frames that arrive on queue `queue`: to the same queue of it, or the only one.
    #[inline]
    pub(super) fn of<D>(&mut self, output: u32, queue: u32, ports: &[Port<D>], lanes: &Lanes) -> Target {
        match self.known[place(output, queue)] {
            Some(known) if (known.output, known.queue) == (output, queue) => known.target,
            _ => self.find(output, queue, ports, lanes),
        }
    }

    #[cold]
    fn find<D>(&mut self, output: u32, queue: u32, ports: &[Port<D>], lanes: &Lanes) -> Target {
        let target = self.decide(output, queue, ports, lanes);
        self.known[place(output, queue)] = Some(Known { output, queue, target });
        target
    }

    fn decide<D>(&self, output: u32, queue: u32, ports: &[Port<D>], lanes: &Lanes) -> Target {
        if let Some(index) = self.serving(ports, PortRole::Monitor, output, queue) {
            return Target::Local(index);
        }
        let Some(output) = self.outputs.iter().find(|up| up.ifindex == output) else { return Target::Down };
        let queue = if output.queues == 1 { 0 } else { queue };
        let remote = (queue < output.queues).then(|| lanes.to(output, queue)).flatten();
        remote.map_or(Target::NoBinding, Target::Remote)
    }
}
