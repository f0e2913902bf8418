//! A TCP connection on the ring.
//!
//! One receive and one send may be in flight at a time; a second of the same kind is an assertion.
//! Deadlines are coarse (swept at most once a second, and not at all while no stream has one): an
//! expired deadline shuts the socket's half down, which ends the operation in flight, so nothing is
//! ever cancelled half done.
//!
//! How large answers leave without a copy is in `splice`.
//!
//! A receive or send whose future is dropped may still take or put bytes: the connection is good
//! for nothing but being closed.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::RingIo;
use super::half::{Half, abort, shut_down};
use super::pipes::Mark;
use crate::io::{AlignedBuf, Body, Clock, Instant, WithBuf};
use crate::ring::Completion;
use crate::ring::provided::Lease;
use crate::ring::request::{Message, MessageHeader, Request, Resource, SendUntil};
use crate::ring::sys::{self, RawAddress};
use crate::sync::{Either, race};

/// How often an operation that was interrupted before it did anything is tried again.
const RETRIES_MAX: usize = 16;

/// Bytes that a socket takes beyond what it may send now while much is sent and many others do the
/// same. The kernel asks for more when half of it is left, which a line of 10 Gbit/s takes in
/// 200 µs.
const BULK_UNSENT_BYTES_MAX: usize = 512 << 10;

/// A connection; clones share it. The descriptor closes when the last clone and the last operation
/// are gone.
#[derive(Clone)]
pub struct Stream(pub(super) Rc<Socket>);

pub(super) struct Socket {
    pub io: RingIo,
    pub socket: Rc<TcpStream>,
    receiving: Cell<bool>,
    pub sending: Cell<bool>,
    /// What is done once for a connection with bulk sends was done.
    pub tuned: Cell<bool>,
    /// The socket takes much ahead of what it may send.
    takes_bulk: Cell<bool>,
    /// Its peer has stalled, and may not have taken all that was spliced.
    pub stalled: RefCell<Option<Mark>>,
    /// The socket takes as much as the kernel lets it.
    pub unbound: RefCell<Option<Mark>>,
    /// The last receive emptied the socket, so the next one will have to wait.
    drained: Cell<bool>,
    /// Where the deadline of this connection is kept, once it had one.
    deadline: Cell<Option<u32>>,
    /// Kept from one vectored send to the next.
    header: Cell<Option<MessageHeader>>,
    /// What sends wait for; every send is resumed until it is whole.
    pub send_until: Cell<SendUntil>,
}

/// Bytes in a buffer that the kernel picked from the core's provided-buffer ring; the buffer goes
/// back when dropped, so keep it short. Empty means end of stream.
pub struct ReceivedBytes {
    io: RingIo,
    lease: Option<Lease>,
}

/// Marks a direction as busy while it lives.
pub(super) struct Busy<'socket>(&'socket Cell<bool>);

