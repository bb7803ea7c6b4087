//! Socket.IO 5, as `socket.io-client` 4 speaks it: events with one object each, in either of two vocabularies, told apart by how a room was entered.
//!
//! **Of the tutorials**: `announce {hash, peerId?}` enters a room and leaves the one announced before. The newcomer gets `peer-list {peers: [id, …],
//! peerId}`, the last being what itself is called, the others `new-peer {peerId}`, and in the end `peer-left {peerId}`. `offer`, `answer` and `ice-candidate` go to their `targetPeer`, or without one
//! to the rest of the room, with all their fields and `fromPeer`.
//!
//! **Of our own protocol**: `join {room, metadata?}`, `leave {room?}`, `metadata {room?, metadata}`, `message {room?, to?, payload}`, and the three
//! signals as `{to, room?, payload}`; back come `joined`, `left`, `peer-joined`, `peer-updated`, `peer-left`, `message` and the signals as in the protocol,
//! without their `type`. Where there are ICE servers, `ice-servers {iceServers}` comes behind the CONNECT, and again before their credentials run out.
//!
//! Rooms are shared with clients of every other dialect; an id of ours is what `socket.id` is there. An event that asks for an acknowledgement gets
//! `{ok: true}` or `{ok: false, code, message, retryable, retryAfterMs?}`; what is refused and asked for none comes as the event `error` with the
//! same, and so does the reason why the server ends a connection, with `reconnect` and `reconnectAfterMs`. Bytes travel as attachments, both ways.
//!
//! What is no packet, or is for a namespace that the client has not entered, ends the connection, as it does with the original server
//! (`Client.ondata`, `Client.ondecoded`), and so does entering one twice. There, `auth` is for the namespace that it comes with. Here the first packet lets
//! the client in; who enters `/` later, after another namespace was refused or `/` was left, is judged anew by the `auth` that comes with that, and hears
//! `connect_error` where it is not good. Left out: namespaces beside `/`, acknowledgements that the server asks for, and connection state
//! recovery.

mod attachments;
mod packet;
mod said;

pub use packet::{Assembled, Assembly, MAIN, Packet, PacketKind};

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;

use self::{
    attachments::{Arrived, Illegal},
    said::{about, acknowledged, farewell, ice_servers, joined, message, refused, said, signal},
};
use super::{
    Deed, Dialect, Frames, Heard, Manners, To, Wish,
    announce::{self, Announcement, Announcements, id, seen},
    fields::Fields,
};
use crate::protocol::{
    CloseCode, Codec, Envelope, ErrorCode, Kind, Payload, PeerId, RELAY, Refusal, RoomId, ServerMessage, Token, framing::LentFrame,
};

/// One connection that speaks Socket.IO.
pub struct SocketIo {
    /// What a packet and its attachments may take together.
    message_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    peer_id: Option<PeerId>,
    /// The ICE servers, where there are any.
    ice_servers: Option<Payload<'static>>,
    /// Is the client in the only namespace?
    is_connected: bool,
    /// Has it asked to enter one? The door has looked at what came with that.
    has_asked: bool,
    /// Is it being judged anew?
    is_judged: bool,
    /// Has it said what is no packet?
    is_broken: bool,
    announced: Announcements,
    /// A packet that waits for its attachments.
    assembly: Option<Assembly>,
}

/// The two spellings that all who are in a room in the same way share.
const ANNOUNCED: &str = "socket.io announced";
const JOINED: &str = "socket.io joined";
/// What the library sends as `auth`.
#[derive(Deserialize)]
struct Auth {
    token: Option<String>,
}

/// A client that is judged anew wants to hear of it, whatever the number.
const JUDGED: u64 = 0;
/// Tells who sent something, and is never taken from the sender.
const FROM_PEER: &str = "fromPeer";

