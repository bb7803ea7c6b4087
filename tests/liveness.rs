//! Promise 4: a dead peer is announced once, however it died; who is alive stays; and who never begins does not keep a place.

mod support;

use std::time::Duration;

use support::{
    TestServer, broadcast, connect_to, doors, eventually, goodbye, hear, own_id,
    proxy::Proxy,
    raw::{self, RawWebSocket, RawWebTransport, first},
    unanswered, within,
};
use switchboard::{
    client::{Client, Connector, Door},
    protocol::{CloseCode, LeaveReason, PeerId, ServerMessage},
};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use wtransport::error::ConnectionError;

const HEARTBEAT_MS: u64 = 300;
const SILENCE_MS: u64 = 1500;

/// A server with little patience for silence.
fn server() -> TestServer {
    TestServer::with(|config| {
        config.timeouts.heartbeat_ms = HEARTBEAT_MS;
        config.timeouts.silence_ms = SILENCE_MS;
    })
}

/// Waits until a peer is gone, sees that it was announced once, and tells why it is gone.
async fn departure(witness: &mut Client, connector: &Connector, room: &str, gone: PeerId) -> LeaveReason {
    let reason = hear("a peer gone", witness, |message| match message {
        ServerMessage::PeerLeft { peer_id, reason, .. } => {
            assert_eq!(peer_id, gone);
            Some(reason)
        }
        _ => None,
    })
    .await;
    // Whoever comes now comes behind any second announcement.
    let newcomer = connect_to(connector, Door::WebTransport, room).await;
    let next = within("a newcomer", witness.receive()).await.unwrap();
    assert!(matches!(&next, ServerMessage::PeerJoined { peer, .. } if peer.peer_id == own_id(&newcomer)), "{next:?}");
    reason
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_and_gives_its_place_back() {
    let server = TestServer::with(|config| {
        config.timeouts.hello_ms = 300;
        config.limits.clients_max = 1;
    });
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        eventually("a place to be silent at", async || {
            let code = goodbye(&mut connector.connect(door).await.unwrap()).await;
            // The client of the door before may not be quite gone.
            assert!(matches!(code, CloseCode::HelloTimeout | CloseCode::ServerFull), "{door}: {code}");
            code == CloseCode::HelloTimeout
        })
        .await;
        eventually("its place to be free", async || connector.connect(door).await.unwrap().hello().await.is_ok()).await;
    }
}

/// Sends a byte now and then, for as long as the server takes it.
async fn drip(mut bytes: impl Iterator<Item = u8>, mut send: impl AsyncFnMut(u8) -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        beat.tick().await;
        let Some(byte) = bytes.next() else { return std::future::pending().await };
        if !send(byte).await {
            return std::future::pending().await;
        }
    }
}

#[tokio::test]
async fn probes_and_half_a_message_are_no_first_message() {
    let server = TestServer::with(|config| config.timeouts.hello_ms = 300);
    let address = server.addresses()[0];
    let hello = raw::frame(first::FINISHED | first::TEXT, &[b"{\"type\":\"hello\"".to_vec(), vec![b' '; 1000], b"}".to_vec()].concat());
    let pings = raw::frame(first::FINISHED | first::PING, b"").repeat(1000);
    for bytes in [hello, pings] {
        let socket = RawWebSocket::open(address, "switchboard.json").await.unwrap();
        let (read, mut write) = socket.tcp.into_split();
        let sending = drip(bytes.into_iter(), async |byte| write.write_all(&[byte]).await.is_ok());
        let mut read = tokio::io::BufReader::new(read);
        let hearing = async {
            let mut heard = Vec::new();
            // A reset is an end as well: the server had not read everything when it was done.
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut heard).await;
            heard
        };
        let heard = within("the end", async {
            tokio::select! { heard = hearing => heard, () = sending => unreachable!() }
        })
        .await;
        assert!(String::from_utf8_lossy(&heard).contains("hello-timeout"), "{}", String::from_utf8_lossy(&heard));
    }
    let (connection, mut send, mut receive) = RawWebTransport::new(server.base()).await.open().await.unwrap();
    let sending = drip([0, 0, 4, 0].into_iter().chain([0x80; 1023]), async |byte| send.write_all(&[byte]).await.is_ok());
    let hearing = receive.quic_stream_mut().read_to_end(4096);
    let heard = within("a goodbye", async {
        tokio::select! { heard = hearing => heard.unwrap(), () = sending => unreachable!() }
    })
    .await;
    assert!(String::from_utf8_lossy(&heard).contains("hello-timeout"));
    drop(connection);
}

