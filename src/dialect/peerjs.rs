//! The `peerjs` library, as its own server speaks to it (`peer` 1.0.2 and `peerjs` 1.5.5, read in their sources; the library is right where they
//! differ).
//!
//! A client says who it is in the address of its WebSocket: `key`, `id`, `token`. It is told `OPEN`, or why not and that is the end: `ID-TAKEN` for
//! an id that a client with another token has, `ERROR` for the rest. From then on its `OFFER`, `ANSWER`, `CANDIDATE`, `LEAVE` and `EXPIRE` go to
//! the client with the id in `dst`, as exactly `{type, src, dst, payload}`: `src` is what the server knows, the payload the bytes that came. What
//! is sent to an id that nobody has waits five seconds for it; then its sender hears `EXPIRE` from that id, once. `LEAVE` without `dst` gives the
//! own id back. `HEARTBEAT` needs no answer: every frame is a sign of life here, and so is the answer to a ping. Whatever else comes is ignored.
//!
//! An id is a name in a room that is quiet and for this dialect alone: who uses the library speaks to others who do, and only to those whose ids it
//! knows. The room is called like the key.
//!
//! On purpose it is not as there: who comes back with its token hears `OPEN` again, for which the library waits; an id whose holder does not answer a
//! ping is free, not after a minute; an id has to be one that the library itself allows; nobody reaches itself; what waits for somebody goes with who
//! sent it. Left out: metadata, acknowledgements, resuming.

use std::time::Duration;

use serde_json::{Value, value::RawValue};

use super::{Claim, Deed, Dialect, Frames, Heard, IfTaken, Manners, To, Wish, fields::Fields};
use crate::protocol::{CloseCode, Codec, Envelope, ErrorCode, Kind, Payload, Refusal, ServerMessage, framing::LentFrame};

/// One connection of the library.
pub struct PeerJs {
    asked: Result<Asked, Refusal>,
}

/// What the client asks for by its address.
struct Asked {
    key: String,
    id: String,
    token: String,
}

/// The dialect whose clients have rooms of their own.
pub const NAME: &str = "peerjs";

/// How long a message waits for a client that is not there: `expire_timeout` of the original.
const EXPIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is said to nobody is ignored, if it is a `LEAVE` or an `EXPIRE`.
const IF_ABSENT_IGNORED: u64 = 0;

const MISSING: &str = "No id, token, or key supplied to websocket server";
const INVALID_KEY: &str = "Invalid key provided";
const FULL: &str = "Server has reached its concurrent user limit";
const INVALID_ID: &str = "The id is invalid: letters and digits, with a space, a hyphen or an underscore between them, and not too many";

impl PeerJs {
    /// A client that came with this query to a server that has this key. Where clients have tokens, theirs may stand in the place of the key.
    pub fn new(key: &str, has_tokens: bool, query: &str) -> Self {
        Self { asked: Asked::read(key, has_tokens, query) }
    }

    /// The token that is in the query: what the client calls so, or what it has in place of the server's key.
    pub fn token_in(server_key: &str, query: &str) -> Option<String> {
        let find = |wanted| form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
        find("key").filter(|key| key != server_key).or_else(|| find("token"))
    }

    fn id(&self) -> &str {
        self.asked.as_ref().map_or("", |asked| &asked.id)
    }
}

impl Asked {
    fn read(valid_key: &str, has_tokens: bool, query: &str) -> Result<Self, Refusal> {
        let refuse = |message: &'static str| Refusal::new(None, ErrorCode::BadMessage, message);
        let (mut key, mut id, mut token) = (String::new(), String::new(), String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "key" => key = value.into_owned(),
                "id" => id = value.into_owned(),
                "token" => token = value.into_owned(),
                _ => {}
            }
        }
        if key.is_empty() || id.is_empty() || token.is_empty() {
            return Err(refuse(MISSING));
        }
        if key != valid_key && !has_tokens {
            return Err(refuse(INVALID_KEY));
        }
        if !is_id(&id) {
            return Err(refuse(INVALID_ID));
        }
        Ok(Self { key: valid_key.to_owned(), id, token })
    }
}

