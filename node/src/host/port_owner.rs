//! Who listens on a TCP port: for the message that says the port is taken.
//!
//! Best effort: another user's process shows its socket but not its name.

use std::fs;

/// The process that listens on `port`, as `redis-server (pid 123)`, if it can be found.
pub(crate) fn port_owner(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listener_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
        files.find(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// The inode of the socket that listens on `port` in a table like /proc/net/tcp: after a heading, rows
/// of `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode ...`.
fn listener_inode(table: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        (local.ends_with(&suffix) && state == LISTEN).then(|| fields.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::{listener_inode, port_owner};
    use std::net::TcpListener;

    #[test]
    fn the_row_of_the_port_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1E14 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   \
                     1: 0100007F:1E14 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1\n";
        assert_eq!(listener_inode(table, 7700), Some("22"));
        assert_eq!(listener_inode(table, 7701), None);
    }

    #[test]
    fn the_own_process_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = port_owner(listener.local_addr().unwrap().port()).unwrap();
        assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");
    }
}