#[tokio::test]
async fn a_session_without_a_stream_is_closed_with_the_code_and_gives_its_place_back() {
    let server = TestServer::with(|config| {
        config.timeouts.stream_ms = 300;
        config.limits.clients_max = 1;
    });
    let raw = RawWebTransport::new(server.base()).await;
    let connection = raw.connect().await.unwrap();
    let closed = within("the end of the session", connection.closed()).await;
    let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(close.code().into_inner(), u64::from(CloseCode::StreamTimeout.number()));
    // A stream of the other kind is none.
    eventually("a place", async || {
        let connection = raw.connect().await.unwrap();
        let Ok(stream) = connection.open_uni().await else { return false };
        let opened = stream.await.is_ok();
        let closed = within("the end of the session", connection.closed()).await;
        opened
            && matches!(closed, ConnectionError::ApplicationClosed(close)
                if close.code().into_inner() == u64::from(CloseCode::StreamTimeout.number()))
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_probed_stays_while_it_answers_and_ends_when_it_does_not() {
    let server = server();
    let mut socket = RawWebSocket::open(server.addresses()[0], "switchboard.json").await.unwrap();
    socket.send(first::FINISHED | first::TEXT, b"{\"type\":\"hello\"}").await.unwrap();
    let (_, welcome) = within("a welcome", socket.receive()).await.unwrap();
    assert!(String::from_utf8_lossy(&welcome).contains(&format!("\"heartbeatMs\":{HEARTBEAT_MS}")));
    // Together longer than the silence that is allowed.
    for _ in 0..SILENCE_MS / HEARTBEAT_MS + 3 {
        let (ping, data) = within("a ping", socket.receive()).await.unwrap();
        assert_eq!(ping, first::FINISHED | first::PING);
        socket.send(first::FINISHED | first::PONG, &data).await.unwrap();
    }
    // Probed once more, not answered.
    let (ping, _) = within("a ping", socket.receive()).await.unwrap();
    assert_eq!(ping, first::FINISHED | first::PING);
    let (text, goodbye) = within("a goodbye", socket.receive()).await.unwrap();
    assert_eq!(text, first::FINISHED | first::TEXT);
    assert!(String::from_utf8_lossy(&goodbye).contains("\"code\":\"timeout\""));
    assert_eq!(socket.close_code().await, Some(CloseCode::Timeout.number()));
}

#[tokio::test]
async fn who_is_idle_and_answers_probes_stays() {
    let server = server();
    let connector = doors(server.base()).await;
    let mut clients = Vec::new();
    for door in Door::ALL {
        clients.push(connector.connect(door).await.unwrap());
        within("a welcome", clients.last_mut().unwrap().hello()).await.unwrap();
    }
    // Only receiving, as an idle client does. Nothing may come, and above all no goodbye.
    let idle = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let idle = timeout(Duration::from_millis(3 * SILENCE_MS), client.receive()).await;
            assert!(idle.is_err(), "{idle:?}");
            within("an answer", client.join("r", None)).await.unwrap();
        })
    });
    for client in idle.collect::<Vec<_>>() {
        within("an idle client", client).await.unwrap();
    }
}

#[tokio::test]
async fn who_stops_answering_probes_is_gone_and_can_still_read_why() {
    let server = server();
    let connector = doors(server.base()).await;
    for door in [Door::ALL[0], Door::ALL[1]] {
        let room = door.to_string();
        let mut witness = connect_to(&connector, Door::WebTransport, &room).await;
        // Answers nothing, because it receives nothing.
        let mut silent = connect_to(&connector, door, &room).await;
        assert_eq!(departure(&mut witness, &connector, &room, own_id(&silent)).await, LeaveReason::Timeout, "{door}");
        assert_eq!(goodbye(&mut silent).await, CloseCode::Timeout, "{door}");
    }
}

#[tokio::test]
async fn who_is_behind_a_dead_network_is_gone() {
    let server = server();
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let mut witness = connect_to(&connector, Door::WebTransport, &room).await;
        let proxy = Proxy::to(server.addresses()[0]).await;
        let mut victim = connect_to(&doors(&proxy.base()).await, door, &room).await;
        victim.send(&unanswered(broadcast("last words"))).await.unwrap();
        hear("last words", &mut witness, |message| matches!(message, ServerMessage::Forwarded { .. }).then_some(())).await;
        proxy.cut();
        assert_eq!(departure(&mut witness, &connector, &room, own_id(&victim)).await, LeaveReason::Timeout, "{door}");
    }
}

#[tokio::test]
async fn who_crashes_is_gone_at_once() {
    // With the default patience: nobody waits for a time-out here.
    let server = TestServer::start();
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let mut witness = connect_to(&connector, Door::WebTransport, &room).await;
        let victim = connect_to(&connector, door, &room).await;
        let gone = own_id(&victim);
        victim.abort();
        let departure = timeout(Duration::from_secs(8), departure(&mut witness, &connector, &room, gone));
        assert_eq!(departure.await, Ok(LeaveReason::Disconnected), "{door}");
    }
}

#[tokio::test]
async fn who_closes_is_gone_and_so_is_who_only_stops_to_send() {
    let server = TestServer::start();
    let connector = doors(server.base()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let mut witness = connect_to(&connector, Door::WebTransport, &room).await;
        let leaver = connect_to(&connector, door, &room).await;
        let gone = own_id(&leaver);
        within("a close", leaver.close()).await;
        let departure = departure(&mut witness, &connector, &room, gone);
        assert_eq!(departure.await, LeaveReason::Disconnected, "{door}");
    }
    let mut witness = connect_to(&connector, Door::WebTransport, "half").await;
    let mut half = RawWebSocket::open(server.addresses()[0], "switchboard.json").await.unwrap();
    half.send(first::FINISHED | first::TEXT, b"{\"type\":\"join\",\"room\":\"half\"}").await.unwrap();
    let newcomer = hear("a newcomer", &mut witness, |message| match message {
        ServerMessage::PeerJoined { peer, .. } => Some(peer.peer_id),
        _ => None,
    })
    .await;
    half.tcp.shutdown().await.unwrap();
    assert_eq!(departure(&mut witness, &connector, "half", newcomer).await, LeaveReason::Disconnected);
}
