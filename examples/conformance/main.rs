//! An echo for conformance suites: what a client sends comes back, by way of the code that serves clients.
//!
//! Autobahn's `wstest -m fuzzingclient` judges RFC 6455 against it; `tests/conformance.rs` does by the same list of cases.

mod echo;

use std::io;

use clap::Parser;
use switchboard::{config::Listen, ingress::listener};

/// An echo on the production WebSocket ingress: text comes back as text, binary as binary, up to 16 MiB a message.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9001")]
    listen: Listen,
}

fn main() -> io::Result<()> {
    let listeners = listener::bind(Arguments::parse().listen).map_err(io::Error::other)?;
    actix_rt::System::new().block_on(async {
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let server = echo::server(listeners)?.shutdown_timeout(1).run();
        for address in addresses {
            println!("listening on {address}");
        }
        server.await
    })
}
