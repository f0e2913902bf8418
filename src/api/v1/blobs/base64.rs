//! Base64 of the standard alphabet (RFC 4648, section 4), decoded as it comes.
//!
//! Padding may be left out; whitespace and other alphabets are refused, with the offset of the
//! first character that is wrong.

use base64_simd::{AsOut, STANDARD_NO_PAD};

/// Characters that make whole bytes.
const QUAD: usize = 4;
/// The most characters of padding.
const PADDING_MAX: usize = 2;

/// A text that is being decoded.
#[derive(Default)]
pub struct Base64 {
    /// The last characters, which are too few for whole bytes.
    held: [u8; QUAD],
    held_count: usize,
    /// Characters so far, without padding.
    count: usize,
    padding: usize,
}

/// The offset of the first character that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadBase64 {
    pub offset: usize,
}

impl Base64 {
    /// Decodes the next characters behind what is in `out`.
    ///
    /// # Errors
    /// A character that is wrong; then all of the text is.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), BadBase64> {
        let body = if self.padding > 0 { 0 } else { text.iter().position(|byte| *byte == b'=').unwrap_or(text.len()) };
        let (mut body, padding) = text.split_at(body);
        if self.held_count > 0 {
            let (filling, rest) = body.split_at(body.len().min(QUAD - self.held_count));
            self.hold(filling);
            body = rest;
            if self.held_count == QUAD {
                let quad = self.held;
                self.held_count = 0;
                self.decode(&quad, self.count - QUAD, out)?;
            }
        }
        let (quads, rest) = body.split_at(body.len() / QUAD * QUAD);
        self.decode(quads, self.count, out)?;
        self.count += quads.len();
        self.hold(rest);
        self.padding += padding.len();
        // Whatever follows padding is wrong where that begins.
        if self.padding > PADDING_MAX || padding.iter().any(|byte| *byte != b'=') {
            return Err(self.bad_held());
        }
        Ok(())
    }

    /// The text is over: decodes what is left of it.
    ///
    /// # Errors
    /// The text ends too early, or with the wrong padding.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), BadBase64> {
        // Padding fills up the last four characters, no more and no less; and six bits alone make
        // no byte.
        if self.held_count == 1 || (self.padding > 0 && self.held_count + self.padding != QUAD) {
            return Err(self.bad_held());
        }
        self.decode(&self.held[..self.held_count], self.count - self.held_count, out)
    }

    fn hold(&mut self, text: &[u8]) {
        self.held[self.held_count..self.held_count + text.len()].copy_from_slice(text);
        self.held_count += text.len();
        self.count += text.len();
    }

    fn decode(&self, text: &[u8], offset: usize, out: &mut Vec<u8>) -> Result<(), BadBase64> {
        let start = out.len();
        out.resize(start + text.len() * 3 / 4, 0);
        match STANDARD_NO_PAD.decode(text, out[start..].as_out()) {
            Ok(_) => Ok(()),
            // With no bad character, the last one carries bits that belong to no byte.
            Err(_) => Err(BadBase64 { offset: offset + first_bad(text).unwrap_or(text.len() - 1) }),
        }
    }

    /// Behind the characters so far, unless one of those that are held is wrong.
    fn bad_held(&self) -> BadBase64 {
        let held = &self.held[..self.held_count];
        BadBase64 { offset: self.count - held.len() + first_bad(held).unwrap_or(held.len()) }
    }
}

fn first_bad(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, piece: usize) -> Result<Vec<u8>, BadBase64> {
        let (mut base64, mut out) = (Base64::default(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            base64.push(piece, &mut out)?;
        }
        base64.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_size_is_decoded_with_and_without_padding_however_it_comes() {
        let content: Vec<u8> = (0..1000).map(|number| ((number * 31) >> 3) as u8).collect();
        for size in (0..70).chain(995..=1000) {
            let text = base64_simd::STANDARD.encode_to_string(&content[..size]);
            for piece in [1, 2, 3, 4, 5, 7, 64, 2000] {
                assert_eq!(decode(&text, piece).as_deref(), Ok(&content[..size]), "{piece}");
                assert_eq!(decode(text.trim_end_matches('='), piece).as_deref(), Ok(&content[..size]), "{piece}");
            }
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
            for piece in 1..=text.len() {
                assert_eq!(decode(text, piece), Err(BadBase64 { offset }), "{text:?} in pieces of {piece}");
            }
        }
    }
}
