//! Checks that a text is one JSON document (RFC 8259), and says at which byte it is not.
//!
//! `simd-json` parses in place and names no offset for most errors, so this pass runs before it. It
//! also bounds depth and number of values before anything is allocated for them: a parsed value
//! takes 16 bytes and more, so a body of brackets would cost many times its size.

/// How deep arrays and objects may nest; the stack is the bits of a `u64`.
const DEPTH_MAX: u32 = 64;
/// How many values, keys included, a document may hold.
const VALUES_MAX: usize = 4096;
/// Bytes of a string looked at in one step, small enough for the compiler to turn the step into
/// vector code.
const STRIDE: usize = 64;

/// Why a text is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Malformed { offset: usize, expected: &'static str },
    TooDeep { offset: usize },
    TooManyValues { offset: usize },
}

impl Refusal {
    /// The limits in words, for the message.
    pub fn limits() -> String {
        format!("a document holds at most {VALUES_MAX} values, nested at most {DEPTH_MAX} deep")
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEndOfArray,
    Key,
    KeyOrEndOfObject,
    CommaOrEnd,
}

/// Checks the whole of `text`.
pub fn check(text: &[u8]) -> Result<(), Refusal> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Refusal::Malformed { offset: error.valid_up_to(), expected: "valid UTF-8" });
    }
    let mut scanner = Scanner { text, offset: 0 };
    // The open containers, innermost in the lowest bit: 1 is an object.
    let mut objects: u64 = 0;
    let mut depth: u32 = 0;
    let mut values: usize = 0;
    let mut state = State::Value;
    loop {
        scanner.skip_whitespace();
        let offset = scanner.offset;
        if state == State::CommaOrEnd && depth == 0 {
            return if offset == text.len() { Ok(()) } else { scanner.malformed("the end of the document") };
        }
        if state != State::CommaOrEnd {
            values += 1;
            if values > VALUES_MAX {
                return Err(Refusal::TooManyValues { offset });
            }
        }
        let byte = scanner.peek();
        let in_object = objects & 1 == 1;
        match (state, byte) {
            (State::ValueOrEndOfArray, Some(b']'))
            | (State::KeyOrEndOfObject, Some(b'}'))
            | (State::CommaOrEnd, Some(b']' | b'}')) => {
                if (byte == Some(b'}')) != in_object {
                    return scanner.malformed(if in_object { "`,` or `}`" } else { "`,` or `]`" });
                }
                scanner.offset += 1;
                objects >>= 1;
                depth -= 1;
                state = State::CommaOrEnd;
            }
            (State::CommaOrEnd, Some(b',')) => {
                scanner.offset += 1;
                state = if in_object { State::Key } else { State::Value };
            }
            (State::CommaOrEnd, _) => return scanner.malformed(if in_object { "`,` or `}`" } else { "`,` or `]`" }),
            (State::Key | State::KeyOrEndOfObject, Some(b'"')) => {
                scanner.string()?;
                scanner.skip_whitespace();
                if scanner.peek() != Some(b':') {
                    return scanner.malformed("`:`");
                }
                scanner.offset += 1;
                state = State::Value;
            }
            (State::Key, _) => return scanner.malformed("a key in quotes"),
            (State::KeyOrEndOfObject, _) => return scanner.malformed("a key in quotes or `}`"),
            (State::Value | State::ValueOrEndOfArray, Some(open @ (b'{' | b'['))) => {
                if depth == DEPTH_MAX {
                    return Err(Refusal::TooDeep { offset });
                }
                scanner.offset += 1;
                depth += 1;
                objects = objects << 1 | u64::from(open == b'{');
                state = if open == b'{' { State::KeyOrEndOfObject } else { State::ValueOrEndOfArray };
            }
            (State::Value | State::ValueOrEndOfArray, _) => {
                scanner.scalar()?;
                state = State::CommaOrEnd;
            }
        }
    }
}

