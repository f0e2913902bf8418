//! One record of the log: a head with everything about it, and a payload.
//!
//! The head carries its own checksum, keyed with the segment's nonce, and a CRC32C for each
//! [`CHECK_SIZE`] bytes of payload, so a length is never trusted before it was verified, and a
//! range of the payload can be verified alone. It names the segment and the offset it was written
//! for, so a misdirected write shows.
//!
//! Layout: `docs/format.md`, section "Record".

use crate::io::BLOCK_SIZE;
use crate::log::codec::{crc32c, crc32c_keyed, get_u32, get_u64, put_u32, put_u64};
use crate::log::{CHECK_SIZE, FRAME_SIZE, HEAD_ROOM, PACKED_PAYLOAD_MAX, RECORD_ALIGN, bytes, units};
use crate::mutant::{Mutant, is_planted};
use crate::types::{BlobId, ContentHash, SegmentId, Sequence};

const MAGIC: u32 = u32::from_le_bytes(*b"NBR2");

const MAGIC_AT: usize = 0;
const KIND_AT: usize = MAGIC_AT + 4;
const LAYOUT_AT: usize = KIND_AT + 1;
const POLICY_AT: usize = LAYOUT_AT + 1;
const REGISTER_LENGTH_AT: usize = POLICY_AT + 1;
const HEAD_CRC_AT: usize = REGISTER_LENGTH_AT + 1;
const SEGMENT_AT: usize = HEAD_CRC_AT + 4;
const OFFSET_AT: usize = SEGMENT_AT + 4;
const HEAD_LENGTH_AT: usize = OFFSET_AT + 4;
const PAYLOAD_OFFSET_AT: usize = HEAD_LENGTH_AT + 4;
const PAYLOAD_LENGTH_AT: usize = PAYLOAD_OFFSET_AT + 4;
const DURABLE_TO_AT: usize = PAYLOAD_LENGTH_AT + 4;
const LABELS_LENGTH_AT: usize = DURABLE_TO_AT + 4;
const SEQUENCE_AT: usize = LABELS_LENGTH_AT + 4;
const ID_AT: usize = SEQUENCE_AT + 8;
const HASH_AT: usize = ID_AT + 16;
const SIZE_AT: usize = HASH_AT + 32;
const CREATED_AT: usize = SIZE_AT + 8;
const LINK_AT: usize = CREATED_AT + 8;
const FLAGS_AT: usize = LINK_AT + 8;
/// Bytes of the fixed part of a head; register, labels and the checksum table follow.
pub const FIXED_SIZE: usize = FLAGS_AT + 8;

const REGISTER_VERSION_AT: usize = 0;
const REGISTER_PROMISED_AT: usize = REGISTER_VERSION_AT + 8;
const REGISTER_NODE_AT: usize = REGISTER_PROMISED_AT + 8;
const REGISTER_NUMBER_AT: usize = REGISTER_NODE_AT + 8;
const REGISTER_CLAIM_AT: usize = REGISTER_NUMBER_AT + 8;
/// Bytes of the register of a record that has one.
pub const REGISTER_SIZE: usize = REGISTER_CLAIM_AT + 40;

/// The most bytes of an encoded head.
pub const HEAD_LENGTH_MAX: usize = HEAD_ROOM;
/// The most bytes of the labels of one blob as encoded.
pub const LABELS_ENCODED_MAX: usize = 3072;

const _: () = assert!(FIXED_SIZE == 128 && REGISTER_SIZE == 72);
const _: () =
    assert!(FIXED_SIZE + REGISTER_SIZE + LABELS_ENCODED_MAX + FRAME_SIZE.div_ceil(CHECK_SIZE) * 4 <= HEAD_LENGTH_MAX);

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A blob: its content, or the extents that hold it.
    Blob,
    /// A piece of the content of a large blob.
    Frame,
    /// Extents of a very large blob.
    ExtentPage,
    /// The deletion of a blob.
    Tombstone,
    /// A part or a shard of a blob whose record lies elsewhere, under a key of its own that is no
    /// prefix of its hash. For a cluster: this program refuses a store that holds one.
    Part,
    /// The record of a blob whose content lies elsewhere. As above.
    Stub,
}

