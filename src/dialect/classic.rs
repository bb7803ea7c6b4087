//! The tutorials' WebSocket servers: two vocabularies, told apart by the first message that a client sends.
//!
//! **Rooms.** `{"type":"announce","hash":…,"peerId"?:…}` enters a room: the newcomer gets `{"type":"peer-list","peers":[id, …],"peerId":…}`, which says
//! what itself is called, the others `{"type":"new-peer","peerId":…}`, and in the end `{"type":"peer-left","peerId":…}`. `offer`, `answer` and `ice-candidate` go to their `targetPeer`,
//! or without one to the rest of the room, with all their fields and `fromPeer`. The room is one that clients of other dialects
//! meet in as well: what they call payload are the other fields here. A `peerId` that another peer of the room has is not given twice: unless that
//! one turns out to be dead, the client is known by the id that the server gave it.
//!
//! **The lobby.** Who has not announced itself is in the lobby, where each frame goes verbatim to everybody else. One enters it by connecting, and leaves
//! it by announcing oneself. Who begins with what is of type `announce` and no announcement is refused: it was meant for the server and not for
//! strangers. Who has spoken in the lobby before means the lobby by it.
//!
//! Left out: metadata, acknowledgements, resuming. What is refused is told as `{"type":"error","code":…,"message":…}`.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use serde_json::json;

use super::{
    Deed, Dialect, Frames, Heard, Manners, Wish,
    announce::{self, Announcement, Announcements, id, seen},
    fields::{Fields, write_payload},
};
use crate::protocol::{Envelope, ErrorCode, Kind, Payload, Refusal, ServerMessage, framing::LentFrame};

/// One connection that speaks classic.
pub struct Classic {
    has_rooms: bool,
    has_lobby: bool,
    /// Has the client said that it announces itself? From then on all that it says is for a room.
    announced: AtomicBool,
    /// Has it said something to the lobby?
    has_spoken: AtomicBool,
    rooms: Mutex<Announcements>,
}

/// The only room of its own, which has no name on the wire.
const LOBBY: &str = "lobby";
/// The fault of a signal of one who is in no room.
const NO_ROOM: &str = "a signal is for the room that you announced, and you have announced none";
const NAME: &str = "classic";

impl Classic {
    /// A connection to a server that has either of the two vocabularies, or both.
    pub fn new(has_rooms: bool, has_lobby: bool) -> Self {
        Self { has_rooms, has_lobby, announced: AtomicBool::new(!has_lobby), has_spoken: AtomicBool::new(false), rooms: Mutex::default() }
    }

    fn is_in_lobby(&self) -> bool {
        !self.announced.load(Ordering::Relaxed)
    }

    fn announce(&self, announcement: Announcement) -> Vec<Wish> {
        self.announced.store(true, Ordering::Relaxed);
        let deed = self.rooms().announce(announcement);
        let leave = matches!(deed, Deed::Join { .. }).then_some(Deed::Leave { room: None });
        leave.into_iter().chain([deed]).map(Wish::from).collect()
    }

    fn rooms(&self) -> MutexGuard<'_, Announcements> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client says in a room.
    fn said(&self, frame: LentFrame<'_>, nesting_max: usize) -> Result<Vec<Wish>, Refusal> {
        let refuse = |code, message: &'static str| Err(Refusal::new(None, code, message));
        let LentFrame::Text(text) = frame else { return refuse(ErrorCode::BadMessage, "a message is JSON in a text frame") };
        let Some(fields) = Fields::parse(text) else { return refuse(ErrorCode::BadMessage, "a message is a JSON object") };
        let kind = match fields.text("type").as_deref() {
            Some("announce") if !self.has_rooms => return refuse(ErrorCode::BadMessage, "there are no rooms here, only the lobby"),
            Some("announce") => {
                return match Announcement::read(&fields) {
                    Some(announcement) => Ok(self.announce(announcement)),
                    None => refuse(ErrorCode::BadMessage, announce::NO_ANNOUNCEMENT),
                };
            }
            kind => kind.and_then(announce::signal),
        };
        let Some(kind) = kind else {
            return refuse(ErrorCode::BadMessage, "a message is of type announce, offer, answer or ice-candidate");
        };
        let Some(payload) = fields.payload_without(&["type", "fromPeer"], nesting_max) else {
            return refuse(ErrorCode::TooDeep, "a message nests too deep");
        };
        let Some(room) = self.rooms().room().map(str::to_owned) else {
            return refuse(ErrorCode::RoomRequired, NO_ROOM);
        };
        match announce::forward(kind, &fields, Some(room), payload) {
            Some(deed) => Ok(vec![deed.into()]),
            None => refuse(ErrorCode::BadMessage, announce::NO_TARGET),
        }
    }
}

