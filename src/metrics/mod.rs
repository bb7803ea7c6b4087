//! What an operator wants to know in numbers: `counts` names every count once, and this file has a verb for whatever changes one.
//!
//! Counting is on the way of every message, so it asks for no lock and looks up no label: a thread counts into an array of its own, which no other
//! thread writes, at a place that the labels are the index of. Whoever wants to know adds the threads up. Nothing here is global: what a thread
//! remembers is whose array it has.

mod connection;
mod counts;
mod histogram;
mod labels;
mod text;

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use self::{
    connection::ConnectionMeter,
    labels::{
        Closed, Connected, Departure, DialectName, Door, HandshakeFailure, Labels, ResumeOutcome, Said, TokenFailure, Told, TurnDirection,
        TurnRefusal, TurnTransport, Way,
    },
};
use self::{
    counts::{Counts, FAMILIES, Writer},
    histogram::Totals,
};
use crate::protocol::{CloseCode, ErrorCode, LeaveReason};

/// The counts of one server.
pub struct Metrics {
    id: usize,
    threads: Mutex<Vec<Arc<Counts>>>,
    /// For threads that are about to end, or too many.
    shared: Counts,
    started: SystemTime,
}

/// So many threads have counts of their own; a server has far fewer.
const THREADS_MAX: usize = 128;

/// One in so many messages that are passed on is timed: a prime, so that no rhythm of clients is hit by the same one each time.
const TIMED_EVERY: u64 = 17;

/// What tells the counts of one server from those of another in the same process.
static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The counts that this thread writes, and whose they are.
    static OWN: RefCell<Option<(usize, Arc<Counts>)>> = const { RefCell::new(None) };
}

impl Default for Metrics {
    fn default() -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, threads: Mutex::default(), shared: Counts::default(), started: SystemTime::now() }
    }
}

impl Metrics {
    /// All of them, for Prometheus.
    pub fn render(&self) -> String {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = || threads.iter().map(|counts| &**counts).chain([&self.shared]);
        let sums = |cells: fn(&Counts) -> &[AtomicU64]| {
            let mut sums = vec![0_u64; cells(&self.shared).len()];
            for counts in all() {
                for (sum, cell) in sums.iter_mut().zip(cells(counts)) {
                    *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
                }
            }
            sums
        };
        let mut totals = Totals::default();
        all().for_each(|counts| counts.delivery.add_to(&mut totals));
        let families = FAMILIES.iter().map(|family| text::family(family, &sums(family.cells)));
        text::write(&text::about(self.started).into_iter().chain(families).chain([text::delivery(&totals)]).collect::<Vec<_>>())
    }

    /// Somebody came and is no client.
    pub fn handshake_failed(&self, cause: impl Into<HandshakeFailure>) {
        let cause = cause.into();
        self.write(|writer| writer.count(&writer.counts.handshake_failures[cause.index()]));
    }

    /// A token let nobody in.
    pub fn token_failed(&self, reason: TokenFailure) {
        self.write(|writer| writer.count(&writer.counts.token_failures[reason.index()]));
    }

    /// The server closes a connection.
    pub fn closed(&self, why: Closed) {
        self.write(|writer| writer.count(&writer.counts.closes[why.index()]));
    }

    /// The server closes a connection that nobody is told more of than this code.
    pub fn closed_with(&self, code: CloseCode) {
        self.closed(Closed::Code(code));
    }

    /// A session begins, with a connection.
    pub fn session_started(&self) {
        self.write(|writer| {
            writer.count(&writer.counts.sessions_started[0]);
            writer.count(&writer.counts.sessions[Connected::Yes.index()]);
        });
    }

    /// A session that had a connection or not now has one or not.
    pub fn session_changed(&self, from: Connected, to: Connected) {
        self.write(|writer| {
            writer.add(&writer.counts.sessions[from.index()], -1);
            writer.add(&writer.counts.sessions[to.index()], 1);
        });
    }

    /// A session that had a connection or not is over.
    pub fn session_ended(&self, state: Connected, reason: Option<LeaveReason>) {
        self.write(|writer| {
            writer.add(&writer.counts.sessions[state.index()], -1);
            writer.count(&writer.counts.sessions_ended[Departure(reason).index()]);
        });
    }

    /// A client wanted its session back.
    pub fn resumed(&self, outcome: ResumeOutcome) {
        self.write(|writer| writer.count(&writer.counts.resumes[outcome.index()]));
    }

