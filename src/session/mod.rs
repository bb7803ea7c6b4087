//! One client's life on the server: the actor that hears it, decides what may be done, and delivers to it.
//!
//! A session knows no socket. Its door hands it frames and waits until they are dealt with; what it has to say goes into the outbox, which the
//! door empties. Everything that others say to the client comes through the mailbox, in the order in which they said it, and so do the
//! registry's answers: while the session waits for one, frames wait, deliveries do not.
//!
//! A session outlives its connection: what it says meanwhile is kept in `replay`, and another connection may attach to it, on any thread.

pub mod connection;
pub mod heartbeat;
pub mod outbox;
pub mod replay;
pub mod resumable;
mod state;
pub mod throttle;

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::sync::oneshot;

use self::{
    connection::{AddressShare, Connection, ConnectionId},
    outbox::Outbox,
    replay::{NeverSent, Replay, ReplayLimits},
    resumable::{Detached, Resumables},
    state::State,
    throttle::{Throttle, TooSoon},
};
use crate::{
    dialect::Dialect,
    protocol::{
        ClientMessage, ClientRates, CloseCode, Envelope, ErrorCode, Kind, LeaveReason, NO_SUCH_PEER, Payload, PeerId, Refusal, Request,
        ResumeToken, RoomId, ServerMessage, Welcome, framing::Frame,
    },
    registry::{
        RoomRegistry,
        command::{Answer, Deliver, Join, Leave, Register, Unregister, Update},
        drain::DrainWindow,
        inlet::{Backlog, Inlet, Mailbox},
        rooms::Room,
    },
};

/// The actor that stands for one client, over all of its connections.
pub struct Session {
    welcome: Welcome,
    settings: SessionSettings,
    registry: Addr<RoomRegistry>,
    resumables: Arc<Resumables>,
    /// The way into this session; there from `started` on.
    inlet: Option<Arc<dyn Inlet>>,
    state: State,
    /// How fast the client sends; not watched if missing.
    throttle: Option<Throttle>,
    address: AddressShare,
    /// How many messages the client has sent, best-effort ones aside.
    received: u64,
    replay: Replay,
    backlog: Arc<Backlog>,
    /// How the latest connection spells, and what waits to be written to it: nothing while there is none.
    dialect: Arc<dyn Dialect>,
    outbox: Option<Arc<Outbox>>,
    connection: ConnectionId,
    /// The secret that the latest connection used, and when: as long as nothing came over it, its welcome may be lost, and with it the new secret.
    unconfirmed: Option<(ResumeToken, Instant)>,
    /// Bytes of the backlog that wait for the next connection.
    detached_bytes: usize,
    /// Ends a session that nobody comes back to.
    window: Option<SpawnHandle>,
    /// The time in which it is to end, once the server shuts down.
    draining: Option<DrainWindow>,
    /// The client's place, held while it is connected.
    place: Option<Arc<dyn Any + Send + Sync>>,
    /// The leave to wait, held while it is not.
    detached: Option<Detached>,
    heard: VecDeque<Heard>,
    awaited: Option<Awaited>,
    /// Why the others lose it; they are not told if the server tells them goodbye as well.
    reason: Option<LeaveReason>,
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
    /// How fast the client may send; not bounded if missing.
    pub rates: Option<ClientRates>,
    /// Bytes that may wait for the client.
    pub outbox_bytes_max: usize,
    /// What is kept until the client has received it.
    pub replay: ReplayLimits,
    /// How long the session outlives the client's last sign of life; not at all if zero.
    pub resume_window: Duration,
    /// A client that came back and says nothing for so long may not have heard its welcome.
    pub welcome_lost_after: Duration,
}

/// Frames from the client, in order. The door learns through `done` that they are dealt with, and reads on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard {
    pub connection: ConnectionId,
    pub frames: VecDeque<Frame>,
    pub done: oneshot::Sender<()>,
}

/// A command that the registry has yet to answer, and the `id` of the message that asked for it.
struct Awaited {
    id: Option<u64>,
    /// The room that is being joined: should the session end now, it has to be left.
    joining: Option<RoomId>,
}

/// What became of a message, as far as it is known at once.
enum Outcome {
    Done,
    Awaits { joining: Option<RoomId> },
}

