//! `matchbox_server`: the path is the room, and a description or a candidate is a string inside the JSON, as its own client has it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Handshake, LoadError, Member, Presence, Signal, Speech, Wire};

use super::{address, quoted_after, text, wait_for};

pub struct Matchbox(pub SocketAddr);

impl Speech for Matchbox {
    fn name(&self) -> String {
        "matchbox_server".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.0, format!("/{room}"))).await?;
        let id = wait_for(&mut wire, |frame| quoted_after(frame, r#"{"IdAssigned":""#).map(text)).await?;
        Ok(Member { address: address(number, room, id), wire })
    }

    fn forward(&self, signal: Signal, _: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let data = match signal {
            Signal::Offer => json!({"Offer": payload["sdp"]}),
            Signal::Candidate => json!({"IceCandidate": payload.to_string()}),
        };
        Some(json!({"Signal": {"receiver": to.id, "data": data}}).to_string().into())
    }

    fn broadcast(&self, _: &Address, _: &Value) -> Option<Vec<u8>> {
        None
    }

    fn presence<'a>(&self, frame: &'a [u8]) -> Option<Presence<'a>> {
        let joined = quoted_after(frame, r#"{"NewPeer":""#).map(Presence::Joined);
        joined.or_else(|| quoted_after(frame, r#"{"PeerLeft":""#).map(Presence::Left))
    }
}
