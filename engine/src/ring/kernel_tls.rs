//! TLS in the kernel: attaching it to a connected socket, giving it keys, and records that are no
//! application data.
//!
//! After [`attach`] and [`set_keys`] the socket takes and gives plaintext: sends, receives and
//! splices work as on a plain one, and the kernel makes and opens the records
//! (`Documentation/networking/tls.rst`, `include/uapi/linux/tls.h`). Alerts and handshake messages
//! go by [`send_control`] and [`receive_control`]; a plain receive that meets one fails with `EIO`
//! and leaves it there.
//!
//! Only TLS 1.3 is offered here. In TLS 1.2 the kernel counts the explicit nonce on from a start
//! value, which need not stay clear of the nonces that user space has used.

use std::io::{self, Read};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

use super::request::SendUntil;

/// From `include/uapi/linux/tls.h`.
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_1_3_VERSION: u16 = 0x0304;
const TLS_CIPHER_AES_GCM_128: u16 = 51;
const TLS_CIPHER_AES_GCM_256: u16 = 52;
const TLS_CIPHER_CHACHA20_POLY1305: u16 = 54;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
/// From `include/linux/socket.h` and `include/uapi/linux/tcp.h`.
const SOL_TLS: libc::c_int = 282;
const TCP_ULP: libc::c_int = 31;

/// Bytes of a nonce's fixed part, in all three ciphers.
const IV_BYTES: usize = 12;
/// Of which AES-GCM calls the first ones the salt.
const SALT_BYTES: usize = 4;
/// The largest `tls12_crypto_info_*` of the ciphers here: AES-256-GCM and ChaCha20-Poly1305.
const CRYPTO_INFO_BYTES_MAX: usize = 56;
/// The most that the loopback takes for a record of the probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Room for one control message that carries a byte. `CMSG_SPACE(1)` is 24 on 64-bit Linux.
const CONTROL_BYTES: usize = 64;

/// What the kernel encrypts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn kernel_type(self) -> u16 {
        match self {
            Self::Aes128Gcm => TLS_CIPHER_AES_GCM_128,
            Self::Aes256Gcm => TLS_CIPHER_AES_GCM_256,
            Self::ChaCha20Poly1305 => TLS_CIPHER_CHACHA20_POLY1305,
        }
    }
}

/// One direction of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Transmit,
    Receive,
}

/// The keys of one direction as the kernel takes them, one of `struct tls12_crypto_info_*`; filled
/// in place, on the heap so that no move leaves a copy, and wiped when dropped.
pub struct Keys {
    bytes: Box<[u8; CRYPTO_INFO_BYTES_MAX]>,
    len: usize,
}

impl Keys {
    /// The keys of a TLS 1.3 connection whose next record has the number `sequence`.
    ///
    /// # Panics
    /// If the key is not as long as the cipher's.
    pub fn new(cipher: Cipher, key: &[u8], iv: &[u8; IV_BYTES], sequence: u64) -> Self {
        assert_eq!(key.len(), cipher.key_bytes(), "a key of {cipher:?}");
        let (salt, rest) = iv.split_at(SALT_BYTES);
        let (version, kernel_type, sequence) =
            (TLS_1_3_VERSION.to_ne_bytes(), cipher.kernel_type().to_ne_bytes(), sequence.to_be_bytes());
        let parts: [&[u8]; 6] = match cipher {
            // `iv[8], key[16 or 32], salt[4], rec_seq[8]` behind `struct tls_crypto_info`.
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => [&version, &kernel_type, rest, key, salt, &sequence],
            // `iv[12], key[32], salt[0], rec_seq[8]`.
            Cipher::ChaCha20Poly1305 => [&version, &kernel_type, iv, key, &[], &sequence],
        };
        let mut keys = Self { bytes: Box::new([0; CRYPTO_INFO_BYTES_MAX]), len: 0 };
        for part in parts {
            keys.bytes[keys.len..keys.len + part.len()].copy_from_slice(part);
            keys.len += part.len();
        }
        keys
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for byte in self.bytes.iter_mut() {
            // SAFETY: a reference to a byte is good for a write. A volatile one stays, though
            // nobody reads it again.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        compiler_fence(Ordering::SeqCst);
    }
}

fn set_option(socket: &TcpStream, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel copies the value before the call returns, and its length is its own.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts the TLS layer on a connected socket. Without keys it passes everything through, so a
/// failure of what comes next leaves a plain socket.
///
/// # Errors
/// `NotFound` when the kernel has no TLS, or its module is not loaded.
pub fn attach(socket: &TcpStream) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, TCP_ULP, b"tls")
}

