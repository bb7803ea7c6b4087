//! Promise 7: every bound of the section `limits` holds at its value and one past it, by every door, with the code that protocol.md names. Who
//! is refused goes on, who is closed is told why, and others notice nothing else. `outbox_bytes_max` is in `slow_client`.

mod support;

use serde_json::{Value, json};
use support::{
    TestServer, broadcast, connect, connect_to, doors, eventually, goodbye, hear,
    raw::{self, RawWebSocket, RawWebTransport, first},
    refusal, unanswered, within,
};
use switchboard::{
    client::{Client, Connector, Door},
    protocol::{ClientMessage, CloseCode, Codec, ErrorCode, LeaveReason, Payload, ServerMessage, framing::Frame},
};
use tokio::io::AsyncWriteExt as _;
use wtransport::error::ConnectionError;

fn payload(value: &Value) -> Option<Payload<'static>> {
    Some(Payload::from_serialize(value).unwrap())
}

fn join<'a>(room: &'a str, metadata: Option<Payload<'a>>) -> ClientMessage<'a> {
    ClientMessage::Join { room: room.into(), metadata }
}

fn leave(room: &str) -> ClientMessage<'_> {
    ClientMessage::Leave { room: Some(room.into()) }
}

async fn granted(client: &mut Client, message: ClientMessage<'_>) {
    within("an answer", client.request(message)).await.unwrap();
}

/// A message made by hand, of values spelled by hand.
fn message(codec: Codec, fields: &[(&str, Vec<u8>)]) -> Frame {
    match codec {
        Codec::Json => {
            let field = |(key, value): &(&str, Vec<u8>)| [format!("\"{key}\":").as_bytes(), value].concat();
            Frame::Text([b"{", &*fields.iter().map(field).collect::<Vec<_>>().join(&b','), b"}"].concat().into())
        }
        Codec::MsgPack => {
            let mut bytes = vec![0x80 | fields.len() as u8];
            for (key, value) in fields {
                bytes.push(0xa0 | key.len() as u8);
                bytes.extend_from_slice(key.as_bytes());
                bytes.extend_from_slice(value);
            }
            Frame::Binary(bytes.into())
        }
    }
}

