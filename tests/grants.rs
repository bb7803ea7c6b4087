//! What a client may do is what it was granted, on every door: to come in, to enter rooms, to send, to hear, to know who is there, and until when.

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::{Value, json};
use switchboard::{
    auth::{Authorize, Denied, Grant, RateLimits, Rights, RoomGrant, RoomPattern, Visitor},
    client::{Connector, Door, Options, ResumingClient},
    protocol::{CloseCode, PeerId},
};
use tokio::sync::Notify;

use self::support::{
    RawClient, TestServer,
    foreign::ForeignClient,
    goodbye,
    guest_list::{GuestList, grant, lasting, with_rights},
    within,
};

fn server(list: GuestList) -> TestServer {
    TestServer::asking(Some(Arc::new(list)), |_| {})
}

async fn welcomed(server: &TestServer, door: Door, token: &str) -> RawClient {
    let mut client = RawClient::silent(server, door).await;
    client.say(json!({ "type": "hello", "token": token })).await;
    assert_eq!(client.hear().await["type"], "welcome", "{door}");
    client
}

async fn joined(server: &TestServer, door: Door, token: &str, room: &str) -> RawClient {
    let mut client = welcomed(server, door, token).await;
    client.done(json!({ "type": "join", "room": room })).await;
    client
}

#[tokio::test]
async fn without_a_good_token_nobody_comes_in() {
    let server = server(GuestList::default().put("good", grant("ann", &["r"])));
    for door in Door::ALL {
        for first in [
            json!({ "type": "hello" }),
            json!({ "type": "hello", "token": "bad" }),
            json!({ "type": "hello", "token": "" }),
            json!({ "type": "join", "room": "r", "token": "good" }),
            json!({ "type": "hello", "token": 7 }),
        ] {
            let mut client = RawClient::silent(&server, door).await;
            client.say(first).await;
            assert_eq!(goodbye(&mut client.client).await, CloseCode::Unauthorized, "{door}");
        }
        welcomed(&server, door, "good").await;
    }
}

/// It came back without its token, which only a session that is still there does not ask for.
#[tokio::test]
async fn who_comes_back_too_late_shows_the_token_again() {
    let list = GuestList::default().put("good", grant("ann", &["r"]));
    let server = TestServer::asking(Some(Arc::new(list)), |config| config.timeouts.resume_window_ms = 0);
    let connector = Arc::new(Connector::new(server.base(), Options::default()).await.unwrap());
    for door in Door::ALL {
        let mut ann = within("a welcome", ResumingClient::connect_with(&connector, door, Some("good"))).await.unwrap();
        let first = ann.peer_id;
        drop(ann.leave_behind());
        assert!(!within("a welcome", ann.resume(door)).await.unwrap(), "{door}");
        assert_ne!(ann.peer_id, first, "{door}");
    }
}

/// They were read all the same, and watched.
#[tokio::test]
async fn keys_are_no_business_of_a_program_that_decides_itself() {
    let list = GuestList::default().put("good", grant("ann", &["r"]));
    let server = TestServer::asking(Some(Arc::new(list)), |config| config.auth.keys = vec!["no-such-key.pem".into()]);
    welcomed(&server, Door::ALL[0], "good").await;
}

#[tokio::test]
async fn others_see_the_user_of_the_token_and_never_another() {
    let server = server(GuestList::default().put("ann", grant("ann", &["r"])).put("bob", grant("bob", &["r"])));
    for door in Door::ALL {
        let mut bob = joined(&server, door, "bob", "r").await;
        let mut ann = welcomed(&server, door, "ann").await;
        let forged = json!({ "type": "join", "room": "r", "user": "bob", "sub": "bob", "peerId": "0", "metadata": { "user": "bob" } });
        let joined = ann.done(forged).await.remove(0);
        assert_eq!(joined["peers"], json!([{ "peerId": bob.peer_id, "user": "bob" }]), "{door}");
        let seen = bob.hear().await;
        assert_eq!((&seen["type"], &seen["user"], &seen["peerId"]), (&"peer-joined".into(), &"ann".into(), &ann.peer_id.clone().into()));
        ann.done(json!({ "type": "metadata", "metadata": 1, "user": "bob" })).await;
        let seen = bob.hear().await;
        assert_eq!((&seen["type"], &seen["user"]), (&"peer-updated".into(), &"ann".into()));
        ann.done(json!({ "type": "leave" })).await;
        bob.done(json!({ "type": "leave" })).await;
    }
}

