//! The side that is called: it proves that it knows its secrets, and says who it is only after the
//! initiator has proven one of them and said who it is.

use super::error::HandshakeError;
use super::intake::Intake;
use super::message::{self, HELLO_BYTES, INTRODUCTION_BYTES, NONCE_BYTES, PREFIX_BYTES, PROOF_BYTES, Purpose};
use super::outcome::{Established, Local, Step};
use super::transcript::{Label, Transcript};
use crate::peer::codec::put;
use crate::peer::identity::Identity;
use crate::peer::secrets::Secret;

#[derive(Clone, Copy)]
enum State {
    /// Waiting for the versions of the initiator.
    Prefix,
    /// Waiting for the rest of its hello.
    Hello {
        protocol: u16,
    },
    /// Waiting for its introduction.
    Introduction {
        protocol: u16,
        purpose: Purpose,
    },
    Established,
    Failed(HandshakeError),
}

/// A handshake, as the side that is called goes through it.
pub struct Acceptor {
    local: Local,
    nonce: [u8; NONCE_BYTES],
    transcript: Transcript,
    intake: Intake,
    state: State,
}

impl Acceptor {
    /// Waits for a handshake. The nonce is random, and never used again.
    pub fn new(local: Local, nonce: [u8; NONCE_BYTES]) -> Self {
        let transcript = Transcript::new(local.binding.as_ref());
        Self { local, nonce, transcript, intake: Intake::new(), state: State::Prefix }
    }

    /// Takes bytes of the initiator, and appends to `output` what is to be sent to it, in case of
    /// an error too: a peer that is a member is told what it takes to find the same error. An error
    /// is final, and comes again.
    ///
    /// # Panics
    /// When the handshake is over because something is established.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let mut rest = input;
        let established = self.advance(&mut rest, output).inspect_err(|error| self.state = State::Failed(*error))?;
        Ok(Step { consumed: input.len() - rest.len(), established })
    }

    fn advance(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Result<Option<Established>, HandshakeError> {
        loop {
            match self.state {
                State::Prefix => {
                    if !self.intake.fill(input, PREFIX_BYTES) {
                        return Ok(None);
                    }
                    let protocol = self.check_prefix(output)?;
                    self.state = State::Hello { protocol };
                }
                State::Hello { protocol } => {
                    if !self.intake.fill(input, HELLO_BYTES) {
                        return Ok(None);
                    }
                    let purpose = self.check_hello()?;
                    self.challenge(output);
                    self.state = State::Introduction { protocol, purpose };
                }
                State::Introduction { protocol, purpose } => {
                    if !self.intake.fill(input, INTRODUCTION_BYTES) {
                        return Ok(None);
                    }
                    let (peer, secret) = self.check_introduction()?;
                    // Before anything is judged: the peer has proven that it is a member.
                    self.introduce(&secret, output);
                    let established = Established::judge(&self.local.identity, &peer, purpose, protocol)?;
                    self.state = State::Established;
                    return Ok(Some(established));
                }
                State::Established => panic!("the handshake is over"),
                State::Failed(error) => return Err(error),
            }
        }
    }

    /// Where no version is in common, our versions are all that the peer is told.
    fn check_prefix(&self, output: &mut Vec<u8>) -> Result<u16, HandshakeError> {
        let verdict = message::common_protocol(self.intake.message(), message::INITIATOR_MAGIC, "hello");
        if matches!(verdict, Err(HandshakeError::NoCommonProtocol { .. })) {
            output.extend_from_slice(&message::challenge(&self.nonce)[..PREFIX_BYTES]);
        }
        verdict
    }

    fn check_hello(&mut self) -> Result<Purpose, HandshakeError> {
        let hello = self.intake.message();
        let purpose = message::hello_purpose(hello)?;
        if message::nonce(hello) == self.nonce {
            return Err(HandshakeError::OwnNonce);
        }
        self.transcript.add(hello);
        self.intake.clear();
        Ok(purpose)
    }

    fn challenge(&mut self, output: &mut Vec<u8>) {
        let mut challenge = message::challenge(&self.nonce);
        let (proven, _) = challenge.split_at(message::CHALLENGE_PROOFS_AT);
        self.transcript.add(proven);
        let secrets = &self.local.secrets;
        let first = self.transcript.proof(Label::Challenge, secrets.first());
        let second = match secrets.second() {
            Some(second) => self.transcript.proof(Label::Challenge, second),
            None => self.transcript.proof(Label::Absent, secrets.first()),
        };
        put(&mut challenge, message::CHALLENGE_PROOFS_AT, &first);
        put(&mut challenge, message::CHALLENGE_PROOFS_AT + PROOF_BYTES, &second);
        self.transcript.add(&challenge[message::CHALLENGE_PROOFS_AT..]);
        output.extend_from_slice(&challenge);
    }

    /// Who the initiator is, and the secret that it has proven.
    fn check_introduction(&mut self) -> Result<(Identity, Secret), HandshakeError> {
        let (identity, proof) = self.intake.message().split_at(message::INTRODUCTION_PROOF_AT);
        self.transcript.add(identity);
        let mut found = None;
        // All secrets, whatever matches: how long it takes says nothing of them.
        for secret in self.local.secrets.iter() {
            let is_proven = self.transcript.is_proven(Label::Initiator, secret, proof);
            found = found.or(is_proven.then_some(secret));
        }
        let secret = found.cloned().ok_or(HandshakeError::Unproven)?;
        self.transcript.add(proof);
        let identity = identity.try_into().expect("the bytes of an identity");
        let identity =
            Identity::decode(identity).map_err(|at| HandshakeError::Malformed { message: "introduction", at })?;
        Ok((identity, secret))
    }

    fn introduce(&mut self, secret: &Secret, output: &mut Vec<u8>) {
        let identity = self.local.identity.encode();
        self.transcript.add(&identity);
        output.extend_from_slice(&identity);
        output.extend_from_slice(&self.transcript.proof(Label::Acceptor, secret));
    }
}
