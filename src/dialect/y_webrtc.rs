//! The signaling of `y-webrtc`: topics to subscribe to, and objects that are published in one.
//!
//! `{"type":"subscribe","topics":[…]}` and `unsubscribe` have no answer; the library repeats the first whenever a peer of it is gone. What is
//! published, `{"type":"publish","topic":…,…}`, reaches all subscribers of its topic, its sender among them, with all its fields and with
//! `clients`, the number of those who have it, for whoever may know that. `{"type":"ping"}` is answered by `{"type":"pong"}`, which the library cannot do without. A
//! topic is a quiet room of this dialect: nobody is told who is there, for the library tells by itself. So nothing is remembered of a connection.
//!
//! The server in `bin/server.js` of the library also takes what is published by a client that did not subscribe; the library never does that, and
//! here it is refused. It has no word for a refusal. Ours, `{"type":"error","code":…,"message":…}`, is one of the types that the library does not
//! look at: it is for the person who wrote the client. A type that is not known is ignored, as there. Left out: everything else that our own
//! clients can.

use bytes::Bytes;
use serde_json::{json, value::RawValue};

use super::{Deed, Dialect, Frames, Heard, Manners, Wish, fields::Fields};
use crate::protocol::{Codec, Envelope, ErrorCode, Kind, Payload, Refusal, ServerMessage, framing::LentFrame};

/// Any connection that speaks it.
pub struct YWebrtc;

const NAME: &str = "y-webrtc";
/// A wish that comes true by itself, in a topic that is subscribed to already, or not any more.
const IDEMPOTENT: u64 = 1;

