//! HTTP/3 and QUIC under a WebTransport session, spoken by hand: what ends a session, what breaks the protocol, and what does neither.

mod support;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, ReadError, ReadToEndError, RecvStream, SendStream};
use support::{
    TestServer, connect_to, doors, hear, newcomer,
    raw::{CONNECT, CONTROL_STREAM, RawSession, RawWebTransport, SESSION_STREAM, STATUS_200},
    within,
};
use switchboard::{
    auth::{Authorize, Denied, Grant, Visitor},
    client::Door,
    protocol::{ClientMessage, LeaveReason, ServerMessage},
};
use tokio::sync::{mpsc, oneshot};
use wtransport::error::StreamReadError;

/// CLOSE_WEBTRANSPORT_SESSION with code 7 and `bye`: draft-ietf-webtrans-http3 §5.
const CLOSE_CAPSULE: &[u8] = b"\x68\x43\x07\0\0\0\x07bye";
/// HEADERS that ask for a page: `:method: GET`, `:scheme: https`, `:authority: x` and `:path: /`.
const GET: &[u8] = b"\x01\x08\x00\x00\xd1\xd7\x50\x01x\xc1";
/// Codes: RFC 9114 §8.1, RFC 9297 §5.2 and RFC 9204 §6.
const H3_DATAGRAM_ERROR: u32 = 0x33;
const H3_NO_ERROR: u32 = 0x100;
const H3_STREAM_CREATION_ERROR: u32 = 0x103;
const H3_CLOSED_CRITICAL_STREAM: u32 = 0x104;
const H3_FRAME_UNEXPECTED: u32 = 0x105;
const H3_FRAME_ERROR: u32 = 0x106;
const H3_EXCESSIVE_LOAD: u32 = 0x107;
const H3_ID_ERROR: u32 = 0x108;
const H3_MISSING_SETTINGS: u32 = 0x10a;
const H3_REQUEST_REJECTED: u32 = 0x10b;
const H3_MESSAGE_ERROR: u32 = 0x10e;
const QPACK_DECOMPRESSION_FAILED: u32 = 0x200;
/// draft-ietf-webtrans-http3 §9.5.
const WEBTRANSPORT_BUFFERED_STREAM_REJECTED: u32 = 0x3994_bd84;

async fn open(server: &TestServer) -> RawSession {
    RawSession::open(server.base(), server.addresses()[0], Ipv4Addr::LOCALHOST).await
}

async fn connect(server: &TestServer) -> (quinn::Endpoint, Connection) {
    RawSession::connect(server.base(), server.addresses()[0], Ipv4Addr::LOCALHOST).await
}

async fn unidirectional(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = within("a stream", connection.open_uni()).await.unwrap();
    within("its bytes", stream.write_all(bytes)).await.unwrap();
    stream
}

async fn bidirectional(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, receive) = within("a stream", connection.open_bi()).await.unwrap();
    within("its bytes", send.write_all(bytes)).await.unwrap();
    (send, receive)
}

/// The code with which the server closes the connection.
async fn closed(connection: &Connection) -> u32 {
    match within("the end", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner() as u32,
        other => panic!("{other}"),
    }
}

/// The code with which the server resets a stream.
async fn refused(stream: &mut RecvStream) -> u32 {
    match within("a refusal", stream.read_to_end(99)).await {
        Err(ReadToEndError::Read(ReadError::Reset(code))) => code.into_inner() as u32,
        other => panic!("{other:?}"),
    }
}

