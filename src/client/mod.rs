//! A client of the native dialect, with the same few verbs over each door: for tests, benches and Rust programs.
//!
//! It speaks [`crate::protocol`] and knows nothing of the server's inside. No task runs behind it: what is not received stays in the
//! socket, and over WebSocket the server's probes are answered only while [`Receiver::receive`] is waited for.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use switchboard::client::{Client, Door};
//!
//! let mut client = Client::connect("http://localhost:8080", Door::WebTransport).await?;
//! let others = client.join("lobby", None).await?;
//! println!("{others:?} were there before me");
//! loop {
//!     println!("{:?}", client.receive().await?);
//! }
//! # }
//! ```

pub(crate) mod connect;
mod discovery;
mod resuming;
pub mod turn;
mod websocket;
pub(crate) mod webtransport;

use std::{borrow::Cow, collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

pub use self::{
    connect::{ConnectError, Connector, Options, bare_host},
    discovery::{Discovery, Transport},
    resuming::{ComeInError, ResumingClient},
};
use crate::protocol::{
    ClientMessage, Codec, Payload, Peer, PeerId, Refusal, Request, Resume, ResumeToken, ServerMessage, Token, Welcome, framing::Frame,
};

/// Largest message that a client takes. By default a server keeps 1 MiB for one client, so no list of a room is longer.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages that [`Client::request`] keeps for later while it waits for its answer.
pub const KEPT_MESSAGES_MAX: usize = 65_536;
/// How long [`Client::close`] waits for the server to close as well.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the ids of [`Client::request`] begin; below is room for those of whoever uses [`Client::send`].
const FIRST_ID: u64 = 1 << 32;

/// By which door to come in, and in which codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// WebSocket: JSON in text frames, or MessagePack in binary frames.
    WebSocket(Codec),
    /// WebTransport: MessagePack on one stream, best effort in datagrams.
    WebTransport,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebSocket(Codec::Json), Self::WebSocket(Codec::MsgPack), Self::WebTransport];

    /// How messages are spelled there.
    pub const fn codec(self) -> Codec {
        match self {
            Self::WebSocket(codec) => codec,
            Self::WebTransport => Codec::MsgPack,
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket(Codec::Json) => "WebSocket (JSON)",
            Self::WebSocket(Codec::MsgPack) => "WebSocket (MessagePack)",
            Self::WebTransport => "WebTransport",
        })
    }
}

/// One connection to a server. Dropping it ends the connection without a word.
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    next_id: u64,
}

/// The half of a [`Client`] that sends.
pub struct Sender {
    half: SenderHalf,
    codec: Codec,
}

/// The half of a [`Client`] that receives.
pub struct Receiver {
    half: ReceiverHalf,
    kept: VecDeque<ServerMessage<'static>>,
    peer_id: Option<PeerId>,
    ended: Option<Disconnected>,
}

enum SenderHalf {
    WebSocket(websocket::Sender),
    WebTransport(webtransport::Sender),
}

enum ReceiverHalf {
    WebSocket(websocket::Receiver),
    WebTransport(webtransport::Receiver),
}

/// What a client is told when it enters a room.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Who was there before.
    pub peers: Vec<Peer>,
    /// Are peers to show nobody their addresses, and to connect through TURN servers alone?
    pub relays_only: bool,
}

/// The connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("disconnected: {reason}{}", .code.map(|code| format!(" (code {code})")).unwrap_or_default())]
pub struct Disconnected {
    /// The close code of the WebSocket or of the WebTransport session, if the server sent one.
    pub code: Option<u16>,
    /// Why, in words.
    pub reason: String,
}

/// Why a request was not carried out, or may not have been.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The server said no; the session goes on.
    #[error("refused as {}: {}", .0.code, .0.message)]
    Refused(Refusal),
    /// The connection ended before the answer came.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// [`KEPT_MESSAGES_MAX`] messages wait to be received, and none of them is the answer.
    #[error("{KEPT_MESSAGES_MAX} messages wait to be received, and none of them is the answer")]
    Behind,
}

impl Client {
    /// Finds the doors of the server at `base_url` and comes in by one of them. Nothing is said yet: the first message that is sent
    /// stands for `hello`. Whoever opens many clients, or has more to say than this, uses a [`Connector`].
    pub async fn connect(base_url: &str, door: Door) -> Result<Self, ConnectError> {
        Connector::new(base_url, Options::default()).await?.connect(door).await
    }

    fn new(sender: SenderHalf, receiver: ReceiverHalf, door: Door) -> Self {
        Self {
            sender: Sender { half: sender, codec: door.codec() },
            receiver: Receiver { half: receiver, kept: VecDeque::new(), peer_id: None, ended: None },
            next_id: FIRST_ID,
        }
    }

