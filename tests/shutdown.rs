//! The end of a server: no new clients, a goodbye to everybody, and an end within the grace period.

mod support;

use std::time::{Duration, Instant};

use support::{DEADLINE, TestServer, connect, eventually, http, within};
use switchboard::{
    client::{Client, Door},
    protocol::{CloseCode, LeaveReason, ServerMessage},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

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
                ServerMessage::Goodbye(code) => break code,
                ServerMessage::PeerJoined { .. } | ServerMessage::PeerLeft { reason: LeaveReason::Disconnected, .. } => {}
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
            .send(&switchboard::protocol::Request { id: None, message: switchboard::protocol::ClientMessage::Hello { resume: None } })
            .await;
        let told = within("a goodbye", late.receive()).await;
        assert!(matches!(told, Ok(ServerMessage::Goodbye(CloseCode::Draining))), "{door}: {told:?}");
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
