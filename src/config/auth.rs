//! Who may come in.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use serde::Serialize;

use super::value::{self, https_url, integer, path, paths, text};

/// Who may come in. With `keys` or `jwks_url` that is who has a token, a JWT; with `callback_url` whom the application lets in; with neither, everybody.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Auth {
    /// Files with the keys of who makes tokens: a public key in PEM (RSA for RS256, P-256 for ES256, Ed25519 for EdDSA), a JWK or a JWKS; for HS256 a JWK
    /// of kind `oct`, whose secret has 32 bytes at least. A token says by its `kid` which of them it is for; that of a key in PEM is the name of its file
    /// without the extension. A file that changes is read again. In the environment they are separated by commas. `switchboard keys` makes a pair.
    #[config(env = "SWITCHBOARD_AUTH_KEYS", default = [], deserialize_with = paths)]
    pub keys: Vec<PathBuf>,

    /// Where an identity provider publishes its keys, a JWKS: `https:`, or `http:` on this machine. They are fetched again for a token whose `kid` is not
    /// among them, at most every 10 seconds.
    #[config(env = "SWITCHBOARD_AUTH_JWKS_URL", deserialize_with = https_url)]
    #[serde(serialize_with = "value::as_text")]
    pub jwks_url: Option<Url>,

    /// How often they are fetched, in milliseconds.
    /// Range: 1000 to 86400000 (1 day).
    #[config(env = "SWITCHBOARD_AUTH_JWKS_REFRESH_MS", default = 300000, deserialize_with = integer::<_, _, 1000, 86_400_000>)]
    pub jwks_refresh_ms: u64,

    /// The only `iss` that a token may have; left out, it may have any or none.
    #[config(env = "SWITCHBOARD_AUTH_ISSUER", deserialize_with = text)]
    pub issuer: Option<String>,

    /// What has to be in the `aud` of a token; left out, that may be anything or nothing. Set it where the same keys sign tokens for other services.
    #[config(env = "SWITCHBOARD_AUTH_AUDIENCE", deserialize_with = text)]
    pub audience: Option<String>,

    /// How far the clocks of this server and of who makes tokens may be apart, in milliseconds: that long before `nbf` and after `exp` a token is taken.
    /// Range: 0 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_AUTH_LEEWAY_MS", default = 30000, deserialize_with = integer::<_, _, 0, 60_000>)]
    pub leeway_ms: u64,

    /// Where the application is asked who may come in, and which rooms they may enter, by a POST of JSON: `https:`, or `http:` on this machine. Beside keys
    /// it is asked about clients whose token is good. README.md says what is asked and answered.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_URL", deserialize_with = https_url)]
    #[serde(serialize_with = "value::as_text")]
    pub callback_url: Option<Url>,

    /// A file with the secret by which the application knows who asks: it is sent as a bearer token. Read once, at the start.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_SECRET_FILE", deserialize_with = path)]
    pub callback_secret_file: Option<PathBuf>,

    /// How long the application may take to answer, in milliseconds, from when it is to be asked; who takes longer has said no.
    /// Range: 10 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_TIMEOUT_MS", default = 3000, deserialize_with = integer::<_, _, 10, 60_000>)]
    pub callback_timeout_ms: u64,

    /// How long an answer is kept, in milliseconds, for who asks the same as the same: with the same token, or as the same user; without either,
    /// as the same peer. 0 asks each time.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_CACHE_MS", default = 10000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub callback_cache_ms: u64,

    /// Questions to the application that may be under way at once. One more waits for its turn, no longer than an answer may take.
    /// Range: 1 to 4096.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_CONCURRENT_MAX", default = 64, deserialize_with = integer::<_, _, 1, 4096>)]
    pub callback_concurrent_max: usize,
}

impl Auth {
    /// Is there a key that tokens are checked with?
    pub fn asks_for_tokens(&self) -> bool {
        !self.keys.is_empty() || self.jwks_url.is_some()
    }

    /// Who may come in by these settings, as a sentence without its full stop.
    pub fn admits(&self) -> String {
        let keys = (!self.keys.is_empty()).then_some("auth.keys");
        let published = self.jwks_url.is_some().then_some("auth.jwks_url");
        let named: Vec<&str> = keys.into_iter().chain(published).collect();
        match (&named[..], &self.callback_url) {
            ([], None) => "Anybody may come in".to_owned(),
            ([], Some(_)) => "The application decides who may come in (auth.callback_url)".to_owned(),
            (named, None) => format!("Clients need a token ({})", named.join(", ")),
            (named, Some(_)) => format!("Clients need a token ({}), and the application decides (auth.callback_url)", named.join(", ")),
        }
    }

    /// How often published keys are fetched.
    pub fn jwks_refresh(&self) -> Duration {
        Duration::from_millis(self.jwks_refresh_ms)
    }

    /// How long the application may take to answer.
    pub fn callback_timeout(&self) -> Duration {
        Duration::from_millis(self.callback_timeout_ms)
    }

    /// How long its answers are kept.
    pub fn callback_cache(&self) -> Duration {
        Duration::from_millis(self.callback_cache_ms)
    }

    /// How far clocks may be apart.
    pub fn leeway(&self) -> Duration {
        Duration::from_millis(self.leeway_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_in_is_told_in_a_sentence() {
        let url = || Some("https://id.example/".parse().unwrap());
        let keys = || vec!["a.pem".into()];
        for (auth, said) in [
            (Auth::default(), "Anybody may come in"),
            (Auth { keys: keys(), ..Auth::default() }, "Clients need a token (auth.keys)"),
            (Auth { keys: keys(), jwks_url: url(), ..Auth::default() }, "Clients need a token (auth.keys, auth.jwks_url)"),
            (Auth { callback_url: url(), ..Auth::default() }, "The application decides who may come in (auth.callback_url)"),
            (
                Auth { jwks_url: url(), callback_url: url(), ..Auth::default() },
                "Clients need a token (auth.jwks_url), and the application decides (auth.callback_url)",
            ),
        ] {
            assert_eq!(auth.admits(), said);
        }
    }
}
