//! What foreign clients want beyond what ours do: names, messages to everybody or to anybody, and messages that wait a while for a peer who is not
//! there.
//!
//! A message that waits is kept by its sender, and tried again until its time is over; then it is refused as it would have been at once. What
//! waits for one peer stays in order, and its time is over together.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{Hearing, Moment, Outcome, allowed, forwarded};
use crate::{
    dialect::{Claim, Deed, IfTaken, Manners, To, Wish},
    metrics::{Said, TokenFailure},
    protocol::{CloseCode, ErrorCode, Kind, Payload, PeerName, Refusal, RoomId, ServerMessage},
    registry::{
        command::{Count, Deliver, Rename},
        rooms::{self, Behind, Callee, Entry, Standing},
    },
};

/// Messages of one client to peers that are not there yet.
#[derive(Default)]
pub struct Patience {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    id: Option<u64>,
    kind: Kind,
    to: String,
    room: Option<String>,
    payload: Payload<'static>,
    since: Instant,
}

/// How often they are tried again.
pub const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// What a message takes beside its payload while it waits, about.
const OVERHEAD_BYTES: usize = 256;

impl Hearing {
    /// Deals with one, and tells the peer that is to be waited for behind it.
    pub(super) fn wish(&mut self, Wish { id, deed }: Wish, at: Moment) -> Option<Behind> {
        let now = at.now;
        if deed.costs_a_join()
            && !std::mem::take(&mut self.has_paid_join)
            && let Some(throttle) = &mut self.throttle
            && let Err(too_soon) = throttle.take(0, self.joins.as_deref(), now)
        {
            self.slow_down(id, too_soon, now);
            return None;
        }
        let outcome = match deed {
            // Where clients have tokens that is theirs, which let it in, and is too long here.
            Deed::Join { claim: Some(claim), .. } if self.grant.is_some() && self.is_too_long(&claim) => {
                self.backlog.metrics().token_failed(TokenFailure::TooLong);
                self.give_up(CloseCode::Unauthorized, now);
                return None;
            }
            Deed::Join { room, metadata, claim, seats } => self.enter(&room, metadata, claim, seats),
            Deed::Rename { room, name } => self.rename(&room, &name),
            Deed::List { room } => self.state.room(Some(&room)).and_then(|room| room.list(self.peer_id)).map(|()| Outcome::Done),
            Deed::Leave { room } => self.leave(room.as_deref()),
            Deed::Forward { kind, to, room, payload } => self.call(Waiting::new(id, kind, room, payload, now), to, at),
            Deed::Broadcast { kind, room, payload, echo } => self.call_all(kind, room.as_deref(), payload, echo, at),
            Deed::Metadata { room, metadata } => self.describe(room.as_deref(), metadata),
            Deed::Count { rooms } => {
                let rooms = rooms.iter().filter_map(|room| self.room_id(room)).collect();
                self.ask(Count { inlet: self.delivery.clone(), rooms });
                Ok(Outcome::Awaits { joining: None })
            }
            Deed::Renew { token } => Ok(self.ask_to_renew(token)),
            Deed::Ping => {
                self.delivery.tell(&ServerMessage::Pong { received: self.received });
                Ok(Outcome::Done)
            }
            Deed::Say(frames) => {
                self.delivery.tell_frames(frames);
                Ok(Outcome::Done)
            }
            Deed::Refuse(refusal) => {
                self.tell_refusal(refusal);
                return None;
            }
            Deed::Close(code) => {
                self.give_up(code, now);
                return None;
            }
        };
        self.conclude(id, outcome)
    }

