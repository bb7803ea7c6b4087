//! What a session has agreed with its client so far, and which message is legal when. No actor, no clock.

use std::sync::Arc;

use crate::{
    protocol::{ErrorCode, PeerName, RoomId},
    registry::rooms::{Room, Standing},
};

/// The rooms that a session is in, and whether its client has said anything.
#[derive(Default)]
pub struct State {
    /// Few, so a list is the fastest map.
    rooms: Vec<Entered>,
    greeted: bool,
}

/// A room that a session is in.
struct Entered {
    room: Arc<Room>,
    standing: Standing,
}

impl State {
    /// Notes that a message came; whether it was the first.
    pub fn greet(&mut self) -> bool {
        !std::mem::replace(&mut self.greeted, true)
    }

    /// Has any message come?
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Is the session in any room?
    pub fn is_in_a_room(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// May this room be joined?
    pub fn may_join(&self, room: &RoomId, rooms_max: usize) -> Result<(), ErrorCode> {
        if self.find(room.name()).is_some() {
            return Err(ErrorCode::AlreadyInRoom);
        }
        if self.rooms.len() >= rooms_max {
            return Err(ErrorCode::TooManyRooms);
        }
        Ok(())
    }

    /// Notes a room that the session is in.
    pub fn entered(&mut self, room: Arc<Room>, standing: Standing) {
        if self.rooms.is_empty() {
            // Most clients are in one room, and a list begins with room for four.
            self.rooms.reserve_exact(1);
        }
        self.rooms.push(Entered { room, standing });
    }

    /// The names of the rooms that the session is in.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().map(|entered| entered.room.id().name())
    }

    /// Notes that the session goes by another name in a room that it is in.
    pub fn renamed(&mut self, room: &RoomId, name: PeerName) {
        if let Some(entered) = self.rooms.iter_mut().find(|entered| entered.room.id() == room) {
            entered.standing.name = Some(name);
        }
    }

    /// The room that a message means: the one it names, or the only one there is.
    pub fn room(&self, name: Option<&str>) -> Result<&Arc<Room>, ErrorCode> {
        self.place(name).map(|(room, _)| room)
    }

    /// The same, and what the session is there.
    pub fn place(&self, name: Option<&str>) -> Result<(&Arc<Room>, &Standing), ErrorCode> {
        let entered = match (name, &*self.rooms) {
            (Some(name), _) => self.find(name).ok_or(ErrorCode::NotInRoom),
            (None, [only]) => Ok(only),
            (None, _) => Err(ErrorCode::RoomRequired),
        };
        entered.map(|entered| (&entered.room, &entered.standing))
    }

    /// Takes out the room of this name, or all rooms without one. From here on nothing of this session reaches them.
    pub fn take_rooms(&mut self, name: Option<&str>) -> Result<Vec<RoomId>, ErrorCode> {
        let Some(name) = name else {
            return Ok(self.rooms.drain(..).map(|entered| entered.room.id().clone()).collect());
        };
        let at = self.rooms.iter().position(|entered| entered.room.id().name() == name).ok_or(ErrorCode::NotInRoom)?;
        Ok(vec![self.rooms.swap_remove(at).room.id().clone()])
    }

    /// All rooms.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.iter().map(|entered| entered.room.id())
    }

    /// Notes that the session is no longer in this room.
    pub fn expelled(&mut self, room: &RoomId) {
        self.rooms.retain(|entered| entered.room.id() != room);
    }

    fn find(&self, name: &str) -> Option<&Entered> {
        self.rooms.iter().find(|entered| entered.room.id().name() == name)
    }
}
