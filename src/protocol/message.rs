//! The messages, whatever the codec: what a client may say, what a server may answer, and how a frame becomes the one or the other.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    code::{CloseCode, ErrorCode},
    id::{PeerId, PeerName, ResumeToken, RoomId},
    json, msgpack,
    payload::{Codec, Payload},
};

/// A client's message and the number by which it wants to hear of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Answered by exactly one `ack` or `error` with this number, if there is one.
    pub id: Option<u64>,
    /// What is asked for.
    pub message: ClientMessage<'a>,
}

/// What a client may say. A room is still the text that the client sent: it names a room only if there is one.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage<'a> {
    /// The first message: who I am, and perhaps which session I go on with. A later one has a new token and nothing else.
    Hello { token: Option<Token<'a>>, resume: Option<Resume> },
    /// Enter a room.
    Join { room: Cow<'a, str>, metadata: Option<Payload<'a>> },
    /// Leave a room, or all of them.
    Leave { room: Option<Cow<'a, str>> },
    /// To one peer of a shared room.
    Forward { kind: Kind, to: PeerId, room: Option<Cow<'a, str>>, payload: Payload<'a> },
    /// To the rest of a room.
    Broadcast { room: Option<Cow<'a, str>>, payload: Payload<'a> },
    /// Replace what others see of me.
    Metadata { room: Option<Cow<'a, str>>, metadata: Option<Payload<'a>> },
    /// Answer, and know that I received so many.
    Ping { received: Option<u64> },
}

/// What a client says to prove who it is. Never logged: its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a>(pub Cow<'a, str>);

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The wish to go on with a session whose connection died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The session's secret; none if it is not even the shape of one, which resumes nothing.
    pub token: Option<ResumeToken>,
    /// How many of the server's messages the client has received.
    pub received: u64,
}

/// The kinds of message that pass from peer to peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session description that begins a negotiation.
    Offer,
    /// The session description that answers it.
    Answer,
    /// An ICE candidate.
    IceCandidate,
    /// The application's own.
    Message,
}

/// What the server may say.
#[derive(Debug, PartialEq)]
pub enum ServerMessage<'a> {
    /// The first message.
    Welcome(Box<Welcome>),
    /// You are in, and these were there before you. In a room that `relays_only`, lines between peers go through TURN servers.
    Joined { room: RoomId, peer_id: PeerId, peers: Vec<Peer>, relays_only: bool },
    /// Somebody came.
    PeerJoined { room: RoomId, peer: Peer },
    /// Somebody's metadata was replaced.
    PeerUpdated { room: RoomId, peer: Peer },
    /// Somebody is gone.
    PeerLeft { room: RoomId, peer_id: PeerId, reason: LeaveReason },
    /// You are out.
    Left { room: RoomId, reason: LeaveReason },
    /// What another peer sent. `to` is there on a [`Kind::Message`] for this client alone.
    Forwarded { kind: Kind, from: PeerId, room: RoomId, payload: Payload<'a>, to: Option<PeerId>, best_effort: bool },
    /// The message with this id was carried out.
    Ack { id: u64 },
    /// A message was refused.
    Error(Refusal),
    /// So many messages came from you.
    Pong { received: u64 },
    /// From now on these ICE servers count, as `RTCPeerConnection` takes them, in place of those before.
    IceServers { servers: Payload<'static> },
    /// How many there are in these rooms. Only foreign dialects ask.
    Counted { rooms: Vec<(RoomId, Census)> },
    /// The session is about to end for this reason, in so long, unless the client does something about it.
    Closing { code: CloseCode, in_ms: u64 },
    /// The last message. Who may come back had better wait for so long before.
    Goodbye { code: CloseCode, reconnect_after_ms: u64 },
}

/// What a client is told first.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// Who this client is for others.
    pub peer_id: PeerId,
    /// The secret of this session.
    pub resume_token: ResumeToken,
    /// Whether this session is an earlier one that goes on.
    pub resumed: bool,
    /// How many of the client's messages the server has received in this session before this connection.
    pub received: u64,
    /// The ICE servers, as `RTCPeerConnection` takes them.
    pub ice_servers: Payload<'static>,
    /// Silence after which the server probes the connection.
    pub heartbeat_ms: u64,
    /// How long a session outlives its connection.
    pub resume_window_ms: u64,
    /// The bounds that concern one client.
    pub limits: ClientLimits,
}

