//! Frames against random ones: they come back whatever the split, and what is damaged, missing,
//! repeated or out of order is refused. proptest prints the input of a failure.

use nabu_net::peer::crc32c;
use nabu_net::peer::frame::{
    FrameDecoder, FrameEncoder, FrameError, FrameEvent, FrameHead, FrameKind, HEAD_BYTES, PayloadLimits, StreamId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A frame as it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    kind: FrameKind,
    stream: Option<StreamId>,
    ring_version: u64,
    payload: Vec<u8>,
}

fn frame() -> impl Strategy<Value = Sent> {
    let parts = (0..FrameKind::ALL.len(), any::<u32>(), any::<u64>(), vec(any::<u8>(), 1..60), any::<bool>());
    parts.prop_map(|(kind, stream, ring_version, mut payload, is_of_stream)| {
        let kind = FrameKind::ALL[kind];
        let stream = StreamId::new(stream | 1).filter(|_| is_of_stream);
        let stream = if kind.allows_stream(stream) { stream } else { stream.xor(StreamId::new(4)) };
        let allowed = kind.payload_bytes(&PayloadLimits::PROTOCOL);
        let length = (payload.len() as u32).clamp(*allowed.start(), *allowed.end());
        payload.resize(length as usize, 0x5a);
        Sent { kind, stream, ring_version, payload }
    })
}

fn encode(frames: &[Sent]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (FrameEncoder::new(), Vec::new());
    for frame in frames {
        encoder.frame(frame.kind, frame.stream, frame.ring_version, &frame.payload, &mut bytes);
    }
    bytes
}

/// The frames that are complete in bytes which come in pieces, whether another has begun, and the
/// error behind them.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Sent>, bool, Option<FrameError>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut decoder = FrameDecoder::new(PayloadLimits::PROTOCOL);
    let (mut frames, mut current, mut at) = (Vec::new(), None::<(FrameHead, Vec<u8>)>, 0);
    for cut in cuts {
        loop {
            let (skip, event) = match decoder.next(&bytes[at..cut]) {
                Ok(found) => found,
                Err(error) => {
                    assert_eq!(decoder.next(&bytes[cut..]), Err(error), "an error is final");
                    return (frames, current.is_some(), Some(error));
                }
            };
            at += skip;
            match event {
                FrameEvent::NeedMore => break,
                FrameEvent::Head(head) => {
                    assert_eq!(head.sequence as usize, frames.len());
                    assert!(current.replace((head, Vec::new())).is_none(), "one frame at a time");
                }
                FrameEvent::Payload(count) => {
                    let (_, payload) = current.as_mut().expect("a head came before");
                    assert!(count > 0 && at + count <= cut);
                    payload.extend_from_slice(&bytes[at..at + count]);
                    at += count;
                }
                FrameEvent::End => {
                    let (head, payload) = current.take().expect("a head came before");
                    assert_eq!((head.length as usize, head.checksum), (payload.len(), crc32c(&payload)));
                    let FrameHead { kind, stream, ring_version, .. } = head;
                    frames.push(Sent { kind, stream, ring_version, payload });
                }
            }
        }
        assert_eq!(at, cut, "all input is consumed");
    }
    (frames, current.is_some(), None)
}

