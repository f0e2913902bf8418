//! Plain system calls that the standard library does not wrap: sockets with `SO_REUSEPORT`, CPU
//! affinity, priorities, limits, syncs that are not repeated, `statvfs`, `uname` and event
//! descriptors, and the clock that keeps running while the machine sleeps.
//!
//! Every function here is safe to call: it passes the kernel only memory that it owns for the
//! length of the call.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Connections that the kernel completes ahead of `accept`; it caps this by `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// A file system's own numbers, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total: u64,
    /// What an unprivileged process may still allocate.
    pub available: u64,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A path as the kernel takes it.
///
/// # Errors
/// `InvalidInput` when the path holds a zero byte.
pub fn path_to_c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte in it"))
}

/// An address in the kernel's own layout.
pub struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    pub fn new(address: SocketAddr) -> Self {
        // SAFETY: `sockaddr_storage` is plain data for which all zeros is a valid value.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let len = match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_storage` is at least as large and as aligned as every address
                // type, by definition.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
                mem::size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as for IPv4.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
                mem::size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, len: len as libc::socklen_t }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // Blocking on purpose: the ring fails operations on a non-blocking socket with EAGAIN instead
    // of waiting for them. SAFETY: `socket` takes no pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const ON: libc::c_int = 1;

/// Sets an option whose value is a number, or a structure of the kernel's.
fn set_option<T: Copy>(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: `value` outlives the call and the length is its own.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A listening TCP socket that shares its port with the other cores (`SO_REUSEPORT`). Linux hands
/// `TCP_NODELAY` and the bound on what is unsent down from the listener to what it accepts, so they
/// are set once, here.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(address)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, ON)?;
    set_unsent_max(&socket, UNSENT_BYTES_MAX);
    if address.ip().to_canonical().is_loopback() {
        set_unpaced(&socket);
    }
    let raw = RawAddress::new(address);
    // SAFETY: `raw` outlives the call, and the length is that of the address it holds.
    check(unsafe { libc::bind(socket.as_raw_fd(), raw.as_ptr(), raw.len()) })?;
    // SAFETY: `listen` takes no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), LISTEN_BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

/// A TCP socket to connect to `address` with, not connected yet.
pub fn unconnected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(address)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, ON)?;
    Ok(TcpStream::from(socket))
}

/// Makes operations on a socket fail with `EAGAIN` where they would wait, or not. The ring waits
/// for a blocking socket alone, and a splice must never wait.
pub fn set_blocking(socket: &TcpStream, blocking: bool) -> io::Result<()> {
    socket.set_nonblocking(!blocking)
}

/// Sends what fits into the socket now; `more` says that more follows. `WouldBlock` when nothing
/// fits.
pub fn send_now(socket: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the kernel copies the bytes before the call returns, and their length is their own.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Bytes that lie in the socket since the peer has not acknowledged them (`SIOCOUTQ`); `None` when
/// the kernel doesn't say.
pub fn unacknowledged(socket: &TcpStream) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the number outlives the call. `TIOCOUTQ` is what `SIOCOUTQ` is called here.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    (result == 0).then_some(bytes as usize)
}

/// Bytes that a socket takes beyond what it may send now, unless [`set_unsent_max`] says otherwise.
/// What is in flight comes on top and is as much as the line takes, so this bounds what a peer that
/// doesn't read can have the kernel hold, and no line is slower for it.
pub const UNSENT_BYTES_MAX: usize = 128 << 10;

/// For [`set_unsent_max`]: as much as the send buffer has room for, where the system sets no bound.
pub const AS_THE_KERNEL_LETS: usize = 0;

/// Bounds what a socket takes beyond what it may send now (`TCP_NOTSENT_LOWAT`, tcp(7)). A refusal
/// leaves the bound of the send buffer.
pub fn set_unsent_max(socket: &impl AsRawFd, bytes: usize) {
    let _ = set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes as libc::c_int);
}

/// Has the closing of a socket throw away what it holds and reset the connection (`SO_LINGER` with
/// no time, socket(7)). Otherwise the kernel keeps that for minutes for a peer that takes nothing.
pub fn discard_at_close(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // Can't fail on an open socket.
    let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, linger);
}

