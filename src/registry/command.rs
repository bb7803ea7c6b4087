//! What may be asked of the registry, and what reaches a session's mailbox.

use std::{collections::BTreeMap, sync::Arc};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{
    drain::DrainWindow,
    inlet::Inlet,
    rooms::{Entry, Room, Standing},
    view::{Page, PeerInlet, RoomView, SessionView, Watched, Watcher},
};
use crate::protocol::{Census, ErrorCode, LeaveReason, Payload, PeerId, PeerName, RoomId};

/// A session begins. It is told to close when the server drains.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
}

/// A session ends, and with it its place in these rooms. Without a reason the others are not told.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unregister {
    pub peer_id: PeerId,
    pub rooms: Vec<RoomId>,
    pub reason: Option<LeaveReason>,
}

/// Enter a room. Answered through the inlet, like every command that a session waits for; a session waits for one at a time, so the
/// registry's mailbox never holds more of them than there are sessions.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
    pub room: RoomId,
    pub entry: Entry,
}

/// Go by another name in a quiet room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Rename {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
    pub room: RoomId,
    pub name: PeerName,
}

impl Rename {
    /// Tells who asked what became of it.
    pub fn answer(self, outcome: Result<(), ErrorCode>) {
        self.inlet.answer(match outcome {
            Ok(()) => Answer::Renamed(self.room, self.name),
            Err(code) => Answer::NotRenamed(code),
        });
    }
}

/// How many there are in these rooms.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Count {
    pub inlet: Arc<dyn Inlet>,
    pub rooms: Vec<RoomId>,
}

/// The names of all who have one in this room.
#[derive(Message)]
#[rtype(result = "Vec<PeerName>")]
pub struct TakeNames(pub RoomId);

/// Leave rooms, on the client's own wish, or because they are not for it any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
    pub rooms: Vec<RoomId>,
    pub reason: LeaveReason,
    /// Does the session wait for the answer?
    pub is_awaited: bool,
}

/// Replace what the others in a room see of a peer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Update {
    pub peer_id: PeerId,
    pub inlet: Arc<dyn Inlet>,
    pub room: RoomId,
    pub metadata: Option<Payload<'static>>,
}

/// End every session within this time, and every one that comes later.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain(pub DrainWindow);

/// Who is where, for tests and for looking at a running server.
#[derive(Message)]
#[rtype(result = "Snapshot")]
pub struct TakeSnapshot;

/// The peers of each room, in the order of their names.
pub type Snapshot = BTreeMap<RoomId, Vec<PeerId>>;

/// Some of the rooms, in the order of their names: those behind `after`, and of this dialect alone if one is named, which is an empty name for the
/// rooms that clients of several share.
#[derive(Message)]
#[rtype(result = "Page<RoomView>")]
pub struct ListRooms {
    pub after: Option<RoomId>,
    pub dialect: Option<String>,
    pub limit: usize,
}

/// Some of the sessions, in the order of their ids: those behind `after`. Each may be asked for more by its inlet.
#[derive(Message)]
#[rtype(result = "Page<PeerInlet>")]
pub struct ListPeers {
    pub after: Option<PeerId>,
    pub limit: usize,
}

/// The room of this name, if there is one.
#[derive(Message)]
#[rtype(result = "Option<Arc<Room>>")]
pub struct FindRoom(pub RoomId);

/// The session of this peer, if there is one.
#[derive(Message)]
#[rtype(result = "Option<Arc<dyn Inlet>>")]
pub struct FindPeer(pub PeerId);

/// Send everybody out of a room. Answered with how many there were; none if there is no such room.
#[derive(Message)]
#[rtype(result = "Option<usize>")]
pub struct CloseRoom(pub RoomId);

/// Tell this one what happens in a room from now on, and at once who is there, `limit` of them at most.
#[derive(Message)]
#[rtype(result = "Option<Watched>")]
pub struct Watch {
    pub room: RoomId,
    pub watcher: Arc<dyn Watcher>,
    pub limit: usize,
}

/// It has seen enough.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unwatch {
    pub room: RoomId,
    pub watcher: Arc<dyn Watcher>,
}

/// What reaches a session's mailbox by way of its inlet.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Deliver {
    /// The command that it waits for is done.
    Answer(Answer),
    /// More waits for its client than may wait.
    Overflowed,
    /// Another session has its place.
    Replaced,
    /// Somebody wants to know whether its client is still there.
    Challenged,
    /// Its client said something to a peer that may come soon.
    Patience,
    /// The server shuts down: it is to end within this time.
    Drain(DrainWindow),
    /// Whoever runs the server ends it.
    Removed,
    /// It is out of this room, for whoever runs the server has closed that.
    Expelled(RoomId),
    /// Somebody wants to know what it is like.
    Describe(oneshot::Sender<SessionView>),
}

/// What became of a command.
pub enum Answer {
    /// The session is in the room, whose handle this is. Its client knows.
    Joined(Arc<Room>, Standing),
    /// The session goes by this name in this room.
    Renamed(RoomId, PeerName),
    /// It goes by the one that it had.
    NotRenamed(ErrorCode),
    /// So many are there.
    Counted(Vec<(RoomId, Census)>),
    /// The session is out of the rooms that it asked to leave.
    Left,
    /// The others know the new metadata.
    Updated,
    /// The new token counts from now on.
    Renewed,
    /// Nothing changed.
    Refused(ErrorCode),
}
