//! The signaling of `matchbox`, as its socket for Rust speaks it (`matchbox_socket` and `matchbox_protocol` 0.15): WebRTC for games.
//!
//! A client is in a room by connecting to `/matchbox/ROOM`; without a name it is the room `world`. It is told `{"IdAssigned":ID}` first, and then
//! `{"NewPeer":ID}` of each one who comes, to whom it makes an offer, and `{"PeerLeft":ID}` of each one who goes. Who was there before it is told
//! of it, and not the other way round. An id is a UUID: the 128 bits of ours. `{"Signal":{"receiver":ID,"data":…}}` arrives as
//! `{"Signal":{"sender":ID,"data":…}}`, and `"KeepAlive"` wants no answer. With `?next=N` the room is one of a queue: who comes is put together in
//! groups of N, in the order in which they come; such rooms are matchbox's own, and the name and N together are the name of the queue.
//!
//! The other rooms are those that clients of other dialects meet in as well, so what passes between two sockets of matchbox as data is a signal of
//! ours on its way: `{"Offer":SDP}` and `{"Answer":SDP}` are descriptions as a browser takes them, `{"type":"offer","sdp":SDP}`, and
//! `{"IceCandidate":TEXT}`, whose text is JSON, is the candidate that was written in it, or `null` behind the last. All other data is a message as
//! it is. What others say that a socket could not read it is not told: some before 0.15 end at it. Between two sockets of matchbox all of it comes
//! out as it went in, but for the way in which a string in a string is escaped.
//!
//! Left out, for there is no word for it: who was there before, metadata, refusals, goodbyes. What is refused is ignored, as `matchbox_server`
//! does; only who is not let into its room is told so by the end of the connection, for its socket waits for peers otherwise.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, value::RawValue};

use super::{Deed, Dialect, Frames, Heard, Manners, To, Wish, fields::Fields};
use crate::protocol::{Codec, Envelope, ErrorCode, Kind, Payload, PeerId, Refusal, RoomId, ServerMessage, framing::LentFrame};

/// One connection that speaks matchbox.
#[derive(Debug)]
pub struct Matchbox {
    room: String,
    /// How many each room of the queue is for, if it is a queue.
    seats: Option<usize>,
    is_in: AtomicBool,
}

/// The namespace of its queues, and the first part of its path.
const NAME: &str = "matchbox";
/// The room without a name, as in `matchbox_signaling`.
const WORLD: &str = "world";
const KEEP_ALIVE: &[u8] = br#""KeepAlive""#;
/// What the socket for browsers sends behind its last candidate.
const NO_MORE_CANDIDATES: &str = "null";

impl Matchbox {
    /// A connection to this path with this query; `None` if that is no path of matchbox's, and otherwise perhaps the reason why there is none, for
    /// a person.
    pub fn at(path: &str, query: &str) -> Option<Result<Self, String>> {
        let room = match path.strip_prefix('/')?.strip_prefix(NAME)? {
            "" | "/" => WORLD,
            room => room.strip_prefix('/').filter(|room| !room.contains('/'))?,
        };
        Some(Self::new(room, query))
    }

    fn new(room: &str, query: &str) -> Result<Self, String> {
        let room = unescaped(room).ok_or("the name of a room is percent-encoded UTF-8\n")?;
        let next = query.split('&').filter_map(|pair| pair.split_once('=')).rfind(|(key, _)| *key == "next");
        let Some((_, next)) = next else { return Ok(Self { room, seats: None, is_in: false.into() }) };
        match unescaped(next).and_then(|next| next.parse().ok()) {
            None | Some(0) => Err(format!("`next` is the number of peers in a group, not {next:?}\n")),
            seats => Ok(Self { room: format!("{room}?next={next}"), seats, is_in: false.into() }),
        }
    }

