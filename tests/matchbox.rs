//! Clients of matchbox as their sockets speak: rooms by their path, groups by `?next=N`, and the rooms of everybody else.

mod support;

use serde_json::{Value, json};
use switchboard::{
    client::Door,
    config::ForeignDialect,
    protocol::{Codec, PeerId},
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};

use self::support::{RawClient, TestServer, eventually, foreign::ForeignClient, http, within};

/// A client that is in its room, and the id that it was given.
async fn joined(server: &TestServer, path: &str) -> (ForeignClient, String) {
    let mut client = ForeignClient::connect(server, path).await;
    let assigned = client.hear().await;
    let id = assigned["IdAssigned"].as_str().unwrap_or_else(|| panic!("the id comes first: {assigned}")).to_owned();
    let peer_id = PeerId::parse(&plain(&id)).expect("a UUID is an id of ours");
    // The newcomer itself is told nothing of its room.
    eventually("it is in its room", async || server.snapshot().await.values().flatten().any(|there| *there == peer_id)).await;
    (client, id)
}

/// An id as other dialects have it.
fn plain(uuid: &str) -> String {
    let parts: Vec<_> = uuid.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
    uuid.replace('-', "")
}

/// An id of another dialect as it is here.
fn uuid(plain: &str) -> String {
    [&plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..]].join("-")
}

fn to(receiver: &str, data: Value) -> Value {
    json!({ "Signal": { "receiver": receiver, "data": data } })
}

fn from(sender: &str, data: Value) -> Value {
    json!({ "Signal": { "sender": sender, "data": data } })
}

/// The first hears of the other, and they have heard of nobody else: what one tells the other is the next that it hears.
async fn are_together((first, first_id): &mut (ForeignClient, String), (other, other_id): &mut (ForeignClient, String)) {
    first.say(to(other_id, json!("one"))).await;
    assert_eq!(other.hear().await, from(first_id, json!("one")));
    other.say(to(first_id, json!("two"))).await;
    assert_eq!(first.hear().await, from(other_id, json!("two")));
}

