//! An echo for conformance suites: what a client sends comes back, by way of the code that serves clients.
//!
//! Autobahn's `wstest -m fuzzingclient` judges RFC 6455 against it; `tests/conformance.rs` does by the same list of cases. Another port is for the
//! suites of Engine.IO 4 and Socket.IO 5, whose cases are in `tests/socketio.rs`.

mod echo;
mod engineio;

use std::io;

use self::engineio::Times;
use clap::Parser;
use switchboard::{config::Listen, ingress::listener};

/// An echo on the production WebSocket ingress: text comes back as text, binary as binary, up to 16 MiB a message.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9001")]
    listen: Listen,

    /// Where to listen for Engine.IO (`/engine.io/`) and Socket.IO (`/socket.io/`)
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:3000")]
    engine_io: Listen,
}

/// What the suites of Engine.IO and Socket.IO expect to be told.
const TIMES: Times = Times { ping_interval_ms: 300, ping_timeout_ms: 200, connect_timeout_ms: 1_000 };

fn main() -> io::Result<()> {
    let Arguments { listen, engine_io } = Arguments::parse();
    let [listeners, engine_io] = [listen, engine_io].map(|listen| listener::bind(listen).map_err(io::Error::other));
    let (listeners, engine_io) = (listeners?, engine_io?);
    actix_rt::System::new().block_on(async {
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let engine_io_addresses: Vec<_> = engine_io.iter().map(|listener| listener.address).collect();
        let server = echo::server(listeners)?.shutdown_timeout(1).run();
        // The suites send by one connection and then by another, and expect that to be heard in this order.
        let engine_io = engineio::server(engine_io, TIMES)?.workers(1).shutdown_timeout(1).disable_signals().run();
        for address in addresses {
            println!("listening on {address}");
        }
        for address in engine_io_addresses {
            println!("Engine.IO on {address}");
        }
        actix_rt::spawn(engine_io);
        server.await
    })
}
