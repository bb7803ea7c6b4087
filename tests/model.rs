//! Random lives of twenty clients in five rooms, against a model of what is promised: identity, order, nothing lost or told, resuming.
//!
//! One driver does everything, one step after another, and waits for no answer: what it does next depends on the seed alone. A logical clock
//! orders what it does and what it reads, and the model knows of every message and every stay in a room when it may have begun and when
//! it may have ended. What overlaps may come out either way; everything else only one way. Now and then the driver waits until all is quiet,
//! and then who is where, and who has heard what, has to be exact.

mod support;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use futures_util::FutureExt as _;
use support::{
    DEADLINE, Random, TestServer, doors,
    resuming::{Cut, Resuming},
    seed, within,
};
use switchboard::{
    Config,
    client::{Connector, Door},
    config::Rates,
    protocol::{ClientMessage, ErrorCode, Kind, LeaveReason, Payload, PeerId, ServerMessage},
};

const CLIENTS: usize = 20;
const ROOMS: [&str; 5] = ["red", "green", "blue", "black", "white"];
/// Events that are remembered of each client, to be printed when something is wrong.
const EVENTS: usize = 30;

/// The driver's own clock: everything it does and everything it reads takes the next tick.
type Tick = u64;

/// What a client that lost its connection may find when it comes back.
#[derive(Clone, Copy, PartialEq)]
enum Return {
    /// Its session, always.
    Certain,
    /// Its session, unless it has missed more than so many messages.
    UnlessMissed(usize),
    /// Its session, if nobody called it gone meanwhile.
    Perhaps,
}

/// All that there is to know of one client from a `welcome` to its end.
struct Session {
    peer_id: PeerId,
    client: usize,
    life: Life,
    /// What it asked and has not heard the answer to, in order.
    asked: VecDeque<Asked>,
    /// The stays that its own messages so far amount to.
    inside: [Option<usize>; ROOMS.len()],
    /// All of its stays in each room.
    stays: [Vec<usize>; ROOMS.len()],
    /// What it was told of who is where, while it is told to be there itself.
    view: [Option<HashMap<PeerId, Seen>>; ROOMS.len()],
    /// The latest message from each other session.
    latest: HashMap<usize, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Alive,
    /// Without a connection since then, and perhaps given up by the server.
    Doubtful(Tick),
    /// Over, since then at the latest; whether it was closed as the door provides for it.
    Over {
        closed: bool,
    },
}

/// From a join to a leave.
struct Stay {
    session: usize,
    join_sent: Tick,
    joined: Option<Tick>,
    leave_sent: Option<Tick>,
    left: Option<Tick>,
    /// Broadcasts that were sent in it, and how many of them are known to be accepted.
    broadcasts: u64,
    accepted: u64,
}

/// Another peer in a room, as a client sees it.
#[derive(Default)]
struct Seen {
    /// The peer's stay, once a message told which.
    stay: Option<usize>,
    /// The next of its broadcasts; unknown for who was there before until the first one comes.
    next: Option<u64>,
}

struct Asked {
    id: u64,
    what: What,
    /// The message that comes before the answer has come: `joined`, `left` or `pong`.
    told: bool,
}

#[derive(Clone, Copy)]
enum What {
    /// Into a room, for this stay; none if it is there already.
    Join(usize, Option<usize>),
    /// Out of a room.
    Leave(usize, Option<usize>),
    Message(usize),
    Ping,
}

/// A message from one client to one or to the rest of a room. Its payload is its number.
struct Sent {
    from: usize,
    room: usize,
    stay: Option<usize>,
    to: Option<usize>,
    /// Which of the broadcasts of its stay.
    index: u64,
    sent: Tick,
    answer: Option<(Tick, Result<(), ErrorCode>)>,
    heard_by: Vec<usize>,
}

/// A peer has left, and this client has heard its broadcasts up to there.
struct Claim {
    by: usize,
    stay: usize,
    heard: u64,
}

