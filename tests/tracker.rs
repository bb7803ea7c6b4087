//! WebTorrent's tracker over WebSocket: swarms, offers to anybody, answers to whom they belong.

mod support;

use serde_json::{Value, json};
use switchboard::config::ForeignDialect;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use self::support::{TestServer, eventually, foreign::ForeignClient, http, within};

/// Twenty bytes, as text: all that is hard to carry, and a letter.
fn id(letter: char) -> String {
    format!("{letter}\u{0}\u{1}\n\u{1b}\"\\\u{7f}\u{80}\u{85}\u{a0}\u{ad}\u{ff}{}", "x".repeat(7))
}

fn announce(swarm: char, peer: char, more: Value) -> Value {
    let mut message = json!({ "action": "announce", "info_hash": id(swarm), "peer_id": id(peer), "uploaded": 0, "downloaded": 0 });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

fn offers(ids: &[&str]) -> Value {
    let offers: Vec<_> = ids.iter().map(|id| json!({ "offer": { "type": "offer", "sdp": format!("v={id}") }, "offer_id": id })).collect();
    json!({ "event": "started", "numwant": ids.len(), "offers": offers })
}

fn answer(swarm: char, peer: char, to: char, offer_id: &str) -> Value {
    announce(swarm, peer, json!({ "to_peer_id": id(to), "offer_id": offer_id, "answer": { "type": "answer", "sdp": offer_id } }))
}

fn counts(swarm: char, complete: usize, incomplete: usize) -> Value {
    json!({ "action": "announce", "info_hash": id(swarm), "interval": 120, "complete": complete, "incomplete": incomplete })
}

/// A client that has announced itself, and how many there are.
async fn announced(server: &TestServer, swarm: char, peer: char, more: Value) -> (ForeignClient, Value) {
    let mut client = ForeignClient::connect(server, "/tracker").await;
    client.say(announce(swarm, peer, more)).await;
    let response = client.hear().await;
    (client, response)
}

async fn scraped(client: &mut ForeignClient, swarm: char) -> Value {
    client.say(json!({ "action": "scrape", "info_hash": id(swarm) })).await;
    client.hear().await["files"][id(swarm)].clone()
}

/// Asks until there are so many.
async fn counted(client: &mut ForeignClient, swarm: char, complete: usize, incomplete: usize) {
    eventually("counts", async || {
        let counts = scraped(client, swarm).await;
        (&counts["complete"], &counts["incomplete"]) == (&json!(complete), &json!(incomplete))
    })
    .await;
}

#[tokio::test]
async fn offers_reach_one_other_each_and_answers_the_peer_that_offered() {
    let server = TestServer::start();
    let (mut anna, alone) = announced(&server, 'h', 'a', offers(&["nobody"])).await;
    assert_eq!(alone, counts('h', 0, 1));
    let (mut bert, _) = announced(&server, 'h', 'b', json!({})).await;
    let (mut elsewhere, _) = announced(&server, 'i', 'e', json!({})).await;
    let (mut carl, response) = announced(&server, 'h', 'c', offers(&["1", "2", "3"])).await;
    assert_eq!(response, counts('h', 0, 3), "it comes before any offer, and there is nothing about the third");
    let mut offered = vec![];
    for (client, name) in [(&mut anna, 'a'), (&mut bert, 'b')] {
        let offer = client.hear().await;
        let offer_id = offer["offer_id"].as_str().unwrap().to_owned();
        let expected = json!({ "type": "offer", "sdp": format!("v={offer_id}") });
        let whole = json!({ "action": "announce", "info_hash": id('h'), "peer_id": id('c'), "offer_id": offer_id, "offer": expected });
        assert_eq!(offer, whole, "{name}");
        offered.push(offer_id);
    }
    offered.sort_unstable();
    assert_eq!(offered, ["1", "2"]);

    // Who was not offered it, or answers once more, or to another, is told, and nobody else hears of it.
    elsewhere.say(answer('i', 'e', 'c', "1")).await;
    assert!(elsewhere.hear().await["failure reason"].is_string());
    for (client, name) in [(&mut anna, 'a'), (&mut bert, 'b')] {
        client.say(answer('h', name, 'c', "3")).await;
        assert!(client.hear().await["failure reason"].is_string());
    }
    for (client, name, other) in [(&mut anna, 'a', 'b'), (&mut bert, 'b', 'a')] {
        for offer_id in ["1", "2"] {
            client.say(answer('h', name, other, offer_id)).await;
            assert!(client.hear().await["failure reason"].is_string());
            client.say(answer('h', name, 'c', offer_id)).await;
        }
        assert!(client.hear().await["failure reason"].is_string(), "one of the two was for the other");
        let answered = carl.hear().await;
        assert_eq!((&answered["peer_id"], &answered["info_hash"]), (&json!(id(name)), &json!(id('h'))));
        assert_eq!(answered["answer"], json!({ "type": "answer", "sdp": answered["offer_id"] }));
        client.say(answer('h', name, 'c', answered["offer_id"].as_str().unwrap())).await;
        assert!(client.hear().await["failure reason"].is_string(), "it is answered");
    }
    assert_eq!(scraped(&mut carl, 'h').await["incomplete"], 3, "nothing else came");
}

#[tokio::test]
async fn an_answer_to_a_peer_that_is_gone_is_told() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, 'h', 'a', json!({})).await;
    let (mut bert, _) = announced(&server, 'h', 'b', offers(&["1"])).await;
    assert_eq!(anna.hear().await["offer_id"], "1");
    bert.say(announce('h', 'b', json!({ "event": "stopped" }))).await;
    assert_eq!(bert.hear().await, counts('h', 0, 1));
    anna.say(answer('h', 'a', 'b', "1")).await;
    assert_eq!(anna.hear().await["failure reason"], "the peer that made this offer is gone");
    assert_eq!(scraped(&mut bert, 'h').await["incomplete"], 1, "it heard nothing");
}

