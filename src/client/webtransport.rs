//! The WebTransport door from outside: frames on one stream, best effort in datagrams.

use std::{
    future::ready,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::{Deref, RangeInclusive},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::BytesMut;
use quinn::TransportConfig;
use reqwest::Url;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Mutex;
use wtransport::{
    ClientConfig, Connection, RecvStream, SendStream, VarInt,
    config::{DnsLookupFuture, DnsResolver},
    endpoint::{ConnectOptions, endpoint_side},
    error::{ConnectingError, ConnectionError, SendDatagramError},
    tls::Sha256Digest,
};

use super::{Disconnected, MESSAGE_BYTES_MAX, connect::ConnectError};
use crate::protocol::{
    H3_INTERNAL_ERROR,
    framing::{self, Frame},
};

/// What the server may send ahead of what is received.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Datagrams that wait, in either direction; the oldest are dropped.
const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;

/// How often in all a session is asked for whose beginning the server misreads.
const ATTEMPTS_MAX: usize = 3;
/// What a server says that misread its client (RFC 9114 §8.1): H3_FRAME_UNEXPECTED, H3_FRAME_ERROR, H3_EXCESSIVE_LOAD, H3_ID_ERROR,
/// H3_SETTINGS_ERROR and H3_MISSING_SETTINGS.
const MISREAD: RangeInclusive<u64> = 0x105..=0x10a;
/// RFC 9114 §8.1: nothing went wrong.
const H3_NO_ERROR: u32 = 0x100;
/// What the kernel may keep of packets in either direction.
const UDP_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// A UDP socket for any number of clients of one server.
pub type Endpoint = wtransport::Endpoint<endpoint_side::Client>;

/// A session that ends when both of its halves are dropped. A client that has not closed it before has not left: the code says that it broke off.
struct Session {
    connection: Connection,
    has_left: AtomicBool,
}

impl Deref for Session {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let code = if self.has_left.load(Ordering::Relaxed) { H3_NO_ERROR } else { H3_INTERNAL_ERROR };
        self.close(VarInt::from_u32(code), b"");
    }
}

pub struct Sender {
    connection: Arc<Session>,
    stream: Arc<Mutex<SendStream>>,
    buffer: BytesMut,
}

pub struct Receiver {
    connection: Arc<Session>,
    stream: RecvStream,
    buffer: BytesMut,
    /// The other direction, to be ended when this one is.
    sending: Arc<Mutex<SendStream>>,
    /// Nothing more comes on the stream.
    finished: bool,
    /// Nothing more comes in datagrams, and why.
    lost: Option<ConnectionError>,
}

/// Opens a UDP socket towards the server at `address`, whose certificate is verified by `tls` or, without, has one of these hashes.
pub fn endpoint(
    address: SocketAddr,
    local_address: Option<IpAddr>,
    tls: Option<rustls::ClientConfig>,
    certificate_hashes: &[[u8; 32]],
) -> io::Result<Endpoint> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = SocketAddr::new(local_address.unwrap_or(any), 0);
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    // Hundreds of connections may share it, and the kernel's default is too small for what they are sent at once.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.bind(&local.into())?;
    let builder = ClientConfig::builder().with_bind_socket(socket.into());
    let mut config = match tls {
        Some(tls) => builder.with_custom_tls(tls).build(),
        None => builder.with_server_certificate_hashes(certificate_hashes.iter().copied().map(Sha256Digest::new)).build(),
    };
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    config.quic_config_mut().transport_config(Arc::new(transport));
    config.set_dns_resolver(Resolved(address));
    Endpoint::client(config)
}

/// Every name has been looked up.
#[derive(Debug)]
struct Resolved(SocketAddr);

impl DnsResolver for Resolved {
    fn resolve(&self, _: &str) -> Pin<Box<dyn DnsLookupFuture>> {
        Box::pin(ready(Ok(Some(self.0))))
    }
}

/// Opens a session and the stream for its messages.
pub async fn open(endpoint: &Endpoint, url: &Url, origin: Option<&str>) -> Result<(Sender, Receiver), ConnectError> {
    let connection = connect(endpoint, url, origin).await.map_err(|error| ConnectError::unreachable(url, error))?;
    let opening = connection.open_bi().await.map_err(|error| ConnectError::unreachable(url, error))?;
    let (send, receive) = opening.await.map_err(|error| ConnectError::unreachable(url, error))?;
    let (connection, stream) = (Arc::new(Session { connection, has_left: false.into() }), Arc::new(Mutex::new(send)));
    let sender = Sender { connection: connection.clone(), stream: stream.clone(), buffer: BytesMut::new() };
    let receiver = Receiver { connection, stream: receive, buffer: BytesMut::new(), sending: stream, finished: false, lost: None };
    Ok((sender, receiver))
}

/// Asks for a session, and at once again where one end did not understand the beginning, up to [`ATTEMPTS_MAX`] times.
async fn connect(endpoint: &Endpoint, url: &Url, origin: Option<&str>) -> Result<Connection, ConnectingError> {
    let mut attempts = 1;
    loop {
        let mut options = ConnectOptions::builder(url.as_str());
        if let Some(origin) = origin {
            options = options.add_header("origin", origin);
        }
        match endpoint.connect(options.build()).await {
            Err(ConnectingError::ConnectionError(error)) if is_misread(&error) && attempts < ATTEMPTS_MAX => attempts += 1,
            connected => return connected,
        }
    }
}

