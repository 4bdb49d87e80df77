//! Start-up checks with precise reasons: what a host may lack, told apart and explained.

use std::fs;
use std::io;

use io_uring::{IoUring, opcode};

use crate::error::DriverError;

/// glommio makes no executor below this limit on locked memory.
const MEMLOCK_NEEDED_BYTES: u64 = 512 << 10;
/// Descriptors that a node needs beside its connections: listeners, rings, eventfds, logs, data files.
const FILES_RESERVE: u64 = 256;

/// The ring's setup; see `uring.rs` for the reasons.
pub(crate) fn builder(entries: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(entries.saturating_mul(4))
        .dontfork();
    builder
}

/// Checks that this process may use `io_uring` and that the kernel has all that the driver uses.
///
/// # Errors
/// Missing, disabled, blocked or too old, each with what to do.
pub fn check_uring() -> Result<(), DriverError> {
    let ring = builder(8).build(8).map_err(explain_setup)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(explain_setup)?;
    let opcodes = [
        (opcode::AcceptMulti::CODE, "accept in io_uring"),
        (opcode::RecvMulti::CODE, "recv in io_uring"),
        (opcode::Send::CODE, "send in io_uring"),
        (opcode::SendMsg::CODE, "sendmsg in io_uring"),
        (opcode::AsyncCancel::CODE, "cancel in io_uring"),
    ];
    match opcodes.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, feature)) => Err(DriverError::KernelTooOld { release: kernel_release(), feature }),
        None => Ok(()),
    }
}

/// Why a ring could not be made.
pub(crate) fn explain_setup(source: io::Error) -> DriverError {
    explain(source, uring_disabled(), kernel_release())
}

fn explain(source: io::Error, disabled: u32, release: String) -> DriverError {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => DriverError::UringMissing,
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => DriverError::UringDisabled { value: disabled },
        Some(libc::EPERM | libc::EACCES) => DriverError::UringBlocked,
        // Unknown setup flags are invalid arguments; the newest of them came with 6.1, as did or before
        // it multishot receive, provided-buffer rings and synchronous cancel.
        Some(libc::EINVAL) => {
            DriverError::KernelTooOld { release, feature: "deferred task work in io_uring (DEFER_TASKRUN)" }
        }
        _ => DriverError::System { call: "io_uring_setup", source },
    }
}

/// `kernel.io_uring_disabled`; kernels before 6.6 have no such switch.
fn uring_disabled() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Checks the limit on locked memory, raising the soft limit to the hard one if that helps.
///
/// # Errors
/// [`DriverError::MemlockTooSmall`] if the hard limit is too small.
pub fn check_memlock() -> Result<(), DriverError> {
    let limit_bytes = raise_limit(libc::RLIMIT_MEMLOCK, MEMLOCK_NEEDED_BYTES)?;
    if limit_bytes < MEMLOCK_NEEDED_BYTES {
        return Err(DriverError::MemlockTooSmall { limit_bytes, needed_bytes: MEMLOCK_NEEDED_BYTES });
    }
    Ok(())
}

/// Raises the limit on open files so that `connections` fit, and returns what it is then. A ring's
/// file table ([`crate::DriverTuning::slots`]) cannot be larger than this limit.
///
/// # Errors
/// [`DriverError::FilesTooFew`] if the hard limit is too small.
pub fn raise_file_limit(connections: u32) -> Result<u64, DriverError> {
    let needed = u64::from(connections) + FILES_RESERVE;
    let limit = raise_limit(libc::RLIMIT_NOFILE, needed)?;
    if limit < needed {
        return Err(DriverError::FilesTooFew { limit, needed });
    }
    Ok(limit)
}

/// Raises a soft limit to at least `wanted` as far as the hard limit (and, with the privilege, beyond
/// it) allows; returns the soft limit in the end.
fn raise_limit(resource: libc::__rlimit_resource_t, wanted: u64) -> Result<u64, DriverError> {
    let current = get_limit(resource)?;
    if current.rlim_cur >= wanted {
        return Ok(current.rlim_cur);
    }
    let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(current.rlim_max) };
    let within = libc::rlimit { rlim_cur: wanted.min(current.rlim_max), rlim_max: current.rlim_max };
    if !set_limit(resource, &beyond) {
        set_limit(resource, &within);
    }
    Ok(get_limit(resource)?.rlim_cur)
}

fn get_limit(resource: libc::__rlimit_resource_t) -> Result<libc::rlimit, DriverError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole rlimit, alive during the call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(DriverError::System { call: "getrlimit", source: io::Error::last_os_error() });
    }
    Ok(limit)
}

fn set_limit(resource: libc::__rlimit_resource_t, limit: &libc::rlimit) -> bool {
    // SAFETY: the pointer is to a whole rlimit, alive during the call.
    unsafe { libc::setrlimit(resource, &raw const *limit) == 0 }
}

#[cfg(test)]
mod tests {
    use super::{check_memlock, check_uring, explain, raise_file_limit};
    use crate::error::DriverError;
    use std::io;

    #[test]
    fn this_host_passes() {
        check_uring().unwrap();
        check_memlock().unwrap();
        assert!(raise_file_limit(100).unwrap() >= 356);
    }

    #[test]
    fn an_impossible_number_of_connections_is_refused_with_the_limit() {
        let error = raise_file_limit(u32::MAX).unwrap_err();
        assert!(matches!(error, DriverError::FilesTooFew { limit, needed } if limit < needed), "{error}");
    }

    #[test]
    fn each_refusal_of_the_kernel_gets_its_own_advice() {
        let text = |errno, disabled| {
            explain(io::Error::from_raw_os_error(errno), disabled, "5.15.0".to_owned()).to_string()
        };
        assert!(text(libc::ENOSYS, 0).contains("CONFIG_IO_URING"));
        assert!(text(libc::EPERM, 0).contains("seccomp"));
        assert!(text(libc::EPERM, 2).contains("kernel.io_uring_disabled=2"));
        assert!(text(libc::EINVAL, 0).contains("5.15.0"));
        assert!(text(libc::EMFILE, 0).contains("io_uring_setup failed"));
    }
}
