//! Bulk work in turns with everything else on a core, and large answers: shared buffers into sockets without a copy.
//!
//! A [`Splice`] has a pipe and puts its socket into the non-blocking mode while it lives. Invariants: no ring operation but a poll is in flight on
//! the socket's sending side meanwhile; a pipe goes back to the pool only when it is empty, as what is in it belongs to one connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use super::RingIo;
use super::stream::{Busy, Socket, Stream};
use crate::io::{Body, Clock, SharedBuf};
use crate::ring::pipe::Pipe;
use crate::ring::request::Request;
use crate::ring::sys;
use crate::sync::{Either, Promise, promise, race};

/// Pipes that a core keeps for reuse, and the most that it has at one time.
const PIPES_KEPT_MAX: usize = 64;
const PIPES_MAX: usize = 256;
/// Connections of a core whose peer stalled on spliced pages and has not taken them since. Each may hold its send buffer rounded out to whole huge
/// pages, which is memory beside every budget; when there are this many, no connection splices.
const STALLED_MAX: usize = 64;

/// Bytes of bulk work (splicing, copying, hashing) in one round, over all tasks: some 50 to 350 µs. The rest goes on in the next rounds, so that a
/// small request waits for no more than this, however many bulk transfers there are.
const BULK_BYTES_PER_ROUND: usize = 512 << 10;
/// Bytes that are spliced in one turn: what a pipe holds.
const SPLICED_AT_ONCE: usize = 256 << 10;
/// An answer of at most this many bytes is not kept waiting for its turn; it counts all the same.
const UNBULKY_MAX: usize = 64 << 10;

/// Who may do bulk work, in the order of asking. A turn may overdraw what is left of its round; the next rounds make up for it.
pub(super) struct BulkTurns {
    left: Cell<isize>,
    waiting: RefCell<VecDeque<(usize, Promise<()>)>>,
}

impl Default for BulkTurns {
    fn default() -> Self {
        Self { left: Cell::new(BULK_BYTES_PER_ROUND as isize), waiting: RefCell::default() }
    }
}

impl BulkTurns {
    pub fn count(&self, bytes: usize) {
        self.left.set(self.left.get() - bytes as isize);
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Gives the turns of the next round. What is done without a turn delays those who wait by a round at most, and one of them always
    /// gets on: it must not starve them.
    pub fn begin_round(&self) {
        let round = BULK_BYTES_PER_ROUND as isize;
        self.left.set((self.left.get() + round).clamp(-round, round));
        let mut has_served = false;
        while self.left.get() > 0 || !has_served {
            let Some((bytes, promise)) = self.waiting.borrow_mut().pop_front() else { return };
            if !promise.is_abandoned() {
                has_served = true;
                self.count(bytes);
                promise.keep(());
            }
        }
    }

    /// Takes back what a turn did not use.
    fn unused(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes as isize);
    }

    /// Waits for a turn to do this much.
    pub async fn take(&self, bytes: usize) {
        if self.left.get() > 0 && !self.has_waiting() {
            return self.count(bytes);
        }
        let (promise, promised) = promise();
        self.waiting.borrow_mut().push_back((bytes, promise));
        promised.await.expect("the core keeps what it promised for as long as its tasks live");
    }
}

/// The pipes of one core.
#[derive(Default)]
pub(super) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    out: Cell<usize>,
    stalled: Cell<usize>,
}

impl Pipes {
    /// `None` when too many are in use, or the process may have no more.
    fn take(&self) -> Option<Pipe> {
        if self.out.get() == PIPES_MAX || self.stalled.get() >= STALLED_MAX {
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
        if pipe.held() == 0 && pipe.is_large() && kept.len() < PIPES_KEPT_MAX {
            kept.push(pipe);
        }
    }
}

/// Marks a connection whose socket holds spliced pages that its peer does not take.
pub(super) struct Stalled(RingIo);

impl Stalled {
    fn new(io: &RingIo) -> Self {
        let stalled = &io.core().pipes.stalled;
        stalled.set(stalled.get() + 1);
        Self(io.clone())
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let stalled = &self.0.core().pipes.stalled;
        stalled.set(stalled.get() - 1);
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
        if self.0.stalled.borrow().is_some() {
            if !sys::is_drained(socket) {
                return None;
            }
            self.0.stalled.take();
        }
        let pipe = self.0.io.core().pipes.take()?;
        if !self.0.tuned.replace(true) && sys::is_local(socket) {
            sys::set_unpaced(socket.as_ref());
        }
        let splice = Splice { stream: self, pipe: Some(pipe), _busy: Busy::new(&self.0.sending, "send") };
        sys::set_blocking(socket, false).ok().map(|()| splice)
    }

    /// Sends `head`, and then `body[range]` by `IORING_OP_SEND_ZC`; the buffer is held until the kernel is through with it. Not what answers
    /// go by: here for the bench `send`, which says why.
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
                let Socket { io, stalled, .. } = &*self.stream.0;
                stalled.borrow_mut().get_or_insert_with(|| Stalled::new(io));
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
            match pipe.drain_into(&self.stream.0.socket, more) {
                Ok(_) => {}
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

/// Sends `head` with the word that more follows.
async fn send_head(socket: &Socket, head: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < head.len() {
        match sys::send_now(&socket.socket, &head[sent..]) {
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
        // Can't fail on an open socket; if it did, the next operation would say so by EAGAIN and end the connection.
        let _ = sys::set_blocking(&socket.socket, true);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn turns_come_in_the_order_of_asking_and_a_round_gives_no_more_than_its_bytes() {
        let turns = BulkTurns::default();
        let size = BULK_BYTES_PER_ROUND / 2;
        let mut asked: Vec<_> = (0..7).map(|_| Box::pin(turns.take(size))).collect();
        for round in 1..=4 {
            let ready: Vec<bool> = asked.iter_mut().map(|turn| poll(turn).is_ready()).collect();
            assert_eq!(ready.len(), 7 - 2 * (round - 1));
            let expected = ready.len().min(2);
            assert!(
                ready[..expected].iter().all(|ready| *ready) && !ready[expected..].iter().any(|ready| *ready),
                "round {round}"
            );
            asked.drain(..expected);
            turns.begin_round();
        }
        assert!(asked.is_empty() && !turns.has_waiting());
    }

    #[test]
    fn whatever_is_done_without_turns_somebody_who_waits_gets_on_in_every_round() {
        let turns = BulkTurns::default();
        turns.count(BULK_BYTES_PER_ROUND);
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(turns.take(1))).collect();
        for _ in 0..10 {
            assert!(waiting.iter_mut().all(|turn| poll(turn).is_pending()));
            turns.count(100 * BULK_BYTES_PER_ROUND);
            turns.begin_round();
            assert!(poll(&mut waiting[0]).is_ready());
            drop(waiting.remove(0));
        }
    }

    #[test]
    fn who_stops_waiting_costs_the_others_nothing() {
        let turns = BulkTurns::default();
        turns.count(BULK_BYTES_PER_ROUND);
        let mut gone = Box::pin(turns.take(BULK_BYTES_PER_ROUND));
        let mut waiting = Box::pin(turns.take(1));
        assert!(poll(&mut gone).is_pending() && poll(&mut waiting).is_pending());
        drop(gone);
        turns.begin_round();
        assert!(poll(&mut waiting).is_ready());
    }
}
