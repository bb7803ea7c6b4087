//! Messages into bytes: each is described once, as a map of keys and values, and written by the writer of either codec.

use serde::Serialize;

use super::{
    code::CloseCode,
    id::{Hex, ResumeToken},
    message::{ClientMessage, Kind, Peer, Request, Resume, ServerMessage, Token},
    payload::{Codec, Payload},
    scan::needs_escapes,
};

/// The `RTCIceTransportPolicy` of rooms where nobody's address is shown.
pub const RELAY: &str = "relay";

impl ServerMessage<'_> {
    /// The message as a whole frame.
    pub fn spell(&self, codec: Codec) -> Vec<u8> {
        let capacity = match self {
            // Exact where the payload is in this codec and the name has no escapes. Bytes with room to spare take another allocation to be handed on.
            Self::Forwarded { kind, room, payload, to, best_effort, .. } => {
                let (all, to_one, may_be_lost) = match codec {
                    Codec::Json => {
                        let all = r#"{"type":"","from":"","room":"","payload":}"#.len();
                        (all, r#""to":"","#.len(), r#""bestEffort":true,"#.len())
                    }
                    Codec::MsgPack => {
                        let all = b"\x84\xa4type\xa0\xa4from\xd9\x20\xa4room\xa0\xa7payload".len();
                        let longer_head = [31, 255].iter().filter(|length| room.as_str().len() > **length).count();
                        (all + longer_head, b"\xa2to\xd9\x20".len(), b"\xaabestEffort\xc3".len())
                    }
                };
                let optional = to.map_or(0, |_| to_one + Hex::BYTES) + if *best_effort { may_be_lost } else { 0 };
                all + kind.name().len() + Hex::BYTES + room.as_str().len() + payload.len() + optional
            }
            Self::Joined { peers, .. } => peers.iter().map(Peer::listed_bytes).sum::<usize>() + 192,
            _ => 128,
        };
        let mut out = Vec::with_capacity(capacity);
        self.spell_into(codec, &mut out);
        out
    }

    /// The same, behind what is in `out`.
    pub fn spell_into(&self, codec: Codec, out: &mut Vec<u8>) {
        let spelled = std::mem::take(out);
        *out = match codec {
            Codec::Json => self.write(JsonWriter { out: spelled }),
            Codec::MsgPack => self.write(MsgPackWriter { out: spelled }),
        };
    }

    fn write<W: Writer>(&self, mut w: W) -> Vec<u8> {
        match self {
            Self::Welcome(welcome) => {
                w.open_map(10);
                w.word("type", "welcome");
                w.id("peerId", welcome.peer_id.hex());
                w.id("resumeToken", welcome.resume_token.hex());
                w.boolean("resumed", welcome.resumed);
                w.number("received", welcome.received);
                w.payload("iceServers", &welcome.ice_servers);
                w.number("heartbeatMs", welcome.heartbeat_ms);
                w.number("resumeWindowMs", welcome.resume_window_ms);
                w.key("limits");
                w.value(&welcome.limits);
                w.text("version", env!("CARGO_PKG_VERSION"));
            }
            Self::Joined { room, peer_id, peers, relays_only } => {
                w.open_map(4 + usize::from(*relays_only));
                w.word("type", "joined");
                w.text("room", room.as_str());
                w.id("peerId", peer_id.hex());
                w.key("peers");
                w.open_array(peers.len());
                for peer in peers {
                    w.item();
                    w.open_map(1 + peer.optional_fields());
                    w.peer(peer);
                    w.close_map();
                }
                w.close_array();
                if *relays_only {
                    w.text("iceTransportPolicy", RELAY);
                }
            }
            Self::PeerJoined { room, peer } => w.about_peer("peer-joined", room.as_str(), peer),
            Self::PeerUpdated { room, peer } => w.about_peer("peer-updated", room.as_str(), peer),
            Self::PeerLeft { room, peer_id, reason } => {
                w.open_map(4);
                w.word("type", "peer-left");
                w.text("room", room.as_str());
                w.id("peerId", peer_id.hex());
                w.word("reason", reason.name());
            }
            Self::Left { room, reason } => {
                w.open_map(3);
                w.word("type", "left");
                w.text("room", room.as_str());
                w.word("reason", reason.name());
            }
            Self::Forwarded { kind, from, room, payload, to, best_effort } => {
                w.open_map(4 + usize::from(to.is_some()) + usize::from(*best_effort));
                w.word("type", kind.name());
                w.id("from", from.hex());
                w.text("room", room.as_str());
                if let Some(to) = to {
                    w.id("to", to.hex());
                }
                if *best_effort {
                    w.boolean("bestEffort", true);
                }
                w.payload("payload", payload);
            }
            Self::Ack { id } => {
                w.open_map(2);
                w.word("type", "ack");
                w.number("id", *id);
            }
            Self::Error(refusal) => {
                w.open_map(4 + usize::from(refusal.id.is_some()) + usize::from(refusal.retry_after_ms.is_some()));
                w.word("type", "error");
                if let Some(id) = refusal.id {
                    w.number("id", id);
                }
                w.word("code", refusal.code.slug());
                w.text("message", &refusal.message);
                w.boolean("retryable", refusal.code.retryable());
                if let Some(retry_after_ms) = refusal.retry_after_ms {
                    w.number("retryAfterMs", retry_after_ms);
                }
            }
            Self::Pong { received } => {
                w.open_map(2);
                w.word("type", "pong");
                w.number("received", *received);
            }
            Self::IceServers { servers } => {
                w.open_map(2);
                w.word("type", "ice-servers");
                w.payload("iceServers", servers);
            }
            Self::Counted { .. } => unreachable!("our own dialect counts nobody"),
            Self::Closing { code, in_ms } => {
                w.open_map(6);
                w.goodbye(*code, 0);
                w.number("closesInMs", *in_ms);
            }
            Self::Goodbye { code, reconnect_after_ms } => {
                w.open_map(5);
                w.goodbye(*code, *reconnect_after_ms);
            }
        }
        w.close_map();
        w.finish()
    }
}

