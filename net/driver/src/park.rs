//! Sleeping until an eventfd becomes readable, inside a glommio executor.
//!
//! glommio has no public way to wait for a descriptor of one's own. But its `TcpStream` arms a
//! readiness poll on whatever descriptor it is made of, and the first read waits for that poll before
//! it tries to receive; the receive then fails, an eventfd being no socket, exactly when the eventfd
//! has become readable. The tests below pin that behaviour.
//!
//! The socket ring's own descriptor cannot be waited for: with `DEFER_TASKRUN` its completions are made
//! only by an enter of the thread that sleeps.

use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;

use crate::error::DriverError;
use crate::eventfd::EventFd;

/// Sleeps until `eventfd` is readable or `timeout` is over. Does not clear the eventfd.
pub(crate) async fn wait_readable(eventfd: &EventFd, timeout: Option<Duration>) -> Result<(), DriverError> {
    let copy = eventfd.duplicate().map_err(DriverError::system("dup of an eventfd"))?;
    // SAFETY: the descriptor is open and ownership moves into the stream, which closes it.
    let mut stream = unsafe { TcpStream::from_raw_fd(copy.into_raw_fd()) };
    if let Some(timeout) = timeout {
        let timeout = timeout.max(Duration::from_micros(1));
        let set = stream.set_read_timeout(Some(timeout));
        set.map_err(|error| DriverError::System { call: "glommio read timeout", source: error.into() })?;
    }
    // The result says only that the wait is over: not a socket, or timed out.
    let _ = stream.read(&mut [0]).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::wait_readable;
    use crate::eventfd::EventFd;
    use glommio::LocalExecutorBuilder;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn in_executor<R: Send + 'static>(run: impl AsyncFnOnce() -> R + Send + 'static) -> R {
        LocalExecutorBuilder::default().spawn(|| async move { run().await }).unwrap().join().unwrap()
    }

    #[test]
    fn sleeps_until_another_thread_signals() {
        let eventfd = Arc::new(EventFd::new().unwrap());
        let other = Arc::clone(&eventfd);
        in_executor(async move || {
            for _ in 0..3 {
                let signaller = Arc::clone(&other);
                let started = Instant::now();
                let thread = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    signaller.signal();
                });
                wait_readable(&other, None).await.unwrap();
                assert!(started.elapsed() >= Duration::from_millis(29), "{:?}", started.elapsed());
                assert!(other.clear());
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn a_signal_from_before_the_wait_is_not_lost() {
        in_executor(async || {
            let eventfd = EventFd::new().unwrap();
            eventfd.signal();
            wait_readable(&eventfd, Some(Duration::from_secs(20))).await.unwrap();
            assert!(eventfd.clear());
        });
    }

    #[test]
    fn the_timeout_ends_the_wait() {
        in_executor(async || {
            let eventfd = EventFd::new().unwrap();
            let started = Instant::now();
            wait_readable(&eventfd, Some(Duration::from_millis(20))).await.unwrap();
            let waited = started.elapsed();
            assert!(!eventfd.clear());
            assert!(waited >= Duration::from_millis(19) && waited < Duration::from_secs(5), "{waited:?}");
        });
    }

    #[test]
    fn waiting_leaks_no_descriptors() {
        in_executor(async || {
            let open = || std::fs::read_dir("/proc/self/task/self/fd").or(std::fs::read_dir("/proc/self/fd"));
            let eventfd = EventFd::new().unwrap();
            let count = || open().unwrap().count();
            let before = count();
            for _ in 0..100 {
                eventfd.signal();
                wait_readable(&eventfd, None).await.unwrap();
                eventfd.clear();
            }
            // Other tests of this process open and close descriptors meanwhile: a leak would be 100.
            assert!(count() < before + 60);
        });
    }
}
