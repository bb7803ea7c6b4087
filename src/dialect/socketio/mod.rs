//! Socket.IO 5, as `socket.io-client` 4 speaks it: events with one object each, in either of two vocabularies, told apart by how a room was entered.
//!
//! **Of the tutorials**: `announce {hash, peerId?}` enters a room and leaves the one announced before. The newcomer gets `peer-list {peers: [id, …]}`,
//! the others `new-peer {peerId}`, and in the end `peer-left {peerId}`. `offer`, `answer` and `ice-candidate` go to their `targetPeer`, or without one
//! to the rest of the room, with all their fields and `fromPeer`.
//!
//! **Of our own protocol**: `join {room, metadata?}`, `leave {room?}`, `metadata {room?, metadata}`, `message {room?, to?, payload}`, and the three
//! signals as `{to, room?, payload}`; back come `joined`, `left`, `peer-joined`, `peer-updated`, `peer-left`, `message` and the signals as in the protocol,
//! without their `type`.
//!
//! Rooms are shared with clients of every other dialect; an id of ours is what `socket.id` is there. An event that asks for an acknowledgement gets
//! `{ok: true}` or `{ok: false, code, message, retryable, retryAfterMs?}`; what is refused and asked for none comes as the event `error` with the same,
//! and so does the reason why the server ends a connection, with `reconnect` and `reconnectAfterMs`. Bytes travel as attachments, both ways.
//!
//! What is no packet, or is for a namespace that the client has not entered, ends the connection, as it does with the original server (`Client.ondata`,
//! `Client.ondecoded`). Left out: namespaces beside `/`, acknowledgements that the server asks for, and connection state recovery.

mod attachments;
mod packet;

pub use packet::{Assembled, Assembly, MAIN, Packet, PacketKind};

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;

use self::attachments::{Arrived, Departing, Illegal};
use super::{
    Deed, Dialect, Frames, Heard, Manners, To, Wish,
    announce::{self, Announcement, id, seen},
    fields::{Fields, write_json},
};
use crate::protocol::{CloseCode, Codec, Envelope, ErrorCode, Kind, Payload, Peer, PeerId, Refusal, RoomId, ServerMessage, framing::Frame};

/// One connection that speaks Socket.IO.
pub struct SocketIo {
    /// What a packet and its attachments may take together.
    message_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    peer_id: Option<PeerId>,
    /// Is the client in the only namespace?
    is_connected: bool,
    /// Has it said what is no packet?
    is_broken: bool,
    /// The room that it announced itself in, and the one that it is about to.
    announced: Option<String>,
    announcing: Option<String>,
    /// A packet that waits for its attachments.
    assembly: Option<Assembly>,
}

