//! JWTs of an identity provider (RFC 7519): the keys that they are signed with, and what must hold
//! before one is accepted.
//!
//! A key verifies the one algorithm of its kind, whatever a token's header says: RSA keys RS256,
//! P-256 keys ES256, Ed25519 keys EdDSA, and secrets HS256. So a public key is never taken for a
//! secret, and `none` is no algorithm. No part of a token is ever printed or sent back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use simd_json::OwnedValue;
use simd_json::prelude::*;

use super::Role;
use crate::config::{JwtAlgorithm, JwtOptions};
use crate::private_file::{read_small, refuse_if_foreign, warn_if_shared};

/// The fewest bytes of a secret (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The most keys: a token that names none of them is tried with all of its algorithm.
const KEYS_MAX: usize = 64;

/// The keys of the identity provider, and what its tokens must say.
pub struct Jwts {
    keys: Vec<Key>,
    /// One for each algorithm that is taken.
    validations: Vec<(JwtAlgorithm, Validation)>,
    role_claim: String,
    leeway_seconds: u64,
}

struct Key {
    id: Option<String>,
    algorithm: JwtAlgorithm,
    key: DecodingKey,
}

/// A token that was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// `None` when the token names no role that is known here.
    pub role: Option<Role>,
    /// Whom it was given to, as far as it says so.
    pub subject: Option<String>,
    pub issuer: Option<String>,
    /// Seconds since 1970 from which it is not good any more, leeway included.
    pub expires_at: u64,
}

/// Why a token is rejected, as the end of a sentence; it shows nothing of the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distrust {
    pub reason: String,
    /// Whether a key of ours signed it, so that it is no guess: it has expired, or the like.
    pub is_signed: bool,
}

/// What is wrong with the file of the keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFileError(pub String);

impl fmt::Display for KeyFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for KeyFileError {}

impl Jwts {
    /// Reads the file of the keys.
    ///
    /// # Errors
    /// A message that names the file and the remedy.
    pub fn load(options: &JwtOptions) -> Result<Self, KeyFileError> {
        let named = |reason: String| KeyFileError(format!("{}: {reason}", options.keys.display()));
        let unreadable = |error: std::io::Error| named(format!("cannot be read: {error}"));
        refuse_if_foreign(&options.keys).map_err(unreadable)?;
        let text = read_small(&options.keys).map_err(unreadable)?;
        let keys = parse_keys(&text, &options.keys).map_err(named)?;
        if keys.iter().any(|key| key.algorithm == JwtAlgorithm::Hs256) {
            warn_if_shared(&options.keys).map_err(unreadable)?;
        }
        Self::new(keys, options).map_err(named)
    }

    fn new(keys: Vec<Key>, options: &JwtOptions) -> Result<Self, String> {
        if keys.len() > KEYS_MAX {
            return Err(format!("holds {} keys; at most {KEYS_MAX} are supported", keys.len()));
        }
        let keys: Vec<Key> = keys.into_iter().filter(|key| options.algorithms.contains(&key.algorithm)).collect();
        if keys.is_empty() {
            let names: Vec<_> = options.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(format!(
                "holds no key for {}: RSA, P-256 or Ed25519 public keys, or secrets",
                names.join(", ")
            ));
        }
        let validations = options.algorithms.iter().map(|algorithm| (*algorithm, validation(*algorithm, options)));
        Ok(Self {
            keys,
            validations: validations.collect(),
            role_claim: options.role_claim.clone(),
            leeway_seconds: options.leeway_seconds,
        })
    }

    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Whether this could be a JWT at all: three parts with dots between them.
    pub fn resembles(token: &[u8]) -> bool {
        token.iter().filter(|byte| **byte == b'.').count() == 2
    }

