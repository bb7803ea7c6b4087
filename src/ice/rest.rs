//! Credentials of which a TURN server knows only how they are made (draft-uberti-behave-turn-rest-00): the user name says until when they are good and for
//! whom, and the password is an HMAC of it with a secret that the server shares.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::hmac;

/// What a client shows to a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnCredential {
    /// `expiry:name`, the expiry in seconds since 1970.
    pub username: String,
    /// Never logged.
    pub password: String,
}

/// The credential that is good until then, for a client of this name.
pub fn credential(secret: &[u8], name: &str, expires_at: SystemTime) -> TurnCredential {
    let expiry = expires_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let username = format!("{expiry}:{name}");
    let password = password(secret, &username);
    TurnCredential { username, password }
}

/// The password that goes with this user name.
pub fn password(secret: &[u8], username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

impl fmt::Debug for TurnCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnCredential").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `printf 1700000000:anna | openssl dgst -sha1 -hmac north -binary | base64`
    #[test]
    fn a_credential_is_what_other_programs_make_of_the_same_secret() {
        let made = credential(b"north", "anna", UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!((made.username.as_str(), made.password.as_str()), ("1700000000:anna", "WS1fjjHj2gNlXzhc/ZcwmC3ofIo="));
        assert!(!format!("{made:?}").contains(&made.password));
    }
}
