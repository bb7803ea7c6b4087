//! How a session gets, loses and changes its connection, and how it ends.
//!
//! Whatever a connection leaves unsaid waits for the next one, and a connection that was replaced is not listened to any more.

use std::{
    any::Any,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::debug;

use super::{
    Session,
    hearing::{SharedHearing, TRY_AGAIN_AFTER},
    outbox::Outbox,
    resumable::Forgotten,
    throttle::AddressJoins,
};
use crate::{
    auth::Grant,
    dialect::Dialect,
    metrics::{Connected, ResumeOutcome},
    protocol::{CloseCode, LeaveReason, ResumeToken, RoomId, ServerMessage, Welcome},
    registry::drain::DrainWindow,
};

/// How long a client may take to show that it is alive when somebody else wants its name.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// What a door brings to a session. The place is held as long as the session may use the connection.
#[derive(Clone)]
pub struct Connection {
    pub dialect: Arc<dyn Dialect>,
    pub outbox: Arc<Outbox>,
    pub place: Arc<dyn Any + Send + Sync>,
    pub address: AddressShare,
}

/// What a client takes of its address, for as long as its session lasts: with a connection or without.
#[derive(Clone)]
pub struct AddressShare {
    /// The address itself.
    pub address: IpAddr,
    /// Given back when dropped.
    pub visit: Arc<dyn Any + Send + Sync>,
    /// What all clients of the address share; nothing where rates are not bounded.
    pub joins: Option<Arc<AddressJoins>>,
}

/// One of the connections of a session, so that an old one can never harm its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The one that a session begins with.
    pub const FIRST: Self = Self(0);
}

/// The client is back on another connection, which takes the place of the one before, whatever became of that.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    pub connection: Connection,
    /// The secret by which it found the session.
    pub token: ResumeToken,
    /// How many of the session's messages the client has received.
    pub received: u64,
    /// The `id` of its `hello`.
    pub id: Option<u64>,
    /// What it was granted for another token that it said.
    pub grant: Option<Grant>,
    /// Is there a place for one more client? Otherwise it can only take over that of the connection before.
    pub has_place: bool,
    /// Told what became of it. If the connection is not taken, the session is over because what the client missed is no longer known, or stays as it
    /// was.
    pub attached: oneshot::Sender<Result<Attached, ResumeOutcome>>,
}

/// A session goes on over this connection.
pub struct Attached {
    pub connection: ConnectionId,
    /// Who hears it.
    pub hearing: SharedHearing,
    /// That of the connection before, if there is one.
    pub place_before: Option<Arc<dyn Any + Send + Sync>>,
}

/// A client that knows the session's secret is at the door, and has to wait there. As long as this is kept the session does not end for want of a
/// client: who comes in time is in time.
pub struct Expected(Addr<Session>);

impl Expected {
    /// Tells the session.
    pub fn by(session: Addr<Session>) -> Self {
        session.do_send(Expecting(1));
        Self(session)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.do_send(Expecting(-1));
    }
}

/// So many clients more are at the door.
#[derive(Message)]
#[rtype(result = "()")]
struct Expecting(i32);

/// A connection has ended, or is to be ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Ended {
    pub connection: ConnectionId,
    pub how: Ending,
    /// When the client was last heard.
    pub heard_at: Instant,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it: it leaves.
    Left,
    /// The client broke the door's own protocol, and the door closes it.
    Violation,
    /// It died. The client may come back; if it may not, this is why it is gone.
    Lost(LeaveReason),
    /// The client broke a bound that the door watches.
    Fault(CloseCode),
}

impl Session {
    /// Says goodbye on the connection, if there is one; the door writes what it still can. Who only fell behind or silent may come back.
    pub(super) fn close(&mut self, code: CloseCode, heard_at: Instant, ctx: &mut Context<Self>) {
        let connection = self.delivery.connection();
        match code {
            CloseCode::Draining => self.end(None, ctx),
            CloseCode::Timeout => self.detach(LeaveReason::Timeout, heard_at, ctx),
            // What it cannot take is refused, and what it has taken waits for the client.
            CloseCode::SlowConsumer if connection.is_none() => {}
            CloseCode::SlowConsumer => self.detach(LeaveReason::Removed, heard_at, ctx),
            _ => self.end(LeaveReason::Removed, ctx),
        }
        if let Some((outbox, dialect)) = connection {
            let goodbye = match (code, self.draining) {
                (CloseCode::Draining, Some(window)) => window.goodbye(Instant::now()),
                _ => ServerMessage::goodbye(code),
            };
            // Behind the detaching, which takes what waits for the next connection.
            outbox.close(code, dialect.spell(&goodbye).into_last());
        }
    }

