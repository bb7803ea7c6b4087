//! Who may come in, and what for.
//!
//! Every door and every dialect asks here, once when a client has said who it is and once for each room, where somebody has to be asked at all: a
//! server without settings is open. Nothing here knows what a session is, or a socket.

pub mod callback;
pub mod claims;
pub mod failures;
pub mod grant;
pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod origin;
pub mod signing;
#[cfg(test)]
mod wycheproof;

use std::{fmt, net::IpAddr, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

pub use self::{
    claims::{ClaimFault, Rules},
    grant::{Grant, RateLimits, Rights, RoomGrant, RoomPattern},
    jwks::{FetchError, PublishedKeys},
    jwt::{BadToken, Tokens},
    keys::{Algorithm, Key, KeyError},
    signing::{Pair, SigningKey},
};
use crate::protocol::PeerId;

/// Who decides. A server that has nobody to ask lets everybody do everything.
pub trait Authorize: Send + Sync {
    /// What may this client do? Asked before it has a session, and when it comes with a new token.
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>>;

    /// May this client enter this room? Asked where the grant says so.
    fn join(&self, _visitor: Visitor, _user: Option<Arc<str>>, _room: String) -> BoxFuture<'_, Result<RoomAccess, Denied>> {
        std::future::ready(Err(Denied::new("nobody is asked about rooms"))).boxed()
    }
}

/// Who wants to come in.
#[derive(Clone)]
pub struct Visitor {
    /// What it says to prove who it is. Never logged.
    pub token: Option<String>,
    pub peer_id: PeerId,
    /// Where it comes from: IPv4, or the first 64 bits of IPv6.
    pub address: IpAddr,
    /// The dialect that it speaks.
    pub dialect: &'static str,
}

/// What a client may do in a room that it enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomAccess {
    pub rights: Rights,
    /// With so many peers the room is full for it; as many as any room may have if missing.
    pub peers_max: Option<usize>,
}

/// Why somebody is not let in: for the log, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    reason: String,
    is_blameless: bool,
    slug: &'static str,
}

/// The word for counts where nobody can be asked.
const UNAVAILABLE: &str = "unavailable";

impl Denied {
    /// Nobody can be asked, for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::blameless(reason).counted_as(UNAVAILABLE)
    }

    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_blameless: false, slug: "denied" }
    }

    /// For this reason, which is nobody's attempt at what is not theirs: the token was good once, or nobody can be asked. It is not counted as a failure of
    /// the client's address, where all clients of an office may have it at once.
    pub fn blameless(reason: impl Into<String>) -> Self {
        Self { is_blameless: true, ..Self::new(reason) }
    }

    /// Is it no failure to be counted?
    pub fn is_blameless(&self) -> bool {
        self.is_blameless
    }

    /// The same for counts, which know it by this word.
    pub fn counted_as(self, slug: &'static str) -> Self {
        Self { slug, ..self }
    }

    /// Could nobody be asked? Then the client may as well come again.
    pub fn is_unavailable(&self) -> bool {
        self.slug == UNAVAILABLE
    }

    /// One word for counts.
    pub fn slug(&self) -> &'static str {
        self.slug
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