/// The bounds that concern one client, as it is told them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientLimits {
    /// Largest message in bytes.
    pub message_bytes: usize,
    /// Rooms of one client.
    pub rooms_per_client: usize,
    /// Peers in one room.
    pub peers_per_room: usize,
    /// Largest metadata in bytes.
    pub metadata_bytes: usize,
    /// Longest name of a room in bytes.
    pub room_name_bytes: usize,
    /// How deep payload and metadata may nest.
    pub nesting: usize,
    /// How fast the client may send; not bounded if missing.
    #[serde(flatten)]
    pub rates: Option<ClientRates>,
}

/// How fast one client may send: so much over time, and twice that at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientRates {
    /// Messages a second, of whatever type.
    pub messages_per_second: u32,
    /// Bytes of messages a second.
    pub bytes_per_second: u32,
    /// Of those messages, `join`s a second.
    pub joins_per_second: u32,
}

/// A peer as the others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Who it is.
    pub peer_id: PeerId,
    /// What it tells about itself.
    pub metadata: Option<Payload<'static>>,
    /// Who it is for the application, where the server knows.
    pub user: Option<Arc<str>>,
    /// What peers of foreign dialects call it, where that is not its id. Has no place in ours.
    pub name: Option<PeerName>,
}

/// How many there are in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them.
    pub peers: usize,
    /// Those with metadata.
    pub with_metadata: usize,
    /// How often somebody who had none got some.
    pub got_metadata: usize,
}

/// Why a peer is no longer in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// It said so.
    Left,
    /// Its connection ended.
    Disconnected,
    /// It fell silent.
    Timeout,
    /// The server closed it for what it did.
    Removed,
}

/// Why a message was not carried out; the session goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The `id` of the refused message.
    pub id: Option<u64>,
    /// The fault.
    pub code: ErrorCode,
    /// The fault in a sentence, for the person who wrote the client.
    pub message: Cow<'static, str>,
    /// After what time the same message may be carried out, where that is known.
    pub retry_after_ms: Option<u64>,
    /// The name of the peer that it was for, where a foreign dialect wants to know. Has no place in ours.
    pub peer: Option<String>,
}

impl Refusal {
    /// A refusal of the message with this `id`.
    pub fn new(id: Option<u64>, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { id, code, message: message.into(), retry_after_ms: None, peer: None }
    }
}

impl ServerMessage<'_> {
    /// The last message of a connection that is closed for this reason.
    pub const fn goodbye(code: CloseCode) -> Self {
        Self::Goodbye { code, reconnect_after_ms: code.reconnect_after_ms() }
    }

    /// May it be lost on the way?
    pub fn is_best_effort(&self) -> bool {
        matches!(self, Self::Forwarded { best_effort: true, .. })
    }
}

impl Kind {
    /// The `type` on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::IceCandidate => "ice-candidate",
            Self::Message => "message",
        }
    }
}

impl LeaveReason {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Left, Self::Disconnected, Self::Timeout, Self::Removed];

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The `reason` on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Removed => "removed",
        }
    }
}

