//! `servers/socketio.js`, by Socket.IO 5 on Engine.IO 4 without polling: `42` and an array is an event, `43` the answer to one that has a number.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Comings, Handshake, LoadError, Member, Presence, Signal, Speech, Wire};

use super::{address, quoted_after, text, wait_for};

pub struct SocketIo(pub SocketAddr);

impl Speech for SocketIo {
    fn name(&self) -> String {
        "socket.io".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.0, "/socket.io/?EIO=4&transport=websocket")).await?;
        wait_for(&mut wire, |frame| frame.starts_with(b"0{").then_some(())).await?;
        wire.sender.send(b"40").await?;
        let id = wait_for(&mut wire, |frame| quoted_after(frame, r#"40{"sid":""#).map(text)).await?;
        wire.sender.send(&join(room)).await?;
        wait_for(&mut wire, |frame| frame.starts_with(b"431[").then_some(())).await?;
        Ok(Member { address: address(number, room, id), wire })
    }

    fn forward(&self, signal: Signal, _: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let kind = match signal {
            Signal::Offer => "offer",
            Signal::Candidate => "candidate",
        };
        Some(event("42", &json!(["signal", {"to": to.id, "type": kind, "payload": payload}])))
    }

    fn broadcast(&self, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(event("42", &json!(["message", {"payload": payload}])))
    }

    fn comings(&self, who: &Address) -> Option<Comings> {
        Some(Comings { join: join(&who.room), leave: event("422", &json!(["leave"])), joined: b"431[".to_vec(), left: b"432[".to_vec() })
    }

    fn presence<'a>(&self, frame: &'a [u8]) -> Option<Presence<'a>> {
        let joined = quoted_after(frame, r#"42["peer-joined",""#).map(Presence::Joined);
        joined.or_else(|| quoted_after(frame, r#"42["peer-left",""#).map(Presence::Left))
    }

    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        (frame == b"2").then(|| b"3".to_vec())
    }
}

fn join(room: &str) -> Vec<u8> {
    event("421", &json!(["join", room]))
}

fn event(kind: &str, event: &Value) -> Vec<u8> {
    format!("{kind}{event}").into()
}
