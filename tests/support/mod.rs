//! What the tests stand on: a server on a free port with a directory of its own, in this process or in one of its own, and deadlines on
//! every wait.

// Each test file is a program of its own and uses its own part of this.
#![allow(dead_code)]

pub mod authority;
pub mod bystanders;
pub mod foreign;
pub mod guest;
pub mod guest_list;
pub mod metrics;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod resuming;
pub mod turn;

use std::{
    future::Future,
    ops::Deref,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;
use switchboard::{
    Config, Server,
    admin::Program,
    auth::Authorize,
    client::{Client, Connector, Door, Options, RequestError},
    config::Rates,
    protocol::{ClientMessage, CloseCode, Codec, ErrorCode, Kind, Payload, PeerId, Request, ServerMessage, framing::Frame},
};
use tempfile::TempDir;

/// No wait is longer. Far more than anything takes, on a slow machine as well.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running server. It is stopped when this is dropped.
pub struct TestServer {
    server: Option<Server>,
    pub directory: TempDir,
}

impl TestServer {
    /// A server with the default settings, on 127.0.0.1.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A server for clients that send as fast as they can.
    pub fn without_rates() -> Self {
        Self::with(|config| config.rates = Rates::Off)
    }

    /// A server with some settings changed. Unless a test wants it otherwise, nobody may come back, who is gone is gone
    /// at once, and a shutdown tells everybody at once.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::asking(None, change)
    }

    /// The same, where somebody decides who may come in.
    pub fn asking(authority: Option<Arc<dyn Authorize>>, change: impl FnOnce(&mut Config)) -> Self {
        Self::in_program(authority, change, Program::default())
    }

    /// The same in a program that knows more than the server.
    pub fn in_program(authority: Option<Arc<dyn Authorize>>, change: impl FnOnce(&mut Config), program: Program) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the certificates");
        let mut config = Config { cert_dir: directory.path().to_owned(), ..Config::default() };
        config.listen = "127.0.0.1:0".parse().expect("an address");
        config.timeouts.resume_window_ms = 0;
        config.timeouts.drain_ms = 0;
        config.admin.token_file = directory.path().join("admin-token");
        change(&mut config);
        let server = Server::start_in(config, authority, program).expect("the server starts");
        Self { server: Some(server), directory }
    }

    /// Waits until it has shut down.
    pub async fn wait(&mut self) {
        let server = self.server.take().expect("it is waited for once");
        tokio::task::spawn_blocking(|| server.wait()).await.expect("no panic");
    }

    /// The base URL without the slash at its end.
    pub fn base(&self) -> &str {
        self.url().trim_end_matches('/')
    }
}

impl Deref for TestServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("it runs until this is dropped")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            // A thread of a runtime must not wait for the end, which needs that runtime's clients to move.
            std::thread::spawn(|| server.wait());
        }
    }
}

/// Waits for what has to happen, and fails the test by the name of it if it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !condition().await {
        assert!(since.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client for plain HTTP and HTTPS that trusts nobody in particular.
pub fn http() -> reqwest::Client {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| drop(rustls::crypto::ring::default_provider().install_default()));
    LazyLock::force(&PROVIDER);
    reqwest::Client::builder().timeout(DEADLINE).redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// A client that has been welcomed.
pub async fn connect(server: &TestServer, door: Door) -> Client {
    let mut client = within("a connection", Client::connect(server.base(), door)).await.expect("a connection");
    within("a welcome", client.hello()).await.expect("a welcome");
    client
}

/// A client as the tables of the specification have it: it says and hears JSON values, in whatever codec its door takes.
pub struct RawClient {
    pub client: Client,
    pub codec: Codec,
    /// The `peerId` of the welcome, once that was heard.
    pub peer_id: String,
    next_id: u64,
}

impl RawClient {
    /// One that has come in and said nothing yet.
    pub async fn silent(server: &TestServer, door: Door) -> Self {
        let client = within("a connection", Client::connect(server.base(), door)).await.expect("a connection");
        Self { client, codec: door.codec(), peer_id: String::new(), next_id: 1_000 }
    }

    /// One that has been welcomed.
    pub async fn welcomed(server: &TestServer, door: Door) -> Self {
        let mut client = Self::silent(server, door).await;
        client.say(serde_json::json!({"type": "hello"})).await;
        assert_eq!(client.hear().await["type"], "welcome");
        client
    }

    /// One that is in a room, and has heard so.
    pub async fn joined(server: &TestServer, door: Door, room: &str) -> Self {
        let mut client = Self::welcomed(server, door).await;
        client.done(serde_json::json!({"type": "join", "room": room})).await;
        client
    }

    /// Says a message, and waits for nothing.
    pub async fn say(&mut self, message: Value) {
        self.say_bytes(spell(&message, self.codec)).await;
    }

    /// Says a map of these entries, among which a key may stand twice.
    pub async fn say_entries(&mut self, entries: &[(&str, Value)]) {
        let spelled = entries.iter().map(|(key, value)| (spell(&Value::from(*key), self.codec), spell(value, self.codec)));
        let bytes = match self.codec {
            Codec::Json => {
                let entries: Vec<_> = spelled.map(|(key, value)| [key, value].join(&b':')).collect();
                [b"{", &*entries.join(&b','), b"}"].concat()
            }
            Codec::MsgPack => {
                let header = 0x80 | u8::try_from(entries.len()).expect("a small map");
                spelled.fold(vec![header], |bytes, (key, value)| [bytes, key, value].concat())
            }
        };
        self.say_bytes(bytes).await;
    }

    /// Says these bytes in a frame of the kind that the door takes.
    pub async fn say_bytes(&mut self, bytes: impl Into<Bytes>) {
        let frame = match self.codec {
            Codec::Json => Frame::Text(bytes.into()),
            Codec::MsgPack => Frame::Binary(bytes.into()),
        };
        within("a frame to be sent", self.client.send_frame(frame)).await.expect("a connection");
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        self.hear_frame().await.1
    }

    /// The next message, and the frame that it came in.
    pub async fn hear_frame(&mut self) -> (Frame, Value) {
        let frame = within("a message", self.client.receive_frame()).await.expect("a connection");
        let message: Value = match &frame {
            Frame::Text(text) => serde_json::from_slice(text).expect("JSON"),
            Frame::Binary(bytes) | Frame::Datagram(bytes) => rmp_serde::from_slice(bytes).expect("MessagePack"),
        };
        if message["type"] == "welcome" {
            self.peer_id = message["peerId"].as_str().expect("a string").to_owned();
        }
        (frame, message)
    }

    /// Says a message with an `id`, and hears everything up to its `ack`, which is not returned.
    pub async fn done(&mut self, message: Value) -> Vec<Value> {
        let said = message.to_string();
        let mut heard = self.ask(message).await;
        let answer = heard.pop().expect("an answer");
        assert_eq!(answer["type"], "ack", "{said} was answered by {answer}");
        assert_eq!(answer.as_object().map(serde_json::Map::len), Some(2), "{answer}");
        heard
    }

    /// Says a message with an `id`, hears that it was refused, and nothing else. The refusal is returned without its `id`.
    pub async fn refused(&mut self, message: Value) -> Value {
        let said = message.to_string();
        let heard = self.ask(message).await;
        let [answer] = &heard[..] else { panic!("{said} was answered by {heard:?}") };
        assert_eq!(answer["type"], "error", "{said} was answered by {answer}");
        let mut refusal = answer.clone();
        refusal.as_object_mut().and_then(|refusal| refusal.remove("id")).expect("an id");
        refusal
    }

    /// Hears that nothing has been sent to this client which it has not heard. What others have been acknowledged has.
    pub async fn hears_nothing(&mut self) {
        let heard = self.done(serde_json::json!({"type": "ping"})).await;
        assert!(matches!(&heard[..], [pong] if pong["type"] == "pong"), "{heard:?}");
    }

    async fn ask(&mut self, mut message: Value) -> Vec<Value> {
        self.next_id += 1;
        message["id"] = self.next_id.into();
        self.say(message).await;
        let mut heard = Vec::new();
        loop {
            let next = self.hear().await;
            let answered = next["id"] == self.next_id;
            heard.push(next);
            if answered {
                return heard;
            }
        }
    }
}

/// A value as a client of this codec writes it.
pub fn spell(value: &Value, codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Json => serde_json::to_vec(value).expect("a value can be spelled"),
        Codec::MsgPack => rmp_serde::to_vec(value).expect("a value can be spelled"),
    }
}

