//! What this machine gives a process: cores and memory, for the defaults and the upper bounds of
//! the configuration.
//!
//! A container's memory limit counts, because buffers beyond it get the process killed.

use std::fs;
use std::path::{Path, PathBuf};

use super::bounds::{CORES_MAX, MEMORY_DEFAULT_MAX, MEMORY_DEFAULT_MIN, MEMORY_PER_CORE_MIN};

/// What the machine offers, for defaults and upper bounds.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This machine, as the kernel and the control group of this process tell it.
    pub fn this() -> Self {
        Self { cores: cores(), memory_bytes: memory_bytes() }
    }

    pub(super) fn cores_default(&self) -> u16 {
        u16::try_from(self.cores).unwrap_or(CORES_MAX).clamp(1, CORES_MAX)
    }

    pub(super) fn memory_default(&self, cores: u16) -> u64 {
        let quarter = self.memory_bytes.unwrap_or(0) / 4;
        quarter.clamp(MEMORY_DEFAULT_MIN, MEMORY_DEFAULT_MAX).max(u64::from(cores) * MEMORY_PER_CORE_MIN)
    }
}

/// Cores that this process may run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Bytes of memory that this process may use: the machine's, or less when a control group limits
/// it. `None` when the kernel doesn't say.
pub fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of_meminfo(&text))?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_files(&groups).iter().filter_map(|file| limit_of(file)).min();
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The files that can hold a memory limit for the groups in the text of `/proc/self/cgroup`:
/// version 2 (`0::/path`) with all its ancestors, and version 1 (`N:memory:/path`). Inside a
/// container the path can be relative to a root that isn't mounted, so the root is always asked.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files =
        vec![PathBuf::from("/sys/fs/cgroup/memory.max"), PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes")];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(ancestor).join(name));
        }
    }
    files
}

/// `max`, as version 2 writes no limit, is not a number; version 1 writes a number larger than any
/// machine.
fn limit_of(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_meminfo_is_read_in_bytes() {
        assert_eq!(total_of_meminfo("MemFree: 1 kB\nMemTotal:       16303436 kB\n"), Some(16_303_436 * 1024));
        assert_eq!(total_of_meminfo("MemFree: 1 kB\n"), None);
        assert_eq!(total_of_meminfo("MemTotal: many kB\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_the_group_and_its_ancestors() {
        let files = limit_files("12:memory:/docker/abc\n3:cpu,cpuacct:/x\n0::/system.slice/nabu.service\n");
        for expected in [
            "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
            "/sys/fs/cgroup/system.slice/nabu.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ] {
            assert!(files.contains(&PathBuf::from(expected)), "{expected} in {files:?}");
        }
        assert!(
            !files
                .iter()
                .any(|file| file.starts_with("/sys/fs/cgroup/x") || file.starts_with("/sys/fs/cgroup/memory/x"))
        );
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        assert!(cores() >= 1);
        assert!(memory_bytes().expect("/proc/meminfo is there") > 1 << 20);
    }
}
