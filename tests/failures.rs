//! Wrong credentials slow down whoever comes from their address, and keep nobody out.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    RawClient, TestServer,
    guest_list::{GuestList, grant},
};
use switchboard::{auth::Authorize, client::Door, protocol::CloseCode};

/// As long as is waited behind two failures that are not free, at least.
const DELAY: Duration = Duration::from_millis(200);

fn server(failures_max: u32, connections_max: usize) -> TestServer {
    let list: Arc<dyn Authorize> = Arc::new(GuestList::default().put("good", grant("ann", &["r"])));
    TestServer::asking(Some(list), |config| {
        config.limits.address_failures_max = failures_max;
        config.limits.address_connections_max = connections_max;
    })
}

/// Says hello, and hears how that ends.
async fn hello(server: &TestServer, door: Door, hello: serde_json::Value) -> (Option<CloseCode>, Duration) {
    let mut client = RawClient::silent(server, door).await;
    let since = Instant::now();
    client.say(hello).await;
    let refused = client.hear().await;
    let code = if refused["type"] == "goodbye" { Some(CloseCode::from_slug(refused["code"].as_str().unwrap()).unwrap()) } else { None };
    (code, since.elapsed())
}

#[tokio::test]
async fn a_genuine_client_of_an_address_that_failed_comes_in_a_little_later() {
    for door in Door::ALL {
        let server = server(1, 5000);
        for _ in 0..3 {
            assert_eq!(hello(&server, door, json!({ "type": "hello", "token": "bad" })).await.0, Some(CloseCode::Unauthorized), "{door}");
        }
        let (refused, took) = hello(&server, door, json!({ "type": "hello", "token": "good" })).await;
        assert_eq!(refused, None, "{door}");
        assert!(took >= DELAY, "{door}: {took:?}");
    }
}

/// If it were counted, the last would wait for longer than any test does.
#[tokio::test]
async fn who_says_no_token_has_failed_nothing() {
    let list: Arc<dyn Authorize> = Arc::new(GuestList::default().put("good", grant("ann", &["r"])));
    let server = TestServer::asking(Some(list), |config| {
        config.limits.address_failures_max = 1;
        config.timeouts.failure_delay_ms = 600_000;
    });
    for door in Door::ALL {
        for _ in 0..5 {
            assert_eq!(hello(&server, door, json!({ "type": "hello" })).await.0, Some(CloseCode::Unauthorized), "{door}");
        }
    }
    assert_eq!(hello(&server, Door::ALL[0], json!({ "type": "hello", "token": "good" })).await.0, None);
}

/// A new token is a credential like the first.
#[tokio::test]
async fn who_is_in_already_tries_tokens_no_faster() {
    let server = server(1, 5000);
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        client.say(json!({ "type": "hello", "token": "good" })).await;
        assert_eq!(client.hear().await["type"], "welcome", "{door}");
        for _ in 0..3 {
            assert_eq!(client.refused(json!({ "type": "hello", "token": "bad" })).await["code"], "unauthorized", "{door}");
        }
        let since = Instant::now();
        client.done(json!({ "type": "hello", "token": "good" })).await;
        assert!(since.elapsed() >= DELAY, "{door}");
    }
}

/// A server that was restarted knows nobody's resume token; there may be as many such clients as an address may have connections.
#[tokio::test]
async fn resume_tokens_that_resume_nothing_count_for_less() {
    let resume = || json!({ "type": "hello", "token": "good", "resume": { "token": "0".repeat(32), "received": 1 } });
    for door in Door::ALL {
        let server = server(1, 4);
        for _ in 0..4 {
            assert_eq!(hello(&server, door, resume()).await.0, None, "{door}: a new session");
        }
        // Two failures beyond what is free, of which each is four of these.
        for _ in 0..8 {
            assert_eq!(hello(&server, door, resume()).await.0, None, "{door}");
        }
        let (refused, took) = hello(&server, door, json!({ "type": "hello", "token": "good" })).await;
        assert_eq!(refused, None, "{door}");
        assert!(took >= DELAY, "{door}: {took:?}");
    }
}

/// By UDP a proxy names nobody, so all of its clients have its address, and one of them with an old token slowed down all.
#[tokio::test]
async fn clients_of_a_proxy_that_names_nobody_do_not_slow_each_other_down_at_once() {
    let bad = || json!({ "type": "hello", "token": "bad" });
    let behind_proxy = |connections_max, delay_ms| {
        let list: Arc<dyn Authorize> = Arc::new(GuestList::default().put("good", grant("ann", &["r"])));
        TestServer::asking(Some(list), |config| {
            config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            config.limits.address_failures_max = 1;
            config.limits.address_connections_max = connections_max;
            config.timeouts.failure_delay_ms = delay_ms;
        })
    };
    for door in Door::ALL {
        // If these were counted as elsewhere, the last would wait for longer than any test does.
        let server = behind_proxy(5000, 600_000);
        for _ in 0..15 {
            assert_eq!(hello(&server, door, bad()).await.0, Some(CloseCode::Unauthorized), "{door}");
        }
        assert_eq!(hello(&server, door, json!({ "type": "hello", "token": "good" })).await.0, None, "{door}");
        // As many are free as there may be connections.
        let server = behind_proxy(4, 5_000);
        for _ in 0..12 {
            assert_eq!(hello(&server, door, bad()).await.0, Some(CloseCode::Unauthorized), "{door}");
        }
        let (refused, took) = hello(&server, door, json!({ "type": "hello", "token": "good" })).await;
        assert_eq!(refused, None, "{door}");
        assert!(took >= DELAY, "{door}: {took:?}");
    }
}

/// The wait once took as much of the time for coming back as it lasted.
#[tokio::test]
async fn who_has_to_wait_at_the_door_does_not_lose_the_session() {
    let list: Arc<dyn Authorize> = Arc::new(GuestList::default().put("good", grant("ann", &["r"])));
    let server = TestServer::asking(Some(list), |config| {
        config.limits.address_failures_max = 1;
        (config.timeouts.resume_window_ms, config.timeouts.failure_delay_ms) = (1_000, 3_000);
    });
    for door in Door::ALL {
        let mut client = RawClient::silent(&server, door).await;
        client.say(json!({ "type": "hello", "token": "good" })).await;
        let welcome = client.hear().await;
        // All at once, so that none waits for another.
        let guesses = (0..12).map(|_| hello(&server, door, json!({ "type": "hello", "token": "bad" })));
        futures_util::future::join_all(guesses).await;
        client.done(json!({ "type": "join", "room": "r" })).await;
        drop(client);
        let mut back = RawClient::silent(&server, door).await;
        let since = Instant::now();
        back.say(json!({ "type": "hello", "resume": { "token": welcome["resumeToken"], "received": 3 } })).await;
        let heard = back.hear().await;
        assert_eq!(heard["resumed"], true, "{door}: {heard}");
        assert!(since.elapsed() > Duration::from_secs(1), "{door}: it did not have to wait");
        back.done(json!({ "type": "leave" })).await;
    }
}
