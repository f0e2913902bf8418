//! Memory for large buffers, reused and on huge pages where that works.
//!
//! A fresh MiB costs some 440 µs in page faults on a small virtual machine, and clearing a used one
//! some 30 µs, so used frames are kept: *warm* on the thread that freed them (cleared when given
//! out again), up to [`WARM_MIN`] or what [`keep_warm`] says; beyond that *cold*, in a list that
//! all threads share, after their pages went back to the kernel, which hands out zeros in their
//! place.
//!
//! A frame that a socket may still read from (its pages were spliced) is never kept warm: its pages
//! go back to the kernel, which keeps them alive for as long as the socket needs them, and the next
//! user of the address gets other ones. For a whole huge page that is cheap; a part of one is
//! broken out of it, and the kernel takes the rest apart when it needs memory. Smaller frames lie
//! on huge pages all the same: who receives spliced pages copies from them in half the time (0.13
//! against 0.23 s of CPU per GB).
//!
//! The first touch of memory is the dearest: where the host of a virtual machine takes free memory
//! back (free page reporting), it was 3 s of CPU per GB, against 0.1 for memory that was in use a
//! moment ago. So whole huge pages can be made *ready* ahead of their use, on threads that have
//! nothing better to do; they are given out after the warm ones and before the cold ones.
//!
//! Such a thread may be without a CPU for long, and others should not wait for it. So it holds no
//! lock of the address space while it touches memory: from Linux 6.4 on a page fault locks its own
//! mapping alone (but for the first one there), where `MADV_POPULATE_WRITE` locks all of them;
//! before 6.4 both do. Mappings are kept apart so that a new one changes no other, none is made
//! under a lock of ours, and whoever needs a frame does without a ready one rather than wait for
//! the list.
//!
//! Invariants: a frame is owned by one buffer, or in one list. Its memory is initialised, with
//! zeros at first. Address space is never given back, so it is bounded by the most that was ever in
//! use at once (and the warm lists).

use std::cell::RefCell;
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, Thread, ThreadId};
use std::time::Duration;

/// Smaller buffers are left to the allocator.
pub(super) const FRAME_MIN: usize = 64 << 10;
/// Larger buffers are left to the allocator.
pub(super) const FRAME_MAX: usize = REGION;
/// Sizes are rounded up to multiples of this.
pub(super) const UNIT: usize = 16 << 10;
/// A huge page.
pub const REGION: usize = 2 << 20;
/// Bytes of address space that are mapped at once for whole huge pages, and for smaller frames or
/// where there is no more.
const MAPPED_AT_ONCE_MAX: usize = 256 << 20;
const MAPPED_AT_ONCE_MIN: usize = 32 << 20;
/// How often the list of ready frames is tried before a cold one is taken.
const READY_TRIES: u32 = 100;
/// What is in use may grow by this much from the start whatever it costs.
const GROWTH_MIN: usize = 512 << 20;
/// The smallest page.
const PAGE: usize = 4 << 10;
/// Bytes that a thread keeps warm, if nobody says more; and the most.
const WARM_MIN: usize = 32 << 20;
const WARM_MAX: usize = 128 << 20;
const CLASSES: usize = FRAME_MAX / UNIT;

const _: () = assert!(FRAME_MAX.is_multiple_of(UNIT) && UNIT.is_power_of_two());

type Lists = [Vec<Frame>; CLASSES];

/// The start of a frame that nobody uses.
struct Frame(NonNull<u8>);

// SAFETY: a frame in a list is memory that nobody points to; it may be given out on any thread.
unsafe impl Send for Frame {}

struct Warm {
    frames: Lists,
    bytes: usize,
}

static COLD: Mutex<Lists> = Mutex::new([const { Vec::new() }; CLASSES]);

/// Whole huge pages that the kernel has backed with memory, and how many: stored under the lock.
static READY: Mutex<Vec<Frame>> = Mutex::new(Vec::new());
static READY_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Huge pages that were given out and had not been in use before, ready or not: how fast what is in
/// use grows.
static GROWN_COUNT: AtomicUsize = AtomicUsize::new(0);
/// See [`keep_warm`].
static WARM_BYTES: AtomicUsize = AtomicUsize::new(WARM_MIN);
/// Whether the first touch of memory costs much; see [`set_first_touch_dear`].
static FIRST_TOUCH_IS_DEAR: AtomicBool = AtomicBool::new(false);
/// The threads that make frames ready, told in turn when one is taken.
static MAKERS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

