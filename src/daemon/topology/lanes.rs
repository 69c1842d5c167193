//! How the queues of a port are used.

use super::carry::Ways;
use super::identity::Place;
use super::{Places, Want};
use crate::xsk::ioctl::NetdevError;
use crate::xsk::netdev::{Netdev, Queues};

/// How the queues of a port are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    /// Sockets: a wire port's rx queues, a monitor port's tx queues.
    pub(super) sockets: u32,
    /// Queues frames are sent on: for a wire, those that both its ports have in both directions.
    pub(super) width: u32,
    /// Sockets of the wire's other port.
    pub(super) across: u32,
}

impl Lanes {
    /// As the devices are now; `None` while one of them is not there.
    ///
    /// # Errors
    /// They could not be asked.
    pub(super) fn of(ifindex: u32, want: Want, places: &Places, ways: &Ways) -> Result<Option<Lanes>, NetdevError> {
        // The kernel carries frames without sockets.
        if ways.get(&ifindex).is_some_and(|way| way.as_ref().is_ok_and(|way| way.hook().is_some())) {
            return Ok(Some(Lanes { sockets: 0, width: 1, across: 0 }));
        }
        let queues = |port| places.get(&port).and_then(Place::device).map_or(Ok(None), queues);
        let Some(own) = queues(ifindex)? else { return Ok(None) };
        match want {
            Want::Monitor => Ok(Some(Lanes { sockets: own.tx, width: own.tx, across: 0 })),
            Want::Wire { peer } => {
                let Some(other) = queues(peer)? else { return Ok(None) };
                let width = own.rx.min(own.tx).min(other.rx).min(other.tx).max(1);
                Ok(Some(Lanes { sockets: own.rx, width, across: other.rx }))
            }
        }
    }
}

impl Lanes {
    /// Its sockets that belong to shard `shard` of `shards`.
    pub(super) fn own(&self, shard: usize, shards: usize) -> u32 {
        owned(self.sockets, self.width, shard, shards)
    }

    /// Those of both ports of its wire.
    pub(super) fn both(&self, shard: usize, shards: usize) -> u32 {
        self.own(shard, shards) + owned(self.across, self.width, shard, shards)
    }
}

/// Queues of a device of `sockets` that belong to shard `shard` of `shards`, on a wire with so many lanes: queue q of a
/// wire goes with queue q mod m of its other port, so both are in one shard's hands.
fn owned(sockets: u32, width: u32, shard: usize, shards: usize) -> u32 {
    (0..sockets).filter(|queue| (queue % width) as usize % shards == shard).count() as u32
}

fn queues(ifindex: u32) -> Result<Option<Queues>, NetdevError> {
    match Netdev::open(ifindex) {
        Ok(device) => Ok(Some(device.queues())),
        Err(NetdevError::NoIndex { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
