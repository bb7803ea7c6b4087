//! What networks and machines do to connections, by every door and from every door to every other: a client that comes back has missed
//! nothing, nothing came twice, and the others noticed nothing. A fault is a line in a table.

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use support::{
    Random, TestServer, connect_to, doors,
    process::ServerProcess,
    proxy::{
        End::{Fin, Reset, Silence},
        Proxy,
        Way::{Down, Up},
        Weather,
    },
    raw::RawWebTransport,
    resuming::{Cut, Resuming},
    seed, within,
};
use switchboard::{
    Config,
    client::{Connector, Door},
    config::Rates,
    protocol::{ClientMessage, CloseCode, ErrorCode, Kind, LeaveReason, Payload, Peer, PeerId, ServerMessage},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// What happens to the network between the client and the server.
type Strike = fn(&Proxy);

/// A connection that ends visibly ends within this; one that does not is given up by its client after it, and looks alive to the server.
const SHORT: Duration = Duration::from_millis(200);
/// Longer than the server's patience with silence.
const LONG: Duration = Duration::from_millis(SILENCE_MS + 600);
const SILENCE_MS: u64 = 2_000;

/// The fault, what it does, and how long the client endures it before it comes back by another way. Where an end is one that UDP does not
/// know, UDP falls silent.
const FAULTS: &[(&str, Strike, Duration)] = &[
    ("reset in the middle of a message to the server", |network| network.end_within(Up, Reset), SHORT),
    ("reset in the middle of a message to the client", |network| network.end_within(Down, Reset), SHORT),
    ("ended in the middle of a message to the server", |network| network.end_within(Up, Fin), SHORT),
    ("ended in the middle of a message to the client", |network| network.end_within(Down, Fin), SHORT),
    ("silent from the middle of a message to the server", |network| network.end_within(Up, Silence), SHORT),
    ("silent from the middle of a message to the client", |network| network.end_within(Down, Silence), SHORT),
    ("reset between messages", |network| network.end(Up, Reset), SHORT),
    ("ended to the server, open to the client", |network| network.end(Up, Fin), SHORT),
    ("ended to the client, open to the server", |network| network.end(Down, Fin), SHORT),
    ("dead, and the server has not noticed", Proxy::cut, SHORT),
    ("dead, and the server has given up", Proxy::cut, LONG),
    ("dead to the server for long, and alive to the client", |network| network.end(Up, Silence), LONG),
    ("dead to the client for long, and alive to the server", |network| network.end(Down, Silence), LONG),
];

/// A server that clients may come back to.
fn resumable(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.rates = Rates::Off;
        config.timeouts.resume_window_ms = 30_000;
        change(config);
    })
}

/// A client that talks to one other: it counts aloud, and hears the other count.
struct Talker {
    client: Resuming,
    other: PeerId,
    said: u64,
    heard: u64,
}

/// A payload that fits in one datagram of QUIC, and one that does not by far.
const BRIEF: usize = 10;
const LENGTHY: usize = 20_000;

impl Talker {
    /// Two of them, alone in a room. The second came by the connector of its own.
    async fn two(room: &'static str, one: (&Arc<Connector>, Door), two: (&Arc<Connector>, Door)) -> (Self, Self) {
        let mut first = Resuming::join(one.0, one.1, room).await;
        let second = Resuming::join(two.0, two.1, room).await;
        assert!(matches!(first.hear().await, ServerMessage::PeerJoined { .. }));
        let (one, two) = (first.peer_id, second.peer_id);
        let talker = |client, other| Self { client, other, said: 0, heard: 0 };
        (talker(first, two), talker(second, one))
    }

    /// Says the next number, as each kind of message in turn.
    async fn say(&mut self, bytes: usize) {
        let payload = Payload::from_serialize(&(self.said, "x".repeat(bytes))).unwrap();
        let forward = |kind, payload| ClientMessage::Forward { kind, to: self.other, room: None, payload };
        let message = match self.said % 3 {
            0 => forward(Kind::Offer, payload),
            1 => forward(Kind::Message, payload),
            _ => ClientMessage::Broadcast { room: None, payload },
        };
        self.said += 1;
        within("a message to be sent", self.client.send(None, message)).await;
    }

