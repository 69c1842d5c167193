//! Untrusted bytes to a trusted view, in one conversion.
//!
//! [`ImageView::parse`] checks everything the layout promises: magic, byte order, version, length, checksum,
//! section bounds, overlap, alignment, duplicates, reserved bytes. [`SnapshotView`](crate::snapshot::SnapshotView) adds
//! what a config image promises: its sections are there, its enums and string references hold. Nothing is checked again
//! after.

use std::marker::PhantomData;

use bytemuck::checked;

use crate::checksum::image_crc;
use crate::error::LayoutError;
use crate::record::{IMAGE_MAGIC, REQUIRED, Record, STRINGS_HASH, STRINGS_KIND, SectionEntry, SlotHeader, StrRef};
use crate::{ENDIAN_TAG, LAYOUT_MAJOR, LAYOUT_MINOR, WORD};

/// Kinds of sections this release knows.
const KNOWN: [std::ops::RangeInclusive<u32>; 4] = [1..=10, 100..=113, 120..=120, 122..=124];

/// An image whose structure holds.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    bytes: &'a [u8],
    header: SlotHeader,
}

impl<'a> ImageView<'a> {
    /// Checks the structure of `words`, the content of a slot or of an offline file.
    ///
    /// # Errors
    /// The first [`LayoutError`] in the order of the bytes.
    pub fn parse(words: &'a [u64]) -> Result<ImageView<'a>, LayoutError> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let need = size_of::<SlotHeader>();
        if bytes.len() < need {
            return Err(LayoutError::Truncated { len: bytes.len() as u64, need: need as u64 });
        }
        let header = SlotHeader::from_words(words);
        if header.magic != IMAGE_MAGIC {
            return Err(LayoutError::Magic { found: header.magic });
        }
        if header.endian != ENDIAN_TAG {
            return Err(LayoutError::Endian { found: header.endian });
        }
        if header.layout_major != LAYOUT_MAJOR {
            return Err(LayoutError::LayoutMajor { found: header.layout_major, supported: LAYOUT_MAJOR });
        }
        if header.len != bytes.len() as u64 {
            return Err(LayoutError::Truncated { len: bytes.len() as u64, need: header.len });
        }
        let computed = image_crc(bytes);
        if header.crc32 != computed {
            return Err(LayoutError::Crc { found: header.crc32, computed });
        }
        for (field, found) in [("image.seq", header.seq), ("image.reserved", header.reserved)] {
            if found != 0 {
                return Err(LayoutError::Field { field, found });
            }
        }
        let view = ImageView { bytes, header };
        view.check_sections()?;
        Ok(view)
    }

