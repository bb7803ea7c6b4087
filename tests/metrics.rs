//! The metrics are true: clients at every door keep books of what they said and heard, and the server's counts are the same, no more and no less.

mod support;

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    DEADLINE, RawClient, TestServer, eventually,
    foreign::ForeignClient,
    http,
    metrics::{Series, read},
    raw, spell, within,
};
use switchboard::{
    client::{Client, Door},
    config::Rates,
    protocol::framing::Frame,
};
use tokio_tungstenite::tungstenite::Message;

/// What clients have counted: the series that the server has to show, all other counters being 0.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<BTreeMap<String, u64>>>);

impl Books {
    fn add(&self, series: String, more: usize) {
        *self.0.lock().unwrap().entry(format!("switchboard_{series}")).or_default() += more as u64;
    }

    fn count(&self, family: &str, label: &str, value: &str) {
        self.add(format!("{family}{{{label}=\"{value}\"}}"), 1);
    }

    fn opened(&self, door: &str, dialect: &str) {
        self.add(format!("connections_opened_total{{door=\"{door}\",dialect=\"{dialect}\"}}"), 1);
    }

    fn began(&self) {
        self.add("sessions_started_total".into(), 1);
    }

    fn ended(&self, reason: &str) {
        self.count("sessions_ended_total", "reason", reason);
    }

    fn said(&self, door: &str, bytes: usize, kinds: &[&str]) {
        self.add(format!("message_bytes_received_total{{door=\"{door}\"}}"), bytes);
        kinds.iter().for_each(|kind| self.count("messages_received_total", "type", kind));
    }

    fn heard(&self, door: &str, bytes: usize, kind: Option<&str>) {
        self.add(format!("message_bytes_sent_total{{door=\"{door}\"}}"), bytes);
        kind.into_iter().for_each(|kind| self.count("messages_delivered_total", "type", kind));
    }

    /// Sees that the server has counted the same, when all clients are gone and nothing is to come any more.
    async fn agree_with(&self, server: &TestServer) {
        let mine = self.0.lock().unwrap().clone();
        let theirs = || counters(&read(&server.metrics()));
        let since = Instant::now();
        let is_over = || ["connections", "sessions"].iter().all(|gauge| now(server, gauge).is_empty());
        while !(is_over() && theirs() == mine) && since.elapsed() < DEADLINE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(theirs(), mine);
        assert!(is_over(), "somebody is still there");
    }
}

/// The counters that are not 0.
fn counters(series: &Series) -> BTreeMap<String, u64> {
    let counted =
        series.iter().filter(|(name, value)| name.split('{').next().is_some_and(|name| name.ends_with("_total")) && **value != 0.0);
    counted.map(|(name, value)| (name.clone(), *value as u64)).collect()
}

/// The series of a gauge that are not 0: their labels, and the value.
fn now(server: &TestServer, family: &str) -> BTreeMap<String, u64> {
    let prefix = format!("switchboard_{family}");
    let series = read(&server.metrics());
    let series = series.iter().filter_map(|(name, value)| {
        let labels = name.strip_prefix(&prefix).filter(|labels| labels.is_empty() || labels.starts_with('{'))?;
        (*value != 0.0).then(|| (labels.to_owned(), *value as u64))
    });
    series.collect()
}

fn gauges<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(labels, value)| (labels.to_owned(), value)).into()
}

fn name_of(door: Door) -> &'static str {
    match door {
        Door::WebSocket(_) => "websocket",
        Door::WebTransport => "webtransport",
    }
}

/// A native client that keeps books.
struct Native {
    client: RawClient,
    door: &'static str,
    books: Books,
    next_id: u64,
}

impl Native {
    async fn connected(server: &TestServer, books: &Books, door: Door) -> Self {
        let client = RawClient::silent(server, door).await;
        books.opened(name_of(door), "native");
        Self { client, door: name_of(door), books: books.clone(), next_id: 0 }
    }

    async fn welcomed(server: &TestServer, books: &Books, door: Door) -> (Self, Value) {
        let mut client = Self::connected(server, books, door).await;
        client.say(json!({ "type": "hello" })).await;
        books.began();
        let welcome = client.hear().await;
        assert_eq!(welcome["type"], "welcome");
        (client, welcome)
    }

