//! Engine.IO on a WebSocket: a session that begins there, and one that comes there from requests.
//!
//! A client that changes transports first probes the new one (`2probe`, `3probe`), and moves with `5` once nothing of its waits any more on the old.

use std::{cell::RefCell, collections::VecDeque, convert::Infallible, future::poll_fn, io, pin::Pin, sync::Arc, time::Duration};

use actix_codec::Framed;
use actix_http::{Request, h1};
use actix_web::http::{Method, StatusCode};
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::{interval, timeout},
};
use tracing::debug;

use super::{
    super::{
        address::Visit,
        http::{handshake, switch_protocols, write_response},
        logs::{span, spawn_in},
        websocket::{self, Arriving, Handover, Pings, Reader, exchange, spell},
    },
    EngineIo, Incoming, PROTOCOL_ERROR, Socket, Stop, Transport,
};
use crate::{
    dialect::engineio::{Packet, Query},
    metrics::{Door, HandshakeFailure},
    protocol::{CloseCode, framing::Frame},
    session::outbox::{End, Outbox, Outgoing},
};

const PROBE: &[u8] = b"probe";
const ANSWER: &[u8] = b"3probe";
/// A client that has its probe answered waits with its move for the end of its request, which is let go every so often: as engine.io 6 does
/// (`Socket._maybeUpgrade`).
const LET_GO_EVERY: Duration = Duration::from_millis(100);

/// Takes over a connection whose client asks for a WebSocket, for a session that it has or for a new one. `begin` is asked for the latter: it lets
/// the client in, and is told whom to refuse. `connection` is kept for as long as there is one, if it is counted.
pub async fn upgrade<Io, A>(
    request: Request,
    mut framed: Framed<Io, h1::Codec>,
    engine: &Arc<EngineIo>,
    connection: Option<Arc<Visit>>,
    begin: impl FnOnce() -> Result<A, CloseCode>,
) -> io::Result<()>
where
    Io: Handover,
    A: AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop + 'static,
{
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let socket = match engine.find(&query, "websocket", *request.method() == Method::GET) {
        Ok(socket) => socket,
        Err(fault) => {
            engine.metrics.handshake_failed(HandshakeFailure::WebSocket);
            return write_response(&mut framed, StatusCode::BAD_REQUEST, &fault.json()).await;
        }
    };
    let accepted = match handshake(&request) {
        Ok(accepted) => accepted,
        Err(text) => {
            engine.metrics.handshake_failed(HandshakeFailure::WebSocket);
            return write_response(&mut framed, StatusCode::BAD_REQUEST, &text).await;
        }
    };
    let engine = engine.clone();
    // Tasks of their own: what is left of HTTP takes several KiB, which are not to wait for the end of the connection.
    match socket {
        Some(socket) => {
            let (io, leftover) = switch_protocols(framed, accepted).await?;
            actix_rt::spawn(async move {
                continue_at(io, leftover, socket, &engine, connection.clone()).await;
                drop(connection);
            });
        }
        None => match begin() {
            Ok(attend) => {
                let (io, leftover) = switch_protocols(framed, accepted).await?;
                spawn_in(span(Door::WebSocket, "socket.io"), async move {
                    begin_at(io, leftover, &engine, attend).await;
                    drop(connection);
                });
            }
            Err(code) => {
                engine.metrics.handshake_failed(code);
                return write_response(&mut framed, StatusCode::SERVICE_UNAVAILABLE, &format!("no place: {}\n", code.slug())).await;
            }
        },
    }
    Ok(())
}

/// Serves a session that begins here, from its first packet to its end.
async fn begin_at<Io: Handover>(
    io: Io,
    leftover: BytesMut,
    engine: &Arc<EngineIo>,
    attend: impl AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop,
) {
    let (socket, incoming) = engine.open(Door::WebSocket);
    let (io, shortcut) = io.hand_over();
    let io = RefCell::new(io);
    let open = Frame::Text(engine.handshake(&socket, &[]).into());
    match timeout(engine.timeouts.hello(), write(&io, &Outgoing::Frame(open))).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return debug!("a client does not even take its first packet"),
    }
    let carrying = async {
        let _past_door = shortcut.map(|shortcut| socket.outbox.use_shortcut(shortcut));
        carry(io.into_inner(), &mut Arriving::new(leftover, &engine.limits), VecDeque::new(), engine, &socket).await;
    };
    tokio::join!(carrying, engine.run(socket.clone(), incoming, attend));
}

