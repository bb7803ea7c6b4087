//! A client of any dialect by any door, with the few verbs that all of them have in one way or another: to come into a room, to say something to one
//! peer or to all, and to hear. It says what the real clients say, and takes down whatever it hears.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header;
use serde_json::{Value, json};
use switchboard::{
    Config,
    config::ForeignDialect,
    dialect::engineio::Packet,
    protocol::{CloseCode, framing, framing::Frame},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::HeaderValue},
};
use wtransport::{Connection, RecvStream, SendStream, error::ConnectionError};

use super::{TestServer, eventually, http, raw::RawWebTransport, within};

/// A dialect by a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Json,
    MsgPack,
    WebTransport,
    Classic,
    Lobby,
    PeerJs,
    Tracker,
    YWebrtc,
    Matchbox,
    SocketIoPolling,
    SocketIoWebSocket,
    SocketIoWebTransport,
}

impl Way {
    pub const ALL: [Self; 12] = [
        Self::Json,
        Self::MsgPack,
        Self::WebTransport,
        Self::Classic,
        Self::Lobby,
        Self::PeerJs,
        Self::Tracker,
        Self::YWebrtc,
        Self::Matchbox,
        Self::SocketIoPolling,
        Self::SocketIoWebSocket,
        Self::SocketIoWebTransport,
    ];

    /// The name of the room that its guests come into, as tokens have it.
    pub fn room(self) -> &'static str {
        match self {
            Self::Lobby => "lobby",
            Self::PeerJs => "peerjs",
            // As hexadecimal digits: twenty times `h`.
            Self::Tracker => "6868686868686868686868686868686868686868",
            _ => "r",
        }
    }

    /// Lets a server speak this way. Of the two dialects at `/` each is alone.
    pub fn configure(self, config: &mut Config) {
        match self {
            Self::Classic => config.dialects.retain(|dialect| *dialect != ForeignDialect::Lobby),
            Self::Lobby => config.dialects.retain(|dialect| *dialect != ForeignDialect::Classic),
            _ => {}
        }
    }

    fn is_native(self) -> bool {
        matches!(self, Self::Json | Self::MsgPack | Self::WebTransport)
    }

    fn is_socket_io(self) -> bool {
        matches!(self, Self::SocketIoPolling | Self::SocketIoWebSocket | Self::SocketIoWebTransport)
    }

    fn path(self, name: &str, token: Option<&str>) -> String {
        let query = token.map_or(String::new(), |token| format!("?token={token}"));
        match self {
            Self::Json | Self::MsgPack => "/ws".into(),
            Self::WebTransport => "/wt".into(),
            Self::Classic | Self::Lobby => format!("/{query}"),
            // The library has a token in any case: by default one of its own, by chance.
            Self::PeerJs => format!("/peerjs?key=peerjs&id={name}&token={}", token.unwrap_or("0wn")),
            Self::Tracker => format!("/tracker{query}"),
            Self::YWebrtc => format!("/y{query}"),
            Self::Matchbox => format!("/matchbox/{}{query}", self.room()),
            Self::SocketIoPolling => "/socket.io/?EIO=4&transport=polling".into(),
            Self::SocketIoWebSocket => "/socket.io/?EIO=4&transport=websocket".into(),
            Self::SocketIoWebTransport => "/socket.io/?EIO=4&transport=webtransport".into(),
        }
    }
}

/// Why somebody is not in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// There is no connection, but this status.
    Status(u16),
    /// There is no session.
    Unauthorized,
    /// It is not let into the room, and told this; `closed` where it is only hung up on.
    Refused(String),
}

/// Who wants to come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass<'a> {
    /// What it is called, where it has a name: one letter.
    pub name: char,
    pub token: Option<&'a str>,
    /// Where the page is from, if it is one.
    pub origin: Option<&'a str>,
}

