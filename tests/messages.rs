//! Every message of the specification, by every door: what it brings about, for whom, in which order, and how it is refused.

mod support;

use serde_json::{Value, json};
use support::{RawClient, TestServer, within};
use switchboard::{
    client::Door,
    protocol::{Codec, ErrorCode, PeerId, framing::Frame},
};

/// Runs a test at every door, each time with a server of its own.
async fn at_every_door(test: impl AsyncFn(&TestServer, Door)) {
    for door in Door::ALL {
        println!("at {door}");
        test(&TestServer::start(), door).await;
    }
}

/// Runs a test with every pair of doors, each time with a server of its own.
async fn at_every_two_doors(test: impl AsyncFn(&TestServer, Door, Door)) {
    for a in Door::ALL {
        for b in Door::ALL {
            println!("at {a} and {b}");
            test(&TestServer::start(), a, b).await;
        }
    }
}

/// Two clients in the room "r", both of which know.
async fn two_in_a_room(server: &TestServer, a: Door, b: Door) -> (RawClient, RawClient) {
    let mut anna = RawClient::joined(server, a, "r").await;
    let ben = RawClient::joined(server, b, "r").await;
    assert_eq!(anna.hear().await, json!({"type": "peer-joined", "room": "r", "peerId": ben.peer_id}));
    (anna, ben)
}

/// Peers in the order of their ids: a list of them has none of its own.
fn sorted(mut peers: Vec<Value>) -> Vec<Value> {
    peers.sort_by_key(|peer| peer["peerId"].as_str().map(str::to_owned));
    peers
}

