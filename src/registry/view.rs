//! How the registry looks from outside, for whoever runs the server: rooms, peers, and what goes on in one room. Nothing here costs anything
//! where nobody looks.

use std::{
    collections::BinaryHeap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use super::{
    inlet::Inlet,
    members::{Member, Members},
};
use crate::protocol::{Kind, LeaveReason, Payload, PeerId, PeerName, RoomId, ServerMessage};

/// Some of many, in their order, and whether there are more behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
}

/// A room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomView {
    pub id: RoomId,
    pub peers: usize,
    /// Metadata of all of them together.
    pub metadata_bytes: usize,
    /// Is nobody told who is there?
    pub is_quiet: bool,
}

/// A peer in a room.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    pub peer_id: PeerId,
    /// What clients of foreign dialects call it.
    pub name: Option<PeerName>,
    /// Who it is for the application, where that is known.
    pub user: Option<Arc<str>>,
    pub metadata: Option<Payload<'static>>,
}

/// A session, as it describes itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    /// Who it is for the application, where that is known.
    pub user: Option<Arc<str>>,
    pub rooms: Vec<RoomId>,
    /// The door and the dialect of its latest connection, and where that came from.
    pub door: &'static str,
    pub dialect: &'static str,
    pub address: IpAddr,
    /// Is there a connection?
    pub is_connected: bool,
    pub since: SystemTime,
    /// Bytes that wait for its client.
    pub waiting_bytes: usize,
}

/// The way to a session, by its id.
pub type PeerInlet = (PeerId, Arc<dyn Inlet>);

/// What happens in a room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// Somebody came.
    Joined(MemberView),
    /// Somebody's metadata was replaced.
    Updated(MemberView),
    /// Somebody went. Without a reason the others are not told.
    Left(PeerId, Option<LeaveReason>),
    /// Nobody is there any more, or everybody was sent away.
    Closed,
}

/// Somebody outside who watches a room. Told by the registry, in between its commands: so nothing here waits.
pub trait Watcher: Send + Sync {
    /// This happened; so many are in the room now.
    fn tell(&self, event: &RoomEvent, peers: usize);
}

/// What a room was like when the watching began; all that happens afterwards is told.
pub struct Watched {
    pub room: RoomView,
    pub members: Page<MemberView>,
    pub tally: Arc<Tally>,
}

/// What was said in a room since somebody watches it.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [AtomicU64; 4],
}

impl Tally {
    /// The kinds that are counted.
    pub const KINDS: [Kind; 4] = [Kind::Offer, Kind::Answer, Kind::IceCandidate, Kind::Message];

    /// How many of each kind were said, whoever they were for.
    pub fn counts(&self) -> [u64; 4] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, message: &ServerMessage) {
        if let ServerMessage::Forwarded { kind, .. } = message
            && let Some(at) = Self::KINDS.iter().position(|known| known == kind)
        {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T> Page<T> {
    /// The same page of something else.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), has_more: self.has_more }
    }
}

impl Member {
    pub(super) fn view(&self) -> MemberView {
        MemberView {
            peer_id: self.peer_id,
            name: self.name().cloned(),
            user: self.user().cloned(),
            metadata: self.metadata.as_deref().cloned(),
        }
    }
}

impl Members {
    /// Those behind this one, in the order of their ids.
    pub(super) fn page(&self, after: Option<PeerId>, limit: usize) -> Page<MemberView> {
        let ids = self.iter().map(|member| member.peer_id);
        first(ids.filter(|id| after.is_none_or(|after| *id > after)), limit).map(|id| self.find(id).expect("it was there just now").view())
    }
}

/// The smallest of these, in order. Looks at each once and keeps no more than are asked for, so that a page of a million is soon there.
pub(super) fn first<T: Ord>(all: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut smallest = BinaryHeap::with_capacity(limit + 1);
    for item in all {
        if smallest.len() > limit {
            if let Some(mut largest) = smallest.peek_mut().filter(|largest| item < **largest) {
                *largest = item;
            }
        } else {
            smallest.push(item);
        }
    }
    let mut items = smallest.into_sorted_vec();
    let has_more = items.len() > limit;
    items.truncate(limit);
    Page { items, has_more }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_behind_each_other_are_all_in_order(mut all in prop::collection::vec(0..500_u16, 0..200), limit in 1..50_usize) {
            all.sort_unstable();
            all.dedup();
            let (mut seen, mut after) = (vec![], None);
            loop {
                let page = first(all.iter().rev().copied().filter(|item| after.is_none_or(|after| *item > after)), limit);
                prop_assert!(page.items.len() == limit || !page.has_more);
                seen.extend(page.items);
                after = seen.last().copied();
                if !page.has_more {
                    break;
                }
            }
            prop_assert_eq!(seen, all);
        }
    }
}
