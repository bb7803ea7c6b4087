//! The rules of membership as plain structs: in goes a command, out come deliveries. No actor, no clock.
//!
//! Only the registry changes a room, one command after another. Sessions that are in a room hold its handle and deliver to each other
//! without asking the registry. The room's lock makes the two agree: a change and its announcements are one step for whoever delivers, so a
//! peer is announced before anything from it arrives, and nothing arrives from or for it once it is gone.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    command::{Answer, Snapshot},
    inlet::{Inlet, Untaken},
    members::{Member, Members},
};
use crate::protocol::{Envelope, ErrorCode, LeaveReason, Payload, Peer, PeerId, RoomId, ServerMessage};

/// The bounds on rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// Rooms of the server.
    pub rooms_max: usize,
    /// Peers in one room.
    pub peers_max: usize,
    /// Metadata of all peers in one room together, in bytes.
    pub metadata_bytes_max: usize,
}

/// All rooms. A room exists while somebody is in it.
pub struct Rooms {
    rooms: HashMap<RoomId, Arc<Room>>,
    limits: RoomLimits,
}

/// The handle of one room.
pub struct Room {
    id: RoomId,
    present: RwLock<Present>,
}

/// A peer that has much to read, and is to be waited for before more is said.
pub type Behind = Arc<dyn Inlet>;

/// What became of a message.
#[derive(Default)]
pub struct Handed {
    /// Why somebody does not have it.
    pub untaken: Option<ErrorCode>,
    /// One of those who are behind, if there are any.
    pub behind: Option<Behind>,
}

/// Who is in a room, and what is kept of them together.
#[derive(Default)]
struct Present {
    members: Members,
    metadata_bytes: usize,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: RoomLimits) -> Self {
        Self { rooms: HashMap::new(), limits }
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Is nobody anywhere?
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Lets a peer in, answers it with those who were there, and announces it to them. The caller has seen to it that the peer is not in the room.
    pub fn join(&mut self, peer_id: PeerId, inlet: Arc<dyn Inlet>, id: RoomId, metadata: Option<Payload>) -> Result<(), ErrorCode> {
        let room = match self.rooms.get(&id) {
            Some(room) => room.clone(),
            None if self.rooms.len() >= self.limits.rooms_max => return Err(ErrorCode::NoMoreRooms),
            None => Arc::new(Room { id: id.clone(), present: RwLock::default() }),
        };
        let mut present = room.present_mut();
        let metadata_bytes = present.metadata_bytes + kept_bytes(metadata.as_ref());
        if present.members.len() >= self.limits.peers_max || metadata_bytes > self.limits.metadata_bytes_max {
            return Err(ErrorCode::RoomFull);
        }
        let newcomer = Peer { peer_id, metadata: metadata.clone() };
        present.announce(peer_id, ServerMessage::PeerJoined { room: id.clone(), peer: newcomer });
        let peers = present.members.iter().map(Member::as_seen).collect();
        // A client that cannot take even this is being closed.
        let _ = inlet.deliver(&Envelope::new(ServerMessage::Joined { room: id.clone(), peer_id, peers }));
        inlet.answer(Answer::Joined(room.clone()));
        present.metadata_bytes = metadata_bytes;
        present.members.add(Member { peer_id, inlet, metadata: metadata.map(Box::new) });
        drop(present);
        self.rooms.entry(id).or_insert(room);
        Ok(())
    }

    /// Takes a peer out and tells the others why, if there is a reason to tell. False if it was not there.
    pub fn leave(&mut self, peer_id: PeerId, id: &RoomId, reason: Option<LeaveReason>) -> bool {
        let Some(room) = self.rooms.get(id) else {
            return false;
        };
        let mut present = room.present_mut();
        let Some(member) = present.members.remove(peer_id) else {
            return false;
        };
        present.metadata_bytes -= kept_bytes(member.metadata.as_deref());
        if let Some(reason) = reason {
            present.announce(peer_id, ServerMessage::PeerLeft { room: id.clone(), peer_id, reason });
        }
        if reason == Some(LeaveReason::Left) {
            let left = Envelope::new(ServerMessage::Left { room: id.clone(), reason: LeaveReason::Left });
            // Who is over its bound is being closed and needs no farewell from a room.
            let _ = member.inlet.deliver(&left);
        }
        let empty = present.members.is_empty();
        drop(present);
        if empty {
            self.rooms.remove(id);
        }
        true
    }

    /// Replaces what others see of a peer, and tells them.
    pub fn update(&mut self, peer_id: PeerId, id: &RoomId, metadata: Option<Payload>) -> Result<(), ErrorCode> {
        let room = self.rooms.get(id).ok_or(ErrorCode::NotInRoom)?;
        let mut present = room.present_mut();
        let Present { members, metadata_bytes } = &mut *present;
        let member = members.find_mut(peer_id).ok_or(ErrorCode::NotInRoom)?;
        let bytes = *metadata_bytes - kept_bytes(member.metadata.as_deref()) + kept_bytes(metadata.as_ref());
        if bytes > self.limits.metadata_bytes_max {
            return Err(ErrorCode::RoomFull);
        }
        *metadata_bytes = bytes;
        member.metadata = metadata.clone().map(Box::new);
        present.announce(peer_id, ServerMessage::PeerUpdated { room: id.clone(), peer: Peer { peer_id, metadata } });
        Ok(())
    }

    /// Who is where.
    pub fn snapshot(&self) -> Snapshot {
        let peers = |room: &Room| room.present().members.iter().map(|member| member.peer_id).collect();
        self.rooms.iter().map(|(id, room)| (id.clone(), peers(room))).collect()
    }
}

