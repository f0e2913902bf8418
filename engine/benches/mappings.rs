//! How long a core waits to map memory while threads of the lowest priority (`SCHED_IDLE`) touch
//! memory for the first time and every CPU is busy: with `MADV_POPULATE_WRITE`, which holds the
//! lock of the whole address space, and by writing to it, as `ring::frames` does.
//!
//! ```text
//! cargo bench -p nabu-engine --bench mappings
//! ```

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4 << 10;
/// What each of the touching threads touches over and over.
const TOUCHED: usize = 256 << 20;
/// What is mapped and unmapped.
const MAPPED: usize = 64 << 20;
/// Between two mappings.
const PAUSE: Duration = Duration::from_micros(200);
const TIME: Duration = Duration::from_secs(20);

static IS_OVER: AtomicBool = AtomicBool::new(false);

fn main() {
    for (name, touch) in [("MADV_POPULATE_WRITE", populate as fn(*mut u8)), ("writing", write)] {
        IS_OVER.store(false, Ordering::Relaxed);
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let took = thread::scope(|scope| {
            for _ in 0..cpus {
                scope.spawn(move || touch_all(touch));
                scope.spawn(keep_busy);
            }
            let took = map_and_unmap();
            IS_OVER.store(true, Ordering::Relaxed);
            took
        });
        let over = |bound| took.iter().filter(|took| **took > bound).count();
        let longest = took.iter().max().expect("at least one");
        println!(
            "{name:20} {} mappings in {TIME:?}, {} over 1 ms, {} over 10 ms, the longest {longest:.1?}",
            took.len(),
            over(Duration::from_millis(1)),
            over(Duration::from_millis(10)),
        );
    }
}

fn map(length: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private anonymous mapping touches no memory that exists.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(mapped, libc::MAP_FAILED, "there is address space");
    mapped.cast()
}

fn map_and_unmap() -> Vec<Duration> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < TIME {
        let began = Instant::now();
        let mapped = map(MAPPED);
        // SAFETY: the mapping is ours, of this length, and unused.
        unsafe { libc::munmap(mapped.cast(), MAPPED) };
        took.push(began.elapsed());
        thread::sleep(PAUSE);
    }
    took
}

fn keep_busy() {
    while !IS_OVER.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

fn touch_all(touch: fn(*mut u8)) {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter is valid for the call; 0 is the calling thread.
    assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) }, 0, "always allowed");
    // Apart from what is mapped beside it, as the frames are.
    let mapped = map(TOUCHED + 2 * HUGE_PAGE);
    // SAFETY: a huge page on either side lies within the mapping.
    let aligned = unsafe { mapped.add(HUGE_PAGE - mapped.addr() % HUGE_PAGE) };
    // SAFETY: the range lies within the mapping; the advice is only about speed.
    unsafe { libc::madvise(aligned.cast(), TOUCHED, libc::MADV_HUGEPAGE) };
    while !IS_OVER.load(Ordering::Relaxed) {
        for offset in (0..TOUCHED).step_by(HUGE_PAGE) {
            // SAFETY: the offset lies within the range.
            touch(unsafe { aligned.add(offset) });
            if IS_OVER.load(Ordering::Relaxed) {
                break;
            }
        }
        // SAFETY: the range is ours, and nobody relies on what it holds.
        unsafe { libc::madvise(aligned.cast(), TOUCHED, libc::MADV_DONTNEED) };
    }
    // SAFETY: the mapping is ours and used no more.
    unsafe { libc::munmap(mapped.cast(), TOUCHED + 2 * HUGE_PAGE) };
}

fn populate(page: *mut u8) {
    // SAFETY: a huge page of ours; populating it changes no contents.
    unsafe { libc::madvise(page.cast(), HUGE_PAGE, libc::MADV_POPULATE_WRITE) };
}

fn write(page: *mut u8) {
    for offset in (0..HUGE_PAGE).step_by(PAGE) {
        // SAFETY: within a huge page of ours.
        unsafe { page.add(offset).write_volatile(0) };
    }
}
