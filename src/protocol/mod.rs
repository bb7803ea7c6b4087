//! The language of the wire: bytes and their meanings. No actor, no socket, no clock.
//!
//! What follows is the specification that clients are written from.
//!
// Of two definitions of a link the first holds: here the examples are on the same page, and to who reads the files they are one of their own.
//! [examples]: #every-message-in-both-codecs
#![doc = include_str!("protocol.md")]
#![doc = include_str!("examples.md")]

mod code;
mod envelope;
#[cfg(test)]
mod examples;
pub mod framing;
mod id;
mod json;
mod message;
pub mod msgpack;
mod object;
mod payload;
mod read;
mod scan;
mod spell;
mod transcode;

pub use code::{CloseCode, ErrorCode};
pub use envelope::Envelope;
pub use id::{PeerId, PeerName, ResumeToken, RoomId};
pub use message::{
    Census, ClientLimits, ClientMessage, ClientRates, Kind, LeaveReason, Malformed, NO_SUCH_PEER, Peer, Refusal, Request, Resume,
    ServerMessage, Token, Welcome,
};
pub use payload::{Codec, Payload};
pub use spell::RELAY;

pub(crate) use object::Object;

/// The code with which a client closes its QUIC connection when something went wrong and it may come back: RFC 9114 §8.1.
pub const H3_INTERNAL_ERROR: u32 = 0x102;
/// The token in `Sec-WebSocket-Protocol` by which a client may ask for JSON, which it gets without asking, too.
pub const SUBPROTOCOL_JSON: &str = "switchboard.json";
/// The token in `Sec-WebSocket-Protocol` by which a client asks for MessagePack on a WebSocket.
pub const SUBPROTOCOL_MSGPACK: &str = "switchboard.msgpack";