/// A frame of one byte of type and one of length.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()], payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_leaves_by_a_capsule_or_the_end_of_its_request_and_is_lost_by_a_reset() {
    // Who is lost may come back, and its peers learn of it when it does not.
    let server = TestServer::with(|config| config.timeouts.resume_window_ms = 200);
    let mut witness = connect_to(&doors(server.base()).await, Door::ALL[0], "r").await;
    let capsule = frame(0, CLOSE_CAPSULE);
    let one_by_one = CLOSE_CAPSULE.iter().flat_map(|byte| frame(0, &[*byte])).collect();
    // GREASE of RFC 9114 §7.2.8 between, and a capsule that nobody knows before.
    let behind_others = [frame(0x21, b"what"), frame(0, b"\x17\x04who?"), frame(0, b""), capsule.clone()].concat();
    const LEFT: LeaveReason = LeaveReason::Disconnected;
    const LOST: LeaveReason = LeaveReason::Timeout;
    for (name, bytes, is_reset, reason, code) in [
        ("a capsule", capsule, false, LEFT, H3_NO_ERROR),
        ("a capsule in as many frames as it has bytes", one_by_one, false, LEFT, H3_NO_ERROR),
        ("a capsule behind others", behind_others, false, LEFT, H3_NO_ERROR),
        ("the end", vec![], false, LEFT, H3_NO_ERROR),
        ("the end behind a capsule that nobody knows", frame(0, b"\x17\x04who?"), false, LEFT, H3_NO_ERROR),
        ("a reset", vec![], true, LOST, H3_NO_ERROR),
        ("the end within a frame", b"\0\x09\x68\x43".to_vec(), false, LOST, H3_FRAME_ERROR),
    ] {
        let mut session = open(&server).await;
        session.say(ClientMessage::Join { room: "r".into(), metadata: None }).await;
        let peer = newcomer(&mut witness).await;
        within("its bytes", session.request.write_all(&bytes)).await.unwrap();
        // A capsule says enough; nothing has to follow it.
        if is_reset {
            session.request.reset(0_u8.into()).unwrap();
        } else if !bytes.ends_with(b"bye") {
            session.request.finish().unwrap();
        }
        let left = hear("who leaves", &mut witness, |message| match message {
            ServerMessage::PeerLeft { peer_id, reason, .. } => Some((peer_id, reason)),
            _ => None,
        });
        assert_eq!(left.await, (peer, reason), "{name}");
        assert_eq!(closed(&session.connection).await, code, "{name}");
    }
}

/// While the application is asked, nobody reads what the client sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_it_is_let_in_has_left() {
    let (guests, mut asked) = SlowGuests::new();
    let server = TestServer::asking(Some(guests), |config| config.timeouts.resume_window_ms = 60_000);
    let connector = doors(server.base()).await;
    let witness = async { connect_to(&connector, Door::ALL[0], "r").await };
    let letting = async { within("to be asked", asked.recv()).await.unwrap().send(()).unwrap() };
    let (mut witness, ()) = tokio::join!(witness, letting);
    let mut session = open(&server).await;
    session.say(ClientMessage::Join { room: "r".into(), metadata: None }).await;
    let let_in = within("to be asked", asked.recv()).await.unwrap();
    session.connection.close(H3_NO_ERROR.into(), b"");
    within("the end", session.endpoint.wait_idle()).await;
    let_in.send(()).unwrap();
    let peer = newcomer(&mut witness).await;
    let left = hear("who leaves", &mut witness, |message| match message {
        ServerMessage::PeerLeft { peer_id, reason, .. } => Some((peer_id, reason)),
        _ => None,
    });
    assert_eq!(left.await, (peer, LeaveReason::Disconnected));
}

/// Lets everybody in when the test says so.
struct SlowGuests(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl SlowGuests {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let (ask, asked) = mpsc::unbounded_channel();
        (Arc::new(Self(ask)), asked)
    }
}

