//! Sessions: two that keep to the protocol never refuse each other, whatever they do and however
//! their bytes are delayed and cut; one that doesn't is refused. proptest prints the input of a
//! failure.

use std::collections::{BTreeMap, VecDeque};

use nabu_net::peer::crc32c;
use nabu_net::peer::frame::{FrameEncoder, FrameError, FrameKind, PayloadLimits, StreamId};
use nabu_net::peer::session::{
    CREDIT_BYTES_MAX, Event, GoodbyeReason, STREAMS_MAX, SendError, Session, SessionError, Side,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn id(number: u32) -> StreamId {
    StreamId::new(number).expect("not 0")
}

fn session(side: Side) -> Session {
    Session::new(side, PayloadLimits::PROTOCOL)
}

/// All that a session finds in bytes that come at once, with the messages.
fn receive_all(session: &mut Session, bytes: &[u8], output: &mut Vec<u8>) -> Result<Vec<Event>, SessionError> {
    let (mut at, mut events) = (0, Vec::new());
    loop {
        let (skip, event) = session.receive(&bytes[at..], output)?;
        at += skip;
        match event {
            Event::NeedMore => return Ok(events),
            Event::DataBytes { count, .. } => at += count,
            _ => {}
        }
        events.push(event);
    }
}

/// What a peer's frames do, one after another, to a session that is the acceptor.
struct Peer {
    encoder: FrameEncoder,
    session: Session,
}

impl Peer {
    fn new() -> Self {
        Self { encoder: FrameEncoder::new(), session: session(Side::Acceptor) }
    }

    fn sends(&mut self, kind: FrameKind, stream: u32, payload: &[u8]) -> Result<Vec<Event>, SessionError> {
        let mut bytes = Vec::new();
        self.encoder.frame(kind, StreamId::new(stream), 0, payload, &mut bytes);
        receive_all(&mut self.session, &bytes, &mut Vec::new())
    }

    fn opens(&mut self, stream: u32) {
        assert_eq!(self.sends(FrameKind::Open, stream, b""), Ok(vec![Event::Opened { stream: id(stream) }]));
    }
}

#[test]
fn a_stream_from_its_opening_to_its_end() {
    let (mut ours, mut theirs) = (session(Side::Initiator), session(Side::Acceptor));
    let mut wire = Vec::new();
    ours.set_ring_version(5);
    let stream = ours.open(b"what for", &mut wire).expect("opened");
    assert_eq!(ours.data(stream, 3, 0, &mut wire), Err(SendError::NoCredit { available: 0 }));
    let mut answer = Vec::new();
    assert_eq!(receive_all(&mut theirs, &wire, &mut answer), Ok(vec![Event::Opened { stream }]));
    assert_eq!((theirs.payload(), theirs.peer_ring_version()), (&b"what for"[..], Some(5)));
    theirs.grant(stream, 4, &mut answer).expect("granted");
    assert_eq!(receive_all(&mut ours, &answer, &mut vec![]), Ok(vec![Event::Credit { stream, available: 4 }]));
    wire.clear();
    ours.data(stream, 3, crc32c(b"abc"), &mut wire).expect("within the credit");
    wire.extend_from_slice(b"abc");
    assert_eq!(ours.credit(stream), 1);
    ours.message(Some(stream), b"note", &mut wire).expect("sent");
    ours.end(stream, &mut wire).expect("ended");
    assert_eq!(ours.data(stream, 1, 0, &mut wire), Err(SendError::StreamGone));
    let found = [
        Event::DataStart { stream, length: 3 },
        Event::DataBytes { stream, count: 3 },
        Event::DataEnd { stream },
        Event::Message { stream: Some(stream) },
        Event::Ended { stream },
    ];
    assert_eq!(receive_all(&mut theirs, &wire, &mut vec![]), Ok(found.to_vec()));
    assert_eq!((ours.open_streams(), theirs.open_streams()), ((1, 0), (0, 1)));
    answer.clear();
    theirs.end(stream, &mut answer).expect("ended");
    assert_eq!(receive_all(&mut ours, &answer, &mut vec![]), Ok(vec![Event::Ended { stream }]));
    assert_eq!((ours.open_streams(), theirs.open_streams()), ((0, 0), (0, 0)));
}

#[test]
fn a_ping_is_answered_with_its_number() {
    let (mut ours, mut theirs) = (session(Side::Initiator), session(Side::Acceptor));
    let (mut wire, mut answer) = (Vec::new(), Vec::new());
    ours.ping(77, &mut wire);
    assert_eq!(receive_all(&mut theirs, &wire, &mut answer), Ok(vec![]));
    assert_eq!(receive_all(&mut ours, &answer, &mut vec![]), Ok(vec![Event::Pong { number: 77 }]));
}

#[test]
fn no_stream_is_opened_to_a_peer_that_said_goodbye() {
    let (mut ours, mut theirs) = (session(Side::Initiator), session(Side::Acceptor));
    for reason in [
        GoodbyeReason::Draining,
        GoodbyeReason::OldIncarnation,
        GoodbyeReason::WrongCluster,
        GoodbyeReason::ProtocolError,
        GoodbyeReason::Other(99),
    ] {
        let mut wire = Vec::new();
        theirs.goodbye(reason, &mut wire);
        assert_eq!(receive_all(&mut ours, &wire, &mut vec![]), Ok(vec![Event::Goodbye { reason }]));
    }
    assert_eq!(ours.open(b"", &mut vec![]), Err(SendError::PeerLeaves));
    assert!(ours.message(None, b"", &mut vec![]).is_ok());
}

#[test]
fn data_beyond_the_credit_is_refused_before_any_of_it_is_taken() {
    let mut peer = Peer::new();
    peer.opens(1);
    peer.session.grant(id(1), 10, &mut vec![]).expect("granted");
    assert!(peer.sends(FrameKind::Data, 1, &[0; 6]).is_ok());
    let violation = SessionError::FlowViolation { stream: id(1), granted: 4, got: 5 };
    assert_eq!(peer.sends(FrameKind::Data, 1, &[0; 5]), Err(violation));
    assert_eq!(peer.session.receive(&[], &mut vec![]), Err(violation), "an error is final");
    let mut peer = Peer::new();
    peer.opens(1);
    let mut bytes = Vec::new();
    peer.encoder.frame(FrameKind::Data, StreamId::new(1), 0, &[0; 5], &mut bytes);
    let refused = peer.session.receive(&bytes[..32], &mut vec![]);
    assert_eq!(refused, Err(SessionError::FlowViolation { stream: id(1), granted: 0, got: 5 }));
}

#[test]
fn frames_of_streams_that_are_not_open_are_refused() {
    let kinds: [(FrameKind, &[u8]); 5] = [
        (FrameKind::Data, b"a"),
        (FrameKind::Message, b"a"),
        (FrameKind::End, b""),
        (FrameKind::Credit, &[1, 0, 0, 0]),
        (FrameKind::Reset, &[1, 0, 0, 0]),
    ];
    for (kind, payload) in kinds {
        for stream in [1, 2, 7, u32::MAX] {
            let refused = Err(SessionError::UnknownStream { kind, stream: id(stream) });
            assert_eq!(Peer::new().sends(kind, stream, payload), refused);
        }
        // Behind the sender's last frame on the stream.
        let mut peer = Peer::new();
        peer.opens(1);
        assert_eq!(peer.sends(FrameKind::End, 1, b""), Ok(vec![Event::Ended { stream: id(1) }]));
        let verdict = peer.sends(kind, 1, payload);
        match kind {
            FrameKind::Credit | FrameKind::Reset => assert!(verdict.is_ok(), "the other direction goes on"),
            _ => assert_eq!(verdict, Err(SessionError::EndedStream { kind, stream: id(1) })),
        }
        // Behind the end of the stream.
        let mut peer = Peer::new();
        peer.opens(1);
        peer.session.end(id(1), &mut vec![]).expect("ended");
        peer.sends(FrameKind::End, 1, b"").expect("ended");
        let verdict = peer.sends(kind, 1, payload);
        match kind {
            FrameKind::Credit | FrameKind::Reset => assert_eq!(verdict, Ok(vec![]), "it may have been under way"),
            _ => assert_eq!(verdict, Err(SessionError::UnknownStream { kind, stream: id(1) })),
        }
    }
}

#[test]
fn streams_are_opened_in_the_order_of_their_numbers_by_the_side_whose_they_are() {
    for (opened, next) in [(0, 2), (0, 3), (1, 1), (1, 2), (1, 5)] {
        let mut peer = Peer::new();
        (1..=opened).for_each(|stream| peer.opens(stream));
        let expected = Some(if opened == 0 { 1 } else { 3 });
        let refused = Err(SessionError::OpenNumber { expected, got: id(next) });
        assert_eq!(peer.sends(FrameKind::Open, next, b""), refused);
    }
}

#[test]
fn either_side_has_at_most_so_many_streams_open() {
    let mut peer = Peer::new();
    let streams: Vec<u32> = (0..STREAMS_MAX as u32).map(|index| 2 * index + 1).collect();
    streams.iter().for_each(|stream| peer.opens(*stream));
    let mut wire = Vec::new();
    for _ in 0..STREAMS_MAX {
        peer.session.open(b"", &mut wire).expect("opened");
    }
    assert_eq!(peer.session.open(b"", &mut wire), Err(SendError::TooManyStreams));
    // One that is over makes room.
    peer.session.reset(id(1), 0, &mut wire).expect("reset");
    assert_eq!(peer.session.open_streams(), (STREAMS_MAX, STREAMS_MAX), "the peer's last frame is to come");
    assert_eq!(peer.sends(FrameKind::End, 1, b""), Ok(vec![]));
    let next = 2 * STREAMS_MAX as u32 + 1;
    peer.opens(next);
    let refused = Err(SessionError::TooManyStreams { stream: id(next + 2) });
    assert_eq!(peer.sends(FrameKind::Open, next + 2, b""), refused);
}

#[test]
fn credits_of_nothing_and_beyond_all_bounds_are_refused() {
    let mut peer = Peer::new();
    peer.opens(1);
    let max = CREDIT_BYTES_MAX as u32;
    let granted = Ok(vec![Event::Credit { stream: id(1), available: CREDIT_BYTES_MAX }]);
    assert_eq!(peer.sends(FrameKind::Credit, 1, &max.to_le_bytes()), granted);
    let refused = Err(SessionError::Credit { stream: id(1), available: CREDIT_BYTES_MAX, got: 1 });
    assert_eq!(peer.sends(FrameKind::Credit, 1, &1u32.to_le_bytes()), refused);
    let mut peer = Peer::new();
    peer.opens(1);
    let refused = Err(SessionError::Credit { stream: id(1), available: 0, got: 0 });
    assert_eq!(peer.sends(FrameKind::Credit, 1, &[0; 4]), refused);
}

#[test]
fn a_credit_for_a_direction_that_has_ended_is_dropped() {
    let mut peer = Peer::new();
    peer.opens(1);
    peer.session.end(id(1), &mut vec![]).expect("ended");
    assert_eq!(peer.sends(FrameKind::Credit, 1, &9u32.to_le_bytes()), Ok(vec![]));
    assert_eq!(peer.session.credit(id(1)), 0);
}

#[test]
fn what_comes_on_a_stream_that_was_given_up_is_dropped_until_the_peers_last_frame() {
    let mut peer = Peer::new();
    peer.opens(1);
    peer.session.grant(id(1), 10, &mut vec![]).expect("granted");
    // In the middle of a data frame.
    let mut bytes = Vec::new();
    peer.encoder.frame(FrameKind::Data, StreamId::new(1), 0, &[7; 6], &mut bytes);
    let (skip, start) = peer.session.receive(&bytes[..34], &mut vec![]).expect("a frame begins");
    assert_eq!((skip, start), (32, Event::DataStart { stream: id(1), length: 6 }));
    peer.session.reset(id(1), 3, &mut vec![]).expect("reset");
    assert_eq!(peer.session.reset(id(1), 3, &mut vec![]), Err(SendError::StreamGone));
    assert_eq!(peer.session.receive(&bytes[32..], &mut vec![]), Ok((6, Event::NeedMore)));
    assert_eq!(peer.sends(FrameKind::Data, 1, &[7; 4]), Ok(vec![]));
    assert_eq!(peer.sends(FrameKind::Message, 1, b"message"), Ok(vec![]));
    // Its credit still binds the peer.
    let violation = SessionError::FlowViolation { stream: id(1), granted: 0, got: 1 };
    let mut other = Peer::new();
    other.opens(1);
    other.session.reset(id(1), 3, &mut vec![]).expect("reset");
    assert_eq!(other.sends(FrameKind::Data, 1, &[7; 1]), Err(violation));
    // Its answer, and nothing after it.
    assert_eq!(peer.sends(FrameKind::Reset, 1, &[3, 0, 0, 0]), Ok(vec![]));
    let refused = SessionError::UnknownStream { kind: FrameKind::Message, stream: id(1) };
    assert_eq!(peer.sends(FrameKind::Message, 1, b"message"), Err(refused));
}

#[test]
fn a_payload_is_held_only_as_long_as_it_is_large() {
    let mut peer = Peer::new();
    assert_eq!(peer.session.held_bytes(), 0);
    peer.sends(FrameKind::Message, 0, &vec![7; 1 << 20]).expect("a message");
    assert_eq!((peer.session.payload().len(), peer.session.held_bytes()), (1 << 20, 1 << 20));
    peer.sends(FrameKind::Ping, 0, &[0; 8]).expect("a ping");
    assert!(peer.session.held_bytes() <= 64 << 10);
    peer.sends(FrameKind::Message, 0, b"to keep").expect("a message");
    assert_eq!(peer.session.take_payload(), b"to keep");
    assert_eq!(peer.session.held_bytes(), 0);
}

#[test]
fn a_payload_beyond_the_receivers_limit_is_refused_before_memory_is_taken() {
    let limits = PayloadLimits { open_bytes: 4, message_bytes: 8, data_bytes: 16 };
    let mut session = Session::new(Side::Acceptor, limits);
    let mut bytes = Vec::new();
    FrameEncoder::new().frame(FrameKind::Message, None, 0, &[0; 9], &mut bytes);
    let kind = Some(FrameKind::Message);
    let refused = FrameError::Length { kind, offset: 8, min: 0, max: 8, got: 9 };
    assert_eq!(session.receive(&bytes, &mut vec![]), Err(SessionError::Frame(refused)));
    assert_eq!(session.held_bytes(), 0);
}

/// What a side does next; the index picks one of its streams.
#[derive(Clone, Debug)]
enum Act {
    Open,
    Message(Index),
    Grant(Index, u32),
    Data(Index, u32),
    End(Index),
    Reset(Index, u32),
    Ping,
    /// Some of what is under way to this side arrives.
    Receive(usize),
}

fn act() -> impl Strategy<Value = (bool, Act)> {
    let act = prop_oneof![
        2 => Just(Act::Open),
        1 => any::<Index>().prop_map(Act::Message),
        4 => (any::<Index>(), 1..40u32).prop_map(|(stream, bytes)| Act::Grant(stream, bytes)),
        6 => (any::<Index>(), 1..40u32).prop_map(|(stream, bytes)| Act::Data(stream, bytes)),
        2 => any::<Index>().prop_map(Act::End),
        1 => (any::<Index>(), any::<u32>()).prop_map(|(stream, code)| Act::Reset(stream, code)),
        1 => Just(Act::Ping),
        8 => (1..200usize).prop_map(Act::Receive),
    ];
    (any::<bool>(), act)
}

/// A side with what a model knows of it.
struct End {
    session: Session,
    /// Under way to this side.
    wire: VecDeque<u8>,
    /// Taken off the wire; its first bytes may be data of the frame that is coming in.
    streams: Vec<StreamId>,
    /// For each stream, all bytes that this side ever granted, and all it ever sent.
    granted: BTreeMap<StreamId, u64>,
    sent: BTreeMap<StreamId, u64>,
    /// For each stream, the data that came, and whether its end or a reset came.
    received: BTreeMap<StreamId, u64>,
    over: BTreeMap<StreamId, bool>,
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            session: session(side),
            wire: VecDeque::new(),
            streams: Vec::new(),
            granted: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            over: BTreeMap::new(),
        }
    }

    fn stream(&self, index: &Index) -> Option<StreamId> {
        (!self.streams.is_empty()).then(|| self.streams[index.index(self.streams.len())])
    }

    /// Takes `count` bytes off the wire. What it answers by itself is returned.
    fn receive(&mut self, count: usize) -> Vec<u8> {
        let bytes: Vec<u8> = self.wire.drain(..count.min(self.wire.len())).collect();
        let mut output = Vec::new();
        let events = receive_all(&mut self.session, &bytes, &mut output).expect("an honest peer is never refused");
        for event in events {
            match event {
                Event::Opened { stream } => self.streams.push(stream),
                Event::DataBytes { stream, count } => {
                    assert!(!self.over.contains_key(&stream), "nothing comes behind the end");
                    *self.received.entry(stream).or_default() += count as u64;
                }
                Event::Ended { stream } => assert!(self.over.insert(stream, false).is_none()),
                Event::Reset { stream, .. } => assert_ne!(self.over.insert(stream, true), Some(true)),
                _ => {}
            }
        }
        output
    }

    fn send(&mut self, act: &Act) -> Vec<u8> {
        let mut output = Vec::new();
        match act {
            Act::Open => self.streams.extend(self.session.open(b"a stream", &mut output)),
            Act::Ping => self.session.ping(1, &mut output),
            Act::Message(index) => {
                let _ = self.session.message(self.stream(index), b"message", &mut output);
            }
            Act::Grant(index, bytes) => {
                let Some(stream) = self.stream(index) else { return output };
                if self.session.grant(stream, *bytes, &mut output).is_ok() {
                    *self.granted.entry(stream).or_default() += u64::from(*bytes);
                }
            }
            Act::Data(index, bytes) => {
                let Some(stream) = self.stream(index) else { return output };
                let payload = vec![0x5a; *bytes as usize];
                let credit = self.session.credit(stream);
                match self.session.data(stream, *bytes, crc32c(&payload), &mut output) {
                    Ok(()) => {
                        assert!(u64::from(*bytes) <= credit);
                        *self.sent.entry(stream).or_default() += u64::from(*bytes);
                        output.extend_from_slice(&payload);
                    }
                    Err(SendError::NoCredit { available }) => assert!(available < u64::from(*bytes)),
                    Err(error) => assert_eq!(error, SendError::StreamGone),
                }
            }
            Act::End(index) => {
                let Some(stream) = self.stream(index) else { return output };
                let _ = self.session.end(stream, &mut output);
            }
            Act::Reset(index, code) => {
                let Some(stream) = self.stream(index) else { return output };
                let _ = self.session.reset(stream, *code, &mut output);
            }
            Act::Receive(count) => return self.receive(*count),
        }
        output
    }
}

