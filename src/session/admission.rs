//! What a session asks of whoever decides who may come in: a room, a new token. And its end, when what it was granted runs out.
//!
//! Only a server that asks has one of these per session. The answers come through the session's mailbox, as those of the registry do.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use actix::prelude::*;
use tracing::info;

use super::Session;
use crate::{
    auth::{Authorize, Grant, Visitor},
    metrics::TokenFailure,
    protocol::{CloseCode, ErrorCode, LeaveReason, RoomId, ServerMessage},
    registry::{
        ask,
        command::{Answer, Join, Leave},
    },
};

/// Whom a session asks, and what it was granted.
pub struct Admission {
    authority: Arc<dyn Authorize>,
    /// As who it asks, without a token.
    visitor: Visitor,
    grant: Arc<Grant>,
    timer: Option<SpawnHandle>,
    /// Has the client been told that the end is near?
    is_announced: bool,
    /// How often the grant was another: what was asked before does not count any more.
    renewals: u32,
    /// New tokens that were said in time, and are being looked at.
    looked_at: u32,
}

/// May the client enter this room?
#[derive(Message)]
#[rtype(result = "()")]
pub struct AskToJoin(pub Join);

/// The client says another token; or none, where its dialect lets it be judged anew by that.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Renew {
    pub token: Option<String>,
}

/// So long before its end a client is told of it.
const AHEAD: Duration = Duration::from_secs(30);
/// The clock may be set meanwhile, so nobody sleeps for longer.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Admission {
    /// For a client that was let in with this grant.
    pub fn new(authority: Arc<dyn Authorize>, visitor: Visitor, grant: Grant) -> Self {
        let visitor = Visitor { token: None, ..visitor };
        Self { authority, visitor, grant: Arc::new(grant), timer: None, is_announced: false, renewals: 0, looked_at: 0 }
    }

    /// It comes from there now.
    pub fn moved(&mut self, address: IpAddr) {
        self.visitor.address = address;
    }

    /// Has the client been told that the end is near?
    pub fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// How long what was granted lasts yet, if it has an end.
    fn left(&self) -> Option<Duration> {
        Some(self.grant.expires_at?.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// What the client may do.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }
}

impl Session {
    /// Watches the time of what was granted: says when it is almost over, and ends the session when it is.
    pub(super) fn heed_end(&mut self, ctx: &mut Context<Self>) {
        let Some(admission) = &mut self.admission else { return };
        if let Some(timer) = admission.timer.take() {
            ctx.cancel_future(timer);
        }
        let Some(left) = admission.left() else { return };
        if left.is_zero() {
            // Who said a new one in time is heard to the end.
            if admission.looked_at == 0 {
                self.close(CloseCode::TokenExpired, Instant::now(), ctx);
            }
            return;
        }
        let wait = if left > AHEAD { left - AHEAD } else { left };
        admission.timer = Some(ctx.run_later(wait.min(LOOK_AGAIN), Self::heed_end));
        if left <= AHEAD && !std::mem::replace(&mut admission.is_announced, true) {
            self.announce_end();
        }
    }

    /// Says how long it is to the end, if there is one.
    pub(super) fn announce_end(&self) {
        if let Some(left) = self.admission.as_ref().and_then(|admission| admission.left()) {
            self.delivery.tell(&ServerMessage::Closing { code: CloseCode::TokenExpired, in_ms: left.as_millis() as u64 });
        }
    }

    /// Goes on with another grant: as the same user, or not at all. The rooms that it is not for are to be left.
    pub(super) fn renew(&mut self, grant: Grant, ctx: &mut Context<Self>) -> Option<Vec<RoomId>> {
        let admission = self.admission.as_mut().filter(|admission| admission.grant.user == grant.user)?;
        (admission.grant, admission.is_announced) = (Arc::new(grant), false);
        admission.renewals += 1;
        let grant = admission.grant.clone();
        let gone = self.hearing().renew(grant);
        self.heed_end(ctx);
        self.name_ice_servers_anew(ctx);
        Some(gone)
    }

    /// Leaves rooms that are not for it any more.
    pub(super) fn dismiss(&self, rooms: Vec<RoomId>, is_awaited: bool) {
        let (peer_id, inlet) = (self.welcome.peer_id, self.delivery.clone());
        let leave = Leave { peer_id, inlet, rooms, reason: LeaveReason::Removed, is_awaited };
        ask(&self.shared.registry, self.delivery.metrics(), leave);
    }
}

impl Handler<AskToJoin> for Session {
    type Result = ();

    fn handle(&mut self, AskToJoin(mut join): AskToJoin, ctx: &mut Context<Self>) {
        let Some(admission) = &self.admission else { return };
        let (authority, visitor, user) = (admission.authority.clone(), admission.visitor.clone(), admission.grant.user.clone());
        let room = join.room.name().to_owned();
        // It ends with the session: nobody enters a room for one that is gone.
        let asked = async move { authority.join(visitor, user, room).await }.into_actor(self);
        ctx.spawn(asked.map(move |answer, session, _| match answer {
            Ok(access) => {
                (join.entry.rights, join.entry.peers_max) = (access.rights, access.peers_max);
                ask(&session.shared.registry, session.delivery.metrics(), join);
            }
            Err(denied) => {
                session.delivery.metrics().token_failed(TokenFailure::named(denied.slug()));
                info!(peer_id = %join.peer_id, room = join.room.name(), %denied, "a client is not let into a room");
                let code = if denied.is_unavailable() { ErrorCode::Unavailable } else { ErrorCode::Forbidden };
                join.inlet.answer(Answer::Refused(code));
            }
        }));
    }
}

impl Handler<Renew> for Session {
    type Result = ();

    fn handle(&mut self, Renew { token }: Renew, ctx: &mut Context<Self>) {
        let Some(admission) = &mut self.admission else { return };
        let (authority, visitor) = (admission.authority.clone(), Visitor { token, ..admission.visitor.clone() });
        let in_time = u32::from(admission.left().is_none_or(|left| !left.is_zero()));
        admission.looked_at += in_time;
        let renewals = admission.renewals;
        let asked = async move { authority.connect(visitor).await }.into_actor(self);
        ctx.spawn(asked.map(move |answer, session, ctx| {
            let peer_id = session.welcome.peer_id;
            let grant = answer.inspect_err(|denied| {
                session.delivery.metrics().token_failed(TokenFailure::named(denied.slug()));
                info!(%peer_id, %denied, "a new token is not good");
            });
            if let Some(admission) = &mut session.admission {
                admission.looked_at -= in_time;
            }
            let is_overtaken = session.admission.as_ref().is_some_and(|admission| admission.renewals != renewals);
            let code = match &grant {
                Err(denied) if denied.is_unavailable() => ErrorCode::Unavailable,
                _ => ErrorCode::Unauthorized,
            };
            let (answer, gone) = match grant.ok().and_then(|grant| if is_overtaken { Some(vec![]) } else { session.renew(grant, ctx) }) {
                Some(gone) => (Answer::Renewed, gone),
                None => (Answer::Refused(code), vec![]),
            };
            if gone.is_empty() {
                session.hearing().answered(answer);
            } else {
                session.dismiss(gone, true);
            }
            // It may be over by now.
            session.heed_end(ctx);
        }));
    }
}