impl<'socket> Busy<'socket> {
    pub fn new(flag: &'socket Cell<bool>, what: &str) -> Self {
        assert!(!flag.replace(true), "a second {what} on a connection while one is in flight");
        Self(flag)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Counts the tries of an operation that the kernel interrupts.
#[derive(Default)]
struct Retries(usize);

impl Retries {
    /// Whether to try again after this result.
    fn again(&mut self, completion: &Completion) -> bool {
        self.0 += 1;
        self.0 < RETRIES_MAX && matches!(-completion.result, libc::EINTR | libc::EAGAIN)
    }
}

impl Stream {
    pub(super) fn new(io: &RingIo, socket: TcpStream) -> Stream {
        io.core().connection_opened();
        Stream(Rc::new(Socket {
            io: io.clone(),
            socket: Rc::new(socket),
            receiving: Cell::new(false),
            sending: Cell::new(false),
            tuned: Cell::new(false),
            takes_bulk: Cell::new(false),
            stalled: RefCell::default(),
            unbound: RefCell::default(),
            drained: Cell::new(false),
            deadline: Cell::new(None),
            header: Cell::new(None),
            send_until: Cell::new(SendUntil::All),
        }))
    }

    /// Connects to a listener. It may take as long as the kernel keeps trying, some two minutes;
    /// dropping the future ends the try.
    pub async fn connect(io: &RingIo, address: SocketAddr) -> io::Result<Stream> {
        let stream = Stream::new(io, sys::unconnected(address)?);
        let request = Request::connect(&stream.0.socket, RawAddress::new(address));
        io.ring().submit(request).await.value()?;
        Ok(stream)
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.peer_addr()
    }

    /// Whether small sends leave at once (`TCP_NODELAY`), as they do on every stream.
    pub fn no_delay(&self) -> io::Result<bool> {
        self.0.socket.nodelay()
    }

    /// Receives what is there, at most one provided buffer. While it waits, no buffer is bound to
    /// this connection: ten thousand idle connections cost none. When the buffers have run out it
    /// waits for one.
    pub async fn recv(&self) -> io::Result<ReceivedBytes> {
        let Socket { io, socket, receiving, drained, .. } = &*self.0;
        let _busy = Busy::new(receiving, "receive");
        let mut retries = Retries::default();
        let mut turn = None;
        loop {
            let mut completion = io.ring().submit(Request::receive_provided(socket, drained.get())).await;
            let received = ReceivedBytes { io: io.clone(), lease: completion.take_lease() };
            if received.lease.is_some() || completion.result == -libc::ENOBUFS {
                // The buffer was used, by this receive or by one that was faster: giving it back
                // tells the next one.
                std::mem::forget(turn.take());
            }
            if completion.result == -libc::ENOBUFS {
                // Who has received nothing yet needs no buffer: only with something to receive it
                // waits for one.
                if drained.replace(true) {
                    BufferFree { io, ticket: None }.await;
                    turn = Some(Turn(io));
                }
            } else if !retries.again(&completion) {
                drained.set(!completion.socket_has_more);
                return completion.value().map(|_| received);
            }
        }
    }

    /// Receives at least one byte into `buf[range]`; 0 means end of stream. Any range; no alignment
    /// needed.
    pub async fn recv_into(&self, buf: AlignedBuf, range: Range<usize>) -> WithBuf<usize> {
        let Socket { io, socket, receiving, drained, .. } = &*self.0;
        let _busy = Busy::new(receiving, "receive");
        assert!(!range.is_empty(), "a receive of no bytes could not be told from the end of the stream");
        let mut buf = buf;
        let mut retries = Retries::default();
        loop {
            let mut completion = io.ring().submit(Request::receive(socket, buf, range.clone())).await;
            buf = completion.take_aligned();
            if !retries.again(&completion) {
                drained.set(!completion.socket_has_more);
                return (completion.value(), buf);
            }
        }
    }

    /// Takes at least one and up to `len` bytes off the stream and throws them away, which costs no
    /// copy; 0 means end of stream. Good for measuring a sender alone.
    pub async fn discard(&self, len: usize) -> io::Result<usize> {
        let Socket { io, socket, receiving, drained, .. } = &*self.0;
        let _busy = Busy::new(receiving, "receive");
        assert!(len > 0, "a receive of no bytes could not be told from the end of the stream");
        let mut retries = Retries::default();
        loop {
            let completion = io.ring().submit(Request::receive_discarding(socket, len)).await;
            if !retries.again(&completion) {
                drained.set(!completion.socket_has_more);
                return completion.value();
            }
        }
    }

    /// Receives at least one byte into the front of `bytes`, and hands the vector back; 0 means end
    /// of stream.
    pub async fn recv_bytes(&self, bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Socket { io, socket, receiving, drained, .. } = &*self.0;
        let _busy = Busy::new(receiving, "receive");
        assert!(!bytes.is_empty(), "a receive of no bytes could not be told from the end of the stream");
        let mut bytes = bytes;
        let mut retries = Retries::default();
        loop {
            let mut completion = io.ring().submit(Request::receive_bytes(socket, bytes)).await;
            bytes = match std::mem::replace(&mut completion.resource, Resource::None) {
                Resource::Bytes(bytes) => bytes,
                _ => unreachable!("a receive gives its bytes back"),
            };
            if !retries.again(&completion) {
                drained.set(!completion.socket_has_more);
                return (completion.value(), bytes);
            }
        }
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self) -> bool {
        self.0.sending.get()
    }

    /// Sends all of `bytes`, and hands the vector back for reuse.
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Socket { io, socket, sending, send_until, .. } = &*self.0;
        let _busy = Busy::new(sending, "send");
        let mut bytes = bytes;
        let mut sent = 0;
        let mut retries = Retries::default();
        while sent < bytes.len() {
            let mut completion = io.ring().submit(Request::send(socket, bytes, sent, send_until.get())).await;
            bytes = match std::mem::replace(&mut completion.resource, Resource::None) {
                Resource::Bytes(bytes) => bytes,
                _ => unreachable!("a send gives its bytes back"),
            };
            if retries.again(&completion) {
                continue;
            }
            match progress(&completion) {
                Ok(count) => sent += count,
                Err(error) => return (Err(error), bytes),
            }
        }
        (Ok(()), bytes)
    }

    /// Sends `head` and then `body[range]`, whole, in one operation; either may be empty. No
    /// alignment needed.
    pub async fn send_with_head(
        &self,
        head: Vec<u8>,
        body: Body,
        range: Range<usize>,
    ) -> (io::Result<()>, Vec<u8>, Body) {
        let Socket { io, socket, sending, header, send_until, .. } = &*self.0;
        let _busy = Busy::new(sending, "send");
        let total = head.len() + body[range.clone()].len();
        let mut message = Message { header: header.take().unwrap_or_default(), head, body };
        let mut sent = 0;
        let mut retries = Retries::default();
        let mut outcome = Ok(());
        while sent < total {
            let request = Request::send_message(socket, message, range.clone(), sent, send_until.get());
            let mut completion = io.ring().submit(request).await;
            message = match std::mem::replace(&mut completion.resource, Resource::None) {
                Resource::Message(message) => message,
                _ => unreachable!("a vectored send gives its message back"),
            };
            if retries.again(&completion) {
                continue;
            }
            match progress(&completion) {
                Ok(count) => sent += count,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let Message { header: spare, head, body } = message;
        header.set(Some(spare));
        (outcome, head, body)
    }

    /// Sends what fits into the socket now, and says how much that was; `more` says that more
    /// follows.
    pub fn send_now(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let _busy = Busy::new(&self.0.sending, "send");
        let mut retries = 0;
        loop {
            match sys::send_now(&self.0.socket, bytes, more) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted && retries < RETRIES_MAX => retries += 1,
                sent => return sent,
            }
        }
    }

    /// Waits until the socket takes more; false when it is not so after `patience`. That the peer
    /// is gone the next send tells.
    pub async fn wait_for_room(&self, patience: Duration) -> io::Result<bool> {
        let io = &self.0.io;
        let polled = io.ring().submit(Request::wait_writable(&self.0.socket));
        match race(polled, io.sleep(patience)).await {
            Either::First(completion) => completion.value().map(|_| true),
            Either::Second(()) => Ok(false),
        }
    }

    /// Bytes that were sent and that the peer has not acknowledged; they lie in the kernel.
    pub fn unacknowledged(&self) -> usize {
        sys::unacknowledged(&self.0.socket).unwrap_or(0)
    }

    /// Much is sent, and the peer is the slower side for now: the socket takes more ahead, so that
    /// the line doesn't run dry while this core is busy with others.
    pub fn expect_bulk(&self) {
        self.take_ahead(None);
    }

    /// The same, without a bound if few connections of this core are without one.
    pub(super) fn expect_splices(&self) {
        self.take_ahead(self.0.io.core().pipes.unbind());
    }

    fn take_ahead(&self, unbound: Option<Mark>) {
        if !self.0.takes_bulk.replace(true) {
            let bytes = if unbound.is_some() { sys::AS_THE_KERNEL_LETS } else { BULK_UNSENT_BYTES_MAX };
            sys::set_unsent_max(self.0.socket.as_ref(), bytes);
            *self.0.unbound.borrow_mut() = unbound;
        }
    }

    /// What is sent from now on is little, or its peer slow: the socket takes little ahead.
    pub fn expect_little(&self) {
        if self.0.takes_bulk.replace(false) {
            sys::set_unsent_max(self.0.socket.as_ref(), sys::UNSENT_BYTES_MAX);
        }
        // A peer that has stalled has not taken what the socket holds.
        if self.0.stalled.borrow().is_none() {
            self.0.unbound.take();
        }
    }

    /// Shuts a half down; an operation in flight on it ends (a receive with 0 bytes, a send with
    /// `EPIPE`).
    pub fn shutdown(&self, half: Half) {
        shut_down(&self.0.socket, half);
    }

    /// Ends the connection, and has the kernel throw away what the peer has not taken; the
    /// operations in flight end.
    pub fn abort(&self) {
        abort(&self.0.socket);
    }

    /// Has the closing of the connection reset it, so that the peer doesn't take what it got for
    /// all.
    pub fn reset_at_close(&self) {
        sys::discard_at_close(&self.0.socket);
    }

    /// From `deadline` on, `half` is shut down (both of them as by [`Stream::abort`]) and
    /// [`Stream::timed_out`] is true. A later call replaces the deadline; `None` clears it. Costs a
    /// store, so call it as often as you like.
    pub fn set_deadline(&self, deadline: Option<(Instant, Half)>) {
        let mut deadlines = self.0.io.core().deadlines.borrow_mut();
        let index = match self.0.deadline.get() {
            Some(index) => index,
            None if deadline.is_none() => return,
            None => {
                let index = deadlines.add(self.0.socket.clone());
                self.0.deadline.set(Some(index));
                index
            }
        };
        deadlines.set(index, deadline);
    }

    /// Whether a deadline expired on this stream.
    pub fn timed_out(&self) -> bool {
        self.0.deadline.get().is_some_and(|index| self.0.io.core().deadlines.borrow_mut().expired(index))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.io.core().connection_closed();
        if let Some(index) = self.deadline.get() {
            self.io.core().deadlines.borrow_mut().remove(index);
        }
    }
}

/// What a send moved; a send of no bytes would never end.
fn progress(completion: &Completion) -> io::Result<usize> {
    match completion.value()? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Waits until a provided buffer is free. Who is woken and dropped before it could use that passes
/// it on.
struct BufferFree<'io> {
    io: &'io RingIo,
    ticket: Option<u64>,
}

impl Future for BufferFree<'_> {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<()> {
        let core = self.io.core();
        if let Some(ticket) = self.ticket.take() {
            core.buffer_waiters.borrow_mut().remove(ticket);
        }
        if !core.ring.provided().is_exhausted() {
            return Poll::Ready(());
        }
        let ticket = core.buffer_waiters.borrow_mut().add(context.waker().clone());
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for BufferFree<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let core = self.io.core();
            let was_waiting = core.buffer_waiters.borrow_mut().remove(ticket);
            if !was_waiting {
                core.wake_buffer_waiter();
            }
        }
    }
}

/// The turn of a receive that waited for a buffer. If it ends without one, by the end of the stream
/// or by being dropped, the next one that waits is told.
struct Turn<'io>(&'io RingIo);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.core().wake_buffer_waiter();
    }
}

impl Deref for ReceivedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => self.io.ring().provided().bytes(lease),
            None => &[],
        }
    }
}

impl Drop for ReceivedBytes {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.io.core().give_back(lease);
        }
    }
}
