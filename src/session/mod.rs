//! One client's life on the server.
//!
//! A session has two sides: [`hearing`] deals with what the client says, [`delivery`] with what is said to it. Messages pass from the one of a
//! sender straight to the other of its peer. The actor in this file decides what is neither: how a session begins, gets and loses its
//! connections, and ends, and what the registry answers.
//!
//! A session knows no socket. Its door brings it frames, and sees to it that what is in its outbox is written. It outlives its connection: what is
//! said meanwhile is kept in [`replay`], and another connection may attach to it, on any thread.

pub mod admission;
pub mod backlog;
mod chunks;
pub mod connection;
pub mod delivery;
pub mod hearing;
pub mod heartbeat;
pub mod ice;
pub mod outbox;
pub mod postman;
pub mod replay;
pub mod resumable;
mod state;
pub mod throttle;

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use actix::prelude::*;
use tracing::debug;

use self::{
    admission::Admission,
    connection::{AddressShare, Connection, ConnectionId},
    delivery::Delivery,
    hearing::{Hearing, SharedHearing},
    ice::IceShare,
    replay::ReplayLimits,
    resumable::Resumables,
};
use crate::{
    metrics::{Connected, Door},
    protocol::{ClientRates, CloseCode, LeaveReason, ServerMessage, Welcome},
    registry::{
        RoomRegistry, ask,
        command::{Deliver, Register, Unregister},
        drain::DrainWindow,
        view::SessionView,
    },
};

/// The actor that stands for one client, over all of its connections.
pub struct Session {
    welcome: Welcome,
    shared: Arc<Shared>,
    /// Missing where nobody has to be asked.
    admission: Option<Box<Admission>>,
    /// Missing where the client's dialect has no word for ICE servers.
    ice: Option<IceShare>,
    hearing: SharedHearing,
    delivery: Arc<Delivery>,
    address: AddressShare,
    /// The latest connection, and by which door it came.
    connection: ConnectionId,
    door: Door,
    began: SystemTime,
    /// Ends a session that nobody comes back to. There as long as there is no connection.
    window: Option<SpawnHandle>,
    /// Clients at the door that know its secret.
    expected: i32,
    /// Is the time for coming back over?
    is_overdue: bool,
    /// Is it being asked for a sign of life?
    is_challenged: bool,
    /// The time in which it is to end, once the server shuts down.
    draining: Option<DrainWindow>,
    /// The client's place, held while it is connected.
    place: Option<Arc<dyn Any + Send + Sync>>,
    /// Why the others lose it; they are not told if the server tells them goodbye as well.
    reason: Option<LeaveReason>,
}

/// What the sessions of a server share. Each holds it by one pointer: an actor's address alone is three, and two allocations.
pub struct Shared {
    /// The bounds of each.
    pub settings: SessionSettings,
    /// Who is where.
    pub registry: Addr<RoomRegistry>,
    /// Who may come back.
    pub resumables: Arc<Resumables>,
}

/// The bounds that a session watches itself, and how long it waits for its client.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// Rooms of one client.
    pub rooms_max: usize,
    /// Longest name of a room in bytes.
    pub room_name_bytes_max: usize,
    /// Largest metadata in bytes.
    pub metadata_bytes_max: usize,
    /// How deep payload and metadata may nest.
    pub nesting_max: usize,
    /// The fastest that a token may let a client send; not bounded if missing.
    pub rates_max: Option<ClientRates>,
    /// Bytes that may wait for the client.
    pub outbox_bytes_max: usize,
    /// How long who sends to it waits for it when much waits already.
    pub slow_peer: Duration,
    /// What is kept until the client has received it.
    pub replay: ReplayLimits,
    /// How long the session outlives the client's last sign of life; not at all if zero.
    pub resume_window: Duration,
    /// A client that came back and says nothing for so long may not have heard its welcome.
    pub welcome_lost_after: Duration,
}

