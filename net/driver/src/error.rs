//! What can go wrong at start-up, each with what to do about it.

use std::io;
use std::net::SocketAddr;

/// Why a driver could not start or had to stop. The text is for the operator: what is wrong, and
/// what to do.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The kernel has no `io_uring` at all.
    #[error(
        "this kernel has no io_uring (ENOSYS): Pinnace needs Linux 6.1 or newer with CONFIG_IO_URING; \
         gVisor and similar sandboxes do not offer it"
    )]
    UringMissing,
    /// A sysctl forbids `io_uring`.
    #[error(
        "io_uring is switched off by kernel.io_uring_disabled={value}: run `sysctl -w \
         kernel.io_uring_disabled=0`, or 1 and start Pinnace with CAP_SYS_ADMIN or in the group of \
         kernel.io_uring_group"
    )]
    UringDisabled {
        /// The sysctl's value: 1 privileged processes only, 2 nobody.
        value: u32,
    },
    /// A seccomp filter or a security module forbids `io_uring`.
    #[error(
        "io_uring is blocked (EPERM), most likely by a seccomp profile: allow io_uring_setup, \
         io_uring_enter and io_uring_register (Docker: --security-opt seccomp=PROFILE)"
    )]
    UringBlocked,
    /// The kernel is too old for something the ring needs.
    #[error("this kernel ({release}) lacks {feature}: Pinnace needs Linux 6.1 or newer")]
    KernelTooOld {
        /// What `uname -r` says.
        release: String,
        /// What is missing.
        feature: &'static str,
    },
    /// glommio refuses to start with so little lockable memory.
    #[error(
        "the limit on locked memory is {limit_bytes} bytes, at least {needed_bytes} are needed: raise it with \
         `ulimit -l`, LimitMEMLOCK= (systemd) or --ulimit memlock (Docker)"
    )]
    MemlockTooSmall {
        /// The hard limit.
        limit_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// Somebody else listens there.
    #[error("{address} is in use by another process: stop it or choose another --port")]
    PortInUse {
        /// The wanted address.
        address: SocketAddr,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Too few file descriptors.
    #[error(
        "the limit on open files is {limit}, {needed} are needed: raise it with `ulimit -n` or \
         LimitNOFILE= (systemd), or lower the number of connections"
    )]
    FilesTooFew {
        /// The hard limit.
        limit: u64,
        /// What is needed.
        needed: u64,
    },
    /// A system call failed that has no reason to.
    #[error("{call} failed: {source}")]
    System {
        /// What was tried.
        call: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl DriverError {
    /// Wraps the failure of `call`; for `map_err`.
    pub(crate) fn system(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { call, source }
    }
}
