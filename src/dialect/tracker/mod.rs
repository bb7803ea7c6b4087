//! WebTorrent's tracker over WebSocket, as `bittorrent-tracker` speaks it: `announce` with offers, answers, and `scrape`.
//!
//! A swarm is a quiet room of this dialect, named after its `info_hash`; a peer's name there is its `peer_id`. Both are 20 bytes, on the wire a
//! string of 20 code points up to 255, and for us their hexadecimal digits. One socket may be in many swarms, in each under one `peer_id`; another
//! connection cannot take that over unless the first is dead. A peer with metadata is one that has everything (`complete`).
//!
//! The i-th offer of an announce goes to the i-th of the other peers, from a random one on; of more than there are peers nobody hears. An answer goes
//! to the peer that made the offer, if this connection was offered it and has not answered: so much is remembered of the latest
//! offers, [`OFFERED_MAX`] of them, and forgotten by number, for nothing here has a clock. Only what became of an answer that did not arrive is told.
//!
//! Lenient as the server of that package: a frame of either kind, `left` as a number or as text, an event that is missing or `empty`, offers that
//! are none. Different from there: `left: null` is unknown and not zero (its clients write `Infinity` so); `downloaded` counts who completed while
//! here; a scrape of no `info_hash` is of nothing, not of everything; whatever fails has an `action` and an `info_hash`, without which its client
//! would drop the socket. No peer is ever evicted. Left out: two peers of one swarm on one socket, `numwant`, `trackerid`, `/stats`.

mod wire;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{json, value::RawValue};

use self::wire::{Id, bad, counts, id, is_falsy, is_zero, offers, payload, swarm, text};
use super::{Claim, Deed, Dialect, Frames, Heard, IfTaken, Manners, To, Wish, fields::Fields};
use crate::protocol::{Census, Codec, Envelope, ErrorCode, Kind, Payload, PeerId, Refusal, RoomId, ServerMessage, framing::LentFrame};

/// One connection that speaks tracker.
#[derive(Default)]
pub struct Tracker {
    /// Keys of its own, so that nobody can choose two offers that are taken for one.
    hasher: RandomState,
    memory: Mutex<Memory>,
}

/// What is remembered of a connection.
#[derive(Default)]
struct Memory {
    /// The swarms that it is in, as the registry has told: no more than a client may have rooms.
    swarms: HashMap<Id, Membership>,
    /// What it asked for last. A frame is dealt with to its end before the next one is read.
    asked: Asked,
    /// Has it been told already that this failed?
    has_failed: bool,
    /// The latest offers that were made to it, oldest first: which they are, and by whom.
    offered: VecDeque<(OfferKey, PeerId)>,
}

/// What a connection is in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Membership {
    peer_id: Id,
    is_complete: bool,
}

/// What a frame asks for, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, Default)]
enum Asked {
    /// Nothing that is understood.
    #[default]
    Nothing,
    Announce(Id, Membership),
    /// To pass on the answer to this offer in this swarm.
    Answer(Id, OfferKey),
    /// To do something in this swarm that is not understood.
    Unclear(Id),
    Scrape,
}

/// The hash of an offer's swarm, peer and `offer_id`, of which the last may be long.
type OfferKey = u64;

const NAME: &str = "tracker";
/// Seconds between two announces of a client, as the other server wants them by default.
const INTERVAL: u32 = 120;
/// Seconds between two scrapes, which no client is known to heed.
const SCRAPE_INTERVAL: u32 = 600;
/// Offers to one connection that can still be answered. In each swarm it gets about as many in a minute as it makes itself, and answers within
/// seconds.
const OFFERED_MAX: usize = 256;

