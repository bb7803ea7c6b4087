//! One room for clients of every dialect that can share one: each sees the others come and go, and signals pass between any two of them, with ids
//! that each of them can use.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard::{client::Door, protocol::Codec};
use tokio_tungstenite::tungstenite::Message;

use self::support::{RawClient, TestServer, eventually, foreign::ForeignClient};

const ROOM: &str = "everybody";

/// What a client may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Native(Door),
    /// Perhaps with a name of its own.
    Classic(Option<&'static str>),
    Matchbox,
    SocketIo,
}

/// All that there are, some of them twice.
const KINDS: [Kind; 10] = [
    Kind::Native(Door::WebSocket(Codec::Json)),
    Kind::Classic(None),
    Kind::Matchbox,
    Kind::SocketIo,
    Kind::Native(Door::WebTransport),
    Kind::Classic(Some("anna")),
    Kind::Native(Door::WebSocket(Codec::MsgPack)),
    Kind::Matchbox,
    Kind::SocketIo,
    Kind::Classic(Some("anna")),
];

/// A client in the room.
struct Member {
    kind: Kind,
    socket: Socket,
    /// What it calls the others, by their numbers.
    known: BTreeMap<usize, String>,
}

enum Socket {
    Native(RawClient),
    Foreign(ForeignClient),
}

/// What a client hears of the others, with the id that it hears.
#[derive(Debug, PartialEq)]
enum Event {
    Came(String),
    Left(String),
    Signal { kind: &'static str, from: String, text: String },
}

impl Member {
    /// Enters the room, and says whom it was told of, if its dialect tells.
    async fn enter(server: &TestServer, kind: Kind) -> (Self, Option<Vec<String>>) {
        let ids = |peers: &Value, id: fn(&Value) -> &Value| -> Option<Vec<String>> {
            peers.as_array()?.iter().map(|peer| Some(id(peer).as_str()?.to_owned())).collect()
        };
        let (socket, told) = match kind {
            Kind::Native(door) => {
                let mut client = RawClient::welcomed(server, door).await;
                let heard = client.done(json!({ "type": "join", "room": ROOM })).await;
                let told = ids(&heard[0]["peers"], |peer| &peer["peerId"]).expect("it is told who is there");
                (Socket::Native(client), Some(told))
            }
            Kind::Classic(name) => {
                let mut client = ForeignClient::connect(server, "/").await;
                client.say(json!({ "type": "announce", "hash": ROOM, "peerId": name })).await;
                let told = ids(&client.hear().await["peers"], |peer| peer).expect("it is told who is there");
                (Socket::Foreign(client), Some(told))
            }
            Kind::SocketIo => {
                let mut client = ForeignClient::connect(server, "/socket.io/?EIO=4&transport=websocket").await;
                client.send(Message::text("40")).await;
                for answer in ["0{", "40{"] {
                    let heard = client.receive().await;
                    assert!(heard.to_text().unwrap().starts_with(answer), "{heard}");
                }
                client.send(emitted("announce", &json!({ "hash": ROOM }))).await;
                let told = ids(&socketio_message(&mut client).await["peers"], |peer| peer).expect("it is told who is there");
                (Socket::Foreign(client), Some(told))
            }
            Kind::Matchbox => {
                let mut client = ForeignClient::connect(server, &format!("/matchbox/{ROOM}")).await;
                assert!(client.hear().await["IdAssigned"].is_string());
                (Socket::Foreign(client), None)
            }
        };
        (Self { kind, socket, known: BTreeMap::new() }, told)
    }

    /// Sends a signal as programs of its kind do.
    async fn signal(&mut self, kind: &'static str, to: &str, text: &str) {
        let payload = match kind {
            "ice-candidate" => json!({ "candidate": text, "sdpMid": "0", "sdpMLineIndex": 0 }),
            _ => json!({ "type": kind, "sdp": text }),
        };
        match (&mut self.socket, self.kind) {
            (Socket::Native(client), _) => {
                let heard = client.done(json!({ "type": kind, "to": to, "payload": payload })).await;
                assert!(heard.is_empty(), "nothing else happens: {heard:?}");
            }
            (Socket::Foreign(client), Kind::Matchbox) => {
                let data = match kind {
                    "offer" => json!({ "Offer": text }),
                    "answer" => json!({ "Answer": text }),
                    _ => json!({ "IceCandidate": payload.to_string() }),
                };
                client.say(json!({ "Signal": { "receiver": to, "data": data } })).await;
            }
            (Socket::Foreign(client), Kind::SocketIo) => {
                client.send(emitted(kind, &json!({ "targetPeer": to, kind: payload, "candidate": payload }))).await;
            }
            (Socket::Foreign(client), _) => {
                // The tutorials have a field of this name for a candidate, and either a field or the text itself for a description.
                let field = if kind == "ice-candidate" { "candidate" } else { kind };
                client.say(json!({ "type": kind, "targetPeer": to, field: payload })).await;
            }
        }
    }

    /// The next event.
    async fn hear(&mut self) -> Event {
        let message = match (&mut self.socket, self.kind) {
            (Socket::Native(client), _) => client.hear().await,
            (Socket::Foreign(client), Kind::SocketIo) => socketio_message(client).await,
            (Socket::Foreign(client), _) => client.hear().await,
        };
        let heard = if let Kind::Matchbox = self.kind { matchbox_event(&message) } else { event(&message) };
        heard.unwrap_or_else(|| panic!("{:?} understands {message}", self.kind))
    }

