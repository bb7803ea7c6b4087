//! What the server says, read by a client: the way back from `spell.rs`, for either codec.
//!
//! A payload stays the bytes it came in, as on the server's side. What a message says twice, the sentence of a code and whether to come
//! back, is taken from the code. Keys that are not known are not looked at.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    code::{CloseCode, ErrorCode},
    id::{PeerId, ResumeToken, RoomId},
    json::{self, Text},
    message::{Kind, LeaveReason, Malformed, Peer, Refusal, ServerMessage, Welcome, nests_deeper},
    msgpack::{self, Head},
    payload::{Codec, Payload},
    spell::RELAY,
};

/// How deep a value from a server may nest: the most that any server can be set to let through.
const NESTING_MAX: usize = 100;

impl ServerMessage<'static> {
    /// Reads a server's message out of a whole frame.
    pub fn decode(codec: Codec, frame: &Bytes) -> Result<Self, Malformed> {
        let fields = Fields::read(codec, frame, frame)?;
        Ok(match &*fields.text("type")? {
            "welcome" => Self::Welcome(Box::new(fields.welcome()?)),
            "joined" => fields.joined()?,
            "peer-joined" => Self::PeerJoined { room: fields.room()?, peer: fields.peer()? },
            "peer-updated" => Self::PeerUpdated { room: fields.room()?, peer: fields.peer()? },
            "peer-left" => Self::PeerLeft { room: fields.room()?, peer_id: fields.peer_id("peerId")?, reason: fields.reason()? },
            "left" => Self::Left { room: fields.room()?, reason: fields.reason()? },
            "offer" => fields.forwarded(Kind::Offer)?,
            "answer" => fields.forwarded(Kind::Answer)?,
            "ice-candidate" => fields.forwarded(Kind::IceCandidate)?,
            "message" => fields.forwarded(Kind::Message)?,
            "ack" => Self::Ack { id: fields.own("id")? },
            "error" => Self::Error(fields.refusal()?),
            "ice-servers" => Self::IceServers { servers: fields.payload("iceServers")? },
            "pong" => Self::Pong { received: fields.own("received")? },
            "goodbye" => match fields.optional("closesInMs")? {
                Some(in_ms) => Self::Closing { code: fields.close_code()?, in_ms },
                None => Self::Goodbye { code: fields.close_code()?, reconnect_after_ms: fields.own("reconnectAfterMs")? },
            },
            kind => return Err(Malformed::new(format!("there is no message of type {:?}", shown(kind)))),
        })
    }
}

/// The keys of a map and their values, not yet looked into.
struct Fields<'a> {
    codec: Codec,
    frame: &'a Bytes,
    entries: json::Entries<'a>,
}

impl<'a> Fields<'a> {
    /// Reads `map`, a part of `frame`.
    fn read(codec: Codec, frame: &'a Bytes, map: &'a [u8]) -> Result<Self, Malformed> {
        let entries = match codec {
            Codec::Json => json::entries(map)?,
            Codec::MsgPack => msgpack::entries(map).map(|entry| entry.map(|(key, value)| (key.into(), value))).collect::<Result<_, _>>()?,
        };
        Ok(Self { codec, frame, entries })
    }