struct World {
    seed: u64,
    step: usize,
    returns: Return,
    now: Tick,
    next_id: u64,
    connector: Arc<Connector>,
    links: Vec<Resuming>,
    /// The session of each client.
    current: Vec<usize>,
    sessions: Vec<Session>,
    by_peer: HashMap<PeerId, usize>,
    stays: Vec<Stay>,
    messages: Vec<Sent>,
    /// Messages of which not everything is known yet.
    open: Vec<usize>,
    claims: Vec<Claim>,
    events: Vec<VecDeque<String>>,
    heard: usize,
    resumed: usize,
    anew: usize,
}

impl World {
    async fn new(seed: u64, returns: Return, server: &TestServer) -> Self {
        let connector = Arc::new(doors(server.base()).await);
        let mut world = Self {
            seed,
            step: 0,
            returns,
            now: 0,
            next_id: 0,
            connector: connector.clone(),
            links: vec![],
            current: vec![],
            sessions: vec![],
            by_peer: HashMap::new(),
            stays: vec![],
            messages: vec![],
            open: vec![],
            claims: vec![],
            events: (0..CLIENTS).map(|_| VecDeque::new()).collect(),
            heard: 0,
            resumed: 0,
            anew: 0,
        };
        for client in 0..CLIENTS {
            world.links.push(Resuming::connect(&connector, Door::ALL[client % 3]).await);
            world.current.push(0);
            world.begins(client);
        }
        world
    }

    /// A client has been welcomed to a new session.
    fn begins(&mut self, client: usize) {
        let peer_id = self.links[client].peer_id;
        let session = Session {
            peer_id,
            client,
            life: Life::Alive,
            asked: VecDeque::new(),
            inside: [None; ROOMS.len()],
            stays: Default::default(),
            view: Default::default(),
            latest: HashMap::new(),
        };
        let number = self.sessions.len();
        self.current[client] = number;
        assert_eq!(self.by_peer.insert(peer_id, number), None, "a peer id is given once");
        self.sessions.push(session);
        self.note(client, format_args!("is {peer_id}, session {number}"));
    }

    /// A session is over, at that time or later.
    fn ends(&mut self, session: usize, since: Tick, closed: bool) {
        self.sessions[session].life = Life::Over { closed };
        self.sessions[session].asked.clear();
        for stay in self.sessions[session].inside.into_iter().flatten() {
            self.stays[stay].leave_sent = Some(since);
        }
    }

    fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    fn note(&mut self, client: usize, event: impl fmt::Display) {
        let events = &mut self.events[client];
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(format!("{:>6} {:>7}: {event}", self.step, self.now));
    }

    /// Something is wrong, and these sessions are concerned.
    fn fail(&self, sessions: &[usize], what: impl fmt::Display) -> ! {
        println!("SEED={}, step {}: {what}", self.seed, self.step);
        let clients: HashSet<usize> = sessions.iter().map(|session| self.sessions[*session].client).collect();
        for client in clients {
            println!("client {client}, now session {}, at step and tick:", self.current[client]);
            self.events[client].iter().for_each(|event| println!("  {event}"));
        }
        panic!("SEED={}, step {}: {what}", self.seed, self.step);
    }
}

/// What clients do.
impl World {
    async fn step(&mut self, random: &mut Random) {
        let client = random.below(CLIENTS as u64) as usize;
        // Drawn whatever is done with them, so that the same seed goes on in the same way.
        let (action, room, other, door) =
            (random.below(1_000), random.below(5) as usize, random.below(CLIENTS as u64) as usize, random.below(3));
        let connected = self.links[client].is_connected();
        match action {
            0..330 => self.broadcast(client, room).await,
            330..600 => self.forward(client, room, other).await,
            600..780 => self.join(client, room).await,
            780..830 => self.leave(client, room).await,
            830..860 => self.ping(client).await,
            860..865 => self.kill(client, room.is_multiple_of(2), Door::ALL[door as usize]).await,
            865..1000 if !connected => self.resume(client, Door::ALL[door as usize]).await,
            865..900 => self.cut(client, if door == 0 { Cut::LeftBehind } else { Cut::Reset }),
            _ => {}
        }
        self.hear_what_is_there(client);
    }

