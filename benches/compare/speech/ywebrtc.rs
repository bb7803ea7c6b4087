//! The signaling server of `y-webrtc`: one publishes to a topic and all hear it, oneself included. A message for one peer goes the same way, and
//! the others drop it; in a room of two, that is the same work.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Handshake, LoadError, Member, Signal, Speech, Wire};

use super::{address, holds, wait_for};

pub struct YWebrtc(pub SocketAddr);

impl Speech for YWebrtc {
    fn name(&self) -> String {
        "y-webrtc".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.0, "/")).await?;
        wire.sender.send(json!({"type": "subscribe", "topics": [room]}).to_string().as_bytes()).await?;
        // A subscription is not answered, but what is sent behind it is.
        wire.sender.send(br#"{"type":"ping"}"#).await?;
        wait_for(&mut wire, |frame| holds(frame, r#""pong""#).then_some(())).await?;
        Ok(Member { address: address(number, room, format!("y{number}")), wire })
    }

    fn forward(&self, _: Signal, from: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(publish(from, &json!({"type": "signal", "from": from.id, "to": to.id, "signal": payload})))
    }

    fn broadcast(&self, from: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(publish(from, &json!({"type": "announce", "from": from.id, "payload": payload})))
    }

    fn has_presence(&self) -> bool {
        false
    }

    fn echoes(&self) -> bool {
        true
    }
}

fn publish(from: &Address, data: &Value) -> Vec<u8> {
    json!({"type": "publish", "topic": from.room, "data": data}).to_string().into()
}