impl Dialect for YWebrtc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn manners(&self) -> Manners {
        Manners { rooms_of: Some(NAME), is_quiet: true, broadcasts: true, ..Manners::FOREIGN }
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
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
            ServerMessage::Forwarded { payload, .. } => Frames::text(envelope.spell_once(NAME, || published(payload, envelope.audience()))),
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

/// Topics of one frame. No client may be in more rooms.
const TOPICS_MAX: usize = 1_000;

/// One wish for each of the `topics` that is text, as with the other server.
fn each(fields: &Fields<'_>, deed: impl Fn(String) -> Deed) -> Vec<Wish> {
    let topics: Vec<&RawValue> = fields.read("topics").unwrap_or_default();
    let names = topics.into_iter().filter_map(|topic| serde_json::from_str(topic.get()).ok());
    names.take(TOPICS_MAX).map(|name| Wish { id: Some(IDEMPOTENT), deed: deed(name) }).collect()
}

/// What was published, and for how many, if that is to be told.
fn published(payload: &Payload, clients: usize) -> Bytes {
    let mut object = payload.spell(Codec::Json).into_owned();
    if clients > 0 {
        // It is an object, with a type and a topic at least.
        object.pop();
        object.extend_from_slice(format!(",\"clients\":{clients}}}").as_bytes());
    }
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::{PeerId, RoomId, framing::Frame};

    fn wishes(text: &str) -> Result<Vec<Wish>, Refusal> {
        match YWebrtc.decode(LentFrame::Text(text.as_bytes()), 8)? {
            Heard::Wishes(wishes) => Ok(wishes),
            Heard::Request(_) => panic!("no message of ours"),
        }
    }

    /// The only wish of a frame, and what was published comes out again.
    fn relayed(text: &str, clients: usize) -> Value {
        let Deed::Broadcast { kind, room: Some(room), payload, echo: true } = wishes(text).unwrap().remove(0).deed else {
            panic!("{text}")
        };
        let room = RoomId::parse_in(NAME, &room, 128).unwrap();
        let message = ServerMessage::Forwarded { kind, from: PeerId::random(), room, payload, to: None, best_effort: false };
        let Frames::One(Frame::Text(frame)) = YWebrtc.encode(&Envelope::new(message).with(None, clients)) else { panic!("one text") };
        serde_json::from_slice(&frame).unwrap()
    }

    fn told(message: &ServerMessage) -> Vec<Value> {
        YWebrtc.spell(message).as_slice().iter().map(|frame| serde_json::from_slice(frame.bytes()).unwrap()).collect()
    }

    /// Captured from `y-webrtc` 10.3.0 in Chromium, with and without a password.
    #[test]
    fn all_that_the_library_says_is_understood() {
        let mut kinds = Vec::new();
        for line in include_str!("../../tests/fixtures/y-webrtc/y-webrtc.jsonl").lines() {
            let sent: Value = serde_json::from_str(line).unwrap();
            let names = || sent["topics"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>();
            let wishes = wishes(line).unwrap();
            match sent["type"].as_str().unwrap() {
                "subscribe" => {
                    let joined = wishes.iter().map(|wish| match &wish.deed {
                        Deed::Join { room, metadata: None, claim: None, seats: None } => room.clone(),
                        deed => panic!("{deed:?}"),
                    });
                    assert_eq!(joined.collect::<Vec<_>>(), names());
                    kinds.push("subscribe");
                }
                "unsubscribe" => {
                    let left = wishes.iter().map(|wish| match &wish.deed {
                        Deed::Leave { room: Some(room) } => room.clone(),
                        deed => panic!("{deed:?}"),
                    });
                    assert_eq!(left.collect::<Vec<_>>(), names());
                    kinds.push("unsubscribe");
                }
                "publish" => {
                    let mut expected = sent.clone();
                    expected["clients"] = 7.into();
                    assert_eq!(relayed(line, 7), expected);
                    kinds.push(if sent["data"].is_string() { "secret" } else { "publish" });
                }
                "ping" => {
                    assert!(matches!(&wishes[..], [Wish { id: None, deed: Deed::Ping }]));
                    kinds.push("ping");
                }
                kind => panic!("{kind}"),
            }
        }
        for kind in ["subscribe", "unsubscribe", "publish", "secret", "ping"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn all_fields_of_what_is_published_survive_but_clients() {
        let relayed = relayed(r#"{"extra":[1.50,null],"clients":99,"type":"publish","topic":"t","data":{"clients":3}}"#, 2);
        assert_eq!(relayed, json!({ "extra": [1.5, null], "type": "publish", "topic": "t", "data": { "clients": 3 }, "clients": 2 }));
    }

    #[test]
    fn what_is_no_message_is_refused_and_what_is_not_known_is_ignored() {
        for (text, code) in [
            ("", ErrorCode::BadMessage),
            ("[]", ErrorCode::BadMessage),
            ("{\"type\":\"publish\"}", ErrorCode::BadMessage),
            (r#"{"type":"publish","topic":7}"#, ErrorCode::BadMessage),
            (r#"{"type":"publish","topic":"t","data":[[[[[[[[[]]]]]]]]]}"#, ErrorCode::TooDeep),
        ] {
            assert_eq!(wishes(text).unwrap_err().code, code, "{text}");
        }
        for text in ["{}", r#"{"type":7}"#, r#"{"type":"dance"}"#, r#"{"type":"subscribe"}"#, r#"{"type":"subscribe","topics":"t"}"#] {
            assert!(wishes(text).unwrap().is_empty(), "{text}");
        }
        let some = wishes(r#"{"type":"subscribe","topics":[1,"a",null,["b"],"\ud800","c"]}"#).unwrap();
        assert_eq!(some.len(), 2, "those that are text: {some:?}");
        assert!(YWebrtc.decode(LentFrame::Binary(b"{\"type\":\"publish\",\"topic\":\"\xff\"}"), 8).is_err());
    }

    #[test]
    fn subscribing_again_is_no_fault_and_publishing_elsewhere_is() {
        let refused = |id, code| ServerMessage::Error(Refusal::new(id, code, "why"));
        assert!(told(&refused(Some(IDEMPOTENT), ErrorCode::AlreadyInRoom)).is_empty());
        assert!(told(&refused(Some(IDEMPOTENT), ErrorCode::NotInRoom)).is_empty());
        assert!(told(&ServerMessage::Ack { id: IDEMPOTENT }).is_empty());
        assert_eq!(told(&refused(None, ErrorCode::NotInRoom))[0]["code"], "not-in-room");
        assert_eq!(told(&refused(Some(IDEMPOTENT), ErrorCode::TooManyRooms))[0]["code"], "too-many-rooms");
        assert_eq!(told(&ServerMessage::Pong { received: 3 }), [json!({ "type": "pong" })]);
    }
}