    async fn ask(&mut self, client: usize, what: What, message: ClientMessage<'static>) {
        let id = self.next_id;
        self.next_id += 1;
        self.sessions[self.current[client]].asked.push_back(Asked { id, what, told: false });
        within("a message to be sent", self.links[client].send(Some(id), message)).await;
    }

    async fn join(&mut self, client: usize, room: usize) {
        let (session, join_sent) = (self.current[client], self.tick());
        let mut stay = None;
        if self.sessions[session].inside[room].is_none() {
            stay = Some(self.stays.len());
            self.stays.push(Stay { session, join_sent, joined: None, leave_sent: None, left: None, broadcasts: 0, accepted: 0 });
            self.sessions[session].inside[room] = stay;
            self.sessions[session].stays[room].extend(stay);
        }
        self.note(client, format_args!("joins {}", ROOMS[room]));
        self.ask(client, What::Join(room, stay), ClientMessage::Join { room: ROOMS[room].into(), metadata: None }).await;
    }

    async fn leave(&mut self, client: usize, room: usize) {
        let (session, leave_sent) = (self.current[client], self.tick());
        let stay = self.sessions[session].inside[room].take();
        if let Some(stay) = stay {
            self.stays[stay].leave_sent = Some(leave_sent);
        }
        self.note(client, format_args!("leaves {}", ROOMS[room]));
        self.ask(client, What::Leave(room, stay), ClientMessage::Leave { room: Some(ROOMS[room].into()) }).await;
    }

    async fn broadcast(&mut self, client: usize, room: usize) {
        let number = self.sends(client, room, None);
        let payload = Payload::from_serialize(&number).unwrap();
        self.ask(client, What::Message(number), ClientMessage::Broadcast { room: Some(ROOMS[room].into()), payload }).await;
    }

    async fn forward(&mut self, client: usize, room: usize, other: usize) {
        let target = self.current[other];
        let number = self.sends(client, room, Some(target));
        let payload = Payload::from_serialize(&number).unwrap();
        let to = self.sessions[target].peer_id;
        let message = ClientMessage::Forward { kind: Kind::Offer, to, room: Some(ROOMS[room].into()), payload };
        self.ask(client, What::Message(number), message).await;
    }

    /// Notes a message; its number.
    fn sends(&mut self, client: usize, room: usize, to: Option<usize>) -> usize {
        let (from, sent) = (self.current[client], self.tick());
        let stay = self.sessions[from].inside[room];
        let mut index = 0;
        if let (Some(stay), None) = (stay, to) {
            index = self.stays[stay].broadcasts;
            self.stays[stay].broadcasts += 1;
        }
        let number = self.messages.len();
        self.messages.push(Sent { from, room, stay, to, index, sent, answer: None, heard_by: vec![] });
        self.open.push(number);
        match to {
            Some(to) => self.note(client, format_args!("sends {number} to session {to} in {}", ROOMS[room])),
            None => self.note(client, format_args!("sends {number} to {}", ROOMS[room])),
        }
        number
    }

    /// Asks whether all is well, and acknowledges what has arrived.
    async fn ping(&mut self, client: usize) {
        self.tick();
        let received = Some(self.links[client].received);
        self.ask(client, What::Ping, ClientMessage::Ping { received }).await;
    }

    fn cut(&mut self, client: usize, cut: Cut) {
        let now = self.tick();
        self.note(client, format_args!("is cut off: {cut:?}"));
        self.links[client].cut(cut);
        if self.returns == Return::Perhaps {
            self.sessions[self.current[client]].life = Life::Doubtful(now);
        }
    }

    async fn resume(&mut self, client: usize, door: Door) {
        let (session, now) = (self.current[client], self.tick());
        let missed = self.missed(session);
        let resumed = self.links[client].resume(door).await;
        self.links[client].left_behind.clear();
        self.note(client, format_args!("comes back by {door}: {resumed}"));
        match self.returns {
            Return::Certain if !resumed => self.fail(&[session], "a session did not go on"),
            Return::UnlessMissed(most) if resumed && missed > most => {
                self.fail(&[session], format_args!("a session went on without some of {missed} messages"));
            }
            _ => {}
        }
        self.tick();
        if resumed {
            self.resumed += 1;
            self.sessions[session].life = Life::Alive;
            return;
        }
        self.anew += 1;
        let since = match self.sessions[session].life {
            Life::Doubtful(since) => since,
            _ => now,
        };
        self.ends(session, since, false);
        self.begins(client);
    }

