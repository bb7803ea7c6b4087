//! Topics as the signaling server of `y-webrtc` has them: what is published reaches all who subscribed.

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use switchboard::{auth::Rights, client::Door, config::ForeignDialect, protocol::Codec};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use self::support::{
    RawClient, TestServer, eventually,
    foreign::ForeignClient,
    guest_list::{GuestList, with_rights},
    http, within,
};

/// A client that has subscribed: nobody says so, but a `pong` comes behind it.
async fn subscribed(server: &TestServer, topics: &[&str]) -> ForeignClient {
    let mut client = ForeignClient::connect(server, "/y").await;
    client.say(json!({ "type": "subscribe", "topics": topics })).await;
    pong(&mut client).await;
    client
}

async fn pong(client: &mut ForeignClient) {
    client.say(json!({ "type": "ping" })).await;
    assert_eq!(client.hear().await, json!({ "type": "pong" }));
}

fn publish(topic: &str, data: &str) -> Value {
    json!({ "type": "publish", "topic": topic, "data": data, "extra": { "kept": 1.5 } })
}

fn published(topic: &str, data: &str, clients: usize) -> Value {
    let mut message = publish(topic, data);
    message["clients"] = clients.into();
    message
}

#[tokio::test]
async fn what_is_published_reaches_all_subscribers_its_sender_among_them() {
    let server = TestServer::start();
    let mut anna = subscribed(&server, &["kitchen", "attic"]).await;
    let mut bert = subscribed(&server, &["kitchen"]).await;
    let mut carl = subscribed(&server, &["attic"]).await;
    anna.say(publish("kitchen", "1")).await;
    anna.say(publish("attic", "2")).await;
    assert_eq!(anna.hear().await, published("kitchen", "1", 2));
    assert_eq!(anna.hear().await, published("attic", "2", 2));
    assert_eq!(bert.hear().await, published("kitchen", "1", 2));
    assert_eq!(carl.hear().await, published("attic", "2", 2));
    // To subscribe once more, and not to any more, are no faults.
    bert.say(json!({ "type": "subscribe", "topics": ["kitchen"] })).await;
    bert.say(json!({ "type": "unsubscribe", "topics": ["attic", "kitchen"] })).await;
    pong(&mut bert).await;
    anna.say(publish("kitchen", "3")).await;
    assert_eq!(anna.hear().await, published("kitchen", "3", 1));
    pong(&mut bert).await;
    carl.close().await;
    let alone = published("attic", "4", 1);
    eventually("one less", async || {
        anna.say(publish("attic", "4")).await;
        anna.hear().await == alone
    })
    .await;
}

