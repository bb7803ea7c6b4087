//! Who may come in, and what for.
//!
//! Every door and every dialect asks here, once when a client has said who it is and once for each room, where somebody has to be asked at all: a
//! server without settings is open. Nothing here knows what a session is, or a socket.

pub mod grant;
pub mod origin;

pub use grant::{Grant, RateLimits, Rights, RoomGrant, RoomPattern};
