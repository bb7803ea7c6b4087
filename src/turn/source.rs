//! The embedded server as one of those that clients are told of: in `welcome`, with a credential that ends with the session.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use super::{credentials::Credentials, relays::own_address_towards};
use crate::{
    ice::{IceServer, IceUrl, Issuer},
    protocol::PeerId,
};

/// The embedded server, as clients find it.
pub struct Source {
    /// Who may use it.
    pub credentials: Arc<Credentials>,
    /// Its ways: over UDP, TCP and TLS, by every address of its.
    pub urls: Vec<IceUrl>,
}

impl Source {
    /// One that listens here, in the clear and for TLS, known by these addresses if there are any; the certificate is for this name.
    pub fn new(
        credentials: Arc<Credentials>,
        external: &[IpAddr],
        clear: &[SocketAddr],
        tls: &[SocketAddr],
        certified: Option<&str>,
    ) -> Self {
        let known = |addresses: &[SocketAddr]| addresses.iter().filter_map(|address| known_as(*address, external)).collect::<Vec<_>>();
        let clear = known(clear).into_iter().flat_map(|address| ["udp", "tcp"].map(|by| format!("turn:{address}?transport={by}")));
        let tls: Vec<String> = match (certified, tls) {
            (Some(name), [address, ..]) => vec![format!("{name}:{}", address.port())],
            _ => known(tls).iter().map(ToString::to_string).collect(),
        };
        let urls = clear.chain(tls.into_iter().map(|place| format!("turns:{place}?transport=tcp")));
        Self { credentials, urls: urls.map(|url| url.parse().expect("it is a URL")).collect() }
    }
}

/// By what address clients know one that the server listens on.
fn known_as(address: SocketAddr, external: &[IpAddr]) -> Option<SocketAddr> {
    let of_family = external.iter().find(|external| external.is_ipv4() == address.is_ipv4());
    let ip = match of_family {
        Some(external) => *external,
        // Of every address that on the way to the world.
        None if address.ip().is_unspecified() => own_address_towards(address.ip(), address.is_ipv4()).ok()?,
        None => address.ip(),
    };
    Some((ip, address.port()).into())
}

impl Issuer for Source {
    fn issue(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer> {
        vec![IceServer::with_credential(self.urls.clone(), self.credentials.issue(peer_id, expires_at))]
    }

    fn lend(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer> {
        vec![IceServer::with_credential(self.urls.clone(), self.credentials.lend(peer_id, expires_at))]
    }

    fn session_ended(&self, peer_id: &PeerId) {
        self.credentials.session_ended(peer_id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn urls(external: &[&str], clear: &[&str], tls: &[&str], certified: Option<&str>) -> Vec<String> {
        let sockets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let external: Vec<IpAddr> = external.iter().map(|text| text.parse().unwrap()).collect();
        let source = Source::new(Credentials::new(Duration::ZERO), &external, &sockets(clear), &sockets(tls), certified);
        source.urls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn clients_find_it_by_every_way_at_the_address_by_which_they_know_it() {
        assert_eq!(
            urls(&[], &["192.0.2.1:3478", "[2001:db8::1]:3478"], &["192.0.2.1:5349"], None),
            [
                "turn:192.0.2.1:3478?transport=udp",
                "turn:192.0.2.1:3478?transport=tcp",
                "turn:[2001:db8::1]:3478?transport=udp",
                "turn:[2001:db8::1]:3478?transport=tcp",
                "turns:192.0.2.1:5349?transport=tcp",
            ]
        );
        let behind_nat = urls(&["203.0.113.9"], &["0.0.0.0:3478"], &["0.0.0.0:5349", "[::]:5349"], Some("turn.example"));
        assert_eq!(
            behind_nat,
            ["turn:203.0.113.9:3478?transport=udp", "turn:203.0.113.9:3478?transport=tcp", "turns:turn.example:5349?transport=tcp"]
        );
    }
}
