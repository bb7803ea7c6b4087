//! Engine.IO over WebTransport: the packets of a WebSocket on the first bidirectional stream that the client opens.
//!
//! It says the first packet itself, `0`. A session that began elsewhere does not come here: that is not among the upgrades which are offered.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use bytes::{Buf as _, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;
use tracing::debug;

use super::{
    super::{
        Doorkeeper, Place,
        allowance::BATCH_FRAMES,
        overdue,
        webtransport::{end_with, http3, opened, read, turn_away},
    },
    EngineIo, Socket, Stop, attend,
};
use crate::{
    dialect::engineio::{Malformed, Packet},
    metrics::Door,
    protocol::{CloseCode, framing::Frame},
    session::outbox::{End, Outgoing},
};

/// Bytes that are written at once, about.
const WRITE_BYTES: usize = 32 * 1024;
/// The first packet of a client that has no session.
const OPEN: &[u8] = b"0";

/// Serves a session from its first packet to its end.
pub async fn serve(
    session: http3::Session,
    mut streams: http3::Streams,
    place: Place,
    doorkeeper: Arc<Doorkeeper>,
    engine: &Arc<EngineIo>,
) {
    if let Some(code) = place.refusal {
        return turn_away(&session, &doorkeeper, code);
    }
    match Box::pin(opened(&mut streams, &session, &place, &doorkeeper)).await {
        Ok(Ok(stream)) => {
            tokio::select! {
                () = talk(&session, stream, place, doorkeeper, engine) => {}
                never = streams.tend(&session) => match never {},
            }
        }
        Ok(Err(_)) => {}
        Err(code) => turn_away(&session, &doorkeeper, code),
    }
}

/// Speaks with a client on the stream that it has opened.
async fn talk(
    session: &http3::Session,
    (mut send, receive): (SendStream, RecvStream),
    place: Place,
    doorkeeper: Arc<Doorkeeper>,
    engine: &Arc<EngineIo>,
) {
    let mut reader = Reader { stream: receive, buffer: BytesMut::new(), bytes_max: engine.limits.message_bytes_max };
    let mut frames = VecDeque::new();
    let first = place.wait(reader.frames(&mut frames), engine.timeouts.hello(), CloseCode::HelloTimeout).await;
    match first {
        Ok(Ok(())) if frames.pop_front().is_some_and(|frame| frame.bytes() == OPEN) => {}
        Ok(_) => return session.close(0, b""),
        Err(code) => return turn_away(session, &doorkeeper, code),
    }
    let (socket, incoming) = engine.open(Door::WebTransport);
    let mut open = BytesMut::new();
    Packet::put_streamed(&Frame::Text(engine.handshake(&socket, &[]).into()), &mut open);
    if !matches!(timeout(engine.timeouts.hello(), send.write_all(&open)).await, Ok(Ok(()))) {
        return debug!("a client does not even take its first packet");
    }
    let carrying = async {
        let end = carry(reader, send, frames, engine, &socket).await;
        socket.end(Stop::Gone);
        end_with(session, end);
    };
    tokio::join!(carrying, engine.run(socket.clone(), incoming, attend(place, doorkeeper)));
}

/// Carries packets in both directions, beginning with these, and tells how it ends. The client has its time to go by itself once it has its
/// goodbye: a connection that is closed at once may take that with it.
async fn carry(mut reader: Reader, send: SendStream, mut frames: VecDeque<Frame>, engine: &EngineIo, socket: &Socket) -> Option<End> {
    let mut overdue = pin!(overdue(&socket.outbox, &engine.timeouts));
    let mut reading = pin!(async {
        loop {
            if socket.hear(&mut frames).await.is_err() {
                return;
            }
            if let Err(stop) = reader.frames(&mut frames).await {
                return socket.end(stop);
            }
        }
    });
    let mut writing = pin!(write(send, engine, socket));
    tokio::select! {
        biased;
        () = &mut reading => tokio::select! { end = &mut writing => end, end = &mut overdue => Some(end) },
        end = &mut writing => {
            let given_up = Box::pin(tokio::time::sleep(engine.timeouts.close()));
            tokio::select! { () = &mut reading => {}, _ = &mut overdue => {}, () = given_up, if end.is_none() => {} }
            end
        }
        end = &mut overdue => Some(end),
    }
}

struct Reader {
    stream: RecvStream,
    buffer: BytesMut,
    bytes_max: usize,
}

impl Reader {
    /// Adds the next whole messages to `frames`, one or more.
    async fn frames(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        loop {
            while frames.len() < BATCH_FRAMES {
                match Packet::take_streamed(&mut self.buffer, self.bytes_max) {
                    Ok(Some(frame)) => frames.push_back(frame),
                    Ok(None) => break,
                    Err(Malformed::TooLarge) if frames.is_empty() => return Err(Stop::Fault(CloseCode::TooLarge)),
                    // What came before is heard first; the header is still there the next time.
                    Err(Malformed::TooLarge) => break,
                    Err(Malformed::NotUtf8) => return Err(Stop::Violation),
                }
            }
            if !frames.is_empty() {
                return Ok(());
            }
            match read(&mut self.stream, &mut self.buffer).await {
                Ok(true) => {}
                Ok(false) => return Err(Stop::Left),
                Err(error) => {
                    debug!(%error, "a WebTransport connection is gone");
                    return Err(Stop::Gone);
                }
            }
        }
    }
}

/// Writes what the outbox holds, until its end. `None` if the stream broke before it.
async fn write(mut stream: SendStream, engine: &EngineIo, socket: &Socket) -> Option<End> {
    let mut buffer = BytesMut::new();
    loop {
        let mut end = None;
        let spell = |outgoing| {
            match outgoing {
                Outgoing::Frame(frame) => Packet::put_streamed(&frame, &mut buffer),
                Outgoing::Ping => Packet::put_streamed(&Frame::Text("2".into()), &mut buffer),
                // Those are of a WebSocket.
                Outgoing::Pong(_) | Outgoing::Begun(_) => {}
                Outgoing::End(how) => end = Some(how),
            }
            buffer.len() < WRITE_BYTES
        };
        socket.outbox.take(spell).await;
        while buffer.has_remaining() {
            // Who takes nothing for so long takes nothing any more, whatever else it sends.
            match Box::pin(timeout(engine.timeouts.silence(), stream.write(&buffer))).await.ok()? {
                Ok(bytes) => buffer.advance(bytes),
                Err(error) => {
                    debug!(%error, "a stream takes no more");
                    return None;
                }
            }
        }
        socket.outbox.written();
        if end.is_some() {
            // Already reset by the client, perhaps; there is nothing more to say either way.
            let _ = stream.finish();
            return end;
        }
        buffer = BytesMut::new();
    }
}
