//! Keys that an identity provider publishes at a URL (JWKS), kept for a while.
//!
//! They are fetched when the server starts, every so often after that, and when a token names a key that is not among them, which is what the first
//! token after a rotation does. Strangers can write such tokens too, so that happens at most every so often. What was fetched last stays in use
//! while the provider is down, sends too much, or sends something else.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use reqwest::{Client, ClientBuilder, Url, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::{Mutex, OnceCell};
use tracing::{error, info};

use super::keys::{Key, KeyFault, list};

/// Where keys are published, and how they are fetched.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// The URL; one of HTTPS, or of this machine.
    pub url: Url,
    /// How often they are fetched.
    pub every: Duration,
    /// How often at most they are fetched for a token that names a key which is not among them, and after a failure.
    pub retry_after: Duration,
    /// How long a fetch may take.
    pub deadline: Duration,
    /// Bytes that the answer may have.
    pub bytes_max: usize,
}

/// Why published keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers, or not in time.
    #[error("{}", with_causes(.0))]
    Unreachable(#[from] reqwest::Error),
    /// This machine has no certificates to trust.
    #[error("no certificates to trust: {0}")]
    Roots(rustls::Error),
    /// The answer is an HTTP error or a redirection, which is not followed.
    #[error("it answers with HTTP status {0}")]
    Status(u16),
    /// The answer is too long.
    #[error("it answers with more than {0} bytes")]
    TooLong(usize),
    /// The answer has no key that can be used.
    #[error("it {0}")]
    Keys(#[from] KeyFault),
}

/// The keys that were fetched last.
pub(super) struct Jwks {
    settings: PublishedKeys,
    keys: ArcSwap<Vec<Arc<Key>>>,
    http: OnceCell<Client>,
    /// When they were asked for last. Held while they are, so that everybody waits for one and the same answer.
    asked: Mutex<Option<Instant>>,
    /// Could they not be fetched the last time, or not yet?
    is_out_of_reach: AtomicBool,
}

impl PublishedKeys {
    /// Fetched from this URL this often, with bounds that are wide for honest providers.
    pub fn new(url: Url, every: Duration) -> Self {
        let (retry_after, deadline) = (Duration::from_secs(10).min(every), Duration::from_secs(5));
        Self { url, every, retry_after, deadline, bytes_max: 262_144 }
    }
}

impl Jwks {
    /// None yet.
    pub fn new(settings: PublishedKeys) -> Self {
        Self { settings, keys: ArcSwap::default(), http: OnceCell::new(), asked: Mutex::new(None), is_out_of_reach: AtomicBool::new(true) }
    }

    /// Those that were fetched last.
    pub fn keys(&self) -> Arc<Vec<Arc<Key>>> {
        self.keys.load_full()
    }

    /// May there be others that cannot be fetched now?
    pub fn is_out_of_reach(&self) -> bool {
        self.is_out_of_reach.load(Ordering::Relaxed)
    }

    /// Fetches them when they are due, for ever.
    pub async fn watch(&self) {
        let mut was_told = false;
        loop {
            let fetched = self.fetch(Instant::now()).await;
            let wait = if fetched.is_ok() { self.settings.every } else { self.settings.retry_after };
            match fetched {
                Ok(()) => was_told = false,
                // Once is enough until it is over.
                Err(error) if !was_told => {
                    was_told = true;
                    if self.keys.load().is_empty() {
                        error!(url = self.shown(), %error, "auth.jwks_url: keys cannot be fetched, and there are none from there yet");
                    } else {
                        error!(url = self.shown(), %error, "auth.jwks_url: keys cannot be fetched, the last ones stay in use");
                    }
                }
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Fetches them for a token that names a key which is not among them, unless they were asked for a moment ago.
    pub async fn fetch_for_unknown(&self, now: Instant) {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|asked| now.saturating_duration_since(asked) >= self.settings.retry_after) {
            // What fails here is told by the one who watches.
            let _ = self.fetch_holding(&mut asked, now).await;
        }
    }

    /// The URL without what in it may be a secret.
    fn shown(&self) -> String {
        let mut url = self.settings.url.clone();
        url.set_query(None);
        // A URL of HTTP may have both.
        let _ = (url.set_username(""), url.set_password(None));
        url.into()
    }

    /// Fetches them now.
    pub async fn fetch(&self, now: Instant) -> Result<(), FetchError> {
        self.fetch_holding(&mut *self.asked.lock().await, now).await
    }

    async fn fetch_holding(&self, asked: &mut Option<Instant>, now: Instant) -> Result<(), FetchError> {
        *asked = Some(now);
        self.is_out_of_reach.store(true, Ordering::Relaxed);
        let keys = Key::from_published_jwks(&self.answer().await?)?;
        self.is_out_of_reach.store(false, Ordering::Relaxed);
        let names = |keys: &[Arc<Key>]| keys.iter().map(|key| key.name().map(str::to_owned)).collect::<Vec<_>>();
        if names(&keys) != names(&self.keys.load()) {
            info!(url = self.shown(), keys = list(&keys), "published keys are in use");
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    async fn answer(&self) -> Result<Vec<u8>, FetchError> {
        let PublishedKeys { url, deadline, bytes_max, .. } = &self.settings;
        let without_url = |error: reqwest::Error| FetchError::Unreachable(error.without_url());
        let client = || async {
            let (is_secure, deadline) = (url.scheme() == "https", *deadline);
            // It reads the system's certificates.
            tokio::task::spawn_blocking(move || client(is_secure, deadline)).await.expect("a client is made without a panic")
        };
        let http = self.http.get_or_try_init(client).await?;
        let mut response = http.get(url.clone()).send().await.map_err(without_url)?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(without_url)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > *bytes_max {
                return Err(FetchError::TooLong(*bytes_max));
            }
        }
        Ok(answer)
    }
}

/// A client for something that is fetched now and then.
fn client(is_secure: bool, deadline: Duration) -> Result<Client, FetchError> {
    // A connection that is kept for minutes is one more thing that can be dead.
    Ok(builder(is_secure, deadline)?.pool_max_idle_per_host(0).build()?)
}

/// An error with what has led to it, which in the library's is the part that helps: that a connection was refused, or a name is not known.
pub(super) fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.ends_with(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    text
}

/// A client that trusts what the system trusts.
pub(super) fn builder(is_secure: bool, deadline: Duration) -> Result<ClientBuilder, FetchError> {
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into()).with_safe_default_protocol_versions();
    let tls = tls.expect("ring has what TLS 1.3 and 1.2 take");
    let tls = if is_secure {
        tls.with_platform_verifier().map_err(FetchError::Roots)?.with_no_client_auth()
    } else {
        tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    };
    let http = Client::builder().timeout(deadline).redirect(Policy::none()).tls_backend_preconfigured(tls);
    // Nobody's proxy leads to this machine.
    Ok(if is_secure { http } else { http.no_proxy() })
}
