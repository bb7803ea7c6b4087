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
    members::{Apart, Member, Members, PeerIdHasher},
    view::{self, MemberView, Page, RoomEvent, RoomView, Tally, Watched, Watcher},
};
use crate::auth::{Rights, RoomPattern};
use crate::metrics::Metrics;
use crate::protocol::{Census, Envelope, ErrorCode, Kind, LeaveReason, Payload, Peer, PeerId, PeerName, RoomId, ServerMessage};

/// The bounds on rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// Rooms of the server.
    pub rooms_max: usize,
    /// Peers in one room.
    pub peers_max: usize,
    /// Metadata of all peers in one room together, in bytes.
    pub metadata_bytes_max: usize,
    /// Peers in one quiet room, where nobody is told of the others, nor speaks to all of them.
    pub quiet_peers_max: usize,
}

/// All rooms. A room exists while somebody is in it.
pub struct Rooms {
    rooms: HashMap<RoomId, Arc<Room>>,
    /// Of those who asked for a room with so many seats: the one that still has some.
    filling: HashMap<RoomId, RoomId>,
    /// Where they are: a session that ends before it was answered knows only what it asked for.
    seated: HashMap<PeerId, RoomId, PeerIdHasher>,
    /// Who watches from outside, by room. Most often nobody does.
    watchers: HashMap<RoomId, Vec<Arc<dyn Watcher>>>,
    /// The rooms in which nobody's address is to be shown.
    relay_only: Vec<RoomPattern>,
    limits: RoomLimits,
    metrics: Arc<Metrics>,
}

/// The handle of one room.
pub struct Room {
    id: RoomId,
    /// Is nobody told who is there?
    is_quiet: bool,
    /// Is nobody's address to be shown?
    relays_only: bool,
    /// Whoever wants a room of this name, for so many, comes here as long as there are seats.
    fills: Option<RoomId>,
    present: RwLock<Present>,
}

/// How a peer enters a room.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What the others see of it.
    pub metadata: Option<Payload<'static>>,
    /// The name that it wants.
    pub claim: Option<Claim>,
    /// Does it enter a quiet room?
    pub is_quiet: bool,
    /// Does it speak to all of a room at once?
    pub broadcasts: bool,
    /// It wants a room of this name with so many seats. It is in no other room.
    pub seats: Option<usize>,
    /// Who it is for the application. It counts as metadata.
    pub user: Option<Arc<str>>,
    /// What it may do there.
    pub rights: Rights,
    /// With so many peers the room is full for it, where that is less than for others.
    pub peers_max: Option<usize>,
}

/// A name that a peer wants to have in a room.
#[derive(Clone, Debug)]
pub struct Claim {
    pub name: PeerName,
    /// Who knows it takes the name over from whoever has it. For quiet rooms: nobody is told of the change.
    pub secret: Option<String>,
    /// Does it rather stay out than be there without the name?
    pub insists: bool,
}

/// A peer that has much to read, and is to be waited for before more is said.
pub type Behind = Arc<dyn Inlet>;

/// Whom a foreign client means.
pub enum Callee<'a> {
    /// The peer with this id.
    Peer(PeerId),
    /// The peer with this name, or this id.
    Named(&'a str),
    /// The peer at this place among the others, counted from where the seed says.
    Place { seed: usize, place: usize },
}

