//! The offloads of a device that change frames before a program sees them: which are on, which cannot be turned off, and
//! holding them off.
//!
//! What is merged on reception (LRO, and in the driver `rx-gro-hw`) is no frame of the wire any more: LRO's cannot be taken
//! apart again, and many drivers refuse XDP while it is on. Where that cannot be turned off it stays.
//!
//! With the offload on, a tag travels beside the frame and not in it, where XDP cannot see it and a mirrored copy
//! would lack it. Both tag types count, 802.1Q and 802.1ad.
//!
//! On veth the sender decides: a tag that the peer's stack adds (a VLAN interface, a VLAN-aware bridge, tc) stays out
//! of the bytes while the *peer's* `txvlan` is on, whatever this port's offloads say, in native and generic XDP alike.
//! That has to be turned off at the peer, which may be in a namespace this process cannot reach.

use std::io;

use super::ioctl::{Control, IfName, NetdevError, Refusal, text};
use super::netdev::{Netdev, label};

/// The features: the kernel's name, the one `ethtool -K` takes, and what they do.
const FEATURES: [(&str, &str, Kind); 6] = [
    ("rx-vlan-hw-parse", "rxvlan", Kind::Tag),
    ("tx-vlan-hw-insert", "txvlan", Kind::Insert),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse", Kind::Tag),
    ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert", Kind::Insert),
    ("rx-gro-hw", "rx-gro-hw", Kind::Merge),
    ("rx-lro", "lro", Kind::MergeForGood),
];

/// What a feature does to frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Takes a VLAN tag out of the bytes of what is received.
    Tag,
    /// Puts one into what is sent, where it is beside the bytes. Of what has its tag in them nothing is lost.
    Insert,
    /// Makes one frame of several.
    Merge,
    /// And so that they cannot be taken apart.
    MergeForGood,
}

/// Who takes frames up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A program in the driver: a tag is in the frame or lost.
    Driver,
    /// One in the stack behind a NIC. What that took off need not be what was there: vmxnet3 calls each tag an 802.1Q tag, and
    /// igb makes what is left 60 bytes long. The kernel itself does it right.
    StackOfNic,
    /// One in the stack behind a device of a stack: an skb has its tag beside it.
    Stack,
}

impl Reader {
    fn minds(self, feature: &Feature) -> bool {
        match feature.kind {
            Kind::Tag | Kind::Insert => self != Reader::Stack,
            Kind::Merge => self == Reader::Driver,
            Kind::MergeForGood => true,
        }
    }
}

// linux/ethtool.h
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// A VLAN offload of a device that is on, takes tags off what is received and cannot be turned off, as `ethtool -K` names it.
///
/// # Errors
/// [`NetdevError::NoIndex`] when there is no such device.
pub fn stuck_vlan_offload(ifindex: u32) -> Result<Option<&'static str>, NetdevError> {
    let control = Control::open()?;
    let (features, now) = control.state(ifindex, Reader::Driver)?;
    Ok(now.stuck(&features, Reader::Driver).map(|feature| feature.alias))
}

/// The VLAN offloads of a device that are on and take tags off what is received, as `ethtool -K` names them.
///
/// # Errors
/// [`NetdevError::NoIndex`] when there is no such device.
pub fn taking_tags_off(ifindex: u32) -> Result<Vec<&'static str>, NetdevError> {
    let control = Control::open()?;
    let (features, now) = control.state(ifindex, Reader::Driver)?;
    let on = features.iter().filter(|feature| feature.loses_tags(Reader::Driver) && now.is_active(feature.bit));
    Ok(on.map(|feature| feature.alias).collect())
}

/// An offload that somebody has turned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnedOn {
    /// As `ethtool -K` names it.
    pub name: &'static str,
    /// Whether the reader loses tags by it.
    pub loses_tags: bool,
}

