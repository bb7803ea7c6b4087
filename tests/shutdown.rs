//! The end of a server: no new clients, a goodbye to everybody, and an end within the grace period.

mod support;

use std::time::{Duration, Instant};

use support::{DEADLINE, TestServer, broadcast, connect, connect_to, doors, eventually, hear, http, within};
use switchboard::{
    client::{Client, Door},
    protocol::{CloseCode, ServerMessage},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_is_told_goodbye_and_then_closed_with_its_code() {
    let server = TestServer::start();
    let mut clients = Vec::new();
    for door in Door::ALL {
        let mut client = connect(&server, door).await;
        client.join("r", None).await.unwrap();
        clients.push((door, client));
    }
    server.stop();
    for (door, mut client) in clients {
        let goodbye = loop {
            match within("a goodbye", client.receive()).await.unwrap() {
                ServerMessage::Goodbye { code, .. } => break code,
                ServerMessage::PeerJoined { .. } => {}
                other => panic!("{door}: {other:?}"),
            }
        };
        assert_eq!(goodbye, CloseCode::Draining, "{door}");
        let ended = within("the close", client.receive()).await.unwrap_err();
        assert_eq!(ended.code, Some(CloseCode::Draining.number()), "{door}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_shuts_down_it_is_not_ready_and_newcomers_are_told_why() {
    // A client that does not read its goodbye keeps the server up until the connection is cut.
    let mut server = TestServer::with(|config| {
        config.timeouts.close_ms = 60_000;
        config.timeouts.shutdown_grace_ms = 60_000;
    });
    let lingering = connect(&server, Door::WebSocket(switchboard::protocol::Codec::Json)).await;
    server.stop();
    let readyz = format!("{}/readyz", server.base());
    eventually("503", async || http().get(&readyz).send().await.is_ok_and(|answer| answer.status() == 503)).await;
    for door in Door::ALL {
        let mut late = within("a connection", Client::connect(server.base(), door)).await.unwrap();
        // The goodbye may be there before the hello is out.
        let _ = late
            .send(&switchboard::protocol::Request {
                id: None,
                message: switchboard::protocol::ClientMessage::Hello { token: None, resume: None },
            })
            .await;
        let told = within("a goodbye", late.receive()).await;
        assert!(matches!(told, Ok(ServerMessage::Goodbye { code: CloseCode::Draining, .. })), "{door}: {told:?}");
    }
    let since = Instant::now();
    drop(lingering);
    server.wait().await;
    assert!(since.elapsed() < DEADLINE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_period_ends_it_whatever_clients_do() {
    let mut server = TestServer::with(|config| {
        config.timeouts.shutdown_grace_ms = 200;
        config.timeouts.close_ms = 60_000;
        config.timeouts.hello_ms = 60_000;
    });
    let mut clients = Vec::new();
    for door in Door::ALL {
        clients.push(connect(&server, door).await);
    }
    let mut half_a_request = TcpStream::connect(server.addresses()[0]).await.unwrap();
    half_a_request.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    server.stop();
    within("the end", server.wait()).await;
    drop((clients, half_a_request));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_clients_it_ends_at_once() {
    let mut server = TestServer::with(|config| config.timeouts.shutdown_grace_ms = 3_600_000);
    server.stop();
    tokio::time::timeout(Duration::from_secs(10), server.wait()).await.expect("nobody has to be waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodbyes_are_spread_and_who_has_not_been_told_is_still_served() {
    const WINDOW_MS: u64 = 600_000;
    let mut server = TestServer::with(|config| {
        config.timeouts.drain_ms = WINDOW_MS;
        config.timeouts.shutdown_grace_ms = WINDOW_MS;
        config.timeouts.resume_window_ms = 30_000;
    });
    let mut pairs = Vec::new();
    for door in Door::ALL {
        let mut sender = connect(&server, door).await;
        sender.join("r", None).await.unwrap();
        let receiver = connect_to(&doors(server.base()).await, door, "r").await;
        pairs.push((sender, receiver));
    }
    server.stop();
    let readyz = format!("{}/readyz", server.base());
    eventually("503", async || http().get(&readyz).send().await.is_ok_and(|answer| answer.status() == 503)).await;
    // Ten minutes have only just begun.
    let mut served = 0;
    for (sender, receiver) in &mut pairs {
        if sender.request(broadcast("still here")).await.is_ok() {
            hear("a message", receiver, |message| matches!(message, ServerMessage::Forwarded { .. }).then_some(())).await;
            served += 1;
        }
    }
    assert!(served > 0);
    // Nobody can come back, so nobody is waited for who is gone.
    drop(pairs);
    within("the end", server.wait()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_is_asked_to_come_back_at_another_time_when_all_have_been_told() {
    const WINDOW_MS: u64 = 1000;
    let mut server = TestServer::with(|config| config.timeouts.drain_ms = WINDOW_MS);
    let mut clients = Vec::new();
    for n in 0..12 {
        let mut client = connect(&server, Door::ALL[n % 3]).await;
        client.join("r", None).await.unwrap();
        clients.push(client);
    }
    server.stop();
    let stopped = Instant::now();
    let mut goodbyes = JoinSet::new();
    for mut client in clients {
        goodbyes.spawn(async move {
            loop {
                match within("a goodbye", client.receive()).await.unwrap() {
                    ServerMessage::Goodbye { code, reconnect_after_ms } => return (code, reconnect_after_ms, Instant::now()),
                    ServerMessage::PeerJoined { .. } => {}
                    // Nor does anybody hear of those who are told before.
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    let mut told = goodbyes.join_all().await;
    // From one second after the window on, for as long as the window is.
    for (code, reconnect_after_ms, heard) in &told {
        assert_eq!(*code, CloseCode::Draining);
        assert!((1000..=1000 + 2 * WINDOW_MS).contains(reconnect_after_ms), "{reconnect_after_ms}");
        let back = *heard + Duration::from_millis(*reconnect_after_ms);
        assert!(back >= stopped + Duration::from_millis(WINDOW_MS + 1000), "{reconnect_after_ms}");
    }
    // Twelve random times are not the same, nor all within a tenth of the window.
    told.sort_by_key(|(_, _, heard)| *heard);
    assert!(told[11].2 - told[0].2 > Duration::from_millis(WINDOW_MS / 10));
    told.sort_by_key(|(_, reconnect_after_ms, _)| *reconnect_after_ms);
    assert!(told[11].1 - told[0].1 > WINDOW_MS / 10);
    within("the end", server.wait()).await;
}
