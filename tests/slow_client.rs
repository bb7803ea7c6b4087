//! Promise 6: who does not read, and who floods, costs the server no more than a bound, is gone within its deadline, and is not noticed by
//! others. The server is a process of its own here, so that its memory is its own.

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use support::{
    DEADLINE,
    bystanders::Bystanders,
    connect_to, doors, eventually, goodbye, hear, newcomer, own_id,
    process::ServerProcess,
    raw::{self, RawSession, RawWebSocket, RawWebTransport, first},
    unanswered, within,
};
use switchboard::{
    client::{Client, Door, RequestError},
    protocol::{ClientMessage, CloseCode, ErrorCode, Kind, LeaveReason, Payload, PeerId, Request, ServerMessage},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Mutex, watch},
    time::timeout,
};
use wtransport::error::ConnectionError;

/// Beyond this the server's memory may not grow, whatever clients do here: 20 of them may have 1 MiB waiting each at the same time, and an
/// allocator keeps some of what was given back.
const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;
const CLOSE_MS: u64 = 500;

fn server() -> ServerProcess {
    // Nobody may come back, so that who is closed is gone at once.
    ServerProcess::with(&[
        ("SWITCHBOARD_RATES", "off"),
        ("SWITCHBOARD_TIMEOUTS_CLOSE_MS", "500"),
        ("SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS", "0"),
        ("SWITCHBOARD_WORKERS", "2"),
    ])
}

/// One flood at a time: beside another their times would tell of the machine and not of the server.
static ALONE: Mutex<()> = Mutex::const_new(());

fn address(server: &ServerProcess) -> SocketAddr {
    server.authority().parse().unwrap()
}

/// Says something long to a peer until that is refused, and tells what with.
async fn flood(sender: &mut Client, to: PeerId) -> ErrorCode {
    let payload = Payload::from_serialize(&"x".repeat(32 * 1024)).unwrap();
    let flooding = async {
        loop {
            let message = ClientMessage::Forward { kind: Kind::Offer, to, room: None, payload: payload.clone() };
            match sender.request(message).await {
                Ok(()) => {}
                Err(RequestError::Refused(refusal)) => return refusal.code,
                Err(error) => panic!("{error}"),
            }
        }
    };
    within("a refusal", flooding).await
}

