//! The two clients of the WebSocket tutorials, unchanged: rooms by their hash, and the lobby.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use switchboard::{client::Door, config::ForeignDialect, protocol::Codec};
use tokio_tungstenite::tungstenite::Message;

use self::support::{
    RawClient, TestServer,
    foreign::{ForeignClient, HalfOpen},
};

async fn announced(server: &TestServer, hash: &str, peer_id: Option<&str>) -> (ForeignClient, Value) {
    let mut client = ForeignClient::connect(server, "/").await;
    client.say(json!({ "type": "announce", "hash": hash, "peerId": peer_id })).await;
    let list = client.hear().await;
    assert_eq!(list["type"], "peer-list");
    (client, list["peers"].clone())
}

#[tokio::test]
async fn who_announces_the_same_hash_meets_and_exchanges_signals_with_all_their_fields() {
    let server = TestServer::start();
    let (mut anna, nobody) = announced(&server, "h", None).await;
    assert_eq!(nobody, json!([]));
    let (mut bert, peers) = announced(&server, "h", None).await;
    let (mut other, elsewhere) = announced(&server, "i", None).await;
    assert_eq!(elsewhere, json!([]));
    let newcomer = anna.hear().await;
    assert_eq!(newcomer["type"], "new-peer");
    let (anna_id, bert_id) = (peers[0].clone(), newcomer["peerId"].clone());

    bert.say(json!({ "type": "offer", "targetPeer": anna_id, "offer": { "sdp": "v=0" }, "n": 1.50, "fromPeer": "forged" })).await;
    let offer = json!({ "type": "offer", "fromPeer": bert_id, "targetPeer": anna_id, "offer": { "sdp": "v=0" }, "n": 1.5 });
    assert_eq!(anna.hear().await, offer);
    anna.say(json!({ "type": "answer", "targetPeer": bert_id, "answer": "a" })).await;
    assert_eq!(bert.hear().await, json!({ "type": "answer", "fromPeer": anna_id, "targetPeer": bert_id, "answer": "a" }));
    // Without a target it is for the rest of the hash.
    let (mut carl, _) = announced(&server, "h", None).await;
    assert_eq!(anna.hear().await["type"], "new-peer");
    assert_eq!(bert.hear().await["type"], "new-peer");
    anna.say(json!({ "type": "ice-candidate", "candidate": null })).await;
    let candidate = json!({ "type": "ice-candidate", "fromPeer": anna_id, "candidate": null });
    assert_eq!((bert.hear().await, carl.hear().await), (candidate.clone(), candidate));

    bert.close().await;
    let left = json!({ "type": "peer-left", "peerId": bert_id });
    assert_eq!((anna.hear().await, carl.hear().await), (left.clone(), left));
    anna.say(json!({ "type": "offer", "targetPeer": bert_id })).await;
    let refusal = anna.hear().await;
    assert_eq!((&refusal["code"], &refusal["targetPeer"]), (&json!("no-such-peer"), &bert_id));
    other.say(json!({ "type": "offer", "targetPeer": anna_id })).await;
    assert_eq!(other.hear().await["code"], "no-such-peer", "nobody is reached from another room");
}

#[tokio::test]
async fn a_peer_is_known_by_the_id_that_it_gives_itself_if_no_other_has_it() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, "h", Some("anna")).await;
    // Who reads answers the question whether it is there.
    let ((mut second, peers), newcomer) = tokio::join!(announced(&server, "h", Some("anna")), anna.hear());
    assert_eq!(peers, json!(["anna"]));
    let second_id = newcomer["peerId"].clone();
    assert_eq!(second_id.as_str().unwrap().len(), 32, "the name is taken: {second_id}");
    second.say(json!({ "type": "offer", "targetPeer": "anna", "offer": 1 })).await;
    assert_eq!(anna.hear().await["fromPeer"], second_id);
    anna.say(json!({ "type": "answer", "targetPeer": second_id, "answer": 1 })).await;
    assert_eq!(second.hear().await["fromPeer"], "anna");
    anna.close().await;
    assert_eq!(second.hear().await, json!({ "type": "peer-left", "peerId": "anna" }));

    // Nobody takes the id that the server gave another, present or not.
    let (mut third, _) = announced(&server, "h", second_id.as_str()).await;
    let third_id = second.hear().await["peerId"].clone();
    assert_ne!(third_id, second_id);
    third.say(json!({ "type": "offer", "targetPeer": second_id, "offer": 1 })).await;
    assert_eq!(second.hear().await["fromPeer"], third_id);
}