/// Somebody who is in the room.
pub struct Guest {
    way: Way,
    pipe: Pipe,
    /// By what others call it; empty where nobody calls anybody.
    pub id: String,
    /// All that it has heard.
    pub transcript: Vec<String>,
    /// The code with which the connection ended, if it has and there was one.
    pub code: Option<u16>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

enum Pipe {
    Socket(Box<Socket>),
    Stream { connection: Connection, send: SendStream, receive: RecvStream, buffer: BytesMut },
    Polling { url: String, origin: Option<String>, arrived: VecDeque<String> },
}

/// What came, or how it ended.
enum Came {
    Text(String),
    End(Option<u16>),
}

fn twenty(name: char) -> String {
    name.to_string().repeat(20)
}

impl Guest {
    /// Comes into the room, or not.
    pub async fn come(server: &TestServer, way: Way, pass: Pass<'_>) -> Result<Self, Out> {
        let before = population(server).await;
        let pipe = connect(server, way, pass).await?;
        let mut guest = Self { way, pipe, id: String::new(), transcript: vec![], code: None };
        match way {
            Way::Json | Way::MsgPack | Way::WebTransport => {
                guest.say(json!({ "type": "hello", "token": pass.token })).await;
                guest.say(json!({ "type": "join", "room": way.room(), "id": 1 })).await;
            }
            Way::SocketIoPolling | Way::SocketIoWebSocket | Way::SocketIoWebTransport => {
                let auth = pass.token.map_or(String::new(), |token| json!({ "token": token }).to_string());
                guest.say_text(format!("0{auth}")).await;
            }
            Way::Classic => guest.say(json!({ "type": "announce", "hash": way.room() })).await,
            Way::Tracker => {
                guest.id = twenty(pass.name);
                guest.announce(json!({})).await;
            }
            Way::YWebrtc => {
                guest.say(json!({ "type": "subscribe", "topics": [way.room()] })).await;
                guest.say(json!({ "type": "ping" })).await;
            }
            Way::PeerJs => guest.id = pass.name.to_string(),
            Way::Lobby | Way::Matchbox => {}
        }
        loop {
            let is_told = !matches!(way, Way::Lobby | Way::Matchbox);
            let came = tokio::select! {
                came = guest.pipe.receive(way) => came,
                // These two are told nothing when they are in.
                () = arrival(server, before), if !is_told && (way == Way::Lobby || !guest.id.is_empty()) => return Ok(guest),
            };
            match came {
                Came::Text(text) => {
                    let verdict = guest.verdict(&text).await;
                    guest.transcript.push(text);
                    match verdict {
                        Some(Ok(())) => return Ok(guest),
                        Some(Err(out)) => return Err(out),
                        None => {}
                    }
                }
                Came::End(Some(code)) if code == CloseCode::Unauthorized.number() => return Err(Out::Unauthorized),
                Came::End(_) => return Err(Out::Refused("closed".into())),
            }
        }
    }