/// Lets everything arrive that is under way.
fn settle(ends: &mut [End; 2]) {
    while ends.iter().any(|end| !end.wire.is_empty()) {
        for side in [0, 1] {
            let answer = ends[side].receive(usize::MAX);
            ends[1 - side].wire.extend(answer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn two_honest_sessions_never_refuse_each_other_nor_exceed_a_credit(acts in vec(act(), 0..250)) {
        let mut ends = [End::new(Side::Initiator), End::new(Side::Acceptor)];
        for (is_acceptor, act) in acts {
            let side = usize::from(is_acceptor);
            let output = ends[side].send(&act);
            ends[1 - side].wire.extend(output);
            for (from, to) in [(0, 1), (1, 0)] {
                for (stream, sent) in &ends[from].sent {
                    let granted = ends[to].granted.get(stream).copied().unwrap_or(0);
                    prop_assert!(*sent <= granted, "stream {stream}: {sent} of {granted}");
                }
            }
        }
        settle(&mut ends);
        for (from, to) in [(0, 1), (1, 0)] {
            for (stream, received) in &ends[to].received {
                prop_assert!(*received <= ends[from].sent[stream]);
            }
        }
        // Both know of the same streams, and when all are given up, both forget them.
        let (ours, theirs) = (ends[0].session.open_streams(), ends[1].session.open_streams());
        prop_assert_eq!(ours, (theirs.1, theirs.0));
        for side in [0, 1] {
            for stream in ends[side].streams.clone() {
                let mut output = Vec::new();
                let _ = ends[side].session.reset(stream, 9, &mut output);
                ends[1 - side].wire.extend(output);
            }
        }
        settle(&mut ends);
        prop_assert_eq!(ends[0].session.open_streams(), (0, 0));
        prop_assert_eq!(ends[1].session.open_streams(), (0, 0));
    }

    #[test]
    fn no_way_of_cutting_the_bytes_changes_what_a_session_finds(
        acts in vec(act(), 0..80), pieces in vec(1..40usize, 1..40)
    ) {
        // What the initiator sends to an acceptor that answers at once.
        let mut ends = [End::new(Side::Initiator), End::new(Side::Acceptor)];
        let mut sent = Vec::new();
        let mut granted = Vec::new();
        for (_, act) in acts {
            let output = ends[0].send(&act);
            sent.extend_from_slice(&output);
            ends[1].wire.extend(output);
            let mut answer = ends[1].receive(usize::MAX);
            if let Some(stream) = ends[1].streams.last().copied()
                && ends[1].session.grant(stream, 40, &mut answer).is_ok()
            {
                granted.push((sent.len(), stream));
            }
            ends[0].wire.extend(answer);
            ends[0].receive(usize::MAX);
        }
        let find = |mut pieces: Box<dyn Iterator<Item = usize>>| {
            let mut session = session(Side::Acceptor);
            let (mut at, mut found, mut data) = (0, Vec::new(), 0);
            let mut grants = granted.iter().peekable();
            while at < sent.len() {
                let until = grants.peek().map_or(sent.len(), |(until, _)| *until);
                let end = until.min(at + pieces.next().expect("the pieces go on"));
                for event in receive_all(&mut session, &sent[at..end], &mut vec![]).expect("an honest peer") {
                    match event {
                        Event::DataBytes { count, .. } => data += count,
                        event => found.push((event, session.peer_ring_version())),
                    }
                }
                at = end;
                while let Some((_, stream)) = grants.next_if(|(until, _)| *until <= at) {
                    session.grant(*stream, 40, &mut vec![]).expect("granted before");
                }
            }
            (found, data)
        };
        let whole = find(Box::new(std::iter::repeat(usize::MAX >> 1)));
        prop_assert_eq!(&whole, &find(Box::new(std::iter::repeat(1))));
        prop_assert_eq!(&whole, &find(Box::new(pieces.into_iter().cycle())));
    }
}