/// Offloads of one port: to be turned off, and then held off.
///
/// [`restore`](Offload::restore) puts back exactly what was changed and says if it could not; dropping does the
/// same and logs. Another device that has the ifindex by then is left alone.
#[derive(Debug)]
pub struct Offload {
    /// Bound to the namespace of the thread that opened it, so that any thread may restore.
    control: Control,
    device: Netdev,
    reader: Reader,
    /// What is to be held off, and on again afterwards.
    changed: Vec<Feature>,
    /// Whether there is something to put back.
    held: bool,
}

/// One bit of the kernel's feature words.
#[derive(Debug, Clone, Copy)]
struct Feature {
    /// Position in the feature words.
    bit: usize,
    /// Name `ethtool -K` takes.
    alias: &'static str,
    kind: Kind,
}

impl Offload {
    /// Looks which offloads of the device are on that are to be off for this reader, and changes nothing. `found` are further
    /// ones, as `ethtool -K` names them, that were on before an earlier holder died: they are put back with the others.
    ///
    /// # Errors
    /// [`NetdevError::OffloadStuck`] when one is on that loses VLAN tags and cannot be turned off.
    pub fn look(device: &Netdev, reader: Reader, found: &[String]) -> Result<Offload, NetdevError> {
        let control = Control::open()?;
        let (features, now) = control.state(device.ifindex(), reader)?;
        if let Some(stuck) = now.stuck(&features, reader) {
            return Err(stuck.stuck_on(device));
        }
        let ours = |f: &Feature| now.is_wanted(f.bit) || now.is_changeable(f.bit) && found.iter().any(|n| n == f.alias);
        let changed = features.iter().copied().filter(ours).collect();
        Ok(Offload { control, device: device.clone(), reader, changed, held: false })
    }

    /// Turns them off.
    ///
    /// # Errors
    /// [`NetdevError::OffloadStuck`] when one stays on that loses VLAN tags. Whatever has been turned off is put back like the rest.
    pub fn turn_off(&mut self) -> Result<(), NetdevError> {
        self.held = true;
        self.set(false)?;
        let (features, after) = self.control.state(self.device.ifindex(), self.reader)?;
        let stuck = |feature: &&Feature| feature.loses_tags(self.reader) && after.is_active(feature.bit);
        features.iter().find(stuck).map_or(Ok(()), |stuck| Err(stuck.stuck_on(&self.device)))
    }

    /// Those that somebody has turned on since.
    ///
    /// # Errors
    /// [`NetdevError::NoIndex`] when the device has gone.
    pub fn on_again(&self) -> Result<Vec<TurnedOn>, NetdevError> {
        let (features, now) = self.control.state(self.device.ifindex(), self.reader)?;
        let on = features.iter().filter(|feature| now.is_active(feature.bit) && now.is_changeable(feature.bit));
        let told = |feature: &Feature| TurnedOn { name: feature.alias, loses_tags: feature.loses_tags(self.reader) };
        Ok(on.map(told).collect())
    }

    /// For whom they are off.
    pub fn reader(&self) -> Reader {
        self.reader
    }

    /// What is held off, by the names `ethtool -K` takes.
    pub fn changed(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.changed.iter().map(|feature| feature.alias)
    }

    /// The device as it is known by now.
    pub fn follow(&mut self, device: &Netdev) {
        self.device.clone_from(device);
    }

    /// Turns on again what [`turn_off`](Offload::turn_off) turned off. Whether the device is still there: one that
    /// is gone needs nothing, and one in another namespace cannot be reached.
    ///
    /// # Errors
    /// [`NetdevError::Write`] when the kernel refuses.
    pub fn restore(mut self) -> Result<bool, NetdevError> {
        self.put_back()
    }

    /// Leaves them off, for a later holder to put back.
    pub fn leave(mut self) {
        self.held = false;
    }

