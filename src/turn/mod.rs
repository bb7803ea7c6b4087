//! The embedded STUN and TURN server.

pub mod credentials;
mod source;

pub use self::source::Source;
