//! A connected line: WebSocket frames over TCP, plain or under TLS, or frames with a length before them on a WebTransport stream.
//!
//! The sending half may be used from several tasks and threads; the receiving half answers WebSocket Pings by it. Frames are queued and
//! then written at once, and received as slices of what was read.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Buf as _, BytesMut};
use reqwest::Url;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, MutexGuard},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wtransport::{Connection, RecvStream, SendStream};

use super::{
    LoadError,
    template::{Marker, Template},
    websocket::{self, Head, opcode},
    webtransport::Endpoint,
};
use crate::protocol::framing;

/// What is read at once.
const READ_BYTES: usize = 32 * 1024;

/// How to open a WebSocket.
#[derive(Clone)]
pub struct Handshake {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// What to offer as `Sec-WebSocket-Protocol`.
    pub subprotocol: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Whom to trust, and what name a certificate has to be for; without it, plain TCP.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Are messages binary frames, or text?
    pub binary: bool,
}

impl Handshake {
    /// Text frames over plain TCP, nothing offered.
    pub fn new(address: SocketAddr, path: impl Into<String>) -> Self {
        let host = address.to_string();
        Self { address, host, path: path.into(), subprotocol: None, headers: vec![], tls: None, binary: false }
    }
}

/// One client's connection. Dropping both halves ends it without a word.
pub struct Wire {
    /// The half that sends.
    pub sender: Sender,
    /// The half that receives.
    pub receiver: Receiver,
}

/// The half that sends; cheap to clone.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<Outgoing>>);

/// What is queued on a line.
pub struct Outgoing {
    half: Writing,
    framing: Framing,
    /// Empty but while it is filled and written.
    buffer: Vec<u8>,
}

/// The half that receives.
pub struct Receiver {
    half: Reading,
    framing: Framing,
    buffer: BytesMut,
    /// The beginning of a message in several frames.
    fragments: Vec<u8>,
    sender: Sender,
}

