//! The WebTransport door: sessions of [HTTP/3](http3) on QUIC, messages on the first bidirectional stream that the client opens, best effort in
//! datagrams.
//!
//! QUIC's own keep-alive and idle time-out stand in for heartbeats. Windows are sized so that a client costs no more than its bounds:
//! what it may send ahead, and what is on its way to it unacknowledged.

pub mod http3;
mod write;

use std::{
    collections::VecDeque,
    future::poll_fn,
    iter,
    net::UdpSocket,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::ArbiterHandle;
use bytes::{Buf as _, BytesMut};
use futures_util::{StreamExt as _, future::Either, stream::FuturesUnordered};
use quinn::{AckFrequencyConfig, EndpointConfig, RecvStream, SendStream, TokioRuntime, TransportConfig, crypto::rustls::QuicServerConfig};
use tokio::{task::coop::consume_budget, time::timeout};
use tracing::{Instrument as _, debug, warn};
use wtransport::proto::session::SessionResponse;

use self::write::Sending;
use super::{
    Doorkeeper, Line, Place, Stopped,
    allowance::{Allowance, FRAME_BYTES},
    converse,
    engineio::{self, EngineIo},
    handshakes::{Handshake, Handshakes},
    keep,
    logs::span,
    origins::Asking,
    overdue,
};
use crate::{
    dialect::Native,
    metrics::{Door, HandshakeFailure},
    protocol::{
        CloseCode, Codec, H3_INTERNAL_ERROR, LeaveReason,
        framing::{self, CowFrame, Frame, LentFrame},
    },
    session::{
        connection::Ending,
        outbox::{End, Outbox},
    },
};

/// Where WebTransport sessions are asked for.
pub const PATH: &str = "/wt";

/// What is on its way to a client and not yet acknowledged may take so many bytes beside the outbox.
const SEND_WINDOW_BYTES: u32 = 256 * 1024;
/// Datagrams that wait, in either direction; the oldest are dropped.
const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;
/// A client may leave so many packets unacknowledged at a time, where it knows the extension for that (draft-ietf-quic-ack-frequency): its
/// acknowledgements are half of what a busy server receives where each is of two packets (RFC 9000 §13.2.2). Less than half of the congestion
/// window that a connection begins with, ten packets (RFC 9002 §7.2), so that a first burst is not kept waiting for one.
const UNACKNOWLEDGED_PACKETS: u32 = 4;
/// HTTP/3 needs three streams of its own each way, a session and its messages two more.
const STREAMS_MAX: u32 = 8;

/// Opens an endpoint on a bound socket, on the thread that is to run it.
pub fn endpoint(socket: UdpSocket, tls: rustls::ServerConfig, doorkeeper: &Doorkeeper) -> anyhow::Result<quinn::Endpoint> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(doorkeeper)?)).migration(true);
    Ok(quinn::Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?)
}

fn transport(doorkeeper: &Doorkeeper) -> anyhow::Result<TransportConfig> {
    let timeouts = &doorkeeper.timeouts;
    let (keep_alive, idle) = clocks(timeouts.heartbeat(), timeouts.silence());
    let stream_window = u32::try_from(doorkeeper.limits.message_bytes_max + 64 * 1024)?;
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(UNACKNOWLEDGED_PACKETS.into());
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acknowledgements))
        .max_idle_timeout(Some(idle.try_into()?))
        .keep_alive_interval(Some(keep_alive))
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(STREAMS_MAX.into())
        .stream_receive_window(stream_window.into())
        .receive_window((2 * stream_window).into())
        .send_window(SEND_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    Ok(transport)
}

/// QUIC's keep-alive interval and idle time-out. The probe itself restarts the idle clock once, so together they make up the silence that is
/// allowed. Chromium gives up a second before an idle time-out of more than a second, so that it is never the one to write on a connection
/// that the server has left (`QuicConnection::SetNetworkTimeouts`); several probes fit into what it waits.
fn clocks(heartbeat: Duration, silence: Duration) -> (Duration, Duration) {
    const EARLY: Duration = Duration::from_secs(1);
    let keep_alive = heartbeat.min(silence / if silence < 4 * EARLY { 8 } else { 4 });
    let idle = silence - keep_alive;
    let idle = if idle > EARLY && idle - EARLY < 2 * keep_alive { EARLY } else { idle };
    (keep_alive, idle)
}