    /// Verifies a token: its signature first, then what it claims.
    pub fn verify(&self, token: &[u8]) -> Result<Verified, Distrust> {
        let distrust = |reason: &str| Distrust { reason: reason.to_owned(), is_signed: false };
        let header =
            decode_header(token).map_err(|_| distrust("its header is malformed, or names an unknown algorithm"))?;
        if header.crit.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(distrust("its header has critical extensions, and this server knows none"));
        }
        let accepted = known_algorithm(header.alg)
            .and_then(|known| self.validations.iter().find(|(algorithm, _)| *algorithm == known));
        let Some((algorithm, validation)) = accepted else {
            return Err(distrust("this server does not accept its algorithm"));
        };
        let mut outcome = Err(distrust("it is signed with a key that this server does not have"));
        for key in self.candidates(*algorithm, &header) {
            match decode::<BTreeMap<String, Claim>>(token, &key.key, validation) {
                Ok(data) => return self.verified(&data.claims),
                Err(error) => outcome = Err(self.distrust(&error)),
            }
            // Another key may be the right one only when this one was not.
            if !matches!(&outcome, Err(Distrust { reason, .. }) if reason == WRONG_SIGNATURE) {
                break;
            }
        }
        outcome
    }

    /// The keys that a token may be signed with: the one that it names, if we have it, else all
    /// that have no name or are not named.
    fn candidates<'k>(&'k self, algorithm: JwtAlgorithm, header: &'k Header) -> impl Iterator<Item = &'k Key> {
        let of_algorithm = move |key: &&Key| key.algorithm == algorithm;
        let named = header.kid.as_deref();
        let has_named = self.keys.iter().filter(of_algorithm).any(|key| named.is_some() && key.id.as_deref() == named);
        self.keys.iter().filter(of_algorithm).filter(move |key| match (named, &key.id) {
            (Some(_), id) if has_named => id.as_deref() == named,
            // A token that names a key is not tried with one of another name.
            (Some(_), Some(_)) => false,
            _ => true,
        })
    }

    fn verified(&self, claims: &BTreeMap<String, Claim>) -> Result<Verified, Distrust> {
        let claim = |reason| Distrust { reason, is_signed: true };
        // Each names one party (RFC 7519, section 4.1). With a list, any of its names would do for
        // the check of the issuer, and none for the log.
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Claim::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(claim(format!("its claim `{name}` is not a string"))),
        };
        let Some(Claim::Number(expires)) = claims.get("exp") else {
            return Err(claim("its claim `exp` is not a number".to_owned()));
        };
        let role = match claims.get(&self.role_claim) {
            Some(Claim::Text(name)) => name.parse().ok(),
            Some(Claim::Texts(names)) => names.iter().filter_map(|name| name.parse::<Role>().ok()).max(),
            _ => None,
        };
        let expires_at = (expires.max(0.0) as u64).saturating_add(self.leeway_seconds);
        Ok(Verified { role, subject: text("sub")?, issuer: text("iss")?, expires_at })
    }

    fn distrust(&self, error: &jsonwebtoken::errors::Error) -> Distrust {
        // The signature is verified before any claim is looked at.
        let (reason, is_signed) = match error.kind() {
            ErrorKind::InvalidSignature => (WRONG_SIGNATURE.to_owned(), false),
            ErrorKind::ExpiredSignature => ("it has expired (claim `exp`)".to_owned(), true),
            ErrorKind::ImmatureSignature => ("it is not valid yet (claim `nbf`)".to_owned(), true),
            ErrorKind::InvalidAudience => ("it is for another audience (claim `aud`)".to_owned(), true),
            ErrorKind::InvalidIssuer => ("it comes from another issuer (claim `iss`)".to_owned(), true),
            ErrorKind::MissingRequiredClaim(claim) => (format!("it has no claim `{claim}`, or a malformed one"), true),
            ErrorKind::InvalidClaimFormat(claim) => (format!("its claim `{claim}` is malformed"), true),
            _ => ("it is malformed".to_owned(), false),
        };
        Distrust { reason, is_signed }
    }
}

const WRONG_SIGNATURE: &str = "its signature is wrong";

/// A claim, as far as its value is of interest here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Claim {
    Text(String),
    Number(f64),
    Texts(Vec<String>),
    Other(IgnoredAny),
}

fn known_algorithm(algorithm: Algorithm) -> Option<JwtAlgorithm> {
    match algorithm {
        Algorithm::HS256 => Some(JwtAlgorithm::Hs256),
        Algorithm::RS256 => Some(JwtAlgorithm::Rs256),
        Algorithm::ES256 => Some(JwtAlgorithm::Es256),
        Algorithm::EdDSA => Some(JwtAlgorithm::EdDsa),
        _ => None,
    }
}

