//! Engine.IO 4 and Socket.IO 5: the cases of the protocol authors' suites against the echo of `--example conformance`, which is the door of the
//! server and its packets; and clients of Socket.IO in the rooms that all dialects share.
//!
//! The cases of both suites that are about Engine.IO alone are played on both paths.

#[path = "../examples/conformance/engineio.rs"]
mod echo;
mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use switchboard::{auth::Grant, client::Door, config::ForeignDialect, ingress::listener, protocol::Codec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use self::{
    echo::Times,
    support::{
        RawClient, TestServer, eventually,
        foreign::{ForeignClient, HalfOpen},
        guest_list::{GuestList, grant},
        http,
        raw::{
            first::{FINISHED, TEXT},
            frame,
        },
        within,
    },
};

/// The echo, for as long as this program runs. Nobody is probed by it, nor gone for being silent.
static ECHO: LazyLock<String> =
    LazyLock::new(|| echo(Times { ping_interval_ms: 25_000, ping_timeout_ms: 60_000, connect_timeout_ms: 60_000 }));
/// The same, for the tests of just that.
static PROBING_ECHO: LazyLock<String> =
    LazyLock::new(|| echo(Times { ping_interval_ms: 200, ping_timeout_ms: 1_000, connect_timeout_ms: 1_000 }));

fn echo(times: Times) -> String {
    let listeners = listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address: SocketAddr = listeners[0].address;
    let serve =
        move || actix_rt::System::new().block_on(async { echo::server(listeners, times)?.workers(2).disable_signals().run().await });
    thread::spawn(serve);
    address.to_string()
}

const PATHS: [&str; 2] = ["/engine.io/", "/socket.io/"];

/// One request with this query.
async fn request(base: &str, method: Method, path: &str, query: &str, body: impl Into<reqwest::Body>) -> Response {
    let request = http().request(method, format!("http://{base}{path}?{query}")).body(body);
    within("an answer", request.send()).await.expect("an answer")
}

async fn status(method: Method, path: &str, query: &str) -> u16 {
    request(&ECHO, method, path, query, "").await.status().as_u16()
}

/// A session over HTTP.
#[derive(Clone)]
struct Polling {
    base: String,
    path: &'static str,
    sid: String,
}

impl Polling {
    async fn open(base: &str, path: &'static str) -> (Self, Value) {
        let answer = request(base, Method::GET, path, "EIO=4&transport=polling", "").await;
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        let open: Value = serde_json::from_str(text.strip_prefix('0').expect("an open packet")).unwrap();
        let sid = open["sid"].as_str().unwrap().to_owned();
        (Self { base: base.to_owned(), path, sid }, open)
    }

    async fn at(path: &'static str) -> Self {
        Self::open(&ECHO, path).await.0
    }

    fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    async fn get(&self) -> (u16, String) {
        let answer = request(&self.base, Method::GET, self.path, &self.query(), "").await;
        (answer.status().as_u16(), within("a body", answer.text()).await.unwrap())
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let answer = request(&self.base, Method::POST, self.path, &self.query(), body).await;
        (answer.status().as_u16(), within("a body", answer.text()).await.unwrap())
    }

    /// Begins a request of these headers, and what there is of a body.
    async fn begin(&self, method: &str, rest: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.base).await.unwrap();
        let head = format!("{method} {}?{} HTTP/1.1\r\nhost: x\r\n{rest}", self.path, self.query());
        within("a request", socket.write_all(head.as_bytes())).await.unwrap();
        socket
    }

    /// Asks until these packets have come, probes aside.
    async fn hear(&self, expected: &[&str]) {
        let mut heard: Vec<String> = vec![];
        while heard.len() < expected.len() {
            let (status, body) = self.get().await;
            assert_eq!(status, 200, "{body}");
            heard.extend(body.split('\u{1e}').filter(|packet| *packet != "2").map(str::to_owned));
        }
        assert_eq!(heard, expected);
    }

    /// Asks beside everything else.
    fn pending(&self) -> tokio::task::JoinHandle<(u16, String)> {
        let polling = self.clone();
        tokio::spawn(async move { polling.get().await })
    }
}

/// A WebSocket.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn try_open(base: &str, path: &str, query: &str) -> Option<Self> {
        let opening = connect_async(format!("ws://{base}{path}?{query}"));
        within("a handshake", opening).await.ok().map(|(socket, _)| Self(socket))
    }

    /// One that has its open packet.
    async fn at(path: &str) -> Self {
        Self::opened(&ECHO, path).await
    }

    async fn opened(base: &str, path: &str) -> Self {
        let mut socket = Self::try_open(base, path, "EIO=4&transport=websocket").await.expect("a WebSocket");
        assert!(socket.hear().await.starts_with("0{"));
        socket
    }

    /// One that is in the main namespace.
    async fn connected() -> Self {
        Self::at("/socket.io/").await.enters().await
    }

    async fn enters(mut self) -> Self {
        let socket = &mut self;
        socket.say("40").await;
        assert!(socket.hear().await.starts_with("40{\"sid\":"));
        assert_eq!(socket.hear().await, r#"42["auth",{}]"#);
        self
    }

    async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    async fn send(&mut self, message: Message) {
        within("a message is sent", self.0.send(message)).await.expect("sent");
    }

    /// The next message, control frames aside; probes are answered on the way. `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) if text == "2" => {
                        // The end may be on its way.
                        let _ = self.0.send(Message::text("3")).await;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(message)) => return Some(message),
                }
            }
        };
        within("a message", next).await
    }

    async fn hear(&mut self) -> String {
        self.next().await.expect("the connection lasts").into_text().expect("text").to_string()
    }

    /// Waits for the end, past whatever comes before it.
    async fn closed(mut self) {
        within("an end", async { while self.next().await.is_some() {} }).await;
    }
}

// Engine.IO: handshake.

