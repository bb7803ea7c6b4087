//! Switchboard, a WebRTC signaling server: clients meet in rooms over WebTransport or WebSocket and exchange what they need to connect
//! directly.
//!
//! The `switchboard` program is [`config`] and [`Server`]; a Rust program can embed the server the same way:
//!
//! ```no_run
//! let server = switchboard::Server::start(switchboard::Config::default())?;
//! println!("open {}", server.url());
//! server.wait();
//! # Ok::<(), switchboard::server::StartError>(())
//! ```
//!
//! # How one message travels
//!
//! A WebSocket client sends an offer to a peer on WebTransport:
//!
//! 1. [`ingress::websocket`] reads what the socket has, cuts it into frames, checks their size, and brings them to the session's
//!    [hearing](session::hearing), for which it waits: a flood slows its own socket.
//! 2. [`dialect`] turns a frame into a [`protocol::ClientMessage`]; the payload stays the bytes that it came in.
//! 3. The hearing asks whether it comes too fast and what is legal now, adds the sender's identity from its own state, and looks the target up in the
//!    [room's handle](registry::rooms::Room) that it got when it joined. Neither the registry nor an actor is asked.
//! 4. A [`protocol::Envelope`] goes to the target's [delivery](session::delivery) by way of its [inlet](registry::inlet::Inlet). It is spelled
//!    in the target's own dialect, once per codec however many it is for, kept until it is received, and put into the
//!    [outbox](session::outbox) of the connection. Nobody waits there: who is over the bound is closed. A sender whose peer is half way there is
//!    [read no further](ingress) for a while.
//! 5. [`ingress::webtransport`] writes all that is queued at once. While its door has nothing to do, whoever has something for the connection
//!    writes past it, or the [postman](session::postman) of the thread does.
//!
//! A client of another server speaks a foreign dialect: a frame of its may be several [wishes](dialect::Wish), which the hearing grants one after
//! another ([`session::hearing`] and its `wishes`), and what it hears of a message of ours is for its dialect to say. All else is the same.
//!
//! Joining, leaving and metadata go the long way, through the [`registry`] actor, which alone changes membership; the rules are in
//! [`registry::rooms`], a plain struct.
//!
//! # The map
//!
//! | folder | owns | does not know |
//! |---|---|---|
//! | [`protocol`] | the language: ids, messages, codes, codecs, framing; its [specification](protocol) | actors, sockets, clocks |
//! | [`dialect`] | how the language is spelled for a family of clients | each other |
//! | [`registry`] | who is where | what a session is |
//! | [`session`] | one client's life | what a socket is |
//! | [`ingress`] | sockets, TLS, HTTP: bytes in, bytes out | what a frame means |
//! | [`server`] | the parts, joined; the order of shutdown | |
//! | [`admin`] | what whoever runs the server sees of it and does to it | doors, dialects |
//! | [`auth`] | who may come in, and what for | sessions, sockets |
//! | [`ice`] | what clients are told of STUN and TURN servers, and with which credentials | sessions, sockets |
//! | [`turn`] | the embedded STUN and TURN server | sessions, rooms |
//! | [`metrics`] | what is counted, and how it is told | who counts it |
//! | [`config`] | settings, and where they come from | what a setting is good for |
//! | [`client`] | the other end, for tests, benches and Rust programs | the server's inside |
//! | `webrtc` | peers without a browser, with the feature of that name | how signals travel |
//! | [`load`] | many clients at once, and what became of every message | what a message means |
//! | `slips` | what somebody who wrote an unknown name may have meant | whose names they are |
//!
//! Beside these, `check`, `cli`, `console`, `echo`, `health`, `logging`, `local_server`, `roots`, `soak`, `bench` and `tokens` belong to the program alone, in `main.rs`.
//!
//! # What always holds
//!
//! - `from` is what the server knows, never what a client wrote.
//! - A room's lock makes a change of membership and its announcement one step: a peer is announced before anything from it arrives, and
//!   nothing from it arrives after it is gone.
//! - What A sends to B stays in order: one hearing, one delivery, one stream.
//! - At the door we wait, for the session and for a peer that is behind; inside nobody waits. Everything that can grow has a bound, which is a setting.
pub mod admin;
pub mod auth;
pub mod client;
pub mod config;
pub mod dialect;
pub mod ice;
pub mod ingress;
pub mod load;
pub mod metrics;
pub mod protocol;
pub mod registry;
pub mod server;
pub mod session;
mod slips;
pub mod turn;
#[cfg(feature = "webrtc")]
pub mod webrtc;

pub use config::Config;
pub use server::Server;