    async fn joined(server: &TestServer, books: &Books, door: Door, room: &str) -> Self {
        let (mut client, _) = Self::welcomed(server, books, door).await;
        client.done(json!({ "type": "join", "room": room })).await;
        client
    }

    fn id(&self) -> &str {
        &self.client.peer_id
    }

    async fn say(&mut self, message: Value) {
        let kind = message["type"].as_str().expect("a type").to_owned();
        let known = ["hello", "join", "leave", "offer", "answer", "ice-candidate", "message", "metadata", "ping"];
        let bytes = spell(&message, self.client.codec);
        self.books.said(self.door, bytes.len(), &[known.into_iter().find(|known| *known == kind).unwrap_or("malformed")]);
        self.client.say_bytes(bytes).await;
    }

    /// Says a message that may be lost, and in this test is not.
    async fn say_best_effort(&mut self, message: Value) {
        let bytes = spell(&message, self.client.codec);
        self.books.said(self.door, bytes.len(), &["best-effort"]);
        within("a datagram is sent", self.client.client.send_frame(Frame::Datagram(bytes.into()))).await.expect("a connection");
    }

    async fn hear(&mut self) -> Value {
        let (frame, message) = self.client.hear_frame().await;
        let kind = message["type"].as_str().expect("a type");
        if kind == "error" {
            self.books.count("refusals_total", "code", message["code"].as_str().expect("a code"));
        }
        if kind == "goodbye" {
            self.books.count("closes_total", "code", message["code"].as_str().expect("a code"));
        }
        let is_best_effort = kind == "message" && message["payload"] == "may be lost";
        let told = if is_best_effort { "best-effort" } else { kind };
        self.books.heard(self.door, frame.bytes().len(), (kind != "goodbye").then_some(told));
        message
    }