/// What a peer is in a room that it has entered.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name, if it has one there.
    pub name: Option<PeerName>,
    /// Which of all who ever entered it is.
    pub turn: u64,
    /// What it may do there.
    pub rights: Rights,
}

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
    /// How many have metadata, and how often one that had none got some.
    with_metadata: usize,
    got_metadata: usize,
    /// How many have ever entered.
    entered: u64,
    /// What is said here, while somebody watches.
    tally: Option<Arc<Tally>>,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: RoomLimits) -> Self {
        Self {
            rooms: HashMap::new(),
            filling: HashMap::new(),
            seated: HashMap::default(),
            watchers: HashMap::new(),
            relay_only: vec![],
            limits,
            metrics: Arc::default(),
        }
    }

    /// With the metrics that tell how many rooms there are. They do before anybody is told of it.
    pub fn counted_in(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// With the rooms in which nobody's address is to be shown: whoever enters one is told so.
    pub fn relaying(self, relay_only: Vec<RoomPattern>) -> Self {
        Self { relay_only, ..self }
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
    pub fn join(&mut self, peer_id: PeerId, inlet: Arc<dyn Inlet>, id: RoomId, entry: Entry) -> Result<(), ErrorCode> {
        let wanted = id;
        let id = match entry.seats {
            Some(_) => self.filling.get(&wanted).cloned().unwrap_or_else(|| wanted.another()),
            None => wanted.clone(),
        };
        let Entry { metadata, claim, is_quiet, broadcasts, seats, user, rights, peers_max } = entry;
        let found = self.rooms.get(&id).cloned();
        let is_new = found.is_none();
        let room = match found {
            Some(room) => room,
            None if self.rooms.len() >= self.limits.rooms_max => return Err(ErrorCode::NoMoreRooms),
            None => Arc::new(Room {
                id: id.clone(),
                is_quiet,
                relays_only: self.relay_only.iter().any(|rooms| rooms.is_for(id.name())),
                fills: seats.map(|_| wanted.clone()),
                present: RwLock::default(),
            }),
        };
        let mut present = room.present_mut();
        let secret = claim.as_ref().and_then(|claim| claim.secret.clone());
        let metadata_bytes = kept_bytes(metadata.as_ref()) + user.as_ref().map_or(0, |user| user.len());
        let any_peers_max = if room.is_quiet && !broadcasts { self.limits.quiet_peers_max } else { self.limits.peers_max };
        let peers_max = peers_max.map_or(any_peers_max, |peers_max| peers_max.min(any_peers_max));
        // Whoever comes back to its name takes the place of who it was.
        let before = claim.as_ref().and_then(|claim| present.owner(claim, user.as_ref())).map(|before| before.peer_id);
        if present.members.len() - usize::from(before.is_some()) >= peers_max
            || (!room.is_quiet && present.metadata_bytes + metadata_bytes > self.limits.metadata_bytes_max)
        {
            return Err(ErrorCode::RoomFull);
        }
        let name = claim.map(|claim| present.give_name(claim, user.as_ref(), is_quiet)).transpose()?.flatten();
        if is_new {
            self.rooms.insert(id.clone(), room.clone());
            self.metrics.rooms(1);
        }
        let mut peers = vec![];
        if !room.is_quiet {
            let newcomer = Peer { peer_id, metadata: metadata.clone(), user: user.clone(), name: name.clone() };
            present.announce(peer_id, Envelope::new(ServerMessage::PeerJoined { room: id.clone(), peer: newcomer }));
            if rights.observe {
                peers.extend(present.members.iter().map(Member::as_seen));
            }
        }
        // A client that cannot take even this is being closed.
        let joined = ServerMessage::Joined { room: id.clone(), peer_id, peers, relays_only: room.relays_only };
        let _ = inlet.deliver(&Envelope::new(joined).with(name.clone(), 0).for_one());
        let turn = present.entered;
        let is_apart = name.is_some() || broadcasts || user.is_some() || rights != Rights::ALL;
        let apart = is_apart.then(|| Box::new(Apart { name: name.clone(), secret, turn, user, rights }));
        present.entered += 1;
        inlet.answer(Answer::Joined(room.clone(), Standing { name: name.clone(), turn, rights }));
        present.metadata_bytes += metadata_bytes;
        present.with_metadata += usize::from(metadata.is_some());
        present.members.add(Member { peer_id, inlet, metadata: metadata.map(Box::new), apart });
        let is_filling = seats.is_some_and(|seats| present.members.len() < seats);
        self.tell_watchers(&id, &present, || present.members.find(peer_id).map(|member| RoomEvent::Joined(member.view())));
        drop(present);
        if seats.is_some() {
            self.seated.insert(peer_id, id.clone());
        }
        if is_filling {
            self.filling.insert(wanted, id.clone());
        } else if seats.is_some() {
            self.filling.remove(&wanted);
        }
        Ok(())
    }

    /// Has a peer go by another name in a quiet room, where nobody is told of that.
    pub fn rename(&mut self, peer_id: PeerId, id: &RoomId, name: &PeerName) -> Result<(), ErrorCode> {
        let room = self.rooms.get(id).ok_or(ErrorCode::NotInRoom)?;
        debug_assert!(room.is_quiet, "others would have to be told");
        let mut present = room.present_mut();
        let claim = Claim { name: name.clone(), secret: None, insists: true };
        let name = present.give_name(claim, None, room.is_quiet)?;
        present.members.rename(peer_id, name.expect("who insists has the name")).then_some(()).ok_or(ErrorCode::NotInRoom)
    }

    /// Asks who has this name whether it is still there. False if nobody has it.
    pub fn challenge(&self, id: &RoomId, name: &PeerName) -> bool {
        let present = self.rooms.get(id).map(|room| room.present());
        let holder = present.as_ref().and_then(|present| present.members.named(name.as_str()));
        holder.inspect(|holder| holder.inlet.challenge()).is_some()
    }

    /// How many there are in a room.
    pub fn census(&self, id: &RoomId) -> Census {
        self.rooms.get(id).map_or_else(Census::default, |room| room.present().census())
    }

    /// The names of those who have one in a room.
    pub fn names(&self, id: &RoomId) -> Vec<PeerName> {
        self.rooms.get(id).map_or_else(Vec::new, |room| room.present().members.names().cloned().collect())
    }

    /// Takes a peer out and tells the others why, if there is a reason to tell. False if it was not there.
    pub fn leave(&mut self, peer_id: PeerId, id: &RoomId, reason: Option<LeaveReason>) -> bool {
        let seat = self.seated.remove(&peer_id);
        let id = seat.as_ref().unwrap_or(id);
        let Some(room) = self.rooms.get(id) else {
            return false;
        };
        let mut present = room.present_mut();
        let removed = present.remove(peer_id);
        // One that lost its place to another one was taken out without a word, and comes here at its end.
        self.tell_watchers(id, &present, || Some(RoomEvent::Left(peer_id, reason)));
        let Some(member) = removed else {
            return false;
        };
        if let Some(reason) = reason.filter(|_| !room.is_quiet) {
            let left = Envelope::new(ServerMessage::PeerLeft { room: id.clone(), peer_id, reason });
            present.announce(peer_id, left.with(member.name().cloned(), 0));
        }
        let empty = present.members.is_empty();
        drop(present);
        let id = id.clone();
        if empty {
            self.remove(&id);
        }
        if let Some(reason @ (LeaveReason::Left | LeaveReason::Removed)) = reason {
            let left = Envelope::new(ServerMessage::Left { room: id, reason }).for_one();
            // Who is over its bound, or at its end, needs no farewell from a room.
            let _ = member.inlet.deliver(&left);
        }
        true
    }

    /// Takes a room out in which nobody is any more.
    fn remove(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.remove(id) else {
            return;
        };
        self.metrics.rooms(-1);
        if let Some(fills) = room.fills.clone().filter(|fills| self.filling.get(fills) == Some(id)) {
            self.filling.remove(&fills);
        }
        for watcher in self.watchers.remove(id).unwrap_or_default() {
            watcher.tell(&RoomEvent::Closed, 0);
        }
    }

    /// Sends everybody out, whom their sessions tell. How many there were; `None` if there is no such room.
    pub fn close(&mut self, id: &RoomId) -> Option<usize> {
        let present = std::mem::take(&mut *self.rooms.get(id)?.present_mut());
        for member in present.members.iter() {
            self.seated.remove(&member.peer_id);
        }
        self.remove(id);
        for member in present.members.iter() {
            member.inlet.expel(id);
        }
        Some(present.members.len())
    }

    /// Replaces what others see of a peer, and tells them.
    pub fn update(&mut self, peer_id: PeerId, id: &RoomId, metadata: Option<Payload<'static>>) -> Result<(), ErrorCode> {
        let room = self.rooms.get(id).ok_or(ErrorCode::NotInRoom)?;
        let mut present = room.present_mut();
        let Present { members, metadata_bytes, with_metadata, got_metadata, .. } = &mut *present;
        let member = members.find_mut(peer_id).ok_or(ErrorCode::NotInRoom)?;
        let bytes = *metadata_bytes - kept_bytes(member.metadata.as_deref()) + kept_bytes(metadata.as_ref());
        if !room.is_quiet && bytes > self.limits.metadata_bytes_max {
            return Err(ErrorCode::RoomFull);
        }
        *metadata_bytes = bytes;
        *with_metadata = *with_metadata - usize::from(member.metadata.is_some()) + usize::from(metadata.is_some());
        *got_metadata += usize::from(member.metadata.is_none() && metadata.is_some());
        member.metadata = metadata.map(Box::new);
        if !room.is_quiet {
            let peer = member.as_seen();
            present.announce(peer_id, Envelope::new(ServerMessage::PeerUpdated { room: id.clone(), peer }));
        }
        self.tell_watchers(id, &present, || present.members.find(peer_id).map(|member| RoomEvent::Updated(member.view())));
        Ok(())
    }

    /// Who is where.
    pub fn snapshot(&self) -> Snapshot {
        let peers = |room: &Room| room.present().members.iter().map(|member| member.peer_id).collect();
        self.rooms.iter().map(|(id, room)| (id.clone(), peers(room))).collect()
    }
}

/// For whoever looks from outside.
impl Rooms {
    /// The room of this name.
    pub fn find(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.rooms.get(id).cloned()
    }

    /// Some of the rooms, as [`ListRooms`](super::command::ListRooms) wants them.
    pub fn page(&self, after: Option<&RoomId>, dialect: Option<&str>, limit: usize) -> Page<RoomView> {
        let is_meant = |id: &&RoomId| after.is_none_or(|after| *id > after) && dialect.is_none_or(|dialect| id.dialect() == dialect);
        view::first(self.rooms.keys().filter(is_meant), limit).map(|id| self.rooms[id].view())
    }

    /// Has this one told what happens in a room from now on.
    pub fn watch(&mut self, id: &RoomId, watcher: Arc<dyn Watcher>, limit: usize) -> Option<Watched> {
        let room = self.rooms.get(id)?;
        let mut present = room.present_mut();
        let tally = present.tally.get_or_insert_default().clone();
        let members = present.members.page(None, limit);
        drop(present);
        let watched = Watched { room: room.view(), members, tally };
        self.watchers.entry(id.clone()).or_default().push(watcher);
        Some(watched)
    }

    /// Tells it no more.
    pub fn unwatch(&mut self, id: &RoomId, watcher: &Arc<dyn Watcher>) {
        let Some(watchers) = self.watchers.get_mut(id) else { return };
        watchers.retain(|known| !std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(watcher)));
        if watchers.is_empty() {
            self.watchers.remove(id);
            if let Some(room) = self.rooms.get(id) {
                room.present_mut().tally = None;
            }
        }
    }

    fn tell_watchers(&self, id: &RoomId, present: &Present, event: impl FnOnce() -> Option<RoomEvent>) {
        if !self.watchers.is_empty()
            && let Some(watchers) = self.watchers.get(id)
            && let Some(event) = event()
        {
            watchers.iter().for_each(|watcher| watcher.tell(&event, present.members.len()));
        }
    }
}

