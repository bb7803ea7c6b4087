//! One client's life on the server: the actor that hears it, decides what may be done, and delivers to it.
//!
//! A session knows no socket. Its door hands it frames and waits until they are dealt with; what it has to say goes into the outbox, which the
//! door empties. Everything that others say to the client comes through the mailbox, in the order in which they said it, and so do the
//! registry's answers: while the session waits for one, frames wait, deliveries do not.

pub mod heartbeat;
pub mod outbox;
mod state;

use std::{collections::VecDeque, sync::Arc};

use actix::prelude::*;
use tokio::sync::oneshot;

use self::{outbox::Outbox, state::State};
use crate::{
    dialect::Dialect,
    protocol::{
        ClientMessage, CloseCode, Envelope, ErrorCode, Kind, LeaveReason, NO_SUCH_PEER, Payload, PeerId, Refusal, Request, RoomId,
        ServerMessage, Welcome, framing::Frame,
    },
    registry::{
        RoomRegistry,
        command::{Answer, Deliver, Join, Leave, Register, Unregister, Update},
        inlet::{Inlet, Mailbox, Overflow},
        rooms::Room,
    },
};

/// The actor that stands for one client.
pub struct Session {
    welcome: Welcome,
    limits: SessionLimits,
    dialect: Box<dyn Dialect>,
    outbox: Arc<Outbox>,
    registry: Addr<RoomRegistry>,
    /// The way into this session; there from `started` on.
    inlet: Option<Arc<dyn Inlet>>,
    state: State,
    /// How many messages the client has sent, best-effort ones aside.
    received: u64,
    heard: VecDeque<Heard>,
    awaited: Option<Awaited>,
    reason: LeaveReason,
}

/// The bounds that a session watches itself.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Rooms of one client.
    pub rooms_max: usize,
    /// Longest name of a room in bytes.
    pub room_name_bytes_max: usize,
    /// Largest metadata in bytes.
    pub metadata_bytes_max: usize,
    /// How deep payload and metadata may nest.
    pub nesting_max: usize,
}

/// Frames from the client, in order. The door learns through `done` that they are dealt with, and reads on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard {
    pub frames: VecDeque<Frame>,
    pub done: oneshot::Sender<()>,
}

