//! What one client says: decoded, judged and acted on, one message after another.
//!
//! The connection comes here directly, on its own thread, and goes on when its frames are dealt with. The registry's answers come
//! through the session's mailbox: while one is awaited, frames wait, deliveries do not.

mod wishes;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Instant,
};

use actix::prelude::{Handler, Message};
use tokio::sync::oneshot;
use tracing::debug;

use self::wishes::Patience;
pub use self::wishes::TRY_AGAIN_AFTER;
use super::{
    Shared,
    admission::{AskToJoin, Renew},
    backlog::Backlog,
    connection::{Connection, ConnectionId, Ended, Ending},
    delivery::Delivery,
    outbox::Outbox,
    replay::NeverSent,
    state::State,
    throttle::{AddressJoins, Throttle, TooSoon},
};
use crate::{
    auth::Grant,
    dialect::{Dialect, Heard, Wish},
    metrics::Said,
    protocol::{
        Census, ClientMessage, CloseCode, Envelope, ErrorCode, Kind, LeaveReason, NO_SUCH_PEER, Payload, PeerId, Refusal, Request,
        ResumeToken, RoomId, ServerMessage, Token, Welcome,
        framing::{CowFrame, Frame, LentFrame},
    },
    registry::{
        RoomRegistry, ask,
        command::{Answer, Join, Leave, Update},
        rooms::{Behind, Entry, Handed, Room},
    },
};

/// The side of a session that listens. Shared by the session and its connections, of which only the latest is heard.
pub struct Hearing {
    peer_id: PeerId,
    shared: Arc<Shared>,
    delivery: Arc<Delivery>,
    /// That of the delivery, for what is asked with every message.
    backlog: Arc<Backlog>,
    /// The connection that is heard, and how it spells.
    connection: Option<ConnectionId>,
    dialect: Arc<dyn Dialect>,
    /// That of the connection, as long as it is the session's.
    outbox: Option<Arc<Outbox>>,
    /// Is the client counted among the peers who may come back?
    is_waiting_peer: bool,
    state: State,
    /// How fast the client sends; not watched if missing.
    throttle: Option<Throttle>,
    /// What the client may do; everything if missing.
    grant: Option<Arc<Grant>>,
    /// What all clients of its address share.
    joins: Option<Arc<AddressJoins>>,
    /// How many messages the client has sent, best-effort ones aside.
    received: u64,
    /// The secret that the latest connection used, and when: as long as nothing came over it, its welcome may be lost, and with it the new secret.
    unconfirmed: Option<(ResumeToken, Instant)>,
    awaited: Option<Awaited>,
    /// A peer that is to be waited for before the next message.
    behind: Option<Behind>,
    /// What else a frame of a foreign client asks for.
    wishes: VecDeque<Wish>,
    /// Has the frame that is dealt with paid for a room already?
    has_paid_join: bool,
    /// So many frames had come with the latest that enters a room, and are still to be heard.
    came_with_join: usize,
    /// Is what is heard now of such a frame?
    is_with_join: bool,
    /// What is said to peers that are not there yet.
    patience: Patience,
}

