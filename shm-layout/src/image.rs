//! Building an image: sections of records and the strings they refer to.

use std::collections::HashMap;

use bytemuck::Zeroable;

use crate::checksum::image_crc;
use crate::error::LayoutError;
use crate::record::{IMAGE_MAGIC, REQUIRED, Record, STRINGS_HASH, STRINGS_KIND, SectionEntry, SlotHeader, StrRef};
use crate::view::ImageView;
use crate::{ENDIAN_TAG, LAYOUT_MAJOR, LAYOUT_MINOR, WORD};

/// Whether a reader that does not know a section must refuse the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may skip the section.
    Optional,
}

/// Collects sections. Strings are stored once.
#[derive(Debug, Default)]
pub struct ImageBuilder {
    sections: Vec<(SectionEntry, Vec<u8>)>,
    strings: Vec<u8>,
    known: HashMap<String, StrRef>,
}

impl ImageBuilder {
    /// An image without sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// A reference to `text`, truncated at a character boundary where the string table would pass 4 GiB.
    pub fn string(&mut self, text: &str) -> StrRef {
        if text.is_empty() {
            return StrRef::default();
        }
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let Some(end) = u32::try_from(self.strings.len() + text.len()).ok() else {
            return StrRef::default();
        };
        let at = StrRef { offset: end - text.len() as u32, len: text.len() as u32 };
        self.strings.extend_from_slice(text.as_bytes());
        self.known.insert(text.to_owned(), at);
        at
    }

    /// Appends a text that has many strings in it, at once. Where it begins; `None` where the string table would pass
    /// 4 GiB.
    pub fn text(&mut self, text: &str) -> Option<u32> {
        u32::try_from(self.strings.len() + text.len()).ok()?;
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        Some(at)
    }

    /// Adds a section of `records`. At most `u32::MAX` of them.
    pub fn section<R: Record>(&mut self, need: Need, records: &[R]) -> &mut Self {
        let bytes = bytemuck::cast_slice::<R, u8>(records).to_vec();
        self.raw_section(R::KIND, need, size_of::<R>(), R::SCHEMA_HASH, bytes)
    }

    /// Adds a section by its bytes: for sections of another version, and for tests of them.
    pub fn raw_section(
        &mut self,
        kind: u32,
        need: Need,
        elem_size: usize,
        schema_hash: u64,
        bytes: Vec<u8>,
    ) -> &mut Self {
        let entry = SectionEntry {
            kind,
            flags: if need == Need::Required { REQUIRED } else { 0 },
            offset: 0,
            len: bytes.len() as u64,
            elem_size: elem_size as u32,
            elem_count: (bytes.len() / elem_size.max(1)) as u32,
            schema_hash,
        };
        self.sections.push((entry, bytes));
        self
    }

    /// Lays the sections out and seals the image as never published.
    pub fn finish(mut self) -> Image {
        let strings = std::mem::take(&mut self.strings);
        self.raw_section(STRINGS_KIND, Need::Required, 1, STRINGS_HASH, strings);
        let mut len = size_of::<SlotHeader>() + self.sections.len() * size_of::<SectionEntry>();
        for (entry, bytes) in &mut self.sections {
            entry.offset = len as u64;
            len = (len + bytes.len()).next_multiple_of(WORD);
        }
        let mut words = vec![0u64; len / WORD];
        let out: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let header = SlotHeader {
            magic: IMAGE_MAGIC,
            endian: ENDIAN_TAG,
            layout_major: LAYOUT_MAJOR,
            layout_minor: LAYOUT_MINOR,
            len: len as u64,
            section_count: self.sections.len() as u32,
            ..SlotHeader::zeroed()
        };
        out[..size_of::<SlotHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        for (i, (entry, bytes)) in self.sections.iter().enumerate() {
            let at = size_of::<SlotHeader>() + i * size_of::<SectionEntry>();
            out[at..at + size_of::<SectionEntry>()].copy_from_slice(bytemuck::bytes_of(entry));
            let offset = entry.offset as usize;
            out[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let mut image = Image { words };
        image.seal(0, 0);
        image
    }
}

/// A complete, checksummed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    words: Vec<u64>,
}

impl Image {
    /// An image from the words of a slot or a file, unchecked; [`crate::view`] is the check.
    pub fn from_words(words: Vec<u64>) -> Image {
        Image { words }
    }

    /// An image from the bytes of a file, otherwise unchecked.
    ///
    /// # Errors
    /// They are not whole words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Image, LayoutError> {
        let (words, rest) = bytes.as_chunks::<WORD>();
        if !rest.is_empty() {
            let len = bytes.len() as u64;
            return Err(LayoutError::Truncated { len, need: len.next_multiple_of(WORD as u64) });
        }
        Ok(Image { words: words.iter().copied().map(u64::from_ne_bytes).collect() })
    }

    /// Its words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// Its length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.words.len() * WORD
    }

    /// Overwrites the only record of its section, and seals the image as never published.
    ///
    /// # Errors
    /// The image does not hold, or there is no such section with exactly one record of this release's shape.
    pub fn replace<R: Record>(&mut self, record: &R) -> Result<(), LayoutError> {
        let image = ImageView::parse(&self.words)?;
        image.records::<R>()?.only()?;
        let section = image.sections().find(|section| section.kind == R::KIND);
        let at = section.map_or(usize::MAX, |section| section.offset as usize);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let record = bytemuck::bytes_of(record);
        if let Some(to) = at.checked_add(record.len()).and_then(|end| bytes.get_mut(at..end)) {
            to.copy_from_slice(record);
        }
        self.seal(0, 0);
        Ok(())
    }

    /// Sets what the publish decides, and the checksum over all of it.
    pub fn seal(&mut self, generation: u64, published_at: u64) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut put = |at: usize, value: &[u8]| {
            if let Some(to) = bytes.get_mut(at..at + value.len()) {
                to.copy_from_slice(value);
            }
        };
        put(std::mem::offset_of!(SlotHeader, generation), &generation.to_ne_bytes());
        put(std::mem::offset_of!(SlotHeader, published_at), &published_at.to_ne_bytes());
        let crc = image_crc(bytes);
        if let Some(to) = bytes.get_mut(SlotHeader::CRC_OFFSET..SlotHeader::CRC_OFFSET + 4) {
            to.copy_from_slice(&crc.to_ne_bytes());
        }
    }
}