    /// Is it in, by what it has just heard?
    async fn verdict(&mut self, text: &str) -> Option<Result<(), Out>> {
        if [CloseCode::Unauthorized.slug(), CloseCode::Unauthorized.sentence(), "INVALID-KEY"].iter().any(|word| text.contains(word)) {
            return Some(Err(Out::Unauthorized));
        }
        let refused = || Some(Err(Out::Refused(text.to_owned())));
        if self.way.is_socket_io() {
            let id = |text: &str| serde_json::from_str::<Value>(text).ok()?["sid"].as_str().map(str::to_owned);
            if let Some(id) = text.strip_prefix('0').and_then(id) {
                self.id = id;
                self.say_text(format!(r#"21["join",{{"room":"{}"}}]"#, self.way.room())).await;
            }
            return match text.strip_prefix("31") {
                Some(r#"[{"ok":true}]"#) => Some(Ok(())),
                Some(_) => refused(),
                None => None,
            };
        }
        let heard: Value = serde_json::from_str(text).unwrap_or_default();
        let kind = heard["type"].as_str().unwrap_or_default();
        match self.way {
            Way::Json | Way::MsgPack | Way::WebTransport => match kind {
                "welcome" => self.id = heard["peerId"].as_str()?.to_owned(),
                "ack" => return Some(Ok(())),
                "error" => return refused(),
                _ => {}
            },
            Way::Classic if kind == "peer-list" => {
                self.id = heard["peerId"].as_str()?.to_owned();
                return Some(Ok(()));
            }
            Way::Matchbox => self.id = heard["IdAssigned"].as_str()?.to_owned(),
            Way::PeerJs if kind == "OPEN" => return Some(Ok(())),
            Way::Tracker if heard["failure reason"].is_null() => return Some(Ok(())),
            Way::YWebrtc if kind == "pong" => return Some(Ok(())),
            _ => return refused(),
        }
        None
    }

    /// Says this to one peer, with these fields beside it. False where that is not possible.
    pub async fn signal(&mut self, to: &Self, marker: &str, more: &Value) -> bool {
        let id = &to.id;
        match self.way {
            way if way.is_native() => self.say(with(json!({ "type": "offer", "to": id, "payload": marker }), more)).await,
            way if way.is_socket_io() => self.emit("offer", with(json!({ "to": id, "payload": marker }), more)).await,
            Way::Classic => self.say(with(json!({ "type": "offer", "targetPeer": id, "sdp": marker }), more)).await,
            Way::PeerJs => self.say(with(json!({ "type": "OFFER", "dst": id, "payload": marker }), more)).await,
            Way::Tracker => {
                let offers = json!([with(json!({ "offer": { "type": "offer", "sdp": marker }, "offer_id": "1" }), more)]);
                self.announce(with(json!({ "offers": offers, "numwant": 1 }), more)).await;
            }
            Way::Matchbox => self.say(json!({ "Signal": with(json!({ "receiver": id, "data": { "Offer": marker } }), more) })).await,
            _ => return false,
        }
        true
    }

    /// Says this to the whole room, with these fields beside it. False where that is not possible.
    pub async fn broadcast(&mut self, marker: &str, more: &Value) -> bool {
        match self.way {
            way if way.is_native() => self.say(with(json!({ "type": "message", "payload": marker }), more)).await,
            way if way.is_socket_io() => self.emit("message", with(json!({ "payload": marker }), more)).await,
            Way::Classic => self.say(with(json!({ "type": "offer", "sdp": marker }), more)).await,
            Way::Lobby => self.say(with(json!({ "sdp": marker }), more)).await,
            Way::YWebrtc => self.say(with(json!({ "type": "publish", "topic": self.way.room(), "data": marker }), more)).await,
            _ => return false,
        }
        true
    }

    /// Who said this, by what this guest was told. None where nobody is told who says something.
    pub fn sender(&self, marker: &str) -> Option<String> {
        let text = self.transcript.iter().find(|text| text.contains(marker)).unwrap_or_else(|| panic!("{:?}: it heard {marker}", self.way));
        let heard: Value = serde_json::from_str(text.trim_start_matches('2')).expect("JSON");
        let sender = match self.way {
            way if way.is_native() => &heard["from"],
            way if way.is_socket_io() => &heard[1]["from"],
            Way::Classic => &heard["fromPeer"],
            Way::PeerJs => &heard["src"],
            Way::Tracker => &heard["peer_id"],
            Way::Matchbox => &heard["Signal"]["sender"],
            _ => return None,
        };
        Some(sender.as_str().unwrap_or_else(|| panic!("a sender: {text}")).to_owned())
    }

    /// Goes, and waits until everything that it said before has been dealt with.
    pub async fn leave(mut self, server: &TestServer) {
        let before = population(server).await;
        match &mut self.pipe {
            Pipe::Socket(socket) => drop(within("a close", socket.send(Message::Close(None))).await),
            // The end of the stream is that of the session.
            Pipe::Stream { send, .. } => drop(send.quic_stream_mut().finish()),
            Pipe::Polling { .. } => self.post("1".into()).await,
        }
        eventually("it is gone", async || population(server).await < before).await;
    }

    /// Hears until the end of the connection.
    pub async fn to_the_end(&mut self) {
        loop {
            match self.pipe.receive(self.way).await {
                Came::Text(text) => self.transcript.push(text),
                Came::End(code) => return self.code = code,
            }
        }
    }

    /// Hears until something like this comes.
    pub async fn until(&mut self, marker: &str) {
        while !self.has_heard(marker) {
            match self.pipe.receive(self.way).await {
                Came::Text(text) => self.transcript.push(text),
                Came::End(code) => panic!("{:?}: {marker} before the end, which is {code:?}", self.way),
            }
        }
    }

    /// Has this come?
    pub fn has_heard(&self, marker: &str) -> bool {
        self.transcript.iter().any(|text| text.contains(marker))
    }

    async fn announce(&mut self, more: Value) {
        let own = json!({ "action": "announce", "info_hash": twenty('h'), "peer_id": self.id });
        self.say(with(more, &own)).await;
    }

    async fn emit(&mut self, event: &str, argument: Value) {
        self.say_text(format!("2{}", json!([event, argument]))).await;
    }

    async fn say(&mut self, message: Value) {
        match self.way {
            Way::MsgPack | Way::WebTransport => {
                let bytes = rmp_serde::to_vec(&message).expect("a value can be spelled");
                self.send(Frame::Binary(bytes.into())).await;
            }
            _ => self.say_text(message.to_string()).await,
        }
    }

    async fn say_text(&mut self, text: String) {
        let text = if self.way.is_socket_io() { format!("4{text}") } else { text };
        self.send(Frame::Text(text.into())).await;
    }

    async fn send(&mut self, frame: Frame) {
        match &mut self.pipe {
            // Who is being turned away may be gone already; then it hears why.
            Pipe::Socket(socket) => {
                let message = match frame {
                    Frame::Text(text) => Message::text(String::from_utf8(text.to_vec()).expect("text")),
                    frame => Message::binary(frame.bytes().clone()),
                };
                drop(within("a message is sent", socket.send(message)).await);
            }
            Pipe::Stream { send, .. } => {
                let mut bytes = BytesMut::new();
                match self.way {
                    Way::WebTransport => framing::encode(frame.bytes(), &mut bytes),
                    _ => Packet::put_streamed(&frame, &mut bytes),
                }
                drop(within("a message is sent", send.write_all(&bytes)).await);
            }
            Pipe::Polling { .. } => self.post(String::from_utf8(frame.bytes().to_vec()).expect("text")).await,
        }
    }

    async fn post(&mut self, body: String) {
        let Pipe::Polling { url, origin, .. } = &self.pipe else { panic!("it is polled") };
        let request = origin.iter().fold(http().post(url).body(body), |request, origin| request.header(header::ORIGIN, origin));
        drop(within("a message is sent", request.send()).await);
    }
}

impl Pipe {
    /// What comes next, probes aside: of Socket.IO its packets, of the others JSON.
    async fn receive(&mut self, way: Way) -> Came {
        loop {
            let text = match within("a message or the end", self.frame(way)).await {
                Came::Text(text) => text,
                end => return end,
            };
            if !way.is_socket_io() {
                return Came::Text(text);
            }
            match text.split_at_checked(1) {
                Some(("4", packet)) => return Came::Text(packet.to_owned()),
                Some(("1", _)) => return Came::End(None),
                Some(("2", _)) => self.pong().await,
                _ => {}
            }
        }
    }

    async fn frame(&mut self, way: Way) -> Came {
        match self {
            Self::Socket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Came::Text(text.to_string()),
                    Some(Ok(Message::Binary(bytes))) => return Came::Text(readable(&bytes)),
                    Some(Ok(Message::Close(frame))) => return Came::End(frame.map(|frame| frame.code.into())),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Came::End(None),
                }
            },
            Self::Stream { connection, send, receive, buffer } => loop {
                let frame = match way {
                    Way::WebTransport => framing::decode(buffer, 1024 * 1024).expect("a frame").map(|bytes| readable(&bytes)),
                    _ => Packet::take_streamed(buffer, 1024 * 1024).expect("a packet").map(|frame| text_of(&frame)),
                };
                if let Some(frame) = frame {
                    return Came::Text(frame);
                }
                match receive.quic_stream_mut().read_chunk(usize::MAX, true).await {
                    Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                    _ => {
                        // The server closes the session once this side is done as well; it may be so already.
                        drop(send.quic_stream_mut().finish());
                        return Came::End(match connection.closed().await {
                            ConnectionError::ApplicationClosed(close) => u16::try_from(close.code().into_inner()).ok(),
                            _ => None,
                        });
                    }
                }
            },
            Self::Polling { url, origin, arrived } => loop {
                if let Some(packet) = arrived.pop_front() {
                    return Came::Text(packet);
                }
                let request = origin.iter().fold(http().get(&*url), |request, origin| request.header(header::ORIGIN, origin));
                let Ok(answer) = request.send().await else { return Came::End(None) };
                if answer.status() != 200 {
                    return Came::End(None);
                }
                arrived.extend(answer.text().await.expect("a body").split('\u{1e}').map(str::to_owned));
            },
        }
    }

    async fn pong(&mut self) {
        match self {
            Self::Socket(socket) => drop(socket.send(Message::text("3")).await),
            Self::Stream { send, .. } => {
                let mut bytes = BytesMut::new();
                Packet::put_streamed(&Frame::Text("3".into()), &mut bytes);
                drop(send.write_all(&bytes).await);
            }
            Self::Polling { url, .. } => drop(http().post(&*url).body("3").send().await),
        }
    }
}

/// How many peers there are in all rooms.
pub async fn population(server: &TestServer) -> usize {
    server.snapshot().await.values().map(Vec::len).sum()
}

async fn arrival(server: &TestServer, before: usize) {
    while population(server).await <= before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connect(server: &TestServer, way: Way, Pass { name, token, origin }: Pass<'_>) -> Result<Pipe, Out> {
    let path = way.path(&name.to_string(), token);
    match way {
        Way::WebTransport | Way::SocketIoWebTransport => {
            let raw = RawWebTransport::new(server.base()).await;
            // The crate tells no status.
            let connection = raw.connect_from(&path, origin).await.map_err(|_| Out::Status(403))?;
            let opening = async { connection.open_bi().await.expect("a connection").await.expect("a stream") };
            let (mut send, receive) = within("a stream", opening).await;
            if way == Way::SocketIoWebTransport {
                let mut open = BytesMut::new();
                Packet::put_streamed(&Frame::Text("0".into()), &mut open);
                within("a packet is sent", send.write_all(&open)).await.expect("a stream");
            }
            Ok(Pipe::Stream { connection, send, receive, buffer: BytesMut::new() })
        }
        Way::SocketIoPolling => {
            let url = format!("{}{path}", server.base());
            let request = origin.into_iter().fold(http().get(&url), |request, origin| request.header(header::ORIGIN, origin));
            let answer = within("an answer", request.send()).await.expect("an answer");
            if answer.status() != 200 {
                return Err(Out::Status(answer.status().as_u16()));
            }
            let open: Value = serde_json::from_str(&answer.text().await.expect("a body")[1..]).expect("JSON");
            let url = format!("{url}&sid={}", open["sid"].as_str().expect("text"));
            Ok(Pipe::Polling { url, origin: origin.map(str::to_owned), arrived: VecDeque::new() })
        }
        _ => {
            let mut request = format!("{}{path}", server.base().replacen("http", "ws", 1)).into_client_request().expect("a URL");
            let value = |text: &str| HeaderValue::from_str(text).expect("a value");
            if let Some(origin) = origin {
                request.headers_mut().insert("origin", value(origin));
            }
            if way == Way::MsgPack {
                request.headers_mut().insert("sec-websocket-protocol", value("switchboard.msgpack"));
            }
            match within("an answer", connect_async(request)).await {
                Ok((socket, _)) => Ok(Pipe::Socket(Box::new(socket))),
                Err(tungstenite::Error::Http(answer)) => Err(Out::Status(answer.status().as_u16())),
                Err(error) => panic!("{way:?}: {error}"),
            }
        }
    }
}

fn readable(bytes: &[u8]) -> String {
    rmp_serde::from_slice::<Value>(bytes).expect("MessagePack").to_string()
}

fn text_of(frame: &Frame) -> String {
    String::from_utf8(frame.bytes().to_vec()).expect("text")
}

/// An object with the fields of another beside its own, which count.
fn with(object: Value, more: &Value) -> Value {
    let mut all = more.as_object().cloned().unwrap_or_default();
    all.extend(object.as_object().cloned().expect("an object"));
    all.into()
}
