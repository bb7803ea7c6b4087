//! The `peerjs` library's own language, over real sockets: ids and who has them, what is forwarded, who is absent, and the answers over HTTP.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use switchboard::{config::ForeignDialect, protocol::CloseCode};
use tokio_tungstenite::tungstenite::Message;

use self::support::{
    TestServer, eventually,
    foreign::{ForeignClient, HalfOpen},
    guest_list::{GuestList, grant},
    http, within,
};

/// Long before a silent client would be given up for its silence alone.
const SOME_SECONDS: Duration = Duration::from_secs(10);

fn path(id: &str, token: &str) -> String {
    format!("/peerjs?key=peerjs&id={id}&token={token}&version=1.5.5")
}

fn error(msg: &str) -> Value {
    json!({ "type": "ERROR", "payload": { "msg": msg } })
}

/// One that has its id.
async fn open(server: &TestServer, id: &str, token: &str) -> ForeignClient {
    let mut client = ForeignClient::connect(server, &path(id, token)).await;
    assert_eq!(client.hear().await, json!({ "type": "OPEN" }));
    client
}

/// What one hears that does not get in, before its connection is closed.
async fn turned_away(server: &TestServer, path: &str) -> Value {
    let mut client = ForeignClient::connect(server, path).await;
    let why = client.hear().await;
    let close = client.closed().await.expect("a close frame");
    assert_eq!(u16::from(close.code), 1000);
    why
}

#[tokio::test]
async fn messages_go_to_an_id_with_the_senders_own() {
    let server = TestServer::start();
    let (mut anna, mut bert) = (open(&server, "anna", "a").await, open(&server, "bert", "b").await);
    let offer = r#"{"type":"OFFER","payload":{"sdp":{"type":"offer","sdp":"v=0"},"n":1.50},"dst":"bert","src":"carl","more":1}"#;
    anna.send(Message::text(offer)).await;
    let forwarded = r#"{"type":"OFFER","src":"anna","dst":"bert","payload":{"sdp":{"type":"offer","sdp":"v=0"},"n":1.50}}"#;
    assert_eq!(bert.receive().await, Message::text(forwarded), "the payload's own bytes");
    for kind in ["ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"] {
        bert.say(json!({ "type": kind, "dst": "anna", "payload": { "k": kind } })).await;
        assert_eq!(anna.hear().await, json!({ "type": kind, "src": "bert", "dst": "anna", "payload": { "k": kind } }));
    }
    // None of these is answered, and the connection stays.
    for text in ["no JSON", "[]", r#"{"type":"HEARTBEAT"}"#, r#"{"type":"HELLO","dst":"bert"}"#, r#"{"type":"LEAVE","dst":"nobody"}"#] {
        anna.send(Message::text(text)).await;
    }
    anna.send(Message::binary(vec![0xff])).await;
    anna.say(json!({ "type": "CANDIDATE", "dst": "bert", "payload": 1 })).await;
    assert_eq!(bert.hear().await["payload"], 1);
    bert.say(json!({ "type": "ANSWER", "dst": "anna", "payload": 2 })).await;
    assert_eq!(anna.hear().await["payload"], 2);
}

#[tokio::test]
async fn who_does_not_say_who_it_is_is_told_and_the_connection_ends() {
    let server = TestServer::start();
    let missing = error("No id, token, or key supplied to websocket server");
    for path in ["/peerjs", "/peerjs?key=peerjs&id=a", "/peerjs?key=peerjs&token=t", "/peerjs?id=a&token=t", "/peerjs?key=&id=a&token=t"] {
        assert_eq!(turned_away(&server, path).await, missing, "{path}");
    }
    assert_eq!(turned_away(&server, "/peerjs?key=other&id=a&token=t").await, error("Invalid key provided"));
    for id in ["a.b".to_owned(), "-a".into(), "a".repeat(129)] {
        let why = turned_away(&server, &path(&id, "t")).await;
        assert!(why["payload"]["msg"].as_str().is_some_and(|msg| msg.starts_with("The id is invalid")), "{id}: {why}");
    }
    assert_eq!(turned_away(&server, &path("a", &"t".repeat(4097))).await, error("The token is too long"));
    drop(open(&server, &"a".repeat(128), &"t".repeat(4096)).await);
}