impl Dialect for Classic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn manners(&self) -> Manners {
        let rooms_of = self.is_in_lobby().then_some(NAME);
        Manners { speaks_first: !self.has_lobby, rooms_of, ..Manners::FOREIGN }
    }

    fn greeting(&self) -> Vec<Wish> {
        let lobby = Deed::Join { room: LOBBY.into(), metadata: None, claim: None, seats: None };
        self.has_lobby.then_some(lobby.into()).into_iter().collect()
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        if !self.is_in_lobby() {
            return self.said(frame, nesting_max).map(Heard::Wishes);
        }
        let has_spoken = self.has_spoken.load(Ordering::Relaxed);
        if self.has_rooms
            && let LentFrame::Text(text) = frame
            && let Some(fields) = Fields::parse(text).filter(|fields| fields.text("type").as_deref() == Some("announce"))
        {
            match Announcement::read(&fields) {
                Some(announcement) => return Ok(Heard::Wishes(self.announce(announcement))),
                None if !has_spoken => return Err(Refusal::new(None, ErrorCode::BadMessage, announce::NO_ANNOUNCEMENT)),
                None => {}
            }
        }
        self.has_spoken.store(true, Ordering::Relaxed);
        let payload = Payload::from_frame(frame);
        Ok(Heard::Wishes(vec![Deed::Broadcast { kind: Kind::Message, room: None, payload, echo: false }.into()]))
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        if self.is_in_lobby() {
            return match envelope.message() {
                ServerMessage::Forwarded { payload, .. } => payload.to_frame().map_or(Frames::NONE, Frames::One),
                _ => Frames::NONE,
            };
        }
        let spell = |text: Vec<u8>| Frames::text(text);
        match envelope.message() {
            // Still from the lobby.
            ServerMessage::Forwarded { room, .. } | ServerMessage::PeerJoined { room, .. } | ServerMessage::PeerLeft { room, .. }
                if room.name() != room.as_str() =>
            {
                Frames::NONE
            }
            ServerMessage::Forwarded { kind, from, payload, .. } => {
                Frames::text(envelope.spell_once(NAME, || forwarded(*kind, &id(*from, envelope.name()), payload)))
            }
            ServerMessage::Joined { room, peer_id, peers, .. } => {
                let (peers, called) = (Vec::from_iter(peers.iter().map(seen)), id(*peer_id, envelope.name()));
                self.rooms().joined(room, &called);
                spell(json!({ "type": "peer-list", "peers": peers, "peerId": called }).to_string().into())
            }
            ServerMessage::PeerJoined { peer, .. } => spell(about("new-peer", &seen(peer))),
            ServerMessage::PeerLeft { peer_id, .. } => spell(about("peer-left", &id(*peer_id, envelope.name()))),
            message => self.spell(message),
        }
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        let object = match message {
            ServerMessage::Left { room, .. } => {
                self.rooms().left(room);
                return Frames::NONE;
            }
            ServerMessage::Error(refusal) => refused(refusal),
            ServerMessage::Goodbye { code, .. } => json!({ "type": "error", "code": code.slug(), "message": code.sentence() }),
            _ => return Frames::NONE,
        };
        Frames::text(object.to_string())
    }
}

fn refused(Refusal { code, message, peer, .. }: &Refusal) -> serde_json::Value {
    let mut object = json!({ "type": "error", "code": code.slug(), "message": message });
    if let Some(peer) = peer {
        object["targetPeer"] = json!(peer);
    }
    object
}

fn about(kind: &str, peer: &str) -> Vec<u8> {
    json!({ "type": kind, "peerId": peer }).to_string().into()
}