/// What the payload of a blob record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// The content.
    Inline,
    /// Extents of frames.
    Extents,
    /// Extents of extent pages.
    ExtentPages,
    /// The keys of the parts that hold the content. For a cluster, as [`Kind::Part`].
    Parts,
}

impl Kind {
    pub fn to_byte(self) -> u8 {
        match self {
            Kind::Blob => 1,
            Kind::Frame => 2,
            Kind::ExtentPage => 3,
            Kind::Tombstone => 4,
            Kind::Part => 5,
            Kind::Stub => 6,
        }
    }

    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Kind::Blob,
            2 => Kind::Frame,
            3 => Kind::ExtentPage,
            4 => Kind::Tombstone,
            5 => Kind::Part,
            6 => Kind::Stub,
            _ => return None,
        })
    }
}

impl Layout {
    pub fn to_byte(self) -> u8 {
        match self {
            Layout::Inline => 0,
            Layout::Extents => 1,
            Layout::ExtentPages => 2,
            Layout::Parts => 3,
        }
    }

    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Layout::Inline,
            1 => Layout::Extents,
            2 => Layout::ExtentPages,
            3 => Layout::Parts,
            _ => return None,
        })
    }
}

/// Where a record is written, and what was durable then: what the writer adds to a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    pub segment: SegmentId,
    /// In units of [`RECORD_ALIGN`].
    pub offset_units: u32,
    /// Everything of this segment below this offset was durable when the record was written, in
    /// units of [`RECORD_ALIGN`].
    pub durable_to_units: u32,
}

/// What a record of a cluster says of the register that its id is; a record of a standalone node
/// has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Even: a blob; odd: its deletion.
    pub version: u64,
    /// No upload below this version is accepted any more.
    pub promised: u64,
    /// Who wrote this value: the node, and the number of the operation there.
    pub node: u64,
    pub number: u64,
    /// Of a part: the id, version and author of the record that claimed it, zero while it is
    /// pending; the codec does not look into it.
    pub claim: [u8; 40],
}

/// Everything a head says, the placement aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub kind: Kind,
    pub layout: Layout,
    pub policy: u8,
    pub sequence: Sequence,
    /// The blob's id; of a frame or an extent page, the upload's number and its ordinal.
    pub id: BlobId,
    /// Of a blob.
    pub hash: ContentHash,
    /// Of a blob: bytes of its content.
    pub size: u64,
    /// Of a blob and a tombstone: nanoseconds since 1970, as the caller says.
    pub created_at_ns: u64,
    /// Of a tombstone: every older record of its id lies in a segment with a lower number than
    /// this.
    pub link: u64,
    /// Bits that the writer gives and that stay with the record when it is moved.
    pub flags: u64,
    pub register: Option<Register>,
    /// Of a blob: by name, ascending.
    pub labels: Vec<(String, String)>,
}

impl Head {
    /// A head of a frame or an extent page.
    pub fn piece(kind: Kind, upload: u64, ordinal: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&upload.to_le_bytes());
        id[8..].copy_from_slice(&ordinal.to_le_bytes());
        Self {
            kind,
            layout: Layout::Inline,
            policy: 0,
            sequence: Sequence(0),
            id: BlobId(id),
            hash: ContentHash([0; 32]),
            size: 0,
            created_at_ns: 0,
            link: 0,
            flags: 0,
            register: None,
            labels: Vec::new(),
        }
    }

    /// A head of a tombstone.
    pub fn tombstone(id: BlobId, sequence: Sequence, watermark: SegmentId, now_ns: u64) -> Self {
        Self { sequence, id, created_at_ns: now_ns, link: u64::from(watermark.0), ..Self::piece(Kind::Tombstone, 0, 0) }
    }

    /// Bytes of the labels as encoded: each name and value with a two-byte length.
    pub fn labels_encoded(&self) -> usize {
        self.labels.iter().map(|(name, value)| 4 + name.len() + value.len()).sum()
    }

    /// Bytes of the encoded head for a payload of this length.
    pub fn encoded_length(&self, payload_length: usize) -> usize {
        FIXED_SIZE + self.register_length() + self.labels_encoded() + payload_length.div_ceil(CHECK_SIZE) * 4
    }

    fn register_length(&self) -> usize {
        self.register.map_or(0, |_| REGISTER_SIZE)
    }
}