#[tokio::test]
async fn no_name_is_another_peers_id_in_another_spelling() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, "h", None).await;
    let (_bert, peers) = announced(&server, "h", None).await;
    let id = peers[0].as_str().unwrap();
    assert_eq!(anna.hear().await["type"], "new-peer");
    let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    let own = "2f0d8c1e-6a4b-4c3d-9e5f-0123456789ab";
    for (name, is_given) in [(id, false), (&*id.to_uppercase(), false), (&*uuid, false), (&*uuid.to_uppercase(), false), (own, true)] {
        let (client, _) = announced(&server, "h", Some(name)).await;
        let newcomer = anna.hear().await;
        assert_eq!((&newcomer["type"], newcomer["peerId"] == name), (&json!("new-peer"), is_given), "{name}: {newcomer}");
        client.close().await;
        assert_eq!(anna.hear().await["peerId"], newcomer["peerId"]);
    }
}

/// Some pages announce themselves every few seconds; the others would hang up at every `peer-left`.
#[tokio::test]
async fn who_announces_itself_again_gets_the_list_again_and_nobody_else_hears_of_it() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, "h", Some("anna")).await;
    let (mut bert, _) = announced(&server, "h", None).await;
    let bert_id = anna.hear().await["peerId"].clone();
    for peer_id in [Some("anna"), None] {
        anna.say(json!({ "type": "announce", "hash": "h", "peerId": peer_id })).await;
        assert_eq!(anna.hear().await, json!({ "type": "peer-list", "peers": [bert_id], "peerId": "anna" }));
    }
    bert.say(json!({ "type": "announce", "hash": "h", "peerId": bert_id })).await;
    assert_eq!(bert.hear().await["peers"], json!(["anna"]), "it has heard of nothing else");
    // Under another name it is another one.
    bert.say(json!({ "type": "announce", "hash": "h", "peerId": "bert" })).await;
    assert_eq!(anna.hear().await, json!({ "type": "peer-left", "peerId": bert_id }));
    assert_eq!(anna.hear().await, json!({ "type": "new-peer", "peerId": "bert" }));
    // And it may have what it is refused at first.
    anna.say(json!({ "type": "announce", "hash": "" })).await;
    assert_eq!(anna.hear().await["code"], "bad-room-name");
    for _ in 0..2 {
        anna.say(json!({ "type": "announce", "hash": "h" })).await;
        assert_eq!(anna.hear().await["peers"], json!(["bert"]));
    }
    assert_eq!(bert.hear().await["type"], "peer-list");
    assert_eq!(bert.hear().await, json!({ "type": "peer-left", "peerId": "anna" }));
    assert_eq!(bert.hear().await["type"], "new-peer");
    anna.say(json!({ "type": "offer" })).await;
    assert_eq!(bert.hear().await["type"], "offer", "once");
}