enum Writing {
    Tcp(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
    Quic(SendStream, #[expect(dead_code, reason = "held, so that the session lives")] Arc<Connection>),
}

enum Reading {
    Tcp(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
    Quic(RecvStream, #[expect(dead_code, reason = "held, so that the session lives")] Arc<Connection>),
}

#[derive(Clone, Copy)]
enum Framing {
    WebSocket { opcode: u8 },
    Length,
}

impl Wire {
    /// Opens a WebSocket.
    pub async fn websocket(handshake: &Handshake) -> Result<Self, LoadError> {
        let unreachable = |error: std::io::Error| LoadError::ended(format_args!("{}: {error}", handshake.address));
        let tcp = TcpStream::connect(handshake.address).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let (reading, writing) = match &handshake.tls {
            Some((tls, name)) => {
                let tls = TlsConnector::from(tls.clone()).connect(name.clone(), tcp).await.map_err(unreachable)?;
                let (reading, writing) = tokio::io::split(tls);
                (Reading::Tls(reading), Writing::Tls(writing))
            }
            None => {
                let (reading, writing) = tcp.into_split();
                (Reading::Tcp(reading), Writing::Tcp(writing))
            }
        };
        let framing = Framing::WebSocket { opcode: if handshake.binary { opcode::BINARY } else { opcode::TEXT } };
        let mut wire = Self::new(reading, writing, framing);
        let (request, accept) = websocket::request(&handshake.host, &handshake.path, handshake.subprotocol.as_deref(), &handshake.headers);
        {
            let mut outgoing = wire.sender.lock().await;
            outgoing.buffer.extend_from_slice(request.as_bytes());
            outgoing.flush().await?;
        }
        loop {
            wire.receiver.read().await?;
            if let Some(length) = websocket::answer(&wire.receiver.buffer, &accept)? {
                wire.receiver.buffer.advance(length);
                return Ok(wire);
            }
        }
    }

    /// Opens a WebTransport session and its first bidirectional stream, on which each frame has its length before it.
    pub async fn webtransport(endpoint: &Endpoint, url: &Url) -> Result<Self, LoadError> {
        let (connection, writing, reading) = endpoint.open(url).await?;
        Ok(Self::new(Reading::Quic(reading, connection.clone()), Writing::Quic(writing, connection), Framing::Length))
    }

    fn new(reading: Reading, writing: Writing, framing: Framing) -> Self {
        let sender = Sender(Arc::new(Mutex::new(Outgoing { half: writing, framing, buffer: vec![] })));
        let receiver = Receiver { half: reading, framing, buffer: BytesMut::new(), fragments: vec![], sender: sender.clone() };
        Self { sender, receiver }
    }

    /// Says goodbye as the wire provides for it, and waits until the server has gone as well.
    pub async fn close(mut self) -> Result<(), LoadError> {
        self.sender.close().await?;
        while self.receiver.receive(|_| {}).await.is_ok() {}
        Ok(())
    }
}

impl Sender {
    /// The line to oneself, to queue several frames.
    pub async fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.0.lock().await
    }

    /// Sends one frame now.
    pub async fn send(&self, frame: &[u8]) -> Result<(), LoadError> {
        let mut outgoing = self.lock().await;
        outgoing.queue(frame);
        outgoing.flush().await
    }

    /// Says goodbye as the wire provides for it. The end is for the receiving half to hear.
    pub async fn close(&self) -> Result<(), LoadError> {
        self.lock().await.close().await
    }
}

impl Outgoing {
    /// Queues a message.
    pub fn queue(&mut self, frame: &[u8]) {
        self.append(frame.len(), |buffer| buffer.extend_from_slice(frame));
    }

    /// Queues a message with this marker.
    pub fn queue_marked(&mut self, template: &Template, marker: Marker) {
        self.append(template.frame().len(), |buffer| template.fill(marker, buffer));
    }

    /// Writes all that is queued, waiting while the connection takes no more.
    pub async fn flush(&mut self) -> Result<(), LoadError> {
        let written = match &mut self.half {
            Writing::Tcp(half) => half.write_all(&self.buffer).await.map_err(LoadError::ended),
            Writing::Tls(half) => match half.write_all(&self.buffer).await {
                Ok(()) => half.flush().await.map_err(LoadError::ended),
                Err(error) => Err(LoadError::ended(error)),
            },
            Writing::Quic(half, _) => half.write_all(&self.buffer).await.map_err(LoadError::ended),
        };
        self.buffer.clear();
        written
    }

    async fn close(&mut self) -> Result<(), LoadError> {
        if let Writing::Quic(half, _) = &mut self.half {
            // Refused where the server has reset it, which ends it as well.
            let _ = half.quic_stream_mut().finish();
            return Ok(());
        }
        // Part of a message was written, behind which there is no place for another.
        if !self.buffer.is_empty() {
            return match &mut self.half {
                Writing::Tcp(half) => half.shutdown().await,
                Writing::Tls(half) => half.shutdown().await,
                Writing::Quic(..) => Ok(()),
            }
            .map_err(LoadError::ended);
        }
        websocket::write(opcode::CLOSE, 2, &mut self.buffer, |buffer| buffer.extend_from_slice(&1000_u16.to_be_bytes()));
        self.flush().await
    }

    fn append(&mut self, length: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        match self.framing {
            Framing::WebSocket { opcode } => websocket::write(opcode, length, &mut self.buffer, fill),
            Framing::Length => {
                self.buffer.extend_from_slice(&u32::try_from(length).expect("a frame is far smaller than 4 GiB").to_be_bytes());
                fill(&mut self.buffer);
            }
        }
    }
}

impl Receiver {
    /// Waits until something has come, and hands over each message that is whole, in order. Nothing is lost when the returned
    /// future is dropped.
    pub async fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), LoadError> {
        while !self.take(usize::MAX, &mut each).await? {
            self.read().await?;
        }
        Ok(())
    }

    /// The next message alone. What came with it stays for the next call.
    pub async fn next(&mut self) -> Result<Vec<u8>, LoadError> {
        let mut next = Vec::new();
        while !self.take(1, &mut |frame| next = frame.to_vec()).await? {
            self.read().await?;
        }
        Ok(next)
    }

    /// Hands over at most so many of the messages that are here. Were there any?
    async fn take(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> Result<bool, LoadError> {
        let mut taken = 0;
        let mut used = 0;
        let mut pongs = Vec::new();
        let mut outcome = Ok(());
        while taken < most {
            let rest = &self.buffer[used..];
            let head = match self.framing {
                Framing::WebSocket { .. } => Head::read(rest)?,
                Framing::Length => length_head(rest)?,
            };
            let Some(head) = head else { break };
            let Some(carried) = rest.get(head.header..head.header + head.length) else { break };
            used += head.header + head.length;
            match head.opcode {
                opcode::TEXT | opcode::BINARY if head.is_final => {
                    each(carried);
                    taken += 1;
                }
                opcode::TEXT | opcode::BINARY | opcode::CONTINUATION => {
                    if self.fragments.len() + carried.len() > websocket::FRAME_BYTES_MAX {
                        return Err(LoadError::speech("the server sends a message in frames without an end"));
                    }
                    self.fragments.extend_from_slice(carried);
                    if head.is_final {
                        each(&self.fragments);
                        self.fragments.clear();
                        taken += 1;
                    }
                }
                opcode::PING => pongs.push(carried.to_vec()),
                opcode::CLOSE => {
                    outcome = Err(closed(carried));
                    break;
                }
                _ => {}
            }
        }
        self.buffer.advance(used);
        if !pongs.is_empty() {
            let mut outgoing = self.sender.lock().await;
            for pong in pongs {
                websocket::write(opcode::PONG, pong.len(), &mut outgoing.buffer, |buffer| buffer.extend_from_slice(&pong));
            }
            outgoing.flush().await?;
        }
        // What came before the end is told first.
        if taken > 0 { Ok(true) } else { outcome.map(|()| false) }
    }

    async fn read(&mut self) -> Result<(), LoadError> {
        if self.buffer.len() > framing::HEADER_BYTES + websocket::FRAME_BYTES_MAX {
            return Err(LoadError::speech("the server sends without an end"));
        }
        self.buffer.reserve(READ_BYTES);
        let read = match &mut self.half {
            Reading::Tcp(half) => half.read_buf(&mut self.buffer).await,
            Reading::Tls(half) => half.read_buf(&mut self.buffer).await,
            Reading::Quic(half, _) => match half.quic_stream_mut().read_chunk(READ_BYTES, true).await {
                Ok(chunk) => {
                    let chunk = chunk.map(|chunk| chunk.bytes).unwrap_or_default();
                    self.buffer.extend_from_slice(&chunk);
                    Ok(chunk.len())
                }
                Err(error) => Err(error.into()),
            },
        };
        match read {
            Ok(0) => Err(LoadError::ended("the server closed it")),
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::ended(error)),
        }
    }
}

/// A frame of WebTransport, as if it were a WebSocket's.
fn length_head(bytes: &[u8]) -> Result<Option<Head>, LoadError> {
    let Some(length) = bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else { return Ok(None) };
    if length > websocket::FRAME_BYTES_MAX {
        return Err(LoadError::speech(format!("the server sent a frame of {length} bytes")));
    }
    Ok(Some(Head { is_final: true, opcode: opcode::BINARY, header: framing::HEADER_BYTES, length }))
}

fn closed(carried: &[u8]) -> LoadError {
    let code = carried.first_chunk().map(|code| u16::from_be_bytes(*code));
    let reason = String::from_utf8_lossy(carried.get(2..).unwrap_or_default());
    LoadError::ended(format_args!("closed by the server{}: {reason}", code.map(|code| format!(" with {code}")).unwrap_or_default()))
}
