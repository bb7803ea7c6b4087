//! What foreign clients want, in our words: all that our own clients may say, and the little that only others can.

use crate::protocol::{CloseCode, Kind, Payload, PeerId, Refusal};

use super::Frames;

/// Something that a foreign client wants, and the number by which its dialect wants to hear of it: as an `ack` or an `error`, which it may have a
/// word for or not.
#[derive(Debug)]
pub struct Wish {
    pub id: Option<u64>,
    pub deed: Deed,
}

impl From<Deed> for Wish {
    /// One that nobody wants to hear of, unless it is refused.
    fn from(deed: Deed) -> Self {
        Self { id: None, deed }
    }
}

/// What is to be done. A room is named as the client does; left out, it is the only one that the client is in.
#[derive(Debug)]
pub enum Deed {
    /// Enter a room, perhaps under a name. `seats`: a room of this name for so many, which nobody else enters once it has been full.
    Join { room: String, metadata: Option<Payload<'static>>, claim: Option<Claim>, seats: Option<usize> },
    /// Go by another name in a quiet room that one is in. If that is refused, so is whatever follows in the same frame.
    Rename { room: String, name: String },
    /// Tell once more who is in a room that one is in.
    List { room: String },
    /// Leave a room, or all of them.
    Leave { room: Option<String> },
    /// To one peer of a room.
    Forward { kind: Kind, to: To, room: Option<String>, payload: Payload<'static> },
    /// To the rest of a room, and with `echo` to the client itself as well.
    Broadcast { kind: Kind, room: Option<String>, payload: Payload<'static>, echo: bool },
    /// Replace what others see of me.
    Metadata { room: Option<String>, metadata: Option<Payload<'static>> },
    /// Go on as who says this token, or none, where anybody is asked.
    Renew { token: Option<String> },
    /// Answer.
    Ping,
    /// Tell how many there are in these rooms, whoever is in them.
    Count { rooms: Vec<String> },
    /// Tell this client something, in its turn.
    Say(Frames),
    /// Refuse something, in its turn.
    Refuse(Refusal),
    /// End the connection, for this reason.
    Close(CloseCode),
}

impl Deed {
    /// Does it count as entering a room, where that is bounded?
    pub fn costs_a_join(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Rename { .. } | Self::List { .. })
    }
}

/// A name that a peer wants to be known by in a room.
#[derive(Clone, Debug)]
pub struct Claim {
    pub name: String,
    /// Who knows it takes the name over from whoever has it.
    pub secret: Option<String>,
    pub if_taken: IfTaken,
}

/// What becomes of a peer whose name another one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It is in the room under its id alone, unless the other one turns out to be dead.
    Unnamed,
    /// It is not let in, unless the other one turns out to be dead.
    Refused,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The peer with this id.
    Peer(PeerId),
    /// The peer with this name, or this id.
    Name(String),
    /// The peer at this place among all others in the room, counted from a place that the seed picks: with one seed each place is another peer. Past
    /// the last it is nobody.
    Place { seed: usize, place: usize },
}
