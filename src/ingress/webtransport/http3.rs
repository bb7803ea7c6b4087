//! HTTP/3 as far as one WebTransport session needs it: the request for the session, and the streams that have to stay open beneath it.
//!
//! After RFC 9114 (HTTP/3), RFC 9220 (extended CONNECT), RFC 9297 (datagrams and capsules) and draft-ietf-webtrans-http3. Settings, QPACK and what is in
//! a datagram are the crate's. Its own driver, which our client has, takes a task and eight channels for each connection: 30 KiB.

mod read;

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use quinn::{RecvStream, SendStream};
use tracing::debug;
use wtransport::proto::{
    datagram::Datagram,
    error::ErrorCode,
    frame::Frame,
    headers::Headers,
    ids::{QStreamId, SessionId, StreamId},
    session::{HeadersParseError, SessionRequest, SessionResponse},
    settings::Settings,
    stream_header::StreamHeader,
    varint::VarInt,
};

use self::read::{DATA, Data, HEADERS, SETTINGS, Source as _, StreamKind, Unread};

/// What begins a stream of a session where a frame would begin: draft-ietf-webtrans-http3 §4.2.
const SESSION_STREAM: u64 = 0x41;
/// Types of unidirectional streams: RFC 9114 §6.2, RFC 9204 §4.2.
const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
/// The capsule with which a client closes its session, a code and a reason in it: draft-ietf-webtrans-http3 §5.
const CLOSE_SESSION: u64 = 0x2843;
const CLOSE_SESSION_BYTES: RangeInclusive<u64> = 4..=4 + 1024;

/// A client's request for a session.
pub struct Request {
    request: SessionRequest,
    session: Session,
    streams: Streams,
    send: SendStream,
    receive: RecvStream,
}

/// A session, for those who talk through it.
pub struct Session {
    quic: quinn::Connection,
    id: SessionId,
    has_left: AtomicBool,
}

/// The streams of a connection that are not for messages.
pub struct Streams {
    quic: quinn::Connection,
    /// Open as long as the connection.
    _control: SendStream,
    /// Of which types a stream has begun, where a client has one of each.
    begun: [bool; 4],
    /// What each waits for.
    waiting: FuturesUnordered<LocalBoxFuture<'static, Result<Event, End>>>,
    /// Streams of a session that began before anybody asked for them.
    early: VecDeque<(SessionId, SendStream, RecvStream)>,
}

/// Why there is no session any more.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client closed it.
    #[error("the client closed the session")]
    Left,
    /// It is gone without a word.
    #[error("the session is gone")]
    Gone,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    /// The client broke HTTP/3.
    #[error("the client broke HTTP/3: {0}")]
    Broken(ErrorCode),
}

impl End {
    /// What the client is told.
    fn code(&self) -> ErrorCode {
        if let Self::Broken(code) = self { *code } else { ErrorCode::NoError }
    }
}

/// What has come of a stream.
enum Event {
    /// It is unidirectional and of this type.
    Typed(u64, RecvStream),
    /// The client's settings, on its control stream.
    Settings(RecvStream),
    /// A request with these headers.
    Request(Vec<u8>, SendStream, RecvStream),
    /// It belongs to this session.
    Opened(SessionId, SendStream, RecvStream),
    /// It is over, and of no account.
    Over,
}

impl Request {
    /// Waits for a connection, and for what is asked for on it.
    pub async fn take(incoming: quinn::Incoming) -> Result<Self, End> {
        let mut streams = Streams::begin(incoming.await?).await?;
        let asked = streams.asked().await;
        let (request, id, send, receive) = asked.inspect_err(|end| streams.close(end.code()))?;
        let session = Session { quic: streams.quic.clone(), id, has_left: false.into() };
        Ok(Self { request, session, streams, send, receive })
    }

    /// Its `:path`.
    pub fn path(&self) -> &str {
        self.request.path()
    }

    /// Its `:authority`.
    pub fn authority(&self) -> &str {
        self.request.authority()
    }

    /// Its `origin`. Of several the crate keeps the last, which is no loss: who is no browser may write any.
    pub fn origin(&self) -> Option<&str> {
        self.request.origin()
    }

    /// Where it comes from.
    pub fn remote_address(&self) -> SocketAddr {
        self.session.remote_address()
    }