/// Whether both ends of a connection are on this machine.
pub fn is_local(socket: &TcpStream) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip() || peer.ip().to_canonical().is_loopback(),
        _ => false,
    }
}

/// Congestion controls that don't pace, the better one first.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// Takes a congestion control that doesn't pace, on a connection within this machine or a listener
/// for such. There is no network to be gentle to, and pacing costs a timer for every few packets:
/// where the default is BBR, sending over loopback took 0.5 to 0.6 s of CPU per GB with it and 0.06
/// without (0.15 when it is changed on an open connection). It is about speed alone, so a refusal
/// changes nothing.
pub fn set_unpaced(socket: &impl AsRawFd) {
    let _ = UNPACED.iter().any(|name| set_congestion_control(socket.as_raw_fd(), name).is_ok());
}

fn set_congestion_control(socket: RawFd, name: &str) -> io::Result<()> {
    // SAFETY: the kernel copies the name before the call returns, and its length is its own.
    check(unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// An event counter: any thread signals it, a poll on a ring sees it.
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: `eventfd` takes no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an event counter. A failure could only mean 2^64 signals, and the poll would have
/// seen those.
pub fn signal_event(event: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` outlives the call and is as long as said.
    let _ = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// The CPUs that this thread may run on, in ascending order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a CPU set is plain data for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` outlives the call and the size is its own.
    check(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) })?;
    // SAFETY: every index is below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Binds the calling thread to one CPU.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    assert!(cpu < libc::CPU_SETSIZE as usize, "CPU {cpu} is past the end of a CPU set");
    // SAFETY: a CPU set is plain data for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the index is below the size of the set, asserted above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` outlives the call and the size is its own.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) }).map(drop)
}

/// Lets the calling thread, and those that it starts from now on, run on these CPUs only.
///
/// # Errors
/// `InvalidInput` when a number is past the end of a CPU set, and what the kernel says when none of
/// them is there.
pub fn restrict_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a CPU set is plain data for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
        }
        // SAFETY: the index is below the size of the set, checked above.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` outlives the call and the size is its own.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) }).map(drop)
}

/// How a thread stands beside others that want its CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheduling {
    /// It runs where nobody else wants to, and whoever wakes takes its place at once
    /// (`SCHED_IDLE`). Taking a thread out of this state again needs a privilege.
    Idle,
    /// Of CPU time that others want, each step of niceness takes a fifth from its share. With a
    /// slice longer than theirs it is the one that waits when others wake, on Linux 6.12 and later;
    /// `None` leaves that to the kernel.
    Normal { niceness: i32, slice: Option<Duration> },
}

/// The calling thread.
pub const THIS_THREAD: i32 = 0;