#[tokio::test]
async fn a_session_opens_over_http() {
    for path in PATHS {
        let (_, open) = Polling::open(&ECHO, path).await;
        assert_eq!((open["upgrades"].clone(), open["pingInterval"].clone()), (json!(["websocket"]), json!(25_000)));
        assert_eq!((open["pingTimeout"].clone(), open["maxPayload"].clone()), (json!(60_000), json!(1_000_000)));
        assert_eq!(open.as_object().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn another_version_is_refused() {
    for path in PATHS {
        for query in ["transport=polling", "EIO=abc&transport=polling", "EIO=3&transport=polling"] {
            let answer = request(&ECHO, Method::GET, path, query, "").await;
            assert_eq!(answer.status(), 400, "{query}");
            assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "code": 5, "message": "Unsupported protocol version" }));
        }
        for query in ["transport=websocket", "EIO=abc&transport=websocket"] {
            assert!(Socket::try_open(&ECHO, path, query).await.is_none(), "{query}");
        }
    }
}

#[tokio::test]
async fn another_transport_is_refused() {
    for path in PATHS {
        for query in ["EIO=4", "EIO=4&transport=abc"] {
            let answer = request(&ECHO, Method::GET, path, query, "").await;
            assert_eq!(answer.status(), 400, "{query}");
            assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "code": 0, "message": "Transport unknown" }));
            assert!(Socket::try_open(&ECHO, path, query).await.is_none(), "{query}");
        }
        assert_eq!(status(Method::GET, path, "EIO=4&transport=websocket").await, 400, "without an upgrade it is none");
    }
}

#[tokio::test]
async fn another_method_opens_nothing() {
    for path in PATHS {
        for method in [Method::POST, Method::PUT] {
            let answer = request(&ECHO, method, path, "EIO=4&transport=polling", "").await;
            assert_eq!((answer.status().as_u16(), answer.json::<Value>().await.unwrap()["code"].clone()), (400, json!(2)));
        }
        assert_eq!(status(Method::GET, path, "EIO=4&transport=polling&sid=unknown").await, 400);
    }
}

#[tokio::test]
async fn a_session_opens_over_a_websocket() {
    for path in PATHS {
        let mut socket = Socket::try_open(&ECHO, path, "EIO=4&transport=websocket").await.unwrap();
        let open = socket.hear().await;
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(
            (open["upgrades"].clone(), open["pingInterval"].clone(), open["maxPayload"].clone()),
            (json!([]), json!(25_000), json!(1_000_000))
        );
        assert!(open["sid"].is_string());
    }
}

// Engine.IO: messages.

#[tokio::test]
async fn a_message_goes_and_comes_over_http() {
    let polling = Polling::at("/engine.io/").await;
    assert_eq!(polling.post("4hello").await, (200, "ok".into()));
    polling.hear(&["4hello"]).await;
}

#[tokio::test]
async fn several_messages_are_one_body() {
    let polling = Polling::at("/engine.io/").await;
    assert_eq!(polling.post("4test1\u{1e}4test2\u{1e}4test3").await.0, 200);
    polling.hear(&["4test1", "4test2", "4test3"]).await;
}

#[tokio::test]
async fn text_and_bytes_are_one_body() {
    let polling = Polling::at("/engine.io/").await;
    assert_eq!(polling.post("4hello\u{1e}bAQIDBA==").await.0, 200);
    polling.hear(&["4hello", "bAQIDBA=="]).await;
}

#[tokio::test]
async fn what_is_no_packet_ends_a_session() {
    for path in PATHS {
        for body in ["abc", "", "4hello\u{1e}x", "2"] {
            let polling = Polling::at(path).await;
            assert_eq!(polling.post(body).await.0, 400, "{body:?}");
            assert_eq!(polling.get().await.0, 400);
        }
        for text in ["abc", "2probe"] {
            let mut socket = Socket::at(path).await;
            socket.say(text).await;
            socket.closed().await;
        }
    }
}

#[tokio::test]
async fn two_requests_for_messages_at_once_end_the_session() {
    for path in PATHS {
        let polling = Polling::at(path).await;
        let (one, other) = tokio::join!(polling.get(), polling.get());
        let mut answers = [one, other];
        answers.sort();
        assert_eq!((&answers[0], answers[1].0), (&(200, "1".into()), 400));
        assert_eq!(polling.get().await.0, 400);
    }
}

#[tokio::test]
async fn two_requests_with_messages_at_once_end_the_session() {
    let polling = Polling::at("/engine.io/").await;
    let mut slow = polling.begin("POST", "content-length: 6\r\n\r\n4he").await;
    eventually("the first is under way", async || polling.post("4hello").await.0 == 400).await;
    slow.write_all(b"llo").await.unwrap();
    within("the end of the first", slow.read_to_end(&mut vec![])).await.unwrap();
    assert_eq!(polling.get().await.0, 400);
}

/// A browser that closes a page breaks off the request that waits and says nothing more. The session lasted until it had been silent for too long,
/// and messages of which only a part had come were dropped in silence.
#[tokio::test]
async fn a_request_that_is_broken_off_ends_the_session_whatever_silence_is_allowed() {
    let server = TestServer::with(|config| (config.timeouts.heartbeat_ms, config.timeouts.silence_ms) = (300_000, 600_000));
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    for (method, rest) in
        [("GET", "\r\n"), ("POST", "content-length: 100\r\n\r\n4"), ("POST", "transfer-encoding: chunked\r\n\r\n4\r\n42[\"\r\n")]
    {
        let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
        assert_eq!(polling.post("40\u{1e}42[\"announce\",{\"hash\":\"r\"}]").await.0, 200);
        assert_eq!(native.hear().await["type"], "peer-joined");
        let mut heard = String::new();
        while !heard.contains("peer-list") {
            heard += &polling.get().await.1;
        }
        drop(polling.begin(method, rest).await);
        let left = native.hear().await;
        assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("disconnected")), "{method} {rest}");
        assert_eq!(polling.get().await.0, 400);
    }
}