    async fn leave(self) {
        match self.socket {
            Socket::Native(mut client) => drop(client.done(json!({ "type": "leave" })).await),
            Socket::Foreign(client) => client.close().await,
        }
    }
}

/// An event as a Socket.IO client sends it.
fn emitted(event: &str, message: &Value) -> Message {
    Message::text(format!("42{}", json!([event, message])))
}

/// The next event of a Socket.IO client, as the tutorials' clients have it: its name is the type.
async fn socketio_message(client: &mut ForeignClient) -> Value {
    loop {
        let packet = client.receive().await;
        let packet = packet.to_text().expect("text");
        // Engine.IO asks whether it is still there.
        if packet == "2" {
            client.send(Message::text("3")).await;
            continue;
        }
        let event = packet.strip_prefix("42").and_then(|event| serde_json::from_str::<(String, Value)>(event).ok());
        let (name, mut message) = event.unwrap_or_else(|| panic!("an event: {packet}"));
        message["type"] = name.into();
        return message;
    }
}

/// What native and classic clients hear: the words are nearly the same.
fn event(message: &Value) -> Option<Event> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = match message["type"].as_str()? {
        "peer-joined" | "new-peer" => return text(&message["peerId"]).map(Event::Came),
        "peer-left" => return text(&message["peerId"]).map(Event::Left),
        "offer" => "offer",
        "answer" => "answer",
        "ice-candidate" => "ice-candidate",
        _ => return None,
    };
    let from = text(&message["from"]).or_else(|| text(&message["fromPeer"]))?;
    // Programs look for a description and a candidate where each of the vocabularies may have them.
    let said = [&message["payload"], message].into_iter().find(|said| said.is_object())?;
    let (field, inner) = if kind == "ice-candidate" { ("candidate", "candidate") } else { (kind, "sdp") };
    Some(Event::Signal { kind, from, text: text(&said[field][inner]).or_else(|| text(&said[inner]))? })
}

fn matchbox_event(message: &Value) -> Option<Event> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (name, about) = message.as_object().filter(|message| message.len() == 1)?.iter().next()?;
    match name.as_str() {
        "NewPeer" => text(about).map(Event::Came),
        "PeerLeft" => text(about).map(Event::Left),
        "Signal" => {
            let (name, data) = about["data"].as_object().filter(|data| data.len() == 1)?.iter().next()?;
            let (kind, said) = match name.as_str() {
                "Offer" => ("offer", text(data)?),
                "Answer" => ("answer", text(data)?),
                "IceCandidate" => ("ice-candidate", text(&serde_json::from_str::<Value>(data.as_str()?).ok()?["candidate"])?),
                _ => return None,
            };
            Some(Event::Signal { kind, from: text(&about["sender"])?, text: said })
        }
        _ => None,
    }
}

/// One sends the other a signal, who knows it by an id that it can answer to.
async fn pass(kind: &'static str, from: &mut Member, to_id: &str, to: &mut Member) -> String {
    let said = format!("{kind} of {:?} for {:?}", from.kind, to.kind);
    from.signal(kind, to_id, &said).await;
    match to.hear().await {
        Event::Signal { kind: heard, from, text } if (heard, &text) == (kind, &said) => from,
        other => panic!("{said} is not {other:?}"),
    }
}

async fn meet(server: &TestServer, kinds: impl Iterator<Item = Kind>) {
    let mut members: Vec<Member> = vec![];
    for (number, kind) in kinds.enumerate() {
        // Those who are there read meanwhile, or would be taken for dead when another one wants their name.
        let ((mut newcomer, told), heard) = tokio::join!(Member::enter(server, kind), join_all(members.iter_mut().map(Member::hear)));
        eventually("it is in", async || server.snapshot().await.values().any(|there| there.len() == number + 1)).await;
        for ((there, member), heard) in members.iter_mut().enumerate().zip(heard) {
            let Event::Came(newcomer_id) = heard else { panic!("{:?} hears of {kind:?}", member.kind) };
            // Who is there makes the offer, so that it is of no consequence who is told of whom.
            let id = pass("offer", member, &newcomer_id, &mut newcomer).await;
            for (kind, is_back) in [("answer", true), ("ice-candidate", true), ("ice-candidate", false), ("offer", true)] {
                if is_back {
                    assert_eq!(pass(kind, &mut newcomer, &id, member).await, newcomer_id);
                } else {
                    assert_eq!(pass(kind, member, &newcomer_id, &mut newcomer).await, id);
                }
            }
            member.known.insert(number, newcomer_id);
            newcomer.known.insert(there, id);
        }
        let known: BTreeSet<&String> = newcomer.known.values().collect();
        assert_eq!(known.len(), number, "each has an id of its own");
        if let Some(told) = &told {
            assert_eq!(told.iter().collect::<BTreeSet<_>>(), known, "{kind:?} was told of those who were there");
        }
        members.push(newcomer);
    }
    for number in 0..members.len() {
        members.remove(0).leave().await;
        for member in &mut members {
            assert_eq!(member.hear().await, Event::Left(member.known[&number].clone()), "{:?}", member.kind);
        }
    }
}

#[tokio::test]
async fn everybody_meets_everybody_whatever_they_speak() {
    let server = TestServer::start();
    meet(&server, KINDS.into_iter()).await;
    // Once more, so that each comes before each.
    eventually("the room is empty", async || server.snapshot().await.is_empty()).await;
    meet(&server, KINDS.into_iter().rev()).await;
}
