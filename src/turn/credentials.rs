//! Credentials for the embedded server: good for as long as the session that has them, and a grace after it, in which a client that comes back may still
//! restart ICE; who has no session has them for a while. The secret is this process's own and never leaves it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    ice::rest::{self, TurnCredential},
    protocol::PeerId,
};

/// Who may use the embedded server, and with what.
pub struct Credentials {
    secret: [u8; 32],
    grace: Duration,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    known: HashMap<PeerId, Life>,
    /// Those that have ended, the first one first.
    ended: VecDeque<(SystemTime, PeerId)>,
}

/// How long somebody has what was issued.
#[derive(Clone, Copy)]
enum Life {
    /// Until its session ends.
    Session,
    /// Its session has ended: until then.
    Grace(SystemTime),
    /// It has no session: until then, and what it relays as well.
    Lent(SystemTime),
}

/// So many sessions that have ended are remembered; for one more the grace of the oldest is over.
const ENDED_MAX: usize = 65_536;

impl Credentials {
    /// Nobody has any yet. Those of a session end this long after it.
    pub fn new(grace: Duration) -> Arc<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system has random bits");
        Arc::new(Self { secret, grace, sessions: Mutex::default() })
    }

    /// Those of a session, good until then at the longest. It is taken to be alive from the first time on, until [`Self::session_ended`].
    pub fn issue(&self, peer_id: PeerId, expires_at: SystemTime) -> TurnCredential {
        self.sessions().known.entry(peer_id).or_insert(Life::Session);
        rest::credential(&self.secret, peer_id.hex().as_str(), expires_at)
    }

    /// Those of somebody who has no session. Then they end, and what is relayed with them. Forgotten at [`Self::session_ended`].
    pub fn lend(&self, peer_id: PeerId, expires_at: SystemTime) -> TurnCredential {
        self.sessions().known.insert(peer_id, Life::Lent(expires_at));
        rest::credential(&self.secret, peer_id.hex().as_str(), expires_at)
    }

    /// From now on the grace runs; what was lent is over.
    pub fn session_ended(&self, peer_id: &PeerId) {
        self.session_ended_at(*peer_id, SystemTime::now());
    }

    fn session_ended_at(&self, peer_id: PeerId, now: SystemTime) {
        let until = now + self.grace;
        let mut sessions = self.sessions();
        match sessions.known.get_mut(&peer_id) {
            Some(life @ Life::Session) => {
                *life = Life::Grace(until);
                sessions.ended.push_back((until, peer_id));
            }
            Some(Life::Lent(_)) => drop(sessions.known.remove(&peer_id)),
            Some(Life::Grace(_)) | None => {}
        }
        while let Some((until, peer_id)) = sessions.ended.front().copied()
            && (until <= now || sessions.ended.len() > ENDED_MAX)
        {
            sessions.ended.pop_front();
            sessions.known.remove(&peer_id);
        }
    }

    /// The password that goes with a user name, while it is good.
    pub fn password(&self, username: &str, now: SystemTime) -> Option<String> {
        let (expiry, peer_id) = parse(username)?;
        let is_good = now < UNIX_EPOCH.checked_add(Duration::from_secs(expiry))? && self.is_good_for(&peer_id, now);
        is_good.then(|| rest::password(&self.secret, username))
    }

    /// Is there a session of this peer, or was there one within the grace, or has it what was lent to it?
    pub fn is_good_for(&self, peer_id: &PeerId, now: SystemTime) -> bool {
        match self.sessions().known.get(peer_id) {
            Some(Life::Session) => true,
            Some(Life::Grace(until) | Life::Lent(until)) => now < *until,
            None => false,
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose user name this is.
pub fn peer_of(username: &str) -> Option<PeerId> {
    parse(username).map(|(_, peer_id)| peer_id)
}

fn parse(username: &str) -> Option<(u64, PeerId)> {
    let (expiry, name) = username.split_once(':')?;
    Some((expiry.parse().ok()?, PeerId::parse(name)?))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_password_is_good_for_its_session_and_a_grace_and_never_longer_than_it_says() {
        let credentials = Credentials::new(GRACE);
        let now = SystemTime::now();
        let (anna, bob) = (PeerId::random(), PeerId::random());
        let TurnCredential { username, password } = credentials.issue(anna, now + HOUR);
        let good = |username: &str, after| credentials.password(username, now + after);
        assert_eq!(good(&username, Duration::ZERO), Some(password.clone()));
        assert_eq!(good(&username, HOUR + Duration::from_secs(1)), None, "it says until when");
        assert_eq!(good(&rest::credential(&credentials.secret, bob.hex().as_str(), now + HOUR).username, Duration::ZERO), None);
        for other in ["", "anna", "1:anna", ":", "1700000000000000000000:x", &format!("{}:{}", u64::MAX, anna.hex().as_str())] {
            assert_eq!(good(other, Duration::ZERO), None, "{other}");
        }
        credentials.session_ended_at(anna, now);
        assert_eq!(good(&username, GRACE - Duration::from_secs(1)), Some(password));
        assert_eq!(good(&username, GRACE), None);
        credentials.issue(anna, now + HOUR);
        assert_eq!(good(&username, GRACE), None, "what has ended does not come back");
    }

    #[test]
    fn what_is_lent_ends_without_being_ended() {
        let credentials = Credentials::new(GRACE);
        let now = SystemTime::now();
        let peer_id = PeerId::random();
        let TurnCredential { username, password } = credentials.lend(peer_id, now + HOUR);
        assert_eq!(credentials.password(&username, now), Some(password));
        assert!(credentials.is_good_for(&peer_id, now + HOUR - Duration::from_secs(1)));
        assert!(!credentials.is_good_for(&peer_id, now + HOUR), "there is no grace");
        credentials.session_ended_at(peer_id, now);
        assert!(credentials.sessions().known.is_empty());
    }

    #[test]
    fn nothing_is_kept_of_sessions_whose_grace_is_over() {
        let credentials = Credentials::new(GRACE);
        let now = SystemTime::now();
        for _ in 0..1000 {
            let peer_id = PeerId::random();
            credentials.issue(peer_id, now + HOUR);
            credentials.session_ended_at(peer_id, now);
            credentials.session_ended_at(peer_id, now);
        }
        assert_eq!(credentials.sessions().ended.len(), 1000);
        credentials.session_ended_at(PeerId::random(), now + GRACE);
        assert!(credentials.sessions().ended.is_empty() && credentials.sessions().known.is_empty());
    }
}
