//! Who takes for ever: many connections that say a byte now and then, at every stage before the first message. Each is given up in its time, and
//! others are served meanwhile. And handshakes that nobody ends: past the bound the oldest gives way, and before it newcomers prove their
//! address where they can.

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use support::{
    TestServer,
    authority::Authority,
    bystanders::Bystanders,
    connect, connect_to, doors, eventually,
    raw::{self, RawWebSocket, RawWebTransport, first},
    within,
};
use switchboard::{
    client::{Connector, Door, Options},
    config::{Config, Rates, Timeouts},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

/// Connections that are slow at the same time.
const SLOW: usize = 100;
/// Between two bytes of one of them: far more often than a server would have to hear of it.
const BETWEEN_BYTES: Duration = Duration::from_millis(100);

/// A server that gives up soon, for clients that talk as fast as they can.
fn impatient() -> TestServer {
    TestServer::with(|config| {
        config.rates = Rates::Off;
        config.timeouts.hello_ms = 1500;
        config.timeouts.stream_ms = 1500;
        config.timeouts.close_ms = 200;
    })
}

/// Sends these bytes one by one, and then the last of them for ever.
async fn drip(bytes: &[u8], mut send: impl AsyncFnMut(u8) -> bool) {
    let mut beat = tokio::time::interval(BETWEEN_BYTES);
    for byte in bytes.iter().chain(std::iter::repeat(bytes.last().expect("there is one"))) {
        beat.tick().await;
        if !send(*byte).await {
            // Whoever reads learns of the end.
            return std::future::pending().await;
        }
    }
}

/// Drips into a socket until the server ends it.
async fn drip_into(tcp: TcpStream, bytes: &[u8]) {
    let (mut read, mut write) = tcp.into_split();
    let mut heard = Vec::new();
    tokio::select! {
        // A reset is an end as well.
        _ = read.read_to_end(&mut heard) => {}
        () = drip(bytes, async |byte| write.write_all(&[byte]).await.is_ok()) => unreachable!("it never ends by itself"),
    }
}

/// Runs many slow connections beside two clients that talk, and waits until the server has given up all of them.
async fn all_given_up(server: &TestServer, slow: impl AsyncFn()) {
    let bystanders = Bystanders::start(&doors(server.base()).await, "bystanders").await;
    let since = Instant::now();
    let lives = join_all((0..SLOW).map(async |_| {
        slow().await;
        since.elapsed()
    }));
    let lives = within("the end of all slow connections", lives).await;
    // However busy the machine: by the default, not one would be gone.
    assert!(lives.into_iter().min() < Some(Timeouts::default().hello()));
    bystanders.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_request_is_given_up() {
    let server = impatient();
    let address = server.addresses()[0];
    all_given_up(&server, async || {
        drip_into(TcpStream::connect(address).await.unwrap(), b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_websocket_handshake_is_given_up() {
    let server = impatient();
    let address = server.addresses()[0];
    all_given_up(&server, async || {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(raw::handshake("switchboard.json").trim_end().as_bytes()).await.unwrap();
        drip_into(tcp, b"\r\nx-slow: a").await;
    })
    .await;
}

/// Gives a server a certificate that this authority signs.
fn encrypted(config: &mut Config, authority: &Authority, directory: &Path) {
    authority.sign(directory);
    (config.tls_cert, config.tls_key) = (Some(directory.join("chain.pem")), Some(directory.join("key.pem")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_tls_handshake_is_given_up() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestServer::with(|config| {
        encrypted(config, &authority, directory.path());
        config.timeouts.hello_ms = 1500;
    });
    let address = server.addresses()[0];
    // A TLS record of a ClientHello that announces 512 bytes.
    let slow = async || {
        drip_into(TcpStream::connect(address).await.unwrap(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00").await;
    };
    let options = Options { roots: vec![authority.root.clone()], ..Options::default() };
    let connector = within("the doors", Connector::new(server.base(), options)).await.unwrap();
    let served = async {
        for door in Door::ALL {
            connect_to(&connector, door, "r").await;
        }
    };
    within("the end of all slow connections", async { tokio::join!(join_all((0..SLOW).map(|_| slow())), served) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_first_frame_is_given_up() {
    let server = impatient();
    let address = server.addresses()[0];
    all_given_up(&server, async || {
        let socket = RawWebSocket::open(address, "switchboard.json").await.unwrap();
        drip_into(socket.tcp, &raw::frame(first::FINISHED | first::TEXT, &[b' '; 1000])).await;
    })
    .await;
    let webtransport = RawWebTransport::new(server.base()).await;
    all_given_up(&server, async || {
        let (connection, mut send, _receive) = webtransport.open().await.unwrap();
        tokio::select! {
            _ = connection.closed() => {}
            () = drip(b"\0\0\x04\0\x80", async |byte| send.write_all(&[byte]).await.is_ok()) => unreachable!("it never ends by itself"),
        }
    })
    .await;
}

/// A QUIC client that never asks for a WebTransport session.
async fn mute(server: &TestServer, webtransport: &RawWebTransport) -> (quinn::Endpoint, quinn::Connection) {
    let mut endpoint = quinn::Endpoint::client(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(webtransport.quic_config());
    let connection = within("a connection", endpoint.connect(server.addresses()[0], "localhost").unwrap()).await.unwrap();
    (endpoint, connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quic_handshake_that_asks_for_nothing_is_given_up() {
    let server = impatient();
    let webtransport = RawWebTransport::new(server.base()).await;
    all_given_up(&server, async || {
        let (_endpoint, connection) = mute(&server, &webtransport).await;
        connection.closed().await;
    })
    .await;
}

/// The most handshakes that may be under way.
const HANDSHAKES_MAX: usize = 4;

/// A server whose handshakes never end by themselves.
fn patient() -> TestServer {
    TestServer::with(|config| {
        config.limits.handshakes_max = HANDSHAKES_MAX;
        config.timeouts.hello_ms = 600_000;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_one_quic_handshake_too_many_the_oldest_gives_way() {
    let server = patient();
    let webtransport = RawWebTransport::new(server.base()).await;
    let mut mutes = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        mutes.push(mute(&server, &webtransport).await);
    }
    assert!(mutes.iter().all(|(_, connection)| connection.close_reason().is_none()), "so many there may be");
    connect(&server, Door::WebTransport).await;
    within("the end of the oldest", mutes[0].1.closed()).await;
    assert!(mutes[1..].iter().all(|(_, connection)| connection.close_reason().is_none()), "one was enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_one_tls_handshake_too_many_the_oldest_gives_way() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestServer::with(|config| {
        encrypted(config, &authority, directory.path());
        config.limits.handshakes_max = HANDSHAKES_MAX;
        config.timeouts.hello_ms = 600_000;
    });
    let mut mutes = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        mutes.push(TcpStream::connect(server.addresses()[0]).await.unwrap());
    }
    let options = Options { roots: vec![authority.root.clone()], ..Options::default() };
    let connector = within("the doors", Connector::new(server.base(), options)).await.unwrap();
    connect_to(&connector, Door::ALL[0], "r").await;
    // Which of them is the oldest the workers decide. The connector and the client made at most three handshakes.
    let closed = |mutes: &[TcpStream]| mutes.iter().filter(|mute| matches!(mute.try_read(&mut [0]), Ok(0))).count();
    eventually("the end of the oldest", async || closed(&mutes) > 0).await;
    assert!(closed(&mutes) < HANDSHAKES_MAX, "one for each was enough");
}

/// Passes datagrams on between one client and the server, and counts what looks like a Retry packet: RFC 9000 §17.2.5.
async fn count_retries(server: SocketAddr, retries: Arc<AtomicUsize>) -> SocketAddr {
    let [inside, outside] = [
        UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
        UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
    ];
    inside.connect(server).await.unwrap();
    let address = outside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((length, from)) = outside.recv_from(&mut from_client) => {
                    client = Some(from);
                    // What is lost on the way is sent again.
                    let _ = inside.send(&from_client[..length]).await;
                }
                Ok(length) = inside.recv(&mut from_server) => {
                    const LONG_HEADER_AND_RETRY: u8 = 0xf0;
                    if from_server[0] & LONG_HEADER_AND_RETRY == LONG_HEADER_AND_RETRY {
                        retries.fetch_add(1, Ordering::SeqCst);
                    }
                    if let Some(client) = client {
                        let _ = outside.send_to(&from_server[..length], client).await;
                    }
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_flood_of_handshakes_a_newcomer_proves_its_address_first() {
    let server = patient();
    let webtransport = RawWebTransport::new(server.base()).await;
    let retries = Arc::new(AtomicUsize::new(0));
    let way = count_retries(server.addresses()[0], retries.clone()).await;
    let mut endpoint = quinn::Endpoint::client(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(webtransport.quic_config());
    let mut mutes = Vec::new();
    for under_way in 0..HANDSHAKES_MAX {
        mutes.push(within("a connection", endpoint.connect(way, "localhost").unwrap()).await.unwrap());
        let asked = (under_way + 1).saturating_sub(HANDSHAKES_MAX / 2);
        assert_eq!(retries.load(Ordering::SeqCst), asked, "with {under_way} under way");
    }
}
