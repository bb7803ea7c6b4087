//! How fast a client may send, and how many may come from one address: what is within a rate passes, what is past it is refused with the time to
//! wait, and only who goes on is closed. All of it by every door.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{RawClient, TestServer, connect, eventually, goodbye, within};
use switchboard::{
    client::{Client, Door},
    config::Rates,
    protocol::{ClientMessage, CloseCode, Codec, Request, framing::Frame},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A rate so low that a burst of it is not refilled while a test runs: two at once, and one in every second.
const ONE: u32 = 1;

/// Says all of these at once, and hears what each of them is answered by: `ack`, or the refusal.
async fn burst(client: &mut RawClient, messages: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut count = 0;
    for (id, mut message) in messages.into_iter().enumerate() {
        message["id"] = id.into();
        client.say(message).await;
        count = id + 1;
    }
    let mut answers = Vec::new();
    while answers.len() < count {
        let heard = client.hear().await;
        if let Some(id) = heard["id"].as_u64() {
            assert_eq!(id, answers.len() as u64, "{heard}");
            answers.push(heard);
        }
    }
    answers
}

fn refusals(answers: &[Value]) -> usize {
    answers.iter().filter(|answer| answer["type"] == "error").inspect(|answer| assert_eq!(answer["code"], "rate-limited")).count()
}

#[tokio::test]
async fn a_burst_of_messages_passes_and_what_is_more_is_told_when_to_come_again() {
    let server = TestServer::with(|config| config.limits.messages_per_second = 20);
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        let answers = burst(&mut client, (0..70).map(|_| json!({"type": "ping"}))).await;
        // A busy machine may take so long that some more have their turn.
        let passed = answers.len() - refusals(&answers);
        assert!((40..70).contains(&passed), "{door}: {passed}");
        assert!(answers[..40].iter().all(|answer| answer["type"] == "ack"), "{door}");
        let wait = answers.iter().rev().find_map(|answer| answer["retryAfterMs"].as_u64()).unwrap();
        assert!((1..=50).contains(&wait), "{door}: {wait}");
        // Nothing else is waited for than the time that the server named.
        tokio::time::sleep(Duration::from_millis(wait)).await;
        client.done(json!({"type": "ping"})).await;
    }
}

#[tokio::test]
async fn bytes_have_a_rate_of_their_own() {
    let server = TestServer::with(|config| {
        config.limits.message_bytes_max = 40_000;
        config.limits.bytes_per_second = 20_000;
    });
    for door in Door::ALL {
        let mut client = RawClient::joined(&server, door, &door.to_string()).await;
        let message = |bytes: usize| json!({"type": "message", "payload": "x".repeat(bytes)});
        let answers = burst(&mut client, [message(30_000), message(30_000), message(10)]).await;
        // What is smaller has its turn, and what is refused has taken nothing.
        assert_eq!(answers[0]["type"], "ack", "{door}: {}", answers[0]);
        assert_eq!(answers[1]["code"], "rate-limited", "{door}: {}", answers[1]);
        assert_eq!(answers[2]["type"], "ack", "{door}: {}", answers[2]);
        let wait = answers[1]["retryAfterMs"].as_u64().unwrap();
        assert!((500..1200).contains(&wait), "{door}: {wait}");
    }
}

#[tokio::test]
async fn joins_have_a_rate_of_their_own() {
    let server = TestServer::with(|config| config.limits.joins_per_second = ONE);
    for door in Door::ALL {
        let mut client = RawClient::welcomed(&server, door).await;
        let join = |room: usize| json!({"type": "join", "room": format!("{door} {room}")});
        let answers = burst(&mut client, (0..20).map(join)).await;
        assert!(answers[..2].iter().all(|answer| answer["type"] == "ack"), "{door}");
        assert!(refusals(&answers) >= 10, "{door}");
        // Who may not join may still talk, and is in no room that was refused.
        let refused_room = answers.iter().position(|answer| answer["type"] == "error").unwrap();
        let refusal = client.refused(json!({"type": "message", "room": format!("{door} {refused_room}"), "payload": 1})).await;
        assert_eq!(refusal["code"], "not-in-room", "{door}");
    }
}

#[tokio::test]
async fn all_clients_of_an_address_share_a_rate_of_joins() {
    let server = TestServer::with(|config| config.limits.address_joins_per_second = ONE);
    let mut first = RawClient::joined(&server, Door::WebTransport, "a").await;
    let mut answers = burst(&mut first, (0..20).map(|room| json!({"type": "join", "room": room.to_string()}))).await;
    assert!(refusals(&answers) >= 10);
    let mut second = RawClient::welcomed(&server, Door::WebSocket(Codec::Json)).await;
    answers = burst(&mut second, (0..20).map(|room| json!({"type": "join", "room": room.to_string()}))).await;
    assert!(refusals(&answers) >= 10);
    assert!(answers.iter().any(|answer| answer["code"] == "rate-limited" && answer["retryAfterMs"].as_u64() > Some(0)));
}

