//! `switchboard echo`: a peer without a browser, which sends back what comes. What it does is in `switchboard::webrtc`; here are its command line, and its
//! session with the server.

#[cfg(feature = "webrtc")]
mod serving;

use std::path::PathBuf;

use clap::{Args, builder::RangedU64ValueParser};

const AFTER_HELP: &str = "\
Every offer is answered; whatever comes through a data channel goes back through it, text as text and bytes as bytes, and pictures and
sound as they are. An empty message does not come back: SCTP, as it is here, leaves it out. Candidates are those of this machine's
addresses, and by the ICE servers that the server tells its clients of. Each peer takes one relay, of the first TURN server that gives
one; the embedded server gives one client turn.allocations_per_session_max of them.

A peer that leaves the room, or is not there within half a minute, is let go. So is one that sends and does not read: --queued-bytes
says how much is kept for it. A lost connection to the server is taken up again; ctrl-c ends it, and the peers are told.

It needs the feature webrtc: cargo run --release --features webrtc -- echo ROOM

Examples:
  switchboard echo lobby                                          a peer in the lobby of the server on this machine
  switchboard echo lobby --url https://example.org --token \"$TOKEN\"
  switchboard echo lobby --name parrot --peers 10 --log debug
";

/// The flags of `switchboard echo`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Room to be in
    pub room: String,

    /// Base URL of the server, as its clients have it
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    pub url: String,

    /// Token to come in with, where the server wants one
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,

    /// Origin to come with, as a page of it would; none by default, as of a program
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,

    /// Certificate authority to trust beside the system's, a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Name that others see, in its metadata
    #[arg(long, value_name = "NAME", default_value = "echo")]
    pub name: String,

    /// Peers at once; one more is not answered
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub peers: usize,

    /// Channels that a peer may have open, beside the two of Switchboard's own client; one more is closed
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub channels: usize,

    /// Bytes that wait for a peer which sends and does not read; more end its connection
    #[arg(long, value_name = "N", default_value_t = 8 * 1024 * 1024, value_parser = RangedU64ValueParser::<usize>::new().range(1024 * 1024..=1024 * 1024 * 1024))]
    pub queued_bytes: usize,

    /// What to log, to stderr: error, warn, info, debug, trace, off, or a list such as info,switchboard=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Is an echo until it is interrupted.
#[cfg(feature = "webrtc")]
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    serving::run(arguments)
}

/// Says how to get one.
#[cfg(not(feature = "webrtc"))]
pub fn run(Arguments { room, .. }: &Arguments) -> anyhow::Result<()> {
    Err(not_built(&format!("echo {room}")))
}

/// Why this program cannot do what these arguments ask for, and how to get one that can.
#[cfg(not(feature = "webrtc"))]
pub fn not_built(arguments: &str) -> anyhow::Error {
    anyhow::anyhow!("this program was built without the feature webrtc: cargo run --release --features webrtc -- {arguments}")
}