/// A command that the registry has yet to answer, and the `id` of the message that asked for it.
struct Awaited {
    id: Option<u64>,
    /// The room that is being joined: should the session end now, it has to be left.
    joining: Option<RoomId>,
    /// Wake the connection, which has more to say, perhaps by stream and by datagram.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What became of a message, as far as it is known at once.
enum Outcome {
    Done,
    /// Somebody may not have it, and somebody may be behind.
    Handed(Handed),
    Awaits {
        joining: Option<RoomId>,
    },
    /// Nothing is to be said now: it waits for a peer that is not there yet, or was refused already.
    Later,
}

/// When something is heard.
#[derive(Clone, Copy)]
struct Moment {
    now: Instant,
    /// When it was taken up: before now, if something had to be waited for meanwhile.
    taken_up: Instant,
}

/// What is waited for before the rest is heard.
pub enum Pause {
    /// The registry, which answers.
    Answer(oneshot::Receiver<()>),
    /// A peer that is behind.
    Behind(Behind),
}

impl Pause {
    /// Waits for it.
    pub async fn over(self) {
        match self {
            // A session that lets go of this connection drops the sender, which is as good.
            Self::Answer(answered) => drop(answered.await),
            Self::Behind(peer) => peer.eased().await,
        }
    }
}

/// The connection's way to [`Hearing`].
pub type SharedHearing = Arc<Mutex<Hearing>>;

impl Hearing {
    /// Listens to a new session's first connection.
    pub fn new(
        welcome: &Welcome,
        shared: Arc<Shared>,
        delivery: Arc<Delivery>,
        Connection { dialect, outbox, address, .. }: &Connection,
    ) -> Self {
        Self {
            peer_id: welcome.peer_id,
            shared,
            backlog: delivery.backlog().clone(),
            delivery,
            connection: Some(ConnectionId::FIRST),
            dialect: dialect.clone(),
            outbox: Some(outbox.clone()),
            is_waiting_peer: false,
            state: State::default(),
            throttle: welcome.limits.rates.map(|rates| Throttle::new(rates, Instant::now())),
            grant: None,
            joins: address.joins.clone(),
            received: 0,
            unconfirmed: None,
            awaited: None,
            behind: None,
            wishes: VecDeque::new(),
            has_paid_join: false,
            came_with_join: 0,
            is_with_join: false,
            patience: Patience::default(),
        }
    }

    /// With what the client was granted.
    pub fn granted(mut self, grant: Option<Arc<Grant>>) -> Self {
        self.grant = grant;
        self
    }

    /// Goes on with another grant. From here on nothing of the session reaches the rooms that it is not for; they are to be left.
    pub fn renew(&mut self, grant: Arc<Grant>) -> Vec<RoomId> {
        if let (Some(throttle), Some(rates)) = (&mut self.throttle, grant.rates.bound(self.shared.settings.rates_max)) {
            throttle.change(rates);
        }
        let gone: Vec<String> = self.state.names().filter(|name| grant.room(name).is_none()).map(str::to_owned).collect();
        self.grant = Some(grant);
        let gone = gone.iter().flat_map(|name| self.state.take_rooms(Some(name)).unwrap_or_default()).collect();
        self.count_peer();
        gone
    }

    /// Deals with a connection's frames until none is left, or something has to be waited for: what is left then is to be brought again when the
    /// pause is over, and `taken_up` with it, which is filled in the first time. What comes over a connection that is given up is dropped: its client
    /// will say it again.
    pub fn hear(&mut self, connection: ConnectionId, frames: &mut VecDeque<Frame>, taken_up: &mut Option<Instant>) -> Option<Pause> {
        let now = Instant::now();
        let at = Moment { now, taken_up: *taken_up.get_or_insert(now) };
        let alone = frames.len() == 1;
        if !self.dialect.manners().speaks_first && self.state.greet() {
            self.greet(now);
        }
        if let Some(peer) = self.behind.take() {
            return Some(Pause::Behind(peer));
        }
        while !frames.is_empty() || !self.wishes.is_empty() {
            if self.connection != Some(connection) || !self.backlog.is_listening() {
                frames.clear();
                self.wishes.clear();
                break;
            }
            if let Some(awaited) = &mut self.awaited {
                let (answered, told) = oneshot::channel();
                awaited.waiting.push(answered);
                return Some(Pause::Answer(told));
            }
            let behind = match self.wishes.pop_front() {
                Some(wish) => self.wish(wish, at),
                None => {
                    self.is_with_join = self.came_with_join > 0;
                    self.came_with_join = self.came_with_join.saturating_sub(1);
                    frames.pop_front().and_then(|frame| self.frame(frame.lend(), alone, at))
                }
            };
            if self.is_joining() {
                self.came_with_join = frames.len();
            }
            if let Some(peer) = behind {
                return Some(Pause::Behind(peer));
            }
        }
        if self.wishes.capacity() > 0 {
            // A session at rest keeps no list.
            self.wishes = VecDeque::new();
        }
        None
    }

