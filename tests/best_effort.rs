//! Best effort: messages in WebTransport datagrams, which are forwarded as datagrams where they can be, and are the only ones that may be
//! lost. So a test sends one again until it arrives, and takes those that arrive more than once.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{DEADLINE, RawClient, TestServer, spell, within};
use switchboard::{
    client::Door,
    protocol::{Codec, PeerId, framing::Frame},
};

/// How long a datagram may take before the next is sent.
const PATIENCE: Duration = Duration::from_millis(200);

/// Two clients in the room "r", the first on WebTransport, both of which know.
async fn two_in_a_room(server: &TestServer, door: Door) -> (RawClient, RawClient) {
    let mut anna = RawClient::joined(server, Door::WebTransport, "r").await;
    let ben = RawClient::joined(server, door, "r").await;
    assert_eq!(anna.hear().await["type"], "peer-joined");
    (anna, ben)
}

async fn say_datagram(client: &mut RawClient, bytes: &[u8]) {
    within("a datagram to be sent", client.client.send_frame(Frame::Datagram(bytes.to_vec().into()))).await.expect("a connection");
}

/// Sends a datagram until the client hears what it waits for.
async fn until_answered(client: &mut RawClient, bytes: &[u8], is_answer: impl Fn(&Value) -> bool) -> (Frame, Value) {
    for _ in 0..DEADLINE.as_millis() / PATIENCE.as_millis() {
        say_datagram(client, bytes).await;
        let answered = async {
            loop {
                let heard = client.hear_frame().await;
                if is_answer(&heard.1) {
                    return heard;
                }
            }
        };
        if let Ok(heard) = tokio::time::timeout(PATIENCE, answered).await {
            return heard;
        }
    }
    panic!("not within {DEADLINE:?}: an answer to a datagram");
}

/// Sends a message in a datagram until the other client hears something.
async fn until_heard(from: &mut RawClient, to: &mut RawClient, message: &Value) -> (Frame, Value) {
    for _ in 0..DEADLINE.as_millis() / PATIENCE.as_millis() {
        say_datagram(from, &spell(message, Codec::MsgPack)).await;
        if let Ok(heard) = tokio::time::timeout(PATIENCE, to.hear_frame()).await {
            return heard;
        }
    }
    panic!("not within {DEADLINE:?}: a datagram");
}

#[tokio::test]
async fn a_datagram_goes_on_as_one_to_webtransport_and_as_a_frame_to_the_others() {
    for door in Door::ALL {
        let server = TestServer::start();
        let (mut anna, mut ben) = two_in_a_room(&server, door).await;
        let broadcast = json!({"type": "message", "payload": {"x": [1, 2.5]}, "from": ben.peer_id});
        let (frame, heard) = until_heard(&mut anna, &mut ben, &broadcast).await;
        let expected = json!({"type": "message", "from": anna.peer_id, "room": "r", "bestEffort": true, "payload": {"x": [1, 2.5]}});
        assert_eq!(heard, expected, "{door}");
        let as_specified = match door {
            Door::WebTransport => matches!(frame, Frame::Datagram(_)),
            Door::WebSocket(Codec::MsgPack) => matches!(frame, Frame::Binary(_)),
            Door::WebSocket(Codec::Json) => matches!(frame, Frame::Text(_)),
        };
        assert!(as_specified, "{door}: {frame:?}");

        let (mut anna, mut carl) = (anna, RawClient::joined(&server, door, "s").await);
        anna.done(json!({"type": "join", "room": "s"})).await;
        assert_eq!(carl.hear().await["type"], "peer-joined");
        let directed = json!({"type": "message", "to": carl.peer_id, "room": "s", "payload": null});
        let (_, heard) = until_heard(&mut anna, &mut carl, &directed).await;
        let expected = json!({
            "type": "message", "from": anna.peer_id, "room": "s", "to": carl.peer_id, "bestEffort": true, "payload": null,
        });
        assert_eq!(heard, expected, "{door}");
    }
}

#[tokio::test]
async fn what_was_not_sent_as_a_datagram_is_not_marked() {
    let server = TestServer::start();
    let (mut anna, mut ben) = two_in_a_room(&server, Door::WebTransport).await;
    anna.done(json!({"type": "message", "payload": 1})).await;
    let (frame, heard) = ben.hear_frame().await;
    assert!(matches!(frame, Frame::Binary(_)));
    assert_eq!(heard, json!({"type": "message", "from": anna.peer_id, "room": "r", "payload": 1}));
}

#[tokio::test]
async fn a_pong_does_not_count_datagrams() {
    let server = TestServer::start();
    let (mut anna, mut ben) = two_in_a_room(&server, Door::WebTransport).await;
    until_heard(&mut anna, &mut ben, &json!({"type": "message", "payload": 1})).await;
    // The hello, the join and the ping itself.
    assert_eq!(anna.done(json!({"type": "ping"})).await, [json!({"type": "pong", "received": 3})]);
}