/// The client's connection has ended, or is to be ended by the server.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Ended {
    /// The socket is gone, or the client closed it.
    Connection(LeaveReason),
    /// The client broke a bound that the door watches.
    Fault(CloseCode),
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
    /// Starts a session on the thread that its connection lives on. Its first message will be answered by `welcome`.
    pub fn open(
        welcome: Welcome,
        limits: SessionLimits,
        dialect: Box<dyn Dialect>,
        outbox: Arc<Outbox>,
        registry: Addr<RoomRegistry>,
    ) -> Addr<Self> {
        let session = Self {
            welcome,
            limits,
            dialect,
            outbox,
            registry,
            inlet: None,
            state: State::default(),
            received: 0,
            heard: VecDeque::new(),
            awaited: None,
            reason: LeaveReason::Disconnected,
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
        while self.awaited.is_none() {
            let Some(heard) = self.heard.front_mut() else {
                return;
            };
            match heard.frames.pop_front() {
                Some(frame) if !self.state.is_closing() => self.frame(&frame, ctx),
                Some(_) => {}
                None => {
                    let heard = self.heard.pop_front().expect("it was just at the front");
                    // A door that is gone does not mind.
                    let _ = heard.done.send(());
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame, ctx: &mut Context<Self>) {
        let best_effort = matches!(frame, Frame::Datagram(_));
        if best_effort && !self.state.is_greeted() {
            return;
        }
        if !best_effort {
            self.received += 1;
        }
        let first = self.state.greet();
        if first {
            self.tell(&ServerMessage::Welcome(Box::new(self.welcome.clone())), ctx);
        }
        let (id, outcome) = match self.dialect.decode(frame, self.limits.nesting_max) {
            Ok(Request { id, message }) => (id, self.act(message, first, best_effort, ctx)),
            Err(refusal) => return self.tell(&ServerMessage::Error(refusal), ctx),
        };
        match outcome {
            Ok(Outcome::Done) => self.acknowledge(id, ctx),
            Ok(Outcome::Awaits { joining }) => self.awaited = Some(Awaited { id, joining }),
            Err(code) => self.refuse(id, code, ctx),
        }
    }

    fn act(&mut self, message: ClientMessage<'_>, first: bool, best_effort: bool, ctx: &mut Context<Self>) -> Result<Outcome, ErrorCode> {
        if best_effort && !matches!(message, ClientMessage::Forward { kind: Kind::Message, .. } | ClientMessage::Broadcast { .. }) {
            return Err(ErrorCode::BadMessage);
        }
        let from = self.peer_id();
        match message {
            ClientMessage::Hello if first => {}
            ClientMessage::Hello => return Err(ErrorCode::BadMessage),
            ClientMessage::Join { room, metadata } => {
                let room = RoomId::parse(&room, self.limits.room_name_bytes_max).ok_or(ErrorCode::BadRoomName)?;
                self.state.may_join(&room, self.limits.rooms_max)?;
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
            ClientMessage::Ping { .. } => self.tell(&ServerMessage::Pong { received: self.received }, ctx),
        }
        Ok(Outcome::Done)
    }

    /// Metadata as it is kept: within its bound, and not in the buffer it was read into.
    fn keep(&self, metadata: Option<Payload>) -> Result<Option<Payload>, ErrorCode> {
        match metadata {
            Some(metadata) if metadata.kept_bytes() > self.limits.metadata_bytes_max => Err(ErrorCode::MetadataTooLarge),
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
            ErrorCode::BadMessage => "`hello` comes first or not at all, and a datagram holds a `message`".into(),
            ErrorCode::TooDeep => format!("a value nests more than {} deep", self.limits.nesting_max),
            ErrorCode::BadRoomName => {
                format!("a room's name is 1 to {} bytes of UTF-8 without control characters", self.limits.room_name_bytes_max)
            }
            ErrorCode::MetadataTooLarge => format!("metadata may take {} bytes", self.limits.metadata_bytes_max),
            ErrorCode::RoomRequired => "`room` may be left out only while you are in exactly one room".into(),
            ErrorCode::NotInRoom => "you are not in this room".into(),
            ErrorCode::AlreadyInRoom => "you are in this room already".into(),
            ErrorCode::NoSuchPeer => NO_SUCH_PEER.into(),
            ErrorCode::TooManyRooms => format!("you are in {} rooms, and more are not allowed", self.limits.rooms_max),
            ErrorCode::RoomFull => "the room has as many peers, or as much metadata, as it may".into(),
            ErrorCode::NoMoreRooms => "the server has as many rooms as it may".into(),
            ErrorCode::Undeliverable => "a peer does not read and is being closed; whoever else the message was for has it".into(),
        }
    }

    /// Says something to this client alone.
    fn tell(&mut self, message: &ServerMessage, ctx: &mut Context<Self>) {
        if self.outbox.push(self.dialect.spell(message), 0).is_err() {
            self.close(CloseCode::SlowConsumer, ctx);
        }
    }

    /// Passes on what also others may get, and what of it is in the backlog already.
    fn deliver(&mut self, envelope: &Envelope, counted: usize) -> Result<(), Overflow> {
        self.outbox.push(self.dialect.encode(envelope), counted)
    }

    /// Says goodbye and ends; the door writes what it still can.
    fn close(&mut self, code: CloseCode, ctx: &mut Context<Self>) {
        if self.state.close() {
            self.outbox.close(code, self.dialect.spell(&ServerMessage::Goodbye(code)));
            self.reason = match code {
                CloseCode::Timeout => LeaveReason::Timeout,
                CloseCode::Draining => LeaveReason::Disconnected,
                _ => LeaveReason::Removed,
            };
            ctx.stop();
        }
    }
}

fn forwarded(kind: Kind, from: PeerId, room: &Room, payload: Payload, to: Option<PeerId>, best_effort: bool) -> ServerMessage {
    ServerMessage::Forwarded { kind, from, room: room.id().clone(), payload, to, best_effort }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let inlet: Arc<dyn Inlet> = Arc::new(Mailbox::new(ctx.address().recipient(), self.outbox.backlog().clone()));
        self.inlet = Some(inlet.clone());
        self.registry.do_send(Register { peer_id: self.peer_id(), inlet });
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        let mut rooms = self.state.take_rooms(None).unwrap_or_default();
        rooms.extend(self.awaited.take().and_then(|awaited| awaited.joining));
        self.registry.do_send(Unregister { peer_id: self.peer_id(), rooms, reason: self.reason });
    }
}

impl Handler<Heard> for Session {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        self.heard.push_back(heard);
        self.hear(ctx);
    }
}

impl Handler<Deliver> for Session {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Context<Self>) {
        match deliver {
            Deliver::Message(envelope) => {
                if self.deliver(&envelope, envelope.weight()).is_err() {
                    self.close(CloseCode::SlowConsumer, ctx);
                }
            }
            Deliver::Answer(answer) => {
                let id = self.awaited.take().and_then(|awaited| awaited.id);
                match answer {
                    Answer::Joined(room, envelope) => {
                        self.state.entered(room);
                        match self.deliver(&envelope, 0) {
                            Ok(()) => self.acknowledge(id, ctx),
                            Err(Overflow) => self.close(CloseCode::SlowConsumer, ctx),
                        }
                    }
                    Answer::Left | Answer::Updated => self.acknowledge(id, ctx),
                    Answer::Refused(code) => self.refuse(id, code, ctx),
                }
                self.hear(ctx);
            }
            Deliver::Close(code) => self.close(code, ctx),
        }
    }
}

impl Handler<Ended> for Session {
    type Result = ();

    fn handle(&mut self, ended: Ended, ctx: &mut Context<Self>) {
        match ended {
            Ended::Fault(code) => self.close(code, ctx),
            Ended::Connection(reason) => {
                if self.state.close() {
                    self.reason = reason;
                    ctx.stop();
                }
            }
        }
    }
}