/// How the bytes of a record lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub head_length: usize,
    /// From the start of the record.
    pub payload_offset: usize,
    pub payload_length: usize,
}

impl Shape {
    /// The shape of a record that shares a batch with others.
    pub fn packed(head: &Head, payload_length: usize) -> Self {
        assert!(payload_length <= PACKED_PAYLOAD_MAX, "a packed payload of {payload_length} bytes");
        let head_length = head.encoded_length(payload_length);
        Self { head_length, payload_offset: head_length.next_multiple_of(8), payload_length }
    }

    /// The shape of a record with its payload on a block boundary.
    pub fn direct(head: &Head, payload_length: usize) -> Self {
        assert!((1..=FRAME_SIZE).contains(&payload_length), "a direct payload of {payload_length} bytes");
        Self { head_length: head.encoded_length(payload_length), payload_offset: HEAD_ROOM, payload_length }
    }

    /// Units of [`RECORD_ALIGN`] that the record takes.
    pub fn length_units(&self) -> u32 {
        units((self.payload_offset + self.payload_length) as u64)
    }

    /// Bytes that a direct record takes: whole blocks.
    pub fn direct_bytes(&self) -> usize {
        (self.payload_offset + self.payload_length).next_multiple_of(BLOCK_SIZE)
    }
}

/// The CRC32C of each [`CHECK_SIZE`] bytes of a payload.
pub fn checksums(payload: &[u8]) -> impl Iterator<Item = u32> + '_ {
    payload.chunks(CHECK_SIZE).map(crc32c)
}

/// Encodes a head into the start of `out`, and zeroes up to the payload.
pub fn encode_head(
    out: &mut [u8],
    head: &Head,
    shape: Shape,
    placement: Placement,
    nonce: u64,
    checks: impl Iterator<Item = u32>,
) {
    assert!(shape.head_length <= HEAD_LENGTH_MAX, "a head of {} bytes", shape.head_length);
    let labels_length = head.labels_encoded();
    assert!(labels_length <= LABELS_ENCODED_MAX, "labels of {labels_length} bytes");
    out[..shape.payload_offset].fill(0);
    put_u32(out, MAGIC_AT, MAGIC);
    out[KIND_AT] = head.kind.to_byte();
    out[LAYOUT_AT] = head.layout.to_byte();
    out[POLICY_AT] = head.policy;
    out[REGISTER_LENGTH_AT] = head.register_length() as u8;
    put_u32(out, SEGMENT_AT, placement.segment.0);
    put_u32(out, OFFSET_AT, placement.offset_units);
    put_u32(out, HEAD_LENGTH_AT, shape.head_length as u32);
    put_u32(out, PAYLOAD_OFFSET_AT, shape.payload_offset as u32);
    put_u32(out, PAYLOAD_LENGTH_AT, shape.payload_length as u32);
    put_u32(out, DURABLE_TO_AT, placement.durable_to_units);
    put_u32(out, LABELS_LENGTH_AT, labels_length as u32);
    put_u64(out, SEQUENCE_AT, head.sequence.0);
    out[ID_AT..ID_AT + 16].copy_from_slice(&head.id.0);
    out[HASH_AT..HASH_AT + 32].copy_from_slice(&head.hash.0);
    put_u64(out, SIZE_AT, head.size);
    put_u64(out, CREATED_AT, head.created_at_ns);
    put_u64(out, LINK_AT, head.link);
    put_u64(out, FLAGS_AT, head.flags);
    let mut at = FIXED_SIZE;
    if let Some(register) = &head.register {
        register.encode(&mut out[at..at + REGISTER_SIZE]);
        at += REGISTER_SIZE;
    }
    for text in head.labels.iter().flat_map(|(name, value)| [name, value]) {
        out[at..at + 2].copy_from_slice(&(text.len() as u16).to_le_bytes());
        out[at + 2..at + 2 + text.len()].copy_from_slice(text.as_bytes());
        at += 2 + text.len();
    }
    for check in checks {
        put_u32(out, at, check);
        at += 4;
    }
    assert_eq!(at, shape.head_length, "the checksum table has an entry per check block");
    let crc = crc32c_keyed(nonce, &[&out[..shape.head_length]]);
    put_u32(out, HEAD_CRC_AT, crc);
}