/// Serves a session that began with requests, once its client has made sure of this connection.
async fn continue_at<Io: Handover>(io: Io, leftover: BytesMut, socket: Arc<Socket>, engine: &EngineIo, connection: Option<Arc<Visit>>) {
    let (io, shortcut) = io.hand_over();
    let io = RefCell::new(io);
    if !socket.change(Transport::Polling, Transport::Probing) {
        // There is another one, or nothing to move any more.
        let end = write(&io, &Outgoing::End(End::Answer(Some(PROTOCOL_ERROR))));
        let _ = timeout(engine.timeouts.close(), end).await;
        return;
    }
    let _carried = socket.carried_by(connection);
    let mut arriving = Arriving::new(leftover, &engine.limits);
    let mut reader = Reader::new(&io, &mut arriving, &socket.outbox, Pings::Packets, &engine.limits, &engine.timeouts);
    match timeout(engine.timeouts.hello(), probed(&io, &mut reader, &socket)).await {
        Ok(Some(frames)) => {
            socket.outbox.meter().change_door(Door::WebSocket);
            let _past_door = shortcut.map(|shortcut| socket.outbox.use_shortcut(shortcut));
            carry(io.into_inner(), &mut arriving, frames, engine, &socket).await;
        }
        Ok(None) | Err(_) => {
            debug!("a client did not move to its WebSocket");
            // It goes on as it was.
            socket.change(Transport::Probing, Transport::Polling);
        }
    }
}

/// Waits until the client has probed the connection and moved to it; what it said behind that. `None` if it does anything else.
async fn probed<Io>(io: &RefCell<Io>, reader: &mut Reader<'_, Io>, socket: &Socket) -> Option<VecDeque<Frame>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let is_answered = Notify::new();
    let moving = async {
        let mut frames = VecDeque::new();
        loop {
            reader.frames(&mut frames).await.ok()?;
            while let Some(frame) = frames.pop_front() {
                let packet = Packet::read(frame)?;
                socket.pace(&packet).ok()?;
                match packet {
                    Packet::Ping(data) if data == PROBE => {
                        write(io, &Outgoing::Frame(Frame::Text(ANSWER.into()))).await.ok()?;
                        is_answered.notify_one();
                    }
                    Packet::Upgrade => return socket.change(Transport::Probing, Transport::Stream).then_some(frames),
                    _ => return None,
                }
            }
        }
    };
    tokio::select! {
        biased;
        frames = moving => frames,
        never = let_requests_go(socket, &is_answered) => match never {},
    }
}

/// Lets the client's requests go, one after another, from when its probe is answered.
async fn let_requests_go(socket: &Socket, is_answered: &Notify) -> Infallible {
    is_answered.notified().await;
    let mut beat = interval(LET_GO_EVERY);
    // The first beat is at once, and a client that is faster than that needs none.
    beat.tick().await;
    loop {
        beat.tick().await;
        socket.let_go();
    }
}

/// Carries packets in both directions, beginning with these, to the end of the connection, which is that of the session.
async fn carry<Io>(io: Io, arriving: &mut Arriving, frames: VecDeque<Frame>, engine: &EngineIo, socket: &Socket)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let bring = async |reader: &mut Reader<'_, Io>| {
        let mut frames = frames;
        loop {
            match socket.hear(&mut frames).await {
                Ok(()) => {}
                Err(Stop::Left) => return websocket::Stop::Closed(None),
                Err(Stop::Fault(code)) => return websocket::Stop::Fault(code),
                Err(_) => return websocket::Stop::Violation(PROTOCOL_ERROR),
            }
            if let Err(stop) = reader.frames(&mut frames).await {
                socket.end((&stop).into());
                return stop;
            }
        }
    };
    exchange(io, arriving, &socket.outbox, Pings::Packets, &engine.limits, &engine.timeouts, bring).await;
    socket.end(Stop::Gone);
}

impl From<&websocket::Stop> for Stop {
    fn from(stop: &websocket::Stop) -> Self {
        match stop {
            websocket::Stop::Closed(_) => Self::Left,
            websocket::Stop::Violation(_) => Self::Violation,
            websocket::Stop::Fault(code) => Self::Fault(*code),
            websocket::Stop::Gone => Self::Gone,
        }
    }
}

/// Writes what does not come from the outbox.
async fn write<Io: AsyncWrite + Unpin>(io: &RefCell<Io>, outgoing: &Outgoing) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    spell(outgoing, Pings::Packets, &mut bytes);
    while bytes.has_remaining() {
        match poll_fn(|cx| Pin::new(&mut *io.borrow_mut()).poll_write(cx, &bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes.advance(written),
        }
    }
    poll_fn(|cx| Pin::new(&mut *io.borrow_mut()).poll_flush(cx)).await
}
