//! Who is in one room: a list to go through, and where it is long, a table to find one in.
//!
//! Most rooms are of two, and there may be a million of them: such a room has one allocation for its members, no larger than they are. The rules
//! of membership are in `rooms`; nothing here is told to anybody.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    slice,
    sync::Arc,
};

use hashbrown::HashTable;

use super::inlet::Inlet;
use crate::{
    auth::Rights,
    protocol::{Payload, PeerId, PeerName},
};

/// The peers of one room, in no order that means anything.
#[derive(Default)]
pub struct Members {
    list: Vec<Member>,
    /// Where in the list each member is. Only beside a list that is not searched faster from one end to the other.
    places: Option<Box<HashTable<usize>>>,
    /// Who has which name. Only where somebody has one.
    names: Option<Box<Names>>,
}

#[derive(Default)]
struct Names {
    peers: HashMap<PeerName, PeerId>,
}

/// One peer of a room.
pub struct Member {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
    /// Boxed, because most have none.
    pub metadata: Option<Box<Payload<'static>>>,
    /// Boxed for the same reason.
    pub apart: Option<Box<Apart>>,
}

/// What only some peers have: of foreign dialects, or of a server that asks who comes in.
#[derive(Default)]
pub struct Apart {
    pub name: Option<PeerName>,
    /// By it the owner of the name may come back to it.
    pub secret: Option<String>,
    /// Which of all who ever entered the room it is: those who came before have lower ones.
    pub turn: u64,
    /// Who it is for the application.
    pub user: Option<Arc<str>>,
    /// What it may do here.
    pub rights: Rights,
}

impl Member {
    /// Its name, if it has one.
    pub fn name(&self) -> Option<&PeerName> {
        self.apart.as_ref()?.name.as_ref()
    }

    /// Who it is for the application, where that is known.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.apart.as_ref()?.user.as_ref()
    }

    /// What it may do here.
    pub fn rights(&self) -> Rights {
        self.apart.as_ref().map_or(Rights::ALL, |apart| apart.rights)
    }
}

/// A list of more members has a table. Searching one of so many takes about as long as asking the table.
const LISTED_MAX: usize = 16;

/// Room for a list's first members: who opens a room waits for one other.
const FIRST_MEMBERS: usize = 2;

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Is nobody there?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> slice::Iter<'_, Member> {
        self.list.iter()
    }

    /// The one with this id.
    pub fn find(&self, peer_id: PeerId) -> Option<&Member> {
        self.place(peer_id).map(|place| &self.list[place])
    }

    /// The one with this id.
    pub fn find_mut(&mut self, peer_id: PeerId) -> Option<&mut Member> {
        self.place(peer_id).map(|place| &mut self.list[place])
    }

    /// The one with this name.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.names.as_ref()?.peers.get(name).and_then(|peer_id| self.find(*peer_id))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &PeerName> {
        self.names.iter().flat_map(|names| names.peers.keys())
    }

    /// The one at this place among all but `than`, counted from a place that the seed picks.
    pub fn other_at(&self, than: PeerId, seed: usize, place: usize) -> Option<&Member> {
        let own = self.place(than);
        let others = self.list.len() - usize::from(own.is_some());
        if place >= others {
            return None;
        }
        let at = (seed % others + place) % others;
        self.list.get(own.map_or(at, |own| (own + 1 + at) % self.list.len()))
    }

    /// Adds one who is not there, nor has anybody there its name.
    pub fn add(&mut self, member: Member) {
        if let Some(name) = member.name() {
            self.names.get_or_insert_default().peers.insert(name.clone(), member.peer_id);
        }
        debug_assert!(self.find(member.peer_id).is_none(), "a peer joins a room once");
        if self.list.len() == self.list.capacity() {
            // Twice as many, as a `Vec` does by itself, but for the first, for whom it would have room for four.
            self.list.reserve_exact(self.list.len().max(FIRST_MEMBERS));
        }
        self.list.push(member);
        let Self { list, places, .. } = self;
        let added = list.len() - 1;
        match places {
            Some(places) => {
                places.insert_unique(hash(list[added].peer_id), added, hash_at(list));
            }
            None if list.len() > LISTED_MAX => self.tabulate(),
            None => {}
        }
    }

    /// Gives one a name that nobody has, instead of the one that it had. False if it is not there.
    pub fn rename(&mut self, peer_id: PeerId, name: PeerName) -> bool {
        let Some(member) = self.find_mut(peer_id) else { return false };
        let before = member.apart.get_or_insert_default().name.replace(name.clone());
        let names = self.names.get_or_insert_default();
        before.map(|before| names.peers.remove(&before));
        names.peers.insert(name, peer_id);
        true
    }

    /// Takes one out. The last in the list takes its place.
    pub fn remove(&mut self, peer_id: PeerId) -> Option<Member> {
        let place = self.place(peer_id)?;
        let Self { list, places, .. } = self;
        if let Some(places) = places {
            let last = list.len() - 1;
            places.find_entry(hash(peer_id), |at| *at == place).expect("every member is in the table").remove();
            if place != last {
                *places.find_mut(hash(list[last].peer_id), |at| *at == last).expect("every member is in the table") = place;
            }
        }
        let member = list.swap_remove(place);
        if let (Some(name), Some(names)) = (member.name(), &mut self.names) {
            names.peers.remove(name);
        }
        self.shrink();
        Some(member)
    }

    fn place(&self, peer_id: PeerId) -> Option<usize> {
        match &self.places {
            Some(places) => places.find(hash(peer_id), |at| self.list[*at].peer_id == peer_id).copied(),
            None => self.list.iter().position(|member| member.peer_id == peer_id),
        }
    }

    /// A room that was large does not keep its memory for the few who stay. It keeps room for as many again, so that no memory is moved with
    /// each who comes or goes.
    fn shrink(&mut self) {
        let Self { list, places, .. } = self;
        if list.capacity() <= LISTED_MAX || list.len() * 4 >= list.capacity() {
            return;
        }
        list.shrink_to(list.len() * 2);
        if list.len() <= LISTED_MAX {
            *places = None;
        } else if let Some(places) = places {
            places.shrink_to(list.len() * 2, hash_at(list));
        }
    }

    fn tabulate(&mut self) {
        let Self { list, places, .. } = self;
        let mut table = HashTable::with_capacity(list.capacity());
        for (at, member) in list.iter().enumerate() {
            table.insert_unique(hash(member.peer_id), at, hash_at(list));
        }
        *places = Some(Box::new(table));
    }
}