/// Everything that any message of a client may have, before it means anything. `null` is as good as missing, but for a payload. Names that are
/// looked up and nothing else stay bytes; they are text all the same.
#[derive(Default)]
pub struct Fields<'a> {
    pub kind: Option<Cow<'a, [u8]>>,
    pub id: Option<u64>,
    pub room: Option<Cow<'a, str>>,
    pub to: Option<Cow<'a, [u8]>>,
    pub received: Option<u64>,
    pub token: Option<Cow<'a, str>>,
    /// Boxed, because one message of a connection has it.
    pub resume: Option<Box<Resume>>,
    /// As it is in the frame.
    pub payload: Option<&'a [u8]>,
    /// The same.
    pub metadata: Option<&'a [u8]>,
    /// The values nest no deeper than this, where that is known already.
    pub depth: Option<usize>,
}

/// What is wrong with a frame that is no message.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(Cow<'static, str>);

/// Characters of a sentence about what is malformed.
const CHARS_MAX: usize = 200;

impl Malformed {
    /// In a sentence.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        // It may quote what it is about, and that may be as long as a message.
        match message.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => Self(format!("{}…", &message[..end]).into()),
            None => Self(message),
        }
    }

    pub(super) fn twice(key: &str) -> Self {
        Self::new(format!("`{key}` stands twice"))
    }

    pub(super) fn wrong_type(key: &str) -> Self {
        Self::new(format!("`{key}` has the wrong type"))
    }
}

/// The largest integer that every client can tell from its neighbours: 2^53 − 1.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

impl<'a> Request<'a> {
    /// Reads a client's message out of a whole frame, whose size the caller has checked, and its UTF-8 where the codec is JSON.
    pub fn decode(codec: Codec, frame: &'a [u8], nesting_max: usize) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        let read = match codec {
            Codec::Json => json::fields(frame, &mut fields),
            Codec::MsgPack => msgpack::fields(frame, &mut fields),
        };
        let refuse =
            |id: Option<u64>, code, message: Cow<'static, str>| Refusal::new(id.filter(|id| *id <= SAFE_INTEGER_MAX), code, message);
        read.map_err(|malformed| {
            let id = match codec {
                Codec::Json => json::id(frame),
                Codec::MsgPack => msgpack::id(frame),
            };
            refuse(id, ErrorCode::BadMessage, malformed.0)
        })?;
        let id = fields.id;
        if id > Some(SAFE_INTEGER_MAX) {
            return Err(refuse(id, ErrorCode::BadMessage, "`id` is above 2^53 - 1".into()));
        }
        if fields.depth.is_none_or(|depth| depth > nesting_max)
            && let Some(deep) =
                [fields.payload, fields.metadata].into_iter().flatten().find(|value| nests_deeper(codec, value, nesting_max))
        {
            let message = format!("a value of {} bytes nests more than {nesting_max} deep", deep.len());
            return Err(refuse(id, ErrorCode::TooDeep, message.into()));
        }
        let message = ClientMessage::from_fields(&mut fields, |value| Payload::lent(codec, value))
            .map_err(|(code, message)| refuse(id, code, message))?;
        Ok(Self { id, message })
    }
}

