//! Addresses, and the one place that decides where a node may listen.
//!
//! There is no TLS and no authentication yet, so a listener beyond loopback would hand the node to the network it is
//! on. [`LoopbackHost`] and [`LoopbackAddr`] exist only for addresses that other machines cannot reach; whoever binds
//! takes one of them and cannot get it wrong.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// Text or an address that cannot be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A listener there would be open to other machines.
    #[error("a listener beyond loopback needs TLS and authentication, which are not there yet")]
    NotLoopback {
        /// The refused address.
        ip: IpAddr,
    },
    /// The text is not a host and a port.
    #[error("a host, a colon and a port; an IPv6 host in brackets")]
    NotHostPort,
    /// A host name where only an address will do: a name may resolve to anything by the time of binding.
    #[error("numeric, not a name")]
    NotNumeric,
}

/// A host that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoopbackHost(IpAddr);

impl LoopbackHost {
    /// `127.0.0.1`.
    pub const V4: Self = Self(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// The address, to be put together with a port.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// This host with `port`.
    #[must_use]
    pub const fn with_port(self, port: u16) -> LoopbackAddr {
        LoopbackAddr(SocketAddr::new(self.0, port))
    }
}

impl TryFrom<IpAddr> for LoopbackHost {
    type Error = Error;

    fn try_from(ip: IpAddr) -> Result<Self, Error> {
        if ip.is_loopback() { Ok(Self(ip)) } else { Err(Error::NotLoopback { ip }) }
    }
}

impl FromStr for LoopbackHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "localhost" {
            return Ok(Self::V4);
        }
        let ip: IpAddr = text.parse().map_err(|_| Error::NotNumeric)?;
        Self::try_from(ip)
    }
}

impl fmt::Display for LoopbackHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A host and a port that only this machine can reach. Port 0 takes any free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoopbackAddr(SocketAddr);

impl LoopbackAddr {
    /// The address, to be bound.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<SocketAddr> for LoopbackAddr {
    type Error = Error;

    fn try_from(addr: SocketAddr) -> Result<Self, Error> {
        LoopbackHost::try_from(addr.ip()).map(|host| host.with_port(addr.port()))
    }
}

impl FromStr for LoopbackAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (host, port) = split(text)?;
        Ok(host.parse::<LoopbackHost>()?.with_port(port))
    }
}

impl fmt::Display for LoopbackAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where another node listens: a name or an address, and a port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host: a name to be resolved, or an address (an IPv6 one without brackets).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (host, port) = split(text)?;
        if port == 0 {
            return Err(Error::NotHostPort);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Cuts `host:port` or `[host]:port`.
fn split(text: &str) -> Result<(&str, u16), Error> {
    let (host, port) = text.rsplit_once(':').ok_or(Error::NotHostPort)?;
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) if inner.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => inner,
        None if is_host_name(host) => host,
        Some(_) | None => return Err(Error::NotHostPort),
    };
    // `u16` takes "+1".
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or(Error::NotHostPort)?;
    Ok((host, port))
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<String, Error> {
        text.parse::<LoopbackAddr>().map(|addr| addr.to_string())
    }

    #[test]
    fn only_loopback_can_be_listened_on() {
        assert_eq!(listen("127.0.0.1:50051"), Ok("127.0.0.1:50051".into()));
        assert_eq!(listen("127.8.8.8:0"), Ok("127.8.8.8:0".into()));
        assert_eq!(listen("[::1]:1"), Ok("[::1]:1".into()));
        assert_eq!(listen("localhost:1"), Ok("127.0.0.1:1".into()));
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(listen(open), Err(Error::NotLoopback { .. })), "{open} passed");
        }
        assert_eq!(listen("example.org:1"), Err(Error::NotNumeric));
    }

    #[test]
    fn a_host_and_port_survives_its_text() {
        for text in ["node-2:50051", "10.0.1.2:1", "[::1]:65535", "a.b_c:8080"] {
            assert_eq!(text.parse::<HostPort>().map(|at| at.to_string()), Ok(text.into()));
        }
        for bad in ["", "node-2", ":1", "a:0", "a:65536", "a:+1", "a:", "::1:1", "[a]:1", "http://a:1", "a b:1"] {
            assert_eq!(bad.parse::<HostPort>(), Err(Error::NotHostPort), "{bad:?}");
        }
    }
}
