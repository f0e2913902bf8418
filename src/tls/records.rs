//! How much room records take, and the encoding of those of a handshake: what rustls without its
//! buffers leaves to its caller, on either side.

use rustls::unbuffered::{EncodeError, EncodeTlsData};

/// The most plaintext of a record (RFC 8446, section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 << 10;
/// What a record of at most [`RECORD_BYTES_MAX`] adds to its plaintext, at the most: TLS 1.2 with
/// AES-GCM (5 header, 8 nonce, 16 tag).
pub const RECORD_OVERHEAD: usize = 29;
/// Room for a key update, which may go before other records.
pub const KEY_UPDATE_BYTES: usize = 256;

/// What this much plaintext takes as records, at the most but for a key update before them.
pub const fn sealed_bytes_max(bytes: usize) -> usize {
    bytes + bytes.div_ceil(RECORD_BYTES_MAX) * RECORD_OVERHEAD
}

/// Puts a record of the handshake, or an alert, behind what is in `outgoing`.
pub fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            outgoing.resize(start + size.required_size, 0);
            let encoded = data.encode(&mut outgoing[start..]);
            assert_eq!(encoded.ok(), Some(size.required_size), "it fits as it said");
        }
        encoded => assert!(matches!(encoded, Ok(0)), "a record is encoded once"),
    }
}
