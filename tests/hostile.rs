//! No bytes at any door make the server end, grow, or stop to serve others: what breaks a rule is answered as the rule says, and noise of every
//! kind is sent for `SECONDS_OF_NOISE` (60) while two honest clients hear all that they say to each other.

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    Random, TestServer,
    bystanders::Bystanders,
    connect, connect_to, doors, hear, own_id,
    process::ServerProcess,
    raw::{self, RawWebSocket, RawWebTransport, first},
    seed, unanswered, within,
};
use switchboard::{
    client::Door,
    protocol::{ClientMessage, Codec, PeerId, Request, ServerMessage, framing::Frame},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

/// RFC 6455 §7.4.1.
const PROTOCOL_ERROR: Option<u16> = Some(1002);
const INVALID_DATA: Option<u16> = Some(1007);

#[tokio::test]
async fn a_frame_that_breaks_rfc_6455_ends_its_connection_with_the_code_of_the_rfc() {
    let server = TestServer::start();
    let finished = |kind: u8, payload: &[u8]| raw::frame(first::FINISHED | kind, payload);
    let begun = raw::frame(first::TEXT, b"{");
    let unmasked = |kind: u8| vec![first::FINISHED | kind, 0];
    for (what, bytes, code) in [
        ("a reserved bit", raw::frame(0xc0 | first::TEXT, b"{}"), PROTOCOL_ERROR),
        ("another reserved bit", raw::frame(0x90 | first::BINARY, b"{}"), PROTOCOL_ERROR),
        ("a reserved bit of a ping", raw::frame(0xa0 | first::PING, b""), PROTOCOL_ERROR),
        ("text without a mask", unmasked(first::TEXT), PROTOCOL_ERROR),
        ("a ping without a mask", unmasked(first::PING), PROTOCOL_ERROR),
        ("an opcode for data that is none", finished(0x03, b""), PROTOCOL_ERROR),
        ("an opcode for control that is none", finished(0x0b, b""), PROTOCOL_ERROR),
        ("a long ping", finished(first::PING, &[0; 126]), PROTOCOL_ERROR),
        ("a long close", finished(first::CLOSE, &[3; 126]), PROTOCOL_ERROR),
        ("a ping in fragments", raw::frame(first::PING, b""), PROTOCOL_ERROR),
        ("a continuation of nothing", raw::frame(first::CONTINUATION, b"x"), PROTOCOL_ERROR),
        ("an end of nothing", finished(first::CONTINUATION, b"x"), PROTOCOL_ERROR),
        ("text between fragments", [begun.clone(), finished(first::TEXT, b"{}")].concat(), PROTOCOL_ERROR),
        ("a second beginning", [begun.clone(), raw::frame(first::BINARY, b"x")].concat(), PROTOCOL_ERROR),
        ("text that is no UTF-8", finished(first::TEXT, b"\"\xff\""), INVALID_DATA),
        ("text that is cut within a character", finished(first::TEXT, b"\xc3"), INVALID_DATA),
        ("fragments that are no UTF-8", [begun, finished(first::CONTINUATION, b"\xff")].concat(), INVALID_DATA),
        ("a close with half a code", finished(first::CLOSE, &[3]), PROTOCOL_ERROR),
        ("a close with a code that nobody sends", finished(first::CLOSE, &1005_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("a close with a code that is none", finished(first::CLOSE, &[0, 0]), PROTOCOL_ERROR),
        ("a close with a reason that is no UTF-8", finished(first::CLOSE, b"\x03\xe8\xff"), INVALID_DATA),
        ("a length that is spelled too long", vec![first::FINISHED | first::TEXT, 0xfe, 0, 2], PROTOCOL_ERROR),
        ("a fragment that can be no UTF-8, with no end", raw::frame(first::TEXT, b"\"\xff"), INVALID_DATA),
        ("half a frame that can be no UTF-8", raw::frame(first::FINISHED | first::TEXT, b"\"\xff\"")[..8].to_vec(), INVALID_DATA),
        ("a close of ones own accord", finished(first::CLOSE, &3000_u16.to_be_bytes()), Some(3000)),
        ("a close without a code", finished(first::CLOSE, b""), Some(1000)),
    ] {
        // As the first that comes, and in the middle of a session.
        for greeting in [Vec::new(), finished(first::TEXT, b"{\"type\":\"hello\"}")] {
            let mut socket = RawWebSocket::open(server.addresses()[0], "switchboard.json").await.unwrap();
            socket.tcp.write_all(&[&*greeting, &bytes].concat()).await.unwrap();
            assert_eq!(socket.close_code().await, code, "{what}");
        }
    }
}

#[tokio::test]
async fn other_streams_are_reset_and_the_session_goes_on() {
    let server = TestServer::start();
    let (connection, mut send, mut receive) = RawWebTransport::new(server.base()).await.open().await.unwrap();
    let ping = rmp_serde::to_vec(&json!({"type": "ping", "id": 1})).unwrap();
    for _ in 0..100 {
        let Ok(opening) = connection.open_bi().await else { panic!("the session ended") };
        // The server may be quicker than the stream's first bytes.
        if let Ok((mut stray, mut answer)) = opening.await {
            let _ = stray.write_all(b"hello?").await;
            let answer = within("a reset", answer.quic_stream_mut().read_to_end(16)).await;
            assert!(answer.is_err() || answer.is_ok_and(|bytes| bytes.is_empty()));
        }
        if let Ok(mut stray) = connection.open_uni().await.unwrap().await {
            let _ = stray.write_all(b"hello?").await;
            within("a stop", stray.stopped()).await;
        }
    }
    send.write_all(&[&(ping.len() as u32).to_be_bytes(), &*ping].concat()).await.unwrap();
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("pong") {
        let chunk = within("an answer", receive.quic_stream_mut().read_chunk(1024, true)).await.unwrap();
        answers.extend_from_slice(&chunk.expect("the session goes on").bytes);
    }
}

/// What is no message is refused, one answer for each, and the session goes on.
#[tokio::test]
async fn what_is_no_message_is_refused_and_the_session_goes_on() {
    let server = TestServer::without_rates();
    let mut random = Random::new(seed());
    for door in Door::ALL {
        let mut client = connect(&server, door).await;
        let mut sent = 0;
        for _ in 0..500 {
            let mut bytes = mutated(&mut random, valid(&mut random_message(own_id(&client)), door.codec(), 0));
            bytes.truncate(16 * 1024);
            let frame = match door.codec() {
                // What is not UTF-8 breaks RFC 6455, which is another test.
                Codec::Json => Frame::Text(String::from_utf8_lossy(&bytes).into_owned().into()),
                Codec::MsgPack => Frame::Binary(bytes.into()),
            };
            client.send_frame(frame).await.unwrap();
            sent += 1;
        }
        client.request(ClientMessage::Ping { received: None }).await.unwrap();
        loop {
            match within("an answer", client.receive()).await.unwrap() {
                // `hello`, the garbage, and the ping.
                ServerMessage::Pong { received } if received == sent + 2 => break,
                ServerMessage::Goodbye { code, .. } => panic!("{code}"),
                _ => {}
            }
        }
    }
}

fn random_message(to: PeerId) -> Vec<Value> {
    let (to, deep) = (to.to_string(), json!({"a": [[[{"b": [1.5, -1, null, true, "\u{1f600}"]}]]]}));
    vec![
        json!({"type": "join", "id": 1, "room": "noise", "metadata": deep}),
        json!({"type": "message", "id": 9_007_199_254_740_991_u64, "payload": deep}),
        json!({"type": "offer", "to": to, "room": "noise", "payload": {"sdp": "v=0\r\n".repeat(50)}}),
        json!({"type": "ice-candidate", "to": to, "payload": null}),
        json!({"type": "metadata", "id": 2, "room": "noise", "metadata": "x".repeat(300)}),
        json!({"type": "leave", "room": "noise"}),
        json!({"type": "ping", "id": 3, "received": 5}),
        json!({"type": "hello"}),
    ]
}

fn valid(messages: &mut Vec<Value>, codec: Codec, which: usize) -> Vec<u8> {
    let message = messages.swap_remove(which);
    match codec {
        Codec::Json => message.to_string().into_bytes(),
        Codec::MsgPack => rmp_serde::to_vec(&message).unwrap(),
    }
}

/// A message in one codec, whole or damaged.
fn message(random: &mut Random, codec: Codec) -> Vec<u8> {
    let mut messages = random_message(PeerId::random());
    let which = random.below(messages.len() as u64) as usize;
    let bytes = valid(&mut messages, codec, which);
    if random.below(4) == 0 { bytes } else { mutated(random, bytes) }
}

fn noise(random: &mut Random, bytes_max: u64) -> Vec<u8> {
    (0..random.below(bytes_max)).map(|_| random.next() as u8).collect()
}

/// Flips, cuts, doubles, inserts, nests, and lies about lengths.
fn mutated(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let part = bytes[at..].to_vec();
                bytes.splice(at..at, part);
            }
            3 => drop(bytes.splice(at..at, noise(random, 40))),
            4 => {
                let nested = [b'[', b'{', 0x91, 0x81, b'"', 0xdf][random.below(6) as usize];
                drop(bytes.splice(at..at, vec![nested; 1 + random.below(5000) as usize]));
            }
            5 => {
                let marker = [0xc6, 0xc9, 0xdb, 0xdd, 0xdf, 0xd9, 0xff][random.below(7) as usize];
                drop(bytes.splice(at..at, [marker, 0xff, 0xff, 0xff, 0xff]));
            }
            _ if at < bytes.len() => bytes[at] = [0, 0xff, 0x7f, 0x80, 0xc1, b'\\', b'"'][random.below(7) as usize],
            _ => {}
        }
    }
    bytes
}