fn validation(algorithm: JwtAlgorithm, options: &JwtOptions) -> Validation {
    let mut validation = Validation::new(match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    });
    validation.leeway = options.leeway_seconds;
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if !options.audiences.is_empty() {
        validation.set_audience(&options.audiences);
        required.push("aud");
    }
    if !options.issuers.is_empty() {
        validation.set_issuer(&options.issuers);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// The keys of a file, in PEM or as a JWKS (RFC 7517).
fn parse_keys(text: &str, path: &Path) -> Result<Vec<Key>, String> {
    if text.trim_start().starts_with('{') { parse_jwks(text, path) } else { parse_pem(text) }
}

fn parse_pem(text: &str) -> Result<Vec<Key>, String> {
    const BEGIN: &str = "-----BEGIN ";
    let mut keys = Vec::new();
    for (start, _) in text.match_indices(BEGIN) {
        let block = &text[start..];
        let end = block[BEGIN.len()..].find(BEGIN).map_or(block.len(), |end| BEGIN.len() + end);
        let block = &block[..end];
        let label = block[BEGIN.len()..].split("-----").next().unwrap_or_default();
        let number = keys.len() + 1;
        if label.ends_with("PRIVATE KEY") {
            return Err(format!(
                "block {number} is a private key: the server needs the public one alone (`openssl pkey -in KEY -pubout`)"
            ));
        }
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err(format!("block {number} is not a public key: it must begin with -----BEGIN PUBLIC KEY-----"));
        }
        let bytes = block.as_bytes();
        let key = DecodingKey::from_rsa_pem(bytes)
            .map(|key| (JwtAlgorithm::Rs256, key))
            .or_else(|_| DecodingKey::from_ec_pem(bytes).map(|key| (JwtAlgorithm::Es256, key)))
            .or_else(|_| DecodingKey::from_ed_pem(bytes).map(|key| (JwtAlgorithm::EdDsa, key)));
        let Ok((algorithm, key)) = key else {
            return Err(format!("block {number} is damaged, or not an RSA, P-256 or Ed25519 key"));
        };
        // An uncompressed point of P-256; other curves have longer ones.
        if algorithm == JwtAlgorithm::Es256 && key.try_get_as_bytes().map_or(0, <[u8]>::len) != 65 {
            return Err(format!("block {number} is a key on a curve other than P-256"));
        }
        keys.push(Key { id: None, algorithm, key });
    }
    if keys.is_empty() {
        return Err("holds no keys: it must be public keys in PEM, or a JWKS, {\"keys\": […]}".to_owned());
    }
    Ok(keys)
}

fn parse_jwks(text: &str, path: &Path) -> Result<Vec<Key>, String> {
    let mut bytes = text.as_bytes().to_vec();
    let document = simd_json::to_owned_value(&mut bytes).map_err(|error| format!("is not JSON: {error}"))?;
    let Some(entries) = document.get_array("keys") else {
        return Err("is not a JWKS: it has no `keys` list".to_owned());
    };
    let mut keys = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match parse_jwk(entry) {
            Ok(key) => keys.push(key),
            // A provider may publish keys for others as well.
            Err(Unusable::Skip(reason)) => {
                tracing::warn!(file = %path.display(), "key {} of the JWKS is not used: {reason}", index + 1);
            }
            Err(Unusable::Refuse(reason)) => return Err(format!("key {}: {reason}", index + 1)),
        }
    }
    Ok(keys)
}

enum Unusable {
    Skip(&'static str),
    Refuse(String),
}

fn parse_jwk(entry: &OwnedValue) -> Result<Key, Unusable> {
    let Ok(jwk) = simd_json::serde::from_owned_value::<Jwk>(entry.clone()) else {
        return Err(Unusable::Skip("its type or algorithm is unknown, or a member is missing"));
    };
    if matches!(jwk.common.public_key_use, Some(ref used) if *used != PublicKeyUse::Signature) {
        return Err(Unusable::Skip("it is not for signatures"));
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => JwtAlgorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => JwtAlgorithm::Es256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => JwtAlgorithm::EdDsa,
        AlgorithmParameters::OctetKey(_) => JwtAlgorithm::Hs256,
        _ => return Err(Unusable::Skip("its curve is neither P-256 nor Ed25519")),
    };
    if jwk.common.key_algorithm.is_some_and(|named| named.to_string() != algorithm.name()) {
        return Err(Unusable::Skip("its algorithm is none of HS256, RS256, ES256 and EdDSA"));
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| Unusable::Refuse("its members are damaged".to_owned()))?;
    if algorithm == JwtAlgorithm::Hs256 && key.try_get_as_bytes().map_or(0, <[u8]>::len) < SECRET_BYTES_MIN {
        let reason = format!("the secret is too short: at least {SECRET_BYTES_MIN} bytes are needed");
        return Err(Unusable::Refuse(reason));
    }
    Ok(Key { id: jwk.common.key_id, algorithm, key })
}

#[cfg(test)]
mod tests;
