//! `servers/rooms.js`: `join` and `leave`, everything else goes to one peer (`to`) or to the rest of the room.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Comings, Handshake, LoadError, Member, Presence, Signal, Speech, Wire};

use super::{address, quoted_after, text, wait_for};

pub struct Rooms(pub SocketAddr);

impl Speech for Rooms {
    fn name(&self) -> String {
        "ws rooms".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.0, "/")).await?;
        wire.sender.send(&join(room)).await?;
        let id = wait_for(&mut wire, |frame| quoted_after(frame, r#"{"type":"joined","id":""#).map(text)).await?;
        Ok(Member { address: address(number, room, id), wire })
    }

    fn forward(&self, signal: Signal, _: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let kind = match signal {
            Signal::Offer => "offer",
            Signal::Candidate => "candidate",
        };
        Some(json!({"type": kind, "to": to.id, "payload": payload}).to_string().into())
    }

    fn broadcast(&self, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(json!({"type": "message", "payload": payload}).to_string().into())
    }

    fn comings(&self, who: &Address) -> Option<Comings> {
        Some(Comings {
            join: join(&who.room),
            leave: br#"{"type":"leave"}"#.to_vec(),
            joined: br#"{"type":"joined""#.to_vec(),
            left: br#"{"type":"left""#.to_vec(),
        })
    }

    fn presence<'a>(&self, frame: &'a [u8]) -> Option<Presence<'a>> {
        let joined = quoted_after(frame, r#"{"type":"peer-joined","id":""#).map(Presence::Joined);
        joined.or_else(|| quoted_after(frame, r#"{"type":"peer-left","id":""#).map(Presence::Left))
    }
}

fn join(room: &str) -> Vec<u8> {
    json!({"type": "join", "room": room}).to_string().into()
}
