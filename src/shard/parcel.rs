//! What goes through a lane.

use super::drop::DropReason;
use super::origin::Account;
use super::spsc::Message;

/// To the owner: the monitor's ifindex, its queue, and frames of the same clone that are to come. Back: 0 for
/// delivered, 1 and the reason for dropped.
pub(super) type Note = (u32, u16, u16);

/// A frame, and what is or was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) frame: u32,
    /// Bytes of the clone in it.
    pub(super) len: u32,
    /// Whether the packet goes on in the next one.
    pub(super) goes_on: bool,
    /// None for an empty frame.
    pub(super) account: Option<Account>,
    pub(super) note: Note,
}

/// Stands for no account: there is none of all ones.
const NO_ACCOUNT: u32 = (1 << 24) - 1;

const _: () = assert!(Account::BITS < 24);

impl Parcel {
    const DELIVERED: Note = (0, 0, 0);

    /// A frame with nothing in it.
    pub(super) fn empty(frame: u32) -> Parcel {
        Parcel { frame, len: 0, goes_on: false, account: None, note: Parcel::DELIVERED }
    }

    /// Tells what became of a clone.
    pub(super) fn note_of(outcome: Result<(), DropReason>) -> Note {
        outcome.map_or_else(|reason| (1, reason as u16, 0), |()| Parcel::DELIVERED)
    }

    /// What became of the clone.
    pub(super) fn outcome(&self) -> Result<(), DropReason> {
        match self.note {
            Parcel::DELIVERED => Ok(()),
            (_, code, _) => Err(DropReason::from_code(code.into())),
        }
    }

    /// 24 bits of frame, one of whether it goes on, 15 of length, 24 of account; all have less.
    pub(super) fn pack(self) -> Message {
        let account = self.account.map_or(NO_ACCOUNT, Account::number);
        let len = u64::from(self.goes_on) << 15 | u64::from(self.len);
        let head = u64::from(self.frame) << 40 | len << 24 | u64::from(account);
        let (ifindex, queue, more) = self.note;
        [head, u64::from(ifindex) << 32 | u64::from(queue) << 16 | u64::from(more)]
    }

    /// From what [`Parcel::pack`] gave.
    #[inline]
    pub(super) fn unpack([head, note]: Message) -> Parcel {
        let account = head as u32 & 0x00ff_ffff;
        Parcel {
            frame: (head >> 40) as u32,
            len: (head >> 24) as u32 & 0x7fff,
            goes_on: head >> 39 & 1 != 0,
            account: (account != NO_ACCOUNT).then(|| Account::from_number(account)),
            note: ((note >> 32) as u32, (note >> 16) as u16, note as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_parcel_is_unpacked_as_it_was_packed(
            frame in 0u32..1 << 24, len in 0u32..=4096, account in 0u32..1 << Account::BITS, note: (u32, u16, u16),
            goes_on: bool,
        ) {
            for account in [None, Some(Account::from_number(account))] {
                let parcel = Parcel { frame, len, goes_on, account, note };
                prop_assert_eq!(Parcel::unpack(parcel.pack()), parcel);
            }
            for outcome in DropReason::ALL.map(Err).into_iter().chain([Ok(())]) {
                let parcel = Parcel { note: Parcel::note_of(outcome), ..Parcel::empty(frame) };
                prop_assert_eq!(parcel.outcome(), outcome);
            }
        }
    }
}
