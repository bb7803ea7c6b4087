//! Foreign spellings of the same language, one file each, pure like the protocol: no actor, no socket, no clock.
//!
//! A dialect turns frames into our messages and our messages into frames. What it cannot express it leaves out, and says so in its file. Our own
//! is [`Native`]: one frame is one message. A frame of a foreign one may be several [wishes](Wish), or none, and a message of ours several frames,
//! or none. What it has to remember of a connection it keeps itself, behind a lock of its own that is held for nothing else.

mod announce;
mod classic;
pub mod engineio;
mod fields;
mod matchbox;
mod native;
mod peerjs;
pub mod socketio;
mod tracker;
mod wish;
mod y_webrtc;

pub use classic::Classic;
pub use matchbox::Matchbox;
pub use native::Native;
pub use peerjs::{NAME as PEERJS, PeerJs};
pub use socketio::SocketIo;
pub use tracker::Tracker;
pub use wish::{Claim, Deed, IfTaken, To, Wish};
pub use y_webrtc::YWebrtc;

use std::time::Duration;

use crate::protocol::{
    Envelope, Refusal, Request, ServerMessage, Token,
    framing::{Frame, LentFrame},
};

/// How the messages of one connection are spelled.
pub trait Dialect: Send + Sync {
    /// What it is called, as in the setting `dialects`; our own is `native`.
    fn name(&self) -> &'static str;

    /// Reads what a client sent; its size is checked, and that text is UTF-8, nothing else is. Values may nest `nesting_max` deep.
    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal>;

    /// Spells a message that others may get as well.
    fn encode(&self, envelope: &Envelope) -> Frames;

    /// Spells a message for this client alone.
    fn spell(&self, message: &ServerMessage) -> Frames;

    /// The same into a buffer, for a dialect that needs nothing else: whatever the message is, it is the one frame that [`encode`](Self::encode) and
    /// [`spell`](Self::spell) would make of it.
    fn spell_into<'a>(&self, _message: &ServerMessage, _out: &'a mut Vec<u8>) -> Option<LentFrame<'a>> {
        None
    }

    /// Spells anew what was spelled for an earlier connection of the same session.
    fn respell(&self, frame: Frame) -> Frame {
        frame
    }

    /// Its clients, and whether they are like ours.
    fn manners(&self) -> Manners {
        Manners::NATIVE
    }

    /// The token that a client says in its first frame; none where its dialect has no place for one.
    fn token<'a>(&self, _first: LentFrame<'a>) -> Option<Token<'a>> {
        None
    }

    /// What a client wants by having come, where it does not speak first.
    fn greeting(&self) -> Vec<Wish> {
        vec![]
    }

    /// Does the connection end behind this refusal?
    fn ends_with(&self, _refusal: &Refusal) -> bool {
        false
    }
}

/// How clients of a dialect behave, and want to be dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Does the client speak first? Otherwise it wants what [`Dialect::greeting`] says.
    pub speaks_first: bool,
    /// Can a lost connection be followed by another one in the same session?
    pub resumes: bool,
    /// The dialect whose clients have rooms of their own; none where they meet those of others.
    pub rooms_of: Option<&'static str>,
    /// Are its rooms quiet? In a quiet room nobody is told who is there.
    pub is_quiet: bool,
    /// Do its clients speak to whole rooms? Then a quiet room has no more peers than any other may have.
    pub broadcasts: bool,
    /// How long a message waits for a peer that is not there, by its name.
    pub patience: Duration,
    /// Is there a place for a token in its first frame? Elsewhere it is in the address of the connection.
    pub says_token: bool,
    /// Is there a word for ICE servers? Elsewhere nobody makes credentials that are never told.
    pub takes_ice_servers: bool,
}

impl Manners {
    /// Those of our own clients.
    pub const NATIVE: Self = Self {
        speaks_first: true,
        resumes: true,
        rooms_of: None,
        is_quiet: false,
        broadcasts: false,
        patience: Duration::ZERO,
        says_token: true,
        takes_ice_servers: true,
    };
    /// Those of most foreign clients, who meet everybody.
    pub const FOREIGN: Self = Self { resumes: false, says_token: false, takes_ice_servers: false, ..Self::NATIVE };
}

/// What a frame means.
pub enum Heard<'a> {
    /// One message of ours.
    Request(Request<'a>),
    /// What a foreign client wants, in this order.
    Wishes(Vec<Wish>),
}

/// The frames of one message.
#[derive(Debug)]
pub enum Frames {
    /// Most often it is one.
    One(Frame),
    /// All of them, in order. Perhaps none.
    Several(Vec<Frame>),
}

impl Frames {
    /// What this dialect has no word for.
    pub const NONE: Self = Self::Several(Vec::new());

    /// One frame of text.
    pub fn text(text: impl Into<bytes::Bytes>) -> Self {
        Self::One(Frame::Text(text.into()))
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Frame] {
        match self {
            Self::One(frame) => std::slice::from_ref(frame),
            Self::Several(frames) => frames,
        }
    }

    /// The last of them, for where there is room for one only.
    pub fn into_last(self) -> Option<Frame> {
        match self {
            Self::One(frame) => Some(frame),
            Self::Several(mut frames) => frames.pop(),
        }
    }
}

impl IntoIterator for Frames {
    type Item = Frame;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Frame>, std::vec::IntoIter<Frame>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, several) = match self {
            Self::One(frame) => (Some(frame), vec![]),
            Self::Several(frames) => (None, frames),
        };
        one.into_iter().chain(several)
    }
}
