//! A frame as who holds it has it: a token, or a loan.
//!
//! A [`Frame`] is a token. The UMEM makes one for every frame, once; giving a frame to the kernel consumes
//! the token, and only an address that names a frame the kernel holds brings it back. So a token in hand means
//! that nobody else touches the frame's bytes, and a frame can be lost but never be in two hands. Tokens of two
//! UMEMs must not be mixed: only this crate can make or spend one, those of the two partitions have different types,
//! and only ports of one wire, which share a UMEM, pass frames on to each other.

use std::marker::PhantomData;

use super::abi::PACKET_HEADROOM;

/// Marker of the partition that receiving and forwarding live on.
#[derive(Debug)]
pub enum Primary {}
/// Marker of the partition that clones live on.
#[derive(Debug)]
pub enum Mirror {}

/// A partition of the UMEM.
pub trait Partition: sealed::Sealed {
    /// Its place in per-partition arrays.
    const INDEX: usize;
}

impl Partition for Primary {
    const INDEX: usize = 0;
}

impl Partition for Mirror {
    const INDEX: usize = 1;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Primary {}
    impl Sealed for super::Mirror {}
}

/// A frame in hand. Not `Clone`: there is one token per frame.
#[derive(Debug)]
#[must_use = "a dropped token is a lost frame"]
pub struct Frame<P> {
    index: u32,
    partition: PhantomData<P>,
}

impl<P> Frame<P> {
    /// The token of a frame that no other token exists for.
    pub(super) fn from_index(index: u32) -> Frame<P> {
        Frame { index, partition: PhantomData }
    }

    /// Its number.
    #[inline]
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The frame, without a token from now on.
    pub(super) fn into_index(self) -> u32 {
        self.index
    }
}

/// Where a packet lies in its frame, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// From the frame's start.
    pub offset: u32,
    /// Its length.
    pub len: u32,
}

/// A frame of another shard's UMEM, lent to this one: its bytes are the borrower's until it is given back. Not
/// `Clone`, as little as a [`Frame`].
#[derive(Debug)]
#[must_use = "a dropped loan is a lost frame"]
pub struct Loan {
    index: u32,
}

impl Loan {
    /// A loan whose number came from its owner.
    pub(crate) fn arrived(index: u32) -> Loan {
        Loan { index }
    }

    /// Its number.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Its number, for the owner: the loan is no longer the borrower's.
    pub(crate) fn give_back(self) -> u32 {
        self.index
    }
}

/// Where the kernel puts a packet it receives into a frame.
pub const RX_OFFSET: u32 = PACKET_HEADROOM;
