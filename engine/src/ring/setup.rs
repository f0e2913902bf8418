//! Making a ring: its flags, the sizes of its queues, and the threads that the kernel may use for
//! it.
//!
//! Not here: what runs on it ([`super::driver`]), and whether this machine can have one
//! ([`super::probe`]).

use std::io;

use io_uring::IoUring;

/// Entries of the submission and completion queues, the first that the kernel has memory for. A
/// submission queue holds what one round submits in a single call; the completion queue is much
/// larger, since operations in flight are not bounded by it and an overflow is slow. The first
/// takes some 170 KiB of the memory that an unprivileged user may lock, which is 8 MiB by default:
/// enough for 48 cores.
pub(super) const QUEUE_SIZES: [(u32, u32); 3] = [(512, 8192), (256, 2048), (64, 256)];
/// Threads on which the kernel does for a ring what it can't do at once. By default some four a
/// CPU, and then a disk that does not answer holds all of them, and the syncs of the other disks
/// wait. They exist only while they are needed.
const WORKERS_MAX: u32 = 1024;

/// The flags every ring is set up with. Never weakened silently: the probe says what is missing.
pub(super) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .setup_clamp()
        .build(submissions)
}

/// Lets the kernel use many threads for a ring.
pub(super) fn bound_workers(uring: &IoUring) {
    if let Err(error) = uring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, 0]) {
        tracing::debug!(%error, "the kernel keeps its own bound on the threads of a ring");
    }
}
