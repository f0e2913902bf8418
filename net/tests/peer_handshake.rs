//! The handshake between nodes: who gets in, who doesn't, and what those who don't have learned.
//! proptest prints the input of a failure.

mod peer_support;

use nabu_net::peer::handshake::{
    Acceptor, CHALLENGE_BYTES, Established, HELLO_BYTES, HandshakeError, INTRODUCTION_BYTES, Initiator, Local, Purpose,
    SENT_BYTES_MAX, Step,
};
use nabu_net::peer::identity::{ClusterId, Identity, StoreId};
use nabu_net::peer::version_range::VersionRange;
use peer_support::{
    ACCEPTOR_NONCE, INITIATOR_NONCE, Outcome, acceptor_identity, initiator_identity, local, shake, shows,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn initiator() -> Local {
    local(initiator_identity(), &[1])
}

fn acceptor() -> Local {
    local(acceptor_identity(), &[1])
}

/// What a node that starts a handshake with `nonce` says to `input`.
fn initiator_answers(local: Local, nonce: [u8; 32], input: &[u8]) -> (Vec<u8>, Result<Step, HandshakeError>) {
    let mut output = Vec::new();
    let mut initiator = Initiator::start(local, Purpose::Control, nonce, &mut output);
    let step = initiator.feed(input, &mut output);
    (output, step)
}

fn acceptor_answers(local: Local, nonce: [u8; 32], input: &[u8]) -> (Vec<u8>, Result<Step, HandshakeError>) {
    let mut output = Vec::new();
    let step = Acceptor::new(local, nonce).feed(input, &mut output);
    (output, step)
}

#[test]
fn two_nodes_with_one_secret_learn_who_the_other_is() {
    let said = shake(initiator(), acceptor());
    let established = |peer| Some(Ok(Established { peer, purpose: Purpose::Control, protocol: 1, level: 2 }));
    assert_eq!(said.initiator, established(acceptor_identity()));
    assert_eq!(said.acceptor, established(initiator_identity()));
    assert_eq!(said.to_acceptor.len(), HELLO_BYTES + INTRODUCTION_BYTES);
    assert_eq!(said.to_initiator.len(), CHALLENGE_BYTES + INTRODUCTION_BYTES);
    assert!(said.to_acceptor.len() <= SENT_BYTES_MAX && said.to_initiator.len() <= SENT_BYTES_MAX);
}

#[test]
fn a_node_without_cluster_and_number_gets_in_with_the_secret() {
    let newcomer = Identity { cluster: None, node_number: None, ..initiator_identity() };
    let said = shake(local(newcomer, &[1]), acceptor());
    assert_eq!(said.acceptor.map(|outcome| outcome.map(|established| established.peer)), Some(Ok(newcomer)));
}

/// The nodes of a cluster while its secret is replaced, in any order and with any mistake.
#[test]
fn two_nodes_connect_exactly_when_they_have_a_secret_in_common() {
    let files: [&[u8]; 9] = [&[1], &[2], &[3], &[1, 2], &[2, 1], &[2, 3], &[3, 2], &[1, 3], &[3, 1]];
    for (ours, theirs) in files.into_iter().flat_map(|ours| files.into_iter().map(move |theirs| (ours, theirs))) {
        let said = shake(local(initiator_identity(), ours), local(acceptor_identity(), theirs));
        if ours.iter().any(|name| theirs.contains(name)) {
            assert!(matches!(said.initiator, Some(Ok(_))), "{ours:?}, {theirs:?}");
            assert!(matches!(said.acceptor, Some(Ok(_))), "{ours:?}, {theirs:?}");
        } else {
            assert_eq!(said.initiator, Some(Err(HandshakeError::Unproven)), "{ours:?}, {theirs:?}");
            assert_eq!(said.acceptor, None, "it waits: {ours:?}, {theirs:?}");
        }
    }
}

#[test]
fn an_acceptor_without_the_secret_learns_nothing() {
    let said = shake(initiator(), local(acceptor_identity(), &[2]));
    assert_eq!(said.initiator, Some(Err(HandshakeError::Unproven)));
    assert_eq!(said.to_acceptor.len(), HELLO_BYTES, "nothing follows the hello");
    assert!(!shows(&said.to_acceptor, &initiator_identity()));
    // What it got follows from nothing but the nonce and the purpose.
    let other = Identity { store: StoreId([0xee; 16]), cluster: None, ..initiator_identity() };
    let (hello, _) = initiator_answers(local(other, &[9, 8]), INITIATOR_NONCE, &[]);
    assert_eq!(said.to_acceptor, hello);
}

#[test]
fn an_initiator_without_the_secret_learns_nothing() {
    // It goes on although the acceptor's proof is none that it can check.
    let stranger = local(initiator_identity(), &[2]);
    let (mut sent, _) = initiator_answers(stranger.clone(), INITIATOR_NONCE, &[]);
    let (challenge, _) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &sent);
    let own = shake(stranger.clone(), local(acceptor_identity(), &[2]));
    sent.extend_from_slice(&own.to_acceptor[HELLO_BYTES..]);
    let (answered, step) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &sent);
    assert_eq!(step, Err(HandshakeError::Unproven));
    assert_eq!(answered, challenge, "nothing follows the challenge");
    assert!(!shows(&answered, &acceptor_identity()));
    // Whoever the acceptor is, all but its proofs is the same.
    let other = Identity { store: StoreId([0xee; 16]), cluster: None, ..acceptor_identity() };
    let (others, _) = acceptor_answers(local(other, &[9, 8]), ACCEPTOR_NONCE, &sent[..HELLO_BYTES]);
    assert_eq!(answered[..48], others[..48]);
    assert_ne!(answered[48..80], others[48..80]);
}