    /// Tells the client that it is out of a room that was closed. One whose dialect has no word for that would wait for ever: its connection ends, as
    /// it would if it had been the room.
    pub(super) fn expelled(&mut self, room: RoomId, ctx: &mut Context<Self>) {
        self.hearing().expelled(&room);
        if !self.delivery.tell(&ServerMessage::Left { room, reason: LeaveReason::Removed }) {
            self.close(CloseCode::Removed, Instant::now(), ctx);
        }
    }

    /// Ends the session for a server that shuts down, at a time of its own.
    pub(super) fn drain(&mut self, window: DrainWindow, ctx: &mut Context<Self>) {
        self.draining = Some(window);
        ctx.run_later(window.turn(Instant::now()), |session, ctx| session.close(CloseCode::Draining, Instant::now(), ctx));
    }

    /// Asks the client for a sign of life, and gives it up if there is none.
    pub(super) fn challenge(&mut self, ctx: &mut Context<Self>) {
        let Some((outbox, _)) = self.delivery.connection().filter(|_| !self.is_challenged) else { return };
        // One at a time: an answer to the first would not be there yet as one to the next.
        self.is_challenged = true;
        outbox.challenge();
        ctx.run_later(SIGN_OF_LIFE, move |session, ctx| {
            session.is_challenged = false;
            let is_the_same = |(now, _): (Arc<Outbox>, _)| Arc::ptr_eq(&now, &outbox);
            if session.delivery.connection().is_some_and(is_the_same) && !outbox.is_alive() {
                session.close(CloseCode::Timeout, Instant::now(), ctx);
            }
        });
    }

    /// Tries what was said to peers that are not there yet again and again, as long as anything waits.
    pub(super) fn be_patient(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(TRY_AGAIN_AFTER, |session, ctx| {
            let waits = session.hearing().try_again(Instant::now());
            if waits {
                session.be_patient(ctx);
            }
        });
    }

    /// Gives the connection up and waits for the client to come back, as long as it may since it was last heard.
    fn detach(&mut self, reason: LeaveReason, heard_at: Instant, ctx: &mut Context<Self>) {
        // To a server that shuts down nobody comes back.
        let is_last = self.shared.settings.resume_window.is_zero() || self.draining.is_some();
        // First, or something could be heard behind what was dropped because the client was about to be closed.
        self.hearing().detach();
        if is_last || !self.delivery.detach(&self.shared.resumables) {
            return self.end(reason, ctx);
        }
        self.place = None;
        let left = (heard_at + self.shared.settings.resume_window).saturating_duration_since(Instant::now());
        let lost = self.connection;
        let window = ctx.run_later(left, move |session, ctx| {
            // Actix fires a timer that was cancelled in the same turn in which it is due.
            if session.connection == lost {
                session.is_overdue = true;
                session.give_up(ctx);
            }
        });
        debug!(peer_id = %self.welcome.peer_id, reason = reason.name(), "a session waits for its client");
        if self.window.replace(window).is_none() {
            self.delivery.metrics().session_changed(Connected::Yes, Connected::No);
        }
    }

