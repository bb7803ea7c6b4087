//! The embedded STUN and TURN server: it relays for sessions that are alive, over every transport, to nobody but the public internet, and no more than it may.

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use support::{
    RawClient, TestServer,
    authority::Authority,
    eventually,
    metrics::read,
    turn::{By, Heard, TurnClient, credential},
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
    let server = TestServer::with(|config| {
        relaying(config);
        let directory = config.cert_dir.clone();
        authority.sign(&directory);
        (config.tls_cert, config.tls_key) = (Some(directory.join("chain.pem")), Some(directory.join("key.pem")));
        config.turn.tls_listen = Some("127.0.0.1:0".parse().unwrap());
    });
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
    let server = TestServer::with(serving);
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
        // What was sent before this is answered has been dealt with.
        client.mapped().await;
    }
    for (socket, address) in &listeners {
        assert_eq!(arrived(socket).await, 0, "something reached {address}");
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
    client.use_credential(credentials.issue(peer_id, std::time::SystemTime::now() + Duration::from_millis(2500)));
    client.allocate().await.unwrap();
    eventually("the credential is over", async || {
        let mut other = TurnClient::connect(first(&server), By::Udp, None).await;
        let username = credentials.issue(peer_id, std::time::SystemTime::now() - Duration::from_secs(1));
        other.use_credential(username);
        other.allocate().await == Err(401)
    })
    .await;
    assert_eq!(client.refresh(600).await, Ok(600));
}

/// What `/ice` answers somebody who has no session.
async fn asked(server: &TestServer) -> reqwest::Response {
    within("an answer", support::http().get(format!("{}/ice", server.base())).send()).await.expect("an answer")
}

/// For how many seconds the credential in an answer is good, and what it is.
async fn lent(answer: reqwest::Response) -> (u64, TurnCredential) {
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
    let (_, credential) = lent(asked(&server).await).await;
    let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
    client.use_credential(credential);
    let relayed = client.allocate().await.unwrap();
    assert_eq!(client.refresh(3600).await, Ok(3600));
    eventually("the port is free", async || UdpSocket::bind(relayed).await.is_ok()).await;
    assert_eq!(client.refresh(600).await, Err(401));
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
        let (ttl, credential) = lent(asked(&server).await).await;
        let expiry: u64 = credential.username.split_once(':').unwrap().0.parse().unwrap();
        assert!((3590..=3600).contains(&ttl) && (before + 3600..=now() + 3600).contains(&expiry), "{ttl} {expiry}");
        let mut client = TurnClient::connect(first(&server), By::Udp, None).await;
        client.use_credential(credential);
        client.allocate().await.unwrap();
    }
    let refused = asked(&server).await;
    assert_eq!(refused.status(), 429);
    let retry_after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3580..=3600).contains(&retry_after), "{retry_after}");
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

#[tokio::test]
async fn what_has_shown_no_credentials_costs_no_memory_and_is_not_amplified() {
    use stun_types::{
        attribute::{Fingerprint, XorMappedAddress},
        message::{BINDING, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method},
        prelude::AttributeStaticType as _,
    };
    use turn_types::{attribute::RequestedTransport, message::ALLOCATE};
    let server = TestServer::with(serving);
    let mut client = client(&server, PeerId::random()).await;
    let relayed = client.allocate().await.unwrap();
    let mut stranger = TurnClient::connect(first(&server), By::Udp, None).await;
    let mut allocate = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    allocate.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
    let allocate = allocate.finish();
    let resident = || {
        let pages: usize = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let mut before = 0;
    for round in 0..100_000 {
        if round == 10_000 {
            before = resident();
        }
        stranger.say(&allocate).await;
        let answer = within("an answer", stranger.heard()).await.unwrap();
        assert!(2 * answer.len() <= 5 * allocate.len());
    }
    let grown = resident().saturating_sub(before);
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
        relaying(config);
        let directory = config.cert_dir.clone();
        authority.sign(&directory);
        (config.tls_cert, config.tls_key) = (Some(directory.join("chain.pem")), Some(directory.join("key.pem")));
        config.turn.tls_listen = Some("127.0.0.1:0".parse().unwrap());
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
