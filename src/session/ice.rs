//! The ICE servers of a session's client: told in its welcome, and again before their credentials run out, whether it is connected just then or not.
//! What is told last is the latest, also behind a resume: a client that comes back hears in its welcome what was told last.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::prelude::*;

use super::Session;
use crate::{
    ice::{IceServers, Offer},
    protocol::{PeerId, ServerMessage},
};

/// Where a session has its ICE servers from, and when it asks again.
pub struct IceShare {
    servers: Arc<IceServers>,
    /// None where nothing runs out, or nothing before the client has to go.
    refresh_in: Option<Duration>,
    timer: Option<SpawnHandle>,
}

impl IceShare {
    /// For a session whose client is told of this offer in its welcome.
    pub fn new(servers: Arc<IceServers>, offer: &Offer, now: SystemTime) -> Self {
        Self { servers, refresh_in: offer.refresh_in(now), timer: None }
    }

    /// The session is over.
    pub fn ended(&self, peer_id: &PeerId) {
        self.servers.session_ended(peer_id);
    }
}

impl Session {
    /// Sees to it that the client is told of new credentials in time.
    pub(super) fn heed_ice_servers(&mut self, ctx: &mut Context<Self>) {
        let Some(ice) = &mut self.ice else { return };
        if let Some(timer) = ice.timer.take() {
            ctx.cancel_future(timer);
        }
        ice.timer = ice.refresh_in.map(|wait| ctx.run_later(wait, Self::name_ice_servers_anew));
    }

    /// Tells the client of new credentials, which last as long as it may stay by now.
    pub(super) fn name_ice_servers_anew(&mut self, ctx: &mut Context<Self>) {
        let Some(ice) = &mut self.ice else { return };
        let stays_until = self.admission.as_ref().and_then(|admission| admission.grant().expires_at);
        let now = SystemTime::now();
        let offer = ice.servers.for_session(self.welcome.peer_id, stays_until, now);
        if offer.expires_at.is_none() {
            return;
        }
        ice.refresh_in = offer.refresh_in(now);
        self.welcome.ice_servers = offer.servers.clone();
        self.delivery.tell(&ServerMessage::IceServers { servers: offer.servers });
        self.heed_ice_servers(ctx);
    }
}
