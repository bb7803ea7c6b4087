//! What the server says: events on their way out, with the attachments of what is in them, and acknowledgements. Who is to hear them is not decided
//! here.

use bytes::Bytes;
use serde_json::json;

use super::{FROM_PEER, MAIN, Packet, PacketKind, attachments::Departing};
use crate::{
    dialect::{Frames, fields::write_json},
    protocol::{Kind, Payload, Peer, PeerId, RELAY, Refusal, RoomId},
};

/// An event on its way out: JSON that grows, and the attachments of what is in it.
pub struct Event {
    json: Vec<u8>,
    departing: Departing,
}

impl Event {
    /// One whose argument is an object that is open, and has no fields yet.
    fn new(name: &str) -> Self {
        Self { json: format!("[\"{name}\",{{").into(), departing: Departing::default() }
    }

    /// Puts in text, which begins with a comma where it has to.
    fn put(&mut self, text: impl AsRef<[u8]>) {
        self.json.extend_from_slice(text.as_ref());
    }

    fn put_payload(&mut self, payload: &Payload) {
        let text = self.departing.spell(payload);
        self.put(text);
    }

    fn put_peer(&mut self, peer: &Peer) {
        self.put(format!(r#""peerId":"{}""#, peer.peer_id));
        if let Some(metadata) = &peer.metadata {
            self.put(r#","metadata":"#);
            self.put_payload(metadata);
        }
        if let Some(user) = &peer.user {
            self.put(format!(r#","user":{}"#, json!(**user)));
        }
    }

    /// Closes the object, the list and the packet.
    pub fn into_frames(mut self) -> Frames {
        self.put("}]");
        let attachments = self.departing.into_attachments();
        let kind = if attachments.is_empty() { PacketKind::Event } else { PacketKind::BinaryEvent };
        let data = String::from_utf8(self.json).expect("JSON is UTF-8");
        let packet = Packet { kind, attachments: attachments.len(), namespace: MAIN, id: None, data: &data };
        let mut frames = packet.spell(attachments);
        if frames.len() == 1 { Frames::One(frames.remove(0)) } else { Frames::Several(frames) }
    }

    /// The same for one without attachments.
    pub fn into_text(self) -> Bytes {
        self.into_frames().into_last().expect("an event is a frame").bytes().clone()
    }
}

/// A signal with its fields, as those who announce themselves know it.
pub fn signal(kind: Kind, from: &str, payload: &Payload) -> Event {
    let mut event = Event::new(kind.name());
    event.put(format!(r#""{FROM_PEER}":{}"#, json!(from)));
    let text = event.departing.spell(payload);
    write_json(&text, &[FROM_PEER], &mut event.json);
    event
}

/// The same, or a message, as those who join know it.
pub fn message(kind: Kind, from: PeerId, room: &RoomId, to: Option<PeerId>, payload: &Payload) -> Event {
    let mut event = Event::new(kind.name());
    event.put(format!(r#""from":"{from}","room":{}"#, json!(room.name())));
    if let Some(to) = to {
        event.put(format!(r#","to":"{to}""#));
    }
    event.put(r#","payload":"#);
    event.put_payload(payload);
    event
}

/// A peer that others hear of, as they see it.
pub fn about(name: &str, room: &RoomId, peer: &Peer) -> Event {
    let mut event = Event::new(name);
    event.put(format!(r#""room":{},"#, json!(room.name())));
    event.put_peer(peer);
    event
}

/// What a newcomer hears first.
pub fn joined(room: &RoomId, peer_id: PeerId, peers: &[Peer], relays_only: bool) -> Event {
    let mut event = Event::new("joined");
    event.put(format!(r#""room":{},"peerId":"{peer_id}","peers":["#, json!(room.name())));
    for (at, peer) in peers.iter().enumerate() {
        event.put(if at == 0 { "{" } else { ",{" });
        event.put_peer(peer);
        event.put("}");
    }
    event.put("]");
    if relays_only {
        event.put(format!(r#","iceTransportPolicy":"{RELAY}""#));
    }
    event
}

/// The ICE servers that count from now on.
pub fn ice_servers(servers: &Payload) -> Event {
    let mut event = Event::new("ice-servers");
    event.put(r#""iceServers":"#);
    event.put_payload(servers);
    event
}

/// An event without payloads.
pub fn said(name: &str, argument: serde_json::Value) -> Frames {
    packet(PacketKind::Event, None, &json!([name, argument]))
}

/// Why the connection ends, and whether to come back.
pub fn farewell(code: &str, message: &str, reconnect: bool, reconnect_after_ms: u64) -> Frames {
    said("error", json!({ "code": code, "message": message, "reconnect": reconnect, "reconnectAfterMs": reconnect_after_ms }))
}

/// The answer to an event that asked for one.
pub fn acknowledged(id: u64, outcome: &serde_json::Value) -> Frames {
    packet(PacketKind::Ack, Some(id), &json!([outcome]))
}

/// Why not: as the answer, or as an event where none was asked for.
pub fn refused(Refusal { id, code, message, retry_after_ms, .. }: &Refusal) -> Frames {
    let mut fault = json!({ "ok": false, "code": code.slug(), "message": message, "retryable": code.retryable() });
    if let Some(wait) = retry_after_ms {
        fault["retryAfterMs"] = json!(wait);
    }
    match id {
        Some(id) => acknowledged(*id, &fault),
        None => {
            fault.as_object_mut().expect("it was made as one").remove("ok");
            said("error", fault)
        }
    }
}

fn packet(kind: PacketKind, id: Option<u64>, data: &serde_json::Value) -> Frames {
    let mut frames = Packet { kind, attachments: 0, namespace: MAIN, id, data: &data.to_string() }.spell([]);
    Frames::One(frames.remove(0))
}