#[tokio::test]
async fn text_and_bytes_go_and_come_over_a_websocket() {
    let mut socket = Socket::at("/engine.io/").await;
    for message in [Message::text("4hello"), Message::binary(vec![1, 2, 3, 4]), Message::text("4"), Message::binary(vec![])] {
        socket.send(message.clone()).await;
        assert_eq!(socket.next().await, Some(message));
    }
}

// Engine.IO: heartbeat, close and upgrade.

#[tokio::test]
async fn who_answers_probes_stays() {
    let (polling, _) = Polling::open(&PROBING_ECHO, "/engine.io/").await;
    for _ in 0..3 {
        assert_eq!(polling.get().await, (200, "2".into()));
        assert_eq!(polling.post("3").await.0, 200);
    }
    let mut socket = Socket::opened(&PROBING_ECHO, "/engine.io/").await;
    let mut socketio = Socket::opened(&PROBING_ECHO, "/socket.io/").await.enters().await;
    for _ in 0..3 {
        for socket in [&mut socket, &mut socketio] {
            assert_eq!(within("a probe", socket.0.next()).await.unwrap().unwrap(), Message::text("2"));
            socket.say("3").await;
        }
    }
}

#[tokio::test]
async fn who_does_not_answer_probes_is_gone() {
    for path in PATHS {
        let (polling, _) = Polling::open(&PROBING_ECHO, path).await;
        eventually("the end of the session", async || polling.get().await.0 == 400).await;
        let mut socket = Socket::opened(&PROBING_ECHO, path).await;
        let silent = async { while let Some(Ok(_)) = socket.0.next().await {} };
        within("the end of the session", silent).await;
    }
}

#[tokio::test]
async fn a_client_ends_its_session() {
    for path in PATHS {
        // The request that is to wait may come behind the close, and then finds no session.
        let a_wait_ends = async || {
            let polling = Polling::at(path).await;
            let pending = polling.pending();
            tokio::task::yield_now().await;
            assert_eq!(polling.post("1").await.0, 200);
            assert_eq!(polling.get().await.0, 400);
            let answer = within("an end", pending).await.unwrap();
            assert!(answer.0 == 400 || answer == (200, "6".into()), "{answer:?}");
            answer.0 == 200
        };
        eventually("a request that waits is answered", a_wait_ends).await;
        let mut socket = Socket::at(path).await;
        socket.say("1").await;
        socket.closed().await;
    }
}

/// A session that began over HTTP, on a WebSocket.
async fn upgraded(path: &'static str) -> (Polling, Socket) {
    let polling = Polling::at(path).await;
    let mut socket = Socket::try_open(&ECHO, path, &format!("EIO=4&transport=websocket&sid={}", polling.sid)).await.unwrap();
    socket.say("2probe").await;
    assert_eq!(socket.hear().await, "3probe");
    socket.say("5").await;
    (polling, socket)
}

async fn is_served(path: &str, socket: &mut Socket) {
    if path == "/engine.io/" {
        socket.say("4hello").await;
        assert_eq!(socket.hear().await, "4hello");
    } else {
        socket.say("40").await;
        assert!(socket.hear().await.starts_with("40{"));
    }
}

#[tokio::test]
async fn a_session_moves_to_a_websocket() {
    for path in PATHS {
        let (_, mut socket) = upgraded(path).await;
        is_served(path, &mut socket).await;
    }
}

/// What had come of a message with the packet that moves the session was forgotten, so its rest was taken for the header of a frame.
#[tokio::test]
async fn a_message_that_is_cut_while_the_session_moves_arrives_whole() {
    let polling = Polling::at("/engine.io/").await;
    let mut socket = Socket::try_open(&ECHO, "/engine.io/", &format!("EIO=4&transport=websocket&sid={}", polling.sid)).await.unwrap();
    socket.say("2probe").await;
    assert_eq!(socket.hear().await, "3probe");
    let message = format!("4{}", "whole".repeat(100));
    let begins = FINISHED | TEXT;
    let sent = [frame(begins, b"5"), frame(begins, message.as_bytes())].concat();
    let (first, rest) = sent.split_at(200);
    let MaybeTlsStream::Plain(tcp) = socket.0.get_mut() else { panic!("there is no TLS") };
    tcp.write_all(first).await.unwrap();
    eventually("it has moved", async || polling.get().await.0 == 400).await;
    tcp.write_all(rest).await.unwrap();
    assert_eq!(socket.hear().await, message);
}

#[tokio::test]
async fn a_session_that_has_moved_takes_no_requests_and_no_other_websocket() {
    for path in PATHS {
        let (polling, mut socket) = upgraded(path).await;
        is_served(path, &mut socket).await;
        assert_eq!((polling.get().await.0, polling.post("4hello").await.0), (400, 400));
        let other = Socket::try_open(&ECHO, path, &format!("EIO=4&transport=websocket&sid={}", polling.sid)).await.unwrap();
        other.closed().await;
        socket.say("3").await;
        if path == "/engine.io/" {
            is_served(path, &mut socket).await;
        }
    }
}

#[tokio::test]
async fn a_request_that_waits_is_let_go_while_the_session_moves_and_nothing_is_lost() {
    let polling = Polling::at("/engine.io/").await;
    let pending = polling.pending();
    let mut socket = Socket::try_open(&ECHO, "/engine.io/", &format!("EIO=4&transport=websocket&sid={}", polling.sid)).await.unwrap();
    socket.say("2probe").await;
    assert_eq!(socket.hear().await, "3probe");
    assert_eq!(within("the request's end", pending).await.unwrap(), (200, "6".into()));
    assert_eq!(polling.post("4before").await.0, 200);
    socket.say("5").await;
    assert_eq!(socket.hear().await, "4before");
}

