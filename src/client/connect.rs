//! From a base URL to a connection: discovery, trust, and one of the doors.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::Url;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use rustls_platform_verifier::Verifier;
use tokio::{net::lookup_host, sync::OnceCell, time::timeout};

use super::{
    Client, Door, ReceiverHalf, SenderHalf,
    discovery::{Discovery, Transport},
    websocket, webtransport,
};

/// What a client may be told beside the base URL.
#[derive(Clone, Debug)]
pub struct Options {
    /// Certificates to trust beside those that the system trusts: authorities, or a server's own. None by default.
    pub roots: Vec<CertificateDer<'static>>,
    /// The address to connect from; by default the system picks one.
    pub local_address: Option<IpAddr>,
    /// The origin to come with, as a page of it would; none by default, as of a program.
    pub origin: Option<String>,
    /// How long discovery, and after it each connection, may take: 10 s by default.
    pub timeout: Duration,
}

/// A server whose doors are known. Whoever opens many clients shares one: they then share a UDP socket and what was read of certificates.
pub struct Connector {
    discovery: Discovery,
    document: Url,
    options: Options,
    tls: OnceCell<Arc<ClientConfig>>,
    quic: OnceCell<webtransport::Endpoint>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It has to be `http` or `https` and a host.
    #[error("{0:?} is no base URL, which is http:// or https:// and a host")]
    BaseUrl(String),
    /// Nobody is there, or nobody that can be trusted or understood.
    #[error("{url} cannot be reached: {source}")]
    Unreachable { url: String, source: Box<dyn Error + Send + Sync> },
    /// Somebody is there and says no; 503 is a server that is full.
    #[error("{url} answers with status {status}")]
    Status { url: String, status: u16 },
    /// Somebody is there who is no Switchboard.
    #[error("{url} is no discovery document: {reason}")]
    Document { url: String, reason: String },
    /// The server has no such door.
    #[error("{url} offers no {door}")]
    NotOffered { url: String, door: Door },
    /// [`Options::timeout`] is over.
    #[error("{url} took longer than {} ms", .timeout.as_millis())]
    Timeout { url: String, timeout: Duration },
    /// [`Options::roots`] and what the system has are nothing to verify a certificate with.
    #[error("roots: no certificate can be verified: {0}")]
    Roots(rustls::Error),
}

impl Default for Options {
    fn default() -> Self {
        Self { roots: vec![], local_address: None, origin: None, timeout: Duration::from_secs(10) }
    }
}

impl Connector {
    /// Asks the server at `base_url` for its doors.
    pub async fn new(base_url: &str, options: Options) -> Result<Self, ConnectError> {
        let document = super::discovery::document_url(base_url)?;
        let discovery = Discovery::fetch_with(base_url, &options).await?;
        Ok(Self { discovery, document, options, tls: OnceCell::new(), quic: OnceCell::new() })
    }

    /// What the server told of itself.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Comes in by this door. Nothing is said yet: the first message that is sent stands for `hello`.
    pub async fn connect(&self, door: Door) -> Result<Client, ConnectError> {
        match self.discovery.transport(door) {
            Some(Transport::WebSocket { url }) => self.options.in_time(url, self.websocket(url, door)).await,
            Some(Transport::WebTransport { url, certificate_hashes }) => {
                self.options.in_time(url, self.webtransport(url, certificate_hashes)).await
            }
            None => Err(ConnectError::NotOffered { url: self.document.to_string(), door }),
        }
    }

    /// How this server's certificate is verified.
    pub(crate) fn tls(&self, alpn: &[u8]) -> Result<ClientConfig, ConnectError> {
        self.options.tls(alpn)
    }

    async fn websocket(&self, url: &Url, door: Door) -> Result<Client, ConnectError> {
        let tls = match url.scheme() {
            "wss" => Some(self.tls.get_or_try_init(async || self.options.tls(b"http/1.1").map(Arc::new)).await?.clone()),
            _ => None,
        };
        let addresses = self.resolve(url).await?;
        let (sender, receiver) = websocket::open(url, &addresses, &self.options, tls, door.codec()).await?;
        Ok(Client::new(SenderHalf::WebSocket(sender), ReceiverHalf::WebSocket(receiver), door))
    }

    async fn webtransport(&self, url: &Url, certificate_hashes: &[[u8; 32]]) -> Result<Client, ConnectError> {
        let endpoint = async || {
            let address = self.resolve(url).await?[0];
            let tls = if certificate_hashes.is_empty() { Some(self.options.tls(b"h3")?) } else { None };
            webtransport::endpoint(address, self.options.local_address, tls, certificate_hashes)
                .map_err(|error| ConnectError::unreachable(url, error))
        };
        let endpoint = self.quic.get_or_try_init(endpoint).await?;
        let (sender, receiver) = webtransport::open(endpoint, url, self.options.origin.as_deref()).await?;
        Ok(Client::new(SenderHalf::WebTransport(sender), ReceiverHalf::WebTransport(receiver), Door::WebTransport))
    }

    /// Addresses of the host, at least one. A host with several may not listen on all, so the one that told of the doors stands for it.
    pub(crate) async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        if let Some(ip) = self.discovery.answered_by.filter(|_| self.document.host_str() == Some(host)) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let unreachable = |error: Box<dyn Error + Send + Sync>| ConnectError::Unreachable { url: url.to_string(), source: error };
        let addresses: Vec<_> = lookup_host((bare_host(url), port)).await.map_err(|error| unreachable(error.into()))?.collect();
        if addresses.is_empty() { Err(unreachable("its host has no address".into())) } else { Ok(addresses) }
    }
}

impl Options {
    /// Gives up on `work` when it takes too long.
    pub(super) async fn in_time<T>(&self, url: &Url, work: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
        match timeout(self.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::Timeout { url: url.to_string(), timeout: self.timeout }),
        }
    }

    /// How the server at `url` is verified, if it is at all. Where nothing is, the system's certificates are not looked for.
    pub(super) fn tls_for(&self, url: &Url, alpn: &[u8]) -> Result<ClientConfig, ConnectError> {
        if url.scheme() == "https" {
            return self.tls(alpn);
        }
        Ok(builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    /// Trusts what the system trusts, and the roots.
    pub(super) fn verifying(&self) -> Result<ClientConfig, ConnectError> {
        let verifier = Verifier::new_with_extra_roots(self.roots.clone(), ring::default_provider().into()).map_err(ConnectError::Roots)?;
        Ok(builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }

    fn tls(&self, alpn: &[u8]) -> Result<ClientConfig, ConnectError> {
        let mut tls = self.verifying()?;
        tls.alpn_protocols = vec![alpn.to_vec()];
        Ok(tls)
    }
}

impl ConnectError {
    pub(crate) fn unreachable(url: &Url, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unreachable { url: url.to_string(), source: source.into() }
    }

    /// The same by an error whose text leaves to another what went wrong.
    pub(crate) fn unreachable_by_cause(url: &Url, error: impl Error + Send + Sync + 'static) -> Self {
        let mut cause: &dyn Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::unreachable(url, cause.to_string())
    }
}

/// The host as names and addresses are written elsewhere: an IPv6 address without its brackets.
pub fn bare_host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.3 and 1.2 take")
}