/// A client that has been welcomed and is in this room.
pub async fn connect_to(connector: &Connector, door: Door, room: &str) -> Client {
    let mut client = within("a connection", connector.connect(door)).await.expect("a connection");
    within("a room", client.join(room, None)).await.expect("a room");
    client
}

/// The doors of the server at this base URL.
pub async fn doors(base: &str) -> Connector {
    within("the doors", Connector::new(base, Options::default())).await.expect("the doors")
}

/// Drops what arrives until `pick` finds what is waited for.
pub async fn hear<T>(what: &str, client: &mut Client, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
    let hearing = async {
        loop {
            match client.receive().await {
                Ok(message) => {
                    if let Some(found) = pick(message) {
                        return found;
                    }
                }
                Err(disconnected) => panic!("{disconnected} before {what}"),
            }
        }
    };
    within(what, hearing).await
}

/// Who comes into the room of this client next.
pub async fn newcomer(witness: &mut Client) -> PeerId {
    hear("a newcomer", witness, |message| match message {
        ServerMessage::PeerJoined { peer, .. } => Some(peer.peer_id),
        _ => None,
    })
    .await
}

/// The code with which a request is refused, which it has to be.
pub async fn refusal(client: &mut Client, message: ClientMessage<'_>) -> ErrorCode {
    match within("an answer", client.request(message)).await {
        Err(RequestError::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Sees a client off: the goodbye, perhaps behind other messages, and then the same code as the end of the connection.
pub async fn goodbye(client: &mut Client) -> CloseCode {
    let code = hear("a goodbye", client, |message| match message {
        ServerMessage::Goodbye { code, .. } => Some(code),
        _ => None,
    })
    .await;
    let ended = within("the end of a connection", client.receive()).await.expect_err("a goodbye is the last message");
    assert_eq!(ended.code, Some(code.number()), "{ended}");
    code
}

/// A message to the rest of the only room.
pub fn broadcast(payload: impl serde::Serialize) -> ClientMessage<'static> {
    ClientMessage::Broadcast { room: None, payload: Payload::from_serialize(&payload).expect("a payload") }
}

/// An offer to a peer of the only room.
pub fn offer(to: PeerId, payload: impl serde::Serialize) -> ClientMessage<'static> {
    ClientMessage::Forward { kind: Kind::Offer, to, room: None, payload: Payload::from_serialize(&payload).expect("a payload") }
}

/// A message that is answered only if it is refused.
pub fn unanswered(message: ClientMessage<'_>) -> Request<'_> {
    Request { id: None, message }
}

/// Who a welcomed client is.
pub fn own_id(client: &Client) -> PeerId {
    client.peer_id().expect("it was welcomed")
}

/// The seed of a random test: a new one each time, or that of a run to be repeated. Printed where the test fails.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64,
    };
    println!("SEED={seed}");
    seed
}

/// Random numbers that a seed repeats: SplitMix64.
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound`, which is not among them.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