impl<'a> ClientMessage<'a> {
    /// Takes what it needs out of the fields; the values of the application's are made `opaque`.
    fn from_fields(fields: &mut Fields<'a>, opaque: impl Fn(&'a [u8]) -> Payload<'a>) -> Result<Self, (ErrorCode, Cow<'static, str>)> {
        let missing = |key: &str| (ErrorCode::BadMessage, Cow::from(format!("`{key}` is missing")));
        let kind = fields.kind.as_deref().ok_or_else(|| missing("type"))?;
        let signal = match kind {
            b"ice-candidate" => Kind::IceCandidate,
            b"offer" => Kind::Offer,
            b"answer" => Kind::Answer,
            b"message" => Kind::Message,
            b"ping" => return Ok(Self::Ping { received: fields.received }),
            b"hello" => {
                return Ok(Self::Hello { token: fields.token.take().map(Token), resume: fields.resume.take().map(|resume| *resume) });
            }
            b"join" => {
                let room = fields.room.take().ok_or_else(|| missing("room"))?;
                return Ok(Self::Join { room, metadata: fields.metadata.map(opaque) });
            }
            b"leave" => return Ok(Self::Leave { room: fields.room.take() }),
            b"metadata" => return Ok(Self::Metadata { room: fields.room.take(), metadata: fields.metadata.map(opaque) }),
            _ => {
                let shown: String = String::from_utf8_lossy(kind).chars().take(32).collect();
                return Err((ErrorCode::BadMessage, format!("there is no message of type {shown:?}").into()));
            }
        };
        let to = match &fields.to {
            None if signal == Kind::Message => None,
            to => Some(to.as_deref().ok_or_else(|| missing("to"))?),
        };
        let payload = fields.payload.ok_or_else(|| missing("payload"))?;
        let to = to.map(|to| PeerId::parse_bytes(to).ok_or((ErrorCode::NoSuchPeer, NO_SUCH_PEER.into()))).transpose()?;
        let (room, payload) = (fields.room.take(), opaque(payload));
        Ok(match to {
            Some(to) => Self::Forward { kind: signal, to, room, payload },
            None => Self::Broadcast { room, payload },
        })
    }
}

/// The sentence of [`ErrorCode::NoSuchPeer`]: the same whether the peer is elsewhere, gone or was never there.
pub const NO_SUCH_PEER: &str = "there is no peer with this id in a room that you share";