impl SocketIo {
    /// A connection whose packets take at most so much.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, frame: LentFrame<'_>, nesting_max: usize) -> Result<Vec<Wish>, Refusal> {
        let mut state = self.state();
        let assembled;
        let (text, attachments) = match (frame, state.assembly.take()) {
            (LentFrame::Text(text), None) => (text, vec![]),
            (LentFrame::Binary(bytes), Some(mut assembly)) => match assembly.push(bytes) {
                Assembled::Waits => {
                    state.assembly = Some(assembly);
                    return Ok(vec![]);
                }
                Assembled::TooLarge => return Ok(vec![Deed::Close(CloseCode::TooLarge).into()]),
                Assembled::Whole(text, attachments) => {
                    assembled = text;
                    (&*assembled, attachments)
                }
            },
            (LentFrame::Text(_), Some(_)) => return state.broken("attachments are missing"),
            (LentFrame::Binary(_) | LentFrame::Datagram(_), _) => return state.broken("bytes that belong to no packet"),
        };
        let Some(packet) = Packet::parse(text) else { return state.broken("this is no packet of Socket.IO 5") };
        if packet.attachments > attachments.len() {
            state.assembly = Some(Assembly::new(text, packet.attachments, self.message_bytes_max));
            return Ok(vec![]);
        }
        if packet.kind == PacketKind::Connect {
            let is_first = !std::mem::replace(&mut state.has_asked, true);
            return match (packet.namespace == MAIN, is_first) {
                (true, _) if state.is_connected => state.broken("the namespace was entered already"),
                (true, false) => {
                    state.is_judged = true;
                    Ok(vec![Wish { id: Some(JUDGED), deed: Deed::Renew { token: token_in(&packet) } }])
                }
                _ => Ok(vec![Deed::Say(state.connect(packet.namespace)).into()]),
            };
        }
        if packet.namespace != MAIN || !state.is_connected {
            return state.broken("a packet for a namespace that was not entered");
        }
        match packet.kind {
            PacketKind::Disconnect => {
                // From here on it hears of nothing that it was in.
                (state.is_connected, state.announced) = (false, Announcements::default());
                Ok(vec![Deed::Leave { room: None }.into()])
            }
            PacketKind::Event | PacketKind::BinaryEvent => match state.event(&packet, Arrived::new(attachments), nesting_max) {
                Ok(wishes) => Ok(wishes),
                Err(Unheard::Illegal) => state.broken("an attachment that did not come, or stands in two places"),
                Err(Unheard::Refused(code, message)) => Err(Refusal::new(packet.id, code, message)),
            },
            // Nothing that the server says asks for an answer.
            PacketKind::Connect | PacketKind::ConnectError | PacketKind::Ack | PacketKind::BinaryAck => Ok(vec![]),
        }
    }
}

/// Why an event comes to nothing.
enum Unheard {
    Illegal,
    Refused(ErrorCode, &'static str),
}

impl From<Illegal> for Unheard {
    fn from(_: Illegal) -> Self {
        Self::Illegal
    }
}

impl State {
    fn broken(&mut self, message: &'static str) -> Result<Vec<Wish>, Refusal> {
        self.is_broken = true;
        Err(Refusal::new(None, ErrorCode::BadMessage, message))
    }

    fn connect(&mut self, namespace: &str) -> Frames {
        let (kind, data) = match self.peer_id {
            Some(peer_id) if namespace == MAIN => {
                self.is_connected = true;
                (PacketKind::Connect, json!({ "sid": peer_id.to_string() }))
            }
            _ => (PacketKind::ConnectError, json!({ "message": "Invalid namespace" })),
        };
        let mut frames = Packet { kind, attachments: 0, namespace, id: None, data: &data.to_string() }.spell([]);
        if let Some(servers) = self.ice_servers.as_ref().filter(|_| kind == PacketKind::Connect) {
            frames.extend_from_slice(ice_servers(servers).into_frames().as_slice());
        }
        Frames::Several(frames)
    }

