//! Transmission: what was pushed is shown to the kernel, and the kernel asked to take it.

use shm_layout::counters::Binding;
use shm_layout::record::PortRole;

use super::port::Port;
use crate::xsk::{Doorbell, Kick};

/// Breaths, at most, that a monitor port which takes nothing is not kicked in between: 2 to the power of this, less one.
const LONGEST_REST: u32 = 5;

/// Submits the port's tx ring and kicks the kernel while it has entries the kernel has not taken.
///
/// In copy mode `sendto` does the transmission, so a ring that is not empty is kicked again in the next breath:
/// an `EAGAIN` keeps the kick pending by itself. A monitor port that took nothing is given a rest as long as the shard
/// is `busy`, twice as long each time: its troubles are not to cost the primary a system call a breath.
pub fn kick<D: Doorbell>(port: &mut Port<D>, busy: bool) {
    if port.in_tx > 0 && port.up {
        port.tx.submit();
        let pending = port.tx.pending();
        if pending > 0 && (!port.zero_copy || port.tx.needs_wakeup()) {
            if busy && port.rest > 0 {
                port.rest -= 1;
            } else {
                ring(port);
                let stuck = port.role == PortRole::Monitor && port.tx.pending() == pending;
                port.stuck = if stuck { (port.stuck + 1).min(LONGEST_REST) } else { 0 };
                port.rest = (1 << port.stuck) - 1;
            }
        }
    }
    if port.dirty {
        port.values[Binding::Outstanding as usize] = u64::from(port.in_tx);
        port.block.commit(&port.values);
        port.dirty = false;
    }
}

fn ring<D: Doorbell>(port: &mut Port<D>) {
    port.count(Binding::Kicks, 1);
    match port.doorbell.kick_tx() {
        Kick::Done => {}
        Kick::Again => port.count(Binding::KicksAgain, 1),
        Kick::Lost => {
            port.count(Binding::TxLost, 1);
            port.refused += 1;
        }
        Kick::Failed => port.count(Binding::KicksFailed, 1),
    }
}