impl Session {
    /// Starts a session on the thread that its first connection lives on, and welcomes its client.
    pub fn open(
        welcome: Welcome,
        shared: Arc<Shared>,
        connection: Connection,
        admission: Option<Admission>,
        ice: Option<IceShare>,
    ) -> SharedHearing {
        let mut heard = None;
        Self::create(|ctx| {
            let delivery = Delivery::new(ctx.address(), &shared.settings, connection.dialect.clone(), connection.outbox.clone());
            let hearing = Hearing::new(&welcome, shared.clone(), delivery.clone(), &connection);
            let grant = admission.as_ref().map(|admission| admission.grant().clone());
            let hearing = Arc::new(Mutex::new(hearing.granted(grant)));
            heard = Some(hearing.clone());
            delivery.metrics().session_started();
            delivery.tell(&ServerMessage::Welcome(Box::new(welcome.clone())));
            let Connection { address, place, outbox, .. } = connection;
            Self {
                welcome,
                shared,
                admission: admission.map(Box::new),
                ice,
                hearing,
                delivery,
                address,
                connection: ConnectionId::FIRST,
                door: outbox.meter().door(),
                began: SystemTime::now(),
                window: None,
                expected: 0,
                is_overdue: false,
                is_challenged: false,
                draining: None,
                place: Some(place),
                reason: Some(LeaveReason::Disconnected),
            }
        });
        heard.expect("an actor is created at once")
    }

    /// What it looks like to whoever runs the server.
    fn view(&self) -> SessionView {
        SessionView {
            user: self.admission.as_ref().and_then(|admission| admission.grant().user.clone()),
            rooms: self.hearing().rooms(),
            // A client of Engine.IO may have gone from one to another.
            door: self.delivery.connection().map_or(self.door, |(outbox, _)| outbox.meter().door()).name(),
            dialect: self.delivery.dialect().name(),
            address: self.address.address,
            is_connected: self.delivery.has_connection(),
            since: self.began,
            waiting_bytes: self.delivery.waiting_bytes(),
        }
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        debug!(peer_id = %self.welcome.peer_id, door = self.door.name(), "a session begins");
        let register = Register { peer_id: self.welcome.peer_id, inlet: self.delivery.clone() };
        ask(&self.shared.registry, self.delivery.metrics(), register);
        if !self.shared.settings.resume_window.is_zero() {
            self.shared.resumables.insert(self.welcome.resume_token, &ctx.address());
        }
        self.heed_end(ctx);
        self.heed_ice_servers(ctx);
    }
}

/// Cleans up however it ends, by a bug as well: nobody stays in a room who has no session.
impl Drop for Session {
    fn drop(&mut self) {
        self.delivery.close();
        self.shared.resumables.forget(self.welcome.resume_token);
        if let Some(ice) = &self.ice {
            ice.ended(&self.welcome.peer_id);
        }
        let mut hearing = self.hearing();
        hearing.confirm();
        let rooms = hearing.take_rooms();
        drop(hearing);
        debug!(peer_id = %self.welcome.peer_id, reason = self.reason.map_or("draining", LeaveReason::name), "a session is over");
        let metrics = self.delivery.metrics();
        metrics.session_ended(if self.window.is_none() { Connected::Yes } else { Connected::No }, self.reason);
        ask(&self.shared.registry, metrics, Unregister { peer_id: self.welcome.peer_id, rooms, reason: self.reason });
    }
}

impl Handler<Deliver> for Session {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        match deliver {
            Deliver::Answer(answer) => self.hearing().answered(answer),
            // This may be about a connection that is gone for the same reason by now.
            Deliver::Overflowed if !self.delivery.has_overflowed() => {}
            Deliver::Overflowed => self.close(CloseCode::SlowConsumer, Instant::now(), ctx),
            Deliver::Replaced => self.close(CloseCode::Replaced, Instant::now(), ctx),
            Deliver::Challenged => self.challenge(ctx),
            Deliver::Patience => self.be_patient(ctx),
            Deliver::Drain(window) => self.drain(window, ctx),
            Deliver::Removed => self.close(CloseCode::Removed, Instant::now(), ctx),
            Deliver::Expelled(room) => self.expelled(room, ctx),
            Deliver::Describe(asked) => {
                // Who asked may have gone.
                let _ = asked.send(self.view());
            }
        }
    }
}
