//! The way into a session, as the registry and the rooms see it: they know no more of a session than this.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{command::Answer, drain::DrainWindow, view::SessionView};
use crate::protocol::{Envelope, RoomId};

/// Where deliveries for one peer go. What is handed over in order arrives in order. Who delivers holds a room's lock, so nothing here waits for a
/// client but [`eased`](Inlet::eased), which is for afterwards.
pub trait Inlet: Send + Sync {
    /// Hands over a message for the client.
    fn deliver(&self, envelope: &Envelope) -> Result<(), Untaken>;
    /// Does so much wait for the client that who sends to it should wait for it?
    fn is_behind(&self) -> bool {
        false
    }
    /// Waits until the client is not behind, or has been waited for long enough. Not to be waited for with a lock held.
    fn eased(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
    /// Hands over the answer to a command. Never fails: a session waits for one at a time.
    fn answer(&self, answer: Answer);
    /// Asks whether its client is still there: one that does not answer is closed within some seconds.
    fn challenge(&self) {}
    /// Tells the session to end, because another one has its place.
    fn replace(&self) {}
    /// Tells the session to end within this time: the server shuts down.
    fn drain(&self, window: DrainWindow);
    /// Tells the session to end, because whoever runs the server wants so.
    fn remove(&self) {}
    /// Tells the session that it is no longer in this room, which was closed: its client does not know yet.
    fn expel(&self, _room: &RoomId) {}
    /// Asks the session what it is like. None if it is at its end.
    fn describe(&self) -> BoxFuture<'static, Option<SessionView>> {
        std::future::ready(None).boxed()
    }
}

/// Why a session did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Its client is over its bound and being closed.
    Overflow,
    /// It is at its end: that its peer left is about to be told.
    Gone,
}
