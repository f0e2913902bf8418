//! Frames, however their bytes are cut, are those that a decoder written for whole inputs finds,
//! and a session makes the same of them. An input is taken as it is, and once more with the lengths
//! that fit and with the numbers and checksums that belong to it: few inputs get past those.

use nabu_net::peer::crc32c;
use nabu_net::peer::frame::{
    FrameDecoder, FrameEvent, FrameKind, HEAD_BYTES, IGNORED_BYTES_MAX, PayloadLimits, StreamId,
};
use nabu_net::peer::session::{Event, STREAMS_MAX, Session, SessionError, Side};

const LIMITS: PayloadLimits = PayloadLimits { open_bytes: 64, message_bytes: 1_024, data_bytes: 256 };
/// What the session grants on each stream that is opened.
const GRANTED_BYTES: u32 = 300;

/// The complete frames, each as kind, stream, version of the ring and payload, and whether an error
/// follows.
type Frames = (Vec<(FrameKind, u32, u64, Vec<u8>)>, bool);

pub fn check_peer_frame(input: &[u8]) {
    for input in [input, &mend(input)] {
        let frames = decode_in_pieces(input, std::iter::repeat(input.len().max(1)));
        assert_eq!(frames, decode_in_pieces(input, std::iter::repeat(1)));
        assert_eq!(frames, decode_in_pieces(input, super::piece_sizes(input)));
        assert_eq!(frames, decode_whole(input));
        let found = receive_in_pieces(input, std::iter::repeat(input.len().max(1)));
        assert_eq!(found, receive_in_pieces(input, std::iter::repeat(1)));
        assert_eq!(found, receive_in_pieces(input, super::piece_sizes(input)));
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The input as a row of frames whose lengths, numbers and checksums are right.
fn mend(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let (mut at, mut sequence) = (0, 0u32);
    while at + HEAD_BYTES <= bytes.len() {
        let payload_at = at + HEAD_BYTES;
        let length = number(&bytes, at + 8).min((bytes.len() - payload_at) as u32);
        let checksum = crc32c(&bytes[payload_at..payload_at + length as usize]);
        bytes[at + 8..at + 12].copy_from_slice(&length.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&sequence.to_le_bytes());
        bytes[at + 24..at + 28].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c(&bytes[at..at + 28]);
        bytes[at + 28..at + 32].copy_from_slice(&checksum.to_le_bytes());
        at = payload_at + length as usize;
        sequence += 1;
    }
    bytes
}

fn decode_in_pieces(input: &[u8], mut pieces: impl Iterator<Item = usize>) -> Frames {
    let mut decoder = FrameDecoder::new(LIMITS);
    let (mut frames, mut current, mut at, mut given) = (Vec::new(), None, 0, 0);
    loop {
        let Ok((skip, event)) = decoder.next(&input[at..given]) else { return (frames, true) };
        at += skip;
        assert!(at <= given, "nothing is read that was not given");
        match event {
            FrameEvent::NeedMore => {
                assert_eq!(at, given, "all input is consumed");
                if given == input.len() {
                    return (frames, false);
                }
                given = input.len().min(given + pieces.next().expect("the pieces go on"));
            }
            FrameEvent::Head(head) => current = Some((head, Vec::new())),
            FrameEvent::Payload(count) => {
                assert!(count > 0 && at + count <= given, "no more than was given");
                let (_, payload) = current.as_mut().expect("a head came before");
                payload.extend_from_slice(&input[at..at + count]);
                at += count;
            }
            FrameEvent::End => {
                let (head, payload) = current.take().expect("a head came before");
                let stream = head.stream.map_or(0, StreamId::get);
                frames.push((head.kind, stream, head.ring_version, payload));
            }
        }
    }
}

/// The table of `docs/wire.md`, frame by frame.
fn decode_whole(input: &[u8]) -> Frames {
    let (mut frames, mut rest, mut sequence) = (Vec::new(), input, 0);
    loop {
        let Some((head, behind)) = rest.split_at_checked(HEAD_BYTES) else { return (frames, false) };
        let (stream, length) = (number(head, 4), number(head, 8));
        let is_sound = number(head, 28) == crc32c(&head[..28])
            && number(head, 12) == sequence
            && head[2..4] == [0, 0]
            && match (head[0], head[1]) {
                (1 | 2, 0) => stream == 0 && length == 8,
                (3, 0) => stream == 0 && length == 4,
                (4, 0) => length <= LIMITS.message_bytes,
                (5, 0) => stream != 0 && length <= LIMITS.open_bytes,
                (6 | 9, 0) => stream != 0 && length == 4,
                (7, 0) => stream != 0 && (1..=LIMITS.data_bytes).contains(&length),
                (8, 0) => stream != 0 && length == 0,
                (0 | 10.., 1) => length <= IGNORED_BYTES_MAX,
                _ => false,
            };
        if !is_sound {
            return (frames, true);
        }
        let Some((payload, behind)) = behind.split_at_checked(length as usize) else { return (frames, false) };
        if number(head, 24) != crc32c(payload) {
            return (frames, true);
        }
        if let Some(kind) = FrameKind::from_code(head[0]) {
            let ring_version = u64::from_le_bytes(head[16..24].try_into().expect("eight bytes"));
            frames.push((kind, stream, ring_version, payload.to_vec()));
        }
        rest = behind;
        sequence += 1;
    }
}

/// What a session finds, the bytes of data that it hands out, what it answers, and the error at the
/// end. It acts on what it finds, so that it has streams in every state.
fn receive_in_pieces(
    input: &[u8],
    mut pieces: impl Iterator<Item = usize>,
) -> (Vec<Event>, Vec<u8>, Vec<u8>, Option<SessionError>) {
    let mut session = Session::new(Side::Acceptor, LIMITS);
    let (mut events, mut data, mut output, mut at, mut given) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    loop {
        let (skip, event) = match session.receive(&input[at..given], &mut output) {
            Ok(found) => found,
            Err(error) => return (events, data, output, Some(error)),
        };
        at += skip;
        assert!(at <= given, "nothing is read that was not given");
        assert!(session.held_bytes() <= LIMITS.message_bytes as usize, "no more is held than a message");
        let (ours, theirs) = session.open_streams();
        assert!(ours.max(theirs) <= STREAMS_MAX);
        match event {
            Event::NeedMore => {
                assert_eq!(at, given, "all input is consumed");
                if given == input.len() {
                    return (events, data, output, None);
                }
                given = input.len().min(given + pieces.next().expect("the pieces go on"));
                continue;
            }
            Event::DataBytes { count, .. } => {
                assert!(count > 0 && at + count <= given, "no more than was given");
                data.extend_from_slice(&input[at..at + count]);
                at += count;
                continue;
            }
            Event::Opened { stream } => {
                session.grant(stream, GRANTED_BYTES, &mut output).expect("a stream that was just opened");
            }
            Event::Message { stream } => {
                let act = session.payload().first().copied().unwrap_or(0);
                match (act % 4, stream) {
                    (0, Some(stream)) => drop(session.end(stream, &mut output)),
                    (1, Some(stream)) => drop(session.reset(stream, 7, &mut output)),
                    (2, _) => drop(session.open(b"", &mut output)),
                    _ => {}
                }
            }
            Event::Credit { stream, available } => {
                assert!(available > 0 && session.credit(stream) == available);
                session.data(stream, 1, 0, &mut output).expect("there is credit");
                output.push(0);
            }
            _ => {}
        }
        events.push(event);
    }
}
