//! Nonces that nobody has to remember: when one was made, and an HMAC of that and of whom it was made for. A request without credentials costs no memory, and
//! what comes with a good nonce comes from the address that it says.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;

/// Makes nonces, and knows its own.
pub struct Nonces {
    key: hmac::Key,
    since: Instant,
}

/// A nonce is good for so long; then the client is given another.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The time in seconds, and so much of the HMAC that nobody guesses it: together 22 characters, for an answer has to stay small.
const TIME_BYTES: usize = 4;
const TAG_BYTES: usize = 12;

impl Nonces {
    /// Begins with a secret of its own.
    pub fn new(now: Instant) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system has random bits");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), since: now }
    }

    /// One for this client.
    pub fn make(&self, client: SocketAddr, now: Instant) -> String {
        self.made(client, self.seconds(now))
    }

    /// Is it one that was made for this client, and not too long ago?
    pub fn is_good(&self, nonce: &str, client: SocketAddr, now: Instant) -> bool {
        let mut bytes = [0; TIME_BYTES + TAG_BYTES];
        if BASE64_URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes) != Ok(bytes.len()) {
            return false;
        }
        let seconds = u32::from_be_bytes(bytes[..TIME_BYTES].try_into().expect("four bytes"));
        let age = self.seconds(now).checked_sub(seconds);
        age.is_some_and(|age| u64::from(age) < LIFETIME.as_secs())
            && subtle::ConstantTimeEq::ct_eq(&self.tag(client, seconds)[..], &bytes[TIME_BYTES..]).into()
    }

    fn made(&self, client: SocketAddr, seconds: u32) -> String {
        BASE64_URL_SAFE_NO_PAD.encode([&seconds.to_be_bytes()[..], &self.tag(client, seconds)].concat())
    }

    fn tag(&self, client: SocketAddr, seconds: u32) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        match client.ip() {
            IpAddr::V4(address) => context.update(&address.octets()),
            IpAddr::V6(address) => context.update(&address.octets()),
        }
        context.update(&client.port().to_be_bytes());
        context.update(&seconds.to_be_bytes());
        context.sign().as_ref()[..TAG_BYTES].try_into().expect("a tag is longer")
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.since).as_secs() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_whom_it_was_made_for_and_a_while() {
        let now = Instant::now();
        let nonces = Nonces::new(now);
        let [anna, bob]: [SocketAddr; 2] = ["192.0.2.1:5".parse().unwrap(), "192.0.2.1:6".parse().unwrap()];
        let nonce = nonces.make(anna, now + LIFETIME);
        assert_eq!(nonce.len(), 22);
        let later = |seconds| now + LIFETIME + Duration::from_secs(seconds);
        assert!(nonces.is_good(&nonce, anna, later(0)) && nonces.is_good(&nonce, anna, later(3599)));
        assert!(!nonces.is_good(&nonce, anna, later(3600)), "too old");
        assert!(!nonces.is_good(&nonce, anna, now), "from the future");
        assert!(!nonces.is_good(&nonce, bob, later(0)), "another's");
        assert!(!Nonces::new(now).is_good(&nonce, anna, later(0)), "another server's");
        for other in ["", "x", &nonce[1..], &format!("{nonce}A"), &format!("A{}", &nonce[..21]), "!!!!!!!!!!!!!!!!!!!!!!"] {
            assert!(!nonces.is_good(other, anna, later(0)), "{other}");
        }
    }
}