impl Session {
    /// Starts a session on the thread that its first connection lives on. Its first message will be answered by `welcome`.
    pub fn open(
        welcome: Welcome,
        settings: SessionSettings,
        Connection { dialect, outbox, place, address }: Connection,
        registry: Addr<RoomRegistry>,
        resumables: Arc<Resumables>,
    ) -> Addr<Self> {
        let backlog = Backlog::new(settings.outbox_bytes_max);
        outbox.open(backlog.clone(), []);
        let session = Self {
            welcome,
            settings,
            registry,
            resumables,
            inlet: None,
            state: State::default(),
            throttle: settings.rates.map(|rates| Throttle::new(rates, Instant::now())),
            address,
            received: 0,
            replay: Replay::new(settings.replay),
            backlog,
            dialect,
            outbox: Some(outbox),
            connection: ConnectionId::FIRST,
            unconfirmed: None,
            detached_bytes: 0,
            window: None,
            draining: None,
            place: Some(place),
            detached: None,
            heard: VecDeque::new(),
            awaited: None,
            reason: Some(LeaveReason::Disconnected),
        };
        session.start()
    }

    fn peer_id(&self) -> PeerId {
        self.welcome.peer_id
    }

    fn inlet(&self) -> Arc<dyn Inlet> {
        self.inlet.clone().expect("the inlet is made when the actor starts")
    }