    fn event(&mut self, packet: &Packet<'_>, mut arrived: Arrived, nesting_max: usize) -> Result<Vec<Wish>, Unheard> {
        let refuse = |message| Err(Unheard::Refused(ErrorCode::BadMessage, message));
        let items = packet.items().unwrap_or_default();
        let name: String = items.first().and_then(|name| serde_json::from_str(name.get()).ok()).unwrap_or_default();
        let fields = match items.get(1) {
            None if name == "leave" => Fields::parse(b"{}"),
            argument => argument.and_then(|argument| Fields::parse(argument.get().as_bytes())),
        };
        // Of two arguments one may be whom it is for, and what is for one peer is not to go to all.
        let Some(fields) = fields.filter(|_| items.len() <= 2) else { return refuse("an event has one argument, which is an object") };
        let mut payload = |payload: Option<Payload<'static>>| match payload {
            Some(payload) => Ok(arrived.put_into(payload, nesting_max)?),
            None => Err(Unheard::Refused(ErrorCode::TooDeep, "a value nests too deep")),
        };
        let room = || fields.text("room").map(|room| room.into_owned());
        let value = |key: &str| fields.find(key).map(|value| Payload::parse_json(value.get().to_owned(), nesting_max));
        let described = || value("metadata").filter(|_| fields.find("metadata").is_some_and(|metadata| metadata.get() != "null"));
        let mut before = None;
        let deed = match &*name {
            "announce" => {
                let Some(announcement) = Announcement::read(&fields) else { return refuse(announce::NO_ANNOUNCEMENT) };
                let room = self.announced.room().map(str::to_owned);
                let deed = self.announced.announce(announcement);
                before = room.filter(|_| matches!(deed, Deed::Join { .. }));
                deed
            }
            "join" => {
                let Some(room) = room() else { return refuse("`join` has a `room`, which is text") };
                self.announced.interrupt();
                Deed::Join { room, metadata: described().map(&mut payload).transpose()?, claim: None, seats: None }
            }
            "leave" => Deed::Leave { room: room() },
            "metadata" => Deed::Metadata { room: room(), metadata: described().map(&mut payload).transpose()? },
            "message" => {
                let Some(said) = value("payload") else { return refuse("`message` has a `payload`") };
                let payload = payload(said)?;
                match to(&fields)? {
                    Some(to) => Deed::Forward { kind: Kind::Message, to, room: room(), payload },
                    None => Deed::Broadcast { kind: Kind::Message, room: room(), payload, echo: false },
                }
            }
            name => {
                let Some(kind) = announce::signal(name) else {
                    return refuse("an event is announce, offer, answer, ice-candidate, join, leave, message or metadata");
                };
                match (to(&fields)?, value("payload")) {
                    (Some(to), Some(said)) => Deed::Forward { kind, to, room: room(), payload: payload(said)? },
                    (Some(_), None) if fields.find("targetPeer").is_none() => {
                        return refuse("what is for `to` is its `payload`; a signal with other fields is for a `targetPeer`");
                    }
                    _ => {
                        let payload = payload(fields.payload_without(&[FROM_PEER], nesting_max))?;
                        match announce::forward(kind, &fields, self.announced.room().map(str::to_owned), payload) {
                            Some(deed) => deed,
                            None => return refuse(announce::NO_TARGET),
                        }
                    }
                }
            }
        };
        let leave = before.map(|room| Wish::from(Deed::Leave { room: Some(room) }));
        Ok(leave.into_iter().chain([Wish { id: packet.id, deed }]).collect())
    }

    /// Is this the room that the client announced itself in?
    fn is_announced(&self, room: &RoomId) -> bool {
        self.announced.room() == Some(room.name())
    }
}

/// What a client says who it is by, if it says so.
fn token_in(packet: &Packet<'_>) -> Option<String> {
    serde_json::from_str::<Auth>(packet.data).ok()?.token
}

/// A namespace is not entered: to this the library knows what to say, `connect_error`.
fn not_entered(code: &str, sentence: &str) -> Frames {
    let data = json!({ "message": code, "data": { "code": code, "message": sentence } }).to_string();
    Frames::Several(Packet { kind: PacketKind::ConnectError, attachments: 0, namespace: MAIN, id: None, data: &data }.spell([]))
}

/// Whom `to` names, if it is there.
fn to(fields: &Fields<'_>) -> Result<Option<To>, Unheard> {
    match (fields.text("to"), fields.find("to")) {
        (Some(name), _) => Ok(Some(To::Name(name.into_owned()))),
        (None, Some(to)) if to.get() != "null" => Err(Unheard::Refused(ErrorCode::BadMessage, "`to` is the id of a peer")),
        _ => Ok(None),
    }
}