impl Authorize for SlowGuests {
    fn connect(&self, _: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        let (let_in, may_come) = oneshot::channel();
        self.0.send(let_in).unwrap();
        Box::pin(async { may_come.await.map(|()| Grant::ALL).map_err(|_| Denied::new("the test is over")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_http3_is_told_how() {
    let server = TestServer::start();
    let settings = &CONTROL_STREAM[1..];
    let twice = [CONTROL_STREAM, settings].concat();
    for (name, stream, code) in [
        ("a control stream that does not begin with settings", &b"\x00\x21\x00"[..], H3_MISSING_SETTINGS),
        ("settings twice", &twice, H3_FRAME_UNEXPECTED),
        ("settings that are too long", b"\x00\x04\x50\x01", H3_EXCESSIVE_LOAD),
        ("settings that are cut", b"\x00\x04\x01\x40", H3_FRAME_ERROR),
    ] {
        let (_endpoint, connection) = connect(&server).await;
        let _stream = unidirectional(&connection, stream).await;
        assert_eq!(closed(&connection).await, code, "{name}");
    }
    for (name, stream, code) in [
        ("a frame of data before a request", &b"\x00\x01x"[..], H3_FRAME_UNEXPECTED),
        ("a frame of HTTP/2", b"\x08\x01x", H3_FRAME_UNEXPECTED),
        ("a request that is too long", b"\x01\x50\x01", H3_EXCESSIVE_LOAD),
        ("a request in words of a table", b"\x01\x03\x00\x00\x80", QPACK_DECOMPRESSION_FAILED),
        ("a stream of a session on which none can be", b"\x40\x41\x01", H3_ID_ERROR),
    ] {
        let (_endpoint, connection) = connect(&server).await;
        let _control = unidirectional(&connection, CONTROL_STREAM).await;
        let _streams = bidirectional(&connection, stream).await;
        assert_eq!(closed(&connection).await, code, "{name}");
    }
    // CONNECT, and nothing else.
    let (_endpoint, connection) = connect(&server).await;
    let (_send, mut half) = bidirectional(&connection, b"\x01\x03\x00\x00\xcf").await;
    assert_eq!(refused(&mut half).await, H3_MESSAGE_ERROR);
    for (name, kind) in [("encoder", 2), ("decoder", 3)] {
        let session = open(&server).await;
        let _first = unidirectional(&session.connection, &[kind]).await;
        let _second = unidirectional(&session.connection, &[kind]).await;
        assert_eq!(closed(&session.connection).await, H3_STREAM_CREATION_ERROR, "two {name} streams");
        let session = open(&server).await;
        unidirectional(&session.connection, &[kind]).await.finish().unwrap();
        assert_eq!(closed(&session.connection).await, H3_CLOSED_CRITICAL_STREAM, "the {name} stream ends");
    }
    for (name, kind) in [("control", 0), ("push", 1)] {
        let session = open(&server).await;
        let _stream = unidirectional(&session.connection, &[kind]).await;
        assert_eq!(closed(&session.connection).await, H3_STREAM_CREATION_ERROR, "a {name} stream in a session");
    }
    let mut session = open(&server).await;
    session.control.finish().unwrap();
    assert_eq!(closed(&session.connection).await, H3_CLOSED_CRITICAL_STREAM, "the control stream ends");
    let session = open(&server).await;
    let mut settings = within("the server's control stream", session.connection.accept_uni()).await.unwrap();
    settings.stop(0_u8.into()).unwrap();
    assert_eq!(closed(&session.connection).await, H3_CLOSED_CRITICAL_STREAM, "the server's control stream is stopped");
    let mut session = open(&server).await;
    session.say(ClientMessage::Hello { token: None, resume: None }).await;
    assert!(matches!(session.hear().await, ServerMessage::Welcome(_)));
    session.connection.send_datagram(b"\xff"[..].into()).unwrap();
    assert_eq!(closed(&session.connection).await, H3_DATAGRAM_ERROR, "a datagram that is none");
    let mut session = open(&server).await;
    session.request.write_all(&frame(0, b"\x68\x43\x03\0\0\0")).await.unwrap();
    assert_eq!(closed(&session.connection).await, H3_MESSAGE_ERROR, "a capsule that is too short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_for_us_changes_nothing() {
    let server = TestServer::start();
    let (_endpoint, connection) = connect(&server).await;
    // Whatever comes first: a stream of the session before the session, that before the settings, and a page asked for before all of them.
    let (_send, mut page) = bidirectional(&connection, GET).await;
    assert_eq!(refused(&mut page).await, H3_REQUEST_REJECTED);
    // It will be asked for on the third stream, whose id is 8: RFC 9000 §2.1.
    let (mut send, _receive) = bidirectional(&connection, b"\x40\x41\x08").await;
    let (_request, mut answer) = bidirectional(&connection, CONNECT).await;
    let mut control = unidirectional(&connection, CONTROL_STREAM).await;
    let mut status = [0; STATUS_200.len()];
    within("an answer", answer.read_exact(&mut status)).await.unwrap();
    assert_eq!(status, STATUS_200);
    let _qpack = [unidirectional(&connection, b"\x02\x20").await, unidirectional(&connection, b"\x03").await];
    // Types that nobody knows, and a stream of the session: nothing is said in this way.
    for bytes in [&b"\x21what"[..], b"\x7f\xff\xff\xff", b"\x40\x54\x08what"] {
        let stream = unidirectional(&connection, bytes).await;
        assert_eq!(within("to be stopped", stream.stopped()).await.unwrap(), Some(H3_STREAM_CREATION_ERROR.into()));
    }
    // PRIORITY_UPDATE of RFC 9218 §7.2, GOAWAY, and GREASE.
    within("frames", control.write_all(b"\x80\x0f\x07\x00\x02\0u\x07\x01\x00\x21\x01x")).await.unwrap();
    let (_send, mut another) = bidirectional(&connection, SESSION_STREAM).await;
    assert_eq!(refused(&mut another).await, WEBTRANSPORT_BUFFERED_STREAM_REJECTED);
    let (_send, mut another) = bidirectional(&connection, CONNECT).await;
    assert_eq!(refused(&mut another).await, H3_REQUEST_REJECTED);

    let mut witness = connect_to(&doors(server.base()).await, Door::WebTransport, "r").await;
    within("a message", send.write_all(b"\0\0\0\x12\x82\xa4type\xa4join\xa4room\xa1r")).await.unwrap();
    newcomer(&mut witness).await;
    // {"type": "message", "room": "r", "payload": n}, for session 0, which there is not, and for this one: a quarter of its id.
    let broadcast = |session: u8, n: u8| [&[session][..], b"\x83\xa4type\xa7message\xa4room\xa1r\xa7payload", &[n]].concat();
    let heard = hear("a broadcast", &mut witness, |message| match message {
        ServerMessage::Forwarded { payload, .. } => Some(payload.parse::<u8>().unwrap()),
        _ => None,
    });
    let sending = async {
        // What is best effort may be lost, and is said until it is heard.
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        loop {
            connection.send_datagram(broadcast(0, 1).into()).unwrap();
            connection.send_datagram(broadcast(2, 2).into()).unwrap();
            beat.tick().await;
        }
    };
    tokio::select! {
        heard = heard => assert_eq!(heard, 2),
        () = sending => unreachable!(),
    }
}

/// Of a session of Socket.IO as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_streams_of_a_session_are_refused_at_each_door() {
    let server = TestServer::start();
    let webtransport = RawWebTransport::new(server.base()).await;
    for (path, first) in [("/wt", &b"\0\0\0\x0c\x81\xa4type\xa5hello"[..]), ("/socket.io/?EIO=4&transport=webtransport", b"\x010")] {
        let session = webtransport.connect_from(path, None).await.unwrap();
        let (mut send, mut receive) = within("a stream", session.open_bi().await.unwrap()).await.unwrap();
        within("a message", send.write_all(first)).await.unwrap();
        assert!(within("an answer", receive.read(&mut [0; 9])).await.unwrap().is_some(), "{path}");
        let (_send, mut other) = within("a stream", session.open_bi().await.unwrap()).await.unwrap();
        assert!(matches!(within("a refusal", other.read(&mut [0])).await, Err(StreamReadError::Reset(_))), "{path}");
    }
}

/// The frame that asks for it stands before the answer to `hello`: draft-ietf-quic-ack-frequency §5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_acknowledge_less_often_is_asked_to() {
    let server = TestServer::start();
    let mut session = open(&server).await;
    session.say(ClientMessage::Join { room: "r".into(), metadata: None }).await;
    assert!(matches!(session.hear().await, ServerMessage::Welcome(_)));
    assert_eq!(session.connection.stats().frame_rx.ack_frequency, 1);
}
