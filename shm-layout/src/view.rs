//! Untrusted bytes to a trusted view, in one conversion.
//!
//! [`ImageView::parse`] checks everything the layout promises: magic, byte order, version, length, checksum,
//! section bounds, overlap, alignment, duplicates, reserved bytes. [`SnapshotView`] adds what a config image
//! promises: its sections are there, its enums and string references hold. Nothing is checked again after.

use std::marker::PhantomData;

use bytemuck::checked;
use thiserror::Error;

use crate::image::image_crc;
use crate::record::{
    DiagnosticRecord, IMAGE_MAGIC, MetaRecord, MirrorRecord, NativeVlanRecord, PlaceRecord, PortRecord, REQUIRED,
    Record, STRINGS_HASH, STRINGS_KIND, SectionEntry, SeenRecord, SlotHeader, StrRef, WireRecord,
};
use crate::{ENDIAN_TAG, LAYOUT_MAJOR, LAYOUT_MINOR, WORD, places};

/// Why bytes are not a region or an image this reader can use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// not this format at all
    #[error("magic is {found:#018x}: this is not a spanwire region or image")]
    Magic {
        /// The value found.
        found: u64,
    },
    /// another byte order
    #[error("endian tag is {found:#010x}, want {ENDIAN_TAG:#010x}: written in another byte order")]
    Endian {
        /// The value found.
        found: u32,
    },
    /// another layout
    #[error("layout major is {found}, supported is {supported}")]
    LayoutMajor {
        /// The value found.
        found: u16,
        /// The value this reader supports.
        supported: u16,
    },
    /// bytes are missing or in excess
    #[error("{len} bytes where {need} are announced")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes announced.
        need: u64,
    },
    /// the checksum does not match
    #[error("checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// The stored checksum.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// a field holds a value the layout rules out
    #[error("{field} is {found}, which the layout rules out")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// a section cannot be used
    #[error("section of kind {kind}: {what}")]
    Section {
        /// Its kind.
        kind: u32,
        /// What does not hold.
        what: &'static str,
    },
    /// a required section is unknown here
    #[error("section of kind {kind} is required and unknown to this release")]
    UnknownRequired {
        /// Its kind.
        kind: u32,
    },
    /// a record of a section does not hold
    #[error("record {index} of the section of kind {kind}: {what}")]
    Record {
        /// Kind of the section.
        kind: u32,
        /// Index of the record.
        index: usize,
        /// What does not hold.
        what: &'static str,
    },
}

/// Kinds of sections this release knows.
const KNOWN: [std::ops::RangeInclusive<u32>; 3] = [1..=9, 100..=112, 120..=123];

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
    fn has(&self, kind: u32) -> bool {
        self.sections().any(|e| e.kind == kind)
    }

    /// The records of a section that must be there: that it is lost must not read as an empty table.
    fn required<R: Record>(&self) -> Result<Records<'a, R>, LayoutError> {
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

/// A config image that holds in every respect the layout knows.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotView<'a> {
    /// The image's header: generation and time of publish.
    pub image: SlotHeader,
    /// META.
    pub meta: MetaRecord,
    /// PORTS.
    pub ports: Records<'a, PortRecord>,
    /// WIRES.
    pub wires: Records<'a, WireRecord>,
    /// MIRRORS, in the order of the source.
    pub mirrors: Records<'a, MirrorRecord>,
    /// DIAGNOSTICS.
    pub diagnostics: Records<'a, DiagnosticRecord>,
    /// NATIVE_VLANS.
    pub native_vlans: Records<'a, NativeVlanRecord>,
    /// SEEN.
    pub seen: Records<'a, SeenRecord>,
    /// PLACES; none in an image of minor 0.
    pub(crate) places: Option<Records<'a, PlaceRecord>>,
    /// STRINGS.
    pub strings: Strings<'a>,
}

/// Exactly one record.
pub(crate) fn only<R: Record>(records: Records<'_, R>) -> Result<R, LayoutError> {
    let mut all = records.iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(LayoutError::Section { kind: R::KIND, what: "does not have exactly one record" }),
    }
}

impl<'a> TryFrom<&'a [u64]> for SnapshotView<'a> {
    type Error = LayoutError;

    fn try_from(words: &'a [u64]) -> Result<Self, LayoutError> {
        let image = ImageView::parse(words)?;
        let view = SnapshotView {
            image: *image.header(),
            meta: only(image.records()?)?,
            ports: image.required()?,
            wires: image.required()?,
            mirrors: image.required()?,
            diagnostics: image.records()?,
            native_vlans: image.records()?,
            seen: image.records()?,
            places: if image.has(PlaceRecord::KIND) { Some(image.records()?) } else { None },
            strings: image.strings()?,
        };
        view.check_records()?;
        Ok(view)
    }
}

