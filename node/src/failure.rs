//! Why a node did not start or had to stop: one exit code per class, one message per cause.
//!
//! Every message says what is wrong, with the numbers, and what to do about it. Scripts rely on the
//! codes: a code is never given a second meaning, a retired one is never used again.

use std::process::ExitCode;

use pinnace_driver::DriverError;
use thiserror::Error;

use crate::host::port_owner;

/// A reason to end the process. The number of its class is the process' exit code; 0 is a clean
/// stop, 134 (SIGABRT) a bug that was caught by an assertion.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// 2: a flag, variable, file or key is wrong.
    #[error("{0}")]
    Config(String),
    /// 10: the kernel has no io_uring, an old one, or does not let this process use it.
    #[error("{0}")]
    IoUring(String),
    /// 11: the locked-memory limit is too small for the rings.
    #[error("{0}")]
    Memlock(String),
    /// 12: an address or port cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// 13: more memory is asked for than there is, or less than a node needs.
    #[error("{0}")]
    Memory(String),
    /// 14: cores are asked for that this process may not use.
    #[error("{0}")]
    Cores(String),
    /// 15: the data directory cannot be used.
    #[error("{0}")]
    DataDir(String),
    /// 16: the limit of open files is below what the connections need.
    #[error("{0}")]
    OpenFiles(String),
    /// 17: a core ended with an error after the start.
    #[error("{0}")]
    CoreLost(String),
    /// 18: the log or a snapshot could not be written or synced.
    #[error("{0}")]
    Disk(String),
    /// 19: the log or a snapshot is damaged.
    #[error("{0}")]
    Damaged(String),
    /// 20: an import could not be done, or not to its end.
    #[error("{0}")]
    Import(String),
    /// 21: an import is done, but keys were left out.
    #[error("{0}")]
    ImportPartly(String),
    /// 22: a backup could not be made, read or restored.
    #[error("{0}")]
    Backup(String),
}

impl Failure {
    /// The exit code of this class.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::IoUring(_) => 10,
            Self::Memlock(_) => 11,
            Self::Listen(_) => 12,
            Self::Memory(_) => 13,
            Self::Cores(_) => 14,
            Self::DataDir(_) => 15,
            Self::OpenFiles(_) => 16,
            Self::CoreLost(_) => 17,
            Self::Disk(_) => 18,
            Self::Damaged(_) => 19,
            Self::Import(_) => 20,
            Self::ImportPartly(_) => 21,
            Self::Backup(_) => 22,
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        const ENOMEM: i32 = 12;
        let text = error.to_string();
        match &error {
            DriverError::UringMissing
            | DriverError::UringDisabled { .. }
            | DriverError::UringBlocked
            | DriverError::KernelTooOld { .. } => Self::IoUring(text),
            DriverError::MemlockTooSmall { .. } => Self::Memlock(text),
            DriverError::PortInUse { address } => Self::Listen(match port_owner(address.port()) {
                Some(owner) => format!("{text}; it is held by {owner}"),
                None => text,
            }),
            DriverError::Bind { .. } => Self::Listen(format!("{text}; check --bind and --port")),
            DriverError::FilesTooFew { .. } => Self::OpenFiles(format!("{text} (--max-connections)")),
            // Rings count against the limit on locked memory, of all processes of this user together.
            DriverError::System { call, source } if source.raw_os_error() == Some(ENOMEM) => {
                Self::Memlock(format!(
                    "{call} failed for want of locked memory, of which a core needs about 512 KiB: raise the limit with `ulimit -l`, LimitMEMLOCK= (systemd) \
                 or --ulimit memlock (Docker), or lower --cores"
                ))
            }
            DriverError::System { .. } => Self::CoreLost(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn codes_are_distinct_and_below_the_shells_own() {
        let text = String::new;
        let codes = [
            Failure::Config(text()),
            Failure::IoUring(text()),
            Failure::Memlock(text()),
            Failure::Listen(text()),
            Failure::Memory(text()),
            Failure::Cores(text()),
            Failure::DataDir(text()),
            Failure::OpenFiles(text()),
            Failure::CoreLost(text()),
            Failure::Disk(text()),
            Failure::Damaged(text()),
            Failure::Import(text()),
            Failure::ImportPartly(text()),
            Failure::Backup(text()),
        ]
        .map(|failure| failure.code());
        for (position, code) in codes.iter().enumerate() {
            assert!((2..126).contains(code) && !codes[..position].contains(code), "{codes:?}");
        }
    }
}
