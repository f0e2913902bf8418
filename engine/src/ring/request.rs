//! A request: one submission entry together with everything that the kernel will touch on its
//! behalf.
//!
//! Invariant: each pointer and descriptor in the entry comes from the `Resource` or the `Guard`
//! beside it, and their heap memory does not move when they do. That is what makes submitting a
//! `Request` safe; the fields are private to the ring.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types};

use super::buffer::{AlignedBuf, Body};
use super::provided;
use super::sys::RawAddress;

/// Do not try to receive first, arm the poll: what a connection does that has just been answered.
const RECVSEND_POLL_FIRST: u16 = 1;
/// The notification of a zero-copy send says whether the kernel copied after all.
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;

/// When a send completes. It reports a gone peer as `EPIPE` in any case, instead of by a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendUntil {
    /// Everything is sent.
    All,
    /// A part is: the kernel's TLS layer refuses `MSG_WAITALL` with `EOPNOTSUPP`
    /// (`tls_sw_sendmsg`).
    Part,
}

impl SendUntil {
    pub(super) const fn flags(self) -> i32 {
        match self {
            Self::All => libc::MSG_NOSIGNAL | libc::MSG_WAITALL,
            Self::Part => libc::MSG_NOSIGNAL,
        }
    }
}

/// Memory that the kernel may touch until the last completion; comes back with it.
pub enum Resource {
    None,
    Aligned(AlignedBuf),
    Bytes(Vec<u8>),
    Message(Message),
    Body(Body),
    Path(CString),
    Paths(CString, CString),
    Address(Box<RawAddress>),
    /// Of a multishot accept: results not yet taken.
    Accepted(VecDeque<i32>),
}

/// Keeps a descriptor open until the last completion.
pub(super) enum Guard {
    None,
    File { _file: Arc<File> },
    Stream { _stream: Rc<TcpStream> },
    Listener { _listener: Rc<TcpListener> },
}

/// How many completions a request has, and what they bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// One completion.
    Single,
    /// One completion, whose result is a descriptor if it is not negative.
    Descriptor,
    /// A result, and a notification when the kernel lets go of the memory.
    ZeroCopy,
    /// Any number of descriptors.
    Accept,
}

/// A submission and what it needs.
pub struct Request {
    pub(super) entry: squeue::Entry,
    pub(super) resource: Resource,
    pub(super) guard: Guard,
    pub(super) shape: Shape,
}

/// The header of a vectored send, at an address of its own so that it can move while the kernel
/// reads it.
pub struct MessageHeader(NonNull<RawMessage>);

struct RawMessage {
    header: libc::msghdr,
    vectors: [libc::iovec; 2],
}

impl Default for MessageHeader {
    fn default() -> Self {
        // SAFETY: both are plain data of integers and pointers, for which all zeros is a valid
        // value.
        let raw: RawMessage = unsafe { std::mem::zeroed() };
        Self(NonNull::from(Box::leak(Box::new(raw))))
    }
}