/// How many of a room's peers have a message that did not come from one of them.
#[derive(Default)]
pub struct Published {
    /// Those who were handed it.
    pub handed: usize,
    /// Those who do not read, and are being closed.
    pub untaken: usize,
    /// One of those who are behind, if there are any.
    pub behind: Option<Behind>,
}

/// For whoever runs the server.
impl Room {
    /// What it looks like from outside.
    pub fn view(&self) -> RoomView {
        let present = self.present();
        RoomView { id: self.id.clone(), peers: present.members.len(), metadata_bytes: present.metadata_bytes, is_quiet: self.is_quiet }
    }

    /// Some of those who are there, in the order of their ids: those behind `after`.
    pub fn members(&self, after: Option<PeerId>, limit: usize) -> Page<MemberView> {
        self.present().members.page(after, limit)
    }

    /// Hands a message of the server's own to everybody.
    pub fn publish(&self, payload: Payload) -> Published {
        let present = self.present();
        let (kind, from, room) = (Kind::Message, PeerId::SERVER, self.id.clone());
        let message = ServerMessage::Forwarded { kind, from, room, payload, to: None, best_effort: false };
        present.count(&message);
        let envelope = Envelope::new(message).with(None, self.told_peers(&present));
        let mut published = Published::default();
        hand_out(envelope, present.audience(from), |member, envelope| match member.inlet.deliver(envelope) {
            Ok(()) => {
                published.handed += 1;
                if published.behind.is_none() && member.inlet.is_behind() {
                    published.behind = Some(member.inlet.clone());
                }
            }
            Err(Untaken::Overflow) => published.untaken += 1,
            // Its leaving is about to be told.
            Err(Untaken::Gone) => {}
        });
        published
    }
}

