//! The Rust client against a running server: the same verbs over each door.

mod support;

use std::{borrow::Cow, future::Future, net::Ipv4Addr, time::Duration};

use support::{TestServer, authority::Authority, offer, within};
use switchboard::{
    Server,
    client::{Client, ConnectError, Connector, Disconnected, Door, Options, RequestError},
    protocol::{ClientMessage, CloseCode, ErrorCode, Kind, LeaveReason, Payload, PeerId, Request, ServerMessage, framing::Frame},
};

async fn each_door<F: Future<Output = ()>>(server: &Server, test: impl Fn(Connector, Door) -> F) {
    for door in Door::ALL {
        eprintln!("{door}");
        let connector = within("an answer", Connector::new(server.url(), Options::default())).await.unwrap();
        within("an answer", test(connector, door)).await;
    }
}

fn broadcast(payload: impl serde::Serialize) -> Request<'static> {
    Request { id: None, message: ClientMessage::Broadcast { room: None, payload: Payload::from_serialize(&payload).unwrap() } }
}

#[tokio::test]
async fn a_client_joins_and_talks_by_every_door() {
    let server = TestServer::start();
    each_door(&server, async |connector, door| {
        let mut anna = connector.connect(door).await.unwrap();
        let welcome = anna.hello().await.unwrap();
        assert_eq!(anna.peer_id(), Some(welcome.peer_id));
        let metadata = Payload::from_serialize(&"anna").unwrap();
        assert_eq!(anna.join(&door.to_string(), Some(metadata)).await, Ok(vec![]));

        let mut ben = connector.connect(door).await.unwrap();
        let peers = ben.join(&door.to_string(), None).await.unwrap();
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].peer_id, welcome.peer_id);
        assert_eq!(peers[0].metadata.as_ref().unwrap().parse::<String>().unwrap(), "anna");
        // What came before the answer is still there.
        assert!(matches!(ben.receive().await, Ok(ServerMessage::Welcome(_))));

        ben.request(offer(welcome.peer_id, "sdp")).await.unwrap();
        assert!(matches!(anna.receive().await, Ok(ServerMessage::PeerJoined { peer, .. }) if Some(peer.peer_id) == ben.peer_id()));
        let received = anna.receive().await.unwrap();
        let ServerMessage::Forwarded { kind: Kind::Offer, from, payload, .. } = received else { panic!("{received:?}") };
        assert_eq!((Some(from), &*payload.parse::<String>().unwrap()), (ben.peer_id(), "sdp"));

        let nobody = PeerId::random();
        let refused = ben.request(offer(nobody, "sdp")).await;
        assert!(matches!(refused, Err(RequestError::Refused(refusal)) if refusal.code == ErrorCode::NoSuchPeer));
        assert!(matches!(ben.hello().await, Err(RequestError::Refused(refusal)) if refusal.code == ErrorCode::BadMessage));
    })
    .await;
}