/// A page that was reloaded while its network was gone announces the id that its dead connection still has.
#[tokio::test]
async fn an_id_whose_owner_is_dead_is_the_newcomers_and_everybody_is_told_its_own() {
    let server = TestServer::start();
    let announcement = json!({ "type": "announce", "hash": "h", "peerId": "anna" });
    let _dead = HalfOpen::after(&server, "/", std::slice::from_ref(&announcement), "peer-list").await;
    let mut bert = ForeignClient::connect(&server, "/").await;
    bert.say(json!({ "type": "announce", "hash": "h" })).await;
    let list = bert.hear().await;
    let bert_id = list["peerId"].clone();
    assert_eq!(list, json!({ "type": "peer-list", "peers": ["anna"], "peerId": bert_id }));
    let mut anna = ForeignClient::connect(&server, "/").await;
    anna.say(announcement).await;
    let list = json!({ "type": "peer-list", "peers": [bert_id], "peerId": "anna" });
    assert_eq!(tokio::join!(anna.hear(), bert.hear()), (list, json!({ "type": "peer-left", "peerId": "anna" })));
    assert_eq!(bert.hear().await, json!({ "type": "new-peer", "peerId": "anna" }));
    bert.say(json!({ "type": "offer", "targetPeer": "anna" })).await;
    assert_eq!(anna.hear().await["fromPeer"], bert_id);

    // She is alive, so whoever else wants to be called so is told what it is called.
    let mut other = ForeignClient::connect(&server, "/").await;
    other.say(json!({ "type": "announce", "hash": "h", "peerId": "anna" })).await;
    let (list, newcomer, _) = tokio::join!(other.hear(), anna.hear(), bert.hear());
    assert_eq!((&list["peerId"], list["peerId"].as_str().map(str::len)), (&newcomer["peerId"], Some(32)), "{list}");
}

#[tokio::test]
async fn natives_and_classics_share_a_room() {
    let server = TestServer::start();
    for door in [Door::WebSocket(Codec::Json), Door::WebSocket(Codec::MsgPack), Door::WebTransport] {
        let mut native = RawClient::joined(&server, door, "shared").await;
        let (mut classic, peers) = announced(&server, "shared", Some("tutorial")).await;
        assert_eq!(peers, json!([native.peer_id]));
        let newcomer = native.hear().await;
        assert_eq!(newcomer["type"], "peer-joined");
        let classic_id = newcomer["peerId"].clone();
        classic.say(json!({ "type": "offer", "targetPeer": native.peer_id, "sdp": "v=0" })).await;
        let offer = native.hear().await;
        assert_eq!((&offer["type"], &offer["from"], &offer["payload"]["sdp"]), (&json!("offer"), &classic_id, &json!("v=0")), "{door:?}");
        native.done(json!({ "type": "answer", "to": classic_id, "payload": { "type": "answer", "sdp": "v=1" } })).await;
        assert_eq!(classic.hear().await, json!({ "type": "answer", "fromPeer": native.peer_id, "sdp": "v=1" }), "{door:?}");
        classic.close().await;
        let left = native.hear().await;
        assert_eq!((&left["type"], &left["peerId"]), (&json!("peer-left"), &classic_id), "{door:?}");
    }
}

