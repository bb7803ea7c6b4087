//! Engine.IO over HTTP: a GET waits for messages, a POST brings some, and the first GET of all opens a session.
//!
//! One of each at a time: a second one ends the session, as it does with engine.io 6 (`Polling.onPollRequest`, `onDataRequest`). A request that is
//! broken off while it waits, or with messages in it, ends it as well, for nobody knows what of them has arrived. That the client ends its side of
//! the connection is as good as the end of all of it (`http::builder`).

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodySize, MessageBody},
    http::{Method, StatusCode, header},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{
    super::{
        address::Visit,
        allowance::BATCH_FRAMES,
        logs::{span, spawn_in},
    },
    EngineIo, Incoming, Socket, Stop, Transport,
};
use crate::{
    dialect::engineio::{Fault, Packet, Query},
    metrics::Door,
    protocol::CloseCode,
    session::outbox::{Outbox, Outgoing},
};

/// An answer takes no more messages once it has so many bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// Answers a request over this connection, if that is counted. `begin` is asked for a new session: it lets the client in, or tells why not.
pub async fn answer<A>(
    request: &HttpRequest,
    body: web::Payload,
    engine: &Arc<EngineIo>,
    connection: Option<Arc<Visit>>,
    begin: impl FnOnce() -> Result<A, CloseCode>,
) -> HttpResponse
where
    A: AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop + 'static,
{
    if *request.method() == Method::OPTIONS {
        return allow(request);
    }
    let query = Query::parse(request.query_string());
    match engine.find(&query, "polling", *request.method() == Method::GET) {
        Ok(None) => open(engine, begin),
        Ok(Some(socket)) => {
            let _carried = socket.carried_by(connection);
            match *request.method() {
                Method::GET => poll(socket).await,
                Method::POST => post(request, body, &socket, engine).await,
                _ => refuse(Fault::BadRequest),
            }
        }
        Err(fault) => refuse(fault),
    }
}