/// The two spellings that all who are in a room in the same way share.
const ANNOUNCED: &str = "socket.io announced";
const JOINED: &str = "socket.io joined";
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

    fn hear(&self, frame: &Frame, nesting_max: usize) -> Result<Vec<Wish>, Refusal> {
        let mut state = self.state();
        let (text, attachments) = match (frame, state.assembly.take()) {
            (Frame::Text(text), None) => (text.clone(), vec![]),
            (Frame::Binary(bytes), Some(mut assembly)) => match assembly.push(bytes.clone()) {
                Assembled::Waits => {
                    state.assembly = Some(assembly);
                    return Ok(vec![]);
                }
                Assembled::TooLarge => return Ok(vec![Deed::Close(CloseCode::TooLarge).into()]),
                Assembled::Whole(text, attachments) => (text, attachments),
            },
            (Frame::Text(_), Some(_)) => return state.broken("attachments are missing"),
            (Frame::Binary(_) | Frame::Datagram(_), _) => return state.broken("bytes that belong to no packet"),
        };
        let Some(packet) = Packet::parse(&text) else { return state.broken("this is no packet of Socket.IO 5") };
        if packet.attachments > attachments.len() {
            state.assembly = Some(Assembly::new(text.clone(), packet.attachments, self.message_bytes_max));
            return Ok(vec![]);
        }
        if packet.kind == PacketKind::Connect {
            return Ok(vec![Deed::Say(state.connect(packet.namespace)).into()]);
        }
        if packet.namespace != MAIN || !state.is_connected {
            return state.broken("a packet for a namespace that was not entered");
        }
        match packet.kind {
            PacketKind::Disconnect => {
                // From here on it hears of nothing that it was in.
                (state.is_connected, state.announced, state.announcing) = (false, None, None);
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
        Frames::Several(Packet { kind, attachments: 0, namespace, id: None, data: &data.to_string() }.spell([]))
    }

    fn event(&mut self, packet: &Packet<'_>, mut arrived: Arrived, nesting_max: usize) -> Result<Vec<Wish>, Unheard> {
        let refuse = |message| Err(Unheard::Refused(ErrorCode::BadMessage, message));
        let items = packet.items().unwrap_or_default();
        let name: String = items.first().and_then(|name| serde_json::from_str(name.get()).ok()).unwrap_or_default();
        let fields = match items.get(1) {
            None if name == "leave" => Fields::parse(b"{}"),
            argument => argument.and_then(|argument| Fields::parse(argument.get().as_bytes())),
        };
        let Some(fields) = fields else { return refuse("an event has one argument, which is an object") };
        let mut payload = |payload: Option<Payload>| match payload {
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
                before = self.announced.clone();
                self.announcing = Some(announcement.hash.clone());
                announcement.join()
            }
            "join" => {
                let Some(room) = room() else { return refuse("`join` has a `room`, which is text") };
                self.announcing = None;
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
                    _ => {
                        let payload = payload(fields.payload_without(&[FROM_PEER], nesting_max))?;
                        match announce::forward(kind, &fields, self.announced.clone(), payload) {
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
        self.announced.as_deref() == Some(room.name())
    }
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
    fn manners(&self) -> Manners {
        Manners::FOREIGN
    }

    fn ends_with(&self, _refusal: &Refusal) -> bool {
        self.state().is_broken
    }

    fn decode<'a>(&self, frame: &'a Frame, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        self.hear(frame, nesting_max).map(Heard::Wishes)
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        let state = self.state();
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
                Frames::NONE
            }
            _ if !state.is_connected => Frames::NONE,
            ServerMessage::Joined { room, peers, .. } if state.announcing.as_deref() == Some(room.name()) => {
                state.announced = state.announcing.take();
                said("peer-list", json!({ "peers": peers.iter().map(seen).collect::<Vec<_>>() }))
            }
            ServerMessage::Joined { room, peer_id, peers } => joined(room, *peer_id, peers).into_frames(),
            ServerMessage::Left { room, .. } if state.is_announced(room) => {
                state.announced = None;
                Frames::NONE
            }
            ServerMessage::Left { room, reason } => said("left", json!({ "room": room.name(), "reason": reason.name() })),
            ServerMessage::Ack { id } => acknowledged(*id, &json!({ "ok": true })),
            ServerMessage::Error(refusal) => refused(refusal),
            ServerMessage::Goodbye { code, reconnect_after_ms } => said(
                "error",
                json!({
                    "code": code.slug(), "message": code.sentence(), "reconnect": code.reconnect(), "reconnectAfterMs": reconnect_after_ms,
                }),
            ),
            _ => Frames::NONE,
        }
    }
}

/// An event on its way out: JSON that grows, and the attachments of what is in it.
struct Event {
    json: Vec<u8>,
    departing: Departing,
}

impl Event {
    /// One whose argument is an object that is open, and has no fields yet.
    fn new(name: &str) -> Self {
        Self { json: format!("[\"{name}\",{{").into(), departing: Departing::default() }
    }

    /// Puts in text, which begins with a comma where it has to.
    fn put(&mut self, text: impl AsRef<[u8]>) {
        self.json.extend_from_slice(text.as_ref());
    }

    fn put_payload(&mut self, payload: &Payload) {
        let text = self.departing.spell(payload);
        self.put(text);
    }

    fn put_peer(&mut self, peer: &Peer) {
        self.put(format!(r#""peerId":"{}""#, peer.peer_id));
        if let Some(metadata) = &peer.metadata {
            self.put(r#","metadata":"#);
            self.put_payload(metadata);
        }
    }

    /// Closes the object, the list and the packet.
    fn into_frames(mut self) -> Frames {
        self.put("}]");
        let attachments = self.departing.into_attachments();
        let kind = if attachments.is_empty() { PacketKind::Event } else { PacketKind::BinaryEvent };
        let data = String::from_utf8(self.json).expect("JSON is UTF-8");
        let packet = Packet { kind, attachments: attachments.len(), namespace: MAIN, id: None, data: &data };
        let mut frames = packet.spell(attachments);
        if frames.len() == 1 { Frames::One(frames.remove(0)) } else { Frames::Several(frames) }
    }

    /// The same for one without attachments.
    fn into_text(self) -> Bytes {
        self.into_frames().into_last().expect("an event is a frame").bytes().clone()
    }
}

/// A signal with its fields, as those who announce themselves know it.
fn signal(kind: Kind, from: &str, payload: &Payload) -> Event {
    let mut event = Event::new(kind.name());
    event.put(format!(r#""{FROM_PEER}":{}"#, json!(from)));
    let text = event.departing.spell(payload);
    write_json(&text, &[FROM_PEER], &mut event.json);
    event
}

/// The same, or a message, as those who join know it.
fn message(kind: Kind, from: PeerId, room: &RoomId, to: Option<PeerId>, payload: &Payload) -> Event {
    let mut event = Event::new(kind.name());
    event.put(format!(r#""from":"{from}","room":{}"#, json!(room.name())));
    if let Some(to) = to {
        event.put(format!(r#","to":"{to}""#));
    }
    event.put(r#","payload":"#);
    event.put_payload(payload);
    event
}

fn about(name: &str, room: &RoomId, peer: &Peer) -> Event {
    let mut event = Event::new(name);
    event.put(format!(r#""room":{},"#, json!(room.name())));
    event.put_peer(peer);
    event
}

fn joined(room: &RoomId, peer_id: PeerId, peers: &[Peer]) -> Event {
    let mut event = Event::new("joined");
    event.put(format!(r#""room":{},"peerId":"{peer_id}","peers":["#, json!(room.name())));
    for (at, peer) in peers.iter().enumerate() {
        event.put(if at == 0 { "{" } else { ",{" });
        event.put_peer(peer);
        event.put("}");
    }
    event.put("]");
    event
}

/// An event without payloads.
fn said(name: &str, argument: serde_json::Value) -> Frames {
    packet(PacketKind::Event, None, &json!([name, argument]))
}

fn acknowledged(id: u64, outcome: &serde_json::Value) -> Frames {
    packet(PacketKind::Ack, Some(id), &json!([outcome]))
}

fn refused(Refusal { id, code, message, retry_after_ms, .. }: &Refusal) -> Frames {
    let mut fault = json!({ "ok": false, "code": code.slug(), "message": message, "retryable": code.retryable() });
    if let Some(wait) = retry_after_ms {
        fault["retryAfterMs"] = json!(wait);
    }
    match id {
        Some(id) => acknowledged(*id, &fault),
        None => {
            fault.as_object_mut().expect("it was made as one").remove("ok");
            said("error", fault)
        }
    }
}

fn packet(kind: PacketKind, id: Option<u64>, data: &serde_json::Value) -> Frames {
    let mut frames = Packet { kind, attachments: 0, namespace: MAIN, id, data: &data.to_string() }.spell([]);
    Frames::One(frames.remove(0))
}
