//! How a kind of server is spoken to. Whoever wants to measure one writes this trait for it, and nothing else.
//!
//! Frames are whole messages, without the framing of the wire. Where a message can carry a payload it is spelled once, with the payload
//! as it is given, which holds a marker; the engine finds the marker in the spelled bytes.

use serde_json::Value;

use super::{LoadError, wire::Wire};

/// How a kind of server is spoken to.
pub trait Speech: Send + Sync + 'static {
    /// What reports call the server, such as "Switchboard, WebSocket (JSON)".
    fn name(&self) -> String;

    /// Brings client `number` into a room, and returns when others who come in later can reach it and it can reach who was there before.
    /// Numbers count from 0; who is in a room with whom is the engine's choice.
    fn enter(&self, number: usize, room: &str) -> impl Future<Output = Result<Member, LoadError>> + Send;

    /// A message from one client to another of its room; `None` if the server has no such thing.
    fn forward(&self, signal: Signal, from: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>>;

    /// A message from one client to the rest of its room; `None` if the server has no such thing.
    fn broadcast(&self, from: &Address, payload: &Value) -> Option<Vec<u8>>;

    /// How a client that is connected comes and goes; `None` if on this server one joins by connecting. Then churn connects and closes.
    fn comings(&self, _who: &Address) -> Option<Comings> {
        None
    }

    /// Does this frame tell that somebody came or went? Called for every frame in churn, so better by looking for bytes than by parsing.
    /// A server that never tells says `None` to all.
    fn presence<'a>(&self, _frame: &'a [u8]) -> Option<Presence<'a>> {
        None
    }

    /// Do others hear who comes and goes? Where not, churn measures the server's work alone, by the answers in [`Comings`].
    fn has_presence(&self) -> bool {
        true
    }

    /// Does what a client sends come back to it as well? Then that copy is not counted; otherwise it went astray.
    fn echoes(&self) -> bool {
        false
    }

    /// The answer to a frame that asks for one to keep the connection alive, such as `3` to the `2` of Engine.IO. Called for frames without a marker.
    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let _ = frame;
        None
    }
}

/// A client in a room.
pub struct Member {
    /// Who it is.
    pub address: Address,
    /// Its connection.
    pub wire: Wire,
}

/// Who a client is for others.
#[derive(Clone, Debug)]
pub struct Address {
    /// The engine's number of it.
    pub number: usize,
    /// The room that it is in.
    pub room: String,
    /// What the server calls it; empty where it has no name.
    pub id: String,
}

/// What a directed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A session description, some 2 KB.
    Offer,
    /// An ICE candidate, some 200 bytes.
    Candidate,
}

/// How a client comes and goes on a connection that stays.
#[derive(Clone, Debug)]
pub struct Comings {
    /// Enters the room of its address again.
    pub join: Vec<u8>,
    /// Leaves it.
    pub leave: Vec<u8>,
    /// Bytes of the frame that says to the client itself that it is in; empty if there is none.
    pub joined: Vec<u8>,
    /// Bytes of the frame that says that it is out; empty if there is none.
    pub left: Vec<u8>,
}

/// Somebody came or went, by the id in their [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<'a> {
    /// Is in the room.
    Joined(&'a [u8]),
    /// Is no longer.
    Left(&'a [u8]),
}