impl Room {
    /// Its name.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Tells a peer once more who else is here, as it was told when it came.
    pub fn list(&self, peer_id: PeerId) -> Result<(), ErrorCode> {
        let present = self.present();
        let member = present.members.find(peer_id).ok_or(ErrorCode::NotInRoom)?;
        let peers = if member.rights().observe { present.others(peer_id).map(Member::as_seen).collect() } else { vec![] };
        let joined = Envelope::new(ServerMessage::Joined { room: self.id.clone(), peer_id, peers, relays_only: self.relays_only });
        // A client that cannot take it is being closed.
        let _ = member.inlet.deliver(&joined.with(member.name().cloned(), 0).for_one());
        Ok(())
    }

    /// Hands a message to one peer of this room, other than its sender.
    pub fn forward(&self, from: PeerId, to: PeerId, envelope: &Envelope) -> Result<Handed, ErrorCode> {
        let present = self.present();
        let member = present.members.find(to).filter(|_| to != from).ok_or(ErrorCode::NoSuchPeer)?;
        present.count(envelope.message());
        member.take(envelope)
    }

    /// The same for a foreign client, who may know its peer by a name or by none, and has a name itself, perhaps.
    pub fn forward_to<'a>(
        &self,
        from: PeerId,
        name: Option<PeerName>,
        to: &Callee<'_>,
        message: impl Into<Envelope<'a>>,
    ) -> Result<Handed, ErrorCode> {
        let present = self.present();
        let member = match *to {
            Callee::Named(to) => present.members.named(to).or_else(|| present.members.find(PeerId::parse(to)?)),
            Callee::Peer(to) => present.members.find(to),
            Callee::Place { seed, place } => present.members.other_at(from, seed, place),
        };
        let member = member.filter(|member| member.peer_id != from).ok_or(ErrorCode::NoSuchPeer)?;
        let mut envelope = message.into();
        if let ServerMessage::Forwarded { kind: Kind::Message, to, .. } = envelope.message_mut() {
            *to = Some(member.peer_id);
        }
        present.count(envelope.message());
        member.take(&envelope.with(name, 0).for_one())
    }

    /// Hands a message to everybody in this room but its sender, and with `echo` to that one as well; with `before` only to those who entered
    /// before that turn. If some do not take it, the others have it all the same.
    pub fn broadcast_from<'a>(
        &self,
        from: PeerId,
        name: Option<PeerName>,
        message: impl Into<Envelope<'a>>,
        echo: bool,
        before: Option<u64>,
    ) -> Handed {
        let present = self.present();
        let envelope = message.into();
        present.count(envelope.message());
        let envelope = envelope.with(name, self.told_peers(&present));
        let was_there = |member: &&Member| before.is_none_or(|turn| member.apart.as_ref().is_some_and(|apart| apart.turn < turn));
        let sender = present.members.find(from).filter(|_| echo);
        let mut untaken = None;
        hand_out(envelope, sender.into_iter().chain(present.audience(from).filter(was_there)), |member, envelope| {
            // A sender that is over its own bound is being closed.
            if member.inlet.deliver(envelope) == Err(Untaken::Overflow) && member.peer_id != from {
                untaken = Some(ErrorCode::Undeliverable);
            }
        });
        Handed { untaken, behind: if before.is_none() { present.behind(from) } else { None } }
    }

    /// Hands a message to everybody in this room but its sender. If some do not take it, the others have it all the same.
    pub fn broadcast<'a>(&self, from: PeerId, message: impl Into<Envelope<'a>>) -> Handed {
        let present = self.present();
        let envelope = message.into();
        present.count(envelope.message());
        let untaken = deliver_to_each(present.audience(from), &envelope);
        Handed { untaken, behind: present.behind(from) }
    }

    /// So many are there, where that is told with a message: in a quiet room, whose members hear of it in no other way.
    fn told_peers(&self, present: &Present) -> usize {
        if self.is_quiet { present.members.len() } else { 0 }
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
    /// Takes one out, and what is kept of it.
    fn remove(&mut self, peer_id: PeerId) -> Option<Member> {
        let member = self.members.remove(peer_id)?;
        self.metadata_bytes -= kept_bytes(member.metadata.as_deref()) + member.user().map_or(0, |user| user.len());
        self.with_metadata -= usize::from(member.metadata.is_some());
        Some(member)
    }

    /// Counts a message that is said here, if somebody wants to know.
    fn count(&self, message: &ServerMessage) {
        if let Some(tally) = &self.tally {
            tally.count(message);
        }
    }

    /// Tells everybody but `about` who may know. Who is over its bounds is being closed.
    fn announce(&self, about: PeerId, envelope: Envelope) {
        deliver_to_each(self.others(about).filter(|member| member.rights().observe), &envelope);
    }

    /// Those who are sent what this one sends.
    fn audience(&self, from: PeerId) -> impl Iterator<Item = &Member> + Clone {
        self.others(from).filter(|member| member.rights().subscribe)
    }

    /// One of them who is behind. That another takes nothing any more is no reason not to wait for it.
    fn behind(&self, from: PeerId) -> Option<Behind> {
        self.audience(from).find(|member| member.inlet.is_behind()).map(|member| member.inlet.clone())
    }

    /// The name that a newcomer gets: the one that it wants, or none if another has it and it does not insist.
    fn give_name(&mut self, claim: Claim, user: Option<&Arc<str>>, is_quiet: bool) -> Result<Option<PeerName>, ErrorCode> {
        let owner = self.owner(&claim, user).map(|owner| owner.peer_id);
        let Claim { name, insists, .. } = claim;
        // Where the others know peers by their ids as well, nobody is called by the id of another, however that is spelled. With hyphens it looks
        // like what pages make of `crypto.randomUUID()`, which is theirs unless it is somebody's id.
        let id = PeerId::parse(&name.as_str().replace('-', "").to_ascii_lowercase()).filter(|_| !is_quiet);
        if id.is_some_and(|id| !name.as_str().contains('-') || self.members.find(id).is_some()) {
            return if insists { Err(ErrorCode::NameTaken) } else { Ok(None) };
        }
        if owner.is_none() && self.members.named(name.as_str()).is_some() {
            return if insists { Err(ErrorCode::NameTaken) } else { Ok(None) };
        }
        if let Some(before) = owner.and_then(|owner| self.remove(owner)) {
            before.inlet.replace();
        }
        Ok(Some(name))
    }

    /// Who has the name, if that is who claims it: as the same user, and with the same secret.
    fn owner(&self, Claim { name, secret, .. }: &Claim, user: Option<&Arc<str>>) -> Option<&Member> {
        let holder = self.members.named(name.as_str()).filter(|holder| holder.user() == user)?;
        (secret.is_some() && holder.apart.as_ref().is_some_and(|apart| apart.secret == *secret)).then_some(holder)
    }

    fn census(&self) -> Census {
        Census { peers: self.members.len(), with_metadata: self.with_metadata, got_metadata: self.got_metadata }
    }

    fn others(&self, than: PeerId) -> impl Iterator<Item = &Member> + Clone {
        self.members.iter().filter(move |member| member.peer_id != than)
    }
}

