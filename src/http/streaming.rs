//! Answers that are made while they leave: their length isn't known ahead, and only a piece of them
//! is in memory at a time.
//!
//! To HTTP/1.1 the pieces are chunks (RFC 9112, section 7.1). HTTP/1.0 knows no chunks: there the
//! body ends with the connection. An answer that fails on its way ends without its last chunk, so
//! that nobody takes it for whole.

use std::io::Write;

use nabu_engine::io::Clock;
use nabu_net::http::head::Method;

use super::exchange::Exchange;
use super::phases::Phase;

/// The most bytes of one piece: what an answer of this kind holds for a peer that doesn't read.
pub const PIECE_BYTES_MAX: usize = 16 << 10;

impl Exchange {
    /// Starts an answer whose body comes in pieces.
    pub fn begin_pieces(&mut self, status: u16, content_type: &str) {
        let is_chunked = self.takes_chunks();
        if !is_chunked {
            self.close_after();
        }
        let mut head = self.begin(status).field("Content-Type", content_type);
        if is_chunked {
            head = head.field("Transfer-Encoding", "chunked");
        }
        head.end();
    }

    /// Writes a piece, which is not empty; [`Exchange::send_pieces`] sends it.
    pub fn put_piece(&mut self, piece: &[u8]) {
        assert!((1..=PIECE_BYTES_MAX).contains(&piece.len()), "a piece of {} bytes", piece.len());
        if !self.takes_chunks() {
            return self.put(piece);
        }
        let mut size = [0; 8];
        let mut rest = &mut size[..];
        write!(rest, "{:x}\r\n", piece.len()).expect("the size of a piece has few digits");
        let written = 8 - rest.len();
        self.put(&size[..written]);
        self.put(piece);
        self.put(b"\r\n");
    }

    /// Sends what is written, and waits until it is in the socket; hold nothing else meanwhile.
    /// False when the peer is gone.
    pub async fn send_pieces(&mut self) -> bool {
        let bytes = self.out.len();
        let began = self.core.io.now();
        let is_sent = self.flush().await;
        let ended = self.enter(Phase::Prepare);
        self.slack.spend(ended.since(began), bytes);
        is_sent
    }

    /// Writes the last piece, which leaves with the end of the answer.
    pub fn end_pieces(&mut self, piece: &[u8]) {
        if self.method() == Method::Head {
            return;
        }
        self.put_piece(piece);
        if self.takes_chunks() {
            self.put(b"0\r\n\r\n");
        }
    }
}