/// Does the value nest more than `nesting_max` deep?
pub(super) fn nests_deeper(codec: Codec, value: &[u8], nesting_max: usize) -> bool {
    let depth = match codec {
        Codec::Json => json::nesting(value, nesting_max),
        Codec::MsgPack => msgpack::nesting(value, nesting_max),
    };
    depth > nesting_max
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &'static str) -> Result<ClientMessage<'static>, ErrorCode> {
        Request::decode(Codec::Json, text.as_bytes(), 3).map(|request| request.message).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_null_is_a_payload_and_no_metadata() {
        let to = "0".repeat(32).leak();
        let frame = Box::leak(format!(r#"{{"type":"offer","to":"{to}","payload":null,"metadata":null}}"#).into_boxed_str());
        assert!(matches!(decode(frame), Ok(ClientMessage::Forward { kind: Kind::Offer, payload, .. }) if payload.len() == 4));
        assert!(matches!(decode(r#"{"type":"join","room":"r","metadata":null}"#), Ok(ClientMessage::Join { metadata: None, .. })));
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        for (text, code) in [
            ("", ErrorCode::BadMessage),
            ("[]", ErrorCode::BadMessage),
            (r#"["hello"]"#, ErrorCode::BadMessage),
            ("{}", ErrorCode::BadMessage),
            (r#"{"type":7}"#, ErrorCode::BadMessage),
            (r#"{"type":"dance"}"#, ErrorCode::BadMessage),
            (r#"{"type":"join"}"#, ErrorCode::BadMessage),
            (r#"{"type":"join","type":"join","room":"r"}"#, ErrorCode::BadMessage),
            (r#"{"type":"hello"} x"#, ErrorCode::BadMessage),
            (r#"{"type":"hello","id":-1}"#, ErrorCode::BadMessage),
            (r#"{"type":"hello","id":9007199254740992}"#, ErrorCode::BadMessage),
            (r#"{"type":"offer","payload":1}"#, ErrorCode::BadMessage),
            (r#"{"type":"offer","to":"me","payload":1}"#, ErrorCode::NoSuchPeer),
            (r#"{"type":"message","payload":[[[[]]]]}"#, ErrorCode::TooDeep),
            (r#"{"type":"join","room":"r","metadata":{"a":[[[]]]}}"#, ErrorCode::TooDeep),
        ] {
            assert_eq!(decode(text), Err(code), "{text}");
        }
        assert!(decode(r#"{"type":"message","payload":[[[]]]}"#).is_ok());
    }

    #[test]
    fn a_refusal_names_the_message_even_where_the_rest_is_wrong() {
        let frame = br#"{"type":"join","room":7,"id":5}"#;
        assert_eq!(Request::decode(Codec::Json, frame, 3).unwrap_err().id, Some(5));
        let frame = b"\x83\xa4type\xa4join\xa4room\x07\xa2id\x05";
        assert_eq!(Request::decode(Codec::MsgPack, frame, 3).unwrap_err().id, Some(5));
    }

    #[test]
    fn a_name_is_text_though_it_is_only_compared() {
        let wrong = |frame: &[u8]| Request::decode(Codec::MsgPack, frame, 3).map_err(|refusal| refusal.message.into_owned()).unwrap_err();
        assert_eq!(wrong(b"\x81\xa4type\xa1\xff"), "`type` has the wrong type");
        assert_eq!(wrong(b"\x83\xa4type\xa5offer\xa2to\xa1\xff\xa7payload\xc0"), "`to` has the wrong type");
        assert_eq!(wrong(b"\x83\xa4type\xa5offer\xa2to\xa2\xc3\xa9\xa7payload\xc0"), NO_SUCH_PEER);
        assert_eq!(wrong(b"\x81\xa4type\xa2\xc3\xa9"), "there is no message of type \"\u{e9}\"");
    }

    /// Serde filled it from an array, in the order of its fields, and in MessagePack from a map with their numbers for keys.
    #[test]
    fn what_is_no_object_is_no_resume() {
        let hello = |resume: serde_json::Value| {
            let text = serde_json::json!({ "type": "hello", "id": 4, "resume": resume });
            let bytes = rmp_serde::to_vec(&text).unwrap();
            let json = Request::decode(Codec::Json, text.to_string().as_bytes(), 3).map(|request| request.id);
            let msgpack = Request::decode(Codec::MsgPack, &bytes, 3).map(|request| request.id);
            [json, msgpack].map(|read| read.map_err(|refused| refused.id))
        };
        assert_eq!(hello(serde_json::json!({ "token": "0".repeat(32), "received": 7 })), [Ok(Some(4)), Ok(Some(4))]);
        for resume in [serde_json::json!(["0".repeat(32), 7]), serde_json::json!({ "token": "0".repeat(32) }), serde_json::json!(7)] {
            assert_eq!(hello(resume.clone()), [Err(Some(4)), Err(Some(4))], "{resume}");
        }
        let token = [&b"\xd9\x20"[..], &[b'0'; 32]].concat();
        let numbered = [&b"\x82\xa4type\xa5hello\xa6resume\x82\x00"[..], &token, b"\x01\x07"].concat();
        assert!(Request::decode(Codec::MsgPack, &numbered, 3).is_err());
        let twice = [&b"\x82\xa4type\xa5hello\xa6resume\x83\xa5token"[..], &token, b"\xa8received\x07\xa8received\x07"].concat();
        assert!(Request::decode(Codec::MsgPack, &twice, 3).is_err());
        assert_eq!(hello(serde_json::json!(null)), [Ok(Some(4)), Ok(Some(4))]);
    }

    #[test]
    fn both_codecs_mean_the_same() {
        let text = br#"{"type":"join","id":1,"room":"r","metadata":{"a":1},"unknown":[1]}"#;
        let bytes = rmp_serde::to_vec(&serde_json::from_slice::<serde_json::Value>(text).unwrap()).unwrap();
        let json = Request::decode(Codec::Json, text, 3).unwrap();
        let msgpack = Request::decode(Codec::MsgPack, &bytes, 3).unwrap();
        let (ClientMessage::Join { room: a, metadata: Some(x) }, ClientMessage::Join { room: b, metadata: Some(y) }) =
            (json.message, msgpack.message)
        else {
            panic!("both are joins");
        };
        assert_eq!((json.id, a, x.spell(Codec::MsgPack)), (msgpack.id, b, y.spell(Codec::MsgPack)));
    }
}