thread_local! {
    static WARM: RefCell<Warm> = const { RefCell::new(Warm { frames: [const { Vec::new() }; CLASSES], bytes: 0 }) };
}

/// Whether buffers of this length are made of frames.
pub(super) fn serves(len: usize) -> bool {
    (FRAME_MIN..=FRAME_MAX).contains(&len)
}

fn class_of(len: usize) -> usize {
    len.div_ceil(UNIT) - 1
}

fn size_of_class(class: usize) -> usize {
    (class + 1) * UNIT
}

/// Bytes of memory that a frame for `len` bytes takes.
pub(super) fn footprint(len: usize) -> usize {
    size_of_class(class_of(len))
}

/// What the memory of a frame holds when it is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Zeros,
    /// Whatever its last user left there.
    Stale,
}

/// A frame of at least `len` bytes; `None` when there is no memory.
pub(super) fn take(len: usize, content: Content) -> Option<NonNull<u8>> {
    debug_assert!(serves(len));
    let class = class_of(len);
    if let Ok(Some(frame)) = WARM.try_with(|warm| warm.borrow_mut().pop(class)) {
        if content == Content::Zeros {
            // SAFETY: the frame is at least `len` bytes long and nobody else's.
            unsafe { frame.0.as_ptr().write_bytes(0, len) };
        }
        return Some(frame.0);
    }
    if class == CLASSES - 1 {
        let grown = GROWN_COUNT.fetch_add(1, Ordering::Relaxed);
        if let Some(frame) = take_ready(grown) {
            // It was never used since the kernel cleared it.
            return Some(frame.0);
        }
    }
    take_cold(class).map(|frame| frame.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a lock guards here is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_cold(class: usize) -> Option<Frame> {
    let found = lock(&COLD)[class].pop();
    if found.is_some() {
        return found;
    }
    let mut mapped = Vec::new();
    map(class, &mut mapped);
    let frame = mapped.pop();
    lock(&COLD)[class].append(&mut mapped);
    frame
}

fn take_ready(turn: usize) -> Option<Frame> {
    if READY_COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let frame = pop_ready(try_lock(&READY)?)?;
    if let Some(makers) = try_lock(&MAKERS)
        && !makers.is_empty()
    {
        makers[turn % makers.len()].unpark();
    }
    Some(frame)
}

fn pop_ready(mut ready: MutexGuard<'_, Vec<Frame>>) -> Option<Frame> {
    let frame = ready.pop();
    READY_COUNT.store(ready.len(), Ordering::Relaxed);
    frame
}

/// The lock of a list that a maker may hold, unless it holds it for long: it has no CPU then.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..READY_TRIES {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => spin_loop(),
        }
    }
    None
}

/// Bytes of memory that are ready.
pub fn ready_bytes() -> usize {
    READY_COUNT.load(Ordering::Relaxed) * REGION
}

/// Bytes in huge pages by which the memory in use has grown since the start; what shrank meanwhile
/// is not taken off.
pub fn grown_bytes() -> usize {
    GROWN_COUNT.load(Ordering::Relaxed).wrapping_mul(REGION)
}

/// Has each thread keep this much warm, within the bounds. What comes and goes beyond it is touched
/// for the first time again and again: where that is dear, 6 ms for a huge page in which the thread
/// does nothing else.
pub fn keep_warm(bytes: usize) {
    WARM_BYTES.store(bytes.clamp(WARM_MIN, WARM_MAX), Ordering::Relaxed);
}

/// Says whether the first touch of memory costs much, for as long as what is in use grows. Of all
/// stores of this process: the last word counts.
pub fn set_first_touch_dear(is_dear: bool) {
    FIRST_TOUCH_IS_DEAR.store(is_dear, Ordering::Relaxed);
}

