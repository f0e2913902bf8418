//! Base64 of the standard alphabet (RFC 4648, section 4), decoded piece by piece.
//!
//! Padding may be left out; whitespace and other alphabets are refused, with the offset of the first character that is wrong.

use base64_simd::{AsOut, STANDARD_NO_PAD};

/// Characters decoded in one step: a multiple of 4, so that only the last piece is a partial one.
const PIECE_CHARACTERS: usize = 64 << 10;

/// A text to decode.
pub struct Base64<'t> {
    /// Without its padding.
    text: &'t [u8],
    offset: usize,
}

/// The offset of the first character that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadBase64 {
    pub offset: usize,
}

impl<'t> Base64<'t> {
    pub fn new(text: &'t str) -> Result<Self, BadBase64> {
        let bytes = text.as_bytes();
        let padding = bytes.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        let body = &bytes[..bytes.len() - padding];
        // Padding fills up the last four characters, no more and no less; and six bits alone make no byte.
        if (padding > 0 && !bytes.len().is_multiple_of(4)) || body.len() % 4 == 1 {
            return Err(BadBase64 { offset: first_bad(body).unwrap_or(body.len()) });
        }
        Ok(Self { text: body, offset: 0 })
    }

    /// Bytes of the decoded text.
    pub fn decoded_size(&self) -> u64 {
        self.text.len() as u64 * 3 / 4
    }

    /// Decodes the next piece into `scratch`, which it replaces; false at the end.
    pub fn next(&mut self, scratch: &mut Vec<u8>) -> Result<bool, BadBase64> {
        let rest = &self.text[self.offset..];
        if rest.is_empty() {
            return Ok(false);
        }
        let piece = &rest[..rest.len().min(PIECE_CHARACTERS)];
        scratch.clear();
        scratch.resize(piece.len() * 3 / 4, 0);
        match STANDARD_NO_PAD.decode(piece, scratch.as_mut_slice().as_out()) {
            Ok(_) => {
                self.offset += piece.len();
                Ok(true)
            }
            // With no bad character, the last one carries bits that belong to no byte.
            Err(_) => Err(BadBase64 { offset: self.offset + first_bad(piece).unwrap_or(piece.len() - 1) }),
        }
    }
}

fn first_bad(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Vec<u8>, BadBase64> {
        let mut base64 = Base64::new(text)?;
        let size = base64.decoded_size();
        let (mut decoded, mut scratch) = (Vec::new(), Vec::new());
        while base64.next(&mut scratch)? {
            decoded.extend_from_slice(&scratch);
        }
        assert_eq!(decoded.len() as u64, size);
        Ok(decoded)
    }

    #[test]
    fn every_size_is_decoded_with_and_without_padding() {
        let content: Vec<u8> = (0..PIECE_CHARACTERS * 2).map(|number| ((number * 31) >> 3) as u8).collect();
        for size in (0..70).chain(PIECE_CHARACTERS * 3 / 4 - 3..PIECE_CHARACTERS * 3 / 4 + 4).chain([content.len()]) {
            let text = base64_simd::STANDARD.encode_to_string(&content[..size]);
            assert_eq!(decode(&text).as_deref(), Ok(&content[..size]));
            assert_eq!(decode(text.trim_end_matches('=')).as_deref(), Ok(&content[..size]));
        }
    }

    #[test]
    fn the_first_wrong_character_is_named() {
        for (text, offset) in [
            ("SGVs bG8=", 4),
            ("SGVs\nbG8", 4),
            ("SG-s", 2),
            ("SGVsb", 5),
            ("SGVsbG8==", 7),
            ("SGVs=", 4),
            ("====", 0),
            ("SG=s", 2),
            ("SGVsbG9=", 6),
            ("\u{e4}AA", 0),
        ] {
            assert_eq!(decode(text), Err(BadBase64 { offset }), "{text:?}");
        }
        let mut long = "A".repeat(PIECE_CHARACTERS + 100);
        long.replace_range(PIECE_CHARACTERS + 50..PIECE_CHARACTERS + 51, "?");
        assert_eq!(decode(&long), Err(BadBase64 { offset: PIECE_CHARACTERS + 50 }));
    }
}
