//! What one address takes: how many connections it has, and how fast its clients join rooms. And which address a client behind a proxy has.
//!
//! An address is one of IPv4, or the first 64 bits of one of IPv6, because whoever has one of those has them all (RFC 6177).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use actix_web::http::header::HeaderMap;
use ipnet::IpNet;
use tracing::warn;

use crate::{auth::failures::block, session::throttle::AddressJoins};

/// The bounds of every address.
#[derive(Clone, Copy, Debug)]
pub struct AddressLimits {
    /// Connections from one address.
    pub connections_max: usize,
    /// Joins from one address in a second.
    pub joins_per_second: u32,
}

/// Every address that has a connection, or that has had one a moment ago.
pub struct Addresses {
    /// None where rates are not bounded.
    limits: Option<AddressLimits>,
    /// Those who connect for others, and name them.
    proxies: Vec<IpNet>,
    /// Was it told that somebody else writes as they do?
    stranger_told: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    entries: HashMap<IpAddr, Entry>,
    /// With so many entries it is time to forget those that are of no use any more.
    sweep_at: usize,
}

struct Entry {
    connections: usize,
    joins: Arc<AddressJoins>,
}

/// A connection from an address, or a session that outlives its connections. Given back when dropped.
pub struct Visit {
    addresses: Arc<Addresses>,
    address: IpAddr,
    /// The client's own, of which that may be a part.
    pub client: IpAddr,
    /// What all clients of the address share; nothing where rates are not bounded.
    pub joins: Option<Arc<AddressJoins>>,
    /// Has the address as many connections as it may, this one not counted?
    pub is_too_many: bool,
    /// So many connections are counted in place of this one. Changed under the lock of what is known.
    carriers: AtomicUsize,
}

/// A session that is carried by a connection: of the two that one counts, for as long as this is kept.
pub struct Carried {
    session: Arc<Visit>,
    _connection: Arc<Visit>,
}

/// So many connections of an address beyond its bound are told why they have to go.
const REFUSED_MAX: usize = 16;
/// Fewer entries are not worth a look.
const SWEEP_LEAST: usize = 1024;

