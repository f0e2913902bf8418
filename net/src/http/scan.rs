//! Byte classes of HTTP/1.1 (RFC 9110, section 5.6) and the searches for the first byte outside of
//! one.
//!
//! The searches look at words of eight bytes first, since most names and values are short:
//! arithmetic on the word sets the high bit of the first byte outside (H. S. Warren, "Hacker's
//! Delight", section 6-1). A run that continues is skipped by blocks of sixteen bytes, classed
//! without branches, which the compiler turns into vector compares on every target. No intrinsics,
//! no `unsafe`.
//!
//! Invariant of every search: the result is in `from..=input.len()`, all bytes in `from..result`
//! are inside the class, and the byte at the result, if there is one, is outside.

const WORD: usize = 8;
const BLOCK: usize = 16;
/// Words looked at before blocks are.
const WORDS_FIRST: usize = 4;

const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// One table for the classes that no short comparison describes, a bit each.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        let alphanumeric = character.is_ascii_alphanumeric();
        let token = alphanumeric
            || matches!(
                character,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        // reg-name without its percent escapes: unreserved and sub-delims (RFC 3986, section
        // 3.2.2).
        let host = alphanumeric
            || matches!(
                character,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
            );
        table[byte] = if token { TOKEN } else { 0 } | if host { HOST } else { 0 };
        byte += 1;
    }
    table
}

/// A byte of a token: a method or a field name.
#[inline]
pub(crate) fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// A registered name without percent escapes, not empty. Looks at all bytes without a branch: they
/// are few.
#[inline]
pub(crate) fn is_plain_host(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().fold(HOST, |common, byte| common & CLASSES[*byte as usize]) != 0
}

/// A byte of a field value: HTAB, SP, visible ASCII and obs-text.
#[inline]
pub(crate) fn is_value(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// A byte in every byte of a word.
const fn repeated(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

const HIGH_BITS: u64 = repeated(0x80);

/// Searches with two descriptions of one class. `outside_word` sets high bits in a word: that of
/// the first byte outside, none below it, any above it; and none when all bytes are inside. A byte
/// of zero must be outside.
#[inline(always)]
fn search(input: &[u8], from: usize, outside_word: impl Fn(u64) -> u64, outside: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    loop {
        for _ in 0..WORDS_FIRST {
            let Some(word) = input[at..].first_chunk() else {
                return at + search_tail(input, at, &outside_word, &outside);
            };
            let found = outside_word(u64::from_le_bytes(*word));
            if found != 0 {
                return at + found.trailing_zeros() as usize / 8;
            }
            at += WORD;
        }
        while let Some(block) = input[at..].first_chunk::<BLOCK>()
            && !block.iter().fold(false, |any, byte| any | outside(*byte))
        {
            at += BLOCK;
        }
    }
}

/// The same for the last bytes of the input, less than a word of them; how many of them are inside.
#[inline(always)]
fn search_tail(input: &[u8], at: usize, outside_word: impl Fn(u64) -> u64, outside: impl Fn(u8) -> bool) -> usize {
    let size = input.len() - at;
    match input.last_chunk() {
        // The last word, with the bytes before the tail shifted out and zeros, which are outside,
        // shifted in behind it.
        Some(word) if size > 0 => {
            outside_word(u64::from_le_bytes(*word) >> (8 * (WORD - size))).trailing_zeros() as usize / 8
        }
        _ => input[at..].iter().position(|byte| outside(*byte)).unwrap_or(size),
    }
}

/// The end of a token. Names are letters and `-` nearly always, so the words look for anything
/// else, and the table decides from there.
#[inline(always)]
pub(crate) fn token_end(input: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at = search(input, at, no_letter_word, |byte| ((byte | 0x20).wrapping_sub(b'a') >= 26) & (byte != b'-'));
        match input.get(at) {
            Some(byte) if is_token(*byte) => at += 1,
            _ => return at,
        }
    }
}

/// The end of the bytes that a field value may hold.
#[inline(always)]
pub(crate) fn value_end(input: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at = search(input, at, control_word, |byte| (byte < 0x20) | (byte == 0x7f));
        match input.get(at) {
            Some(b'\t') => at += 1,
            _ => return at,
        }
    }
}

/// The end of the bytes that a request target may hold.
#[inline(always)]
pub(crate) fn target_end(input: &[u8], from: usize) -> usize {
    search(input, from, no_target_word, |byte| (byte <= 0x20) | (byte >= 0x7f) | (byte == b'#'))
}

/// Marks bytes that are neither letters nor `-`. No byte carries into the next, so every mark is
/// exact.
#[inline(always)]
fn no_letter_word(word: u64) -> u64 {
    let seven_bits = word & !HIGH_BITS;
    let lower = seven_bits | repeated(0x20);
    let letter = (lower + repeated(0x80 - b'a')) & !(lower + repeated(0x7f - b'z'));
    let no_dash = (seven_bits ^ repeated(b'-')) + repeated(0x7f);
    (!letter & no_dash | word) & HIGH_BITS
}

/// Marks bytes below SP, and DEL. A borrow starts only at a marked byte, so that the lowest mark is
/// exact.
#[inline(always)]
fn control_word(word: u64) -> u64 {
    let below_space = word.wrapping_sub(repeated(0x20));
    let delete = (word ^ repeated(0x7f)).wrapping_sub(repeated(1));
    (below_space | delete) & !word & HIGH_BITS
}

/// Marks bytes up to SP, from DEL, and `#`. As above, the lowest mark is exact.
#[inline(always)]
fn no_target_word(word: u64) -> u64 {
    let up_to_space = word.wrapping_sub(repeated(0x21));
    let delete = (word ^ repeated(0x7f)).wrapping_sub(repeated(1));
    let hash = (word ^ repeated(b'#')).wrapping_sub(repeated(1));
    ((up_to_space | delete | hash) & !word | word) & HIGH_BITS
}

/// Takes spaces and tabs off both ends.
#[inline]
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visible ASCII but `#`, since a fragment is never sent.
    fn is_target(byte: u8) -> bool {
        byte.is_ascii_graphic() && byte != b'#'
    }

    /// Every search, at every offset in a block and with every byte value as the first one outside,
    /// agrees with the class asked byte by byte.
    #[test]
    fn the_searches_agree_with_the_classes_for_every_byte_at_every_place() {
        type Search = fn(&[u8], usize) -> usize;
        type Class = fn(u8) -> bool;
        let searches: [(Search, Class); 3] = [(token_end, is_token), (value_end, is_value), (target_end, is_target)];
        for (search, inside) in searches {
            for filler in [b'a', b'Z', b'-', b'7', b'!'] {
                for place in 0..100 {
                    for byte in 0..=255u8 {
                        let mut input = [filler; 100];
                        input[place] = byte;
                        let expected = if inside(byte) { input.len() } else { place };
                        assert_eq!(search(&input, 0), expected, "filler {filler} place {place} byte {byte}");
                        assert_eq!(search(&input[..place], 0), place, "filler {filler} up to {place}");
                        assert_eq!(search(&input, place), expected, "filler {filler} place {place} byte {byte}");
                    }
                }
            }
        }
    }

    #[test]
    fn trimming_takes_spaces_and_tabs_off_both_ends_only() {
        for (value, trimmed) in [("", ""), (" \t ", ""), ("a", "a"), ("\t a \tb ", "a \tb"), ("  a", "a"), ("a\t", "a")]
        {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