/// Takes connections until the endpoint is closed, and deals them out to the workers.
pub async fn accept(endpoint: quinn::Endpoint, workers: Vec<ArbiterHandle>, doorkeeper: Arc<Doorkeeper>, socket_io: Option<Arc<EngineIo>>) {
    let mut turn = workers.iter().cycle();
    let handshakes = Handshakes::new(doorkeeper.limits.handshakes_max, doorkeeper.timeouts.hello());
    while let Some(incoming) = endpoint.accept().await {
        // A connection outlives its place while it drains (RFC 9000 §10.2), so they have a bound of their own.
        if endpoint.open_connections() >= doorkeeper.clients.connections_max() {
            doorkeeper.metrics.handshake_failed(HandshakeFailure::ServerFull);
            incoming.refuse();
            continue;
        }
        let proven = incoming.remote_address_validated();
        // Under a flood a newcomer first proves that it is where it says, and until then costs nothing: RFC 9000 §8.1.2.
        if handshakes.are_many() && !proven {
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            continue;
        }
        if proven && doorkeeper.addresses.is_swamped(incoming.remote_address().ip()) {
            doorkeeper.metrics.handshake_failed(HandshakeFailure::TooManyConnections);
            incoming.refuse();
            continue;
        }
        let handshake = handshakes.begin();
        let (doorkeeper, socket_io) = (doorkeeper.clone(), socket_io.clone());
        let worker = turn.next().expect("a server has workers");
        worker.spawn_fn(move || drop(actix_rt::spawn(connection(incoming, handshake, doorkeeper, socket_io))));
    }
}

async fn connection(incoming: quinn::Incoming, handshake: Handshake, doorkeeper: Arc<Doorkeeper>, socket_io: Option<Arc<EngineIo>>) {
    let accepting = async {
        let request = http3::Request::take(incoming).await?;
        let path = request.path().split('?').next().unwrap_or_default();
        let socket_io = socket_io.filter(|_| EngineIo::is_at(path));
        if path != PATH && socket_io.is_none() {
            debug!(path, "a WebTransport session for a path that is none");
            doorkeeper.metrics.handshake_failed(HandshakeFailure::NoSuchPath);
            request.refuse(SessionResponse::not_found()).await;
            return Ok(None);
        }
        let asking = Asking {
            origins: request.origin().map(str::as_bytes).into_iter().collect(),
            host: Some(request.authority()),
            address: request.remote_address().ip(),
            path,
        };
        if !doorkeeper.admits_origin(&asking) {
            request.refuse(SessionResponse::forbidden()).await;
            return Ok(None);
        }
        request.accept().await.map(|accepted| Some((accepted, socket_io)))
    };
    match handshake.run(Box::pin(accepting)).await {
        Ok(Ok(Some(((session, streams), socket_io)))) => {
            // Before its handshake, a client may be anywhere but where it says.
            let visit = doorkeeper.addresses.visit(session.remote_address().ip(), Instant::now());
            match (doorkeeper.clients.admit(Arc::new(visit)), socket_io) {
                (Ok(place), Some(engine)) => {
                    let span = span(Door::WebTransport, "socket.io");
                    // Boxed: it takes more than a session of ours, which would have to keep room for it.
                    Box::pin(engineio::webtransport::serve(session, streams, place, doorkeeper, &engine)).instrument(span).await;
                }
                (Ok(place), None) => serve(session, streams, place, &doorkeeper).instrument(span(Door::WebTransport, "native")).await,
                (Err(code), _) => turn_away(&session, &doorkeeper, code),
            }
        }
        // Why is counted where it was decided.
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            doorkeeper.metrics.handshake_failed(HandshakeFailure::WebTransport);
            debug!(%error, "a WebTransport handshake failed");
        }
        Err(given_up) => {
            doorkeeper.metrics.handshake_failed(given_up);
            debug!(%given_up, "a WebTransport handshake failed");
        }
    }
}