    /// The same with messages where they were read, each with whether it came alone, as long as there is nothing to wait for; those behind are put into
    /// `frames`, which has none in it. False if [`hear`](Self::hear) is to wait even if there are none.
    pub fn hear_at_once<'a>(
        &mut self,
        connection: ConnectionId,
        messages: impl Iterator<Item = (CowFrame<'a>, bool)>,
        frames: &mut VecDeque<Frame>,
    ) -> bool {
        let now = Instant::now();
        let at = Moment { now, taken_up: now };
        let was_joining = self.is_joining();
        self.is_with_join = false;
        for (message, alone) in messages {
            if self.has_to_wait() || !self.state.is_greeted() {
                frames.push_back(message.into());
            } else if self.connection == Some(connection) && self.backlog.is_listening() {
                self.behind = self.frame(message.lend(), alone, at);
            }
        }
        if self.is_joining() && !was_joining {
            self.came_with_join = frames.len();
        }
        self.behind.is_none() && self.wishes.is_empty()
    }

    /// Does the next message have to wait for something that came of the last?
    fn has_to_wait(&self) -> bool {
        self.awaited.is_some() || self.behind.is_some() || !self.wishes.is_empty()
    }

    fn is_joining(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.joining.is_some())
    }

    /// Hears what a client wants that wants it by having come, if its address may join rooms as fast as that.
    fn greet(&mut self, now: Instant) {
        let in_time = self.throttle.as_mut().map_or(Ok(()), |throttle| throttle.take(0, self.joins.as_deref(), now));
        match in_time {
            Ok(()) => {
                self.wishes = self.dialect.greeting().into();
                self.count_wishes(self.wishes.iter());
                self.has_paid_join = true;
            }
            Err(_) => self.give_up(CloseCode::RateLimited, now),
        }
    }

    /// Asks the session to close the connection, which is heard no more.
    fn give_up(&mut self, code: CloseCode, heard_at: Instant) {
        if let Some(connection) = self.connection.take() {
            self.delivery.session().do_send(Ended { connection, how: Ending::Fault(code), heard_at });
        }
    }

    /// Who the client is for others.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The other side of its session.
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// How many messages the client has sent.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Listens to another connection instead.
    pub fn attach(&mut self, connection: ConnectionId, dialect: Arc<dyn Dialect>, outbox: Arc<Outbox>, joins: Option<Arc<AddressJoins>>) {
        (self.connection, self.dialect, self.joins) = (Some(connection), dialect, joins);
        self.count_peer_at(Some(outbox));
        if let Some(throttle) = &mut self.throttle {
            throttle.resume(self.shared.settings.resume_window, Instant::now());
        }
    }

    /// Listens to no connection.
    pub fn detach(&mut self) {
        self.connection = None;
        self.count_peer_at(None);
        if let Some(awaited) = &mut self.awaited {
            awaited.waiting.clear();
        }
    }

    /// Is this the secret that the latest connection used, and its welcome perhaps not heard?
    pub fn is_unconfirmed(&self, token: ResumeToken) -> bool {
        self.unconfirmed.is_some_and(|(used, _)| used == token)
    }

    /// Was it used so lately that the client most likely has its new one?
    pub fn was_just_used(&self, token: ResumeToken) -> bool {
        self.unconfirmed.is_some_and(|(used, at)| used == token && at.elapsed() < self.shared.settings.welcome_lost_after)
    }

    /// Keeps the secret that was used for as long as the welcome with the new one may be lost.
    pub fn use_token(&mut self, used: ResumeToken) {
        if let Some((before, _)) = self.unconfirmed.replace((used, Instant::now())) {
            self.shared.resumables.forget(before);
        }
    }

    /// The client has its new secret, for it has spoken: the used one is of no use any more.
    pub fn confirm(&mut self) {
        if let Some((used, _)) = self.unconfirmed.take() {
            self.shared.resumables.forget(used);
        }
    }

