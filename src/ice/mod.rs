//! The ICE servers that clients are told of: where they come from, and how long their credentials are good.
//!
//! Three sources, together or alone: entries that are always the same; external TURN servers, which share a secret with this one and take what it signs
//! ([`rest`]); and the embedded server, by the trait [`Issuer`]. Nothing here knows a session or a socket; it is handed the time.

mod leases;
pub mod rest;
pub mod secrets;
pub mod server;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use self::leases::Leases;
pub use self::{
    leases::TooMany,
    rest::TurnCredential,
    secrets::{SecretError, SecretFiles},
    server::{By, IceServer, IceUrl},
};
use crate::protocol::{Payload, PeerId};

/// A TURN server that knows for whom its credentials are: the embedded one. They are good for as long as their session, too.
pub trait Issuer: Send + Sync {
    /// The server by all of its ways, with a credential for this session that is good until then.
    fn issue(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer>;

    /// The same for somebody who has no session. Then it ends, and all that it is used for.
    fn lend(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer>;

    /// The session, or the time of what was lent, is over, and the credentials with it.
    fn session_ended(&self, peer_id: &PeerId);
}

/// TURN servers that take whatever is signed with a secret that they know.
pub struct External {
    /// One server by these ways, or several.
    pub urls: Vec<IceUrl>,
    /// What is signed with.
    pub secrets: Arc<SecretFiles>,
}

/// Where ICE servers come from.
#[derive(Default)]
pub struct Sources {
    /// Always the same.
    pub fixed: Vec<IceServer>,
    pub external: Option<External>,
    pub embedded: Option<Arc<dyn Issuer>>,
}

/// How long credentials are good, and how many there are for who has no session.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a credential is good.
    pub lifetime: Duration,
    /// So many of the embedded server, at once, for the clients of one address that have no session.
    pub address_max: usize,
    /// The same for all addresses.
    pub total_max: usize,
}

/// All ICE servers, for whoever asks.
pub struct IceServers {
    sources: Sources,
    terms: Terms,
    /// The list for everybody, where nothing in it is for one client alone.
    common: Option<Payload<'static>>,
    leases: Mutex<Leases>,
}

/// What one client is told.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The list, as `RTCPeerConnection` takes it.
    pub servers: Payload<'static>,
    /// When the credentials in it run out; never if missing.
    pub expires_at: Option<SystemTime>,
    /// Do they last as long as whoever asked may stay, so that there is no use in new ones before?
    is_to_the_end: bool,
}

/// When a credential of some lifetime runs out, and whether that is because its client may not stay for longer.
#[derive(Clone, Copy)]
struct Term {
    expires_at: SystemTime,
    is_to_the_end: bool,
}

/// For who has no session nobody can tell when its use is over, so a credential of the embedded server is good for so long at the most.
const LEASE: Duration = Duration::from_secs(3600);

/// However short a lifetime is, nobody is told of new credentials more often than that.
const REFRESH_LEAST: Duration = Duration::from_secs(1);

impl IceServers {
    /// From these sources.
    pub fn new(sources: Sources, terms: Terms) -> Arc<Self> {
        let common = (sources.external.is_none() && sources.embedded.is_none()).then(|| spell(&sources.fixed));
        Arc::new(Self { sources, terms, common, leases: Leases::new(terms.address_max, terms.total_max).into() })
    }

    /// Is there one that relays?
    pub fn has_relay(&self) -> bool {
        let Sources { fixed, external, embedded } = &self.sources;
        external.is_some() || embedded.is_some() || fixed.iter().any(|server| server.urls.iter().any(IceUrl::is_turn))
    }