#[tokio::test]
async fn a_room_is_entered_by_who_it_is_for_and_the_refusal_tells_nothing_of_it() {
    let few = RoomGrant { rooms: RoomPattern::parse("small"), rights: Rights::ALL, peers_max: Some(1) };
    let list = GuestList::default()
        .put("ann", grant("ann", &["here", "team-*", "full", "small"]))
        .put("few", Grant { rooms: Some([few].into()), ..grant("few", &[]) })
        .put("none", grant("eve", &[]));
    let server = TestServer::asking(Some(Arc::new(list)), |config| config.limits.peers_per_room_max = 2);
    for door in Door::ALL {
        let mut members = vec![];
        for room in ["here", "team-", "team-1", "full", "full", "small"] {
            members.push(joined(&server, door, "ann", room).await);
        }
        let mut eve = welcomed(&server, door, "none").await;
        let mut refusals = vec![];
        for room in ["here", "full", "absent", "team-1"] {
            refusals.push(eve.refused(json!({ "type": "join", "room": room })).await);
        }
        assert_eq!(refusals[0]["code"], "forbidden", "{door}");
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{door}: {refusals:?}");
        let mut few = welcomed(&server, door, "few").await;
        assert_eq!(few.refused(json!({ "type": "join", "room": "small" })).await["code"], "room-full", "{door}");
        let mut late = welcomed(&server, door, "ann").await;
        assert_eq!(late.refused(json!({ "type": "join", "room": "full" })).await["code"], "room-full", "{door}");
        assert_eq!(late.refused(json!({ "type": "join", "room": "team" })).await["code"], "forbidden", "{door}");
        drop(members.pop());
        support::eventually("the small room to be empty", async || !server.snapshot().await.keys().any(|room| room.as_str() == "small"))
            .await;
        few.done(json!({ "type": "join", "room": "small" })).await;
        drop((members, few));
        support::eventually("everybody to be gone", async || server.snapshot().await.is_empty()).await;
    }
}

/// Each right in turn is missing, and whatever needs it is refused or passed by, and nothing else.
#[tokio::test]
async fn each_right_counts_for_itself() {
    let all = Rights::ALL;
    let list = GuestList::default()
        .put("all", grant("all", &["r"]))
        .put("mute", with_rights("mute", &[("r", Rights { publish: false, ..all })]))
        .put("quiet", with_rights("quiet", &[("r", Rights { broadcast: false, ..all })]))
        .put("deaf", with_rights("deaf", &[("r", Rights { subscribe: false, ..all })]))
        .put("blind", with_rights("blind", &[("r", Rights { observe: false, ..all })]));
    let server = server(list);
    for door in Door::ALL {
        let mut whole = joined(&server, door, "all", "r").await;
        let whole_id = whole.peer_id.clone();
        let to_whole = |kind: &str| json!({ "type": kind, "to": whole_id, "payload": 1 });
        for (token, signal, direct, all) in
            [("mute", false, false, true), ("quiet", true, true, false), ("deaf", true, true, true), ("blind", true, true, true)]
        {
            let mut peer = welcomed(&server, door, token).await;
            let list = peer.done(json!({ "type": "join", "room": "r" })).await.remove(0);
            assert_eq!(list["peers"].as_array().unwrap().len(), usize::from(token != "blind"), "{door} {token}");
            assert_eq!(whole.hear().await["user"], token, "everybody is seen");
            for (message, allowed) in [
                (to_whole("offer"), signal),
                (to_whole("answer"), signal),
                (to_whole("ice-candidate"), signal),
                (to_whole("message"), direct),
                (json!({ "type": "message", "payload": 2 }), all),
            ] {
                if allowed {
                    peer.done(message).await;
                    assert_eq!(whole.hear().await["from"], peer.peer_id, "{door} {token}");
                } else {
                    assert_eq!(peer.refused(message).await["code"], "forbidden", "{door} {token}");
                    whole.hears_nothing().await;
                }
            }
            let to_peer = json!({ "type": "message", "to": peer.peer_id, "payload": 3 });
            let to_all = json!({ "type": "message", "payload": 4 });
            if token == "deaf" {
                assert_eq!(whole.refused(to_peer).await["code"], "forbidden", "{door}");
                whole.done(to_all).await;
            } else {
                whole.done(to_peer).await;
                whole.done(to_all).await;
                assert_eq!((peer.hear().await["payload"].clone(), peer.hear().await["payload"].clone()), (json!(3), json!(4)), "{door}");
            }
            // Somebody comes and goes.
            let mut third = joined(&server, door, "all", "r").await;
            third.done(json!({ "type": "metadata", "metadata": 1 })).await;
            third.done(json!({ "type": "leave" })).await;
            let seen = [whole.hear().await, whole.hear().await, whole.hear().await].map(|message| message["type"].clone());
            assert_eq!(seen, ["peer-joined", "peer-updated", "peer-left"].map(Value::from), "{door}");
            if token != "blind" {
                let seen = [peer.hear().await, peer.hear().await, peer.hear().await].map(|message| message["type"].clone());
                assert_eq!(seen, ["peer-joined", "peer-updated", "peer-left"].map(Value::from), "{door} {token}");
            }
            peer.hears_nothing().await;
            peer.done(json!({ "type": "leave" })).await;
            assert_eq!(whole.hear().await["type"], "peer-left");
        }
        whole.done(json!({ "type": "leave" })).await;
    }
}

