//! Foreign spellings of the same language, one file each, pure like the protocol: no actor, no socket, no clock.
//!
//! A dialect turns frames into our messages and our messages into frames. What it cannot express it leaves out, and says so in its file.

mod native;

pub use native::Native;

use crate::protocol::{Envelope, Refusal, Request, ServerMessage, framing::Frame};

/// How the messages of one connection are spelled.
pub trait Dialect: Send + Sync {
    /// Reads what a client sent; the frame's size is checked, nothing else is. Values may nest `nesting_max` deep.
    fn decode<'a>(&self, frame: &'a Frame, nesting_max: usize) -> Result<Request<'a>, Refusal>;

    /// Spells a message that others get as well.
    fn encode(&self, envelope: &Envelope) -> Frame;

    /// Spells a message for this client alone.
    fn spell(&self, message: &ServerMessage) -> Frame;

    /// Spells anew what was spelled for an earlier connection of the same session.
    fn respell(&self, frame: &Frame) -> Frame;
}
