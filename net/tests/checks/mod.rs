//! The properties that hold for every input, one function a fuzz target. They live here once: the
//! fuzz targets under `fuzz/` and the replay of the corpora in `corpus.rs` call the same ones. Each
//! takes raw bytes and panics when its property does not hold.
//!
//! How an input is cut into pieces follows from its bytes, so that an input alone reproduces a
//! failure.

mod chunked;
mod peer_frame;
mod peer_handshake;
#[path = "../peer_support/mod.rs"]
mod peer_support;
mod request_head;
mod values;

pub use chunked::check_chunked;
pub use peer_frame::check_peer_frame;
pub use peer_handshake::check_peer_handshake;
pub use request_head::check_request_head;
pub use values::check_values;

/// Sizes of pieces, drawn from the bytes of the input: mostly a few bytes, sometimes many.
fn piece_sizes(input: &[u8]) -> impl Iterator<Item = usize> {
    // FNV-1a, then xorshift.
    let mut state = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let size_max = if state.is_multiple_of(8) { 256 } else { 8 };
        (state >> 32) as usize % size_max + 1
    })
}