/// The server, and what is needed to make noise at it.
struct Target {
    address: SocketAddr,
    webtransport: RawWebTransport,
    quic: quinn::Endpoint,
}

impl Target {
    async fn new(server: &ServerProcess) -> Self {
        let webtransport = RawWebTransport::new(server.url()).await;
        let mut quic = quinn::Endpoint::client(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        quic.set_default_client_config(webtransport.quic_config());
        Self { address: server.authority().parse().unwrap(), webtransport, quic }
    }

    /// One piece of noise. Whatever the server makes of it is fine, so nothing here is looked at.
    async fn noise(&self, random: &mut Random) {
        match random.below(8) {
            0 => drop(self.before_a_handshake(random).await),
            1 => drop(self.in_websocket_frames(random).await),
            2 => drop(self.instead_of_websocket_frames(random).await),
            3 => drop(self.as_websocket_messages(random).await),
            4 => drop(self.on_the_stream(random).await),
            5 => drop(self.on_other_streams(random).await),
            6 => drop(self.instead_of_http3(random).await),
            _ => drop(self.on_udp(random).await),
        }
    }

    async fn before_a_handshake(&self, random: &mut Random) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(self.address).await?;
        let request = raw::handshake("switchboard.json").into_bytes();
        let bytes = if random.below(3) == 0 { noise(random, 3000) } else { mutated(random, request) };
        socket.write_all(&bytes).await?;
        self.hear_out(random, socket).await
    }

