//! The rooms of the tutorials, as far as all who speak of them say the same: `announce` with a `hash`, and signals for a `targetPeer` or for
//! everybody else. How that becomes a frame is for each dialect to say.

use super::{Claim, Deed, IfTaken, To, fields::Fields};
use crate::protocol::{Kind, Payload, Peer, PeerId, PeerName, RoomId};

/// What a client says of itself when it enters a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub hash: String,
    /// What it wants to be called.
    pub name: Option<String>,
}

/// The room that a client announced itself in, and the one that it is about to. It is in a room from when the server says so, for an announcement may
/// be refused, and until the server says otherwise.
#[derive(Debug, Default)]
pub struct Announcements {
    standing: Option<Announced>,
    begun: Option<Announcement>,
}

/// What came of an announcement: the client is in the room, and called so.
#[derive(Debug)]
struct Announced {
    by: Announcement,
    called: String,
}

/// The fault of one that is none.
pub const NO_ANNOUNCEMENT: &str = "`announce` has a `hash`, which is text";
/// The fault of a signal for what is no peer.
pub const NO_TARGET: &str = "`targetPeer` is the id of a peer";

impl Announcement {
    /// Reads it; `None` without a hash.
    pub fn read(fields: &Fields<'_>) -> Option<Self> {
        let name = fields.text("peerId").map(|name| name.into_owned()).filter(|name| !name.is_empty());
        Some(Self { hash: fields.text("hash")?.into_owned(), name })
    }

    /// The room is entered under the name, if no other peer has it that is alive.
    pub fn join(self) -> Deed {
        let claim = self.name.map(|name| Claim { name, secret: None, if_taken: IfTaken::Unnamed });
        Deed::Join { room: self.hash, metadata: None, claim, seats: None }
    }
}

impl Announcements {
    /// What is asked for: who is there, if the client says no more than it has said, and otherwise to enter the room. Some announce themselves every now
    /// and then, and nobody is to take them for others.
    pub fn announce(&mut self, announcement: Announcement) -> Deed {
        if self.standing.as_ref().is_some_and(|announced| announced.is_said_again(&announcement)) {
            return Deed::List { room: announcement.hash };
        }
        self.begun = Some(announcement.clone());
        announcement.join()
    }

    /// The room that the client is announced in.
    pub fn room(&self) -> Option<&str> {
        self.standing.as_ref().map(|announced| announced.by.hash.as_str())
    }

    /// The client is in a room, and called so. It entered this one by announcing itself if that is what it was about to do.
    pub fn joined(&mut self, room: &RoomId, called: &str) {
        if let Some(by) = self.begun.take_if(|begun| begun.hash == room.name()) {
            self.standing = Some(Announced { by, called: called.to_owned() });
        }
    }

    /// The next room is entered otherwise.
    pub fn interrupt(&mut self) {
        self.begun = None;
    }

    /// The client is out of a room.
    pub fn left(&mut self, room: &RoomId) {
        self.standing.take_if(|announced| announced.by.hash == room.name());
    }
}

impl Announced {
    fn is_said_again(&self, Announcement { hash, name }: &Announcement) -> bool {
        let is_name = |name: &String| self.by.name.as_ref() == Some(name) || self.called == *name;
        self.by.hash == *hash && name.as_ref().is_none_or(is_name)
    }
}

/// The kind of a signal by its name.
pub fn signal(name: &str) -> Option<Kind> {
    [Kind::Offer, Kind::Answer, Kind::IceCandidate].into_iter().find(|kind| kind.name() == name)
}

/// What is to be done with a signal of these fields: it goes to its target, or without one to the rest of the room. `None` if the target is no
/// peer's.
pub fn forward(kind: Kind, fields: &Fields<'_>, room: Option<String>, payload: Payload<'static>) -> Option<Deed> {
    match fields.text("targetPeer") {
        Some(target) => Some(Deed::Forward { kind, to: To::Name(target.into_owned()), room, payload }),
        None if fields.find("targetPeer").is_some_and(|target| target.get() != "null") => None,
        None => Some(Deed::Broadcast { kind, room, payload, echo: false }),
    }
}

/// What a peer is called here.
pub fn id(peer_id: PeerId, name: Option<&PeerName>) -> String {
    name.map_or_else(|| peer_id.to_string(), |name| name.as_str().to_owned())
}

/// The same of one in a list.
pub fn seen(peer: &Peer) -> String {
    id(peer.peer_id, peer.name.as_ref())
}