/// Is it an id that the library takes? There it is `^[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*$`.
fn is_id(text: &str) -> bool {
    text.split([' ', '_', '-']).all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl Dialect for PeerJs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn manners(&self) -> Manners {
        Manners { speaks_first: false, rooms_of: Some(NAME), is_quiet: true, patience: EXPIRE_TIMEOUT, ..Manners::FOREIGN }
    }

    fn greeting(&self) -> Vec<Wish> {
        let deed = match &self.asked {
            Ok(Asked { key, id, token }) => {
                let claim = Claim { name: id.clone(), secret: Some(token.clone()), if_taken: IfTaken::Refused };
                Deed::Join { room: key.clone(), metadata: None, claim: Some(claim), seats: None }
            }
            Err(refusal) => Deed::Refuse(refusal.clone()),
        };
        vec![deed.into()]
    }

    fn ends_with(&self, refusal: &Refusal) -> bool {
        match refusal.code {
            // All others are about entering, of which there is one attempt.
            ErrorCode::TooDeep | ErrorCode::RoomRequired | ErrorCode::NoSuchPeer | ErrorCode::Undeliverable | ErrorCode::RateLimited => {
                false
            }
            // Of a peer that may not be called; or of the only room.
            ErrorCode::Forbidden => refusal.peer.is_none(),
            _ => true,
        }
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        let wish = Fields::parse(frame.bytes()).map_or(Ok(None), |fields| said(&fields, nesting_max))?;
        Ok(Heard::Wishes(wish.into_iter().collect()))
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        match envelope.message() {
            ServerMessage::Forwarded { kind, payload, .. } => {
                let src = envelope.name().map_or("", |name| name.as_str());
                forwarded(*kind, src, self.id(), payload).map_or(Frames::NONE, Frames::text)
            }
            message => self.spell(message),
        }
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        match message {
            ServerMessage::Joined { .. } => Frames::text(r#"{"type":"OPEN"}"#),
            ServerMessage::Error(refusal) => refused(refusal, self.id()).map_or(Frames::NONE, Frames::text),
            ServerMessage::Goodbye { code, .. } => match code {
                CloseCode::ServerFull | CloseCode::TooManyConnections => Frames::text(error(FULL)),
                CloseCode::Unauthorized | CloseCode::TokenExpired => Frames::text(with_text("INVALID-KEY", code.sentence())),
                CloseCode::Unavailable | CloseCode::Removed | CloseCode::SlowConsumer | CloseCode::TooLarge | CloseCode::RateLimited => {
                    Frames::text(error(code.sentence()))
                }
                // Whose connection just ends is `disconnected`, and the application may call `reconnect()`.
                _ => Frames::NONE,
            },
            _ => Frames::NONE,
        }
    }
}

/// What a client wants that is in.
fn said(fields: &Fields<'_>, nesting_max: usize) -> Result<Option<Wish>, Refusal> {
    let (kind, own_type) = match fields.text("type").as_deref() {
        Some("OFFER") => (Kind::Offer, None),
        Some("ANSWER") => (Kind::Answer, None),
        Some("CANDIDATE") => (Kind::IceCandidate, None),
        Some("LEAVE") => (Kind::Message, Some("LEAVE")),
        Some("EXPIRE") => (Kind::Message, Some("EXPIRE")),
        _ => return Ok(None),
    };
    let Some(dst) = fields.text("dst").filter(|dst| !dst.is_empty()) else {
        return Ok((own_type == Some("LEAVE")).then(|| Deed::Leave { room: None }.into()));
    };
    // The library makes no difference between `null` and nothing.
    let payload = fields.find("payload").map_or("null", RawValue::get);
    let payload = match own_type {
        // We have no kinds for these, so what is sent says it.
        Some(own_type) => Payload::parse_json(format!(r#"["{own_type}",{payload}]"#), nesting_max + 1),
        None => Payload::parse_json(payload.to_owned(), nesting_max),
    };
    let payload = payload.ok_or_else(|| Refusal::new(None, ErrorCode::TooDeep, "the payload of a message nests too deep"))?;
    let deed = Deed::Forward { kind, to: To::Name(dst.into_owned()), room: None, payload };
    Ok(Some(Wish { id: own_type.map(|_| IF_ABSENT_IGNORED), deed }))
}

fn forwarded(kind: Kind, src: &str, dst: &str, payload: &Payload) -> Option<Vec<u8>> {
    let text = payload.spell(Codec::Json);
    let (kind, payload) = match kind {
        Kind::Offer => ("OFFER", &*text),
        Kind::Answer => ("ANSWER", &*text),
        Kind::IceCandidate => ("CANDIDATE", &*text),
        Kind::Message => {
            let (kind, payload) = serde_json::from_slice::<(&str, &RawValue)>(&text).ok()?;
            (kind, payload.get().as_bytes())
        }
    };
    let (src, dst) = (Value::from(src), Value::from(dst));
    let mut object = format!(r#"{{"type":"{kind}","src":{src},"dst":{dst},"payload":"#).into_bytes();
    object.extend_from_slice(payload);
    object.push(b'}');
    Some(object)
}

/// Our codes as the library knows them: it shows the text of an `ERROR`, and gives up who is in `src` of an `EXPIRE` or a `LEAVE`.
fn refused(refusal: &Refusal, id: &str) -> Option<String> {
    let about = |kind, peer: &str| format!(r#"{{"type":"{kind}","src":{},"dst":{}}}"#, Value::from(peer), Value::from(id));
    Some(match (refusal.code, &refusal.peer) {
        (ErrorCode::NoSuchPeer | ErrorCode::Undeliverable, _) if refusal.id == Some(IF_ABSENT_IGNORED) => return None,
        (ErrorCode::NoSuchPeer, Some(peer)) => about("EXPIRE", peer),
        (ErrorCode::Undeliverable, Some(peer)) => about("LEAVE", peer),
        (ErrorCode::NameTaken, _) => with_text("ID-TAKEN", "ID is taken"),
        (ErrorCode::RoomFull | ErrorCode::NoMoreRooms, _) => error(FULL),
        (ErrorCode::BadRoomName, _) => error(INVALID_ID),
        (ErrorCode::MetadataTooLarge, _) => error("The token is too long"),
        (ErrorCode::RoomRequired, _) => error("The id was given back by a LEAVE without dst"),
        _ => error(&refusal.message),
    })
}

fn error(text: &str) -> String {
    with_text("ERROR", text)
}

fn with_text(kind: &str, text: &str) -> String {
    format!(r#"{{"type":"{kind}","payload":{{"msg":{}}}}}"#, Value::from(text))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use serde_json::json;

    use super::*;
    use crate::protocol::{PeerId, PeerName, RoomId, framing::Frame};

    const QUERY: &str = "key=peerjs&id=bert&token=t&version=1.5.5";

    fn client() -> PeerJs {
        PeerJs::new("peerjs", false, QUERY)
    }

    /// What one frame asks for.
    fn wish(text: &str) -> Option<Wish> {
        let frame = Frame::Text(text.to_owned().into());
        let Ok(Heard::Wishes(mut wishes)) = client().decode(frame.lend(), 9) else { panic!("{text}") };
        assert!(wishes.len() < 2, "{text}");
        wishes.pop()
    }

    fn room() -> RoomId {
        RoomId::parse_in(NAME, "peerjs", 10).unwrap()
    }

    /// What `bert` hears of what somebody wants.
    fn heard(wish: Wish, from: &str) -> String {
        heard_by(&client(), wish, from)
    }

    fn heard_by(client: &PeerJs, wish: Wish, from: &str) -> String {
        let Deed::Forward { kind, payload, .. } = wish.deed else { panic!("{wish:?}") };
        let message = ServerMessage::Forwarded { kind, from: PeerId::random(), room: room(), payload, to: None, best_effort: false };
        one(client.encode(&Envelope::new(message).with(PeerName::parse(from, 10), 0)))
    }

    fn one(frames: Frames) -> String {
        match frames.as_slice() {
            [Frame::Text(text)] => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn told(refusal: Refusal) -> Value {
        serde_json::from_str(&one(client().spell(&ServerMessage::Error(refusal)))).unwrap()
    }

    /// Goes through what two clients of the library (`peerjs` 1.5.5 in Chromium) and its own server (`peer` 1.0.2) said to each other, and has to
    /// say the very same where the server did: a connection for data, a call, nobody there, and those who were not let in.
    #[test]
    fn it_says_what_the_original_said() {
        for (captured, forwarded) in [
            (include_str!("../../tests/fixtures/peerjs/data.jsonl"), 10),
            (include_str!("../../tests/fixtures/peerjs/call.jsonl"), 30),
            (include_str!("../../tests/fixtures/peerjs/absent.jsonl"), 0),
            (include_str!("../../tests/fixtures/peerjs/refused.jsonl"), 0),
        ] {
            assert_eq!(replay(captured), forwarded);
        }
    }

    /// Replays what was captured; how many messages went from one client to another.
    fn replay(captured: &str) -> usize {
        let mut clients: HashMap<String, (PeerJs, VecDeque<String>)> = ["anna", "bert"]
            .map(|id| (id.to_owned(), (PeerJs::new("peerjs", false, &format!("key=peerjs&id={id}&token=t")), VecDeque::new())))
            .into();
        let (mut holders, mut forwarded) = (HashMap::new(), 0);
        for line in captured.lines() {
            let line: HashMap<String, Value> = serde_json::from_str(line).unwrap();
            let id = line["client"].as_str().unwrap();
            if let Some(address) = line.get("asks") {
                let client = PeerJs::new("peerjs", false, address.as_str().unwrap().strip_prefix("/peerjs?").unwrap());
                let first = match &client.greeting()[0].deed {
                    Deed::Refuse(refusal) => ServerMessage::Error(refusal.clone()),
                    Deed::Join { claim: Some(claim), .. } if holders.insert(claim.name.clone(), claim.secret.clone()).is_some() => {
                        ServerMessage::Error(Refusal::new(None, ErrorCode::NameTaken, "why"))
                    }
                    Deed::Join { .. } => {
                        ServerMessage::Joined { room: room(), peer_id: PeerId::random(), peers: vec![], relays_only: false }
                    }
                    other => panic!("{other:?}"),
                };
                let hears = [one(client.encode(&Envelope::new(first)))].into();
                clients.insert(id.into(), (client, hears));
            } else if let Some(text) = line.get("says") {
                let frame = Frame::Text(text.as_str().unwrap().to_owned().into());
                let Ok(Heard::Wishes(wishes)) = clients[id].0.decode(frame.lend(), 64) else { panic!("{text}") };
                for wish in wishes {
                    let Deed::Forward { to: To::Name(to), .. } = &wish.deed else { panic!("{wish:?}") };
                    match clients.get_mut(to) {
                        Some((client, hears)) => {
                            hears.push_back(heard_by(client, wish, id));
                            forwarded += 1;
                        }
                        None => {
                            let gone = Refusal { peer: Some(to.clone()), ..Refusal::new(None, ErrorCode::NoSuchPeer, "why") };
                            let (client, hears) = clients.get_mut(id).unwrap();
                            let gone = one(client.spell(&ServerMessage::Error(gone)));
                            if !hears.contains(&gone) {
                                hears.push_back(gone);
                            }
                        }
                    }
                }
            } else if let Some(text) = line.get("hears") {
                assert_eq!(clients.get_mut(id).unwrap().1.pop_front().as_deref(), text.as_str());
            }
        }
        assert!(clients.values().all(|(_, hears)| hears.is_empty()), "the original said all of it");
        forwarded
    }

    #[test]
    fn a_client_asks_for_its_id_in_the_room_of_its_key() {
        let query = "key=peerjs&id=a%20b-c_1&token=t%2Bu+v&version=1.5.5";
        let [Wish { id: None, deed: Deed::Join { room, claim: Some(claim), metadata: None, seats: None } }] =
            &PeerJs::new("peerjs", false, query).greeting()[..]
        else {
            panic!("it joins");
        };
        assert_eq!(
            (&**room, &*claim.name, claim.secret.as_deref(), claim.if_taken),
            ("peerjs", "a b-c_1", Some("t+u v"), IfTaken::Refused)
        );
    }

    #[test]
    fn who_does_not_say_who_it_is_is_refused_and_that_is_the_end() {
        for (query, expected) in [
            ("", MISSING),
            ("id=a&token=t", MISSING),
            ("key=peerjs&token=t", MISSING),
            ("key=peerjs&id=a&token=", MISSING),
            ("key=other&id=a&token=t", INVALID_KEY),
            ("key=peerjs&id=-a&token=t", INVALID_ID),
        ] {
            let client = PeerJs::new("peerjs", false, query);
            let [Wish { deed: Deed::Refuse(refusal), .. }] = &client.greeting()[..] else { panic!("{query}") };
            assert_eq!(told(refusal.clone()), json!({ "type": "ERROR", "payload": { "msg": expected } }), "{query}");
            assert!(client.ends_with(refusal), "{query}");
        }
    }

    #[test]
    fn ids_are_those_of_the_library() {
        for id in ["a", "7", "Anna", "a-b", "a_b", "a b", "a-b_c d-9", "0123456789abcdef0123456789abcdef"] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "-", "-a", "a-", "a--b", "a_ b", "a.b", "ü", "a\n", "a/b", " a"] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn exactly_four_fields_are_forwarded_and_the_sender_is_who_it_is() {
        let said = r#"{"type":"OFFER","src":"forged","extra":1,"payload":{"n":1.50, "s":"\u00fc"},"dst":"bert"}"#;
        let wish = wish(said).unwrap();
        assert!(
            matches!(&wish, Wish { id: None, deed: Deed::Forward { kind: Kind::Offer, to: To::Name(to), room: None, .. } } if to == "bert")
        );
        assert_eq!(heard(wish, "anna"), r#"{"type":"OFFER","src":"anna","dst":"bert","payload":{"n":1.50, "s":"\u00fc"}}"#);
    }

    #[test]
    fn all_five_are_forwarded() {
        for kind in ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"] {
            let said = wish(&format!(r#"{{"type":"{kind}","dst":"bert","payload":[[1]]}}"#)).unwrap();
            assert_eq!(heard(said, "anna"), format!(r#"{{"type":"{kind}","src":"anna","dst":"bert","payload":[[1]]}}"#));
            let said = wish(&format!(r#"{{"type":"{kind}","dst":"bert"}}"#)).unwrap();
            assert_eq!(heard(said, "anna"), format!(r#"{{"type":"{kind}","src":"anna","dst":"bert","payload":null}}"#));
        }
    }

    #[test]
    fn what_the_original_ignores_is_ignored() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            r#"{"type":"HEARTBEAT"}"#,
            r#"{"type":"OPEN","dst":"a"}"#,
            r#"{"type":"offer","dst":"a"}"#,
            r#"{"type":7,"dst":"a"}"#,
            r#"{"type":"OFFER"}"#,
            r#"{"type":"OFFER","dst":""}"#,
            r#"{"type":"OFFER","dst":7}"#,
            r#"{"type":"EXPIRE"}"#,
            "\u{fffd}",
        ] {
            assert!(wish(text).is_none(), "{text}");
        }
        assert!(matches!(client().decode(LentFrame::Binary(&[0xff, 0xfe]), 9), Ok(Heard::Wishes(wishes)) if wishes.is_empty()));
        assert!(matches!(wish(r#"{"type":"LEAVE"}"#), Some(Wish { deed: Deed::Leave { room: None }, .. })));
    }

    #[test]
    fn a_payload_nests_no_deeper_than_the_bound() {
        for kind in ["OFFER", "LEAVE"] {
            let text = |depth| format!(r#"{{"type":"{kind}","dst":"a","payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            let decode = |depth| client().decode(LentFrame::Text(text(depth).as_bytes()), 9).err().map(|refusal| refusal.code);
            assert_eq!((decode(9), decode(10)), (None, Some(ErrorCode::TooDeep)), "{kind}");
        }
    }

    #[test]
    fn refusals_are_what_the_library_knows() {
        let refusal = |code| Refusal::new(None, code, "why");
        let about = |code| Refusal { peer: Some("anna".into()), ..refusal(code) };
        let error = |msg: &str| json!({ "type": "ERROR", "payload": { "msg": msg } });
        for (refusal, expected, is_last) in [
            (about(ErrorCode::NoSuchPeer), json!({ "type": "EXPIRE", "src": "anna", "dst": "bert" }), false),
            (about(ErrorCode::Undeliverable), json!({ "type": "LEAVE", "src": "anna", "dst": "bert" }), false),
            (refusal(ErrorCode::NameTaken), json!({ "type": "ID-TAKEN", "payload": { "msg": "ID is taken" } }), true),
            (refusal(ErrorCode::RoomFull), error(FULL), true),
            (refusal(ErrorCode::NoMoreRooms), error(FULL), true),
            (refusal(ErrorCode::BadRoomName), error(INVALID_ID), true),
            (refusal(ErrorCode::TooDeep), error("why"), false),
            (refusal(ErrorCode::RateLimited), error("why"), false),
        ] {
            assert_eq!(client().ends_with(&refusal), is_last, "{refusal:?}");
            assert_eq!(told(refusal), expected);
        }
        let unheard = Refusal { id: Some(IF_ABSENT_IGNORED), ..about(ErrorCode::NoSuchPeer) };
        assert!(client().spell(&ServerMessage::Error(unheard)).as_slice().is_empty());
    }

    #[test]
    fn goodbyes_are_told_where_coming_back_is_no_use() {
        let told = |code| client().spell(&ServerMessage::goodbye(code)).as_slice().len();
        for code in CloseCode::ALL {
            let is_told = !matches!(code, CloseCode::Draining | CloseCode::Timeout | CloseCode::Replaced);
            let never = matches!(code, CloseCode::HelloTimeout | CloseCode::StreamTimeout);
            assert!(never || told(*code) == usize::from(is_told), "{code}");
        }
        let full = one(client().spell(&ServerMessage::goodbye(CloseCode::ServerFull)));
        assert_eq!(serde_json::from_str::<Value>(&full).unwrap()["payload"]["msg"], FULL);
    }
}