#[tokio::test]
async fn both_halves_work_at_the_same_time() {
    let server = TestServer::without_rates();
    each_door(&server, async |connector, door| {
        let mut anna = connector.connect(door).await.unwrap();
        anna.join(&door.to_string(), None).await.unwrap();
        let mut ben = connector.connect(door).await.unwrap();
        ben.join(&door.to_string(), None).await.unwrap();
        let (mut sender, _receiver) = ben.split();
        let sending = tokio::spawn(async move {
            for number in 0..1000 {
                sender.send(&broadcast(number)).await.unwrap();
            }
            sender
        });
        let (_sender, mut receiver) = anna.split();
        let mut expected = 0;
        while expected < 1000 {
            if let ServerMessage::Forwarded { payload, .. } = receiver.receive().await.unwrap() {
                assert_eq!(payload.parse::<u32>().unwrap(), expected);
                expected += 1;
            }
        }
        drop(sending.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_datagram_arrives_marked_by_either_transport() {
    let server = TestServer::start();
    each_door(&server, async |connector, door| {
        let mut anna = connector.connect(door).await.unwrap();
        anna.join(&door.to_string(), None).await.unwrap();
        let mut ben = connector.connect(Door::WebTransport).await.unwrap();
        ben.join(&door.to_string(), None).await.unwrap();
        let received = loop {
            // Best effort: it may be lost.
            ben.send_datagram(&broadcast("here")).await.unwrap();
            let received = tokio::time::timeout(Duration::from_millis(200), async {
                loop {
                    if let received @ ServerMessage::Forwarded { .. } = anna.receive().await.unwrap() {
                        return received;
                    }
                }
            });
            if let Ok(received) = received.await {
                break received;
            }
        };
        assert!(matches!(received, ServerMessage::Forwarded { best_effort: true, .. }));
    })
    .await;
}

#[tokio::test]
async fn the_code_of_a_close_is_told_after_the_goodbye() {
    let server = TestServer::with(|config| config.timeouts.hello_ms = 1_000);
    each_door(&server, async |connector, door| {
        let mut silent = connector.connect(door).await.unwrap();
        assert_eq!(silent.receive().await, Ok(ServerMessage::goodbye(CloseCode::HelloTimeout)));
        for _ in 0..2 {
            let disconnected = silent.receive().await.unwrap_err();
            assert_eq!(disconnected.code, Some(CloseCode::HelloTimeout.number()), "{disconnected}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_ends_the_connection_says_so() {
    let server = TestServer::start();
    each_door(&server, async |connector, door| {
        let mut client = connector.connect(door).await.unwrap();
        client.hello().await.unwrap();
        let payload = Payload::from_serialize(&"x".repeat(70_000)).unwrap();
        let outcome = client.request(ClientMessage::Broadcast { room: Some(Cow::Borrowed("r")), payload }).await;
        let Err(RequestError::Disconnected(Disconnected { code, .. })) = outcome else { panic!("{outcome:?}") };
        assert_eq!(code, Some(CloseCode::TooLarge.number()));
        assert_eq!(client.receive().await, Ok(ServerMessage::goodbye(CloseCode::TooLarge)));
        assert!(client.receive().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_message_can_be_sent() {
    let server = TestServer::start();
    each_door(&server, async |connector, door| {
        let mut client = connector.connect(door).await.unwrap();
        client.hello().await.unwrap();
        for frame in [Frame::Text("dance".into()), Frame::Binary("dance".into())] {
            client.send_frame(frame).await.unwrap();
            assert!(matches!(client.receive().await, Ok(ServerMessage::Error(refusal)) if refusal.code == ErrorCode::BadMessage));
        }
        if let Door::WebSocket(_) = door {
            client.send_frame(Frame::Text(vec![0xff].into())).await.unwrap();
            assert_eq!(client.receive().await.unwrap_err().code, Some(1007));
        }
    })
    .await;
}

/// How a client can go.
enum Exit {
    Close,
    Abort,
    Drop,
}

#[tokio::test]
async fn others_hear_of_a_client_that_goes_however_it_goes() {
    let server = TestServer::start();
    each_door(&server, async |connector, door| {
        let mut anna = connector.connect(door).await.unwrap();
        anna.join(&door.to_string(), None).await.unwrap();
        assert!(matches!(anna.receive().await, Ok(ServerMessage::Welcome(_))));
        for exit in [Exit::Close, Exit::Abort, Exit::Drop] {
            let mut ben = connector.connect(door).await.unwrap();
            ben.join(&door.to_string(), None).await.unwrap();
            assert!(matches!(anna.receive().await, Ok(ServerMessage::PeerJoined { .. })));
            match exit {
                Exit::Close => {
                    let code = if door == Door::WebTransport { 0 } else { 1000 };
                    assert_eq!(ben.close().await.code, Some(code));
                }
                Exit::Abort => ben.abort(),
                Exit::Drop => drop(ben),
            }
            let left = anna.receive().await.unwrap();
            assert!(matches!(left, ServerMessage::PeerLeft { reason: LeaveReason::Disconnected, .. }), "{left:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_an_authority_of_ones_own_is_trusted_when_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(directory.path());
    let server = TestServer::with(|config| {
        config.tls_cert = Some(directory.path().join("chain.pem"));
        config.tls_key = Some(directory.path().join("key.pem"));
    });

    let stranger = within("an answer", Client::connect(server.url(), Door::WebTransport)).await;
    assert!(matches!(stranger, Err(ConnectError::Unreachable { .. } | ConnectError::Roots(_))));
    let options = Options { roots: vec![authority.root.clone()], local_address: Some(Ipv4Addr::LOCALHOST.into()), ..Options::default() };
    let connector = within("an answer", Connector::new(server.url(), options)).await.unwrap();
    for door in Door::ALL {
        let mut client = within("an answer", connector.connect(door)).await.unwrap();
        within("an answer", client.hello()).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_at_home_is_told_by_name() {
    let error = within("an answer", Client::connect("http://127.0.0.1:1", Door::WebTransport)).await.err().unwrap();
    assert!(error.to_string().starts_with("http://127.0.0.1:1/.well-known/switchboard cannot be reached: "), "{error}");
    let error = within("an answer", Client::connect("127.0.0.1:1", Door::WebTransport)).await.err().unwrap();
    assert_eq!(error.to_string(), r#""127.0.0.1:1" is no base URL, which is http:// or https:// and a host"#);
}
