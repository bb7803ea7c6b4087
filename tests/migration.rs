//! A client on WebTransport whose address changes keeps its session: nothing is resumed, nothing is lost, and nobody notices. A telephone
//! that leaves its Wi-Fi moves knowingly; behind a NAT that forgets it, a client moves without knowing.

mod support;

use std::net::{Ipv4Addr, UdpSocket};

use support::{TestServer, connect_to, doors, newcomer, offer, own_id, proxy::Proxy, raw::RawSession, unanswered, within};
use switchboard::{
    client::{Client, Door},
    protocol::{ClientMessage, PeerId, ServerMessage},
};

/// Where a client moves while messages are under way: to another port, to another address, and back; then it stays for a round. All of
/// 127.0.0.0/8 is this machine.
const MOVES: [Option<Ipv4Addr>; 5] =
    [Some(Ipv4Addr::LOCALHOST), Some(Ipv4Addr::new(127, 0, 0, 2)), Some(Ipv4Addr::new(127, 0, 0, 3)), Some(Ipv4Addr::LOCALHOST), None];
/// Messages of a round, each way. The client moves in the middle of it.
const MESSAGES: u64 = 40;

/// This message has to be number `n` of this peer. A second `welcome` and a `peer-left` would be other messages.
fn is_offer(message: &ServerMessage, peer: PeerId, n: u64) {
    match message {
        ServerMessage::Forwarded { from, payload, .. } => assert_eq!((*from, payload.parse::<u64>().unwrap()), (peer, n)),
        other => panic!("{other:?} instead of offer {n}"),
    }
}

async fn say(client: &mut Client, to: PeerId, n: u64) {
    within("an offer to be sent", client.send(&unanswered(offer(to, n)))).await.unwrap();
}

async fn next(client: &mut Client) -> ServerMessage<'static> {
    within("a message", client.receive()).await.unwrap()
}

/// Nobody may come back here, so that a connection that is lost is seen to be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_moves_to_another_address_keeps_its_session() {
    let server = TestServer::start();
    let connector = doors(server.base()).await;
    let mut witness = connect_to(&connector, Door::ALL[0], "r").await;
    let mut mover = RawSession::open(server.base(), server.addresses()[0], Ipv4Addr::LOCALHOST).await;
    mover.say(ClientMessage::Join { room: "r".into(), metadata: None }).await;
    assert!(matches!(mover.hear().await, ServerMessage::Welcome(_)));
    assert!(matches!(mover.hear().await, ServerMessage::Joined { .. }));
    let (peer, other) = (newcomer(&mut witness).await, own_id(&witness));
    let mut number = 0;
    for address in MOVES {
        for n in number..number + MESSAGES {
            mover.say(offer(other, n)).await;
            say(&mut witness, peer, n).await;
            if let Some(address) = address.filter(|_| n == number + MESSAGES / 2) {
                mover.endpoint.rebind(UdpSocket::bind((address, 0)).unwrap()).unwrap();
            }
        }
        for n in number..number + MESSAGES {
            is_offer(&mover.hear().await, other, n);
            is_offer(&next(&mut witness).await, peer, n);
        }
        number += MESSAGES;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_know_that_it_moved_keeps_its_session() {
    let server = TestServer::start();
    let connector = doors(server.base()).await;
    let mut witness = connect_to(&connector, Door::ALL[0], "r").await;
    let proxy = Proxy::to(server.addresses()[0]).await;
    let mut mover = connect_to(&doors(&proxy.base()).await, Door::WebTransport, "r").await;
    assert!(matches!(next(&mut mover).await, ServerMessage::Welcome(_)));
    let (peer, other) = (newcomer(&mut witness).await, own_id(&witness));
    let mut number = 0;
    for address in MOVES {
        for n in number..number + MESSAGES {
            say(&mut mover, other, n).await;
            say(&mut witness, peer, n).await;
            if let Some(address) = address.filter(|_| n == number + MESSAGES / 2) {
                proxy.move_to(address);
            }
        }
        for n in number..number + MESSAGES {
            is_offer(&next(&mut mover).await, other, n);
            is_offer(&next(&mut witness).await, peer, n);
        }
        number += MESSAGES;
    }
}
