//! What is to be measured.

use std::{fmt, time::Duration};

use super::{Signal, process::Process};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who does what.
    pub scenario: Scenario,
    /// How fast.
    pub pace: Pace,
    /// What happens in this time at the beginning does not count.
    pub warm_up: Duration,
    /// How long it counts.
    pub length: Duration,
    /// The server's process, where it runs on this machine.
    pub process: Option<Process>,
}

/// Who does what. Payloads take `bytes` bytes as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Pairs, each in a room of its own, and messages from one to the other, both ways.
    Forward { signal: Signal, pairs: usize, bytes: usize },
    /// Rooms of so many; one in each speaks to all the others, and each delivery counts.
    Broadcast { rooms: usize, members: usize, bytes: usize },
    /// Rooms of so many, one of whom comes and goes; each notice of it that another gets counts.
    Churn { rooms: usize, members: usize },
    /// Clients in rooms of two who say nothing. Nothing is counted but memory and CPU time.
    Idle { clients: usize },
    /// So many clients come in, and stay; each counts when it is in its room of two.
    Connect { clients: usize },
}

/// How fast it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many messages a second, over all senders: an open loop. Latency counts from when a message was due, so a server that stands still is
    /// not let off what could not be sent meanwhile.
    Rate(u32),
    /// As fast as it goes, with so many on their way in each pair or room, or so many clients connecting: a closed loop.
    InFlight(u32),
}

impl Scenario {
    /// How many connections it takes.
    pub fn connections(&self) -> usize {
        match *self {
            Self::Forward { pairs, .. } => 2 * pairs,
            Self::Broadcast { rooms, members, .. } | Self::Churn { rooms, members } => rooms * members,
            Self::Idle { clients } | Self::Connect { clients } => clients,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Forward { signal: Signal::Offer, pairs, bytes } => write!(f, "offers of {bytes} bytes, {}", count(pairs, "pair")),
            Self::Forward { signal: Signal::Candidate, pairs, bytes } => write!(f, "candidates of {bytes} bytes, {}", count(pairs, "pair")),
            Self::Broadcast { rooms, members, bytes } => write!(f, "broadcast of {bytes} bytes, {} of {members}", count(rooms, "room")),
            Self::Churn { rooms, members } => write!(f, "churn, one comes and goes in each of {} of {members}", count(rooms, "room")),
            Self::Idle { clients } => write!(f, "{clients} idle clients"),
            Self::Connect { clients } => write!(f, "{clients} clients connect"),
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
