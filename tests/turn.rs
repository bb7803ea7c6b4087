//! The embedded STUN and TURN server: it relays for sessions that are alive, over every transport, to nobody but the public internet, and no more than it may.

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use support::{
    RawClient, TestServer,
    authority::Authority,
    eventually,
    metrics::read,
    process::ServerProcess,
    turn::{By, Heard, TurnClient, credential, lent},
    within,
};
use switchboard::{
    Config,
    client::Door,
    ice::TurnCredential,
    protocol::{Codec, PeerId},
};
use tokio::net::UdpSocket;
use turn_types::AddressFamily;

/// With what is on the test's machine as peers.
fn relaying(config: &mut Config) {
    serving(config);
    config.turn.allow = ["127.0.0.1/32", "::1/128"].map(|host| host.parse().unwrap()).into();
}

/// By TLS as well, with a certificate of this authority's.
fn relaying_by_tls_too(config: &mut Config, authority: &Authority) {
    relaying(config);
    let directory = config.cert_dir.clone();
    authority.sign(&directory);
    (config.tls_cert, config.tls_key) = (Some(directory.join("chain.pem")), Some(directory.join("key.pem")));
    config.turn.tls_listen = Some("127.0.0.1:0".parse().unwrap());
}

/// As anybody would have it.
fn serving(config: &mut Config) {
    config.turn.enabled = true;
    config.turn.listen = Some("localhost:0".parse().unwrap());
}

fn first(server: &TestServer) -> SocketAddr {
    server.turn_addresses().clear[0]
}

/// A client by UDP with the credentials of this session.
async fn client(server: &TestServer, peer_id: PeerId) -> TurnClient {
    let mut client = TurnClient::connect(first(server), By::Udp, None).await;
    client.use_credential(credential(server, peer_id));
    client
}

/// A peer that is no client.
async fn peer(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).await.expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// What has come to a peer by now: `try_recv` alone would not see it before the runtime has.
async fn arrived(socket: &UdpSocket) -> usize {
    let mut packets = 0;
    while tokio::time::timeout(Duration::from_millis(20), socket.recv(&mut [0; 9999])).await.is_ok() {
        packets += 1;
    }
    packets
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_536];
    let (length, from) = within("a packet", socket.recv_from(&mut bytes)).await.expect("a socket");
    bytes.truncate(length);
    (bytes, from)
}

/// What a series of the server's counts shows.
fn count(server: &TestServer, series: &str) -> f64 {
    *read(&server.metrics()).get(series).unwrap_or_else(|| panic!("no {series}"))
}

#[tokio::test]
async fn without_the_setting_there_is_none() {
    let server = TestServer::start();
    assert!(server.turn_addresses().clear.is_empty() && server.turn_addresses().tls.is_empty() && server.turn_credentials().is_none());
}

