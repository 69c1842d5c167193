//! The kernel's side of the rings, without a kernel.
//!
//! [`FakeNic::new`] makes the rings a shard uses and keeps their other ends: it receives packets into frames
//! taken from the fill ring, transmits packets from the tx ring and completes them, when and as far as a test
//! lets it. Cursors can start anywhere, as near to the wrap as wanted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::abi::{Desc, PACKET_HEADROOM, XDP_PKT_CONTD};
use super::area::Area;
use super::ring::{Consumer, Producer, plain_ring};
use super::socket::RingSizes;
use super::{Doorbell, Kick, Rings};

/// A doorbell whose answers a test scripts. Without a script every kick is [`Kick::Done`].
#[derive(Clone, Debug, Default)]
pub struct FakeDoorbell {
    script: Arc<Mutex<VecDeque<Kick>>>,
    kicks: Arc<AtomicU64>,
    wakes: Arc<AtomicU64>,
    /// Where this one tells of its kicks, and by which name.
    order: Option<(Order, u32)>,
}

/// The kicks of several doorbells, in their order.
pub type Order = Arc<Mutex<Vec<u32>>>;

impl FakeDoorbell {
    /// Answers the next kicks with `kicks`, in order.
    pub fn script(&self, kicks: impl IntoIterator<Item = Kick>) {
        if let Ok(mut script) = self.script.lock() {
            script.extend(kicks);
        }
    }

    /// One that enters its kicks in `order`, as `name`.
    pub fn named(order: &Order, name: u32) -> FakeDoorbell {
        FakeDoorbell { order: Some((Arc::clone(order), name)), ..FakeDoorbell::default() }
    }

    /// Kicks so far.
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Relaxed)
    }

    /// Times it was told of frames in the fill ring.
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Relaxed)
    }
}

impl Doorbell for FakeDoorbell {
    fn kick_tx(&mut self) -> Kick {
        self.kicks.fetch_add(1, Relaxed);
        if let Some((order, name)) = &self.order
            && let Ok(mut order) = order.lock()
        {
            order.push(*name);
        }
        self.script.lock().ok().and_then(|mut script| script.pop_front()).unwrap_or(Kick::Done)
    }

    fn wake_rx(&mut self) {
        self.wakes.fetch_add(1, Relaxed);
    }
}

/// The kernel's side of one socket.
#[derive(Debug)]
pub struct FakeNic {
    area: Arc<Area>,
    fill: Consumer<u64>,
    rx: Option<Producer<Desc>>,
    tx: Consumer<Desc>,
    completion: Producer<u64>,
    /// Taken off the fill ring, and not to be received into before it is fed.
    hoarded: Vec<u64>,
    /// To be received into before anything on the fill ring is.
    fed: VecDeque<u64>,
    /// Transmitted and not completed yet.
    owed: VecDeque<u64>,
    /// Owed, and not to be completed before it turns up.
    withheld: VecDeque<u64>,
    /// What was transmitted of a packet that goes on.
    begun: Vec<u8>,
}

/// A packet being transmitted.
#[derive(Debug)]
pub struct Sent<'a> {
    area: &'a Area,
    desc: Desc,
    /// Bytes of it.
    pub len: u32,
}

impl Sent<'_> {
    /// Its bytes; none where it lies outside the area.
    pub fn bytes(&self) -> Vec<u8> {
        self.area.kernel_read(self.desc).unwrap_or_default()
    }
}