impl Request<'_> {
    /// The message as a whole frame: what a client sends.
    pub fn spell(&self, codec: Codec) -> Vec<u8> {
        match codec {
            Codec::Json => self.write(JsonWriter { out: vec![] }),
            Codec::MsgPack => self.write(MsgPackWriter { out: vec![] }),
        }
    }

    fn write<W: Writer>(&self, mut w: W) -> Vec<u8> {
        let (kind, room, to, opaque, received) = match &self.message {
            ClientMessage::Hello { .. } => ("hello", None, None, None, None),
            ClientMessage::Join { room, metadata } => ("join", Some(room), None, metadata.as_ref().map(|m| ("metadata", m)), None),
            ClientMessage::Leave { room } => ("leave", room.as_ref(), None, None, None),
            ClientMessage::Forward { kind, to, room, payload } => (kind.name(), room.as_ref(), Some(to), Some(("payload", payload)), None),
            ClientMessage::Broadcast { room, payload } => (Kind::Message.name(), room.as_ref(), None, Some(("payload", payload)), None),
            ClientMessage::Metadata { room, metadata } => {
                ("metadata", room.as_ref(), None, metadata.as_ref().map(|m| ("metadata", m)), None)
            }
            ClientMessage::Ping { received } => ("ping", None, None, None, *received),
        };
        let (token, resume) = match &self.message {
            ClientMessage::Hello { token, resume } => (token.as_ref(), *resume),
            _ => (None, None),
        };
        let optional =
            [self.id.is_some(), room.is_some(), to.is_some(), opaque.is_some(), received.is_some(), token.is_some(), resume.is_some()];
        w.open_map(1 + optional.into_iter().filter(|there| *there).count());
        w.word("type", kind);
        if let Some(id) = self.id {
            w.number("id", id);
        }
        if let Some(room) = room {
            w.text("room", room);
        }
        if let Some(to) = to {
            w.id("to", to.hex());
        }
        if let Some(received) = received {
            w.number("received", received);
        }
        if let Some((key, value)) = opaque {
            w.payload(key, value);
        }
        if let Some(Token(token)) = token {
            w.text("token", token);
        }
        if let Some(Resume { token, received }) = resume {
            w.key("resume");
            w.open_map(2);
            w.text("token", token.map(ResumeToken::hex).as_ref().map_or("", Hex::as_str));
            w.number("received", received);
            w.close_map();
        }
        w.close_map();
        w.finish()
    }
}

impl Peer {
    /// How many of the fields that it may have it has.
    fn optional_fields(&self) -> usize {
        usize::from(self.metadata.is_some()) + usize::from(self.user.is_some())
    }

    /// Bytes that it takes in a list, about.
    fn listed_bytes(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |metadata| metadata.len() + 12);
        let user = self.user.as_ref().map_or(0, |user| user.len() + 10);
        48 + metadata + user
    }
}

/// What both codecs can do. The provided methods write a key and its value.
trait Writer {
    const CODEC: Codec;

    fn out(&mut self) -> &mut Vec<u8>;
    fn finish(self) -> Vec<u8>;
    fn open_map(&mut self, entries: usize);
    fn close_map(&mut self);
    fn open_array(&mut self, items: usize);
    fn close_array(&mut self);
    /// Comes before each item of an array.
    fn item(&mut self);
    /// Comes before each value of a map. The server's own keys need no escapes.
    fn key(&mut self, key: &'static str);
    fn value<T: Serialize + ?Sized>(&mut self, value: &T);
    /// A text that needs no escapes: nobody looks for any in each id of a long list.
    fn id(&mut self, key: &'static str, digits: Hex);
    /// The same for a short name that the protocol gave something.
    fn word(&mut self, key: &'static str, word: &'static str);

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.value(value);
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.value(&value);
    }

    fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.value(&value);
    }

    fn payload(&mut self, key: &'static str, payload: &Payload) {
        self.key(key);
        payload.write(Self::CODEC, self.out());
    }

    fn peer(&mut self, peer: &Peer) {
        self.id("peerId", peer.peer_id.hex());
        if let Some(metadata) = &peer.metadata {
            self.payload("metadata", metadata);
        }
        if let Some(user) = &peer.user {
            self.text("user", user);
        }
    }