impl Tracker {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, memory: &mut Memory, fields: &Fields<'_>, nesting_max: usize) -> Result<Vec<Wish>, Refusal> {
        let info_hash = id(fields, "info_hash").ok_or_else(|| bad("invalid info_hash"))?;
        memory.asked = Asked::Unclear(info_hash);
        let peer_id = id(fields, "peer_id").ok_or_else(|| bad("invalid peer_id"))?;
        if let Some(answer) = fields.find("answer").filter(|answer| !is_falsy(answer)) {
            return self.answer(memory, (info_hash, peer_id), answer, fields, nesting_max);
        }
        let event = match fields.find("event") {
            Some(event) if !is_falsy(event) => fields.text("event").ok_or_else(|| bad("invalid event"))?,
            _ => "update".into(),
        };
        let member = memory.swarms.get(&info_hash).copied();
        let known = member.filter(|member| member.peer_id == peer_id);
        let has_all = fields.find("left").is_some_and(is_zero);
        let room = info_hash.hex();
        let join = || Deed::Join {
            room: room.clone(),
            metadata: has_all.then(everything),
            claim: Some(Claim { name: peer_id.hex(), secret: None, if_taken: IfTaken::Refused }),
            seats: None,
        };
        let is_complete = has_all || known.is_some_and(|known| known.is_complete || event == "completed");
        let mut deeds = vec![];
        match (&*event, known) {
            ("stopped", Some(_)) => deeds.push(Deed::Leave { room: Some(room.clone()) }),
            ("stopped", None) => {}
            ("started" | "completed" | "update" | "paused" | "empty", Some(known)) => {
                if is_complete && !known.is_complete {
                    deeds.push(Deed::Metadata { room: Some(room.clone()), metadata: Some(everything()) });
                }
            }
            ("started" | "completed" | "update" | "paused" | "empty", None) if member.is_some() => {
                // The application behind the socket has begun anew under another id. If that is another's, this one is who it was.
                deeds.push(Deed::Rename { room: room.clone(), name: peer_id.hex() });
                deeds.push(Deed::Metadata { room: Some(room.clone()), metadata: has_all.then(everything) });
            }
            ("started" | "completed" | "update" | "paused" | "empty", None) => deeds.push(join()),
            _ => return Err(bad("invalid event")),
        }
        deeds.push(Deed::Count { rooms: vec![room.clone()] });
        if event != "stopped" {
            // Without randomness all would ask the same peers first, which is not worth failing for.
            let seed = getrandom::u32().unwrap_or(0) as usize;
            for (place, payload) in offers(fields, nesting_max)?.into_iter().enumerate() {
                deeds.push(Deed::Forward { kind: Kind::Offer, to: To::Place { seed, place }, room: Some(room.clone()), payload });
            }
        }
        memory.asked = Asked::Announce(info_hash, Membership { peer_id, is_complete });
        // That it has another name it is to hear.
        Ok(deeds.into_iter().map(|deed| Wish { id: matches!(deed, Deed::Rename { .. }).then_some(0), deed }).collect())
    }

    fn answer(
        &self,
        memory: &mut Memory,
        (info_hash, peer_id): (Id, Id),
        answer: &RawValue,
        fields: &Fields<'_>,
        nesting_max: usize,
    ) -> Result<Vec<Wish>, Refusal> {
        let offerer = id(fields, "to_peer_id").ok_or_else(|| bad("invalid `to_peer_id` (required with `answer`)"))?;
        let offer_id = fields.find("offer_id").ok_or_else(|| bad("`offer_id` is missing (required with `answer`)"))?;
        if memory.swarms.get(&info_hash).is_none_or(|member| member.peer_id != peer_id) {
            return Err(bad("this connection is not the peer with this peer_id in this swarm"));
        }
        let offer = self.offer_key(info_hash, offerer, offer_id);
        let (_, to) = memory
            .offered
            .iter()
            .find(|(offered, _)| *offered == offer)
            .ok_or_else(|| bad("no offer with this `offer_id` by `to_peer_id` waits for an answer"))?;
        let payload = payload([("answer", answer), ("offer_id", offer_id)], nesting_max)?;
        let deed = Deed::Forward { kind: Kind::Answer, to: To::Peer(*to), room: Some(info_hash.hex()), payload };
        memory.asked = Asked::Answer(info_hash, offer);
        Ok(vec![Wish { id: Some(0), deed }])
    }

    fn offer_key(&self, info_hash: Id, offerer: Id, offer_id: &RawValue) -> OfferKey {
        // Two clients may spell one text in two ways.
        let text = serde_json::from_str::<String>(offer_id.get());
        self.hasher.hash_one((info_hash, offerer, text.is_ok(), text.as_deref().unwrap_or(offer_id.get())))
    }

    /// An offer or an answer from a peer with this name. An offer may be answered from here on.
    fn passed_on(&self, kind: Kind, from: PeerId, peer_id: Id, info_hash: Id, payload: &Payload) -> Option<Frames> {
        let text = payload.spell(Codec::Json);
        let fields = Fields::parse(&text)?;
        let mut object =
            json!({ "action": "announce", "info_hash": info_hash.binary(), "peer_id": peer_id.binary() }).to_string().into_bytes();
        object.pop();
        fields.write_without(&[], &mut object);
        object.push(b'}');
        if kind == Kind::Offer {
            let key = self.offer_key(info_hash, peer_id, fields.find("offer_id")?);
            let offered = &mut self.memory().offered;
            if offered.len() >= OFFERED_MAX {
                offered.pop_front();
            }
            offered.push_back((key, from));
        }
        Some(Frames::text(object))
    }
}

