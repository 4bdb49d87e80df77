//! An eventfd: the file descriptor that a parked core sleeps on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking, close-on-exec eventfd counter.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    /// A new counter at 0.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above made this descriptor and nothing else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(owned)))
    }

    /// Makes it readable. Can only fail when the counter is at its maximum, and then it is readable.
    pub(crate) fn signal(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Makes it unreadable again; whether it was readable.
    pub(crate) fn clear(&self) -> bool {
        (&self.0).read(&mut [0; 8]).is_ok()
    }

    /// A second descriptor of the same counter.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::EventFd;

    #[test]
    fn signals_add_up_and_one_clear_takes_them_all() {
        let fd = EventFd::new().unwrap();
        assert!(!fd.clear());
        fd.signal();
        fd.signal();
        assert!(fd.clear());
        assert!(!fd.clear());
    }
}