#[test]
fn how_many_secrets_a_node_has_does_not_show() {
    let (hello, _) = initiator_answers(initiator(), INITIATOR_NONCE, &[]);
    let challenge = |names| acceptor_answers(local(acceptor_identity(), names), ACCEPTOR_NONCE, &hello).0;
    let (one, two) = (challenge(&[1]), challenge(&[1, 2]));
    assert_eq!(one.len(), two.len());
    assert_eq!(one[..80], two[..80]);
    for challenge in [one, two] {
        let (first, second) = (&challenge[48..80], &challenge[80..112]);
        assert!(first != second && second.iter().any(|byte| *byte != 0), "the second looks like a proof");
    }
}

/// A man in the middle who terminates TLS has another connection to each side.
#[test]
fn a_handshake_holds_for_its_tls_connection_alone() {
    let bound = |local: Local, binding| Local { binding, ..local };
    let bindings = [None, Some([1; 32]), Some([2; 32])];
    for (ours, theirs) in bindings.into_iter().flat_map(|ours| bindings.map(|theirs| (ours, theirs))) {
        let said = shake(bound(initiator(), ours), bound(acceptor(), theirs));
        if ours == theirs {
            assert!(matches!((said.initiator, said.acceptor), (Some(Ok(_)), Some(Ok(_)))));
        } else {
            assert_eq!(said.initiator, Some(Err(HandshakeError::Unproven)), "{ours:?}, {theirs:?}");
            assert_eq!(said.to_acceptor.len(), HELLO_BYTES, "the initiator says nothing of itself");
        }
    }
    // Nor can the initiator's part of it be passed on.
    let said = shake(bound(initiator(), Some([1; 32])), bound(acceptor(), Some([1; 32])));
    let (answered, step) = acceptor_answers(bound(acceptor(), Some([2; 32])), ACCEPTOR_NONCE, &said.to_acceptor);
    assert_eq!((answered.len(), step), (CHALLENGE_BYTES, Err(HandshakeError::Unproven)));
}

#[test]
fn a_recorded_conversation_is_refused_by_a_side_with_a_fresh_nonce() {
    let said = shake(initiator(), acceptor());
    let (answered, step) = acceptor_answers(acceptor(), [0xad; 32], &said.to_acceptor);
    assert_eq!((answered.len(), step), (CHALLENGE_BYTES, Err(HandshakeError::Unproven)));
    let (answered, step) = initiator_answers(initiator(), [0x1b; 32], &said.to_initiator);
    assert_eq!((answered.len(), step), (HELLO_BYTES, Err(HandshakeError::Unproven)));
    // With the old nonces both would have been taken in.
    assert!(acceptor_answers(acceptor(), ACCEPTOR_NONCE, &said.to_acceptor).1.is_ok());
    assert!(initiator_answers(initiator(), INITIATOR_NONCE, &said.to_initiator).1.is_ok());
}

#[test]
fn a_side_that_gets_its_own_bytes_back_refuses_them() {
    let (hello, _) = initiator_answers(initiator(), INITIATOR_NONCE, &[]);
    let (_, step) = initiator_answers(initiator(), INITIATOR_NONCE, &hello);
    assert!(matches!(step, Err(HandshakeError::NoPeer { got, .. }) if &got == b"NABU-INI"), "{step:?}");
    let (challenge, _) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &hello);
    let (_, step) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &challenge);
    assert!(matches!(step, Err(HandshakeError::NoPeer { got, .. }) if &got == b"NABU-ACC"), "{step:?}");
}

