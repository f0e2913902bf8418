//! Byte classes of HTTP/1.1 (RFC 9110, section 5.6) and the searches for the first byte outside of one.
//!
//! The searches look at blocks of sixteen bytes. A block's bytes are classed without branches into bytes of 0x00 (inside) and 0xff (outside),
//! which the compiler turns into vector compares on every target, and the block's verdict is then one 128-bit integer whose trailing zeros
//! say where the first byte outside stands. No intrinsics, no `unsafe`.
//!
//! Invariant of every search: the result is in `from..=input.len()`, all bytes in `from..result` are inside the class, and the byte at the
//! result, if there is one, is outside.

const BLOCK: usize = 16;

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
        // reg-name without its percent escapes: unreserved and sub-delims (RFC 3986, section 3.2.2).
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

/// A byte of a registered name, percent escapes aside.
#[inline]
pub(crate) fn is_host(byte: u8) -> bool {
    CLASSES[byte as usize] & HOST != 0
}

/// A byte of a field value: HTAB, SP, visible ASCII and obs-text.
#[inline]
pub(crate) fn is_value(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// A byte of a request target: visible ASCII but `#`, since a fragment is never sent.
#[inline]
pub(crate) fn is_target(byte: u8) -> bool {
    byte > 0x20 && byte < 0x7f && byte != b'#'
}

/// Skips whole blocks that lie inside, and says where in the first block that does not its first byte outside is; where less than a
/// block is left, the place where that rest starts, and `false`.
#[inline(always)]
fn search_blocks(input: &[u8], from: usize, outside: impl Fn(u8) -> bool) -> (usize, bool) {
    let mut at = from;
    while let Some(block) = input[at..].first_chunk::<BLOCK>() {
        let mut verdicts = [0u8; BLOCK];
        for (verdict, byte) in verdicts.iter_mut().zip(block) {
            *verdict = if outside(*byte) { 0xff } else { 0 };
        }
        let verdicts = u128::from_le_bytes(verdicts);
        if verdicts != 0 {
            return (at + verdicts.trailing_zeros() as usize / 8, true);
        }
        at += BLOCK;
    }
    (at, false)
}

#[inline(always)]
fn search_bytes(input: &[u8], from: usize, inside: impl Fn(u8) -> bool) -> usize {
    input[from..].iter().position(|byte| !inside(*byte)).map_or(input.len(), |distance| from + distance)
}

/// The end of a token. Names are letters and `-` nearly always, so the blocks look for anything else, and the table decides from there.
#[inline]
pub(crate) fn token_end(input: &[u8], from: usize) -> usize {
    let (at, _) = search_blocks(input, from, |byte| ((byte | 0x20).wrapping_sub(b'a') >= 26) & (byte != b'-'));
    search_bytes(input, at, is_token)
}

/// The end of the bytes that a field value may hold.
#[inline]
pub(crate) fn value_end(input: &[u8], from: usize) -> usize {
    match search_blocks(input, from, |byte| (byte < 0x20) & (byte != b'\t') | (byte == 0x7f)) {
        (at, true) => at,
        (at, false) => search_bytes(input, at, is_value),
    }
}

/// The end of the bytes that a request target may hold.
#[inline]
pub(crate) fn target_end(input: &[u8], from: usize) -> usize {
    match search_blocks(input, from, |byte| (byte <= 0x20) | (byte >= 0x7f) | (byte == b'#')) {
        (at, true) => at,
        (at, false) => search_bytes(input, at, is_target),
    }
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

    /// Every search, at every offset in a block and with every byte value as the first one outside, agrees with the class asked byte by byte.
    #[test]
    fn the_searches_agree_with_the_classes_for_every_byte_at_every_place() {
        type Search = fn(&[u8], usize) -> usize;
        type Class = fn(u8) -> bool;
        let searches: [(Search, Class); 3] = [(token_end, is_token), (value_end, is_value), (target_end, is_target)];
        for (search, inside) in searches {
            for filler in [b'a', b'Z', b'-', b'7', b'!'] {
                for place in 0..40 {
                    for byte in 0..=255u8 {
                        let mut input = [filler; 40];
                        input[place] = byte;
                        let expected = if inside(byte) { input.len() } else { place };
                        assert_eq!(search(&input, 0), expected, "filler {filler} place {place} byte {byte}");
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