    /// Begins the session.
    pub async fn accept(mut self) -> Result<(Session, Streams), End> {
        self.answer(&SessionResponse::ok()).await?;
        let Self { session, streams, send, receive, .. } = self;
        streams.waiting.push(
            async {
                let _stays_open = send;
                session_end(receive).await
            }
            .boxed_local(),
        );
        Ok((session, streams))
    }

    /// Refuses the session, and waits until the client knows.
    pub async fn refuse(mut self, response: SessionResponse) {
        if self.answer(&response).await.is_ok() && self.send.finish().is_ok() {
            let _ = self.send.stopped().await;
        }
        self.streams.close(ErrorCode::NoError);
    }

    async fn answer(&mut self, response: &SessionResponse) -> Result<(), End> {
        self.send.write_all(&spelled(&response.headers().generate_frame())).await.map_err(|_| End::Gone)
    }
}

impl Session {
    /// Where its client is.
    pub fn remote_address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// Ends it, and the connection with it.
    pub fn close(&self, code: u32, reason: &[u8]) {
        self.quic.close(code.into(), reason);
    }

    /// Waits until the connection is closed: `None` if its client closed the session before.
    pub async fn closed(&self) -> Option<quinn::ConnectionError> {
        let error = self.quic.closed().await;
        (!self.has_left.load(Ordering::Relaxed)).then_some(error)
    }

    /// Sends a datagram, if it may be as long.
    pub fn send_datagram(&self, payload: &[u8]) -> Result<(), quinn::SendDatagramError> {
        let datagram = Datagram::new(QStreamId::from_session_id(self.id), payload);
        let mut bytes = vec![0; datagram.write_size()];
        datagram.write(&mut bytes).expect("it was asked how long it is");
        self.quic.send_datagram(bytes.into())
    }

    /// Waits for the next datagram. Those of other sessions, which there are none of, are dropped.
    pub async fn receive_datagram(&self) -> Result<Bytes, quinn::ConnectionError> {
        loop {
            let bytes = self.quic.read_datagram().await?;
            match Datagram::read(&bytes) {
                Ok(datagram) if datagram.qstream_id() == QStreamId::from_session_id(self.id) => {
                    return Ok(bytes.slice_ref(datagram.payload()));
                }
                Ok(_) => {}
                Err(code) => self.quic.close(number(code), b""),
            }
        }
    }
}

impl Streams {
    /// Tells the client what is spoken here.
    async fn begin(quic: quinn::Connection) -> Result<Self, End> {
        let settings = Settings::builder()
            .qpack_max_table_capacity(VarInt::from_u32(0))
            .qpack_blocked_streams(VarInt::from_u32(0))
            .enable_connect_protocol()
            .enable_webtransport()
            .enable_h3_datagrams()
            .webtransport_max_sessions(VarInt::from_u32(1))
            .build();
        let mut said = Vec::new();
        StreamHeader::new_control().write(&mut said).expect("a list grows");
        said.extend(spelled(&settings.generate_frame()));
        let mut control = quic.open_uni().await?;
        control.write_all(&said).await.map_err(|_| End::Gone)?;
        let stopped = control.stopped();
        let waiting = FuturesUnordered::from_iter([async {
            match stopped.await {
                Ok(_) => Err(End::Broken(ErrorCode::ClosedCriticalStream)),
                Err(_) => Err(End::Gone),
            }
        }
        .boxed_local()]);
        Ok(Self { quic, _control: control, begun: [false; 4], waiting, early: VecDeque::new() })
    }

    /// Waits for the client's settings and for its request, in whatever order they come.
    async fn asked(&mut self) -> Result<(SessionRequest, SessionId, SendStream, RecvStream), End> {
        let (mut has_settings, mut asked) = (false, None);
        loop {
            match self.next().await? {
                Event::Settings(stream) => {
                    has_settings = true;
                    self.waiting.push(control(stream).boxed_local());
                }
                Event::Request(headers, send, receive) if asked.is_none() => {
                    let headers = Headers::with_frame(&Frame::new_headers(headers.into())).map_err(End::Broken)?;
                    match (SessionRequest::try_from(headers), id_of(quinn::VarInt::from(receive.id()).into_inner())) {
                        (Ok(request), Some(id)) => asked = Some((request, id, send, receive)),
                        (Err(error), _) => {
                            debug!(%error, "a request for no session");
                            let code = match error {
                                HeadersParseError::MethodNotConnect | HeadersParseError::ProtocolNotWebTransport => {
                                    ErrorCode::RequestRejected
                                }
                                _ => ErrorCode::Message,
                            };
                            refuse(send, receive, code);
                        }
                        (_, None) => unreachable!("it is the client that opens it"),
                    }
                }
                Event::Opened(id, send, receive) => self.early.push_back((id, send, receive)),
                event => refuse_event(event),
            }
            if let Some(asked) = asked.take_if(|_| has_settings) {
                return Ok(asked);
            }
        }
    }

