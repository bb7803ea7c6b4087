//! What the kernel and the framing alone cost: relays that know no message, as lean as they can be. Each runs in a process of its own, which is
//! this bench's program again, and prints where it listens as its first line.
//!
//! Who connects to a path is in the room of that name, and what it says goes to all others there, as it is. Nothing is bounded, nobody is
//! checked, no payload is looked at: these are no servers, but the floor under one.

mod rooms;
mod websocket;
mod webtransport;

use std::io::{self, Write as _, stdin};

/// A kind of bare relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Relay {
    WebSocket,
    WebTransport,
}

/// Serves until standard input ends: a relay does not outlive the bench.
pub fn run(relay: Relay) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = io::copy(&mut stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let announce = |words: String| {
        // Nobody has to read it.
        let _ = writeln!(io::stdout(), "{words}");
    };
    tokio::task::LocalSet::new().block_on(&runtime, serve(relay, announce))
}

/// Serves for ever. `announce` is told where it listens, and on QUIC the hash of the certificate.
pub async fn serve(relay: Relay, announce: impl FnOnce(String)) -> anyhow::Result<()> {
    match relay {
        Relay::WebSocket => websocket::serve(announce).await,
        Relay::WebTransport => webtransport::serve(announce).await,
    }
}