    /// Messages that are known to have been accepted for a session and that its client has not received: at least so many are missing.
    fn missed(&self, session: usize) -> usize {
        let due = |number: &&usize| {
            let message = &self.messages[**number];
            let accepted = message.answer.filter(|(_, outcome)| outcome.is_ok());
            !message.heard_by.contains(&session) && accepted.is_some_and(|(answered, _)| self.concerns(message, session, answered))
        };
        self.open.iter().filter(due).count()
    }

    /// Goes for good, perhaps as its door provides for it, and somebody else comes.
    async fn kill(&mut self, client: usize, politely: bool, door: Door) {
        let (session, now) = (self.current[client], self.tick());
        let newcomer = Resuming::connect(&self.connector, door).await;
        let gone = std::mem::replace(&mut self.links[client], newcomer);
        // Without a goodbye nobody is called gone before the window is over, so that is for servers with a short one.
        let closed = gone.is_connected() && (politely || self.returns != Return::Perhaps);
        self.note(client, format_args!("is gone, {}", if closed { "with a goodbye" } else { "without" }));
        if closed {
            gone.leave().await;
        } else if self.returns != Return::Perhaps {
            // It comes back to close.
            let mut back = gone;
            if back.resume(door).await {
                back.leave().await;
            }
        } else {
            drop(gone);
        }
        let since = match self.sessions[session].life {
            Life::Doubtful(since) => since,
            _ => now,
        };
        self.ends(session, since, closed);
        self.begins(client);
    }
}

/// What clients hear.
impl World {
    fn hear_what_is_there(&mut self, client: usize) {
        while self.links[client].is_connected() {
            match self.links[client].try_hear().now_or_never() {
                Some(Ok(message)) => self.hear(client, &message),
                Some(Err(disconnected)) => self.fail(&[self.current[client]], disconnected),
                None => return,
            }
        }
    }

    fn hear(&mut self, client: usize, message: &ServerMessage) {
        let session = self.current[client];
        self.tick();
        match message {
            ServerMessage::Forwarded { kind, from, room, payload, to, best_effort: false } => {
                let number = payload.parse::<usize>().unwrap_or_else(|error| self.fail(&[session], error));
                self.note(client, format_args!("hears {number}"));
                if to.is_some() {
                    self.fail(&[session], "`to` stands in a signal or in a broadcast");
                }
                self.hear_message(session, *kind, *from, room_of(room.as_str()), number);
            }
            ServerMessage::Joined { room, peer_id, peers, .. } => {
                let room = room_of(room.as_str());
                self.note(client, format_args!("is in {}", ROOMS[room]));
                if *peer_id != self.sessions[session].peer_id {
                    self.fail(&[session], "joined as somebody else");
                }
                let peers: Vec<PeerId> = peers.iter().map(|peer| peer.peer_id).collect();
                self.hear_joined(session, room, &peers);
            }
            ServerMessage::Left { room, reason: LeaveReason::Left } => {
                let room = room_of(room.as_str());
                self.note(client, format_args!("is out of {}", ROOMS[room]));
                self.hear_left(session, room);
            }
            ServerMessage::PeerJoined { room, peer } => {
                let (room, peer) = (room_of(room.as_str()), peer.peer_id);
                self.note(client, format_args!("hears that {peer} is in {}", ROOMS[room]));
                let other = self.known(session, peer);
                let known =
                    self.sessions[session].view[room].as_mut().map(|view| view.insert(peer, Seen { stay: None, next: Some(0) }).is_some());
                if known != Some(false) || !self.may_be_in(other, room, 0, self.now) {
                    self.fail(
                        &[session, other],
                        format_args!("session {other} is announced in {}, where it was before or cannot be", ROOMS[room]),
                    );
                }
            }
            ServerMessage::PeerLeft { room, peer_id, reason } => {
                let room = room_of(room.as_str());
                self.note(client, format_args!("hears that {peer_id} left {}: {reason:?}", ROOMS[room]));
                self.hear_peer_left(session, room, *peer_id, *reason);
            }
            ServerMessage::Pong { .. } => match self.sessions[session].asked.front_mut() {
                Some(Asked { what: What::Ping, told, .. }) if !*told => *told = true,
                _ => self.fail(&[session], "a pong that was not asked for"),
            },
            ServerMessage::Ack { id } => self.hear_answer(session, *id, Ok(())),
            ServerMessage::Error(refusal) => match refusal.id {
                Some(id) => self.hear_answer(session, id, Err(refusal.code)),
                None => self.fail(&[session], format_args!("{refusal:?}")),
            },
            other => self.fail(&[session], format_args!("{other:?}")),
        }
    }