fn scrape(fields: &Fields<'_>) -> Result<Vec<Wish>, Refusal> {
    let texts: Vec<&RawValue> = match fields.find("info_hash") {
        Some(one) if one.get().starts_with('"') => vec![one],
        Some(several) if several.get() != "null" => fields.read("info_hash").ok_or_else(|| bad("invalid info_hash"))?,
        _ => vec![],
    };
    let parse = |text: &RawValue| Id::parse(&serde_json::from_str::<String>(text.get()).ok()?);
    let rooms = texts.into_iter().map(|text| parse(text).map(Id::hex).ok_or_else(|| bad("invalid info_hash"))).collect::<Result<_, _>>()?;
    Ok(vec![Deed::Count { rooms }.into()])
}

impl Dialect for Tracker {
    fn name(&self) -> &'static str {
        NAME
    }

    /// A client may gather its first offers for longer than others take for a first message, or want its socket only later.
    fn manners(&self) -> Manners {
        Manners { speaks_first: false, rooms_of: Some(NAME), is_quiet: true, ..Manners::FOREIGN }
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        let memory = &mut *self.memory();
        (memory.asked, memory.has_failed) = (Asked::Nothing, false);
        let fields = Fields::parse(frame.bytes()).ok_or_else(|| bad("a request is a JSON object"))?;
        let wishes = match fields.text("action").as_deref() {
            Some("announce") => self.announce(memory, &fields, nesting_max),
            Some("scrape") => {
                memory.asked = Asked::Scrape;
                scrape(&fields)
            }
            _ => Err(bad("invalid action: there are announce and scrape")),
        };
        wishes.map(Heard::Wishes)
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        match envelope.message() {
            ServerMessage::Forwarded { kind, from, room, payload, .. } => {
                let peer_id = envelope.name().and_then(|name| Id::from_hex(name.as_str()));
                let passed_on = |info_hash| self.passed_on(*kind, *from, peer_id?, info_hash, payload);
                swarm(room).and_then(passed_on).unwrap_or(Frames::NONE)
            }
            message => self.spell(message),
        }
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        let memory = &mut *self.memory();
        match (message, memory.asked) {
            (ServerMessage::Joined { .. } | ServerMessage::Ack { .. }, Asked::Announce(info_hash, member)) => {
                memory.swarms.insert(info_hash, member);
            }
            (ServerMessage::Left { room, .. }, _) => {
                swarm(room).map(|info_hash| memory.swarms.remove(&info_hash));
            }
            (ServerMessage::Ack { .. }, Asked::Answer(_, offer)) => {
                let answered = memory.offered.iter().position(|(offered, _)| *offered == offer);
                answered.map(|at| memory.offered.remove(at));
            }
            (ServerMessage::Counted { rooms }, Asked::Announce(info_hash, now)) if !memory.has_failed => {
                if let Some(member) = memory.swarms.get_mut(&info_hash).filter(|member| member.peer_id == now.peer_id) {
                    *member = now;
                }
                let census = rooms.first().map(|(_, census)| *census).unwrap_or_default();
                return text(&counts(census, json!({ "action": "announce", "info_hash": info_hash.binary(), "interval": INTERVAL })));
            }
            (ServerMessage::Counted { rooms }, Asked::Scrape) => {
                let one = |(room, census): &(RoomId, Census)| {
                    Some((swarm(room)?.binary(), counts(*census, json!({ "downloaded": census.got_metadata }))))
                };
                let files = serde_json::Map::from_iter(rooms.iter().filter_map(one));
                return text(&json!({ "action": "scrape", "files": files, "flags": { "min_request_interval": SCRAPE_INTERVAL } }));
            }
            // Nobody is at this place any more, or ever was.
            (ServerMessage::Error(Refusal { code: ErrorCode::NoSuchPeer, .. }), Asked::Announce(..)) => {}
            (ServerMessage::Error(refusal), asked) if !mem::replace(&mut memory.has_failed, true) => {
                return text(&failure(asked, &reason(refusal)));
            }
            (ServerMessage::Goodbye { code, .. }, _) => return text(&failure(Asked::Nothing, code.sentence())),
            _ => {}
        }
        Frames::NONE
    }
}