    /// Waits for the next stream of the session, in the order in which their beginnings come.
    pub async fn opened(&mut self, session: &Session) -> Result<(SendStream, RecvStream), End> {
        loop {
            let event = match self.early.pop_front() {
                Some((id, send, receive)) => Event::Opened(id, send, receive),
                None => self.next().await.inspect_err(|end| self.end(session, end))?,
            };
            match event {
                Event::Opened(id, send, receive) if id == session.id => return Ok((send, receive)),
                event => refuse_event(event),
            }
        }
    }

    /// Refuses every other stream, and ends the connection when the client ends the session. It is for others to tell how the connection ended.
    pub async fn tend(mut self, session: &Session) -> Infallible {
        self.early.drain(..).for_each(|(id, send, receive)| refuse_event(Event::Opened(id, send, receive)));
        loop {
            match self.next().await {
                Ok(event) => refuse_event(event),
                Err(end) => {
                    self.end(session, &end);
                    return pending().await;
                }
            }
        }
    }

    fn end(&self, session: &Session, end: &End) {
        debug!(%end, "a WebTransport session is over");
        session.has_left.store(matches!(end, End::Left), Ordering::Relaxed);
        // Closed once more, it would tell of no other end any longer.
        if self.quic.close_reason().is_none() {
            self.close(end.code());
        }
    }

    fn close(&self, code: ErrorCode) {
        self.quic.close(number(code), b"");
    }

    /// Waits for something that is not for HTTP/3 alone.
    async fn next(&mut self) -> Result<Event, End> {
        loop {
            let event = tokio::select! {
                // What a client said before it closed the connection comes before that.
                biased;
                Some(event) = self.waiting.next() => event?,
                stream = self.quic.accept_uni() => {
                    self.waiting.push(typed(stream?).map(Ok).boxed_local());
                    continue;
                }
                stream = self.quic.accept_bi() => {
                    let (send, receive) = stream?;
                    self.waiting.push(first_frame(send, receive).boxed_local());
                    continue;
                }
            };
            match event {
                Event::Typed(kind @ (CONTROL | QPACK_ENCODER | QPACK_DECODER), stream) => {
                    if std::mem::replace(&mut self.begun[kind as usize], true) {
                        return Err(End::Broken(ErrorCode::StreamCreation));
                    }
                    self.waiting.push(match kind {
                        CONTROL => settings(stream).boxed_local(),
                        _ => discard(stream).boxed_local(),
                    });
                }
                Event::Typed(PUSH, _) => return Err(End::Broken(ErrorCode::StreamCreation)),
                // One of a session, to which nothing is said in this way, or one of a type that nobody knows: RFC 9114 §6.2.
                Event::Typed(_, mut stream) => drop(stream.stop(number(ErrorCode::StreamCreation))),
                Event::Over => {}
                event => return Ok(event),
            }
        }
    }
}

impl Unread {
    /// What it means on a stream that has to stay open: RFC 9114 §6.2.1.
    fn of_critical(self) -> End {
        match self {
            Self::Ended | Self::Cut | Self::Reset => End::Broken(ErrorCode::ClosedCriticalStream),
            Self::Gone => End::Gone,
            Self::Broken(code) => End::Broken(code),
        }
    }

    /// What it means within a request.
    fn of_request(self) -> End {
        match self {
            Self::Ended | Self::Cut => End::Broken(ErrorCode::Frame),
            Self::Reset | Self::Gone => End::Gone,
            Self::Broken(code) => End::Broken(code),
        }
    }
}