    async fn instead_of_websocket_frames(&self, random: &mut Random) -> std::io::Result<()> {
        let mut socket = RawWebSocket::open(self.address, "switchboard.msgpack").await?;
        for _ in 0..random.below(5) {
            socket.tcp.write_all(&noise(random, 3000)).await?;
        }
        self.hear_out(random, socket.tcp).await
    }

    /// Frames of any kind, whose headers may be wrong in any way.
    async fn in_websocket_frames(&self, random: &mut Random) -> std::io::Result<()> {
        let codec = [Codec::Json, Codec::MsgPack][random.below(2) as usize];
        let mut bytes = Vec::new();
        for _ in 0..random.below(20) {
            let first = [0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, random.next() as u8][random.below(10) as usize];
            let payload = message(random, codec);
            let announced = match random.below(8) {
                0 => random.next() >> random.below(64),
                _ => payload.len() as u64,
            };
            bytes.extend(raw::header(first, announced));
            bytes.extend(payload);
        }
        let mut socket = RawWebSocket::open(self.address, subprotocol(codec)).await?;
        socket.tcp.write_all(&bytes).await?;
        self.hear_out(random, socket.tcp).await
    }

    /// Frames as they should be with messages that may not be.
    async fn as_websocket_messages(&self, random: &mut Random) -> std::io::Result<()> {
        let codec = [Codec::Json, Codec::MsgPack][random.below(2) as usize];
        let mut socket = RawWebSocket::open(self.address, subprotocol(codec)).await?;
        let kind = [first::TEXT, first::BINARY][usize::from((codec == Codec::MsgPack) ^ (random.below(10) == 0))];
        for _ in 0..random.below(100) {
            let message = message(random, codec);
            let text = if codec == Codec::Json { String::from_utf8_lossy(&message).into_owned().into_bytes() } else { message };
            let (begin, end) = text.split_at(random.below(text.len() as u64 + 1) as usize);
            socket.send(kind, begin).await?;
            socket.send(first::FINISHED | first::CONTINUATION, end).await?;
        }
        self.hear_out(random, socket.tcp).await
    }

    /// Closes in one of the ways in which sockets are closed.
    async fn hear_out(&self, random: &mut Random, mut socket: TcpStream) -> std::io::Result<()> {
        match random.below(4) {
            0 => Ok(()),
            1 => socket.set_zero_linger(),
            2 => socket.shutdown().await,
            _ => {
                let _ = timeout(Duration::from_millis(200), socket.read_to_end(&mut Vec::new())).await;
                Ok(())
            }
        }
    }