#[test]
fn a_proof_is_good_for_its_own_message_alone() {
    let said = shake(initiator(), acceptor());
    let (hello, introduction) = said.to_acceptor.split_at(HELLO_BYTES);
    let (challenge, answer) = said.to_initiator.split_at(CHALLENGE_BYTES);
    // Each side gets its own introduction back in place of the peer's, which says the same of
    // another; and proofs of the challenge in place of the one of an introduction.
    let (identity, _) = introduction.split_at(120);
    for forged in [introduction, &[identity, &challenge[48..80]].concat(), &[identity, &challenge[80..]].concat()] {
        let (_, step) = initiator_answers(initiator(), INITIATOR_NONCE, &[challenge, forged].concat());
        assert_eq!(step, Err(HandshakeError::Unproven));
    }
    for forged in [answer, &[identity, &challenge[48..80]].concat(), &[identity, &challenge[80..]].concat()] {
        let (_, step) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &[hello, forged].concat());
        assert_eq!(step, Err(HandshakeError::Unproven));
    }
}

/// Somebody passes everything between a node that calls and the same node when it is called.
#[test]
fn a_node_that_is_led_back_to_itself_finds_out() {
    let said = shake(initiator(), initiator());
    assert_eq!(said.acceptor, Some(Err(HandshakeError::OwnStore)));
    assert_eq!(said.initiator, Some(Err(HandshakeError::OwnStore)));
}

#[test]
fn a_nonce_that_comes_back_is_refused() {
    let said = shake(initiator(), acceptor());
    let (_, step) = initiator_answers(initiator(), ACCEPTOR_NONCE, &said.to_initiator);
    assert_eq!(step, Err(HandshakeError::OwnNonce));
    let (answered, step) = acceptor_answers(acceptor(), INITIATOR_NONCE, &said.to_acceptor);
    assert_eq!((answered, step), (vec![], Err(HandshakeError::OwnNonce)));
}

#[test]
fn both_sides_say_the_same_of_members_that_do_not_fit() {
    let (ours, theirs) = (initiator_identity(), acceptor_identity());
    let (first, second) = (ClusterId([0xc1; 16]), ClusterId([0xc2; 16]));
    let levels = |oldest, newest| VersionRange::new(oldest, newest).expect("a range");
    let said = shake(initiator(), local(Identity { cluster: Some(second), ..theirs }, &[1]));
    assert_eq!(said.initiator, Some(Err(HandshakeError::OtherCluster { ours: first, theirs: second })));
    assert_eq!(said.acceptor, Some(Err(HandshakeError::OtherCluster { ours: second, theirs: first })));
    let said = shake(initiator(), local(Identity { levels: levels(3, 4), ..theirs }, &[1]));
    let no_level = |ours, theirs| Some(Err(HandshakeError::NoCommonLevel { ours, theirs }));
    assert_eq!(said.initiator, no_level(ours.levels, levels(3, 4)));
    assert_eq!(said.acceptor, no_level(levels(3, 4), ours.levels));
}

#[test]
fn nodes_without_a_common_version_both_find_out_and_learn_no_more() {
    let (mut hello, _) = initiator_answers(initiator(), INITIATOR_NONCE, &[]);
    hello[8..12].copy_from_slice(&[2, 0, 5, 0]);
    // A later version may go on otherwise behind the versions.
    let (answered, step) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &hello[..16]);
    let (one, later) = (VersionRange::new(1, 1).expect("a range"), VersionRange::new(2, 5).expect("a range"));
    assert_eq!(step, Err(HandshakeError::NoCommonProtocol { ours: one, theirs: later }));
    assert_eq!(answered, b"NABU-ACC\x01\0\x01\0\0\0\0\0");
    let (_, step) = initiator_answers(initiator(), INITIATOR_NONCE, b"NABU-ACC\x02\0\x05\0abcd");
    assert_eq!(step, Err(HandshakeError::NoCommonProtocol { ours: one, theirs: later }));
}

#[test]
fn something_else_than_a_node_is_refused_after_16_bytes() {
    let answer = b"HTTP/1.1 503 Service Unavailable";
    for count in 0..16 {
        let waits = Ok(Step { consumed: count, established: None });
        assert_eq!(initiator_answers(initiator(), INITIATOR_NONCE, &answer[..count]).1, waits);
        assert_eq!(acceptor_answers(acceptor(), ACCEPTOR_NONCE, &answer[..count]), (vec![], waits));
    }
    let refused = |expected| Err(HandshakeError::NoPeer { expected, got: *b"HTTP/1.1" });
    assert_eq!(initiator_answers(initiator(), INITIATOR_NONCE, &answer[..16]).1, refused(*b"NABU-ACC"));
    assert_eq!(acceptor_answers(acceptor(), ACCEPTOR_NONCE, &answer[..16]), (vec![], refused(*b"NABU-INI")));
}

#[test]
fn an_error_is_final() {
    let mut output = Vec::new();
    let mut acceptor = Acceptor::new(acceptor(), ACCEPTOR_NONCE);
    let refused = acceptor.feed(&[0; 16], &mut output);
    assert!(matches!(refused, Err(HandshakeError::NoPeer { .. })));
    let said = shake(initiator(), local(acceptor_identity(), &[1]));
    assert_eq!(acceptor.feed(&said.to_acceptor, &mut output), refused);
    assert_eq!(output, []);
}