impl Addresses {
    /// Nobody is known yet.
    pub fn new(limits: Option<AddressLimits>, proxies: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { limits, proxies, stranger_told: AtomicBool::new(false), known: Mutex::default() })
    }

    /// Notes a connection from this address.
    pub fn visit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Visit {
        self.visit_beside(address.to_canonical(), 0, now)
    }

    /// The same, where so many connections of the address do not matter.
    fn visit_beside(self: &Arc<Self>, client: IpAddr, others: usize, now: Instant) -> Visit {
        let address = block(client);
        let carriers = AtomicUsize::new(0);
        let Some(limits) = self.limits else {
            return Visit { addresses: self.clone(), address, client, joins: None, is_too_many: false, carriers };
        };
        let mut known = self.known();
        if known.entries.len() >= known.sweep_at {
            known.entries.retain(|_, entry| entry.connections > 0 || !entry.joins.is_full(now));
            known.sweep_at = (2 * known.entries.len()).max(SWEEP_LEAST);
        }
        let entry = known.entries.entry(address);
        let entry = entry.or_insert_with(|| Entry { connections: 0, joins: AddressJoins::new(limits.joins_per_second, now) });
        let is_too_many = entry.connections - others >= limits.connections_max;
        entry.connections += 1;
        Visit { addresses: self.clone(), address, client, joins: Some(entry.joins.clone()), is_too_many, carriers }
    }

    /// Has this address so many connections that one more is not worth a word? Behind a proxy's there are others.
    pub fn is_swamped(&self, address: IpAddr) -> bool {
        let Some(limits) = self.limits.filter(|_| !self.is_proxy(address)) else { return false };
        let connections = self.known().entries.get(&block(address)).map_or(0, |entry| entry.connections);
        connections >= limits.connections_max.saturating_add(REFUSED_MAX)
    }

    /// Does this address connect for others?
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|block| block.contains(&address.to_canonical()))
    }

    /// The address of a client that `peer` connected for: that of `peer` itself, unless that is a proxy, which names it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let named = headers.get_all("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(",");
        if !named.is_empty() && !self.is_proxy(client) && !self.stranger_told.swap(true, Ordering::Relaxed) {
            warn!(address = %client, "trusted_proxies: this address sends X-Forwarded-For and is not named, so all its clients are counted as one");
        }
        // Every proxy adds whom it heard from at the end, so what stands before an address that is no proxy's may be a lie.
        for name in named.rsplit(',') {
            match parse(name.trim()) {
                Some(address) if self.is_proxy(client) => client = address,
                _ => break,
            }
        }
        client
    }

    /// Does a client that `peer` connected for use TLS, by the word of a proxy? The one that is nearest to the client says so first.
    pub fn is_secure(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let named = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).and_then(|named| named.split(',').next());
        self.is_proxy(peer) && named.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// The address itself, or the block of IPv6 that it is counted with.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Notes a session that begins on this connection, which is soon gone.
    pub fn session(&self, now: Instant) -> Self {
        self.addresses.visit_beside(self.client, 1, now)
    }

    /// Notes that a connection carries this session.
    pub fn carried_by(self: &Arc<Self>, connection: Arc<Self>) -> Carried {
        let mut known = self.addresses.known();
        if self.carriers.fetch_add(1, Ordering::Relaxed) == 0
            && let Some(entry) = known.entries.get_mut(&self.address)
        {
            entry.connections -= 1;
        }
        drop(known);
        Carried { session: self.clone(), _connection: connection }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Visit { addresses, address, joins, carriers, .. } = &*self.session;
        let mut known = addresses.known();
        if carriers.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(joins) = joins
        {
            // The session may have been the last of the address, which was forgotten meanwhile.
            known.entries.entry(*address).or_insert_with(|| Entry { connections: 0, joins: joins.clone() }).connections += 1;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // What is left of the entry is forgotten when it is of no use any more.
        if let Some(entry) = self.addresses.known().entries.get_mut(&self.address) {
            entry.connections -= 1;
        }
    }
}

