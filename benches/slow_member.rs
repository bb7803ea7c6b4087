//! One of a hundred members of a room stops reading: what the others notice, and what it costs the server.
//!
//! `cargo bench --bench slow_member` broadcasts at a fixed rate, in turns with everybody reading and with one who does not, and prints the latency of the
//! others, counted from when a message was due, and the server's memory.

#[path = "../tests/support/process.rs"]
#[allow(dead_code)]
mod process;

use std::{sync::Arc, time::Duration};

use process::ServerProcess;
use switchboard::{
    client::{Client, Connector, Door, Options},
    protocol::{ClientMessage, Payload, Request, ServerMessage},
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
/// Enough for one who does not read to be past the bound of 1 MiB, closed, and waited for.
const MESSAGES: u32 = 2_000;
const TURNS: usize = 3;

#[tokio::main]
async fn main() {
    println!("{MEMBERS} members, one broadcasts {PAYLOAD_BYTES} bytes {PER_SECOND} times a second, {MESSAGES} times a turn\n");
    println!("{:<24}{:>10}{:>10}{:>10}{:>14}", "", "p50 µs", "p99 µs", "max µs", "memory MiB");
    let mut medians = [vec![], vec![]];
    for _ in 0..TURNS {
        for (stalled, name) in ["everybody reads", "one stops reading"].into_iter().enumerate() {
            let (latencies, bytes) = turn(stalled == 1).await;
            let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_micros();
            println!("{name:<24}{:>10}{:>10}{:>10}{:>14.1}", at(0.5), at(0.99), at(1.0), bytes as f64 / f64::from(1 << 20));
            medians[stalled].push((at(0.5), at(0.99)));
        }
    }
    let [reading, stalled] = medians.map(|mut turns: Vec<(u128, u128)>| {
        turns.sort_unstable();
        turns[TURNS / 2]
    });
    let ratio = |a: u128, b: u128| a as f64 / b as f64;
    println!("\nratio of the medians: p50 {:.2}, p99 {:.2}", ratio(stalled.0, reading.0), ratio(stalled.1, reading.1));
}

/// The latencies of all who read, sorted, and the most memory that the server had.
async fn turn(stalled: bool) -> (Vec<Duration>, u64) {
    let server = ServerProcess::with(&[("SWITCHBOARD_RATES", "off")]);
    let connector = Arc::new(Connector::new(server.url(), Options::default()).await.expect("the doors"));
    let mut sender = member(&connector, Door::ALL[0]).await;
    // Dropped only at the end: its sockets stay open, and nobody reads them.
    let _silent = if stalled { Some(member(&connector, Door::ALL[0]).await) } else { None };
    let mut readers = Vec::new();
    for n in usize::from(stalled) + 1..MEMBERS {
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
    let filler = "x".repeat(PAYLOAD_BYTES);
    let mut bytes = 0;
    for number in 0..MESSAGES {
        tokio::time::sleep_until(due(number)).await;
        let payload = Payload::from_serialize(&(number, &filler)).expect("a payload");
        let broadcast = ClientMessage::Broadcast { room: None, payload };
        timeout(DEADLINE, sender.send(&Request { id: None, message: broadcast })).await.expect("in time").expect("a connection");
        if number % PER_SECOND == 0 {
            bytes = server.resident_bytes().max(bytes);
        }
    }
    let mut latencies: Vec<Duration> = reading.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    (latencies, bytes)
}

async fn member(connector: &Connector, door: Door) -> Client {
    let mut client = timeout(DEADLINE, connector.connect(door)).await.expect("in time").expect("a connection");
    timeout(DEADLINE, client.join("bench", None)).await.expect("in time").expect("a room");
    client
}
