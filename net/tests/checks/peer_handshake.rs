//! A handshake is established only by the bytes of an honest peer, however they are cut, and nobody
//! else is shown an identity. An input is taken as what the peer sends, and once more as what is
//! changed of what an honest peer sends.

use std::sync::LazyLock;

use nabu_net::peer::handshake::{Acceptor, CHALLENGE_BYTES, HandshakeError, Initiator, Purpose, SENT_BYTES_MAX, Step};

use super::peer_support::{
    ACCEPTOR_NONCE, Conversation, INITIATOR_NONCE, acceptor_identity, initiator_identity, local, shake, shows,
};

static HONEST: LazyLock<Conversation> =
    LazyLock::new(|| shake(local(initiator_identity(), &[1]), local(acceptor_identity(), &[1])));

pub fn check_peer_handshake(input: &[u8]) {
    for honest in [&HONEST.to_acceptor, &HONEST.to_initiator] {
        let mut changed = honest.clone();
        changed.iter_mut().zip(input).for_each(|(byte, change)| *byte ^= change);
        for input in [input, &changed] {
            check_acceptor(input);
            check_initiator(input);
        }
    }
}

fn check_acceptor(input: &[u8]) {
    let feed = |pieces: &mut dyn Iterator<Item = usize>| {
        let mut acceptor = Acceptor::new(local(acceptor_identity(), &[1]), ACCEPTOR_NONCE);
        in_pieces(|input, output| acceptor.feed(input, output), input, pieces)
    };
    check(feed, input, &HONEST.to_acceptor, |answer| shows(answer, &acceptor_identity()));
}

fn check_initiator(input: &[u8]) {
    let feed = |pieces: &mut dyn Iterator<Item = usize>| {
        let identity = local(initiator_identity(), &[1]);
        let mut initiator = Initiator::start(identity, Purpose::Control, INITIATOR_NONCE, &mut Vec::new());
        in_pieces(|input, output| initiator.feed(input, output), input, pieces)
    };
    // It introduces itself to a peer that has proven the secret, whatever follows, and wherever in
    // the challenge the proof stands.
    let (said, proof) = (&HONEST.to_initiator[..48], &HONEST.to_initiator[48..80]);
    let is_proven = input.len() >= CHALLENGE_BYTES
        && &input[..48] == said
        && (&input[48..80] == proof || &input[80..CHALLENGE_BYTES] == proof);
    check(feed, input, &HONEST.to_initiator, |answer| shows(answer, &initiator_identity()) != is_proven);
}

type Found = (Result<Option<usize>, HandshakeError>, Vec<u8>);

fn check(
    feed: impl Fn(&mut dyn Iterator<Item = usize>) -> Found,
    input: &[u8],
    honest: &[u8],
    shows_otherwise: impl Fn(&[u8]) -> bool,
) {
    let found = feed(&mut std::iter::repeat(input.len().max(1)));
    assert_eq!(found, feed(&mut std::iter::repeat(1)));
    assert_eq!(found, feed(&mut super::piece_sizes(input)));
    let (outcome, answer) = found;
    assert!(answer.len() <= SENT_BYTES_MAX);
    match outcome {
        Ok(Some(consumed)) => assert_eq!(input.get(..consumed), Some(honest), "only an honest peer gets in"),
        _ => assert!(!input.starts_with(honest) && !shows_otherwise(&answer), "{outcome:?}"),
    }
}

/// How many bytes the handshake took when it was established, and what was answered.
fn in_pieces(
    mut feed: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Step, HandshakeError>,
    input: &[u8],
    pieces: &mut dyn Iterator<Item = usize>,
) -> Found {
    let (mut output, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let end = input.len().min(at + pieces.next().expect("the pieces go on"));
        match feed(&input[at..end], &mut output) {
            Ok(Step { consumed, established }) => {
                at += consumed;
                if established.is_some() {
                    return (Ok(Some(at)), output);
                }
                assert_eq!(at, end, "all is taken while the handshake goes on");
            }
            Err(error) => return (Err(error), output),
        }
    }
    (Ok(None), output)
}