/// An address as proxies write it: some add the port, and brackets.
fn parse(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = bare.parse().ok().or_else(|| name.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::{protocol::ClientRates, session::throttle::Throttle};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(connections_max: usize) -> Arc<Addresses> {
        Addresses::new(Some(AddressLimits { connections_max, joins_per_second: 1 }), vec![])
    }

    #[test]
    fn an_address_has_so_many_connections_and_one_more_when_one_is_gone() {
        let addresses = addresses(2);
        let visit = |address| addresses.visit(ip(address), Instant::now());
        let first = visit("192.0.2.1");
        let second = visit("::ffff:192.0.2.1");
        assert!(!first.is_too_many && !second.is_too_many);
        assert!(visit("192.0.2.1").is_too_many);
        assert!(!visit("192.0.2.2").is_too_many);
        drop(first);
        assert!(!visit("192.0.2.1").is_too_many);
    }

    #[test]
    fn a_session_is_counted_once_whatever_carries_it() {
        let addresses = addresses(1);
        let now = Instant::now();
        let visit = |address| Arc::new(addresses.visit(ip(address), now));
        let is_too_many = || visit("192.0.2.1").is_too_many;
        let first = visit("192.0.2.1");
        let session = Arc::new(first.session(now));
        assert!(!session.is_too_many && first.session(now).is_too_many, "one is enough");
        drop(first);
        assert!(is_too_many());
        let (request, socket) = (session.carried_by(visit("192.0.2.1")), session.carried_by(visit("192.0.2.2")));
        let count = || addresses.known().entries.get(&ip("192.0.2.1")).map(|entry| entry.connections);
        assert_eq!(count(), Some(1));
        drop(request);
        assert!(!is_too_many(), "it is elsewhere");
        addresses.known().entries.remove(&ip("192.0.2.1"));
        drop(socket);
        assert_eq!((count(), is_too_many()), (Some(1), true));
        drop(session);
        assert!(!is_too_many());
    }

    #[test]
    fn ipv6_is_counted_by_its_first_64_bits() {
        let addresses = addresses(1);
        let visit = |address| addresses.visit(ip(address), Instant::now());
        let _first = visit("2001:db8:0:1::1");
        assert!(visit("2001:db8:0:1:ffff:ffff:ffff:ffff").is_too_many);
        assert!(!visit("2001:db8:0:2::1").is_too_many);
    }

    #[test]
    fn addresses_are_forgotten_when_nothing_is_left_to_remember() {
        let addresses = addresses(1);
        let now = Instant::now();
        let stays = addresses.visit(ip("192.0.2.1"), now);
        let joined = addresses.visit(ip("192.0.2.2"), now);
        let rates = ClientRates { messages_per_second: 1, bytes_per_second: 1, joins_per_second: 1 };
        Throttle::new(rates, now).take(1, joined.joins.as_deref(), now + Duration::from_secs(1000)).unwrap();
        drop(joined);
        for n in 0..100 * SWEEP_LEAST as u32 {
            drop(addresses.visit(IpAddr::V4((0x0a00_0000 + n).into()), now + Duration::from_secs(1)));
        }
        let known = addresses.known();
        assert!(known.entries.len() <= SWEEP_LEAST);
        assert!(known.entries.contains_key(&stays.address) && known.entries.contains_key(&ip("192.0.2.2")));
        drop(known);
    }

    #[test]
    fn a_client_has_the_address_that_the_last_trusted_proxy_names() {
        let proxies: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"].map(|block| block.parse().unwrap()).into();
        let addresses = Addresses::new(None, proxies);
        let address = |peer, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(value).unwrap());
            }
            addresses.client(ip(peer), &headers).to_string()
        };
        // Who is no proxy may write what it wants.
        assert_eq!(address("192.0.2.1", &["192.0.2.9"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(address("::ffff:10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(address("2001:db8::1", &["2001:db9::7"]), "2001:db9::7");
        // Only what is behind the last stranger is true.
        assert_eq!(address("10.0.0.1", &["192.0.2.8, 192.0.2.9,10.0.0.2"]), "192.0.2.9");
        assert_eq!(address("10.0.0.1", &["192.0.2.8", "192.0.2.9", "10.0.0.2"]), "192.0.2.9");
        assert_eq!(address("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        for (name, meant) in [("192.0.2.9:1234", "192.0.2.9"), ("[2001:db9::7]:1234", "2001:db9::7"), ("[2001:db9::7]", "2001:db9::7")] {
            assert_eq!(address("10.0.0.1", &[name]), meant);
        }
        let junk_before = HeaderValue::from_bytes(b"\xff, 192.0.2.9").unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), junk_before)]);
        assert_eq!(addresses.client(ip("10.0.0.1"), &headers).to_string(), "192.0.2.9", "nobody hides behind what it writes itself");
        for nothing in ["", "unknown", "192.0.2.8, _hidden"] {
            assert_eq!(address("10.0.0.1", &[nothing]), "10.0.0.1");
        }
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_that_a_client_uses_tls() {
        let addresses = Addresses::new(None, vec!["10.0.0.0/8".parse().unwrap()]);
        let is_secure = |peer, said: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_str(said).unwrap())]);
            addresses.is_secure(ip(peer), &headers)
        };
        assert!(is_secure("10.0.0.1", "https") && is_secure("::ffff:10.0.0.1", "HTTPS"));
        assert!(is_secure("10.0.0.1", "https, http"), "the proxy behind the first one was spoken to in the clear");
        assert!(!is_secure("10.0.0.1", "http, https") && !is_secure("10.0.0.1", "") && !is_secure("10.0.0.1", "wss"));
        assert!(!is_secure("192.0.2.1", "https"), "it is no proxy");
        assert!(!addresses.is_secure(ip("10.0.0.1"), &HeaderMap::new()));
    }
}
