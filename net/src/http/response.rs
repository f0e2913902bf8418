//! Writing response heads into a reused buffer.

/// Appends a response head to a byte vector: status line, fields, empty line. Values are asserted to hold no CR, LF or NUL, so a head can
/// not be split by what a client sent.
pub struct ResponseHead<'b>(&'b mut Vec<u8>);

impl<'b> ResponseHead<'b> {
    /// Writes the status line.
    pub fn new(out: &'b mut Vec<u8>, status: u16) -> Self {
        let _ = status;
        Self(out)
    }
    pub fn field(self, name: &str, value: &str) -> Self {
        let _ = (name, value);
        todo!()
    }
    pub fn field_u64(self, name: &str, value: u64) -> Self {
        let _ = (name, value);
        todo!()
    }
    /// A field whose value is an HTTP date, from seconds since 1970.
    pub fn field_date(self, name: &str, seconds: u64) -> Self {
        let _ = (name, seconds);
        todo!()
    }
    /// Writes the empty line.
    pub fn end(self) {
        todo!()
    }
}

/// The reason phrase of a status.
pub fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    todo!()
}
