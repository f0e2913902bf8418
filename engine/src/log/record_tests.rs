//! Properties of the record format, and its golden bytes.

use super::*;
use proptest::prelude::*;

fn blob_head() -> Head {
    Head {
        kind: Kind::Blob,
        layout: Layout::Inline,
        policy: 1,
        sequence: Sequence(0x1122_3344_5566_7788),
        id: BlobId([0xa0; 16]),
        hash: ContentHash([0xa0; 32]),
        size: 5,
        created_at_ns: 1_735_689_600_000_000_000,
        link: 0,
        flags: 0,
        register: None,
        labels: vec![("env".into(), "prod".into())],
    }
}

const PLACEMENT: Placement = Placement { segment: SegmentId(7), offset_units: 64, durable_to_units: 64 };
const NONCE: u64 = 0x0123_4567_89ab_cdef;

fn encode(head: &Head, payload: &[u8]) -> Vec<u8> {
    let shape = Shape::packed(head, payload.len());
    let mut out = vec![0xee; bytes(shape.length_units()) as usize];
    encode_head(&mut out, head, shape, PLACEMENT, NONCE, checksums(payload));
    out[shape.payload_offset..shape.payload_offset + payload.len()].copy_from_slice(payload);
    out
}

fn decode(bytes: &[u8]) -> Result<Decoded, Invalid> {
    decode_head(bytes, PLACEMENT.segment, PLACEMENT.offset_units, NONCE)
}

#[test]
fn the_bytes_of_a_blob_record_are_the_documented_ones() {
    let record = encode(&blob_head(), b"hello");
    let golden = concat!(
        "4e425232",
        "01",
        "00",
        "01",
        "00",
        "8bc46c92",
        "07000000",
        "40000000",
        "8f000000",
        "90000000",
        "05000000",
        "40000000",
        "0b000000",
        "8877665544332211",
        "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
        "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
        "0500000000000000",
        "000057c07e681618",
        "0000000000000000",
        "0000000000000000",
        "0300656e76",
        "040070726f64",
        "4cbb719a",
        "00",
        "68656c6c6f",
    );
    assert_eq!(crate::types::hex(&record[..149]), golden);
}

const REGISTER: Register = Register { version: 2, promised: 3, node: 4, number: 5, claim: [6; 40] };

#[test]
fn the_bytes_of_a_record_with_a_register_are_the_documented_ones() {
    let head = Head { kind: Kind::Stub, flags: 0x0102, register: Some(REGISTER), ..blob_head() };
    let record = encode(&head, b"");
    assert_eq!(record[7], REGISTER_SIZE as u8);
    assert_eq!(record[4], 6);
    assert_eq!(
        crate::types::hex(&record[112..FIXED_SIZE + REGISTER_SIZE]),
        concat!(
            "0000000000000000",
            "0201000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "06060606060606060606060606060606060606060606060606060606060606060606060606060606",
        )
    );
    assert_eq!(decode(&record).expect("what was written").head, head);
}

#[test]
fn a_head_read_back_is_the_one_written() {
    let head = blob_head();
    let decoded = decode(&encode(&head, b"hello")).expect("what was written");
    assert_eq!(decoded.head, head);
    assert!(decoded.verify(b"hello", 0));
    assert!(!decoded.verify(b"hellp", 0));
}

#[test]
fn a_record_elsewhere_or_of_another_incarnation_is_refused() {
    let record = encode(&blob_head(), b"hello");
    assert_eq!(decode_head(&record, SegmentId(8), 64, NONCE), Err(Invalid::Misplaced));
    assert_eq!(decode_head(&record, SegmentId(7), 65, NONCE), Err(Invalid::Misplaced));
    assert_eq!(decode_head(&record, SegmentId(7), 64, NONCE ^ 1), Err(Invalid::Checksum));
}

#[test]
fn every_flipped_bit_of_a_head_is_found() {
    let record = encode(&blob_head(), b"hello");
    let head_length = decode(&record).expect("sound").shape.head_length;
    for bit in 0..head_length * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_head_survives_the_round_trip(
        size in 0usize..=PACKED_PAYLOAD_MAX,
        sequence: u64,
        created_at_ns: u64,
        link: u64,
        policy: u8,
        flags: u64,
        register in prop::option::of(any::<(u64, u64, u64, u64, [u8; 40])>()),
        labels in prop::collection::vec(("[a-z]{1,20}", ".{0,20}"), 0..8),
    ) {
        let payload: Vec<u8> = (0..size).map(|index| (index * 31) as u8).collect();
        let register = register
            .map(|(version, promised, node, number, claim)| Register { version, promised, node, number, claim });
        let sequence = Sequence(sequence);
        let size_of = size as u64;
        let head =
            Head { sequence, created_at_ns, link, policy, flags, register, labels, size: size_of, ..blob_head() };
        let record = encode(&head, &payload);
        let decoded = decode(&record).expect("what was written");
        prop_assert_eq!(&decoded.head, &head);
        let from = decoded.shape.payload_offset;
        prop_assert!(decoded.verify(&record[from..from + size], 0));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }
}