    fn known(&self, session: usize, peer: PeerId) -> usize {
        match self.by_peer.get(&peer) {
            Some(other) if *other != session => *other,
            _ => self.fail(&[session], format_args!("there is no other peer {peer}")),
        }
    }

    fn hear_message(&mut self, session: usize, kind: Kind, from: PeerId, room: usize, number: usize) {
        let other = self.known(session, from);
        let concerned = [session, other];
        self.heard += 1;
        let Some(message) = self.messages.get(number) else { self.fail(&concerned, "a message that nobody sent") };
        let Some(stay) = message.stay else { self.fail(&concerned, format_args!("{number} was sent by somebody outside of the room")) };
        let index = message.index;
        let expected = (other, room, if message.to.is_some() { Kind::Offer } else { Kind::Message });
        if (message.from, message.room, kind) != expected || message.to.is_some_and(|to| to != session) {
            self.fail(
                &concerned,
                format_args!("{number} arrives from another peer, in another room, as another kind or at the wrong client"),
            );
        }
        if message.answer.is_some_and(|(_, outcome)| outcome.is_err()) {
            self.fail(&concerned, format_args!("{number} was refused, and arrives"));
        }
        let stay_here = self.sessions[session].stays[room].iter().rev().find(|stay| self.stays[**stay].joined.is_some());
        let joining = stay_here.map_or(self.now, |stay| self.stays[*stay].join_sent);
        if message.answer.is_some_and(|(answered, _)| answered < joining) {
            self.fail(&concerned, format_args!("{number} was for those who were there before this client was"));
        }
        if self.sessions[session].latest.insert(other, number).is_some_and(|latest| latest >= number) {
            self.fail(&concerned, format_args!("{number} comes late, or twice"));
        }
        let is_broadcast = message.to.is_none();
        self.messages[number].heard_by.push(session);
        let Some(seen) = self.sessions[session].view[room].as_mut().and_then(|view| view.get_mut(&from)) else {
            self.fail(&concerned, format_args!("{number} comes before its sender does, or after it left"));
        };
        let is_next = !is_broadcast || seen.next.is_none_or(|next| next == index);
        if !is_next || seen.stay.is_some_and(|seen| seen != stay) {
            let next = seen.next;
            self.fail(&concerned, format_args!("{number} is broadcast {index} of its stay and not {next:?}, or of another stay"));
        }
        seen.stay = Some(stay);
        if is_broadcast {
            seen.next = Some(index + 1);
        }
    }