/// How maps hash ids that the server made.
pub type PeerIdHasher = BuildHasherDefault<RandomIdHasher>;

fn hash(peer_id: PeerId) -> u64 {
    PeerIdHasher::default().hash_one(peer_id)
}

fn hash_at(list: &[Member]) -> impl Fn(&usize) -> u64 {
    |at| hash(list[*at].peer_id)
}

/// Peer ids are random and no client chooses one, so their own bits are the best hash there is.
#[derive(Default)]
pub struct RandomIdHasher(u64);

impl Hasher for RandomIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }

    fn write_u128(&mut self, bits: u128) {
        self.0 = bits as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        protocol::Envelope,
        registry::{command::Answer, drain::DrainWindow, inlet::Untaken},
    };

    struct Nowhere;

    impl Inlet for Nowhere {
        fn deliver(&self, _: &Envelope) -> Result<(), Untaken> {
            Ok(())
        }

        fn answer(&self, _: Answer) {}

        fn drain(&self, _: DrainWindow) {}
    }

    #[test]
    fn each_place_is_another_one_and_none_is_who_asks() {
        let ids: Vec<PeerId> = (0..40).map(|_| PeerId::random()).collect();
        for count in [1, 2, 5, 40] {
            let mut members = Members::default();
            ids[..count].iter().for_each(|id| members.add(member(*id)));
            for (seed, asking) in [(0, ids[0]), (usize::MAX, ids[count - 1]), (7, PeerId::random())] {
                let others = count - usize::from(ids[..count].contains(&asking));
                let at = |place| members.other_at(asking, seed, place).map(|member| member.peer_id);
                let found: HashSet<PeerId> = (0..others).filter_map(at).collect();
                assert_eq!((found.len(), found.contains(&asking)), (others, false), "{count} {seed}");
                assert_eq!(at(others), None);
            }
        }
    }

    fn member(peer_id: PeerId) -> Member {
        Member { peer_id, inlet: Arc::new(Nowhere), metadata: None, apart: None }
    }

    fn filled(members: usize) -> (Members, Vec<PeerId>) {
        let (mut filled, ids) = (Members::default(), Vec::from_iter((0..members).map(|_| PeerId::random())));
        ids.iter().for_each(|id| filled.add(member(*id)));
        (filled, ids)
    }

    /// Whatever came and went, those who are there are found, each once, and nobody else is.
    fn check(members: &Members, mut there: Vec<PeerId>, gone: &[PeerId]) {
        assert!(there.iter().all(|id| members.find(*id).is_some_and(|member| member.peer_id == *id)));
        assert!(gone.iter().all(|id| members.find(*id).is_none()));
        let mut listed: Vec<_> = members.iter().map(|member| member.peer_id).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);
        assert_eq!((members.len(), members.is_empty()), (there.len(), there.is_empty()));
    }

    proptest! {
        #[test]
        fn who_is_there_is_found_and_who_is_gone_is_not(turns in prop::collection::vec((0..60usize, any::<prop::sample::Index>()), 1..8)) {
            let (mut members, mut there, mut gone) = (Members::default(), vec![], vec![]);
            for (number, index) in turns {
                while there.len() < number {
                    there.push(PeerId::random());
                    members.add(member(there[there.len() - 1]));
                }
                check(&members, there.clone(), &gone);
                while there.len() > number {
                    let id = there.swap_remove(index.index(there.len()));
                    prop_assert_eq!(members.remove(id).map(|member| member.peer_id), Some(id));
                    prop_assert!(members.remove(id).is_none());
                    gone.push(id);
                }
                check(&members, there.clone(), &gone);
            }
        }
    }

    #[test]
    fn a_room_of_two_takes_memory_for_two() {
        let (members, _) = filled(2);
        assert_eq!((members.list.capacity(), members.places.is_none()), (2, true));
        assert!(size_of::<Member>() <= 48);
    }

    #[test]
    fn a_room_that_was_large_does_not_keep_its_memory() {
        let (mut members, ids) = filled(1_000);
        for id in &ids[3..] {
            members.remove(*id);
        }
        assert!(members.list.capacity() <= LISTED_MAX && members.places.is_none());
        check(&members, ids[..3].to_vec(), &ids[3..]);
    }
}