async fn departure(witness: &mut Client, gone: PeerId) -> LeaveReason {
    hear("a peer gone", witness, |message| match message {
        ServerMessage::PeerLeft { peer_id, reason, .. } if peer_id == gone => Some(reason),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_is_closed_and_its_sender_and_its_room_learn_of_it() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let mut witness = connect_to(&connector, Door::ALL[1], &room).await;
        let mut slow = connect_to(&connector, door, &room).await;
        let mut sender = connect_to(&connector, Door::WebTransport, &room).await;
        let bystanders = Bystanders::start(&connector, &room).await;
        // It reads nothing from here on.
        assert_eq!(flood(&mut sender, own_id(&slow)).await, ErrorCode::Undeliverable, "{door}");
        assert_eq!(departure(&mut witness, own_id(&slow)).await, LeaveReason::Removed, "{door}");
        assert_eq!(departure(&mut sender, own_id(&slow)).await, LeaveReason::Removed, "{door}");
        assert_eq!(flood(&mut sender, own_id(&slow)).await, ErrorCode::NoSuchPeer, "{door}");
        bystanders.noticed_nothing().await;
        // What was under way when it was closed is still there, or was dropped with the connection; more does not come.
        let ended = async { while slow.receive_frame().await.is_ok() {} };
        within("the end of a connection", ended).await;
    }
}

/// A burst of many times what may wait arrives whole at a peer that reads, if only late: the server takes no more of it meanwhile. Where it does
/// not wait, the peer is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_waits_for_a_peer_that_is_behind() {
    const BYTES: usize = 32 * 1024;
    const MESSAGES: usize = 700;
    let _alone = ALONE.lock().await;
    for (patience_ms, is_whole) in [("60000", true), ("0", false)] {
        let server = ServerProcess::with(&[("SWITCHBOARD_RATES", "off"), ("SWITCHBOARD_TIMEOUTS_SLOW_PEER_MS", patience_ms)]);
        let connector = doors(server.url()).await;
        for door in Door::ALL {
            let mut slow = connect_to(&connector, door, &door.to_string()).await;
            let mut sender = connect_to(&connector, Door::ALL[1], &door.to_string()).await;
            let to = own_id(&slow);
            let payload = Payload::from_serialize(&"x".repeat(BYTES)).unwrap();
            let (taken, mut seen) = watch::channel(0);
            let sending = tokio::spawn(async move {
                for n in 1..=MESSAGES {
                    let message = ClientMessage::Forward { kind: Kind::Offer, to, room: None, payload: payload.clone() };
                    match sender.request(message).await {
                        Ok(()) => taken.send_replace(n),
                        Err(RequestError::Refused(refusal)) => return Err(refusal.code),
                        Err(error) => panic!("{error}"),
                    };
                }
                Ok(())
            });
            // It reads nothing until no more of the burst is taken. Too early would only make it easier for the server.
            while let Ok(Ok(())) = timeout(Duration::from_millis(500), seen.changed()).await {}
            let reading = async {
                let mut offers = 0;
                while offers < MESSAGES {
                    match slow.receive().await {
                        Ok(ServerMessage::Forwarded { .. }) => offers += 1,
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                offers
            };
            let offers = within("the burst", reading).await;
            let sent = within("the burst", sending).await.unwrap();
            assert_eq!((sent.is_ok(), offers == MESSAGES), (is_whole, is_whole), "{door}, {patience_ms} ms: {sent:?}, {offers} arrived");
        }
    }
}

/// Who reads again before its time is over hears why it is closed, by message and by code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_slow_can_still_read_why_it_is_closed() {
    let _alone = ALONE.lock().await;
    let server = ServerProcess::with(&[("SWITCHBOARD_RATES", "off"), ("SWITCHBOARD_TIMEOUTS_CLOSE_MS", "20000")]);
    let connector = doors(server.url()).await;
    for door in Door::ALL {
        let room = door.to_string();
        let mut slow = connect_to(&connector, door, &room).await;
        let mut sender = connect_to(&connector, Door::WebTransport, &room).await;
        assert_eq!(flood(&mut sender, own_id(&slow)).await, ErrorCode::Undeliverable, "{door}");
        assert_eq!(goodbye(&mut slow).await, CloseCode::SlowConsumer, "{door}");
    }
}

/// The connections of who never reads again. `ss` would tell as much: a socket that is gone takes nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_of_who_never_reads_again_ends_in_time() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    let mut sender = connect_to(&connector, Door::WebTransport, "r").await;

    let mut slow = RawWebSocket::open(address(&server), "switchboard.json").await.unwrap();
    slow.send(first::FINISHED | first::TEXT, br#"{"type":"join","room":"r"}"#).await.unwrap();
    let to = newcomer(&mut sender).await;
    assert_eq!(flood(&mut sender, to).await, ErrorCode::Undeliverable);
    let since = Instant::now();
    // It reads nothing, and so learns of the end only by what it sends: a reset.
    eventually("the socket to be gone", async || slow.send(first::FINISHED | first::PONG, b"").await.is_err()).await;
    assert!(since.elapsed() < Duration::from_millis(CLOSE_MS) + Duration::from_secs(5), "{:?}", since.elapsed());

    let (connection, mut send, _unread) = RawWebTransport::new(server.url()).await.open().await.unwrap();
    send.write_all(&[&18_u32.to_be_bytes()[..], b"\x82\xa4type\xa4join\xa4room\xa1r"].concat()[..]).await.unwrap();
    let to = newcomer(&mut sender).await;
    assert_eq!(flood(&mut sender, to).await, ErrorCode::Undeliverable);
    let since = Instant::now();
    let closed = within("the end of the session", connection.closed()).await;
    assert!(since.elapsed() < Duration::from_millis(CLOSE_MS) + Duration::from_secs(5), "{:?}", since.elapsed());
    let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(close.code().into_inner(), u64::from(CloseCode::SlowConsumer.number()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_who_stop_reading_cost_no_more_than_their_bounds() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    let bystanders = Bystanders::start(&connector, "bystanders").await;
    let mut sender = connect_to(&connector, Door::WebTransport, "r").await;
    let mut slow = Vec::new();
    for n in 0..20 {
        slow.push(connect_to(&connector, Door::ALL[n % 3], "r").await);
    }
    let start = server.resident_bytes();
    let mut most = start;
    let targets: Vec<PeerId> = slow.iter().map(own_id).collect();
    // Each gets bytes of its own: those of a broadcast are shared.
    let mut gone = 0;
    let payload = Payload::from_serialize(&"x".repeat(60 * 1024)).unwrap();
    let since = Instant::now();
    while gone < targets.len() {
        for &to in &targets {
            let message = ClientMessage::Forward { kind: Kind::Offer, to, room: None, payload: payload.clone() };
            sender.send(&unanswered(message)).await.unwrap();
        }
        let ping = Request { id: Some(1), message: ClientMessage::Ping { received: None } };
        sender.send(&ping).await.unwrap();
        hear("the end of a round", &mut sender, |message| match message {
            ServerMessage::Ack { .. } => Some(()),
            ServerMessage::PeerLeft { reason: LeaveReason::Removed, .. } => {
                gone += 1;
                None
            }
            ServerMessage::Error(refusal) => {
                assert!(matches!(refusal.code, ErrorCode::Undeliverable | ErrorCode::NoSuchPeer), "{refusal:?}");
                None
            }
            _ => None,
        })
        .await;
        most = most.max(server.resident_bytes());
        assert!(since.elapsed() < DEADLINE, "{gone} of {} are gone", targets.len());
    }
    bystanders.noticed_nothing().await;
    println!("memory: {} KiB at the start, {} KiB more at most", start / 1024, (most - start) / 1024);
    assert!(most - start < GROWTH_BYTES_MAX, "{} KiB more", (most - start) / 1024);
    drop(slow);
}

/// Watches the server's memory while something goes on for so long.
async fn growth(server: &ServerProcess, flooding: impl Future<Output = ()>) -> u64 {
    let start = server.resident_bytes();
    let mut most = start;
    let watching = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        loop {
            beat.tick().await;
            most = most.max(server.resident_bytes());
        }
    };
    let _over = timeout(Duration::from_secs(3), async { tokio::join!(watching, flooding) }).await;
    println!("memory: {} KiB at the start, {} KiB more at most", start / 1024, (most - start) / 1024);
    most - start
}

/// What a flood writes at once.
const FLOOD_BYTES: usize = 60 * 1024;

/// A client sent frames of six bytes, and actix-web-actors 4.3 read all that the socket had before it decoded one: the server went from 4 MB to
/// 1 GB in 3 s. With the answers read or not, it is the client that has to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_frames_as_fast_as_they_go_cost_no_more_than_their_bounds() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    for kind in [first::TEXT, first::PING, first::PONG, first::CONTINUATION] {
        let bystanders = Bystanders::start(&connector, "bystanders").await;
        let mut socket = RawWebSocket::open(address(&server), "switchboard.json").await.unwrap();
        socket.send(first::FINISHED | first::TEXT, b"{}").await.unwrap();
        if kind == first::CONTINUATION {
            socket.send(first::TEXT, b"").await.unwrap();
        }
        let finished = if kind == first::CONTINUATION { 0 } else { first::FINISHED };
        let flood = raw::frame(finished | kind, b"").repeat(FLOOD_BYTES / 6);
        let (mut read, mut write) = socket.tcp.into_split();
        let mut written = 0_usize;
        let flooding = async {
            let sending = async {
                while write.write_all(&flood).await.is_ok() {
                    written += flood.len();
                }
            };
            let mut nowhere = tokio::io::sink();
            let reading = tokio::io::copy(&mut read, &mut nowhere);
            let _ = tokio::join!(sending, reading);
        };
        let grown = growth(&server, flooding).await;
        println!("{} frames of kind {kind}", written / 6);
        assert!(written > 100 * 1024, "only {written} bytes of kind {kind} were taken");
        assert!(grown < GROWTH_BYTES_MAX, "{} KiB more", grown / 1024);
        bystanders.noticed_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_frames_on_a_stream_cost_no_more_than_their_bounds() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    for (name, frame) in [("empty", &[0, 0, 0, 0][..]), ("one byte", &[0, 0, 0, 1, 0xc0])] {
        let bystanders = Bystanders::start(&connector, "bystanders").await;
        let (connection, mut send, mut receive) = RawWebTransport::new(server.url()).await.open().await.unwrap();
        let flood = frame.repeat(FLOOD_BYTES / frame.len());
        let mut written = 0_usize;
        let flooding = async {
            let sending = async {
                while send.write_all(&flood).await.is_ok() {
                    written += flood.len();
                }
            };
            let reading = async { while let Ok(Some(_)) = receive.quic_stream_mut().read_chunk(usize::MAX, true).await {} };
            tokio::join!(sending, reading);
        };
        let grown = growth(&server, flooding).await;
        println!("{} frames: {name}", written / frame.len());
        assert!(written > 100 * 1024, "only {written} bytes were taken: {name}");
        assert!(grown < GROWTH_BYTES_MAX, "{} KiB more", grown / 1024);
        bystanders.noticed_nothing().await;
        drop(connection);
    }
}

/// What is beneath a session is read to be thrown away, for as long as somebody sends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_http3_for_nobody_cost_no_more_than_their_bounds() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    for name in ["GREASE on the control stream", "empty DATA on the stream of the request"] {
        let bystanders = Bystanders::start(&connector, "bystanders").await;
        let mut session = RawSession::open(server.url(), address(&server), Ipv4Addr::LOCALHOST).await;
        let (stream, frame) = if name.contains("DATA") { (&mut session.request, b"\0\0") } else { (&mut session.control, b"\x21\0") };
        let flood = frame.repeat(FLOOD_BYTES / frame.len());
        let mut written = 0_usize;
        let flooding = async {
            while stream.write_all(&flood).await.is_ok() {
                written += flood.len();
            }
        };
        let grown = growth(&server, flooding).await;
        println!("{} frames: {name}", written / frame.len());
        assert!(written > 100 * 1024, "only {written} bytes were taken: {name}");
        assert!(grown < GROWTH_BYTES_MAX, "{} KiB more", grown / 1024);
        bystanders.noticed_nothing().await;
    }
}

/// Who sends and never reads the answers is closed by them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_and_reads_no_answer_is_gone_in_time() {
    let _alone = ALONE.lock().await;
    let server = server();
    let connector = doors(server.url()).await;
    let bystanders = Bystanders::start(&connector, "bystanders").await;
    let start = server.resident_bytes();

    let mut socket = RawWebSocket::open(address(&server), "switchboard.json").await.unwrap();
    let flood = raw::frame(first::FINISHED | first::TEXT, b"").repeat(FLOOD_BYTES / 6);
    within("the socket to be gone", async { while socket.tcp.write_all(&flood).await.is_ok() {} }).await;

    let (connection, mut send, _unread) = RawWebTransport::new(server.url()).await.open().await.unwrap();
    let flood = [0, 0, 0, 1, 0xc0].repeat(FLOOD_BYTES / 5);
    within("the session to be gone", async { while send.write_all(&flood).await.is_ok() {} }).await;
    within("the session to be gone", connection.closed()).await;

    bystanders.noticed_nothing().await;
    let grown = server.resident_bytes().saturating_sub(start);
    assert!(grown < GROWTH_BYTES_MAX, "{} KiB more", grown / 1024);
}