    fn goodbye(&mut self, code: CloseCode, reconnect_after_ms: u64) {
        self.word("type", "goodbye");
        self.word("code", code.slug());
        self.text("reason", code.sentence());
        self.boolean("reconnect", code.reconnect());
        self.number("reconnectAfterMs", reconnect_after_ms);
    }

    fn about_peer(&mut self, kind: &'static str, room: &str, peer: &Peer) {
        self.open_map(3 + peer.optional_fields());
        self.word("type", kind);
        self.text("room", room);
        self.peer(peer);
    }
}

struct JsonWriter {
    out: Vec<u8>,
}

impl JsonWriter {
    /// A comma, unless this is the first in its map or array.
    fn separate(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// A text without escapes.
    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }
}

impl Writer for JsonWriter {
    const CODEC: Codec = Codec::Json;

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn finish(self) -> Vec<u8> {
        self.out
    }

    fn open_map(&mut self, _: usize) {
        self.out.push(b'{');
    }

    fn close_map(&mut self) {
        self.out.push(b'}');
    }

    fn open_array(&mut self, _: usize) {
        self.out.push(b'[');
    }

    fn close_array(&mut self) {
        self.out.push(b']');
    }

    fn item(&mut self) {
        self.separate();
    }

    fn key(&mut self, key: &'static str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn id(&mut self, key: &'static str, digits: Hex) {
        self.key(key);
        let mut quoted = [b'"'; Hex::BYTES + 2];
        quoted[1..=Hex::BYTES].copy_from_slice(digits.as_bytes());
        self.out.extend_from_slice(&quoted);
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        if needs_escapes(value) {
            return self.value(value);
        }
        self.quoted(value);
    }

    fn word(&mut self, key: &'static str, word: &'static str) {
        debug_assert!(!word.contains(['"', '\\']), "{word}");
        self.key(key);
        self.quoted(word);
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.out, value).expect("a message's own fields can be spelled");
    }
}

struct MsgPackWriter {
    out: Vec<u8>,
}

impl Writer for MsgPackWriter {
    const CODEC: Codec = Codec::MsgPack;

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn finish(self) -> Vec<u8> {
        self.out
    }

    fn open_map(&mut self, entries: usize) {
        rmp::encode::write_map_len(&mut self.out, entries as u32).expect("writing to memory succeeds");
    }

    fn close_map(&mut self) {}

    fn open_array(&mut self, items: usize) {
        rmp::encode::write_array_len(&mut self.out, items as u32).expect("writing to memory succeeds");
    }

    fn close_array(&mut self) {}

    fn item(&mut self) {}

    fn key(&mut self, key: &'static str) {
        // Written whole, which takes less time than one byte after another. The server's own keys are that short.
        debug_assert!(key.len() < 32, "{key}");
        self.out.push(0xa0 | key.len() as u8);
        self.out.extend_from_slice(key.as_bytes());
    }

    fn id(&mut self, key: &'static str, digits: Hex) {
        self.key(key);
        self.out.extend_from_slice(&[0xd9, Hex::BYTES as u8]);
        self.out.extend_from_slice(digits.as_bytes());
    }

    fn word(&mut self, key: &'static str, word: &'static str) {
        self.key(key);
        // Its length is spelled as that of a key is.
        self.key(word);
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        rmp_serde::encode::write_named(&mut self.out, value).expect("a message's own fields can be spelled");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{PeerId, RoomId};

    /// What is longer than was thought is moved while it is written, and what is shorter costs an allocation more where it is kept.
    #[test]
    fn what_passes_from_peer_to_peer_is_spelled_into_no_more_memory_than_it_takes() {
        let names = [1, 31, 32, 255, 256].map(|length| RoomId::parse(&"r".repeat(length), usize::MAX).unwrap());
        for (codec, payload) in [(Codec::Json, &br#"{"sdp":"v=0"}"#[..]), (Codec::MsgPack, b"\x81\xa3sdp\xa3v=0")] {
            for kind in [Kind::Offer, Kind::IceCandidate, Kind::Message] {
                for (to, best_effort) in [(None, false), (Some(PeerId::random()), false), (Some(PeerId::random()), true), (None, true)] {
                    for room in names.clone() {
                        let payload = Payload::new(codec, payload.into());
                        let message = ServerMessage::Forwarded { kind, from: PeerId::random(), room, payload, to, best_effort };
                        let bytes = message.spell(codec);
                        assert_eq!(bytes.len(), bytes.capacity(), "{message:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_text_is_escaped_where_it_has_to_be() {
        for text in
            ["plain", "", "κόσμε", "a \"quote\" and a long way behind it", "a back\\slash", "a line\n", "\u{1}peerjs\u{1}room", "\u{7f}"]
        {
            let mut writer = JsonWriter { out: b"{".to_vec() };
            writer.text("text", text);
            writer.close_map();
            let expected = serde_json::json!({ "text": text }).to_string();
            assert_eq!(String::from_utf8(writer.finish()).unwrap(), expected);
        }
    }
}
