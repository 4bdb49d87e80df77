//! What a local server costs: its process' CPU time and memory, from /proc.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::worker::ThreadCpu;

/// A server process on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerProcess {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

impl ServerProcess {
    /// The process that listens at `address`, if it is of this machine and we may look.
    pub(crate) fn listening_at(address: SocketAddr) -> Option<Self> {
        if !address.ip().is_loopback() && !is_local(address) {
            return None;
        }
        let inodes = listener_inodes(address.port());
        let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
        let pid = pids().find(|pid| holds_one_of(*pid, &links))?;
        Some(Self::of(pid))
    }

    pub(crate) fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, name: name.trim().to_owned() }
    }

    /// CPU time of all threads so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let times = tasks
            .flatten()
            .filter_map(|task| ThreadCpu::parse(&fs::read_to_string(task.path().join("schedstat")).ok()?));
        Some(times.map(|time| time.running).sum())
    }

    /// Resident memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib * 1024)
    }
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
    use super::ServerProcess;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_our_own_is_found_with_its_cpu_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = ServerProcess::listening_at(listener.local_addr().unwrap()).unwrap();
        assert_eq!(server.pid, std::process::id());
        assert!(server.cpu().unwrap().as_nanos() > 0 && server.resident_bytes() > 0);
    }

    #[test]
    fn other_machines_are_not_looked_for_here() {
        assert_eq!(ServerProcess::listening_at("192.0.2.1:80".parse().unwrap()), None);
    }
}
