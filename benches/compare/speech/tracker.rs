//! `bittorrent-tracker` by WebSocket: a room is a swarm. An offer goes to a random other peer, which in a room of two is the one that it is meant
//! for, and is answered by what the swarm looks like; trackers know no candidates, so an answer of that size stands for one.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::load::{Address, Comings, Handshake, LoadError, Member, Signal, Speech, Wire};

use super::{address, holds, wait_for};

/// What ids have, in characters.
const ID_LENGTH: usize = 20;

pub struct Tracker(pub SocketAddr);

impl Speech for Tracker {
    fn name(&self) -> String {
        "bittorrent-tracker".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.0, "/")).await?;
        let address = address(number, room, id(&format!("peer{number}")));
        wire.sender.send(&announce(&address, json!({"event": "started", "numwant": 0}))).await?;
        wait_for(&mut wire, |frame| holds(frame, r#""interval""#).then_some(())).await?;
        Ok(Member { address, wire })
    }

    fn forward(&self, signal: Signal, from: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let offer_id = id("offer");
        Some(announce(
            from,
            match signal {
                Signal::Offer => json!({"numwant": 1, "offers": [{"offer": payload, "offer_id": offer_id}]}),
                Signal::Candidate => json!({"to_peer_id": to.id, "answer": payload, "offer_id": offer_id}),
            },
        ))
    }

    fn broadcast(&self, _: &Address, _: &Value) -> Option<Vec<u8>> {
        None
    }

    fn comings(&self, who: &Address) -> Option<Comings> {
        Some(Comings {
            join: announce(who, json!({"event": "started", "numwant": 0})),
            leave: announce(who, json!({"event": "stopped", "numwant": 0})),
            // Both are answered alike but for how many are in the swarm, and the engine's rooms for this are of two.
            joined: br#""incomplete":2"#.to_vec(),
            left: br#""incomplete":1"#.to_vec(),
        })
    }

    fn has_presence(&self) -> bool {
        false
    }
}

fn announce(from: &Address, what: Value) -> Vec<u8> {
    let mut message =
        json!({"action": "announce", "info_hash": id(&from.room), "peer_id": from.id, "uploaded": 0, "downloaded": 0, "left": 1000});
    if let (Value::Object(message), Value::Object(what)) = (&mut message, what) {
        message.extend(what);
    }
    message.to_string().into()
}

fn id(text: &str) -> String {
    format!("{text:.<ID_LENGTH$.ID_LENGTH$}")
}