impl SnapshotView<'_> {
    /// Where each of the mirror entries finds its frames and sends its clones, in their order.
    pub fn places(&self) -> Vec<PlaceRecord> {
        match self.places {
            Some(places) => places.iter().collect(),
            None => places::older(
                self.ports.iter().map(|port| (port.ifindex, port.parent_ifindex, port.vlan_id)),
                self.wires.iter().flat_map(|wire| [wire.a_ifindex, wire.b_ifindex]),
                self.mirrors.iter().map(|mirror| (mirror.ingress_ifindex, mirror.output_ifindex)),
            ),
        }
    }

    fn check_records(&self) -> Result<(), LayoutError> {
        const MAX_IFINDEX: u32 = i32::MAX as u32;
        let is_ifindex = |i: u32| (1..=MAX_IFINDEX).contains(&i);
        let text = |at: StrRef| self.strings.get(at).is_some();
        check(
            0,
            &self.meta,
            &[
                ("generated_at is not a string", text(self.meta.generated_at)),
                ("flags has unknown bits", self.meta.flags & !crate::record::META_DISARMED == 0),
                ("reserved is not zero", self.meta.reserved == 0),
            ],
        )?;
        for (i, port) in self.ports.iter().enumerate() {
            check(
                i,
                &port,
                &[
                    ("ifindex is out of range", port.ifindex <= MAX_IFINDEX),
                    ("parent_ifindex is out of range", port.parent_ifindex <= MAX_IFINDEX),
                    ("vlan_id is out of range", port.vlan_id <= 4094),
                    ("has_mac is neither 0 nor 1", port.has_mac <= 1),
                    ("mac is set and has_mac is not", port.has_mac == 1 || port.mac == [0; 6]),
                    ("padding is not zero", port.pad == [0; 2]),
                    ("name is not a string", text(port.name)),
                    ("linux_name is not a string", text(port.linux_name)),
                ],
            )?;
        }
        let mut ends = Vec::with_capacity(2 * self.wires.len());
        for (i, wire) in self.wires.iter().enumerate() {
            check(
                i,
                &wire,
                &[
                    ("a_ifindex is out of range", is_ifindex(wire.a_ifindex)),
                    ("b_ifindex is out of range", is_ifindex(wire.b_ifindex)),
                    ("name is not a string", text(wire.name)),
                ],
            )?;
            ends.extend([wire.a_ifindex, wire.b_ifindex]);
        }
        if has_twice(&mut ends) {
            return Err(LayoutError::Section { kind: WireRecord::KIND, what: "a port is on two wires" });
        }
        let mut ingresses = Vec::with_capacity(self.mirrors.len());
        for (i, mirror) in self.mirrors.iter().enumerate() {
            check(
                i,
                &mirror,
                &[
                    ("ingress_ifindex is out of range", is_ifindex(mirror.ingress_ifindex)),
                    ("output_ifindex is out of range", is_ifindex(mirror.output_ifindex)),
                    ("the output is the ingress", mirror.ingress_ifindex != mirror.output_ifindex),
                    ("the output is a port of a wire", ends.binary_search(&mirror.output_ifindex).is_err()),
                ],
            )?;
            ingresses.push(mirror.ingress_ifindex);
        }
        if has_twice(&mut ingresses) {
            return Err(LayoutError::Section { kind: MirrorRecord::KIND, what: "an ingress is there twice" });
        }
        places::check_native_vlans(self)?;
        places::check_seen(self)?;
        places::check(self, &ends)?;
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            check(
                i,
                &diagnostic,
                &[
                    ("padding is not zero", diagnostic.pad == 0),
                    ("subject is not a string", text(diagnostic.subject)),
                    ("message is not a string", text(diagnostic.message)),
                ],
            )?;
        }
        Ok(())
    }
}

pub(crate) fn has_twice<T: Ord>(values: &mut [T]) -> bool {
    values.sort_unstable();
    values.windows(2).any(|pair| pair[0] == pair[1])
}

pub(crate) fn check<R: Record>(index: usize, _: &R, rules: &[(&'static str, bool)]) -> Result<(), LayoutError> {
    match rules.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(LayoutError::Record { kind: R::KIND, index, what }),
    }
}
