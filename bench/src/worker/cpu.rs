//! The CPU time of this thread, from the scheduler's own accounts.

use std::time::Duration;

/// What the scheduler says of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadCpu {
    /// On a CPU.
    pub(crate) running: Duration,
    /// Ready, but another thread had the CPU.
    pub(crate) waiting: Duration,
}

impl ThreadCpu {
    /// The calling thread's times so far; zero where the kernel keeps no such accounts.
    pub(crate) fn now() -> Self {
        std::fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Reads a line of `schedstat`: ns running, ns waiting, time slices.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().map(str::parse::<u64>);
        let (running, waiting) = (words.next()?.ok()?, words.next()?.ok()?);
        Some(Self { running: Duration::from_nanos(running), waiting: Duration::from_nanos(waiting) })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            running: self.running.saturating_sub(earlier.running),
            waiting: self.waiting.saturating_sub(earlier.waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ThreadCpu;

    #[test]
    fn work_shows_in_the_accounts() {
        let before = ThreadCpu::now();
        let mut sum = 0u64;
        while ThreadCpu::now().since(before).running.as_millis() < 5 {
            sum = (0..100_000).fold(sum, |a, b| a ^ std::hint::black_box(b));
        }
        assert_eq!(ThreadCpu::parse("5 6 7").unwrap().waiting.as_nanos(), 6);
        assert_eq!(ThreadCpu::parse("x"), None);
        std::hint::black_box(sum);
    }
}