    /// Turns on what an earlier holder that died had turned off.
    ///
    /// # Errors
    /// As [`restore`](Offload::restore).
    pub fn restore_found(device: &Netdev, found: &[String]) -> Result<bool, NetdevError> {
        let control = Control::open()?;
        let reader = Reader::Driver;
        let (features, _) = control.state(device.ifindex(), reader)?;
        let changed = features.iter().copied().filter(|f| found.iter().any(|name| name == f.alias)).collect();
        Offload { control, device: device.clone(), reader, changed, held: true }.restore()
    }

    fn put_back(&mut self) -> Result<bool, NetdevError> {
        if !std::mem::take(&mut self.held) {
            return Ok(true);
        }
        match self.set(true) {
            Err(NetdevError::NoIndex { .. }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn set(&self, on: bool) -> Result<(), NetdevError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let done = |name: &IfName| {
            // By name or by address: either may have been changed. What has neither is another device.
            if name.to_string() != self.device.name() && self.control.address(name)?.1 != self.device.mac() {
                return Err(Refusal { what: "the device", source: io::Error::from_raw_os_error(libc::ENODEV) });
            }
            self.control.set_features(name, &self.changed, on)
        };
        match self.control.stable(self.device.ifindex(), done) {
            Err(NetdevError::Read { port, source, .. }) => Err(NetdevError::Write { port, source }),
            other => other,
        }
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "offloads were not put back");
        }
    }
}

impl Feature {
    fn loses_tags(&self, reader: Reader) -> bool {
        self.kind == Kind::Tag && reader == Reader::Driver
    }

    fn stuck_on(&self, device: &Netdev) -> NetdevError {
        NetdevError::OffloadStuck { feature: self.alias, port: label(device.ifindex()) }
    }
}

/// What GFEATURES says: blocks of `{available, requested, active, never_changed}`.
struct Features(Vec<u32>);

impl Features {
    fn word(&self, bit: usize, field: usize) -> u32 {
        let word = self.0.get(bit / 32 * 4 + field).copied().unwrap_or(0);
        word >> (bit % 32) & 1
    }

    /// On now.
    fn is_active(&self, bit: usize) -> bool {
        self.word(bit, 2) == 1
    }

    /// Ours to change.
    fn is_changeable(&self, bit: usize) -> bool {
        self.word(bit, 0) == 1
    }

    /// One that is on, loses tags, and is not ours to change.
    fn stuck<'a>(&self, features: &'a [Feature], reader: Reader) -> Option<&'a Feature> {
        let is_stuck = |bit| self.is_active(bit) && !self.is_changeable(bit);
        features.iter().find(|feature| feature.loses_tags(reader) && is_stuck(feature.bit))
    }

    /// Asked to be on, and ours to change. What is only wanted matters too: it is off because
    /// another feature is, and would come on with it.
    fn is_wanted(&self, bit: usize) -> bool {
        self.is_changeable(bit) && self.word(bit, 1) == 1
    }
}

impl Control {
    /// The features that a reader minds, and how all of them are.
    fn state(&self, ifindex: u32, reader: Reader) -> Result<(Vec<Feature>, Features), NetdevError> {
        let (mut features, now) =
            self.stable(ifindex, |name| Ok((self.known_features(name)?, self.features(name)?)))?;
        features.retain(|feature| reader.minds(feature));
        Ok((features, now))
    }

