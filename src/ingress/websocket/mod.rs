//! The WebSocket door: RFC 6455 on a socket of our own.
//!
//! The HTTP service hands the socket over after the upgrade request, so nothing of HTTP stays under a connection. One task per connection reads
//! and writes side by side: the reader takes messages out of [`frame`]s and waits for the session, the writer waits for the outbox. A
//! client that stops reading stops only the writer; the task ends both when it has had its time.

pub mod frame;

use std::{
    collections::VecDeque,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_http::ws::{OpCode, Parser};
use actix_web_actors::ws::CloseReason;
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf},
    time::timeout,
};
use tracing::debug;

use self::frame::{Decoder, Fault, Item};
use super::{BATCH_FRAMES, Doorkeeper, Place, converse, overdue};
use crate::{
    config::{Limits, Timeouts},
    dialect::{Dialect, Native},
    protocol::{CloseCode, Codec, LeaveReason, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, framing::Frame},
    session::{
        connection::{Connection, Ending},
        heartbeat::{Beat, Heartbeat},
        outbox::{End, Outbox, Outgoing},
    },
};

/// Picks the dialect for what a client offers in `Sec-WebSocket-Protocol`, and the subprotocol to answer, if any.
pub fn negotiate(offered: &str) -> (Arc<dyn Dialect>, Option<&'static str>) {
    for subprotocol in offered.split(',').map(str::trim) {
        if subprotocol == SUBPROTOCOL_MSGPACK {
            return (Arc::new(Native(Codec::MsgPack)), Some(SUBPROTOCOL_MSGPACK));
        }
        if subprotocol == SUBPROTOCOL_JSON {
            return (Arc::new(Native(Codec::Json)), Some(SUBPROTOCOL_JSON));
        }
    }
    (Arc::new(Native(Codec::Json)), None)
}

/// Serves one client from behind its handshake to its end. `leftover` was read with the handshake already.
pub async fn serve<Io>(io: Io, leftover: BytesMut, dialect: Arc<dyn Dialect>, place: Place, doorkeeper: Arc<Doorkeeper>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (limits, timeouts) = (&doorkeeper.limits, &doorkeeper.timeouts);
    let outbox = Outbox::new();
    // Held by the session as well, and here until the last byte is written.
    let place = Arc::new(place);
    let connection = place.connection(dialect, outbox.clone());
    exchange(io, leftover, &outbox, limits, timeouts, async |reader| attend(reader, connection, &place, &doorkeeper).await).await;
}

