//! The WebSocket door: RFC 6455 on a socket of our own.
//!
//! The HTTP service hands the socket over after the upgrade request, so nothing of HTTP stays under a connection. One task per connection reads
//! and writes side by side: the [reader](read) takes messages out of [`frame`]s and brings them to the session, the [writer](write) waits for
//! the outbox. A client that stops reading stops only the writer; the task ends both when it has had its time.
//!
//! A quiet connection has no buffers: what is read and written at once goes through one buffer that all connections of a thread share.

pub mod frame;
pub mod read;
mod shortcut;
mod write;

use std::{cell::RefCell, pin::pin, sync::Arc};

use bytes::BytesMut;
use futures_util::future::Either;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use self::write::write;
pub use self::{
    read::{Arriving, Reader, Stop},
    shortcut::Handover,
    write::spell,
};

use super::{Doorkeeper, Place, Stopped as _, overdue};
use crate::{
    config::{Limits, Timeouts},
    dialect::{Dialect, Native},
    metrics::Door,
    protocol::{Codec, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK},
    session::outbox::Outbox,
};

/// What a client is probed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    /// Ping frames of RFC 6455; the reader watches the silence.
    Frames,
    /// Packets of Engine.IO, in messages; whoever is behind the reader watches.
    Packets,
}

/// Picks the dialect for what a client offers in `Sec-WebSocket-Protocol`, and the subprotocol to answer, if any.
pub fn negotiate(offered: &str) -> (Arc<dyn Dialect>, Option<&'static str>) {
    for subprotocol in offered.split(',').map(str::trim) {
        if subprotocol == SUBPROTOCOL_MSGPACK {
            return (Native::shared(Codec::MsgPack), Some(SUBPROTOCOL_MSGPACK));
        }
        if subprotocol == SUBPROTOCOL_JSON {
            return (Native::shared(Codec::Json), Some(SUBPROTOCOL_JSON));
        }
    }
    (Native::shared(Codec::Json), None)
}

/// Serves one client from behind its handshake to its end. `leftover` was read with the handshake already. The place is held by the session as well, and
/// here until the last byte is written.
pub async fn serve<Io>(io: Io, leftover: BytesMut, dialect: Arc<dyn Dialect>, place: Arc<Place>, doorkeeper: Arc<Doorkeeper>)
where
    Io: Handover,
{
    let (limits, timeouts) = (&doorkeeper.limits, &doorkeeper.timeouts);
    let outbox = Outbox::new(doorkeeper.meter(Door::WebSocket, &*dialect));
    let (io, shortcut) = io.hand_over();
    let _past_door = shortcut.map(|shortcut| outbox.use_shortcut(shortcut));
    let attend = async |reader: &mut Reader<'_, _>| attend(reader, dialect, &outbox, &place, &doorkeeper).await;
    exchange(io, &mut Arriving::new(leftover, limits), &outbox, Pings::Frames, limits, timeouts, attend).await;
}

/// Reads frames as long as `attend` asks for them, and writes what the outbox holds, to the end of the connection. What the frames are for only
/// `attend` knows; of the limits only those for messages and outboxes are heeded.
pub async fn exchange<Io>(
    io: Io,
    arriving: &mut Arriving,
    outbox: &Outbox,
    pings: Pings,
    limits: &Limits,
    timeouts: &Timeouts,
    attend: impl AsyncFnOnce(&mut Reader<'_, Io>) -> Stop,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    // Reader and writer are polled in turn, never at the same time.
    let io = RefCell::new(io);
    let mut overdue = pin!(overdue(outbox, timeouts));
    let mut reading = pin!(async {
        let mut reader = Reader::new(&io, arriving, outbox, pings, limits, timeouts);
        match attend(&mut reader).await {
            // The server is the first to close the socket: RFC 6455 §7.1.1.
            Stop::Closed(code) => outbox.answer_close(Some(code.unwrap_or(NORMAL_CLOSURE))),
            Stop::Violation(code) => outbox.fail(code),
            Stop::Fault(_) => {}
            Stop::Gone => return outbox.answer_close(None),
        }
        reader.discard().await;
    });
    let mut writing = pin!(write(&io, outbox, pings, timeouts.silence()));
    let writes = outbox.run_unless_idle(writing.as_mut(), overdue.as_mut());
    tokio::select! {
        // What the client says may be answered in the same turn, where there is no way past this door.
        biased;
        () = &mut reading => {
            tokio::select! { _ = &mut writing => {}, _ = &mut overdue => {} }
        }
        first = writes => {
            let Either::Left(written) = first else { return };
            if let Err(error) = &written {
                debug!(%error, "a socket takes no more");
            }
            // The client may still answer our close, or the reader learns what became of it.
            let given_up = Box::pin(tokio::time::sleep(timeouts.close()));
            tokio::select! { () = &mut reading => {}, _ = &mut overdue => {}, () = given_up, if written.is_err() => {} }
        }
    }
}

/// Opens a session with the client's first frames and hands it all that follow.
async fn attend<Io>(
    reader: &mut Reader<'_, Io>,
    dialect: Arc<dyn Dialect>,
    outbox: &Arc<Outbox>,
    place: &Arc<Place>,
    doorkeeper: &Doorkeeper,
) -> Stop
where
    Io: AsyncRead + Unpin,
{
    let connection = place.connection(dialect, outbox.clone());
    // Boxed, for what it takes is not to be kept room for as long as the connection lasts.
    let (line, mut frames) = match Box::pin(doorkeeper.enter(place, connection, async |frames| reader.frames(frames).await)).await {
        Ok(entered) => entered,
        Err(stop) => return stop,
    };
    let stop =
        reader.converse(&mut frames, async |frames| line.hear(frames).await, |messages, frames| line.hear_at_once(messages, frames)).await;
    line.ended(stop.ending(), reader.heard_at());
    stop
}

/// RFC 6455 §7.4.1: a connection that has served its purpose.
const NORMAL_CLOSURE: u16 = 1000;
