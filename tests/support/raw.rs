//! The doors byte by byte, for what no decent client does.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use bytes::BytesMut;
use quinn::TransportConfig;
use switchboard::{
    client::{Discovery, Door, Transport},
    protocol::{ClientMessage, Codec, Request, ServerMessage, framing},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wtransport::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream,
    endpoint::{ConnectOptions, endpoint_side},
    tls::Sha256Digest,
};

use super::within;

/// First bytes of WebSocket frames: RFC 6455 §5.2.
pub mod first {
    pub const FINISHED: u8 = 0x80;
    pub const CONTINUATION: u8 = 0x00;
    pub const TEXT: u8 = 0x01;
    pub const BINARY: u8 = 0x02;
    pub const CLOSE: u8 = 0x08;
    pub const PING: u8 = 0x09;
    pub const PONG: u8 = 0x0a;
}

/// A WebSocket behind its handshake, as a plain TCP socket.
pub struct RawWebSocket {
    pub tcp: TcpStream,
}

/// The request that asks for a WebSocket.
pub fn handshake(subprotocol: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {subprotocol}\r\n\r\n"
    )
}

/// A frame as clients send them, masked with zeros.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a frame that announces so many bytes, its mask included.
pub fn header(first: u8, announced: u64) -> Vec<u8> {
    let mut header = vec![first];
    match announced {
        0..126 => header.push(0x80 | announced as u8),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(announced as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&announced.to_be_bytes());
        }
    }
    header.extend_from_slice(&[0; 4]);
    header
}

/// The next frame that a server sent: its first byte and what is in it.
pub async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let length = match from.read_u8().await? {
        126 => from.read_u16().await?.into(),
        127 => from.read_u64().await?,
        short => short.into(),
    };
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await?;
    Ok((first, payload))
}

impl RawWebSocket {
    /// Connects and shakes hands.
    pub async fn open(address: SocketAddr, subprotocol: &str) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(handshake(subprotocol).as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tcp.read_u8().await?);
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        Ok(Self { tcp })
    }

    /// Sends a whole frame.
    pub async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        self.tcp.write_all(&frame(first, payload)).await
    }

    /// The next frame of the server: its first byte and what is in it.
    pub async fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        receive(&mut self.tcp).await
    }

    /// Reads up to the server's Close frame and the end of the socket behind it: the code, if there is a Close frame.
    pub async fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Ok((first, payload)) = within("a frame or the end", self.receive()).await {
            if first & 0x0f == first::CLOSE {
                code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
        code
    }
}

/// A UDP socket for clients that do not trouble about what they send.
pub struct RawWebTransport {
    endpoint: Endpoint<endpoint_side::Client>,
    quic: quinn::ClientConfig,
    url: String,
}

impl RawWebTransport {
    /// Asks for the door of the server at this base URL.
    pub async fn new(base: &str) -> Self {
        let discovery = within("the doors", Discovery::fetch(base)).await.expect("the doors");
        let Some(Transport::WebTransport { url, certificate_hashes }) = discovery.transport(Door::WebTransport) else {
            panic!("there is a WebTransport door");
        };
        let hashes = certificate_hashes.iter().copied().map(Sha256Digest::new);
        let builder = ClientConfig::builder().with_bind_address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into());
        let mut config = builder.with_server_certificate_hashes(hashes).build();
        config.quic_config_mut().transport_config(Arc::new(TransportConfig::default()));
        let quic = config.quic_config().clone();
        Self { endpoint: Endpoint::client(config).expect("a UDP socket"), quic, url: url.to_string() }
    }

    /// How to come in by this door as a QUIC client that is no HTTP/3 client.
    pub fn quic_config(&self) -> quinn::ClientConfig {
        self.quic.clone()
    }

    /// A session without a stream.
    pub async fn connect(&self) -> Result<Connection, wtransport::error::ConnectingError> {
        within("a session", self.endpoint.connect(&*self.url)).await
    }

    /// A session at this path, asked for with these words where a browser tells its page's origin.
    pub async fn connect_from(&self, path: &str, origin: Option<&str>) -> Result<Connection, wtransport::error::ConnectingError> {
        let url = self.url.strip_suffix("/wt").expect("the door's own path");
        let options = ConnectOptions::builder(format!("{url}{path}"));
        let options = origin.into_iter().fold(options, |options, origin| options.add_header("origin", origin));
        within("a session", self.endpoint.connect(options)).await
    }

    /// A session and the stream for its messages.
    pub async fn open(&self) -> Option<(Connection, SendStream, RecvStream)> {
        let connection = self.connect().await.ok()?;
        let (send, receive) = connection.open_bi().await.ok()?.await.ok()?;
        Some((connection, send, receive))
    }
}