/// A head read from the disk and verified, with its checksum table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    pub head: Head,
    pub shape: Shape,
    pub placement: Placement,
    pub checks: Vec<u32>,
}

/// Why bytes are not the record that was expected there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// The bytes don't start like a record.
    NoRecord,
    /// The input ends before the head does.
    Short,
    /// A length or a field is outside its bounds.
    Bounds,
    /// The head's checksum is wrong.
    Checksum,
    /// A sound head that was written for another place.
    Misplaced,
}

/// Decodes and verifies the head at the start of `input`, which was read from `segment` at
/// `offset_units`.
pub fn decode_head(input: &[u8], segment: SegmentId, offset_units: u32, nonce: u64) -> Result<Decoded, Invalid> {
    if input.len() < FIXED_SIZE {
        return Err(Invalid::Short);
    }
    if get_u32(input, MAGIC_AT) != MAGIC {
        return Err(Invalid::NoRecord);
    }
    let head_length = get_u32(input, HEAD_LENGTH_AT) as usize;
    if !(FIXED_SIZE..=HEAD_LENGTH_MAX).contains(&head_length) {
        return Err(Invalid::Bounds);
    }
    if input.len() < head_length {
        return Err(Invalid::Short);
    }
    let input = &input[..head_length];
    let crc = crc32c_keyed(nonce, &[&input[..HEAD_CRC_AT], &[0; 4], &input[HEAD_CRC_AT + 4..]]);
    if crc != get_u32(input, HEAD_CRC_AT) {
        return Err(Invalid::Checksum);
    }
    let placement = Placement {
        segment: SegmentId(get_u32(input, SEGMENT_AT)),
        offset_units: get_u32(input, OFFSET_AT),
        durable_to_units: get_u32(input, DURABLE_TO_AT),
    };
    if placement.segment != segment || placement.offset_units != offset_units {
        return Err(Invalid::Misplaced);
    }
    let kind = Kind::from_byte(input[KIND_AT]).ok_or(Invalid::Bounds)?;
    let layout = Layout::from_byte(input[LAYOUT_AT]).ok_or(Invalid::Bounds)?;
    let shape = Shape {
        head_length,
        payload_offset: get_u32(input, PAYLOAD_OFFSET_AT) as usize,
        payload_length: get_u32(input, PAYLOAD_LENGTH_AT) as usize,
    };
    let register_length = usize::from(input[REGISTER_LENGTH_AT]);
    let labels_length = get_u32(input, LABELS_LENGTH_AT) as usize;
    let checks_count = shape.payload_length.div_ceil(CHECK_SIZE);
    let sound = shape.payload_length <= FRAME_SIZE
        && (head_length..=HEAD_ROOM).contains(&shape.payload_offset)
        && (register_length == 0 || register_length == REGISTER_SIZE)
        && labels_length <= LABELS_ENCODED_MAX
        && head_length == FIXED_SIZE + register_length + labels_length + checks_count * 4;
    if !sound {
        return Err(Invalid::Bounds);
    }
    let (register, rest) = input[FIXED_SIZE..].split_at(register_length);
    let (labels, checks) = rest.split_at(labels_length);
    let mut id = [0; 16];
    id.copy_from_slice(&input[ID_AT..ID_AT + 16]);
    let mut hash = [0; 32];
    hash.copy_from_slice(&input[HASH_AT..HASH_AT + 32]);
    Ok(Decoded {
        head: Head {
            kind,
            layout,
            policy: input[POLICY_AT],
            sequence: Sequence(get_u64(input, SEQUENCE_AT)),
            id: BlobId(id),
            hash: ContentHash(hash),
            size: get_u64(input, SIZE_AT),
            created_at_ns: get_u64(input, CREATED_AT),
            link: get_u64(input, LINK_AT),
            flags: get_u64(input, FLAGS_AT),
            register: (!register.is_empty()).then(|| Register::decode(register)),
            labels: decode_labels(labels).ok_or(Invalid::Bounds)?,
        },
        shape,
        placement,
        checks: checks.chunks_exact(4).map(|check| get_u32(check, 0)).collect(),
    })
}

