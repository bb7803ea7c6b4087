//! The speech of Switchboard, by each of its doors.

use std::{borrow::Cow, sync::Arc};

use reqwest::Url;
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::{Address, Comings, Endpoint, Handshake, LoadError, Member, Presence, Signal, Speech, Wire};
use crate::{
    client::{Connector, Door, Transport},
    protocol::{ClientMessage, Codec, Kind, Payload, PeerId, Request, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ServerMessage},
};

/// The speech of Switchboard. With several doors, client 0 takes the first, client 1 the second, and so on in turns.
pub struct Native {
    ways: Vec<Way>,
    doors: Vec<Door>,
}

enum Way {
    WebSocket(Handshake),
    WebTransport(Endpoint, Url),
}

impl Native {
    /// Finds out what these doors take. Called within a runtime.
    pub async fn new(connector: &Connector, doors: &[Door]) -> Result<Self, LoadError> {
        let mut ways = Vec::with_capacity(doors.len());
        for door in doors {
            let transport = connector.discovery().transport(*door);
            ways.push(match transport.ok_or_else(|| LoadError::speech(format!("the server offers no {door}")))? {
                Transport::WebSocket { url } => Way::WebSocket(Handshake {
                    address: connector.resolve(url).await?[0],
                    host: host(url),
                    path: url.path().to_owned(),
                    subprotocol: Some(match door.codec() {
                        Codec::Json => SUBPROTOCOL_JSON.to_owned(),
                        Codec::MsgPack => SUBPROTOCOL_MSGPACK.to_owned(),
                    }),
                    headers: vec![],
                    tls: if url.scheme() == "wss" { Some((Arc::new(connector.tls(b"http/1.1")?), name(url)?)) } else { None },
                    binary: door.codec() == Codec::MsgPack,
                }),
                Transport::WebTransport { url, certificate_hashes } => {
                    let tls = if certificate_hashes.is_empty() { Some(connector.tls(b"h3")?) } else { None };
                    Way::WebTransport(Endpoint::new(connector.resolve(url).await?[0], tls, certificate_hashes)?, url.clone())
                }
            });
        }
        Ok(Self { ways, doors: doors.to_owned() })
    }

    fn spell(&self, who: usize, id: Option<u64>, message: ClientMessage<'_>) -> Vec<u8> {
        Request { id, message }.spell(self.door(who).codec())
    }

    fn door(&self, number: usize) -> Door {
        self.doors[number % self.doors.len()]
    }
}

impl Speech for Native {
    fn name(&self) -> String {
        let doors: Vec<_> = self.doors.iter().map(Door::to_string).collect();
        format!("Switchboard, {}", doors.join(" and "))
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = match &self.ways[number % self.ways.len()] {
            Way::WebSocket(handshake) => Wire::websocket(handshake).await?,
            Way::WebTransport(endpoint, url) => Wire::webtransport(endpoint, url).await?,
        };
        wire.sender.send(&self.spell(number, Some(0), ClientMessage::Join { room: room.into(), metadata: None })).await?;
        let mut id = String::new();
        loop {
            let frame = wire.receiver.next().await?;
            match ServerMessage::decode(self.door(number).codec(), &frame.into()) {
                Ok(ServerMessage::Welcome(welcome)) => id = welcome.peer_id.to_string(),
                Ok(ServerMessage::Ack { id: 0 }) => break,
                Ok(ServerMessage::Error(refusal)) => return Err(LoadError::speech(format!("join is refused: {}", refusal.message))),
                Ok(ServerMessage::Goodbye { code, .. }) => {
                    return Err(LoadError::speech(format!("the server says goodbye: {}", code.slug())));
                }
                Ok(_) => {}
                Err(malformed) => return Err(LoadError::speech(format!("not a message of a server: {malformed}"))),
            }
        }
        Ok(Member { address: Address { number, room: room.to_owned(), id }, wire })
    }