/// A WebTransport session spoken by hand, on a QUIC endpoint that the test holds and can move.
pub struct RawSession {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    /// The client's control stream.
    pub control: quinn::SendStream,
    /// The stream on which the session was asked for.
    pub request: quinn::SendStream,
    _answer: quinn::RecvStream,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    buffer: BytesMut,
}

/// HTTP/3's control stream and SETTINGS (RFC 9114 §6.2.1 and §7.2.4): extended CONNECT, datagrams, WebTransport, one session.
pub const CONTROL_STREAM: &[u8] = b"\x00\x04\x12\x08\x01\x33\x01\xab\x60\x37\x42\x01\xc0\x00\x00\x00\xc6\x71\x70\x6a\x01";
/// HEADERS in QPACK without Huffman (RFC 9204 §4.5): `:method: CONNECT`, `:scheme: https`, `:authority: x`, `:protocol: webtransport`
/// and `:path: /wt`.
pub const CONNECT: &[u8] = b"\x01\x24\x00\x00\xcf\xd7\x50\x01x\x27\x02:protocol\x0cwebtransport\x51\x03/wt";
/// HEADERS that say `:status: 200` and nothing else, in QPACK with Huffman as `wtransport` writes it.
pub const STATUS_200: &[u8] = b"\x01\x07\x00\x00\x5f\x09\x82\x10\x01";
/// What a bidirectional stream of the session that stream 0 asked for begins with: draft-ietf-webtrans-http3 §4.
pub const SESSION_STREAM: &[u8] = b"\x40\x41\x00";

impl RawSession {
    /// Opens a session and the stream for its messages, from any port of `local`.
    pub async fn open(base: &str, server: SocketAddr, local: Ipv4Addr) -> Self {
        let (endpoint, connection) = Self::connect(base, server, local).await;
        let opening = async {
            let mut control = connection.open_uni().await.expect("a stream");
            control.write_all(CONTROL_STREAM).await.expect("settings");
            let (mut request, mut answer) = connection.open_bi().await.expect("a stream");
            request.write_all(CONNECT).await.expect("a request");
            let mut status = [0; STATUS_200.len()];
            answer.read_exact(&mut status).await.expect("an answer");
            assert_eq!(status, STATUS_200);
            let (mut send, receive) = connection.open_bi().await.expect("a stream");
            send.write_all(SESSION_STREAM).await.expect("a stream of the session");
            (control, request, answer, send, receive)
        };
        let (control, request, _answer, send, receive) = within("a session", opening).await;
        Self { endpoint, connection, control, request, _answer, send, receive, buffer: BytesMut::new() }
    }

    /// A connection on which nothing has been said.
    pub async fn connect(base: &str, server: SocketAddr, local: Ipv4Addr) -> (quinn::Endpoint, quinn::Connection) {
        let quic = RawWebTransport::new(base).await.quic_config();
        let endpoint = quinn::Endpoint::client(SocketAddrV4::new(local, 0).into()).expect("a UDP socket");
        let connecting = endpoint.connect_with(quic, server, "localhost").expect("a way");
        let connection = within("a connection", connecting).await.expect("a connection");
        (endpoint, connection)
    }

    /// Sends a message.
    pub async fn say(&mut self, message: ClientMessage<'_>) {
        let mut frame = BytesMut::new();
        framing::encode(&Request { id: None, message }.spell(Codec::MsgPack), &mut frame);
        within("a message to be sent", self.send.write_all(&frame)).await.expect("a connection");
    }

    /// The next message.
    pub async fn hear(&mut self) -> ServerMessage<'static> {
        loop {
            if let Some(frame) = framing::decode(&mut self.buffer, 1024 * 1024).expect("a frame") {
                return ServerMessage::decode(Codec::MsgPack, &frame).expect("a message");
            }
            let chunk = within("a message", self.receive.read_chunk(usize::MAX, true)).await.expect("a connection");
            self.buffer.extend_from_slice(&chunk.expect("the stream goes on").bytes);
        }
    }
}