#[tokio::test]
async fn who_was_there_hears_of_the_newcomer_and_signals_pass_both_ways() {
    let server = TestServer::start();
    let (mut anna, anna_id) = joined(&server, "/matchbox/r").await;
    let (mut other, _) = joined(&server, "/matchbox/s").await;
    let (mut bert, bert_id) = joined(&server, "/matchbox/r").await;
    assert_eq!(anna.hear().await, json!({ "NewPeer": bert_id }));

    for (data, answer) in [
        (json!({ "Offer": "v=0\r\n\"ü\"" }), json!({ "Answer": "v=1" })),
        (json!({ "IceCandidate": r#"{"candidate":"candidate:1 1 udp","sdpMid":null,"n":1.50}"# }), json!({ "IceCandidate": "null" })),
        (json!({ "IceCandidate": "no JSON" }), json!({ "IceCandidate": r#"{"candidate":{}}"# })),
        (json!({ "Offer": 7 }), json!({ "Offer": "v=0", "more": 1 })),
        (json!("123"), json!([null, { "x": 1 }])),
    ] {
        anna.say(to(&bert_id, data.clone())).await;
        assert_eq!(bert.hear().await, from(&anna_id, data));
        bert.say(to(&anna_id.to_uppercase(), answer.clone())).await;
        assert_eq!(anna.hear().await, from(&bert_id, answer));
    }

    other.say(to(&anna_id, json!("from another room"))).await;
    bert.close().await;
    assert_eq!(anna.hear().await, json!({ "PeerLeft": bert_id }), "nobody is reached from another room");
    let (_carl, carl_id) = joined(&server, "/matchbox/r").await;
    assert_eq!(anna.hear().await, json!({ "NewPeer": carl_id }));
}

#[tokio::test]
async fn what_is_no_request_is_ignored() {
    let server = TestServer::start();
    let mut anna = joined(&server, "/matchbox/r").await;
    let mut bert = joined(&server, "/matchbox/r").await;
    assert_eq!(anna.0.hear().await, json!({ "NewPeer": bert.1 }));
    for frame in [
        Message::text(r#""KeepAlive""#),
        Message::text(""),
        Message::text("no JSON"),
        Message::text(r#"{"Signal":{"data":1}}"#),
        Message::text(format!(r#"{{"Signal":{{"receiver":"{}"}}}}"#, bert.1)),
        Message::text(r#"{"Signal":{"receiver":"nobody","data":1}}"#),
        Message::text(to(&"0".repeat(32), json!(1)).to_string()),
        Message::text(to(&anna.1, json!("to itself")).to_string()),
        Message::text(to(&bert.1, json!(1)).to_string().replace(":1", &format!(":{}{}", "[".repeat(80), "]".repeat(80)))),
        Message::text(r#"{"Dance":1}"#),
        Message::binary(vec![0, 255]),
    ] {
        anna.0.send(frame).await;
    }
    are_together(&mut anna, &mut bert).await;
}

#[tokio::test]
async fn a_room_is_named_by_the_path_and_the_world_is_the_room_without_a_name() {
    let server = TestServer::start();
    for (path, room) in [
        ("/matchbox", "world"),
        ("/matchbox/", "world"),
        ("/matchbox/world", "world"),
        ("/matchbox/world?nextt=2&x", "world"),
        ("/matchbox/r%C3%BCm%2f%20%3Fnext=2", "rüm/ ?next=2"),
        ("/matchbox/a+b", "a+b"),
    ] {
        let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), room).await;
        let (client, id) = joined(&server, path).await;
        assert_eq!(native.hear().await["peerId"], plain(&id), "{path}");
        client.close().await;
        assert_eq!(native.hear().await["type"], "peer-left", "{path}");
    }
}

#[tokio::test]
async fn with_next_groups_of_so_many_are_made_in_the_order_in_which_they_come() {
    let server = TestServer::start();
    // A group of three fills while those of two do: the name and the number together are the queue.
    let mut threes = vec![];
    let mut pairs = vec![];
    for _ in 0..3 {
        let mut a = joined(&server, "/matchbox/q?next=2").await;
        threes.push(joined(&server, "/matchbox/q?next=3").await);
        let mut elsewhere = joined(&server, "/matchbox/q").await;
        let mut b = joined(&server, "/matchbox/q?next=2").await;
        assert_eq!(a.0.hear().await, json!({ "NewPeer": b.1 }));
        for (client, id) in threes.iter_mut().chain([&mut elsewhere]) {
            a.0.say(to(id, json!("from another group"))).await;
            client.say(to(&a.1, json!("from another group"))).await;
        }
        are_together(&mut a, &mut b).await;
        pairs.push((a, b));
    }
    for (a, b) in &mut pairs {
        are_together(a, b).await;
    }
    let [first, second, third] = &mut threes[..] else { panic!("three of them") };
    assert_eq!(first.0.hear().await, json!({ "NewPeer": second.1 }));
    for (client, _) in [first, second] {
        assert_eq!(client.hear().await, json!({ "NewPeer": third.1 }));
    }
}

#[tokio::test]
async fn a_group_that_was_full_is_left_alone_and_hears_who_leaves_it() {
    let server = TestServer::start();
    let (mut a, a_id) = joined(&server, "/matchbox/q?next=2").await;
    let (b, b_id) = joined(&server, "/matchbox/q?next=2").await;
    assert_eq!(a.hear().await, json!({ "NewPeer": b_id }));
    b.close().await;
    assert_eq!(a.hear().await, json!({ "PeerLeft": b_id }));
    let (mut c, c_id) = joined(&server, "/matchbox/q?next=2").await;
    let (_d, d_id) = joined(&server, "/matchbox/q?next=2").await;
    assert_eq!(c.hear().await, json!({ "NewPeer": d_id }));
    let mut groups: Vec<Vec<_>> = server.snapshot().await.into_values().collect();
    groups.iter_mut().for_each(|group| group.sort());
    groups.sort_by_key(Vec::len);
    let group = |ids: &[&String]| {
        let mut group: Vec<_> = ids.iter().map(|id| PeerId::parse(&plain(id)).expect("an id")).collect();
        group.sort();
        group
    };
    assert_eq!(groups, [group(&[&a_id]), group(&[&c_id, &d_id])]);
}

#[tokio::test]
async fn who_leaves_a_group_that_is_not_full_leaves_a_seat() {
    let server = TestServer::start();
    let (mut a, _) = joined(&server, "/matchbox/q?next=3").await;
    for _ in 0..3 {
        let (b, b_id) = joined(&server, "/matchbox/q?next=3").await;
        assert_eq!(a.hear().await, json!({ "NewPeer": b_id }));
        b.close().await;
        assert_eq!(a.hear().await, json!({ "PeerLeft": b_id }));
    }
}

/// The status of the answer to a client that asks for a WebSocket, which it does not get.
async fn refused(server: &TestServer, path: &str) -> u16 {
    match within("an answer", connect_async(format!("{}{path}", server.base().replacen("http", "ws", 1)))).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{path} is refused: {other:?}"),
    }
}

#[tokio::test]
async fn no_room_of_a_bad_name_or_number_is_entered() {
    let server = TestServer::with(|config| config.limits.peers_per_room_max = 3);
    let long = |bytes| format!("/matchbox/{}", "x".repeat(bytes));
    joined(&server, &long(128)).await;
    joined(&server, &(long(121) + "?next=3")).await;
    for path in ["/matchbox/%", "/matchbox/%2", "/matchbox/%2x", "/matchbox/%+1", "/matchbox/%ff", "/matchbox/%0A", &long(129)] {
        assert_eq!(refused(&server, path).await, 400, "{path}");
    }
    for query in ["next=0", "next=", "next=-1", "next=two", "next=2.0", "next=99999999999999999999", "next=4", "next=2&next=x", "next=%"] {
        assert_eq!(refused(&server, &format!("/matchbox/r?{query}")).await, 400, "{query}");
    }
    assert_eq!(refused(&server, &(long(122) + "?next=3")).await, 400);
    for path in ["/matchbox/a/b", "/matchbox//", "/matchboxes", "/match"] {
        assert_eq!(refused(&server, path).await, 404, "{path}");
    }
    let without = TestServer::with(|config| config.dialects.retain(|dialect| *dialect != ForeignDialect::Matchbox));
    // Who asks for no WebSocket is told that there is one.
    let status = async |server: &TestServer, path: &str| {
        let answer = http().get(format!("{}{path}", server.base())).send().await.expect("an answer");
        let status = answer.status().as_u16();
        assert_eq!(answer.headers().get("upgrade").is_some_and(|protocol| protocol == "websocket"), status == 426, "RFC 9110 §15.5.22");
        status
    };
    for (path, expected) in [("/matchbox", 426), ("/matchbox/r?next=2", 426), ("/matchbox/a/b", 404), ("/matchbox/%", 400)] {
        assert_eq!((status(&server, path).await, status(&without, path).await), (expected, 404), "{path}");
    }
    assert_eq!(refused(&without, "/matchbox/r").await, 404);
    assert_eq!(refused(&without, "/matchbox/%").await, 404);
}

#[tokio::test]
async fn who_is_not_let_in_learns_it_by_the_end_of_the_connection() {
    let server = TestServer::with(|config| (config.limits.peers_per_room_max, config.limits.rooms_max) = (2, 1));
    let mut anna = joined(&server, "/matchbox/r").await;
    let mut bert = joined(&server, "/matchbox/r").await;
    assert_eq!(anna.0.hear().await, json!({ "NewPeer": bert.1 }));
    for path in ["/matchbox/r", "/matchbox/another", "/matchbox/r?next=2"] {
        let mut late = ForeignClient::connect(&server, path).await;
        assert_eq!(late.closed().await.map(|frame| frame.code.into()), Some(1000), "{path}");
    }
    are_together(&mut anna, &mut bert).await;
}

#[tokio::test]
async fn a_full_server_gives_no_id_and_says_so_by_its_close_code() {
    let server = TestServer::with(|config| config.limits.clients_max = 1);
    let _anna = joined(&server, "/matchbox/r").await;
    let Message::Close(Some(close)) = ForeignClient::connect(&server, "/matchbox/r").await.receive().await else { panic!("an end") };
    assert_eq!(u16::from(close.code), 4100);
}

/// Some sockets before 0.15 end at what they cannot read, and a chat beside a game would end it for everybody.
#[tokio::test]
async fn what_no_socket_of_matchbox_could_read_is_not_told_to_it() {
    let server = TestServer::start();
    let (mut matchbox, id) = joined(&server, "/matchbox/shared").await;
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "shared").await;
    let native_id = uuid(&native.peer_id);
    assert_eq!(matchbox.hear().await, json!({ "NewPeer": native_id }));
    native.done(json!({ "type": "message", "payload": { "hi": 1 } })).await;
    for (kind, payload) in [
        ("offer", json!({ "sdp": { "no": "text" } })),
        ("answer", Value::Null),
        ("ice-candidate", json!({ "candidate": 0 })),
        ("ice-candidate", json!({})),
        ("ice-candidate", json!("txt")),
    ] {
        native.done(json!({ "type": kind, "to": plain(&id), "payload": payload })).await;
    }
    native.done(json!({ "type": "offer", "to": plain(&id), "payload": { "sdp": "v=0" } })).await;
    assert_eq!(matchbox.hear().await, from(&native_id, json!({ "Offer": "v=0" })));
    // And the other way it is a message, as it was written.
    for text in [r#"{"candidate":0}"#, r#"{"candidate":null}"#, "{}", "\"txt\"", "no JSON"] {
        matchbox.say(to(&native_id, json!({ "IceCandidate": text }))).await;
        let heard = native.hear().await;
        assert_eq!((&heard["type"], &heard["payload"]), (&json!("message"), &json!({ "IceCandidate": text })));
    }
}

#[tokio::test]
async fn natives_share_a_room_with_matchbox_and_take_its_signals_as_a_browser_has_them() {
    let server = TestServer::start();
    for door in [Door::WebSocket(Codec::Json), Door::WebSocket(Codec::MsgPack), Door::WebTransport] {
        let (mut matchbox, id) = joined(&server, "/matchbox/shared").await;
        let mut native = RawClient::joined(&server, door, "shared").await;
        let native_id = uuid(&native.peer_id);
        assert_eq!(matchbox.hear().await, json!({ "NewPeer": native_id }), "{door:?}");
        let candidate = json!({ "candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": null });
        for (data, kind, payload) in [
            (json!({ "Offer": "v=0" }), "offer", json!({ "type": "offer", "sdp": "v=0" })),
            (json!({ "Answer": "v=1" }), "answer", json!({ "type": "answer", "sdp": "v=1" })),
            (json!({ "IceCandidate": candidate.to_string() }), "ice-candidate", candidate.clone()),
            (json!({ "IceCandidate": "null" }), "ice-candidate", Value::Null),
            (json!({ "own": [1] }), "message", json!({ "own": [1] })),
        ] {
            matchbox.say(to(&native_id, data.clone())).await;
            let heard = native.hear().await;
            assert_eq!((&heard["type"], &heard["from"], &heard["payload"]), (&json!(kind), &json!(plain(&id)), &payload), "{door:?}");
            native.done(json!({ "type": kind, "to": plain(&id), "payload": payload })).await;
            let mut back = matchbox.hear().await;
            if kind == "ice-candidate" {
                // The order of the fields is the sender's.
                let text = back["Signal"]["data"]["IceCandidate"].as_str().expect("text").to_owned();
                assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), payload, "{door:?}");
                back["Signal"]["data"] = data.clone();
            }
            assert_eq!(back, from(&native_id, data), "{door:?}");
        }
        native.done(json!({ "type": "metadata", "metadata": 1 })).await;
        native.done(json!({ "type": "leave" })).await;
        assert_eq!(matchbox.hear().await, json!({ "PeerLeft": native_id }), "{door:?}: metadata is nothing to matchbox");
        matchbox.close().await;
        let empty = async || server.snapshot().await.is_empty();
        eventually("the room is empty", empty).await;
    }
}