struct Scanner<'t> {
    text: &'t [u8],
    offset: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn malformed<T>(&self, expected: &'static str) -> Result<T, Refusal> {
        Err(Refusal::Malformed { offset: self.offset, expected })
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset += 1;
        }
    }

    fn scalar(&mut self) -> Result<(), Refusal> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.malformed("a value"),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Refusal> {
        if !self.text[self.offset..].starts_with(word) {
            return self.malformed("`true`, `false` or `null`");
        }
        self.offset += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Refusal> {
        if self.peek() == Some(b'-') {
            self.offset += 1;
        }
        if self.peek() == Some(b'0') {
            self.offset += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.offset += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.offset += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.offset += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Refusal> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.malformed("a digit");
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.offset += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Refusal> {
        self.offset += 1;
        loop {
            self.skip_plain_characters();
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.malformed("an escape in place of the control character"),
                None => return self.malformed("the closing quote of the string"),
            }
        }
    }

    /// Goes on to the next byte of a string that needs a look: a quote, a backslash, a control
    /// character, or the end.
    fn skip_plain_characters(&mut self) {
        let special = |byte: &u8| (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20);
        let rest = &self.text[self.offset..];
        let mut skipped = 0;
        for stride in rest.chunks_exact(STRIDE) {
            if stride.iter().fold(false, |found, byte| found | special(byte)) {
                break;
            }
            skipped += STRIDE;
        }
        let tail = &rest[skipped..];
        self.offset += skipped + tail.iter().position(special).unwrap_or(tail.len());
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        self.offset += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.offset += 1;
                Ok(())
            }
            Some(b'u') => {
                let first = self.code_unit()?;
                match first {
                    0xd800..=0xdbff => {
                        if !self.text[self.offset..].starts_with(b"\\u") {
                            return self.malformed("the second half of a surrogate pair");
                        }
                        let start = self.offset;
                        self.offset += 1;
                        if !(0xdc00..=0xdfff).contains(&self.code_unit()?) {
                            self.offset = start;
                            return self.malformed("the second half of a surrogate pair");
                        }
                        Ok(())
                    }
                    0xdc00..=0xdfff => {
                        self.offset -= 6;
                        self.malformed("the first half of a surrogate pair")
                    }
                    _ => Ok(()),
                }
            }
            _ => self.malformed("one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u"),
        }
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u16, Refusal> {
        self.offset += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.malformed("four hexadecimal digits");
            };
            unit = unit << 4 | digit as u16;
            self.offset += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset_of(text: &str) -> usize {
        match check(text.as_bytes()) {
            Err(Refusal::Malformed { offset, .. }) => offset,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_offset_is_that_of_the_first_wrong_byte() {
        assert_eq!(offset_of(""), 0);
        assert_eq!(offset_of("  "), 2);
        assert_eq!(offset_of("{\"a\" 1}"), 5);
        assert_eq!(offset_of("{\"a\":1,}"), 7);
        assert_eq!(offset_of("{\"a\":1 \"b\":2}"), 7);
        assert_eq!(offset_of("{'a':1}"), 1);
        assert_eq!(offset_of("{\"a\":tru}"), 5);
        assert_eq!(offset_of("{\"a\":01}"), 6);
        assert_eq!(offset_of("{\"a\":1.}"), 7);
        assert_eq!(offset_of("{\"a\":\"b"), 7);
        assert_eq!(offset_of("{\"a\":\"\\x\"}"), 7);
        assert_eq!(offset_of("{\"a\":\"\\ud800\"}"), 12);
        assert_eq!(offset_of("{\"a\":[1}"), 7);
        assert_eq!(offset_of("[{\"a\":1]"), 7);
        assert_eq!(offset_of("{} x"), 3);
        assert_eq!(offset_of("{\"a\":\"line\nbreak\"}"), 10);
        let long = format!("{{\"data\":\"{}", "A".repeat(1000));
        assert_eq!(offset_of(&long), long.len());
    }

    #[test]
    fn a_byte_that_is_no_utf8_is_named() {
        assert_eq!(check(b"{\"a\":\"\xff\"}"), Err(Refusal::Malformed { offset: 6, expected: "valid UTF-8" }));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deepest = "[".repeat(DEPTH_MAX as usize) + &"]".repeat(DEPTH_MAX as usize);
        assert_eq!(check(deepest.as_bytes()), Ok(()));
        assert!(matches!(check("[".repeat(DEPTH_MAX as usize + 1).as_bytes()), Err(Refusal::TooDeep { .. })));
        let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
        assert!(matches!(check(many.as_bytes()), Err(Refusal::TooManyValues { .. })));
    }

    /// Takes documents apart at random, and asks both parsers: what passes here must parse there,
    /// and what fails there must fail here.
    #[test]
    fn agrees_with_the_parser_behind_it() {
        let seed = std::env::var("NABU_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_u64);
        eprintln!("NABU_SEED={seed}");
        let documents = [
            r#"{"data":"SGVsbG8=","policy":3,"labels":{"env":"prod","model":"llama3"}}"#,
            r#" [1, -2.5e3, true, false, null, "a\u00e9\ud83d\ude00\n", [], {}, {"a":[{}]}] "#,
        ];
        let alphabet = b"{}[]\",:\\u0d8-+.eE tfn\x01\xff1";
        let mut state = seed | 1;
        let mut random = move |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % bound
        };
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut text = documents[round % documents.len()].as_bytes().to_vec();
            for _ in 0..random(3) {
                let at = random(text.len());
                match random(3) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, alphabet[random(alphabet.len())]),
                    _ => text[at] = alphabet[random(alphabet.len())],
                }
            }
            let verdict = check(&text);
            let mut copy = text.clone();
            let parsed = simd_json::to_tape(&mut copy).is_ok();
            assert_eq!(verdict.is_ok(), parsed, "{:?} {verdict:?}", String::from_utf8_lossy(&text));
            if parsed { accepted += 1 } else { refused += 1 }
        }
        assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
    }
}