    /// Counts each as what it amounts to.
    pub(super) fn count_wishes<'a>(&self, wishes: impl Iterator<Item = &'a Wish>) {
        for wish in wishes {
            let said = match &wish.deed {
                Deed::Join { .. } => Said::Join,
                Deed::Leave { .. } => Said::Leave,
                Deed::Forward { kind, .. } | Deed::Broadcast { kind, .. } => (*kind).into(),
                Deed::Metadata { .. } => Said::Metadata,
                Deed::Renew { .. } => Said::Hello,
                Deed::Ping => Said::Ping,
                Deed::Rename { .. } | Deed::List { .. } | Deed::Count { .. } => Said::Foreign,
                Deed::Refuse(_) => Said::Malformed,
                // What the dialect deals with by itself.
                Deed::Say(_) | Deed::Close(_) => continue,
            };
            self.backlog.metrics().received(said);
        }
    }

    fn room_id(&self, name: &str) -> Option<RoomId> {
        let bytes_max = self.shared.settings.room_name_bytes_max;
        match self.dialect.manners().rooms_of {
            Some(dialect) => RoomId::parse_in(dialect, name, bytes_max),
            None => RoomId::parse(name, bytes_max),
        }
    }

    fn enter(&mut self, room: &str, metadata: Option<Payload>, claim: Option<Claim>, seats: Option<usize>) -> Result<Outcome, ErrorCode> {
        let room = self.room_id(room).ok_or(ErrorCode::BadRoomName)?;
        let claim = match claim {
            Some(claim) if self.is_too_long(&claim) => return Err(ErrorCode::MetadataTooLarge),
            Some(Claim { name, secret, if_taken }) => {
                let name = PeerName::parse(&name, self.shared.settings.room_name_bytes_max).ok_or(ErrorCode::BadRoomName)?;
                Some(rooms::Claim { name, secret, insists: if_taken == IfTaken::Refused })
            }
            None => None,
        };
        let Manners { is_quiet, broadcasts, .. } = self.dialect.manners();
        self.join(room, metadata, Entry { claim, is_quiet, broadcasts, seats, ..Entry::default() })
    }

    /// Is its secret longer than what is kept of a peer?
    fn is_too_long(&self, claim: &Claim) -> bool {
        claim.secret.as_ref().is_some_and(|secret| secret.len() > self.shared.settings.metadata_bytes_max)
    }

    fn rename(&mut self, room: &str, name: &str) -> Result<Outcome, ErrorCode> {
        let room = self.state.room(Some(room))?.id().clone();
        let name = PeerName::parse(name, self.shared.settings.room_name_bytes_max).ok_or(ErrorCode::BadRoomName)?;
        self.ask(Rename { peer_id: self.peer_id, inlet: self.delivery.clone(), room, name });
        Ok(Outcome::Awaits { joining: None })
    }

    fn call_all(&self, kind: Kind, room: Option<&str>, payload: Payload, echo: bool, at: Moment) -> Result<Outcome, ErrorCode> {
        let (room, Standing { name, turn, rights }) = self.state.place(room)?;
        allowed(rights.broadcast)?;
        let message = forwarded(kind, self.peer_id, room, payload, None, false);
        // Entering a room and saying so in one breath is one step to who does it: of two that come at once, one is the first, and hears the other.
        let before = (self.is_with_join && self.dialect.manners().broadcasts).then_some(*turn);
        Ok(Outcome::Handed(room.broadcast_from(self.peer_id, name.clone(), self.timed(message, at), echo, before)))
    }

    fn call(&mut self, message: Waiting, to: To, at: Moment) -> Result<Outcome, ErrorCode> {
        match to {
            To::Peer(peer_id) => self.hand(&message, &Callee::Peer(peer_id), Some(at)),
            To::Place { seed, place } => self.hand(&message, &Callee::Place { seed, place }, Some(at)),
            To::Name(name) => {
                let is_behind = self.patience.waiting.iter().any(|waiting| waiting.to == name);
                let outcome = if is_behind { Err(ErrorCode::NoSuchPeer) } else { self.hand(&message, &Callee::Named(&name), Some(at)) };
                let bytes = self.patience.bytes + message.bytes();
                // What waits is for a connection to begin. The application's own is for peers that are there.
                let may_wait = message.kind != Kind::Message && !self.dialect.manners().patience.is_zero();
                match outcome {
                    Err(ErrorCode::NoSuchPeer) if may_wait && bytes <= self.shared.settings.outbox_bytes_max => {}
                    Err(code) => {
                        self.refuse_about(message.id, code, name);
                        return Ok(Outcome::Later);
                    }
                    handed => return handed,
                }
                if self.patience.waiting.is_empty() {
                    self.delivery.session().do_send(Deliver::Patience);
                }
                self.patience.bytes = bytes;
                self.patience.waiting.push_back(Waiting { to: name, ..message });
                Ok(Outcome::Later)
            }
        }
    }

    /// Hands it over. How long it takes is of interest unless it waited for its peer to come.
    fn hand(&self, Waiting { kind, room, payload, .. }: &Waiting, to: &Callee<'_>, at: Option<Moment>) -> Result<Outcome, ErrorCode> {
        let (room, standing) = self.state.place(room.as_deref())?;
        allowed(standing.rights.publish)?;
        let message = forwarded(*kind, self.peer_id, room, payload.clone(), None, false);
        let message = match at {
            Some(at) => self.timed(message, at),
            None => message.into(),
        };
        room.forward_to(self.peer_id, standing.name.clone(), to, message).map(Outcome::Handed)
    }

    /// Tries what waits for peers that were not there, and gives up what has waited for its time. Does anything still wait?
    pub fn try_again(&mut self, now: Instant) -> bool {
        let patience = self.dialect.manners().patience;
        let waiting = std::mem::take(&mut self.patience);
        let (mut absent, mut given_up) = (HashSet::new(), HashSet::new());
        for message in waiting.waiting {
            let outcome = match absent.contains(&message.to) {
                true => Err(ErrorCode::NoSuchPeer),
                false => self.hand(&message, &Callee::Named(&message.to), None),
            };
            match outcome {
                Err(ErrorCode::NoSuchPeer) => {}
                Err(code) => {
                    self.refuse_about(message.id, code, message.to);
                    continue;
                }
                handed => {
                    self.conclude(message.id, handed);
                    continue;
                }
            }
            let is_first = absent.insert(message.to.clone());
            if is_first && now.duration_since(message.since) >= patience {
                given_up.insert(message.to.clone());
                self.refuse_about(message.id, ErrorCode::NoSuchPeer, message.to);
            } else if !given_up.contains(&message.to) {
                self.patience.bytes += message.bytes();
                self.patience.waiting.push_back(message);
            }
        }
        !self.patience.waiting.is_empty()
    }

    /// Refuses a message, and tells for whom it was.
    fn refuse_about(&self, id: Option<u64>, code: ErrorCode, peer: String) {
        self.tell_refusal(Refusal { peer: Some(peer), ..Refusal::new(id, code, self.explain(code)) });
    }
}

impl Waiting {
    fn new(id: Option<u64>, kind: Kind, room: Option<String>, payload: Payload, since: Instant) -> Self {
        Self { id, kind, to: String::new(), room, payload: payload.detached(), since }
    }

    fn bytes(&self) -> usize {
        self.payload.len() + self.to.len() + OVERHEAD_BYTES
    }
}
