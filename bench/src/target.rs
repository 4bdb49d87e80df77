//! Targets as URLs: which protocol is spoken to which address.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::error::BenchError;

/// The protocol of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Pinnace's own frames; keys go to the connection of their owning core.
    Native,
    /// RESP2 to one server.
    Resp,
    /// RESP2 to every node of a cluster; keys go to the node of their slot.
    RespCluster,
    /// memcached's text commands.
    MemcacheText,
    /// memcached's meta commands (`mg`, `ms`, `md`, `ma`).
    MemcacheMeta,
}

impl Protocol {
    /// The word used in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Resp => "resp",
            Self::RespCluster => "resp-cluster",
            Self::MemcacheText => "memcache-text",
            Self::MemcacheMeta => "memcache-meta",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Native => 7700,
            Self::Resp | Self::RespCluster => 6379,
            Self::MemcacheText | Self::MemcacheMeta => 11211,
        }
    }
}

/// One target of a run.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// Name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// User name for AUTH; empty for the default user.
    pub(crate) user: String,
    /// Password; empty for none.
    pub(crate) password: String,
}

impl Target {
    /// The first address the host's name stands for.
    pub(crate) fn address(&self) -> Result<SocketAddr, BenchError> {
        let unreachable = |source| BenchError::Unreachable { target: self.to_string(), source };
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(unreachable)?;
        addresses.next().ok_or_else(|| BenchError::usage(format!("{self}: the name has no address")))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("`{url}` is not a URL: expected e.g. redis://127.0.0.1:6379"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, address) = rest.rsplit_once('@').unwrap_or(("", rest));
        let address = address.trim_end_matches('/');
        let protocol = match (scheme, query) {
            ("pinnace", "") => Protocol::Native,
            ("redis", "") => Protocol::Resp,
            ("redis-cluster", "") => Protocol::RespCluster,
            ("memcache" | "memcached", "" | "protocol=text") => Protocol::MemcacheText,
            ("memcache" | "memcached", "protocol=meta") => Protocol::MemcacheMeta,
            ("pinnace" | "redis" | "redis-cluster" | "memcache" | "memcached", _) => {
                return Err(format!("`?{query}` is not known; memcache:// takes ?protocol=text or =meta"));
            }
            _ => {
                return Err(format!(
                    "`{scheme}://` is not known: use pinnace://, redis://, redis-cluster:// or memcache://"
                ));
            }
        };
        if address.contains('/') {
            return Err(format!("`{url}`: a path after the address has no meaning here"));
        }
        let (host, port) = split_address(address, protocol.default_port())?;
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, password),
            None => ("", credentials),
        };
        Ok(Self { protocol, host, port, user: user.to_owned(), password: password.to_owned() })
    }
}

fn split_address(address: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("`{port}` is not a port"))?,
        None => default_port,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    Ok((host.to_owned(), port))
}

/// The URL without its credentials: results are shown to others.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, query) = match self.protocol {
            Protocol::Native => ("pinnace", ""),
            Protocol::Resp => ("redis", ""),
            Protocol::RespCluster => ("redis-cluster", ""),
            Protocol::MemcacheText => ("memcache", ""),
            Protocol::MemcacheMeta => ("memcache", "?protocol=meta"),
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}{query}", self.host, self.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Target};

    #[test]
    fn urls_name_protocol_address_and_credentials() {
        let target: Target = "redis://app:secret@[::1]:7700".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 7700));
        assert_eq!((target.user.as_str(), target.password.as_str()), ("app", "secret"));
        assert_eq!(target.to_string(), "redis://[::1]:7700", "no password in anything printed");
        let meta: Target = "memcache://localhost?protocol=meta".parse().unwrap();
        assert_eq!((meta.protocol, meta.port), (Protocol::MemcacheMeta, 11211));
        assert_eq!("pinnace://127.0.0.1".parse::<Target>().unwrap().port, 7700);
        assert_eq!("redis://pw@h".parse::<Target>().unwrap().password, "pw");
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_reason() {
        for bad in
            ["", "127.0.0.1:6379", "http://x", "redis://", "redis://h:99999", "redis://h/0", "redis://h?x"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
