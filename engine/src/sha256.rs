//! SHA-256 (FIPS 180-4), which names contents.
//!
//! AWS-LC, which the server links for TLS anyway, has assembly for every CPU: where a CPU lacks
//! the SHA extensions, it hashes 1.6 to 1.9 times as fast as portable code (`benches/parts.rs`).

use std::fmt;

use aws_lc_rs::digest;

/// A hash of bytes that come in pieces.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finalize(self) -> [u8; 32] {
        array(&self.0.finish())
    }

    /// The hash of these bytes alone.
    pub fn digest(bytes: &[u8]) -> [u8; 32] {
        array(&digest::digest(&digest::SHA256, bytes))
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sha256")
    }
}

fn array(digest: &digest::Digest) -> [u8; 32] {
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex;

    #[test]
    fn the_published_vectors_match_however_the_bytes_come() {
        // FIPS 180-2, appendix B.
        let million = vec![b'a'; 1_000_000];
        let vectors: [(&[u8], &str); 4] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ];
        for (bytes, expected) in vectors {
            assert_eq!(hex(&Sha256::digest(bytes)), expected);
            for size in [1, 63, 64, 65, 4096] {
                let mut hash = Sha256::new();
                bytes.chunks(size).for_each(|piece| hash.update(piece));
                assert_eq!(hex(&hash.clone().finalize()), expected, "by {size}");
            }
        }
    }
}
