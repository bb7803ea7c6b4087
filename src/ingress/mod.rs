//! Bytes in, bytes out: the doors, and the steps that all of them share.
//!
//! A door admits a client, waits for its first frame, opens a session, hands it frames one read at a time, and writes what the session's outbox
//! holds. Doors know sockets and framing; what a frame means they do not know.

pub mod http;
pub mod listener;
pub mod self_signed;
pub mod tls;
pub mod websocket;
pub mod webtransport;

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::Addr;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    config::{Limits, Timeouts},
    dialect::Dialect,
    protocol::{ClientLimits, CloseCode, LeaveReason, Payload, PeerId, ResumeToken, ServerMessage, Welcome, framing::Frame},
    registry::{RoomRegistry, inlet::Backlog},
    session::{Ended, Heard, Session, SessionLimits, outbox::Outbox},
};

/// What every door needs to let clients in.
pub struct Doorkeeper {
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub registry: Addr<RoomRegistry>,
    pub clients: Arc<Clients>,
}

impl Doorkeeper {
    /// The outbox of a new connection.
    pub fn outbox(&self) -> Arc<Outbox> {
        Outbox::new(Backlog::new(self.limits.outbox_bytes_max))
    }

    /// Opens the session of a client that has sent its first frame, on the thread that runs the connection.
    pub fn open(&self, dialect: Box<dyn Dialect>, outbox: Arc<Outbox>) -> Line {
        let limits = &self.limits;
        let welcome = Welcome {
            peer_id: PeerId::random(),
            resume_token: ResumeToken::random(),
            resumed: false,
            received: 0,
            ice_servers: Payload::from_serialize(&[(); 0]).expect("an empty list can be spelled"),
            heartbeat_ms: self.timeouts.heartbeat_ms,
            resume_window_ms: 0,
            limits: ClientLimits {
                message_bytes: limits.message_bytes_max,
                rooms_per_client: limits.rooms_per_client_max,
                peers_per_room: limits.peers_per_room_max,
                metadata_bytes: limits.metadata_bytes_max,
                room_name_bytes: limits.room_name_bytes_max,
                nesting: limits.nesting_max,
            },
        };
        let session_limits = SessionLimits {
            rooms_max: limits.rooms_per_client_max,
            room_name_bytes_max: limits.room_name_bytes_max,
            metadata_bytes_max: limits.metadata_bytes_max,
            nesting_max: limits.nesting_max,
        };
        Line { session: Session::open(welcome, session_limits, dialect, outbox, self.registry.clone()) }
    }

    /// Waits for a client's first frames, as long as it may take and the server takes clients.
    pub async fn first<T>(&self, frames: impl Future<Output = T>) -> Result<T, CloseCode> {
        tokio::select! {
            frames = timeout(self.timeouts.hello(), frames) => frames.map_err(|_| CloseCode::HelloTimeout),
            () = self.clients.drained() => Err(CloseCode::Draining),
        }
    }
}

/// Ends a connection that has no session.
pub fn turn_away(outbox: &Outbox, dialect: &dyn Dialect, code: CloseCode) {
    outbox.close(code, dialect.spell(&ServerMessage::Goodbye(code)));
}

/// A connection's line to its session. However the connection ends, the session learns of it.
pub struct Line {
    session: Addr<Session>,
}

impl Line {
    /// Hands over frames and waits until they are dealt with: a flood slows its own socket.
    pub async fn hear(&self, frames: VecDeque<Frame>) {
        let (done, dealt_with) = oneshot::channel();
        self.session.do_send(Heard { frames, done });
        // A session that has closed drops the sender, which is as good.
        let _ = dealt_with.await;
    }

    /// Tells that the client broke a bound.
    pub fn fault(&self, code: CloseCode) {
        self.session.do_send(Ended::Fault(code));
    }

    /// Tells why the connection ended.
    pub fn ended(&self, reason: LeaveReason) {
        self.session.do_send(Ended::Connection(reason));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended(LeaveReason::Disconnected);
    }
}

/// How many clients there are, and whether more may come.
pub struct Clients {
    now: AtomicUsize,
    max: usize,
    draining: watch::Sender<bool>,
    /// Wakes whoever waits for the last one to go.
    gone: tokio::sync::Notify,
}

/// A client's place. Given back when dropped.
pub struct Place {
    clients: Arc<Clients>,
    /// Why the client has to go again at once, if it has to.
    pub refusal: Option<CloseCode>,
}

/// So many clients beyond the bound are told why they have to go; more are turned away without a word.
const REFUSED_MAX: usize = 64;

impl Clients {
    /// At most `max` clients.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { now: AtomicUsize::new(0), max, draining: watch::Sender::new(false), gone: tokio::sync::Notify::new() })
    }

    /// Gives a place, perhaps only to hear the reason why there is none. `None` when even that is too much.
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let refusal = if self.is_draining() { Some(CloseCode::Draining) } else { (before >= self.max).then_some(CloseCode::ServerFull) };
        let place = Place { clients: self.clone(), refusal };
        (before < self.max + REFUSED_MAX).then_some(place)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Takes no more.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Are no more taken?
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until no more are taken.
    pub async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        draining.wait_for(|draining| *draining).await.expect("the sender is in self");
    }

    /// Waits until the last one has gone.
    pub async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.count() == 0 {
                return;
            }
            gone.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.clients.now.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.clients.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_admitted_to_the_bound_then_told_then_dropped() {
        let clients = Clients::new(1);
        let first = clients.admit().unwrap();
        assert_eq!(first.refusal, None);
        let refused: Vec<_> = (0..REFUSED_MAX).map(|_| clients.admit().unwrap()).collect();
        assert!(refused.iter().all(|place| place.refusal == Some(CloseCode::ServerFull)));
        assert!(clients.admit().is_none());
        drop((first, refused));
        assert_eq!(clients.count(), 0);
        clients.drain();
        assert_eq!(clients.admit().unwrap().refusal, Some(CloseCode::Draining));
    }
}