/// Every request was answered with nothing as long as there was a WebSocket that had yet to prove itself, so a client asked again and again, as
/// fast as it could.
#[tokio::test]
async fn a_request_waits_for_a_message_until_the_websocket_has_been_probed() {
    let server = TestServer::start();
    let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
    assert_eq!(polling.post("40").await.0, 200);
    assert!(polling.get().await.1.starts_with("40{"));
    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    // Of two the first to be noticed is the one to move to, and the other is closed.
    let mut one = Socket::try_open(base(&server), "/socket.io/", &query).await.unwrap();
    let mut other = Socket::try_open(base(&server), "/socket.io/", &query).await.unwrap();
    let mut socket = tokio::select! { _ = one.next() => other, _ = other.next() => one };
    for id in 1..=3 {
        let pending = polling.pending();
        tokio::task::yield_now().await;
        assert_eq!(polling.post(format!(r#"42{id}["dance",{{}}]"#)).await.0, 200);
        let (_, body) = within("an answer", pending).await.unwrap();
        assert!(body.starts_with(&format!("43{id}[")), "{body}");
    }
    socket.say("2probe").await;
    assert_eq!(socket.hear().await, "3probe");
    polling.hear(&["6", "6"]).await;
    socket.say("5").await;
    socket.say(r#"424["dance",{}]"#).await;
    assert!(socket.hear().await.starts_with("434["));
}

#[tokio::test]
async fn a_websocket_that_fails_its_probe_leaves_the_session_as_it_was() {
    let polling = Polling::at("/engine.io/").await;
    let mut socket = Socket::try_open(&ECHO, "/engine.io/", &format!("EIO=4&transport=websocket&sid={}", polling.sid)).await.unwrap();
    socket.say("4hello").await;
    socket.closed().await;
    assert_eq!(polling.post("4still").await.0, 200);
    polling.hear(&["4still"]).await;
}

#[tokio::test]
async fn a_body_past_its_bound_is_refused_and_the_session_goes_on() {
    let polling = Polling::at("/engine.io/").await;
    assert_eq!(polling.post(vec![b'4'; 1_000_001]).await.0, 413);
    let mut endless = polling.begin("POST", &format!("transfer-encoding: chunked\r\n\r\nf4241\r\n{}", "4".repeat(1_000_001))).await;
    let mut head = [0; 12];
    within("a refusal", endless.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413", "without a length as well");
    assert_eq!(polling.post(vec![b'4'; 1_000_000]).await.0, 200);
    polling.hear(&[&*"4".repeat(1_000_000)]).await;
}

// Socket.IO: connect and disconnect.

#[tokio::test]
async fn a_client_enters_a_namespace_with_what_it_says_of_itself_or_without() {
    for (connect, entered, auth) in [
        ("40", "40{", r#"42["auth",{}]"#),
        (r#"40{"token":"123"}"#, "40{", r#"42["auth",{"token":"123"}]"#),
        ("40/custom,", "40/custom,{", r#"42/custom,["auth",{}]"#),
        (r#"40/custom,{"token":"abc"}"#, "40/custom,{", r#"42/custom,["auth",{"token":"abc"}]"#),
    ] {
        let mut socket = Socket::at("/socket.io/").await;
        socket.say(connect).await;
        let answer = socket.hear().await;
        let sid: Value = serde_json::from_str(&answer[entered.len() - 1..]).unwrap();
        assert!(answer.starts_with(entered) && sid["sid"].is_string(), "{answer}");
        assert_eq!(socket.hear().await, auth);
    }
}

#[tokio::test]
async fn a_namespace_that_is_none_is_refused() {
    for (connect, refusal) in [
        ("40/random", r#"44/random,{"message":"Invalid namespace"}"#),
        (r#"40/random,{"a":1}"#, r#"44/random,{"message":"Invalid namespace"}"#),
    ] {
        let mut socket = Socket::at("/socket.io/").await;
        socket.say(connect).await;
        assert_eq!(socket.hear().await, refusal);
    }
}

#[tokio::test]
async fn who_begins_with_anything_else_is_closed() {
    for text in ["4abc", r#"42["message"]"#, "41", r#"40"text""#] {
        let mut socket = Socket::at("/socket.io/").await;
        socket.say(text).await;
        socket.closed().await;
    }
}

#[tokio::test]
async fn who_enters_no_namespace_is_closed() {
    Socket::opened(&PROBING_ECHO, "/socket.io/").await.closed().await;
}

#[tokio::test]
async fn who_leaves_its_namespace_keeps_its_connection() {
    let mut socket = Socket::connected().await;
    socket.say("41").await;
    socket.say("40").await;
    assert!(socket.hear().await.starts_with("40{"));
}

#[tokio::test]
async fn who_leaves_one_namespace_stays_in_the_other() {
    let mut socket = Socket::connected().await;
    socket.say("40/custom").await;
    assert!(socket.hear().await.starts_with("40/custom,{"));
    assert_eq!(socket.hear().await, r#"42/custom,["auth",{}]"#);
    socket.say("41/custom").await;
    socket.say(r#"42["message","to the main one"]"#).await;
    assert_eq!(socket.hear().await, r#"42["message-back","to the main one"]"#);
    socket.say(r#"42/custom,["message"]"#).await;
    socket.closed().await;
}

// Socket.IO: events.

#[tokio::test]
async fn events_come_back_with_all_their_arguments() {
    let mut socket = Socket::connected().await;
    for (said, heard) in [
        (r#"42["message",1,"2",{"3":[true]}]"#, r#"42["message-back",1,"2",{"3":[true]}]"#),
        (r#"42456["message-with-ack",1,"2",{"3":[false]}]"#, r#"43456[1,"2",{"3":[false]}]"#),
    ] {
        socket.say(said).await;
        assert_eq!(socket.hear().await, heard);
    }
}

#[tokio::test]
async fn bytes_come_back_behind_their_event() {
    let mut socket = Socket::connected().await;
    let (one, other) = (Message::binary(vec![1, 2, 3]), Message::binary(vec![4, 5, 6]));
    let places = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    for (said, heard) in [
        (format!(r#"452-["message",{places}"#), format!(r#"452-["message-back",{places}"#)),
        (format!(r#"452-789["message-with-ack",{places}"#), format!("462-789[{places}")),
    ] {
        socket.say(&said).await;
        socket.send(one.clone()).await;
        socket.send(other.clone()).await;
        assert_eq!(socket.hear().await, heard);
        assert_eq!((socket.next().await, socket.next().await), (Some(one.clone()), Some(other.clone())));
    }
}

#[tokio::test]
async fn what_is_no_event_ends_the_connection() {
    for text in ["4abc", "42{}", "42[]", r#"42abc["message-with-ack",1]"#, "47", r#"451-["message"]x"#] {
        let mut socket = Socket::connected().await;
        socket.say(text).await;
        socket.closed().await;
    }
    for message in [Message::binary(vec![1]), Message::text(r#"42["message"]"#)] {
        let mut socket = Socket::connected().await;
        if message.is_text() {
            socket.say(r#"451-["message",{"_placeholder":true,"num":0}]"#).await;
        }
        socket.send(message).await;
        socket.closed().await;
    }
}

// Socket.IO in the rooms of the server.

fn base(server: &TestServer) -> &str {
    server.base().trim_start_matches("http://")
}

/// One who is connected, and its id.
async fn member(server: &TestServer) -> (Socket, String) {
    let mut socket = Socket::try_open(base(server), "/socket.io/", "EIO=4&transport=websocket").await.expect("a WebSocket");
    assert!(socket.hear().await.starts_with("0{"));
    socket.say(r#"40{"token":"not looked at"}"#).await;
    let connected = socket.hear().await;
    let connected: Value = serde_json::from_str(connected.strip_prefix("40").unwrap()).unwrap();
    (socket, connected["sid"].as_str().unwrap().to_owned())
}

impl Socket {
    async fn emit(&mut self, event: &str, argument: Value) {
        self.say(&format!("42{}", json!([event, argument]))).await;
    }

    /// The next event and its argument.
    async fn event(&mut self) -> (String, Value) {
        let text = self.hear().await;
        let event: Value = serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("an event: {text}"))).unwrap();
        (event[0].as_str().unwrap().to_owned(), event[1].clone())
    }
}

/// The token of a second one was not looked at: with a good one for a namespace that there is not, any was good for the one that there is.
#[tokio::test]
async fn each_namespace_is_entered_by_what_comes_with_it() {
    let other_user =
        GuestList::default().put("ann", grant("ann", &["r"])).put("ann too", grant("ann", &["s"])).put("bob", grant("bob", &["r"]));
    let server = TestServer::asking(Some(Arc::new(other_user)), |_| {});
    let connect = |namespace: &str, token: Option<&str>| format!("40{namespace}{}", json!({ "token": token }));
    // Another namespace first, or the same before.
    for (first, heard) in [("/other,", r#"44/other,{"message":"Invalid namespace"}"#), ("", "40{")] {
        let mut socket = Socket::try_open(base(&server), "/socket.io/", "EIO=4&transport=websocket").await.expect("a WebSocket");
        assert!(socket.hear().await.starts_with("0{"));
        socket.say(&connect(first, Some("ann"))).await;
        assert!(socket.hear().await.starts_with(heard));
        if first.is_empty() {
            socket.say("41").await;
        }
        for token in [Some("nobody"), Some(""), Some("bob"), None] {
            socket.say(&connect("", token)).await;
            let refusal = socket.hear().await;
            let refusal: Value =
                serde_json::from_str(refusal.strip_prefix("44").unwrap_or_else(|| panic!("{token:?}: {refusal}"))).unwrap();
            assert_eq!((&refusal["message"], &refusal["data"]["code"]), (&json!("unauthorized"), &json!("unauthorized")), "{token:?}");
        }
        socket.say(&connect("", Some("ann too"))).await;
        assert!(socket.hear().await.starts_with("40{"));
        for (room, event) in [("r", "error"), ("s", "joined")] {
            socket.emit("join", json!({ "room": room })).await;
            assert_eq!(socket.event().await.0, event, "what the second is good for counts, and no more");
        }
        // As with the original server (`Client.ondecoded`), this is no packet that is legal now.
        socket.say(&connect("", Some("ann"))).await;
        assert_eq!(socket.event().await.1["code"], "bad-message");
        socket.closed().await;
    }
}

/// Whom nobody is asked about may come and go.
#[tokio::test]
async fn a_namespace_that_was_left_is_entered_again() {
    let all = GuestList::default().put("not looked at", Grant::ALL);
    for server in [TestServer::start(), TestServer::asking(Some(Arc::new(all)), |_| {})] {
        let (mut socket, id) = member(&server).await;
        for _ in 0..2 {
            socket.emit("announce", json!({ "hash": "r" })).await;
            assert_eq!(socket.event().await, ("peer-list".into(), json!({ "peers": [], "peerId": id })));
            socket.say("41").await;
            socket.say(r#"40{"token":"not looked at"}"#).await;
            assert_eq!(socket.hear().await, format!(r#"40{{"sid":"{id}"}}"#));
        }
    }
}

#[tokio::test]
async fn clients_of_all_dialects_share_a_room() {
    let server = TestServer::start();
    for door in [Door::WebSocket(Codec::Json), Door::WebSocket(Codec::MsgPack), Door::WebTransport] {
        let mut native = RawClient::joined(&server, door, "shared").await;
        let mut classic = ForeignClient::connect(&server, "/").await;
        classic.say(json!({ "type": "announce", "hash": "shared", "peerId": "tutorial" })).await;
        assert_eq!(classic.hear().await["peers"], json!([native.peer_id]));
        assert_eq!(native.hear().await["type"], "peer-joined");

        let (mut socket, id) = member(&server).await;
        socket.emit("announce", json!({ "hash": "shared" })).await;
        let (event, list) = socket.event().await;
        let mut peers: Vec<_> = list["peers"].as_array().unwrap().iter().map(|peer| peer.as_str().unwrap()).collect();
        peers.sort_by_key(|peer| peer.len());
        assert_eq!((&*event, peers), ("peer-list", vec!["tutorial", &*native.peer_id]));
        assert_eq!(native.hear().await["peerId"], json!(id));
        assert_eq!(classic.hear().await, json!({ "type": "new-peer", "peerId": id }));

        socket.emit("offer", json!({ "targetPeer": "tutorial", "offer": { "sdp": "v=0" }, "fromPeer": "forged" })).await;
        assert_eq!(classic.hear().await, json!({ "type": "offer", "fromPeer": id, "targetPeer": "tutorial", "offer": { "sdp": "v=0" } }));
        classic.say(json!({ "type": "answer", "targetPeer": id, "answer": 1 })).await;
        assert_eq!(socket.event().await, ("answer".into(), json!({ "fromPeer": "tutorial", "targetPeer": id, "answer": 1 })));
        socket.emit("ice-candidate", json!({ "candidate": null })).await;
        assert_eq!(native.hear().await["payload"], json!({ "candidate": null }));
        assert_eq!(classic.hear().await["fromPeer"], json!(id));
        native.done(json!({ "type": "offer", "to": id, "payload": { "sdp": "v=2" } })).await;
        assert_eq!(socket.event().await, ("offer".into(), json!({ "fromPeer": native.peer_id, "sdp": "v=2" })));

        socket.say("41").await;
        assert_eq!(native.hear().await["type"], "peer-left");
        assert_eq!(classic.hear().await["type"], "peer-left");
        classic.close().await;
    }
}

#[tokio::test]
async fn bytes_of_an_event_are_bytes_for_natives_and_base64_for_who_has_json_alone() {
    let server = TestServer::start();
    let mut packed = RawClient::joined(&server, Door::WebTransport, "r").await;
    let mut plain = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    packed.hear().await;
    let (mut socket, _) = member(&server).await;
    socket.say(r#"421["join",{"room":"r"}]"#).await;
    assert_eq!(socket.event().await.0, "joined");
    assert_eq!(socket.hear().await, r#"431[{"ok":true}]"#);
    packed.hear().await;
    plain.hear().await;
    socket.say(r#"451-2["message",{"room":"r","payload":{"bytes":{"_placeholder":true,"num":0}}}]"#).await;
    socket.send(Message::binary(vec![0, 255])).await;
    assert_eq!(socket.hear().await, r#"432[{"ok":true}]"#);
    assert_eq!(plain.hear().await["payload"], json!({ "bytes": "AP8=" }));
    let frame = within("a frame", packed.client.receive_frame()).await.unwrap();
    let needle = [0xc4, 2, 0, 255];
    assert!(frame.bytes().windows(4).any(|window| window == needle), "{frame:?}");
    // And back.
    let mut message = rmp_serde::to_vec_named(&json!({ "type": "message", "room": "r" })).unwrap();
    assert_eq!(std::mem::replace(&mut message[0], 0x83), 0x82, "a map of three instead of two");
    message.extend_from_slice(b"\xa7payload\xc4\x03\x07\x08\x09");
    packed.say_bytes(message).await;
    let expected = format!(r#"451-["message",{{"from":"{}","room":"r","payload":{{"_placeholder":true,"num":0}}}}]"#, packed.peer_id);
    assert_eq!(socket.hear().await, expected);
    assert_eq!(socket.next().await, Some(Message::binary(vec![7, 8, 9])));
}

#[tokio::test]
async fn who_announces_itself_elsewhere_leaves_and_stays_in_what_it_joined() {
    let server = TestServer::start();
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "one").await;
    native.done(json!({ "type": "join", "room": "joined" })).await;
    let (mut socket, id) = member(&server).await;
    socket.emit("join", json!({ "room": "joined", "metadata": { "a": 1 } })).await;
    let (event, joined) = socket.event().await;
    assert_eq!((&*event, &joined["peers"][0]["peerId"]), ("joined", &json!(native.peer_id)));
    assert_eq!(native.hear().await["metadata"], json!({ "a": 1 }));
    for hash in ["one", "two", "one"] {
        socket.emit("announce", json!({ "hash": hash })).await;
        assert_eq!(socket.event().await.0, "peer-list", "{hash}");
    }
    let heard = [native.hear().await, native.hear().await, native.hear().await];
    assert_eq!(heard.each_ref().map(|event| event["type"].as_str().unwrap()), ["peer-joined", "peer-left", "peer-joined"]);
    assert!(heard.iter().all(|event| event["peerId"] == json!(id) && event["room"] == "one"));
    native.done(json!({ "type": "message", "room": "joined", "to": id, "payload": 7 })).await;
    let (event, message) = socket.event().await;
    assert_eq!((&*event, &message), ("message", &json!({ "from": native.peer_id, "room": "joined", "to": id, "payload": 7 })));
}

#[tokio::test]
async fn who_announces_itself_again_gets_the_list_again_and_nobody_else_hears_of_it() {
    let server = TestServer::start();
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "h").await;
    let (mut socket, id) = member(&server).await;
    for id_of_event in ["", "7"] {
        socket.say(&format!(r#"42{id_of_event}["announce",{{"hash":"h","peerId":"anna"}}]"#)).await;
        assert_eq!(socket.event().await, ("peer-list".into(), json!({ "peers": [native.peer_id], "peerId": "anna" })));
    }
    assert_eq!(socket.hear().await, r#"437[{"ok":true}]"#);
    socket.emit("offer", json!({ "targetPeer": native.peer_id })).await;
    let heard = [native.hear().await, native.hear().await];
    assert_eq!(heard.each_ref().map(|event| event["type"].as_str().unwrap()), ["peer-joined", "offer"], "{id}");
}

#[tokio::test]
async fn an_id_whose_owner_is_dead_is_the_newcomers_and_a_living_ones_is_not() {
    let server = TestServer::start();
    let announcement = json!({ "type": "announce", "hash": "h", "peerId": "anna" });
    let _dead = HalfOpen::after(&server, "/", &[announcement], "peer-list").await;
    let (mut anna, id) = member(&server).await;
    anna.emit("announce", json!({ "hash": "h", "peerId": "anna" })).await;
    assert_eq!(anna.event().await, ("peer-list".into(), json!({ "peers": [], "peerId": "anna" })));
    let (mut other, other_id) = member(&server).await;
    other.emit("announce", json!({ "hash": "h", "peerId": "anna" })).await;
    let (list, newcomer) = tokio::join!(other.event(), anna.event());
    assert_eq!(list, ("peer-list".into(), json!({ "peers": ["anna"], "peerId": other_id })));
    assert_eq!(newcomer, ("new-peer".into(), json!({ "peerId": other_id })), "it is not {id}");
}

#[tokio::test]
async fn what_is_refused_is_told_to_who_asked() {
    let server = TestServer::start();
    let (mut socket, _) = member(&server).await;
    for (event, argument, code) in [
        ("dance", json!({}), "bad-message"),
        ("announce", json!({ "hash": 7 }), "bad-message"),
        ("announce", json!("hash"), "bad-message"),
        ("announce", json!({ "hash": "x".repeat(129) }), "bad-room-name"),
        ("offer", json!({ "sdp": 1 }), "room-required"),
        ("offer", json!({ "targetPeer": 7 }), "bad-message"),
        ("message", json!({ "room": "r" }), "bad-message"),
        ("message", json!({ "room": "r", "payload": 1 }), "not-in-room"),
        ("message", json!({ "to": 1, "payload": 1 }), "bad-message"),
        ("offer", json!({ "to": "anna", "sdp": 1 }), "bad-message"),
    ] {
        let text = json!([event, argument]).to_string();
        socket.say(&format!("42{text}")).await;
        let (name, refusal) = socket.event().await;
        assert_eq!((&*name, &refusal["code"]), ("error", &json!(code)), "{text}");
        socket.say(&format!("4212{text}")).await;
        let answer = socket.hear().await;
        let answer: Value = serde_json::from_str(answer.strip_prefix("4312").unwrap_or_else(|| panic!("{answer}"))).unwrap();
        assert_eq!((&answer[0]["ok"], &answer[0]["code"]), (&json!(false), &json!(code)), "{text}");
    }
    let deep = "[".repeat(80) + &"]".repeat(80);
    socket.say(&format!(r#"42["offer",{{"x":{deep}}}]"#)).await;
    assert_eq!(socket.event().await.1["code"], "too-deep");
    socket.say(r#"42["offer",{"type":"offer","sdp":"v=0"},"anna"]"#).await;
    assert_eq!(socket.event().await.1["code"], "bad-message", "it is not for the whole room");
}

#[tokio::test]
async fn what_is_no_packet_ends_the_session_with_a_reason() {
    let server = TestServer::start();
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    for text in ["4abc", "42{}", r#"42/other,["x",{}]"#, r#"451-["message",{"room":"r","payload":{"_placeholder":true,"num":1}}]"#] {
        let (mut socket, id) = member(&server).await;
        socket.emit("announce", json!({ "hash": "r" })).await;
        assert_eq!(socket.event().await.0, "peer-list");
        assert_eq!(native.hear().await["peerId"], json!(id));
        socket.say(text).await;
        socket.send(Message::binary(vec![])).await;
        let (event, fault) = socket.event().await;
        let said = (&*event, &fault["code"], &fault["reconnect"], &fault["reconnectAfterMs"]);
        assert_eq!(said, ("error", &json!("bad-message"), &json!(false), &json!(0)), "{text}");
        socket.closed().await;
        assert_eq!(native.hear().await["type"], "peer-left", "{text}");
    }
}

#[tokio::test]
async fn a_client_of_requests_is_one_of_the_clients() {
    let server = TestServer::with(|config| {
        config.limits.clients_max = 2;
        config.timeouts.heartbeat_ms = 100;
        config.timeouts.silence_ms = 5_000;
    });
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    let (polling, open) = Polling::open(base(&server), "/socket.io/").await;
    assert_eq!((&open["pingInterval"], &open["pingTimeout"], &open["maxPayload"]), (&json!(100), &json!(4900), &json!(65536)));
    let full = request(base(&server), Method::GET, "/socket.io/", "EIO=4&transport=polling", "").await;
    assert_eq!((full.status().as_u16(), full.json::<Value>().await.unwrap()["message"].clone()), (503, json!("server-full")));
    assert!(Socket::try_open(base(&server), "/socket.io/", "EIO=4&transport=websocket").await.is_none());
    assert_eq!(polling.post("40\u{1e}42[\"announce\",{\"hash\":\"r\"}]").await.0, 200);
    assert_eq!(native.hear().await["type"], "peer-joined");
    // It answers no probe, and is gone as anybody else.
    let left = native.hear().await;
    assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("timeout")));
    eventually("its place is free", async || Socket::try_open(base(&server), "/socket.io/", "EIO=4&transport=websocket").await.is_some())
        .await;
}

#[tokio::test]
async fn who_does_not_fetch_what_is_said_to_it_is_closed_and_takes_no_more() {
    let server = TestServer::with(|config| {
        config.rates = switchboard::config::Rates::Off;
        config.timeouts.slow_peer_ms = 10;
    });
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
    assert_eq!(polling.post("40\u{1e}42[\"announce\",{\"hash\":\"r\"}]").await.0, 200);
    assert_eq!(native.hear().await["type"], "peer-joined");
    let payload = "x".repeat(60_000);
    let left = loop {
        native.say(json!({ "type": "message", "payload": payload })).await;
        if let Ok(heard) = timeout(Duration::from_millis(5), native.hear()).await
            && heard["type"] == "peer-left"
        {
            break heard;
        }
    };
    assert_eq!(left["reason"], "removed");
    let (_, body) = polling.get().await;
    assert!(body.contains("slow-consumer") && body.ends_with("\u{1e}1"), "{}", &body[body.len().saturating_sub(200)..]);
    assert_eq!(polling.get().await.0, 400);
}

/// It took two places of its address to open a session over HTTP, and two for a session that had moved or whose request waited.
#[tokio::test]
async fn a_session_is_one_connection_of_its_address_whatever_carries_it() {
    let server_for = |connections| {
        TestServer::with(move |config| {
            config.limits.address_connections_max = connections;
            (config.timeouts.heartbeat_ms, config.timeouts.silence_ms) = (300_000, 600_000);
        })
    };
    Polling::open(base(&server_for(1)), "/socket.io/").await;

    let server = server_for(2);
    let another = async || Socket::try_open(base(&server), "/socket.io/", "EIO=4&transport=websocket").await;
    let place = async || {
        let mut taken = None;
        // The connections before it may not be quite gone.
        eventually("a place", async || {
            taken = another().await;
            taken.is_some()
        })
        .await;
        taken
    };
    let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
    assert_eq!(polling.post("40").await.0, 200);
    assert!(polling.get().await.1.starts_with("40{"));
    let pending = polling.pending();
    let beside = place().await;
    assert!(another().await.is_none(), "two are enough");

    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    let mut socket = Socket::try_open(base(&server), "/socket.io/", &query).await.unwrap();
    socket.say("2probe").await;
    assert_eq!(socket.hear().await, "3probe");
    assert_eq!(within("the request's end", pending).await.unwrap(), (200, "6".into()));
    socket.say("5").await;
    drop(beside);
    let beside = place().await;
    assert!(another().await.is_none(), "two are enough");
    socket.say("1").await;
    socket.closed().await;
    let instead = place().await;
    assert!(another().await.is_none(), "two are enough");
    drop((beside, instead));
}

/// Whatever is no message went past the bound on messages.
#[tokio::test]
async fn packets_that_are_no_messages_come_no_faster_than_messages() {
    let server = TestServer::with(|config| config.limits.messages_per_second = 10);
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "r").await;
    for packet in ["3", "5", "6"] {
        let (mut socket, _) = member(&server).await;
        socket.emit("announce", json!({ "hash": "r" })).await;
        assert_eq!(socket.event().await.0, "peer-list");
        assert_eq!(native.hear().await["type"], "peer-joined");
        for _ in 0..20 {
            socket.say(packet).await;
        }
        socket.emit("dance", json!({})).await;
        assert_eq!(socket.event().await.1["code"], "bad-message", "twice as many at once as in a second");
        for _ in 0..1000 {
            // The end may be on its way.
            if socket.0.send(Message::text(packet)).await.is_err() {
                break;
            }
        }
        let (event, fault) = socket.event().await;
        assert_eq!((&*event, &fault["code"]), ("error", &json!("rate-limited")), "{packet}");
        socket.closed().await;
        assert_eq!(native.hear().await["type"], "peer-left", "{packet}");

        let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
        assert_eq!(polling.post("40\u{1e}42[\"announce\",{\"hash\":\"r\"}]").await.0, 200);
        assert_eq!(native.hear().await["type"], "peer-joined");
        let many = |packets| vec![packet; packets].join("\u{1e}");
        assert_eq!(polling.post(many(20)).await.0, 200);
        assert_eq!(polling.post(many(1000)).await.0, 429);
        assert_eq!(native.hear().await["type"], "peer-left", "{packet}");
        assert_eq!(polling.get().await.0, 400);
    }
}

#[tokio::test]
async fn a_shutdown_says_goodbye_over_each_transport() {
    let server = TestServer::start();
    let (mut socket, _) = member(&server).await;
    let (polling, _) = Polling::open(base(&server), "/socket.io/").await;
    assert_eq!(polling.post("40").await.0, 200);
    let (_, connected) = polling.get().await;
    assert!(connected.starts_with("40{"));
    let pending = polling.pending();
    tokio::task::yield_now().await;
    server.stop();
    let (event, fault) = socket.event().await;
    assert_eq!((&*event, &fault["code"], &fault["reconnect"]), ("error", &json!("draining"), &json!(true)));
    socket.closed().await;
    if let Ok((200, body)) = within("the end", pending).await {
        assert!(body.contains("draining") && body.ends_with('1'), "{body}");
    }
}

#[tokio::test]
async fn it_is_switched_off_by_its_name() {
    let server = TestServer::with(|config| config.dialects.retain(|dialect| *dialect != ForeignDialect::SocketIo));
    assert_eq!(request(base(&server), Method::GET, "/socket.io/", "EIO=4&transport=polling", "").await.status(), 404);
    assert!(Socket::try_open(base(&server), "/socket.io/", "EIO=4&transport=websocket").await.is_none());
    let server = TestServer::start();
    for path in ["/socket.io", "/socket.io/"] {
        assert_eq!(request(base(&server), Method::GET, path, "EIO=4&transport=polling", "").await.status(), 200);
    }
    assert_eq!(request(base(&server), Method::GET, "/socket.io/more", "EIO=4&transport=polling", "").await.status(), 404);
}