/// Gives the kernel the keys of one direction; what is sent or received from now on goes by them. A
/// second call, with the keys after a key update, needs Linux 6.14.
pub fn set_keys(socket: &TcpStream, direction: Direction, keys: &Keys) -> io::Result<()> {
    let option = match direction {
        Direction::Transmit => TLS_TX,
        Direction::Receive => TLS_RX,
    };
    set_option(socket, SOL_TLS, option, keys.as_bytes())
}

/// What this kernel does beyond taking connections over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Takes new keys for a connection that has some (Linux 6.14).
    pub takes_new_keys: bool,
}

/// Finds out on connections of its own whether the kernel does TLS 1.3 with every cipher that is
/// offered: whether what is sent as streams send it arrives.
///
/// # Errors
/// What the kernel said to the first step that it refused.
pub fn probe() -> io::Result<Abilities> {
    let mut takes_new_keys = true;
    for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let (server, mut client) = connected_pair()?;
        let key = vec![0; cipher.key_bytes()];
        let keys = |sequence| Keys::new(cipher, &key, &[0; IV_BYTES], sequence);
        for socket in [&server, &client] {
            attach(socket)?;
            set_keys(socket, Direction::Transmit, &keys(0))?;
            set_keys(socket, Direction::Receive, &keys(0))?;
        }
        let sent = *b"a record";
        send_as_streams_do(&server, &sent)?;
        let mut received = [0; 8];
        client.read_exact(&mut received)?;
        if received != sent {
            return Err(io::Error::other("the kernel gave other bytes than it took"));
        }
        takes_new_keys &= set_keys(&server, Direction::Transmit, &keys(0)).is_ok();
    }
    Ok(Abilities { takes_new_keys })
}

/// Both ends of a connection within this machine, which don't wait for ever.
fn connected_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PROBE_PATIENCE))?;
        socket.set_write_timeout(Some(PROBE_PATIENCE))?;
    }
    Ok((server, client))
}

/// With the flags that the ring sends with once a stream has keys.
fn send_as_streams_do(socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel copies the bytes before the call returns, and their length is their own.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), SendUntil::Part.flags()) };
    match sent {
        sent if sent < 0 => Err(io::Error::last_os_error()),
        sent if sent as usize == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Whether the socket takes more now: a third of its room is free, or it has failed.
pub fn is_writable(socket: &TcpStream) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call; without a timeout it does not wait.
    let result = unsafe { libc::poll(&raw mut polled, 1, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result > 0) }
}

/// The buffer of a control message, aligned as the kernel's `struct cmsghdr`.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_BYTES]);

const _: () = assert!(mem::align_of::<ControlBuffer>() >= mem::align_of::<libc::cmsghdr>());
// SAFETY: `CMSG_SPACE` computes with its argument alone.
const _: () = assert!(unsafe { libc::CMSG_SPACE(1) } as usize <= CONTROL_BYTES);

