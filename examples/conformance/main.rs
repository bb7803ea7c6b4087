//! An echo for conformance suites: what a client sends comes back, by way of the code that serves clients.
//!
//! Autobahn's `wstest -m fuzzingclient` judges RFC 6455 against it; `tests/conformance.rs` does by the same list of cases.

mod echo;

use std::{io, net::TcpListener};

use clap::Parser;

/// An echo on the production WebSocket ingress: text comes back as text, binary as binary, up to 16 MiB a message.
#[derive(Parser)]
struct Arguments {
    /// Where to listen, as HOST:PORT; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9001")]
    listen: String,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Arguments::parse().listen)?;
    let address = listener.local_addr()?;
    actix_rt::System::new().block_on(async {
        let server = echo::server(listener)?.shutdown_timeout(1).run();
        println!("listening on {address}");
        server.await
    })
}