/// Whether one more huge page may be put to use by somebody who can do without: it costs little,
/// or one is ready, or few were used so far.
pub fn may_grow() -> bool {
    !FIRST_TOUCH_IS_DEAR.load(Ordering::Relaxed) || ready_bytes() > 0 || grown_bytes() < GROWTH_MIN
}

/// The right of a thread to make frames ready: it is unparked when some are taken.
pub struct Maker(ThreadId);

/// A frame that was made ready.
pub struct Made {
    pub bytes: usize,
    /// Of the calling thread.
    pub cpu_time: Duration,
}

impl Maker {
    /// For the calling thread.
    pub fn register() -> Self {
        let thread = thread::current();
        let id = thread.id();
        lock(&MAKERS).push(thread);
        Self(id)
    }

    /// Makes one more frame ready; `None` when there is no address space for it.
    pub fn make_ready(&self) -> Option<Made> {
        let frame = take_cold(CLASSES - 1)?;
        let began = cpu_time_of_thread();
        for offset in (0..REGION).step_by(PAGE) {
            // SAFETY: the offset lies within a frame of ours that nobody uses. A cold one holds
            // zeros, and does so afterwards.
            unsafe { frame.0.as_ptr().add(offset).write_volatile(0) };
        }
        let mut ready = lock(&READY);
        ready.push(frame);
        READY_COUNT.store(ready.len(), Ordering::Relaxed);
        drop(ready);
        Some(Made { bytes: REGION, cpu_time: cpu_time_of_thread().saturating_sub(began) })
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        lock(&MAKERS).retain(|thread| thread.id() != self.0);
    }
}

/// Gives the memory of all frames that are ready back to the kernel.
pub fn give_up_ready() {
    loop {
        let Some(frame) = pop_ready(lock(&READY)) else { return };
        cool(frame, CLASSES - 1);
    }
}