fn open<A>(engine: &Arc<EngineIo>, begin: impl FnOnce() -> Result<A, CloseCode>) -> HttpResponse
where
    A: AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop + 'static,
{
    let attend = match begin() {
        Ok(attend) => attend,
        Err(code) => {
            engine.metrics.handshake_failed(code);
            let text = format!(r#"{{"code":{},"message":"{}"}}"#, Fault::Forbidden as u8, code.slug());
            return head(StatusCode::SERVICE_UNAVAILABLE).content_type("application/json").body(text);
        }
    };
    let (socket, incoming) = engine.open(Door::Polling);
    let handshake = engine.handshake(&socket, &["websocket"]);
    let engine = engine.clone();
    spawn_in(span(Door::Polling, "socket.io"), async move { engine.run(socket, incoming, attend).await });
    text(handshake)
}

/// Waits for something to say, and says it.
async fn poll(socket: Arc<Socket>) -> HttpResponse {
    let mut answer = {
        let mut state = socket.state();
        if state.transport == Transport::Stream {
            return refuse(Fault::BadRequest);
        }
        if std::mem::replace(&mut state.is_polled, true) {
            drop(state);
            socket.end(Stop::Violation);
            return refuse(Fault::BadRequest);
        }
        Answer { socket: socket.clone(), rest: Bytes::new(), is_given: false }
    };
    let mut body = Vec::new();
    poll_fn(|cx| take(&socket, cx, &mut body)).await;
    answer.rest = body.into();
    head(StatusCode::OK).content_type("text/plain; charset=UTF-8").body(answer)
}

/// Takes what there is to say over this transport, or nothing if there is another one.
fn take(socket: &Socket, cx: &mut Context<'_>, body: &mut Vec<u8>) -> Poll<()> {
    // Held until it is taken, or a WebSocket could take over in between.
    let mut state = socket.state();
    state.poll = None;
    let is_let_go = std::mem::take(&mut state.is_let_go);
    let packet = match state.transport {
        Transport::Ended(Stop::Left) | Transport::Stream => Packet::Noop,
        Transport::Ended(_) => Packet::Close,
        Transport::Polling | Transport::Probing => {
            let mut is_over = false;
            let write = |outgoing| {
                match outgoing {
                    Outgoing::Frame(frame) => Packet::Message(frame).write(body),
                    Outgoing::Ping => Packet::Ping(Bytes::new()).write(body),
                    Outgoing::End(_) => is_over = true,
                    // Those are of a WebSocket.
                    Outgoing::Pong(_) | Outgoing::Begun(_) => {}
                }
                body.len() < ANSWER_BYTES
            };
            let taken = socket.outbox.poll_take(cx, write);
            match taken.is_ready() {
                _ if is_over => Packet::Close,
                true if !body.is_empty() => return Poll::Ready(()),
                _ if is_let_go => Packet::Noop,
                true => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                false => {
                    state.poll = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    };
    let is_over = packet == Packet::Close;
    drop(state);
    packet.write(body);
    if is_over {
        socket.end(Stop::Gone);
    }
    Poll::Ready(())
}

/// The body of an answer. What is in it counts as waiting until the connection has room for the last byte.
struct Answer {
    socket: Arc<Socket>,
    rest: Bytes,
    is_given: bool,
}

impl MessageBody for Answer {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(match self.rest.len() {
            0 => None,
            1 => {
                // The client has to have this byte to know that it may ask again.
                self.socket.outbox.written();
                self.socket.state().is_polled = false;
                self.is_given = true;
                Some(Ok(std::mem::take(&mut self.rest)))
            }
            more => Some(Ok(self.rest.split_to(more - 1))),
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.is_given {
            self.socket.end(Stop::Gone);
        }
    }
}

/// Takes what the client says.
async fn post(request: &HttpRequest, mut body: web::Payload, socket: &Arc<Socket>, engine: &EngineIo) -> HttpResponse {
    let violation = || {
        socket.end(Stop::Violation);
        refuse(Fault::BadRequest)
    };
    {
        let mut state = socket.state();
        if state.transport == Transport::Stream {
            return refuse(Fault::BadRequest);
        }
        if std::mem::replace(&mut state.is_posted, true) {
            drop(state);
            return violation();
        }
    }
    let mut posting = Posting { socket, is_broken_off: true };
    // Bytes as they are were a body in version 3.
    if request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream") {
        return violation();
    }
    let bytes_max = engine.limits.message_bytes_max;
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|_| StatusCode::BAD_REQUEST)?);
            if bytes.len() > bytes_max {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
        }
        Ok(bytes.freeze())
    };
    let read = match announced(request) > bytes_max {
        true => Err(StatusCode::PAYLOAD_TOO_LARGE),
        false => timeout(engine.timeouts.hello(), read).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)),
    };
    let body = match read {
        Ok(body) => body,
        // The client knows that nothing of it is heard.
        Err(status) => {
            posting.is_broken_off = status == StatusCode::BAD_REQUEST;
            return head(status).finish();
        }
    };
    socket.heard();
    let mut messages = VecDeque::new();
    let mut packets = Packet::read_all(&body);
    let outcome = loop {
        match packets.next() {
            Some(Some(Packet::Message(message))) => messages.push_back(message),
            Some(Some(packet @ (Packet::Pong(_) | Packet::Upgrade | Packet::Noop))) => {
                if let Err(stop) = socket.pace(&packet) {
                    break Err(stop);
                }
            }
            Some(Some(Packet::Close)) => break Err(Stop::Left),
            // Only the server probes.
            Some(Some(Packet::Ping(_)) | None) => break Err(Stop::Violation),
            None => break Ok(()),
        }
        if messages.len() == BATCH_FRAMES {
            socket.bring(std::mem::take(&mut messages)).await;
        }
    };
    socket.bring(messages).await;
    posting.is_broken_off = false;
    match outcome {
        Err(Stop::Violation) => return violation(),
        Err(stop @ Stop::Fault(_)) => {
            socket.end(stop);
            return head(StatusCode::TOO_MANY_REQUESTS).finish();
        }
        Err(stop) => socket.end(stop),
        Ok(()) => {}
    }
    // What it is called comes from browsers that offered to save it otherwise.
    head(StatusCode::OK).content_type("text/html").body("ok")
}

/// How many bytes a request says that it has.
fn announced(request: &HttpRequest) -> usize {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}

/// A request that brings messages, broken off until all of them are there.
struct Posting<'a> {
    socket: &'a Socket,
    is_broken_off: bool,
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        self.socket.state().is_posted = false;
        if self.is_broken_off {
            self.socket.end(Stop::Gone);
        }
    }
}

/// Which pages may read it is for [`super::super::origins`] to say.
fn head(status: StatusCode) -> HttpResponseBuilder {
    let mut head = HttpResponse::build(status);
    head.insert_header((header::CACHE_CONTROL, "no-store"));
    head
}

fn text(text: String) -> HttpResponse {
    head(StatusCode::OK).content_type("text/plain; charset=UTF-8").body(text)
}

fn refuse(fault: Fault) -> HttpResponse {
    head(StatusCode::BAD_REQUEST).content_type("application/json").body(fault.json())
}

/// Lets a page of another origin send headers of its own.
fn allow(request: &HttpRequest) -> HttpResponse {
    let mut allowed = head(StatusCode::NO_CONTENT);
    allowed.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"));
    if let Some(headers) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        allowed.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone()));
    }
    allowed.finish()
}