#[tokio::test]
async fn the_answer_to_a_datagram_comes_on_the_stream() {
    let server = TestServer::start();
    let (mut anna, ben) = two_in_a_room(&server, Door::WebTransport).await;
    let stranger = RawClient::joined(&server, Door::WebTransport, "s").await;
    let deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
    for (id, message, code) in [
        (1, json!({"type": "message", "payload": 1}), None),
        (2, json!({"type": "message", "to": ben.peer_id, "payload": 1}), None),
        (3, json!({"type": "message", "to": stranger.peer_id, "payload": 1}), Some("no-such-peer")),
        (4, json!({"type": "message", "to": PeerId::random().to_string(), "payload": 1}), Some("no-such-peer")),
        (5, json!({"type": "message", "room": "s", "payload": 1}), Some("not-in-room")),
        (6, json!({"type": "message", "payload": deep}), Some("too-deep")),
        (7, json!({"type": "message"}), Some("bad-message")),
    ] {
        let mut said = message.clone();
        said["id"] = id.into();
        let (frame, answer) = until_answered(&mut anna, &spell(&said, Codec::MsgPack), |answer| answer["id"] == id).await;
        assert!(matches!(frame, Frame::Binary(_)), "{said}: {frame:?}");
        assert_eq!(answer.get("code").and_then(Value::as_str), code, "{said}: {answer}");
        assert_eq!(answer["type"], if code.is_some() { "error" } else { "ack" }, "{said}");
    }
    // Without an id it is answered only where it is refused.
    let refused = json!({"type": "message", "room": "s", "payload": 1});
    let (frame, answer) =
        until_answered(&mut anna, &spell(&refused, Codec::MsgPack), |answer| answer["type"] == "error" && answer.get("id").is_none()).await;
    assert!(matches!(frame, Frame::Binary(_)), "{frame:?}");
    assert_eq!(answer["code"], "not-in-room");
}

#[tokio::test]
async fn only_a_message_may_be_a_datagram() {
    let server = TestServer::start();
    let (mut anna, mut ben) = two_in_a_room(&server, Door::WebTransport).await;
    for (id, message) in [
        json!({"type": "hello"}),
        json!({"type": "join", "room": "s"}),
        json!({"type": "leave"}),
        json!({"type": "offer", "to": ben.peer_id, "payload": 1}),
        json!({"type": "answer", "to": ben.peer_id, "payload": 1}),
        json!({"type": "ice-candidate", "to": ben.peer_id, "payload": 1}),
        json!({"type": "metadata", "metadata": 1}),
        json!({"type": "ping"}),
        json!({"type": "dance"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut said = message.clone();
        said["id"] = id.into();
        let (frame, answer) = until_answered(&mut anna, &spell(&said, Codec::MsgPack), |answer| answer["id"] == id).await;
        assert!(matches!(frame, Frame::Binary(_)), "{said}: {frame:?}");
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad-message")), "{said}");
    }
    for bytes in [&b""[..], b"dance", b"\x81\xa4type"] {
        let nameless = |answer: &Value| answer.get("id").is_none();
        let (_, answer) = until_answered(&mut anna, bytes, nameless).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad-message")), "{bytes:x?}");
    }
    ben.hears_nothing().await;
    let snapshot = server.snapshot().await;
    assert_eq!(snapshot.values().map(Vec::len).collect::<Vec<_>>(), [2], "nobody has joined or left: {snapshot:?}");
}

#[tokio::test]
async fn a_message_too_large_for_a_datagram_on_its_way_on_goes_as_a_frame() {
    let server = TestServer::with(|config| config.limits.room_name_bytes_max = 1024);
    let room = "r".repeat(1000);
    let mut anna = RawClient::joined(&server, Door::WebTransport, &room).await;
    let mut ben = RawClient::joined(&server, Door::WebTransport, &room).await;
    assert_eq!(anna.hear().await["type"], "peer-joined");
    // With the name of the room it is larger than any packet, which takes 1,452 bytes at the most.
    let payload = "x".repeat(700);
    let (frame, heard) = until_heard(&mut anna, &mut ben, &json!({"type": "message", "payload": payload})).await;
    assert!(matches!(frame, Frame::Binary(_)));
    assert_eq!(heard, json!({"type": "message", "from": anna.peer_id, "room": room, "bestEffort": true, "payload": payload}));
}

#[tokio::test]
async fn a_message_too_large_for_a_datagram_at_its_sender_is_a_message_as_any_other() {
    let server = TestServer::start();
    let (mut anna, mut ben) = two_in_a_room(&server, Door::WebTransport).await;
    let payload = "x".repeat(2000);
    say_datagram(&mut anna, &spell(&json!({"type": "message", "payload": payload}), Codec::MsgPack)).await;
    assert_eq!(ben.hear().await, json!({"type": "message", "from": anna.peer_id, "room": "r", "payload": payload}));
    assert_eq!(anna.done(json!({"type": "ping"})).await, [json!({"type": "pong", "received": 4})]);
}

#[tokio::test]
async fn a_datagram_is_never_the_first_message() {
    let server = TestServer::start();
    for _ in 0..10 {
        let mut anna = RawClient::silent(&server, Door::WebTransport).await;
        for _ in 0..3 {
            say_datagram(&mut anna, &spell(&json!({"type": "hello", "id": 7}), Codec::MsgPack)).await;
        }
        let heard = anna.done(json!({"type": "hello"})).await;
        assert!(matches!(&heard[..], [welcome] if welcome["type"] == "welcome"), "{heard:?}");
        // Those that were carried out behind it were refused as what they are.
        for other in anna.done(json!({"type": "join", "room": "r"})).await {
            assert!(other["type"] == "joined" || (other["id"] == 7 && other["code"] == "bad-message"), "{other}");
        }
    }
}