impl Room {
    /// Its name.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Hands a message to one peer of this room, other than its sender. One that is `alone` has no other behind it that came with it.
    pub fn forward(&self, from: PeerId, to: PeerId, message: ServerMessage, alone: bool) -> Result<Handed, ErrorCode> {
        let present = self.present();
        let member = present.members.find(to).filter(|_| to != from).ok_or(ErrorCode::NoSuchPeer)?;
        let envelope = if alone { Envelope::alone(message) } else { Envelope::new(message) };
        member.inlet.deliver(&envelope).map_err(|untaken| match untaken {
            Untaken::Overflow => ErrorCode::Undeliverable,
            Untaken::Gone => ErrorCode::NoSuchPeer,
        })?;
        Ok(Handed { untaken: None, behind: member.inlet.is_behind().then(|| member.inlet.clone()) })
    }

    /// Hands a message to everybody in this room but its sender. If some do not take it, the others have it all the same.
    pub fn broadcast(&self, from: PeerId, message: ServerMessage) -> Handed {
        let present = self.present();
        let untaken = (present.announce(from, message) > 0).then_some(ErrorCode::Undeliverable);
        // One that takes nothing any more is no reason not to wait for the others.
        let behind = present.others(from).find(|member| member.inlet.is_behind()).map(|member| member.inlet.clone());
        Handed { untaken, behind }
    }

    // A panic while the lock is held is a bug: at worst somebody was announced who is not there. The bookkeeping behind it is whole.
    fn present(&self) -> RwLockReadGuard<'_, Present> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn present_mut(&self) -> RwLockWriteGuard<'_, Present> {
        self.present.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Tells everybody but `about`; how many were over their bounds.
    fn announce(&self, about: PeerId, message: ServerMessage) -> usize {
        let mut others = self.others(about).peekable();
        if others.peek().is_none() {
            return 0;
        }
        let envelope = Envelope::new(message);
        others.filter(|member| member.inlet.deliver(&envelope) == Err(Untaken::Overflow)).count()
    }

    fn others(&self, than: PeerId) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.peer_id != than)
    }
}

impl Member {
    fn as_seen(&self) -> Peer {
        Peer { peer_id: self.peer_id, metadata: self.metadata.as_deref().cloned() }
    }
}

