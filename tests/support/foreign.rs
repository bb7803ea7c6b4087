//! Clients of other servers, as far as they are a WebSocket and texts.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use super::{TestServer, within};

/// A WebSocket that knows nothing of Switchboard.
pub struct ForeignClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl ForeignClient {
    /// Connects to a path.
    pub async fn connect(server: &TestServer, path: &str) -> Self {
        Self::connect_to(server.base(), path).await
    }

    /// The same to a server at this base URL.
    pub async fn connect_to(base: &str, path: &str) -> Self {
        let url = format!("{}{path}", base.replacen("http", "ws", 1));
        let (socket, _) = within("a connection", connect_async(url)).await.expect("a connection");
        Self { socket }
    }

    /// Sends a JSON value as text.
    pub async fn say(&mut self, value: Value) {
        self.send(Message::text(value.to_string())).await;
    }

    /// Sends several JSON values in one write.
    pub async fn say_in_one_breath(&mut self, values: &[Value]) {
        let saying = async {
            for value in values {
                self.socket.feed(Message::text(value.to_string())).await.expect("there is room");
            }
            self.socket.flush().await.expect("sent");
        };
        within("messages are sent", saying).await;
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) {
        within("a message is sent", self.socket.send(message)).await.expect("sent");
    }

    /// The next message, control frames aside.
    pub async fn receive(&mut self) -> Message {
        let receiving = async {
            loop {
                let message = self.socket.next().await.expect("the connection lasts").expect("a message");
                if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                    return message;
                }
            }
        };
        within("a message", receiving).await
    }

    /// The next message, which is JSON.
    pub async fn hear(&mut self) -> Value {
        let message = self.receive().await;
        serde_json::from_str(message.to_text().expect("text")).unwrap_or_else(|_| panic!("JSON: {message:?}"))
    }

    /// Waits for the server's close frame, past whatever comes before it.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        let ending = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        within("an end", ending).await
    }

    /// Says goodbye as a browser does whose page is left.
    pub async fn close(mut self) {
        within("a close", self.socket.close(None)).await.expect("closed");
    }
}

/// A WebSocket whose connection is there, and whose client is not: it reads and writes nothing any more, and so answers no ping.
pub struct HalfOpen {
    _socket: TcpStream,
}

impl HalfOpen {
    /// One that has connected to a path, has said these, and has heard this word.
    pub async fn after(server: &TestServer, path: &str, said: &[Value], heard: &str) -> Self {
        let mut socket = within("a connection", TcpStream::connect(server.addresses()[0])).await.expect("a connection");
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        for value in said {
            let text = value.to_string();
            let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
            // RFC 6455 §5.2: a whole text, masked with zeros.
            request.extend([0x81, 0x80 | length, 0, 0, 0, 0]);
            request.extend(text.as_bytes());
        }
        within("what it says is sent", socket.write_all(&request)).await.expect("sent");
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(heard) {
            let count = within(heard, socket.read_buf(&mut bytes)).await.expect("the connection lasts");
            assert_ne!(count, 0, "the connection lasts");
        }
        Self { _socket: socket }
    }
}