/// Reads frames as long as `attend` asks for them, and writes what the outbox holds, to the end of the connection. What the frames are for only
/// `attend` knows; of the limits only those for messages and outboxes are heeded.
pub async fn exchange<Io>(
    io: Io,
    leftover: BytesMut,
    outbox: &Outbox,
    limits: &Limits,
    timeouts: &Timeouts,
    attend: impl AsyncFnOnce(&mut Reader<'_, ReadHalf<Io>>) -> Stop,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (read_half, write_half) = tokio::io::split(io);
    let mut overdue = pin!(overdue(outbox, timeouts));
    let mut reading = pin!(async {
        let mut reader = Reader {
            io: read_half,
            buffer: leftover,
            read_bytes: IDLE_BYTES,
            decoder: Decoder::new(limits.message_bytes_max),
            outbox,
            answers_max: limits.outbox_bytes_max / 2,
            heartbeat: Heartbeat::new(timeouts.heartbeat(), timeouts.silence(), Instant::now()),
            stop: None,
        };
        match attend(&mut reader).await {
            // The server is the first to close the socket: RFC 6455 §7.1.1.
            Stop::Closed(code) => outbox.answer_close(Some(code.unwrap_or(NORMAL_CLOSURE))),
            Stop::Violation(code) => outbox.fail(code),
            Stop::Fault(_) => {}
            Stop::Gone => return outbox.answer_close(None),
        }
        reader.discard().await;
    });
    let mut writing = pin!(write(write_half, outbox, timeouts.silence()));
    tokio::select! {
        _ = &mut overdue => {}
        written = &mut writing => {
            if let Err(error) = &written {
                debug!(%error, "a socket takes no more");
            }
            // The client may still answer our close, or the reader learns what became of it.
            let given_up = tokio::time::sleep(timeouts.close());
            tokio::select! { () = &mut reading => {}, _ = &mut overdue => {}, () = given_up, if written.is_err() => {} }
        }
        () = &mut reading => {
            tokio::select! { _ = &mut writing => {}, _ = &mut overdue => {} }
        }
    }
}

/// Opens a session with the client's first frames and hands it all that follow.
async fn attend<R>(reader: &mut Reader<'_, R>, connection: Connection, place: &Arc<Place>, doorkeeper: &Doorkeeper) -> Stop
where
    R: AsyncRead + Unpin,
{
    let (line, frames) = match doorkeeper.enter(place, &connection, reader.frames()).await {
        Ok(entered) => entered,
        Err(stop) => {
            if let Stop::Fault(code) = stop {
                doorkeeper.turn_away(&connection, code);
            }
            return stop;
        }
    };
    let stop = reader.converse(frames, async |frames| line.hear(frames).await).await;
    line.ended(stop.ending(), reader.heartbeat.heard_at());
    stop
}

/// Bytes that are read at once, at the least.
const READ_BYTES: usize = 4 * 1024;
/// Bytes that a buffer has room for while little is said, so that many quiet clients cost little.
const IDLE_BYTES: usize = 256;
/// RFC 6455 §7.4.1: a connection that has served its purpose.
const NORMAL_CLOSURE: u16 = 1000;
/// RFC 6455 §7.4.1: an endpoint breaks the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// RFC 6455 §7.4.1: text that is not UTF-8.
const INVALID_DATA: u16 = 1007;
/// Bytes that are written at once, about.
const WRITE_BYTES: usize = 64 * 1024;

/// The half of a connection that reads.
pub struct Reader<'a, R> {
    io: R,
    buffer: BytesMut,
    /// Room for so many bytes is made before a read.
    read_bytes: usize,
    decoder: Decoder,
    outbox: &'a Outbox,
    /// Bytes that may wait for the client before its next message is read.
    answers_max: usize,
    heartbeat: Heartbeat,
    /// Why reading ends, found behind frames that have to be heard first.
    stop: Option<Stop>,
}

/// Why reading ends.
pub enum Stop {
    /// The client sent a close frame, with this code if with any.
    Closed(Option<u16>),
    /// RFC 6455 was broken, with the close code that it names.
    Violation(u16),
    /// A bound was broken. Whoever attends to the connection closes it, as its client understands it.
    Fault(CloseCode),
    /// The socket is gone.
    Gone,
}

impl Stop {
    /// What it means for the session.
    fn ending(&self) -> Ending {
        match self {
            Self::Closed(_) => Ending::Left,
            Self::Violation(_) => Ending::Violation,
            Self::Fault(code) => Ending::Fault(*code),
            Self::Gone => Ending::Lost(LeaveReason::Disconnected),
        }
    }
}

impl From<CloseCode> for Stop {
    fn from(code: CloseCode) -> Self {
        Self::Fault(code)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        debug!(%fault, "a client is not served any longer");
        match fault {
            Fault::Protocol(_) => Self::Violation(PROTOCOL_ERROR),
            Fault::NotUtf8 => Self::Violation(INVALID_DATA),
            Fault::TooLarge(_) => Self::Fault(CloseCode::TooLarge),
        }
    }
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// Hands over these frames, and then all that come until the client ends or has to be ended.
    pub async fn converse(&mut self, frames: VecDeque<Frame>, hear: impl AsyncFn(VecDeque<Frame>)) -> Stop {
        converse(frames, self.outbox, self.answers_max, hear, async || self.frames().await).await
    }

    /// The next whole messages, one or more; what came before an end is heard before it. Control frames are dealt with on the way.
    pub async fn frames(&mut self) -> Result<VecDeque<Frame>, Stop> {
        let mut frames = VecDeque::new();
        loop {
            if self.stop.is_none() {
                self.stop = self.decode(&mut frames).err();
            }
            if !frames.is_empty() {
                return Ok(frames);
            }
            if let Some(stop) = self.stop.take() {
                return Err(stop);
            }
            self.read().await?;
        }
    }

    fn decode(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        while frames.len() < BATCH_FRAMES {
            match self.decoder.decode(&mut self.buffer)? {
                Some(Item::Message(frame)) => frames.push_back(frame),
                Some(Item::Ping(data)) => self.outbox.pong(data),
                Some(Item::Pong) => {}
                Some(Item::Close(code)) => return Err(Stop::Closed(code)),
                None => break,
            }
        }
        Ok(())
    }

    /// Reads what the socket has, probing a client that is silent.
    async fn read(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() && self.buffer.capacity() != self.read_bytes {
            self.buffer = BytesMut::with_capacity(self.read_bytes);
        }
        self.buffer.reserve(self.read_bytes);
        loop {
            let until = match self.heartbeat.beat(Instant::now()) {
                Beat::Wait(until) => until,
                Beat::Probe(until) => {
                    self.outbox.ping();
                    until
                }
                Beat::Dead => return Err(Stop::Fault(CloseCode::Timeout)),
            };
            match tokio::time::timeout_at(until.into(), self.io.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(Stop::Gone),
                Ok(Ok(_)) => {
                    if self.buffer.len() == self.buffer.capacity() {
                        self.read_bytes = READ_BYTES;
                    }
                    self.heartbeat.heard(Instant::now());
                    return Ok(());
                }
                Ok(Err(error)) => {
                    debug!(%error, "a socket failed");
                    return Err(Stop::Gone);
                }
                // Silence: what was kept for much more can be given back.
                Err(_) if self.buffer.is_empty() => {
                    self.read_bytes = IDLE_BYTES;
                    self.buffer = BytesMut::with_capacity(IDLE_BYTES);
                }
                Err(_) => {}
            }
        }
    }

    /// Reads to the end of the socket without looking: one that is closed with bytes unread is reset, and what was written with it.
    async fn discard(&mut self) {
        self.buffer = BytesMut::with_capacity(READ_BYTES);
        while matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
            self.buffer.clear();
        }
    }
}