    fn find(&self, key: &str) -> Option<&'a [u8]> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// A value that may be missing, or null, which is the same.
    fn optional<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, Malformed> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let read = match self.codec {
            Codec::Json => serde_json::from_slice(value).ok(),
            Codec::MsgPack => rmp_serde::from_slice(value).ok(),
        };
        read.ok_or_else(|| Malformed::wrong_type(key))
    }

    fn own<T: Deserialize<'a>>(&self, key: &str) -> Result<T, Malformed> {
        self.optional(key)?.ok_or_else(|| missing(key))
    }

    fn text(&self, key: &str) -> Result<Cow<'a, str>, Malformed> {
        self.own::<Text<'a>>(key).map(|text| text.0)
    }

    /// Text that has to be one of those that `parse` knows.
    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Malformed> {
        let text = self.text(key)?;
        parse(&text).ok_or_else(|| Malformed::new(format!("`{key}` cannot be {:?}", shown(&text))))
    }

    fn room(&self) -> Result<RoomId, Malformed> {
        self.parsed("room", |name| RoomId::parse(name, usize::MAX))
    }

    fn peer_id(&self, key: &str) -> Result<PeerId, Malformed> {
        self.parsed(key, PeerId::parse)
    }

    fn reason(&self) -> Result<LeaveReason, Malformed> {
        self.parsed("reason", LeaveReason::from_name)
    }

    fn refusal(&self) -> Result<Refusal, Malformed> {
        let code = self.parsed("code", ErrorCode::from_slug)?;
        let refusal = Refusal::new(self.optional("id")?, code, self.text("message")?.into_owned());
        Ok(Refusal { retry_after_ms: self.optional("retryAfterMs")?, ..refusal })
    }

    fn close_code(&self) -> Result<CloseCode, Malformed> {
        self.parsed("code", CloseCode::from_slug)
    }

    /// A value of the application's, null included.
    fn payload(&self, key: &str) -> Result<Payload<'static>, Malformed> {
        let value = self.find(key).ok_or_else(|| missing(key))?;
        if nests_deeper(self.codec, value, NESTING_MAX) {
            return Err(Malformed::new(format!("`{key}` nests more than {NESTING_MAX} deep")));
        }
        Ok(Payload::new(self.codec, self.frame.slice_ref(value)))
    }

    fn metadata(&self) -> Result<Option<Payload<'static>>, Malformed> {
        let null: &[u8] = match self.codec {
            Codec::Json => b"null",
            Codec::MsgPack => &[0xc0],
        };
        self.find("metadata").filter(|value| *value != null).map(|_| self.payload("metadata")).transpose()
    }

    fn peer(&self) -> Result<Peer, Malformed> {
        let user = self.optional::<Text<'a>>("user")?.map(|user| user.0.into());
        Ok(Peer { peer_id: self.peer_id("peerId")?, metadata: self.metadata()?, user, name: None })
    }

    fn peers(&self) -> Result<Vec<Peer>, Malformed> {
        let list = self.find("peers").ok_or_else(|| missing("peers"))?;
        let items = match self.codec {
            Codec::Json => {
                let items: Vec<&RawValue> = serde_json::from_slice(list).map_err(|_| Malformed::wrong_type("peers"))?;
                items.into_iter().map(|item| item.get().as_bytes()).collect()
            }
            Codec::MsgPack => {
                let Some((Head::Array(count), length)) = Head::read(list) else {
                    return Err(Malformed::wrong_type("peers"));
                };
                let mut rest = &list[length..];
                (0..count).map(|_| msgpack::take(&mut rest)).collect::<Result<Vec<_>, _>>()?
            }
        };
        items.into_iter().map(|item| Fields::read(self.codec, self.frame, item)?.peer()).collect()
    }

    fn joined(&self) -> Result<ServerMessage<'static>, Malformed> {
        let policy = self.optional::<Text<'a>>("iceTransportPolicy")?;
        Ok(ServerMessage::Joined {
            room: self.room()?,
            peer_id: self.peer_id("peerId")?,
            peers: self.peers()?,
            relays_only: policy.is_some_and(|policy| policy.0 == RELAY),
        })
    }

    fn forwarded(&self, kind: Kind) -> Result<ServerMessage<'static>, Malformed> {
        let to = if self.find("to").is_some() { Some(self.peer_id("to")?) } else { None };
        Ok(ServerMessage::Forwarded {
            kind,
            from: self.peer_id("from")?,
            room: self.room()?,
            payload: self.payload("payload")?,
            to,
            best_effort: self.optional("bestEffort")?.unwrap_or(false),
        })
    }

    fn welcome(&self) -> Result<Welcome, Malformed> {
        Ok(Welcome {
            peer_id: self.peer_id("peerId")?,
            resume_token: self.parsed("resumeToken", ResumeToken::parse)?,
            resumed: self.own("resumed")?,
            received: self.own("received")?,
            ice_servers: self.payload("iceServers")?,
            heartbeat_ms: self.own("heartbeatMs")?,
            resume_window_ms: self.own("resumeWindowMs")?,
            limits: self.own("limits")?,
        })
    }
}

