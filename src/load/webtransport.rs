//! WebTransport for the engine: one bidirectional stream for each client, many clients on one UDP socket.

use std::{net::SocketAddr, sync::Arc};

use reqwest::Url;
use wtransport::{Connection, RecvStream, SendStream};

use super::LoadError;
use crate::client::{ConnectError, webtransport};

/// A UDP socket towards one server, for any number of clients. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<webtransport::Endpoint>);

impl Endpoint {
    /// Towards the server at `address`, whose certificate is verified by `tls` (with ALPN `h3`) or, without, has one of these SHA-256 hashes.
    /// Called within a runtime.
    pub fn new(address: SocketAddr, tls: Option<rustls::ClientConfig>, certificate_hashes: &[[u8; 32]]) -> Result<Self, LoadError> {
        let endpoint = webtransport::endpoint(address, None, tls, certificate_hashes)
            .map_err(|source| LoadError::System { what: "a UDP socket cannot be opened".into(), source })?;
        Ok(Self(Arc::new(endpoint)))
    }

    /// Opens a session and its stream.
    pub(super) async fn open(&self, url: &Url) -> Result<(Arc<Connection>, SendStream, RecvStream), LoadError> {
        let connection = self.0.connect(url.as_str()).await.map_err(|error| ConnectError::unreachable(url, error))?;
        let opening = connection.open_bi().await.map_err(|error| ConnectError::unreachable(url, error))?;
        let (send, receive) = opening.await.map_err(|error| ConnectError::unreachable(url, error))?;
        Ok((Arc::new(connection), send, receive))
    }
}