    fn check_sections(&self) -> Result<(), LayoutError> {
        let table_end =
            size_of::<SlotHeader>() as u64 + u64::from(self.header.section_count) * size_of::<SectionEntry>() as u64;
        if table_end > self.bytes.len() as u64 {
            let found = u64::from(self.header.section_count);
            return Err(LayoutError::Field { field: "image.section_count", found });
        }
        let mut entries: Vec<SectionEntry> = self.sections().collect();
        for entry in &entries {
            let fail = |what| Err(LayoutError::Section { kind: entry.kind, what });
            if entry.flags & !REQUIRED != 0 {
                return fail("has unknown flags");
            }
            if entry.elem_size == 0 || u64::from(entry.elem_size) * u64::from(entry.elem_count) != entry.len {
                return fail("its length is not elem_size * elem_count");
            }
            if !entry.offset.is_multiple_of(WORD as u64) {
                return fail("is not aligned");
            }
            if entry.offset < table_end
                || entry.offset.checked_add(entry.len).is_none_or(|end| end > self.bytes.len() as u64)
            {
                return fail("lies outside the image");
            }
            if entry.flags & REQUIRED != 0 && !KNOWN.iter().any(|kinds| kinds.contains(&entry.kind)) {
                return Err(LayoutError::UnknownRequired { kind: entry.kind });
            }
        }
        entries.sort_by_key(|e| (e.offset, e.len));
        let mut end = table_end;
        for entry in &entries {
            if entry.offset < end {
                return Err(LayoutError::Section { kind: entry.kind, what: "overlaps another" });
            }
            if self.bytes[end as usize..entry.offset as usize].iter().any(|&b| b != 0) {
                return Err(LayoutError::Section { kind: entry.kind, what: "has bytes before it that are not zero" });
            }
            end = entry.offset + entry.len;
        }
        if self.bytes[end as usize..].iter().any(|&b| b != 0) {
            return Err(LayoutError::Field { field: "image padding", found: 1 });
        }
        entries.sort_by_key(|e| e.kind);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].kind == pair[1].kind) {
            return Err(LayoutError::Section { kind: pair[0].kind, what: "is there twice" });
        }
        Ok(())
    }

    /// The section table, in order.
    pub fn sections(&self) -> impl Iterator<Item = SectionEntry> + 'a {
        let from = size_of::<SlotHeader>();
        let table = self.bytes.get(from..).unwrap_or(&[]);
        table
            .chunks_exact(size_of::<SectionEntry>())
            .take(self.header.section_count as usize)
            .map(bytemuck::pod_read_unaligned)
    }

    /// Its header.
    pub fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// The records of one section; none where the section is missing.
    ///
    /// # Errors
    /// The section's shape is not this release's, or a record has a bit pattern its type rules out.
    pub fn records<R: Record>(&self) -> Result<Records<'a, R>, LayoutError> {
        let (bytes, stride) = self.section(R::KIND, size_of::<R>(), R::SCHEMA_HASH)?;
        for (index, record) in bytes.chunks_exact(stride).enumerate() {
            if checked::try_pod_read_unaligned::<R>(&record[..size_of::<R>()]).is_err() {
                return Err(LayoutError::Record { kind: R::KIND, index, what: "a field is none of its values" });
            }
        }
        Ok(Records { bytes, stride, records: PhantomData })
    }

    /// Bytes of a section, and of each of its records, which are at least `size`; nothing where the section is missing.
    // Not generic: a reader that was asleep comes here with cold caches, and all sections share the one text.
    #[inline(never)]
    fn section(&self, kind: u32, size: usize, schema_hash: u64) -> Result<(&'a [u8], usize), LayoutError> {
        let Some(entry) = self.sections().find(|e| e.kind == kind) else { return Ok((&[], size)) };
        let stride = entry.elem_size as usize;
        let newer = self.header.layout_minor > LAYOUT_MINOR;
        // A newer minor may only add fields at the end: its records are longer, and start as ours do.
        if stride < size || (stride > size && !newer) {
            return Err(LayoutError::Section { kind, what: "its records have another size" });
        }
        if stride == size && entry.schema_hash != schema_hash {
            return Err(LayoutError::Section { kind, what: "its records have other fields" });
        }
        Ok((&self.bytes[entry.offset as usize..(entry.offset + entry.len) as usize], stride))
    }

    /// Whether there is a section of this kind.
    pub(crate) fn has(&self, kind: u32) -> bool {
        self.sections().any(|e| e.kind == kind)
    }

    /// The records of a section that must be there: that it is lost must not read as an empty table.
    pub(crate) fn required<R: Record>(&self) -> Result<Records<'a, R>, LayoutError> {
        if !self.has(R::KIND) {
            return Err(LayoutError::Section { kind: R::KIND, what: "is missing" });
        }
        self.records()
    }

    /// The string table.
    ///
    /// # Errors
    /// It is missing, of another shape, or not UTF-8.
    pub fn strings(&self) -> Result<Strings<'a>, LayoutError> {
        let fail = |what| LayoutError::Section { kind: STRINGS_KIND, what };
        let entry = self.sections().find(|e| e.kind == STRINGS_KIND).ok_or(fail("is missing"))?;
        if entry.elem_size != 1 || entry.schema_hash != STRINGS_HASH {
            return Err(fail("is not a list of bytes"));
        }
        let bytes = &self.bytes[entry.offset as usize..(entry.offset + entry.len) as usize];
        std::str::from_utf8(bytes).map(Strings).map_err(|_| fail("is not UTF-8"))
    }
}

/// The string table of an image.
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a>(&'a str);

impl<'a> From<&'a str> for Strings<'a> {
    /// A table that was [`Strings::all`] of another.
    fn from(all: &'a str) -> Strings<'a> {
        Strings(all)
    }
}

impl<'a> Strings<'a> {
    /// The text `at` refers to; `None` when it lies outside the table or cuts a character.
    pub fn get(&self, at: StrRef) -> Option<&'a str> {
        let from = at.offset as usize;
        self.0.get(from..from.checked_add(at.len as usize)?)
    }

    /// The whole table, which every [`StrRef`] is a place in.
    pub fn all(&self) -> &'a str {
        self.0
    }

    /// The text `at` refers to, empty where the reference was not checked and does not hold.
    pub fn text(&self, at: StrRef) -> &'a str {
        self.get(at).unwrap_or("")
    }
}

/// The checked records of a section.
#[derive(Debug)]
pub struct Records<'a, R> {
    bytes: &'a [u8],
    stride: usize,
    records: PhantomData<R>,
}

impl<R> Clone for Records<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Records<'_, R> {}

impl<'a, R: Record> Records<'a, R> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = R> + use<'a, R> {
        // Every record was checked by ImageView::records.
        self.bytes.chunks_exact(self.stride).filter_map(|b| checked::try_pod_read_unaligned(&b[..size_of::<R>()]).ok())
    }

    /// The record of a section that has exactly one.
    pub(crate) fn only(&self) -> Result<R, LayoutError> {
        let mut all = self.iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(LayoutError::Section { kind: R::KIND, what: "does not have exactly one record" }),
        }
    }

    /// Bytes of one record; more than `R` has where a newer release wrote it.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The word at byte `offset` of each record, in order; none where it is not within a record.
    pub fn words_at(&self, offset: usize) -> impl Iterator<Item = u64> + use<'a, R> {
        let word = move |record: &[u8]| record.get(offset..)?.first_chunk::<WORD>().copied();
        self.bytes.chunks_exact(self.stride).filter_map(word).map(u64::from_ne_bytes)
    }
}