    /// Whatever arrives has to be the next number of the other, or an answer to an acknowledgement.
    fn take(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Forwarded { from, payload, .. } => {
                let (number, _) = payload.parse::<(u64, String)>().unwrap();
                assert_eq!((*from, number), (self.other, self.heard));
                self.heard += 1;
            }
            ServerMessage::Pong { .. } => {}
            other => panic!("{other:?} instead of number {}", self.heard),
        }
    }

    /// Hears up to this number.
    async fn hears(&mut self, said: u64) {
        while self.heard < said {
            let message = self.client.hear().await;
            self.take(&message);
        }
    }

    /// Listens until then, or until its connection is seen to be over. It may be told that it was too silent.
    async fn listens_until(&mut self, then: Instant) {
        while let Ok(Ok(message)) = timeout_at(then, self.client.try_hear()).await {
            if !matches!(message, ServerMessage::Goodbye { code: CloseCode::Timeout, .. }) {
                self.take(&message);
            }
        }
    }

    /// Comes back by this way and door. Whether its session went on.
    async fn comes_back(self, by: &Arc<Connector>, door: Door) -> (Self, bool) {
        let mut client = self.client.by(by);
        client.cut(Cut::LeftBehind);
        let resumed = client.resume(door).await;
        (Self { client, ..self }, resumed)
    }

    /// Leaves, which the other hears once, and nothing else.
    async fn leaves(self, mut other: Self) {
        let gone = self.client.peer_id;
        self.client.leave().await;
        other.hears_only_that_it_left(gone, LeaveReason::Disconnected).await;
    }

    async fn hears_only_that_it_left(&mut self, gone: PeerId, why: LeaveReason) {
        match self.client.hear().await {
            ServerMessage::PeerLeft { peer_id, reason, .. } => assert_eq!((peer_id, reason), (gone, why)),
            other => panic!("{other:?} instead of a peer gone"),
        }
        self.client.acknowledge().await;
        assert!(matches!(self.client.hear().await, ServerMessage::Pong { .. }));
    }
}

/// Each says so many, and hears all that the other said.
async fn talk(one: &mut Talker, two: &mut Talker, messages: u64) {
    for _ in 0..messages {
        one.say(BRIEF).await;
        two.say(BRIEF).await;
    }
    one.hears(two.said).await;
    two.hears(one.said).await;
}

