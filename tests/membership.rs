//! Promise 2: `joined` and the later `peer-*` events give exactly the membership, under any churn.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use support::{DEADLINE, Random, TestServer, eventually, seed, within};
use switchboard::{
    client::{Client, Connector, Door, Options},
    config::Rates,
    protocol::{ClientMessage, PeerId, Request, RoomId, ServerMessage},
};
use tokio::sync::watch;

const CLIENTS: u64 = 500;
const STEPS: u64 = 12;
const ROOMS: u64 = 60;

/// What a client believes: the peers of each room that it is in, itself among them.
type Belief = BTreeMap<RoomId, BTreeSet<PeerId>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_of_five_hundred_clients_believes_is_what_the_registry_knows() {
    let seed = seed();
    // Who dies is soon gone for good.
    let server = TestServer::with(|config| {
        config.rates = Rates::Off;
        config.timeouts.resume_window_ms = 500;
        // Handshakes take their time while five hundred come at once.
        config.timeouts.hello_ms = 60_000;
    });
    let connector = Arc::new(Connector::new(server.base(), Options { timeout: DEADLINE, ..Options::default() }).await.unwrap());
    let beliefs: Vec<Arc<Mutex<Belief>>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let (over, _) = watch::channel(false);
    let clients: Vec<_> = beliefs
        .iter()
        .enumerate()
        .map(|(n, belief)| {
            let random = Random::new(seed.wrapping_add(n as u64));
            tokio::spawn(live(connector.clone(), random, belief.clone(), over.subscribe()))
        })
        .collect();

    // Each client has acted for the last time when all steps are counted; what it was then told may still be on its way.
    eventually("every belief to be true", async || {
        let snapshot = server.snapshot().await;
        let known: Vec<Belief> = beliefs.iter().map(|belief| belief.lock().unwrap().clone()).collect();
        let everybody: usize = snapshot.values().map(Vec::len).sum();
        let believed: usize = known.iter().map(Belief::len).sum();
        Arc::strong_count(&connector) == 1
            && everybody == believed
            && known
                .iter()
                .flatten()
                .all(|(room, peers)| snapshot.get(room).is_some_and(|members| members.iter().copied().collect::<BTreeSet<_>>() == *peers))
    })
    .await;
    over.send_replace(true);
    for client in clients {
        within("a client to end", client).await.unwrap();
    }
}

/// Joins, leaves, dies and comes back at random, then listens until all is over. The connector is dropped with the last step.
async fn live(connector: Arc<Connector>, mut random: Random, belief: Arc<Mutex<Belief>>, mut over: watch::Receiver<bool>) {
    let mut client = arrive(&connector, &mut random).await;
    for _ in 0..STEPS {
        let room = RoomId::parse(&format!("room {}", random.below(ROOMS)), 20).unwrap();
        let is_in = belief.lock().unwrap().contains_key(&room);
        match random.below(10) {
            0 => {
                belief.lock().unwrap().clear();
                client.abort();
                client = arrive(&connector, &mut random).await;
            }
            1 => {
                belief.lock().unwrap().clear();
                within("a close", client.close()).await;
                client = arrive(&connector, &mut random).await;
            }
            _ if is_in => act(&mut client, &belief, ClientMessage::Leave { room: Some(room.as_str().into()) }).await,
            _ => act(&mut client, &belief, ClientMessage::Join { room: room.as_str().into(), metadata: None }).await,
        }
    }
    drop(connector);
    loop {
        tokio::select! {
            message = client.receive() => learn(&belief, client.peer_id().unwrap(), message.unwrap()),
            _ = over.wait_for(|over| *over) => return,
        }
    }
}

async fn arrive(connector: &Connector, random: &mut Random) -> Client {
    let door = Door::ALL[random.below(3) as usize];
    let mut client = within("a connection", connector.connect(door)).await.unwrap();
    within("a welcome", client.hello()).await.unwrap();
    client
}

/// Asks for something and learns whatever arrives up to the answer.
async fn act(client: &mut Client, belief: &Mutex<Belief>, message: ClientMessage<'_>) {
    client.send(&Request { id: Some(1), message }).await.unwrap();
    loop {
        match within("an answer", client.receive()).await.unwrap() {
            ServerMessage::Ack { id: 1 } => return,
            ServerMessage::Error(refusal) => panic!("{refusal:?}"),
            message => learn(belief, client.peer_id().unwrap(), message),
        }
    }
}

fn learn(belief: &Mutex<Belief>, own: PeerId, message: ServerMessage) {
    let mut belief = belief.lock().unwrap();
    match message {
        ServerMessage::Joined { room, peer_id, peers, .. } => {
            assert_eq!(peer_id, own);
            let members: BTreeSet<PeerId> = peers.iter().map(|peer| peer.peer_id).chain([own]).collect();
            assert_eq!(members.len(), peers.len() + 1, "nobody is listed twice");
            assert_eq!(belief.insert(room, members), None, "joined twice");
        }
        ServerMessage::Left { room, .. } => assert!(belief.remove(&room).is_some(), "left where it was not"),
        ServerMessage::PeerJoined { room, peer } => {
            let members = belief.get_mut(&room).expect("told of a room that it is in");
            assert!(members.insert(peer.peer_id), "announced twice");
        }
        ServerMessage::PeerLeft { room, peer_id, .. } => {
            let members = belief.get_mut(&room).expect("told of a room that it is in");
            assert!(members.remove(&peer_id), "gone without having been there");
        }
        ServerMessage::Welcome(_) => {}
        other => panic!("nobody sent {other:?}"),
    }
}
