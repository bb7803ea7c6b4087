//! The doors byte by byte, for what no decent client does.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use quinn::TransportConfig;
use switchboard::client::{Discovery, Door, Transport};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, endpoint::endpoint_side, tls::Sha256Digest};

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

    /// A session and the stream for its messages.
    pub async fn open(&self) -> Option<(Connection, SendStream, RecvStream)> {
        let connection = self.connect().await.ok()?;
        let (send, receive) = connection.open_bi().await.ok()?.await.ok()?;
        Some((connection, send, receive))
    }
}
