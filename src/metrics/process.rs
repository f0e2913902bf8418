//! What the kernel knows of this process, read from `/proc` when it is asked for: a few files of a
//! line or two each.

use std::fs;
use std::time::{Duration, SystemTime};

/// Clock ticks a second in what `/proc` shows: part of the kernel's interface, the same on every
/// machine that Linux is built for today.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of what `/proc/self/status` calls a kB.
const KIB: u64 = 1024;

/// The process in numbers; `None` where the kernel does not say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Process {
    /// Seconds since 1970.
    pub start_time_seconds: f64,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    /// Linux 6.2 and later.
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
}

impl Process {
    pub fn read(started_at: SystemTime) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // The directory says how many entries it has. Listing them would take milliseconds with
        // many connections, so an older kernel, which says 0, is left at that.
        let open_fds = fs::metadata("/proc/self/fd").map(|directory| directory.len()).ok().filter(|count| *count > 0);
        let since_1970 = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            start_time_seconds: since_1970.as_secs_f64(),
            cpu_seconds: seconds_of(std::process::id()),
            resident_bytes: number_after(&status, "VmRSS:").map(|kib| kib * KIB),
            threads: number_after(&status, "Threads:"),
            open_fds,
            max_fds: number_after(&limits, "Max open files"),
        }
    }
}

/// The first number behind a label at the start of a line.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Seconds of CPU that a process has used, in user and kernel; of all its threads, the ended ones
/// too. `None` when it is gone or hidden.
pub fn seconds_of(pid: u32) -> Option<f64> {
    seconds_of_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn seconds_of_stat(text: &str) -> Option<f64> {
    // The name of the program, in parentheses, may hold anything; the numbers follow the last one.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some((user + kernel) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_confuse_the_numbers() {
        let text = "17 (a) b (x)) S 1 2 3 4 5 6 7 8 9 10 150 75 0 0 20 0 3 0 100\n";
        assert_eq!(seconds_of_stat(text), Some(2.25));
        assert_eq!(seconds_of_stat("17 (a) S 1"), None);
        assert_eq!(seconds_of_stat(""), None);
    }

    #[test]
    fn numbers_are_found_behind_their_label() {
        let text = "Name:\tx\nVmRSS:\t  5028 kB\nThreads:\t3\n";
        assert_eq!(number_after(text, "VmRSS:"), Some(5028));
        assert_eq!(number_after(text, "Threads:"), Some(3));
        assert_eq!(number_after(text, "VmSwap:"), None);
        let limits = "Max open files            1024                 524288               files     \n";
        assert_eq!(number_after(limits, "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files            unlimited   unlimited   files\n", "Max open files"), None);
    }

    #[test]
    fn a_process_has_memory_and_threads_and_descriptors() {
        let process = Process::read(SystemTime::now());
        assert!(
            process.resident_bytes.is_some_and(|bytes| bytes > 0) && process.threads.is_some_and(|count| count > 0)
        );
        assert!(process.cpu_seconds.is_some_and(|seconds| seconds >= 0.0) && process.start_time_seconds > 1.7e9);
    }
}
