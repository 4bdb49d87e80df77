//! What this process costs and what time it is: the values that the pure crates are told.

use std::fs;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pinnace_core::HostSample;

/// Microseconds of one clock tick in /proc: `USER_HZ` is 100 on every architecture that Linux has
/// kept binary compatibility for.
const TICK_US: u64 = 10_000;

/// Reads what the kernel counts for this process. Takes some 50 us: for INFO, not for requests.
pub(crate) fn sample() -> HostSample {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let (user_ticks, system_ticks) = cpu_ticks(&read("/proc/self/stat"));
    HostSample {
        rss_bytes: kib_field(&status, "VmRSS:") << 10,
        rss_peak_bytes: kib_field(&status, "VmHWM:") << 10,
        memory_total_bytes: kib_field(&read("/proc/meminfo"), "MemTotal:") << 10,
        user_cpu_us: user_ticks * TICK_US,
        system_cpu_us: system_ticks * TICK_US,
    }
}

/// A line such as `VmRSS:   1234 kB`; 0 if there is none.
pub(super) fn kib_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

/// utime and stime, the 14th and 15th field of /proc/PID/stat. The second field is the program's
/// name in parentheses and may hold blanks.
fn cpu_ticks(stat: &str) -> (u64, u64) {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// Nanoseconds since the first call.
pub(crate) fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock.
pub(crate) fn unix_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// System, release and machine, as INFO shows them.
pub(crate) fn operating_system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::{cpu_ticks, sample};

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0";
        assert_eq!(cpu_ticks(stat), (111, 222));
        assert_eq!(cpu_ticks(""), (0, 0));
    }

    #[test]
    fn this_process_has_memory() {
        let sample = sample();
        assert!(sample.rss_bytes > 0 && sample.rss_bytes <= sample.rss_peak_bytes);
        assert!(sample.rss_peak_bytes < sample.memory_total_bytes);
    }
}
