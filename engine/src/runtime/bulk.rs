//! Large answers: shared buffers into sockets without a copy, in turns with everything else on the core.
//!
//! A [`Splice`] has a pipe and puts its socket into the non-blocking mode while it lives. Invariants: no ring operation but a poll is in flight on
//! the socket's sending side meanwhile; a pipe goes back to the pool only when it is empty, as what is in it belongs to one connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;

use super::RingIo;
use super::stream::{Busy, Stream};
use crate::io::{Io, SharedBuf};
use crate::ring::pipe::Pipe;
use crate::ring::request::Request;
use crate::ring::sys;
use crate::sync::{Either, race};

/// Pipes that a core keeps for reuse, and the most that it has at one time: what a slow peer's socket holds is memory beside every budget.
const PIPES_KEPT_MAX: usize = 64;
const PIPES_MAX: usize = 256;

/// The pipes of one core.
#[derive(Default)]
pub(super) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    out: Cell<usize>,
}

impl Pipes {
    /// `None` when too many are in use, or the process may have no more.
    fn take(&self) -> Option<Pipe> {
        if self.out.get() == PIPES_MAX {
            return None;
        }
        let kept = self.kept.borrow_mut().pop();
        let pipe = kept.or_else(|| Pipe::new().ok())?;
        self.out.set(self.out.get() + 1);
        Some(pipe)
    }

    fn give_back(&self, pipe: Pipe) {
        self.out.set(self.out.get() - 1);
        let mut kept = self.kept.borrow_mut();
        if pipe.held() == 0 && kept.len() < PIPES_KEPT_MAX {
            kept.push(pipe);
        }
    }
}

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
    /// The peer took nothing for longer than the caller's patience: this many bytes are on their way, and the buffer should not be
    /// held for the rest. [`Splice::flush`] comes before more.
    Stalled(usize),
}

impl Stream {
    /// Starts to send without copying; `None` when this core has too many such connections already, or the kernel won't.
    pub fn begin_splice(&self) -> Option<Splice<'_>> {
        let socket = &self.0.socket;
        let pipe = self.0.io.core().pipes.take()?;
        if !self.0.tuned.replace(true) && sys::is_local(socket) {
            sys::set_unpaced(socket.as_ref());
        }
        let splice = Splice { stream: self, pipe: Some(pipe), _busy: Busy::new(&self.0.sending, "send") };
        sys::set_blocking(socket, false).ok().map(|()| splice)
    }
}

impl Splice<'_> {
    /// Sends `head`, ahead of what follows.
    pub async fn send_head(&mut self, head: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < head.len() {
            match sys::send_now(&self.stream.0.socket, &head[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable(None).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends `buf[range]`; `more` says that something follows. Ends early when the peer takes nothing for longer than `patience`.
    pub async fn send(
        &mut self,
        buf: &SharedBuf,
        range: Range<usize>,
        more: bool,
        patience: Duration,
    ) -> io::Result<Taken> {
        let mut next = range.start;
        loop {
            if !self.drain(more || next < range.end, Some(patience)).await? {
                return Ok(Taken::Stalled(next - range.start));
            }
            if next == range.end {
                return Ok(Taken::All);
            }
            self.stream.0.io.bulk_turn().await;
            let pipe = self.pipe.as_mut().expect("held while this lives");
            next += pipe.fill(buf, next..range.end)?;
        }
    }

    /// Sends what was taken and is still on its way.
    pub async fn flush(&mut self, more: bool) -> io::Result<()> {
        let drained = self.drain(more, None).await?;
        assert!(drained, "it waits for as long as it takes");
        Ok(())
    }

    /// Empties the pipe; false when that would have taken too much patience.
    async fn drain(&mut self, more: bool, patience: Option<Duration>) -> io::Result<bool> {
        loop {
            let pipe = self.pipe.as_mut().expect("held while this lives");
            if pipe.held() == 0 {
                return Ok(true);
            }
            let io = &self.stream.0.io;
            match pipe.drain_into(&self.stream.0.socket, more) {
                Ok(count) => io.core().count_bulk(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.writable(patience).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(false),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the socket takes more; `TimedOut` when it is not so after `patience`. That a peer is gone the next send tells.
    async fn writable(&self, patience: Option<Duration>) -> io::Result<()> {
        let io = &self.stream.0.io;
        let polled = io.ring().submit(Request::wait_writable(&self.stream.0.socket));
        let completion = match patience {
            None => polled.await,
            Some(patience) => match race(polled, io.sleep(patience)).await {
                Either::First(completion) => completion,
                Either::Second(()) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        completion.value().map(drop)
    }
}

impl Drop for Splice<'_> {
    fn drop(&mut self) {
        let socket = &self.stream.0;
        if let Some(pipe) = self.pipe.take() {
            socket.io.core().pipes.give_back(pipe);
        }
        // Can't fail on an open socket; if it did, the next operation would say so by EAGAIN and end the connection.
        let _ = sys::set_blocking(&socket.socket, true);
    }
}

/// Waits until the round has bulk work left.
pub(super) fn bulk_turn(io: &RingIo) -> impl Future<Output = ()> + '_ {
    poll_fn(|context| {
        if io.core().has_bulk_left() {
            return Poll::Ready(());
        }
        io.core().wake_next_round(context.waker().clone());
        Poll::Pending
    })
}