/// Does the same for every pair of doors, all at once, each in a room of its own.
async fn for_pairs_of_doors<F: Future<Output = ()> + Send + 'static>(name: &str, scenario: impl Fn(Door, Door, &'static str) -> F) {
    let mut pairs = JoinSet::new();
    for from in Door::ALL {
        for to in Door::ALL {
            let pair = format!("{name}, from {from} to {to}");
            // A room's name lives as long as a message that waits to be sent again; there are few.
            let running = tokio::spawn(scenario(from, to, pair.clone().leak()));
            pairs.spawn(async move { (pair, running.await) });
        }
    }
    while let Some(pair) = pairs.join_next().await {
        let (pair, outcome) = pair.expect("it only waits");
        assert!(outcome.is_ok(), "failed: {pair}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_connection_its_client_comes_back_and_nothing_is_lost() {
    let server = resumable(|config| {
        config.timeouts.heartbeat_ms = 300;
        config.timeouts.silence_ms = SILENCE_MS;
    });
    let address = server.addresses()[0];
    let direct = Arc::new(doors(server.base()).await);
    for &(name, strike, outage) in FAULTS {
        for_pairs_of_doors(name, |from, to, room| {
            let direct = direct.clone();
            async move {
                let network = Proxy::to(address).await;
                let by_network = Arc::new(doors(&network.base()).await);
                let (mut faulty, mut bystander) = Talker::two(room, (&by_network, from), (&direct, to)).await;
                talk(&mut faulty, &mut bystander, 10).await;

                strike(&network);
                faulty.say(LENGTHY).await;
                bystander.say(LENGTHY).await;
                let over = Instant::now() + outage;
                while Instant::now() < over {
                    faulty.listens_until((Instant::now() + Duration::from_millis(20)).min(over)).await;
                    faulty.say(BRIEF).await;
                    bystander.say(BRIEF).await;
                    // Where the connection is seen to be over there is nothing to listen to.
                    sleep(Duration::from_millis(5)).await;
                }
                assert!(network.has_ended(), "the fault has happened");

                let resumed;
                (faulty, resumed) = faulty.comes_back(&direct, to).await;
                assert!(resumed);
                talk(&mut faulty, &mut bystander, 10).await;
                faulty.leaves(bystander).await;
            }
        })
        .await;
    }
}

/// A client that closes its QUIC connection leaves, and at once, unless it says by its code that something went wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_its_quic_connection_has_left() {
    let server = resumable(|_| {});
    let connector = Arc::new(doors(server.base()).await);
    let webtransport = RawWebTransport::new(server.base()).await;
    for door in Door::ALL {
        let mut bystander = Resuming::join(&connector, door, "r").await;
        let (connection, mut send, _receive) = webtransport.open().await.unwrap();
        let join = rmp_serde::to_vec(&json!({"type": "join", "room": "r"})).unwrap();
        within("a join", send.write_all(&[&(join.len() as u32).to_be_bytes(), &*join].concat())).await.unwrap();
        let ServerMessage::PeerJoined { peer: Peer { peer_id: gone, .. }, .. } = bystander.hear().await else { panic!("{door}") };
        connection.close(0_u32.into(), b"");
        let mut bystander = Talker { client: bystander, other: gone, said: 0, heard: 0 };
        bystander.hears_only_that_it_left(gone, LeaveReason::Disconnected).await;
        bystander.client.leave().await;
    }
}

/// TCP arrives late and in odd pieces; UDP late, twice, in another order and sometimes never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_loses_nothing() {
    let server = resumable(|_| {});
    let address = server.addresses()[0];
    let seed = seed();
    for_pairs_of_doors("bad weather", |from, to, room| async move {
        let random = &mut Random::new(seed ^ room.bytes().map(u64::from).sum::<u64>());
        let mut weather = || Weather { seed: random.next(), delay: Duration::from_millis(5), drop: 10, duplicate: 5, reorder: 10 };
        let networks = [Proxy::through(weather(), address).await, Proxy::through(weather(), address).await];
        let mut ways = Vec::new();
        for network in &networks {
            ways.push(Arc::new(doors(&network.base()).await));
        }
        let (mut faulty, mut bystander) = Talker::two(room, (&ways[0], from), (&ways[1], to)).await;
        for _ in 0..3 {
            talk(&mut faulty, &mut bystander, 30).await;
            faulty.say(LENGTHY / 10).await;
            bystander.say(LENGTHY / 10).await;
            let resumed;
            (faulty, resumed) = faulty.comes_back(&ways[1], to).await;
            assert!(resumed);
        }
        talk(&mut faulty, &mut bystander, 30).await;
        faulty.leaves(bystander).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_for_five_seconds_loses_nothing_and_nobody() {
    stands_still(&[], &[(0, 1), (1, 2), (2, 0), (2, 2)]).await;
}

/// On a WebSocket the server itself decides who is silent, and it knows whether it listened. QUIC's idle time-out does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_on_websockets_that_stands_still_for_longer_than_its_patience() {
    let settings = [("SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS", "1000"), ("SWITCHBOARD_TIMEOUTS_SILENCE_MS", "3000")];
    stands_still(&settings, &[(0, 1), (1, 0)]).await;
}

/// Stops a server for five seconds, while these pairs of doors are talked over.
async fn stands_still(settings: &[(&str, &str)], doors_of_pairs: &[(usize, usize)]) {
    let server = ServerProcess::with(settings);
    let direct = Arc::new(doors(server.url()).await);
    let mut pairs = Vec::new();
    for &(one, two) in doors_of_pairs {
        let room = format!("{one} and {two}").leak();
        let mut pair = Talker::two(room, (&direct, Door::ALL[one]), (&direct, Door::ALL[two])).await;
        talk(&mut pair.0, &mut pair.1, 10).await;
        pairs.push(pair);
    }
    server.signal("-STOP");
    let over = Instant::now() + Duration::from_secs(5);
    while Instant::now() < over {
        for (one, two) in &mut pairs {
            one.say(BRIEF).await;
            two.say(BRIEF).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    server.signal("-CONT");
    for (mut one, mut two) in pairs {
        talk(&mut one, &mut two, 10).await;
        assert!(one.said > 30, "{}", one.said);
        one.leaves(two).await;
    }
}

/// A laptop that is closed for a moment: it neither reads nor writes, and then goes on over the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stands_still_within_the_bounds_misses_nothing() {
    let server = resumable(|_| {});
    let direct = Arc::new(doors(server.base()).await);
    for_pairs_of_doors("standing still", |from, to, room| {
        let direct = direct.clone();
        async move {
            let (mut paused, mut bystander) = Talker::two(room, (&direct, from), (&direct, to)).await;
            talk(&mut paused, &mut bystander, 10).await;
            // Half a megabyte, half of what may wait.
            for n in 0..400 {
                bystander.say(if n % 20 == 0 { LENGTHY } else { BRIEF }).await;
            }
            bystander.client.acknowledge().await;
            while !matches!(bystander.client.hear().await, ServerMessage::Pong { .. }) {}
            talk(&mut paused, &mut bystander, 10).await;
            paused.leaves(bystander).await;
        }
    })
    .await;
}

/// What is accepted for a client that stands still waits for it up to a bound; a client that missed more than is kept is told so, and
/// its peers hear once that it is gone. (That it misses nothing where enough is kept is in `resume.rs`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stands_still_beyond_the_bounds_is_told_the_truth() {
    let server = resumable(|config| {
        config.limits.outbox_bytes_max = 700_000;
        config.limits.replay_bytes_max = 100_000;
        config.timeouts.close_ms = 200;
    });
    let direct = Arc::new(doors(server.base()).await);
    for_pairs_of_doors("standing still for long", |from, to, room| {
        let direct = direct.clone();
        async move {
            let (mut paused, mut bystander) = Talker::two(room, (&direct, from), (&direct, to)).await;
            talk(&mut paused, &mut bystander, 10).await;
            let gone = paused.client.peer_id;
            let payload = Payload::from_serialize(&(0, "x".repeat(LENGTHY))).unwrap();
            let refused = async {
                for n in 0.. {
                    let offer = ClientMessage::Forward { kind: Kind::Offer, to: gone, room: None, payload: payload.clone() };
                    bystander.client.send(Some(n), offer).await;
                    match bystander.client.hear().await {
                        ServerMessage::Ack { .. } => {}
                        ServerMessage::Error(refusal) => return assert_eq!(refusal.code, ErrorCode::Undeliverable),
                        other => panic!("{other:?}"),
                    }
                }
            };
            within("a refusal", refused).await;
            // What was under way may still be read, and the goodbye.
            let ended = async { while paused.client.try_hear().await.is_ok() {} };
            within("the end of a connection", ended).await;
            let (paused, resumed) = paused.comes_back(&direct, to).await;
            assert!(!resumed);
            bystander.hears_only_that_it_left(gone, LeaveReason::Timeout).await;
            // As somebody else it is as welcome as anybody.
            let newcomer = connect_to(&direct, to, room).await;
            assert!(matches!(bystander.client.hear().await, ServerMessage::PeerJoined { .. }));
            drop((paused, newcomer));
        }
    })
    .await;
}