#[tokio::test]
async fn who_goes_on_is_closed_and_nobody_else_notices() {
    let server = TestServer::with(|config| config.limits.messages_per_second = 5);
    for door in Door::ALL {
        let room = door.to_string();
        let mut witness = RawClient::joined(&server, door, &room).await;
        let mut client = connect(&server, door).await;
        client.join(&room, None).await.unwrap();
        assert_eq!(witness.hear().await["type"], "peer-joined");
        // Ten pass, and as many are borne.
        let ping = Request { id: None, message: ClientMessage::Ping { received: None } };
        while client.send(&ping).await.is_ok() && server.snapshot().await.values().any(|peers| peers.len() > 1) {}
        assert_eq!(goodbye(&mut client).await, CloseCode::RateLimited, "{door}");
        let left = witness.hear().await;
        assert_eq!((&left["type"], &left["reason"]), (&json!("peer-left"), &json!("removed")), "{door}");
        witness.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_datagram_counts_as_any_message() {
    let server = TestServer::with(|config| config.limits.messages_per_second = 5);
    let mut client = RawClient::joined(&server, Door::WebTransport, "r").await;
    // Datagrams may be lost, so as many are sent as it takes.
    let datagram = rmp_serde::to_vec(&json!({"type": "message", "payload": 1})).unwrap();
    let told = within("a refusal", async {
        loop {
            client.client.send_frame(Frame::Datagram(datagram.clone().into())).await.unwrap();
            let Ok(heard) = tokio::time::timeout(Duration::from_millis(10), client.client.receive_frame()).await else { continue };
            return rmp_serde::from_slice::<Value>(heard.unwrap().bytes()).unwrap();
        }
    })
    .await;
    assert_eq!(told["code"], "rate-limited", "{told}");
}

#[tokio::test]
async fn without_rates_a_client_sends_as_fast_as_it_is_heard() {
    let server = TestServer::with(|config| {
        config.rates = Rates::Off;
        config.limits.messages_per_second = ONE;
        config.limits.joins_per_second = ONE;
        config.limits.address_joins_per_second = ONE;
        config.limits.address_connections_max = 1;
    });
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        client.say(json!({"type": "hello"})).await;
        let limits = client.hear().await["limits"].clone();
        assert!(limits["messageBytes"].is_u64() && limits["messagesPerSecond"].is_null(), "{limits}");
        let joins = (0..20).map(|room| json!({"type": "join", "room": format!("{door} {room}")}));
        let answers = burst(&mut client, joins.chain((0..100).map(|_| json!({"type": "ping"})))).await;
        assert_eq!(refusals(&answers), 0, "{door}");
        drop(RawClient::welcomed(&server, door).await);
    }
}

#[tokio::test]
async fn a_client_is_told_its_rates() {
    let server = TestServer::start();
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        client.say(json!({"type": "hello"})).await;
        let limits = client.hear().await["limits"].clone();
        let rates = ["messagesPerSecond", "bytesPerSecond", "joinsPerSecond"].map(|rate| limits[rate].as_u64());
        assert_eq!(rates, [Some(200), Some(1 << 20), Some(20)], "{limits}");
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_one_more_when_one_is_gone() {
    let server = TestServer::with(|config| config.limits.address_connections_max = 2);
    for door in Door::ALL {
        let first = within("a place", async {
            loop {
                // The connections of the door before, and those for discovery, may not be quite gone.
                let mut client = Client::connect(server.base(), door).await.unwrap();
                if client.hello().await.is_ok() {
                    return client;
                }
            }
        })
        .await;
        let second = connect(&server, Door::WebTransport).await;
        let mut third = within("a connection", Client::connect(server.base(), door)).await.unwrap();
        assert_eq!(goodbye(&mut third).await, CloseCode::TooManyConnections, "{door}");
        within("a close", first.close()).await;
        eventually("its place to be free", async || Client::connect(server.base(), door).await.unwrap().hello().await.is_ok()).await;
        drop(second);
    }
}

/// Asks for a WebSocket in the name of somebody else, and says hello: what the server answers.
async fn greeted(server: &TestServer, forwarded_for: &str) -> (TcpStream, String) {
    let mut tcp = TcpStream::connect(server.addresses()[0]).await.unwrap();
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n"
    );
    tcp.write_all(handshake.as_bytes()).await.unwrap();
    tcp.write_all(&support::raw::frame(support::raw::first::FINISHED | support::raw::first::TEXT, br#"{"type":"hello"}"#)).await.unwrap();
    let mut heard = Vec::new();
    within("an answer", async {
        while !heard.contains(&b'}') {
            assert_ne!(tcp.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
        }
    })
    .await;
    let text = String::from_utf8_lossy(&heard).into_owned();
    (tcp, text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_forwarded_address_counts() {
    let server = TestServer::with(|config| {
        config.limits.address_connections_max = 1;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let (_first, told) = greeted(&server, "192.0.2.1").await;
    assert!(told.contains("welcome"), "{told}");
    let (_second, told) = greeted(&server, "10.9.9.9, 192.0.2.1").await;
    assert!(told.contains("too-many-connections"), "{told}");
    let (_other, told) = greeted(&server, "192.0.2.2").await;
    assert!(told.contains("welcome"), "{told}");
    let (_block, told) = greeted(&server, "2001:db8::1").await;
    assert!(told.contains("welcome"), "{told}");
    let (_same_block, told) = greeted(&server, "2001:db8::2").await;
    assert!(told.contains("too-many-connections"), "{told}");
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_pretend() {
    let server = TestServer::with(|config| config.limits.address_connections_max = 1);
    let (_first, told) = greeted(&server, "192.0.2.1").await;
    assert!(told.contains("welcome"), "{told}");
    let (_second, told) = greeted(&server, "192.0.2.2").await;
    assert!(told.contains("too-many-connections"), "{told}");
}
