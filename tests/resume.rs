//! Promise 5: a client whose connection died comes back over either door; nothing is lost, nothing comes twice, and the others saw
//! nothing but silence.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use support::{
    Random, TestServer, connect_to, doors, eventually, goodbye, http, offer,
    proxy::Proxy,
    resuming::{Cut, Resuming},
    seed, unanswered, within,
};
use switchboard::{
    Config,
    client::{Client, Connector, Door, ResumingClient},
    config::Rates,
    protocol::{ClientMessage, CloseCode, ErrorCode, Kind, LeaveReason, Payload, PeerId, Resume, ServerMessage},
};
use tokio::task::JoinSet;

/// A server that clients may come back to, and send to as fast as they can.
fn resumable(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.timeouts.resume_window_ms = 30_000;
        config.rates = Rates::Off;
        change(config);
    })
}

/// Hears exactly these numbers from a peer, in order, and nothing else but its own acknowledgements.
async fn hears(client: &mut Resuming, from: PeerId, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        loop {
            match client.hear().await {
                ServerMessage::Forwarded { from: sender, payload, .. } => {
                    assert_eq!((sender, payload.parse::<u64>().unwrap()), (from, expected));
                    break;
                }
                ServerMessage::Pong { .. } | ServerMessage::Ack { .. } => {}
                other => panic!("{other:?} instead of message {expected}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_comes_back_by_any_door_and_both_sides_have_everything_once_and_in_order() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    for from in Door::ALL {
        for to in Door::ALL {
            for cut in [Cut::Reset, Cut::LeftBehind] {
                // A room of their own: those of the turn before may still be seen leaving theirs.
                let room = format!("{from} to {to}, {cut:?}");
                let mut anna = Resuming::join(&connector, from, &room).await;
                let mut ben = Resuming::join(&connector, Door::ALL[0], &room).await;
                assert!(matches!(anna.hear().await, ServerMessage::PeerJoined { .. }));
                let (a, b) = (anna.peer_id, ben.peer_id);
                for n in 0..50 {
                    anna.send(None, offer(b, n)).await;
                    ben.send(None, offer(a, n)).await;
                }
                hears(&mut anna, b, 0..20).await;
                anna.cut(cut);
                for n in 50..100 {
                    anna.send(None, offer(b, n)).await;
                    ben.send(None, offer(a, n)).await;
                }
                assert!(anna.resume(to).await, "{from} to {to}, {cut:?}");
                anna.send(None, offer(b, 100)).await;
                ben.send(None, offer(a, 100)).await;
                hears(&mut anna, b, 20..101).await;
                // No `peer-left` and no second `peer-joined` among it: anything else than the messages is a failure.
                hears(&mut ben, a, 0..101).await;
                anna.leave().await;
                assert!(matches!(ben.hear().await, ServerMessage::PeerLeft { reason: LeaveReason::Disconnected, .. }));
                ben.leave().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_fell_silent_comes_back_after_it_was_given_up() {
    let server = resumable(|config| {
        config.timeouts.heartbeat_ms = 300;
        config.timeouts.silence_ms = 1_500;
    });
    let direct = Arc::new(doors(server.base()).await);
    for (from, to) in [(Door::ALL[0], Door::WebTransport), (Door::WebTransport, Door::ALL[1]), (Door::WebTransport, Door::WebTransport)] {
        let proxy = Proxy::to(server.addresses()[0]).await;
        let room = format!("{from} to {to}");
        let mut anna = Resuming::join(&Arc::new(doors(&proxy.base()).await), from, &room).await;
        let mut ben = Resuming::join(&direct, Door::WebTransport, &room).await;
        assert!(matches!(anna.hear().await, ServerMessage::PeerJoined { .. }));
        let (a, b) = (anna.peer_id, ben.peer_id);
        proxy.cut();
        // Ben goes on talking until the server has given Anna's connection up, and a little longer.
        let silent = tokio::time::Instant::now();
        let mut told = 0;
        while silent.elapsed() < Duration::from_millis(2_500) {
            ben.send(None, offer(a, told)).await;
            told += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anna.cut(Cut::LeftBehind);
        let mut anna = anna.by(&direct);
        assert!(anna.resume(to).await, "{from} to {to}");
        hears(&mut anna, b, 0..told).await;
        anna.send(None, offer(b, 0)).await;
        hears(&mut ben, a, 0..1).await;
        anna.leave().await;
        ben.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_is_resumed_a_hundred_times_in_a_row() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    let mut anna = Resuming::join(&connector, Door::WebTransport, "r").await;
    let mut ben = Resuming::join(&connector, Door::ALL[0], "r").await;
    assert!(matches!(anna.hear().await, ServerMessage::PeerJoined { .. }));
    let (a, b) = (anna.peer_id, ben.peer_id);
    for n in 0..100 {
        anna.cut(if n % 2 == 0 { Cut::Reset } else { Cut::LeftBehind });
        anna.send(None, offer(b, n)).await;
        ben.send(None, offer(a, n)).await;
        assert!(anna.resume(Door::ALL[n as usize % 3]).await, "{n}");
        anna.left_behind.clear();
        if n % 10 == 9 {
            anna.acknowledge().await;
        }
    }
    hears(&mut anna, b, 0..100).await;
    hears(&mut ben, a, 0..100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rivals_with_one_secret_one_gets_the_session_and_a_used_secret_harms_nobody() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    for door in Door::ALL {
        let mut owner = Resuming::join(&connector, door, "r").await;
        let (peer_id, token, received) = (owner.peer_id, owner.token, owner.received);
        let mut rivals = [Resuming::connect(&connector, door).await, Resuming::connect(&connector, door).await];
        for rival in &mut rivals {
            // As many messages as the owner has sent.
            rival.acknowledge().await;
            rival.cut(Cut::LeftBehind);
            (rival.peer_id, rival.token, rival.received) = (peer_id, token, received);
        }
        let [first, second] = &mut rivals;
        let resumed = tokio::join!(first.resume(door), second.resume(door));
        assert!(resumed.0 != resumed.1, "{door}: {resumed:?}");
        // The one that was taken over is told so, and cannot take it back with the secret that it knows.
        assert!(matches!(owner.hear().await, ServerMessage::Goodbye { code: CloseCode::Replaced, .. }), "{door}");
        let closed = within("the close", owner.try_hear()).await.unwrap_err();
        assert_eq!(closed.code, Some(CloseCode::Replaced.number()), "{door}: {closed}");
        owner.cut(Cut::LeftBehind);
        assert!(!owner.resume(door).await, "{door}: a used secret");
        let winner = if resumed.0 { first } else { second };
        winner.send(Some(7), ClientMessage::Leave { room: Some("r".into()) }).await;
        assert!(matches!(winner.hear().await, ServerMessage::Left { .. }), "{door}: in its room, and undisturbed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_window_the_others_see_a_timeout_and_the_client_begins_anew() {
    let server = resumable(|config| config.timeouts.resume_window_ms = 200);
    let connector = Arc::new(doors(server.base()).await);
    let mut anna = Resuming::join(&connector, Door::ALL[0], "r").await;
    let mut ben = Resuming::join(&connector, Door::WebTransport, "r").await;
    let gone = anna.peer_id;
    anna.cut(Cut::Reset);
    match ben.hear().await {
        ServerMessage::PeerLeft { peer_id, reason: LeaveReason::Timeout, .. } => assert_eq!(peer_id, gone),
        other => panic!("{other:?}"),
    }
    assert!(!anna.resume(Door::WebTransport).await);
    assert_ne!(anna.peer_id, gone);
}

/// A client that came back in the same moment in which its window ended was welcomed to a session that ended right then: a cancelled timer
/// may still fire. Its connection stayed open, and what it said vanished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_in_the_last_moment_has_a_session_or_is_told_that_it_has_not() {
    const WINDOW: Duration = Duration::from_millis(400);
    let server = resumable(|config| config.timeouts.resume_window_ms = WINDOW.as_millis() as u64);
    let connector = Arc::new(doors(server.base()).await);
    let mut clients = JoinSet::new();
    let mut random = Random::new(seed());
    for n in 0..400 {
        let (connector, moment) = (connector.clone(), WINDOW - Duration::from_micros(random.below(100_000)));
        clients.spawn(async move {
            let mut client = Resuming::join(&connector, Door::ALL[n % 2], "r").await;
            client.cut(Cut::Reset);
            // The moment is all that this is about.
            tokio::time::sleep(moment).await;
            let resumed = client.resume(Door::ALL[n % 2]).await;
            client.acknowledge().await;
            while !matches!(client.hear().await, ServerMessage::Pong { .. }) {}
            resumed
        });
    }
    let resumed = within("all of them", clients.join_all()).await.into_iter().filter(|resumed| *resumed).count();
    println!("{resumed} of 400 were in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closed_its_connection_has_left_and_does_not_resume() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    for door in Door::ALL {
        let anna = Resuming::join(&connector, door, "r").await;
        let mut again = Resuming::connect(&connector, door).await;
        again.cut(Cut::LeftBehind);
        (again.peer_id, again.token, again.received) = (anna.peer_id, anna.token, anna.received);
        anna.leave().await;
        assert!(!again.resume(door).await, "{door}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_bounded_and_a_client_that_missed_more_is_told_the_truth() {
    for (messages_max, missed, resumed) in [(20, 20, true), (20, 21, false)] {
        let server = resumable(|config| config.limits.replay_messages_max = messages_max);
        let connector = Arc::new(doors(server.base()).await);
        let mut anna = Resuming::join(&connector, Door::WebTransport, "r").await;
        let mut ben = Resuming::join(&connector, Door::ALL[0], "r").await;
        assert!(matches!(anna.hear().await, ServerMessage::PeerJoined { .. }));
        let (a, b) = (anna.peer_id, ben.peer_id);
        anna.cut(Cut::LeftBehind);
        for n in 0..missed {
            ben.send(Some(n), offer(a, n)).await;
            assert!(matches!(ben.hear().await, ServerMessage::Ack { .. }));
        }
        assert_eq!(anna.resume(Door::ALL[0]).await, resumed, "{missed} of {messages_max}");
        if resumed {
            hears(&mut anna, b, 0..missed).await;
        } else {
            assert!(matches!(ben.hear().await, ServerMessage::PeerLeft { reason: LeaveReason::Timeout, .. }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_share_a_bound_take_nobodys_place_and_who_takes_most_makes_room() {
    let server = resumable(|config| {
        // Room for one session and not for two.
        config.limits.detached_bytes_max = 15_000;
        config.limits.clients_max = 3;
    });
    let connector = Arc::new(doors(server.base()).await);
    let mut witness = Resuming::join(&connector, Door::WebTransport, "r").await;
    let mut first = Resuming::join(&connector, Door::ALL[0], "r").await;
    let mut second = Resuming::join(&connector, Door::ALL[1], "r").await;
    // It has not acknowledged this.
    first.send(Some(1), ClientMessage::Join { room: "x".repeat(100).into(), metadata: None }).await;
    while first.hear().await != (ServerMessage::Ack { id: 1 }) {}
    first.cut(Cut::Reset);
    // Its place is free for somebody else as soon as its connection is known to be dead.
    eventually("a place", async || http().get(format!("{}/readyz", server.base())).send().await.unwrap().status() == 200).await;
    second.cut(Cut::Reset);
    loop {
        match witness.hear().await {
            ServerMessage::PeerLeft { peer_id, .. } => break assert_eq!(peer_id, first.peer_id),
            message => assert!(matches!(message, ServerMessage::PeerJoined { .. }), "{message:?}"),
        }
    }
    assert!(second.resume(Door::WebTransport).await);
    assert!(!first.resume(Door::WebTransport).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_acknowledges_is_served_all_the_same() {
    let server = resumable(|config| config.limits.replay_messages_max = 5);
    let connector = Arc::new(doors(server.base()).await);
    let mut anna = Resuming::join(&connector, Door::ALL[0], "r").await;
    let mut ben = Resuming::join(&connector, Door::WebTransport, "r").await;
    assert!(matches!(anna.hear().await, ServerMessage::PeerJoined { .. }));
    let (a, b) = (anna.peer_id, ben.peer_id);
    for n in 0..1_000 {
        ben.send(None, offer(a, n)).await;
    }
    hears(&mut anna, b, 0..1_000).await;
    // It has received everything, so it can resume, whatever was forgotten.
    anna.cut(Cut::Reset);
    assert!(anna.resume(Door::WebTransport).await);
}

#[tokio::test]
async fn nobody_has_received_more_than_was_sent() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    for door in Door::ALL {
        let mut anna = Resuming::join(&connector, door, "r").await;
        let received = anna.received;
        anna.send(None, ClientMessage::Ping { received: Some(received) }).await;
        assert!(matches!(anna.hear().await, ServerMessage::Pong { received: 3 }), "{door}: hello, join and ping");
        anna.send(None, ClientMessage::Ping { received: Some(received + 2) }).await;
        assert!(matches!(anna.hear().await, ServerMessage::Error(refusal) if refusal.code == ErrorCode::BadMessage), "{door}");
        anna.cut(Cut::LeftBehind);
        let (token, received) = (anna.token, anna.received);
        let mut again = connector.connect(door).await.unwrap();
        assert!(!within("a welcome", again.resume(token, received + 1)).await.unwrap().resumed, "{door}: more than was sent");
        let mut again = connector.connect(door).await.unwrap();
        assert!(within("a welcome", again.resume(token, received)).await.unwrap().resumed, "{door}: and no harm done");
    }
}

/// Its place is its own as long as it looks alive; after that it has to wait for one like everybody, and is still not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_is_full_a_client_comes_back_to_its_own_place() {
    for door in Door::ALL {
        let server = resumable(|config| config.limits.clients_max = 2);
        let connector = Arc::new(doors(server.base()).await);
        let mut ben = Resuming::join(&connector, Door::ALL[0], "r").await;
        let mut anna = Resuming::join(&connector, door, "r").await;
        assert!(matches!(ben.hear().await, ServerMessage::PeerJoined { .. }));
        for n in 0..3 {
            anna.cut(Cut::LeftBehind);
            assert!(anna.resume(Door::ALL[n]).await, "{door}: it looked alive");
        }
        anna.cut(Cut::Reset);
        let mut other = Client::connect(server.base(), door).await.unwrap();
        eventually("her place to be taken", async || {
            let taken = other.hello().await.is_ok();
            if !taken {
                other = Client::connect(server.base(), door).await.unwrap();
            }
            taken
        })
        .await;
        let mut early = connector.connect(door).await.unwrap();
        let resume = Some(Resume { token: Some(anna.token), received: anna.received });
        early.send(&unanswered(ClientMessage::Hello { token: None, resume })).await.unwrap();
        assert_eq!(goodbye(&mut early).await, CloseCode::ServerFull, "{door}");
        other.close().await;
        eventually("a place", async || ResumingClient::resume(&mut anna, door).await.is_ok_and(|resumed| resumed)).await;
        let (a, b) = (anna.peer_id, ben.peer_id);
        ben.send(None, offer(a, 1)).await;
        hears(&mut anna, b, 1..2).await;
    }
}

/// The connection with which it comes back may be there before the one is gone that takes the last place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_became_free_after_the_client_came_is_its_own() {
    for door in Door::ALL {
        let server = resumable(|config| config.limits.clients_max = 2);
        let connector = Arc::new(doors(server.base()).await);
        let _ben = Resuming::join(&connector, Door::ALL[0], "r").await;
        let mut anna = Resuming::join(&connector, Door::ALL[1], "r").await;
        let began = Instant::now();
        let mut again = connector.connect(door).await.unwrap();
        anna.cut(Cut::Reset);
        eventually("a place", async || http().get(format!("{}/readyz", server.base())).send().await.unwrap().status() == 200).await;
        match within("a welcome", again.resume(anna.token, anna.received)).await {
            Ok(welcome) => assert!(welcome.resumed, "{door}"),
            // Who comes while the server is full has a second to say that it is in already. A machine that takes longer shows nothing.
            Err(error) if began.elapsed() >= Duration::from_secs(1) => {
                eprintln!("{door}: too slow: {error}");
                continue;
            }
            Err(error) => panic!("{door}: {error}"),
        }
        let mut more = connector.connect(door).await.unwrap();
        assert_eq!(goodbye(&mut more).await, CloseCode::ServerFull, "{door}: there are two");
    }
}

/// An address is not to fill the server with sessions that wait; but those that do can be resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_count_for_their_address() {
    let server = resumable(|config| {
        config.rates = Rates::On;
        config.limits.address_connections_max = 4;
    });
    let connector = Arc::new(doors(server.base()).await);
    let mut waiting = vec![];
    for door in [Door::ALL[0], Door::ALL[1], Door::WebTransport] {
        // What asked for the doors may not be quite gone.
        eventually("a place", async || match ResumingClient::connect(&connector, door).await {
            Ok(mut client) => {
                client.leave_behind().expect("a connection").abort();
                waiting.push(client);
                true
            }
            Err(_) => false,
        })
        .await;
    }
    let last = connect_to(&connector, Door::ALL[0], "r").await;
    let mut late = connector.connect(Door::ALL[0]).await.unwrap();
    assert_eq!(goodbye(&mut late).await, CloseCode::TooManyConnections);
    for client in &mut waiting {
        assert!(within("a welcome", client.resume(Door::ALL[1])).await.unwrap());
    }
    drop(last);
}

/// Who falls behind is closed, but not forgotten: what was accepted for it waits, and what is too much its sender is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_too_slow_comes_back_and_has_everything_that_was_accepted() {
    // A connection that is cut takes what the kernel kept with it, which may be more than is kept to be said again.
    let server = resumable(|config| config.timeouts.close_ms = 20_000);
    let connector = Arc::new(doors(server.base()).await);
    for (from, to) in [(Door::ALL[0], Door::WebTransport), (Door::WebTransport, Door::ALL[0])] {
        let room = format!("{from} to {to}");
        let mut slow = Resuming::join(&connector, from, &room).await;
        let mut sender = Resuming::join(&connector, Door::ALL[1], &room).await;
        let target = slow.peer_id;
        let text = "x".repeat(20_000);
        let (mut accepted, mut refused) = (vec![], 0);
        // Past the first that is too much come smaller ones, which may still fit.
        for n in 0.. {
            let text = if refused == 0 { &*text } else { &text[..n as usize % 3000] };
            let payload = Payload::from_serialize(&(n, text)).unwrap();
            sender.send(Some(n), ClientMessage::Forward { kind: Kind::Offer, to: target, room: None, payload }).await;
            match sender.hear().await {
                ServerMessage::Ack { .. } => accepted.push(n),
                ServerMessage::Error(refusal) => {
                    assert_eq!(refusal.code, ErrorCode::Undeliverable);
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
            if refused == 100 {
                break;
            }
        }
        let mut heard = vec![];
        let hear = |message: ServerMessage, heard: &mut Vec<u64>| match message {
            ServerMessage::Forwarded { payload, .. } => heard.push(payload.parse::<(u64, String)>().unwrap().0),
            ServerMessage::PeerJoined { .. } | ServerMessage::Goodbye { code: CloseCode::SlowConsumer, .. } => {}
            other => panic!("{other:?}"),
        };
        // What is under way may still arrive.
        while let Ok(message) = within("the end of a connection", slow.try_hear()).await {
            hear(message, &mut heard);
        }
        slow.cut(Cut::LeftBehind);
        assert!(slow.resume(to).await, "{from} to {to}");
        while heard.len() < accepted.len() {
            hear(slow.hear().await, &mut heard);
        }
        assert_eq!(heard, accepted, "{from} to {to}");
        slow.leave().await;
        sender.leave().await;
    }
}

/// Half of it is the time after which a welcome may have been lost.
const HEARTBEAT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_welcome_that_was_lost_costs_no_session_and_its_secret_is_of_no_use_to_others() {
    let server = resumable(|config| config.timeouts.heartbeat_ms = HEARTBEAT.as_millis() as u64);
    let connector = Arc::new(doors(server.base()).await);
    join_all(Door::ALL.map(|door| lose_a_welcome(&connector, door))).await;
}

async fn lose_a_welcome(connector: &Arc<Connector>, door: Door) {
    let room: &str = door.to_string().leak();
    let mut ben = Resuming::join(connector, Door::ALL[0], room).await;
    let mut anna = Resuming::join(connector, door, room).await;
    assert!(matches!(ben.hear().await, ServerMessage::PeerJoined { .. }));
    anna.cut(Cut::LeftBehind);
    let (a, b, token, received) = (anna.peer_id, ben.peer_id, anna.token, anna.received);
    // It asks, and never hears the answer.
    let mut deaf = connector.connect(door).await.unwrap();
    let resume = Some(Resume { token: Some(token), received });
    deaf.send(&unanswered(ClientMessage::Hello { token: None, resume })).await.unwrap();
    eventually("the secret to be used", async || anna.left_behind[0].receive().await.is_err()).await;

    let mut thief = connector.connect(door).await.unwrap();
    assert!(!within("a welcome", thief.resume(token, received)).await.unwrap().resumed, "{door}: used just now");
    ben.send(None, offer(a, 1)).await;
    // The time that is told to clients; it began before the old connection was told.
    tokio::time::sleep(HEARTBEAT / 2).await;
    assert!(anna.resume(door).await, "{door}: the welcome may have been lost");
    // Now it has spoken, and the used secret is of no use any more.
    anna.send(None, offer(b, 2)).await;
    hears(&mut ben, a, 2..3).await;
    let mut thief = connector.connect(door).await.unwrap();
    assert!(!within("a welcome", thief.resume(token, received)).await.unwrap().resumed, "{door}: used long ago");
    hears(&mut anna, b, 1..2).await;
    ben.send(None, offer(a, 3)).await;
    hears(&mut anna, b, 3..4).await;
}