    /// The registry has answered.
    pub fn answered(&mut self, answer: Answer) {
        let Some(Awaited { id, waiting, .. }) = self.awaited.take() else { return };
        match answer {
            // It was asked for when the client still had another token.
            Answer::Joined(room, _) if !self.may_be_in(room.id()) => {
                let (rooms, reason) = (vec![room.id().clone()], LeaveReason::Removed);
                self.ask(Leave { peer_id: self.peer_id, inlet: self.delivery.clone(), rooms, reason, is_awaited: false });
                self.refuse(id, ErrorCode::Forbidden);
            }
            Answer::Joined(room, standing) => {
                self.state.entered(room, standing);
                self.count_peer();
                self.acknowledge(id);
            }
            Answer::Counted(mut rooms) => {
                // What is none of the client's business is to it as if it were not there.
                for (room, census) in &mut rooms {
                    if !self.may_observe(room) {
                        *census = Census::default();
                    }
                }
                self.delivery.tell(&ServerMessage::Counted { rooms });
                self.acknowledge(id);
            }
            Answer::Renamed(room, name) => {
                self.state.renamed(&room, name);
                self.acknowledge(id);
            }
            Answer::NotRenamed(code) => {
                // The rest of the frame is for who has the name.
                self.wishes.clear();
                self.refuse(id, code);
            }
            Answer::Left | Answer::Updated | Answer::Renewed => self.acknowledge(id),
            Answer::Refused(code) => self.refuse(id, code),
        }
        for answered in waiting {
            // A connection that is gone does not mind.
            let _ = answered.send(());
        }
    }

    /// The rooms that the session is in, or soon will be. From here on nothing of it reaches them.
    pub fn take_rooms(&mut self) -> Vec<RoomId> {
        let mut rooms = self.state.take_rooms(None).unwrap_or_default();
        rooms.extend(self.awaited.take().and_then(|awaited| awaited.joining));
        self.count_peer();
        rooms
    }

    /// Has the client counted as a peer while it is in a room: where it is connected, or among those who may come back.
    fn count_peer(&mut self) {
        let is_peer = self.state.is_in_a_room();
        let waits = match &self.outbox {
            Some(outbox) => {
                outbox.meter().set_peer(is_peer);
                false
            }
            None => is_peer,
        };
        if std::mem::replace(&mut self.is_waiting_peer, waits) != waits {
            self.backlog.metrics().peers_waiting(if waits { 1 } else { -1 });
        }
    }

    /// The same, when the connection is another, or there is none any more.
    fn count_peer_at(&mut self, outbox: Option<Arc<Outbox>>) {
        if let Some(before) = std::mem::replace(&mut self.outbox, outbox) {
            before.meter().set_peer(false);
        }
        self.count_peer();
    }

    fn count_frame(&self, frame: LentFrame<'_>, heard: &Result<Heard<'_>, Refusal>, best_effort: bool) {
        let said = match heard {
            Ok(Heard::Request(request)) => Some(Said::of(&request.message, best_effort)),
            Ok(Heard::Wishes(wishes)) => {
                self.count_wishes(wishes.iter());
                None
            }
            Err(_) => Some(Said::Malformed),
        };
        // Only the connection that is the session's is heard.
        if let Some(outbox) = &self.outbox {
            self.backlog.metrics().heard(outbox.meter().door(), frame.bytes().len(), said);
        }
    }

    /// The rooms that the session is in.
    pub fn rooms(&self) -> Vec<RoomId> {
        self.state.rooms().cloned().collect()
    }

    /// The session is no longer in this room.
    pub fn expelled(&mut self, room: &RoomId) {
        self.state.expelled(room);
        self.count_peer();
    }

    /// Deals with one, and tells the peer that is to be waited for behind it.
    fn frame(&mut self, frame: LentFrame<'_>, alone: bool, at: Moment) -> Option<Behind> {
        let best_effort = matches!(frame, LentFrame::Datagram(_));
        if best_effort && !self.state.is_greeted() {
            return None;
        }
        if !best_effort {
            self.received += 1;
            self.confirm();
        }
        let first = self.state.greet();
        let heard = self.dialect.decode(frame, self.shared.settings.nesting_max);
        self.count_frame(frame, &heard, best_effort);
        if let Err(wait) = self.pace(frame, heard.as_ref().ok(), at.now) {
            let id = match heard {
                Ok(Heard::Request(Request { id, .. })) | Err(Refusal { id, .. }) => id,
                Ok(Heard::Wishes(wishes)) => wishes.iter().find_map(|wish| wish.id),
            };
            self.slow_down(id, wait, at.now);
            return None;
        }
        match heard {
            Ok(Heard::Request(Request { id, message })) => {
                let outcome = self.act(message, first, best_effort, alone, at);
                self.conclude(id, outcome)
            }
            // They are dealt with one after another, with a pause between where one is needed.
            Ok(Heard::Wishes(wishes)) => {
                self.wishes.extend(wishes);
                None
            }
            Err(refusal) => {
                self.tell_refusal(refusal);
                None
            }
        }
    }