fn text(codec: Codec, text: &str) -> Vec<u8> {
    match codec {
        Codec::Json => format!("\"{text}\"").into_bytes(),
        // The longest of the four ways, because its length is always the same.
        Codec::MsgPack => [&[0xdb][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat(),
    }
}

/// A `ping` with the id 1 that takes exactly so many bytes.
fn ping_of(codec: Codec, bytes: usize) -> Frame {
    let id = match codec {
        Codec::Json => b"1".to_vec(),
        Codec::MsgPack => vec![1],
    };
    let fields = |padding: usize| [("type", text(codec, "ping")), ("id", id.clone()), ("padding", text(codec, &"x".repeat(padding)))];
    let least = message(codec, &fields(0)).bytes().len();
    let frame = message(codec, &fields(bytes - least));
    assert_eq!(frame.bytes().len(), bytes);
    frame
}

async fn ack(client: &mut Client) {
    hear("an ack", client, |message| match message {
        ServerMessage::Ack { id: 1 } => Some(()),
        ServerMessage::Error(refusal) => panic!("{refusal:?}"),
        _ => None,
    })
    .await;
}

/// The answer to a message that was sent by hand: its refusal.
async fn refused(client: &mut Client) -> ErrorCode {
    hear("a refusal", client, |message| match message {
        ServerMessage::Error(refusal) => Some(refusal.code),
        ServerMessage::Ack { .. } => panic!("it was not refused"),
        _ => None,
    })
    .await
}

/// Sees that of all that went before, nothing is noticed by others, and that the session of a refused client goes on: the very next message that
/// the witness gets is one that the client sends now.
async fn goes_on(client: &mut Client, witness: &mut Client, room: &str) {
    let payload = Payload::from_serialize(&"still here").unwrap();
    granted(client, ClientMessage::Broadcast { room: Some(room.into()), payload }).await;
    let next = within("a message", witness.receive()).await.unwrap();
    assert!(matches!(&next, ServerMessage::Forwarded { payload, .. } if payload.parse::<String>().unwrap() == "still here"), "{next:?}");
}

/// A client and a witness in one room, both of whom have heard all there was to hear.
async fn pair(connector: &Connector, door: Door, room: &str) -> (Client, Client) {
    let mut witness = connect_to(connector, door, room).await;
    let mut client = connect_to(connector, door, room).await;
    hear("a newcomer", &mut witness, |message| matches!(message, ServerMessage::PeerJoined { .. }).then_some(())).await;
    hear("a welcome", &mut client, |message| matches!(message, ServerMessage::Welcome(_)).then_some(())).await;
    (client, witness)
}

const MESSAGE_BYTES: usize = 2048;

#[tokio::test]
async fn a_message_may_take_its_bytes_and_one_more_closes_its_connection() {
    let server = TestServer::with(|config| config.limits.message_bytes_max = MESSAGE_BYTES);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        client.send_frame(ping_of(door.codec(), MESSAGE_BYTES)).await.unwrap();
        ack(&mut client).await;
        goes_on(&mut client, &mut witness, &room).await;
        client.send_frame(ping_of(door.codec(), MESSAGE_BYTES + 1)).await.unwrap();
        assert_eq!(goodbye(&mut client).await, CloseCode::TooLarge, "{door}");
        let reason = hear("the client gone", &mut witness, |message| match message {
            ServerMessage::PeerLeft { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, LeaveReason::Removed, "{door}");
    }
}

#[tokio::test]
async fn what_came_before_a_message_that_is_too_large_is_carried_out() {
    let server = TestServer::with(|config| config.limits.message_bytes_max = MESSAGE_BYTES);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        for n in 0..200 {
            client.send(&unanswered(broadcast(n))).await.unwrap();
        }
        client.send_frame(ping_of(door.codec(), MESSAGE_BYTES + 1)).await.unwrap();
        let mut next = 0;
        hear("the client gone", &mut witness, |message| match message {
            ServerMessage::Forwarded { payload, .. } => {
                assert_eq!(payload.parse::<u32>().unwrap(), next, "{door}");
                next += 1;
                None
            }
            ServerMessage::PeerLeft { .. } => Some(()),
            other => panic!("{other:?}"),
        })
        .await;
        assert_eq!(next, 200, "{door}");
    }
}

#[tokio::test]
async fn a_message_in_fragments_may_take_as_much_as_one_in_a_piece() {
    let server = TestServer::with(|config| config.limits.message_bytes_max = MESSAGE_BYTES);
    for (subprotocol, codec, kind) in
        [("switchboard.json", Codec::Json, first::TEXT), ("switchboard.msgpack", Codec::MsgPack, first::BINARY)]
    {
        let mut socket = RawWebSocket::open(server.addresses()[0], subprotocol).await.unwrap();
        let whole = ping_of(codec, MESSAGE_BYTES);
        let (begin, end) = whole.bytes().split_at(1000);
        socket.send(kind, begin).await.unwrap();
        socket.send(first::CONTINUATION, b"").await.unwrap();
        // A control frame may stand between fragments, and is answered at once.
        socket.send(first::FINISHED | first::PING, b"here?").await.unwrap();
        let (pong, data) = within("a pong", socket.receive()).await.unwrap();
        assert_eq!((pong, &*data), (first::FINISHED | first::PONG, &b"here?"[..]));
        socket.send(first::FINISHED | first::CONTINUATION, end).await.unwrap();
        // welcome, pong, ack
        for _ in 0..3 {
            let (answer, _) = within("an answer", socket.receive()).await.unwrap();
            assert_eq!(answer, first::FINISHED | kind);
        }
        // One byte too many is announced and never sent.
        socket.send(kind, begin).await.unwrap();
        let too_many = (MESSAGE_BYTES - begin.len() + 1) as u64;
        socket.tcp.write_all(&raw::header(first::FINISHED | first::CONTINUATION, too_many)).await.unwrap();
        let (_, goodbye) = within("a goodbye", socket.receive()).await.unwrap();
        assert!(String::from_utf8_lossy(&goodbye).contains("too-large"));
        assert_eq!(socket.close_code().await, Some(CloseCode::TooLarge.number()));
    }
}

#[tokio::test]
async fn a_header_that_announces_too_much_is_refused_before_its_bytes_come() {
    let server = TestServer::with(|config| config.limits.message_bytes_max = MESSAGE_BYTES);
    for announced in [MESSAGE_BYTES as u64 + 1, 0xffff, 0xffff_ffff] {
        let mut socket = RawWebSocket::open(server.addresses()[0], "switchboard.json").await.unwrap();
        socket.tcp.write_all(&raw::header(first::FINISHED | first::TEXT, announced)).await.unwrap();
        let (_, goodbye) = within("a goodbye", socket.receive()).await.unwrap();
        assert!(String::from_utf8_lossy(&goodbye).contains("too-large"));
        assert_eq!(socket.close_code().await, Some(CloseCode::TooLarge.number()));

        let (connection, mut send, mut receive) = RawWebTransport::new(server.base()).await.open().await.unwrap();
        send.write_all(&(announced as u32).to_be_bytes()).await.unwrap();
        let goodbye = within("a goodbye", receive.quic_stream_mut().read_to_end(4096)).await.unwrap();
        assert!(String::from_utf8_lossy(&goodbye).contains("too-large"));
        send.quic_stream_mut().finish().unwrap();
        let closed = within("the end of the session", connection.closed()).await;
        let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
        assert_eq!(close.code().into_inner(), u64::from(CloseCode::TooLarge.number()));
    }
}

#[tokio::test]
async fn the_server_has_so_many_rooms_and_one_more_when_one_is_empty() {
    let server = TestServer::with(|config| config.limits.rooms_max = 2);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let (mut client, mut witness) = pair(&connector, door, "a").await;
        granted(&mut client, join("b", None)).await;
        assert_eq!(refusal(&mut client, join("c", None)).await, ErrorCode::NoMoreRooms, "{door}");
        goes_on(&mut client, &mut witness, "a").await;
        granted(&mut client, leave("b")).await;
        granted(&mut client, join("c", None)).await;
        within("a close", client.close()).await;
        within("a close", witness.close()).await;
        eventually("empty rooms to be gone", async || server.snapshot().await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_room_has_so_many_peers_and_one_more_when_one_leaves() {
    let server = TestServer::with(|config| config.limits.peers_per_room_max = 2);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        let mut third = connect(&server, door).await;
        assert_eq!(refusal(&mut third, join(&room, None)).await, ErrorCode::RoomFull, "{door}");
        granted(&mut third, join("elsewhere", None)).await;
        goes_on(&mut client, &mut witness, &room).await;
        granted(&mut client, leave(&room)).await;
        granted(&mut third, join(&room, None)).await;
    }
}

#[tokio::test]
async fn a_client_is_in_so_many_rooms_and_in_another_when_it_leaves_one() {
    let server = TestServer::with(|config| config.limits.rooms_per_client_max = 2);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        granted(&mut client, join("b", None)).await;
        assert_eq!(refusal(&mut client, join("c", None)).await, ErrorCode::TooManyRooms, "{door}");
        goes_on(&mut client, &mut witness, &room).await;
        granted(&mut client, leave("b")).await;
        granted(&mut client, join("c", None)).await;
    }
}

#[tokio::test]
async fn the_server_has_so_many_clients_and_a_place_is_given_back() {
    for door in Door::ALL {
        let server = TestServer::with(|config| config.limits.clients_max = 2);
        let connector = doors(server.base()).await;
        let (mut client, mut witness) = pair(&connector, door, "r").await;
        for refused in Door::ALL {
            let mut third = within("a connection", connector.connect(refused)).await.unwrap();
            assert_eq!(goodbye(&mut third).await, CloseCode::ServerFull, "{refused} beside {door}");
        }
        goes_on(&mut client, &mut witness, "r").await;
        client.abort();
        eventually("a place", async || {
            let mut third = within("a connection", connector.connect(door)).await.unwrap();
            let welcome = within("a welcome or not", third.hello()).await;
            // It may be the first message that meets a connection that is closing.
            welcome.is_ok()
        })
        .await;
    }
}

const METADATA_BYTES: usize = 64;

#[tokio::test]
async fn metadata_may_take_its_bytes_as_sent_and_as_json() {
    let server = TestServer::with(|config| config.limits.metadata_bytes_max = METADATA_BYTES);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let (codec, room) = (door.codec(), door.to_string());
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        let id = |id: u8| match codec {
            Codec::Json => vec![b'0' + id],
            Codec::MsgPack => vec![id],
        };
        let (at, past): (Vec<Vec<u8>>, Vec<Vec<u8>>) = match codec {
            Codec::Json => {
                let spaces = |bytes: usize| [b"[", &*vec![b' '; bytes - 2], b"]"].concat();
                (vec![text(codec, &"x".repeat(62)), spaces(64)], vec![text(codec, &"x".repeat(63)), spaces(65)])
            }
            Codec::MsgPack => {
                let bin = |bytes: u8| [&[0xc4, bytes][..], &vec![7; bytes.into()]].concat();
                let short = |bytes: u8| [&[0xd9, bytes][..], &vec![b'x'; bytes.into()]].concat();
                // By its own bytes; by those of its JSON text; by those of its base64 in JSON.
                (vec![text(codec, &"x".repeat(59)), short(62), bin(45)], vec![text(codec, &"x".repeat(60)), short(63), bin(48)])
            }
        };
        for metadata in past {
            let update = [("type", text(codec, "metadata")), ("id", id(1)), ("metadata", metadata.clone())];
            client.send_frame(message(codec, &update)).await.unwrap();
            assert_eq!(refused(&mut client).await, ErrorCode::MetadataTooLarge, "{door}");
            let join = [("type", text(codec, "join")), ("id", id(1)), ("room", text(codec, "elsewhere")), ("metadata", metadata)];
            client.send_frame(message(codec, &join)).await.unwrap();
            assert_eq!(refused(&mut client).await, ErrorCode::MetadataTooLarge, "{door}");
        }
        goes_on(&mut client, &mut witness, &room).await;
        for metadata in at {
            let update = [("type", text(codec, "metadata")), ("id", id(1)), ("metadata", metadata.clone())];
            client.send_frame(message(codec, &update)).await.unwrap();
            ack(&mut client).await;
            let update = within("an update", witness.receive()).await.unwrap();
            let ServerMessage::PeerUpdated { peer, .. } = update else { panic!("{update:?}") };
            assert_eq!(&*peer.metadata.unwrap().spell(codec), metadata, "{door}");
        }
    }
}

#[tokio::test]
async fn the_metadata_of_a_room_may_take_its_bytes_together() {
    let server = TestServer::with(|config| {
        config.limits.metadata_bytes_max = 64;
        config.limits.room_metadata_bytes_max = 100;
    });
    let connector = doors(server.base()).await;
    // A string of so many bytes with its quotes.
    let of = |bytes: usize| payload(&json!("x".repeat(bytes - 2)));
    let update = |metadata| ClientMessage::Metadata { room: None, metadata };
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        granted(&mut witness, update(of(60))).await;
        assert_eq!(refusal(&mut client, update(of(41))).await, ErrorCode::RoomFull, "{door}");
        goes_on(&mut client, &mut witness, &room).await;
        granted(&mut client, update(of(40))).await;
        // What is replaced does not count.
        granted(&mut client, update(of(39))).await;
        granted(&mut client, update(of(40))).await;
        let mut third = connect(&server, door).await;
        assert_eq!(refusal(&mut third, join(&room, of(3))).await, ErrorCode::RoomFull, "{door}");
        granted(&mut third, join(&room, None)).await;
        within("a close", witness.close()).await;
        eventually("what the peer took to be given back", async || third.request(update(of(60))).await.is_ok()).await;
        assert_eq!(refusal(&mut third, update(of(61))).await, ErrorCode::RoomFull, "{door}");
    }
}