    /// An empty list.
    pub fn none() -> Payload<'static> {
        spell(&[])
    }

    /// What the client of this session is told now. Its credentials are good for their lifetime, and not for longer than the client may stay.
    pub fn for_session(&self, peer_id: PeerId, stays_until: Option<SystemTime>, now: SystemTime) -> Offer {
        let term = Term::new(self.terms.lifetime, stays_until, now);
        let embedded = self.sources.embedded.iter().flat_map(|embedded| embedded.issue(peer_id, term.expires_at)).collect();
        self.offer(peer_id, term, embedded)
    }

    /// The session is over.
    pub fn session_ended(&self, peer_id: &PeerId) {
        if let Some(embedded) = &self.sources.embedded {
            embedded.session_ended(peer_id);
        }
    }

    /// What somebody at this address is told who has no session. Who has as much of the embedded server as may be is told of the others, if there are any.
    pub fn for_address(&self, address: IpAddr, stays_until: Option<SystemTime>, now: SystemTime) -> Result<Offer, TooMany> {
        let peer_id = PeerId::random();
        let Some(embedded) = &self.sources.embedded else {
            return Ok(self.offer(peer_id, Term::new(self.terms.lifetime, stays_until, now), vec![]));
        };
        let term = Term::new(self.terms.lifetime.min(LEASE), stays_until, now);
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let has_others = self.sources.external.is_some() || !self.sources.fixed.is_empty();
        match leases.lend(address, (peer_id, term.expires_at), now, |ended| embedded.session_ended(ended)) {
            Ok(()) => Ok(self.offer(peer_id, term, embedded.lend(peer_id, term.expires_at))),
            Err(_) if has_others => Ok(self.offer(peer_id, term, vec![])),
            Err(too_many) => Err(too_many),
        }
    }

    fn offer(&self, peer_id: PeerId, term: Term, embedded: Vec<IceServer>) -> Offer {
        if let Some(servers) = &self.common {
            return Offer { servers: servers.clone(), expires_at: None, is_to_the_end: true };
        }
        let Term { expires_at, is_to_the_end } = term;
        let mut servers = self.sources.fixed.clone();
        servers.extend(self.sources.external.iter().map(|External { urls, secrets }| {
            let credential = rest::credential(secrets.signing().as_bytes(), peer_id.hex().as_str(), expires_at);
            IceServer::with_credential(urls.clone(), credential)
        }));
        let has_credentials = self.sources.external.is_some() || !embedded.is_empty();
        servers.extend(embedded);
        Offer { servers: spell(&servers), expires_at: has_credentials.then_some(expires_at), is_to_the_end }
    }
}

/// None at all.
impl Default for IceServers {
    fn default() -> Self {
        let leases = Leases::new(0, 0).into();
        Self {
            sources: Sources::default(),
            terms: Terms { lifetime: Duration::ZERO, address_max: 0, total_max: 0 },
            common: Some(Self::none()),
            leases,
        }
    }
}

impl Offer {
    /// In what time there should be another one, if there should: when half of the time is over, so that what a client has is always good for a while.
    pub fn refresh_in(&self, now: SystemTime) -> Option<Duration> {
        let expires_at = self.expires_at.filter(|_| !self.is_to_the_end)?;
        let left = expires_at.duration_since(now).unwrap_or_default();
        Some((left / 2).max(REFRESH_LEAST))
    }

    /// How long it is good, in whole seconds.
    pub fn ttl_s(&self, now: SystemTime) -> Option<u64> {
        self.expires_at.map(|expires_at| expires_at.duration_since(now).unwrap_or_default().as_secs())
    }
}

impl Term {
    fn new(lifetime: Duration, stays_until: Option<SystemTime>, now: SystemTime) -> Self {
        let expires_at = now + lifetime;
        match stays_until {
            Some(end) if end <= expires_at => Self { expires_at: end, is_to_the_end: true },
            _ => Self { expires_at, is_to_the_end: false },
        }
    }
}

