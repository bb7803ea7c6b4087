//! The ICE servers that a client is told of: what their URLs say, and by which right they are asked.

use serde::Deserialize;

use super::turn::By;
use crate::ice::TurnCredential;

/// One ICE server, as `RTCPeerConnection` takes it.
#[derive(Clone, Debug, Deserialize)]
pub struct IceServer {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

/// What a URL says: RFC 7064, RFC 7065.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, the latter without brackets.
    pub host: String,
    pub port: u16,
    pub by: By,
    /// Is it a TURN server?
    pub relays: bool,
}

impl IceServer {
    /// By what URLs it is reached.
    pub fn urls(&self) -> &[String] {
        match &self.urls {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Many(urls) => urls,
        }
    }

    /// What it wants to see, if it has to.
    pub fn credential(&self) -> Option<TurnCredential> {
        let (username, password) = self.username.clone().zip(self.credential.clone())?;
        Some(TurnCredential { username, password })
    }

    /// The same server by one of its URLs alone.
    pub fn by(&self, url: &str) -> Self {
        Self { urls: Urls::One(url.to_owned()), ..self.clone() }
    }
}

impl Target {
    /// Reads it; `None` if it is none of `stun:`, `stuns:`, `turn:` and `turns:`.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').map_or((rest, None), |(authority, query)| (authority, Some(query)));
        let (is_secure, relays) = match scheme {
            "stun" => (false, false),
            "stuns" => (true, false),
            "turn" => (false, true),
            "turns" => (true, true),
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let by = match (is_secure, query) {
            (true, _) => By::Tls,
            (false, Some("transport=tcp")) => By::Tcp,
            (false, _) => By::Udp,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: port.unwrap_or(if is_secure { 5349 } else { 3478 }), by, relays })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_and_how() {
        let parsed = |url| Target::parse(url).map(|Target { host, port, by, relays }| (host, port, by, relays));
        let expected = |host: &str, port, by, relays| Some((host.to_owned(), port, by, relays));
        assert_eq!(parsed("stun:stun.example.org"), expected("stun.example.org", 3478, By::Udp, false));
        assert_eq!(parsed("turn:10.0.0.1:99?transport=tcp"), expected("10.0.0.1", 99, By::Tcp, true));
        assert_eq!(parsed("turn:[::1]:99?transport=udp"), expected("::1", 99, By::Udp, true));
        assert_eq!(parsed("turns:[::1]"), expected("::1", 5349, By::Tls, true));
        assert_eq!(parsed("https://example.org"), None);
        assert_eq!(parsed("turn:host:port"), None);
    }
}