/// Writes what the outbox holds, as much at once as there is, until its end.
async fn write(mut io: impl AsyncWrite + Unpin, outbox: &Outbox, patience: Duration) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        let mut end = None;
        let mut next = Some(outbox.next().await);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Frame(Frame::Text(bytes)) => {
                    Parser::write_message(&mut buffer, bytes, OpCode::Text, true, false);
                }
                Outgoing::Frame(Frame::Binary(bytes) | Frame::Datagram(bytes)) => {
                    Parser::write_message(&mut buffer, bytes, OpCode::Binary, true, false);
                }
                Outgoing::Ping => Parser::write_message(&mut buffer, "", OpCode::Ping, true, false),
                Outgoing::Pong(data) => Parser::write_message(&mut buffer, data, OpCode::Pong, true, false),
                Outgoing::End(how) => {
                    let reason = match how {
                        End::Close(code) => Some(CloseReason { code: code.number().into(), description: Some(code.slug().into()) }),
                        End::Answer(code) => code.map(|code| CloseReason { code: code.into(), description: None }),
                    };
                    if reason.is_some() {
                        Parser::write_close(&mut buffer, reason, false);
                    }
                    end = Some(how);
                    break;
                }
            }
            next = if buffer.len() < WRITE_BYTES { outbox.try_next() } else { None };
        }
        while buffer.has_remaining() {
            // Who takes nothing for so long takes nothing any more, whatever else it sends.
            timeout(patience, io.write_buf(&mut buffer)).await??;
        }
        io.flush().await?;
        outbox.written();
        if end.is_some() {
            return io.shutdown().await;
        }
        buffer.clear();
        if buffer.capacity() > IDLE_BYTES {
            buffer = BytesMut::new();
        }
    }
}