#[tokio::test]
async fn packets_go_both_ways_over_every_transport_and_both_families() {
    let authority = Authority::new();
    let server = TestServer::with(|config| relaying_by_tls_too(config, &authority));
    let addresses = server.turn_addresses();
    let clear = addresses.clear.iter().flat_map(|address| [(By::Udp, *address), (By::Tcp, *address)]);
    let ways: Vec<_> = clear.chain([(By::Tls, addresses.tls[0])]).collect();
    assert!(ways.iter().any(|(_, address)| address.is_ipv6()), "{ways:?}");
    for (by, address) in ways {
        for (family, host) in [(AddressFamily::IPV4, "127.0.0.1:0"), (AddressFamily::IPV6, "[::1]:0")] {
            let (socket, peer) = peer(host).await;
            let mut client = TurnClient::connect(address, by, Some(&authority.root)).await;
            assert_eq!(client.mapped().await, client.local());
            assert_eq!(client.allocate().await, Err(401), "without credentials");
            client.use_credential(credential(&server, PeerId::random()));
            let relayed = client.allocate_family(Some(family)).await.unwrap();
            assert_eq!(relayed.is_ipv4(), peer.is_ipv4());
            assert_eq!(client.allocate().await, Err(437), "there is one");
            let refused = || count(&server, r#"switchboard_turn_refusals_total{cause="no-permission"}"#);
            let before = refused();
            socket.send_to(b"too early", relayed).await.unwrap();
            eventually("a stranger is refused", async || refused() > before).await;

            client.permit(peer).await.unwrap();
            for length in [0, 1, 2, 3, 4, 1200, 9000] {
                let packet = vec![length as u8; length];
                client.send_to(peer, &packet).await;
                assert_eq!(receive(&socket).await, (packet.clone(), relayed), "{by:?}");
                socket.send_to(&packet, relayed).await.unwrap();
                assert_eq!(client.hear().await, Heard::Data(peer, packet), "{by:?}");
            }

            client.bind(0x4001, peer).await.unwrap();
            client.bind(0x4001, peer).await.unwrap();
            assert_eq!(client.bind(0x4002, peer).await, Err(400), "the peer has a number");
            assert_eq!(client.bind(0x8000, peer).await, Err(400), "no number of a channel");
            for length in [0, 1, 2, 3, 4, 1200, 9000] {
                let packet = vec![length as u8; length];
                client.send_by(0x4001, &packet).await;
                assert_eq!(receive(&socket).await, (packet.clone(), relayed));
                socket.send_to(&packet, relayed).await.unwrap();
                assert_eq!(client.hear().await, Heard::Channel(0x4001, packet), "{by:?}");
            }

            assert_eq!(client.refresh(60).await, Ok(600), "not for less than ten minutes");
            assert_eq!(client.refresh(100_000).await, Ok(3600), "not for more than an hour");
            assert_eq!(client.refresh(0).await, Ok(0));
            assert_eq!(client.refresh(600).await, Err(437));
            eventually("the port is free", async || UdpSocket::bind(relayed).await.is_ok()).await;
        }
    }
    for transport in ["udp", "tcp", "tls"] {
        let series = |name: &str| format!(r#"switchboard_turn_{name}{{transport="{transport}"}}"#);
        assert_eq!(count(&server, &series("allocations")), 0.0);
        let made = if transport == "tls" { 2.0 } else { 4.0 };
        assert_eq!(count(&server, &series("allocations_total")), made);
    }
    assert_eq!(count(&server, r#"switchboard_turn_relayed_packets_total{direction="to-peer"}"#), 140.0);
    assert_eq!(count(&server, r#"switchboard_turn_relayed_bytes_total{direction="to-client"}"#), 20.0 * 10_210.0);
}

/// With `iceTransportPolicy: "relay"` on both sides each is the other's peer by an address of the server.
#[tokio::test]
async fn two_clients_meet_at_the_servers_own_address_where_nothing_else_is_a_peer() {
    for external in [&[][..], &["203.0.113.9"]] {
        let server = TestServer::with(|config| {
            serving(config);
            config.turn.external_ip = external.iter().map(|address| address.parse().unwrap()).collect();
        });
        let (mut anna, mut bob) = (client(&server, PeerId::random()).await, client(&server, PeerId::random()).await);
        let [at_anna, at_bob] = [anna.allocate().await.unwrap(), bob.allocate().await.unwrap()];
        let known = external.first().unwrap_or(&"127.0.0.1").parse::<IpAddr>().unwrap();
        assert_eq!((at_anna.ip(), at_bob.ip()), (known, known));
        let (socket, stranger) = peer("127.0.0.1:0").await;
        let stranger_outside = SocketAddr::new(known, stranger.port());
        assert_eq!(anna.permit(stranger_outside).await, Err(403));
        anna.permit(at_bob).await.unwrap();
        bob.permit(at_anna).await.unwrap();
        anna.send_to(at_bob, b"hello").await;
        assert_eq!(bob.hear().await, Heard::Data(at_anna, b"hello".to_vec()));
        bob.bind(0x4000, at_anna).await.unwrap();
        bob.send_by(0x4000, b"hello yourself").await;
        assert_eq!(anna.hear().await, Heard::Data(at_bob, b"hello yourself".to_vec()));
        // The permission is for the address, and what is no relay there is no peer all the same.
        anna.send_to(stranger_outside, b"let me in").await;
        anna.send_to(stranger, b"let me in").await;
        socket.send_to(b"let me in", (IpAddr::from([127, 0, 0, 1]), at_anna.port())).await.unwrap();
        anna.send_to(at_bob, b"last").await;
        assert_eq!(bob.hear().await, Heard::Channel(0x4000, b"last".to_vec()));
        assert_eq!(arrived(&socket).await, 0, "nothing came by");
        bob.send_by(0x4000, b"last").await;
        assert_eq!(anna.hear().await, Heard::Data(at_bob, b"last".to_vec()), "and nothing of the stranger's before");
    }
}

/// Whoever lets clients reach a network by its block did not mean the services of this machine, which is in it.
#[tokio::test]
async fn a_block_that_is_allowed_opens_no_address_of_the_server_itself() {
    let server = TestServer::with(|config| {
        serving(config);
        config.turn.allow = ["0.0.0.0/0", "::/0", "127.0.0.0/8"].map(|block| block.parse().unwrap()).into();
    });
    let (socket, own) = peer("0.0.0.0:0").await;
    let mut client = client(&server, PeerId::random()).await;
    client.allocate().await.unwrap();
    for (number, address) in (0x4000..).zip(["127.0.0.1", "127.0.0.2", "0.0.0.0"]) {
        let peer = SocketAddr::new(address.parse().unwrap(), own.port());
        assert_eq!(client.permit(peer).await, Err(403), "{peer}");
        assert_eq!(client.bind(number, peer).await, Err(403), "{peer}");
        client.send_to(peer, b"by send").await;
        client.send_by(number, b"by channel").await;
    }
    client.permit("192.168.7.7:9".parse().unwrap()).await.expect("the network itself is open");
    assert_eq!(arrived(&socket).await, 0);
}

/// What a client of somebody else's network could want to reach through a server in it.
const FORBIDDEN: [&str; 34] = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:808:808::80ff:fffe",
    "2001:db8::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
    "::ffff:169.254.169.254",
];

#[tokio::test]
async fn no_forbidden_address_is_reached_by_any_method() {
    use stun_types::{
        attribute::ErrorCode,
        message::{Message, MessageWriteExt as _},
    };
    use turn_types::{attribute::XorPeerAddress, message::CONNECT};
    let server = TestServer::with(serving);
    // RFC 6062 has a client by TCP ask for a connection by TCP.
    let doors = ["0.0.0.0:0", "[::]:0", "127.0.0.1:0", "[::1]:0"].map(|address| std::net::TcpListener::bind(address).unwrap());
    let listeners = [peer("0.0.0.0:0").await, peer("[::]:0").await, peer("127.0.0.1:0").await, peer("[::1]:0").await];
    let mut own: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap().iter().map(|interface| interface.ip()).collect();
    own.extend(FORBIDDEN.iter().map(|address| address.parse::<IpAddr>().unwrap()));
    for family in [AddressFamily::IPV4, AddressFamily::IPV6] {
        let mut client = client(&server, PeerId::random()).await;
        let relayed = client.allocate_family(Some(family)).await.unwrap();
        let mut number = 0x4000;
        for address in &own {
            for (_, listener) in &listeners {
                let peer = SocketAddr::new(*address, listener.port());
                assert_eq!(client.permit(peer).await, Err(403), "{peer} by {relayed}");
                assert_eq!(client.bind(number, peer).await, Err(403), "{peer} by {relayed}");
                client.send_to(peer, b"by send").await;
                client.send_by(number, b"by channel").await;
                number += 1;
            }
        }
        let mut stream = TurnClient::connect(first(&server), By::Tcp, None).await;
        stream.use_credential(credential(&server, PeerId::random()));
        stream.allocate_family(Some(family)).await.unwrap();
        for (address, door) in own.iter().flat_map(|address| doors.iter().map(move |door| (address, door))) {
            let peer = SocketAddr::new(*address, door.local_addr().unwrap().port());
            for client in [&mut client, &mut stream] {
                let answer = client.ask_once(CONNECT, |request| {
                    request.add_attribute(&XorPeerAddress::new(peer, request.transaction_id())).unwrap();
                });
                let answer = answer.await;
                let answer = Message::from_bytes(&answer).unwrap();
                assert_eq!(answer.attribute::<ErrorCode>().unwrap().code(), 400, "{peer} by {relayed}");
            }
        }
        // What was sent before this is answered has been dealt with.
        client.mapped().await;
    }
    for (socket, address) in &listeners {
        assert_eq!(arrived(socket).await, 0, "something reached {address}");
    }
    for door in doors {
        door.set_nonblocking(true).unwrap();
        let door = tokio::net::TcpListener::from_std(door).unwrap();
        let came = tokio::time::timeout(Duration::from_millis(20), door.accept()).await;
        assert!(came.is_err(), "somebody connected to {}", door.local_addr().unwrap());
    }
    let refused = count(&server, r#"switchboard_turn_refusals_total{cause="forbidden-peer"}"#);
    assert_eq!(refused as usize, 2 * 2 * own.len() * listeners.len());
}

#[tokio::test]
async fn an_allocation_relays_udp_alone() {
    use stun_types::{
        attribute::ErrorCode,
        message::{Message, MessageWriteExt as _},
    };
    use turn_types::{
        attribute::RequestedTransport,
        message::{ALLOCATE, CONNECT},
    };
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    let tcp = client.ask(ALLOCATE, |request| request.add_attribute(&RequestedTransport::new(RequestedTransport::TCP)).unwrap()).await;
    assert_eq!(tcp, Err(442));
    client.allocate().await.unwrap();
    let answer = client.ask_once(CONNECT, |_| {}).await;
    assert_eq!(Message::from_bytes(&answer).unwrap().attribute::<ErrorCode>().unwrap().code(), 400);
}

#[tokio::test]
async fn a_session_has_so_many_allocations_and_the_server_too() {
    let server = TestServer::with(|config| {
        serving(config);
        config.turn.allocations_max = 14;
    });
    let (anna, bob) = (PeerId::random(), PeerId::random());
    let mut of_anna = Vec::new();
    for _ in 0..12 {
        let mut client = client(&server, anna).await;
        client.allocate().await.unwrap();
        of_anna.push(client);
    }
    assert_eq!(client(&server, anna).await.allocate().await, Err(486));
    let mut of_bob = [client(&server, bob).await, client(&server, bob).await];
    for client in &mut of_bob {
        client.allocate().await.unwrap();
    }
    assert_eq!(client(&server, bob).await.allocate().await, Err(508));
    assert_eq!(of_anna[0].refresh(0).await, Ok(0));
    client(&server, bob).await.allocate().await.unwrap();
    for (cause, times) in [("session-quota", 1.0), ("server-quota", 1.0)] {
        assert_eq!(count(&server, &format!(r#"switchboard_turn_refusals_total{{cause="{cause}"}}"#)), times, "{cause}");
    }
}

/// However many sessions it has, or credentials that were lent to it.
#[tokio::test]
async fn an_address_has_so_many_allocations_and_others_have_theirs() {
    let server = TestServer::with(|config| {
        serving(config);
        config.turn.allocations_per_address_max = 3;
    });
    let allocate = async |address: [u8; 4]| {
        let mut client = TurnClient::connect_from(address.into(), first(&server), By::Udp).await;
        client.use_credential(credential(&server, PeerId::random()));
        client.allocate().await.map(|_| client)
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(allocate([127, 0, 0, 1]).await.unwrap());
    }
    assert_eq!(allocate([127, 0, 0, 1]).await.err(), Some(486));
    allocate([127, 0, 0, 2]).await.unwrap();
    assert_eq!(count(&server, r#"switchboard_turn_refusals_total{cause="address-quota"}"#), 1.0);
    assert_eq!(clients[0].refresh(0).await, Ok(0));
    allocate([127, 0, 0, 1]).await.unwrap();
}

/// A request that names so many peers that there is room for some of them only lets none of them in.
#[tokio::test]
async fn an_allocation_has_so_many_peers_and_takes_those_of_one_request_together() {
    use stun_types::message::MessageWriteExt as _;
    use turn_types::{attribute::XorPeerAddress, message::CREATE_PERMISSION};
    const PEERS_MAX: u8 = 128;
    let server = TestServer::with(|config| {
        relaying(config);
        config.turn.allow.extend((0..=u8::MAX).map(|n| IpNet::from(IpAddr::from([127, 9, 9, n]))));
    });
    let mut client = client(&server, PeerId::random()).await;
    client.allocate().await.unwrap();
    let port = first(&server).port();
    let host = |n: u8| SocketAddr::from(([127, 9, 9, n], port));
    let permit = async |client: &mut TurnClient, peers: &[SocketAddr]| {
        let granted = client.ask(CREATE_PERMISSION, |request| {
            for peer in peers {
                request.add_attribute(&XorPeerAddress::new(*peer, request.transaction_id())).unwrap();
            }
        });
        granted.await.map(drop)
    };
    let hosts = |from: u8, to: u8| (from..to).map(host).collect::<Vec<_>>();
    permit(&mut client, &hosts(0, PEERS_MAX - 2)).await.unwrap();
    let (socket, late) = peer("127.9.9.126:0").await;
    assert_eq!(permit(&mut client, &[late, host(PEERS_MAX - 1), host(PEERS_MAX)]).await, Err(508), "one too many");
    client.send_to(late, b"refused with the others").await;
    let other_port = SocketAddr::new(host(PEERS_MAX - 1).ip(), 9);
    permit(&mut client, &[late, host(PEERS_MAX - 1), host(0), other_port, late]).await.unwrap();
    client.send_to(late, b"let in with the others").await;
    assert_eq!(receive(&socket).await.0, b"let in with the others", "and nothing before");
    permit(&mut client, &hosts(0, PEERS_MAX)).await.unwrap();

    let (socket, stranger) = peer("127.9.9.200:0").await;
    assert_eq!(client.permit(stranger).await, Err(508));
    assert_eq!(client.bind(0x4000, stranger).await, Err(508), "a channel lets its peer in as well");
    client.send_by(0x4000, b"by a channel that was refused").await;
    client.bind(0x4000, late).await.unwrap();
    client.mapped().await;
    assert_eq!(arrived(&socket).await, 0);
}

#[tokio::test]
async fn more_bytes_than_may_pass_are_lost() {
    for (of_one, of_all, cause) in [(10_000, 1_000_000, "allocation-rate"), (1_000_000, 10_000, "server-rate")] {
        let server = TestServer::with(|config| {
            relaying(config);
            (config.turn.allocation_bytes_per_second, config.turn.bytes_per_second) = (of_one, of_all);
        });
        let (socket, peer) = peer("127.0.0.1:0").await;
        let mut client = client(&server, PeerId::random()).await;
        client.allocate().await.unwrap();
        client.bind(0x4000, peer).await.unwrap();
        for _ in 0..50 {
            // A thousand bytes with the headers of UDP and IP.
            client.send_by(0x4000, &[7; 1000 - 28]).await;
        }
        client.mapped().await;
        let received = arrived(&socket).await;
        let lost = count(&server, &format!(r#"switchboard_turn_refusals_total{{cause="{cause}"}}"#));
        let sent = count(&server, r#"switchboard_turn_relayed_packets_total{direction="to-peer"}"#);
        assert!(received >= 11 && lost >= 1.0, "{received} passed, {sent} sent, {lost} lost");
        assert_eq!(received as f64 + lost, 50.0);
    }
}

/// Packets without data cost a network as much as others do.
#[tokio::test]
async fn more_empty_packets_than_may_pass_are_lost() {
    for (of_one, of_all, cause) in [(1_000, 1_000_000, "allocation-rate"), (1_000_000, 1_000, "server-rate")] {
        let server = TestServer::with(|config| {
            relaying(config);
            (config.turn.allocation_bytes_per_second, config.turn.bytes_per_second) = (of_one, of_all);
        });
        let (_socket, peer) = peer("127.0.0.1:0").await;
        let mut client = TurnClient::connect(first(&server), By::Tcp, None).await;
        client.use_credential(credential(&server, PeerId::random()));
        client.allocate().await.unwrap();
        client.bind(0x4000, peer).await.unwrap();
        for _ in 0..400 {
            client.send_by(0x4000, &[]).await;
        }
        client.mapped().await;
        let lost = count(&server, &format!(r#"switchboard_turn_refusals_total{{cause="{cause}"}}"#));
        let sent = count(&server, r#"switchboard_turn_relayed_packets_total{direction="to-peer"}"#);
        assert!(sent >= 36.0 && lost >= 100.0, "{sent} sent, {lost} lost");
        assert_eq!(sent + lost, 400.0);
        assert_eq!(count(&server, r#"switchboard_turn_relayed_bytes_total{direction="to-peer"}"#), 0.0, "what is counted is data");
    }
}

#[tokio::test]
async fn credentials_and_allocations_end_with_their_session() {
    let server = TestServer::with(|config| {
        relaying(config);
        config.turn.grace_ms = 0;
    });
    let (anna, bob) = (PeerId::random(), PeerId::random());
    let (mut of_anna, mut of_bob) = (client(&server, anna).await, client(&server, bob).await);
    let relayed = of_anna.allocate().await.unwrap();
    of_bob.allocate().await.unwrap();
    let mut of_anna_too = client(&server, anna).await;
    server.turn_credentials().unwrap().session_ended(&anna);
    assert!(matches!(of_anna.refresh(600).await, Err(401 | 437)));
    assert_eq!(of_anna_too.allocate().await, Err(401));
    eventually("the port is free", async || UdpSocket::bind(relayed).await.is_ok()).await;
    assert_eq!(of_bob.refresh(600).await, Ok(600), "the other session lives on");
}

/// Nothing but the flag is needed: what the welcome says is enough for a relay, and it is over when the client has gone.
#[tokio::test]
async fn a_welcome_names_the_server_with_credentials_that_go_with_the_session() {
    let server = TestServer::with(|config| {
        serving(config);
        config.turn.grace_ms = 0;
    });
    let mut member = RawClient::silent(&server, Door::WebSocket(Codec::Json)).await;
    member.say(serde_json::json!({"type": "hello"})).await;
    let welcome = member.hear().await;
    let told = &welcome["iceServers"][0];
    assert_eq!(told["urls"][0], format!("turn:{}?transport=udp", first(&server)), "{welcome}");
    assert_eq!(told["urls"].as_array().map(Vec::len), Some(2 * server.turn_addresses().clear.len()), "{welcome}");
    let text = |key: &str| told[key].as_str().expect("a string").to_owned();
    let credential = TurnCredential { username: text("username"), password: text("credential") };
    let [mut early, mut late] =
        [TurnClient::connect(first(&server), By::Udp, None).await, TurnClient::connect(first(&server), By::Udp, None).await];
    early.use_credential(credential.clone());
    late.use_credential(credential);
    let relayed = early.allocate().await.unwrap();
    drop(member);
    eventually("the relay is gone", async || UdpSocket::bind(relayed).await.is_ok()).await;
    assert_eq!(early.refresh(600).await, Err(401));
    assert_eq!(late.allocate().await, Err(401));
}

#[tokio::test]
async fn an_allocation_outlives_what_its_credential_says_as_long_as_its_session_lives() {
    let server = TestServer::with(serving);
    let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
    let credentials = server.turn_credentials().unwrap();
    let peer_id = PeerId::random();
    let credential = credentials.issue(peer_id, std::time::SystemTime::now() + Duration::from_millis(2500));
    client.use_credential(credential.clone());
    client.allocate().await.unwrap();
    eventually("the credential is over", async || {
        let mut other = TurnClient::connect(first(&server), By::Udp, None).await;
        other.use_credential(credential.clone());
        match other.allocate().await {
            Ok(_) => other.refresh(0).await.map(|_| false).unwrap(),
            refused => refused == Err(401),
        }
    })
    .await;
    assert_eq!(client.refresh(600).await, Ok(600));
}

/// What `/ice` answers somebody who has no session.
async fn asked(server: &TestServer) -> reqwest::Response {
    within("an answer", support::http().get(format!("{}/ice", server.base())).send()).await.expect("an answer")
}

/// For how many seconds the credential in an answer is good, and what it is.
async fn credential_in(answer: reqwest::Response) -> (u64, TurnCredential) {
    let told: serde_json::Value = within("ICE servers", answer.json()).await.expect("JSON");
    let text = |key: &str| told["iceServers"][0][key].as_str().expect("a string").to_owned();
    let credential = TurnCredential { username: text("username"), password: text("credential") };
    (told["ttl"].as_u64().expect("it runs out"), credential)
}

/// Nobody ends the use of a credential that belongs to no session, so it ends by itself, with the allocations that it made.
#[tokio::test]
async fn what_is_lent_by_http_ends_by_itself_with_all_that_it_relays() {
    let server = TestServer::with(|config| {
        serving(config);
        config.ice.turn_ttl_ms = 3_000;
    });
    let (_, credential) = credential_in(asked(&server).await).await;
    let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
    client.use_credential(credential);
    let relayed = client.allocate().await.unwrap();
    assert_eq!(client.refresh(3600).await, Ok(3600));
    eventually("the port is free", async || UdpSocket::bind(relayed).await.is_ok()).await;
    assert_eq!(client.refresh(600).await, Err(401));
}

/// Whom the embedded server lends nothing more is told of the others all the same.
#[tokio::test]
async fn an_address_that_is_lent_nothing_more_is_told_of_other_servers() {
    let server = TestServer::with(|config| {
        serving(config);
        config.ice.address_credentials_max = 1;
        config.ice.servers = vec![serde_json::from_value("stun:stun.example.org".into()).unwrap()];
    });
    for urls in [2, 1, 1] {
        let answer = asked(&server).await;
        assert_eq!(answer.status(), 200);
        let told: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(told["iceServers"].as_array().map(Vec::len), Some(urls), "{told}");
        assert_eq!(told["iceServers"][0]["urls"][0], "stun:stun.example.org");
        assert_eq!(told.get("ttl").is_some(), urls == 2, "{told}");
    }
}

/// A socket for all addresses answers by the one that was asked, for clients take no answer from another.
#[tokio::test]
async fn whichever_address_of_the_machine_is_asked_answers() {
    for (listen, hosts) in [("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.9.9.9"][..]), ("[::]:0", &["::1"])] {
        let server = TestServer::with(|config| {
            relaying(config);
            config.turn.listen = Some(listen.parse().unwrap());
        });
        for host in hosts {
            let (socket, peer) = peer("127.0.0.1:0").await;
            let address = SocketAddr::new(host.parse().unwrap(), first(&server).port());
            let mut client = TurnClient::connect(address, By::Udp, None).await;
            assert_eq!(client.mapped().await, client.local(), "{address}");
            if !address.is_ipv4() {
                continue;
            }
            client.use_credential(credential(&server, PeerId::random()));
            let relayed = client.allocate().await.unwrap();
            client.bind(0x4000, peer).await.unwrap();
            socket.send_to(b"to the client", relayed).await.unwrap();
            assert_eq!(client.hear().await, Heard::Channel(0x4000, b"to the client".to_vec()), "{address}");
            client.send_by(0x4000, b"to the peer").await;
            assert_eq!(receive(&socket).await, (b"to the peer".to_vec(), relayed), "{address}");
        }
    }
}

#[tokio::test]
async fn an_address_is_lent_so_many_credentials_each_for_an_hour() {
    let server = TestServer::with(|config| {
        serving(config);
        config.ice.address_credentials_max = 2;
    });
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for _ in 0..2 {
        let before = now();
        let (ttl, credential) = credential_in(asked(&server).await).await;
        let expiry: u64 = credential.username.split_once(':').unwrap().0.parse().unwrap();
        assert!((3590..=3600).contains(&ttl) && (before + 3600..=now() + 3600).contains(&expiry), "{ttl} {expiry}");
        let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
        client.use_credential(credential);
        client.allocate().await.unwrap();
    }
    let request = support::http().get(format!("{}/ice", server.base())).header("Origin", "http://localhost:3000");
    let refused = within("an answer", request.send()).await.unwrap();
    assert_eq!(refused.status(), 429);
    let retry_after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3580..=3600).contains(&retry_after), "{retry_after}");
    let exposed = refused.headers().get("access-control-expose-headers").map(|names| names.to_str().unwrap().to_owned());
    assert_eq!(exposed.as_deref(), Some("Retry-After"), "pages of other origins may read it");
}

#[tokio::test]
async fn only_who_made_an_allocation_changes_it() {
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    client.allocate().await.unwrap();
    client.use_credential(credential(&server, PeerId::random()));
    assert_eq!(client.allocate().await, Err(437), "the place is taken");
    assert_eq!(client.refresh(0).await, Err(441));
}

/// What a client says that makes its messages itself, of RFC 8489 and RFC 8656 alone.
mod by_hand {
    use stun_types::{
        attribute::{AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username},
        message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageWriteExt as _, MessageWriteVec, Method},
        prelude::*,
    };
    use switchboard::ice::TurnCredential;
    use turn_types::{attribute::RequestedTransport, message::ALLOCATE};

    use super::support::turn::TurnClient;

    /// An attribute by its number and its bytes, whatever they mean.
    pub fn raw(kind: u16, value: &'static [u8]) -> RawAttribute<'static> {
        RawAttribute::new(AttributeType::new(kind), value)
    }

    /// What signs the messages of who has this credential.
    pub fn key(credential: &TurnCredential) -> IntegrityKey {
        let TurnCredential { username, password } = credential.clone();
        LongTermKeyCredentials::new(username, password, "turn".into()).make_key(IntegrityAlgorithm::Sha1)
    }

    /// A nonce for this client, which has not said yet who it is.
    pub async fn nonce(client: &mut TurnClient) -> String {
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let challenge = client.ask_once(ALLOCATE, |request| request.add_attribute(&udp).unwrap()).await;
        Message::from_bytes(&challenge).unwrap().attribute::<Nonce>().unwrap().nonce().to_owned()
    }

    /// A request that is signed by who has this credential.
    pub fn signed(method: Method, credential: &TurnCredential, nonce: &str, with: &[RawAttribute<'_>]) -> Vec<u8> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        with.iter().for_each(|attribute| request.add_attribute(attribute).unwrap());
        request.add_attribute(&Username::new(&credential.username).unwrap()).unwrap();
        request.add_attribute(&Realm::new("turn").unwrap()).unwrap();
        request.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
        request.add_message_integrity_with_key(&key(credential), IntegrityAlgorithm::Sha1).unwrap();
        request.finish()
    }

    /// The message with more behind it, which its length tells of.
    pub fn followed_by(mut message: Vec<u8>, attribute: &RawAttribute<'_>) -> Vec<u8> {
        message.extend(attribute.to_bytes());
        let claimed = u16::try_from(message.len() - 20).unwrap();
        message[2..4].copy_from_slice(&claimed.to_be_bytes());
        message
    }

    /// By what code this is refused, if it is.
    pub fn refusal(answer: &[u8]) -> Option<u16> {
        Message::from_bytes(answer).unwrap().attribute::<ErrorCode>().ok().map(|error| error.code())
    }
}

/// A message used to get no answer at all if its client wrote SOFTWARE, or anything else, behind the signature. RFC 8489 §14.5 has that ignored, and the message
/// counts.
#[tokio::test]
async fn what_stands_behind_a_signature_is_ignored_and_the_message_answered() {
    use stun_types::message::Message;
    use turn_types::{
        attribute::Lifetime,
        message::{ALLOCATE, REFRESH},
    };
    let server = TestServer::with(serving);
    for by in [By::Udp, By::Tcp] {
        let mut client = TurnClient::connect(first(&server), by, None).await;
        let credential = credential(&server, PeerId::random());
        let nonce = by_hand::nonce(&mut client).await;
        let udp = by_hand::raw(0x0019, &[17, 0, 0, 0]);
        let unsigned = [by_hand::raw(0x8022, b"abcd"), by_hand::raw(0x000d, &[0; 4]), by_hand::raw(0x7ffe, b"unknown")];
        let requests = [(ALLOCATE, &[udp][..]), (REFRESH, &[]), (REFRESH, &[])];
        for ((method, with), behind) in requests.into_iter().zip(&unsigned) {
            client.say(&by_hand::followed_by(by_hand::signed(method, &credential, &nonce, with), behind)).await;
            let answer = within("an answer", client.heard()).await.expect("a connection");
            assert_eq!(by_hand::refusal(&answer), None, "{behind}");
            assert_eq!(Message::from_bytes(&answer).unwrap().attribute::<Lifetime>().unwrap().seconds(), 600, "{behind}");
        }
    }
}

/// Whoever has a credential of its own for another's allocation used to be told 441 without a signature, which a client that keeps to RFC 8489 §9.2.5 drops; and
/// who had none was told so as well. §9.2.4 has the key looked at first.
#[tokio::test]
async fn another_users_credential_is_refused_by_a_signed_answer_and_a_wrong_one_as_any_other() {
    use stun_types::message::Message;
    use turn_types::message::REFRESH;
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    client.allocate().await.unwrap();
    let nonce = by_hand::nonce(&mut TurnClient::connect(first(&server), By::Udp, None).await).await;
    let stale = by_hand::signed(REFRESH, &credential(&server, PeerId::random()), &nonce, &[]);
    client.say(&stale).await;
    let challenge = within("an answer", client.heard()).await.unwrap();
    let nonce = Message::from_bytes(&challenge).unwrap().attribute::<stun_types::attribute::Nonce>().unwrap().nonce().to_owned();
    let good = credential(&server, PeerId::random());
    let wrong = TurnCredential { password: "guessed".into(), ..good.clone() };
    let unknown = TurnCredential { username: format!("4000000000:{}", "ab".repeat(16)), password: "guessed".into() };
    for (other, code) in [(&good, 441), (&wrong, 401), (&unknown, 401)] {
        client.say(&by_hand::signed(REFRESH, other, &nonce, &[])).await;
        let answer = within("an answer", client.heard()).await.unwrap();
        assert_eq!(by_hand::refusal(&answer), Some(code), "{}", other.username);
        let is_signed = Message::from_bytes(&answer).unwrap().validate_integrity_with_key(&by_hand::key(other)).is_ok();
        assert_eq!(is_signed, code == 441, "{}", other.username);
    }
    assert_eq!(client.refresh(600).await, Ok(600), "the allocation is whose it was");
}

/// A lifetime of two bytes used to be taken for none, and so were others.
#[tokio::test]
async fn a_malformed_attribute_is_refused_and_not_taken_for_none() {
    use stun_types::message::MessageWriteExt as _;
    use turn_types::message::{ALLOCATE, REFRESH};
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    let udp = || by_hand::raw(0x0019, &[17, 0, 0, 0]);
    let malformed = [(0x000d, &[0xff; 2][..], 400), (0x000d, &[0, 0, 0, 1, 0], 400), (0x0018, &[], 400), (0x0017, &[3, 0, 0, 0], 440)];
    for (kind, value, code) in malformed {
        let answer = client.ask(ALLOCATE, |request| {
            request.add_attribute(&udp()).unwrap();
            request.add_attribute(&by_hand::raw(kind, value)).unwrap();
        });
        assert_eq!(answer.await, Err(code), "{kind:#x} {value:?}");
    }
    client.allocate().await.unwrap();
    for (kind, value, code) in malformed.into_iter().filter(|(kind, ..)| *kind != 0x0018) {
        let answer = client.ask(REFRESH, |request| request.add_attribute(&by_hand::raw(kind, value)).unwrap()).await;
        assert_eq!(answer, Err(code), "{kind:#x} {value:?}");
    }
    assert_eq!(client.refresh(600).await, Ok(600));
}

/// RFC 8656 §7.2 on a client that wants relays of both families at once: what it may not ask is refused, and of what it may it gets one and is told why not two.
#[tokio::test]
async fn who_wants_relays_of_both_families_at_once_gets_one_and_is_told_so() {
    use stun_types::message::{Message, MessageWriteExt as _};
    use turn_types::{
        attribute::{AddressErrorCode, XorRelayedAddress},
        message::ALLOCATE,
    };
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    let mistakes: [&[(u16, &'static [u8])]; 5] = [
        &[(0x8000, &[1, 0, 0, 0])],
        &[(0x8000, &[3, 0, 0, 0])],
        &[(0x8000, &[2])],
        &[(0x0017, &[1, 0, 0, 0]), (0x8000, &[2, 0, 0, 0])],
        &[(0x0018, &[0x80]), (0x8000, &[2, 0, 0, 0])],
    ];
    let right: &[(u16, &'static [u8])] = &[(0x8000, &[2, 0, 0, 0])];
    let request = async |client: &mut TurnClient, with: &[(u16, &'static [u8])]| {
        let with_all = |request: &mut stun_types::message::MessageWriteVec| {
            request.add_attribute(&by_hand::raw(0x0019, &[17, 0, 0, 0])).unwrap();
            with.iter().for_each(|(kind, value)| request.add_attribute(&by_hand::raw(*kind, value)).unwrap());
        };
        client.ask(ALLOCATE, with_all).await
    };
    for with in mistakes {
        assert_eq!(request(&mut client, with).await, Err(400), "{with:?}");
    }
    let answer = request(&mut client, right).await.unwrap();
    let answer = Message::from_bytes(&answer).unwrap();
    assert!(answer.attribute::<XorRelayedAddress>().unwrap().addr(answer.transaction_id()).is_ipv4());
    let error = answer.attribute::<AddressErrorCode>().unwrap();
    assert_eq!((error.family(), error.error().code()), (AddressFamily::IPV6, 440));
}

/// From one address come guesses, from the same address a genuine client.
#[tokio::test]
async fn after_wrong_credentials_the_next_of_that_address_wait_and_are_heard() {
    let server = TestServer::with(|config| {
        serving(config);
        config.limits.address_failures_max = 2;
        config.timeouts.failure_delay_ms = 300;
    });
    let mut wrong = credential(&server, PeerId::random());
    wrong.password = "guessed".into();
    for _ in 0..5 {
        let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
        client.use_credential(wrong.clone());
        assert_eq!(client.allocate().await, Err(401));
    }
    client(&server, PeerId::random()).await.allocate().await.unwrap();
    assert!(count(&server, r#"switchboard_turn_refusals_total{cause="failures"}"#) >= 2.0);
    assert_eq!(count(&server, r#"switchboard_turn_refusals_total{cause="credentials"}"#), 5.0);
}

/// Nobody leaves those of other addresses without a place to wait in.
#[tokio::test]
async fn requests_that_wait_are_so_many_for_each_address() {
    use stun_types::message::MessageWriteExt as _;
    use turn_types::{attribute::RequestedTransport, message::ALLOCATE};
    const WAITING_OF_ADDRESS_MAX: usize = 64;
    let server = TestServer::with(|config| {
        serving(config);
        config.limits.address_failures_max = 1;
        config.timeouts.failure_delay_ms = 1000;
    });
    let mut wrong = credential(&server, PeerId::random());
    wrong.password = "guessed".into();
    let guesses = async |address: [u8; 4], times: usize| {
        let mut guesser = TurnClient::connect_from(address.into(), first(&server), By::Udp).await;
        for _ in 0..times {
            guesser.use_credential(wrong.clone());
            assert_eq!(guesser.allocate().await, Err(401));
        }
        guesser
    };
    let mut guesser = guesses([127, 0, 0, 1], 6).await;
    let refused = || count(&server, r#"switchboard_turn_refusals_total{cause="address-quota"}"#);
    // A request that is not waited for is under way all the same.
    let ask = async |guesser: &mut TurnClient, times: usize| {
        for _ in 0..times {
            let asked = guesser.ask_once(ALLOCATE, |request| {
                request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
            });
            assert!(tokio::time::timeout(Duration::ZERO, asked).await.is_err(), "it waits");
        }
        guesser.mapped().await;
    };
    ask(&mut guesser, WAITING_OF_ADDRESS_MAX).await;
    assert_eq!(refused(), 0.0);
    ask(&mut guesser, 10).await;
    assert_eq!(refused(), 10.0);
    let waited = || count(&server, r#"switchboard_turn_refusals_total{cause="failures"}"#);
    let before = waited();
    guesses([127, 0, 0, 2], 3).await;
    assert!(waited() > before, "somebody of another address has waited");
    assert_eq!(refused(), 10.0, "and had a place");
}

/// The same for connections: whoever opens them and asks for nothing takes one address's part.
#[tokio::test]
async fn streams_without_an_allocation_are_so_many_for_each_address() {
    const STREAMS_OF_ADDRESS_MAX: usize = 256;
    let server = TestServer::with(serving);
    let connect = async |address: [u8; 4]| TurnClient::connect_from(address.into(), first(&server), By::Tcp).await;
    let (here, elsewhere) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let refused = || count(&server, r#"switchboard_turn_refusals_total{cause="address-quota"}"#);
    let mut streams = Vec::new();
    for _ in 0..STREAMS_OF_ADDRESS_MAX {
        let mut stream = connect(here).await;
        stream.mapped().await;
        streams.push(stream);
    }
    assert_eq!(refused(), 0.0);
    assert_eq!(within("the end of a connection", connect(here).await.heard()).await, None, "one too many");
    assert_eq!(refused(), 1.0);
    connect(elsewhere).await.mapped().await;

    let known = &mut streams[0];
    known.use_credential(credential(&server, PeerId::random()));
    known.allocate().await.unwrap();
    // When this is answered, it has given its place back.
    known.mapped().await;
    let mut next = connect(here).await;
    next.mapped().await;
    assert_eq!(within("the end of a connection", connect(here).await.heard()).await, None, "there was one place");
    known.refresh(0).await.unwrap();
    assert_eq!(within("the end of a connection", known.heard()).await, None, "its place is another's now");
    assert_eq!(refused(), 3.0);
    drop(streams);
    eventually("the places are free", async || {
        let mut stream = connect(here).await;
        stream.say(&BINDING_REQUEST).await;
        within("an answer or the end", stream.heard()).await.is_some()
    })
    .await;
}

/// The shortest message that is answered.
const BINDING_REQUEST: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// After a restart of the server every client of an office goes on with credentials of a session that nobody knows, and nobody guesses those.
#[tokio::test]
async fn names_without_a_session_make_nobody_of_their_address_wait() {
    let server = TestServer::with(|config| {
        serving(config);
        config.limits.address_failures_max = 2;
        config.turn.grace_ms = 0;
    });
    let (ended, over) = (PeerId::random(), PeerId::random());
    let credentials = server.turn_credentials().unwrap();
    let of_ended = credential(&server, ended);
    credentials.session_ended(&ended);
    let unknown =
        TurnCredential { username: of_ended.username.replace(&ended.to_string(), &PeerId::random().to_string()), ..of_ended.clone() };
    let of_over = credentials.issue(over, std::time::SystemTime::now() - Duration::from_secs(1));
    for credential in [unknown, of_ended, of_over] {
        for _ in 0..5 {
            let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
            client.use_credential(credential.clone());
            assert_eq!(client.allocate().await, Err(401));
        }
    }
    client(&server, PeerId::random()).await.allocate().await.unwrap();
    assert_eq!(count(&server, r#"switchboard_turn_refusals_total{cause="credentials"}"#), 15.0);
    assert_eq!(count(&server, r#"switchboard_turn_refusals_total{cause="failures"}"#), 0.0);
}

#[tokio::test]
async fn what_has_shown_no_credentials_costs_no_memory_and_is_not_amplified() {
    use stun_types::{
        attribute::{Fingerprint, XorMappedAddress},
        message::{BINDING, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method},
        prelude::AttributeStaticType as _,
    };
    use turn_types::{attribute::RequestedTransport, message::ALLOCATE};
    // A process of its own, whose memory is not that of other tests.
    let server = ServerProcess::with(&[("SWITCHBOARD_TURN_ENABLED", "true"), ("SWITCHBOARD_TURN_LISTEN", "127.0.0.1:0")]);
    let (address, credential) = lent(&server).await;
    let mut client = TurnClient::connect(address, By::Udp, None).await;
    client.use_credential(credential);
    let relayed = client.allocate().await.unwrap();
    let mut stranger = TurnClient::connect(address, By::Udp, None).await;
    let mut allocate = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    allocate.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
    let allocate = allocate.finish();
    let mut before = 0;
    for round in 0..100_000 {
        if round == 10_000 {
            before = server.resident_bytes();
        }
        stranger.say(&allocate).await;
        let answer = within("an answer", stranger.heard()).await.unwrap();
        assert!(2 * answer.len() <= 5 * allocate.len());
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    assert_eq!(client.refresh(600).await, Ok(600), "a client is undisturbed");
    assert!(relayed.port() >= 49152);
    for method in (0..16).map(Method::new) {
        let bare = Message::builder_request(method, MessageWriteVec::new()).finish();
        stranger.say(&bare).await;
        stranger.say(&Message::builder_request(BINDING, MessageWriteVec::new()).finish()).await;
        // Up to the answer of the second, which there is, and is 32 bytes long.
        let mut length = 0;
        loop {
            let answer = within("an answer", stranger.heard()).await.unwrap();
            let message = Message::from_bytes(&answer).unwrap();
            assert!(!message.has_attribute(stun_types::attribute::Software::TYPE) && !message.has_attribute(Fingerprint::TYPE));
            length += answer.len();
            if message.has_attribute(XorMappedAddress::TYPE) && (method != BINDING || length > answer.len()) {
                break;
            }
        }
        assert!(2 * (length - 32) <= 5 * bare.len(), "{method}: {length}");
    }
}

/// As fast as they are answered, from the address from which a call comes too, whose every packet arrives meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute of both cores; tests/run runs it"]
async fn a_million_requests_of_strangers_cost_no_memory_and_no_packet_of_a_client() {
    const STRANGERS: usize = 4;
    const ROUNDS: usize = 1_000_000 / STRANGERS / flood::BATCH;
    let settings =
        [("SWITCHBOARD_TURN_ENABLED", "true"), ("SWITCHBOARD_TURN_LISTEN", "127.0.0.1:0"), ("SWITCHBOARD_TURN_ALLOW", "127.0.0.1")];
    let server = ServerProcess::with(&settings);
    let (address, credential) = lent(&server).await;
    let mut client = TurnClient::connect(address, By::Udp, None).await;
    client.use_credential(credential.clone());
    client.allocate().await.unwrap();
    let (socket, peer) = peer("127.0.0.1:0").await;
    client.bind(0x4000, peer).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let call = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        let mut packets = 0_u64;
        while !*stopped.borrow() {
            pace.tick().await;
            let packet = packets.to_be_bytes().to_vec();
            client.send_by(0x4000, &packet).await;
            let (bytes, relayed) = receive(&socket).await;
            assert_eq!(bytes, packet, "the next packet, and no other");
            socket.send_to(&packet, relayed).await.unwrap();
            assert_eq!(client.hear().await, Heard::Channel(0x4000, packet));
            packets += 1;
        }
        assert_eq!(client.refresh(600).await, Ok(600));
        packets
    });
    let flood = async |rounds: usize| {
        let strangers = (0..STRANGERS).map(|_| tokio::spawn(flood::from_one_stranger(address, credential.username.clone(), rounds)));
        for stranger in strangers.collect::<Vec<_>>() {
            stranger.await.expect("it is answered");
        }
    };
    flood(ROUNDS / 20).await;
    let before = server.resident_bytes();
    flood(ROUNDS - ROUNDS / 20).await;
    let grown = server.resident_bytes().saturating_sub(before);
    stop.send_replace(true);
    let packets = within("the end of the call", call).await.expect("every packet arrives");
    println!("{grown} bytes more, {packets} packets of the call there and back");
    assert!(grown < 10 << 20, "{grown} bytes more");
    assert!(packets > 1000, "the call went on: {packets}");
}

/// What strangers ask a server for, over and over.
mod flood {
    use std::net::SocketAddr;

    use stun_types::{
        attribute::{Nonce, Realm, Username},
        message::{
            BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
        },
    };
    use turn_types::{attribute::RequestedTransport, message::ALLOCATE};

    use super::{By, TurnClient, within};

    /// So many are under way at once.
    pub const BATCH: usize = 50;

    /// For an allocation without credentials, with a nonce of nobody's, and with a guessed password and a good nonce, and for nothing but the address.
    pub async fn from_one_stranger(server: SocketAddr, username: String, rounds: usize) {
        let mut stranger = TurnClient::connect(server, By::Udp, None).await;
        let bare = request(ALLOCATE, |_| {});
        stranger.say(&bare).await;
        let challenge = within("a challenge", stranger.heard()).await.unwrap();
        let challenge = Message::from_bytes(&challenge).unwrap();
        let (realm, nonce) = (challenge.attribute::<Realm>().unwrap(), challenge.attribute::<Nonce>().unwrap());
        let signed = |username: &str, nonce: &str| {
            let key =
                LongTermKeyCredentials::new(username.into(), "guessed".into(), realm.realm().into()).make_key(IntegrityAlgorithm::Sha1);
            request(ALLOCATE, |request| {
                request.add_attribute(&Username::new(username).unwrap()).unwrap();
                request.add_attribute(&realm).unwrap();
                request.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
                request.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
            })
        };
        let requests = [bare, signed("nobody", "nobody's"), signed(&username, nonce.nonce()), request(BINDING, |_| {})];
        for round in 0..rounds {
            for _ in 1..BATCH {
                stranger.say(&requests[round % requests.len()]).await;
            }
            // When this is answered, the others have been dealt with: some that bring good nonces wait, and most of those are not answered at all.
            let last = request(BINDING, |_| {});
            stranger.say(&last).await;
            let answered = async { while stranger.heard().await.unwrap()[4..20] != last[4..20] {} };
            within("an answer", answered).await;
        }
    }

    fn request(method: Method, with: impl Fn(&mut MessageWriteVec)) -> Vec<u8> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        if method == ALLOCATE {
            request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        }
        with(&mut request);
        request.finish()
    }
}

#[tokio::test]
async fn whatever_is_sent_the_server_goes_on() {
    let server = TestServer::with(serving);
    let mut random = support::Random::new(support::seed());
    let mut stranger = TurnClient::connect(first(&server), By::Udp, None).await;
    let mut known = client(&server, PeerId::random()).await;
    known.allocate().await.unwrap();
    for _ in 0..5000 {
        let mut bytes: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
        if bytes.len() >= 20 && random.below(2) == 0 {
            let claimed = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&claimed.to_be_bytes());
            bytes[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
            bytes[0] = 0;
            bytes[1] = random.below(10) as u8;
        }
        let by = if random.below(2) == 0 { &mut stranger } else { &mut known };
        by.say(&bytes).await;
    }
    assert_eq!(known.refresh(600).await, Ok(600));
    let mut stream = TurnClient::connect(first(&server), By::Tcp, None).await;
    stream.say(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(within("the end of a connection", stream.heard()).await, None, "who speaks something else is left");
}

/// Twenty clients that others wrote, with a thousand messages each, which a peer sends back.
#[tokio::test]
#[ignore = "needs turnutils_uclient of Debian's coturn; tests/run runs it"]
async fn coturns_client_loses_nothing() {
    let authority = Authority::new();
    let server = TestServer::with(|config| {
        relaying_by_tls_too(config, &authority);
        // Some it opens twice and leaves the first one alone.
        config.turn.allocations_per_session_max = 60;
        config.turn.grace_ms = 0;
    });
    let (socket, peer) = peer("127.0.0.1:0").await;
    // All that is under way, where the machine has something else to do.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    let echo = tokio::spawn(async move {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            drop(socket.send_to(&bytes[..length], from).await);
        }
    });
    let (clear, tls) = (server.turn_addresses().clear[0].port(), server.turn_addresses().tls[0].port());
    for (way, port, sends) in [(&[][..], clear, &[][..]), (&["-t"], clear, &[]), (&["-t", "-S"], tls, &[]), (&[], clear, &["-s"])] {
        let session = PeerId::random();
        let credential = credential(&server, session);
        let mut command = std::process::Command::new("timeout");
        command.args(["120", "turnutils_uclient"]);
        command.args(way).args(sends).args(["-c", "-m", "20", "-n", "1000", "-l", "160"]);
        command.args(["-u", &credential.username, "-w", &credential.password, "-p", &port.to_string()]);
        command.args(["-e", "127.0.0.1", "-r", &peer.port().to_string(), "127.0.0.1"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{way:?} {sends:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("tot_send_msgs=20000, tot_recv_msgs=20000"), "{way:?} {sends:?}: {said}{}", server.metrics());
        // The next run may come from a port that this one has left.
        server.turn_credentials().unwrap().session_ended(&session);
        let allocations = || {
            read(&server.metrics())
                .iter()
                .filter(|(name, _)| name.starts_with("switchboard_turn_allocations{"))
                .map(|(_, now)| now)
                .sum::<f64>()
        };
        eventually("no allocations", async || allocations() == 0.0).await;
    }
    echo.abort();
}

/// A request that waits, for wrong credentials came from where it comes from, makes no allocation when the server has ended.
#[tokio::test]
async fn requests_that_wait_end_with_the_server() {
    let mut server = TestServer::with(|config| {
        serving(config);
        config.limits.address_failures_max = 1;
        config.timeouts.failure_delay_ms = 5_000;
    });
    let address = first(&server);
    let good = credential(&server, PeerId::random());
    let wrong = TurnCredential { password: "guessed".into(), ..good.clone() };
    let failures = || count(&server, r#"switchboard_turn_refusals_total{cause="failures"}"#);
    let mut guessing = tokio::task::JoinSet::new();
    while failures() < 8.0 {
        let wrong = wrong.clone();
        guessing.spawn(async move {
            let mut client = TurnClient::connect(address, By::Udp, None).await;
            client.use_credential(wrong);
            client.allocate().await
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop();
    server.wait().await;
    UdpSocket::bind(address).await.expect("nobody has the socket any more");
}

#[tokio::test]
async fn it_ends_with_the_server() {
    let mut server = TestServer::with(serving);
    let address = first(&server);
    let mut stream = TurnClient::connect(address, By::Tcp, None).await;
    stream.use_credential(credential(&server, PeerId::random()));
    let relayed = stream.allocate().await.unwrap();
    server.stop();
    server.wait().await;
    assert_eq!(within("the end of a connection", stream.heard()).await, None);
    UdpSocket::bind(relayed).await.expect("the relay is gone");
    UdpSocket::bind(address).await.expect("the server is gone");
}