#[tokio::test]
async fn peers_are_counted_as_they_come_complete_stop_and_vanish() {
    let server = TestServer::start();
    let (mut seeder, response) = announced(&server, 'h', 's', json!({ "event": "started", "left": 0 })).await;
    assert_eq!(response, counts('h', 1, 0));
    let (mut anna, response) = announced(&server, 'h', 'a', json!({ "left": null })).await;
    assert_eq!(response, counts('h', 1, 1), "what is not known is not nothing");
    anna.say(announce('h', 'a', json!({ "event": "completed", "left": 0 }))).await;
    assert_eq!(anna.hear().await, counts('h', 2, 0));
    assert_eq!(scraped(&mut anna, 'h').await, json!({ "complete": 2, "incomplete": 0, "downloaded": 1 }));
    seeder.say(announce('h', 's', json!({ "event": "stopped" }))).await;
    assert_eq!(seeder.hear().await, counts('h', 1, 0));
    anna.close().await;
    counted(&mut seeder, 'h', 0, 0).await;

    seeder.say(json!({ "action": "scrape" })).await;
    assert_eq!(seeder.hear().await["files"], json!({}), "nobody is told of swarms that they cannot name");
    seeder.say(json!({ "action": "scrape", "info_hash": [id('h'), id('i')] })).await;
    assert_eq!(seeder.hear().await["files"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn one_socket_is_in_many_swarms_up_to_a_bound_and_stays_open_whatever_fails() {
    let server = TestServer::with(|config| config.limits.rooms_per_client_max = 2);
    let mut anna = ForeignClient::connect(&server, "/announce").await;
    for (swarm, peer) in [('h', 'a'), ('i', 'b')] {
        anna.say(announce(swarm, peer, json!({}))).await;
        assert_eq!(anna.hear().await, counts(swarm, 0, 1));
    }
    anna.say(announce('j', 'a', offers(&["1", "2"]))).await;
    let failure = anna.hear().await;
    assert_eq!((&failure["action"], &failure["info_hash"]), (&json!("announce"), &json!(id('j'))), "{failure}");
    assert!(failure["failure reason"].is_string());
    for wrong in ["", "no JSON", "[]", r#"{"action":"announce","info_hash":"short"}"#] {
        anna.send(Message::text(wrong)).await;
        assert!(anna.hear().await["failure reason"].is_string(), "{wrong}");
    }
    let (mut bert, _) = announced(&server, 'i', 'c', offers(&["1"])).await;
    let offer = anna.hear().await;
    assert_eq!((&offer["info_hash"], &offer["offer_id"]), (&json!(id('i')), &json!("1")));
    anna.say(answer('i', 'b', 'c', "1")).await;
    assert_eq!(bert.hear().await["peer_id"], id('b'));
    anna.say(announce('h', 'a', json!({ "event": "stopped" }))).await;
    assert_eq!(anna.hear().await, counts('h', 0, 0));
    // A request in a binary frame is one as well.
    anna.send(Message::binary(announce('j', 'a', json!({})).to_string().into_bytes())).await;
    assert_eq!(anna.hear().await, counts('j', 0, 1));
}

#[tokio::test]
async fn a_swarm_may_be_larger_than_a_room() {
    let server = TestServer::with(|config| config.limits.peers_per_room_max = 2);
    let mut peers = vec![];
    for (i, peer) in ('a'..='d').enumerate() {
        let (client, response) = announced(&server, 'h', peer, json!({})).await;
        assert_eq!(response, counts('h', 0, i + 1));
        peers.push(client);
    }
}

#[tokio::test]
async fn a_peer_id_is_its_connections_until_that_is_dead() {
    let server = TestServer::start();
    let (mut alive, _) = announced(&server, 'h', 'a', json!({})).await;
    let mut second = ForeignClient::connect(&server, "/tracker").await;
    second.say(announce('h', 'a', offers(&["1"]))).await;
    // Who reads answers the question whether it is there.
    let failure = tokio::select! {
        failure = second.hear() => failure,
        heard = alive.hear() => panic!("{heard}"),
    };
    assert!(failure["failure reason"].is_string(), "{failure}");
    assert_eq!(scraped(&mut second, 'h').await["incomplete"], 1);
    // From here on it does not.
    let mut waited = 0;
    loop {
        second.say(announce('h', 'a', json!({}))).await;
        let response = second.hear().await;
        if response == counts('h', 0, 1) {
            break;
        }
        waited += 1;
        assert!(waited < 5, "{response}");
    }
    second.say(announce('h', 'a', json!({ "event": "stopped" }))).await;
    assert_eq!(second.hear().await, counts('h', 0, 0));
}

/// Tells what one hears, while another one reads as well: who reads answers the question whether it is there.
async fn heard_beside(other: &mut ForeignClient, client: &mut ForeignClient) -> Value {
    tokio::select! {
        heard = client.hear() => heard,
        heard = other.hear() => panic!("{heard}"),
    }
}

#[tokio::test]
async fn who_asks_in_vain_for_another_peer_id_is_who_it_was() {
    let server = TestServer::start();
    let (mut anna, _) = announced(&server, 'h', 'a', json!({})).await;
    let (mut bert, _) = announced(&server, 'h', 'b', json!({})).await;
    bert.say(announce('h', 'a', offers(&["1"]))).await;
    assert!(heard_beside(&mut anna, &mut bert).await["failure reason"].is_string());
    assert_eq!(scraped(&mut bert, 'h').await, json!({ "complete": 0, "incomplete": 2, "downloaded": 0 }));
    bert.say(announce('h', 'b', offers(&["2"]))).await;
    assert_eq!(bert.hear().await, counts('h', 0, 2));
    let offer = anna.hear().await;
    assert_eq!((&offer["peer_id"], &offer["offer_id"]), (&json!(id('b')), &json!("2")), "the one that was refused made no offer");

    // One that nobody has is its own from there on, and the old one is free.
    bert.say(announce('h', 'c', json!({ "left": 0, "offers": offers(&["3"])["offers"] }))).await;
    assert_eq!(bert.hear().await, counts('h', 1, 1));
    assert_eq!(anna.hear().await["peer_id"], json!(id('c')));
    anna.say(answer('h', 'a', 'c', "3")).await;
    assert_eq!(bert.hear().await["peer_id"], json!(id('a')));
    let (_carl, response) = announced(&server, 'h', 'b', json!({})).await;
    assert_eq!(response, counts('h', 1, 2));
    anna.say(announce('h', 'c', json!({}))).await;
    assert!(heard_beside(&mut bert, &mut anna).await["failure reason"].is_string(), "it has an owner");
}

#[tokio::test]
async fn plain_http_is_told_what_is_here_and_all_of_it_can_be_switched_off() {
    let server = TestServer::start();
    let off = TestServer::with(|config| config.dialects.retain(|dialect| *dialect != ForeignDialect::Tracker));
    for path in ["/tracker", "/announce"] {
        let status = async |server: &TestServer| http().get(format!("{}{path}", server.base())).send().await.unwrap().status().as_u16();
        assert_eq!((status(&server).await, status(&off).await), (400, 404));
        let url = format!("{}{path}", off.base().replacen("http", "ws", 1));
        assert!(within("an answer", connect_async(url)).await.is_err());
    }
}
