//! Tokens that were verified lately, so that a JWT costs one signature check and not one for each
//! request. Each core has its own.
//!
//! A token is known by its SHA-256, and for no longer than it is good. When there is no room the
//! ones that are not good any more go, or else some go.

use std::collections::HashMap;
use std::sync::Arc;

use super::jwt::Verified;
use super::rate::Bucket;

/// The most tokens that a core knows: some 300 bytes each.
const TOKENS_MAX: usize = 4096;

/// A token that is good, and the counter of its subject.
#[derive(Clone)]
pub struct Known {
    pub verified: Verified,
    /// As the log names it.
    pub name: Arc<str>,
    pub bucket: Option<Arc<Bucket>>,
}

#[derive(Default)]
pub struct VerifiedTokens {
    tokens: HashMap<[u8; 32], Known>,
}

impl VerifiedTokens {
    /// A token that was verified and is still good, `now` in seconds since 1970.
    pub fn get(&self, hash: &[u8; 32], now: u64) -> Option<&Known> {
        self.tokens.get(hash).filter(|known| now < known.verified.expires_at)
    }

    pub fn insert(&mut self, hash: [u8; 32], known: Known, now: u64) {
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.retain(|_, known| now < known.verified.expires_at);
        }
        if self.tokens.len() >= TOKENS_MAX {
            // In the order of the table, which is effectively random.
            let mut kept = 0;
            self.tokens.retain(|_, _| {
                kept += 1;
                kept <= TOKENS_MAX / 2
            });
        }
        self.tokens.insert(hash, known);
    }

    /// Forgets all, since the keys have changed.
    pub fn clear(&mut self) {
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(expires_at: u64) -> Known {
        let verified = Verified { role: None, subject: None, issuer: None, expires_at };
        Known { verified, name: "test".into(), bucket: None }
    }

    fn hash(number: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let mut tokens = VerifiedTokens::default();
        tokens.insert(hash(1), known(100), 50);
        assert!(tokens.get(&hash(1), 99).is_some());
        assert!(tokens.get(&hash(1), 100).is_none());
        assert!(tokens.get(&hash(2), 99).is_none());
        tokens.clear();
        assert!(tokens.get(&hash(1), 99).is_none());
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_the_newest_is_there() {
        let mut tokens = VerifiedTokens::default();
        for number in 0..3 * TOKENS_MAX as u64 {
            tokens.insert(hash(number), known(100), 50);
            assert!(tokens.tokens.len() <= TOKENS_MAX);
            assert!(tokens.get(&hash(number), 50).is_some());
        }
    }

    #[test]
    fn expired_tokens_make_room_before_good_ones() {
        let mut tokens = VerifiedTokens::default();
        tokens.insert(hash(0), known(1000), 0);
        for number in 1..TOKENS_MAX as u64 {
            tokens.insert(hash(number), known(100), 0);
        }
        tokens.insert(hash(u64::MAX), known(1000), 500);
        assert!(tokens.get(&hash(0), 500).is_some());
        assert_eq!(tokens.tokens.len(), 2);
    }
}