/// Says how a thread of this process is scheduled, and those that it starts from now on.
///
/// # Errors
/// `PermissionDenied` when that would be more than it had, without `CAP_SYS_NICE` or enough of
/// `RLIMIT_NICE` (sched(7)).
pub fn schedule_thread(thread: i32, scheduling: Scheduling) -> io::Result<()> {
    let (policy, niceness, slice) = match scheduling {
        Scheduling::Idle => (libc::SCHED_IDLE, 0, None),
        Scheduling::Normal { niceness, slice } => (libc::SCHED_OTHER, niceness, slice),
    };
    let attributes = libc::sched_attr {
        size: mem::size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: niceness,
        sched_priority: 0,
        // Of a normal thread this is its slice; 0 is the default.
        sched_runtime: slice.map_or(0, |slice| slice.as_nanos() as u64),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the attributes outlive the call and say their own size, which is all that the kernel
    // reads.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
    check(result as libc::c_int).map(drop)
}

/// Whether a thread of this process is [`Scheduling::Idle`].
pub fn is_scheduled_idle(thread: i32) -> bool {
    // SAFETY: `sched_getscheduler` takes no pointers.
    unsafe { libc::sched_getscheduler(thread) == libc::SCHED_IDLE }
}

/// The niceness of the calling thread.
pub fn niceness() -> i32 {
    // SAFETY: `getpriority` takes no pointers; on Linux 0 is the calling thread, and its niceness
    // is a thread's own. It can't fail for that one.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// The number by which the kernel knows the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: `gettid` takes nothing and can't fail.
    unsafe { libc::gettid() }
}

/// Whether a file was opened to write.
pub fn is_writable(file: &File) -> io::Result<bool> {
    // SAFETY: this command of `fcntl` takes no pointers.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Makes the data of a file durable, with the metadata needed to read it back. The standard
/// library's repeats an interrupted sync; this one does not, because the second may report success
/// for data that the first one lost.
pub fn sync_data(file: &File) -> io::Result<()> {
    // SAFETY: `fdatasync` takes no pointers.
    check(unsafe { libc::fdatasync(file.as_raw_fd()) }).map(drop)
}

/// As [`sync_data`], with all metadata: for directories.
pub fn sync_all(file: &File) -> io::Result<()> {
    // SAFETY: `fsync` takes no pointers.
    check(unsafe { libc::fsync(file.as_raw_fd()) }).map(drop)
}

/// Nanoseconds since the machine was started, those included in which it slept.
pub fn boot_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`; it knows this clock, so it does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The size and the free space of the file system that holds `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = path_to_c(path)?;
    // SAFETY: `statvfs` is plain data for which all zeros is a valid value.
    let mut stat: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: the path is terminated, and both outlive the call.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut stat) })?;
    // Some network file systems report more than there can be.
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
}

/// Bytes of a page of memory.
pub fn page_size() -> usize {
    // SAFETY: `sysconf` takes no pointers, and every kernel knows this value.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The release of the running kernel, such as `6.18.5-arch1`.
pub fn kernel_release() -> io::Result<String> {
    // SAFETY: `utsname` is plain data for which all zeros is a valid value.
    let mut name: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `name` outlives the call.
    check(unsafe { libc::uname(&mut name) })?;
    // SAFETY: the kernel terminated the field, and it was zeroed before.
    Ok(unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned())
}

/// A limit of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Open descriptors.
    Descriptors,
    /// Bytes of locked memory, which the rings of an unprivileged user are charged to.
    LockedMemory,
}

/// Raises a soft limit to the hard one, and says what holds now; `u64::MAX` is no limit.
pub fn raise_limit(limit: Limit) -> io::Result<u64> {
    let resource = match limit {
        Limit::Descriptors => libc::RLIMIT_NOFILE,
        Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::getrlimit(resource, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: `raised` outlives the call.
        if check(unsafe { libc::setrlimit(resource, &raised) }).is_ok() {
            return Ok(raised.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

/// Takes ownership of a descriptor that a completion delivered.
pub(super) fn own_descriptor(fd: RawFd) -> OwnedFd {
    // SAFETY: only `slots` calls this, once for each completion that created a descriptor, so
    // nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_run_on_at_least_one_cpu() {
        assert!(!allowed_cpus().unwrap().is_empty());
    }

    #[test]
    fn a_restricted_thread_runs_on_the_given_cpus_alone() {
        let first = allowed_cpus().unwrap()[0];
        std::thread::spawn(move || {
            restrict_to(&[first]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [first]);
        })
        .join()
        .unwrap();
        assert!(restrict_to(&[libc::CPU_SETSIZE as usize]).is_err());
    }

    #[test]
    fn space_is_total_at_least_available() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total >= space.available && space.total > 0);
    }

    #[test]
    fn listeners_share_a_port() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = listen(first.local_addr().unwrap()).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn addresses_keep_their_family_and_port() {
        for text in ["127.0.0.1:8080", "[::1]:8080"] {
            let listener = match listen(text.replace("8080", "0").parse().unwrap()) {
                Ok(listener) => listener,
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => continue,
                Err(error) => panic!("{error}"),
            };
            let bound = listener.local_addr().unwrap();
            assert_eq!(bound.is_ipv4(), text.starts_with("127"));
            assert_ne!(bound.port(), 0);
        }
    }
}
