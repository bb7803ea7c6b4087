//! The embedded STUN and TURN server.

pub mod credentials;
