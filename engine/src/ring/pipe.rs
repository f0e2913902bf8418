//! Pages of shared buffers on their way into a socket, without a copy.
//!
//! `vmsplice(2)` puts references to pages into a pipe, `splice(2)` moves them from there into a
//! socket, which reads them until the peer has acknowledged them (on loopback: until the peer has
//! received them). Nothing says when that is. So what goes in here must never change again: a
//! [`SharedBuf`] can't be written to, and remembers that its memory may not be reused.
//!
//! Why not `IORING_OP_SEND_ZC`: on loopback the kernel copies for it after all, so that an answer
//! costs its sender 11 to 24 % more CPU than a plain send (measured with `engine/benches/send.rs`),
//! it pins page by page, and it can't feed kernel TLS. And `IORING_OP_SPLICE` goes through a worker
//! thread each time.

use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::buffer::SharedBuf;

/// Bytes that a pipe should hold. The most that an unprivileged process may ask for is 1 MiB, and
/// 64 MiB for all its pipes (`/proc/sys/fs/pipe-user-pages-soft`); a pipe of one page still works.
const PIPE_BYTES: libc::c_int = 256 << 10;

/// A pipe between buffers and one socket.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
    size: usize,
}

impl Pipe {
    pub fn new() -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: the array outlives the call and takes two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us both; nobody else owns them.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        // SAFETY: takes no pointers. A refusal leaves the default size of 16 pages, or two where
        // the user has too many pipes.
        let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        Ok(Pipe { reader, writer, held: 0, size: size.max(0) as usize })
    }

    /// Whether it got the size it should have.
    pub fn is_large(&self) -> bool {
        self.size >= PIPE_BYTES as usize
    }

    /// Bytes that are in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Puts what fits of `buf[range]` into an empty pipe.
    pub fn fill(&mut self, buf: &SharedBuf, range: Range<usize>) -> io::Result<usize> {
        assert_eq!(self.held, 0, "what a pipe holds goes first");
        let bytes = &buf[range];
        buf.set_spliced();
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel only reads the pages, and holds references to them for as long as it
        // does; they never change, as the buffer is shared and its memory was marked as never to be
        // reused. The vector outlives the call.
        let count = unsafe { libc::vmsplice(self.writer.as_raw_fd(), &vector, 1, libc::SPLICE_F_NONBLOCK) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.held = count as usize;
        Ok(self.held)
    }

    /// Moves what the socket takes of the pipe's content; `WouldBlock` when it takes nothing now.
    /// The socket must not block. `more`: more follows, so that no small packet need be sent.
    pub fn drain_into(&mut self, socket: &TcpStream, more: bool) -> io::Result<usize> {
        let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE | if more { libc::SPLICE_F_MORE } else { 0 };
        let (from, to) = (self.reader.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: no offsets are passed, and both descriptors are open. The process ignores
        // SIGPIPE, as every Rust program does.
        let count = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), self.held, flags) };
        match count {
            ..0 => Err(io::Error::last_os_error()),
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => {
                self.held -= count as usize;
                Ok(count as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::ring::buffer::AlignedBuf;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        (sender, listener.accept().unwrap().0)
    }

    fn filled(len: usize, byte: u8) -> SharedBuf {
        let mut buf = AlignedBuf::zeroed(len);
        buf.fill(byte);
        SharedBuf::new(buf, ())
    }

    /// The memory of a buffer whose pages lie in a socket is used again at once, and what arrives
    /// is still the old content.
    #[test]
    fn what_a_socket_holds_does_not_change_when_its_memory_is_used_again() {
        for len in [64 << 10, 256 << 10, 2 << 20] {
            let (sender, mut receiver) = pair();
            let mut pipe = Pipe::new().unwrap();
            let buf = filled(len, 0x5a);
            let held = pipe.fill(&buf, 0..len).unwrap();
            let sent = pipe.drain_into(&sender, false).unwrap();
            assert!(sent > 0 && sent <= held);
            drop(buf);
            let others: Vec<SharedBuf> = (0..20).map(|_| filled(len, 0xee)).collect();
            let mut received = vec![0; sent];
            receiver.read_exact(&mut received).unwrap();
            assert!(received.iter().all(|&byte| byte == 0x5a), "{len}");
            drop(others);
        }
    }

    #[test]
    fn a_socket_that_takes_no_more_says_so_and_loses_nothing() {
        let (sender, mut receiver) = pair();
        let mut pipe = Pipe::new().unwrap();
        let buf = filled(2 << 20, 7);
        let mut put = 0;
        loop {
            if pipe.held() == 0 {
                put += pipe.fill(&buf, 0..buf.len()).unwrap();
            }
            match pipe.drain_into(&sender, true) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(pipe.held() > 0);
        let mut received = vec![0; put];
        let reading = std::thread::spawn(move || receiver.read_exact(&mut received).map(|()| received));
        while pipe.held() > 0 {
            match pipe.drain_into(&sender, false) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(reading.join().unwrap().unwrap().iter().all(|&byte| byte == 7));
    }
}