/// Lets both be in the lobby. Nobody is told who comes, so one knocks until the other hears it.
async fn in_lobby(server: &TestServer) -> (ForeignClient, ForeignClient) {
    let (mut listener, mut speaker) = (ForeignClient::connect(server, "/").await, ForeignClient::connect(server, "/").await);
    listener.send(Message::text("in")).await;
    let knock = async {
        loop {
            speaker.send(Message::text("knock")).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        heard = listener.receive() => assert_eq!(heard, Message::text("knock")),
        () = knock => {}
    }
    speaker.send(Message::text("end")).await;
    while listener.receive().await != Message::text("end") {}
    (listener, speaker)
}

#[tokio::test]
async fn in_the_lobby_each_frame_goes_verbatim_to_everybody_else() {
    let server = TestServer::start();
    let (mut listener, mut speaker) = in_lobby(&server).await;
    for frame in [
        Message::text(r#"{ "type": "offer", "sdp": "v=0" }"#),
        Message::text("no JSON at all"),
        Message::text(""),
        Message::binary(vec![0, 255, 1]),
        Message::text(r#"{"type":"announce"}"#),
    ] {
        speaker.send(frame.clone()).await;
        assert_eq!(listener.receive().await, frame);
    }
    let (_announced, _) = announced(&server, "h", None).await;
    speaker.send(Message::text("last")).await;
    assert_eq!(listener.receive().await, Message::text("last"), "who comes and goes is nothing to the lobby");
}

#[tokio::test]
async fn an_announcement_leaves_the_lobby_and_a_malformed_one_is_not_told_to_strangers() {
    let server = TestServer::start();
    let (mut listener, mut speaker) = in_lobby(&server).await;
    // Who has spoken there means the lobby by what only looks like an announcement.
    for text in [r#"{"type":"text","hash":"h"}"#, r#"{"type":"announce","tea":"is ready"}"#].map(Message::text) {
        speaker.send(text.clone()).await;
        assert_eq!(listener.receive().await, text);
    }
    // What is meant for the server is not told to strangers, and may be said again as it should be.
    let mut newcomer = ForeignClient::connect(&server, "/").await;
    for wrong in [json!({ "type": "announce" }), json!({ "type": "announce", "hash": 7, "secret": 1 })] {
        newcomer.say(wrong).await;
        assert_eq!(newcomer.hear().await["code"], "bad-message");
    }
    newcomer.say(json!({ "type": "announce", "hash": "h" })).await;
    assert_eq!(newcomer.hear().await["type"], "peer-list");
    speaker.send(Message::text("last")).await;
    assert_eq!(listener.receive().await, Message::text("last"), "it has heard of none of this");
    // Nor does it keep anybody in the lobby to have spoken there.
    listener.say(json!({ "type": "announce", "hash": "h", "peerId": "listener" })).await;
    assert_eq!(listener.hear().await["type"], "peer-list");
    assert_eq!(newcomer.hear().await, json!({ "type": "new-peer", "peerId": "listener" }));
}

#[tokio::test]
async fn what_is_no_message_in_a_room_is_refused_and_nothing_else_happens() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, "h", None).await;
    for (frame, code) in [
        (Message::text("no JSON"), "bad-message"),
        (Message::text(r#"["offer"]"#), "bad-message"),
        (Message::text(r#"{"type":"dance"}"#), "bad-message"),
        (Message::text(r#"{"type":"announce","hash":7}"#), "bad-message"),
        (Message::text(r#"{"type":"offer","targetPeer":7}"#), "bad-message"),
        (Message::binary(vec![1]), "bad-message"),
        (Message::text(format!(r#"{{"type":"offer","x":{}}}"#, "[".repeat(80) + &"]".repeat(80))), "too-deep"),
        (Message::text(format!(r#"{{"type":"announce","hash":"{}"}}"#, "x".repeat(129))), "bad-room-name"),
    ] {
        anna.send(frame.clone()).await;
        let refusal = anna.hear().await;
        assert_eq!((&refusal["type"], &refusal["code"]), (&json!("error"), &json!(code)), "{frame:?}");
    }
}

#[tokio::test]
async fn who_comes_joins_the_lobby_as_fast_as_its_address_may_join_rooms_and_no_faster() {
    let server = TestServer::with(|config| config.limits.address_joins_per_second = 1);
    // Twice as many at once; more come by and by while this goes on, and never as fast as connections are made.
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(ForeignClient::connect(&server, "/").await);
    }
    let mut last = clients.pop().unwrap();
    assert_eq!(last.hear().await["code"], "rate-limited");
    assert_eq!(last.closed().await.map(|frame| u16::from(frame.code)), Some(4103));
}

#[tokio::test]
async fn each_of_the_two_is_switched_off_without_the_other() {
    let without = |off| TestServer::with(move |config| config.dialects.retain(|dialect| *dialect != off));
    let no_lobby = without(ForeignDialect::Lobby);
    let (mut anna, _) = announced(&no_lobby, "h", None).await;
    anna.say(json!({ "type": "offer" })).await;
    let mut stranger = ForeignClient::connect(&no_lobby, "/").await;
    stranger.send(Message::text("hello?")).await;
    assert_eq!(stranger.hear().await["code"], "bad-message");
    stranger.say(json!({ "type": "offer", "sdp": "v=0" })).await;
    let refusal = stranger.hear().await;
    assert_eq!(refusal["code"], "room-required");
    assert!(refusal["message"].as_str().is_some_and(|message| message.contains("announced")), "{refusal}");

    let no_rooms = without(ForeignDialect::Classic);
    let (mut listener, mut speaker) = in_lobby(&no_rooms).await;
    let announcement = Message::text(r#"{"type":"announce","hash":"h"}"#);
    speaker.send(announcement.clone()).await;
    assert_eq!(listener.receive().await, announcement);
}