fn forwarded(kind: Kind, from: &str, payload: &Payload) -> Bytes {
    let mut object = format!(r#"{{"type":"{}","fromPeer":{}"#, kind.name(), serde_json::Value::from(from)).into_bytes();
    write_payload(payload, &["type", "fromPeer"], &mut object);
    object.push(b'}');
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::To,
        protocol::{Codec, LeaveReason, Peer, PeerId, PeerName, RoomId, framing::Frame},
    };

    /// Frames of the page in `tests/foreign/classic.test.js`, as Chromium sends them.
    const FRAMES: &str = include_str!("../../tests/fixtures/classic/rooms.jsonl");

    fn heard(classic: &Classic, text: &str) -> Result<Vec<Deed>, ErrorCode> {
        match classic.decode(LentFrame::Text(text.as_bytes()), 9) {
            Ok(Heard::Wishes(wishes)) => Ok(wishes.into_iter().map(|wish| wish.deed).collect()),
            Ok(Heard::Request(_)) => panic!("a foreign client has wishes"),
            Err(refusal) => Err(refusal.code),
        }
    }

    fn spelled(frames: Frames) -> Vec<String> {
        let text = |frame: &Frame| String::from_utf8(frame.bytes().to_vec()).unwrap();
        frames.as_slice().iter().map(text).collect()
    }

    #[test]
    fn an_announcement_counts_once_it_is_carried_out() {
        let classic = Classic::new(true, true);
        let (a, b) = (r#"{"type":"announce","hash":"a"}"#, r#"{"type":"announce","hash":"b"}"#);
        let offer = r#"{"type":"offer","sdp":"secret"}"#;
        // Perhaps it came too soon. What is said now is not for the lobby.
        heard(&classic, a).unwrap();
        assert_eq!(heard(&classic, offer).unwrap_err(), ErrorCode::RoomRequired);
        let room = RoomId::parse("a", 9).unwrap();
        classic.encode(&Envelope::new(ServerMessage::Joined {
            room: room.clone(),
            peer_id: PeerId::random(),
            peers: vec![],
            relays_only: false,
        }));
        heard(&classic, b).unwrap();
        assert!(matches!(&heard(&classic, offer).unwrap()[..], [Deed::Broadcast { room: Some(room), .. }] if room == "a"));
        assert!(matches!(&heard(&classic, a).unwrap()[..], [Deed::List { .. }]), "it never left");
        classic.encode(&Envelope::new(ServerMessage::Left { room, reason: LeaveReason::Left }));
        assert_eq!(heard(&classic, offer).unwrap_err(), ErrorCode::RoomRequired);
    }

    #[test]
    fn captured_frames_mean_what_they_meant() {
        let classic = Classic::new(true, false);
        let mut frames = FRAMES.lines();
        let [Deed::Leave { .. }, Deed::Join { room, claim: Some(claim), .. }] = &heard(&classic, frames.next().unwrap()).unwrap()[..]
        else {
            panic!("the first frame enters a room")
        };
        assert_eq!((room.as_str(), claim.name.as_str()), ("#room-42", "k3v9x1"));
        let room = RoomId::parse(room, 32).unwrap();
        classic.encode(&Envelope::new(ServerMessage::Joined { room, peer_id: PeerId::random(), peers: vec![], relays_only: false }));
        for (frame, expected) in frames.by_ref().take(3).zip([Kind::Offer, Kind::Answer, Kind::IceCandidate]) {
            let [Deed::Forward { kind, to, room: Some(room), payload }] = &heard(&classic, frame).unwrap()[..] else { panic!("{frame}") };
            assert_eq!((*kind, to, room.as_str()), (expected, &To::Name("q8w2e7".into()), "#room-42"));
            // What the other one gets is what was said, but for who said it.
            let fields = payload.spell(Codec::Json).into_owned();
            let fields = String::from_utf8(fields).unwrap();
            assert_eq!(format!(r#"{{"type":"{}",{}"#, kind.name(), &fields[1..]), frame);
            let bytes = forwarded(*kind, "k3v9x1", payload);
            assert_eq!(bytes, format!(r#"{{"type":"{}","fromPeer":"k3v9x1",{}"#, kind.name(), &fields[1..]));
        }
        let last = frames.next().unwrap();
        assert!(matches!(&heard(&classic, last).unwrap()[..], [Deed::Broadcast { kind: Kind::IceCandidate, echo: false, .. }]));
    }

    #[test]
    fn who_announces_another_hash_leaves_the_one_before() {
        let classic = Classic::new(true, true);
        assert!(matches!(&classic.greeting()[..], [Wish { deed: Deed::Join { .. }, .. }]));
        assert_eq!(classic.manners().rooms_of, Some(NAME));
        // The first of the two it has not been let into, as yet.
        for _ in 0..2 {
            let deeds = heard(&classic, r#"{"type":"announce","hash":"h"}"#).unwrap();
            assert!(matches!(&deeds[..], [Deed::Leave { room: None }, Deed::Join { claim: None, .. }]), "{deeds:?}");
            assert_eq!(classic.manners().rooms_of, None);
        }
    }

    #[test]
    fn each_message_to_a_client_is_pinned() {
        let classic = Classic::new(true, false);
        let (peer_id, room) = (PeerId::parse(&"0a".repeat(16)).unwrap(), RoomId::parse("r", 9).unwrap());
        let peer = |name: Option<&str>| Peer { peer_id, metadata: None, user: None, name: name.and_then(|name| PeerName::parse(name, 9)) };
        let pinned = [
            (
                ServerMessage::Joined { room: room.clone(), peer_id, peers: vec![peer(None), peer(Some("n"))], relays_only: false },
                r#"{"peerId":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","peers":["0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","n"],"type":"peer-list"}"#,
            ),
            (ServerMessage::PeerJoined { room: room.clone(), peer: peer(Some("n")) }, r#"{"peerId":"n","type":"new-peer"}"#),
            (
                ServerMessage::PeerLeft { room, peer_id, reason: LeaveReason::Left },
                r#"{"peerId":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","type":"peer-left"}"#,
            ),
            (
                ServerMessage::Error(Refusal::new(None, ErrorCode::NoSuchPeer, "nobody")),
                r#"{"code":"no-such-peer","message":"nobody","type":"error"}"#,
            ),
        ];
        for (message, text) in pinned {
            assert_eq!(spelled(classic.encode(&Envelope::new(message))), [text]);
        }
        assert!(spelled(classic.spell(&ServerMessage::Ack { id: 1 })).is_empty());
    }
}