    /// Is there a room of this name, and of so many seats, where there are these bounds?
    pub fn check(&self, name_bytes_max: usize, seats_max: usize) -> Result<(), String> {
        if RoomId::parse(&self.room, name_bytes_max).is_none() {
            return Err(format!(
                "the name of a room is 1 to {name_bytes_max} bytes of UTF-8 without control characters, and `?next=N` is a part of it\n"
            ));
        }
        match self.seats {
            Some(seats) if seats > seats_max => Err(format!("a group has at most {seats_max} peers, not {seats}\n")),
            _ => Ok(()),
        }
    }
}

impl Dialect for Matchbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn manners(&self) -> Manners {
        Manners { speaks_first: false, rooms_of: self.seats.map(|_| NAME), ..Manners::FOREIGN }
    }

    fn greeting(&self) -> Vec<Wish> {
        vec![Deed::Join { room: self.room.clone(), metadata: None, claim: None, seats: self.seats }.into()]
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        let refusal = |code, message: &'static str| Refusal::new(None, code, message);
        let no_request =
            || refusal(ErrorCode::BadMessage, "a request is a Signal with `receiver` and `data`, or KeepAlive, as JSON in a text frame");
        let LentFrame::Text(text) = frame else { return Err(no_request()) };
        if text.trim_ascii() == KEEP_ALIVE {
            return Ok(Heard::Wishes(vec![]));
        }
        let request = Fields::parse(text).ok_or_else(no_request)?;
        let signal = request.find("Signal").and_then(|signal| Fields::parse(signal.get().as_bytes())).ok_or_else(no_request)?;
        let receiver = signal.text("receiver").and_then(|id| from_uuid(&id)).ok_or_else(no_request)?;
        let data = signal.find("data").ok_or_else(no_request)?.get();
        let (kind, payload) = match from_data(data, nesting_max) {
            Some(signal) => signal,
            None => {
                let message = Payload::parse_json(data.to_owned(), nesting_max);
                (Kind::Message, message.ok_or_else(|| refusal(ErrorCode::TooDeep, "`data` nests too deep"))?)
            }
        };
        Ok(Heard::Wishes(vec![Deed::Forward { kind, to: To::Peer(receiver), room: None, payload }.into()]))
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        Frames::text(match envelope.message() {
            ServerMessage::PeerJoined { peer, .. } => envelope.spell_once(NAME, || event("NewPeer", peer.peer_id).into()),
            ServerMessage::PeerLeft { peer_id, .. } => envelope.spell_once(NAME, || event("PeerLeft", *peer_id).into()),
            // Here one speaks to one peer at a time: what others say to a whole room is nothing that a socket could read.
            ServerMessage::Forwarded { kind: Kind::Message, to: None, .. } => return Frames::NONE,
            ServerMessage::Forwarded { kind, from, payload, .. } => {
                let text = envelope.spell_once(NAME, || signal(*kind, *from, payload).unwrap_or_default().into());
                if text.is_empty() {
                    return Frames::NONE;
                }
                text
            }
            message => return self.spell(message),
        })
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        match message {
            ServerMessage::Welcome(welcome) => Frames::text(event("IdAssigned", welcome.peer_id)),
            ServerMessage::Joined { .. } => {
                self.is_in.store(true, Ordering::Relaxed);
                Frames::NONE
            }
            _ => Frames::NONE,
        }
    }

    /// There is no way into another room but another connection.
    fn ends_with(&self, refusal: &Refusal) -> bool {
        match refusal.code {
            ErrorCode::BadRoomName | ErrorCode::RoomFull | ErrorCode::NoMoreRooms | ErrorCode::Unavailable => true,
            // Later it is about a message.
            ErrorCode::Forbidden => !self.is_in.load(Ordering::Relaxed),
            _ => false,
        }
    }
}