    async fn on_the_stream(&self, random: &mut Random) -> Option<()> {
        let (connection, mut send, mut receive) = self.webtransport.open().await?;
        for _ in 0..random.below(50) {
            if random.below(8) == 0 {
                // Too large for the path, perhaps, which only this side learns.
                let _ = connection.send_datagram(message(random, Codec::MsgPack));
                let _ = connection.send_datagram(noise(random, 1000));
            }
            let message = message(random, Codec::MsgPack);
            let length = if random.below(10) == 0 { random.next() as u32 } else { message.len() as u32 };
            send.write_all(&[&length.to_be_bytes(), &*message].concat()).await.ok()?;
        }
        match random.below(4) {
            0 => drop(send.reset(0_u8.into())),
            1 => drop(send.quic_stream_mut().finish()),
            2 => receive.stop(0_u8.into()),
            _ => drop(timeout(Duration::from_millis(200), receive.quic_stream_mut().read_to_end(1 << 20)).await),
        }
        Some(())
    }

    async fn on_other_streams(&self, random: &mut Random) -> Option<()> {
        let (connection, _send, _receive) = self.webtransport.open().await?;
        for _ in 0..random.below(50) {
            if random.below(2) == 0 {
                let (mut send, _receive) = connection.open_bi().await.ok()?.await.ok()?;
                let _ = send.write_all(&noise(random, 2000)).await;
            } else {
                let mut send = connection.open_uni().await.ok()?.await.ok()?;
                let _ = send.write_all(&noise(random, 2000)).await;
            }
        }
        Some(())
    }

    /// QUIC as it should be, and on it anything but HTTP/3.
    async fn instead_of_http3(&self, random: &mut Random) -> Option<()> {
        let connection = self.quic.connect(self.address, "localhost").ok()?.await.ok()?;
        for _ in 0..random.below(8) {
            // A control stream with SETTINGS, those of QPACK, one of a session that there is not, or nothing known.
            let begins: [&[u8]; 7] =
                [&[0, 4, 0], &[0, 4, 5, 0xab, 0x60, 0x37, 0x42, 1], &[2], &[3], &[0x40, 0x54, 0], &[0x40, 0x41, 0], &[]];
            let mut bytes = begins[random.below(7) as usize].to_vec();
            bytes.extend(noise(random, 500));
            let bytes = if random.below(2) == 0 { mutated(random, bytes) } else { bytes };
            let mut send = match random.below(2) {
                0 => connection.open_uni().await.ok()?,
                _ => connection.open_bi().await.ok()?.0,
            };
            send.write_all(&bytes).await.ok()?;
            let _ = send.finish();
            let _ = connection.send_datagram(noise(random, 500).into());
        }
        connection.close(0_u8.into(), &noise(random, 50));
        Some(())
    }

    async fn on_udp(&self, random: &mut Random) -> std::io::Result<()> {
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await?;
        for _ in 0..random.below(50) {
            let mut packet = noise(random, 1500);
            if random.below(2) == 0 {
                // The long header of an Initial of QUIC version 1, and its least size.
                packet.resize(1200, 0);
                packet[..6].copy_from_slice(&[0xc0, 0, 0, 0, random.below(2) as u8, 8]);
            }
            socket.send_to(&packet, self.address).await?;
        }
        Ok(())
    }
}

fn subprotocol(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "switchboard.json",
        Codec::MsgPack => "switchboard.msgpack",
    }
}

/// How many make noise at the same time.
const NOISY: u64 = 8;
/// One piece of noise takes no longer.
const NOISE_TIMEOUT: Duration = Duration::from_secs(2);
/// What the server may take more at the end than at the start: what an allocator keeps of the most that was ever in use.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;