fn missing(key: &str) -> Malformed {
    Malformed::new(format!("`{key}` is missing"))
}

/// As much of a text as an error shows.
fn shown(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::{ClientLimits, ClientRates};

    const CODECS: [Codec; 2] = [Codec::Json, Codec::MsgPack];

    fn peer_id() -> impl Strategy<Value = PeerId> {
        any::<u128>().prop_map(|bits| PeerId::parse(&format!("{bits:032x}")).unwrap())
    }

    fn room() -> impl Strategy<Value = RoomId> {
        "\\PC{1,40}".prop_filter_map("control characters", |name| RoomId::parse(&name, usize::MAX))
    }

    /// Values in either codec, all of which both can express.
    fn payload() -> impl Strategy<Value = Payload<'static>> {
        let value = prop_oneof![
            Just(json!(null)),
            any::<i64>().prop_map(|n| json!([n, {"deep": [{}]}])),
            any::<String>().prop_map(|text| json!({ "sdp": text })),
            Just(json!("x".repeat(70_000))),
        ];
        (value, prop::sample::select(&CODECS[..])).prop_map(|(value, codec)| {
            let json = Payload::from_serialize(&value).unwrap();
            Payload::new(codec, json.spell(codec).into_owned().into())
        })
    }

    fn metadata() -> impl Strategy<Value = Option<Payload<'static>>> {
        prop::option::of(payload().prop_filter("null is none", |payload| !matches!(&*payload.spell(Codec::Json), b"null")))
    }

    fn peer() -> impl Strategy<Value = Peer> {
        (peer_id(), metadata(), prop::option::of(any::<String>())).prop_map(|(peer_id, metadata, user)| Peer {
            peer_id,
            metadata,
            user: user.map(Into::into),
            name: None,
        })
    }

    fn welcome() -> impl Strategy<Value = ServerMessage<'static>> {
        let rates = any::<[u32; 3]>().prop_map(|[messages_per_second, bytes_per_second, joins_per_second]| ClientRates {
            messages_per_second,
            bytes_per_second,
            joins_per_second,
        });
        let limits = (prop::array::uniform6(0..1_usize << 53), prop::option::of(rates)).prop_map(
            |([message_bytes, rooms_per_client, peers_per_room, metadata_bytes, room_name_bytes, nesting], rates)| ClientLimits {
                message_bytes,
                rooms_per_client,
                peers_per_room,
                metadata_bytes,
                room_name_bytes,
                nesting,
                rates,
            },
        );
        (peer_id(), any::<(bool, u64, u64, u64)>(), payload(), limits).prop_map(
            |(peer_id, (resumed, received, heartbeat_ms, resume_window_ms), ice_servers, limits)| {
                ServerMessage::Welcome(Box::new(Welcome {
                    peer_id,
                    resume_token: ResumeToken::random(),
                    resumed,
                    received,
                    ice_servers,
                    heartbeat_ms,
                    resume_window_ms,
                    limits,
                }))
            },
        )
    }

    fn any_message() -> impl Strategy<Value = ServerMessage<'static>> {
        let kind = prop::sample::select(&[Kind::Offer, Kind::Answer, Kind::IceCandidate, Kind::Message][..]);
        let reason = || prop::sample::select(LeaveReason::ALL);
        let refusal =
            (prop::option::of(any::<u64>()), prop::sample::select(ErrorCode::ALL), any::<String>(), prop::option::of(any::<u64>()));
        prop_oneof![
            welcome(),
            (room(), peer_id(), prop::collection::vec(peer(), 0..20), any::<bool>())
                .prop_map(|(room, peer_id, peers, relays_only)| { ServerMessage::Joined { room, peer_id, peers, relays_only } }),
            payload().prop_map(|servers| ServerMessage::IceServers { servers }),
            (room(), peer()).prop_map(|(room, peer)| ServerMessage::PeerJoined { room, peer }),
            (room(), peer()).prop_map(|(room, peer)| ServerMessage::PeerUpdated { room, peer }),
            (room(), peer_id(), reason()).prop_map(|(room, peer_id, reason)| ServerMessage::PeerLeft { room, peer_id, reason }),
            (room(), reason()).prop_map(|(room, reason)| ServerMessage::Left { room, reason }),
            (kind, peer_id(), room(), payload(), prop::option::of(peer_id()), any::<bool>()).prop_map(
                |(kind, from, room, payload, to, best_effort)| ServerMessage::Forwarded { kind, from, room, payload, to, best_effort }
            ),
            any::<u64>().prop_map(|id| ServerMessage::Ack { id }),
            refusal.prop_map(|(id, code, message, retry_after_ms)| {
                ServerMessage::Error(Refusal { retry_after_ms, ..Refusal::new(id, code, message) })
            }),
            any::<u64>().prop_map(|received| ServerMessage::Pong { received }),
            (prop::sample::select(CloseCode::ALL), any::<u64>())
                .prop_map(|(code, reconnect_after_ms)| ServerMessage::Goodbye { code, reconnect_after_ms }),
            (prop::sample::select(CloseCode::ALL), any::<u64>()).prop_map(|(code, in_ms)| ServerMessage::Closing { code, in_ms }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(message in any_message()) {
            for codec in CODECS {
                let frame = Bytes::from(message.spell(codec));
                let read = ServerMessage::decode(codec, &frame).unwrap();
                prop_assert_eq!(Bytes::from(read.spell(codec)), frame);
                // Payloads are the same only in the same codec, so both are compared in that of the frame.
                let again = ServerMessage::decode(codec, &read.spell(codec).into()).unwrap();
                prop_assert_eq!(again, read);
            }
        }

        #[test]
        fn what_is_cut_short_is_no_message(message in any_message(), at in any::<prop::sample::Index>()) {
            for codec in CODECS {
                let frame = Bytes::from(message.spell(codec));
                prop_assert!(ServerMessage::decode(codec, &frame.slice(..at.index(frame.len()))).is_err());
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in CODECS {
                // A message or not, it returns.
                let _ = ServerMessage::decode(codec, &bytes.clone().into());
            }
        }
    }

    fn fault(text: &'static str) -> String {
        ServerMessage::decode(Codec::Json, &Bytes::from_static(text.as_bytes())).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(fault(r#"{"type":"dance"}"#), r#"there is no message of type "dance""#);
        assert_eq!(fault(r#"{"type":"ack"}"#), "`id` is missing");
        assert_eq!(fault(r#"{"type":"ack","id":null}"#), "`id` is missing");
        assert_eq!(fault(r#"{"type":"ack","id":"1"}"#), "`id` has the wrong type");
        assert_eq!(fault(r#"{"type":"left","room":"r","reason":"bored"}"#), r#"`reason` cannot be "bored""#);
        assert_eq!(fault(r#"{"type":"goodbye","code":"room-full"}"#), r#"`code` cannot be "room-full""#);
        assert_eq!(fault("[]"), "a message is a JSON object");
    }

    #[test]
    fn unknown_keys_are_ignored_and_null_is_as_good_as_missing() {
        let id = "0".repeat(32);
        let text = format!(r#"{{"new":[{{}}],"type":"peer-joined","user":null,"room":"r","metadata":null,"peerId":"{id}"}}"#);
        let bytes = rmp_serde::to_vec(&serde_json::from_str::<serde_json::Value>(&text).unwrap()).unwrap();
        let expected = ServerMessage::PeerJoined {
            room: RoomId::parse("r", 1).unwrap(),
            peer: Peer { peer_id: PeerId::parse(&id).unwrap(), metadata: None, user: None, name: None },
        };
        assert_eq!(ServerMessage::decode(Codec::Json, &text.into()).unwrap(), expected);
        assert_eq!(ServerMessage::decode(Codec::MsgPack, &bytes.into()).unwrap(), expected);
    }

    #[test]
    fn a_value_too_deep_to_be_spelled_anew_is_no_payload() {
        let message = |deep: &str| format!(r#"{{"type":"message","from":"{0:032}","room":"r","payload":{deep}}}"#, 0).into();
        let nested = |depth: usize| message(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(ServerMessage::decode(Codec::Json, &nested(100)).is_ok());
        assert!(ServerMessage::decode(Codec::Json, &nested(101)).is_err());
        assert!(ServerMessage::decode(Codec::Json, &nested(1_000_000)).is_err());
    }
}
