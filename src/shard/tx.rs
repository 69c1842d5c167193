//! Transmission: what was pushed is shown to the kernel, and the kernel asked to take it.

use shm_layout::counters::Binding;

use super::port::Port;
use crate::xsk::{Doorbell, Kick};

/// Submits the port's tx ring and kicks the kernel while it has entries the kernel has not taken.
///
/// In copy mode `sendto` does the transmission, so a ring that is not empty is kicked again in the next breath:
/// an `EAGAIN` keeps the kick pending by itself.
pub fn kick<D: Doorbell>(port: &mut Port<D>) {
    if port.in_tx > 0 && port.up {
        port.tx.submit();
        if port.tx.pending() > 0 && (!port.zero_copy || port.tx.needs_wakeup()) {
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
    }
    if port.dirty {
        port.values[Binding::Outstanding as usize] = u64::from(port.in_tx);
        port.block.commit(&port.values);
        port.dirty = false;
    }
}
