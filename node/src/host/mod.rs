//! What this machine, container or cgroup lets the process use. Reads only; changes nothing.

mod cgroup;
mod port_owner;
mod process;

use std::path::Path;

use cgroup::Cgroups;
pub(crate) use port_owner::port_owner;
pub(crate) use process::{monotonic_ns, operating_system, sample, unix_millis};

/// The bounds that a plan is made within.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    /// CPUs that the affinity mask allows, ascending.
    pub(crate) cpus: Vec<usize>,
    /// CPU time per wall time that the cgroup allows, if it limits it.
    pub(crate) cpu_quota: Option<f64>,
    /// Physical memory, or the cgroup's limit if that is less.
    pub(crate) memory_bytes: u64,
    /// Whether `memory_bytes` is a cgroup's limit.
    pub(crate) memory_is_cgroup_limit: bool,
}

impl Host {
    /// Asks the kernel.
    pub(crate) fn detect() -> Self {
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        let mut cpus: Vec<usize> = cpus.into_iter().map(|cpu| cpu.id).collect();
        cpus.sort_unstable();
        let cgroups = Cgroups::of_process(Path::new("/"));
        let host_memory_bytes = std::fs::read_to_string("/proc/meminfo")
            .map_or(0, |text| process::kib_field(&text, "MemTotal:") << 10);
        let limit = cgroups.memory_limit_bytes().filter(|limit| *limit < host_memory_bytes);
        Self {
            cpus,
            cpu_quota: cgroups.cpu_quota(),
            memory_bytes: limit.unwrap_or(host_memory_bytes),
            memory_is_cgroup_limit: limit.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, process::kib_field};

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(kib_field("MemFree: 1 kB\nMemTotal:       24684092 kB\n", "MemTotal:"), 24_684_092);
        assert_eq!(kib_field("nothing", "MemTotal:"), 0);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        let host = Host::detect();
        assert!(!host.cpus.is_empty() && host.memory_bytes > 64 << 20, "{host:?}");
    }
}