/// Serves one session to its end.
async fn serve(session: http3::Session, mut streams: http3::Streams, place: Place, doorkeeper: &Arc<Doorkeeper>) {
    let meter = doorkeeper.meter(Door::WebTransport, &Native(Codec::MsgPack));
    // Boxed, for what it takes is not to be kept room for as long as the session lasts.
    let (send, receive) = match Box::pin(opened(&mut streams, &session, &place, doorkeeper)).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(_)) => return,
        Err(code) => {
            doorkeeper.metrics.closed_with(code);
            return close(&session, code);
        }
    };
    let outbox = Outbox::new(meter);
    let session = Arc::new(session);
    let sending = Sending::new(send, session.clone());
    let past_door = outbox.use_shortcut(sending.clone());
    // Held by the session as well, and here until the connection is closed.
    let place = Arc::new(place);
    let mut overdue = pin!(overdue(&outbox, &doorkeeper.timeouts));
    let mut reading = pin!(async {
        let mut reader = Reader {
            stream: receive,
            buffer: BytesMut::new(),
            message_bytes_max: doorkeeper.limits.message_bytes_max,
            answers_max: doorkeeper.limits.outbox_bytes_max / 2,
            silence: doorkeeper.timeouts.silence(),
            allowance: Allowance::whole(),
        };
        reader.run(&session, &place, doorkeeper, &outbox).await;
    });
    let mut writing = pin!(sending.write(&outbox, doorkeeper.timeouts.silence()));
    // In a set of its own, what comes once in a while is not looked at for every message.
    let mut strays = FuturesUnordered::from_iter([streams.tend(&session)]);
    let writes = outbox.run_unless_idle(writing.as_mut(), overdue.as_mut());
    let end = tokio::select! {
        // What the client says may be answered at once.
        biased;
        () = &mut reading => tokio::select! {
            end = &mut writing => end,
            end = &mut overdue => Some(end),
            Some(never) = strays.next() => match never {},
        },
        first = writes => match first {
            // Who did not read its goodbye is told the code at least.
            Either::Right(end) => Some(end),
            // The client hears the goodbye and goes; a connection that is closed at once may take the goodbye with it.
            Either::Left(end) => {
                // Where nothing can be written any more, the reader tells why, if it is told.
                let given_up = Box::pin(tokio::time::sleep(doorkeeper.timeouts.close()));
                tokio::select! {
                    () = &mut reading => {}
                    _ = &mut overdue => {}
                    () = given_up, if end.is_none() => {}
                    Some(never) = strays.next() => match never {},
                }
                end
            }
        },
        Some(never) = strays.next() => match never {},
    };
    // It keeps the connection.
    drop(past_door);
    end_with(&session, end);
}

/// Closes the connection of who has no session with us, for this reason.
pub fn turn_away(session: &http3::Session, doorkeeper: &Doorkeeper, code: CloseCode) {
    doorkeeper.metrics.handshake_failed(code);
    close(session, code);
}

/// Closes a connection whose stream has ended like this, if it was told.
pub fn end_with(session: &http3::Session, end: Option<End>) {
    match end {
        Some(End::Close(code)) => close(session, code),
        Some(End::Answer(_)) | None => session.close(0, b""),
    }
}

fn close(session: &http3::Session, code: CloseCode) {
    session.close(code.number().into(), code.slug().as_bytes());
}

/// Waits for the stream that carries the messages.
pub async fn opened(
    streams: &mut http3::Streams,
    session: &http3::Session,
    place: &Place,
    doorkeeper: &Doorkeeper,
) -> Result<Result<(SendStream, RecvStream), http3::End>, CloseCode> {
    // Without a stream there is no goodbye, so even a server that shuts down waits a little for it.
    let drained = async {
        doorkeeper.clients.drained().await;
        tokio::time::sleep(doorkeeper.timeouts.close()).await;
    };
    tokio::select! {
        opened = place.wait(streams.opened(session), doorkeeper.timeouts.stream(), CloseCode::StreamTimeout) => opened,
        () = drained => Err(CloseCode::Draining),
    }
}

