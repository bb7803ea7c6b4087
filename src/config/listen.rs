//! Where to listen: `HOST:PORT` as an operator writes it, and the socket addresses that it stands for.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where to listen. Written as `localhost:8080`, `127.0.0.1:8080`, `[::1]:8080` or `:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    host: Host,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// Both loopback addresses. Never looked up: a resolver that answers something else must not expose a server.
    Localhost,
    /// Every address of both families.
    Every,
    /// One address; its own port is that of the `Listen`.
    One(SocketAddr),
}

/// The text names no address that can be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not HOST:PORT, where HOST is localhost, an IPv4 address, an IPv6 address in brackets or nothing, \
     and PORT is 0 to 65535"
)]
pub struct ListenError {
    text: String,
}

impl Listen {
    /// The addresses to bind, in order, IPv4 first; never none.
    ///
    /// With port 0 the first address decides, and the others are to be bound to the port that it got. An IPv6 socket among them
    /// must be one for IPv6 alone (`IPV6_V6ONLY`), or it collides with its IPv4 sibling.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let both = |v4: Ipv4Addr, v6: Ipv6Addr| vec![(IpAddr::V4(v4), self.port).into(), (IpAddr::V6(v6), self.port).into()];
        match self.host {
            Host::Localhost => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            Host::Every => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
            Host::One(address) => vec![address],
        }
    }

    /// The port as it was written; 0 stands for a free one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port.
    pub fn with_port(self, port: u16) -> Self {
        let host = match self.host {
            Host::One(mut address) => {
                address.set_port(port);
                Host::One(address)
            }
            host => host,
        };
        Self { host, port }
    }

    /// Do the two want the same port of an address? A free port is another one each time.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: IpAddr, other: IpAddr| {
            one == other || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
        };
        let meets_any = |one: SocketAddr| other.addresses().into_iter().any(|other| meet(one.ip(), other.ip()));
        self.port == other.port && self.port != 0 && self.addresses().into_iter().any(meets_any)
    }

    /// Whether every address has to be bound. A machine without IPv6 lacks one of the two behind `localhost` or an empty host,
    /// and that is no reason not to start.
    pub fn is_one_address(&self) -> bool {
        matches!(self.host, Host::One(_))
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let refused = || ListenError { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        // `parse` alone would take "+80".
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let port = port.parse().map_err(|_| refused())?;
        let host = match host {
            "" => Host::Every,
            host if host.eq_ignore_ascii_case("localhost") => Host::Localhost,
            _ => Host::One(text.parse().map_err(|_| refused())?),
        };
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::One(address), port: address.port() }
    }
}

impl Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Localhost => write!(f, "localhost:{}", self.port),
            Host::Every => write!(f, ":{}", self.port),
            Host::One(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_for_its_addresses_in_order() {
        for (text, addresses) in [
            ("localhost:8080", &["127.0.0.1:8080", "[::1]:8080"][..]),
            ("LocalHost:1", &["127.0.0.1:1", "[::1]:1"]),
            (":8080", &["0.0.0.0:8080", "[::]:8080"]),
            (":0", &["0.0.0.0:0", "[::]:0"]),
            ("127.0.0.1:0", &["127.0.0.1:0"]),
            ("0.0.0.0:443", &["0.0.0.0:443"]),
            ("[::1]:65535", &["[::1]:65535"]),
            ("[::]:8080", &["[::]:8080"]),
            ("[fe80::1%2]:8080", &["[fe80::1%2]:8080"]),
        ] {
            let listen: Listen = text.parse().unwrap();
            let expected: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(listen.addresses(), expected, "{text}");
            assert_eq!(listen.port(), expected[0].port(), "{text}");
            assert_eq!(listen.is_one_address(), expected.len() == 1, "{text}");
            assert_eq!(listen.to_string().parse(), Ok(listen), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for text in [
            "",
            ":",
            "8080",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:-1",
            "localhost:+80",
            "localhost:http",
            " localhost:80",
            "localhost:80 ",
            "127.0.0.1",
            "127.0.0.256:80",
            "127.1:80",
            "::1",
            "::1:8080",
            "[::1]",
            "[::1:80",
            "[]:80",
            "[127.0.0.1]:80",
            "[localhost]:80",
            "*:8080",
            "example.org:8080",
            "http://localhost:8080",
            "a\u{1b}b",
        ] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} ")), "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }
}
