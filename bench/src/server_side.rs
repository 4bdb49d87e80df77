//! What a local server costs: its process' CPU time and memory, from /proc.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::worker::ThreadCpu;

/// The server's processes on this machine: one, or one a node of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerProcesses {
    pub(crate) pids: Vec<u32>,
    pub(crate) name: String,
}

impl ServerProcesses {
    /// The processes that listen at `addresses`; `None` unless all are of this machine and we may look.
    pub(crate) fn listening_at(addresses: &[SocketAddr]) -> Option<Self> {
        let mut pids = addresses.iter().map(|address| listener(*address)).collect::<Option<Vec<u32>>>()?;
        pids.sort_unstable();
        pids.dedup();
        Self::of(pids)
    }

    pub(crate) fn of(pids: Vec<u32>) -> Option<Self> {
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let mut names =
            pids.iter().map(|pid| Some(name(pid)?.trim().to_owned())).collect::<Option<Vec<_>>>()?;
        names.dedup();
        (!names.is_empty()).then(|| Self { pids, name: names.join(", ") })
    }

    /// CPU time of all threads so far; `None` once a process has ended.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for pid in &self.pids {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let stats =
                tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
            let running: Duration =
                stats.filter_map(|text| ThreadCpu::parse(&text)).map(|time| time.running).sum();
            if running.is_zero() || resident_bytes(*pid) == 0 {
                return None;
            }
            sum += running;
        }
        Some(sum)
    }

    /// Resident memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.pids.iter().map(|pid| resident_bytes(*pid)).sum()
    }
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib * 1024)
}

/// The process that listens at an address of this machine.
fn listener(address: SocketAddr) -> Option<u32> {
    if !address.ip().is_loopback() && !is_local(address) {
        return None;
    }
    let inodes = listener_inodes(address.port());
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    pids().find(|pid| holds_one_of(*pid, &links))
}

/// Whether the address is one of this machine's: a socket can be bound to it.
fn is_local(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn holds_one_of(pid: u32, links: &[String]) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| links.iter().any(|wanted| link.to_str() == Some(wanted)))
}

/// Inodes of the sockets that listen at a port.
fn listener_inodes(port: u16) -> Vec<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|path| {
            let table = fs::read_to_string(path).unwrap_or_default();
            table.lines().skip(1).filter_map(|line| listener_inode(line, port)).collect::<Vec<_>>()
        })
        .collect()
}

/// The inode, if the line is of a socket that listens (state 0A) at that port.
fn listener_inode(line: &str, port: u16) -> Option<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let at = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
    (at == port && *words.get(3)? == "0A").then(|| words.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::ServerProcesses;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_our_own_is_found_with_its_cpu_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = ServerProcesses::listening_at(&[address, address]).unwrap();
        assert_eq!(server.pids, [std::process::id()]);
        assert!(server.cpu().unwrap().as_nanos() > 0 && server.resident_bytes() > 0);
    }

    #[test]
    fn other_machines_are_not_looked_for_here() {
        assert_eq!(ServerProcesses::listening_at(&["192.0.2.1:80".parse().unwrap()]), None);
    }
}
