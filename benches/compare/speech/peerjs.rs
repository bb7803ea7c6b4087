//! The `peer` server: one is there by being connected, everybody can reach everybody by id, there are no rooms and nobody hears who comes.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Handshake, LoadError, Member, Signal, Speech, Wire};

use super::{address, holds, wait_for};

pub struct PeerJs(pub SocketAddr);

impl Speech for PeerJs {
    fn name(&self) -> String {
        "peer".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        // A new id each time: who comes back under the old one before the server has seen it go is told nothing.
        let id = format!("{:016x}", fastrand::u64(..));
        let path = format!("/peerjs?key=peerjs&id={id}&token=t{number}&version=1.5.5");
        let mut wire = Wire::websocket(&Handshake::new(self.0, path)).await?;
        wait_for(&mut wire, |frame| holds(frame, r#""type":"OPEN""#).then_some(())).await?;
        Ok(Member { address: address(number, room, id), wire })
    }

    fn forward(&self, signal: Signal, _: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let message = match signal {
            Signal::Offer => json!({"type": "OFFER", "dst": to.id, "payload": {"sdp": payload, "type": "data", "connectionId": "dc_1"}}),
            Signal::Candidate => {
                json!({"type": "CANDIDATE", "dst": to.id, "payload": {"candidate": payload, "type": "data", "connectionId": "dc_1"}})
            }
        };
        Some(message.to_string().into())
    }

    fn broadcast(&self, _: &Address, _: &Value) -> Option<Vec<u8>> {
        None
    }

    fn has_presence(&self) -> bool {
        false
    }
}
