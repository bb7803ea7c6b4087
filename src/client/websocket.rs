//! The WebSocket door from outside: one frame is one message.
//!
//! Buffers are small, because benches open clients by the ten thousand; every frame is written out when it is sent.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use reqwest::Url;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{
            HeaderValue,
            header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::{
            CloseFrame, WebSocketConfig,
            frame::{
                self,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use super::{
    Disconnected, MESSAGE_BYTES_MAX,
    connect::{ConnectError, Options, bare_host},
};
use crate::protocol::{Codec, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, framing::Frame};

const READ_BUFFER_BYTES: usize = 4 * 1024;

type Socket = WebSocketStream<Box<dyn Io>>;

/// TCP, plain or under TLS.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub struct Sender(SplitSink<Socket, Message>);

pub struct Receiver {
    socket: SplitStream<Socket>,
    /// The server's Close frame, once it came.
    closed: Option<Disconnected>,
}

/// Connects to the first of these addresses that answers, and shakes hands.
pub async fn open(
    url: &Url,
    addresses: &[SocketAddr],
    options: &Options,
    tls: Option<Arc<ClientConfig>>,
    codec: Codec,
) -> Result<(Sender, Receiver), ConnectError> {
    let unreachable = |error: std::io::Error| ConnectError::unreachable(url, error);
    let tcp = connect(addresses, options.local_address).await.map_err(unreachable)?;
    let io: Box<dyn Io> = match tls {
        Some(tls) => {
            let name = ServerName::try_from(bare_host(url).to_owned()).map_err(|error| ConnectError::unreachable(url, error))?;
            Box::new(TlsConnector::from(tls).connect(name, tcp).await.map_err(unreachable)?)
        }
        None => Box::new(tcp),
    };

    let refused = |error: tungstenite::Error| match error {
        tungstenite::Error::Http(response) => ConnectError::Status { url: url.to_string(), status: response.status().as_u16() },
        error => ConnectError::unreachable(url, error),
    };
    let mut request = url.as_str().into_client_request().map_err(refused)?;
    let subprotocol = match codec {
        Codec::Json => SUBPROTOCOL_JSON,
        Codec::MsgPack => SUBPROTOCOL_MSGPACK,
    };
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    if let Some(origin) = &options.origin {
        request.headers_mut().insert(ORIGIN, HeaderValue::from_str(origin).map_err(|error| ConnectError::unreachable(url, error))?);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let (socket, _) = client_async_with_config(request, io, Some(config)).await.map_err(refused)?;
    let (sink, stream) = socket.split();
    Ok((Sender(sink), Receiver { socket: stream, closed: None }))
}

async fn connect(addresses: &[SocketAddr], local_address: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let mut outcome = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        outcome = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(local) = local_address {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            let tcp = socket.connect(*address).await?;
            tcp.set_nodelay(true)?;
            Ok(tcp)
        }
        .await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Resets the connection.
pub fn abort(sender: Sender, receiver: Receiver) {
    let socket = receiver.socket.reunite(sender.0).expect("both halves are of one socket");
    // Where it fails the connection ends by FIN, which is as sudden.
    let _ = socket.get_ref().tcp().set_zero_linger();
}

impl Sender {
    pub async fn send(&mut self, frame: Frame) -> Result<(), Disconnected> {
        self.write(match frame {
            // As a frame, because a message would have to be UTF-8.
            Frame::Text(bytes) => Message::Frame(frame::Frame::message(bytes, OpCode::Data(Data::Text), true)),
            Frame::Binary(bytes) | Frame::Datagram(bytes) => Message::Binary(bytes),
        })
        .await
    }

    pub async fn close(&mut self) -> Result<(), Disconnected> {
        self.write(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Disconnected> {
        self.0.send(message).await.map_err(|error| Disconnected::without_code(error.to_string()))
    }
}

impl Receiver {
    /// The next frame that carries something.
    pub async fn receive(&mut self) -> Result<Frame, Disconnected> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Frame::Text(Bytes::from(text))),
                Some(Ok(Message::Binary(bytes))) => return Ok(Frame::Binary(bytes)),
                // Reading on sends the answer, and sees the end of the connection.
                Some(Ok(Message::Close(close))) => self.closed = Some(disconnected(close)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => {
                    return Err(self.closed.take().unwrap_or_else(|| Disconnected::without_code(error.to_string())));
                }
                None => {
                    return Err(self
                        .closed
                        .take()
                        .unwrap_or_else(|| Disconnected::without_code("the connection ended without a Close frame")));
                }
            }
        }
    }
}

fn disconnected(close: Option<CloseFrame>) -> Disconnected {
    match close {
        Some(CloseFrame { code, reason }) if reason.is_empty() => {
            Disconnected { code: Some(code.into()), reason: "closed by the server".into() }
        }
        Some(CloseFrame { code, reason }) => Disconnected { code: Some(code.into()), reason: reason.to_string() },
        None => Disconnected::without_code("closed by the server"),
    }
}