    fn hear_joined(&mut self, session: usize, room: usize, peers: &[PeerId]) {
        let now = self.now;
        let stay = match self.sessions[session].asked.front_mut() {
            Some(Asked { what: What::Join(asked, Some(stay)), told, .. }) if *asked == room && !*told => {
                *told = true;
                *stay
            }
            _ => self.fail(&[session], "joined without having asked"),
        };
        self.stays[stay].joined = Some(now);
        let join_sent = self.stays[stay].join_sent;
        let view: HashMap<PeerId, Seen> = peers.iter().map(|peer| (*peer, Seen::default())).collect();
        if view.len() != peers.len() {
            self.fail(&[session], "a peer is there twice");
        }
        for peer in peers {
            let other = self.known(session, *peer);
            if !self.may_be_in(other, room, join_sent, now) {
                self.fail(&[session, other], format_args!("session {other} cannot be in {}", ROOMS[room]));
            }
        }
        for &other in &self.current {
            if other != session && self.must_be_in(other, room, join_sent, now) && !view.contains_key(&self.sessions[other].peer_id) {
                self.fail(&[session, other], format_args!("session {other} has to be in {}", ROOMS[room]));
            }
        }
        if self.sessions[session].view[room].replace(view).is_some() {
            self.fail(&[session], "joined twice");
        }
    }

    fn hear_left(&mut self, session: usize, room: usize) {
        let now = self.now;
        match self.sessions[session].asked.front_mut() {
            Some(Asked { what: What::Leave(asked, Some(stay)), told, .. }) if *asked == room && !*told => {
                *told = true;
                self.stays[*stay].left = Some(now);
            }
            _ => self.fail(&[session], "left without having asked"),
        }
        if self.sessions[session].view[room].take().is_none() {
            self.fail(&[session], "left twice");
        }
    }

    fn hear_peer_left(&mut self, session: usize, room: usize, peer: PeerId, reason: LeaveReason) {
        let now = self.now;
        let other = self.known(session, peer);
        let Some(seen) = self.sessions[session].view[room].as_mut().and_then(|view| view.remove(&peer)) else {
            self.fail(&[session, other], format_args!("session {other} left {}, where it was not", ROOMS[room]));
        };
        let is_true = match (reason, self.sessions[other].life) {
            // It said so, in this room, whatever became of it later.
            (LeaveReason::Left, _) => self.sessions[other].stays[room].iter().any(|stay| self.stays[*stay].leave_sent.is_some()),
            (LeaveReason::Disconnected, Life::Over { .. }) => true,
            (LeaveReason::Timeout, Life::Over { closed }) => !closed,
            (LeaveReason::Timeout, Life::Doubtful(_)) => true,
            _ => false,
        };
        if !is_true {
            let life = self.sessions[other].life;
            self.fail(&[session, other], format_args!("session {other} left {} as {reason:?}, but is {life:?}", ROOMS[room]));
        }
        if let (Some(stay), Some(heard)) = (seen.stay, seen.next) {
            self.claims.push(Claim { by: session, stay, heard });
        }
        // Once anybody has heard it, everybody finds the peer gone.
        if let (Some(stay), true) = (self.sessions[other].inside[room], reason != LeaveReason::Left) {
            self.stays[stay].left.get_or_insert(now);
        }
    }

    fn hear_answer(&mut self, session: usize, id: u64, outcome: Result<(), ErrorCode>) {
        let Some(asked) = self.sessions[session].asked.pop_front() else { self.fail(&[session], "an answer to nothing") };
        if asked.id != id {
            self.fail(&[session], format_args!("the answer to {id} and not to {}", asked.id));
        }
        let expected = match asked.what {
            What::Join(_, None) => Err(ErrorCode::AlreadyInRoom),
            What::Leave(_, None) => Err(ErrorCode::NotInRoom),
            What::Join(..) | What::Leave(..) | What::Ping if asked.told => Ok(()),
            What::Join(..) | What::Leave(..) | What::Ping => self.fail(&[session], "an answer without what comes before it"),
            What::Message(number) => {
                self.note(self.sessions[session].client, format_args!("{number} is answered: {outcome:?}"));
                self.messages[number].answer = Some((self.now, outcome));
                self.expected(number, outcome)
            }
        };
        if outcome != expected {
            let what = match asked.what {
                What::Message(number) => self.messages[number].to,
                _ => None,
            };
            let concerned: Vec<usize> = what.into_iter().chain([session]).collect();
            self.fail(&concerned, format_args!("{outcome:?} instead of {expected:?}"));
        }
    }