/// What `matchbox_socket` calls a signal, as a browser takes it; `None` for all other data.
fn from_data(data: &str, nesting_max: usize) -> Option<(Kind, Payload<'static>)> {
    let data = Fields::parse(data.as_bytes())?;
    let (key, value) = data.only().map(|(key, value)| (key, value.get()))?;
    let (kind, text) = match key {
        "Offer" if is_string(value) => (Kind::Offer, format!(r#"{{"type":"offer","sdp":{value}}}"#)),
        "Answer" if is_string(value) => (Kind::Answer, format!(r#"{{"type":"answer","sdp":{value}}}"#)),
        "IceCandidate" => {
            let text = serde_json::from_str::<String>(value).ok()?;
            (Kind::IceCandidate, is_candidate(&text).then_some(text)?)
        }
        _ => return None,
    };
    Payload::parse_json(text, nesting_max).map(|payload| (kind, payload))
}

/// The same back, from clients of any dialect; `None` for a signal that no socket could read.
fn signal(kind: Kind, from: PeerId, payload: &Payload) -> Option<String> {
    let text = payload.spell(Codec::Json);
    let text = String::from_utf8_lossy(&text);
    let data = match kind {
        Kind::Offer => format!(r#"{{"Offer":{}}}"#, sdp(kind, &text)?),
        Kind::Answer => format!(r#"{{"Answer":{}}}"#, sdp(kind, &text)?),
        Kind::IceCandidate => format!(r#"{{"IceCandidate":{}}}"#, Value::from(candidate(&text)?)),
        Kind::Message => text.into_owned(),
    };
    Some(format!(r#"{{"Signal":{{"sender":"{}","data":{data}}}}}"#, uuid(from)))
}

/// The SDP of a description, which is either a string or an object with `sdp`. Clients of the WebSocket tutorials have the one or the other in a
/// field `offer`, `answer` or `sdp`.
fn sdp(kind: Kind, description: &str) -> Option<&str> {
    let outer = field(description, &["sdp", kind.name()]);
    let inner = outer.and_then(|value| field(value, &["sdp"]));
    [Some(description), outer, inner].into_iter().flatten().find(|value| is_string(value))
}

/// A candidate. Those of the tutorials have the whole in a field `candidate`.
fn candidate(text: &str) -> Option<&str> {
    [Some(text), field(text, &["candidate"])].into_iter().flatten().find(|value| is_candidate(value))
}

/// Is this JSON a candidate as browsers take it, which is an object with a string `candidate`, or the `null` behind the last?
fn is_candidate(json: &str) -> bool {
    json == NO_MORE_CANDIDATES || Fields::parse(json.as_bytes()).is_some_and(|candidate| candidate.text("candidate").is_some())
}

/// The first of these fields, as it was written.
fn field<'a>(object: &'a str, keys: &[&str]) -> Option<&'a str> {
    let fields = Fields::parse(object.as_bytes())?;
    keys.iter().find_map(|key| fields.find(key)).map(RawValue::get)
}

fn is_string(json: &str) -> bool {
    json.starts_with('"')
}

fn event(name: &str, about: PeerId) -> String {
    format!(r#"{{"{name}":"{}"}}"#, uuid(about))
}

fn uuid(id: PeerId) -> String {
    let hex = id.hex();
    let hex = hex.as_str();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Reads a UUID in whatever case, with its hyphens or without, as the `uuid` crate does.
fn from_uuid(text: &str) -> Option<PeerId> {
    PeerId::parse(&text.replace('-', "").to_ascii_lowercase())
}

/// Takes the percent-encoding off (RFC 3986 §2.1), if it is of UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { (digit(rest.next())? << 4 | digit(rest.next())?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::framing::Frame;

    fn frame(text: &str) -> Frame {
        Frame::Text(text.to_owned().into())
    }

    fn matchbox(path: &str, query: &str) -> Matchbox {
        Matchbox::at(path, query).expect("it is a path of matchbox's").expect("it is valid")
    }

    fn id(digit: char) -> PeerId {
        PeerId::parse(&digit.to_string().repeat(32)).unwrap()
    }

    /// What a frame wants, of which it is one thing.
    fn wish(text: &str) -> (Kind, To, String) {
        let frame = frame(text);
        let Ok(Heard::Wishes(mut wishes)) = matchbox("/matchbox", "").decode(frame.lend(), 4) else { panic!("{text}") };
        assert_eq!(wishes.len(), 1, "{text}");
        let Some(Wish { id: None, deed: Deed::Forward { kind, to, room: None, payload } }) = wishes.pop() else { panic!("{text}") };
        (kind, to, String::from_utf8(payload.spell(Codec::Json).into_owned()).unwrap())
    }

    fn refusal(frame: &Frame) -> ErrorCode {
        match matchbox("/matchbox", "").decode(frame.lend(), 4) {
            Err(refusal) => refusal.code,
            Ok(_) => panic!("{frame:?} is refused"),
        }
    }

    fn request(data: &str) -> String {
        format!(r#"{{"Signal":{{"receiver":"11111111-1111-1111-1111-111111111111","data":{data}}}}}"#)
    }

    fn data_of(kind: Kind, payload: &str) -> String {
        let text = signal(kind, id('2'), &Payload::parse_json(payload.to_owned(), 9).unwrap()).unwrap();
        let start = r#"{"Signal":{"sender":"22222222-2222-2222-2222-222222222222","data":"#;
        text.strip_prefix(start).and_then(|text| text.strip_suffix("}}")).unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn signals_are_what_a_browser_takes_and_come_back_as_they_went() {
        for (data, kind, payload) in [
            (r#"{"Offer":"v=0\r\n\u00fc"}"#, Kind::Offer, r#"{"type":"offer","sdp":"v=0\r\n\u00fc"}"#),
            (r#"{"Answer":""}"#, Kind::Answer, r#"{"type":"answer","sdp":""}"#),
            (r#"{"IceCandidate":"{\"candidate\":\"c\",\"sdpMid\":\"\"}"}"#, Kind::IceCandidate, r#"{"candidate":"c","sdpMid":""}"#),
            (r#"{"IceCandidate":"null"}"#, Kind::IceCandidate, "null"),
            (r#"{"IceCandidate":"candidate:1"}"#, Kind::Message, r#"{"IceCandidate":"candidate:1"}"#),
            (r#"{"IceCandidate":"{\"candidate\":null}"}"#, Kind::Message, r#"{"IceCandidate":"{\"candidate\":null}"}"#),
            (r#"{"IceCandidate":"[[[[[]]]]]"}"#, Kind::Message, r#"{"IceCandidate":"[[[[[]]]]]"}"#),
            (r#"{"Offer":{"sdp":"v=0"}}"#, Kind::Message, r#"{"Offer":{"sdp":"v=0"}}"#),
            (r#"{"Offer":"a","Answer":"b"}"#, Kind::Message, r#"{"Offer":"a","Answer":"b"}"#),
            (r#"{ "own" : 1.50 }"#, Kind::Message, r#"{ "own" : 1.50 }"#),
            ("null", Kind::Message, "null"),
        ] {
            assert_eq!(wish(&request(data)), (kind, To::Peer(id('1')), payload.to_owned()), "{data}");
            assert_eq!(data_of(kind, payload), data);
        }
    }

    /// What two sockets of `matchbox_socket` 0.15.0 said to each other, line by line, until they were connected.
    #[test]
    fn what_sockets_say_arrives_byte_by_byte() {
        let mut kinds = vec![];
        for line in include_str!("../../tests/fixtures/matchbox/requests.jsonl").lines() {
            let heard = frame(line);
            let Ok(Heard::Wishes(wishes)) = matchbox("/matchbox", "").decode(heard.lend(), 64) else { panic!("{line}") };
            for wish in wishes {
                let Deed::Forward { kind, to: To::Peer(to), payload, .. } = wish.deed else { panic!("{line}") };
                assert_eq!(signal(kind, to, &payload).unwrap().replacen("sender", "receiver", 1), line);
                kinds.push(kind);
            }
        }
        for (kind, count) in [(Kind::Offer, 1), (Kind::Answer, 1), (Kind::IceCandidate, 4), (Kind::Message, 0)] {
            assert_eq!(kinds.iter().filter(|there| **there == kind).count(), count, "{kind:?}");
        }
    }

    #[test]
    fn descriptions_and_candidates_are_found_where_the_tutorials_have_them() {
        for (kind, payload, data) in [
            (Kind::Offer, r#""v=0""#, r#"{"Offer":"v=0"}"#),
            (Kind::Offer, r#"{"targetPeer":"x","offer":{"type":"offer","sdp":"v=0"}}"#, r#"{"Offer":"v=0"}"#),
            (Kind::Answer, r#"{"sdp":{"type":"answer","sdp":"v=0"}}"#, r#"{"Answer":"v=0"}"#),
            (Kind::Answer, r#"{"answer":"v=0"}"#, r#"{"Answer":"v=0"}"#),
            (Kind::IceCandidate, r#"{"targetPeer":"x","candidate":{"candidate":"c"}}"#, r#"{"IceCandidate":"{\"candidate\":\"c\"}"}"#),
            (Kind::IceCandidate, r#"{"targetPeer":"x","candidate":null}"#, r#"{"IceCandidate":"null"}"#),
            (Kind::IceCandidate, r#"{"candidate":"c"}"#, r#"{"IceCandidate":"{\"candidate\":\"c\"}"}"#),
        ] {
            assert_eq!(data_of(kind, payload), data, "{payload}");
        }
        for (kind, payload) in [
            (Kind::Answer, r#"{"offer":"v=0"}"#),
            (Kind::Offer, "[7]"),
            (Kind::Offer, "null"),
            (Kind::IceCandidate, r#"{"candidate":0}"#),
            (Kind::IceCandidate, r#"{"candidate":{}}"#),
            (Kind::IceCandidate, r#""candidate:1""#),
            (Kind::IceCandidate, "{}"),
        ] {
            assert_eq!(signal(kind, id('2'), &Payload::parse_json(payload.to_owned(), 9).unwrap()), None, "{payload}");
        }
    }

    #[test]
    fn an_id_is_a_uuid_in_any_case_and_with_or_without_hyphens() {
        let hex = "00112233445566778899aabbccddeeff";
        let there = PeerId::parse(hex).unwrap();
        assert_eq!(uuid(there), "00112233-4455-6677-8899-aabbccddeeff");
        for text in [uuid(there), uuid(there).to_uppercase(), hex.to_owned()] {
            assert_eq!(from_uuid(&text), Some(there), "{text}");
        }
        for text in ["", "-", "00112233", &format!("{hex}0"), &hex.replace('f', "g"), &hex.replace('f', "ü")] {
            assert_eq!(from_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let deep = frame(&request("[[[[[]]]]]"));
        assert_eq!(refusal(&deep), ErrorCode::TooDeep);
        for text in
            ["", "7", "\"Signal\"", r#"{"Signal":1}"#, r#"{"Signal":{"receiver":1,"data":1}}"#, r#"{"IdAssigned":"x"}"#, "\"\\ud800\""]
        {
            assert_eq!(refusal(&frame(text)), ErrorCode::BadMessage, "{text}");
        }
        assert_eq!(refusal(&Frame::Binary("\"KeepAlive\"".into())), ErrorCode::BadMessage);
        let keep_alive = frame("\"KeepAlive\"");
        assert!(matches!(matchbox("/matchbox", "").decode(keep_alive.lend(), 4), Ok(Heard::Wishes(wishes)) if wishes.is_empty()));
    }

    #[test]
    fn a_queue_is_a_room_of_its_own_for_each_number() {
        let of = |path, query| {
            let Matchbox { room, seats, .. } = matchbox(path, query);
            (room, seats)
        };
        assert_eq!(of("/matchbox", ""), ("world".into(), None));
        assert_eq!(of("/matchbox/", "next=2"), ("world?next=2".into(), Some(2)));
        assert_eq!(of("/matchbox/a%2Fb", "x&y=1&next=3"), ("a/b?next=3".into(), Some(3)));
        assert_eq!(matchbox("/matchbox/a", "").manners().rooms_of, None);
        assert_eq!(matchbox("/matchbox/a", "next=2").manners().rooms_of, Some("matchbox"));
        assert!(matchbox("/matchbox/a", "next=2").check(8, 2).is_ok());
        assert!(matchbox("/matchbox/a", "next=2").check(7, 2).is_err() && matchbox("/matchbox/a", "next=2").check(8, 1).is_err());
    }
}
