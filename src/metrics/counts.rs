//! Every count, named once. The comment of each is what its operator reads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    histogram::Histogram,
    labels::{
        Closed, Connected, Departure, Door, HandshakeFailure, Labels, Pairs, ResumeOutcome, Said, TokenFailure, Told, TurnDirection,
        TurnRefusal, TurnTransport, Way,
    },
};
use crate::protocol::ErrorCode;

/// What is counted under one name.
pub struct Family {
    pub name: &'static str,
    /// Its comment, a piece for each line.
    help: &'static [&'static str],
    pub kind: FamilyKind,
    /// Its part of the counts.
    pub cells: fn(&Counts) -> &[AtomicU64],
    /// Where each of its series is, and the labels of that.
    pub series: fn() -> Vec<(usize, Pairs)>,
}

/// What can become of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// It grows.
    Counter,
    /// It grows and shrinks.
    Gauge,
}

impl Family {
    /// For the operator, in a line.
    pub fn help(&self) -> String {
        self.help.concat().trim().to_owned()
    }
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $kind:ident $field:ident: $labels:ty = $name:literal;)*) => {
        /// What one thread has counted. A gauge that one thread adds to and another takes from is the sum of what both have, which may be less than
        /// nothing for each of them.
        pub struct Counts {
            $($(#[doc = $help])+ pub $field: [AtomicU64; <$labels as Labels>::COUNT],)*
            /// How long messages took.
            pub delivery: Histogram,
            /// How many messages were passed on, to pick some to time.
            pub passed_on: AtomicU64,
        }

        impl Default for Counts {
            fn default() -> Self {
                Self {
                    $($field: [const { AtomicU64::new(0) }; _],)*
                    delivery: Histogram::default(),
                    passed_on: AtomicU64::new(0),
                }
            }
        }

        /// All of them, in the order in which they are told.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            help: &[$($help),+],
            kind: FamilyKind::$kind,
            cells: |counts| &counts.$field,
            series: || <$labels>::all().into_iter().map(|labels| (labels.index(), labels.pairs())).collect(),
        },)*];
    };
}

families! {
    /// Connections of clients that are open.
    Gauge connections: Way = "switchboard_connections";
    /// Connections of clients that were opened, those included whose client was only told why it cannot stay. Who moves from polling to a WebSocket
    /// opens one of each.
    Counter connections_opened: Way = "switchboard_connections_opened_total";
    /// Handshakes that made nobody a client, by cause.
    Counter handshake_failures: HandshakeFailure = "switchboard_handshake_failures_total";
    /// Connections that the server closed, by the code that the client was told.
    Counter closes: Closed = "switchboard_closes_total";
    /// Sessions: those with a connection, and those that wait for their client to come back.
    Gauge sessions: Connected = "switchboard_sessions";
    /// Sessions that began.
    Counter sessions_started: () = "switchboard_sessions_started_total";
    /// Sessions that ended, by reason: the client left or its connection is gone for good (disconnected), it was silent for too long or did not come
    /// back in time (timeout), the server closed it for what it did (removed) or because it shuts down (draining).
    Counter sessions_ended: Departure = "switchboard_sessions_ended_total";
    /// Clients that wanted an earlier session back, by what became of it. Together: all that tried.
    Counter resumes: ResumeOutcome = "switchboard_resumes_total";
    /// Clients that are in a room and connected, by how.
    Gauge peers: Way = "switchboard_peers";
    /// Clients that are in a room and have no connection, but may come back.
    Gauge peers_waiting: () = "switchboard_peers_waiting";
    /// Rooms that somebody is in.
    Gauge rooms: () = "switchboard_rooms";
    /// Messages that sessions heard from their clients, by type, whether they were refused or not. A message of a foreign client counts as what it
    /// amounts to, which may be several.
    Counter received: Said = "switchboard_messages_received_total";
    /// Messages that were taken for clients, by type: queued for a connection, or kept for the next. One to a whole room counts once for each.
    Counter delivered: Told = "switchboard_messages_delivered_total";
    /// Best-effort messages that were lost, for their client had too much to read already.
    Counter lost: () = "switchboard_messages_lost_total";
    /// Bytes of the messages that sessions heard, without what the door adds to them (frames, TLS, HTTP).
    Counter bytes_received: Door = "switchboard_message_bytes_received_total";
    /// Bytes of the messages that were handed to connections, those that are sent again included, without what the door adds to them.
    Counter bytes_sent: Door = "switchboard_message_bytes_sent_total";
    /// Messages that were refused, by code.
    Counter refusals: ErrorCode = "switchboard_refusals_total";
    /// Tokens that let nobody in, by reason.
    Counter token_failures: TokenFailure = "switchboard_token_failures_total";
    /// Bytes that wait to be written to clients, or for them to come back; 128 are added for each message. Each client has
    /// limits.outbox_bytes_max.
    Gauge outbox_bytes: () = "switchboard_outbox_bytes";
    /// Bytes that are kept until clients say that they have received them; 128 are added for each message. Each client has
    /// limits.replay_bytes_max.
    Gauge replay_bytes: () = "switchboard_replay_bytes";
    /// Commands that wait for the registry, which deals with one after another whatever changes who is where.
    Gauge registry_mailbox: () = "switchboard_registry_mailbox";
    /// Allocations of the embedded TURN server, by how their clients reach it.
    Gauge turn_allocations: TurnTransport = "switchboard_turn_allocations";
    /// Allocations that the embedded TURN server made, by how their clients reach it.
    Counter turn_allocated: TurnTransport = "switchboard_turn_allocations_total";
    /// Packets that the embedded TURN server relayed, by direction.
    Counter turn_packets: TurnDirection = "switchboard_turn_relayed_packets_total";
    /// Bytes of these packets, without what TURN, UDP and IP add to them.
    Counter turn_bytes: TurnDirection = "switchboard_turn_relayed_bytes_total";
    /// Requests and packets that the embedded TURN server refused or dropped, by cause.
    Counter turn_refusals: TurnRefusal = "switchboard_turn_refusals_total";
}

/// The counts of the thread that writes them, or of all that have none of their own.
pub struct Writer<'a> {
    pub counts: &'a Counts,
    /// Does no other thread write them?
    pub is_alone: bool,
}

impl Writer<'_> {
    /// Adds to one. What is less than nothing is taken from it.
    pub fn add(&self, cell: &AtomicU64, more: i64) {
        let more = more as u64;
        if self.is_alone {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        } else {
            cell.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Adds one.
    pub fn count(&self, cell: &AtomicU64) {
        self.add(cell, 1);
    }
}
