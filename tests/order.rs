//! Promises 2 and 3: what A sends to B arrives in the order sent, and all of it, whichever doors they came in by.

mod support;

use std::collections::HashMap;

use support::{TestServer, connect, within};
use switchboard::{
    client::{Client, Door},
    protocol::{ClientMessage, Kind, Payload, PeerId, Request, ServerMessage},
};

const SENDERS: usize = 8;
const MESSAGES: usize = 10_000;
const KINDS: [Kind; 4] = [Kind::Offer, Kind::Answer, Kind::IceCandidate, Kind::Message];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_of_eight_senders_arrive_once_and_in_order() {
    let server = TestServer::without_rates();
    let mut receivers = Vec::new();
    for door in Door::ALL {
        let mut client = connect(&server, door).await;
        client.join("r", None).await.unwrap();
        receivers.push(client);
    }
    let targets: Vec<PeerId> = receivers.iter().map(|receiver| receiver.peer_id().unwrap()).collect();
    let mut senders = Vec::new();
    for sender in 0..SENDERS {
        let mut client = connect(&server, Door::ALL[sender % 3]).await;
        client.join("r", None).await.unwrap();
        senders.push(client);
    }
    let sending = senders.into_iter().map(|client| tokio::spawn(send_all(client, targets.clone())));
    let hearing: Vec<_> = receivers.into_iter().map(|client| tokio::spawn(hear_all(client))).collect();
    let sending: Vec<_> = sending.collect();
    // Who has heard all stays until the others have: it sent nothing that could tell whether it is gone too early.
    let mut done = Vec::new();
    for task in hearing {
        done.push(within("every message", task).await.unwrap());
    }
    for task in sending {
        within("the senders to learn that nothing was refused", task).await.unwrap();
    }
}

/// Sends its share of the messages, each numbered, one in four to everybody and the others to each target in turn.
async fn send_all(client: Client, targets: Vec<PeerId>) {
    let (mut sender, mut receiver) = client.split();
    let sending = async {
        for n in 0..MESSAGES / SENDERS {
            let payload = Payload::from_serialize(&n).unwrap();
            if n % 4 == 3 {
                sender.send(&Request { id: None, message: ClientMessage::Broadcast { room: None, payload } }).await.unwrap();
                continue;
            }
            for &to in &targets {
                let kind = KINDS[n % KINDS.len()];
                let message = ClientMessage::Forward { kind, to, room: None, payload: payload.clone() };
                sender.send(&Request { id: None, message }).await.unwrap();
            }
        }
        sender.send(&Request { id: Some(1), message: ClientMessage::Ping { received: None } }).await.unwrap();
        sender
    };
    let hearing = async {
        loop {
            match receiver.receive().await.unwrap() {
                ServerMessage::Ack { id: 1 } => return,
                ServerMessage::Error(refusal) => panic!("{refusal:?}"),
                _ => {}
            }
        }
    };
    // Both connections stay open until both are done.
    let (_sender, ()) = tokio::join!(sending, hearing);
}

async fn hear_all(mut client: Client) -> Client {
    let mut next: HashMap<PeerId, usize> = HashMap::new();
    while next.values().sum::<usize>() < MESSAGES {
        match client.receive().await.unwrap() {
            ServerMessage::Forwarded { from, payload, kind, .. } => {
                let expected = next.get_mut(&from).expect("a peer is announced before anything from it arrives");
                let n: usize = payload.parse().unwrap();
                assert_eq!((n, kind), (*expected, KINDS[n % KINDS.len()]), "from {from}");
                *expected += 1;
            }
            ServerMessage::PeerJoined { peer, .. } => assert_eq!(next.insert(peer.peer_id, 0), None, "announced twice"),
            ServerMessage::PeerLeft { peer_id, .. } => {
                assert_eq!(next.get(&peer_id), Some(&(MESSAGES / SENDERS)), "nobody is gone before all it sent has arrived");
            }
            _ => {}
        }
    }
    client
}
