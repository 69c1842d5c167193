//! Whose a clone's frame is: what it is accounted to, on which shard, and the monitor queue of another shard that it goes
//! to.

use crate::counters::ENTRY_SLOTS;

/// A monitor queue of another shard, as a source sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Index of its owner in [`Lanes`](super::lanes::Lanes).
    pub peer: u32,
    /// The monitor port.
    pub ifindex: u32,
    /// Its queue, less than 2^16.
    pub queue: u32,
    /// Bytes of the largest clone it takes.
    pub longest: u32,
}

/// Ledgers, and clones in several frames, that can be told apart at most.
pub const MAX_ACCOUNTS: u32 = 1 << Account::NUMBER_BITS;

/// What a clone's frame is accounted to: a ledger, or one of the clones that lie in several frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(u32);

impl Account {
    const NUMBER_BITS: u32 = 19;
    /// Of its number.
    pub(super) const BITS: u32 = Account::NUMBER_BITS + 1;
    const SUPER: u32 = MAX_ACCOUNTS;

    /// The ledger in `slot`, which is less than [`MAX_ACCOUNTS`].
    #[inline]
    pub fn ledger(slot: u32) -> Account {
        Account(slot & (MAX_ACCOUNTS - 1))
    }

    /// The clone with this index in [`Supers`](super::supers::Supers), less than [`MAX_ACCOUNTS`].
    pub(super) fn super_frame(at: u32) -> Account {
        Account(Account::SUPER | at & (MAX_ACCOUNTS - 1))
    }

    /// From what [`Account::number`] gave.
    pub(super) fn from_number(number: u32) -> Account {
        Account(number & (2 * MAX_ACCOUNTS - 1))
    }

    /// As it goes through a lane.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// Slot of the ledger, where it is one.
    #[inline]
    pub fn slot(self) -> u32 {
        self.0 & (MAX_ACCOUNTS - 1)
    }

    /// Index of the clone, where it is one.
    #[inline]
    pub(super) fn super_at(self) -> Option<u32> {
        (self.0 & Account::SUPER != 0).then_some(self.0 & (MAX_ACCOUNTS - 1))
    }
}

/// Whose clone a frame carries, as noted with it for its completion: the shard, and the account there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u32);

impl Origin {
    const PART: u32 = 1 << 31;

    /// This shard's own clone.
    #[inline]
    pub fn own(account: Account) -> Origin {
        Origin(account.0)
    }

    /// A clone of the shard with this index in [`Lanes`](super::lanes::Lanes).
    pub(super) fn of(peer: usize, account: Account) -> Origin {
        Origin((peer as u32 + 1) << Account::BITS | account.0)
    }

    /// The same of a frame whose packet goes on in the next one.
    pub(super) fn part(self) -> Origin {
        Origin(self.0 | Origin::PART)
    }

    /// Whether the frame's packet goes on in the next one.
    #[inline]
    pub(super) fn is_part(self) -> bool {
        self.0 & Origin::PART != 0
    }

    /// From what [`Origin::tag`] gave.
    pub fn from_tag(tag: u32) -> Origin {
        Origin(tag)
    }

    /// As it is noted with a frame.
    #[inline]
    pub fn tag(self) -> u32 {
        self.0
    }

    /// Index of the other shard in [`Lanes`](super::lanes::Lanes); `None` for this shard.
    #[inline]
    pub fn peer(self) -> Option<usize> {
        ((self.0 & !Origin::PART) as usize >> Account::BITS).checked_sub(1)
    }

    /// The account.
    #[inline]
    pub fn account(self) -> Account {
        Account(self.0 & (2 * MAX_ACCOUNTS - 1))
    }
}

const _: () = assert!(ENTRY_SLOTS < MAX_ACCOUNTS as usize);

/// Shards at most: a peer's index is noted beside an account.
pub const MAX_SHARDS: usize = (1 << (31 - Account::BITS)) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_origin_keeps_shard_and_account(peer in 0..MAX_SHARDS, number in 0..MAX_ACCOUNTS) {
            for account in [Account::ledger(number), Account::super_frame(number)] {
                let origin = Origin::from_tag(Origin::of(peer, account).tag());
                prop_assert_eq!((origin.peer(), origin.account()), (Some(peer), account));
                prop_assert_eq!((Origin::own(account).peer(), Origin::own(account).account()), (None, account));
                prop_assert_eq!(Account::from_number(account.number()), account);
                let part = Origin::from_tag(origin.part().tag());
                prop_assert_eq!((part.peer(), part.account()), (Some(peer), account));
                prop_assert!(part.is_part() && !origin.is_part());
            }
            prop_assert_eq!((Account::ledger(number).slot(), Account::ledger(number).super_at()), (number, None));
            prop_assert_eq!(Account::super_frame(number).super_at(), Some(number));
        }
    }
}