impl Dialect for SocketIo {
    fn name(&self) -> &'static str {
        "socket.io"
    }

    fn token<'a>(&self, first: LentFrame<'a>) -> Option<Token<'a>> {
        let LentFrame::Text(text) = first else { return None };
        let packet = Packet::parse(text).filter(|packet| packet.kind == PacketKind::Connect)?;
        token_in(&packet).map(|token| Token(token.into()))
    }

    fn manners(&self) -> Manners {
        Manners { says_token: true, takes_ice_servers: true, ..Manners::FOREIGN }
    }

    fn ends_with(&self, _refusal: &Refusal) -> bool {
        self.state().is_broken
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        self.hear(frame, nesting_max).map(Heard::Wishes)
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        let mut state = self.state();
        if !state.is_connected {
            return Frames::NONE;
        }
        match envelope.message() {
            ServerMessage::Forwarded { kind, from, room, payload, to, .. } => {
                let is_announced = state.is_announced(room) && *kind != Kind::Message;
                drop(state);
                let event = || match is_announced {
                    true => signal(*kind, &id(*from, envelope.name()), payload),
                    false => message(*kind, *from, room, *to, payload),
                };
                // It may have attachments, and then is more than one frame.
                if payload.codec() == Codec::MsgPack {
                    return event().into_frames();
                }
                Frames::text(envelope.spell_once(if is_announced { ANNOUNCED } else { JOINED }, || event().into_text()))
            }
            ServerMessage::Joined { room, peer_id, peers, relays_only } => {
                let called = id(*peer_id, envelope.name());
                state.announced.joined(room, &called);
                if !state.is_announced(room) {
                    return joined(room, *peer_id, peers, *relays_only).into_frames();
                }
                let mut list = json!({ "peers": Vec::from_iter(peers.iter().map(seen)), "peerId": called });
                if *relays_only {
                    list["iceTransportPolicy"] = RELAY.into();
                }
                said("peer-list", list)
            }
            ServerMessage::PeerJoined { room, peer } if state.is_announced(room) => said("new-peer", json!({ "peerId": seen(peer) })),
            ServerMessage::PeerJoined { room, peer } => about("peer-joined", room, peer).into_frames(),
            ServerMessage::PeerUpdated { room, .. } if state.is_announced(room) => Frames::NONE,
            ServerMessage::PeerUpdated { room, peer } => about("peer-updated", room, peer).into_frames(),
            ServerMessage::PeerLeft { room, peer_id, .. } if state.is_announced(room) => {
                said("peer-left", json!({ "peerId": id(*peer_id, envelope.name()) }))
            }
            ServerMessage::PeerLeft { room, peer_id, reason } => {
                said("peer-left", json!({ "room": room.name(), "peerId": peer_id.to_string(), "reason": reason.name() }))
            }
            message => {
                drop(state);
                self.spell(message)
            }
        }
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        let mut state = self.state();
        match message {
            ServerMessage::Welcome(welcome) => {
                state.peer_id = Some(welcome.peer_id);
                state.ice_servers = Some(welcome.ice_servers.clone()).filter(|servers| servers.len() > "[]".len());
                Frames::NONE
            }
            ServerMessage::IceServers { servers } => {
                state.ice_servers = Some(servers.clone());
                if state.is_connected { ice_servers(servers).into_frames() } else { Frames::NONE }
            }
            ServerMessage::Goodbye { code: code @ CloseCode::Unauthorized, .. } if !state.is_connected => {
                not_entered(code.slug(), code.sentence())
            }
            ServerMessage::Ack { .. } if state.is_judged => {
                state.is_judged = false;
                state.connect(MAIN)
            }
            ServerMessage::Error(Refusal { code, message, .. }) if state.is_judged => {
                state.is_judged = false;
                not_entered(code.slug(), message)
            }
            _ if !state.is_connected => Frames::NONE,
            ServerMessage::Left { room, .. } if state.is_announced(room) => {
                state.announced.left(room);
                Frames::NONE
            }
            ServerMessage::Left { room, reason } => said("left", json!({ "room": room.name(), "reason": reason.name() })),
            ServerMessage::Ack { id } => acknowledged(*id, &json!({ "ok": true })),
            // It is the last word, and what was no packet will be none the next time.
            ServerMessage::Error(Refusal { code, message, .. }) if state.is_broken => farewell(code.slug(), message, false, 0),
            ServerMessage::Error(refusal) => refused(refusal),
            ServerMessage::Goodbye { code, reconnect_after_ms } => {
                farewell(code.slug(), code.sentence(), code.reconnect(), *reconnect_after_ms)
            }
            _ => Frames::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::protocol::{ClientLimits, LeaveReason, Peer, PeerName, Welcome, framing::Frame};

    /// What `socket.io-client` 4.8 and the server said to each other, frame by frame.
    const SESSION: &str = include_str!("../../../tests/fixtures/socketio/session.jsonl");
    const ME: &str = "f2fdf7548a8534823d1d41de0787433e";
    const OTHER: &str = "336e1e1259d8d5fc43ddde43f3dc58f2";

    fn frames(of: &str) -> Vec<Frame> {
        let lines = SESSION.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["from"] == of);
        lines
            .map(|line| match line["text"].as_str() {
                Some(text) => Frame::Text(text.to_owned().into()),
                None => Frame::Binary(BASE64_STANDARD.decode(line["base64"].as_str().unwrap()).unwrap().into()),
            })
            .collect()
    }

    fn welcomed() -> SocketIo {
        let dialect = SocketIo::new(1000);
        let limits = ClientLimits {
            message_bytes: 1,
            rooms_per_client: 1,
            peers_per_room: 1,
            metadata_bytes: 1,
            room_name_bytes: 1,
            nesting: 1,
            rates: None,
        };
        let welcome = Welcome {
            peer_id: PeerId::parse(ME).unwrap(),
            resume_token: crate::protocol::ResumeToken::random(),
            resumed: false,
            received: 0,
            ice_servers: json("[]"),
            heartbeat_ms: 1,
            resume_window_ms: 0,
            limits,
        };
        assert!(dialect.spell(&ServerMessage::Welcome(Box::new(welcome))).as_slice().is_empty());
        dialect
    }

    fn json(text: &str) -> Payload<'static> {
        Payload::parse_json(text.to_owned(), 9).unwrap()
    }

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 100).unwrap()
    }

    fn hear(dialect: &SocketIo, frame: impl Into<Bytes>) -> Vec<String> {
        heard(dialect, &Frame::Text(frame.into()))
    }

    /// What a client wants, in short; what is refused by its code.
    fn heard(dialect: &SocketIo, frame: &Frame) -> Vec<String> {
        let show = |payload: &Payload| String::from_utf8_lossy(&payload.spell(Codec::Json)).into_owned();
        let wishes = match dialect.decode(frame.lend(), 9) {
            Ok(Heard::Wishes(wishes)) => wishes,
            Ok(Heard::Request(_)) => unreachable!("these are our own"),
            Err(refusal) => return vec![format!("{:?} {}", refusal.id, refusal.code)],
        };
        let shown = wishes.iter().map(|Wish { id, deed }| {
            let id = id.map(|id| format!("{id} ")).unwrap_or_default();
            let deed = match deed {
                Deed::Join { room, metadata, claim, .. } => {
                    format!("join {room} {:?} {:?}", metadata.as_ref().map(show), claim.as_ref().map(|claim| &claim.name))
                }
                Deed::Leave { room } => format!("leave {room:?}"),
                Deed::Forward { kind, to, room, payload } => format!("{} {to:?} {room:?} {}", kind.name(), show(payload)),
                Deed::Broadcast { kind, room, payload, .. } => format!("{} {room:?} {}", kind.name(), show(payload)),
                Deed::Metadata { room, metadata } => format!("metadata {room:?} {:?}", metadata.as_ref().map(show)),
                Deed::Say(frames) => texts(frames).join(" "),
                Deed::Close(code) => format!("close {code}"),
                deed => format!("{deed:?}"),
            };
            id + &deed
        });
        shown.collect()
    }

    fn texts(frames: &Frames) -> Vec<String> {
        frames.as_slice().iter().map(|frame| String::from_utf8_lossy(frame.bytes()).into_owned()).collect()
    }

    fn joined(name: &str) -> ServerMessage<'static> {
        let peer = Peer {
            peer_id: PeerId::parse(OTHER).unwrap(),
            metadata: (name == "kitchen").then(|| json(r#"{"name":"other"}"#)),
            user: None,
            name: (name == "hash").then(|| PeerName::parse("other", 100).unwrap()),
        };
        ServerMessage::Joined { room: room(name), peer_id: PeerId::parse(ME).unwrap(), peers: vec![peer], relays_only: false }
    }

    fn forwarded(kind: Kind, name: &str, to: Option<&str>, payload: Payload<'static>) -> Envelope<'static> {
        let to = to.map(|to| PeerId::parse(to).unwrap());
        let from = PeerId::parse(OTHER).unwrap();
        let message = ServerMessage::Forwarded { kind, from, room: room(name), payload, to, best_effort: false };
        Envelope::new(message).with(PeerName::parse("other", 100), 0)
    }

    #[test]
    fn what_the_real_client_says_is_understood_and_answered_as_it_was() {
        let dialect = welcomed();
        // What it says first is looked at by itself.
        let mut said = frames("client").into_iter().skip(1);
        let mut expected = frames("server").into_iter();
        let mut next = || heard(&dialect, &said.next().expect("the client says more"));
        let mut is_answered = |frames: Frames| {
            for frame in frames.as_slice() {
                let (answered, captured) = (frame, expected.next().expect("the server said more"));
                let value = |frame: &Frame| match frame {
                    Frame::Text(text) => {
                        let text = std::str::from_utf8(text).unwrap();
                        let at = text.find(['[', '{']).unwrap_or(text.len());
                        (text[..at].to_owned(), serde_json::from_str::<Value>(&text[at..]).unwrap())
                    }
                    bytes => (String::new(), json!(bytes.bytes().to_vec())),
                };
                assert_eq!(value(answered), value(&captured));
            }
        };
        let ack = |id| dialect.spell(&ServerMessage::Ack { id });

        let Ok(Heard::Wishes(connect)) = dialect.decode(frames("client")[0].lend(), 9) else { panic!("it connects") };
        let [Wish { deed: Deed::Say(answer), .. }] = <[Wish; 1]>::try_from(connect).unwrap() else { panic!("it is answered") };
        is_answered(answer);
        assert_eq!(next(), [r#"join hash None Some("tutorial")"#]);
        is_answered(dialect.encode(&Envelope::new(joined("hash")).with(PeerName::parse("tutorial", 100), 0)));
        assert_eq!(next(), [r#"offer Name("other") Some("hash") {"targetPeer":"other","offer":{"type":"offer","sdp":"v=0"}}"#]);
        let answer = json(r#"{"targetPeer":"tutorial","answer":{"type":"answer","sdp":"v=1"},"fromPeer":"forged"}"#);
        is_answered(dialect.encode(&forwarded(Kind::Answer, "hash", None, answer)));
        assert_eq!(next(), [r#"ice-candidate Some("hash") {"candidate":{"candidate":"candidate:1","sdpMid":"0"}}"#]);
        assert_eq!(next(), [r#"0 join kitchen Some("{\"name\":\"me\"}") None"#]);
        is_answered(dialect.encode(&Envelope::new(joined("kitchen"))));
        is_answered(ack(0));
        assert_eq!(next(), [""; 0], "its attachment is to come");
        assert_eq!(next(), [r#"1 message Some("kitchen") {"text":"hello","bytes":"AQL/"}"#]);
        is_answered(ack(1));
        let bytes = Payload::parse_msgpack(vec![0x92, 0xc4, 1, 7, 0xc4, 1, 8], 9).unwrap();
        is_answered(dialect.encode(&forwarded(Kind::Message, "kitchen", Some(ME), bytes)));
        assert_eq!(next(), [r#"2 metadata None Some("{\"name\":\"I\"}")"#]);
        let refusal = "`room` may be left out only while you are in exactly one room";
        is_answered(dialect.spell(&ServerMessage::Error(Refusal::new(Some(2), ErrorCode::RoomRequired, refusal))));
        assert_eq!(next(), [r#"3 metadata Some("kitchen") Some("{\"name\":\"I\"}")"#]);
        is_answered(ack(3));
        assert_eq!(next(), [r#"4 leave Some("kitchen")"#]);
        is_answered(dialect.spell(&ServerMessage::Left { room: room("kitchen"), reason: LeaveReason::Left }));
        is_answered(ack(4));
        assert_eq!(next(), ["None bad-message"]);
        let refusal = "an event has one argument, which is an object";
        is_answered(dialect.spell(&ServerMessage::Error(Refusal::new(None, ErrorCode::BadMessage, refusal))));
        assert_eq!(next(), ["leave None"]);
        assert!(ack(5).as_slice().is_empty(), "who has left hears nothing");
        assert_eq!((said.next(), expected.next()), (None, None));
    }

    #[test]
    fn who_announces_itself_again_leaves_first_and_only_the_room_that_it_announced() {
        let dialect = welcomed();
        hear(&dialect, "40");
        let announce = |hash: &str| hear(&dialect, format!(r#"427["announce",{{"hash":"{hash}"}}]"#));
        assert_eq!(announce("a"), ["7 join a None None"]);
        assert_eq!(announce("b"), ["7 join b None None"], "it was not let in");
        let enter = || {
            let joined = ServerMessage::Joined { room: room("b"), peer_id: PeerId::parse(ME).unwrap(), peers: vec![], relays_only: false };
            texts(&dialect.encode(&Envelope::new(joined))).remove(0)
        };
        assert_eq!(enter(), format!(r#"42["peer-list",{{"peerId":"{ME}","peers":[]}}]"#));
        assert_eq!(announce("b"), [r#"7 List { room: "b" }"#], "it says nothing new");
        assert_eq!(announce("a"), [r#"leave Some("b")"#, "7 join a None None"]);
        dialect.spell(&ServerMessage::Left { room: room("b"), reason: LeaveReason::Left });
        assert_eq!(hear(&dialect, r#"42["join",{"room":"b"}]"#), ["join b None None"]);
        assert!(enter().starts_with(r#"42["joined","#));
    }

    #[test]
    fn what_is_no_packet_ends_the_connection_and_what_is_no_event_does_not() {
        for (frame, is_broken) in [
            (Frame::Text("4x".into()), true),
            (Frame::Text("42/other,[\"x\",{}]".into()), true),
            (Frame::Binary("x".into()), true),
            (Frame::Text("42[\"dance\",{}]".into()), false),
            (Frame::Text("42[\"announce\",\"text\"]".into()), false),
            (Frame::Text("44{}".into()), false),
        ] {
            let dialect = welcomed();
            hear(&dialect, "40");
            heard(&dialect, &frame);
            assert_eq!(dialect.ends_with(&Refusal::new(None, ErrorCode::BadMessage, "")), is_broken, "{frame:?}");
        }
        let dialect = welcomed();
        hear(&dialect, "42[\"announce\",{\"hash\":\"h\"}]");
        assert!(dialect.ends_with(&Refusal::new(None, ErrorCode::BadMessage, "")), "it has entered no namespace");
    }

    #[test]
    fn a_packet_and_its_attachments_are_bounded_together() {
        let dialect = welcomed();
        hear(&dialect, "40");
        assert_eq!(hear(&dialect, r#"459-["message",{"payload":1}]"#), [""; 0]);
        assert_eq!(heard(&dialect, &Frame::Binary(vec![0; 600].into())), [""; 0]);
        assert_eq!(heard(&dialect, &Frame::Binary(vec![0; 600].into())), ["close too-large"]);
    }

    #[test]
    fn no_text_is_too_strange() {
        use proptest::prelude::*;
        proptest!(|(packets in prop::collection::vec("4[0-6][0-9]?-?(/[a-z]{0,2},)?[0-9]{0,2}.{0,40}", 1..6))| {
            let dialect = welcomed();
            hear(&dialect, "40");
            for packet in packets {
                heard(&dialect, &Frame::Text(packet.into()));
            }
        });
    }
}