impl Drop for MessageHeader {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` in `default`, and only this drop frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What a vectored send owns.
pub struct Message {
    pub header: MessageHeader,
    pub head: Vec<u8>,
    pub body: Body,
}

fn length(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).expect("buffers are at most 1 GiB")
}

impl Request {
    fn new(entry: squeue::Entry, resource: Resource, guard: Guard) -> Self {
        Self { entry, resource, guard, shape: Shape::Single }
    }

    fn with_shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Reads into `buf[range]` from `offset`.
    ///
    /// Buffers are not registered with the ring: measured on Linux 6.18 with direct I/O at depth 8,
    /// that saves 1 to 2 of some 10 µs of CPU for 1 MiB and nothing for 4 KiB, and the price is
    /// locked memory and another kind of buffer.
    pub fn read(file: &Arc<File>, mut buf: AlignedBuf, range: Range<usize>, offset: u64) -> Self {
        let target = &mut buf[range.clone()];
        let entry = opcode::Read::new(fd(file.as_ref()), target.as_mut_ptr(), length(&range)).offset(offset).build();
        Self::new(entry, Resource::Aligned(buf), Guard::File { _file: file.clone() })
    }

    /// Writes `buf[range]` at `offset`.
    pub fn write(file: &Arc<File>, buf: AlignedBuf, range: Range<usize>, offset: u64) -> Self {
        let source = &buf[range.clone()];
        let entry = opcode::Write::new(fd(file.as_ref()), source.as_ptr(), length(&range)).offset(offset).build();
        Self::new(entry, Resource::Aligned(buf), Guard::File { _file: file.clone() })
    }

    /// `fdatasync` if `data_only`, else `fsync`.
    pub fn sync(file: &Arc<File>, data_only: bool) -> Self {
        let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
        let entry = opcode::Fsync::new(fd(file.as_ref())).flags(flags).build();
        Self::new(entry, Resource::None, Guard::File { _file: file.clone() })
    }

    /// `fallocate` of `0..size`, mode 0.
    pub fn allocate(file: &Arc<File>, size: u64) -> Self {
        let entry = opcode::Fallocate::new(fd(file.as_ref()), size).build();
        Self::new(entry, Resource::None, Guard::File { _file: file.clone() })
    }

    /// `openat` with flags and mode of the caller; completes with a descriptor.
    pub fn open(path: CString, flags: i32, mode: u32) -> Self {
        let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).mode(mode).build();
        Self::new(entry, Resource::Path(path), Guard::None).with_shape(Shape::Descriptor)
    }

    pub fn rename(from: CString, to: CString) -> Self {
        let here = types::Fd(libc::AT_FDCWD);
        let entry = opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build();
        Self::new(entry, Resource::Paths(from, to), Guard::None)
    }

    pub fn unlink(path: CString) -> Self {
        let entry = opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        Self::new(entry, Resource::Path(path), Guard::None)
    }

    pub fn create_dir(path: CString, mode: u32) -> Self {
        let entry = opcode::MkDirAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).mode(mode).build();
        Self::new(entry, Resource::Path(path), Guard::None)
    }

    /// Accepts connections until the kernel or a cancel ends it.
    pub fn accept(listener: &Rc<TcpListener>) -> Self {
        let entry = opcode::AcceptMulti::new(fd(listener.as_ref())).flags(libc::SOCK_CLOEXEC).build();
        Self::new(entry, Resource::Accepted(VecDeque::new()), Guard::Listener { _listener: listener.clone() })
            .with_shape(Shape::Accept)
    }

    pub fn connect(stream: &Rc<TcpStream>, address: RawAddress) -> Self {
        let address = Box::new(address);
        let entry = opcode::Connect::new(fd(stream.as_ref()), address.as_ptr(), address.len()).build();
        Self::new(entry, Resource::Address(address), stream_guard(stream))
    }

    /// Receives into a buffer that the kernel picks from the core's provided buffers.
    pub fn receive_provided(stream: &Rc<TcpStream>, poll_first: bool) -> Self {
        let entry = opcode::Recv::new(fd(stream.as_ref()), std::ptr::null_mut(), provided::BUFFER_SIZE as u32)
            .buf_group(provided::GROUP)
            .ioprio(if poll_first { RECVSEND_POLL_FIRST } else { 0 })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        Self::new(entry, Resource::None, stream_guard(stream))
    }

    /// Receives into `buf[range]`.
    pub fn receive(stream: &Rc<TcpStream>, mut buf: AlignedBuf, range: Range<usize>) -> Self {
        let target = &mut buf[range.clone()];
        let entry = opcode::Recv::new(fd(stream.as_ref()), target.as_mut_ptr(), length(&range)).build();
        Self::new(entry, Resource::Aligned(buf), stream_guard(stream))
    }

    /// Receives into `bytes`, as many as it holds.
    pub fn receive_bytes(stream: &Rc<TcpStream>, mut bytes: Vec<u8>) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(1 << 30);
        let entry = opcode::Recv::new(fd(stream.as_ref()), bytes.as_mut_ptr(), len).build();
        Self::new(entry, Resource::Bytes(bytes), stream_guard(stream))
    }

    /// Takes up to `len` bytes off the stream and throws them away: TCP does that without copying
    /// them.
    pub fn receive_discarding(stream: &Rc<TcpStream>, len: usize) -> Self {
        let len = u32::try_from(len).unwrap_or(1 << 30).min(1 << 30);
        let entry = opcode::Recv::new(fd(stream.as_ref()), std::ptr::null_mut(), len).flags(libc::MSG_TRUNC).build();
        Self::new(entry, Resource::None, stream_guard(stream))
    }

    /// Sends `bytes[from..]`.
    pub fn send(stream: &Rc<TcpStream>, bytes: Vec<u8>, from: usize, until: SendUntil) -> Self {
        let rest = &bytes[from..];
        let len = u32::try_from(rest.len()).unwrap_or(1 << 30);
        let entry = opcode::Send::new(fd(stream.as_ref()), rest.as_ptr(), len).flags(until.flags()).build();
        Self::new(entry, Resource::Bytes(bytes), stream_guard(stream))
    }

    /// Sends `body[range]` without copying where the route allows it; [`crate::probe`] counts where
    /// it does not. The result comes first; the memory is the kernel's until the notification, so
    /// it does not come back.
    pub fn send_zero_copy(stream: &Rc<TcpStream>, body: Body, range: Range<usize>) -> Self {
        let source = &body[range.clone()];
        let entry = opcode::SendZc::new(fd(stream.as_ref()), source.as_ptr(), length(&range))
            .flags(SendUntil::All.flags())
            .zc_flags(SEND_ZC_REPORT_USAGE)
            .build();
        Self::new(entry, Resource::Body(body), stream_guard(stream)).with_shape(Shape::ZeroCopy)
    }

    /// Sends what follows the first `sent` bytes of `head` and `body[range]`, in one operation.
    pub fn send_message(
        stream: &Rc<TcpStream>,
        message: Message,
        range: Range<usize>,
        sent: usize,
        until: SendUntil,
    ) -> Self {
        let head = &message.head[sent.min(message.head.len())..];
        let body = &message.body[range][sent.saturating_sub(message.head.len())..];
        let vectors = [(head.as_ptr(), head.len()), (body.as_ptr(), body.len())]
            .map(|(base, len)| libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len });
        let raw = message.header.0.as_ptr();
        // SAFETY: `raw` points to a live allocation that only this message owns, and no submission
        // reads it any more: a header comes back from a slot only with the last completion.
        let header = unsafe {
            (*raw).vectors = vectors;
            (*raw).header.msg_iov = (&raw mut (*raw).vectors).cast();
            (*raw).header.msg_iovlen = 2;
            &raw const (*raw).header
        };
        let entry = opcode::SendMsg::new(fd(stream.as_ref()), header).flags(until.flags() as u32).build();
        Self::new(entry, Resource::Message(message), stream_guard(stream))
    }

    /// Completes when the socket takes more bytes, or has failed.
    pub fn wait_writable(stream: &Rc<TcpStream>) -> Self {
        let entry = opcode::PollAdd::new(fd(stream.as_ref()), libc::POLLOUT as u32).build();
        Self::new(entry, Resource::None, stream_guard(stream))
    }

    /// Completes at once and does nothing.
    pub fn nop() -> Self {
        Self::new(opcode::Nop::new().build(), Resource::None, Guard::None)
    }
}

fn stream_guard(stream: &Rc<TcpStream>) -> Guard {
    Guard::Stream { _stream: stream.clone() }
}

fn fd(of: &impl AsRawFd) -> types::Fd {
    types::Fd(of.as_raw_fd())
}

/// Watches an event descriptor; each signal is one completion, until one comes without the
/// more-flag.
pub(super) fn watch_event(event: BorrowedFd<'_>) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(event.as_raw_fd()), libc::POLLIN as u32).multi(true).build()
}

/// Cancels the operation with this user data. Only a failure posts a completion.
pub(super) fn cancel(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data).build().flags(squeue::Flags::SKIP_SUCCESS)
}

/// Posts a completion with `user_data` on another ring. Only a failure posts one here.
pub(super) fn message_ring(ring: RawFd, user_data: u64) -> squeue::Entry {
    opcode::MsgRingData::new(types::Fd(ring), 0, user_data, None).build().flags(squeue::Flags::SKIP_SUCCESS)
}

/// Whether more completions follow this one.
pub(super) fn has_more(flags: u32) -> bool {
    cqueue::more(flags)
}
