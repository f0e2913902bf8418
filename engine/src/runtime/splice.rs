//! Large answers: shared buffers into sockets without a copy.
//!
//! A [`Splice`] has a pipe and puts its socket into the non-blocking mode while it lives.
//! Invariant: no ring operation but a poll is in flight on the socket's sending side meanwhile.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::stream::{Busy, Socket, Stream};
use crate::io::{Body, SharedBuf};
use crate::ring::pipe::Pipe;
use crate::ring::request::Request;
use crate::ring::sys;

/// Bytes that are spliced in one turn: what a pipe holds.
const SPLICED_AT_ONCE: usize = 256 << 10;
/// An answer of at most this many bytes is not kept waiting for its turn; it counts all the same.
const UNBULKY_MAX: usize = 64 << 10;

/// A connection that sends without copying.
pub struct Splice<'stream> {
    stream: &'stream Stream,
    pipe: Option<Pipe>,
    _busy: Busy<'stream>,
}

/// What became of a part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// All of it is in the socket or in the pipe.
    All,
    /// The peer took nothing for longer than the caller's patience: this many bytes are on their
    /// way, and the buffer should not be held for the rest. [`Splice::flush`] comes before more.
    Stalled(usize),
}

impl Stream {
    /// Starts to send without copying; `None` when this core has too many such connections already,
    /// or the kernel won't.
    pub fn begin_splice(&self) -> Option<Splice<'_>> {
        let socket = &self.0.socket;
        if self.0.stalled.borrow().is_some() {
            if sys::unacknowledged(socket) != Some(0) {
                return None;
            }
            self.0.stalled.take();
            self.0.unbound.take();
        }
        let pipe = self.0.io.core().pipes.take()?;
        if !self.0.tuned.replace(true) && sys::is_local(socket) {
            sys::set_unpaced(socket.as_ref());
        }
        let splice = Splice { stream: self, pipe: Some(pipe), _busy: Busy::new(&self.0.sending, "send") };
        sys::set_blocking(socket, false).ok().map(|()| splice)
    }

    /// Sends `head`, and then `body[range]` by `IORING_OP_SEND_ZC`; the buffer is held until the
    /// kernel is through with it. Not what answers go by: here for the bench `send`, which says
    /// why.
    #[doc(hidden)]
    pub async fn send_zero_copy(&self, head: &[u8], body: &SharedBuf, range: Range<usize>) -> io::Result<()> {
        let Socket { io, socket, sending, .. } = &*self.0;
        let _busy = Busy::new(sending, "send");
        send_head(&self.0, head).await?;
        let length = range.len();
        let sent =
            io.ring().submit(Request::send_zero_copy(socket, Body::Shared(body.clone()), range)).await.value()?;
        if sent == length { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl Splice<'_> {
    /// Sends `head`, ahead of what follows.
    pub async fn send_head(&mut self, head: &[u8]) -> io::Result<()> {
        send_head(&self.stream.0, head).await
    }

    /// Sends `buf[range]`; `more` says that something follows. Ends early when the peer takes
    /// nothing for longer than `patience`.
    pub async fn send(
        &mut self,
        buf: &SharedBuf,
        range: Range<usize>,
        more: bool,
        patience: Duration,
    ) -> io::Result<Taken> {
        let mut next = range.start;
        loop {
            if !self.drain(more || next < range.end, patience).await? {
                let Socket { io, stalled, .. } = &*self.stream.0;
                stalled.borrow_mut().get_or_insert_with(|| io.core().pipes.stall());
                self.stream.expect_little();
                return Ok(Taken::Stalled(next - range.start));
            }
            if next == range.end {
                return Ok(Taken::All);
            }
            let bulk = &self.stream.0.io.core().bulk;
            let size = (range.end - next).min(SPLICED_AT_ONCE);
            if range.len() <= UNBULKY_MAX {
                bulk.count(size);
            } else {
                bulk.take(size).await;
            }
            let pipe = self.pipe.as_mut().expect("held while this lives");
            let filled = pipe.fill(buf, next..next + size)?;
            bulk.unused(size - filled);
            next += filled;
        }
    }

    /// Bytes that were taken and are still on their way into the socket.
    pub fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::held)
    }

    /// Sends what was taken and is still on its way; false when the peer takes nothing for longer
    /// than `patience`.
    pub async fn flush(&mut self, more: bool, patience: Duration) -> io::Result<bool> {
        self.drain(more, patience).await
    }

    /// Empties the pipe; false when that would have taken too much patience.
    async fn drain(&mut self, more: bool, patience: Duration) -> io::Result<bool> {
        loop {
            let pipe = self.pipe.as_mut().expect("held while this lives");
            if pipe.held() == 0 {
                return Ok(true);
            }
            match pipe.drain_into(&self.stream.0.socket, more) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.0.stalled.borrow().is_none() {
                        self.stream.expect_splices();
                    }
                    if !self.stream.wait_for_room(patience).await? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sends `head` with the word that more follows.
async fn send_head(socket: &Socket, head: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < head.len() {
        match sys::send_now(&socket.socket, &head[sent..], true) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.io.ring().submit(Request::wait_writable(&socket.socket)).await.value()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Splice<'_> {
    fn drop(&mut self) {
        let socket = &self.stream.0;
        if let Some(pipe) = self.pipe.take() {
            socket.io.core().pipes.give_back(pipe);
        }
        self.stream.expect_little();
        // Can't fail on an open socket; if it did, the next operation would say so by EAGAIN and
        // end the connection.
        let _ = sys::set_blocking(&socket.socket, true);
    }
}