    /// There are so many more peers that have no connection.
    pub fn peers_waiting(&self, more: i64) {
        self.write(|writer| writer.add(&writer.counts.peers_waiting[0], more));
    }

    /// There are so many more rooms.
    pub fn rooms(&self, more: i64) {
        self.write(|writer| writer.add(&writer.counts.rooms[0], more));
    }

    /// A session heard a frame of so many bytes, which is one message, or something that is counted by itself.
    pub fn heard(&self, door: Door, bytes: usize, said: Option<Said>) {
        self.write(|writer| {
            writer.add(&writer.counts.bytes_received[door.index()], bytes as i64);
            if let Some(said) = said {
                writer.count(&writer.counts.received[said.index()]);
            }
        });
    }

    /// A session heard a message.
    pub fn received(&self, said: Said) {
        self.write(|writer| writer.count(&writer.counts.received[said.index()]));
    }

    /// A client is told something.
    pub fn delivered(&self, told: Told) {
        self.write(|writer| writer.count(&writer.counts.delivered[told.index()]));
    }

    /// A best-effort message was lost.
    pub fn lost(&self) {
        self.write(|writer| writer.count(&writer.counts.lost[0]));
    }

    /// So many bytes were handed to a connection.
    pub fn sent(&self, door: Door, bytes: usize) {
        self.write(|writer| writer.add(&writer.counts.bytes_sent[door.index()], bytes as i64));
    }

    /// A message was refused.
    pub fn refused(&self, code: ErrorCode) {
        self.write(|writer| writer.count(&writer.counts.refusals[code.index()]));
    }

    /// So many bytes more wait for clients.
    pub fn waiting(&self, more: i64) {
        self.write(|writer| writer.add(&writer.counts.outbox_bytes[0], more));
    }

    /// So many bytes more are kept for clients that may come back.
    pub fn kept(&self, more: i64) {
        self.write(|writer| writer.add(&writer.counts.replay_bytes[0], more));
    }

    /// So many commands more wait for the registry.
    pub fn registry_mailbox(&self, more: i64) {
        self.write(|writer| writer.add(&writer.counts.registry_mailbox[0], more));
    }

    /// There are so many more allocations.
    pub fn turn_allocations(&self, transport: TurnTransport, more: i64) {
        self.write(|writer| {
            writer.add(&writer.counts.turn_allocations[transport.index()], more);
            writer.add(&writer.counts.turn_allocated[transport.index()], more.max(0));
        });
    }

    /// A packet of so many bytes was relayed.
    pub fn turn_relayed(&self, direction: TurnDirection, bytes: usize) {
        self.write(|writer| {
            writer.count(&writer.counts.turn_packets[direction.index()]);
            writer.add(&writer.counts.turn_bytes[direction.index()], bytes as i64);
        });
    }

    /// The TURN server did not do what it was asked.
    pub fn turn_refused(&self, why: TurnRefusal) {
        self.write(|writer| writer.count(&writer.counts.turn_refusals[why.index()]));
    }

    /// Is this one of the messages to time? Asked once for each that is passed on.
    pub fn is_timed(&self) -> bool {
        self.write(|writer| {
            let before = writer.counts.passed_on.load(Ordering::Relaxed);
            writer.count(&writer.counts.passed_on);
            before.is_multiple_of(TIMED_EVERY)
        })
    }

    /// A message that is timed took so long.
    pub fn took(&self, took: Duration) {
        self.write(|writer| writer.counts.delivery.observe(writer, took));
    }

    fn connection_opened(&self, way: Way) {
        self.write(|writer| {
            writer.count(&writer.counts.connections[way.index()]);
            writer.count(&writer.counts.connections_opened[way.index()]);
        });
    }

    fn connection_closed(&self, way: Way) {
        self.write(|writer| writer.add(&writer.counts.connections[way.index()], -1));
    }

    fn peers(&self, way: Way, more: i64) {
        self.write(|writer| writer.add(&writer.counts.peers[way.index()], more));
    }