/// Adds what comes next to `buffer`, which takes no memory while it waits with nothing in it. False once the client has ended the stream.
pub async fn read(stream: &mut RecvStream, buffer: &mut BytesMut) -> Result<bool, quinn::ReadError> {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
    match stream.read_chunk(usize::MAX, true).await {
        Ok(Some(chunk)) => {
            buffer.extend_from_slice(&chunk.bytes);
            Ok(true)
        }
        Ok(None) | Err(quinn::ReadError::Reset(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

struct Reader {
    stream: RecvStream,
    buffer: BytesMut,
    message_bytes_max: usize,
    /// Bytes that may wait for the client before its next message is read.
    answers_max: usize,
    silence: Duration,
    allowance: Allowance,
}

/// Why reading ends.
enum Stop {
    /// The client ended the stream, the session or the connection.
    Left,
    /// The connection is gone without a word.
    Lost(LeaveReason),
    /// A bound was broken.
    Fault(CloseCode),
}

impl Reader {
    async fn run(&mut self, session: &http3::Session, place: &Arc<Place>, doorkeeper: &Arc<Doorkeeper>, outbox: &Arc<Outbox>) {
        match self.attend(session, place, outbox, doorkeeper).await {
            Stop::Fault(_) => self.discard().await,
            Stop::Left | Stop::Lost(_) => outbox.answer_close(None),
        }
    }

    /// Opens a session with the client's first frames and hands it all that follow.
    async fn attend(&mut self, session: &http3::Session, place: &Arc<Place>, outbox: &Arc<Outbox>, doorkeeper: &Doorkeeper) -> Stop {
        let connection = place.connection(Native::shared(Codec::MsgPack), outbox.clone());
        // Boxed, for what it takes is not to be kept room for as long as the connection lasts.
        let (line, mut frames) =
            match Box::pin(doorkeeper.enter(place, connection, async |frames| self.frames(session, frames).await)).await {
                Ok(entered) => entered,
                Err(stop) => return stop,
            };
        let answers_max = self.answers_max;
        let at_once =
            |messages: &mut Messages<'_, '_>, frames: &mut _| line.hear_at_once(messages, frames) && !outbox.has_more_than(answers_max);
        let mut datagrams = FuturesUnordered::from_iter([hear_datagrams(&line, session)]);
        let stop = tokio::select! {
            // The first message has to reach the session before any datagram does.
            biased;
            stop = converse(&mut frames, outbox, answers_max, async |frames| line.hear(frames).await, async |frames| self.hear(session, frames, at_once).await) => stop,
            Some(stop) = datagrams.next() => stop,
        };
        drop(datagrams);
        line.ended(stop.ending(), stop.heard_at(self.silence));
        stop
    }

    /// Adds the next whole messages to `frames`, one or more.
    async fn frames(&mut self, session: &http3::Session, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        self.hear(session, frames, |messages, frames| keep(messages, frames)).await
    }

    /// Reads until there is something to wait for before the next message: a list of such as could not be heard at once, or what is told by `at_once`.
    async fn hear(
        &mut self,
        session: &http3::Session,
        frames: &mut VecDeque<Frame>,
        at_once: impl Fn(&mut Messages<'_, '_>, &mut VecDeque<Frame>) -> bool,
    ) -> Result<(), Stop> {
        loop {
            self.allowance.turn().await;
            let mut goes_on = self.decode(&[], |messages| at_once(messages, frames))?;
            // With the allowance used up, there may be more of what was read.
            if goes_on && !self.allowance.is_spent() && frames.is_empty() {
                goes_on = match self.chunk().await {
                    Ok(Some(chunk)) => self.decode(&chunk.bytes, |messages| at_once(messages, frames))?,
                    Ok(None) | Err(quinn::ReadError::Reset(_)) => return Err(Stop::Left),
                    Err(_) => return Err(Stop::why_lost(session).await),
                };
            }
            if !frames.is_empty() || !goes_on {
                return Ok(());
            }
        }
    }

    /// What comes next.
    async fn chunk(&mut self) -> Result<Option<quinn::Chunk>, quinn::ReadError> {
        poll_fn(|cx| {
            let chunk = pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx);
            if chunk.is_pending() {
                self.allowance.renew();
            }
            chunk
        })
        .await
    }

    /// Decodes what was left and what came behind it, as much of it as may be, has it heard, and keeps what is left of it. What `hear` says, and true
    /// if there is nothing.
    fn decode(&mut self, arrived: &[u8], hear: impl FnOnce(&mut Messages<'_, '_>) -> bool) -> Result<bool, Stop> {
        if self.buffer.is_empty() && arrived.is_empty() {
            return Ok(true);
        }
        if !self.buffer.is_empty() {
            self.buffer.extend_from_slice(arrived);
        }
        let mut input = if self.buffer.is_empty() { arrived } else { &*self.buffer };
        let mut messages = Messages::of(&mut input, self.message_bytes_max, &mut self.allowance);
        let goes_on = hear(&mut messages);
        let Messages { is_first, fault, .. } = messages;
        // Long ones take their time as well, and so do many pieces of one.
        self.allowance.spend((arrived.len() / FRAME_BYTES).max(is_first.into()));
        if let Some(error) = fault.as_ref().filter(|_| is_first) {
            debug!(%error, "a client sends too large a message");
            return Err(Stop::Fault(CloseCode::TooLarge));
        }
        match (input.len(), self.buffer.len()) {
            // Takes no memory while nothing is in it.
            (0, _) => self.buffer = BytesMut::new(),
            (_, 0) => self.buffer = BytesMut::from(input),
            (left, before) => self.buffer.advance(before - left),
        }
        if fault.is_some() {
            // What came before it is heard first; its header is still there the next time.
            self.allowance.spend_all();
        }
        Ok(goes_on)
    }

    /// Reads to the end of the stream without looking, so that the client reads what was written before the end.
    async fn discard(&mut self) {
        while let Ok(Some(_)) = self.stream.read_chunk(usize::MAX, true).await {}
    }
}

/// The whole messages of what was read, no more than are heard at once, and whether each came alone.
struct Messages<'r, 'a> {
    input: &'r mut &'a [u8],
    message_bytes_max: usize,
    allowance: &'r mut Allowance,
    is_first: bool,
    fault: Option<framing::TooLarge>,
}

impl<'r, 'a> Messages<'r, 'a> {
    /// Those at the front of `input`, off which they are taken.
    fn of(input: &'r mut &'a [u8], message_bytes_max: usize, allowance: &'r mut Allowance) -> Self {
        Self { input, message_bytes_max, allowance, is_first: true, fault: None }
    }
}

impl<'a> Iterator for Messages<'_, 'a> {
    type Item = (CowFrame<'a>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.allowance.is_spent() {
            return None;
        }
        match framing::split_off(self.input, self.message_bytes_max) {
            Ok(frame) => {
                let frame = frame?;
                self.allowance.spend(1);
                Some((LentFrame::Binary(frame).into(), std::mem::take(&mut self.is_first) && self.input.is_empty()))
            }
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }
}

impl From<CloseCode> for Stop {
    fn from(code: CloseCode) -> Self {
        Self::Fault(code)
    }
}

impl Stopped for Stop {
    fn ending(&self) -> Ending {
        match self {
            Self::Left => Ending::Left,
            Self::Lost(reason) => Ending::Lost(*reason),
            Self::Fault(code) => Ending::Fault(*code),
        }
    }
}

impl Stop {
    /// How a connection that is gone went.
    async fn why_lost(session: &http3::Session) -> Self {
        let Some(error) = session.closed().await else { return Self::Left };
        debug!(%error, "a WebTransport connection is gone");
        match error {
            quinn::ConnectionError::TimedOut => Self::Lost(LeaveReason::Timeout),
            quinn::ConnectionError::ApplicationClosed(close) if close.error_code != H3_INTERNAL_ERROR.into() => Self::Left,
            _ => Self::Lost(LeaveReason::Disconnected),
        }
    }

    /// When the client was last heard, at the earliest: QUIC does not tell.
    fn heard_at(&self, silence: Duration) -> Instant {
        let now = Instant::now();
        match self {
            Self::Lost(LeaveReason::Timeout) => now.checked_sub(silence).unwrap_or(now),
            _ => now,
        }
    }
}

async fn hear_datagrams(line: &Line, session: &http3::Session) -> Stop {
    loop {
        match session.receive_datagram().await {
            Ok(datagram) => {
                let mut frames = VecDeque::new();
                let message = (LentFrame::Datagram(&datagram).into(), true);
                if !line.hear_at_once(iter::once(message), &mut frames) || !frames.is_empty() {
                    line.hear(&mut frames).await;
                }
                consume_budget().await;
            }
            Err(_) => return Stop::why_lost(session).await,
        }
    }
}

/// Closes the endpoint and waits a moment for the clients to learn of it.
pub async fn shut(endpoint: quinn::Endpoint, patience: Duration) {
    endpoint.close(quinn::VarInt::from_u32(CloseCode::Draining.number().into()), CloseCode::Draining.slug().as_bytes());
    if timeout(patience, endpoint.wait_idle()).await.is_err() {
        warn!("some QUIC connections did not end in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::allowance::BATCH_FRAMES;

    #[test]
    fn what_came_before_a_message_that_is_too_large_is_there_and_its_header_stays() {
        let mut wire = BytesMut::new();
        for message in ["one", "four!", "larger"] {
            framing::encode(message.as_bytes(), &mut wire);
        }
        let mut input = &*wire;
        let mut allowance = Allowance::whole();
        let mut messages = Messages::of(&mut input, 5, &mut allowance);
        let heard: Vec<_> = messages.by_ref().map(|(message, alone)| (Frame::from(message), alone)).collect();
        assert_eq!(heard, ["one", "four!"].map(|message| (Frame::Binary(message.into()), false)));
        assert_eq!(messages.fault, Some(framing::TooLarge { announced: 6, bytes_max: 5 }));
        assert_eq!(input, b"\0\0\0\x06larger");
    }

    #[test]
    fn no_more_is_taken_than_is_heard_at_once_and_one_alone_is_told() {
        let mut wire = BytesMut::new();
        (0..=BATCH_FRAMES).for_each(|_| framing::encode(b"x", &mut wire));
        let mut input = &*wire;
        let mut alone = vec![];
        while !input.is_empty() {
            alone.push(Vec::from_iter(Messages::of(&mut input, 5, &mut Allowance::whole()).map(|(_, alone)| alone)));
        }
        assert_eq!(alone, [vec![false; BATCH_FRAMES], vec![true]]);
    }
}