fn duration_of_noise() -> Duration {
    let seconds = std::env::var("SECONDS_OF_NOISE").map_or(60, |seconds| seconds.parse().expect("SECONDS_OF_NOISE is a number"));
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_at_every_door_is_not_noticed_by_anybody() {
    let seed = seed();
    // Few enough places that none may be lost, and little patience, so that there is much noise.
    let mut server = ServerProcess::with(&[
        ("SWITCHBOARD_LIMITS_CLIENTS_MAX", "200"),
        // Noise is not to be cut short, and the bystanders talk as fast as they can.
        ("SWITCHBOARD_RATES", "off"),
        // Noise breaks off, and its sessions would wait for it.
        ("SWITCHBOARD_LIMITS_DETACHED_BYTES_MAX", "8388608"),
        ("SWITCHBOARD_TIMEOUTS_HELLO_MS", "1000"),
        ("SWITCHBOARD_TIMEOUTS_STREAM_MS", "1000"),
        ("SWITCHBOARD_TIMEOUTS_CLOSE_MS", "200"),
        ("SWITCHBOARD_WORKERS", "2"),
        ("RUST_BACKTRACE", "1"),
    ]);
    let connector = doors(server.url()).await;
    let bystanders = Bystanders::start(&connector, "bystanders").await;
    let start = server.resident_bytes();
    let until = Instant::now() + duration_of_noise();
    let mut noisy = JoinSet::new();
    for n in 0..NOISY {
        let target = Target::new(&server).await;
        let mut random = Random::new(seed.wrapping_add(n));
        noisy.spawn(async move {
            let mut pieces = 0_u64;
            while Instant::now() < until {
                // Where the server waits for more, this side does not.
                let _ = timeout(NOISE_TIMEOUT, target.noise(&mut random)).await;
                pieces += 1;
            }
            pieces
        });
    }
    let mut most = start;
    let mut pieces = 0;
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    while !noisy.is_empty() {
        tokio::select! {
            _ = beat.tick() => {
                assert!(server.is_running(), "the server ended");
                most = most.max(server.resident_bytes());
            }
            Some(made) = noisy.join_next() => pieces += made.unwrap(),
        }
    }
    println!("{pieces} pieces of noise");
    bystanders.noticed_nothing().await;
    for door in Door::ALL {
        connect_to(&connector, door, "afterwards").await;
    }
    println!("memory: {} KiB at the start, {} KiB more at most", start / 1024, (most - start) / 1024);
    assert!(most - start < GROWTH_BYTES_MAX, "{} KiB more", (most - start) / 1024);
    assert!(server.is_running(), "the server ended");
    let log = server.log();
    let panic: Vec<&str> = log.lines().skip_while(|line| !line.contains("panicked")).take(60).collect();
    assert!(panic.is_empty(), "the server's log:\n{}", panic.join("\n"));
}

/// Rooms that one client enters and leaves before it waits for an answer.
const ROOMS_AT_ONCE: u64 = 32;
/// What the server may take more after the last room than before the first.
const ROOMS_GROWTH_BYTES_MAX: u64 = 12 * 1024 * 1024;

fn distinct_rooms() -> u64 {
    std::env::var("DISTINCT_ROOMS").map_or(60_000, |rooms| rooms.parse().expect("DISTINCT_ROOMS is a number"))
}

/// Names as like each other as can be: to a hash of their beginning, their end or the sum of their bytes they are all the same.
fn name_like_the_others(n: u64) -> String {
    format!("{:a>30}{n:08}{:a>30}{:08}{:a>30}", "", "", 99_999_999 - n, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_rooms_that_are_left_again_leaves_nothing_behind() {
    let mut server = ServerProcess::with(&[("SWITCHBOARD_RATES", "off")]);
    let connector = doors(server.url()).await;
    let bystanders = Bystanders::start(&connector, "bystanders").await;
    let start = server.resident_bytes();
    let mut visitors = JoinSet::new();
    for (n, door) in Door::ALL.into_iter().enumerate() {
        let mut client = connect_to(&connector, door, "lobby").await;
        visitors.spawn(async move {
            for first in (n as u64 * ROOMS_AT_ONCE..distinct_rooms()).step_by(Door::ALL.len() * ROOMS_AT_ONCE as usize) {
                for n in first..first + ROOMS_AT_ONCE {
                    let room = name_like_the_others(n);
                    let leave = ClientMessage::Leave { room: Some(room.clone().into()) };
                    client.send(&unanswered(ClientMessage::Join { room: room.into(), metadata: None })).await.unwrap();
                    client.send(&Request { id: Some(n), message: leave }).await.unwrap();
                }
                for n in first..first + ROOMS_AT_ONCE {
                    hear("the way out", &mut client, |message| matches!(message, ServerMessage::Ack { id } if id == n).then_some(())).await;
                }
            }
        });
    }
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
    bystanders.noticed_nothing().await;
    let more = server.resident_bytes().saturating_sub(start);
    println!("memory: {} KiB at the start, {} KiB more after {} rooms", start / 1024, more / 1024, distinct_rooms());
    assert!(more < ROOMS_GROWTH_BYTES_MAX, "{} KiB more", more / 1024);
    assert!(server.is_running(), "the server ended");
}