/// Refuses a stream, if it is one.
fn refuse_event(event: Event) {
    match event {
        Event::Request(_, send, receive) => refuse(send, receive, ErrorCode::RequestRejected),
        Event::Opened(_, send, receive) => refuse(send, receive, ErrorCode::BufferedStreamRejected),
        Event::Typed(..) | Event::Settings(_) | Event::Over => {}
    }
}

fn refuse(mut send: SendStream, mut receive: RecvStream, code: ErrorCode) {
    // It may be reset already, which is what we want.
    let _ = send.reset(number(code));
    let _ = receive.stop(number(code));
}

fn number(code: ErrorCode) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.to_code().into_inner()).expect("both are those of RFC 9000 §16")
}

fn spelled(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes).expect("a list grows");
    bytes
}

/// The session that was asked for on this stream. None, for a stream on which none can be.
fn id_of(stream: u64) -> Option<SessionId> {
    SessionId::try_from_session_stream(StreamId::new(VarInt::try_from(stream).ok()?)).ok()
}

/// Waits for the type of a unidirectional stream.
async fn typed(mut stream: RecvStream) -> Event {
    match stream.number().await {
        Ok(kind) => Event::Typed(kind, stream),
        Err(_) => Event::Over,
    }
}

/// Waits for what a bidirectional stream is for.
async fn first_frame(send: SendStream, mut receive: RecvStream) -> Result<Event, End> {
    loop {
        // Until it is known what it is for, a stream may end at any time.
        let Ok(kind) = receive.number().await else { return Ok(Event::Over) };
        let Ok(number) = receive.number().await else { return Ok(Event::Over) };
        match kind {
            DATA => return Err(End::Broken(ErrorCode::FrameUnexpected)),
            SESSION_STREAM => {
                let id = id_of(number).ok_or(End::Broken(ErrorCode::Id))?;
                return Ok(Event::Opened(id, send, receive));
            }
            HEADERS => {
                return match receive.payload(number).await {
                    Ok(headers) => Ok(Event::Request(headers, send, receive)),
                    Err(Unread::Broken(code)) => Err(End::Broken(code)),
                    Err(_) => Ok(Event::Over),
                };
            }
            kind => {
                StreamKind::Request.allows(kind).map_err(End::Broken)?;
                if receive.skip(number).await.is_err() {
                    return Ok(Event::Over);
                }
            }
        }
    }
}

/// Waits for the client's settings, which come first on its control stream: RFC 9114 §6.2.1.
async fn settings(mut stream: RecvStream) -> Result<Event, End> {
    let (kind, length) = stream.header().await.map_err(Unread::of_critical)?;
    if kind != SETTINGS {
        return Err(End::Broken(ErrorCode::MissingSettings));
    }
    let settings = stream.payload(length).await.map_err(Unread::of_critical)?;
    // What they say is not asked for: who asks for a session knows how to have one.
    Settings::with_frame(&Frame::new_settings(settings.into())).map_err(End::Broken)?;
    Ok(Event::Settings(stream))
}

/// Reads on in the control stream, of which nothing is for us, to its end.
async fn control(mut stream: RecvStream) -> Result<Event, End> {
    loop {
        let (kind, length) = stream.header().await.map_err(Unread::of_critical)?;
        StreamKind::Control.allows(kind).map_err(End::Broken)?;
        stream.skip(length).await.map_err(Unread::of_critical)?;
    }
}

/// Reads a stream of QPACK to its end: without a table there is nothing in it for us.
async fn discard(mut stream: RecvStream) -> Result<Event, End> {
    stream.skip(u64::MAX).await.map_err(Unread::of_critical)?;
    Ok(Event::Over)
}

/// Waits for the end of a session: its capsule, or the end of the stream on which it was asked for.
async fn session_end(stream: RecvStream) -> Result<Event, End> {
    let mut capsules = Data::of(stream);
    loop {
        let (kind, length) = match capsules.header().await {
            Err(Unread::Ended) => return Err(End::Left),
            header => header.map_err(Unread::of_request)?,
        };
        if kind == CLOSE_SESSION && !CLOSE_SESSION_BYTES.contains(&length) {
            return Err(End::Broken(ErrorCode::Message));
        }
        capsules.skip(length).await.map_err(Unread::of_request)?;
        if kind == CLOSE_SESSION {
            return Err(End::Left);
        }
    }
}
