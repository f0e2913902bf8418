//! What the ring needs of this machine, checked once at start.
//!
//! [`Facts`] are gathered in one place and judged in another, so that every message can be tested
//! without the kernel that would cause it. A message says what is wrong and how to fix it; nothing
//! weaker than what is asked for is used silently.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;

use io_uring::{Probe, opcode};

use super::setup;
use super::sys::{self, Limit};

/// The oldest kernel that has everything: deferred task work, single issuer and zero-copy sends.
pub const KERNEL_FLOOR: (u32, u32) = (6, 1);
/// The size of memory pages that buffers and frames are laid out for.
const PAGE_SIZE: usize = 4096;
/// Open descriptors below which a server is likely to run out of them.
pub const DESCRIPTORS_ADVISED: u64 = 1024;
/// Entries of the ring that is made to look at the kernel.
const PROBE_ENTRIES: u32 = 8;

/// The operations that are used, by the names of their manual page.
const OPERATIONS: &[(u8, &str)] = &[
    (opcode::Read::CODE, "IORING_OP_READ"),
    (opcode::Write::CODE, "IORING_OP_WRITE"),
    (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
    (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE"),
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT"),
    (opcode::RenameAt::CODE, "IORING_OP_RENAMEAT"),
    (opcode::UnlinkAt::CODE, "IORING_OP_UNLINKAT"),
    (opcode::MkDirAt::CODE, "IORING_OP_MKDIRAT"),
    (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
    (opcode::Connect::CODE, "IORING_OP_CONNECT"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
    (opcode::SendZc::CODE, "IORING_OP_SEND_ZC"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
];

/// What was found on this machine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As `uname -r` has it.
    pub kernel_release: String,
    /// Bytes of a page of memory.
    pub page_size: usize,
    /// `kernel.io_uring_disabled`; `None` where the kernel has no such switch.
    pub disabled: Option<u32>,
    /// The error number of setting a ring up.
    pub setup_error: Option<i32>,
    /// Operations that the kernel does not know.
    pub missing_operations: Vec<&'static str>,
    /// Completions may be lost when their queue is full.
    pub drops_completions: bool,
    /// How many descriptors may be open, after raising the soft limit.
    pub descriptors_max: u64,
    /// How much memory may be locked, in bytes, after raising the soft limit.
    pub locked_memory_max: u64,
}

/// Why the ring cannot be used here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeError {
    KernelTooOld { release: String },
    PageSize { page_size: usize },
    Disabled { level: u32 },
    Forbidden { errno: i32 },
    OutOfMemory { locked_memory_max: u64 },
    TooManyDescriptors { descriptors_max: u64 },
    SetupFailed { errno: i32, release: String },
    MissingOperations { names: Vec<&'static str>, release: String },
    DropsCompletions { release: String },
}

/// What works, but not well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeWarning {
    FewDescriptors { descriptors_max: u64 },
}

impl Facts {
    /// Looks at this machine, and raises the soft limits of open descriptors and locked memory to
    /// the hard ones.
    pub fn gather() -> io::Result<Facts> {
        let descriptors_max = sys::raise_limit(Limit::Descriptors)?;
        let locked_memory_max = sys::raise_limit(Limit::LockedMemory)?;
        let mut facts = Facts {
            kernel_release: sys::kernel_release()?,
            page_size: sys::page_size(),
            disabled: fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            setup_error: None,
            missing_operations: Vec::new(),
            drops_completions: false,
            descriptors_max,
            locked_memory_max,
        };
        match setup::build(PROBE_ENTRIES, PROBE_ENTRIES * 2) {
            Ok(uring) => {
                let mut probe = Probe::new();
                uring.submitter().register_probe(&mut probe)?;
                facts.missing_operations =
                    OPERATIONS.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
                facts.drops_completions = !uring.params().is_feature_nodrop();
            }
            Err(error) => facts.setup_error = Some(error.raw_os_error().unwrap_or(libc::EIO)),
        }
        Ok(facts)
    }

    /// Whether the ring can be used here, and what should be fixed even so.
    pub fn judge(&self) -> Result<Vec<ProbeWarning>, ProbeError> {
        let release = self.kernel_release.clone();
        // The kernel's age explains every other failure, so it goes first. A release that cannot be
        // read is no reason to refuse.
        if parse_release(&release).is_some_and(|version| version < KERNEL_FLOOR) {
            return Err(ProbeError::KernelTooOld { release });
        }
        if self.page_size != PAGE_SIZE {
            return Err(ProbeError::PageSize { page_size: self.page_size });
        }
        match (self.setup_error, self.disabled) {
            (None, _) => {}
            (Some(libc::EPERM), Some(level @ 1..)) => return Err(ProbeError::Disabled { level }),
            (Some(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)), _) => {
                return Err(ProbeError::Forbidden { errno });
            }
            (Some(libc::ENOMEM), _) => {
                return Err(ProbeError::OutOfMemory { locked_memory_max: self.locked_memory_max });
            }
            (Some(libc::EMFILE | libc::ENFILE), _) => {
                return Err(ProbeError::TooManyDescriptors { descriptors_max: self.descriptors_max });
            }
            (Some(errno), _) => return Err(ProbeError::SetupFailed { errno, release }),
        }
        if !self.missing_operations.is_empty() {
            return Err(ProbeError::MissingOperations { names: self.missing_operations.clone(), release });
        }
        if self.drops_completions {
            return Err(ProbeError::DropsCompletions { release });
        }
        let mut warnings = Vec::new();
        if self.descriptors_max < DESCRIPTORS_ADVISED {
            warnings.push(ProbeWarning::FewDescriptors { descriptors_max: self.descriptors_max });
        }
        Ok(warnings)
    }
}

/// Gathers, judges, and logs the warnings.
pub fn check() -> io::Result<()> {
    let warnings = Facts::gather()?.judge().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl fmt::Display for ProbeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = KERNEL_FLOOR;
        match self {
            ProbeError::KernelTooOld { release } => {
                write!(
                    formatter,
                    "Linux {release} is too old: version {major}.{minor} or later is needed (io_uring with deferred task work)"
                )
            }
            ProbeError::PageSize { page_size } => write!(
                formatter,
                "this kernel has pages of {} KiB, and the buffers are laid out for {} KiB: boot a kernel with pages of that size",
                page_size / 1024,
                PAGE_SIZE / 1024
            ),
            ProbeError::Disabled { level: 1 } => formatter.write_str(
                "io_uring is disabled for unprivileged processes (kernel.io_uring_disabled = 1): allow it with \
                 `sysctl kernel.io_uring_disabled=0`, or put this user into the group that kernel.io_uring_group names",
            ),
            ProbeError::Disabled { level } => write!(
                formatter,
                "io_uring is disabled on this machine (kernel.io_uring_disabled = {level}): allow it with \
                 `sysctl kernel.io_uring_disabled=0`"
            ),
            ProbeError::Forbidden { errno } => write!(
                formatter,
                "io_uring is forbidden to this process ({}), most likely by the seccomp profile of its container: run the \
                 container with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (Docker and Podman: \
                 `--security-opt seccomp=unconfined`; systemd: remove them from SystemCallFilter)",
                io::Error::from_raw_os_error(*errno)
            ),
            ProbeError::OutOfMemory { locked_memory_max } => write!(
                formatter,
                "the kernel has no memory for a ring, and {} KiB may be locked by this user: raise that limit (`ulimit -Hl`, \
                 LimitMEMLOCK= in systemd; 1 MiB for each core is plenty), or the memory limit of the container",
                locked_memory_max / 1024
            ),
            ProbeError::TooManyDescriptors { descriptors_max } => write!(
                formatter,
                "no descriptor is left for a ring (at most {descriptors_max} may be open): raise the limit (`ulimit -n`, LimitNOFILE= \
                 in systemd)"
            ),
            ProbeError::SetupFailed { errno, release } => write!(
                formatter,
                "a ring cannot be set up on Linux {release}: {}; does a sandbox stand between this process and the kernel?",
                io::Error::from_raw_os_error(*errno)
            ),
            ProbeError::MissingOperations { names, release } => write!(
                formatter,
                "Linux {release} lacks {}: use an unmodified kernel {major}.{minor} or later",
                names.join(", ")
            ),
            ProbeError::DropsCompletions { release } => write!(
                formatter,
                "Linux {release} lacks IORING_FEAT_NODROP: use an unmodified kernel {major}.{minor} or later"
            ),
        }
    }
}

impl Error for ProbeError {}

impl fmt::Display for ProbeWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeWarning::FewDescriptors { descriptors_max } => write!(
                formatter,
                "only {descriptors_max} descriptors may be open, and each connection takes one: raise the hard limit to {DESCRIPTORS_ADVISED} \
                 or more (`ulimit -Hn`, LimitNOFILE= in systemd)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            kernel_release: "6.18.5-arch1".into(),
            page_size: PAGE_SIZE,
            disabled: Some(0),
            setup_error: None,
            missing_operations: Vec::new(),
            drops_completions: false,
            descriptors_max: 20_000,
            locked_memory_max: 8 << 20,
        }
    }

    fn message(facts: Facts) -> String {
        facts.judge().expect_err("these facts forbid a ring").to_string()
    }

    #[test]
    fn a_good_machine_has_neither_errors_nor_warnings() {
        assert_eq!(good().judge(), Ok(Vec::new()));
    }

    #[test]
    fn this_machine_can_be_probed() {
        let facts = Facts::gather().unwrap();
        assert!(parse_release(&facts.kernel_release).is_some(), "{}", facts.kernel_release);
        facts.judge().unwrap();
    }

    #[test]
    fn an_old_kernel_is_named_whatever_else_fails() {
        for release in ["5.15.0-91-generic", "6.0.19", "4.18.0-513.el8"] {
            let text = message(Facts { kernel_release: release.into(), setup_error: Some(libc::EINVAL), ..good() });
            assert!(text.contains(release) && text.contains("6.1 or later"), "{text}");
        }
        for release in ["6.1.0", "6.1", "7.0-rc1", "unreadable"] {
            assert!(Facts { kernel_release: release.into(), ..good() }.judge().is_ok(), "{release}");
        }
    }

    #[test]
    fn other_pages_than_the_buffers_are_made_for_are_named() {
        let text = message(Facts { page_size: 64 << 10, setup_error: Some(libc::EINVAL), ..good() });
        assert!(text.contains("64 KiB") && text.contains("for 4 KiB"), "{text}");
    }

    #[test]
    fn the_switch_of_the_kernel_is_named_with_its_level() {
        let text = message(Facts { disabled: Some(1), setup_error: Some(libc::EPERM), ..good() });
        assert!(text.contains("io_uring_disabled = 1") && text.contains("io_uring_group"), "{text}");
        let text = message(Facts { disabled: Some(2), setup_error: Some(libc::EPERM), ..good() });
        assert!(text.contains("io_uring_disabled = 2") && text.contains("sysctl"), "{text}");
    }

    #[test]
    fn the_switch_does_not_matter_to_a_process_that_may_use_the_ring() {
        assert!(Facts { disabled: Some(1), ..good() }.judge().is_ok());
    }

    #[test]
    fn a_refusal_without_the_switch_points_to_seccomp() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
            let text = message(Facts { disabled: Some(0), setup_error: Some(errno), ..good() });
            assert!(text.contains("seccomp") && text.contains("io_uring_setup"), "{text}");
        }
    }

    #[test]
    fn missing_operations_are_named() {
        let missing_operations = vec!["IORING_OP_SEND_ZC", "IORING_OP_MSG_RING"];
        let text = message(Facts { missing_operations, ..good() });
        assert!(text.contains("IORING_OP_SEND_ZC, IORING_OP_MSG_RING"), "{text}");
    }

    #[test]
    fn limits_are_named_with_the_way_to_raise_them() {
        let text = message(Facts { setup_error: Some(libc::ENOMEM), locked_memory_max: 64 << 10, ..good() });
        assert!(text.contains("64 KiB") && text.contains("ulimit -Hl") && text.contains("LimitMEMLOCK"), "{text}");
        let text = message(Facts { setup_error: Some(libc::EMFILE), descriptors_max: 16, ..good() });
        assert!(text.contains("at most 16") && text.contains("ulimit -n"), "{text}");
        let warnings = Facts { descriptors_max: 256, ..good() }.judge().unwrap();
        assert_eq!(warnings, [ProbeWarning::FewDescriptors { descriptors_max: 256 }]);
        assert!(warnings[0].to_string().contains("LimitNOFILE"), "{}", warnings[0]);
    }

    #[test]
    fn other_failures_keep_the_system_s_own_words() {
        let text = message(Facts { setup_error: Some(libc::EINVAL), ..good() });
        assert!(text.contains("Invalid argument") && text.contains("6.18.5"), "{text}");
        assert!(message(Facts { drops_completions: true, ..good() }).contains("NODROP"));
    }
}