    /// Answers a message, if it wants an answer, and tells the peer that is to be waited for behind it.
    fn conclude(&mut self, id: Option<u64>, outcome: Result<Outcome, ErrorCode>) -> Option<Behind> {
        match outcome {
            // Once a server shuts down its rooms empty, and what goes into an empty room is not to be called delivered.
            Ok(Outcome::Done | Outcome::Handed(Handed { untaken: None, .. })) if self.backlog.is_closed() => {}
            Ok(Outcome::Done) => self.acknowledge(id),
            Ok(Outcome::Later) => {}
            Ok(Outcome::Handed(Handed { untaken, behind })) => {
                match untaken {
                    Some(code) => self.refuse(id, code),
                    None => self.acknowledge(id),
                }
                return behind;
            }
            Ok(Outcome::Awaits { joining }) => self.awaited = Some(Awaited { id, joining, waiting: vec![] }),
            Err(code) => self.refuse(id, code),
        }
        None
    }

    /// Is it too soon for this message?
    fn pace(&mut self, frame: LentFrame<'_>, heard: Option<&Heard<'_>>, now: Instant) -> Result<(), TooSoon> {
        let Some(throttle) = &mut self.throttle else { return Ok(()) };
        let is_join = match heard {
            Some(Heard::Request(request)) => matches!(request.message, ClientMessage::Join { .. }),
            Some(Heard::Wishes(wishes)) => wishes.iter().any(|wish| wish.deed.costs_a_join()),
            None => false,
        };
        self.has_paid_join = is_join;
        throttle.take(frame.bytes().len(), self.joins.as_deref().filter(|_| is_join), now)
    }

    /// Refuses a message that came too soon, and gives up a client that goes on in spite of that.
    fn slow_down(&mut self, id: Option<u64>, too_soon: TooSoon, now: Instant) {
        let wait_ms = too_soon.0.as_nanos().div_ceil(1_000_000) as u64;
        let code = ErrorCode::RateLimited;
        let refusal = Refusal { retry_after_ms: Some(wait_ms), ..Refusal::new(id, code, self.explain(code)) };
        self.tell_refusal(refusal);
        if !self.throttle.as_mut().is_none_or(|throttle| throttle.refuse(too_soon, now)) {
            self.give_up(CloseCode::RateLimited, now);
        }
    }

    fn act(&mut self, message: ClientMessage<'_>, first: bool, best_effort: bool, alone: bool, at: Moment) -> Result<Outcome, ErrorCode> {
        if best_effort && !matches!(message, ClientMessage::Forward { kind: Kind::Message, .. } | ClientMessage::Broadcast { .. }) {
            return Err(ErrorCode::BadMessage);
        }
        let from = self.peer_id;
        match message {
            // What it would resume is gone or not to be had, or the door would have attached it.
            ClientMessage::Hello { .. } if first => {}
            ClientMessage::Hello { token: Some(Token(token)), resume: None } => {
                return Ok(self.ask_to_renew(Some(token.into_owned())));
            }
            ClientMessage::Hello { .. } => return Err(ErrorCode::BadMessage),
            ClientMessage::Join { room, metadata } => {
                let room = RoomId::parse(&room, self.shared.settings.room_name_bytes_max).ok_or(ErrorCode::BadRoomName)?;
                return self.join(room, metadata, Entry::default());
            }
            ClientMessage::Leave { room } => return self.leave(room.as_deref()),
            ClientMessage::Forward { kind, to, room, payload } => {
                let room = self.room_to_publish_in(room.as_deref())?;
                let directed = (kind == Kind::Message).then_some(to);
                let message = forwarded(kind, from, room, payload, directed, best_effort);
                let envelope = Envelope::to_one(message, alone.then_some(at.now), self.timed_from(at));
                return room.forward(from, to, &envelope).map(Outcome::Handed);
            }
            ClientMessage::Broadcast { room, payload } => {
                let (room, standing) = self.state.place(room.as_deref())?;
                allowed(standing.rights.broadcast)?;
                let message = forwarded(Kind::Message, from, room, payload, None, best_effort);
                return Ok(Outcome::Handed(room.broadcast(from, self.timed(message, at))));
            }
            ClientMessage::Metadata { room, metadata } => return self.describe(room.as_deref(), metadata),
            ClientMessage::Ping { received } => {
                if let Some(received) = received {
                    self.delivery.acknowledge(received).map_err(|NeverSent| ErrorCode::BadMessage)?;
                }
                self.delivery.tell(&ServerMessage::Pong { received: self.received });
            }
        }
        Ok(Outcome::Done)
    }