fn spell(servers: &[IceServer]) -> Payload<'static> {
    Payload::from_serialize(&servers).expect("ICE servers can be spelled")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    /// An embedded server that notes for whom it is told.
    #[derive(Default)]
    struct Embedded {
        issued: Mutex<Vec<(PeerId, SystemTime)>>,
        ended: Mutex<Vec<PeerId>>,
    }

    impl Issuer for Embedded {
        fn issue(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer> {
            self.issued.lock().unwrap().push((peer_id, expires_at));
            let credential = rest::credential(b"its own", peer_id.hex().as_str(), expires_at);
            vec![IceServer::with_credential(vec!["turn:embedded".parse().unwrap()], credential)]
        }

        fn lend(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer> {
            self.issue(peer_id, expires_at)
        }

        fn session_ended(&self, peer_id: &PeerId) {
            self.ended.lock().unwrap().push(*peer_id);
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);
    const TERMS: Terms = Terms { lifetime: DAY, address_max: 2, total_max: 9 };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn external() -> Option<External> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "north").unwrap();
        let secrets = SecretFiles::load(&[file.path().to_owned()]).unwrap().unwrap();
        Some(External { urls: vec!["turn:external".parse().unwrap()], secrets })
    }

    fn list(offer: &Offer) -> Value {
        offer.servers.parse().unwrap()
    }

    #[test]
    fn sources_stand_together_in_order_each_with_its_own_credential() {
        let embedded = Arc::new(Embedded::default());
        let fixed: Vec<IceServer> = serde_json::from_value(json!(["stun:fixed"])).unwrap();
        let servers = IceServers::new(Sources { fixed, external: external(), embedded: Some(embedded.clone()) }, TERMS);
        let peer_id = PeerId::random();
        let offer = servers.for_session(peer_id, None, at(1000));
        let list = list(&offer);
        let urls: Vec<_> = list.as_array().unwrap().iter().map(|server| server["urls"][0].as_str().unwrap()).collect();
        assert_eq!(urls, ["stun:fixed", "turn:external", "turn:embedded"]);
        let username = format!("87400:{peer_id}");
        for (server, secret) in [(&list[1], &b"north"[..]), (&list[2], b"its own")] {
            assert_eq!((&server["username"], &server["credential"]), (&json!(username), &json!(rest::password(secret, &username))));
        }
        assert_eq!(*embedded.issued.lock().unwrap(), [(peer_id, at(87_400))]);
        servers.session_ended(&peer_id);
        assert_eq!(*embedded.ended.lock().unwrap(), [peer_id]);
    }

    #[test]
    fn there_is_a_new_offer_when_half_of_the_time_is_over_unless_the_client_has_to_go_before() {
        let servers = IceServers::new(Sources { external: external(), ..Sources::default() }, TERMS);
        let offer = |until| servers.for_session(PeerId::random(), until, at(0));
        let refreshed = |until| offer(until).refresh_in(at(0)).map(|wait| wait.as_secs());
        assert_eq!(refreshed(None), Some(43_200));
        assert_eq!(refreshed(Some(at(86_401))), Some(43_200));
        assert_eq!(refreshed(Some(at(86_400))), None);
        assert_eq!((refreshed(Some(at(60))), offer(Some(at(60))).ttl_s(at(1))), (None, Some(59)));
        let fixed = IceServers::new(Sources::default(), TERMS).for_session(PeerId::random(), None, at(0));
        assert_eq!((fixed.refresh_in(at(0)), fixed.ttl_s(at(0)), list(&fixed)), (None, None, json!([])));
    }

    #[test]
    fn without_a_session_the_embedded_server_is_lent_for_an_hour_and_not_to_too_many() {
        let embedded = Arc::new(Embedded::default());
        let servers = IceServers::new(Sources { embedded: Some(embedded.clone()), ..Sources::default() }, TERMS);
        let [here, there] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let ttl = |address, now| servers.for_address(address, None, at(now)).map(|offer| offer.ttl_s(at(now)));
        assert_eq!(ttl(here, 0), Ok(Some(3600)));
        assert_eq!(ttl(here, 60), Ok(Some(3600)));
        assert_eq!(ttl(here, 120), Err(TooMany { retry_after: Duration::from_secs(3480) }));
        assert_eq!(ttl(there, 120), Ok(Some(3600)));
        assert_eq!(embedded.issued.lock().unwrap().len(), 3, "who is refused has none");
        assert_eq!(ttl(here, 3600), Ok(Some(3600)));
        let first = embedded.issued.lock().unwrap()[0].0;
        assert_eq!(*embedded.ended.lock().unwrap(), [first]);
        // What anybody can make of a secret is not counted.
        let external = IceServers::new(Sources { external: external(), ..Sources::default() }, TERMS);
        for _ in 0..9 {
            assert_eq!(external.for_address(here, None, at(0)).unwrap().ttl_s(at(0)), Some(86_400));
        }
    }
}