    fn forward(&self, signal: Signal, from: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        let kind = match signal {
            Signal::Offer => Kind::Offer,
            Signal::Candidate => Kind::IceCandidate,
        };
        let payload = Payload::from_serialize(payload).ok()?;
        Some(self.spell(from.number, None, ClientMessage::Forward { kind, to: PeerId::parse(&to.id)?, room: None, payload }))
    }

    fn broadcast(&self, from: &Address, payload: &Value) -> Option<Vec<u8>> {
        let payload = Payload::from_serialize(payload).ok()?;
        Some(self.spell(from.number, None, ClientMessage::Broadcast { room: None, payload }))
    }

    fn comings(&self, who: &Address) -> Option<Comings> {
        let room = || Cow::Borrowed(&*who.room);
        let (joined, left): (&[u8], &[u8]) = match self.door(who.number).codec() {
            Codec::Json => (br#""type":"joined""#, br#""type":"left""#),
            Codec::MsgPack => (b"\xa4type\xa6joined", b"\xa4type\xa4left"),
        };
        Some(Comings {
            join: self.spell(who.number, None, ClientMessage::Join { room: room(), metadata: None }),
            leave: self.spell(who.number, None, ClientMessage::Leave { room: Some(room()) }),
            joined: joined.to_owned(),
            left: left.to_owned(),
        })
    }

    fn presence<'a>(&self, frame: &'a [u8]) -> Option<Presence<'a>> {
        const HEX_DIGITS: usize = 32;
        // The type is the first key; further back the bytes may be a room's name.
        let head = &frame[..frame.len().min(32)];
        let has_joined = memchr::memmem::find(head, b"peer-joined").is_some();
        if !has_joined && memchr::memmem::find(head, b"peer-left").is_none() {
            return None;
        }
        // What stands between key and value: `":"`, or the head of a string of 32 bytes.
        let between = if frame.first() == Some(&b'{') { 3 } else { 2 };
        let at = memchr::memmem::rfind(frame, b"peerId")? + b"peerId".len() + between;
        let id = frame.get(at..at + HEX_DIGITS)?;
        Some(if has_joined { Presence::Joined(id) } else { Presence::Left(id) })
    }
}

/// As the `Host` header has it.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// As a certificate has it.
fn name(url: &Url) -> Result<ServerName<'static>, LoadError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    ServerName::try_from(host.to_owned()).map_err(|error| LoadError::speech(format!("{host:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{LeaveReason, Peer, RoomId};

    #[test]
    fn a_certificate_has_the_name_or_the_address_of_the_url() {
        for (url, expected) in [
            ("wss://a.example/ws", "a.example"),
            ("wss://a.example:81", "a.example"),
            ("wss://[::1]/ws", "::1"),
            ("wss://[::1]:81/ws", "::1"),
        ] {
            assert_eq!(name(&Url::parse(url).unwrap()).unwrap(), ServerName::try_from(expected).unwrap(), "{url}");
        }
    }

    #[test]
    fn presence_is_recognised_in_both_codecs_and_nothing_else_is() {
        let native = Native { ways: vec![], doors: vec![] };
        let (room, peer_id) = (RoomId::parse("peer-left peerId", 99).unwrap(), PeerId::random());
        let hex = peer_id.to_string();
        for codec in [Codec::Json, Codec::MsgPack] {
            let joined = ServerMessage::PeerJoined { room: room.clone(), peer: Peer { peer_id, metadata: None, user: None, name: None } }
                .spell(codec);
            assert_eq!(native.presence(&joined), Some(Presence::Joined(hex.as_bytes())));
            let left = ServerMessage::PeerLeft { room: room.clone(), peer_id, reason: LeaveReason::Left }.spell(codec);
            assert_eq!(native.presence(&left), Some(Presence::Left(hex.as_bytes())));
            let own = ServerMessage::Left { room: room.clone(), reason: LeaveReason::Left }.spell(codec);
            assert_eq!(native.presence(&own), None);
        }
    }
}
