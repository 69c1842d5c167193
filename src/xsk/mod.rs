//! AF_XDP without a library: the ABI, rings, frames and sockets, and the same rings without a kernel.
//!
//! - [`abi`]: constants and structures of `linux/if_xdp.h`
//! - [`frame`]: a frame in hand, or lent, of one of the partitions
//! - [`area`]: the memory of frames
//! - [`custody`]: whose hands each frame is in
//! - [`umem`]: an area, and the record of its frames
//! - [`pool`]: the free list of a UMEM's frames
//! - [`store`]: a UMEM and its free list
//! - [`ring`]: the four rings
//! - [`room`]: how large an MTU frames take
//! - [`socket`]: a socket bound to one queue
//! - [`shortage`]: the process has run out of something
//! - [`ioctl`]: asking the kernel of a device; [`netdev`]: what it says
//! - [`offload`]: its offloads that change frames, held off while it is a port
//! - [`packet_socket`]: frames as they are on the wire, for tests and tools
//! - [`promiscuous`]: a device that is to receive every frame
//! - [`endpoint`]: a socket that only sends and one that only receives, for traffic generators and sinks
//! - [`fake`]: the kernel's side of the rings, for tests and benches

pub mod abi;
pub mod area;
pub mod custody;
pub mod endpoint;
pub mod fake;
pub mod frame;
pub mod ioctl;
pub mod netdev;
pub mod offload;
pub mod packet_socket;
pub mod pool;
pub mod promiscuous;
pub mod ring;
pub mod room;
pub mod shortage;
pub mod socket;
pub mod store;
pub mod umem;

use ring::{CompletionRing, FillRing, RxRing, TxRing};
use shm_layout::counters::KERNEL_VALUES;

/// The rings of one socket.
#[derive(Debug)]
pub struct Rings {
    /// Frames for the kernel to receive into.
    pub(crate) fill: FillRing,
    /// Received packets; none for a socket that only sends.
    pub(crate) rx: Option<RxRing>,
    /// Packets to send.
    pub(crate) tx: TxRing,
    /// Sent packets.
    pub(crate) completion: CompletionRing,
}

/// What a transmit kick came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// The kernel took what it found.
    Done,
    /// Not now: kick again (EAGAIN). Nothing was lost.
    Again,
    /// The device refused one frame, which completes all the same, and the batch stops there (EBUSY).
    Lost,
    /// The kernel took nothing, for instance because the link is down.
    Failed,
}

/// Values of [`shm_layout::counters::Kernel`].
pub type KernelStats = [u64; KERNEL_VALUES];

/// The way to the kernel beside the rings.
pub trait Doorbell {
    /// Asks the kernel to transmit what is in the tx ring.
    fn kick_tx(&mut self) -> Kick;
    /// Tells the kernel that the fill ring has frames again.
    fn wake_rx(&mut self);
}