impl Register {
    fn encode(&self, out: &mut [u8]) {
        put_u64(out, REGISTER_VERSION_AT, self.version);
        put_u64(out, REGISTER_PROMISED_AT, self.promised);
        put_u64(out, REGISTER_NODE_AT, self.node);
        put_u64(out, REGISTER_NUMBER_AT, self.number);
        out[REGISTER_CLAIM_AT..REGISTER_SIZE].copy_from_slice(&self.claim);
    }

    fn decode(input: &[u8]) -> Self {
        Self {
            version: get_u64(input, REGISTER_VERSION_AT),
            promised: get_u64(input, REGISTER_PROMISED_AT),
            node: get_u64(input, REGISTER_NODE_AT),
            number: get_u64(input, REGISTER_NUMBER_AT),
            claim: input[REGISTER_CLAIM_AT..REGISTER_SIZE].try_into().expect("the claim's bytes"),
        }
    }
}

fn decode_labels(mut input: &[u8]) -> Option<Vec<(String, String)>> {
    fn text(input: &mut &[u8]) -> Option<String> {
        let (length, rest) = input.split_at_checked(2)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (text, rest) = rest.split_at_checked(length)?;
        *input = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    let mut labels = Vec::new();
    while !input.is_empty() {
        let name = text(&mut input)?;
        labels.push((name, text(&mut input)?));
    }
    Some(labels)
}

impl Decoded {
    /// Units of [`RECORD_ALIGN`] that the record takes.
    pub fn length_units(&self) -> u32 {
        self.shape.length_units()
    }

    /// Where the next record may start at the earliest, in bytes from the start of the segment.
    pub fn end(&self) -> u64 {
        bytes(self.placement.offset_units) + bytes(self.length_units())
    }

    /// Whether a part of the payload is what was written. `part` starts `from` bytes into the
    /// payload, a multiple of [`CHECK_SIZE`], and ends on such a multiple or at the payload's end.
    pub fn verify(&self, part: &[u8], from: usize) -> bool {
        assert!(from.is_multiple_of(CHECK_SIZE), "a part at {from} is on no check boundary");
        let end = from + part.len();
        assert!(
            end == self.shape.payload_length || (end < self.shape.payload_length && end.is_multiple_of(CHECK_SIZE)),
            "a part to {end} of {} is on no check boundary",
            self.shape.payload_length
        );
        is_planted(Mutant::SkipChecksum)
            || checksums(part).zip(&self.checks[from / CHECK_SIZE..]).all(|(found, written)| found == *written)
    }
}

/// Offsets that must be tried when looking for a record: multiples of [`RECORD_ALIGN`] at which the
/// magic stands.
pub fn candidates(input: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..input.len() / RECORD_ALIGN)
        .map(|unit| unit * RECORD_ALIGN)
        .filter(|&at| input.len() - at >= 4 && get_u32(input, at) == MAGIC)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
