//! The embedded server as one of those that clients are told of: in `welcome`, with a credential that ends with the session.

use std::{sync::Arc, time::SystemTime};

use super::credentials::Credentials;
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

impl Issuer for Source {
    fn issue(&self, peer_id: PeerId, expires_at: SystemTime) -> Vec<IceServer> {
        vec![IceServer::with_credential(self.urls.clone(), self.credentials.issue(peer_id, expires_at))]
    }

    fn session_ended(&self, peer_id: &PeerId) {
        self.credentials.session_ended(peer_id);
    }
}
