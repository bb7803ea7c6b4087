//! Who decides who may come in, for tests: a list of tokens, and what each is good for.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard::auth::{Authorize, Denied, Grant, Rights, RoomAccess, RoomGrant, RoomPattern, Visitor};

/// The list, and what was asked of it.
#[derive(Default)]
pub struct GuestList {
    grants: Mutex<HashMap<String, Grant>>,
    /// Those of the rooms that are asked about that may be entered.
    rooms: HashSet<&'static str>,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl GuestList {
    /// A token is good for this.
    pub fn put(self, token: &str, grant: Grant) -> Self {
        self.grants.lock().unwrap().insert(token.to_owned(), grant);
        self
    }

    /// Of the rooms that are asked about, this may be entered.
    pub fn open_room(mut self, room: &'static str) -> Self {
        self.rooms.insert(room);
        self
    }

    /// The rooms that were asked about, and for whom.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Authorize for GuestList {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        let grant = visitor.token.and_then(|token| self.grants.lock().unwrap().get(&token).cloned());
        std::future::ready(grant.ok_or_else(|| Denied::new("not on the list"))).boxed()
    }

    fn join(&self, _: Visitor, user: Option<Arc<str>>, room: String) -> BoxFuture<'_, Result<RoomAccess, Denied>> {
        self.asked.lock().unwrap().push((room.clone(), user.map(|user| user.to_string())));
        let may = self.rooms.contains(room.as_str());
        std::future::ready(may.then(RoomAccess::default).ok_or_else(|| Denied::new("not for you"))).boxed()
    }
}

/// A grant for this user and these rooms.
pub fn grant(user: &str, rooms: &[&str]) -> Grant {
    with_rights(user, &rooms.iter().map(|room| (*room, Rights::ALL)).collect::<Vec<_>>())
}

/// The same, with what the user may do there.
pub fn with_rights(user: &str, rooms: &[(&str, Rights)]) -> Grant {
    let rooms = rooms.iter().map(|(room, rights)| RoomGrant { rooms: RoomPattern::parse(room), rights: *rights, peers_max: None });
    Grant { user: Some(user.into()), rooms: Some(rooms.collect()), ..Grant::ALL }
}

/// The same grant, for so long.
pub fn lasting(grant: Grant, time: Duration) -> Grant {
    Grant { expires_at: Some(SystemTime::now() + time), ..grant }
}
