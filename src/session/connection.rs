//! How a session gets, loses and changes its connection, and how it ends.
//!
//! Whatever a connection leaves unsaid waits for the next one, and a connection that was replaced is not listened to any more.

use std::{any::Any, sync::Arc, time::Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Session, outbox::Outbox, resumable::Forgotten, throttle::AddressJoins};
use crate::{
    dialect::Dialect,
    protocol::{CloseCode, LeaveReason, ResumeToken, ServerMessage, framing::Frame},
    registry::drain::DrainWindow,
};

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
    /// Is there a place for one more client? Otherwise it can only take over that of the connection before.
    pub has_place: bool,
    /// Answered if the connection is taken. If not, the session is over because what the client missed is no longer known, or stays as it was.
    pub attached: oneshot::Sender<Attached>,
}

/// A session goes on over this connection.
pub struct Attached {
    pub connection: ConnectionId,
    /// That of the connection before, if there is one.
    pub place_before: Option<Arc<dyn Any + Send + Sync>>,
}

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
    /// The client has its new secret, for it has spoken: the used one is of no use any more.
    pub(super) fn confirm(&mut self) {
        if let Some((used, _)) = self.unconfirmed.take() {
            self.resumables.take(used);
        }
    }

    /// Says goodbye on the connection, if there is one; the door writes what it still can. Who only fell behind or silent may come back.
    pub(super) fn close(&mut self, code: CloseCode, heard_at: Instant, ctx: &mut Context<Self>) {
        let outbox = self.outbox.clone();
        match code {
            CloseCode::Draining => self.end(None, ctx),
            CloseCode::Timeout => self.detach(LeaveReason::Timeout, heard_at, ctx),
            // What it cannot take is refused, and what it has taken waits for the client.
            CloseCode::SlowConsumer if outbox.is_none() => {}
            CloseCode::SlowConsumer => self.detach(LeaveReason::Removed, heard_at, ctx),
            _ => self.end(LeaveReason::Removed, ctx),
        }
        if let Some(outbox) = outbox {
            let goodbye = match (code, self.draining) {
                (CloseCode::Draining, Some(window)) => window.goodbye(Instant::now()),
                _ => ServerMessage::goodbye(code),
            };
            // Behind the detaching, which takes what waits for the next connection.
            outbox.close(code, self.dialect.spell(&goodbye));
        }
    }

    /// Ends the session for a server that shuts down, at a time of its own.
    pub(super) fn drain(&mut self, window: DrainWindow, ctx: &mut Context<Self>) {
        self.draining = Some(window);
        ctx.run_later(window.turn(Instant::now()), |session, ctx| session.close(CloseCode::Draining, Instant::now(), ctx));
    }

    /// Gives the connection up and waits for the client to come back, as long as it may since it was last heard.
    fn detach(&mut self, reason: LeaveReason, heard_at: Instant, ctx: &mut Context<Self>) {
        // To a server that shuts down nobody comes back.
        let is_last = self.settings.resume_window.is_zero() || self.draining.is_some();
        if is_last || self.backlog.has_gap() || self.state.is_closing() {
            return self.end(reason, ctx);
        }
        let session = ctx.address();
        self.detached = self.resumables.detach(self.replay.bytes(), move |forgotten| session.do_send(forgotten));
        if self.detached.is_none() {
            return self.end(reason, ctx);
        }
        self.abandon();
        self.place = None;
        self.backlog.reopen();
        let left = (heard_at + self.settings.resume_window).saturating_duration_since(Instant::now());
        let lost = self.connection;
        self.window = Some(ctx.run_later(left, move |session, ctx| {
            // Actix fires a timer that was cancelled in the same turn in which it is due.
            if session.connection == lost {
                session.end(LeaveReason::Timeout, ctx);
            }
        }));
    }

    /// Lets go of the connection. What it has not written waits for the next one.
    fn abandon(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            self.detached_bytes += outbox.abandon();
        }
        self.heard.clear();
    }

    pub(super) fn end(&mut self, reason: impl Into<Option<LeaveReason>>, ctx: &mut Context<Self>) {
        if self.state.close() {
            self.backlog.close();
            self.reason = reason.into();
            ctx.stop();
        }
    }

    /// Goes on over another connection. False if the client missed something that is no longer known: then this session is over.
    fn attach(&mut self, connection: Connection, received: u64, ctx: &mut Context<Self>) -> bool {
        if let Some(outbox) = &self.outbox {
            outbox.close(CloseCode::Replaced, self.dialect.spell(&ServerMessage::goodbye(CloseCode::Replaced)));
        }
        self.abandon();
        if let Some(window) = self.window.take() {
            ctx.cancel_future(window);
        }
        let Connection { dialect, outbox, place, address } = connection;
        let missed: Option<Vec<Frame>> = self.replay.after(received).map(|frames| frames.map(|frame| dialect.respell(frame)).collect());
        let Some(missed) = missed.filter(|_| !self.backlog.has_gap() && !self.state.is_closing()) else {
            self.end(LeaveReason::Timeout, ctx);
            return false;
        };
        self.welcome.resumed = true;
        self.welcome.received = self.received;
        self.resumables.take(self.welcome.resume_token);
        self.welcome.resume_token = ResumeToken::random();
        let welcome = dialect.spell(&ServerMessage::Welcome(Box::new(self.welcome.clone())));
        outbox.open(self.backlog.clone(), [welcome].into_iter().chain(missed));
        self.backlog.release(std::mem::take(&mut self.detached_bytes));
        self.backlog.reopen();
        (self.dialect, self.outbox, self.place, self.detached) = (dialect, Some(outbox), Some(place), None);
        self.address = address;
        if let Some(throttle) = &mut self.throttle {
            throttle.resume(self.settings.resume_window, Instant::now());
        }
        self.connection = ConnectionId(self.connection.0 + 1);
        self.replay.acknowledge(received).expect("it was sent, or nothing could have been missed");
        true
    }

    /// Is this secret used, by a connection whose client most likely has its new one?
    fn is_used(&self, token: ResumeToken) -> bool {
        let Some((used, at)) = self.unconfirmed else { return false };
        used == token && self.outbox.is_some() && at.elapsed() < self.settings.welcome_lost_after
    }

    /// Notes the secret that is in the welcome, and keeps the one that was used for as long as that welcome may be lost.
    fn renew(&mut self, used: ResumeToken, ctx: &mut Context<Self>) {
        if let Some((before, _)) = self.unconfirmed.replace((used, Instant::now())) {
            self.resumables.take(before);
        }
        self.resumables.insert(used, ctx.address());
        self.resumables.insert(self.welcome.resume_token, ctx.address());
    }
}