    /// Who this client is for others: known once `welcome` was received.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.receiver.peer_id
    }

    /// Says hello, which only the first message may, and waits for the welcome.
    pub async fn hello(&mut self) -> Result<Welcome, RequestError> {
        self.greet(None, None).await
    }

    /// The same to a server that wants to know who this is.
    pub async fn hello_with(&mut self, token: &str) -> Result<Welcome, RequestError> {
        self.greet(Some(token), None).await
    }

    /// Says a new token, before the one before runs out.
    pub async fn renew(&mut self, token: &str) -> Result<(), RequestError> {
        self.request(ClientMessage::Hello { token: Some(Token(token.into())), resume: None }).await
    }

    /// Says hello to go on with an earlier session. Whether it does is in the welcome; what was missed follows it.
    pub async fn resume(&mut self, token: ResumeToken, received: u64) -> Result<Welcome, RequestError> {
        self.greet(None, Some(Resume { token: Some(token), received })).await
    }

    async fn greet(&mut self, token: Option<&str>, resume: Option<Resume>) -> Result<Welcome, RequestError> {
        let welcome = |message: &ServerMessage| matches!(message, ServerMessage::Welcome(_));
        let token = token.map(|token| Token(token.into()));
        match self.request_for(ClientMessage::Hello { token, resume }, welcome).await? {
            ServerMessage::Welcome(welcome) => Ok(*welcome),
            other => unreachable!("{other:?} is no welcome"),
        }
    }

    /// Enters a room; the answer is who was there before.
    pub async fn join(&mut self, room: &str, metadata: Option<Payload<'static>>) -> Result<Vec<Peer>, RequestError> {
        self.enter(room, metadata).await.map(|entered| entered.peers)
    }

    /// Enters a room, and is told how one connects there as well.
    pub async fn enter(&mut self, room: &str, metadata: Option<Payload<'static>>) -> Result<Entered, RequestError> {
        let joined = |message: &ServerMessage| matches!(message, ServerMessage::Joined { room: joined, .. } if joined.as_str() == room);
        match self.request_for(ClientMessage::Join { room: Cow::Borrowed(room), metadata }, joined).await? {
            ServerMessage::Joined { peers, relays_only, .. } => Ok(Entered { peers, relays_only }),
            other => unreachable!("{other:?} is no joined"),
        }
    }

    /// Sends a message and waits until it is carried out or refused. Everything else that arrives in the meantime is kept, and
    /// [`Client::receive`] returns it first, in order.
    pub async fn request(&mut self, message: ClientMessage<'_>) -> Result<(), RequestError> {
        let id = self.next_id;
        self.next_id += 1;
        self.sender.send(&Request { id: Some(id), message }).await?;
        loop {
            if self.receiver.kept.len() >= KEPT_MESSAGES_MAX {
                return Err(RequestError::Behind);
            }
            match self.receiver.hear().await? {
                ServerMessage::Ack { id: answered } if answered == id => return Ok(()),
                ServerMessage::Error(refusal) if refusal.id == Some(id) => return Err(RequestError::Refused(refusal)),
                other => self.receiver.kept.push_back(other),
            }
        }
    }

    /// A request whose answer comes in a message of its own, before the `ack`.
    async fn request_for(
        &mut self,
        message: ClientMessage<'_>,
        is_answer: impl Fn(&ServerMessage) -> bool,
    ) -> Result<ServerMessage<'static>, RequestError> {
        self.request(message).await?;
        // The last one: an earlier one may be the answer to a message that was sent before.
        let answer = self.receiver.kept.iter().rposition(is_answer).and_then(|at| self.receiver.kept.remove(at));
        answer.ok_or_else(|| Disconnected::without_code("the server broke the protocol: an ack came without its answer").into())
    }

    /// See [`Sender::send`].
    pub async fn send(&mut self, request: &Request<'_>) -> Result<(), Disconnected> {
        self.sender.send(request).await
    }

    /// See [`Sender::send_datagram`].
    pub async fn send_datagram(&mut self, request: &Request<'_>) -> Result<(), Disconnected> {
        self.sender.send_datagram(request).await
    }

    /// See [`Sender::send_frame`].
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), Disconnected> {
        self.sender.send_frame(frame).await
    }

    /// See [`Receiver::receive`].
    pub async fn receive(&mut self) -> Result<ServerMessage<'static>, Disconnected> {
        self.receiver.receive().await
    }

    /// See [`Receiver::receive_frame`].
    pub async fn receive_frame(&mut self) -> Result<Frame, Disconnected> {
        self.receiver.receive_frame().await
    }

    /// See [`Sender::path_mtu`].
    pub fn path_mtu(&self) -> Option<u16> {
        self.sender.path_mtu()
    }

    /// Both halves, to be used at the same time.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Closes as the door provides for it, drops what still arrives, and tells how it ended.
    pub async fn close(mut self) -> Disconnected {
        let drained = timeout(CLOSE_TIMEOUT, async {
            self.sender.close().await?;
            loop {
                self.receiver.receive_frame().await?;
            }
        });
        match drained.await {
            Ok(Ok(never)) => never,
            Ok(Err(disconnected)) => disconnected,
            Err(_) => Disconnected::without_code("the server did not close in time"),
        }
    }

    /// Ends the connection at once, as if this program had crashed: a TCP reset on WebSocket, QUIC's close with H3_INTERNAL_ERROR on WebTransport.
    pub fn abort(self) {
        match (self.sender.half, self.receiver.half) {
            (SenderHalf::WebSocket(sender), ReceiverHalf::WebSocket(receiver)) => websocket::abort(sender, receiver),
            (SenderHalf::WebTransport(sender), _) => sender.abort(),
            (SenderHalf::WebSocket(_), ReceiverHalf::WebTransport(_)) => unreachable!("both halves have the same door"),
        }
    }
}