#[tokio::test]
async fn a_client_is_told_the_rates_of_its_token_and_kept_to_them() {
    let rates = RateLimits { messages_per_second: Some(1), joins_per_second: Some(1_000_000), ..RateLimits::default() };
    let server = server(GuestList::default().put("slow", Grant { rates, ..grant("ann", &["r"]) }));
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        client.say(json!({ "type": "hello", "token": "slow" })).await;
        let limits = client.hear().await["limits"].clone();
        assert_eq!((&limits["messagesPerSecond"], &limits["joinsPerSecond"]), (&json!(1), &json!(20)), "no more than others: {limits}");
        client.done(json!({ "type": "join", "room": "r" })).await;
        assert_eq!(client.refused(json!({ "type": "ping" })).await["code"], "rate-limited", "{door}");
    }
}

/// It was bound by the rates of the first token as well.
#[tokio::test]
async fn a_new_token_may_be_for_a_faster_client() {
    let rates = RateLimits { messages_per_second: Some(2), bytes_per_second: Some(1), ..RateLimits::default() };
    let list = GuestList::default().put("slow", Grant { rates, ..grant("ann", &["r"]) }).put("fast", grant("ann", &["r"]));
    let server = server(list);
    for door in Door::ALL {
        let mut client = welcomed(&server, door, "slow").await;
        // However few bytes it may send, a new token gets through.
        client.done(json!({ "type": "hello", "token": "fast" })).await;
        for _ in 0..20 {
            client.done(json!({ "type": "ping" })).await;
        }
    }
}

