//! The signaling of `y-webrtc`: topics to subscribe to, and objects that are published in one.
//!
//! `{"type":"subscribe","topics":[…]}` and `unsubscribe` have no answer; the library repeats the first whenever a peer of it is gone. What is
//! published, `{"type":"publish","topic":…,…}`, reaches all subscribers of its topic, its sender among them, with all its fields and with
//! `clients`, the number of those who have it. `{"type":"ping"}` is answered by `{"type":"pong"}`, which the library cannot do without. A
//! topic is a quiet room of this dialect: nobody is told who is there, for the library tells by itself. So nothing is remembered of a connection.
//!
//! The server in `bin/server.js` of the library also takes what is published by a client that did not subscribe; the library never does that, and here it
//! is refused. It has no word for a refusal. Ours, `{"type":"error","code":…,"message":…}`, is one of the types that the library does not look at: it
//! is for the person who wrote the client. A type that is not known is ignored, as there. Left out: everything else that our own clients can.

use bytes::Bytes;
use serde_json::{json, value::RawValue};

use super::{Deed, Dialect, Frames, Heard, Manners, Wish, fields::Fields};
use crate::protocol::{Codec, Envelope, ErrorCode, Kind, Payload, Refusal, ServerMessage, framing::Frame};

/// Any connection that speaks it.
pub struct YWebrtc;

const NAME: &str = "y-webrtc";
/// A wish that comes true by itself, in a topic that is subscribed to already, or not any more.
const IDEMPOTENT: u64 = 1;

impl Dialect for YWebrtc {
    fn manners(&self) -> Manners {
        Manners { rooms_of: Some(NAME), is_quiet: true, broadcasts: true, ..Manners::FOREIGN }
    }

    fn decode<'a>(&self, frame: &'a Frame, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        let refuse = |code, message: &'static str| Err(Refusal::new(None, code, message));
        // The other server reads a binary frame as well.
        let Some(fields) = Fields::parse(frame.bytes()) else { return refuse(ErrorCode::BadMessage, "a message is a JSON object") };
        let wishes = match fields.text("type").as_deref() {
            Some("subscribe") => each(&fields, |room| Deed::Join { room, metadata: None, claim: None, seats: None }),
            Some("unsubscribe") => each(&fields, |room| Deed::Leave { room: Some(room) }),
            Some("publish") => {
                let Some(topic) = fields.text("topic") else { return refuse(ErrorCode::BadMessage, "`topic` is text") };
                let Some(payload) = fields.payload_without(&["clients"], nesting_max) else {
                    return refuse(ErrorCode::TooDeep, "a message nests too deep");
                };
                vec![Deed::Broadcast { kind: Kind::Message, room: Some(topic.into_owned()), payload, echo: true }.into()]
            }
            Some("ping") => vec![Deed::Ping.into()],
            _ => vec![],
        };
        Ok(Heard::Wishes(wishes))
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        match envelope.message() {
            ServerMessage::Forwarded { payload, .. } => {
                Frames::text(envelope.spell_once(NAME, || published(payload, envelope.audience())))
            }
            message => self.spell(message),
        }
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        let object = match message {
            ServerMessage::Pong { .. } => json!({ "type": "pong" }),
            ServerMessage::Error(Refusal { id: Some(IDEMPOTENT), code: ErrorCode::AlreadyInRoom | ErrorCode::NotInRoom, .. }) => {
                return Frames::NONE;
            }
            ServerMessage::Error(refusal) => json!({ "type": "error", "code": refusal.code.slug(), "message": reason(refusal) }),
            ServerMessage::Goodbye { code, .. } => json!({ "type": "error", "code": code.slug(), "message": code.sentence() }),
            _ => return Frames::NONE,
        };
        Frames::text(object.to_string())
    }
}

/// One wish for each of the `topics` that is text, as with the other server.
fn each(fields: &Fields<'_>, deed: impl Fn(String) -> Deed) -> Vec<Wish> {
    let topics: Vec<&RawValue> = fields.read("topics").unwrap_or_default();
    let names = topics.into_iter().filter_map(|topic| serde_json::from_str(topic.get()).ok());
    names.map(|name| Wish { id: Some(IDEMPOTENT), deed: deed(name) }).collect()
}

/// What was published, and for how many.
fn published(payload: &Payload, clients: usize) -> Bytes {
    let mut object = payload.spell(Codec::Json).into_owned();
    // It is an object, with a type and a topic at least.
    object.pop();
    object.extend_from_slice(format!(",\"clients\":{clients}}}").as_bytes());
    object.into()
}

/// Why not, in the words of this dialect.
fn reason(refusal: &Refusal) -> String {
    match refusal.code {
        ErrorCode::NotInRoom => "you are not subscribed to this topic".into(),
        ErrorCode::BadRoomName => "a topic's name is empty, too long, or has control characters".into(),
        ErrorCode::TooManyRooms => "you are subscribed to as many topics as you may".into(),
        ErrorCode::RoomFull => "the topic has as many subscribers as it may".into(),
        ErrorCode::NoMoreRooms => "the server has as many topics as it may".into(),
        ErrorCode::RateLimited => format!("too fast: wait {} ms", refusal.retry_after_ms.unwrap_or_default()),
        _ => refusal.message.to_string(),
    }
}
