//! Whether the page that a request comes from may come in: what every door asks before anything else, and what HTTP lets such a page read.
//!
//! The rules are in [`crate::auth::origin`]; here is where their words are found in a request, and where a refusal is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use tracing::info;

use super::Doorkeeper;
use crate::{auth::origin::Verdict, metrics::HandshakeFailure};

/// Where a request says that it comes from, and whom it is for.
pub struct Asking<'a> {
    /// Its `Origin` headers.
    pub origins: Vec<&'a [u8]>,
    /// The host that it is for.
    pub host: Option<&'a str>,
    /// The client's address.
    pub address: IpAddr,
    pub path: &'a str,
}

/// The longest origin, host or path that is told of: a scheme, the longest name and a port.
const TOLD_BYTES: usize = 300;

impl Doorkeeper {
    /// May this come in? Who may not is told no more than that; why is told here.
    pub fn admits_origin(&self, asking: &Asking<'_>) -> bool {
        let admits = self.origins.judge(asking.origins.iter().copied(), asking.host) != Verdict::Refused;
        if !admits {
            self.metrics.handshake_failed(HandshakeFailure::Origin);
            let told = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_BYTES)]).into_owned();
            let (origin, path) = (told(&asking.origins.join(&b", "[..])), told(asking.path.as_bytes()));
            let host = asking.host.map(|host| told(host.as_bytes()));
            let host = host.as_ref().map(tracing::field::debug);
            info!(?origin, host, address = %asking.address, ?path, "a page of an origin that is not among `origins` is refused");
        }
        admits
    }

    /// The same for a request of HTTP/1.1 from this address.
    pub fn admits_request(&self, headers: &HeaderMap, peer: Option<SocketAddr>, path: &str) -> bool {
        // A connection without an address is gone already.
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        self.admits_origin(&Asking {
            origins: headers.get_all(header::ORIGIN).map(HeaderValue::as_bytes).collect(),
            host: self.host(headers, peer),
            address: self.addresses.client(peer, headers),
            path,
        })
    }

    /// The host that a request is for: what its browser asked for, where a proxy of ours tells that.
    fn host<'a>(&self, headers: &'a HeaderMap, peer: IpAddr) -> Option<&'a str> {
        if self.addresses.is_proxy(peer)
            // Every proxy adds its own at the end, so what stands before that may be a lie.
            && let Some(named) = headers.get_all(header::X_FORWARDED_HOST).last()
        {
            return Some(named.to_str().ok()?.rsplit(',').next()?.trim());
        }
        let mut hosts = headers.get_all(header::HOST);
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            // Of two, nobody knows which one was meant.
            _ => None,
        }
    }
}

/// Lets the page that asked read an answer, and no other; `with_credentials` also where its browser sent cookies along. They mean nothing to this server,
/// but may to a proxy in front of it, as those that keep a client at one of several servers.
pub fn share(headers: &mut HeaderMap, origin: Option<&HeaderValue>, with_credentials: bool) {
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if with_credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}