#[tokio::test]
async fn who_did_not_subscribe_publishes_nothing_and_is_told() {
    let server = TestServer::start();
    let mut anna = subscribed(&server, &["kitchen"]).await;
    let mut stranger = subscribed(&server, &[]).await;
    stranger.say(publish("kitchen", "1")).await;
    let refusal = stranger.hear().await;
    assert_eq!((&refusal["type"], &refusal["code"]), (&json!("error"), &json!("not-in-room")));
    pong(&mut anna).await;
    for (frame, code) in [
        (Message::text("no JSON"), "bad-message"),
        (Message::binary(vec![255]), "bad-message"),
        (Message::text(r#"{"type":"subscribe","topics":["\n"]}"#), "bad-room-name"),
        (Message::text(format!(r#"{{"type":"publish","topic":"t","x":{}}}"#, "[".repeat(80) + &"]".repeat(80))), "too-deep"),
    ] {
        stranger.send(frame.clone()).await;
        assert_eq!(stranger.hear().await["code"], code, "{frame:?}");
    }
    pong(&mut stranger).await;
}

/// It came with everything that was published, the client's own among it.
#[tokio::test]
async fn how_many_there_are_is_told_to_those_alone_who_may_know() {
    let rights = |observe| with_rights("user", &[("kitchen", Rights { observe, ..Rights::ALL })]);
    let list = GuestList::default().put("seeing", rights(true)).put("blind", rights(false));
    let server = TestServer::asking(Some(Arc::new(list)), |_| {});
    let mut clients = Vec::new();
    for token in ["seeing", "blind", "seeing", "blind"] {
        let mut client = ForeignClient::connect(&server, &format!("/y?token={token}")).await;
        client.say(json!({ "type": "subscribe", "topics": ["kitchen"] })).await;
        pong(&mut client).await;
        clients.push((client, token));
    }
    for sender in 0..clients.len() {
        clients[sender].0.say(publish("kitchen", "1")).await;
        for (client, token) in &mut clients {
            let expected = if *token == "seeing" { published("kitchen", "1", 4) } else { publish("kitchen", "1") };
            assert_eq!(client.hear().await, expected, "{token}, from {sender}");
        }
    }
}

#[tokio::test]
async fn topics_are_no_rooms_of_other_clients() {
    let server = TestServer::start();
    let mut native = RawClient::joined(&server, Door::WebSocket(Codec::Json), "kitchen").await;
    let mut anna = subscribed(&server, &["kitchen"]).await;
    anna.say(publish("kitchen", "1")).await;
    assert_eq!(anna.hear().await["clients"], 1);
    native.done(json!({ "type": "message", "payload": 1 })).await;
    pong(&mut anna).await;
}

#[tokio::test]
async fn topics_have_bounds() {
    let server = TestServer::with(|config| {
        config.limits.rooms_per_client_max = 2;
        config.limits.peers_per_room_max = 2;
    });
    let mut anna = ForeignClient::connect(&server, "/y").await;
    anna.say(json!({ "type": "subscribe", "topics": ["a", "b", "c"] })).await;
    assert_eq!(anna.hear().await["code"], "too-many-rooms");
    anna.say(json!({ "type": "unsubscribe", "topics": ["a"] })).await;
    anna.say(json!({ "type": "subscribe", "topics": ["c"] })).await;
    pong(&mut anna).await;
    let _bert = subscribed(&server, &["b"]).await;
    let mut carl = ForeignClient::connect(&server, "/y").await;
    carl.say(json!({ "type": "subscribe", "topics": ["b"] })).await;
    assert_eq!(carl.hear().await["code"], "room-full", "one who publishes speaks to all of a topic, so it is no larger than any room");
}

#[tokio::test]
async fn plain_http_is_answered_okay_and_all_of_it_can_be_switched_off() {
    let server = TestServer::start();
    let answer = http().get(format!("{}/y", server.base())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, "okay".to_owned()));
    let off = TestServer::with(|config| config.dialects.retain(|dialect| *dialect != ForeignDialect::YWebrtc));
    assert_eq!(http().get(format!("{}/y", off.base())).send().await.unwrap().status(), 404);
    let url = format!("{}/y", off.base().replacen("http", "ws", 1));
    assert!(within("an answer", connect_async(url)).await.is_err());
}

/// Two that came in the same instant heard each other's announcement and called each other, which the library does not always survive. Its own server
/// deals with what one says in one breath before it hears the other.
#[tokio::test]
async fn of_two_that_subscribe_and_publish_in_one_breath_one_is_the_first() {
    let server = TestServer::start();
    for round in 0..50 {
        let topic = format!("instant {round}");
        let (mut anna, mut bert) = tokio::join!(ForeignClient::connect(&server, "/y"), ForeignClient::connect(&server, "/y"));
        let breath = |who| [json!({ "type": "subscribe", "topics": [&topic] }), publish(&topic, who)];
        let (annas, berts) = (breath("anna"), breath("bert"));
        tokio::join!(anna.say_in_one_breath(&annas), bert.say_in_one_breath(&berts));
        let mut heard = vec![];
        for (client, name) in [(&mut anna, "anna"), (&mut bert, "bert")] {
            loop {
                let data = client.hear().await["data"].clone();
                heard.push((name, data.clone()));
                if data == name {
                    break;
                }
            }
        }
        // What was said by now has reached whom it is for.
        for (client, name) in [(&mut anna, "anna"), (&mut bert, "bert")] {
            client.say(json!({ "type": "ping" })).await;
            loop {
                let message = client.hear().await;
                if message["type"] == "pong" {
                    break;
                }
                heard.push((name, message["data"].clone()));
            }
        }
        assert_eq!(heard.len(), 3, "each itself, and one of them the other: {heard:?}");
        // From here on everybody hears everything.
        anna.say(publish(&topic, "later")).await;
        assert_eq!((&anna.hear().await["data"], &bert.hear().await["data"]), (&json!("later"), &json!("later")));
    }
}
