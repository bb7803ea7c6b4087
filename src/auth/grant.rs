//! What a client may do: in which rooms, for how long, how fast. Made of a token's claims or of the application's answer; pure.

use std::{sync::Arc, time::SystemTime};

use super::RoomAccess;
use crate::protocol::ClientRates;

/// What one client may do. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who the client is. The others see it, and no client can write another one.
    pub user: Option<Arc<str>>,
    /// Where it may go; everywhere if missing.
    pub rooms: Option<Arc<[RoomGrant]>>,
    /// Bounds that are tighter than those of every client.
    pub rates: RateLimits,
    /// When it runs out; never if missing.
    pub expires_at: Option<SystemTime>,
    /// Is the application asked about each room?
    pub asks_about_rooms: bool,
}

/// What a client may do in some rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomGrant {
    /// Which rooms.
    pub rooms: RoomPattern,
    /// What for.
    pub rights: Rights,
    /// With so many peers such a room is full for this client; as many as any room may have if missing.
    pub peers_max: Option<usize>,
}

/// Names of rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomPattern {
    /// The room of this name, whatever characters that has.
    Exact(String),
    /// Every room whose name begins so: `team-*`.
    Prefix(String),
}

/// What a peer may do in a room that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Send signals, and messages to one peer.
    pub publish: bool,
    /// Be sent what others send.
    pub subscribe: bool,
    /// Send messages to the whole room.
    pub broadcast: bool,
    /// See who is there.
    pub observe: bool,
}

/// How fast one client may send, where that is less than any client may. See [`crate::protocol::ClientRates`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Messages a second.
    pub messages_per_second: Option<u32>,
    /// Bytes a second.
    pub bytes_per_second: Option<u32>,
    /// Joins a second.
    pub joins_per_second: Option<u32>,
}

/// A client may say a token of any length that is taken.
const BYTES_PER_SECOND_LEAST: u32 = 8192;

impl Grant {
    /// Everything, for ever, without a name: what everybody has on an open server.
    pub const ALL: Self = Self {
        user: None,
        rooms: None,
        rates: RateLimits { messages_per_second: None, bytes_per_second: None, joins_per_second: None },
        expires_at: None,
        asks_about_rooms: false,
    };

    /// What it says of the room of this name: the exact name counts before the longest prefix. None if the room is not for this client.
    pub fn room(&self, name: &str) -> Option<RoomAccess> {
        let Some(rooms) = &self.rooms else { return Some(RoomAccess::default()) };
        let granted = rooms.iter().filter_map(|room| Some((room.rooms.matches(name)?, room)));
        granted.max_by_key(|(weight, _)| *weight).map(|(_, room)| RoomAccess { rights: room.rights, peers_max: room.peers_max })
    }
}

impl RateLimits {
    /// The rates of a client that may have these at most. Where rates are not bounded, neither are its.
    pub fn bound(&self, rates: Option<ClientRates>) -> Option<ClientRates> {
        let rates = rates?;
        let least = |own: Option<u32>, all: u32| own.map_or(all, |own| own.clamp(1, all));
        Some(ClientRates {
            messages_per_second: least(self.messages_per_second, rates.messages_per_second),
            // Or a new token would never get through.
            bytes_per_second: least(self.bytes_per_second.map(|own| own.max(BYTES_PER_SECOND_LEAST)), rates.bytes_per_second),
            joins_per_second: least(self.joins_per_second, rates.joins_per_second),
        })
    }
}

impl RoomPattern {
    /// Reads a name; a `*` at its end stands for whatever follows.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// Is the room of this name one of them?
    pub fn is_for(&self, name: &str) -> bool {
        self.matches(name).is_some()
    }

    /// How well it fits a name, if it does.
    fn matches(&self, name: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (exact == name).then_some(usize::MAX),
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()).then_some(prefix.len()),
        }
    }
}

impl Rights {
    /// All of them.
    pub const ALL: Self = Self { publish: true, subscribe: true, broadcast: true, observe: true };
}

impl Default for Rights {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(rooms: &[(&str, bool)]) -> Grant {
        let rooms = rooms.iter().map(|(name, publish)| RoomGrant {
            rooms: RoomPattern::parse(name),
            rights: Rights { publish: *publish, ..Rights::ALL },
            peers_max: None,
        });
        Grant { rooms: Some(rooms.collect()), ..Grant::ALL }
    }

    #[test]
    fn a_room_is_granted_by_its_name_or_by_how_it_begins() {
        let grant = grant(&[("team-*", true), ("team-secret", false), ("team-secret-*", false), ("lobby", true)]);
        let publishes = |name| grant.room(name).map(|access| access.rights.publish);
        assert_eq!(publishes("team-"), Some(true));
        assert_eq!(publishes("team-a"), Some(true));
        assert_eq!(publishes("team-secret"), Some(false));
        assert_eq!(publishes("team-secret-1"), Some(false));
        assert_eq!(publishes("lobby"), Some(true));
        for other in ["", "lobb", "lobby2", "Lobby", "team", "Team-a"] {
            assert_eq!(publishes(other), None, "{other:?}");
        }
    }

    #[test]
    fn one_star_is_every_room_and_an_empty_list_none() {
        assert!(grant(&[("*", true)]).room("any").is_some());
        assert!(grant(&[]).room("any").is_none());
        assert!(Grant::ALL.room("any").is_some());
    }
}