impl FakeNic {
    /// The rings of a socket over `area`, and the kernel's side of them. Every cursor starts at `start`.
    ///
    /// # Errors
    /// A size is no power of two, or memory is short.
    pub fn new(area: &Arc<Area>, sizes: RingSizes, start: u32) -> io::Result<(FakeNic, Rings)> {
        let (fill, fill_kernel) = plain_ring(sizes.fill, start)?;
        let (rx_kernel, rx) = match sizes.rx {
            0 => (None, None),
            size => plain_ring(size, start).map(|(kernel, own)| (Some(kernel), Some(own)))?,
        };
        let (tx, tx_kernel) = plain_ring(sizes.tx, start)?;
        let (completion_kernel, completion) = plain_ring(sizes.completion, start)?;
        let nic = FakeNic {
            area: Arc::clone(area),
            fill: fill_kernel,
            rx: rx_kernel,
            tx: tx_kernel,
            completion: completion_kernel,
            hoarded: Vec::new(),
            fed: VecDeque::new(),
            owed: VecDeque::new(),
            withheld: VecDeque::new(),
            begun: Vec::new(),
        };
        Ok((nic, Rings { fill, rx, tx, completion }))
    }

    /// Receives `packet`. `false`, and the packet is dropped, when the fill ring is empty, the rx ring full, or
    /// the packet larger than a frame.
    pub fn receive(&mut self, packet: &[u8]) -> bool {
        let Some(rx) = &mut self.rx else { return false };
        if rx.acquire(1) == 0 || packet.len() > (self.area.frame_size() - PACKET_HEADROOM) as usize {
            return false;
        }
        let Some(addr) = self.fed.pop_front().or_else(|| self.fill.pop()) else { return false };
        self.fill.release();
        let addr = addr + u64::from(PACKET_HEADROOM);
        let desc = Desc { addr, len: packet.len() as u32, options: 0 };
        let received = self.area.kernel_write(addr, packet).is_some() && rx.push(desc).is_ok();
        rx.submit();
        received
    }

    /// Takes at most `limit` addresses off the fill ring for nothing, as a device does that prepares for packets: the
    /// ring runs dry.
    pub fn starve(&mut self, limit: usize) {
        let before = self.hoarded.len();
        self.hoarded.extend(std::iter::from_fn(|| self.fill.pop()).take(limit));
        if self.hoarded.len() > before {
            self.fill.release();
        }
    }

    /// Says whether the kernel is to be told of frames in the fill ring.
    pub fn ask_for_fill(&mut self, asks: bool) {
        self.fill.set_needs_wakeup(asks);
    }

    /// Receives into what [`FakeNic::starve`] took from now on.
    pub fn feed(&mut self) {
        self.fed.extend(self.hoarded.drain(..));
    }

    /// Puts a descriptor into the rx ring that no fill entry asked for: what a broken kernel would do.
    pub fn forge_rx(&mut self, desc: Desc) -> bool {
        let Some(rx) = &mut self.rx else { return false };
        let pushed = rx.push(desc).is_ok();
        rx.submit();
        pushed
    }

    /// Takes at most `limit` frames off the tx ring. They are owed a completion. The packets that end with one of them.
    pub fn transmit(&mut self, limit: usize) -> Vec<Vec<u8>> {
        let (mut packets, mut begun) = (Vec::new(), std::mem::take(&mut self.begun));
        self.transmit_each(limit, |sent| {
            begun.extend(sent.bytes());
            if sent.desc.options & XDP_PKT_CONTD == 0 {
                packets.push(std::mem::take(&mut begun));
            }
        });
        self.begun = begun;
        packets
    }

