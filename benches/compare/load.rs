//! What is put on every server, and which figures come of it.

use std::time::Duration;

use clap::ValueEnum;
use switchboard::load::{Outcome, Pace, Plan, Process, Scenario, Signal};

use crate::servers::Server;

/// One run on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Load {
    Offers,
    Candidates,
    OneInFlight,
    EightInFlight,
    Broadcast,
    Churn,
    /// One comes and goes in a large room. A relay, which tells nobody, is given rather more to tell.
    Presence,
    Idle,
    /// As `Offers`, with a hundred times as many connections.
    Growth,
}

/// A column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The key of it in JSON.
    pub key: &'static str,
    /// What it is called where its unit does not matter.
    pub short: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    pub load: Load,
    of: fn(Load, &Outcome) -> Option<f64>,
}

const OFFER_BYTES: usize = 2048;
const CANDIDATE_BYTES: usize = 200;
const RATE: u32 = 4_000;
const PAIRS: usize = 50;
const LARGE_ROOM: usize = 1_000;
/// What a relay is given to tell: the shortest payload that there is. A notice has 90 bytes, and 23 for its part of the list that whoever joins is sent.
const RELAYED_NOTICE_BYTES: usize = 160;
const IDLE_CLIENTS: usize = 2_000;

/// What the table shows, in order.
pub const FIGURES: &[Figure] = &[
    Figure { key: "offer", short: "offer", title: "offer of 2 KB at 4,000/s, µs", load: Load::Offers, of: cpu },
    Figure { key: "offerP50", short: "offer, p50", title: "its p50 latency, µs", load: Load::Offers, of: p50 },
    Figure { key: "candidate", short: "candidate", title: "candidate of 200 B at 4,000/s, µs", load: Load::Candidates, of: cpu },
    Figure { key: "oneInFlight", short: "1 in flight", title: "100 pairs × 1 in flight, 200 B, µs", load: Load::OneInFlight, of: cpu },
    Figure { key: "eightInFlight", short: "8 in flight", title: "50 pairs × 8 in flight, 200 B, µs", load: Load::EightInFlight, of: cpu },
    Figure { key: "broadcast", short: "broadcast", title: "broadcast of 200 B to 49, µs per delivery", load: Load::Broadcast, of: cpu },
    Figure { key: "churn", short: "join and leave", title: "join and leave, µs", load: Load::Churn, of: cpu },
    Figure { key: "presence", short: "room of 1,000", title: "notice of presence in a room of 1,000, µs", load: Load::Presence, of: cpu },
    Figure { key: "idle", short: "idle memory", title: "KiB per idle connection", load: Load::Idle, of: memory },
];

/// Beside those: what only Switchboard is asked.
pub const GROWTH: Figure =
    Figure { key: "growth", short: "10,000 connections", title: "offer at 10,000 connections, µs", load: Load::Growth, of: cpu };

impl Load {
    /// How many messages a second are to arrive, if that is not left to the server.
    pub fn rate(self) -> Option<u32> {
        matches!(self, Self::Offers | Self::Candidates | Self::Growth).then_some(RATE)
    }

    /// The run, on this server in this process.
    pub fn plan(self, length: Duration, server: Server, process: Process) -> Plan {
        let forward = |signal, pairs, bytes| Scenario::Forward { signal, pairs, bytes };
        let (scenario, pace) = match self {
            Self::Offers => (forward(Signal::Offer, PAIRS, OFFER_BYTES), Pace::Rate(RATE)),
            Self::Candidates => (forward(Signal::Candidate, PAIRS, CANDIDATE_BYTES), Pace::Rate(RATE)),
            Self::OneInFlight => (forward(Signal::Candidate, 2 * PAIRS, CANDIDATE_BYTES), Pace::InFlight(1)),
            Self::EightInFlight => (forward(Signal::Candidate, PAIRS, CANDIDATE_BYTES), Pace::InFlight(8)),
            Self::Broadcast => (Scenario::Broadcast { rooms: 1, members: 50, bytes: CANDIDATE_BYTES }, Pace::InFlight(1)),
            Self::Churn => (Scenario::Churn { rooms: PAIRS, members: 2 }, Pace::InFlight(1)),
            Self::Presence if server.is_relay() => {
                (Scenario::Broadcast { rooms: 1, members: LARGE_ROOM, bytes: RELAYED_NOTICE_BYTES }, Pace::InFlight(1))
            }
            Self::Presence => (Scenario::Churn { rooms: 1, members: LARGE_ROOM }, Pace::InFlight(1)),
            Self::Idle => (Scenario::Idle { clients: IDLE_CLIENTS }, Pace::InFlight(16)),
            Self::Growth => (forward(Signal::Offer, 100 * PAIRS, OFFER_BYTES), Pace::Rate(RATE)),
        };
        // Compilers at run time need some messages to get warm; who only sits there needs none.
        let warm_up = if self == Self::Idle { Duration::ZERO } else { length.min(Duration::from_secs(1)) };
        Plan { scenario, pace, warm_up, length, process: Some(process) }
    }
}

impl Figure {
    /// The figure, if the kernel and the server let it be told.
    pub fn of(&self, outcome: &Outcome) -> Option<f64> {
        (self.of)(self.load, outcome)
    }
}

/// Microseconds of the server's processor time per message or notice, or per join and leave.
fn cpu(load: Load, outcome: &Outcome) -> Option<f64> {
    let delivered = outcome.recording.delivered;
    let micros = outcome.usage?.cpu.as_secs_f64() * 1e6;
    // One notice of each coming and of each going.
    let each = if load == Load::Churn { 2.0 } else { 1.0 };
    (delivered > 0).then(|| each * micros / delivered as f64)
}

fn p50(_: Load, outcome: &Outcome) -> Option<f64> {
    let latency = &outcome.recording.latency;
    (!latency.is_empty()).then(|| latency.value_at_quantile(0.5) as f64)
}

fn memory(_: Load, outcome: &Outcome) -> Option<f64> {
    outcome.bytes_per_connection.map(|bytes| bytes / 1024.0)
}
