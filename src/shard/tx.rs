//! Transmission: what was pushed is shown to the kernel, and the kernel asked to take it.

use shm_layout::counters::Binding;
use shm_layout::record::PortRole;

use super::port::Port;
use crate::xsk::{Doorbell, Kick};

/// The longest rest of a monitor port, in breaths: 2 to the power of this, less one.
const LONGEST_REST: u32 = 5;

/// Submits the port's tx ring and kicks the kernel while it has entries the kernel has not taken.
///
/// In copy mode `sendto` does the transmission, so a ring that is not empty is kicked again in the next breath:
/// an `EAGAIN` keeps the kick pending by itself. Only a monitor port by which nothing has moved since its last kick is
/// given a rest, twice as long each time: its troubles are not to cost the primary a system call a breath. Kernels may
/// show what they took only later, so it counts as moving too when a frame comes back.
pub fn kick<D: Doorbell>(port: &mut Port<D>) {
    if port.in_tx > 0 && port.up {
        port.tx.submit();
        if port.tx.pending() > 0 && (!port.zero_copy || port.tx.needs_wakeup()) {
            let taken = port.tx.taken();
            if taken != port.taken {
                port.moves();
            }
            if port.rest > 0 {
                port.rest -= 1;
            } else {
                port.taken = taken;
                if port.role == PortRole::Monitor && !port.zero_copy {
                    port.rest = (1 << port.stuck) - 1;
                    port.stuck = (port.stuck + 1).min(LONGEST_REST);
                }
                ring(port);
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
            port.refused.note(port.completion.acquire(u32::MAX));
        }
        Kick::Failed => port.count(Binding::KicksFailed, 1),
    }
}