proptest! {
    #[test]
    fn frames_come_back_whatever_the_split(
        frames in vec(frame(), 0..8), cuts in vec(0..800usize, 0..20)
    ) {
        let bytes = encode(&frames);
        prop_assert_eq!(decode(&bytes, &cuts), (frames.clone(), false, None));
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(decode(&bytes, &each), (frames, false, None));
    }

    #[test]
    fn frames_that_are_cut_short_wait(frames in vec(frame(), 1..5), end in any::<Index>()) {
        let bytes = encode(&frames);
        let end = end.index(bytes.len());
        let (found, has_begun, error) = decode(&bytes[..end], &[]);
        prop_assert_eq!(error, None);
        let mut complete = 0;
        let mut size = 0;
        for frame in &frames {
            size += HEAD_BYTES + frame.payload.len();
            complete += usize::from(size <= end);
        }
        let rest = end - encode(&frames[..complete]).len();
        prop_assert_eq!(&found[..], &frames[..complete]);
        prop_assert_eq!(has_begun, rest >= HEAD_BYTES);
    }

    #[test]
    fn a_byte_that_changed_is_found(
        frames in vec(frame(), 1..4), at in any::<Index>(), flip in 1..=u8::MAX, cuts in vec(0..300usize, 0..8)
    ) {
        let mut bytes = encode(&frames);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let (found, _, error) = decode(&bytes, &cuts);
        prop_assert!(error.is_some());
        let before = encode(&frames[..found.len()]).len();
        let behind = encode(&frames[..=found.len()]).len();
        prop_assert!((before..behind).contains(&at), "the frame with the byte is the one that is refused");
        let is_of_checksum = matches!(error, Some(FrameError::Field { field, .. }) if field.starts_with("checksum"));
        prop_assert!(is_of_checksum, "{:?}", error);
    }

    #[test]
    fn a_frame_that_is_missing_repeated_or_out_of_order_is_refused(
        frames in vec(frame(), 2..6), at in any::<Index>(), change in 0..3
    ) {
        let bytes: Vec<Vec<u8>> = {
            let mut encoder = FrameEncoder::new();
            let encode = |frame: &Sent| {
                let mut bytes = Vec::new();
                encoder.frame(frame.kind, frame.stream, frame.ring_version, &frame.payload, &mut bytes);
                bytes
            };
            frames.iter().map(encode).collect()
        };
        let at = at.index(frames.len() - 1);
        let mut changed = bytes.clone();
        match change {
            0 => drop(changed.remove(at)),
            1 => changed.insert(at, bytes[at].clone()),
            _ => changed.swap(at, at + 1),
        }
        let (found, _, error) = decode(&changed.concat(), &[]);
        let (expected, got) = match change {
            0 => (at, at + 1),
            1 => (at + 1, at),
            _ => (at, at + 1),
        };
        let refused =
            FrameError::Field { field: "number", offset: 12, expected: expected as u64, got: got as u64 };
        prop_assert_eq!((found.len(), error), (expected, Some(refused)));
    }

    #[test]
    fn random_bytes_are_no_frame(bytes in vec(any::<u8>(), HEAD_BYTES..200), cuts in vec(0..200usize, 0..8)) {
        prop_assert!(decode(&bytes, &cuts).2.is_some());
    }
}

/// A frame of a kind that is to come, with the flag that it may be ignored.
fn frame_to_come(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    (bytes[0], bytes[1]) = (0xf0, 1);
    bytes[8] = payload.len() as u8;
    bytes[12] = sequence;
    bytes[24..28].copy_from_slice(&crc32c(payload).to_le_bytes());
    let checksum = crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn frames_to_come_are_skipped_and_still_numbered_and_checked() {
    let ping = Sent { kind: FrameKind::Ping, stream: None, ring_version: 3, payload: vec![1; 8] };
    let pings = encode(&[ping.clone(), ping.clone()]);
    let (first, _) = pings.split_at(HEAD_BYTES + 8);
    let third = {
        let all = encode(&[ping.clone(), ping.clone(), ping.clone(), ping.clone()]);
        all[3 * (HEAD_BYTES + 8)..].to_vec()
    };
    let mut bytes = [first, &frame_to_come(1, b"new"), &frame_to_come(2, b""), &third].concat();
    for step in [1, 7, 1_000] {
        let cuts: Vec<usize> = (0..bytes.len()).step_by(step).collect();
        let mut decoder = FrameDecoder::new(PayloadLimits::PROTOCOL);
        let (mut at, mut ends) = (0, 0);
        for cut in cuts.into_iter().chain([bytes.len()]) {
            loop {
                let (skip, event) = decoder.next(&bytes[at..cut]).expect("valid frames");
                at += skip;
                match event {
                    FrameEvent::NeedMore => break,
                    FrameEvent::Head(head) => assert_eq!(head.kind, FrameKind::Ping),
                    FrameEvent::Payload(count) => at += count,
                    FrameEvent::End => ends += 1,
                }
            }
        }
        assert_eq!(ends, 2);
    }
    let payload_at = first.len() + HEAD_BYTES;
    bytes[payload_at] ^= 1;
    let (_, _, error) = decode(&bytes, &[]);
    assert!(matches!(error, Some(FrameError::Field { field: "checksum of the payload", offset: 24, .. })), "{error:?}");
}