/// Sends one record of another type than application data, if the socket takes it now.
pub fn send_control(socket: &TcpStream, record_type: u8, bytes: &[u8]) -> io::Result<()> {
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: `CMSG_SPACE` and `CMSG_LEN` compute with their arguments alone.
    let (space, len) = unsafe { (libc::CMSG_SPACE(1), libc::CMSG_LEN(1)) };
    message.msg_controllen = space as _;
    // SAFETY: the buffer has room for a header and a byte, asserted above, so the first header lies
    // in it, aligned, with a byte behind it.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = SOL_TLS;
        (*header).cmsg_type = TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = len as _;
        libc::CMSG_DATA(header).write(record_type);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    match sent {
        sent if sent < 0 => Err(io::Error::last_os_error()),
        sent if sent as usize == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives the record that is next, whatever its type, into `buf`: its type, and how many bytes of
/// it. Doesn't wait.
pub fn receive_control(socket: &TcpStream, buf: &mut [u8]) -> io::Result<(u8, usize)> {
    /// What a record without a control message is.
    const APPLICATION_DATA: u8 = 23;
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: `msghdr` is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: the message, the buffers it names, and their lengths hold for the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled `msg_controllen` bytes of the buffer with whole control messages.
    let record_type = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_level != SOL_TLS || (*header).cmsg_type != TLS_GET_RECORD_TYPE {
            APPLICATION_DATA
        } else {
            libc::CMSG_DATA(header).read()
        }
    };
    Ok((record_type, received as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting<const N: usize>(from: u8) -> [u8; N] {
        std::array::from_fn(|index| from + index as u8)
    }

    /// The bytes of `struct tls12_crypto_info_aes_gcm_128`, `…_256` and `…_chacha20_poly1305` for
    /// known keys, laid out by hand from the kernel's header.
    #[test]
    fn keys_are_laid_out_as_the_kernel_reads_them() {
        let iv: [u8; 12] = counting(0xa0);
        let sequence = 0x0102_0304_0506_0708;
        let of = |cipher, key: &[u8]| Keys::new(cipher, key, &iv, sequence).as_bytes().to_vec();

        let mut golden = Vec::from([0x04, 0x03, 51, 0]);
        golden.extend([0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab]);
        golden.extend(counting::<16>(0x10));
        golden.extend([0xa0, 0xa1, 0xa2, 0xa3]);
        golden.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((of(Cipher::Aes128Gcm, &counting::<16>(0x10)), golden.len()), (golden, 40));

        let mut golden = Vec::from([0x04, 0x03, 52, 0]);
        golden.extend([0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab]);
        golden.extend(counting::<32>(0x10));
        golden.extend([0xa0, 0xa1, 0xa2, 0xa3]);
        golden.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((of(Cipher::Aes256Gcm, &counting::<32>(0x10)), golden.len()), (golden, 56));

        let mut golden = Vec::from([0x04, 0x03, 54, 0]);
        golden.extend(counting::<12>(0xa0));
        golden.extend(counting::<32>(0x10));
        golden.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((of(Cipher::ChaCha20Poly1305, &counting::<32>(0x10)), golden.len()), (golden, 56));
    }

    #[test]
    #[should_panic(expected = "a key of Aes256Gcm")]
    fn a_key_of_another_length_is_a_callers_error() {
        Keys::new(Cipher::Aes256Gcm, &[0; 16], &[0; 12], 0);
    }

    #[test]
    fn plain_bytes_are_application_data() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"abc").unwrap();
        server.peek(&mut [0]).unwrap();
        let mut buf = [0; 16];
        assert_eq!(receive_control(&server, &mut buf).unwrap(), (23, 3));
        assert_eq!(receive_control(&server, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// Whatever this kernel has, the answer is one of two: it works whole, or the first step says
    /// why not.
    #[test]
    fn the_probe_agrees_with_the_list_of_the_kernel() {
        let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        let is_listed = listed.split_whitespace().any(|name| name == "tls");
        match probe() {
            Ok(_) => assert!(std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap().contains("tls")),
            Err(error) => assert!(!is_listed || error.kind() != io::ErrorKind::NotFound, "{error}"),
        }
    }
}