#[tokio::test]
async fn the_welcome_tells_who_i_am_and_the_settings() {
    for door in Door::ALL {
        let server = TestServer::with(|config| {
            config.timeouts.heartbeat_ms = 7_001;
            config.timeouts.resume_window_ms = 9_001;
            config.limits.message_bytes_max = 50_001;
            config.limits.rooms_per_client_max = 11;
            config.limits.peers_per_room_max = 12;
            config.limits.metadata_bytes_max = 1_001;
            config.limits.room_name_bytes_max = 101;
            config.limits.nesting_max = 31;
            config.limits.messages_per_second = 101;
            config.limits.bytes_per_second = 100_001;
            config.limits.joins_per_second = 11;
        });
        let mut secrets = Vec::new();
        for _ in 0..2 {
            let mut client = RawClient::silent(&server, door).await;
            client.say(json!({"type": "hello"})).await;
            let mut welcome = client.hear().await;
            for key in ["peerId", "resumeToken"] {
                let secret = welcome[key].take().as_str().expect("a string").to_owned();
                assert!(secret.len() == 32 && secret.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{secret}");
                assert!(!secrets.contains(&secret));
                secrets.push(secret);
            }
            let expected = json!({
                "type": "welcome", "peerId": null, "resumeToken": null, "resumed": false, "received": 0, "iceServers": [],
                "heartbeatMs": 7_001, "resumeWindowMs": 9_001, "version": env!("CARGO_PKG_VERSION"),
                "limits": {
                    "messageBytes": 50_001, "roomsPerClient": 11, "peersPerRoom": 12,
                    "metadataBytes": 1_001, "roomNameBytes": 101, "nesting": 31,
                    "messagesPerSecond": 101, "bytesPerSecond": 100_001, "joinsPerSecond": 11,
                },
            });
            assert_eq!(welcome, expected);
        }
    }
}

#[tokio::test]
async fn a_hello_comes_first_or_not_at_all() {
    at_every_door(async |server, door| {
        let mut anna = RawClient::silent(server, door).await;
        let heard = anna.done(json!({"type": "hello"})).await;
        assert!(matches!(&heard[..], [welcome] if welcome["type"] == "welcome"), "{heard:?}");
        assert_eq!(anna.refused(json!({"type": "hello"})).await["code"], "bad-message");
        anna.hears_nothing().await;

        let mut ben = RawClient::silent(server, door).await;
        let heard = ben.done(json!({"type": "join", "room": "r"})).await;
        let types: Vec<&Value> = heard.iter().map(|message| &message["type"]).collect();
        assert_eq!(types, ["welcome", "joined"]);
        assert_eq!(ben.refused(json!({"type": "hello"})).await["code"], "bad-message");

        // The first message stands for a hello even where it is refused.
        let mut carl = RawClient::silent(server, door).await;
        carl.say(json!({"type": "dance", "id": 7})).await;
        assert_eq!(carl.hear().await["type"], "welcome");
        let refusal = carl.hear().await;
        assert_eq!((&refusal["type"], &refusal["id"]), (&json!("error"), &json!(7)));
        assert_eq!(carl.refused(json!({"type": "hello"})).await["code"], "bad-message");
    })
    .await;
}

#[tokio::test]
async fn who_joins_hears_who_is_there_and_they_hear_who_came() {
    at_every_two_doors(async |server, a, b| {
        let mut anna = RawClient::welcomed(server, a).await;
        let joined = anna.done(json!({"type": "join", "room": "r", "metadata": {"name": "Anna", "n": [1, -1, 0.5]}})).await;
        assert_eq!(joined, [json!({"type": "joined", "room": "r", "peerId": anna.peer_id, "peers": []})]);

        let mut ben = RawClient::welcomed(server, b).await;
        let joined = ben.done(json!({"type": "join", "room": "r", "metadata": "Ben"})).await;
        let peers = [json!({"peerId": anna.peer_id, "metadata": {"name": "Anna", "n": [1, -1, 0.5]}})];
        assert_eq!(joined, [json!({"type": "joined", "room": "r", "peerId": ben.peer_id, "peers": peers})]);
        assert_eq!(anna.hear().await, json!({"type": "peer-joined", "room": "r", "peerId": ben.peer_id, "metadata": "Ben"}));

        let mut carl = RawClient::welcomed(server, a).await;
        let mut joined = carl.done(json!({"type": "join", "room": "r"})).await;
        let ben_as_seen = json!({"peerId": ben.peer_id, "metadata": "Ben"});
        assert_eq!(sorted(joined[0]["peers"].as_array().unwrap().clone()), sorted(vec![peers[0].clone(), ben_as_seen]));
        joined[0]["peers"].take();
        assert_eq!(joined, [json!({"type": "joined", "room": "r", "peerId": carl.peer_id, "peers": null})]);
        for client in [&mut anna, &mut ben] {
            assert_eq!(client.hear().await, json!({"type": "peer-joined", "room": "r", "peerId": carl.peer_id}));
            client.hears_nothing().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_leaves_hears_so_and_the_others_do_and_nothing_passes_any_more() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        assert_eq!(anna.done(json!({"type": "leave", "room": "r"})).await, [json!({"type": "left", "room": "r", "reason": "left"})]);
        assert_eq!(ben.hear().await, json!({"type": "peer-left", "room": "r", "peerId": anna.peer_id, "reason": "left"}));
        ben.done(json!({"type": "message", "payload": 1})).await;
        anna.hears_nothing().await;
        assert_eq!(anna.refused(json!({"type": "message", "room": "r", "payload": 1})).await["code"], "not-in-room");
        assert_eq!(anna.refused(json!({"type": "leave", "room": "r"})).await["code"], "not-in-room");

        // Without a room, every room.
        let rooms = ["r", "s", "t"];
        for room in rooms {
            anna.done(json!({"type": "join", "room": room})).await;
        }
        assert_eq!(ben.hear().await["type"], "peer-joined");
        let mut left: Vec<String> = anna.done(json!({"type": "leave"})).await.iter().map(Value::to_string).collect();
        left.sort_unstable();
        assert_eq!(left, rooms.map(|room| json!({"type": "left", "room": room, "reason": "left"}).to_string()));
        assert_eq!(ben.hear().await["type"], "peer-left");
        assert_eq!(anna.done(json!({"type": "leave"})).await, [Value::Null; 0]);
        ben.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_signal_reaches_its_target_alone_and_says_truly_from_whom() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        let mut carl = RawClient::joined(server, b, "r").await;
        for client in [&mut anna, &mut ben] {
            assert_eq!(client.hear().await["peerId"], carl.peer_id);
        }
        for kind in ["offer", "answer", "ice-candidate"] {
            for payload in [json!({"sdp": "v=0\r\n\u{e9}\u{1f600}\0", "n": [1, -7, 2.5, {}]}), json!(null), json!("")] {
                let mut said = json!({"type": kind, "to": ben.peer_id, "payload": payload});
                let expected = json!({"type": kind, "from": anna.peer_id, "room": "r", "payload": payload});
                assert_eq!(anna.done(said.clone()).await, [Value::Null; 0]);
                assert_eq!(ben.hear().await, expected);
                // A client may name the room, and cannot say from whom, nor that it was best effort.
                said["room"] = "r".into();
                said["from"] = json!(carl.peer_id);
                said["bestEffort"] = true.into();
                anna.done(said).await;
                assert_eq!(ben.hear().await, expected);
            }
        }
        carl.hears_nothing().await;
        anna.hears_nothing().await;
        ben.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_reaches_one_peer_or_all_the_others() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        let mut carl = RawClient::joined(server, b, "r").await;
        for client in [&mut anna, &mut ben] {
            assert_eq!(client.hear().await["peerId"], carl.peer_id);
        }
        anna.done(json!({"type": "message", "to": ben.peer_id, "payload": {"text": "hi"}, "from": carl.peer_id})).await;
        let expected = json!({"type": "message", "from": anna.peer_id, "room": "r", "to": ben.peer_id, "payload": {"text": "hi"}});
        assert_eq!(ben.hear().await, expected);
        anna.done(json!({"type": "message", "room": "r", "payload": [true], "from": carl.peer_id})).await;
        for client in [&mut ben, &mut carl] {
            assert_eq!(client.hear().await, json!({"type": "message", "from": anna.peer_id, "room": "r", "payload": [true]}));
            client.hears_nothing().await;
        }
        anna.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn metadata_is_replaced_and_removed_for_those_who_are_there_and_those_who_come() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        for (said, seen) in [
            (json!({"type": "metadata", "metadata": {"name": "Anna"}}), Some(json!({"name": "Anna"}))),
            (json!({"type": "metadata", "room": "r", "metadata": [2]}), Some(json!([2]))),
            (json!({"type": "metadata", "room": "r"}), None),
            (json!({"type": "metadata", "metadata": false}), Some(json!(false))),
            (json!({"type": "metadata", "metadata": null}), None),
        ] {
            assert_eq!(anna.done(said.clone()).await, [Value::Null; 0], "{said}");
            let mut updated = json!({"type": "peer-updated", "room": "r", "peerId": anna.peer_id});
            let mut listed = json!({"peerId": anna.peer_id});
            if let Some(metadata) = seen {
                updated["metadata"] = metadata.clone();
                listed["metadata"] = metadata;
            }
            assert_eq!(ben.hear().await, updated, "{said}");
            ben.done(json!({"type": "leave"})).await;
            let joined = ben.done(json!({"type": "join", "room": "r"})).await;
            assert_eq!(joined[0]["peers"], json!([listed]), "{said}");
            assert_eq!([anna.hear().await["type"].take(), anna.hear().await["type"].take()], ["peer-left", "peer-joined"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_pong_counts_every_message_the_refused_and_the_ping_too() {
    at_every_door(async |server, door| {
        let mut anna = RawClient::welcomed(server, door).await;
        let pong = |received: u64| [json!({"type": "pong", "received": received})];
        assert_eq!(anna.done(json!({"type": "ping"})).await, pong(2));
        assert_eq!(anna.done(json!({"type": "ping", "received": 1})).await, pong(3));
        anna.refused(json!({"type": "dance"})).await;
        anna.done(json!({"type": "join", "room": "r"})).await;
        anna.say(json!({"type": "message", "payload": 1})).await;
        anna.say_bytes("{").await;
        assert_eq!(anna.hear().await["type"], "error");
        assert_eq!(anna.done(json!({"type": "ping"})).await, pong(8));
        anna.say(json!({"type": "ping"})).await;
        assert_eq!(anna.hear().await, pong(9)[0]);
    })
    .await;
}

#[tokio::test]
async fn requests_are_carried_out_one_after_another_and_answered_in_their_order() {
    at_every_two_doors(async |server, a, b| {
        let mut ben = RawClient::joined(server, b, "r").await;
        let mut anna = RawClient::welcomed(server, a).await;
        let said = [
            json!({"type": "join", "room": "r", "id": 9}),
            json!({"type": "message", "payload": "right behind", "id": 8}),
            json!({"type": "offer", "to": ben.peer_id, "payload": "an offer"}),
            json!({"type": "metadata", "metadata": "m", "id": 7}),
            json!({"type": "join", "room": "r", "id": 6}),
            json!({"type": "ping", "id": 5}),
            json!({"type": "leave", "id": 4}),
            json!({"type": "message", "room": "r", "payload": "too late", "id": 3}),
            json!({"type": "message", "room": "r", "payload": "too late"}),
            json!({"type": "join", "room": "s", "id": 4}),
            json!({"type": "leave", "room": "s"}),
            json!({"type": "ping", "id": 0}),
        ];
        for message in &said {
            anna.say(message.clone()).await;
        }
        let mut heard = Vec::new();
        while heard.len() < 16 {
            let mut message = anna.hear().await;
            if message["type"] == "error" {
                message = json!({"type": "error", "id": message["id"], "code": message["code"]});
            }
            heard.push(message);
        }
        let expected = [
            json!({"type": "joined", "room": "r", "peerId": anna.peer_id, "peers": [{"peerId": ben.peer_id}]}),
            json!({"type": "ack", "id": 9}),
            json!({"type": "ack", "id": 8}),
            json!({"type": "ack", "id": 7}),
            json!({"type": "error", "id": 6, "code": "already-in-room"}),
            json!({"type": "pong", "received": 7}),
            json!({"type": "ack", "id": 5}),
            json!({"type": "left", "room": "r", "reason": "left"}),
            json!({"type": "ack", "id": 4}),
            json!({"type": "error", "id": 3, "code": "not-in-room"}),
            json!({"type": "error", "id": null, "code": "not-in-room"}),
            json!({"type": "joined", "room": "s", "peerId": anna.peer_id, "peers": []}),
            json!({"type": "ack", "id": 4}),
            json!({"type": "left", "room": "s", "reason": "left"}),
            json!({"type": "pong", "received": 13}),
            json!({"type": "ack", "id": 0}),
        ];
        assert_eq!(heard, expected);
        for expected in [
            json!({"type": "peer-joined", "room": "r", "peerId": anna.peer_id}),
            json!({"type": "message", "from": anna.peer_id, "room": "r", "payload": "right behind"}),
            json!({"type": "offer", "from": anna.peer_id, "room": "r", "payload": "an offer"}),
            json!({"type": "peer-updated", "room": "r", "peerId": anna.peer_id, "metadata": "m"}),
            json!({"type": "peer-left", "room": "r", "peerId": anna.peer_id, "reason": "left"}),
        ] {
            assert_eq!(ben.hear().await, expected);
        }
        ben.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_in_several_rooms_has_to_name_the_one_it_means() {
    at_every_two_doors(async |server, a, b| {
        let mut anna = RawClient::welcomed(server, a).await;
        let mut ben = RawClient::joined(server, b, "r").await;
        let mut carl = RawClient::joined(server, b, "s").await;
        let nameless = |ben: &RawClient| {
            [
                json!({"type": "message", "payload": 1}),
                json!({"type": "message", "to": ben.peer_id, "payload": 1}),
                json!({"type": "offer", "to": ben.peer_id, "payload": 1}),
                json!({"type": "answer", "to": ben.peer_id, "payload": 1}),
                json!({"type": "ice-candidate", "to": ben.peer_id, "payload": 1}),
                json!({"type": "metadata", "metadata": 1}),
            ]
        };
        // In no room, and in two.
        for message in nameless(&ben) {
            assert_eq!(anna.refused(message).await["code"], "room-required");
        }
        anna.done(json!({"type": "join", "room": "r"})).await;
        anna.done(json!({"type": "join", "room": "s"})).await;
        for message in nameless(&ben) {
            assert_eq!(anna.refused(message).await["code"], "room-required");
        }
        for client in [&mut ben, &mut carl] {
            assert_eq!(client.hear().await["type"], "peer-joined");
            client.hears_nothing().await;
        }

        for (room, there) in [("r", &mut ben), ("s", &mut carl)] {
            anna.done(json!({"type": "message", "room": room, "payload": room})).await;
            assert_eq!(there.hear().await, json!({"type": "message", "from": anna.peer_id, "room": room, "payload": room}));
            anna.done(json!({"type": "metadata", "room": room, "metadata": room})).await;
            assert_eq!(there.hear().await, json!({"type": "peer-updated", "room": room, "peerId": anna.peer_id, "metadata": room}));
            assert_eq!(anna.refused(json!({"type": "join", "room": room})).await["code"], "already-in-room");
        }
        // Ben is in a room that both are in, but not in this one.
        for message in &mut nameless(&ben)[1..5] {
            message["room"] = "s".into();
            assert_eq!(anna.refused(message.take()).await["code"], "no-such-peer");
        }
        for mut message in nameless(&ben) {
            message["room"] = "elsewhere".into();
            assert_eq!(anna.refused(message).await["code"], "not-in-room");
        }
        anna.done(json!({"type": "leave", "room": "r"})).await;
        anna.done(json!({"type": "message", "payload": "the only one"})).await;
        assert_eq!(carl.hear().await["payload"], "the only one");
        assert_eq!(ben.hear().await["type"], "peer-left");
        ben.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_gone_or_elsewhere_or_was_never_there_is_refused_in_the_same_words() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut gone) = two_in_a_room(server, a, b).await;
        gone.done(json!({"type": "leave"})).await;
        let dead = RawClient::joined(server, b, "r").await;
        for kind in ["peer-left", "peer-joined"] {
            assert_eq!(anna.hear().await["type"], kind);
        }
        let dead_id = dead.peer_id.clone();
        within("a close", dead.client.close()).await;
        assert_eq!(anna.hear().await["type"], "peer-left");
        let elsewhere = RawClient::joined(server, b, "s").await;
        let nowhere = RawClient::welcomed(server, b).await;
        let targets = [
            gone.peer_id.clone(),
            dead_id,
            elsewhere.peer_id.clone(),
            nowhere.peer_id.clone(),
            PeerId::random().to_string(),
            "no id at all".into(),
            String::new(),
            anna.peer_id.clone(),
        ];
        let expected = json!({
            "type": "error", "code": "no-such-peer", "retryable": false,
            "message": "there is no peer with this id in a room that you share",
        });
        for to in targets {
            for kind in ["offer", "answer", "ice-candidate", "message"] {
                for room in [json!(null), json!("r")] {
                    let said = json!({"type": kind, "to": to, "room": room, "payload": 1});
                    assert_eq!(anna.refused(said).await, expected, "{kind} to {to:?} in {room}");
                }
            }
        }
        for mut client in [gone, elsewhere, nowhere] {
            client.hears_nothing().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_that_a_client_is_not_in_cannot_be_told_from_one_that_does_not_exist() {
    at_every_two_doors(async |server, a, b| {
        let mut stranger = RawClient::joined(server, b, "elsewhere").await;
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        for kind in ["leave", "metadata", "message"] {
            let said = |room: &str| json!({"type": kind, "room": room, "payload": 1, "metadata": 1});
            let refusal = stranger.refused(said("r")).await;
            assert_eq!(refusal["code"], "not-in-room");
            assert_eq!(stranger.refused(said("no such room")).await, refusal);
        }
        for client in [&mut anna, &mut ben] {
            client.done(json!({"type": "message", "payload": 1})).await;
            client.done(json!({"type": "metadata", "metadata": 1})).await;
        }
        ben.done(json!({"type": "leave"})).await;
        drop(ben);
        stranger.hears_nothing().await;
        for kind in ["message", "peer-updated", "peer-left"] {
            assert_eq!(anna.hear().await["type"], kind);
        }
        anna.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn keys_that_mean_nothing_are_ignored_and_null_is_as_good_as_missing() {
    at_every_two_doors(async |server, a, b| {
        let mut ben = RawClient::joined(server, b, "r").await;
        let mut anna = RawClient::silent(server, a).await;
        anna.say(json!({"new": {"a": [1]}, "type": "hello", "id": null, "token": "t", "resume": null})).await;
        assert_eq!(anna.hear().await["type"], "welcome");
        anna.say_entries(&[
            ("new", json!(1)),
            ("type", json!("join")),
            ("new", json!({"type": "leave"})),
            ("TYPE", json!("leave")),
            ("", json!(null)),
            ("metadata", json!(null)),
            ("room", json!("r")),
        ])
        .await;
        let joined = anna.hear().await;
        assert_eq!(joined, json!({"type": "joined", "room": "r", "peerId": anna.peer_id, "peers": [{"peerId": ben.peer_id}]}));
        assert_eq!(ben.hear().await, json!({"type": "peer-joined", "room": "r", "peerId": anna.peer_id}));

        anna.say(json!({"type": "message", "id": null, "room": null, "to": null, "payload": null})).await;
        anna.done(json!({"type": "offer", "room": null, "to": ben.peer_id, "payload": 1})).await;
        let message = ben.hear().await;
        assert_eq!(message, json!({"type": "message", "from": anna.peer_id, "room": "r", "payload": null}));
        assert!(message.as_object().unwrap().contains_key("payload"));
        assert_eq!(ben.hear().await["type"], "offer");
        assert_eq!(anna.done(json!({"type": "ping", "received": null})).await.len(), 1);
        assert_eq!(anna.done(json!({"type": "leave", "room": null})).await.len(), 1);
        assert_eq!(ben.hear().await["type"], "peer-left");
    })
    .await;
}

#[tokio::test]
async fn a_key_that_stands_twice_is_refused() {
    at_every_door(async |server, door| {
        let mut anna = RawClient::joined(server, door, "r").await;
        let ben = RawClient::joined(server, door, "r").await;
        assert_eq!(anna.hear().await["type"], "peer-joined");
        for (kind, key, value) in [
            ("leave", "type", json!("leave")),
            ("leave", "room", json!("r")),
            ("offer", "to", json!(ben.peer_id)),
            ("ping", "received", json!(1)),
            ("message", "payload", json!(1)),
            ("metadata", "metadata", json!(1)),
        ] {
            for twice in [[&value, &value], [&json!(null), &value], [&value, &json!(null)]] {
                let mut entries = vec![("id", json!(5))];
                entries.extend(twice.map(|value| (key, value.clone())));
                let others = [("type", json!(kind)), ("to", json!(ben.peer_id)), ("payload", json!(1))];
                entries.extend(others.into_iter().filter(|(other, _)| *other != key));
                anna.say_entries(&entries).await;
                let refusal = anna.hear().await;
                assert_eq!((&refusal["id"], &refusal["code"]), (&json!(5), &json!("bad-message")), "{entries:?}: {refusal}");
            }
        }
        // Which of two ids a refusal should name nobody can tell.
        for twice in [[json!(1), json!(2)], [json!(null), json!(2)], [json!(1), json!(null)]] {
            let [first, second] = twice;
            anna.say_entries(&[("type", json!("ping")), ("id", first), ("id", second)]).await;
            let refusal = anna.hear().await;
            assert_eq!((refusal.get("id"), &refusal["code"]), (None, &json!("bad-message")));
        }
        anna.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_by_its_id_and_the_session_goes_on() {
    at_every_door(async |server, door| {
        let mut anna = RawClient::joined(server, door, "r").await;
        let ben = RawClient::joined(server, door, "r").await;
        assert_eq!(anna.hear().await["type"], "peer-joined");
        let to = &ben.peer_id;
        for message in [
            json!({}),
            json!({"type": null}),
            json!({"type": 7}),
            json!({"type": ["ping"]}),
            json!({"type": ""}),
            json!({"type": "Ping"}),
            json!({"type": "joined", "room": "r"}),
            json!({"type": "welcome"}),
            json!({"type": "x".repeat(1000)}),
            json!({"type": "join"}),
            json!({"type": "join", "room": null}),
            json!({"type": "join", "room": 7}),
            json!({"type": "join", "room": ["r"]}),
            json!({"type": "leave", "room": {}}),
            json!({"type": "offer", "payload": 1}),
            json!({"type": "answer", "to": null, "payload": 1}),
            json!({"type": "ice-candidate", "to": 7, "payload": 1}),
            json!({"type": "offer", "to": to}),
            json!({"type": "message"}),
            json!({"type": "message", "to": to}),
            json!({"type": "message", "to": [to], "payload": 1}),
            json!({"type": "message", "room": false, "payload": 1}),
            json!({"type": "metadata", "room": 1}),
            json!({"type": "ping", "received": "1"}),
            json!({"type": "ping", "received": -1}),
            json!({"type": "ping", "received": 1.5}),
        ] {
            let said = message.to_string();
            let mut refusal = anna.refused(message).await;
            let text = refusal["message"].take();
            assert!(text.as_str().is_some_and(|text| !text.is_empty() && text.len() < 200), "{said}: {text}");
            assert_eq!(refusal, json!({"type": "error", "code": "bad-message", "message": null, "retryable": false}), "{said}");
        }
        for id in [json!(-1), json!(1_u64 << 53), json!(u64::MAX), json!(1.5), json!("1"), json!([1]), json!(true)] {
            anna.say(json!({"type": "ping", "id": id})).await;
            let refusal = anna.hear().await;
            assert_eq!((refusal.get("id"), &refusal["code"]), (None, &json!("bad-message")), "{id}");
        }
        for id in [0, (1_u64 << 53) - 1] {
            anna.say(json!({"type": "ping", "id": id})).await;
            assert_eq!(anna.hear().await["type"], "pong");
            assert_eq!(anna.hear().await, json!({"type": "ack", "id": id}));
        }
        let ping = support::spell(&json!({"type": "ping"}), door.codec());
        for bytes in [
            b"".to_vec(),
            b"dance".to_vec(),
            ping[..ping.len() - 1].to_vec(),
            [&*ping, &ping].concat(),
            support::spell(&json!([{"type": "ping"}]), door.codec()),
            support::spell(&json!(["ping", 7]), door.codec()),
            support::spell(&json!("ping"), door.codec()),
            support::spell(&json!(7), door.codec()),
            support::spell(&json!(null), door.codec()),
        ] {
            anna.say_bytes(bytes.clone()).await;
            let refusal = anna.hear().await;
            let seen = (&refusal["type"], refusal.get("id"), &refusal["code"]);
            assert_eq!(seen, (&json!("error"), None, &json!("bad-message")), "{:?}", bytes.escape_ascii().to_string());
        }
        anna.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_frame_of_the_other_codec_is_refused_and_the_session_goes_on() {
    let server = TestServer::start();
    let ping = |codec| support::spell(&json!({"type": "ping", "id": 1}), codec).into();
    for (codec, wrong, right) in [
        (Codec::Json, Frame::Binary(ping(Codec::Json)), "JSON in text frames"),
        (Codec::Json, Frame::Binary(ping(Codec::MsgPack)), "JSON in text frames"),
        (Codec::MsgPack, Frame::Text(ping(Codec::Json)), "MessagePack in binary frames"),
    ] {
        let mut anna = RawClient::welcomed(&server, Door::WebSocket(codec)).await;
        anna.client.send_frame(wrong).await.unwrap();
        let refusal = anna.hear().await;
        assert_eq!((refusal.get("id"), &refusal["code"]), (None, &json!("bad-message")));
        assert_eq!(refusal["message"], format!("this connection takes {right}"));
        anna.hears_nothing().await;
    }
}

#[tokio::test]
async fn each_bound_of_a_client_has_its_refusal() {
    for door in Door::ALL {
        let server = TestServer::with(|config| {
            config.limits.rooms_max = 3;
            config.limits.rooms_per_client_max = 2;
            config.limits.peers_per_room_max = 2;
            config.limits.metadata_bytes_max = 10;
            config.limits.room_name_bytes_max = 4;
            config.limits.nesting_max = 3;
        });
        let mut anna = RawClient::joined(&server, door, "r").await;
        let ben = RawClient::joined(&server, door, "r").await;
        let mut carl = RawClient::joined(&server, door, "s").await;
        anna.done(json!({"type": "join", "room": "four"})).await;
        for (client, message, code, retryable) in [
            (1, json!({"type": "join", "room": ""}), ErrorCode::BadRoomName, false),
            (1, json!({"type": "join", "room": "fiver"}), ErrorCode::BadRoomName, false),
            (1, json!({"type": "join", "room": "a\nb"}), ErrorCode::BadRoomName, false),
            (1, json!({"type": "join", "room": "\u{85}"}), ErrorCode::BadRoomName, false),
            (1, json!({"type": "join", "room": "more"}), ErrorCode::NoMoreRooms, true),
            (1, json!({"type": "join", "room": "r"}), ErrorCode::RoomFull, true),
            (0, json!({"type": "join", "room": "s"}), ErrorCode::TooManyRooms, true),
            (0, json!({"type": "join", "room": "r"}), ErrorCode::AlreadyInRoom, false),
            (1, json!({"type": "join", "room": "four", "metadata": "123456789"}), ErrorCode::MetadataTooLarge, false),
            (1, json!({"type": "metadata", "metadata": "123456789"}), ErrorCode::MetadataTooLarge, false),
            (1, json!({"type": "metadata", "metadata": [[[[]]]]}), ErrorCode::TooDeep, false),
            (1, json!({"type": "message", "payload": {"a": [[[]]]}}), ErrorCode::TooDeep, false),
            (0, json!({"type": "offer", "to": ben.peer_id, "room": "r", "payload": [[[{}]]]}), ErrorCode::TooDeep, false),
        ] {
            let said = message.to_string();
            let mut refusal = [&mut anna, &mut carl][client].refused(message).await;
            assert!(refusal["message"].take().as_str().is_some_and(|text| !text.is_empty()), "{said}");
            let expected = json!({"type": "error", "code": code.slug(), "message": null, "retryable": retryable});
            assert_eq!(refusal, expected, "{said}");
        }
        // At the bound is not past it.
        carl.done(json!({"type": "join", "room": "four", "metadata": "12345678"})).await;
        carl.done(json!({"type": "message", "room": "s", "payload": {"a": [[]]}})).await;
    }
}

#[tokio::test]
async fn a_peer_that_closes_its_connection_is_gone_as_disconnected() {
    at_every_two_doors(async |server, a, b| {
        let mut anna = RawClient::joined(server, a, "r").await;
        let ben = RawClient::joined(server, b, "r").await;
        assert_eq!(anna.hear().await["type"], "peer-joined");
        within("a close", ben.client.close()).await;
        assert_eq!(anna.hear().await, json!({"type": "peer-left", "room": "r", "peerId": ben.peer_id, "reason": "disconnected"}));
        anna.hears_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_says_why_and_whether_to_come_back_and_the_close_has_its_number() {
    at_every_two_doors(async |server, a, b| {
        let (mut anna, mut ben) = two_in_a_room(server, a, b).await;
        let bytes_max = 65_536;
        let message = |bytes| json!({"type": "message", "payload": "x".repeat(bytes)});
        let own = support::spell(&message(bytes_max / 2), ben.codec).len() - bytes_max / 2;
        ben.done(json!({"type": "ping"})).await;
        ben.say(message(bytes_max - own)).await;
        assert_eq!(anna.hear().await["payload"].as_str().map(str::len), Some(bytes_max - own));
        ben.say(message(bytes_max - own + 1)).await;
        let goodbye = json!({
            "type": "goodbye", "code": "too-large", "reason": "a message was larger than this server takes",
            "reconnect": false, "reconnectAfterMs": 0,
        });
        assert_eq!(ben.hear().await, goodbye);
        assert_eq!(within("a close", ben.client.receive_frame()).await.unwrap_err().code, Some(4200));
        assert_eq!(anna.hear().await, json!({"type": "peer-left", "room": "r", "peerId": ben.peer_id, "reason": "removed"}));

        server.stop();
        let mut goodbye = anna.hear().await;
        // Different for each.
        let reconnect_after_ms = goodbye["reconnectAfterMs"].take().as_u64();
        assert!(reconnect_after_ms.is_some_and(|ms| (1000..=2000).contains(&ms)), "{reconnect_after_ms:?}");
        let draining = json!({
            "type": "goodbye", "code": "draining", "reason": "the server is shutting down", "reconnect": true, "reconnectAfterMs": null,
        });
        assert_eq!(goodbye, draining);
        assert_eq!(within("a close", anna.client.receive_frame()).await.unwrap_err().code, Some(4000));
    })
    .await;
}