    /// As [`FakeNic::transmit`], with a look at each frame instead of a copy.
    pub fn transmit_each(&mut self, limit: usize, mut look: impl FnMut(&Sent<'_>)) {
        for _ in 0..limit {
            let Some(desc) = self.tx.pop() else { break };
            self.owed.push_back(desc.addr);
            look(&Sent { area: &self.area, desc, len: desc.len });
        }
        self.tx.release();
    }

    /// Completes at most `limit` transmitted packets, the oldest first; fewer when the completion ring is full.
    pub fn complete(&mut self, limit: usize) -> usize {
        let mut done = 0;
        while done < limit {
            let Some(&addr) = self.owed.front() else { break };
            if self.completion.push(addr).is_err() {
                break;
            }
            self.owed.pop_front();
            done += 1;
        }
        self.completion.submit();
        done
    }

    /// Puts an address into the completion ring that was never sent: what a broken kernel would do.
    pub fn forge_completion(&mut self, addr: u64) -> bool {
        let pushed = self.completion.push(addr).is_ok();
        self.completion.submit();
        pushed
    }

    /// Reverses the order in which owed completions will be given.
    pub fn shuffle_owed(&mut self) {
        self.owed.make_contiguous().reverse();
    }

    /// Keeps back the completions of at most `limit` transmitted packets, the oldest first.
    pub fn withhold(&mut self, limit: usize) {
        self.withheld.extend(self.owed.drain(..limit.min(self.owed.len())));
    }

    /// Lets the completions kept back be completed, after those owed already.
    pub fn turn_up(&mut self) {
        self.owed.append(&mut self.withheld);
    }

    /// Packets transmitted and not completed, those kept back among them.
    pub fn owed(&self) -> usize {
        self.owed.len() + self.withheld.len()
    }

    /// Packets waiting in the tx ring.
    pub fn tx_waiting(&mut self) -> u32 {
        self.tx.acquire(u32::MAX)
    }

    /// Receives `count` packets of `len` bytes without touching their bytes: what a device does to the processor
    /// that runs the shard. Returns how many there was room for. For benches.
    pub fn receive_untouched(&mut self, len: u32, count: usize) -> usize {
        self.receive_lengths(std::iter::repeat_n(len, count))
    }

    /// As [`FakeNic::receive_untouched`], packets of these lengths.
    pub fn receive_lengths(&mut self, lengths: impl IntoIterator<Item = u32>) -> usize {
        self.receive_each(lengths, |_, _| true)
    }

    /// As [`FakeNic::receive_untouched`], but each is written, as the kernel does in copy mode on the processor that
    /// runs the shard.
    pub fn receive_written(&mut self, packet: &[u8], count: usize) -> usize {
        let lengths = std::iter::repeat_n(packet.len() as u32, count);
        self.receive_each(lengths, |area, desc| area.kernel_write(desc.addr, packet).is_some())
    }

    /// `write` says whether the packet fits where the shard wants it.
    fn receive_each(&mut self, lengths: impl IntoIterator<Item = u32>, write: impl Fn(&Area, &Desc) -> bool) -> usize {
        let Some(rx) = &mut self.rx else { return 0 };
        let mut received = 0;
        let room = rx.acquire(u32::MAX) as usize;
        for len in lengths.into_iter().take(room) {
            let Some(addr) = self.fill.pop() else { break };
            let desc = Desc { addr: addr + u64::from(PACKET_HEADROOM), len, options: 0 };
            if !write(&self.area, &desc) || rx.push(desc).is_err() {
                break;
            }
            received += 1;
        }
        self.fill.release();
        rx.submit();
        received
    }

    /// Transmits and completes everything without looking at it. Returns how much it was. For benches.
    pub fn transmit_untouched(&mut self) -> usize {
        let mut sent = 0;
        self.transmit_at_once(|_| sent += 1);
        sent
    }

    /// Transmits and completes as much as the completion ring has room for, with a look at each packet.
    pub fn transmit_at_once(&mut self, mut look: impl FnMut(&Sent<'_>)) {
        for _ in 0..self.completion.acquire(u32::MAX) {
            let Some(desc) = self.tx.pop() else { break };
            if self.completion.push(desc.addr).is_err() {
                break;
            }
            look(&Sent { area: &self.area, desc, len: desc.len });
        }
        self.tx.release();
        self.completion.submit();
    }

    /// Packets waiting in the rx ring.
    pub fn rx_waiting(&self) -> u32 {
        self.rx.as_ref().map_or(0, Producer::pending)
    }

    /// Addresses waiting in the completion ring.
    pub fn completion_waiting(&self) -> u32 {
        self.completion.pending()
    }

    /// Frames to receive into: in the fill ring, or taken off it ahead.
    pub fn fill_waiting(&mut self) -> u32 {
        self.fill.acquire(u32::MAX) + (self.hoarded.len() + self.fed.len()) as u32
    }
}