/// What stands for a peer that has all there is.
fn everything() -> Payload<'static> {
    Payload::from_serialize(&true).expect("a boolean can be spelled")
}

fn failure(asked: Asked, reason: &str) -> serde_json::Value {
    let (action, info_hash) = match asked {
        Asked::Announce(info_hash, _) | Asked::Answer(info_hash, _) | Asked::Unclear(info_hash) => ("announce", info_hash.binary()),
        Asked::Scrape => ("scrape", String::new()),
        Asked::Nothing => ("announce", String::new()),
    };
    json!({ "action": action, "info_hash": info_hash, "failure reason": reason })
}

/// Why not, in the words of this dialect.
fn reason(refusal: &Refusal) -> String {
    match refusal.code {
        ErrorCode::NameTaken => "another connection is the peer with this peer_id in this swarm".into(),
        ErrorCode::BadRoomName => "limits.room_name_bytes_max of this server is too small for a tracker".into(),
        ErrorCode::TooManyRooms => "this connection is in as many swarms as it may be".into(),
        ErrorCode::RoomFull => "the swarm has as many peers as it may".into(),
        ErrorCode::NoMoreRooms => "the tracker has as many swarms as it may".into(),
        ErrorCode::NotInRoom => "this connection is not in this swarm".into(),
        ErrorCode::NoSuchPeer => "the peer that made this offer is gone".into(),
        ErrorCode::RateLimited => format!("too fast: wait {} ms", refusal.retry_after_ms.unwrap_or_default()),
        _ => refusal.message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{wire::OFFERS_MAX, *};
    use crate::protocol::PeerName;

    /// One tracker connection, and what stands for the server behind it.
    struct Peer {
        tracker: Tracker,
        id: PeerId,
        heard: Vec<Value>,
    }

    /// As much of a swarm as a test needs: who is in it, under which name, with all or not.
    #[derive(Default)]
    struct Swarm {
        members: Vec<(usize, PeerName, bool)>,
        completed: usize,
    }

    impl Peer {
        fn new() -> Self {
            Self { tracker: Tracker::default(), id: PeerId::random(), heard: vec![] }
        }

        fn wishes(&self, text: &str) -> Result<Vec<Wish>, Refusal> {
            match self.tracker.decode(LentFrame::Text(text.as_bytes()), 8)? {
                Heard::Wishes(wishes) => Ok(wishes),
                Heard::Request(_) => panic!("no message of ours"),
            }
        }

        fn hear(&mut self, frames: &Frames) {
            self.heard.extend(frames.as_slice().iter().map(|frame| serde_json::from_slice::<Value>(frame.bytes()).unwrap()));
        }

        fn tell(&mut self, message: ServerMessage) {
            let frames = self.tracker.spell(&message);
            self.hear(&frames);
        }
    }

    fn room(name: &str) -> RoomId {
        RoomId::parse_in(NAME, name, 128).unwrap()
    }

    fn refused(code: ErrorCode) -> ServerMessage<'static> {
        ServerMessage::Error(Refusal::new(None, code, "why"))
    }

    /// Carries out what a peer says, in the only swarm there is. Nobody's place is by chance.
    fn say(peers: &mut [Peer], swarm: &mut Swarm, who: usize, text: &str) {
        let wishes = match peers[who].wishes(text) {
            Ok(wishes) => wishes,
            Err(refusal) => return peers[who].tell(ServerMessage::Error(refusal)),
        };
        for Wish { id, deed } in wishes {
            match deed {
                Deed::Join { room: name, metadata, claim: Some(claim), seats: None } => {
                    assert_eq!((claim.if_taken, &claim.secret), (IfTaken::Refused, &None));
                    let claimed = PeerName::parse(&claim.name, 128).unwrap();
                    if swarm.members.iter().any(|(_, name, _)| *name == claimed) {
                        peers[who].tell(refused(ErrorCode::NameTaken));
                        continue;
                    }
                    swarm.members.push((who, claimed, metadata.is_some()));
                    let joined = ServerMessage::Joined { room: room(&name), peer_id: peers[who].id, peers: vec![], relays_only: false };
                    let frames = peers[who].tracker.encode(&Envelope::new(joined));
                    peers[who].hear(&frames);
                }
                Deed::Rename { name, .. } => {
                    let claimed = PeerName::parse(&name, 128).unwrap();
                    if swarm.members.iter().any(|(_, name, _)| *name == claimed) {
                        peers[who].tell(refused(ErrorCode::NameTaken));
                        return;
                    }
                    swarm.members.iter_mut().find(|(member, ..)| *member == who).unwrap().1 = claimed;
                    peers[who].tell(ServerMessage::Ack { id: id.unwrap() });
                }
                Deed::Leave { room: Some(name) } => {
                    swarm.members.retain(|(member, ..)| *member != who);
                    peers[who].tell(ServerMessage::Left { room: room(&name), reason: crate::protocol::LeaveReason::Left });
                }
                Deed::Metadata { metadata, .. } => {
                    swarm.members.iter_mut().find(|(member, ..)| *member == who).unwrap().2 = metadata.is_some();
                    swarm.completed += usize::from(metadata.is_some());
                }
                Deed::Count { rooms } => {
                    let with_metadata = swarm.members.iter().filter(|(.., has_all)| *has_all).count();
                    let census = Census { peers: swarm.members.len(), with_metadata, got_metadata: swarm.completed };
                    let nobody = "0".repeat(40);
                    let count = |name: String| (room(&name), if name == nobody { Census::default() } else { census });
                    peers[who].tell(ServerMessage::Counted { rooms: rooms.into_iter().map(count).collect() });
                }
                Deed::Forward { kind, to, room: Some(name), payload } => {
                    let Some((_, sender, _)) = swarm.members.iter().find(|(member, ..)| *member == who).cloned() else {
                        peers[who].tell(refused(ErrorCode::NotInRoom));
                        continue;
                    };
                    let target = match to {
                        To::Place { place, .. } => {
                            swarm.members.iter().filter(|(member, ..)| *member != who).nth(place).map(|found| found.0)
                        }
                        To::Peer(id) => peers.iter().position(|peer| peer.id == id),
                        To::Name(name) => panic!("{name}"),
                    };
                    let Some(target) = target else {
                        peers[who].tell(refused(ErrorCode::NoSuchPeer));
                        continue;
                    };
                    let from = peers[who].id;
                    let message = ServerMessage::Forwarded { kind, from, room: room(&name), payload, to: None, best_effort: false };
                    let frames = peers[target].tracker.encode(&Envelope::new(message).with(Some(sender), 0));
                    peers[target].hear(&frames);
                    if let Some(id) = id {
                        peers[who].tell(ServerMessage::Ack { id });
                    }
                }
                deed => panic!("{deed:?}"),
            }
        }
    }

    fn pair() -> (Vec<Peer>, Swarm) {
        (vec![Peer::new(), Peer::new()], Swarm::default())
    }

    fn announce(peer: &str, more: &str) -> String {
        format!(r#"{{"action":"announce","info_hash":"{0:x<20}","peer_id":"{peer:x<20}"{more}}}"#, "h")
    }

    const OFFER: &str = r#","offers":[{"offer":{"type":"offer","sdp":"v=0"},"offer_id":"o1"}]"#;

    fn answer(peer: &str, to: &str, offer_id: &str) -> String {
        announce(peer, &format!(r#","to_peer_id":"{to:x<20}","answer":{{"type":"answer"}},"offer_id":{offer_id}"#))
    }

    fn told(peer: &mut Peer) -> Vec<Value> {
        mem::take(&mut peer.heard)
    }

    /// Captured from `bittorrent-tracker` 11.2.3 in two pages of Chromium, one with a file and one that gets it, up to the other server's answers.
    #[test]
    fn a_captured_conversation_goes_as_it_went() {
        let (mut peers, mut swarm) = pair();
        let mut lines = 0;
        for line in include_str!("../../../tests/fixtures/tracker/bittorrent-tracker.jsonl").lines() {
            let [who, way, text]: [String; 3] = serde_json::from_str(line).unwrap();
            let who = usize::from(who == "leecher");
            if way == "sent" {
                say(&mut peers, &mut swarm, who, &text);
            } else {
                let heard = &mut peers[who].heard;
                assert!(!heard.is_empty(), "{text}");
                assert_eq!(heard.remove(0), serde_json::from_str::<Value>(&text).unwrap());
            }
            lines += 1;
        }
        assert!(lines > 10 && peers.iter().all(|peer| peer.heard.is_empty()) && swarm.members.is_empty());
    }

    #[test]
    fn an_offer_is_answered_once_and_by_nobody_else() {
        let (mut peers, mut swarm) = pair();
        peers.push(Peer::new());
        say(&mut peers, &mut swarm, 0, &announce("a", ""));
        say(&mut peers, &mut swarm, 1, &announce("b", OFFER));
        say(&mut peers, &mut swarm, 2, &announce("c", ""));
        assert_eq!(told(&mut peers[0])[1]["offer_id"], "o1");
        told(&mut peers[1]);
        told(&mut peers[2]);
        // The same text, spelled in another way.
        let right = answer("a", "b", r#""\u006f1""#);
        for wrong in [answer("a", "b", r#""o2""#), answer("a", "c", r#""o1""#), answer("a", "b", "1"), answer("b", "b", r#""o1""#)] {
            say(&mut peers, &mut swarm, 0, &wrong);
            assert!(told(&mut peers[0])[0]["failure reason"].is_string(), "{wrong}");
        }
        say(&mut peers, &mut swarm, 2, &answer("c", "b", r#""o1""#));
        assert!(told(&mut peers[2])[0]["failure reason"].is_string(), "it was not offered this");
        assert!(told(&mut peers[1]).is_empty());
        say(&mut peers, &mut swarm, 0, &right);
        assert!(told(&mut peers[0]).is_empty(), "an answer has no answer");
        assert_eq!(told(&mut peers[1])[0]["answer"], json!({ "type": "answer" }));
        say(&mut peers, &mut swarm, 0, &right);
        assert!(told(&mut peers[0])[0]["failure reason"].is_string());
        assert!(told(&mut peers[1]).is_empty());
    }

    #[test]
    fn an_answer_that_is_too_soon_may_be_said_again() {
        let (mut peers, mut swarm) = pair();
        say(&mut peers, &mut swarm, 0, &announce("a", ""));
        say(&mut peers, &mut swarm, 1, &announce("b", OFFER));
        told(&mut peers[0]);
        told(&mut peers[1]);
        let text = answer("a", "b", r#""o1""#);
        peers[0].wishes(&text).unwrap();
        peers[0].tell(refused(ErrorCode::RateLimited));
        assert_eq!(told(&mut peers[0])[0]["info_hash"], format!("{:x<20}", "h"));
        say(&mut peers, &mut swarm, 0, &text);
        assert_eq!(told(&mut peers[1]).len(), 1);
    }

    #[test]
    fn only_so_many_offers_are_remembered_and_passed_on() {
        let (mut peers, mut swarm) = pair();
        say(&mut peers, &mut swarm, 0, &announce("a", ""));
        let more = OFFERED_MAX + 1;
        for i in 0..more {
            say(&mut peers, &mut swarm, 1, &announce("b", &format!(r#","offers":[{{"offer":1,"offer_id":{i}}}]"#)));
        }
        assert_eq!(peers[0].tracker.memory().offered.len(), OFFERED_MAX);
        assert!(peers[0].wishes(&answer("a", "b", "0")).is_err());
        assert!(peers[0].wishes(&answer("a", "b", "1")).is_ok());
        let offers = vec![r#"{"offer":{},"offer_id":"o"}"#; OFFERS_MAX + 5].join(",");
        let wishes = peers[1].wishes(&announce("b", &format!(r#","offers":[1,{{}},{offers}]"#))).unwrap();
        let places: Vec<_> = wishes
            .iter()
            .filter_map(|wish| match wish.deed {
                Deed::Forward { to: To::Place { place, .. }, .. } => Some(place),
                _ => None,
            })
            .collect();
        assert_eq!(places, Vec::from_iter(0..OFFERS_MAX));
    }

    #[test]
    fn who_has_all_is_complete_whatever_says_so() {
        for (more, complete) in [
            (r#","left":0"#, 1),
            (r#","left":"0""#, 1),
            (r#","left":0.0"#, 1),
            (r#","left":null"#, 0),
            (r#","left":7"#, 0),
            (r#","left":"much""#, 0),
            (r#","left":[]"#, 0),
            ("", 0),
            (r#","event":"completed""#, 0),
            (r#","event":"completed","left":0"#, 1),
        ] {
            let (mut peers, mut swarm) = pair();
            say(&mut peers, &mut swarm, 0, &announce("a", more));
            assert_eq!(told(&mut peers[0])[0]["complete"], complete, "{more}");
        }
        let (mut peers, mut swarm) = pair();
        for (more, complete) in
            [(r#","event":"started","left":5"#, 0), (r#","event":"completed""#, 1), (r#","left":5"#, 1), (r#","event":"completed""#, 1)]
        {
            say(&mut peers, &mut swarm, 0, &announce("a", more));
            assert_eq!(told(&mut peers[0])[0]["complete"], complete, "{more}");
        }
        assert_eq!(swarm.completed, 1);
    }

    #[test]
    fn any_event_may_be_the_first_and_none_may_come_twice() {
        for event in [r#""started""#, r#""completed""#, r#""update""#, r#""paused""#, r#""empty""#, r#""""#, "null"] {
            let (mut peers, mut swarm) = pair();
            for _ in 0..2 {
                say(&mut peers, &mut swarm, 0, &announce("a", &format!(r#","event":{event}"#)));
                let heard = told(&mut peers[0]);
                assert_eq!((heard.len(), &heard[0]["interval"], swarm.members.len()), (1, &json!(120), 1), "{event}");
            }
            for _ in 0..2 {
                say(&mut peers, &mut swarm, 0, &announce("a", r#","event":"stopped""#));
                assert_eq!((&told(&mut peers[0])[0]["incomplete"], swarm.members.len()), (&json!(0), 0), "{event}");
            }
        }
    }

    #[test]
    fn a_peer_id_is_bound_to_its_connection() {
        let (mut peers, mut swarm) = pair();
        say(&mut peers, &mut swarm, 0, &announce("a", ""));
        say(&mut peers, &mut swarm, 1, &announce("a", OFFER));
        let heard = told(&mut peers[1]);
        assert_eq!(heard.len(), 1, "one failure, no counts: {heard:?}");
        assert_eq!((&heard[0]["action"], &heard[0]["info_hash"]), (&json!("announce"), &json!(format!("{:x<20}", "h"))));
        assert!(heard[0]["failure reason"].is_string());
        say(&mut peers, &mut swarm, 1, &announce("a", r#","event":"stopped""#));
        assert_eq!(told(&mut peers[1])[0]["incomplete"], 1, "it stops nobody else");
        // The connection itself may begin anew under another.
        say(&mut peers, &mut swarm, 0, &announce("z", r#","left":0"#));
        assert_eq!(swarm.members.len(), 1);
        say(&mut peers, &mut swarm, 0, &announce("a", r#","event":"stopped""#));
        assert_eq!(told(&mut peers[0]).last().unwrap()["complete"], 1, "the former one is gone already");
    }

    #[test]
    fn a_scrape_is_of_one_or_several_or_none() {
        let (mut peers, mut swarm) = pair();
        say(&mut peers, &mut swarm, 0, &announce("a", r#","left":0"#));
        told(&mut peers[0]);
        let here = json!({ "complete": 1, "incomplete": 0, "downloaded": 0 });
        let nobody = json!({ "complete": 0, "incomplete": 0, "downloaded": 0 });
        let (hash, zeros) = (format!("{:x<20}", "h"), "\u{0}".repeat(20));
        for (info_hash, files) in [
            (json!(hash), json!({ &*hash: here })),
            (json!([hash, zeros, hash]), json!({ &*hash: here, &*zeros: nobody })),
            (json!([]), json!({})),
            (json!(null), json!({})),
        ] {
            say(&mut peers, &mut swarm, 0, &json!({ "action": "scrape", "info_hash": info_hash }).to_string());
            assert_eq!(told(&mut peers[0]), [json!({ "action": "scrape", "files": files, "flags": { "min_request_interval": 600 } })]);
        }
        for wrong in [json!("short"), json!([hash, "short"]), json!([7]), json!(7), json!({})] {
            say(&mut peers, &mut swarm, 0, &json!({ "action": "scrape", "info_hash": wrong }).to_string());
            let heard = told(&mut peers[0]);
            assert_eq!((&heard[0]["action"], heard[0]["failure reason"].is_string()), (&json!("scrape"), true), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_request_fails_and_the_client_can_read_why() {
        let (mut peers, mut swarm) = pair();
        for text in [
            "",
            "[]",
            "{}",
            r#"{"action":7}"#,
            r#"{"action":"dance"}"#,
            r#"{"action":"announce"}"#,
            r#"{"action":"announce","info_hash":"short"}"#,
            r#"{"action":"announce","info_hash":"twenty wide letters ∞"}"#,
            r#"{"action":"announce","info_hash":"01234567890123456789"}"#,
            r#"{"action":"announce","info_hash":"01234567890123456789","peer_id":7}"#,
            &announce("a", r#","event":"dance""#),
            &announce("a", r#","event":7"#),
            &announce("a", r#","answer":{}"#),
            &announce("a", r#","answer":{},"to_peer_id":"01234567890123456789""#),
            &answer("a", "b", r#""o""#),
            &announce("a", r#","offers":[{"offer":[[[[[[[[]]]]]]]],"offer_id":1}]"#),
        ] {
            say(&mut peers, &mut swarm, 0, text);
            let heard = told(&mut peers[0]);
            let [only] = &heard[..] else { panic!("{text}: {heard:?}") };
            assert!(only["action"] == "announce" && only["info_hash"].is_string() && only["failure reason"].is_string(), "{text}: {only}");
            assert!(swarm.members.is_empty());
        }
        for lenient in [r#","offers":7"#, r#","offers":[null,7,{}]"#, r#","answer":null"#, r#","answer":"""#] {
            say(&mut peers, &mut swarm, 0, &announce("a", lenient));
            assert_eq!(told(&mut peers[0])[0]["interval"], 120, "{lenient}");
        }
    }
}
