//! Where a server is: `host:port` or `redis://[user:password@]host[:port][/database]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::config::Settings;

/// The port of a Redis, if an address has none.
const REDIS_PORT: u16 = 6379;

/// A server and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u64,
}

impl Endpoint {
    pub(crate) fn plain(host: String, port: u16) -> Self {
        Self { host, port, user: None, password: None, database: 0 }
    }
}

/// The endpoint that was given, or else the node that `--bind` and `--port` name.
pub(crate) fn or_configured(given: Option<&Endpoint>, settings: &Settings) -> Endpoint {
    let configured = || {
        let host = match settings.bind {
            IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
            ip => ip.to_string(),
        };
        Endpoint::plain(host, settings.port)
    };
    given.cloned().unwrap_or_else(configured)
}

/// Without the password: this goes to reports and state files.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ipv6 = self.host.contains(':');
        let (open, close) = if is_ipv6 { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)?;
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Messages repeat no more than the scheme: the text may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        match scheme {
            "" | "redis" => {}
            "rediss" => {
                return Err("rediss:// is TLS, which this build cannot speak: use redis://".to_owned());
            }
            other => return Err(format!("{other}:// is not known: write redis://host:port")),
        }
        let (rest, database) = match rest.split_once('/') {
            Some((rest, "")) => (rest, 0),
            Some((rest, database)) => {
                (rest, database.parse().map_err(|_| format!("'{database}' is not the number of a database"))?)
            }
            None => (rest, 0),
        };
        let (user, password, place) = match rest.rsplit_once('@') {
            Some((who, place)) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
                (given(user)?, given(password)?, place)
            }
            None => (None, None, rest),
        };
        let (host, port) = host_and_port(place)?;
        if scheme.is_empty() && port.is_none() {
            return Err(format!("'{place}' has no port: write host:port"));
        }
        Ok(Self { host, port: port.unwrap_or(REDIS_PORT), user, password, database })
    }
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| format!("'{place}' lacks a ]"))?;
            (host, rest.strip_prefix(':'))
        }
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(format!("'{place}' names no host: write host:port"));
    }
    let port = match port {
        Some(port) => {
            let number = port.parse().ok().filter(|&number| number > 0);
            Some(number.ok_or_else(|| format!("'{port}' is not a port: write 1 to 65535"))?)
        }
        None => None,
    };
    Ok((host.to_owned(), port))
}

/// Undoes percent encoding, which passwords in addresses need.
fn decoded(text: &str) -> Result<String, String> {
    let refuse = || "user or password has a % that is not followed by two hexadecimal digits".to_owned();
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(refuse);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    fn parse(text: &str) -> Result<Endpoint, String> {
        text.parse()
    }

    #[test]
    fn addresses_with_and_without_everything() {
        assert_eq!(parse("cache:7700"), Ok(Endpoint::plain("cache".into(), 7700)));
        assert_eq!(parse("redis://cache"), Ok(Endpoint::plain("cache".into(), 6379)));
        assert_eq!(parse("redis://[::1]:7/"), Ok(Endpoint::plain("::1".into(), 7)));
        let full = parse("redis://ann:p%40ss:w@cache:1/3").unwrap();
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("ann"), Some("p@ss:w")));
        assert_eq!((full.to_string().as_str(), full.database), ("cache:1/3", 3));
        assert_eq!(parse("redis://:secret@cache").unwrap().user, None);
        assert_eq!(parse("redis://[::1]").unwrap().to_string(), "[::1]:6379");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, part) in [
            ("cache", "no port"),
            (":7700", "no host"),
            ("cache:0", "not a port"),
            ("cache:x", "not a port"),
            ("redis://:secret@cache/x", "database"),
            ("redis://:secret%4@cache", "hexadecimal"),
            ("rediss://:secret@cache", "TLS"),
            ("http://:secret@cache", "http://"),
            ("redis://:secret@[::1", "lacks a ]"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part) && !message.contains("secret"), "{message}");
        }
    }
}
