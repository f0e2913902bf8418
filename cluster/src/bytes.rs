//! Fixed-width little-endian numbers, texts and blocks of bytes, written and read.
//!
//! Reading never panics and never allocates more than what lies before it: a length is compared
//! with the rest before anything is copied.

use std::fmt;

/// Bytes that can't be what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// What was to be read.
    pub what: &'static str,
    /// How many bytes were left there.
    pub rest: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "malformed {}, {} bytes before the end", self.what, self.rest)
    }
}

impl std::error::Error for Malformed {}

/// Writes.
#[derive(Default)]
pub struct Writer(Vec<u8>);

/// Reads from the front of what is left.
#[derive(Clone, Copy)]
pub struct Reader<'bytes>(&'bytes [u8]);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    pub fn bool(&mut self, value: bool) {
        self.0.push(value.into());
    }

    pub fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Bytes whose count the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A count of 32 bits, and so many bytes.
    pub fn block(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("blocks are bounded"));
        self.raw(bytes);
    }

    /// A count of 16 bits, and a text of so many bytes.
    pub fn text(&mut self, text: &str) {
        self.u16(u16::try_from(text.len()).expect("texts are bounded"));
        self.raw(text.as_bytes());
    }

    /// Whether there is one, and what `write` writes of it.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A count of 32 bits, and what `write` writes of each.
    pub fn list<T>(&mut self, values: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.u32(u32::try_from(values.len()).expect("lists are bounded"));
        values.for_each(|value| write(self, value));
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl<'bytes> Reader<'bytes> {
    pub fn new(bytes: &'bytes [u8]) -> Self {
        Self(bytes)
    }

    /// What an error at this place is.
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, rest: self.0.len() }
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed(what)),
        }
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let Some((array, rest)) = self.0.split_first_chunk::<N>() else { return Err(self.malformed(what)) };
        self.0 = rest;
        Ok(*array)
    }

    pub fn raw(&mut self, count: usize, what: &'static str) -> Result<&'bytes [u8], Malformed> {
        let Some((bytes, rest)) = self.0.split_at_checked(count) else { return Err(self.malformed(what)) };
        self.0 = rest;
        Ok(bytes)
    }

    pub fn block(&mut self, what: &'static str) -> Result<&'bytes [u8], Malformed> {
        let count = self.u32(what)?;
        self.raw(count as usize, what)
    }

    pub fn text(&mut self, what: &'static str) -> Result<&'bytes str, Malformed> {
        let count = self.u16(what)?;
        let bytes = self.raw(count.into(), what)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(what))
    }

    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        Ok(if self.bool(what)? { Some(read(self)?) } else { None })
    }

    /// As many as the count says; nothing is allocated ahead for them.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32(what)?;
        let mut values = Vec::new();
        for _ in 0..count {
            // Each takes a byte at least, or a count could keep this loop busy for long.
            if self.0.is_empty() {
                return Err(self.malformed(what));
            }
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'bytes [u8] {
        std::mem::take(&mut self.0)
    }

    /// All was read.
    pub fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(self.malformed(what)) }
    }
}
