//! The bare relays: the path is the room, and a frame is a payload. Who comes in says so by connecting; nobody is told.

use std::net::SocketAddr;

use reqwest::Url;
use serde_json::Value;
use switchboard::load::{Address, Endpoint, Handshake, LoadError, Member, Signal, Speech, Wire};

use super::address;

/// The bare relay on TCP.
pub struct BareWebSocket(pub SocketAddr);

/// The bare relay on QUIC.
pub struct BareWebTransport {
    address: SocketAddr,
    endpoint: Endpoint,
}

impl BareWebTransport {
    /// Towards the relay that announces itself by these words: an address and the hash of its certificate. Called within a runtime.
    pub fn new(words: &str) -> Result<Self, LoadError> {
        let read = || {
            let (address, hash) = words.split_once(' ')?;
            let digits = hash.as_bytes().chunks(2).map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            let hash: [u8; 32] = digits.collect::<Option<Vec<u8>>>()?.try_into().ok()?;
            Some((address.parse().ok()?, hash))
        };
        let (address, hash): (SocketAddr, _) = read().ok_or_else(|| LoadError::speech(format!("{words:?} is no address and hash")))?;
        Ok(Self { address, endpoint: Endpoint::new(address, None, &[hash])? })
    }
}

impl Speech for BareWebSocket {
    fn name(&self) -> String {
        "bare WebSocket relay".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let wire = Wire::websocket(&Handshake::new(self.0, format!("/{room}"))).await?;
        Ok(Member { address: address(number, room, ""), wire })
    }

    fn forward(&self, _: Signal, _: &Address, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(payload.to_string().into())
    }

    fn broadcast(&self, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(payload.to_string().into())
    }

    fn has_presence(&self) -> bool {
        false
    }
}

impl Speech for BareWebTransport {
    fn name(&self) -> String {
        "bare WebTransport relay".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let url = Url::parse(&format!("https://{}/{room}", self.address)).map_err(|error| LoadError::speech(error.to_string()))?;
        let mut wire = Wire::webtransport(&self.endpoint, &url).await?;
        // A stream is not there for the server before something has been sent on it; the empty frame that answers says that this one is in.
        wire.sender.send(b"").await?;
        wire.receiver.next().await?;
        Ok(Member { address: address(number, room, ""), wire })
    }

    fn forward(&self, _: Signal, _: &Address, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(payload.to_string().into())
    }

    fn broadcast(&self, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(payload.to_string().into())
    }

    fn has_presence(&self) -> bool {
        false
    }
}