    /// Ends if the time for coming back is over, and nobody is at the door.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        if self.is_overdue && self.expected == 0 {
            self.end(LeaveReason::Timeout, ctx);
        }
    }

    pub(super) fn end(&mut self, reason: impl Into<Option<LeaveReason>>, ctx: &mut Context<Self>) {
        if self.delivery.close() {
            self.reason = reason.into();
            ctx.stop();
        }
    }

    /// Goes on over another connection. False if the client missed something that is no longer known: then this session is over.
    fn attach(&mut self, Connection { dialect, outbox, place, address }: Connection, received: u64, ctx: &mut Context<Self>) -> bool {
        if let Some(window) = self.window.take() {
            ctx.cancel_future(window);
            self.delivery.metrics().session_changed(Connected::No, Connected::Yes);
        }
        self.is_overdue = false;
        // From here on nothing comes from the connection before, so the count in the welcome is the last word.
        self.hearing().detach();
        let welcome =
            Welcome { resumed: true, received: self.hearing().received(), resume_token: ResumeToken::random(), ..self.welcome.clone() };
        if !self.delivery.attach(dialect.clone(), outbox.clone(), received, &ServerMessage::Welcome(Box::new(welcome.clone()))) {
            self.end(LeaveReason::Timeout, ctx);
            return false;
        }
        self.shared.resumables.forget(self.welcome.resume_token);
        self.connection = ConnectionId(self.connection.0 + 1);
        self.door = outbox.meter().door();
        debug!(peer_id = %self.welcome.peer_id, door = self.door.name(), "a session goes on over another connection");
        self.hearing().attach(self.connection, dialect, outbox, address.joins.clone());
        if let Some(admission) = &mut self.admission {
            admission.moved(address.address);
        }
        (self.welcome, self.place, self.address) = (welcome, Some(place), address);
        true
    }

    /// Can this connection have the session? Not if another one has used the secret just now and its client most likely has the new one.
    fn may_attach(&self, Attach { token, received, has_place, grant, .. }: &Attach) -> bool {
        let connected = self.delivery.has_connection();
        let is_same_user = |grant: &Grant| self.admission.as_ref().is_some_and(|admission| admission.grant().user == grant.user);
        if !grant.as_ref().is_none_or(is_same_user) {
            return false;
        }
        !(connected && self.hearing().was_just_used(*token)) && *received <= self.delivery.sent() && (*has_place || connected)
    }
}

impl Handler<Attach> for Session {
    type Result = ();

    fn handle(&mut self, attach: Attach, ctx: &mut Context<Self>) {
        let token = attach.token;
        if token != self.welcome.resume_token && !self.hearing().is_unconfirmed(token) {
            // It was good when the door asked. A door that is gone does not mind.
            let _ = attach.attached.send(Err(ResumeOutcome::TooLate));
            return;
        }
        if !self.may_attach(&attach) {
            // The client may have confirmed its new secret by now, and then this one is of no use any more.
            let hearing = self.hearing();
            if token == self.welcome.resume_token || hearing.is_unconfirmed(token) {
                self.shared.resumables.insert(token, &ctx.address());
            }
            drop(hearing);
            let _ = attach.attached.send(Err(ResumeOutcome::Refused));
            return;
        }
        let Attach { connection, received, id, grant, attached, .. } = attach;
        let place_before = self.place.take();
        if !self.attach(connection, received, ctx) {
            let _ = attached.send(Err(ResumeOutcome::Incomplete));
            return;
        }
        self.hearing().use_token(token);
        self.shared.resumables.insert(token, &ctx.address());
        self.shared.resumables.insert(self.welcome.resume_token, &ctx.address());
        let was_announced = self.admission.as_ref().is_some_and(|admission| admission.is_announced());
        if let Some(gone) = grant.and_then(|grant| self.renew(grant, ctx)).filter(|gone| !gone.is_empty()) {
            self.dismiss(gone, false);
        }
        if was_announced {
            // What was said of it may come once more, and is not true any longer.
            self.announce_end();
        }
        if let Some(id) = id {
            self.delivery.tell(&ServerMessage::Ack { id });
        }
        // A door that is gone says so when it drops its line, and without an answer it has none.
        let answer = Attached { connection: self.connection, hearing: self.hearing.clone(), place_before };
        if attached.send(Ok(answer)).is_err() {
            self.detach(LeaveReason::Disconnected, Instant::now(), ctx);
        }
    }
}

impl Handler<Expecting> for Session {
    type Result = ();

    fn handle(&mut self, Expecting(more): Expecting, ctx: &mut Context<Self>) {
        self.expected += more;
        self.give_up(ctx);
    }
}

impl Handler<Forgotten> for Session {
    type Result = ();

    fn handle(&mut self, forgotten: Forgotten, ctx: &mut Context<Self>) {
        // Its client may be back by now.
        if self.delivery.is_meant(&forgotten) {
            self.end(LeaveReason::Timeout, ctx);
        }
    }
}

impl Handler<Ended> for Session {
    type Result = ();

    fn handle(&mut self, Ended { connection, how, heard_at }: Ended, ctx: &mut Context<Self>) {
        if connection != self.connection || !self.delivery.has_connection() {
            return;
        }
        match how {
            Ending::Fault(code) => self.close(code, heard_at, ctx),
            Ending::Left => self.end(LeaveReason::Disconnected, ctx),
            Ending::Violation => self.end(LeaveReason::Removed, ctx),
            Ending::Lost(reason) => self.detach(reason, heard_at, ctx),
        }
    }
}