    /// What a message has to be answered: the actual answer where that is one of two that it may be.
    fn expected(&mut self, number: usize, actual: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
        let message = &self.messages[number];
        let Some(stay) = message.stay else { return Err(ErrorCode::NotInRoom) };
        let Some(to) = message.to else {
            self.stays[stay].accepted += 1;
            return Ok(());
        };
        let (from, room, sent) = (message.from, message.room, message.sent);
        if to == from || !self.may_be_in(to, room, sent, self.now) {
            return Err(ErrorCode::NoSuchPeer);
        }
        if self.must_be_in(to, room, sent, self.now) || !message.heard_by.is_empty() || actual.is_ok() {
            return Ok(());
        }
        Err(ErrorCode::NoSuchPeer)
    }
}

/// What is known of time.
impl World {
    /// Can it have been in the room at any time from `since` to `until`?
    fn may_be_in(&self, session: usize, room: usize, since: Tick, until: Tick) -> bool {
        self.sessions[session].stays[room].iter().any(|stay| {
            let stay = &self.stays[*stay];
            stay.join_sent < until && stay.left.is_none_or(|left| left > since)
        })
    }

    /// Was it in the room all the time from `since` to `until`?
    fn must_be_in(&self, session: usize, room: usize, since: Tick, until: Tick) -> bool {
        !matches!(self.sessions[session].life, Life::Doubtful(lost) if lost < until)
            && self.sessions[session].stays[room].iter().any(|stay| self.covers(*stay, since, until))
    }

    fn covers(&self, stay: usize, since: Tick, until: Tick) -> bool {
        let stay = &self.stays[stay];
        stay.joined.is_some_and(|joined| joined < since) && stay.leave_sent.is_none_or(|leave_sent| leave_sent > until)
    }

    /// Has a session that lives to receive an accepted message?
    fn concerns(&self, message: &Sent, session: usize, answered: Tick) -> bool {
        match message.to {
            Some(to) => to == session,
            None => {
                let mut stays = self.sessions[session].stays[message.room].iter();
                session != message.from && stays.any(|stay| self.covers(*stay, message.sent, answered))
            }
        }
    }
}

/// What has to hold when all is quiet.
impl World {
    /// Waits until every client that is connected has heard all that was sent before, and compares.
    async fn settle(&mut self) {
        // The second time everything that anybody did before the first is in the mailbox of whom it concerns.
        for _ in 0..2 {
            for client in 0..CLIENTS {
                if self.links[client].is_connected() {
                    self.ping(client).await;
                }
            }
            for client in 0..CLIENTS {
                while self.links[client].is_connected() && !self.sessions[self.current[client]].asked.is_empty() {
                    let message = self.links[client].hear().await;
                    self.hear(client, &message);
                }
            }
        }
        self.check_messages();
        self.check_membership();
        self.check_claims();
    }