    /// The number of features this kernel knows.
    fn feature_count(&self, name: &IfName) -> io::Result<usize> {
        // cmd, reserved, sset_mask (u64 in two words, in memory order), count
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = mask;
        let mut info = [ETHTOOL_GSSET_INFO, 0, u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), 0];
        self.ethtool(name, &mut info)?;
        Ok(info[4] as usize)
    }

    /// Where this kernel keeps the features. Positions differ between kernel versions.
    fn known_features(&self, name: &IfName) -> Result<Vec<Feature>, Refusal> {
        let refuse = |source| Refusal { what: "the feature names", source };
        let count = self.feature_count(name).map_err(refuse)?;
        // cmd, string_set, len, then the strings. The kernel writes as many strings as it knows
        // features, which is fixed when it is built, so `count` cannot have grown since.
        let mut strings = vec![0; 3 + count * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, u32::try_from(count).unwrap_or(0)]);
        self.ethtool(name, &mut strings).map_err(refuse)?;
        let features = strings[3..]
            .chunks_exact(ETH_GSTRING_LEN / 4)
            .enumerate()
            .filter_map(|(bit, words)| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let found = text(&bytes);
                let known = FEATURES.iter().find(|(kernel, ..)| *kernel == found);
                known.map(|&(_, alias, kind)| Feature { bit, alias, kind })
            })
            .collect();
        Ok(features)
    }

    fn features(&self, name: &IfName) -> Result<Features, Refusal> {
        let refuse = |source| Refusal { what: "the features", source };
        let words = self.feature_count(name).map_err(refuse)?.div_ceil(32);
        let mut blocks = vec![0; 2 + words * 4];
        blocks[0] = ETHTOOL_GFEATURES;
        blocks[1] = u32::try_from(words).unwrap_or(0);
        self.ethtool(name, &mut blocks).map_err(refuse)?;
        Ok(Features(blocks.split_off(2)))
    }

    fn set_features(&self, name: &IfName, which: &[Feature], on: bool) -> Result<(), Refusal> {
        let refuse = |source| Refusal { what: "the features", source };
        let words = self.feature_count(name).map_err(refuse)?.div_ceil(32);
        // cmd, size, then blocks of {valid, requested}
        let mut blocks = vec![0; 2 + words * 2];
        blocks[0] = ETHTOOL_SFEATURES;
        blocks[1] = u32::try_from(words).unwrap_or(0);
        for feature in which {
            let mask = 1 << (feature.bit % 32);
            let block = 2 + feature.bit / 32 * 2;
            blocks[block] |= mask;
            if on {
                blocks[block + 1] |= mask;
            }
        }
        // A positive result says that some bits were not taken; the caller reads them back.
        self.ethtool(name, &mut blocks).map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, Features, Kind, Reader};

    #[test]
    fn feature_bits_are_found_in_their_words() {
        // Two blocks of {available, requested, active, never_changed}.
        let features = Features(vec![0b01, 0b11, 0b10, 0, 1 << 3, 1 << 3, 0, 0]);
        assert!(features.is_wanted(0) && !features.is_active(0));
        // Fixed on: not ours to change, and still on.
        assert!(!features.is_wanted(1) && features.is_active(1) && !features.is_changeable(1));
        assert!(features.is_wanted(32 + 3) && !features.is_active(32 + 3));
        assert!(!features.is_wanted(64) && !features.is_active(64));
    }

    #[test]
    fn what_is_merged_for_good_is_minded_by_all() {
        let [tag, insert, merge, lro] =
            [Kind::Tag, Kind::Insert, Kind::Merge, Kind::MergeForGood].map(|kind| Feature { bit: 0, alias: "", kind });
        assert_eq!(Reader::StackOfNic.minds(&insert), Reader::StackOfNic.minds(&tag));
        assert!([tag, merge, lro].iter().all(|feature| Reader::Driver.minds(feature)));
        let minds = |reader: Reader| [tag, merge, lro].map(|feature| reader.minds(&feature));
        assert_eq!([minds(Reader::StackOfNic), minds(Reader::Stack)], [[true, false, true], [false, false, true]]);
        // On, and not ours to change: only a tag that is lost is a reason to leave the port alone.
        let fixed = Features(vec![0, 0, 1, 1]);
        assert!(fixed.stuck(&[merge, tag], Reader::Driver).is_some());
        assert!(
            fixed.stuck(&[insert, merge, lro], Reader::Driver).is_none()
                && fixed.stuck(&[tag], Reader::StackOfNic).is_none()
        );
    }
}
