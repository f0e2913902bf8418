//! How the maintenance thread stands beside others that want a CPU.
//!
//! Its work is a few percent of a CPU, so what it costs a request is not its share but its slice: a
//! request that comes while it runs on that core's CPU waits until it has had its turn, some
//! milliseconds at any niceness. As long as nothing presses it runs as `SCHED_IDLE`, which gives
//! way at once (`benches/background`). But on a machine whose CPUs are never idle such a thread
//! gets next to nothing, and compaction is what keeps the disk from filling up. So when space is
//! short, or a stop waits for it, it becomes a thread like any other.
//!
//! The way back out of `SCHED_IDLE` needs `CAP_SYS_NICE`, or `RLIMIT_NICE` of 20 or more. Without,
//! it is always [`NICENESS`] steps nicer than the cores, with the longest slice there is: threads
//! with shorter ones go first when they wake, from Linux 6.12 on.

use std::cell::Cell;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use crate::ring::sys::{self, Scheduling, THIS_THREAD};

/// Steps of niceness over the cores' where there is no way back from `SCHED_IDLE`. It leaves about
/// a tenth of a CPU that a core wants all of.
const NICENESS: i32 = 10;
const NICENESS_MAX: i32 = 19;
/// The longest that the kernel takes.
const SLICE: Duration = Duration::from_millis(100);

/// Whether a thread of this process may come back from `SCHED_IDLE`. The kernel asks the same there
/// as of one that wants to be less nice (`can_nice`), and that can be tried without the risk of
/// never getting a CPU again.
pub fn may_come_back() -> io::Result<bool> {
    let attempt = thread::Builder::new().name("priority".into()).spawn(|| {
        let before = sys::niceness();
        let set = |niceness| sys::schedule_thread(THIS_THREAD, Scheduling::Normal { niceness, slice: None }).is_ok();
        before < NICENESS_MAX && set(before + 1) && set(before)
    })?;
    Ok(attempt.join().expect("system calls do not panic"))
}

/// The priority of the maintenance thread, and of those that the kernel and `glommio` start for it.
pub struct Priority {
    standing: Standing,
    is_pressing: Cell<bool>,
}

impl Priority {
    /// Lowers that of the calling thread, and of those that were started for it: `blocking` is the
    /// one for blocking calls, and has its name.
    pub fn lowered(may_come_back: bool, blocking: i32) -> Self {
        let standing = Standing { thread: sys::thread_id(), blocking, may_come_back, niceness: sys::niceness() };
        standing.take(false);
        Self { standing, is_pressing: Cell::new(false) }
    }

    /// Space is short, or is not any more.
    pub fn set_pressing(&self, is_pressing: bool) {
        if self.is_pressing.replace(is_pressing) != is_pressing && self.standing.may_come_back {
            tracing::debug!(is_pressing, "the priority of the work in the background changes");
            self.standing.take(is_pressing);
        }
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }
}

/// Where the thread stands among others; known to them, too.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    thread: i32,
    blocking: i32,
    may_come_back: bool,
    /// Before it was lowered.
    niceness: i32,
}

impl Standing {
    /// Has the thread run like those around it from now on: somebody waits for it. To be called
    /// from any thread, while this one lives.
    pub fn raise(&self) {
        self.take(true);
    }

    /// About speed alone, so what is refused stays as it is.
    fn take(&self, is_pressing: bool) {
        for thread in self.threads() {
            let _ = sys::schedule_thread(thread, self.scheduling(is_pressing));
        }
    }

    fn scheduling(&self, is_pressing: bool) -> Scheduling {
        match (self.may_come_back, is_pressing) {
            (true, true) => Scheduling::Normal { niceness: self.niceness, slice: None },
            (true, false) => Scheduling::Idle,
            (false, _) => {
                let niceness = (self.niceness + NICENESS).min(NICENESS_MAX);
                Scheduling::Normal { niceness, slice: Some(SLICE) }
            }
        }
    }

    /// This thread; the one for blocking calls; and the kernel's workers for its rings. Those are
    /// named by a number that is another within a container, so they are told from the cores' by
    /// being idle like this one.
    fn threads(&self) -> Vec<i32> {
        let name = |thread: i32| fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        let own = name(self.thread);
        if own.is_empty() {
            // It has ended, and its number may be that of a stranger's thread.
            return Vec::new();
        }
        let is_for_it = |thread: i32| match thread == self.blocking {
            true => name(thread) == own,
            false => name(thread).starts_with("iou-wrk-") && sys::is_scheduled_idle(thread),
        };
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let threads = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
        let others = threads.filter(|thread| *thread != self.thread && is_for_it(*thread));
        std::iter::once(self.thread).chain(others).collect()
    }
}