    fn check_messages(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|number| self.is_open(*number));
        self.open = open;
    }

    /// Is something about this message still to be known? What is known has to be right.
    fn is_open(&self, number: usize) -> bool {
        let message = &self.messages[number];
        let Some((answered, outcome)) = message.answer else {
            return !self.is_over(message.from);
        };
        if outcome.is_err() {
            if !message.heard_by.is_empty() {
                self.fail(&[message.from], format_args!("{number} was refused, and has arrived"));
            }
            return false;
        }
        let mut open = false;
        for (client, &session) in self.current.iter().enumerate() {
            if self.concerns(message, session, answered) && !message.heard_by.contains(&session) {
                if self.links[client].is_connected() {
                    self.fail(&[session, message.from], format_args!("{number} was accepted, and session {session} has not heard it"));
                }
                open = true;
            }
        }
        open
    }

    fn check_membership(&self) {
        for (client, &session) in self.current.iter().enumerate() {
            if !self.links[client].is_connected() {
                continue;
            }
            for (room, name) in ROOMS.iter().enumerate() {
                let Some(view) = &self.sessions[session].view[room] else {
                    assert!(self.sessions[session].inside[room].is_none(), "every answer has come");
                    continue;
                };
                for &other in &self.current {
                    // Those of whom something is on its way, or who may be gone, can be seen either way.
                    let is_known = self.sessions[other].asked.is_empty() && self.sessions[other].life == Life::Alive;
                    let is_in = self.sessions[other].inside[room].is_some();
                    if other != session && is_known && view.contains_key(&self.sessions[other].peer_id) != is_in {
                        self.fail(&[session, other], format_args!("session {session} sees session {other} wrongly: in {name} is {is_in}"));
                    }
                }
            }
        }
    }

    /// Who left had been heard to the end.
    fn check_claims(&mut self) {
        let mut claims = std::mem::take(&mut self.claims);
        claims.retain(|claim| {
            let stay = &self.stays[claim.stay];
            let sender = &self.sessions[stay.session];
            let due = if self.is_over(stay.session) { stay.accepted } else { stay.broadcasts };
            if claim.heard < due && sender.asked.is_empty() {
                let concerned = [claim.by, stay.session];
                self.fail(&concerned, format_args!("session {} left before its broadcast {}", stay.session, claim.heard));
            }
            !sender.asked.is_empty()
        });
        self.claims = claims;
    }

    fn is_over(&self, session: usize) -> bool {
        matches!(self.sessions[session].life, Life::Over { .. })
    }

    /// Does anybody see somebody who is over?
    fn sees_ghosts(&self) -> bool {
        let seen = |session: &usize| {
            self.sessions[*session].view.iter().flatten().flat_map(HashMap::keys).any(|peer| self.is_over(self.by_peer[peer]))
        };
        self.current.iter().any(seen)
    }

    /// Everybody comes back, all is told, and nobody is seen who is not there.
    async fn end(&mut self) {
        for client in 0..CLIENTS {
            if !self.links[client].is_connected() {
                self.resume(client, Door::ALL[client % 3]).await;
            }
        }
        let since = Instant::now();
        self.settle().await;
        while self.sees_ghosts() {
            assert!(since.elapsed() < DEADLINE, "SEED={}: somebody who is gone is still there", self.seed);
            self.settle().await;
        }
        assert!(self.open.is_empty() && self.claims.is_empty(), "nothing is left open");
        println!(
            "{} steps: {} messages sent, {} heard, {} stays in rooms, {} sessions, {} resumed, {} not",
            self.step,
            self.messages.len(),
            self.heard,
            self.stays.len(),
            self.sessions.len(),
            self.resumed,
            self.anew
        );
    }
}

fn room_of(name: &str) -> usize {
    ROOMS.iter().position(|room| *room == name).expect("a room of this test")
}

/// Lives so many steps on a server with these settings.
async fn live(steps: usize, returns: Return, change: impl FnOnce(&mut Config)) -> World {
    let server = TestServer::with(|config| {
        config.rates = Rates::Off;
        config.timeouts.resume_window_ms = 30_000;
        change(config);
    });
    let seed = seed();
    let random = &mut Random::new(seed);
    let mut world = World::new(seed, returns, &server).await;
    let mut settle_at = 0;
    while world.step < steps {
        world.step(random).await;
        world.step += 1;
        if world.step.is_multiple_of(8) {
            tokio::task::yield_now().await;
        }
        if world.step > settle_at {
            world.settle().await;
            settle_at = world.step + random.below(400) as usize;
        }
    }
    world.end().await;
    world
}

#[tokio::test]
async fn fifty_thousand_steps_where_everybody_can_come_back() {
    let world = live(50_000, Return::Certain, |_| {}).await;
    assert!(world.resumed > 100 && world.anew == 0);
}

#[tokio::test]
async fn twenty_five_thousand_steps_where_little_is_kept() {
    const KEPT: usize = 40;
    let world = live(25_000, Return::UnlessMissed(KEPT), |config| config.limits.replay_messages_max = KEPT).await;
    assert!(world.resumed > 50 && world.anew > 10);
}

#[tokio::test]
async fn twenty_five_thousand_steps_where_nobody_is_waited_for_long() {
    let world = live(25_000, Return::Perhaps, |config| config.timeouts.resume_window_ms = 100).await;
    assert!(world.resumed > 10 && world.anew > 10);
}
