//! The id of a request: the caller's, if it sent a sane one, else a fresh one. Answers and log
//! lines carry it.

use std::cell::Cell;
use std::fmt::Write as _;

/// The longest id that is taken over from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes the ids of one core: a random prefix and a counter, so that cores and restarts don't
/// collide.
pub struct RequestIds {
    prefix: u64,
    count: Cell<u64>,
}

impl RequestIds {
    pub fn new(prefix: u64) -> Self {
        Self { prefix, count: Cell::new(0) }
    }

    /// The caller's id where it is sane, else a fresh one.
    pub fn choose(&self, sent: Option<&[u8]>) -> String {
        match sent.and_then(sane) {
            Some(text) => text.to_owned(),
            None => self.fresh(),
        }
    }

    /// An id that was not used before.
    pub fn fresh(&self) -> String {
        let count = self.count.get() + 1;
        self.count.set(count);
        let mut id = String::with_capacity(32);
        write!(id, "{:016x}-{count:x}", self.prefix).expect("a string takes everything");
        id
    }
}

fn sane(sent: &[u8]) -> Option<&str> {
    let length_fits = (1..=REQUEST_ID_BYTES_MAX).contains(&sent.len());
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if length_fits && sent.iter().all(plain) { std::str::from_utf8(sent).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        let ids = RequestIds::new(7);
        assert_eq!(ids.choose(Some(b"Trace_1.a:b-c")), "Trace_1.a:b-c");
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        assert_eq!(ids.choose(Some(longest.as_bytes())), longest);
        let too_long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for bad in [&b""[..], b"a b", b"a\"b", b"\xc3\xa4", too_long.as_bytes()] {
            let id = ids.choose(Some(bad));
            assert!(id.starts_with("0000000000000007-"), "{id}");
        }
    }

    #[test]
    fn fresh_ids_differ() {
        let ids = RequestIds::new(u64::MAX);
        assert_ne!(ids.choose(None), ids.choose(None));
    }
}