#[tokio::test]
async fn the_name_of_a_room_may_take_its_bytes() {
    let server = TestServer::with(|config| config.limits.room_name_bytes_max = 8);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let (mut client, mut witness) = pair(&connector, door, "r").await;
        for name in ["", "123456789", "\u{e5}\u{e5}\u{e5}\u{e5}5", "a\nb", "\u{7f}"] {
            assert_eq!(refusal(&mut client, join(name, None)).await, ErrorCode::BadRoomName, "{name:?} by {door}");
        }
        for name in ["12345678", "\u{e5}\u{e5}\u{e5}\u{e5}", " "] {
            granted(&mut client, join(name, None)).await;
        }
        goes_on(&mut client, &mut witness, "r").await;
    }
}

#[tokio::test]
async fn payload_and_metadata_nest_so_deep() {
    let server = TestServer::with(|config| config.limits.nesting_max = 3);
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let (mut client, mut witness) = pair(&connector, door, &room).await;
        for deep in [json!([[[[]]]]), json!({"a": {"b": [{}]}}), json!([1, [2, [{"x": 0}]]])] {
            let message = ClientMessage::Broadcast { room: None, payload: payload(&deep).unwrap() };
            assert_eq!(refusal(&mut client, message).await, ErrorCode::TooDeep, "{deep} by {door}");
            let message = ClientMessage::Metadata { room: None, metadata: payload(&deep) };
            assert_eq!(refusal(&mut client, message).await, ErrorCode::TooDeep, "{deep} by {door}");
            assert_eq!(refusal(&mut client, join("elsewhere", payload(&deep))).await, ErrorCode::TooDeep, "{deep} by {door}");
        }
        goes_on(&mut client, &mut witness, &room).await;
        for (n, shallow) in [json!([[[]]]), json!({"a": {"b": [1]}}), json!([1, [2, {"x": 0}]])].into_iter().enumerate() {
            granted(&mut client, ClientMessage::Broadcast { room: None, payload: payload(&shallow).unwrap() }).await;
            granted(&mut client, ClientMessage::Metadata { room: None, metadata: payload(&shallow) }).await;
            granted(&mut witness, join(&format!("{door} {n}"), payload(&shallow))).await;
            granted(&mut witness, leave(&format!("{door} {n}"))).await;
        }
    }
}
