//! What a frame of the lab says of itself, in its last bytes: they fit the shortest frame, and any truncation loses them.

use serde::{Deserialize, Serialize};

/// Which way a frame crosses the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into port a, out of port b: from `gen` to `sink`.
    AToB,
    /// Into port b, out of port a: from `sink` to `gen`.
    BToA,
}

impl Direction {
    pub(crate) fn id(self) -> u8 {
        match self {
            Direction::AToB => 0xA0,
            Direction::BToA => 0xB0,
        }
    }
}

/// Who a frame is: its direction and its place in what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Which way it was sent.
    pub direction: Direction,
    /// Its index among the frames of its [`FrameSpec`](crate::frame::FrameSpec).
    pub sequence: u32,
}

impl Tag {
    /// Bytes of a tag, at the end of the frame.
    pub const LEN: usize = 8;

    /// Reads the tag at the end of a frame; `None` when there is none or it is damaged.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (_, &[b'S', b'W', id, check, s0, s1, s2, s3]) = frame.split_last_chunk()? else {
            return None;
        };
        let direction = [Direction::AToB, Direction::BToA].into_iter().find(|direction| direction.id() == id)?;
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        let tag = Self { direction, sequence };
        (tag.check() == check).then_some(tag)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [s0, s1, s2, s3] = self.sequence.to_be_bytes();
        [b'S', b'W', self.direction.id(), self.check(), s0, s1, s2, s3]
    }

    fn check(self) -> u8 {
        self.sequence.to_be_bytes().iter().fold(self.direction.id(), |acc, byte| acc ^ byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_tag_is_no_tag() {
        let tag = Tag { direction: Direction::AToB, sequence: 0x0102_0304 };
        for byte in 0..Tag::LEN {
            let mut bytes = tag.to_bytes();
            bytes[byte] ^= 0x20;
            assert_eq!(Tag::read(&bytes), None, "byte {byte}");
        }
    }
}