fn cpu_time_of_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`; it knows this clock, so it does not fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Takes a frame back. `spliced`: sockets may still read its pages.
///
/// # Safety
/// `frame` came from [`take`] with a length of the same class, and nobody uses it any more.
pub(super) unsafe fn give_back(frame: NonNull<u8>, len: usize, spliced: bool) {
    let class = class_of(len);
    let size = size_of_class(class);
    if spliced {
        return cool(Frame(frame), class);
    }
    let kept = WARM.try_with(|warm| {
        let mut warm = warm.borrow_mut();
        let fits = warm.bytes + size <= WARM_BYTES.load(Ordering::Relaxed);
        if fits {
            warm.bytes += size;
            warm.frames[class].push(Frame(frame));
        }
        fits
    });
    if !kept.unwrap_or(false) {
        cool(Frame(frame), class);
    }
}

/// Gives the pages of a frame back to the kernel and its address to the shared list.
fn cool(frame: Frame, class: usize) {
    // SAFETY: the range is a frame of ours that nobody uses. Its private anonymous pages read as
    // zeros afterwards.
    let result = unsafe { libc::madvise(frame.0.as_ptr().cast(), size_of_class(class), libc::MADV_DONTNEED) };
    // Only a range that is not mapped, or locked memory, can fail. Such a frame is lost rather than
    // given out with old contents.
    if result == 0 {
        lock(&COLD)[class].push(frame);
    }
}

/// Maps frames of one class, on huge pages. Those of a whole one are aligned to it: a large buffer
/// then is one piece of physical memory for the disk, and one entry of the page table for the
/// processor.
fn map(class: usize, frames: &mut Vec<Frame>) {
    let most = if class == CLASSES - 1 { MAPPED_AT_ONCE_MAX } else { MAPPED_AT_ONCE_MIN };
    if !map_bytes(most, class, frames) {
        // The limit of the process, or strict accounting.
        map_bytes(MAPPED_AT_ONCE_MIN, class, frames);
    }
}

/// The same for so many bytes; false if there is no address space for them.
fn map_bytes(bytes: usize, class: usize, frames: &mut Vec<Frame>) -> bool {
    let size = size_of_class(class);
    let len = bytes / size * size;
    let slack = 2 * REGION;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new private anonymous mapping touches no memory that exists.
    let raw = unsafe {
        libc::mmap(std::ptr::null_mut(), len + slack, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if raw == libc::MAP_FAILED {
        return false;
    }
    let mapped = raw.cast::<u8>();
    // A gap on either side, so that the kernel does not make one mapping of two: that would wait
    // for whoever touches memory in the other.
    let lead = match mapped.align_offset(REGION) {
        0 => REGION,
        lead => lead,
    };
    // SAFETY: the lead is at least a page and shorter than the slack, so the aligned region lies
    // within the mapping; what is cut off before and behind it is ours and unused, a multiple of
    // the page size as `len` is, and the advice is only about speed.
    let start = unsafe {
        let start = mapped.add(lead);
        libc::munmap(raw, lead);
        libc::munmap(start.add(len).cast(), slack - lead);
        libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE);
        start
    };
    for offset in (0..len).step_by(size) {
        // SAFETY: the offset lies within the region, so the sum is neither null nor out of bounds.
        frames.push(Frame(unsafe { NonNull::new_unchecked(start.add(offset)) }));
    }
    true
}

impl Warm {
    fn pop(&mut self, class: usize) -> Option<Frame> {
        let frame = self.frames[class].pop()?;
        self.bytes -= size_of_class(class);
        Some(frame)
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            while let Some(frame) = self.pop(class) {
                cool(frame, class);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::keep_warm;
    use crate::ring::buffer::{AlignedBuf, BLOCK_SIZE};

    #[test]
    fn a_reused_buffer_is_zero_again_over_its_whole_length() {
        let lengths =
            [BLOCK_SIZE, 64 << 10, (64 << 10) + BLOCK_SIZE, 1 << 20, (1 << 20) + BLOCK_SIZE, 2 << 20, 3 << 20];
        for _ in 0..3 {
            for len in lengths {
                let mut buf = AlignedBuf::zeroed(len);
                assert_eq!(buf.capacity(), len);
                assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_SIZE));
                assert!(buf.iter().all(|&byte| byte == 0), "{len}");
                buf.fill(0xee);
            }
        }
    }

    #[test]
    fn more_than_is_kept_warm_comes_back_as_zeros() {
        for _ in 0..2 {
            let mut bufs: Vec<_> = (0..48).map(|_| AlignedBuf::zeroed(1 << 20)).collect();
            for buf in &mut bufs {
                assert!(buf.iter().all(|&byte| byte == 0));
                buf.fill(0xee);
            }
        }
    }

    /// Page faults of the calling thread so far.
    fn page_faults() -> i64 {
        // SAFETY: plain integers, for which zeros are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid for writes.
        let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(result, 0);
        usage.ru_minflt
    }

    #[test]
    fn what_is_to_be_kept_warm_is_not_touched_for_the_first_time_again() {
        keep_warm(100 << 20);
        let faults_of_a_round = || {
            let before = page_faults();
            let mut bufs: Vec<_> = (0..80).map(|_| AlignedBuf::zeroed(1 << 20)).collect();
            bufs.iter_mut().for_each(|buf| buf.fill(0xee));
            page_faults() - before
        };
        let first = faults_of_a_round();
        let again = faults_of_a_round();
        assert!(again < 10, "{again} page faults, and {first} at first");
    }

    #[test]
    fn buffers_of_one_time_do_not_overlap() {
        let mut bufs: Vec<_> = (0..40).map(|number| AlignedBuf::zeroed((number % 5 + 1) * (64 << 10))).collect();
        for (number, buf) in bufs.iter_mut().enumerate() {
            buf.fill(number as u8);
        }
        for (number, buf) in bufs.iter().enumerate() {
            assert!(buf.iter().all(|&byte| byte == number as u8));
        }
    }

    #[test]
    fn a_buffer_may_be_freed_on_another_thread() {
        for _ in 0..20 {
            let mut buf = AlignedBuf::zeroed(256 << 10);
            assert!(buf.iter().all(|&byte| byte == 0));
            buf.fill(0xee);
            std::thread::spawn(move || drop(buf)).join().unwrap();
        }
    }
}