    /// Lets this thread write its counts.
    fn write<T>(&self, write: impl Fn(&Writer<'_>) -> T) -> T {
        let written = OWN.try_with(|own| match &*own.borrow() {
            Some((id, counts)) if *id == self.id => Some(write(&Writer { counts, is_alone: true })),
            _ => None,
        });
        match written {
            Ok(Some(written)) => written,
            Ok(None) => self.write_first(write),
            // The thread is about to end, and drops what it has left.
            Err(_) => write(&Writer { counts: &self.shared, is_alone: false }),
        }
    }

    /// The same for a thread that has no counts yet, or those of another server.
    #[cold]
    fn write_first<T>(&self, write: impl Fn(&Writer<'_>) -> T) -> T {
        let counts = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            (threads.len() < THREADS_MAX).then(|| {
                let counts = Arc::new(Counts::default());
                threads.push(counts.clone());
                counts
            })
        };
        let Some(counts) = counts else { return write(&Writer { counts: &self.shared, is_alone: false }) };
        let written = write(&Writer { counts: &counts, is_alone: true });
        OWN.with_borrow_mut(|own| *own = Some((self.id, counts)));
        written
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn line(metrics: &Metrics, series: &str) -> String {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).to_owned()
    }

    #[test]
    fn what_threads_count_adds_up_and_servers_do_not_mix() {
        let metrics = Arc::new(Metrics::default());
        let other = Metrics::default();
        thread::scope(|scope| {
            for _ in 0..2 * THREADS_MAX {
                scope.spawn(|| {
                    for _ in 0..10 {
                        metrics.received(Said::Offer);
                        metrics.waiting(7);
                    }
                    other.received(Said::Offer);
                });
            }
        });
        metrics.waiting(-(70 * 2 * THREADS_MAX as i64 - 1));
        assert_eq!(line(&metrics, r#"switchboard_messages_received_total{type="offer"}"#), (20 * THREADS_MAX).to_string());
        assert_eq!(line(&other, r#"switchboard_messages_received_total{type="offer"}"#), (2 * THREADS_MAX).to_string());
        assert_eq!(line(&metrics, "switchboard_outbox_bytes"), "1");
        metrics.waiting(-2);
        assert_eq!(line(&metrics, "switchboard_outbox_bytes"), "0", "there is nothing less than nothing");
    }

    #[test]
    fn a_connection_counts_where_it_is_and_takes_its_peer_along() {
        let metrics = Arc::new(Metrics::default());
        let at = |name: &str, door| line(&metrics, &format!(r#"switchboard_{name}{{door="{door}",dialect="socket.io"}}"#));
        let meter = ConnectionMeter::new(metrics.clone(), Door::Polling, DialectName::SocketIo);
        assert!(meter.set_peer(true) && !meter.set_peer(true));
        assert_eq!((at("connections", "polling"), at("peers", "polling")), ("1".into(), "1".into()));
        meter.change_door(Door::WebSocket);
        assert_eq!(meter.door(), Door::WebSocket);
        assert_eq!((at("connections", "polling"), at("peers", "polling")), ("0".into(), "0".into()));
        assert_eq!((at("connections", "websocket"), at("peers", "websocket")), ("1".into(), "1".into()));
        drop(meter);
        assert_eq!((at("connections", "websocket"), at("peers", "websocket")), ("0".into(), "0".into()));
        assert_eq!((at("connections_opened_total", "polling"), at("connections_opened_total", "websocket")), ("1".into(), "1".into()));
    }

    #[test]
    fn one_message_in_so_many_is_timed_and_lands_below_its_bound() {
        let metrics = Metrics::default();
        assert_eq!((0..10 * TIMED_EVERY).filter(|_| metrics.is_timed()).count(), 10);
        for micros in [25, 26, 11_000_000] {
            metrics.took(Duration::from_micros(micros));
        }
        let below = |bound: &str| line(&metrics, &format!(r#"switchboard_delivery_seconds_bucket{{le="{bound}"}}"#));
        assert_eq!([below("0.000025"), below("0.00005"), below("10"), below("+Inf")], ["1", "2", "2", "3"]);
        assert_eq!(line(&metrics, "switchboard_delivery_seconds_sum"), "11.000051");
        assert_eq!(line(&metrics, "switchboard_delivery_seconds_count"), "3");
    }

    #[test]
    fn every_series_has_a_place_of_its_own() {
        for family in FAMILIES {
            let mut places: Vec<usize> = (family.series)().into_iter().map(|(place, _)| place).collect();
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            let cells = (family.cells)(&Counts::default()).len();
            assert!(places.len() == count && places.iter().all(|place| *place < cells), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == counts::FamilyKind::Counter, "{}", family.name);
        }
    }
}
