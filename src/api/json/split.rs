//! Takes one long string out of a JSON object while it comes in, so that a document with a large
//! member needs no memory for it.
//!
//! [`Split`] hands out the characters of the member in pieces and keeps the rest of the text, with
//! an empty string in the member's place. The rest is parsed when it is whole
//! ([`super::Document`]); since the string that was taken out is checked here, the rest is JSON
//! exactly if all of it was. Until then nothing is known of the text, so what was made of the
//! member counts for nothing.
//!
//! Keys are compared as they are written, or unescaped where they have escapes.

use super::{Document, malformed, unprocessable};
use crate::http::HttpError;

/// The longest escape in a string: a `u` and four digits behind the backslash.
const ESCAPE_BYTES_MAX: usize = 5;

/// What comes next of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Between strings.
    Structure,
    /// In a string that is kept. A key of the outermost object where `key_start` says so.
    Kept { is_escaped: bool },
    /// In the member.
    Member,
    /// Behind a backslash in the member.
    Escape,
}

/// Splits a text.
pub struct Split {
    member: &'static str,
    state: State,
    rest: Vec<u8>,
    rest_bytes_max: usize,
    depth: u32,
    /// In the outermost object: where in `rest` the text of the key starts.
    key_start: Option<usize>,
    /// In the outermost object a key comes next, and not a value.
    is_key_next: bool,
    /// The key that was just read is the member's.
    is_member: bool,
    /// How much of the text was looked at.
    taken: usize,
    /// Where in the rest the end of the member is, once it has come, and how many bytes were taken
    /// out there.
    cut: Option<(usize, usize)>,
    cut_bytes: usize,
    escape: Vec<u8>,
}

/// A piece of the text that was looked at.
pub enum Piece<'t> {
    /// These characters of the member are ASCII and stand for themselves.
    Plain(&'t [u8]),
    /// One character of the member, that was written as an escape.
    Escaped(char),
    /// Nothing of the member.
    Kept,
}

impl Split {
    /// Takes out the member of this name; at most `rest_bytes_max` bytes are kept of all else.
    pub fn new(member: &'static str, rest_bytes_max: usize) -> Self {
        Self {
            member,
            state: State::Structure,
            rest: Vec::new(),
            rest_bytes_max,
            depth: 0,
            key_start: None,
            is_key_next: false,
            is_member: false,
            taken: 0,
            cut: None,
            cut_bytes: 0,
            escape: Vec::new(),
        }
    }