impl Sender {
    /// Sends a message, waiting while the connection takes no more. Dropping the returned future may cut the message off, and so break
    /// the connection.
    pub async fn send(&mut self, request: &Request<'_>) -> Result<(), Disconnected> {
        let bytes = Bytes::from(request.spell(self.codec));
        let frame = match self.codec {
            Codec::Json => Frame::Text(bytes),
            Codec::MsgPack => Frame::Binary(bytes),
        };
        self.send_frame(frame).await
    }

    /// Sends a message as a datagram, which may be lost. Where there are none, over WebSocket and for one too large, it goes as any other.
    pub async fn send_datagram(&mut self, request: &Request<'_>) -> Result<(), Disconnected> {
        match self.half {
            SenderHalf::WebSocket(_) => self.send(request).await,
            SenderHalf::WebTransport(_) => self.send_frame(Frame::Datagram(request.spell(self.codec).into())).await,
        }
    }

    /// Sends bytes as they are, be they a message or not. WebTransport puts a length before those of a text or binary frame;
    /// WebSocket makes a binary frame of a datagram, and does not check that text is UTF-8.
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), Disconnected> {
        match &mut self.half {
            SenderHalf::WebSocket(half) => half.send(frame).await,
            SenderHalf::WebTransport(half) => half.send(frame).await,
        }
    }

    /// The largest UDP datagram that is known to pass to the server, in bytes, by a door that knows.
    pub fn path_mtu(&self) -> Option<u16> {
        match &self.half {
            SenderHalf::WebSocket(_) => None,
            SenderHalf::WebTransport(half) => Some(half.path_mtu()),
        }
    }

    /// Says that nothing more comes, by a Close frame or the end of the stream. What the server still sends can be received.
    pub async fn close(&mut self) -> Result<(), Disconnected> {
        match &mut self.half {
            SenderHalf::WebSocket(half) => half.close().await,
            SenderHalf::WebTransport(half) => half.close().await,
        }
    }
}

impl Receiver {
    /// The next message; a `goodbye` is one. Once the connection is over, and after all that arrived before, every call says so. Nothing
    /// is lost when the returned future is dropped.
    pub async fn receive(&mut self) -> Result<ServerMessage<'static>, Disconnected> {
        match self.kept.pop_front() {
            Some(message) => Ok(message),
            None => self.hear().await,
        }
    }

    /// The next frame as it came, past the messages that [`Client::request`] kept.
    pub async fn receive_frame(&mut self) -> Result<Frame, Disconnected> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let frame = match &mut self.half {
            ReceiverHalf::WebSocket(half) => half.receive().await,
            ReceiverHalf::WebTransport(half) => half.receive().await,
        };
        frame.inspect_err(|disconnected| self.ended = Some(disconnected.clone()))
    }

    /// Who this client is for others: known once `welcome` was received.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.peer_id
    }

    /// The next message from the connection.
    async fn hear(&mut self) -> Result<ServerMessage<'static>, Disconnected> {
        let frame = self.receive_frame().await?;
        let codec = match frame {
            Frame::Text(_) => Codec::Json,
            Frame::Binary(_) | Frame::Datagram(_) => Codec::MsgPack,
        };
        let message = ServerMessage::decode(codec, frame.bytes())
            .map_err(|malformed| Disconnected::without_code(format!("the server broke the protocol: {malformed}")))?;
        if let ServerMessage::Welcome(welcome) = &message {
            self.peer_id = Some(welcome.peer_id);
        }
        Ok(message)
    }
}

impl Disconnected {
    fn without_code(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into() }
    }
}