/// wtransport, on this end and perhaps on the other, writes SETTINGS in pieces, and reads frames in steps that it may break off (as of 0.7.2). On a busy machine the second piece can then be
/// taken for the beginning of a frame: for one longer than any may be, or for one that has no place there.
fn is_misread(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ApplicationClosed(close) => MISREAD.contains(&close.code().into_inner()),
        // What code that was the crate does not tell.
        ConnectionError::LocalH3Error(_) => true,
        _ => false,
    }
}

impl Sender {
    pub async fn send(&mut self, frame: Frame) -> Result<(), Disconnected> {
        if let Frame::Datagram(bytes) = &frame {
            match self.connection.send_datagram(bytes) {
                Ok(()) => return Ok(()),
                Err(SendDatagramError::NotConnected) => return Err(disconnected(&self.connection.closed().await)),
                // It goes on the stream: slower, and not lost.
                Err(SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer) => {}
            }
        }
        self.buffer.clear();
        framing::encode(frame.bytes(), &mut self.buffer);
        let written = self.stream.lock().await.write_all(&self.buffer).await;
        written.map_err(|error| self.refused(&error))
    }

    /// The largest packet that is known to pass, in bytes of UDP.
    pub fn path_mtu(&self) -> u16 {
        self.connection.quic_connection().stats().path.current_mtu
    }

    pub async fn close(&mut self) -> Result<(), Disconnected> {
        self.connection.has_left.store(true, Ordering::Relaxed);
        // Already reset by the server, perhaps; there is nothing more to say either way.
        let _ = self.stream.lock().await.quic_stream_mut().finish();
        Ok(())
    }

    pub fn abort(self) {
        self.connection.close(VarInt::from_u32(H3_INTERNAL_ERROR), b"");
    }

    fn refused(&self, error: &wtransport::error::StreamWriteError) -> Disconnected {
        match self.connection.quic_connection().close_reason() {
            Some(reason) => disconnected(&reason.into()),
            None => Disconnected::without_code(error.to_string()),
        }
    }
}

impl Receiver {
    /// The next frame of the stream or the next datagram, whichever is there.
    pub async fn receive(&mut self) -> Result<Frame, Disconnected> {
        loop {
            match framing::decode(&mut self.buffer, MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(Frame::Binary(frame)),
                Ok(None) => {}
                Err(error) => return Err(Disconnected::without_code(format!("the server broke the protocol: {error}"))),
            }
            if self.finished {
                return Err(self.end().await);
            }
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            // Each wins as often as the other where both are there.
            tokio::select! {
                chunk = self.stream.quic_stream_mut().read_chunk(usize::MAX, true) => match chunk {
                    Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(_) => self.finished = true,
                },
                datagram = self.connection.receive_datagram(), if self.lost.is_none() => match datagram {
                    Ok(datagram) => return Ok(Frame::Datagram(datagram.payload())),
                    // What arrived on the stream before is still to be read.
                    Err(error) => self.lost = Some(error),
                },
            }
        }
    }

    /// The server closes the session with its code when it hears that this side is done as well.
    async fn end(&mut self) -> Disconnected {
        if let Some(error @ ConnectionError::ApplicationClosed(_)) = &self.lost {
            return disconnected(error);
        }
        let closed = self.connection.closed();
        let finish = async {
            // Already reset by the server, perhaps, which is as good.
            let _ = self.sending.lock().await.quic_stream_mut().finish();
            std::future::pending().await
        };
        tokio::select! {
            error = closed => disconnected(&error),
            never = finish => never,
        }
    }
}

fn disconnected(error: &ConnectionError) -> Disconnected {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(close.reason()).into_owned();
            Disconnected {
                code: u16::try_from(close.code().into_inner()).ok(),
                reason: if reason.is_empty() { "closed by the server".into() } else { reason },
            }
        }
        error => Disconnected::without_code(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use wtransport::{Identity, ServerConfig};

    use super::*;

    #[tokio::test]
    async fn who_is_misread_asks_again_and_not_for_ever() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let hash = *identity.certificate_chain().as_slice()[0].hash().as_ref();
        let config = ServerConfig::builder().with_bind_default(0).with_identity(identity).build();
        let server = quinn::Endpoint::server(config.quic_config().clone(), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = server.local_addr().unwrap();
        let client = endpoint(address, None, None, &[hash]).unwrap();
        let url = Url::parse(&format!("https://localhost:{}/wt", address.port())).unwrap();
        for (code, attempts) in [(0x104, 1), (0x105, ATTEMPTS_MAX), (0x107, ATTEMPTS_MAX), (0x10a, ATTEMPTS_MAX), (0x10b, 1)] {
            let mut closed = 0;
            let closing = async {
                while let Some(incoming) = server.accept().await {
                    incoming.await.unwrap().close(quinn::VarInt::from_u32(code), b"");
                    closed += 1;
                }
            };
            let opened = tokio::select! {
                opened = timeout(Duration::from_secs(20), open(&client, &url, None)) => opened.expect("an answer in time"),
                () = closing => unreachable!("the server stays"),
            };
            assert!(opened.err().unwrap().to_string().contains(&code.to_string()), "{code:#x} is told");
            assert_eq!(closed, attempts, "{code:#x}");
        }
    }
}