    /// Deals with frames until none is left or the registry has to be waited for.
    fn hear(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        while self.awaited.is_none() {
            let Some(heard) = self.heard.front_mut() else {
                return;
            };
            match heard.frames.pop_front() {
                Some(frame) if !self.backlog.is_closed() => self.frame(&frame, now, ctx),
                Some(_) => {}
                None => {
                    let heard = self.heard.pop_front().expect("it was just at the front");
                    // A door that is gone does not mind.
                    let _ = heard.done.send(());
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame, now: Instant, ctx: &mut Context<Self>) {
        let best_effort = matches!(frame, Frame::Datagram(_));
        if best_effort && !self.state.is_greeted() {
            return;
        }
        if !best_effort {
            self.received += 1;
            self.confirm();
        }
        let first = self.state.greet();
        if first {
            self.tell(&ServerMessage::Welcome(Box::new(self.welcome.clone())), ctx);
        }
        let request = self.dialect.decode(frame, self.settings.nesting_max);
        if let Err(wait) = self.pace(frame, request.as_ref().ok(), now) {
            let id = request.map_or_else(|refusal| refusal.id, |request| request.id);
            return self.slow_down(id, wait, now, ctx);
        }
        let (id, outcome) = match request {
            Ok(Request { id, message }) => (id, self.act(message, first, best_effort, ctx)),
            Err(refusal) => return self.tell(&ServerMessage::Error(refusal), ctx),
        };
        match outcome {
            // Once a server shuts down its rooms empty, and what goes into an empty room is not to be called delivered.
            Ok(Outcome::Done) if self.backlog.is_closed() => {}
            Ok(Outcome::Done) => self.acknowledge(id, ctx),
            Ok(Outcome::Awaits { joining }) => self.awaited = Some(Awaited { id, joining }),
            Err(code) => self.refuse(id, code, ctx),
        }
    }

    /// Is it too soon for this message?
    fn pace(&mut self, frame: &Frame, request: Option<&Request<'_>>, now: Instant) -> Result<(), TooSoon> {
        let Some(throttle) = &mut self.throttle else { return Ok(()) };
        let is_join = matches!(request, Some(Request { message: ClientMessage::Join { .. }, .. }));
        throttle.take(frame.bytes().len(), self.address.joins.as_deref().filter(|_| is_join), now)
    }

    /// Refuses a message that came too soon, and closes a client that goes on in spite of that.
    fn slow_down(&mut self, id: Option<u64>, too_soon: TooSoon, now: Instant, ctx: &mut Context<Self>) {
        let wait_ms = too_soon.0.as_nanos().div_ceil(1_000_000) as u64;
        let code = ErrorCode::RateLimited;
        let refusal = Refusal { retry_after_ms: Some(wait_ms), ..Refusal::new(id, code, self.explain(code)) };
        self.tell(&ServerMessage::Error(refusal), ctx);
        if !self.throttle.as_mut().is_none_or(|throttle| throttle.refuse(too_soon, now)) {
            self.close(CloseCode::RateLimited, now, ctx);
        }
    }

    fn act(&mut self, message: ClientMessage<'_>, first: bool, best_effort: bool, ctx: &mut Context<Self>) -> Result<Outcome, ErrorCode> {
        if best_effort && !matches!(message, ClientMessage::Forward { kind: Kind::Message, .. } | ClientMessage::Broadcast { .. }) {
            return Err(ErrorCode::BadMessage);
        }
        let from = self.peer_id();
        match message {
            // What it would resume is gone or not to be had, or the door would have attached it.
            ClientMessage::Hello { .. } if first => {}
            ClientMessage::Hello { .. } => return Err(ErrorCode::BadMessage),
            ClientMessage::Join { room, metadata } => {
                let room = RoomId::parse(&room, self.settings.room_name_bytes_max).ok_or(ErrorCode::BadRoomName)?;
                self.state.may_join(&room, self.settings.rooms_max)?;
                let metadata = self.keep(metadata)?;
                self.registry.do_send(Join { peer_id: from, inlet: self.inlet(), room: room.clone(), metadata });
                return Ok(Outcome::Awaits { joining: Some(room) });
            }
            ClientMessage::Leave { room } => {
                let rooms = self.state.take_rooms(room.as_deref())?;
                if !rooms.is_empty() {
                    self.registry.do_send(Leave { peer_id: from, inlet: self.inlet(), rooms });
                    return Ok(Outcome::Awaits { joining: None });
                }
            }
            ClientMessage::Forward { kind, to, room, payload } => {
                let room = self.state.room(room.as_deref())?;
                let directed = (kind == Kind::Message).then_some(to);
                room.forward(from, to, forwarded(kind, from, room, payload, directed, best_effort))?;
            }
            ClientMessage::Broadcast { room, payload } => {
                let room = self.state.room(room.as_deref())?;
                room.broadcast(from, forwarded(Kind::Message, from, room, payload, None, best_effort))?;
            }
            ClientMessage::Metadata { room, metadata } => {
                let room = self.state.room(room.as_deref())?.id().clone();
                let metadata = self.keep(metadata)?;
                self.registry.do_send(Update { peer_id: from, inlet: self.inlet(), room, metadata });
                return Ok(Outcome::Awaits { joining: None });
            }
            ClientMessage::Ping { received } => {
                if let Some(received) = received {
                    self.replay.acknowledge(received).map_err(|NeverSent| ErrorCode::BadMessage)?;
                }
                self.tell(&ServerMessage::Pong { received: self.received }, ctx);
            }
        }
        Ok(Outcome::Done)
    }

    /// Metadata as it is kept: within its bound, and not in the buffer it was read into.
    fn keep(&self, metadata: Option<Payload>) -> Result<Option<Payload>, ErrorCode> {
        match metadata {
            Some(metadata) if metadata.kept_bytes() > self.settings.metadata_bytes_max => Err(ErrorCode::MetadataTooLarge),
            metadata => Ok(metadata.map(|metadata| metadata.detached())),
        }
    }

    fn acknowledge(&mut self, id: Option<u64>, ctx: &mut Context<Self>) {
        if let Some(id) = id {
            self.tell(&ServerMessage::Ack { id }, ctx);
        }
    }

    fn refuse(&mut self, id: Option<u64>, code: ErrorCode, ctx: &mut Context<Self>) {
        let refusal = Refusal::new(id, code, self.explain(code));
        self.tell(&ServerMessage::Error(refusal), ctx);
    }

    /// The sentence for the person who wrote the client. The dialects write their own for what is no message at all.
    fn explain(&self, code: ErrorCode) -> String {
        match code {
            ErrorCode::BadMessage => {
                let sent = self.replay.sent();
                format!("`hello` comes first or not at all, a datagram holds a `message`, and you were sent {sent} messages, not more")
            }
            ErrorCode::TooDeep => format!("a value nests more than {} deep", self.settings.nesting_max),
            ErrorCode::BadRoomName => {
                format!("a room's name is 1 to {} bytes of UTF-8 without control characters", self.settings.room_name_bytes_max)
            }
            ErrorCode::MetadataTooLarge => format!("metadata may take {} bytes", self.settings.metadata_bytes_max),
            ErrorCode::RoomRequired => "`room` may be left out only while you are in exactly one room".into(),
            ErrorCode::NotInRoom => "you are not in this room".into(),
            ErrorCode::AlreadyInRoom => "you are in this room already".into(),
            ErrorCode::NoSuchPeer => NO_SUCH_PEER.into(),
            ErrorCode::TooManyRooms => format!("you are in {} rooms, and more are not allowed", self.settings.rooms_max),
            ErrorCode::RoomFull => "the room has as many peers, or as much metadata, as it may".into(),
            ErrorCode::NoMoreRooms => "the server has as many rooms as it may".into(),
            ErrorCode::RateLimited => {
                "you send faster than `limits` in `welcome` allows, or all clients of your address together join too fast".into()
            }
            ErrorCode::Undeliverable => "a peer does not read and is being closed; whoever else the message was for has it".into(),
        }
    }

    /// Says something to this client alone.
    fn tell(&mut self, message: &ServerMessage, ctx: &mut Context<Self>) {
        self.say(self.dialect.spell(message), 0, ctx);
    }

    /// Passes on what also others may get, `counted` bytes of which are in the backlog already.
    fn deliver(&mut self, envelope: &Envelope, counted: usize, ctx: &mut Context<Self>) {
        let frame = self.dialect.encode(envelope);
        if !envelope.is_best_effort() {
            return self.say(frame, counted, ctx);
        }
        match &self.outbox {
            Some(outbox) if self.backlog.has_room_for(outbox::weight(&frame)) => drop(outbox.push(frame, counted)),
            // One that is too much is lost, as it may be.
            _ => self.backlog.release(counted),
        }
    }

    /// Keeps a message until the client has it, and queues it for the connection if there is one.
    fn say(&mut self, frame: Frame, counted: usize, ctx: &mut Context<Self>) {
        let bytes = outbox::weight(&frame);
        let taken = match &self.outbox {
            Some(outbox) => outbox.push(frame.clone(), counted),
            None => self.backlog.exchange(counted, bytes).map(|()| self.detached_bytes += bytes),
        };
        let excess = self.backlog.excess();
        self.replay.keep(frame, excess);
        let kept = self.replay.bytes();
        if self.detached.as_mut().is_some_and(|detached| !detached.resize(kept)) {
            return self.end(LeaveReason::Timeout, ctx);
        }
        if taken.is_err() || excess > 0 {
            self.close(CloseCode::SlowConsumer, Instant::now(), ctx);
        }
    }
}

fn forwarded(kind: Kind, from: PeerId, room: &Room, payload: Payload, to: Option<PeerId>, best_effort: bool) -> ServerMessage {
    ServerMessage::Forwarded { kind, from, room: room.id().clone(), payload, to, best_effort }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let inlet: Arc<dyn Inlet> = Arc::new(Mailbox::new(ctx.address().recipient(), self.backlog.clone()));
        self.inlet = Some(inlet.clone());
        self.registry.do_send(Register { peer_id: self.peer_id(), inlet });
        if !self.settings.resume_window.is_zero() {
            self.resumables.insert(self.welcome.resume_token, ctx.address());
        }
    }
}

/// Cleans up however it ends, by a bug as well: nobody stays in a room who has no session.
impl Drop for Session {
    fn drop(&mut self) {
        self.resumables.take(self.welcome.resume_token);
        self.confirm();
        let mut rooms = self.state.take_rooms(None).unwrap_or_default();
        rooms.extend(self.awaited.take().and_then(|awaited| awaited.joining));
        self.registry.do_send(Unregister { peer_id: self.peer_id(), rooms, reason: self.reason });
    }
}

impl Handler<Heard> for Session {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        if self.outbox.is_some() && heard.connection == self.connection {
            self.heard.push_back(heard);
            self.hear(ctx);
        }
    }
}

impl Handler<Deliver> for Session {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        match deliver {
            Deliver::Message(envelope) => {
                self.deliver(&envelope, envelope.weight(), ctx);
            }
            Deliver::Answer(answer) => {
                let id = self.awaited.take().and_then(|awaited| awaited.id);
                match answer {
                    Answer::Joined(room, envelope) => {
                        self.state.entered(room);
                        self.deliver(&envelope, 0, ctx);
                        self.acknowledge(id, ctx);
                    }
                    Answer::Left | Answer::Updated => self.acknowledge(id, ctx),
                    Answer::Refused(code) => self.refuse(id, code, ctx),
                }
                self.hear(ctx);
            }
            // This may be about a connection that is gone for the same reason by now.
            Deliver::Overflowed if !self.backlog.has_overflowed() => {}
            Deliver::Overflowed => self.close(CloseCode::SlowConsumer, Instant::now(), ctx),
            Deliver::Drain(window) => self.drain(window, ctx),
        }
    }
}