fn kept_bytes(metadata: Option<&Payload>) -> usize {
    metadata.map_or(0, Payload::kept_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        protocol::{Codec, Kind},
        registry::drain::DrainWindow,
    };

    /// Remembers what it is told, as JSON; takes nothing once it is full.
    #[derive(Default)]
    struct Ear {
        heard: Mutex<Vec<String>>,
        full: bool,
        room: Mutex<Option<Arc<Room>>>,
    }

    impl Inlet for Ear {
        fn deliver(&self, envelope: &Envelope) -> Result<(), Untaken> {
            if self.full {
                return Err(Untaken::Overflow);
            }
            let text = String::from_utf8(envelope.spell(Codec::Json).to_vec()).unwrap();
            self.heard.lock().unwrap().push(text);
            Ok(())
        }

        fn answer(&self, answer: Answer) {
            if let Answer::Joined(room) = answer {
                *self.room.lock().unwrap() = Some(room);
            }
        }

        fn drain(&self, _: DrainWindow) {}
    }

    impl Ear {
        fn heard(&self) -> Vec<String> {
            std::mem::take(&mut self.heard.lock().unwrap())
        }

        fn room(&self) -> Arc<Room> {
            self.room.lock().unwrap().clone().expect("joined")
        }
    }

    const LIMITS: RoomLimits = RoomLimits { rooms_max: 2, peers_max: 2, metadata_bytes_max: 4 };

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 10).unwrap()
    }

    fn digits(value: u64) -> Option<Payload> {
        Some(Payload::from_serialize(&value).unwrap())
    }

    fn join(rooms: &mut Rooms, name: &str, metadata: Option<Payload>) -> Result<(PeerId, Arc<Ear>), ErrorCode> {
        let (peer_id, ear) = (PeerId::random(), Arc::new(Ear::default()));
        rooms.join(peer_id, ear.clone(), room(name), metadata).map(|()| (peer_id, ear))
    }

    #[test]
    fn a_newcomer_hears_who_is_there_and_they_hear_of_it() {
        let mut rooms = Rooms::new(LIMITS);
        let (a, ear_a) = join(&mut rooms, "r", digits(7)).unwrap();
        let (b, ear_b) = join(&mut rooms, "r", None).unwrap();
        assert_eq!(ear_a.heard()[1..], [format!(r#"{{"type":"peer-joined","room":"r","peerId":"{b}"}}"#)]);
        let joined = format!(r#"{{"type":"joined","room":"r","peerId":"{b}","peers":[{{"peerId":"{a}","metadata":7}}]}}"#);
        assert_eq!(ear_b.heard(), [joined]);
        assert!(rooms.leave(b, &room("r"), Some(LeaveReason::Left)));
        assert!(!rooms.leave(b, &room("r"), Some(LeaveReason::Left)));
        assert_eq!(ear_a.heard(), [format!(r#"{{"type":"peer-left","room":"r","peerId":"{b}","reason":"left"}}"#)]);
        assert_eq!(ear_b.heard(), [r#"{"type":"left","room":"r","reason":"left"}"#]);
        assert!(rooms.leave(a, &room("r"), Some(LeaveReason::Timeout)));
        assert!(ear_a.heard().is_empty() && rooms.is_empty());
    }

    #[test]
    fn who_leaves_without_a_reason_leaves_in_silence() {
        let mut rooms = Rooms::new(LIMITS);
        let (_, ear_a) = join(&mut rooms, "r", None).unwrap();
        let (b, _) = join(&mut rooms, "r", None).unwrap();
        ear_a.heard();
        assert!(rooms.leave(b, &room("r"), None));
        assert!(ear_a.heard().is_empty());
        assert_eq!(ear_a.room().forward(PeerId::random(), b, ServerMessage::Ack { id: 1 }, false).err(), Some(ErrorCode::NoSuchPeer));
    }

    #[test]
    fn bounds_hold_at_their_value_and_refuse_one_past_it() {
        let mut rooms = Rooms::new(LIMITS);
        let refusal = |joined: Result<(PeerId, Arc<Ear>), ErrorCode>| joined.err();
        join(&mut rooms, "a", digits(123)).unwrap();
        assert_eq!(refusal(join(&mut rooms, "a", digits(12))), Some(ErrorCode::RoomFull), "metadata of 5 bytes");
        let (peer_id, _) = join(&mut rooms, "a", digits(1)).unwrap();
        assert_eq!(rooms.update(peer_id, &room("a"), digits(12)), Err(ErrorCode::RoomFull));
        assert_eq!(rooms.update(peer_id, &room("a"), digits(2)), Ok(()));
        assert_eq!(refusal(join(&mut rooms, "a", None)), Some(ErrorCode::RoomFull), "a third peer");
        join(&mut rooms, "b", None).unwrap();
        assert_eq!(refusal(join(&mut rooms, "c", None)), Some(ErrorCode::NoMoreRooms));
        assert_eq!(rooms.len(), 2);
        assert!(rooms.leave(peer_id, &room("a"), Some(LeaveReason::Left)));
        join(&mut rooms, "a", digits(1)).unwrap();
    }

    #[test]
    fn a_message_reaches_its_peer_and_never_its_sender() {
        let mut rooms = Rooms::new(LIMITS);
        let (a, ear_a) = join(&mut rooms, "r", None).unwrap();
        let (b, ear_b) = join(&mut rooms, "r", None).unwrap();
        let (c, ear_c) = join(&mut rooms, "s", None).unwrap();
        for ear in [&ear_a, &ear_b, &ear_c] {
            ear.heard();
        }
        let message = || ServerMessage::Forwarded {
            kind: Kind::Offer,
            from: a,
            room: room("r"),
            payload: digits(1).unwrap(),
            to: None,
            best_effort: false,
        };
        assert!(ear_a.room().forward(a, b, message(), false).is_ok());
        assert_eq!(ear_a.room().forward(a, a, message(), false).err(), Some(ErrorCode::NoSuchPeer));
        assert_eq!(ear_a.room().forward(a, c, message(), false).err(), Some(ErrorCode::NoSuchPeer));
        assert_eq!(ear_a.room().broadcast(a, message()).untaken, None);
        assert_eq!((ear_a.heard().len(), ear_b.heard().len(), ear_c.heard().len()), (0, 2, 0));
    }

    /// While one that read nothing was being closed, a broadcast waited for nobody, and others that did read were closed as well.
    #[test]
    fn one_that_takes_nothing_does_not_hide_another_that_is_behind() {
        let mut rooms = Rooms::new(RoomLimits { peers_max: 3, ..LIMITS });
        struct Late(bool);
        impl Inlet for Late {
            fn deliver(&self, _: &Envelope) -> Result<(), Untaken> {
                if self.0 { Err(Untaken::Overflow) } else { Ok(()) }
            }
            fn is_behind(&self) -> bool {
                !self.0
            }
            fn answer(&self, _: Answer) {}
            fn drain(&self, _: DrainWindow) {}
        }
        let (a, ear_a) = join(&mut rooms, "r", None).unwrap();
        for is_mute in [true, false] {
            rooms.join(PeerId::random(), Arc::new(Late(is_mute)), room("r"), None).unwrap();
        }
        let handed = ear_a.room().broadcast(a, ServerMessage::Ack { id: 1 });
        assert_eq!((handed.untaken, handed.behind.is_some()), (Some(ErrorCode::Undeliverable), true));
    }

    #[test]
    fn who_sends_to_a_peer_that_takes_nothing_is_told() {
        let mut rooms = Rooms::new(LIMITS);
        let (a, ear_a) = join(&mut rooms, "r", None).unwrap();
        let deaf = PeerId::random();
        struct Deaf;
        impl Inlet for Deaf {
            fn deliver(&self, _: &Envelope) -> Result<(), Untaken> {
                Err(Untaken::Overflow)
            }
            fn answer(&self, _: Answer) {}
            fn drain(&self, _: DrainWindow) {}
        }
        rooms.join(deaf, Arc::new(Deaf), room("r"), None).unwrap();
        assert_eq!(ear_a.room().forward(a, deaf, ServerMessage::Ack { id: 1 }, false).err(), Some(ErrorCode::Undeliverable));
        assert_eq!(ear_a.room().broadcast(a, ServerMessage::Ack { id: 1 }).untaken, Some(ErrorCode::Undeliverable));
    }
}
