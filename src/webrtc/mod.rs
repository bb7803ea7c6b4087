//! A peer of WebRTC: a connection with data channels, over sockets of its own, and one that echoes what comes. For `switchboard echo`, for
//! `switchboard check --webrtc`, and for Rust programs that want a peer without a browser. Only with the feature `webrtc`.
//!
//! [`Connection`] is one connection to one peer, [`Echo`] answers many. Neither knows how signals travel: they are handed to both and taken from both.

mod connection;
mod crypto;
mod echo;
mod gathering;
mod relay;
mod signal;

pub use self::{
    connection::{Channel, Connection, Event, Fault, Message, Options},
    echo::{Echo, Limits, Outgoing},
    signal::{Description, candidate_text, spell_candidate},
};