/// Where clients have tokens, who hears that one is too long is not let in by it.
#[tokio::test]
async fn a_token_that_is_too_long_is_not_good() {
    let tokens = [4096, 4097].map(|bytes| "t".repeat(bytes));
    let list = GuestList::default().put(&tokens[0], grant("ann", &["peerjs"])).put(&tokens[1], grant("ann", &["peerjs"]));
    let server = TestServer::asking(Some(Arc::new(list)), |_| {});
    drop(open(&server, "a", &tokens[0]).await);
    let mut long = ForeignClient::connect(&server, &path("b", &tokens[1])).await;
    assert_eq!(long.hear().await["type"], "INVALID-KEY");
    let close = within("the end", long.closed()).await.expect("a close frame");
    assert_eq!(u16::from(close.code), CloseCode::Unauthorized.number());
}

/// Read from another task, so that it answers pings whatever else happens.
fn alive(mut client: ForeignClient) -> tokio::task::JoinHandle<Value> {
    tokio::spawn(async move { client.hear().await })
}

#[tokio::test]
async fn an_id_belongs_to_a_live_holder() {
    let server = TestServer::start();
    let holder = alive(open(&server, "anna", "a").await);
    assert_eq!(turned_away(&server, &path("anna", "b")).await, json!({ "type": "ID-TAKEN", "payload": { "msg": "ID is taken" } }));
    let mut bert = open(&server, "bert", "b").await;
    bert.say(json!({ "type": "OFFER", "dst": "anna", "payload": 1 })).await;
    assert_eq!(within("the offer", holder).await.unwrap()["src"], "bert", "the holder is where it was");
}

#[tokio::test]
async fn an_id_whose_owner_is_dead_is_free_at_once() {
    let server = TestServer::start();
    // Half open: the socket is there, and whoever would answer a ping is not.
    let _dead = HalfOpen::after(&server, &path("anna", "a"), &[], "OPEN").await;
    let asked = Instant::now();
    let mut anna = open(&server, "anna", "b").await;
    assert!(asked.elapsed() < SOME_SECONDS, "{:?}", asked.elapsed());
    let mut bert = open(&server, "bert", "b").await;
    bert.say(json!({ "type": "OFFER", "dst": "anna", "payload": 1 })).await;
    assert_eq!(anna.hear().await["payload"], 1, "the id is the newcomer's");
}

#[tokio::test]
async fn who_leaves_gives_its_id_back() {
    let server = TestServer::start();
    open(&server, "anna", "a").await.close().await;
    let mut anna = open(&server, "anna", "b").await;
    anna.say(json!({ "type": "LEAVE" })).await;
    anna.say(json!({ "type": "OFFER", "dst": "bert", "payload": 1 })).await;
    assert_eq!(anna.hear().await, error("The id was given back by a LEAVE without dst"));
    let anna = alive(anna);
    drop(open(&server, "anna", "c").await);
    assert!(!anna.is_finished(), "its connection stays");
}

#[tokio::test]
async fn who_comes_back_with_its_token_takes_over_and_is_open_again() {
    let server = TestServer::start();
    let mut before = open(&server, "anna", "a").await;
    let mut after = open(&server, "anna", "a").await;
    assert_eq!(before.closed().await.map(|close| u16::from(close.code)), Some(4201));
    let mut bert = open(&server, "bert", "b").await;
    bert.say(json!({ "type": "OFFER", "dst": "anna", "payload": 1 })).await;
    assert_eq!(after.hear().await["payload"], 1);
    after.say(json!({ "type": "ANSWER", "dst": "bert", "payload": 2 })).await;
    assert_eq!(bert.hear().await["src"], "anna");
}

#[tokio::test]
async fn what_is_said_to_somebody_absent_waits_five_seconds() {
    let server = TestServer::start();
    let mut anna = open(&server, "anna", "a").await;
    let said = Instant::now();
    for payload in 1..=3 {
        anna.say(json!({ "type": "CANDIDATE", "dst": "bert", "payload": payload })).await;
        anna.say(json!({ "type": "OFFER", "dst": "nobody", "payload": payload })).await;
    }
    let mut bert = open(&server, "bert", "b").await;
    for payload in 1..=3 {
        assert_eq!(bert.hear().await, json!({ "type": "CANDIDATE", "src": "anna", "dst": "bert", "payload": payload }));
    }
    assert_eq!(anna.hear().await, json!({ "type": "EXPIRE", "src": "nobody", "dst": "anna" }));
    let waited = said.elapsed();
    assert!((Duration::from_secs(5)..SOME_SECONDS).contains(&waited), "{waited:?}");
    // Once for all that was said, and nothing is left of it.
    bert.say(json!({ "type": "ANSWER", "dst": "anna", "payload": 4 })).await;
    assert_eq!(anna.hear().await["payload"], 4);
    let mut nobody = open(&server, "nobody", "n").await;
    anna.say(json!({ "type": "OFFER", "dst": "nobody", "payload": 5 })).await;
    assert_eq!(nobody.hear().await["payload"], 5);
}