impl Handler<Attach> for Session {
    type Result = ();

    fn handle(&mut self, Attach { connection, token, received, id, has_place, attached }: Attach, ctx: &mut Context<Self>) {
        if token != self.welcome.resume_token && self.unconfirmed.is_none_or(|(used, _)| used != token) {
            // It was good when the door asked.
            return;
        }
        if self.is_used(token) || received > self.replay.sent() || !has_place && self.outbox.is_none() {
            return self.resumables.insert(token, ctx.address());
        }
        let place_before = self.place.take();
        if self.attach(connection, received, ctx) {
            self.renew(token, ctx);
            self.acknowledge(id, ctx);
            // A door that is gone says so when it drops its line, and without an answer it has none.
            if attached.send(Attached { connection: self.connection, place_before }).is_err() {
                self.detach(LeaveReason::Disconnected, Instant::now(), ctx);
            }
        }
    }
}

impl Handler<Forgotten> for Session {
    type Result = ();

    fn handle(&mut self, forgotten: Forgotten, ctx: &mut Context<Self>) {
        // Its client may be back by now.
        if self.detached.as_ref().is_some_and(|detached| detached.is_meant(&forgotten)) {
            self.end(LeaveReason::Timeout, ctx);
        }
    }
}

impl Handler<Ended> for Session {
    type Result = ();

    fn handle(&mut self, Ended { connection, how, heard_at }: Ended, ctx: &mut Context<Self>) {
        if self.outbox.is_none() || connection != self.connection {
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