/// One token for all visitors of a site was the secret by which each of them could take over the name of another.
#[tokio::test]
async fn a_token_that_many_have_takes_over_no_name() {
    let everybody = Grant { user: None, ..grant("", &["peerjs"]) };
    let server = server(GuestList::default().put("shared", everybody).put("ann", grant("ann", &["peerjs"])));
    let connect = async |token: &str| ForeignClient::connect(&server, &format!("/peerjs?key=peerjs&id=bert&token={token}")).await;
    for (token, second) in [("shared", "ID-TAKEN"), ("ann", "OPEN")] {
        let mut holder = connect(token).await;
        assert_eq!(holder.hear().await["type"], "OPEN", "{token}");
        let (told, ended) = tokio::join!(
            async {
                let mut other = connect(token).await;
                other.hear().await["type"].clone()
            },
            // Who reads answers the question whether it is there.
            async { tokio::time::timeout(Duration::from_secs(5), holder.closed()).await.is_ok() },
        );
        assert_eq!((told, ended), (second.into(), second == "OPEN"), "{token}");
        if !ended {
            holder.close().await;
        }
        support::eventually("the name to be free", async || server.snapshot().await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_token_that_runs_out_is_announced_and_ends_the_session() {
    for door in Door::ALL {
        let server = server(GuestList::default().put("soon", lasting(grant("ann", &["r"]), Duration::from_secs(2))));
        let mut client = welcomed(&server, door, "soon").await;
        let announced = client.hear().await;
        assert_eq!((&announced["type"], &announced["code"]), (&"goodbye".into(), &"token-expired".into()), "{door}");
        assert!((1..=2_000).contains(&announced["closesInMs"].as_u64().unwrap()), "{announced}");
        client.done(json!({ "type": "join", "room": "r" })).await;
        assert_eq!(goodbye(&mut client.client).await, CloseCode::TokenExpired, "{door}");
        support::eventually("the room to be empty", async || server.snapshot().await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_new_token_goes_on_with_the_session_and_leaves_the_rooms_that_it_is_not_for() {
    let first = Duration::from_secs(6);
    let at_each_door = Door::ALL.map(|door| async move {
        let begun = tokio::time::Instant::now();
        let list = GuestList::default()
            .put("soon", lasting(grant("ann", &["r", "s"]), first))
            .put("later", lasting(grant("ann", &["r"]), Duration::from_secs(3600)))
            .put("other", grant("bob", &["r"]))
            .put("witness", grant("eve", &["s"]));
        let server = server(list);
        let mut witness = joined(&server, door, "witness", "s").await;
        let mut client = joined(&server, door, "soon", "r").await;
        client.done(json!({ "type": "join", "room": "s" })).await;
        assert_eq!(witness.hear().await["type"], "peer-joined");
        // What is wrong changes nothing.
        for bad in [json!({ "token": "bad" }), json!({ "token": "other" })] {
            let hello = json!({ "type": "hello", "token": bad["token"] });
            let heard = refused_past_goodbye(&mut client, hello).await;
            assert_eq!(heard["code"], "unauthorized", "{door}");
        }
        let again = json!({ "type": "hello", "token": "later", "resume": { "token": "0".repeat(32), "received": 0 } });
        assert_eq!(refused_past_goodbye(&mut client, again).await["code"], "bad-message", "{door}");
        let mut heard = client.done(json!({ "type": "hello", "token": "later" })).await;
        heard.retain(|message| message["type"] != "goodbye");
        assert_eq!(heard, [json!({ "type": "left", "room": "s", "reason": "removed" })], "{door}");
        let seen = witness.hear().await;
        assert_eq!((&seen["type"], &seen["reason"]), (&"peer-left".into(), &"removed".into()), "{door}");
        assert_eq!(client.refused(json!({ "type": "join", "room": "s" })).await["code"], "forbidden", "{door}");
        // What this is about: the end of the first comes and goes.
        tokio::time::sleep_until(begun + first + Duration::from_secs(1)).await;
        client.hears_nothing().await;
    });
    futures_util::future::join_all(at_each_door).await;
}

/// Takes as long to look at some tokens as it is told.
struct Slow {
    list: GuestList,
    looks: Notify,
}

impl Authorize for Slow {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        let looked_at = self.list.connect(visitor.clone());
        let look = async move {
            if visitor.token.is_some_and(|token| token.starts_with("slow")) {
                self.looks.notified().await;
            }
            looked_at.await
        };
        look.boxed()
    }
}

#[tokio::test]
async fn a_new_token_that_is_said_in_time_is_in_time() {
    let first = Duration::from_secs(2);
    for (token, stays) in [("slow and good", true), ("slow and bad", false)] {
        let list = GuestList::default()
            .put("soon", lasting(grant("ann", &["r"]), first))
            .put("slow and good", lasting(grant("ann", &["r"]), Duration::from_secs(3600)));
        let authority = Arc::new(Slow { list, looks: Notify::new() });
        let server = TestServer::asking(Some(authority.clone()), |_| {});
        let begun = tokio::time::Instant::now();
        let mut client = welcomed(&server, Door::ALL[0], "soon").await;
        client.say(json!({ "type": "hello", "token": token, "id": 7 })).await;
        // What this is about: the end of the first comes and goes.
        tokio::time::sleep_until(begun + first + Duration::from_secs(1)).await;
        authority.looks.notify_one();
        assert!(client.hear().await["closesInMs"].is_u64());
        let answer = client.hear().await;
        assert_eq!((&answer["type"], &answer["id"]), (&if stays { "ack" } else { "error" }.into(), &7.into()), "{answer}");
        match stays {
            true => drop(client.done(json!({ "type": "join", "room": "r" })).await),
            false => assert_eq!(goodbye(&mut client.client).await, CloseCode::TokenExpired),
        }
    }
}

#[tokio::test]
async fn what_is_said_again_of_the_end_is_set_right() {
    let list = GuestList::default()
        .put("soon", lasting(grant("ann", &["r"]), Duration::from_secs(20)))
        .put("later", lasting(grant("ann", &["r"]), Duration::from_secs(3600)));
    let server = TestServer::asking(Some(Arc::new(list)), |config| config.timeouts.resume_window_ms = 60_000);
    for door in Door::ALL {
        let mut first = RawClient::silent(&server, door).await;
        first.say(json!({ "type": "hello", "token": "soon" })).await;
        let welcome = first.hear().await;
        let mut second = RawClient::silent(&server, door).await;
        let resume = json!({ "token": welcome["resumeToken"], "received": 1 });
        second.say(json!({ "type": "hello", "token": "later", "resume": resume })).await;
        assert_eq!(second.hear().await["resumed"], true, "{door}");
        assert!(second.hear().await["closesInMs"].as_u64().unwrap() <= 20_000, "{door}: what it missed");
        assert!(second.hear().await["closesInMs"].as_u64().unwrap() > 3_000_000, "{door}");
    }
}

async fn refused_past_goodbye(client: &mut RawClient, message: Value) -> Value {
    let id = 7_000_000;
    let mut message = message;
    message["id"] = id.into();
    client.say(message).await;
    loop {
        let heard = client.hear().await;
        match heard["type"].as_str() {
            Some("goodbye") => assert!(heard["closesInMs"].is_u64(), "{heard}"),
            Some("error") => return heard,
            _ => panic!("{heard}"),
        }
    }
}

#[tokio::test]
async fn a_session_is_resumed_as_whom_it_was_begun() {
    let list =
        GuestList::default().put("ann", grant("ann", &["r", "s"])).put("less", grant("ann", &["r"])).put("bob", grant("bob", &["r"]));
    let server = TestServer::asking(Some(Arc::new(list)), |config| config.timeouts.resume_window_ms = 60_000);
    for door in Door::ALL {
        // By its secret alone, with a token of the same user beside it, with that of another, and with none that is good.
        for (token, resumed) in [(None, Some(true)), (Some("less"), Some(true)), (Some("bob"), Some(false)), (Some("bad"), None)] {
            let mut first = RawClient::silent(&server, door).await;
            first.say(json!({ "type": "hello", "token": "ann" })).await;
            let welcome = first.hear().await;
            for room in ["r", "s"] {
                first.done(json!({ "type": "join", "room": room })).await;
            }
            let mut second = RawClient::silent(&server, door).await;
            let resume = json!({ "token": welcome["resumeToken"], "received": 5 });
            let hello = match token {
                Some(token) => json!({ "type": "hello", "token": token, "resume": resume }),
                None => json!({ "type": "hello", "resume": resume }),
            };
            second.say(hello).await;
            match resumed {
                Some(resumed) => {
                    let again = second.hear().await;
                    assert_eq!(again["resumed"], resumed, "{door} {token:?}");
                    assert_eq!(again["peerId"] == welcome["peerId"], resumed, "{door} {token:?}");
                }
                None => assert_eq!(goodbye(&mut second.client).await, CloseCode::Unauthorized, "{door}"),
            }
            if token == Some("less") {
                assert_eq!(second.hear().await, json!({ "type": "left", "room": "s", "reason": "removed" }), "{door}");
            }
            if resumed != Some(true) {
                first.done(json!({ "type": "leave" })).await;
            }
            if resumed.is_some() {
                second.say(json!({ "type": "leave" })).await;
            }
            support::eventually("the rooms to be empty", async || server.snapshot().await.is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_room_that_has_to_be_asked_about_is_asked_about_each_time() {
    let ask = Grant { rooms: None, asks_about_rooms: true, ..grant("ann", &[]) };
    let list = Arc::new(GuestList::default().put("ann", ask).open_room("yes"));
    let server = TestServer::asking(Some(list.clone()), |_| {});
    for door in Door::ALL {
        let mut client = joined(&server, door, "ann", "yes").await;
        assert_eq!(client.refused(json!({ "type": "join", "room": "no" })).await["code"], "forbidden", "{door}");
        let asked: Vec<_> = ["yes", "no"].map(|room| (room.to_owned(), Some("ann".to_owned()))).into();
        assert_eq!(list.asked().split_off(list.asked().len() - 2), asked, "{door}");
        // Of one breath: the message goes to the room that was asked about.
        let mut other = welcomed(&server, door, "ann").await;
        other.say(json!({ "type": "join", "room": "yes" })).await;
        other.done(json!({ "type": "message", "payload": "behind" })).await;
        assert_eq!(client.hear().await["type"], "peer-joined");
        assert_eq!(client.hear().await["payload"], "behind");
    }
}

#[tokio::test]
async fn on_an_open_server_a_token_means_nothing() {
    let server = TestServer::start();
    for door in Door::ALL {
        let mut client = welcomed(&server, door, "whatever").await;
        client.done(json!({ "type": "hello", "token": "another" })).await;
        client.done(json!({ "type": "join", "room": "r" })).await;
    }
    assert_ne!(PeerId::random(), PeerId::SERVER);
}
