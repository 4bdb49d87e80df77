//! What the process costs its host. The node samples it; this crate asks no operating system.

/// A sample of the process, for INFO and MEMORY. The simulator gives zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSample {
    /// Resident memory of the process.
    pub rss_bytes: u64,
    /// The most it has ever been.
    pub rss_peak_bytes: u64,
    /// Memory of the machine.
    pub memory_total_bytes: u64,
    /// CPU time spent in the program, all threads.
    pub user_cpu_us: u64,
    /// CPU time spent in the kernel on its behalf, all threads.
    pub system_cpu_us: u64,
}
