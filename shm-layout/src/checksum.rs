//! The checksum of an image.

use crate::record::SlotHeader;

/// CRC32 of an image: bytes 8.. with the checksum field taken as zero. Zero for less than a header.
pub(crate) fn image_crc(bytes: &[u8]) -> u32 {
    const CRC: usize = SlotHeader::CRC_OFFSET;
    let (Some(before), Some(after)) = (bytes.get(8..CRC), bytes.get(CRC + 4..)) else {
        return 0;
    };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(&[0; 4]);
    hasher.update(after);
    hasher.finalize()
}
