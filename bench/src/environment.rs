//! The machine under a run: everything that makes numbers of two machines differ.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) host: String,
    pub(crate) cpu: String,
    pub(crate) cpu_count: usize,
    pub(crate) hypervisor: bool,
    pub(crate) kernel: String,
    /// The options of the kernel's command line that bear on measurements.
    pub(crate) kernel_options: String,
    pub(crate) memory_bytes: u64,
    pub(crate) clock_source: String,
    pub(crate) governor: String,
    pub(crate) huge_pages: String,
    /// BBR paces even over loopback: it matters for throughput.
    pub(crate) tcp_congestion_control: String,
    /// Vulnerabilities whose mitigation costs something, with its name.
    pub(crate) mitigations: Vec<String>,
    /// Load average of the last minute at the start: what else was running.
    pub(crate) load_average: String,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let cpu = field(&cpu_info, "model name").or_else(|| field(&cpu_info, "Processor"));
        Self {
            host: read("/proc/sys/kernel/hostname"),
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpu_count: std::thread::available_parallelism().map_or(0, usize::from),
            hypervisor: cpu_info.contains(" hypervisor"),
            kernel: read("/proc/sys/kernel/osrelease"),
            kernel_options: or_none(options(&read("/proc/cmdline"))),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: or_none(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            huge_pages: selected(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            tcp_congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Name and value of everything, for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("host", self.host.clone()),
            ("CPU", format!("{} x {}", self.cpu_count, self.cpu)),
            ("virtual machine", if self.hypervisor { "yes" } else { "no" }.to_owned()),
            ("kernel", self.kernel.clone()),
            ("kernel options", self.kernel_options.clone()),
            ("memory", format!("{:.1} GiB", self.memory_bytes as f64 / (1u64 << 30) as f64)),
            ("clock source", self.clock_source.clone()),
            ("CPU governor", self.governor.clone()),
            ("transparent huge pages", self.huge_pages.clone()),
            ("TCP congestion control", self.tcp_congestion_control.clone()),
            ("mitigations", or_none(self.mitigations.join("; "))),
            ("load average at start", self.load_average.clone()),
        ]
    }
}

/// Only known words: a command line may hold what is nobody's business.
fn options(command_line: &str) -> String {
    let known =
        ["mitigations=", "isolcpus=", "nohz_full=", "rcu_nocbs=", "idle=", "intel_pstate=", "hugepages="];
    let words = command_line.split_ascii_whitespace();
    let told: Vec<&str> = words.filter(|word| known.iter().any(|name| word.starts_with(name))).collect();
    told.join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The word in brackets of a file that lists choices.
fn selected(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or_else(|| text.to_owned(), |(word, _)| word.to_owned())
}

fn mitigations(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let state = state.trim();
            (state != "Not affected").then(|| format!("{}: {state}", entry.file_name().to_string_lossy()))
        })
        .collect();
    found.sort();
    found
}

/// The commit of the working directory, if it is a git checkout with git at hand.
pub(crate) fn commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Environment, field, options, selected};

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let environment = Environment::read();
        assert!(environment.cpu_count > 0 && environment.memory_bytes > 0 && !environment.kernel.is_empty());
        assert_eq!(environment.lines().len(), 12);
    }

    #[test]
    fn system_files_are_understood() {
        assert_eq!(field("a\t: 1\nmodel name\t: X: y\n", "model name").unwrap(), "X: y");
        assert_eq!(selected("always [madvise] never"), "madvise");
        assert_eq!(options("quiet mitigations=off token=x isolcpus=1"), "mitigations=off isolcpus=1");
    }
}