    /// Bytes that are kept.
    pub fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Looks at a part of `text`, which is not empty; says how much of it that was, and what it is.
    ///
    /// # Errors
    /// 400 for what can be in no string of JSON, 413 where too much would be kept, 422 for a second
    /// member.
    pub fn next<'t>(&mut self, text: &'t [u8]) -> Result<(usize, Piece<'t>), HttpError> {
        let (count, piece) = match self.state {
            State::Member => self.in_member(text)?,
            State::Escape => (1, self.in_escape(text[0])?),
            State::Kept { .. } | State::Structure => (self.kept(text)?, Piece::Kept),
        };
        self.taken += count;
        Ok((count, piece))
    }

    /// The rest of the text; the member is an empty string in it, if it was there and a string.
    pub fn into_rest(self) -> Rest {
        // A text that ends inside the member ends too early; the error names where.
        let is_open = matches!(self.state, State::Member | State::Escape);
        let end = is_open.then_some((self.rest.len(), self.cut_bytes));
        Rest { cut: self.cut.or(end), text: self.rest }
    }

    fn in_member<'t>(&mut self, text: &'t [u8]) -> Result<(usize, Piece<'t>), HttpError> {
        let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20 | 0x80..)).unwrap_or(text.len());
        if plain > 0 {
            self.cut_bytes += plain;
            return Ok((plain, Piece::Plain(&text[..plain])));
        }
        match text[0] {
            b'"' => {
                self.cut = Some((self.rest.len(), self.cut_bytes));
                self.keep(b"\"")?;
                self.state = State::Structure;
                Ok((1, Piece::Kept))
            }
            b'\\' => {
                self.cut_bytes += 1;
                self.escape.clear();
                self.state = State::Escape;
                Ok((1, Piece::Kept))
            }
            ..0x20 => Err(malformed(self.taken, "a string contains a control character")),
            // Nothing beyond ASCII is part of what the member may hold.
            _ => {
                self.cut_bytes += 1;
                Ok((1, Piece::Plain(&text[..1])))
            }
        }
    }

    fn in_escape(&mut self, byte: u8) -> Result<Piece<'static>, HttpError> {
        self.cut_bytes += 1;
        self.escape.push(byte);
        let character = match self.escape[..] {
            [b'u', ref digits @ ..] => {
                if digits.last().is_some_and(|digit| !digit.is_ascii_hexdigit()) {
                    return Err(malformed(self.taken, "an escape has four hexadecimal digits"));
                }
                if self.escape.len() < ESCAPE_BYTES_MAX {
                    return Ok(Piece::Kept);
                }
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
                let unit = u32::from_str_radix(digits, 16).expect("four hexadecimal digits");
                // Halves of a pair are no characters, and none of either is part of what the member
                // may hold.
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            [plain @ (b'"' | b'\\' | b'/')] => plain.into(),
            [b'b'] => '\u{8}',
            [b'f'] => '\u{c}',
            [b'n'] => '\n',
            [b'r'] => '\r',
            [b't'] => '\t',
            _ => return Err(malformed(self.taken, "there is no such escape")),
        };
        self.state = State::Member;
        Ok(Piece::Escaped(character))
    }

    /// Keeps what isn't part of the member, up to where the member may begin; returns how much that
    /// was.
    fn kept(&mut self, text: &[u8]) -> Result<usize, HttpError> {
        for (index, byte) in text.iter().enumerate() {
            match self.state {
                State::Kept { is_escaped: true } => self.state = State::Kept { is_escaped: false },
                State::Kept { .. } => match byte {
                    b'\\' => self.state = State::Kept { is_escaped: true },
                    b'"' => {
                        self.keep(&text[..=index])?;
                        self.state = State::Structure;
                        self.end_string()?;
                        return Ok(index + 1);
                    }
                    _ => {}
                },
                _ => {
                    if self.structure(*byte) {
                        self.keep(&text[..=index])?;
                        self.begin_string()?;
                        return Ok(index + 1);
                    }
                }
            }
        }
        self.keep(text)?;
        Ok(text.len())
    }

    /// Follows the structure over a byte that is in no string; true where one begins.
    fn structure(&mut self, byte: u8) -> bool {
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.is_key_next = self.depth == 1 && byte == b'{';
                self.is_member = false;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 1 => {
                self.is_key_next = true;
                self.is_member = false;
            }
            _ => {}
        }
        byte == b'"'
    }

    fn begin_string(&mut self) -> Result<(), HttpError> {
        self.state = State::Kept { is_escaped: false };
        if self.depth != 1 {
            return Ok(());
        }
        if std::mem::take(&mut self.is_key_next) {
            self.key_start = Some(self.rest.len());
        } else if std::mem::take(&mut self.is_member) {
            self.state = State::Member;
        }
        Ok(())
    }

    fn end_string(&mut self) -> Result<(), HttpError> {
        let Some(start) = self.key_start.take() else { return Ok(()) };
        let key = &self.rest[start..self.rest.len() - 1];
        self.is_member = key == self.member.as_bytes() || (key.contains(&b'\\') && unescaped(key) == self.member);
        if self.is_member && self.cut.is_some() {
            return Err(unprocessable(format!("the key `{}` appears twice", self.member)));
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        if self.rest.len() + bytes.len() > self.rest_bytes_max {
            let message =
                format!("all but `{}` of a JSON body may have at most {} bytes", self.member, self.rest_bytes_max);
            return Err(HttpError::new(413, "body too large", message));
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }
}

/// A key without its escapes; one that can't be read is none of ours.
fn unescaped(key: &[u8]) -> String {
    let mut text = [b"\"", key, b"\""].concat();
    simd_json::from_slice(&mut text).unwrap_or_default()
}

/// What was kept of a text.
pub struct Rest {
    text: Vec<u8>,
    /// Where, and how many bytes were taken out there.
    cut: Option<(usize, usize)>,
}

impl Rest {
    /// Parses it, as [`Document::parse`]; errors name the byte of the whole text.
    pub fn parse(&mut self) -> Result<Document<'_>, HttpError> {
        let cut = self.cut;
        Document::parse_where(&mut self.text, |offset| match cut {
            Some((at, bytes)) if offset >= at => offset + bytes,
            _ => offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The member, and what `read` makes of the rest.
    fn split<T>(
        text: &[u8],
        piece: usize,
        read: impl Fn(&Document<'_>) -> Result<T, HttpError>,
    ) -> Result<(String, T), HttpError> {
        let (mut split, mut member) = (Split::new("data", 200), String::new());
        for mut piece in text.chunks(piece) {
            while !piece.is_empty() {
                let (count, found) = split.next(piece)?;
                match found {
                    Piece::Plain(text) => member.push_str(&String::from_utf8_lossy(text)),
                    Piece::Escaped(character) => member.push(character),
                    Piece::Kept => {}
                }
                piece = &piece[count..];
            }
        }
        let mut rest = split.into_rest();
        let value = read(&rest.parse()?)?;
        Ok((member, value))
    }

    fn data_and_policy(document: &Document<'_>) -> Result<Option<i64>, HttpError> {
        assert_eq!(document.required_string("data")?, "");
        document.optional_integer("policy")
    }

    #[test]
    fn the_member_is_taken_out_wherever_it_stands_and_however_it_comes() {
        for (text, member, policy) in [
            (r#"{"data":"SGVsbG8=","policy":3}"#, "SGVsbG8=", Some(3)),
            (r#" { "policy" : 3 , "data" : "abc" } "#, "abc", Some(3)),
            (r#"{"labels":{"data":"no","x":["data","{"]},"data":""}"#, "", None),
            (r#"{"da\u0074a":"a\/b\u002b"}"#, "a/b+", None),
            (r#"{"a\"":"data","b":["data"],"data":"x","policy":1}"#, "x", Some(1)),
            (r#"{"data":"\ud83d\n"}"#, "\u{fffd}\n", None),
        ] {
            for piece in 1..=text.len() {
                let split = split(text.as_bytes(), piece, data_and_policy);
                assert_eq!(split, Ok((member.to_owned(), policy)), "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_byte_of_the_whole_text() {
        for (text, status, part) in [
            (&br#"{"data":"0123456789", }"#[..], 400, "byte 22"),
            (b"{\"data\":\"01\n\"}", 400, "byte 11"),
            (br#"{"data":"01\x"}"#, 400, "byte 12"),
            (br#"{"data":"01\u00g0"}"#, 400, "byte 15"),
            (br#"{"data":"01"#, 400, "byte 11"),
            (br#"{"policy":, "data":"a"}"#, 400, "byte 10"),
            (br#"{"data":"a","data":"b"}"#, 422, "`data`"),
            (br#"{"data":"a","data":5}"#, 422, "`data`"),
            (br#"{"data":null}"#, 422, "`data`"),
            (br#"{"data":["a"]}"#, 422, "`data`"),
            (br#"{"policy":1}"#, 400, "`data`"),
            (br#"["data","a"]"#, 422, "object"),
            (b"", 400, "byte 0"),
        ] {
            for piece in 1..=text.len().max(1) {
                let error = split(text, piece, data_and_policy).unwrap_err();
                let shown = String::from_utf8_lossy(text);
                assert_eq!(error.status, status, "{shown}: {}", error.message);
                assert!(error.message.contains(part), "{shown} in pieces of {piece}: {}", error.message);
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_member_is_not() {
        let text = format!(r#"{{"data":"{}"}}"#, "A".repeat(1000));
        assert_eq!(split(text.as_bytes(), 64, data_and_policy).map(|(member, _)| member.len()), Ok(1000));
        for text in [format!(r#"{{"x":"{}"}}"#, "A".repeat(1000)), " ".repeat(201), "[".repeat(201)] {
            assert_eq!(split(text.as_bytes(), 64, data_and_policy).unwrap_err().status, 413);
        }
    }
}