    async fn hears(&mut self, kind: &str) -> Value {
        let message = self.hear().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Says a message with an `id`, and hears what comes up to the answer, which is of this type.
    async fn answered(&mut self, mut message: Value, answer: &str) {
        self.next_id += 1;
        message["id"] = self.next_id.into();
        self.say(message).await;
        loop {
            let heard = self.hear().await;
            if heard["id"] == self.next_id {
                assert_eq!(heard["type"], answer, "{heard}");
                return;
            }
        }
    }

    async fn done(&mut self, message: Value) {
        self.answered(message, "ack").await;
    }

    async fn refused(&mut self, message: Value) {
        self.answered(message, "error").await;
    }

    /// Closes as the door provides for it, from no room: nobody is told.
    async fn leaves(self) {
        within("a close", self.client.client.close()).await;
        self.books.ended("disconnected");
    }
}

/// A server on which nothing happens by itself for as long as a test takes.
fn server() -> TestServer {
    TestServer::with(|config| {
        config.rates = Rates::Off;
        config.timeouts.resume_window_ms = 60_000;
        config.limits.replay_messages_max = 8;
        config.limits.message_bytes_max = 4_096;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_clients_and_the_server_count_the_same() {
    let (server, books) = (server(), Books::default());
    let [json, msgpack, webtransport] = Door::ALL;
    let mut anna = Native::joined(&server, &books, json, "r").await;
    let mut bert = Native::joined(&server, &books, msgpack, "r").await;
    let mut carl = Native::joined(&server, &books, webtransport, "r").await;
    anna.hears("peer-joined").await;
    anna.hears("peer-joined").await;
    bert.hears("peer-joined").await;
    let both = gauges([(r#"{door="websocket",dialect="native"}"#, 2), (r#"{door="webtransport",dialect="native"}"#, 1)]);
    assert_eq!((now(&server, "connections"), now(&server, "peers")), (both.clone(), both));
    assert_eq!((now(&server, "rooms"), now(&server, "sessions")), (gauges([("", 1)]), gauges([(r#"{state="connected"}"#, 3)])));

    for (kind, times) in [("offer", 1), ("answer", 2), ("ice-candidate", 20), ("message", 3)] {
        for _ in 0..times {
            anna.done(json!({ "type": kind, "to": carl.id(), "payload": { "sdp": "v=0" } })).await;
            carl.hears(kind).await;
            carl.say(json!({ "type": kind, "to": bert.id(), "payload": "no answer is wanted" })).await;
            bert.hears(kind).await;
        }
    }
    bert.done(json!({ "type": "message", "payload": [1, 2, 3] })).await;
    anna.hears("message").await;
    carl.hears("message").await;
    carl.say_best_effort(json!({ "type": "message", "payload": "may be lost" })).await;
    anna.hears("message").await;
    bert.hears("message").await;
    carl.done(json!({ "type": "metadata", "metadata": { "name": "Carl" } })).await;
    anna.hears("peer-updated").await;
    bert.hears("peer-updated").await;
    anna.done(json!({ "type": "ping" })).await;

    let stranger = "0".repeat(32);
    anna.refused(json!({ "type": "offer", "to": stranger, "payload": 1 })).await;
    bert.refused(json!({ "type": "join", "room": "r" })).await;
    bert.refused(json!({ "type": "leave", "room": "elsewhere" })).await;
    carl.refused(json!({ "type": "dance" })).await;
    carl.refused(json!({ "type": "hello" })).await;

    // Each tells those who are left, and is told.
    anna.done(json!({ "type": "leave" })).await;
    bert.hears("peer-left").await;
    carl.hears("peer-left").await;
    bert.done(json!({ "type": "leave", "room": "r" })).await;
    carl.hears("peer-left").await;
    assert_eq!(now(&server, "peers"), gauges([(r#"{door="webtransport",dialect="native"}"#, 1)]));
    carl.done(json!({ "type": "leave" })).await;
    assert_eq!((now(&server, "peers"), now(&server, "rooms")), (gauges([]), gauges([])));
    assert_eq!(now(&server, "sessions"), gauges([(r#"{state="connected"}"#, 3)]));

    // Who breaks a bound is told its code.
    for client in [&mut anna, &mut carl] {
        client.client.say_bytes(vec![b' '; 5_000]).await;
        assert_eq!(client.hears("goodbye").await["code"], "too-large");
        books.ended("removed");
    }
    bert.leaves().await;
    drop((anna, carl));
    books.agree_with(&server).await;
    for gauge in ["connections", "sessions", "peers", "peers_waiting", "rooms", "outbox_bytes", "replay_bytes", "registry_mailbox"] {
        eventually(gauge, async || now(&server, gauge).is_empty()).await;
    }

    // Of the messages that were passed on, 52 to one, one to two and one that may be lost to two, each thread has timed the first and each 17th.
    let timed = read(&server.metrics())["switchboard_delivery_seconds_count"];
    assert!((4.0..=8.0).contains(&timed), "{timed}");
}

/// Comes back with a secret, having received so many messages.
async fn come_back(server: &TestServer, books: &Books, door: Door, token: &Value, received: u64) -> (Native, Value) {
    let mut client = Native::connected(server, books, door).await;
    client.say(json!({ "type": "hello", "resume": { "token": token, "received": received } })).await;
    let welcome = client.hears("welcome").await;
    if welcome["resumed"] == false {
        books.began();
    }
    (client, welcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_try_to_resume_is_counted_by_what_became_of_it() {
    for (from, to) in [(Door::ALL[0], Door::WebTransport), (Door::WebTransport, Door::ALL[1])] {
        let (server, books) = (server(), Books::default());
        let outcome = |outcome| books.count("resumes_total", "outcome", outcome);
        let mut ben = Native::joined(&server, &books, Door::ALL[0], "r").await;
        let (mut anna, welcome) = Native::welcomed(&server, &books, from).await;
        anna.done(json!({ "type": "join", "room": "r" })).await;
        ben.hears("peer-joined").await;
        let (id, token) = (anna.id().to_owned(), welcome["resumeToken"].clone());
        let received = 3;

        // Its connection dies, it is spoken to, and it comes back.
        anna.client.client.abort();
        eventually("a session that waits", async || now(&server, "sessions").contains_key(r#"{state="waiting"}"#)).await;
        assert_eq!(now(&server, "peers_waiting"), gauges([("", 1)]));
        assert_eq!(now(&server, "peers"), gauges([(r#"{door="websocket",dialect="native"}"#, 1)]));
        assert!(now(&server, "outbox_bytes").is_empty());
        ben.done(json!({ "type": "offer", "to": id, "payload": 1 })).await;
        assert!(now(&server, "outbox_bytes")[""] > 128 && now(&server, "replay_bytes")[""] > 4 * 128);
        let (mut anna, welcome) = come_back(&server, &books, to, &token, received).await;
        assert_eq!(welcome["resumed"], true);
        outcome("succeeded");
        anna.hears("offer").await;
        assert_eq!(now(&server, "sessions"), gauges([(r#"{state="connected"}"#, 2)]));
        eventually("a peer that waits no more", async || now(&server, "peers_waiting").is_empty()).await;
        eventually("two peers", async || now(&server, "peers").values().sum::<u64>() == 2).await;

        // So much is said to it that not all is kept. Only what it has not received is lost, and with it the session.
        anna.client.client.abort();
        eventually("a session that waits", async || now(&server, "sessions").contains_key(r#"{state="waiting"}"#)).await;
        for _ in 0..20 {
            ben.done(json!({ "type": "offer", "to": id, "payload": 1 })).await;
        }
        // Nobody hears these any more.
        let token = welcome["resumeToken"].clone();
        for _ in 0..20 {
            books.count("messages_delivered_total", "type", "offer");
        }
        let (anna, welcome) = come_back(&server, &books, from, &token, received + 2).await;
        assert_eq!(welcome["resumed"], false);
        outcome("incomplete");
        books.ended("timeout");
        ben.hears("peer-left").await;

        // Its session is gone, and a secret that never was one is as good.
        for token in [&token, &json!("f".repeat(32)), &json!("no secret")] {
            let (late, welcome) = come_back(&server, &books, to, token, 0).await;
            assert_eq!(welcome["resumed"], false);
            outcome("too-late");
            late.leaves().await;
        }

        // Who has received what was never sent is refused, and the session is another's still.
        let (greedy, refused) = come_back(&server, &books, from, &welcome["resumeToken"], 1_000).await;
        assert_eq!(refused["resumed"], false);
        outcome("refused");
        greedy.leaves().await;
        anna.leaves().await;

        ben.done(json!({ "type": "leave" })).await;
        ben.leaves().await;
        books.agree_with(&server).await;
        for gauge in ["sessions", "peers", "peers_waiting", "rooms", "outbox_bytes", "replay_bytes"] {
            eventually(gauge, async || now(&server, gauge).is_empty()).await;
        }
    }
}

/// A client of another server that keeps books.
struct Foreign {
    client: ForeignClient,
    books: Books,
}

impl Foreign {
    async fn connect(server: &TestServer, books: &Books, dialect: &str, path: &str) -> Self {
        let client = ForeignClient::connect(server, path).await;
        books.opened("websocket", dialect);
        Self { client, books: books.clone() }
    }

    /// Says something that amounts to these messages of ours.
    async fn say(&mut self, value: Value, kinds: &[&str]) {
        self.books.said("websocket", value.to_string().len(), kinds);
        self.client.say(value).await;
    }

    /// Hears the word of its dialect for this message of ours.
    async fn hears(&mut self, kind: &str) -> Value {
        let message = self.client.receive().await;
        let text = message.to_text().expect("text");
        self.books.heard("websocket", text.len(), Some(kind));
        serde_json::from_str(text).unwrap_or_else(|_| panic!("JSON: {text}"))
    }

    async fn leaves(self) {
        self.client.close().await;
        self.books.ended("disconnected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_clients_count_as_what_they_amount_to() {
    let (server, books) = (server(), Books::default());
    let joined = |name| books.count("messages_received_total", "type", name);

    // PeerJS: who comes has joined.
    let path = |id| format!("/peerjs?key=peerjs&id={id}&token=t&version=1.5.5");
    let mut anna = Foreign::connect(&server, &books, "peerjs", &path("anna")).await;
    let mut bert = Foreign::connect(&server, &books, "peerjs", &path("bert")).await;
    for client in [&mut anna, &mut bert] {
        assert_eq!(client.hears("joined").await["type"], "OPEN");
        books.began();
        joined("join");
        // The library is welcomed by nothing else.
    }
    anna.say(json!({ "type": "OFFER", "payload": { "sdp": "v=0" }, "dst": "bert" }), &["offer"]).await;
    bert.hears("offer").await;
    bert.say(json!({ "type": "ANSWER", "payload": { "sdp": "v=0" }, "dst": "anna" }), &["answer"]).await;
    anna.hears("answer").await;
    anna.say(json!({ "type": "CANDIDATE", "payload": {}, "dst": "bert" }), &["ice-candidate"]).await;
    bert.hears("ice-candidate").await;
    assert_eq!(now(&server, "peers"), gauges([(r#"{door="websocket",dialect="peerjs"}"#, 2)]));
    anna.leaves().await;
    bert.leaves().await;

    // y-webrtc: what one publishes, it hears as well.
    let mut anna = Foreign::connect(&server, &books, "y-webrtc", "/y").await;
    anna.say(json!({ "type": "subscribe", "topics": ["a", "b"] }), &["join", "join"]).await;
    books.began();
    anna.say(json!({ "type": "publish", "topic": "a", "data": 1 }), &["message"]).await;
    anna.hears("message").await;
    anna.say(json!({ "type": "ping" }), &["ping"]).await;
    anna.hears("pong").await;
    assert_eq!(now(&server, "rooms"), gauges([("", 2)]));
    anna.leaves().await;

    // The tutorials: who comes is in the lobby until it announces itself.
    let mut anna = Foreign::connect(&server, &books, "classic", "/").await;
    joined("join");
    books.began();
    anna.say(json!({ "type": "announce", "hash": "h" }), &["leave", "join"]).await;
    anna.hears("joined").await;
    let mut bert = Foreign::connect(&server, &books, "classic", "/").await;
    joined("join");
    books.began();
    bert.say(json!({ "type": "announce", "hash": "h" }), &["leave", "join"]).await;
    bert.hears("joined").await;
    let bert_id = anna.hears("peer-joined").await["peerId"].clone();
    anna.say(json!({ "type": "offer", "targetPeer": bert_id, "offer": 1 }), &["offer"]).await;
    bert.hears("offer").await;
    anna.say(json!({ "type": "offer", "targetPeer": "nobody", "offer": 1 }), &["offer"]).await;
    assert_eq!(anna.hears("error").await["code"], "no-such-peer");
    books.count("refusals_total", "code", "no-such-peer");
    bert.leaves().await;
    anna.hears("peer-left").await;
    anna.leaves().await;

    books.agree_with(&server).await;
    for gauge in ["connections", "sessions", "peers", "rooms", "outbox_bytes"] {
        eventually(gauge, async || now(&server, gauge).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_socket_io_is_counted_where_it_has_moved_to() {
    let (server, books) = (server(), Books::default());
    let query = "/socket.io/?EIO=4&transport=polling";
    let get = async |sid: &str| {
        let answer = within("an answer", http().get(format!("{}{query}{sid}", server.base())).send()).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        within("a body", answer.text()).await.expect("text")
    };
    let open: Value = serde_json::from_str(&get("").await[1..]).expect("an open packet");
    books.opened("polling", "socket.io");
    let sid = format!("&sid={}", open["sid"].as_str().expect("an id"));
    let post = async |message: &str, kinds: &[&str]| {
        books.said("polling", 1 + message.len(), kinds);
        let sent = http().post(format!("{}{query}{sid}", server.base())).body(format!("4{message}")).send();
        assert_eq!(within("an answer", sent).await.expect("an answer").status(), 200);
    };
    // Its CONNECT is for the dialect alone. Of Engine.IO the byte that makes a packet a message counts as part of it.
    post("0", &[]).await;
    let connected = get(&sid).await;
    books.began();
    books.heard("polling", connected.len(), Some("foreign"));
    post(r#"2["announce",{"hash":"r"}]"#, &["join"]).await;
    let list = get(&sid).await;
    assert!(list.contains("peer-list"), "{list}");
    books.heard("polling", list.len(), Some("joined"));
    let at = |door: &str| gauges([(&*format!("{{door=\"{door}\",dialect=\"socket.io\"}}"), 1)]);
    assert_eq!((now(&server, "connections"), now(&server, "peers")), (at("polling"), at("polling")));

    let mut socket = ForeignClient::connect(&server, &format!("/socket.io/?EIO=4&transport=websocket{sid}")).await;
    socket.send(Message::text("2probe")).await;
    assert_eq!(socket.receive().await, Message::text("3probe"));
    socket.send(Message::text("5")).await;
    books.opened("websocket", "socket.io");
    eventually("a client that has moved", async || now(&server, "peers") == at("websocket")).await;
    assert_eq!(now(&server, "connections"), at("websocket"));
    let message = r#"2["offer",{"targetPeer":"nobody","offer":1}]"#;
    socket.send(Message::text(format!("4{message}"))).await;
    books.said("websocket", 1 + message.len(), &["offer"]);
    let refusal = socket.receive().await;
    let refusal = refusal.to_text().expect("text").to_owned();
    assert!(refusal.contains("no-such-peer"), "{refusal}");
    books.heard("websocket", refusal.len(), Some("error"));
    books.count("refusals_total", "code", "no-such-peer");
    socket.close().await;
    books.ended("disconnected");
    books.agree_with(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_get_in_is_counted_by_the_cause() {
    let server = TestServer::with(|config| {
        config.limits.clients_max = 1;
        config.timeouts.hello_ms = 300;
    });
    let books = Books::default();
    let failed = |cause| books.count("handshake_failures_total", "cause", cause);
    assert!(tokio_tungstenite::connect_async(format!("{}/nowhere", server.base().replacen("http", "ws", 1))).await.is_err());
    failed("no-such-path");
    let odd = http().get(format!("{}/ws", server.base())).header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(within("an answer", odd.send()).await.expect("an answer").status(), 400);
    failed("websocket");

    // Who says nothing is told so, and while it is there nobody else stays.
    let silent = Native::connected(&server, &books, Door::ALL[0]).await;
    let mut refused = Native::connected(&server, &books, Door::WebTransport).await;
    refused.say_nothing_until("server-full").await;
    let mut silent = silent;
    silent.say_nothing_until("hello-timeout").await;
    drop((silent, refused));
    books.agree_with(&server).await;
}

impl Native {
    async fn say_nothing_until(&mut self, code: &str) {
        let goodbye = self.hears("goodbye").await;
        assert_eq!(goodbye["code"], code);
    }
}

#[tokio::test]
async fn the_connection_of_a_foreign_protocol_is_a_close_of_its_own() {
    let (server, books) = (server(), Books::default());
    let mut socket = raw::RawWebSocket::open(server.addresses()[0], "").await.expect("a WebSocket");
    books.opened("websocket", "native");
    // A continuation of nothing.
    socket.send(raw::first::FINISHED | raw::first::CONTINUATION, b"x").await.expect("sent");
    assert_eq!(socket.close_code().await, Some(1002));
    books.count("closes_total", "code", "protocol-violation");
    let mut peerjs = Foreign::connect(&server, &books, "peerjs", "/peerjs?key=wrong&id=anna&token=t").await;
    books.began();
    books.count("messages_received_total", "type", "malformed");
    assert_eq!(peerjs.hears("error").await["type"], "ERROR");
    books.count("refusals_total", "code", "bad-message");
    assert_eq!(peerjs.client.closed().await.map(|frame| u16::from(frame.code)), Some(1000));
    books.count("closes_total", "code", "refused");
    books.ended("removed");
    drop((socket, peerjs));
    books.agree_with(&server).await;
}

/// What Prometheus itself thinks of the text. `tests/run` installs `promtool`; elsewhere its path may be in `PROMTOOL`.
#[tokio::test]
#[ignore = "needs promtool"]
async fn promtool_finds_nothing_to_say_about_the_text() {
    let server = server();
    let client = Client::connect(server.base(), Door::ALL[0]).await.expect("a connection");
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let mut check =
        Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    std::io::Write::write_all(&mut check.stdin.take().expect("it is piped"), server.metrics().as_bytes()).expect("it reads");
    let output = check.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(client);
}
