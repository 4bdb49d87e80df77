//! Listening sockets: one per core and address, all with `SO_REUSEPORT`, so that the kernel spreads
//! the clients over the cores.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::error::DriverError;

/// A silent peer is probed after this long, as in Redis (`tcp-keepalive 300`), then every third of it.
const KEEPALIVE: Duration = Duration::from_secs(300);
/// Unanswered probes until the connection counts as dead.
const KEEPALIVE_RETRIES: u32 = 3;

/// A bound, listening socket that is not accepted on yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
}

impl Listener {
    /// Binds with `SO_REUSEPORT` and listens. Port 0 lets the system choose. Accepted sockets inherit
    /// `TCP_NODELAY` and keepalive.
    ///
    /// # Errors
    /// [`DriverError::PortInUse`] or [`DriverError::Bind`].
    pub fn bind(address: SocketAddr, backlog: u32) -> Result<Self, DriverError> {
        listen(address, backlog).map_err(|source| bind_error(address, source))
    }

    /// The address it listens on, with the chosen port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Binds `count` listeners to one address, for as many cores. Finds out first whether somebody else
/// has the port: with `SO_REUSEPORT` a second process of the same user would silently share it.
///
/// # Errors
/// [`DriverError::PortInUse`] or [`DriverError::Bind`].
pub fn bind_group(address: SocketAddr, count: usize, backlog: u32) -> Result<Vec<Listener>, DriverError> {
    if address.port() != 0 {
        probe_port(address).map_err(|source| bind_error(address, source))?;
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(count);
    for _ in 0..count {
        let address = listeners.first().map_or(address, Listener::local_addr);
        listeners.push(Listener::bind(address, backlog)?);
    }
    Ok(listeners)
}

/// Fails if the address is taken, even by a socket that would share it.
fn probe_port(address: SocketAddr) -> io::Result<()> {
    let socket = tcp_socket(address)?;
    socket.bind(&address.into())
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<Listener> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let local = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP address"))?;
    Ok(Listener { socket, local })
}

/// `SO_REUSEADDR` lets a restart bind while old connections are in TIME_WAIT; it does not let two
/// processes listen on one port. An IPv6 wildcard serves IPv4 clients as well.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn bind_error(address: SocketAddr, source: io::Error) -> DriverError {
    match source.kind() {
        io::ErrorKind::AddrInUse => DriverError::PortInUse { address },
        _ => DriverError::Bind { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::{Listener, bind_group};
    use crate::error::DriverError;
    use std::net::{SocketAddr, TcpListener};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_group_shares_one_port() {
        let group = bind_group(ANY, 3, 16).unwrap();
        assert!(group.iter().all(|listener| listener.local_addr() == group[0].local_addr()));
    }

    #[test]
    fn an_occupied_port_is_found_even_if_it_could_be_shared() {
        let plain = TcpListener::bind(ANY).unwrap();
        let shared = Listener::bind(ANY, 16).unwrap();
        for address in [plain.local_addr().unwrap(), shared.local_addr()] {
            let error = bind_group(address, 2, 16).unwrap_err();
            assert!(matches!(error, DriverError::PortInUse { .. }), "{error}");
            assert!(error.to_string().contains(&address.port().to_string()));
        }
    }

    #[test]
    fn an_address_of_another_machine_is_a_bind_error() {
        let error = bind_group("192.0.2.1:0".parse().unwrap(), 1, 16).unwrap_err();
        assert!(matches!(error, DriverError::Bind { .. }), "{error}");
    }
}