    /// Asks what the client may do who says this, if anybody is to be asked.
    fn ask_to_renew(&self, token: Option<String>) -> Outcome {
        if self.grant.is_none() {
            return Outcome::Done;
        }
        self.delivery.session().do_send(Renew { token });
        Outcome::Awaits { joining: None }
    }

    fn join(&mut self, room: RoomId, metadata: Option<Payload>, entry: Entry) -> Result<Outcome, ErrorCode> {
        self.state.may_join(&room, self.shared.settings.rooms_max)?;
        let mut entry = Entry { metadata: self.keep(metadata)?, ..entry };
        let mut asks = false;
        if let Some(grant) = &self.grant {
            // Before anybody looks for the room: whether there is one is nobody's business who may not enter it.
            let access = grant.room(room.name()).ok_or(ErrorCode::Forbidden)?;
            (entry.user, entry.rights, entry.peers_max) = (grant.user.clone(), access.rights, access.peers_max);
            asks = grant.asks_about_rooms;
            // What many may have is no proof of being the same.
            if let Some(claim) = entry.claim.as_mut().filter(|_| grant.user.is_none()) {
                claim.secret = None;
            }
        }
        let join = Join { peer_id: self.peer_id, inlet: self.delivery.clone(), room: room.clone(), entry };
        if asks {
            self.delivery.session().do_send(AskToJoin(join));
        } else {
            self.ask(join);
        }
        Ok(Outcome::Awaits { joining: Some(room) })
    }

    fn leave(&mut self, room: Option<&str>) -> Result<Outcome, ErrorCode> {
        let rooms = self.state.take_rooms(room)?;
        self.count_peer();
        if rooms.is_empty() {
            return Ok(Outcome::Done);
        }
        self.ask(Leave { peer_id: self.peer_id, inlet: self.delivery.clone(), rooms, reason: LeaveReason::Left, is_awaited: true });
        Ok(Outcome::Awaits { joining: None })
    }

    fn describe(&mut self, room: Option<&str>, metadata: Option<Payload>) -> Result<Outcome, ErrorCode> {
        let room = self.state.room(room)?.id().clone();
        let metadata = self.keep(metadata)?;
        self.ask(Update { peer_id: self.peer_id, inlet: self.delivery.clone(), room, metadata });
        Ok(Outcome::Awaits { joining: None })
    }

    fn ask<C>(&self, command: C)
    where
        C: Message<Result = ()> + Send + 'static,
        RoomRegistry: Handler<C, Result = ()>,
    {
        ask(&self.shared.registry, self.backlog.metrics(), command);
    }

