//! The VLAN offloads of a device: which are on, which cannot be turned off, and holding them off.
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

/// The features that keep a VLAN tag out of the frame's bytes: the kernel's name, and the one
/// `ethtool -K` takes.
const VLAN_FEATURES: [(&str, &str); 4] = [
    ("rx-vlan-hw-parse", "rxvlan"),
    ("tx-vlan-hw-insert", "txvlan"),
    ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert"),
];

// linux/ethtool.h
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// A VLAN offload of a device that is on and cannot be turned off, as `ethtool -K` names it.
///
/// # Errors
/// [`NetdevError::NoIndex`] when there is no such device.
pub fn stuck_vlan_offload(ifindex: u32) -> Result<Option<&'static str>, NetdevError> {
    let control = Control::open()?;
    let of = control.stable(ifindex, |name| Ok((control.vlan_features(name)?, control.features(name)?)))?;
    let (features, now) = of;
    Ok(features.iter().find(|f| now.is_active(f.bit) && !now.is_changeable(f.bit)).map(|f| f.alias))
}

/// VLAN offloads of one port: to be turned off, and then held off.
///
/// [`restore`](VlanOffload::restore) puts back exactly what was changed and says if it could not; dropping does the
/// same and logs. Another device that has the ifindex by then is left alone.
#[derive(Debug)]
pub struct VlanOffload {
    /// Bound to the namespace of the thread that opened it, so that any thread may restore.
    control: Control,
    device: Netdev,
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
}

impl VlanOffload {
    /// Looks which VLAN offloads of the device are on, and changes nothing. `found` are further ones, as `ethtool -K`
    /// names them, that were on before an earlier holder died: they are put back with the others.
    ///
    /// # Errors
    /// [`NetdevError::OffloadStuck`] when one is on that cannot be turned off.
    pub fn look(device: &Netdev, found: &[String]) -> Result<VlanOffload, NetdevError> {
        let control = Control::open()?;
        let about = |name: &IfName| Ok((control.vlan_features(name)?, control.features(name)?));
        let (features, now) = control.stable(device.ifindex(), about)?;
        if let Some(stuck) = features.iter().find(|f| now.is_active(f.bit) && !now.is_changeable(f.bit)) {
            return Err(stuck.stuck_on(device));
        }
        let ours = |f: &Feature| now.is_wanted(f.bit) || now.is_changeable(f.bit) && found.iter().any(|n| n == f.alias);
        let changed = features.iter().copied().filter(ours).collect();
        Ok(VlanOffload { control, device: device.clone(), changed, held: false })
    }

    /// Turns them off.
    ///
    /// # Errors
    /// [`NetdevError::OffloadStuck`] when one stays on. Whatever has been turned off is put back like the rest.
    pub fn turn_off(&mut self) -> Result<(), NetdevError> {
        self.held = true;
        self.set(false)?;
        let about = |name: &IfName| Ok((self.control.vlan_features(name)?, self.control.features(name)?));
        let (features, after) = self.control.stable(self.device.ifindex(), about)?;
        match features.iter().find(|feature| after.is_active(feature.bit)) {
            Some(stuck) => Err(stuck.stuck_on(&self.device)),
            None => Ok(()),
        }
    }

    /// What is held off, by the names `ethtool -K` takes.
    pub fn changed(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.changed.iter().map(|feature| feature.alias)
    }

    /// The device as it is known by now.
    pub fn follow(&mut self, device: &Netdev) {
        self.device.clone_from(device);
    }

    /// Turns on again what [`turn_off`](VlanOffload::turn_off) turned off. Whether the device is still there: one that
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
    /// As [`restore`](VlanOffload::restore).
    pub fn restore_found(device: &Netdev, found: &[String]) -> Result<bool, NetdevError> {
        let control = Control::open()?;
        let features = control.stable(device.ifindex(), |name| control.vlan_features(name))?;
        let changed = features.iter().copied().filter(|f| found.iter().any(|name| name == f.alias)).collect();
        VlanOffload { control, device: device.clone(), changed, held: true }.restore()
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

impl Drop for VlanOffload {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "VLAN offloads were not put back");
        }
    }
}

impl Feature {
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

    /// Asked to be on, and ours to change. What is only wanted matters too: it is off because
    /// another feature is, and would come on with it.
    fn is_wanted(&self, bit: usize) -> bool {
        self.is_changeable(bit) && self.word(bit, 1) == 1
    }
}

impl Control {
    /// The number of features this kernel knows.
    fn feature_count(&self, name: &IfName) -> io::Result<usize> {
        // cmd, reserved, sset_mask (u64 in two words, in memory order), count
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = mask;
        let mut info = [ETHTOOL_GSSET_INFO, 0, u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), 0];
        self.ethtool(name, &mut info)?;
        Ok(info[4] as usize)
    }

    /// Where this kernel keeps the VLAN features. Positions differ between kernel versions.
    fn vlan_features(&self, name: &IfName) -> Result<Vec<Feature>, Refusal> {
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
                VLAN_FEATURES.iter().find(|(kernel, _)| *kernel == found).map(|&(_, alias)| Feature { bit, alias })
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
    use super::Features;

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
}
