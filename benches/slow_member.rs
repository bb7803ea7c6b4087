//! One of a hundred members of a room stops reading: what the others notice, and what it costs the server.
//!
//! `cargo bench --bench slow_member` broadcasts at a fixed rate, and sends more to one member than the kernel's buffers and its outbox take, in turns while
//! that member reads and while it does not. It prints the latency of the others, counted from when a message was due, and the server's memory.

#[path = "../tests/support/process.rs"]
#[allow(dead_code)]
mod process;

use std::{sync::Arc, time::Duration};

use process::ServerProcess;
use switchboard::{
    client::{Client, Connector, Door, Options},
    protocol::{ClientMessage, Kind, Payload, Request, ServerMessage},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// What `process` waits at the most.
const DEADLINE: Duration = Duration::from_secs(30);

const MEMBERS: usize = 100;
const PAYLOAD_BYTES: usize = 1024;
const PER_SECOND: u32 = 100;
const MESSAGES: u32 = 2_000;
/// With every second broadcast goes as much to the one member alone: in all 32 MiB, until it is closed.
const EXTRA_BYTES: usize = 32 * 1024;
const TURNS: usize = 3;

#[tokio::main]
async fn main() {
    println!("{MEMBERS} members, one broadcasts {PAYLOAD_BYTES} bytes {PER_SECOND} times a second, {MESSAGES} times a turn\n");
    println!("{:<24}{:>10}{:>10}{:>10}{:>14}", "", "p50 µs", "p99 µs", "max µs", "memory MiB");
    let mut columns: [[Vec<u128>; 2]; 2] = Default::default();
    for _ in 0..TURNS {
        for (stalled, name) in ["everybody reads", "one stops reading"].into_iter().enumerate() {
            let (latencies, bytes) = turn(stalled == 1).await;
            let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_micros();
            println!("{name:<24}{:>10}{:>10}{:>10}{:>14.1}", at(0.5), at(0.99), at(1.0), bytes as f64 / f64::from(1 << 20));
            columns[stalled][0].push(at(0.5));
            columns[stalled][1].push(at(0.99));
        }
    }
    let median = |mut turns: Vec<u128>| {
        turns.sort_unstable();
        turns[TURNS / 2] as f64
    };
    let [reading, stalled] = columns.map(|columns| columns.map(median));
    println!("\nratio of the medians: p50 {:.2}, p99 {:.2}", stalled[0] / reading[0], stalled[1] / reading[1]);
}

/// The latencies of all who read, sorted, and the most memory that the server had.
async fn turn(stalled: bool) -> (Vec<Duration>, u64) {
    let server = ServerProcess::with(&[("SWITCHBOARD_RATES", "off")]);
    let connector = Arc::new(Connector::new(server.url(), Options::default()).await.expect("the doors"));
    let mut sender = member(&connector, Door::ALL[0]).await;
    let mut one = member(&connector, Door::ALL[0]).await;
    let one_id = one.peer_id().expect("it was welcomed");
    let mut readers = Vec::new();
    for n in 2..MEMBERS {
        readers.push(member(&connector, Door::ALL[n % Door::ALL.len()]).await);
    }
    let begin = Instant::now() + Duration::from_secs(1);
    let due = move |number: u32| begin + Duration::from_secs(1) / PER_SECOND * number;
    let mut reading = JoinSet::new();
    for mut reader in readers {
        reading.spawn(async move {
            let mut latencies = Vec::with_capacity(MESSAGES as usize);
            while latencies.len() < MESSAGES as usize {
                let heard = timeout(DEADLINE, reader.receive()).await.expect("a message in time").expect("a connection");
                if let ServerMessage::Forwarded { payload, .. } = heard {
                    let (number, _): (u32, String) = payload.parse().expect("what was sent");
                    latencies.push(due(number).elapsed());
                }
            }
            latencies
        });
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let one = tokio::spawn(async move {
        if stalled {
            // Its socket stays open, and nobody reads it.
            drop(stopped.await);
        } else {
            let reading = async { while one.receive().await.is_ok() {} };
            tokio::select! { () = reading => panic!("it reads, and is closed"), _ = stopped => {} }
        }
    });
    let filler = "x".repeat(PAYLOAD_BYTES);
    let extra = Payload::from_serialize(&"x".repeat(EXTRA_BYTES)).expect("a payload");
    let (mut bytes, mut closed) = (0, false);
    for number in 0..MESSAGES {
        tokio::time::sleep_until(due(number)).await;
        let payload = Payload::from_serialize(&(number, &filler)).expect("a payload");
        let broadcast = ClientMessage::Broadcast { room: None, payload };
        timeout(DEADLINE, sender.send(&Request { id: None, message: broadcast })).await.expect("in time").expect("a connection");
        if number % 2 == 0 && !closed {
            let extra = ClientMessage::Forward { kind: Kind::Message, to: one_id, room: None, payload: extra.clone() };
            closed = timeout(DEADLINE, sender.request(extra)).await.expect("in time").is_err();
        }
        if number % PER_SECOND == 0 {
            bytes = server.resident_bytes().max(bytes);
        }
    }
    assert_eq!(closed, stalled, "who does not read is closed, and nobody else");
    drop(stop);
    one.await.expect("no panic");
    let mut latencies: Vec<Duration> = reading.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    (latencies, bytes)
}

async fn member(connector: &Connector, door: Door) -> Client {
    let mut client = timeout(DEADLINE, connector.connect(door)).await.expect("in time").expect("a connection");
    timeout(DEADLINE, client.join("bench", None)).await.expect("in time").expect("a room");
    client
}