impl Member {
    fn as_seen(&self) -> Peer {
        Peer { peer_id: self.peer_id, metadata: self.metadata.as_deref().cloned(), user: self.user().cloned(), name: self.name().cloned() }
    }

    fn take(&self, envelope: &Envelope) -> Result<Handed, ErrorCode> {
        if !self.rights().subscribe {
            return Err(ErrorCode::Forbidden);
        }
        self.inlet.deliver(envelope).map_err(|untaken| match untaken {
            Untaken::Overflow => ErrorCode::Undeliverable,
            Untaken::Gone => ErrorCode::NoSuchPeer,
        })?;
        Ok(Handed { untaken: None, behind: self.inlet.is_behind().then(|| self.inlet.clone()) })
    }
}

/// Delivers to all of these, even if some do not take it: why they do not.
fn deliver_to_each<'a>(members: impl Iterator<Item = &'a Member>, envelope: &Envelope) -> Option<ErrorCode> {
    let untaken = members.filter(|member| member.inlet.deliver(envelope) == Err(Untaken::Overflow)).count();
    (untaken > 0).then_some(ErrorCode::Undeliverable)
}

/// Hands it to each of these, and tells only those for how many it is who may know who is there.
fn hand_out<'a>(envelope: Envelope, members: impl Iterator<Item = &'a Member> + Clone, mut hand: impl FnMut(&'a Member, &Envelope)) {
    if envelope.audience() == 0 {
        return members.for_each(|member| hand(member, &envelope));
    }
    let may_know = |member: &&Member| member.rights().observe;
    members.clone().filter(may_know).for_each(|member| hand(member, &envelope));
    let envelope = envelope.uncounted();
    members.filter(|member| !may_know(member)).for_each(|member| hand(member, &envelope));
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
            if let Answer::Joined(room, _) = answer {
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

    const LIMITS: RoomLimits = RoomLimits { rooms_max: 2, peers_max: 2, metadata_bytes_max: 4, quiet_peers_max: 3 };

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 10).unwrap()
    }

    fn digits(value: u64) -> Option<Payload<'static>> {
        Some(Payload::from_serialize(&value).unwrap())
    }

    fn join(rooms: &mut Rooms, name: &str, metadata: Option<Payload<'static>>) -> Result<(PeerId, Arc<Ear>), ErrorCode> {
        let (peer_id, ear) = (PeerId::random(), Arc::new(Ear::default()));
        rooms.join(peer_id, ear.clone(), room(name), Entry { metadata, ..Entry::default() }).map(|()| (peer_id, ear))
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
        assert_eq!(ear_a.room().forward(PeerId::random(), b, &ServerMessage::Ack { id: 1 }.into()).err(), Some(ErrorCode::NoSuchPeer));
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
        assert!(ear_a.room().forward(a, b, &message().into()).is_ok());
        assert_eq!(ear_a.room().forward(a, a, &message().into()).err(), Some(ErrorCode::NoSuchPeer));
        assert_eq!(ear_a.room().forward(a, c, &message().into()).err(), Some(ErrorCode::NoSuchPeer));
        assert_eq!(ear_a.room().broadcast(a, message()).untaken, None);
        assert_eq!((ear_a.heard().len(), ear_b.heard().len(), ear_c.heard().len()), (0, 2, 0));
    }

    fn enter(rooms: &mut Rooms, name: &str, entry: Entry) -> Result<(PeerId, Arc<Ear>), ErrorCode> {
        let (peer_id, ear) = (PeerId::random(), Arc::new(Ear::default()));
        rooms.join(peer_id, ear.clone(), room(name), entry).map(|()| (peer_id, ear))
    }

    fn called(name: &str, secret: Option<&str>, insists: bool) -> Entry {
        let name = PeerName::parse(name, 9).unwrap();
        Entry { claim: Some(Claim { name, secret: secret.map(Into::into), insists }), is_quiet: true, ..Entry::default() }
    }

    #[test]
    fn a_name_is_one_peers_until_it_is_gone_or_comes_back_with_its_secret() {
        let mut rooms = Rooms::new(LIMITS);
        let (first, first_ear) = enter(&mut rooms, "r", called("n", Some("s"), true)).unwrap();
        for other in [called("n", Some("t"), true), called("n", None, true)] {
            assert_eq!(enter(&mut rooms, "r", other).err(), Some(ErrorCode::NameTaken));
        }
        let (unnamed, unnamed_ear) = enter(&mut rooms, "r", called("n", None, false)).unwrap();
        let message = || ServerMessage::Forwarded {
            kind: Kind::Message,
            from: unnamed,
            room: room("r"),
            payload: digits(1).unwrap(),
            to: None,
            best_effort: false,
        };
        first_ear.heard();
        let hall = unnamed_ear.room();
        assert!(hall.forward_to(unnamed, None, &Callee::Named("n"), message()).is_ok());
        assert_eq!(first_ear.heard().len(), 1);
        let id = unnamed.to_string();
        assert_eq!(hall.forward_to(unnamed, None, &Callee::Named(&id), message()).err(), Some(ErrorCode::NoSuchPeer), "oneself");

        let (second, second_ear) = enter(&mut rooms, "r", called("n", Some("s"), true)).unwrap();
        second_ear.heard();
        assert!(!rooms.leave(first, &room("r"), None), "it has lost its place with its name");
        assert!(hall.forward_to(unnamed, None, &Callee::Named("n"), message()).is_ok());
        assert_eq!((first_ear.heard().len(), second_ear.heard().len()), (0, 1));
        assert_eq!(rooms.names(&room("r")).len(), 1);
        assert!(rooms.leave(second, &room("r"), None));
        assert_eq!(hall.forward_to(unnamed, None, &Callee::Named("n"), message()).err(), Some(ErrorCode::NoSuchPeer));
        assert!(enter(&mut rooms, "r", called("n", None, true)).is_ok());
    }

    #[test]
    fn in_a_quiet_room_nobody_is_told_of_the_others_and_it_has_a_bound_of_its_own() {
        let mut rooms = Rooms::new(LIMITS);
        let quiet = |metadata| Entry { metadata, is_quiet: true, ..Entry::default() };
        let (first, ear) = enter(&mut rooms, "r", quiet(None)).unwrap();
        assert!(ear.heard()[0].contains(r#""peers":[]"#));
        let (second, second_ear) = enter(&mut rooms, "r", quiet(digits(1234567))).unwrap();
        assert!(second_ear.heard()[0].contains(r#""peers":[]"#));
        enter(&mut rooms, "r", quiet(None)).unwrap();
        assert_eq!(enter(&mut rooms, "r", quiet(None)).err(), Some(ErrorCode::RoomFull), "a fourth");
        let census = |rooms: &Rooms| {
            let Census { peers, with_metadata, got_metadata } = rooms.census(&room("r"));
            (peers, with_metadata, got_metadata)
        };
        assert_eq!(census(&rooms), (3, 1, 0));
        rooms.update(first, &room("r"), digits(1)).unwrap();
        assert_eq!(census(&rooms), (3, 2, 1));
        assert!(rooms.leave(second, &room("r"), Some(LeaveReason::Left)));
        assert_eq!(census(&rooms), (2, 1, 1));
        assert_eq!((ear.heard(), rooms.census(&room("s"))), (vec![], Census::default()));
    }

    #[test]
    fn a_room_with_seats_is_left_alone_once_it_was_full() {
        let mut rooms = Rooms::new(RoomLimits { rooms_max: 3, peers_max: 3, ..LIMITS });
        let seated = |rooms: &mut Rooms| enter(rooms, "r", Entry { seats: Some(2), ..Entry::default() }).unwrap();
        let (first, second) = (seated(&mut rooms), seated(&mut rooms));
        assert_eq!(first.1.room().id(), second.1.room().id());
        let third = seated(&mut rooms);
        assert_ne!(third.1.room().id(), first.1.room().id());
        assert!(rooms.leave(first.0, first.1.room().id(), None));
        let fourth = seated(&mut rooms);
        assert_eq!(fourth.1.room().id(), third.1.room().id(), "the first room was full once");
        assert_eq!((fourth.1.room().id().name(), rooms.filling.len()), ("r", 0));
        let fifth = seated(&mut rooms);
        assert_eq!(rooms.filling.len(), 1);
        assert!(rooms.leave(fifth.0, &room("r"), None), "by the name that it asked for");
        assert_eq!((rooms.filling.len(), rooms.seated.len()), (0, 3), "nobody waits there any more");
        assert!(enter(&mut rooms, "r", Entry::default()).is_ok_and(|(_, ear)| ear.room().id().as_str() == "r"));
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
            rooms.join(PeerId::random(), Arc::new(Late(is_mute)), room("r"), Entry::default()).unwrap();
        }
        let handed = ear_a.room().broadcast(a, ServerMessage::Ack { id: 1 });
        assert_eq!((handed.untaken, handed.behind.is_some()), (Some(ErrorCode::Undeliverable), true));
    }

    /// Who had been told that it had left its room could still read in the metrics that there was one.
    #[test]
    fn rooms_are_counted_before_anybody_is_told() {
        #[derive(Default)]
        struct Reader {
            metrics: Arc<Metrics>,
            read: Mutex<Vec<String>>,
        }
        impl Reader {
            fn read(&self) {
                let text = self.metrics.render();
                let rooms = text.lines().find_map(|line| line.strip_prefix("switchboard_rooms ")).expect("always there");
                self.read.lock().unwrap().push(rooms.into());
            }
        }
        impl Inlet for Reader {
            fn deliver(&self, _: &Envelope) -> Result<(), Untaken> {
                self.read();
                Ok(())
            }
            fn answer(&self, _: Answer) {
                self.read();
            }
            fn drain(&self, _: DrainWindow) {}
            fn expel(&self, _: &RoomId) {
                self.read();
            }
        }
        let (peer_id, reader) = (PeerId::random(), Arc::new(Reader::default()));
        let mut rooms = Rooms::new(LIMITS).counted_in(reader.metrics.clone());
        let enter = |rooms: &mut Rooms| rooms.join(peer_id, reader.clone(), room("r"), Entry::default()).unwrap();
        let read = || std::mem::take(&mut *reader.read.lock().unwrap());
        enter(&mut rooms);
        assert_eq!(read(), ["1", "1"], "the message, the answer");
        assert!(rooms.leave(peer_id, &room("r"), Some(LeaveReason::Left)));
        assert_eq!(read(), ["0"]);
        enter(&mut rooms);
        assert_eq!(rooms.close(&room("r")), Some(1));
        assert_eq!(read(), ["1", "1", "0"]);
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
        rooms.join(deaf, Arc::new(Deaf), room("r"), Entry::default()).unwrap();
        assert_eq!(ear_a.room().forward(a, deaf, &ServerMessage::Ack { id: 1 }.into()).err(), Some(ErrorCode::Undeliverable));
        assert_eq!(ear_a.room().broadcast(a, ServerMessage::Ack { id: 1 }).untaken, Some(ErrorCode::Undeliverable));
    }
}