/// Feeds one side in pieces that end at `cuts`; what came of it, and what it said. Bytes behind the
/// handshake stay where they are.
fn in_pieces(
    mut feed: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Step, HandshakeError>,
    input: &[u8],
    mut cuts: Vec<usize>,
) -> (Option<Outcome>, usize, Vec<u8>) {
    cuts.sort_unstable();
    cuts.push(input.len());
    let (mut output, mut at) = (Vec::new(), 0);
    for cut in cuts {
        match feed(&input[at..cut], &mut output) {
            Ok(Step { consumed, established }) => {
                at += consumed;
                if let Some(established) = established {
                    return (Some(Ok(established)), at, output);
                }
                assert_eq!(at, cut, "all is taken while the handshake goes on");
            }
            Err(error) => return (Some(Err(error)), at, output),
        }
    }
    (None, at, output)
}

proptest! {
    /// What the session starts with may stand behind the handshake.
    #[test]
    fn no_way_of_cutting_the_bytes_changes_the_outcome(
        cuts in vec(0..300usize, 0..12), behind in vec(any::<u8>(), 0..40)
    ) {
        let said = shake(initiator(), acceptor());
        let clip = |length: usize| cuts.iter().map(|cut| *cut.min(&length)).collect::<Vec<_>>();
        let input = [&said.to_initiator[..], &behind].concat();
        let mut sent = Vec::new();
        let mut side = Initiator::start(initiator(), Purpose::Control, INITIATOR_NONCE, &mut sent);
        let (outcome, consumed, answered) =
            in_pieces(|input, output| side.feed(input, output), &input, clip(input.len()));
        prop_assert_eq!((outcome, consumed), (said.initiator, said.to_initiator.len()));
        prop_assert_eq!([sent, answered].concat(), &said.to_acceptor[..]);
        let input = [&said.to_acceptor[..], &behind].concat();
        let mut side = Acceptor::new(acceptor(), ACCEPTOR_NONCE);
        let (outcome, consumed, answered) =
            in_pieces(|input, output| side.feed(input, output), &input, clip(input.len()));
        prop_assert_eq!((outcome, consumed), (said.acceptor, said.to_acceptor.len()));
        prop_assert_eq!(answered, said.to_initiator);
    }

    #[test]
    fn a_handshake_that_is_cut_short_waits(share in 0.0..1.0f64) {
        let said = shake(initiator(), acceptor());
        let part = |bytes: &[u8]| bytes[..(bytes.len() as f64 * share) as usize].to_vec();
        for step in [
            initiator_answers(initiator(), INITIATOR_NONCE, &part(&said.to_initiator)).1,
            acceptor_answers(acceptor(), ACCEPTOR_NONCE, &part(&said.to_acceptor)).1,
        ] {
            let waits = matches!(step, Ok(Step { established: None, .. }));
            prop_assert!(waits, "{:?}", step);
        }
    }

    #[test]
    fn random_bytes_establish_nothing(bytes in vec(any::<u8>(), 0..600)) {
        for step in [
            initiator_answers(initiator(), INITIATOR_NONCE, &bytes).1,
            acceptor_answers(acceptor(), ACCEPTOR_NONCE, &bytes).1,
        ] {
            let is_established = matches!(step, Ok(Step { established: Some(_), .. }));
            prop_assert!(!is_established);
        }
    }
}

/// Every byte of the handshake, each bit of it: whoever gets it changed refuses it, and an identity
/// is shown only to a peer whose bytes were right.
#[test]
fn a_handshake_with_one_bit_changed_is_refused() {
    let said = shake(initiator(), acceptor());
    for (at, bit) in (0..said.to_initiator.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = said.to_initiator.clone();
        changed[at] ^= 1 << bit;
        let (answered, step) = initiator_answers(initiator(), INITIATOR_NONCE, &changed);
        // The second proof of the challenge proves nothing here, but what follows depends on it.
        let is_second_proof = (80..CHALLENGE_BYTES).contains(&at);
        assert!(step.is_err(), "byte {at}, bit {bit}");
        let introduced = answered.len() > HELLO_BYTES;
        assert_eq!(introduced, is_second_proof || at >= CHALLENGE_BYTES, "byte {at}, bit {bit}");
    }
    for (at, bit) in (0..said.to_acceptor.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = said.to_acceptor.clone();
        changed[at] ^= 1 << bit;
        let (answered, step) = acceptor_answers(acceptor(), ACCEPTOR_NONCE, &changed);
        assert!(step.is_err(), "byte {at}, bit {bit}");
        assert!(!shows(&answered, &acceptor_identity()), "byte {at}, bit {bit}");
    }
}