    /// A message on its way to others, which is timed if it is one of those that are.
    fn timed<'a>(&self, message: ServerMessage<'a>, at: Moment) -> Envelope<'a> {
        Envelope::new(message).timed(self.timed_from(at))
    }

    /// From when its way is timed, if it is.
    fn timed_from(&self, at: Moment) -> Option<Instant> {
        self.backlog.metrics().is_timed().then_some(at.taken_up)
    }

    /// The room of a message for one peer of it, if the client may send any.
    fn room_to_publish_in(&self, room: Option<&str>) -> Result<&Arc<Room>, ErrorCode> {
        let (room, standing) = self.state.place(room)?;
        allowed(standing.rights.publish).map(|()| room)
    }

    /// Is this room for the client, as far as its token tells?
    fn may_be_in(&self, room: &RoomId) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.room(room.name()).is_some())
    }

    /// May the client know who is in this room?
    fn may_observe(&self, room: &RoomId) -> bool {
        match &self.grant {
            None => true,
            // Nobody was asked about a room that it is not in.
            Some(grant) if grant.asks_about_rooms => self.state.place(Some(room.name())).is_ok_and(|(_, standing)| standing.rights.observe),
            Some(grant) => grant.room(room.name()).is_some_and(|access| access.rights.observe),
        }
    }

    /// Metadata as it is kept: within its bound, and not in the buffer it was read into.
    fn keep(&self, metadata: Option<Payload>) -> Result<Option<Payload<'static>>, ErrorCode> {
        match metadata {
            Some(metadata) if metadata.kept_bytes() > self.shared.settings.metadata_bytes_max => Err(ErrorCode::MetadataTooLarge),
            metadata => Ok(metadata.map(|metadata| metadata.detached())),
        }
    }

    fn acknowledge(&self, id: Option<u64>) {
        if let Some(id) = id {
            self.delivery.tell(&ServerMessage::Ack { id });
        }
    }

    fn refuse(&self, id: Option<u64>, code: ErrorCode) {
        self.tell_refusal(Refusal::new(id, code, self.explain(code)));
    }

    fn tell_refusal(&self, refusal: Refusal) {
        let is_last = self.dialect.ends_with(&refusal);
        self.backlog.metrics().refused(refusal.code);
        debug!(code = %refusal.code, "a message is refused");
        self.delivery.tell(&ServerMessage::Error(refusal));
        if is_last {
            self.hang_up();
        }
    }

    /// Ends the connection behind what was said, as a client of another server knows it: without a code of ours.
    fn hang_up(&self) {
        if let (Some(connection), Some((outbox, _))) = (self.connection, self.delivery.connection()) {
            outbox.hang_up();
            self.delivery.session().do_send(Ended { connection, how: Ending::Violation, heard_at: Instant::now() });
        }
    }

    /// The sentence for the person who wrote the client. The dialects write their own for what is no message at all.
    fn explain(&self, code: ErrorCode) -> String {
        match code {
            ErrorCode::BadMessage => {
                let sent = self.delivery.sent();
                format!(
                    "`hello` comes first, or later with a `token` alone; a datagram holds a `message`, and you were sent {sent} messages, not more"
                )
            }
            ErrorCode::TooDeep => format!("a value nests more than {} deep", self.shared.settings.nesting_max),
            ErrorCode::BadRoomName => {
                format!(
                    "the name of a room or a peer is 1 to {} bytes of UTF-8 without control characters",
                    self.shared.settings.room_name_bytes_max
                )
            }
            ErrorCode::MetadataTooLarge => format!("metadata may take {} bytes", self.shared.settings.metadata_bytes_max),
            ErrorCode::RoomRequired => "`room` may be left out only while you are in exactly one room".into(),
            ErrorCode::NotInRoom => "you are not in this room".into(),
            ErrorCode::AlreadyInRoom => "you are in this room already".into(),
            ErrorCode::NoSuchPeer => NO_SUCH_PEER.into(),
            ErrorCode::TooManyRooms => format!("you are in {} rooms, and more are not allowed", self.shared.settings.rooms_max),
            ErrorCode::RoomFull => "the room has as many peers, or as much metadata, as it may".into(),
            ErrorCode::NoMoreRooms => "the server has as many rooms as it may".into(),
            ErrorCode::RateLimited => {
                "you send faster than this server allows, or all clients of your address together join too fast".into()
            }
            ErrorCode::NameTaken => "another peer has this name".into(),
            ErrorCode::Forbidden => "you may not enter that room, or not do that in it, or the peer may not be sent anything".into(),
            ErrorCode::Unauthorized => "the new token is not good for this session, and the one before still counts".into(),
            ErrorCode::Unavailable => "whoever decides who may enter that room cannot be asked at the moment".into(),
            ErrorCode::Undeliverable => "a peer does not read and is being closed; whoever else the message was for has it".into(),
        }
    }
}

/// What the client has no right to is refused.
fn allowed(right: bool) -> Result<(), ErrorCode> {
    right.then_some(()).ok_or(ErrorCode::Forbidden)
}

fn forwarded<'a>(kind: Kind, from: PeerId, room: &Room, payload: Payload<'a>, to: Option<PeerId>, best_effort: bool) -> ServerMessage<'a> {
    ServerMessage::Forwarded { kind, from, room: room.id().clone(), payload, to, best_effort }
}