/// What is too much to wait is told at once, and about whom.
#[tokio::test]
async fn no_more_waits_for_somebody_absent_than_the_bound() {
    let server = TestServer::with(|config| {
        config.limits.outbox_bytes_max = 131_072;
        config.limits.room_metadata_bytes_max = 1024;
    });
    let mut anna = open(&server, "anna", "a").await;
    let said = Instant::now();
    for _ in 0..3 {
        anna.say(json!({ "type": "OFFER", "dst": "nobody", "payload": "x".repeat(60_000) })).await;
    }
    assert_eq!(anna.hear().await, json!({ "type": "EXPIRE", "src": "nobody", "dst": "anna" }));
    assert!(said.elapsed() < Duration::from_secs(5), "{:?}", said.elapsed());
}

#[tokio::test]
async fn a_full_server_says_so() {
    let server = TestServer::with(|config| config.limits.clients_max = 1);
    let _anna = open(&server, "anna", "a").await;
    let mut bert = ForeignClient::connect(&server, &path("bert", "b")).await;
    assert_eq!(bert.hear().await, error("Server has reached its concurrent user limit"));
    assert!(bert.closed().await.is_some());
}

#[tokio::test]
async fn ids_are_given_and_listed_where_that_is_allowed() {
    let get = async |server: &TestServer, path: &str| {
        let answer = http().get(format!("{}{path}", server.base())).send().await.unwrap();
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (answer.status(), kind, answer.text().await.unwrap())
    };
    let server = TestServer::start();
    let id = async || {
        let (status, kind, id) = get(&server, "/peerjs/id?ts=17000000000000.5&version=1.5.5").await;
        assert_eq!((status, &*kind), (StatusCode::OK, "text/html; charset=utf-8"));
        id
    };
    let (id, other) = (id().await, id().await);
    assert_ne!(id, other);
    drop(open(&server, &id, "t").await);
    assert_eq!(get(&server, "/peerjs/peers?ts=1&version=1.5.5").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&server, "/other/id").await.0, StatusCode::NOT_FOUND, "no other key is valid");
    assert_eq!(get(&server, "/peerjs").await.0, StatusCode::UPGRADE_REQUIRED);
    let (_, kind, page) = get(&server, "/").await;
    assert!(kind.starts_with("text/html") && page.contains("<html"), "our own page is at the root");
    let posted = http().post(format!("{}/peerjs/id", server.base())).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);

    let server = TestServer::with(|config| {
        config.peerjs.discovery = true;
        config.peerjs.path = "/my/app/".into();
        config.peerjs.key = "secret".into();
    });
    let (status, kind, about) = get(&server, "/my/app/").await;
    assert_eq!((status, &*kind), (StatusCode::OK, "application/json"));
    assert_eq!(serde_json::from_str::<Value>(&about).unwrap()["name"], "PeerJS Server");
    let peers = async || serde_json::from_str::<Vec<String>>(&get(&server, "/my/app/secret/peers").await.2).unwrap();
    assert_eq!(peers().await, [""; 0]);
    let mut clients = Vec::new();
    for id in ["anna", "bert"] {
        clients.push(ForeignClient::connect(&server, &format!("/my/app/peerjs?key=secret&id={id}&token=t")).await);
        assert_eq!(clients.last_mut().unwrap().hear().await["type"], "OPEN");
    }
    let mut there = peers().await;
    there.sort();
    assert_eq!(there, ["anna", "bert"]);
    clients.remove(0).close().await;
    eventually("anna is gone", async || peers().await == ["bert"]).await;
    assert_eq!(get(&server, "/my/app/secret/id").await.0, StatusCode::OK);
    assert_eq!(get(&server, "/peerjs/id").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn switched_off_there_is_nothing_of_it() {
    let server = TestServer::with(|config| config.dialects.retain(|dialect| *dialect != ForeignDialect::PeerJs));
    for path in ["/peerjs", "/peerjs/id", "/peerjs/peers"] {
        let answer = http().get(format!("{}{path}", server.base())).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let url = format!("{}{}", server.base().replacen("http", "ws", 1), path("a", "t"));
    assert!(within("an answer", tokio_tungstenite::connect_async(url)).await.is_err());
}
