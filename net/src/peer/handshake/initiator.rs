//! The side that opened the connection: it says hello, waits for the acceptor's proof, says who it
//! is, and learns who the acceptor is.

use super::error::HandshakeError;
use super::intake::Intake;
use super::message::{self, CHALLENGE_BYTES, INTRODUCTION_BYTES, NONCE_BYTES, PREFIX_BYTES, Purpose};
use super::outcome::{Established, Local, Step};
use super::transcript::{Label, Transcript};
use crate::peer::identity::Identity;
use crate::peer::secrets::Secret;

#[derive(Clone)]
enum State {
    /// Waiting for the versions of the acceptor.
    Prefix,
    /// Waiting for the rest of its challenge.
    Challenge {
        protocol: u16,
    },
    /// Waiting for its introduction, proven with this secret.
    Introduction {
        protocol: u16,
        secret: Secret,
    },
    Established,
    Failed(HandshakeError),
}

/// A handshake, as the side that opened the connection goes through it.
pub struct Initiator {
    local: Local,
    purpose: Purpose,
    nonce: [u8; NONCE_BYTES],
    transcript: Transcript,
    intake: Intake,
    state: State,
}

impl Initiator {
    /// Starts a handshake, and appends the first message to `output`. The nonce is random, and
    /// never used again.
    pub fn start(local: Local, purpose: Purpose, nonce: [u8; NONCE_BYTES], output: &mut Vec<u8>) -> Self {
        let mut transcript = Transcript::new(local.binding.as_ref());
        let hello = message::hello(purpose, &nonce);
        transcript.add(&hello);
        output.extend_from_slice(&hello);
        Self { local, purpose, nonce, transcript, intake: Intake::new(), state: State::Prefix }
    }

    /// Takes bytes of the acceptor, and appends to `output` what is to be sent to it. An error is
    /// final, and comes again.
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
            match self.state.clone() {
                State::Prefix => {
                    if !self.intake.fill(input, PREFIX_BYTES) {
                        return Ok(None);
                    }
                    let prefix = self.intake.message();
                    let protocol = message::common_protocol(prefix, message::ACCEPTOR_MAGIC, "challenge")?;
                    self.state = State::Challenge { protocol };
                }
                State::Challenge { protocol } => {
                    if !self.intake.fill(input, CHALLENGE_BYTES) {
                        return Ok(None);
                    }
                    let secret = self.check_challenge()?;
                    self.introduce(&secret, output);
                    self.state = State::Introduction { protocol, secret };
                }
                State::Introduction { protocol, secret } => {
                    if !self.intake.fill(input, INTRODUCTION_BYTES) {
                        return Ok(None);
                    }
                    let peer = self.check_introduction(&secret)?;
                    let established = Established::judge(&self.local.identity, &peer, self.purpose, protocol)?;
                    self.state = State::Established;
                    return Ok(Some(established));
                }
                State::Established => panic!("the handshake is over"),
                State::Failed(error) => return Err(error),
            }
        }
    }

    /// The secret that the acceptor has proven; the first of ours, if it is two.
    fn check_challenge(&mut self) -> Result<Secret, HandshakeError> {
        let challenge = self.intake.message();
        message::check_challenge(challenge)?;
        if message::nonce(challenge) == self.nonce {
            return Err(HandshakeError::OwnNonce);
        }
        let (proven, _) = challenge.split_at(message::CHALLENGE_PROOFS_AT);
        self.transcript.add(proven);
        let mut found = None;
        // All pairs, whatever matches: how long it takes says nothing of our secrets.
        for secret in self.local.secrets.iter() {
            for proof in message::challenge_proofs(challenge) {
                let is_proven = self.transcript.is_proven(Label::Challenge, secret, proof);
                found = found.or(is_proven.then_some(secret));
            }
        }
        let secret = found.cloned().ok_or(HandshakeError::Unproven)?;
        self.transcript.add(&challenge[message::CHALLENGE_PROOFS_AT..]);
        self.intake.clear();
        Ok(secret)
    }

    fn introduce(&mut self, secret: &Secret, output: &mut Vec<u8>) {
        let identity = self.local.identity.encode();
        self.transcript.add(&identity);
        let proof = self.transcript.proof(Label::Initiator, secret);
        self.transcript.add(&proof);
        output.extend_from_slice(&identity);
        output.extend_from_slice(&proof);
    }

    fn check_introduction(&mut self, secret: &Secret) -> Result<Identity, HandshakeError> {
        let (identity, proof) = self.intake.message().split_at(message::INTRODUCTION_PROOF_AT);
        self.transcript.add(identity);
        if !self.transcript.is_proven(Label::Acceptor, secret, proof) {
            return Err(HandshakeError::Unproven);
        }
        let identity = identity.try_into().expect("the bytes of an identity");
        Identity::decode(identity).map_err(|at| HandshakeError::Malformed { message: "introduction", at })
    }
}
